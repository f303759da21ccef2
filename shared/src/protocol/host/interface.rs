//! What goes into a host and what comes out of it, as values.
//!
//! Absent: what is done about it.

use super::{
    damage::{DamagedRow, Mended},
    direct::{DirectAnswer, DirectWrite},
    heal::WALK_LIMITS,
    quota::Quota,
    scrub::Scrubbed,
};
use crate::{
    hlc::{Hlc, Stamp},
    id::{CollectionName, Digest, Epoch, FieldName, Pattern, RecordKey, ReplicaId, Seq, SpaceId},
    io::{Answer, Batch, CommitOutcome, FaultClass, Query, Ticket},
    planted::Planted,
    protocol::{
        limits::{
            BATCH_RECORDS_MAX, CHUNK_BYTES_AIM, FRAME_BYTES_MAX, PAGE_BYTES_AIM, RECORD_BYTES_MAX,
            VALUE_BYTES_MAX,
        },
        message::{Bye, ByeCode, Hello, Identity, Limits, Mode, RejectCode, Right},
    },
    time::Millis,
    tree::WalkLimits,
};
use alloc::{string::String, sync::Arc, vec::Vec};

/// Thirty days.
pub const RETENTION: Millis = Millis(30 * 24 * 3_600_000);

/// What a host is opened with.
#[derive(Clone)]
#[non_exhaustive]
pub struct HostConfig {
    /// The space it serves.
    pub space: SpaceId,
    /// This run: 16 random bytes that were never used before.
    pub epoch: Epoch,
    /// The secret of proofs; kept beside the store, never in it.
    pub proof_key: [u8; 32],
    /// What peers are told and held to.
    pub limits: Limits,
    /// How much the space may hold.
    pub quota: Quota,
    /// Most peers at a time; one more is sent away (`Busy`).
    pub peers_max: usize,
    /// Memory for the newest part of the feed, in bytes, about: peers within it are served without
    /// reading the store.
    pub recent_bytes_max: usize,
    /// Most reads of the feed at a time.
    pub reads_max: usize,
    /// Size at which a page of changes is closed, in bytes, about.
    pub page_bytes_aim: usize,
    /// Stored bytes of records with which a chunk of a snapshot is closed.
    pub chunk_bytes_aim: u64,
    /// How much work one message of a walk may cause.
    pub walk: WalkLimits,
    /// Who may return what the store has lost.
    pub refill: RefillPolicy,
    /// How long the server runs, at least, before what is dead, and which rows were accepted, is forgotten.
    pub retention: Millis,
    /// How long the server had run, in all its lives, when the host was opened. It belongs to the store: who puts
    /// back a copy of that puts back what it was then.
    pub ran: Millis,
    /// How often all that is stored is read again and checked; `None`: only where it is read anyway.
    pub scrub: Option<Millis>,
    /// A bug, in tests.
    pub planted: Planted,
}

impl HostConfig {
    /// The defaults: limits of the protocol, 10,000 peers, 2 MiB of recent changes, 16 reads, 30 days.
    #[must_use]
    pub fn new(space: SpaceId, epoch: Epoch, proof_key: [u8; 32]) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            space,
            epoch,
            proof_key,
            limits: Limits {
                frame_bytes: count(FRAME_BYTES_MAX),
                record_bytes: count(RECORD_BYTES_MAX),
                value_bytes: count(VALUE_BYTES_MAX),
                batch_records: count(BATCH_RECORDS_MAX),
            },
            quota: Quota::NONE,
            peers_max: 10_000,
            recent_bytes_max: 2 << 20,
            reads_max: 16,
            page_bytes_aim: PAGE_BYTES_AIM,
            chunk_bytes_aim: CHUNK_BYTES_AIM as u64,
            walk: WALK_LIMITS,
            refill: RefillPolicy::default(),
            retention: RETENTION,
            ran: Millis(0),
            scrub: None,
            planted: Planted::default(),
        }
    }
}

/// Who may return records that a store has lost, as one that was put back from an old copy has.
///
/// A record is *proved* by the mark that the host once sent with it: anybody who may read it may return it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RefillPolicy {
    /// Whoever may write a collection, also without proof; others what is proved. Should the secret be lost
    /// with the store, a writer could return a record as others never wrote it.
    #[default]
    Writers,
    /// Only what is proved.
    Proved,
    /// Nothing: the store is older on purpose.
    None,
}

impl core::fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostConfig")
            .field("space", &self.space)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// One open channel; given out by the driver, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// As whom a peer is authenticated, and what that allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who it is.
    pub principal: String,
    /// What it may do.
    pub rights: Vec<Right>,
}

