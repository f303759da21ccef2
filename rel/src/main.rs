//! `cargo rel SUITE [--budget S] [--seed N]`: runs a suite of faults, tells a line of JSON for each figure, and
//! fails if one does not reach its bar. What is promised and how it is tested: docs/RELIABILITY.md.

mod attacks;
mod browser;
mod canaries;
mod determinism;
mod fuzzed;
mod gate;
mod kill;
mod measured;
mod operated;
mod partitions;
mod power;
mod reader;
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
use report::{Bar, Report, faults, say};
use server::Program;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Some of every suite of faults, within minutes; what this machine cannot measure is left out, and told.
    Quick,
    /// Worlds with every fault, from one seed each: 12,000 seeds, or as many as the budget allows; every hundredth
    /// twice, the same way.
    Sim,
    /// Planted bugs: each must be found.
    Canaries,
    /// Stores that are copied, put back and restored: 100,000 short lives, or as many as the budget allows.
    History,
    /// 1,000 worlds run the same way natively and on wasm32, in Node.
    Determinism,
    /// libFuzzer on every target of shared/fuzz, or on the one that is named: 10,000,000 executions of each.
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
    /// A full disk, a reader that stays, 10,000 connections cut, 50 servers replaced, clocks wrong by years.
    Server,
    /// Hostile clients, ten seconds of each attack, while a writer and a reader go on.
    Attacks,
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
    /// Which world to replay: a seed, or a file; which target to fuzz
    what: Option<String>,
    /// Seconds that the suite goes on for, instead of its usual number of rounds
    #[arg(long, value_name = "S")]
    budget: Option<u64>,
    /// A part that `quick` leaves out; may be repeated
    #[arg(long, value_name = "PART")]
    without: Vec<String>,
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

/// A part of a quick run, by its name.
type Part = (&'static str, fn(Extent, &mut Report) -> anyhow::Result<()>);

/// Some of everything.
const PARTS: [Part; 11] = [
    ("sim", |extent, report| simulated::worlds(extent, 1_500, report)),
    ("history", |extent, report| simulated::histories(extent, 3_000, report)),
    ("determinism", |extent, report| determinism::suite(extent, 100, report)),
    ("canaries", |_, report| canaries::hunt(CANARIES.len(), report)),
    ("fuzz", |_, report| fuzzed::made_up(1_000, report)),
    ("kill", |extent, report| kill::suite(extent, 300, report)),
    ("sweep", |extent, report| sweep::suite(extent, Some(60), report)),
    ("power", |extent, report| power::suite(extent, Some(20), report)),
    ("partitions", |extent, report| partitions::suite(extent, 10, Some(60), report)),
    ("server", |extent, report| operated::suite(extent, operated::SOME, report)),
    ("browser", |extent, report| browser::faults(extent, browser::Run::EachOnce, report)),
];

/// Some of everything, but for these parts.
fn quick(extent: Extent, without: &[String], report: &mut Report) -> anyhow::Result<()> {
    let known = |name: &String| PARTS.iter().any(|(part, _)| part == name);
    ensure!(without.iter().all(known), "no such part: {}", without.join(", "));
    // How long it takes to build is not asked.
    Program::build()?;
    let began = Instant::now();
    for (name, part) in PARTS {
        if without.iter().any(|left_out| left_out == name) {
            report.leave_out(name, "it was asked for without")?;
            continue;
        }
        let started = Instant::now();
        let came = part(extent, report);
        report.settle(name, came)?;
        let took = started.elapsed().as_secs_f64();
        report.tell(&format!("quick.{name}"), took, "s", Bar::None)?;
    }
    // A figure without a bar: how fast the machine is says nothing of what was tested.
    report.tell("quick.time", began.elapsed().as_secs_f64(), "s", Bar::None)?;
    if !report.left_out().is_empty() {
        say(format!("NOT MEASURED on this machine: {}", report.left_out().join(", ")));
    }
    Ok(())
}

/// What failed is the last that is told, without a backtrace: the end of a long log is what people see of it.
fn main() -> ExitCode {
    let Err(why) = run(&Arguments::parse()) else { return ExitCode::SUCCESS };
    for fault in faults() {
        say(fault);
    }
    say(format!("Error: {why:#}"));
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let budget = arguments.budget.map(Duration::from_secs);
    let extent = Extent { budget, seed: arguments.seed };
    let is_quick = arguments.suite == Suite::Quick;
    let mut report = if is_quick { Report::that_leaves_out() } else { Report::default() };
    ensure!(is_quick || arguments.without.is_empty(), "only `quick` leaves something out");
    let takes = matches!(arguments.suite, Suite::Replay | Suite::Fuzz);
    let what = arguments.what.as_deref();
    ensure!(takes || what.is_none(), "only `replay` takes a world, and `fuzz` a target");
    let fixed = [
        Suite::Quick,
        Suite::Coverage,
        Suite::Replay,
        Suite::Server,
        Suite::Canaries,
        Suite::Attacks,
    ];
    ensure!(budget.is_none() || !fixed.contains(&arguments.suite), "it takes no budget");
    match arguments.suite {
        Suite::Quick => quick(extent, &arguments.without, &mut report),
        Suite::Fuzz => fuzzed::fuzz(extent, what, 10_000_000, &mut report),
        Suite::Coverage => measured::coverage(&mut report),
        Suite::Mutants => measured::mutants(extent, &mut report),
        Suite::Browser => browser::faults(extent, browser::ALL, &mut report),
        Suite::Kill => kill::suite(extent, 2_000, &mut report),
        Suite::Sweep => sweep::suite(extent, None, &mut report),
        Suite::Power => power::suite(extent, None, &mut report),
        Suite::Sim => simulated::worlds(extent, simulated::WORLDS, &mut report),
        Suite::History => simulated::histories(extent, simulated::HISTORIES, &mut report),
        Suite::Determinism => determinism::suite(extent, determinism::WORLDS, &mut report),
        Suite::Replay => replay::replay(what),
        Suite::Partitions => partitions::suite(extent, 100, None, &mut report),
        Suite::Server => operated::suite(extent, operated::ALL, &mut report),
        Suite::Attacks => attacks::suite(&mut report),
        Suite::Canaries => canaries::hunt(CANARIES.len(), &mut report),
    }?;
    ensure!(report.missed().is_empty(), "below the bar: {}", report.missed().join("; "));
    Ok(())
}
