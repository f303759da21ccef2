//! Stored form of log entries. Version 1; the bytes are pinned by `tests/golden/`.
//!
//! A sealed entry names its kind at both ends: so one damaged byte leaves it known, or in doubt, and never
//! makes a local write look like something that can be had again.

use super::{
    entry::{Entry, Opened, Settlement, Welcomed},
    intent::{Intent, Restamped, Row, RowWrite},
};
use crate::{
    codec::{
        CodecError, CodecFault, Reader, Writer, read_key, read_stamp, read_value, read_vector,
        seal, unseal, write_key, write_stamp, write_value, write_vector,
    },
    hlc::Stamp,
    id::{Digest, Epoch, Incarnation, Pattern, Seq, SpaceId},
    message::{Origin, RejectCode},
    record::Kind,
    sorted::{SortedMap, SortedSet},
};
use alloc::{string::String, vec::Vec};

const VERSION: u64 = 1;
const COMMIT: u8 = 0;
const RESTAMPED: u8 = 6;
const REBORN: u8 = 9;

/// Encodes a log entry.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = Writer::new();
    let tag = tag_of(entry);
    match entry {
        Entry::Commit(row) => return encode_commit(row),
        Entry::Feed(bytes) => one(&mut out, tag, |out| out.bytes(bytes)),
        Entry::Staged(bytes) | Entry::Opened(Opened { bytes, .. }) => {
            one(&mut out, tag, |out| out.bytes(bytes));
        }
        Entry::HealBegun { subscription, seq, horizon, time } => {
            start(&mut out, tag, 4);
            out.uint(u64::from(*subscription));
            out.uint(seq.0);
            out.hlc(*horizon);
            out.hlc(*time);
        }
        Entry::Healed { subscription, gone, reach } => {
            start(&mut out, tag, 3);
            out.uint(u64::from(*subscription));
            out.array(gone.len() * 2);
            gone.iter().for_each(|key| write_key(&mut out, key));
            out.uint(reach.0);
        }
        Entry::Settled(rows) => {
            start(&mut out, tag, 1);
            write_settled(&mut out, rows);
        }
        Entry::Restamped { rows, skew_ms } => {
            start(&mut out, tag, 2);
            write_restamped(&mut out, rows);
            out.int(*skew_ms);
        }
        Entry::Session(incarnation) => one(&mut out, tag, |out| out.bytes(incarnation.as_bytes())),
        Entry::Welcomed(welcomed) => {
            start(&mut out, tag, 8);
            write_welcomed(&mut out, welcomed);
        }
        Entry::Reborn { replica, accepted, unsure, restamped } => {
            start(&mut out, tag, 4);
            out.bytes(replica.as_bytes());
            write_settled(&mut out, accepted);
            write_numbers(&mut out, unsure.iter().copied());
            write_restamped(&mut out, restamped);
        }
        Entry::Dropped(number) => one(&mut out, tag, |out| out.uint(*number)),
        Entry::Adopted(principal) => one(&mut out, tag, |out| out.text(principal)),
        Entry::Bound(space) => one(&mut out, tag, |out| out.text(space.as_str())),
        Entry::Subscribed { patterns, only } => {
            start(&mut out, tag, 2);
            out.array(patterns.len());
            patterns.iter().for_each(|pattern| out.text(&alloc::format!("{pattern}")));
            out.bool(*only);
        }
        Entry::Stated { subscriptions, seq, horizon, time } => {
            start(&mut out, tag, 4);
            write_numbers(&mut out, subscriptions.iter().map(|id| u64::from(*id)));
            out.uint(seq.0);
            out.hlc(*horizon);
            out.hlc(*time);
        }
        Entry::Denied => start(&mut out, tag, 0),
    }
    seal(tag, out.into_bytes())
}

/// Encodes the entry of a local commit.
pub(super) fn encode_commit(row: &Row) -> Vec<u8> {
    let mut out = Writer::new();
    one(&mut out, COMMIT, |out| write_row(out, row));
    seal(COMMIT, out.into_bytes())
}

/// The kind of an entry, as it is stored.
const fn tag_of(entry: &Entry) -> u8 {
    match entry {
        Entry::Commit(_) => COMMIT,
        Entry::Feed(_) => 1,
        Entry::Staged(_) | Entry::Opened(_) => 2,
        Entry::HealBegun { .. } => 3,
        Entry::Healed { .. } => 4,
        Entry::Settled(_) => 5,
        Entry::Restamped { .. } => RESTAMPED,
        Entry::Session(_) => 7,
        Entry::Welcomed(_) => 8,
        Entry::Reborn { .. } => REBORN,
        Entry::Dropped(_) => 10,
        Entry::Adopted(_) => 11,
        Entry::Subscribed { .. } => 12,
        Entry::Bound(_) => 13,
        Entry::Stated { .. } => 14,
        Entry::Denied => 15,
    }
}

