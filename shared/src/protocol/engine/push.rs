//! Pushing the outbox: in order, a bounded number of bytes ahead of the acknowledgements.

use super::{
    Engine, Notice,
    pipeline::{Then, Want},
};
use crate::{
    codec::CodecError,
    hlc::Hlc,
    id::{CollectionName, Pattern, Seq},
    planted::Bug,
    protocol::{
        limits::{
            ACK_WITHIN, AHEAD_RETRY_AFTER, FRAME_BYTES_MAX, PAGE_BYTES_AIM, PART_BYTES,
            PUSH_BYTES_IN_FLIGHT_MAX, PUSH_ROWS_MAX, time_for,
        },
        message::{Ack, Message, Outcome, Push, PushRow, RejectCode},
        wire,
    },
    replica::{Entry, Replica, RowState, Settlement},
    sorted::{SortedMap, SortedSet},
    time::{Millis, MonoMillis, Now},
};
use alloc::{string::String, vec::Vec};

/// Where the outbox stands in a session.
#[derive(Debug, Default)]
pub(super) struct Pushing {
    /// Rows sent and not acknowledged.
    in_flight: SortedMap<u64, Flight>,
    bytes: usize,
    /// Rows to be sent again.
    returned: SortedSet<u64>,
    /// Rows below this were sent, or are in `returned`.
    next: u64,
    /// Greatest outcome number taken in.
    named: u64,
    /// Outcomes that are on their way into the log.
    pub(super) settling: usize,
    /// Rows need new stamps once nothing is in flight: the peer's clock less ours, in milliseconds.
    restamp: Option<i64>,
    /// New stamps were given, and nothing was accepted since.
    restamped: bool,
    /// The peer's clock must go on before more is sent.
    pub(super) paused_until: Option<MonoMillis>,
    /// The feed must reach this before more is sent.
    until: Option<Seq>,
    /// What was accepted before the session lies up to here: a row that waits may be among it.
    head: Seq,
    /// Rows count as copies with stamps up to this: those behind them may need later ones.
    copies: Option<Hlc>,
    /// Subscriptions that must be healed before more is sent.
    mending: SortedSet<u32>,
    /// Since when an acknowledgement is awaited.
    since: MonoMillis,
    /// When the outstanding acknowledgement is overdue.
    pub(super) overdue: Option<MonoMillis>,
}

/// A row on its way.
#[derive(Debug)]
struct Flight {
    bytes: usize,
    /// Everything up to here was known when it was made.
    knew: Seq,
}

impl Pushing {
    /// The row that is next goes out.
    fn takes(&mut self, now: MonoMillis, number: u64, flight: Flight) {
        if self.in_flight.is_empty() {
            self.since = now;
        }
        if !self.returned.remove(&number) {
            self.next = number + 1;
        }
        self.bytes += flight.bytes;
        self.in_flight.insert(number, flight);
    }

    /// At the start of a session, when the peer's feed ends at `head`.
    pub(super) fn start(head: Seq, replica: &Replica) -> Self {
        // An earlier session may have been cut before the base had that.
        let until = Some(head).filter(|_| replica.may_have_left());
        Self { head, until, copies: replica.copies_until(), ..Self::default() }
    }

    /// What stands behind a row that counts as a copy, or that may have been accepted, is made when the base has
    /// what that has left, and not before: an own total without it would take it back.
    pub(super) fn awaits(&mut self, settlement: &Settlement) {
        match settlement {
            Settlement::Taken(stamp, seq) => {
                self.until = self.until.max(Some(*seq));
                self.copies = self.copies.max(Some(stamp.hlc));
            }
            Settlement::Rejected { code: RejectCode::Unsure, .. } => {
                self.until = self.until.max(Some(self.head));
            }
            Settlement::Accepted(_) | Settlement::Rejected { .. } => {}
        }
    }

    /// Whether the feed has not brought yet what must come before more is sent.
    pub(super) fn awaits_more(&self, replica: &Replica) -> bool {
        self.until.is_some_and(|seq| knows(replica) < seq)
    }

    /// When the next acknowledgement is overdue: what is outstanding must get there first.
    fn overdue_at(&self, planted: bool) -> MonoMillis {
        self.since + ACK_WITHIN + if planted { Millis(0) } else { time_for(self.bytes) }
    }

    /// An acknowledgement may stand behind something large that is arriving.
    pub(super) fn put_off_overdue(&mut self, now: MonoMillis) {
        self.overdue = self.overdue.map(|overdue| overdue.max(now + ACK_WITHIN));
    }

