//! Exports for the tests in a browser; never part of the package.

use crate::{entropy::random, store::idb::IdbStore};
use rejoin_core::testing::{
    contract::{self, StoreFactory},
    twin,
};
use wasm_bindgen::prelude::wasm_bindgen;

/// Databases of one test run.
struct Browser;

impl StoreFactory for Browser {
    type World = String;
    type Store = IdbStore;

    async fn fresh(&self) -> String {
        let name: [u8; 8] = random();
        format!("contract-{:016x}", u64::from_be_bytes(name))
    }

    #[expect(clippy::panic, reason = "a test cannot go on without its database")]
    async fn open(&self, world: &String) -> IdbStore {
        match IdbStore::open(world).await {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    async fn restart(&self, _world: &mut String) {}
}

/// Runs the contract of stores on IndexedDB.
///
/// # Panics
/// At the first violation.
#[wasm_bindgen]
pub async fn store_contract() {
    crate::poison::install();
    contract::store(&Browser).await;
}

/// What this build makes of the seeds below `seed_count`, as hexadecimal digits.
#[wasm_bindgen]
#[must_use]
pub fn twin_digest(seed_count: u32) -> String {
    twin::digest(u64::from(seed_count)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Breaks the instance.
///
/// # Panics
/// Always.
#[wasm_bindgen]
#[expect(clippy::panic, reason = "to see what a panic does")]
pub fn break_down() {
    crate::poison::install();
    panic!("broken on purpose");
}
