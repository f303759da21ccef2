//! Engines and a host, each on a store in memory, and lines between them that carry what they are told to.

use rejoin_core::{
    codec::seal,
    hlc::Hlc,
    id::{
        CollectionName, Epoch, FieldName, Incarnation, Pattern, RecordId, RecordKey, ReplicaId,
        SpaceId,
    },
    io::{Answer, Batch, CommitOutcome, FaultClass, Keyspace, Query, Row, Ticket},
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Notice, Output, Receipt, Wish, WishError},
        host::{Grant, Host, HostConfig, HostInput, HostNote, HostOutput, PeerId},
        message::{Bye, Hello, Identity, Limits, Message, Mode, Right, Walk, Welcome},
        wire::{self, Assembler},
    },
    record::{Kind, State, Value},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::{block_on, memory::MemoryStore},
    time::{Millis, MonoMillis, Now, WallMillis},
    tree::{WalkBody, WalkLimits, WalkMessage},
};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const WALL: u64 = 1_700_000_000_000;

pub(crate) fn start() -> Now {
    Now { wall: WallMillis(WALL), mono: MonoMillis(1_000) }
}

pub(crate) fn after(now: Now, millis: u64) -> Now {
    Now { wall: WallMillis(now.wall.0 + millis), mono: MonoMillis(now.mono.0 + millis) }
}

/// What a store does with the next operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails so; `true`: a commit happens all the same.
    Once(FaultClass, bool),
    /// Fails so from here on, and nothing happens.
    Always(FaultClass),
}

/// An engine, its store, and what came out of it.
pub(crate) struct Client {
    pub(crate) engine: Engine,
    pub(crate) store: MemoryStore,
    pub(crate) now: Now,
    pub(crate) done: BTreeMap<u64, Result<Receipt, WishError>>,
    pub(crate) notices: Vec<Notice>,
    /// Frames on their way to the peer.
    pub(crate) sent: VecDeque<Vec<u8>>,
    assembler: Assembler,
    pub(crate) closed: Vec<Option<Millis>>,
    pub(crate) commit_fault: Option<Fault>,
    pub(crate) read_fault: Option<Fault>,
    /// Store operations wait here instead of being carried out.
    pub(crate) hold: bool,
    /// Commits that were carried out.
    pub(crate) commits: usize,
    held: VecDeque<Output>,
    peer: Option<PeerId>,
    number: u8,
    asked: u64,
    pub(crate) connections: u8,
}

pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

impl Client {
    pub(crate) fn new(number: u8, patterns: &[&str]) -> Self {
        Self::on(MemoryStore::new(), number, patterns)
    }

    pub(crate) fn on(store: MemoryStore, number: u8, patterns: &[&str]) -> Self {
        let mut client = Self::unread(store, number, patterns);
        client.run();
        client
    }

    /// Its walks are held to other limits.
    pub(crate) fn with(
        store: MemoryStore,
        number: u8,
        patterns: &[&str],
        walk: WalkLimits,
    ) -> Self {
        let mut client = Self::configured(store, number, patterns, |config| config.walk = walk);
        client.run();
        client
    }

    /// Its store was not read yet.
    pub(crate) fn unread(store: MemoryStore, number: u8, patterns: &[&str]) -> Self {
        Self::configured(store, number, patterns, |_| {})
    }

    /// Its store was not read yet.
    pub(crate) fn of_space(
        store: MemoryStore,
        number: u8,
        patterns: &[&str],
        space: Option<&str>,
    ) -> Self {
        let space = space.map(|space| SpaceId::parse(space).unwrap());
        Self::configured(store, number, patterns, |config| config.space = space)
    }

    fn configured(
        store: MemoryStore,
        number: u8,
        patterns: &[&str],
        configure: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let mut config = EngineConfig {
            space: Some(SpaceId::parse("demo").unwrap()),
            patterns: patterns.iter().map(|text| pattern(text)).collect(),
            fresh: ReplicaId::from_bytes([number; 16]),
            token: None,
            trace: false,
            walk: WalkLimits::default(),
        };
        configure(&mut config);
        Self {
            engine: Engine::open(config).unwrap(),
            store,
            now: start(),
            done: BTreeMap::new(),
            notices: Vec::new(),
            sent: VecDeque::new(),
            assembler: Assembler::default(),
            closed: Vec::new(),
            commit_fault: None,
            read_fault: None,
            hold: false,
            commits: 0,
            held: VecDeque::new(),
            peer: None,
            number,
            asked: 0,
            connections: 0,
        }
    }

