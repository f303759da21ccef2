//! What the host keeps of one peer: who it is, where its streams stand, what it has in flight.
//!
//! Invariant: a subscription is in at most one stream; everything here is bounded by a limit of the
//! protocol or of the configuration. Absent: messages, the store.

use super::{
    Grant,
    feed::Stream,
    heal::{Active, Pulls},
    presence::Audience,
};
use crate::{
    hlc::Hlc,
    id::{Pattern, RecordKey, ReplicaId, Seq},
    protocol::{
        limits::{DEAD_AFTER, PEER_BYTES_IN_FLIGHT_MAX, PING_EVERY},
        message::{Hello, Identity, Origin, Place},
        wire::Assembler,
    },
    sorted::{SortedMap, SortedSet},
    time::MonoMillis,
};
use alloc::vec::Vec;

/// How far a peer's session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its hello waits for its turn.
    Opening,
    /// Welcomed.
    Confirmed,
    /// Welcomed under an id that it cannot use; `true` where the id is another principal's.
    Denied { foreign: bool },
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) hello: Hello,
    pub(super) grant: Grant,
    pub(super) stage: Stage,
    pub(super) streams: Vec<Stream>,
    next_stream: u64,
    /// A read of the feed is under way.
    pub(super) reading: bool,
    pub(super) pulls: Pulls,
    pub(super) active: Option<Active>,
    /// Where the last chunk of each subscription's snapshot ended.
    pub(super) chunked: SortedMap<u32, Option<RecordKey>>,
    /// The last outcome number given out.
    pub(super) outcomes: u64,
    /// Records under the number of an outcome that the peer may not know of.
    pub(super) held: SortedMap<RecordKey, u64>,
    pub(super) rows_waiting: usize,
    pub(super) bytes_waiting: usize,
    /// Refills that are not answered yet.
    pub(super) refills_waiting: usize,
    /// The greatest time accepted from its replica, as its welcome said.
    pub(super) told: Option<Hlc>,
    /// Whether rows that were first its replica's were accepted under other stamps.
    pub(super) is_copied: bool,
    /// Of which other replicas' rows it has copies, and the greatest time of them that others had brought back
    /// when it asked.
    pub(super) origins: SortedMap<ReplicaId, Option<Hlc>>,
    /// Of these rows, which were not accepted when it asked.
    pub(super) named: SortedSet<Origin>,
    /// Slices that had been collected when its question was begun.
    pub(super) slices: u64,
    /// A recall is not answered yet.
    pub(super) recall_waits: bool,
    pub(super) assembler: Assembler,
    /// What of the others present it was told; `None` until it asks.
    pub(super) audience: Option<Audience>,
    /// Under which ids its tabs are shown.
    pub(super) tabs: SortedMap<u64, u64>,
    unsent: usize,
    stuck_since: MonoMillis,
    heard: MonoMillis,
    spoke: MonoMillis,
    /// Rows accepted and entries sent since it last was at the head.
    pub(super) pushed: u64,
    pub(super) pulled: u64,
}

/// What a welcome says of a replica.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) identity: Identity,
    /// The greatest time accepted from it (S).
    pub(super) accepted: Option<Hlc>,
    /// The greatest time of a row that was first its own and was accepted under another stamp.
    pub(super) copied: Option<Hlc>,
}

/// What has become due for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Silent,
    Stuck,
}

impl Peer {
    pub(super) fn new(hello: Hello, grant: Grant, now: MonoMillis) -> Self {
        Self {
            hello,
            grant,
            stage: Stage::Opening,
            streams: Vec::new(),
            next_stream: 0,
            reading: false,
            pulls: Pulls::default(),
            active: None,
            chunked: SortedMap::new(),
            outcomes: 0,
            held: SortedMap::new(),
            rows_waiting: 0,
            bytes_waiting: 0,
            refills_waiting: 0,
            told: None,
            is_copied: false,
            origins: SortedMap::new(),
            named: SortedSet::new(),
            slices: 0,
            recall_waits: false,
            assembler: Assembler::default(),
            audience: None,
            tabs: SortedMap::new(),
            unsent: 0,
            stuck_since: now,
            heard: now,
            spoke: now,
            pushed: 0,
            pulled: 0,
        }
    }

