//! What the host stores: keys, values and their versions.
//!
//! Invariants: every value is sealed, with its version as the tag; what is sealed of a record ends with exactly
//! the bytes that its digest is taken over; keys sort as the feed, the trees and the log are read. Absent:
//! reading and writing themselves, and what becomes of a value that is damaged (see `damage`).

use super::horizon::Horizon;
use super::slice::{Place, Way};
use crate::{
    codec::{self, CodecError, CodecFault, Reader, Writer},
    hlc::{Hlc, Stamp},
    id::{self, CollectionName, Digest, Epoch, Incarnation, RecordId, RecordKey, ReplicaId, Seq},
    io::{KeyRange, Keyspace},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{Left, Origin},
    },
    record::{CellKey, Record},
    sorted::SortedMap,
    time::{Millis, WallMillis},
};
use alloc::{string::String, vec::Vec};

const VERSION: u8 = 1;

/// Why a stored row cannot be read.
pub(super) type Damaged = CodecError;

/// The position that last changed each part of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Positions {
    /// The record's place in the feed.
    pub(super) latest: Seq,
    /// The last position at which the result was not what the writer could compute by itself.
    pub(super) altered: Seq,
    pub(super) seen: SortedMap<ReplicaId, Seq>,
    pub(super) removed: SortedMap<ReplicaId, Seq>,
    pub(super) buried: Option<Seq>,
    pub(super) cells: SortedMap<CellKey, Seq>,
}

/// A record as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) positions: Positions,
    /// The record's canonical bytes.
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

impl Stored {
    pub(super) fn new(record: Record, positions: Positions) -> Self {
        let bytes = codec::encode_record(&record);
        let digest = codec::record_digest(&bytes);
        Self { record, positions, bytes, digest }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let positions = &self.positions;
        out.array(6);
        out.uint(positions.latest.0);
        out.uint(positions.altered.0);
        write_seqs(&mut out, &positions.seen);
        write_seqs(&mut out, &positions.removed);
        match positions.buried {
            Some(seq) => out.uint(seq.0),
            None => out.null(),
        }
        write_seqs(&mut out, &positions.cells);
        out.raw(&self.bytes);
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(6)?;
        let latest = Seq(input.uint()?);
        let altered = Seq(input.uint()?);
        let seen = read_seqs(&mut input)?;
        let removed = read_seqs(&mut input)?;
        let buried = input.optional(Reader::uint)?.map(Seq);
        let cells = read_seqs(&mut input)?;
        let bytes = input.rest().to_vec();
        let record = codec::decode_record(&bytes)?;
        let whole = seen.len() == record.seen.len()
            && removed.len() == record.removed.seen.len()
            && cells.len() == record.cells.len();
        if !whole {
            return Err(input.fault(CodecFault::Range));
        }
        let positions = Positions {
            latest,
            altered,
            seen: replicas(&record.seen).zip(seen).collect(),
            removed: replicas(&record.removed.seen).zip(removed).collect(),
            buried,
            cells: record.cells.keys().cloned().zip(cells).collect(),
        };
        let digest = codec::record_digest(&bytes);
        Ok(Self { record, positions, bytes, digest })
    }
}

fn replicas(vector: &crate::record::VersionVector) -> impl Iterator<Item = ReplicaId> + '_ {
    vector.iter().map(|stamp| stamp.replica)
}

fn write_seqs<K>(out: &mut Writer, seqs: &SortedMap<K, Seq>) {
    out.array(seqs.len());
    for seq in seqs.values() {
        out.uint(seq.0);
    }
}

fn read_seqs(input: &mut Reader<'_>) -> Result<Vec<Seq>, Damaged> {
    (0..input.array()?).map(|_| input.uint().map(Seq)).collect()
}

/// What the tree keeps of a record: enough to answer for its hash without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeRow {
    pub(super) digest: Digest,
    pub(super) seq: Seq,
    /// Length of the record's canonical bytes.
    pub(super) len: u64,
    pub(super) id: RecordId,
}

impl TreeRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(4);
        out.bytes(self.digest.as_bytes());
        out.uint(self.seq.0);
        out.uint(self.len);
        out.text(self.id.as_str());
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(4)?;
        let digest = Digest::from_bytes(input.bytes_exact()?);
        let (seq, len) = (Seq(input.uint()?), input.uint()?);
        refuse_beyond_all(&input, len)?;
        let row = Self { digest, seq, len, id: record_id(&input, input.clone().text()?)? };
        input.text()?;
        input.finish()?;
        Ok(row)
    }
}

