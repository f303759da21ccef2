//! Folding the log into pages; `load` comes back from both.
//!
//! The fold takes only received rows: outbox rows stay in the log under their number until they are
//! done. It goes in batches of bounded size: the earlier ones write pages alone, the last one the rest of them,
//! the header and `folded`, and deletes from the log. Until then the log is read from the old `folded` on, and each
//! page says up to which entry it is ahead of that (as pages do in ARIES: Mohan et al., "ARIES: A Transaction
//! Recovery Method", 1992, <https://doi.org/10.1145/128765.128770>). Invariant: behind the entry up to which the
//! last pages are ahead, a replica that was loaded is as the one that wrote them. Whoever has not applied the log
//! up to `folded` reloads.

use super::{
    bytes::encode_commit,
    entry::Settlement,
    overlay::RowState,
    page::{Slice, encode_header, rewrite},
    state::{Header, Replica},
};
use crate::{
    codec::{seal, unseal},
    id::{Pattern, ReplicaId, SpaceId},
    io::{Batch, KeyRange, Keyspace, Query},
    planted::Bug,
    sorted::{SortedMap, SortedSet},
};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// Meta key of the header that the last fold wrote.
pub const META_HEADER: &[u8] = b"header";
/// Meta key of how far the log is folded: the number of the last entry, and of the batches of pages that a fold
/// under way has written, 8 bytes big-endian each, sealed. So each of them is noticed by every other holder.
pub const META_FOLDED: &[u8] = b"folded";
/// Meta key of the outbox rows that ended since the last fold, as of the last batch of the one under way: per row
/// its number and that of the entry that ended it, 8 bytes big-endian each, sealed. A base that is ahead cannot tell: the
/// record may have lost the row since, and got it again. Absent while no fold is under way.
pub(super) const META_FINISHED: &[u8] = b"finished";
/// Meta key of the fencing token of the leader.
pub const META_LEADER: &[u8] = b"leader";

/// Tags of the seals.
const FOLDED: u8 = b'F';
const FINISHED: u8 = b'E';

/// Received bytes in the log at which folding pays.
const FOLD_BYTES_MIN: usize = 512 << 10;
/// Entries in the log at which folding pays.
pub(super) const FOLD_ENTRIES_MIN: u64 = 512;
/// Bytes of pages that one batch of a fold writes, and those of a page more: other commits wait no longer. They
/// double with every eighth batch. Where
/// an entry did not fit what was held (a defect of either end), or gave the replica another id, the fold is one
/// batch: reading such an entry again must find the base as it was.
pub(super) const FOLD_BYTES_MAX: usize = 4 << 20;

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

/// The highest number of an entry: a script holds it exactly. No log gets there.
pub(super) const NUMBER_MAX: u64 = (1 << 53) - 1;

/// The number of the last folded entry, as [`META_FOLDED`] tells it.
#[must_use]
pub fn folded_number(value: &[u8]) -> Option<u64> {
    folded_and_slices(value).map(|(folded, _)| folded)
}

pub(super) fn folded_and_slices(value: &[u8]) -> Option<(u64, u64)> {
    let (folded, slices) = unseal(FOLDED, value).ok()?.split_first_chunk()?;
    let folded = u64::from_be_bytes(*folded);
    (folded <= NUMBER_MAX).then_some((folded, log_number(slices)?))
}

/// What a replica is loaded from; to be read from one snapshot.
#[must_use]
pub fn load_queries() -> Vec<Query> {
    let all = |keyspace| Query::scan(keyspace, KeyRange::default(), NonZeroU32::MAX);
    let get = |key: &[u8]| Query::Get { keyspace: Keyspace::Meta, key: key.to_vec() };
    Vec::from([
        get(META_HEADER),
        get(META_FOLDED),
        get(META_LEADER),
        get(META_FINISHED),
        all(Keyspace::Page),
        all(Keyspace::Log),
    ])
}

impl Replica {
    /// What makes an empty store the replica `fresh`: guarded, so that of several holders one is first.
    #[must_use]
    pub fn found(fresh: ReplicaId, patterns: &[Pattern], space: Option<&SpaceId>) -> Batch {
        let mut batch = Batch::default();
        batch.guard(Keyspace::Meta, META_HEADER.to_vec(), None);
        let header = Header { space: space.cloned(), ..Self::new(fresh, patterns).header };
        let header = encode_header(&header, 0);
        batch.put(Keyspace::Meta, META_HEADER.to_vec(), header);
        batch
    }

    /// Whether a fold pays now.
    #[must_use]
    pub fn wants_fold(&self) -> bool {
        let entries = self.last - self.folded;
        let pays = self.unfolded_bytes >= FOLD_BYTES_MIN || entries >= self.fold_entries_min;
        self.can_fold() && (pays || self.slices > 0 || self.mends)
    }

    /// Whether a fold is possible: nothing is tentative or staged, no heal is under way, and what damaged rows
    /// held was fetched anew: until then they stay, and tell every holder that reads them what is missing.
    #[must_use]
    pub fn can_fold(&self) -> bool {
        self.pages_known
            && !(self.mends && self.is_mending())
            && self.tentative.is_none()
            && self.base.staged_len() == 0
            && self.header.standings.iter().all(|(_, standing)| standing.heal.is_none())
            && self.last > self.folded
    }

