//! How far somebody who follows is behind, in all spaces together.

use prometheus_client::metrics::gauge::Gauge;
use rejoin_core::id::SpaceId;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Keeps a metric at the sum of what is known of each space.
#[derive(Debug)]
pub(crate) struct Lag {
    gauge: Gauge,
    /// Spaces in which something is lacking.
    behind: Mutex<BTreeMap<SpaceId, u64>>,
}

impl Lag {
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { gauge, behind: Mutex::default() }
    }

    /// So many places of the feed of a space are lacking.
    pub(crate) fn set(&self, space: &SpaceId, places: u64) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if places == 0 {
            behind.remove(space);
        } else {
            behind.insert(space.clone(), places);
        }
        let sum = behind.values().fold(0, |sum: u64, places| sum.saturating_add(*places));
        self.gauge.set(i64::try_from(sum).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_that_has_caught_up_does_not_hide_one_that_has_not() {
        let gauge = Gauge::default();
        let lag = Lag::new(gauge.clone());
        let (a, b) = (SpaceId::parse("a").unwrap(), SpaceId::parse("b").unwrap());
        lag.set(&a, 5);
        lag.set(&b, 2);
        lag.set(&b, 0);
        assert_eq!(gauge.get(), 5);
        lag.set(&a, 0);
        assert_eq!(gauge.get(), 0);
    }
}
