//! What becomes of outbox rows: settled, stamped anew, counted as a copy of theirs.
//!
//! Invariant: a row's origin never changes, and what a row behind it saw of it, it has seen of whatever takes
//! its place. A row that counts as its copy has the copy's stamp: so it is shown until the base has that, and
//! not a moment longer. Absent: who decides it.

use super::{
    entry::Settlement,
    intent::{Restamped, Row},
    overlay::RowState,
    state::{Applied, Replica},
};
use crate::{
    hlc::{Hlc, Stamp},
    id::{RecordKey, ReplicaId},
    message::RejectCode,
    planted::Bug,
    sorted::{SortedMap, SortedSet},
};
use alloc::{string::String, vec::Vec};

/// Stamps of writes to a record that stay what they are.
type Kept = SortedMap<RecordKey, SortedSet<(ReplicaId, Hlc)>>;

impl Replica {
    pub(super) fn settled(&mut self, rows: Vec<(u64, Settlement)>, applied: &mut Applied) {
        let copies = self.copies_in(&rows);
        if !copies.is_empty() {
            self.give_stamps(&Restamped::new(), &copies, applied);
        }
        for (number, settlement) in rows {
            let was_hidden = self
                .overlay
                .get(number)
                .is_some_and(|outbox| matches!(outbox.state, RowState::Rejected { .. }));
            let Some(outbox) = self.overlay.settle(number, &settlement) else {
                continue;
            };
            let stamp = outbox.row.stamp;
            if was_hidden {
                applied.keys.extend(outbox.row.writes.iter().map(|write| write.key.clone()));
            }
            match settlement {
                Settlement::Accepted(_) | Settlement::Taken(..) => {
                    if stamp.replica == self.header.replica {
                        self.header.acked = self.header.acked.max(stamp.hlc);
                    }
                    applied.accepted.push(number);
                    let early = self.planted.is(Bug::CopyGoesAtAck)
                        && matches!(settlement, Settlement::Taken(..));
                    if self.is_done(number) || self.planted.is(Bug::RowGoesAtAck) || early {
                        self.finish(number, applied);
                    }
                }
                Settlement::Rejected { .. } => {
                    let keys = outbox.row.writes.iter().map(|write| write.key.clone());
                    applied.keys.extend(keys);
                    applied.rejected.push(number);
                }
            }
        }
    }

    /// The stamps that rows get because they count as copies of theirs.
    fn copies_in(&self, rows: &[(u64, Settlement)]) -> SortedMap<u64, Stamp> {
        let copies = rows.iter().filter_map(|(number, settlement)| match settlement {
            Settlement::Taken(stamp, _) => Some((*number, *stamp)),
            Settlement::Accepted(_) | Settlement::Rejected { .. } => None,
        });
        let is_other = |(number, stamp): &(u64, Stamp)| {
            self.overlay.get(*number).is_some_and(|outbox| outbox.row.stamp != *stamp)
        };
        SortedMap::from_iter(copies.filter(is_other))
    }

    pub(super) fn restamped(&mut self, changed: &Restamped, applied: &mut Applied) {
        self.give_stamps(changed, &SortedMap::new(), applied);
        let own = |stamp: Stamp| stamp.replica == self.header.replica;
        let left = self.overlay.rows().map(|(_, outbox)| outbox.row.stamp).filter(|s| own(*s));
        self.header.clock = left.map(|stamp| stamp.hlc).fold(self.header.acked, Hlc::max);
    }

    /// Gives rows new stamps, those of `copies` the stamps of their copies.
    fn give_stamps(
        &mut self,
        changed: &Restamped,
        copies: &SortedMap<u64, Stamp>,
        applied: &mut Applied,
    ) {
        // What the base holds decides what rows saw: it must be found as it was.
        self.folds_whole |= !copies.is_empty();
        let kept = self.kept_beside(|number, row| {
            changed.contains_key(&row.stamp) || copies.contains_key(&number)
        });
        let touched = self.overlay.restamp(changed, copies, |key, stamp| {
            let first = (stamp.replica, Hlc::ZERO);
            let before = kept.get(key)?.range(first..(stamp.replica, stamp.hlc)).next_back();
            before.map(|(_, hlc)| *hlc)
        });
        let keys: Vec<RecordKey> = touched
            .iter()
            .filter_map(|number| self.overlay.get(*number))
            .flat_map(|outbox| outbox.row.writes.iter().map(|write| write.key.clone()))
            .collect();
        applied.keys.extend(keys);
        self.rewritten.extend(touched);
    }

    /// What was seen of the records of rows that change, apart from them.
    fn kept_beside(&self, changes: impl Fn(u64, &Row) -> bool) -> Kept {
        let mut kept = Kept::new();
        let rows = || self.overlay.rows().map(|(number, outbox)| (number, &outbox.row));
        for (_, row) in rows().filter(|(number, row)| changes(*number, row)) {
            for write in &row.writes {
                kept.entry(write.key.clone()).or_default();
            }
        }
        for (_, row) in rows().filter(|(number, row)| !changes(*number, row)) {
            for write in &row.writes {
                if let Some(kept) = kept.get_mut(&write.key) {
                    kept.insert((row.stamp.replica, row.stamp.hlc));
                }
            }
        }
        for (key, kept) in &mut kept {
            let seen = self.base.record(key).map(|record| record.seen).unwrap_or_default();
            kept.extend(seen.iter().map(|stamp| (stamp.replica, stamp.hlc)));
        }
        kept
    }

    pub(super) fn reborn(
        &mut self,
        replica: ReplicaId,
        accepted: &[(u64, Settlement)],
        unsure: &[u64],
        changed: &Restamped,
        applied: &mut Applied,
    ) {
        self.folds_whole = true;
        self.in_doubt = false;
        // What the peer does not name it does not have, whatever it once said.
        if !self.has(Bug::SettledForGood) {
            self.overlay.unsettle(self.header.replica, |_| false);
        }
        for (number, settlement) in accepted {
            self.overlay.settle(*number, settlement);
            applied.accepted.push(*number);
        }
        for number in unsure {
            let code = RejectCode::Unsure;
            let reason = String::from("the replica's history forked before this row was confirmed");
            let settlement = Settlement::Rejected { code, reason };
            if let Some(outbox) = self.overlay.settle(*number, &settlement) {
                applied.keys.extend(outbox.row.writes.iter().map(|write| write.key.clone()));
                applied.rejected.push(*number);
            }
        }
        self.give_stamps(changed, &self.copies_in(accepted), applied);
        for (number, _) in accepted {
            if self.is_done(*number) {
                self.finish(*number, applied);
            }
        }
        let old = core::mem::replace(&mut self.header.replica, replica);
        applied.reborn = Some((old, replica));
        self.header.acked = Hlc::ZERO;
        self.header.welcomed = None;
        self.header.since.clear();
        self.header.past.clear();
        self.header.denied = false;
        self.header.gave_up = false;
        let latest = changed.values().map(|stamp| stamp.hlc).max().unwrap_or_default();
        self.header.clock = self.header.clock.max(latest);
    }
}
