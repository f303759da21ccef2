//! Makes the browser begin a new log before anything is promised.
//!
//! Chromium keeps `IndexedDB` in `LevelDB`, and after a crash goes on with the log that it finds (`reuse_logs`). If the crash
//! tore the last record in it, as SIGKILL and a loss of power do, what is written behind that record is read until the
//! browser ends; but the next recovery takes it for damage and drops it, synced or not. Deleting a database compacts
//! what `LevelDB` holds in memory, which begins another log: what is written from then on stands in whole records.
//!
//! Absent: other engines, which keep `IndexedDB` in SQLite.

use super::request::{Asked, refused};
use crate::{clock::within, page::global, store::StoreError};
use rejoin_core::time::Millis;
use wasm_bindgen::JsCast;
use web_sys::{IdbDatabase, IdbFactory};

/// How long it may take; another tab may have the same database open for a moment.
const WITHIN: Millis = Millis(2_000);

/// Creates and deletes a database beside the one stored as `stored`; O(what `LevelDB` holds in
/// memory), 4 MiB at most.
///
/// # Errors
/// [`StoreError`] when the browser refuses: then the log stays, as it does when this takes too long.
pub(super) async fn begin_anew(factory: &IdbFactory, stored: &str) -> Result<(), StoreError> {
    let agent = global(&["navigator", "userAgent"]).and_then(|agent| agent.as_string());
    if !agent.is_some_and(|agent| agent.contains("Chrome/")) {
        return Ok(());
    }
    // No name of a database of ours begins so.
    let name = format!("rejoin-log/{stored}");
    let work = async {
        let request = factory.open(&name).map_err(|thrown| refused(&thrown))?;
        let database = Asked::new(request.unchecked_into()).done().await?;
        database.unchecked_into::<IdbDatabase>().close();
        let request = factory.delete_database(&name).map_err(|thrown| refused(&thrown))?;
        Asked::new(request.unchecked_into()).done().await
    };
    within(WITHIN, work).await.map_or(Ok(()), |done| done.map(drop))
}
