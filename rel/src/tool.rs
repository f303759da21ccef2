//! Programs of others that a suite runs, and what to do when one is missing.

use anyhow::{Context, bail, ensure};
use std::{
    env,
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

/// Where a program is; an error says how to get it.
pub(crate) fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    first_of(&[program])
        .with_context(|| format!("{program} is missing: on Debian, apt-get install {package}"))
}

/// Where a program is that a variable may name, and that is called this or that.
pub(crate) fn find_as(variable: &str, names: &[&str], package: &str) -> anyhow::Result<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    let found =
        named.map_or_else(|| first_of(names), |path| Some(path).filter(|path| path.exists()));
    found.with_context(|| {
        let names = names.join(" or ");
        format!("{names} is missing: on Debian, apt-get install {package}; or {variable} names it")
    })
}

fn first_of(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = || env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let files = names.iter().flat_map(|name| places().map(move |place| place.join(name)));
    files.into_iter().find(|file| file.is_file())
}

/// A subcommand of cargo, which is known to be there; `crate_name` is what installs it.
pub(crate) fn cargo(subcommand: &str, crate_name: &str) -> anyhow::Result<Command> {
    let there = cargo_itself(subcommand)?
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        bail!("cargo {subcommand} is missing: cargo install {crate_name} --locked");
    }
    cargo_itself(subcommand)
}

/// A subcommand that cargo always has, on the sources.
pub(crate) fn cargo_itself(subcommand: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(root()?).stdin(Stdio::null());
    Ok(command)
}

/// Runs it, its words on the way to the terminal's errors; what it ends with must be 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("{command:?} does not start"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
