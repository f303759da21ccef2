//! One task per space: it owns the space's [`Host`] and carries out what the host wants.
//!
//! Invariant: it never waits for a peer. What a peer is sent goes into that connection's bounded queue;
//! connections wait for the hub's bounded inbox, never the other way round. If the task ends, whatever
//! the reason, its links say `Bye` to their peers as they are dropped, and the next hello opens the space
//! again from the store. Absent: the protocol, sockets.

mod guests;

pub(crate) use guests::{Ask, SHOWN_FOR, Show, Shown};

use crate::{
    admin::{Pulse, Seated},
    auth::{Admission, Auth, Denial, Pass},
    clock,
    faults::Faults,
    metrics::{Metrics, Session, Stage},
    news::News,
    outgoing::{self, Item},
    passes::Passes,
    spans,
    telemetry::short,
};
use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use guests::Guests;
use rejoin_core::{
    id::SpaceId,
    io::{Batch, FaultClass, Ticket},
    port::{Fault, Store},
    protocol::{
        host::{Grant, Host, HostConfig, HostInput, HostNote, HostOutput, PeerId, Scrubbed},
        message::{Bye, ByeCode, Hello},
    },
    time::Millis,
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tracing::{Instrument, Span, debug, error, info, warn};

/// Inputs that wait for a hub; connections beyond wait with their frame.
pub(crate) const INBOX_MAX: usize = 64;
/// A hub without peers ends after so long: its trees take memory, and opening them again is cheap.
const IDLE_AFTER: Millis = Millis(60_000);

/// What a hub is told.
#[derive(Debug)]
pub(crate) enum ToHub {
    /// A channel was opened.
    Open(Box<Open>),
    /// A message came in on it.
    Message { peer: PeerId, bytes: Vec<u8> },
    /// Bytes of messages were taken by its socket.
    Sent { peer: PeerId, bytes: usize },
    /// It is gone.
    Gone { peer: PeerId },
    /// Somebody without a session asks.
    Ask(Ask),
    /// Are you there?
    Probe(oneshot::Sender<()>),
    /// The process ends.
    Stop,
    /// A defect, for tests of what follows from one.
    #[cfg(test)]
    Panic,
}

/// A channel whose hello was authenticated.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) peer: PeerId,
    pub(crate) hello: Hello,
    pub(crate) grant: Grant,
    pub(crate) pass: Pass,
    pub(crate) link: Link,
}

/// How to reach a hub.
pub(crate) type Inbox = mpsc::Sender<ToHub>;

/// Where a channel's inputs go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) peer: PeerId,
    pub(crate) inbox: Inbox,
}

/// What waits for a connection; hubs hear of it along its routes.
pub(crate) type Outgoing = outgoing::Outgoing<Route>;

impl Route {
    /// Waits for room in the inbox; `false` when the hub is gone.
    pub(crate) async fn tell(&self, message: ToHub) -> bool {
        self.inbox.send(message).await.is_ok()
    }
}

/// A hub's end of a channel. Dropped before it was closed, it closes the channel as a defect.
#[derive(Debug)]
pub(crate) struct Link {
    channel: u64,
    outgoing: Arc<Outgoing>,
    closed: bool,
}

impl Link {
    pub(crate) const fn new(channel: u64, outgoing: Arc<Outgoing>) -> Self {
        Self { channel, outgoing, closed: false }
    }

    fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.outgoing.closed(self.channel);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.closed {
            self.outgoing.bye(self.channel, ByeCode::Internal, "the space is opened again");
            self.close();
        }
    }
}

/// A peer as the hub knows it.
struct Peer {
    link: Link,
    /// Begins its replica id, for the log.
    client: String,
    session: Session,
    /// Where who looks finds it, if anybody may.
    seated: Option<Seated>,
    refresh: Refresh,
}

/// Where a peer's new token stands.
#[derive(Default)]
enum Refresh {
    /// It has shown none, or that was settled.
    #[default]
    Settled,
    /// One is being checked, and this one is next.
    Checking(Option<String>),
}

/// What a hub has waited for.
enum Done {
    /// An effect of its host.
    Effect(HostInput),
    /// A new token of a peer was checked.
    Refresh { peer: PeerId, admitted: Result<Admission, Denial> },
}

/// Who hears of what happens to the store and to peers.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) faults: Arc<Faults>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) news: Arc<News>,
    /// For whoever looks at the server, if anybody may.
    pub(crate) pulse: Option<Arc<Pulse>>,
}

/// What a hub is made of.
pub(crate) struct Hub {
    space: SpaceId,
    host: Host,
    store: SqliteStore,
    auth: Arc<Auth>,
    told: Told,
    inbox: mpsc::Receiver<ToHub>,
    /// For the routes of its peers.
    own: mpsc::WeakSender<ToHub>,
    peers: BTreeMap<PeerId, Peer>,
    guests: Guests,
    passes: Passes,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    stopping: bool,
    broken: bool,
}

