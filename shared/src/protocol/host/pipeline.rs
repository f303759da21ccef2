//! The one write pipeline of a space: openings, rows and recalls of all peers, in the order of arrival.
//!
//! Invariant: a group is read once, judged and joined in memory, and committed once, guarded by the head
//! it was based on; nobody hears of it before it is durable. Jobs of one replica therefore see each other
//! in order: a recall sees every row before it. Absent: what a peer may do (see `judge` and `welcome`).

use super::{
    Host, HostNote, HostOutput, PeerId, Waiting,
    damage::{Damaged, Suspect},
    direct::{DirectWrite, direct_bytes},
    feed::Recent,
    group::{Judged, Judging, Known, Touched},
    horizon::{Chosen, Slice},
    layout,
    refill::WaitingRefill,
    scrub::Step,
};
use crate::{
    id::{RecordKey, key_hash},
    io::{Answer, CommitOutcome, FaultClass},
    planted::Bug,
    protocol::{
        limits::BATCH_RECORDS_MAX,
        message::{Ack, Bye, ByeCode, Message, Outcome, PushRow, Recall},
    },
    sorted::SortedSet,
    time::Now,
};
use alloc::{boxed::Box, string::String, vec::Vec};

/// Most jobs, bytes and records of one group.
const GROUP_JOBS_MAX: usize = 512;
const GROUP_BYTES_MAX: usize = 1 << 20;
const GROUP_RECORDS_MAX: usize = 2 * BATCH_RECORDS_MAX;
/// What a row of a recall counts: it takes few bytes to name, and a read to answer.
const RECALL_ROW_BYTES: usize = 256;
/// Most records that a peer can hold back by rows that were not accepted.
pub(super) const HELD_MAX: usize = 20_000;

/// One thing to be done in order.
#[derive(Debug)]
pub(super) enum Job {
    Open(PeerId),
    Row(WaitingRow),
    Recall(PeerId, Recall),
    Refill(WaitingRefill),
    Direct(Box<DirectWrite>),
}

/// A pushed row that waits.
#[derive(Debug)]
pub(super) struct WaitingRow {
    pub(super) peer: PeerId,
    pub(super) named: u64,
    pub(super) bytes: usize,
    pub(super) row: PushRow,
}

impl Job {
    /// Whose it is; a direct write is no peer's.
    pub(super) fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Open(peer) | Self::Recall(peer, _) => Some(*peer),
            Self::Row(row) => Some(row.peer),
            Self::Refill(refill) => Some(refill.peer),
            Self::Direct(_) => None,
        }
    }
}

/// What the pipeline is doing.
#[derive(Debug, Default)]
pub(super) enum Pipeline {
    #[default]
    Idle,
    Reading(Vec<Job>, Known),
    Committing(Box<Judged>),
    /// What is due to be collected is being read, then the records of what was chosen.
    Choosing(Option<Chosen>),
    Collecting(Slice),
    /// A slice of the scrub has it.
    Scrubbing(Step),
}

impl Pipeline {
    pub(super) const fn is_committing(&self) -> bool {
        match self {
            Self::Committing(_) | Self::Collecting(_) => true,
            Self::Scrubbing(step) => step.is_commit(),
            Self::Idle | Self::Reading(..) | Self::Choosing(_) => false,
        }
    }
}

impl Host {
    /// Starts the next group if none is at work.
    pub(super) fn start_group(&mut self, now: Now) {
        self.start_scrub();
        if !self.is_ready() || self.stopping || !matches!(self.pipeline, Pipeline::Idle) {
            return;
        }
        if self.start_slice() || self.gathering.holds(now.mono, self.jobs.len()) {
            return;
        }
        let mut jobs = Vec::new();
        let mut known = Known::default();
        let mut bytes = 0;
        while let Some(job) = self.jobs.front() {
            let size = match job {
                Job::Row(row) => row.bytes,
                Job::Refill(refill) => refill.bytes,
                Job::Recall(_, recall) => recall.rows.len() * RECALL_ROW_BYTES,
                Job::Direct(write) => direct_bytes(write),
                Job::Open(_) => 0,
            };
            let full = jobs.len() >= GROUP_JOBS_MAX
                || bytes + size > GROUP_BYTES_MAX
                || known.records.len() >= GROUP_RECORDS_MAX;
            if full && !jobs.is_empty() {
                break;
            }
            let Some(job) = self.jobs.pop_front() else {
                break;
            };
            match (&job, job.peer().map(|id| self.peers.get(&id))) {
                (_, Some(Some(peer))) => known.want(peer, &job),
                (Job::Direct(write), None) => {
                    let (writer, _) = self.marks.writer(&write.grant.principal);
                    known.want_direct(writer, write);
                }
                // Jobs of peers that are gone have nobody to answer to, and were never acknowledged.
                (_, Some(None) | None) => continue,
            }
            bytes += size;
            jobs.push(job);
        }
        if jobs.is_empty() {
            return;
        }
        let queries = known.queries(self.clock.last().wall());
        self.pipeline = Pipeline::Reading(jobs, known);
        let ticket = self.ticket(Waiting::Group);
        self.out(HostOutput::Query { ticket, queries });
    }

