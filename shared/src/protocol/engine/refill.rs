//! Refill: what a heal shows the peer to have lost is brought back to it, before anything else is sent and
//! before the base gives it up.
//!
//! Evidence of a loss is a record that differs, or is here alone, and came at a position that lies in no
//! history of the peer: in an epoch that it does not know, or behind the point at which that epoch was left.
//! Within its history nothing from a base goes up: the peer has seen it, and whatever came of it.
//!
//! Invariant: nothing of this is stored; whatever is cut off, the next heal starts over, and the peer counts
//! nothing twice. Absent: the peer's side (see `host`).

use super::{Engine, Notice, heal::Heal};
use crate::{
    codec::decode_record,
    hlc::Hlc,
    id::{Digest, Epoch, Pattern, RecordKey, Seq, key_hash},
    planted::Bug,
    protocol::{
        limits::{FRAME_BYTES_MAX, PAGE_BYTES_AIM, REFILL_RECORDS_MAX, REFILLS_IN_FLIGHT_MAX},
        message::{
            ByeCode, Kept, Left, Message, Refill, RefillOutcome, Refilled, RejectCode, Welcome,
        },
        wire,
    },
    replica::{Held, Standing},
    sorted::{SortedMap, SortedSet},
    time::Now,
};
use alloc::{collections::VecDeque, vec::Vec};

/// The history of a peer, as far as its welcome told.
#[derive(Debug, Default)]
pub(super) struct History {
    epoch: Option<Epoch>,
    left: SortedMap<Epoch, Seq>,
}

impl History {
    pub(super) fn of(welcome: &Welcome) -> Self {
        let left = |left: &Left| (left.epoch, left.seq);
        Self {
            epoch: Some(welcome.epoch),
            left: SortedMap::from_iter(welcome.lineage.iter().map(left)),
        }
    }

    /// Whether it has the position. An epoch that was not asked after counts as unknown: what is returned
    /// for nothing does no harm.
    pub(super) fn has(&self, epoch: Option<Epoch>, seq: Seq, head: Seq) -> bool {
        if epoch == self.epoch {
            return seq <= head;
        }
        epoch.and_then(|epoch| self.left.get(&epoch)).is_some_and(|left| seq <= *left)
    }

    /// Up to where it has what happened before the end of `epoch`.
    pub(super) fn kept(&self, epoch: Option<Epoch>) -> Seq {
        if epoch == self.epoch {
            return Seq(u64::MAX);
        }
        epoch.and_then(|epoch| self.left.get(&epoch)).copied().unwrap_or_default()
    }
}

/// A record that is brought back, with the place that it came at: records of one batch stay together.
type Lost = (u32, Seq, RecordKey);

/// Records on their way back to a peer that has lost them.
#[derive(Debug, Default)]
pub(super) struct Refilling {
    todo: VecDeque<Lost>,
    /// What was sent and is not answered, message by message.
    in_flight: VecDeque<Vec<RecordKey>>,
    /// The peer has these now.
    joined: SortedSet<RecordKey>,
    /// It has all of them here.
    pub(super) reach: Seq,
    /// Why others were not taken, and how many.
    refused: Vec<(RejectCode, u64)>,
}

impl Refilling {
    fn refuse(&mut self, code: RejectCode) {
        match self.refused.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.refused.push((code, 1)),
        }
    }

    fn is_over(&self) -> bool {
        self.todo.is_empty() && self.in_flight.is_empty()
    }

    pub(super) fn has(&self, key: &RecordKey) -> bool {
        self.joined.contains(key)
    }

    /// For the app, if there is something to be told.
    pub(super) fn notice(self, subscription: u32) -> Option<Notice> {
        let returned = self.joined.len() as u64;
        let told = returned > 0 || !self.refused.is_empty();
        told.then_some(Notice::Refilled { subscription, returned, refused: self.refused })
    }
}

impl Engine {
    /// Brings back what the peer has lost of a subscription; `true` once all of it is answered.
    pub(super) fn refill(&mut self, now: Now, subscription: u32) -> bool {
        let Some(heal) = self.heal(subscription) else {
            return false;
        };
        if heal.refilling.is_none() {
            let todo = self.lost(subscription);
            if let Some(heal) = self.heal(subscription) {
                heal.refilling = Some(Refilling { todo, ..Refilling::default() });
            }
        }
        while self.refills_in_flight() < REFILLS_IN_FLIGHT_MAX {
            let Some(refill) = self.next_refill(subscription) else {
                break;
            };
            self.say(now, &Message::Refill(refill));
        }
        let refilling = self.heal(subscription).and_then(|heal| heal.refilling.as_ref());
        refilling.is_some_and(Refilling::is_over)
    }

    fn heal(&mut self, subscription: u32) -> Option<&mut Heal> {
        self.session.as_mut()?.heals.get_mut(&subscription)
    }

    /// Refills of all subscriptions that are not answered.
    fn refills_in_flight(&self) -> usize {
        let heals = self.session.iter().flat_map(|session| session.heals.values());
        let refilling = heals.filter_map(|heal| heal.refilling.as_ref());
        let torn = self.session.iter().filter(|session| session.torn.is_awaited()).count();
        refilling.map(|refilling| refilling.in_flight.len()).sum::<usize>() + torn
    }

