//! The span of a request.

use crate::spans::{self, TARGET};
use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument, field::Empty, trace_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes a span of a request, within the trace that the request names.
pub(super) async fn traced(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str);
    // Anybody can ask with a method of his own.
    let method = match *request.method() {
        Method::GET
        | Method::HEAD
        | Method::PUT
        | Method::PATCH
        | Method::POST
        | Method::DELETE
        | Method::OPTIONS => request.method().as_str().to_owned(),
        _ => "_OTHER".to_owned(),
    };
    let span = trace_span!(
        target: TARGET, parent: None, "request",
        otel.name = %format_args!("{method} {path}"), otel.kind = "server", otel.status_code = Empty,
        http.request.method = method, http.route = path, http.response.status_code = Empty,
    );
    if span.is_disabled() {
        return next.run(request).await;
    }
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    // It has just been made: its parent can still be said.
    span.set_parent(parent).ok();
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status() >= StatusCode::INTERNAL_SERVER_ERROR {
        spans::failed(&span);
    }
    response
}
