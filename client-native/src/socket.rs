//! Connections: WebSocket over TCP, or over TLS with the feature `tls`.

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use rejoin_core::{
    driver::DIAL_WITHIN,
    port::{Dialer, Fault, FaultClass, Frame, FrameSink, FrameStream},
    protocol::limits::{DEAD_AFTER, FRAME_BYTES_MAX, SUBPROTOCOL},
    time::Millis,
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A socket that cannot even be closed within this is dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What goes wrong with a socket; a new one may do better.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error(transparent)]
    WebSocket(#[from] tungstenite::Error),
    #[error("the server did not answer within {} ms", .0.0)]
    Late(Millis),
    #[error("the server sent text, this protocol is binary")]
    Text,
}

impl Fault for SocketError {
    fn class(&self) -> FaultClass {
        FaultClass::Transient
    }
}

/// Dials one address.
#[derive(Debug)]
pub(crate) struct WebSocketDialer {
    request: Request,
    /// Why the last attempt failed.
    failure: Mutex<Option<String>>,
}

impl WebSocketDialer {
    pub(crate) fn new(url: &str) -> Result<Self, tungstenite::Error> {
        #[cfg(feature = "tls")]
        // An error means that the program has chosen a provider before.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut request = url.into_client_request()?;
        let scheme = request.uri().scheme_str();
        if !matches!(scheme, Some("ws" | "wss")) {
            return Err(tungstenite::error::UrlError::UnsupportedUrlScheme.into());
        }
        if scheme == Some("wss") && !cfg!(feature = "tls") {
            return Err(tungstenite::error::UrlError::TlsFeatureNotEnabled.into());
        }
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        Ok(Self { request, failure: Mutex::new(None) })
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> Result<Socket, SocketError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        // Frames are written whole: waiting for more to send with them only delays them.
        let connecting = connect_async_with_config(self.request.clone(), Some(config), true);
        match timeout(Duration::from_millis(DIAL_WITHIN.0), connecting).await {
            Ok(connected) => Ok(connected?.0),
            Err(_elapsed) => Err(SocketError::Late(DIAL_WITHIN)),
        }
    }
}

impl Dialer for WebSocketDialer {
    type Sink = Sink;
    type Stream = Stream;
    type Error = SocketError;

    async fn dial(&self) -> Result<(Sink, Stream), SocketError> {
        let connected = self.connect().await;
        let failure = connected.as_ref().err().map(ToString::to_string);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        let (sink, stream) = connected?.split();
        Ok((Sink(sink), Stream(stream)))
    }
}

/// Sending half.
#[derive(Debug)]
pub(crate) struct Sink(SplitSink<Socket, Message>);

impl FrameSink for Sink {
    type Error = SocketError;

    async fn send(&mut self, frame: Frame) -> Result<(), SocketError> {
        let sending = self.0.send(Message::Binary(frame.0.into()));
        match timeout(Duration::from_millis(DEAD_AFTER.0), sending).await {
            Ok(sent) => Ok(sent?),
            Err(_elapsed) => Err(SocketError::Late(DEAD_AFTER)),
        }
    }

    async fn close(&mut self) -> Result<(), SocketError> {
        match timeout(CLOSE_WITHIN, self.0.close()).await {
            Ok(closed) => Ok(closed?),
            // It is dropped next: that closes it as well.
            Err(_elapsed) => Ok(()),
        }
    }
}

/// Receiving half.
#[derive(Debug)]
pub(crate) struct Stream(SplitStream<Socket>);

impl FrameStream for Stream {
    type Error = SocketError;

    async fn recv(&mut self) -> Result<Option<Frame>, SocketError> {
        loop {
            match self.0.next().await {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(Frame(bytes.into()))),
                Some(Ok(Message::Text(_))) => return Err(SocketError::Text),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
}
