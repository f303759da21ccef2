//! A connection with one channel, from the messages of the protocol.

use crate::rows;
use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use rejoin_core::{
    hlc::Hlc,
    id::{Incarnation, Pattern, ReplicaId, SpaceId},
    protocol::{
        message::{Ack, Hello, Message, Mode, Outcome, Place, Resume, Subscription},
        wire,
    },
};
use std::{net::SocketAddr, time::Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message as Frame, client::IntoClientRequest, http::HeaderValue},
};

const CHANNEL: u64 = 1;

/// Opens a WebSocket of this subprotocol.
pub(crate) async fn dial(
    url: &str,
    protocol: Option<&'static str>,
) -> anyhow::Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let mut request = url.into_client_request()?;
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::from_static(protocol);
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    }
    let (socket, _response) = connect_async(request).await?;
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        // As browsers have it.
        stream.set_nodelay(true)?;
    }
    Ok(socket)
}

/// A welcomed channel.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: wire::Chain,
    received: wire::Chain,
    assembler: wire::Assembler,
}

impl Channel {
    /// Says hello to `space` as `replica`; with a subscription to all of it, if it is to be told of changes.
    pub(crate) async fn open(
        address: SocketAddr,
        space: &str,
        replica: ReplicaId,
        subscribes: bool,
    ) -> anyhow::Result<Self> {
        let socket = dial(&format!("ws://{address}/sync"), Some("rejoin.v1")).await?;
        let (sent, received) = (wire::Chain::of_initiator(), wire::Chain::of_responder());
        let mut channel = Self { socket, sent, received, assembler: wire::Assembler::default() };
        let subscription = Subscription {
            id: 1,
            pattern: Pattern::All,
            cursor: None,
            place: Place::default(),
            root: None,
            time: Hlc::ZERO,
        };
        let hello = Hello {
            versions: vec![1],
            features: 0,
            replica,
            incarnation: Incarnation::from_bytes(*replica.as_bytes()),
            known: Vec::new(),
            space: SpaceId::parse(space)?,
            token: None,
            clock: rows::wall(),
            subscriptions: if subscribes { vec![subscription] } else { Vec::new() },
            epochs: Vec::new(),
        };
        channel.say(&Message::Hello(hello)).await?;
        match channel.next().await?.0 {
            Message::Welcome(welcome) => {
                for (subscription, mode) in welcome.modes {
                    if !matches!(mode, Mode::Feed | Mode::InSync) {
                        let (place, time) = (Place::default(), Hlc::ZERO);
                        channel.say(&Message::Resume(Resume { subscription, place, time })).await?;
                    }
                }
                Ok(channel)
            }
            other => bail!("no welcome: {other:?}"),
        }
    }

    pub(crate) async fn say(&mut self, message: &Message) -> anyhow::Result<()> {
        let sealed = self.sent.seal(wire::encode_frame(CHANNEL, message));
        Ok(self.socket.send(Frame::Binary(sealed.into())).await?)
    }

    /// The next message but pings, which are answered, and when its last frame was there.
    pub(crate) async fn next(&mut self) -> anyhow::Result<(Message, Instant)> {
        loop {
            let frame = self.socket.next().await.context("the connection is closed")??;
            let came = Instant::now();
            let Frame::Binary(sealed) = frame else { continue };
            let (_channel, bytes) = wire::split_frame(self.received.open(&sealed)?)?;
            let Some(message) = self.assembler.take(bytes)? else { continue };
            match wire::decode(&message)? {
                Message::Ping { nonce } => self.say(&Message::Pong { nonce, state: None }).await?,
                message => return Ok((message, came)),
            }
        }
    }

    /// How many rows the next acknowledgement is for, all of them accepted.
    pub(crate) async fn acknowledged(&mut self) -> anyhow::Result<usize> {
        loop {
            match self.next().await?.0 {
                Message::Ack(Ack { outcomes }) => {
                    for (_, outcome) in &outcomes {
                        ensure!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
                    }
                    return Ok(outcomes.len());
                }
                Message::Bye(bye) => bail!("sent away: {bye:?}"),
                _ => {}
            }
        }
    }
}

/// A replica of its own for each number.
pub(crate) fn replica(number: u32) -> ReplicaId {
    ReplicaId::from_bytes((u128::from(number) + (1 << 100)).to_be_bytes())
}
