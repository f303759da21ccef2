//! Snapshot: subtrees of the trees, packed into chunks in the order of collections and prefixes.
//!
//! Invariant: a chunk names the place that it begins behind, and each subtree in it has the digest of what
//! is sent of it; what changes later comes with the feed. So whoever has taken a chunk can go on from there, at
//! any host. Absent: what the peer does with it.

use super::{
    Host, PeerId,
    feed::ENTRY_BYTES,
    heal::{Active, Pull, get_record, planned_bytes, records, rows_of, weight},
    layout::{self, Damaged, Stored, TreeRow},
};
use crate::{
    id::{self, CollectionName, Digest, Pattern, RecordKey},
    io::{Answer, KeyRange, Keyspace, Query},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{
            AskChunk, ByeCode, Chunk, ChunkFrom, ChunkPart, ChunkPlace, ChunkRecord, Message,
        },
    },
    time::Now,
    tree::{self, Prefix},
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::{
    num::NonZeroU32,
    ops::Bound::{Excluded, Included, Unbounded},
};

/// Entries and parts of one message, at most: a frame without its head.
const MESSAGE_BYTES_MAX: u64 = (FRAME_BYTES_MAX as u64) - (32 << 10);

/// A chunk whose subtrees are chosen and whose records are not known yet.
#[derive(Debug)]
pub(super) struct Chosen {
    subscription: u32,
    after: Option<ChunkPlace>,
    parts: Vec<ChunkPlace>,
    /// Whether they were chosen by the sizes of the records, not by their mean.
    sized: bool,
}

