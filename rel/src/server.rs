//! The server as a process of its own: the binary that operators run, built as it is here.

use crate::tool;
use anyhow::{Context, ensure};
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

/// No boot and no end takes longer; beyond it the server counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where the program is.
#[derive(Debug, Clone)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Builds it as `cargo rel` itself was built.
    pub(crate) fn build() -> anyhow::Result<Self> {
        let output = tool::cargo_itself("build")?
            .args(["--quiet", "--locked", "--profile", "rel"])
            .args(["--package", "rejoin-server", "--message-format", "json"])
            .stderr(Stdio::inherit())
            .output()
            .context("cargo does not run")?;
        ensure!(output.status.success(), "the server cannot be built");
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let built = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        let mut paths = built.filter_map(|line| {
            let is_it = line.pointer("/target/name")?.as_str()? == "rejoin-server";
            let path = line.get("executable")?.as_str()?;
            is_it.then(|| PathBuf::from(path))
        });
        Ok(Self(paths.next_back().context("cargo named no program")?))
    }

    /// A command that runs it on this directory, at a port that is free; without anything of our environment.
    pub(crate) fn command(&self, data: &Path) -> Command {
        self.command_under::<&str>(&[], data)
    }

    /// The same for suites that come thousands of times in a minute, all from one address.
    pub(crate) fn command_for_many(&self, data: &Path) -> Command {
        let mut command = self.command(data);
        command.arg("--address-connections-per-minute=1000000");
        command
    }

    /// One under a program that runs others, such as `strace`.
    pub(crate) fn command_under<S: AsRef<OsStr>>(&self, runner: &[S], data: &Path) -> Command {
        self.command_at(runner, "127.0.0.1:0", data)
    }

    /// The same at another address.
    pub(crate) fn command_at<S: AsRef<OsStr>>(
        &self,
        runner: &[S],
        listen: &str,
        data: &Path,
    ) -> Command {
        let mut words = runner.iter().map(AsRef::as_ref).chain([self.0.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear().args(["--listen", listen, "--data"]).arg(data);
        command
    }
}

/// How a boot went.
#[derive(Debug)]
pub(crate) enum Boot {
    /// It listens.
    Listens(Server),
    /// It ended before it did.
    Ended(ExitStatus, Arc<Said>),
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    said: Arc<Said>,
}

/// What it said that matters.
#[derive(Debug, Default)]
pub(crate) struct Said {
    errors: Mutex<Vec<String>>,
    collected: AtomicU64,
}

impl Said {
    /// Lines of errors and panics.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, line: String) {
        if line.ends_with(" collected") || line.contains(" collected ") {
            self.collected.fetch_add(1, Ordering::Relaxed);
        }
        let is_last_word = line.starts_with("rejoin-server: ");
        if is_last_word || [" ERROR ", "panicked"].iter().any(|part| line.contains(part)) {
            self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }
}

impl Server {
    /// Starts it; it must listen within [`PATIENCE`].
    pub(crate) fn boot(command: &mut Command) -> anyhow::Result<Self> {
        match Self::try_boot(command, PATIENCE)? {
            Boot::Listens(server) => Ok(server),
            Boot::Ended(status, said) => {
                anyhow::bail!("no boot, {status}: {}", said.errors().join(" / "))
            }
        }
    }

    /// Starts it, and waits until it listens or is gone.
    pub(crate) fn try_boot(command: &mut Command, within: Duration) -> anyhow::Result<Boot> {
        let (mut child, addresses, said) = Self::spawn(command)?;
        match addresses.recv_timeout(within) {
            Ok(address) => Ok(Boot::Listens(Self { child, address, said })),
            Err(RecvTimeoutError::Disconnected) => Ok(Boot::Ended(child.wait()?, said)),
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("it does not listen after {within:?}")
            }
        }
    }

    /// Starts it and kills it after so long, whether it listens or not.
    pub(crate) fn boot_and_kill(command: &mut Command, after: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        let (mut child, addresses, _said) = Self::spawn(command)?;
        loop {
            match addresses.recv_timeout(after.saturating_sub(started.elapsed())) {
                Ok(_listens) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.wait()?;
                    anyhow::bail!("it ended by itself: {status}");
                }
            }
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn spawn(command: &mut Command) -> anyhow::Result<(Child, Receiver<SocketAddr>, Arc<Said>)> {
        let spawned = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = spawned.with_context(|| format!("cannot run {command:?}"))?;
        let lines = BufReader::new(child.stderr.take().context("its errors")?).lines();
        let (sender, addresses) = channel();
        let said = Arc::new(Said::default());
        let heard = Arc::clone(&said);
        // It must not stop at a full pipe, whether or not anybody looks at the lines.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let address =
                    line.strip_suffix(" listening").and_then(|line| line.rsplit_once('='));
                if let Some((_, address)) = address
                    && let Ok(address) = address.parse()
                {
                    // Nobody waits any more for one that was to be killed before.
                    sender.send(address).ok();
                } else {
                    heard.hear(line);
                }
            }
        });
        Ok((child, addresses, said))
    }

    /// Ends it at once, in the middle of whatever it does. One that has ended already is no error.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The same without waiting for its end: a tracer that holds one of its threads up puts that off.
    pub(crate) fn strike(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill()?)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end in order, and waits for that, while its clients take leave.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let id = self.id().to_string();
        // That it has ended by itself shows in its status.
        Command::new("kill").args(["-TERM", &id]).stderr(Stdio::null()).status()?;
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(started.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.ended()?.is_none())
    }

    /// How it ended: none while it runs.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Lines of errors and panics so far.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.said.errors()
    }

    /// How often it said that it collected what was removed.
    pub(crate) fn collected(&self) -> u64 {
        self.said.collected.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever fails leaves none behind; one that has ended already is no error.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
