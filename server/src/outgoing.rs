//! What waits to be written to one connection.
//!
//! Invariant: never more than [`CHANNEL_BYTES_MAX`] for each channel; whoever pushes never waits, and
//! what was pushed is written in order. Absent: sockets.

use crate::clock;
use rejoin_core::{
    protocol::{
        limits::{FRAME_BYTES_MAX, PEER_BYTES_IN_FLIGHT_MAX},
        message::{Bye, ByeCode, Message},
        wire,
    },
    time::{Millis, MonoMillis},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Most bytes that wait for one channel: beyond what a host lets a peer owe before it sends it away.
pub(crate) const CHANNEL_BYTES_MAX: usize = 5 * PEER_BYTES_IN_FLIGHT_MAX + 2 * FRAME_BYTES_MAX;

/// Who is sent away because this process ends finds the next one after so long, about.
const RESTARTED_AFTER: Millis = Millis(1_000);
/// Who finds a limit reached asks again after so long.
const BUSY_AFTER: Millis = Millis(5_000);

/// A message to write; `R` is who wants to hear of it.
#[derive(Debug)]
pub(crate) struct Item<R> {
    pub(crate) channel: u64,
    pub(crate) bytes: Arc<[u8]>,
    /// Who wants to hear that it was written.
    pub(crate) route: Option<R>,
    /// Since when it waits.
    pub(crate) since: MonoMillis,
}

impl<R> Item<R> {
    /// It waits from now on.
    pub(crate) fn new(channel: u64, bytes: Arc<[u8]>, route: Option<R>) -> Self {
        Self { channel, bytes, route, since: clock::read().mono }
    }
}

/// The queue between hubs and the writing half of a connection.
#[derive(Debug)]
pub(crate) struct Outgoing<R> {
    state: Mutex<State<R>>,
    pushed: Notify,
    closed: Notify,
}

#[derive(Debug)]
struct State<R> {
    items: VecDeque<Item<R>>,
    /// Bytes that wait, by channel.
    waiting: BTreeMap<u64, usize>,
    /// Channels that hubs closed and that the reading half has not heard of.
    closed: Vec<u64>,
    /// The channel of the message that is being written.
    writing: Option<u64>,
    /// The rest of that message is not to be written.
    severed: bool,
    ended: bool,
}

impl<R> Default for Outgoing<R> {
    fn default() -> Self {
        let state = State {
            items: VecDeque::new(),
            waiting: BTreeMap::new(),
            closed: Vec::new(),
            writing: None,
            severed: false,
            ended: false,
        };
        Self { state: Mutex::new(state), pushed: Notify::new(), closed: Notify::new() }
    }
}

impl<R> Outgoing<R> {
    /// Queues a message; `false` when the bound of its channel is reached, and it was not.
    pub(crate) fn push(&self, item: Item<R>) -> bool {
        self.push_within(item, CHANNEL_BYTES_MAX)
    }

    fn push_within(&self, item: Item<R>, bytes_max: usize) -> bool {
        let mut state = self.state();
        if state.ended {
            return true;
        }
        let waiting = state.waiting.entry(item.channel).or_default();
        if waiting.saturating_add(item.bytes.len()) > bytes_max {
            return false;
        }
        *waiting += item.bytes.len();
        state.items.push_back(item);
        drop(state);
        self.pushed.notify_one();
        true
    }

    /// Queues the last message of a channel, behind what waits for it.
    pub(crate) fn bye(&self, channel: u64, code: ByeCode, reason: &str) {
        let retry_after = if code == ByeCode::ShuttingDown {
            Some(RESTARTED_AFTER)
        } else {
            (code == ByeCode::Busy).then_some(BUSY_AFTER)
        };
        let bye = Bye { code, reason: reason.to_owned(), retry_after };
        let bytes = wire::encode(&Message::Bye(bye)).into();
        let item = Item::new(channel, bytes, None);
        // One to a channel, and small: it needs no bound.
        self.push_within(item, usize::MAX);
    }

    /// Drops what waits for a channel whose peer may not have it any more, but for the last word. Of a message before
    /// it that is being written the rest is not: [`Self::is_severed`].
    pub(crate) fn sever(&self, channel: u64) {
        let mut state = self.state();
        let Some(last) = state.items.iter().rposition(|item| item.channel == channel) else {
            return;
        };
        let mut at = 0;
        state.items.retain(|item| {
            at += 1;
            item.channel != channel || at == last + 1
        });
        let left = state.items.iter().find(|item| item.channel == channel);
        let left = left.map_or(0, |item| item.bytes.len());
        state.waiting.insert(channel, left);
        state.severed |= state.writing == Some(channel);
    }

    /// Whether the message that is being written must not be finished. Nothing else can follow a part of one.
    pub(crate) fn is_severed(&self) -> bool {
        self.state().severed
    }

    /// A hub closed the channel.
    pub(crate) fn closed(&self, channel: u64) {
        self.state().closed.push(channel);
        self.closed.notify_one();
    }

    /// Channels that hubs closed since the last call.
    pub(crate) fn take_closed(&self) -> Vec<u64> {
        std::mem::take(&mut self.state().closed)
    }

    /// Resolves when a hub has closed a channel, perhaps one that was taken already. Cancel safe.
    pub(crate) async fn wait_closed(&self) {
        self.closed.notified().await;
    }

    /// Takes nothing from here on; what waits is still written.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.pushed.notify_one();
    }

    /// The next item; `None` once the queue has ended and is empty. Cancel safe; one caller at a time.
    pub(crate) async fn next(&self) -> Option<Item<R>> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.pushed.notified().await;
        }
    }

    fn try_next(&self) -> Option<Option<Item<R>>> {
        let mut state = self.state();
        (state.writing, state.severed) = (None, false);
        let Some(item) = state.items.pop_front() else {
            return state.ended.then_some(None);
        };
        state.writing = Some(item.channel);
        if let Some(waiting) = state.waiting.get_mut(&item.channel) {
            *waiting -= item.bytes.len();
        }
        if state.items.is_empty() {
            // An idle connection keeps no memory for what it once had to say.
            state.items = VecDeque::new();
            state.waiting.clear();
        }
        Some(Some(item))
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(channel: u64, text: &[u8]) -> Item<()> {
        Item::new(channel, text.into(), None)
    }

    #[tokio::test]
    async fn x11_of_what_waits_for_a_severed_channel_only_the_last_word_is_left() {
        let outgoing = Outgoing::default();
        for (channel, text) in [(1, b"a"), (1, b"b"), (2, b"c"), (1, b"d"), (1, b"e"), (2, b"f")] {
            assert!(outgoing.push(item(channel, text)));
        }
        assert_eq!(&*outgoing.next().await.unwrap().bytes, b"a");
        outgoing.sever(1);
        assert!(outgoing.is_severed(), "the first one is being written");
        let mut left = Vec::new();
        outgoing.end();
        while let Some(item) = outgoing.next().await {
            assert!(!outgoing.is_severed());
            left.push((item.channel, item.bytes.to_vec()));
        }
        assert_eq!(left, [(2, b"c".to_vec()), (1, b"e".to_vec()), (2, b"f".to_vec())]);
    }

    #[tokio::test]
    async fn x11_last_word_that_is_being_written_is_finished() {
        let outgoing = Outgoing::default();
        assert!(outgoing.push(item(1, b"bye")));
        assert!(outgoing.next().await.is_some());
        outgoing.sever(1);
        assert!(!outgoing.is_severed());
    }
}
