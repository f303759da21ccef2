//! Partitions in the simulator: many, at every moment, on lines that go on as TCP does or never again.

use crate::{
    Extent,
    report::{Bar, Report},
    seeds,
};
use rejoin_core::testing::sim;
use std::io::{Write, stderr};

/// So many partitions of lines that go on as TCP does, and a third as many of lines that are forgotten; how long it takes
/// until all agree once the network is whole, in simulated time.
pub(crate) fn simulated(extent: Extent, count: u64, report: &mut Report) -> anyhow::Result<()> {
    for (name, forgotten, count, within) in
        [("simulated", false, count, 5.0), ("forgotten", true, count / 3, 10.0)]
    {
        let part = |seed, took: &mut Vec<f64>| match sim::partition(seed, forgotten) {
            Ok(healed) => {
                let millis = u32::try_from(healed.after).map_or(f64::INFINITY, f64::from);
                took.push(millis / 1_000.0);
            }
            Err(what) => {
                writeln!(stderr(), "partition of seed {seed}, forgotten {forgotten}: {what}").ok();
            }
        };
        let (ran, took) =
            seeds::each(extent, count, part, |all: &mut Vec<f64>, more| all.extend(more));
        let (name, ran) = (format!("partitions.{name}"), usize::try_from(ran)?);
        report.count(&name, ran, "partitions", Bar::AtLeast(1.0))?;
        super::healed(&name, ran, took, within, report)?;
    }
    Ok(())
}
