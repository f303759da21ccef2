//! The server killed in a loop under clients that write: whatever it does, and while it boots.

use crate::{
    Extent,
    gate::Gate,
    reader::Reader,
    report::{Bar, Report, tell_fault},
    scratch, seeds,
    server::{PATIENCE, Program, Server},
    writers::{Verdict, Writer, look},
};
use anyhow::{Context, ensure};
use rejoin_core::{
    codec,
    id::SpaceId,
    io::{Batch, CommitOutcome, Keyspace},
    port::Store,
    testing::rng::Rng,
};
use rejoin_sqlite::{SqliteDb, SqliteOptions};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Times that a server of one directory is killed under writing clients.
const ROUNDS: u64 = 20;
/// Kills in a row while it boots, every so many rounds.
const STORM: (u64, u64) = (10, 5);
/// Kills of one life.
const LIFE: u64 = ROUNDS + ROUNDS / STORM.1 * STORM.0;
const WRITERS: u8 = 3;
/// Longest time that clients write between two kills.
const WORK_MS: u64 = 120;

/// What came of many lives.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    kills: u64,
    acknowledged: u64,
    collected: u64,
    lost: u64,
    looks: u64,
    followed: u64,
    disordered: u64,
    torn: u64,
    receded: u64,
    wedged: u64,
}

/// As many kills as are asked for, or as the budget allows.
pub(crate) fn suite(extent: Extent, kills: u64, report: &mut Report) -> anyhow::Result<()> {
    let program = Program::build()?;
    let started = Instant::now();
    let run = |seed, sum: &mut Sum| {
        let mut life = Sum::default();
        if let Err(fault) = live(&program, seed, &mut life) {
            life.wedged += 1;
            tell_fault(format!("seed {seed}: {fault:#}"));
        }
        add(sum, life);
    };
    let (_, sum) = seeds::each(extent, kills.div_ceil(LIFE), run, add);
    let goal = Bar::AtLeast(u32::try_from(kills)?.into());
    let goal = if extent.budget.is_none() { goal } else { Bar::None };
    // One for each time that it was killed under clients; those that wait for a core look less often than they might.
    let enough = Bar::AtLeast(u32::try_from(sum.kills * ROUNDS / LIFE)?.into());
    report.count("kill.kills", usize::try_from(sum.kills)?, "kills", goal)?;
    let acknowledged = usize::try_from(sum.acknowledged)?;
    report.count("kill.acknowledged", acknowledged, "batches", enough)?;
    report.count("kill.collected", usize::try_from(sum.collected)?, "slices", Bar::None)?;
    report.count("kill.lost", usize::try_from(sum.lost)?, "batches", Bar::Exactly(0.0))?;
    report.count("kill.looks", usize::try_from(sum.looks)?, "looks", enough)?;
    // Of a batch that follows nobody's, any order is in order.
    let followed = usize::try_from(sum.followed)?;
    report.count("kill.followed", followed, "looks", enough)?;
    let wrong = [("disordered", sum.disordered), ("torn", sum.torn), ("receded", sum.receded)];
    for (name, looks) in wrong {
        let name = format!("kill.{name}");
        report.count(&name, usize::try_from(looks)?, "looks", Bar::Exactly(0.0))?;
    }
    report.count("kill.wedged", usize::try_from(sum.wedged)?, "lives", Bar::Exactly(0.0))?;
    report.tell("kill.time", started.elapsed().as_secs_f64(), "s", Bar::None)
}

fn add(sum: &mut Sum, more: Sum) {
    sum.kills += more.kills;
    sum.acknowledged += more.acknowledged;
    sum.collected += more.collected;
    sum.lost += more.lost;
    sum.looks += more.looks;
    sum.followed += more.followed;
    sum.disordered += more.disordered;
    sum.torn += more.torn;
    sum.receded += more.receded;
    sum.wedged += more.wedged;
}

