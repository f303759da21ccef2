//! A session cut behind any of its bytes, dribbled, or answered by somebody else: it is taken up again, and each
//! batch counts once.

use super::proxy::{Proxy, Trouble};
use crate::{
    Extent,
    report::{Bar, Report, say},
    scratch,
    script::Seen,
    seeds,
    server::{PATIENCE, Program, Server},
    writers::{Verdict, Writer, look_in},
};
use anyhow::{Context, ensure};
use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};
use tokio::time::{sleep, timeout};

/// Batches of the session: of some kinds, and such that a session has all messages of a first meeting.
const BATCHES: u64 = 4;

/// Every byte, or an even sample of so many; each kind of garbage; a byte at a time.
pub(crate) fn suite(
    extent: Extent,
    program: &Program,
    sample: Option<usize>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let data = scratch::in_memory()?;
    let server = Server::boot(&mut program.command(data.path()))?;
    let address = server.address;
    let (up, down) =
        run(p03_p16_p18_a_session_cut_or_in_trouble_goes_on(address, "whole", Trouble::None))?;
    let cuts = (0..=up).map(Trouble::CutUp).chain((0..=down).map(Trouble::CutDown));
    let cuts: Vec<Trouble> = cuts.collect();
    let cuts = seeds::sample(cuts, extent.seed, sample)?.into_iter();
    let others =
        garbage().into_iter().map(Trouble::Answer).chain([Trouble::Dribble, Trouble::Reset]);
    let troubles: Vec<Trouble> = cuts.chain(others).collect();
    let meet = |at: u64, faults: &mut usize| {
        let trouble = usize::try_from(at).ok().and_then(|at| troubles.get(at));
        let Some(trouble) = trouble else { return };
        let space = format!("trouble{at}");
        let went =
            p03_p16_p18_a_session_cut_or_in_trouble_goes_on(address, &space, trouble.clone());
        if let Err(fault) = run(went) {
            *faults += 1;
            say(format!("{trouble:?}: {fault:#}"));
        }
    };
    let all = Extent { budget: None, seed: 0 };
    let count = u64::try_from(troubles.len())?;
    let (_, faults) = seeds::each(all, count, meet, |sum, more| *sum += more);
    ensure!(server.errors().is_empty(), "{:?}", server.errors());
    report.count("partitions.troubles", troubles.len(), "sessions", Bar::AtLeast(1.0))?;
    report.count("partitions.trouble_faults", faults, "sessions", Bar::Exactly(0.0))
}

fn run<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Bytes that went up and down.
async fn p03_p16_p18_a_session_cut_or_in_trouble_goes_on(
    server: SocketAddr,
    space: &str,
    trouble: Trouble,
) -> anyhow::Result<(u64, u64)> {
    let directory = scratch::in_memory()?;
    let proxy = Proxy::new(server, trouble).await?;
    let url = format!("ws://{}/sync", proxy.address);
    let writer = Writer::open_in(space, 1, directory.path(), url).await?;
    for _ in 0..BATCHES {
        writer.write().await?;
    }
    let comes_back = async {
        while !writer.client.is_synced() {
            // Nobody waits for a pause here: it is the cut that is tested, not the delay behind it.
            writer.client.online();
            let changed = timeout(Duration::from_millis(20), writer.client.changed());
            changed.await.ok();
        }
    };
    timeout(PATIENCE, comes_back).await.context("stuck")?;
    let passed =
        (proxy.passed.up.load(Ordering::Relaxed), proxy.passed.down.load(Ordering::Relaxed));
    // What the server has, as somebody sees it who comes another way.
    let seen = look_in(space, format!("ws://{server}/sync"), directory.path()).await?;
    let verdict = Verdict::of(&seen, &[writer.promise()]);
    ensure!(verdict.faults.is_empty(), "{}", verdict.faults.join("; "));
    ensure!(seen.mark(1) == BATCHES, "{} of {BATCHES}", seen.mark(1));
    ensure!(Seen::of(&writer.client)? == seen, "they differ");
    writer.client.close().await?;
    sleep(Duration::ZERO).await;
    Ok(passed)
}

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
