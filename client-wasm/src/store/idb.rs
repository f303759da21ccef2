//! The store over IndexedDB: one object store per keyspace, binary keys beside binary values.
//!
//! `rexie` lays the database out. The working connection is the browser's own, because `rexie` can
//! neither ask for strict durability nor say why a connection ended. Within a transaction nothing foreign
//! is awaited: the browser would end it.

mod guarded;
mod log;
mod request;

use super::StoreError;
use crate::{clock::within, planted::Bug, poison::waypoint};
use core::{
    cell::{Cell, RefCell},
    num::NonZeroU32,
};
use guarded::Guarded;
use js_sys::{Array, ArrayBuffer, Object, Reflect, Uint8Array};
use log::NewLog;
use rejoin_core::{
    io::{
        Answer, Batch, CommitOutcome, FaultClass, Guard, KeyRange, Keyspace, Page, Query, Room,
        Row, Write,
    },
    port::Store,
    sorted::{SortedMap, SortedSet},
    time::Millis,
};
use request::{Asked, Ended, fault, refused};
use rexie::{ObjectStore, Rexie};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue, closure::Closure, prelude::wasm_bindgen};
use web_sys::{
    IdbDatabase, IdbFactory, IdbKeyRange, IdbObjectStore, IdbOpenDbRequest, IdbRequest,
    IdbTransaction, IdbVersionChangeEvent,
};

#[wasm_bindgen]
extern "C" {
    /// A database, for what `web-sys` counts as unstable.
    #[wasm_bindgen(js_name = IDBDatabase)]
    type DurableDatabase;
    #[wasm_bindgen(method, catch, js_name = transaction)]
    fn transaction_with(
        this: &DurableDatabase,
        stores: &Array,
        mode: &str,
        options: &Object,
    ) -> Result<IdbTransaction, JsValue>;

    /// A transaction, for what `web-sys` has under another name.
    #[wasm_bindgen(js_name = IDBTransaction)]
    type CommittableTransaction;
    #[wasm_bindgen(method, catch)]
    fn commit(this: &CommittableTransaction) -> Result<(), JsValue>;
}

/// Version of the layout. A greater one belongs to a later build of the app.
const VERSION: u32 = if cfg!(feature = "later-build") { 2 } else { 1 };
/// How long a deletion waits for other tabs to let go.
const DELETE_WITHIN: Millis = Millis(3_000);

/// What became of a database behind its back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The browser, or the user, ended the connection; it is opened anew when needed.
    Connection,
    /// The database was deleted.
    Database,
    /// A later build of the app wants it.
    Newer,
}

/// A handle on one database.
#[derive(Debug)]
pub(crate) struct IdbStore {
    name: String,
    connection: RefCell<Option<Rc<Connection>>>,
    lost: Rc<Lost>,
    closed: Cell<bool>,
    on_log: Told,
}

type Listener = Box<dyn Fn(Loss)>;
type LogListener = Box<dyn Fn(bool)>;

/// Who is told before each write whether it is known to be at risk.
#[derive(Default)]
struct Told(RefCell<Option<LogListener>>);

impl core::fmt::Debug for Told {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Told")
    }
}

#[derive(Default)]
struct Lost {
    latest: Cell<Option<Loss>>,
    listener: RefCell<Option<Listener>>,
}

impl core::fmt::Debug for Lost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Lost({:?})", self.latest.get())
    }
}

impl Lost {
    fn tell(&self, loss: Loss) {
        self.latest.set(Some(loss));
        if let Some(listener) = &*self.listener.borrow() {
            listener(loss);
        }
    }
}

#[derive(Debug)]
struct Connection {
    database: IdbDatabase,
    /// Waited for before anything is written.
    new_log: NewLog,
    // Called by the browser as long as the connection lives.
    _callbacks: [Closure<dyn FnMut(IdbVersionChangeEvent)>; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.database.set_onversionchange(None);
        self.database.set_onclose(None);
        self.database.close();
    }
}

/// The stored name of the database `name`: no other database of the origin is ever touched.
fn stored_name(name: &str) -> String {
    format!("rejoin/{name}")
}

fn factory() -> Result<IdbFactory, StoreError> {
    let found =
        Reflect::get(&js_sys::global(), &"indexedDB".into()).map_err(|thrown| refused(&thrown))?;
    found
        .dyn_into()
        .map_err(|_absent| fault(FaultClass::Permanent, "NotSupportedError", "no IndexedDB here"))
}

