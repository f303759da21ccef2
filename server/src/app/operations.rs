//! What whoever runs the server asks it: is it alive, is it ready, what does it count.
//!
//! Invariant: not ready before it ends. Absent: what is wrong in detail (the log tells it).

use crate::{
    config::OperationsConfig,
    data::{DataDir, free_bytes},
    health::Health,
    hubs::Hubs,
    metrics::Metrics,
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::FutureExt;
use rejoin_sqlite::SqliteDb;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is asked.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) data: DataDir,
    pub(crate) db: SqliteDb,
    pub(crate) hubs: Arc<Hubs>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: OperationsConfig,
    /// Becomes true when the server was asked to end.
    pub(crate) draining: watch::Receiver<bool>,
    /// It was ready once.
    pub(crate) started: AtomicBool,
}

/// The paths of the probes.
pub(crate) const PROBES: [&str; 3] = ["/livez", "/readyz", "/startupz"];

/// The probes.
pub(crate) fn probes(operations: &Arc<Operations>) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .with_state(Arc::clone(operations))
}

/// What is counted.
pub(crate) fn metrics(operations: &Arc<Operations>) -> Router {
    Router::new().route("/metrics", get(tell)).with_state(Arc::clone(operations))
}

impl Operations {
    /// Whether anything but its end helps; why it does if so.
    pub(crate) fn alive(&self) -> Result<(), String> {
        match self.db.failed().now_or_never() {
            None => Ok(()),
            Some(fault) => Err(fault.to_string()),
        }
    }

    /// Whether it should be sent anybody; the reason if not.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        if *self.draining.borrow() {
            return Err("the server ends".to_owned());
        }
        self.health.check().await.map_err(|ailment| ailment.to_string())?;
        let least = u64::from(self.config.disk_free_min_mib) << 20;
        match free_bytes(self.data.path()) {
            Ok(Some(free)) if free < least => Err(format!(
                "{} MiB are free on the disk, {} is the least",
                free >> 20,
                least >> 20
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the room on the disk cannot be told: {error}")),
        }
    }
}

/// A process that is not should be ended: nothing but a new one helps.
async fn live(State(operations): State<Arc<Operations>>) -> Response {
    answer(operations.alive().map(|()| "alive"))
}

async fn ready(State(operations): State<Arc<Operations>>) -> Response {
    answer(operations.ready().await.map(|()| "ready"))
}

/// Once it was ready it has started.
async fn started(State(operations): State<Arc<Operations>>) -> Response {
    if !operations.started.load(Ordering::Relaxed) {
        if let Err(reason) = operations.ready().await {
            return answer(Err(reason));
        }
        operations.started.store(true, Ordering::Relaxed);
    }
    answer(Ok("started"))
}

fn answer(found: Result<&str, String>) -> Response {
    let (status, body) = match found {
        Ok(status) => (StatusCode::OK, serde_json::json!({ "status": status })),
        Err(reason) => {
            let body = serde_json::json!({ "status": "unavailable", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn tell(State(operations): State<Arc<Operations>>) -> Response {
    let Operations { metrics, db, hubs, data, .. } = &*operations;
    match metrics.text(db, hubs, data) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_never) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
