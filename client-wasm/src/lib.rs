//! Rejoin in the browser: the exports that the npm package wraps.
//!
//! `ts/raw.ts` is the interface. Every method takes `&self`: calls overlap, and a mutable borrow that
//! another call finds would be a panic. On other targets than wasm32 the crate is empty.

#![cfg(target_arch = "wasm32")]

mod bell;
mod clock;
mod convert;
mod database;
mod engine;
mod entropy;
mod error;
mod js;
mod page;
mod planted;
mod poison;
mod rows;
mod slot;
mod status;
mod store;
mod tabs;
#[cfg(feature = "test-util")]
pub mod testing;
mod transport;

use crate::{
    database::{Database, Promised, Returns},
    engine::Running,
    error::{Code, Failure},
    store::{StoreError, idb::IdbStore},
};
use convert::{Options, WriteOptions};
use core::cell::RefCell;
use js_sys::{Array, Function, Promise};
use rejoin_core::{port::Fault, protocol::engine::Wish};
use std::rc::Rc;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

/// The version of the engine, as in its manifest.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

/// One open database: `RawEngine`.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    running: Rc<Running>,
    closing: RefCell<Option<Promise>>,
}

/// The promise of a task; it fails when the instance breaks.
fn promised(task: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> Promise {
    if let Err(failure) = poison::check() {
        return Promise::reject(&failure.into());
    }
    let (promise, resolve, reject) = page::promise();
    let awaited = poison::Awaited::new(reject.clone());
    poison::spawn(async move {
        let (settle, value) = match task.await {
            Ok(value) => (resolve, value),
            Err(error) => (reject, error),
        };
        drop(awaited);
        drop(settle.call1(&JsValue::UNDEFINED, &value));
    });
    promise
}

/// A promise that is settled already.
fn settled(result: Result<JsValue, Failure>) -> Promise {
    match result {
        Ok(value) => Promise::resolve(&value),
        Err(failure) => Promise::reject(&failure.into()),
    }
}

#[wasm_bindgen]
impl Engine {
    /// Resolves with an engine when local data can be read and written; does not wait for the network.
    pub fn open(options: JsValue, emit: Function) -> Promise {
        poison::install();
        promised(async move {
            let options: Options = convert::from_js(options)?;
            let running = Running::open(options, emit).await?;
            Ok(Self { running, closing: RefCell::default() }.into())
        })
    }

    /// Deletes the local database; rejects with `blocked` if another tab does not let go of it.
    pub fn destroy(name: String) -> Promise {
        promised(async move {
            match IdbStore::delete(&name).await {
                Ok(true) => {
                    Promised::of(&name).forget();
                    Ok(JsValue::UNDEFINED)
                }
                // Where there is no IndexedDB there is nothing to delete.
                Err(StoreError { name, .. }) if name == "NotSupportedError" => {
                    Ok(JsValue::UNDEFINED)
                }
                Ok(false) => {
                    let message = "another tab holds the database";
                    Err(Failure::retryable(Code::Blocked, message).into())
                }
                Err(error) => Err(Failure::store(error.class()).into()),
            }
        })
    }

    /// Applies all operations or none; resolves with a receipt when durable.
    pub fn write(&self, ops: &Array, options: JsValue) -> Promise {
        self.ask(|| {
            let options: WriteOptions = convert::from_js(options)?;
            let changes = convert::changes(ops)?;
            let keys = changes.iter().map(|change| change.key.clone());
            let echo = options.echo.then(|| keys.collect());
            let wish = Wish::Write { changes, relaxed: options.relaxed };
            Ok((wish, echo, Returns::Receipt))
        })
    }

    /// Resolves with a live record or `undefined`.
    pub fn get(&self, collection: &JsValue, id: &JsValue) -> Promise {
        settled(self.with(|database| {
            let key = convert::record_key(&convert::text(collection)?, &convert::text(id)?)?;
            Ok(database.row(&key).unwrap_or(JsValue::UNDEFINED))
        }))
    }

    /// Resolves with up to `limit` live records behind `after`.
    pub fn scan(&self, collection: &JsValue, after: Option<String>, limit: u32) -> Promise {
        settled(self.with(|database| {
            let name = convert::text(collection)?;
            let after = after.map(|id| convert::record_key(&name, &id)).transpose()?;
            let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
            Ok(database.page(&convert::collection_name(&name)?, after.as_ref(), limit))
        }))
    }

    /// Whether `changed` events carry the rows of this collection.
    ///
    /// # Errors
    /// `invalid` for what is not the name of a collection, `closed`, `poisoned`.
    pub fn watch(&self, collection: &JsValue, on: bool) -> Result<(), JsValue> {
        let watched = self.with(|database| {
            database.watch(convert::collection_name(&convert::text(collection)?)?, on);
            Ok(())
        });
        watched.map_err(JsValue::from)
    }

    /// Where things stand.
    ///
    /// # Errors
    /// `poisoned`.
    pub fn status(&self) -> Result<JsValue, JsValue> {
        poison::check()?;
        Ok(js::to_js(&self.running.database.status()))
    }

    /// The app has read in the status that writes were lost: pages that open the database from now on do not hear
    /// of it again.
    ///
    /// # Errors
    /// `closed`, `poisoned`.
    #[wasm_bindgen(js_name = lossRead)]
    pub fn loss_read(&self) -> Result<(), JsValue> {
        self.with(|database| {
            database.loss_read();
            Ok(())
        })
        .map_err(JsValue::from)
    }

    /// The writes that the server refused, oldest first.
    ///
    /// # Errors
    /// `closed`, `poisoned`.
    pub fn rejected(&self) -> Result<Array, JsValue> {
        self.with(|database| Ok(engine::rejected(database))).map_err(JsValue::from)
    }

    /// Sends a refused row again, under a new stamp.
    pub fn retry(&self, row: f64) -> Promise {
        self.ask(|| Ok((Wish::Retry { number: row_number(row)? }, None, Returns::Receipt)))
    }

    /// Writes something else in place of a refused row.
    pub fn edit(&self, row: f64, ops: &Array) -> Promise {
        self.ask(|| {
            let wish = Wish::Edit { number: row_number(row)?, changes: convert::changes(ops)? };
            Ok((wish, None, Returns::Receipt))
        })
    }

    /// Forgets a refused row.
    pub fn discard(&self, row: f64) -> Promise {
        self.ask(|| Ok((Wish::Discard { number: row_number(row)? }, None, Returns::Nothing)))
    }

    /// Goes on as the account that was welcomed in place of this database's own, and sends what waits in
    /// its name.
    pub fn adopt(&self) -> Promise {
        self.decide(false)
    }

    /// Goes on as the account that was welcomed, and forgets what waits.
    #[wasm_bindgen(js_name = discardPending)]
    pub fn discard_pending(&self) -> Promise {
        self.decide(true)
    }

    /// An exception that is not one of this interface came out of a call: the instance is broken.
    pub fn broke(&self, message: &str) {
        poison::poison(message);
    }

    /// `true` hangs up and stays offline; `false` dials at once.
    ///
    /// # Errors
    /// `closed`, `poisoned`.
    pub fn pause(&self, paused: bool) -> Result<(), JsValue> {
        self.with(|database| {
            database.pause(paused);
            database.tell_status();
            Ok(())
        })
        .map_err(JsValue::from)
    }

    /// A new token; `null`: none could be had now.
    ///
    /// # Errors
    /// `closed`, `poisoned`.
    pub fn token(&self, token: Option<String>) -> Result<(), JsValue> {
        self.with(|database| {
            database.token(token);
            Ok(())
        })
        .map_err(JsValue::from)
    }

    /// This tab shows a value from now on, or nothing (`undefined`).
    ///
    /// # Errors
    /// `invalid` for what is no value, `too_large`, `closed`, `poisoned`.
    pub fn present(&self, value: JsValue) -> Result<(), JsValue> {
        self.with(|database| database.present(value)).map_err(JsValue::from)
    }

    /// Events tell who else is there from now on.
    ///
    /// # Errors
    /// `closed`, `poisoned`.
    pub fn attend(&self) -> Result<(), JsValue> {
        self.with(|database| {
            database.attend();
            Ok(())
        })
        .map_err(JsValue::from)
    }

    /// Resolves with the root of every collection of the base.
    pub fn roots(&self) -> Promise {
        settled(self.with(|database| Ok(engine::roots(database))))
    }

    /// Finishes writes that are under way, hangs up, lets go of locks and storage. Repeatable.
    pub fn close(&self) -> Promise {
        if let Some(closing) = &*self.closing.borrow() {
            return closing.clone();
        }
        let running = Rc::clone(&self.running);
        running.database.refuse_calls();
        let closing = promised(async move {
            running.close().await;
            Ok(JsValue::UNDEFINED)
        });
        *self.closing.borrow_mut() = Some(closing.clone());
        closing
    }
}

impl Engine {
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Failure> {
        let database = &self.running.database;
        database.check()?;
        work(database)
    }

    fn decide(&self, discard: bool) -> Promise {
        let asked = self.with(|database| Ok(database.adopt(discard)));
        asked.unwrap_or_else(|failure| Promise::reject(&failure.into()))
    }

    fn ask(
        &self,
        wish: impl FnOnce() -> Result<(Wish, Option<Vec<rejoin_core::id::RecordKey>>, Returns), Failure>,
    ) -> Promise {
        let asked = self.with(|database| {
            let (wish, echo, returns) = wish()?;
            Ok(database.ask(wish, echo, returns))
        });
        asked.unwrap_or_else(|failure| Promise::reject(&failure.into()))
    }
}

fn row_number(row: f64) -> Result<u64, Failure> {
    let whole = rejoin_core::record::Number::from_f64(row).as_i64();
    let number = whole.and_then(|row| u64::try_from(row).ok());
    number.ok_or_else(|| Failure::invalid("the row is not a whole number"))
}