/// Why a connection could not be had.
enum NotOpened {
    /// There is no such database.
    Absent,
    Failed(StoreError),
}

impl IdbStore {
    /// Opens the database `name`, and lays it out if it is new.
    ///
    /// # Errors
    /// [`StoreError`] when the browser refuses.
    pub(crate) async fn open(name: &str) -> Result<Self, StoreError> {
        let lost = Rc::new(Lost::default());
        let stored = stored_name(name);
        let connection = match connect(&stored, &lost).await {
            Ok(connection) => connection,
            Err(NotOpened::Failed(error)) => return Err(error),
            Err(NotOpened::Absent) => {
                lay_out(&stored).await?;
                let again = connect(&stored, &lost).await;
                again.map_err(|error| match error {
                    NotOpened::Failed(error) => error,
                    NotOpened::Absent => gone(),
                })?
            }
        };
        let connection = RefCell::new(Some(Rc::new(connection)));
        let (closed, on_log) = (Cell::new(false), Told::default());
        Ok(Self { name: stored, connection, lost, closed, on_log })
    }

    /// Who is told of a loss; once.
    pub(crate) fn on_loss(&self, listener: impl Fn(Loss) + 'static) {
        *self.lost.listener.borrow_mut() = Some(Box::new(listener));
    }

    /// Who is told before each write whether its connection lacks the log that it needs: it is then only as safe as the
    /// browser makes it. `false` says that no risk is known.
    pub(crate) fn on_log(&self, listener: impl Fn(bool) + 'static) {
        *self.on_log.0.borrow_mut() = Some(Box::new(listener));
    }

    /// Lets go of the database once running transactions have ended.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.lost.listener.take();
        self.on_log.0.take();
        self.connection.take();
    }

    /// Deletes the database `name`; `false` when another tab does not let go of it.
    ///
    /// # Errors
    /// [`StoreError`] when the browser refuses.
    pub(crate) async fn delete(name: &str) -> Result<bool, StoreError> {
        let stored = stored_name(name);
        // Left behind by a page that ended in the middle; nobody has to wait for that.
        drop(factory()?.delete_database(&log::name_for(&stored)));
        let request = factory()?.delete_database(&stored).map_err(|thrown| refused(&thrown))?;
        // Other tabs close when they are told; only one that does not blocks for good.
        match within(DELETE_WITHIN, Asked::new(request.unchecked_into()).done()).await {
            Some(result) => result.map(|_| true),
            None => Ok(false),
        }
    }

    /// A transaction on a live connection.
    async fn begin(
        &self,
        stores: &SortedSet<Keyspace>,
        mode: &Mode,
    ) -> Result<IdbTransaction, StoreError> {
        let names: Array =
            stores.iter().map(|keyspace| JsValue::from_str(keyspace.name())).collect();
        let held = self.connected().await?;
        match self.begin_on(&held, mode, &names).await {
            // The connection has ended without a word.
            Err(error) if error.class == FaultClass::Transient => {
                self.connection.borrow_mut().take_if(|now| Rc::ptr_eq(now, &held));
                self.begin_on(&*self.connected().await?, mode, &names).await
            }
            result => result,
        }
    }

    async fn begin_on(
        &self,
        held: &Connection,
        mode: &Mode,
        names: &Array,
    ) -> Result<IdbTransaction, StoreError> {
        let at_risk = match mode {
            Mode::Read => None,
            Mode::Write { .. } => Some(held.new_log.is_lacking().await),
        };
        // That may have taken seconds.
        self.check_open()?;
        let transaction = mode.begin(&held.database, names).map_err(|thrown| refused(&thrown))?;
        if let (Some(at_risk), Some(listener)) = (at_risk, &*self.on_log.0.borrow()) {
            listener(at_risk);
        }
        Ok(transaction)
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.get() {
            return Err(fault(FaultClass::Permanent, "InvalidStateError", "the store is closed"));
        }
        Ok(())
    }

    /// The connection, opened anew if it was lost.
    async fn connected(&self) -> Result<Rc<Connection>, StoreError> {
        self.check_open()?;
        match self.lost.latest.get() {
            Some(Loss::Database) => return Err(gone()),
            Some(Loss::Newer) => return Err(newer()),
            Some(Loss::Connection) => {
                self.lost.latest.set(None);
                self.connection.take();
            }
            None => {}
        }
        if let Some(held) = &*self.connection.borrow() {
            return Ok(Rc::clone(held));
        }
        match connect(&self.name, &self.lost).await {
            Ok(connection) => {
                let connection = Rc::new(connection);
                *self.connection.borrow_mut() = Some(Rc::clone(&connection));
                Ok(connection)
            }
            Err(NotOpened::Failed(error)) => Err(error),
            Err(NotOpened::Absent) => {
                self.lost.tell(Loss::Database);
                Err(gone())
            }
        }
    }
}

