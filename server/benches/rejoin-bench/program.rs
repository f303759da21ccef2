//! Programs of their own: the server as operators run it, and the one that echoes.

use anyhow::{Context, bail};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process that ends with this.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    data: Option<PathBuf>,
}

impl Program {
    /// The server, on an empty directory in `folder`.
    pub(crate) fn rejoin(folder: &Path) -> anyhow::Result<Self> {
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir_all(&data)?;
        Self::rejoin_on(data, "127.0.0.1:0")
    }

    fn rejoin_on(data: PathBuf, listen: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
        command.env_clear().args(["--listen", listen, "--log", "info", "--data"]).arg(&data);
        command.args(["--connections-max", "50000", "--connections-per-address-max", "50000"]);
        // All of its clients are one, and it is to be as fast as it can.
        command.args(["--address-connections-per-minute", "1000000"]);
        for rate in ["messages", "bytes"] {
            command.arg(format!("--connection-{rate}-per-second=1000000000"));
        }
        let mut child = command.stderr(Stdio::piped()).spawn().context("the server starts")?;
        let said = child.stderr.take().context("its errors")?;
        let found = |line: &str| {
            let address = line.strip_suffix(" listening")?.rsplit_once("address=")?.1;
            address.parse().ok()
        };
        let address = find(said, found)?;
        Ok(Self { child, address, data: Some(data) })
    }

    /// This program once more, as the one that echoes.
    pub(crate) fn echo() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--echo").stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().context("its output")?;
        let address = find(said, |line| line.parse().ok())?;
        Ok(Self { child, address, data: None })
    }

    /// Killed, and started again at the same address on the same directory, once `between` has been there: this one, and
    /// how long it took until it listened.
    pub(crate) fn killed_and_started(
        mut self,
        between: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Self, Duration)> {
        self.child.kill()?;
        self.child.wait()?;
        let data = self.data.take().context("this program has no data")?;
        between(&data)?;
        let started = Instant::now();
        let again = Self::rejoin_on(data, &self.address.to_string())?;
        Ok((again, started.elapsed()))
    }

    /// Memory that it occupies, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(number.context("no VmRSS in /proc")?.trim().parse()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing is left to do about any of these.
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(data) = &self.data {
            fs::remove_dir_all(data).ok();
        }
    }
}

/// The first line that says where it listens; what comes behind it is read by nobody, and thrown away.
fn find(
    said: impl Read + Send + 'static,
    found: impl Fn(&str) -> Option<SocketAddr>,
) -> anyhow::Result<SocketAddr> {
    let mut said = BufReader::new(said);
    let mut line = String::new();
    loop {
        line.clear();
        if said.read_line(&mut line)? == 0 {
            bail!("it ended before it listened");
        }
        if let Some(address) = found(line.trim_end()) {
            // It must not stop at a full pipe.
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return Ok(address);
        }
    }
}
