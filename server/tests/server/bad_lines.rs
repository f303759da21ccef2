//! A middleman on live lines that loses, repeats, swaps or changes a frame, between the real server and the real client.

use crate::world::{PATIENCE, World};
use futures_util::{SinkExt, StreamExt};
use rejoin_client::{
    ByeCode, Client, Notice, Notices, Options, Pattern, SpaceId, Value, Visible, add, key, set,
};
use rejoin_core::replica::{Action, Change, FieldAction, FieldChange};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    accept_hdr_async, connect_async,
    tungstenite::{
        Message as Frame,
        client::IntoClientRequest,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

const PROTOCOL: HeaderValue = HeaderValue::from_static("rejoin.v1");
/// Between two writes, at most: then the line has something to carry behind the frame that was struck.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Lost,
    Repeated,
    Swapped,
    Changed,
}

/// What happens to which frame of the first connection, counted from 0.
#[derive(Debug, Clone, Copy)]
struct Strike {
    fault: Fault,
    up: bool,
    at: usize,
}

/// Passes frames on to the server, and counts connections.
struct Middleman {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Middleman {
    async fn to(server: SocketAddr, strike: Strike) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let first = count.fetch_add(1, Ordering::Relaxed) == 0;
                tokio::spawn(pass(near, server, first.then_some(strike)));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn answer(_request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    Ok(response)
}

async fn pass(near: TcpStream, server: SocketAddr, strike: Option<Strike>) {
    let Ok(near) = accept_hdr_async(near, answer).await else { return };
    let mut request = format!("ws://{server}/sync").into_client_request().expect("a request");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    let Ok((far, _)) = connect_async(request).await else { return };
    let ((near_out, near_in), (far_out, far_in)) = (near.split(), far.split());
    let of = |up: bool| strike.filter(|strike| strike.up == up);
    tokio::select! {
        () = carry(near_in, far_out, of(true)) => {}
        () = carry(far_in, near_out, of(false)) => {}
    }
}

/// One way of a connection, until either end leaves it.
async fn carry<E>(
    mut from: impl StreamExt<Item = Result<Frame, E>> + Unpin,
    mut to: impl SinkExt<Frame> + Unpin,
    strike: Option<Strike>,
) {
    let mut late = None;
    let mut at = 0;
    while let Some(Ok(frame)) = from.next().await {
        let mut frames = vec![frame];
        if let (Some(strike), Some(Frame::Binary(bytes))) = (strike, frames.first()) {
            let mut bytes = bytes.to_vec();
            match strike.fault {
                _ if at != strike.at => frames.extend(late.take()),
                Fault::Lost => frames.clear(),
                Fault::Repeated => frames.push(Frame::Binary(bytes.into())),
                Fault::Swapped => late = frames.pop(),
                Fault::Changed => {
                    let middle = bytes.len() / 2;
                    bytes.get_mut(middle).into_iter().for_each(|byte| *byte ^= 0x10);
                    frames = vec![Frame::Binary(bytes.into())];
                }
            }
            at += 1;
        }
        for frame in frames {
            if to.send(frame).await.is_err() {
                return;
            }
        }
    }
}

/// A batch that would show if it were there twice, or in part.
fn batch(number: u64) -> Vec<Change> {
    let text = set("text", Value::text("there")).expect("a field");
    let note = add(key("notes", &format!("{number}")).expect("a key"), [text]);
    let field = set("votes", Value::int(0)).expect("a field").field;
    let vote = FieldChange { field, action: FieldAction::Add(1) };
    let key = key("votes", "all").expect("a key");
    vec![note, Change { key, action: Action::Upsert(vec![vote]) }]
}

/// Why sessions ended up to now.
async fn ended(notices: &mut Notices) -> Vec<ByeCode> {
    let mut codes = Vec::new();
    while let Ok(notice) = timeout(Duration::ZERO, notices.next()).await {
        if let Ok(Some(Notice::Ended { code, .. })) = notice {
            codes.push(code);
        }
    }
    codes
}

async fn open(world: &World, name: &str, server: SocketAddr) -> Client {
    let space = SpaceId::parse("demo").expect("a name");
    let server = Some(format!("ws://{server}/sync"));
    let path = world.directory.path().join(format!("{name}.db"));
    let options = Options { server, ..Options::new(path, space, vec![Pattern::All]) };
    Client::open(options).await.expect("a store")
}

async fn costs_one_connection(strike: Strike) {
    let world = World::new().await;
    let middleman = Middleman::to(world.address, strike).await;
    let client = open(&world, "struck", middleman.address).await;
    let mut notices = client.notices();
    let mut written = 0;
    while middleman.connections() < 2 {
        client.write(batch(written)).await.expect("a write");
        written += 1;
        assert!(written < 3_000, "{strike:?} goes unnoticed");
        // What comes sooner than the pause is as good.
        timeout(PAUSE, client.changed()).await.ok();
    }
    timeout(PATIENCE, client.synced()).await.expect("it comes to rest").expect("synced");
    let codes = ended(&mut notices).await;
    assert!(codes.iter().all(|code| *code == ByeCode::BadLine), "{strike:?}: {codes:?}");
    assert_eq!(middleman.connections(), 2, "{strike:?}");

    let reader = open(&world, "reader", world.address).await;
    timeout(PATIENCE, reader.synced()).await.expect("in time").expect("synced");
    for client in [client, reader] {
        let votes = client.get(&key("votes", "all").expect("a key")).expect("a view");
        let votes: Vec<Visible> = votes.expect("it is there").into_values().collect();
        assert_eq!(votes, [Visible::Counter(i64::try_from(written).expect("few"))], "{strike:?}");
        for number in 0..written {
            let note = key("notes", &format!("{number}")).expect("a key");
            assert!(client.get(&note).expect("a view").is_some(), "{strike:?}: {number}");
        }
        client.close().await.expect("an end");
    }
}

/// The hello and the welcome, what follows at once, and what comes on a live session.
async fn every_place(fault: Fault) {
    // Nothing follows a hello that is not there: that a deadline finds out.
    let waited_for = matches!(fault, Fault::Lost | Fault::Swapped);
    for at in [0, 1, 2, 7].into_iter().skip(usize::from(waited_for)) {
        for up in [true, false] {
            costs_one_connection(Strike { fault, up, at }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_a_frame_that_is_lost_costs_a_connection_and_nothing_else() {
    every_place(Fault::Lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_a_frame_that_is_repeated_costs_a_connection_and_nothing_else() {
    every_place(Fault::Repeated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_a_frame_that_is_swapped_costs_a_connection_and_nothing_else() {
    every_place(Fault::Swapped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_a_frame_that_is_changed_costs_a_connection_and_nothing_else() {
    every_place(Fault::Changed).await;
}
