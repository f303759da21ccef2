//! A server of many spaces: how soon it answers for one of them after a start, and what each costs in memory.

use crate::{
    channel::{Channel, replica},
    program::Program,
    report::{Bar, Report},
    rows::Rows,
};
use rejoin_core::protocol::message::{Message, Push};
use rusqlite::Connection;
use std::{
    path::Path,
    time::{Duration, Instant},
};

const START_MAX: Duration = Duration::from_secs(1);
const BYTES_MAX: f64 = 200.0;

pub(crate) async fn measure(folder: &Path, spaces: u32, report: &mut Report) -> anyhow::Result<()> {
    let server = Program::rejoin(folder)?;
    let mut channel = Channel::open(server.address, "bench", replica(1), false).await?;
    let row = Rows::new(replica(1)).next()?;
    channel.say(&Message::Push(Push { named: 0, rows: vec![row] })).await?;
    channel.acknowledged().await?;
    let (server, _) = server.killed_and_started(|_| Ok(()))?;
    let one = server.resident_kib()?;
    let (server, listens) = server.killed_and_started(|data| multiply(data, spaces))?;
    let answered = Instant::now();
    Channel::open(server.address, &format!("bench-{}", spaces / 2), replica(1), true).await?;
    let first = listens + answered.elapsed();
    let spaces = f64::from(spaces);
    report.tell("spaces.number", spaces, "spaces", None);
    let bar = Some(Bar::AtMost(START_MAX.as_secs_f64()));
    report.tell("spaces.start", first.as_secs_f64(), "s", bar);
    let each = (server.resident_kib()? - one) * 1_024.0 / spaces;
    report.tell("spaces.memory", each, "B per space", Some(Bar::AtMost(BYTES_MAX)));
    Ok(())
}

/// Copies what is stored of the one space, under other names.
fn multiply(data: &Path, spaces: u32) -> anyhow::Result<()> {
    let connection = Connection::open(data.join("rejoin.sqlite"))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    let copied = ["meta", "records", "feed", "tree", "log", "page"].map(|table| {
        format!(
            "INSERT INTO {table} SELECT made.id, one.key, one.value FROM spaces made, {table} one
             WHERE made.name LIKE 'bench-%' AND one.space = (SELECT id FROM spaces WHERE name = 'bench');"
        )
    });
    connection.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {spaces})
         INSERT INTO spaces (name) SELECT 'bench-' || n FROM numbers;
         {} COMMIT;",
        copied.concat()
    ))?;
    Ok(())
}
