//! Writes that the driver brings for somebody who has no replica of his own: one request, one answer.
//!
//! They go through the pipeline as pushed rows do, are judged and joined by the same code, and are planned on the
//! record as it is at that moment: what was *expected* of it holds when the write is committed. Their replica is the
//! host's own, one for each principal and epoch: it is made of the two and of the secret, so it is never used again
//! in a history that was put back, whose counters it would not know. It is stored as its principal's like any other.
//!
//! A request may carry a *memo*: its answer is kept under it, in the commit of its effect, so the same request is
//! answered the same though the first answer was lost. Absent: what a request looked like.

use super::{
    Grant, Host, HostNote, HostOutput,
    group::{Judging, Known, Refused, Verdict},
    layout::ReplicaRow,
    memo::{self, Memo},
    pipeline::Job,
    receive::JOBS_MAX,
};
use crate::{
    hlc::Stamp,
    id::{Digest, Incarnation, RecordKey, ReplicaId, Seq},
    io::{KeyRange, Keyspace, Query},
    planted::Bug,
    protocol::message::RejectCode,
    record::Record,
    replica::{Change, ChangeError, WriteError, plan_row},
    sorted::SortedSet,
    time::{Millis, Now, WallMillis},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::num::NonZeroU32;

/// How long the answer to a request that had a memo is kept, at least.
pub const MEMO_KEPT: Millis = Millis(24 * 3_600_000);
/// Memos that are over and go with one commit of others, at most.
const MEMOS_FORGOTTEN: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// A request to write.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectWrite {
    /// The driver's number for it, never given twice.
    pub number: u64,
    /// For whom, and what he may do.
    pub grant: Grant,
    /// What is to be done, each part by itself and in order.
    pub rows: Vec<DirectRow>,
    /// Under what its answer is kept.
    pub memo: Option<MemoKey>,
}

/// Names a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoKey {
    /// The digest of what names it, its principal included.
    pub name: [u8; 32],
    /// The digest of all that it asks for: one name is for one request.
    pub content: [u8; 32],
}

/// One part of a request: all of it is done, or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectRow {
    /// What must hold of records for it to be done.
    pub expected: Vec<(RecordKey, Expected)>,
    /// What to do.
    pub changes: Vec<Change>,
}

/// What must hold of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It is live.
    Live,
    /// It is not.
    Absent,
    /// It is live and just one of these.
    OneOf(Vec<Digest>),
}

impl Expected {
    fn holds(&self, live: Option<Digest>) -> bool {
        match self {
            Self::Live => live.is_some(),
            Self::Absent => live.is_none(),
            Self::OneOf(digests) => live.is_some_and(|digest| digests.contains(&digest)),
        }
    }
}

/// What one part of a request has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectDone {
    /// Its position; `None` where there was nothing to do.
    pub seq: Option<Seq>,
    /// The records that it wrote.
    pub records: Vec<DirectRecord>,
}

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectRecord {
    /// Which.
    pub key: RecordKey,
    /// Whether it was live before.
    pub was_live: bool,
    /// What it is now; `None`: not live.
    pub digest: Option<Digest>,
}

/// Why one part of a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectRefusal {
    /// For programs.
    pub code: DirectCode,
    /// For people.
    pub reason: String,
}

/// Why a request, or a part of it, was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectCode {
    /// No right to write there.
    Forbidden,
    /// What was expected of a record does not hold.
    Unexpected,
    /// It adds a record that is live.
    Exists,
    /// It updates a record that is not live.
    Absent,
    /// It asks for what cannot be.
    Invalid,
    /// A value, a record or the whole is too large.
    TooLarge,
    /// The host lacks a kind that it uses.
    UpgradeServer,
    /// It would add to a space that is full.
    Quota,
}

impl DirectCode {
    const ALL: [Self; 8] = [
        Self::Forbidden,
        Self::Unexpected,
        Self::Exists,
        Self::Absent,
        Self::Invalid,
        Self::TooLarge,
        Self::UpgradeServer,
        Self::Quota,
    ];

