//! A group of jobs while it is judged: what it has read, what it changes, what follows.
//!
//! Invariant: rows see what the rows before them in the group did. Absent: the store and the peers'
//! sockets; nothing here is said before the group is durable.

use super::{
    HostNote, PeerId, RefillPolicy,
    damage::{Suspect, is_later},
    direct::DirectAnswer,
    feed::Marks,
    heal::get_record,
    judge::{self, Refusal, RowContext},
    layout::{self, Accepted, CopiedRow, CopyRow, Head, ReplicaRow, Stored},
    memo::{Memo, Memos},
    origin::Origins,
    peer::{Peer, Stage, Told},
    pipeline::{Job, WaitingRow},
    quota::Room,
    refill, welcome,
};
use crate::{
    codec::CodecError,
    hlc::{Hlc, HlcClock, Stamp},
    id::{RecordKey, ReplicaId, Seq},
    io::{Answer, Batch, Keyspace, Query},
    planted::{Bug, Planted},
    protocol::{
        limits::BATCH_RECORDS_MAX,
        message::{
            Conflict, Identity, Left, Limits, Origin, Outcome, PushRow, PushWrite, Recall,
            Recalled, RejectCode,
        },
    },
    sorted::{SortedMap, SortedSet},
    time::{Millis, Now, WallMillis},
};
use alloc::{string::String, sync::Arc, vec::Vec};

/// What a group reads, and sees of it while it is judged.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) replicas: SortedMap<ReplicaId, Option<ReplicaRow>>,
    pub(super) accepted: SortedMap<(ReplicaId, Hlc), Option<Accepted>>,
    /// Rows by their origins, where they were accepted under another stamp.
    pub(super) copies: SortedMap<Origin, Option<CopyRow>>,
    /// How far there are such origins, by their replicas.
    pub(super) copied: SortedMap<ReplicaId, Option<CopiedRow>>,
    /// The greatest time of each replica that others have brought back.
    pub(super) returned: SortedMap<ReplicaId, Option<Hlc>>,
    /// Answers to requests, by their names; an error where one is damaged.
    pub(super) memos: SortedMap<[u8; 32], Option<Result<Memo, CodecError>>>,
    pub(super) records: SortedMap<RecordKey, Option<Arc<Stored>>>,
}

impl Known {
    /// Adds what a job needs to be judged.
    pub(super) fn want(&mut self, peer: &Peer, job: &Job) {
        let replica = peer.hello.replica;
        match job {
            Job::Open(_) => {
                self.replicas.insert(replica, None);
                self.returned.insert(replica, None);
                self.copied.insert(replica, None);
            }
            Job::Row(waiting) => {
                self.replicas.insert(replica, None);
                self.returned.insert(replica, None);
                self.accepted.insert((replica, waiting.row.hlc), None);
                self.want_origin(peer, &waiting.row);
                for write in &waiting.row.writes {
                    self.records.insert(write.key.clone(), None);
                }
            }
            Job::Refill(waiting) => {
                for kept in &waiting.refill.entries {
                    self.records.insert(kept.key.clone(), None);
                    self.returned.extend(kept.record.seen.iter().map(|seen| (seen.replica, None)));
                }
            }
            // Nobody's: see `want_direct`.
            Job::Direct(_) => {}
            Job::Recall(_, recall) => {
                for origin in &recall.rows {
                    let Stamp { replica, hlc } = origin.stamp;
                    self.replicas.insert(replica, None);
                    self.returned.insert(replica, None);
                    self.copied.insert(replica, None);
                    self.accepted.insert((replica, hlc), None);
                    self.copies.insert(*origin, None);
                }
            }
        }
    }

