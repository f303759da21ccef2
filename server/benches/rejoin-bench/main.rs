//! How fast the server is beside what bounds it: `cargo bench -p rejoin-server --bench rejoin-bench`.
//!
//! Each figure is a line of JSON: metric, value, unit, the limit that was measured in the same run where there is one,
//! their ratio, the bar and whether it was reached. What is compared takes turns, round by round, on the same machine,
//! the same disk, with the same rows; a figure is the median of its rounds. Ends with 1 below a bar. Linux only.

#![expect(clippy::wildcard_enum_match_arm, reason = "most messages are of no concern here")]

mod baseline;
mod channel;
mod echo;
mod fanout;
mod idle;
mod large;
mod peers;
mod program;
mod report;
mod rows;
mod spaces;
mod writes;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use report::Report;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Acknowledged writes, beside SQLite that commits the same rows.
    Writes,
    /// One change on its way to many, beside a server that echoes.
    Fanout,
    /// Many connections that say nothing, and all of them coming back.
    Idle,
    /// A space of many records: its start, its memory.
    Large,
    /// Many spaces: the start of their server, its memory.
    Spaces,
}

/// What may be asked for.
#[derive(Debug, Parser)]
#[command(name = "rejoin-bench", about = "How fast the server is beside what bounds it")]
struct Options {
    /// Which workloads [default: all].
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',')]
    only: Vec<Workload>,
    /// Rounds of what is compared.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Seconds of writing in each round.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    seconds: u64,
    /// Connections that one change goes to.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    receivers: u32,
    /// Connections that are idle.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: u32,
    /// Records of the large space.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records: u64,
    /// Spaces of one server.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    spaces: u32,
    /// Without the servers of others, which need Node.js.
    #[arg(long)]
    no_peers: bool,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the server that echoes.
    #[arg(long, hide = true)]
    echo: bool,
}

impl Options {
    fn wants(&self, workload: Workload) -> bool {
        self.only.is_empty() || self.only.contains(&workload)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if options.echo {
        echo::serve().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::default();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rejoin-bench");
    let time = Duration::from_secs(options.seconds);
    if options.wants(Workload::Writes) {
        let peers = !options.no_peers;
        writes::measure(&folder, options.rounds, time, peers, &mut report)
            .await
            .context("writes")?;
    }
    if options.wants(Workload::Fanout) {
        fanout::measure(&folder, &options, &mut report).await.context("fan-out")?;
    }
    if options.wants(Workload::Idle) {
        idle::measure(&folder, options.connections, &mut report).await.context("idle")?;
    }
    if options.wants(Workload::Large) {
        large::measure(&folder, options.records, &mut report).await.context("large")?;
    }
    if options.wants(Workload::Spaces) {
        spaces::measure(&folder, options.spaces, &mut report).await.context("spaces")?;
    }
    Ok(report.end())
}
