//! What apps do in a simulated world, and when faults strike.

use super::{Event, World, collection, disks::Disk};
use crate::{
    id::{FieldName, RecordId, RecordKey},
    message::RejectCode,
    protocol::engine::{Input, Wish},
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange, RowState},
};
use alloc::{format, string::String, vec::Vec};

/// Hours of a year, about.
pub(super) const YEAR_HOURS: i64 = 24 * 365;
/// Bytes of a large value.
const LARGE_BYTES: usize = 80_000;

fn field(name: &str) -> FieldName {
    FieldName::parse(name).expect("a valid name")
}

pub(super) fn change(name: &str, action: FieldAction) -> FieldChange {
    FieldChange { field: field(name), action }
}

impl World {
    pub(super) fn step(&mut self) -> Result<(), String> {
        if self.is_played_out() {
            if self.dies_again() {
                self.write();
                let delay = 1 + self.apps.below(2_000);
                self.at(delay, Event::Step);
                return Ok(());
            }
            self.calm_down();
            return Ok(());
        }
        self.steps_left -= 1;
        self.strike();
        self.write();
        if self.plan.call_one_in > 0 && self.apps.once_in(self.plan.call_one_in) {
            self.call();
        }
        let mut delay = self.apps.one_of(1, &[1, 5, 50, 500, 3_000]);
        if let Some(retention) = self.plan.retention_ms
            && self.apps.once_in(8)
        {
            delay += retention / 2;
        }
        self.at(delay, Event::Step);
        Ok(())
    }

    fn strikes(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.faults.once_in(one_in)
    }

    fn strike(&mut self) {
        let plan = self.plan.clone();
        let device = self.faults.index(plan.devices);
        if self.strikes(plan.crash_one_in) {
            if self.faults.once_in(2) {
                self.device_kill(device);
            } else {
                let tab = self.faults.index(plan.tabs);
                self.tab_kill(device, tab);
            }
        }
        if self.strikes(plan.restart_one_in) && self.server.host.is_some() {
            self.server_kill();
        }
        if self.strikes(plan.step_one_in) {
            self.mark("clock stepped");
            let hours = self.clock.one_of(1, &[-1, 24, -24, 10 * YEAR_HOURS, -10 * YEAR_HOURS]);
            // A server that lost what it said while its clock was ahead takes nothing of it before that time.
            let remembers = plan.copy_one_in == 0 && plan.rot_one_in == 0;
            if plan.server_steps && remembers && self.faults.once_in(3) {
                self.mark("server clock stepped");
                self.server.skew = if self.server.skew == 0 { hours * 3_600_000 } else { 0 };
            } else if let Some(device) = self.devices.get_mut(device) {
                device.skew = if device.skew == 0 { hours * 3_600_000 } else { 0 };
            }
        }
        if self.strikes(plan.rollback_one_in) {
            self.rewind(device);
        }
        if self.strikes(plan.evict_one_in) {
            self.mark("erased");
            self.erase(device);
        }
        if self.strikes(plan.account_one_in) {
            self.switch_account(device);
        }
        if self.strikes(plan.away_one_in) {
            self.go_away(device);
        }
        if self.strikes(plan.part_one_in) {
            self.part();
        }
        if self.strikes(plan.hostile_one_in) {
            self.attack();
        }
        if self.strikes(plan.full_one_in) {
            self.fill(device);
        }
        if self.strikes(plan.sick_one_in) {
            self.sicken(device);
        }
        if self.strikes(plan.copy_one_in) {
            self.copy_server();
        }
        if self.strikes(plan.rot_one_in) {
            self.rot();
        }
        if self.strikes(plan.expiry_one_in) {
            self.expire(device);
        }
    }

    /// A device is out of reach for a while: three times in ten for longer than the server keeps what is dead.
    fn go_away(&mut self, device: usize) {
        let retention = self.plan.retention_ms.unwrap_or_default();
        let away = match self.faults.below(10) {
            0..3 => retention + self.faults.below(2 * retention + 1),
            _ => self.faults.below(retention + 1),
        };
        self.mark(if away > retention { "away for long" } else { "away" });
        let until = self.now + away;
        let lines: Vec<u64> = self
            .lines
            .iter()
            .filter(|(_, line)| line.device == device)
            .map(|(at, _)| *at)
            .collect();
        lines.into_iter().for_each(|line| self.cut(line));
        if let Some(device) = self.devices.get_mut(device) {
            device.away_until = device.away_until.max(until);
        }
    }

