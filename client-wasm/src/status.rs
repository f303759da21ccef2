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
    pub(crate) account: Option<Account>,
    pub(crate) synced: bool,
    pub(crate) last_synced_at: Option<f64>,
    pub(crate) leader: bool,
    pub(crate) replica: String,
    pub(crate) storage: Storage,
    pub(crate) error: Option<Failure>,
}

/// Records received so far, an estimate of all, and the bytes that brought them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    records: u64,
    total: Option<u64>,
    bytes: u64,
}

/// The last comparison in which the roots were equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) root: String,
    pub(crate) seq: u64,
    pub(crate) at: f64,
}

/// Whose data is held here, and who was welcomed instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// `RawStorage`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Storage {
    pub(crate) mode: &'static str,
    pub(crate) usage: Option<f64>,
    pub(crate) quota: Option<f64>,
    pub(crate) problem: Option<&'static str>,
    pub(crate) writes_lost: bool,
    pub(crate) at_risk: bool,
}

/// What only the leading tab knows; the others are told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sync {
    pub(crate) state: String,
    pub(crate) progress: Option<Progress>,
    pub(crate) verified: Option<Verified>,
    pub(crate) is_verified: bool,
    pub(crate) account: Option<Account>,
    pub(crate) last_synced_at: Option<f64>,
    pub(crate) error: Option<Failure>,
}

/// What is remembered between two looks at the engine.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    verified: Option<Verified>,
    last_synced_at: Option<f64>,
    pub(crate) account: Option<Account>,
    pub(crate) error: Option<Failure>,
    pub(crate) dialing: bool,
    was_verified: bool,
    was_synced: bool,
}

/// What outlives the page.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Kept {
    pub(crate) verified: Option<Verified>,
    last_synced_at: Option<f64>,
}

/// Version of the form in which it is kept.
const KEPT_VERSION: &str = "1";

impl Kept {
    /// Text: version, time, then time, seq and root of the comparison, if there was one.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let synced_at = self.last_synced_at.unwrap_or_default();
        let mut text = format!("{KEPT_VERSION} {synced_at}");
        if let Some(Verified { root, seq, at }) = &self.verified {
            text += &format!(" {at} {seq} {root}");
        }
        text.into_bytes()
    }

    /// `None` for what a later version wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = core::str::from_utf8(bytes).ok()?.split(' ');
        if words.next()? != KEPT_VERSION {
            return None;
        }
        let last_synced_at = Some(words.next()?.parse().ok()?).filter(|at| *at > 0.0);
        let mut verified = || {
            let (at, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Verified { root: words.next()?.into(), seq, at })
        };
        Some(Self { verified: verified(), last_synced_at })
    }
}

impl Memory {
    /// What should outlive the page.
    pub(crate) fn kept(&self) -> Kept {
        Kept { verified: self.verified.clone(), last_synced_at: self.last_synced_at }
    }

    /// Takes up what was kept, unless more is known already.
    pub(crate) fn recall(&mut self, kept: Kept) {
        self.verified = self.verified.take().or(kept.verified);
        self.last_synced_at = self.last_synced_at.or(kept.last_synced_at);
    }

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
            let is_new = !self.was_verified
                || known.is_none_or(|known| known.seq != seq || known.root != root);
            if is_new {
                self.verified = Some(Verified { root, seq, at: at_ms });
            }
            if status.pending == 0 && (is_new || !self.was_synced) {
                self.last_synced_at = Some(at_ms);
            }
        }
        self.was_verified = status.is_verified;
        self.was_synced = status.is_verified && status.pending == 0;
        if status.link != Link::Offline {
            self.dialing = false;
        }
        if status.link == Link::Live {
            self.error = None;
        }
        if matches!(status.link, Link::Syncing | Link::Live) {
            self.account = None;
        }
        Sync {
            state: self.state(status.link).into(),
            progress: status.progress.map(|progress| Progress {
                records: progress.records,
                total: progress.records_total,
                bytes: progress.bytes,
            }),
            verified: self.verified.clone(),
            is_verified: status.is_verified,
            account: self.account.clone(),
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
