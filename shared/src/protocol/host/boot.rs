//! Opening the store: whose it is, what it holds; and again after a fault.
//!
//! Invariant: the epoch of this run is durable before anything else is committed or said. After a fault
//! nothing in memory is trusted: the outcome of the commit that failed is unknown.

use super::{
    Host, HostNote, HostOutput, Phase, Waiting,
    damage::{Damaged, DamagedRow, Mended, is_later, next_epoch},
    heal::rows_of,
    layout::{self, Head, TreeRow},
    peer::Stage,
};
use crate::{
    hlc::{Hlc, HlcClock},
    id::Seq,
    io::{Answer, Batch, CommitOutcome, FaultClass, KeyRange, Keyspace, Query},
    planted::Bug,
    protocol::message::Left,
    time::{Millis, Now},
};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// Most earlier epochs that are remembered; who comes from an older one heals.
const LINEAGE_MAX: usize = 1_024;
/// Rows of one page while the trees are loaded.
const LOAD_ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);
/// How long a store that failed is left alone.
pub(super) const RETRY_AFTER: Millis = Millis(1_000);

impl Host {
    pub(super) fn read_head(&mut self) {
        let get = |key: &[u8]| Query::Get { keyspace: Keyspace::Meta, key: key.to_vec() };
        let keys = [layout::HEAD_KEY, layout::LINEAGE_KEY, layout::SCRUB_KEY, layout::HORIZON_KEY];
        let ledger = KeyRange::prefix(layout::LEDGER_KEY);
        let first = Query::scan(Keyspace::Meta, ledger, NonZeroU32::MIN);
        let queries = keys.map(get).into_iter().chain([first]).collect();
        self.phase = Phase::Reading;
        let ticket = self.ticket(Waiting::Boot);
        self.out(HostOutput::Query { ticket, queries });
    }

    pub(super) fn boot_read(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        match self.phase {
            Phase::Reading | Phase::Contested => self.head_read(now, answers),
            Phase::Surveying => {
                self.surveyed(now, answers);
                Ok(())
            }
            Phase::Loading => self.rows_read(now, answers),
            Phase::Claiming | Phase::Mending | Phase::Ready | Phase::Waiting(_) | Phase::Over => {
                Ok(())
            }
        }
    }

    fn head_read(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        let mut values = Vec::new();
        let mut ledger = None;
        for answer in answers {
            match answer {
                Answer::Value(value) => values.push(value),
                Answer::Page(page) => ledger = page.rows.into_iter().next(),
            }
        }
        let mut values = values.into_iter();
        let head = values.next().flatten();
        let lineage = values.next().flatten();
        self.scrub_was(values.next().flatten().as_deref());
        let stored = head.as_deref().map(Head::decode);
        let clock = match &stored {
            Some(Ok(stored)) => stored.clock,
            Some(Err(_)) | None => self.clock.last(),
        };
        self.horizon_read(now, values.next().flatten().as_deref(), ledger.as_ref(), clock)?;
        let stored = match stored {
            Some(Err(later)) if is_later(&later) => return Err(later.into()),
            Some(Err(_)) => {
                self.head_bytes = head;
                self.survey(KeyRange::default());
                return Ok(());
            }
            // It is whole, and not what a commit was based on: another host's.
            Some(Ok(_)) | None if self.phase == Phase::Contested => {
                self.give_up(now, None);
                return Ok(());
            }
            Some(Ok(stored)) => Some(stored),
            // It was stored with the lineage: it is lost, the store is not new.
            None if lineage.is_some() => {
                self.head_bytes = None;
                self.survey(KeyRange::default());
                return Ok(());
            }
            None => None,
        };
        self.lineage = match lineage.as_deref().map(layout::decode_lineage) {
            Some(Ok(lineage)) => lineage,
            Some(Err(later)) if is_later(&later) => return Err(later.into()),
            // Without it no earlier position is trusted; the epoch of this process may be among those used.
            Some(Err(_)) => {
                let (row, mended) = (DamagedRow::Lineage, Mended::Assumed);
                self.out(HostOutput::Note(HostNote::Damaged { row, mended }));
                let left = Left { epoch: self.marks.epoch, seq: Seq(0), hlc: Hlc::ZERO };
                alloc::vec![left]
            }
            None => Vec::new(),
        };
        // Of a commit that opened the next epoch it may not be known whether it happened.
        let renewed = self.head_bytes.as_deref().map(|head| next_epoch(&self.marks.epoch, head));
        self.head_bytes = head;
        match stored {
            Some(stored) if self.claimed && Some(stored.epoch) == renewed => {
                self.marks.epoch = stored.epoch;
                self.send_back(now, Millis(0), |peer| peer.stage != Stage::Opening);
                self.load(stored);
            }
            Some(stored) if stored.epoch == self.marks.epoch => self.load(stored),
            // Another host has opened the store since.
            _ if self.claimed => self.give_up(now, None),
            stored => self.claim(now, stored),
        }
        Ok(())
    }

