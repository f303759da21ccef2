//! The server at every system call that writes: killed there, or told that the disk fails or is full.
//!
//! A *leg* is a part of a server's life that is the same each time: boots of several directories, a session with
//! everything in it, the return of what a server has lost. The n-th call of a kind in a leg is a *point*, and
//! each point meets each fault. Then the server is started as usual: all that was promised is there, and its
//! writers come to an end with each batch counted once.

use crate::{
    Extent,
    gate::Gate,
    kill::check_file,
    report::{Bar, Report, say},
    scratch, seeds,
    server::{Boot, PATIENCE, Program, Server},
    strace::{Strace, thread},
    writers::{Promise, Verdict, Writer, look},
};
use anyhow::ensure;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Calls that change what is on a disk.
const CALLS: [&str; 8] =
    ["pwrite64", "fsync", "ftruncate", "unlink", "openat", "write", "rename", "mkdir"];
/// So many of them are made by the thread that commits; other calls of it wake others up.
const OF_COMMITS: usize = 4;
/// Batches of each writer before the leg, and of them those in the earlier copy of the directory.
const BEFORE: (u64, u64) = (12, 7);
/// Batches of each writer in a session: one of each kind.
const IN_SESSION: u64 = 8;
/// Longest wait for a server that may have stopped to serve.
const STALL: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    /// A boot where there is no directory.
    Fresh,
    /// A boot where nothing but the key was made.
    Keyed,
    /// A boot after a kill.
    Killed,
    /// A session and an orderly end.
    Session,
    /// The same, at a server that was put back to an earlier copy.
    Restored,
}

