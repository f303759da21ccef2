//! Real engines and a real host on stores in memory, joined by lines that a test delivers step by step.
//!
//! Nothing happens by itself: each step carries out one thing that could happen next, drawn from a
//! seed, so that a test can write, cut or meddle between any two of them. No time passes but what steps
//! and deadlines take.

use rejoin_core::{
    id::{CollectionName, Digest, Epoch, FieldName, Incarnation, Pattern, RecordId, RecordKey},
    id::{ReplicaId, SpaceId},
    io::{Batch, FaultClass, Query, Ticket},
    message::{Limits, Right},
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Notice, Output, Receipt, Wish, WishError},
        host::{Grant, Host, HostConfig, HostInput, HostOutput, PeerId},
        message::{Bye, ByeCode, Message, Mode},
        wire::{self, BadLine, Chain},
    },
    record::{Kind, Value, Visible, visible},
    replica::{Action, Change, FieldAction, FieldChange, RowState},
    testing::{
        block_on,
        memory::{MemoryImage, MemoryStore},
        rng::Rng,
    },
    time::{MonoMillis, Now, WallMillis},
};
use std::collections::{BTreeMap, VecDeque};

const WALL: u64 = 1_700_000_000_000;
/// Deadlines that a world may let pass before it must have come to rest.
const DEADLINES_MAX: usize = 200;

/// What every replica can be asked for: live records with their fields, stamps left out.
pub(crate) type Seen = BTreeMap<RecordKey, BTreeMap<FieldName, Shown>>;

/// What a field shows, without the stamps of the writes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Value(Value),
    Counter(i64),
    Set(Vec<Value>),
    Review(Vec<Value>),
}

#[derive(Debug)]
enum Op {
    Query(Ticket, Vec<Query>),
    Commit(Ticket, Batch),
}

struct Line {
    peer: PeerId,
    greeted: bool,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    closed: bool,
    /// Down and up.
    ways: [Way; 2],
}

/// One way of a line: what both ends know of it, and a frame that the next one overtakes.
struct Way {
    sent: Chain,
    received: Chain,
    late: Option<Vec<u8>>,
}

impl Way {
    fn of(chain: &Chain) -> Self {
        Self { sent: chain.clone(), received: chain.clone(), late: None }
    }
}

/// What a bad line does to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    Lost,
    Repeated,
    Late,
    Changed,
}

pub(crate) struct Device {
    pub(crate) engine: Engine,
    pub(crate) store: MemoryStore,
    online: bool,
    line: Option<Line>,
    ops: VecDeque<Op>,
    pub(crate) answers: BTreeMap<u64, Result<Receipt, WishError>>,
    pub(crate) notices: Vec<Notice>,
    /// Wall clock less the host's.
    pub(crate) skew: i64,
    /// How its subscription started, session by session.
    pub(crate) modes: Vec<Mode>,
}

/// A frame that was delivered.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) device: usize,
    pub(crate) up: bool,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct World {
    config: Config,
    host: Host,
    pub(crate) store: MemoryStore,
    host_ops: VecDeque<Op>,
    /// Every commit of the host fails so.
    pub(crate) host_fault: Option<FaultClass>,
    pub(crate) devices: Vec<Device>,
    pub(crate) rng: Rng,
    now: u64,
    names: u64,
    pub(crate) tape: Vec<Delivered>,
    /// Which delivery arrives twice in a row.
    pub(crate) twice: Option<usize>,
    /// Which delivery the line does something to.
    pub(crate) strike: Option<(usize, Strike)>,
    /// How often an end found its line to be bad.
    pub(crate) bad_lines: usize,
    /// Lines that their devices have given up and the host has not.
    ghosts: Vec<Line>,
}

/// What a host is like.
#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) page_bytes_aim: Option<usize>,
    pub(crate) record_bytes: Option<u32>,
    /// Collections that nobody may write.
    pub(crate) locked: bool,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    HostStore,
    Store(usize),
    Dial(usize),
    Up(usize),
    Down(usize),
    Hangup(usize),
    Ghost(usize),
}

