//! Opens a database: joins the engine to its store, its socket, its tabs and its page.

use crate::{
    bell::Bell,
    clock::{BrowserClock, within},
    convert::{self, Options, columns, number, shown, stamp_text},
    database::{Database, Promised, Tokens},
    entropy::{BrowserEntropy, random},
    error::{Code, Failure, reject_name},
    js::object,
    page::{Moment, Ticks, Watch},
    poison::{self, Wires},
    slot::Slot,
    status::Account,
    store::{
        AnyStore, StoreError,
        idb::{IdbStore, Loss},
        memory::MemoryStore,
    },
    tabs::Tabs,
    transport::{BrowserDialer, DialWatch, LineError},
};
use core::cell::RefCell;
use rejoin_core::{
    driver::{Listener, Ports, Ring, drive},
    id::{CollectionName, RecordKey, ReplicaId, SpaceId},
    io::FaultClass,
    port::Fault,
    protocol::{
        engine::{Engine, EngineConfig, Input, Link, Notice, Receipt, WishError},
        message::{ByeCode, Conflict, RejectCode},
    },
    replica::{Damage, LoadError},
    time::Millis,
    tree::WalkLimits,
    tree::{Trie, combine_roots},
};
use std::rc::{Rc, Weak};
use wasm_bindgen::JsValue;

/// How often a tab looks at the log without having been told that it grew.
const LOOK_EVERY: Millis = Millis(3_000);
/// Looks between two questions to the browser about its storage.
const LOOKS_PER_ESTIMATE: u32 = 20;

/// A database and everything that runs for it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) database: Rc<Database>,
    tabs: Option<Rc<Tabs>>,
    watch: RefCell<Option<Watch>>,
    ended: Rc<Slot<()>>,
    stopped: Rc<Slot<()>>,
}

