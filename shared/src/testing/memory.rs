//! A store in memory that knows what a power loss would leave of it.
//!
//! It keeps, besides the current rows, how to undo every commit since the last synced one. A commit
//! that is not `relaxed` syncs all before it, as a write-ahead log does; a crash undoes
//! the rest, last first. Undoing costs what was written, never the size of the store.

use crate::{
    io::{Answer, Batch, CommitOutcome, Guard, KeyRange, Keyspace, Page, Query, Room, Row, Write},
    port::{Fault, FaultClass, Store},
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::{convert::Infallible, fmt, num::NonZeroU32, ops::Bound};
use std::sync::{Mutex, MutexGuard, PoisonError};

impl Fault for Infallible {
    fn class(&self) -> FaultClass {
        match *self {}
    }
}

/// What a key held before a write.
#[derive(Clone)]
struct Undo {
    keyspace: Keyspace,
    key: Vec<u8>,
    before: Option<Vec<u8>>,
}

#[derive(Clone, Default)]
struct State {
    rows: BTreeMap<Keyspace, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// One entry per commit that is not on stable storage, oldest first.
    relaxed: Vec<Vec<Undo>>,
    commits: u64,
}

impl State {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Option<&Vec<u8>> {
        self.rows.get(&keyspace)?.get(key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
        bytes: NonZeroU32,
    ) -> Page {
        // `BTreeMap::range` panics on an inverted range; here it is an empty one
        let inverted = range.end.as_ref().is_some_and(|end| *end <= range.start);
        let Some(rows) = self.rows.get(&keyspace).filter(|_| !inverted) else {
            return Page::default();
        };
        let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = rows.range::<[u8], _>((Bound::Included(range.start.as_slice()), end));
        let mut room = Room::new(limit, bytes);
        let mut rows = Vec::new();
        while !room.is_over() {
            let Some((key, value)) = found.next() else { break };
            let row = Row { key: key.clone(), value: value.clone() };
            room.take(&row);
            rows.push(row);
        }
        Page { rows, more: found.next().is_some() }
    }

    fn answer(&self, query: &Query) -> Answer {
        match query {
            Query::Get { keyspace, key } => Answer::Value(self.get(*keyspace, key).cloned()),
            Query::Scan { keyspace, range, limit, bytes } => {
                Answer::Page(self.scan(*keyspace, range, *limit, *bytes))
            }
        }
    }

    fn set(&mut self, keyspace: Keyspace, key: Vec<u8>, value: Option<Vec<u8>>) -> Undo {
        let rows = self.rows.entry(keyspace).or_default();
        let before = match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(&key),
        };
        Undo { keyspace, key, before }
    }

    fn holds(&self, guard: &Guard) -> bool {
        self.get(guard.keyspace, &guard.key) == guard.seen.as_ref()
    }

    fn commit(&mut self, batch: Batch) -> CommitOutcome {
        if !batch.guards.iter().all(|guard| self.holds(guard)) {
            return CommitOutcome::Conflict;
        }
        let undo = batch
            .writes
            .into_iter()
            .map(|write| match write {
                Write::Put { keyspace, row } => self.set(keyspace, row.key, Some(row.value)),
                Write::Delete { keyspace, key } => self.set(keyspace, key, None),
            })
            .collect();
        self.commits += 1;
        if batch.relaxed {
            self.relaxed.push(undo);
        } else {
            self.relaxed.clear();
        }
        CommitOutcome::Applied
    }

    fn crash_keeping(&mut self, kept: usize) {
        while self.relaxed.len() > kept {
            for undo in self.relaxed.pop().into_iter().flatten().rev() {
                self.set(undo.keyspace, undo.key, undo.before);
            }
        }
        self.relaxed.clear();
    }
}

/// A copy of everything that a [`MemoryStore`] holds, as an owner of the disk could take one.
#[derive(Clone)]
pub struct MemoryImage(State);

impl fmt::Debug for MemoryImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryImage").field("commits", &self.0.commits).finish_non_exhaustive()
    }
}

