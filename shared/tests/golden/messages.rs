//! Messages whose bytes are pinned: every type, every variant, options both ways.

use crate::{
    UUID, collection, field, hlc, key,
    records::{delta, full},
    replica, stamp,
};
use rejoin_core::{
    codec::encode_record,
    hlc::Hlc,
    id::{Cursor, Digest, Epoch, Incarnation, Pattern, Seq, SpaceId},
    protocol::message::{
        Ack, AskChunk, AskRoots, Body, Bye, ByeCode, Changes, Chunk, ChunkFrom, ChunkRecord,
        Conflict, Copied, Entry, FEATURE_SKETCH, Hello, Identity, Kept, Left, Limits, Message,
        Mode, Origin, Other, Others, Outcome, PROOF_BYTES, Place, Presence, Push, PushRow,
        PushWrite, Recall, Recalled, Records, Refill, RefillOutcome, Refilled, RejectCode, Resume,
        Right, Roots, Stated, Subscription, Taken, Walk, Welcome,
    },
    record::{Record, Value},
    time::{Millis, WallMillis},
    tree::{
        Cell, ChildHash, Levels, NodeState, Prefix, SketchCells, WalkBody, WalkMessage, WalkNode,
    },
};

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn epoch(byte: u8) -> Epoch {
    Epoch::from_bytes([byte; 16])
}

fn place() -> Place {
    Place { seq: Seq(300), key: Some(key("tasks", UUID)) }
}

fn stated() -> Stated {
    Stated {
        seq: Seq(301),
        horizon: Hlc::ZERO,
        hlc: hlc(9),
        roots: vec![(0, digest(8)), (1, digest(9))],
    }
}

fn entry(id: &str, body: Body) -> Entry {
    Entry {
        key: key("tasks", id),
        seq: Seq(301),
        check: [3; 8],
        proof: [4; PROOF_BYTES],
        body,
        conflicts: Vec::new(),
    }
}

pub(crate) fn all() -> Vec<(&'static str, Message)> {
    let mut all = opening();
    all.extend(writing());
    all.extend(feed());
    all.extend(finding());
    all.extend(snapshot());
    all.extend(refilling());
    all.extend(closing());
    all.extend(present());
    all
}

const MODES: [Mode; 5] = [Mode::InSync, Mode::Feed, Mode::Heal, Mode::Snapshot, Mode::Rebase];

fn opening() -> Vec<(&'static str, Message)> {
    let subscription = |id, pattern, cursor: Option<Cursor>, place, root| {
        let time = cursor.map_or(Hlc::ZERO, |_| hlc(5));
        Subscription { id, pattern, cursor, place, root, time }
    };
    let cursor = Cursor { epoch: epoch(5), seq: Seq(300) };
    let hello = Hello {
        versions: vec![1],
        features: FEATURE_SKETCH,
        replica: replica(1),
        incarnation: Incarnation::from_bytes([2; 16]),
        known: Vec::new(),
        space: SpaceId::parse("team/1").unwrap(),
        token: None,
        clock: WallMillis(1_785_000_000_000),
        subscriptions: Vec::new(),
        epochs: Vec::new(),
    };
    let tasks = Pattern::Exact(collection("tasks"));
    let notes = Pattern::Prefix(collection("notes"));
    let returning = Hello {
        known: vec![Incarnation::from_bytes([3; 16])],
        token: Some("secret".to_owned()),
        subscriptions: vec![
            subscription(0, Pattern::All, None, Place::default(), None),
            subscription(1, tasks, Some(cursor), place(), Some(digest(7))),
            subscription(2, notes, Some(cursor), Place::at(Seq(300)), None),
        ],
        epochs: vec![epoch(5), epoch(6)],
        ..hello.clone()
    };
    let welcome = |accepted, identity| Welcome {
        version: 1,
        features: FEATURE_SKETCH,
        principal: "ada".to_owned(),
        rights: vec![
            Right { pattern: Pattern::All, write: false },
            Right { pattern: Pattern::Prefix(collection("tasks")), write: true },
        ],
        limits: Limits {
            frame_bytes: 1 << 20,
            record_bytes: 768 << 10,
            value_bytes: 256 << 10,
            batch_records: 1_000,
        },
        clock: WallMillis(1_785_000_000_001),
        epoch: epoch(6),
        horizon: Hlc::ZERO,
        lineage: vec![Left { epoch: epoch(5), seq: Seq(300), hlc: hlc(4) }],
        head: Seq(u64::MAX),
        accepted,
        identity,
        modes: (0..).zip(MODES).collect(),
        copied: accepted,
    };
    vec![
        ("hello_first", Message::Hello(hello)),
        ("hello_returning", Message::Hello(returning)),
        ("welcome_confirmed", Message::Welcome(welcome(Some(hlc(3)), Identity::Confirmed))),
        ("welcome_forked", Message::Welcome(welcome(None, Identity::Forked))),
        ("welcome_foreign", Message::Welcome(welcome(None, Identity::Foreign))),
    ]
}

