//! The machines of both ends, each on a store in memory that answers at once.

use rejoin_core::{
    id::{
        CollectionName, Epoch, FieldName, Incarnation, Pattern, RecordId, RecordKey, ReplicaId,
        SpaceId,
    },
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Output, Wish},
        host::{
            DirectRow, DirectWrite, Expected, Grant, Host, HostConfig, HostInput, HostOutput,
            MemoKey, PeerId,
        },
        limits::FRAME_BYTES_MAX,
        message::{Hello, Message, Place, Right, Subscription},
        wire::{Assembler, decode, split_frame},
    },
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::{block_on, memory::MemoryStore, rng::Rng},
    time::{Millis, MonoMillis, Now, WallMillis},
    tree::WalkLimits,
};
use std::collections::{BTreeSet, VecDeque};

/// Effects that one input may have: far more than any has that comes to an end.
const EFFECTS_MAX: usize = 100_000;

fn start() -> Now {
    Now { wall: WallMillis(1_700_000_000_000), mono: MonoMillis(1_000) }
}

fn space() -> SpaceId {
    SpaceId::parse("demo").expect("a name")
}

/// A host and what it said.
pub(crate) struct Server {
    host: Host,
    pub(crate) store: MemoryStore,
    now: Now,
    /// Messages on their way to peers.
    pub(crate) said: VecDeque<(PeerId, Vec<u8>)>,
    gone: Vec<PeerId>,
    calls: u64,
    answered: BTreeSet<u64>,
}

impl Server {
    pub(crate) fn on(store: MemoryStore) -> Self {
        Self::later_on(store, 0)
    }

    /// The same, so many milliseconds after everything has begun.
    pub(crate) fn later_on(store: MemoryStore, millis: u64) -> Self {
        let mut config = HostConfig::new(space(), Epoch::from_bytes([1; 16]), [9; 32]);
        config.scrub = Some(Millis(1_000));
        let now = later(start(), millis);
        let host = Host::open(config, now);
        let (said, gone, answered) = (VecDeque::new(), Vec::new(), BTreeSet::new());
        let mut server = Self { host, store, now, said, gone, calls: 0, answered };
        server.run();
        server
    }

    /// Opens a channel, as one who may write or only read.
    pub(crate) fn opened(&mut self, peer: PeerId, hello: Hello, writes: bool) {
        let principal = format!("p{}", hello.replica);
        self.put(HostInput::Opened { peer, hello, grant: grant(principal, writes) });
    }

    /// A new peer of its own id, whose hello is in order.
    pub(crate) fn greet(&mut self, peer: PeerId, writes: bool) {
        self.opened(peer, hello(peer), writes);
    }

    pub(crate) fn regrant(&mut self, peer: PeerId, writes: bool) {
        let principal = format!("p{}", hello(peer).replica);
        self.put(HostInput::Regranted { peer, grant: grant(principal, writes) });
    }

    pub(crate) fn hear(&mut self, peer: PeerId, bytes: Vec<u8>) {
        self.put(HostInput::Message { peer, bytes });
    }

    pub(crate) fn lose(&mut self, peer: PeerId) {
        self.put(HostInput::Gone { peer });
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = later(self.now, millis);
        self.put(HostInput::Deadline);
    }

    /// Somebody without a replica writes what `rng` draws, under one of a few names.
    pub(crate) fn call(&mut self, rng: &mut Rng) {
        self.calls += 1;
        let memo =
            MemoKey { name: [rng.one_of(1, &[2, 3]); 32], content: [rng.one_of(1, &[2]); 32] };
        let memo = (!rng.once_in(4)).then_some(memo);
        let rows = (0..=rng.below(3)).map(|_| called(rng)).collect();
        let grant = grant(rng.one_of("p1", &["p2"]).to_owned(), !rng.once_in(8));
        self.put(HostInput::Write(DirectWrite { number: self.calls, grant, rows, memo }));
    }

