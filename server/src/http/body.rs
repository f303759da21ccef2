//! Bodies of requests, within limits, and which form an answer may have.

use super::{
    Api, Caller,
    problem::{Code, Problem},
};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use serde_json::{Map, Value as Json};
use std::{error::Error, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Largest body, as it comes and decoded.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Bodies that say that they have no more than this come in beside each other.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// Of others so many at a time: what bodies take in memory is bounded, whoever sends them.
const LARGE_MAX: usize = 64;
/// How long a larger one waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Lets in so many large bodies at a time.
#[derive(Debug, Clone)]
pub(crate) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_MAX)))
    }
}

impl Bodies {
    /// Waits for the turn of a body that may be large; it is over when what this returns is dropped.
    ///
    /// # Errors
    /// 503.
    async fn turn(&self, headers: &HeaderMap) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let is_coded = headers.contains_key(header::CONTENT_ENCODING);
        if said_length(headers).is_some_and(|bytes| bytes <= SMALL_BYTES_MAX) && !is_coded {
            return Ok(None);
        }
        match timeout(TURN_WITHIN, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            _ => Err(Problem::busy("too many large bodies come at once; nothing was done")),
        }
    }
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub(crate) json: T,
    pub(crate) bytes: Bytes,
    /// Its turn lasts until it is answered.
    turn: Option<OwnedSemaphorePermit>,
}

/// How long a body is as it comes, if that is said.
fn said_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body of JSON. Its bytes count like those of the caller's frames: what is said of them before they are read.
///
/// # Errors
/// 415, 429, 503, 408, 413, 400.
pub(crate) async fn read(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received<Json>, Problem> {
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let detail = "Content-Type: application/json is needed (curl --json)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::MediaType, detail));
    }
    let said = said_length(headers).unwrap_or_default();
    api.weigh(caller, said)?;
    let turn = api.bodies.turn(headers).await?;
    let read = timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX)).await;
    let Ok(read) = read else {
        let detail = "the body did not come in time";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, detail));
    };
    let bytes = read.map_err(|error| {
        if is_too_long(&error) {
            let detail = format!("the body has more than {BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, detail)
        } else {
            Problem::invalid(format!("the body cannot be read: {error}"))
        }
    })?;
    api.weigh(caller, bytes.len().saturating_sub(said))?;
    // Deeper than 128 levels is an error of the parser.
    let json = serde_json::from_slice(&bytes);
    let json = json.map_err(|error| Problem::invalid(format!("the body is not JSON: {error}")))?;
    Ok(Received { json, bytes, turn })
}

/// The same, where it must be an object.
pub(crate) async fn read_object(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received<Map<String, Json>>, Problem> {
    let Received { json, bytes, turn } = read(api, caller, headers, body).await?;
    let Json::Object(json) = json else {
        return Err(Problem::unprocessable("the body is not an object of fields"));
    };
    Ok(Received { json, bytes, turn })
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = at {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        at = error.source();
    }
    false
}

/// Whether an answer of this type is accepted. No header accepts everything.
///
/// # Errors
/// 406.
pub(crate) fn accepts(headers: &HeaderMap, kind: &str) -> Result<(), Problem> {
    let mut said = headers.get_all(header::ACCEPT).iter().peekable();
    if said.peek().is_none() {
        return Ok(());
    }
    let main = kind.split('/').next().unwrap_or_default();
    let fits = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let named = essence == kind || essence == "*/*" || essence == format!("{main}/*");
        named && !refused
    };
    let accepted =
        said.filter_map(|value| value.to_str().ok()).any(|value| value.split(',').any(fits));
    if accepted {
        return Ok(());
    }
    let detail = format!("the answer is {kind}");
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, Code::NotAcceptable, detail))
}

/// A header of text, if it is there.
///
/// # Errors
/// 400 where it is no text, or comes twice.
pub(crate) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(Problem::invalid(format!("{name} is no text, or comes twice"))),
    }
}
