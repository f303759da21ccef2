//! How often and how much: buckets that fill again with time, of connections, principals and addresses.
//!
//! Invariant: buckets of a principal or an address outlive its connections, so coming again fills none. Who is not
//! named (where everyone is let in) has none of a principal. Absent: waiting (`pace`), what a refusal looks like.

use crate::{clock, config::Rates, metrics::Metrics};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};
use rejoin_core::time::{Millis, MonoMillis};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Buckets that are full again are forgotten whenever so many were looked at.
const FORGET_EVERY: usize = 4_096;
/// Most tokens that are remembered as good, and most addresses that are held; beyond, all of them are forgotten.
const REMEMBERED_MAX: usize = 10_000;
/// What may be used at once where a rate is one of seconds.
const SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Which limit was met, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    ConnectionMessages,
    ConnectionBytes,
    PrincipalMessages,
    PrincipalBytes,
    PrincipalRequests,
    AddressRequests,
    AddressConnections,
    AddressFailures,
}

impl Limit {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ConnectionMessages => "connection_messages",
            Self::ConnectionBytes => "connection_bytes",
            Self::PrincipalMessages => "principal_messages",
            Self::PrincipalBytes => "principal_bytes",
            Self::PrincipalRequests => "principal_requests",
            Self::AddressRequests => "address_requests",
            Self::AddressConnections => "address_connections",
            Self::AddressFailures => "address_failures",
        }
    }
}

/// A bucket is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) limit: Limit,
    /// It has enough again in so long, unless somebody else is faster.
    pub(crate) after: Duration,
}

impl Met {
    /// Why a token is not looked at.
    pub(crate) const FAILURES: &str = "too many tokens that are not good came from this address";

    /// Why, for people.
    pub(crate) const fn reason(&self) -> &'static str {
        match self.limit {
            Limit::ConnectionMessages => "too many messages on this connection",
            Limit::ConnectionBytes => "too many bytes on this connection",
            Limit::PrincipalMessages => "too many messages of this principal",
            Limit::PrincipalBytes => "too many bytes of this principal",
            Limit::PrincipalRequests => "too many requests of this principal",
            Limit::AddressRequests => "too many requests from this address",
            Limit::AddressConnections => "too many connections from this address",
            Limit::AddressFailures => Self::FAILURES,
        }
    }

    /// Whole seconds, for a header.
    pub(crate) fn seconds(&self) -> u32 {
        let seconds = self.after.as_secs() + u64::from(self.after.subsec_nanos() > 0);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}

/// For whom an address stands: an IPv6 address for its network of 64 bits, which is one customer's.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::from(u64::MAX) << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Faster is not told apart from at once.
const RATE_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_000_000_000 - 1);

fn each_second(rate: NonZeroU32) -> Quota {
    let rate = rate.min(RATE_MAX);
    Quota::per_second(rate).allow_burst(rate.saturating_mul(SECONDS))
}

fn each_minute(rate: NonZeroU32) -> Quota {
    Quota::per_minute(rate.min(RATE_MAX))
}

