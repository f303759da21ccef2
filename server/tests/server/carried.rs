//! Connections whose frames are carried by requests: the same sessions, and nothing lost or done twice by whatever becomes
//! of a request.

use crate::{
    backups::{open, until, vote, votes},
    client::Client,
    http::{Ask, Told, ask},
    world::{Directory, PATIENCE, World, get, without_rates},
};
use futures_util::{SinkExt, StreamExt, future::select};
use rejoin_core::protocol::{
    limits::FRAME_BYTES_MAX,
    message::ByeCode,
    wire::{self, Chain},
};
use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message as Frame,
        handshake::server::{ErrorResponse, Request, Response},
        http::HeaderValue,
    },
};

fn post(what: &str, line: &str) -> Ask {
    ask("POST", format!("/sync/{what}")).with("Rejoin-Line", line)
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&u32::try_from(frame.len()).unwrap().to_be_bytes(), frame].concat()
}

fn frames(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        frames.push(frame.to_vec());
        body = rest;
    }
    frames
}

/// A way to the server that carries by requests what a socket brings.
struct Bridge {
    address: SocketAddr,
    troubles: Arc<Troubles>,
}

/// What goes wrong on it: by which requests, of all; 0 for never.
#[derive(Default)]
struct Troubles {
    asked: AtomicU32,
    /// Is never made.
    lose: AtomicU32,
    /// Is made twice.
    repeat: AtomicU32,
    /// Its answer is lost.
    deaf: AtomicU32,
    /// Connections that are sockets all the way.
    plain: AtomicU32,
    connections: AtomicU32,
}

impl Troubles {
    fn strikes(one_in: &AtomicU32, at: u32) -> bool {
        let one_in = one_in.load(Ordering::Relaxed);
        one_in > 0 && at % one_in == one_in - 1
    }

    /// Asks, or has trouble: no answer.
    async fn ask(&self, server: SocketAddr, ask: &Ask) -> Option<Told> {
        let at = self.asked.fetch_add(1, Ordering::Relaxed);
        if Self::strikes(&self.lose, at) {
            return None;
        }
        if Self::strikes(&self.repeat, at) {
            ask.tried(server).await.ok()?;
        }
        let told = ask.tried(server).await.ok()?;
        (!Self::strikes(&self.deaf, at)).then_some(told)
    }
}

impl Bridge {
    async fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, troubles) = (listener.local_addr().unwrap(), Arc::<Troubles>::default());
        let shared = Arc::clone(&troubles);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let at = shared.connections.fetch_add(1, Ordering::Relaxed);
                if Troubles::strikes(&shared.plain, at) {
                    tokio::spawn(tunnel(stream, server));
                } else {
                    tokio::spawn(carry(stream, server, Arc::clone(&shared)));
                }
            }
        });
        Self { address, troubles }
    }
}

async fn tunnel(mut stream: TcpStream, server: SocketAddr) {
    if let Ok(mut onward) = TcpStream::connect(server).await {
        tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok();
    }
}

#[expect(clippy::result_large_err, reason = "the library's own type")]
fn agree(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let protocol = HeaderValue::from_static("rejoin.v1");
    response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    Ok(response)
}

async fn carry(stream: TcpStream, server: SocketAddr, troubles: Arc<Troubles>) {
    let Ok(socket) = accept_hdr_async(stream, agree).await else { return };
    let opened = ask("POST", "/sync/open").tried(server).await;
    let Some(opened) = opened.ok().filter(|told| told.status == 201) else { return };
    let line = String::from_utf8(opened.body()).unwrap();
    let (mut sink, mut source) = socket.split();
    {
        let up = pin!(async {
            while let Some(Ok(frame)) = source.next().await {
                let Frame::Binary(frame) = frame else { continue };
                let sent = troubles.ask(server, &post("send", &line).bytes(framed(&frame))).await;
                if sent.is_none_or(|told| told.status != 204) {
                    return;
                }
            }
        });
        let down = pin!(async {
            loop {
                let told = troubles.ask(server, &post("receive", &line)).await;
                let Some(told) = told.filter(|told| matches!(told.status, 200 | 204)) else {
                    return;
                };
                for frame in frames(&told.body()) {
                    if sink.send(Frame::Binary(frame.into())).await.is_err() {
                        return;
                    }
                }
            }
        });
        select(up, down).await;
    }
    sink.close().await.ok();
    post("close", &line).tried(server).await.ok();
}

#[tokio::test]
async fn p17_requests_carry_what_a_websocket_carries() {
    let world = World::with(|_, config| without_rates(config)).await;
    let bridge = Bridge::new(world.address).await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    // More than one answer holds, in messages of several parts.
    let text = "x".repeat(100_000);
    for serial in 0..40 {
        ada.push(&format!("large-{serial}"), &text).await.unwrap();
        ada.settle().await.unwrap();
    }
    let mut bob = Client::joined(bridge.address, "demo", 2).await;
    bob.hold(40).await.unwrap();
    for serial in 0..5 {
        ada.push(&format!("from-ada-{serial}"), "Hello World").await.unwrap();
        ada.settle().await.unwrap();
        bob.hold(41 + 2 * serial).await.unwrap();
        bob.push(&format!("from-bob-{serial}"), &text).await.unwrap();
        bob.settle().await.unwrap();
        ada.hold(42 + 2 * serial).await.unwrap();
    }
    bob.hold(50).await.unwrap();
    assert_eq!(ada.root(), bob.root());
    let opened = bridge.troubles.connections.load(Ordering::Relaxed);
    assert_eq!(opened, 1, "one connection carried all of it");
}