fn gone() -> StoreError {
    fault(FaultClass::Permanent, "NotFoundError", "the database was deleted")
}

fn newer() -> StoreError {
    fault(
        FaultClass::Permanent,
        "VersionError",
        "a later version of the app has taken the database",
    )
}

async fn lay_out(stored: &str) -> Result<(), StoreError> {
    let builder = Rexie::builder(stored).version(VERSION);
    let builder = Keyspace::ALL.iter().fold(builder, |builder, keyspace| {
        builder.add_object_store(ObjectStore::new(keyspace.name()))
    });
    match builder.build().await {
        Ok(rexie) => {
            rexie.close();
            Ok(())
        }
        Err(error) => {
            let message = format!("{error}: {error:?}");
            let full = message.contains("QuotaExceededError");
            let class = if full { FaultClass::Full } else { FaultClass::Transient };
            Err(fault(class, "UnknownError", message))
        }
    }
}

/// A connection to a database that exists.
async fn connect(stored: &str, lost: &Rc<Lost>) -> Result<Connection, NotOpened> {
    let failed = |thrown: JsValue| NotOpened::Failed(refused(&thrown));
    let request = factory().map_err(NotOpened::Failed)?.open(stored).map_err(failed)?;
    let absent = Rc::new(Cell::new(false));
    let found_absent = Rc::clone(&absent);
    let asked: IdbOpenDbRequest = request.clone();
    let refuse = Closure::<dyn FnMut(IdbVersionChangeEvent)>::new(move |_event| {
        found_absent.set(true);
        if let Some(upgrade) = asked.transaction() {
            // It fails only if it has ended, and then there is nothing to undo.
            drop(upgrade.abort());
        }
    });
    request.set_onupgradeneeded(Some(refuse.as_ref().unchecked_ref()));
    let result = Asked::new(request.clone().unchecked_into()).done().await;
    request.set_onupgradeneeded(None);
    if absent.get() {
        return Err(NotOpened::Absent);
    }
    let database: IdbDatabase = result.map_err(NotOpened::Failed)?.unchecked_into();
    if database.version() > f64::from(VERSION) && !Bug::LaterIsOwn.is_planted() {
        database.close();
        if Bug::LaterIsDeleted.is_planted() {
            drop(factory().map_err(NotOpened::Failed)?.delete_database(stored));
        }
        return Err(NotOpened::Failed(newer()));
    }
    Ok(watch(database, NewLog::begin(stored), lost))
}

/// Lets go of the database when another tab needs that, and notes why.
fn watch(database: IdbDatabase, new_log: NewLog, lost: &Rc<Lost>) -> Connection {
    let (told, held) = (Rc::clone(lost), database.clone());
    let on_version_change =
        Closure::<dyn FnMut(IdbVersionChangeEvent)>::new(move |event: IdbVersionChangeEvent| {
            if Bug::HoldsOn.is_planted() {
                return;
            }
            held.close();
            let loss = if event.new_version().is_some() { Loss::Newer } else { Loss::Database };
            told.tell(loss);
        });
    let told = Rc::clone(lost);
    let on_close = Closure::<dyn FnMut(IdbVersionChangeEvent)>::new(move |_event| {
        told.tell(Loss::Connection);
    });
    database.set_onversionchange(Some(on_version_change.as_ref().unchecked_ref()));
    database.set_onclose(Some(on_close.as_ref().unchecked_ref()));
    Connection { database, new_log, _callbacks: [on_version_change, on_close] }
}

enum Mode {
    Read,
    Write { relaxed: bool },
}

impl Mode {
    fn begin(&self, database: &IdbDatabase, stores: &Array) -> Result<IdbTransaction, JsValue> {
        let options = Object::new();
        let (mode, durability) = match self {
            Self::Read => ("readonly", "default"),
            Self::Write { relaxed: false } => ("readwrite", "strict"),
            Self::Write { relaxed: true } => ("readwrite", "relaxed"),
        };
        Reflect::set(&options, &"durability".into(), &durability.into())?;
        let database: &DurableDatabase = database.unchecked_ref();
        database.transaction_with(stores, mode, &options)
    }
}

