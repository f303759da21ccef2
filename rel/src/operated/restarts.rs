//! Connections that end whenever, and servers that are replaced under load.

use super::run;
use crate::{
    Extent,
    gate::Gate,
    report::tell_fault,
    scratch, seeds,
    server::{PATIENCE, Program, Server},
    writers::{Verdict, Writer, look, look_in},
};
use anyhow::ensure;
use futures_util::future::try_join_all;
use rejoin_client::{ByeCode, Link, Notice, Notices};
use rejoin_core::testing::rng::Rng;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Cuts of one life.
const CUTS: u64 = 100;
/// Longest time that a connection is left alone.
const WHOLE_US: u64 = 12_000;
/// Servers of one life.
const SERVERS: u32 = 10;
/// Longest time that a server is left alone with clients that write.
const WORK_MS: u64 = 150;
const WRITERS: u8 = 3;

/// What came of many lives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    /// Connections that were cut, or servers that were replaced.
    pub(super) events: usize,
    faults: usize,
    /// Longest orderly end.
    pub(super) drain: Duration,
    /// Longest time from an end until everybody was back.
    pub(super) away: Duration,
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.events += more.events;
        self.faults += more.faults;
        self.drain = self.drain.max(more.drain);
        self.away = self.away.max(more.away);
    }

    fn live(&mut self, seed: u64, lived: anyhow::Result<Self>) {
        match lived {
            Ok(life) => self.add(life),
            Err(fault) => {
                self.faults += 1;
                tell_fault(format!("seed {seed}: {fault:#}"));
            }
        }
    }
}

/// A batch is there whole or not at all, wherever the server was with it, and others are served.
pub(super) fn s13_connections_end_whenever(
    program: &Program,
    extent: Extent,
    cuts: u32,
) -> anyhow::Result<Sum> {
    let data = scratch::in_memory()?;
    let server = Server::boot(&mut program.command_for_many(data.path()))?;
    let address = server.address;
    let life = |seed, sum: &mut Sum| sum.live(seed, run(cut_again_and_again(address, seed)));
    let extent = Extent { budget: None, ..extent };
    let (_, sum) = seeds::each(extent, u64::from(cuts).div_ceil(CUTS), life, Sum::add);
    ensure!(server.errors().is_empty(), "{:?}", server.errors());
    ensure!(sum.faults == 0, "{} lives", sum.faults);
    Ok(sum)
}

async fn cut_again_and_again(server: SocketAddr, seed: u64) -> anyhow::Result<Sum> {
    let (mut dice, memory, gate) = (Rng::new(seed), scratch::in_memory()?, Gate::new().await?);
    let space = format!("cut{seed}");
    let mut writers = Vec::new();
    for name in 1..=WRITERS {
        writers.push(Writer::open_in(&space, name, memory.path(), gate.url()).await?);
    }
    let (stop, stopped) = watch::channel(false);
    let work = try_join_all(writers.iter().map(|writer| writer.write_until(stopped.clone())));
    let cut = async {
        let mut cuts = 0;
        while cuts < CUTS {
            let before = gate.connections();
            gate.open(server);
            writers.iter().for_each(|writer| writer.client.online());
            sleep(Duration::from_micros(dice.below(WHOLE_US))).await;
            gate.shut();
            cuts += gate.connections() - before;
        }
        stop.send_replace(true);
        anyhow::Ok(usize::try_from(cuts)?)
    };
    let (_, events) = tokio::try_join!(work, cut)?;
    gate.open(server);
    for writer in &writers {
        writer.client.online();
        writer.synced().await?;
    }
    let seen = look_in(&space, format!("ws://{server}/sync"), memory.path()).await?;
    check(&Verdict::of(&seen, &promises(&writers)))?;
    for writer in writers {
        writer.client.close().await?;
    }
    Ok(Sum { events, ..Sum::default() })
}

/// An orderly end takes leave of everybody, who come back by themselves to the server that follows.
pub(super) fn s16_servers_are_replaced(
    program: &Program,
    extent: Extent,
    restarts: u32,
) -> anyhow::Result<Sum> {
    let life = |seed, sum: &mut Sum| {
        sum.live(seed, run(replace_again_and_again(program, seed, SERVERS.min(restarts))));
    };
    let extent = Extent { budget: None, ..extent };
    let (_, sum) = seeds::each(extent, u64::from(restarts.div_ceil(SERVERS)), life, Sum::add);
    ensure!(sum.faults == 0, "{} lives", sum.faults);
    Ok(sum)
}

async fn replace_again_and_again(
    program: &Program,
    seed: u64,
    servers: u32,
) -> anyhow::Result<Sum> {
    let (mut dice, data, memory) = (Rng::new(seed), scratch::on_disk()?, scratch::in_memory()?);
    let gate = Gate::new().await?;
    let mut writers = Vec::new();
    for name in 1..=WRITERS {
        writers.push(Writer::open(name, memory.path(), gate.url()).await?);
    }
    let mut notices: Vec<Notices> = writers.iter().map(|writer| writer.client.notices()).collect();
    let (stop, stopped) = watch::channel(false);
    let work = try_join_all(writers.iter().map(|writer| writer.write_until(stopped.clone())));
    let replace = async {
        let mut sum = Sum::default();
        for _ in 0..servers {
            let started = Instant::now();
            let mut server = Server::boot(&mut program.command(data.path()))?;
            gate.open(server.address);
            timeout(PATIENCE, all_are_back(&writers)).await?;
            if sum.events > 0 {
                sum.away = sum.away.max(started.elapsed());
            }
            sleep(Duration::from_millis(dice.below(WORK_MS))).await;
            let stopping = Instant::now();
            ensure!(server.stop().await?.success(), "no orderly end: {:?}", server.errors());
            sum.drain = sum.drain.max(stopping.elapsed());
            ensure!(server.errors().is_empty(), "{:?}", server.errors());
            for notices in &mut notices {
                timeout(PATIENCE, was_told(notices)).await??;
            }
            sum.events += 1;
        }
        stop.send_replace(true);
        anyhow::Ok(sum)
    };
    let (_, sum) = tokio::try_join!(work, replace)?;
    let server = Server::boot(&mut program.command(data.path()))?;
    check(&Verdict::of(&look(server.address, memory.path()).await?, &promises(&writers)))?;
    gate.open(server.address);
    for writer in &writers {
        writer.synced().await?;
    }
    check(&Verdict::of(&look(server.address, memory.path()).await?, &promises(&writers)))?;
    for writer in writers {
        writer.client.close().await?;
    }
    Ok(sum)
}

async fn all_are_back(writers: &[Writer]) {
    let is_back =
        |writer: &Writer| matches!(writer.client.status().link, Link::Live | Link::Syncing);
    while !writers.iter().all(is_back) {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Until it was said that the server goes, and that it comes again.
async fn was_told(notices: &mut Notices) -> anyhow::Result<()> {
    loop {
        match notices.next().await {
            Ok(Some(Notice::Ended { code: ByeCode::ShuttingDown, .. })) => return Ok(()),
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => anyhow::bail!("a client has ended"),
        }
    }
}

fn promises(writers: &[Writer]) -> Vec<crate::writers::Promise> {
    writers.iter().map(Writer::promise).collect()
}

fn check(verdict: &Verdict) -> anyhow::Result<()> {
    ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
    Ok(())
}