#[tokio::test]
async fn p17_an_orderly_end_reaches_who_is_carried() {
    let mut world = World::new().await;
    let bridge = Bridge::new(world.address).await;
    let mut ada = Client::joined(bridge.address, "demo", 1).await;
    ada.push("a", "x").await.unwrap();
    ada.settle().await.unwrap();
    let (_, ended) = tokio::join!(world.stop(), ada.end());
    assert_eq!(ended.bye().code, ByeCode::ShuttingDown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_sockets_and_requests_in_turn_lose_nothing_and_do_nothing_twice() {
    const EACH: i64 = 60;
    let world = World::with(|_, config| without_rates(config)).await;
    let (directory, bridge) = (Directory::new(), Bridge::new(world.address).await);
    let troubles = &bridge.troubles;
    for (trouble, one_in) in
        [(&troubles.lose, 11), (&troubles.repeat, 13), (&troubles.deaf, 17), (&troubles.plain, 3)]
    {
        trouble.store(one_in, Ordering::Relaxed);
    }
    let mut clients = Vec::new();
    for name in ["ada.db", "bob.db"] {
        clients.push(Arc::new(open(&directory.path().join(name), bridge.address).await));
    }
    let writers = clients.iter().map(|client| {
        let client = Arc::clone(client);
        async move {
            for _ in 0..EACH {
                client.write(vec![vote()]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let connections = || troubles.connections.load(Ordering::Relaxed);
    assert!(connections() > 4, "{} connections: nothing went wrong", connections());
    for trouble in [&troubles.lose, &troubles.repeat, &troubles.deaf] {
        trouble.store(0, Ordering::Relaxed);
    }
    for client in &clients {
        until(client, "all votes", |client| votes(client) == 2 * EACH).await;
    }
    let late = open(&directory.path().join("late.db"), world.address).await;
    until(&late, "all votes", |late| votes(late) == 2 * EACH).await;
}

#[tokio::test]
async fn x09_pages_of_another_origin_open_no_connection_by_requests() {
    let world = World::new().await;
    for what in ["open", "send", "receive", "close"] {
        let strange = post(what, "").with("Origin", "http://evil.example").at(&world).await;
        assert_eq!(strange.status, 403, "{what}");
    }
    let own = format!("http://{}", world.address);
    let opened = ask("POST", "/sync/open").with("Origin", &own).at(&world).await;
    assert_eq!(opened.status, 201);
    let (status, _) = get(world.address, "/sync/open", "").await;
    assert_eq!(status, 405, "what opens is no link");
}

#[tokio::test]
async fn who_knows_no_number_reaches_no_connection() {
    let world = World::new().await;
    for line in ["", "x", "AAAAAAAAAAAAAAAAAAAAAA"] {
        for what in ["send", "receive", "close"] {
            assert_eq!(post(what, line).at(&world).await.status, 410, "{what} {line}");
        }
    }
}

/// A connection that says nothing yet.
async fn opened(world: &World) -> String {
    let opened = ask("POST", "/sync/open").at(world).await;
    assert_eq!(opened.status, 201);
    String::from_utf8(opened.body()).unwrap()
}

/// What a connection that does wrong is told, before it is over.
async fn farewell(world: &World, line: &str) -> ByeCode {
    let told = post("receive", line).at(world).await;
    assert_eq!(told.status, 200);
    let mut chain = Chain::of_responder();
    let sealed = frames(&told.body());
    let (_, message) = wire::split_frame(chain.open(&sealed[0]).unwrap()).unwrap();
    let over = post("receive", line).at(world).await;
    assert_eq!(over.status, 410);
    match wire::decode(message).unwrap() {
        rejoin_core::protocol::message::Message::Bye(bye) => bye.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_and_cut() {
    let world = World::with(|_, config| config.limits.frame_bytes_max = 1 << 17).await;
    let line = opened(&world).await;
    let broken = post("send", &line).bytes(framed(b"no frame of any chain")).at(&world).await;
    assert_eq!(broken.status, 204);
    assert_eq!(farewell(&world, &line).await, ByeCode::BadLine);

    let line = opened(&world).await;
    let large = post("send", &line).bytes(framed(&vec![0; (1 << 17) + 1])).at(&world).await;
    assert_eq!(large.status, 204);
    assert_eq!(farewell(&world, &line).await, ByeCode::TooLarge);

    let line = opened(&world).await;
    let larger = post("send", &line).bytes(vec![0; FRAME_BYTES_MAX + 5]).at(&world).await;
    assert_eq!(larger.status, 413);

    let cut = post("send", &line).bytes(b"\0\0\0\x09short".to_vec()).at(&world).await;
    assert_eq!(cut.status, 400);
    assert_eq!(post("receive", &line).at(&world).await.status, 410);
}

#[tokio::test]
async fn of_two_who_wait_on_one_connection_neither_goes_on() {
    let world = World::new().await;
    let line = opened(&world).await;
    let first = post("receive", &line);
    let (first, second) = tokio::join!(first.at(&world), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        post("receive", &line).at(&world).await
    });
    assert_eq!((first.status, second.status), (410, 409));
}

#[tokio::test]
async fn x07_a_connection_by_requests_that_opens_nothing_is_ended() {
    let world = World::with(|_, config| {
        config.limits.opening_max = Duration::from_millis(300);
    })
    .await;
    let line = opened(&world).await;
    let told = timeout(PATIENCE, farewell(&world, &line)).await.unwrap();
    assert_eq!(told, ByeCode::Misbehaved);
}

#[tokio::test]
async fn x02_connections_by_requests_count_as_any_other() {
    let world = World::with(|_, config| config.limits.connections_per_address_max = 4).await;
    let mut open = 0;
    while ask("POST", "/sync/open").at(&world).await.status == 201 {
        open += 1;
    }
    assert_eq!(open, 3, "one place is that of the request itself");
}
