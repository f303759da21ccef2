//! One open database: the engine, those who wait for it, and what the page was last told.

mod account;
mod presence;
mod promised;
mod standing;
mod storage;

use crate::{
    bell::{Bell, Rope},
    clock::{BrowserClock, wall},
    convert::{self, Columns},
    error::Failure,
    js::object,
    page::promise,
    poison::{Awaited, Wires, waypoint},
    rows::Rows,
    slot::Slot,
    status::{Kept, Memory, RawStatus, Storage, Sync},
    store::AnyStore,
};
use account::Deciding;
pub(crate) use account::Tokens;
use core::cell::{Cell, OnceCell, RefCell};
use js_sys::{Array, Function, Promise};
pub(crate) use promised::Promised;
use rejoin_core::{
    driver::{EngineCell, Ring},
    hlc::Stamp,
    id::{CollectionName, Pattern, RecordKey},
    io::FaultClass,
    port::Clock,
    protocol::engine::{Engine, Input, Receipt, Wish, WishError},
    record::{CellKey, Record},
    replica::ChangeError,
    sorted::{SortedMap, SortedSet},
};
use std::rc::Rc;
use wasm_bindgen::JsValue;

/// How often a page looks for more in the place of what is dead.
const FILLS_MAX: usize = 8;

/// A wish under way.
struct Waiting {
    resolve: Function,
    reject: Function,
    _awaited: Awaited,
    /// Records that the receipt shows, one per operation.
    echo: Option<Vec<RecordKey>>,
    returns: Returns,
}

/// What a granted wish returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    Receipt,
    Nothing,
    /// Nothing; another account has taken over.
    Adopted,
}

