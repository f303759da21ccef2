//! A world in one thread: a host, devices with tabs, a network and clocks, all from one seed.
//!
//! The shipped machines run here with the bytes they would send and store; only time, sockets and disks
//! are played. A run draws its faults (cuts, half-open lines, crashes, server restarts, clock steps,
//! rejections, failing stores, rolled-back, cloned and erased devices, newcomers, changed accounts, a server
//! that comes back with an old copy of its store, or whose store rots), lets chaos reign, heals, waits for progress to
//! end, and then asks the oracles. Same seed, same events, same digest of the trace.
#![expect(clippy::expect_used, reason = "test code: what cannot be here is a broken test")]

mod account;
mod batches;
mod device;
mod history;
mod oracle;
mod plan;
mod rot;
mod server;
mod tape;
mod wires;
mod workload;

use crate::{
    id::{CollectionName, Pattern, ReplicaId, SpaceId},
    protocol::wire,
    time::{MonoMillis, Now, WallMillis},
};
use alloc::{
    boxed::Box,
    collections::{BinaryHeap, VecDeque},
    format,
    string::{String, ToString},
    vec::Vec,
};
use batches::Batches;
use core::{
    cmp::Reverse,
    fmt,
    hash::{Hash, Hasher},
};
use device::Device;
use oracle::Ledger;
use server::Server;

pub use plan::Plan;
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};
pub use tape::{STREAMS, TAPE_BYTES_MAX, Tape};
use tape::{Stream, Streams};

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Events that happened.
    pub events: u64,
    /// Hash over all of them.
    pub trace: [u8; 32],
    /// Writes that were reported durable.
    pub written: u64,
    /// What happened how often, for the marks that must not be zero.
    pub marks: BTreeMap<&'static str, u64>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed; 0 of a run from a tape.
    pub seed: u64,
    /// The oracle's words.
    pub what: String,
    /// What runs the same way again.
    pub script: Box<Script>,
    /// The last messages, as devices saw them.
    pub story: Vec<String>,
}

/// A run: the same one gives the same events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Which faults there may be, and how large the world is.
    pub plan: Plan,
    /// What was decided.
    pub tape: Tape,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Event {
    /// A message arrives; the device is told apart from the server by `to_server`.
    Deliver {
        line: u64,
        to_server: bool,
        bytes: Vec<u8>,
    },
    /// A line is found dead by both ends.
    Cut {
        line: u64,
    },
    /// The server's store carries out an operation.
    ServerStore {
        life: u64,
        ticket: u64,
    },
    /// A tab's store carries out an operation.
    TabStore {
        device: usize,
        tab: usize,
        life: u64,
        ticket: u64,
    },
    /// A machine's deadline.
    ServerDeadline {
        life: u64,
    },
    TabDeadline {
        device: usize,
        tab: usize,
        life: u64,
    },
    Dial {
        device: usize,
        tab: usize,
        life: u64,
    },
    /// Another tab wrote.
    Hint {
        device: usize,
        tab: usize,
    },
    /// A tab that crashed comes back.
    Reopen {
        device: usize,
        tab: usize,
    },
    /// The server comes back.
    ServerStart,
    /// The app decides what becomes of another account's records.
    Decide {
        device: usize,
    },
    /// The app does something, or a fault strikes.
    Step,
}

#[derive(Debug, PartialEq, Eq)]
struct Timed {
    at: u64,
    order: u64,
    event: Event,
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
struct Line {
    device: usize,
    tab: usize,
    life: u64,
    peer: u64,
    /// Nothing passes any more and nobody is told.
    silent: bool,
    /// When what was sent each way has left: slow lines take their time.
    free: [u64; 2],
    /// Arrival of the last message each way: lines keep their order.
    last: [u64; 2],
    /// What passed on it.
    passed: wires::Passed,
}

/// The world.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about what happened")]
struct World {
    seed: u64,
    plan: Plan,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Timed>>,
    planned: Stream,
    net: Stream,
    disk: Stream,
    clock: Stream,
    faults: Stream,
    apps: Stream,
    server: Server,
    devices: Vec<Device>,
    lines: BTreeMap<u64, Line>,
    next_line: u64,
    ledger: Ledger,
    batches: Batches,
    marks: BTreeMap<&'static str, u64>,
    trace: Trace,
    events: u64,
    calm: bool,
    calm_since: u64,
    steps_left: u64,
    /// The server has lost what it once had: it came back with an old copy of its store.
    server_rewound: bool,
    /// Some of that was with devices that came back too late to bring it.
    forgotten: bool,
    /// A name was written under twice after the server had lost what tells.
    reissued: bool,
    /// Rows may have gone on under another id: a device came back with a copy of a store, or was adopted.
    renamed: bool,
    /// Something may count twice: both the history of the server and that of a device were lost.
    doubles: bool,
    /// Ids of stores that were copied, and of which the copy went on, with the time when it was taken.
    copies: Vec<(ReplicaId, u64)>,
    /// When the server last lost history.
    rewound_at: u64,
    /// Which id a new one took the place of.
    earlier_ids: BTreeMap<ReplicaId, ReplicaId>,
    /// Tabs that may show something else since the oracles last looked.
    touched: BTreeSet<(usize, usize)>,
    /// What must not happen and did.
    objection: Option<String>,
    /// The last messages, for a failure's report: if anybody is to read them.
    story: Option<VecDeque<String>>,
}

/// A hash over all events. They are hashed many at a time: each alone would take longer than what it causes.
#[derive(Default)]
struct Trace {
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
}

impl Trace {
    fn digest(&mut self) -> [u8; 32] {
        self.flush();
        *self.hasher.finalize().as_bytes()
    }

