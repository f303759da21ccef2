//! What an idle connection costs: `cargo run --release -p rejoin-server --example idle_connections -- 2000`.
//!
//! Starts the server in a process of its own, opens so many connections, each welcomed on
//! one space, and prints how the server's resident memory grew, as one line of JSON. Exits with 1 when a
//! connection costs more than 16 KiB. Linux only: it reads `/proc`.

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use rejoin_core::{
    hlc::Hlc,
    id::{Incarnation, Pattern, ReplicaId, SpaceId},
    protocol::{
        message::{Hello, Message, Place, Subscription},
        wire,
    },
    time::WallMillis,
};
use rejoin_server::Config;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message as Frame, client::IntoClientRequest, http::HeaderValue},
};

/// Makes this program the server.
const SERVE: &str = "serve";
const KIB_MAX: f64 = 16.0;
/// Connections that are made at a time.
const AT_A_TIME: usize = 32;
/// Made before the first measurement: what a server needs once is not the price of a connection.
const WARM_UP: u32 = 50;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The server, and where it keeps its data; both go at the end.
struct Server {
    child: Child,
    data: PathBuf,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do about either.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.data).ok();
    }
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let data = std::env::temp_dir().join(format!("rejoin-idle-{}", std::process::id()));
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVE)
            .arg(&data)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let output = child.stdout.take().context("its output")?;
        BufReader::new(output).read_line(&mut address)?;
        let address = address.trim().to_owned();
        Ok(Self { child, data, address })
    }

    fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(number.context("no VmRSS in /proc")?.trim().parse()?)
    }

    async fn connect(&self, serial: u32) -> anyhow::Result<Socket> {
        let mut request = format!("ws://{}/sync", self.address).into_client_request()?;
        let protocol = HeaderValue::from_static("rejoin.v1");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (mut socket, _response) = connect_async(request).await?;
        let frame = wire::encode_frame(1, &Message::Hello(hello(serial)?));
        let (mut sent, mut received) = (wire::Chain::of_initiator(), wire::Chain::of_responder());
        socket.send(Frame::Binary(sent.seal(frame).into())).await?;
        while let Some(frame) = socket.next().await {
            let frame = frame?.into_data();
            let (_channel, bytes) = wire::split_frame(received.open(&frame)?)?;
            let message = wire::decode(bytes)?;
            if matches!(message, Message::Welcome(_)) {
                return Ok(socket);
            }
            ensure!(!matches!(message, Message::Bye(_)), "sent away: {message:?}");
        }
        bail!("closed before the welcome")
    }

    async fn connect_all(&self, from: u32, to: u32) -> anyhow::Result<Vec<Socket>> {
        let connecting = stream::iter(from..to).map(|serial| self.connect(serial));
        connecting.buffer_unordered(AT_A_TIME).try_collect().await
    }
}

fn hello(serial: u32) -> anyhow::Result<Hello> {
    let id = u128::from(serial).to_be_bytes();
    Ok(Hello {
        versions: vec![1],
        features: 0,
        replica: ReplicaId::from_bytes(id),
        incarnation: Incarnation::from_bytes(id),
        known: Vec::new(),
        space: SpaceId::parse("idle")?,
        token: None,
        clock: WallMillis(0),
        subscriptions: vec![Subscription {
            id: 1,
            pattern: Pattern::All,
            cursor: None,
            place: Place::default(),
            root: None,
            time: Hlc::ZERO,
        }],
        epochs: Vec::new(),
    })
}

/// The server's side: says where it listens, and serves until it is killed.
async fn serve(data: PathBuf) -> anyhow::Result<()> {
    let mut config = Config::new(data);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.limits.connections_max = u32::MAX;
    config.limits.connections_per_address_max = u32::MAX;
    let server = rejoin_server::Server::open(config).await?;
    writeln!(std::io::stdout(), "{}", server.address())?;
    server.run(std::future::pending()).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(SERVE) {
        return serve(arguments.next().context("a directory")?.into()).await;
    }
    let connections: u32 = match first {
        Some(number) => number.parse().context("the number of connections")?,
        None => 2_000,
    };
    ensure!(connections > 0, "at least one connection");
    let server = Server::start()?;
    let _warm = server.connect_all(0, WARM_UP).await?;
    let before = server.resident_kib()?;
    let _open = server.connect_all(WARM_UP, WARM_UP + connections).await?;
    let after = server.resident_kib()?;
    let each = (after - before) / f64::from(connections);
    writeln!(
        std::io::stdout(),
        "{{\"connections\":{connections},\"rss_before_kib\":{before},\"rss_after_kib\":{after},\
         \"kib_per_connection\":{each:.2},\"kib_max\":{KIB_MAX}}}"
    )?;
    ensure!(
        each <= KIB_MAX,
        "an idle connection costs {each:.2} KiB, at most {KIB_MAX} are allowed"
    );
    Ok(())
}