fn host_of(config: &Config, epoch: u64, now: Now) -> Host {
    let mut bytes = [0xe0; 16];
    bytes[..8].copy_from_slice(&epoch.to_be_bytes());
    let mut host = HostConfig::new(space(), Epoch::from_bytes(bytes), [9; 32]);
    host.page_bytes_aim = config.page_bytes_aim.unwrap_or(host.page_bytes_aim);
    let record_bytes = config.record_bytes.unwrap_or(host.limits.record_bytes);
    host.limits = Limits { record_bytes, ..host.limits };
    Host::open(host, now)
}

fn space() -> SpaceId {
    SpaceId::parse("acceptance").unwrap()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, Config::default())
    }

    pub(crate) fn with(seed: u64, config: Config) -> Self {
        let now = Now { wall: WallMillis(WALL), mono: MonoMillis(0) };
        let mut world = Self {
            host: host_of(&config, 1, now),
            config,
            store: MemoryStore::new(),
            host_ops: VecDeque::new(),
            host_fault: None,
            devices: Vec::new(),
            rng: Rng::new(seed),
            now: 0,
            names: 1,
            tape: Vec::new(),
            twice: None,
            strike: None,
            bad_lines: 0,
            ghosts: Vec::new(),
        };
        world.drain_host();
        world
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn now(&self, skew: i64) -> Now {
        let wall = WallMillis((WALL + self.now).saturating_add_signed(skew));
        Now { wall, mono: MonoMillis(self.now) }
    }

    /// A device of its own, not connected, opened; its number.
    pub(crate) fn device(&mut self) -> usize {
        let fresh = ReplicaId::from_bytes(self.rng.bytes());
        let engine = engine_of(fresh);
        self.devices.push(Device {
            engine,
            store: MemoryStore::new(),
            online: false,
            line: None,
            ops: VecDeque::new(),
            answers: BTreeMap::new(),
            notices: Vec::new(),
            skew: 0,
            modes: Vec::new(),
        });
        let device = self.devices.len() - 1;
        self.drain_device(device);
        self.finish_stores(device);
        device
    }

    /// The same store under a new engine, as after a restart of the app.
    pub(crate) fn reopen(&mut self, device: usize) {
        self.disconnect(device);
        let fresh = ReplicaId::from_bytes(self.rng.bytes());
        let it = &mut self.devices[device];
        it.engine = engine_of(fresh);
        it.ops.clear();
        self.drain_device(device);
        self.finish_stores(device);
    }

    pub(crate) fn connect(&mut self, device: usize) {
        self.devices[device].online = true;
    }

    /// Cuts the line; what is on it is lost.
    pub(crate) fn disconnect(&mut self, device: usize) {
        self.devices[device].online = false;
        self.hang_up(device);
    }

    /// The device gives its line up and the host does not learn of it: what was sent arrives, some time.
    pub(crate) fn abandon(&mut self, device: usize) {
        if let Some(line) = self.devices[device].line.take() {
            self.ghosts.push(line);
            self.tell(device, Input::Disconnected);
        }
    }

    fn ghost(&mut self, at: usize) {
        let ghost = &mut self.ghosts[at];
        let peer = ghost.peer;
        match ghost.up.pop_front() {
            Some(frame) => {
                let greeted = std::mem::replace(&mut ghost.greeted, true);
                self.arrive_at_host(peer, greeted, &frame);
            }
            None => {
                self.ghosts.remove(at);
                self.tell_host(HostInput::Gone { peer });
            }
        }
    }

    fn hang_up(&mut self, device: usize) {
        if let Some(line) = self.devices[device].line.take() {
            self.tell_host(HostInput::Gone { peer: line.peer });
            self.tell(device, Input::Disconnected);
        }
    }

    /// Ends the host without a word and opens another one on its store.
    pub(crate) fn restart_host(&mut self) {
        self.restart_host_on(None);
    }

    /// The same on an earlier copy of its store.
    pub(crate) fn restart_host_on(&mut self, image: Option<MemoryImage>) {
        let online: Vec<bool> = self.devices.iter().map(|device| device.online).collect();
        for device in 0..self.devices.len() {
            self.disconnect(device);
        }
        for (device, online) in self.devices.iter_mut().zip(online) {
            device.online = online;
        }
        self.ghosts.clear();
        if let Some(image) = image {
            self.store.restore(image);
        }
        self.host_ops.clear();
        let epoch = self.name();
        self.host = host_of(&self.config, epoch, self.now(0));
        self.drain_host();
    }

    /// Asks for a write without waiting for anything; the number of the question.
    pub(crate) fn ask(&mut self, device: usize, changes: Vec<Change>) -> u64 {
        self.wish(device, Wish::Write { changes, relaxed: false })
    }

    pub(crate) fn wish(&mut self, device: usize, wish: Wish) -> u64 {
        let id = self.name();
        self.tell(device, Input::Ask { id, wish });
        id
    }

    /// Writes and waits until the device has it; nothing else happens meanwhile.
    pub(crate) fn write(&mut self, device: usize, changes: Vec<Change>) -> Receipt {
        let id = self.ask(device, changes);
        self.finish_stores(device);
        self.devices[device].answers.remove(&id).expect("an answer").expect("it is granted")
    }

    fn finish_stores(&mut self, device: usize) {
        while !self.devices[device].ops.is_empty() {
            self.device_store(device);
        }
    }

    fn turns(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        if !self.host_ops.is_empty() {
            turns.push(Turn::HostStore);
        }
        turns.extend((0..self.ghosts.len()).map(Turn::Ghost));
        for (at, device) in self.devices.iter().enumerate() {
            if !device.ops.is_empty() {
                turns.push(Turn::Store(at));
            }
            match &device.line {
                None if device.online && device.engine.wants_connection() => {
                    turns.push(Turn::Dial(at));
                }
                None => {}
                Some(line) => {
                    turns.extend((!line.up.is_empty()).then_some(Turn::Up(at)));
                    turns.extend((!line.down.is_empty()).then_some(Turn::Down(at)));
                    let over = line.closed && line.down.is_empty();
                    turns.extend(over.then_some(Turn::Hangup(at)));
                }
            }
        }
        turns
    }

    /// One thing that could happen next happens; `false` when nothing could.
    pub(crate) fn step(&mut self) -> bool {
        let turns = self.turns();
        if turns.is_empty() {
            return false;
        }
        self.now += 1;
        match turns[self.rng.index(turns.len())] {
            Turn::HostStore => self.host_store(),
            Turn::Store(device) => self.device_store(device),
            Turn::Dial(device) => self.dial(device),
            Turn::Up(device) => self.deliver(device, true),
            Turn::Down(device) => self.deliver(device, false),
            Turn::Hangup(device) => self.hang_up(device),
            Turn::Ghost(at) => self.ghost(at),
        }
        true
    }

    pub(crate) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Everything happens that can, and no time passes beyond that: no ping, no retry.
    pub(crate) fn run_dry(&mut self) {
        while self.step() {}
    }

    /// Until whoever is online has everything, is verified, and has nothing left to send.
    pub(crate) fn settle(&mut self) {
        for _ in 0..DEADLINES_MAX {
            self.run_dry();
            if self.is_at_rest() {
                return;
            }
            let deadlines = self.devices.iter().filter_map(|device| device.engine.deadline());
            let deadline = deadlines.chain(self.host.deadline()).min();
            self.now = self.now.max(deadline.map_or(self.now, |at| at.0)) + 1;
            self.tell_host(HostInput::Deadline);
            for device in 0..self.devices.len() {
                self.tell(device, Input::Deadline);
            }
        }
        let stuck: Vec<_> = self.devices.iter().map(|device| device.engine.status()).collect();
        panic!("stuck at head {}: {stuck:#?}", self.host.facts().head);
    }

    fn is_at_rest(&self) -> bool {
        let head = self.host.facts().head;
        self.host.facts().ready
            && self.devices.iter().filter(|device| device.online).all(|device| {
                let engine = &device.engine;
                let status = engine.status();
                let mut standings = engine.replica().standings().iter();
                status.link == Link::Live
                    && status.is_verified
                    && status.pending == 0
                    && engine.is_settled()
                    && standings.all(|(_, standing)| standing.cursor == head)
            })
    }

    fn dial(&mut self, device: usize) {
        let peer = PeerId(self.name());
        self.devices[device].line = Some(Line {
            peer,
            greeted: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            closed: false,
            ways: [Chain::of_responder(), Chain::of_initiator()].map(|chain| Way::of(&chain)),
        });
        let input = Input::Connected {
            incarnation: Incarnation::from_bytes(self.rng.bytes()),
            fresh: ReplicaId::from_bytes(self.rng.bytes()),
            salt: self.rng.next_u64(),
        };
        self.tell(device, input);
    }

    fn deliver(&mut self, device: usize, up: bool) {
        let line = self.devices[device].line.as_mut().expect("a line");
        let queue = if up { &mut line.up } else { &mut line.down };
        let frame = queue.pop_front().expect("a frame");
        let way = &mut line.ways[usize::from(up)];
        let mut sealed = way.sent.seal(frame.clone());
        let at = self.tape.len();
        let arriving = match self.strike.filter(|(struck, _)| *struck == at) {
            None => [Some(sealed), way.late.take()],
            Some((_, Strike::Lost)) => [None, None],
            Some((_, Strike::Repeated)) => [Some(sealed.clone()), Some(sealed)],
            Some((_, Strike::Late)) => {
                way.late = Some(sealed);
                [None, None]
            }
            Some((_, Strike::Changed)) => {
                let middle = sealed.len() / 2;
                sealed[middle] ^= 1;
                [Some(sealed), None]
            }
        };
        self.tape.push(Delivered { device, up, frame: frame.clone() });
        for sealed in arriving.into_iter().flatten() {
            self.open(device, up, &sealed);
        }
        if self.twice == Some(at) {
            self.arrive(device, up, &frame);
        }
    }

    /// A frame arrives with its check, at an end that listens.
    fn open(&mut self, device: usize, up: bool, sealed: &[u8]) {
        let line = self.devices[device].line.as_mut();
        let Some(line) = line.filter(|line| !(up && line.closed)) else { return };
        if let Ok(frame) = line.ways[usize::from(up)].received.open(sealed) {
            return self.arrive(device, up, frame);
        }
        self.bad_lines += 1;
        if !up {
            return self.tell(device, Input::BadLine);
        }
        let reason = BadLine::REASON.to_owned();
        let bye = Bye { code: ByeCode::BadLine, reason, retry_after: None };
        line.down.push_back(wire::encode_frame(0, &Message::Bye(bye)));
        line.closed = true;
        let peer = line.peer;
        self.tell_host(HostInput::Gone { peer });
    }

    /// A frame arrives, wherever it comes from.
    pub(crate) fn arrive(&mut self, device: usize, up: bool, frame: &[u8]) {
        if self.devices[device].line.is_none() {
            return;
        }
        if up {
            let line = self.devices[device].line.as_mut().expect("a line");
            let (peer, greeted) = (line.peer, std::mem::replace(&mut line.greeted, true));
            self.arrive_at_host(peer, greeted, frame);
        } else {
            if let Ok((_, bytes)) = wire::split_frame(frame)
                && let Ok(Message::Welcome(welcome)) = wire::decode(bytes)
            {
                self.devices[device].modes.extend(welcome.modes.iter().map(|(_, mode)| *mode));
            }
            self.tell(device, Input::Frame(frame.to_vec()));
        }
    }

    fn arrive_at_host(&mut self, peer: PeerId, greeted: bool, frame: &[u8]) {
        let (_, bytes) = wire::split_frame(frame).expect("a channel");
        if greeted {
            return self.tell_host(HostInput::Message { peer, bytes: bytes.to_vec() });
        }
        if let Ok(Message::Hello(hello)) = wire::decode(bytes) {
            let write = |name: &str, write| Right { pattern: Pattern::parse(name).unwrap(), write };
            let rights = if self.config.locked {
                vec![write("*", false), write("tasks", true), write("notes", true)]
            } else {
                vec![write("*", true)]
            };
            let grant = Grant { principal: "ann".to_owned(), rights };
            self.tell_host(HostInput::Opened { peer, hello, grant });
        }
    }

    fn tell(&mut self, device: usize, input: Input) {
        let now = self.now(self.devices[device].skew);
        self.devices[device].engine.handle(now, input);
        self.drain_device(device);
    }

    fn tell_host(&mut self, input: HostInput) {
        let now = self.now(0);
        self.host.handle(now, input);
        self.drain_host();
    }

    fn drain_device(&mut self, at: usize) {
        while let Some(output) = self.devices[at].engine.poll() {
            let device = &mut self.devices[at];
            match output {
                Output::Query { ticket, queries } => {
                    device.ops.push_back(Op::Query(ticket, queries));
                }
                Output::Commit { ticket, batch } => device.ops.push_back(Op::Commit(ticket, batch)),
                Output::Send(frame) => {
                    if let Some(line) = &mut device.line {
                        line.up.push_back(frame);
                    }
                }
                Output::Close { .. } => {
                    if let Some(line) = device.line.take() {
                        self.tell_host(HostInput::Gone { peer: line.peer });
                    }
                }
                Output::Done { id, result } => {
                    device.answers.insert(id, result);
                }
                Output::Notice(notice) => {
                    let opened = notice == Notice::Opened;
                    device.notices.push(notice);
                    if opened {
                        let token = self.rng.bytes();
                        self.tell(at, Input::Lead { token });
                    }
                }
            }
        }
    }

    fn drain_host(&mut self) {
        while let Some(output) = self.host.poll() {
            match output {
                HostOutput::Send { peer, bytes } => {
                    if let Some(line) = self.line_of(peer) {
                        let mut frame = vec![0];
                        frame.extend_from_slice(&bytes);
                        line.down.push_back(frame);
                    }
                    let now = self.now(0);
                    self.host.handle(now, HostInput::Sent { peer, bytes: bytes.len() });
                }
                HostOutput::Query { ticket, queries } => {
                    self.host_ops.push_back(Op::Query(ticket, queries));
                }
                HostOutput::Commit { ticket, batch } => {
                    self.host_ops.push_back(Op::Commit(ticket, batch));
                }
                HostOutput::Close { peer, .. } => {
                    if let Some(line) = self.line_of(peer) {
                        line.closed = true;
                    }
                }
                _ => {}
            }
        }
    }

    fn line_of(&mut self, peer: PeerId) -> Option<&mut Line> {
        let mut lines = self.devices.iter_mut().filter_map(|device| device.line.as_mut());
        lines.find(|line| line.peer == peer)
    }

    fn device_store(&mut self, device: usize) {
        let store = self.devices[device].store.clone();
        let input = match self.devices[device].ops.pop_front().expect("an operation") {
            Op::Query(ticket, queries) => {
                Input::Answered { ticket, result: Ok(block_on(store.read(&queries)).unwrap()) }
            }
            Op::Commit(ticket, batch) => {
                Input::Committed { ticket, result: Ok(block_on(store.commit(batch)).unwrap()) }
            }
        };
        self.tell(device, input);
    }

    fn host_store(&mut self) {
        let input = match self.host_ops.pop_front().expect("an operation") {
            Op::Query(ticket, queries) => {
                let result = Ok(block_on(self.store.read(&queries)).unwrap());
                HostInput::Answered { ticket, result }
            }
            Op::Commit(ticket, batch) => {
                let result = match self.host_fault {
                    Some(class) => Err(class),
                    None => Ok(block_on(self.store.commit(batch)).unwrap()),
                };
                HostInput::Committed { ticket, result }
            }
        };
        self.tell_host(input);
    }

    /// Live records as an app on the device reads them.
    pub(crate) fn seen(&self, device: usize) -> Seen {
        let replica = self.devices[device].engine.replica();
        let base = replica.base().iter().map(|(key, _)| key);
        let mut keys: Vec<&RecordKey> = base.chain(replica.overlay().keys()).collect();
        keys.sort();
        keys.dedup();
        let records = keys.into_iter().map(|key| (key.clone(), replica.view(key).unwrap()));
        records
            .filter(|(_, record)| record.is_live())
            .map(|(key, record)| {
                let fields = visible(&record).into_iter();
                (key, fields.map(|(field, shown)| (field, without_stamps(shown))).collect())
            })
            .collect()
    }

    /// Roots of the host, by collection; a collection without records is left out.
    fn host_roots(&self) -> BTreeMap<CollectionName, Digest> {
        let all = self.host.facts().collections.into_iter();
        all.filter(|(_, _, count)| *count > 0).map(|(name, root, _)| (name, root)).collect()
    }

    fn device_roots(&mut self, device: usize) -> BTreeMap<CollectionName, Digest> {
        let base = self.devices[device].engine.replica_mut().base_mut();
        let names: Vec<CollectionName> =
            base.iter().map(|(key, _)| key.collection.clone()).collect();
        let tries = base.trees();
        names.into_iter().map(|name| (name.clone(), tries.get_mut(&name).unwrap().root())).collect()
    }

    /// What all devices and the host hold: asserts that it is the same, byte for byte.
    pub(crate) fn agreed(&mut self) -> Seen {
        let host = self.host_roots();
        let first = self.seen(0);
        for device in 0..self.devices.len() {
            assert_eq!(self.device_roots(device), host, "device {device} and the host");
            assert_eq!(self.seen(device), first, "device {device} and device 0");
        }
        first
    }

    /// Rows that the host refused, kept by the device.
    pub(crate) fn rejected(&self, device: usize) -> Vec<u64> {
        let rows = self.devices[device].engine.replica().overlay().rows();
        rows.filter(|(_, row)| matches!(row.state, RowState::Rejected { .. }))
            .map(|(number, _)| number)
            .collect()
    }
}