    fn flush(&mut self) {
        self.hasher.update(&self.waiting);
        self.waiting.clear();
    }
}

/// Takes values as bytes that are the same on every platform.
impl Hasher for Trace {
    fn write(&mut self, bytes: &[u8]) {
        if self.waiting.len() > TRACE_BYTES_WAITING {
            self.flush();
        }
        self.waiting.extend_from_slice(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write(&(number as i64).to_le_bytes());
    }

    /// Of no use here.
    fn finish(&self) -> u64 {
        0
    }
}

/// Virtual milliseconds that a healed world is given without progress.
const PATIENCE_MS: u64 = 600_000;
/// Virtual milliseconds within which a healed world comes to rest, whatever it does.
const REST_WITHIN_MS: u64 = 3 * 3_600_000;
const STORY_LINES_MAX: usize = 4_000;
/// Frames beyond this are told by their size.
const STORY_FRAME_BYTES_MAX: usize = 8_000;
const STORY_CHARS_MAX: usize = 1_500;
const TRACE_BYTES_WAITING: usize = 1 << 16;
const EVENTS_MAX: u64 = 400_000;
const START_MS: u64 = 1_700_000_000_000;

/// Runs the world of `seed` as drawn.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run(seed: u64) -> Result<Outcome, Failure> {
    let mut streams = Streams::of_seed(seed);
    let plan = Plan::draw_from(&mut streams.plan);
    play(seed, plan, streams)
}

/// Runs the world of `seed` under `plan`.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run_plan(seed: u64, plan: Plan) -> Result<Outcome, Failure> {
    play(seed, plan, Streams::of_seed(seed))
}

/// Runs the world whose every decision, its plan's too, is on a tape: any bytes. A short tape is a short calm world.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run_tape(bytes: &[u8]) -> Result<Outcome, Failure> {
    let mut streams = Streams::of_tape(Tape::from_bytes(bytes));
    let plan = Plan::draw_from(&mut streams.plan);
    play(0, plan, streams)
}

/// Runs a world again.
///
/// # Errors
/// [`Failure`] when an oracle objects.
pub fn run_script(script: Script) -> Result<Outcome, Failure> {
    play(0, script.plan, Streams::of_tape(script.tape))
}

/// What comes of a world, and its story when somebody objects.
fn play(seed: u64, plan: Plan, streams: Streams) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, plan.clone(), streams);
    let ran = world.run_out();
    ran.map_err(|what| {
        let script = Box::new(Script { plan, tape: world.tape() });
        let streams = Streams::of_tape(script.tape.clone());
        let mut again = World::new(seed, script.plan.clone(), streams);
        again.story = Some(VecDeque::new());
        let story = match again.run_out() {
            Err(same) if same == what => again.story.unwrap_or_default().into(),
            other => Vec::from([format!("played again it is another world: {other:?}")]),
        };
        Failure { seed, what, script, story }
    })
}

fn space() -> SpaceId {
    SpaceId::parse("sim").expect("a valid name")
}

fn collection(name: &str) -> CollectionName {
    CollectionName::parse(name).expect("a valid name")
}

impl Plan {
    fn patterns(&self) -> Vec<Pattern> {
        if self.whole_space {
            return Vec::from([Pattern::All]);
        }
        let exact = ["ledger", "mixed", "locked"].map(|name| Pattern::Exact(collection(name)));
        exact.into_iter().chain([Pattern::Prefix(collection("pair"))]).collect()
    }
}

