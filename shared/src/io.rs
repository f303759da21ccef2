//! The effect vocabulary: what machines ask of a store, as values.
//!
//! A store is an ordered byte map with guarded batches. It never merges and never sees a record.

use alloc::vec::Vec;
use core::num::NonZeroU32;

/// Separate key ranges of one store. A closed set: a new one is a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// Server: joined records, by (collection, id).
    Records,
    /// Server: one entry per record, by the seq of its latest change.
    Feed,
    /// Server: (key hash, digest) of each record, by collection and key hash.
    Tree,
    /// Client: outbox rows and received changes, in order. Server: accepted rows by stamp.
    Log,
    /// Client: folded records, many to a row.
    Page,
    /// Everything there is one of: identity, cursors, head, lineage.
    Meta,
}

impl Keyspace {
    /// Every keyspace, in declaration order.
    pub const ALL: [Self; 6] =
        [Self::Records, Self::Feed, Self::Tree, Self::Log, Self::Page, Self::Meta];

    /// Stable lower-case name, used for tables and object stores.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Feed => "feed",
            Self::Tree => "tree",
            Self::Log => "log",
            Self::Page => "page",
            Self::Meta => "meta",
        }
    }
}

/// Half-open range of keys: `start` included, `end` excluded; no `end` means to the last key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRange {
    /// First key that can be in the range.
    pub start: Vec<u8>,
    /// First key behind the range.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Self { start: prefix.to_vec(), end: Some(end) };
            }
        }
        Self { start: prefix.to_vec(), end: None }
    }
}

/// One stored pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Ordered bytewise, unsigned.
    pub key: Vec<u8>,
    /// Opaque to the store.
    pub value: Vec<u8>,
}

/// Part of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Ascending by key.
    pub rows: Vec<Row>,
    /// Whether a key of the range follows the last row.
    pub more: bool,
}

/// One read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The value of one key.
    Get {
        /// Where.
        keyspace: Keyspace,
        /// Which.
        key: Vec<u8>,
    },
    /// The first rows of a range.
    Scan {
        /// Where.
        keyspace: Keyspace,
        /// Which.
        range: KeyRange,
        /// At most so many rows.
        limit: NonZeroU32,
        /// And so many bytes: the row with which the values reach them is the last one.
        bytes: NonZeroU32,
    },
}

impl Query {
    /// The first `limit` rows of a range, however large.
    #[must_use]
    pub const fn scan(keyspace: Keyspace, range: KeyRange, limit: NonZeroU32) -> Self {
        Self::Scan { keyspace, range, limit, bytes: NonZeroU32::MAX }
    }
}

/// What a scan may still take: where each store ends its page.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    rows: u32,
    bytes: u32,
}

impl Room {
    /// The limits of a [`Query::Scan`].
    #[must_use]
    pub const fn new(limit: NonZeroU32, bytes: NonZeroU32) -> Self {
        Self { rows: limit.get(), bytes: bytes.get() }
    }

    /// Whether the last row was taken: if there is another one, the page has more behind it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    /// One more row was taken.
    pub fn take(&mut self, row: &Row) {
        self.rows = self.rows.saturating_sub(1);
        let bytes = u32::try_from(row.value.len()).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What a [`Query`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Get`; absent is `None`.
    Value(Option<Vec<u8>>),
    /// To `Scan`.
    Page(Page),
}

/// The bytes that a batch was based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Where.
    pub keyspace: Keyspace,
    /// Which.
    pub key: Vec<u8>,
    /// The exact value it must have; `None` means that the key must be absent.
    pub seen: Option<Vec<u8>>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Where.
        keyspace: Keyspace,
        /// Key and value.
        row: Row,
    },
    /// Removes a key; removing an absent key is no error.
    Delete {
        /// Where.
        keyspace: Keyspace,
        /// Which.
        key: Vec<u8>,
    },
}

/// Writes that go together, and what they were based on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Applied in order; the later write to a key wins.
    pub writes: Vec<Write>,
    /// Whether the commit may be reported before it is on stable storage (`relaxed`). The default,
    /// `false`, means that it may not.
    pub relaxed: bool,
}

impl Batch {
    /// Adds a write that sets a key.
    pub fn put(&mut self, keyspace: Keyspace, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(Write::Put { keyspace, row: Row { key, value } });
    }

    /// Adds a write that removes a key.
    pub fn delete(&mut self, keyspace: Keyspace, key: Vec<u8>) {
        self.writes.push(Write::Delete { keyspace, key });
    }

    /// Adds a guard.
    pub fn guard(&mut self, keyspace: Keyspace, key: Vec<u8>, seen: Option<Vec<u8>>) {
        self.guards.push(Guard { keyspace, key, seen });
    }
}

/// What became of a batch whose guards were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// All writes are durable (or, where the batch says `relaxed`, complete).
    Applied,
    /// A guard did not hold; nothing was written. Read again, join again, try again.
    Conflict,
}

/// What can be done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultClass {
    /// Trying again can help.
    Transient,
    /// No space left: go read-only and tell.
    Full,
    /// The stored data is damaged: stop and quarantine.
    Corrupt,
    /// Nothing helps: give up.
    Permanent,
}

/// Names one effect of a machine; issued by the machine and unique within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);
