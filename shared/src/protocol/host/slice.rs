//! One slice of a scrub: rows of one scan, checked by themselves, and what they speak of.
//!
//! Absent: comparing them with that, and what becomes of those that are damaged (see `scrub` and `damage`).

use super::{
    damage::{Suspect, whole},
    heal::get_record,
    layout::{self, Accepted, CopiedRow, CopyRow, ReplicaRow, TreeRow},
};
use crate::{
    codec::CodecError,
    hlc::Stamp,
    id::{Digest, RecordKey, ReplicaId, Seq, key_hash},
    io::{KeyRange, Keyspace, Query, Row},
    protocol::message::Origin,
    sorted::SortedSet,
};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// Rows of one slice.
pub(super) const SLICE_ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
/// Where a pass goes on: behind a key, in the order of its ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) way: Way,
    pub(super) start: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Feed,
    Tree,
    Log,
    Replicas,
    Returned,
    Graves,
    Ledgers,
    Copied,
    /// What there is one of.
    Single,
}

impl Way {
    const ALL: [Self; 9] = [
        Self::Feed,
        Self::Tree,
        Self::Log,
        Self::Replicas,
        Self::Returned,
        Self::Graves,
        Self::Ledgers,
        Self::Copied,
        Self::Single,
    ];

    /// As it is stored.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Feed => 0,
            Self::Tree => 1,
            Self::Log => 2,
            Self::Replicas => 3,
            Self::Returned => 4,
            Self::Graves => 5,
            Self::Ledgers => 6,
            Self::Copied => 7,
            Self::Single => 8,
        }
    }

    pub(super) fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|way| u64::from(way.number()) == number)
    }

    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Feed => Some(Self::Tree),
            Self::Tree => Some(Self::Log),
            Self::Log => Some(Self::Replicas),
            Self::Replicas => Some(Self::Returned),
            Self::Returned => Some(Self::Graves),
            Self::Graves => Some(Self::Ledgers),
            Self::Ledgers => Some(Self::Copied),
            Self::Copied => Some(Self::Single),
            Self::Single => None,
        }
    }
}

impl Place {
    pub(super) const fn at(way: Way) -> Self {
        Self { way, start: Vec::new() }
    }

    pub(super) fn query(&self) -> Query {
        let prefix = |prefix| (Keyspace::Meta, KeyRange::prefix(prefix));
        let (keyspace, mut range) = match self.way {
            Way::Feed => (Keyspace::Feed, KeyRange::default()),
            Way::Tree => (Keyspace::Tree, KeyRange::default()),
            Way::Log => (Keyspace::Log, KeyRange::default()),
            Way::Replicas => prefix(layout::REPLICA_PREFIX),
            Way::Returned => prefix(layout::RETURNED_PREFIX),
            Way::Graves => prefix(layout::GRAVE_KEY),
            Way::Ledgers => prefix(layout::LEDGER_KEY),
            Way::Copied => prefix(layout::COPIED_PREFIX),
            Way::Single => prefix(layout::LINEAGE_KEY),
        };
        range.start = range.start.max(self.start.clone());
        Query::scan(keyspace, range, SLICE_ROWS)
    }
}

/// Rows of one scan.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Of the feed: position, record, and the length that is told of it.
    pub(super) feed: Vec<(Seq, RecordKey, u64)>,
    /// Of the trees: record, its hash, and what is told of it.
    pub(super) tree: Vec<(RecordKey, Digest, TreeRow)>,
    /// Of the accepted rows: those that stand under an origin too, and what stands there.
    pub(super) copies: Vec<(Origin, CopyRow)>,
    /// Bytes of the records that they name.
    pub(super) bytes: u64,
    /// Rows that cannot be read.
    pub(super) suspects: SortedSet<Suspect>,
}

