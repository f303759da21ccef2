//! Spans: what a collector is told of requests and of messages, and that nobody waits for it.

use crate::{
    client::Client,
    http::ask,
    world::{Directory, PATIENCE, Process},
};
use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message;
use std::{
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, time::timeout};

/// A trace of somebody else, and the span in it that asks.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A program that takes spans.
#[derive(Debug, Clone, Default)]
struct Collector {
    came: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Collector {
    async fn listen(&self) -> SocketAddr {
        let came = Arc::clone(&self.came);
        let take = move |headers: HeaderMap, body: Bytes| async move {
            came.lock().unwrap().push((headers, body));
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The spans, and the service that they are said to be of.
    fn spans(&self) -> Vec<(String, Span)> {
        let came = self.came.lock().unwrap();
        let mut spans = Vec::new();
        for (_, body) in &*came {
            let told = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
            for of in told.resource_spans {
                let resource = of.resource.expect("a resource");
                let mut named = resource.attributes.into_iter();
                let name = named.find(|attribute| attribute.key == "service.name");
                let service = text(name.expect("a name").value.expect("one").value);
                let told = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(told.map(|span| (service.clone(), span)));
            }
        }
        spans
    }
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    text(found.unwrap_or_else(|| panic!("{name} of {span:?}")).value.clone().unwrap().value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that tells its spans to a collector.
fn telling(directory: &Directory, collector: SocketAddr) -> Process {
    let mut command = Command::new("env");
    command.args(["OTEL_EXPORTER_OTLP_HEADERS=api-key=of-ours", "OTEL_SERVICE_NAME=notes"]);
    command.arg(env!("CARGO_BIN_EXE_rejoin-server"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(directory.path().join("data"));
    command.arg(format!("--otlp-endpoint=http://{collector}/"));
    Process::run(&mut command)
}

#[cfg(unix)]
#[tokio::test]
async fn a_collector_is_told_what_is_done_for_requests_and_messages_and_never_what_is_in_them() {
    let (directory, collector) = (Directory::new(), Collector::default());
    let mut process = telling(&directory, collector.listen().await);
    let path = "/v1/spaces/demo/collections/tasks/records/1";
    let asked = ask("PUT", path).json(r#"{"title":"nobody's business"}"#);
    let asked = asked.with("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
    asked.at_address(process.address).await.is(201);
    ask("GET", "/v1/spaces/demo/collections").at_address(process.address).await.is(200);
    let mut client = Client::joined(process.address, "demo", 1).await;
    client.push("2", "nor this").await.unwrap();
    client.settle().await.unwrap();
    drop(client);
    process.terminate();
    assert!(process.ended().await.success());

    let spans = collector.spans();
    assert!(spans.iter().all(|(service, _)| service == "notes"), "{spans:?}");
    for (headers, body) in &*collector.came.lock().unwrap() {
        assert_eq!(headers["api-key"], "of-ours");
        let body = String::from_utf8_lossy(body);
        assert!(!body.contains("nobody's") && !body.contains("nor this"), "{body}");
    }
    let named = |name: &str| spans.iter().map(|(_, span)| span).find(|span| span.name == name);
    let put = spans.iter().map(|(_, span)| span).find(|span| hex(&span.parent_span_id) == PARENT);
    let put = put.unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(hex(&put.trace_id), TRACE);
    assert_eq!(put.name, "PUT /v1/spaces/{space}/collections/{collection}/records/{id}");
    assert_eq!(attribute(put, "http.response.status_code"), "201");
    let get = named("GET /v1/spaces/{space}/collections").expect("a trace of its own");
    assert!(get.trace_id != put.trace_id && get.parent_span_id.is_empty());
    let within = |parent: &Span, name: &str| {
        spans.iter().any(|(_, span)| {
            span.name == name
                && span.trace_id == parent.trace_id
                && span.parent_span_id == parent.span_id
                && parent.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= parent.end_time_unix_nano
        })
    };
    assert!(within(put, "write"), "{spans:?}");
    for name in ["frame", "read", "commit"] {
        let span = named(name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
        assert_eq!(attribute(span, "rejoin.space"), "demo");
        assert!(span.parent_span_id.is_empty());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_collector_that_does_not_answer_keeps_nobody_waiting() {
    let directory = Directory::new();
    // Connections wait there, and nobody takes them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut process = telling(&directory, listener.local_addr().unwrap());
    let mut client = Client::joined(process.address, "demo", 1).await;
    for number in 0..100 {
        client.push(&number.to_string(), "x").await.unwrap();
        client.settle().await.unwrap();
    }
    drop(client);
    process.terminate();
    let ended = timeout(PATIENCE.min(Duration::from_secs(8)), process.ended()).await;
    assert!(ended.expect("an end in time").success());
}
