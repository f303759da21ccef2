//! The store in a SQLite file: the contract of its port, and what is its own: spaces, groups, the end,
//! the full disk, files that must not be opened.
#![expect(
    clippy::expect_used,
    reason = "functions that tests share end the test when its world cannot be made"
)]

use rejoin_core::{
    codec::{seal, unseal},
    id::SpaceId,
    io::{Batch, CommitOutcome, KeyRange, Keyspace},
    port::{Fault, FaultClass, Store},
    testing::{
        block_on,
        contract::{self, StoreFactory},
        rng::Rng,
    },
};
use rejoin_sqlite::{
    Extent, FORMAT, Rehearsal, SqliteDb, SqliteError, SqliteLock, SqliteOptions, SqliteSnapshot,
    SqliteStore, compact, copy,
};
use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("rejoin-sqlite-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("rejoin.db")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn open(path: &Path) -> SqliteDb {
    SqliteDb::open(path, &SqliteOptions::default()).expect("the file opens")
}

fn open_error(path: &Path) -> SqliteError {
    SqliteDb::open(path, &SqliteOptions::default()).expect_err("the file must not open")
}

fn rehearsing(path: &Path, rehearsal: Rehearsal) -> SqliteDb {
    let options = SqliteOptions { rehearsal, ..SqliteOptions::default() };
    SqliteDb::open(path, &options).expect("the file opens")
}

fn space(db: &SqliteDb, name: &str) -> SqliteStore {
    db.space(&SpaceId::parse(name).expect("a name"))
}

fn batch(key: &[u8], bytes: usize) -> Batch {
    let mut batch = Batch::default();
    batch.put(Keyspace::Log, key.to_vec(), vec![7; bytes]);
    batch.put(Keyspace::Meta, key.to_vec(), Vec::new());
    batch
}

fn commit(store: &SqliteStore, batch: Batch) -> Result<CommitOutcome, SqliteError> {
    block_on(store.commit(batch))
}

fn keys(store: &SqliteStore, keyspace: Keyspace) -> Vec<Vec<u8>> {
    let page = block_on(store.scan(keyspace, &KeyRange::default(), NonZeroU32::MAX));
    page.expect("a scan").rows.into_iter().map(|row| row.key).collect()
}

const APPLIED: Result<CommitOutcome, SqliteError> = Ok(CommitOutcome::Applied);

struct World {
    directory: Directory,
    db: Option<SqliteDb>,
}

struct InFiles;

impl StoreFactory for InFiles {
    type World = World;
    type Store = SqliteStore;

    async fn fresh(&self) -> World {
        let directory = Directory::new();
        let db = open(&directory.file());
        World { directory, db: Some(db) }
    }

    async fn open(&self, world: &World) -> SqliteStore {
        space(world.db.as_ref().expect("an open world"), "contract")
    }

    async fn restart(&self, world: &mut World) {
        if let Some(db) = world.db.take() {
            assert_eq!(db.close().await, Ok(()));
        }
        world.db = Some(open(&world.directory.file()));
    }
}

#[test]
fn sqlite_store_keeps_the_contract() {
    block_on(contract::store(&InFiles));
}

#[test]
fn spaces_share_a_file_and_no_keys() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let (left, right, idle) = (space(&db, "left"), space(&db, "right/nested"), space(&db, "idle"));
    assert_eq!(commit(&left, batch(b"key", 1)), APPLIED);
    assert!(keys(&right, Keyspace::Log).is_empty());
    let mut guarded = batch(b"key", 2);
    guarded.guard(Keyspace::Log, b"key".to_vec(), None);
    assert_eq!(commit(&right, guarded), APPLIED, "a guard saw another space");
    let mut delete = Batch::default();
    delete.delete(Keyspace::Log, b"key".to_vec());
    assert_eq!(commit(&left, delete), APPLIED);
    assert_eq!(keys(&right, Keyspace::Log), [b"key"]);
    let names = || -> Vec<String> {
        let spaces = block_on(db.spaces()).expect("spaces");
        spaces.iter().map(ToString::to_string).collect()
    };
    assert!(keys(&idle, Keyspace::Log).is_empty());
    assert_eq!(names(), ["left", "right/nested"]);
    let mut delete = Batch::default();
    delete.delete(Keyspace::Meta, b"key".to_vec());
    assert_eq!(commit(&left, delete), APPLIED);
    assert_eq!(names(), ["right/nested"], "a space without rows is listed");
    assert_eq!(block_on(db.integrity_check()), Ok(Vec::new()));
}

