//! The log: everything that ever changes a replica's state, as entries that each reader applies in order.
//!
//! Invariant: a replica's state is a function of its pages and of the log behind them. Two tabs that
//! have applied the same entries hold the same state.

use super::intent::{Restamped, Row};
use crate::{
    hlc::{Hlc, Stamp},
    id::{Epoch, Incarnation, Pattern, RecordKey, ReplicaId, Seq, SpaceId},
    message::{ChunkRecord, Place, RejectCode},
};
use alloc::{string::String, vec::Vec};

impl Entry {
    /// Bytes that it takes in memory for what it received.
    pub(crate) fn held_bytes(&self) -> usize {
        let opened = if let Self::Opened(opened) = self { opened.records.as_slice() } else { &[] };
        self.received_bytes() + opened.iter().map(|record| record.bytes.len()).sum::<usize>()
    }

    /// Bytes of the message that it holds, if it holds one.
    pub(crate) fn received_bytes(&self) -> usize {
        match self {
            Self::Feed(bytes) | Self::Staged(bytes) | Self::Opened(Opened { bytes, .. }) => {
                bytes.len()
            }
            Self::Commit(_)
            | Self::HealBegun { .. }
            | Self::Healed { .. }
            | Self::Settled(_)
            | Self::Restamped { .. }
            | Self::Session(_)
            | Self::Welcomed(_)
            | Self::Reborn { .. }
            | Self::Dropped(_)
            | Self::Bound(_)
            | Self::Adopted(_)
            | Self::Denied
            | Self::Subscribed { .. }
            | Self::Stated { .. } => 0,
        }
    }
}

/// A verified `Chunk` message, with what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The message, as received.
    pub bytes: Vec<u8>,
    /// Which subscription it is part of.
    pub subscription: u32,
    /// Everything up to here has come with it.
    pub upto: Option<RecordKey>,
    /// Its records.
    pub records: Vec<ChunkRecord>,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A local commit; its place in the log is its number in the outbox.
    Commit(Row),
    /// A `Changes` message, as received.
    Feed(Vec<u8>),
    /// A `Records` or `Chunk` message, as received and, for a chunk, verified.
    Staged(Vec<u8>),
    /// The same of a `Chunk` whose records are at hand: read back it is [`Self::Staged`].
    Opened(Opened),
    /// A snapshot or heal has begun: what was staged before is dropped.
    HealBegun {
        /// Which subscription.
        subscription: u32,
        /// From where the feed will continue.
        seq: Seq,
        /// The peer's horizon then.
        horizon: Hlc,
        /// The peer's clock then.
        time: Hlc,
    },
    /// A snapshot or heal has brought everything; the feed follows from where it began.
    Healed {
        /// Which subscription.
        subscription: u32,
        /// Records that the peer does not have; they leave the base at the next cut.
        gone: Vec<RecordKey>,
        /// Where the peer has what was brought back to it: nothing is visible before a cut that reaches it.
        reach: Seq,
    },
    /// What became of outbox rows.
    Settled(Vec<(u64, Settlement)>),
    /// Rows that are too far ahead have new stamps.
    Restamped {
        /// Old and new ones.
        rows: Restamped,
        /// The peer's wall clock less ours, as its answer told, in milliseconds.
        skew_ms: i64,
    },
    /// An incarnation that is about to be used.
    Session(Incarnation),
    /// The peer has welcomed an incarnation.
    Welcomed(Welcomed),
    /// The replica's history had forked: it has a new id, and rows have new stamps.
    Reborn {
        /// The new id.
        replica: ReplicaId,
        /// Rows that the peer had accepted under the old id, or of which it had accepted a copy.
        accepted: Vec<(u64, Settlement)>,
        /// Rows of which it cannot be told any more.
        unsure: Vec<u64>,
        /// New stamps of the others.
        restamped: Restamped,
    },
    /// A rejected row is not kept any more.
    Dropped(u64),
    /// The app has taken over base and outbox for another principal.
    Adopted(String),
    /// The peer has denied the replica its id: whoever is asked next, it takes another one.
    Denied,
    /// The space where all rows belong, if none was named before.
    Bound(SpaceId),
    /// Patterns to be subscribed to, as far as they are new.
    Subscribed {
        /// Which.
        patterns: Vec<Pattern>,
        /// Whether subscriptions that none of them needs are put to rest.
        only: bool,
    },
    /// The peer has said of itself at what position, horizon and time it stands.
    Stated {
        /// Subscriptions of which it spoke.
        subscriptions: Vec<u32>,
        /// Its head.
        seq: Seq,
        /// Dead records buried at or before this are not in its trees.
        horizon: Hlc,
        /// Its clock.
        time: Hlc,
    },
}