    /// What only this side has, or holds differently, and shows that the peer lost a part of its history.
    fn lost(&self, subscription: u32) -> VecDeque<Lost> {
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let (Some((pattern, _)), Some(session)) =
            (self.replica.standings().get(at), self.session.as_ref())
        else {
            return VecDeque::new();
        };
        let stale = |(_, standing): &(Pattern, Standing)| standing.stale;
        let stale = self.replica.standings().get(at).is_some_and(stale);
        let stale = stale && session.horizon > Hlc::ZERO;
        let heal = session.heals.get(&subscription);
        // What is older than the horizon may have been removed since, and be forgotten.
        let Some(heal) = heal.filter(|_| !stale || self.has(Bug::StaleIsEvidence)) else {
            return VecDeque::new();
        };
        let is_lost = |held: &Held| {
            let epoch = self.replica.epoch(held.epoch);
            let has = session.history.has(epoch, held.seq, session.head);
            (!has || stale) && !self.has(Bug::RefillSkipped)
        };
        let mut lost: Vec<Lost> = self
            .replica
            .base()
            .iter()
            .filter(|(key, held)| pattern.covers(&key.collection) && is_lost(held))
            .filter(|(key, _)| heal.is_other(key, &key_hash(key)) || stale)
            .map(|(key, held)| (held.epoch, held.seq, key.clone()))
            .collect();
        lost.sort_unstable();
        lost.into()
    }

    /// The next message: as many records as it may carry, whole positions where that is possible.
    fn next_refill(&mut self, subscription: u32) -> Option<Refill> {
        let session = self.session.as_mut()?;
        let refilling = session.heals.get_mut(&subscription)?.refilling.as_mut()?;
        let mut taken: Vec<(Lost, Kept)> = Vec::new();
        let mut bytes = 0;
        while let Some(lost) = refilling.todo.pop_front() {
            let (_, _, key) = &lost;
            // Nothing changes a base while it heals, but for another subscription.
            let Some(held) = self.replica.base().get(key) else { continue };
            let Ok(record) = decode_record(&held.bytes) else {
                refilling.refuse(RejectCode::Invalid);
                continue;
            };
            let epoch = self.replica.epoch(held.epoch);
            let epoch = epoch.unwrap_or_else(|| Epoch::from_bytes([0; 16]));
            let kept = Kept { key: key.clone(), epoch, seq: held.seq, proof: held.proof, record };
            let size = size_of(key, held);
            // The estimate is far from a frame for all but a few.
            if size > PAGE_BYTES_AIM && wire::kept_frame_bytes(&kept) > FRAME_BYTES_MAX {
                refilling.refuse(RejectCode::TooLarge);
                continue;
            }
            let full = bytes + size > PAGE_BYTES_AIM || taken.len() >= REFILL_RECORDS_MAX;
            if full && !taken.is_empty() {
                refilling.todo.push_front(lost);
                leave_whole(&mut taken, &mut refilling.todo);
                break;
            }
            bytes += size;
            taken.push((lost, kept));
        }
        if taken.is_empty() {
            return None;
        }
        let entries: Vec<Kept> = taken.into_iter().map(|(_, kept)| kept).collect();
        refilling.in_flight.push_back(entries.iter().map(|kept| kept.key.clone()).collect());
        Some(Refill { subscription, entries })
    }

    pub(super) fn refilled(&mut self, now: Now, refilled: Refilled) {
        if self.session.as_ref().is_some_and(|session| session.torn.is_awaited()) {
            return self.torn_returned(now, refilled);
        }
        let Refilled { subscription, outcomes } = refilled;
        let refilling = self.heal(subscription).and_then(|heal| heal.refilling.as_mut());
        let answered = refilling.and_then(|refilling| {
            let keys = refilling.in_flight.pop_front()?;
            (keys.len() == outcomes.len()).then_some((refilling, keys))
        });
        let Some((refilling, keys)) = answered else {
            self.end(now, ByeCode::Misbehaved, "an answer to what was not brought back");
            return;
        };
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            match outcome {
                RefillOutcome::Joined(seq) => {
                    refilling.reach = refilling.reach.max(seq);
                    refilling.joined.insert(key);
                }
                RefillOutcome::Refused(code) => refilling.refuse(code),
            }
        }
        let heals = self.session.iter().flat_map(|session| &session.heals);
        let refilling = heals.filter(|(_, heal)| heal.refilling.is_some());
        for subscription in refilling.map(|(id, _)| *id).collect::<Vec<u32>>() {
            self.heal_finish(now, subscription);
        }
    }
}

/// Leaves the records of the last position for the next message, if others of it do not fit and it is not
/// the only one.
fn leave_whole(taken: &mut Vec<(Lost, Kept)>, todo: &mut VecDeque<Lost>) {
    let place = |lost: &Lost| (lost.0, lost.1);
    let Some(next) = todo.front().map(place) else {
        return;
    };
    if taken.first().is_some_and(|(first, _)| place(first) == next) {
        return;
    }
    while let Some((last, _)) = taken.pop_if(|(last, _)| place(last) == next) {
        todo.push_front(last);
    }
}

/// About what a record takes in a message.
fn size_of(key: &RecordKey, held: &Held) -> usize {
    held.bytes.len() + key.collection.as_str().len() + key.id.as_str().len() + 64
}

impl Heal {
    /// Whether the peer lacks the record, or has it otherwise.
    pub(super) fn is_other(&self, key: &RecordKey, hash: &Digest) -> bool {
        let differs = self.differs.get(&key.collection);
        !self.named.contains(&key.collection)
            || differs.is_some_and(|differs| differs.contains(hash))
    }
}
