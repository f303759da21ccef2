//! What the server counts and measures, for Prometheus.
//!
//! Invariant: counting never waits, and no label has a value that a client chose. Absent: asking for it (`app::operations`).

use crate::{
    clock,
    data::{DataDir, free_bytes},
    hubs::Hubs,
    telemetry,
    webhook::Webhook,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};
use rejoin_core::{
    io::FaultClass,
    protocol::{
        host::{HostNote, Mended},
        message::{Mode, RejectCode},
    },
    time::WallMillis,
};
use rejoin_sqlite::SqliteDb;
use std::{
    fmt, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Labels = [(&'static str, &'static str); 1];

/// What is counted where it happens.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) connections: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_refused: Counter,
    limited: Family<Labels, Counter>,
    sessions: Family<Labels, Gauge>,
    pub(crate) frames_received: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    rows_accepted: Counter,
    rows_refused: Family<Labels, Counter>,
    subscriptions: Family<Labels, Counter>,
    conflicts: Counter,
    records_restored: Counter,
    host_seconds: Histogram,
    feed_lag_seconds: Histogram,
    commit_seconds: Histogram,
    pub(crate) reads: Counter,
    store_faults: Family<Labels, Counter>,
    damaged_rows: Family<Labels, Counter>,
    scrub_passes: Counter,
    scrub_records: Counter,
    projection_lag: Family<Vec<(&'static str, String)>, Gauge>,
    webhook_lag: Family<Vec<(&'static str, String)>, Gauge>,
    webhook_taken: Family<Vec<(&'static str, String)>, Counter>,
    webhook_failures: Family<Vec<(&'static str, String)>, Counter>,
    standing: Standing,
    started: WallMillis,
    tally: Tally,
}

/// What is counted for who looks at the server: sums that series do not give back.
#[derive(Debug, Default)]
struct Tally {
    refused: AtomicU64,
    commits: AtomicU64,
    commit_micros: AtomicU64,
    delivered: AtomicU64,
    waited_micros: AtomicU64,
}

impl Tally {
    fn add(count: &AtomicU64, number: u64) {
        count.fetch_add(number, Ordering::Relaxed);
    }
}

/// Sums since the start, and how many connections there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) conflicts: u64,
    pub(crate) frames_received: u64,
    pub(crate) frames_sent: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) connections: i64,
    pub(crate) connections_refused: u64,
    pub(crate) commits: u64,
    pub(crate) commit_micros: u64,
    pub(crate) delivered: u64,
    pub(crate) waited_micros: u64,
}

/// What is looked up when somebody asks.
struct Standing {
    transactions: Counter,
    batches: Counter,
    spaces: Gauge,
    spaces_open: Gauge,
    database_bytes: Gauge,
    wal_bytes: Gauge,
    disk_free_bytes: Gauge,
    backup_last: Gauge,
    log_lines_dropped: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Registers a metric under its name and says what it is.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn new<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    add(registry, name, help, M::default())
}

/// From a tenth of a millisecond to thirteen seconds.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rejoin");
        let r = &mut registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The program", version);
        let start: Gauge = new(r, "start_time_seconds", "When the server started");
        let started = clock::read().wall;
        start.set(i64::try_from(started.0 / 1_000).unwrap_or_default());
        let standing = Standing {
            transactions: new(r, "transactions", "Write transactions, each synced once at most"),
            batches: new(r, "batches", "Batches applied; those of one transaction are a group"),
            spaces: new(r, "spaces", "Spaces that have rows or were asked for"),
            spaces_open: new(r, "spaces_open", "Spaces that are held in memory"),
            database_bytes: new(r, "database_bytes", "Size of the database"),
            wal_bytes: new(r, "wal_bytes", "Size of the database's write-ahead log"),
            disk_free_bytes: new(r, "disk_free_bytes", "Room where the database is"),
            log_lines_dropped: new(
                r,
                "log_lines_dropped",
                "Lines of the log that nobody read in time",
            ),
            backup_last: new(r, "backup_last_timestamp_seconds", "End of the last backup, or 0"),
        };
        Self {
            connections: new(r, "connections", "Connections that are open"),
            connections_opened: new(r, "connections_opened", "Connections that were accepted"),
            connections_refused: new(r, "connections_refused", "Connections beyond a limit"),
            limited: new(r, "limited", "Times that a limit of time was met"),
            sessions: new(r, "sessions", "Channels by how far they are"),
            frames_received: new(r, "frames_received", "WebSocket messages received"),
            frames_sent: new(r, "frames_sent", "WebSocket messages sent"),
            received_bytes: new(r, "received_bytes", "Bytes of WebSocket messages received"),
            sent_bytes: new(r, "sent_bytes", "Bytes of WebSocket messages sent"),
            rows_accepted: new(r, "rows_accepted", "Rows that were made durable and acknowledged"),
            rows_refused: new(r, "rows_refused", "Rows that were refused for good"),
            subscriptions: new(r, "subscriptions", "Subscriptions by how they began"),
            conflicts: new(r, "conflicts", "Pairs of writes that did not know each other"),
            records_restored: new(r, "records_restored", "Records that clients brought back"),
            host_seconds: add(r, "host_seconds", "Turns of the spaces' machines", seconds()),
            feed_lag_seconds: add(
                r,
                "feed_lag_seconds",
                "Time that a message waited for the socket of its client",
                seconds(),
            ),
            commit_seconds: add(
                r,
                "commit_seconds",
                "Commits, the wait for their group included",
                seconds(),
            ),
            reads: new(r, "reads", "Reads of the database"),
            store_faults: new(r, "store_faults", "Faults of the database"),
            damaged_rows: new(r, "damaged_rows", "Stored rows found damaged"),
            scrub_passes: new(r, "scrub_passes", "Times that all of a space was read and checked"),
            scrub_records: new(r, "scrub_records", "Records read and checked in these"),
            projection_lag: new(r, "projection_lag", "Places of the feed that tables lack"),
            webhook_lag: new(r, "webhook_lag", "Places of the feed that a receiver lacks"),
            webhook_taken: new(r, "webhook_taken", "Deliveries that were taken"),
            webhook_failures: new(r, "webhook_failures", "Deliveries that were not"),
            standing,
            started,
            tally: Tally::default(),
            registry,
        }
    }
}