    /// The group was read: judge it and commit.
    pub(super) fn group_read(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        let (jobs, mut known) = match core::mem::take(&mut self.pipeline) {
            _ if self.stopping => return Ok(()),
            Pipeline::Reading(jobs, known) => (jobs, known),
            Pipeline::Choosing(None) => return self.choose_slice(now, answers),
            Pipeline::Choosing(Some(chosen)) => return self.graves_read(now, chosen, answers),
            Pipeline::Idle
            | Pipeline::Committing(_)
            | Pipeline::Collecting(_)
            | Pipeline::Scrubbing(_) => return Ok(()),
        };
        let mut answers = answers.into_iter();
        let mut damaged = known.fill(&mut answers).map_err(Damaged::from)?;
        damaged.extend(
            known.records.iter().filter_map(|(key, stored)| self.differs(key, stored.as_deref())),
        );
        if !damaged.is_empty() {
            // Nothing is judged by what cannot be read: that is put right first.
            jobs.into_iter().rev().for_each(|job| self.jobs.push_front(job));
            self.suspect_all(damaged);
            return Ok(());
        }
        // A clock that is exhausted stands still: stamps of writers are not taken from it.
        let mut clock = self.clock;
        clock.tick(now.wall).ok();
        let mut group = Judging {
            now,
            clock,
            limits: self.config.limits,
            planted: self.config.planted,
            refill: self.config.refill,
            horizon: self.horizon.at,
            forgotten: self.horizon.rows,
            marks: self.marks.clone(),
            lineage: &self.lineage,
            watched: !self.watchers.is_empty(),
            room: self.room(),
            known,
            judged: Judged::new(self.head),
        };
        group.judged.memos.forget(answers.next());
        for job in jobs {
            let job = match job {
                Job::Direct(write) => {
                    group.direct(*write);
                    continue;
                }
                Job::Open(_) | Job::Row(_) | Job::Recall(..) | Job::Refill(_) => job,
            };
            let known = job.peer().and_then(|id| Some((id, self.peers.get_mut(&id)?)));
            let Some((id, peer)) = known else {
                continue;
            };
            group.judged.peers.insert(id);
            match job {
                Job::Direct(_) => {}
                Job::Open(id) => group.open(id, peer),
                Job::Recall(id, recall) => {
                    peer.recall_waits = false;
                    group.recall(id, peer, &recall);
                }
                Job::Row(row) => {
                    peer.rows_waiting = peer.rows_waiting.saturating_sub(1);
                    peer.bytes_waiting = peer.bytes_waiting.saturating_sub(row.bytes);
                    group.row(peer, &row);
                }
                Job::Refill(waiting) => group.refill(peer, waiting),
            }
        }
        self.clock = group.clock;
        self.commit_group(now, group.judged);
        Ok(())
    }

    fn commit_group(&mut self, now: Now, mut judged: Judged) {
        if judged.is_empty() {
            return self.settle(now, judged);
        }
        judged.head.clock = self.clock.last();
        if self.config.planted.is(Bug::AckBeforeCommit) {
            for (id, outcomes) in core::mem::take(&mut judged.acks) {
                self.acknowledge(now, id, outcomes);
            }
        }
        let mut batch = judged.batch(&self.head_bytes);
        batch.relaxed = self.config.planted.is(Bug::RemovalsUnsynced) && judged.only_removes();
        self.pipeline = Pipeline::Committing(Box::new(judged));
        self.gathering.commits(now.mono);
        let ticket = self.ticket(Waiting::Group);
        self.out(HostOutput::Commit { ticket, batch });
    }

    /// Nothing was committed since a record was read: it is the one that the trees have, or damaged.
    pub(super) fn differs(
        &self,
        key: &RecordKey,
        stored: Option<&layout::Stored>,
    ) -> Option<Suspect> {
        let leaf = self.leaf(&key.collection, &key_hash(key));
        let is_same = leaf == stored.map(|stored| stored.digest);
        (!is_same).then(|| Suspect::record(key))
    }