/// Copied: a view into the memory of this module would be stored whole.
fn stored(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).into()
}

fn key_bytes(key: &JsValue) -> Result<Vec<u8>, StoreError> {
    match key.dyn_ref::<ArrayBuffer>() {
        Some(buffer) => Ok(Uint8Array::new(buffer).to_vec()),
        None => Err(fault(FaultClass::Corrupt, "DataError", "a key is not binary")),
    }
}

fn value_bytes(value: &JsValue) -> Result<Vec<u8>, StoreError> {
    match value.dyn_ref::<Uint8Array>() {
        Some(bytes) => Ok(bytes.to_vec()),
        None => Err(fault(FaultClass::Corrupt, "DataError", "a value is not binary")),
    }
}

fn optional_value(value: &JsValue) -> Result<Option<Vec<u8>>, StoreError> {
    if value.is_undefined() { Ok(None) } else { value_bytes(value).map(Some) }
}

fn object_store(
    transaction: &IdbTransaction,
    keyspace: Keyspace,
) -> Result<IdbObjectStore, StoreError> {
    transaction.object_store(keyspace.name()).map_err(|thrown| refused(&thrown))
}

fn ask(request: Result<IdbRequest, JsValue>) -> Result<Asked, StoreError> {
    request.map(Asked::new).map_err(|thrown| refused(&thrown))
}

fn ask_value(
    transaction: &IdbTransaction,
    keyspace: Keyspace,
    key: &[u8],
) -> Result<Asked, StoreError> {
    ask(object_store(transaction, keyspace)?.get(&stored(key)))
}

/// A query under way.
enum Reading {
    Value(Asked),
    Page { keys: Asked, values: Asked, room: Room },
    Nothing,
}

impl Reading {
    fn start(transaction: &IdbTransaction, query: &Query) -> Result<Self, StoreError> {
        match query {
            Query::Get { keyspace, key } => ask_value(transaction, *keyspace, key).map(Self::Value),
            Query::Scan { range, .. }
                if range.end.as_ref().is_some_and(|end| *end <= range.start) =>
            {
                Ok(Self::Nothing)
            }
            Query::Scan { keyspace, range, limit, bytes } => {
                let store = object_store(transaction, *keyspace)?;
                let within = key_range(range)?;
                // One more than asked for tells whether more follows.
                let (keys, values) = match limit.get().checked_add(1) {
                    Some(limit) => (
                        store.get_all_keys_with_key_and_limit(&within, limit),
                        store.get_all_with_key_and_limit(&within, limit),
                    ),
                    None => (store.get_all_keys_with_key(&within), store.get_all_with_key(&within)),
                };
                let room = Room::new(*limit, *bytes);
                Ok(Self::Page { keys: ask(keys)?, values: ask(values)?, room })
            }
        }
    }

    async fn finish(self) -> Result<Answer, StoreError> {
        match self {
            Self::Value(asked) => Ok(Answer::Value(optional_value(&asked.done().await?)?)),
            Self::Nothing => Ok(Answer::Page(Page::default())),
            Self::Page { keys, values, mut room } => {
                let keys: Array = keys.done().await?.unchecked_into();
                let values: Array = values.done().await?.unchecked_into();
                let mut found = keys.iter().zip(values.iter());
                let mut rows = Vec::new();
                while !room.is_over() {
                    let Some((key, value)) = found.next() else { break };
                    let row = Row { key: key_bytes(&key)?, value: value_bytes(&value)? };
                    room.take(&row);
                    rows.push(row);
                }
                Ok(Answer::Page(Page { rows, more: found.next().is_some() }))
            }
        }
    }
}

fn key_range(range: &KeyRange) -> Result<JsValue, StoreError> {
    let KeyRange { start, end } = range;
    match end {
        None if start.is_empty() => Ok(JsValue::UNDEFINED),
        None => IdbKeyRange::lower_bound(&stored(start)).map(JsValue::from),
        Some(end) => IdbKeyRange::bound_with_lower_open_and_upper_open(
            &stored(start),
            &stored(end),
            false,
            true,
        )
        .map(JsValue::from),
    }
    .map_err(|thrown| refused(&thrown))
}

