//! A connection, whatever carries its frames: the chain of checks, what is read and written, how it ends.
//!
//! Invariant: what one connection can make the process hold is bounded: one frame in, one part of a message on its way
//! out, and its queue. Absent: sockets and requests (`ws`, `posts`), what frames mean.

use crate::{
    census::Principals,
    clock,
    connection::{Connection, Violation},
    hub::{Outgoing, Route, ToHub},
    hubs::Hubs,
    metrics::Metrics,
    outgoing::Item,
    pace::Pace,
    rates::Limiter,
};
use hyper::body::Bytes;
use rejoin_core::{
    protocol::{
        limits::PART_BYTES,
        message::ByeCode,
        wire::{self, BadLine, Chain},
    },
    time::Millis,
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::warn;

/// From this size on a message is deflated on a thread for what takes long.
const DEFLATED_APART_BYTES_MIN: usize = 8 << 10;
/// How long the last words, and then the peer's, are waited for.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// What every connection needs.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) hubs: Arc<Hubs>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) principals: Arc<Principals>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) origins: Arc<[String]>,
    pub(crate) frame_bytes_max: usize,
    pub(crate) opening_max: Duration,
    pub(crate) stall_max: Duration,
    /// Becomes true when the process ends.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The peer closed it, or it broke.
    Gone,
    /// It said or did what it must not.
    Violated(Violation),
    /// In order: nothing is open any more.
    Over,
    /// It takes nothing any more.
    Stalled,
}

/// What was heard of a peer.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame, with its check.
    Frame(Bytes),
    /// What says nothing, and takes time all the same.
    Nothing,
    Ended(Ending),
}

impl Heard {
    pub(crate) const fn violation(code: ByeCode, reason: &'static str) -> Self {
        Self::Ended(Ending::violated(code, reason))
    }
}

impl Ending {
    const fn violated(code: ByeCode, reason: &'static str) -> Self {
        Self::Violated(Violation { channel: None, code, reason })
    }
}

/// Brings what a peer says.
pub(crate) trait Ear: Send {
    /// The next of it. Cancel safe.
    fn hear(&mut self) -> impl Future<Output = Heard> + Send;
}

/// Takes what a peer is told.
pub(crate) trait Mouth: Send {
    /// Resolves once there is room for more; to `false` when nothing is taken any more.
    fn say(&mut self, sealed: Vec<u8>) -> impl Future<Output = bool> + Send;
}

/// Serves a connection to its end. Its last words have left then, or were given up.
pub(crate) async fn serve(
    ear: &mut impl Ear,
    mouth: &mut impl Mouth,
    gate: &Gate,
    address: IpAddr,
) -> Ending {
    let outgoing = Arc::new(Outgoing::default());
    let mut connection = open(gate, &outgoing, address);
    let mut stopping = gate.stopping.clone();
    let (opening_max, stall_max) = (Millis(clock::millis(gate.opening_max)), gate.stall_max);
    let ending = {
        let metrics = &*gate.metrics;
        let writing = write(mouth, &outgoing, stall_max, metrics);
        tokio::pin!(writing);
        let ending = tokio::select! {
            ending = read(
                ear, &mut connection, &outgoing, opening_max, &mut stopping, metrics,
            ) => ending,
            ending = &mut writing => ending,
        };
        if let Ending::Violated(violation) = &ending {
            connection.say(violation);
        }
        if matches!(ending, Ending::Stalled) {
            warn!(seconds = stall_max.as_secs(), "a client takes nothing, cut");
        }
        outgoing.end();
        if matches!(ending, Ending::Violated(_) | Ending::Over) {
            // Late last words are no reason to keep a connection.
            timeout(FAREWELL, writing).await.ok();
        }
        ending
    };
    connection.leave().await;
    ending
}

/// Boxed: it is not moved about with what waits for it.
fn open(gate: &Gate, outgoing: &Arc<Outgoing>, address: IpAddr) -> Box<Connection> {
    let pace = Pace::new(Arc::clone(&gate.limiter));
    let (hubs, outgoing) = (Arc::clone(&gate.hubs), Arc::clone(outgoing));
    let principals = Arc::clone(&gate.principals);
    Box::new(Connection::new(hubs, outgoing, pace, principals, address))
}