/// What is known of an entry whose bytes are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ruin {
    /// Whether it may be a local write.
    pub(super) may_be_row: bool,
    /// Whether it may have given the replica an id, or rows their stamps.
    pub(super) may_rename: bool,
}

/// What is known of the entry in `bytes`, which are damaged.
pub(super) fn ruin_of(bytes: &[u8]) -> Ruin {
    let mut input = Reader::new(bytes);
    let head = input.array().and_then(|_| input.uint()).and_then(|_| input.uint()).ok();
    let tag = bytes.last().copied().filter(|tag| head == Some(u64::from(*tag)));
    let may_be = |tags: &[u8]| tag.is_none_or(|tag| tags.contains(&tag));
    Ruin { may_be_row: may_be(&[COMMIT]), may_rename: may_be(&[RESTAMPED, REBORN]) }
}

fn start(out: &mut Writer, tag: u8, items: usize) {
    out.array(2 + items);
    out.uint(VERSION);
    out.uint(u64::from(tag));
}

fn one(out: &mut Writer, tag: u8, write: impl FnOnce(&mut Writer)) {
    start(out, tag, 1);
    write(out);
}

/// Decodes a log entry.
///
/// # Errors
/// [`CodecError`] when the bytes are not exactly one entry of a version that this build knows;
/// [`CodecFault::Damaged`] when they are not those that were written.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let tag = bytes.last().copied().unwrap_or_default();
    let mut input = Reader::new(unseal(tag, bytes)?);
    let len = input.array()?;
    let version = input.uint()?;
    if version != VERSION {
        return Err(input.fault(CodecFault::Version(version)));
    }
    let tag = input.uint()?;
    let entry = read_entry(&mut input, tag, len)?;
    input.finish()?;
    Ok(entry)
}

fn read_entry(input: &mut Reader<'_>, tag: u64, len: usize) -> Result<Entry, CodecError> {
    let items = match tag {
        0..=2 | 5 | 7 | 10 | 11 | 13 => 1,
        6 | 12 => 2,
        4 => 3,
        3 | 9 | 14 => 4,
        8 => 8,
        15 => 0,
        _ => return Err(input.fault(CodecFault::Range)),
    };
    if len != 2 + items {
        return Err(input.fault(CodecFault::Range));
    }
    Ok(match tag {
        0 => Entry::Commit(read_row(input)?),
        1 => Entry::Feed(input.bytes()?.to_vec()),
        2 => Entry::Staged(input.bytes()?.to_vec()),
        3 => Entry::HealBegun {
            subscription: input.uint32()?,
            seq: Seq(input.uint()?),
            horizon: input.hlc()?,
            time: input.hlc()?,
        },
        4 => {
            let subscription = input.uint32()?;
            let gone = input.array()? / 2;
            let gone = (0..gone).map(|_| read_key(input)).collect::<Result<_, _>>()?;
            Entry::Healed { subscription, gone, reach: Seq(input.uint()?) }
        }
        5 => Entry::Settled(read_settled(input)?),
        6 => Entry::Restamped { rows: read_restamped(input)?, skew_ms: input.int()? },
        7 => Entry::Session(Incarnation::from_bytes(input.bytes_exact()?)),
        8 => Entry::Welcomed(read_welcomed(input)?),
        9 => Entry::Reborn {
            replica: input.replica()?,
            accepted: read_settled(input)?,
            unsure: read_numbers(input)?,
            restamped: read_restamped(input)?,
        },
        10 => Entry::Dropped(input.uint()?),
        11 => Entry::Adopted(String::from(input.text()?)),
        13 => Entry::Bound(read_space(input)?),
        14 => Entry::Stated {
            subscriptions: read_ids(input)?,
            seq: Seq(input.uint()?),
            horizon: input.hlc()?,
            time: input.hlc()?,
        },
        15 => Entry::Denied,
        _ => {
            let pattern = |input: &mut Reader<'_>| {
                Pattern::parse(input.text()?).map_err(|_refused| input.fault(CodecFault::Range))
            };
            let patterns =
                (0..input.array()?).map(|_| pattern(input)).collect::<Result<_, CodecError>>()?;
            Entry::Subscribed { patterns, only: input.bool()? }
        }
    })
}

/// Reads the name of a space.
pub(super) fn read_space(input: &mut Reader<'_>) -> Result<SpaceId, CodecError> {
    SpaceId::parse(input.text()?).map_err(|_refused| input.fault(CodecFault::Range))
}

