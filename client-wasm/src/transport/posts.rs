//! Frames carried by requests (docs/PROTOCOL.md, 1.1).
//!
//! One request at a time brings what is to be sent, with all that waits, and one waits for what the server has to tell.
//! A request that fails ends the connection: nothing is asked twice, but for what was refused unread.

use super::{BUFFERED_BYTES_MAX, LOOK_AGAIN, LineError, inbox::Inbox};
use crate::{
    clock::{pause, within},
    js::object,
    poison,
};
use core::cell::{Cell, RefCell};
use js_sys::{ArrayBuffer, Promise, Uint8Array};
use rejoin_core::{
    driver::DIAL_WITHIN, port::Frame, protocol::limits::FRAME_BYTES_MAX, time::Millis,
};
use std::{collections::VecDeque, rc::Rc};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, Response};

#[wasm_bindgen]
extern "C" {
    /// The same in windows, in workers and in Node.js.
    #[wasm_bindgen(catch)]
    fn fetch(url: &str, init: &JsValue) -> Result<Promise, JsValue>;
}

/// What an answer says.
const CREATED: u16 = 201;
const NOTHING: u16 = 204;
const OK: u16 = 200;
const OVER: u16 = 410;
const TOO_OFTEN: u16 = 429;
/// Who asks too often asks again after so long.
const PAUSE: Millis = Millis(1_000);

/// A connection; closes when it is dropped.
#[derive(Debug)]
pub(super) struct Posts(Rc<Carried>);

#[derive(Debug)]
struct Carried {
    /// What is asked stands behind it.
    path: String,
    /// What stands behind that.
    query: String,
    /// Names the connection.
    number: String,
    inbox: Rc<Inbox>,
    outbox: RefCell<VecDeque<Vec<u8>>>,
    waiting: Cell<usize>,
    sending: Cell<bool>,
    closing: Cell<bool>,
    /// Ends the request that waits.
    abort: AbortController,
}

/// The address of a WebSocket as that of requests, without its query, and that.
fn address(url: &str) -> (String, String) {
    let (path, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(path, query)| (path, format!("?{query}")));
    let path = path.trim_end_matches('/');
    let path = path.strip_prefix("ws").map_or_else(|| path.into(), |rest| format!("http{rest}"));
    (path, query)
}

impl Posts {
    pub(super) async fn open(url: &str) -> Result<Self, LineError> {
        let (path, query) = address(url);
        let abort = AbortController::new().map_err(|_no_such| LineError::Unreachable)?;
        let mut carried = Carried {
            path,
            query,
            number: String::new(),
            inbox: Rc::default(),
            outbox: RefCell::default(),
            waiting: Cell::default(),
            sending: Cell::default(),
            closing: Cell::default(),
            abort,
        };
        let opened = within(DIAL_WITHIN, carried.post("open", None)).await;
        let (status, number) = opened.ok_or(LineError::TooSlow)??;
        carried.number = String::from_utf8(number).map_err(|_text| LineError::NotAFrame)?;
        if status != CREATED {
            return Err(LineError::Unreachable);
        }
        let carried = Rc::new(carried);
        let receiving = Rc::clone(&carried);
        poison::spawn(async move { receiving.receive().await });
        Ok(Self(carried))
    }

    /// Resolves when there is room for it among what waits.
    pub(super) async fn send(&self, frame: Frame) -> Result<(), LineError> {
        let Self(carried) = self;
        loop {
            if let Some(lost) = carried.inbox.lost() {
                return Err(lost);
            }
            if carried.waiting.get() < BUFFERED_BYTES_MAX as usize {
                carried.waiting.set(carried.waiting.get() + frame.0.len());
                carried.outbox.borrow_mut().push_back(frame.0);
                carried.bring();
                return Ok(());
            }
            pause(LOOK_AGAIN).await;
        }
    }

    pub(super) async fn next(&self) -> Result<Option<Frame>, LineError> {
        self.0.inbox.next().await
    }

    /// Ends it behind what waits.
    pub(super) fn close(&self) {
        if !self.0.closing.replace(true) {
            self.0.abort.abort();
            self.0.bring();
        }
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        self.close();
    }
}

