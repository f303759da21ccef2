//! Which space is served by which hub.
//!
//! Invariant: at most one hub serves a space at a time, and all hubs of a process share its epoch: a
//! space that is opened again goes on where it stood. Absent: what hubs do.

use crate::{
    admin::Observer,
    age::Age,
    auth::{Auth, Denial},
    faults::Faults,
    hub::{Hub, Inbox, ToHub, Told},
    makers::Makers,
    metrics::Metrics,
    news::News,
};
use rejoin_core::{
    codec::CodecError,
    id::{Epoch, SpaceId},
    protocol::{
        host::{HostConfig, PeerId, Quota, RefillPolicy},
        message::ByeCode,
    },
    time::Millis,
};
use rejoin_sqlite::{SqliteDb, SqliteError, SqliteStore};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::oneshot, task::JoinSet};
use tracing::error;

/// Whether the server keeps something for itself there: no client has business in it.
pub(crate) fn is_own(space: &SpaceId) -> bool {
    space.as_str().starts_with("rejoin/")
}

/// The spaces of one database.
pub(crate) struct Hubs {
    db: SqliteDb,
    auth: Arc<Auth>,
    faults: Arc<Faults>,
    news: Arc<News>,
    metrics: Arc<Metrics>,
    observer: Option<Arc<Observer>>,
    epoch: Epoch,
    proof_key: [u8; 32],
    frame_bytes_max: u32,
    quota: Quota,
    refill: RefillPolicy,
    retention: Millis,
    age: Arc<Age>,
    scrub: Option<Millis>,
    spaces_max: usize,
    makers: Makers,
    next_peer: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Every space that has rows or was asked for, with the way to its hub if it had one.
    spaces: BTreeMap<SpaceId, Option<Inbox>>,
    tasks: JoinSet<()>,
    stopping: bool,
}

impl fmt::Debug for Hubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hubs").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// What all hubs have in common.
pub(crate) struct HubsConfig {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observer: Option<Arc<Observer>>,
    pub(crate) epoch: Epoch,
    pub(crate) proof_key: [u8; 32],
    pub(crate) frame_bytes_max: u32,
    pub(crate) quota: Quota,
    pub(crate) refill: RefillPolicy,
    pub(crate) retention: Millis,
    pub(crate) age: Arc<Age>,
    pub(crate) scrub: Option<Millis>,
    pub(crate) spaces_max: usize,
    pub(crate) spaces_per_principal_max: u32,
    /// Of [`Makers::space`].
    pub(crate) makers: SqliteStore,
}

impl Hubs {
    pub(crate) async fn new(
        db: SqliteDb,
        auth: Arc<Auth>,
        config: HubsConfig,
    ) -> Result<Self, SqliteError> {
        let spaces = db.spaces().await?.into_iter().filter(|space| !is_own(space));
        let spaces: BTreeMap<SpaceId, Option<Inbox>> = spaces.map(|space| (space, None)).collect();
        let max = config.spaces_per_principal_max;
        let is_there = |space: &SpaceId| spaces.contains_key(space);
        let makers = Makers::load(config.makers, max, is_there).await?;
        let state = State { spaces, tasks: JoinSet::new(), stopping: false };
        Ok(Self {
            db,
            auth,
            faults: Arc::default(),
            news: Arc::default(),
            metrics: config.metrics,
            observer: config.observer,
            epoch: config.epoch,
            proof_key: config.proof_key,
            frame_bytes_max: config.frame_bytes_max,
            quota: config.quota,
            refill: config.refill,
            retention: config.retention,
            age: config.age,
            scrub: config.scrub,
            spaces_max: config.spaces_max,
            makers,
            next_peer: AtomicU64::new(1),
            state: Mutex::new(state),
        })
    }

    /// Who takes down what hubs tell, if anybody looks.
    pub(crate) const fn observer(&self) -> Option<&Arc<Observer>> {
        self.observer.as_ref()
    }

    /// Whether there is a space of clients of this name.
    pub(crate) fn has(&self, space: &SpaceId) -> bool {
        self.state().spaces.contains_key(space)
    }

