//! The responder's machine: serves one space to many peers. Sans-IO: inputs and the time go in, what is
//! to be done comes out.
//!
//! A row's way: `receive` queues it, `pipeline` reads, judges (`judge`) and commits it with its group,
//! and once that is durable acknowledges it and fans it out (`stream`, `feed`). `boot` opens the store,
//! `welcome` is the handshake, `refill` takes back what was lost, `horizon` collects what is dead for long,
//! `direct` is for who has no replica of his own, with what it remembers in `memo`,
//! `heal` and `snapshot` answer questions about trees, `layout` is what is stored, `scrub` looks for what is damaged
//! in it, `damage` says what is to be made of that and `mend` does it. `presence` tells peers of each other, and stores nothing;
//! `reading` is for who reads the store himself.
//!
//! Invariants: nothing is acknowledged before its commit; every commit is guarded by the head it was
//! based on, so of two hosts on one store one finds itself stale; every queue is bounded. Absent:
//! sockets, tokens, tasks, clocks, randomness.

mod boot;
mod damage;
mod direct;
mod feed;
mod gather;
mod group;
mod heal;
mod horizon;
mod interface;
mod judge;
mod layout;
mod memo;
mod mend;
mod origin;
mod peer;
mod pipeline;
mod presence;
mod quota;
mod reading;
mod receive;
mod refill;
mod scrub;
mod slice;
mod snapshot;
mod stream;
mod survey;
mod welcome;

use crate::{
    hlc::{Hlc, HlcClock},
    id::{CollectionName, Digest, Pattern, Seq},
    io::{Answer, CommitOutcome, FaultClass, Ticket},
    protocol::{
        message::{Bye, ByeCode, Left, Message},
        wire,
    },
    sorted::{SortedMap, SortedSet},
    time::{Millis, MonoMillis, Now},
};
use alloc::{collections::VecDeque, string::String, sync::Arc, vec::Vec};
use boot::RETRY_AFTER;
use feed::{Marks, ProofKey, Tail};
use gather::Gathering;
use heal::Collection;
use horizon::{Collecting, Horizon};
use layout::Head;
use peer::{Due, Peer};
use pipeline::{Job, Pipeline};
use presence::Crowd;
use scrub::Scrub;
use stream::Read;

pub use damage::{DamagedRow, Mended};
pub use direct::{
    DirectAnswer, DirectCode, DirectDone, DirectRecord, DirectRefusal, DirectResults, DirectRow,
    DirectWrite, Expected, MEMO_KEPT, MemoKey,
};
pub use interface::{
    Grant, HostConfig, HostFacts, HostInput, HostNote, HostOutput, PeerId, PeerStanding, RETENTION,
    RefillPolicy,
};
pub use quota::Quota;
pub use reading::{
    Standing, StoredRecord, StoredReplica, collection_queries, feed_query, read_feed,
};
pub use scrub::Scrubbed;

/// A row of the store's log: which row was accepted (its stamp, and its origin's digest), and its place in the feed.
#[cfg(feature = "test-util")]
#[must_use]
pub fn accepted_row(row: &crate::io::Row) -> Option<(crate::hlc::Stamp, [u8; 16], Seq)> {
    let accepted = layout::Accepted::decode(&row.value).ok()?;
    Some((layout::parse_log_key(&row.key)?, accepted.digest, accepted.seq))
}

/// An answer that the store keeps: the name of its request, and where each part of that was done.
#[cfg(feature = "test-util")]
#[must_use]
pub fn kept_answer(row: &crate::io::Row) -> Option<([u8; 32], Vec<Option<Seq>>)> {
    memo::kept_answer(row)
}

/// Serves one space to many peers.
///
/// Feed each input to [`Self::handle`] and drain [`Self::poll`] before the next one. Outputs are carried
/// out in order; queries and commits may be under way together, so a driver needs one writer and any
/// number of readers.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    marks: Marks,
    phase: Phase,
    /// This run's epoch is in the store.
    claimed: bool,
    stopping: bool,
    head: Head,
    /// The stored head, exactly.
    head_bytes: Option<Vec<u8>>,
    lineage: Vec<Left>,
    /// Rows of the trees could not be read.
    unread_leaves: bool,
    /// The greatest position in rows of the trees.
    reaches: Seq,
    clock: HlcClock,
    /// When it was opened.
    opened: MonoMillis,
    horizon: Horizon,
    collecting: Collecting,
    /// The clock when anything but the horizon was last written.
    written: Hlc,
    collections: SortedMap<CollectionName, Collection>,
    /// Roots at the head.
    roots: SortedMap<Pattern, Digest>,
    tail: Tail,
    peers: SortedMap<PeerId, Peer>,
    jobs: VecDeque<Job>,
    /// Direct writes that are not answered.
    direct: SortedSet<u64>,
    /// Peers that are told of copies of rows that are accepted.
    watchers: SortedSet<PeerId>,
    pipeline: Pipeline,
    gathering: Gathering,
    crowd: Crowd,
    scrub: Scrub,
    tickets: SortedMap<Ticket, Waiting>,
    next_ticket: u64,
    reads: usize,
    /// Peers that wait for one of the reads.
    wanting: SortedSet<PeerId>,
    last_read: Option<PeerId>,
    wake: Option<MonoMillis>,
    outputs: VecDeque<HostOutput>,
}

