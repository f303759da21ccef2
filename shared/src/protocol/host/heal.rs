//! Heal: answers to what a peer asks about trees. Chunks of a snapshot are put together in `snapshot`.
//!
//! Invariant: nothing is kept between two answers but the rest of the one that is being sent, and where the
//! last chunk ended, so a peer may ask anew of any host. One answer per peer is at work at a time. Absent: what the peer does
//! with it.

use super::{
    Host, HostOutput, PeerId, Waiting,
    damage::{Damaged, MISSING},
    feed::{ENTRY_BYTES, entry_bytes, key_bytes},
    layout::{self, Stored, TreeRow},
    snapshot::Chosen,
};
use crate::{
    id::{CollectionName, Digest, RecordKey},
    io::{Answer, Keyspace, Query},
    planted::Bug,
    protocol::{
        limits::PAGE_BYTES_AIM,
        message::{AskChunk, AskRoots, ByeCode, FEATURE_SKETCH, Message, Records, Roots, Walk},
        wire,
    },
    sorted::SortedMap,
    time::Now,
    tree::{self, Trie, WalkLimits},
};
use alloc::{collections::VecDeque, vec::Vec};

/// Most questions of a peer that wait for their answer, a walk of each of its subscriptions among them.
const PULLS_MAX: usize = 256;
/// Most collections of one page of roots.
const ROOTS_MAX: usize = 1_000;
pub(super) const WALK_LIMITS: WalkLimits = WalkLimits {
    work_max: 65_536,
    reply_bytes_max: 256 << 10,
    nodes_max: 8_192,
    differs_max: 512,
    list_entries_max: tree::LIST_ENTRIES_MAX,
    deep_nodes_max: 8,
    cells_max: tree::CELLS_MAX,
    sketched_entries_min: tree::SKETCHED_ENTRIES_MIN,
};
/// Most rows of the tree of one read, for the names of records: a sketch finds many more.
const NAMES_MAX: usize = 512;

/// The questions of a peer that wait for their answer, in their order.
#[derive(Debug, Default)]
pub(super) struct Pulls(VecDeque<WaitingPull>);

/// A question that waits.
#[derive(Debug)]
enum WaitingPull {
    Roots(AskRoots),
    Chunk(AskChunk),
    /// As it came: decoded it takes ten times as much.
    Walk {
        subscription: u32,
        message: Vec<u8>,
    },
}

impl Pulls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one that came as this message.
    ///
    /// # Errors
    /// Why its peer is sent away. Walks go from message to answer: who asks twice does not walk.
    pub(super) fn push(
        &mut self,
        pull: Pull,
        message: &[u8],
    ) -> Result<(), (ByeCode, &'static str)> {
        if self.0.len() >= PULLS_MAX {
            return Err((ByeCode::Busy, "too many questions wait"));
        }
        let waiting = match pull {
            Pull::Roots(ask) => WaitingPull::Roots(ask),
            Pull::Chunk(ask) => WaitingPull::Chunk(ask),
            Pull::Walk(Walk { subscription, .. }) => {
                let same = |other: &WaitingPull| matches!(other, WaitingPull::Walk { subscription: other, .. } if *other == subscription);
                if self.0.iter().any(same) {
                    let reason = "a walk of this subscription waits already";
                    return Err((ByeCode::Misbehaved, reason));
                }
                WaitingPull::Walk { subscription, message: message.to_vec() }
            }
        };
        self.0.push_back(waiting);
        Ok(())
    }

    fn next(&mut self) -> Option<Pull> {
        Some(match self.0.pop_front()? {
            WaitingPull::Roots(ask) => Pull::Roots(ask),
            WaitingPull::Chunk(ask) => Pull::Chunk(ask),
            WaitingPull::Walk { message, .. } => match wire::decode(&message) {
                Ok(Message::Walk(walk)) => Pull::Walk(walk),
                // It was one when it came.
                _ => return None,
            },
        })
    }
}

/// A question.
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
            Self::Roots(_) | Self::Chunk(_) => None,
            Self::Walk(walk) => Some(&walk.collection),
        }
    }
}

