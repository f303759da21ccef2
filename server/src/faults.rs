//! What the store last did wrong in earnest, for those who ask after the server's health: a probe is
//! small, and a disk that is nearly full still takes it.

use crate::clock;
use rejoin_core::{
    io::FaultClass,
    time::{Millis, MonoMillis},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A fault counts for so long, unless a commit succeeds before: where nobody writes, nothing else
/// would tell that it is over.
const COUNTS: Millis = Millis(60_000);

/// The last fault of the store in the work of any space.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    last: Mutex<Option<(MonoMillis, FaultClass)>>,
}

impl Faults {
    pub(crate) fn happened(&self, class: FaultClass) {
        *self.last() = Some((clock::read().mono, class));
    }

    /// A commit succeeded.
    pub(crate) fn over(&self) {
        *self.last() = None;
    }

    /// The fault that still counts.
    pub(crate) fn recent(&self) -> Option<FaultClass> {
        let now = clock::read().mono;
        (*self.last()).filter(|(at, _)| now.since(*at) < COUNTS).map(|(_, class)| class)
    }

    fn last(&self) -> MutexGuard<'_, Option<(MonoMillis, FaultClass)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
