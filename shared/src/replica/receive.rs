//! Taking in what the peer sends: staging, cuts, snapshots and heals.
//!
//! Invariant: what lies between two cuts becomes visible together, and a row of the outbox goes in the
//! very step that brings its effect into the base.

use super::{
    entry::{Healing, Opened},
    overlay::{OutboxRow, RowState},
    state::{Applied, Replica},
    subscribe::standing_mut,
};
use crate::{
    codec::{CodecError, CodecFault},
    hlc::Hlc,
    id::{Pattern, RecordKey, Seq},
    message::{Changes, Chunk, Entry, Message, Place, Records, wire},
    planted::Bug,
    sorted::SortedSet,
};
use alloc::vec::Vec;

impl Replica {
    /// Stages entries; returns whether all fitted.
    pub(super) fn stage(&mut self, entries: Vec<Entry>, applied: &mut Applied) -> bool {
        let epoch = self.header.epoch_number;
        let replica = self.header.replica;
        let number = self.last + 1;
        let mut fitted = true;
        for entry in entries {
            applied.received += 1;
            applied
                .conflicts
                .extend(entry.conflicts.iter().map(|note| (entry.key.clone(), note.clone())));
            let key = entry.key.clone();
            let overlay = &self.overlay;
            let staged = self.base.stage(entry, (number, epoch), |record, upto| {
                overlay.apply_own(&key, replica, upto, record);
            });
            fitted &= staged.is_ok();
        }
        self.folds_whole |= !fitted;
        fitted
    }

    pub(super) fn feed(&mut self, changes: Changes, applied: &mut Applied) {
        let Changes { subscriptions, after, upto, cut, mut entries, state } = changes;
        // A subscription that is being healed, or that was moved, takes its changes up again later.
        let planted = self.has(Bug::AfterIgnored);
        let taking: Vec<u32> = subscriptions
            .into_iter()
            .filter(|subscription| {
                standing_mut(&mut self.header.standings, *subscription).is_some_and(
                    |(_, standing)| {
                        (standing.place == after || planted)
                            && standing.heal.as_ref().is_none_or(|heal| heal.complete)
                    },
                )
            })
            .collect();
        let standings = &self.header.standings;
        let patterns: Vec<&Pattern> = taking
            .iter()
            .filter_map(|subscription| standings.get(usize::try_from(*subscription).ok()?))
            .map(|(pattern, _)| pattern)
            .collect();
        entries
            .retain(|entry| patterns.iter().any(|pattern| pattern.covers(&entry.key.collection)));
        let fitted = self.stage(entries, applied);
        for subscription in taking {
            let Some((_, standing)) = standing_mut(&mut self.header.standings, subscription) else {
                continue;
            };
            standing.place = upto.clone();
            if !fitted {
                let seq = upto.seq;
                // Of what time it is, the heal will tell.
                standing.heal = Some(Healing { seq, reach: seq, ..Healing::default() });
                applied.broken.push(subscription);
            } else if cut || self.planted.is(Bug::CutsIgnored) {
                self.cut(subscription, upto.seq, applied);
                if let Some(state) = &state {
                    let stated = (state.seq, state.horizon, state.hlc);
                    self.stands_at(subscription, stated, applied);
                }
            }
        }
    }

    /// The peer has said at what position, horizon and time it stands: a base that is at that position is of
    /// that time, and dead records that the peer's trees do not have leave it.
    pub(super) fn stands_at(
        &mut self,
        subscription: u32,
        (seq, horizon, time): (Seq, Hlc, Hlc),
        applied: &mut Applied,
    ) {
        let standing = standing_mut(&mut self.header.standings, subscription);
        let Some((_, standing)) = standing.filter(|(_, standing)| standing.is_at(seq)) else {
            return;
        };
        standing.time = standing.time.max(time);
        if horizon > standing.horizon {
            standing.horizon = horizon;
            self.bury(subscription, horizon, applied);
        }
    }

    /// Drops the dead records of a subscription that the peer's trees do not have. No app sees them, unless a
    /// row builds on one.
    fn bury(&mut self, subscription: u32, horizon: Hlc, applied: &mut Applied) {
        let standing = standing_mut(&mut self.header.standings, subscription);
        let Some((pattern, _)) = standing else { return };
        for key in self.base.buried(pattern, horizon) {
            let is_ahead = self.base.is_ahead(&key, self.last + 1);
            let shows = self.overlay.numbers_of(&key).next().is_some();
            if !is_ahead && self.base.drop_record(&key) && shows {
                applied.keys.insert(key);
            }
        }
    }

