//! Prints what an import and a first sync take over a slow link: messages, virtual time, commits.
//!
//! `cargo run --release -p rejoin-core --example first_sync [RECORDS] [BYTES] [RTT_MS] [KBIT_PER_S]`
//!
//! Both ends are the shipped machines; only sockets, disks and time are played. Stores take no time, so what
//! is shown is what the protocol costs.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not measured is passed over")]
#![expect(clippy::expect_used, reason = "what cannot be here is a broken measurement")]
#![expect(clippy::disallowed_types, reason = "measuring takes a clock; the crate itself has none")]

use rejoin_core::{
    id::{
        CollectionName, Epoch, FieldName, Incarnation, Pattern, RecordId, RecordKey, ReplicaId,
        SpaceId,
    },
    io::{Batch, Keyspace, Write},
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Output, Wish},
        host::{Grant, Host, HostConfig, HostInput, HostNote, HostOutput, PeerId},
        message::{Message, Right},
        wire,
    },
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::{block_on, memory::MemoryStore},
    time::{MonoMillis, Now, WallMillis},
};
use std::{cmp::Reverse, collections::BTreeMap, collections::BinaryHeap, time::Instant};

const COLLECTION: &str = "catalog";
const BATCH_RECORDS: u64 = 500;
/// Virtual milliseconds after which a run counts as stuck.
const PATIENCE_MS: u64 = 3_600_000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut next = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (records, bytes, rtt_ms, kbit) = (next(63_666), next(1_000), next(100), next(100_000));
    println!("{records} records of {bytes} bytes, {rtt_ms} ms round trip, {kbit} kbit/s");
    let mut world = World::new(rtt_ms / 2, kbit);
    let all = text_of(bytes);
    let writer = world.open();
    world.run(|world| world.is_verified(writer));
    world.report("connected");
    for first in (0..records).step_by(usize::try_from(BATCH_RECORDS).unwrap_or(1)) {
        let changes = (first..records.min(first + BATCH_RECORDS)).map(|at| change(at, &all));
        let wish = Wish::Write { changes: changes.collect(), relaxed: false };
        world.tell_client(writer, Input::Ask { id: first, wish });
    }
    world.run(|world| world.is_verified(writer));
    world.report("import");
    let reader = world.open();
    world.run(|world| world.is_verified(reader));
    world.report("first sync");
    world.run(|world| world.events.is_empty() || world.now > world.started + 5_000);
    world.report("and folded");
}

fn text_of(bytes: u64) -> String {
    (0..bytes).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap_or(0))).collect()
}

fn change(at: u64, text: &str) -> Change {
    let collection = CollectionName::parse(COLLECTION).expect("a name");
    let field = FieldName::parse("text").expect("a name");
    let id = RecordId::parse(&format!("record-{at:08}")).expect("an id");
    let action = FieldAction::Set(Kind::Lww, Value::text(&format!("{at} {text}")));
    Change {
        key: RecordKey { collection, id },
        action: Action::Put(vec![FieldChange { field, action }]),
    }
}

enum Event {
    ToHost(usize, Vec<u8>),
    ToClient(usize, Vec<u8>),
    ClientWakes(usize),
    HostWakes,
}

#[derive(Default)]
struct Figures {
    sent: BTreeMap<&'static str, u64>,
    bytes: u64,
    commits: u64,
    commit_bytes_max: usize,
    notes: Vec<String>,
}

struct World {
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
    clock: Instant,
}

impl World {
    fn new(delay_ms: u64, kbit: u64) -> Self {
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
            clock: Instant::now(),
        };
        world.drain_host();
        world
    }

    fn open(&mut self) -> usize {
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

    fn is_verified(&self, at: usize) -> bool {
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

    fn run(&mut self, done: impl Fn(&Self) -> bool) {
        self.started = self.now;
        self.clock = Instant::now();
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
        let message = wire::decode(bytes).expect("a message");
        let input = match message {
            Message::Hello(hello) => {
                let rights = vec![Right { pattern: pattern(), write: true }];
                HostInput::Opened { peer, hello, grant: Grant { principal: "ann".into(), rights } }
            }
            _ => HostInput::Message { peer, bytes: bytes.to_vec() },
        };
        self.tell_host(input);
    }

    fn tell_host(&mut self, input: HostInput) {
        self.host.handle(now(self.now), input);
        self.drain_host();
    }

    fn drain_host(&mut self) {
        while let Some(output) = self.host.poll() {
            let input = match output {
                HostOutput::Send { peer, bytes } => {
                    self.count("<-", &bytes);
                    let at = usize::try_from(peer.0).unwrap_or(usize::MAX);
                    let frame: Vec<u8> = [0].iter().chain(bytes.iter()).copied().collect();
                    self.send(false, bytes.len(), Event::ToClient(at, frame));
                    Some(HostInput::Sent { peer, bytes: bytes.len() })
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
                self.host.handle(now(self.now), input);
            }
        }
        if let Some(at) = self.host.deadline() {
            self.at(at.0.max(self.now + 1), Event::HostWakes);
        }
    }

    fn tell_client(&mut self, at: usize, input: Input) {
        let now = now(self.now);
        if let Some((engine, _)) = self.clients.get_mut(at) {
            engine.handle(now, input);
        }
        self.drain_client(at);
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
            let now = now(self.now);
            if let Some((engine, _)) = self.clients.get_mut(at) {
                engine.handle(now, input);
            }
        }
        let deadline = self.clients.get(at).and_then(|(engine, _)| engine.deadline());
        if let Some(deadline) = deadline {
            self.at(deadline.0.max(self.now + 1), Event::ClientWakes(at));
        }
    }

    fn count(&mut self, way: &str, bytes: &[u8]) {
        let name = match (way, wire::decode(bytes).expect("a message")) {
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

    fn report(&mut self, what: &str) {
        let Figures { sent, bytes, commits, commit_bytes_max, notes } =
            std::mem::take(&mut self.figures);
        let messages: u64 = sent.values().sum();
        println!(
            "{what}: {} ms virtual, {:.1?} real, {messages} messages {sent:?}, {bytes} bytes, {commits} \
             commits by clients, the largest {commit_bytes_max} bytes; last note: {}",
            self.now - self.started,
            self.clock.elapsed(),
            notes.last().map_or("none", String::as_str),
        );
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
