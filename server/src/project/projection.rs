//! What is to be put into which file.

use crate::auth::SpacePattern;
use rejoin_core::id::{NameError, Pattern, RecordKey, SpaceId};
use std::{fmt, path::PathBuf, str::FromStr};

/// Collections whose records are to be tables in a file: `tasks=tasks.sqlite`, `notes/*@team-*=notes.sqlite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    collections: Pattern,
    spaces: SpacePattern,
    file: PathBuf,
}

/// Why a text is no projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// There is no file in it.
    #[error("it is COLLECTIONS=FILE or COLLECTIONS@SPACES=FILE, as in tasks=tasks.sqlite")]
    Form,
    /// The collections are no names.
    #[error("the collections: {0}")]
    Collections(NameError),
    /// The spaces are no names.
    #[error("the spaces: {0}")]
    Spaces(NameError),
}

impl FromStr for Projection {
    type Err = ProjectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (what, file) = text.split_once('=').ok_or(ProjectionError::Form)?;
        if file.is_empty() {
            return Err(ProjectionError::Form);
        }
        let (collections, spaces) = what.split_once('@').unwrap_or((what, "*"));
        Ok(Self {
            collections: Pattern::parse(collections).map_err(ProjectionError::Collections)?,
            spaces: SpacePattern::parse(spaces).map_err(ProjectionError::Spaces)?,
            file: PathBuf::from(file),
        })
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}={}", self.collections, self.spaces, self.file.display())
    }
}

/// All that goes into one file.
#[derive(Debug)]
pub(crate) struct FileOfTables {
    pub(crate) file: PathBuf,
    projections: Vec<Projection>,
}

/// Projections by their files.
pub(crate) fn by_file(projections: &[Projection]) -> Vec<FileOfTables> {
    let mut files: Vec<FileOfTables> = Vec::new();
    for projection in projections {
        let projection = projection.clone();
        match files.iter_mut().find(|known| known.file == projection.file) {
            Some(known) => known.projections.push(projection),
            None => {
                let file = projection.file.clone();
                files.push(FileOfTables { file, projections: vec![projection] });
            }
        }
    }
    files
}

impl FileOfTables {
    /// Says what the file is filled with, the same for the same.
    pub(crate) fn about(&self) -> String {
        let parts = self.projections.iter();
        let mut parts: Vec<String> =
            parts.map(|part| format!("{}@{}", part.collections, part.spaces)).collect();
        parts.sort();
        parts.dedup();
        parts.join(" ")
    }

    /// Whether anything of the space goes into it.
    pub(crate) fn is_about(&self, space: &SpaceId) -> bool {
        self.projections.iter().any(|part| part.spaces.covers(space))
    }

    /// Whether a record goes into it.
    pub(crate) fn wants(&self, space: &SpaceId, key: &RecordKey) -> bool {
        let mut parts = self.projections.iter();
        parts.any(|part| part.spaces.covers(space) && part.collections.covers(&key.collection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::id::{CollectionName, RecordId};

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
    fn a_text_names_collections_spaces_and_a_file() {
        let team = projection("notes/*@team-*=some/notes.sqlite");
        assert_eq!(team.to_string(), "notes/*@team-*=some/notes.sqlite");
        assert_eq!(projection(&team.to_string()), team);
        assert_eq!(projection("tasks=t.sqlite"), projection("tasks@*=t.sqlite"));
        for (text, error) in [
            ("tasks", ProjectionError::Form),
            ("tasks=", ProjectionError::Form),
            ("=t", ProjectionError::Collections(NameError::Empty)),
            ("tasks@=t", ProjectionError::Spaces(NameError::Empty)),
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
