//! Rows of an earlier id that the peer had acknowledged and has lost since.
//!
//! Nobody can push for an id that was given up. Of a row that is there in part the rest is returned like records that
//! a heal brings back (see `refill`), under the stamps that the row has: it adds nothing where others were first. What
//! is gone whole, or is not taken back, goes to the user.
//!
//! Invariant: it is done where the base is equal to what the peer has, and no heal is under way. Nothing of it is
//! stored: the next session finds what is still lost.

use super::{
    Engine, Link,
    pipeline::{Then, Want},
};
use crate::{
    codec::encode_record,
    id::{Epoch, RecordKey, Seq},
    protocol::{
        limits::{FRAME_BYTES_MAX, PAGE_BYTES_AIM, REFILL_RECORDS_MAX},
        message::{ByeCode, Kept, Message, Proof, Refill, RefillOutcome, Refilled, RejectCode},
        wire,
    },
    replica::{Entry, LostRow, Settlement},
    sorted::{SortedMap, SortedSet},
    time::Now,
};
use alloc::{string::String, vec::Vec};

/// What of such rows is on its way back, or was.
#[derive(Debug, Default)]
pub(super) struct Torn {
    in_flight: Option<Vec<RecordKey>>,
    /// Records that were sent, and whether the peer took them.
    answered: SortedMap<RecordKey, bool>,
}

impl Torn {
    /// Whether an answer is awaited: it comes before those to any later refill.
    pub(super) const fn is_awaited(&self) -> bool {
        self.in_flight.is_some()
    }

    fn refuses(&self, row: &LostRow) -> bool {
        row.lacking.iter().any(|key| self.answered.get(key) == Some(&false))
    }
}

impl Engine {
    /// Everything that the peer had at the welcome is here, so what the base lacks the peer lacks.
    pub(super) fn mend_torn(&mut self, now: Now) {
        let lost = self.replica.lost_of_earlier_ids();
        if lost.is_empty() || self.link() != Link::Live || !self.status().is_verified {
            return;
        }
        let Some(session) = self.session.as_mut() else { return };
        if session.pushing.awaits_more(&self.replica) {
            // Copies that count for rows are still on their way.
            return;
        }
        let is_hopeless = |row: &LostRow| !row.is_torn || session.torn.refuses(row);
        let (hopeless, torn): (Vec<_>, Vec<_>) = lost.into_iter().partition(is_hopeless);
        if !session.torn.is_awaited() {
            self.return_torn(now, &torn);
        }
        self.give_back(hopeless);
    }

    /// Sends a part of what torn rows lack; the next one follows the answer.
    fn return_torn(&mut self, now: Now, torn: &[LostRow]) {
        let Some(session) = self.session.as_mut() else { return };
        let numbers: SortedSet<u64> = SortedSet::from_iter(torn.iter().map(|row| row.number));
        let lacking = torn.iter().flat_map(|row| &row.lacking);
        let todo: SortedSet<&RecordKey> =
            SortedSet::from_iter(lacking.filter(|key| !session.torn.answered.contains_key(*key)));
        let asked = |key: &RecordKey| {
            let mut asked = self.replica.asked();
            asked.find(|(_, held, _)| held.covers(&key.collection)).map(|(id, _, _)| id)
        };
        let Some(subscription) = todo.first().and_then(|key| asked(key)) else { return };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for key in todo.into_iter().filter(|key| asked(key) == Some(subscription)) {
            let Ok(record) = self.replica.completed(key, &numbers) else { continue };
            let size = encode_record(&record).len();
            // It is no record that the peer has sent: no epoch, no place and no proof are its.
            let kept = Kept {
                key: key.clone(),
                epoch: Epoch::from_bytes([0; 16]),
                seq: Seq(0),
                proof: Proof::default(),
                record,
            };
            if size > PAGE_BYTES_AIM && wire::kept_frame_bytes(&kept) > FRAME_BYTES_MAX {
                session.torn.answered.insert(key.clone(), false);
                continue;
            }
            let full = bytes + size > PAGE_BYTES_AIM || entries.len() >= REFILL_RECORDS_MAX;
            if full && !entries.is_empty() {
                break;
            }
            bytes += size;
            entries.push(kept);
        }
        if !entries.is_empty() {
            session.torn.in_flight = Some(entries.iter().map(|kept| kept.key.clone()).collect());
            self.say(now, &Message::Refill(Refill { subscription, entries }));
        }
    }

    /// Answers what was sent of torn rows.
    pub(super) fn torn_returned(&mut self, now: Now, refilled: Refilled) {
        let Some(session) = self.session.as_mut() else { return };
        let keys = session.torn.in_flight.take().unwrap_or_default();
        if keys.len() != refilled.outcomes.len() {
            self.end(now, ByeCode::Misbehaved, "an answer to what was not brought back");
            return;
        }
        let joined = |outcome| matches!(outcome, RefillOutcome::Joined(_));
        session
            .torn
            .answered
            .extend(keys.into_iter().zip(refilled.outcomes.into_iter().map(joined)));
        // What was joined comes with the feed, and ends its rows; for the rest there may be nothing to wait for.
        self.mend_torn(now);
    }

    /// Nobody can speak for the id that they were acknowledged under: the user decides.
    fn give_back(&mut self, lost: Vec<LostRow>) {
        let Some(session) = self.session.as_mut().filter(|_| !lost.is_empty()) else { return };
        session.pushing.settling += 1;
        let refused = |row: LostRow| {
            let reason = String::from("the server lost it after it had acknowledged it");
            (row.number, Settlement::Rejected { code: RejectCode::Unsure, reason })
        };
        let entry = Entry::Settled(lost.into_iter().map(refused).collect());
        self.pipeline.want(Want::Entry { entry, then: Then::Named(0) });
    }
}
