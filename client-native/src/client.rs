//! The client: an engine, its file, its task.

use crate::{
    ClientError, Fields, KindFields, OpenError, Options,
    clock::SystemClock,
    listener::{Hub, HubListener, Notices},
    ports::{Rings, SharedEngine, SystemEntropy, random},
    socket::WebSocketDialer,
};
use rejoin_core::{
    codec::decode_record,
    driver::{EngineCell, Ports, Ring, drive},
    id::{CollectionName, Digest, Pattern, RecordId, RecordKey, ReplicaId, Seq},
    port::Clock,
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Receipt, Status, Wish},
        message::RejectCode,
    },
    record::{Record, visible, visible_kinds},
    replica::{Change, RowState},
    tree::WalkLimits,
};
use rejoin_sqlite::{SqliteDb, SqliteOptions, SqliteStore};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// A replica of one space, in sync with a server whenever it can be reached. All methods take `&self`.
///
/// Dropped without [`Self::close`], the task ends by itself and the file is closed after what waits is
/// committed.
pub struct Client {
    engine: SharedEngine,
    hub: Arc<Hub>,
    bell: mpsc::UnboundedSender<Ring>,
    clock: SystemClock,
    dialer: Option<Arc<WebSocketDialer>>,
    db: SqliteDb,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A write that the server refused for good; kept until it is retried or discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number, as in its receipt.
    pub number: u64,
    /// The records it touches.
    pub keys: Vec<RecordKey>,
    /// Why, for programs.
    pub code: RejectCode,
    /// Why, for people.
    pub reason: String,
}

