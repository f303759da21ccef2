//! Snapshot and heal: answers to what a peer asks about trees.
//!
//! Invariant: nothing is kept between two answers but the rest of the one that is being sent, so a peer
//! may ask anew of any host. One answer per peer is at work at a time. Absent: what the peer does
//! with it.

use super::{
    Host, HostOutput, PeerId, Waiting,
    feed::{ENTRY_BYTES, entry_bytes, key_bytes},
    layout::{self, Damaged, Stored, TreeRow},
};
use crate::{
    codec::{CodecError, CodecFault},
    id::{CollectionName, Digest, RecordKey},
    io::{Answer, KeyRange, Keyspace, Query},
    protocol::{
        limits::{FRAME_BYTES_MAX, PAGE_BYTES_AIM},
        message::{AskChunk, AskRoots, ByeCode, Chunk, Message, Records, Roots, Walk},
    },
    time::Now,
    tree::{self, Prefix, Trie, WalkLimits},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::num::NonZeroU32;

/// Most questions of a peer that wait for their answer.
pub(super) const PULLS_MAX: usize = 256;
/// Most collections of one page of roots.
const ROOTS_MAX: usize = 1_000;
/// Size that a chunk of a snapshot aims at, if nothing else is asked for.
pub(super) const CHUNK_BYTES_AIM: u64 = 256 << 10;
/// Entries of one message, at most: a frame without its head.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - (32 << 10);
/// Records that a commit in flight may add below a prefix, at most, and some.
const CHUNK_ROWS_SPARE: u32 = 2_048;
pub(super) const WALK_LIMITS: WalkLimits = WalkLimits {
    work_max: 65_536,
    reply_bytes_max: 256 << 10,
    nodes_max: 8_192,
    differs_max: 512,
    list_entries_max: tree::LIST_ENTRIES_MAX,
    deep_nodes_max: 8,
};

/// A question that waits.
#[derive(Debug)]
pub(super) enum Pull {
    Roots(AskRoots),
    Walk(Walk),
    Chunk(AskChunk),
}

impl Pull {
    pub(super) fn subscription(&self) -> u32 {
        match self {
            Self::Roots(ask) => ask.subscription,
            Self::Walk(walk) => walk.subscription,
            Self::Chunk(ask) => ask.subscription,
        }
    }

    pub(super) fn collection(&self) -> Option<&CollectionName> {
        match self {
            Self::Roots(_) => None,
            Self::Walk(walk) => Some(&walk.collection),
            Self::Chunk(ask) => Some(&ask.collection),
        }
    }
}

/// An answer that is being put together.
#[derive(Debug)]
pub(super) enum Active {
    /// Rows of the tree are being read, for the names of records.
    WalkNames { walk: Walk, hashes: Vec<Digest> },
    /// Records are to be sent, or being read, before the walk goes on.
    WalkRecords { walk: Walk, left: VecDeque<TreeRow>, asked: Vec<RecordKey> },
    /// Names and sizes below a prefix are being read; `sized`: for the second time.
    ChunkNames(Chosen),
    /// The records of a chunk are being read.
    ChunkRecords { ask: AskChunk, prefix: Prefix, asked: Vec<RecordKey> },
}

/// A chunk that was chosen for a question.
#[derive(Debug)]
pub(super) struct Chosen {
    ask: AskChunk,
    prefix: Prefix,
    sized: bool,
}

/// One collection, as the tree knows it.
#[derive(Debug, Default)]
pub(super) struct Collection {
    pub(super) trie: Trie,
    /// Sum of the lengths of its records, about.
    pub(super) bytes: u64,
}

impl Collection {
    /// What a record weighs as long as its size is not known.
    fn mean_weight(&self) -> u64 {
        let len = self.trie.len().max(1) as u64;
        self.bytes / len + ENTRY_BYTES as u64
    }
}

impl Host {
    /// Goes on with a peer's questions as long as it has room and no read is under way.
    pub(super) fn pull(&mut self, now: Now, id: PeerId) {
        if !self.is_ready() {
            return;
        }
        while let Some(peer) = self.peers.get_mut(&id) {
            if !peer.has_room() || peer.active.as_ref().is_some_and(Active::is_reading) {
                return;
            }
            match peer.active.take() {
                Some(active) => self.go_on(now, id, active),
                None => match peer.pulls.pop_front() {
                    Some(Pull::Roots(ask)) => self.answer_roots(now, id, &ask),
                    Some(Pull::Walk(walk)) => self.answer_walk(now, id, walk),
                    Some(Pull::Chunk(ask)) => self.answer_chunk(now, id, ask),
                    None => return,
                },
            }
        }
    }

    fn go_on(&mut self, now: Now, id: PeerId, active: Active) {
        match active {
            Active::WalkRecords { walk, left, asked } if asked.is_empty() => {
                self.walk_records(now, id, walk, left);
            }
            reading @ (Active::WalkNames { .. }
            | Active::WalkRecords { .. }
            | Active::ChunkNames(_)
            | Active::ChunkRecords { .. }) => self.set_active(id, reading),
        }
    }

    fn set_active(&mut self, id: PeerId, active: Active) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.active = Some(active);
        }
    }

    fn ask(&mut self, id: PeerId, queries: Vec<Query>, active: Active) {
        self.set_active(id, active);
        let ticket = self.ticket(Waiting::Pull(id));
        self.out(HostOutput::Query { ticket, queries });
    }

    fn answer_roots(&mut self, now: Now, id: PeerId, ask: &AskRoots) {
        let Some(pattern) = self.peers.get(&id).and_then(|peer| peer.pattern(ask.subscription))
        else {
            return;
        };
        let mut roots = Vec::new();
        let mut more = false;
        for (name, collection) in &mut self.collections {
            let told = ask.after.as_ref().is_some_and(|after| name <= after);
            if told || collection.trie.is_empty() || !pattern.covers(name) {
                continue;
            }
            if roots.len() == ROOTS_MAX {
                more = true;
                break;
            }
            roots.push((name.clone(), collection.trie.root()));
        }
        let answer = Roots { subscription: ask.subscription, seq: self.head.seq, roots, more };
        self.send(now, id, &Message::Roots(answer));
    }

    fn answer_walk(&mut self, now: Now, id: PeerId, walk: Walk) {
        let mut nothing = Trie::new();
        let trie = match self.collections.get_mut(&walk.collection) {
            Some(collection) => &mut collection.trie,
            None => &mut nothing,
        };
        let response = match tree::respond(trie, &walk.message, &self.config.walk) {
            Ok(response) => response,
            Err(_refused) => {
                return self.dismiss(now, id, ByeCode::Misbehaved, "a walk is not well-formed");
            }
        };
        let Some(message) = response.reply else {
            return;
        };
        let queries: Vec<Query> = response
            .differs
            .iter()
            .map(|hash| Query::Get {
                keyspace: Keyspace::Tree,
                key: layout::tree_key(&walk.collection, hash),
            })
            .collect();
        let reply = Walk { message, ..walk };
        if queries.is_empty() {
            self.send(now, id, &Message::Walk(reply));
        } else {
            let hashes = response.differs;
            self.ask(id, queries, Active::WalkNames { walk: reply, hashes });
        }
    }

    /// Reads as many of the records left as one message takes, or ends with the walk's answer.
    fn walk_records(&mut self, now: Now, id: PeerId, walk: Walk, mut left: VecDeque<TreeRow>) {
        let mut asked = Vec::new();
        let mut bytes = 0;
        while let Some(row) = left.front() {
            bytes += weight(row);
            if bytes > PAGE_BYTES_AIM as u64 && !asked.is_empty() {
                break;
            }
            asked.push(RecordKey { collection: walk.collection.clone(), id: row.id.clone() });
            left.pop_front();
        }
        if asked.is_empty() {
            self.send(now, id, &Message::Walk(walk));
        } else {
            let queries = asked.iter().map(get_record).collect();
            self.ask(id, queries, Active::WalkRecords { walk, left, asked });
        }
    }

    fn answer_chunk(&mut self, now: Now, id: PeerId, ask: AskChunk) {
        let aim = self.config.chunk_bytes_aim;
        let chosen = self.collections.get_mut(&ask.collection).and_then(|held| {
            let mean = held.mean_weight();
            held.trie.next_chunk(ask.after.as_ref(), aim, |_| mean)
        });
        match chosen {
            Some(chunk) => self.read_chunk_names(id, ask, &chunk, false),
            None => self.end_of_chunks(now, id, ask),
        }
    }

    fn end_of_chunks(&mut self, now: Now, id: PeerId, ask: AskChunk) {
        let held = self.collections.get_mut(&ask.collection);
        let (digest, total) = held.map_or_else(
            || (tree::empty_root(), 0),
            |held| (held.trie.root(), held.trie.len() as u64),
        );
        let end = Chunk {
            subscription: ask.subscription,
            collection: ask.collection,
            prefix: None,
            digest,
            seq: self.head.seq,
            entries: Vec::new(),
            total,
        };
        self.send(now, id, &Message::Chunk(end));
    }

    fn read_chunk_names(&mut self, id: PeerId, ask: AskChunk, chunk: &tree::Chunk, sized: bool) {
        let rows = u32::try_from(chunk.key_hashes.len()).unwrap_or(u32::MAX);
        let limit = NonZeroU32::MIN.saturating_add(rows).saturating_add(CHUNK_ROWS_SPARE);
        let scan = Query::Scan {
            keyspace: Keyspace::Tree,
            range: below(&ask.collection, &chunk.prefix),
            limit,
        };
        let prefix = chunk.prefix;
        self.ask(id, alloc::vec![scan], Active::ChunkNames(Chosen { ask, prefix, sized }));
    }

    /// The answer to a peer's read.
    pub(super) fn pulled(
        &mut self,
        now: Now,
        id: PeerId,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let active = self.peers.get_mut(&id).and_then(|peer| peer.active.take());
        match active {
            Some(Active::WalkNames { walk, hashes }) => {
                let rows = tree_rows(answers)?;
                if rows.len() != hashes.len() {
                    return Err(missing());
                }
                self.walk_records(now, id, walk, rows.into());
            }
            Some(Active::WalkRecords { walk, left, asked }) => {
                let held = records(&asked, answers)?;
                self.send_records(now, id, walk.subscription, &held);
                let asked = Vec::new();
                self.set_active(id, Active::WalkRecords { walk, left, asked });
            }
            Some(Active::ChunkNames(chosen)) => self.chunk_named(now, id, chosen, answers)?,
            Some(Active::ChunkRecords { ask, prefix, asked }) => {
                let held = records(&asked, answers)?;
                self.send_chunk(now, id, ask, prefix, &held);
            }
            None => {}
        }
        self.pull(now, id);
        Ok(())
    }

    fn send_records(
        &mut self,
        now: Now,
        id: PeerId,
        subscription: u32,
        held: &BTreeMap<RecordKey, Stored>,
    ) {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (key, stored) in held {
            let entry = self.marks.whole(key, stored);
            bytes += entry_bytes(&entry);
            // Records may have grown since they were planned for.
            if bytes > 2 * PAGE_BYTES_AIM && !entries.is_empty() {
                bytes = entry_bytes(&entry);
                let entries = core::mem::take(&mut entries);
                self.counts(id, entries.len());
                let records = Records { subscription, entries };
                self.send(now, id, &Message::Records(records));
            }
            entries.push(entry);
        }
        self.counts(id, entries.len());
        let records = Records { subscription, entries };
        self.send(now, id, &Message::Records(records));
    }

    /// Records on their way to a peer, for the note of its sync.
    fn counts(&mut self, id: PeerId, records: usize) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pulled += records as u64;
        }
    }

    fn chunk_named(
        &mut self,
        now: Now,
        id: PeerId,
        chosen: Chosen,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Chosen { ask, prefix, sized } = chosen;
        let mut weights = BTreeMap::new();
        let mut asked = Vec::new();
        for row in answers.into_iter().flat_map(rows_of) {
            let (_, hash) = layout::parse_tree_key(&row.key)?;
            let tree_row = TreeRow::decode(&row.value)?;
            weights.insert(hash, weight(&tree_row));
            asked.push(RecordKey { collection: ask.collection.clone(), id: tree_row.id });
        }
        let aim = self.config.chunk_bytes_aim;
        let heavy = weights.values().sum::<u64>() > 2 * aim && asked.len() > 1;
        if heavy && !sized {
            let chosen = self.collections.get_mut(&ask.collection).and_then(|held| {
                let weigh = |hash: &Digest| weights.get(hash).copied().unwrap_or(u64::MAX);
                held.trie.next_chunk(ask.after.as_ref(), aim, weigh)
            });
            match chosen {
                Some(chunk) => self.read_chunk_names(id, ask, &chunk, true),
                None => self.end_of_chunks(now, id, ask),
            }
            return Ok(());
        }
        let queries = asked.iter().map(get_record).collect();
        self.ask(id, queries, Active::ChunkRecords { ask, prefix, asked });
        Ok(())
    }

    /// The digest is that of what is sent: what changes later comes with the feed.
    fn send_chunk(
        &mut self,
        now: Now,
        id: PeerId,
        ask: AskChunk,
        prefix: Prefix,
        held: &BTreeMap<RecordKey, Stored>,
    ) {
        let entries: Vec<_> =
            held.iter().map(|(key, stored)| self.marks.whole(key, stored)).collect();
        // Records that have grown since they were sized are sized again.
        if entries.len() > 1 && entries.iter().map(entry_bytes).sum::<usize>() > MESSAGE_BYTES_MAX {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.pulls.push_front(Pull::Chunk(ask));
            }
            return;
        }
        let hashed: Vec<tree::Entry> = held
            .iter()
            .map(|(key, stored)| tree::Entry {
                key_hash: crate::id::key_hash(key),
                digest: stored.digest,
            })
            .collect();
        let Ok(digest) = tree::verify_chunk(&prefix, &hashed) else {
            return self.dismiss(now, id, ByeCode::Internal, "a chunk holds a foreign record");
        };
        self.counts(id, entries.len());
        let total = self.collections.get(&ask.collection);
        let chunk = Chunk {
            subscription: ask.subscription,
            prefix: Some(prefix),
            digest,
            seq: self.head.seq,
            entries,
            total: total.map_or(0, |held| held.trie.len() as u64),
            collection: ask.collection,
        };
        self.send(now, id, &Message::Chunk(chunk));
    }
}

