//! How long the server has run, in all its lives. It is kept in the database: a copy that is put back knows how
//! long its server had run, so what it kept is kept for as long again as was left of its time.
//!
//! With it stands what its clock said last: a server whose clock has gone back by more than [`BEHIND_MAX`] takes
//! nothing that its clients write after what they have seen, so it does not start unasked.
//!
//! Invariant: never more than it has run; what was run since it was last stored, [`STORED_EVERY`] at most, is
//! forgotten when the process dies. Absent: what is collected by it (see `rejoin_core::protocol::host`).

use crate::clock;
use rejoin_core::{
    codec,
    id::{NameError, SpaceId},
    io::{Batch, Keyspace},
    port::Store,
    time::{Millis, MonoMillis, WallMillis},
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use std::time::Duration;
use tokio::{sync::watch, time::sleep};
use tracing::error;

const STORED_EVERY: Duration = Duration::from_secs(60);
/// Its key; those of hosts are names.
const KEY: &[u8] = b"\xffran";
/// Where stands what the clock said.
const WALL_KEY: &[u8] = b"\xffwall";
/// Of what is stored under them.
const VERSION: u8 = 1;
/// What a clock without a battery, or before it was set by the network, may be behind.
const BEHIND_MAX: Millis = Millis(3_600_000);

#[derive(Debug)]
pub(crate) struct Age {
    store: SqliteStore,
    before: Millis,
    since: MonoMillis,
    behind: Millis,
}

impl Age {
    /// The space that it is kept in: one of the server's own (see `hubs`).
    pub(crate) fn space() -> Result<SpaceId, NameError> {
        SpaceId::parse("rejoin/age")
    }

    /// Reads how long earlier lives were; `store`: of [`Self::space`].
    pub(crate) async fn load(store: SqliteStore) -> Result<Self, SqliteError> {
        // What is damaged counts as nothing: that only keeps things for longer, and asks less of the clock.
        let before = Millis(number(&store, KEY).await?.unwrap_or_default());
        let wall = WallMillis(number(&store, WALL_KEY).await?.unwrap_or_default());
        let now = clock::read();
        let behind = Millis(wall.0.saturating_sub(now.wall.0));
        Ok(Self { store, before, since: now.mono, behind })
    }

    /// By how much the clock is behind what it said in an earlier life, if that is too much.
    pub(crate) fn behind(&self) -> Option<Millis> {
        Some(self.behind).filter(|behind| *behind > BEHIND_MAX)
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
            let wall = codec::seal(VERSION, clock::read().wall.0.to_be_bytes().to_vec());
            batch.put(Keyspace::Meta, WALL_KEY.to_vec(), wall);
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

async fn number(store: &SqliteStore, key: &[u8]) -> Result<Option<u64>, SqliteError> {
    let stored = store.get(Keyspace::Meta, key).await?;
    let stored = stored.as_deref().and_then(|value| codec::unseal(VERSION, value).ok());
    let stored = stored.and_then(|value| <[u8; 8]>::try_from(value).ok());
    Ok(stored.map(u64::from_be_bytes))
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

        assert_eq!(Age::load(store()).await.unwrap().behind(), None);
        let years_ahead = clock::read().wall.0 + (1 << 40);
        let mut batch = Batch::default();
        let wall = codec::seal(VERSION, years_ahead.to_be_bytes().to_vec());
        batch.put(Keyspace::Meta, WALL_KEY.to_vec(), wall);
        assert_eq!(store().commit(batch).await.unwrap(), CommitOutcome::Applied);
        assert!(Age::load(store()).await.unwrap().behind() > Some(Millis(1 << 39)));
        // Who runs on it all the same goes by it from then on.
        age.keep(watch::channel(true).1).await;
        assert_eq!(Age::load(store()).await.unwrap().behind(), None);

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