#[test]
fn rows_survive_the_drop_of_the_last_handle() {
    let directory = Directory::new();
    let store = space(&open(&directory.file()), "space");
    assert_eq!(commit(&store, batch(b"a", 10)), APPLIED);
    // polled once: it has reached the queue when its future goes, and may even be answered
    let _either_way = poll_once(&mut Box::pin(store.commit(batch(b"b", 10))));
    drop(store);
    let db = open(&directory.file());
    assert_eq!(keys(&space(&db, "space"), Keyspace::Meta), [b"a", b"b"]);
}

#[test]
fn close_commits_what_waits_and_refuses_what_comes() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let store = space(&db, "space");
    let mut waiting: Vec<_> =
        (0..50_u8).map(|n| Box::pin(store.commit(batch(&[n], 1_000)))).collect();
    // some may be answered at once
    waiting.retain_mut(|commit| match poll_once(commit) {
        Poll::Ready(outcome) => {
            assert_eq!(outcome, APPLIED);
            false
        }
        Poll::Pending => true,
    });
    assert_eq!(block_on(db.close()), Ok(()));
    for commit in waiting {
        assert_eq!(block_on(commit), APPLIED);
    }
    assert_eq!(commit(&store, batch(b"late", 1)), Err(SqliteError::Closed));
    assert_eq!(block_on(store.get(Keyspace::Log, b"late")), Err(SqliteError::Closed));
    assert_eq!(block_on(db.close()), Ok(()), "closing twice is an error");
    let wal = directory.0.join("rejoin.db-wal");
    assert_eq!(fs::metadata(wal).map_or(0, |wal| wal.len()), 0, "close left rows in the WAL");
    // the closed handles are still there
    let again = open(&directory.file());
    assert_eq!(keys(&space(&again, "space"), Keyspace::Log).len(), 50);
}

#[test]
fn s08_second_open_is_refused_until_the_first_ends() {
    let directory = Directory::new();
    let first = open(&directory.file());
    assert_eq!(open_error(&directory.file()), SqliteError::Locked);
    assert_eq!(open_error(&directory.0.join(".").join("rejoin.db")), SqliteError::Locked);
    #[cfg(unix)]
    {
        let link = directory.0.join("link.db");
        std::os::unix::fs::symlink(directory.file(), &link).expect("a link");
        assert_eq!(open_error(&link), SqliteError::Locked);
    }
    assert_eq!(block_on(first.close()), Ok(()));
    drop(open(&directory.file()));
}

#[test]
fn s11_newer_format_is_refused_and_not_touched() {
    let directory = Directory::new();
    drop(open(&directory.file()));
    let raw = rusqlite::Connection::open(directory.file()).expect("raw");
    raw.pragma_update(None, "user_version", FORMAT + 1).expect("raw");
    raw.close().expect("raw");
    let before = fs::read(directory.file()).expect("the file");
    let error = SqliteError::Newer { found: FORMAT + 1, known: FORMAT };
    assert_eq!(open_error(&directory.file()), error);
    assert_eq!(fs::read(directory.file()).expect("the file"), before);
}

