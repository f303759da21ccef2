//! Reading back: whether pages, log and header hold what the memory holds, and the trees what the records do.
//!
//! The memory was loaded from sealed rows or came from the peer, so what is damaged in the store is written again
//! from it, by the next fold: nothing is fetched, and what only this replica has is not given up. Invariant: only
//! the holder that folds reads back, since only it knows what pages there are; what it writes is guarded like any
//! fold. Absent: when to read, and the reading itself.

use super::{
    base::Base,
    bytes::decode_entry,
    fold::{folded_and_slices, log_number},
    page::{decode_header, decode_page, from_store_key},
    state::Replica,
};
use crate::{
    codec::{record_digest, seal, unseal},
    id::{RecordKey, key_hash},
    io::Row,
    sorted::{SortedMap, SortedSet},
    time::WallMillis,
};
use alloc::vec::Vec;
use core::ops::Bound;

/// Meta key of the wall time at which everything was read back last, 8 bytes big-endian, sealed.
pub const META_SCRUBBED: &[u8] = b"scrubbed";
/// Tag of its seal.
const SCRUBBED: u8 = b'S';

/// The value of [`META_SCRUBBED`].
#[must_use]
pub fn encode_scrubbed(at: WallMillis) -> Vec<u8> {
    seal(SCRUBBED, at.0.to_be_bytes().to_vec())
}

/// When everything was read back last; `None` when that is damaged.
#[must_use]
pub fn decode_scrubbed(value: &[u8]) -> Option<WallMillis> {
    let bytes = unseal(SCRUBBED, value).ok()?.try_into().ok()?;
    Some(WallMillis(u64::from_be_bytes(bytes)))
}

impl Replica {
    /// Compares the pages behind `after`, as they were read, with the base; `more`: others follow. How many are
    /// damaged, missing or hold something else: the next fold writes them again.
    pub fn read_back_pages(&mut self, after: Option<&[u8]>, rows: &[Row], more: bool) -> u64 {
        if !self.pages_known || self.slices > 0 {
            return 0;
        }
        let stored: SortedMap<&[u8], &[u8]> =
            SortedMap::from_iter(rows.iter().map(|row| (row.key.as_slice(), row.value.as_slice())));
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let last = rows.last().filter(|_| more).map(|row| row.key.as_slice());
        let end = last.map_or(Bound::Unbounded, Bound::Included);
        let known: Vec<Vec<u8>> = self.pages.range::<[u8], _>((start, end)).cloned().collect();
        let mut damaged = 0;
        for page in &known {
            if self.holds_page(page, stored.get(page.as_slice()).copied()) {
                continue;
            }
            damaged += 1;
            // It goes, unless records are written to it again.
            self.hollow.insert(page.clone());
            let (from, to) = self.page_range(page);
            self.base.redo(from.as_ref(), to.as_ref());
        }
        self.mends |= damaged > 0;
        self.folds_whole |= damaged > 0;
        damaged
    }

    /// The keys of a page: its first record, and that of the next one.
    fn page_range(&self, page: &[u8]) -> (Option<RecordKey>, Option<RecordKey>) {
        let behind = (Bound::Excluded(page), Bound::Unbounded);
        let next = self.pages.range::<[u8], _>(behind).next();
        (from_store_key(page), next.and_then(|next| from_store_key(next)))
    }

    /// Whether a page holds what the base does, but for what was changed since.
    fn holds_page(&self, page: &[u8], stored: Option<&[u8]>) -> bool {
        let Some(Ok(stored)) = stored.map(decode_page) else {
            return false;
        };
        let stored: SortedMap<_, _> = SortedMap::from_iter(stored.leaves);
        let (from, to) = self.page_range(page);
        let Some(from) = from else {
            return false;
        };
        let within = |key: &RecordKey| to.as_ref().is_none_or(|to| key < to);
        let mut held = self.base.range_from(&from).take_while(|(key, _)| within(key));
        held.all(|(key, held)| {
            self.base.dirty().contains_key(key)
                || stored.get(key).and_then(Option::as_ref) == Some(held)
        })
    }

