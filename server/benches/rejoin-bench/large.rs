//! A space of many records: what it costs in memory, and how soon a server that is started answers for it.

use crate::{
    channel::{Channel, replica},
    program::Program,
    report::{Bar, Report},
    rows::Rows,
};
use rejoin_core::protocol::message::{Message, Push};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const START_MAX: Duration = Duration::from_secs(2);
const BYTES_MAX: f64 = 200.0;
/// Rows of one message, and messages that are on their way at a time.
const ROWS: usize = 500;
const AHEAD: usize = 4;

pub(crate) async fn measure(
    folder: &Path,
    records: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let server = Program::rejoin(folder)?;
    let empty = server.resident_kib()?;
    let started = Instant::now();
    fill(&server, records).await?;
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let count = records as f64;
    report.tell("large.records", count, "records", None);
    report.tell("large.filled", count / started.elapsed().as_secs_f64(), "rows/s", None);

    let (server, listens) = server.killed_and_started(|_| Ok(()))?;
    let answered = Instant::now();
    Channel::open(server.address, "bench", replica(2), true).await?;
    let first = listens + answered.elapsed();
    report.tell(
        "large.start",
        first.as_secs_f64(),
        "s",
        Some(Bar::AtMost(START_MAX.as_secs_f64())),
    );
    let each = (server.resident_kib()? - empty) * 1_024.0 / count;
    report.tell("large.memory", each, "B per record", Some(Bar::AtMost(BYTES_MAX)));
    Ok(())
}

async fn fill(server: &Program, records: u64) -> anyhow::Result<()> {
    let mut channel = Channel::open(server.address, "bench", replica(1), false).await?;
    let mut made = Rows::new(replica(1));
    let (mut left, mut waiting) = (usize::try_from(records)?, 0);
    while left > 0 || waiting > 0 {
        while left > 0 && waiting < AHEAD * ROWS {
            let count = ROWS.min(left);
            let rows = (0..count).map(|_| made.next()).collect::<Result<Vec<_>, _>>()?;
            channel.say(&Message::Push(Push { named: 0, rows })).await?;
            left -= count;
            waiting += count;
        }
        waiting -= channel.acknowledged().await?;
    }
    Ok(())
}
