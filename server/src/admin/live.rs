//! What happens: the last events in pages, and those that come, as server-sent events.
//!
//! Invariant: a reader who is slow costs one message, and hears how many events were left out. Absent: values.

use super::{
    Asked, Desk, Refusal,
    access::Shown,
    events::{Class, Event},
    lists::limit,
    refuse,
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{sleep, timeout},
};

/// Events that are told at once: of more, the newest.
const AT_ONCE: usize = 100;
/// Between two messages.
const REST: Duration = Duration::from_millis(500);
/// A tail without news says so, and looks whether its token is still good.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Past {
    class: Option<Class>,
    /// Those before this number.
    before: Option<u64>,
    limit: Option<usize>,
}

/// What has happened, the last first.
pub(super) async fn events(State(desk): State<Desk>, Asked(asked): Asked<Past>) -> Response {
    let limit = limit(asked.limit);
    let found = desk.admin.observer.events.before(asked.class, asked.before, limit);
    let next = found.last().filter(|_| found.len() == limit).map(|event| event.number);
    Json(json!({ "events": found.iter().map(|event| &**event).collect::<Vec<&Event>>(), "next": next }))
        .into_response()
}

/// From where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    /// Behind this number; without it, from now on.
    after: Option<u64>,
}

/// What happens, until the reader has enough.
pub(super) async fn live(
    State(desk): State<Desk>,
    Asked(from): Asked<From>,
) -> Result<Response, Refusal> {
    let crowded = |_full| refuse(StatusCode::TOO_MANY_REQUESTS, "too many tails are followed");
    let permit = desk.tails.clone().try_acquire_owned().map_err(crowded)?;
    let last = desk.admin.observer.events.last();
    // A number that was not given out yet is of another run, of which this one knows nothing.
    let newest = *last.borrow();
    let at = from.after.map_or(newest, |after| if after > newest { 0 } else { after });
    let shown = desk.admin.access.shown();
    let reader = Reader { at, last, shown, stopping: desk.stopping.clone(), desk, _permit: permit };
    let hello = ": hello\n\n".to_owned();
    let texts = stream::unfold((Some(hello), reader), |(text, mut reader)| async move {
        let text = match text {
            Some(text) => text,
            None => reader.next().await?,
        };
        Some((Ok::<_, Infallible>(text), (None, reader)))
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx keeps what it is not told to pass on.
    let passed =
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(([kind, passed], Body::from_stream(texts)).into_response())
}

/// One who follows.
struct Reader {
    desk: Desk,
    /// The number that was told last.
    at: u64,
    last: watch::Receiver<u64>,
    /// The token that let it in.
    shown: Shown,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next text; `None` when the process ends, or the token is not good any more.
    async fn next(&mut self) -> Option<String> {
        let mut stopping = self.stopping.clone();
        let waited = async {
            let at = self.at;
            let news = async { self.last.wait_for(|last| *last != at).await.is_ok() };
            // Many that come together are told together.
            if timeout(QUIET_MAX, news).await == Ok(true) {
                sleep(REST).await;
            }
        };
        tokio::select! {
            () = waited => {}
            _stopped = stopping.wait_for(|stopping| *stopping) => return None,
        }
        if !self.desk.admin.access.still(&self.shown) {
            return None;
        }
        let (found, left_out) = self.desk.admin.observer.events.behind(self.at, AT_ONCE);
        let mut text = String::new();
        if left_out > 0 {
            text.push_str(&format!("event: missed\ndata: {left_out}\n\n"));
        }
        for event in &found {
            write(&mut text, event);
        }
        match found.last() {
            Some(event) => self.at = event.number,
            None => text.push_str(": quiet\n\n"),
        }
        Some(text)
    }
}

fn write(text: &mut String, event: &Arc<Event>) {
    // JSON has no line ends in it.
    let data = serde_json::to_string(&**event).unwrap_or_default();
    text.push_str(&format!("id: {}\nevent: event\ndata: {data}\n\n", event.number));
}
