//! What is to be put into which file.

use crate::selection::{Selection, SelectionError};
use rejoin_core::id::{RecordKey, SpaceId};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Collections whose records are to be tables in a file: `tasks=tasks.sqlite`, `notes/*@team-*=notes.sqlite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    selection: Selection,
    file: PathBuf,
}

/// Why a text is no projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// There is no file in it.
    #[error("it is COLLECTIONS=FILE or COLLECTIONS@SPACES=FILE, as in tasks=tasks.sqlite")]
    Form,
    /// Something is no name.
    #[error(transparent)]
    Selection(#[from] SelectionError),
}

impl FromStr for Projection {
    type Err = ProjectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (selection, file) = text.split_once('=').ok_or(ProjectionError::Form)?;
        if file.is_empty() {
            return Err(ProjectionError::Form);
        }
        Ok(Self { selection: selection.parse()?, file: PathBuf::from(file) })
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.selection, self.file.display())
    }
}

impl Projection {
    /// Which file it goes into.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// All that goes into one file.
#[derive(Debug)]
pub(crate) struct FileOfTables {
    pub(crate) file: PathBuf,
    selections: Vec<Selection>,
}

/// Projections by their files.
pub(crate) fn by_file(projections: &[Projection]) -> Vec<FileOfTables> {
    let mut files: Vec<FileOfTables> = Vec::new();
    for Projection { selection, file } in projections {
        match files.iter_mut().find(|known| known.file == *file) {
            Some(known) => known.selections.push(selection.clone()),
            None => {
                let (file, selections) = (file.clone(), vec![selection.clone()]);
                files.push(FileOfTables { file, selections });
            }
        }
    }
    files
}

impl FileOfTables {
    /// Says what the file is filled with, the same for the same.
    pub(crate) fn about(&self) -> String {
        let mut parts: Vec<String> = self.selections.iter().map(ToString::to_string).collect();
        parts.sort();
        parts.dedup();
        parts.join(" ")
    }

    /// Whether anything of the space goes into it.
    pub(crate) fn is_about(&self, space: &SpaceId) -> bool {
        self.selections.iter().any(|selection| selection.is_about(space))
    }

    /// Whether a record goes into it.
    pub(crate) fn wants(&self, space: &SpaceId, key: &RecordKey) -> bool {
        self.selections.iter().any(|selection| selection.wants(space, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::id::{CollectionName, NameError, RecordId};

    fn projection(text: &str) -> Projection {
        text.parse().unwrap()
    }

    fn key(collection: &str) -> RecordKey {
        RecordKey {
            collection: CollectionName::parse(collection).unwrap(),
            id: RecordId::parse("a").unwrap(),
        }
    }

    #[test]
    fn a_text_names_what_goes_where() {
        let team = projection("notes/*@team-*=some/notes.sqlite");
        assert_eq!(team.to_string(), "notes/*@team-*=some/notes.sqlite");
        assert_eq!(projection(&team.to_string()), team);
        let empty = SelectionError::Collections(NameError::Empty);
        for (text, error) in [
            ("tasks", ProjectionError::Form),
            ("tasks=", ProjectionError::Form),
            ("=t", ProjectionError::Selection(empty)),
        ] {
            assert_eq!(text.parse::<Projection>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_goes_into_one_file_is_filled_together() {
        let all = ["tasks=a", "notes@one=a", "*@two=b"].map(projection);
        let files = by_file(&all);
        assert_eq!(files.len(), 2);
        let (one, two) = (SpaceId::parse("one").unwrap(), SpaceId::parse("two").unwrap());
        assert!(files[0].wants(&two, &key("tasks")) && files[0].wants(&one, &key("notes")));
        assert!(!files[0].wants(&two, &key("notes")));
        assert!(!files[1].is_about(&one) && files[1].wants(&two, &key("anything")));
        assert_eq!(files[0].about(), "notes@one tasks@*");
    }
}
