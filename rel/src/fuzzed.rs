//! Whatever the bytes: the targets of `shared/fuzz`, under libFuzzer or with inputs that are made up.

use crate::{
    Extent,
    report::{Bar, Report, tell_fault},
    tool,
};
use anyhow::{Context, ensure};
use rejoin_fuzz::TARGETS;
use std::{fs, path::Path, process::Command};

/// Largest input; sessions of real size fit in it.
const INPUT_BYTES_MAX: u32 = 8_192;

/// libFuzzer on each target: so many executions, or the budget in equal parts.
pub(crate) fn fuzz(extent: Extent, runs: u64, report: &mut Report) -> anyhow::Result<()> {
    let shared = tool::root()?.join("shared");
    let built = tool::root()?.join("target/fuzz");
    // The engine has no unsafe code of its own: without a sanitizer its promises are tested ten times as often.
    let mut build = tool::cargo("fuzz", "cargo-fuzz")?;
    build.current_dir(&shared).args(["build", "--sanitizer", "none", "--debug-assertions"]);
    tool::run(build.arg("--target-dir").arg(&built))?;
    for target in TARGETS {
        let program = find(&built, target.name)?;
        let work = built.join("work").join(target.name);
        let (corpus, crashes) = (work.join("corpus"), work.join("crashes/"));
        [&corpus, &crashes].into_iter().try_for_each(fs::create_dir_all)?;
        target.write_seeds(&work.join("seeds"))?;
        let mut run = Command::new(program);
        match extent.budget {
            None => run.arg(format!("-runs={runs}")),
            Some(budget) => {
                let parts = u32::try_from(TARGETS.len())?;
                run.arg(format!("-max_total_time={}", (budget / parts).as_secs().max(1)))
            }
        };
        run.arg(format!("-seed={}", extent.seed % u64::from(u32::MAX) + 1));
        run.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg("-print_final_stats=1");
        run.arg(format!("-artifact_prefix={}", crashes.display())).arg(&corpus);
        let committed = shared.join("fuzz/corpus").join(target.name);
        run.args([work.join("seeds"), committed].into_iter().filter(|folder| folder.is_dir()));
        let told = run.output().with_context(|| format!("{run:?} does not start"))?;
        let words = String::from_utf8_lossy(&told.stderr);
        let executed = words.lines().find_map(|line| line.split_once("executed_units:"));
        let executed = executed.and_then(|(_, number)| number.trim().parse::<u32>().ok());
        if !told.status.success() {
            let last: Vec<&str> = words.lines().rev().take(30).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            let (name, folder) = (target.name, crashes.display());
            tell_fault(format!("{name}: {}\nits input is in {folder}", last.join("\n")));
        }
        let bar = if extent.budget.is_none() { Bar::AtLeast(to_float(runs)) } else { Bar::None };
        let metric = format!("fuzz.{}.runs", target.name);
        report.tell(&metric, f64::from(executed.unwrap_or(0)), "executions", bar)?;
        let crashed = usize::from(!told.status.success());
        report.count(&format!("fuzz.{}.crashes", target.name), crashed, "", Bar::Exactly(0.0))?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn to_float(count: u64) -> f64 {
    count as f64
}

fn find(built: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
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