const LEGS: [Leg; 5] = [Leg::Fresh, Leg::Keyed, Leg::Killed, Leg::Session, Leg::Restored];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    /// An error, at this call alone.
    Once(&'static str),
    /// An error, at this call and all of its kind that follow.
    On(&'static str),
}

const FAULTS: [Fault; 5] =
    [Fault::Kill, Fault::Once("EIO"), Fault::On("EIO"), Fault::Once("ENOSPC"), Fault::On("ENOSPC")];

impl Fault {
    fn is_full(self) -> bool {
        matches!(self, Self::Once("ENOSPC") | Self::On("ENOSPC"))
    }

    /// Whether a call can fail so.
    fn meets(self, call: &str) -> bool {
        !(self.is_full() && matches!(call, "fsync" | "unlink"))
    }

    fn inject(self, call: &str, at: usize) -> String {
        match self {
            Self::Kill => format!("inject={call}:signal=SIGKILL:when={at}"),
            Self::Once(error) => format!("inject={call}:error={error}:when={at}"),
            Self::On(error) => format!("inject={call}:error={error}:when={at}+"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Point {
    leg: Leg,
    call: &'static str,
    at: usize,
    fault: Fault,
}

/// What is found before each leg.
struct Template {
    directory: TempDir,
    program: Program,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    points: usize,
    /// Points that did not come: the session had fewer calls this time.
    missed: usize,
    violations: usize,
}

/// Every point, or an even sample of so many.
pub(crate) fn suite(
    extent: Extent,
    sample: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let program = Program::build()?;
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let template = runtime.block_on(Template::make(program))?;
    let mut points = Vec::new();
    for leg in LEGS {
        points.extend(runtime.block_on(template.points(leg))?);
    }
    let planned = points.len();
    let points = seeds::sample(points, extent.seed, sample)?;
    let run = |index: u64, sum: &mut Sum| {
        let spent = extent.budget.is_some_and(|budget| started.elapsed() > budget);
        let point = usize::try_from(index).ok().and_then(|index| points.get(index));
        if let (Some(point), false) = (point, spent) {
            meet(&template, *point, sum);
        }
    };
    let add = |whole: &mut Sum, more: Sum| {
        whole.points += more.points;
        whole.missed += more.missed;
        whole.violations += more.violations;
    };
    let all = Extent { budget: None, seed: 0 };
    let (_, sum) = seeds::each(all, u64::try_from(points.len())?, run, add);
    report.count("sweep.planned", planned, "points", Bar::AtLeast(1.0))?;
    report.count("sweep.points", sum.points, "points", Bar::AtLeast(1.0))?;
    report.count("sweep.missed", sum.missed, "points", Bar::None)?;
    report.count("sweep.violations", sum.violations, "points", Bar::Exactly(0.0))?;
    report.tell("sweep.time", started.elapsed().as_secs_f64(), "s", Bar::None)
}

fn meet(template: &Template, point: Point, sum: &mut Sum) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let met = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async { template.begin(point.leg).await?.meet(point).await })
    });
    match met {
        Ok(true) => sum.points += 1,
        Ok(false) => {
            sum.missed += 1;
            say(format!("{point:?}: not met"));
        }
        Err(fault) => {
            sum.points += 1;
            sum.violations += 1;
            say(format!("{point:?}: {fault:#}"));
        }
    }
}

impl Template {
    /// A server with two writers, and an earlier copy of its directory; it was killed both times.
    async fn make(program: Program) -> anyhow::Result<Self> {
        let template = Self { directory: scratch::in_memory()?, program };
        let gate = Gate::new().await?;
        let mut writers = Vec::new();
        for name in [1, 2] {
            writers.push(Writer::open(name, template.directory.path(), gate.url()).await?);
        }
        let data = template.path("data");
        for (upto, copy) in [(BEFORE.1, "earlier"), (BEFORE.0, "killed")] {
            let mut server = Server::boot(&mut template.program.command(&data))?;
            gate.open(server.address);
            for writer in &writers {
                writer.client.online();
                while writer.promise().issued < upto {
                    writer.write().await?;
                }
                writer.synced().await?;
            }
            server.kill()?;
            gate.shut();
            scratch::copy(&data, &template.path(copy))?;
        }
        for writer in writers {
            writer.client.close().await?;
        }
        Ok(template)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A world as it is before a leg.
    async fn begin(&self, leg: Leg) -> anyhow::Result<World<'_>> {
        let directory = scratch::in_memory()?;
        let data = directory.path().join("data");
        match leg {
            Leg::Fresh => {}
            Leg::Keyed => {
                std::fs::create_dir(&data)?;
                std::fs::copy(self.path("killed/proof.key"), data.join("proof.key"))?;
            }
            Leg::Killed | Leg::Session => scratch::copy(&self.path("killed"), &data)?,
            Leg::Restored => scratch::copy(&self.path("earlier"), &data)?,
        }
        let gate = Gate::new().await?;
        let mut writers = Vec::new();
        for name in [1, 2] {
            let issued = if matches!(leg, Leg::Fresh | Leg::Keyed) {
                0
            } else {
                let file = format!("writer{name}.db");
                std::fs::copy(self.path(&file), directory.path().join(&file))?;
                BEFORE.0
            };
            let writer = Writer::open(name, directory.path(), gate.url()).await?;
            writers.push(writer.that_issued(issued));
        }
        Ok(World { program: &self.program, directory, data, leg, gate, writers })
    }

    /// All points of a leg, from a run without faults.
    async fn points(&self, leg: Leg) -> anyhow::Result<Vec<Point>> {
        let world = self.begin(leg).await?;
        let calls = if world.boots() { CALLS.len() } else { OF_COMMITS };
        let calls: Vec<&str> = CALLS.into_iter().take(calls).collect();
        let strace = Strace::new(&world.log(), &calls.join(","))?.with(world.paths());
        let (mut server, attached) = world.enter(&strace).await?;
        if let Boot::Listens(server) = &mut server {
            if world.boots() {
                server.kill()?;
            } else {
                world.session(server).await?;
                ensure!(server.stop().await?.success(), "{leg:?} does not end well");
            }
        }
        drop(attached);
        let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
        for line in strace.lines()? {
            let call = calls.iter().find(|call| line.contains(&format!("{call}(")));
            // Without `-f` there is but one thread, and its id is not told.
            let thread = line.split(' ').next().filter(|word| word.parse::<u32>().is_ok());
            if let Some(call) = call {
                *counts.entry((thread.unwrap_or_default().to_owned(), *call)).or_default() += 1;
            }
        }
        let mut most: BTreeMap<&str, usize> = BTreeMap::new();
        for ((_, call), count) in counts {
            let most = most.entry(call).or_default();
            *most = count.max(*most);
        }
        let points = CALLS.into_iter().flat_map(|call| {
            let calls = 1..=most.get(call).copied().unwrap_or_default();
            calls.flat_map(move |at| {
                let faults = FAULTS.into_iter().filter(move |fault| fault.meets(call));
                faults.map(move |fault| Point { leg, call, at, fault })
            })
        });
        Ok(points.collect())
    }
}

/// A directory, who writes to it, and where its server is met.
struct World<'a> {
    program: &'a Program,
    directory: TempDir,
    data: PathBuf,
    leg: Leg,
    gate: Gate,
    writers: Vec<Writer>,
}

