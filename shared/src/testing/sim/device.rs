//! Devices of a simulated world: a store each, and tabs that share it.

use super::{
    Event, World, account::Owner, batches::Sight, disks::Disk, middleman::Parted, plan::Plan, space,
};
use crate::{
    id::{Incarnation, ReplicaId},
    io::{Answer, Batch, CommitOutcome, FaultClass, Keyspace, Query, Ticket, Write},
    message::{RejectCode, limits::PAST_INCARNATIONS_MAX},
    planted::{Bug, Planted},
    port::Store,
    protocol::{
        engine::{Engine, EngineConfig, Input, Notice, Output},
        message::ByeCode,
    },
    replica::{Entry, META_FOLDED, decode_entry},
    testing::{block_on, memory::MemoryStore},
    time::MonoMillis,
};
use alloc::{string::String, vec::Vec};

/// How long a tab waits, at least, before it tries again to reach a server that it did not reach.
const DIAL_AGAIN_MS: u64 = 100;

#[derive(Debug)]
enum Op {
    Query(Vec<Query>),
    Commit(Batch),
}

pub(super) struct Tab {
    pub(super) engine: Option<Engine>,
    pub(super) life: u64,
    pub(super) line: Option<u64>,
    operation: Option<(u64, Op)>,
    deadline: Option<MonoMillis>,
    pub(super) leads: bool,
    dialing: bool,
    /// What its app sees.
    pub(super) sight: Sight,
}

pub(super) struct Device {
    pub(super) at: usize,
    pub(super) store: MemoryStore,
    pub(super) tabs: Vec<Tab>,
    /// Wall clock less the server's, in milliseconds.
    pub(super) skew: i64,
    /// How fast it runs away from the world's, in millionths.
    pub(super) drift_ppm: i64,
    /// What is wrong with its disk.
    pub(super) disk: Disk,
    /// Whether its store was ever rolled back or cloned: then only its data's own ledger counts.
    pub(super) rewound: bool,
    /// An earlier copy of its store, and when it was taken.
    pub(super) backup: Option<(u64, crate::testing::memory::MemoryImage)>,
    /// Who uses it.
    pub(super) owner: Owner,
    /// How often it has lost its power, or a tab.
    pub(super) deaths: u64,
    /// It reaches no server before.
    pub(super) away_until: u64,
    /// How it is parted from the server.
    pub(super) parted: Parted,
    /// How many incarnations it has had.
    dials: usize,
    /// Which id its store had when it was last opened.
    pub(super) id: Option<ReplicaId>,
}

impl Device {
    pub(super) fn new(at: usize, plan: &Plan) -> Self {
        let tab = || Tab {
            engine: None,
            life: 0,
            line: None,
            operation: None,
            deadline: None,
            leads: false,
            dialing: false,
            sight: Sight::default(),
        };
        Self {
            at,
            store: MemoryStore::new(),
            tabs: (0..plan.tabs).map(|_| tab()).collect(),
            skew: 0,
            drift_ppm: 0,
            disk: Disk::default(),
            rewound: false,
            backup: None,
            owner: Owner::of(plan),
            deaths: 0,
            away_until: 0,
            parted: Parted::default(),
            dials: 0,
            id: None,
        }
    }
}

impl World {
    pub(super) fn tab(&mut self, device: usize, tab: usize) -> Option<&mut Tab> {
        self.devices.get_mut(device)?.tabs.get_mut(tab)
    }

    fn tab_of_life(&mut self, device: usize, tab: usize, life: u64) -> Option<&mut Tab> {
        self.tab(device, tab).filter(|tab| tab.life == life && tab.engine.is_some())
    }

    pub(super) fn reopen(&mut self, device: usize, tab: usize) {
        if self.dead.contains(&device) {
            return;
        }
        let drawn = ReplicaId::from_bytes(self.faults.bytes());
        let keeps = self.plan.bug == Some(Bug::EmptyKeepsId);
        let kept = u8::try_from(device).unwrap_or(u8::MAX);
        let fresh = if keeps { ReplicaId::from_bytes([kept; 16]) } else { drawn };
        let planted = Planted::new(self.plan.bug);
        let fold_entries_min = self.plan.fold_entries_min;
        let token = self.devices.get(device).map(|device| device.owner.token());
        let life = self.tab(device, tab).map_or(0, |tab| tab.life);
        let patterns = self.plan.patterns();
        let config = EngineConfig {
            space: Some(space()),
            patterns,
            fresh,
            token,
            trace: false,
            walk: self.plan.walk_of_device(life + 1),
        };
        if let Some(tab) = self.tab(device, tab)
            && tab.engine.is_none()
        {
            let mut engine = Engine::open(config).expect("few patterns");
            engine.plant(planted, fold_entries_min);
            tab.engine = Some(engine);
            tab.life += 1;
            tab.line = None;
            tab.operation = None;
            tab.deadline = None;
            tab.leads = false;
            tab.dialing = false;
        }
        self.drain_tab(device, tab);
    }