    /// What is on its way, as if it had been accepted.
    pub(super) fn in_flight_accepted(&self) -> Vec<(u64, Settlement)> {
        let numbers = self.in_flight.keys();
        numbers.map(|number| (*number, Settlement::Accepted(self.head))).collect()
    }

    /// Whether much is on its way: what can wait is to.
    pub(super) const fn is_ahead(&self) -> bool {
        self.bytes > PART_BYTES
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.settling == 0
    }
}

impl Engine {
    /// Sends what the limits allow.
    pub(super) fn pump_push(&mut self, now: Now) {
        if self.session.as_ref().is_none_or(|session| !session.may_push(&self.replica)) {
            return;
        }
        loop {
            match self.next_push(now) {
                Ok(Some(push)) => self.say(now, &Message::Push(push)),
                Ok(None) => return,
                Err((number, why)) => return self.cannot_be_sent(now, number, &why),
            }
        }
    }

    /// The next rows to be sent; an error names a row that cannot be, with nothing before it in hand.
    fn next_push(&mut self, now: Now) -> Result<Option<Push>, (u64, Unsendable)> {
        if !self.may_push_more() {
            return Ok(None);
        }
        let Some(session) = self.session.as_mut() else { return Ok(None) };
        let planted = self.replica.has(Bug::DeadlinesFixed);
        let pushing = &mut session.pushing;
        let knew = knows(&self.replica);
        let mut rows: Vec<PushRow> = Vec::new();
        let mut page = 0;
        while rows.len() < PUSH_ROWS_MAX && pushing.bytes < PUSH_BYTES_IN_FLIGHT_MAX {
            let Some(number) = next_number(pushing, &self.replica) else {
                break;
            };
            let (row, bytes) = match sendable(&mut self.replica, number) {
                Ok(Some(made)) => made,
                // It has just been found to be there.
                Ok(None) => break,
                // It stays in its place: what stands behind it may touch its records.
                Err(why) if rows.is_empty() && pushing.in_flight.is_empty() => {
                    return Err((number, why));
                }
                Err(_) => break,
            };
            if page + bytes > PAGE_BYTES_AIM && !rows.is_empty() {
                break;
            }
            page += bytes;
            pushing.takes(now.mono, number, Flight { bytes, knew });
            rows.push(row);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        // Who writes all the time waits no longer than others.
        pushing.overdue = pushing.overdue.max(Some(pushing.overdue_at(planted)));
        Ok(Some(Push { named: pushing.named, rows }))
    }

    /// Whether nothing that must come first is missing.
    fn may_push_more(&mut self) -> bool {
        let Some(session) = self.session.as_mut() else { return false };
        let pushing = &mut session.pushing;
        if pushing.restamp.is_some() || pushing.copies.is_some() {
            // A row whose effect is on its way would be shown beside it under another stamp.
            let settled = pushing.is_quiet() && knows(&self.replica) >= pushing.head;
            if !settled || pushing.awaits_more(&self.replica) {
                return false;
            }
            let copies = pushing.copies.take();
            let trails = copies.is_some_and(|upto| self.replica.trails(upto));
            let skew_ms = pushing.restamp.take();
            let skew_ms = skew_ms.or_else(|| trails.then(|| self.replica.skew_ms()));
            if let Some(skew_ms) = skew_ms {
                pushing.settling += 1;
                let from = pushing.returned.first().copied().unwrap_or(pushing.next);
                self.pipeline.want(Want::Restamp { from, skew_ms });
                return false;
            }
        }
        // Two pushes in flight could each be returned for an outcome that the other does not name yet, for
        // ever: what is sent again goes when every outcome is known.
        let again = !pushing.returned.is_empty() && !pushing.in_flight.is_empty();
        if pushing.settling > 0 || again || pushing.paused_until.is_some() {
            return false;
        }
        if pushing.awaits_more(&self.replica) {
            return false;
        }
        pushing.until = None;
        let heals = &session.heals;
        let standings = self.replica.standings();
        pushing.mending.retain(|subscription| {
            let at = usize::try_from(*subscription).unwrap_or(usize::MAX);
            let healing = standings.get(at).is_some_and(|(_, standing)| standing.heal.is_some());
            healing || heals.contains_key(subscription)
        });
        pushing.mending.is_empty()
    }

    fn cannot_be_sent(&mut self, now: Now, number: u64, why: &Unsendable) {
        match why {
            Unsendable::Damaged(error) => self.cannot_be_made(now, number, error),
            Unsendable::TooLarge(got) => {
                let reason = alloc::format!(
                    "it takes {got} bytes to send, at most {FRAME_BYTES_MAX} are allowed"
                );
                self.refuse_row(number, RejectCode::TooLarge, reason);
            }
        }
    }

    /// The base holds damaged bytes where a row builds on them. They are fetched anew; a row that cannot
    /// be made even then is refused.
    fn cannot_be_made(&mut self, now: Now, number: u64, error: &CodecError) {
        let outbox = self.replica.overlay().get(number);
        let damaged = outbox.and_then(|outbox| {
            let mut keys = outbox.row.writes.iter().map(|write| &write.key);
            keys.find(|key| self.replica.base().record(key).is_err())
        });
        let damaged: Vec<CollectionName> =
            damaged.map(|key| key.collection.clone()).into_iter().collect();
        if !self.mend(now, &damaged) {
            let reason = alloc::format!("what it builds on is damaged: {error}");
            self.refuse_row(number, RejectCode::Invalid, reason);
        }
    }

    /// Lets what rows build on come anew, before anything else is pushed; false where it did in vain, or where
    /// nothing of it is subscribed to.
    fn mend(&mut self, now: Now, collections: &[CollectionName]) -> bool {
        let covers = |pattern: &Pattern| collections.iter().any(|name| pattern.covers(name));
        let asked = self.replica.asked().filter(|(_, pattern, _)| covers(pattern));
        let asked: Vec<u32> = asked.map(|(id, _, _)| id).collect();
        let mut mends = false;
        for subscription in asked {
            let Some(session) = self.session.as_mut() else { return mends };
            let healing = session.heals.contains_key(&subscription);
            if healing || session.mended.insert(subscription) {
                mends = true;
                session.pushing.mending.insert(subscription);
                self.verified.remove(&subscription);
                self.start_heal(now, subscription, false);
            }
        }
        mends
    }

    /// Rows that the peer has more for than was known when they were made, though all of its feed was: what it was
    /// put back from may have more than what was left of that, which comes by a heal. Settles those for which none
    /// does: made again they would be the same again, since what replaced it is not subscribed to.
    fn settle_stale(&mut self, now: Now, rows: Vec<u64>) -> Vec<(u64, Settlement)> {
        let mut settled = Vec::new();
        for number in rows {
            let outbox = self.replica.overlay().get(number);
            let writes = outbox.iter().flat_map(|outbox| &outbox.row.writes);
            let collections: Vec<_> = writes.map(|write| write.key.collection.clone()).collect();
            if !self.has(Bug::StaleRefused) && self.mend(now, &collections) {
                continue;
            }
            if let Some(session) = self.session.as_mut() {
                session.pushing.returned.remove(&number);
            }
            let code = RejectCode::Invalid;
            let reason = String::from("what it changes was replaced in the meantime");
            settled.push((number, Settlement::Rejected { code, reason }));
        }
        settled
    }

    /// Refuses a row that was never sent, for the app to decide.
    fn refuse_row(&mut self, number: u64, code: RejectCode, reason: String) {
        let Some(session) = self.session.as_mut() else { return };
        session.pushing.settling += 1;
        let refused = Settlement::Rejected { code, reason };
        let entry = Entry::Settled(Vec::from([(number, refused)]));
        self.pipeline.want(Want::Entry { entry, then: Then::Named(0) });
    }

    pub(super) fn ack(&mut self, now: Now, ack: Ack) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        let planted = self.replica.has(Bug::DeadlinesFixed);
        let pushing = &mut session.pushing;
        let mut settled = Vec::new();
        let mut stale = Vec::new();
        let mut named = 0;
        let mut delayed = None;
        for (number, outcome) in ack.outcomes {
            let Some(flight) = pushing.in_flight.remove(&number) else {
                continue;
            };
            pushing.bytes = pushing.bytes.saturating_sub(flight.bytes);
            named = named.max(outcome.number().unwrap_or_default());
            match outcome {
                Outcome::Accepted { seq } => {
                    pushing.restamped = false;
                    settled.push((number, Settlement::Accepted(seq)));
                }
                Outcome::Rejected { code, reason, .. } => {
                    settled.push((number, Settlement::Rejected { code, reason }));
                }
                Outcome::Returned { .. } => {
                    pushing.returned.insert(number);
                }
                Outcome::Ahead { by, .. } => {
                    pushing.returned.insert(number);
                    let stamped = self.replica.overlay().get(number);
                    let wall = stamped.map_or(now.wall.0, |row| row.row.stamp.hlc.wall().0);
                    let theirs = i128::from(wall) - i128::from(by.0);
                    let skew = theirs - i128::from(now.wall.0);
                    pushing.restamp = Some(i64::try_from(skew).unwrap_or_default());
                    if pushing.restamped {
                        // What was seen or acknowledged lies ahead of the peer's clock: only time helps.
                        pushing.paused_until = Some(now.mono + AHEAD_RETRY_AFTER);
                        delayed.get_or_insert(Notice::Delayed { number, by });
                    }
                }
                Outcome::Stale { seq, .. } => {
                    pushing.returned.insert(number);
                    pushing.until = pushing.until.max(Some(seq));
                    if seq <= flight.knew {
                        stale.push(number);
                    }
                }
                Outcome::Taken { stamp, seq, .. } => {
                    settled.push((number, Settlement::Taken(stamp, seq)));
                }
            }
        }
        settled.extend(self.settle_stale(now, stale));
        let Some(session) = self.session.as_mut() else { return };
        let pushing = &mut session.pushing;
        settled.iter().for_each(|(_, settlement)| pushing.awaits(settlement));
        pushing.since = now.mono;
        pushing.overdue = (!pushing.in_flight.is_empty()).then(|| pushing.overdue_at(planted));
        if settled.is_empty() {
            pushing.named = pushing.named.max(named);
        } else {
            pushing.settling += 1;
            let entry = Entry::Settled(settled);
            self.pipeline.want(Want::Entry { entry, then: Then::Named(named) });
        }
        if let Some(delayed) = delayed {
            self.notice(delayed);
        }
    }

