//! The open file: its threads, its handles, its end.

use crate::{
    SqliteError, SqliteOptions, file,
    queue::Queue,
    rows::{self, Space, SpaceRows},
    snapshot::{self, Extent},
    whole,
    writer::{Commit, Rehearsal, Tally, Writer},
};
use futures_channel::oneshot;
use rejoin_core::{
    id::SpaceId,
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query},
    port::{Fault, FaultClass, Store},
};
use rusqlite::Connection;
use std::{
    fmt,
    fs::File,
    future::poll_fn,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering},
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Reads that wait, and batches that wait: callers beyond them wait for room.
const QUEUE_ITEMS_MAX: usize = 1_024;
/// Bytes of the batches that wait.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long the end waits for somebody who reads.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// What an open file has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SqliteStats {
    /// Write transactions begun. Each syncs the file at most once.
    pub transactions: u64,
    /// Batches applied.
    pub applied: u64,
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Who waits for the end, or how it went.
enum Ending {
    Awaited(Vec<oneshot::Sender<Result<(), SqliteError>>>),
    Over(Result<(), SqliteError>),
}

/// One open file. A clone is another handle on it.
///
/// When the last handle, [`SqliteStore`]s included, is dropped without [`Self::close`], the drop
/// blocks until what waits is committed and the file is closed.
#[derive(Clone)]
pub struct SqliteDb {
    inner: Arc<Inner>,
}

struct Inner {
    commits: Arc<Queue<Commit>>,
    reads: Arc<Queue<ReadJob>>,
    ending: Arc<Mutex<Ending>>,
    tally: Arc<Tally>,
    writer: Option<JoinHandle<()>>,
    /// Where the write-ahead log is.
    wal: PathBuf,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        if let Some(writer) = self.writer.take() {
            // the thread catches its panics and reports them in `ending`
            writer.join().ok();
        }
    }
}

impl Inner {
    fn stop(&self) {
        self.commits.close(SqliteError::Closed);
        self.reads.close(SqliteError::Closed);
    }
}

