//! Names: replicas, spaces, collections, records, fields, epochs, sequence numbers, digests.
//!
//! Every type here is parsed once, at the border; a value that exists is valid. Names are compared
//! as bytes, without Unicode normalisation. Nothing here generates an id: randomness is an argument.

use alloc::{string::String, sync::Arc};
use core::fmt;

/// Largest length of a space name, in bytes.
pub const SPACE_BYTES_MAX: usize = 128;
/// Largest length of a collection name, in bytes.
pub const COLLECTION_BYTES_MAX: usize = 256;
/// Largest length of a record id, in bytes.
pub const RECORD_ID_BYTES_MAX: usize = 512;
/// Largest length of a field name, in bytes.
pub const FIELD_BYTES_MAX: usize = 256;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no bytes.
    #[error("the name is empty")]
    Empty,
    /// The name is longer than its kind allows.
    #[error("the name has {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The name contains a control character, or a path with an empty segment.
    #[error("the name has a control character or an empty path segment at byte {at}")]
    Character {
        /// Offset of the offending byte.
        at: usize,
    },
}

fn check(name: &str, max: usize, path: bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > max {
        return Err(NameError::TooLong { got: name.len(), max });
    }
    let mut previous = '/';
    for (at, character) in name.char_indices() {
        if character.is_control() || (path && character == '/' && previous == '/') {
            return Err(NameError::Character { at });
        }
        previous = character;
    }
    if path && previous == '/' {
        return Err(NameError::Character { at: name.len() - 1 });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $max:expr, path: $path:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks length and characters.
            ///
            /// # Errors
            /// [`NameError`] when the name is empty, too long, has a control character or, where it is
            /// a path, an empty segment.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                check(name, $max, $path)?;
                Ok(Self(Arc::from(name)))
            }

            /// The name as given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A set of records that syncs and is authorised as a unit; at most [`SPACE_BYTES_MAX`] bytes.
    SpaceId, SPACE_BYTES_MAX, path: true
}
name! {
    /// A named group of records; may be a path (`tasks/42`); at most [`COLLECTION_BYTES_MAX`] bytes.
    CollectionName, COLLECTION_BYTES_MAX, path: true
}
name! {
    /// A record's id within its collection; at most [`RECORD_ID_BYTES_MAX`] bytes.
    RecordId, RECORD_ID_BYTES_MAX, path: false
}
name! {
    /// A field of a record; at most [`FIELD_BYTES_MAX`] bytes.
    FieldName, FIELD_BYTES_MAX, path: false
}

/// Which collections a subscription or a right covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// Every collection of the space. Written `*`.
    All,
    /// One collection. Written as its name.
    Exact(CollectionName),
    /// The collection of this name and all below it. Written `name/*`.
    Prefix(CollectionName),
}

impl Pattern {
    /// Parses `*`, `name` or `name/*`.
    ///
    /// # Errors
    /// [`NameError`] when the name part is not a collection name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "*" {
            return Ok(Self::All);
        }
        match text.strip_suffix("/*") {
            Some(name) => CollectionName::parse(name).map(Self::Prefix),
            None => CollectionName::parse(text).map(Self::Exact),
        }
    }

    /// Whether `collection` is covered.
    #[must_use]
    pub fn covers(&self, collection: &CollectionName) -> bool {
        match self {
            Self::All => true,
            Self::Exact(name) => name == collection,
            Self::Prefix(name) => collection
                .as_str()
                .strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// Whether every collection that `other` covers is covered.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match other {
            Self::All => *self == Self::All,
            Self::Exact(name) => self.covers(name),
            Self::Prefix(name) => !matches!(self, Self::Exact(_)) && self.covers(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Exact(name) => write!(f, "{name}"),
            Self::Prefix(name) => write!(f, "{name}/*"),
        }
    }
}

/// The name of a record within its space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The collection it belongs to.
    pub collection: CollectionName,
    /// Its id there.
    pub id: RecordId,
}

impl RecordKey {
    /// A bound before every record of `collection`; not itself the name of a record.
    #[must_use]
    pub(crate) fn before_all_of(collection: &CollectionName) -> Self {
        Self { collection: collection.clone(), id: RecordId(Arc::from("")) }
    }

    /// The key under which stores keep the record: collection, a zero byte, id. Neither name has a
    /// zero byte, so records order by collection, then by id.
    #[must_use]
    pub fn to_store_key(&self) -> alloc::vec::Vec<u8> {
        let mut key = self.collection.as_str().as_bytes().to_vec();
        key.push(0);
        key.extend_from_slice(self.id.as_str().as_bytes());
        key
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.collection, self.id)
    }
}