    pub(super) fn queries(&self, now: WallMillis) -> Vec<Query> {
        let get = |keyspace, key| Query::Get { keyspace, key };
        let replicas = self.replicas.keys();
        let accepted = self.accepted.keys();
        let returned = self.returned.keys();
        replicas
            .map(|replica| get(Keyspace::Meta, layout::replica_key(replica)))
            .chain(
                accepted.map(|(replica, hlc)| get(Keyspace::Log, layout::log_key(replica, *hlc))),
            )
            .chain(self.copies.keys().map(|origin| get(Keyspace::Log, layout::origin_key(origin))))
            .chain(
                self.copied.keys().map(|replica| get(Keyspace::Meta, layout::copied_key(replica))),
            )
            .chain(returned.map(|replica| get(Keyspace::Meta, layout::returned_key(replica))))
            .chain(self.records.keys().map(get_record))
            .chain(self.memo_queries(now))
            .collect()
    }

    /// Takes in what was read; what of it is damaged.
    ///
    /// # Errors
    /// [`CodecError`] when a row is of a later version.
    pub(super) fn fill(
        &mut self,
        answers: &mut alloc::vec::IntoIter<Answer>,
    ) -> Result<Vec<Suspect>, CodecError> {
        let mut next = || match answers.next() {
            Some(Answer::Value(value)) => value,
            Some(Answer::Page(_)) | None => None,
        };
        let mut damaged = Vec::new();
        for (id, replica) in &mut self.replicas {
            *replica = whole(next().as_deref().map(ReplicaRow::decode), || {
                damaged.push(Suspect::Replica(*id));
            })?;
        }
        for ((id, hlc), accepted) in &mut self.accepted {
            *accepted = whole(next().as_deref().map(Accepted::decode), || {
                damaged.push(Suspect::Accepted(*id, *hlc));
            })?;
        }
        for (origin, copy) in &mut self.copies {
            *copy = whole(next().as_deref().map(CopyRow::decode), || {
                damaged.push(Suspect::Copy(*origin, None));
            })?;
        }
        for (id, copied) in &mut self.copied {
            *copied = whole(next().as_deref().map(CopiedRow::decode), || {
                damaged.push(Suspect::Copied(*id));
            })?;
        }
        for (id, returned) in &mut self.returned {
            *returned = whole(next().as_deref().map(layout::decode_time), || {
                damaged.push(Suspect::Returned(*id));
            })?;
        }
        for (key, record) in &mut self.records {
            let stored = next().as_deref().map(Stored::decode);
            let stored = whole(stored, || damaged.push(Suspect::record(key)))?;
            *record = stored.map(Arc::new);
        }
        for memo in self.memos.values_mut() {
            *memo = next().as_deref().map(Memo::decode);
        }
        Ok(damaged)
    }
}

/// A row, if it is there; tells of one that is damaged.
fn whole<T>(
    row: Option<Result<T, CodecError>>,
    damaged: impl FnOnce(),
) -> Result<Option<T>, CodecError> {
    match row {
        None => Ok(None),
        Some(Ok(row)) => Ok(Some(row)),
        Some(Err(later)) if is_later(&later) => Err(later),
        Some(Err(_)) => {
            damaged();
            Ok(None)
        }
    }
}

/// A record that a group changed.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) stored: Arc<Stored>,
    /// As it was stored before the group.
    pub(super) before: Option<Before>,
    /// Each with its row's position.
    pub(super) conflicts: Vec<(Seq, Conflict)>,
}

/// Where a record that is overwritten is indexed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Its place in the feed.
    seq: Seq,
    /// When it was buried, if it was dead.
    burial: Option<Hlc>,
    pub(super) len: u64,
}

impl Before {
    pub(super) fn of(stored: &Stored) -> Self {
        let (seq, len) = (stored.positions.latest, stored.bytes.len() as u64);
        Self { seq, burial: stored.record.burial(), len }
    }
}