fn keyspaces(batch: &Batch) -> SortedSet<Keyspace> {
    let written = batch.writes.iter().map(|write| target(write).0);
    batch.guards.iter().map(|guard| guard.keyspace).chain(written).collect()
}

/// Takes the guards that need not be read: they say that a key is absent which the batch puts, once. Added instead, it
/// is refused by the browser itself if it is there.
fn take_added(guards: &mut Vec<Guard>, writes: &[Write]) -> SortedSet<(Keyspace, Vec<u8>)> {
    let is_added = |guard: &mut Guard| {
        let is_its = |write: &&Write| target(write) == (guard.keyspace, guard.key.as_slice());
        let mut its = writes.iter().filter(is_its);
        let puts = matches!(its.next(), Some(Write::Put { .. })) && its.next().is_none();
        guard.seen.is_none() && puts
    };
    guards.extract_if(.., is_added).map(|guard| (guard.keyspace, guard.key)).collect()
}

fn target(write: &Write) -> (Keyspace, &[u8]) {
    match write {
        Write::Put { keyspace, row } => (*keyspace, &row.key),
        Write::Delete { keyspace, key } => (*keyspace, key),
    }
}

/// Asks for every write in one go: a commit that is given up is whole or absent. What may end in the middle, as for want
/// of memory, comes before the first of them: the browser commits what was asked for when nobody ends the transaction.
fn write_all(
    transaction: &IdbTransaction,
    writes: Vec<Write>,
    added: &SortedSet<(Keyspace, Vec<u8>)>,
) -> Result<(), JsValue> {
    let mut stores: SortedMap<Keyspace, IdbObjectStore> = SortedMap::new();
    let mut ready = Vec::with_capacity(writes.len());
    for write in writes {
        let (keyspace, key) = target(&write);
        let store = match stores.get(&keyspace) {
            Some(store) => store.clone(),
            None => transaction.object_store(keyspace.name())?,
        };
        stores.insert(keyspace, store.clone());
        let is_added = !added.is_empty() && added.contains(&(keyspace, key.to_vec()));
        let value = match &write {
            Write::Put { row, .. } => Some(stored(&row.value)),
            Write::Delete { .. } => None,
        };
        ready.push((store, stored(key), value, is_added));
    }
    waypoint();
    for (store, key, value, is_added) in &ready {
        match value {
            Some(value) if *is_added => store.add_with_key(value, key)?,
            Some(value) => store.put_with_key(value, key)?,
            None => store.delete(key)?,
        };
    }
    waypoint();
    Ok(())
}

impl Store for IdbStore {
    type Error = StoreError;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.begin(&SortedSet::from([keyspace]), &Mode::Read).await?;
        optional_value(&ask_value(&transaction, keyspace, key)?.done().await?)
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, StoreError> {
        let query = Query::scan(keyspace, range.clone(), limit);
        match self.read(core::slice::from_ref(&query)).await?.pop() {
            Some(Answer::Page(page)) => Ok(page),
            Some(Answer::Value(_)) | None => Ok(Page::default()),
        }
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        let stores: SortedSet<Keyspace> = queries
            .iter()
            .map(|(Query::Get { keyspace, .. } | Query::Scan { keyspace, .. })| *keyspace)
            .collect();
        if stores.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = self.begin(&stores, &Mode::Read).await?;
        let under_way: Vec<Reading> = queries
            .iter()
            .map(|query| Reading::start(&transaction, query))
            .collect::<Result<_, StoreError>>()?;
        let mut answers = Vec::new();
        for reading in under_way {
            answers.push(reading.finish().await?);
        }
        Ok(answers)
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, StoreError> {
        let stores = keyspaces(&batch);
        if stores.is_empty() {
            return Ok(CommitOutcome::Applied);
        }
        let Batch { mut guards, writes, relaxed } = batch;
        let added = take_added(&mut guards, &writes);
        let transaction = self.begin(&stores, &Mode::Write { relaxed }).await?;
        let ended = Ended::of(&transaction);
        let guarded = Guarded::read(&transaction, guards)?;
        if let Err(thrown) = write_all(&transaction, writes, &added) {
            return Err(refused(&thrown));
        }
        guarded.asked_all();
        match ended.done().await {
            Ok(()) => Ok(CommitOutcome::Applied),
            Err(_) if guarded.failed() => Ok(CommitOutcome::Conflict),
            Err(error) if error.name == "ConstraintError" => Ok(CommitOutcome::Conflict),
            Err(error) => Err(error),
        }
    }
}
