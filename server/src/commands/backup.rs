//! `backup`: a copy of what a server keeps, also while it runs.
//!
//! Invariant: what stands under the name asked for is complete and on stable storage.

use super::{
    CommandError,
    manifest::{Entry, Manifest},
    say,
};
use crate::{
    Config,
    data::{self, DataDir},
    durable,
};
use rejoin_sqlite::{SqliteOptions, copy};
use std::{
    fs::{self, DirBuilder, File},
    io,
    path::{Path, PathBuf},
};

/// Makes a backup of the directory of `config` under the name `to`.
pub(crate) fn run(config: &Config, to: &Path) -> Result<(), CommandError> {
    let from = DataDir::new(&config.data);
    let unfinished = |error| CommandError::file(from.path(), error);
    from.refuse_unfinished().map_err(unfinished)?;
    if to.symlink_metadata().is_ok() {
        let kind = io::ErrorKind::AlreadyExists;
        return Err(CommandError::file(to, kind.into()));
    }
    let partial = partial(to);
    make(&partial).map_err(|error| CommandError::file(&partial, error))?;
    let made = fill(&from, &partial).and_then(|manifest| {
        let settle = || {
            manifest.write(&partial)?;
            data::sync_directory(&partial)?;
            fs::rename(&partial, to)?;
            data::sync_parent(to)
        };
        settle().map_err(|error| CommandError::file(to, error)).map(|()| manifest)
    });
    let manifest = made.inspect_err(|_| {
        // The fault that is told is the first one.
        fs::remove_dir_all(&partial).ok();
    })?;
    // Only for whoever watches how old it is; it is complete without.
    from.backed_up().ok();
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    say(format_args!("{}: {bytes} bytes of {}", to.display(), config.data.display()))
}

/// Where it is made, beside its place.
fn partial(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// It has the key in it.
fn make(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn fill(from: &DataDir, to: &Path) -> Result<Manifest, CommandError> {
    let (source, target) = (from.file(data::KEY), to.join(data::KEY));
    copy_private(&source, &target).map_err(|error| CommandError::file(&source, error))?;
    copy(&from.database(), &to.join(data::DATABASE), &SqliteOptions::default())
        .map_err(|error| CommandError::database(from.path(), error))?;
    let files = data::KEPT.iter().map(|name| Entry::of(to, name)).collect::<io::Result<_>>();
    Ok(Manifest::new(files.map_err(|error| CommandError::file(to, error))?))
}

/// Copies a file that only its owner may read, onto stable storage.
fn copy_private(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = durable::private().write(true).create_new(true).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}
