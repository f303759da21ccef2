//! The feed: its newest part in memory, streams over it, and pages of changes.
//!
//! Invariant: an entry carries every part that changed behind the stream's last *cut* (not behind its
//! place): a record that moved on while a stream was paging is not in the pages already sent, so what
//! changed in it earlier must come with its later entry. Absent: peers, sockets, the order of commits.

use super::layout::{Head, Stored};
use crate::{
    codec,
    hlc::Hlc,
    id::{CollectionName, Digest, Epoch, Pattern, RecordKey, ReplicaId, Seq, SpaceId},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{Body, Changes, ChunkRecord, Conflict, Entry, Kept, Place, Proof},
    },
    record::Record,
    sorted::SortedMap,
};
use alloc::{sync::Arc, vec::Vec};

/// Bytes that an entry takes beside its body, at most, without its key.
pub(super) const ENTRY_BYTES: usize = 96;
/// Most conflicts that an entry tells of; the newest stay.
const CONFLICTS_MAX: usize = 16;
/// What of a frame an entry's record and the values of its conflicts may take: the rest is for the heads
/// of the message, the entry and the conflicts.
const ENTRY_BYTES_MAX: usize = FRAME_BYTES_MAX - (64 << 10);
/// Memory that an entry of the tail takes beside its record's bytes, about.
const RECENT_BYTES: usize = 512;
/// Most entries of a page.
const PAGE_ENTRIES_MAX: usize = 4_096;

/// What an entry's marks are made with.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    pub(super) space: SpaceId,
    pub(super) epoch: Epoch,
    pub(super) key: ProofKey,
    /// Size at which a page is closed.
    pub(super) page_bytes_aim: usize,
    /// The present horizon.
    pub(super) horizon: Hlc,
}

/// The secret of proofs.
#[derive(Clone)]
pub(super) struct ProofKey(pub(super) [u8; 32]);

impl core::fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ProofKey")
    }
}

impl Marks {
    /// Keyed BLAKE3 over (space, collection, id, digest, epoch, seq), each with its length.
    pub(super) fn proof(&self, key: &RecordKey, digest: &Digest, epoch: Epoch, seq: Seq) -> Proof {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        let seq = seq.0.to_be_bytes();
        let parts: [&[u8]; 6] = [
            self.space.as_str().as_bytes(),
            key.collection.as_str().as_bytes(),
            key.id.as_str().as_bytes(),
            digest.as_bytes(),
            epoch.as_bytes(),
            &seq,
        ];
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        first(hasher.finalize().as_bytes())
    }

    /// Whether a record came from this host, or another one of the same secret, as it is. Takes as long for
    /// a mark that is nearly right as for any other.
    pub(super) fn prove(&self, kept: &Kept) -> bool {
        let digest = codec::record_digest(&codec::encode_record(&kept.record));
        let proof = self.proof(&kept.key, &digest, kept.epoch, kept.seq);
        let differing =
            proof.iter().zip(&kept.proof).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        core::hint::black_box(differing) == 0
    }

    fn entry(&self, key: &RecordKey, stored: &Stored, body: Body) -> Entry {
        Entry {
            key: key.clone(),
            seq: stored.positions.latest,
            check: first(stored.digest.as_bytes()),
            proof: self.proof(key, &stored.digest, self.epoch, stored.positions.latest),
            body,
            conflicts: Vec::new(),
        }
    }

    pub(super) fn whole(&self, key: &RecordKey, stored: &Stored) -> Entry {
        self.entry(key, stored, Body::Whole(stored.record.clone()))
    }

    /// A record as a snapshot brings it.
    pub(super) fn in_chunk(&self, key: &RecordKey, stored: &Stored) -> ChunkRecord {
        let seq = stored.positions.latest;
        let proof = self.proof(key, &stored.digest, self.epoch, seq);
        ChunkRecord { key: key.clone(), seq, proof, bytes: stored.bytes.clone() }
    }

    /// The entry for a stream whose last cut is `cut`.
    fn changed(&self, to: Reader, key: &RecordKey, stored: &Stored) -> Entry {
        let mut body = body(&to.replica, to.cut, stored);
        if matches!(body, Body::Own(_)) && to.horizon < self.horizon {
            // It may be there anew, and the reader may still hold what was collected under its name.
            let delta = delta(to.cut, stored);
            if delta == stored.record {
                body = Body::Whole(delta);
            }
        }
        self.entry(key, stored, body)
    }
}

