//! Local writes, tentative until their commit is durable, and their form for the peer.

use super::{
    bytes::encode_commit,
    change::{Change, ChangeError},
    entry::Entry,
    intent::{Intent, Restamped, Row},
    overlay::RowState,
    plan::{Planned, check_sent, plan_all},
    state::{Applied, Replica},
};
use crate::{
    codec::CodecError,
    hlc::{Hlc, HlcClock, Stamp},
    id::{RecordKey, ReplicaId},
    message::{
        Origin, PushRow,
        limits::{BATCH_BYTES_MAX, PAGE_BYTES_AIM},
    },
    planted::Bug,
    record::Record,
    sorted::{SortedMap, SortedSet},
    time::WallMillis,
};
use alloc::vec::Vec;

/// Why a local write was not made; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It asks for something that cannot be.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Stored bytes that it builds on are damaged.
    #[error("stored bytes are damaged: {0}")]
    Corrupt(#[from] CodecError),
}

/// A write that is applied and not yet durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tentative {
    /// Its number in the outbox.
    pub number: u64,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its log entry.
    pub bytes: Vec<u8>,
}

impl Replica {
    /// Plans `changes` as one row on top of everything, tentative rows included, and applies it. It is
    /// hidden from [`Replica::view`] until [`Replica::confirm`]; [`Replica::undo`] takes it back.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was changed.
    pub fn write(&mut self, changes: &[Change], wall: WallMillis) -> Result<Tentative, WriteError> {
        let (row, bytes) = self.plan_encoded(changes, wall)?;
        let stamp = row.stamp;
        let number = self.last + 1;
        if self.tentative.is_none() {
            self.tentative = Some((number, self.header.clock));
        }
        self.apply(Entry::Commit(row))?;
        Ok(Tentative { number, stamp, bytes })
    }

