//! The server of a simulated world: one host on one store.

use super::{
    Event, Line, World,
    bad_lines::Carried,
    callers::Kept,
    disks::Disk,
    history::Copy,
    hostile::MALLORY,
    middleman::Tampered,
    reference::Committed,
    space,
    tokens::{name_in, refusal},
    wires::Passed,
    workload::YEAR_HOURS,
};
use crate::{
    hlc::Hlc,
    id::{Epoch, Pattern, RecordKey},
    io::{Answer, Batch, CommitOutcome, FaultClass, Query, Ticket},
    planted::{Bug, Planted},
    port::Store,
    protocol::{
        host::{Grant, Host, HostConfig, HostInput, HostNote, HostOutput, PeerId},
        limits::AHEAD_MAX,
        message::{Bye, ByeCode, Message, Right},
        wire,
    },
    record::Record,
    testing::{block_on, memory::MemoryStore},
    time::{Millis, MonoMillis},
};
use alloc::{collections::BTreeMap, string::String, vec::Vec};

/// By how much writers may carry on a clock that was ahead once: by counts, of which few make a millisecond.
const CARRIED_MS_MAX: u64 = 1_000;

#[derive(Debug)]
enum Op {
    Query(Vec<Query>),
    Commit(Batch),
}

pub(super) struct Server {
    pub(super) store: MemoryStore,
    pub(super) host: Option<Host>,
    pub(super) life: u64,
    operations: BTreeMap<u64, Op>,
    /// Peers that said hello.
    greeted: BTreeMap<u64, u64>,
    deadline: Option<MonoMillis>,
    /// An earlier copy of its store.
    pub(super) copy: Option<Copy>,
    /// The copy that takes the store's place when it starts.
    pub(super) restoring: Option<Copy>,
    /// The secret of its proofs.
    pub(super) secret: [u8; 32],
    /// What each device showed when history was lost last.
    pub(super) held: BTreeMap<usize, BTreeMap<RecordKey, Record>>,
    /// A record of it has rotted, and the world did not rest since.
    pub(super) lacks: bool,
    /// A record of it has rotted.
    pub(super) lost: bool,
    /// What it knew of accepted rows and of replicas may have rotted.
    pub(super) forgot: bool,
    /// Passes of its scrub since its start when something rotted last.
    pub(super) passes: u64,
    /// What its wall clock shows beyond the world's, in milliseconds.
    pub(super) skew: i64,
    /// The greatest time that it ever showed.
    wall_max: u64,
    /// How fast it runs away from the world's, in millionths.
    pub(super) drift_ppm: i64,
    /// What is wrong with its disk.
    pub(super) disk: Disk,
    /// How often it was killed.
    pub(super) kills: u64,
    /// How long it has run.
    pub(super) age: Age,
}

/// How long a server has run, as far as its store knows, and what its clock showed by then.
#[derive(Debug, Clone, Default)]
pub(super) struct Age {
    /// As it was last stored.
    ran: u64,
    /// The world's time when it was started, while it runs.
    since: Option<u64>,
    /// Ascending.
    clocks: Vec<(u64, Hlc)>,
}

impl Age {
    fn at(&self, now: u64) -> u64 {
        self.ran + self.since.map_or(0, |since| now - since)
    }

    /// The server ends: what it ran since it was last stored is forgotten.
    pub(super) fn end(&mut self, now: u64, forgotten: u64) {
        let ran = self.at(now).saturating_sub(forgotten).max(self.ran);
        self.since = None;
        self.ran = ran;
        // It was no later than that.
        self.clocks.iter_mut().for_each(|(at, _)| *at = (*at).min(ran));
    }

    /// As a copy of the store that is taken now knows it.
    pub(super) fn copy(&self, now: u64) -> Self {
        Self { ran: self.at(now), since: None, clocks: self.clocks.clone() }
    }

