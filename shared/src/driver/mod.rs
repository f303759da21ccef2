//! The loop that joins an engine to its ports, and the supervisor that keeps it connected.
//!
//! One future per engine; the platform spawns it. Whoever else holds the engine feeds it inputs through
//! [`EngineCell`] and rings the [`Bell`]; the loop carries out what comes of it. Absent: executors,
//! spawning, platform types.

mod backoff;

pub use backoff::Backoff;

use crate::{
    id::{Incarnation, ReplicaId},
    io::{Answer, Batch, CommitOutcome, FaultClass, Query, Ticket},
    port::{Clock, Dialer, Entropy, Fault, Frame, FrameSink, FrameStream, MaybeSend, Store},
    protocol::{
        engine::{Engine, Input, Notice, Output, Receipt, WishError},
        limits::{FRAME_BYTES_MAX, HANDSHAKE_WITHIN, PART_BYTES},
        wire::{BadLine, Chain},
    },
    time::{Millis, MonoMillis},
};
use alloc::{collections::VecDeque, vec::Vec};
use core::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

/// Frames that may wait for the socket before nothing more is read: more than the parts of all that an engine says
/// without an answer, rows and what it brings back. Who heard nothing until these have left would take the peer for
/// dead; what comes beyond them are answers to a peer that asks without listening.
const SENDING_FRAMES_MAX: usize = 8 * FRAME_BYTES_MAX / PART_BYTES;

/// Shares an engine between the loop and those who ask it.
pub trait EngineCell: MaybeSend {
    /// Runs `with` on the engine; never across an await.
    fn with<T>(&self, with: impl FnOnce(&mut Engine) -> T) -> T;
}

/// Wakes the loop after an input was fed from outside, and tells it what the network does.
pub trait Bell: MaybeSend {
    /// Resolves once the bell was rung since the last call. Cancel safe: no ring is lost.
    fn rung(&mut self) -> impl Future<Output = Ring> + MaybeSend;
}

/// Why the bell was rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// An input was fed.
    Fed,
    /// The network may be back: dial at once.
    Online,
    /// The app wants no connection for now.
    Pause,
    /// The app wants a connection again.
    Resume,
    /// The loop is to end.
    Stop,
}

/// Takes what comes out of the engine for the app.
pub trait Listener: MaybeSend {
    /// A wish is done.
    fn done(&mut self, id: u64, result: Result<Receipt, WishError>);
    /// Something the app may want to know.
    fn notice(&mut self, notice: Notice);
}

enum Effect {
    Query(Ticket, Vec<Query>),
    Commit(Ticket, Batch),
}

enum Done {
    Answered(Ticket, Result<Vec<Answer>, FaultClass>),
    Committed(Ticket, Result<CommitOutcome, FaultClass>),
}

async fn perform<S: Store>(store: &S, effect: Effect) -> Done {
    match effect {
        Effect::Query(ticket, queries) => {
            let result = store.read(&queries).await;
            Done::Answered(ticket, result.map_err(|error| error.class()))
        }
        Effect::Commit(ticket, batch) => {
            let result = store.commit(batch).await;
            Done::Committed(ticket, result.map_err(|error| error.class()))
        }
    }
}

async fn send<K: FrameSink>(mut sink: K, frame: Frame) -> (K, Result<(), K::Error>) {
    let result = sink.send(frame).await;
    (sink, result)
}

async fn end<K: FrameSink>(mut sink: K, last: VecDeque<Frame>) {
    for frame in last {
        if sink.send(frame).await.is_err() {
            return;
        }
    }
    // A sink that cannot even be closed is as gone as one that is.
    drop(sink.close().await);
}

/// What a turn of the loop woke up for.
enum Wake<D: Dialer> {
    Store(Done),
    Rung(Ring),
    Dialed(Result<(D::Sink, D::Stream), D::Error>),
    Sent(D::Sink, bool),
    Received(Option<Frame>),
    Closed,
    Deadline,
}

