//! A server as it is operated: its disk fills up, somebody else reads its database, connections end whenever, it is
//! replaced under load, and its clock is wrong by years.

mod clock;
mod disk;
mod restarts;

use crate::{
    Extent,
    report::{Bar, Report, tell_fault},
    server::Program,
    tool::Missing,
};
use std::time::Duration;

/// How much of each is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// Connections that are cut.
    pub(crate) cuts: u32,
    /// Servers that are replaced.
    pub(crate) restarts: u32,
    /// How long somebody reads one state of the database.
    pub(crate) read: Duration,
    /// What is written meanwhile.
    pub(crate) written_mib: usize,
}

/// Of a whole run.
pub(crate) const ALL: Amount =
    Amount { cuts: 10_000, restarts: 50, read: Duration::from_secs(60), written_mib: 96 };
/// Of a part of every test run.
pub(crate) const SOME: Amount =
    Amount { cuts: 300, restarts: 6, read: Duration::from_secs(3), written_mib: 24 };

/// Each of these.
pub(crate) fn suite(extent: Extent, amount: Amount, report: &mut Report) -> anyhow::Result<()> {
    let program = Program::build()?;
    let filled = run(disk::s06_a_full_disk_is_told_and_left_without_a_restart(&program));
    row("server.s06", filled, report)?;
    let read = run(disk::s07_who_reads_for_long_costs_nothing(&program, amount));
    if let Some(log) = row("server.s07", read, report)? {
        report.tell("server.s07_log_peak", log.peak_mib, "MiB", Bar::AtMost(256.0))?;
        report.tell("server.s07_log_after", log.after_mib, "MiB", Bar::AtMost(64.0))?;
    }
    let cut = restarts::s13_connections_end_whenever(&program, extent, amount.cuts);
    if let Some(sum) = row("server.s13", cut, report)? {
        let goal = Bar::AtLeast(f64::from(amount.cuts));
        report.count("server.s13_cuts", sum.events, "connections", goal)?;
    }
    let replaced = restarts::s16_servers_are_replaced(&program, extent, amount.restarts);
    if let Some(sum) = row("server.s16", replaced, report)? {
        let goal = Bar::AtLeast(f64::from(amount.restarts));
        report.count("server.s16_restarts", sum.events, "restarts", goal)?;
        report.tell("server.s16_drain_max", sum.drain.as_secs_f64(), "s", Bar::AtMost(5.0))?;
        report.tell("server.s16_away_max", sum.away.as_secs_f64(), "s", Bar::AtMost(10.0))?;
    }
    let clocks = run(clock::p20_b17_a_clock_is_wrong_by_years(&program));
    if let Some(told) = row("server.p20_b17", clocks, report)? {
        report.count("server.p20_b17_told_to_wait", told, "writers", Bar::None)?;
    }
    Ok(())
}

/// Tells whether it held; what it saw, if it did.
fn row<T>(name: &str, came: anyhow::Result<T>, report: &mut Report) -> anyhow::Result<Option<T>> {
    let seen = match came {
        Err(why) if !why.is::<Missing>() => {
            tell_fault(format!("{name}: {why:#}"));
            None
        }
        came => match report.settle(name, came)? {
            None => return Ok(None),
            held => held,
        },
    };
    report.count(
        &format!("{name}_faults"),
        usize::from(seen.is_none()),
        "faults",
        Bar::Exactly(0.0),
    )?;
    Ok(seen)
}

fn run<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