    /// What the clock showed a while ago, at the latest.
    fn clock_before(&self, now: u64, retention: u64) -> Hlc {
        let then = self.at(now).checked_sub(retention);
        let clocks = self.clocks.iter().take_while(|(ran, _)| Some(*ran) <= then);
        clocks.map(|(_, clock)| *clock).max().unwrap_or_default()
    }
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            host: None,
            life: 0,
            operations: BTreeMap::new(),
            greeted: BTreeMap::new(),
            deadline: None,
            copy: None,
            restoring: None,
            secret: [7; 32],
            held: BTreeMap::new(),
            skew: 0,
            wall_max: 0,
            drift_ppm: 0,
            disk: Disk::default(),
            kills: 0,
            age: Age::default(),
            lacks: false,
            lost: false,
            forgot: false,
            passes: 0,
        }
    }
}

/// A token is a name, with a number: whoever says it is it.
pub(super) fn grant(token: Option<&str>) -> Grant {
    let name = token.map(name_in).unwrap_or_default();
    let harmless = name != MALLORY;
    let right = |pattern, write: bool| Right { pattern, write: write && harmless };
    let exact = |name: &str| Pattern::Exact(super::collection(name));
    let rights = Vec::from([
        right(Pattern::All, false),
        right(exact("ledger"), true),
        right(exact("mixed"), true),
        right(Pattern::Prefix(super::collection("pair")), true),
    ]);
    Grant { principal: String::from(name), rights }
}

impl World {
    pub(super) fn server_start(&mut self) {
        if self.server.host.is_some() {
            return;
        }
        self.restore_server();
        self.server.life += 1;
        self.server.operations.clear();
        self.server.greeted.clear();
        self.server.deadline = None;
        let epoch = Epoch::from_bytes(self.faults.bytes());
        let mut config = HostConfig::new(space(), epoch, self.server.secret);
        config.page_bytes_aim = self.plan.page_bytes_aim;
        config.chunk_bytes_aim = self.plan.chunk_bytes_aim;
        config.limits.record_bytes = self.plan.record_bytes_max;
        config.walk = self.plan.walk_of_server(self.server.life);
        if self.plan.rot_one_in > 0 {
            config.scrub = Some(Millis(10_000));
        }
        self.server.passes = 0;
        config.planted = Planted::new(self.plan.bug);
        if let Some(retention) = self.plan.retention_ms {
            config.retention = Millis(retention);
            // A server that lost what it said while its clock was ahead takes nothing of it before that time.
            let may_jump = self.plan.step_one_in > 0 && self.plan.copy_one_in == 0;
            if may_jump && self.faults.once_in(3) {
                self.mark("server clock jumped");
                let hours = self.clock.one_of(0, &[-1, 10 * YEAR_HOURS, -10 * YEAR_HOURS]);
                self.server.skew = hours * 3_600_000;
            }
        }
        config.ran = Millis(self.server.age.at(self.now));
        self.server.age.since = Some(self.now);
        self.server.host = Some(Host::open(config, self.server_now()));
        self.drain_server();
    }

    /// Kills the server: what was not synced is gone, lines are found dead.
    pub(super) fn server_kill(&mut self) {
        self.mark("server killed");
        self.server_die();
        let lines: Vec<u64> = self.lines.keys().copied().collect();
        for line in lines {
            self.close_line(line, true);
        }
        let delay = 1 + self.faults.below(5_000);
        self.at(delay, Event::ServerStart);
    }

    pub(super) fn server_die(&mut self) {
        self.server.kills += u64::from(self.server.host.take().is_some());
        let forgotten = self.faults.below(1_000);
        self.server.age.end(self.now, forgotten);
        self.server.disk.restarts();
        self.server.store.crash();
        self.calls_unheard();
    }

    pub(super) fn tell_host(&mut self, input: HostInput) {
        let now = self.server_now();
        if let Some(host) = &mut self.server.host {
            host.handle(now, input);
        }
        self.drain_server();
    }

