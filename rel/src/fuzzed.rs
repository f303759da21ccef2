//! Whatever the bytes: the targets of `shared/fuzz`, under libFuzzer or with inputs that are made up.

use crate::{
    Extent,
    report::{Bar, Report, tell_fault},
    tool,
};
use anyhow::{Context, ensure};
use rejoin_fuzz::{TARGETS, Target};
use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// How long inputs are at most, in bytes, in how many of a hundred executions, and what libFuzzer is told of them. A
/// dozen messages fit in the shortest, sessions of real size in the longest. Short ones find more in the same time, above
/// all if an input is worth keeping for the branches that it takes, however often.
const LENGTHS: [(u32, u64, &str); 3] =
    [(256, 80, "-use_counters=0"), (1_024, 19, "-use_counters=0"), (8_192, 1, "-use_counters=1")];

/// How far a target is taken.
#[derive(Debug, Clone, Copy)]
enum Until {
    Runs(u64),
    Time(Duration),
}

/// libFuzzer on each target, or on the one that is named: so many executions, or the budget in equal parts. As many
/// targets at a time as there are cores.
pub(crate) fn fuzz(
    extent: Extent,
    named: Option<&str>,
    runs: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let names = TARGETS.map(|target| target.name).join(", ");
    let is_meant = |target: &Target| named.is_none_or(|name| name == target.name);
    let targets: Vec<Target> = TARGETS.into_iter().filter(is_meant).collect();
    ensure!(!targets.is_empty(), "there is no such target; there are {names}");
    let built = build()?;
    let until = match extent.budget {
        None => Until::Runs(runs),
        Some(budget) => Until::Time(budget / u32::try_from(targets.len())?),
    };
    let seed = extent.seed % u64::from(u32::MAX) + 1;
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..cores {
            let tell = tell.clone();
            scope.spawn(|| {
                let tell = tell;
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody listens any more once one could not be run.
                    if tell.send((target.name, fuzz_one(target, &built, until, seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        told.iter().try_for_each(|(name, fuzzed)| {
            let (executed, crashes) = fuzzed?;
            let bar = match until {
                Until::Runs(runs) => Bar::AtLeast(to_float(runs)),
                Until::Time(_) => Bar::None,
            };
            report.tell(&format!("fuzz.{name}.runs"), to_float(executed), "executions", bar)?;
            report.count(&format!("fuzz.{name}.crashes"), crashes, "", Bar::Exactly(0.0))
        })
    })
}

/// Builds all targets: the folder where they are.
fn build() -> anyhow::Result<PathBuf> {
    let built = tool::root()?.join("target/fuzz");
    // The engine has no unsafe code of its own: without a sanitizer its promises are tested ten times as often. What it
    // compares is hashes and seals, of which a fuzzer that looks on learns nothing; and eight programs that are
    // optimised apart are built in half the time.
    let mut build = tool::cargo("fuzz", "cargo-fuzz")?;
    build.current_dir(tool::root()?.join("shared")).env("CARGO_PROFILE_RELEASE_LTO", "off");
    build.args(["build", "--sanitizer", "none", "--debug-assertions", "--no-trace-compares"]);
    tool::run(build.arg("--target-dir").arg(&built))?;
    Ok(built)
}

/// Takes a target as far as it is to go, or to its first crash: executions, and crashes.
fn fuzz_one(
    target: &Target,
    built: &Path,
    until: Until,
    seed: u64,
) -> anyhow::Result<(u64, usize)> {
    let program = find(built, target.name)?;
    let work = built.join("work").join(target.name);
    let (corpus, crashes) = (work.join("corpus"), work.join("crashes/"));
    [&corpus, &crashes].into_iter().try_for_each(fs::create_dir_all)?;
    target.write_seeds(&work.join("seeds"))?;
    let committed = tool::root()?.join("shared/fuzz/corpus").join(target.name);
    let mut executed = 0;
    for (bytes_max, parts, counters) in LENGTHS {
        let mut run = Command::new(&program);
        run.arg(match until {
            Until::Runs(runs) => format!("-runs={}", runs.div_ceil(100) * parts),
            Until::Time(time) => {
                let seconds = (time.as_secs() * parts / 100).max(1);
                format!("-max_total_time={seconds}")
            }
        });
        run.arg(format!("-seed={seed}")).arg(format!("-max_len={bytes_max}"));
        run.args([counters, "-print_final_stats=1"]);
        run.arg(format!("-artifact_prefix={}", crashes.display())).arg(&corpus);
        run.args([&work.join("seeds"), &committed].into_iter().filter(|folder| folder.is_dir()));
        let told = run.output().with_context(|| format!("{run:?} does not start"))?;
        let words = String::from_utf8_lossy(&told.stderr);
        let units = words.lines().find_map(|line| line.split_once("executed_units:"));
        let units = units.and_then(|(_, number)| number.trim().parse::<u64>().ok());
        executed += units.unwrap_or(0);
        if !told.status.success() {
            let last: Vec<&str> = words.lines().rev().take(30).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            let (name, folder) = (target.name, crashes.display());
            tell_fault(format!("{name}: {}\nits input is in {folder}", last.join("\n")));
            return Ok((executed, 1));
        }
    }
    Ok((executed, 0))
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn to_float(count: u64) -> f64 {
    count as f64
}

fn find(built: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir(built)?.filter_map(Result::ok).map(|entry| entry.path());
    let mut programs = folders.map(|folder| folder.join("release").join(name));
    programs.find(|program| program.is_file()).with_context(|| format!("{name} was not built"))
}

/// Inputs that are made up, and those that once failed, without a fuzzer: a panic ends the program.
pub(crate) fn made_up(runs: u64, report: &mut Report) -> anyhow::Result<()> {
    let folder = tool::root()?.join("shared/fuzz");
    for target in TARGETS {
        target.made_up(runs);
        let mut files = 0;
        for kind in ["corpus", "crashes"] {
            let inputs = fs::read_dir(folder.join(kind).join(target.name));
            for input in inputs.into_iter().flatten() {
                (target.run)(&fs::read(input?.path())?);
                files += 1;
            }
        }
        ensure!(files > 0, "shared/fuzz/corpus/{} has no inputs", target.name);
        report.tell(
            &format!("fuzz.{}.made_up", target.name),
            to_float(runs + files),
            "inputs",
            Bar::None,
        )?;
    }
    Ok(())
}