impl World {
    fn new(seed: u64, plan: Plan, streams: Streams) -> Self {
        let Streams { plan: planned, net, disk, clock, apps, faults } = streams;
        let mut world = Self {
            seed,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            planned,
            net,
            disk,
            clock,
            faults,
            apps,
            server: Server::new(),
            devices: (0..plan.devices).map(|at| Device::new(at, plan.tabs)).collect(),
            lines: BTreeMap::new(),
            next_line: 1,
            ledger: Ledger::default(),
            batches: Batches::default(),
            marks: BTreeMap::new(),
            trace: Trace::default(),
            events: 0,
            calm: false,
            calm_since: 0,
            steps_left: plan.writes,
            server_rewound: false,
            forgotten: false,
            reissued: false,
            renamed: false,
            doubles: false,
            copies: Vec::new(),
            rewound_at: 0,
            earlier_ids: BTreeMap::new(),
            touched: BTreeSet::new(),
            objection: None,
            story: None,
            plan,
        };
        world.at(0, Event::ServerStart);
        for device in 0..world.plan.devices {
            let late = world.plan.newcomer && device > 0 && device + 1 == world.plan.devices;
            let delay = if late { world.faults.below(60_000) } else { 0 };
            for tab in 0..world.plan.tabs {
                world.at(delay, Event::Reopen { device, tab });
            }
        }
        world.at(10, Event::Step);
        world
    }

    fn tell_story(&mut self, device: usize, tab: usize, way: &str, frame: &[u8]) {
        if self.story.is_none() {
            return;
        }
        if frame.len() > STORY_FRAME_BYTES_MAX {
            return self.tell(device, tab, format_args!("{way} {} bytes", frame.len()));
        }
        let message = wire::split_frame(frame).and_then(|(_, message)| wire::decode(message));
        self.tell(device, tab, format_args!("{way} {message:?}"));
    }

    /// One line of the story.
    fn tell(&mut self, device: usize, tab: usize, text: impl fmt::Display) {
        let Some(story) = &mut self.story else { return };
        let text: String = text.to_string().chars().take(STORY_CHARS_MAX).collect();
        story.push_back(format!("{} {device}.{tab} {text}", self.now));
        if story.len() > STORY_LINES_MAX {
            story.pop_front();
        }
    }

    /// What was decided.
    fn tape(&mut self) -> Tape {
        let taken = |stream: &mut Stream| core::mem::replace(stream, Stream::of_seed(0));
        let streams = Streams {
            plan: taken(&mut self.planned),
            net: taken(&mut self.net),
            disk: taken(&mut self.disk),
            clock: taken(&mut self.clock),
            apps: taken(&mut self.apps),
            faults: taken(&mut self.faults),
        };
        streams.tape()
    }

    /// Whether nothing is left of what apps do and of what strikes them.
    fn is_played_out(&self) -> bool {
        let streams = [&self.apps, &self.faults, &self.clock];
        self.steps_left == 0 || streams.into_iter().all(Stream::is_over)
    }