impl fmt::Debug for SqliteDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteDb").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl SqliteDb {
    /// Opens the file at `path`, or creates it; its directory must exist. Blocks for the file system,
    /// and for the recovery of the WAL of a process that died.
    ///
    /// Beside the file there are `-wal` and `-shm` (of SQLite) and `-lock`, which stays.
    ///
    /// # Errors
    /// [`SqliteError::Locked`] while another handle has it open; `Newer`, `Foreign`, `Library` and
    /// `Setting` when it must not be used; the fault of SQLite or the file system otherwise. A file
    /// that is not ours was not changed.
    pub fn open(path: impl AsRef<Path>, options: &SqliteOptions) -> Result<Self, SqliteError> {
        file::check_library()?;
        let path = file::resolve(path.as_ref())?;
        let lock = Arc::new(file::lock(&path)?);
        let connection = file::open_writer(&path, options)?;
        let reads = Arc::new(Queue::new(QUEUE_ITEMS_MAX, usize::MAX));
        let inner = Inner {
            commits: Arc::new(Queue::new(QUEUE_ITEMS_MAX, QUEUE_BYTES_MAX)),
            reads,
            ending: Arc::new(Mutex::new(Ending::Awaited(Vec::new()))),
            tally: Arc::default(),
            writer: None,
            wal: whole::parts(&path).into_iter().nth(1).unwrap_or_default(),
        };
        let connections = (0..options.readers.get())
            .map(|_| file::open_reader(&path, options))
            .collect::<Result<Vec<_>, _>>()?;
        Self::start(inner, connection, connections, lock, options.rehearsal)
    }

    /// Starts the threads. If one cannot start, dropping `inner` ends those that did.
    fn start(
        mut inner: Inner,
        connection: Connection,
        connections: Vec<Connection>,
        lock: Arc<File>,
        rehearsal: Rehearsal,
    ) -> Result<Self, SqliteError> {
        let mut readers = Vec::new();
        for connection in connections {
            let (reads, lock) = (Arc::clone(&inner.reads), Arc::clone(&lock));
            let body = move || serve_reads(connection, &reads, lock, rehearsal);
            match thread::Builder::new().name("rejoin-read".into()).spawn(body) {
                Ok(reader) => readers.push(reader),
                Err(error) => {
                    inner.stop();
                    return Err(error.into());
                }
            }
        }
        let writer = Writer {
            connection,
            queue: Arc::clone(&inner.commits),
            tally: Arc::clone(&inner.tally),
            rehearsal,
        };
        let (reads, ending) = (Arc::clone(&inner.reads), Arc::clone(&inner.ending));
        let body = move || {
            let result = serve_commits(writer, &reads, readers);
            drop(lock);
            end(&ending, result);
        };
        inner.writer = Some(thread::Builder::new().name("rejoin-write".into()).spawn(body)?);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A handle on the rows of one space; no IO.
    #[must_use]
    pub fn space(&self, space: &SpaceId) -> SqliteStore {
        let space = Space { name: space.clone(), number: OnceLock::new() };
        SqliteStore { db: self.clone(), space: Arc::new(space) }
    }

    /// The spaces that have rows, in order; O(spaces).
    ///
    /// # Errors
    /// The fault of the database; a name that is none means a damaged file.
    pub async fn spaces(&self) -> Result<Vec<SpaceId>, SqliteError> {
        self.read(rows::spaces).await
    }

    /// Checks the structure of the whole file and returns what is wrong with it, at most 100 findings;
    /// none means that it is whole. O(bytes); occupies one reader.
    ///
    /// # Errors
    /// The fault that ended the check.
    pub async fn integrity_check(&self) -> Result<Vec<String>, SqliteError> {
        self.read(snapshot::integrity_check).await
    }

    /// Refuses new calls, commits and answers what waits, moves the WAL into the file, unless another process
    /// reads an earlier state of it, and releases the file. It can be opened again once this resolves. Closing twice is no error. A dropped call
    /// closes all the same.
    ///
    /// # Errors
    /// [`SqliteError::Halted`] or [`SqliteError::Stopped`] if that had happened before, or the fault
    /// of the checkpoint. The file is closed then too, and nothing that was applied is lost.
    pub async fn close(&self) -> Result<(), SqliteError> {
        let (reply, answer) = oneshot::channel();
        match &mut *self.inner.ending.lock().unwrap_or_else(PoisonError::into_inner) {
            Ending::Over(result) => return *result,
            Ending::Awaited(waiting) => waiting.push(reply),
        }
        self.inner.stop();
        answer.await.unwrap_or(Err(SqliteError::Stopped))
    }

    /// Resolves once this handle has become useless by a fault: a write or sync failed
    /// ([`SqliteError::Halted`]) or a thread panicked ([`SqliteError::Stopped`]). It stays pending
    /// while neither has happened, after [`Self::close`] too. Cancel safe.
    pub async fn failed(&self) -> SqliteError {
        poll_fn(|context| {
            for closed in
                [self.inner.commits.poll_closed(context), self.inner.reads.poll_closed(context)]
            {
                match closed {
                    Poll::Ready(SqliteError::Closed) | Poll::Pending => {}
                    fault @ Poll::Ready(_) => return fault,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Counts since the file was opened.
    #[must_use]
    pub fn stats(&self) -> SqliteStats {
        SqliteStats {
            transactions: self.inner.tally.transactions.load(Ordering::Relaxed),
            applied: self.inner.tally.applied.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the file of the write-ahead log. It is begun anew once it has moved into the database, which waits for
    /// whoever reads an earlier state, other processes too; then it is cut back to 64 MiB.
    ///
    /// # Errors
    /// The fault of the file system.
    pub fn wal_bytes(&self) -> std::io::Result<u64> {
        match std::fs::metadata(&self.inner.wal) {
            Ok(wal) => Ok(wal.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Runs `work` on a thread that reads. If the call is dropped before it starts, it never does.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |connection| {
            if !reply.is_canceled() {
                reply.send(in_snapshot(connection, work)).ok();
            }
        });
        self.inner.reads.push(job, 0).await?;
        answer.await.unwrap_or_else(|_canceled| Err(self.inner.reads.reason()))
    }
}

/// Runs `work` in one read transaction.
fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, SqliteError>,
) -> Result<T, SqliteError> {
    // dropping it, on any way out, ends the transaction
    let transaction = connection.unchecked_transaction()?;
    let found = work(&transaction)?;
    transaction.finish()?;
    Ok(found)
}

/// Body of a reading thread.
fn serve_reads(
    connection: Connection,
    reads: &Queue<ReadJob>,
    lock: Arc<File>,
    rehearsal: Rehearsal,
) {
    let served = catch_unwind(AssertUnwindSafe(|| {
        let mut serial = 0;
        while let Some(job) = reads.take(1, usize::MAX).pop() {
            serial += 1;
            rehearsal.read(serial);
            job(&connection);
        }
    }));
    if served.is_err() {
        reads.fail(SqliteError::Stopped);
    }
    drop(connection);
    drop(lock);
}

/// Body of the writing thread: commits until the end, then waits for the readers to end.
fn serve_commits(
    writer: Writer,
    reads: &Queue<ReadJob>,
    readers: Vec<JoinHandle<()>>,
) -> Result<(), SqliteError> {
    let served = catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(|_panic| {
        writer.queue.fail(SqliteError::Stopped);
        Err(SqliteError::Stopped)
    });
    for reader in readers {
        // readers catch their panics
        reader.join().ok();
    }
    served?;
    if reads.reason() == SqliteError::Stopped {
        return Err(SqliteError::Stopped);
    }
    writer.connection.busy_timeout(CLOSE_PATIENCE)?;
    match whole::checkpoint(&writer.connection) {
        // Somebody reads an earlier state, as when a copy is made: what is in the log is as durable there.
        Err(error) if error.class() == FaultClass::Transient => {}
        moved => moved?,
    }
    writer.connection.close().map_err(|(_connection, error)| error.into())
}

fn end(ending: &Mutex<Ending>, result: Result<(), SqliteError>) {
    let before = std::mem::replace(
        &mut *ending.lock().unwrap_or_else(PoisonError::into_inner),
        Ending::Over(result),
    );
    if let Ending::Awaited(waiting) = before {
        for reply in waiting {
            // who no longer waits needs no answer
            reply.send(result).ok();
        }
    }
}

/// The rows of one space of a [`SqliteDb`]. A clone is another handle on them.
///
/// A commit whose future is dropped is still carried out if it had reached the queue. Commits of one
/// task that awaits each before the next are applied in that order.
#[derive(Clone)]
pub struct SqliteStore {
    db: SqliteDb,
    space: Arc<Space>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("space", &self.space.name).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// The file that the rows are in.
    #[must_use]
    pub const fn db(&self) -> &SqliteDb {
        &self.db
    }

    /// Which space it is.
    #[must_use]
    pub fn space(&self) -> &SpaceId {
        &self.space.name
    }

    /// What at most `limit` rows of a keyspace from the key `start` on take, and where the next ones begin if there may
    /// be any: for who adds up a large space without holding up who reads. O(`limit`).
    ///
    /// # Errors
    /// The fault of the database.
    pub async fn extent_behind(
        &self,
        keyspace: Keyspace,
        start: &[u8],
        limit: NonZeroU32,
    ) -> Result<(Extent, Option<Vec<u8>>), SqliteError> {
        let start = start.to_vec();
        self.on_rows(move |rows| rows.extent_behind(keyspace, &start, limit)).await
    }

    async fn on_rows<T: Send + 'static>(
        &self,
        work: impl FnOnce(SpaceRows<'_>) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let space = Arc::clone(&self.space);
        self.db
            .read(move |connection| {
                let number = rows::number(connection, &space)?;
                if let Some(number) = number {
                    // a snapshot shows only what is committed
                    space.number.get_or_init(|| number);
                }
                work(SpaceRows::new(connection, number))
            })
            .await
    }
}

impl Store for SqliteStore {
    type Error = SqliteError;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, SqliteError> {
        let key = key.to_vec();
        self.on_rows(move |rows| rows.get(keyspace, &key)).await
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, SqliteError> {
        let range = range.clone();
        self.on_rows(move |rows| rows.scan(keyspace, &range, limit, NonZeroU32::MAX)).await
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, SqliteError> {
        let queries = queries.to_vec();
        self.on_rows(move |rows| queries.iter().map(|query| rows.answer(query)).collect()).await
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, SqliteError> {
        let bytes = Commit::bytes(&batch);
        let (reply, answer) = oneshot::channel();
        let commit = Commit { space: Arc::clone(&self.space), batch, reply };
        self.db.inner.commits.push(commit, bytes).await?;
        answer.await.unwrap_or_else(|_canceled| Err(self.db.inner.commits.reason()))
    }
}
