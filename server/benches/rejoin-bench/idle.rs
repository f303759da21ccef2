//! Connections that say nothing: what each costs, and how soon all are back when the server was killed.

use crate::{
    channel::{Channel, replica},
    program::Program,
    report::{Bar, Report},
};
use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use rejoin_core::driver::Backoff;
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

const KIB_MAX: f64 = 8.0;
const BACK_MAX: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections that are made at a time.
const AT_A_TIME: usize = 32;
/// Made before the first measurement: what a server needs once is not the price of a connection.
const WARM_UP: u32 = 50;

pub(crate) async fn measure(
    folder: &Path,
    connections: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Each is a file here and one there.
    rlimit::increase_nofile_limit(u64::MAX).context("how many files may be open")?;
    let server = Program::rejoin(folder)?;
    let address = server.address;
    let warm = open_all(address, 0..WARM_UP).await?;
    let before = server.resident_kib()?;
    let idle = open_all(address, WARM_UP..connections.max(WARM_UP)).await?;
    let each = (server.resident_kib()? - before) / f64::from(connections - WARM_UP);
    report.tell("idle.connections", f64::from(connections), "connections", None);
    report.tell("idle.kib", each, "KiB per connection", Some(Bar::AtMost(KIB_MAX)));

    let back = Arc::new(AtomicU32::new(0));
    let mut waiting = JoinSet::new();
    for (number, channel) in (0..).zip(warm.into_iter().chain(idle)) {
        waiting.spawn(stay(address, number, channel, Arc::clone(&back)));
    }
    let killed = Instant::now();
    let (_server, _listens) = server.killed_and_started(|_| Ok(()))?;
    let all = async {
        while back.load(Ordering::Relaxed) < connections {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, all).await.context("not all came back")?;
    let took = killed.elapsed().as_secs_f64();
    report.tell("idle.back", took, "s", Some(Bar::AtMost(BACK_MAX.as_secs_f64())));
    Ok(())
}

async fn open_all(
    address: SocketAddr,
    numbers: std::ops::Range<u32>,
) -> anyhow::Result<Vec<Channel>> {
    let opening =
        stream::iter(numbers).map(|number| Channel::open(address, "idle", replica(number), true));
    opening.buffer_unordered(AT_A_TIME).try_collect().await
}

/// Answers pings until the connection ends, then comes back as clients do.
async fn stay(address: SocketAddr, number: u32, mut channel: Channel, back: Arc<AtomicU32>) {
    while channel.next().await.is_ok() {}
    let mut backoff = Backoff::default();
    let mut random = u64::from(number);
    loop {
        // Knuth, The Art of Computer Programming, volume 2, 3.3.4: enough to spread them.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_millis(backoff.next(random >> 20).0)).await;
        if let Ok(mut channel) = Channel::open(address, "idle", replica(number), true).await {
            back.fetch_add(1, Ordering::Relaxed);
            while channel.next().await.is_ok() {}
            return;
        }
    }
}