    /// A copy of its store in other hands.
    pub(crate) fn copied(&self, number: u8, patterns: &[&str]) -> Self {
        let store = MemoryStore::new();
        store.restore(self.store.snapshot());
        Self::on(store, number, patterns)
    }

    /// The same store in other hands.
    pub(crate) fn reopen(&self, patterns: &[&str]) -> Self {
        let mut client = Self::on(self.store.clone(), self.number, patterns);
        client.now = self.now;
        client.connections = self.connections + 64;
        client
    }

    pub(crate) fn put(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.run();
    }

    pub(crate) fn release(&mut self) {
        self.hold = false;
        self.run();
    }

    /// Whether a store operation waits.
    pub(crate) fn waits(&self) -> bool {
        !self.held.is_empty()
    }

    /// Carries out the store operation that waits, and no other.
    pub(crate) fn step(&mut self) {
        match self.held.pop_front() {
            Some(Output::Query { ticket, queries }) => self.query(ticket, &queries),
            Some(Output::Commit { ticket, batch }) => self.commit(ticket, batch),
            _ => {}
        }
        self.run();
    }

    pub(crate) fn run(&mut self) {
        loop {
            while let Some(output) = self.engine.poll() {
                match output {
                    Output::Query { .. } | Output::Commit { .. } => self.held.push_back(output),
                    Output::Send(frame) => self.takes(&frame),
                    Output::Close { retry_after, .. } => {
                        self.closed.push(retry_after);
                        self.peer = None;
                    }
                    Output::Done { id, result } => {
                        assert!(self.done.insert(id, result).is_none(), "answered once");
                    }
                    Output::Notice(notice) => self.notices.push(notice),
                }
            }
            if self.hold {
                return;
            }
            match self.held.pop_front() {
                Some(Output::Query { ticket, queries }) => self.query(ticket, &queries),
                Some(Output::Commit { ticket, batch }) => self.commit(ticket, batch),
                _ => return,
            }
        }
    }

    fn query(&mut self, ticket: Ticket, queries: &[Query]) {
        let result: Result<Vec<Answer>, FaultClass> = match strike(&mut self.read_fault) {
            Some((class, _)) => Err(class),
            None => Ok(block_on(self.store.read(queries)).unwrap()),
        };
        self.engine.handle(self.now, Input::Answered { ticket, result });
    }

    fn commit(&mut self, ticket: Ticket, batch: Batch) {
        self.commits += 1;
        let result = match strike(&mut self.commit_fault) {
            Some((class, happens)) => {
                if happens {
                    apply(&self.store, batch);
                }
                Err(class)
            }
            None => Ok(block_on(self.store.commit(batch)).unwrap()),
        };
        self.engine.handle(self.now, Input::Committed { ticket, result });
    }

    /// Keeps what was sent as whole messages.
    fn takes(&mut self, frame: &[u8]) {
        let (_, content) = wire::split_frame(frame).unwrap();
        if let Some(message) = self.assembler.take(content).unwrap() {
            self.sent.push_back([&[0], message.as_ref()].concat());
        }
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = after(self.now, millis);
        self.put(Input::Deadline);
    }

    pub(crate) fn lead(&mut self) {
        let token = [self.number; 16];
        self.put(Input::Lead { token });
    }

    /// Leads, if it does not yet, and opens a connection.
    pub(crate) fn connect(&mut self) {
        if !self.engine.status().leading {
            self.lead();
        }
        assert!(self.engine.wants_connection());
        self.connections += 1;
        let mut incarnation = [self.number; 16];
        incarnation[15] = self.connections;
        let mut fresh = [self.number ^ 0x80; 16];
        fresh[15] = self.connections;
        self.put(Input::Connected {
            incarnation: Incarnation::from_bytes(incarnation),
            fresh: ReplicaId::from_bytes(fresh),
            salt: u64::from(self.connections),
        });
    }

    /// Whether the peer knows of its connection.
    pub(crate) const fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    pub(crate) fn disconnect(&mut self) {
        self.sent.clear();
        self.peer = None;
        self.put(Input::Disconnected);
    }