    /// Ends a tab without a word.
    pub(super) fn tab_kill(&mut self, device: usize, tab: usize) {
        self.mark("tab killed");
        let Some(dead) = self.tab(device, tab) else {
            return;
        };
        let lived = dead.engine.take().is_some();
        dead.leads = false;
        if let Some(line) = dead.line.take() {
            self.close_line(line, false);
        }
        if let Some(device) = self.devices.get_mut(device) {
            device.deaths += u64::from(lived);
        }
        self.ledger.forget_unanswered(device, tab);
        let delay = 1 + self.faults.below(3_000);
        self.at(delay, Event::Reopen { device, tab });
        self.elect(device);
    }

    /// Power loss: every tab dies, relaxed commits may be gone.
    pub(super) fn device_kill(&mut self, device: usize) {
        self.mark("device killed");
        let tabs = self.devices.get(device).map_or(0, |device| device.tabs.len());
        for tab in 0..tabs {
            self.tab_kill(device, tab);
        }
        self.lose_power(device);
        if let Some(device) = self.devices.get_mut(device) {
            device.disk.restarts();
        }
        if self.server_rewound && self.plan.relaxed {
            self.look_for_reissues();
        }
    }

    /// The lock goes to the first tab that lives, if nobody has it.
    pub(super) fn elect(&mut self, device: usize) {
        let Some(tabs) = self.devices.get(device).map(|device| &device.tabs) else {
            return;
        };
        if tabs.iter().any(|tab| tab.leads) {
            return;
        }
        let next = tabs.iter().position(|tab| tab.engine.as_ref().is_some_and(Engine::is_open));
        if let Some(next) = next {
            if let Some(tab) = self.tab(device, next) {
                tab.leads = true;
            }
            let token = self.faults.bytes();
            self.tell_tab(device, next, Input::Lead { token });
        }
    }

    pub(super) fn tell_tab(&mut self, device: usize, tab: usize, input: Input) {
        let now = self.device_now(device);
        if let Some(engine) = self.tab(device, tab).and_then(|tab| tab.engine.as_mut()) {
            engine.handle(now, input);
        }
        self.drain_tab(device, tab);
    }

    fn drain_tab(&mut self, device: usize, tab: usize) {
        while let Some(output) =
            self.tab(device, tab).and_then(|tab| tab.engine.as_mut()).and_then(Engine::poll)
        {
            self.carry_out(device, tab, output);
        }
        self.watch(device, tab);
    }

    fn carry_out(&mut self, device: usize, at: usize, output: Output) {
        match output {
            Output::Query { ticket, queries } => {
                self.start_op(device, at, ticket, Op::Query(queries));
            }
            Output::Commit { ticket, batch } => {
                self.start_op(device, at, ticket, Op::Commit(batch));
            }
            Output::Send(bytes) => {
                self.tell_story(device, at, "->", &bytes);
                if let Some(line) = self.tab(device, at).and_then(|tab| tab.line) {
                    self.send(line, true, bytes);
                }
            }
            Output::Close { .. } => {
                if let Some(line) = self.tab(device, at).and_then(|tab| tab.line.take()) {
                    self.close_line(line, false);
                }
            }
            Output::Done { id, result } => {
                if let Ok(receipt) = &result {
                    self.check_done(device, at, id, receipt);
                }
                self.adopted(device, id, result.is_ok());
                self.ledger.done(id, &result);
            }
            Output::Notice(notice) => self.noticed(device, at, &notice),
        }
    }