#[test]
fn foreign_files_are_refused_and_not_touched() {
    let directory = Directory::new();
    let raw = rusqlite::Connection::open(directory.file()).expect("raw");
    raw.execute_batch("CREATE TABLE theirs (a)").expect("raw");
    raw.close().expect("raw");
    let before = fs::read(directory.file()).expect("the file");
    assert_eq!(open_error(&directory.file()), SqliteError::Foreign { application_id: 0 });
    assert_eq!(fs::read(directory.file()).expect("the file"), before);

    let text = directory.0.join("notes.txt");
    fs::write(&text, "not a database ".repeat(500)).expect("a file");
    assert_eq!(open_error(&text).class(), FaultClass::Corrupt);

    let missing = directory.0.join("missing").join("rejoin.db");
    assert_eq!(open_error(&missing).class(), FaultClass::Permanent);
}

#[test]
fn s09_damaged_pages_are_reported_as_corrupt() {
    let directory = Directory::new();
    let db = open(&directory.file());
    for n in 0..100_u8 {
        assert_eq!(commit(&space(&db, "space"), batch(&[n], 3_000)), APPLIED);
    }
    assert_eq!(block_on(db.close()), Ok(()));
    let mut bytes = fs::read(directory.file()).expect("the file");
    for byte in bytes.iter_mut().skip(12 * 4096) {
        *byte = 0xff;
    }
    fs::write(directory.file(), bytes).expect("the file");
    let db = open(&directory.file());
    let store = space(&db, "space");
    let scan = block_on(store.scan(Keyspace::Log, &KeyRange::default(), NonZeroU32::MAX));
    assert_eq!(scan.map_err(|error| error.class()), Err(FaultClass::Corrupt));
    let whole = block_on(db.integrity_check()).is_ok_and(|findings| findings.is_empty());
    assert!(!whole, "the check found nothing");
}

/// What is read of a file: its rows, each with what its seal keeps, unless that is broken; or a fault.
fn sealed_rows(path: &Path) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>, SqliteError> {
    let db = SqliteDb::open(path, &SqliteOptions::default())?;
    let range = KeyRange::default();
    let page = block_on(space(&db, "space").scan(Keyspace::Log, &range, NonZeroU32::MAX))?;
    let body = |value: &[u8]| unseal(1, value).ok().map(<[u8]>::to_vec);
    Ok(page.rows.into_iter().map(|row| (row.key, body(&row.value))).collect())
}

/// Every page, some bits of each: whatever is read is what was written, or says that it is not.
#[test]
fn s09_a_bit_that_flips_in_any_page_is_harmless_or_noticed() {
    const PAGE: usize = 4_096;
    let directory = Directory::new();
    let db = open(&directory.file());
    let store = space(&db, "space");
    let mut written = BTreeMap::new();
    for n in 0..60_u8 {
        // Who asks for a row has its key: it is in the body, so that a key that has changed is noticed.
        let (key, body) = (vec![b'k', n], [&[b'k', n][..], &[n; 400]].concat());
        let mut batch = Batch::default();
        batch.put(Keyspace::Log, key.clone(), seal(1, body.clone()));
        assert_eq!(commit(&store, batch), APPLIED);
        written.insert(key, Some(body));
    }
    assert_eq!(block_on(db.close()), Ok(()));
    let whole = fs::read(directory.file()).expect("the file");
    assert_eq!(sealed_rows(&directory.file()), Ok(written.clone()));
    let (mut dice, mut noticed) = (Rng::new(9), 0);
    for page in 0..whole.len() / PAGE {
        // Its head, where the cells stand, and their content.
        let places = [0..12, 12..64, 64..PAGE, 64..PAGE, 64..PAGE, PAGE - 512..PAGE];
        for place in places {
            let at = page * PAGE + place.start + dice.index(place.len());
            let mut damaged = whole.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
            let harmed = Directory::new();
            fs::write(harmed.file(), damaged).expect("the file");
            let read = sealed_rows(&harmed.file());
            if read.as_ref() == Ok(&written) {
                continue;
            }
            noticed += 1;
            let is_told = match &read {
                Err(_) => true,
                Ok(rows) => rows
                    .iter()
                    .any(|(key, body)| body.as_ref().is_none_or(|body| !body.starts_with(key))),
            };
            // Rows that are not there any more say nothing: the file does, to whoever checks it.
            let is_found = || {
                let db = open(&harmed.file());
                !block_on(db.integrity_check()).is_ok_and(|findings| findings.is_empty())
            };
            assert!(is_told || is_found(), "byte {at} of page {page}: {read:?}");
            let rows = read.unwrap_or_default();
            let wrong = |(key, body): &(&Vec<u8>, &Option<Vec<u8>>)| {
                body.as_ref().is_some_and(|body| body.starts_with(key))
                    && written.get(*key) != Some(*body)
            };
            assert_eq!(rows.iter().find(wrong), None, "byte {at} of page {page}");
        }
    }
    assert!(noticed > 10, "{noticed}");
}

