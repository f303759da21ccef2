//! Messages at random, the same on every platform for the same seed.

use super::{
    generators::{
        arbitrary_collection, arbitrary_field, arbitrary_hlc, arbitrary_key, arbitrary_record,
        arbitrary_replica, arbitrary_stamp, arbitrary_text, arbitrary_value, arbitrary_vector,
        maybe, some,
    },
    rng::Rng,
};
use crate::{
    codec::encode_record,
    id::{Cursor, Digest, Epoch, Incarnation, Pattern, Seq, SpaceId},
    protocol::message::{
        Ack, AskChunk, AskRoots, Body, Bye, ByeCode, Changes, Chunk, ChunkFrom, ChunkRecord,
        Conflict, Copied, Entry, Hello, Identity, Kept, Left, Limits, Message, Mode, Origin, Other,
        Others, Outcome, Place, Presence, Push, PushRow, PushWrite, Recall, Recalled, Records,
        Refill, RefillOutcome, Refilled, RejectCode, Resume, Right, Roots, Stated, Subscription,
        Taken, Walk, Welcome,
    },
    time::{Millis, WallMillis},
    tree::{
        Cell, ChildHash, Levels, NodeState, Prefix, SketchCells, WalkBody, WalkMessage, WalkNode,
    },
};

/// How many types of messages there are.
pub const MESSAGE_TYPES: u64 = 23;

/// A well-formed message of any type.
pub fn arbitrary_message(rng: &mut Rng) -> Message {
    let number = rng.below(MESSAGE_TYPES);
    arbitrary_message_of(rng, number)
}

/// A well-formed message of the type with this number, modulo [`MESSAGE_TYPES`].
pub fn arbitrary_message_of(rng: &mut Rng, number: u64) -> Message {
    match number % MESSAGE_TYPES {
        0 => Message::Hello(hello(rng)),
        1 => Message::Welcome(welcome(rng)),
        2 => Message::Push(Push { named: rng.any_size(), rows: some(rng, 3, row) }),
        3 => Message::Ack(Ack { outcomes: some(rng, 5, |rng| (rng.any_size(), outcome(rng))) }),
        4 => Message::Changes(changes(rng)),
        5 => Message::Resume(Resume {
            subscription: small(rng),
            place: place(rng),
            time: arbitrary_hlc(rng),
        }),
        6 => Message::AskRoots(AskRoots {
            subscription: small(rng),
            after: maybe(rng, arbitrary_collection),
        }),
        7 => Message::Roots(Roots {
            subscription: small(rng),
            seq: seq(rng),
            horizon: arbitrary_hlc(rng),
            hlc: arbitrary_hlc(rng),
            roots: some(rng, 4, |rng| (arbitrary_collection(rng), digest(rng))),
            more: rng.once_in(2),
        }),
        8 => Message::Walk(Walk {
            subscription: small(rng),
            collection: arbitrary_collection(rng),
            message: walk(rng),
        }),
        9 => Message::Records(Records {
            subscription: small(rng),
            entries: some(rng, 3, whole_entry),
        }),
        10 => Message::AskChunk(AskChunk { subscription: small(rng), from: chunk_from(rng) }),
        11 => Message::Chunk(arbitrary_chunk(rng)),
        12 => Message::Recall(Recall { rows: some(rng, 4, origin) }),
        13 => Message::Recalled(Recalled {
            accepted: some(rng, 4, taken),
            unsure: some(rng, 2, origin),
        }),
        14 => Message::Ping { nonce: rng.any_size() },
        15 => Message::Pong { nonce: rng.any_size(), state: maybe(rng, stated) },
        16 => Message::Refresh { token: arbitrary_text(rng) },
        17 => Message::Bye(bye(rng)),
        18 => Message::Refill(Refill {
            subscription: small(rng),
            entries: some(rng, 3, |rng| Kept {
                key: arbitrary_key(rng),
                epoch: epoch(rng),
                seq: seq(rng),
                proof: rng.bytes(),
                record: arbitrary_record(rng),
            }),
        }),
        19 => Message::Refilled(Refilled {
            subscription: small(rng),
            outcomes: some(rng, 3, |rng| match rng.below(2) {
                0 => RefillOutcome::Joined(seq(rng)),
                _ => RefillOutcome::Refused(reject_code(rng)),
            }),
        }),
        20 => Message::Copied(Copied { rows: some(rng, 3, taken) }),
        21 => Message::Presence(presence(rng)),
        _ => Message::Others(others(rng)),
    }
}

fn presence(rng: &mut Rng) -> Presence {
    Presence {
        here: some(rng, 3, |rng| (rng.any_size(), arbitrary_value(rng))),
        gone: some(rng, 2, Rng::any_size),
    }
}

fn others(rng: &mut Rng) -> Others {
    Others {
        anew: rng.once_in(2),
        here: some(rng, 3, |rng| Other {
            id: rng.any_size(),
            principal: arbitrary_text(rng),
            value: arbitrary_value(rng),
        }),
        gone: some(rng, 2, Rng::any_size),
    }
}

