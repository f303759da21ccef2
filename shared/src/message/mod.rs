//! What peers say to each other, as values: their bytes in `wire`, their limits in `limits`, their
//! meaning in `docs/PROTOCOL.md`.
//!
//! Invariant: a message has one encoding, and what decodes is that encoding. Absent: what to do about
//! a message (see `protocol`), sockets, stores, clocks.

mod chunk;
pub mod limits;
mod presence;
pub mod wire;

pub use chunk::{ChunkFault, ChunkRecord, Packed};
pub use presence::{FEATURE_PRESENCE, Other, Others, Presence, PresenceError};

use crate::{
    hlc::{Hlc, Stamp},
    id::{
        CollectionName, Cursor, Digest, Epoch, FieldName, Incarnation, Pattern, RecordKey,
        ReplicaId, Seq, SpaceId,
    },
    record::{Record, Value, VersionVector},
    time::{Millis, WallMillis},
    tree::WalkMessage,
};
use alloc::{string::String, vec::Vec};

/// Bytes of a proof. One can only be tried out on a responder, so chance is one in 2^64 for each message.
pub const PROOF_BYTES: usize = 8;
/// The responder's mark on (space, key, digest, epoch, seq) of a record: that it has sent it so.
pub type Proof = [u8; PROOF_BYTES];

/// One message on a channel.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// Initiator: opens the channel.
    Hello(Hello),
    /// Responder: answers it.
    Welcome(Welcome),
    /// Initiator: outbox rows.
    Push(Push),
    /// Responder: what became of them, after the durable commit.
    Ack(Ack),
    /// Responder: part of the feed.
    Changes(Changes),
    /// Initiator: starts or moves a subscription's stream to a place.
    Resume(Resume),
    /// Initiator: asks for the collections of a subscription and their roots.
    AskRoots(AskRoots),
    /// Responder: answers it.
    Roots(Roots),
    /// Both: one step of a walk over one collection's tree.
    Walk(Walk),
    /// Responder: whole records that a walk or a chunk request brought up.
    Records(Records),
    /// Initiator: asks for a chunk of a snapshot.
    AskChunk(AskChunk),
    /// Responder: answers it.
    Chunk(Chunk),
    /// Initiator: which of these rows were accepted, as they are or as a copy?
    Recall(Recall),
    /// Responder: answers it.
    Recalled(Recalled),
    /// Both: are you there?
    Ping {
        /// Returned by the pong.
        nonce: u64,
    },
    /// Both: yes.
    Pong {
        /// Of the ping.
        nonce: u64,
        /// The responder's roots, by subscription; initiators state nothing.
        state: Option<Stated>,
    },
    /// Initiator: a new token for the same principal.
    Refresh {
        /// The token.
        token: String,
    },
    /// Both: the channel ends.
    Bye(Bye),
    /// Initiator: records that the responder has lost.
    Refill(Refill),
    /// Responder: what became of them, after the durable commit.
    Refilled(Refilled),
    /// Responder: rows of which another copy was accepted just now, ahead of the changes that bring it.
    Copied(Copied),
    /// Initiator: what its tabs show right now.
    Presence(Presence),
    /// Responder: what those of others show.
    Others(Others),
}

/// The feature of walks that open with a sketch.
pub const FEATURE_SKETCH: u64 = 1;

/// Opens a channel for one space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions spoken, best first.
    pub versions: Vec<u32>,
    /// Optional abilities, one bit each, as [`FEATURE_SKETCH`]. Bits that are not known mean nothing.
    pub features: u64,
    /// Who speaks.
    pub replica: ReplicaId,
    /// New for every session, stored before it is sent.
    pub incarnation: Incarnation,
    /// The last incarnation that was welcomed and all since, this one excluded.
    pub known: Vec<Incarnation>,
    /// Which space.
    pub space: SpaceId,
    /// Proof of the principal; never in a URL.
    pub token: Option<String>,
    /// The initiator's wall clock.
    pub clock: WallMillis,
    /// What it wants to hold.
    pub subscriptions: Vec<Subscription>,
    /// Epochs it knows from earlier welcomes, newest first.
    pub epochs: Vec<Epoch>,
}

