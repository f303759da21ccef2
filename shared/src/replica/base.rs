//! Base: exactly what the peer has sent, as encoded records with their seq and proof.
//!
//! Only changes, snapshot and heal write it; an overlay row never does. What came since the last cut is
//! staged beside it. The trees are derived from the records when first asked for, never stored.

use crate::{
    codec::{CodecError, burial, decode_record, encode_record, record_digest, seen},
    hlc::Hlc,
    id::{CollectionName, Digest, Pattern, RecordKey, Seq, key_hash},
    message::{Body, ChunkRecord, Entry, Proof},
    record::{Record, VersionVector},
    sorted::{SortedMap, SortedSet},
    tree::{Trie, combine_roots},
};
use alloc::vec::Vec;

/// A record as the peer sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its position in the peer's feed.
    pub seq: Seq,
    /// Number of the epoch that `seq` lies in: how often another one than before had been welcomed.
    pub epoch: u32,
    /// The peer's mark.
    pub proof: Proof,
    /// The record in its stored form.
    pub bytes: Vec<u8>,
}

/// Why an entry does not fit what is held: the subscription needs healing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch(pub(super) RecordKey);

/// What a fold leaves for the next one: new keys from `from` on, and every key from `end` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) from: RecordKey,
    pub(super) end: Option<RecordKey>,
}

impl Rest {
    fn has(&self, key: &RecordKey, is_new: bool) -> bool {
        *key >= self.from && (is_new || self.end.as_ref().is_some_and(|end| key >= end))
    }
}

/// Records, visible and staged, with the trees over the visible ones.
#[derive(Debug, Default)]
pub struct Base {
    records: SortedMap<RecordKey, Held>,
    staged: SortedMap<RecordKey, Held>,
    /// Built for all collections at the first use.
    trees: Option<SortedMap<CollectionName, Trie>>,
    /// Visible dead records by the time of their burial; found when first asked for.
    graves: Option<SortedSet<(Hlc, RecordKey)>>,
    /// Changed since they were last written to a page, and whether no page has them.
    dirty: SortedMap<RecordKey, bool>,
    /// Dropped since the last fold was completed: until then pages say of them that they are gone.
    gone: SortedSet<RecordKey>,
    /// While the log is read again behind an incomplete fold: the entry up to which the pages are ahead.
    ahead: SortedMap<RecordKey, u64>,
}

impl Base {
    /// Takes in a record from a page.
    pub(super) fn load(&mut self, key: RecordKey, held: Held) {
        self.records.insert(key, held);
    }

    /// A page knew of `key` what entries up to `asof` did to it; `gone`: that it was dropped.
    pub(super) fn load_ahead(&mut self, key: RecordKey, asof: u64, gone: bool) {
        if gone {
            self.gone.insert(key.clone());
        }
        self.ahead.insert(key, asof);
    }

    /// The log was read.
    pub(super) fn caught_up(&mut self) {
        self.ahead = SortedMap::new();
    }

    /// Whether what entry `number` does to `key` is in a page already.
    pub(super) fn is_ahead(&self, key: &RecordKey, number: u64) -> bool {
        self.ahead.get(key).is_some_and(|asof| number <= *asof)
    }

