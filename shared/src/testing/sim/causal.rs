//! Causal order: whoever sees a write sees what its writer had seen, or something later.
//!
//! Each batch also writes its number into two of three registers, of which the last writer wins. What an app reads is
//! all it may know: if it knows of a batch, by what it saw or by what the writer of that had seen, then its registers
//! show that batch or one that is not older. This covers read-your-writes, monotonic reads and writes,
//! writes-follow-reads and whole batches, across reloads. Of two that knew nothing of each other either may win, but
//! everywhere the same one. (D. B. Terry and others, Session guarantees for weakly consistent replicated data, 1994.)
//! Absent: worlds that may lose what an app has seen, or give a row another stamp.

use super::{World, batches::batches_of, collection, workload::change};
use crate::{
    id::{RecordId, RecordKey},
    record::{Kind, Record, State, Value},
    replica::{Action, Change, FieldAction},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// How many registers there are.
const REGISTERS: usize = 3;

/// What each register shows: the batch that wrote it last.
pub(super) type Shown = [Option<u32>; REGISTERS];

/// Batches: the first 128 of a world are looked at.
type Past = u128;

/// An app: of which device, in which tab.
type App = (usize, usize);

fn bit(batch: u32) -> Past {
    1_u128.checked_shl(batch).unwrap_or_default()
}

fn batches(mut of: Past) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let next = (of > 0).then(|| of.trailing_zeros())?;
        of &= of - 1;
        Some(next)
    })
}

/// What is known of batches outside the system.
#[derive(Debug, Default)]
pub(super) struct Causal {
    /// For each batch, what its app had known.
    pasts: BTreeMap<u32, Past>,
    /// For each register, the batches that write it.
    writes: [Past; REGISTERS],
    /// What each app knows.
    apps: BTreeMap<App, Past>,
    /// Of two that knew nothing of each other: which register shows the second in spite of the first.
    won: BTreeSet<(usize, u32, u32)>,
    /// Batches that were refused, or may be: what they wrote may go.
    void: Past,
}

impl Causal {
    /// An app writes a batch: the registers that it writes.
    fn write(&mut self, app: App, batch: u32) -> Vec<usize> {
        let past = self.apps.get(&app).copied().unwrap_or_default();
        self.pasts.insert(batch, past);
        let first = batch as usize % REGISTERS;
        let registers = Vec::from([first, (first + 1) % REGISTERS]);
        for at in &registers {
            if let Some(writes) = self.writes.get_mut(*at) {
                *writes |= bit(batch);
            }
        }
        registers
    }

    /// An app looks at all registers at once.
    fn read(&mut self, app: App, shown: Shown) -> Result<(), String> {
        let of = |batch: u32| self.pasts.get(&batch).copied().unwrap_or_default() | bit(batch);
        let mut past = self.apps.get(&app).copied().unwrap_or_default();
        for batch in shown.into_iter().flatten() {
            past |= of(batch);
        }
        let sure = past & !self.void;
        for (register, (shown, writes)) in shown.into_iter().zip(self.writes).enumerate() {
            let Some(shown) = shown else {
                if let Some(known) = batches(sure & writes).next() {
                    return Err(format!(
                        "register {register} shows nothing, though {known} wrote it"
                    ));
                }
                continue;
            };
            if self.void & bit(shown) > 0 {
                // Refused, it may have been asked for again: then it is a later write.
                continue;
            }
            for known in batches(sure & writes & !of(shown)) {
                if of(known) & bit(shown) > 0 {
                    return Err(format!(
                        "register {register} shows {shown} though {known} is known, which knew of it"
                    ));
                }
                if self.won.contains(&(register, shown, known)) {
                    return Err(format!(
                        "register {register} shows {shown} in spite of {known}, and elsewhere the other way"
                    ));
                }
                self.won.insert((register, known, shown));
            }
        }
        self.apps.insert(app, past);
        Ok(())
    }
}

fn name(register: usize) -> String {
    format!("register{register}")
}

impl World {
    /// What a batch writes beside its own records.
    pub(super) fn causal_write(&mut self, app: App, batch: i64, refusable: bool) -> Vec<Change> {
        let Ok(batch) = u32::try_from(batch) else {
            return Vec::new();
        };
        if refusable {
            self.causal.void |= bit(batch);
        }
        let value = FieldAction::Set(Kind::Lww, Value::text(&format!("{batch}")));
        let registers = self.causal.write(app, batch).into_iter();
        let write = |register| {
            let id = RecordId::parse(&name(register)).expect("a valid id");
            let key = RecordKey { collection: collection("pair/left"), id };
            Change { key, action: Action::Upsert(Vec::from([change("last", value.clone())])) }
        };
        registers.map(write).collect()
    }

