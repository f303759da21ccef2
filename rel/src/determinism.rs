//! The same world on two platforms: the same events, to the byte. (That it is the same twice on one: `simulated`.)

use crate::{
    Extent,
    report::{Bar, Report, percent},
    seeds,
};
use anyhow::{Context, ensure};
use rejoin_core::testing::sim;
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

/// Worlds of a usual run that run on wasm32 too.
pub(crate) const WORLDS: u64 = 1_000;
/// `count` worlds natively and on wasm32, in Node.
pub(crate) fn suite(extent: Extent, count: u64, report: &mut Report) -> anyhow::Result<()> {
    let (ran, same) = on_wasm(extent, count)?;
    report.tell("determinism.wasm", percent(same, ran), "%", Bar::Exactly(100.0))
}

/// How many worlds ran, and how many of them the same way on wasm32.
fn on_wasm(extent: Extent, count: u64) -> anyhow::Result<(u64, u64)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new("npm")
        .args(["run", "--silent", "build:test", "-w", "client-wasm"])
        .current_dir(&root)
        .stdout(Stdio::null())
        .status()
        .context("npm is missing: install Node.js 22, which has it")?;
    ensure!(
        built.success(),
        "the WebAssembly build failed; it needs `rustup target add wasm32-unknown-unknown`"
    );
    let node = Command::new("node")
        .arg(root.join("client-wasm/test/golden/worlds.mjs"))
        .args([extent.seed.to_string(), count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("node is missing: install Node.js 22")?;
    let native = |seed, traces: &mut BTreeMap<u64, String>| {
        traces.insert(seed, sim::trace(seed));
    };
    let (_, natives) = seeds::each(
        Extent { budget: None, ..extent },
        count,
        native,
        |whole: &mut BTreeMap<_, _>, more| whole.extend(more),
    );
    let output = node.wait_with_output()?;
    ensure!(output.status.success(), "the worlds did not run on wasm32");
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let traces: BTreeMap<u64, &str> =
        lines.filter_map(|(seed, trace)| Some((seed.parse().ok()?, trace))).collect();
    let same = natives.iter().filter(|(seed, trace)| traces.get(seed) == Some(&trace.as_str()));
    Ok((count, u64::try_from(same.count())?))
}
