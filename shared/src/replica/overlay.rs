//! Overlay: the outbox, one row per local commit, replayed over the base to give what the app sees.

use super::{
    entry::Settlement,
    intent::{Restamped, Row, RowWrite},
};
use crate::{
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::{RecordKey, ReplicaId, Seq},
    message::RejectCode,
    record::{Record, VersionVector},
    sorted::{SortedMap, SortedSet},
};
use alloc::{string::String, vec::Vec};
use core::ops::Range;

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// What it does.
    pub row: Row,
    /// What became of it so far.
    pub state: RowState,
}

impl OutboxRow {
    /// Whether it was refused because nobody knows whether it was accepted before.
    #[must_use]
    pub const fn may_count(&self) -> bool {
        matches!(self.state, RowState::Rejected { code: RejectCode::Unsure, .. })
    }
}

/// What became of an outbox row so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// Not acknowledged.
    Waiting,
    /// Durable at the peer; shown from here until the base has it.
    Accepted(Seq),
    /// Refused for good; kept for the user.
    Rejected {
        /// Why, for programs.
        code: RejectCode,
        /// Why, for people.
        reason: String,
    },
}

/// The outbox, by row number, with an index by record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    rows: SortedMap<u64, OutboxRow>,
    /// Of each record its writes, ascending.
    by_key: SortedMap<RecordKey, SortedSet<Place>>,
    counts: Counts,
}

/// Where a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The number of its row.
    row: u64,
    /// Its index in that row.
    at: usize,
}

/// How many rows stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Not acknowledged.
    pub waiting: usize,
    /// Refused and kept.
    pub rejected: usize,
}

impl Counts {
    fn of(&mut self, state: &RowState) -> Option<&mut usize> {
        match state {
            RowState::Waiting => Some(&mut self.waiting),
            RowState::Rejected { .. } => Some(&mut self.rejected),
            RowState::Accepted(_) => None,
        }
    }

    fn add(&mut self, state: &RowState) {
        if let Some(count) = self.of(state) {
            *count += 1;
        }
    }

    fn subtract(&mut self, state: &RowState) {
        if let Some(count) = self.of(state) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Overlay {
    /// How many rows stand how.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// All rows, by number.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &OutboxRow)> {
        self.rows.iter().map(|(number, row)| (*number, row))
    }

    /// Acknowledged rows, with their positions. As a rule they come first, and no others are looked at.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (u64, Seq)> {
        let Counts { waiting, rejected } = self.counts;
        let count = self.rows.len().saturating_sub(waiting + rejected);
        let rows = self.rows.iter().filter_map(|(number, outbox)| match outbox.state {
            RowState::Accepted(seq) => Some((*number, seq)),
            RowState::Waiting | RowState::Rejected { .. } => None,
        });
        rows.take(count)
    }

    /// Rows from `number` on.
    pub fn rows_from(&self, number: u64) -> impl Iterator<Item = (u64, &OutboxRow)> {
        self.rows.range(number..).map(|(number, row)| (*number, row))
    }