/// Any 32 bits, small numbers more often.
fn small(rng: &mut Rng) -> u32 {
    u32::try_from(rng.any_size()).unwrap_or(7)
}

fn seq(rng: &mut Rng) -> Seq {
    Seq(rng.any_size())
}

fn digest(rng: &mut Rng) -> Digest {
    Digest::from_bytes(rng.bytes())
}

fn epoch(rng: &mut Rng) -> Epoch {
    Epoch::from_bytes(rng.bytes())
}

fn place(rng: &mut Rng) -> Place {
    Place { seq: seq(rng), key: maybe(rng, arbitrary_key) }
}

fn pattern(rng: &mut Rng) -> Pattern {
    match rng.below(3) {
        0 => Pattern::All,
        1 => Pattern::Exact(arbitrary_collection(rng)),
        _ => Pattern::Prefix(arbitrary_collection(rng)),
    }
}

/// A prefix of any length.
pub fn arbitrary_prefix(rng: &mut Rng) -> Prefix {
    let [.., nibbles] = rng.below(65).to_be_bytes();
    Prefix::of(&digest(rng), nibbles)
}

fn hello(rng: &mut Rng) -> Hello {
    Hello {
        versions: some(rng, 3, small),
        features: rng.any_size(),
        replica: arbitrary_replica(rng),
        incarnation: Incarnation::from_bytes(rng.bytes()),
        known: some(rng, 3, |rng| Incarnation::from_bytes(rng.bytes())),
        space: loop {
            if let Ok(space) = SpaceId::parse(&arbitrary_text(rng)) {
                break space;
            }
        },
        token: maybe(rng, arbitrary_text),
        clock: WallMillis(rng.any_size()),
        subscriptions: some(rng, 3, |rng| Subscription {
            id: small(rng),
            pattern: pattern(rng),
            cursor: maybe(rng, |rng| Cursor { epoch: epoch(rng), seq: seq(rng) }),
            place: place(rng),
            root: maybe(rng, digest),
            time: arbitrary_hlc(rng),
        }),
        epochs: some(rng, 3, epoch),
    }
}

fn welcome(rng: &mut Rng) -> Welcome {
    Welcome {
        version: small(rng),
        features: rng.any_size(),
        principal: arbitrary_text(rng),
        rights: some(rng, 3, |rng| Right { pattern: pattern(rng), write: rng.once_in(2) }),
        limits: Limits {
            frame_bytes: small(rng),
            record_bytes: small(rng),
            value_bytes: small(rng),
            batch_records: small(rng),
        },
        clock: WallMillis(rng.any_size()),
        epoch: epoch(rng),
        horizon: arbitrary_hlc(rng),
        lineage: some(rng, 3, |rng| Left {
            epoch: epoch(rng),
            seq: seq(rng),
            hlc: arbitrary_hlc(rng),
        }),
        head: seq(rng),
        accepted: maybe(rng, arbitrary_hlc),
        identity: rng.one_of(Identity::Confirmed, &[Identity::Forked, Identity::Foreign]),
        modes: some(rng, 3, |rng| {
            let mode =
                rng.one_of(Mode::InSync, &[Mode::Feed, Mode::Heal, Mode::Snapshot, Mode::Rebase]);
            (small(rng), mode)
        }),
        copied: maybe(rng, arbitrary_hlc),
    }
}

fn origin(rng: &mut Rng) -> Origin {
    Origin { stamp: arbitrary_stamp(rng), digest: rng.bytes() }
}

fn taken(rng: &mut Rng) -> Taken {
    let origin = origin(rng);
    let stamp = if rng.once_in(2) { origin.stamp } else { arbitrary_stamp(rng) };
    Taken { origin, stamp, seq: seq(rng) }
}

fn row(rng: &mut Rng) -> PushRow {
    PushRow {
        number: rng.any_size(),
        hlc: arbitrary_hlc(rng),
        origin: maybe(rng, arbitrary_stamp),
        insisted: rng.once_in(2),
        digest: rng.bytes(),
        writes: some(rng, 2, |rng| PushWrite {
            key: arbitrary_key(rng),
            saw: arbitrary_vector(rng),
            updates: rng.once_in(2),
            delta: arbitrary_record(rng),
        }),
    }
}

fn outcome(rng: &mut Rng) -> Outcome {
    let number = rng.any_size();
    match rng.below(6) {
        0 => Outcome::Accepted { seq: seq(rng) },
        1 => Outcome::Rejected { number, code: reject_code(rng), reason: reason(rng) },
        2 => Outcome::Returned { number },
        3 => Outcome::Ahead { number, by: Millis(rng.any_size()) },
        4 => Outcome::Taken { number, stamp: arbitrary_stamp(rng), seq: seq(rng) },
        _ => Outcome::Stale { number, seq: seq(rng) },
    }
}

