//! One state of a file, for whoever looks at it beside the process that has it open.
//!
//! Invariant: it takes no lock that anybody waits for, and changes nothing but SQLite's own index of the log (`-shm`).
//! While it is there the log of a process that writes cannot be begun anew, so it grows. Absent: threads; every call
//! blocks.

use crate::{
    SqliteError, SqliteOptions, file,
    rows::{self, Space, SpaceRows},
};
use rejoin_core::{
    id::SpaceId,
    io::{Answer, Keyspace, Query},
};
use rusqlite::Connection;
use std::{fmt, path::Path, sync::OnceLock};

/// One state of a file: what was committed when it was opened.
pub struct SqliteSnapshot {
    connection: Connection,
}

impl fmt::Debug for SqliteSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSnapshot").finish_non_exhaustive()
    }
}

/// What the rows of a keyspace of a space take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// How many there are.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl SqliteSnapshot {
    /// Opens a file that is there, whether or not a process has it open.
    ///
    /// # Errors
    /// `Newer` and `Foreign` for a file that is not ours; the fault of SQLite or the file system otherwise.
    pub fn open(path: impl AsRef<Path>, options: &SqliteOptions) -> Result<Self, SqliteError> {
        file::check_library()?;
        let connection = file::open_reader(&file::resolve(path.as_ref())?, options)?;
        if file::is_new(&connection)? {
            return Err(SqliteError::Foreign { application_id: 0 });
        }
        connection.execute_batch("BEGIN")?;
        // A transaction has its state from its first read on.
        connection.query_row("SELECT count(*) FROM spaces", [], |_| Ok(()))?;
        Ok(Self { connection })
    }

    /// The spaces that have rows, in order; O(spaces).
    ///
    /// # Errors
    /// The fault of the database; a name that is none means a damaged file.
    pub fn spaces(&self) -> Result<Vec<SpaceId>, SqliteError> {
        rows::spaces(&self.connection)
    }

    /// Checks the structure of the whole file and returns what is wrong with it, at most 100 findings; none means that
    /// it is whole. O(bytes).
    ///
    /// # Errors
    /// The fault that ended the check.
    pub fn integrity_check(&self) -> Result<Vec<String>, SqliteError> {
        integrity_check(&self.connection)
    }

    /// Answers all `queries` about a space, in order.
    ///
    /// # Errors
    /// The fault of the database.
    pub fn read(&self, space: &SpaceId, queries: &[Query]) -> Result<Vec<Answer>, SqliteError> {
        let rows = self.rows(space)?;
        queries.iter().map(|query| rows.answer(query)).collect()
    }

    /// What a keyspace of a space takes; O(rows).
    ///
    /// # Errors
    /// The fault of the database.
    pub fn extent(&self, space: &SpaceId, keyspace: Keyspace) -> Result<Extent, SqliteError> {
        self.rows(space)?.extent(keyspace)
    }

    fn rows(&self, space: &SpaceId) -> Result<SpaceRows<'_>, SqliteError> {
        let space = Space { name: space.clone(), number: OnceLock::new() };
        Ok(SpaceRows::new(&self.connection, rows::number(&self.connection, &space)?))
    }
}

pub(crate) fn integrity_check(connection: &Connection) -> Result<Vec<String>, SqliteError> {
    let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
    let findings = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut findings = findings.collect::<Result<Vec<_>, _>>()?;
    findings.retain(|finding| finding != "ok");
    Ok(findings)
}
