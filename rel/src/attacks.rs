//! Hostile clients against a server, as the tests of the server know them (`server/tests/server/attacks`): how long two
//! healthy ones wait meanwhile, and what it costs in memory.
//!
//! Absent: attacks. What must hold however fast the machine is, the tests themselves assert.

use crate::{
    report::{Bar, Report},
    tool,
};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    process::Stdio,
};

/// How much longer the 99th percentile may take than in peace.
const RATIO_MAX: f64 = 2.0;
/// What is sooner than this counts as prompt whatever it was in peace: people notice no wait of less than a tenth of a
/// second, and attackers share their processors with those whom they attack here.
const PROMPT_MS: f64 = 100.0;
const GROWN_MAX_MIB: f64 = 64.0;
/// By the names that the tests give them.
const ATTACKS: [&str; 10] =
    ["m06", "x01", "x02", "x03", "x06", "x07", "x07_halves", "x17", "x18", "x27"];

/// What the time of an answer may tell of, and how far two means may be apart, in standard errors.
const TOLD_OF: [&str; 3] = ["x19_tokens", "x19_spaces", "x19_records"];
const T_MAX: f64 = 10.0;

/// Every attack for ten seconds, and its figures.
pub(crate) fn suite(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rejoin-attacks").tempdir()?;
    let figures = folder.path().join("figures");
    let mut tests = tool::cargo_itself("test")?;
    tests.args(["--quiet", "--locked", "--profile", "rel", "--package", "rejoin-server"]);
    tests.args(["--test", "server", "attacks::", "--", "--test-threads", "1"]);
    let ran = tests.env("REJOIN_ATTACKS", &figures).stderr(Stdio::inherit()).output()?;
    if !ran.status.success() {
        // What failed, and why.
        io::stderr().write_all(&ran.stdout)?;
    }
    let text = fs::read_to_string(&figures).context("no attack came to its end")?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let figure = |name: &str, of: &str| {
        let is_it = |line: &&Value| line.get("attack").is_some_and(|attack| attack == name);
        let value = lines.iter().find(is_it).and_then(|line| line.get(of)).and_then(Value::as_f64);
        value.with_context(|| format!("no figure {of:?} of {name:?}: its test has failed"))
    };
    for name in ATTACKS {
        let calm = figure(name, "calm_p99_ms")?;
        let bar = Bar::AtMost(PROMPT_MS.max(RATIO_MAX * calm));
        let writes = figure(name, "writes")?;
        report.tell(&format!("attacks.{name}_writes"), writes, "writes", Bar::None)?;
        report.tell(&format!("attacks.{name}_calm_p99"), calm, "ms", Bar::None)?;
        report.tell(&format!("attacks.{name}_p99"), figure(name, "p99_ms")?, "ms", bar)?;
        let grown = figure(name, "grown_kib")? / 1_024.0;
        report.tell(&format!("attacks.{name}_grown"), grown, "MiB", Bar::AtMost(GROWN_MAX_MIB))?;
    }
    for name in TOLD_OF {
        let t = figure(name, "t")?.abs();
        report.tell(&format!("attacks.{name}_t"), t, "", Bar::AtMost(T_MAX))?;
    }
    ensure!(
        ran.status.success(),
        "an attack did what it must not: cargo test -p rejoin-server attacks::"
    );
    Ok(())
}