/// How far the store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its head is being read.
    Reading,
    /// It is being read again: it was not what a commit was based on.
    Contested,
    /// It is damaged, and where the feed ends is being read.
    Surveying,
    /// The new epoch is being committed.
    Claiming,
    /// The trees are being loaded.
    Loading,
    /// Rows of the trees are damaged: everything is read before anybody is served.
    Mending,
    Ready,
    /// It failed, and is tried again then.
    Waiting(MonoMillis),
    /// Nobody is served any more.
    Over,
}

/// Who waits for an effect.
#[derive(Debug)]
enum Waiting {
    Boot,
    Group,
    Scrub,
    Feed(Read),
    Pull(PeerId),
}

impl Host {
    /// A host that begins by reading its store.
    #[must_use]
    pub fn open(config: HostConfig, now: Now) -> Self {
        let marks = Marks {
            space: config.space.clone(),
            epoch: config.epoch,
            key: ProofKey(config.proof_key),
            page_bytes_aim: config.page_bytes_aim,
            horizon: Hlc::ZERO,
        };
        let mut host = Self {
            marks,
            phase: Phase::Reading,
            claimed: false,
            stopping: false,
            head: Head { epoch: config.epoch, seq: Seq(0), clock: Hlc::ZERO },
            head_bytes: None,
            lineage: Vec::new(),
            unread_leaves: false,
            reaches: Seq(0),
            clock: HlcClock::default(),
            opened: now.mono,
            horizon: Horizon::default(),
            collecting: Collecting::default(),
            written: Hlc::ZERO,
            collections: SortedMap::new(),
            roots: SortedMap::new(),
            tail: Tail::default(),
            peers: SortedMap::new(),
            jobs: VecDeque::new(),
            direct: SortedSet::new(),
            watchers: SortedSet::new(),
            pipeline: Pipeline::Idle,
            gathering: Gathering::default(),
            crowd: Crowd::default(),
            scrub: Scrub::default(),
            tickets: SortedMap::new(),
            next_ticket: 0,
            reads: 0,
            wanting: SortedSet::new(),
            last_read: None,
            wake: None,
            outputs: VecDeque::new(),
            config,
        };
        host.read_head();
        host
    }

