//! A world in one thread: a host, devices with tabs, a network and clocks, all from one seed.
//!
//! The shipped machines run here with the bytes they would send and store; only time, sockets and disks
//! are played. A run draws its faults (cuts, half-open lines, crashes, server restarts, clock steps,
//! rejections, failing stores, rolled-back, cloned and erased devices, newcomers, changed accounts, a server
//! that comes back with an old copy of its store, or whose store rots), lets chaos reign, heals, waits for progress to
//! end, and then asks the oracles. Same seed, same events, same digest of the trace.
#![expect(clippy::expect_used, reason = "test code: what cannot be here is a broken test")]

mod account;
mod bad_lines;
mod batches;
mod callers;
pub mod canaries;
mod causal;
mod device;
mod disks;
mod healing;
mod history;
mod hostile;
pub mod marks;
mod middleman;
mod oracle;
mod partition;
mod plan;
mod reference;
mod rot;
mod runs;
mod script;
mod server;
mod shrink;
mod tape;
mod tokens;
mod trace;
mod wanted;
mod wires;
mod workload;

use crate::{
    id::{CollectionName, Pattern, ReplicaId, SpaceId},
    protocol::wire::{self, BadLine},
    time::{MonoMillis, Now, WallMillis},
};
use alloc::{
    collections::{BinaryHeap, VecDeque},
    format,
    string::{String, ToString},
    vec::Vec,
};
use batches::Batches;
use core::{cmp::Reverse, fmt, hash::Hash};
use device::Device;
use oracle::Ledger;
use server::Server;