/// What follows from a group once it is durable.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) head: Head,
    pub(super) touched: SortedMap<RecordKey, Touched>,
    pub(super) acks: SortedMap<PeerId, Vec<(u64, Outcome)>>,
    pub(super) welcomes: Vec<(PeerId, Told)>,
    pub(super) recalled: Vec<(PeerId, Recalled)>,
    pub(super) refilled: Vec<refill::Answer>,
    /// Answers to requests, by their numbers.
    pub(super) written: Vec<(u64, DirectAnswer)>,
    pub(super) memos: Memos,
    /// Peers that must say hello again, after which time and why.
    pub(super) later: SortedMap<PeerId, (Millis, &'static str)>,
    pub(super) notes: Vec<HostNote>,
    /// Everyone who has a part in it, and hears of it if it fails.
    pub(super) peers: SortedSet<PeerId>,
    pub(super) replicas: SortedMap<ReplicaId, ReplicaRow>,
    pub(super) accepted: SortedMap<(ReplicaId, Hlc), Accepted>,
    pub(super) returned: SortedMap<ReplicaId, Hlc>,
    pub(super) origins: Origins,
}

/// A group while it is judged.
pub(super) struct Judging<'a> {
    pub(super) now: Now,
    pub(super) clock: HlcClock,
    pub(super) limits: Limits,
    pub(super) planted: Planted,
    pub(super) refill: RefillPolicy,
    pub(super) horizon: Hlc,
    /// Rows that were accepted at or before this are in no ledger any more.
    pub(super) forgotten: Hlc,
    pub(super) marks: Marks,
    pub(super) lineage: &'a [Left],
    /// Somebody is to be told of rows that are accepted.
    pub(super) watched: bool,
    pub(super) room: Room,
    pub(super) known: Known,
    pub(super) judged: Judged,
}

