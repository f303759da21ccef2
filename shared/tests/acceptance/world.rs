//! Real engines and a real host on stores in memory, joined by lines that a test delivers step by step.
//!
//! Nothing happens by itself: each step carries out one thing that could happen next, drawn from a
//! seed, so that a test can write, cut or meddle between any two of them. No time passes but what steps
//! and deadlines take.

mod lines;
mod records;

pub(crate) use lines::{Delivered, Strike};
pub(crate) use records::{Seen, Shown, field, key, set, shown, task, title, title_of, touch};

use lines::Line;
use rejoin_core::{
    id::{Epoch, Pattern, ReplicaId, SpaceId},
    io::{Batch, FaultClass, Query, Ticket},
    message::Limits,
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Notice, Output, Receipt, Wish, WishError},
        host::{Host, HostConfig, HostInput, HostOutput},
        message::Mode,
    },
    replica::Change,
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

#[derive(Debug)]
enum Op {
    Query(Ticket, Vec<Query>),
    Commit(Ticket, Batch),
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