pub use partition::{Healed, partition};
pub use plan::Plan;
pub use runs::{Failure, Outcome, run, run_plan, run_script, run_tape, script, tell, trace};
pub use script::{Script, ScriptError};
use std::collections::{BTreeMap, BTreeSet};
pub use tape::{STREAMS, TAPE_BYTES_MAX, Tape};
use tape::{Stream, Streams};
use trace::Trace;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Event {
    /// A frame arrives, with its check; the device is told apart from the server by `to_server`.
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
    /// A tab whose store does not work is loaded anew.
    Reload {
        device: usize,
        tab: usize,
        life: u64,
    },
    /// The lead of a device is free.
    Elect {
        device: usize,
    },
    /// The server has given up.
    ServerEnd {
        life: u64,
    },
    /// The server comes back.
    ServerStart,
    /// The app decides what becomes of another account's records.
    Decide {
        device: usize,
    },
    /// The user of an app whose token has run out logs in.
    LogIn {
        device: usize,
    },
    /// Somebody who has no replica asks the server for something.
    Call {
        name: [u8; 32],
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
    server_life: u64,
    peer: u64,
    /// Nothing passes any more and nobody is told.
    silent: bool,
    /// Whether the device, and the server, have closed it.
    left: [bool; 2],
    /// What a bad middleman does to it.
    tampered: middleman::Tampered,
    /// How it carries frames.
    carried: bad_lines::Carried,
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
    reference: reference::Reference,
    causal: causal::Causal,
    marks: BTreeMap<&'static str, u64>,
    trace: Trace,
    events: u64,
    calm: bool,
    calm_since: u64,
    steps_left: u64,
    /// Devices that are left dead when the others are healed.
    dead: BTreeSet<usize>,
    /// Whether these come back.
    revives: bool,
    /// One who means harm.
    hostile: hostile::Hostile,
    tokens: tokens::Tokens,
    callers: callers::Callers,
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

/// Virtual milliseconds that a healed world is given without progress.
const PATIENCE_MS: u64 = 600_000;
/// Virtual milliseconds within which a healed world comes to rest, whatever it does.
const REST_WITHIN_MS: u64 = 3 * 3_600_000;
const STORY_LINES_MAX: usize = 4_000;
/// Frames beyond this are told by their size.
const STORY_FRAME_BYTES_MAX: usize = 8_000;
const STORY_CHARS_MAX: usize = 1_500;
const EVENTS_MAX: u64 = 400_000;
const START_MS: u64 = 1_700_000_000_000;

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
            devices: (0..plan.devices).map(|at| Device::new(at, &plan)).collect(),
            lines: BTreeMap::new(),
            next_line: 1,
            ledger: Ledger::default(),
            batches: Batches::default(),
            reference: reference::Reference::default(),
            causal: causal::Causal::default(),
            marks: BTreeMap::new(),
            trace: Trace::default(),
            events: 0,
            calm: false,
            calm_since: 0,
            steps_left: plan.writes,
            dead: BTreeSet::new(),
            revives: false,
            hostile: hostile::Hostile::default(),
            tokens: tokens::Tokens::default(),
            callers: callers::Callers::default(),
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
        world.draw_drift();
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
        let ahead = self.server.skew + self.drifted(self.server.drift_ppm);
        let wall = START_MS.saturating_add_signed(ahead) + self.now;
        Now { wall: WallMillis(wall), mono: MonoMillis(self.now) }
    }

    fn device_now(&self, device: usize) -> Now {
        let ahead = |device: &Device| device.skew + self.drifted(device.drift_ppm);
        let ahead = self.devices.get(device).map_or(0, ahead);
        let wall = START_MS.saturating_add_signed(ahead) + self.now;
        Now { wall: WallMillis(wall), mono: MonoMillis(self.now) }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut progress = (self.now, Vec::new());
        while self.turn()? {
            if self.calm {
                if self.is_quiet() {
                    self.check_end()?;
                    if !self.revive() {
                        return Ok(());
                    }
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

    /// The next event happens, if there is one.
    fn turn(&mut self) -> Result<bool, String> {
        let Some(Reverse(timed)) = self.queue.pop() else { return Ok(false) };
        self.now = self.now.max(timed.at);
        self.events += 1;
        if self.events > EVENTS_MAX {
            return Err(format!("no rest after {EVENTS_MAX} events: {}", self.summary()));
        }
        (timed.at, &timed.event).hash(&mut self.trace);
        self.happen(timed.event)?;
        self.check_step()?;
        self.objection.take().map_or(Ok(true), Err)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { line, to_server, bytes } => self.deliver(line, to_server, &bytes),
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
            Event::Reload { device, tab, life } => self.reload(device, tab, life),
            Event::Elect { device } => self.elect(device),
            Event::ServerEnd { life } if life == self.server.life => self.server_kill(),
            Event::ServerEnd { .. } => {}
            Event::ServerStart => self.server_start(),
            Event::Decide { device } => self.decide(device),
            Event::LogIn { device } => self.log_in(device),
            Event::Call { name } => self.called(name),
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
        if to_server {
            self.overhear(&bytes);
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
        let bytes = self.tamper(line, to_server, bytes);
        self.carry(line, to_server, bytes);
    }

    /// A frame takes its time on a line.
    fn pass(&mut self, line: u64, to_server: bool, bytes: Vec<u8>) {
        let Some(held_up) = self.held_up(line, to_server) else {
            return;
        };
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let way = usize::from(to_server);
        let mut latency = 1 + self.net.below(40) + held_up;
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

    fn deliver(&mut self, line: u64, to_server: bool, sealed: &[u8]) {
        let Some(open) = self.lines.get(&line).filter(|open| !open.silent) else {
            return;
        };
        let (device, tab, life, peer) = (open.device, open.tab, open.life, open.peer);
        match self.opened(line, to_server, sealed) {
            Ok(frame) if to_server => self.server_frame(line, peer, &frame),
            Ok(frame) => self.tab_frame((device, tab, life), line, frame),
            Err(BadLine) => self.bad_line(line, to_server),
        }
    }

    fn cut(&mut self, line: u64) {
        let Some(gone) = self.lines.remove(&line) else {
            return;
        };
        self.server_gone(gone.peer);
        self.tab_disconnected(gone.device, gone.tab, gone.life);
    }

    /// One end closed the line: the other learns of it a little later, or never on a line that is half-open. What was
    /// said before it comes first, unless the line is reset.
    fn close_line(&mut self, line: u64, by_server: bool) {
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let is_open = !open.silent && !open.tampered.mute.contains(&true);
        let said = open.last.get(usize::from(!by_server)).copied().unwrap_or(0);
        let [device, server] = &mut open.left;
        let (own, other) = if by_server { (server, device) } else { (device, server) };
        *own = true;
        if !is_open && !*other {
            return;
        }
        let left = said.saturating_sub(self.now);
        let resets = !self.calm && left > 0 && self.net.once_in(4);
        if resets {
            self.mark("last words lost");
        }
        let delay = if resets { 0 } else { left } + 1 + self.net.below(20);
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