impl Grant {
    /// Whether a collection may be written.
    #[must_use]
    pub fn writes(&self, collection: &CollectionName) -> bool {
        self.rights.iter().any(|right| right.write && right.pattern.covers(collection))
    }

    /// Whether one right covers every collection of the pattern.
    #[must_use]
    pub fn reads(&self, pattern: &Pattern) -> bool {
        self.rights.iter().any(|right| match (&right.pattern, pattern) {
            (Pattern::All, _) => true,
            (Pattern::Exact(_), Pattern::All | Pattern::Prefix(_))
            | (Pattern::Prefix(_), Pattern::All) => false,
            (whole, Pattern::Exact(name) | Pattern::Prefix(name)) => whole.covers(name),
        })
    }
}

/// What happens to a host.
#[derive(Debug)]
#[non_exhaustive]
pub enum HostInput {
    /// A channel was opened by this hello and its token was accepted.
    Opened {
        /// Its name from now on.
        peer: PeerId,
        /// What it said.
        hello: Hello,
        /// What its token allows.
        grant: Grant,
    },
    /// A message came in.
    Message {
        /// From whom.
        peer: PeerId,
        /// The frame without its channel.
        bytes: Vec<u8>,
    },
    /// The socket has taken so many bytes of what was to be sent.
    Sent {
        /// To whom.
        peer: PeerId,
        /// Bytes of [`HostOutput::Send`].
        bytes: usize,
    },
    /// The token was renewed, or the rights changed.
    Regranted {
        /// Whose.
        peer: PeerId,
        /// What holds from now on.
        grant: Grant,
    },
    /// The driver wants a peer to go, as when its token has expired.
    Dismissed {
        /// Who.
        peer: PeerId,
        /// What it is told.
        bye: Bye,
    },
    /// The channel is gone.
    Gone {
        /// Whose.
        peer: PeerId,
    },
    /// Somebody who has no replica writes; answered by [`HostOutput::Written`], always.
    Write(DirectWrite),
    /// A [`HostOutput::Query`] was carried out.
    Answered {
        /// Which.
        ticket: Ticket,
        /// What it found.
        result: Result<Vec<Answer>, FaultClass>,
    },
    /// A [`HostOutput::Commit`] was carried out.
    Committed {
        /// Which.
        ticket: Ticket,
        /// What became of it.
        result: Result<CommitOutcome, FaultClass>,
    },
    /// The time given by [`super::Host::deadline`] has come.
    Deadline,
    /// The process wants to end: the commit under way is finished and acknowledged, then everyone is
    /// told to come back.
    Stop,
}

/// What a host wants done, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum HostOutput {
    /// Send a message on the peer's channel; tell of it by [`HostInput::Sent`].
    Send {
        /// To whom.
        peer: PeerId,
        /// The frame without its channel.
        bytes: Arc<[u8]>,
    },
    /// Read, all queries from one snapshot; answer by [`HostInput::Answered`].
    Query {
        /// Names it.
        ticket: Ticket,
        /// What to read.
        queries: Vec<Query>,
    },
    /// Commit; answer by [`HostInput::Committed`].
    Commit {
        /// Names it.
        ticket: Ticket,
        /// What to write.
        batch: Batch,
    },
    /// Forget the peer and free its channel. Where it had to be told, that was sent just before.
    Close {
        /// Who.
        peer: PeerId,
        /// Why.
        bye: Bye,
    },
    /// Check a new token; answer by [`HostInput::Regranted`] or [`HostInput::Dismissed`].
    RefreshAsked {
        /// Whose.
        peer: PeerId,
        /// The token.
        token: String,
    },
    /// Answer a [`HostInput::Write`].
    Written {
        /// Its number.
        number: u64,
        /// What became of it.
        answer: DirectAnswer,
    },
    /// For the log.
    Note(HostNote),
}

