//! Programs of others that a suite runs, and what to do when one is missing.

use anyhow::{Context, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The root of the sources: suites that build or measure work on them.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("the sources have a root")?;
    ensure!(root.join("Cargo.toml").is_file(), "the sources are not at {}", root.display());
    Ok(root.to_owned())
}

/// A subcommand of cargo, which is known to be there; `crate_name` is what installs it.
pub(crate) fn cargo(subcommand: &str, crate_name: &str) -> anyhow::Result<Command> {
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(subcommand);
        command
    };
    let there = cargo().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("cargo {subcommand} is missing: cargo install {crate_name} --locked");
    }
    let mut command = cargo();
    command.current_dir(root()?);
    Ok(command)
}

/// Runs it, its words on the way to the terminal's errors; what it ends with must be 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("{command:?} does not start"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
