//! Spans: what is done for a request or a message and how long it takes, told to an OpenTelemetry collector.
//!
//! Many requests and messages are done in one read and one commit of a hub, so these have traces of their own.
//! Invariant: nothing waits for the collector, what it does not take is dropped, and no token and no value of a record
//! is in a span. Without a collector none is made. Absent: events (`telemetry`), numbers (`metrics`).

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use rejoin_core::id::SpaceId;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tracing::{Span, field::Empty, info, trace_span, warn};
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
            .with_http_client(Poster {
                agent: Agent::new_with_config(config.build()),
                lost: false.into(),
            })
            .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
            .build()?;
        let says = |variable: &str, part: &str| {
            std::env::var(variable).is_ok_and(|said| said.contains(part) && !said.is_empty())
        };
        let mut resource = Resource::builder();
        if !says("OTEL_SERVICE_NAME", "") && !says("OTEL_RESOURCE_ATTRIBUTES", "service.name=") {
            resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
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
            warn!(%error, "some spans were not told");
        }
    }
}

/// Posts spans, on the exporter's own thread.
#[derive(Debug)]
struct Poster {
    agent: Agent,
    /// Whether the last ones were not taken: that is said once.
    lost: AtomicBool,
}

impl Poster {
    fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.agent.run(request.map(Vec::from))?;
        let (parts, mut body) = answer.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

#[async_trait::async_trait]
impl HttpClient for Poster {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let posted = self.post(request);
        let fault = match &posted {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let lost = self.lost.swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(fault) if !lost => warn!(%fault, "the collector takes no spans"),
            None if lost => info!("the collector takes spans again"),
            Some(_) | None => {}
        }
        posted
    }
}

/// What a hub does with a frame of a session.
pub(crate) fn of_frame(space: &SpaceId, bytes: usize) -> Span {
    trace_span!(target: TARGET, parent: None, "frame", rejoin.space = %space, rejoin.bytes = bytes)
}

/// From when a hub is asked to write until it answers, within the request that asks.
pub(crate) fn of_write() -> Span {
    trace_span!(target: TARGET, "write")
}

/// What a hub reads: for one, or for all whose turn it is.
pub(crate) fn of_read(space: &SpaceId, queries: usize) -> Span {
    trace_span!(
        target: TARGET, parent: None, "read", rejoin.space = %space, rejoin.queries = queries
    )
}

/// What a hub commits, for all whose turn it is.
pub(crate) fn of_commit(space: &SpaceId, writes: usize) -> Span {
    trace_span!(
        target: TARGET, parent: None, "commit",
        rejoin.space = %space, rejoin.writes = writes, otel.status_code = Empty,
    )
}

/// What it is of has failed.
pub(crate) fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}
