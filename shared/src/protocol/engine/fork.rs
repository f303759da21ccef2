//! Forked histories: a store that was rolled back or copied goes on under a new replica id.

use super::{
    Engine,
    pipeline::{Then, Want},
    session::{OPENING_WITHIN, Phase},
};
use crate::{
    gather,
    hlc::{Hlc, Stamp},
    message::{
        Message, Recall, Recalled,
        limits::{RECALL_ROWS_MAX, time_for},
    },
    planted::Bug,
    replica::{Entry, OutboxRow, RowState, Settlement, row_digest},
    time::{Millis, Now},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

/// Bytes of a row in a recall, at most.
const RECALL_ROW_BYTES: usize = 32;

impl Engine {
    /// Whether the peer has accepted something from this replica that it does not know of.
    pub(super) fn has_forked(&self, accepted: Option<Hlc>) -> bool {
        let Some(accepted) = accepted else {
            return false;
        };
        let stamp = Stamp { hlc: accepted, replica: self.replica.id() };
        let known = accepted <= self.replica.acked()
            || self
                .replica
                .overlay()
                .rows()
                .any(|(_, row)| row.row.stamp == stamp && row.state == RowState::Waiting);
        !known
    }

    /// Asks which of the outbox rows, up to a time, were accepted. A peer that takes this history for a
    /// forked one may have lost its own: what it once acknowledged is asked for too.
    pub(super) fn recall(&mut self, now: Now, phase: Phase, upto: Option<Hlc>) {
        let own = self.replica.id();
        let waiting = |outbox: &&OutboxRow| {
            !matches!(outbox.state, RowState::Rejected { .. })
                && outbox.row.stamp.replica == own
                && upto.is_none_or(|upto| outbox.row.stamp.hlc <= upto)
        };
        let rows: VecDeque<(Hlc, [u8; 16])> = self
            .replica
            .overlay()
            .rows()
            .map(|(_, outbox)| outbox)
            .filter(waiting)
            .map(|outbox| (outbox.row.stamp.hlc, row_digest(&outbox.row)))
            .collect();
        let Some(session) = &mut self.session else {
            return;
        };
        session.phase = phase;
        session.to_recall = rows;
        if !self.recall_next(now) {
            self.be_reborn();
        }
    }

    /// Asks for the next rows: one question at a time. `false` when all were asked for.
    fn recall_next(&mut self, now: Now) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let count = session.to_recall.len().min(RECALL_ROWS_MAX);
        let rows: Vec<_> = session.to_recall.drain(..count).collect();
        let some = !rows.is_empty();
        if some {
            let within = OPENING_WITHIN.0 + time_for(count * RECALL_ROW_BYTES).0;
            session.opening_until = now.mono + Millis(within);
            self.say(now, &Message::Recall(Recall { rows }));
        }
        some
    }

    pub(super) fn recalled(&mut self, now: Now, recalled: Recalled) {
        let own = self.replica.id();
        let rows = self.replica.overlay().rows();
        let rows = rows.filter(|(_, outbox)| outbox.row.stamp.replica == own);
        let numbers: BTreeMap<Hlc, u64> =
            gather::map(rows.map(|(number, outbox)| (outbox.row.stamp.hlc, number)));
        let number_of = |hlc: Hlc| numbers.get(&hlc).copied();
        let accepted: Vec<u64> = recalled.accepted.into_iter().filter_map(number_of).collect();
        let unsure: Vec<u64> = recalled.unsure.into_iter().filter_map(number_of).collect();
        let Some(session) = &mut self.session else {
            return;
        };
        session.recalled.extend(accepted);
        session.unsure.extend(unsure);
        let checking = session.phase == Phase::Checking;
        if self.recall_next(now) {
            return;
        }
        if checking {
            self.checked(now);
        } else {
            self.be_reborn();
        }
    }

    /// It is known which waiting rows were accepted: goes on if the last one accepted is among them.
    pub(super) fn checked(&mut self, now: Now) {
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(welcome) = session.welcome.take() else {
            return;
        };
        let stamp = welcome.accepted.map(|hlc| Stamp { hlc, replica: self.replica.id() });
        let is_last = |number: &u64| {
            let row = self.replica.overlay().get(*number);
            row.map(|row| row.row.stamp) == stamp
        };
        if !session.recalled.iter().any(is_last) {
            session.phase = Phase::Recalling;
            self.be_reborn();
            return;
        }
        let settled = core::mem::take(&mut session.recalled);
        let accepted = Settlement::Accepted(welcome.head);
        let settled = settled.into_iter().map(|number| (number, accepted.clone()));
        let entry = Entry::Settled(settled.collect());
        self.pipeline.want(Want::Entry { entry, then: Then::Nothing });
        self.enter(now, welcome);
    }

    pub(super) fn be_reborn(&mut self) {
        if let Some(session) = &mut self.session {
            let replica = session.fresh;
            let mut accepted = core::mem::take(&mut session.recalled);
            if self.replica.has(Bug::RecallIgnored) {
                accepted.clear();
            }
            if self.replica.is_in_doubt() {
                // Under which stamps they were acknowledged is lost: they are not to be sent once more.
                let rows = self.replica.overlay().rows();
                let held = rows.filter(|(_, row)| matches!(row.state, RowState::Accepted(_)));
                accepted.extend(held.map(|(number, _)| number));
            }
            let unsure = core::mem::take(&mut session.unsure);
            self.pipeline.want(Want::Reborn { replica, accepted, unsure });
        }
    }
}
