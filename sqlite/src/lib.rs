//! The store of Rejoin in one SQLite file, for servers and native clients.
//!
//! One file holds many spaces; a [`SqliteStore`] is a handle on one of them and implements
//! [`rejoin_core::port::Store`]. One thread owns the only writing connection and commits in groups:
//! all batches that wait go into one transaction and share one sync, each with its own guards and its
//! own outcome. A few threads answer reads, each read from one WAL snapshot.
//!
//! Invariant: `Applied` is answered only behind a `COMMIT` under `journal_mode=WAL` and
//! `synchronous=FULL`, both read back when the file is opened. After a failed write or sync of the
//! file nothing more is committed until it is opened again, because the kernel may have dropped what
//! it could not write ("Can applications recover from fsync failures?", Rebello et al. 2020,
//! <https://www.usenix.org/conference/atc20/presentation/rebello>).
//!
//! Absent: executors (the futures run on any), merging, a view into values, retries of conflicts.

mod db;
mod error;
mod file;
mod options;
mod queue;
mod rows;
mod snapshot;
mod whole;
mod writer;

pub use db::{SqliteDb, SqliteStats, SqliteStore};
pub use error::SqliteError;
pub use file::{APPLICATION_ID, FORMAT};
pub use options::SqliteOptions;
pub use snapshot::{Extent, SqliteSnapshot};
pub use whole::{SqliteLock, compact, copy, parts};
pub use writer::{GROUP_BATCHES_MAX, GROUP_BYTES_MAX};

#[doc(hidden)]
pub use writer::Rehearsal;
