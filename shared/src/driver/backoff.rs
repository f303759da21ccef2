//! When to dial again: full jitter (Brooker, "Exponential Backoff And Jitter", 2015,
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).

use crate::{
    protocol::limits::{BACKOFF, RETRY_AFTER_MAX, UNANSWERED_BACKOFF, UNANSWERED_MAX},
    time::Millis,
};

/// Delays between attempts: uniform between zero and a bound that doubles up to a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    attempts: u32,
    /// The last connection ended with leave to come back at once.
    at_once: bool,
    /// Attempts in a row that nobody answered.
    silent: u32,
}

impl Backoff {
    /// The delay before the next attempt; `random` is uniform over its type.
    pub fn next(&mut self, random: u64) -> Millis {
        let (least, greatest) = BACKOFF;
        let bound = least.0.saturating_mul(1 << self.attempts.min(16)).min(greatest.0);
        self.attempts = self.attempts.saturating_add(1);
        Millis(random % (bound + 1))
    }

    /// The delay after an end for which the peer may have said when to come back. At once is believed
    /// the first time: from the second in a row on, a live session between them or not, it is no
    /// shorter than the least bound. Later than [`RETRY_AFTER_MAX`] is never believed.
    pub fn after(&mut self, asked: Option<Millis>, random: u64) -> Millis {
        let (least, _) = BACKOFF;
        let again = core::mem::replace(&mut self.at_once, asked == Some(Millis(0)));
        let floor = match asked {
            Some(Millis(0)) if !again => return Millis(0),
            Some(Millis(0)) => least,
            // Never before the peer asked for; spread beyond it.
            Some(asked) => asked.min(RETRY_AFTER_MAX),
            None => Millis(0),
        };
        Millis(floor.0 + self.next(random).0)
    }

    /// The delay after an attempt that nobody answered in time, not even with a refusal: packets are lost. It is
    /// short, for the line may be whole at any moment and nothing would tell; and no server was asked too much by it.
    /// After some minutes of that the device is spared.
    pub fn after_silence(&mut self, random: u64) -> Millis {
        self.silent = self.silent.saturating_add(1);
        if self.silent > UNANSWERED_MAX {
            return self.next(random);
        }
        Millis(random % (UNANSWERED_BACKOFF.0 + 1))
    }

    /// Somebody answered.
    pub const fn is_answered(&mut self) {
        self.silent = 0;
    }

    /// A session came to live, or the network is back: the next delay is short again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
        self.silent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_bound_that_doubles_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let bounds: [u64; 8] = core::array::from_fn(|_| {
            let mut copy = backoff;
            let most = (0..100_000).map(|random| {
                let mut attempt = backoff;
                attempt.next(random).0
            });
            let most = most.max().unwrap();
            copy.next(0);
            backoff = copy;
            most
        });
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        backoff.reset();
        assert!(backoff.next(u64::MAX).0 <= 500);
    }

    /// Ten thousand lose their server at one moment; it is back after three seconds and welcomes two thousand a second.
    #[test]
    fn p05_storm_of_clients_is_spread_and_all_are_back_within_thirty_seconds() {
        const DOWN: u64 = 3_000;
        const ADMITTED: u64 = 2_000;
        let mut random = 1_u64;
        let mut draw = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random >> 16
        };
        let mut due = alloc::collections::BTreeSet::new();
        let mut clients = alloc::vec![Backoff::default(); 10_000];
        for (number, client) in clients.iter_mut().enumerate() {
            due.insert((client.next(draw()).0, number));
        }
        let mut attempts = alloc::vec![0; 60];
        let mut welcomed = alloc::vec![0; 60];
        let mut last = 0;
        while let Some((now, number)) = due.pop_first() {
            let second = usize::try_from(now / 1_000).unwrap();
            attempts[second] += 1;
            if now >= DOWN && welcomed[second] < ADMITTED {
                welcomed[second] += 1;
                last = now;
                continue;
            }
            let again = clients[number].after(None, draw());
            due.insert((now + again.0.max(1), number));
        }
        assert!(last <= DOWN + 30_000, "the last one is back after {last} ms");
        // Those that were refused come no faster than the others: the storm falls off by itself.
        assert!(attempts[5] < 10_000 && attempts[10] < 4_000, "{attempts:?}");
    }

    #[test]
    fn p04_silence_is_followed_by_another_attempt_within_a_second_for_minutes() {
        let mut backoff = Backoff::default();
        for _ in 0..UNANSWERED_MAX {
            assert!(backoff.after_silence(u64::MAX) <= UNANSWERED_BACKOFF);
        }
        let bounds: [u64; 3] = core::array::from_fn(|_| backoff.after_silence(u64::MAX).0);
        assert!(bounds[0] <= 500 && bounds[2] <= 2_000, "it begins as after refusals: {bounds:?}");
        (0..8).for_each(|_| assert!(backoff.after_silence(0) == Millis(0)));
        assert_eq!(backoff.after_silence(30_000), BACKOFF.1, "nobody is there");
        backoff.is_answered();
        assert!(backoff.after_silence(u64::MAX) <= UNANSWERED_BACKOFF);
        assert_eq!(backoff.next(30_000), BACKOFF.1, "what was refused still counts");
    }

    #[test]
    fn peer_that_always_says_at_once_is_believed_once() {
        let at_once = Some(Millis(0));
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(at_once, 7), Millis(0));
        for _ in 0..20 {
            assert!(backoff.after(at_once, 0) >= BACKOFF.0);
            backoff.reset();
        }
        backoff.after(None, 0);
        assert_eq!(backoff.after(at_once, 7), Millis(0), "others were between them");
    }

    #[test]
    fn peer_that_says_never_is_asked_again_within_minutes() {
        let mut backoff = Backoff::default();
        let delay = backoff.after(Some(Millis(u64::MAX)), u64::MAX);
        assert!(
            delay >= RETRY_AFTER_MAX && delay.0 <= RETRY_AFTER_MAX.0 + BACKOFF.1.0,
            "{delay:?}"
        );
        assert!(backoff.after(Some(Millis(5_000)), 0) >= Millis(5_000));
    }
}
