//! Bodies of requests, within limits, and which form an answer may have.

use super::problem::{Code, Problem};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use serde_json::{Map, Value as Json};
use std::{error::Error, time::Duration};
use tokio::time::timeout;

/// Largest body, as it comes and decoded.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// Reads a body of JSON.
///
/// # Errors
/// 415, 408, 413, 400.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<(Json, Bytes), Problem> {
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let detail = "Content-Type: application/json is needed (curl --json)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::MediaType, detail));
    }
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
    // Deeper than 128 levels is an error of the parser.
    let json = serde_json::from_slice(&bytes);
    let json = json.map_err(|error| Problem::invalid(format!("the body is not JSON: {error}")))?;
    Ok((json, bytes))
}

/// The same, where it must be an object.
pub(crate) async fn read_object(
    headers: &HeaderMap,
    body: Body,
) -> Result<(Map<String, Json>, Bytes), Problem> {
    match read(headers, body).await? {
        (Json::Object(object), bytes) => Ok((object, bytes)),
        (_, _) => Err(Problem::unprocessable("the body is not an object of fields")),
    }
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
