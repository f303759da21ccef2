//! Spans: what is done for a request or a message and how long it takes, told to an OpenTelemetry collector.
//!
//! A trace is a request, or a message of a session, with what its space's hub has the store do for it. Invariant:
//! nothing waits for the collector, what it does not take is dropped, and no token and no value of a record is in a
//! span. Without a collector none is made. Absent: events (`telemetry`), numbers (`metrics`).

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use rejoin_core::id::SpaceId;
use std::time::Duration;
use tracing::{Span, trace_span};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};
use ureq::Agent;

/// Of every span: it keeps them apart from what is logged.
pub(crate) const TARGET: &str = "rejoin::span";
/// Where a collector takes spans, behind its address.
const PATH: &str = "/v1/traces";
/// What a collector says to spans is short.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Links of one group; further ones are not told.
const WAITING_MAX: usize = 64;
/// What waits at the end of the process is told within this time, or never.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Tells spans; what waits is told when it is dropped.
#[derive(Debug)]
pub(crate) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// To the collector at an address. The variables of the OpenTelemetry specification say the rest: headers, the
    /// service's name, which traces are sampled.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn new(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Poster(Agent::new_with_config(config.build())))
            .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
            .build()?;
        let name = std::env::var("OTEL_SERVICE_NAME");
        let name = name.unwrap_or_else(|_unset| env!("CARGO_PKG_NAME").to_owned());
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name(name).build());
        Ok(Self(provider.build()))
    }

    /// Takes spans, and nothing else.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer: SdkTracer = self.0.tracer(env!("CARGO_PKG_NAME"));
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(END_WITHIN) {
            tracing::warn!(%error, "some spans were not told");
        }
    }
}

/// The client of webhooks, on the exporter's own thread.
#[derive(Debug)]
struct Poster(Agent);

#[async_trait::async_trait]
impl HttpClient for Poster {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.run(request.map(Vec::from))?;
        let (parts, mut body) = answer.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

/// Requests and messages that wait while a hub does something else. In one group of a hub many are done.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<Span>);

impl Waiting {
    pub(crate) fn push(&mut self, span: Span) {
        if !span.is_disabled() && self.0.len() < WAITING_MAX {
            self.0.push(span);
        }
    }

    /// What is done for `cause` is; what is done for nothing in particular is done for all that wait: within the trace
    /// of the first, which the others link to.
    pub(crate) fn cause_of(&mut self, cause: &Span) -> Span {
        if !cause.is_none() {
            return cause.clone();
        }
        let mut waiting = self.0.drain(..);
        let first = waiting.next().unwrap_or_else(Span::none);
        for other in waiting {
            other.follows_from(&first);
        }
        first
    }
}

/// A message of a session, for as long as anything is done for it.
pub(crate) fn of_message(space: &SpaceId, bytes: usize) -> Span {
    trace_span!(
        target: TARGET, parent: None, "message",
        otel.kind = "consumer", rejoin.space = %space, rejoin.bytes = bytes,
    )
}
