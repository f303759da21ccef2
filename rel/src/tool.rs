//! Programs of others that a suite runs, and what to do when one is missing.

use anyhow::{Context, bail, ensure};
use std::{
    env, fmt,
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

/// What a suite needs and this machine does not have, and how to get it.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl Missing {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Where a program is; an error says how to get it.
pub(crate) fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let missing = || Missing(format!("{program} is missing: on Debian, apt-get install {package}"));
    Ok(first_of(&[program]).ok_or_else(missing)?)
}

/// Where a program is that a variable may name, and that is called this or that.
pub(crate) fn find_as(variable: &str, names: &[&str], package: &str) -> anyhow::Result<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    let found =
        named.map_or_else(|| first_of(names), |path| Some(path).filter(|path| path.exists()));
    let missing = || {
        let names = names.join(" or ");
        let text = format!("{names} is missing: on Debian, apt-get install {package}");
        Missing(format!("{text}; or {variable} names it"))
    };
    Ok(found.ok_or_else(missing)?)
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
