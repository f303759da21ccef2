//! What takes two handles, two tasks, a fault or a restart to show.

use super::{
    LOG, META, Opened, StoreFactory, all, applied, conflict, everything, get, ok, put, row, same,
};
use crate::{
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Query},
    port::{Fault, FaultClass, Store},
    testing::{
        executor::{abandon_after, join, yield_now},
        fault::{Aftermath, Call, FaultyStore, Lasting, Plan},
    },
};
use alloc::{format, vec, vec::Vec};
use core::num::NonZeroU32;

pub(super) async fn two_handles_conflict<F: StoreFactory>(factory: &F) {
    let world = factory.fresh().await;
    let (first, second) = (factory.open(&world).await, factory.open(&world).await);
    let add = |value: &[u8]| {
        let mut batch = Batch::default();
        batch.guard(LOG, b"next".to_vec(), None);
        batch.put(LOG, b"next".to_vec(), value.to_vec());
        batch.put(LOG, value.to_vec(), Vec::new());
        batch
    };
    applied(&first, add(b"first"), "the first of two handles fails to commit").await;
    conflict(&second, add(b"second"), "a handle does not see what the other one committed").await;
    let expected = [row(b"first", b""), row(b"next", b"first")];
    for store in [&first, &second] {
        same(&all(store, LOG).await, &expected, "two handles see different rows");
    }
    for round in 0..20_u8 {
        let race = |value: &[u8]| {
            let mut batch = Batch::default();
            batch.guard(META, vec![round], None);
            batch.put(META, vec![round], value.to_vec());
            batch
        };
        let (left, right) = join(first.commit(race(b"1")), second.commit(race(b"2"))).await;
        let left = ok(left, "left of two racing commits") == CommitOutcome::Applied;
        let right = ok(right, "right of two racing commits") == CommitOutcome::Applied;
        assert!(left != right, "of two racing commits both or none applied");
        let winner = if left { b"1" } else { b"2" };
        assert_eq!(get(&first, META, &[round]).await.as_deref(), Some(&winner[..]), "wrong winner");
    }
}

pub(super) async fn increments_of_two_handles_add_up<F: StoreFactory>(factory: &F) {
    const EACH: u32 = 25;
    async fn increments(store: &impl Store) {
        for _ in 0..EACH {
            let mut outcome = CommitOutcome::Conflict;
            while outcome == CommitOutcome::Conflict {
                let seen = get(store, META, b"count").await;
                yield_now().await;
                let next = count(seen.as_deref()) + 1;
                let mut batch = Batch::default();
                batch.guard(META, b"count".to_vec(), seen);
                batch.put(META, b"count".to_vec(), next.to_be_bytes().to_vec());
                outcome = ok(store.commit(batch).await, "an increment");
            }
        }
    }
    fn count(bytes: Option<&[u8]>) -> u32 {
        bytes.unwrap_or_default().iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
    }
    let world = factory.fresh().await;
    let (first, second) = (factory.open(&world).await, factory.open(&world).await);
    join(increments(&first), increments(&second)).await;
    let total = count(get(&first, META, b"count").await.as_deref());
    assert_eq!(total, 2 * EACH, "an increment was lost between two handles");
}

pub(super) async fn read_is_one_snapshot<F: StoreFactory>(factory: &F) {
    const ROUNDS: u32 = 60;
    async fn writes(store: &impl Store) {
        for round in 0..ROUNDS {
            let mut batch = Batch::default();
            for key in [b"a", b"b", b"c"] {
                batch.put(META, key.to_vec(), round.to_be_bytes().to_vec());
            }
            batch.put(LOG, b"d".to_vec(), round.to_be_bytes().to_vec());
            applied(store, batch, "a put of four rows").await;
            // a store whose futures are ready at once must not be done before the reader starts
            yield_now().await;
        }
    }
    async fn reads(store: &impl Store) {
        let queries = [
            Query::Get { keyspace: META, key: b"a".to_vec() },
            Query::scan(META, KeyRange::default(), NonZeroU32::MAX),
            Query::Get { keyspace: LOG, key: b"d".to_vec() },
        ];
        for _ in 0..ROUNDS {
            let answers = ok(store.read(&queries).await, "read beside commits");
            let mut values: Vec<Option<Vec<u8>>> = Vec::new();
            for answer in answers {
                match answer {
                    Answer::Value(value) => values.push(value),
                    Answer::Page(page) => {
                        values.extend(page.rows.into_iter().map(|row| Some(row.value)));
                    }
                }
            }
            values.dedup();
            assert_eq!(values.len(), 1, "`read` saw half of a batch: {values:?}");
        }
    }
    let world = factory.fresh().await;
    let (first, second) = (factory.open(&world).await, factory.open(&world).await);
    let mut batch = Batch::default();
    for key in [b"a", b"b", b"c"] {
        batch.put(META, key.to_vec(), vec![0; 4]);
    }
    batch.put(LOG, b"d".to_vec(), vec![0; 4]);
    applied(&first, batch, "a put of four rows").await;
    join(writes(&first), reads(&second)).await;
}

