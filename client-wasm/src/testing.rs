//! Exports for the tests in a browser; never part of the package.

use crate::{entropy::random, store::idb::IdbStore};
use core::{cell::Cell, future::poll_fn, pin::pin, task::Poll};
use rejoin_core::{
    io::{Batch, Keyspace, Write},
    port::Store,
    testing::{
        contract::{self, StoreFactory},
        sim, twin,
    },
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

/// What comes of a commit that waits for its log while the store is closed: `applied`, or the name of the fault.
///
/// # Panics
/// If it does not wait.
#[wasm_bindgen]
pub async fn commit_into_a_close(name: String) -> String {
    let store = Browser.open(&name).await;
    let write = Write::Delete { keyspace: Keyspace::Meta, key: Vec::new() };
    let batch = Batch { writes: vec![write], ..Batch::default() };
    let mut commit = pin!(store.commit(batch));
    poll_fn(|context| {
        assert!(commit.as_mut().poll(context).is_pending(), "a commit waits for its log");
        Poll::Ready(())
    })
    .await;
    store.close();
    commit.await.map_or_else(|fault| fault.name, |_outcome| "applied".to_owned())
}

/// What this build makes of the seeds below `seed_count`, as hexadecimal digits.
#[wasm_bindgen]
#[must_use]
pub fn twin_digest(seed_count: u32) -> String {
    twin::digest(u64::from(seed_count)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What happens in this build in the simulated world of a seed, as hexadecimal digits.
#[wasm_bindgen]
#[must_use]
pub fn sim_trace(seed: u32) -> String {
    sim::trace(u64::from(seed))
}

/// Ends in a trap that is no panic: `stack`, `memory` or `access`.
///
/// # Panics
/// Never: a trap runs no hook.
#[wasm_bindgen]
pub fn trap(kind: &str) {
    match kind {
        "stack" => {
            core::hint::black_box(deeper(1));
        }
        // All that this module can address.
        "memory" => loop {
            core::mem::forget(core::hint::black_box(Vec::<u8>::with_capacity(0x4000_0000)));
        },
        _ => core::arch::wasm32::unreachable(),
    }
}

/// The same within a task, where no caller sees it.
#[wasm_bindgen]
pub fn trap_in_task(kind: String) {
    crate::poison::spawn(async move { trap(&kind) });
}

thread_local! {
    /// How many waypoints are passed before the instance breaks at one, and how.
    static BREAK: Cell<Option<(u32, String)>> = const { Cell::new(None) };
}

/// Breaks the instance at a waypoint, once `passes` of them were passed: by a `panic`, or as [`trap`] does.
#[wasm_bindgen]
pub fn break_behind(passes: u32, kind: String) {
    BREAK.set(Some((passes, kind)));
}

/// Control passes a waypoint.
pub(crate) fn pass() {
    let Some((passes, kind)) = BREAK.take() else { return };
    match passes.checked_sub(1) {
        Some(passes) => BREAK.set(Some((passes, kind))),
        None if kind == "panic" => break_down(),
        None => trap(&kind),
    }
}

#[expect(unconditional_recursion, reason = "it is to exhaust the stack")]
fn deeper(depth: u64) -> u64 {
    core::hint::black_box(deeper(core::hint::black_box(depth + 1))) + depth
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
