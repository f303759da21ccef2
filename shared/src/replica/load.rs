//! Coming back from pages and log, also when some of their rows are damaged.
//!
//! A damaged page or entry is left out, and every subscription that it may have concerned gives up its cursor:
//! the next session heals it. Local writes are loaded from wherever they stand; one that is damaged itself keeps
//! its bytes in the store. Invariant: loading changes nothing there, and what is left out is told
//! ([`Replica::damage`]). Only the header has no substitute: it alone knows under which id stamps were issued.
//! What is whole and not understood was written by a later version: then nothing is left out, nothing is loaded.

use super::{
    base::Base,
    bytes::{decode_entry, ruin_of},
    entry::{Entry, Settlement},
    fold::{decode_finished, folded_and_slices, log_number},
    overlay::{Overlay, RowState},
    page::{PageIndex, decode_header, decode_page, from_store_key},
    state::{Applied, Replica},
};
use crate::{
    codec::{CodecError, CodecFault, decode_record},
    id::{Pattern, RecordKey, ReplicaId},
    io::Row,
    sorted::{SortedMap, SortedSet},
};
use alloc::vec::Vec;
use core::ops::Bound;

/// Batches that a fold under way is taken to have written when that number is damaged: more than any has, so
/// that the next one does not look like one that another holder has seen.
const SLICES_UNKNOWN: u64 = 1 << 32;

/// The stored parts of a replica.
#[derive(Debug, Default)]
pub struct Stored {
    /// [`super::META_HEADER`].
    pub header: Option<Vec<u8>>,
    /// [`super::META_FOLDED`].
    pub folded: Option<Vec<u8>>,
    /// Outbox rows that an incomplete fold has ended.
    pub finished: Option<Vec<u8>>,
    /// Keyspace `Page`.
    pub pages: Vec<Row>,
    /// Keyspace `Log`.
    pub log: Vec<Row>,
}

/// What of a store is damaged and was left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Damage {
    /// Pages and entries that the peer has the content of: it is fetched anew in the next session.
    pub received: u64,
    /// Numbers of log entries that may be local writes. Their bytes stay in the store; nothing reads them.
    pub rows: SortedSet<u64>,
}

impl Damage {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received == 0 && self.rows.is_empty()
    }
}

/// Why a store cannot be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The header, which holds the id of the replica.
    #[error("the header cannot be read: {0}")]
    Header(CodecError),
    /// A page that is not damaged: a later version has written it.
    #[error("a page cannot be read: {0}")]
    Page(CodecError),
    /// A log entry that is not damaged: a later version has written it.
    #[error("log entry {number} cannot be read: {error}")]
    Entry {
        /// Its number.
        number: u64,
        /// What is not understood.
        error: CodecError,
    },
    /// The log has a gap, or ends before what the pages hold.
    #[error("the log has no entry {number}")]
    Missing {
        /// The number of the entry that is not there.
        number: u64,
    },
}

/// What loading finds out on its way.
#[derive(Debug)]
struct Loading {
    settled: SortedMap<u64, Settlement>,
    /// The entry up to which the pages are ahead.
    ahead_to: u64,
    /// The greatest number of an epoch in them.
    epoch_number: u32,
    /// Store keys of damaged pages.
    pages: Vec<Vec<u8>>,
    /// Whether an entry behind those that are folded is damaged, or what a fold had ended.
    log: bool,
}

impl Replica {
    /// The replica that `stored` holds; `fresh` is its id if nothing was ever stored.
    ///
    /// # Errors
    /// [`LoadError`] when the header is damaged, anything is of a later version, or an entry of the log is
    /// missing. Other damage is left out, see [`Self::damage`].
    pub fn load(
        stored: &Stored,
        fresh: ReplicaId,
        patterns: &[Pattern],
    ) -> Result<Self, LoadError> {
        let mut replica = Self::new(fresh, &[]);
        let mut loading = replica.load_header(stored)?;
        replica.base = Base::default();
        replica.pages = PageIndex::new();
        for page in &stored.pages {
            match replica.load_page(page, &mut loading) {
                Ok(()) => {}
                Err(error) if error.kind == CodecFault::Damaged => {
                    loading.pages.push(page.key.clone());
                    // It goes when a fold is complete, like a page of which nothing is left.
                    replica.pages.insert(page.key.clone());
                    replica.hollow.insert(page.key.clone());
                }
                Err(error) => return Err(LoadError::Page(error)),
            }
        }
        if replica.slices > 0 {
            let ended = stored.finished.as_deref().map(decode_finished).unwrap_or_default();
            loading.log |= stored.finished.is_some() && ended.is_none();
            replica.catching_up = Some(ended.unwrap_or_default());
        }
        replica.overlay = Overlay::default();
        replica.last = replica.folded;
        replica.load_log(&stored.log, &mut loading)?;
        replica.mend(&loading);
        replica.subscribe(patterns);
        Ok(replica)
    }

    fn load_header(&mut self, stored: &Stored) -> Result<Loading, LoadError> {
        let mut settled = SortedMap::new();
        if let Some(header) = &stored.header {
            (self.header, self.folded) = decode_header(header).map_err(LoadError::Header)?;
            settled = SortedMap::from_iter(core::mem::take(&mut self.header.settled));
        }
        if let Some(folded) = &stored.folded {
            // The header was written with it, but for the batches of a fold under way.
            let under_way = stored.finished.as_ref().map_or(0, |_| SLICES_UNKNOWN);
            let (known, slices) = (self.folded, under_way);
            (self.folded, self.slices) = folded_and_slices(folded).unwrap_or((known, slices));
        }
        let ahead_to = self.folded;
        Ok(Loading { settled, ahead_to, epoch_number: 0, pages: Vec::new(), log: false })
    }