fn reject_code(rng: &mut Rng) -> RejectCode {
    rng.one_of(
        RejectCode::Forbidden,
        &[
            RejectCode::TooLarge,
            RejectCode::Forged,
            RejectCode::Invalid,
            RejectCode::RecordGone,
            RejectCode::Unsure,
            RejectCode::UpgradeServer,
        ],
    )
}

fn reason(rng: &mut Rng) -> alloc::string::String {
    arbitrary_text(rng).chars().take(100).collect()
}

fn changes(rng: &mut Rng) -> Changes {
    Changes {
        subscriptions: some(rng, 3, small),
        after: place(rng),
        upto: place(rng),
        cut: rng.once_in(2),
        entries: some(rng, 4, |rng| {
            let entry = whole_entry(rng);
            let body = match rng.below(3) {
                0 => entry.body,
                1 => Body::Delta(arbitrary_record(rng)),
                _ => Body::Own(arbitrary_hlc(rng)),
            };
            let conflicts = some(rng, 1, conflict);
            Entry { body, conflicts, ..entry }
        }),
        state: maybe(rng, stated),
    }
}

fn whole_entry(rng: &mut Rng) -> Entry {
    Entry {
        key: arbitrary_key(rng),
        seq: seq(rng),
        check: rng.bytes(),
        proof: rng.bytes(),
        body: Body::Whole(arbitrary_record(rng)),
        conflicts: some(rng, 0, conflict),
    }
}

fn conflict(rng: &mut Rng) -> Conflict {
    Conflict {
        field: arbitrary_field(rng),
        won: arbitrary_stamp(rng),
        lost: arbitrary_stamp(rng),
        value: maybe(rng, arbitrary_value),
    }
}

fn stated(rng: &mut Rng) -> Stated {
    Stated {
        seq: seq(rng),
        horizon: arbitrary_hlc(rng),
        hlc: arbitrary_hlc(rng),
        roots: some(rng, 3, |rng| (small(rng), digest(rng))),
    }
}

fn walk(rng: &mut Rng) -> WalkMessage {
    let salt = rng.next_u64();
    let body = match rng.below(7) {
        0 => WalkBody::Root(digest(rng)),
        1 => WalkBody::Equal,
        2 => WalkBody::End,
        3 => WalkBody::Cells(SketchCells {
            cells: some(rng, 9, |rng| Cell::from_bytes(rng.bytes())),
            probes: some(rng, 60, Rng::byte),
        }),
        4 => WalkBody::Wanted(some(rng, 9, Rng::next_u64)),
        _ => WalkBody::Nodes(some(rng, 4, |rng| WalkNode {
            prefix: arbitrary_prefix(rng),
            state: node_state(rng),
        })),
    };
    WalkMessage { salt, body }
}

fn node_state(rng: &mut Rng) -> NodeState {
    match rng.below(4) {
        0 => NodeState::Inner {
            levels: rng.one_of(Levels::One, &[Levels::Two]),
            children: some(rng, 16, |rng| ChildHash { at: rng.byte(), hash: small(rng) }),
        },
        1 => NodeState::List(some(rng, 64, small)),
        2 => NodeState::Want(some(rng, 64, small)),
        _ => NodeState::Open,
    }
}

/// A chunk whose records can be opened, deflated or not.
pub fn arbitrary_chunk(rng: &mut Rng) -> Chunk {
    let records = some(rng, 4, |rng| ChunkRecord {
        key: arbitrary_key(rng),
        seq: seq(rng),
        proof: rng.bytes(),
        bytes: encode_record(&arbitrary_record(rng)),
    });
    let ends = (maybe(rng, arbitrary_key), maybe(rng, arbitrary_key));
    let outlook = (rng.once_in(2), rng.any_size());
    let chunk = Chunk::pack(small(rng), ends, outlook, records);
    if rng.once_in(2) { chunk.deflated() } else { chunk }
}

fn chunk_from(rng: &mut Rng) -> ChunkFrom {
    match rng.below(3) {
        0 => ChunkFrom::Start,
        1 => ChunkFrom::Behind(arbitrary_key(rng)),
        _ => ChunkFrom::Next,
    }
}

fn bye(rng: &mut Rng) -> Bye {
    Bye {
        code: rng.one_of(
            ByeCode::Done,
            &[
                ByeCode::ShuttingDown,
                ByeCode::Version,
                ByeCode::Unauthorized,
                ByeCode::NoSpace,
                ByeCode::Malformed,
                ByeCode::Misbehaved,
                ByeCode::TooLarge,
                ByeCode::SlowConsumer,
                ByeCode::Superseded,
                ByeCode::Storage,
                ByeCode::StorageFull,
                ByeCode::Busy,
                ByeCode::Internal,
                ByeCode::BadLine,
            ],
        ),
        reason: reason(rng),
        retry_after: maybe(rng, |rng| Millis(rng.any_size())),
    }
}