async fn read(
    ear: &mut impl Ear,
    connection: &mut Connection,
    outgoing: &Outgoing,
    opening_max: Millis,
    stopping: &mut watch::Receiver<bool>,
    metrics: &Metrics,
) -> Ending {
    let mut chain = Chain::of_initiator();
    loop {
        let idle_since = connection.idle_since();
        if idle_since.is_some() && *stopping.borrow() {
            return Ending::Over;
        }
        let patience = idle_since.map(|since| clock::until(since + opening_max));
        tokio::select! {
            heard = ear.hear() => match heard {
                Heard::Frame(sealed) => {
                    metrics.frames_received.inc();
                    metrics.received_bytes.inc_by(sealed.len() as u64);
                    let Ok(frame) = chain.open(&sealed) else {
                        return Ending::violated(ByeCode::BadLine, BadLine::REASON);
                    };
                    // Boxed: a connection that is idle has no room for a message that is on its way.
                    if let Err(violation) = Box::pin(connection.take_in(frame)).await {
                        return Ending::Violated(violation);
                    }
                }
                Heard::Nothing => {
                    if let Err(violation) = Box::pin(connection.pace(1)).await {
                        return Ending::Violated(violation);
                    }
                }
                Heard::Ended(ending) => return ending,
            },
            () = outgoing.wait_closed() => connection.forget_closed(),
            () = sleep(patience.unwrap_or_default()), if patience.is_some() => {
                // A wait that ended a little early goes on.
                if patience == Some(Duration::ZERO) {
                    let reason = "no channel is open";
                    return Ending::violated(ByeCode::Misbehaved, reason);
                }
            }
            stopped = stopping.changed() => {
                if stopped.is_err() {
                    return Ending::Over;
                }
            }
        }
    }
}

/// Writes what waits until the queue ends, telling hubs of their messages' progress.
async fn write(
    mouth: &mut impl Mouth,
    outgoing: &Outgoing,
    stall_max: Duration,
    metrics: &Metrics,
) -> Ending {
    let mut chain = Chain::of_responder();
    while let Some(item) = outgoing.next().await {
        let since = item.since;
        match write_item(mouth, outgoing, item, &mut chain, stall_max, metrics).await {
            Ok(()) => {
                let waited = clock::read().mono.since(since);
                metrics.delivered(Duration::from_millis(waited.0));
            }
            Err(ending) => return ending,
        }
    }
    Ending::Gone
}

async fn write_item(
    mouth: &mut impl Mouth,
    outgoing: &Outgoing,
    item: Item<Route>,
    chain: &mut Chain,
    stall_max: Duration,
    metrics: &Metrics,
) -> Result<(), Ending> {
    let Item { channel, bytes, route, .. } = item;
    let mut whole = bytes.len();
    let message = deflated(bytes).await;
    let mut frames = wire::frames(channel, &message).peekable();
    while let Some(frame) = frames.next() {
        if outgoing.is_severed() {
            return Err(Ending::Gone);
        }
        let sealed = chain.seal(frame);
        let bytes = sealed.len() as u64;
        match timeout(stall_max, mouth.say(sealed)).await {
            Err(_elapsed) => return Err(Ending::Stalled),
            Ok(false) => return Err(Ending::Gone),
            Ok(true) => {}
        }
        metrics.frames_sent.inc();
        metrics.sent_bytes.inc_by(bytes);
        if let Some(route) = &route {
            // Hubs count what they gave, not what deflating has left of it.
            let taken = if frames.peek().is_some() { whole.min(PART_BYTES) } else { whole };
            whole -= taken;
            // A hub that is gone no longer counts.
            route.tell(ToHub::Sent { peer: route.peer, bytes: taken }).await;
        }
    }
    Ok(())
}

/// A message as it is sent. Deflating takes long for a task that shares its thread: it gets one of its own.
async fn deflated(bytes: Arc<[u8]>) -> Arc<[u8]> {
    if bytes.len() < DEFLATED_APART_BYTES_MIN {
        return wire::deflated(&bytes).map_or(bytes, Arc::from);
    }
    let given = Arc::clone(&bytes);
    let deflating = spawn_blocking(move || wire::deflated(&given));
    deflating.await.ok().flatten().map_or(bytes, Arc::from)
}
