//! Which records something is about: collections, in spaces. Written `tasks`, `notes/*@team-*`.

use crate::auth::SpacePattern;
use rejoin_core::id::{NameError, Pattern, RecordKey, SpaceId};
use std::{fmt, str::FromStr};

/// Collections in spaces; without spaces, in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    collections: Pattern,
    spaces: SpacePattern,
}

/// Why a text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// The collections are no names.
    #[error("the collections: {0}")]
    Collections(NameError),
    /// The spaces are no names.
    #[error("the spaces: {0}")]
    Spaces(NameError),
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (collections, spaces) = text.split_once('@').unwrap_or((text, "*"));
        Ok(Self {
            collections: Pattern::parse(collections).map_err(SelectionError::Collections)?,
            spaces: SpacePattern::parse(spaces).map_err(SelectionError::Spaces)?,
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.collections, self.spaces)
    }
}

impl Selection {
    /// Whether anything of the space is selected.
    pub(crate) fn is_about(&self, space: &SpaceId) -> bool {
        self.spaces.covers(space)
    }

    /// Whether a record is selected.
    pub(crate) fn wants(&self, space: &SpaceId, key: &RecordKey) -> bool {
        self.spaces.covers(space) && self.collections.covers(&key.collection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::id::{CollectionName, RecordId};

    #[test]
    fn a_text_names_collections_and_spaces() {
        let selection: Selection = "notes/*@team-*".parse().unwrap();
        assert_eq!(selection.to_string(), "notes/*@team-*");
        let all: Selection = "tasks".parse().unwrap();
        assert_eq!(all, "tasks@*".parse().unwrap());
        let team = SpaceId::parse("team-1").unwrap();
        let key = |collection| RecordKey {
            collection: CollectionName::parse(collection).unwrap(),
            id: RecordId::parse("a").unwrap(),
        };
        assert!(selection.wants(&team, &key("notes/x")) && !selection.wants(&team, &key("tasks")));
        assert!(!selection.is_about(&SpaceId::parse("other").unwrap()) && all.is_about(&team));
        for (text, error) in [
            ("", SelectionError::Collections(NameError::Empty)),
            ("tasks@", SelectionError::Spaces(NameError::Empty)),
        ] {
            assert_eq!(text.parse::<Selection>(), Err(error), "{text}");
        }
    }
}