fn writing() -> Vec<(&'static str, Message)> {
    let row = |number, time: u64| PushRow {
        number,
        hlc: hlc(time),
        origin: (time == 40).then(|| stamp(3, 39)),
        insisted: time == 40,
        digest: [6; 16],
        writes: vec![PushWrite {
            key: key("tasks", UUID),
            saw: [(replica(2), hlc(0))].into_iter().collect(),
            updates: number == 1,
            delta: delta(1, time),
        }],
    };
    let codes = [
        RejectCode::Forbidden,
        RejectCode::TooLarge,
        RejectCode::Forged,
        RejectCode::Invalid,
        RejectCode::RecordGone,
        RejectCode::Unsure,
        RejectCode::UpgradeServer,
    ];
    let rejected = (1..).zip(codes).map(|(number, code)| {
        let reason = "because".to_owned();
        (number, Outcome::Rejected { number, code, reason })
    });
    let (code, reason) = (RejectCode::Quota, "because".to_owned());
    let full = vec![(25, Outcome::Rejected { number: 12, code, reason })];
    let outcomes = [
        (20, Outcome::Accepted { seq: Seq(302) }),
        (21, Outcome::Returned { number: 8 }),
        (22, Outcome::Ahead { number: 9, by: Millis(61_000) }),
        (23, Outcome::Stale { number: 10, seq: Seq(250) }),
        (24, Outcome::Taken { number: 11, stamp: stamp(3, 39), seq: Seq(251) }),
    ];
    let origin = |replica, time, byte| Origin { stamp: stamp(replica, time), digest: [byte; 16] };
    let recall = Recall { rows: vec![origin(1, 5, 1), origin(2, 6, 2)] };
    let plain = Taken { origin: origin(1, 5, 1), stamp: stamp(1, 5), seq: Seq(252) };
    let other = Taken { origin: origin(2, 6, 2), stamp: stamp(3, 7), seq: Seq(253) };
    let recalled = Recalled { accepted: vec![plain, other], unsure: vec![origin(1, 4, 3)] };
    let copied = Copied { rows: vec![other] };
    let push = Push { named: 2, rows: vec![row(1, 50), row(2, 40)] };
    vec![
        ("push_nothing", Message::Push(Push::default())),
        ("push_rows", Message::Push(push)),
        ("ack_rejected", Message::Ack(Ack { outcomes: rejected.collect() })),
        ("ack_quota", Message::Ack(Ack { outcomes: full })),
        ("ack_others", Message::Ack(Ack { outcomes: outcomes.to_vec() })),
        ("recall", Message::Recall(recall)),
        ("recalled", Message::Recalled(recalled)),
        ("copied", Message::Copied(copied)),
    ]
}

fn feed() -> Vec<(&'static str, Message)> {
    let conflict =
        |value| Conflict { field: field("title"), won: stamp(1, 8), lost: stamp(2, 7), value };
    let contended = Entry {
        conflicts: vec![
            conflict(Some(Value::text("lost"))),
            conflict(Some(Value::Null)),
            conflict(None),
        ],
        ..entry("3", Body::Whole(full()))
    };
    let changes = Changes {
        subscriptions: vec![0, 1],
        after: place(),
        upto: Place::at(Seq(301)),
        cut: true,
        entries: vec![
            entry(UUID, Body::Delta(delta(2, 60))),
            entry("2", Body::Own(hlc(50))),
            contended,
        ],
        state: Some(stated()),
    };
    vec![
        ("changes_nothing", Message::Changes(Changes::default())),
        ("changes_entries", Message::Changes(changes)),
        ("resume", Message::Resume(Resume { subscription: 1, place: place(), time: hlc(2) })),
    ]
}

fn finding() -> Vec<(&'static str, Message)> {
    let walk = |body| {
        Message::Walk(Walk {
            subscription: 1,
            collection: collection("tasks"),
            message: WalkMessage { salt: 77, body },
        })
    };
    let node = |nibbles, packed: &[u8], state| WalkNode {
        prefix: Prefix::from_packed(nibbles, packed).unwrap(),
        state,
    };
    let child = |at, hash| ChildHash { at, hash };
    let nodes = vec![
        node(
            1,
            &[0x10],
            NodeState::Inner {
                levels: Levels::One,
                children: vec![child(0, 1), child(15, u32::MAX)],
            },
        ),
        node(
            2,
            &[0x20],
            NodeState::Inner { levels: Levels::Two, children: vec![child(255, 0x0102_0304)] },
        ),
        node(3, &[0x30, 0x10], NodeState::List(vec![0, 1, u32::MAX])),
        node(64, &[0x44; 32], NodeState::Want(vec![5])),
        node(1, &[0x50], NodeState::Open),
    ];
    let cells = vec![Cell::default(), Cell::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])];
    let ask_roots = |after| Message::AskRoots(AskRoots { subscription: 1, after });
    let roots = Roots {
        subscription: 1,
        seq: Seq(300),
        horizon: hlc(0),
        hlc: hlc(3),
        roots: vec![(collection("notes"), digest(1)), (collection("tasks"), digest(2))],
        more: true,
    };
    let records = Records { subscription: 1, entries: vec![entry("1", Body::Whole(full()))] };
    vec![
        ("ask_roots_first", ask_roots(None)),
        ("ask_roots_next", ask_roots(Some(collection("notes")))),
        ("roots", Message::Roots(roots)),
        ("walk_root", walk(WalkBody::Root(digest(1)))),
        ("walk_equal", walk(WalkBody::Equal)),
        ("walk_nodes", walk(WalkBody::Nodes(nodes))),
        ("walk_end", walk(WalkBody::End)),
        ("walk_cells", walk(WalkBody::Cells(SketchCells { cells, probes: vec![0x12, 0xff] }))),
        ("walk_wanted", walk(WalkBody::Wanted(vec![0, 0x0102_0304_0506_0708, u64::MAX]))),
        ("records", Message::Records(records)),
    ]
}