    pub(crate) fn ask(&mut self, wish: Wish) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.put(Input::Ask { id, wish });
        id
    }

    pub(crate) fn write(&mut self, changes: Vec<Change>) -> u64 {
        self.ask(Wish::Write { changes, relaxed: false })
    }

    /// Writes, and returns the row's number.
    pub(crate) fn written(&mut self, changes: Vec<Change>) -> u64 {
        let id = self.write(changes);
        self.done.get(&id).unwrap().as_ref().unwrap().number
    }

    /// Takes a message from the peer.
    pub(crate) fn hear(&mut self, message: &Message) {
        self.put(Input::Frame(wire::encode_frame(0, message)));
    }

    /// What was sent since the last call.
    pub(crate) fn said(&mut self) -> Vec<Message> {
        let frames = core::mem::take(&mut self.sent);
        let decoded = frames.iter().map(|frame| {
            let (_, message) = wire::split_frame(frame).unwrap();
            wire::decode(message).unwrap()
        });
        decoded.collect()
    }

    pub(crate) fn hello(&mut self) -> Hello {
        match self.said().into_iter().next() {
            Some(Message::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn total(&self, key: &RecordKey, name: &str) -> i64 {
        let record = self.engine.replica().view(key).unwrap();
        match record.cells.get(&(field(name), Kind::Counter)).map(|cell| &cell.state) {
            Some(State::Counter(counter)) => counter.total(),
            _ => 0,
        }
    }

    pub(crate) fn is_agreed(&self) -> bool {
        let status = self.engine.status();
        status.is_verified && status.link == Link::Live && status.pending == 0
    }

    pub(crate) fn rejected(&self) -> Vec<u64> {
        let rejected = self.notices.iter().filter_map(|notice| match notice {
            Notice::Rejected { number, .. } => Some(*number),
            _ => None,
        });
        rejected.collect()
    }
}

fn strike(fault: &mut Option<Fault>) -> Option<(FaultClass, bool)> {
    match *fault {
        Some(Fault::Once(class, happens)) => {
            *fault = None;
            Some((class, happens))
        }
        Some(Fault::Always(class)) => Some((class, false)),
        None => None,
    }
}

/// A host, and the peers that the clients are to it.
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) store: MemoryStore,
    pub(crate) now: Now,
    /// What nobody may write.
    pub(crate) locked: Option<CollectionName>,
    /// Records sent to each peer, with how often.
    pub(crate) delivered: BTreeMap<(PeerId, RecordKey), usize>,
    /// Chunks still to be sent with a digest that is not theirs.
    pub(crate) damaged_chunks: usize,
    /// Chunks still to be sent with a bit that is not theirs: which one.
    pub(crate) flipped_bits: Vec<usize>,
    /// Chunks sent.
    pub(crate) chunks: usize,
    /// Whether each sketch that comes finds nothing.
    pub(crate) confused: bool,
    /// Steps of walks, both ways.
    pub(crate) walks: Vec<WalkMessage>,
    pub(crate) notes: Vec<HostNote>,
    pub(crate) read_fault: Option<Fault>,
    inbox: BTreeMap<PeerId, VecDeque<Vec<u8>>>,
    gone: BTreeMap<PeerId, Bye>,
    peers: u64,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::on(MemoryStore::new(), 1)
    }

    pub(crate) fn on(store: MemoryStore, number: u8) -> Self {
        Self::with(store, number, |_| {})
    }

    pub(crate) fn with(
        store: MemoryStore,
        number: u8,
        configure: impl FnOnce(&mut HostConfig),
    ) -> Self {
        let epoch = Epoch::from_bytes([number; 16]);
        let mut config = HostConfig::new(SpaceId::parse("demo").unwrap(), epoch, [9; 32]);
        configure(&mut config);
        let mut server = Self {
            host: Host::open(config, start()),
            store,
            now: start(),
            locked: None,
            delivered: BTreeMap::new(),
            damaged_chunks: 0,
            flipped_bits: Vec::new(),
            chunks: 0,
            confused: false,
            walks: Vec::new(),
            notes: Vec::new(),
            read_fault: None,
            inbox: BTreeMap::new(),
            gone: BTreeMap::new(),
            peers: u64::from(number) * 1_000,
        };
        server.run();
        server
    }

    pub(crate) fn put(&mut self, input: HostInput) {
        self.host.handle(self.now, input);
        self.run();
    }

    pub(crate) fn run(&mut self) {
        while let Some(output) = self.host.poll() {
            self.carry_out(output);
        }
    }

    pub(crate) fn carry_out(&mut self, output: HostOutput) {
        match output {
            HostOutput::Send { peer, bytes } => {
                self.count(peer, &bytes);
                let mut frame = vec![0];
                frame.extend(self.damaged(&bytes));
                self.inbox.entry(peer).or_default().push_back(frame);
                let input = HostInput::Sent { peer, bytes: bytes.len() };
                self.host.handle(self.now, input);
            }
            HostOutput::Query { ticket, queries } => {
                let result = match strike(&mut self.read_fault) {
                    Some((class, _)) => Err(class),
                    None => Ok(block_on(self.store.read(&queries)).unwrap()),
                };
                self.host.handle(self.now, HostInput::Answered { ticket, result });
            }
            HostOutput::Commit { ticket, batch } => {
                let result = Ok(block_on(self.store.commit(batch)).unwrap());
                self.host.handle(self.now, HostInput::Committed { ticket, result });
            }
            HostOutput::Close { peer, bye } => {
                self.gone.insert(peer, bye);
            }
            HostOutput::Note(note) => self.notes.push(note),
            other => panic!("{other:?}"),
        }
    }

    fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        match wire::decode(bytes).unwrap() {
            Message::Chunk(mut chunk) if self.damaged_chunks > 0 => {
                self.damaged_chunks -= 1;
                chunk.packed.sum[0] ^= 1;
                wire::encode(&Message::Chunk(chunk))
            }
            Message::Chunk(_) => {
                let mut bytes = wire::deflated(bytes).unwrap_or_else(|| bytes.to_vec());
                if let Some(bit) = self.flipped_bits.pop() {
                    let at = bit % (bytes.len() * 8);
                    bytes[at / 8] ^= 1 << (at % 8);
                }
                bytes
            }
            _ => bytes.to_vec(),
        }
    }

    fn count(&mut self, peer: PeerId, message: &[u8]) {
        let entries = match wire::decode(message).unwrap() {
            Message::Changes(changes) => changes.entries,
            Message::Records(records) => records.entries,
            Message::Walk(walk) => {
                self.walks.push(walk.message);
                return;
            }
            Message::Chunk(chunk) => {
                self.chunks += 1;
                for record in chunk.open().unwrap().unwrap_or_default() {
                    *self.delivered.entry((peer, record.key)).or_default() += 1;
                }
                return;
            }
            _ => return,
        };
        for entry in entries {
            *self.delivered.entry((peer, entry.key)).or_default() += 1;
        }
    }

    /// Takes what a client has sent; its hello opens a peer.
    fn take(&mut self, client: &mut Client) -> bool {
        let Some(frame) = client.sent.pop_front() else { return false };
        let (_, bytes) = wire::split_frame(&frame).unwrap();
        if let (None, Message::Hello(hello)) = (client.peer, wire::decode(bytes).unwrap()) {
            self.peers += 1;
            let peer = PeerId(self.peers);
            client.peer = Some(peer);
            // A token is its principal's name.
            let principal = hello.token.clone().unwrap_or_else(|| String::from("ann"));
            let grant = Grant { principal, rights: self.rights() };
            self.put(HostInput::Opened { peer, hello, grant });
        } else if let Some(peer) = client.peer {
            if let Message::Walk(walk) = wire::decode(bytes).unwrap() {
                self.walks.push(walk.message.clone());
                if self.confused && matches!(walk.message.body, WalkBody::Cells(_)) {
                    let message = WalkMessage { body: WalkBody::End, ..walk.message };
                    let answer = Message::Walk(Walk { message, ..walk });
                    self.inbox.entry(peer).or_default().push_back(wire::encode_frame(0, &answer));
                    return true;
                }
            }
            self.put(HostInput::Message { peer, bytes: bytes.to_vec() });
        }
        true
    }

    fn rights(&self) -> Vec<Right> {
        let all = Right { pattern: Pattern::All, write: self.locked.is_none() };
        let open = ["notes", "tasks", "tasks/1", "tasks/2"].map(name_of);
        let open = open.into_iter().filter(|name| Some(name) != self.locked.as_ref());
        let open = open.map(|name| Right { pattern: Pattern::Exact(name), write: true });
        core::iter::once(all).chain(open).collect()
    }

    fn give(&mut self, client: &mut Client) -> bool {
        let Some(peer) = client.peer else { return false };
        if let Some(frame) = self.inbox.get_mut(&peer).and_then(VecDeque::pop_front) {
            client.put(Input::Frame(frame));
            return true;
        }
        if self.gone.remove(&peer).is_some() {
            client.disconnect();
            return true;
        }
        false
    }

    /// Carries messages both ways until there are none.
    pub(crate) fn settle(&mut self, clients: &mut [&mut Client]) {
        for _ in 0..200_000 {
            let mut moved = false;
            for client in &mut *clients {
                moved |= self.take(client) | self.give(client);
            }
            if !moved {
                return;
            }
        }
        panic!("they talk for ever");
    }

    /// Whether something is on its way to a client.
    pub(crate) fn has_mail(&self, client: &Client) -> bool {
        let waits = |peer| self.inbox.get(&peer).is_some_and(|inbox| !inbox.is_empty());
        client.peer.is_some_and(|peer| waits(peer) || self.gone.contains_key(&peer))
    }

    /// Hears a client, and is not heard.
    pub(crate) fn settle_deaf(&mut self, client: &mut Client) {
        while self.take(client) {}
    }

    /// Carries so many messages.
    pub(crate) fn carry(&mut self, count: usize, client: &mut Client) {
        for _ in 0..count {
            if !self.moves(client) {
                return;
            }
        }
    }

    /// Carries one message, if there is one.
    pub(crate) fn moves(&mut self, client: &mut Client) -> bool {
        self.take(client) || self.give(client)
    }

    /// Lets everybody ping, and carries what comes of it.
    pub(crate) fn pass(&mut self, millis: u64, clients: &mut [&mut Client]) {
        self.now = after(self.now, millis);
        self.put(HostInput::Deadline);
        for client in &mut *clients {
            client.pass(millis);
        }
        self.settle(clients);
    }
}

