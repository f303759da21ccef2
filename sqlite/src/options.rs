//! What whoever opens a file decides.

use crate::writer::Rehearsal;
use std::{num::NonZeroU8, time::Duration};

/// How to open a file.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Threads that answer reads, each with a connection of its own. A scan or an integrity check
    /// occupies one of them while it runs.
    pub readers: NonZeroU8,
    /// Page cache of each connection, in KiB.
    pub cache_kib: u32,
    /// How long to wait for a lock that another program holds on the file, before a transient fault.
    pub busy_timeout: Duration,
    #[doc(hidden)]
    pub rehearsal: Rehearsal,
}

impl Default for SqliteOptions {
    /// Two readers, 8 MiB of cache each, five seconds.
    fn default() -> Self {
        Self {
            readers: NonZeroU8::MIN.saturating_add(1),
            cache_kib: 8 << 10,
            busy_timeout: Duration::from_secs(5),
            rehearsal: Rehearsal::default(),
        }
    }
}