macro_rules! bytes16 {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type([u8; 16]);

        impl $type {
            /// Takes 16 bytes of good randomness.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes given.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

bytes16! {
    /// One durable copy of a space. A cleared or copied database is a new replica.
    ReplicaId
}
bytes16! {
    /// One run of a replica's session machinery; a fork is two incarnations claiming one replica.
    Incarnation
}
bytes16! {
    /// One run of a server: every start opens a new random epoch.
    Epoch
}

/// Position in one server's feed; grows by one per accepted batch and never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Place in one server's feed, meaningful only to that server: everything up to and including `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The server run that issued it.
    pub epoch: Epoch,
    /// The last position that is included.
    pub seq: Seq,
}

/// BLAKE3 hash of one thing's canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps 32 bytes that are a digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes `parts`, each preceded by its length, under `domain`: no two different lists of parts
    /// collide by moving a byte across a border.
    #[must_use]
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(domain.len() as u64).to_be_bytes());
        hasher.update(domain.as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        let nibbles = self.0.iter().take(8).flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the tree knows of a record's name.
#[must_use]
pub fn key_hash(key: &RecordKey) -> Digest {
    Digest::of("rejoin.key.v1", &[key.collection.as_str().as_bytes(), key.id.as_str().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_paths_cannot_hold() {
        assert_eq!(CollectionName::parse(""), Err(NameError::Empty));
        assert_eq!(CollectionName::parse("a//b"), Err(NameError::Character { at: 2 }));
        assert_eq!(CollectionName::parse("/a"), Err(NameError::Character { at: 0 }));
        assert_eq!(CollectionName::parse("a/"), Err(NameError::Character { at: 1 }));
        assert_eq!(RecordId::parse("a\u{0}b"), Err(NameError::Character { at: 1 }));
        assert!(RecordId::parse("a//b").is_ok());
        let too_long = Err(NameError::TooLong { got: 257, max: 256 });
        assert_eq!(FieldName::parse(&"x".repeat(257)), too_long);
        assert!(FieldName::parse(&"x".repeat(256)).is_ok());
    }

    #[test]
    fn prefix_covers_its_name_and_all_below_but_no_sibling() {
        let prefix = Pattern::parse("tasks/*").unwrap();
        for (name, covered) in
            [("tasks", true), ("tasks/42", true), ("tasks/42/a", true), ("tasks2", false)]
        {
            assert_eq!(prefix.covers(&CollectionName::parse(name).unwrap()), covered, "{name}");
        }
    }

    #[test]
    fn pattern_contains_those_that_cover_no_more_than_it() {
        let names =
            ["tasks", "tasks/42", "tasks/42/a", "tasks/42/a/b", "tasks/7", "notes", "notes/a"];
        let names = names.map(|name| CollectionName::parse(name).unwrap());
        let patterns = ["*", "tasks", "tasks/*", "tasks/42", "tasks/42/*", "notes", "notes/*"];
        let patterns = patterns.map(|pattern| Pattern::parse(pattern).unwrap());
        for whole in &patterns {
            for part in &patterns {
                let covered = names.iter().all(|name| !part.covers(name) || whole.covers(name));
                // Only `*` covers what is not among the names.
                let contained = covered && (*whole == Pattern::All || *part != Pattern::All);
                assert_eq!(whole.contains(part), contained, "{whole} contains {part}");
            }
        }
        let many = patterns.map(|pattern| names.iter().filter(|name| pattern.covers(name)).count());
        assert_eq!(many, [7, 1, 5, 1, 3, 1, 2]);
    }

    #[test]
    fn positions_and_digests_are_told_as_people_read_them() {
        assert_eq!(alloc::format!("{}", Seq(42)), "42");
        let mut bytes = [0; 32];
        bytes[..9].copy_from_slice(&[0x0f, 0xa0, 1, 2, 3, 4, 5, 0xff, 0x77]);
        assert_eq!(Digest::from_bytes(bytes).short(), "0fa00102030405ff");
    }

    #[test]
    fn key_hash_keeps_collection_and_id_apart() {
        let key = |collection, id| {
            key_hash(&RecordKey {
                collection: CollectionName::parse(collection).unwrap(),
                id: RecordId::parse(id).unwrap(),
            })
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
    }
}