    /// As it is stored.
    pub(super) fn number(self) -> u64 {
        Self::ALL
            .iter()
            .zip(0..)
            .find_map(|(code, number)| (*code == self).then_some(number))
            .unwrap_or(0)
    }

    pub(super) fn of_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// About how many bytes a request takes.
pub(super) fn direct_bytes(write: &DirectWrite) -> usize {
    write.rows.iter().flat_map(|row| &row.changes).map(Change::bytes_about).sum()
}

/// Part by part, what became of a request.
pub type DirectResults = Vec<Result<DirectDone, DirectRefusal>>;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectAnswer {
    /// It was judged, and what was done is durable.
    Judged(DirectResults),
    /// It was judged before, with this answer.
    Remembered(DirectResults),
    /// Another request has its name.
    Reused,
    /// The answer that was kept under its name is damaged.
    Unsure,
    /// Too much waits.
    Busy,
    /// The store failed, or the host ends: it may have been done.
    Unavailable,
}

impl super::feed::Marks {
    /// The replica under which the host writes for a principal, and the incarnation that nobody else can name.
    pub(super) fn writer(&self, principal: &str) -> (ReplicaId, Incarnation) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        let name = self.space.as_str().as_bytes();
        let parts: [&[u8]; 4] =
            [b"rejoin.writer.v1", name, self.epoch.as_bytes(), principal.as_bytes()];
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let (mut replica, mut incarnation) = ([0; 16], [0; 16]);
        let mut bytes = hasher.finalize_xof();
        bytes.fill(&mut replica);
        bytes.fill(&mut incarnation);
        (ReplicaId::from_bytes(replica), Incarnation::from_bytes(incarnation))
    }
}

impl Known {
    /// Adds what a request needs to be judged.
    pub(super) fn want_direct(&mut self, writer: ReplicaId, write: &DirectWrite) {
        self.replicas.insert(writer, None);
        self.memos.extend(write.memo.map(|memo| (memo.name, None)));
        for row in &write.rows {
            let expected = row.expected.iter().map(|(key, _)| key);
            let keys = row.changes.iter().map(|change| &change.key).chain(expected);
            self.records.extend(keys.map(|key| (key.clone(), None)));
        }
    }

    /// The answers that are kept, and those that may go by the host's clock.
    pub(super) fn memo_queries(&self, now: WallMillis) -> Vec<Query> {
        if self.memos.is_empty() {
            return Vec::new();
        }
        let get = |name| Query::Get { keyspace: Keyspace::Meta, key: memo::memo_key(name) };
        let over = WallMillis(now.0.saturating_sub(MEMO_KEPT.0));
        let range = KeyRange {
            start: memo::MEMO_TIME_KEY.to_vec(),
            end: Some(memo::memo_time_key(over, &[])),
        };
        let scan = Query::scan(Keyspace::Meta, range, MEMOS_FORGOTTEN);
        self.memos.keys().map(get).chain([scan]).collect()
    }
}