/// One part of a space that the initiator holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Number on this channel.
    pub id: u32,
    /// Which collections.
    pub pattern: Pattern,
    /// How far it has the feed; `None` for a newcomer.
    pub cursor: Option<Cursor>,
    /// Where in the feed it stands, staged pages included; in the epoch of `cursor`.
    pub place: Place,
    /// The root of what it holds at `cursor`, if computed.
    pub root: Option<Digest>,
    /// The responder's clock when `cursor`, at the latest, was its head.
    pub time: Hlc,
}

/// A place in the feed: behind the entry (seq, key), or behind all of `seq` without a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Position.
    pub seq: Seq,
    /// The last entry of that position that is included; `None` means all.
    pub key: Option<RecordKey>,
}

impl Place {
    /// Behind all of `seq`.
    #[must_use]
    pub const fn at(seq: Seq) -> Self {
        Self { seq, key: None }
    }
}

/// Answers a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version spoken from here on.
    pub version: u32,
    /// Abilities that both have.
    pub features: u64,
    /// As whom the token identifies the initiator.
    pub principal: String,
    /// What the principal may do.
    pub rights: Vec<Right>,
    /// What the responder takes.
    pub limits: Limits,
    /// The responder's wall clock.
    pub clock: WallMillis,
    /// The responder's current run.
    pub epoch: Epoch,
    /// Dead records buried at or before this are not in the tree.
    pub horizon: Hlc,
    /// Where earlier epochs were left, newest first, as far as the hello's epochs need.
    pub lineage: Vec<Left>,
    /// The last position of the feed.
    pub head: Seq,
    /// The greatest stamp accepted from this replica (S).
    pub accepted: Option<Hlc>,
    /// Whether the replica id can be used.
    pub identity: Identity,
    /// How each subscription starts.
    pub modes: Vec<(u32, Mode)>,
    /// The greatest time of a row that was first this replica's and was accepted under another id: this
    /// replica was copied.
    pub copied: Option<Hlc>,
}

/// Whether a replica id can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// Yes.
    Confirmed,
    /// No: another copy of this replica was welcomed and this one does not know of it.
    Forked,
    /// No: it belongs to another principal.
    Foreign,
}

/// How a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Cursor at the head, roots equal: live from here.
    InSync,
    /// The cursor is good: the feed continues from the place.
    Feed,
    /// The cursor is not good: walk, then feed.
    Heal,
    /// Nothing held: snapshot, then feed.
    Snapshot,
    /// What is held is older than the horizon: a snapshot takes its place, then feed.
    Rebase,
}

/// Where the responder left an earlier epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The epoch left.
    pub epoch: Epoch,
    /// Its last position.
    pub seq: Seq,
    /// Its clock then.
    pub hlc: Hlc,
}

/// What a principal may do with some collections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// Which collections.
    pub pattern: Pattern,
    /// Whether it may write them; it may read them in any case.
    pub write: bool,
}

/// Limits that a responder states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame.
    pub frame_bytes: u32,
    /// Largest joined record.
    pub record_bytes: u32,
    /// Largest value.
    pub value_bytes: u32,
    /// Most records of a batch.
    pub batch_records: u32,
}

/// Outbox rows, in the order of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Push {
    /// The greatest [`Outcome`] number of this channel that the initiator has taken in; 0 at first.
    pub named: u64,
    /// The rows.
    pub rows: Vec<PushRow>,
}

/// One local commit: accepted or refused whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRow {
    /// The initiator's number for it, unique on this channel.
    pub number: u64,
    /// Its time; the replica is the hello's.
    pub hlc: Hlc,
    /// The stamp of its origin, where that is another one.
    pub origin: Option<Stamp>,
    /// Whether its user wants it to count although it may have counted before, under another stamp.
    pub insisted: bool,
    /// The digest of its origin: the same row again, or another one with its stamp?
    pub digest: [u8; 16],
    /// What it does to each record.
    pub writes: Vec<PushWrite>,
}

/// What a row was when it was first committed: the same for every copy of it, under whatever stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Its first stamp. Two copies of a replica may give it to different rows.
    pub stamp: Stamp,
    /// First 16 bytes of the digest of what it was to do.
    pub digest: [u8; 16],
}

/// A row that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Which one.
    pub origin: Origin,
    /// The stamp of the copy that was accepted.
    pub stamp: Stamp,
    /// Its position.
    pub seq: Seq,
}

/// What one row does to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushWrite {
    /// Which record.
    pub key: RecordKey,
    /// The record's `seen` as the writer saw it: tells a conflict from a succession.
    pub saw: VersionVector,
    /// Whether it updates a record that was there: it means nothing without that.
    pub updates: bool,
    /// The touched cells in full, and the changed entries of `seen` and `removed.seen`.
    pub delta: Record,
}

