//! Batches over several records and two collections: every app sees the whole of one or nothing of it, at
//! every step, whether it was there from the start or is still in its snapshot.

use super::{
    World,
    causal::{Shown, last, register},
    collection,
};
use crate::{
    id::{RecordId, RecordKey},
    protocol::engine::Engine,
    record::{Record, State, Value},
    replica::{Action, Change, FieldAction, FieldChange, Intent, Row, RowState},
    sorted::SortedSet,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// A batch that was asked for.
#[derive(Debug, Clone)]
struct Batch {
    /// By which device.
    device: usize,
    records: usize,
    /// Whether the server may refuse it.
    refusable: bool,
    /// Whether its app has given it up, or may have, though the server may have had it.
    given_up: bool,
    /// Whether its app was told that nobody knows whether it was accepted, since that had rotted.
    unsure: bool,
}

/// The batches that apps have asked for, kept outside the system.
#[derive(Debug, Default)]
pub(super) struct Batches(BTreeMap<i64, Batch>);

/// What one app sees of batches.
#[derive(Debug, Default)]
pub(super) struct Sight {
    marks: BTreeMap<RecordKey, BTreeSet<i64>>,
    counts: BTreeMap<i64, usize>,
    /// Batches of which more or less is seen than before.
    dirty: BTreeSet<i64>,
    /// What the registers show, and what they showed when that was last looked at.
    pub(super) shown: Shown,
    pub(super) read: Shown,
    /// Writes of the ledger that were seen last.
    pub(super) tokens: BTreeSet<String>,
}

impl Batches {
    fn may_go(&mut self, device: usize) {
        let own = self.0.values_mut().filter(|batch| batch.device == device);
        own.for_each(|batch| {
            batch.refusable = true;
            batch.given_up = true;
        });
    }

    /// Those of a device.
    fn of(&self, device: usize) -> impl Iterator<Item = i64> {
        let own = self.0.iter().filter(move |(_, batch)| batch.device == device);
        own.map(|(number, _)| *number)
    }
}

/// The batches that a row writes.
pub(super) fn batches_of(row: &Row) -> impl Iterator<Item = i64> {
    let writes = row.writes.iter().filter(|write| is_marked(&write.key));
    writes.flat_map(|write| &write.intents).filter_map(|intent| {
        if let Intent::Insert { element: Value::Text(text), .. } = intent {
            text.parse().ok()
        } else {
            None
        }
    })
}

impl Sight {
    fn see(&mut self, key: &RecordKey, marks: &BTreeSet<i64>) {
        let before = self.marks.insert(key.clone(), marks.clone()).unwrap_or_default();
        for gone in before.difference(marks) {
            if let Some(count) = self.counts.get_mut(gone) {
                *count -= 1;
            }
        }
        for new in marks.difference(&before) {
            *self.counts.entry(*new).or_default() += 1;
        }
        self.dirty.extend(before.symmetric_difference(marks));
    }
}

fn is_marked(key: &RecordKey) -> bool {
    key.collection.as_str().starts_with("pair/")
}

fn marks_of(record: &Record) -> BTreeSet<i64> {
    let elements = record.cells.values().filter_map(|cell| {
        if let State::Set(set) = &cell.state { Some(set.elements.keys()) } else { None }
    });
    let number =
        |value: &Value| if let Value::Text(text) = value { text.parse().ok() } else { None };
    elements.flatten().filter_map(number).collect()
}

impl World {
    /// A device's app was told that nobody knows whether a row was accepted. (What is known to have been, and to be
    /// lost, is another matter: if a part of it is there the rest must come back.)
    pub(super) fn unsure(&mut self, device: usize, at: usize, number: u64) {
        let tab = self.tab(device, at).and_then(|tab| tab.engine.as_ref());
        let Some(outbox) = tab.and_then(|engine| engine.replica().overlay().get(number)) else {
            return;
        };
        let RowState::Rejected { reason, .. } = &outbox.state else { return };
        if !reason.contains("forked") {
            return;
        }
        let batches: Vec<i64> = batches_of(&outbox.row).collect();
        for number in batches {
            if let Some(batch) = self.batches.0.get_mut(&number) {
                batch.unsure = true;
            }
        }
    }

    /// What a device has written need not last.
    pub(super) fn gives_up_batches(&mut self, device: usize) {
        self.batches.may_go(device);
        let own: Vec<i64> = self.batches.of(device).collect();
        self.causal_void(own);
    }

    /// A batch: its number goes into a set in each of its records.
    pub(super) fn batch_write(&mut self, device: usize, tab: usize) -> Vec<Change> {
        let number = i64::try_from(self.batches.0.len()).unwrap_or(i64::MAX);
        let count = 2 + self.apps.below(self.plan.batch_records.max(1));
        let mut keys = BTreeSet::new();
        for _ in 0..count {
            let side = self.apps.one_of("pair/left", &["pair/right"]);
            let id = format!("p{}", self.apps.below(self.plan.pairs.max(1)));
            let id = RecordId::parse(&id).expect("a valid id");
            keys.insert(RecordKey { collection: collection(side), id });
        }
        let element = Value::text(&format!("{number}"));
        let field =
            || super::workload::change("marks", FieldAction::Insert([element.clone()].into()));
        let mark =
            |key| Change { key, action: Action::Upsert(Vec::<FieldChange>::from([field()])) };
        let records = keys.len();
        let mut changes: Vec<Change> = keys.into_iter().map(mark).collect();
        let refused = self.plan.rejections && self.apps.once_in(6);
        if refused {
            changes.push(self.mixed_change("locked"));
        }
        let refusable = refused || self.plan.has_small_records() || self.plan.account_one_in > 0;
        self.batches
            .0
            .insert(number, Batch { device, records, refusable, given_up: false, unsure: false });
        changes.extend(self.causal_write((device, tab), number, refusable));
        changes
    }

    /// Records of a tab may look different.
    pub(super) fn look(&mut self, device: usize, at: usize, keys: &SortedSet<RecordKey>) {
        let Some(tab) = self.tab(device, at) else {
            return;
        };
        let Some(engine) = &tab.engine else {
            return;
        };
        for key in keys.iter().filter(|key| is_marked(key)) {
            let view = engine.replica().view(key).unwrap_or_default();
            if let Some(shown) = register(key).and_then(|at| tab.sight.shown.get_mut(at)) {
                *shown = last(&view);
            }
            tab.sight.see(key, &marks_of(&view));
        }
        self.touched.insert((device, at));
    }

    /// A tab has opened: all is new to it.
    pub(super) fn look_at_all(&mut self, device: usize, at: usize) {
        let Some(tab) = self.tab(device, at) else {
            return;
        };
        tab.sight = Sight::default();
        let keys = tab.engine.as_ref().map(all_keys).unwrap_or_default();
        self.look(device, at, &keys);
    }

    /// After every event: a batch is there with all of its records or with none, and what came from another
    /// device stays.
    pub(super) fn check_batches(&mut self, device: usize, at: usize) -> Result<(), String> {
        let steady = !self.devices.iter().any(|device| device.rewound);
        let lasting = steady && !self.server_rewound;
        let lost = self.server.lost;
        // What the server has lost is brought back to it before it goes; who has forgotten what he wrote covers it.
        let returns = steady && !self.forgotten && !self.reissued;
        let whole = !self.reissued;
        let dirty = self.tab(device, at).map(|tab| core::mem::take(&mut tab.sight.dirty));
        let Some(tab) = self.devices.get(device).and_then(|device| device.tabs.get(at)) else {
            return Ok(());
        };
        let sight = &tab.sight;
        for number in dirty.into_iter().flatten() {
            let count = sight.counts.get(&number).copied().unwrap_or_default();
            let Some(batch) = self.batches.0.get(&number) else {
                continue;
            };
            // Both have rotted, a record and that the row was accepted: who wrote it cannot tell whether it is his
            // row that the others have, or another one with its stamp, and has it back to decide.
            let torn = batch.unsure && lost;
            let whole = whole && !torn && !self.is_split(&format!("{number}"));
            if count > 0 && count < batch.records && whole {
                let places = sight.marks.iter().filter(|(_, marks)| marks.contains(&number));
                let places: Vec<String> = places.map(|(key, _)| format!("{key}")).collect();
                return Err(format!(
                    "device {device} tab {at} sees {count} of {} records of batch {number}: {places:?}",
                    batch.records
                ));
            }
            let foreign = batch.device != device;
            // What its app has given up goes with the server's memory of it, whoever may still bring it back: its
            // writer goes on without it.
            let returns = returns && !batch.given_up;
            let lasts = if foreign { lasting || returns } else { lasting && !batch.refusable };
            if count == 0 && lasts {
                return Err(format!("device {device} tab {at} saw batch {number} go"));
            }
        }
        Ok(())
    }

    /// At rest: what was told of changes is all that has changed.
    pub(super) fn check_sights(&self) -> Result<(), String> {
        for (device, at, engine) in self.engines() {
            let tab = self.devices.get(device).and_then(|device| device.tabs.get(at));
            let Some(sight) = tab.map(|tab| &tab.sight) else {
                continue;
            };
            for key in all_keys(engine).iter().filter(|key| is_marked(key)) {
                let view = engine.replica().view(key).unwrap_or_default();
                let known = sight.marks.get(key).cloned().unwrap_or_default();
                if marks_of(&view) != known {
                    return Err(format!(
                        "device {device} tab {at} was not told that {key} changed"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn all_keys(engine: &Engine) -> SortedSet<RecordKey> {
    let base = engine.replica().base().iter().map(|(key, _)| key.clone());
    base.chain(engine.replica().overlay().keys().cloned()).collect()
}