    fn claim(&mut self, now: Now, stored: Option<Head>) {
        let mut clock = HlcClock::resume(stored.map_or(Hlc::ZERO, |stored| stored.clock));
        let clock = clock.tick(now.wall).unwrap_or_else(|_exhausted| clock.last());
        if let Some(stored) = stored {
            if self.lineage.iter().any(|left| left.epoch == self.marks.epoch) {
                // This process had opened the space before, and has lost a part of it since.
                let head = self.head_bytes.as_deref().unwrap_or_default();
                self.marks.epoch = next_epoch(&self.marks.epoch, head);
            }
            let left = Left { epoch: stored.epoch, seq: stored.seq, hlc: stored.clock };
            self.lineage.insert(0, left);
            self.lineage.truncate(LINEAGE_MAX);
        }
        self.head = Head {
            epoch: self.marks.epoch,
            seq: stored.map_or(Seq(0), |stored| stored.seq),
            clock,
        };
        self.commit_claim();
    }

    fn commit_claim(&mut self) {
        let mut batch = Batch::default();
        let key = || layout::HEAD_KEY.to_vec();
        batch.guard(Keyspace::Meta, key(), self.head_bytes.clone());
        batch.put(Keyspace::Meta, key(), self.head.encode());
        let lineage = layout::encode_lineage(&self.lineage);
        batch.put(Keyspace::Meta, layout::LINEAGE_KEY.to_vec(), lineage);
        self.phase = Phase::Claiming;
        let ticket = self.ticket(Waiting::Boot);
        self.out(HostOutput::Commit { ticket, batch });
    }

    /// The head is not what a commit was based on: it is another host's, or damaged.
    pub(super) fn head_contested(&mut self) {
        self.read_head();
        self.phase = Phase::Contested;
    }

    /// The head is damaged: where the feed ends is read from the feed. No earlier position is trusted, as no
    /// epoch is known.
    fn survey(&mut self, range: KeyRange) {
        self.phase = Phase::Surveying;
        let scan = Query::scan(Keyspace::Feed, range, LOAD_ROWS);
        let ticket = self.ticket(Waiting::Boot);
        self.out(HostOutput::Query { ticket, queries: alloc::vec![scan] });
    }

    fn surveyed(&mut self, now: Now, answers: Vec<Answer>) {
        let more = answers.iter().any(|answer| matches!(answer, Answer::Page(page) if page.more));
        let mut last = None;
        for row in answers.into_iter().flat_map(rows_of) {
            // What was known of the head before is not behind it.
            if let Ok((seq, _)) = layout::parse_feed_key(&row.key) {
                self.head.seq = self.head.seq.max(seq);
            }
            last = Some(row.key);
        }
        if let (Some(mut start), true) = (last, more) {
            start.push(0);
            return self.survey(KeyRange { start, end: None });
        }
        // No stamp of this host may come twice, and none be before what is collected.
        let marked = self.horizon.marks.iter().map(|(_, clock)| *clock);
        let marked = marked.chain([self.horizon.at, self.horizon.rows]);
        self.clock = HlcClock::resume(marked.fold(self.clock.last(), Hlc::max));
        let clock = self.clock.tick(now.wall).unwrap_or_else(|_exhausted| self.clock.last());
        // This run's epoch may have been used before.
        let used = Left { epoch: self.marks.epoch, seq: Seq(0), hlc: clock };
        self.lineage = alloc::vec![used];
        let bytes = self.head_bytes.as_deref().unwrap_or_default();
        self.marks.epoch = next_epoch(&self.marks.epoch, bytes);
        // What was lost with the head may have been behind all that is there.
        let seq = Seq(self.head.seq.0.saturating_add(1));
        self.head = Head { epoch: self.marks.epoch, seq, clock };
        let (row, mended) = (DamagedRow::Head, Mended::Assumed);
        self.out(HostOutput::Note(HostNote::Damaged { row, mended }));
        self.send_back(now, Millis(0), |_| true);
        self.commit_claim();
    }