/// An accepted row, under its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) digest: [u8; 16],
    pub(super) seq: Seq,
    /// The stamp of its origin, if that is another one: a [`CopyRow`] stands there.
    pub(super) first: Option<Stamp>,
}

impl Accepted {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3);
        out.bytes(&self.digest);
        out.uint(self.seq.0);
        write_optional_stamp(&mut out, self.first);
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(3)?;
        let row = Self {
            digest: input.bytes_exact()?,
            seq: Seq(input.uint()?),
            first: input.optional(codec::read_stamp)?,
        };
        input.finish()?;
        Ok(row)
    }
}

/// Under an origin: the row that was accepted of all that have it, if that has another stamp. All of it is
/// derived from the accepted row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyRow {
    /// The stamp that it was accepted with; `None` where that was lost.
    pub(super) stamp: Option<Stamp>,
    pub(super) seq: Seq,
}

impl CopyRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(2);
        write_optional_stamp(&mut out, self.stamp);
        out.uint(self.seq.0);
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(2)?;
        let row = Self { stamp: input.optional(codec::read_stamp)?, seq: Seq(input.uint()?) };
        input.finish()?;
        Ok(row)
    }
}

/// How far rows that were first a replica's were accepted under other stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopiedRow {
    /// The greatest time of such a row.
    pub(super) upto: Hlc,
    /// None was committed before.
    pub(super) since: Hlc,
}

impl CopiedRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(2);
        out.hlc(self.upto);
        out.hlc(self.since);
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(2)?;
        let row = Self { upto: input.hlc()?, since: input.hlc()? };
        input.finish()?;
        Ok(row)
    }
}

fn write_optional_stamp(out: &mut Writer, stamp: Option<Stamp>) {
    match stamp {
        Some(stamp) => codec::write_stamp(out, &stamp),
        None => out.null(),
    }
}

/// The end of the feed; every commit is guarded by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) clock: Hlc,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3);
        out.bytes(self.epoch.as_bytes());
        out.uint(self.seq.0);
        out.hlc(self.clock);
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(3)?;
        let head = Self {
            epoch: Epoch::from_bytes(input.bytes_exact()?),
            seq: Seq(input.uint()?),
            clock: input.hlc()?,
        };
        input.finish()?;
        Ok(head)
    }
}

/// Whose a replica id is, and how far it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplicaRow {
    pub(super) principal: String,
    pub(super) incarnation: Incarnation,
    /// The greatest time accepted from it (S).
    pub(super) accepted: Option<Hlc>,
}

impl ReplicaRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3);
        out.text(&self.principal);
        out.bytes(self.incarnation.as_bytes());
        match self.accepted {
            Some(hlc) => out.hlc(hlc),
            None => out.null(),
        }
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(3)?;
        let row = Self {
            principal: String::from(input.text()?),
            incarnation: Incarnation::from_bytes(input.bytes_exact()?),
            accepted: input.optional(Reader::hlc)?,
        };
        input.finish()?;
        Ok(row)
    }
}

/// Encodes where earlier epochs were left, newest first.
pub(super) fn encode_lineage(lineage: &[Left]) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(lineage.len());
    for left in lineage {
        out.array(3);
        out.bytes(left.epoch.as_bytes());
        out.uint(left.seq.0);
        out.hlc(left.hlc);
    }
    versioned(out)
}

pub(super) fn decode_lineage(value: &[u8]) -> Result<Vec<Left>, Damaged> {
    let mut input = open(value)?;
    let mut lineage = Vec::new();
    for _ in 0..input.array()? {
        input.array_exact(3)?;
        lineage.push(Left {
            epoch: Epoch::from_bytes(input.bytes_exact()?),
            seq: Seq(input.uint()?),
            hlc: input.hlc()?,
        });
    }
    input.finish()?;
    Ok(lineage)
}

pub(super) const HEAD_KEY: &[u8] = b"head";
pub(super) const LINEAGE_KEY: &[u8] = b"lineage";
pub(super) const HORIZON_KEY: &[u8] = b"horizon";
/// Before the time of its burial and its name: a dead record.
pub(super) const GRAVE_KEY: &[u8] = b"grave/";
/// Before the time of a commit: the rows accepted in it.
pub(super) const LEDGER_KEY: &[u8] = b"ledger/";

pub(super) fn encode_horizon(horizon: &Horizon) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(3);
    out.hlc(horizon.at);
    out.hlc(horizon.rows);
    out.array(horizon.marks.len() * 2);
    for (ran, clock) in &horizon.marks {
        out.uint(ran.0);
        out.hlc(*clock);
    }
    versioned(out)
}

