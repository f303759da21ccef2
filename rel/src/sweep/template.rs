//! What is found before each leg, and the points that the leg has from there.

use super::{
    outdated::{OUTDATED, Outdated},
    points::{Leg, Point},
    world::World,
};
use crate::{
    gate::Gate,
    scratch,
    server::{Boot, Program, Server},
    strace::Strace,
    writers::Writer,
};
use anyhow::ensure;
use std::{collections::BTreeMap, path::PathBuf};
use tempfile::TempDir;

/// Runs that are looked at for points.
const RECORDINGS: usize = 3;
/// Batches of each writer before the leg, and of them those in the earlier copy of the directory.
const BEFORE: (u64, u64) = (12, 7);

/// What is found before each leg.
pub(super) struct Template {
    directory: TempDir,
    program: Program,
}

impl Template {
    /// A server with two writers, and an earlier copy of its directory; it was killed both times.
    pub(super) async fn make(program: Program) -> anyhow::Result<Self> {
        let template = Self { directory: scratch::in_memory()?, program };
        let gate = Gate::new().await?;
        let mut writers = Vec::new();
        for name in [1, 2] {
            writers.push(Writer::open(name, template.directory.path(), gate.url()).await?);
        }
        let data = template.path("data");
        let outdated = Outdated::open(template.directory.path(), gate.url()).await?;
        for (generation, upto, copy) in [(1, BEFORE.1, "earlier"), (2, BEFORE.0, "killed")] {
            let mut server = Server::boot(&mut template.program.command(&data))?;
            gate.open(server.address);
            for writer in &writers {
                writer.client.online();
                while writer.promise().issued < upto {
                    writer.write().await?;
                }
                writer.synced().await?;
            }
            if let (1, Some(writer)) = (generation, writers.first()) {
                outdated.becomes(writer).await?;
            }
            server.kill()?;
            gate.shut();
            scratch::copy(&data, &template.path(copy))?;
        }
        for writer in writers {
            writer.client.close().await?;
        }
        outdated.0.close().await?;
        Ok(template)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A world as it is before a leg.
    pub(super) async fn begin(&self, leg: Leg) -> anyhow::Result<World<'_>> {
        let directory = scratch::in_memory()?;
        let data = directory.path().join("data");
        match leg {
            Leg::Fresh => {}
            Leg::Keyed => {
                std::fs::create_dir(&data)?;
                std::fs::copy(self.path("killed/proof.key"), data.join("proof.key"))?;
            }
            Leg::Killed | Leg::Session | Leg::Sends => scratch::copy(&self.path("killed"), &data)?,
            Leg::Restored => scratch::copy(&self.path("earlier"), &data)?,
        }
        let gate = Gate::new().await?;
        let is_new = matches!(leg, Leg::Fresh | Leg::Keyed);
        let mut outdated = None;
        if !is_new {
            std::fs::copy(self.path(OUTDATED), directory.path().join(OUTDATED))?;
            outdated = Some(Outdated::open(directory.path(), gate.url()).await?);
        }
        let mut writers = Vec::new();
        for name in [1, 2] {
            let issued = if is_new {
                0
            } else {
                let file = format!("writer{name}.db");
                std::fs::copy(self.path(&file), directory.path().join(&file))?;
                BEFORE.0
            };
            let writer = Writer::open(name, directory.path(), gate.url()).await?;
            writers.push(writer.that_issued(issued));
        }
        Ok(World { program: &self.program, directory, data, leg, gate, writers, outdated })
    }

    /// All points of a leg, from runs without faults.
    pub(super) async fn points(&self, leg: Leg) -> anyhow::Result<Vec<Point>> {
        let mut least: Option<BTreeMap<&str, usize>> = None;
        for _ in 0..RECORDINGS {
            let mut counts = self.count(leg).await?;
            if let Some(least) = least {
                counts.retain(|call, _| least.contains_key(call));
                for (call, count) in &mut counts {
                    *count = (*count).min(least.get(call).copied().unwrap_or_default());
                }
            }
            least = Some(counts);
        }
        let least = least.unwrap_or_default();
        let points = leg.calls().iter().flat_map(|call| {
            let calls = 1..=least.get(call).copied().unwrap_or_default();
            calls.flat_map(move |at| {
                let faults = leg.faults().iter().filter(move |fault| fault.meets(call));
                faults.map(move |fault| Point { leg, call, at, fault: *fault })
            })
        });
        Ok(points.collect())
    }