    fn noticed(&mut self, device: usize, at: usize, notice: &Notice) {
        if !matches!(notice, Notice::Changed(_) | Notice::LogGrew | Notice::Status) {
            self.tell(device, at, format_args!("{notice:?}"));
        }
        match notice {
            Notice::Opened => self.tab_opened(device, at),
            Notice::Changed(keys) => self.look(device, at, keys),
            Notice::AccountChanged { ours, theirs } => self.account_changed(device, ours, theirs),
            Notice::LogGrew => {
                let tabs = self.devices.get(device).map_or(0, |device| device.tabs.len());
                for tab in (0..tabs).filter(|tab| *tab != at) {
                    // A hint may be lost: the guard of the next commit finds out.
                    if self.calm || !self.net.once_in(4) {
                        let delay = 1 + self.net.below(5);
                        self.at(delay, Event::Hint { device, tab });
                    }
                }
            }
            Notice::Deposed => {
                if let Some(tab) = self.tab(device, at) {
                    tab.leads = false;
                }
                // Whoever cannot hold the lead asks for it again after a pause.
                let delay = 1 + self.faults.below(1_000);
                self.at(delay, Event::Elect { device });
            }
            Notice::Diverged { .. } => {
                self.mark("diverged");
                self.object(alloc::format!("device {device} tab {at}: {notice:?}"));
            }
            Notice::Mended { .. } => {
                self.object(alloc::format!("device {device} tab {at}: {notice:?}"));
            }
            Notice::Reborn { old, new } => {
                self.earlier_ids.insert(*new, *old);
                self.mark("reborn");
                // A server that was put back may know none of more incarnations than a hello names, and not that it
                // had accepted rows of which no acknowledgement came: these go on under another id, and others bring
                // back what they had done (docs/PROTOCOL.md, gaps).
                let dials = self.devices.get(device).map_or(0, |device| device.dials);
                let goes_twice = dials > PAST_INCARNATIONS_MAX || self.others_have_waiting(device);
                self.doubles |= self.server_rewound && goes_twice;
            }
            Notice::Refilled { .. } => self.mark("refilled"),
            Notice::Rejected { number, code, .. } => {
                if !self.rejected(device, at, *number, *code) {
                    self.object(alloc::format!("device {device} tab {at}: {notice:?}"));
                }
            }
            Notice::Conflict { .. } => self.mark("conflict"),
            Notice::Ended { code, .. } => {
                let lossy = self.plan.lose_one_in > 0 && *code == ByeCode::Misbehaved;
                let line = self.tab(device, at).and_then(|tab| tab.line);
                let line = line.and_then(|line| self.lines.get(&line));
                let tampered = line.is_some_and(|line| line.tampered.ever)
                    && matches!(code, ByeCode::Misbehaved | ByeCode::Malformed);
                let faults = [ByeCode::Misbehaved, ByeCode::Malformed, ByeCode::Internal];
                if faults.contains(code) && !lossy && !tampered {
                    self.object(alloc::format!("device {device} tab {at}: {notice:?}"));
                }
                if *code == ByeCode::Unauthorized {
                    self.needs_token(device);
                }
            }
            Notice::Unreadable(class) => self.unreadable(device, at, *class),
            Notice::Refused(_) | Notice::Damaged(_) | Notice::OtherSpace { .. } => {
                self.mark("unreadable");
            }
            Notice::Leading
            | Notice::Status
            | Notice::Accepted(_)
            | Notice::Delayed { .. }
            | Notice::Others(_)
            | Notice::Trace { .. } => {}
        }
    }

    /// A store was opened: it may have another id, of which nobody had been told before its power went.
    fn tab_opened(&mut self, device: usize, at: usize) {
        let tab = self.tab(device, at).and_then(|tab| tab.engine.as_ref());
        let id = tab.map(|engine| engine.replica().id());
        let known =
            self.devices.get_mut(device).and_then(|held| core::mem::replace(&mut held.id, id));
        if known.is_some() && known != id {
            self.mark("reborn");
        }
        self.look_at_all(device, at);
        self.elect(device);
    }