pub(super) fn decode_horizon(value: &[u8]) -> Result<Horizon, Damaged> {
    let mut input = open(value)?;
    input.array_exact(3)?;
    let (at, rows) = (input.hlc()?, input.hlc()?);
    let marks = (0..input.array()? / 2)
        .map(|_| Ok((Millis(input.uint()?), input.hlc()?)))
        .collect::<Result<_, Damaged>>()?;
    input.finish()?;
    Ok(Horizon { at, rows, marks })
}

/// What is in an index up to a time.
pub(super) fn due(index: &[u8], upto: Hlc) -> KeyRange {
    let all = KeyRange::prefix(index);
    let end = upto.to_bits().checked_add(1);
    let end = end.map(|end| [index, &end.to_be_bytes()].concat());
    KeyRange { end: end.or(all.end), ..all }
}

/// The time in a key of an index, and what stands behind it.
fn timed(key: &[u8]) -> Option<(Hlc, &[u8])> {
    let slash = key.iter().position(|byte| *byte == b'/')?;
    let (time, rest) = key.get(slash + 1..)?.split_first_chunk::<8>()?;
    Some((Hlc::from_bits(u64::from_be_bytes(*time)), rest))
}

pub(super) fn due_time(key: &[u8]) -> Result<Hlc, Damaged> {
    timed(key).map(|(time, _)| time).ok_or_else(|| fault(key, CodecFault::Range))
}

pub(super) fn grave_key(at: Hlc, key: &RecordKey) -> Vec<u8> {
    [GRAVE_KEY, &at.to_bits().to_be_bytes(), &record_key(key)].concat()
}

/// Which record a row of the index of the dead names.
pub(super) fn parse_grave(key: &[u8]) -> Result<RecordKey, Damaged> {
    let (_, name) = timed(key).ok_or_else(|| fault(key, CodecFault::Range))?;
    parse_record_key(name)
}

pub(super) fn ledger_key(at: Hlc) -> Vec<u8> {
    [LEDGER_KEY, &at.to_bits().to_be_bytes()].concat()
}

pub(super) fn parse_ledger_key(key: &[u8]) -> Option<Hlc> {
    timed(key).filter(|(_, rest)| rest.is_empty()).map(|(at, _)| at)
}

/// Encodes where the rows of a commit are in [`Keyspace::Log`], under their stamps and origins.
pub(super) fn encode_ledger(rows: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(rows.len());
    rows.iter().for_each(|key| out.bytes(key));
    versioned(out)
}

pub(super) fn decode_ledger(value: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
    let mut input = open(value)?;
    let rows =
        (0..input.array()?).map(|_| Ok(input.bytes()?.to_vec())).collect::<Result<_, Damaged>>()?;
    input.finish()?;
    Ok(rows)
}

/// How far the scrub is.
pub(super) const SCRUB_KEY: &[u8] = b"scrub";

/// How many damaged rows are kept.
pub(super) const QUARANTINE_KEY: &[u8] = b"quarantine";

/// Before the time at which they were found: bytes of damaged rows.
pub(super) const DAMAGED_KEY: &[u8] = b"damaged/";

/// Where the bytes of a damaged row are kept, by when they were found and in which order.
pub(super) fn quarantine_key(at: Hlc, number: u64, keyspace: Keyspace, key: &[u8]) -> Vec<u8> {
    let name = alloc::format!("/{number:04}/{}/", keyspace.name());
    [DAMAGED_KEY, &at.to_bits().to_be_bytes(), name.as_bytes(), key].concat()
}

pub(super) fn replica_key(replica: &ReplicaId) -> Vec<u8> {
    [REPLICA_PREFIX, replica.as_bytes()].concat()
}

/// Where it is kept how far a replica's rows were brought back by others.
pub(super) fn returned_key(replica: &ReplicaId) -> Vec<u8> {
    [RETURNED_PREFIX, replica.as_bytes()].concat()
}

/// Where it is kept how far rows that were first a replica's were accepted under other stamps.
pub(super) fn copied_key(replica: &ReplicaId) -> Vec<u8> {
    [COPIED_PREFIX, replica.as_bytes()].concat()
}

pub(super) fn encode_time(hlc: Hlc) -> Vec<u8> {
    let mut out = Writer::new();
    out.hlc(hlc);
    versioned(out)
}

pub(super) fn decode_time(value: &[u8]) -> Result<Hlc, Damaged> {
    let mut input = open(value)?;
    let hlc = input.hlc()?;
    input.finish()?;
    Ok(hlc)
}

