//! What every implementation of a port passes.
//!
//! [`store`] runs the contract of [`Store`] on worlds of the implementation's own making. It panics
//! at the first violation; it is test code.

#![expect(
    clippy::panic,
    reason = "a violated contract ends the test; the message of each check says which clause it was"
)]

mod one_handle;
mod worlds;

use crate::{
    io::{Batch, CommitOutcome, KeyRange, Keyspace, Page, Row},
    port::Store,
};
use alloc::vec::Vec;
use core::{fmt::Debug, future::Future, num::NonZeroU32};

/// Makes worlds for [`store`]; a world is where the rows of one store live (a file, a database).
pub trait StoreFactory {
    /// Owns the rows; dropping it may erase them.
    type World;
    /// The implementation under test.
    type Store: Store;

    /// A new world without rows, which shares nothing with another one.
    fn fresh(&self) -> impl Future<Output = Self::World>;

    /// Another handle on the rows of `world`. Handles given earlier stay good until [`Self::restart`].
    fn open(&self, world: &Self::World) -> impl Future<Output = Self::Store>;

    /// Ends, in order, everything that holds data of `world` in memory, as the end of the process
    /// would. No handle on it is alive when this is called.
    fn restart(&self, world: &mut Self::World) -> impl Future<Output = ()>;
}

/// Runs the whole contract of [`Store`]; stores some 5 MiB in 100,000 rows on the way.
///
/// # Panics
/// At the first violation, with a message that names it.
pub async fn store<F: StoreFactory>(factory: &F) {
    one_handle::absent_reads_as_none(&opened(factory).await.store).await;
    one_handle::keyspaces_do_not_share_keys(&opened(factory).await.store).await;
    one_handle::empty_value_is_not_absent(&opened(factory).await.store).await;
    one_handle::scan_is_ascending_and_half_open(&opened(factory).await.store).await;
    one_handle::full_page_is_not_cut_short(&opened(factory).await.store).await;
    one_handle::scan_ends_with_the_row_that_reaches_its_bytes(&opened(factory).await.store).await;
    one_handle::read_answers_in_order(&opened(factory).await.store).await;
    one_handle::failed_guard_leaves_everything_untouched(&opened(factory).await.store).await;
    one_handle::guards_compare_exact_bytes(&opened(factory).await.store).await;
    one_handle::later_write_wins_within_a_batch(&opened(factory).await.store).await;
    one_handle::batch_without_writes_is_legal(&opened(factory).await.store).await;
    one_handle::relaxed_batch_is_visible_and_guarded(&opened(factory).await.store).await;
    worlds::two_handles_conflict(factory).await;
    worlds::increments_of_two_handles_add_up(factory).await;
    worlds::read_is_one_snapshot(factory).await;
    worlds::dropped_commit_is_whole_or_absent(factory).await;
    worlds::fault_leaves_old_or_new_state(opened(factory).await).await;
    worlds::large_rows_survive_restart(factory).await;
    one_handle::paging_equals_one_big_scan(&opened(factory).await.store).await;
}

/// A handle on a fresh world, which lives as long as the handle.
struct Opened<F: StoreFactory> {
    store: F::Store,
    _world: F::World,
}

async fn opened<F: StoreFactory>(factory: &F) -> Opened<F> {
    let world = factory.fresh().await;
    Opened { store: factory.open(&world).await, _world: world }
}

const META: Keyspace = Keyspace::Meta;
const LOG: Keyspace = Keyspace::Log;

fn row(key: &[u8], value: &[u8]) -> Row {
    Row { key: key.to_vec(), value: value.to_vec() }
}

fn ok<T, E: Debug>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: the store failed: {error:?}"),
    }
}

fn same(found: &[Row], expected: &[Row], what: &str) {
    assert_eq!(found, expected, "{what}");
}

async fn get(store: &impl Store, keyspace: Keyspace, key: &[u8]) -> Option<Vec<u8>> {
    ok(store.get(keyspace, key).await, "get")
}

async fn scan(store: &impl Store, keyspace: Keyspace, range: &KeyRange, limit: u32) -> Page {
    let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    ok(store.scan(keyspace, range, limit).await, "scan")
}

async fn all(store: &impl Store, keyspace: Keyspace) -> Vec<Row> {
    let page = scan(store, keyspace, &KeyRange::default(), u32::MAX).await;
    assert!(!page.more, "a scan without limit was cut short");
    page.rows
}

async fn everything(store: &impl Store) -> Vec<Vec<Row>> {
    let mut rows = Vec::new();
    for keyspace in Keyspace::ALL {
        rows.push(all(store, keyspace).await);
    }
    rows
}

async fn put(store: &impl Store, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(META, key.to_vec(), value.to_vec());
    applied(store, batch, "a put").await;
}

async fn applied(store: &impl Store, batch: Batch, what: &str) {
    let outcome = ok(store.commit(batch).await, what);
    assert_eq!(outcome, CommitOutcome::Applied, "{what}");
}

async fn conflict(store: &impl Store, batch: Batch, what: &str) {
    let outcome = ok(store.commit(batch).await, what);
    assert_eq!(outcome, CommitOutcome::Conflict, "{what}");
}