impl Running {
    /// Opens the database; resolves when its data can be read.
    ///
    /// # Errors
    /// [`Failure`] when an option does not fit or the stored data cannot be read.
    pub(crate) async fn open(
        options: Options,
        emit: js_sys::Function,
    ) -> Result<Rc<Self>, Failure> {
        let columns = columns(&options.collections)?;
        let config = EngineConfig {
            space: options.url.as_ref().map(|_| space_of(&options.space)).transpose()?,
            patterns: columns.iter().map(|(pattern, _)| pattern.clone()).collect(),
            fresh: ReplicaId::from_bytes(random()),
            token: options.token.clone(),
            trace: options.url.is_some(),
            walk: WalkLimits::default(),
        };
        let engine = Engine::open(config)?;
        let store = open_store(&options.name).await?;
        let tokens = Tokens::new(options.asks, options.token.is_some());
        let (wires, promised) = (Wires::new(emit), Promised::of(&options.name));
        let (database, bell) = Database::new(engine, store, wires, columns, tokens, promised);
        let running = Self::start(database, bell, &options);
        let opened = match running.database.opened.take().await {
            Ok(()) => running.database.recall().await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = opened {
            running.stop().await;
            return Err(failure);
        }
        running.database.look_for_lost();
        running.watch_page();
        Ok(running)
    }

    fn start(database: Rc<Database>, mut bell: Bell, options: &Options) -> Rc<Self> {
        let tabs = match &database.store {
            AnyStore::Idb(store) => {
                let tabs = Tabs::join(&options.name, &database);
                let (told, left) = (Rc::downgrade(&database), Rc::downgrade(&tabs));
                store.on_loss(move |loss| {
                    if let (Some(database), Some(tabs)) = (told.upgrade(), left.upgrade()) {
                        lost(&database, &tabs, loss);
                    }
                });
                let told = Rc::downgrade(&database);
                store.on_log(move |at_risk| {
                    if let Some(database) = told.upgrade() {
                        database.at_risk(at_risk);
                    }
                });
                Some(tabs)
            }
            AnyStore::Memory(_) => {
                database.feed(Input::Lead { token: random() });
                None
            }
        };
        let ended = Rc::new(Slot::default());
        let dialer = options
            .url
            .clone()
            .map(|url| BrowserDialer::new(url, Dialing(Rc::downgrade(&database))));
        let (done, held, heard) = (Rc::clone(&ended), Rc::clone(&database), tabs.clone());
        poison::spawn(async move {
            let ports = Ports { store: &held.store, dialer: dialer.as_ref(), clock: &BrowserClock };
            let mut teller = Teller { database: Rc::clone(&held), tabs: heard };
            drive(&*held, ports, &mut BrowserEntropy, &mut bell, &mut teller).await;
            done.fill(());
        });
        let (watch, stopped) = (RefCell::default(), Rc::<Slot<()>>::default());
        let running = Rc::new(Self { database, tabs, watch, ended, stopped: Rc::clone(&stopped) });
        // From now on: a trap while the data is read would otherwise be noticed by nobody.
        poison::spawn(look_now_and_then(Rc::downgrade(&running), stopped));
        running
    }

    /// Listens to what the page goes through.
    fn watch_page(self: &Rc<Self>) {
        let running = Rc::downgrade(self);
        let watch = Watch::new(move |moment| {
            if let Some(running) = running.upgrade() {
                running.lived(moment);
            }
        });
        *self.watch.borrow_mut() = Some(watch);
    }

    fn lived(&self, moment: Moment) {
        if moment == Moment::Hidden {
            self.database.put_down_promises();
        } else {
            wake(&self.database);
        }
        let Some(tabs) = &self.tabs else { return };
        match moment {
            Moment::Shown => tabs.shown(),
            Moment::Hidden => tabs.hidden(),
            Moment::Awake => {}
        }
    }

    /// Finishes what is under way and lets go of everything.
    pub(crate) async fn close(&self) {
        self.database.finish_wishes().await;
        self.stop().await;
    }

    async fn stop(&self) {
        self.stopped.fill(());
        self.watch.take();
        self.database.rope.ring(Ring::Stop);
        self.ended.take().await;
        self.database.keep().await;
        self.database.put_down_promises();
        self.database.wires.silence();
        if let Some(tabs) = &self.tabs {
            tabs.leave();
        }
        if let AnyStore::Idb(store) = &self.database.store {
            store.close();
        }
    }
}

/// IndexedDB, or memory where the browser has none for this page.
fn space_of(name: &str) -> Result<SpaceId, Failure> {
    SpaceId::parse(name).map_err(|error| Failure::invalid(format!("space {name:?}: {error}")))
}

async fn open_store(name: &str) -> Result<AnyStore, Failure> {
    match IdbStore::open(name).await {
        Ok(store) => Ok(AnyStore::Idb(store)),
        Err(StoreError { name, .. }) if name == "NotSupportedError" || name == "SecurityError" => {
            Ok(AnyStore::Memory(MemoryStore::default()))
        }
        Err(error) if error.name == "VersionError" => {
            Err(Failure::new(Code::ReloadNeeded, error.message))
        }
        Err(error) => Err(Failure::store(error.class())),
    }
}

fn lost(database: &Database, tabs: &Tabs, loss: Loss) {
    let (problem, text) = match loss {
        // Whether it can be opened again shows when it is read.
        Loss::Connection => return database.feed(Input::Hint),
        Loss::Database => ("evicted", "the database was deleted"),
        Loss::Newer => ("reload_needed", "a later version of the app took the database"),
    };
    // This tab never reads or writes again: the lead is for those that can.
    database.feed(Input::Follow);
    tabs.leave();
    database.gone(problem, text);
}

/// Whatever was missed is looked for, and a connection is sought at once.
fn wake(database: &Database) {
    database.feed(Input::Hint);
    database.rope.ring(Ring::Online);
}

/// Ends with `stopped`, and leaves no timer that would keep a process alive.
async fn look_now_and_then(running: Weak<Running>, stopped: Rc<Slot<()>>) {
    let mut ticks = Ticks::start();
    for look in 0_u32.. {
        match running.upgrade() {
            Some(running) if !stopped.is_filled() => {
                let database = &running.database;
                if look.is_multiple_of(LOOKS_PER_ESTIMATE) {
                    database.look_at_storage("the browser's estimate").await;
                }
                let gap = ticks.gap();
                if gap {
                    wake(database);
                } else if look > 0 {
                    database.feed(Input::Hint);
                }
                if let Some(tabs) = &running.tabs {
                    tabs.look(gap);
                }
            }
            Some(_) | None => return,
        }
        if within(LOOK_EVERY, stopped.take()).await.is_some() {
            return;
        }
    }
}

/// What the dialler asks and tells.
struct Dialing(Weak<Database>);

impl core::fmt::Debug for Dialing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Dialing")
    }
}