    /// A device comes back with an earlier copy of its store, or with another device's.
    fn rewind(&mut self, device: usize) {
        let (donor, now) = (self.faults.index(self.plan.devices), self.now);
        let Some(image) = self.devices.get(donor).map(|donor| donor.store.snapshot()) else {
            return;
        };
        if donor == device {
            // A copy is taken now and put back a while later.
            let taken = self.devices.get_mut(device).and_then(|device| device.backup.take());
            if let Some((taken, image)) = taken {
                self.mark("rolled back");
                self.lose_unsent(device);
                self.device_kill(device);
                if let Some(device) = self.devices.get_mut(device) {
                    device.rewound = true;
                }
                self.goes_on(device, image, taken);
                self.renames(device);
                self.gave_away(device);
            } else if let Some(device) = self.devices.get_mut(device) {
                device.backup = Some((now, image));
            }
            return;
        }
        self.mark("cloned");
        let donor_waits = self.unsent(donor);
        if donor_waits {
            self.mark("cloned with unsent rows");
        }
        self.lose_unsent(device);
        self.device_kill(device);
        for at in [device, donor] {
            if let Some(device) = self.devices.get_mut(at) {
                device.rewound = true;
            }
        }
        self.goes_on(device, image, now);
        self.renames(device);
        self.gave_away(device);
    }

    /// A device goes on from another store: whose that is it will tell.
    fn renames(&mut self, device: usize) {
        self.disown(device);
        self.renamed = true;
        self.doubles |= self.server_rewound;
    }

    pub(super) fn write(&mut self) {
        let device = self.apps.index(self.plan.devices);
        let tab = self.apps.index(self.plan.tabs);
        let can = self.tab(device, tab).and_then(|tab| tab.engine.as_ref());
        let Some(engine) = can.filter(|engine| engine.is_open()) else {
            return;
        };
        let rejected =
            engine.replica().overlay().rows().find_map(|(number, row)| match row.state {
                RowState::Rejected { code, .. } => Some((number, code)),
                RowState::Waiting | RowState::Accepted(_) => None,
            });
        if let Some((number, code)) = rejected.filter(|_| self.apps.once_in(2)) {
            let id = self.ledger.other(device, tab);
            // What may have counted would count twice.
            let may_retry = code != RejectCode::Unsure;
            let wish = if self.apps.once_in(3) && may_retry {
                Wish::Retry { number }
            } else {
                Wish::Discard { number }
            };
            self.tell_tab(device, tab, Input::Ask { id, wish });
            return;
        }
        // Of several that were not synced a power loss may spare some.
        let relaxed = if self.plan.torn { 5 } else { 2 };
        let relaxed = self.plan.relaxed && self.apps.below(6) < relaxed;
        let (wish, token) = if self.apps.once_in(2) {
            let (changes, token) = self.ledger_write();
            let refused = changes.iter().any(|change| change.key.collection.as_str() == "locked");
            let token = (!refused).then_some(token);
            (Wish::Write { changes, relaxed }, token)
        } else {
            let changes = if self.apps.once_in(3) {
                self.batch_write(device, tab)
            } else {
                self.mixed_write()
            };
            (Wish::Write { changes, relaxed }, None)
        };
        let id = match token {
            Some(token) => self.ledger.ask(device, tab, token, relaxed),
            None => self.ledger.other(device, tab),
        };
        if let Wish::Write { changes, .. } = &wish {
            self.ledger.remember(id, changes.clone());
        }
        self.tell_tab(device, tab, Input::Ask { id, wish });
    }

    /// Adds to a counter and, in the same batch, a note of it to a set of another record: the ledger.
    pub(super) fn ledger_entry(&mut self) -> (Vec<Change>, String) {
        let amount = self.apps.below(9) + 1;
        let token = self.ledger.token(amount);
        let amount = i64::try_from(amount).unwrap_or(0);
        let changes = [
            upsert("sum", change("sum", FieldAction::Add(amount))),
            upsert("notes", change("notes", FieldAction::Insert([Value::text(&token)].into()))),
        ];
        (Vec::from(changes), token)
    }

    /// The same, now and then with more.
    fn ledger_write(&mut self) -> (Vec<Change>, String) {
        let (mut changes, token) = self.ledger_entry();
        let id = |text: &str| RecordId::parse(text).expect("a valid id");
        let put = |name: &str, fields| Change {
            key: RecordKey { collection: collection("ledger"), id: id(name) },
            action: Action::Put(fields),
        };
        if self.plan.rejections && self.apps.once_in(4) {
            // Refused whole, with everything that was planned on top of it returned.
            changes.push(self.mixed_change("locked"));
        }
        if self.apps.once_in(8) {
            let value = Value::text(&token);
            changes
                .push(put("other", [change("title", FieldAction::Set(Kind::Lww, value))].into()));
        }
        (changes, token)
    }