    /// A row was refused for good; whether that was to be expected.
    fn rejected(&mut self, device: usize, at: usize, number: u64, code: RejectCode) -> bool {
        self.mark("rejected");
        self.excuse(device, at, number);
        let too_large = code == RejectCode::TooLarge;
        let unsure = code == RejectCode::Unsure;
        let gone = code == RejectCode::RecordGone;
        if too_large || unsure || gone {
            self.mark(if too_large {
                "record full"
            } else if gone {
                "record gone"
            } else {
                "unsure"
            });
            self.refused(device, at, number);
        }
        if gone || unsure {
            self.void(device, at, number, gone);
        }
        if unsure {
            // Whether a lost history had it cannot be told: the user decides, and need not keep it.
            self.gives_up_batches(device);
            // A row may be there in spite of it, and what is written on top of it does not know it.
            self.doubles |= self.server.forgot;
            if self.server.forgot {
                self.unsure(device, at, number);
            }
        }
        let server = &self.server;
        let may_have_had = self.server_rewound || server.forgot || server.lost;
        code == RejectCode::Forbidden
            || (too_large && self.plan.has_small_records())
            || (unsure && (may_have_had || self.plan.retention_ms.is_some()))
            || (gone && self.may_be_gone())
    }

    /// Whether a record may be gone: collected, lost, or never made, since the row that made it was refused.
    fn may_be_gone(&self) -> bool {
        let plan = &self.plan;
        self.server_rewound
            || plan.retention_ms.is_some()
            || plan.rot_one_in > 0
            || plan.rejections
            || plan.has_small_records()
    }

    fn start_op(&mut self, device: usize, at: usize, ticket: Ticket, op: Op) {
        let Some(tab) = self.tab(device, at) else {
            return;
        };
        tab.operation = Some((ticket.0, op));
        let life = tab.life;
        let delay = self.store_latency();
        self.at(delay, Event::TabStore { device, tab: at, life, ticket: ticket.0 });
    }

    pub(super) fn tab_store(&mut self, device: usize, at: usize, life: u64, ticket: u64) {
        let Some(tab) = self.tab_of_life(device, at, life) else {
            return;
        };
        let Some((_, op)) = tab.operation.take_if(|(known, _)| *known == ticket) else {
            return;
        };
        let fails = match &op {
            Op::Query(_) => self.store_fails().then_some(FaultClass::Transient),
            Op::Commit(_) => self.device_write_fails(device),
        };
        let Some(store) = self.devices.get(device).map(|device| device.store.clone()) else {
            return;
        };
        let ticket = Ticket(ticket);
        let input = match op {
            Op::Query(_) if fails.is_some() => {
                Input::Answered { ticket, result: Err(FaultClass::Transient) }
            }
            Op::Query(queries) => {
                let result: Result<Vec<Answer>, _> = block_on(store.read(&queries));
                Input::Answered { ticket, result: result.map_err(|_never| FaultClass::Permanent) }
            }
            Op::Commit(batch) => {
                let happens = self.happened(fails);
                let rows = rows_of(&batch);
                if is_part_of_fold(&batch) {
                    self.mark("folded in parts");
                }
                let outcome = happens.then(|| block_on(store.commit(batch)));
                if matches!(outcome, Some(Ok(CommitOutcome::Applied))) {
                    rows.into_iter().for_each(|row| self.ledger.stored(row));
                }
                let result = match (fails, outcome) {
                    (Some(class), _) => Err(class),
                    (None, Some(Ok(outcome))) => Ok(outcome),
                    (None, _) => Err(FaultClass::Transient),
                };
                Input::Committed { ticket, result }
            }
        };
        self.tell_tab(device, at, input);
    }

    /// Looks after deadlines and the connection.
    fn watch(&mut self, device: usize, at: usize) {
        let now = self.now;
        let Some(tab) = self.tab(device, at) else {
            return;
        };
        let (life, line) = (tab.life, tab.line);
        let Some(engine) = &tab.engine else { return };
        let wanted = engine.wants_connection() && line.is_none() && !tab.dialing;
        let overdue = engine.deadline().filter(|at| at.0 < now);
        let deadline = engine.deadline().filter(|at| tab.deadline.is_none_or(|known| *at < known));
        if let Some(deadline) = deadline {
            tab.deadline = Some(deadline);
        }
        tab.dialing |= wanted;
        let principal = engine.replica().principal().map(String::from);
        if principal.is_some() {
            self.named(device, principal);
        }
        if let Some(overdue) = overdue {
            self.object(alloc::format!(
                "device {device} tab {at}: {overdue:?} is over and stays due"
            ));
        }
        if let Some(deadline) = deadline {
            self.at(deadline.0.saturating_sub(now), Event::TabDeadline { device, tab: at, life });
        }
        if wanted {
            let delay = 1 + self.net.below(1_000);
            self.at(delay, Event::Dial { device, tab: at, life });
        }
    }

