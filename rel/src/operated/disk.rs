//! A disk that is full, and a reader that keeps the log from being emptied.

use super::Amount;
use crate::{
    kill::check_file,
    scratch,
    server::{PATIENCE, Program, Server},
    tool::{Missing, find},
    writers::{Verdict, Writer, look},
};
use anyhow::{Context, bail, ensure};
use rejoin_client::{ByeCode, Notice, Value, key, put, set};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const MIB: usize = 1 << 20;
/// What stands on the small disk beside the server's files, and is removed when it is full.
const BALLAST_BYTES: usize = 10 * MIB;
const LARGE_BYTES: usize = 200 << 10;
/// More than fits.
const LARGE_MAX: usize = 16 * MIB / LARGE_BYTES;

/// Pause between small writes while somebody reads.
const WRITES_EVERY: Duration = Duration::from_millis(20);

/// A disk of 16 MiB of its own.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> anyhow::Result<Self> {
        let place = scratch::on_disk()?;
        let mut mount = Command::new(find("mount", "mount")?);
        mount.args(["-t", "tmpfs", "-o", "size=16m", "rejoin-rel"]).arg(place.path());
        let mounted = mount.stderr(Stdio::null()).status()?;
        if !mounted.success() {
            bail!(Missing::new("the right to mount a small disk is missing: run it as root"));
        }
        Ok(Self(place))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What cannot be unmounted yet goes with its last user.
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

/// Nothing is acknowledged any more, everybody may read, and once there is room it goes on by itself.
pub(super) async fn s06_a_full_disk_is_told_and_left_without_a_restart(
    program: &Program,
) -> anyhow::Result<()> {
    let (disk, memory) = (SmallDisk::mount()?, scratch::in_memory()?);
    fs::write(disk.path("ballast"), vec![7; BALLAST_BYTES])?;
    let data = disk.path("data");
    let mut server = Server::boot(&mut program.command(&data))?;
    let url = format!("ws://{}/sync", server.address);
    let writer = Writer::open(1, memory.path(), url).await?;
    let mut notices = writer.client.notices();
    let full = |notice: &Notice| matches!(notice, Notice::Ended { code: ByeCode::StorageFull, .. });
    let mut told = false;
    for at in 0..LARGE_MAX {
        writer.write().await?;
        large(&writer, at).await?;
        let deadline = Instant::now() + PATIENCE;
        while !told && !writer.client.is_synced() {
            ensure!(Instant::now() < deadline, "stuck: {:?}", writer.client.status());
            let changed = timeout(Duration::from_millis(20), writer.client.changed());
            changed.await.ok();
            while let Ok(Some(notice)) = notices.try_next() {
                told |= full(&notice);
            }
        }
        if told {
            break;
        }
    }
    ensure!(told, "nobody was told that the disk is full");
    ensure!(server.is_running()?, "a full disk has ended it: {:?}", server.errors());
    verify(server.address, memory.path(), &writer).await.context("while the disk is full")?;
    fs::remove_file(disk.path("ballast"))?;
    writer.client.online();
    writer.synced().await?;
    writer.write().await?;
    writer.synced().await?;
    verify(server.address, memory.path(), &writer).await?;
    ensure!(server.stop().await?.success(), "no orderly end: {:?}", server.errors());
    writer.client.close().await?;
    check_file(&data).await
}

/// How large the log was while somebody read, and after.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    pub(super) peak_mib: f64,
    pub(super) after_mib: f64,
}

/// Somebody else looks at one state of the database for long: nobody waits, and the log is cut back after.
pub(super) async fn s07_who_reads_for_long_costs_nothing(
    program: &Program,
    amount: Amount,
) -> anyhow::Result<Log> {
    let (place, memory) = (scratch::on_disk()?, scratch::in_memory()?);
    let data = place.path().join("data");
    let mut server = Server::boot(&mut program.command(&data))?;
    let url = format!("ws://{}/sync", server.address);
    let writer = Writer::open(1, memory.path(), url).await?;
    writer.write().await?;
    writer.synced().await?;
    let mut reader = Reader::of(&data.join("rejoin.sqlite"))?;
    let end = Instant::now() + amount.read;
    let count = amount.written_mib * MIB / LARGE_BYTES;
    let mut at = 0;
    while at < count || Instant::now() < end {
        writer.write().await?;
        if at < count {
            large(&writer, at).await?;
        } else {
            // As large as the log gets is what is written, which is not to depend on how fast the disk is.
            sleep(WRITES_EVERY).await;
        }
        writer.synced().await?;
        at += 1;
    }
    let log = data.join("rejoin.sqlite-wal");
    let peak_mib = mib(&log)?;
    reader.end()?;
    // One that moves the log into the database, and one that begins it anew.
    for at in 0..2 {
        large(&writer, at).await?;
        writer.synced().await?;
    }
    let after_mib = mib(&log)?;
    verify(server.address, memory.path(), &writer).await?;
    ensure!(server.errors().is_empty(), "{:?}", server.errors());
    ensure!(server.stop().await?.success(), "no orderly end");
    writer.client.close().await?;
    check_file(&data).await?;
    Ok(Log { peak_mib, after_mib })
}

/// `sqlite3`, in the middle of a transaction that reads.
struct Reader {
    child: Child,
    input: Option<ChildStdin>,
}

impl Reader {
    fn of(file: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(find("sqlite3", "sqlite3")?);
        command.arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().context("its input")?;
        input.write_all(b"BEGIN; SELECT count(*) FROM sqlite_master;\n")?;
        input.flush()?;
        let mut answer = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut answer)?;
        ensure!(answer.trim().parse::<u32>().is_ok(), "it does not read: {answer}");
        Ok(Self { child, input: Some(input) })
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.input.take();
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Without its input it ends; whatever fails leaves none behind.
        self.input.take();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn large(writer: &Writer, at: usize) -> anyhow::Result<()> {
    let text = Value::Bytes(vec![u8::try_from(at % 256)?; LARGE_BYTES]);
    // By turns, so that the database stays small while the log grows.
    let record = key("large", &(at % 20).to_string())?;
    writer.client.write(vec![put(record, [set("text", text)?])]).await?;
    Ok(())
}

/// A newcomer sees what was promised.
async fn verify(server: SocketAddr, memory: &Path, writer: &Writer) -> anyhow::Result<()> {
    let promise = writer.promise();
    let verdict = Verdict::of(&look(server, memory).await?, &[promise]);
    ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib(file: &Path) -> anyhow::Result<f64> {
    Ok(fs::metadata(file)?.len() as f64 / MIB as f64)
}
