//! The real process, killed or asked to end under writing clients: what was acknowledged is there.

use crate::{
    client::{Client, Ended},
    world::{Directory, PATIENCE, Process, get},
};
use rejoin_core::{
    id::{RecordKey, Seq},
    protocol::message::ByeCode,
};
use rejoin_sqlite::{SqliteDb, SqliteOptions};
use std::{
    collections::BTreeSet,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

const WRITERS: u8 = 4;

/// Writes until the connection breaks; then what it was promised is in `acknowledged`.
async fn write(mut client: Client, address: SocketAddr, progress: Arc<Progress>) -> Client {
    let work = async {
        client.join(address).await?;
        client.push_again().await?;
        loop {
            for _ in 0..5 {
                let id = format!("{}-{}", client.replica, progress.serial());
                client.push(&id, "a row that was promised").await?;
            }
            client.settle().await?;
            progress.acknowledged(5);
        }
    };
    let ended: Result<std::convert::Infallible, Ended> = work.await;
    match ended {
        Ok(never) => match never {},
        Err(Ended::Broken(_) | Ended::Closed(_)) => client,
        Err(Ended::Bye(bye)) => {
            assert_eq!(bye.code, ByeCode::ShuttingDown, "sent away: {bye:?}");
            assert!(bye.retry_after.is_some());
            client
        }
    }
}

#[derive(Default)]
struct Progress {
    serial: AtomicU64,
    acknowledged: AtomicU64,
    moved: Notify,
}

impl Progress {
    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn acknowledged(&self, rows: u64) {
        self.acknowledged.fetch_add(rows, Ordering::Relaxed);
        self.moved.notify_one();
    }

    /// Resolves once so many more rows were acknowledged.
    async fn wait(&self, rows: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + rows;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            tokio::time::timeout(PATIENCE, self.moved.notified()).await.expect("progress");
        }
    }
}

/// Between rounds the file is opened by nobody else: whole, and nothing but its rows.
async fn check_file(data: &Path) {
    let db = SqliteDb::open(data.join("rejoin.sqlite"), &SqliteOptions::default());
    let db = db.expect("the file opens");
    let findings = db.integrity_check().await.expect("the check runs");
    assert!(findings.is_empty(), "{findings:?}");
    db.close().await.expect("the file closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_every_acknowledged_row_survives_kills() {
    let kills: u64 = match std::env::var("REJOIN_KILLS") {
        Ok(kills) => kills.parse().expect("REJOIN_KILLS is a number"),
        Err(_) => 20,
    };
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut writers: Vec<Client> = (1..=WRITERS).map(|name| Client::new("demo", name)).collect();
    let progress = Arc::new(Progress::default());
    let mut reader = Client::new("demo", 100);
    for round in 0..kills {
        let mut process = Process::start(&data);
        reader.join(process.address).await.expect("a welcome");
        let work: Vec<_> = writers
            .drain(..)
            .map(|client| tokio::spawn(write(client, process.address, Arc::clone(&progress))))
            .collect();
        // Another number each round, so that kills fall on every part of the work.
        progress.wait(round * 7 % 60).await;
        process.kill();
        for writer in work {
            writers.push(writer.await.expect("no writer fails"));
        }
        // What had arrived before the end is a valid prefix: `take_in` checks each page and root.
        if let Ended::Bye(bye) = reader.end().await {
            panic!("sent away: {bye:?}");
        }
        if round % 5 == 0 {
            check_file(&data).await;
        }
    }
    let promised = check_promises(&data, &writers, &mut reader).await;
    if kills > 20 {
        let mut out = std::io::stderr();
        writeln!(out, "{kills} kills, {promised} acknowledged rows, 0 lost").expect("a report");
    }
}

/// A server that is stopped for an update: it ends in order, and everyone comes back to the next.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s16_every_acknowledged_row_survives_orderly_ends_under_load() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut writers: Vec<Client> = (1..=WRITERS).map(|name| Client::new("demo", name)).collect();
    let progress = Arc::new(Progress::default());
    let mut reader = Client::new("demo", 100);
    for round in 0..10 {
        let mut process = Process::start(&data);
        reader.join(process.address).await.expect("a welcome");
        let work: Vec<_> = writers
            .drain(..)
            .map(|client| tokio::spawn(write(client, process.address, Arc::clone(&progress))))
            .collect();
        progress.wait(20 + round * 7).await;
        process.terminate();
        let bye = reader.end().await.bye();
        assert_eq!(bye.code, ByeCode::ShuttingDown);
        assert!(bye.retry_after.is_some(), "nobody is told when to come back");
        for writer in work {
            writers.push(writer.await.expect("no writer fails"));
        }
        process.line(&["stopped"]).await;
        assert_eq!(process.ended().await.code(), Some(0));
        check_file(&data).await;
    }
    check_promises(&data, &writers, &mut reader).await;
}

/// Everything that was acknowledged is served again, under roots that are computed anew; how much it was.
async fn check_promises(data: &Path, writers: &[Client], reader: &mut Client) -> usize {
    let promised: BTreeSet<RecordKey> =
        writers.iter().flat_map(|client| client.acknowledged.iter().cloned()).collect();
    assert!(!promised.is_empty());

    let mut process = Process::start(data);
    let (status, text) = get(process.address, "/healthz", "").await;
    assert_eq!(status, 200, "{text}");
    let mut newcomer = Client::new("demo", 101);
    let welcome = newcomer.join(process.address).await.expect("a welcome");
    // The root is recomputed from the records, and compared with the one stated from the stored tree.
    newcomer.sync(welcome.head).await.expect("the whole feed");
    assert_eq!(newcomer.verified, Some((welcome.head, newcomer.root())));
    let lost: Vec<_> = promised.iter().filter(|key| !newcomer.base.contains_key(key)).collect();
    assert!(lost.is_empty(), "{} acknowledged rows lost: {lost:?}", lost.len());
    reader.join(process.address).await.expect("a welcome");
    reader.sync(welcome.head).await.expect("the rest of the feed");
    assert_eq!(reader.root(), newcomer.root());
    assert!(welcome.head >= Seq(promised.len() as u64));

    process.kill();
    check_file(data).await;
    promised.len()
}
