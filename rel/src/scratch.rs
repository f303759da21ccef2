//! Directories that are removed at the end.

use std::path::Path;
use tempfile::TempDir;

/// A directory on a real disk, for what is to be tested there.
pub(crate) fn on_disk() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("rejoin-rel-").tempdir()
}

/// A directory in memory where there is such a thing: for files whose speed must not matter.
pub(crate) fn in_memory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return on_disk();
    }
    tempfile::Builder::new().prefix("rejoin-rel-").tempdir_in(memory)
}

/// Copies all files of a directory, which has no directories in it, into another one.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