/// Polls once with a waker that does nothing.
fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends `batches` while another program holds the write lock, so that all but the first of them
/// form one group, and returns what their callers were told.
fn commit_together(
    db: &SqliteDb,
    file: &Path,
    batches: Vec<Batch>,
) -> Vec<Result<CommitOutcome, SqliteError>> {
    let raw = rusqlite::Connection::open(file).expect("raw");
    raw.execute_batch("BEGIN IMMEDIATE").expect("raw");
    let stores: Vec<SqliteStore> = batches.iter().map(|_| space(db, "space")).collect();
    let mut commits: Vec<_> =
        stores.iter().zip(batches).map(|(store, batch)| Box::pin(store.commit(batch))).collect();
    for commit in &mut commits {
        assert!(poll_once(commit).is_pending(), "committed beside another writer");
    }
    raw.execute_batch("ROLLBACK").expect("raw");
    commits.into_iter().map(block_on).collect()
}

#[test]
fn waiting_batches_share_transactions_and_keep_their_own_outcomes() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let before = db.stats().transactions;
    let batches = (0..100_u8)
        .map(|n| {
            let mut batch = batch(&[n / 2], 100);
            batch.guard(Keyspace::Log, vec![n / 2], None);
            batch
        })
        .collect();
    let outcomes = commit_together(&db, &directory.file(), batches);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let expected = if n % 2 == 0 { CommitOutcome::Applied } else { CommitOutcome::Conflict };
        assert_eq!(outcome, Ok(expected), "batch {n} and its twin");
    }
    assert_eq!(keys(&space(&db, "space"), Keyspace::Log).len(), 50);
    assert_eq!(db.stats().applied, 50);
    // the writer took whatever was there first, and then all the rest
    let transactions = db.stats().transactions - before;
    assert!(transactions < 100, "every batch had a transaction of its own: {transactions}");
}

#[test]
fn s12_failing_batch_of_a_group_takes_no_other_with_it() {
    for position in 0..6_u8 {
        let directory = Directory::new();
        let rehearsal = Rehearsal { page_count_max: Some(100), ..Rehearsal::default() };
        let db = rehearsing(&directory.file(), rehearsal);
        let batches =
            (0..6).map(|n| batch(&[n], if n == position { 1 << 20 } else { 1_000 })).collect();
        let outcomes = commit_together(&db, &directory.file(), batches);
        for (n, outcome) in (0_u8..).zip(outcomes) {
            let outcome = outcome.map_err(|error| error.class());
            let expected =
                if n == position { Err(FaultClass::Full) } else { Ok(CommitOutcome::Applied) };
            assert_eq!(outcome, expected, "batch {n} with the failing one at {position}");
        }
        let expected: Vec<_> = (0..6).filter(|n| *n != position).map(|n| vec![n]).collect();
        for keyspace in [Keyspace::Log, Keyspace::Meta] {
            assert_eq!(keys(&space(&db, "space"), keyspace), expected);
        }
    }
}