/// For whom an entry is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    pub(super) replica: ReplicaId,
    /// The last cut of its stream.
    pub(super) cut: Seq,
    /// The horizon that it was told last.
    pub(super) horizon: Hlc,
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    let mut head = [0; N];
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = *from;
    }
    head
}

/// Own where the reader can compute the result by itself, else what changed behind `cut`.
fn body(reader: &ReplicaId, cut: Seq, stored: &Stored) -> Body {
    let positions = &stored.positions;
    let foreign = positions.seen.iter().any(|(replica, seq)| *seq > cut && replica != reader);
    let own = positions.seen.get(reader).is_some_and(|seq| *seq > cut);
    if own
        && !foreign
        && positions.altered <= cut
        && let Some(hlc) = stored.record.seen.get(reader)
    {
        return Body::Own(hlc);
    }
    let delta = delta(cut, stored);
    if delta == stored.record { Body::Whole(delta) } else { Body::Delta(delta) }
}

fn delta(cut: Seq, stored: &Stored) -> Record {
    let (record, positions) = (&stored.record, &stored.positions);
    let mut delta = Record::default();
    for (replica, _) in positions.seen.iter().filter(|(_, seq)| **seq > cut) {
        if let Some(hlc) = record.seen.get(replica) {
            delta.seen.set(*replica, hlc);
        }
    }
    for (replica, _) in positions.removed.iter().filter(|(_, seq)| **seq > cut) {
        if let Some(hlc) = record.removed.seen.get(replica) {
            delta.removed.seen.set(*replica, hlc);
        }
    }
    if positions.buried.is_some_and(|seq| seq > cut) {
        delta.removed.buried = record.removed.buried;
    }
    for (key, _) in positions.cells.iter().filter(|(_, seq)| **seq > cut) {
        if let Some(cell) = record.cells.get(key) {
            delta.cells.insert(key.clone(), cell.clone());
        }
    }
    delta
}

/// Estimate, from above, of an entry's encoded length.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let body = match &entry.body {
        Body::Delta(record) | Body::Whole(record) => codec::encode_record(record).len(),
        Body::Own(_) => 9,
    };
    let conflicts: usize = entry.conflicts.iter().map(conflict_bytes).sum();
    body + conflicts + key_bytes(&entry.key) + ENTRY_BYTES
}

fn conflict_bytes(conflict: &Conflict) -> usize {
    value_bytes(conflict) + conflict.field.as_str().len() + ENTRY_BYTES
}

fn value_bytes(conflict: &Conflict) -> usize {
    let mut out = codec::Writer::new();
    if let Some(value) = &conflict.value {
        codec::write_value(&mut out, value);
    }
    out.len()
}

pub(super) fn key_bytes(key: &RecordKey) -> usize {
    key.collection.as_str().len() + key.id.as_str().len()
}

/// One record in the newest part of the feed.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    pub(super) stored: Arc<Stored>,
    /// Each with the position at which it came to be, oldest first.
    pub(super) conflicts: Vec<(Seq, Conflict)>,
}

impl Recent {
    fn bytes(&self, key: &RecordKey) -> usize {
        let conflicts: usize = self.conflicts.iter().map(|(_, told)| conflict_bytes(told)).sum();
        self.stored.bytes.len() + conflicts + key_bytes(key) + RECENT_BYTES
    }

    /// What the reader has a part in and was not told up to `cut`.
    fn conflicts_of<'a>(
        &'a self,
        reader: &'a ReplicaId,
        cut: Seq,
    ) -> impl Iterator<Item = &'a Conflict> {
        let behind = self.conflicts.iter().filter(move |(seq, _)| *seq > cut);
        behind.map(|(_, conflict)| conflict).filter(move |conflict| {
            conflict.won.replica == *reader || conflict.lost.replica == *reader
        })
    }

    /// Keeps the newest conflicts, and of these the newest values for which the record leaves room in a
    /// frame.
    fn limit_conflicts(&mut self) {
        if !self.stored.record.is_live() {
            // What was removed, and perhaps erased, is not told about.
            self.conflicts.iter_mut().for_each(|(_, conflict)| conflict.value = None);
        }
        let surplus = self.conflicts.len().saturating_sub(CONFLICTS_MAX);
        self.conflicts.drain(..surplus);
        let record = self.stored.bytes.len();
        // A message's dictionary makes a record of many replicas longer than its stored form.
        let mut left = ENTRY_BYTES_MAX.saturating_sub(record + record / 8);
        for (_, conflict) in self.conflicts.iter_mut().rev() {
            match left.checked_sub(value_bytes(conflict)) {
                Some(rest) => left = rest,
                None => {
                    left = 0;
                    conflict.value = None;
                }
            }
        }
    }

    /// Whether a reader gets another entry than everybody else.
    fn is_personal(&self, reader: &ReplicaId, cut: Seq) -> bool {
        let written = self.stored.positions.seen.get(reader);
        written.is_some_and(|seq| *seq > cut) || self.conflicts_of(reader, cut).next().is_some()
    }
}

