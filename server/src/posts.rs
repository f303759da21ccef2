//! A connection whose frames are carried by requests, for networks that let no WebSocket through.
//!
//! The frames are those of a WebSocket, each with its length before it, and go the same way behind it (`line`): what is
//! lost, repeated or overtaken on the way fails its check, and ends the connection. Whoever opened one is known by its
//! number, which nobody can guess, in a header, where no log and no page of another origin finds it. One request at a
//! time waits for what there is to be told; who asks for too long for nothing is cut as one who takes nothing.
//! Absent: what frames mean, and whom they are from.

use crate::{
    census::Slot,
    line::{self, Ear, Ending, FAREWELL, Gate, Heard, Mouth},
    secret,
    ws::origin_is_allowed,
};
use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rejoin_core::protocol::{limits::FRAME_BYTES_MAX, message::ByeCode};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    limit::RequestBodyLimitLayer,
};

/// Which connection a request belongs to: its number, in base64 for addresses.
const LINE: HeaderName = HeaderName::from_static("rejoin-line");
/// Frames that wait to be looked at, or to be fetched.
const FRAMES_WAITING_MAX: usize = 8;
/// Bytes of the length before a frame.
const LENGTH_BYTES: usize = 4;
/// How long a request waits for something to be told: less than what proxies wait for an answer.
const WAIT: Duration = Duration::from_secs(20);
/// How long the last words of a connection that is over can be fetched.
const LINGER: Duration = Duration::from_secs(10);
/// How long a browser may go by what it was told of another origin's rights.
const PREFLIGHT_HOLDS: Duration = Duration::from_secs(3_600);

type Number = [u8; 16];

/// The connections of this kind.
#[derive(Debug, Clone)]
pub(crate) struct Posts {
    gate: Arc<Gate>,
    lines: Arc<Mutex<BTreeMap<Number, Arc<Line>>>>,
}

/// One of them, as requests see it.
#[derive(Debug)]
struct Line {
    /// Frames of the client.
    said: mpsc::Sender<Bytes>,
    /// Frames for it.
    told: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
    /// Becomes true when the client leaves, or does what it must not.
    left: watch::Sender<bool>,
    /// The client has all that it was told, and knows that no more comes.
    heard_all: Notify,
}

impl Line {
    fn leave(&self) {
        self.left.send_replace(true);
    }
}

/// Why a request is not answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// There is no such connection any more.
    Over,
    /// The server has too many, or the address has.
    Full,
    /// The machine has no random bytes for a number.
    Numberless,
    /// Another request waits already.
    Waited,
    /// The body is not a list of frames.
    Malformed,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Over => (StatusCode::GONE, "this connection is over\n"),
            Self::Full => (StatusCode::TOO_MANY_REQUESTS, "too many connections\n"),
            Self::Numberless => (StatusCode::SERVICE_UNAVAILABLE, "no number can be drawn\n"),
            Self::Waited => (StatusCode::CONFLICT, "another request waits on this connection\n"),
            Self::Malformed => (StatusCode::BAD_REQUEST, "the body is not a list of frames\n"),
        };
        (status, text).into_response()
    }
}

impl Posts {
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate: Arc::new(gate), lines: Arc::default() }
    }

    /// The routes.
    pub(crate) fn router(self) -> Router {
        let known = Arc::clone(&self.gate.origins);
        let allowed =
            move |_: &HeaderValue, parts: &Parts| origin_is_allowed(&parts.headers, &known);
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allowed))
            .allow_methods([Method::POST])
            .allow_headers([header::CONTENT_TYPE, LINE])
            .max_age(PREFLIGHT_HOLDS);
        let known = Arc::clone(&self.gate.origins);
        let same_site = middleware::from_fn(move |request: Request, next: Next| {
            refuse_strangers(Arc::clone(&known), request, next)
        });
        Router::new()
            .route("/sync/open", post(open))
            .route("/sync/send", post(send))
            .route("/sync/receive", post(receive))
            .route("/sync/close", post(close))
            .layer(RequestBodyLimitLayer::new(FRAME_BYTES_MAX + LENGTH_BYTES))
            .layer(cors)
            .layer(same_site)
            .with_state(self)
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Number, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, headers: &HeaderMap) -> Result<Arc<Line>, Refused> {
        let number = headers.get(LINE).and_then(|value| value.to_str().ok()).and_then(number);
        let line = number.and_then(|number| self.lines().get(&number).cloned());
        line.ok_or(Refused::Over)
    }
}

/// A preflight asks for itself; every other request from elsewhere is refused, whatever it would do.
async fn refuse_strangers(origins: Arc<[String]>, request: Request, next: Next) -> Response {
    if origin_is_allowed(request.headers(), &origins) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this origin may not connect\n").into_response()
    }
}