#[test]
fn s06_full_disk_is_told_leaves_nothing_half_written_and_heals() {
    let directory = Directory::new();
    let rehearsal = Rehearsal { page_count_max: Some(100), ..Rehearsal::default() };
    let db = rehearsing(&directory.file(), rehearsal);
    let store = space(&db, "space");
    let mut stored = Vec::new();
    let error = loop {
        let key = u32::try_from(stored.len()).expect("few").to_be_bytes().to_vec();
        match commit(&store, batch(&key, 20_000)) {
            Ok(outcome) => assert_eq!(outcome, CommitOutcome::Applied),
            Err(error) => break error,
        }
        stored.push(key);
    };
    assert_eq!(error.class(), FaultClass::Full);
    assert!(stored.len() > 5, "full too early");
    for keyspace in [Keyspace::Log, Keyspace::Meta] {
        assert_eq!(keys(&store, keyspace), stored, "a failed commit left rows");
    }
    let mut delete = Batch::default();
    delete.delete(Keyspace::Log, stored.remove(0));
    assert_eq!(commit(&store, delete), APPLIED, "no room to make room");
    assert_eq!(commit(&store, batch(b"\xffnew", 15_000)), APPLIED, "it does not heal");
    assert_eq!(block_on(db.integrity_check()), Ok(Vec::new()));
}

#[test]
fn s07_foreign_writer_is_a_transient_fault() {
    let directory = Directory::new();
    let busy_timeout = Duration::from_millis(10);
    let options = SqliteOptions { busy_timeout, ..SqliteOptions::default() };
    let db = SqliteDb::open(directory.file(), &options).expect("the file opens");
    let store = space(&db, "space");
    let raw = rusqlite::Connection::open(directory.file()).expect("raw");
    raw.execute_batch("BEGIN IMMEDIATE").expect("raw");
    let refused = commit(&store, batch(b"a", 1)).map_err(|error| error.class());
    assert_eq!(refused, Err(FaultClass::Transient));
    assert_eq!(block_on(store.get(Keyspace::Log, b"a")), Ok(None));
    raw.execute_batch("ROLLBACK").expect("raw");
    assert_eq!(commit(&store, batch(b"a", 1)), APPLIED);
}

#[test]
fn s07_log_grows_under_a_foreign_reader_and_is_cut_back_after_it() {
    const MIB: usize = 1 << 20;
    let directory = Directory::new();
    let db = open(&directory.file());
    let store = space(&db, "space");
    let size = || db.wal_bytes().expect("its size") / MIB as u64;
    let fill = |from: u8, to: u8| {
        for at in from..to {
            let mut batch = Batch::default();
            batch.put(Keyspace::Log, vec![at % 8], vec![at; 4 * MIB]);
            assert_eq!(commit(&store, batch), APPLIED);
        }
    };
    fill(0, 10);
    assert!(size() < 30, "{} MiB: begun anew as it moves into the database", size());
    let raw = rusqlite::Connection::open(directory.file()).expect("raw");
    raw.execute_batch("BEGIN").expect("raw");
    let count = "SELECT count(*) FROM sqlite_schema";
    raw.query_row(count, [], |row| row.get::<_, i64>(0)).expect("raw");
    fill(10, 30);
    assert!(size() > 80, "{} MiB: all of it is kept for who reads", size());
    raw.execute_batch("COMMIT").expect("raw");
    fill(30, 36);
    assert!(size() <= 64, "{} MiB", size());
    assert_eq!(keys(&store, Keyspace::Log).len(), 8);
}

