//! `cargo rel SUITE [--budget S] [--seed N]`: runs a suite of faults, tells a line of JSON for each figure, and
//! fails if one does not reach its bar. What is promised and how it is tested: docs/RELIABILITY.md.

mod browser;
mod canaries;
mod determinism;
mod fuzzed;
mod gate;
mod kill;
mod measured;
mod partitions;
mod power;
mod replay;
mod report;
mod scratch;
mod script;
mod seeds;
mod server;
mod simulated;
mod strace;
mod sweep;
mod tool;
mod writers;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use rejoin_core::testing::sim::canaries::CANARIES;
use report::Report;
use std::time::Duration;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Some of what needs no tools of its own, within minutes.
    Quick,
    /// Worlds with every fault, from one seed each: 12,000 seeds, or as many as the budget allows.
    Sim,
    /// Planted bugs: each must be found.
    Canaries,
    /// Stores that are copied, put back and restored: 100,000 short lives, or as many as the budget allows.
    History,
    /// Every hundredth world runs twice, the same way; 1,000 run the same way natively and on wasm32, in Node.
    Determinism,
    /// libFuzzer on every target of shared/fuzz: 10,000,000 executions of each.
    Fuzz,
    /// Lines of records, codec and trees that tests run.
    Coverage,
    /// Mutants of records, codec and trees that tests catch.
    Mutants,
    /// Faults in real browsers on a real server: 300 cycles, or as many as the budget allows.
    Browser,
    /// The server killed 2,000 times, or as often as the budget allows, under clients that write.
    Kill,
    /// The server killed, or its disk full or failing, at every system call that writes.
    Sweep,
    /// Power lost at every sync of a server and a client, in three ways.
    Power,
    /// Lines cut 100 times, or as often as the budget allows, without a word, in one or both directions, for up to
    /// 60 s; and 3,000 times in the simulator.
    Partitions,
    /// The story of one world: of a seed, or of a file that a failure has left.
    Replay,
}

#[derive(Debug, Parser)]
#[command(name = "cargo rel", about = "How reliable Rejoin is, in figures", max_term_width = 100)]
struct Arguments {
    /// What to run
    suite: Suite,
    /// Which world to replay: a seed, or a file
    world: Option<String>,
    /// Seconds that the suite goes on for, instead of its usual number of rounds
    #[arg(long, value_name = "S")]
    budget: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// How long a suite goes on, and where it begins.
#[derive(Debug, Clone, Copy)]
struct Extent {
    budget: Option<Duration>,
    seed: u64,
}

/// Some of everything.
fn quick(extent: Extent, report: &mut Report) -> anyhow::Result<()> {
    simulated::worlds(extent, 1_500, report)?;
    simulated::histories(extent, 3_000, report)?;
    fuzzed::made_up(1_000, report)?;
    partitions::simulated(extent, 500, report)?;
    kill::suite(extent, 300, report)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let budget = arguments.budget.map(Duration::from_secs);
    let extent = Extent { budget, seed: arguments.seed };
    let mut report = Report::default();
    let replays = arguments.suite == Suite::Replay;
    ensure!(replays || arguments.world.is_none(), "only `replay` takes a world");
    let fixed = [Suite::Quick, Suite::Coverage, Suite::Replay];
    ensure!(budget.is_none() || !fixed.contains(&arguments.suite), "it takes no budget");
    match arguments.suite {
        Suite::Quick => quick(extent, &mut report),
        Suite::Fuzz => fuzzed::fuzz(extent, 10_000_000, &mut report),
        Suite::Coverage => measured::coverage(&mut report),
        Suite::Mutants => measured::mutants(extent, &mut report),
        Suite::Browser => browser::faults(extent, browser::CYCLES, &mut report),
        Suite::Kill => kill::suite(extent, 2_000, &mut report),
        Suite::Sweep => sweep::suite(extent, None, &mut report),
        Suite::Power => power::suite(extent, None, &mut report),
        Suite::Sim => simulated::worlds(extent, simulated::WORLDS, &mut report),
        Suite::History => simulated::histories(extent, simulated::HISTORIES, &mut report),
        Suite::Determinism => determinism::suite(extent, determinism::WORLDS, &mut report),
        Suite::Replay => replay::replay(arguments.world.as_deref()),
        Suite::Partitions => partitions::suite(extent, 100, None, &mut report),
        Suite::Canaries => canaries::hunt(CANARIES.len(), &mut report),
    }?;
    ensure!(report.missed().is_empty(), "below the bar: {}", report.missed().join(", "));
    Ok(())
}