/// How the connection stands.
enum Line<D: Dialer> {
    Down { dial_at: Option<MonoMillis> },
    Dialing,
    Up { stream: D::Stream, sink: Option<D::Sink>, sending: VecDeque<Frame>, chains: Chains },
}

/// Both ways of a connection.
struct Chains {
    sent: Chain,
    received: Chain,
}

impl Chains {
    const fn new() -> Self {
        Self { sent: Chain::of_initiator(), received: Chain::of_responder() }
    }
}

/// The ports of an engine.
#[derive(Debug)]
pub struct Ports<'a, S, D, C> {
    /// Keeps pages and log.
    pub store: &'a S,
    /// Opens connections; `None` for a replica that stays alone.
    pub dialer: Option<&'a D>,
    /// Reads time.
    pub clock: &'a C,
}

/// Runs an engine until the bell says stop. On stop the connection is closed and the store operation
/// under way is finished first.
#[expect(clippy::too_many_lines, reason = "one loop over pinned futures: a table of wakes")]
pub async fn drive<S, D, C>(
    engine: &impl EngineCell,
    ports: Ports<'_, S, D, C>,
    entropy: &mut impl Entropy,
    bell: &mut impl Bell,
    listener: &mut impl Listener,
) where
    S: Store,
    D: Dialer,
    C: Clock,
{
    let Ports { store, dialer, clock } = ports;
    let mut operation = pin!(None);
    let mut dialing = pin!(None);
    let mut sending_one = pin!(None);
    let mut closing = pin!(None);
    let mut supervisor = Supervisor { backoff: Backoff::default(), paused: false, stopping: false };
    let mut line: Line<D> = Line::Down { dial_at: Some(clock.now().mono) };
    let mut dialed_at = clock.now().mono;
    loop {
        // What the engine wants done, in order.
        while let Some(output) = engine.with(Engine::poll) {
            match output {
                Output::Query { ticket, queries } => {
                    operation.set(Some(perform(store, Effect::Query(ticket, queries))));
                }
                Output::Commit { ticket, batch } => {
                    operation.set(Some(perform(store, Effect::Commit(ticket, batch))));
                }
                Output::Send(bytes) => {
                    if let Line::Up { sending, chains, .. } = &mut line {
                        sending.push_back(Frame(chains.sent.seal(bytes)));
                    }
                }
                Output::Close { retry_after, was_live } => {
                    if was_live {
                        supervisor.backoff.reset();
                    }
                    if matches!(line, Line::Up { .. } | Line::Dialing) {
                        let dial_at = supervisor.again_at(clock, entropy, retry_after);
                        let was = core::mem::replace(&mut line, Line::Down { dial_at });
                        if let Line::Up { sink: Some(sink), sending, .. } = was {
                            closing.set(Some(end(sink, sending)));
                        }
                    }
                }
                Output::Done { id, result } => listener.done(id, result),
                Output::Notice(notice) => listener.notice(notice),
            }
        }
        if supervisor.stopping && operation.is_none() && closing.is_none() {
            return;
        }
        let wanted = dialer.is_some() && !supervisor.paused && !supervisor.stopping;
        let wants = wanted && engine.with(|engine| engine.wants_connection());
        if let (Line::Down { dial_at: Some(at) }, Some(dialer), true) = (&line, dialer, wants)
            && *at <= clock.now().mono
        {
            dialing.set(Some(dialer.dial()));
            dialed_at = clock.now().mono;
            line = Line::Dialing;
        }
        if let Line::Up { sink, sending, .. } = &mut line
            && sending_one.is_none()
            && let Some(frame) = sending.pop_front()
        {
            match sink.take() {
                Some(sink) => sending_one.set(Some(send(sink, frame))),
                None => sending.push_front(frame),
            }
        }
        let congested = engine.with(|engine| engine.is_congested());
        let deadline = earliest(&line, wants, engine.with(|engine| engine.deadline()));
        let wake: Wake<D> = {
            let mut rung = pin!(bell.rung());
            let mut deadline = pin!(sleep(clock, deadline));
            let stream = match &mut line {
                Line::Up { stream, sending, .. }
                    if !congested && sending.len() < SENDING_FRAMES_MAX =>
                {
                    Some(stream)
                }
                Line::Up { .. } | Line::Down { .. } | Line::Dialing => None,
            };
            let mut received = pin!(stream.map(|stream| stream.recv()));
            poll_fn(|context| {
                if let Poll::Ready(done) = poll_option(operation.as_mut(), context) {
                    return Poll::Ready(Wake::Store(done));
                }
                if let Poll::Ready(ring) = rung.as_mut().poll(context) {
                    return Poll::Ready(Wake::Rung(ring));
                }
                if let Poll::Ready((sink, result)) = poll_option(sending_one.as_mut(), context) {
                    return Poll::Ready(Wake::Sent(sink, result.is_ok()));
                }
                if let Poll::Ready(dialed) = poll_option(dialing.as_mut(), context) {
                    return Poll::Ready(Wake::Dialed(dialed));
                }
                if let Poll::Ready(frame) = poll_option(received.as_mut(), context) {
                    return Poll::Ready(Wake::Received(frame.ok().flatten()));
                }
                if let Poll::Ready(()) = poll_option(closing.as_mut(), context) {
                    return Poll::Ready(Wake::Closed);
                }
                deadline.as_mut().poll(context).map(|()| Wake::Deadline)
            })
            .await
        };
        let now = clock.now();
        match wake {
            Wake::Store(done) => {
                operation.set(None);
                let input = match done {
                    Done::Answered(ticket, result) => Input::Answered { ticket, result },
                    Done::Committed(ticket, result) => Input::Committed { ticket, result },
                };
                engine.with(|engine| engine.handle(now, input));
            }
            Wake::Rung(ring) => {
                supervisor.ring(ring);
                let down = matches!(ring, Ring::Pause | Ring::Stop);
                if let (true, Line::Up { .. } | Line::Dialing) = (down, &line) {
                    dialing.set(None);
                    let was = core::mem::replace(&mut line, Line::Down { dial_at: None });
                    if let Line::Up { sink: Some(sink), .. } = was {
                        closing.set(Some(end(sink, VecDeque::new())));
                    }
                    engine.with(|engine| engine.handle(now, Input::Disconnected));
                }
                if let (Ring::Online | Ring::Resume, Line::Down { dial_at }) = (ring, &mut line) {
                    *dial_at = Some(now.mono);
                }
                engine.with(|engine| engine.handle(now, Input::Deadline));
            }
            Wake::Dialed(Ok((sink, stream))) => {
                dialing.set(None);
                supervisor.backoff.is_answered();
                // A frame that the connection before this one has not sent yet will not be sent.
                sending_one.set(None);
                let (sending, chains) = (VecDeque::new(), Chains::new());
                line = Line::Up { stream, sink: Some(sink), sending, chains };
                let input = connected(entropy);
                engine.with(|engine| engine.handle(now, input));
            }
            Wake::Dialed(Err(_)) => {
                dialing.set(None);
                let took = now.mono.since(dialed_at);
                line = Line::Down { dial_at: supervisor.failed_at(now.mono, took, entropy) };
            }
            Wake::Sent(sink, true) => {
                sending_one.set(None);
                match &mut line {
                    Line::Up { sink: place, .. } => *place = Some(sink),
                    // The connection was given up while its last frame was on the way.
                    Line::Down { .. } | Line::Dialing => {
                        closing.set(Some(end(sink, VecDeque::new())));
                    }
                }
            }
            Wake::Received(Some(Frame(mut bytes))) => {
                if let Line::Up { chains, .. } = &mut line {
                    let opened = chains.received.open(&bytes).map(<[u8]>::len);
                    let input = match opened {
                        Ok(len) => {
                            bytes.truncate(len);
                            Input::Frame(bytes)
                        }
                        Err(BadLine) => Input::BadLine,
                    };
                    engine.with(|engine| engine.handle(now, input));
                }
            }
            Wake::Sent(_, false) | Wake::Received(None) => {
                sending_one.set(None);
                if let Line::Up { .. } = line {
                    if engine.with(|engine| engine.was_live()) {
                        supervisor.backoff.reset();
                    }
                    line = Line::Down { dial_at: supervisor.again_at(clock, entropy, None) };
                    engine.with(|engine| engine.handle(now, Input::Disconnected));
                }
            }
            Wake::Closed => closing.set(None),
            Wake::Deadline => engine.with(|engine| engine.handle(now, Input::Deadline)),
        }
    }
}