    /// Outcomes, or new stamps, are in the log.
    pub(super) fn outcomes_named(&mut self, named: u64) {
        if let Some(session) = &mut self.session {
            let pushing = &mut session.pushing;
            pushing.settling = pushing.settling.saturating_sub(1);
            if named == u64::MAX {
                pushing.restamped = true;
            } else {
                pushing.named = pushing.named.max(named);
            }
        }
    }
}

/// Up to where every subscription that is asked for has what the peer has.
fn knows(replica: &Replica) -> Seq {
    let cursors = replica.asked().map(|(_, _, standing)| standing.cursor);
    cursors.min().unwrap_or(Seq(u64::MAX))
}

/// The next row that was not sent, or is to be sent again. It stays that until [`Pushing::takes`].
fn next_number(pushing: &mut Pushing, replica: &Replica) -> Option<u64> {
    let is_waiting = |number: &u64| {
        let row = replica.overlay().get(*number);
        row.is_some_and(|row| {
            row.state == RowState::Waiting && row.row.stamp.replica == replica.id()
        })
    };
    while let Some(number) = pushing.returned.first().copied() {
        if is_waiting(&number) {
            return Some(number);
        }
        pushing.returned.remove(&number);
    }
    replica.durable_from(pushing.next).find(is_waiting)
}

