//! What only all records together tell, read when a damaged row said it: how far a replica's writes are there, and of
//! which record a row of a tree was.
//!
//! Invariant: it changes nothing, and is taken while nothing else is committed. Absent: what becomes of it (see
//! `damage`).

use super::{
    damage::{Suspect, is_later},
    layout::{self, Stored},
};
use crate::{
    codec::CodecError,
    hlc::Hlc,
    id::{CollectionName, Digest, RecordKey, ReplicaId, key_hash},
    io::{KeyRange, Keyspace, Query, Row},
    sorted::{SortedMap, SortedSet},
};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// Bytes of one read, about.
const SURVEY_BYTES: NonZeroU32 = NonZeroU32::MIN.saturating_add((1 << 20) - 1);

/// What is asked of the records, and what those that were read say.
#[derive(Debug)]
pub(super) struct Survey {
    /// The greatest time of each replica in any record; `None` in none.
    seen: SortedMap<ReplicaId, Option<Hlc>>,
    /// Records by the leaves asked for.
    named: SortedMap<(CollectionName, Digest), Option<RecordKey>>,
}

impl Survey {
    /// What the suspects leave open.
    pub(super) fn of(suspects: &SortedSet<Suspect>) -> Self {
        let replicas = suspects.iter().filter_map(|suspect| {
            if let Suspect::Returned(replica) | Suspect::Accepted(replica, _) = suspect {
                Some((*replica, None))
            } else {
                None
            }
        });
        let leaves = suspects.iter().filter_map(|suspect| {
            if let Suspect::Leaf(collection, hash) = suspect {
                Some(((collection.clone(), *hash), None))
            } else {
                None
            }
        });
        Self { seen: replicas.collect(), named: leaves.collect() }
    }

    /// Reads records from a key on.
    pub(super) fn query(start: Vec<u8>) -> Query {
        let range = KeyRange { start, end: None };
        let (limit, bytes) = (NonZeroU32::MAX, SURVEY_BYTES);
        Query::Scan { keyspace: Keyspace::Records, range, limit, bytes }
    }

    /// Takes in a record. One that is damaged has its name, and says nothing of replicas: if it was brought back,
    /// it will be so once more.
    ///
    /// # Errors
    /// [`CodecError`] when it is of a later version.
    pub(super) fn take(&mut self, row: &Row) -> Result<(), CodecError> {
        if let Ok(key) = layout::parse_record_key(&row.key)
            && let Some(named) = self.named.get_mut(&(key.collection.clone(), key_hash(&key)))
        {
            *named = Some(key);
        }
        match Stored::decode(&row.value) {
            Ok(stored) => {
                for (replica, greatest) in &mut self.seen {
                    *greatest = stored.record.seen.get(replica).max(*greatest);
                }
                Ok(())
            }
            Err(later) if is_later(&later) => Err(later),
            Err(_) => Ok(()),
        }
    }

    /// The greatest time of a replica in any record.
    pub(super) fn seen(&self, replica: &ReplicaId) -> Option<Hlc> {
        self.seen.get(replica).copied().flatten()
    }

    /// The suspects, leaves by the names of their records where there are such.
    pub(super) fn name(&self, suspects: SortedSet<Suspect>) -> SortedSet<Suspect> {
        let name = |suspect| {
            if let Suspect::Leaf(collection, hash) = &suspect
                && let Some(Some(key)) = self.named.get(&(collection.clone(), *hash))
            {
                return Suspect::record(key);
            }
            suspect
        };
        suspects.into_iter().map(name).collect()
    }
}