    pub(super) fn pattern(&self, subscription: u32) -> Option<&Pattern> {
        let found = self.hello.subscriptions.iter().find(|known| known.id == subscription);
        found.map(|known| &known.pattern)
    }

    /// Whether the socket has taken enough of what was sent to be given more.
    pub(super) fn has_room(&self) -> bool {
        self.unsent < PEER_BYTES_IN_FLIGHT_MAX
    }

    /// Bytes that the socket has not taken.
    pub(super) const fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether the socket has taken all that was sent.
    pub(super) const fn is_free(&self) -> bool {
        self.unsent == 0
    }

    /// Whether it is owed more than any peer that reads can be.
    pub(super) fn is_flooded(&self) -> bool {
        self.unsent > 4 * PEER_BYTES_IN_FLIGHT_MAX
    }

    pub(super) fn sends(&mut self, bytes: usize, now: MonoMillis) {
        if self.unsent == 0 {
            self.stuck_since = now;
        }
        self.unsent = self.unsent.saturating_add(bytes);
        self.spoke = now;
    }

    pub(super) fn sent(&mut self, bytes: usize, now: MonoMillis) {
        self.unsent = self.unsent.saturating_sub(bytes);
        self.stuck_since = now;
    }

    pub(super) fn hears(&mut self, now: MonoMillis) {
        self.heard = now;
    }

    pub(super) fn due(&self, now: MonoMillis) -> Due {
        if now >= self.heard + DEAD_AFTER {
            Due::Silent
        } else if self.unsent > 0 && now >= self.stuck_since + DEAD_AFTER {
            Due::Stuck
        } else if self.stage != Stage::Opening && now >= self.spoke + PING_EVERY {
            Due::Ping
        } else {
            Due::Nothing
        }
    }

    pub(super) fn deadline(&self) -> MonoMillis {
        let mut deadline = self.heard + DEAD_AFTER;
        if self.unsent > 0 {
            deadline = deadline.min(self.stuck_since + DEAD_AFTER);
        }
        if self.stage != Stage::Opening {
            deadline = deadline.min(self.spoke + PING_EVERY);
        }
        deadline
    }

    /// Ends the stream of a subscription.
    pub(super) fn end_stream(&mut self, subscription: u32) {
        for stream in &mut self.streams {
            stream.subscriptions.retain(|(id, _)| *id != subscription);
        }
        self.streams.retain(|stream| !stream.subscriptions.is_empty());
    }

    /// Starts or moves the stream of a subscription.
    pub(super) fn stream_from(
        &mut self,
        subscription: u32,
        place: Place,
        (cut, time): (Seq, Hlc),
        owes_state: bool,
    ) {
        let Some(pattern) = self.pattern(subscription).cloned() else {
            return;
        };
        self.end_stream(subscription);
        self.next_stream += 1;
        self.streams.push(Stream {
            id: self.next_stream,
            subscriptions: alloc::vec![(subscription, pattern)],
            read: place.clone(),
            told: place,
            cut,
            owes_state,
            time,
            // What an earlier session was told is not known.
            horizon: Hlc::ZERO,
        });
        self.merge_streams();
    }

    /// Joins streams that stand at the same cut.
    pub(super) fn merge_streams(&mut self) {
        let mut merged: Vec<Stream> = Vec::with_capacity(self.streams.len());
        for stream in core::mem::take(&mut self.streams) {
            let twin = merged
                .iter_mut()
                .find(|other| stream.is_whole() && other.is_whole() && other.told == stream.told);
            match twin {
                Some(twin) => {
                    // A read under way for one of them knows nothing of the other's collections.
                    self.next_stream += 1;
                    twin.id = self.next_stream;
                    twin.subscriptions.extend(stream.subscriptions);
                    twin.subscriptions.sort_unstable();
                    // What lies silently behind is read again rather than compared.
                    twin.read.clone_from(&twin.told);
                    twin.owes_state |= stream.owes_state;
                    twin.time = twin.time.min(stream.time);
                    twin.horizon = twin.horizon.min(stream.horizon);
                }
                None => merged.push(stream),
            }
        }
        self.streams = merged;
    }

    pub(super) fn stream_mut(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }
}
