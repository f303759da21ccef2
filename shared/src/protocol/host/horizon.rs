//! The horizon: up to when dead records and accepted rows are collected.
//!
//! What is to be collected is in an index by time. It is taken in slices: one commit raises the horizon over
//! what it deletes, so whatever is cut off, the store is just what its horizon says, and rows that wait get
//! their turn between two slices. The horizon is raised no further than that: where nothing was removed,
//! nobody falls behind it.
//!
//! Invariants: the horizon never goes back and is durable before it is stated; nothing is collected before the
//! server has run for the time of retention since it came to be, whatever clocks say. For that the host *marks*
//! its clock as it runs: what was buried at or before a mark was buried before the server had run that long.
//! Absent: who is behind the horizon (`welcome`, `stream`).

use super::{
    Host, HostNote, HostOutput, PeerId, Pipeline, Waiting,
    damage::{Damaged, DamagedRow, MISSING, Mended, Suspect, is_later},
    heal::{get_record, rows_of},
    layout::{self, Stored},
    peer::Stage,
};
use crate::{
    hlc::Hlc,
    id::{RecordKey, Seq},
    io::{Answer, Batch, CommitOutcome, Keyspace, Query, Row},
    planted::Bug,
    protocol::message::{Bye, ByeCode},
    time::{Millis, MonoMillis, Now},
};
use alloc::{string::String, vec::Vec};
use core::num::NonZeroU32;

/// Dead records of one slice: about what a group of rows writes.
const GRAVES: NonZeroU32 = NonZeroU32::MIN.saturating_add(511);
/// Groups whose accepted rows one slice forgets.
const LEDGERS: NonZeroU32 = NonZeroU32::MIN.saturating_add(7);
/// Bytes of damaged rows that one slice forgets.
const KEPT_BYTES: NonZeroU32 = NonZeroU32::MIN.saturating_add((1 << 20) - 1);
/// A slice that is one burial of more records than that is read with so many times more.
const WIDER: u32 = 8;
/// So many marks are made in the time of retention: what is collected is older than that by one part at most.
const MARKS: u64 = 32;

/// How far the host has collected, and from when on it may go further.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Horizon {
    /// Dead records buried at or before this are not in the trees, nor in the store.
    pub(super) at: Hlc,
    /// Rows that were accepted at or before this are not in the store. Who was away for long has missed nothing
    /// where nothing was removed: so this is apart.
    pub(super) rows: Hlc,
    /// How long the server had run, and the clock then, ascending.
    pub(super) marks: Vec<(Millis, Hlc)>,
}

/// What is kept of the horizon while the host runs.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    /// Up to when may be collected, if there may be anything.
    pub(super) due: Option<Hlc>,
    /// Whether a slice goes before the jobs that wait.
    pub(super) turn: bool,
    /// Marks were made and are not stored.
    marked: bool,
    /// Nothing is left of what was due up to here.
    done: Hlc,
    /// Slices that were committed, for reads that were begun before.
    pub(super) slices: u64,
    /// Times as many rows are read.
    wider: u32,
}

/// What one slice is to take, before its records were read.
#[derive(Debug)]
pub(super) struct Chosen {
    slice: Slice,
    batch: Batch,
    graves: Vec<(RecordKey, Hlc)>,
}

/// What one slice takes.
#[derive(Debug)]
pub(super) struct Slice {
    horizon: Horizon,
    head: layout::Head,
    records: Vec<(RecordKey, u64)>,
    rows: usize,
    /// Damaged rows of which the bytes were kept.
    kept: usize,
    /// Whether more is due behind it.
    more: bool,
}

impl Host {
    /// How long the server has run.
    fn ran(&self, now: MonoMillis) -> Millis {
        Millis(self.config.ran.0.saturating_add(now.since(self.opened).0))
    }

    /// The horizon was read, and when the first rows were accepted that are in the ledger. A horizon that is damaged
    /// is none: who was away is told by the roots what is gone, and nobody loses what he alone has. Which rows are
    /// forgotten is taken to be as late as the ledger allows.
    pub(super) fn horizon_read(
        &mut self,
        now: Now,
        value: Option<&[u8]>,
        ledger: Option<&Row>,
        clock: Hlc,
    ) -> Result<(), Damaged> {
        let horizon = match value.map(layout::decode_horizon) {
            None => Horizon::default(),
            Some(Ok(horizon)) => horizon,
            Some(Err(later)) if is_later(&later) => return Err(later.into()),
            Some(Err(_)) => {
                let (row, mended) = (DamagedRow::Horizon, Mended::Assumed);
                self.out(HostOutput::Note(HostNote::Damaged { row, mended }));
                let before = |hlc: Hlc| Hlc::from_bits(hlc.to_bits().saturating_sub(1));
                let first = ledger.and_then(|row| layout::due_time(&row.key).ok());
                Horizon { rows: first.map_or(clock, before), ..Horizon::default() }
            }
        };
        self.take_horizon(now, horizon);
        Ok(())
    }