fn snapshot() -> Vec<(&'static str, Message)> {
    let record = |id, seq, record: &Record| ChunkRecord {
        key: key("tasks", id),
        seq: Seq(seq),
        proof: [4; PROOF_BYTES],
        bytes: encode_record(record),
    };
    let chunk =
        |ends, more, records| Message::Chunk(Chunk::pack(1, ends, (more, 100_000), records));
    let ask_chunk = |from| Message::AskChunk(AskChunk { subscription: 1, from });
    let last = || key("tasks", UUID);
    vec![
        ("ask_chunk_first", ask_chunk(ChunkFrom::Start)),
        ("ask_chunk_behind", ask_chunk(ChunkFrom::Behind(last()))),
        ("ask_chunk_next", ask_chunk(ChunkFrom::Next)),
        (
            "chunk_first",
            chunk(
                (None, Some(last())),
                true,
                vec![record("2", 301, &full()), record(UUID, 300, &full())],
            ),
        ),
        ("chunk_last", chunk((Some(last()), Some(last())), false, Vec::new())),
    ]
}

fn refilling() -> Vec<(&'static str, Message)> {
    let kept = |id, byte| Kept {
        key: key("tasks", id),
        epoch: epoch(byte),
        seq: Seq(301),
        proof: [4; PROOF_BYTES],
        record: full(),
    };
    let refill = Refill { subscription: 1, entries: vec![kept(UUID, 5), kept("2", 6)] };
    let codes = [RejectCode::Forbidden, RejectCode::Forged].map(RefillOutcome::Refused);
    let outcomes = core::iter::once(RefillOutcome::Joined(Seq(302))).chain(codes).collect();
    vec![
        ("refill", Message::Refill(refill)),
        ("refilled", Message::Refilled(Refilled { subscription: 1, outcomes })),
    ]
}

fn closing() -> Vec<(&'static str, Message)> {
    let pong = |state| Message::Pong { nonce: 24, state };
    let bye =
        |code, retry_after| Message::Bye(Bye { code, reason: "so long".to_owned(), retry_after });
    let codes = [
        ("bye_done", ByeCode::Done),
        ("bye_shutting_down", ByeCode::ShuttingDown),
        ("bye_version", ByeCode::Version),
        ("bye_unauthorized", ByeCode::Unauthorized),
        ("bye_no_space", ByeCode::NoSpace),
        ("bye_malformed", ByeCode::Malformed),
        ("bye_misbehaved", ByeCode::Misbehaved),
        ("bye_too_large", ByeCode::TooLarge),
        ("bye_slow_consumer", ByeCode::SlowConsumer),
        ("bye_superseded", ByeCode::Superseded),
        ("bye_storage", ByeCode::Storage),
        ("bye_storage_full", ByeCode::StorageFull),
        ("bye_internal", ByeCode::Internal),
    ];
    let mut all = vec![
        ("ping", Message::Ping { nonce: 24 }),
        ("pong", pong(None)),
        ("pong_stated", pong(Some(stated()))),
        ("refresh", Message::Refresh { token: "new".to_owned() }),
        ("bye_busy_later", bye(ByeCode::Busy, Some(Millis(5_000)))),
    ];
    all.extend(codes.map(|(name, code)| (name, bye(code, None))));
    all
}

fn present() -> Vec<(&'static str, Message)> {
    let value = || Value::Map([("x".to_owned(), Value::int(3))].into_iter().collect());
    let here = vec![(7, value()), (u64::MAX, Value::Null)];
    let other = |id, value| Other { id, principal: "ada".to_owned(), value };
    let others = vec![other(1, value()), other(300, Value::Bool(true))];
    vec![
        ("presence", Message::Presence(Presence { here, gone: vec![8] })),
        ("presence_asks", Message::Presence(Presence::default())),
        ("others", Message::Others(Others { anew: false, here: others, gone: vec![2, 301] })),
        ("others_nobody", Message::Others(Others { anew: true, ..Others::default() })),
    ]
}