    fn mixed_write(&mut self) -> Vec<Change> {
        let locked = self.plan.rejections && self.apps.once_in(6);
        let name = if locked { "locked" } else { "mixed" };
        let count = 1 + self.apps.index(2);
        (0..count).map(|_| self.mixed_change(name)).collect()
    }

    pub(super) fn mixed_change(&mut self, name: &str) -> Change {
        let id = format!("r{}", self.apps.below(self.plan.records));
        let key = RecordKey {
            collection: collection(name),
            id: RecordId::parse(&id).expect("a valid id"),
        };
        let fields = (0..1 + self.apps.index(3)).map(|_| self.mixed_field()).collect();
        let more = if self.plan.retention_ms.is_some() { 2 } else { 0 };
        let action = match self.apps.below(11_u64).saturating_sub(more) {
            0 => Action::Remove { erase: self.apps.once_in(2) },
            1 | 2 => Action::Put(fields),
            3 => Action::Add(fields),
            4 => Action::Upsert(fields),
            _ => Action::Update(fields),
        };
        Change { key, action }
    }

    fn mixed_field(&mut self) -> FieldChange {
        if self.plan.large_one_in > 0 && self.apps.once_in(self.plan.large_one_in) {
            return change("title", FieldAction::Set(Kind::Lww, self.large_value()));
        }
        let value = Value::int(i64::try_from(self.apps.below(50)).unwrap_or(0));
        let element = Value::int(i64::try_from(self.apps.below(4)).unwrap_or(0));
        match self.apps.below(12) {
            0 | 1 => change("title", FieldAction::Set(Kind::Lww, value)),
            2 => change("first", FieldAction::Set(Kind::Fww, value)),
            3 => change("high", FieldAction::Set(Kind::Max, value)),
            4 => change("low", FieldAction::Set(Kind::Min, value)),
            5 => change("votes", FieldAction::Add(1)),
            6 => change("tags", FieldAction::Insert([element].into())),
            7 => change("tags", FieldAction::Delete([element].into())),
            8 => change("notes", FieldAction::Resolve(value)),
            9 => change("tags", FieldAction::Replace([element, Value::Null].into())),
            10 => self.mixed_clear(),
            // Apps of two versions do not agree on what the field is.
            _ if self.apps.once_in(2) => change("odd", FieldAction::Set(Kind::Max, value)),
            _ => change("odd", FieldAction::Set(Kind::Lww, value)),
        }
    }

    fn mixed_clear(&mut self) -> FieldChange {
        let (name, kind) = self.apps.one_of(
            ("title", Kind::Lww),
            &[
                ("first", Kind::Fww),
                ("high", Kind::Max),
                ("low", Kind::Min),
                ("votes", Kind::Counter),
                ("tags", Kind::Set),
                ("notes", Kind::Review),
            ],
        );
        change(name, FieldAction::Clear(kind))
    }

    /// Bytes that nothing makes smaller, and that take a slow line longer than any deadline that is fixed.
    fn large_value(&mut self) -> Value {
        self.mark("large value");
        let bytes = (0..LARGE_BYTES / 32).flat_map(|_| self.apps.bytes::<32>());
        Value::Bytes(bytes.collect())
    }

    /// The last fault is over: everything is up again and stays up.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.calm_since = self.now;
        // Nobody is told of a message that is lost while its line lives on. (A line that is half-open is found out.)
        if self.plan.lose_one_in > 0 {
            let lines: Vec<u64> = self.lines.keys().copied().collect();
            lines.into_iter().for_each(|line| self.at(1, Event::Cut { line }));
        }
        let devices = self.devices.iter().map(|device| (device.at, device.tabs.len()));
        let tabs: Vec<(usize, usize)> =
            devices.flat_map(|(device, tabs)| (0..tabs).map(move |tab| (device, tab))).collect();
        for device in &mut self.devices {
            device.away_until = 0;
            device.parted.end(self.now);
            device.disk = Disk::default();
        }
        self.server.disk = Disk::default();
        for device in 0..self.plan.devices {
            self.will_decide(device);
        }
        self.end_attack();
        self.draw_dead();
        for (device, tab) in tabs {
            self.at(10_000, Event::Hint { device, tab });
        }
    }
}

/// Creates or touches a record of the ledger without clearing anything.
fn upsert(name: &str, field: FieldChange) -> Change {
    Change {
        key: RecordKey {
            collection: collection("ledger"),
            id: RecordId::parse(name).expect("a valid id"),
        },
        action: Action::Upsert(Vec::from([field])),
    }
}
