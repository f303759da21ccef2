//! What the app decides about rows that were refused (commit again, commit something else, forget), and
//! about all of them when another principal was welcomed.

use super::{Engine, Output, WishError, pipeline::Then};
use crate::{
    hlc::Stamp,
    replica::{Change, ChangeError, Entry, OutboxRow, RowState},
    sorted::SortedMap,
    time::Now,
};
use alloc::vec::Vec;

impl Engine {
    pub(super) fn make_drop(
        &mut self,
        id: u64,
        number: u64,
        retry: bool,
        now: Now,
    ) -> Vec<(Entry, Then)> {
        let rejected = |row: &&OutboxRow| matches!(row.state, RowState::Rejected { .. });
        let Some(outbox) = self.replica.overlay().get(number).filter(rejected) else {
            self.refuse(id, WishError::NoSuchRow(number));
            return Vec::new();
        };
        let mut entries = Vec::new();
        let mut granted = 0;
        if retry {
            let mut clock = self.replica.clock();
            let Ok(hlc) = clock.tick(self.replica.corrected(now.wall)) else {
                self.refuse(id, WishError::Write(ChangeError::ClockExhausted.into()));
                return entries;
            };
            let mut row = outbox.row.clone();
            let stamp = Stamp { hlc, replica: self.replica.id() };
            row.restamp(&SortedMap::from_iter([(row.stamp, stamp)]));
            // What may have counted counts now, unless the peer knows that it has.
            row.insisted |= outbox.may_count();
            granted = self.replica.last() + 1;
            entries.push((Entry::Commit(row), Then::Nothing));
        }
        entries.push((Entry::Dropped(number), Then::Grant { id, number: granted }));
        entries
    }

    pub(super) fn make_edit(
        &mut self,
        id: u64,
        number: u64,
        changes: Vec<Change>,
        now: Now,
    ) -> Vec<(Entry, Then)> {
        let rejected = |row: &OutboxRow| matches!(row.state, RowState::Rejected { .. });
        let planned = if self.replica.overlay().get(number).is_some_and(rejected) {
            self.replica.plan(&changes, now.wall).map_err(WishError::from)
        } else {
            Err(WishError::NoSuchRow(number))
        };
        match planned {
            Ok(row) => {
                self.pipeline.edits.insert(id, changes);
                let granted = self.replica.last() + 1;
                let grant = Then::Grant { id, number: granted };
                Vec::from([(Entry::Commit(row), Then::Nothing), (Entry::Dropped(number), grant)])
            }
            Err(error) => {
                self.refuse(id, error);
                Vec::new()
            }
        }
    }

    /// Another principal takes over. Rows that are not to be pushed in its name go in the same commit.
    pub(super) fn make_adopt(&mut self, id: u64, discard: bool) -> Vec<(Entry, Then)> {
        let Some(principal) = self.other_account.take() else {
            self.refuse(id, WishError::NothingToAdopt);
            return Vec::new();
        };
        let mut entries = Vec::new();
        if discard {
            let dropped = |number| (Entry::Dropped(number), Then::Nothing);
            entries.extend(self.replica.waiting().map(dropped));
        }
        entries.push((Entry::Adopted(principal), Then::Adopt { id, discard }));
        entries
    }

    /// The wish is not granted.
    pub(super) fn refuse(&mut self, id: u64, error: WishError) {
        self.outputs.push_back(Output::Done { id, result: Err(error) });
    }

    /// The wish is granted: if it was an edit, its changes are not needed again.
    pub(super) fn grant_edit(&mut self, id: u64) {
        self.pipeline.edits.remove(&id);
    }
}
