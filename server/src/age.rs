//! How long the server has run, in all its lives. It is kept in the database: a copy that is put back knows how
//! long its server had run, so what it kept is kept for as long again as was left of its time.
//!
//! Invariant: never more than it has run; what was run since it was last stored, [`STORED_EVERY`] at most, is
//! forgotten when the process dies. Absent: what is collected by it (see `rejoin_core::protocol::host`).

use crate::clock;
use rejoin_core::{
    codec,
    id::{NameError, SpaceId},
    io::{Batch, Keyspace},
    port::Store,
    time::{Millis, MonoMillis},
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use std::time::Duration;
use tokio::{sync::watch, time::sleep};
use tracing::error;

const STORED_EVERY: Duration = Duration::from_secs(60);
/// Its key; those of hosts are names.
const KEY: &[u8] = b"\xffran";
/// Of what is stored under it.
const VERSION: u8 = 1;

#[derive(Debug)]
pub(crate) struct Age {
    store: SqliteStore,
    before: Millis,
    since: MonoMillis,
}

impl Age {
    /// The space that it is kept in: one of the server's own (see `hubs`).
    pub(crate) fn space() -> Result<SpaceId, NameError> {
        SpaceId::parse("rejoin/age")
    }

    /// Reads how long earlier lives were; `store`: of [`Self::space`].
    pub(crate) async fn load(store: SqliteStore) -> Result<Self, SqliteError> {
        let stored = store.get(Keyspace::Meta, KEY).await?;
        // What is damaged counts as nothing: that only keeps things for longer.
        let stored = stored.as_deref().and_then(|value| codec::unseal(VERSION, value).ok());
        let stored = stored.and_then(|value| <[u8; 8]>::try_from(value).ok());
        let before = Millis(stored.map(u64::from_be_bytes).unwrap_or_default());
        Ok(Self { store, before, since: clock::read().mono })
    }

    pub(crate) fn ran(&self) -> Millis {
        Millis(self.before.0.saturating_add(clock::read().mono.since(self.since).0))
    }

    /// Stores it now and then, and once more when the server stops.
    pub(crate) async fn keep(&self, mut stopping: watch::Receiver<bool>) {
        loop {
            let stops = tokio::select! {
                // Who would say it is gone: that is the end too.
                _ = stopping.wait_for(|stopping| *stopping) => true,
                () = sleep(STORED_EVERY) => false,
            };
            let mut batch = Batch::default();
            let ran = codec::seal(VERSION, self.ran().0.to_be_bytes().to_vec());
            batch.put(Keyspace::Meta, KEY.to_vec(), ran);
            // What is not stored is not counted: that only keeps things for longer.
            if let Err(fault) = self.store.commit(batch).await {
                error!(%fault, "how long the server has run cannot be stored");
            }
            if stops {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::io::CommitOutcome;
    use rejoin_sqlite::{SqliteDb, SqliteOptions};

    #[tokio::test]
    async fn what_was_run_is_kept_and_what_is_damaged_of_it_counts_as_nothing() {
        let directory = std::env::temp_dir().join(format!("rejoin-age-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let db = SqliteDb::open(directory.join("db"), &SqliteOptions::default()).unwrap();
        let store = || db.space(&Age::space().unwrap());
        let mut age = Age::load(store()).await.unwrap();
        assert!(age.ran() < Millis(3_600_000));
        age.before = Millis(1 << 40);
        age.keep(watch::channel(true).1).await;
        assert!(Age::load(store()).await.unwrap().ran() >= Millis(1 << 40));

        let mut value = store().get(Keyspace::Meta, KEY).await.unwrap().unwrap();
        for at in 0..value.len() {
            value[at] ^= 0x80;
            let mut batch = Batch::default();
            batch.put(Keyspace::Meta, KEY.to_vec(), value.clone());
            assert_eq!(store().commit(batch).await.unwrap(), CommitOutcome::Applied);
            assert!(Age::load(store()).await.unwrap().ran() < Millis(3_600_000));
            value[at] ^= 0x80;
        }
        db.close().await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
