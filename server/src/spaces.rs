//! What a server has open besides its sockets: the database, and the spaces in it.
//!
//! Invariant: one process has them at a time. Absent: sockets.

use crate::{
    Config, ServerError,
    age::Age,
    auth::Auth,
    clock,
    config::ClockKind,
    data::DataDir,
    hubs::{Hubs, HubsConfig},
    makers::Makers,
    metrics::Metrics,
    secret,
};
use rejoin_core::{id::Epoch, time::Millis};
use rejoin_sqlite::{SqliteDb, SqliteError, SqliteOptions};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::warn;

/// How often, and how long after the last time, a database that is open elsewhere is tried again: twice
/// as long as an orderly end takes.
const LOCKED_TRIES: u32 = 100;
const LOCKED_REST: Duration = Duration::from_millis(100);

/// The database and the spaces in it.
#[derive(Debug)]
pub(crate) struct Spaces {
    pub(crate) db: SqliteDb,
    pub(crate) hubs: Arc<Hubs>,
    pub(crate) age: Arc<Age>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Spaces {
    /// Opens the database, whoever may use it by the configuration.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left open then.
    pub(crate) async fn open(config: &Config, options: SqliteOptions) -> Result<Self, ServerError> {
        let data = config.data.clone();
        let directory = DataDir::new(&data);
        let unusable = |source| ServerError::Data { path: data.clone(), source };
        directory.make().and_then(|()| directory.refuse_unfinished()).map_err(unusable)?;
        let auth = Arc::new(Auth::load(config).await?);
        let database = |source| ServerError::Database { path: data.clone(), source };
        let db = open_database(directory.database(), options).await.map_err(database)?;
        // Only now nobody puts other files in their place.
        let proof_key = directory.refuse_unfinished().and_then(|()| secret::proof_key(&data));
        let proof_key = proof_key.map_err(unusable)?;
        let age = Age::load(db.space(&Age::space()?)).await.map_err(database)?;
        if let Some(behind) = age.behind() {
            let behind = Duration::from_millis(behind.0);
            if config.clock == ClockKind::Checked {
                return Err(ServerError::Clock { behind });
            }
            warn!(?behind, "the clock is behind what it was when the server last ran");
        }
        let age = Arc::new(age);
        let retention = u64::try_from(config.retention.as_millis()).unwrap_or(u64::MAX);
        let metrics = Arc::<Metrics>::default();
        let hubs = HubsConfig {
            metrics: Arc::clone(&metrics),
            observer: config.admin.as_ref().map(|_| Arc::default()),
            epoch: Epoch::from_bytes(secret::random()?),
            proof_key,
            frame_bytes_max: config.limits.frame_bytes_max,
            quota: config.limits.quota,
            refill: config.refill.policy(),
            retention: Millis(retention),
            age: Arc::clone(&age),
            scrub: config.scrub.interval().map(|every| Millis(clock::millis(every))),
            spaces_max: usize::try_from(config.limits.spaces_max).unwrap_or(usize::MAX),
            spaces_per_principal_max: config.limits.spaces_per_principal_max,
            makers: db.space(&Makers::space()?),
        };
        let hubs = Arc::new(Hubs::new(db.clone(), auth, hubs).await.map_err(database)?);
        Ok(Self { db, hubs, age, metrics })
    }

    /// Ends what is under way, and closes the database.
    ///
    /// # Errors
    /// The database failed. What was acknowledged is durable all the same.
    pub(crate) async fn close(self) -> Result<(), SqliteError> {
        self.hubs.stop().await;
        self.db.close().await
    }
}

/// Opens the database. While another process has it, as one that is just ending, that is waited for.
async fn open_database(file: PathBuf, options: SqliteOptions) -> Result<SqliteDb, SqliteError> {
    let mut tries = LOCKED_TRIES;
    loop {
        let (file, options) = (file.clone(), options.clone());
        let opened = spawn_blocking(move || SqliteDb::open(file, &options)).await;
        // A panic in opening: nothing was opened.
        let opened = opened.unwrap_or(Err(SqliteError::Stopped));
        if tries == 0 || !matches!(opened, Err(SqliteError::Locked)) {
            return opened;
        }
        if tries == LOCKED_TRIES {
            warn!("another process has the database open, waiting for it to end");
        }
        tries -= 1;
        sleep(LOCKED_REST).await;
    }
}
