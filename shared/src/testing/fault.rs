//! A store that fails on demand.
//!
//! The n-th read or commit from now on fails, once or for ever. A failing read read nothing. A
//! failing commit leaves the old state, or the new one with the answer lost on the way back (a
//! process that died, a connection that broke after `COMMIT`), never a mixture.

use crate::{
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query},
    port::{Fault, FaultClass, Store},
};
use alloc::{sync::Arc, vec::Vec};
use core::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which calls a [`Plan`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `get`, `scan` and `read`.
    Read,
    /// `commit`.
    Commit,
}

/// How often a [`Plan`] strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// At one call.
    Once,
    /// At that call and at every later one, until disarmed.
    Forever,
}

/// What a failing commit leaves behind. Reads leave nothing either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The commit did not happen.
    Old,
    /// The commit happened (or conflicted), and the answer was lost.
    New,
    /// The first strike leaves the old state, the next the new one, and so on in turn.
    Either,
}

/// When and how to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Which calls count.
    pub call: Call,
    /// How many of them pass first; 0 fails the next one.
    pub passing: u64,
    /// Once or for ever.
    pub lasting: Lasting,
    /// The class that the error has.
    pub class: FaultClass,
    /// What a failing commit leaves.
    pub aftermath: Aftermath,
}

impl Plan {
    /// The next commit fails once with `class` and leaves the old state.
    #[must_use]
    pub const fn next_commit(class: FaultClass) -> Self {
        Self {
            call: Call::Commit,
            passing: 0,
            lasting: Lasting::Once,
            class,
            aftermath: Aftermath::Old,
        }
    }

    /// The next commit happens, and its caller hears of a `class` fault.
    #[must_use]
    pub const fn next_answer_lost(class: FaultClass) -> Self {
        Self { aftermath: Aftermath::New, ..Self::next_commit(class) }
    }

    /// The next read fails once with `class`.
    #[must_use]
    pub const fn next_read(class: FaultClass) -> Self {
        Self { call: Call::Read, ..Self::next_commit(class) }
    }
}

/// A fault, planned or of the store beneath.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultyError<E: core::error::Error> {
    /// A [`Plan`] struck.
    #[error("planned fault of class {0:?}")]
    Planned(FaultClass),
    /// The store beneath failed by itself.
    #[error(transparent)]
    Inner(E),
}

impl<E: Fault> Fault for FaultyError<E> {
    fn class(&self) -> FaultClass {
        match self {
            Self::Planned(class) => *class,
            Self::Inner(error) => error.class(),
        }
    }
}

#[derive(Debug, Default)]
struct Planned {
    plan: Option<Plan>,
    reads: u64,
    commits: u64,
    struck: u64,
}

/// A store that fails by a [`Plan`]. A clone (of a store that can be cloned) shares it.
#[derive(Debug, Clone)]
pub struct FaultyStore<S> {
    inner: S,
    planned: Arc<Mutex<Planned>>,
}

impl<S> FaultyStore<S> {
    /// Fails nothing until armed.
    pub fn new(inner: S) -> Self {
        Self { inner, planned: Arc::default() }
    }

    /// The store beneath, which never fails by plan.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Counts from now; replaces an earlier plan.
    pub fn arm(&self, plan: Plan) {
        self.planned().plan = Some(plan);
    }

    /// Ends the fault.
    pub fn disarm(&self) {
        self.planned().plan = None;
    }

