//! A session cut behind any of its bytes, reset, held up, slowed, dribbled, or answered by somebody else: it is taken up
//! again, and each batch counts once.

use super::proxy::{Blow, Met, Proxy, Trouble, Way};
use crate::{
    Extent,
    report::{Bar, Report, tell_fault},
    scratch,
    script::Seen,
    seeds,
    server::{PATIENCE, Program, Server},
    writers::{Verdict, Writer, look_in},
};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use rejoin_core::testing::rng::Rng;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Batches of the session: of some kinds, and such that a session has all messages of a first meeting.
const BATCHES: u64 = 4;
/// Sessions without trouble: the shortest says how many bytes there are behind which something can come.
const WHOLE: usize = 5;
/// Troubles of each kind that is drawn: at which byte they come, how long they last, what is said.
const DRAWN: usize = 100;
/// Sessions at a time, of those that do little but wait.
const AT_ONCE: usize = 100;
/// Longest time that one way stands still. It may be longer than a client waits for a word (7 s where the line was in
/// use): what was sent then arrives when its sender has come back another way.
const STALL_MS_MAX: u64 = 15_000;
/// Latency and jitter of slow lines: an answer takes no longer than `ANSWER_WITHIN`, so they are not given up.
const SLOW_MS_MAX: (u64, u64) = (1_000, 500);

/// How often a session is had anew whose trouble did not come, each time that much earlier.
const ANEW: u64 = 8;

/// How often a kind of trouble came.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    struck: usize,
    /// Of so many sessions.
    sessions: usize,
}

/// How often each kind of trouble came, and sessions that it harmed.
#[derive(Debug, Default)]
struct Sum {
    came: BTreeMap<&'static str, Came>,
    faults: usize,
}

impl Sum {
    fn add(&mut self, trouble: &Trouble, went: anyhow::Result<Arc<Met>>) {
        let came = self.came.entry(trouble.kind()).or_default();
        came.sessions += 1;
        match went {
            Ok(met) => came.struck += usize::from(met.struck()),
            Err(fault) => {
                self.faults += 1;
                tell_fault(format!("{trouble:?}: {fault:#}"));
            }
        }
    }

    fn join(&mut self, other: Self) {
        for (kind, more) in other.came {
            let came = self.came.entry(kind).or_default();
            came.struck += more.struck;
            came.sessions += more.sessions;
        }
        self.faults += other.faults;
    }
}

/// Every byte, or an even sample of so many; each kind of garbage; a byte at a time; and what is drawn.
pub(super) fn suite(
    extent: Extent,
    program: &Program,
    sample: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let data = scratch::in_memory()?;
    let server = Server::boot(&mut program.command_for_many(data.path()))?;
    let session = |space: String, trouble: Trouble| in_trouble(server.address, space, trouble);
    let mut passed = (u64::MAX, u64::MAX);
    for at in 0..WHOLE {
        let (up, down) = run(session(format!("whole{at}"), Trouble::None))??.passed();
        passed = (passed.0.min(up), passed.1.min(down));
    }
    let cuts = seeds::sample(cuts(passed), extent.seed, sample)?.into_iter();
    let others = garbage().into_iter().map(Trouble::Answer).chain([Trouble::Dribble]);
    let count = sample.map_or(DRAWN, |sample| sample / 6);
    let drawn = drawn(extent.seed, count, passed);
    let (waiting, busy): (Vec<Trouble>, Vec<Trouble>) =
        cuts.chain(others).chain(drawn).partition(Trouble::waits);
    let planned = u32::try_from(waiting.len() + busy.len())?.into();
    let meet = |at: u64, sum: &mut Sum| {
        let trouble = usize::try_from(at).ok().and_then(|at| busy.get(at));
        let Some(trouble) = trouble else { return };
        let went = run(session(format!("busy{at}"), trouble.clone()));
        sum.add(trouble, went.and_then(|went| went));
    };
    let all = Extent { budget: None, seed: 0 };
    let (_, mut sum) = seeds::each(all, u64::try_from(busy.len())?, meet, Sum::join);
    let wait = waiting.iter().enumerate().map(|(at, trouble)| {
        let went = session(format!("waiting{at}"), trouble.clone());
        async move { (trouble, went.await) }
    });
    for (trouble, went) in run(stream::iter(wait).buffer_unordered(AT_ONCE).collect::<Vec<_>>())? {
        sum.add(trouble, went);
    }
    ensure!(server.errors().is_empty(), "{:?}", server.errors());
    let sessions = sum.came.values().map(|came| came.sessions).sum();
    report.count("partitions.troubles", sessions, "sessions", Bar::Exactly(planned))?;
    for (kind, came) in sum.came {
        let name = format!("partitions.troubles_{kind}");
        let all = Bar::Exactly(u32::try_from(came.sessions)?.into());
        report.count(&name, came.struck, "times", all)?;
    }
    report.count("partitions.trouble_faults", sum.faults, "sessions", Bar::Exactly(0.0))
}