    /// The horizon is known. A server that lost the count of its time goes on from what it knows.
    fn take_horizon(&mut self, now: Now, horizon: Horizon) {
        let ran = self.ran(now.mono);
        self.horizon = horizon;
        self.marks.horizon = self.horizon.at;
        for (mark, _) in &mut self.horizon.marks {
            *mark = (*mark).min(ran);
        }
        self.collecting =
            Collecting { slices: self.collecting.slices + 1, ..Collecting::default() };
    }

    /// Marks the clock, and finds out what is due.
    pub(super) fn keep_horizon(&mut self, now: Now) {
        if !self.is_ready() || self.stopping {
            return;
        }
        let ran = self.ran(now.mono);
        let every = Millis((self.config.retention.0 / MARKS).max(1));
        let last = self.horizon.marks.last().copied();
        // While nothing is written no mark says more than the last one.
        let clock = self.written;
        let known = last.map(|(_, marked)| marked).unwrap_or_default();
        let news = clock > known.max(self.collecting.done);
        let next = last.map_or(ran, |(mark, _)| Millis(mark.0.saturating_add(every.0)));
        if news && ran >= next {
            self.horizon.marks.push((ran, clock));
            self.collecting.marked = true;
        }
        let ripe = |mark: Millis| mark.0.saturating_add(self.config.retention.0);
        let due = self.horizon.marks.iter().take_while(|(mark, _)| ran.0 >= ripe(*mark));
        let mut due = due.map(|(_, marked)| *marked).last();
        if self.config.planted.is(Bug::HorizonByClock) {
            let wall = now.wall.0.saturating_sub(self.config.retention.0);
            due = due.max(Some(Hlc::at(crate::time::WallMillis(wall))));
        }
        self.collecting.due = due.filter(|due| *due > self.collecting.done);
        let ripens = self.horizon.marks.iter().map(|(mark, _)| ripe(*mark)).find(|at| *at > ran.0);
        let marks = news.then_some(next.0).filter(|at| *at > ran.0);
        if let Some(at) = ripens.into_iter().chain(marks).min() {
            let wait = Millis((at - ran.0).min(LOOK_WITHIN.0));
            self.wake_by(now.mono + wait);
        }
    }

    /// Starts a slice, if one is due and it is its turn.
    pub(super) fn start_slice(&mut self) -> bool {
        let Collecting { due, turn, marked, wider, .. } = self.collecting;
        if (due.is_none() && !marked) || !(turn || self.jobs.is_empty()) {
            return false;
        }
        let scan = |prefix: &[u8], limit: NonZeroU32| {
            let range = layout::due(prefix, due.unwrap_or_default());
            let limit = limit.saturating_mul(NonZeroU32::MIN.saturating_add(wider));
            Query::scan(Keyspace::Meta, range, limit)
        };
        let queries = Vec::from([
            scan(layout::GRAVE_KEY, GRAVES),
            scan(layout::LEDGER_KEY, LEDGERS),
            Query::Scan {
                keyspace: Keyspace::Meta,
                range: layout::due(layout::DAMAGED_KEY, due.unwrap_or_default()),
                limit: NonZeroU32::MAX,
                bytes: KEPT_BYTES,
            },
            Query::Get { keyspace: Keyspace::Meta, key: layout::QUARANTINE_KEY.to_vec() },
        ]);
        self.pipeline = Pipeline::Choosing(None);
        let ticket = self.ticket(Waiting::Group);
        self.out(HostOutput::Query { ticket, queries });
        true
    }

