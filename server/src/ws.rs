//! WebSocket connections: the upgrade, frames in, frames out, the end.
//!
//! Invariant: what one connection can make the process hold is bounded: one frame in, one part of a
//! message at the socket, and its queue. The library keeps a buffer as large as the largest frame that went out for as
//! long as the connection lives: parts keep it small, and make the time limit one on progress. Absent: what frames mean.

use crate::{
    census::{Principals, Slot},
    clock,
    connection::{Connection, Violation},
    hub::{Outgoing, Route, ToHub},
    hubs::Hubs,
    metrics::Metrics,
    outgoing::Item,
    pace::Pace,
    rates::Limiter,
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rejoin_core::{
    protocol::{
        limits::{PART_BYTES, SUBPROTOCOL},
        message::ByeCode,
        wire::{self, BadLine, Chain},
    },
    time::Millis,
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tracing::{debug, warn};

/// From this size on a message is deflated on a thread for what takes long.
const DEFLATED_APART_BYTES_MIN: usize = 8 << 10;
/// What is read at a time, and what an idle connection keeps for it: a few messages of one row. The library's default
/// is 128 KiB.
const READ_BYTES: usize = 1 << 10;
/// How long the last words, and then the peer's, are waited for.
const FAREWELL: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What every connection needs.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) hubs: Arc<Hubs>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) principals: Arc<Principals>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) origins: Arc<[String]>,
    pub(crate) frame_bytes_max: usize,
    pub(crate) opening_max: Duration,
    pub(crate) stall_max: Duration,
    /// Becomes true when the process ends.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Answers a request for a WebSocket.
pub(crate) fn upgrade(gate: Gate, mut request: Request) -> Response {
    if !origin_is_allowed(request.headers(), &gate.origins) {
        return (StatusCode::FORBIDDEN, "this origin may not connect\n").into_response();
    }
    let mut response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    if !offers(request.headers(), SUBPROTOCOL) {
        let reason = format!("the subprotocol {SUBPROTOCOL} is needed\n");
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let slot = request.extensions().get::<Arc<Slot>>().cloned();
    let address = slot.as_ref().map_or_else(|| IpAddr::from([0; 4]), |slot| slot.address());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => serve(upgraded, Box::new(gate), address).await,
            Err(error) => debug!(%error, "a connection was not upgraded"),
        }
        drop(slot);
    });
    response
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|offered| offered.trim() == protocol))
}

/// Browsers name the origin of the page, other programs none. Without a list, the page must come from
/// the host that it asks, on whatever port.
pub(crate) fn origin_is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if !allowed.is_empty() {
        let same = |known: &String| known.trim_end_matches('/').eq_ignore_ascii_case(origin);
        return allowed.iter().any(same);
    }
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let from = origin.split_once("://").map(|(_, authority)| authority);
    match (asked, from) {
        (Some(asked), Some(from)) => host_of(asked).eq_ignore_ascii_case(host_of(from)),
        _ => false,
    }
}

/// An authority without its port; `[::1]:80` has colons before it.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// How a connection ends.
enum Ending {
    /// The peer closed it, or it broke.
    Gone,
    /// It said or did what it must not.
    Violated(Violation, CloseCode),
    /// In order: nothing is open any more.
    Over(CloseCode),
    /// It takes nothing any more.
    Stalled,
}

async fn serve(upgraded: Upgraded, gate: Box<Gate>, address: IpAddr) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * PART_BYTES)
        .max_message_size(Some(gate.frame_bytes_max))
        .max_frame_size(Some(gate.frame_bytes_max));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let outgoing = Arc::new(Outgoing::default());
    let mut connection = open(&gate, &outgoing, address);
    let mut stopping = gate.stopping.clone();
    let (opening_max, stall_max) = (Millis(clock::millis(gate.opening_max)), gate.stall_max);
    let ending = {
        let metrics = &*gate.metrics;
        let writing = write(&mut sink, &outgoing, stall_max, metrics);
        tokio::pin!(writing);
        let ending = tokio::select! {
            ending = read(
                &mut stream, &mut connection, &outgoing, opening_max, &mut stopping, metrics,
            ) => ending,
            ending = &mut writing => ending,
        };
        if let Ending::Violated(violation, _) = &ending {
            connection.say(violation);
        }
        if matches!(ending, Ending::Stalled) {
            warn!(seconds = stall_max.as_secs(), "a client takes nothing, cut");
        }
        outgoing.end();
        if matches!(ending, Ending::Violated(..) | Ending::Over(_)) {
            // Late last words are no reason to keep a connection.
            timeout(FAREWELL, writing).await.ok();
        }
        ending
    };
    connection.leave().await;
    if let (Ending::Violated(_, code) | Ending::Over(code), Ok(socket)) =
        (ending, sink.reunite(stream))
    {
        // Boxed, like all that is done once: a connection keeps room for whatever it might come to.
        timeout(FAREWELL, Box::pin(part(socket, code))).await.ok();
    }
}

