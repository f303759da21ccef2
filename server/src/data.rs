//! The directory of a server: what is in it, and where.
//!
//! Invariant: what cannot be had again is in the database and in the key beside it, and in no other file. Absent: what
//! the files hold.

use crate::clock;
use rejoin_core::time::WallMillis;
use std::{
    fs::{self, DirBuilder, File},
    io,
    path::{Path, PathBuf},
};

/// Files that are all that a server keeps, the database last.
pub(crate) const KEPT: [&str; 2] = [KEY, DATABASE];
/// The key of proofs.
pub(crate) const KEY: &str = "proof.key";
/// The database.
pub(crate) const DATABASE: &str = "rejoin.sqlite";
/// There while files are being put back.
const UNFINISHED: &str = "restore.unfinished";
/// Made anew whenever a backup of the directory was completed.
const BACKED_UP: &str = "backup.last";

/// The directory of a server.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.file(DATABASE)
    }

    /// Makes the directory and those that it is in, where they are missing: a power loss takes none of them away once
    /// this has returned.
    pub(crate) fn make(&self) -> io::Result<()> {
        make_directory(&self.0)
    }

    /// An error if files were being put back and some may not be there.
    pub(crate) fn refuse_unfinished(&self) -> io::Result<()> {
        if self.file(UNFINISHED).try_exists()? {
            let what = "a restore did not get to its end: run it again";
            return Err(io::Error::other(what));
        }
        Ok(())
    }

    /// From now on until [`Self::finished`] files are being put back.
    pub(crate) fn unfinished(&self) -> io::Result<()> {
        File::create(self.file(UNFINISHED))?.sync_all()?;
        sync_directory(&self.0)
    }

    pub(crate) fn finished(&self) -> io::Result<()> {
        sync_directory(&self.0)?;
        fs::remove_file(self.file(UNFINISHED))?;
        sync_directory(&self.0)
    }

    /// When the last backup was completed.
    pub(crate) fn last_backup(&self) -> Option<WallMillis> {
        fs::metadata(self.file(BACKED_UP)).and_then(|file| file.modified()).ok().map(clock::wall)
    }

    /// A backup was completed.
    pub(crate) fn backed_up(&self) -> io::Result<()> {
        File::create(self.file(BACKED_UP)).map(drop)
    }
}

/// Room on the disk of a directory, where the system can tell it.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> io::Result<Option<u64>> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
}

/// Room on the disk of a directory, where the system can tell it.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

fn make_directory(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|place| !place.is_dir()).count();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    // A life that was cut short here may have made it, too.
    for (at, place) in path.ancestors().take(missing.max(1)).enumerate() {
        match sync_parent(place) {
            // Whoever made it where this program may not even look has seen to it.
            Err(error) if at >= missing && error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Makes sure of a name.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Makes sure of the names in a directory.
#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Windows has no handle on a directory that could be synced; NTFS journals its names.
#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
