//! Where a database is kept: IndexedDB, or memory where the browser offers none.

pub(crate) mod idb;
pub(crate) mod memory;

use core::num::NonZeroU32;
use idb::IdbStore;
use memory::MemoryStore;
use rejoin_core::{
    io::{Answer, Batch, CommitOutcome, FaultClass, KeyRange, Keyspace, Page, Query},
    port::{Fault, Store},
};

/// A failure of either store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub(crate) struct StoreError {
    /// What can be done.
    pub(crate) class: FaultClass,
    /// The browser's name for it.
    pub(crate) name: String,
    /// The browser's words.
    pub(crate) message: String,
}

impl Fault for StoreError {
    fn class(&self) -> FaultClass {
        self.class
    }
}

/// The store that the browser allows.
#[derive(Debug)]
pub(crate) enum AnyStore {
    /// Survives the page.
    Idb(IdbStore),
    /// Does not.
    Memory(MemoryStore),
}

impl Store for AnyStore {
    type Error = StoreError;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Idb(store) => store.get(keyspace, key).await,
            Self::Memory(store) => store.get(keyspace, key).await,
        }
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, StoreError> {
        match self {
            Self::Idb(store) => store.scan(keyspace, range, limit).await,
            Self::Memory(store) => store.scan(keyspace, range, limit).await,
        }
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        match self {
            Self::Idb(store) => store.read(queries).await,
            Self::Memory(store) => store.read(queries).await,
        }
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, StoreError> {
        match self {
            Self::Idb(store) => store.commit(batch).await,
            Self::Memory(store) => store.commit(batch).await,
        }
    }
}