    pub(super) fn tab_deadline(&mut self, device: usize, at: usize, life: u64) {
        if let Some(tab) = self.tab_of_life(device, at, life) {
            tab.deadline = None;
            self.tell_tab(device, at, Input::Deadline);
        }
    }

    pub(super) fn dial(&mut self, device: usize, at: usize, life: u64) {
        let reaches =
            |device: &Device| device.away_until <= self.now && !device.parted.is_parted(self.now);
        let up = self.server.host.is_some() && self.devices.get(device).is_some_and(reaches);
        let unanswered = self.unanswered(device);
        let Some(tab) = self.tab_of_life(device, at, life) else {
            return;
        };
        if let Some(later) = unanswered {
            return self.at(later, Event::Dial { device, tab: at, life });
        }
        let wants = tab.engine.as_ref().is_some_and(Engine::wants_connection);
        tab.dialing = wants && tab.line.is_none() && !up;
        if tab.dialing {
            let later = DIAL_AGAIN_MS + self.net.below(1_000);
            return self.at(later, Event::Dial { device, tab: at, life });
        }
        if !wants || tab.line.is_some() {
            return;
        }
        let line = self.open_line(device, at, life);
        if let Some(tab) = self.tab(device, at) {
            tab.line = Some(line);
        }
        if let Some(device) = self.devices.get_mut(device) {
            device.dials += 1;
        }
        let input = Input::Connected {
            incarnation: Incarnation::from_bytes(self.faults.bytes()),
            fresh: ReplicaId::from_bytes(self.faults.bytes()),
            salt: self.faults.next_u64(),
        };
        self.tell_tab(device, at, input);
    }

    pub(super) fn hint(&mut self, device: usize, tab: usize) {
        self.tell_tab(device, tab, Input::Hint);
    }

    /// A message came on a line; nobody listens on one that was left.
    pub(super) fn tab_frame(
        &mut self,
        (device, at, life): (usize, usize, u64),
        line: u64,
        bytes: Vec<u8>,
    ) {
        self.tell_story(device, at, "<-", &bytes);
        self.tab_input((device, at, life), line, Input::Frame(bytes));
    }

    /// Something came of a line, if it was not left.
    pub(super) fn tab_input(
        &mut self,
        (device, at, life): (usize, usize, u64),
        line: u64,
        input: Input,
    ) {
        if self.tab_of_life(device, at, life).is_some_and(|tab| tab.line == Some(line)) {
            self.tell_tab(device, at, input);
        }
    }

    pub(super) fn tab_disconnected(&mut self, device: usize, at: usize, life: u64) {
        let lines: Vec<u64> = self.lines.keys().copied().collect();
        let Some(tab) = self.tab_of_life(device, at, life) else {
            return;
        };
        if tab.line.is_some_and(|line| lines.contains(&line)) {
            // It has a newer line already.
            return;
        }
        if tab.line.take().is_some() {
            self.tell_tab(device, at, Input::Disconnected);
        }
        self.watch(device, at);
    }
}

/// Whether a batch is one of several of a fold, and not the last one.
fn is_part_of_fold(batch: &Batch) -> bool {
    batch.writes.iter().any(|write| match write {
        Write::Put { keyspace: Keyspace::Meta, row } if row.key == META_FOLDED => {
            row.value.iter().skip(8).any(|byte| *byte > 0)
        }
        Write::Put { .. } | Write::Delete { .. } => false,
    })
}

/// The local commits in a batch; a fold, which rewrites old ones, has none.
fn rows_of(batch: &Batch) -> Vec<crate::replica::Row> {
    let is_fold = |write: &Write| matches!(write, Write::Put { keyspace: Keyspace::Meta, row } if row.key == META_FOLDED);
    if batch.writes.iter().any(is_fold) {
        return Vec::new();
    }
    let log = batch.writes.iter().filter_map(|write| match write {
        Write::Put { keyspace: Keyspace::Log, row } => decode_entry(&row.value).ok(),
        Write::Put { .. } | Write::Delete { .. } => None,
    });
    log.filter_map(|entry| if let Entry::Commit(row) = entry { Some(row) } else { None }).collect()
}