    /// What is due was read: takes what was read whole.
    pub(super) fn choose_slice(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        let more = |answer: &Answer| matches!(answer, Answer::Page(page) if page.more);
        let cut: Vec<bool> = answers.iter().map(more).collect();
        let count = match answers.last() {
            Some(Answer::Value(Some(count))) => layout::decode_count(count).unwrap_or_default(),
            _ => 0,
        };
        let mut pages = answers.into_iter().map(rows_of);
        let graves = pages.next().unwrap_or_default();
        let ledgers = pages.next().unwrap_or_default();
        let kept = pages.next().unwrap_or_default();
        let (buried, accepted) = (times(&graves), times(&ledgers));
        let mut upto = self.collecting.due.unwrap_or_default();
        for (times, cut) in [&buried, &accepted].into_iter().zip(&cut) {
            let last = times.last().copied().unwrap_or_default();
            if *cut {
                // Of the last time there may be more.
                let whole = times.iter().rev().find(|time| **time < last);
                let Some(whole) = whole.copied() else {
                    self.collecting.wider =
                        self.collecting.wider.saturating_add(1).saturating_mul(WIDER);
                    self.pipeline = Pipeline::Idle;
                    self.collecting.turn = true;
                    self.start_slice();
                    return Ok(());
                };
                upto = upto.min(whole);
            }
        }
        self.collecting.wider = 0;
        let reached = |times: &[Hlc]| times.iter().copied().filter(|time| *time <= upto).max();
        let (dead, rows) = (reached(&buried), reached(&accepted));
        let mut batch = Batch::default();
        let mut slice = Slice {
            horizon: self.horizon.clone(),
            head: self.head,
            records: Vec::new(),
            rows: 0,
            kept: forget_kept(&mut batch, kept, count),
            more: cut.contains(&true),
        };
        slice.horizon.at = slice.horizon.at.max(dead.unwrap_or_default());
        slice.horizon.rows = slice.horizon.rows.max(rows.unwrap_or_default());
        let due = self.collecting.due.unwrap_or_default();
        if !slice.more {
            slice.horizon.marks.retain(|(_, marked)| *marked > due);
        }
        let mut named = Vec::new();
        for (row, at) in graves.into_iter().zip(buried).filter(|(_, at)| *at <= upto) {
            if let Ok(key) = layout::parse_grave(&row.key) {
                named.push((key, at));
            }
            batch.delete(Keyspace::Meta, row.key);
        }
        let ledgers = ledgers.into_iter().zip(accepted).filter(|(_, at)| *at <= upto);
        match forget_rows(&mut batch, ledgers.map(|(row, _)| row)) {
            Ok(rows) => slice.rows = rows,
            // It is put right first; what is due is chosen again.
            Err(damaged) if damaged.suspect.is_some() => {
                self.suspect(damaged);
                return Ok(());
            }
            Err(later) => return Err(later),
        }
        if named.is_empty() {
            self.commit_slice(now, slice, batch);
            return Ok(());
        }
        let queries = named.iter().map(|(key, _)| get_record(key)).collect();
        self.pipeline = Pipeline::Choosing(Some(Chosen { slice, batch, graves: named }));
        let ticket = self.ticket(Waiting::Group);
        self.out(HostOutput::Query { ticket, queries });
        Ok(())
    }

    /// The records were read of which an index says that they are dead. Only what they say themselves counts.
    pub(super) fn graves_read(
        &mut self,
        now: Now,
        chosen: Chosen,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Chosen { mut slice, mut batch, graves } = chosen;
        for ((key, at), answer) in graves.into_iter().zip(answers) {
            let stored = match answer {
                Answer::Value(value) => value.as_deref().map(Stored::decode).transpose(),
                Answer::Page(_) => Err(MISSING),
            };
            let is_that_of_the_trees = |stored: Option<Stored>| {
                let differs = self.differs(&key, stored.as_ref()).is_some();
                if differs { Err(MISSING) } else { Ok(stored) }
            };
            let stored = match stored.and_then(is_that_of_the_trees) {
                Ok(stored) => stored,
                Err(later) if is_later(&later) => return Err(later.into()),
                // It is put right first; what is due is chosen again.
                Err(error) => {
                    self.suspect(Damaged::record(&key, error));
                    return Ok(());
                }
            };
            if let Some(stored) = stored.filter(|stored| stored.record.burial() == Some(at)) {
                delete_record(&mut batch, &key, stored.positions.latest);
                slice.records.push((key, stored.bytes.len() as u64));
            }
        }
        self.commit_slice(now, slice, batch);
        Ok(())
    }

    fn commit_slice(&mut self, now: Now, mut slice: Slice, mut batch: Batch) {
        if slice.records.is_empty()
            && (slice.rows, slice.kept) == (0, 0)
            && slice.horizon == self.horizon
            && !self.collecting.marked
        {
            self.pipeline = Pipeline::Idle;
            self.collected_all();
            return self.start_group(now);
        }
        // A clock that is exhausted stands still.
        self.clock.tick(now.wall).ok();
        slice.head.clock = self.clock.last();
        let head = layout::HEAD_KEY.to_vec();
        batch.guard(Keyspace::Meta, head.clone(), self.head_bytes.clone());
        batch.put(Keyspace::Meta, head, slice.head.encode());
        batch.put(
            Keyspace::Meta,
            layout::HORIZON_KEY.to_vec(),
            layout::encode_horizon(&slice.horizon),
        );
        self.pipeline = Pipeline::Collecting(slice);
        let ticket = self.ticket(Waiting::Group);
        self.out(HostOutput::Commit { ticket, batch });
    }

