//! The server as a whole: what is wrong first, then how it is.
//!
//! Invariant: an answer costs what a probe costs, whatever the server holds. Absent: lists.

use super::{Asked, Desk, events::Class, rates, sampler::BEHIND_AFTER};
use crate::{
    clock,
    config::{ClockKind, Config},
    data::free_bytes,
    project::Projection,
    webhook::Webhook,
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Value as JsonValue, json};
use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

/// Faults count as recent for so long.
const RECENT: Duration = Duration::from_secs(600);
/// Samples that tell how it is now: half a minute.
const NOW_SAMPLES: usize = 15;
/// A log of so many bytes does not get into the database.
const WAL_LARGE_BYTES: u64 = 256 << 20;
/// A day and an hour.
const BACKUP_OLD: Duration = Duration::from_secs(90_000);
/// A commit takes longer than that on a disk in trouble, on the mean.
const COMMIT_SLOW_MS: f64 = 250.0;
/// So long messages wait for sockets where something is in their way, on the mean.
const WAIT_LONG_MS: f64 = 1_000.0;
/// Places of the feed by which those who follow all of it may be behind.
const LAG_LARGE: i64 = 1_000;

/// What of the configuration is told.
#[derive(Debug)]
pub(crate) struct About {
    listen: SocketAddr,
    access: &'static str,
    open_to_all: bool,
    clock_accepted: bool,
    tables: Vec<PathBuf>,
    webhooks: Vec<Webhook>,
}

impl About {
    /// `listen`: where clients come in.
    pub(crate) fn new(config: &Config, listen: SocketAddr) -> Self {
        let access = match (&config.jwt, &config.tokens) {
            (Some(_), _) => "jwt",
            (None, Some(_)) => "tokens",
            (None, None) => "none",
        };
        let mut tables: Vec<PathBuf> =
            config.projections.iter().map(Projection::file).map(Into::into).collect();
        tables.sort();
        tables.dedup();
        Self {
            listen,
            access,
            open_to_all: access == "none" && !listen.ip().is_loopback(),
            clock_accepted: config.clock == ClockKind::Accepted,
            tables,
            webhooks: config.webhooks.clone(),
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Good to know.
    Note,
    /// It may come to something.
    Warn,
    /// Somebody cannot work, or something may be lost.
    Bad,
}

/// What is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    what: &'static str,
    detail: String,
}

/// What was found wrong.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, what: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { level, what, detail: detail.into() });
    }
}

/// The server as a whole.
pub(super) async fn overview(State(desk): State<Desk>) -> Json<JsonValue> {
    let now = clock::read().wall;
    let mut found = Findings::default();
    let (probes, draining) = desk.probes(&mut found).await;
    let storage = desk.storage(now.0, &mut found);
    let traffic = desk.traffic(now.0, &mut found);
    let followers = desk.followers(&mut found);
    if desk.about.open_to_all {
        let detail = format!("{} takes everyone: start it with --auth", desk.about.listen);
        found.add(Level::Warn, "Everyone may read and write", detail);
    }
    if desk.about.clock_accepted {
        let detail = "Take --clock accepted away once the clock is right.";
        found.add(Level::Note, "A clock that went back was accepted", detail);
    }
    found.0.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let (spaces, open) = desk.admin.hubs.count();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": now.0,
        "started": desk.admin.metrics.started().0,
        "listen": desk.about.listen.to_string(),
        "access": desk.about.access,
        "draining": draining,
        "findings": found.0,
        "probes": probes,
        "storage": storage,
        "traffic": traffic,
        "spaces": { "all": spaces, "open": open },
        "followers": followers,
    }))
}

impl Desk {
    async fn probes(&self, found: &mut Findings) -> (JsonValue, bool) {
        let operations = &self.operations;
        let draining = *operations.draining.borrow();
        let told = |probe: Result<(), String>| match probe {
            Ok(()) => json!({ "ok": true }),
            Err(reason) => json!({ "ok": false, "reason": reason }),
        };
        let alive = operations.alive();
        if let Err(reason) = &alive {
            found.add(Level::Bad, "The process should be ended", reason.clone());
        }
        let ready = operations.ready().await;
        match &ready {
            Err(reason) if draining => {
                found.add(Level::Warn, "The server is about to end", reason.clone());
            }
            Err(reason) => found.add(Level::Bad, "The server is not ready", reason.clone()),
            Ok(()) => {}
        }
        (json!({ "live": told(alive), "ready": told(ready) }), draining)
    }

