//! How many connections there are, in all and by address.
//!
//! Invariant: the counts are those of the [`Slot`]s that live. Absent: connections.

use crate::{config::ConnectionLimits, metrics::Metrics};
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
    by_address: Mutex<(u32, BTreeMap<IpAddr, u32>)>,
}

/// A connection's place among the limited number; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    census: Arc<Census>,
    address: IpAddr,
}

impl Census {
    pub(crate) fn new(limits: ConnectionLimits, metrics: Arc<Metrics>) -> Self {
        Self { limits, metrics, by_address: Mutex::default() }
    }

    /// A place, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *counts;
        let here = by_address.entry(address).or_default();
        if *all >= self.limits.connections_max || *here >= self.limits.connections_per_address_max {
            self.metrics.connections_refused.inc();
            return None;
        }
        *here += 1;
        *all += 1;
        self.metrics.connections_opened.inc();
        self.metrics.connections.inc();
        Some(Slot { census: Arc::clone(self), address })
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
