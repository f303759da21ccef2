//! What can go wrong with a file, and what can be done about it.

use rejoin_core::port::{Fault, FaultClass};
use rusqlite::ffi;
use std::io;

/// A fault of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// Another handle, of this process or another one, has the file open.
    #[error("another process has the database open, and only one at a time may")]
    Locked,
    /// A newer version of this crate wrote the file.
    #[error("the database has format {found}, this version knows up to {known}")]
    Newer {
        /// Format of the file.
        found: i32,
        /// Newest format that can be opened.
        known: i32,
    },
    /// The file is a SQLite database, and not of Rejoin.
    #[error("the file belongs to another application: id {application_id:#010x}")]
    Foreign {
        /// What its `application_id` says; 0 if nothing.
        application_id: i32,
    },
    /// The SQLite library has a version in which a WAL can damage the file.
    #[error("the SQLite library has version {found}, at least {least} is needed")]
    Library {
        /// `sqlite3_libversion_number()`.
        found: i32,
        /// Least version that is accepted.
        least: i32,
    },
    /// A setting that durability rests on did not hold when it was read back.
    #[error("the database does not keep the setting {name}")]
    Setting {
        /// Name of the pragma.
        name: &'static str,
    },
    /// The file system failed outside SQLite: the path, its directory or the lock file.
    #[error("the file system failed: {kind}")]
    FileSystem {
        /// As the system says.
        kind: io::ErrorKind,
    },
    /// SQLite failed.
    #[error("{} (SQLite code {code})", ffi::code_to_str(*code))]
    Sqlite {
        /// Extended result code, see <https://www.sqlite.org/rescode.html>.
        code: i32,
    },
    /// A write or sync of the file failed, now or earlier, so that what it holds is not known.
    /// Nothing is committed until it is closed and opened again; reads go on.
    #[error(
        "a write to the database file failed, it must be opened again: {} (SQLite code {code})",
        ffi::code_to_str(*code)
    )]
    Halted {
        /// Extended result code of what failed.
        code: i32,
    },
    /// A thread of the database panicked.
    #[error("a thread of the database stopped by a panic: open it again")]
    Stopped,
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl SqliteError {
    /// What whoever asks is told once this has left the file in an unknown state.
    pub(crate) fn halted(self) -> Self {
        if let Self::Sqlite { code } = self { Self::Halted { code } } else { self }
    }

    /// Whether the state of the file is unknown after this error of a write transaction.
    pub(crate) fn halts(self) -> bool {
        match self {
            Self::Halted { .. } => true,
            Self::Sqlite { code } => {
                primary(code) == ffi::SQLITE_IOERR && self.class() == FaultClass::Permanent
            }
            Self::Locked
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Library { .. }
            | Self::Setting { .. }
            | Self::FileSystem { .. }
            | Self::Stopped
            | Self::Closed => false,
        }
    }
}

impl Fault for SqliteError {
    fn class(&self) -> FaultClass {
        match *self {
            Self::Sqlite { code } => class(code),
            Self::FileSystem { kind: io::ErrorKind::StorageFull } => FaultClass::Full,
            Self::Locked => FaultClass::Transient,
            Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Library { .. }
            | Self::Setting { .. }
            | Self::FileSystem { .. }
            | Self::Halted { .. }
            | Self::Stopped
            | Self::Closed => FaultClass::Permanent,
        }
    }
}

/// The low byte of an extended code says the kind of error.
const fn primary(code: i32) -> i32 {
    code & 0xff
}

fn class(code: i32) -> FaultClass {
    match code {
        // no room for the index of the WAL, which is rebuilt at need
        ffi::SQLITE_IOERR_SHMSIZE => return FaultClass::Full,
        // a row that SQLite knows to be damaged, reported by the file system
        ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA => return FaultClass::Corrupt,
        ffi::SQLITE_IOERR_NOMEM | ffi::SQLITE_IOERR_LOCK | ffi::SQLITE_IOERR_BLOCKED => {
            return FaultClass::Transient;
        }
        _ => {}
    }
    match primary(code) {
        ffi::SQLITE_FULL => FaultClass::Full,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => FaultClass::Corrupt,
        ffi::SQLITE_BUSY
        | ffi::SQLITE_LOCKED
        | ffi::SQLITE_NOMEM
        | ffi::SQLITE_INTERRUPT
        | ffi::SQLITE_PROTOCOL => FaultClass::Transient,
        _ => FaultClass::Permanent,
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        // every other error of rusqlite is a column of an unexpected type or number: the file does
        // not hold what this crate writes
        let code = error.sqlite_error().map_or(ffi::SQLITE_CORRUPT, |error| error.extended_code);
        Self::Sqlite { code }
    }
}

impl From<io::Error> for SqliteError {
    fn from(error: io::Error) -> Self {
        Self::FileSystem { kind: error.kind() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_class_that_tells_what_to_do() {
        for (code, class, halts) in [
            (ffi::SQLITE_FULL, FaultClass::Full, false),
            (ffi::SQLITE_IOERR_SHMSIZE, FaultClass::Full, false),
            (ffi::SQLITE_BUSY, FaultClass::Transient, false),
            (ffi::SQLITE_BUSY_SNAPSHOT, FaultClass::Transient, false),
            (ffi::SQLITE_CORRUPT_INDEX, FaultClass::Corrupt, false),
            (ffi::SQLITE_NOTADB, FaultClass::Corrupt, false),
            (ffi::SQLITE_IOERR_FSYNC, FaultClass::Permanent, true),
            (ffi::SQLITE_IOERR_WRITE, FaultClass::Permanent, true),
            (ffi::SQLITE_IOERR_NOMEM, FaultClass::Transient, false),
            (ffi::SQLITE_READONLY, FaultClass::Permanent, false),
        ] {
            let error = SqliteError::Sqlite { code };
            assert_eq!((error.class(), error.halts()), (class, halts), "{error}");
        }
    }
}
