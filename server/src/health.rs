//! Whether the server can do its work, found out by doing some.
//!
//! Invariant: asking often costs no more than asking once a second.

use crate::{clock, hubs::Hubs};
use rejoin_core::{
    id::SpaceId,
    io::{Batch, Keyspace},
    port::Store,
    time::{Millis, MonoMillis},
};
use rejoin_sqlite::SqliteStore;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};
use tracing::error;

/// An answer holds for so long.
const HOLDS: Millis = Millis(1_000);
/// What takes longer counts as broken.
const PATIENCE: Duration = Duration::from_secs(3);
/// The probe's key; those of hosts are names.
const KEY: &[u8] = b"\xffhealth";

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ailment {
    StoreFails,
    StoreHangs,
    SpaceHangs,
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StoreFails => "the store cannot write",
            Self::StoreHangs => "the store does not answer",
            Self::SpaceHangs => "a space does not answer",
        })
    }
}

#[derive(Debug)]
pub(crate) struct Health {
    store: SqliteStore,
    hubs: Arc<Hubs>,
    last: Mutex<Option<(MonoMillis, Result<(), Ailment>)>>,
}

impl Health {
    /// `store`: of a space that never keeps anything.
    pub(crate) fn new(store: SqliteStore, hubs: Arc<Hubs>) -> Self {
        Self { store, hubs, last: Mutex::new(None) }
    }

    /// The probe's space. It has rows only within the probe's transaction, so it does not exist.
    pub(crate) fn space() -> Result<SpaceId, rejoin_core::id::NameError> {
        SpaceId::parse("rejoin/health")
    }

    pub(crate) async fn check(&self) -> Result<(), Ailment> {
        let mut last = self.last.lock().await;
        if let Some((at, found)) = *last
            && clock::read().mono.since(at) < HOLDS
        {
            return found;
        }
        let found = self.probe().await;
        *last = Some((clock::read().mono, found));
        found
    }

    async fn probe(&self) -> Result<(), Ailment> {
        let mut batch = Batch::default();
        batch.put(Keyspace::Meta, KEY.to_vec(), Vec::new());
        batch.delete(Keyspace::Meta, KEY.to_vec());
        match timeout(PATIENCE, self.store.commit(batch)).await {
            Err(_elapsed) => return Err(Ailment::StoreHangs),
            Ok(Err(fault)) => {
                error!(%fault, "the store failed");
                return Err(Ailment::StoreFails);
            }
            Ok(Ok(_applied)) => {}
        }
        match timeout(PATIENCE, self.hubs.answer()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Ailment::SpaceHangs),
        }
    }
}
