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
use crate::{clock::within, page::global, poison, slot::Slot, store::StoreError};
use rejoin_core::time::Millis;
use std::rc::Rc;
use wasm_bindgen::JsCast;
use web_sys::IdbDatabase;

/// How often it is tried for a connection; it may be refused, or take long while another tab does the same.
pub(super) const TRIES: u8 = 2;
/// How long it is waited for.
const WITHIN: Millis = Millis(2_000);

/// The database that is created and deleted for the one stored as `stored`; none of ours is called so.
pub(super) fn name_for(stored: &str) -> String {
    format!("rejoin-log/{stored}")
}

/// Whether a new log was begun, or none is needed. Deletes a database beside the one stored as `stored`, to the end, also
/// when nobody waits for it any more.
pub(super) async fn begin_anew(stored: &str) -> bool {
    let agent = global(&["navigator", "userAgent"]).and_then(|agent| agent.as_string());
    if !agent.is_some_and(|agent| agent.contains("Chrome/")) {
        return true;
    }
    let (name, done) = (name_for(stored), Rc::new(Slot::default()));
    let told = Rc::clone(&done);
    poison::spawn(async move { told.fill(create_and_delete(&name).await.is_ok()) });
    within(WITHIN, done.take()).await.unwrap_or(false)
}

async fn create_and_delete(name: &str) -> Result<(), StoreError> {
    let request = factory()?.open(name).map_err(|thrown| refused(&thrown))?;
    let database = Asked::new(request.unchecked_into()).done().await?;
    database.unchecked_into::<IdbDatabase>().close();
    let request = factory()?.delete_database(name).map_err(|thrown| refused(&thrown))?;
    Asked::new(request.unchecked_into()).done().await.map(drop)
}