/// Boxed: it is not moved about with what waits for it.
fn open(gate: &Gate, outgoing: &Arc<Outgoing>, address: IpAddr) -> Box<Connection> {
    let pace = Pace::new(Arc::clone(&gate.limiter));
    let (hubs, outgoing) = (Arc::clone(&gate.hubs), Arc::clone(outgoing));
    let principals = Arc::clone(&gate.principals);
    Box::new(Connection::new(hubs, outgoing, pace, principals, address))
}

async fn read(
    stream: &mut SplitStream<Socket>,
    connection: &mut Connection,
    outgoing: &Outgoing,
    opening_max: Millis,
    stopping: &mut watch::Receiver<bool>,
    metrics: &Metrics,
) -> Ending {
    let mut chain = Chain::of_initiator();
    loop {
        let idle_since = connection.idle_since();
        if idle_since.is_some() && *stopping.borrow() {
            return Ending::Over(CloseCode::Away);
        }
        let patience = idle_since.map(|since| clock::until(since + opening_max));
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Binary(sealed))) => {
                    metrics.frames_received.inc();
                    metrics.received_bytes.inc_by(sealed.len() as u64);
                    let Ok(frame) = chain.open(&sealed) else {
                        return violated(ByeCode::BadLine, BadLine::REASON, CloseCode::Again);
                    };
                    // Boxed: a connection that is idle has no room for a message that is on its way.
                    if let Err(violation) = Box::pin(connection.take_in(frame)).await {
                        let code = close_code(violation.code);
                        return Ending::Violated(violation, code);
                    }
                }
                Some(Ok(Message::Text(_))) => {
                    return violated(ByeCode::Malformed, "a text message", CloseCode::Unsupported);
                }
                // Answers to pings and to a close leave with the next read. What says nothing takes time as well.
                Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
                )) => {
                    if let Err(violation) = Box::pin(connection.pace(1)).await {
                        return Ending::Violated(violation, CloseCode::Again);
                    }
                }
                None => return Ending::Gone,
                Some(Err(error)) => return ending_of(&error),
            },
            () = outgoing.wait_closed() => connection.forget_closed(),
            () = sleep(patience.unwrap_or_default()), if patience.is_some() => {
                // A wait that ended a little early goes on.
                if patience == Some(Duration::ZERO) {
                    let reason = "no channel is open";
                    return violated(ByeCode::Misbehaved, reason, CloseCode::Policy);
                }
            }
            stopped = stopping.changed() => {
                if stopped.is_err() {
                    return Ending::Over(CloseCode::Away);
                }
            }
        }
    }
}

const fn violated(code: ByeCode, reason: &'static str, close: CloseCode) -> Ending {
    Ending::Violated(Violation { channel: None, code, reason }, close)
}

fn close_code(code: ByeCode) -> CloseCode {
    if code == ByeCode::Malformed {
        CloseCode::Protocol
    } else if code == ByeCode::Busy {
        CloseCode::Again
    } else {
        CloseCode::Policy
    }
}

fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            violated(ByeCode::TooLarge, "a frame is too large", CloseCode::Size)
        }
        Error::Protocol(_) | Error::Utf8(_) => {
            violated(ByeCode::Malformed, "not a WebSocket frame", CloseCode::Protocol)
        }
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => Ending::Gone,
    }
}

