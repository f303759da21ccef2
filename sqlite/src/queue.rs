//! A bounded queue from async callers to a thread that blocks.
//!
//! Callers wait for room without blocking; the thread waits for work without spinning. Whoever closes
//! the queue says why, and that is what later callers are told.

use crate::SqliteError;
use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Callers that wait for room. All are woken at once: one that was dropped meanwhile must not
    /// take a wake-up with it.
    waiting: Vec<Waker>,
    /// Who waits for the end.
    watching: Vec<Waker>,
    closed: Option<SqliteError>,
}

impl<T> Queue<T> {
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            waiting: Vec::new(),
            watching: Vec::new(),
            closed: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), items_max, bytes_max }
    }

    /// Waits for room. An item larger than the whole queue waits until it is empty. A dropped call
    /// pushed nothing.
    pub(crate) async fn push(&self, item: T, bytes: usize) -> Result<(), SqliteError> {
        let mut item = Some(item);
        poll_fn(|context| {
            let mut state = self.state();
            if let Some(reason) = state.closed {
                return Poll::Ready(Err(reason));
            }
            let fits = state.items.len() < self.items_max
                && state.bytes.saturating_add(bytes) <= self.bytes_max;
            if !fits && !state.items.is_empty() {
                state.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            if let Some(item) = item.take() {
                state.items.push_back((item, bytes));
                state.bytes = state.bytes.saturating_add(bytes);
                self.changed.notify_one();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Blocks for the next items: at least one, then as many as wait, up to `items_max` and while
    /// they have at most `bytes_max` in all. Empty once the queue is closed and drained.
    pub(crate) fn take(&self, items_max: usize, bytes_max: usize) -> Vec<T> {
        let idle = |state: &mut State<T>| state.items.is_empty() && state.closed.is_none();
        let mut state =
            self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let mut total = 0_usize;
        while let Some((_, bytes)) = state.items.front() {
            total = total.saturating_add(*bytes);
            if !taken.is_empty() && (taken.len() >= items_max || total > bytes_max) {
                break;
            }
            if let Some((item, bytes)) = state.items.pop_front() {
                state.bytes = state.bytes.saturating_sub(bytes);
                taken.push(item);
            }
        }
        wake(state);
        taken
    }

    /// Refuses new items; what waits is still taken. The first reason stays.
    pub(crate) fn close(&self, reason: SqliteError) {
        let mut state = self.state();
        state.closed.get_or_insert(reason);
        self.changed.notify_all();
        let watching = std::mem::take(&mut state.watching);
        wake(state);
        for waker in watching {
            waker.wake();
        }
    }

    /// Ready with the reason once the queue is closed.
    pub(crate) fn poll_closed(&self, context: &Context<'_>) -> Poll<SqliteError> {
        let mut state = self.state();
        if let Some(reason) = state.closed {
            return Poll::Ready(reason);
        }
        if !state.watching.iter().any(|waker| waker.will_wake(context.waker())) {
            state.watching.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Refuses new items and drops what waits.
    pub(crate) fn fail(&self, reason: SqliteError) {
        self.close(reason);
        let dropped = std::mem::take(&mut self.state().items);
        // outside the lock: dropping an item wakes its caller
        drop(dropped);
    }

    /// Why the queue is closed; a queue whose thread went without a word counts as stopped.
    pub(crate) fn reason(&self) -> SqliteError {
        self.state().closed.unwrap_or(SqliteError::Stopped)
    }

    /// No code of callers runs under the lock, so that a panic cannot leave it half changed.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    for waker in waiting {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::testing::{block_on, join};
    use std::pin::pin;

    fn is_pending(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn a_full_queue_makes_callers_wait_for_room() {
        let queue = Queue::new(2, 100);
        assert_eq!(block_on(queue.push('a', 10)), Ok(()));
        assert!(is_pending(queue.push('b', 91)), "too many bytes");
        assert_eq!(block_on(queue.push('c', 10)), Ok(()));
        assert!(is_pending(queue.push('d', 1)), "too many items");
        let (pushed, taken) = block_on(join(queue.push('e', 1), async { queue.take(9, 99) }));
        assert_eq!((pushed, taken), (Ok(()), vec!['a', 'c']), "a dropped push left its item");
        assert_eq!(queue.take(9, 99), ['e']);
    }

    #[test]
    fn a_group_is_bounded_by_items_and_bytes_and_never_empty() {
        let queue = Queue::new(9, 1_000);
        for (item, bytes) in [('a', 500), ('b', 50), ('c', 50), ('d', 1), ('e', 1)] {
            assert_eq!(block_on(queue.push(item, bytes)), Ok(()));
        }
        assert_eq!(queue.take(9, 100), ['a'], "one item larger than a group");
        assert_eq!(queue.take(9, 100), ['b', 'c']);
        assert_eq!(queue.take(1, 100), ['d']);
        queue.close(SqliteError::Closed);
        assert_eq!(queue.take(1, 100), ['e'], "what waits is still taken");
        assert!(queue.take(1, 100).is_empty());
        queue.close(SqliteError::Stopped);
        assert_eq!(block_on(queue.push('f', 0)), Err(SqliteError::Closed));
    }
}
