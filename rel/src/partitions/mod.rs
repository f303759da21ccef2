//! Lines that lose everything for a while, without a word to either end: half-open, one-way, both ways.
//!
//! In each world two clients of a space of their own write; the line of one of them is cut, and both go on. Once it
//! is whole again they converge, nobody touches anything, and it is measured how long that takes.

mod bytes;
mod net;
mod proxy;
mod simulated;

use crate::{
    Extent,
    report::{Bar, Report, say, tell_fault},
    scratch,
    script::Seen,
    server::{PATIENCE, Program, Server},
    writers::{Verdict, Writer},
};
use anyhow::ensure;
use futures_util::future::join_all;
use net::{Lost, Network};
use rejoin_core::testing::rng::Rng;
use simulated::HEALED_S;
pub(crate) use simulated::simulated;
use std::{
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Longest time that a line is cut.
const CUT_MS: u64 = 60_000;
/// About how often each client writes meanwhile.
const WRITES_EVERY_MS: u64 = 1_500;
/// Worlds at a time; each has an address of its own.
const AT_ONCE: u64 = 100;
/// Behind which everything has to converge.
const WITHIN: Duration = Duration::from_secs(60);

/// Partitions of a usual run, in the simulator.
const SIMULATED: u64 = 3_000;

/// So many partitions of real lines, or as many as the budget allows (100 take a little more than a minute); thousands in
/// the simulator; and every byte of a session, or an even sample of so many.
pub(crate) fn suite(
    extent: Extent,
    count: u64,
    bytes: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    simulated(Extent { budget: None, ..extent }, SIMULATED, report)?;
    let program = Program::build()?;
    bytes::suite(extent, &program, bytes, report)?;
    let Some(network) = report.settle("partitions.real", Network::new())? else { return Ok(()) };
    let data = scratch::in_memory()?;
    let runner = network.runner();
    let mut command = program.command_at(&runner, "0.0.0.0:0", data.path());
    let mut server = Server::boot(&mut command)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let mut took = Vec::new();
    let mut ran = 0;
    while extent.budget.map_or(ran < count, |budget| ran == 0 || started.elapsed() < budget) {
        let more = AT_ONCE.min(if extent.budget.is_some() { AT_ONCE } else { count - ran });
        let worlds = (0..more).map(|at| {
            let seed = extent.seed.wrapping_add(ran + at);
            let (network, port) = (&network, server.address.port());
            async move {
                let result =
                    p04_both_ends_converge_once_the_line_is_whole(network, port, seed, at).await;
                if let Err(fault) = &result {
                    tell_fault(format!("seed {seed}: {fault:#}"));
                }
                result
            }
        });
        took.extend(runtime.block_on(join_all(worlds)).into_iter().filter_map(Result::ok));
        ran += more;
    }
    ensure!(server.errors().is_empty(), "{:?}", server.errors());
    server.kill()?;
    tell(ran, &took, report)
}

fn tell(ran: u64, took: &[Duration], report: &mut Report) -> anyhow::Result<()> {
    let seconds = took.iter().map(Duration::as_secs_f64).collect();
    let ran = usize::try_from(ran)?;
    report.count("partitions.real", ran, "partitions", Bar::AtLeast(1.0))?;
    healed("partitions", ran, seconds, HEALED_S, report)
}

/// How many of so many converged, and within how many seconds.
fn healed(
    name: &str,
    ran: usize,
    mut took: Vec<f64>,
    within: f64,
    report: &mut Report,
) -> anyhow::Result<()> {
    took.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
    let share = took.len() as f64 / ran.max(1) as f64 * 100.0;
    let at = |part: usize| took.get((took.len() * part).div_ceil(100).saturating_sub(1));
    let seconds = |part| at(part).copied().unwrap_or(f64::INFINITY);
    report.tell(&format!("{name}.converged"), share, "%", Bar::Exactly(100.0))?;
    report.tell(&format!("{name}.p50"), seconds(50), "s", Bar::None)?;
    // Of fewer it is the slowest one, which a busy machine makes slower.
    let bar = if ran >= 100 { Bar::AtMost(within) } else { Bar::None };
    report.tell(&format!("{name}.p99"), seconds(99), "s", bar)?;
    report.tell(&format!("{name}.longest"), seconds(100), "s", Bar::None)
}

/// One partition; how long it took both ends from the heal on.
async fn p04_both_ends_converge_once_the_line_is_whole(
    network: &Network,
    port: u16,
    seed: u64,
    at: u64,
) -> anyhow::Result<Duration> {
    let mut dice = Rng::new(seed);
    let directory = scratch::in_memory()?;
    let address = network.address(u8::try_from(at)? + 2);
    let space = format!("world{seed}");
    let open = async |name: u8, address: Ipv4Addr, directory: &Path| {
        let url = format!("ws://{address}:{port}/sync");
        Writer::open_in(&space, name, directory, url).await
    };
    let cut = open(1, address, directory.path()).await?;
    let other = open(2, network.address(1), directory.path()).await?;
    let writers = [cut, other];
    for writer in &writers {
        writer.write().await?;
        writer.synced().await?;
    }
    // Not all of them cut at the same place in the rhythm of their pings.
    sleep(Duration::from_millis(dice.below(10_000))).await;
    let lost = dice.one_of(Lost::Both, &[Lost::ToServer, Lost::FromServer]);
    let end = Instant::now() + Duration::from_millis(dice.below(CUT_MS));
    network.cut(address, lost)?;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        let pause = Duration::from_millis(dice.below(2 * WRITES_EVERY_MS));
        sleep(pause.min(rest)).await;
        if let Some(writer) = writers.get(dice.index(writers.len())) {
            writer.write().await?;
        }
    }
    network.heal(address, lost)?;
    let healed = Instant::now();
    let converged = timeout(WITHIN, converge(&writers)).await;
    let took = healed.elapsed();
    ensure!(converged.is_ok(), "{lost:?}: {:?}", writers.each_ref().map(|w| w.client.status()));
    if took > Duration::from_secs(5) {
        say(format!("seed {seed}, {lost:?}: {took:?}"));
    }
    let promises = writers.each_ref().map(Writer::promise);
    for writer in &writers {
        let verdict = Verdict::of(&Seen::of(&writer.client)?, &promises);
        ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
        timeout(PATIENCE, writer.client.close()).await??;
    }
    Ok(took)
}

/// Until both have all that both have written.
async fn converge(writers: &[Writer; 2]) -> anyhow::Result<()> {
    let [left, right] = writers;
    loop {
        let (changed, other) = (left.client.changed(), right.client.changed());
        let issued = writers.each_ref().map(|writer| (writer.name, writer.promise().issued));
        let synced = writers.iter().all(|writer| writer.client.is_synced());
        if synced {
            let all = |seen: &Seen| issued.iter().all(|(name, issued)| seen.mark(*name) == *issued);
            if all(&Seen::of(&left.client)?) && all(&Seen::of(&right.client)?) {
                return Ok(());
            }
        }
        tokio::select! {
            () = changed => {}
            () = other => {}
        }
    }
}