    /// A row was refused: what it wrote is not shown any more.
    pub(super) fn causal_void_row(&mut self, device: usize, at: usize, number: u64) {
        let tab = self.tab(device, at).and_then(|tab| tab.engine.as_ref());
        let outbox = tab.and_then(|engine| engine.replica().overlay().get(number));
        let batches: Vec<i64> =
            outbox.map(|outbox| batches_of(&outbox.row).collect()).unwrap_or_default();
        self.causal_void(batches);
    }

    /// What batches have written may go, or have gone.
    pub(super) fn causal_void(&mut self, batches: impl IntoIterator<Item = i64>) {
        for batch in batches {
            self.causal.void |= u32::try_from(batch).map(bit).unwrap_or_default();
        }
    }

    /// What a device has held is gone: its apps know nothing any more.
    pub(super) fn causal_forget(&mut self, device: usize) {
        self.causal.apps.retain(|(at, _), _| *at != device);
    }

    /// After every event that an app may have seen.
    pub(super) fn check_causal(&mut self, device: usize, tab: usize) -> Result<(), String> {
        let plan = &self.plan;
        // A store that may go back, and a row that may get a later stamp.
        let goes_back = plan.relaxed
            || plan.rollback_one_in + plan.copy_one_in + plan.rot_one_in + plan.account_one_in > 0;
        let restamps = plan.step_one_in > 0 || plan.drift_ppm != 0;
        if goes_back || restamps || self.server_rewound || self.renamed {
            return Ok(());
        }
        let Some(held) = self.tab(device, tab).filter(|held| held.engine.is_some()) else {
            return Ok(());
        };
        let shown = held.sight.shown;
        if core::mem::replace(&mut held.sight.read, shown) == shown {
            return Ok(());
        }
        self.mark("causal order checked");
        let read = self.causal.read((device, tab), shown);
        read.map_err(|what| format!("device {device} tab {tab}: {what}"))
    }
}

/// Which register a record is.
pub(super) fn register(key: &RecordKey) -> Option<usize> {
    key.id.as_str().strip_prefix("register")?.parse().ok()
}

/// The batch that has written a register last.
pub(super) fn last(record: &Record) -> Option<u32> {
    record.cells.values().find_map(|cell| {
        let State::Lww { value: Some(Value::Text(batch)), .. } = &cell.state else {
            return None;
        };
        batch.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: App = (0, 0);
    const BOB: App = (1, 0);
    const CARL: App = (2, 0);

    #[test]
    fn what_follows_is_not_seen_before_what_it_follows() {
        let mut causal = Causal::default();
        // 0 writes the registers 0 and 1, 1 writes 1 and 2.
        causal.write(ANN, 0);
        causal.read(BOB, [Some(0), Some(0), None]).unwrap();
        causal.write(BOB, 1);
        assert!(causal.read(CARL, [None, Some(1), Some(1)]).is_err());
        causal.read(CARL, [Some(0), Some(1), Some(1)]).unwrap();
    }

    #[test]
    fn half_a_batch_and_a_step_back_are_found() {
        let mut causal = Causal::default();
        causal.write(ANN, 0);
        assert!(causal.read(BOB, [Some(0), None, None]).is_err());
        causal.read(BOB, [Some(0), Some(0), None]).unwrap();
        assert!(causal.read(BOB, [None, None, None]).is_err());
        causal.write(BOB, 3);
        causal.read(CARL, [Some(3), Some(3), None]).unwrap();
        assert!(causal.read(CARL, [Some(0), Some(0), None]).is_err());
    }

    #[test]
    fn of_two_that_knew_nothing_of_each_other_one_wins_everywhere() {
        let mut causal = Causal::default();
        causal.write(ANN, 0);
        causal.write(BOB, 3);
        causal.read(ANN, [Some(0), Some(0), None]).unwrap();
        causal.read(ANN, [Some(3), Some(3), None]).unwrap();
        causal.read(BOB, [Some(3), Some(3), None]).unwrap();
        assert!(causal.read(BOB, [Some(0), Some(0), None]).is_err());
    }

    #[test]
    fn what_is_refused_goes() {
        let mut causal = Causal::default();
        causal.write(ANN, 0);
        causal.read(ANN, [Some(0), Some(0), None]).unwrap();
        causal.void |= bit(0);
        causal.read(ANN, [None, None, None]).unwrap();
    }
}