    /// Takes in what happened. Never fails: misconduct and faults come out as [`HostOutput::Close`] and
    /// [`HostOutput::Note`]. Inputs of peers that are not known (any more) and of tickets that were
    /// answered before are ignored.
    pub fn handle(&mut self, now: Now, input: HostInput) {
        match input {
            HostInput::Opened { peer, hello, grant } => self.opened_by(now, peer, hello, grant),
            HostInput::Message { peer, bytes } => self.receive(now, peer, &bytes),
            HostInput::Sent { peer, bytes } => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.sent(bytes, now.mono);
                    self.crowd.due |=
                        known.audience.is_some_and(|told| told.is_behind(&self.crowd));
                    self.pump(now, peer);
                }
            }
            HostInput::Regranted { peer, grant } => self.regrant(now, peer, grant),
            HostInput::Dismissed { peer, bye } => self.bye(now, peer, bye),
            HostInput::Gone { peer } => drop(self.forget(peer)),
            HostInput::Write(write) => self.take_direct(now, write),
            HostInput::Answered { ticket, result } => self.answered(now, ticket, result),
            HostInput::Committed { ticket, result } => self.committed(now, ticket, result),
            HostInput::Deadline => self.pass_deadline(now),
            HostInput::Stop => self.stop(now),
        }
        self.tell_presence(now);
    }

    /// The next thing to be done.
    #[must_use]
    pub fn poll(&mut self) -> Option<HostOutput> {
        self.outputs.pop_front()
    }

    /// When to call with [`HostInput::Deadline`], if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoMillis> {
        self.wake.into_iter().chain(self.gathering.deadline()).min()
    }

    /// Whether nothing is under way: no effect, nobody waiting, nothing to be polled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty()
            && self.tickets.is_empty()
            && (self.jobs.is_empty() || self.phase == Phase::Over)
            && matches!(self.phase, Phase::Ready | Phase::Over)
    }

    /// What can be told; computes the roots, O(changes since they were last computed) or more.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        HostFacts {
            ready: self.is_ready(),
            epoch: self.marks.epoch,
            head: self.head.seq,
            clock: self.clock.last(),
            horizon: self.horizon.at,
            peers: self.peers.len(),
            waiting: self.jobs.len(),
            scrubbed: self.scrub.done,
            collections: self
                .collections
                .iter()
                .map(|(name, collection)| {
                    let whole = collection.trie.under(&crate::tree::Prefix::ROOT);
                    (name.clone(), whole.digest(), whole.count())
                })
                .collect(),
        }
    }

    /// The last position.
    #[must_use]
    pub const fn head(&self) -> Seq {
        self.head.seq
    }

    /// How far each peer is, by its name.
    pub fn standings(&self) -> impl Iterator<Item = PeerStanding> + '_ {
        self.peers.iter().map(|(peer, known)| PeerStanding {
            peer: *peer,
            read: known.streams.iter().map(|stream| stream.read.seq).min(),
            unsent: known.unsent(),
        })
    }

    fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    fn ticket(&mut self, waiting: Waiting) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, waiting);
        ticket
    }

    fn out(&mut self, output: HostOutput) {
        self.outputs.push_back(output);
    }

    fn answered(&mut self, now: Now, ticket: Ticket, result: Result<Vec<Answer>, FaultClass>) {
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return;
        };
        let is_scrub = matches!(waiting, Waiting::Scrub);
        let (peer, taken) = match waiting {
            Waiting::Boot => (None, result.map(|answers| self.boot_read(now, answers))),
            Waiting::Group => (None, result.map(|answers| self.group_read(now, answers))),
            Waiting::Scrub => (None, result.map(|answers| self.scrub_answered(now, answers))),
            Waiting::Feed(read) => {
                self.reads = self.reads.saturating_sub(1);
                let peer = read.peer;
                (Some(peer), result.map(|answers| self.feed_read(now, read, answers)))
            }
            Waiting::Pull(peer) => {
                (Some(peer), result.map(|answers| self.pulled(now, peer, answers)))
            }
        };
        let class = match taken {
            Ok(Ok(())) => None,
            Ok(Err(damaged)) if peer.is_none() || damage::is_later(&damaged.error) => {
                Some(FaultClass::Corrupt)
            }
            Ok(Err(damaged)) => {
                // Its question is answered once that is put right.
                if let Some(peer) = peer {
                    self.dismiss_for_fault(now, peer, FaultClass::Transient);
                }
                self.suspect(damaged);
                None
            }
            Err(class) => Some(class),
        };
        match (class, peer) {
            (None, _) => {}
            (Some(class), Some(peer)) => {
                self.out(HostOutput::Note(HostNote::StoreFailed { class }));
                self.dismiss_for_fault(now, peer, class);
            }
            (Some(class), None) if is_scrub => self.scrub_failed(now, class),
            (Some(class), None) => self.group_failed(now, class),
        }
        self.start_reads();
    }

    fn committed(&mut self, now: Now, ticket: Ticket, result: Result<CommitOutcome, FaultClass>) {
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return;
        };
        match (waiting, result) {
            (Waiting::Scrub, Err(class)) => self.scrub_failed(now, class),
            (_, Err(class)) => self.group_failed(now, class),
            (Waiting::Boot, Ok(outcome)) => self.boot_committed(outcome),
            (Waiting::Group, Ok(outcome)) => self.group_committed(now, outcome),
            (Waiting::Scrub, Ok(outcome)) => self.scrub_committed(now, outcome),
            (Waiting::Feed(_) | Waiting::Pull(_), Ok(_)) => {}
        }
        if self.stopping {
            self.finish_stop(now);
        }
    }

    fn send(&mut self, now: Now, id: PeerId, message: &Message) {
        self.send_bytes(now, id, Arc::from(wire::encode(message)));
    }

    fn send_bytes(&mut self, now: Now, id: PeerId, bytes: Arc<[u8]>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.sends(bytes.len(), now.mono);
        let deadline = peer.deadline();
        self.wake_by(deadline);
        self.out(HostOutput::Send { peer: id, bytes });
    }

    fn forget(&mut self, id: PeerId) -> Option<Peer> {
        self.wanting.remove(&id);
        let peer = self.peers.remove(&id)?;
        peer.tabs.values().for_each(|shown| self.crowd.hide(*shown));
        Some(peer)
    }

    fn bye(&mut self, now: Now, id: PeerId, bye: Bye) {
        self.send(now, id, &Message::Bye(bye.clone()));
        self.closed(id, bye);
    }

    /// One end has said why the channel ends.
    fn closed(&mut self, id: PeerId, bye: Bye) {
        if self.forget(id).is_some() {
            let code = bye.code;
            self.out(HostOutput::Close { peer: id, bye });
            self.out(HostOutput::Note(HostNote::Closed { peer: id, code }));
        }
    }

    fn dismiss(&mut self, now: Now, id: PeerId, code: ByeCode, reason: &str) {
        let bye = Bye { code, reason: String::from(reason), retry_after: None };
        self.bye(now, id, bye);
    }

    fn dismiss_for_fault(&mut self, now: Now, id: PeerId, class: FaultClass) {
        let (code, reason, after) = match class {
            FaultClass::Full => (ByeCode::StorageFull, "the store is full", FULL_AFTER),
            FaultClass::Transient => (ByeCode::Storage, "the store failed", RETRY_AFTER),
            FaultClass::Corrupt | FaultClass::Permanent => {
                (ByeCode::Storage, "the store failed", FULL_AFTER)
            }
        };
        let bye = Bye { code, reason: String::from(reason), retry_after: Some(after) };
        self.bye(now, id, bye);
    }

    /// Nothing in memory can be trusted any more, or the store cannot.
    fn give_up(&mut self, now: Now, class: Option<FaultClass>) {
        self.phase = Phase::Over;
        self.pipeline = Pipeline::Idle;
        self.jobs.clear();
        self.fail_direct();
        self.out(HostOutput::Note(HostNote::Fatal { class }));
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            match class {
                Some(class) => self.dismiss_for_fault(now, id, class),
                None => self.send_away(now, id),
            }
        }
    }

    fn send_away(&mut self, now: Now, id: PeerId) {
        let bye = Bye {
            code: ByeCode::ShuttingDown,
            reason: String::from("this server stops serving the space"),
            retry_after: Some(RETRY_AFTER),
        };
        self.bye(now, id, bye);
    }

    fn stop(&mut self, now: Now) {
        self.stopping = true;
        self.finish_stop(now);
    }

    /// Ends once no commit is under way; what was not committed was not acknowledged.
    fn finish_stop(&mut self, now: Now) {
        if !self.pipeline.is_committing() {
            self.phase = Phase::Over;
            self.bye_to_all(now);
        }
    }

    fn bye_to_all(&mut self, now: Now) {
        self.jobs.clear();
        self.fail_direct();
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            self.send_away(now, id);
        }
    }

    fn wake_by(&mut self, deadline: MonoMillis) {
        self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }

    fn pass_deadline(&mut self, now: Now) {
        if self.wake.is_none_or(|wake| now.mono < wake) {
            // Over, whether or not a group can be begun.
            self.gathering.holds(now.mono, self.jobs.len());
            return self.start_group(now);
        }
        self.wake = None;
        if let Phase::Waiting(at) = self.phase {
            if now.mono >= at {
                self.read_head();
            } else {
                self.wake_by(at);
            }
        }
        self.keep_horizon(now);
        self.scrub_deadline(now);
        self.start_group(now);
        let due: Vec<(PeerId, Due)> = self
            .peers
            .iter()
            .map(|(id, peer)| (*id, peer.due(now.mono)))
            .filter(|(_, due)| *due != Due::Nothing)
            .collect();
        for (id, due) in due {
            match due {
                Due::Nothing => {}
                Due::Ping => {
                    let nonce = now.mono.0;
                    self.send(now, id, &Message::Ping { nonce });
                }
                Due::Silent => self.dismiss(now, id, ByeCode::Done, "nothing was heard for long"),
                Due::Stuck => {
                    let reason = "what was sent is not taken";
                    self.dismiss(now, id, ByeCode::SlowConsumer, reason);
                }
            }
        }
        let next = self.peers.values().map(Peer::deadline).min();
        if let Some(next) = next {
            // Looking at every peer costs something: not for each of them alone.
            self.wake_by(next.max(now.mono + LOOK_EVERY));
        }
    }
}

/// How long peers stay away while the store is full or broken.
const FULL_AFTER: Millis = Millis(30_000);
/// Deadlines of peers are looked at no more often.
const LOOK_EVERY: Millis = Millis(250);