/// How far a scrub was when that was noted last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    /// When the pass began.
    pub(super) begun: WallMillis,
    /// Where it goes on; `None`: it is over.
    pub(super) place: Option<Place>,
}

impl Noted {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(2);
        out.uint(self.begun.0);
        match &self.place {
            Some(place) => {
                out.array(2);
                out.uint(u64::from(place.way.number()));
                out.bytes(&place.start);
            }
            None => out.null(),
        }
        versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = open(value)?;
        input.array_exact(2)?;
        let begun = WallMillis(input.uint()?);
        let place = input.optional(|input| {
            input.array_exact(2)?;
            let way =
                Way::of_number(input.uint()?).ok_or_else(|| input.fault(CodecFault::Range))?;
            Ok(Place { way, start: input.bytes()?.to_vec() })
        })?;
        input.finish()?;
        Ok(Self { begun, place })
    }
}

/// Names have no control characters: the zero byte parts them.
pub(super) fn record_key(key: &RecordKey) -> Vec<u8> {
    let parts = [key.collection.as_str(), "\0", key.id.as_str()];
    parts.concat().into_bytes()
}

/// The rows of a collection's records, of those behind a place that lies in it.
pub(super) fn records_behind(collection: &CollectionName, place: Option<&RecordKey>) -> KeyRange {
    let mut range = KeyRange::prefix(&[collection.as_str().as_bytes(), b"\0"].concat());
    if let Some(place) = place.filter(|place| place.collection == *collection) {
        range.start = record_key(place);
        range.start.push(0);
    }
    range
}

/// Whose row a key of the records is, or what an index has behind its time.
pub(super) fn parse_record_key(key: &[u8]) -> Result<RecordKey, Damaged> {
    let damaged = || fault(key, CodecFault::Range);
    let zero = key.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let (collection, id) = key.split_at_checked(zero).ok_or_else(damaged)?;
    let id = id.get(1..).and_then(|id| core::str::from_utf8(id).ok());
    let id = id.and_then(|id| RecordId::parse(id).ok()).ok_or_else(damaged)?;
    Ok(RecordKey { collection: collection_name(key, collection)?, id })
}

pub(super) fn tree_key(collection: &CollectionName, key_hash: &Digest) -> Vec<u8> {
    let parts = [collection.as_str().as_bytes(), b"\0", key_hash.as_bytes()];
    parts.concat()
}

/// The collection and key hash of a tree row.
pub(super) fn parse_tree_key(key: &[u8]) -> Result<(CollectionName, Digest), Damaged> {
    let damaged = || fault(key, CodecFault::Range);
    let (name, hash) =
        key.len().checked_sub(32).and_then(|at| key.split_at_checked(at)).ok_or_else(damaged)?;
    let name = name.strip_suffix(b"\0").ok_or_else(damaged)?;
    let hash = <[u8; 32]>::try_from(hash).map_err(|_refused| damaged())?;
    Ok((collection_name(key, name)?, Digest::from_bytes(hash)))
}

pub(super) fn log_key(replica: &ReplicaId, hlc: Hlc) -> Vec<u8> {
    [replica.as_bytes().as_slice(), &hlc.to_bits().to_be_bytes()].concat()
}

/// Behind the row that has the stamp itself: two copies of a replica may have given it to different rows.
pub(super) fn origin_key(origin: &Origin) -> Vec<u8> {
    let mut key = log_key(&origin.stamp.replica, origin.stamp.hlc);
    key.extend_from_slice(&origin.digest);
    key
}

/// The stamp of an accepted row.
pub(super) fn parse_log_key(key: &[u8]) -> Option<Stamp> {
    let (replica, hlc) = key.split_first_chunk::<16>()?;
    let hlc = Hlc::from_bits(u64::from_be_bytes(<[u8; 8]>::try_from(hlc).ok()?));
    Some(Stamp { hlc, replica: ReplicaId::from_bytes(*replica) })
}

/// The origin of a row that was accepted under another stamp.
pub(super) fn parse_origin_key(key: &[u8]) -> Option<Origin> {
    let (stamp, digest) = key.split_last_chunk::<16>()?;
    Some(Origin { stamp: parse_log_key(stamp)?, digest: *digest })
}

/// The replica that a row of [`Keyspace::Meta`] is of, behind one of the prefixes.
pub(super) fn parse_replica(key: &[u8], prefix: &[u8]) -> Option<ReplicaId> {
    let replica = <[u8; 16]>::try_from(key.strip_prefix(prefix)?).ok()?;
    Some(ReplicaId::from_bytes(replica))
}