impl Slice {
    pub(super) fn take(&mut self, way: Way, row: Row) -> Result<(), CodecError> {
        let Row { key, value } = row;
        match way {
            Way::Feed => {
                match (layout::parse_feed_key(&key), whole(Some(layout::decode_len(&value)))?) {
                    (Ok((seq, record)), Some(len)) => self.feed.push((seq, record, len)),
                    (Ok((seq, record)), None) => {
                        self.suspects.insert(Suspect::Record(record, Some(seq)));
                    }
                    (Err(_), _) => drop(self.suspects.insert(Suspect::Row(Keyspace::Feed, key))),
                }
            }
            Way::Tree => self.take_tree(key, &value)?,
            Way::Log => self.take_log(key, &value)?,
            Way::Replicas => {
                let is_whole = whole(Some(ReplicaRow::decode(&value)))?.is_some();
                self.take_meta(key, layout::REPLICA_PREFIX, is_whole, Suspect::Replica);
            }
            Way::Returned => {
                let is_whole = whole(Some(layout::decode_time(&value)))?.is_some();
                self.take_meta(key, layout::RETURNED_PREFIX, is_whole, Suspect::Returned);
            }
            Way::Copied => {
                let is_whole = whole(Some(CopiedRow::decode(&value)))?.is_some();
                self.take_meta(key, layout::COPIED_PREFIX, is_whole, Suspect::Copied);
            }
            // It has no value, and of its record only that counts which the record says.
            Way::Graves => {
                if layout::parse_grave(&key).is_err() {
                    self.suspects.insert(Suspect::Row(Keyspace::Meta, key));
                }
            }
            Way::Ledgers => {
                let is_whole = whole(Some(layout::decode_ledger(&value)))?.is_some();
                if layout::parse_ledger_key(&key).is_none() || !is_whole {
                    self.suspects.insert(Suspect::ledger(key));
                }
            }
            Way::Single => {}
        }
        Ok(())
    }

    fn take_log(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), CodecError> {
        match (layout::parse_log_key(&key), layout::parse_origin_key(&key)) {
            (Some(stamp), _) => match whole(Some(Accepted::decode(value)))? {
                Some(row) => self.copies.extend(copy_of(stamp, &row)),
                None => {
                    self.suspects.insert(Suspect::Accepted(stamp.replica, stamp.hlc));
                }
            },
            (None, Some(origin)) => {
                if whole(Some(CopyRow::decode(value)))?.is_none() {
                    self.suspects.insert(Suspect::Copy(origin, None));
                }
            }
            (None, None) => drop(self.suspects.insert(Suspect::Row(Keyspace::Log, key))),
        }
        Ok(())
    }

    /// A row that says something of a replica.
    fn take_meta(
        &mut self,
        key: Vec<u8>,
        prefix: &[u8],
        is_whole: bool,
        suspect: fn(ReplicaId) -> Suspect,
    ) {
        match layout::parse_replica(&key, prefix) {
            Some(_) if is_whole => {}
            Some(replica) => drop(self.suspects.insert(suspect(replica))),
            None => drop(self.suspects.insert(Suspect::Row(Keyspace::Meta, key))),
        }
    }

    fn take_tree(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), CodecError> {
        let row = whole(Some(TreeRow::decode(value)))?;
        match (layout::parse_tree_key(&key), row) {
            (Ok((collection, hash)), Some(row)) => {
                let record = RecordKey { collection, id: row.id.clone() };
                if key_hash(&record) == hash {
                    self.bytes = self.bytes.saturating_add(row.len);
                    self.tree.push((record, hash, row));
                } else {
                    self.suspects.insert(Suspect::Row(Keyspace::Tree, key));
                }
            }
            (Ok((collection, hash)), None) => {
                self.suspects.insert(Suspect::Leaf(collection, hash));
            }
            (Err(_), _) => drop(self.suspects.insert(Suspect::Row(Keyspace::Tree, key))),
        }
        Ok(())
    }

    /// What its rows speak of.
    pub(super) fn queries(&self) -> Vec<Query> {
        let get = |keyspace, key| Query::Get { keyspace, key };
        let leaf = |key: &RecordKey| layout::tree_key(&key.collection, &key_hash(key));
        let of_feed = self.feed.iter().map(|(_, key, _)| get(Keyspace::Tree, leaf(key)));
        let of_tree = self.tree.iter().flat_map(|(key, _, row)| {
            [get_record(key), get(Keyspace::Feed, layout::feed_key(row.seq, key))]
        });
        let origin = |(origin, _): &(Origin, _)| get(Keyspace::Log, layout::origin_key(origin));
        of_feed.chain(of_tree).chain(self.copies.iter().map(origin)).collect()
    }
}

/// What stands under the origin of an accepted row, if that has another stamp.
pub(super) fn copy_of(stamp: Stamp, row: &Accepted) -> Option<(Origin, CopyRow)> {
    let origin = Origin { stamp: row.first?, digest: row.digest };
    Some((origin, CopyRow { stamp: Some(stamp), seq: row.seq }))
}