    fn load_log(&mut self, log: &[Row], loading: &mut Loading) -> Result<(), LoadError> {
        if loading.ahead_to == self.folded && !loading.pages.is_empty() {
            // Every page that was ahead is damaged.
            self.caught_up();
        }
        for row in log {
            let missing = LoadError::Missing { number: self.last + 1 };
            let number = log_number(&row.key).ok_or(missing)?;
            // Over a gap, every row behind it would take another's number.
            if number > self.folded && number != self.last + 1 {
                return Err(missing);
            }
            let entry = match decode_entry(&row.value) {
                Ok(entry) => Some(entry),
                Err(error) if error.kind == CodecFault::Damaged => None,
                Err(error) => return Err(LoadError::Entry { number, error }),
            };
            match entry {
                Some(entry) if number > self.folded => {
                    drop(self.apply(entry).map_err(|error| LoadError::Entry { number, error })?);
                }
                Some(Entry::Commit(outbox)) => {
                    self.overlay.insert(number, outbox, RowState::Waiting);
                    if let Some(settlement) = loading.settled.get(&number) {
                        self.overlay.settle(number, settlement);
                    }
                }
                Some(_) => {}
                None if number > self.folded => {
                    loading.log = true;
                    self.skip(number, &row.value, loading.epoch_number);
                }
                // What is folded is in the pages: only local writes are left of it.
                None => drop(self.damage.rows.insert(number)),
            }
            if number > self.folded && number == loading.ahead_to {
                self.caught_up();
            }
        }
        if self.catching_up.is_some() {
            if loading.pages.is_empty() {
                return Err(LoadError::Missing { number: self.last + 1 });
            }
            self.caught_up();
        }
        Ok(())
    }

    fn caught_up(&mut self) {
        self.base.caught_up();
        self.catching_up = None;
    }

    /// Goes past an entry that is damaged.
    fn skip(&mut self, number: u64, bytes: &[u8], epoch_number: u32) {
        let ruin = ruin_of(bytes);
        if ruin.may_be_row {
            self.damage.rows.insert(number);
        } else {
            self.damage.received += 1;
        }
        self.in_doubt |= ruin.may_rename;
        // It may have welcomed another epoch: what comes is of none that is known, and takes precedence.
        let latest = self.header.epoch_number.max(epoch_number);
        self.header.epoch_number = latest.saturating_add(1);
        self.end_recorded(&mut Applied::default());
        self.last = number;
    }

    /// Makes the next session bring what damaged rows held. A cursor without an epoch promises nothing.
    fn mend(&mut self, loading: &Loading) {
        self.damage.received += loading.pages.len() as u64;
        if loading.pages.is_empty() && !loading.log {
            return;
        }
        self.mends = true;
        self.folds_whole = true;
        let collections: Vec<_> = loading.pages.iter().map(|key| self.collection_of(key)).collect();
        for (pattern, standing) in &mut self.header.standings {
            let concerned = |known: &Option<RecordKey>| {
                known.as_ref().is_none_or(|key| pattern.covers(&key.collection))
            };
            if loading.log || collections.iter().any(concerned) {
                self.base.unstage(pattern);
                standing.start_over();
                standing.epoch = None;
            }
        }
        // What ended them may be among what is lost.
        let keys: Vec<RecordKey> = self.overlay.keys().cloned().collect();
        self.retire(&keys, &mut Applied::default());
    }

    /// The first record that a page may have held, if all of them are of its collection.
    fn collection_of(&self, page: &[u8]) -> Option<RecordKey> {
        let first = from_store_key(page)?;
        let behind = (Bound::Excluded(page), Bound::Unbounded);
        let next = from_store_key(self.pages.range::<[u8], _>(behind).next()?)?;
        (next.collection == first.collection).then_some(first)
    }

    /// Takes in a page.
    fn load_page(&mut self, row: &Row, loading: &mut Loading) -> Result<(), CodecError> {
        let page = decode_page(&row.value)?;
        let is_ahead = page.asof > self.folded;
        if page.leaves.iter().all(|(_, held)| held.is_none()) {
            self.hollow.insert(row.key.clone());
        }
        for (key, held) in page.leaves {
            if is_ahead {
                self.base.load_ahead(key.clone(), page.asof, held.is_none());
            }
            if let Some(held) = held {
                loading.epoch_number = loading.epoch_number.max(held.epoch);
                if is_ahead && let Ok(record) = decode_record(&held.bytes) {
                    let stamps = record.seen.iter().map(|stamp| stamp.hlc);
                    let latest = stamps.max().unwrap_or_default();
                    self.header.observed = self.header.observed.max(latest);
                }
                self.base.load(key, held);
            }
        }
        self.pages.insert(row.key.clone());
        loading.ahead_to = loading.ahead_to.max(page.asof);
        Ok(())
    }

    /// What of the store is damaged, as it was read.
    #[must_use]
    pub const fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Whether an entry is lost that may have given this replica another id: which of its stamps the peer knows,
    /// and under which id, is asked before anything else.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether what was damaged is not made up for yet.
    pub(super) fn is_mending(&self) -> bool {
        let gave_up = |standing: &super::Standing| standing.arrived && standing.epoch.is_none();
        self.in_doubt || self.asked().any(|(_, _, standing)| gave_up(standing))
    }
}
