//! Both ends of a line: the shipped machines on stores in memory, with played sockets and time.

use cpu_time::ThreadTime;
use rejoin_core::{
    id::{CollectionName, Epoch, Incarnation, Pattern, ReplicaId, SpaceId},
    io::{Batch, Keyspace, Write},
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Output, Wish},
        host::{Grant, Host, HostConfig, HostInput, HostNote, HostOutput, PeerId},
        message::{Message, Right},
        wire,
    },
    replica::Change,
    testing::{block_on, memory::MemoryStore},
    time::{MonoMillis, Now, WallMillis},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

pub(crate) const COLLECTION: &str = "catalog";
const BATCH_RECORDS: usize = 500;
/// Virtual milliseconds after which a run counts as stuck.
const PATIENCE_MS: u64 = 3_600_000;

enum Event {
    ToHost(usize, Vec<u8>),
    ToClient(usize, Vec<u8>),
    ClientWakes(usize),
    HostWakes,
}

/// What a stretch of time has cost.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    sent: BTreeMap<&'static str, u64>,
    /// Bytes of frames, both ways.
    pub(crate) bytes: u64,
    /// Time of the host, of deflating, of the clients.
    pub(crate) host: Duration,
    pub(crate) deflating: Duration,
    pub(crate) clients: Duration,
    commits: u64,
    commit_bytes_max: usize,
    notes: Vec<String>,
}

/// A host, its clients and the line between them.
pub(crate) struct World {
    host: Host,
    host_store: MemoryStore,
    clients: Vec<(Engine, MemoryStore)>,
    now: u64,
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, Event>,
    delay_ms: u64,
    kbit: u64,
    /// When each direction of the link is free again, in microseconds: to the host, from it.
    free_us: [u64; 2],
    figures: Figures,
    started: u64,
}

impl World {
    pub(crate) fn new(delay_ms: u64, kbit: u64) -> Self {
        let config = HostConfig::new(space(), Epoch::from_bytes([1; 16]), [7; 32]);
        let mut world = Self {
            host: Host::open(config, now(0)),
            host_store: MemoryStore::new(),
            clients: Vec::new(),
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            delay_ms,
            kbit,
            free_us: [0; 2],
            figures: Figures::default(),
            started: 0,
        };
        world.drain_host();
        world
    }

    pub(crate) fn open(&mut self) -> usize {
        let at = self.clients.len();
        let byte = u8::try_from(at).unwrap_or(0);
        let config = EngineConfig {
            space: Some(space()),
            patterns: vec![pattern()],
            fresh: ReplicaId::from_bytes([byte + 10; 16]),
            token: None,
            trace: false,
            walk: rejoin_core::tree::WalkLimits::default(),
        };
        self.clients.push((Engine::open(config).expect("few patterns"), MemoryStore::new()));
        self.drain_client(at);
        self.tell_client(at, Input::Lead { token: [byte; 16] });
        self.tell_client(
            at,
            Input::Connected {
                incarnation: Incarnation::from_bytes([byte; 16]),
                fresh: ReplicaId::from_bytes([byte + 100; 16]),
                salt: 1,
            },
        );
        at
    }