fn run<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// A cut behind each byte of a session in which so many went up and down.
fn cuts((up, down): (u64, u64)) -> Vec<Trouble> {
    let bytes = (0..=up).map(|at| (Way::Up, at)).chain((0..=down).map(|at| (Way::Down, at)));
    bytes.map(|(way, at)| Trouble::Behind(way, at, Blow::Cut)).collect()
}

/// So many troubles of each kind that comes somewhere in such a session.
fn drawn(seed: u64, count: usize, (up, down): (u64, u64)) -> Vec<Trouble> {
    let mut dice = Rng::new(seed);
    let mut troubles = Vec::new();
    for _ in 0..count {
        let words = dice.index(WORDS.len());
        let stall = Duration::from_millis(dice.below(STALL_MS_MAX));
        for blow in [
            Blow::Reset,
            Blow::Stall(stall),
            Blow::Silence,
            Blow::Words(WORDS.get(words).copied().unwrap_or_default().to_vec()),
        ] {
            let (way, bytes) = dice.one_of((Way::Up, up), &[(Way::Down, down)]);
            troubles.push(Trouble::Behind(way, dice.below(bytes), blow));
        }
        let [latency, jitter] =
            [SLOW_MS_MAX.0, SLOW_MS_MAX.1].map(|max| Duration::from_millis(dice.below(max)));
        troubles.push(Trouble::Slow { latency, jitter, seed: dice.below(u64::MAX) });
    }
    troubles
}

/// A session in which the trouble comes: one may take fewer messages than those that were measured, and end before.
async fn in_trouble(
    server: SocketAddr,
    space: String,
    trouble: Trouble,
) -> anyhow::Result<Arc<Met>> {
    let mut anew = 0;
    loop {
        let (space, trouble) = (format!("{space}-{anew}"), trouble.earlier(anew, ANEW));
        let misses = trouble.may_miss();
        let met = p03_p16_p18_a_session_cut_or_in_trouble_goes_on(server, space, trouble).await?;
        if met.struck() || !misses || anew == ANEW {
            return Ok(met);
        }
        anew += 1;
    }
}