/// The newest part of the feed: each record at its latest position, complete behind `start`.
#[derive(Debug, Default)]
pub(super) struct Tail {
    start: Seq,
    entries: SortedMap<Seq, SortedMap<RecordKey, Recent>>,
    latest: SortedMap<RecordKey, Seq>,
    bytes: usize,
}

impl Tail {
    /// Forgets everything up to `start`, the head.
    pub(super) fn reset(&mut self, start: Seq) {
        *self = Self { start, ..Self::default() };
    }

    /// Whether all that lies behind `place` is here.
    pub(super) fn covers(&self, place: &Place) -> bool {
        place.seq > self.start || (place.seq == self.start && place.key.is_none())
    }

    pub(super) fn push(&mut self, key: RecordKey, mut recent: Recent) {
        let seq = recent.stored.positions.latest;
        let before = self.latest.insert(key.clone(), seq);
        if let Some(mut earlier) = before.and_then(|before| self.take(before, &key)) {
            earlier.conflicts.append(&mut recent.conflicts);
            recent.conflicts = earlier.conflicts;
        }
        recent.limit_conflicts();
        self.bytes += recent.bytes(&key);
        self.entries.entry(seq).or_default().insert(key, recent);
    }

    /// Forgets a record that was collected.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        if let Some(seq) = self.latest.remove(key) {
            drop(self.take(seq, key));
        }
    }

    fn take(&mut self, seq: Seq, key: &RecordKey) -> Option<Recent> {
        let position = self.entries.get_mut(&seq)?;
        let recent = position.remove(key)?;
        if position.is_empty() {
            self.entries.remove(&seq);
        }
        self.bytes = self.bytes.saturating_sub(recent.bytes(key));
        Some(recent)
    }

    /// Forgets the oldest positions until at most `bytes_max` are held.
    pub(super) fn trim(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some((seq, position)) = self.entries.pop_first()
        {
            for (key, recent) in &position {
                self.bytes = self.bytes.saturating_sub(recent.bytes(key));
                self.latest.remove(key);
            }
            self.start = seq;
        }
    }

    fn behind<'a>(
        &'a self,
        place: &'a Place,
    ) -> impl Iterator<Item = (Seq, &'a RecordKey, &'a Recent)> {
        self.entries
            .range(place.seq..)
            .flat_map(|(seq, position)| {
                position.iter().map(move |(key, recent)| (*seq, key, recent))
            })
            .skip_while(move |(seq, key, _)| !is_behind(*seq, key, place))
    }

    /// Whether `reader` gets other entries than everybody else behind the stream's place.
    pub(super) fn is_personal(&self, stream: &Stream, reader: &ReplicaId) -> bool {
        self.behind(&stream.read).any(|(_, _, recent)| recent.is_personal(reader, stream.cut))
    }

    /// The next page for a stream whose place is covered.
    pub(super) fn page(
        &self,
        marks: &Marks,
        reader: &ReplicaId,
        stream: &Stream,
        head: &Head,
    ) -> Page {
        let mut page = Page::default();
        let to = stream.reader(*reader);
        for (_, key, recent) in self.behind(&stream.read) {
            if !stream.covers(&key.collection) {
                continue;
            }
            let mut entry = marks.changed(to, key, &recent.stored);
            entry.conflicts = recent.conflicts_of(reader, stream.cut).cloned().collect();
            if !page.take(entry, marks.page_bytes_aim) {
                return page;
            }
        }
        page.upto = Place::at(head.seq);
        page.cut = true;
        page.time = head.clock;
        page
    }
}

fn is_behind(seq: Seq, key: &RecordKey, place: &Place) -> bool {
    match &place.key {
        Some(last) => (seq, key) > (place.seq, last),
        None => seq > place.seq,
    }
}