impl Active {
    /// Whether it waits for the store; the rest waits for room.
    fn is_reading(&self) -> bool {
        match self {
            Self::WalkRecords { asked, .. } => !asked.is_empty(),
            Self::WalkNames { .. } | Self::ChunkNames(_) | Self::ChunkRecords { .. } => true,
        }
    }
}

fn weight(row: &TreeRow) -> u64 {
    row.len + (row.id.as_str().len() + ENTRY_BYTES) as u64
}

pub(super) fn get_record(key: &RecordKey) -> Query {
    Query::Get { keyspace: Keyspace::Records, key: layout::record_key(key) }
}

/// Records that must be there.
pub(super) fn records(
    keys: &[RecordKey],
    answers: Vec<Answer>,
) -> Result<BTreeMap<RecordKey, Stored>, Damaged> {
    let mut held = BTreeMap::new();
    for (key, answer) in keys.iter().zip(answers) {
        let Answer::Value(Some(value)) = answer else {
            return Err(missing());
        };
        held.insert(key.clone(), Stored::decode(&value)?);
    }
    if held.len() == keys.len() { Ok(held) } else { Err(missing()) }
}

fn tree_rows(answers: Vec<Answer>) -> Result<Vec<TreeRow>, Damaged> {
    answers
        .into_iter()
        .map(|answer| match answer {
            Answer::Value(Some(value)) => TreeRow::decode(&value),
            Answer::Value(None) | Answer::Page(_) => Err(missing()),
        })
        .collect()
}

pub(super) fn rows_of(answer: Answer) -> Vec<crate::io::Row> {
    match answer {
        Answer::Page(page) => page.rows,
        Answer::Value(_) => Vec::new(),
    }
}

/// A row that another one names is not there.
pub(super) const fn missing() -> Damaged {
    CodecError { at: 0, kind: CodecFault::Truncated }
}

/// The rows of the tree below a prefix.
fn below(collection: &CollectionName, prefix: &Prefix) -> KeyRange {
    let packed = prefix.packed();
    let name = [collection.as_str().as_bytes(), b"\0"].concat();
    let start = [name.as_slice(), packed].concat();
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

/// The bytes that an entry of this key takes in a message, with a body of `len` bytes.
pub(super) fn planned_bytes(key: &RecordKey, len: u64) -> u64 {
    len + (key_bytes(key) + ENTRY_BYTES) as u64
}
