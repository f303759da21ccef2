//! Acknowledged writes per second, of clients that each wait for one before the next.

use crate::{
    baseline::Baseline,
    channel::{Channel, replica},
    peers,
    program::Program,
    report::{Bar, Report, median},
    rows::Rows,
};
use futures_util::future::try_join_all;
use rejoin_core::protocol::message::{Message, Push};
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use tokio::task::block_in_place;

/// How many clients write, and how many rows each of them has on its way.
const SHAPES: [(u32, usize, &str); 4] =
    [(1, 1, "writes.1"), (10, 1, "writes.10"), (100, 1, "writes.100"), (1, 500, "writes.bulk")];
/// Of what SQLite does.
const RATIO_MIN: f64 = 0.6;

pub(crate) async fn measure(
    folder: &Path,
    rounds: usize,
    time: Duration,
    with_peers: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = Program::rejoin(folder)?;
    let mut baseline = Baseline::open(folder)?;
    let mut serial = 0;
    let mut figures = vec![(Vec::new(), Vec::new()); SHAPES.len()];
    for _ in 0..rounds {
        for ((clients, rows, _), (ours, least)) in SHAPES.into_iter().zip(&mut figures) {
            let at_a_time = usize::try_from(clients)? * rows;
            least.push(block_in_place(|| baseline.write(at_a_time, time))?);
            ours.push(write(server.address, serial..serial + clients, rows, time).await?);
            serial += clients;
        }
    }
    for ((_, _, metric), (ours, least)) in SHAPES.into_iter().zip(&mut figures) {
        let (ours, least) = (median(ours), median(least));
        report.compare(metric, ours, "rows/s", least, Some(Bar::AtLeast(RATIO_MIN)));
    }
    drop(server);
    if with_peers {
        for clients in [1, 10, 100] {
            if let Some(written) = peers::pouchdb_writes(clients, time).await? {
                report.tell(&format!("writes.{clients}.pouchdb"), written, "rows/s", None);
            }
        }
    }
    Ok(())
}

/// Rows per second of clients with these serial numbers, each of which sends `rows` at a time and waits.
async fn write(
    address: SocketAddr,
    clients: std::ops::Range<u32>,
    rows: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let opening = clients.map(|serial| async move {
        let replica = replica(serial);
        anyhow::Ok((Channel::open(address, "bench", replica, false).await?, Rows::new(replica)))
    });
    let opened = try_join_all(opening).await?;
    let started = Instant::now();
    let writing = opened.into_iter().map(|(channel, made)| {
        tokio::spawn(async move { write_alone(channel, made, rows, started + time).await })
    });
    let mut written = 0;
    for result in try_join_all(writing).await? {
        written += result?;
    }
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let written = written as f64;
    Ok(written / started.elapsed().as_secs_f64())
}

async fn write_alone(
    mut channel: Channel,
    mut made: Rows,
    rows: usize,
    until: Instant,
) -> anyhow::Result<usize> {
    let mut written = 0;
    while Instant::now() < until {
        let rows = (0..rows).map(|_| made.next()).collect::<Result<Vec<_>, _>>()?;
        let mut waiting = rows.len();
        channel.say(&Message::Push(Push { named: 0, rows })).await?;
        while waiting > 0 {
            let acknowledged = channel.acknowledged().await?;
            waiting -= acknowledged;
            written += acknowledged;
        }
    }
    Ok(written)
}