impl Judging<'_> {
    pub(super) fn open(&mut self, id: PeerId, peer: &Peer) {
        let replica = peer.hello.replica;
        let stored = self.known.replicas.get(&replica).cloned().flatten();
        let mut identity = welcome::identity(stored.as_ref(), &peer.hello, &peer.grant.principal);
        let begins = peer.hello.epochs.is_empty() && self.planted.is(Bug::EmptyKeepsId);
        if begins || self.planted.is(Bug::IncarnationIgnored) {
            identity = Identity::Confirmed;
        }
        let accepted = stored.and_then(|row| row.accepted);
        if identity == Identity::Confirmed {
            let row = ReplicaRow {
                principal: peer.grant.principal.clone(),
                incarnation: peer.hello.incarnation,
                accepted,
            };
            self.set_replica(replica, row);
        }
        // What others brought back counts as accepted: a replica that was rolled back is found out by it.
        let accepted = accepted.max(self.returned(&replica));
        let accepted = accepted.filter(|_| identity != Identity::Foreign);
        let copied = self.known.copied.get(&replica).copied().flatten();
        let copied = copied.filter(|_| identity == Identity::Confirmed).map(|copied| copied.upto);
        self.judged.welcomes.push((id, Told { identity, accepted, copied }));
    }

    pub(super) fn set_replica(&mut self, replica: ReplicaId, row: ReplicaRow) {
        self.known.replicas.insert(replica, Some(row.clone()));
        self.judged.replicas.insert(replica, row);
    }

    pub(super) fn recall(&mut self, id: PeerId, peer: &mut Peer, recall: &Recall) {
        let mut recalled = Recalled { accepted: Vec::new(), unsure: Vec::new() };
        // What another principal pushed is not this one's to know.
        if peer.stage != (Stage::Denied { foreign: true }) {
            for origin in &recall.rows {
                if let Some(taken) = self.taken(origin) {
                    recalled.accepted.push(taken);
                } else if self.is_unsure(peer, origin) {
                    recalled.unsure.push(*origin);
                }
            }
        }
        if peer.stage == Stage::Confirmed {
            self.watch(id, peer, recall);
        }
        self.judged.recalled.push((id, recalled));
    }

    /// Judges one row.
    pub(super) fn row(&mut self, peer: &mut Peer, waiting: &WaitingRow) {
        let row = &waiting.row;
        let replica = peer.hello.replica;
        let owner = self.known.replicas.get(&replica).cloned().flatten();
        // Another session took over in this very group: this one will hear no more.
        let owner = owner.filter(|owner| owner.incarnation == peer.hello.incarnation);
        let Some(owner) = owner else { return };
        if self.judged.later.contains_key(&waiting.peer) {
            return;
        }
        peer.held.retain(|_, number| *number > waiting.named);
        let verdict = self.verdict(peer, row);
        let outcome = match verdict {
            Verdict::Again(seq) => Outcome::Accepted { seq },
            Verdict::Joined(joined) => {
                let seq = joined.seq;
                self.accept(waiting.peer, peer, row, joined, owner);
                Outcome::Accepted { seq }
            }
            Verdict::Refused(refused) => self.refuse(peer, waiting, refused),
            Verdict::Outdated => {
                let reason = "what this replica builds on is not there as it was: say hello again";
                self.judged.later.insert(waiting.peer, (Millis(0), reason));
                return;
            }
        };
        let acks = self.judged.acks.entry(waiting.peer).or_default();
        acks.push((row.number, outcome));
    }

    fn verdict(&self, peer: &Peer, row: &PushRow) -> Verdict {
        let replica = peer.hello.replica;
        if row.writes.iter().any(|write| peer.held.contains_key(&write.key)) {
            return Verdict::Refused(Refused::Returned);
        }
        let own = Stamp { hlc: row.hlc, replica };
        if let Some(before) = self.accepted(&own) {
            if before.digest != row.digest {
                return Verdict::forged("another row has this stamp");
            }
            // A record may have been lost since, and come back without it, or not at all.
            let planted = self.planted.is(Bug::LedgerBelieved);
            if planted || row.writes.iter().all(|write| self.is_there(own, write)) {
                return Verdict::Again(before.seq);
            }
        }
        match self.copy_of(own, row) {
            Some(CopyRow { stamp: Some(stamp), seq }) => {
                return Verdict::Refused(Refused::Taken(stamp, seq));
            }
            Some(CopyRow { stamp: None, .. }) => return Verdict::unsure(),
            None => {}
        }
        let is_forgotten = self.is_forgotten(&own, peer.told);
        if let Some(seq) = self.left_of(own, row).filter(|_| is_forgotten) {
            return Verdict::Again(seq);
        }
        let may = |collection| peer.grant.writes(collection) || self.planted.is(Bug::RightsIgnored);
        if !row.writes.iter().all(|write| may(&write.key.collection)) {
            let reason = "no right to write a collection of this row";
            return Verdict::rejected(RejectCode::Forbidden, reason);
        }
        if self.lost_copy_is_back(peer, row) {
            return Verdict::Outdated;
        }
        let mut there = row.writes.iter().map(|write| self.is_there(own, write));
        // Whether it is the row that was lost, or another one of a history that was rolled back, is found out
        // by a peer that knows of it.
        if there.clone().any(|is_there| is_there) && peer.told < Some(row.hlc) {
            return Verdict::Outdated;
        }
        let is_new = !there.all(|is_there| is_there);
        // Nothing that was written later than the horizon has been collected: it would be there.
        let is_unsure = is_forgotten && row.hlc <= self.horizon;
        if is_new && (is_unsure || self.is_forgotten_copy(peer, own, row)) {
            return Verdict::unsure();
        }
        if let Some(by) = self.clock.ahead(row.hlc, self.now.wall).filter(|_| is_new)
            && !self.planted.is(Bug::AheadAccepted)
        {
            if self.planted.is(Bug::AheadRejected) {
                return Verdict::forged("the stamp is ahead");
            }
            return Verdict::Refused(Refused::Ahead(by));
        }
        if row.writes.len() > BATCH_RECORDS_MAX {
            return Verdict::rejected(RejectCode::TooLarge, "the row touches too many records");
        }
        self.join(replica, row)
    }

    /// What the ledger says of a row.
    pub(super) fn accepted(&self, own: &Stamp) -> Option<Accepted> {
        let known = self.known.accepted.get(&(own.replica, own.hlc)).copied().flatten();
        known.filter(|_| !self.planted.is(Bug::AcceptedForgotten))
    }

    /// The greatest time of a replica that others have brought back.
    pub(super) fn returned(&self, replica: &ReplicaId) -> Option<Hlc> {
        self.known.returned.get(replica).copied().flatten()
    }

    /// Whether a row that is in no ledger may have been in one: what is accepted is not earlier than its row, and
    /// `told` is the greatest time accepted before.
    pub(super) fn is_forgotten(&self, own: &Stamp, told: Option<Hlc>) -> bool {
        own.hlc <= self.forgotten
            && Some(own.hlc) <= told
            && self.accepted(own).is_none()
            && !self.planted.is(Bug::UnsureIgnored)
    }

    /// Where a row that was accepted, and is in no ledger, has left something, unless others have brought that back.
    /// Rows go in order per record, whole, and of a confirmed replica no two have one stamp: a record that has seen
    /// its stamp, or a later one, has seen the row, and what others of its records lack of it was collected since.
    fn left_of(&self, own: Stamp, row: &PushRow) -> Option<Seq> {
        if self.returned(&own.replica) >= Some(own.hlc) {
            return None;
        }
        let stored =
            row.writes.iter().filter_map(|write| self.known.records.get(&write.key)?.as_ref());
        let left = stored.filter(|stored| stored.record.seen.covers(&own));
        left.map(|stored| stored.positions.latest).max()
    }

    /// Whether a write is in its record already: its row was accepted, or it has come back with its record, which
    /// was lost with its row's acceptance.
    fn is_there(&self, own: Stamp, write: &PushWrite) -> bool {
        let stored = self.known.records.get(&write.key).and_then(Option::as_deref);
        (self.accepted(&own).is_some() || self.returned(&own.replica) >= Some(own.hlc))
            && stored.is_some_and(|stored| stored.record.seen.covers(&own))
            && !self.planted.is(Bug::ReturnedIgnored)
    }

    pub(super) fn join(&self, replica: ReplicaId, row: &PushRow) -> Verdict {
        let context = RowContext {
            own: Stamp { hlc: row.hlc, replica },
            seq: Seq(self.judged.head.seq.0.saturating_add(1)),
            // Later than what it writes: what is buried at or before a horizon has no later part.
            clock: self.clock.last().max(row.hlc),
            limits: self.limits,
            planted: self.planted,
        };
        let mut joined = JoinedRow { seq: context.seq, records: SortedMap::new() };
        let mut refusal = None;
        for write in &row.writes {
            let stored = self.known.records.get(&write.key).and_then(Option::as_deref);
            if self.is_there(context.own, write) {
                continue;
            }
            if write.updates && stored.is_none() && !self.planted.is(Bug::GoneComesBack) {
                refusal =
                    Some(refusal.map_or(Refusal::Gone, |first: Refusal| first.min(Refusal::Gone)));
                continue;
            }
            if self.builds_on_collected(context.own, stored, write) {
                // He has not heard of it yet, and will before he says it again.
                return Verdict::Outdated;
            }
            match judge::join_write(&context, stored, write) {
                Ok(record) => {
                    if joined.records.insert(write.key.clone(), record).is_some() {
                        refusal = Some(Refusal::Forged("a record comes twice"));
                    }
                }
                Err(why) => refusal = Some(refusal.map_or(why, |first: Refusal| first.min(why))),
            }
        }
        match refusal {
            None => self.fit(context.own, joined.placed(row, &self.known)),
            Some(Refusal::Forged(reason)) => Verdict::forged(reason),
            Some(Refusal::Order) => Verdict::forged("the record has a later write of this replica"),
            Some(Refusal::UpgradeServer) => {
                let reason = "a field is of a kind that this server lacks";
                Verdict::rejected(RejectCode::UpgradeServer, reason)
            }
            Some(Refusal::Gone) => {
                Verdict::rejected(RejectCode::RecordGone, "it updates a record that is not there")
            }
            Some(Refusal::TooLarge(reason)) => Verdict::rejected(RejectCode::TooLarge, reason),
            Some(Refusal::Stale(seq)) => Verdict::Refused(Refused::Stale(seq)),
        }
    }

    /// Whether it goes on with what somebody else had reset in a record that was collected, whether or not that was
    /// made anew since.
    fn builds_on_collected(&self, own: Stamp, stored: Option<&Stored>, write: &PushWrite) -> bool {
        write.delta.cells.iter().any(|(key, cell)| {
            let held = stored.and_then(|stored| stored.record.cells.get(key)?.since);
            cell.since > held
                && cell
                    .since
                    .is_some_and(|since| since.replica != own.replica && since.hlc <= self.horizon)
        })
    }

    fn accept(
        &mut self,
        id: PeerId,
        peer: &Peer,
        row: &PushRow,
        joined: JoinedRow,
        owner: ReplicaRow,
    ) {
        let replica = peer.hello.replica;
        // It is not ahead, that was asked first: who sees the row can go on behind it.
        let _taken = self.clock.observe(row.hlc, self.now.wall);
        let first = self.keep_origin(id, replica, row, joined.seq);
        let accepted = Accepted { digest: row.digest, seq: joined.seq, first };
        self.known.accepted.insert((replica, row.hlc), Some(accepted));
        self.judged.accepted.insert((replica, row.hlc), accepted);
        let greatest = owner.accepted.max(Some(row.hlc));
        let owner = ReplicaRow { accepted: greatest, ..owner };
        self.set_replica(replica, owner);
        self.keep_records(joined);
    }

    /// What a row has made of its records.
    pub(super) fn keep_records(&mut self, joined: JoinedRow) {
        self.fill(&joined);
        self.judged.head.seq = self.judged.head.seq.max(joined.seq);
        for (key, record) in joined.records {
            for conflict in &record.conflicts {
                self.judged.notes.push(HostNote::Conflict {
                    key: key.clone(),
                    field: conflict.field.clone(),
                    won: conflict.won,
                    lost: conflict.lost,
                });
            }
            let told = record.conflicts.into_iter().map(|conflict| (joined.seq, conflict));
            let stored = Arc::new(record.stored);
            let known = self.known.records.insert(key.clone(), Some(stored.clone()));
            let before = known.flatten().map(|known| Before::of(&known));
            match self.judged.touched.get_mut(&key) {
                Some(touched) => {
                    touched.stored = stored;
                    touched.conflicts.extend(told);
                }
                None => {
                    let touched = Touched { stored, before, conflicts: told.collect() };
                    self.judged.touched.insert(key, touched);
                }
            }
        }
    }

    /// Numbers the outcome, and holds the row's records under it.
    fn refuse(&mut self, peer: &mut Peer, waiting: &WaitingRow, refused: Refused) -> Outcome {
        peer.outcomes += 1;
        let number = peer.outcomes;
        let copy = matches!(refused, Refused::Taken(..));
        let holds = !(self.planted.is(Bug::RowsBehindGoOn)
            || copy && self.planted.is(Bug::RowsBehindCopyGoOn));
        for write in waiting.row.writes.iter().filter(|_| holds) {
            peer.held.insert(write.key.clone(), number);
        }
        match refused {
            Refused::Returned => Outcome::Returned { number },
            Refused::Ahead(by) => Outcome::Ahead { number, by },
            Refused::Stale(seq) => Outcome::Stale { number, seq },
            Refused::Taken(stamp, seq) => Outcome::Taken { number, stamp, seq },
            Refused::Rejected(code, reason) => {
                self.judged.notes.push(HostNote::Rejected {
                    peer: waiting.peer,
                    row: waiting.row.number,
                    code,
                    reason,
                });
                Outcome::Rejected { number, code, reason: String::from(reason) }
            }
        }
    }
}

