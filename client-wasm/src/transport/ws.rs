//! Frames over the browser's WebSocket.
//!
//! Absent: retries and their delays (the supervisor's), what frames hold.

use crate::{
    clock::{pause, within},
    poison,
    slot::Slot,
};
use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};
use js_sys::{ArrayBuffer, Uint8Array};
use rejoin_core::{
    driver::DIAL_WITHIN,
    io::FaultClass,
    port::{Dialer, Fault, Frame, FrameSink, FrameStream},
    protocol::limits::{FRAME_BYTES_MAX, SUBPROTOCOL},
    time::Millis,
};
use std::{collections::VecDeque, rc::Rc};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

/// Bytes that may wait in the browser for the network before a sender waits.
const BUFFERED_BYTES_MAX: u32 = 1 << 20;
/// How often a waiting sender looks again: the browser has no event for it.
const LOOK_AGAIN: Millis = Millis(20);
/// Bytes received and not yet read at which the connection is given up; it resumes from the cursor.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// Why there is no connection (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WsError {
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

impl Fault for WsError {
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
    fn ended(&self, result: Result<(), &WsError>);
}

/// Dials one address.
#[derive(Debug)]
pub(crate) struct WsDialer<W> {
    pub(crate) url: String,
    pub(crate) watch: W,
}

impl<W: DialWatch> Dialer for WsDialer<W> {
    type Sink = WsSink;
    type Stream = WsStream;
    type Error = WsError;

    async fn dial(&self) -> Result<(WsSink, WsStream), WsError> {
        let result = self.attempt().await;
        self.watch.ended(result.as_ref().map(|_| ()));
        result
    }
}

impl<W: DialWatch> WsDialer<W> {
    async fn attempt(&self) -> Result<(WsSink, WsStream), WsError> {
        if !self.watch.permit().await {
            return Err(WsError::NoToken);
        }
        let socket = Rc::new(Socket::connect(&self.url)?);
        match within(DIAL_WITHIN, socket.state.opened.take()).await {
            Some(true) => Ok((WsSink(Rc::clone(&socket)), WsStream(socket))),
            Some(false) => Err(WsError::Unreachable),
            None => Err(WsError::TooSlow),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    opened: Slot<bool>,
    inbox: RefCell<VecDeque<Vec<u8>>>,
    inbox_bytes: Cell<usize>,
    ended: RefCell<Option<Result<(), WsError>>>,
    reader: RefCell<Option<Waker>>,
}

impl State {
    fn end(&self, how: Result<(), WsError>) {
        self.opened.fill(false);
        self.ended.borrow_mut().get_or_insert(how);
        self.wake();
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn receive(&self, event: &MessageEvent) {
        let data = event.data();
        let Some(buffer) = data.dyn_ref::<ArrayBuffer>() else {
            self.end(Err(WsError::NotAFrame));
            return;
        };
        let bytes = Uint8Array::new(buffer);
        let length = usize::try_from(bytes.length()).unwrap_or(usize::MAX);
        let waiting = self.inbox_bytes.get().saturating_add(length);
        if length > FRAME_BYTES_MAX {
            self.end(Err(WsError::NotAFrame));
        } else if waiting > INBOX_BYTES_MAX {
            self.end(Err(WsError::Overrun));
        } else if self.ended.borrow().is_none() {
            self.inbox_bytes.set(waiting);
            self.inbox.borrow_mut().push_back(bytes.to_vec());
            self.wake();
        }
    }
}

/// One socket; closes when both halves are gone.
#[derive(Debug)]
struct Socket {
    socket: WebSocket,
    state: Rc<State>,
    // Called by the browser until the socket is dropped.
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    fn connect(url: &str) -> Result<Self, WsError> {
        let socket = WebSocket::new_with_str(url, SUBPROTOCOL)
            .map_err(|_refused| WsError::Address(url.into()))?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(State::default());
        let told = Rc::clone(&state);
        let on_open = Closure::<dyn FnMut()>::new(move || {
            told.opened.fill(true);
        });
        let told = Rc::clone(&state);
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            poison::event(|| told.receive(&event));
        });
        let told = Rc::clone(&state);
        // An error is always followed by a close, which says as much as the browser is willing to.
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            told.end(if event.was_clean() { Ok(()) } else { Err(WsError::Lost(event.code())) });
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Ok(Self { socket, state, _on_open: on_open, _on_message: on_message, _on_close: on_close })
    }

    fn lost(&self) -> Option<WsError> {
        let ended = self.state.ended.borrow();
        ended.as_ref().map(|how| how.clone().err().unwrap_or(WsError::Lost(1000)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // What was sent still leaves. It fails only for arguments that are not given here.
        drop(self.socket.close());
    }
}

/// Sending half.
#[derive(Debug)]
pub(crate) struct WsSink(Rc<Socket>);

impl FrameSink for WsSink {
    type Error = WsError;

    async fn send(&mut self, frame: Frame) -> Result<(), WsError> {
        let Self(socket) = self;
        loop {
            if let Some(lost) = socket.lost() {
                return Err(lost);
            }
            if socket.socket.buffered_amount() < BUFFERED_BYTES_MAX {
                let sent = socket.socket.send_with_u8_array(&frame.0);
                return sent.map_err(|_not_open| WsError::Lost(0));
            }
            pause(LOOK_AGAIN).await;
        }
    }

    async fn close(&mut self) -> Result<(), WsError> {
        let Self(socket) = self;
        socket.socket.close().map_err(|_refused| WsError::Lost(0))
    }
}

/// Receiving half.
#[derive(Debug)]
pub(crate) struct WsStream(Rc<Socket>);

impl FrameStream for WsStream {
    type Error = WsError;

    async fn recv(&mut self) -> Result<Option<Frame>, WsError> {
        let state = &self.0.state;
        poll_fn(|context| {
            if let Some(bytes) = state.inbox.borrow_mut().pop_front() {
                state.inbox_bytes.set(state.inbox_bytes.get().saturating_sub(bytes.len()));
                return Poll::Ready(Ok(Some(Frame(bytes))));
            }
            if let Some(how) = &*state.ended.borrow() {
                return Poll::Ready(how.clone().map(|()| None));
            }
            *state.reader.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
