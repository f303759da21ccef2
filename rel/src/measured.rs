//! How well the tests hold what holds people's data: lines that they run, and mutants that they catch.

use crate::{
    Extent,
    report::{Bar, Report, tell_fault},
    tool,
};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{fs, path::Path};

/// Records, merging, codec and trees: what is lost here is lost everywhere.
const HELD: [&str; 6] = ["codec/", "crdt/", "hlc.rs", "id.rs", "record/", "tree/"];

/// Lines of [`HELD`] that the tests of the core run, in percent; the others are named.
pub(crate) fn coverage(report: &mut Report) -> anyhow::Result<()> {
    let out = tool::root()?.join("target/coverage.json");
    let mut test = tool::cargo("llvm-cov", "cargo-llvm-cov")?;
    test.args(["nextest", "--locked", "-p", "rejoin-core", "--no-report"]);
    tool::run(test.args(["-E", "not (binary(canaries) or binary(sim) or binary(tidy))"]))?;
    let mut tell = tool::cargo("llvm-cov", "cargo-llvm-cov")?;
    tool::run(tell.args(["report", "--json", "--output-path"]).arg(&out))?;
    let told: Value = serde_json::from_slice(&fs::read(&out)?)?;
    let files = told.pointer("/data/0/files").and_then(Value::as_array);
    let (mut lines, mut run) = (0.0, 0.0);
    let (mut of_shared, mut run_of_shared) = (0.0, 0.0);
    for file in files.context("a report of files")? {
        let name = file.get("filename").and_then(Value::as_str).unwrap_or_default();
        let Some((_, name)) = name.split_once("/shared/src/") else { continue };
        let number = |key: &str| {
            file.pointer(&format!("/summary/lines/{key}")).and_then(Value::as_f64).unwrap_or(0.0)
        };
        let (count, covered) = (number("count"), number("covered"));
        if !name.starts_with("testing/") {
            of_shared += count;
            run_of_shared += covered;
        }
        if HELD.iter().any(|held| name.starts_with(held)) {
            lines += count;
            run += covered;
            if covered < count {
                let missed = count - covered;
                tell_fault(format!("shared/src/{name}: {missed} of {count} lines are not run"));
            }
        }
    }
    report.tell("coverage.held", 100.0 * run / lines, "% of lines", Bar::Exactly(100.0))?;
    report.tell("coverage.shared", 100.0 * run_of_shared / of_shared, "% of lines", Bar::None)
}

/// Mutants of [`HELD`] (`.cargo/mutants.toml`) that tests catch, in percent; the others are named. With a budget, as
/// many of them as are likely to fit, by seed.
///
/// Most are caught by the tests in the crate, which are built in seconds: all others are asked only of those that are
/// left. (A part is asked of all at once: what is left of it would be parted once more.)
pub(crate) fn mutants(extent: Extent, report: &mut Report) -> anyhow::Result<()> {
    let out = tool::root()?.join("target/mutants");
    if out.exists() {
        // The second pass goes on where another one ended.
        fs::remove_dir_all(&out)?;
    }
    let all = ["--", "--lib", "--tests"];
    let (first, missed) = if extent.budget.is_some() {
        let only = mutants_left(extent, &out, &all)?;
        let missed = only.missed;
        (only, missed)
    } else {
        let first = mutants_left(extent, &out, &["--", "--lib"])?;
        let missed = if first.missed > 0.0 {
            mutants_left(extent, &out, &[&["--iterate"], all.as_slice()].concat())?.missed
        } else {
            0.0
        };
        (first, missed)
    };
    report.tell("mutants.tested", first.viable, "mutants", Bar::AtLeast(1.0))?;
    let caught = first.viable - missed;
    report.tell("mutants.caught", 100.0 * caught / first.viable, "%", Bar::AtLeast(95.0))
}

/// What became of the mutants of one pass.
struct Pass {
    viable: f64,
    missed: f64,
}

fn mutants_left(extent: Extent, out: &Path, rest: &[&str]) -> anyhow::Result<Pass> {
    let mut test = tool::cargo("mutants", "cargo-mutants")?;
    test.args(["--no-shuffle", "--baseline", "run", "--jobs", "2", "--colors", "never"]);
    test.arg("--output").arg(out);
    if let Some(budget) = extent.budget {
        let shards = (SECONDS_OF_ALL / budget.as_secs().max(1)).max(1);
        test.args(["--shard", &format!("{}/{shards}", extent.seed % shards)]);
    }
    let ended = test.args(rest).stdout(std::io::stderr()).status();
    let ended = ended.context("cargo mutants does not start")?;
    // 2 and 3: some were missed, or hung, and how many is the figure here. Otherwise what lies there is of an earlier run.
    ensure!(matches!(ended.code(), Some(0 | 2 | 3)), "cargo mutants ended with {ended}");
    let told: Value = serde_json::from_slice(&fs::read(out.join("mutants.out/outcomes.json"))?)?;
    let number = |key: &str| told.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let missed = number("missed");
    Ok(Pass { viable: number("caught") + number("timeout") + missed, missed })
}

/// About what all mutants take on two cores.
const SECONDS_OF_ALL: u64 = 3 * 3_600;
