//! Folding the log into pages, and coming back from both.
//!
//! The fold takes only received rows: outbox rows stay in the log under their number until they are
//! done. Pages, header and `folded` change in one batch; whoever has not applied the log up to `folded`
//! reloads.

use super::{
    base::Base,
    bytes::encode_entry,
    entry::{Entry, Settlement},
    overlay::{Overlay, RowState},
    page::{PageIndex, decode_header, decode_page, encode_header, rewrite},
    state::Replica,
};
use crate::{
    codec::{CodecError, CodecFault},
    id::{Pattern, ReplicaId},
    io::{Batch, KeyRange, Keyspace, Query, Row},
    planted::Bug,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::num::NonZeroU32;

/// Meta key of the header that the last fold wrote.
pub const META_HEADER: &[u8] = b"header";
/// Meta key of the number of the last folded entry, 8 bytes big-endian.
pub const META_FOLDED: &[u8] = b"folded";
/// Meta key of the fencing token of the leader.
pub const META_LEADER: &[u8] = b"leader";

/// Received bytes in the log at which folding pays.
const FOLD_BYTES_MIN: usize = 512 << 10;
/// Entries in the log at which folding pays.
pub(super) const FOLD_ENTRIES_MIN: u64 = 512;

/// The store key of log entry `number`.
#[must_use]
pub fn log_key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The number in a log key.
#[must_use]
pub fn log_number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// What a replica is loaded from; to be read from one snapshot.
#[must_use]
pub fn load_queries() -> Vec<Query> {
    let all =
        |keyspace| Query::Scan { keyspace, range: KeyRange::default(), limit: NonZeroU32::MAX };
    let get = |key: &[u8]| Query::Get { keyspace: Keyspace::Meta, key: key.to_vec() };
    Vec::from([
        get(META_HEADER),
        get(META_FOLDED),
        get(META_LEADER),
        all(Keyspace::Page),
        all(Keyspace::Log),
    ])
}

/// The stored parts of a replica.
#[derive(Debug, Default)]
pub struct Stored {
    /// [`META_HEADER`].
    pub header: Option<Vec<u8>>,
    /// [`META_FOLDED`].
    pub folded: Option<Vec<u8>>,
    /// Keyspace `Page`.
    pub pages: Vec<Row>,
    /// Keyspace `Log`.
    pub log: Vec<Row>,
}

impl Replica {
    /// The replica that `stored` holds; `fresh` is its id if nothing was ever stored.
    ///
    /// # Errors
    /// [`CodecError`] when stored bytes are damaged or of a later version, or an entry of the log is
    /// missing.
    pub fn load(
        stored: &Stored,
        fresh: ReplicaId,
        patterns: &[Pattern],
    ) -> Result<Self, CodecError> {
        let mut replica = Self::new(fresh, &[]);
        let mut settled: BTreeMap<u64, Settlement> = BTreeMap::new();
        if let Some(header) = &stored.header {
            replica.header = decode_header(header)?;
            settled = core::mem::take(&mut replica.header.settled).into_iter().collect();
        }
        let damaged = CodecError { at: 0, kind: CodecFault::Range };
        if let Some(folded) = &stored.folded {
            replica.folded = log_number(folded).ok_or(damaged)?;
        }
        replica.base = Base::default();
        replica.pages = PageIndex::new();
        for page in &stored.pages {
            for (key, held) in decode_page(&page.value)? {
                replica.base.load(key, held);
            }
            replica.pages.insert(page.key.clone());
        }
        replica.overlay = Overlay::default();
        replica.last = replica.folded;
        for row in &stored.log {
            let number = log_number(&row.key).ok_or(damaged)?;
            if number > replica.folded {
                // Over a gap, every row behind it would take another's number.
                if number != replica.last + 1 {
                    return Err(damaged);
                }
                replica.apply_encoded(&row.value)?;
            } else if let Entry::Commit(outbox) = super::bytes::decode_entry(&row.value)? {
                replica.overlay.insert(number, outbox, RowState::Waiting);
                if let Some(settlement) = settled.get(&number) {
                    replica.overlay.settle(number, settlement);
                }
            }
        }
        replica.subscribe(patterns);
        Ok(replica)
    }

    /// What makes an empty store the replica `fresh`: guarded, so that of several holders one is first.
    #[must_use]
    pub fn found(fresh: ReplicaId, patterns: &[Pattern]) -> Batch {
        let mut batch = Batch::default();
        batch.guard(Keyspace::Meta, META_HEADER.to_vec(), None);
        let header = encode_header(&Self::new(fresh, patterns).header);
        batch.put(Keyspace::Meta, META_HEADER.to_vec(), header);
        batch
    }

    /// Whether a fold pays now.
    #[must_use]
    pub fn wants_fold(&self) -> bool {
        let entries = self.last - self.folded;
        self.can_fold()
            && (self.unfolded_bytes >= FOLD_BYTES_MIN || entries >= self.fold_entries_min)
    }

    /// Whether a fold is possible: nothing is tentative or staged.
    #[must_use]
    pub fn can_fold(&self) -> bool {
        self.pages_known
            && self.tentative.is_none()
            && self.base.staged_len() == 0
            && self.last > self.folded
    }

    /// A batch, without guards, that folds everything up to [`Replica::last`]; [`Replica::folded_to`]
    /// must follow when it is durable.
    #[must_use]
    pub fn fold(&self) -> Fold {
        let (writes, pages) = rewrite(&self.base, self.base.dirty(), &self.pages);
        let mut batch = Batch::default();
        for (key, page) in writes {
            match page {
                Some(bytes) => batch.put(Keyspace::Page, key, bytes),
                None => batch.delete(Keyspace::Page, key),
            }
        }
        let mut header = self.header.clone();
        header.settled = self.overlay.rows().filter_map(settlement_of).collect();
        batch.put(Keyspace::Meta, META_HEADER.to_vec(), encode_header(&header));
        batch.put(Keyspace::Meta, META_FOLDED.to_vec(), log_key(self.last));
        for number in self.folded + 1..=self.last {
            if self.overlay.get(number).is_none() || self.has(Bug::FoldTakesOutbox) {
                batch.delete(Keyspace::Log, log_key(number));
            }
        }
        for number in &self.finished {
            batch.delete(Keyspace::Log, log_key(*number));
        }
        for number in &self.rewritten {
            if let Some(outbox) = self.overlay.get(*number) {
                let bytes = encode_entry(&Entry::Commit(outbox.row.clone()));
                batch.put(Keyspace::Log, log_key(*number), bytes);
            }
        }
        Fold { batch, last: self.last, pages }
    }

    /// The fold is durable.
    pub fn folded_to(&mut self, fold: Fold) {
        self.folded = fold.last;
        self.pages = fold.pages;
        self.base.take_dirty();
        self.rewritten = BTreeSet::new();
        self.finished = BTreeSet::new();
        self.unfolded_bytes = 0;
    }

    /// Another holder of the store has folded, and this one had applied everything that was folded.
    /// It can go on, but must load anew before it folds itself: its idea of the pages is out of date.
    pub fn folded_elsewhere(&mut self, folded: u64) {
        self.folded = folded;
        self.pages_known = false;
        self.unfolded_bytes = 0;
    }

    /// Whether this holder knows the pages well enough to fold.
    #[must_use]
    pub const fn knows_pages(&self) -> bool {
        self.pages_known
    }
}

/// A fold under way.
#[derive(Debug)]
pub struct Fold {
    /// What to commit; the caller adds guards.
    pub batch: Batch,
    last: u64,
    pages: PageIndex,
}

fn settlement_of((number, outbox): (u64, &super::overlay::OutboxRow)) -> Option<(u64, Settlement)> {
    match &outbox.state {
        RowState::Waiting => None,
        RowState::Accepted(seq) => Some((number, Settlement::Accepted(*seq))),
        RowState::Rejected { code, reason } => {
            Some((number, Settlement::Rejected { code: *code, reason: reason.clone() }))
        }
    }
}
