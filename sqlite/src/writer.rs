//! The thread that commits.
//!
//! A group is every batch that waits, within [`GROUP_BATCHES_MAX`] and [`GROUP_BYTES_MAX`]. It is one
//! transaction and one sync. Guards are checked before any write of their batch, so a conflict needs
//! no undoing. If anything else fails the transaction is rolled back, nobody has been answered, and
//! each batch is tried again in a transaction of its own: the one that fails takes no other with it.

use crate::{
    SqliteError,
    queue::Queue,
    rows::{self, Space, SpaceRows},
};
use futures_channel::oneshot;
use rejoin_core::io::{Batch, CommitOutcome, Write};
use rusqlite::{Connection, ffi};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Most batches of one transaction.
pub const GROUP_BATCHES_MAX: usize = 256;
/// Most bytes of one transaction, unless it is a single batch that has more.
pub const GROUP_BYTES_MAX: usize = 8 << 20;

/// Faults that no test could cause otherwise. Not part of the interface.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// The file is "full" at so many pages.
    pub page_count_max: Option<u32>,
    /// The transaction of this number (from 1) panics before its `COMMIT`.
    pub panic_at: Option<u64>,
    /// The `COMMIT` of the transaction of this number (from 1) fails in its sync.
    pub sync_error_at: Option<u64>,
    /// The read of this number (from 1) of each reader panics.
    pub read_panic_at: Option<u64>,
}

impl Rehearsal {
    #[expect(clippy::panic, reason = "what it rehearses is a panic")]
    pub(crate) fn read(self, serial: u64) {
        if self.read_panic_at == Some(serial) {
            panic!("rehearsed panic of a reader");
        }
    }
}

/// One batch and who waits for it.
pub(crate) struct Commit {
    pub(crate) space: Arc<Space>,
    pub(crate) batch: Batch,
    pub(crate) reply: oneshot::Sender<Result<CommitOutcome, SqliteError>>,
}

impl Commit {
    /// What counts against the limits of queue and group.
    pub(crate) fn bytes(batch: &Batch) -> usize {
        let guards = batch
            .guards
            .iter()
            .map(|guard| guard.key.len().saturating_add(guard.seen.as_ref().map_or(0, Vec::len)));
        let writes = batch.writes.iter().map(|write| match write {
            Write::Put { row, .. } => row.key.len().saturating_add(row.value.len()),
            Write::Delete { key, .. } => key.len(),
        });
        guards.chain(writes).fold(0, usize::saturating_add)
    }

    fn answer(self, answer: Result<CommitOutcome, SqliteError>) {
        // who no longer waits needs no answer; the batch is applied or not all the same
        self.reply.send(answer).ok();
    }
}

/// What the writer has done so far.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) transactions: AtomicU64,
    pub(crate) applied: AtomicU64,
}

pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) queue: Arc<Queue<Commit>>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) rehearsal: Rehearsal,
}

impl Writer {
    /// Commits until the queue is closed and drained; an error means that the file must be opened
    /// again, and that the queue was failed.
    pub(crate) fn run(&self) -> Result<(), SqliteError> {
        loop {
            let group = self.queue.take(GROUP_BATCHES_MAX, GROUP_BYTES_MAX);
            if group.is_empty() {
                return Ok(());
            }
            self.commit(group)?;
        }
    }

    fn commit(&self, group: Vec<Commit>) -> Result<(), SqliteError> {
        match self.transact(&group) {
            Ok(done) => {
                for (commit, (outcome, number)) in group.into_iter().zip(done) {
                    if let Some(number) = number {
                        commit.space.number.get_or_init(|| number);
                    }
                    if outcome == CommitOutcome::Applied {
                        self.tally.applied.fetch_add(1, Ordering::Relaxed);
                    }
                    commit.answer(Ok(outcome));
                }
                Ok(())
            }
            Err(error) if error.halts() => {
                let halted = error.halted();
                self.queue.fail(halted);
                for commit in group {
                    commit.answer(Err(halted));
                }
                Err(halted)
            }
            Err(error) if group.len() == 1 => {
                for commit in group {
                    commit.answer(Err(error));
                }
                Ok(())
            }
            Err(_) => group.into_iter().try_for_each(|commit| self.commit(vec![commit])),
        }
    }

    /// One transaction: its outcomes and the numbers of the spaces that it wrote to, once it is on
    /// stable storage; or an error, and nothing was written.
    fn transact(&self, group: &[Commit]) -> Result<Vec<(CommitOutcome, Option<i64>)>, SqliteError> {
        let serial = self.tally.transactions.fetch_add(1, Ordering::Relaxed) + 1;
        self.execute("BEGIN IMMEDIATE")?;
        let done =
            group.iter().map(|commit| self.apply(commit)).collect::<Result<_, _>>().and_then(
                |done| {
                    self.rehearse(serial)?;
                    self.execute("COMMIT").map(|()| done)
                },
            );
        // SQLite ends the transaction itself on some errors
        if done.is_err() && !self.connection.is_autocommit() {
            // without it the state of the file is unknown
            self.execute("ROLLBACK").map_err(SqliteError::halted)?;
        }
        done
    }

    fn apply(&self, commit: &Commit) -> Result<(CommitOutcome, Option<i64>), SqliteError> {
        let Commit { space, batch, .. } = commit;
        let mut number = rows::number(&self.connection, space)?;
        let rows = SpaceRows::new(&self.connection, number);
        for guard in &batch.guards {
            if !rows.holds(guard)? {
                return Ok((CommitOutcome::Conflict, None));
            }
        }
        for write in &batch.writes {
            let space = match number {
                Some(number) => number,
                None => *number.insert(rows::intern(&self.connection, space)?),
            };
            rows::write(&self.connection, space, write)?;
        }
        Ok((CommitOutcome::Applied, number))
    }

    fn execute(&self, sql: &str) -> Result<(), SqliteError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    #[expect(clippy::panic, reason = "what it rehearses is a panic")]
    fn rehearse(&self, serial: u64) -> Result<(), SqliteError> {
        if self.rehearsal.panic_at == Some(serial) {
            panic!("rehearsed panic of the writer");
        }
        if self.rehearsal.sync_error_at == Some(serial) {
            return Err(SqliteError::Sqlite { code: ffi::SQLITE_IOERR_FSYNC });
        }
        Ok(())
    }
}