    /// Makes visible what has come for a subscription, unless a snapshot or heal holds it back.
    pub(super) fn cut(&mut self, subscription: u32, seq: Seq, applied: &mut Applied) {
        let epoch = self.epoch_last();
        let Some((pattern, standing)) = standing_mut(&mut self.header.standings, subscription)
        else {
            return;
        };
        if standing.heal.as_ref().is_some_and(|heal| !heal.complete || heal.reach > seq) {
            return;
        }
        let heal = standing.heal.take();
        if let Some(heal) = &heal {
            standing.time = heal.time;
            standing.horizon = heal.horizon;
        }
        let gone = heal.map(|heal| heal.gone).unwrap_or_default();
        standing.stale = false;
        standing.cursor = seq;
        standing.arrived = true;
        standing.epoch = epoch;
        let keys = self.base.publish(pattern);
        if self.has(Bug::BaseLeafSkipped) {
            self.base.spoil(&keys);
        }
        for key in gone {
            // What was published is ascending.
            let stays = keys.binary_search(&key).is_ok() || self.base.is_ahead(&key, self.last + 1);
            if !stays && self.base.drop_record(&key) {
                applied.keys.insert(key);
            }
        }
        for key in &keys {
            if let Ok(seen) = self.base.seen(key) {
                let latest = seen.iter().map(|stamp| stamp.hlc).max().unwrap_or_default();
                self.header.observed = self.header.observed.max(latest);
            }
        }
        applied.keys.extend(keys.iter().cloned());
        applied.cuts.push(subscription);
        self.retire(&keys, applied);
        // Of what was accepted up to here the base has all that is left, and that may be nothing.
        let accepted = self.overlay.accepted().filter(|(_, at)| *at <= seq);
        let done = accepted.map(|(number, _)| number).filter(|number| self.is_done(*number));
        for number in done.collect::<Vec<_>>() {
            self.finish(number, applied);
        }
    }

    /// Makes visible what a heal has brought, where it stands: a bug, in tests.
    pub(super) fn cut_at_heal(&mut self, subscription: u32, applied: &mut Applied) {
        let standing = standing_mut(&mut self.header.standings, subscription);
        let heal = standing.and_then(|(_, standing)| standing.heal.as_mut());
        if let Some(seq) = heal.map(|heal| {
            heal.reach = heal.seq;
            heal.seq
        }) {
            self.cut(subscription, seq, applied);
        }
    }

    /// Drops the rows that the base now has.
    pub(super) fn retire(&mut self, keys: &[RecordKey], applied: &mut Applied) {
        let mut candidates: SortedSet<u64> = SortedSet::new();
        for key in keys {
            let mut numbers = self.overlay.numbers_of(key).peekable();
            if numbers.peek().is_none() {
                continue;
            }
            // One look at the base for all rows of a record, most of which it may not have yet.
            if let Ok(seen) = self.base.seen(key) {
                candidates.extend(numbers.filter(|number| {
                    let outbox = self.overlay.get(*number);
                    outbox.is_some_and(|outbox| seen.covers(&outbox.row.stamp))
                }));
            }
        }
        for number in candidates {
            if self.is_done(number) {
                self.finish(number, applied);
            }
        }
    }

    pub(super) fn is_done(&self, number: u64) -> bool {
        let Some(outbox) = self.overlay.get(number) else {
            return false;
        };
        let accepted = match outbox.state {
            RowState::Waiting => None,
            RowState::Accepted(seq) => Some(seq),
            RowState::Rejected { .. } => return false,
        };
        outbox.row.writes.iter().all(|write| {
            let mut standings = self.header.standings.iter();
            let standing = standings.find(|(held, _)| held.covers(&write.key.collection));
            let Some((_, standing)) = standing else { return accepted.is_some() };
            let seen = self.base.seen(&write.key);
            // What a base that has all up to there lacks of it was removed since, and collected.
            let has_all = |seq| seq > Seq(0) && standing.has_all_upto(seq);
            // Of a record that cannot be read nobody sees what the row did.
            let shows = || self.base.record(&write.key).is_ok();
            seen.is_ok_and(|seen| seen.covers(&outbox.row.stamp)) && shows()
                || accepted.is_some_and(has_all)
        })
    }

    pub(super) fn forget(&mut self, number: u64) -> Option<OutboxRow> {
        let outbox = self.overlay.remove(number)?;
        self.finished.insert(number, self.last + 1);
        Some(outbox)
    }

