//! `restore`: a backup becomes what a server keeps.
//!
//! The next start opens a new epoch, as every start does. What clients have from after the backup is not in its
//! history, so they bring it back before they go on (`docs/PROTOCOL.md` 3.6); nothing need be changed in the copy.
//!
//! Invariant: nothing is touched before all of the backup is there and was found to be what it says, and nothing is
//! thrown away: what was there is moved aside. While the one takes the place of the other no server starts.

use super::{CommandError, manifest::Manifest, say};
use crate::{
    Config, RefillKind, clock,
    data::{self, DataDir},
    durable,
};
use rejoin_sqlite::{SqliteError, SqliteLock, SqliteOptions, SqliteSnapshot, parts};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Puts the backup `from` into the directory of `config`; if there is a database already, only if it may be replaced.
pub(crate) fn run(config: &Config, from: &Path, replace: bool) -> Result<(), CommandError> {
    let to = DataDir::new(&config.data);
    let manifest = Manifest::read(from)?.ok_or_else(|| CommandError::NoBackup(from.into()))?;
    to.make().map_err(|error| CommandError::file(to.path(), error))?;
    let _lock = SqliteLock::take(to.database())
        .map_err(|error| CommandError::database(to.path(), error))?;
    let there: Vec<PathBuf> = kept(&to).filter(|path| path.symlink_metadata().is_ok()).collect();
    if let (Some(path), false) = (there.first(), replace) {
        return Err(CommandError::Occupied(path.clone()));
    }
    let copied = copy_all(from, &to, &manifest);
    copied.inspect_err(|_| {
        // The fault that is told is the first one.
        data::KEPT.iter().for_each(|name| drop(fs::remove_file(incoming(&to, name))));
    })?;
    let aside = put_in_place(&to, &there).map_err(|error| CommandError::file(to.path(), error))?;
    if let Some(aside) = aside {
        say(format_args!("what was there is in {}", aside.display()))?;
    }
    let next = match config.refill {
        RefillKind::None => "clients bring nothing back (--refill none)",
        RefillKind::Writers | RefillKind::Proved => "clients bring back what they have since then",
    };
    say(format_args!("{}: as of {}; {next}", to.path().display(), manifest.made))
}

/// Every file that would be another database's.
fn kept(to: &DataDir) -> impl Iterator<Item = PathBuf> {
    parts(&to.database()).into_iter().chain([to.file(data::KEY)])
}

fn incoming(to: &DataDir, name: &str) -> PathBuf {
    to.file(&format!("{name}.restoring"))
}

/// Copies the files beside their places and looks at them.
fn copy_all(from: &Path, to: &DataDir, manifest: &Manifest) -> Result<(), CommandError> {
    for entry in &manifest.files {
        let (source, target) = (from.join(&entry.name), incoming(to, &entry.name));
        let (bytes, blake3) =
            copy_digested(&source, &target).map_err(|error| CommandError::file(&source, error))?;
        if (bytes, &blake3) != (entry.bytes, &entry.blake3) {
            return Err(CommandError::Altered(source));
        }
    }
    let damaged = |error: SqliteError| CommandError::database(from, error);
    let database = incoming(to, data::DATABASE);
    let copy = SqliteSnapshot::open(&database, &SqliteOptions::default()).map_err(damaged)?;
    match copy.integrity_check().map_err(damaged)?.as_slice() {
        [] => Ok(()),
        findings => Err(CommandError::Damaged { findings: findings.len() }),
    }
}

/// Copies a file onto stable storage; its bytes and digest, of what was read.
fn copy_digested(from: &Path, to: &Path) -> io::Result<(u64, String)> {
    let mut source = File::open(from)?;
    let mut target = durable::private().write(true).create(true).truncate(true).open(to)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = source.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        target.write_all(bytes)?;
    }
    target.sync_all()?;
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}

/// Moves what is there aside and the copies into place; where it was moved to, if there was anything.
fn put_in_place(to: &DataDir, there: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    to.unfinished()?;
    let mut aside = None;
    if !there.is_empty() {
        let name = format!("replaced-{}", clock::rfc3339().replace(':', ""));
        let directory = aside.insert(to.file(&name));
        DataDir::new(&*directory).make()?;
        for path in there {
            let name = path.file_name().unwrap_or_default();
            fs::rename(path, directory.join(name))?;
        }
        data::sync_directory(directory)?;
    }
    for name in data::KEPT {
        fs::rename(incoming(to, name), to.file(name))?;
    }
    to.finished()?;
    Ok(aside)
}