impl Metrics {
    /// How far the receiver of a webhook is behind, and what it took and did not take.
    pub(crate) fn webhook(&self, hook: &Webhook) -> (Gauge, Counter, Counter) {
        let label = vec![("webhook", hook.to_string())];
        (
            self.webhook_lag.get_or_create(&label).clone(),
            self.webhook_taken.get_or_create(&label).clone(),
            self.webhook_failures.get_or_create(&label).clone(),
        )
    }

    /// How far the tables in a file are behind.
    pub(crate) fn projection_lag(&self, file: &Path) -> Gauge {
        self.projection_lag.get_or_create(&vec![("file", file.display().to_string())]).clone()
    }

    /// Somebody met a limit of time.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&[("limit", limit)]).inc();
    }

    /// A machine of a space has worked so long.
    pub(crate) fn host_worked(&self, time: Duration) {
        self.host_seconds.observe(time.as_secs_f64());
    }

    /// A message has waited so long for its socket.
    pub(crate) fn delivered(&self, waited: Duration) {
        Tally::add(&self.tally.delivered, 1);
        Tally::add(&self.tally.waited_micros, micros(waited));
        self.feed_lag_seconds.observe(waited.as_secs_f64());
    }

    /// A commit has ended.
    pub(crate) fn committed(&self, time: Duration) {
        Tally::add(&self.tally.commits, 1);
        Tally::add(&self.tally.commit_micros, micros(time));
        self.commit_seconds.observe(time.as_secs_f64());
    }

    /// The database has failed.
    pub(crate) fn failed(&self, class: FaultClass) {
        let class = match class {
            FaultClass::Transient => "transient",
            FaultClass::Full => "full",
            FaultClass::Corrupt => "corrupt",
            FaultClass::Permanent | _ => "permanent",
        };
        self.store_faults.get_or_create(&[("class", class)]).inc();
    }

    /// A host has said something.
    pub(crate) fn noted(&self, note: &HostNote) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        if let HostNote::Pushed { accepted, .. } = note {
            self.rows_accepted.inc_by(count(*accepted));
        } else if let HostNote::Written { accepted, refused, .. } = note {
            self.rows_accepted.inc_by(count(*accepted));
            self.rows_refused.get_or_create(&[("code", "request")]).inc_by(count(*refused));
            Tally::add(&self.tally.refused, count(*refused));
        } else if let HostNote::Rejected { code, .. } = note {
            self.rows_refused.get_or_create(&[("code", code_name(*code))]).inc();
            Tally::add(&self.tally.refused, 1);
        } else if let HostNote::Welcomed { modes, .. } = note {
            for (_, mode) in modes {
                self.subscriptions.get_or_create(&[("mode", mode_name(*mode))]).inc();
            }
        } else if let HostNote::Conflict { .. } = note {
            self.conflicts.inc();
        } else if let HostNote::Refilled { restored, .. } = note {
            self.records_restored.inc_by(count(*restored));
        } else if let HostNote::Damaged { mended, .. } = note {
            let mended = match mended {
                Mended::Derived => "derived",
                Mended::Lost => "lost",
                Mended::Assumed | _ => "assumed",
            };
            self.damaged_rows.get_or_create(&[("mended", mended)]).inc();
        } else if let HostNote::Scrubbed { pass } = note {
            self.scrub_passes.inc();
            self.scrub_records.inc_by(pass.records);
        }
    }

    /// A channel was opened.
    pub(crate) fn session(self: &Arc<Self>) -> Session {
        let session = Session { metrics: Arc::clone(self), stage: Stage::Opening };
        session.gauge().inc();
        session
    }

    /// When the server started.
    pub(crate) const fn started(&self) -> WallMillis {
        self.started
    }

    /// Channels that are being opened, brought to what the server has, and follow.
    pub(crate) fn sessions(&self) -> (i64, i64, i64) {
        let at = |state| self.sessions.get_or_create_owned(&[("state", state)]).get();
        (at("opening"), at("syncing"), at("live"))
    }

    /// Sums since the start.
    pub(crate) fn totals(&self) -> Totals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Tally { refused, commits, commit_micros, delivered, waited_micros } = &self.tally;
        Totals {
            accepted: self.rows_accepted.get(),
            refused: read(refused),
            conflicts: self.conflicts.get(),
            frames_received: self.frames_received.get(),
            frames_sent: self.frames_sent.get(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            connections: self.connections.get(),
            connections_refused: self.connections_refused.get(),
            commits: read(commits),
            commit_micros: read(commit_micros),
            delivered: read(delivered),
            waited_micros: read(waited_micros),
        }
    }

    /// Everything, in the text form that Prometheus reads.
    pub(crate) fn text(
        &self,
        db: &SqliteDb,
        hubs: &Hubs,
        data: &DataDir,
    ) -> Result<String, fmt::Error> {
        let standing = &self.standing;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let stats = db.stats();
        standing.transactions.inner().store(stats.transactions, Ordering::Relaxed);
        standing.batches.inner().store(stats.applied, Ordering::Relaxed);
        standing.log_lines_dropped.inner().store(telemetry::dropped(), Ordering::Relaxed);
        let (all, open) = hubs.count();
        standing.spaces.set(number(all as u64));
        standing.spaces_open.set(number(open as u64));
        // What cannot be read stays what it was: the probes tell it.
        if let Ok(database) = fs::metadata(data.database()) {
            standing.database_bytes.set(number(database.len()));
        }
        if let Ok(bytes) = db.wal_bytes() {
            standing.wal_bytes.set(number(bytes));
        }
        if let Ok(Some(bytes)) = free_bytes(data.path()) {
            standing.disk_free_bytes.set(number(bytes));
        }
        if let Some(at) = data.last_backup() {
            standing.backup_last.set(number(at.0 / 1_000));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// How far a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its hello is being answered.
    Opening,
    /// It is brought to what the server has.
    Syncing,
    /// It was there, and follows.
    Live,
}

/// A channel, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    metrics: Arc<Metrics>,
    stage: Stage,
}

impl Session {
    pub(crate) fn reaches(&mut self, stage: Stage) {
        self.gauge().dec();
        self.stage = stage;
        self.gauge().inc();
    }

    fn gauge(&self) -> Gauge {
        let stage = match self.stage {
            Stage::Opening => "opening",
            Stage::Syncing => "syncing",
            Stage::Live => "live",
        };
        self.metrics.sessions.get_or_create_owned(&[("state", stage)])
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const fn code_name(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Forbidden => "forbidden",
        RejectCode::TooLarge => "too_large",
        RejectCode::Forged => "forged",
        RejectCode::RecordGone => "record_gone",
        RejectCode::Unsure => "unsure",
        RejectCode::UpgradeServer => "upgrade_server",
        RejectCode::Quota => "quota",
        RejectCode::Invalid | _ => "invalid",
    }
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::InSync => "in_sync",
        Mode::Feed => "feed",
        Mode::Snapshot => "snapshot",
        Mode::Rebase => "rebase",
        Mode::Heal | _ => "heal",
    }
}
