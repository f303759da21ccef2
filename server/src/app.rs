//! What can be asked for: `/sync` and what stands in for it (`posts`), `/v1` (see `http`), `/healthz`, the probes, metrics where they are wanted, and the
//! files of a page.
//!
//! Absent: the protocol, and everything that would need a session or a cookie.

pub(crate) mod operations;

use crate::{
    census::Slot,
    config::Switch,
    health::Health,
    http::{Api, Problem},
    line::Gate,
    posts::Posts,
    rates::Limiter,
    ws,
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::service::TowerToHyperService;
use operations::Operations;
use std::{convert::Infallible, path::Path, sync::Arc};
use tower_http::services::ServeDir;

/// The router, ready to serve connections.
#[derive(Debug, Clone)]
pub(crate) struct App {
    router: Router,
}

impl App {
    /// Probes, and metrics, for those who run the server.
    pub(crate) fn of_operations(operations: &Arc<Operations>) -> Self {
        let router = operations::probes(operations).merge(operations::metrics(operations));
        Self { router: router.layer(middleware::from_fn(add_headers)) }
    }

    /// The admin page, for those who run the server.
    pub(crate) const fn of_admin(router: Router) -> Self {
        Self { router }
    }

    /// What clients and browsers ask for, and what those who run the server may ask here.
    pub(crate) fn new(
        gate: Gate,
        api: Api,
        operations: &Arc<Operations>,
        static_dir: Option<&Path>,
    ) -> Self {
        let health = Arc::clone(&operations.health);
        let sync = get(|State(gate): State<Gate>, request: Request| async move {
            ws::upgrade(gate, request)
        });
        let limiter = Arc::clone(&gate.limiter);
        let api = api.router(Arc::clone(&gate.origins));
        let posts = Posts::new(gate.clone()).router();
        let router = Router::new()
            .route("/sync", sync)
            .with_state(gate)
            .merge(posts)
            .route("/healthz", get(move || healthz(health)))
            .merge(operations::probes(operations));
        let router = match operations.config.metrics {
            Switch::On => router.merge(operations::metrics(operations)),
            Switch::Off => router,
        };
        // Last: of routers that are merged the last one answers for what is nowhere.
        let router = router.merge(api);
        let router = match static_dir {
            Some(dir) => router.fallback_service(ServeDir::new(dir)),
            None => router,
        };
        let often = middleware::from_fn(move |request: Request, next: Next| {
            refuse_too_often(Arc::clone(&limiter), request, next)
        });
        Self { router: router.layer(often).layer(middleware::from_fn(add_headers)) }
    }

    /// Serves one connection; its requests carry its slot.
    pub(crate) fn service(
        &self,
        slot: &Arc<Slot>,
    ) -> impl Service<
        hyper::Request<Incoming>,
        Response = Response,
        Error = Infallible,
        Future: Send + 'static,
    > + use<> {
        let (router, slot) = (self.router.clone(), Arc::clone(slot));
        service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&slot));
            TowerToHyperService::new(router.clone()).call(request)
        })
    }
}

/// So many requests from one address, whatever they ask for; but whoever looks after the process is always told how it
/// is, and does not end it for a flood that comes through the same proxy.
async fn refuse_too_often(limiter: Arc<Limiter>, request: Request, next: Next) -> Response {
    let is_probe = operations::PROBES.contains(&request.uri().path());
    let slot = request.extensions().get::<Arc<Slot>>().filter(|_| !is_probe);
    match slot.map(|slot| limiter.request_from(slot.address())) {
        Some(Err(met)) => Problem::too_often(&met).into_response(),
        Some(Ok(())) | None => next.run(request).await,
    }
}

async fn healthz(health: Arc<Health>) -> Response {
    let (status, body) = match health.check().await {
        Ok(()) => (StatusCode::OK, "{\"status\":\"ok\"}\n".to_owned()),
        Err(ailment) => {
            let body = format!("{{\"status\":\"unavailable\",\"reason\":\"{ailment}\"}}\n");
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Files whose names change with their content are kept for ever, all else is asked for again.
async fn add_headers(request: Request, next: Next) -> Response {
    let hashed = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let found = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let cache = if hashed && found { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
