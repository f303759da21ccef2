//! The way into the log: wants queue up, one store operation at a time carries them out.
//!
//! A commit adds entries behind the last one this holder has applied, guarded by the absence of the
//! next: if another holder was first, its entries are read, joined, and the wants planned again.

use super::{
    Engine, Notice, Output, Receipt, Wish, WishError,
    load::tail_queries,
    queue::Queue,
    scrub::{Place, Scrub},
    uncertain::Uncertain,
};
use crate::{
    id::{RecordKey, ReplicaId},
    io::{Answer, Batch, FaultClass, Keyspace, Query, Ticket},
    message::ByeCode,
    planted::Bug,
    replica::{
        Applied, Change, ChangeError, Entry, Fold, META_FOLDED, META_LEADER, RowState, Settlement,
        encode_entry, load_queries, log_key,
    },
    sorted::SortedMap,
    time::{Millis, MonoMillis, Now, WallMillis},
};
use alloc::{boxed::Box, string::ToString, vec::Vec};

/// Bytes of entries that one commit takes.
const COMMIT_BYTES_AIM: usize = 1 << 20;
/// Rows that one commit takes.
const COMMIT_ROWS_MAX: usize = 1_000;
/// Bytes of received entries that may wait.
pub(super) const WAITING_BYTES_MAX: usize = 4 << 20;

/// A store that could not be read for now is tried again after this long.
pub(super) const STORE_RETRY_AFTER: Millis = Millis(1_000);

/// Times that the log is asked what became of uncertain writes before their callers are told that it is
/// not known.
const STORE_TRIES_MAX: u32 = 30;

/// A fold that failed is tried again after this long: what failed it is seldom gone at once.
pub(super) const FOLD_RETRY_AFTER: Millis = Millis(30_000);

/// Something that is to become part of the log.
#[derive(Debug)]
pub(super) enum Want {
    /// A local write.
    Write { id: u64, changes: Vec<Change>, relaxed: bool },
    /// Forget a rejected row, and perhaps commit it again.
    Drop { id: u64, number: u64, retry: bool },
    /// Commit something else in place of a rejected row, and forget that.
    Edit { id: u64, number: u64, changes: Vec<Change> },
    /// An entry of the session, and what follows when it is durable.
    Entry { entry: Entry, then: Then },
    /// New stamps for the waiting rows from here on.
    Restamp { from: u64, skew_ms: i64 },
    /// A new replica id.
    Reborn { replica: ReplicaId, accepted: Vec<(u64, Settlement)>, unsure: Vec<u64> },
    /// The lead.
    Claim { token: [u8; 16] },
    /// Take over for another principal, with the rows that wait or without them.
    Adopt { id: u64, discard: bool },
}

/// What follows when an entry is durable and applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// The hello can leave.
    SayHello,
    /// The session begins.
    Begin,
    /// Outcomes up to this number were taken in.
    Named(u64),
    /// A step of a snapshot or heal is done.
    HealStep(u32),
    /// Roots were stated with it.
    Compare,
    /// The wish is granted.
    Grant { id: u64, number: u64 },
    /// The wish to take over is granted.
    Adopt { id: u64, discard: bool },
    /// The session must start over.
    Reconnect,
}

impl Then {
    /// Whether the app waits for it, whatever becomes of the session.
    pub(super) const fn is_for_app(self) -> bool {
        self.wish().is_some()
    }

