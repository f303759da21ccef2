//! A server whose clock is wrong by years, by libfaketime.

use crate::{
    gate::Gate,
    scratch,
    server::{Boot, PATIENCE, Program, Server},
    tool::Missing,
    writers::{Verdict, Writer, look},
};
use anyhow::{Context, ensure};
use rejoin_client::{Notice, Notices};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Batches of each writer under each clock.
const BATCHES: u64 = 9;

/// What lets a process see another time.
struct Faketime(PathBuf);

impl Faketime {
    fn find() -> anyhow::Result<Self> {
        let below = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
        let usual = ["/usr/lib64", "/usr/lib"].map(PathBuf::from).into_iter();
        let folders = usual.chain(below.map(|folder| folder.path()));
        let mut files = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
        let found = files.find(|file| file.is_file());
        let missing =
            || Missing::new("libfaketime is missing: on Debian, apt-get install faketime");
        Ok(Self(found.with_context(missing)?))
    }

    fn command(&self, program: &Program, data: &Path, shift: &str) -> Command {
        let mut command = program.command(data);
        command.env("LD_PRELOAD", &self.0).env("FAKETIME", shift);
        // What it waits for is measured, as ever, by what has passed.
        command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}

/// Who writes is served whatever the server's clock says; a clock that went back keeps it from starting, or lets
/// writers wait that are told so. How many were.
pub(super) async fn p20_b17_a_clock_is_wrong_by_years(program: &Program) -> anyhow::Result<usize> {
    let faketime = Faketime::find()?;
    let mut told = 0;
    for shift in ["-10y", "+10y"] {
        let life = Life::new().await?;
        let data = life.directory.path().join("data");
        let wrong = || faketime.command(program, &data, shift);
        life.writes(&mut wrong()).await.with_context(|| format!("at {shift}"))?;
        if shift.starts_with('+') {
            match Server::try_boot(&mut program.command(&data), PATIENCE)? {
                Boot::Ended(_, said) => {
                    let clock = said.errors().iter().any(|line| line.contains("clock"));
                    ensure!(clock, "it ended for another reason: {:?}", said.errors());
                }
                Boot::Listens(_) => anyhow::bail!("it starts though its clock went back"),
            }
            let mut accepted = program.command(&data);
            told += life.waits(accepted.args(["--clock", "accepted"])).await?;
            life.writes(&mut wrong()).await.context("again")?;
        } else {
            life.writes(&mut program.command(&data)).await.context("with the right clock")?;
        }
        for writer in life.writers {
            writer.client.close().await?;
        }
    }
    Ok(told)
}

struct Life {
    directory: tempfile::TempDir,
    gate: Gate,
    writers: Vec<Writer>,
}

impl Life {
    async fn new() -> anyhow::Result<Self> {
        let (directory, gate) = (scratch::in_memory()?, Gate::new().await?);
        let mut writers = Vec::new();
        for name in [1, 2] {
            writers.push(Writer::open(name, directory.path(), gate.url()).await?);
        }
        Ok(Self { directory, gate, writers })
    }

    async fn write(&self) -> anyhow::Result<()> {
        for _ in 0..BATCHES {
            for writer in &self.writers {
                writer.write().await?;
                writer.client.online();
            }
        }
        Ok(())
    }

    /// All of it is acknowledged.
    async fn writes(&self, command: &mut Command) -> anyhow::Result<()> {
        let mut server = Server::boot(command)?;
        self.gate.open(server.address);
        self.write().await?;
        for writer in &self.writers {
            writer.client.online();
            writer.synced().await?;
        }
        self.verify(&server).await?;
        self.end(&mut server).await
    }

    /// It is acknowledged, or it is said that it waits for the clock; how many writers were told that.
    async fn waits(&self, command: &mut Command) -> anyhow::Result<usize> {
        let mut server = Server::boot(command)?;
        self.gate.open(server.address);
        let mut delayed = Vec::new();
        for writer in &self.writers {
            delayed.push((writer, writer.client.notices(), false));
        }
        self.write().await?;
        let deadline = Instant::now() + PATIENCE;
        while !delayed.iter().all(|(writer, _, told)| *told || writer.client.is_synced()) {
            ensure!(Instant::now() < deadline, "it waits, and nobody is told why");
            for (writer, notices, told) in &mut delayed {
                timeout(Duration::from_millis(20), writer.client.changed()).await.ok();
                *told |= is_delayed(notices);
            }
        }
        self.verify(&server).await?;
        self.end(&mut server).await?;
        Ok(delayed.iter().filter(|(_, _, told)| *told).count())
    }

    async fn verify(&self, server: &Server) -> anyhow::Result<()> {
        let promises: Vec<_> = self.writers.iter().map(Writer::promise).collect();
        let seen = look(server.address, self.directory.path()).await?;
        let verdict = Verdict::of(&seen, &promises);
        ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
        Ok(())
    }

    async fn end(&self, server: &mut Server) -> anyhow::Result<()> {
        ensure!(server.errors().is_empty(), "{:?}", server.errors());
        ensure!(server.stop().await?.success(), "no orderly end");
        self.gate.shut();
        Ok(())
    }
}

fn is_delayed(notices: &mut Notices) -> bool {
    let mut delayed = false;
    loop {
        match notices.try_next() {
            Ok(Some(notice)) => delayed |= matches!(notice, Notice::Delayed { .. }),
            // What was missed came before what is kept.
            Err(_) => {}
            Ok(None) => return delayed,
        }
    }
}
