//! Connections to a server: a WebSocket, or requests that carry the same frames where none gets through.
//!
//! Absent: retries and their delays (the supervisor's), what frames hold.

mod inbox;
mod posts;
mod ws;

use crate::clock::mono;
use core::cell::{Cell, RefCell};
use inbox::Inbox;
use posts::Posts;
use rejoin_core::{
    io::FaultClass,
    port::{Dialer, Fault, Frame, FrameSink, FrameStream},
    time::{Millis, MonoMillis},
};
use std::rc::Rc;
use ws::Socket;

/// Bytes that may wait for the network before a sender waits.
const BUFFERED_BYTES_MAX: u32 = 1 << 20;
/// How often a waiting sender looks again: the browser has no event for it.
const LOOK_AGAIN: Millis = Millis(20);
/// Attempts at a WebSocket of which nothing came before requests are tried.
const SOCKETS_TRIED: u32 = 2;
/// How long requests are then what is tried first.
const POSTS_FOR: Millis = Millis(600_000);

/// Why there is no connection (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the address {0} cannot be used")]
    Address(String),
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("the server does not answer")]
    TooSlow,
    #[error("the connection was lost ({0})")]
    Lost(u16),
    #[error("the server sent what is not a frame")]
    NotAFrame,
    #[error("more was received than could be taken in")]
    Overrun,
    #[error("no token could be had")]
    NoToken,
}

impl Fault for LineError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Address(_) => FaultClass::Permanent,
            Self::Unreachable
            | Self::TooSlow
            | Self::Lost(_)
            | Self::NotAFrame
            | Self::Overrun
            | Self::NoToken => FaultClass::Transient,
        }
    }
}

/// What a dialler asks and tells on its way.
pub(crate) trait DialWatch {
    /// An attempt begins; resolves when it may go on, `false` if it may not.
    fn permit(&self) -> impl Future<Output = bool>;
    /// How the attempt ended.
    fn ended(&self, result: Result<(), &LineError>);
}

/// Dials one address.
#[derive(Debug)]
pub(crate) struct BrowserDialer<W> {
    url: String,
    watch: W,
    /// Attempts at a WebSocket, one after the other, of which nothing came.
    in_vain: Cell<u32>,
    /// What the last WebSocket brought.
    last: RefCell<Option<Rc<Inbox>>>,
    /// Until when requests are tried first.
    posts_until: Cell<MonoMillis>,
}

impl<W: DialWatch> BrowserDialer<W> {
    pub(crate) fn new(url: String, watch: W) -> Self {
        let (in_vain, last, posts_until) = Default::default();
        Self { url, watch, in_vain, last, posts_until }
    }

    async fn attempt(&self) -> Result<Line, LineError> {
        if !self.watch.permit().await {
            return Err(LineError::NoToken);
        }
        let heard = self.last.take().map(|last| last.has_heard());
        match heard {
            Some(true) => self.in_vain.set(0),
            // It was open, and something on the way kept what it carries.
            Some(false) => self.in_vain.set(self.in_vain.get() + 1),
            None => {}
        }
        if mono() < self.posts_until.get() || self.in_vain.get() >= SOCKETS_TRIED {
            return self.post().await;
        }
        match Socket::open(&self.url).await {
            Ok(socket) => {
                *self.last.borrow_mut() = Some(socket.inbox());
                Ok(Line::Socket(socket))
            }
            Err(error) if error.class() == FaultClass::Transient => {
                self.in_vain.set(self.in_vain.get() + 1);
                if self.in_vain.get() < SOCKETS_TRIED {
                    return Err(error);
                }
                self.post().await
            }
            Err(error) => Err(error),
        }
    }

    async fn post(&self) -> Result<Line, LineError> {
        // Where requests have never got through, WebSockets are tried again next.
        self.in_vain.set(0);
        let posts = Posts::open(&self.url).await?;
        self.posts_until.set(mono() + POSTS_FOR);
        Ok(Line::Posts(posts))
    }
}

impl<W: DialWatch> Dialer for BrowserDialer<W> {
    type Sink = LineSink;
    type Stream = LineStream;
    type Error = LineError;

    async fn dial(&self) -> Result<(LineSink, LineStream), LineError> {
        let result = self.attempt().await;
        self.watch.ended(result.as_ref().map(|_| ()));
        let line = Rc::new(result?);
        Ok((LineSink(Rc::clone(&line)), LineStream(line)))
    }
}

/// A connection; closes when both halves are gone.
#[derive(Debug)]
enum Line {
    Socket(Socket),
    Posts(Posts),
}

/// Sending half.
#[derive(Debug)]
pub(crate) struct LineSink(Rc<Line>);

impl FrameSink for LineSink {
    type Error = LineError;

    async fn send(&mut self, frame: Frame) -> Result<(), LineError> {
        match &*self.0 {
            Line::Socket(socket) => socket.send(frame).await,
            Line::Posts(posts) => posts.send(frame).await,
        }
    }

    async fn close(&mut self) -> Result<(), LineError> {
        match &*self.0 {
            Line::Socket(socket) => socket.close(),
            Line::Posts(posts) => {
                posts.close();
                Ok(())
            }
        }
    }
}

/// Receiving half.
#[derive(Debug)]
pub(crate) struct LineStream(Rc<Line>);

impl FrameStream for LineStream {
    type Error = LineError;

    async fn recv(&mut self) -> Result<Option<Frame>, LineError> {
        match &*self.0 {
            Line::Socket(socket) => socket.next().await,
            Line::Posts(posts) => posts.next().await,
        }
    }
}