    pub(super) fn server_frame(&mut self, line: u64, peer: u64, bytes: &[u8]) {
        if self.server.host.is_none() {
            return;
        }
        let Ok((_, message)) = wire::split_frame(bytes) else {
            return self.violated(line, peer);
        };
        if self.server.greeted.contains_key(&peer) {
            self.tell_host(HostInput::Message { peer: PeerId(peer), bytes: message.to_vec() });
            return;
        }
        if let Ok(Message::Hello(hello)) = wire::decode(message) {
            if !self.lets_in(line, peer, hello.token.as_ref()) {
                return;
            }
            self.server.greeted.insert(peer, line);
            let grant = grant(hello.token.as_deref());
            self.tell_host(HostInput::Opened { peer: PeerId(peer), hello, grant });
        }
    }

    /// Not even a channel can be read: the server says so, and leaves.
    fn violated(&mut self, line: u64, peer: u64) {
        let reason = String::from("the frame has no channel number");
        let bye = Bye { code: ByeCode::Malformed, reason, retry_after: None };
        self.send(line, false, wire::encode_frame(0, &Message::Bye(bye)));
        self.server_gone(peer);
        self.close_line(line, true);
    }

    pub(super) fn server_gone(&mut self, peer: u64) {
        self.forget_token(peer);
        if self.server.greeted.remove(&peer).is_some() {
            self.tell_host(HostInput::Gone { peer: PeerId(peer) });
        }
    }

    fn drain_server(&mut self) {
        let life = self.server.life;
        while let Some(output) = self.server.host.as_mut().and_then(Host::poll) {
            match output {
                HostOutput::Send { peer, bytes } => {
                    if let Some(line) = self.server.greeted.get(&peer.0).copied() {
                        let deflated = wire::deflated(&bytes);
                        let message = deflated.as_deref().unwrap_or(&bytes);
                        if self.plan.bug == Some(Bug::DeadlinesFixed) {
                            self.send(line, false, [&[0], message].concat());
                        } else {
                            for frame in wire::frames(0, message) {
                                self.send(line, false, frame);
                            }
                        }
                        let sent = bytes.len();
                        let now = self.server_now();
                        if let Some(host) = &mut self.server.host {
                            host.handle(now, HostInput::Sent { peer, bytes: sent });
                        }
                    }
                }
                HostOutput::Query { ticket, queries } => {
                    self.server.operations.insert(ticket.0, Op::Query(queries));
                    let delay = self.store_latency();
                    self.at(delay, Event::ServerStore { life, ticket: ticket.0 });
                }
                HostOutput::Commit { ticket, batch } => {
                    self.server.operations.insert(ticket.0, Op::Commit(batch));
                    let delay = self.store_latency();
                    self.at(delay, Event::ServerStore { life, ticket: ticket.0 });
                }
                HostOutput::Close { peer, .. } => {
                    if let Some(line) = self.server.greeted.remove(&peer.0) {
                        self.close_line(line, true);
                    }
                }
                HostOutput::Written { number, answer } => self.answered(number, answer),
                HostOutput::Note(note) => {
                    self.tell(99, 0, format_args!("{note:?}"));
                    self.noted(&note);
                }
                HostOutput::RefreshAsked { peer, token } => {
                    let input = if self.renews(peer.0, &token) {
                        HostInput::Regranted { peer, grant: grant(Some(&token)) }
                    } else {
                        HostInput::Dismissed { peer, bye: refusal() }
                    };
                    let now = self.server_now();
                    if let Some(host) = &mut self.server.host {
                        host.handle(now, input);
                    }
                }
            }
        }
        if let Some(at) = self.server.host.as_ref().and_then(Host::deadline)
            && self.server.deadline.is_none_or(|known| at < known)
        {
            self.server.deadline = Some(at);
            let delay = at.0.saturating_sub(self.now);
            self.at(delay, Event::ServerDeadline { life });
        }
    }