    /// The wish that it grants, and the row that comes of it, 0 where none does.
    pub(super) const fn wish(self) -> Option<(u64, u64)> {
        match self {
            Self::Grant { id, number } => Some((id, number)),
            Self::Adopt { id, .. } => Some((id, 0)),
            Self::Nothing
            | Self::SayHello
            | Self::Begin
            | Self::Named(_)
            | Self::HealStep(_)
            | Self::Compare
            | Self::Reconnect => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum Op {
    Load,
    /// The first holder of an empty store gives the replica its id.
    Found,
    Tail,
    Writes(Vec<(u64, Receipt, Vec<Change>)>),
    /// With the number of the session that wanted them.
    Entries(Vec<(Entry, Then)>, u64),
    Claim([u8; 16]),
    Fold(Box<Fold>),
    /// A slice of the store is read back.
    Scrub(Place),
    /// That all of it was.
    Scrubbed,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "six independent facts about the store")]
pub(super) struct Pipeline {
    pub(super) loaded: bool,
    pub(super) tail_wanted: bool,
    pub(super) queue: Queue,
    pub(super) under_way: Option<(Ticket, Op)>,
    tickets: u64,
    /// The stored fencing token, as last read.
    pub(super) leader: Option<Vec<u8>>,
    /// Ours, once claimed.
    pub(super) token: Option<[u8; 16]>,
    /// Stored `folded`, as last read.
    pub(super) folded: Option<Vec<u8>>,
    pub(super) reload_wanted: bool,
    pub(super) failed: bool,
    /// Whether somebody has made an empty store a replica, and it was not read since.
    pub(super) founded: bool,
    /// A fold has failed: none is tried before this.
    pub(super) fold_after: Option<MonoMillis>,
    /// When a store that could not be read is tried again.
    pub(super) retry_at: Option<MonoMillis>,
    /// Whether, since this holder took the lead, what it does not ask for itself was put to rest.
    pub(super) narrowed: bool,
    /// Space or new subscriptions could not be stored: not tried before this.
    pub(super) subscribe_after: Option<MonoMillis>,
    /// Times that the log could not be read since writes became uncertain.
    pub(super) tries: u32,
    /// Changes of the edits that are being committed, by wish.
    pub(super) edits: SortedMap<u64, Vec<Change>>,
    /// Writes whose commit failed in a way that leaves open whether it happened.
    pub(super) uncertain: Vec<Uncertain>,
    /// Counts sessions: what follows an entry concerns the session that wanted it and no other.
    pub(super) session: u64,
    pub(super) scrub: Scrub,
}

impl Pipeline {
    pub(super) fn leads(&self) -> bool {
        self.token.is_some() && self.loaded && !self.reload_wanted
    }

    pub(super) const fn is_congested(&self) -> bool {
        self.queue.received_bytes() > WAITING_BYTES_MAX
    }

    pub(super) const fn retry_at(&self) -> Option<MonoMillis> {
        self.retry_at
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.queue.is_empty() && !self.tail_wanted && self.loaded
    }

    pub(super) fn want(&mut self, want: Want) {
        self.queue.push(want);
    }

    fn start(&mut self, op: Op) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.under_way = Some((ticket, op));
        ticket
    }

    fn guards(&self, last: u64, batch: &mut Batch) {
        batch.guard(Keyspace::Log, log_key(last + 1), None);
        batch.guard(Keyspace::Meta, META_FOLDED.to_vec(), self.folded.clone());
    }

    pub(super) fn leader_guard(&self, batch: &mut Batch) {
        batch.guard(Keyspace::Meta, META_LEADER.to_vec(), self.token.map(|token| token.to_vec()));
    }

    /// Wants of the session make no sense without it.
    pub(super) fn forget_session(&mut self) {
        self.session += 1;
        self.queue.retain(|want| {
            matches!(
                want,
                Want::Write { .. }
                    | Want::Drop { .. }
                    | Want::Edit { .. }
                    | Want::Claim { .. }
                    | Want::Adopt { .. }
            )
        });
    }
}

impl Engine {
    pub(super) fn ask(&mut self, id: u64, wish: Wish) {
        if let Wish::Write { changes, .. } | Wish::Edit { changes, .. } = &wish
            && let Some(change) = changes.iter().find(|change| !self.is_asked_for(&change.key))
        {
            let error = ChangeError::NotSubscribed(change.key.clone());
            self.refuse(id, WishError::Write(error.into()));
            return;
        }
        let want = match wish {
            Wish::Write { changes, relaxed } => Want::Write { id, changes, relaxed },
            Wish::Retry { number } => Want::Drop { id, number, retry: true },
            Wish::Edit { number, changes } => Want::Edit { id, number, changes },
            Wish::Discard { number } => Want::Drop { id, number, retry: false },
            Wish::Adopt => Want::Adopt { id, discard: false },
            Wish::DiscardPending => Want::Adopt { id, discard: true },
        };
        match self.pipeline.queue.admits(&want, self.pipeline.uncertain.len()) {
            Ok(()) => self.pipeline.want(want),
            Err(error) => self.outputs.push_back(Output::Done { id, result: Err(error) }),
        }
    }

