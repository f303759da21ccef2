//! Whether the server can do its work, found out by doing some: a commit, a read, a word with each space;
//! and from how the last commits of the spaces went.
//!
//! Invariant: asking often costs no more than asking once a second.

use crate::{clock, hubs::Hubs};
use rejoin_core::{
    id::SpaceId,
    io::{Batch, FaultClass, Keyspace},
    port::{Fault, Store},
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
    StoreFull,
    StoreFails,
    StoreHangs,
    SpaceHangs,
}

impl Ailment {
    fn of(class: FaultClass) -> Self {
        if class == FaultClass::Full { Self::StoreFull } else { Self::StoreFails }
    }
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StoreFull => "the disk is full",
            Self::StoreFails => "the store fails",
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
        let work = async {
            let _applied = self.store.commit(batch).await?;
            // Streams are fed by the threads that read.
            self.store.get(Keyspace::Meta, KEY).await
        };
        match timeout(PATIENCE, work).await {
            Err(_elapsed) => return Err(Ailment::StoreHangs),
            Ok(Err(fault)) => {
                error!(%fault, "the store failed");
                return Err(Ailment::of(fault.class()));
            }
            Ok(Ok(_nothing)) => {}
        }
        if let Some(class) = self.hubs.faults().recent() {
            return Err(Ailment::of(class));
        }
        match timeout(PATIENCE, self.hubs.answer()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Ailment::SpaceHangs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::age::Age;
    use crate::{auth::Auth, hubs::HubsConfig};
    use rejoin_core::id::Epoch;
    use rejoin_sqlite::{SqliteDb, SqliteOptions};
    use std::path::PathBuf;
    use tokio::sync::mpsc;

    async fn open(name: &str) -> (Health, SqliteDb, PathBuf) {
        let name = format!("rejoin-health-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let db = SqliteDb::open(directory.join("db"), &SqliteOptions::default()).unwrap();
        let config = HubsConfig {
            metrics: Arc::default(),
            observer: None,
            epoch: Epoch::from_bytes([9; 16]),
            proof_key: [7; 32],
            frame_bytes_max: 1 << 20,
            quota: rejoin_core::protocol::host::Quota::NONE,
            refill: rejoin_core::protocol::host::RefillPolicy::default(),
            retention: rejoin_core::protocol::host::RETENTION,
            age: Arc::new(Age::load(db.space(&Age::space().unwrap())).await.unwrap()),
            scrub: None,
            spaces_max: 10,
            spaces_per_principal_max: 10,
            makers: db.space(&crate::makers::Makers::space().unwrap()),
        };
        let hubs = Hubs::new(db.clone(), Arc::new(Auth::everyone()), config).await.unwrap();
        let store = db.space(&Health::space().unwrap());
        (Health::new(store, Arc::new(hubs)), db, directory)
    }

    #[tokio::test]
    async fn health_is_red_once_the_store_is_closed() {
        let (health, db, directory) = open("closed").await;
        assert_eq!(health.probe().await, Ok(()));
        db.close().await.unwrap();
        assert_eq!(health.probe().await, Err(Ailment::StoreFails));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn health_is_red_while_a_space_takes_nothing_in() {
        let (health, _db, directory) = open("stalled").await;
        let (inbox, stalled) = mpsc::channel(1);
        health.hubs.plant(SpaceId::parse("stalled").unwrap(), inbox);
        assert_eq!(health.probe().await, Err(Ailment::SpaceHangs));
        drop(stalled);
        assert_eq!(health.probe().await, Ok(()), "a space that has ended is opened again at need");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn health_is_red_while_what_spaces_commit_fails() {
        let (health, _db, directory) = open("faults").await;
        health.hubs.faults().happened(FaultClass::Full);
        assert_eq!(health.probe().await, Err(Ailment::StoreFull));
        health.hubs.faults().happened(FaultClass::Permanent);
        assert_eq!(health.probe().await, Err(Ailment::StoreFails));
        health.hubs.faults().over();
        assert_eq!(health.probe().await, Ok(()));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