    /// Whether all who wrote without a replica have heard what became of it.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.len() as u64 == self.calls
    }

    fn put(&mut self, input: HostInput) {
        self.host.handle(self.now, input);
        self.run();
    }

    fn run(&mut self) {
        let mut effects = 0;
        while let Some(output) = self.host.poll() {
            effects += 1;
            assert!(effects < EFFECTS_MAX, "it comes to no end");
            let input = match output {
                HostOutput::Send { peer, bytes } => {
                    assert!(bytes.len() <= FRAME_BYTES_MAX);
                    self.said.push_back((peer, bytes.to_vec()));
                    HostInput::Sent { peer, bytes: bytes.len() }
                }
                HostOutput::Query { ticket, queries } => {
                    let result = Ok(block_on(self.store.read(&queries)).expect("memory"));
                    HostInput::Answered { ticket, result }
                }
                HostOutput::Commit { ticket, batch } => {
                    let result = Ok(block_on(self.store.commit(batch)).expect("memory"));
                    HostInput::Committed { ticket, result }
                }
                HostOutput::Close { peer, .. } => {
                    self.gone.push(peer);
                    continue;
                }
                HostOutput::Written { number, .. } => {
                    assert!(self.answered.insert(number), "one answer each");
                    continue;
                }
                _ => continue,
            };
            self.host.handle(self.now, input);
        }
    }

    /// Whether the peer is welcomed by what was said since it was last asked.
    pub(crate) fn welcomes(&mut self, whom: PeerId) -> bool {
        let said = std::mem::take(&mut self.said);
        said.iter()
            .any(|(peer, bytes)| *peer == whom && matches!(decode(bytes), Ok(Message::Welcome(_))))
    }
}

fn grant(principal: String, write: bool) -> Grant {
    Grant { principal, rights: vec![Right { pattern: Pattern::All, write }] }
}

fn hello(peer: PeerId) -> Hello {
    let number = peer.0.to_be_bytes()[7];
    Hello {
        versions: vec![1],
        features: u64::MAX,
        replica: ReplicaId::from_bytes([number; 16]),
        incarnation: Incarnation::from_bytes([number; 16]),
        known: Vec::new(),
        space: space(),
        token: None,
        clock: start().wall,
        subscriptions: vec![Subscription {
            id: 1,
            pattern: Pattern::All,
            cursor: None,
            place: Place::default(),
            root: None,
            time: rejoin_core::hlc::Hlc::ZERO,
        }],
        epochs: Vec::new(),
    }
}

fn later(now: Now, millis: u64) -> Now {
    Now { wall: WallMillis(now.wall.0 + millis), mono: MonoMillis(now.mono.0 + millis) }
}

/// An engine and what it said.
pub(crate) struct Device {
    pub(crate) engine: Engine,
    pub(crate) store: MemoryStore,
    now: Now,
    /// Messages on their way to the server.
    pub(crate) said: VecDeque<Vec<u8>>,
    assembler: Assembler,
    number: u8,
    connections: u8,
    asked: u64,
}

impl Device {
    pub(crate) fn on(store: MemoryStore, number: u8) -> Self {
        Self::later_on(store, number, 0)
    }

    /// The same, so many milliseconds after everything has begun.
    pub(crate) fn later_on(store: MemoryStore, number: u8, millis: u64) -> Self {
        let config = EngineConfig {
            space: Some(space()),
            patterns: vec![Pattern::All],
            fresh: ReplicaId::from_bytes([number; 16]),
            token: None,
            trace: false,
            walk: WalkLimits { sketched_entries_min: 1, ..WalkLimits::default() },
        };
        let engine = Engine::open(config).expect("one pattern");
        let (said, assembler, now) =
            (VecDeque::new(), Assembler::default(), later(start(), millis));
        let mut device =
            Self { engine, store, now, said, assembler, number, connections: 0, asked: 0 };
        device.run();
        device
    }

    pub(crate) fn put(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.run();
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = later(self.now, millis);
        self.put(Input::Deadline);
    }

    /// Opens a connection, if it wants one.
    pub(crate) fn connect(&mut self) {
        if !self.engine.status().leading {
            self.put(Input::Lead { token: [self.number; 16] });
        }
        if !self.engine.wants_connection() {
            return;
        }
        self.connections = self.connections.wrapping_add(1);
        let mut incarnation = [self.number; 16];
        incarnation[15] = self.connections;
        let mut fresh = [!self.number; 16];
        fresh[15] = self.connections;
        self.assembler = Assembler::default();
        self.put(Input::Connected {
            incarnation: Incarnation::from_bytes(incarnation),
            fresh: ReplicaId::from_bytes(fresh),
            salt: u64::from(self.connections),
        });
    }

    pub(crate) fn disconnect(&mut self) {
        self.said.clear();
        self.put(Input::Disconnected);
    }