fn engine_of(fresh: ReplicaId) -> Engine {
    let patterns = vec![Pattern::All];
    Engine::open(EngineConfig {
        space: Some(space()),
        patterns,
        fresh,
        token: None,
        trace: false,
        walk: rejoin_core::tree::WalkLimits::default(),
    })
    .unwrap()
}

fn without_stamps(shown: Visible) -> Shown {
    match shown {
        Visible::Value(value) => Shown::Value(value),
        Visible::Counter(total) => Shown::Counter(total),
        Visible::Set(elements) => Shown::Set(elements),
        Visible::Review(values) => {
            let mut values: Vec<Value> = values.into_iter().map(|(_, value)| value).collect();
            values.sort();
            Shown::Review(values)
        }
    }
}

pub(crate) fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

pub(crate) fn key(collection: &str, id: &str) -> RecordKey {
    RecordKey {
        collection: CollectionName::parse(collection).unwrap(),
        id: RecordId::parse(id).unwrap(),
    }
}

pub(crate) fn set(name: &str, action: FieldAction) -> FieldChange {
    FieldChange { field: field(name), action }
}

pub(crate) fn title(text: &str) -> FieldChange {
    set("title", FieldAction::Set(Kind::Lww, Value::text(text)))
}

/// Touches a record, whether it is there or not.
pub(crate) fn touch(id: &str, fields: Vec<FieldChange>) -> Change {
    Change { key: key("tasks", id), action: Action::Upsert(fields) }
}

/// A task with a title.
pub(crate) fn task(id: &str, text: &str) -> Change {
    touch(id, vec![title(text)])
}

/// What a field of a task shows.
pub(crate) fn shown<'a>(seen: &'a Seen, id: &str, name: &str) -> Option<&'a Shown> {
    seen.get(&key("tasks", id))?.get(&field(name))
}

/// The title of a task.
pub(crate) fn title_of<'a>(seen: &'a Seen, id: &str) -> Option<&'a str> {
    match shown(seen, id, "title") {
        Some(Shown::Value(Value::Text(text))) => Some(text),
        _ => None,
    }
}