async fn open(State(posts): State<Posts>, request: Request) -> Result<Response, Refused> {
    let slot = request.extensions().get::<Arc<Slot>>();
    let slot = slot.and_then(|slot| slot.another()).ok_or(Refused::Full)?;
    let number: Number = secret::random().map_err(|_no_entropy| Refused::Numberless)?;
    let (said, saying) = mpsc::channel(FRAMES_WAITING_MAX);
    let (telling, told) = mpsc::channel(FRAMES_WAITING_MAX);
    let (left, leaving) = watch::channel(false);
    let told = tokio::sync::Mutex::new(told);
    let line = Arc::new(Line { said, told, left, heard_all: Notify::new() });
    posts.lines().insert(number, Arc::clone(&line));
    tokio::spawn(async move {
        let frame_bytes_max = posts.gate.frame_bytes_max;
        let mut ear = Hearing { said: saying, left: leaving, frame_bytes_max };
        let mut mouth = Telling(telling);
        line::serve(&mut ear, &mut mouth, &posts.gate, slot.address()).await;
        drop((ear, mouth));
        let linger = if *posts.gate.stopping.borrow() { FAREWELL } else { LINGER };
        timeout(linger, line.heard_all.notified()).await.ok();
        posts.lines().remove(&number);
        drop(slot);
    });
    Ok((StatusCode::CREATED, text(&number)).into_response())
}

/// Takes frames in, in their order; answers when all of them are on their way.
async fn send(
    State(posts): State<Posts>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let line = posts.line(&headers)?;
    let mut rest = body;
    while !rest.is_empty() {
        let Some(frame) = split(&mut rest) else {
            line.leave();
            return Err(Refused::Malformed);
        };
        line.said.send(frame).await.map_err(|_over| Refused::Over)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Tells what there is to be told, as soon as there is something, and within one body of bounded length.
async fn receive(State(posts): State<Posts>, headers: HeaderMap) -> Result<Response, Refused> {
    let line = posts.line(&headers)?;
    let Ok(mut told) = line.told.try_lock() else {
        // Frames may have left by the other one, to somebody who hears no more.
        line.leave();
        return Err(Refused::Waited);
    };
    let mut body = Vec::new();
    match timeout(WAIT, told.recv()).await {
        Err(_elapsed) => return Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(None) => {
            line.heard_all.notify_one();
            return Err(Refused::Over);
        }
        Ok(Some(frame)) => join(&mut body, &frame),
    }
    // Nothing is waited for from here on: what was taken is answered.
    while body.len() < FRAME_BYTES_MAX
        && let Ok(frame) = told.try_recv()
    {
        join(&mut body, &frame);
    }
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, body).into_response())
}

async fn close(State(posts): State<Posts>, headers: HeaderMap) -> Result<StatusCode, Refused> {
    posts.line(&headers)?.leave();
    Ok(StatusCode::NO_CONTENT)
}

/// What requests bring.
struct Hearing {
    said: mpsc::Receiver<Bytes>,
    left: watch::Receiver<bool>,
    frame_bytes_max: usize,
}

impl Ear for Hearing {
    async fn hear(&mut self) -> Heard {
        tokio::select! {
            biased;
            frame = self.said.recv() => match frame {
                Some(frame) if frame.len() > self.frame_bytes_max => {
                    Heard::violation(ByeCode::TooLarge, "a frame is too large")
                }
                Some(frame) => Heard::Frame(frame),
                None => Heard::Ended(Ending::Gone),
            },
            _ = self.left.wait_for(|left| *left) => Heard::Ended(Ending::Gone),
        }
    }
}

/// What requests fetch.
struct Telling(mpsc::Sender<Vec<u8>>);

impl Mouth for Telling {
    async fn say(&mut self, sealed: Vec<u8>) -> bool {
        self.0.send(sealed).await.is_ok()
    }
}

/// Takes the first frame off a body.
fn split(rest: &mut Bytes) -> Option<Bytes> {
    let (length, _) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let behind = rest.split_off(LENGTH_BYTES);
    *rest = behind;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn join(body: &mut Vec<u8>, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    body.extend(length.to_be_bytes());
    body.extend(frame);
}

fn number(text: &str) -> Option<Number> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn text(number: &Number) -> String {
    URL_SAFE_NO_PAD.encode(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_joined() {
        let mut body = Vec::new();
        join(&mut body, b"abc");
        join(&mut body, b"");
        let mut rest = Bytes::from(body);
        assert_eq!(split(&mut rest).as_deref(), Some(b"abc".as_slice()));
        assert_eq!(split(&mut rest).as_deref(), Some(b"".as_slice()));
        assert!(rest.is_empty());
        for cut in [&b"\0"[..], b"\0\0\0\x02a", b"\xff\xff\xff\xff"] {
            assert_eq!(split(&mut Bytes::from_static(cut)), None);
        }
    }

    #[test]
    fn numbers_come_back_from_their_texts() {
        let one: Number = [0x0f; 16];
        assert_eq!(number(&text(&one)), Some(one));
        for other in ["", "0f", "AAAAAAAAAAAAAAAAAAAAAB", &"A".repeat(23)] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
