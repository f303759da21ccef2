//! Commits per second of guarded batches, by 1, 10 and 100 concurrent callers: through `SqliteStore`,
//! and through one `rusqlite` connection behind a mutex that stores the same rows with the same
//! durability (WAL, `synchronous=FULL`).
//!
//! `cargo run --release -p rejoin-sqlite --example commit_rate [DIRECTORY]` prints one JSON object a
//! line. Both take turns, three rounds of each, so that a disk that slows down slows both. The
//! directory must be on the disk that is to be measured; the default is the one for temporary files.
#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use rejoin_core::{
    id::SpaceId,
    io::{Batch, CommitOutcome, Keyspace},
    port::Store,
    testing::block_on,
};
use rejoin_sqlite::{SqliteDb, SqliteOptions};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const ROUNDS: u32 = 3;
const ROW_BYTES: usize = 200;

fn main() -> Outcome {
    let root = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = root.join(format!("rejoin-commit-rate-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let result = measure(&directory);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn measure(directory: &Path) -> Outcome {
    let db = SqliteDb::open(directory.join("store.db"), &SqliteOptions::default())?;
    let raw = Mutex::new(open_raw(&directory.join("raw.db"))?);
    let mut round = 0;
    for callers in [1_u32, 10, 100] {
        let each = (1_000 / callers).max(50);
        for _ in 0..ROUNDS {
            round += 1;
            let before = db.stats().transactions;
            time("sqlite_store", callers, each, round, |caller, n| store(&db, round, caller, n))?;
            println!(
                r#"{{"what":"sqlite_store","callers":{callers},"round":{round},"commits_per_sync":{:.1}}}"#,
                f64::from(callers * each)
                    / f64::from(u32::try_from(db.stats().transactions - before)?),
            );
            time("raw_rusqlite", callers, each, round, |caller, n| {
                let mut raw = raw.lock().unwrap_or_else(PoisonError::into_inner);
                store_raw(&mut raw, round, caller, n)
            })?;
        }
    }
    block_on(db.close())?;
    Ok(())
}

/// Runs `commit(caller, n)` for `each` n by every one of `callers`.
fn time(
    what: &str,
    callers: u32,
    each: u32,
    round: u32,
    commit: impl Fn(u32, u32) -> Outcome + Sync,
) -> Outcome {
    let begin = Instant::now();
    thread::scope(|scope| {
        let commit = &commit;
        let threads: Vec<_> = (0..callers)
            .map(|caller| scope.spawn(move || (0..each).try_for_each(|n| commit(caller, n))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err("a caller panicked".into()))
        })
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        r#"{{"what":"{what}","callers":{callers},"round":{round},"commits":{},"seconds":{seconds:.4},"commits_per_second":{:.0}}}"#,
        callers * each,
        f64::from(callers * each) / seconds,
    );
    Ok(())
}

/// Two keyspaces, as a change of a record and its entry in the feed.
fn key(round: u32, caller: u32, n: u32) -> Vec<u8> {
    [round, caller, n].map(u32::to_be_bytes).concat()
}

fn store(db: &SqliteDb, round: u32, caller: u32, n: u32) -> Outcome {
    let space = SpaceId::parse(&format!("callers/{caller}"))?;
    let key = key(round, caller, n);
    let mut batch = Batch::default();
    batch.guard(Keyspace::Records, key.clone(), None);
    batch.put(Keyspace::Feed, key.clone(), caller.to_be_bytes().to_vec());
    batch.put(Keyspace::Records, key, vec![7; ROW_BYTES]);
    match block_on(db.space(&space).commit(batch))? {
        CommitOutcome::Applied => Ok(()),
        CommitOutcome::Conflict => Err("a guard on an absent key did not hold".into()),
    }
}

fn open_raw(path: &Path) -> rusqlite::Result<Connection> {
    let raw = Connection::open(path)?;
    raw.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    raw.pragma_update(None, "synchronous", "FULL")?;
    for table in ["records", "feed"] {
        raw.execute_batch(&format!(
            "CREATE TABLE {table} (space INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, \
             PRIMARY KEY (space, key)) STRICT, WITHOUT ROWID"
        ))?;
    }
    Ok(raw)
}

fn store_raw(raw: &mut Connection, round: u32, caller: u32, n: u32) -> Outcome {
    let key = key(round, caller, n);
    let transaction = raw.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seen: Option<Vec<u8>> = transaction
        .prepare_cached("SELECT value FROM records WHERE space = ?1 AND key = ?2")?
        .query_row(params![caller, key], |row| row.get(0))
        .optional()?;
    if seen.is_some() {
        return Err("a guard on an absent key did not hold".into());
    }
    transaction
        .prepare_cached("INSERT INTO feed (space, key, value) VALUES (?1, ?2, ?3)")?
        .execute(params![caller, key, caller.to_be_bytes()])?;
    transaction
        .prepare_cached("INSERT INTO records (space, key, value) VALUES (?1, ?2, ?3)")?
        .execute(params![caller, key, vec![7_u8; ROW_BYTES]])?;
    Ok(transaction.commit()?)
}