    /// The group's commit came back.
    pub(super) fn group_committed(&mut self, now: Now, outcome: CommitOutcome) {
        let judged = match core::mem::take(&mut self.pipeline) {
            Pipeline::Committing(judged) => judged,
            Pipeline::Collecting(slice) => return self.slice_committed(now, slice, outcome),
            Pipeline::Idle
            | Pipeline::Reading(..)
            | Pipeline::Choosing(_)
            | Pipeline::Scrubbing(_) => return,
        };
        match outcome {
            CommitOutcome::Applied => {
                self.head_bytes = Some(judged.head.encode());
                self.written = judged.head.clock;
                self.settle(now, *judged);
            }
            CommitOutcome::Conflict => {
                self.fail_direct();
                self.head_contested();
            }
        }
    }

    /// The store failed under a group. Nobody is acknowledged; whoever had a part in it comes back and
    /// sends again what was not acknowledged.
    pub(super) fn group_failed(&mut self, now: Now, class: FaultClass) {
        let peers: SortedSet<PeerId> = match core::mem::take(&mut self.pipeline) {
            Pipeline::Idle
            | Pipeline::Choosing(_)
            | Pipeline::Collecting(_)
            | Pipeline::Scrubbing(_) => SortedSet::new(),
            Pipeline::Reading(jobs, _) => jobs.iter().filter_map(Job::peer).collect(),
            // It may have happened: who has copies of its rows asks before anything else.
            Pipeline::Committing(mut judged) => {
                let holders = self.holders(&judged.origins);
                judged.peers.extend(holders.into_iter().map(|(id, _)| id));
                judged.peers
            }
        };
        for id in peers {
            self.dismiss_for_fault(now, id, class);
        }
        self.fail_direct();
        self.reload_after(now, class);
    }

    /// What was judged holds: trees, tail, acknowledgements, welcomes, fan-out, in this order.
    fn settle(&mut self, now: Now, judged: Judged) {
        self.head = judged.head;
        for (key, touched) in judged.touched {
            self.take_in(&key, &touched);
            self.tail.push(key, Recent { stored: touched.stored, conflicts: touched.conflicts });
        }
        self.tail.trim(self.config.recent_bytes_max);
        self.roots.clear();
        for note in judged.notes {
            self.out(HostOutput::Note(note));
        }
        self.gathering.answered(now.mono, judged.acks.len(), self.jobs.len());
        for (id, outcomes) in judged.acks {
            self.acknowledge(now, id, outcomes);
        }
        for (number, answer) in judged.written {
            self.answer_direct(number, answer);
        }
        for (id, recalled) in judged.recalled {
            let accepted = recalled.accepted.len();
            self.send(now, id, &Message::Recalled(recalled));
            self.out(HostOutput::Note(HostNote::Recalled { peer: id, accepted }));
        }
        for answer in judged.refilled {
            self.refilled(now, answer);
        }
        for (id, (after, reason)) in judged.later {
            let bye =
                Bye { code: ByeCode::Busy, reason: String::from(reason), retry_after: Some(after) };
            self.bye(now, id, bye);
        }
        for (id, told) in judged.welcomes {
            self.welcome(now, id, told);
        }
        // Before the changes that bring them: a row and its copy are never shown together.
        self.tell_copies(now, judged.origins);
        self.fan_out(now);
        self.keep_horizon(now);
        self.collecting.turn = true;
        self.start_group(now);
    }

    fn take_in(&mut self, key: &RecordKey, touched: &Touched) {
        let (hash, row) = layout::tree_row(key, &touched.stored);
        if self.config.planted.is(Bug::LeafSkipped) && row.seq.0.is_multiple_of(4) {
            return;
        }
        let collection = self.collections.entry(key.collection.clone()).or_default();
        collection.trie.insert(hash, row.digest);
        let before = touched.before.map_or(0, |before| before.len);
        collection.bytes = collection.bytes.saturating_add(row.len).saturating_sub(before);
    }

    fn acknowledge(&mut self, now: Now, id: PeerId, outcomes: Vec<(u64, Outcome)>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let rows = outcomes.len();
        let accepted = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Accepted { .. }))
            .count();
        peer.pushed += accepted as u64;
        let overheld = peer.held.len() > HELD_MAX;
        self.out(HostOutput::Note(HostNote::Pushed {
            peer: id,
            accepted,
            refused: rows - accepted,
            head: self.head.seq,
        }));
        self.send(now, id, &Message::Ack(Ack { outcomes }));
        if overheld {
            self.dismiss(now, id, ByeCode::Busy, "too many records are held back");
        }
    }
}
