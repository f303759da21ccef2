//! Version vector: the latest stamp of each replica.

use crate::{
    hlc::{Hlc, Stamp},
    id::ReplicaId,
    sorted::{self, SortedMap},
};

/// Latest hybrid time per replica; a replica without an entry has written nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct VersionVector(SortedMap<ReplicaId, Hlc>);

impl VersionVector {
    /// No entries.
    #[must_use]
    pub const fn new() -> Self {
        Self(SortedMap::new())
    }

    /// The entry of `replica`.
    #[must_use]
    pub fn get(&self, replica: &ReplicaId) -> Option<Hlc> {
        self.0.get(replica).copied()
    }

    /// Whether the write `stamp` is included.
    #[must_use]
    pub fn covers(&self, stamp: &Stamp) -> bool {
        self.get(&stamp.replica).is_some_and(|last| last >= stamp.hlc)
    }

    /// Raises an entry to at least `hlc`; tells whether it grew.
    pub fn raise(&mut self, replica: ReplicaId, hlc: Hlc) -> bool {
        match self.0.entry(replica) {
            sorted::Entry::Vacant(entry) => {
                entry.insert(hlc);
                true
            }
            sorted::Entry::Occupied(known) if *known < hlc => {
                *known = hlc;
                true
            }
            sorted::Entry::Occupied(_) => false,
        }
    }

    /// Sets an entry, also to an earlier time.
    pub fn set(&mut self, replica: ReplicaId, hlc: Hlc) {
        self.0.insert(replica, hlc);
    }

    /// Forgets an entry.
    pub fn remove(&mut self, replica: &ReplicaId) {
        self.0.remove(replica);
    }

    /// Whether some entry is later than the same entry of `other`.
    #[must_use]
    pub fn exceeds(&self, other: &Self) -> bool {
        self.iter().any(|stamp| !other.covers(&stamp))
    }

    /// Entry-wise maximum with `other`.
    pub fn join(&mut self, other: &Self) {
        for stamp in other.iter() {
            self.raise(stamp.replica, stamp.hlc);
        }
    }

    /// Entry-wise minimum: what both include.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        self.iter()
            .filter_map(|stamp| Some((stamp.replica, other.get(&stamp.replica)?.min(stamp.hlc))))
            .collect()
    }

    /// The entries, as the stamps of the last writes, by replica.
    pub fn iter(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.0.iter().map(|(replica, hlc)| Stamp { hlc: *hlc, replica: *replica })
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ReplicaId, Hlc)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, Hlc)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (replica, hlc) in entries {
            vector.raise(replica, hlc);
        }
        vector
    }
}