/// Writes an outbox row.
pub(super) fn write_row(out: &mut Writer, row: &Row) {
    out.array(4);
    write_stamp(out, &row.stamp);
    match &row.origin {
        Some(origin) => {
            out.array(2);
            write_stamp(out, &origin.stamp);
            out.bytes(&origin.digest);
        }
        None => out.null(),
    }
    out.bool(row.insisted);
    write_writes(out, &row.writes);
}

fn write_writes(out: &mut Writer, writes: &[RowWrite]) {
    out.array(writes.len());
    for write in writes {
        out.array(3 + 2);
        write_key(out, &write.key);
        write_vector(out, &write.saw);
        out.bool(write.updates);
        out.array(write.intents.len());
        write.intents.iter().for_each(|intent| write_intent(out, intent));
    }
}

/// Reads an outbox row.
pub(super) fn read_row(input: &mut Reader<'_>) -> Result<Row, CodecError> {
    input.array_exact(4)?;
    let stamp = read_stamp(input)?;
    let origin = input.optional(|input| {
        input.array_exact(2)?;
        Ok(Origin { stamp: read_stamp(input)?, digest: input.bytes_exact()? })
    })?;
    let insisted = input.bool()?;
    let writes = (0..input.array()?)
        .map(|_| {
            input.array_exact(3 + 2)?;
            let key = read_key(input)?;
            let saw = read_vector(input)?;
            let updates = input.bool()?;
            let intents =
                (0..input.array()?).map(|_| read_intent(input)).collect::<Result<_, _>>()?;
            Ok(RowWrite { key, saw, updates, intents })
        })
        .collect::<Result<_, CodecError>>()?;
    Ok(Row { stamp, origin, insisted, writes })
}

/// What tells a row from another one with its stamp: taken over what it is to do, not over the cells that it
/// comes to, which depend on the base.
#[must_use]
pub fn row_digest(row: &Row) -> [u8; 16] {
    let mut out = Writer::new();
    out.array(2);
    write_stamp(&mut out, &row.stamp);
    write_writes(&mut out, &row.writes);
    let digest = Digest::of(
        "rejoin.row.v1",
        &[row.stamp.replica.as_bytes(), &row.stamp.hlc.to_bits().to_be_bytes(), &out.into_bytes()],
    );
    let mut short = [0; 16];
    short.iter_mut().zip(digest.as_bytes()).for_each(|(out, byte)| *out = *byte);
    short
}

fn write_intent(out: &mut Writer, intent: &Intent) {
    match intent {
        Intent::Clear { field, kind } => {
            out.array(3);
            out.uint(0);
            out.field(field);
            out.uint(u64::from(kind.code()));
        }
        Intent::Set { field, kind, value } => {
            out.array(4);
            out.uint(1);
            out.field(field);
            out.uint(u64::from(kind.code()));
            write_value(out, value);
        }
        Intent::Add { field, amount } => {
            out.array(3);
            out.uint(2);
            out.field(field);
            out.int(*amount);
        }
        Intent::Insert { field, element } => {
            out.array(3);
            out.uint(3);
            out.field(field);
            write_value(out, element);
        }
        Intent::Delete { field, element, covers } => {
            out.array(4);
            out.uint(4);
            out.field(field);
            write_value(out, element);
            write_vector(out, covers);
        }
        Intent::Resolve { field, value, covers } => {
            out.array(4);
            out.uint(5);
            out.field(field);
            write_value(out, value);
            out.array(covers.len());
            covers.iter().for_each(|stamp| write_stamp(out, stamp));
        }
        Intent::Remove => {
            out.array(1);
            out.uint(6);
        }
    }
}

fn read_intent(input: &mut Reader<'_>) -> Result<Intent, CodecError> {
    let len = input.array()?;
    let tag = input.uint()?;
    let expected = match tag {
        0 | 2 | 3 => 3,
        1 | 4 | 5 => 4,
        6 => 1,
        _ => return Err(input.fault(CodecFault::Range)),
    };
    if len != expected {
        return Err(input.fault(CodecFault::Range));
    }
    if tag == 6 {
        return Ok(Intent::Remove);
    }
    let field = input.field()?;
    Ok(match tag {
        0 => Intent::Clear { field, kind: read_kind(input)? },
        1 => Intent::Set { field, kind: read_kind(input)?, value: read_value(input)? },
        2 => Intent::Add { field, amount: input.int()? },
        3 => Intent::Insert { field, element: read_value(input)? },
        4 => Intent::Delete { field, element: read_value(input)?, covers: read_vector(input)? },
        _ => {
            let value = read_value(input)?;
            let mut covers = SortedSet::new();
            for _ in 0..input.array()? {
                covers.insert(read_stamp(input)?);
            }
            Intent::Resolve { field, value, covers }
        }
    })
}