/// Buckets of one size, by key.
struct Buckets<K: Hash + Eq + Clone, C: Clock + Clone = DefaultClock> {
    limit: Limit,
    size: NonZeroU32,
    limiter: RateLimiter<K, HashMapStateStore<K>, C, NoOpMiddleware<clock::Reading<C>>>,
    clock: C,
    looks: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(limit: Limit, quota: Quota) -> Self {
        Self::with_clock(limit, quota, DefaultClock::default())
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Buckets<K, C> {
    fn with_clock(limit: Limit, quota: Quota, clock: C) -> Self {
        let limiter = RateLimiter::hashmap_with_clock(quota, clock.clone());
        Self { limit, size: quota.burst_size(), limiter, clock, looks: AtomicUsize::new(0) }
    }

    /// Takes so much from a bucket, or all of one that is smaller.
    fn take(&self, key: &K, amount: NonZeroU32) -> Result<(), Met> {
        if self.looks.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
        }
        match self.limiter.check_key_n(key, amount.min(self.size)) {
            Ok(Err(until)) => {
                Err(Met { limit: self.limit, after: until.wait_time_from(self.clock.now()) })
            }
            // No amount is beyond the size.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    fn take_one(&self, key: &K) -> Result<(), Met> {
        self.take(key, NonZeroU32::MIN)
    }
}

/// A bucket that is one connection's.
#[derive(Debug)]
struct OwnBucket {
    limit: Limit,
    size: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
}

impl OwnBucket {
    fn new(limit: Limit, quota: Quota) -> Self {
        Self { limit, size: quota.burst_size(), limiter: RateLimiter::direct(quota) }
    }

    fn take(&self, amount: NonZeroU32) -> Result<(), Met> {
        match self.limiter.check_n(amount.min(self.size)) {
            Ok(Err(until)) => {
                let after = until.wait_time_from(DefaultClock::default().now());
                Err(Met { limit: self.limit, after })
            }
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

/// What one connection may send.
#[derive(Debug)]
pub(crate) struct OwnBuckets {
    messages: OwnBucket,
    bytes: OwnBucket,
}

impl OwnBuckets {
    pub(crate) fn message(&self) -> Result<(), Met> {
        self.messages.take(NonZeroU32::MIN)
    }

    pub(crate) fn bytes(&self, bytes: NonZeroU32) -> Result<(), Met> {
        self.bytes.take(bytes)
    }
}

/// Every limit that is one of time.
pub(crate) struct Limiter {
    rates: Rates,
    metrics: Arc<Metrics>,
    principal_messages: Buckets<Arc<str>>,
    principal_bytes: Buckets<Arc<str>>,
    principal_requests: Buckets<Arc<str>>,
    address_requests: Buckets<IpAddr>,
    address_connections: Buckets<IpAddr>,
    address_failures: Buckets<IpAddr>,
    tokens: Mutex<Tokens>,
}

/// What was found out about tokens lately.
#[derive(Default)]
struct Tokens {
    /// Digests of good ones.
    good: BTreeSet<[u8; 32]>,
    /// Addresses whose unknown tokens are not looked at, and until when.
    held: BTreeMap<IpAddr, MonoMillis>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("rates", &self.rates).finish_non_exhaustive()
    }
}

impl Limiter {
    pub(crate) fn new(rates: Rates, metrics: Arc<Metrics>) -> Self {
        let of_principal = |limit, rate| Buckets::new(limit, each_second(rate));
        Self {
            rates,
            metrics,
            principal_messages: of_principal(Limit::PrincipalMessages, rates.principal_messages),
            principal_bytes: of_principal(Limit::PrincipalBytes, rates.principal_bytes),
            principal_requests: of_principal(Limit::PrincipalRequests, rates.principal_requests),
            address_requests: Buckets::new(
                Limit::AddressRequests,
                each_second(rates.address_requests),
            ),
            address_connections: Buckets::new(
                Limit::AddressConnections,
                each_minute(rates.address_connections),
            ),
            address_failures: Buckets::new(
                Limit::AddressFailures,
                each_minute(rates.address_failures),
            ),
            tokens: Mutex::default(),
        }
    }

    /// Full buckets for a new connection.
    pub(crate) fn own(&self) -> OwnBuckets {
        let Rates { connection_messages, connection_bytes, .. } = self.rates;
        OwnBuckets {
            messages: OwnBucket::new(Limit::ConnectionMessages, each_second(connection_messages)),
            bytes: OwnBucket::new(Limit::ConnectionBytes, each_second(connection_bytes)),
        }
    }

    /// Counts who met a limit.
    pub(crate) fn met(&self, met: Met) -> Met {
        self.metrics.limited(met.limit.name());
        met
    }

    pub(crate) fn messages_of(&self, principal: &Arc<str>, count: NonZeroU32) -> Result<(), Met> {
        self.principal_messages.take(principal, count)
    }

    pub(crate) fn bytes_of(&self, principal: &Arc<str>, bytes: NonZeroU32) -> Result<(), Met> {
        self.principal_bytes.take(principal, bytes)
    }

    pub(crate) fn request_of(&self, principal: &Arc<str>) -> Result<(), Met> {
        self.principal_requests.take_one(principal).map_err(|met| self.met(met))
    }

    pub(crate) fn request_from(&self, address: IpAddr) -> Result<(), Met> {
        self.address_requests.take_one(&address).map_err(|met| self.met(met))
    }

    pub(crate) fn connection_from(&self, address: IpAddr) -> Result<(), Met> {
        self.address_connections.take_one(&address).map_err(|met| self.met(met))
    }

    /// Whether a token from there is to be looked at. One that was good is, whatever others show from there.
    pub(crate) fn token_from(&self, address: IpAddr, token: &str) -> Result<(), Met> {
        let mut tokens = self.tokens();
        let Some(until) = tokens.held.get(&address).copied() else {
            return Ok(());
        };
        let after = clock::until(until);
        if after.is_zero() {
            tokens.held.remove(&address);
            return Ok(());
        }
        if tokens.good.contains(&digest(token)) {
            return Ok(());
        }
        Err(self.met(Met { limit: Limit::AddressFailures, after }))
    }

    /// What became of it: good ones are known from then on, and too many others make their address wait.
    pub(crate) fn token_was(&self, address: IpAddr, token: &str, is_good: bool) {
        let taken = if is_good { Ok(()) } else { self.address_failures.take_one(&address) };
        let mut tokens = self.tokens();
        match taken {
            Ok(()) if is_good => {
                if tokens.good.len() >= REMEMBERED_MAX {
                    tokens.good.clear();
                }
                tokens.good.insert(digest(token));
            }
            Ok(()) => {}
            Err(met) => {
                if tokens.held.len() >= REMEMBERED_MAX {
                    tokens.held.clear();
                }
                let until = clock::read().mono + Millis(clock::millis(met.after));
                tokens.held.insert(address, until);
            }
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(token: &str) -> [u8; 32] {
    blake3::hash(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn x17_bucket_gives_what_is_in_it_and_no_more_and_fills_again_with_time() {
        let clock = FakeRelativeClock::default();
        let quota = each_second(number(10));
        let buckets = Buckets::with_clock(Limit::PrincipalBytes, quota, clock.clone());
        // Two seconds of it: one less, just that, one more.
        assert_eq!(buckets.take(&"ada", number(19)), Ok(()));
        assert_eq!(buckets.take(&"ada", number(1)), Ok(()));
        let met = buckets.take(&"ada", number(1)).unwrap_err();
        assert_eq!(met, Met { limit: Limit::PrincipalBytes, after: Duration::from_millis(100) });
        assert_eq!(buckets.take(&"bob", number(20)), Ok(()), "another one has its own");
        clock.advance(Duration::from_millis(99));
        assert!(buckets.take_one(&"ada").is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!(buckets.take_one(&"ada"), Ok(()));
        // More than ever is in it takes all.
        clock.advance(Duration::from_secs(60));
        assert_eq!(buckets.take(&"ada", number(1_000)), Ok(()));
        assert!(buckets.take_one(&"ada").is_err());
    }

    #[test]
    fn x17_buckets_that_are_full_again_take_no_memory() {
        let clock = FakeRelativeClock::default();
        let quota = each_minute(number(60));
        let buckets = Buckets::with_clock(Limit::AddressConnections, quota, clock.clone());
        for at in 0..10 * FORGET_EVERY {
            buckets.take_one(&at).unwrap();
            clock.advance(Duration::from_millis(1));
        }
        assert!(buckets.limiter.len() <= 2 * FORGET_EVERY, "{}", buckets.limiter.len());
    }

    #[test]
    fn x17_an_ipv6_network_is_one_subscriber_and_a_mapped_address_is_the_one_it_maps() {
        let group = |address: &str| subscriber(address.parse().unwrap());
        assert_eq!(group("2001:db8:1:2::1"), group("2001:db8:1:2:ffff::9"));
        assert_ne!(group("2001:db8:1:2::1"), group("2001:db8:1:3::1"));
        assert_eq!(group("::ffff:192.0.2.1"), group("192.0.2.1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
    }

    #[test]
    fn x17_who_shows_too_many_wrong_tokens_waits_and_known_ones_do_not() {
        let rates = Rates { address_failures: number(3), ..Rates::default() };
        let limiter = Limiter::new(rates, Arc::default());
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        limiter.token_was(here, "good", true);
        for _ in 0..3 {
            assert_eq!(limiter.token_from(here, "wrong"), Ok(()));
            limiter.token_was(here, "wrong", false);
        }
        assert_eq!(limiter.token_from(here, "wrong"), Ok(()), "so many are free");
        limiter.token_was(here, "wrong", false);
        let met = limiter.token_from(here, "another").unwrap_err();
        assert!(met.after > Duration::from_secs(10) && met.after <= Duration::from_secs(20));
        assert_eq!(limiter.token_from(here, "good"), Ok(()));
        assert_eq!(limiter.token_from(there, "another"), Ok(()));
    }
}
