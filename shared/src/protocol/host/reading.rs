//! Reading what a host stores without asking it: queries, and what their answers say. For who wants to see records
//! and not to hold them.
//!
//! What is read is what was committed, in one snapshot for each read. Where two reads follow each other a record may
//! have moved on between them: it stands at a later place of the feed then. Absent: rights, and what to do about rows
//! that are damaged (the host finds them when it reads them itself).

use super::layout::{self, Head, ReplicaRow, Stored};
use crate::{
    codec::{CodecError, CodecFault},
    hlc::Hlc,
    id::{CollectionName, Cursor, Digest, Epoch, Pattern, RecordId, RecordKey, ReplicaId, Seq},
    io::{Answer, KeyRange, Keyspace, Query, Row},
    protocol::message::{Left, Place},
    record::Record,
};
use alloc::{string::String, vec::Vec};
use core::num::NonZeroU32;

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its state.
    pub record: Record,
    /// Its place in the feed.
    pub seq: Seq,
    /// Of its state.
    pub digest: Digest,
}

impl StoredRecord {
    /// Asks for one record.
    #[must_use]
    pub fn query(key: &RecordKey) -> Query {
        super::heal::get_record(key)
    }

    /// Asks for records of a collection by id (bytes of UTF-8), behind one, dead ones among them.
    #[must_use]
    pub fn query_all(
        collection: &CollectionName,
        after: Option<&RecordId>,
        limit: NonZeroU32,
        bytes: NonZeroU32,
    ) -> Query {
        let after = after.map(|id| RecordKey { collection: collection.clone(), id: id.clone() });
        let range = layout::records_behind(collection, after.as_ref());
        Query::Scan { keyspace: Keyspace::Records, range, limit, bytes }
    }

    /// Reads the value of a row.
    ///
    /// # Errors
    /// [`CodecError`] when it is damaged.
    pub fn read(value: &[u8]) -> Result<Self, CodecError> {
        let Stored { record, positions, digest, .. } = Stored::decode(value)?;
        Ok(Self { record, seq: positions.latest, digest })
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`CodecError`] when it is damaged.
    pub fn read_row(row: &Row) -> Result<(RecordKey, Self), CodecError> {
        Ok((layout::parse_record_key(&row.key)?, Self::read(&row.value)?))
    }
}

/// Asks for the feed behind a place.
#[must_use]
pub fn feed_query(after: &Place, limit: NonZeroU32) -> Query {
    Query::scan(Keyspace::Feed, layout::feed_behind(after), limit)
}

/// Which record has its latest change where a row of the feed stands, and how many bytes it takes, about.
///
/// # Errors
/// [`CodecError`] when it is damaged.
pub fn read_feed(row: &Row) -> Result<(Seq, RecordKey, u64), CodecError> {
    let (seq, key) = layout::parse_feed_key(&row.key)?;
    Ok((seq, key, layout::decode_len(&row.value)?))
}

/// Asks for a record of the next collection by name that a pattern covers: the first of what the answers have is of it.
#[must_use]
pub fn collection_queries(after: Option<&CollectionName>, pattern: &Pattern) -> Vec<Query> {
    // A zero byte ends a name in keys; no name has one.
    let exactly =
        |name: &CollectionName| KeyRange::prefix(&[name.as_str().as_bytes(), b"\0"].concat());
    let below =
        |name: &CollectionName| KeyRange::prefix(&[name.as_str().as_bytes(), b"/"].concat());
    let ranges = match pattern {
        Pattern::All => Vec::from([KeyRange::default()]),
        Pattern::Exact(name) => Vec::from([exactly(name)]),
        Pattern::Prefix(name) => Vec::from([exactly(name), below(name)]),
    };
    let behind = after.and_then(|name| exactly(name).end).unwrap_or_default();
    let ranges = ranges
        .into_iter()
        .map(|range| KeyRange { start: range.start.max(behind.clone()), ..range });
    ranges.map(|range| Query::scan(Keyspace::Records, range, NonZeroU32::MIN)).collect()
}

/// A replica that a host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReplica {
    /// Its id.
    pub replica: ReplicaId,
    /// Whose it is.
    pub principal: String,
    /// The greatest time accepted from it.
    pub accepted: Option<Hlc>,
}

impl StoredReplica {
    /// Asks for replicas by id, behind one.
    #[must_use]
    pub fn query_all(after: Option<&ReplicaId>, limit: NonZeroU32) -> Query {
        let mut range = KeyRange::prefix(layout::REPLICA_PREFIX);
        if let Some(after) = after {
            range.start = [&layout::replica_key(after)[..], b"\0"].concat();
        }
        Query::scan(Keyspace::Meta, range, limit)
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`CodecError`] when it is damaged.
    pub fn read_row(row: &Row) -> Result<Self, CodecError> {
        let replica = layout::parse_replica(&row.key, layout::REPLICA_PREFIX);
        let replica = replica.ok_or(CodecError { at: 0, kind: CodecFault::Range })?;
        let ReplicaRow { principal, accepted, .. } = ReplicaRow::decode(&row.value)?;
        Ok(Self { replica, principal, accepted })
    }
}

/// Where a host's history stands, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The epoch of the last run that opened the space; of the present one, if it has.
    pub epoch: Epoch,
    /// The last position.
    pub head: Seq,
    /// The clock when that was committed.
    pub clock: Hlc,
    /// What was dead by then may be collected.
    pub horizon: Hlc,
    lineage: Vec<Left>,
}

impl Standing {
    /// Asks for it.
    #[must_use]
    pub fn queries() -> Vec<Query> {
        let keys = [layout::HEAD_KEY, layout::LINEAGE_KEY, layout::HORIZON_KEY];
        let get = |key: &[u8]| Query::Get { keyspace: Keyspace::Meta, key: key.to_vec() };
        keys.map(get).into()
    }

    /// Reads the answers, in the order of the queries; `None`: nothing was ever stored.
    ///
    /// # Errors
    /// [`CodecError`] when one is damaged.
    pub fn read(answers: impl IntoIterator<Item = Answer>) -> Result<Option<Self>, CodecError> {
        let mut values = answers.into_iter().map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        });
        let mut next = || values.next().flatten();
        let Some(head) = next() else { return Ok(None) };
        let Head { epoch, seq, clock } = Head::decode(&head)?;
        let lineage = next().as_deref().map(layout::decode_lineage).transpose()?;
        let horizon = next().as_deref().map(layout::decode_horizon).transpose()?;
        Ok(Some(Self {
            epoch,
            head: seq,
            clock,
            horizon: horizon.map_or(Hlc::ZERO, |horizon| horizon.at),
            lineage: lineage.unwrap_or_default(),
        }))
    }

    /// Whether who was at a cursor at that time has missed nothing that is not in the feed behind it: the cursor lies
    /// in this history, and nothing was collected since.
    #[must_use]
    pub fn goes_on(&self, cursor: &Cursor, time: Hlc) -> bool {
        let known = if cursor.epoch == self.epoch {
            cursor.seq <= self.head
        } else {
            let left = self.lineage.iter().find(|left| left.epoch == cursor.epoch);
            left.is_some_and(|left| cursor.seq <= left.seq)
        };
        known && time >= self.horizon
    }
}