#[test]
fn s05_failed_sync_is_never_answered_with_applied_and_ends_all_commits() {
    let directory = Directory::new();
    let rehearsal = Rehearsal { sync_error_at: Some(3), ..Rehearsal::default() };
    let db = rehearsing(&directory.file(), rehearsal);
    let store = space(&db, "space");
    assert_eq!(commit(&store, batch(b"1", 1)), APPLIED);
    assert_eq!(commit(&store, batch(b"2", 1)), APPLIED);
    let batches = (0..4_u8).map(|n| batch(&[n], 1)).collect();
    let outcomes = commit_together(&db, &directory.file(), batches);
    let halted = SqliteError::Halted { code: rusqlite::ffi::SQLITE_IOERR_FSYNC };
    assert_eq!(outcomes, [Err(halted); 4]);
    assert_eq!(commit(&store, batch(b"4", 1)), Err(halted), "committed after it");
    assert_eq!(block_on(db.failed()), halted, "whoever watches the file is not told");
    assert_eq!(keys(&store, Keyspace::Log), [b"1", b"2"], "reads end with it");
    assert_eq!(block_on(db.close()), Err(halted));
    let db = open(&directory.file());
    assert_eq!(keys(&space(&db, "space"), Keyspace::Log), [b"1", b"2"]);
    assert_eq!(commit(&space(&db, "space"), batch(b"5", 1)), APPLIED);
}

#[test]
fn s13_panic_of_the_writer_is_an_error_and_leaves_no_caller_waiting() {
    let directory = Directory::new();
    let rehearsal = Rehearsal { panic_at: Some(2), ..Rehearsal::default() };
    let db = rehearsing(&directory.file(), rehearsal);
    assert_eq!(commit(&space(&db, "space"), batch(b"1", 1)), APPLIED);
    let batches = (0..4_u8).map(|n| batch(&[n], 1)).collect();
    let outcomes = commit_together(&db, &directory.file(), batches);
    assert_eq!(outcomes, [Err(SqliteError::Stopped); 4]);
    assert_eq!(block_on(db.close()), Err(SqliteError::Stopped));
    let db = open(&directory.file());
    assert_eq!(keys(&space(&db, "space"), Keyspace::Log), [b"1"]);
}

#[test]
fn s13_panic_of_a_reader_is_told_to_whoever_watches() {
    let directory = Directory::new();
    let rehearsal = Rehearsal { read_panic_at: Some(1), ..Rehearsal::default() };
    let db = rehearsing(&directory.file(), rehearsal);
    let store = space(&db, "space");
    let mut failed = Box::pin(db.failed());
    assert!(poll_once(&mut failed).is_pending());
    assert_eq!(commit(&store, batch(b"1", 1)), APPLIED);
    assert_eq!(block_on(store.get(Keyspace::Log, b"1")), Err(SqliteError::Stopped));
    assert_eq!(block_on(failed), SqliteError::Stopped);
    assert_eq!(block_on(db.close()), Err(SqliteError::Stopped));
    assert_eq!(keys(&space(&open(&directory.file()), "space"), Keyspace::Log), [b"1"]);
}

#[test]
fn an_orderly_end_is_no_failure() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let mut failed = Box::pin(db.failed());
    assert!(poll_once(&mut failed).is_pending());
    assert_eq!(block_on(db.close()), Ok(()));
    assert!(poll_once(&mut failed).is_pending());
}

#[test]
fn reads_go_on_beside_commits_and_see_what_was_answered() {
    let directory = Directory::new();
    let db = open(&directory.file());
    std::thread::scope(|scope| {
        for task in 0..8_u8 {
            let store = space(&db, "space");
            scope.spawn(move || {
                for n in 0..40_u8 {
                    assert_eq!(commit(&store, batch(&[task, n], 50)), APPLIED);
                    let value = block_on(store.get(Keyspace::Log, &[task, n]));
                    assert_eq!(value, Ok(Some(vec![7; 50])), "an answered commit is not seen");
                }
            });
        }
    });
    assert_eq!(keys(&space(&db, "space"), Keyspace::Log).len(), 320);
}

