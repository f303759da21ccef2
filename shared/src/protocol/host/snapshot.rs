//! Snapshot: everything of a subscription by collection and id, packed into chunks.
//!
//! Invariant: a chunk has all that is stored between its two ends when it is read, and what changes later comes with
//! the feed. So whoever has taken a chunk can go on from there, at any host. Absent: what the peer does with it.

use super::{
    Host, PeerId,
    damage::Damaged,
    heal::{Active, missing},
    layout::{self, Stored},
};
use crate::{
    id::{CollectionName, RecordKey},
    io::{Answer, Keyspace, Query},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{AskChunk, ByeCode, Chunk, ChunkFrom, ChunkRecord, Message},
    },
    time::Now,
};
use alloc::vec::Vec;
use core::{
    num::NonZeroU32,
    ops::Bound::{self, Excluded, Included, Unbounded},
};

/// Most bytes of a chunk's records in a message: a frame without its head.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - (32 << 10);
/// Most collections that one chunk reads from.
const COLLECTIONS_MAX: usize = 256;

/// A chunk whose records are being read.
#[derive(Debug)]
pub(super) struct Chosen {
    subscription: u32,
    after: Option<RecordKey>,
    /// What is read, in this order.
    collections: Vec<CollectionName>,
}

impl Host {
    pub(super) fn answer_chunk(&mut self, now: Now, id: PeerId, ask: AskChunk) {
        let subscription = ask.subscription;
        let after = match ask.from {
            ChunkFrom::Start => None,
            ChunkFrom::Behind(place) => Some(place),
            ChunkFrom::Next => {
                let last = self.peers.get(&id).and_then(|peer| peer.chunked.get(&subscription));
                match last {
                    Some(last) => last.clone(),
                    None => {
                        let reason = "the next chunk, and there was none before";
                        return self.dismiss(now, id, ByeCode::Misbehaved, reason);
                    }
                }
            }
        };
        self.choose_chunk(now, id, (subscription, after), None);
    }

    /// Reads what follows a place, behind the collections up to `passed`.
    fn choose_chunk(
        &mut self,
        now: Now,
        id: PeerId,
        (subscription, after): (u32, Option<RecordKey>),
        passed: Option<&CollectionName>,
    ) {
        let place = after.as_ref();
        let from = match (passed, place) {
            (Some(passed), _) => Excluded(passed),
            (None, Some(place)) => Included(&place.collection),
            (None, None) => Unbounded,
        };
        let collections = self.collections_from(id, subscription, from);
        if collections.is_empty() {
            let ends = (after.clone(), after);
            return self.send_chunk(now, id, subscription, (ends, false), Vec::new());
        }
        let bytes = u32::try_from(self.config.chunk_bytes_aim).ok().and_then(NonZeroU32::new);
        let bytes = bytes.unwrap_or(NonZeroU32::MAX);
        let scan = |name| Query::Scan {
            keyspace: Keyspace::Records,
            range: layout::records_behind(name, place),
            limit: NonZeroU32::MAX,
            bytes,
        };
        let queries = collections.iter().map(scan).collect();
        self.ask(id, queries, Active::Chunk(Chosen { subscription, after, collections }));
    }

    /// The collections that a chunk reads from: one, and more as long as it has room for all before them.
    fn collections_from(
        &self,
        id: PeerId,
        subscription: u32,
        from: Bound<&CollectionName>,
    ) -> Vec<CollectionName> {
        let Some(pattern) = self.peers.get(&id).and_then(|peer| peer.pattern(subscription)) else {
            return Vec::new();
        };
        let mut room = self.config.chunk_bytes_aim;
        let held = self.collections.range::<CollectionName, _>((from, Unbounded));
        let held = held.filter(|(name, held)| pattern.covers(name) && !held.trie.is_empty());
        let fitting = held.take_while(|(_, held)| {
            let fits = room > 0;
            room = room.saturating_sub(held.bytes);
            fits
        });
        fitting.map(|(name, _)| name.clone()).take(COLLECTIONS_MAX).collect()
    }

    /// Records were read: sends as many as a chunk takes.
    pub(super) fn chunk_read(
        &mut self,
        now: Now,
        id: PeerId,
        chosen: Chosen,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Chosen { subscription, after, collections } = chosen;
        let mut records: Vec<ChunkRecord> = Vec::new();
        let mut left = usize::try_from(self.config.chunk_bytes_aim).unwrap_or(usize::MAX);
        let mut more = false;
        for answer in answers {
            let Answer::Page(page) = answer else {
                return Err(missing());
            };
            let mut rows = page.rows.into_iter();
            while left > 0
                && let Some(row) = rows.next()
            {
                left = left.saturating_sub(row.value.len());
                let key = layout::parse_record_key(&row.key)
                    .map_err(|error| Damaged::row(Keyspace::Records, row.key, error))?;
                let stored = Stored::decode(&row.value);
                let stored = stored.map_err(|error| Damaged::record(&key, error))?;
                records.push(self.marks.in_chunk(&key, &stored));
            }
            more = page.more || rows.next().is_some();
            if more {
                break;
            }
        }
        let read = collections.last();
        let Some(last) = records.last().map(|record| record.key.clone()) else {
            self.choose_chunk(now, id, (subscription, after), read);
            return Ok(());
        };
        let behind = read.map_or(Unbounded, Excluded);
        more |= !self.collections_from(id, subscription, behind).is_empty();
        self.send_chunk(now, id, subscription, ((after, Some(last)), more), records);
        Ok(())
    }

    /// Sends the records, or as many of them as a message takes should nothing become smaller.
    fn send_chunk(
        &mut self,
        now: Now,
        id: PeerId,
        subscription: u32,
        ((after, mut upto), mut more): ((Option<RecordKey>, Option<RecordKey>), bool),
        mut records: Vec<ChunkRecord>,
    ) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Some(pattern) = peer.pattern(subscription) else {
            return;
        };
        let covered = self.collections.iter().filter(|(name, _)| pattern.covers(name));
        let total = covered.map(|(_, held)| held.trie.len() as u64).sum();
        let chunk = loop {
            let ends = (after.clone(), upto.clone());
            let count = records.len();
            let chunk = Chunk::pack(subscription, ends, (more, total), records);
            let bytes = chunk.packed.columns.len() + chunk.packed.proofs.len();
            if bytes <= MESSAGE_BYTES_MAX || count < 2 {
                self.counts(id, count);
                break chunk;
            }
            // It is its own copy of what it was made from.
            let Ok(Some(opened)) = chunk.open() else {
                return self.dismiss(now, id, ByeCode::Internal, "a chunk that cannot be opened");
            };
            records = opened;
            records.sort_unstable_by(|left, right| left.key.cmp(&right.key));
            records.truncate(count / 2);
            upto = records.last().map(|record| record.key.clone());
            more = true;
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.chunked.insert(subscription, upto);
        }
        self.send(now, id, &Message::Chunk(chunk));
    }
}
