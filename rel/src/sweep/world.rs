//! A life with a fault: how it goes on, what is found when the server is started again, and how it ends.

use super::{
    outdated::Outdated,
    points::{Fault, Leg, Point},
};
use crate::{
    gate::Gate,
    kill::check_file,
    scratch,
    server::{Boot, PATIENCE, Program, Server},
    strace::{Attached, Strace, thread},
    writers::{Promise, Verdict, Writer, look},
};
use anyhow::ensure;
use rejoin_client::Client;
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Batches of each writer in a session: one of each kind.
const IN_SESSION: u64 = 8;
const SIGKILL: i32 = 9;
/// Longest wait for a server that may have stopped to serve.
const STALL: Duration = Duration::from_millis(1_500);

/// A directory, who writes to it, and where its server is met.
pub(super) struct World<'a> {
    pub(super) program: &'a Program,
    pub(super) directory: TempDir,
    pub(super) data: PathBuf,
    pub(super) leg: Leg,
    pub(super) gate: Gate,
    pub(super) writers: Vec<Writer>,
    pub(super) outdated: Option<Outdated>,
}

/// How a life with a fault went.
#[derive(Debug, Clone, Copy)]
struct Lived {
    came: bool,
    ended_well: Option<bool>,
}

impl World<'_> {
    pub(super) fn log(&self) -> PathBuf {
        self.directory.path().join("strace.log")
    }

    /// The files that calls are counted on: without this, those of the libraries that are loaded count too.
    pub(super) fn paths(&self) -> Vec<String> {
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
    pub(super) async fn enter(&self, strace: &Strace) -> anyhow::Result<(Boot, Option<Attached>)> {
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
    pub(super) async fn session(&self, server: &mut Server) -> anyhow::Result<bool> {
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
    pub(super) async fn meet(self, point: Point) -> anyhow::Result<bool> {
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
            (Boot::Ended(status, _), _) => {
                let came = if point.fault == Fault::Kill {
                    was_killed(status)
                } else {
                    strace.injected()?
                };
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
        self.session(server).await?;
        if self.leg == Leg::Sends {
            let came = match (point.fault, server.ended()?) {
                (Fault::Kill, ended) => ended.is_some_and(was_killed),
                (_, ended) => ended.is_none() && strace.delayed()?,
            };
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
        let came = match point.fault {
            Fault::Kill => was_killed(status),
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

/// Nobody but a tracer kills a server before its life is looked at.
fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
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
