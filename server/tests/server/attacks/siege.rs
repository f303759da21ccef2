//! A server, the two who work on it, and what an attack does to them.

use crate::{
    client::{Client, Ended, key},
    world::{Directory, PATIENCE, Process},
};
use rejoin_core::{
    id::{Pattern, RecordKey, ReplicaId, SpaceId},
    protocol::message::{Bye, ByeCode, Message},
};
use serde_json::{Value as Json, json};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Names the file for figures; with it attacks take longer.
const FIGURES: &str = "REJOIN_ATTACKS";
/// How long an attack goes on, where its figures count and where they do not.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);
/// Writes in peace, before: as many as their 99th percentile takes.
const CALM_WRITES: usize = 100;
/// People do not write faster.
const BETWEEN_WRITES: Duration = Duration::from_millis(5);
/// How much memory an attack may cost.
const GROWTH_MAX_KIB: u64 = 64 << 10;

/// `eve` has a right to what the others work on, and to spaces of her own.
const TOKENS: &str = "
[[tokens]]
token = 'of-ada'
principal = 'ada'
spaces = [{ space = 'demo', write = true }]
[[tokens]]
token = 'of-bob'
principal = 'bob'
spaces = [{ space = 'demo', write = true }]
[[tokens]]
token = 'of-eve'
principal = 'eve'
spaces = [{ space = 'demo', write = true }, { space = 'eve-*', write = true }]
";

/// What attackers know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    until: Instant,
}

impl Target {
    /// Whether the attack is to go on.
    pub(super) fn stands(&self) -> bool {
        Instant::now() < self.until
    }

    /// A client of `eve`, which has not said anything yet.
    pub(super) fn eve(name: u16) -> Client {
        let mut eve = Client::new("demo", 9);
        let mut replica = [9; 16];
        replica[..2].copy_from_slice(&name.to_be_bytes());
        eve.replica = ReplicaId::from_bytes(replica);
        eve.token = Some("of-eve".to_owned());
        eve
    }

    /// One that is welcomed and asks for nothing.
    pub(super) async fn idle_eve(&self, name: u16) -> Result<Client, Ended> {
        let mut eve = Self::eve(name);
        eve.pattern = None;
        eve.join(self.address).await.map(|_welcome| eve)
    }
}

/// Where figures are wanted.
pub(super) fn figures() -> Option<PathBuf> {
    std::env::var_os(FIGURES).map(PathBuf::from)
}

/// Writes a line of them, if they are.
pub(super) fn tell(line: &Json) {
    if let Some(path) = figures() {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Whether somebody was told to come later, and when.
pub(super) fn is_later(bye: &Bye) -> bool {
    bye.code == ByeCode::Busy && bye.retry_after.is_some()
}

/// The two who work.
struct Healthy {
    writer: Client,
    reader: Client,
    written: Vec<RecordKey>,
}

impl Healthy {
    async fn join(address: SocketAddr) -> Self {
        let join = async |name: u8, token: &str| {
            let mut client = Client::new("demo", name);
            client.token = Some(token.to_owned());
            client.pattern = Some(Pattern::parse("tasks").unwrap());
            client.join(address).await.unwrap();
            client
        };
        let (writer, reader) = (join(1, "of-ada").await, join(2, "of-bob").await);
        Self { writer, reader, written: Vec::new() }
    }

    /// Writes a record, and has it read: how long the acknowledgement took.
    async fn write(&mut self) -> Duration {
        sleep(BETWEEN_WRITES).await;
        let id = format!("healthy-{}", self.written.len());
        let began = Instant::now();
        self.writer.push(&id, "kept").await.expect("the writer is served");
        self.writer.settle().await.expect("the writer is served");
        let took = began.elapsed();
        let key = key(&id);
        // Who says nothing for long is given up, however much is sent to it.
        let ping = Message::Ping { nonce: self.written.len() as u64 };
        self.reader.say(&ping).await.expect("the reader is served");
        while !self.reader.base.contains_key(&key) {
            let message = self.reader.next().await.expect("the reader is served");
            self.reader.take_in(message).expect("the reader is served");
        }
        self.written.push(key);
        took
    }
}

/// A server with the two at work.
pub(super) struct Siege {
    process: Process,
    healthy: Healthy,
    _directory: Directory,
}

impl Siege {
    /// Starts a server with these arguments.
    pub(super) async fn of(arguments: &[&str]) -> Self {
        rlimit::increase_nofile_limit(u64::MAX).expect("files may be opened");
        let directory = Directory::new();
        let tokens = directory.file("tokens.toml", TOKENS);
        let mut all = vec!["--auth", "tokens", "--tokens", tokens.to_str().unwrap()];
        all.extend(["--metrics", "on"]);
        // All come from one address here, as behind a proxy: what is of an address is not what protects.
        all.extend(["--address-requests-per-second", "1000000"]);
        all.extend(["--address-connections-per-minute", "1000000"]);
        all.extend(arguments);
        let process = Process::start_with(&directory.path().join("data"), &all);
        let healthy = Healthy::join(process.address).await;
        Self { process, healthy, _directory: directory }
    }

    /// Has the two work in peace, and then until the attack is over.
    pub(super) async fn under<T, F>(mut self, name: &str, attack: impl FnOnce(Target) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut calm = Vec::new();
        for _ in 0..CALM_WRITES {
            calm.push(self.healthy.write().await);
        }
        let before = self.process.rss_kib();
        let last = if figures().is_some() { LONG } else { SHORT };
        let target = Target { address: self.process.address, until: Instant::now() + last };
        let attack = tokio::spawn(attack(target));
        let (mut most, mut under) = (before, Vec::new());
        while !attack.is_finished() || under.is_empty() {
            under.push(self.healthy.write().await);
            most = most.max(self.process.rss_kib());
        }
        let came = attack.await.expect("the attack is as it should be");
        let grown = most.saturating_sub(before);
        assert!(grown <= GROWTH_MAX_KIB, "{name}: {grown} KiB more than {before} KiB");
        self.all_is_there().await;
        tell(&json!({
            "attack": name,
            "writes": under.len(),
            "calm_p99_ms": p99_ms(calm),
            "p99_ms": p99_ms(under),
            "grown_kib": grown,
        }));
        came
    }

    /// A newcomer finds all that was acknowledged.
    async fn all_is_there(&self) {
        let mut newcomer = Client::new("demo", 3);
        newcomer.token = Some("of-ada".to_owned());
        newcomer.pattern = Some(Pattern::parse("tasks").unwrap());
        // The attack may just have used up what connections there are.
        let joined = timeout(PATIENCE, async {
            while newcomer.join(self.process.address).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        joined.await.expect("a newcomer is served soon");
        newcomer.hold(self.healthy.written.len()).await.expect("the newcomer is served");
        let written = &self.healthy.written;
        assert!(written.iter().all(|key| newcomer.base.contains_key(key)), "something is lost");
    }
}

fn p99_ms(mut latencies: Vec<Duration>) -> f64 {
    latencies.sort_unstable();
    let at = (latencies.len() * 99).div_ceil(100).saturating_sub(1);
    latencies[at].as_secs_f64() * 1_000.0
}

/// The same text each time, which no coding makes much smaller.
pub(super) fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state >> 58).unwrap())
    };
    (0..bytes).map(letter).collect()
}

/// A space of `eve`'s own.
pub(super) fn own_space(number: usize) -> SpaceId {
    SpaceId::parse(&format!("eve-{number}")).unwrap()
}

impl Process {
    /// How much of its memory is in use.
    fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
