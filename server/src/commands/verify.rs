//! `verify`: whether what is stored is whole: of a server, also while it runs, or in a backup.
//!
//! The structure of the file is checked by SQLite; all else by a host that runs on a draft of each space and reads
//! everything again, as a server does now and then (`scrub`). Nothing is changed.

use super::{
    CommandError,
    draft::Draft,
    manifest::{Entry, Manifest},
    say,
};
use crate::{data::DataDir, hubs, secret};
use rejoin_core::{
    id::SpaceId,
    protocol::host::{HostNote, Scrubbed},
};
use rejoin_sqlite::{SqliteError, SqliteOptions, SqliteSnapshot};
use std::path::Path;

/// Looks at a directory of a server, or a backup, and says what it finds.
pub(crate) fn run(path: &Path) -> Result<(), CommandError> {
    let directory = DataDir::new(path);
    let unfinished = |error| CommandError::file(path, error);
    directory.refuse_unfinished().map_err(unfinished)?;
    let mut findings = 0;
    let mut found = |finding: &str| {
        findings += 1;
        say(format_args!("{finding}"))
    };
    if let Some(manifest) = Manifest::read(path)? {
        for entry in &manifest.files {
            let file = path.join(&entry.name);
            let is = Entry::of(path, &entry.name);
            if is.map_err(|error| CommandError::file(&file, error))? != *entry {
                found(&format!("{}: not as it was when the backup was made", file.display()))?;
            }
        }
    }
    let failed = |error| CommandError::database(path, error);
    let snapshot = SqliteSnapshot::open(directory.database(), &SqliteOptions::default());
    let snapshot = snapshot.map_err(failed)?;
    for finding in snapshot.integrity_check().map_err(failed)? {
        found(&format!("the database: {finding}"))?;
    }
    let key = secret::read_key(path);
    let key = key.map_err(|error| CommandError::file(path, error))?;
    let spaces = snapshot.spaces().map_err(failed)?;
    for space in spaces.iter().filter(|space| !hubs::is_own(space)) {
        match look_at(&snapshot, space, key, &mut found)? {
            Ok(summary) => say(format_args!("{summary}"))?,
            Err(fault) => found(&format!("space {space}: {fault}"))?,
        }
    }
    match findings {
        0 => say(format_args!("{}: whole", path.display())),
        findings => Err(CommandError::Damaged { findings }),
    }
}

/// Reads all of a space, and says what it is then; or the fault that ended it.
fn look_at(
    snapshot: &SqliteSnapshot,
    space: &SpaceId,
    key: [u8; 32],
    found: &mut impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<Result<String, SqliteError>, CommandError> {
    let mut draft = Draft::open(snapshot, space, key, true);
    let (mut said, mut passes) = (Ok(()), 0);
    let mut say_once = |finding: String| {
        if said.is_ok() {
            said = found(&format!("space {space}: {finding}"));
        }
    };
    let done = draft.run(|host, note| {
        if let HostNote::Damaged { row, mended } = note {
            say_once(format!("a row is damaged: {row:?} ({mended:?} by a server that runs)"));
        } else if let HostNote::Fatal { class } = note {
            say_once(format!("it cannot be served: {class:?}"));
            return true;
        } else if let HostNote::Scrubbed { pass: Scrubbed { records, .. } } = note {
            // A pass that a server had begun has not read what was before its place.
            passes += 1;
            let facts = host.facts();
            let all: u64 = facts.collections.iter().map(|(_, _, count)| *count as u64).sum();
            return passes == 2 || *records >= all;
        }
        false
    });
    said?;
    if let Err(fault) = done {
        return Ok(Err(fault));
    }
    let facts = draft.host().facts();
    let mut summary = format!("space {space}: position {}", facts.head);
    for (name, root, records) in &facts.collections {
        summary.push_str(&format!("\n  {name}: {records} records, root {root}"));
    }
    Ok(Ok(summary))
}
