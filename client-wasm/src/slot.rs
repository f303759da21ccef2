//! A place where a callback leaves one value for a future that waits for it.

use core::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    task::{Poll, Waker},
};

/// Holds at most one value; the first one counts.
pub(crate) struct Slot<T> {
    value: Cell<Option<T>>,
    filled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: Cell::new(None), filled: Cell::new(false), waker: RefCell::new(None) }
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot(filled: {})", self.filled.get())
    }
}

impl<T> Slot<T> {
    /// Leaves the value, unless one was left before.
    pub(crate) fn fill(&self, value: T) {
        if !self.filled.replace(true) {
            self.value.set(Some(value));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether a value was ever left.
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.get()
    }

    /// Waits for the value and takes it. One waiter at a time. Cancel safe.
    pub(crate) async fn take(&self) -> T {
        poll_fn(|context| match self.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}
