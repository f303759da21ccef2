//! `cargo rel replay SEED-or-FILE`, and what is left of a world that failed: a small one, in a file of its own.

use anyhow::{Context, bail};
use rejoin_core::testing::sim::{self, Failure, Script};
use std::{
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
};

/// Events that the search for a small world may take: about a minute.
const SHRINK_EVENTS: u64 = 6_000_000;

/// Where worlds that failed are written.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-artifacts/sim")
}

/// Shrinks a world that failed, and writes it with its story: what to say of it.
pub(crate) fn keep(failure: Failure) -> anyhow::Result<String> {
    let (seed, bytes) = (failure.seed, failure.script.tape.len());
    let small = failure.shrink(SHRINK_EVENTS);
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("no folder {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let story: String = small.story.iter().map(|line| format!("# {line}\n")).collect();
    let what: String = small.what.lines().map(|line| format!("# {line}\n")).collect();
    let text = format!("# Of seed {seed}:\n{what}{}\n{story}", small.script);
    let file = folder.join(format!("seed-{seed}.txt"));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let file = file.display();
    Ok(format!(
        "{bytes} bytes of decisions shrunk to {}: `cargo rel replay {file}` tells the story; \
         kept under shared/tests/scripts/ it is a test",
        small.script.tape.len()
    ))
}

/// Runs a world again and tells its story.
pub(crate) fn replay(world: Option<&str>) -> anyhow::Result<()> {
    let world = world.context("which one: a seed, or a file that a failure has left")?;
    let script = match world.parse() {
        Ok(seed) => sim::script(seed),
        Err(_) => read(Path::new(world))?,
    };
    let (story, ran) = sim::tell(&script);
    let mut out = stdout().lock();
    for line in story {
        writeln!(out, "{line}")?;
    }
    match ran {
        Ok(outcome) => {
            writeln!(out, "comes to rest after {} events", outcome.events)?;
            Ok(())
        }
        Err(what) => bail!("{what}"),
    }
}

fn read(file: &Path) -> anyhow::Result<Script> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("{} is neither a seed nor a file", file.display()))?;
    text.parse().with_context(|| format!("{} is no script", file.display()))
}