/// An ordered byte map in memory. A clone is another handle on the same rows.
///
/// Futures are ready when first polled. Reads and writes cost O(log rows) each.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryStore")
            .field("rows", &state.rows.values().map(BTreeMap::len).sum::<usize>())
            .field("commits", &state.commits)
            .field("relaxed_commits", &state.relaxed.len())
            .finish()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own with what `image` holds: a cloned disk.
    #[must_use]
    pub fn from_image(image: MemoryImage) -> Self {
        Self { state: Arc::new(Mutex::new(image.0)) }
    }

    /// Copies everything; O(bytes).
    #[must_use]
    pub fn snapshot(&self) -> MemoryImage {
        MemoryImage(self.state().clone())
    }

    /// Puts everything back to `image`, under every handle: a disk that was rolled back.
    pub fn restore(&self, image: MemoryImage) {
        *self.state() = image.0;
    }

    /// A power loss: every commit behind the last synced one is gone.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// A power loss that spared the `kept` oldest of the [`Self::relaxed_commits`] (all, if there are
    /// fewer). What is left is on stable storage.
    pub fn crash_keeping(&self, kept: usize) {
        self.state().crash_keeping(kept);
    }

    /// Puts everything on stable storage, as an idle device does in time.
    pub fn sync(&self) {
        self.state().relaxed.clear();
    }

    /// How many commits a power loss could take.
    #[must_use]
    pub fn relaxed_commits(&self) -> usize {
        self.state().relaxed.len()
    }

    /// How many batches were applied, ever.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    /// All rows of `keyspace`, ascending; O(bytes).
    #[must_use]
    pub fn rows(&self, keyspace: Keyspace) -> Vec<Row> {
        self.state().scan(keyspace, &KeyRange::default(), NonZeroU32::MAX, NonZeroU32::MAX).rows
    }

    /// A panic of another holder cannot leave half a batch: no code of a caller runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    type Error = Infallible;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.state().get(keyspace, key).cloned())
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, Infallible> {
        Ok(self.state().scan(keyspace, range, limit, NonZeroU32::MAX))
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, Infallible> {
        let state = self.state();
        Ok(queries.iter().map(|query| state.answer(query)).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, Infallible> {
        Ok(self.state().commit(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    fn put(store: &MemoryStore, key: &[u8], value: &[u8], relaxed: bool) {
        let mut batch = Batch { relaxed, ..Batch::default() };
        batch.put(Keyspace::Log, key.to_vec(), value.to_vec());
        assert_eq!(block_on(store.commit(batch)), Ok(CommitOutcome::Applied));
    }

    fn keys(store: &MemoryStore) -> Vec<Vec<u8>> {
        store.rows(Keyspace::Log).into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn crash_drops_the_relaxed_suffix_and_nothing_else() {
        let store = MemoryStore::new();
        put(&store, b"a", b"relaxed, then synced by b", true);
        put(&store, b"b", b"synced", false);
        put(&store, b"b", b"overwritten", true);
        put(&store, b"c", b"relaxed", true);
        assert_eq!(store.relaxed_commits(), 2);
        store.crash();
        assert_eq!(keys(&store), [b"a", b"b"]);
        assert_eq!(block_on(store.get(Keyspace::Log, b"b")), Ok(Some(b"synced".to_vec())));
    }

    #[test]
    fn crash_can_spare_a_prefix_of_the_suffix() {
        let store = MemoryStore::new();
        for key in [b"a", b"b", b"c"] {
            put(&store, key, b"", true);
        }
        store.crash_keeping(2);
        assert_eq!(keys(&store), [b"a", b"b"]);
        store.crash();
        assert_eq!(keys(&store), [b"a", b"b"], "what a crash left is on stable storage");
    }

    #[test]
    fn crash_brings_back_what_a_relaxed_delete_took() {
        let store = MemoryStore::new();
        put(&store, b"a", b"kept", false);
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        batch.delete(Keyspace::Log, b"a".to_vec());
        batch.put(Keyspace::Log, b"a".to_vec(), b"again".to_vec());
        batch.delete(Keyspace::Log, b"a".to_vec());
        assert_eq!(block_on(store.commit(batch)), Ok(CommitOutcome::Applied));
        assert!(keys(&store).is_empty());
        store.crash();
        assert_eq!(block_on(store.get(Keyspace::Log, b"a")), Ok(Some(b"kept".to_vec())));
    }

    #[test]
    fn a_clone_shares_rows_and_an_image_does_not() {
        let store = MemoryStore::new();
        put(&store, b"a", b"", false);
        let image = store.snapshot();
        let twin = MemoryStore::from_image(image.clone());
        let handle = store.clone();
        put(&handle, b"b", b"", false);
        assert_eq!(keys(&store), [b"a", b"b"]);
        assert_eq!(keys(&twin), [b"a"]);
        store.restore(image);
        assert_eq!(keys(&handle), [b"a"]);
    }
}
