//! A file that is read again when it has changed.
//!
//! Invariant: what is held is what the file said when it was last good. A file that is gone or cannot be
//! understood changes nothing: it is logged, once for each such state.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Makes of a file's bytes what is wanted of them.
type Read<T, E> = fn(&Path, &[u8]) -> Result<T, E>;

/// What a file says.
pub(crate) struct Watched<T, E> {
    path: PathBuf,
    read: Read<T, E>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    value: Arc<T>,
    /// What was read last, good or not; `None` where it could not be read.
    seen: Option<blake3::Hash>,
}

impl<T, E> fmt::Debug for Watched<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T, E: From<Unreadable>> Watched<T, E> {
    /// Reads the file for the first time.
    pub(crate) fn open(path: &Path, read: Read<T, E>) -> Result<Self, E> {
        let bytes = read_file(path)?;
        let value = Arc::new(read(path, &bytes)?);
        let held = Mutex::new(Held { value, seen: Some(blake3::hash(&bytes)) });
        Ok(Self { path: path.to_owned(), read, held })
    }

    /// What it said when it was last good.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.held().value)
    }

    /// Reads it again: whether it says something else than before. Blocks.
    ///
    /// # Errors
    /// It cannot be used, and could, or was another one, the last time.
    pub(crate) fn look(&self) -> Result<bool, E> {
        let bytes = read_file(&self.path);
        let seen = bytes.as_ref().ok().map(|bytes| blake3::hash(bytes));
        if self.held().seen == seen {
            return Ok(false);
        }
        self.held().seen = seen;
        let value = Arc::new((self.read)(&self.path, &bytes?)?);
        self.held().value = value;
        Ok(true)
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}")]
pub struct Unreadable {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

fn read_file(path: &Path) -> Result<Vec<u8>, Unreadable> {
    fs::read(path).map_err(|source| Unreadable { path: path.to_owned(), source })
}
