//! Makes the browser begin a new log before anything is promised.
//!
//! Chromium keeps `IndexedDB` in `LevelDB`, and after a crash goes on with the log that it finds (`reuse_logs`). If the crash
//! tore the last record in it, as SIGKILL and a loss of power do, what is written behind that record is read until the
//! browser ends; but the next recovery takes it for damage and drops it, synced or not. Deleting a database compacts
//! what `LevelDB` holds in memory, which begins another log: what is written from then on stands in whole records.
//!
//! Absent: other engines, which keep `IndexedDB` in SQLite.

use super::{
    factory,
    request::{Asked, refused},
};
use crate::{
    clock::within,
    page::{global, promise},
    planted::Bug,
    poison,
    slot::Slot,
    store::StoreError,
};
use core::cell::Cell;
use js_sys::Promise;
use rejoin_core::time::Millis;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::IdbDatabase;

/// How often it is tried for a connection; it may be refused, or take long while another tab does the same.
const TRIES: u8 = 2;
/// How long each try is waited for.
const WITHIN: Millis = Millis(2_000);

/// The database that is created and deleted for the one stored as `stored`; none of ours is called so.
pub(super) fn name_for(stored: &str) -> String {
    format!("rejoin-log/{stored}")
}

/// The log that is begun for one connection where one is needed. Any number of writes may wait for it.
#[derive(Debug)]
pub(super) struct NewLog {
    /// Resolves with whether it is needed and was not begun; never fails.
    lacking: Promise,
    /// The same, once somebody has waited for it.
    known: Cell<Option<bool>>,
}

impl NewLog {
    /// Begins it, by deleting a database beside the one stored as `stored`.
    pub(super) fn begin(stored: &str) -> Self {
        if !is_needed() {
            let known = Cell::new(Some(false));
            return Self { lacking: Promise::resolve(&JsValue::FALSE), known };
        }
        let (lacking, resolve, _) = promise();
        let name = name_for(stored);
        poison::spawn(async move {
            let is_lacking = !create_and_delete_patiently(name).await;
            // A promise takes what it is given.
            drop(resolve.call1(&JsValue::UNDEFINED, &JsValue::from_bool(is_lacking)));
        });
        Self { lacking, known: Cell::new(None) }
    }

    /// Waits until it was begun, or was tried for long enough. `false`: no risk is known, as it was begun, or as
    /// nothing says that one is needed.
    pub(super) async fn is_lacking(&self) -> bool {
        if let Some(known) = self.known.get() {
            return known;
        }
        let lacking = JsFuture::from(self.lacking.clone()).await;
        let lacking = lacking.is_ok_and(|lacking| lacking.is_truthy());
        self.known.set(Some(lacking));
        lacking
    }
}

/// Known by the agent's name alone, which can be any.
fn is_needed() -> bool {
    let agent = global(&["navigator", "userAgent"]).and_then(|agent| agent.as_string());
    agent.is_some_and(|agent| agent.contains("Chrome/")) && !Bug::NoNewLog.is_planted()
}

async fn create_and_delete_patiently(name: String) -> bool {
    for _ in 0..TRIES {
        let done = Rc::new(Slot::default());
        let (told, name) = (Rc::clone(&done), name.clone());
        // To the end, also when nobody waits for it any more: what stays open is in the way of other tabs.
        poison::spawn(async move { told.fill(create_and_delete(&name).await.is_ok()) });
        if within(WITHIN, done.take()).await == Some(true) {
            return true;
        }
    }
    false
}

async fn create_and_delete(name: &str) -> Result<(), StoreError> {
    let request = factory()?.open(name).map_err(|thrown| refused(&thrown))?;
    let database = Asked::new(request.unchecked_into()).done().await?;
    database.unchecked_into::<IdbDatabase>().close();
    let request = factory()?.delete_database(name).map_err(|thrown| refused(&thrown))?;
    Asked::new(request.unchecked_into()).done().await.map(drop)
}
