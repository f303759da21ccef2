//! Projections: what collections hold, as plain tables in SQLite files of their own, which people ask with SQL.
//!
//! Each file has a task that follows the feeds of the spaces it is about, from where the file itself says it is.
//! Invariant: a file is what its spaces held at the positions that stand in it; it is behind, never wrong, whatever
//! ended the server. Where a position is no more (the database was put back, or what was removed is forgotten) the
//! space is read again. Absent: how tables look (`rejoin_sqlite::Tables`).

mod cells;
mod projection;

pub(crate) use projection::{FileOfTables, by_file};
pub use projection::{Projection, ProjectionError};

use crate::{
    feed::{self, FeedError, Lag, Position},
    hubs::Hubs,
    metrics::Metrics,
    news::Follower,
};
use cells::row;
use rejoin_core::id::{RecordKey, SpaceId};
use rejoin_sqlite::{Reached, SqliteError, TableRow, Tables};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet, spawn_blocking},
    time::sleep,
};
use tracing::{info, warn};

/// Records of one transaction.
const PAGE_RECORDS: usize = 1_000;
/// How often a file is looked at: somebody may have asked for it to be filled anew.
const LOOKS_EVERY: Duration = Duration::from_secs(2);
/// How long after a fault it is tried again.
const RETRIES_AFTER: Duration = Duration::from_secs(2);

/// All files of a server.
#[derive(Debug, Default)]
pub(crate) struct Projections {
    files: Vec<Projector>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    File(#[from] SqliteError),
    #[error("{0}")]
    Feed(#[from] FeedError),
    #[error("a thread stopped by a defect: {0}")]
    Thread(#[from] JoinError),
}

impl Projections {
    /// Opens the files, or makes them.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub(crate) fn open(
        projections: &[Projection],
        metrics: &Metrics,
    ) -> Result<Self, (PathBuf, SqliteError)> {
        let mut files = Vec::new();
        for of_tables in by_file(projections) {
            let tables = Tables::open(&of_tables.file, &of_tables.about())
                .map_err(|error| (of_tables.file.clone(), error))?;
            let tables = Arc::new(Mutex::new(tables));
            let lag = metrics.projection_lag(&of_tables.file);
            files.push(Projector { of_tables, tables, lag: Lag::new(lag) });
        }
        Ok(Self { files })
    }

    /// Fills the files until the server stops.
    pub(crate) async fn run(self, hubs: Arc<Hubs>, stopping: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for projector in self.files {
            tasks.spawn(projector.run(Arc::clone(&hubs), stopping.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                tracing::error!(%panic, "a projection stopped by a defect");
            }
        }
    }
}

/// Fills one file.
#[derive(Debug)]
struct Projector {
    of_tables: FileOfTables,
    tables: Arc<Mutex<Tables>>,
    /// Places of the feeds that it lacked when it last looked.
    lag: Lag,
}

impl Projector {
    async fn run(self, hubs: Arc<Hubs>, mut stopping: watch::Receiver<bool>) {
        let news = hubs.news().follow();
        let filling = async {
            // Whatever happened before this process.
            let mut due = hubs.spaces();
            loop {
                due = self.catch_up(&hubs, due).await;
                due.extend(self.next(&hubs, &news, !due.is_empty()).await);
            }
        };
        tokio::select! {
            () = filling => {}
            // What is under way is done whole or not at all.
            _stopped = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Waits for something to do.
    async fn next(&self, hubs: &Hubs, news: &Follower, failed: bool) -> BTreeSet<SpaceId> {
        if failed {
            sleep(RETRIES_AFTER).await;
            // Nobody waits for a space that fails.
            return news.take();
        }
        loop {
            tokio::select! {
                spaces = news.next() => return spaces,
                () = sleep(LOOKS_EVERY) => {}
            }
            let tables = Arc::clone(&self.tables);
            let asked = spawn_blocking(move || lock(&tables).is_empty()).await;
            if matches!(asked, Ok(Ok(true))) {
                return hubs.spaces();
            }
        }
    }

    /// Takes in what is new in these spaces: those in which that failed.
    async fn catch_up(&self, hubs: &Hubs, due: BTreeSet<SpaceId>) -> BTreeSet<SpaceId> {
        let mut failed = BTreeSet::new();
        for space in due.into_iter().filter(|space| self.of_tables.is_about(space)) {
            if let Err(fault) = self.catch_up_in(hubs, &space).await {
                let file = self.of_tables.file.display();
                warn!(%file, %space, %fault, "the tables are behind");
                if let Fault::Feed(FeedError::Damaged(damage)) = &fault {
                    hubs.mend(&space, damage);
                }
                failed.insert(space);
            }
        }
        failed
    }

    async fn catch_up_in(&self, hubs: &Hubs, space: &SpaceId) -> Result<(), Fault> {
        let store = hubs.store(space);
        let wants = |key: &RecordKey| self.of_tables.wants(space, key);
        loop {
            let reached = self.reached(space).await?;
            let known = reached
                .as_ref()
                .and_then(|reached| Some((Position::decode(&reached.cursor)?, reached.complete)));
            let (from, complete, mut anew) = match known {
                Some((from, complete)) => (from, complete, false),
                None => (Position::START, false, true),
            };
            let page = match feed::page(&store, &from, PAGE_RECORDS, wants).await {
                Err(FeedError::Gone) => {
                    anew = true;
                    info!(%space, file = %self.of_tables.file.display(), "the tables are filled anew");
                    feed::page(&store, &Position::START, PAGE_RECORDS, wants).await?
                }
                page => page?,
            };
            let more = page.more;
            let seq = page.upto.furthest();
            self.lag.set(space, page.head.0.saturating_sub(from.furthest().0));
            if page.upto != from || anew {
                let complete = (complete && !anew) || !more;
                let upto = Reached { cursor: page.upto.encode(), seq: seq.0, complete };
                let rows =
                    page.changes.iter().map(|change| row(&change.key, &change.stored)).collect();
                if !self.apply(space, reached, anew, rows, upto).await? {
                    // Somebody has emptied the file meanwhile.
                    continue;
                }
            }
            if !more {
                self.lag.set(space, 0);
                return Ok(());
            }
        }
    }

    async fn reached(&self, space: &SpaceId) -> Result<Option<Reached>, Fault> {
        let (tables, space) = (Arc::clone(&self.tables), space.clone());
        Ok(spawn_blocking(move || lock(&tables).reached(space.as_str())).await??)
    }

    async fn apply(
        &self,
        space: &SpaceId,
        from: Option<Reached>,
        anew: bool,
        rows: Vec<TableRow>,
        upto: Reached,
    ) -> Result<bool, Fault> {
        let (tables, space) = (Arc::clone(&self.tables), space.clone());
        let apply = move || lock(&tables).apply(space.as_str(), from.as_ref(), anew, &rows, &upto);
        Ok(spawn_blocking(apply).await??)
    }
}

/// A panic under it left a transaction behind, which SQLite takes back.
fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}