    fn storage(&self, now: u64, found: &mut Findings) -> JsonValue {
        let operations = &self.operations;
        let database = fs::metadata(operations.data.database()).ok().map(|file| file.len());
        let wal = operations.db.wal_bytes().ok();
        let free = free_bytes(operations.data.path()).ok().flatten();
        let least = u64::from(operations.config.disk_free_min_mib) << 20;
        if let Some(free) = free.filter(|free| (least..4 * least).contains(free)) {
            let detail = format!("{} MiB are left, {} is the least", free >> 20, least >> 20);
            found.add(Level::Warn, "The disk is nearly full", detail);
        }
        if let Some(wal) = wal.filter(|wal| *wal > WAL_LARGE_BYTES) {
            let detail = format!("{} MiB: does something read an old state of it?", wal >> 20);
            found.add(Level::Warn, "The write-ahead log is large", detail);
        }
        let backup = operations.data.last_backup();
        match backup {
            None => found.add(
                Level::Note,
                "There was no backup yet",
                "make one: rejoin-server backup DIR",
            ),
            Some(at) if now.saturating_sub(at.0) > clock::millis(BACKUP_OLD) => {
                let hours = now.saturating_sub(at.0) / 3_600_000;
                found.add(Level::Warn, "The last backup is old", format!("{hours} hours"));
            }
            Some(_) => {}
        }
        let dropped = crate::telemetry::dropped();
        if dropped > 0 {
            let detail = format!("{dropped} lines that nobody read in time");
            found.add(Level::Note, "The log has gaps", detail);
        }
        json!({
            "database_bytes": database,
            "log_bytes": wal,
            "disk_free_bytes": free,
            "disk_free_min_bytes": least,
            "backup": backup.map(|at| at.0),
            "log_lines_dropped": dropped,
        })
    }

    fn traffic(&self, now: u64, found: &mut Findings) -> JsonValue {
        let admin = &self.admin;
        let since = now.saturating_sub(clock::millis(RECENT));
        let faults = admin.observer.events.before(Some(Class::Fault), None, usize::MAX);
        let faults = faults.iter().filter(|event| event.at >= since).count();
        if faults > 0 {
            let detail = format!("{faults} in the last ten minutes");
            found.add(Level::Bad, "Faults", detail);
        }
        let samples = admin.rates.newest(NOW_SAMPLES);
        let most = |of: fn(&rates::Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
        let (commit, wait) = (most(|sample| sample.commit_ms), most(|sample| sample.wait_ms));
        if commit > COMMIT_SLOW_MS {
            let detail = format!("{commit:.0} ms on the mean of two seconds");
            found.add(Level::Warn, "Commits are slow", detail);
        }
        if wait > WAIT_LONG_MS {
            let detail = format!("{wait:.0} ms on the mean of two seconds");
            found.add(Level::Warn, "Messages wait for their clients", detail);
        }
        if most(|sample| sample.refused) > 0.0 {
            let detail = "in the last half minute: see the refusals";
            found.add(Level::Note, "Writes are refused", detail);
        }
        let behind = admin.behind.named();
        if let Some((_, worst)) = behind.first() {
            let seconds = worst.time.0 / 1_000;
            let detail = format!(
                "{} for more than {} s; {seconds} s and {} positions at most",
                behind.len(),
                BEHIND_AFTER.0 / 1_000,
                worst.positions
            );
            found.add(Level::Warn, "Clients are behind", detail);
        }
        let behind: Vec<JsonValue> =
            behind.iter().map(|(seat, lag)| super::lists::client(seat, Some(*lag))).collect();
        let (opening, syncing, live) = admin.metrics.sessions();
        let totals = admin.metrics.totals();
        json!({
            "connections": totals.connections,
            "connections_refused": totals.connections_refused,
            "sessions": { "opening": opening, "syncing": syncing, "live": live },
            "accepted": totals.accepted,
            "refused": totals.refused,
            "conflicts": totals.conflicts,
            "commit_ms": samples.first().map(|sample| sample.commit_ms),
            "wait_ms": samples.first().map(|sample| sample.wait_ms),
            "behind": behind,
        })
    }

    /// Tables and webhooks.
    fn followers(&self, found: &mut Findings) -> Vec<JsonValue> {
        let metrics = &self.admin.metrics;
        let mut told = Vec::new();
        for file in &self.about.tables {
            let (lag, name) = (metrics.projection_lag(file).get(), file.display().to_string());
            if lag > LAG_LARGE {
                found.add(Level::Warn, "Tables are behind", format!("{name}: {lag} positions"));
            }
            told.push(json!({ "kind": "tables", "name": name, "lag": lag }));
        }
        for hook in &self.about.webhooks {
            let (lag, _, failures) = metrics.webhook(hook);
            let (lag, name) = (lag.get(), hook.to_string());
            if lag > LAG_LARGE {
                found.add(Level::Warn, "A webhook is behind", format!("{name}: {lag} positions"));
            }
            let failures = failures.get();
            told.push(json!({ "kind": "webhook", "name": name, "lag": lag, "failures": failures }));
        }
        told
    }
}

/// Which samples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Samples {
    /// Those behind this number.
    #[serde(default)]
    after: u64,
}

/// The last minutes.
pub(super) async fn rates(
    State(desk): State<Desk>,
    Asked(asked): Asked<Samples>,
) -> Json<JsonValue> {
    let samples = desk.admin.rates.behind(asked.after);
    Json(json!({ "every": clock::millis(rates::EVERY), "samples": samples }))
}
