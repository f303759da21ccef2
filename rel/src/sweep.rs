//! The server at every system call that writes: killed there, or told that the disk fails or is full.
//!
//! A *leg* is a part of a server's life that is the same each time: boots of several directories, a session with
//! everything in it, refusals too, the return of what a server has lost, and what is sent in a session. The n-th
//! call of a kind in a leg is a *point*, and each point meets each fault. Then the server is started as usual: all
//! that was promised is there, and its writers come to an end with each batch counted once.
//!
//! Points are those that each of [`RECORDINGS`] runs without faults has. Who writes at the same time shares commits
//! now and then, so a run may have fewer calls: a point that did not come is tried again, at most [`TRIES`] times.

use crate::{
    Extent,
    gate::Gate,
    kill::check_file,
    report::{Bar, Report, percent, say},
    scratch, script, seeds,
    server::{Boot, PATIENCE, Program, Server},
    strace::{Attached, Strace, thread},
    writers::{Promise, Verdict, Writer, look},
};
use anyhow::ensure;
use rejoin_client::{Client, RejectCode, Value, key, put, set};
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
/// Calls by which the one thread that serves in [`Leg::Sends`] sends.
const SENDS: [&str; 3] = ["sendto", "writev", "sendmsg"];
/// Runs that are looked at for points.
const RECORDINGS: usize = 3;
/// How often a point is tried.
const TRIES: usize = 10;
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
    /// What is sent in a session, acknowledgements and all.
    Sends,
}

const LEGS: [Leg; 6] =
    [Leg::Fresh, Leg::Keyed, Leg::Killed, Leg::Session, Leg::Restored, Leg::Sends];

impl Leg {
    const fn boots(self) -> bool {
        matches!(self, Self::Fresh | Self::Keyed | Self::Killed)
    }

    /// Calls that are its points.
    fn calls(self) -> &'static [&'static str] {
        match self {
            Self::Fresh | Self::Keyed | Self::Killed => &CALLS,
            Self::Session | Self::Restored => CALLS.get(..OF_COMMITS).unwrap_or_default(),
            Self::Sends => &SENDS,
        }
    }

    /// The thread that makes them, where the server listens already.
    const fn thread(self) -> &'static str {
        if matches!(self, Self::Sends) { "tokio-rt-worker" } else { "rejoin-write" }
    }

    fn faults(self) -> &'static [Fault] {
        if self == Self::Sends { &[Fault::Kill, Fault::KillBehind] } else { &FAULTS }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Killed before the call is made.
    Kill,
    /// Killed when it was made, and before anything else is.
    KillBehind,
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
            // Its thread stands still behind it, far longer than the session has patience.
            Self::KillBehind => format!("inject={call}:delay_exit=60000000:when={at}"),
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
    points: u64,
    /// Points that did not come, whatever was tried.
    missed: u64,
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
    report.count("sweep.points", usize::try_from(sum.points)?, "points", Bar::AtLeast(1.0))?;
    let met = percent(sum.points, sum.points + sum.missed);
    report.tell("sweep.met", met, "% of points", Bar::Exactly(100.0))?;
    report.count("sweep.violations", sum.violations, "points", Bar::Exactly(0.0))?;
    report.tell("sweep.time", started.elapsed().as_secs_f64(), "s", Bar::None)
}

fn meet(template: &Template, point: Point, sum: &mut Sum) {
    let once = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { template.begin(point.leg).await?.meet(point).await })
    };
    for _ in 0..TRIES {
        match once() {
            Ok(false) => {}
            Ok(true) => {
                sum.points += 1;
                return;
            }
            Err(fault) => {
                sum.points += 1;
                sum.violations += 1;
                return say(format!("{point:?}: {fault:#}"));
            }
        }
    }
    sum.missed += 1;
    say(format!("{point:?}: not met"));
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
    async fn begin(&self, leg: Leg) -> anyhow::Result<World<'_>> {
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
    async fn points(&self, leg: Leg) -> anyhow::Result<Vec<Point>> {
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
        let strace = Strace::new(&world.log(), &calls.join(","))?.with(world.paths());
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
            let call = calls.iter().find(|call| line.contains(&format!("{call}(")));
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

/// A directory, who writes to it, and where its server is met.
struct World<'a> {
    program: &'a Program,
    directory: TempDir,
    data: PathBuf,
    leg: Leg,
    gate: Gate,
    writers: Vec<Writer>,
    outdated: Option<Outdated>,
}

/// How a life with a fault went.
#[derive(Debug, Clone, Copy)]
struct Lived {
    came: bool,
    ended_well: Option<bool>,
}