/// A chunk whose records are being read.
#[derive(Debug)]
pub(super) struct Named {
    subscription: u32,
    after: Option<ChunkPlace>,
    parts: Vec<(ChunkPlace, Vec<RecordKey>)>,
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
        self.choose_chunk(now, id, subscription, after, None);
    }

    /// Chooses what a chunk brings, and reads its names; `weights` are the sizes of records where they are
    /// known.
    fn choose_chunk(
        &mut self,
        now: Now,
        id: PeerId,
        subscription: u32,
        after: Option<ChunkPlace>,
        weights: Option<&BTreeMap<Digest, u64>>,
    ) {
        let Some(pattern) =
            self.peers.get(&id).and_then(|peer| peer.pattern(subscription)).cloned()
        else {
            return;
        };
        let aim = self.config.chunk_bytes_aim;
        let parts = self.subtrees_behind(&pattern, after.as_ref(), aim, weights);
        if parts.is_empty() {
            return self.send_chunk(now, id, (subscription, after), Vec::new(), Vec::new());
        }
        let queries = parts
            .iter()
            .map(|place| Query::Scan {
                keyspace: Keyspace::Tree,
                range: below(place),
                limit: NonZeroU32::MAX,
            })
            .collect();
        let sized = weights.is_some();
        let chosen = Chosen { subscription, after, parts, sized };
        self.ask(id, queries, Active::ChunkNames(chosen));
    }

    /// The subtrees that follow a place, as many as take `bytes_max` together: each is as large as it can be
    /// by itself, and there is one at least, if anything follows.
    fn subtrees_behind(
        &mut self,
        pattern: &Pattern,
        after: Option<&ChunkPlace>,
        bytes_max: u64,
        weights: Option<&BTreeMap<Digest, u64>>,
    ) -> Vec<ChunkPlace> {
        let mut parts = Vec::new();
        let mut left = bytes_max;
        let from = after.map_or(Unbounded, |place| Included(&place.collection));
        for (collection, held) in self.collections.range_mut::<CollectionName, _>((from, Unbounded))
        {
            if !pattern.covers(collection) {
                continue;
            }
            let mean = held.mean_weight();
            let weigh = |hash: &Digest| match weights {
                Some(weights) => weights.get(hash).copied().unwrap_or(u64::MAX),
                None => mean,
            };
            let mut behind =
                after.filter(|place| place.collection == *collection).map(|place| place.prefix);
            while let Some(chunk) = held.trie.next_chunk(behind.as_ref(), bytes_max, weigh) {
                let records = chunk.key_hashes.iter().map(weigh).fold(0, u64::saturating_add);
                let weight = records.saturating_add(part_bytes(collection));
                if weight > left && !parts.is_empty() {
                    return parts;
                }
                left = left.saturating_sub(weight);
                behind = Some(chunk.prefix);
                parts.push(ChunkPlace { collection: collection.clone(), prefix: chunk.prefix });
            }
        }
        parts
    }

    /// Whether anything follows a place, and how many records there are in all.
    fn outlook(&mut self, pattern: &Pattern, after: Option<&ChunkPlace>) -> (bool, u64) {
        let covered = || self.collections.iter().filter(|(name, _)| pattern.covers(name));
        let total = covered().map(|(_, held)| held.trie.len() as u64).sum();
        let Some(ChunkPlace { collection, prefix }) = after else {
            return (total > 0, total);
        };
        let later = (Excluded(collection), Unbounded);
        let mut later = self.collections.range::<CollectionName, _>(later);
        let more = later.any(|(name, held)| pattern.covers(name) && !held.trie.is_empty());
        let here = self.collections.get_mut(collection);
        let here = here.and_then(|held| held.trie.next_chunk(Some(prefix), 0, |_| 1));
        (more || here.is_some(), total)
    }

    /// Names and sizes were read: keeps as many subtrees as a message takes, or chooses anew now that it
    /// is known what their records weigh.
    pub(super) fn chunk_named(
        &mut self,
        now: Now,
        id: PeerId,
        chosen: Chosen,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Chosen { subscription, after, parts, sized } = chosen;
        let bytes_max = self.config.chunk_bytes_aim.saturating_mul(2).min(MESSAGE_BYTES_MAX);
        let mut weights = BTreeMap::new();
        let mut named: Vec<(ChunkPlace, Vec<RecordKey>)> = Vec::new();
        let mut bytes = 0;
        for (place, answer) in parts.into_iter().zip(answers) {
            let mut keys = Vec::new();
            let mut part = part_bytes(&place.collection);
            for row in rows_of(answer) {
                let (_, hash) = layout::parse_tree_key(&row.key)?;
                let row = TreeRow::decode(&row.value)?;
                part += weight(&row);
                weights.insert(hash, weight(&row));
                keys.push(RecordKey { collection: place.collection.clone(), id: row.id });
            }
            if bytes + part > bytes_max {
                if named.is_empty() && keys.len() > 1 && !sized {
                    self.choose_chunk(now, id, subscription, after, Some(&weights));
                    return Ok(());
                }
                if !named.is_empty() {
                    break;
                }
            }
            bytes += part;
            named.push((place, keys));
        }
        let queries = named.iter().flat_map(|(_, keys)| keys).map(get_record).collect();
        let named = Named { subscription, after, parts: named };
        self.ask(id, queries, Active::ChunkRecords(named));
        Ok(())
    }

    /// Records were read: sends as many of the subtrees as fit, should records have grown meanwhile.
    pub(super) fn chunk_read(
        &mut self,
        now: Now,
        id: PeerId,
        named: Named,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Named { subscription, after, parts: named } = named;
        let keys: Vec<RecordKey> = named.iter().flat_map(|(_, keys)| keys).cloned().collect();
        let held = records(&keys, answers)?;
        let mut parts = Vec::new();
        let mut records = Vec::new();
        let mut bytes = 0_u64;
        for (place, keys) in named {
            let stored = || keys.iter().filter_map(|key| held.get_key_value(key));
            let planned =
                |(key, held): (&RecordKey, &Stored)| planned_bytes(key, held.bytes.len() as u64);
            bytes += stored().map(planned).sum::<u64>() + part_bytes(&place.collection);
            if bytes > MESSAGE_BYTES_MAX && (stored().count() > 1 || !parts.is_empty()) {
                break;
            }
            let hashed: Vec<tree::Entry> = stored()
                .map(|(key, held)| tree::Entry { key_hash: id::key_hash(key), digest: held.digest })
                .collect();
            let Ok(digest) = tree::verify_chunk(&place.prefix, &hashed) else {
                self.dismiss(now, id, ByeCode::Internal, "a chunk holds a foreign record");
                return Ok(());
            };
            parts.push(ChunkPart { place, digest });
            records.extend(stored().map(|(key, held)| self.marks.in_chunk(key, held)));
        }
        if parts.is_empty() {
            // The first subtree has grown beyond a message since it was sized: it is sized again.
            if let Some(peer) = self.peers.get_mut(&id) {
                let from = after.map_or(ChunkFrom::Start, ChunkFrom::Behind);
                peer.pulls.push_front(Pull::Chunk(AskChunk { subscription, from }));
            }
            return Ok(());
        }
        self.send_chunk(now, id, (subscription, after), parts, records);
        Ok(())
    }

    fn send_chunk(
        &mut self,
        now: Now,
        id: PeerId,
        (subscription, after): (u32, Option<ChunkPlace>),
        parts: Vec<ChunkPart>,
        records: Vec<ChunkRecord>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let last = parts.last().map(|part| part.place.clone()).or_else(|| after.clone());
        peer.chunked.insert(subscription, last.clone());
        let Some(pattern) = peer.pattern(subscription).cloned() else {
            return;
        };
        self.counts(id, records.len());
        let (more, total) = self.outlook(&pattern, last.as_ref());
        // Without a subtree there is no place to go on from: what has just come, comes with the feed.
        let more = more && !parts.is_empty();
        let chunk = Chunk::pack(subscription, after, parts, (more, total), records);
        self.send(now, id, &Message::Chunk(chunk));
    }
}

/// The bytes that a subtree takes in a message beside its records, about.
fn part_bytes(collection: &CollectionName) -> u64 {
    (collection.as_str().len() + ENTRY_BYTES) as u64
}

/// The rows of the tree below a prefix.
fn below(place: &ChunkPlace) -> KeyRange {
    let prefix: &Prefix = &place.prefix;
    let name = [place.collection.as_str().as_bytes(), b"\0"].concat();
    let start = [name.as_slice(), prefix.packed()].concat();
    if prefix.nibbles().is_multiple_of(2) {
        return KeyRange::prefix(&start);
    }
    // The last byte counts with its high half only.
    let mut end = start.clone();
    let next = end.pop().and_then(|last| last.checked_add(0x10));
    let end = match next {
        Some(next) => {
            end.push(next);
            Some(end)
        }
        None => KeyRange::prefix(&end).end,
    };
    KeyRange { start, end }
}