impl Carried {
    /// Sends what waits, and the end behind it, unless that is under way.
    fn bring(self: &Rc<Self>) {
        if !self.sending.replace(true) {
            let sending = Rc::clone(self);
            poison::spawn(async move {
                sending.send().await;
                sending.sending.set(false);
            });
        }
    }

    async fn send(&self) {
        while let Some(body) = self.next_body() {
            let told = self.post("send", Some(&body)).await;
            if told.map(|(status, _)| status) != Ok(NOTHING) {
                self.inbox.end(Err(LineError::Lost(0)));
                break;
            }
        }
        if self.closing.get() {
            self.inbox.end(Ok(()));
            // Who is not told finds out by silence.
            drop(self.post("close", None).await);
        }
    }

    /// As many of the frames that wait as one request takes, each behind its length.
    fn next_body(&self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let mut outbox = self.outbox.borrow_mut();
        while let Some(frame) = outbox.front() {
            if !body.is_empty() && body.len() + 4 + frame.len() > FRAME_BYTES_MAX {
                break;
            }
            let length = u32::try_from(frame.len()).ok()?;
            body.extend(length.to_be_bytes());
            body.extend(frame);
            self.waiting.set(self.waiting.get().saturating_sub(frame.len()));
            outbox.pop_front();
        }
        (!body.is_empty()).then_some(body)
    }

    async fn receive(&self) {
        while !self.inbox.is_over() && !self.closing.get() {
            match self.post("receive", None).await {
                Ok((OK, body)) => self.take_in(&body),
                Ok((NOTHING, _)) => {}
                Ok((OVER, _)) => self.inbox.end(Ok(())),
                Ok((status, _)) => self.inbox.end(Err(LineError::Lost(status))),
                Err(error) => self.inbox.end(Err(error)),
            }
        }
    }

    fn take_in(&self, mut body: &[u8]) {
        while let Some((length, rest)) = body.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((frame, rest)) = rest.split_at_checked(length) else { break };
            self.inbox.push(frame.to_vec());
            body = rest;
        }
        if !body.is_empty() {
            self.inbox.end(Err(LineError::NotAFrame));
        }
    }

    /// Asks, again after a while where that is too often: the status and the body.
    async fn post(&self, what: &str, body: Option<&[u8]>) -> Result<(u16, Vec<u8>), LineError> {
        loop {
            match self.post_once(what, body).await {
                Ok((TOO_OFTEN, _)) if what != "open" && !self.closing.get() => pause(PAUSE).await,
                Ok(told) => return Ok(told),
                Err(_unreachable) => return Err(LineError::Unreachable),
            }
        }
    }

    async fn post_once(&self, what: &str, body: Option<&[u8]>) -> Result<(u16, Vec<u8>), JsValue> {
        let headers = object(&[("rejoin-line", JsValue::from_str(&self.number))]);
        let mut init = vec![
            ("method", JsValue::from_str("POST")),
            ("headers", headers),
            ("credentials", JsValue::from_str("omit")),
            ("cache", JsValue::from_str("no-store")),
        ];
        init.extend(body.map(|body| ("body", Uint8Array::from(body).into())));
        match what {
            "receive" => init.push(("signal", self.abort.signal().into())),
            // It may be the last thing that a page does.
            "close" => init.push(("keepalive", JsValue::TRUE)),
            _ => {}
        }
        let url = format!("{}/{what}{}", self.path, self.query);
        let response = JsFuture::from(fetch(&url, &object(&init))?).await?;
        let response: Response = response.dyn_into()?;
        let body = JsFuture::from(response.array_buffer()?).await?;
        let body = body.dyn_ref::<ArrayBuffer>().map(|body| Uint8Array::new(body).to_vec());
        Ok((response.status(), body.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_below_the_address_of_the_websocket() {
        let whole = |url| {
            let (path, query) = address(url);
            format!("{path}/open{query}")
        };
        assert_eq!(whole("wss://sync.example/sync"), "https://sync.example/sync/open");
        assert_eq!(whole("ws://127.0.0.1:8787/sync/"), "http://127.0.0.1:8787/sync/open");
        assert_eq!(whole("https://a.example/b?c=d"), "https://a.example/b/open?c=d");
    }
}
