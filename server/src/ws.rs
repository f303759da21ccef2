//! WebSocket connections: the upgrade, frames in, frames out, the end.
//!
//! The library keeps a buffer as large as the largest frame that went out for as long as the connection lives: parts
//! keep it small, and make the time limit one on progress. Absent: what becomes of frames (`line`).

use crate::{
    census::Slot,
    connection::Violation,
    line::{self, Ear, Ending, FAREWELL, Gate, Heard, Mouth},
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
use rejoin_core::protocol::{
    limits::{PART_BYTES, SUBPROTOCOL},
    message::ByeCode,
};
use std::{net::IpAddr, sync::Arc};
use tokio::{io::AsyncReadExt, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tracing::debug;

/// What one says who sends text.
const TEXT: &str = "a text message";
/// What is read at a time, and what an idle connection keeps for it: a few messages of one row. The library's default
/// is 128 KiB.
const READ_BYTES: usize = 1 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

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

/// What comes on a socket.
struct Hearing(SplitStream<Socket>);

impl Ear for Hearing {
    async fn hear(&mut self) -> Heard {
        match self.0.next().await {
            Some(Ok(Message::Binary(sealed))) => Heard::Frame(sealed),
            Some(Ok(Message::Text(_))) => Heard::violation(ByeCode::Malformed, TEXT),
            // Answers to pings and to a close leave with the next read.
            Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
            )) => Heard::Nothing,
            None => Heard::Ended(Ending::Gone),
            Some(Err(error)) => heard_error(&error),
        }
    }
}

fn heard_error(error: &Error) -> Heard {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            Heard::violation(ByeCode::TooLarge, "a frame is too large")
        }
        Error::Protocol(_) | Error::Utf8(_) => {
            Heard::violation(ByeCode::Malformed, "not a WebSocket frame")
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
        | Error::HttpFormat(_) => Heard::Ended(Ending::Gone),
    }
}

/// What leaves by a socket.
struct Saying(SplitSink<Socket, Message>);

impl Mouth for Saying {
    async fn say(&mut self, sealed: Vec<u8>) -> bool {
        self.0.send(Message::Binary(sealed.into())).await.is_ok()
    }
}

fn close_code(violation: &Violation) -> CloseCode {
    let code = violation.code;
    if violation.reason == TEXT {
        CloseCode::Unsupported
    } else if code == ByeCode::Malformed {
        CloseCode::Protocol
    } else if code == ByeCode::TooLarge {
        CloseCode::Size
    } else if matches!(code, ByeCode::BadLine | ByeCode::Busy) {
        CloseCode::Again
    } else {
        CloseCode::Policy
    }
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
    let (sink, stream) = socket.split();
    let (mut saying, mut hearing) = (Saying(sink), Hearing(stream));
    let ending = line::serve(&mut hearing, &mut saying, &gate, address).await;
    let code = match ending {
        Ending::Violated(violation) => close_code(&violation),
        Ending::Over => CloseCode::Away,
        Ending::Gone | Ending::Stalled => return,
    };
    if let Ok(socket) = saying.0.reunite(hearing.0) {
        // Boxed, like all that is done once: a connection keeps room for whatever it might come to.
        timeout(FAREWELL, Box::pin(part(socket, code))).await.ok();
    }
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