fn live(program: &Program, seed: u64, sum: &mut Sum) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut life = Life::new(program, seed).await?;
        let lived = life.all(sum).await;
        for writer in &life.writers {
            sum.acknowledged += writer.promise().acknowledged;
        }
        sum.looks += life.reader.looks();
        sum.followed += life.reader.followed();
        lived
    })
}

/// One directory, its server, which is killed again and again, and who writes to it.
struct Life<'a> {
    program: &'a Program,
    dice: Rng,
    /// On a disk: syncs take the time that they take.
    data: TempDir,
    memory: TempDir,
    gate: Gate,
    writers: Vec<Writer>,
    reader: Reader,
    booting: Duration,
}

impl<'a> Life<'a> {
    async fn new(program: &'a Program, seed: u64) -> anyhow::Result<Self> {
        let (data, memory, gate) = (scratch::on_disk()?, scratch::in_memory()?, Gate::new().await?);
        let mut writers = Vec::new();
        for name in 1..=WRITERS {
            writers.push(Writer::open(name, memory.path(), gate.url()).await?);
        }
        let reader = Reader::open(memory.path(), gate.url()).await?;
        let (dice, booting) = (Rng::new(seed), Duration::from_millis(20));
        Ok(Self { program, dice, data, memory, gate, writers, reader, booting })
    }

    fn command(&self) -> Command {
        let mut command = self.program.command(self.data.path());
        // What goes over all data, as often as it can.
        command.args(["--scrub", "1s", "--retention-hours", "1"]);
        command
    }

    async fn all(&mut self, sum: &mut Sum) -> anyhow::Result<()> {
        for round in 0..ROUNDS {
            let mut server = self.boot().await?;
            self.s01_s03_p01_all_that_was_promised_is_there_once(&server, sum).await?;
            self.gate.open(server.address);
            let work = Duration::from_micros(self.dice.below(WORK_MS * 1_000));
            self.work(&mut server, work).await?;
            self.whatever_was_seen_can_be(sum)?;
            sum.kills += 1;
            self.gate.shut();
            sum.collected += server.collected();
            ensure!(server.errors().is_empty(), "round {round}: {:?}", server.errors());
            if round % STORM.1 == STORM.1 - 1 {
                self.s04_boots_are_killed_one_after_the_other(sum)?;
            }
            self.inspect().await?;
            if self.dice.once_in(4) {
                self.grow_old().await?;
            }
        }
        let server = self.boot().await?;
        self.s01_s03_p01_all_that_was_promised_is_there_once(&server, sum).await?;
        self.settle(&server).await?;
        self.reader.look()?;
        self.whatever_was_seen_can_be(sum)?;
        self.s01_s03_p01_all_that_was_promised_is_there_once(&server, sum).await
    }

    async fn boot(&mut self) -> anyhow::Result<Server> {
        let started = Instant::now();
        let server = Server::boot(&mut self.command())?;
        self.booting = started.elapsed();
        Ok(server)
    }

    /// A newcomer sees what was promised, and nothing but what was written.
    async fn s01_s03_p01_all_that_was_promised_is_there_once(
        &self,
        server: &Server,
        sum: &mut Sum,
    ) -> anyhow::Result<()> {
        let seen = look(server.address, self.memory.path()).await?;
        let promises: Vec<_> = self.writers.iter().map(Writer::promise).collect();
        let verdict = Verdict::of(&seen, &promises);
        sum.lost += verdict.lost;
        sum.disordered += u64::from(verdict.disordered);
        sum.torn += u64::from(verdict.torn);
        ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
        Ok(())
    }

    /// Whenever somebody looked who looked at every change, it was whole, behind what it follows, and no less than
    /// before. What newcomers see is looked at with the rest.
    fn whatever_was_seen_can_be(&self, sum: &mut Sum) -> anyhow::Result<()> {
        let faults = self.reader.faults();
        sum.disordered += faults.disordered;
        sum.torn += faults.torn;
        sum.receded += faults.receded;
        ensure!(faults.told.is_empty(), "{}", faults.told.join("; "));
        Ok(())
    }

