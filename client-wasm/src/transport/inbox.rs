//! What a connection has brought and nobody has read yet, and how it ended. Absent: how it came.

use super::LineError;
use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};
use rejoin_core::{port::Frame, protocol::limits::FRAME_BYTES_MAX};
use std::collections::VecDeque;

/// Bytes received and not yet read at which the connection is given up; it resumes from the cursor.
const BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    frames: RefCell<VecDeque<Vec<u8>>>,
    bytes: Cell<usize>,
    /// Something has come.
    heard: Cell<bool>,
    ended: RefCell<Option<Result<(), LineError>>>,
    reader: RefCell<Option<Waker>>,
}

impl Inbox {
    /// Takes in a frame, unless the connection has ended.
    pub(super) fn push(&self, frame: Vec<u8>) {
        let waiting = self.bytes.get().saturating_add(frame.len());
        if frame.len() > FRAME_BYTES_MAX {
            self.end(Err(LineError::NotAFrame));
        } else if waiting > BYTES_MAX {
            self.end(Err(LineError::Overrun));
        } else if !self.is_over() {
            self.heard.set(true);
            self.bytes.set(waiting);
            self.frames.borrow_mut().push_back(frame);
            self.wake();
        }
    }

    /// The connection has ended; the first word counts.
    pub(super) fn end(&self, how: Result<(), LineError>) {
        self.ended.borrow_mut().get_or_insert(how);
        self.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Whether anything has ever come.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.get()
    }

    /// Why nothing can be sent any more.
    pub(super) fn lost(&self) -> Option<LineError> {
        let ended = self.ended.borrow();
        ended.as_ref().map(|how| how.clone().err().unwrap_or(LineError::Lost(1000)))
    }

    /// The next frame; `None` after an orderly end. Cancel safe.
    pub(super) async fn next(&self) -> Result<Option<Frame>, LineError> {
        poll_fn(|context| {
            if let Some(frame) = self.frames.borrow_mut().pop_front() {
                self.bytes.set(self.bytes.get().saturating_sub(frame.len()));
                return Poll::Ready(Ok(Some(Frame(frame))));
            }
            if let Some(how) = &*self.ended.borrow() {
                return Poll::Ready(how.clone().map(|()| None));
            }
            *self.reader.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
