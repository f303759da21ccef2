//! Partitions in the simulator: many, at every moment, on lines that go on as TCP does or never again.

use crate::{
    Extent,
    report::{Bar, Report},
    seeds,
};
use rejoin_core::testing::sim;
use std::io::{Write, stderr};

/// Within how many seconds of the heal 99 of 100 lines agree that go on where they stood.
pub(super) const HEALED_S: f64 = 5.0;
/// The same of lines that never carry anything again. Nothing but their silence tells, and it begins no earlier than
/// the cut; so where the cut is short the heal has to be waited out for as long as silence has to last until it counts:
/// `LIVELY_PING_EVERY` (3 s) and `ANSWER_WITHIN` (4 s). Behind these 7 s stand the pause before the next attempt (at most
/// 0.5 s, the least bound of `BACKOFF`; 1 s, `UNANSWERED_BACKOFF`, if nobody answered the one before) and the round trips
/// of a handshake and a heal: 8 to 9 s. Less than 7 s could be had only from a shorter `ANSWER_WITHIN`, which is twice
/// what one part takes on the slowest line that sessions have to get on with (`PART_BYTES` at `FLOOR_BYTES_PER_S`, 2 s):
/// such lines would be given up while they work. Somebody who gave a line up shortly before waits for 8 s instead
/// of 4: these are the ones beyond.
const FORGOTTEN_S: f64 = 10.0;

/// So many partitions of lines that go on as TCP does, and a third as many of lines that are forgotten; how long it takes
/// until all agree once the network is whole, in simulated time.
pub(crate) fn simulated(extent: Extent, count: u64, report: &mut Report) -> anyhow::Result<()> {
    for (name, forgotten, count, within) in
        [("simulated", false, count, HEALED_S), ("forgotten", true, count / 3, FORGOTTEN_S)]
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