impl Judging<'_> {
    /// Judges a request, and keeps its answer for when the group is durable.
    pub(super) fn direct(&mut self, write: DirectWrite) {
        let DirectWrite { number, grant, rows, memo } = write;
        let answer = match memo.and_then(|memo| self.remembered(&memo)) {
            Some(answer) => answer,
            None => {
                let principal = grant.principal.as_str();
                let results: DirectResults =
                    rows.into_iter().map(|row| self.direct_row(&grant, &row)).collect();
                let done = |result: &&Result<DirectDone, _>| {
                    result.as_ref().is_ok_and(|done| done.seq.is_some())
                };
                let accepted = results.iter().filter(done).count();
                let keeps = accepted > 0 && !self.planted.is(Bug::AnswersForgotten);
                if let Some(memo) = memo.filter(|_| keeps) {
                    // By the clock that it is forgotten by.
                    let at = self.clock.last().wall();
                    let kept = Memo { content: memo.content, at, results: results.clone() };
                    self.known.memos.insert(memo.name, Some(Ok(kept.clone())));
                    self.judged.memos.insert(memo.name, kept);
                }
                self.judged.notes.push(HostNote::Written {
                    principal: String::from(principal),
                    accepted,
                    refused: results.len() - accepted,
                    head: self.judged.head.seq,
                });
                DirectAnswer::Judged(results)
            }
        };
        self.judged.written.push((number, answer));
    }

    fn remembered(&self, memo: &MemoKey) -> Option<DirectAnswer> {
        Some(match self.known.memos.get(&memo.name)?.as_ref()? {
            Err(_damaged) => DirectAnswer::Unsure,
            Ok(kept) if kept.content != memo.content => DirectAnswer::Reused,
            Ok(kept) => DirectAnswer::Remembered(kept.results.clone()),
        })
    }

    /// The digest of a record that is live, as the rows before this one have left it.
    fn live(&self, key: &RecordKey) -> Option<Digest> {
        let stored = self.known.records.get(key)?.as_deref()?;
        stored.record.is_live().then_some(stored.digest)
    }

    fn direct_row(&mut self, grant: &Grant, row: &DirectRow) -> Result<DirectDone, DirectRefusal> {
        if let Some(change) =
            row.changes.iter().find(|change| !grant.writes(&change.key.collection))
        {
            let reason = format!("no right to write {}", change.key.collection);
            return Err(DirectRefusal { code: DirectCode::Forbidden, reason });
        }
        let mut expected = row.expected.iter();
        let fails = |(key, expected): &&(RecordKey, Expected)| {
            !expected.holds(self.live(key)) && !self.planted.is(Bug::ExpectedIgnored)
        };
        if let Some((key, _)) = expected.find(fails) {
            let reason = format!("record {key} is not as it was expected to be");
            return Err(DirectRefusal { code: DirectCode::Unexpected, reason });
        }
        let (replica, incarnation) = self.marks.writer(&grant.principal);
        let hlc = self.stamp_behind(row)?;
        let own = Stamp { hlc, replica };
        let records = &self.known.records;
        let latest = |key: &RecordKey| {
            let stored = records.get(key).and_then(Option::as_deref);
            Ok(stored.map_or_else(Record::default, |stored| stored.record.clone()))
        };
        let pushed = match plan_row(&row.changes, own, latest) {
            Ok(pushed) => pushed,
            Err(WriteError::Change(ChangeError::Empty)) => {
                return Ok(DirectDone { seq: None, records: Vec::new() });
            }
            Err(refused) => return Err(refusal_of(&refused)),
        };
        let joined = match self.join(replica, &pushed) {
            Verdict::Joined(joined) => joined,
            Verdict::Refused(refused) => return Err(refusal_of_row(refused)),
            Verdict::Again(_) | Verdict::Outdated => {
                let reason = String::from("it builds on what is not there any more");
                return Err(DirectRefusal { code: DirectCode::Unexpected, reason });
            }
        };
        let seq = joined.seq;
        let was_live: Vec<bool> =
            pushed.writes.iter().map(|write| self.live(&write.key).is_some()).collect();
        let stored = self.known.replicas.get(&replica).cloned().flatten();
        let accepted = stored.and_then(|row| row.accepted).max(Some(hlc));
        let principal = grant.principal.clone();
        self.set_replica(replica, ReplicaRow { principal, incarnation, accepted });
        self.keep_records(joined);
        let records = pushed.writes.into_iter().zip(was_live).map(|(write, was_live)| {
            DirectRecord { digest: self.live(&write.key), key: write.key, was_live }
        });
        Ok(DirectDone { seq: Some(seq), records: records.collect() })
    }

    /// A stamp that no write has, later than all that the row's records have seen.
    fn stamp_behind(&mut self, row: &DirectRow) -> Result<crate::hlc::Hlc, DirectRefusal> {
        let wall = self.now.wall;
        for change in &row.changes {
            let Some(Some(stored)) = self.known.records.get(&change.key) else { continue };
            for seen in stored.record.seen.iter() {
                // What is too far ahead was not taken in when it came.
                let _taken = self.clock.observe(seen.hlc, wall);
            }
        }
        let exhausted = |_| refusal_of(&WriteError::Change(ChangeError::ClockExhausted));
        self.clock.tick(wall).map_err(exhausted)
    }
}