    /// Says that something happened that must not; the first word counts.
    fn object(&mut self, what: String) {
        self.objection.get_or_insert(what);
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Timed { at: self.now + delay, order: self.order, event }));
    }

    fn server_now(&self) -> Now {
        let wall = START_MS.saturating_add_signed(self.server.skew) + self.now;
        Now { wall: WallMillis(wall), mono: MonoMillis(self.now) }
    }

    fn device_now(&self, device: usize) -> Now {
        let skew = self.devices.get(device).map_or(0, |device| device.skew);
        let wall = START_MS.saturating_add_signed(skew) + self.now;
        Now { wall: WallMillis(wall), mono: MonoMillis(self.now) }
    }

    /// Runs to the end. A panic is an objection too.
    fn run_out(&mut self) -> Result<Outcome, String> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run()));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panic: {}", text.unwrap_or_default()))
        })?;
        Ok(Outcome {
            events: self.events,
            trace: self.trace.digest(),
            written: self.ledger.written(),
            marks: core::mem::take(&mut self.marks),
        })
    }

    fn run(&mut self) -> Result<(), String> {
        let mut progress = (self.now, Vec::new());
        while let Some(Reverse(timed)) = self.queue.pop() {
            self.now = self.now.max(timed.at);
            self.events += 1;
            if self.events > EVENTS_MAX {
                return Err(format!("no rest after {EVENTS_MAX} events: {}", self.summary()));
            }
            (timed.at, &timed.event).hash(&mut self.trace);
            self.happen(timed.event)?;
            self.check_step()?;
            if let Some(what) = self.objection.take() {
                return Err(what);
            }
            if self.calm {
                if self.is_quiet() {
                    return self.check_end();
                }
                let fingerprint = self.fingerprint();
                if self.now - self.calm_since > REST_WITHIN_MS {
                    return Err(format!("no rest: {}", self.summary()));
                } else if fingerprint != progress.1 {
                    progress = (self.now, fingerprint);
                } else if self.now - progress.0 > PATIENCE_MS {
                    return Err(format!("stuck: {}", self.summary()));
                }
            }
        }
        Err(format!("the world stood still: {}", self.summary()))
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { line, to_server, bytes } => self.deliver(line, to_server, bytes),
            Event::Cut { line } => self.cut(line),
            Event::ServerStore { life, ticket } => self.server_store(life, ticket),
            Event::TabStore { device, tab, life, ticket } => {
                self.tab_store(device, tab, life, ticket);
            }
            Event::ServerDeadline { life } => self.server_deadline(life),
            Event::TabDeadline { device, tab, life } => self.tab_deadline(device, tab, life),
            Event::Dial { device, tab, life } => self.dial(device, tab, life),
            Event::Hint { device, tab } => self.hint(device, tab),
            Event::Reopen { device, tab } => self.reopen(device, tab),
            Event::ServerStart => self.server_start(),
            Event::Decide { device } => self.decide(device),
            Event::Step => self.step()?,
        }
        Ok(())
    }

    fn silence(&mut self, line: u64) {
        if let Some(line) = self.lines.get_mut(&line) {
            line.silent = true;
        }
    }

    /// Puts a message on a line, or loses the line.
    fn send(&mut self, line: u64, to_server: bool, bytes: Vec<u8>) {
        if self.look_at(line, to_server, &bytes) {
            return;
        }
        let cut = self.plan.cut_one_in;
        let silence = self.plan.silence_one_in;
        let struck = |net: &mut Stream, one_in: u64| one_in > 0 && net.once_in(one_in);
        if !self.calm && struck(&mut self.net, cut) {
            self.mark("line cut");
            // Either the message is lost with the line, or the line is lost behind it.
            let delay = 1 + self.net.below(50);
            if self.net.once_in(2) {
                // A line never loses one message and carries the next.
                self.silence(line);
                self.at(delay, Event::Cut { line });
                return;
            }
            self.at(delay + 200, Event::Cut { line });
        }
        if !self.calm && struck(&mut self.net, silence) {
            self.mark("line silent");
            self.silence(line);
        }
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        if open.silent {
            return;
        }
        let way = usize::from(to_server);
        let mut latency = 1 + self.net.below(40);
        if let Some(free) = open.free.get_mut(way) {
            let takes = (bytes.len() as u64 * 1_000).checked_div(self.plan.line_bytes_per_s);
            *free = self.now.max(*free) + takes.unwrap_or(0);
            latency += *free - self.now;
        }
        let arrival = (self.now + latency).max(open.last.get(way).copied().unwrap_or(0));
        if let Some(last) = open.last.get_mut(way) {
            *last = arrival;
        }
        let delay = arrival - self.now;
        self.at(delay, Event::Deliver { line, to_server, bytes });
    }

    fn deliver(&mut self, line: u64, to_server: bool, bytes: Vec<u8>) {
        let Some(open) = self.lines.get(&line).filter(|open| !open.silent) else {
            return;
        };
        let (device, tab, life, peer) = (open.device, open.tab, open.life, open.peer);
        if to_server {
            self.server_frame(line, peer, &bytes);
        } else {
            self.tab_frame(device, tab, life, bytes);
        }
    }

    fn cut(&mut self, line: u64) {
        let Some(gone) = self.lines.remove(&line) else {
            return;
        };
        self.server_gone(gone.peer);
        self.tab_disconnected(gone.device, gone.tab, gone.life);
    }

    /// One end closed the line: the other learns of it a little later.
    fn close_line(&mut self, line: u64) {
        let delay = 1 + self.net.below(20);
        self.at(delay, Event::Cut { line });
    }

    fn store_latency(&mut self) -> u64 {
        1 + self.disk.below(10)
    }

    fn store_fails(&mut self) -> bool {
        let one_in = self.plan.fault_one_in;
        let fails = !self.calm && one_in > 0 && self.disk.once_in(one_in);
        if fails {
            self.mark("store fault");
        }
        fails
    }
}