impl DialWatch for Dialing {
    async fn permit(&self) -> bool {
        let Some(database) = self.0.upgrade() else { return false };
        if !database.permit().await {
            return false;
        }
        database.dialing(true);
        database.tell_status();
        true
    }

    fn ended(&self, result: Result<(), &LineError>) {
        let Some(database) = self.0.upgrade() else { return };
        if let Err(error) = result {
            database.dialing(false);
            let code =
                if *error == LineError::NoToken { Code::Unauthorized } else { Code::Network };
            database.failed(Some(Failure::retryable(code, error.to_string())));
            database.tell_status();
        }
    }
}

/// Takes what comes out of the engine to the page and to the other tabs.
#[derive(Debug)]
struct Teller {
    database: Rc<Database>,
    tabs: Option<Rc<Tabs>>,
}

impl Listener for Teller {
    fn done(&mut self, id: u64, result: Result<Receipt, WishError>) {
        // The status that goes with it is told before the promise's own listeners run.
        self.database.done(id, result);
    }

    fn notice(&mut self, notice: Notice) {
        let database = &self.database;
        match notice {
            Notice::Opened => database.opened.fill(Ok(())),
            Notice::Unreadable(class) => self.unreadable(class),
            Notice::Refused(error) => self.refused(&error),
            Notice::Damaged(damage) => self.damaged(&damage),
            Notice::Mended { found } => {
                let text = format!("{found} damaged rows are written again from memory");
                self.database.log("state", "Mended", 0, &text);
            }
            Notice::OtherSpace { held } => self.other_space(&held),
            Notice::Changed(keys) => database.changed(&keys),
            Notice::LogGrew => {
                if let Some(tabs) = &self.tabs {
                    tabs.log_grew();
                }
            }
            Notice::Others(others) => database.others(&others),
            Notice::Leading => {
                database.begin_presence();
                database.tell_status();
                database.keep_soon();
            }
            Notice::Status => {
                database.tell_status();
                database.keep_soon();
            }
            Notice::Deposed => {
                if let Some(tabs) = &self.tabs {
                    tabs.step_down();
                }
                database.tell_status();
            }
            Notice::Accepted(rows) => database.rows_event("ack", &rows),
            Notice::Rejected { number, .. } => database.rows_event("rejected", &[number]),
            Notice::Conflict { key, conflict } => self.conflict(&key, &conflict),
            Notice::Reborn { old, new } => {
                let text = format!("the history had forked: {old} goes on as {new}");
                database.log("state", "Reborn", 0, &text);
            }
            Notice::Delayed { number, by } => {
                let text = format!("write {number} is {} ms ahead of the server's clock", by.0);
                database.failed(Some(Failure::retryable(Code::Network, text)));
            }
            Notice::AccountChanged { ours, theirs } => {
                let text = format!("this database belongs to {ours}, the token to {theirs}");
                database.failed(Some(Failure::new(Code::OtherAccount, text)));
                database.account_changed(Account { ours, theirs });
            }
            Notice::Ended { code, reason } => self.ended(code, &reason),
            Notice::Refilled { returned, refused, .. } => self.refilled(returned, &refused),
            Notice::Diverged { subscription, seq, ours, theirs } => {
                let (ours, theirs) = (ours.short(), theirs.short());
                let text =
                    format!("subscription {subscription} at {seq}: {ours} here, {theirs} there");
                database.log("state", "Diverged", 0, &text);
            }
            Notice::Trace { sent, name, bytes, text } => {
                database.log(if sent { "out" } else { "in" }, name, bytes, &text);
            }
            _ => {}
        }
    }
}