/// What became of an outbox row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Durable at the peer.
    Accepted(Seq),
    /// Durable at the peer as a copy with this stamp, which takes the place of its own.
    Taken(Stamp, Seq),
    /// Refused for good; kept until the user decides.
    Rejected {
        /// Why, for programs.
        code: RejectCode,
        /// Why, for people.
        reason: String,
    },
}

/// What a welcome changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcomed {
    /// The incarnation welcomed.
    pub incarnation: Incarnation,
    /// Whose records these are.
    pub principal: String,
    /// The peer's epoch.
    pub epoch: Epoch,
    /// The peer's wall clock less ours, in milliseconds.
    pub skew_ms: i64,
    /// Subscriptions whose place is good in the new epoch.
    pub good: Vec<u32>,
    /// Subscriptions that start over: what they had staged is dropped.
    pub afresh: Vec<u32>,
    /// Those among them whose base is older than the peer's horizon: it goes when a snapshot has come.
    pub stale: Vec<u32>,
    /// Up to where the peer has what it had accepted when it was last welcomed.
    pub kept: Seq,
}

/// A subscription's stored position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Epoch of the position; `None` for a newcomer.
    pub epoch: Option<Epoch>,
    /// What is visible: everything up to here.
    pub cursor: Seq,
    /// Whether `cursor` was ever reached: a newcomer's is not.
    pub arrived: bool,
    /// What is staged: everything up to here.
    pub place: Place,
    /// A snapshot or heal under way.
    pub heal: Option<Healing>,
    /// Whether nobody asks for it at present: it keeps what it has, and is not brought up to date.
    pub resting: bool,
    /// The peer's clock when `cursor`, at the latest, was its head.
    pub time: Hlc,
    /// Dead records buried at or before this are not in the base.
    pub horizon: Hlc,
    /// Whether what is visible is older than the peer's horizon: it is shown until a snapshot has come, and
    /// is evidence of nothing.
    pub stale: bool,
}

impl Standing {
    /// Forgets what was staged: it goes on from what is visible.
    pub(super) fn start_over(&mut self) {
        self.heal = None;
        self.place = Place::at(self.cursor);
    }

    /// Whether all up to `seq` is visible and nothing beyond it has come.
    pub fn is_at(&self, seq: Seq) -> bool {
        self.arrived && self.heal.is_none() && self.cursor == seq && self.place == Place::at(seq)
    }

    /// Whether what is visible has all that the peer had at `seq`.
    pub(super) fn has_all_upto(&self, seq: Seq) -> bool {
        self.arrived && !self.stale && self.heal.is_none() && self.cursor >= seq
    }

    /// Becomes a newcomer's, over what is visible.
    pub(super) fn go_stale(&mut self) {
        let (resting, horizon) = (self.resting, self.horizon);
        *self = Self { resting, horizon, stale: true, ..Self::default() };
    }
}

/// A snapshot or heal under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healing {
    /// From where the feed continues.
    pub seq: Seq,
    /// The peer's clock when that was its head.
    pub time: Hlc,
    /// The peer's horizon then.
    pub horizon: Hlc,
    /// Greatest position received: nothing is visible before a cut that reaches it.
    pub reach: Seq,
    /// Whether everything has come.
    pub complete: bool,
    /// Records that leave the base at the next cut.
    pub gone: Vec<RecordKey>,
    /// Where the last chunk of the snapshot ended.
    pub upto: Option<RecordKey>,
}