/// What became of rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ack {
    /// By row number.
    pub outcomes: Vec<(u64, Outcome)>,
}

/// What became of one row. Every outcome but acceptance has a number, ascending on a channel: rows that
/// touch its records are returned until a push names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Durable, at this position (again, for a row accepted before).
    Accepted {
        /// Its position.
        seq: Seq,
    },
    /// Refused for good.
    Rejected {
        /// Number of this outcome.
        number: u64,
        /// Why, for programs.
        code: RejectCode,
        /// Why, for people.
        reason: String,
    },
    /// It touches a record of a row that was not accepted; send it again.
    Returned {
        /// Number of this outcome.
        number: u64,
    },
    /// Its stamp is too far ahead; stamp it again.
    Ahead {
        /// Number of this outcome.
        number: u64,
        /// How far it is ahead of the responder's clock.
        by: Millis,
    },
    /// A cell's `since` is older than the responder's; send it again, replayed, once the feed has
    /// reached `seq`.
    Stale {
        /// Number of this outcome.
        number: u64,
        /// Where the feed has what is missing.
        seq: Seq,
    },
    /// Another copy of it was accepted before: it counts once, as that one.
    Taken {
        /// Number of this outcome.
        number: u64,
        /// The stamp of the copy.
        stamp: Stamp,
        /// Its position.
        seq: Seq,
    },
}

impl Outcome {
    /// Its number, by which the initiator names it; an accepted row has none.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        match self {
            Self::Accepted { .. } => None,
            Self::Rejected { number, .. }
            | Self::Returned { number }
            | Self::Ahead { number, .. }
            | Self::Stale { number, .. }
            | Self::Taken { number, .. } => Some(*number),
        }
    }
}

/// Why a row was refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectCode {
    /// No right to write there.
    Forbidden,
    /// The joined record, or the row, would be too large.
    TooLarge,
    /// A part of it speaks for another replica, or a stamp does not fit.
    Forged,
    /// A rule of the responder refused it.
    Invalid,
    /// It updates a record that is gone.
    RecordGone,
    /// Whether it was accepted before cannot be told any more.
    Unsure,
    /// The responder lacks a kind that it uses.
    UpgradeServer,
    /// It would add to a space that is full: what removes or shrinks is taken, and makes room.
    Quota,
}

/// Part of the feed, for one or several subscriptions that stand at the same place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Which subscriptions.
    pub subscriptions: Vec<u32>,
    /// Where they must stand.
    pub after: Place,
    /// Where they stand then.
    pub upto: Place,
    /// Whether `upto` is a cut: all since the last cut becomes visible together.
    pub cut: bool,
    /// At most one entry per record, by (seq, key).
    pub entries: Vec<Entry>,
    /// Roots, at a cut that is the head.
    pub state: Option<Stated>,
}

/// A record's latest change.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which record.
    pub key: RecordKey,
    /// Its position.
    pub seq: Seq,
    /// First 8 bytes of the digest of the resulting record.
    pub check: [u8; 8],
    /// Opaque, kept with the record.
    pub proof: Proof,
    /// What changed.
    pub body: Body,
    /// `lww` writes that lost against a write that did not know them; live only.
    pub conflicts: Vec<Conflict>,
}

/// How an entry says what changed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// The parts that changed since `after`; each replaces its predecessor.
    Delta(Record),
    /// The whole record.
    Whole(Record),
    /// Only the receiver's own rows up to this stamp: it has them.
    Own(Hlc),
}

/// A `lww` write that lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Which field.
    pub field: FieldName,
    /// The write that won.
    pub won: Stamp,
    /// The write that lost.
    pub lost: Stamp,
    /// What it had written. `None` where it had cleared the field, and where the record and the values of
    /// its newer conflicts leave no room for it in a frame.
    pub value: Option<Value>,
}

/// Roots at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The position.
    pub seq: Seq,
    /// Dead records buried at or before this are not in the tree.
    pub horizon: Hlc,
    /// The responder's clock when `seq` was the head.
    pub hlc: Hlc,
    /// By subscription.
    pub roots: Vec<(u32, Digest)>,
}

/// Starts or moves a subscription's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Which subscription.
    pub subscription: u32,
    /// From where.
    pub place: Place,
    /// The responder's clock when that, at the latest, was its head.
    pub time: Hlc,
}