    /// Whether this holder subscribes to the record's collection.
    fn is_asked_for(&self, key: &RecordKey) -> bool {
        self.config.patterns.iter().any(|pattern| pattern.covers(&key.collection))
    }

    pub(super) fn lead(&mut self, token: [u8; 16]) {
        self.pipeline.want(Want::Claim { token });
    }

    pub(super) fn follow(&mut self) {
        self.pipeline.token = None;
        self.drop_session();
        self.pipeline.queue.retain(|want| !matches!(want, Want::Claim { .. }));
    }

    /// Ends the session without a word; its wants are forgotten, the peer will say it all again.
    pub(super) fn drop_session(&mut self) {
        self.pipeline.forget_session();
        if let Some(session) = self.session.take() {
            let was_live = session.was_live();
            self.outputs.push_back(Output::Close { retry_after: None, was_live });
        }
    }

    /// Starts the next store operation, if none is under way.
    pub(super) fn advance(&mut self, now: Now) {
        if self.pipeline.retry_at.is_some_and(|at| now.mono >= at) {
            self.pipeline.retry_at = None;
            self.pipeline.failed = false;
            self.pipeline.tail_wanted = true;
        }
        while self.pipeline.under_way.is_none() {
            let asked = self.pipeline.tail_wanted
                || self.pipeline.queue.iter().any(|want| !matches!(want, Want::Claim { .. }));
            if self.pipeline.failed && !asked {
                return;
            }
            if !self.pipeline.loaded || self.pipeline.reload_wanted {
                self.pipeline.tail_wanted = false;
                let ticket = self.pipeline.start(Op::Load);
                self.outputs.push_back(Output::Query { ticket, queries: load_queries() });
                return;
            }
            if self.pipeline.tail_wanted {
                self.pipeline.tail_wanted = false;
                let ticket = self.pipeline.start(Op::Tail);
                let queries = tail_queries(self.replica.last());
                self.outputs.push_back(Output::Query { ticket, queries });
                return;
            }
            if !self.next_want(now) {
                return;
            }
        }
    }

    /// Takes the next wants in hand; false when there is nothing to do.
    fn next_want(&mut self, now: Now) -> bool {
        let may_subscribe = self.pipeline.subscribe_after.is_none_or(|at| now.mono >= at);
        if may_subscribe && self.is_unbound() {
            self.start_binding();
            return true;
        }
        let alone = self.pipeline.token.is_some() && !self.pipeline.narrowed;
        let narrows = alone && self.replica.asks_beyond(&self.config.patterns);
        self.pipeline.narrowed |= alone && !narrows;
        if may_subscribe && (narrows || !self.replica.is_subscribed(&self.config.patterns)) {
            self.start_subscribing(narrows);
            return true;
        }
        match self.pipeline.queue.front() {
            None => {
                let may_fold = self.pipeline.fold_after.is_none_or(|at| now.mono >= at);
                if may_fold && self.pipeline.token.is_some() && self.replica.wants_fold() {
                    self.start_fold();
                    return true;
                }
                self.next_scrub(now)
            }
            Some(Want::Write { .. }) => {
                self.start_writes(now);
                true
            }
            Some(Want::Claim { token }) => {
                let token = *token;
                self.pipeline.queue.pop_front();
                self.start_claim(token);
                true
            }
            Some(_) => {
                self.start_entries(now);
                true
            }
        }
    }

    pub(super) fn read(&mut self, op: Op, queries: Vec<Query>) {
        let ticket = self.pipeline.start(op);
        self.outputs.push_back(Output::Query { ticket, queries });
    }

    pub(super) fn commit(&mut self, op: Op, mut batch: Batch) {
        batch.guards.retain(|guard| {
            let place = guard.keyspace == Keyspace::Log;
            let folded = guard.key == META_FOLDED;
            !(place && self.has(Bug::LogGuardIgnored) || folded && self.has(Bug::FoldedIgnored))
        });
        let ticket = self.pipeline.start(op);
        self.outputs.push_back(Output::Commit { ticket, batch });
    }

