//! Opening the file: one opener at a time, a format that is known, settings that hold.
//!
//! Nothing is written to a file before its format is known to be ours.

use crate::{
    SqliteError, SqliteOptions,
    rows::{CREATE_SPACES, create},
};
use rejoin_core::io::Keyspace;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// `application_id` of the files of this crate: "rjn" and a byte that no text has.
pub const APPLICATION_ID: i32 = i32::from_be_bytes([b'r', b'j', b'n', 0x80]);
/// Format of the files that this version writes (`user_version`).
pub const FORMAT: i32 = 1;

/// Versions before it can lose pages when a WAL is reset beside a checkpoint,
/// <https://www.sqlite.org/wal.html>.
const LIBRARY_LEAST: i32 = 3_051_003;
/// 16 MiB in pages of 4 KiB: a checkpoint costs two syncs, so it is not done for every few commits.
const CHECKPOINT_PAGES: i32 = 4_096;
/// To what a WAL that a long read had let grow is cut back.
const WAL_BYTES_KEPT: i32 = 64 << 20;
/// `PRAGMA synchronous = FULL`.
const FULL: i32 = 2;
/// More than there are statements.
const STATEMENTS_MAX: usize = 64;

/// What the file does not hold as this crate writes it.
pub(crate) const CORRUPT: SqliteError = SqliteError::Sqlite { code: rusqlite::ffi::SQLITE_CORRUPT };

/// The absolute path with links resolved, so that one file has one lock.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, SqliteError> {
    match fs::canonicalize(path) {
        Ok(path) => return Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
        _ => Err(SqliteError::FileSystem { kind: io::ErrorKind::InvalidFilename }),
    }
}

/// Holds until the returned file is dropped, at the latest until the process ends.
pub(crate) fn lock(path: &Path) -> Result<File, SqliteError> {
    let mut name = OsString::from(path);
    name.push("-lock");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SqliteError::Locked),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Refuses a library that was linked in place of the bundled one and is too old.
pub(crate) fn check_library() -> Result<(), SqliteError> {
    check_version(rusqlite::version_number())
}

const fn check_version(found: i32) -> Result<(), SqliteError> {
    if found < LIBRARY_LEAST {
        return Err(SqliteError::Library { found, least: LIBRARY_LEAST });
    }
    Ok(())
}

/// Opens the connection that writes; creates the file if there is none.
pub(crate) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Connection, SqliteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    let new = is_new(&connection)?;
    settle(&connection, options)?;
    // after a failed sync the close must not touch the file; an orderly close checkpoints by itself
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    if let Some(pages) = options.rehearsal.page_count_max {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(SqliteError::Setting { name: "journal_mode" });
    }
    // where fsync leaves data in the cache of the drive (macOS), this goes further
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "synchronous", FULL)?;
    if pragma(&connection, "synchronous")? != FULL {
        return Err(SqliteError::Setting { name: "synchronous" });
    }
    let quiet = |_: &rusqlite::Row<'_>| Ok(());
    // What is erased is not left in pages that nothing uses.
    connection.pragma_update_and_check(None, "secure_delete", true, quiet)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, quiet)?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, quiet)?;
    if new {
        create_format(&mut connection)?;
    }
    sync_directory(path)?;
    Ok(connection)
}

/// Opens a connection that cannot write.
pub(crate) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection, SqliteError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    settle(&connection, options)?;
    Ok(connection)
}

/// What writer and readers have in common.
fn settle(connection: &Connection, options: &SqliteOptions) -> Result<(), SqliteError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // negative means KiB
    connection.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
    Ok(())
}

/// Whether the file is empty; an error unless it is that or ours.
pub(crate) fn is_new(connection: &Connection) -> Result<bool, SqliteError> {
    let application_id = pragma(connection, "application_id")?;
    let found = pragma(connection, "user_version")?;
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application_id, found) {
        (0, 0) if objects == 0 => Ok(true),
        (APPLICATION_ID, FORMAT) => Ok(false),
        (APPLICATION_ID, _) if found > FORMAT => Err(SqliteError::Newer { found, known: FORMAT }),
        _ => Err(SqliteError::Foreign { application_id }),
    }
}

fn create_format(connection: &mut Connection) -> Result<(), SqliteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(CREATE_SPACES)?;
    for keyspace in Keyspace::ALL {
        transaction.execute_batch(create(keyspace))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    Ok(transaction.commit()?)
}

fn pragma(connection: &Connection, name: &str) -> Result<i32, SqliteError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// A new file survives a power loss only once its directory does.
#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> Result<(), SqliteError> {
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Windows has no handle on a directory that could be synced; NTFS journals its names.
#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> Result<(), SqliteError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s08_a_library_that_can_damage_the_file_is_refused() {
        assert_eq!(check_version(3_051_003), Ok(()));
        let refused = SqliteError::Library { found: 3_051_002, least: 3_051_003 };
        assert_eq!(check_version(3_051_002), Err(refused));
        assert_eq!(check_library(), Ok(()), "the bundled one");
    }
}