    /// A batch, without guards, that folds everything up to [`Replica::last`], or as many pages of it as a
    /// batch takes; [`Replica::folded_to`] must follow when it is durable.
    #[must_use]
    pub fn fold(&self) -> Fold {
        // Changes that come while a fold is under way make pages dirty again: it must overtake them.
        let grown = self.fold_bytes_max.saturating_mul(1 << (self.slices / 8).min(20));
        let bytes_max = if self.folds_whole { usize::MAX } else { grown };
        let mut slice = rewrite(&self.base, &self.pages, self.last, bytes_max);
        let mut batch = Batch::default();
        for key in self.hollow.iter().filter(|key| !slice.writes.contains_key(*key)) {
            if slice.rest.is_some() {
                slice.hollow.insert(key.clone());
            } else {
                slice.index.remove(key);
                batch.delete(Keyspace::Page, key.clone());
            }
        }
        for (key, page) in core::mem::take(&mut slice.writes) {
            match page {
                Some(bytes) => batch.put(Keyspace::Page, key, bytes),
                None => batch.delete(Keyspace::Page, key),
            }
        }
        let (folded, slices) = match slice.rest {
            Some(_) => (self.folded, self.slices + 1),
            None => (self.last, 0),
        };
        let folded = seal(FOLDED, [folded.to_be_bytes(), slices.to_be_bytes()].concat());
        batch.put(Keyspace::Meta, META_FOLDED.to_vec(), folded.clone());
        if slice.rest.is_none() {
            self.fold_header(&mut batch);
        } else {
            batch.put(Keyspace::Meta, META_FINISHED.to_vec(), encode_finished(&self.finished));
        }
        Fold { batch, folded, slice }
    }

    /// What the last batch of a fold writes beside pages.
    fn fold_header(&self, batch: &mut Batch) {
        if self.slices > 0 {
            batch.delete(Keyspace::Meta, META_FINISHED.to_vec());
        }
        let mut header = self.header.clone();
        header.settled = self.overlay.rows().filter_map(settlement_of).collect();
        batch.put(Keyspace::Meta, META_HEADER.to_vec(), encode_header(&header, self.last));
        for number in self.folded + 1..=self.last {
            let held = self.overlay.get(number).is_some() || self.damage.rows.contains(&number);
            if !held || self.has(Bug::FoldTakesOutbox) {
                batch.delete(Keyspace::Log, log_key(number));
            }
        }
        for number in self.finished.range(..=self.folded).map(|(number, _)| number) {
            batch.delete(Keyspace::Log, log_key(*number));
        }
        for number in &self.rewritten {
            if let Some(outbox) = self.overlay.get(*number) {
                batch.put(Keyspace::Log, log_key(*number), encode_commit(&outbox.row));
            }
        }
    }

    /// The fold is durable.
    pub fn folded_to(&mut self, fold: Fold) {
        let Slice { index, hollow, rest, .. } = fold.slice;
        self.pages = index;
        self.base.paged(rest.as_ref());
        self.hollow = hollow;
        if rest.is_some() {
            self.slices += 1;
            return;
        }
        self.folded = self.last;
        self.slices = 0;
        self.folds_whole = false;
        self.mends = false;
        self.rewritten = SortedSet::new();
        self.finished = SortedMap::new();
        self.unfolded_bytes = 0;
    }

    /// Another holder of the store has folded, and this one had applied everything that was folded.
    /// It can go on, but must load anew before it folds itself: its idea of the pages is out of date.
    pub fn folded_elsewhere(&mut self, folded: u64) {
        self.folded = folded;
        self.slices = 0;
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
    /// What [`META_FOLDED`] is once it is durable.
    pub folded: Vec<u8>,
    slice: Slice,
}

fn encode_finished(finished: &SortedMap<u64, u64>) -> Vec<u8> {
    let pairs = finished.iter().flat_map(|(row, entry)| [row.to_be_bytes(), entry.to_be_bytes()]);
    seal(FINISHED, pairs.flatten().collect())
}

/// The rows that each entry ended; `None` when that is damaged.
pub(super) fn decode_finished(bytes: &[u8]) -> Option<SortedMap<u64, Vec<u64>>> {
    let (numbers, _) = unseal(FINISHED, bytes).ok()?.as_chunks::<8>();
    let (pairs, _) = numbers.as_chunks::<2>();
    let mut finished: SortedMap<u64, Vec<u64>> = SortedMap::new();
    for [row, entry] in pairs {
        finished.entry(u64::from_be_bytes(*entry)).or_default().push(u64::from_be_bytes(*row));
    }
    Some(finished)
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

#[cfg(test)]
mod tests {
    use super::{FOLDED, NUMBER_MAX, folded_number};
    use crate::{
        codec::seal,
        id::ReplicaId,
        replica::{Replica, page},
    };

    #[test]
    fn numbers_that_no_log_reaches_are_damage() {
        for (number, known) in [(NUMBER_MAX, true), (NUMBER_MAX + 1, false), (u64::MAX, false)] {
            let told = seal(FOLDED, [number.to_be_bytes(), 0u64.to_be_bytes()].concat());
            assert_eq!(folded_number(&told), known.then_some(number));
            let replica = Replica::new(ReplicaId::from_bytes([1; 16]), &[]);
            let header = page::encode_header(&replica.header, number);
            assert_eq!(page::decode_header(&header).is_ok(), known);
        }
    }
}