    pub(crate) fn is_verified(&self, at: usize) -> bool {
        self.clients.get(at).is_some_and(|(engine, _)| {
            let status = engine.status();
            status.is_verified && status.pending == 0
        })
    }

    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.pending.insert(self.order, event);
        self.events.push(Reverse((time, self.order)));
    }

    fn send(&mut self, to_host: bool, bytes: usize, event: Event) {
        let way = usize::from(!to_host);
        let takes = bytes as u64 * 8_000 / self.kbit.max(1);
        let free = self.free_us.get_mut(way).expect("two ways");
        *free = (*free).max(self.now * 1_000) + takes;
        let arrives = free.div_ceil(1_000) + self.delay_ms;
        self.figures.bytes += bytes as u64;
        self.at(arrives, event);
    }

    pub(crate) fn run(&mut self, done: impl Fn(&Self) -> bool) {
        self.started = self.now;
        while !done(self) {
            let Some(Reverse((time, order))) = self.events.pop() else {
                break;
            };
            self.now = self.now.max(time);
            assert!(self.now < self.started + PATIENCE_MS, "stuck");
            match self.pending.remove(&order).expect("an event") {
                Event::ToHost(at, frame) => self.host_hears(at, &frame),
                Event::ToClient(at, frame) => self.tell_client(at, Input::Frame(frame)),
                Event::ClientWakes(at) => self.tell_client(at, Input::Deadline),
                Event::HostWakes => self.tell_host(HostInput::Deadline),
            }
        }
    }

    fn host_hears(&mut self, at: usize, frame: &[u8]) {
        let (_, bytes) = wire::split_frame(frame).expect("a frame");
        let peer = PeerId(at as u64);
        let input = match wire::decode(bytes) {
            Ok(Message::Hello(hello)) => {
                let rights = vec![Right { pattern: pattern(), write: true }];
                HostInput::Opened { peer, hello, grant: Grant { principal: "ann".into(), rights } }
            }
            _ => HostInput::Message { peer, bytes: bytes.to_vec() },
        };
        self.tell_host(input);
    }

    /// Everything is written by one client, in batches.
    pub(crate) fn import(&mut self, writer: usize, changes: &[Change]) {
        for (at, batch) in (0..).zip(changes.chunks(BATCH_RECORDS)) {
            let wish = Wish::Write { changes: batch.to_vec(), relaxed: false };
            self.tell_client(writer, Input::Ask { id: at, wish });
        }
        self.run(|world| world.is_verified(writer));
    }

    /// Until nothing happens any more.
    pub(crate) fn rest(&mut self) {
        self.run(|world| world.events.is_empty() || world.now > world.started + 5_000);
    }

    fn tell_host(&mut self, input: HostInput) {
        self.host_takes(input);
        self.drain_host();
    }

    fn host_takes(&mut self, input: HostInput) {
        let began = ThreadTime::now();
        self.host.handle(now(self.now), input);
        self.figures.host += began.elapsed();
    }

    fn drain_host(&mut self) {
        while let Some(output) = self.host.poll() {
            let input = match output {
                HostOutput::Send { peer, bytes } => {
                    let began = ThreadTime::now();
                    let taken = bytes.len();
                    let bytes = wire::deflated(&bytes).map_or(bytes, Into::into);
                    self.figures.deflating += began.elapsed();
                    self.count("<-", &bytes);
                    let at = usize::try_from(peer.0).unwrap_or(usize::MAX);
                    let frame: Vec<u8> = [0].iter().chain(bytes.iter()).copied().collect();
                    self.send(false, bytes.len(), Event::ToClient(at, frame));
                    Some(HostInput::Sent { peer, bytes: taken })
                }
                HostOutput::Query { ticket, queries } => {
                    let answers = block_on(self.host_store.read(&queries)).expect("memory");
                    Some(HostInput::Answered { ticket, result: Ok(answers) })
                }
                HostOutput::Commit { ticket, batch } => {
                    let outcome = block_on(self.host_store.commit(batch)).expect("memory");
                    Some(HostInput::Committed { ticket, result: Ok(outcome) })
                }
                HostOutput::Note(HostNote::Synced { pushed, pulled, .. }) => {
                    self.figures.notes.push(format!("pushed={pushed} pulled={pulled}"));
                    None
                }
                _ => None,
            };
            if let Some(input) = input {
                self.host_takes(input);
            }
        }
        if let Some(at) = self.host.deadline() {
            self.at(at.0.max(self.now + 1), Event::HostWakes);
        }
    }

    pub(crate) fn tell_client(&mut self, at: usize, input: Input) {
        self.client_takes(at, input);
        self.drain_client(at);
    }

    fn client_takes(&mut self, at: usize, input: Input) {
        let now = now(self.now);
        if let Some((engine, _)) = self.clients.get_mut(at) {
            let began = ThreadTime::now();
            engine.handle(now, input);
            self.figures.clients += began.elapsed();
        }
    }

    fn drain_client(&mut self, at: usize) {
        loop {
            let Some((engine, store)) = self.clients.get_mut(at) else { return };
            let Some(output) = engine.poll() else { break };
            let input = match output {
                Output::Query { ticket, queries } => {
                    let answers = block_on(store.read(&queries)).expect("memory");
                    Input::Answered { ticket, result: Ok(answers) }
                }
                Output::Commit { ticket, batch } => {
                    self.figures.commits += 1;
                    let bytes = bytes_of(&batch);
                    self.figures.commit_bytes_max = self.figures.commit_bytes_max.max(bytes);
                    let outcome = block_on(store.commit(batch)).expect("memory");
                    Input::Committed { ticket, result: Ok(outcome) }
                }
                Output::Send(frame) => {
                    self.count("->", frame.get(1..).unwrap_or_default());
                    self.send(true, frame.len(), Event::ToHost(at, frame));
                    continue;
                }
                Output::Close { .. } => panic_closed(),
                _ => continue,
            };
            self.client_takes(at, input);
        }
        let deadline = self.clients.get(at).and_then(|(engine, _)| engine.deadline());
        if let Some(deadline) = deadline {
            self.at(deadline.0.max(self.now + 1), Event::ClientWakes(at));
        }
    }

    fn count(&mut self, way: &str, bytes: &[u8]) {
        let Ok(message) = wire::decode(bytes) else {
            // The parts of a large message.
            *self.figures.sent.entry("parts").or_default() += 1;
            return;
        };
        let name = match (way, message) {
            (_, Message::AskRoots(_)) => "-> AskRoots",
            (_, Message::Roots(_)) => "<- Roots",
            (_, Message::AskChunk(_)) => "-> AskChunk",
            (_, Message::Chunk(_)) => "<- Chunk",
            (_, Message::Walk(_)) => "<> Walk",
            (_, Message::Records(_)) => "<- Records",
            (_, Message::Changes(_)) => "<- Changes",
            (_, Message::Push(_)) => "-> Push",
            (_, Message::Ack(_)) => "<- Ack",
            ("->", _) => "-> other",
            (_, _) => "<- other",
        };
        *self.figures.sent.entry(name).or_default() += 1;
    }

    /// What it has cost since the last time, and the virtual milliseconds of the last run.
    pub(crate) fn figures(&mut self) -> (Figures, u64) {
        (std::mem::take(&mut self.figures), self.now - self.started)
    }
}

