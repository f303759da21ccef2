//! Power lost at any sync: what was not synced vanishes, or some of it stays, or the last write is torn.
//!
//! A server, and then a client, is recorded while it works: every write, sync and change of a name, and every
//! acknowledgement that it sends. For each sync a disk is made up as a power loss just before it may leave it,
//! and the real program is started on that: all that was acknowledged by then is there.

mod disk;
mod log;

use crate::{
    Extent,
    gate::Gate,
    kill::check_file,
    report::{Bar, Report, percent, tell_fault},
    scratch, script,
    script::Seen,
    seeds,
    server::{Program, Server},
    strace::Strace,
    writers::{Promise, Verdict, Writer, look},
};
use anyhow::{Context, ensure};
use disk::{DAMAGES, Disk};
use log::Event;
use rejoin_client::{Client, Value, key, put, set};
use rejoin_core::{
    protocol::{
        message::{Message, Outcome},
        wire,
    },
    testing::rng::Rng,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use tempfile::TempDir;

const WRITERS: [u8; 2] = [1, 2];
/// Batches of each writer in each life of the server.
const BATCHES: u64 = 16;
/// Rows that are there to fill the log until it is moved into the database under load: more than 16 MiB.
const BALLAST: (usize, usize) = (90, 200 << 10);

/// Where the data is: nothing of it is there before the first life, so that its names may be lost too.
const DATA: [&str; 3] = ["srv", "rejoin", "data"];

fn data_of(directory: &Path) -> PathBuf {
    directory.join(DATA.iter().collect::<PathBuf>())
}

/// What was recorded.
struct Recording {
    directory: TempDir,
    events: Vec<Event>,
    /// Batches that each writer has issued in the end.
    issued: u64,
    /// From which ports each writer came to the server.
    ports: Vec<BTreeSet<u16>>,
    subject: Subject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Server,
    Client,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    points: usize,
    violations: usize,
}

/// Every sync, three ways to fail, each with so many seeds; or an even sample of the syncs.
pub(crate) fn suite(
    extent: Extent,
    sample: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let program = Program::build()?;
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let recordings = [
        runtime.block_on(Recording::of_server(&program, sample.is_none()))?,
        runtime.block_on(Recording::of_client())?,
    ];
    let syncs: Vec<(&Recording, usize)> =
        recordings.iter().flat_map(|recording| recording.syncs()).collect();
    let planned = syncs.len();
    let chosen = seeds::sample(syncs, extent.seed, sample)?;
    let count = u64::try_from(chosen.len())?;
    let run = |at: u64, sum: &mut Sum| {
        let turn = usize::try_from(at % count.max(1)).ok().and_then(|turn| chosen.get(turn));
        if let Some((recording, sync)) = turn {
            // What is random differs from round to round, where there is time for several.
            let seed = extent.seed.wrapping_add(at / count.max(1));
            recording.s02_power_is_lost(&program, *sync, seed, sum);
        }
    };
    let add = |whole: &mut Sum, more: Sum| {
        whole.points += more.points;
        whole.violations += more.violations;
    };
    let (_, sum) = seeds::each(Extent { seed: 0, ..extent }, count, run, add);
    report.count("power.syncs", planned, "syncs", Bar::AtLeast(1.0))?;
    let whole = count * u64::try_from(DAMAGES.len())?;
    let met = percent(u64::try_from(sum.points)?, whole);
    report.count("power.points", sum.points, "points", Bar::AtLeast(1.0))?;
    let all = if extent.budget.is_none() { Bar::Exactly(100.0) } else { Bar::None };
    report.tell("power.met", met, "% of points", all)?;
    report.count("power.violations", sum.violations, "points", Bar::Exactly(0.0))?;
    report.tell("power.time", started.elapsed().as_secs_f64(), "s", Bar::None)
}

impl Recording {
    /// A first life in a new directory, to a kill; a second one to an orderly end; a third.
    async fn of_server(program: &Program, ballast: bool) -> anyhow::Result<Self> {
        let (directory, beside) = (scratch::in_memory()?, scratch::in_memory()?);
        let mut gates = Vec::new();
        let mut writers = Vec::new();
        for name in WRITERS {
            let gate = Gate::new().await?;
            writers.push(Writer::open(name, beside.path(), gate.url()).await?);
            gates.push(gate);
        }
        let mut lines = Vec::new();
        for life in 0..3 {
            let strace = strace(&beside.path().join(format!("log{life}")))?;
            let mut command = program.command_under(&strace.runner(), &data_of(directory.path()));
            let mut server = Server::boot(&mut command)?;
            let process = server.id();
            for (writer, gate) in writers.iter().zip(&gates) {
                gate.open(server.address);
                writer.client.online();
                writer.synced().await?;
            }
            for _ in 0..BATCHES / 2 {
                for writer in &writers {
                    writer.write().await?;
                    writer.write().await?;
                }
                for writer in &writers {
                    writer.synced().await?;
                }
            }
            if life == 1 && ballast {
                fill(&server, beside.path()).await?;
            }
            if life == 0 {
                server.kill()?;
            } else {
                ensure!(server.stop().await?.success(), "no orderly end");
            }
            gates.iter().for_each(Gate::shut);
            lines.push(strace.ended(process).await?);
        }
        for writer in &writers {
            writer.client.close().await?;
        }
        let events = lines.iter().map(|lines| log::read(lines));
        let events = events.collect::<anyhow::Result<Vec<_>>>()?.concat();
        let ports = gates.iter().map(Gate::ports).collect();
        let (issued, subject) = (3 * BATCHES, Subject::Server);
        let recording = Self { directory, events, issued, ports, subject };
        let made = |event: &&Event| matches!(event, Event::DirectoryMade { .. });
        let made = recording.events.iter().filter(made).count();
        ensure!(made >= DATA.len(), "it made {made} directories, not those of its data");
        let known = recording.acknowledged(recording.events.len())?;
        ensure!(known == [3 * BATCHES; 2], "acknowledgements that were sent: {known:?}");
        Ok(recording)
    }

    /// This process itself: a client that says into a file which writes have returned.
    async fn of_client() -> anyhow::Result<Self> {
        let (directory, beside) = (scratch::in_memory()?, scratch::in_memory()?);
        let returned = beside.path().join("returned");
        let strace = strace(&beside.path().join("log"))?.with(["-f".to_owned()]);
        let attached = strace.attach(std::process::id())?;
        let path = directory.path().join("client.db");
        for life in 0..2 {
            let client = Client::open(script::options(&path, None)?).await?;
            for n in life * BATCHES + 1..=(life + 1) * BATCHES {
                client.write(script::batch(1, n)?).await?;
                fs::write(&returned, b"1")?;
            }
            client.close().await?;
        }
        attached.detach()?;
        let events = log::read(&strace.lines()?)?;
        let (issued, subject) = (2 * BATCHES, Subject::Client);
        let recording = Self { directory, events, issued, ports: Vec::new(), subject };
        let known = recording.acknowledged(recording.events.len())?;
        ensure!(known == [2 * BATCHES], "writes that returned: {known:?}");
        Ok(recording)
    }

    fn syncs(&self) -> impl Iterator<Item = (&Self, usize)> {
        let synced = move |(at, event): (usize, &Event)| {
            matches!(event, Event::Synced { .. }).then_some((self, at))
        };
        let end = [(self, self.events.len())];
        self.events.iter().enumerate().filter_map(synced).chain(end)
    }

    /// How many batches of each writer were acknowledged by the events before `upto`.
    fn acknowledged(&self, upto: usize) -> anyhow::Result<Vec<u64>> {
        let events = self.events.iter().take(upto);
        if self.subject == Subject::Client {
            let returned = events.filter(
                |event| matches!(event, Event::Written { path, .. } if path.ends_with("/returned")),
            );
            return Ok(vec![u64::try_from(returned.count())?]);
        }
        let mut sent: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for event in events {
            if let Event::Sent { socket, bytes } = event {
                sent.entry(socket).or_default().extend_from_slice(bytes);
            }
        }
        let mut known = vec![0; self.ports.len()];
        for (socket, sent) in sent {
            let port = socket.rsplit(':').next().and_then(|port| port.parse().ok());
            let mut of = known.iter_mut().zip(&self.ports);
            let whose = of.find(|(_, ports)| port.is_some_and(|port| ports.contains(&port)));
            if let Some((known, _)) = whose {
                *known += accepted(&sent)?;
            }
        }
        Ok(known)
    }

    /// Each kind of damage, just before the event at `at`.
    fn s02_power_is_lost(&self, program: &Program, at: usize, seed: u64, sum: &mut Sum) {
        let mut disk = Disk::new(self.directory.path());
        self.events.iter().take(at).for_each(|event| disk.take(event));
        for damage in DAMAGES {
            let mut dice = Rng::new(seed ^ u64::try_from(at).unwrap_or_default());
            sum.points += 1;
            let booted = self.boot(program, at, |to| Ok(disk.lose_power(damage, &mut dice, to)?));
            if let Err(fault) = booted {
                sum.violations += 1;
                let subject = self.subject;
                tell_fault(format!("{subject:?}, {damage:?} at {at}, seed {seed}: {fault:#}"));
            }
        }
    }

    fn boot(
        &self,
        program: &Program,
        at: usize,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let directory = scratch::in_memory()?;
        make(directory.path())?;
        let known = self.acknowledged(at)?;
        let promise = |(writer, acknowledged): (&u8, u64)| {
            let (writer, issued) = (*writer, self.issued);
            Promise { writer, acknowledged, issued }
        };
        let promises: Vec<Promise> = WRITERS.iter().zip(known).map(promise).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let seen = runtime.block_on(async {
            match self.subject {
                Subject::Server => {
                    let data = data_of(directory.path());
                    let mut server = Server::boot(&mut program.command(&data))?;
                    let seen = look(server.address, directory.path()).await?;
                    server.kill()?;
                    check_file(&data).await?;
                    Ok(seen)
                }
                Subject::Client => {
                    let path = directory.path().join("client.db");
                    let client = Client::open(script::options(&path, None)?).await?;
                    let seen = Seen::of(&client);
                    client.close().await?;
                    seen
                }
            }
        })?;
        let verdict = Verdict::of(&seen, &promises);
        ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
        Ok(())
    }
}

fn strace(log: &Path) -> anyhow::Result<Strace> {
    // Everything in full: files, addresses, bytes.
    let whole = ["-yy", "-xx", "-s", "2000000"].map(str::to_owned);
    Ok(Strace::new(log, log::CALLS)?.with(whole))
}

/// Rows that were accepted, by what was sent to a client from the handshake on.
fn accepted(sent: &[u8]) -> anyhow::Result<u64> {
    const END: &[u8] = b"\r\n\r\n";
    let end = sent.windows(END.len()).position(|window| window == END);
    let (_, mut rest) = sent.split_at(end.map_or(sent.len(), |end| end + END.len()));
    let (mut chain, mut assembler) = (wire::Chain::of_responder(), wire::Assembler::default());
    let mut accepted = BTreeMap::new();
    while let Some((is_binary, payload, more)) = frame(rest) {
        rest = more;
        if !is_binary {
            continue;
        }
        let (_, part) = wire::split_frame(chain.open(payload)?)?;
        if let Some(message) = assembler.take(part)?
            && let Message::Ack(ack) = wire::decode(&message)?
        {
            for (number, outcome) in ack.outcomes {
                ensure!(matches!(outcome, Outcome::Accepted { .. }), "{number}: {outcome:?}");
                accepted.insert(number, ());
            }
        }
    }
    Ok(u64::try_from(accepted.len())?)
}

/// The first frame of a server (RFC 6455, 5.2), if all of it is there, and what follows.
fn frame(bytes: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match second & 0x7f {
        126 => rest
            .split_first_chunk::<2>()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk::<8>().and_then(|(length, rest)| {
            Some((usize::try_from(u64::from_be_bytes(*length)).ok()?, rest))
        })?,
        length => (usize::from(length), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((first & 0x0f == 2, payload, rest))
}

/// Writes so much that the log is moved into the database while others are served.
async fn fill(server: &Server, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("ballast.db");
    let options = script::options(&path, Some(format!("ws://{}/sync", server.address)))?;
    let client = Client::open(options).await?;
    for at in 0..BALLAST.0 {
        let text = Value::Bytes(vec![u8::try_from(at).unwrap_or_default(); BALLAST.1]);
        client.write(vec![put(key("ballast", &at.to_string())?, [set("text", text)?])]).await?;
        if at % 3 == 0 {
            client.synced().await?;
        }
    }
    client.synced().await.context("ballast")?;
    Ok(client.close().await?)
}