    /// How often each call is made in a run without faults, by the thread that makes the most.
    async fn count(&self, leg: Leg) -> anyhow::Result<BTreeMap<&'static str, usize>> {
        let world = self.begin(leg).await?;
        let calls = leg.calls();
        let others: Vec<_> = leg.others().collect();
        let all = [calls, &others].concat().join(",");
        let strace = Strace::new(&world.log(), &all)?.with(world.paths());
        let strace = strace.with(["-y".to_owned()]);
        let (mut server, attached) = world.enter(&strace).await?;
        if let Boot::Listens(server) = &mut server {
            let all = leg.boots() || world.session(server).await?;
            ensure!(all, "{leg:?} does not get to its end");
            if leg.boots() || leg == Leg::Sends {
                server.kill()?;
            } else {
                ensure!(server.stop().await?.success(), "{leg:?} does not end well");
            }
        }
        drop(attached);
        let mut counts: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
        for line in strace.lines()? {
            let made = |call: &&&str| line.split(' ').any(|word| begins(word, call));
            if let Some(call) = others.iter().find(made) {
                ensure!(changes_nothing(&line), "{leg:?} has {call}, which is no point: {line}");
            }
            let call = calls.iter().find(made);
            // Without `-f` there is but one thread, and its id is not told.
            let thread = line.split(' ').next().filter(|word| word.parse::<u32>().is_ok());
            if let Some(call) = call {
                *counts.entry((thread.unwrap_or_default().to_owned(), *call)).or_default() += 1;
            }
        }
        let mut most: BTreeMap<&'static str, usize> = BTreeMap::new();
        for ((_, call), count) in counts {
            let most = most.entry(call).or_default();
            *most = count.max(*most);
        }
        Ok(most)
    }
}

/// Whether a line says that this call is made: its name is no part of another name.
fn begins(word: &str, call: &str) -> bool {
    word.strip_prefix(call).is_some_and(|rest| rest.starts_with('('))
}

/// Whether a call opens what is there to read it, or is made on something that is no file: that wakes others up, or
/// tells people.
fn changes_nothing(line: &str) -> bool {
    if line.contains("openat(") {
        return line.contains("O_RDONLY") && !line.contains("O_CREAT");
    }
    let descriptor = line.split_once('(').and_then(|(_, rest)| rest.split_once('<'));
    descriptor.is_some_and(|(number, name)| number.parse::<u32>().is_ok() && !name.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_on_files_change_something() {
        for line in [
            "7 fdatasync(5</data/rejoin.sqlite-wal>) = 0",
            "write(5</data/rejoin.sqlite>, \"x\", 1) = 1",
            "rename(\"/data/a\", \"/data/b\") = 0",
            "openat(AT_FDCWD</>, \"/data/a\", O_RDWR|O_CREAT, 0644) = 5</data/a>",
        ] {
            assert!(!changes_nothing(line), "{line}");
        }
        for line in [
            "7 write(6<anon_inode:[eventfd]>, \"\\1\\0\\0\\0\\0\\0\\0\\0\", 8) = 8",
            "write(2<pipe:[71]>, \"x\", 1) = 1",
            "openat(AT_FDCWD</>, \"/data\", O_RDONLY|O_CLOEXEC) = 22</data>",
        ] {
            assert!(changes_nothing(line), "{line}");
        }
        assert!(begins("write(5</data/a>,", "write"));
        assert!(!begins("pwrite64(5</data/a>,", "write") && !begins("writev(5,", "write"));
    }
}