    /// How many calls of this kind there were, failed ones included.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        match call {
            Call::Read => self.planned().reads,
            Call::Commit => self.planned().commits,
        }
    }

    /// How many calls failed by plan.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.planned().struck
    }

    fn planned(&self) -> MutexGuard<'_, Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one call and says whether, and how, it fails.
    fn strike(&self, call: Call) -> Option<(FaultClass, Aftermath)> {
        let mut planned = self.planned();
        match call {
            Call::Read => planned.reads += 1,
            Call::Commit => planned.commits += 1,
        }
        let plan = planned.plan.as_mut().filter(|plan| plan.call == call)?;
        if plan.passing > 0 {
            plan.passing -= 1;
            return None;
        }
        let Plan { lasting, class, aftermath, .. } = *plan;
        if lasting == Lasting::Once {
            planned.plan = None;
        }
        let aftermath = match aftermath {
            Aftermath::Either if planned.struck.is_multiple_of(2) => Aftermath::Old,
            Aftermath::Either => Aftermath::New,
            fixed @ (Aftermath::Old | Aftermath::New) => fixed,
        };
        planned.struck += 1;
        Some((class, aftermath))
    }

    fn read_passes<E: Fault>(&self) -> Result<(), FaultyError<E>> {
        match self.strike(Call::Read) {
            Some((class, _)) => Err(FaultyError::Planned(class)),
            None => Ok(()),
        }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    type Error = FaultyError<S::Error>;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        self.read_passes()?;
        self.inner.get(keyspace, key).await.map_err(FaultyError::Inner)
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, Self::Error> {
        self.read_passes()?;
        self.inner.scan(keyspace, range, limit).await.map_err(FaultyError::Inner)
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, Self::Error> {
        self.read_passes()?;
        self.inner.read(queries).await.map_err(FaultyError::Inner)
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, Self::Error> {
        let Some((class, aftermath)) = self.strike(Call::Commit) else {
            return self.inner.commit(batch).await.map_err(FaultyError::Inner);
        };
        if aftermath != Aftermath::Old {
            let (CommitOutcome::Applied | CommitOutcome::Conflict) =
                self.inner.commit(batch).await.map_err(FaultyError::Inner)?;
        }
        Err(FaultyError::Planned(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block_on, memory::MemoryStore};

    fn commit(store: &FaultyStore<MemoryStore>, key: &[u8]) -> Option<FaultClass> {
        let mut batch = Batch::default();
        batch.put(Keyspace::Meta, key.to_vec(), Vec::new());
        block_on(store.commit(batch)).err().map(|error| error.class())
    }

    fn keys(store: &FaultyStore<MemoryStore>) -> Vec<Vec<u8>> {
        store.inner().rows(Keyspace::Meta).into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn the_chosen_commit_fails_once_and_leaves_the_old_state() {
        let store = FaultyStore::new(MemoryStore::new());
        store.arm(Plan { passing: 1, ..Plan::next_commit(FaultClass::Full) });
        assert_eq!(commit(&store, b"a"), None);
        assert_eq!(commit(&store, b"b"), Some(FaultClass::Full));
        assert_eq!(commit(&store, b"c"), None);
        assert_eq!(keys(&store), [b"a", b"c"]);
        assert_eq!((store.calls(Call::Commit), store.struck()), (3, 1));
    }

    #[test]
    fn a_lost_answer_leaves_the_new_state() {
        let store = FaultyStore::new(MemoryStore::new());
        store.arm(Plan::next_answer_lost(FaultClass::Transient));
        assert_eq!(commit(&store, b"a"), Some(FaultClass::Transient));
        assert_eq!(keys(&store), [b"a"]);
    }

    #[test]
    fn a_lasting_fault_lasts_until_disarmed_and_spares_other_calls() {
        let store = FaultyStore::new(MemoryStore::new());
        store.arm(Plan { lasting: Lasting::Forever, ..Plan::next_read(FaultClass::Corrupt) });
        for _ in 0..3 {
            let error = block_on(store.get(Keyspace::Meta, b"a")).err().map(|error| error.class());
            assert_eq!(error, Some(FaultClass::Corrupt));
            assert_eq!(commit(&store, b"a"), None);
        }
        store.disarm();
        assert_eq!(block_on(store.get(Keyspace::Meta, b"a")), Ok(Some(Vec::new())));
    }

    #[test]
    fn either_aftermath_takes_turns() {
        let store = FaultyStore::new(MemoryStore::new());
        store.arm(Plan {
            lasting: Lasting::Forever,
            aftermath: Aftermath::Either,
            ..Plan::next_commit(FaultClass::Transient)
        });
        for key in [b"a", b"b", b"c", b"d"] {
            assert_eq!(commit(&store, key), Some(FaultClass::Transient));
        }
        assert_eq!(keys(&store), [b"b", b"d"]);
    }
}