/// What is to become of a row.
pub(super) enum Verdict {
    Again(Seq),
    Joined(JoinedRow),
    Refused(Refused),
    /// The peer must first hear what is known of its replica.
    Outdated,
}

#[derive(Clone, Copy)]
pub(super) enum Refused {
    Returned,
    Ahead(Millis),
    Stale(Seq),
    Taken(Stamp, Seq),
    Rejected(RejectCode, &'static str),
}

pub(super) struct JoinedRow {
    pub(super) seq: Seq,
    pub(super) records: SortedMap<RecordKey, judge::Joined>,
}

impl JoinedRow {
    /// A row of which all has come back takes no position: its effect is where the records are.
    fn placed(self, row: &PushRow, known: &Known) -> Self {
        if !self.records.is_empty() {
            return self;
        }
        let stored = row.writes.iter().filter_map(|write| known.records.get(&write.key)?.as_ref());
        let seq = stored.map(|stored| stored.positions.latest).max();
        Self { seq: seq.unwrap_or_default(), ..self }
    }
}

impl Verdict {
    pub(super) const fn rejected(code: RejectCode, reason: &'static str) -> Self {
        Self::Refused(Refused::Rejected(code, reason))
    }

    const fn forged(reason: &'static str) -> Self {
        Self::rejected(RejectCode::Forged, reason)
    }