    pub(super) fn finish(&mut self, number: u64, applied: &mut Applied) {
        // A base that is ahead of what is read does not tell when a row ended: that is on record.
        if self.catching_up.is_none() {
            self.end_row(number, applied);
        }
    }

    pub(super) fn end_row(&mut self, number: u64, applied: &mut Applied) {
        if let Some(gone) = self.forget(number) {
            if gone.row.stamp.replica == self.header.replica {
                self.header.acked = self.header.acked.max(gone.row.stamp.hlc);
            }
            if gone.state == RowState::Waiting {
                applied.accepted.push(number);
            }
            applied.keys.extend(gone.row.writes.into_iter().map(|write| write.key));
        }
    }

    pub(super) fn staged(&mut self, records: Records, applied: &mut Applied) {
        let reach = records.entries.iter().map(|entry| entry.seq).max().unwrap_or_default();
        let fitted = self.stage(records.entries, applied);
        let subscription = records.subscription;
        if !fitted && standing_mut(&mut self.header.standings, subscription).is_some() {
            applied.broken.push(subscription);
        }
        self.staged_upto(subscription, reach, None);
    }

    /// Notes how far a heal has come: in the feed, and in a snapshot.
    fn staged_upto(&mut self, subscription: u32, reach: Seq, chunk: Option<RecordKey>) {
        let standing = standing_mut(&mut self.header.standings, subscription);
        if let Some(heal) = standing.and_then(|(_, standing)| standing.heal.as_mut()) {
            heal.reach = heal.reach.max(reach);
            heal.upto = chunk.or_else(|| heal.upto.take());
        }
    }

    /// A `Records` or `Chunk` message.
    pub(super) fn staged_message(
        &mut self,
        bytes: Vec<u8>,
        applied: &mut Applied,
    ) -> Result<(), CodecError> {
        let message = wire::decode(&bytes)?;
        if let Message::Chunk(chunk) = message {
            let damaged = CodecError { at: 0, kind: CodecFault::Damaged };
            // It was verified before it was stored.
            let records = chunk.open().ok().flatten().ok_or(damaged)?;
            let Chunk { subscription, upto, .. } = chunk;
            self.chunk(Opened { bytes, subscription, upto, records }, applied);
        } else if let Message::Records(records) = message {
            self.unfolded_bytes += bytes.len();
            applied.received_bytes = bytes.len();
            self.staged(records, applied);
        }
        Ok(())
    }

    /// Stages a chunk's records, bytes as they came.
    pub(super) fn chunk(&mut self, opened: Opened, applied: &mut Applied) {
        let Opened { bytes, subscription, upto, records } = opened;
        self.unfolded_bytes += bytes.len();
        applied.received_bytes = bytes.len();
        let (number, epoch) = (self.last + 1, self.header.epoch_number);
        let mut reach = Seq(0);
        for record in records {
            applied.received += 1;
            reach = reach.max(record.seq);
            self.base.stage_whole(record, (number, epoch));
        }
        self.staged_upto(subscription, reach, upto);
    }

    pub(super) fn heal_begun(&mut self, subscription: u32, begun: Healing, applied: &mut Applied) {
        let epoch = self.epoch_last();
        let horizon = begun.horizon;
        let Some((pattern, standing)) = standing_mut(&mut self.header.standings, subscription)
        else {
            return;
        };
        // It brings what differs from what is visible. What an earlier one had staged may be what the peer had before
        // it got back what is visible here.
        self.base.unstage(pattern);
        if !standing.arrived {
            standing.epoch = epoch;
        }
        standing.heal = Some(begun);
        if !standing.stale {
            // What the peer does not keep any more is no difference.
            self.bury(subscription, horizon, applied);
        }
    }

    /// Everything has come, and nothing of it is visible yet: `cursor` still speaks of the history that it
    /// was reached in, so its epoch stays until the cut.
    pub(super) fn healed(&mut self, subscription: u32, gone: Vec<RecordKey>, reach: Seq) {
        let planted = self.has(Bug::HealedTooSoon);
        if let Some((_, standing)) = standing_mut(&mut self.header.standings, subscription)
            && let Some(heal) = &mut standing.heal
        {
            heal.complete = true;
            heal.gone = gone;
            heal.reach = heal.reach.max(reach);
            standing.place = Place::at(heal.seq);
            if planted {
                standing.epoch = self.header.epochs.last().map(|(_, epoch)| *epoch);
            }
        }
    }
}
