//! How long one change takes until each of many has it: stored and told, beside a server that only echoes.

use crate::{
    Options,
    channel::{Channel, dial, replica},
    peers,
    program::Program,
    report::{Bar, Report, median, quantile},
    rows::Rows,
};
use anyhow::Context;
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use rejoin_core::protocol::{
    message::{Message, Push},
    wire,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message as Frame;

/// Changes of each round, and the time from one to the next: a server that is asked too much is another figure.
const CHANGES: usize = 30;
const PAUSE: Duration = Duration::from_millis(200);
/// Connections that are made at a time.
const AT_A_TIME: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);
/// Beside what an echo takes.
const RATIO_MAX: f64 = 3.0;

pub(crate) async fn measure(
    folder: &Path,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let receivers = options.receivers;
    let (mut ours, mut least, mut yjs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let server = Program::rejoin(folder)?;
        ours.push(rejoin(&server, receivers).await.context("rejoin")?);
        drop(server);
        let server = Program::echo()?;
        let url = format!("ws://{}/sync", server.address);
        let changes = vec![vec![7; 400]; CHANGES];
        least.push(relayed(&url, receivers, changes).await.context("echo")?);
        drop(server);
        if !options.no_peers
            && let Some(server) = peers::y_websocket(CHANGES).await?
        {
            let changes = server.changes.clone();
            yjs.push(relayed(&server.url, receivers, changes).await.context("y-websocket")?);
        }
    }
    let at = |part: f64, of: &mut Vec<Vec<f64>>| {
        let mut each: Vec<f64> = of.iter_mut().map(|round| quantile(round, part)).collect();
        median(&mut each)
    };
    for (name, part, bar) in [("p50", 0.5, None), ("p99", 0.99, Some(Bar::AtMost(RATIO_MAX)))] {
        let (value, limit) = (at(part, &mut ours), at(part, &mut least));
        report.compare(&format!("fanout.{receivers}.{name}"), value, "ms", limit, bar);
        if !yjs.is_empty() {
            let metric = format!("fanout.{receivers}.y-websocket.{name}");
            report.compare(&metric, at(part, &mut yjs), "ms", limit, None);
        }
    }
    Ok(())
}

/// When each of the receivers had something new.
struct Arrivals {
    came: UnboundedReceiver<Instant>,
    receivers: usize,
}

impl Arrivals {
    fn of(receivers: u32) -> anyhow::Result<(UnboundedSender<Instant>, Self)> {
        let (tell, came) = unbounded_channel();
        Ok((tell, Self { came, receivers: usize::try_from(receivers)? }))
    }

    /// Milliseconds since `sent` until each of them had it.
    async fn all(&mut self, sent: Instant) -> anyhow::Result<Vec<f64>> {
        let mut took = Vec::with_capacity(self.receivers);
        while took.len() < self.receivers {
            let came = timeout(PATIENCE, self.came.recv()).await.context("not told in time")?;
            let came = came.context("nobody listens any more")?;
            took.push(came.saturating_duration_since(sent).as_secs_f64() * 1_000.0);
        }
        Ok(took)
    }
}

async fn rejoin(server: &Program, receivers: u32) -> anyhow::Result<Vec<f64>> {
    let (tell, mut arrivals) = Arrivals::of(receivers)?;
    let opening = stream::iter(1..=receivers)
        .map(|number| Channel::open(server.address, "bench", replica(number), true));
    let opened: Vec<Channel> = opening.buffer_unordered(AT_A_TIME).try_collect().await?;
    for mut channel in opened {
        let tell = tell.clone();
        tokio::spawn(async move {
            while let Ok((message, came)) = channel.next().await {
                let is_new =
                    matches!(&message, Message::Changes(changes) if !changes.entries.is_empty());
                if is_new && tell.send(came).is_err() {
                    return;
                }
            }
        });
    }
    let mut writer = Channel::open(server.address, "bench", replica(0), false).await?;
    let mut rows = Rows::new(replica(0));
    let mut took = Vec::new();
    for _ in 0..CHANGES {
        sleep(PAUSE).await;
        let rows = vec![rows.next()?];
        let sent = Instant::now();
        writer.say(&Message::Push(Push { named: 0, rows })).await?;
        took.extend(arrivals.all(sent).await?);
    }
    Ok(took)
}

/// The same at a server that relays what it is told, to the one who said it, too, or not.
async fn relayed(url: &str, receivers: u32, changes: Vec<Vec<u8>>) -> anyhow::Result<Vec<f64>> {
    let (tell, mut arrivals) = Arrivals::of(receivers)?;
    let opening = stream::iter(0..receivers).map(|_| dial(url, None));
    let opened: Vec<_> = opening.buffer_unordered(AT_A_TIME).try_collect().await?;
    let least = changes.iter().map(Vec::len).min().unwrap_or_default();
    for mut socket in opened {
        let tell = tell.clone();
        // As much as ours check of each frame.
        let mut sent = wire::Chain::of_initiator();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = socket.next().await {
                let came = Instant::now();
                let Frame::Binary(bytes) = frame else { continue };
                // Shorter ones are greetings.
                if bytes.len() >= least {
                    drop(sent.seal(bytes.to_vec()));
                    if tell.send(came).is_err() {
                        return;
                    }
                }
            }
        });
    }
    let mut writer = dial(url, None).await?;
    let mut took = Vec::new();
    for change in changes {
        sleep(PAUSE).await;
        let sent = Instant::now();
        writer.send(Frame::Binary(change.into())).await?;
        took.extend(arrivals.all(sent).await?);
    }
    Ok(took)
}
