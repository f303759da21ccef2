//! A server with a directory of its own.

use rejoin_server::{Config, Rates, Server, ServerError};
use rejoin_sqlite::{Rehearsal, SqliteOptions};
use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot,
    },
    task::JoinHandle,
    time::timeout,
};

/// No test waits longer for anything: what is to come has been promised sooner.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that is removed at the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("rejoin-server-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file in the temporary directory");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// How to stop a server, and how it ended.
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), ServerError>>);

/// A running server.
pub(crate) struct World {
    pub(crate) directory: Directory,
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    config: Config,
    running: Option<Running>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// `change` gets the directory and the configuration.
    pub(crate) async fn with(change: impl FnOnce(&Directory, &mut Config)) -> Self {
        Self::with_store(change, Rehearsal::default()).await
    }

    pub(crate) async fn with_store(
        change: impl FnOnce(&Directory, &mut Config),
        rehearsal: Rehearsal,
    ) -> Self {
        let directory = Directory::new();
        let mut config = Config::new(directory.path().join("data"));
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        change(&directory, &mut config);
        let address = config.listen;
        let mut world = Self { directory, address, admin: None, config, running: None };
        world.start(rehearsal).await;
        world
    }

    async fn start(&mut self, rehearsal: Rehearsal) {
        self.try_start_with(rehearsal).await.expect("the server opens");
    }

    /// Changes the configuration for the next start.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&Directory, &mut Config)) {
        change(&self.directory, &mut self.config);
    }

    /// Starts the server again, if it can.
    pub(crate) async fn try_start(&mut self) -> Result<(), ServerError> {
        self.try_start_with(Rehearsal::default()).await
    }

    async fn try_start_with(&mut self, rehearsal: Rehearsal) -> Result<(), ServerError> {
        let options = SqliteOptions { rehearsal, ..SqliteOptions::default() };
        let server = Server::open_with(self.config.clone(), options).await?;
        self.address = server.address();
        self.admin = server.admin_address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            stopped.await.ok();
        }));
        self.running = Some((stop, running));
        Ok(())
    }

    /// Waits for the server to end by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), ServerError> {
        let (_stop, running) = self.running.take().expect("a running server");
        timeout(PATIENCE, running).await.expect("an end in time").expect("no panic")
    }

    /// Starts the server again after its end.
    pub(crate) async fn start_again(&mut self) {
        self.start(Rehearsal::default()).await;
    }

    /// Ends the server in order.
    pub(crate) async fn stop(&mut self) {
        let (stop, running) = self.running.take().expect("a running server");
        stop.send(()).expect("the server waits for it");
        let ended = timeout(PATIENCE, running).await.expect("an end in time");
        ended.expect("no panic").expect("an orderly end");
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start(Rehearsal::default()).await;
    }

    /// Where its admin page is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("it has an admin page")
    }

    /// Asks for a path: the status, and headers with body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path, "").await
    }
}

/// As often as anybody likes, for tests that ask more than any one client would.
pub(crate) fn without_rates(config: &mut Config) {
    let most = NonZeroU32::MAX;
    config.rates = Rates {
        address_failures: most,
        address_requests: most,
        address_connections: most,
        principal_requests: most,
        ..config.rates
    };
}

/// Asks over a connection of its own, with further header lines.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    try_get(address, path, headers).await.expect("a status line")
}

/// The same; `None` where the connection was closed unread.
pub(crate) async fn try_get(
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time").ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok())?;
    Some((status, text))
}

/// What a process writes to its standard error stream.
type Logged = BufReader<ChildStderr>;

/// The program as a process of its own.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it logs from then on.
    pub(crate) lines: UnboundedReceiver<String>,
}

impl Process {
    /// Starts the program and waits until it listens.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
        Self::run(&mut command)
    }

    /// Runs a command that becomes the program.
    pub(crate) fn run(command: &mut Command) -> Self {
        Self::run_told(command).0
    }

    /// The same, and what it logged until it listened.
    pub(crate) fn run_told(command: &mut Command) -> (Self, Vec<String>) {
        let (child, told, address, read) = Self::spawn(command);
        let (sender, lines) = unbounded_channel();
        // It must not stop at a full pipe, whether or not anybody looks at the lines.
        std::thread::spawn(move || {
            for line in read.map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        (Self { child, address, lines }, told)
    }

    fn spawn(command: &mut Command) -> (Child, Vec<String>, SocketAddr, Lines<Logged>) {
        let mut told = Vec::new();
        let mut child =
            command.env_clear().stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut read = BufReader::new(child.stderr.take().expect("its errors")).lines();
        let address = read
            .find_map(|line| {
                let line = line.expect("a line");
                told.push(line.clone());
                let address = line.strip_suffix(" listening")?.rsplit_once("address=")?.1;
                Some(address.parse().expect("an address"))
            })
            .expect("it listens");
        (child, told, address, read)
    }

    /// The same, and nobody reads what it logs once it listens.
    pub(crate) fn run_unread(command: &mut Command) -> Self {
        let (sender, lines) = unbounded_channel();
        drop(sender);
        let (child, _told, address, unread) = Self::spawn(command);
        // The pipe stays open for as long as this process lives.
        std::mem::forget(unread);
        Self { child, address, lines }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end in order.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Asks it to look at its files.
    #[cfg(unix)]
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().expect("a signal");
        assert!(sent.success(), "{sent}");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        // The last line comes before the end: what follows is no wait to speak of.
        while timeout(PATIENCE, self.lines.recv()).await.expect("an end in time").is_some() {}
        self.child.wait().expect("it ends")
    }

    /// The next line with all of these in it.
    pub(crate) async fn line(&mut self, parts: &[&str]) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.recv()).await.expect("a line in time");
            let line = line.unwrap_or_else(|| panic!("no line with {parts:?}"));
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test leaves none behind; one that was killed already is no error.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