/// The writer's batches get through whatever the line does, and each counts once.
async fn p03_p16_p18_a_session_cut_or_in_trouble_goes_on(
    server: SocketAddr,
    space: String,
    trouble: Trouble,
) -> anyhow::Result<Arc<Met>> {
    let directory = scratch::in_memory()?;
    let proxy = Proxy::new(server, trouble.clone()).await?;
    let url = format!("ws://{}/sync", proxy.address);
    let writer = Writer::open_in(&space, 1, directory.path(), url).await?;
    for _ in 0..BATCHES {
        writer.write().await?;
    }
    let comes_back = async {
        while !writer.client.is_synced() {
            if trouble.cuts() {
                // There are too many to wait for the pause behind each.
                writer.client.online();
            }
            let changed = timeout(Duration::from_millis(20), writer.client.changed());
            changed.await.ok();
        }
    };
    timeout(PATIENCE, comes_back).await.context("stuck")?;
    // What the server has, as somebody sees it who comes another way: now, whatever is late on this one.
    let look = async || {
        let seen = look_in(&space, format!("ws://{server}/sync"), directory.path()).await?;
        let verdict = Verdict::of(&seen, &[writer.promise()]);
        ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
        anyhow::Ok(seen)
    };
    let own = Seen::of(&writer.client)?;
    p18_nobody_is_synced_by_what_no_server_has_said(&own, &look().await.context("synced")?)?;
    if matches!(trouble, Trouble::Slow { .. }) {
        ensure!(proxy.met.connections() == 1, "a line that was only slow was given up");
    }
    writer.client.close().await?;
    if trouble.ends() {
        // What is late arrives, and counts no more.
        timeout(PATIENCE, proxy.over()).await.context("a connection is left")?;
        ensure!(own == look().await.context("behind what was late")?, "something came late");
    }
    Ok(Arc::clone(&proxy.met))
}

/// Of a client that says it is synced: at that moment the server has all that was written, and neither has more.
fn p18_nobody_is_synced_by_what_no_server_has_said(
    own: &Seen,
    server: &Seen,
) -> anyhow::Result<()> {
    ensure!(server.mark(1) == BATCHES, "synced, and the server has {}", server.mark(1));
    ensure!(own == server, "synced, and they differ");
    Ok(())
}

/// What somebody says in the middle of a session, to either end: frames of a `WebSocket` (text, binary, an empty one, a
/// close, one that promises far too much) and what is none.
const WORDS: [&[u8]; 7] = [
    b"\x81\x0e<html></html>\r",
    b"\x82\x08\x00\x01\x02\x03\x04\x05\x06\x07",
    b"\x82\x00",
    b"\x88\x02\x03\xe8",
    b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    &[0xff; 512],
];

/// What stands between a client and its server, and answers in its place: twenty kinds.
fn garbage() -> Vec<Vec<u8>> {
    let html = "<html><body>Please log in to the network</body></html>";
    let http = |status: &str, kind: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}");
        format!("{head}\r\n\r\n{body}").into_bytes()
    };
    let upgrade = |head: &str, frames: &[u8]| {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n\r\n");
        [head.as_bytes(), frames].concat()
    };
    let plain = "Upgrade: websocket\r\nConnection: Upgrade";
    let wrong = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA";
    vec![
        Vec::new(),
        http("200 OK", "text/html", html),
        http("200 OK", "application/octet-stream", html),
        http("204 No Content", "text/plain", ""),
        http("302 Found\r\nLocation: http://login.example/", "text/html", html),
        http("400 Bad Request", "text/plain", "no"),
        http("403 Forbidden", "text/html", html),
        http("404 Not Found", "text/html", html),
        http("407 Proxy Authentication Required", "text/html", html),
        http("429 Too Many Requests\r\nRetry-After: 3600", "text/plain", "later"),
        http("502 Bad Gateway", "text/html", html),
        http("503 Service Unavailable\r\nRetry-After: 3600", "text/html", html),
        http("504 Gateway Timeout", "text/html", html),
        upgrade(plain, &[]),
        upgrade(wrong, &[0x82, 1, 0]),
        upgrade("Upgrade: h2c\r\nConnection: Upgrade", &[0; 64]),
        b"HTTP/1.1 200".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        vec![0x15, 3, 1, 0, 2, 2, 40],
        vec![0xff; 4_096],
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn p18_garbage_is_of_twenty_kinds() {
        let kinds: std::collections::BTreeSet<_> = super::garbage().into_iter().collect();
        assert_eq!(kinds.len(), 20);
    }
}
