//! Suites of the simulator: what `rejoin_core::testing::sim` runs, on every core.

use crate::{
    Extent, replay,
    report::{Bar, Report, say, tell_fault},
    seeds,
};
use rejoin_core::testing::sim::{self, Failure, Outcome, Plan, marks};
use std::{collections::BTreeMap, time::Instant};

/// What many runs did together.
#[derive(Debug, Default)]
struct Sum {
    events: u64,
    written: u64,
    failed: usize,
    failures: Vec<Failure>,
    marks: BTreeMap<&'static str, u64>,
    /// Worlds that are to run twice, those that did, and those of them that did not run the same way.
    divided: u32,
    repeated: usize,
    differing: usize,
}

/// Worlds of a usual run: more than 20 million events.
pub(crate) const WORLDS: u64 = 12_000;
/// Short lives of a usual run.
pub(crate) const HISTORIES: u64 = 100_000;
/// Every seed that this divides runs twice.
const TWICE_ONE_IN: u64 = 100;
/// Failures that are made small and written: each takes a while.
const KEPT_MAX: usize = 4;

impl Sum {
    /// Runs a world, and some worlds once more: the second run is the first one, to the digest of all that happens.
    fn run(&mut self, seed: u64) {
        let ran = sim::run(seed);
        if seed.is_multiple_of(TWICE_ONE_IN) {
            self.repeated += 1;
            if sim::run(seed) != ran {
                self.differing += 1;
                tell_fault(format!("seed {seed}: another world the second time"));
            }
        }
        self.add(ran);
    }

    fn add(&mut self, ran: Result<Outcome, Failure>) {
        match ran {
            Ok(outcome) => {
                self.events += outcome.events;
                self.written += outcome.written;
                for (mark, count) in outcome.marks {
                    *self.marks.entry(mark).or_default() += count;
                }
            }
            Err(failure) => {
                self.failed += 1;
                tell_fault(format!("seed {}: {}", failure.seed, failure.what));
                if self.failures.len() < KEPT_MAX {
                    self.failures.push(failure);
                }
            }
        }
    }

    fn join(&mut self, other: Self) {
        self.events += other.events;
        self.written += other.written;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        for (mark, count) in other.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        self.divided += other.divided;
        self.repeated += other.repeated;
        self.differing += other.differing;
    }
}

impl Sum {
    /// Makes the first failures small, and writes them.
    fn keep(self) -> anyhow::Result<()> {
        for failure in self.failures.into_iter().take(KEPT_MAX) {
            let seed = failure.seed;
            say(format!("seed {seed}: {}", replay::keep(failure)?));
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn millions(count: u64) -> f64 {
    (count as f64 / 10_000.0).round() / 100.0
}

/// Worlds with every fault: `count` of them.
pub(crate) fn worlds(extent: Extent, count: u64, report: &mut Report) -> anyhow::Result<()> {
    let started = Instant::now();
    let run = |seed: u64, sum: &mut Sum| {
        sum.divided += u32::from(seed.is_multiple_of(TWICE_ONE_IN));
        sum.run(seed);
    };
    let (ran, sum) = seeds::each(extent, count, run, Sum::join);
    let took = started.elapsed().as_secs_f64();
    let usual = |bar| if extent.budget.is_none() && count >= WORLDS { bar } else { Bar::None };
    report.count("sim.seeds", usize::try_from(ran)?, "seeds", usual(Bar::AtLeast(10_000.0)))?;
    report.tell("sim.events", millions(sum.events), "million", usual(Bar::AtLeast(20.0)))?;
    report.count("sim.failed", sum.failed, "seeds", Bar::Exactly(0.0))?;
    report.count("sim.repeated", sum.repeated, "seeds", Bar::Exactly(sum.divided.into()))?;
    report.count("sim.differing", sum.differing, "seeds", Bar::Exactly(0.0))?;
    report.tell("sim.time", took, "s", usual(Bar::AtMost(120.0)))?;
    let mut happened = sum.marks.clone();
    happened.insert("written", sum.written);
    if let Some((mark, count)) = marks::rarest(&happened).into_iter().next() {
        say(format!("rarest mark: {mark}"));
        let long = ran >= WORLDS;
        let bar = if long { Bar::AtLeast(100.0) } else { Bar::None };
        report.count("sim.rarest_mark", usize::try_from(count)?, "times", bar)?;
    }
    sum.keep()
}

/// Short lives in which stores are copied and put back: `count` of them.
pub(crate) fn histories(extent: Extent, count: u64, report: &mut Report) -> anyhow::Result<()> {
    let run = |seed, sum: &mut Sum| sum.add(sim::run_plan(seed, Plan::draw_copies(seed)));
    let (ran, sum) = seeds::each(extent, count, run, Sum::join);
    report.count("history.seeds", usize::try_from(ran)?, "seeds", Bar::None)?;
    report.tell("history.events", millions(sum.events), "million", Bar::None)?;
    report.count("history.failed", sum.failed, "seeds", Bar::Exactly(0.0))?;
    sum.keep()
}
