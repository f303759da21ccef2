//! How many connections there are, in all, by address and by principal.
//!
//! Invariant: the counts are those of the [`Slot`]s and [`Seat`]s that live. Absent: connections.

use crate::{
    config::ConnectionLimits,
    metrics::Metrics,
    rates::{Limiter, subscriber},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// How many connections there are, in all and by address.
#[derive(Debug)]
pub(crate) struct Census {
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    limiter: Arc<Limiter>,
    by_address: Mutex<(u32, BTreeMap<IpAddr, u32>)>,
}

/// A connection's place among the limited number; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    census: Arc<Census>,
    address: IpAddr,
}

impl Census {
    pub(crate) fn new(
        limits: ConnectionLimits,
        metrics: Arc<Metrics>,
        limiter: Arc<Limiter>,
    ) -> Self {
        Self { limits, metrics, limiter, by_address: Mutex::default() }
    }

    /// A place, if there is one, and it was not taken too often.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let address = subscriber(address);
        if self.limiter.connection_from(address).is_err() {
            self.metrics.connections_refused.inc();
            return None;
        }
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *counts;
        // Who is refused leaves nothing behind.
        let here = by_address.get(&address).copied().unwrap_or_default();
        if *all >= self.limits.connections_max || here >= self.limits.connections_per_address_max {
            self.metrics.connections_refused.inc();
            return None;
        }
        by_address.insert(address, here + 1);
        *all += 1;
        self.metrics.connections_opened.inc();
        self.metrics.connections.inc();
        Some(Slot { census: Arc::clone(self), address })
    }
}

impl Slot {
    /// One more place for the same address, as for one more connection.
    pub(crate) fn another(&self) -> Option<Self> {
        self.census.enter(self.address)
    }

    /// Where it comes from; an IPv6 network is one.
    pub(crate) const fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.census.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *counts;
        *all = all.saturating_sub(1);
        self.census.metrics.connections.dec();
        if let Some(here) = by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// How many connections each principal has.
#[derive(Debug)]
pub(crate) struct Principals {
    max: u32,
    metrics: Arc<Metrics>,
    connections: Mutex<BTreeMap<Arc<str>, u32>>,
}

/// One connection's place among those of a principal; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    principals: Arc<Principals>,
    principal: Arc<str>,
}

impl Principals {
    pub(crate) fn new(limits: ConnectionLimits, metrics: Arc<Metrics>) -> Self {
        let max = limits.connections_per_principal_max;
        Self { max, metrics, connections: Mutex::default() }
    }

    /// A place, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, principal: &Arc<str>) -> Option<Seat> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let here = connections.entry(Arc::clone(principal)).or_default();
        if *here >= self.max {
            self.metrics.connections_refused.inc();
            return None;
        }
        *here += 1;
        Some(Seat { principals: Arc::clone(self), principal: Arc::clone(principal) })
    }
}

impl Seat {
    pub(crate) const fn principal(&self) -> &Arc<str> {
        &self.principal
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let connections = &self.principals.connections;
        let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = connections.get_mut(&self.principal) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                connections.remove(&self.principal);
            }
        }
    }
}
