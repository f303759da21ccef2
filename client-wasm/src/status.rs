//! Where things stand, as the page is told: `RawStatus` and `RawStorage`.

use crate::error::Failure;
use rejoin_core::protocol::engine::{Link, Status};
use serde::{Deserialize, Serialize};

/// `RawStatus`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawStatus {
    pub(crate) state: String,
    pub(crate) paused: bool,
    pub(crate) pending: usize,
    pub(crate) rejected: usize,
    pub(crate) progress: Option<Progress>,
    pub(crate) verified: Option<Verified>,
    pub(crate) synced: bool,
    pub(crate) last_synced_at: Option<f64>,
    pub(crate) leader: bool,
    pub(crate) replica: String,
    pub(crate) storage: Storage,
    pub(crate) error: Option<Failure>,
}

/// Records received so far, and an estimate of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    records: u64,
    total: Option<u64>,
}

/// The last comparison in which the roots were equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) root: String,
    pub(crate) seq: u64,
    pub(crate) at: f64,
}

/// `RawStorage`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Storage {
    pub(crate) mode: &'static str,
    pub(crate) usage: Option<f64>,
    pub(crate) quota: Option<f64>,
    pub(crate) problem: Option<&'static str>,
}

/// What only the leading tab knows; the others are told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sync {
    pub(crate) state: String,
    pub(crate) progress: Option<Progress>,
    pub(crate) verified: Option<Verified>,
    pub(crate) is_verified: bool,
    pub(crate) last_synced_at: Option<f64>,
    pub(crate) error: Option<Failure>,
}

/// What is remembered between two looks at the engine.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) verified: Option<Verified>,
    pub(crate) last_synced_at: Option<f64>,
    pub(crate) error: Option<Failure>,
    pub(crate) dialing: bool,
    was_synced: bool,
}

impl Memory {
    /// Takes in a look at the engine of the tab that leads. `root` is over all that is held.
    pub(crate) fn look(
        &mut self,
        status: &Status,
        at_ms: f64,
        root: impl FnOnce() -> String,
    ) -> Sync {
        if status.is_verified {
            let seq = status.verified.values().map(|(seq, _)| seq.0).max().unwrap_or_default();
            let root = root();
            let known = self.verified.as_ref();
            let is_new = known.is_none_or(|known| known.seq != seq || known.root != root);
            if is_new {
                self.verified = Some(Verified { root, seq, at: at_ms });
            }
            if status.pending == 0 && (is_new || !self.was_synced) {
                self.last_synced_at = Some(at_ms);
            }
        }
        self.was_synced = status.is_verified && status.pending == 0;
        if status.link != Link::Offline {
            self.dialing = false;
        }
        if status.link == Link::Live {
            self.error = None;
        }
        Sync {
            state: self.state(status.link).into(),
            progress: status.progress.map(|(records, total)| Progress { records, total }),
            verified: self.verified.clone(),
            is_verified: status.is_verified,
            last_synced_at: self.last_synced_at,
            error: self.error.clone(),
        }
    }

    const fn state(&self, link: Link) -> &'static str {
        match link {
            Link::Opening => "connecting",
            Link::Syncing => "syncing",
            Link::Live => "live",
            Link::Blocked | Link::NeedsToken => "needs-auth",
            Link::Offline if self.dialing => "connecting",
            Link::Offline => "offline",
            _ => "syncing",
        }
    }
}