    /// Checks the entries of the log behind `after`, as they were read; `more`: others follow. How many are damaged or
    /// missing: local writes are written again by the next fold, and it takes the others out of the log. What was
    /// damaged when the log was loaded is not told again.
    pub fn read_back_log(&mut self, after: &[u8], rows: &[Row], more: bool) -> u64 {
        if !self.pages_known {
            return 0;
        }
        let is_whole = |row: &&Row| decode_entry(&row.value).is_ok();
        let whole: SortedSet<u64> = SortedSet::from_iter(
            rows.iter().filter(is_whole).filter_map(|row| log_number(&row.key)),
        );
        let start = log_number(after).map_or(0, |after| after.saturating_add(1));
        let read = rows.last().and_then(|row| log_number(&row.key));
        let end = read.filter(|_| more).unwrap_or(self.last);
        let mut damaged = 0;
        let local = self.overlay.rows_from(start).map(|(number, _)| number);
        let local = local.take_while(|number| *number <= end.min(self.last));
        for number in local.filter(|number| !whole.contains(number)) {
            self.rewritten.insert(number);
            damaged += 1;
        }
        // Of entries that are folded only local writes are left, and those that have ended: they go.
        for number in start.max(self.folded.saturating_add(1))..=end.min(self.last) {
            let is_known = whole.contains(&number) || self.damage.rows.contains(&number);
            damaged += u64::from(!is_known && self.overlay.get(number).is_none());
        }
        self.mends |= damaged > 0;
        damaged
    }

    /// Checks the header and how far the log is folded, as they were read. How many are damaged or missing: the
    /// next fold writes both.
    pub fn read_back_header(&mut self, header: Option<&[u8]>, folded: Option<&[u8]>) -> u64 {
        let header = header.is_none_or(|header| decode_header(header).is_err());
        let folded = folded.is_some_and(|folded| folded_and_slices(folded).is_none());
        let damaged = u64::from(header) + u64::from(folded);
        self.mends |= damaged > 0;
        damaged
    }

    /// Compares up to `limit` records behind `after` with their leaves in the trees, if trees were built. Where one
    /// differs all trees are forgotten, to be built from the records when next asked for.
    pub fn check_trees(&mut self, after: Option<&RecordKey>, limit: usize) -> TreeCheck {
        self.base.check_trees(after, limit)
    }
}

/// How far the trees are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeCheck {
    /// Up to this record they are right.
    Behind(RecordKey),
    /// They are those of the records.
    Right,
    /// They were not, and are forgotten.
    Wrong,
}

impl Base {
    /// Every record from `start` up to `end` is to be written to a page again.
    fn redo(&mut self, start: Option<&RecordKey>, end: Option<&RecordKey>) {
        let Some(start) = start else { return };
        let within = |key: &RecordKey| end.is_none_or(|end| key < end);
        let held: Vec<RecordKey> = self
            .range_from(start)
            .map(|(key, _)| key)
            .take_while(|key| within(key))
            .cloned()
            .collect();
        for key in held {
            self.dirty_mut().entry(key).or_insert(false);
        }
    }

    fn check_trees(&mut self, after: Option<&RecordKey>, limit: usize) -> TreeCheck {
        if !self.has_trees() {
            return TreeCheck::Right;
        }
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut right = true;
        let (records, trees) = self.records_and_trees();
        for (key, held) in records.range((start, Bound::Unbounded)).take(limit) {
            let tree = trees.get(&key.collection);
            let leaf = tree.and_then(|tree| tree.get(&key_hash(key)));
            right &= leaf == Some(record_digest(&held.bytes));
            last = Some(key.clone());
        }
        let count: usize = trees.values().map(crate::tree::Trie::len).sum();
        if !right || (last.is_none() && count != records.len()) {
            self.forget_trees();
            return TreeCheck::Wrong;
        }
        last.map_or(TreeCheck::Right, TreeCheck::Behind)
    }
}