fn read_kind(input: &mut Reader<'_>) -> Result<Kind, CodecError> {
    let code = u8::try_from(input.uint()?).map_err(|_range| input.fault(CodecFault::Range))?;
    Ok(Kind::from_code(code))
}

fn write_numbers(out: &mut Writer, numbers: impl ExactSizeIterator<Item = u64>) {
    out.array(numbers.len());
    numbers.for_each(|number| out.uint(number));
}

fn read_numbers(input: &mut Reader<'_>) -> Result<Vec<u64>, CodecError> {
    (0..input.array()?).map(|_| input.uint()).collect()
}

fn write_restamped(out: &mut Writer, restamped: &Restamped) {
    out.array(restamped.len() * 2);
    for (old, new) in restamped {
        write_stamp(out, old);
        write_stamp(out, new);
    }
}

fn read_restamped(input: &mut Reader<'_>) -> Result<Restamped, CodecError> {
    let pairs = 0..input.array()? / 2;
    SortedMap::try_from_iter(pairs.map(|_| Ok((read_stamp(input)?, read_stamp(input)?))))
}

fn write_settled(out: &mut Writer, rows: &[(u64, Settlement)]) {
    out.array(rows.len() * 2);
    for (number, settlement) in rows {
        out.uint(*number);
        write_settlement(out, settlement);
    }
}

fn read_settled(input: &mut Reader<'_>) -> Result<Vec<(u64, Settlement)>, CodecError> {
    (0..input.array()? / 2).map(|_| Ok((input.uint()?, read_settlement(input)?))).collect()
}

/// Writes what became of a row.
pub(super) fn write_settlement(out: &mut Writer, settlement: &Settlement) {
    match settlement {
        Settlement::Accepted(seq) => {
            out.array(1);
            out.uint(seq.0);
        }
        Settlement::Rejected { code, reason } => {
            out.array(2);
            out.uint(reject_number(*code));
            out.text(reason);
        }
        Settlement::Taken(stamp, seq) => {
            out.array(3);
            out.uint(seq.0);
            out.bytes(stamp.replica.as_bytes());
            out.hlc(stamp.hlc);
        }
    }
}

/// Reads what became of a row.
pub(super) fn read_settlement(input: &mut Reader<'_>) -> Result<Settlement, CodecError> {
    let len = input.array()?;
    let number = input.uint()?;
    match len {
        1 => Ok(Settlement::Accepted(Seq(number))),
        2 => {
            let code = reject_code(number).ok_or_else(|| input.fault(CodecFault::Range))?;
            Ok(Settlement::Rejected { code, reason: String::from(input.text()?) })
        }
        3 => {
            let stamp = Stamp { replica: input.replica()?, hlc: input.hlc()? };
            Ok(Settlement::Taken(stamp, Seq(number)))
        }
        _ => Err(input.fault(CodecFault::Range)),
    }
}

const REJECT_CODES: [RejectCode; 8] = [
    RejectCode::Forbidden,
    RejectCode::TooLarge,
    RejectCode::Forged,
    RejectCode::Invalid,
    RejectCode::RecordGone,
    RejectCode::Unsure,
    RejectCode::UpgradeServer,
    RejectCode::Quota,
];

fn reject_number(code: RejectCode) -> u64 {
    REJECT_CODES.iter().position(|known| *known == code).unwrap_or_default() as u64
}

fn reject_code(number: u64) -> Option<RejectCode> {
    REJECT_CODES.get(usize::try_from(number).ok()?).copied()
}

fn write_welcomed(out: &mut Writer, welcomed: &Welcomed) {
    out.bytes(welcomed.incarnation.as_bytes());
    out.text(&welcomed.principal);
    out.bytes(welcomed.epoch.as_bytes());
    out.int(welcomed.skew_ms);
    write_numbers(out, welcomed.good.iter().map(|id| u64::from(*id)));
    write_numbers(out, welcomed.afresh.iter().map(|id| u64::from(*id)));
    write_numbers(out, welcomed.stale.iter().map(|id| u64::from(*id)));
    out.uint(welcomed.kept.0);
}

fn read_welcomed(input: &mut Reader<'_>) -> Result<Welcomed, CodecError> {
    Ok(Welcomed {
        incarnation: Incarnation::from_bytes(input.bytes_exact()?),
        principal: String::from(input.text()?),
        epoch: Epoch::from_bytes(input.bytes_exact()?),
        skew_ms: input.int()?,
        good: read_ids(input)?,
        afresh: read_ids(input)?,
        stale: read_ids(input)?,
        kept: Seq(input.uint()?),
    })
}

fn read_ids(input: &mut Reader<'_>) -> Result<Vec<u32>, CodecError> {
    (0..input.array()?).map(|_| input.uint32()).collect()
}
