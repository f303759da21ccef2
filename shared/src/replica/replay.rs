//! Records as they stand before a row, remembered: the next row on a record starts there instead of at
//! the base, so n rows on one record cost n replays and not n²/2.
//!
//! Invariant: what is remembered is what replaying the outbox over the base would give. Whatever changes
//! a record's base, or its rows in another way than by one behind all others, must [`Replays::forget`] it;
//! numbers that are given out anew must be told to [`Replays::rewind`].

use super::{base::Base, overlay::Overlay};
use crate::{
    codec::CodecError,
    id::RecordKey,
    record::{Record, VersionVector},
    sorted::{self, SortedMap},
};

/// Records remembered at once; the one whose rows lie furthest back goes first.
const RECORDS_MAX: usize = 64;

#[derive(Debug)]
struct Replay {
    /// What the base has seen: rows that it covers are not replayed.
    seen: VersionVector,
    /// The base and the rows before `next`.
    record: Record,
    next: u64,
}

impl Replay {
    fn of_base(key: &RecordKey, base: &Base) -> Result<Self, CodecError> {
        let record = base.record(key)?;
        Ok(Self { seen: record.seen.clone(), record, next: 0 })
    }

    fn advance(&mut self, key: &RecordKey, end: u64, overlay: &Overlay) {
        overlay.replay(key, &self.seen, self.next..end, &mut self.record);
        self.next = end;
    }
}

/// What is remembered; at most [`RECORDS_MAX`] records.
#[derive(Debug, Default)]
pub(super) struct Replays(SortedMap<RecordKey, Replay>);

impl Replays {
    /// The record before row `end`. O(rows since it was last asked for), O(rows before `end`) at first
    /// and whenever `end` goes back.
    ///
    /// # Errors
    /// [`CodecError`] when the base's bytes are damaged.
    pub(super) fn before(
        &mut self,
        key: &RecordKey,
        end: u64,
        base: &Base,
        overlay: &Overlay,
    ) -> Result<&Record, CodecError> {
        if self.0.len() >= RECORDS_MAX && !self.0.contains_key(key) {
            let furthest = self.0.iter().min_by_key(|(_, replay)| replay.next);
            if let Some(furthest) = furthest.map(|(key, _)| key.clone()) {
                self.0.remove(&furthest);
            }
        }
        let replay = match self.0.entry(key.clone()) {
            sorted::Entry::Occupied(known) => known,
            sorted::Entry::Vacant(place) => place.insert(Replay::of_base(key, base)?),
        };
        if replay.next > end {
            *replay = Replay::of_base(key, base)?;
        }
        replay.advance(key, end, overlay);
        Ok(&replay.record)
    }

    /// The record before row `end`, if what is remembered does not lie behind that.
    pub(super) fn peek(&self, key: &RecordKey, end: u64, overlay: &Overlay) -> Option<Record> {
        let Replay { seen, record, next } = self.0.get(key).filter(|known| known.next <= end)?;
        let mut record = record.clone();
        overlay.replay(key, seen, *next..end, &mut record);
        Some(record)
    }

    pub(super) fn forget(&mut self, key: &RecordKey) {
        self.0.remove(key);
    }

    /// Rows from `first` on are taken back, and others may take their numbers: what was remembered up to there does
    /// not know of those. A write that could not be planned leaves it so, though no row of it was there.
    pub(super) fn rewind(&mut self, first: u64) {
        self.0.retain(|_, replay| replay.next <= first);
    }
}