    pub(super) fn boot_committed(&mut self, outcome: CommitOutcome) {
        if self.phase != Phase::Claiming {
            return;
        }
        match outcome {
            CommitOutcome::Applied => {
                self.head_bytes = Some(self.head.encode());
                self.load(self.head);
            }
            // Another host was faster: take over from it.
            CommitOutcome::Conflict => self.read_head(),
        }
    }

    fn load(&mut self, head: Head) {
        self.claimed = true;
        self.head = head;
        self.clock = HlcClock::resume(self.clock.last().max(head.clock));
        self.collections.clear();
        self.roots.clear();
        self.written = head.clock;
        self.tail.reset(head.seq);
        self.forget_suspects();
        self.unread_leaves = false;
        self.reaches = Seq(0);
        self.phase = Phase::Loading;
        self.scan_tree(KeyRange::default());
    }

    fn scan_tree(&mut self, range: KeyRange) {
        let scan = Query::scan(Keyspace::Tree, range, LOAD_ROWS);
        let ticket = self.ticket(Waiting::Boot);
        self.out(HostOutput::Query { ticket, queries: alloc::vec![scan] });
    }

    fn rows_read(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        let more = answers.iter().any(|answer| matches!(answer, Answer::Page(page) if page.more));
        let mut last = None;
        for row in answers.into_iter().flat_map(rows_of) {
            let key = layout::parse_tree_key(&row.key);
            match (key, TreeRow::decode(&row.value)) {
                (_, Err(later)) if is_later(&later) => return Err(later.into()),
                (Ok((collection, hash)), Ok(tree_row)) => {
                    let collection = self.collections.entry(collection).or_default();
                    collection.trie.insert(hash, tree_row.digest);
                    collection.bytes += tree_row.len;
                    self.reaches = self.reaches.max(tree_row.seq);
                }
                (Err(_), _) | (_, Err(_)) => self.unread_leaves = true,
            }
            last = Some(row.key);
        }
        match last {
            Some(mut start) if more => {
                // The least key behind this one.
                start.push(0);
                self.scan_tree(KeyRange { start, end: None });
            }
            // The head is an earlier one than the last that was written.
            Some(_) | None if self.reaches > self.head.seq => {
                self.head.seq = self.reaches;
                self.survey(KeyRange::default());
            }
            Some(_) | None if self.unread_leaves => self.mend_first(),
            Some(_) | None => self.opened(now),
        }
        Ok(())
    }

    pub(super) fn opened(&mut self, now: Now) {
        self.phase = Phase::Ready;
        self.plan_scrub(now);
        self.out(HostOutput::Note(HostNote::Ready {
            epoch: self.marks.epoch,
            head: self.head.seq,
            records: self.collections.values().map(|collection| collection.trie.len() as u64).sum(),
        }));
        self.keep_horizon(now);
        if self.config.planted.is(Bug::BootCollects) {
            self.collecting.due = Some(self.head.clock);
        }
        self.start_group(now);
        self.fan_out(now);
    }

    /// The store failed where the host itself needed it.
    pub(super) fn reload_after(&mut self, now: Now, class: FaultClass) {
        if self.phase == Phase::Over {
            return;
        }
        self.out(HostOutput::Note(HostNote::StoreFailed { class }));
        match class {
            FaultClass::Transient | FaultClass::Full if self.stopping => {
                self.phase = Phase::Over;
                self.bye_to_all(now);
            }
            FaultClass::Transient | FaultClass::Full => {
                let at = now.mono + RETRY_AFTER;
                self.phase = Phase::Waiting(at);
                self.wake_by(at);
            }
            FaultClass::Corrupt | FaultClass::Permanent => self.give_up(now, Some(class)),
        }
    }
}