    /// A slice is durable: trees and tail follow, and who is behind the horizon starts over.
    pub(super) fn slice_committed(&mut self, now: Now, slice: Slice, outcome: CommitOutcome) {
        if outcome == CommitOutcome::Conflict {
            return self.head_contested();
        }
        self.head_bytes = Some(slice.head.encode());
        self.head = slice.head;
        self.collecting.slices += 1;
        self.collecting.marked = false;
        self.collecting.turn = false;
        let records = slice.records.len();
        for (key, len) in slice.records {
            if let Some(collection) = self.collections.get_mut(&key.collection) {
                collection.trie.remove(&crate::id::key_hash(&key));
                collection.bytes = collection.bytes.saturating_sub(len);
                if collection.trie.is_empty() {
                    self.collections.remove(&key.collection);
                }
            }
            self.tail.forget(&key);
        }
        self.horizon = slice.horizon;
        self.marks.horizon = self.horizon.at;
        if !slice.more {
            self.collected_all();
        }
        if records > 0 || slice.rows > 0 {
            let (horizon, rows) = (self.horizon.at.max(self.horizon.rows), slice.rows);
            self.out(HostOutput::Note(HostNote::Collected { horizon, records, rows }));
        }
        if records > 0 {
            self.roots.clear();
            self.send_stale_away(now);
        }
        self.keep_horizon(now);
        self.start_group(now);
    }

    fn collected_all(&mut self) {
        let due = self.collecting.due.take().unwrap_or_default();
        self.collecting.done = self.collecting.done.max(due);
    }

    /// Whether who knows all up to `time` may lack what was collected.
    pub(super) fn is_behind_horizon(&self, time: Hlc) -> bool {
        time < self.horizon.at && !self.config.planted.is(Bug::HorizonIgnored)
    }

    fn send_stale_away(&mut self, now: Now) {
        let stale = self.peers.iter().filter(|(_, peer)| {
            let mut streams = peer.streams.iter();
            peer.stage == Stage::Confirmed
                && streams.any(|stream| self.is_behind_horizon(stream.time))
        });
        let stale: Vec<PeerId> = stale.map(|(id, _)| *id).collect();
        for id in stale {
            self.start_over(now, id);
        }
    }

    /// A peer missed what was collected.
    pub(super) fn start_over(&mut self, now: Now, id: PeerId) {
        let bye = Bye {
            code: ByeCode::Busy,
            reason: String::from("what was collected has not come here: say hello again"),
            retry_after: Some(Millis(0)),
        };
        self.bye(now, id, bye);
    }
}

/// When each row of an index is due; one whose key does not say it is as old as can be.
fn times(rows: &[Row]) -> Vec<Hlc> {
    rows.iter().map(|row| layout::due_time(&row.key).unwrap_or_default()).collect()
}

/// Deletes what was kept of damaged rows, which may hold what was erased since: how many.
fn forget_kept(batch: &mut Batch, kept: Vec<Row>, count: u64) -> usize {
    let forgotten = kept.len();
    if forgotten > 0 {
        let left = layout::encode_count(count.saturating_sub(forgotten as u64));
        batch.put(Keyspace::Meta, layout::QUARANTINE_KEY.to_vec(), left);
    }
    kept.into_iter().for_each(|row| batch.delete(Keyspace::Meta, row.key));
    forgotten
}

/// Deletes accepted rows, what stands under their origins, and that they were to be deleted: how many.
fn forget_rows(batch: &mut Batch, ledgers: impl Iterator<Item = Row>) -> Result<usize, Damaged> {
    let mut count = 0;
    for Row { key, value } in ledgers {
        let rows = layout::decode_ledger(&value).map_err(|error| {
            let suspect = (!is_later(&error)).then(|| Suspect::ledger(key.clone()));
            Damaged { error, suspect }
        })?;
        for key in rows {
            count += usize::from(layout::parse_log_key(&key).is_some());
            batch.delete(Keyspace::Log, key);
        }
        batch.delete(Keyspace::Meta, key);
    }
    Ok(count)
}

/// Deletes all of a record but its burial.
pub(super) fn delete_record(batch: &mut Batch, key: &RecordKey, seq: Seq) {
    batch.delete(Keyspace::Feed, layout::feed_key(seq, key));
    batch.delete(Keyspace::Records, layout::record_key(key));
    let hash = crate::id::key_hash(key);
    batch.delete(Keyspace::Tree, layout::tree_key(&key.collection, &hash));
}

/// What is due is looked for at least that often: a wait is counted in milliseconds that must not overflow.
const LOOK_WITHIN: Millis = Millis(3_600_000);
