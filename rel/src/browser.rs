//! Faults in real browsers: builds what is missing, runs client-wasm/test/reliability and passes on its figures.

use crate::{
    Extent,
    report::{Bar, Report, remember_fault, say},
    tool,
};
use anyhow::Context;
use serde_json::Value;
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::SystemTime,
};

/// How much is run, where no budget says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// So many cycles.
    Cycles(u32),
    /// Each scenario once, but for those of Firefox; some count for several cycles.
    EachOnce,
}

/// A whole run.
pub(crate) const ALL: Run = Run::Cycles(300);
/// Figures that must be nothing, by what is counted.
const NONE: [(&str, &str, &str); 5] = [
    ("browser.torn", "torn", "faults"),
    ("browser.lost", "lost", "faults"),
    ("browser.doubled", "doubled", "faults"),
    ("browser.stuck", "stuck", "faults"),
    ("browser.wrong", "wrong", "faults"),
];
/// Cycles of each scenario, by its id in the catalogue of failures.
const SCENARIOS: [(&str, &str); 22] = [
    ("browser.b01", "b01"),
    ("browser.b02", "b02"),
    ("browser.b02_torn", "b02_torn"),
    ("browser.b03", "b03"),
    ("browser.b04", "b04"),
    ("browser.b05", "b05"),
    ("browser.b05_frozen", "b05_frozen"),
    ("browser.b06", "b06"),
    ("browser.b09", "b09"),
    ("browser.b10", "b10"),
    ("browser.b11", "b11"),
    ("browser.b12", "b12"),
    ("browser.b13", "b13"),
    ("browser.b14", "b14"),
    ("browser.b15", "b15"),
    ("browser.b16", "b16"),
    ("browser.b17", "b17"),
    ("browser.b18", "b18"),
    ("browser.b21", "b21"),
    ("browser.b22", "b22"),
    ("browser.firefox_b01", "firefox_b01"),
    ("browser.firefox_b03", "firefox_b03"),
];
/// Scenarios of Firefox, which is left out where there is none.
const FIREFOX: &str = "firefox_";
/// What its program is called here or there.
const FIREFOXES: [&str; 2] = ["firefox-esr", "firefox"];
const CHROMIUMS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Names a scenario that is to run alone, once, with the seed given: how a cycle that failed is repeated.
const SCENARIO: &str = "REL_SCENARIO";

/// Faults in browsers: so many, or as many as the budget allows.
pub(crate) fn faults(extent: Extent, run: Run, report: &mut Report) -> anyhow::Result<()> {
    let chromium = tool::find_as("REJOIN_BROWSER", &CHROMIUMS, "chromium")?;
    let firefox = tool::find_as("REJOIN_FIREFOX", &FIREFOXES, "firefox-esr");
    build_what_is_missing()?;
    let scenario = env::var_os(SCENARIO);
    let run = if scenario.is_some() { Run::Cycles(1) } else { run };
    let mut program = Command::new(tool::find("node", "nodejs")?);
    program.current_dir(tool::root()?).stdin(Stdio::null()).env("REJOIN_BROWSER", chromium);
    if let Ok(firefox) = &firefox {
        program.env("REJOIN_FIREFOX", firefox);
    }
    program.arg("client-wasm/test/reliability/main.mjs");
    program.args(["--seed", &extent.seed.to_string()]);
    match run {
        Run::Cycles(cycles) => program.args(["--cycles", &cycles.to_string()]),
        Run::EachOnce => program.arg("--each-once"),
    };
    if let Some(budget) = extent.budget {
        program.args(["--budget", &budget.as_secs().to_string()]);
    }
    if let Some(scenario) = scenario {
        program.arg("--scenario").arg(scenario);
    }
    let output = program.stderr(Stdio::inherit()).output().context("Node.js cannot be run")?;
    let told = String::from_utf8(output.stdout)?;
    let figures = told.lines().last().context("no figures: the program failed before its end")?;
    let figures: Value = serde_json::from_str(figures)?;
    let figure = |name: &str| {
        figures.get(name).and_then(Value::as_f64).with_context(|| format!("no figure {name:?}"))
    };
    for told in figures.get("told").and_then(Value::as_array).into_iter().flatten() {
        remember_fault(told.as_str().unwrap_or_default().to_owned());
    }
    let (enough, once) = match (extent.budget, run) {
        (Some(_), _) => (Bar::None, Bar::None),
        (None, Run::Cycles(cycles)) => (Bar::AtLeast(cycles.into()), Bar::None),
        (None, Run::EachOnce) => (Bar::None, Bar::AtLeast(1.0)),
    };
    report.tell("browser.cycles", figure("cycles")?, "cycles", enough)?;
    report.tell("browser.promised", figure("promised")?, "writes", Bar::None)?;
    for (metric, name, unit) in NONE {
        report.tell(metric, figure(name)?, unit, Bar::Exactly(0.0))?;
    }
    if let Err(missing) = &firefox {
        say(format!("nothing is told of Firefox: {missing}"));
    }
    let told = |name: &str| firefox.is_ok() || !name.starts_with(FIREFOX);
    for (metric, name) in SCENARIOS.into_iter().filter(|(_, name)| told(name)) {
        let once = if name.starts_with(FIREFOX) { Bar::None } else { once };
        report.tell(metric, figure(name)?, "cycles", once)?;
    }
    Ok(())
}

fn build_what_is_missing() -> anyhow::Result<()> {
    let root = tool::root()?;
    let at = |path: &str| root.join(path);
    let mut build = tool::cargo_itself("build")?;
    tool::run(build.args(["--quiet", "--locked", "-p", "rejoin-server"]))?;
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new(tool::find("npm", "npm")?);
        tool::run(npm.args(arguments).current_dir(&root).stdin(Stdio::null()))
    };
    if !at("node_modules/playwright-core").exists() {
        npm(&["ci"])?;
    }
    let sources =
        ["client-wasm/src", "client-wasm/ts", "client-wasm/packager", "shared/src", "Cargo.lock"];
    let mut changed = SystemTime::UNIX_EPOCH;
    for source in sources {
        changed = changed.max(newest(&at(source))?);
    }
    let builds = [
        ("build", "client-wasm/dist/index.js"),
        ("build:test", "test-artifacts/client-wasm/pkg/rejoin_bg.wasm"),
    ];
    for (script, made) in builds {
        let made = fs::metadata(at(made)).and_then(|made| made.modified());
        if !made.is_ok_and(|made| made > changed) {
            npm(&["run", script, "-w", "client-wasm"])?;
        }
    }
    Ok(())
}

/// When a file, or anything below a folder, was last changed.
fn newest(path: &Path) -> anyhow::Result<SystemTime> {
    let entry = fs::metadata(path).with_context(|| format!("{} is missing", path.display()))?;
    let mut newest = entry.modified()?;
    if entry.is_dir() {
        for below in fs::read_dir(path)? {
            newest = newest.max(self::newest(&below?.path())?);
        }
    }
    Ok(newest)
}