    /// A message comes, the way frames do.
    pub(crate) fn hear(&mut self, message: &[u8]) {
        self.put(Input::Frame([&[0], message].concat()));
    }

    pub(crate) fn ask(&mut self, wish: Wish) {
        self.asked += 1;
        self.put(Input::Ask { id: self.asked, wish });
    }

    /// Writes what `rng` draws: records and fields of every kind, few enough to meet again.
    pub(crate) fn write(&mut self, rng: &mut Rng) {
        if !self.engine.is_open() {
            return;
        }
        let changes = (0..=rng.below(3)).map(|_| change(rng)).collect();
        self.ask(Wish::Write { changes, relaxed: rng.once_in(2) });
    }

    fn run(&mut self) {
        let mut effects = 0;
        while let Some(output) = self.engine.poll() {
            effects += 1;
            assert!(effects < EFFECTS_MAX, "it comes to no end");
            match output {
                Output::Query { ticket, queries } => {
                    let result = Ok(block_on(self.store.read(&queries)).expect("memory"));
                    self.engine.handle(self.now, Input::Answered { ticket, result });
                }
                Output::Commit { ticket, batch } => {
                    let result = Ok(block_on(self.store.commit(batch)).expect("memory"));
                    self.engine.handle(self.now, Input::Committed { ticket, result });
                }
                Output::Send(frame) => {
                    assert!(frame.len() <= FRAME_BYTES_MAX);
                    let (_, content) = split_frame(&frame).expect("a frame of its own");
                    if let Some(message) = self.assembler.take(content).expect("its parts") {
                        self.said.push_back(message.into_owned());
                    }
                }
                _ => {}
            }
        }
    }
}

fn change(rng: &mut Rng) -> Change {
    let collection = CollectionName::parse(rng.one_of("tasks", &["notes", "a/b"])).expect("a name");
    let id = RecordId::parse(rng.one_of("1", &["2", "3", "4"])).expect("a name");
    let fields = (0..=rng.below(3)).map(|_| field(rng)).collect();
    let action = match rng.below(8) {
        0 => Action::Remove { erase: rng.once_in(2) },
        1 => Action::Put(fields),
        2 => Action::Add(fields),
        3 => Action::Update(fields),
        _ => Action::Upsert(fields),
    };
    Change { key: RecordKey { collection, id }, action }
}

fn called(rng: &mut Rng) -> DirectRow {
    let changes: Vec<Change> = (0..=rng.below(2)).map(|_| change(rng)).collect();
    let key = change(rng).key;
    let expected = match rng.below(6) {
        0 => vec![(key, Expected::Live)],
        1 => vec![(key, Expected::Absent)],
        2 => vec![(key, Expected::OneOf(Vec::new()))],
        _ => Vec::new(),
    };
    DirectRow { expected, changes }
}

fn field(rng: &mut Rng) -> FieldChange {
    let name = rng.one_of("title", &["votes", "tags", "due"]);
    let value = Value::int(i64::try_from(rng.below(5)).expect("a small number"));
    let action = match rng.below(8) {
        0 => FieldAction::Add(3),
        1 => FieldAction::Insert(vec![value]),
        2 => FieldAction::Delete(vec![value]),
        3 => FieldAction::Replace(vec![value]),
        4 => FieldAction::Resolve(value),
        5 => FieldAction::Clear(rng.one_of(Kind::Lww, &[Kind::Set, Kind::Counter])),
        6 => FieldAction::Set(rng.one_of(Kind::Max, &[Kind::Min, Kind::Fww]), value),
        _ => FieldAction::Set(Kind::Lww, value),
    };
    FieldChange { field: FieldName::parse(name).expect("a name"), action }
}

/// Lets both talk, up to so many messages, and tells of each: `to_server`, and its bytes.
pub(crate) fn talk(
    device: &mut Device,
    server: &mut Server,
    peer: PeerId,
    messages_max: usize,
    mut passes: impl FnMut(bool, &[u8]),
) {
    for _ in 0..messages_max {
        if let Some(message) = device.said.pop_front() {
            passes(true, &message);
            match decode(&message) {
                Ok(Message::Hello(hello)) => server.opened(peer, hello, true),
                _ => server.hear(peer, message),
            }
        } else if let Some((to, message)) = server.said.pop_front() {
            if to == peer {
                passes(false, &message);
                device.hear(&message);
            }
        } else if server.gone.contains(&peer) {
            device.disconnect();
            return;
        } else {
            return;
        }
    }
}