    /// The way to a hub that is open; none is started.
    pub(crate) fn open_inbox(&self, space: &SpaceId) -> Option<Inbox> {
        let state = self.state();
        state.spaces.get(space)?.as_ref().filter(|inbox| !inbox.is_closed()).cloned()
    }

    /// At most `limit` spaces by name behind one, with `part` in their names; and behind which to go on, if there are
    /// more. Looks at `looked_max` names at most, so a page may be short.
    pub(crate) fn names(
        &self,
        after: Option<&SpaceId>,
        part: &str,
        limit: usize,
        looked_max: usize,
    ) -> (Vec<SpaceId>, Option<SpaceId>) {
        let state = self.state();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let mut last: Option<&SpaceId> = None;
        for (looked, (name, _)) in state.spaces.range((from, Bound::Unbounded)).enumerate() {
            if looked == looked_max || found.len() == limit {
                return (found, last.cloned());
            }
            last = Some(name);
            if name.as_str().contains(part) {
                found.push(name.clone());
            }
        }
        (found, None)
    }

    /// What is stored of a space, for who reads it without its hub.
    pub(crate) fn store(&self, space: &SpaceId) -> SqliteStore {
        self.db.space(space)
    }

    /// Which spaces have something new.
    pub(crate) fn news(&self) -> &News {
        &self.news
    }

    /// Spaces that have rows or were asked for.
    pub(crate) fn spaces(&self) -> BTreeSet<SpaceId> {
        self.state().spaces.keys().cloned().collect()
    }

