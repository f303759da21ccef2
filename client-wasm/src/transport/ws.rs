//! Frames over the browser's WebSocket.

use super::{BUFFERED_BYTES_MAX, LOOK_AGAIN, LineError, inbox::Inbox};
use crate::{
    clock::{pause, within},
    poison,
    slot::Slot,
};
use js_sys::{ArrayBuffer, Uint8Array};
use rejoin_core::{driver::DIAL_WITHIN, port::Frame, protocol::limits::SUBPROTOCOL};
use std::rc::Rc;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

/// One socket; closes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    socket: WebSocket,
    inbox: Rc<Inbox>,
    opened: Rc<Slot<bool>>,
    // Called by the browser until the socket is dropped.
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

fn receive(inbox: &Inbox, event: &MessageEvent) {
    match event.data().dyn_ref::<ArrayBuffer>() {
        Some(buffer) => inbox.push(Uint8Array::new(buffer).to_vec()),
        None => inbox.end(Err(LineError::NotAFrame)),
    }
}

impl Socket {
    pub(super) async fn open(url: &str) -> Result<Self, LineError> {
        let socket = Self::connect(url)?;
        match within(DIAL_WITHIN, socket.opened.take()).await {
            Some(true) => Ok(socket),
            Some(false) => Err(LineError::Unreachable),
            None => Err(LineError::TooSlow),
        }
    }

    fn connect(url: &str) -> Result<Self, LineError> {
        let socket = WebSocket::new_with_str(url, SUBPROTOCOL)
            .map_err(|_refused| LineError::Address(url.into()))?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let (inbox, opened) = (Rc::<Inbox>::default(), Rc::<Slot<bool>>::default());
        let told = Rc::clone(&opened);
        let on_open = Closure::<dyn FnMut()>::new(move || {
            told.fill(true);
        });
        let told = Rc::clone(&inbox);
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            poison::event(|| receive(&told, &event));
        });
        let (told, never) = (Rc::clone(&inbox), Rc::clone(&opened));
        // An error is always followed by a close, which says as much as the browser is willing to.
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            never.fill(false);
            told.end(if event.was_clean() { Ok(()) } else { Err(LineError::Lost(event.code())) });
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Ok(Self {
            socket,
            inbox,
            opened,
            _on_open: on_open,
            _on_message: on_message,
            _on_close: on_close,
        })
    }

    /// What it brings.
    pub(super) fn inbox(&self) -> Rc<Inbox> {
        Rc::clone(&self.inbox)
    }

    pub(super) async fn send(&self, frame: Frame) -> Result<(), LineError> {
        loop {
            if let Some(lost) = self.inbox.lost() {
                return Err(lost);
            }
            if self.socket.buffered_amount() < BUFFERED_BYTES_MAX {
                let sent = self.socket.send_with_u8_array(&frame.0);
                return sent.map_err(|_not_open| LineError::Lost(0));
            }
            pause(LOOK_AGAIN).await;
        }
    }

    pub(super) async fn next(&self) -> Result<Option<Frame>, LineError> {
        self.inbox.next().await
    }

    pub(super) fn close(&self) -> Result<(), LineError> {
        self.socket.close().map_err(|_refused| LineError::Lost(0))
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
