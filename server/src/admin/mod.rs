//! The admin page: what the server holds, who is connected, what happens and what is wrong, read-only, on a listener of
//! its own, for whoever shows its token.
//!
//! The page is three static files that hold nothing; it asks the JSON interface under `/admin/api/`, as scripts may.
//! Invariant: nothing here writes or shows a value of a record; every answer is bounded, and no request makes the
//! writer or a hub wait. Absent: rights of users (`auth`), what is counted (`metrics`).

mod access;
mod events;
mod lists;
mod live;
mod notes;
mod observer;
mod overview;
mod pulse;
mod rates;
mod record;
mod sampler;
mod sizes;

pub use access::AdminTokenError;
pub(crate) use access::check;
pub(crate) use observer::{Observer, Seated};
pub(crate) use overview::About;
pub(crate) use pulse::Pulse;

use crate::{app::operations::Operations, config::AdminConfig, hubs::Hubs, metrics::Metrics};
use access::Access;
use axum::{
    Json, Router,
    extract::{FromRequestParts, Query, Request, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use rates::Rates;
use rejoin_core::{port::Store, protocol::host::Standing};
use rejoin_sqlite::{SqliteError, SqliteStore};
use sampler::Behind;
use serde::de::DeserializeOwned;
use sizes::Sizes;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tracing::error;

/// Most entries of one answer.
const PAGE_MAX: usize = 100;
/// Tails that are followed at a time.
const TAILS_MAX: usize = 16;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/admin.css");
macro_rules! modules {
    ($($name:literal)*) => {
        [$((concat!("/admin/", $name, ".js"), include_str!(concat!("page/", $name, ".js")))),*]
    };
}

/// Where each module of the page is, and its text.
const MODULES: [(&str, &str); 15] = modules! {
    "admin" "asking" "charts" "clients" "elements" "events" "gate" "live" "numbers" "overview" "parts" "record"
    "spaces" "state" "stories"
};

/// What the page may do: ask where it came from, and show text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// What is behind the page, from the start of the server on.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    access: Arc<Access>,
    observer: Arc<Observer>,
    hubs: Arc<Hubs>,
    metrics: Arc<Metrics>,
    rates: Arc<Rates>,
    sizes: Arc<Sizes>,
    behind: Arc<Behind>,
}

/// What requests are answered from.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    admin: Admin,
    operations: Arc<Operations>,
    about: Arc<About>,
    tails: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Admin {
    /// Reads the token.
    ///
    /// # Errors
    /// [`AdminTokenError`].
    pub(crate) fn open(
        config: &AdminConfig,
        observer: Arc<Observer>,
        hubs: &Arc<Hubs>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AdminTokenError> {
        Ok(Self {
            access: Arc::new(Access::open(&config.token_file)?),
            observer,
            hubs: Arc::clone(hubs),
            metrics: Arc::clone(metrics),
            rates: Arc::default(),
            sizes: Arc::default(),
            behind: Arc::default(),
        })
    }

    /// Does what is to be done now and then, until the process ends.
    pub(crate) async fn keep(self, mut stopping: watch::Receiver<bool>) {
        let access = Arc::clone(&self.access).keep(stopping.clone());
        let work = async {
            tokio::join!(access, sampler::run(&self), self.sizes.keep(&self.hubs));
        };
        tokio::select! {
            () = work => {}
            // An error means that nobody is left to stop it.
            _ = stopping.wait_for(|stops| *stops) => {}
        }
    }

    /// All that its listener serves.
    pub(crate) fn router(
        self,
        operations: &Arc<Operations>,
        about: About,
        stopping: watch::Receiver<bool>,
    ) -> Router {
        let access = Arc::clone(&self.access);
        let desk = Desk {
            admin: self,
            operations: Arc::clone(operations),
            about: Arc::new(about),
            tails: Arc::new(Semaphore::new(TAILS_MAX)),
            stopping,
        };
        let api = Router::new()
            .route("/overview", get(overview::overview))
            .route("/rates", get(overview::rates))
            .route("/spaces", get(lists::spaces))
            .route("/clients", get(lists::clients))
            .route("/replicas", get(lists::replicas))
            .route("/collections", get(lists::collections))
            .route("/records", get(lists::records))
            .route("/record", get(record::record))
            .route("/events", get(live::events))
            .route("/live", get(live::live))
            .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing of this name"))
            .layer(middleware::from_fn_with_state(access, access::guard))
            .with_state(desk);
        let file = |kind: &'static str, text: &'static str| {
            get(async move || ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text))
        };
        let script = |router: Router, (path, text): &(&'static str, &'static str)| {
            router.route(path, file("text/javascript; charset=utf-8", text))
        };
        MODULES
            .iter()
            .fold(Router::new(), script)
            .route("/", get(async || Redirect::temporary("/admin/")))
            .route("/admin", get(async || Redirect::temporary("/admin/")))
            .route("/admin/", file("text/html; charset=utf-8", PAGE))
            .route("/admin/admin.css", file("text/css; charset=utf-8", STYLE))
            .nest("/admin/api", api)
            .layer(middleware::from_fn(harden))
    }
}

/// What browsers must not do with what comes from here.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why there is no answer.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "status": self.status.as_u16(), "error": self.reason });
        (self.status, Json(body)).into_response()
    }
}

fn refuse(status: StatusCode, reason: impl Into<String>) -> Refusal {
    Refusal { status, reason: reason.into() }
}

/// The store could not be read.
fn failed(fault: &SqliteError) -> Refusal {
    error!(%fault, "the admin page could not be answered");
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read now")
}

/// What a query asks for; keys that mean nothing are refused.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let asked = Query::<T>::try_from_uri(&parts.uri);
        let bad = |error: QueryRejection| refuse(StatusCode::BAD_REQUEST, error.body_text());
        asked.map(|Query(asked)| Self(asked)).map_err(bad)
    }
}

/// Where the history of a space stands; `None`, too, where that is damaged: its hub finds it.
async fn standing(store: &SqliteStore) -> Result<Option<Standing>, SqliteError> {
    let answers = store.read(&Standing::queries()).await?;
    Ok(Standing::read(answers).ok().flatten())
}
