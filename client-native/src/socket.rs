//! Connections: WebSocket over TCP, or over TLS with the feature `tls`.

use crate::OpenError;
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
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Whom a server's certificate must come from, if not from Mozilla's authorities.
#[cfg(feature = "tls")]
type Trust = tokio_tungstenite::Connector;
#[cfg(not(feature = "tls"))]
type Trust = std::convert::Infallible;

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
pub(crate) struct WebSocketDialer {
    request: Request,
    trust: Option<Trust>,
    /// Why the last attempt failed.
    failure: Mutex<Option<String>>,
}

impl WebSocketDialer {
    /// For the server at `url`, checked against the authorities in the PEM file, if one is given.
    pub(crate) fn new(url: &str, authorities: Option<&Path>) -> Result<Self, OpenError> {
        let request = to_request(url)
            .map_err(|error| OpenError::Address { url: url.into(), reason: error.to_string() })?;
        let trust = authorities.map(|file| to_trust(&request, file)).transpose()?;
        Ok(Self { request, trust, failure: Mutex::new(None) })
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> Result<Socket, SocketError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let connecting = open(self.request.clone(), config, self.trust.clone());
        match timeout(Duration::from_millis(DIAL_WITHIN.0), connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_elapsed) => Err(SocketError::Late(DIAL_WITHIN)),
        }
    }
}

fn to_request(url: &str) -> Result<Request, tungstenite::Error> {
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
    Ok(request)
}

async fn open(
    request: Request,
    config: WebSocketConfig,
    trust: Option<Trust>,
) -> Result<Socket, tungstenite::Error> {
    // Frames are written whole: waiting for more to send with them only delays them.
    let nodelay = true;
    #[cfg(feature = "tls")]
    let connecting =
        tokio_tungstenite::connect_async_tls_with_config(request, Some(config), nodelay, trust);
    #[cfg(not(feature = "tls"))]
    let connecting = match trust {
        None => tokio_tungstenite::connect_async_with_config(request, Some(config), nodelay),
        Some(never) => match never {},
    };
    Ok(connecting.await?.0)
}

fn to_trust(request: &Request, file: &Path) -> Result<Trust, OpenError> {
    let unusable = |reason: String| OpenError::Authorities { path: file.to_owned(), reason };
    if request.uri().scheme_str() != Some("wss") {
        // Whoever names authorities does not want to speak in clear.
        return Err(unusable("they are for wss://, and the server is not".into()));
    }
    #[cfg(feature = "tls")]
    return match crate::tls::trusting(file) {
        Ok(config) => Ok(Trust::Rustls(config)),
        Err(error) => Err(unusable(error.to_string())),
    };
    #[cfg(not(feature = "tls"))]
    Err(unusable("this program was built without TLS".into()))
}

impl std::fmt::Debug for WebSocketDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketDialer").field("uri", self.request.uri()).finish_non_exhaustive()
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
