//! The server as a whole: what is opened at the start, in which order it ends.
//!
//! Invariant: it listens only once the database is open, and closes the database only when nothing
//! writes any more or [`DRAIN`] is over.

use crate::{
    admin::{self, About, Admin, AdminTokenError},
    age::Age,
    app::{App, operations::Operations},
    auth::{Auth, AuthError},
    census::{Census, Principals},
    config::Config,
    data::DataDir,
    health::Health,
    http::Api,
    hubs::Hubs,
    line::Gate,
    listen,
    metrics::Metrics,
    project::Projections,
    rates::Limiter,
    spaces::Spaces,
    tls::{Tls, TlsError},
    wal,
    webhook::{SecretsError, WebhookSecrets, Webhooks},
};
use rejoin_core::id::NameError;
use rejoin_sqlite::{SqliteDb, SqliteError, SqliteOptions};
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

/// How long an orderly end may take.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the server does not run, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The directory or the key in it cannot be used.
    #[error("cannot use the data directory {path}: {source}")]
    Data {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database cannot be opened, or failed in closing.
    #[error("the database in {path}: {source}")]
    Database {
        /// In which directory.
        path: PathBuf,
        /// Why.
        source: SqliteError,
    },
    /// A file of tables cannot be used.
    #[error("the tables in {path}: {source}")]
    Tables {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SqliteError,
    },
    /// The secrets of webhooks cannot be used.
    #[error("the secrets of webhooks: {0}")]
    Secrets(#[from] SecretsError),
    /// The tokens, or the keys of JWTs, cannot be used.
    #[error(transparent)]
    Access(#[from] AuthError),
    /// The token of the admin page cannot be used.
    #[error(transparent)]
    AdminToken(#[from] AdminTokenError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The directory of static files is none.
    #[error("--static {path} is not a directory")]
    Static {
        /// Which one.
        path: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The clock has gone back since the server ran last: what its clients write after what they have seen would
    /// be ahead of it, and wait.
    #[error(
        "the clock is {} h behind what it was when the server last ran: set it right, or start with \
         --clock accepted if it was wrong then",
        behind.as_secs() / 3_600
    )]
    Clock {
        /// By how much.
        behind: Duration,
    },
    /// The system gives no randomness, or its name for the probe is none.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// A name in this program is none.
    #[error("cannot start: {0}")]
    Name(#[from] NameError),
}

/// A server that listens; nothing is accepted before [`Self::run`].
#[derive(Debug)]
pub struct Server {
    data: PathBuf,
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    metrics_listener: Option<TcpListener>,
    admin: Option<AdminSide>,
    tls: Option<Arc<Tls>>,
    db: SqliteDb,
    hubs: Arc<Hubs>,
    age: Arc<Age>,
    health: Arc<Health>,
    projections: Projections,
    webhooks: Webhooks,
}

/// The admin page, and where it listens.
#[derive(Debug)]
struct AdminSide {
    admin: Admin,
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminSide {
    async fn open(
        config: &Config,
        hubs: &Arc<Hubs>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, ServerError> {
        let (Some(config), Some(observer)) = (&config.admin, hubs.observer()) else {
            return Ok(None);
        };
        let admin = Admin::open(config, Arc::clone(observer), hubs, metrics)?;
        let (listener, address) = listen_on(config.listen).await?;
        if !address.ip().is_loopback() {
            warn!(%address, "others reach the admin page, and its token goes in clear: put TLS before it");
        }
        info!(%address, "serving the admin page");
        Ok(Some(Self { admin, listener, address }))
    }
}

impl Server {
    /// Reads the files that the configuration names, and leaves the database and the address alone.
    ///
    /// # Errors
    /// [`ServerError`], as [`Self::open`] would.
    pub async fn check(config: &Config) -> Result<(), ServerError> {
        check_static(config)?;
        config.webhook_secrets.as_deref().map(WebhookSecrets::load).transpose()?;
        config.tls.as_ref().map(Tls::open).transpose()?;
        config.admin.as_ref().map(|admin| admin::check(&admin.token_file)).transpose()?;
        let mut config = config.clone();
        // What is published elsewhere may be out of reach from here.
        config.jwt.iter_mut().for_each(|jwt| jwt.jwks = None);
        Auth::load(&config).await?;
        Ok(())
    }

    /// Opens the database and the address.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left open then.
    pub async fn open(config: Config) -> Result<Self, ServerError> {
        Self::open_with(config, SqliteOptions::default()).await
    }

    /// The same, with options for the database.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left open then.
    pub async fn open_with(config: Config, options: SqliteOptions) -> Result<Self, ServerError> {
        check_static(&config)?;
        let tls = config.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
        let Spaces { db, hubs, age, metrics } = Spaces::open(&config, options).await?;
        let data = config.data.clone();
        let health = Arc::new(Health::new(db.space(&Health::space()?), Arc::clone(&hubs)));
        let secrets = config.webhook_secrets.as_deref().map(WebhookSecrets::load).transpose()?;
        let webhooks = Webhooks::new(&config.webhooks, secrets.as_ref(), &db, &metrics)?;
        let (projections, counted) = (config.projections.clone(), Arc::clone(&metrics));
        let projections = spawn_blocking(move || Projections::open(&projections, &counted)).await;
        let projections = projections.unwrap_or(Err((data.clone(), SqliteError::Stopped)));
        let projections =
            projections.map_err(|(path, source)| ServerError::Tables { path, source })?;
        let admin = AdminSide::open(&config, &hubs, &metrics).await?;
        let (listener, address) = listen_on(config.listen).await?;
        let metrics_listener = match config.operations.metrics_listen {
            Some(address) => {
                let (listener, address) = listen_on(address).await?;
                info!(%address, "telling metrics");
                Some(listener)
            }
            None => None,
        };
        Ok(Self {
            data,
            config,
            listener,
            address,
            metrics,
            metrics_listener,
            admin,
            tls,
            db,
            hubs,
            age,
            health,
            projections,
            webhooks,
        })
    }

    /// Where it listens; the port is the real one.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin page listens, if there is one; the port is the real one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|side| side.address)
    }

    /// Serves until `shutdown` resolves, is not ready any more for the time that the configuration gives to balancers,
    /// then ends in order within about five seconds: accepts nothing more, lets commits that are under way be
    /// acknowledged, tells every client to come back, and closes the database. A database that failed in a write or a sync ends it in the same way: what
    /// the file holds is known again once another process has opened it.
    ///
    /// # Errors
    /// The database failed before or while it was closed. What was acknowledged is durable all the same.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let (stop, stopping) = watch::channel(false);
        let (drain, draining) = watch::channel(false);
        if self.config.tokens.is_none()
            && self.config.jwt.is_none()
            && !self.address.ip().is_loopback()
        {
            warn!(address = %self.address, "without tokens, everyone who reaches it may write");
        }
        info!(address = %self.address, "listening");
        let Self { data, config, db, hubs, .. } = &self;
        let (data, wait) = (data.clone(), config.operations.drain);
        let (db, hubs) = (db.clone(), Arc::clone(hubs));
        let mut keeping = self.keep(&stopping);
        let mut accepting = self.accept(stopping, draining);
        tokio::select! {
            () = shutdown => {
                info!("stopping");
                drain.send_replace(true);
                tokio::select! {
                    () = sleep(wait) => {}
                    _told_when_it_is_closed = db.failed() => {}
                }
            }
            fault = db.failed() => {
                error!(%fault, "the database failed, stopping: it can be started again");
            }
        }
        stop.send_replace(true);
        let drained = async {
            if !ended_well(&mut accepting).await {
                error!("accepting connections had stopped by a defect");
            }
            hubs.stop().await;
            if !ended_well(&mut keeping).await {
                error!("looking after the server had stopped by a defect");
            }
            // Every connection holds a receiver.
            stop.closed().await;
        };
        if timeout(DRAIN, drained).await.is_err() {
            warn!("some connections did not end in time");
        }
        let closed = timeout(DRAIN, db.close()).await;
        let closed = closed.unwrap_or(Err(SqliteError::Stopped));
        closed.map_err(|source| ServerError::Database { path: data, source })?;
        info!("stopped");
        Ok(())
    }

    /// Does what is to be done now and then.
    fn keep(&mut self, stopping: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut keeping = JoinSet::new();
        let (age, stops) = (Arc::clone(&self.age), stopping.clone());
        keeping.spawn(async move { age.keep(stops).await });
        let (hubs, stops) = (Arc::clone(&self.hubs), stopping.clone());
        keeping.spawn(async move { hubs.auth().keep(stops).await });
        if let Some(tls) = &self.tls {
            keeping.spawn(Arc::clone(tls).keep(stopping.clone()));
        }
        if let Some(AdminSide { admin, .. }) = &self.admin {
            keeping.spawn(admin.clone().keep(stopping.clone()));
        }
        keeping.spawn(wal::watch(self.db.clone(), stopping.clone()));
        let projections = std::mem::take(&mut self.projections);
        keeping.spawn(projections.run(Arc::clone(&self.hubs), stopping.clone()));
        let webhooks = std::mem::take(&mut self.webhooks);
        keeping.spawn(webhooks.run(Arc::clone(&self.hubs), stopping.clone()));
        keeping
    }

    /// Accepts connections, wherever it listens.
    fn accept(
        self,
        stopping: watch::Receiver<bool>,
        draining: watch::Receiver<bool>,
    ) -> JoinSet<()> {
        let limits = self.config.limits;
        let about = About::new(&self.config, self.address);
        let limiter = Arc::new(Limiter::new(self.config.rates, Arc::clone(&self.metrics)));
        let gate = Gate {
            hubs: Arc::clone(&self.hubs),
            limiter: Arc::clone(&limiter),
            principals: Arc::new(Principals::new(limits, Arc::clone(&self.metrics))),
            metrics: Arc::clone(&self.metrics),
            origins: self.config.origins.into(),
            frame_bytes_max: usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX),
            opening_max: limits.opening_max,
            stall_max: limits.stall_max,
            stopping: stopping.clone(),
        };
        let feeds_max = limits.live_feeds_max;
        let (hubs, limits_of_time) = (Arc::clone(&self.hubs), Arc::clone(&limiter));
        let api = Api::new(hubs, limits_of_time, feeds_max, stopping.clone());
        let operations = Arc::new(Operations {
            data: DataDir::new(self.data),
            db: self.db,
            hubs: self.hubs,
            health: self.health,
            metrics: Arc::clone(&self.metrics),
            config: self.config.operations,
            draining,
            started: AtomicBool::new(false),
        });
        let app = App::new(gate, api, &operations, self.config.static_dir.as_deref());
        let census = || Census::new(limits, Arc::clone(&self.metrics), Arc::clone(&limiter));
        let mut accepting = JoinSet::new();
        if let Some(listener) = self.metrics_listener {
            let app = App::of_operations(&operations);
            accepting.spawn(listen::accept(listener, app, census(), None, stopping.clone()));
        }
        if let Some(AdminSide { admin, listener, .. }) = self.admin {
            let app = App::of_admin(admin.router(&operations, about, stopping.clone()));
            accepting.spawn(listen::accept(listener, app, census(), None, stopping.clone()));
        }
        accepting.spawn(listen::accept(self.listener, app, census(), self.tls, stopping));
        accepting
    }
}

/// Waits for tasks; whether none of them panicked.
async fn ended_well(tasks: &mut JoinSet<()>) -> bool {
    let mut well = true;
    while let Some(ended) = tasks.join_next().await {
        well &= ended.is_ok();
    }
    well
}

async fn listen_on(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let cannot_listen = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    Ok((listener, address))
}

fn check_static(config: &Config) -> Result<(), ServerError> {
    match config.static_dir.as_ref().filter(|path| !path.is_dir()) {
        Some(path) => Err(ServerError::Static { path: path.clone() }),
        None => Ok(()),
    }
}