/// A root that was found equal to the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The position at which both were.
    pub seq: Seq,
    /// The root.
    pub root: Digest,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the file, reads it into memory and starts to sync. Resolves when records can be read and
    /// written; it does not wait for the server. O(records). Call it within a tokio runtime with time and IO
    /// enabled; the task runs there.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was started.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let Options { path, space, collections, server, authorities, token, trace } = options;
        let dial = |url: &String| WebSocketDialer::new(url, authorities.as_deref()).map(Arc::new);
        let dialer = server.as_ref().map(dial).transpose()?;
        let fresh = ReplicaId::from_bytes(random().ok_or(OpenError::Entropy)?);
        let fencing = random().ok_or(OpenError::Entropy)?;
        let opening =
            tokio::task::spawn_blocking(move || SqliteDb::open(path, &SqliteOptions::default()));
        let db = opening.await.map_err(|_ended| OpenError::Ended)??;
        let store = db.space(&space);
        let engine = Engine::open(EngineConfig {
            space: Some(space),
            patterns: collections,
            fresh,
            token,
            trace,
            walk: WalkLimits::default(),
        })?;
        let engine = SharedEngine::new(engine);
        let hub = Arc::new(Hub::new());
        let (bell, rings) = mpsc::unbounded_channel();
        let (opened, opening) = oneshot::channel();
        let clock = SystemClock::new();
        let listener = HubListener {
            hub: Arc::clone(&hub),
            engine: engine.clone(),
            clock,
            token: fencing,
            opening: Some(opened),
        };
        let task = run(engine.clone(), store, dialer.clone(), clock, Rings::new(rings), listener);
        let task = Mutex::new(Some(tokio::spawn(task)));
        let client = Self { engine, hub, bell, clock, dialer, db, task };
        match opening.await {
            Ok(Ok(())) => Ok(client),
            failed => {
                // The error that follows says more than how the file closes after it.
                client.close().await.ok();
                Err(failed.ok().and_then(Result::err).unwrap_or(OpenError::Ended))
            }
        }
    }

    fn ring(&self, ring: Ring) {
        // The driver is gone: whoever waits for it is told by the hub.
        self.bell.send(ring).ok();
    }

    async fn ask(&self, wish: Wish) -> Result<Receipt, ClientError> {
        let (id, answer) = self.hub.ask()?;
        let now = self.clock.now();
        self.engine.with(|engine| engine.handle(now, Input::Ask { id, wish }));
        self.ring(Ring::Fed);
        Ok(answer.await.map_err(|_gone| ClientError::Closed)??)
    }

    /// Writes all of `changes` as one batch: atomic here, accepted or refused whole by the server, visible
    /// whole elsewhere. Resolves when it is on stable storage. A call that is dropped may have written.
    ///
    /// # Errors
    /// [`ClientError::Wish`] when the batch cannot be, or the store failed; nothing was written.
    pub async fn write(&self, changes: Vec<Change>) -> Result<Receipt, ClientError> {
        self.ask(Wish::Write { changes, relaxed: false }).await
    }

    /// Writes a rejected batch again, as it is now, and forgets the old one.
    ///
    /// # Errors
    /// [`ClientError::Wish`] when there is no such rejected write, or the store failed.
    pub async fn retry(&self, number: u64) -> Result<Receipt, ClientError> {
        self.ask(Wish::Retry { number }).await
    }

    /// Forgets a rejected batch.
    ///
    /// # Errors
    /// [`ClientError::Wish`] when there is no such rejected write, or the store failed.
    pub async fn discard(&self, number: u64) -> Result<(), ClientError> {
        self.ask(Wish::Discard { number }).await.map(drop)
    }

    /// Takes the file over for the account that the server welcomed in place of its own
    /// ([`rejoin_core::protocol::engine::Notice::AccountChanged`]).
    ///
    /// # Errors
    /// [`ClientError::Wish`] when no other account was met, or the store failed.
    pub async fn adopt(&self) -> Result<(), ClientError> {
        self.ask(Wish::Adopt).await?;
        self.ring(Ring::Online);
        Ok(())
    }

    /// The record as it is now, own writes included; `None` when it is not live.
    ///
    /// # Errors
    /// [`ClientError::Corrupt`].
    pub fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ClientError> {
        let record = self.engine.with(|engine| engine.replica().view(key))?;
        Ok(shown(&record))
    }

    /// The same, with the kind of each field.
    ///
    /// # Errors
    /// [`ClientError::Corrupt`].
    pub fn get_kinds(&self, key: &RecordKey) -> Result<Option<KindFields>, ClientError> {
        let record = self.engine.with(|engine| engine.replica().view(key))?;
        Ok(shown_kinds(&record))
    }

    /// Every live record of a collection, by id. O(n), during which the client does nothing else.
    ///
    /// # Errors
    /// [`ClientError::Corrupt`].
    pub fn all(
        &self,
        collection: &CollectionName,
    ) -> Result<BTreeMap<RecordId, Fields>, ClientError> {
        self.collect(collection, shown)
    }

    /// The same, with the kind of each field.
    ///
    /// # Errors
    /// [`ClientError::Corrupt`].
    pub fn all_kinds(
        &self,
        collection: &CollectionName,
    ) -> Result<BTreeMap<RecordId, KindFields>, ClientError> {
        self.collect(collection, shown_kinds)
    }

    fn collect<T>(
        &self,
        collection: &CollectionName,
        shown: fn(&Record) -> Option<T>,
    ) -> Result<BTreeMap<RecordId, T>, ClientError> {
        self.engine.with(|engine| {
            let replica = engine.replica();
            let mut records = BTreeMap::new();
            for (key, held) in replica.base().collection(collection) {
                if let Some(fields) = shown(&decode_record(&held.bytes)?) {
                    records.insert(key.id.clone(), fields);
                }
            }
            for key in replica.overlay().keys_of(collection) {
                match shown(&replica.view(key)?) {
                    Some(fields) => records.insert(key.id.clone(), fields),
                    None => records.remove(&key.id),
                };
            }
            Ok(records)
        })
    }

    /// The writes that the server refused for good, by number. O(outbox).
    #[must_use]
    pub fn rejected(&self) -> Vec<Rejected> {
        self.engine.with(|engine| {
            let rows = engine.replica().overlay().rows();
            rows.filter_map(|(number, outbox)| match &outbox.state {
                RowState::Rejected { code, reason } => {
                    let keys = outbox.row.writes.iter().map(|write| write.key.clone()).collect();
                    Some(Rejected { number, keys, code: *code, reason: reason.clone() })
                }
                RowState::Waiting | RowState::Accepted(_) => None,
            })
            .collect()
        })
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        self.engine.with(|engine| engine.status())
    }

    /// Why the last attempt to connect failed; `None` after one that did not.
    #[must_use]
    pub fn connect_failure(&self) -> Option<String> {
        self.dialer.as_ref()?.failure()
    }

    /// What happens from now on.
    #[must_use]
    pub fn notices(&self) -> Notices {
        self.hub.notices()
    }

    /// Resolves once something has happened since the call: a notice, an answer, or the end. What came
    /// before the first poll counts from the call on.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut steps = self.hub.steps();
        async move {
            // An error means that the client is gone: that too is a change.
            steps.changed().await.ok();
        }
    }

    /// Whether the server has everything that was written here, this client has everything that the server
    /// had when it last said so, and both roots are equal. Rejected writes do not count.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.engine.with(|engine| {
            let status = engine.status();
            let rejected = |state: &RowState| matches!(state, RowState::Rejected { .. });
            status.link == Link::Live
                && status.is_verified
                && status.pending == 0
                // an accepted row stays until the base has it, and so does the root
                && engine.replica().overlay().rows().all(|(_, outbox)| rejected(&outbox.state))
        })
    }

    /// Resolves once [`Self::is_synced`]. It waits as long as it takes: limit it if that matters.
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the client was closed before.
    pub async fn synced(&self) -> Result<(), ClientError> {
        loop {
            let changed = self.changed();
            if self.is_synced() {
                return Ok(());
            }
            if self.hub.is_closed() {
                return Err(ClientError::Closed);
            }
            changed.await;
        }
    }

    /// The root of what the server has sent of `pattern`, computed from the records. O(n) at the first
    /// call, then O(changes).
    #[must_use]
    pub fn root(&self, pattern: &Pattern) -> Digest {
        self.engine.with(|engine| engine.replica_mut().base_mut().root(pattern))
    }

    /// Where the root of this subscription was last found equal to the server's; `None` when it was not
    /// since the client was opened, or when there is no such subscription.
    #[must_use]
    pub fn verified(&self, pattern: &Pattern) -> Option<Verified> {
        self.engine.with(|engine| {
            let standings = engine.replica().standings();
            let at = standings.iter().position(|(held, _)| held == pattern)?;
            let (seq, root) = *engine.status().verified.get(&u32::try_from(at).ok()?)?;
            Some(Verified { seq, root })
        })
    }

    /// Up to where a subscription has everything that the server had; `None` when it never had.
    #[must_use]
    pub fn cursor(&self, pattern: &Pattern) -> Option<Seq> {
        self.engine.with(|engine| {
            let mut standings = engine.replica().standings().iter();
            let (_, standing) = standings.find(|(held, _)| held == pattern)?;
            standing.arrived.then_some(standing.cursor)
        })
    }

    /// Disconnects, and stays so until [`Self::resume`].
    pub fn pause(&self) {
        self.ring(Ring::Pause);
    }

    /// Connects again, at once.
    pub fn resume(&self) {
        self.ring(Ring::Resume);
    }

    /// The network may be back: tries to connect at once instead of after the next delay.
    pub fn online(&self) {
        self.ring(Ring::Online);
    }

    /// A new token, for the present session too.
    pub fn set_token(&self, token: Option<String>) {
        let now = self.clock.now();
        self.engine.with(|engine| engine.handle(now, Input::Token(token)));
        self.ring(Ring::Fed);
    }

    /// Ends the session, commits what waits and closes the file. Closing twice is no error.
    ///
    /// # Errors
    /// [`ClientError::File`]; the client is closed then too, and nothing that was committed is lost.
    pub async fn close(&self) -> Result<(), ClientError> {
        self.ring(Ring::Stop);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A panic of the task is its own report; the file is closed all the same.
            task.await.ok();
        }
        self.hub.close();
        Ok(self.db.close().await?)
    }
}

async fn run(
    engine: SharedEngine,
    store: SqliteStore,
    dialer: Option<Arc<WebSocketDialer>>,
    clock: SystemClock,
    mut rings: Rings,
    mut listener: HubListener<SystemClock>,
) {
    let ports = Ports { store: &store, dialer: dialer.as_deref(), clock: &clock };
    drive(&engine, ports, &mut SystemEntropy, &mut rings, &mut listener).await;
    listener.hub.close();
}

fn shown(record: &Record) -> Option<Fields> {
    record.is_live().then(|| visible(record).into_iter().collect())
}

fn shown_kinds(record: &Record) -> Option<KindFields> {
    record.is_live().then(|| visible_kinds(record).into_iter().collect())
}