/// The session that waits for a commit can end at any await; its batch must not end half-way.
pub(super) async fn dropped_commit_is_whole_or_absent<F: StoreFactory>(factory: &F) {
    const ROWS: usize = 30;
    for polls in (0..12).chain([20, 40, 80]) {
        let world = factory.fresh().await;
        let store = factory.open(&world).await;
        let mut batch = Batch::default();
        batch.guard(META, b"barrier".to_vec(), None);
        for number in 0..ROWS {
            batch.put(LOG, format!("{number:03}").into_bytes(), Vec::new());
        }
        let outcome = abandon_after(store.commit(batch), polls).await;
        // a commit of the same handle, sent later, ends later
        put(&store, b"barrier", b"").await;
        let rows = all(&store, LOG).await.len();
        let legal = rows == ROWS || (rows == 0 && outcome.is_none());
        assert!(legal, "a commit dropped after {polls} polls left {rows} of {ROWS} rows");
    }
}

pub(super) async fn fault_leaves_old_or_new_state<F: StoreFactory>(opened: Opened<F>) {
    let Opened { store, _world } = opened;
    let faulty = FaultyStore::new(store);
    for (round, aftermath) in (0_u8..8).zip([Aftermath::Old, Aftermath::New].into_iter().cycle()) {
        let mut batch = Batch::default();
        for keyspace in Keyspace::ALL {
            batch.put(keyspace, b"key".to_vec(), vec![round]);
        }
        let before = everything(faulty.inner()).await;
        faulty.arm(Plan { aftermath, ..Plan::next_commit(FaultClass::Transient) });
        let class = faulty.commit(batch).await.err().map(|error| error.class());
        assert_eq!(class, Some(FaultClass::Transient), "a planned fault did not strike");
        let expected = match aftermath {
            Aftermath::New => Keyspace::ALL.map(|_| vec![row(b"key", &[round])]).to_vec(),
            Aftermath::Old | Aftermath::Either => before,
        };
        assert_eq!(everything(&faulty).await, expected, "a fault left a mixture");
    }
    faulty.arm(Plan { lasting: Lasting::Forever, ..Plan::next_read(FaultClass::Corrupt) });
    let read = faulty.get(META, b"key").await.err().map(|error| error.class());
    assert_eq!(read, Some(FaultClass::Corrupt), "a planned fault did not strike");
    faulty.disarm();
    assert_eq!(faulty.calls(Call::Commit), 8, "calls are miscounted");
}

pub(super) async fn large_rows_survive_restart<F: StoreFactory>(factory: &F) {
    let mut world = factory.fresh().await;
    let large: Vec<u8> =
        (0..1_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let long_key = vec![0xab; 1024];
    {
        let store = factory.open(&world).await;
        let mut batch = Batch::default();
        for keyspace in Keyspace::ALL {
            batch.put(keyspace, b"a".to_vec(), large.clone());
            batch.put(keyspace, long_key.clone(), b"under a long key".to_vec());
        }
        applied(&store, batch, "values of 1 MiB").await;
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        batch.guard(META, b"a".to_vec(), Some(large.clone()));
        batch.put(META, b"relaxed".to_vec(), b"kept by an orderly end".to_vec());
        batch.delete(META, long_key.clone());
        applied(&store, batch, "a guard of 1 MiB").await;
    }
    factory.restart(&mut world).await;
    let store = factory.open(&world).await;
    for keyspace in Keyspace::ALL {
        let value = get(&store, keyspace, b"a").await;
        assert!(value.as_ref() == Some(&large), "1 MiB did not survive the restart whole");
        let expected = (keyspace != META).then(|| b"under a long key".to_vec());
        assert_eq!(get(&store, keyspace, &long_key).await, expected, "a restart changed rows");
    }
    let relaxed = get(&store, META, b"relaxed").await;
    assert!(relaxed.is_some(), "an orderly restart lost a relaxed commit");
}