impl World<'_> {
    fn log(&self) -> PathBuf {
        self.directory.path().join("strace.log")
    }

    /// The files that calls are counted on: without this, those of the libraries that are loaded count too.
    fn paths(&self) -> Vec<String> {
        if !self.leg.boots() {
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
    async fn enter(&self, strace: &Strace) -> anyhow::Result<(Boot, Option<Attached>)> {
        if self.leg.boots() {
            let mut command = self.program.command_under(&strace.runner(), &self.data);
            return Ok((Server::try_boot(&mut command, PATIENCE)?, None));
        }
        let mut command = self.program.command(&self.data);
        if self.leg == Leg::Sends {
            command.env("TOKIO_WORKER_THREADS", "1");
        }
        let server = Server::boot(&mut command)?;
        let attached = strace.attach(thread(server.id(), self.leg.thread()).await?)?;
        Ok((Boot::Listens(server), Some(attached)))
    }

    /// Everybody writes some of each kind, one is refused and a newcomer comes, as long as the server takes part:
    /// whether it did to the end.
    async fn session(&self, server: &mut Server) -> anyhow::Result<bool> {
        self.gate.open(server.address);
        for _ in 0..IN_SESSION / 2 {
            for writer in &self.writers {
                writer.client.online();
                writer.write().await?;
                writer.write().await?;
            }
            if !self.settles(server, STALL).await? {
                return Ok(false);
            }
        }
        let (address, memory) = (server.address, self.directory.path().to_owned());
        // What it sees is looked at when the server has been started again.
        Ok(timeout(STALL, look(address, &memory)).await.is_ok_and(|seen| seen.is_ok()))
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        let writers = self.writers.iter().map(|writer| &writer.client);
        writers.chain(self.outdated.iter().map(|outdated| &outdated.0))
    }

    /// Waits until all is acknowledged and equal: false where the server is gone, or does not serve.
    async fn settles(&self, server: &mut Server, within: Duration) -> anyhow::Result<bool> {
        let started = Instant::now();
        while !self.clients().all(Client::is_synced) {
            if started.elapsed() > within || !server.is_running()? {
                return Ok(false);
            }
            self.clients().for_each(Client::online);
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
        let lived = match (boot, attached) {
            (Boot::Listens(mut server), Some(attached)) => {
                self.live_on(&mut server, &strace, attached, point).await?
            }
            (Boot::Listens(mut server), None) => {
                let came = point.fault != Fault::Kill && strace.injected()?;
                server.kill()?;
                Lived { came, ended_well: None }
            }
            (Boot::Ended(..), _) => {
                let came = point.fault == Fault::Kill || strace.injected()?;
                Lived { came, ended_well: None }
            }
        };
        let lines = strace.lines()?;
        // A directory that SQLite could not sync is synced by us before anything is promised.
        let of_file = |line: &String| line.contains("(INJECTED)") && line.contains("rejoin.sqlite");
        if point.call == "fsync" && lines.iter().any(of_file) {
            self.s05_a_failed_sync_ends_the_process(lived.ended_well)?;
        }
        self.come_back().await?;
        Ok(lived.came)
    }

    /// The session with its fault, and what is to follow where the server goes on.
    async fn live_on(
        &self,
        server: &mut Server,
        strace: &Strace,
        attached: Attached,
        point: Point,
    ) -> anyhow::Result<Lived> {
        let took_part = self.session(server).await?;
        if self.leg == Leg::Sends {
            let runs = server.is_running()?;
            let came = if point.fault == Fault::Kill { !runs } else { runs && !took_part };
            server.strike()?;
            drop(attached);
            server.kill()?;
            self.gate.shut();
            return Ok(Lived { came, ended_well: None });
        }
        let mut attached = Some(attached);
        // One that has not come yet comes in the end, and is not over before.
        if matches!(point.fault, Fault::On(_))
            && server.is_running()?
            && strace.injected()?
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
        let killed = |line: &String| line.contains("killed by SIGKILL");
        let came = match point.fault {
            Fault::Kill => strace.lines()?.iter().any(killed),
            Fault::KillBehind | Fault::Once(_) | Fault::On(_) => strace.injected()?,
        };
        Ok(Lived { came, ended_well: Some(status.success()) })
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
        if let Some(outdated) = self.outdated {
            outdated.was_refused_once().await?;
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

/// A client that adds to a record what leaves no room for what somebody else has added: that is refused.
#[derive(Debug)]
struct Outdated(Client);

/// Its file.
const OUTDATED: &str = "outdated.db";
/// Of four such fields a record has no room.
const LARGE_BYTES: usize = 240 << 10;

impl Outdated {
    async fn open(directory: &Path, url: String) -> anyhow::Result<Self> {
        let options = script::options(&directory.join(OUTDATED), Some(url))?;
        Ok(Self(Client::open(options).await?))
    }

    /// Adds to a record without having heard of what `other` added.
    async fn becomes(&self, other: &Writer) -> anyhow::Result<()> {
        let Self(client) = self;
        client.online();
        timeout(PATIENCE, client.synced()).await??;
        client.pause();
        for (client, fields) in [(&other.client, ["a", "b"]), (client, ["c", "d"])] {
            let large = || Value::Bytes(vec![7; LARGE_BYTES]);
            let [first, second] = fields.map(|field| set(field, large()));
            client.write(vec![put(key("large", "1")?, [first?, second?])]).await?;
        }
        other.synced().await
    }

    /// Whatever happened to the server, it heard of it, and not twice.
    async fn was_refused_once(self) -> anyhow::Result<()> {
        let Self(client) = self;
        client.online();
        timeout(PATIENCE, client.synced()).await??;
        let codes: Vec<RejectCode> = client.rejected().iter().map(|row| row.code).collect();
        ensure!(codes == [RejectCode::TooLarge], "refused: {codes:?}");
        Ok(client.close().await?)
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
