//! What a backup says of itself, in `backup.toml`: which files it has, their bytes and digests.
//!
//! Invariant: it is written last, and names only files that a server keeps. Absent: making and putting back copies.

use super::CommandError;
use crate::{clock, config::place, data};
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

/// The name of the file.
pub(super) const NAME: &str = "backup.toml";
/// Of backups that this version makes and reads.
const FORMAT: u32 = 1;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    /// When it was made.
    pub(super) made: String,
    /// By which version.
    version: String,
    pub(super) files: Vec<Entry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

impl Manifest {
    pub(super) fn new(files: Vec<Entry>) -> Self {
        let (made, version) = (clock::rfc3339(), env!("CARGO_PKG_VERSION").to_owned());
        Self { format: FORMAT, made, version, files }
    }

    /// Writes it into a backup, on stable storage.
    pub(super) fn write(&self, backup: &Path) -> io::Result<()> {
        let mut file = File::create_new(backup.join(NAME))?;
        let Self { format, made, version, files } = self;
        write!(file, "format = {format}\nmade = \"{made}\"\nversion = \"{version}\"\n")?;
        for Entry { name, bytes, blake3 } in files {
            write!(
                file,
                "\n[[files]]\nname = \"{name}\"\nbytes = {bytes}\nblake3 = \"{blake3}\"\n"
            )?;
        }
        file.sync_all()
    }

    /// Reads that of a backup; `None`: it has none.
    ///
    /// # Errors
    /// It cannot be read, is of a later version, or does not have just the files that a server keeps.
    pub(super) fn read(backup: &Path) -> Result<Option<Self>, CommandError> {
        let path = backup.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CommandError::file(&path, error)),
        };
        let wrong = |what: String| CommandError::Manifest { path: path.clone(), what };
        let read: Self = toml::from_str(&text).map_err(|error| wrong(place(&text, &error)))?;
        if read.format != FORMAT {
            let what = format!("format {}, this version knows {FORMAT}", read.format);
            return Err(wrong(what));
        }
        let names: Vec<&str> = read.files.iter().map(|file| file.name.as_str()).collect();
        if names != data::KEPT {
            return Err(wrong(format!("files {names:?}, a backup has {:?}", data::KEPT)));
        }
        Ok(Some(read))
    }
}

impl Entry {
    /// Of a file that is there.
    pub(super) fn of(backup: &Path, name: &str) -> io::Result<Self> {
        let (bytes, blake3) = digest(File::open(backup.join(name))?)?;
        Ok(Self { name: name.to_owned(), bytes, blake3 })
    }
}

/// Bytes and digest of all that comes.
pub(super) fn digest(input: impl Read) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(input)?;
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}
