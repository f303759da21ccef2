//! The key of proofs, in a file beside the database, and other randomness.
//!
//! Invariant: a key file is complete or absent; only its owner may read it.

use crate::{data::KEY, durable};
use std::{fs, io, path::Path};

/// Reads the key in `directory`, or makes one.
///
/// # Errors
/// The file system's; `InvalidData` for a file that is not a key; `Other` without randomness.
pub(crate) fn proof_key(directory: &Path) -> io::Result<[u8; 32]> {
    let path = directory.join(KEY);
    match read_key(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random()?;
            durable::replace(&path, &key)?;
            Ok(key)
        }
        read => read,
    }
}

/// Reads the key in `directory`.
///
/// # Errors
/// The file system's; `InvalidData` for a file that is not a key.
pub(crate) fn read_key(directory: &Path) -> io::Result<[u8; 32]> {
    let path = directory.join(KEY);
    <[u8; 32]>::try_from(fs::read(&path)?).map_err(|bytes| {
        let what = format!("{} has {} bytes, a key has 32", path.display(), bytes.len());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// Good randomness from the system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