/// What other tabs are told.
#[derive(Debug)]
pub(crate) enum Word<'a> {
    /// How the leading tab stands.
    Sync(&'a Sync),
    /// What the app decided about another account's rows; the leading tab knows the account.
    Adopt { discard: bool },
    /// What this tab shows has changed.
    Present,
    /// Who else is there? Whoever leads is to find out, if this tab wants to know.
    Who { attends: bool },
    /// What the server told of others, in the form of the page.
    Others(&'a JsValue),
}

type Tell = Box<dyn Fn(Word<'_>)>;

/// State that everything around one engine shares.
pub(crate) struct Database {
    engine: RefCell<Engine>,
    pub(crate) store: AnyStore,
    pub(crate) wires: Rc<Wires>,
    pub(crate) rope: Rope,
    columns: Columns,
    watched: RefCell<SortedSet<CollectionName>>,
    waiting: RefCell<SortedMap<u64, Waiting>>,
    asked: Cell<u64>,
    /// Filled when the last wish is done; set while the database closes.
    idle: RefCell<Option<Rc<Slot<()>>>>,
    pub(crate) opened: Slot<Result<(), Failure>>,
    pub(crate) tokens: Tokens,
    memory: RefCell<Memory>,
    /// What the leading tab last told.
    told: RefCell<Option<Sync>>,
    paused: Cell<bool>,
    storage: Cell<Storage>,
    persist_asked: Cell<bool>,
    promised: Promised,
    last: RefCell<Option<RawStatus>>,
    last_sync: RefCell<Option<Sync>>,
    /// What was last kept.
    kept: RefCell<Option<Kept>>,
    keeping: Cell<bool>,
    /// Tells the other tabs; set once, where there can be any.
    tell_tabs: OnceCell<Tell>,
    deciding: RefCell<Vec<Deciding>>,
    present: presence::Present,
    last_rejected: Cell<usize>,
    /// Whether the stored database was taken away for good.
    is_gone: Cell<bool>,
    closing: Cell<bool>,
}

impl core::fmt::Debug for Database {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Database").field("store", &self.store).finish_non_exhaustive()
    }
}

impl EngineCell for Database {
    fn with<T>(&self, with: impl FnOnce(&mut Engine) -> T) -> T {
        self.engine(with)
    }
}

impl Database {
    /// A database whose engine is about to read its store.
    pub(crate) fn new(
        engine: Engine,
        store: AnyStore,
        wires: Rc<Wires>,
        columns: Columns,
        tokens: Tokens,
        promised: Promised,
    ) -> (Rc<Self>, Bell) {
        let (rope, bell) = crate::bell::hang();
        let mode = match &store {
            AnyStore::Idb(_) => "best-effort",
            AnyStore::Memory(_) => "memory",
        };
        let storage = Storage {
            mode,
            usage: None,
            quota: None,
            problem: None,
            writes_lost: false,
            at_risk: false,
        };
        let database = Self {
            engine: RefCell::new(engine),
            store,
            wires,
            rope,
            columns,
            watched: RefCell::default(),
            waiting: RefCell::default(),
            asked: Cell::new(0),
            idle: RefCell::default(),
            opened: Slot::default(),
            tokens,
            memory: RefCell::default(),
            told: RefCell::default(),
            paused: Cell::new(false),
            storage: Cell::new(storage),
            persist_asked: Cell::new(false),
            promised,
            last: RefCell::default(),
            last_sync: RefCell::default(),
            kept: RefCell::default(),
            keeping: Cell::new(false),
            tell_tabs: OnceCell::new(),
            deciding: RefCell::default(),
            present: presence::Present::default(),
            last_rejected: Cell::new(0),
            is_gone: Cell::new(false),
            closing: Cell::new(false),
        };
        (Rc::new(database), bell)
    }

    /// Runs `work` on the engine.
    pub(crate) fn engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        let made = work(&mut engine);
        waypoint();
        made
    }

    /// Feeds the engine and wakes the loop.
    pub(crate) fn feed(&self, input: Input) {
        self.engine(|engine| engine.handle(BrowserClock.now(), input));
        self.rope.ring(Ring::Fed);
    }

    /// Fails once the database closes or the engine is broken.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        crate::poison::check()?;
        if self.closing.get() { Err(Failure::closed()) } else { Ok(()) }
    }

    /// Hands a wish to the engine; the promise settles when it is done.
    pub(crate) fn ask(
        &self,
        wish: Wish,
        echo: Option<Vec<RecordKey>>,
        returns: Returns,
    ) -> Promise {
        if self.is_gone.get() {
            // Known before anything was tried: the engine could only say that it cannot tell.
            return Promise::reject(&Failure::store(FaultClass::Permanent).into());
        }
        let (promise, resolve, reject) = promise();
        let id = self.asked.get() + 1;
        self.asked.set(id);
        let awaited = Awaited::new(reject.clone());
        let waiting = Waiting { resolve, reject, _awaited: awaited, echo, returns };
        self.waiting.borrow_mut().insert(id, waiting);
        self.feed(Input::Ask { id, wish });
        promise
    }

    /// Settles the promise of a wish.
    pub(crate) fn done(self: &Rc<Self>, id: u64, result: Result<Receipt, WishError>) {
        let Some(waiting) = self.waiting.borrow_mut().remove(&id) else { return };
        let Waiting { resolve, reject, echo, returns, .. } = waiting;
        let (settle, value) = match result {
            Ok(receipt) => {
                self.wrote(receipt.number);
                if returns == Returns::Adopted {
                    self.memory.borrow_mut().account = None;
                }
                (resolve, self.receipt(&receipt, echo, returns))
            }
            // Removing what is not there is no error and leaves nothing to be written.
            Err(WishError::Write(rejoin_core::replica::WriteError::Change(ChangeError::Empty))) => {
                let nothing = Receipt { number: 0, stamp: None::<Stamp>, relaxed: false };
                (resolve, self.receipt(&nothing, echo, returns))
            }
            Err(error) => {
                if let WishError::Store(class) | WishError::Unknown(class) = &error {
                    self.store_failed(*class);
                }
                (reject, JsValue::from(Failure::from(error)))
            }
        };
        drop(settle.call1(&JsValue::UNDEFINED, &value));
        if self.waiting.borrow().is_empty()
            && let Some(idle) = &*self.idle.borrow()
        {
            idle.fill(());
        }
    }

    fn receipt(
        &self,
        receipt: &Receipt,
        echo: Option<Vec<RecordKey>>,
        returns: Returns,
    ) -> JsValue {
        if returns != Returns::Receipt {
            return JsValue::UNDEFINED;
        }
        let durability = match (&self.store, receipt.relaxed) {
            (AnyStore::Memory(_), _) => "memory",
            (AnyStore::Idb(_), true) => "saved",
            (AnyStore::Idb(_), false) => "flushed",
        };
        let mut fields = Vec::from([
            ("row", convert::number(receipt.number)),
            ("durability", JsValue::from_str(durability)),
        ]);
        if let Some(keys) = echo {
            let rows: Array =
                keys.iter().map(|key| self.row(key).unwrap_or(JsValue::NULL)).collect();
            fields.push(("rows", rows.into()));
        }
        object(&fields)
    }

    /// Tells the page.
    pub(crate) fn tell(&self, event: &[(&str, JsValue)]) {
        self.wires.emit(&object(event));
    }

    /// What a record shows.
    pub(crate) fn row(&self, key: &RecordKey) -> Option<JsValue> {
        let record = self.live(key)?;
        let mut rows = Rows::of_rows();
        rows.push(key.id.as_str(), &record, self.columns_of(&key.collection));
        Some(rows.finish().get(0))
    }

    fn live(&self, key: &RecordKey) -> Option<Record> {
        let record = self.engine(|engine| engine.replica().view(key));
        if record.is_err() {
            self.store_failed(FaultClass::Corrupt);
        }
        record.ok().filter(Record::is_live)
    }

    fn columns_of(&self, collection: &CollectionName) -> &[CellKey] {
        let mut columns = self.columns.iter();
        let covering = columns.find(|(pattern, _): &&(Pattern, _)| pattern.covers(collection));
        covering.map_or(&[], |(_, columns)| columns)
    }

    /// Up to `limit` live records after the id `after`, ascending by id. Where most are dead there may be fewer and
    /// more behind them.
    pub(crate) fn page(
        &self,
        collection: &CollectionName,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> JsValue {
        let columns = self.columns_of(collection);
        let (mut rows, mut found) = (Rows::of_rows(), 0);
        let mut at = after.cloned();
        for _ in 0..FILLS_MAX {
            let wanted = limit - found;
            let keys =
                self.engine(|engine| engine.replica().keys_after(collection, at.as_ref(), wanted));
            for key in &keys {
                if let Some(record) = self.live(key) {
                    rows.push(key.id.as_str(), &record, columns);
                    found += 1;
                }
            }
            let is_over = keys.len() < wanted;
            at = keys.into_iter().last().filter(|_| !is_over);
            if is_over || found == limit {
                break;
            }
        }
        let next = at.map_or(JsValue::NULL, |key| JsValue::from_str(key.id.as_str()));
        object(&[("rows", rows.finish().into()), ("next", next)])
    }

    /// Whether changes of a collection are told with their rows.
    pub(crate) fn watch(&self, collection: CollectionName, on: bool) {
        let mut watched = self.watched.borrow_mut();
        if on {
            watched.insert(collection);
        } else {
            watched.remove(&collection);
        }
    }

    /// Tells that records changed.
    pub(crate) fn changed(&self, keys: &SortedSet<RecordKey>) {
        let mut changes = Rows::of_changes();
        for key in keys {
            let watched = self.watched.borrow().contains(&key.collection);
            let record = watched.then(|| self.live(key));
            let columns = self.columns_of(&key.collection);
            changes.push_change(key, record.as_ref().map(|record| (record.as_ref(), columns)));
        }
        self.tell(&[("type", JsValue::from_str("changed")), ("changes", changes.finish().into())]);
    }

    /// How the other tabs are told.
    pub(crate) fn tell_tabs(&self, tell: impl Fn(Word<'_>) + 'static) {
        // A database joins its tabs once.
        drop(self.tell_tabs.set(Box::new(tell)));
    }

    /// An event that names rows.
    pub(crate) fn rows_event(&self, name: &str, rows: &[u64]) {
        let rows: Array = rows.iter().map(|row| convert::number(*row)).collect();
        self.tell(&[("type", JsValue::from_str(name)), ("rows", rows.into())]);
    }

    /// A line of the protocol log.
    pub(crate) fn log(&self, direction: &str, message: &str, bytes: usize, text: &str) {
        self.tell(&[
            ("type", JsValue::from_str("log")),
            ("at", convert::number(wall().0)),
            ("direction", JsValue::from_str(direction)),
            ("channel", convert::number(0)),
            ("message", JsValue::from_str(message)),
            ("bytes", convert::number(u64::try_from(bytes).unwrap_or(u64::MAX))),
            ("text", JsValue::from_str(text)),
        ]);
    }

    /// Notes why there is no session.
    pub(crate) fn failed(&self, error: Option<Failure>) {
        if error.is_some() {
            self.memory.borrow_mut().error = error;
        }
    }

    /// Notes whether an attempt to connect is under way.
    pub(crate) fn dialing(&self, dialing: bool) {
        self.memory.borrow_mut().dialing = dialing;
    }

    /// Hangs up, or connects again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.dialing(false);
        self.rope.ring(if paused { Ring::Pause } else { Ring::Resume });
    }

    /// Takes no call any more.
    pub(crate) fn refuse_calls(&self) {
        self.closing.set(true);
    }

    /// Waits until the calls under way are done.
    pub(crate) async fn finish_wishes(&self) {
        let idle = Rc::new(Slot::default());
        if self.waiting.borrow().is_empty() {
            idle.fill(());
        }
        *self.idle.borrow_mut() = Some(Rc::clone(&idle));
        idle.take().await;
    }
}
