//! Refill: what this store has lost, and a peer still holds, comes back.
//!
//! A store that was put back from an old copy, or erased, has lost rows that it had acknowledged. A peer that
//! heals returns the records that show it, each as this host (under the same secret) once sent it.
//!
//! Invariants: what is returned is joined whole and only adds, so to return it twice, or by a thousand peers,
//! writes once; nobody speaks for others but with this host's own mark, or with the right to write while the
//! policy lets writers; what came at a position of this host's own history adds nothing, so what was collected
//! since does not rise again; for each replica the greatest time that came back so is kept, in the same commit
//! (`docs/PROTOCOL.md` 3.6). Absent: what a peer has that shows a loss: that is the peer's to find.

use super::{
    Host, HostNote, HostOutput, PeerId, RefillPolicy,
    group::{Before, Judging, Touched},
    judge,
    layout::{Positions, Stored},
    peer::Peer,
    pipeline::Job,
};
use crate::{
    hlc::Stamp,
    id::{Epoch, Seq},
    protocol::{
        limits::{AHEAD_RETRY_AFTER, CELLS_MAX, RECORD_BYTES_MAX, REFILLS_IN_FLIGHT_MAX},
        message::{ByeCode, Kept, Message, Refill, RefillOutcome, Refilled, RejectCode},
    },
    record::{Cell, Record, State},
    sorted::SortedSet,
    time::Now,
};
use alloc::sync::Arc;

/// Records that wait to be joined.
#[derive(Debug)]
pub(super) struct WaitingRefill {
    pub(super) peer: PeerId,
    pub(super) bytes: usize,
    pub(super) refill: Refill,
}

/// What became of them.
#[derive(Debug)]
pub(super) struct Answer {
    peer: PeerId,
    refilled: Refilled,
    /// Records that the store did not have, or not all of.
    restored: usize,
}

impl Host {
    pub(super) fn refill(&mut self, now: Now, id: PeerId, refill: Refill, bytes: usize) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let pattern = peer.pattern(refill.subscription);
        let covered = pattern.is_some_and(|pattern| {
            refill.entries.iter().all(|kept| pattern.covers(&kept.key.collection))
        });
        if !covered {
            let reason = "no such subscription, or it does not cover a record";
            return self.dismiss(now, id, ByeCode::Misbehaved, reason);
        }
        let keys: SortedSet<_> = refill.entries.iter().map(|kept| &kept.key).collect();
        if keys.len() < refill.entries.len() {
            // Each time it would cost as much as the record is large.
            let reason = "a refill names a record twice";
            return self.dismiss(now, id, ByeCode::Misbehaved, reason);
        }
        peer.refills_waiting += 1;
        if peer.refills_waiting > REFILLS_IN_FLIGHT_MAX {
            return self.dismiss(now, id, ByeCode::Busy, "too many refills wait");
        }
        self.jobs.push_back(Job::Refill(WaitingRefill { peer: id, bytes, refill }));
        self.start_group(now);
    }

    /// Answers a refill that is durable.
    pub(super) fn refilled(&mut self, now: Now, answer: Answer) {
        let Answer { peer, refilled, restored } = answer;
        let is_refused = |outcome: &&RefillOutcome| matches!(outcome, RefillOutcome::Refused(_));
        let refused = refilled.outcomes.iter().filter(is_refused).count();
        let known = refilled.outcomes.len() - refused - restored;
        self.out(HostOutput::Note(HostNote::Refilled { peer, restored, known, refused }));
        self.send(now, peer, &Message::Refilled(refilled));
    }
}