    /// The visible record.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<&Held> {
        self.records.get(key)
    }

    /// The visible record, decoded; one that was never written is empty.
    ///
    /// # Errors
    /// [`CodecError`] when stored bytes are damaged.
    pub fn record(&self, key: &RecordKey) -> Result<Record, CodecError> {
        self.records
            .get(key)
            .map_or_else(|| Ok(Record::default()), |held| decode_record(&held.bytes))
    }

    /// What the visible record has seen: a record need not be decoded for that.
    ///
    /// # Errors
    /// [`CodecError`] when stored bytes are damaged; those behind it are not looked at.
    pub(super) fn seen(&self, key: &RecordKey) -> Result<VersionVector, CodecError> {
        self.records.get(key).map_or_else(|| Ok(VersionVector::new()), |held| seen(&held.bytes))
    }

    /// Visible records from `key` on, ascending.
    pub fn range_from(&self, key: &RecordKey) -> impl Iterator<Item = (&RecordKey, &Held)> {
        self.records.range(key.clone()..)
    }

    /// Every visible record, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&RecordKey, &Held)> {
        self.records.iter()
    }

    /// Visible records of one collection, ascending by id.
    pub fn collection<'a>(
        &'a self,
        name: &'a CollectionName,
    ) -> impl Iterator<Item = (&'a RecordKey, &'a Held)> {
        self.records
            .range(RecordKey::before_all_of(name)..)
            .take_while(move |(key, _)| key.collection == *name)
    }

    /// Number of visible records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is visible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of staged records.
    #[must_use]
    pub fn staged_len(&self) -> usize {
        self.staged.len()
    }

    /// Stages what log entry `number` brings. `own` applies the replica's rows on that record up to a stamp.
    pub(super) fn stage(
        &mut self,
        entry: Entry,
        (number, epoch): (u64, u32),
        own: impl FnOnce(&mut Record, Hlc),
    ) -> Result<(), Mismatch> {
        let Entry { key, seq, check, proof, body, .. } = entry;
        if self.is_ahead(&key, number) {
            return Ok(());
        }
        if self.is_newer(&key, seq, epoch) {
            return Ok(());
        }
        let held = self.staged.get(&key).or_else(|| self.records.get(&key));
        let before = held.map_or_else(|| Ok(Record::default()), |held| decode_record(&held.bytes));
        let record = match (body, before) {
            // Needs nothing of what was held: it mends a record whose bytes are damaged.
            (Body::Whole(record), _) => record,
            (Body::Delta(delta), Ok(before)) => replaced(before, delta),
            (Body::Own(upto), Ok(mut record)) => {
                own(&mut record, upto);
                record
            }
            (Body::Delta(_) | Body::Own(_), Err(_)) => return Err(Mismatch(key)),
        };
        let bytes = encode_record(&record);
        let fits = record_digest(&bytes).as_bytes().iter().zip(&check).all(|(a, b)| a == b);
        if !fits {
            return Err(Mismatch(key));
        }
        self.staged.insert(key, Held { seq, epoch, proof, bytes });
        Ok(())
    }

    /// Stages a record of a snapshot, as log entry `number` brings it.
    pub(super) fn stage_whole(&mut self, record: ChunkRecord, (number, epoch): (u64, u32)) {
        let ChunkRecord { key, seq, proof, bytes } = record;
        if !self.is_ahead(&key, number) && !self.is_newer(&key, seq, epoch) {
            self.staged.insert(key, Held { seq, epoch, proof, bytes });
        }
    }

    /// Whether the feed has brought a later state than the one of `seq`.
    fn is_newer(&self, key: &RecordKey, seq: Seq, epoch: u32) -> bool {
        let held = self.staged.get(key).or_else(|| self.records.get(key));
        held.is_some_and(|held| held.seq > seq && held.epoch == epoch)
    }

    /// Makes what is staged for `pattern` visible; returns the keys.
    pub(super) fn publish(&mut self, pattern: &Pattern) -> Vec<RecordKey> {
        let keys: Vec<RecordKey> =
            self.staged.keys().filter(|key| pattern.covers(&key.collection)).cloned().collect();
        for key in &keys {
            if let Some(held) = self.staged.remove(key) {
                if let Some(trees) = &mut self.trees {
                    let tree = trees.entry(key.collection.clone()).or_default();
                    tree.insert(key_hash(key), record_digest(&held.bytes));
                }
                self.fill_grave(key);
                self.dig_grave(key, &held);
                let is_new = self.records.insert(key.clone(), held).is_none();
                let is_new = is_new && !self.gone.contains(key);
                self.dirty.entry(key.clone()).or_insert(is_new);
            }
        }
        keys
    }

    /// Joins a row: a bug, in tests.
    pub(super) fn plant(&mut self, row: &super::intent::Row) {
        for write in &row.writes {
            if let (Ok(mut record), Some(held)) =
                (self.record(&write.key), self.records.get_mut(&write.key))
            {
                write.apply(row.stamp, &mut record);
                held.bytes = encode_record(&record);
                self.trees = None;
                self.graves = None;
            }
        }
    }

    /// Forgets what is staged for `pattern`.
    pub(super) fn unstage(&mut self, pattern: &Pattern) {
        self.staged.retain(|key, _| !pattern.covers(&key.collection));
    }

    fn dig_grave(&mut self, key: &RecordKey, held: &Held) {
        if let (Some(graves), Ok(Some(at))) = (&mut self.graves, burial(&held.bytes)) {
            graves.insert((at, key.clone()));
        }
    }

    fn fill_grave(&mut self, key: &RecordKey) {
        let held = self.records.get(key);
        if let (Some(graves), Some(held)) = (&mut self.graves, held)
            && let Ok(Some(at)) = burial(&held.bytes)
        {
            graves.remove(&(at, key.clone()));
        }
    }

    /// Visible dead records of `pattern` that were buried at or before `horizon`. The first call looks at every
    /// record; later ones cost what they find, and what other patterns have kept.
    pub(super) fn buried(&mut self, pattern: &Pattern, horizon: Hlc) -> Vec<RecordKey> {
        let records = &self.records;
        let graves = self.graves.get_or_insert_with(|| {
            let grave = |(key, held): (&RecordKey, &Held)| {
                burial(&held.bytes).ok().flatten().map(|at| (at, key.clone()))
            };
            records.iter().filter_map(grave).collect()
        });
        let due = graves.iter().take_while(|(at, _)| *at <= horizon).map(|(_, key)| key);
        due.filter(|key| pattern.covers(&key.collection)).cloned().collect()
    }

    /// Whether something is staged for the key.
    #[must_use]
    pub fn is_staged(&self, key: &RecordKey) -> bool {
        self.staged.contains_key(key)
    }

    /// Drops a visible record that the peer does not have.
    pub(super) fn drop_record(&mut self, key: &RecordKey) -> bool {
        self.fill_grave(key);
        if self.records.remove(key).is_none() {
            return false;
        }
        if let Some(tree) = self.trees.as_mut().and_then(|trees| trees.get_mut(&key.collection)) {
            tree.remove(&key_hash(key));
        }
        self.dirty.entry(key.clone()).or_insert(false);
        self.gone.insert(key.clone());
        true
    }

    /// What pages do not have yet, and whether no page has anything of it.
    pub(super) const fn dirty(&self) -> &SortedMap<RecordKey, bool> {
        &self.dirty
    }

    pub(super) const fn dirty_mut(&mut self) -> &mut SortedMap<RecordKey, bool> {
        &mut self.dirty
    }

    /// The records, and the trees as far as they are built.
    pub(super) fn records_and_trees(
        &self,
    ) -> (&SortedMap<RecordKey, Held>, &SortedMap<CollectionName, Trie>) {
        const NONE: &SortedMap<CollectionName, Trie> = &SortedMap::new();
        (&self.records, self.trees.as_ref().unwrap_or(NONE))
    }

    /// The trees are built anew when next asked for.
    pub(super) fn forget_trees(&mut self) {
        self.trees = None;
    }

    /// A leaf is not updated: a bug, in tests.
    pub(super) fn spoil(&mut self, keys: &[RecordKey]) {
        let (Some(trees), Some(key)) = (&mut self.trees, keys.first()) else {
            return;
        };
        if let Some(tree) = trees.get_mut(&key.collection) {
            tree.remove(&key_hash(key));
        }
    }

    /// Pages have what was dirty, but for the rest.
    pub(super) fn paged(&mut self, rest: Option<&Rest>) {
        match rest {
            Some(rest) => self.dirty.retain(|key, is_new| rest.has(key, *is_new)),
            None => {
                self.dirty.clear();
                self.gone.clear();
            }
        }
    }

    /// What pages are to say of the keys from `start` up to `end`: records, and keys that are gone.
    pub(super) fn leaves<'a>(
        &'a self,
        start: &RecordKey,
        end: Option<&RecordKey>,
    ) -> Vec<(&'a RecordKey, Option<&'a Held>)> {
        let within = |key: &RecordKey| end.is_none_or(|end| key < end);
        let held = self.records.range(start.clone()..).take_while(|(key, _)| within(key));
        let gone = self.gone.range(start.clone()..).take_while(|key| within(key));
        let gone = gone.filter(|key| !self.records.contains_key(*key)).map(|key| (key, None));
        let mut leaves: Vec<_> = held.map(|(key, held)| (key, Some(held))).chain(gone).collect();
        leaves.sort_unstable_by_key(|(key, _)| *key);
        leaves
    }

    /// The trees; built, in O(n) hashes, at the first use.
    pub fn trees(&mut self) -> &mut SortedMap<CollectionName, Trie> {
        let records = &self.records;
        self.trees.get_or_insert_with(|| {
            let mut trees: SortedMap<CollectionName, Trie> = SortedMap::new();
            for (key, held) in records {
                let tree = trees.entry(key.collection.clone()).or_default();
                tree.insert(key_hash(key), record_digest(&held.bytes));
            }
            trees
        })
    }

    /// Whether roots cost no rebuild.
    #[must_use]
    pub fn has_trees(&self) -> bool {
        self.trees.is_some()
    }

    /// Root over all collections that `pattern` covers.
    pub fn root(&mut self, pattern: &Pattern) -> Digest {
        let roots: Vec<(CollectionName, Digest)> = self
            .trees()
            .iter_mut()
            .filter(|(name, tree)| pattern.covers(name) && !tree.is_empty())
            .map(|(name, tree)| (name.clone(), tree.root()))
            .collect();
        combine_roots(roots.iter().map(|(name, root)| (name, *root)))
    }
}

/// Each part of `delta` takes the place of its predecessor.
fn replaced(mut record: Record, delta: Record) -> Record {
    for stamp in delta.seen.iter() {
        record.seen.set(stamp.replica, stamp.hlc);
    }
    for stamp in delta.removed.seen.iter() {
        record.removed.seen.set(stamp.replica, stamp.hlc);
    }
    if delta.removed.buried.is_some() {
        record.removed.buried = delta.removed.buried;
    }
    record.cells.extend(delta.cells);
    record
}
