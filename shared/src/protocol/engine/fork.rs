//! Forked histories: a store that was rolled back or copied goes on under a new replica id.

use super::{
    Engine,
    pipeline::{Then, Want},
    refill::History,
    session::{OPENING_WITHIN, Phase},
};
use crate::{
    hlc::{Hlc, Stamp},
    id::{RecordKey, Seq},
    message::{
        Copied, Message, Mode, Origin, Recall, Recalled, RejectCode, Taken, Welcome,
        limits::{ORIGINS_MAX, RECALL_ROWS_MAX, time_for},
    },
    planted::Bug,
    replica::{Entry, OutboxRow, Replica, RowState, Settlement},
    sorted::{SortedMap, SortedSet},
    time::{Millis, Now},
};
use alloc::{collections::VecDeque, string::String, vec::Vec};

/// Bytes of a row in a recall, at most.
const RECALL_ROW_BYTES: usize = 32;

/// Whether a row waits that was not accepted under this id, and one behind it on a record of it was: only a copy
/// of this replica, which had heard that the first was refused, can have pushed the second. By its stamp
/// the first would seem to be there.
fn is_overtaken(replica: &Replica, accepted: &[(u64, Settlement)]) -> bool {
    let overlay = replica.overlay();
    let own = |outbox: &OutboxRow| outbox.row.stamp.replica == replica.id();
    let mut latest: SortedMap<&RecordKey, u64> = SortedMap::new();
    let mut known = SortedSet::new();
    for (number, settlement) in accepted {
        known.insert(*number);
        let plain = matches!(settlement, Settlement::Accepted(_));
        let row = overlay.get(*number).filter(|outbox| plain && own(outbox));
        for write in row.into_iter().flat_map(|outbox| &outbox.row.writes) {
            let last = latest.entry(&write.key).or_default();
            *last = (*last).max(*number);
        }
    }
    let mut waiting = overlay.rows().filter(|(number, outbox)| {
        outbox.state == RowState::Waiting && own(outbox) && !known.contains(number)
    });
    let behind = |number, key| latest.get(key).is_some_and(|last| *last > number);
    waiting.any(|(number, outbox)| outbox.row.writes.iter().any(|write| behind(number, &write.key)))
}

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
        let begins = self.replica.epochs().is_empty() && self.has(Bug::EmptyKeepsId);
        !known && !begins
    }

    /// Whether the base is given up, and with it rows of this replica that the peer has lost. Others may bring them
    /// back: what was written without them under the same id would take them for removed.
    pub(super) fn gives_up_own(&self, welcome: &Welcome) -> bool {
        let acked = self.replica.acked();
        let lost = welcome.accepted.unwrap_or_default() < acked;
        let history = History::of(welcome);
        // Of a history that broke off others may have brought back a later row, and not yet an earlier one.
        let broke_off = |id: &u32| {
            let standing =
                usize::try_from(*id).ok().and_then(|at| self.replica.standings().get(at));
            standing.is_some_and(|(_, standing)| {
                let reached = standing.cursor.max(standing.place.seq);
                !history.has(standing.epoch, reached, welcome.head)
            })
        };
        let rebases = welcome.modes.iter().filter(|(_, mode)| *mode == Mode::Rebase);
        acked > Hlc::ZERO && rebases.into_iter().any(|(id, _)| lost || broke_off(id))
    }

    /// Asks which of the rows under the present id were accepted. A peer that takes this history for a forked
    /// one may have lost its own: what it once acknowledged is asked for too.
    pub(super) fn recall(&mut self, now: Now) {
        // The peer that said so may have lost its history before the answer comes, and take a copy for its own.
        let (entry, then) = (Entry::Denied, Then::Nothing);
        self.pipeline.want(Want::Entry { entry, then });
        let own = self.replica.id();
        let rows = self.origins_of(|outbox| outbox.row.stamp.replica == own);
        let Some(session) = &mut self.session else {
            return;
        };
        session.phase = Phase::Recalling;
        session.to_recall = rows;
        if !self.recall_next(now) {
            self.be_reborn();
        }
    }

    /// What must be known before anything of the peer is taken in: whether rows up to `accepted` are those that
    /// it has accepted, and whether it has copies of rows that are not this replica's own, or may have been
    /// copied from it up to `copied`. So a row and its copy are never shown together.
    pub(super) fn to_check(&self, accepted: Option<Hlc>, copied: Option<Hlc>) -> VecDeque<Origin> {
        let own = self.replica.id();
        self.origins_of(|outbox| {
            let (stamp, origin) = (outbox.row.stamp, outbox.row.first_stamp());
            let foreign = stamp.replica != own || origin.replica != own;
            let waits = outbox.state == RowState::Waiting;
            let was_copied = waits && Some(origin.hlc) <= copied;
            let untold = self.replica.has(Bug::CopiesUntold);
            Some(stamp.hlc) <= accepted && stamp.replica == own
                || (foreign || was_copied) && !untold
        })
    }

    fn origins_of(&self, picks: impl Fn(&OutboxRow) -> bool) -> VecDeque<Origin> {
        let rows = self.replica.overlay().rows().map(|(_, outbox)| outbox);
        let kept = rows.filter(|outbox| !matches!(outbox.state, RowState::Rejected { .. }));
        kept.filter(|outbox| picks(outbox)).flat_map(|outbox| self.names_of(outbox)).collect()
    }

    /// What a peer may know the row as: its origin, and where it has another stamp, what it was pushed as. One that
    /// has lost history does not know that the two are one, and may have got the effect back under that stamp.
    fn names_of(&self, outbox: &OutboxRow) -> impl Iterator<Item = Origin> + use<> {
        let (origin, stamp) = (outbox.row.origin(), outbox.row.stamp);
        let pushed = stamp != origin.stamp && stamp.replica == self.replica.id();
        core::iter::once(origin).chain(pushed.then_some(Origin { stamp, ..origin }))
    }

    /// Asks these before it goes on.
    pub(super) fn check(&mut self, now: Now, welcome: Welcome, rows: VecDeque<Origin>) {
        if let Some(session) = &mut self.session {
            session.phase = Phase::Checking;
            session.welcome = Some(welcome);
            session.to_recall = rows;
        }
        self.recall_next(now);
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

    pub(super) fn recalled(&mut self, now: Now, recalled: &Recalled) {
        let numbers = self.numbers();
        let accepted = self.settlements(&numbers, &recalled.accepted);
        let unsure = recalled.unsure.iter().filter_map(|row| numbers.get(row).copied());
        let Some(session) = &mut self.session else {
            return;
        };
        // A row of two names may have two answers.
        let mut known = SortedMap::from_iter(core::mem::take(&mut session.recalled));
        known.extend(accepted);
        session.unsure.extend(unsure);
        session.unsure.retain(|number| !known.contains_key(number));
        session.recalled = known.into_iter().collect();
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

    fn numbers(&self) -> SortedMap<Origin, u64> {
        let rows = self.replica.overlay().rows();
        let kept = rows.filter(|(_, outbox)| !matches!(outbox.state, RowState::Rejected { .. }));
        SortedMap::from_iter(
            kept.flat_map(|(number, outbox)| self.names_of(outbox).map(move |name| (name, number))),
        )
    }

    /// What becomes of the rows that the peer has, as they are or as copies.
    fn settlements(
        &self,
        numbers: &SortedMap<Origin, u64>,
        taken: &[Taken],
    ) -> Vec<(u64, Settlement)> {
        let settlement = |taken: &Taken| {
            let number = *numbers.get(&taken.origin)?;
            let row = &self.replica.overlay().get(number)?.row;
            let settlement = if row.stamp == taken.stamp {
                Settlement::Accepted(taken.seq)
            } else {
                Settlement::Taken(taken.stamp, taken.seq)
            };
            Some((number, settlement))
        };
        taken.iter().filter_map(settlement).collect()
    }

    /// Another holder has committed rows, from this number on. Of one that has been copied since, the peer may have
    /// told before it was read: it is asked about in another session, and nothing of this one is taken in before.
    pub(super) fn check_copied(&mut self, first: u64) {
        let Some(session) = &self.session else { return };
        // What was committed behind the welcome was copied behind it, too, whatever its clock says.
        let copied = session.copied.filter(|_| session.phase != Phase::Open);
        let is_told = |(_, outbox): (_, &OutboxRow)| {
            Some(outbox.row.first_stamp().hlc) <= copied
                || (!session.told.is_empty() && session.told.contains(&outbox.row.origin()))
        };
        if self.replica.overlay().rows_from(first).any(is_told) {
            self.reconnect();
        }
    }

    /// The peer has just accepted rows of which this replica may have copies; their effect is still to come.
    pub(super) fn copied(&mut self, copied: &Copied) {
        if self.replica.has(Bug::CopiesUntold) {
            return;
        }
        let numbers = self.numbers();
        if let Some(session) = &mut self.session {
            let origins = copied.rows.iter().map(|taken| taken.origin);
            let unknown = origins.filter(|origin| !numbers.contains_key(origin));
            let room = ORIGINS_MAX.saturating_sub(session.told.len());
            session.told.extend(unknown.take(room));
        }
        let mut settled = self.settlements(&numbers, &copied.rows);
        settled.retain(|(_, settlement)| matches!(settlement, Settlement::Taken(..)));
        if settled.is_empty() {
            return;
        }
        if let Some(session) = &mut self.session {
            session.pushing.settling += 1;
            settled.iter().for_each(|(_, settlement)| session.pushing.awaits(settlement));
        }
        let entry = Entry::Settled(settled);
        self.pipeline.want(Want::Entry { entry, then: Then::Named(0) });
    }

    /// It is known which rows were accepted: goes on if the last one accepted under this id is among them.
    fn checked(&mut self, now: Now) {
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(welcome) = session.welcome.take() else {
            return;
        };
        let last = welcome.accepted.filter(|accepted| *accepted > self.replica.acked());
        let last = last.map(|hlc| Stamp { hlc, replica: self.replica.id() });
        let overlay = self.replica.overlay();
        let is_last =
            |(number, _): &(u64, Settlement)| overlay.get(*number).map(|row| row.row.stamp) == last;
        let is_other = last.is_some() && !session.recalled.iter().any(is_last);
        if is_other || is_overtaken(&self.replica, &session.recalled) {
            session.phase = Phase::Recalling;
            self.be_reborn();
            return;
        }
        let own = self.replica.id();
        let mut settled = core::mem::take(&mut session.recalled);
        // One that was accepted as it is goes again: the peer may have lost of it since what a recall does not look at.
        settled.retain(|(number, settlement)| {
            let is_own = overlay.get(*number).is_some_and(|row| row.row.stamp.replica == own);
            !is_own || matches!(settlement, Settlement::Taken(..))
        });
        // A row that may have counted, and not under this id, is the user's to decide about: once. What it has left is
        // not to be shown beside it.
        let undecided = |number: &u64| {
            overlay.get(*number).is_some_and(|outbox| {
                let first = outbox.row.first_stamp();
                let may_be_copied = first.replica != own || Some(first.hlc) <= welcome.copied;
                may_be_copied && !outbox.row.insisted && outbox.state == RowState::Waiting
            })
        };
        let unsure = core::mem::take(&mut session.unsure).into_iter().filter(undecided);
        settled.extend(unsure.map(|number| {
            let reason = String::from("the server may have lost that it had accepted it");
            (number, Settlement::Rejected { code: RejectCode::Unsure, reason })
        }));
        if !settled.is_empty() {
            session.copies = settled.iter().map(|(_, settlement)| settlement).cloned().collect();
            let settled = settled.into_iter().map(|row| self.placed(row)).collect();
            let entry = Entry::Settled(settled);
            self.pipeline.want(Want::Entry { entry, then: Then::Nothing });
        }
        self.enter(now, welcome);
    }

    /// What a recall tells of a row, at the position where the peer had acknowledged it, if it has that still. Where
    /// the recall says, the row may be in part: a ledger does not tell what damage took from records.
    fn placed(&self, (number, settlement): (u64, Settlement)) -> (u64, Settlement) {
        let at = self.still_at(number).unwrap_or_default();
        let settlement = match settlement {
            Settlement::Accepted(_) => Settlement::Accepted(at),
            Settlement::Taken(stamp, _) => Settlement::Taken(stamp, at),
            Settlement::Rejected { .. } => settlement,
        };
        (number, settlement)
    }

    /// Where the peer has acknowledged a row, if that is in its history still.
    fn still_at(&self, number: u64) -> Option<Seq> {
        match self.replica.overlay().get(number)?.state {
            RowState::Accepted(at) => Some(at).filter(|at| *at > Seq(0) && *at <= self.kept()),
            RowState::Waiting | RowState::Rejected { .. } => None,
        }
    }

    pub(super) fn be_reborn(&mut self) {
        let in_doubt = self.replica.is_in_doubt();
        let Some(session) = &mut self.session else { return };
        let replica = session.fresh;
        let recalled = core::mem::take(&mut session.recalled);
        let mut unsure = core::mem::take(&mut session.unsure);
        let mut accepted: SortedMap<u64, Settlement> =
            recalled.into_iter().map(|row| self.placed(row)).collect();
        for (number, outbox) in self.replica.overlay().rows() {
            let at = match outbox.state {
                // Under which stamps they were acknowledged is lost: they are not to be sent once more.
                RowState::Accepted(_) if in_doubt => Some(Seq(0)),
                RowState::Accepted(_) => self.still_at(number),
                RowState::Waiting | RowState::Rejected { .. } => None,
            };
            let Some(at) = at else { continue };
            accepted.entry(number).or_insert(Settlement::Accepted(at));
            if !in_doubt {
                // The peer may have forgotten the row, and has what it did.
                unsure.remove(&number);
            }
        }
        let (accepted, unsure) = (accepted.into_iter().collect(), unsure.into_iter().collect());
        self.pipeline.want(Want::Reborn { replica, accepted, unsure });
    }
}