    /// A stored row is damaged. The space is opened: its hub reads all of it by and by, and puts it right.
    pub(crate) fn mend(&self, space: &SpaceId, damage: &CodecError) {
        error!(%space, %damage, "a stored row is damaged");
        if let Err((_, reason)) = self.inbox(space, None) {
            error!(%space, reason, "the space cannot be opened");
        }
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// What the store last did wrong for a space.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A name that no peer of this process had.
    pub(crate) fn next_peer(&self) -> PeerId {
        PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed))
    }

    /// The way to the hub of a space, which is started at need, and made at need by whom this is for, if that is
    /// somebody.
    ///
    /// # Errors
    /// Why not, for programs and for people: the space is the server's own, there are too many, or the process ends.
    pub(crate) fn inbox(
        &self,
        space: &SpaceId,
        maker: Option<&Arc<str>>,
    ) -> Result<Inbox, (ByeCode, &'static str)> {
        if is_own(space) {
            let Denial { code, reason } = Denial::SPACE;
            return Err((code, reason));
        }
        let mut state = self.state();
        if state.stopping {
            return Err((ByeCode::ShuttingDown, "the server stops"));
        }
        match state.spaces.get(space) {
            Some(Some(inbox)) if !inbox.is_closed() => return Ok(inbox.clone()),
            None if state.spaces.len() >= self.spaces_max => {
                return Err((ByeCode::Busy, "too many spaces"));
            }
            None => {
                if let Some(maker) = maker {
                    let made = self.makers.make(space, maker);
                    let made = made.ok_or((ByeCode::Busy, "too many spaces of this principal"))?;
                    state.tasks.spawn(made);
                }
            }
            Some(_) => {}
        }
        let mut config = HostConfig::new(space.clone(), self.epoch, self.proof_key);
        config.limits.frame_bytes = self.frame_bytes_max;
        config.quota = self.quota;
        config.refill = self.refill;
        config.retention = self.retention;
        config.ran = self.age.ran();
        config.scrub = self.scrub;
        let (auth, faults) = (Arc::clone(&self.auth), Arc::clone(&self.faults));
        let (metrics, news) = (Arc::clone(&self.metrics), Arc::clone(&self.news));
        let pulse = self.observer.as_ref().map(|observer| observer.opened(space));
        let told = Told { faults, metrics, news, pulse };
        let (hub, inbox) = Hub::new(config, self.db.space(space), auth, told);
        state.tasks.spawn(hub.run());
        state.spaces.insert(space.clone(), Some(inbox.clone()));
        // Those that ended need not be kept until the process does.
        while let Some(ended) = state.tasks.try_join_next() {
            if let Err(panic) = ended {
                error!(%panic, "a space stopped by a defect");
            }
        }
        Ok(inbox)
    }

    /// How many spaces there are, and how many of them are open.
    pub(crate) fn count(&self) -> (usize, usize) {
        let open = self.live().len();
        (self.state().spaces.len(), open)
    }

    /// Asks every hub whether it is there; resolves when all have answered, `false` if one cannot.
    pub(crate) async fn answer(&self) -> bool {
        for inbox in self.live() {
            let (reply, answer) = oneshot::channel();
            // One that has ended in order, or is being ended, owes no answer.
            if inbox.send(ToHub::Probe(reply)).await.is_ok()
                && answer.await.is_err()
                && !inbox.is_closed()
            {
                return false;
            }
        }
        true
    }

    /// Tells every hub to stop, and resolves when all have ended.
    pub(crate) async fn stop(&self) {
        self.state().stopping = true;
        for inbox in self.live() {
            // One that has ended needs not be told.
            inbox.send(ToHub::Stop).await.ok();
        }
        let mut tasks = std::mem::take(&mut self.state().tasks);
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                error!(%panic, "a space stopped by a defect");
            }
        }
    }

    /// A space whose hub never does anything.
    #[cfg(test)]
    pub(crate) fn plant(&self, space: SpaceId, inbox: Inbox) {
        self.state().spaces.insert(space, Some(inbox));
    }

    fn live(&self) -> Vec<Inbox> {
        let state = self.state();
        state.spaces.values().flatten().filter(|inbox| !inbox.is_closed()).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::Admission,
        hub::{Link, Open, Outgoing},
    };
    use rejoin_core::{
        id::{Incarnation, ReplicaId},
        io::{Batch, CommitOutcome, Keyspace},
        port::Store,
        protocol::{
            host::RETENTION,
            message::{Hello, Message, Welcome},
            wire,
        },
        time::WallMillis,
    };
    use rejoin_sqlite::SqliteOptions;
    use std::time::Duration;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn open(name: &str) -> (Hubs, std::path::PathBuf) {
        let name = format!("rejoin-hubs-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let db = SqliteDb::open(directory.join("db"), &SqliteOptions::default()).unwrap();
        let config = HubsConfig {
            metrics: Arc::default(),
            observer: None,
            epoch: Epoch::from_bytes([9; 16]),
            proof_key: [7; 32],
            frame_bytes_max: 1 << 20,
            quota: Quota::NONE,
            refill: RefillPolicy::default(),
            retention: RETENTION,
            age: Arc::new(Age::load(db.space(&Age::space().unwrap())).await.unwrap()),
            scrub: None,
            spaces_max: 10,
            spaces_per_principal_max: 2,
            makers: db.space(&Makers::space().unwrap()),
        };
        (Hubs::new(db, Arc::new(Auth::everyone()), config).await.unwrap(), directory)
    }

    /// Says hello and returns what comes back.
    async fn greet(hubs: &Hubs, space: &SpaceId, outgoing: &Arc<Outgoing>) -> (Inbox, Message) {
        let hello = Hello {
            versions: vec![1],
            features: 0,
            replica: ReplicaId::from_bytes([1; 16]),
            incarnation: Incarnation::from_bytes([1; 16]),
            known: Vec::new(),
            space: space.clone(),
            token: None,
            clock: WallMillis(0),
            subscriptions: Vec::new(),
            epochs: Vec::new(),
        };
        let Admission { grant, pass } = hubs.auth().admit(None, space).await.unwrap();
        let link = Link::new(1, Arc::clone(outgoing));
        let inbox = hubs.inbox(space, None).unwrap();
        let open = Open { peer: hubs.next_peer(), hello, grant, pass, link };
        inbox.send(ToHub::Open(Box::new(open))).await.unwrap();
        let message = said(outgoing).await;
        (inbox, message)
    }

    async fn said(outgoing: &Outgoing) -> Message {
        let item = timeout(PATIENCE, outgoing.next()).await.unwrap().unwrap();
        wire::decode(&item.bytes).unwrap()
    }

    #[tokio::test]
    async fn x17_x18_a_principal_makes_so_many_spaces_also_after_a_start() {
        let (hubs, directory) = open("makers").await;
        let (ada, bob): (Arc<str>, Arc<str>) = (Arc::from("ada"), Arc::from("bob"));
        let space = |name: &str| SpaceId::parse(name).unwrap();
        let make = |hubs: &Hubs, name: &str, maker: &Arc<str>| {
            hubs.inbox(&space(name), Some(maker)).map(drop).map_err(|(code, _reason)| code)
        };
        for name in ["one", "two", "one"] {
            assert_eq!(make(&hubs, name, &ada), Ok(()), "{name}");
        }
        assert_eq!(make(&hubs, "three", &ada), Err(ByeCode::Busy));
        assert_eq!(make(&hubs, "three", &bob), Ok(()));
        assert_eq!(make(&hubs, "three", &ada), Ok(()), "it is there");
        for name in ["one", "two", "three"] {
            let mut batch = Batch::default();
            batch.put(Keyspace::Log, b"some".to_vec(), b"thing".to_vec());
            let came = hubs.store(&space(name)).commit(batch).await.unwrap();
            assert_eq!(came, CommitOutcome::Applied);
        }
        hubs.stop().await;
        hubs.db.close().await.unwrap();

        let (hubs, _) = open("makers").await;
        assert_eq!(make(&hubs, "four", &ada), Err(ByeCode::Busy));
        assert_eq!(make(&hubs, "four", &bob), Ok(()));
        assert_eq!(make(&hubs, "five", &bob), Err(ByeCode::Busy));
        // Who made what is no more is forgotten.
        let store = hubs.db.space(&Makers::space().unwrap());
        let makers = Makers::load(store, 2, |there| *there == space("one")).await.unwrap();
        assert!(makers.make(&space("six"), &ada).is_some());
        assert!(makers.make(&space("seven"), &ada).is_none());
        hubs.stop().await;
        hubs.db.close().await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_space_that_stops_by_a_defect_tells_its_peers_and_is_opened_again() {
        let (hubs, directory) = open("defect").await;
        let space = SpaceId::parse("demo").unwrap();
        let outgoing = Arc::new(Outgoing::default());
        let (inbox, answer) = greet(&hubs, &space, &outgoing).await;
        let Message::Welcome(Welcome { epoch, .. }) = answer else { panic!("{answer:?}") };

        inbox.send(ToHub::Panic).await.unwrap();
        let Message::Bye(bye) = said(&outgoing).await else { panic!("no bye") };
        assert_eq!(bye.code, ByeCode::Internal);
        assert_eq!(outgoing.take_closed(), [1]);
        timeout(PATIENCE, inbox.closed()).await.unwrap();

        assert!(hubs.answer().await, "health does not count it against the process");
        let (_, answer) = greet(&hubs, &space, &outgoing).await;
        let Message::Welcome(again) = answer else { panic!("{answer:?}") };
        assert_eq!(again.epoch, epoch, "the same run of the process");
        hubs.stop().await;
        hubs.db.close().await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn what_the_server_keeps_for_itself_is_opened_for_nobody() {
        let (hubs, directory) = open("own").await;
        let refused = hubs.inbox(&Age::space().unwrap(), None).map(drop);
        assert_eq!(refused.unwrap_err().0, ByeCode::NoSpace);
        assert!(hubs.inbox(&SpaceId::parse("rejoin").unwrap(), None).is_ok());
        hubs.stop().await;
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn after_the_stop_no_space_is_opened() {
        let (hubs, directory) = open("stop").await;
        hubs.stop().await;
        let refused = hubs.inbox(&SpaceId::parse("demo").unwrap(), None).map(drop);
        assert_eq!(refused.unwrap_err().0, ByeCode::ShuttingDown);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