/// An answer that is being put together.
#[derive(Debug)]
pub(super) enum Active {
    /// Rows of the tree are being read, for the names of so many records.
    WalkNames { found: Found, asked: usize },
    /// Records are to be sent, or being read, before the walk goes on.
    WalkRecords { found: Found, asked: Vec<RecordKey> },
    /// The records of a chunk are being read.
    Chunk(Chosen),
}

/// What a step of a walk has found, and the message that follows it.
#[derive(Debug)]
pub(super) struct Found {
    walk: Walk,
    unnamed: VecDeque<Digest>,
    named: VecDeque<TreeRow>,
}

/// One collection, as the tree knows it.
#[derive(Debug, Default)]
pub(super) struct Collection {
    pub(super) trie: Trie,
    /// Sum of the lengths of its records, about.
    pub(super) bytes: u64,
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
                None => match peer.pulls.next() {
                    Some(pull) => self.answer(now, id, pull),
                    None => return,
                },
            }
        }
    }

    /// Begins to answer a question; none is being answered.
    pub(super) fn answer(&mut self, now: Now, id: PeerId, pull: Pull) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.slices = self.collecting.slices;
        }
        match pull {
            Pull::Roots(ask) => self.answer_roots(now, id, &ask),
            Pull::Walk(walk) => self.answer_walk(now, id, walk),
            Pull::Chunk(ask) => self.answer_chunk(now, id, ask),
        }
    }

    fn go_on(&mut self, now: Now, id: PeerId, active: Active) {
        match active {
            Active::WalkRecords { found, asked } if asked.is_empty() => {
                self.walk_records(now, id, found);
            }
            reading
            @ (Active::WalkNames { .. } | Active::WalkRecords { .. } | Active::Chunk(_)) => {
                self.set_active(id, reading);
            }
        }
    }

    fn set_active(&mut self, id: PeerId, active: Active) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.active = Some(active);
        }
    }

    pub(super) fn ask(&mut self, id: PeerId, queries: Vec<Query>, active: Active) {
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
            let covers = pattern.covers(name) || self.config.planted.is(Bug::RootsOfAll);
            if told || collection.trie.is_empty() || !covers {
                continue;
            }
            if roots.len() == ROOTS_MAX {
                more = true;
                break;
            }
            roots.push((name.clone(), collection.trie.root()));
        }
        let answer = Roots {
            subscription: ask.subscription,
            seq: self.head.seq,
            horizon: self.horizon.at,
            hlc: self.head.clock,
            roots,
            more,
        };
        self.send(now, id, &Message::Roots(answer));
    }

    fn answer_walk(&mut self, now: Now, id: PeerId, walk: Walk) {
        let mut nothing = Trie::new();
        let trie = match self.collections.get_mut(&walk.collection) {
            Some(collection) => &mut collection.trie,
            None => &mut nothing,
        };
        let mut limits = self.config.walk;
        if self.peers.get(&id).is_none_or(|peer| peer.hello.features & FEATURE_SKETCH == 0) {
            limits.cells_max = 0;
        }
        let response = match tree::respond(trie, &walk.message, &limits) {
            Ok(response) => response,
            Err(_refused) => {
                return self.dismiss(now, id, ByeCode::Misbehaved, "a walk is not well-formed");
            }
        };
        let Some(message) = response.reply else {
            return;
        };
        let walk = Walk { message, ..walk };
        let unnamed = response.differs.into();
        self.walk_records(now, id, Found { walk, unnamed, named: VecDeque::new() });
    }

    /// Reads as many of the records found as one message takes, or the next names, or ends with the
    /// walk's answer.
    fn walk_records(&mut self, now: Now, id: PeerId, mut found: Found) {
        let mut asked = Vec::new();
        let mut bytes = 0;
        while let Some(row) = found.named.front() {
            bytes += weight(row);
            if bytes > PAGE_BYTES_AIM as u64 && !asked.is_empty() {
                break;
            }
            let collection = found.walk.collection.clone();
            asked.push(RecordKey { collection, id: row.id.clone() });
            found.named.pop_front();
        }
        if !asked.is_empty() {
            let queries = asked.iter().map(get_record).collect();
            return self.ask(id, queries, Active::WalkRecords { found, asked });
        }
        let names = found.unnamed.len().min(NAMES_MAX);
        if names == 0 {
            return self.send(now, id, &Message::Walk(found.walk));
        }
        let get_row = |hash: Digest| Query::Get {
            keyspace: Keyspace::Tree,
            key: layout::tree_key(&found.walk.collection, &hash),
        };
        let queries = found.unnamed.drain(..names).map(get_row).collect();
        self.ask(id, queries, Active::WalkNames { found, asked: names });
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
            Some(Active::WalkNames { mut found, asked }) => {
                let rows = tree_rows(answers, self.collects(id))?;
                if rows.len() != asked && !self.collects(id) {
                    return Err(missing());
                }
                found.named = rows.into();
                self.walk_records(now, id, found);
            }
            Some(Active::WalkRecords { found, asked }) => {
                let held = records(&asked, answers, self.collects(id))?;
                self.send_records(now, id, found.walk.subscription, &held);
                self.set_active(id, Active::WalkRecords { found, asked: Vec::new() });
            }
            Some(Active::Chunk(chosen)) => self.chunk_read(now, id, chosen, answers)?,
            None => {}
        }
        self.pull(now, id);
        Ok(())
    }

    /// Whether records were collected since the peer's question was begun: some of what it concerns may be gone.
    pub(super) fn collects(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_none_or(|peer| peer.slices != self.collecting.slices)
    }

    fn send_records(
        &mut self,
        now: Now,
        id: PeerId,
        subscription: u32,
        held: &SortedMap<RecordKey, Stored>,
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
    pub(super) fn counts(&mut self, id: PeerId, records: usize) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pulled += records as u64;
        }
    }
}

