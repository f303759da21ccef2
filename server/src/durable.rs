//! Small files that are whole or as they were before, whenever the machine stops.

use crate::data;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// Puts `bytes` in the place of a file, for its owner alone.
///
/// # Errors
/// The file system's. The file is then what it was before, or already the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, |_| Ok(()))
}

/// The same, for those who could read it before; where it is new, for those to whom its directory belongs.
///
/// # Errors
/// As of [`replace`].
pub(crate) fn replace_alike(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, |file| belong(file, path))
}

/// Owner and mode: a server that runs as somebody else than who changes its files can still read them.
#[cfg(unix)]
fn belong(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let (of, mode) = match fs::metadata(path) {
        Ok(before) => (before.clone(), before.mode() & 0o777),
        Err(_missing) => (fs::metadata(parent.unwrap_or_else(|| Path::new(".")))?, 0o640),
    };
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (of.uid(), of.gid()) {
        match fchown(file, Some(of.uid()), Some(of.gid())) {
            // Only the superuser gives files away; whoever else is here works for himself.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            given => given?,
        }
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Files belong to whoever makes them.
#[cfg(not(unix))]
fn belong(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
}

fn replace_as(
    path: &Path,
    bytes: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = private().create(true).truncate(true).write(true).open(&new)?;
    file.write_all(bytes)?;
    prepare(&file)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    data::sync_parent(path)
}

/// For files that only their owner may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