/// Asks for collections and roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskRoots {
    /// Which subscription.
    pub subscription: u32,
    /// Behind which collection.
    pub after: Option<CollectionName>,
}

/// Collections and roots at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Which subscription.
    pub subscription: u32,
    /// The head when this was said.
    pub seq: Seq,
    /// Dead records buried at or before this are not in the trees.
    pub horizon: Hlc,
    /// The responder's clock then.
    pub hlc: Hlc,
    /// Collections that are not empty, by name.
    pub roots: Vec<(CollectionName, Digest)>,
    /// Whether more follow.
    pub more: bool,
}

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Which subscription.
    pub subscription: u32,
    /// Which collection.
    pub collection: CollectionName,
    /// The step.
    pub message: WalkMessage,
}

/// Whole records.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// Which subscription.
    pub subscription: u32,
    /// The records; each body is [`Body::Whole`].
    pub entries: Vec<Entry>,
}

/// Asks for one chunk of a subscription's snapshot. Several may be on their way: they are answered in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskChunk {
    /// Which subscription.
    pub subscription: u32,
    /// Where it is to begin.
    pub from: ChunkFrom,
}

/// Where a chunk is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkFrom {
    /// At the first collection.
    Start,
    /// Behind this record, wherever it was learnt of.
    Behind(RecordKey),
    /// Behind the chunk that answers the ask before this one.
    Next,
}

/// All records of a subscription between two of them, by collection and id.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Which subscription.
    pub subscription: u32,
    /// Behind which record it begins.
    pub after: Option<RecordKey>,
    /// The last record that it has, or would have. `None` only where nothing follows `after`.
    pub upto: Option<RecordKey>,
    /// Whether anything follows.
    pub more: bool,
    /// Records of the subscription, for progress.
    pub total: u64,
    /// The records.
    pub packed: Packed,
}

/// Rows that may have been accepted: under an id that is not to be used any more, or as another's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// Which.
    pub rows: Vec<Origin>,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// Those that were accepted.
    pub accepted: Vec<Taken>,
    /// Those of which it cannot be told any more.
    pub unsure: Vec<Origin>,
}

/// Rows that were accepted from another initiator, and of which this one may have a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Which.
    pub rows: Vec<Taken>,
}

/// Records that the responder has lost, as it once sent them.
#[derive(Debug, Clone, PartialEq)]
pub struct Refill {
    /// Which subscription.
    pub subscription: u32,
    /// The records.
    pub entries: Vec<Kept>,
}

/// A record as an initiator kept it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Which record.
    pub key: RecordKey,
    /// The epoch in which it came.
    pub epoch: Epoch,
    /// Its position then.
    pub seq: Seq,
    /// The proof that came with it.
    pub proof: Proof,
    /// The whole record.
    pub record: Record,
}

/// What became of records that were brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refilled {
    /// Which subscription.
    pub subscription: u32,
    /// One per record, in the order of the [`Refill`] that this answers.
    pub outcomes: Vec<RefillOutcome>,
}

/// What became of a record that was brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefillOutcome {
    /// What the responder stores holds it, durably: from this position on.
    Joined(Seq),
    /// Not taken.
    Refused(RejectCode),
}

/// The channel ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bye {
    /// Why, for programs.
    pub code: ByeCode,
    /// Why, for people.
    pub reason: String,
    /// When to try again; `None` leaves it to the backoff.
    pub retry_after: Option<Millis>,
}

/// Why a channel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ByeCode {
    /// In order.
    Done,
    /// The process stops; come back.
    ShuttingDown,
    /// No common version.
    Version,
    /// The token is missing, wrong or expired.
    Unauthorized,
    /// No such space, or no right to it: the two look the same.
    NoSpace,
    /// A frame that cannot be decoded.
    Malformed,
    /// A message that has no place here.
    Misbehaved,
    /// A frame, a row or a list is too large.
    TooLarge,
    /// The peer does not read; resume from the cursor.
    SlowConsumer,
    /// The same replica opened another session.
    Superseded,
    /// The store failed.
    Storage,
    /// The store is full.
    StorageFull,
    /// Too many of something.
    Busy,
    /// A defect of the sender of this message.
    Internal,
    /// What came is not what was sent: the line between loses, repeats, swaps or changes frames. Nobody's fault at
    /// either end, and nothing of it was taken in; a new connection may do better.
    BadLine,
}