pub(super) const REPLICA_PREFIX: &[u8] = b"replica/";
pub(super) const RETURNED_PREFIX: &[u8] = b"returned/";
pub(super) const COPIED_PREFIX: &[u8] = b"copied/";

pub(super) fn feed_key(seq: Seq, key: &RecordKey) -> Vec<u8> {
    let mut bytes = seq.0.to_be_bytes().to_vec();
    bytes.extend(record_key(key));
    bytes
}

pub(super) fn parse_feed_key(key: &[u8]) -> Result<(Seq, RecordKey), Damaged> {
    let (seq, name) = key.split_first_chunk::<8>().ok_or_else(|| fault(key, CodecFault::Range))?;
    Ok((Seq(u64::from_be_bytes(*seq)), parse_record_key(name)?))
}

/// The feed behind a place, to the end.
pub(super) fn feed_behind(place: &crate::protocol::message::Place) -> KeyRange {
    let start = match &place.key {
        // The least key behind this one.
        Some(key) => {
            let mut start = feed_key(place.seq, key);
            start.push(0);
            start
        }
        None => place.seq.0.saturating_add(1).to_be_bytes().to_vec(),
    };
    KeyRange { start, end: None }
}

/// A feed row's value: the length of the record's canonical bytes, to plan reads by.
pub(super) fn encode_len(len: usize) -> Vec<u8> {
    encode_count(len as u64)
}

pub(super) fn encode_count(count: u64) -> Vec<u8> {
    let mut out = Writer::new();
    out.uint(count);
    versioned(out)
}

pub(super) fn decode_count(value: &[u8]) -> Result<u64, Damaged> {
    let mut input = open(value)?;
    let count = input.uint()?;
    input.finish()?;
    Ok(count)
}

/// What [`encode_len`] wrote.
pub(super) fn decode_len(value: &[u8]) -> Result<u64, Damaged> {
    let mut input = open(value)?;
    let len = input.uint()?;
    refuse_beyond_all(&input, len)?;
    input.finish()?;
    Ok(len)
}

/// No record is so long.
fn refuse_beyond_all(input: &Reader<'_>, len: u64) -> Result<(), Damaged> {
    if len > FRAME_BYTES_MAX as u64 { Err(input.fault(CodecFault::Range)) } else { Ok(()) }
}

/// The hash under which a record is in its collection's tree, and its row there.
pub(super) fn tree_row(key: &RecordKey, stored: &Stored) -> (Digest, TreeRow) {
    let row = TreeRow {
        digest: stored.digest,
        seq: stored.positions.latest,
        len: stored.bytes.len() as u64,
        id: key.id.clone(),
    };
    (id::key_hash(key), row)
}

fn collection_name(key: &[u8], name: &[u8]) -> Result<CollectionName, Damaged> {
    core::str::from_utf8(name)
        .ok()
        .and_then(|name| CollectionName::parse(name).ok())
        .ok_or_else(|| fault(key, CodecFault::Range))
}

fn record_id(input: &Reader<'_>, id: &str) -> Result<RecordId, Damaged> {
    RecordId::parse(id).map_err(|_refused| input.fault(CodecFault::Range))
}

fn fault(bytes: &[u8], kind: CodecFault) -> Damaged {
    CodecError { at: bytes.len(), kind }
}

pub(super) fn versioned(body: Writer) -> Vec<u8> {
    codec::seal(VERSION, body.into_bytes())
}

pub(super) fn open(value: &[u8]) -> Result<Reader<'_>, Damaged> {
    if let Some(other) = value.last().copied().filter(|tag| *tag != VERSION)
        && codec::unseal(other, value).is_ok()
    {
        let kind = CodecFault::Version(u64::from(other));
        return Err(CodecError { at: value.len(), kind });
    }
    codec::unseal(VERSION, value).map(Reader::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{generators::arbitrary_key, rng::Rng};

    /// A snapshot goes through rows by their keys, and peers through records by theirs.
    #[test]
    fn rows_of_records_stand_in_the_order_of_the_records_and_behind_each_other() {
        let rng = &mut Rng::new(1);
        let keys: Vec<RecordKey> = (0..300).map(|_| arbitrary_key(rng)).collect();
        for one in &keys {
            assert_eq!(parse_record_key(&record_key(one)), Ok(one.clone()));
            for other in &keys {
                assert_eq!(record_key(one).cmp(&record_key(other)), one.cmp(other));
                let range = records_behind(&one.collection, Some(other));
                let key = record_key(one);
                let within = range.start <= key && range.end.is_none_or(|end| key < end);
                assert_eq!(within, other.collection != one.collection || other < one);
            }
        }
    }
}