    /// The row that `changes` make on top of everything, tentative rows included; nothing is applied.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn plan(&mut self, changes: &[Change], wall: WallMillis) -> Result<Row, WriteError> {
        self.plan_encoded(changes, wall).map(|(row, _)| row)
    }

    /// The same, with its log entry.
    fn plan_encoded(
        &mut self,
        changes: &[Change],
        wall: WallMillis,
    ) -> Result<(Row, Vec<u8>), WriteError> {
        let mut clock = self.clock();
        let hlc =
            clock.tick(self.corrected(wall)).map_err(|_exhausted| ChangeError::ClockExhausted)?;
        let stamp = Stamp { hlc, replica: self.id() };
        let Planned { writes, sent_about } = plan_all(changes, stamp, |key| self.latest(key))?;
        let mut row = Row { stamp, origin: None, insisted: false, writes };
        self.plant_into(&mut row);
        let bytes = encode_commit(&row);
        if bytes.len() > BATCH_BYTES_MAX {
            let (got, max, unit) = (bytes.len(), BATCH_BYTES_MAX, "bytes");
            return Err(ChangeError::BatchTooLarge { got, max, unit }.into());
        }
        if sent_about > PAGE_BYTES_AIM {
            self.check_row(&row, sent_about)?;
        }
        Ok((row, bytes))
    }

    /// A planted bug changes what is planned.
    fn plant_into(&self, row: &mut Row) {
        for write in &mut row.writes {
            if self.planted.is(Bug::NoSince) {
                write.intents.retain(|intent| !matches!(intent, Intent::Clear { .. }));
            }
            if self.planted.is(Bug::LastOfferWins) {
                let mut offered = SortedSet::new();
                write.intents.reverse();
                write.intents.retain(|intent| {
                    !matches!(intent, Intent::Set { .. }) || offered.insert(intent.cell())
                });
                write.intents.reverse();
            }
        }
    }

    /// Whether the row fits into a frame when it is sent.
    fn check_row(&mut self, row: &Row, sent_about: usize) -> Result<(), WriteError> {
        let mut writes = Vec::with_capacity(row.writes.len());
        for write in &row.writes {
            let delta = write.delta(row.stamp, &self.latest(&write.key)?);
            writes.push(write.sent(delta));
        }
        // A row may have to name its origin by the time it is sent.
        let Origin { stamp, digest } = row.origin();
        let number = self.last + 1;
        let (hlc, insisted) = (row.stamp.hlc, row.insisted);
        let sent = PushRow { number, hlc, origin: Some(stamp), insisted, digest, writes };
        Ok(check_sent(sent_about, &sent)?)
    }

    /// The record on top of everything, tentative rows included.
    fn latest(&mut self, key: &RecordKey) -> Result<Record, CodecError> {
        if self.overlay.numbers_of(key).next().is_none() {
            return self.base.record(key);
        }
        let end = self.last + 1;
        self.before_write.before(key, end, &self.base, &self.overlay).cloned()
    }

    /// The tentative rows are durable: shows them.
    pub fn confirm(&mut self) -> Applied {
        let mut applied = Applied::default();
        if let Some((first, _)) = self.tentative.take() {
            for (_, outbox) in self.overlay.rows_from(first) {
                applied.keys.extend(outbox.row.writes.iter().map(|write| write.key.clone()));
            }
        }
        applied
    }

    /// The tentative rows were not stored: takes them back.
    pub fn undo(&mut self) {
        if let Some((first, clock)) = self.tentative.take() {
            let numbers: Vec<u64> =
                self.overlay.rows_from(first).map(|(number, _)| number).collect();
            for number in numbers {
                drop(self.overlay.remove(number));
            }
            self.before_push.rewind(first);
            self.before_write.rewind(first);
            self.last = first - 1;
            self.header.clock = clock;
        }
    }

    /// Row `number` for the peer: the cells it touches, in full, on top of the base and of the rows
    /// before it. `None` when there is no such row. Rows asked for in ascending order cost O(size of the
    /// records they touch) each, however many rows a record has.
    ///
    /// # Errors
    /// [`CodecError`] when stored bytes are damaged.
    pub fn push_row(&mut self, number: u64) -> Result<Option<PushRow>, CodecError> {
        let Some(outbox) = self.overlay.get(number) else {
            return Ok(None);
        };
        let stamp = outbox.row.stamp;
        let mut writes = Vec::new();
        for write in &outbox.row.writes {
            let replays = &mut self.before_push;
            let current = replays.before(&write.key, number, &self.base, &self.overlay)?;
            // Where the base has the row already the peer has it too: it answers that it knows the row.
            let mut delta = write.delta(stamp, current);
            if self.planted.is(Bug::RemoveWidens) && !delta.removed.seen.is_empty() {
                delta.removed.seen.join(&current.seen);
            }
            if self.overlay.is_last_of(&write.key, number) {
                replays.forget(&write.key);
            }
            writes.push(write.sent(delta));
        }
        let Origin { stamp: first, digest } = outbox.row.origin();
        let origin = Some(first).filter(|first| *first != stamp);
        let insisted = outbox.row.insisted;
        Ok(Some(PushRow { number, hlc: stamp.hlc, origin, insisted, digest, writes }))
    }

    /// New stamps for the waiting rows from `from` on, in their order, by the peer's wall clock as far as it is known.
    ///
    /// # Errors
    /// [`ChangeError::ClockExhausted`].
    pub fn restamp_from(&self, from: u64, corrected: WallMillis) -> Result<Restamped, ChangeError> {
        let own = |outbox: &&super::overlay::OutboxRow| {
            outbox.row.stamp.replica == self.id() && outbox.state == RowState::Waiting
        };
        let kept = self
            .overlay
            .rows()
            .filter(|(number, outbox)| *number < from || !own(outbox))
            .filter(|(_, outbox)| outbox.row.stamp.replica == self.id())
            .map(|(_, outbox)| outbox.row.stamp.hlc)
            .filter(|hlc| hlc.wall() <= corrected)
            .fold(self.acked(), Hlc::max);
        let kept = kept.max(self.header.observed).max(self.copies_until().unwrap_or_default());
        let mut clock = HlcClock::resume(kept);
        self.restamp_with(&mut clock, corrected, self.id(), |number, outbox| {
            number >= from && own(&outbox)
        })
    }

    /// The latest of the stamps that acknowledged rows have under other ids: a row behind them has seen it.
    #[must_use]
    pub fn copies_until(&self) -> Option<Hlc> {
        let rows = self.overlay.rows().map(|(_, outbox)| outbox);
        let copies = rows.filter(|outbox| {
            matches!(outbox.state, RowState::Accepted(_)) && outbox.row.stamp.replica != self.id()
        });
        copies.map(|outbox| outbox.row.stamp.hlc).max()
    }

    /// Whether a row that waits has a stamp up to this: it may stand behind one that has it.
    #[must_use]
    pub fn trails(&self, upto: Hlc) -> bool {
        let rows = self.overlay.rows().map(|(_, outbox)| outbox);
        let mut waiting = rows.filter(|outbox| outbox.state == RowState::Waiting);
        waiting.any(|outbox| outbox.row.stamp.hlc <= upto)
    }

    /// New stamps, under a new id, for every row that waits, or was acknowledged under the present id, and
    /// is not settled by `except`.
    ///
    /// # Errors
    /// [`ChangeError::ClockExhausted`].
    pub fn restamp_as(
        &self,
        replica: ReplicaId,
        except: &[(u64, Option<Stamp>)],
        wall: WallMillis,
    ) -> Result<Restamped, ChangeError> {
        // Who saw a row has seen the copy that counts for it.
        let copies = except.iter().filter_map(|(_, copy)| *copy).map(|copy| copy.hlc);
        let copies = copies.fold(self.copies_until().unwrap_or_default(), Hlc::max);
        let mut clock = HlcClock::resume(self.clock().last().max(copies));
        let except: SortedSet<u64> = SortedSet::from_iter(except.iter().map(|(number, _)| *number));
        self.restamp_with(&mut clock, self.corrected(wall), replica, |number, outbox| {
            let open = match outbox.state {
                RowState::Waiting => true,
                RowState::Accepted(_) => {
                    outbox.row.stamp.replica == self.id() && !self.has(Bug::SettledForGood)
                }
                RowState::Rejected { .. } => false,
            };
            open && !except.contains(&number)
        })
    }

    fn restamp_with(
        &self,
        clock: &mut HlcClock,
        wall: WallMillis,
        replica: ReplicaId,
        picked: impl Fn(u64, &super::overlay::OutboxRow) -> bool,
    ) -> Result<Restamped, ChangeError> {
        let rows = self.overlay.rows().filter(|(number, outbox)| picked(*number, outbox));
        SortedMap::try_from_iter(rows.map(|(_, outbox)| {
            let hlc = clock.tick(wall).map_err(|_exhausted| ChangeError::ClockExhausted)?;
            Ok((outbox.row.stamp, Stamp { hlc, replica }))
        }))
    }
}
