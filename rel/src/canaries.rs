//! Canaries: planted bugs, each of which an oracle of the simulator must find.

use crate::{
    Extent,
    replay::keep,
    report::{Bar, Report, say, tell_fault},
    seeds,
};
use anyhow::ensure;
use rejoin_core::testing::sim::canaries::{self, CANARIES};

/// What became of those that were hunted.
#[derive(Debug, Default)]
struct Hunted {
    found: u32,
    /// Those in whose worlds something is wrong without them too.
    unsound: u32,
}

/// Hunts the first `count` of them, each once, on every core; each from seed 0 on.
pub(crate) fn hunt(count: usize, report: &mut Report) -> anyhow::Result<()> {
    let reported = canaries::always_found();
    ensure!(reported.is_some(), "a bug that is always found is not reported");
    let extent = Extent { budget: None, seed: 0 };
    let (hunted, sum) = seeds::each(extent, count.min(CANARIES.len()) as u64, one, |sum, more| {
        sum.found += more.found;
        sum.unsound += more.unsound;
    });
    let share = f64::from(sum.found) * 100.0 / f64::from(u32::try_from(hunted.max(1))?);
    report.count("canaries.hunted", usize::try_from(hunted)?, "bugs", Bar::AtLeast(40.0))?;
    report.tell("canaries.found", share, "%", Bar::Exactly(100.0))?;
    report.count("canaries.unsound", usize::try_from(sum.unsound)?, "bugs", Bar::Exactly(0.0))
}

fn one(at: u64, hunted: &mut Hunted) {
    let Some(canary) = usize::try_from(at).ok().and_then(|at| CANARIES.get(at)) else {
        return;
    };
    match canary.hunt().map(|found| found.without) {
        None => tell_fault(format_args!("{:?} ({}) lives on", canary.bug, canary.stands_for)),
        Some(None) => hunted.found += 1,
        Some(Some(failure)) => {
            hunted.unsound += 1;
            tell_fault(format_args!("seed {} fails without {:?} too", failure.seed, canary.bug));
            match keep(failure) {
                Ok(text) => say(&text),
                Err(error) => say(format_args!("{error:#}")),
            }
        }
    }
}