impl World<'_> {
    fn log(&self) -> PathBuf {
        self.directory.path().join("strace.log")
    }

    fn boots(&self) -> bool {
        matches!(self.leg, Leg::Fresh | Leg::Keyed | Leg::Killed)
    }

    /// The files that calls are counted on: without this, those of the libraries that are loaded count too.
    fn paths(&self) -> Vec<String> {
        if !self.boots() {
            return Vec::new();
        }
        let names = ["proof.key", "proof.key.new"].map(str::to_owned).into_iter();
        let files =
            ["", "-journal", "-wal", "-shm", "-lock"].map(|end| format!("rejoin.sqlite{end}"));
        let files = names.chain(files).map(|name| self.data.join(name));
        let all = [self.data.clone()].into_iter().chain(files);
        all.flat_map(|path| ["-P".to_owned(), path.to_string_lossy().into_owned()]).collect()
    }

    /// Starts the server, under `strace` from the start, or with `strace` on who writes once it listens.
    async fn enter(
        &self,
        strace: &Strace,
    ) -> anyhow::Result<(Boot, Option<crate::strace::Attached>)> {
        if self.boots() {
            let mut command = self.program.command_under(&strace.runner(), &self.data);
            return Ok((Server::try_boot(&mut command, PATIENCE)?, None));
        }
        let server = Server::boot(&mut self.program.command(&self.data))?;
        let attached = strace.attach(thread(server.id(), "rejoin-write").await?)?;
        Ok((Boot::Listens(server), Some(attached)))
    }

    /// Everybody writes some of each kind and a newcomer comes, as long as the server takes part.
    async fn session(&self, server: &mut Server) -> anyhow::Result<()> {
        self.gate.open(server.address);
        for _ in 0..IN_SESSION / 2 {
            for writer in &self.writers {
                writer.client.online();
                writer.write().await?;
                writer.write().await?;
            }
            if !self.settles(server, STALL).await? {
                return Ok(());
            }
        }
        let (address, memory) = (server.address, self.directory.path().to_owned());
        // What it sees is looked at when the server has been started again.
        timeout(STALL, look(address, &memory)).await.ok();
        Ok(())
    }

    /// Waits until all is acknowledged and equal: false where the server is gone, or does not serve.
    async fn settles(&self, server: &mut Server, within: Duration) -> anyhow::Result<bool> {
        let started = Instant::now();
        while !self.writers.iter().all(|writer| writer.client.is_synced()) {
            if started.elapsed() > within || !server.is_running()? {
                return Ok(false);
            }
            for writer in &self.writers {
                writer.client.online();
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(true)
    }

    /// Meets a point, and comes back from it: whether it came.
    async fn meet(self, point: Point) -> anyhow::Result<bool> {
        let inject = ["-e".to_owned(), point.fault.inject(point.call, point.at)];
        let strace = Strace::new(&self.log(), point.call)?.with(self.paths()).with(inject);
        let strace = strace.with(["-y".to_owned()]);
        let (boot, attached) = self.enter(&strace).await?;
        let mut ended_well = None;
        if let Boot::Listens(mut server) = boot {
            if self.boots() {
                server.kill()?;
            } else {
                ended_well = Some(self.live_on(&mut server, attached, point).await?);
            }
        }
        let lines = strace.lines()?;
        let hit = |line: &String| line.contains("(INJECTED)") || line.contains("killed by SIGKILL");
        let came = lines.iter().any(hit);
        // A directory that SQLite could not sync is synced by us before anything is promised.
        let of_file = |line: &String| hit(line) && line.contains("rejoin.sqlite");
        if point.fault != Fault::Kill && point.call == "fsync" && lines.iter().any(of_file) {
            self.s05_a_failed_sync_ends_the_process(ended_well)?;
        }
        self.come_back().await?;
        Ok(came)
    }

    /// The session with its fault, and what is to follow where the server goes on. Whether it ended well.
    async fn live_on(
        &self,
        server: &mut Server,
        attached: Option<crate::strace::Attached>,
        point: Point,
    ) -> anyhow::Result<bool> {
        self.session(server).await?;
        let mut attached = attached;
        if matches!(point.fault, Fault::On(_))
            && server.is_running()?
            && let Some(attached) = attached.take()
        {
            attached.detach()?;
        }
        if server.is_running()? && point.fault != Fault::Kill {
            self.s06_serves_again_without_a_restart(server).await?;
        }
        if point.fault.is_full() {
            ensure!(server.is_running()?, "a full disk has ended it: {:?}", server.errors());
        }
        let status = server.stop().await?;
        drop(attached);
        self.gate.shut();
        Ok(status.success())
    }

    async fn s06_serves_again_without_a_restart(&self, server: &mut Server) -> anyhow::Result<()> {
        let settled = self.settles(server, PATIENCE).await?;
        let stuck = settled || !server.is_running()?;
        ensure!(stuck, "it runs and does not serve: {:?}", server.errors());
        Ok(())
    }

    /// A directory whose sync failed is known again once another process has opened it.
    #[expect(clippy::unused_self, reason = "a promise of the world")]
    fn s05_a_failed_sync_ends_the_process(&self, ended_well: Option<bool>) -> anyhow::Result<()> {
        ensure!(ended_well != Some(true), "a sync has failed, and it goes on");
        Ok(())
    }

    /// Started again, it has all that was promised; and all who write get to the end.
    async fn come_back(self) -> anyhow::Result<()> {
        check_copy(&self.data).await?;
        let mut server = Server::boot(&mut self.program.command(&self.data))?;
        let promises = || self.writers.iter().map(Writer::promise).collect::<Vec<Promise>>();
        let memory = self.directory.path();
        if self.leg != Leg::Restored {
            let verdict = Verdict::of(&look(server.address, memory).await?, &promises());
            ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
        }
        self.gate.open(server.address);
        for writer in &self.writers {
            writer.write().await?;
            writer.client.online();
            writer.synced().await?;
        }
        let seen = look(server.address, memory).await?;
        let verdict = Verdict::of(&seen, &promises());
        ensure!(verdict.faults.is_empty(), "in the end: {}", verdict.faults.join("; "));
        ensure!(server.errors().is_empty(), "{:?}", server.errors());
        ensure!(server.stop().await?.success(), "no orderly end");
        for writer in self.writers {
            writer.client.close().await?;
        }
        check_file(&self.data).await
    }
}

/// The database is whole, if there is one yet: looked at in a copy, for the server is to recover it.
async fn check_copy(data: &Path) -> anyhow::Result<()> {
    if !data.join("rejoin.sqlite").exists() {
        return Ok(());
    }
    let copy = scratch::in_memory()?;
    scratch::copy(data, copy.path())?;
    check_file(copy.path()).await
}
