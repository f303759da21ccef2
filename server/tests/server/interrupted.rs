//! A first sync whose server is killed again and again: it goes on where it was.

use crate::world::{Directory, PATIENCE, Process};
use rejoin_client::{Client, Options, Pattern, SpaceId, Value, key, put, set};
use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Bytes of one record's text.
const RECORD_BYTES: usize = 1_000;
/// Bytes that pass between two kills: some chunks, so that each life of the server brings whole ones.
const LIFE_BYTES: u64 = 3 << 20;

/// Passes connections on to wherever the server is, and counts what comes back.
#[derive(Debug)]
struct Proxy {
    address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    passed: Arc<AtomicU64>,
}

impl Proxy {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Arc::new(Mutex::new(server));
        let passed = Arc::new(AtomicU64::new(0));
        let (to, count) = (Arc::clone(&server), Arc::clone(&passed));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let to = *to.lock().expect("no panic");
                tokio::spawn(pass(near, to, Arc::clone(&count)));
            }
        });
        Self { address, server, passed }
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

async fn pass(near: TcpStream, to: SocketAddr, passed: Arc<AtomicU64>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async { tokio::io::copy(&mut near_in, &mut far_out).await.ok() };
    let down = async {
        let mut bytes = [0; 16 << 10];
        while let Ok(read @ 1..) = far_in.read(&mut bytes).await {
            passed.fetch_add(read as u64, Ordering::Relaxed);
            if near_out.write_all(bytes.get(..read).expect("what was read")).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}

async fn open(path: PathBuf, address: SocketAddr) -> Client {
    let collections = vec![Pattern::All];
    let space = SpaceId::parse("demo").expect("a name");
    let server = Some(format!("ws://{address}/sync"));
    Client::open(Options { server, ..Options::new(path, space, collections) })
        .await
        .expect("a store")
}

/// Text that nothing makes smaller, the same for the same number.
fn noise(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..RECORD_BYTES).map(|_| next()).collect()
}

/// P06: the first sync of `REJOIN_SNAPSHOT_MB` (8) megabytes, its server killed whenever some chunks have come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p06_a_snapshot_whose_server_is_killed_again_and_again_finishes_and_comes_at_most_twice() {
    let megabytes: u64 = match std::env::var("REJOIN_SNAPSHOT_MB") {
        Ok(megabytes) => megabytes.parse().expect("REJOIN_SNAPSHOT_MB is a number"),
        Err(_) => 8,
    };
    let records = (megabytes << 20) / RECORD_BYTES as u64;
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut process = Process::start(&data);
    let author = open(directory.path().join("author.db"), process.address).await;
    for first in (0..records).step_by(500) {
        let change = |at: u64| {
            let value = Value::Bytes(noise(at));
            let text = set("text", value).expect("a field");
            put(key("notes", &format!("note {at}")).expect("a key"), [text])
        };
        let batch = (first..records.min(first + 500)).map(change).collect();
        author.write(batch).await.expect("a write");
    }
    author.synced().await.expect("a sync");
    author.close().await.expect("an end");

    let proxy = Proxy::to(process.address).await;
    let reader = open(directory.path().join("reader.db"), proxy.address).await;
    let mut kills = 0;
    let mut goal = LIFE_BYTES;
    let (mut progress, mut stood) = (0, 0);
    while !reader.is_synced() {
        // Woken by each chunk, each welcome, each end.
        let changed = reader.changed();
        if !reader.is_synced() && timeout(PATIENCE, changed).await.is_err() {
            panic!("no progress after {kills} kills: {:?}", reader.status());
        }
        if let Some(now) = reader.status().progress {
            progress = progress.max(now.records);
        }
        if proxy.passed() >= goal && !reader.is_synced() {
            process.kill();
            kills += 1;
            process = Process::start(&data);
            *proxy.server.lock().expect("no panic") = process.address;
            goal = proxy.passed() + LIFE_BYTES;
            assert!(progress > stood || kills == 1, "nothing of a life of the server is kept");
            stood = progress;
        }
        reader.online();
    }
    let bytes = records * RECORD_BYTES as u64;
    let passed = proxy.passed();
    assert!(kills >= megabytes / 8, "{kills} kills");
    assert!(passed <= 2 * bytes, "{passed} bytes for {bytes}, {kills} kills");
    let notes = rejoin_client::CollectionName::parse("notes").expect("a name");
    assert_eq!(reader.all(&notes).expect("records").len() as u64, records);
    reader.close().await.expect("an end");
    process.kill();
    if megabytes > 8 {
        let mut out = std::io::stderr();
        writeln!(out, "{kills} kills, {passed} bytes passed for {bytes} of records")
            .expect("a report");
    }
}