#[test]
fn s10_copy_of_a_file_that_is_written_is_one_state_of_it() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let store = space(&db, "space");
    assert_eq!(commit(&store, batch(b"a", 3_000)), APPLIED);
    let writing = std::thread::spawn(move || {
        // Each commit has both rows of a key, so each state has as many of the one as of the other.
        for at in 0_u32..2_000 {
            assert_eq!(commit(&store, batch(&at.to_be_bytes(), 3_000)), APPLIED);
        }
        drop(store);
    });
    let mut sizes = Vec::new();
    while !writing.is_finished() {
        let to = directory.0.join(format!("copy-{}", sizes.len()));
        copy(&directory.file(), &to, &SqliteOptions::default()).expect("a copy");
        let whole = SqliteSnapshot::open(&to, &SqliteOptions::default()).expect("it opens");
        assert_eq!(whole.integrity_check(), Ok(Vec::new()));
        let name = SpaceId::parse("space").expect("a name");
        let rows = |keyspace| whole.extent(&name, keyspace).expect("its size").rows;
        assert_eq!(rows(Keyspace::Log), rows(Keyspace::Meta), "a torn commit");
        sizes.push(rows(Keyspace::Log));
    }
    writing.join().expect("no panic");
    assert!(sizes.is_sorted() && sizes.first() < sizes.last(), "{sizes:?}: nothing was written");
    assert_eq!(block_on(db.close()), Ok(()));
}

#[test]
fn copy_overwrites_nothing_and_leaves_nothing_behind_that_failed() {
    let directory = Directory::new();
    let (file, to) = (directory.file(), directory.0.join("copy"));
    let options = SqliteOptions::default();
    assert!(copy(&file, &to, &options).is_err(), "nothing is there to be copied");
    assert!(!to.exists() && !file.exists());
    drop(open(&file));
    fs::write(&to, "mine").expect("a file");
    let refused = copy(&file, &to, &options);
    let kind = std::io::ErrorKind::AlreadyExists;
    assert_eq!(refused, Err(SqliteError::FileSystem { kind }));
    assert_eq!(fs::read(&to).expect("a file"), b"mine");
}

#[test]
fn parts_of_a_space_add_up_to_what_it_takes() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let (store, other) = (space(&db, "space"), space(&db, "other"));
    for at in 0_u32..10 {
        assert_eq!(commit(&store, batch(&at.to_be_bytes(), 3_000)), APPLIED);
        assert_eq!(commit(&other, batch(&at.to_be_bytes(), 3_000)), APPLIED);
    }
    let snapshot = SqliteSnapshot::open(directory.file(), &SqliteOptions::default());
    let whole = snapshot.expect("it opens").extent(store.space(), Keyspace::Log).expect("its size");
    for limit in [1, 3, 5, 10, 11] {
        let limit = NonZeroU32::new(limit).expect("a limit");
        let (mut rows, mut bytes, mut next) = (0, 0, Some(Vec::new()));
        while let Some(start) = next {
            let part = block_on(store.extent_behind(Keyspace::Log, &start, limit));
            let (extent, behind) = part.expect("its size");
            assert!(extent.rows <= u64::from(limit.get()));
            (rows, bytes) = (rows + extent.rows, bytes + extent.bytes);
            next = behind;
        }
        assert_eq!((rows, bytes), (whole.rows, whole.bytes));
    }
    let unknown = space(&db, "unknown");
    let nothing = block_on(unknown.extent_behind(Keyspace::Log, b"", NonZeroU32::MIN));
    assert_eq!(nothing.expect("its size"), (Extent::default(), None));
    assert_eq!(block_on(db.close()), Ok(()));
}