impl Hub {
    /// A hub and how to reach it; nothing happens before [`Self::run`].
    pub(crate) fn new(
        config: HostConfig,
        store: SqliteStore,
        auth: Arc<Auth>,
        told: Told,
    ) -> (Self, Inbox) {
        let (own, inbox) = mpsc::channel(INBOX_MAX);
        let hub = Self {
            passes: Passes::new(Arc::clone(&auth), config.space.clone()),
            space: config.space.clone(),
            host: Host::open(config, clock::read()),
            store,
            auth,
            told,
            inbox,
            own: own.downgrade(),
            peers: BTreeMap::new(),
            guests: Guests::default(),
            work: FuturesUnordered::new(),
            stopping: false,
            broken: false,
        };
        (hub, own)
    }

    /// Serves the space until it is told to stop, is broken, or has had no peer for long.
    pub(crate) async fn run(mut self) {
        // What a hub that ended before had sent to the writer is done before anything is read.
        if let Err(fault) = self.store.commit(Batch::default()).await {
            error!(space = %self.space, %fault, "the store failed");
        }
        let mut idle_since = None;
        loop {
            self.forget_visitors();
            self.carry_out();
            self.look_at_passes();
            if self.broken || (self.stopping && self.host.is_idle()) {
                break;
            }
            let now = clock::read();
            let is_empty = self.peers.is_empty() && self.guests.are_gone();
            idle_since = is_empty.then(|| idle_since.unwrap_or(now.mono));
            let idle_until = idle_since.map(|since| since + IDLE_AFTER);
            if idle_until.is_some_and(|until| now.mono >= until) && self.host.is_idle() {
                break;
            }
            if self.host.deadline().is_some_and(|deadline| now.mono >= deadline) {
                self.handle(HostInput::Deadline);
                continue;
            }
            let looks = self.passes.deadline();
            let wake = self.host.deadline().into_iter().chain(idle_until).chain(looks);
            let wake = wake.chain(self.guests.deadline()).min();
            tokio::select! {
                biased;
                Some(done) = self.work.next() => self.has_done(done),
                () = self.passes.wait_changed() => {}
                message = self.inbox.recv() => match message {
                    Some(message) => self.take_in(message),
                    None => break,
                },
                () = sleep(wake.map_or(FAR, clock::until)) => {}
            }
        }
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            if let ToHub::Ask(ask) = message {
                ask.decline();
            }
        }
        debug!(space = %self.space, "closed");
    }

    fn take_in(&mut self, message: ToHub) {
        let input = match message {
            ToHub::Open(mut open) if self.stopping => {
                let link = &mut open.link;
                link.outgoing.bye(link.channel, ByeCode::ShuttingDown, "the server stops");
                link.close();
                return;
            }
            ToHub::Open(open) => {
                let Open { peer, hello, grant, pass, link } = *open;
                let client = short(&hello.replica);
                let session = self.told.metrics.session();
                let pulse = self.told.pulse.as_ref();
                let seated = pulse.map(|pulse| pulse.joins(peer, hello.replica, &grant.principal));
                let known = Peer { link, client, session, seated, refresh: Refresh::default() };
                self.peers.insert(peer, known);
                self.passes.insert(peer, pass);
                HostInput::Opened { peer, hello, grant }
            }
            ToHub::Message { peer, bytes } => {
                let span = spans::of_frame(&self.space, bytes.len());
                return span.in_scope(|| self.handle(HostInput::Message { peer, bytes }));
            }
            ToHub::Sent { peer, bytes } => HostInput::Sent { peer, bytes },
            ToHub::Gone { peer } => {
                if let Some(mut gone) = self.forget(peer) {
                    gone.link.close();
                    gone.seated.iter().for_each(|seated| seated.parts(None, ""));
                    info!(space = %self.space, client = %gone.client, "disconnected");
                }
                HostInput::Gone { peer }
            }
            ToHub::Ask(ask) => return self.asked(ask),
            ToHub::Probe(reply) => {
                // Who asked may have given up.
                reply.send(()).ok();
                return;
            }
            ToHub::Stop => {
                self.stopping = true;
                HostInput::Stop
            }
            #[cfg(test)]
            ToHub::Panic => panic!("rehearsed panic of a hub"),
        };
        self.handle(input);
    }

    pub(super) fn handle(&mut self, input: HostInput) {
        let began = clock::instant();
        let is_news = Guests::is_news(&input);
        self.host.handle(clock::read(), input);
        self.told.metrics.host_worked(began.elapsed());
        if is_news {
            self.guests.tell();
            self.told.news.tell(&self.space);
        }
    }

    /// Does what the host wants.
    fn carry_out(&mut self) {
        while let Some(output) = self.host.poll() {
            match output {
                HostOutput::Send { peer, bytes } => self.send(peer, bytes),
                HostOutput::Query { ticket, queries } => {
                    let (store, told) = (self.store.clone(), self.told.clone());
                    let span = spans::of_read(&self.space, queries.len());
                    let read = async move {
                        told.metrics.reads.inc();
                        let result = store.read(&queries).await;
                        let result = result.map_err(|fault| class_of(&store, &told, ticket, fault));
                        Done::Effect(HostInput::Answered { ticket, result })
                    };
                    self.work.push(read.instrument(span).boxed());
                }
                HostOutput::Commit { ticket, batch } => {
                    let (store, told) = (self.store.clone(), self.told.clone());
                    let span = spans::of_commit(&self.space, batch.writes.len());
                    let commit = async move {
                        let began = clock::instant();
                        let result = store.commit(batch).await;
                        told.metrics.committed(began.elapsed());
                        let result = result.inspect(|_outcome| told.faults.over());
                        let result = result.map_err(|fault| class_of(&store, &told, ticket, fault));
                        if result.is_err() {
                            spans::failed(&Span::current());
                        }
                        Done::Effect(HostInput::Committed { ticket, result })
                    };
                    self.work.push(commit.instrument(span).boxed());
                }
                HostOutput::Close { peer, bye } => self.close(peer, &bye),
                HostOutput::Written { number, answer } => self.guests.answer(number, answer),
                HostOutput::RefreshAsked { peer, token } => self.refresh(peer, token),
                HostOutput::Note(note) => self.log(&note),
                _ => warn!(space = %self.space, "the host wants what is not known here"),
            }
        }
    }

    fn send(&mut self, peer: PeerId, bytes: Arc<[u8]>) {
        let (Some(known), Some(inbox)) = (self.peers.get_mut(&peer), self.own.upgrade()) else {
            return;
        };
        let route = Some(Route { peer, inbox });
        let channel = known.link.channel;
        if !known.link.outgoing.push(Item::new(channel, bytes, route)) {
            // The host sends away whom it owes less than this.
            warn!(space = %self.space, client = %known.client, "takes nothing, cut");
            let outgoing = &known.link.outgoing;
            outgoing.bye(channel, ByeCode::SlowConsumer, "what was sent is not taken");
            known.link.close();
            let code = Some(ByeCode::SlowConsumer);
            known.seated.iter().for_each(|seated| seated.parts(code, "what was sent is not taken"));
            self.forget(peer);
            self.handle(HostInput::Gone { peer });
        }
    }

    fn close(&mut self, peer: PeerId, bye: &Bye) {
        if let Some(mut gone) = self.forget(peer) {
            gone.link.close();
            gone.seated.iter().for_each(|seated| seated.parts(Some(bye.code), &bye.reason));
            info!(
                space = %self.space, client = %gone.client, code = ?bye.code, reason = %bye.reason,
                "disconnected"
            );
        }
    }

    fn forget(&mut self, peer: PeerId) -> Option<Peer> {
        self.passes.remove(peer);
        self.peers.remove(&peer)
    }

    fn has_done(&mut self, done: Done) {
        match done {
            Done::Effect(input) => self.handle(input),
            Done::Refresh { peer, admitted } => self.refreshed(peer, admitted),
        }
    }

    /// Checks a new token of a peer; one at a time, so that the last one counts.
    fn refresh(&mut self, peer: PeerId, token: String) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Refresh::Checking(next) = &mut known.refresh {
            *next = Some(token);
            return;
        }
        known.refresh = Refresh::Checking(None);
        let (auth, space) = (Arc::clone(&self.auth), self.space.clone());
        let checking = async move {
            let admitted = auth.admit(Some(&token), &space).await;
            Done::Refresh { peer, admitted }
        };
        self.work.push(checking.boxed());
    }

    fn refreshed(&mut self, peer: PeerId, admitted: Result<Admission, Denial>) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Refresh::Checking(Some(next)) = std::mem::take(&mut known.refresh) {
            return self.refresh(peer, next);
        }
        match admitted {
            Ok(Admission { grant, pass }) => {
                self.passes.insert(peer, pass);
                self.has_access(peer, Ok(grant));
            }
            // The token that let it in holds as long as it does.
            Err(denial) if denial.code == ByeCode::Busy => {}
            Err(denial) => self.has_access(peer, Err(denial)),
        }
    }

    /// Passes on other rights, and ends sessions whose token has ended or was revoked.
    fn look_at_passes(&mut self) {
        for (peer, found) in self.passes.look() {
            self.has_access(peer, found);
        }
    }

    /// A peer may do this from now on. What waits for one that has to go does not reach it.
    fn has_access(&mut self, peer: PeerId, found: Result<Grant, Denial>) {
        let Some(known) = self.peers.get(&peer) else {
            return;
        };
        let (outgoing, channel) = (Arc::clone(&known.link.outgoing), known.link.channel);
        let input = match found {
            Ok(grant) => HostInput::Regranted { peer, grant },
            Err(Denial { code, reason }) => {
                let bye = Bye { code, reason: reason.to_owned(), retry_after: None };
                HostInput::Dismissed { peer, bye }
            }
        };
        self.handle(input);
        self.carry_out();
        if !self.peers.contains_key(&peer) {
            outgoing.sever(channel);
        }
    }

    fn reaches(&mut self, peer: PeerId, stage: Stage) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.session.reaches(stage);
        }
    }

    fn client(&self, peer: PeerId) -> &str {
        self.peers.get(&peer).map_or("-", |peer| &peer.client)
    }

    fn show_to_observer(&self, note: &HostNote) {
        if let Some(pulse) = &self.told.pulse {
            let known = note.peer().and_then(|peer| self.peers.get(&peer));
            pulse.noted(note, known.and_then(|known| known.seated.as_ref()));
        }
    }

    fn log(&mut self, note: &HostNote) {
        self.told.metrics.noted(note);
        self.show_to_observer(note);
        if let HostNote::Welcomed { peer, .. } = note {
            self.reaches(*peer, Stage::Syncing);
        } else if let HostNote::Synced { peer, .. } = note {
            self.reaches(*peer, Stage::Live);
        }
        let space = &self.space;
        match note {
            HostNote::Ready { epoch, head, records } => {
                let epoch = short(epoch);
                info!(%space, %epoch, %head, records, "open");
            }
            HostNote::Welcomed { peer, identity, modes, .. } => {
                let modes: Vec<_> = modes.iter().map(|(_, mode)| mode).collect();
                info!(%space, client = self.client(*peer), ?identity, ?modes, "welcomed");
            }
            HostNote::Pushed { peer, accepted, refused, head } => {
                info!(%space, client = self.client(*peer), accepted, refused, %head, "pushed");
            }
            HostNote::Written { principal, accepted, refused, head } => {
                info!(%space, %principal, accepted, refused, %head, "written");
            }
            HostNote::Rejected { peer, row, code, reason } => {
                warn!(%space, client = self.client(*peer), row, ?code, reason, "rejected");
            }
            HostNote::Conflict { key, field, won, lost } => {
                let (won, lost) = (short(&won.replica), short(&lost.replica));
                info!(%space, record = %key, %field, %won, %lost, "conflict");
            }
            HostNote::Recalled { peer, accepted } => {
                warn!(%space, client = self.client(*peer), accepted, "forked, recalled");
            }
            HostNote::Refilled { peer, restored, known, refused } => {
                warn!(%space, client = self.client(*peer), restored, known, refused, "refilled");
            }
            HostNote::Collected { horizon, records, rows } => {
                info!(%space, ?horizon, records, rows, "collected");
            }
            HostNote::Damaged { row, mended } => {
                error!(%space, ?row, ?mended, "a stored row was damaged");
            }
            HostNote::Renewed { epoch } => {
                let epoch = short(epoch);
                error!(%space, %epoch, "a record was lost, clients bring back what they hold");
            }
            HostNote::Alternates { other, .. } => {
                let other = short(other);
                let why =
                    "another server answers for this space: clients carry between two histories";
                error!(%space, %other, "{why}");
            }
            HostNote::Scrubbed { pass } => {
                let Scrubbed { records, bytes, damaged, lost, .. } = pass;
                info!(%space, records, bytes, damaged, lost, "scrubbed");
            }
            HostNote::Synced { peer, head, root, pushed, pulled } => {
                let (client, root) = (self.client(*peer), root.short());
                info!(%space, client, pushed, pulled, %head, %root, "synced");
            }
            // Said where its link is closed.
            HostNote::Closed { .. } => {}
            HostNote::StoreFailed { class } => error!(%space, ?class, "the store failed"),
            HostNote::Fatal { class } => {
                error!(%space, ?class, "the space is not served any more");
                self.broken = true;
            }
            other => debug!(%space, ?other, "noted"),
        }
    }
}

/// Longer than anything waits.
const FAR: Duration = Duration::from_secs(3_600);

fn class_of(store: &SqliteStore, told: &Told, ticket: Ticket, fault: SqliteError) -> FaultClass {
    error!(space = %store.space(), effect = ticket.0, %fault, "the store failed");
    let class = fault.class();
    told.faults.happened(class);
    told.metrics.failed(class);
    class
}