/// Why a row cannot be sent.
enum Unsendable {
    /// What it builds on is damaged.
    Damaged(CodecError),
    /// No frame can carry it; its bytes.
    TooLarge(usize),
}

/// A row as it is sent, and its size in a page.
fn sendable(replica: &mut Replica, number: u64) -> Result<Option<(PushRow, usize)>, Unsendable> {
    let Some(row) = replica.push_row(number).map_err(Unsendable::Damaged)? else {
        return Ok(None);
    };
    let bytes = size_of_row(&row);
    // The estimate is far from a frame for all but a few.
    if bytes > PAGE_BYTES_AIM {
        let got = wire::row_frame_bytes(&row);
        if got > FRAME_BYTES_MAX {
            return Err(Unsendable::TooLarge(got));
        }
    }
    Ok(Some((row, bytes)))
}

/// Its size with every id, name and time in full. A page at its aim by this measure is far from a frame,
/// whatever numbers in the place of short names add.
fn size_of_row(row: &PushRow) -> usize {
    let mut bytes = 32;
    for write in &row.writes {
        let mut out = crate::codec::Writer::new();
        crate::codec::write_record(&mut out, &write.delta);
        let key = write.key.collection.as_str().len() + write.key.id.as_str().len();
        bytes += out.len() + write.saw.len() * 26 + key + 16;
    }
    bytes
}