    /// One row.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&OutboxRow> {
        self.rows.get(&number)
    }

    /// Whether there is no row at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Numbers of the rows that touch `key`, ascending.
    pub fn numbers_of(&self, key: &RecordKey) -> impl Iterator<Item = u64> {
        let mut before = None;
        let numbers = self.places_of(key, 0..u64::MAX).map(|place| place.row);
        numbers.filter(move |number| before.replace(*number) != Some(*number))
    }

    /// The writes on `key` of rows with these numbers.
    fn places_of(
        &self,
        key: &RecordKey,
        rows: Range<u64>,
    ) -> impl DoubleEndedIterator<Item = &Place> {
        let within = Place { row: rows.start, at: 0 }..Place { row: rows.end, at: 0 };
        self.by_key.get(key).into_iter().flat_map(move |places| places.range(within.clone()))
    }

    /// Whether a row that was not rejected touches one of these records.
    pub(super) fn awaits(&self, is_one: impl Fn(&RecordKey) -> bool) -> bool {
        let rows = self.rows.values();
        rows.filter(|outbox| !matches!(outbox.state, RowState::Rejected { .. }))
            .any(|outbox| outbox.row.writes.iter().any(|write| is_one(&write.key)))
    }

    /// Records that rows touch.
    pub fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.by_key.keys()
    }

    /// Records of one collection that rows touch.
    pub fn keys_of<'a>(
        &'a self,
        collection: &'a crate::id::CollectionName,
    ) -> impl Iterator<Item = &'a RecordKey> {
        let within = move |key: &&RecordKey| key.collection == *collection;
        self.keys_from(RecordKey::before_all_of(collection)).take_while(within)
    }

    /// Records that rows touch, from `start` on.
    pub(super) fn keys_from(&self, start: RecordKey) -> impl Iterator<Item = &RecordKey> {
        self.by_key.range(start..).map(|(key, _)| key)
    }

    pub(super) fn insert(&mut self, number: u64, row: Row, state: RowState) {
        for (at, write) in row.writes.iter().enumerate() {
            self.by_key.entry(write.key.clone()).or_default().insert(Place { row: number, at });
        }
        self.counts.add(&state);
        self.rows.insert(number, OutboxRow { row, state });
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<OutboxRow> {
        let gone = self.rows.remove(&number)?;
        self.counts.subtract(&gone.state);
        for (at, write) in gone.row.writes.iter().enumerate() {
            if let Some(places) = self.by_key.get_mut(&write.key) {
                places.remove(&Place { row: number, at });
                if places.is_empty() {
                    self.by_key.remove(&write.key);
                }
            }
        }
        Some(gone)
    }

    /// Acknowledged rows that the peer may have lost: those of `replica` count as unsent again, so that it is asked
    /// once more whether it has them; of the others no position tells any more that the base has all of them.
    pub(super) fn unsettle(&mut self, replica: ReplicaId, is_kept: impl Fn(Seq) -> bool) {
        for outbox in self.rows.values_mut() {
            let is_own = outbox.row.stamp.replica == replica;
            match &mut outbox.state {
                RowState::Accepted(at) if *at > Seq(0) && is_kept(*at) => {}
                RowState::Accepted(_) if is_own => {
                    outbox.state = RowState::Waiting;
                    self.counts.add(&RowState::Waiting);
                }
                RowState::Accepted(at) => *at = Seq(0),
                RowState::Waiting | RowState::Rejected { .. } => {}
            }
        }
    }

    pub(super) fn settle(&mut self, number: u64, settlement: &Settlement) -> Option<&OutboxRow> {
        let row = self.rows.get_mut(&number)?;
        self.counts.subtract(&row.state);
        row.state = match settlement.clone() {
            Settlement::Accepted(seq) | Settlement::Taken(_, seq) => RowState::Accepted(seq),
            Settlement::Rejected { code, reason } => RowState::Rejected { code, reason },
        };
        self.counts.add(&row.state);
        Some(row)
    }

    /// Gives rows new stamps, to those in `copies` the stamps of their copies. `seen_before` names, for a record
    /// and an own stamp that changes, the latest stamp of the old replica before it that is not changed.
    pub(super) fn restamp(
        &mut self,
        changed: &Restamped,
        copies: &SortedMap<u64, Stamp>,
        seen_before: impl Fn(&RecordKey, Stamp) -> Option<Hlc>,
    ) -> SortedSet<u64> {
        let mut touched = SortedSet::new();
        let stamps = copies
            .iter()
            .filter_map(|(number, new)| Some((*number, (self.rows.get(number)?.row.stamp, *new))));
        let copied: SortedMap<u64, (Stamp, Stamp)> = SortedMap::from_iter(stamps);
        let mut changed = changed.clone();
        changed.extend(copied.values().copied());
        let changed = &changed;
        for (number, outbox) in &mut self.rows {
            let before = outbox.row.clone();
            outbox.row.restamp(changed);
            for (old, new) in before.writes.iter().zip(&mut outbox.row.writes) {
                for (row, (from, to)) in copied.range(..number) {
                    if contains(&self.by_key, &new.key, *row) {
                        new.sees(old, *from, *to);
                    }
                }
                let moved: Vec<Stamp> =
                    old.saw.iter().filter(|stamp| changed.contains_key(stamp)).collect();
                for stamp in moved {
                    if let Some(hlc) = seen_before(&new.key, stamp) {
                        new.saw.raise(stamp.replica, hlc);
                    }
                }
            }
            if outbox.row != before {
                touched.insert(*number);
                outbox.row.descends_from(Some(before));
            }
        }
        touched
    }

    /// Whether no row behind `number` touches `key`.
    pub(super) fn is_last_of(&self, key: &RecordKey, number: u64) -> bool {
        self.places_of(key, 0..u64::MAX).next_back().is_none_or(|last| last.row <= number)
    }

    /// Replays onto `record` the rows of `numbers` on `key` that a base of that `seen` lacks and that were
    /// not rejected.
    pub(super) fn replay(
        &self,
        key: &RecordKey,
        seen: &VersionVector,
        numbers: Range<u64>,
        record: &mut Record,
    ) {
        for (stamp, write) in self.applicable(key, seen, numbers) {
            write.apply(stamp, record);
        }
    }

    /// Applies the own rows on `key` up to `upto`: what the peer has joined of them.
    pub(super) fn apply_own(
        &self,
        key: &RecordKey,
        replica: ReplicaId,
        upto: Hlc,
        record: &mut Record,
    ) {
        let seen = record.seen.clone();
        for (stamp, write) in self.applicable(key, &seen, 0..u64::MAX) {
            if stamp.replica == replica && stamp.hlc <= upto {
                let delta = write.delta(stamp, record);
                record.join(&delta);
            }
        }
    }

    /// Writes on `key`, each with the stamp of its row.
    fn applicable<'a>(
        &'a self,
        key: &RecordKey,
        seen: &'a VersionVector,
        numbers: Range<u64>,
    ) -> impl Iterator<Item = (Stamp, &'a RowWrite)> {
        self.places_of(key, numbers).filter_map(|place| {
            let OutboxRow { row, state } = self.rows.get(&place.row)?;
            let counts = !matches!(state, RowState::Rejected { .. }) && !seen.covers(&row.stamp);
            row.writes.get(place.at).filter(|_| counts).map(|write| (row.stamp, write))
        })
    }
}

/// Whether the row of that number touches `key`.
fn contains(by_key: &SortedMap<RecordKey, SortedSet<Place>>, key: &RecordKey, number: u64) -> bool {
    let of_row = Place { row: number, at: 0 }..=Place { row: number, at: usize::MAX };
    by_key.get(key).is_some_and(|places| places.range(of_row).next().is_some())
}