    /// Nothing is forgotten before the server has run for long enough since, whatever clocks say.
    fn noted(&mut self, note: &HostNote) {
        if let HostNote::Fatal { .. } = note {
            // Its supervisor starts it anew.
            self.mark("server gave up");
            self.at(1, Event::ServerEnd { life: self.server.life });
        }
        let HostNote::Collected { horizon, records, rows } = note else {
            return;
        };
        if *records > 0 {
            self.mark("collected");
        }
        let retention = self.plan.retention_ms.unwrap_or(u64::MAX);
        let before = self.server.age.clock_before(self.now, retention);
        if *horizon > before {
            self.object(alloc::format!(
                "collected {records} records and {rows} rows up to {horizon:?}, beyond {before:?}"
            ));
        }
    }

    /// Keeps what the server's clock shows.
    fn watch_clock(&mut self) {
        let clock = self.server.host.as_ref().map(|host| host.facts().clock).unwrap_or_default();
        let wall = self.server_now().wall.0;
        self.server.wall_max = self.server.wall_max.max(wall);
        if clock.wall().0 > self.server.wall_max + AHEAD_MAX.0 + CARRIED_MS_MAX {
            self.object(alloc::format!("the server's clock was dragged from {wall} to {clock:?}"));
        }
        let ran = self.server.age.at(self.now);
        let clocks = &mut self.server.age.clocks;
        if clocks.last().is_none_or(|(_, last)| clock > *last) {
            clocks.push((ran, clock));
        }
    }

    pub(super) fn server_deadline(&mut self, life: u64) {
        if life == self.server.life {
            self.server.deadline = None;
            self.tell_host(HostInput::Deadline);
        }
    }

    pub(super) fn server_store(&mut self, life: u64, ticket: u64) {
        if life != self.server.life || self.server.host.is_none() {
            return;
        }
        let Some(op) = self.server.operations.remove(&ticket) else {
            return;
        };
        let fails = match &op {
            Op::Query(_) => self.store_fails().then_some(FaultClass::Transient),
            Op::Commit(_) => self.server_write_fails(),
        };
        let ticket = Ticket(ticket);
        let store = self.server.store.clone();
        let input = match op {
            Op::Query(_) if fails.is_some() => {
                HostInput::Answered { ticket, result: Err(FaultClass::Transient) }
            }
            Op::Query(queries) => {
                let result: Result<Vec<Answer>, _> = block_on(store.read(&queries));
                HostInput::Answered {
                    ticket,
                    result: result.map_err(|_never| FaultClass::Permanent),
                }
            }
            Op::Commit(mut batch) => {
                batch.relaxed |= self.plan.bug == Some(Bug::SyncSkipped);
                let happens = self.happened(fails);
                let noted = Committed::of(&batch);
                let answers = Kept::of(&batch);
                let outcome = happens.then(|| block_on(store.commit(batch)));
                if matches!(outcome, Some(Ok(CommitOutcome::Applied))) {
                    let called = self.answers_kept(answers);
                    self.committed(noted, called);
                }
                let result = match (fails, outcome) {
                    (Some(class), _) => Err(class),
                    (None, Some(Ok(outcome))) => Ok(outcome),
                    (None, _) => Err(FaultClass::Transient),
                };
                HostInput::Committed { ticket, result }
            }
        };
        self.tell_host(input);
        self.watch_clock();
    }

    pub(super) fn open_line(&mut self, device: usize, tab: usize, life: u64) -> u64 {
        let line = self.next_line;
        self.next_line += 1;
        let open = Line {
            device,
            tab,
            life,
            server_life: self.server.life,
            peer: line,
            silent: false,
            left: [false; 2],
            tampered: Tampered::default(),
            carried: Carried::default(),
            free: [0; 2],
            last: [0; 2],
            passed: Passed::default(),
        };
        self.lines.insert(line, open);
        line
    }
}