#[test]
fn snapshot_stays_as_it_was_while_others_write_and_keeps_nobody_from_closing() {
    let directory = Directory::new();
    let db = open(&directory.file());
    let store = space(&db, "space");
    assert_eq!(commit(&store, batch(b"a", 1)), APPLIED);
    let options = SqliteOptions { busy_timeout: Duration::ZERO, ..SqliteOptions::default() };
    let snapshot = SqliteSnapshot::open(directory.file(), &options).expect("it opens");
    let count = |snapshot: &SqliteSnapshot| {
        snapshot.extent(store.space(), Keyspace::Log).expect("its size").rows
    };
    assert_eq!(commit(&store, batch(b"b", 1)), APPLIED);
    assert_eq!(count(&snapshot), 1);
    assert_eq!(snapshot.spaces(), Ok(vec![store.space().clone()]));
    assert_eq!(block_on(db.close()), Ok(()), "it waits for who reads");
    assert_eq!(count(&snapshot), 1);
    drop(snapshot);
    let snapshot = SqliteSnapshot::open(directory.file(), &options).expect("it opens");
    assert_eq!(count(&snapshot), 2, "what was in the log is lost");
    drop(snapshot);
    assert_eq!(keys(&space(&open(&directory.file()), "space"), Keyspace::Log).len(), 2);
}

#[test]
fn snapshot_of_what_is_not_ours_is_refused_and_nothing_is_made() {
    let directory = Directory::new();
    let options = SqliteOptions::default();
    assert!(SqliteSnapshot::open(directory.file(), &options).is_err());
    assert!(!directory.file().exists());
    fs::write(directory.file(), "").expect("a file");
    let refused = SqliteSnapshot::open(directory.file(), &options).expect_err("it is empty");
    assert_eq!(refused, SqliteError::Foreign { application_id: 0 });
}

#[test]
fn compacting_gives_room_back_and_keeps_every_row() {
    let directory = Directory::new();
    let options = SqliteOptions { busy_timeout: Duration::ZERO, ..SqliteOptions::default() };
    let db = open(&directory.file());
    let store = space(&db, "space");
    for at in 0..50 {
        assert_eq!(commit(&store, batch(&[at], 100_000)), APPLIED);
    }
    let mut delete = Batch::default();
    for at in 1..50 {
        delete.delete(Keyspace::Log, vec![at]);
    }
    assert_eq!(commit(&store, delete), APPLIED);
    assert_eq!(compact(&directory.file(), &options), Err(SqliteError::Locked));
    assert_eq!(block_on(db.close()), Ok(()));

    let lock = SqliteLock::take(directory.file()).expect("nobody has it");
    assert_eq!(open_error(&directory.file()), SqliteError::Locked);
    drop(lock);

    let (before, after) = compact(&directory.file(), &options).expect("it is compacted");
    assert!(before > 4_000_000 && after < 300_000, "{before} -> {after}");
    assert_eq!(fs::metadata(directory.file()).expect("a file").len(), after);
    let db = open(&directory.file());
    assert_eq!(keys(&space(&db, "space"), Keyspace::Log), [[0]]);
    assert_eq!(keys(&space(&db, "space"), Keyspace::Meta).len(), 50);
    assert_eq!(block_on(db.integrity_check()), Ok(Vec::new()));
    assert_eq!(commit(&space(&db, "space"), batch(b"new", 1)), APPLIED);
}

#[test]
fn compacting_is_refused_while_another_program_reads_an_earlier_state() {
    let directory = Directory::new();
    let options = SqliteOptions { busy_timeout: Duration::ZERO, ..SqliteOptions::default() };
    let db = open(&directory.file());
    let store = space(&db, "space");
    assert_eq!(commit(&store, batch(b"a", 1)), APPLIED);
    let reader = SqliteSnapshot::open(directory.file(), &options).expect("it opens");
    assert_eq!(commit(&store, batch(b"b", 1)), APPLIED);
    assert_eq!(block_on(db.close()), Ok(()));
    let refused = compact(&directory.file(), &options).expect_err("somebody reads");
    assert_eq!(refused.class(), FaultClass::Transient, "{refused}");
    drop(reader);
    compact(&directory.file(), &options).expect("nobody reads");
    assert_eq!(keys(&space(&open(&directory.file()), "space"), Keyspace::Log).len(), 2);
}