struct Supervisor {
    backoff: Backoff,
    paused: bool,
    stopping: bool,
}

impl Supervisor {
    fn ring(&mut self, ring: Ring) {
        match ring {
            Ring::Pause => self.paused = true,
            Ring::Resume => self.paused = false,
            Ring::Stop => self.stopping = true,
            Ring::Fed | Ring::Online => {}
        }
        if matches!(ring, Ring::Online | Ring::Resume) {
            self.backoff.reset();
        }
    }

    /// When to dial again after an attempt that failed and took so long.
    fn failed_at(
        &mut self,
        now: MonoMillis,
        took: Millis,
        entropy: &mut impl Entropy,
    ) -> Option<MonoMillis> {
        let random = random(entropy);
        if took >= SILENT_FROM {
            return Some(now + self.backoff.after_silence(random));
        }
        self.backoff.is_answered();
        Some(now + self.backoff.after(None, random))
    }

    fn again_at(
        &mut self,
        clock: &impl Clock,
        entropy: &mut impl Entropy,
        retry_after: Option<Millis>,
    ) -> Option<MonoMillis> {
        let delay = self.backoff.after(retry_after, random(entropy));
        Some(clock.now().mono + delay)
    }
}

fn earliest<D: Dialer>(
    line: &Line<D>,
    wants: bool,
    deadline: Option<MonoMillis>,
) -> Option<MonoMillis> {
    match line {
        Line::Down { dial_at: Some(at) } if wants => {
            Some(deadline.map_or(*at, |deadline| deadline.min(*at)))
        }
        Line::Down { .. } | Line::Dialing | Line::Up { .. } => deadline,
    }
}

async fn sleep(clock: &impl Clock, deadline: Option<MonoMillis>) {
    match deadline {
        Some(deadline) => clock.sleep_until(deadline).await,
        None => core::future::pending().await,
    }
}

fn random(entropy: &mut impl Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

fn connected(entropy: &mut impl Entropy) -> Input {
    let mut incarnation = [0; 16];
    let mut fresh = [0; 16];
    entropy.fill(&mut incarnation);
    entropy.fill(&mut fresh);
    Input::Connected {
        incarnation: Incarnation::from_bytes(incarnation),
        fresh: ReplicaId::from_bytes(fresh),
        salt: random(entropy),
    }
}

fn poll_option<F: Future>(
    future: Pin<&mut Option<F>>,
    context: &mut Context<'_>,
) -> Poll<F::Output> {
    match future.as_pin_mut() {
        Some(future) => future.poll(context),
        None => Poll::Pending,
    }
}

/// How long a dialler should give one attempt.
pub const DIAL_WITHIN: Millis = HANDSHAKE_WITHIN;

/// An attempt that fails behind this was answered by nobody: a refusal comes sooner, and a network that finds nobody at
/// an address says so after some three seconds.
const SILENT_FROM: Millis = Millis(DIAL_WITHIN.0 / 2);
