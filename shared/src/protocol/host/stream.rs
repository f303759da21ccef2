//! Moves streams to the head: from the newest part of the feed in memory, else by reads of the store.
//!
//! Invariant: a peer without room gets nothing and its place stays behind, which is all there is to
//! resuming a slow consumer. Absent: what a page holds (see `feed`).

use super::{
    Host, HostNote, HostOutput, PeerId, Waiting,
    damage::{Damaged, MISSING},
    feed::{Page, Scan, Stream},
    heal::{get_record, planned_bytes, records},
    layout::{self, Head},
    peer::Stage,
};
use crate::{
    id::{Digest, Pattern, RecordKey, Seq},
    io::{Answer, Keyspace, Query},
    planted::Bug,
    protocol::{
        limits::PAGE_BYTES_AIM,
        message::{Message, Place, Stated},
        wire,
    },
    sorted::SortedMap,
    time::Now,
};
use alloc::{sync::Arc, vec::Vec};
use core::num::NonZeroU32;

/// Rows of the feed that one read takes.
const FEED_ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(511);

/// A read of the feed for one stream.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) peer: PeerId,
    stream: u64,
    /// Slices that had been collected when it was begun.
    slices: u64,
    from: Place,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The feed is being scanned.
    Scan,
    /// Its records are being read.
    Fetch { scan: Scan, asked: Vec<RecordKey> },
}

/// Messages that bring streams at the same place with the same subscriptions to the head.
type Shared = SortedMap<(Vec<(u32, Pattern)>, Place), SharedPage>;

struct SharedPage {
    bytes: Arc<[u8]>,
    entries: u64,
    root: Option<Digest>,
}