impl Judging<'_> {
    /// Joins what a peer returns: all of one message under one position, so that batches stay whole as far as
    /// they came together.
    pub(super) fn refill(&mut self, peer: &mut Peer, waiting: WaitingRefill) {
        peer.refills_waiting = peer.refills_waiting.saturating_sub(1);
        let WaitingRefill { peer: id, refill, .. } = waiting;
        if self.judged.later.contains_key(&id) {
            return;
        }
        if refill.entries.iter().any(|kept| self.is_early(peer, kept)) {
            // Refused it would be gone: only its peers have it.
            let reason = "what comes back is ahead of this server's clock";
            self.judged.later.insert(id, (AHEAD_RETRY_AFTER, reason));
            return;
        }
        let seq = Seq(self.judged.head.seq.0.saturating_add(1));
        let mut restored = 0;
        let outcomes = refill
            .entries
            .into_iter()
            .map(|kept| match self.return_record(peer, seq, kept) {
                Ok((at, is_new)) => {
                    restored += usize::from(is_new);
                    RefillOutcome::Joined(at)
                }
                Err(code) => RefillOutcome::Refused(code),
            })
            .collect();
        let refilled = Refilled { subscription: refill.subscription, outcomes };
        self.judged.refilled.push(Answer { peer: id, refilled, restored });
    }

    /// The position from which on the store has it, and whether it is there only now.
    fn return_record(
        &mut self,
        peer: &Peer,
        seq: Seq,
        kept: Kept,
    ) -> Result<(Seq, bool), RejectCode> {
        let is_proved = self.marks.prove(&kept);
        self.admit_record(peer, &kept, is_proved)?;
        let stored = self.known.records.get(&kept.key).and_then(Option::as_ref);
        let before = stored.map(|stored| Before::of(stored));
        let at = stored.map(|stored| stored.positions.latest);
        if self.has_had(kept.epoch, kept.seq) {
            return at.map(|at| (at, false)).ok_or(RejectCode::RecordGone);
        }
        let burial = kept.record.burial().filter(|_| is_proved);
        if stored.is_none() && burial.is_some_and(|at| at <= self.horizon) {
            // It would be collected at once.
            return Err(RejectCode::RecordGone);
        }
        let Some(joined) = self.join_whole(stored.map(|stored| &**stored), &kept.record, seq)?
        else {
            return at.map(|at| (at, false)).ok_or(RejectCode::Invalid);
        };
        let held = stored.map(|stored| stored.record.seen.clone()).unwrap_or_default();
        for stamp in kept.record.seen.iter().filter(|stamp| !held.covers(stamp)) {
            self.has_returned(stamp);
        }
        self.judged.head.seq = seq;
        let stored = Arc::new(joined);
        self.known.records.insert(kept.key.clone(), Some(Arc::clone(&stored)));
        let touched = self.judged.touched.entry(kept.key);
        touched
            .and_modify(|touched| touched.stored = Arc::clone(&stored))
            .or_insert_with(|| Touched { stored, before, conflicts: alloc::vec::Vec::new() });
        Ok((seq, true))
    }

    /// Whether a position lies in this host's history: what was lost lies beyond it.
    fn has_had(&self, epoch: Epoch, seq: Seq) -> bool {
        let left = if epoch == self.marks.epoch {
            Some(self.judged.head.seq)
        } else {
            let left = self.lineage.iter().find(|left| left.epoch == epoch);
            left.map(|left| left.seq)
        };
        left.is_some_and(|left| seq <= left)
    }

    fn may_return(&self, peer: &Peer, kept: &Kept, is_proved: bool) -> bool {
        match self.refill {
            RefillPolicy::None => false,
            RefillPolicy::Proved => is_proved,
            RefillPolicy::Writers => is_proved || peer.grant.writes(&kept.key.collection),
        }
    }

    /// Whether it must wait until this host's clock has come as far.
    fn is_early(&self, peer: &Peer, kept: &Kept) -> bool {
        let ahead = |stamp: Stamp| self.clock.ahead(stamp.hlc, self.now.wall).is_some();
        kept.record.seen.iter().any(ahead)
            && !self.has_had(kept.epoch, kept.seq)
            && !self.marks.prove(kept)
            && self.may_return(peer, kept, false)
    }

    /// Whether the peer may return it.
    fn admit_record(&self, peer: &Peer, kept: &Kept, is_proved: bool) -> Result<(), RejectCode> {
        if !self.may_return(peer, kept, is_proved) {
            return Err(RejectCode::Forbidden);
        }
        if is_proved {
            return Ok(());
        }
        check_shape(&kept.record)?;
        judge::check_values(&kept.record, &self.limits).map_err(|_refused| RejectCode::TooLarge)
    }

    /// The stored record with all of another in it; `None` where that adds nothing.
    fn join_whole(
        &self,
        stored: Option<&Stored>,
        whole: &Record,
        seq: Seq,
    ) -> Result<Option<Stored>, RejectCode> {
        let (mut record, mut positions) = stored.map_or_else(
            || (Record::default(), Positions::default()),
            |stored| (stored.record.clone(), stored.positions.clone()),
        );
        let grown = judge::join_parts(&mut record, &mut positions, whole, seq);
        // Of when it was removed only this host speaks: what dies of it here was alive to all who are at its head.
        let now = grown.removed.then(|| self.clock.last());
        let buried = record.removed.buried.max(now);
        if buried > record.removed.buried {
            record.removed.buried = buried;
            positions.buried = Some(seq);
        } else if !grown.any {
            return Ok(None);
        }
        positions.latest = seq;
        // Nobody can make this from rows of its own.
        positions.altered = seq;
        let joined = Stored::new(record, positions);
        // The operator's limit is one of writes: it is no reason to lose what was written.
        let too_large =
            joined.record.cells.len() > CELLS_MAX || joined.bytes.len() > RECORD_BYTES_MAX;
        if too_large { Err(RejectCode::TooLarge) } else { Ok(Some(joined)) }
    }

    /// Keeps how far a replica's rows have come back otherwise than as rows.
    fn has_returned(&mut self, stamp: Stamp) {
        let _taken = self.clock.observe(stamp.hlc, self.now.wall);
        let known = self.known.returned.entry(stamp.replica).or_default();
        if *known < Some(stamp.hlc) {
            *known = Some(stamp.hlc);
            self.judged.returned.insert(stamp.replica, stamp.hlc);
        }
    }
}

/// A record that this host could have made: every stamp in it is of a write that it has seen.
fn check_shape(record: &Record) -> Result<(), RejectCode> {
    let seen = |stamp: &Stamp| record.seen.covers(stamp);
    let vector = |vector: &crate::record::VersionVector| vector.iter().all(|stamp| seen(&stamp));
    let state = |state: &State| match state {
        State::Lww { stamp, .. } => seen(stamp),
        State::Fww(first) => first.as_ref().is_none_or(|(stamp, _)| seen(stamp)),
        State::Max(_) | State::Min(_) | State::Later { .. } => true,
        State::Counter(counter) => {
            counter.0.keys().all(|replica| record.seen.get(replica).is_some())
        }
        State::Set(set) => vector(&set.context) && set.elements.values().all(vector),
        State::Review(siblings) => vector(&siblings.context) && siblings.values.keys().all(seen),
    };
    let cell = |cell: &Cell| cell.since.as_ref().is_none_or(seen) && state(&cell.state);
    let later = |cell: &Cell| matches!(cell.state, State::Later { .. });
    let kinds = record.cells.iter().all(|(key, cell)| key.1 == cell.state.kind());
    if record.cells.values().any(later) {
        Err(RejectCode::UpgradeServer)
    } else if kinds && vector(&record.removed.seen) && record.cells.values().all(cell) {
        Ok(())
    } else {
        Err(RejectCode::Forged)
    }
}