impl Active {
    /// Whether it waits for the store; the rest waits for room.
    fn is_reading(&self) -> bool {
        match self {
            Self::WalkRecords { asked, .. } => !asked.is_empty(),
            Self::WalkNames { .. } | Self::Chunk(_) => true,
        }
    }
}

pub(super) fn weight(row: &TreeRow) -> u64 {
    row.len + (row.id.as_str().len() + ENTRY_BYTES) as u64
}

pub(super) fn get_record(key: &RecordKey) -> Query {
    Query::Get { keyspace: Keyspace::Records, key: layout::record_key(key) }
}

/// Records that must be there, unless some were `collected` since they were named.
pub(super) fn records(
    keys: &[RecordKey],
    answers: Vec<Answer>,
    collected: bool,
) -> Result<SortedMap<RecordKey, Stored>, Damaged> {
    let mut held = SortedMap::new();
    for (key, answer) in keys.iter().zip(answers) {
        match answer {
            Answer::Value(Some(value)) => {
                let stored = Stored::decode(&value).map_err(|error| Damaged::record(key, error))?;
                held.insert(key.clone(), stored);
            }
            Answer::Value(None) if collected => {}
            Answer::Value(None) | Answer::Page(_) => return Err(Damaged::record(key, MISSING)),
        }
    }
    if held.len() == keys.len() || collected { Ok(held) } else { Err(missing()) }
}

fn tree_rows(answers: Vec<Answer>, collected: bool) -> Result<Vec<TreeRow>, Damaged> {
    answers
        .into_iter()
        .filter(|answer| !collected || !matches!(answer, Answer::Value(None)))
        .map(|answer| match answer {
            Answer::Value(Some(value)) => Ok(TreeRow::decode(&value)?),
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
pub(super) fn missing() -> Damaged {
    Damaged::from(MISSING)
}

/// The bytes that an entry of this key takes in a message, with a body of `len` bytes.
pub(super) fn planned_bytes(key: &RecordKey, len: u64) -> u64 {
    len + (key_bytes(key) + ENTRY_BYTES) as u64
}
