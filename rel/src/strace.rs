//! `strace`, which sees every system call of a process, and makes one fail or be its last.

use crate::{
    server::PATIENCE,
    tool::{Missing, find},
};
use anyhow::{Context, bail, ensure};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Which calls of a process are looked at, and what is done to them.
#[derive(Debug, Clone)]
pub(crate) struct Strace {
    program: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

impl Strace {
    /// Writes to a log, which must be in a directory of its own.
    pub(crate) fn new(log: &Path, calls: &str) -> anyhow::Result<Self> {
        let program = find("strace", "strace")?;
        static WORKS: OnceLock<bool> = OnceLock::new();
        let works = WORKS.get_or_init(|| {
            let mut once = Command::new(&program);
            once.args(["-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
            once.status().is_ok_and(|status| status.success())
        });
        if !works {
            bail!(Missing::new(
                "the right to trace is missing: outside a container, or with --cap-add SYS_PTRACE"
            ));
        }
        let arguments = vec!["-e".to_owned(), format!("trace={calls}")];
        Ok(Self { program, log: log.to_owned(), arguments })
    }

    /// With further arguments.
    pub(crate) fn with(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// What a command begins with that is traced from its start on, with all of its threads. The process is
    /// the command's own: it is the tracer that is a grandchild.
    pub(crate) fn runner(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut words: Vec<String> = vec![text(&self.program)];
        words.extend(["-D", "-f", "-q"].map(str::to_owned));
        words.extend(["-o".to_owned(), text(&self.log)]);
        words.extend(self.arguments.iter().cloned());
        words
    }

    /// Attaches to one thread, and returns once it has.
    pub(crate) fn attach(&self, thread: u32) -> anyhow::Result<Attached> {
        let mut child = Command::new(&self.program)
            .arg("-o")
            .arg(&self.log)
            .args(&self.arguments)
            .args(["-p", &thread.to_string()])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("its errors")?).lines();
        let attached = lines.next().transpose()?.unwrap_or_default();
        ensure!(attached.contains("attached"), "strace cannot attach: {attached}");
        // It also tells each thread that begins, and must not stop at that.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Attached { child })
    }

    /// What it has written once the process of this id has ended, which it traced from its start on.
    pub(crate) async fn ended(&self, process: u32) -> anyhow::Result<Vec<String>> {
        let started = Instant::now();
        let thread = process.to_string();
        loop {
            let lines = self.lines()?;
            // A process ends with its first thread, whose id is its own: by then the others have.
            let ends = |line: &String| {
                let end = line.contains("+++ exited with") || line.contains("+++ killed by");
                end && line.split(' ').next() == Some(&thread)
            };
            if lines.iter().any(ends) {
                return Ok(lines);
            }
            ensure!(started.elapsed() < PATIENCE, "the log of {process} has no end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a call has failed as it was told to.
    pub(crate) fn injected(&self) -> anyhow::Result<bool> {
        Ok(self.lines()?.iter().any(|line| line.contains("(INJECTED)")))
    }

    /// Whether a thread was made to stand still behind a call, as it was told to.
    pub(crate) fn delayed(&self) -> anyhow::Result<bool> {
        Ok(self.lines()?.iter().any(|line| line.contains("(DELAYED)")))
    }

    /// What it has written, line by line.
    pub(crate) fn lines(&self) -> anyhow::Result<Vec<String>> {
        let text = fs::read(&self.log).with_context(|| format!("{}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}

/// A tracer of a process that runs.
#[derive(Debug)]
pub(crate) struct Attached {
    child: Child,
}

impl Attached {
    /// Lets go: from now on all calls are what they were.
    pub(crate) fn detach(mut self) -> anyhow::Result<()> {
        let id = self.child.id().to_string();
        // Where the process has ended, so has its tracer.
        Command::new("kill").args(["-TERM", &id]).stderr(Stdio::null()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Whatever fails leaves none behind; one that has ended already is no error.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The thread of a process that has this name: it gets it shortly after it was started.
pub(crate) async fn thread(process: u32, name: &str) -> anyhow::Result<u32> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let path = entry?.path();
            // One that has just ended has none.
            let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let id = path.file_name().and_then(|id| id.to_string_lossy().parse().ok());
            if let (true, Some(id)) = (comm.trim_end() == name, id) {
                return Ok(id);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    anyhow::bail!("no thread {name}")
}