impl Figures {
    /// One line about a stretch of time.
    pub(crate) fn told(&self, what: &str, ms: u64) -> String {
        let Self { sent, bytes, commits, commit_bytes_max, notes, .. } = self;
        let messages: u64 = sent.values().sum();
        format!(
            "{what}: {ms} ms virtual, {:.0?} of the server, {:.0?} deflating, {:.0?} of the client, {messages} \
             messages {sent:?}, {bytes} bytes, {commits} commits by clients, the largest {commit_bytes_max} \
             bytes; last note: {}",
            self.host,
            self.deflating,
            self.clients,
            notes.last().map_or("none", String::as_str),
        )
    }
}

fn panic_closed() -> ! {
    std::process::abort()
}

fn bytes_of(batch: &Batch) -> usize {
    let write = |write: &Write| match write {
        Write::Put { keyspace: Keyspace::Page | Keyspace::Log | Keyspace::Meta, row } => {
            row.key.len() + row.value.len()
        }
        Write::Put { .. } => 0,
        Write::Delete { key, .. } => key.len(),
    };
    batch.writes.iter().map(write).sum()
}

fn now(ms: u64) -> Now {
    Now { wall: WallMillis(1_790_000_000_000 + ms), mono: MonoMillis(ms) }
}

fn space() -> SpaceId {
    SpaceId::parse("space").expect("a name")
}

fn pattern() -> Pattern {
    Pattern::Exact(CollectionName::parse(COLLECTION).expect("a name"))
}
