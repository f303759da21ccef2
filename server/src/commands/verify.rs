//! `verify`: whether what is stored is whole: of a server, also while it runs, or in a backup.
//!
//! The structure of the file is checked by SQLite; all else by a host that runs on a draft of each space and reads
//! everything again, as a server does now and then (`scrub`). The roots of its trees are compared with those of the
//! records alone. Nothing is changed.

use super::{
    CommandError,
    draft::Draft,
    look::Look,
    manifest::{Entry, Manifest},
    say,
};
use crate::secret;
use rejoin_core::{
    hlc::Hlc,
    id::{CollectionName, Digest, Pattern, SpaceId, key_hash},
    protocol::host::{HostNote, Scrubbed},
    tree::Trie,
};
use rejoin_sqlite::SqliteError;
use std::path::Path;

/// Looks at a directory of a server, or a backup, and says what it finds.
pub(crate) fn run(path: &Path) -> Result<(), CommandError> {
    let look = Look::open(path)?;
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
    for finding in look.of(look.snapshot.integrity_check())? {
        found(&format!("the database: {finding}"))?;
    }
    let key = secret::read_key(path);
    let key = key.map_err(|error| CommandError::file(path, error))?;
    for space in look.spaces()? {
        match look_at(&look, &space, key, &mut found)? {
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
    look: &Look,
    space: &SpaceId,
    key: [u8; 32],
    found: &mut impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<Result<String, SqliteError>, CommandError> {
    let mut draft = Draft::open(&look.snapshot, space, key, true);
    let (mut said, mut passes, mut is_whole) = (Ok(()), 0, true);
    let mut say_all = |finding: String| {
        is_whole = false;
        if said.is_ok() {
            said = found(&format!("space {space}: {finding}"));
        }
    };
    let done = draft.run(|host, note| {
        if let HostNote::Damaged { row, mended } = note {
            say_all(format!("a row is damaged: {row:?} ({mended:?} by a server that runs)"));
        } else if let HostNote::Fatal { class } = note {
            say_all(format!("it cannot be served: {class:?}"));
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
    // What was damaged is mended in the draft alone.
    let stored = if is_whole { look.collections(space, &Pattern::All)? } else { Vec::new() };
    for name in stored {
        let tree = facts.collections.iter().find(|(known, ..)| *known == name);
        let tree = tree.map_or_else(|| Trie::default().root(), |(_, root, _)| *root);
        if root_of(look, space, &name, facts.horizon)? != tree {
            found(&format!("space {space}, {name}: the tree is not that of the records"))?;
        }
    }
    Ok(Ok(summary))
}

/// The root of a collection, of nothing but its records: those that are dead since then are in no tree.
fn root_of(
    look: &Look,
    space: &SpaceId,
    collection: &CollectionName,
    horizon: Hlc,
) -> Result<Digest, CommandError> {
    let mut trie = Trie::default();
    look.records(space, collection, &mut |key, stored| {
        if stored.record.burial().is_none_or(|at| at > horizon) {
            trie.insert(key_hash(key), stored.digest);
        }
        Ok(())
    })?;
    Ok(trie.root())
}