/// Part of the feed, as one message can carry it.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    bytes: usize,
    pub(super) upto: Place,
    pub(super) cut: bool,
    /// The clock when a cut at `upto` was the head.
    time: Hlc,
}

impl Page {
    /// Nothing up to a head.
    pub(super) fn empty(head: &Head) -> Self {
        Self { upto: Place::at(head.seq), cut: true, time: head.clock, ..Self::default() }
    }

    /// Adds the next entry, unless the page is full.
    fn take(&mut self, entry: Entry, aim: usize) -> bool {
        let bytes = entry_bytes(&entry);
        let full = self.bytes + bytes > aim || self.entries.len() >= PAGE_ENTRIES_MAX;
        if full && !self.entries.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.upto = Place { seq: entry.seq, key: Some(entry.key.clone()) };
        self.entries.push(entry);
        true
    }

    /// A page of records that were read from the store behind a scan of the feed: `rows` as scanned,
    /// `held` as read. A record that has moved on in between comes later; it breaks the cut.
    pub(super) fn of_rows(
        marks: &Marks,
        to: Reader,
        scan: Scan,
        held: &SortedMap<RecordKey, Stored>,
    ) -> Self {
        let mut page = Self::default();
        let mut whole = scan.head;
        for (seq, key) in scan.rows {
            if let Some(stored) = held.get(&key) {
                if stored.positions.latest != seq {
                    whole = whole.map(|(head, _)| (head, false));
                } else if !page.take(marks.changed(to, &key, stored), marks.page_bytes_aim) {
                    return page;
                }
            }
            page.upto = Place { seq, key: Some(key) };
        }
        if let Some((head, cut)) = whole {
            page.upto = Place::at(head.seq);
            page.cut = cut;
            page.time = head.clock;
        }
        page
    }
}

/// What a scan of the feed found.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    /// The head of the scan's snapshot and whether a cut may stand there, if the scan reached it.
    pub(super) head: Option<(Head, bool)>,
    pub(super) rows: Vec<(Seq, RecordKey)>,
}

/// Subscriptions that stand at one place.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// Unique within the peer.
    pub(super) id: u64,
    pub(super) subscriptions: Vec<(u32, Pattern)>,
    /// Where the peer stands.
    pub(super) told: Place,
    /// The last cut at or before `told`.
    pub(super) cut: Seq,
    /// At or behind `told`: nothing between the two concerns the subscriptions.
    pub(super) read: Place,
    /// Whether the peer is to hear of a cut even if nothing concerns it: it needs roots, or a cut.
    pub(super) owes_state: bool,
    /// Everything that concerns the subscriptions up to this time has come, or lies at or before `read`.
    pub(super) time: Hlc,
    /// The horizon that the peer was told last.
    pub(super) horizon: Hlc,
}

impl Stream {
    pub(super) fn covers(&self, collection: &CollectionName) -> bool {
        self.subscriptions.iter().any(|(_, pattern)| pattern.covers(collection))
    }

    /// For whom its entries are made.
    pub(super) const fn reader(&self, replica: ReplicaId) -> Reader {
        Reader { replica, cut: self.cut, horizon: self.horizon }
    }

    /// Whether something is to be read, or said, to bring it to the head.
    pub(super) fn is_behind(&self, head: Seq) -> bool {
        let place = &self.read;
        // A read may have seen a commit of which the head does not know yet.
        place.seq < head || (place.seq == head && (place.key.is_some() || self.owes_state))
    }

    /// Whether it stands at a cut.
    pub(super) fn is_whole(&self) -> bool {
        self.told == Place::at(self.cut)
    }

    /// The message for a page, or `None` if the peer need not hear of it now. Moves the stream.
    pub(super) fn advance(&mut self, page: Page) -> Option<Changes> {
        if page.entries.is_empty() && self.is_whole() && !self.owes_state {
            self.read = page.upto;
            if page.cut {
                self.time = page.time;
            }
            return None;
        }
        Some(self.tell(page))
    }

    /// The message for a page. Moves the stream.
    pub(super) fn tell(&mut self, page: Page) -> Changes {
        let after = core::mem::replace(&mut self.told, page.upto.clone());
        self.read.clone_from(&page.upto);
        if page.cut {
            self.cut = page.upto.seq;
            self.time = page.time;
        }
        Changes {
            subscriptions: self.subscriptions.iter().map(|(id, _)| *id).collect(),
            after,
            upto: page.upto,
            cut: page.cut,
            entries: page.entries,
            state: None,
        }
    }
}
