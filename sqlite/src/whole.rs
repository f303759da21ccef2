//! A file as a whole: copied while it is in use, made smaller, kept from being opened.
//!
//! Invariant: a file stands under its name only once it is complete and on stable storage. Absent: what is beside the
//! database.

use crate::{SqliteError, SqliteOptions, file};
use rusqlite::{Connection, ffi};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Keeps a file from being opened until it is dropped.
#[derive(Debug)]
pub struct SqliteLock {
    _file: File,
}

impl SqliteLock {
    /// For the file at `path`, whether or not it exists; its directory must.
    ///
    /// # Errors
    /// [`SqliteError::Locked`] while a process has it open; the fault of the file system otherwise.
    pub fn take(path: impl AsRef<Path>) -> Result<Self, SqliteError> {
        Ok(Self { _file: file::lock(&file::resolve(path.as_ref())?)? })
    }
}

/// Every name under which SQLite keeps a part of the database at `path`: the file itself, its log, the index of that.
#[must_use]
pub fn parts(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        name.into()
    })
}

/// Copies the database at `from`, one state of it, into a new file, whether or not a process has it open and writes.
/// What was deleted is not in the copy. Blocks; O(bytes). Until it ends the log of who writes grows.
///
/// # Errors
/// `FileSystem` with `AlreadyExists` if there is something at `to`; `Newer` and `Foreign` for a file that is not ours;
/// the fault of SQLite or the file system otherwise. Nothing is left at `to` then.
pub fn copy(from: &Path, to: &Path, options: &SqliteOptions) -> Result<(), SqliteError> {
    file::check_library()?;
    let (from, to) = (file::resolve(from)?, file::resolve(to)?);
    // An empty file is taken for none: so nobody else makes one of this name meanwhile.
    File::create_new(&to)?;
    copy_into(&from, &to, options).inspect_err(|_| {
        // The fault that is told is the first one.
        fs::remove_file(&to).ok();
    })
}

fn copy_into(from: &Path, to: &Path, options: &SqliteOptions) -> Result<(), SqliteError> {
    let connection = file::open_reader(from, options)?;
    if file::is_new(&connection)? {
        return Err(SqliteError::Foreign { application_id: 0 });
    }
    let name =
        to.to_str().ok_or(SqliteError::FileSystem { kind: io::ErrorKind::InvalidFilename })?;
    connection.execute("VACUUM INTO ?1", [name])?;
    File::open(to)?.sync_all()?;
    file::sync_directory(to)
}

/// Rewrites the database at `path` without the room that deleted rows have left, and returns its bytes before and
/// after. Blocks; O(bytes). It takes as much room again while it works; if it is cut short, the file is as before, and
/// `-compact` beside it may go.
///
/// # Errors
/// [`SqliteError::Locked`] while a process has the file open, `SQLITE_BUSY` while another program reads it; `Newer` and
/// `Foreign` for a file that is not ours; the fault of SQLite or the file system otherwise. The file is as before then.
pub fn compact(path: &Path, options: &SqliteOptions) -> Result<(u64, u64), SqliteError> {
    file::check_library()?;
    let path = file::resolve(path)?;
    let _lock = file::lock(&path)?;
    // It would be made anew.
    let before = fs::metadata(&path)?.len();
    let connection = file::open_writer(&path, options)?;
    checkpoint(&connection)?;
    connection.close().map_err(|(_connection, error)| error)?;
    let mut new = OsString::from(&path);
    new.push("-compact");
    let new = PathBuf::from(new);
    remove_if_there(&new)?;
    copy(&path, &new, options)?;
    // Empty: it has moved into the file. Whoever still has them open keeps them, and the file that they are of.
    for part in parts(&path).iter().skip(1) {
        remove_if_there(part)?;
    }
    fs::rename(&new, &path)?;
    file::sync_directory(&path)?;
    Ok((before, fs::metadata(&path)?.len()))
}

/// Moves the log into the file and empties it.
///
/// # Errors
/// `SQLITE_BUSY` if somebody reads an earlier state.
pub(crate) fn checkpoint(connection: &Connection) -> Result<(), SqliteError> {
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy: i64 = connection.query_row(checkpoint, [], |row| row.get(0))?;
    if busy != 0 {
        return Err(SqliteError::Sqlite { code: ffi::SQLITE_BUSY });
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