impl Host {
    /// Tells everyone what was committed.
    pub(super) fn fan_out(&mut self, now: Now) {
        let mut shared = Shared::new();
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            self.serve(now, id, &mut shared);
            self.pull(now, id);
        }
        self.start_reads();
    }

    /// Gives a peer what it has room for.
    pub(super) fn pump(&mut self, now: Now, id: PeerId) {
        self.pull(now, id);
        self.serve(now, id, &mut Shared::new());
        self.start_reads();
    }

    fn serve(&mut self, now: Now, id: PeerId, shared: &mut Shared) {
        if !self.is_ready() {
            return;
        }
        let head = self.head.seq;
        loop {
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            if peer.stage != Stage::Confirmed || !peer.has_room() {
                return;
            }
            let reader = peer.hello.replica;
            let behind = peer.streams.iter().filter(|stream| stream.is_behind(head));
            let mut rest = false;
            let mut near = None;
            for stream in behind {
                if self.tail.covers(&stream.read) {
                    near = Some(stream.clone());
                    break;
                }
                rest = true;
            }
            let Some(stream) = near else {
                if rest && !peer.reading {
                    self.wanting.insert(id);
                }
                return;
            };
            let is_shared = stream.is_whole()
                && stream.read == stream.told
                && !self.tail.is_personal(&stream, &reader);
            let key = (stream.subscriptions.clone(), stream.told.clone());
            if is_shared && let Some(page) = shared.get(&key) {
                let bytes = page.bytes.clone();
                let (entries, root) = (page.entries, page.root);
                self.moved(id, &stream, head, entries);
                self.send_bytes(now, id, bytes);
                self.synced(id, root);
            } else {
                let page = self.tail.page(&self.marks, &reader, &stream, &self.head);
                let told = self.deliver(now, id, stream.id, page);
                if is_shared && let Some(told) = told {
                    shared.insert(key, told);
                }
            }
        }
    }

    /// A shared message has brought a stream to the head.
    fn moved(&mut self, id: PeerId, stream: &Stream, head: Seq, entries: u64) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pulled += entries;
            if let Some(stream) = peer.stream_mut(stream.id) {
                stream.told = Place::at(head);
                stream.read = Place::at(head);
                stream.cut = head;
                stream.time = self.head.clock;
                stream.horizon = self.horizon.at;
                stream.owes_state = false;
            }
            peer.merge_streams();
        }
    }

    /// Sends a page; what was sent, if it can serve others and brought the stream to the head.
    fn deliver(&mut self, now: Now, id: PeerId, stream: u64, mut page: Page) -> Option<SharedPage> {
        let head = self.head.seq;
        page.cut |= self.config.planted.is(Bug::CutOnEveryPage);
        let peer = self.peers.get_mut(&id)?;
        let stream = peer.stream_mut(stream)?;
        let mut changes = stream.advance(page)?;
        let at_head = changes.cut && changes.upto == Place::at(head);
        if at_head {
            stream.horizon = self.horizon.at;
        }
        stream.owes_state = !at_head && (stream.owes_state || changes.upto.seq > head);
        let subscriptions = stream.subscriptions.clone();
        let entries = changes.entries.len() as u64;
        peer.pulled += entries;
        peer.merge_streams();
        if at_head {
            changes.state = Some(self.stated(&subscriptions));
        }
        let root =
            changes.state.as_ref().and_then(|state| state.roots.first().map(|(_, root)| *root));
        let bytes: Arc<[u8]> = Arc::from(wire::encode(&Message::Changes(changes)));
        self.send_bytes(now, id, bytes.clone());
        if !at_head {
            return None;
        }
        self.synced(id, root);
        Some(SharedPage { bytes, entries, root })
    }

    fn synced(&mut self, id: PeerId, root: Option<Digest>) {
        let head = self.head.seq;
        let (Some(peer), Some(root)) = (self.peers.get_mut(&id), root) else {
            return;
        };
        let pushed = core::mem::take(&mut peer.pushed);
        let pulled = core::mem::take(&mut peer.pulled);
        self.out(HostOutput::Note(HostNote::Synced { peer: id, head, root, pushed, pulled }));
    }

    fn stated(&mut self, subscriptions: &[(u32, Pattern)]) -> Stated {
        Stated {
            seq: self.head.seq,
            horizon: self.horizon.at,
            hlc: self.head.clock,
            roots: subscriptions.iter().map(|(id, pattern)| (*id, self.root_of(pattern))).collect(),
        }
    }

    /// Answers a ping: streams that have silently moved are told of it, then come the roots.
    pub(super) fn pong(&mut self, now: Now, id: PeerId, nonce: u64) {
        let head = Place::at(self.head.seq);
        let state = if self.is_ready() {
            self.tell_silent(now, id, &head);
            let streams = self.peers.get_mut(&id).into_iter().flat_map(|peer| &mut peer.streams);
            let mut standing: Vec<(u32, Pattern)> = Vec::new();
            for stream in streams.filter(|stream| stream.is_whole() && stream.told == head) {
                stream.time = self.head.clock;
                stream.horizon = self.horizon.at;
                standing.extend(stream.subscriptions.iter().cloned());
            }
            (!standing.is_empty()).then(|| self.stated(&standing))
        } else {
            None
        };
        self.send(now, id, &Message::Pong { nonce, state });
    }

    fn tell_silent(&mut self, now: Now, id: PeerId, head: &Place) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut messages = Vec::new();
        for stream in &mut peer.streams {
            if stream.read == *head && stream.told != *head && stream.is_whole() {
                messages.push(stream.tell(Page::empty(&self.head)));
            }
        }
        peer.merge_streams();
        for changes in messages {
            self.send(now, id, &Message::Changes(changes));
        }
    }

    /// Starts reads for peers that need one, in turn.
    pub(super) fn start_reads(&mut self) {
        while self.is_ready() && self.reads < self.config.reads_max {
            let next = self
                .wanting
                .iter()
                .find(|id| Some(**id) > self.last_read)
                .or_else(|| self.wanting.first())
                .copied();
            let Some(id) = next else {
                return;
            };
            self.wanting.remove(&id);
            self.last_read = Some(id);
            self.start_read(id);
        }
    }

    fn start_read(&mut self, id: PeerId) {
        let head = self.head.seq;
        let slices = self.collecting.slices;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let far = peer
            .streams
            .iter()
            .find(|stream| stream.is_behind(head) && !self.tail.covers(&stream.read));
        let (Some(stream), false) = (far, peer.reading) else {
            return;
        };
        let read = Read {
            peer: id,
            stream: stream.id,
            slices,
            from: stream.read.clone(),
            step: Step::Scan,
        };
        let queries = alloc::vec![
            Query::Get { keyspace: Keyspace::Meta, key: layout::HEAD_KEY.to_vec() },
            Query::scan(Keyspace::Feed, layout::feed_behind(&stream.read), FEED_ROWS),
        ];
        peer.reading = true;
        self.reads += 1;
        let ticket = self.ticket(Waiting::Feed(read));
        self.out(HostOutput::Query { ticket, queries });
    }

    /// One step of a read of the feed came back.
    pub(super) fn feed_read(
        &mut self,
        now: Now,
        read: Read,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Some(peer) = self.peers.get_mut(&read.peer) else {
            return Ok(());
        };
        peer.reading = false;
        let reader = peer.hello.replica;
        let found = peer.stream_mut(read.stream);
        // Meanwhile the stream may have been moved or joined to another.
        let Some(stream) = found.filter(|stream| stream.read == read.from) else {
            self.pump(now, read.peer);
            return Ok(());
        };
        let (scan, held) = match read.step {
            Step::Scan => {
                let (scan, asked) = scanned(stream, answers)?;
                if !asked.is_empty() {
                    peer.reading = true;
                    self.reads += 1;
                    let queries = asked.iter().map(get_record).collect();
                    let step = Step::Fetch { scan, asked };
                    let ticket = self.ticket(Waiting::Feed(Read { step, ..read }));
                    self.out(HostOutput::Query { ticket, queries });
                    return Ok(());
                }
                (scan, SortedMap::new())
            }
            Step::Fetch { scan, asked } => {
                // What was collected since is told by the horizon.
                let collects = read.slices != self.collecting.slices;
                let held = records(&asked, answers, collects)
                    .map_err(|damaged| damaged.named_by(&scan.rows))?;
                // A record may have moved on since the rows were read, never back.
                for (seq, key) in &scan.rows {
                    if held.get(key).is_some_and(|stored| stored.positions.latest < *seq) {
                        return Err(Damaged::fed(key, *seq, MISSING));
                    }
                }
                (scan, held)
            }
        };
        let behind_place = self.config.planted.is(Bug::DeltaBehindPlace);
        let mut to = stream.reader(reader);
        if behind_place {
            to.cut = stream.told.seq;
        }
        let page = Page::of_rows(&self.marks, to, scan, &held);
        self.deliver(now, read.peer, read.stream, page);
        self.pump(now, read.peer);
        Ok(())
    }
}

/// The rows that one page can take, and the records to be read for it.
fn scanned(stream: &Stream, answers: Vec<Answer>) -> Result<(Scan, Vec<RecordKey>), Damaged> {
    let mut answers = answers.into_iter();
    let (Some(Answer::Value(Some(head))), Some(Answer::Page(page))) =
        (answers.next(), answers.next())
    else {
        return Err(Damaged::head(MISSING));
    };
    let head = Head::decode(&head).map_err(Damaged::head)?;
    let mut scan = Scan::default();
    let mut asked = Vec::new();
    let mut bytes = 0;
    let mut whole = !page.more;
    for row in page.rows {
        let (seq, key) = layout::parse_feed_key(&row.key)?;
        if stream.covers(&key.collection) {
            let len = layout::decode_len(&row.value);
            let len = len.map_err(|error| Damaged::fed(&key, seq, error))?;
            bytes += planned_bytes(&key, len);
            if bytes > PAGE_BYTES_AIM as u64 && !asked.is_empty() {
                whole = false;
                break;
            }
            asked.push(key.clone());
        }
        scan.rows.push((seq, key));
    }
    scan.head = whole.then_some((head, true));
    Ok((scan, asked))
}
