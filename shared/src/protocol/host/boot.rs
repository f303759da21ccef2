//! Opening the store: whose it is, what it holds; and again after a fault.
//!
//! Invariant: the epoch of this run is durable before anything else is committed or said. After a fault
//! nothing in memory is trusted: the outcome of the commit that failed is unknown.

use super::{
    Host, HostNote, HostOutput, Phase, Waiting,
    heal::rows_of,
    layout::{self, Damaged, Head, TreeRow},
};
use crate::{
    hlc::{Hlc, HlcClock},
    id::Seq,
    io::{Answer, Batch, CommitOutcome, FaultClass, KeyRange, Keyspace, Query},
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
        let queries =
            alloc::vec![get(layout::HEAD_KEY), get(layout::LINEAGE_KEY), get(layout::HORIZON_KEY),];
        self.phase = Phase::Reading;
        let ticket = self.ticket(Waiting::Boot);
        self.out(HostOutput::Query { ticket, queries });
    }

    pub(super) fn boot_read(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        match self.phase {
            Phase::Reading => self.head_read(now, answers),
            Phase::Loading => self.rows_read(now, answers),
            Phase::Claiming | Phase::Ready | Phase::Waiting(_) | Phase::Over => Ok(()),
        }
    }

    fn head_read(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        let mut values = answers.into_iter().map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        });
        let head = values.next().flatten();
        let lineage = values.next().flatten();
        let horizon = values.next().flatten();
        let stored = head.as_deref().map(Head::decode).transpose()?;
        self.lineage = match lineage {
            Some(lineage) => layout::decode_lineage(&lineage)?,
            None => Vec::new(),
        };
        let horizon = horizon.as_deref().map(layout::decode_horizon).transpose()?;
        self.take_horizon(now, horizon.unwrap_or_default());
        self.head_bytes = head;
        match stored {
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
            let left = Left { epoch: stored.epoch, seq: stored.seq, hlc: stored.clock };
            self.lineage.insert(0, left);
            self.lineage.truncate(LINEAGE_MAX);
        }
        self.head = Head {
            epoch: self.marks.epoch,
            seq: stored.map_or(Seq(0), |stored| stored.seq),
            clock,
        };
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
            let (collection, hash) = layout::parse_tree_key(&row.key)?;
            let tree_row = TreeRow::decode(&row.value)?;
            let collection = self.collections.entry(collection).or_default();
            collection.trie.insert(hash, tree_row.digest);
            collection.bytes += tree_row.len;
            last = Some(row.key);
        }
        match last {
            Some(mut start) if more => {
                // The least key behind this one.
                start.push(0);
                self.scan_tree(KeyRange { start, end: None });
            }
            Some(_) | None => self.opened(now),
        }
        Ok(())
    }

    fn opened(&mut self, now: Now) {
        self.phase = Phase::Ready;
        self.out(HostOutput::Note(HostNote::Ready {
            epoch: self.marks.epoch,
            head: self.head.seq,
            records: self.collections.values().map(|collection| collection.trie.len() as u64).sum(),
        }));
        self.keep_horizon(now);
        self.start_group();
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