/// Writes what waits until the queue ends, telling hubs of their messages' progress.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    outgoing: &Outgoing,
    stall_max: Duration,
    metrics: &Metrics,
) -> Ending {
    let mut chain = Chain::of_responder();
    while let Some(item) = outgoing.next().await {
        let since = item.since;
        match write_item(sink, outgoing, item, &mut chain, stall_max, metrics).await {
            Ok(()) => {
                let waited = clock::read().mono.since(since);
                metrics.delivered(Duration::from_millis(waited.0));
            }
            Err(ending) => return ending,
        }
    }
    Ending::Gone
}

async fn write_item(
    sink: &mut SplitSink<Socket, Message>,
    outgoing: &Outgoing,
    item: Item<Route>,
    chain: &mut Chain,
    stall_max: Duration,
    metrics: &Metrics,
) -> Result<(), Ending> {
    let Item { channel, bytes, route, .. } = item;
    let mut whole = bytes.len();
    let message = deflated(bytes).await;
    let mut frames = wire::frames(channel, &message).peekable();
    while let Some(frame) = frames.next() {
        if outgoing.is_severed() {
            return Err(Ending::Gone);
        }
        let sealed = chain.seal(frame);
        let bytes = sealed.len() as u64;
        match timeout(stall_max, sink.send(Message::Binary(sealed.into()))).await {
            Err(_elapsed) => return Err(Ending::Stalled),
            Ok(Err(_broken)) => return Err(Ending::Gone),
            Ok(Ok(())) => {}
        }
        metrics.frames_sent.inc();
        metrics.sent_bytes.inc_by(bytes);
        if let Some(route) = &route {
            // Hubs count what they gave, not what deflating has left of it.
            let taken = if frames.peek().is_some() { whole.min(PART_BYTES) } else { whole };
            whole -= taken;
            // A hub that is gone no longer counts.
            route.tell(ToHub::Sent { peer: route.peer, bytes: taken }).await;
        }
    }
    Ok(())
}

/// A message as it is sent. Deflating takes long for a task that shares its thread: it gets one of its own.
async fn deflated(bytes: Arc<[u8]>) -> Arc<[u8]> {
    if bytes.len() < DEFLATED_APART_BYTES_MIN {
        return wire::deflated(&bytes).map_or(bytes, Arc::from);
    }
    let given = Arc::clone(&bytes);
    let deflating = spawn_blocking(move || wire::deflated(&given));
    deflating.await.ok().flatten().map_or(bytes, Arc::from)
}

/// The closing handshake. What the peer still sends is read and dropped: a socket that is closed with
/// unread bytes resets the connection, and the last words are lost.
async fn part(mut socket: Socket, code: CloseCode) {
    let close = CloseFrame { code, reason: "".into() };
    if socket.close(Some(close)).await.is_err() {
        return;
    }
    loop {
        match socket.next().await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(_)) => break,
        }
    }
    // Behind a frame that cannot be read its close cannot be found.
    let io = socket.get_mut();
    let mut dropped = [0; 1024];
    while let Ok(1..) = io.read(&mut dropped).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: &str, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::HOST, host.parse().unwrap());
        headers
    }

    #[test]
    fn pages_of_the_same_host_may_connect_and_others_not() {
        for (origin, host, allowed) in [
            ("http://127.0.0.1:8788", "127.0.0.1:8787", true),
            ("https://Notes.example", "notes.example", true),
            ("http://[::1]:1", "[::1]:2", true),
            ("http://evil.example", "127.0.0.1:8787", false),
            ("http://127.0.0.1.evil.example", "127.0.0.1:8787", false),
            ("null", "127.0.0.1:8787", false),
        ] {
            assert_eq!(origin_is_allowed(&headers(origin, host), &[]), allowed, "{origin}");
        }
        assert!(origin_is_allowed(&HeaderMap::new(), &[]), "not a browser");
    }

    #[test]
    fn a_list_of_origins_replaces_the_rule() {
        let list = ["https://app.example/".to_owned()];
        assert!(origin_is_allowed(&headers("https://app.example", "sync.example"), &list));
        assert!(!origin_is_allowed(&headers("https://sync.example", "sync.example"), &list));
    }

    #[test]
    fn an_idle_connection_is_small() {
        fn size_of_future<T>(_serve: impl FnOnce(Upgraded, Box<Gate>, IpAddr) -> T) -> usize {
            size_of::<T>()
        }
        assert!(size_of_future(serve) <= 3 << 10, "{} bytes", size_of_future(serve));
    }
}
