//! `cargo rel SUITE [--budget S] [--seed N]`: runs a suite of faults, tells a line of JSON for each figure, and
//! fails if one does not reach its bar. What is promised and how it is tested: docs/RELIABILITY.md.

mod report;
mod seeds;
mod simulated;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use report::Report;
use std::time::Duration;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Worlds with every fault, from one seed each: 10,000 seeds, or as many as the budget allows.
    Sim,
    /// Stores that are copied, put back and restored: 100,000 short lives, or as many as the budget allows.
    History,
    /// Every hundredth world runs twice, the same way.
    Determinism,
}

#[derive(Debug, Parser)]
#[command(name = "cargo rel", about = "How reliable Rejoin is, in figures", max_term_width = 100)]
struct Arguments {
    /// What to run
    suite: Suite,
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

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let budget = arguments.budget.map(Duration::from_secs);
    let extent = Extent { budget, seed: arguments.seed };
    let mut report = Report::default();
    match arguments.suite {
        Suite::Sim => simulated::worlds(extent, &mut report),
        Suite::History => simulated::histories(extent, &mut report),
        Suite::Determinism => simulated::determinism(extent, &mut report),
    }?;
    ensure!(report.missed().is_empty(), "below the bar: {}", report.missed().join(", "));
    Ok(())
}