    const fn unsure() -> Self {
        Self::rejected(RejectCode::Unsure, "whether it was accepted before is forgotten")
    }
}

impl Judged {
    pub(super) fn new(head: Head) -> Self {
        Self {
            head,
            touched: SortedMap::new(),
            acks: SortedMap::new(),
            welcomes: Vec::new(),
            recalled: Vec::new(),
            refilled: Vec::new(),
            written: Vec::new(),
            memos: Memos::default(),
            later: SortedMap::new(),
            notes: Vec::new(),
            peers: SortedSet::new(),
            replicas: SortedMap::new(),
            accepted: SortedMap::new(),
            returned: SortedMap::new(),
            origins: Origins::default(),
        }
    }

    /// Whether it changes nothing that is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.replicas.is_empty() && self.touched.is_empty()
    }

    /// Whether every record that it changes is dead.
    pub(super) fn only_removes(&self) -> bool {
        !self.touched.is_empty()
            && self.touched.values().all(|touched| touched.stored.record.burial().is_some())
    }

    pub(super) fn batch(&self, head: &Option<Vec<u8>>) -> Batch {
        let mut batch = Batch::default();
        batch.guard(Keyspace::Meta, layout::HEAD_KEY.to_vec(), head.clone());
        batch.put(Keyspace::Meta, layout::HEAD_KEY.to_vec(), self.head.encode());
        for (replica, row) in &self.replicas {
            batch.put(Keyspace::Meta, layout::replica_key(replica), row.encode());
        }
        for ((replica, hlc), row) in &self.accepted {
            batch.put(Keyspace::Log, layout::log_key(replica, *hlc), row.encode());
        }
        self.origins.write(&mut batch);
        self.memos.write(&mut batch);
        if !self.accepted.is_empty() {
            let rows = self.accepted.keys();
            let rows = rows.map(|(replica, hlc)| layout::log_key(replica, *hlc));
            let rows: Vec<Vec<u8>> = rows.chain(self.origins.keys(self.head.clock)).collect();
            let key = layout::ledger_key(self.head.clock);
            batch.put(Keyspace::Meta, key, layout::encode_ledger(&rows));
        }
        for (replica, hlc) in &self.returned {
            batch.put(Keyspace::Meta, layout::returned_key(replica), layout::encode_time(*hlc));
        }
        for (key, touched) in &self.touched {
            let stored = &touched.stored;
            let burial = stored.record.burial();
            if let Some(before) = touched.before {
                batch.delete(Keyspace::Feed, layout::feed_key(before.seq, key));
                if let Some(at) = before.burial.filter(|_| before.burial != burial) {
                    batch.delete(Keyspace::Meta, layout::grave_key(at, key));
                }
            }
            if let Some(at) = burial {
                batch.put(Keyspace::Meta, layout::grave_key(at, key), Vec::new());
            }
            let len = layout::encode_len(stored.bytes.len());
            let place = layout::feed_key(stored.positions.latest, key);
            batch.put(Keyspace::Feed, place, len);
            batch.put(Keyspace::Records, layout::record_key(key), stored.encode());
            let (hash, row) = layout::tree_row(key, stored);
            let place = layout::tree_key(&key.collection, &hash);
            batch.put(Keyspace::Tree, place, row.encode());
        }
        batch
    }
}