fn refusal_of(refused: &WriteError) -> DirectRefusal {
    let code = match refused {
        WriteError::Change(ChangeError::Exists(_)) => DirectCode::Exists,
        WriteError::Change(ChangeError::NotFound(_)) => DirectCode::Absent,
        WriteError::Change(
            ChangeError::ValueTooLarge { .. }
            | ChangeError::TooManyCells { .. }
            | ChangeError::RecordTooLarge { .. }
            | ChangeError::BatchTooLarge { .. },
        ) => DirectCode::TooLarge,
        WriteError::Change(
            ChangeError::NotSubscribed(_)
            | ChangeError::WrongKind { .. }
            | ChangeError::ValueTooDeep { .. }
            | ChangeError::Empty
            | ChangeError::ClockExhausted,
        )
        | WriteError::Corrupt(_) => DirectCode::Invalid,
    };
    DirectRefusal { code, reason: format!("{refused}") }
}

/// The same for a row that the judge refused. A stamp of the host's own is not ahead, nor taken, and a reset is not stale.
fn refusal_of_row(refused: Refused) -> DirectRefusal {
    let (code, reason) = match refused {
        Refused::Rejected(code, reason) => (code, reason),
        Refused::Returned | Refused::Ahead(_) | Refused::Stale(_) | Refused::Taken(..) => {
            (RejectCode::Invalid, "it cannot be joined to what is there")
        }
    };
    DirectRefusal { code: code_of(code), reason: String::from(reason) }
}

const fn code_of(rejected: RejectCode) -> DirectCode {
    match rejected {
        RejectCode::Forbidden => DirectCode::Forbidden,
        RejectCode::TooLarge => DirectCode::TooLarge,
        RejectCode::UpgradeServer => DirectCode::UpgradeServer,
        RejectCode::Quota => DirectCode::Quota,
        RejectCode::RecordGone => DirectCode::Absent,
        RejectCode::Forged | RejectCode::Invalid | RejectCode::Unsure => DirectCode::Invalid,
    }
}

impl Host {
    /// Queues a request.
    pub(super) fn take_direct(&mut self, now: Now, write: DirectWrite) {
        let number = write.number;
        if self.phase == super::Phase::Over || self.stopping {
            return self.answer_direct(number, DirectAnswer::Unavailable);
        }
        if self.jobs.len() >= JOBS_MAX {
            return self.answer_direct(number, DirectAnswer::Busy);
        }
        self.direct.insert(number);
        self.jobs.push_back(Job::Direct(Box::new(write)));
        self.start_group(now);
    }

    pub(super) fn answer_direct(&mut self, number: u64, answer: DirectAnswer) {
        self.direct.remove(&number);
        self.out(HostOutput::Written { number, answer });
    }

    /// The group that was under way is given up: who wrote directly, and does not wait for his turn, hears so.
    pub(super) fn fail_direct(&mut self) {
        let waits = |job: &Job| match job {
            Job::Direct(write) => Some(write.number),
            Job::Open(_) | Job::Row(_) | Job::Recall(..) | Job::Refill(_) => None,
        };
        let waiting: SortedSet<u64> = self.jobs.iter().filter_map(waits).collect();
        let lost = self.direct.iter().filter(|number| !waiting.contains(number));
        let lost: Vec<u64> = lost.copied().collect();
        for number in lost {
            self.answer_direct(number, DirectAnswer::Unavailable);
        }
    }
}
