//! Rows that were acknowledged under an earlier id and that the peer has lost since, whole or in part.
//!
//! Invariant: a record is completed under the stamps that its rows were acknowledged with: brought back by others
//! too, it counts once. Absent: bringing it back (see `protocol::engine`).

use super::{
    overlay::{OutboxRow, RowState},
    state::Replica,
};
use crate::{
    codec::CodecError,
    id::RecordKey,
    planted::Bug,
    record::{Record, State},
    sorted::SortedSet,
};
use alloc::vec::Vec;

/// A row that the peer has lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRow {
    /// Its number in the outbox.
    pub number: u64,
    /// Records that the base would learn of, and that lack it.
    pub lacking: Vec<RecordKey>,
    /// Whether other records of it have it, and these may have it again: those who see them see half of a batch.
    pub is_torn: bool,
}

impl Replica {
    /// Rows that were acknowledged under an earlier id of this replica, and of which the base lacks what it
    /// would learn of.
    #[must_use]
    pub fn lost_of_earlier_ids(&self) -> Vec<LostRow> {
        let rows = self.overlay.rows().filter(|(_, outbox)| {
            matches!(outbox.state, RowState::Accepted(_))
                && outbox.row.stamp.replica != self.header.replica
        });
        rows.filter_map(|(number, outbox)| self.lost_row(number, outbox)).collect()
    }

    fn lost_row(&self, number: u64, outbox: &OutboxRow) -> Option<LostRow> {
        let mut row = LostRow { number, lacking: Vec::new(), is_torn: false };
        let mut forgotten = Vec::new();
        for write in outbox.row.writes.iter().filter(|write| self.covers(&write.key)) {
            match self.base.record(&write.key) {
                Ok(held) if held.seen.covers(&outbox.row.stamp) => row.is_torn = true,
                Ok(held)
                    if self.may_be_collected(&write.key, &held, outbox)
                        && !self.planted.is(Bug::TornComesBack) =>
                {
                    forgotten.push(write.key.clone());
                }
                Ok(_) => row.lacking.push(write.key.clone()),
                Err(_) => {}
            }
        }
        if row.lacking.is_empty() {
            // What was removed since must not come back: the user decides.
            row = LostRow { lacking: forgotten, is_torn: false, ..row };
        }
        (!row.lacking.is_empty()).then_some(row)
    }

    /// Whether a record that lacks this row may have been removed behind it, and be forgotten: it is not there, or it
    /// may have been made anew, since it has seen nothing as old as the row.
    fn may_be_collected(&self, key: &RecordKey, held: &Record, outbox: &OutboxRow) -> bool {
        let mut standings = self.header.standings.iter();
        let standing = standings.find(|(held, _)| held.covers(&key.collection));
        let horizon = standing.map(|(_, standing)| standing.horizon);
        let wrote = outbox.row.stamp.hlc;
        held.seen.iter().all(|seen| seen.hlc > wrote) && horizon.is_some_and(|at| wrote <= at)
    }

    /// A record of the base with what these rows do to it, under the stamps that they have.
    ///
    /// # Errors
    /// [`CodecError`] when stored bytes are damaged.
    pub fn completed(
        &self,
        key: &RecordKey,
        numbers: &SortedSet<u64>,
    ) -> Result<Record, CodecError> {
        let mut record = self.base.record(key)?;
        for number in self.overlay.numbers_of(key).filter(|number| numbers.contains(number)) {
            let Some(outbox) = self.overlay.get(number) else { continue };
            for write in outbox.row.writes.iter().filter(|write| write.key == *key) {
                write.apply(outbox.row.stamp, &mut record);
            }
        }
        hold_to_seen(&mut record);
        Ok(record)
    }
}

/// Of what a row had seen, what the record has: a peer takes no more of it when the row is pushed, and holds a record
/// that has removed what it has not seen for forged.
fn hold_to_seen(record: &mut Record) {
    record.removed.seen = record.removed.seen.meet(&record.seen);
    for cell in record.cells.values_mut() {
        match &mut cell.state {
            State::Set(set) => set.context = set.context.meet(&record.seen),
            State::Review(siblings) => siblings.context = siblings.context.meet(&record.seen),
            State::Lww { .. }
            | State::Fww(_)
            | State::Max(_)
            | State::Min(_)
            | State::Counter(_)
            | State::Later { .. } => {}
        }
    }
}