    /// Stores where the rows belong, before anything is sent there.
    fn start_binding(&mut self) {
        let Some(space) = self.config.space.clone() else { return };
        let last = self.replica.last();
        let mut batch = Batch::default();
        self.pipeline.guards(last, &mut batch);
        let entry = Entry::Bound(space);
        batch.put(Keyspace::Log, log_key(last + 1), encode_entry(&entry));
        let entries = Vec::from([(entry, Then::Nothing)]);
        self.commit(Op::Entries(entries, self.pipeline.session), batch);
    }

    /// Stores which subscriptions are new: every holder then numbers them alike. Who has taken the lead
    /// puts to rest what it does not ask for itself; a holder that does asks for it again.
    fn start_subscribing(&mut self, only: bool) {
        let entry = Entry::Subscribed { patterns: self.config.patterns.clone(), only };
        let last = self.replica.last();
        let mut batch = Batch::default();
        self.pipeline.guards(last, &mut batch);
        if only {
            self.pipeline.leader_guard(&mut batch);
        }
        batch.put(Keyspace::Log, log_key(last + 1), encode_entry(&entry));
        let entries = Vec::from([(entry, Then::Nothing)]);
        self.commit(Op::Entries(entries, self.pipeline.session), batch);
    }

    fn start_fold(&mut self) {
        let mut fold = self.replica.fold();
        let mut batch = core::mem::take(&mut fold.batch);
        self.pipeline.guards(self.replica.last(), &mut batch);
        self.pipeline.leader_guard(&mut batch);
        self.commit(Op::Fold(Box::new(fold)), batch);
    }

    fn start_claim(&mut self, token: [u8; 16]) {
        let mut batch = Batch::default();
        batch.guard(Keyspace::Meta, META_LEADER.to_vec(), self.pipeline.leader.clone());
        batch.put(Keyspace::Meta, META_LEADER.to_vec(), token.to_vec());
        self.commit(Op::Claim(token), batch);
    }

    fn start_writes(&mut self, now: Now) {
        let mut batch = Batch::default();
        self.pipeline.guards(self.replica.last(), &mut batch);
        let mut rows = Vec::new();
        let mut bytes = 0;
        while rows.len() < COMMIT_ROWS_MAX && bytes < COMMIT_BYTES_AIM {
            let Some(Want::Write { relaxed, .. }) = self.pipeline.queue.front() else {
                break;
            };
            if !rows.is_empty() && *relaxed != batch.relaxed {
                break;
            }
            let Some(Want::Write { id, changes, relaxed }) = self.pipeline.queue.pop_front() else {
                break;
            };
            match self.replica.write(&changes, now.wall) {
                Ok(written) => {
                    batch.relaxed = relaxed;
                    bytes += written.bytes.len();
                    batch.put(Keyspace::Log, log_key(written.number), written.bytes);
                    let (number, stamp) = (written.number, Some(written.stamp));
                    rows.push((id, Receipt { number, stamp, relaxed }, changes));
                }
                Err(error) => {
                    self.outputs.push_back(Output::Done { id, result: Err(error.into()) });
                }
            }
        }
        if !rows.is_empty() {
            self.commit(Op::Writes(rows), batch);
        }
    }

    fn start_entries(&mut self, now: Now) {
        let mut batch = Batch::default();
        let mut entries: Vec<(Entry, Then)> = Vec::new();
        let mut bytes = 0;
        let mut of_session = false;
        while bytes < COMMIT_BYTES_AIM {
            match self.pipeline.queue.front() {
                None | Some(Want::Write { .. } | Want::Claim { .. }) => break,
                // What is made from the present state goes alone.
                Some(Want::Entry { .. }) => {}
                Some(_) if !entries.is_empty() => break,
                Some(_) => bytes = COMMIT_BYTES_AIM,
            }
            let Some(want) = self.pipeline.queue.pop_front() else {
                break;
            };
            of_session |=
                !matches!(want, Want::Drop { .. } | Want::Edit { .. } | Want::Adopt { .. });
            entries.extend(self.make(want, now));
            bytes += entries.last().map_or(0, |(entry, _)| entry.received_bytes());
        }
        if entries.is_empty() || (of_session && self.pipeline.token.is_none()) {
            return;
        }
        let last = self.replica.last();
        self.pipeline.guards(last, &mut batch);
        if of_session {
            self.pipeline.leader_guard(&mut batch);
        }
        for ((entry, _), number) in entries.iter().zip(last + 1..) {
            batch.put(Keyspace::Log, log_key(number), encode_entry(entry));
        }
        self.commit(Op::Entries(entries, self.pipeline.session), batch);
    }