impl Teller {
    fn unreadable(&self, class: FaultClass) {
        self.database.store_failed(class);
        // A full disk is full for every tab; anything else may be this one's trouble alone.
        if let Some(tabs) = self.tabs.as_ref().filter(|_| class != FaultClass::Full) {
            tabs.step_down();
        }
        if !self.database.opened.is_filled() {
            self.database.opened.fill(Err(Failure::store(class)));
        }
    }

    /// What the database holds cannot be taken in: whoever opens it is told what of it.
    fn refused(&self, error: &LoadError) {
        if !self.database.opened.is_filled() {
            self.database.opened.fill(Err(Failure::new(Code::Storage, error.to_string())));
        }
        self.unreadable(FaultClass::Corrupt);
    }

    /// Writes that cannot be read are an error for the app to show; what comes anew is not.
    fn damaged(&self, damage: &Damage) {
        let Damage { received, rows } = damage;
        let text = format!("{received} damaged rows are fetched anew, lost may be writes {rows:?}");
        self.database.log("state", "Damaged", 0, &text);
        if !rows.is_empty() {
            let text = format!("writes {rows:?} are damaged and cannot be read");
            self.database.failed(Some(Failure::new(Code::Storage, text)));
            self.database.tell_status();
        }
    }

    fn other_space(&self, held: &SpaceId) {
        let text = format!("the database belongs to the space {held}");
        let failure = Failure::new(Code::OtherSpace, text);
        self.database.failed(Some(failure.clone()));
        if let Some(tabs) = &self.tabs {
            tabs.step_down();
        }
        self.database.opened.fill(Err(failure));
    }

    fn ended(&self, code: ByeCode, reason: &str) {
        let database = &self.database;
        database.failed(Failure::ended(code, reason));
        let waits = database.engine(|engine| engine.status().link == Link::NeedsToken);
        if code == ByeCode::Unauthorized && waits && database.tokens.asks {
            database.want_token(true);
        }
    }

    fn refilled(&self, returned: u64, refused: &[(RejectCode, u64)]) {
        let pair = |(code, count): &(RejectCode, u64)| {
            let (code, count) = (JsValue::from_str(reject_name(*code)), number(*count));
            JsValue::from(js_sys::Array::of2(&code, &count))
        };
        let text = format!("the server had lost history: {returned} records are back");
        self.database.log("state", "Refilled", 0, &text);
        self.database.tell(&[
            ("type", JsValue::from_str("refilled")),
            ("returned", number(returned)),
            ("refused", refused.iter().map(pair).collect::<js_sys::Array>().into()),
        ]);
    }

    fn conflict(&self, key: &RecordKey, conflict: &Conflict) {
        let own = self.database.engine(|engine| engine.replica().id()) == conflict.lost.replica;
        self.database.tell(&[
            ("type", JsValue::from_str("conflict")),
            ("collection", JsValue::from_str(key.collection.as_str())),
            ("id", JsValue::from_str(key.id.as_str())),
            ("field", JsValue::from_str(conflict.field.as_str())),
            ("won", JsValue::from_str(&stamp_text(&conflict.won))),
            ("lost", JsValue::from_str(&stamp_text(&conflict.lost))),
            ("value", conflict.value.as_ref().map_or(JsValue::NULL, shown)),
            ("own", JsValue::from_bool(own)),
        ]);
    }
}

/// The rejected rows, in the order in which they were written.
pub(crate) fn rejected(database: &Database) -> js_sys::Array {
    database.engine(|engine| {
        let rows = engine.replica().overlay().rows();
        rows.filter_map(|(number, outbox)| convert::rejected(number, outbox)).collect()
    })
}

/// Root of every collection of the base, by name.
pub(crate) fn roots(database: &Database) -> JsValue {
    let roots: Vec<(String, String)> = database.engine(|engine| {
        let trees = engine.replica_mut().base_mut().trees().iter_mut();
        let root = |(name, tree): (&CollectionName, &mut Trie)| {
            // As a subscription to this one collection would have it: what `rejoin verify` prints.
            (name.to_string(), combine_roots([(name, tree.root())]).to_string())
        };
        trees.map(root).collect()
    });
    let fields: Vec<(&str, JsValue)> =
        roots.iter().map(|(name, root)| (name.as_str(), JsValue::from_str(root))).collect();
    object(&fields)
}