/// What a person who reads the log wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostNote {
    /// The store is open, under a new epoch that is durable.
    Ready {
        /// This run.
        epoch: Epoch,
        /// The last position.
        head: Seq,
        /// How many records there are, dead ones included.
        records: u64,
    },
    /// A peer was welcomed.
    Welcomed {
        /// Who.
        peer: PeerId,
        /// Its replica id.
        replica: ReplicaId,
        /// Whether it can use it.
        identity: Identity,
        /// How its subscriptions start.
        modes: Vec<(u32, Mode)>,
    },
    /// Rows of a peer were settled.
    Pushed {
        /// Whose.
        peer: PeerId,
        /// How many are durable.
        accepted: usize,
        /// How many are not.
        refused: usize,
        /// The last position then.
        head: Seq,
    },
    /// A direct write was judged.
    Written {
        /// For whom.
        principal: String,
        /// How many of its parts are durable.
        accepted: usize,
        /// How many were not done.
        refused: usize,
        /// The last position then.
        head: Seq,
    },
    /// A row was refused for good.
    Rejected {
        /// Whose.
        peer: PeerId,
        /// Its number.
        row: u64,
        /// Why, for programs.
        code: RejectCode,
        /// Why, for people.
        reason: &'static str,
    },
    /// Two writes of a field did not know each other.
    Conflict {
        /// Of which record.
        key: RecordKey,
        /// Which field.
        field: FieldName,
        /// The write that won.
        won: Stamp,
        /// The write that lost.
        lost: Stamp,
    },
    /// A peer has returned records that the store had lost.
    Refilled {
        /// Who.
        peer: PeerId,
        /// How many the store lacked, or lacked a part of.
        restored: usize,
        /// How many it had.
        known: usize,
        /// How many it did not take.
        refused: usize,
    },
    /// What was dead, or accepted, for long is forgotten.
    Collected {
        /// Up to when.
        horizon: Hlc,
        /// Dead records.
        records: usize,
        /// Accepted rows.
        rows: usize,
    },
    /// A peer was told which rows of an id that it gives up were accepted.
    Recalled {
        /// Who.
        peer: PeerId,
        /// How many were.
        accepted: usize,
    },
    /// A stream has brought its peer to the head and told it the root.
    Synced {
        /// Who.
        peer: PeerId,
        /// The head.
        head: Seq,
        /// The root of the stream's first subscription.
        root: Digest,
        /// Rows accepted from it since it was last synced.
        pushed: u64,
        /// Entries sent to it since then.
        pulled: u64,
    },
    /// A channel ended.
    Closed {
        /// Whose.
        peer: PeerId,
        /// Why.
        code: ByeCode,
    },
    /// A row of the store was damaged.
    Damaged {
        /// Which.
        row: DamagedRow,
        /// What was made of it.
        mended: Mended,
    },
    /// A record is lost: a new epoch is open, and peers come again with what they hold.
    Renewed {
        /// The epoch.
        epoch: Epoch,
    },
    /// A peer was welcomed in this epoch before, and in another one since: two hosts of their own histories answer
    /// for one space. It carries to each what the other has.
    Alternates {
        /// The peer.
        peer: PeerId,
        /// The epoch of the other host.
        other: Epoch,
    },
    /// All that is stored was read and checked.
    Scrubbed {
        /// What this pass has found.
        pass: Scrubbed,
    },
    /// The store failed; everything is read again.
    StoreFailed {
        /// How.
        class: FaultClass,
    },
    /// The host serves nobody any more: the store is broken (a class), or another host has taken it
    /// over.
    Fatal {
        /// How the store is broken.
        class: Option<FaultClass>,
    },
}

impl HostNote {
    /// Whom it is about, if it is about one peer.
    #[must_use]
    pub const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Welcomed { peer, .. }
            | Self::Pushed { peer, .. }
            | Self::Rejected { peer, .. }
            | Self::Refilled { peer, .. }
            | Self::Recalled { peer, .. }
            | Self::Synced { peer, .. }
            | Self::Closed { peer, .. }
            | Self::Alternates { peer, .. } => Some(*peer),
            Self::Ready { .. }
            | Self::Written { .. }
            | Self::Conflict { .. }
            | Self::Collected { .. }
            | Self::Damaged { .. }
            | Self::Renewed { .. }
            | Self::Scrubbed { .. }
            | Self::StoreFailed { .. }
            | Self::Fatal { .. } => None,
        }
    }
}

/// How far a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStanding {
    /// Which.
    pub peer: PeerId,
    /// All that concerns it up to here was given to its connection; `None` while it follows nothing yet.
    pub read: Option<Seq>,
    /// Bytes of that which its socket has not taken.
    pub unsent: usize,
}

/// What a host can tell of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Whether it serves.
    pub ready: bool,
    /// This run.
    pub epoch: Epoch,
    /// The last position.
    pub head: Seq,
    /// Its clock.
    pub clock: Hlc,
    /// Its horizon.
    pub horizon: Hlc,
    /// Peers, those included that are not welcomed yet.
    pub peers: usize,
    /// Rows, openings, refills and recalls that wait.
    pub waiting: usize,
    /// What was checked since the space was opened.
    pub scrubbed: Scrubbed,
    /// Root and number of records, by collection.
    pub collections: Vec<(CollectionName, Digest, usize)>,
}