    /// The entries that carry out a want.
    fn make(&mut self, want: Want, now: Now) -> Vec<(Entry, Then)> {
        match want {
            Want::Entry { entry, then } => Vec::from([(entry, then)]),
            Want::Drop { id, number, retry } => self.make_drop(id, number, retry, now),
            Want::Edit { id, number, changes } => self.make_edit(id, number, changes, now),
            Want::Restamp { from, skew_ms } => {
                let wall = WallMillis(now.wall.0.saturating_add_signed(skew_ms));
                match self.replica.restamp_from(from, wall) {
                    Ok(rows) => {
                        let entry = Entry::Restamped { rows, skew_ms };
                        Vec::from([(entry, Then::Named(u64::MAX))])
                    }
                    Err(error) => self.give_up(now, &error),
                }
            }
            Want::Reborn { replica, accepted, unsure } => {
                let copy = |(number, settlement): &(u64, Settlement)| match settlement {
                    Settlement::Taken(stamp, _) => (*number, Some(*stamp)),
                    Settlement::Accepted(_) | Settlement::Rejected { .. } => (*number, None),
                };
                let unsettled = unsure.iter().map(|number| (*number, None));
                let settled: Vec<_> = accepted.iter().map(copy).chain(unsettled).collect();
                match self.replica.restamp_as(replica, &settled, now.wall) {
                    Ok(restamped) => {
                        let entry = Entry::Reborn { replica, accepted, unsure, restamped };
                        Vec::from([(entry, Then::Reconnect)])
                    }
                    Err(error) => self.give_up(now, &error),
                }
            }
            Want::Adopt { id, discard } => self.make_adopt(id, discard),
            Want::Write { .. } | Want::Claim { .. } => Vec::new(),
        }
    }

    /// No new stamps can be had: ends the session, for the app to see.
    fn give_up(&mut self, now: Now, error: &ChangeError) -> Vec<(Entry, Then)> {
        self.end(now, ByeCode::Internal, &error.to_string());
        Vec::new()
    }

    pub(super) fn answered(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<Vec<Answer>, FaultClass>,
    ) {
        let Some((_, op)) = self.pipeline.under_way.take_if(|(known, _)| *known == ticket) else {
            return;
        };
        match (op, result) {
            (Op::Load, Ok(answers)) => self.loaded(answers),
            (Op::Tail, Ok(answers)) => self.tail(now, answers),
            (Op::Scrub(place), Ok(answers)) => self.scrub_read(now, place, answers),
            (Op::Scrub(_), Err(_)) => self.scrub_failed(now),
            (_, Ok(_)) => {}
            (_, Err(class)) => {
                self.pipeline.tries += 1;
                let transient = class == FaultClass::Transient;
                if transient {
                    self.pipeline.retry_at = Some(now.mono + STORE_RETRY_AFTER);
                }
                if !transient || self.pipeline.tries >= STORE_TRIES_MAX {
                    self.fail_uncertain();
                }
                self.store_failed(class);
            }
        }
    }

    /// Tells the app what an entry changed, and looks after what it broke.
    pub(super) fn announce(&mut self, now: Now, applied: Applied) {
        let received = (applied.received, applied.received_bytes);
        let Applied { keys, accepted, rejected, broken, conflicts, reborn, subscribed, .. } =
            applied;
        if let Some((old, new)) = reborn {
            self.notice(Notice::Reborn { old, new });
        }
        if subscribed {
            // Subscriptions have other numbers now.
            self.verified.clear();
            self.reconnect();
        }
        if !keys.is_empty() {
            self.notice(Notice::Changed(keys));
        }
        if !accepted.is_empty() {
            self.notice(Notice::Accepted(accepted));
        }
        for number in rejected {
            let state = self.replica.overlay().get(number).map(|outbox| outbox.state.clone());
            if let Some(RowState::Rejected { code, reason }) = state {
                self.notice(Notice::Rejected { number, code, reason });
            }
        }
        for (key, conflict) in conflicts {
            self.notice(Notice::Conflict { key, conflict });
        }
        self.received(now, received, &broken);
    }
}