/// The welcome of a scripted host.
pub(crate) fn welcome(modes: Vec<(u32, Mode)>) -> Welcome {
    Welcome {
        version: 1,
        features: 0,
        principal: String::from("ann"),
        rights: vec![Right { pattern: Pattern::All, write: true }],
        limits: Limits {
            frame_bytes: 1 << 20,
            record_bytes: 768 << 10,
            value_bytes: 256 << 10,
            batch_records: 1_000,
        },
        clock: WallMillis(WALL),
        epoch: Epoch::from_bytes([1; 16]),
        horizon: Hlc::ZERO,
        lineage: Vec::new(),
        head: rejoin_core::id::Seq(0),
        accepted: None,
        identity: Identity::Confirmed,
        modes,
        copied: None,
    }
}

pub(crate) fn name_of(name: &str) -> CollectionName {
    CollectionName::parse(name).unwrap()
}

pub(crate) fn key(collection: &str, id: &str) -> RecordKey {
    RecordKey { collection: name_of(collection), id: RecordId::parse(id).unwrap() }
}

pub(crate) fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

pub(crate) fn set(key: &RecordKey, value: &str) -> Vec<Change> {
    let action = FieldAction::Set(Kind::Lww, Value::text(value));
    change(key, Action::Upsert(vec![FieldChange { field: field("title"), action }]))
}

pub(crate) fn add(key: &RecordKey, amount: i64) -> Vec<Change> {
    let action = FieldAction::Add(amount);
    change(key, Action::Upsert(vec![FieldChange { field: field("votes"), action }]))
}

pub(crate) fn change(key: &RecordKey, action: Action) -> Vec<Change> {
    vec![Change { key: key.clone(), action }]
}

/// Changes bytes of a store where `before` stands, as a defect would that seals what it writes.
pub(crate) fn damage(store: &MemoryStore, keyspace: Keyspace, before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len());
    let mut batch = Batch::default();
    for Row { key, mut value } in store.rows(keyspace) {
        let found = value.windows(before.len()).position(|window| window == before);
        if let Some(at) = found {
            value[at..at + before.len()].copy_from_slice(after);
            let tag = value.pop().unwrap();
            value.truncate(value.len() - 8);
            let value = seal(tag, value);
            batch.put(keyspace, key, value);
        }
    }
    assert!(!batch.writes.is_empty(), "found");
    apply(store, batch);
}

pub(crate) fn apply(store: &MemoryStore, batch: Batch) {
    assert_eq!(block_on(store.commit(batch)).unwrap(), CommitOutcome::Applied);
}