    /// Lets everybody write, and kills the server after so long.
    async fn work(&self, server: &mut Server, time: Duration) -> anyhow::Result<()> {
        let (stop, stopped) = watch::channel(false);
        let work = self.writers.iter().map(|writer| {
            writer.client.online();
            writer.write_until(stopped.clone())
        });
        let work = futures_util::future::try_join_all(work);
        let end = async {
            sleep(time).await;
            let killed = server.kill();
            stop.send_replace(true);
            killed
        };
        self.reader.client.online();
        tokio::try_join!(work, self.reader.watch_until(stopped.clone()), end).map(drop)
    }

    /// Kills one boot after the other.
    fn s04_boots_are_killed_one_after_the_other(&mut self, sum: &mut Sum) -> anyhow::Result<()> {
        let usual = u64::try_from(self.booting.as_micros())?;
        for _ in 0..STORM.0 {
            let after = Duration::from_micros(self.dice.below(usual * 3 / 2));
            Server::boot_and_kill(&mut self.command(), after)?;
            sum.kills += 1;
        }
        Ok(())
    }

    /// Everybody hears what became of all that was written.
    async fn settle(&self, server: &Server) -> anyhow::Result<()> {
        self.gate.open(server.address);
        for writer in &self.writers {
            writer.client.online();
            writer.synced().await?;
        }
        self.reader.client.online();
        timeout(PATIENCE, self.reader.client.synced()).await.context("the reader is stuck")??;
        Ok(())
    }

    /// The server has run for longer than it keeps what was removed, and collects that when it boots. Nobody is left
    /// with a row of which that server would not know any more whether it had accepted it.
    async fn grow_old(&mut self) -> anyhow::Result<()> {
        let mut server = self.boot().await?;
        self.settle(&server).await?;
        server.kill()?;
        self.gate.shut();
        ensure!(server.errors().is_empty(), "{:?}", server.errors());
        age(self.data.path()).await
    }

    /// The file is whole: of a copy, since it is for the server to recover what it was killed in.
    async fn inspect(&self) -> anyhow::Result<()> {
        let copy = tempfile::tempdir_in(self.memory.path())?;
        scratch::copy(self.data.path(), copy.path())?;
        check_file(copy.path()).await
    }
}

/// Opens the database of a directory, and looks at its structure.
pub(crate) async fn check_file(data: &Path) -> anyhow::Result<()> {
    let db = SqliteDb::open(data.join("rejoin.sqlite"), &SqliteOptions::default())?;
    let findings = timeout(PATIENCE, db.integrity_check()).await??;
    ensure!(findings.is_empty(), "the file is damaged: {findings:?}");
    db.close().await?;
    Ok(())
}

/// The server has run for two hours more, as far as it knows.
async fn age(data: &Path) -> anyhow::Result<()> {
    const KEY: &[u8] = b"\xffran";
    const HOURS_MS: u64 = 2 * 3_600_000;
    let db = SqliteDb::open(data.join("rejoin.sqlite"), &SqliteOptions::default())?;
    let store = db.space(&SpaceId::parse("rejoin/age")?);
    let stored = store.get(Keyspace::Meta, KEY).await?;
    let stored = stored.as_deref().map(|value| codec::unseal(1, value)).transpose()?;
    let ran =
        stored.map(|value| value.first_chunk::<8>().copied().context("no time")).transpose()?;
    let ran = ran.map(u64::from_be_bytes).unwrap_or_default() + HOURS_MS;
    let mut batch = Batch::default();
    batch.put(Keyspace::Meta, KEY.to_vec(), codec::seal(1, ran.to_be_bytes().to_vec()));
    let outcome = store.commit(batch).await?;
    ensure!(outcome == CommitOutcome::Applied, "{outcome:?}");
    db.close().await?;
    Ok(())
}
