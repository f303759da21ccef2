//! Bytes to messages. Each function reads what its namesake in `encode` writes.

use super::{Numbered, walk::read_walk};
use crate::{
    codec::{
        CodecError, CodecFault, Reader, read_dictionary, read_key, read_record, read_stamp,
        read_value, read_vector,
    },
    id::{Cursor, Digest, Epoch, Incarnation, Pattern, RecordKey, Seq, SpaceId},
    message::{
        Ack, AskChunk, AskRoots, Body, Bye, Changes, Chunk, ChunkFrom, Conflict, Copied, Entry,
        Hello, Kept, Left, Limits, Message, Origin, Other, Others, Outcome, Packed, Place,
        Presence, Push, PushRow, PushWrite, Recall, Recalled, Records, Refill, RefillOutcome,
        Refilled, Resume, Right, Roots, Stated, Subscription, Taken, Walk, Welcome,
        limits::{
            BATCH_RECORDS_MAX, EPOCHS_MAX, INCARNATIONS_MAX, PAST_INCARNATIONS_MAX,
            PRESENCE_TABS_MAX, PUSH_ROWS_MAX, REASON_BYTES_MAX, REFILL_RECORDS_MAX,
            SUBSCRIPTIONS_MAX, TOKEN_BYTES_MAX,
        },
    },
    time::{Millis, WallMillis},
};
use alloc::{string::String, vec::Vec};

/// A result of reading.
pub(super) type Read<T> = Result<T, CodecError>;

/// No limit but the bytes that are there.
const BY_BYTES: usize = usize::MAX;

/// The message that `bytes` are, all of them.
///
/// Takes time and memory in proportion to the bytes given. Sizes of records and values are not looked
/// at, nor what the message means.
///
/// # Errors
/// [`CodecError`] when the bytes are not exactly what [`super::encode`] makes of some message, or a list
/// or text exceeds its limit.
pub fn decode(bytes: &[u8]) -> Result<Message, CodecError> {
    let mut input = Reader::new(bytes);
    input.array_exact(5)?;
    let at = input.position();
    let number = input.uint()?;
    let dictionary = read_dictionary(&mut input)?;
    let mut input = input.with_dictionary(&dictionary);
    let message = match number {
        0 => Message::Hello(hello(&mut input)?),
        1 => Message::Welcome(welcome(&mut input)?),
        2 => Message::Push(push(&mut input)?),
        3 => Message::Ack(ack(&mut input)?),
        4 => Message::Changes(changes(&mut input)?),
        5 => Message::Resume(resume(&mut input)?),
        6 => Message::AskRoots(ask_roots(&mut input)?),
        7 => Message::Roots(roots(&mut input)?),
        8 => Message::Walk(walk(&mut input)?),
        9 => Message::Records(records(&mut input)?),
        10 => Message::AskChunk(ask_chunk(&mut input)?),
        11 => Message::Chunk(chunk(&mut input)?),
        12 => Message::Recall(recall(&mut input)?),
        13 => Message::Recalled(recalled(&mut input)?),
        14 => ping(&mut input)?,
        15 => pong(&mut input)?,
        16 => refresh(&mut input)?,
        17 => Message::Bye(bye(&mut input)?),
        18 => Message::Refill(refill(&mut input)?),
        19 => Message::Refilled(refilled(&mut input)?),
        20 => Message::Copied(copied(&mut input)?),
        21 => Message::Presence(presence(&mut input)?),
        22 => Message::Others(others(&mut input)?),
        _ => {
            return Err(out_of_range(at));
        }
    };
    input.finish()?;
    Ok(message)
}

pub(super) const fn out_of_range(at: usize) -> CodecError {
    CodecError { at, kind: CodecFault::Range }
}

/// A list of at most `max` items.
fn list<'a, T>(
    input: &mut Reader<'a>,
    max: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Read<T>,
) -> Read<Vec<T>> {
    let at = input.position();
    let len = input.array()?;
    if len > max {
        return Err(out_of_range(at));
    }
    // Grows as items come: the length stated reserves nothing.
    (0..len).map(|_| read(input)).collect()
}

/// A list of at most `max` pairs, of which `read` reads both items.
pub(super) fn pairs<'a, T>(
    input: &mut Reader<'a>,
    max: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Read<T>,
) -> Read<Vec<T>> {
    let at = input.position();
    let len = input.array()?;
    if !len.is_multiple_of(2) || len / 2 > max {
        return Err(out_of_range(at));
    }
    (0..len / 2).map(|_| read(input)).collect()
}

fn text(input: &mut Reader<'_>, bytes_max: usize) -> Read<String> {
    let at = input.position();
    let text = input.text()?;
    if text.len() > bytes_max {
        return Err(out_of_range(at));
    }
    Ok(String::from(text))
}

pub(super) fn numbered<T: Numbered>(input: &mut Reader<'_>) -> Read<T> {
    let at = input.position();
    T::from_number(input.uint()?).ok_or_else(|| out_of_range(at))
}

/// Start of an enumeration with content: how many items follow, and the number of the variant.
pub(super) fn variant(input: &mut Reader<'_>) -> Read<(usize, u64)> {
    let at = input.position();
    match input.array()?.checked_sub(1) {
        Some(len) => Ok((len, input.uint()?)),
        None => Err(out_of_range(at)),
    }
}

fn seq(input: &mut Reader<'_>) -> Read<Seq> {
    input.uint().map(Seq)
}

fn wall(input: &mut Reader<'_>) -> Read<WallMillis> {
    input.uint().map(WallMillis)
}

fn epoch(input: &mut Reader<'_>) -> Read<Epoch> {
    input.bytes_exact().map(Epoch::from_bytes)
}

fn incarnation(input: &mut Reader<'_>) -> Read<Incarnation> {
    input.bytes_exact().map(Incarnation::from_bytes)
}

pub(super) fn digest(input: &mut Reader<'_>) -> Read<Digest> {
    input.bytes_exact().map(Digest::from_bytes)
}

fn hello(input: &mut Reader<'_>) -> Read<Hello> {
    input.array_exact(10)?;
    Ok(Hello {
        versions: list(input, BY_BYTES, Reader::uint32)?,
        features: input.uint()?,
        replica: input.replica()?,
        incarnation: incarnation(input)?,
        known: list(input, INCARNATIONS_MAX + PAST_INCARNATIONS_MAX, incarnation)?,
        space: space(input)?,
        token: input.optional(|input| text(input, TOKEN_BYTES_MAX))?,
        clock: wall(input)?,
        subscriptions: list(input, SUBSCRIPTIONS_MAX, subscription)?,
        epochs: list(input, EPOCHS_MAX, epoch)?,
    })
}

fn space(input: &mut Reader<'_>) -> Read<SpaceId> {
    let at = input.position();
    SpaceId::parse(input.text()?).map_err(|_refused| out_of_range(at))
}

fn subscription(input: &mut Reader<'_>) -> Read<Subscription> {
    input.array_exact(6)?;
    Ok(Subscription {
        id: input.uint32()?,
        pattern: pattern(input)?,
        cursor: input.optional(cursor)?,
        place: place(input)?,
        root: input.optional(digest)?,
        time: input.hlc()?,
    })
}

fn pattern(input: &mut Reader<'_>) -> Read<Pattern> {
    let at = input.position();
    match variant(input)? {
        (0, 0) => Ok(Pattern::All),
        (1, 1) => input.collection().map(Pattern::Exact),
        (1, 2) => input.collection().map(Pattern::Prefix),
        _ => Err(out_of_range(at)),
    }
}

fn cursor(input: &mut Reader<'_>) -> Read<Cursor> {
    input.array_exact(2)?;
    Ok(Cursor { epoch: epoch(input)?, seq: seq(input)? })
}

fn place(input: &mut Reader<'_>) -> Read<Place> {
    input.array_exact(2)?;
    Ok(Place { seq: seq(input)?, key: input.optional(key)? })
}

fn key(input: &mut Reader<'_>) -> Read<RecordKey> {
    input.array_exact(2)?;
    read_key(input)
}

fn welcome(input: &mut Reader<'_>) -> Read<Welcome> {
    input.array_exact(14)?;
    Ok(Welcome {
        version: input.uint32()?,
        features: input.uint()?,
        principal: text(input, BY_BYTES)?,
        rights: list(input, BY_BYTES, right)?,
        limits: limits(input)?,
        clock: wall(input)?,
        epoch: epoch(input)?,
        horizon: input.hlc()?,
        lineage: list(input, BY_BYTES, left)?,
        head: seq(input)?,
        accepted: input.optional(Reader::hlc)?,
        identity: numbered(input)?,
        modes: pairs(input, SUBSCRIPTIONS_MAX, |input| Ok((input.uint32()?, numbered(input)?)))?,
        copied: input.optional(Reader::hlc)?,
    })
}

fn right(input: &mut Reader<'_>) -> Read<Right> {
    input.array_exact(2)?;
    Ok(Right { pattern: pattern(input)?, write: input.bool()? })
}

fn limits(input: &mut Reader<'_>) -> Read<Limits> {
    input.array_exact(4)?;
    Ok(Limits {
        frame_bytes: input.uint32()?,
        record_bytes: input.uint32()?,
        value_bytes: input.uint32()?,
        batch_records: input.uint32()?,
    })
}

fn left(input: &mut Reader<'_>) -> Read<Left> {
    input.array_exact(3)?;
    Ok(Left { epoch: epoch(input)?, seq: seq(input)?, hlc: input.hlc()? })
}

fn push(input: &mut Reader<'_>) -> Read<Push> {
    input.array_exact(2)?;
    Ok(Push { named: input.uint()?, rows: list(input, PUSH_ROWS_MAX, row)? })
}

fn row(input: &mut Reader<'_>) -> Read<PushRow> {
    input.array_exact(6)?;
    Ok(PushRow {
        number: input.uint()?,
        hlc: input.hlc()?,
        origin: input.optional(read_stamp)?,
        insisted: input.bool()?,
        digest: input.bytes_exact()?,
        writes: list(input, BATCH_RECORDS_MAX, write)?,
    })
}

fn write(input: &mut Reader<'_>) -> Read<PushWrite> {
    input.array_exact(4)?;
    Ok(PushWrite {
        key: key(input)?,
        saw: read_vector(input)?,
        updates: input.bool()?,
        delta: read_record(input)?,
    })
}

fn ack(input: &mut Reader<'_>) -> Read<Ack> {
    input.array_exact(1)?;
    let outcomes = pairs(input, BY_BYTES, |input| Ok((input.uint()?, outcome(input)?)))?;
    Ok(Ack { outcomes })
}

fn outcome(input: &mut Reader<'_>) -> Read<Outcome> {
    let at = input.position();
    match variant(input)? {
        (1, 0) => Ok(Outcome::Accepted { seq: seq(input)? }),
        (3, 1) => Ok(Outcome::Rejected {
            number: input.uint()?,
            code: numbered(input)?,
            reason: text(input, REASON_BYTES_MAX)?,
        }),
        (1, 2) => Ok(Outcome::Returned { number: input.uint()? }),
        (2, 3) => Ok(Outcome::Ahead { number: input.uint()?, by: Millis(input.uint()?) }),
        (2, 4) => Ok(Outcome::Stale { number: input.uint()?, seq: seq(input)? }),
        (3, 5) => Ok(Outcome::Taken {
            number: input.uint()?,
            stamp: read_stamp(input)?,
            seq: seq(input)?,
        }),
        _ => Err(out_of_range(at)),
    }
}

fn changes(input: &mut Reader<'_>) -> Read<Changes> {
    input.array_exact(6)?;
    Ok(Changes {
        subscriptions: list(input, SUBSCRIPTIONS_MAX, Reader::uint32)?,
        after: place(input)?,
        upto: place(input)?,
        cut: input.bool()?,
        entries: list(input, BY_BYTES, entry)?,
        state: input.optional(stated)?,
    })
}

fn entry(input: &mut Reader<'_>) -> Read<Entry> {
    input.array_exact(6)?;
    Ok(Entry {
        key: key(input)?,
        seq: seq(input)?,
        check: input.bytes_exact()?,
        proof: input.bytes_exact()?,
        body: body(input)?,
        conflicts: list(input, BY_BYTES, conflict)?,
    })
}

/// An entry of a message that has only whole records.
fn whole_entry(input: &mut Reader<'_>) -> Read<Entry> {
    let at = input.position();
    let entry = entry(input)?;
    match entry.body {
        Body::Whole(_) => Ok(entry),
        Body::Delta(_) | Body::Own(_) => Err(out_of_range(at)),
    }
}

fn body(input: &mut Reader<'_>) -> Read<Body> {
    let at = input.position();
    match variant(input)? {
        (1, 0) => read_record(input).map(Body::Delta),
        (1, 1) => read_record(input).map(Body::Whole),
        (1, 2) => input.hlc().map(Body::Own),
        _ => Err(out_of_range(at)),
    }
}

fn conflict(input: &mut Reader<'_>) -> Read<Conflict> {
    let at = input.position();
    let len = input.array()?;
    if len != 3 && len != 4 {
        return Err(out_of_range(at));
    }
    Ok(Conflict {
        field: input.field()?,
        won: read_stamp(input)?,
        lost: read_stamp(input)?,
        value: if len == 4 { Some(read_value(input)?) } else { None },
    })
}

fn stated(input: &mut Reader<'_>) -> Read<Stated> {
    input.array_exact(4)?;
    Ok(Stated {
        seq: seq(input)?,
        horizon: input.hlc()?,
        hlc: input.hlc()?,
        roots: pairs(input, SUBSCRIPTIONS_MAX, |input| Ok((input.uint32()?, digest(input)?)))?,
    })
}

fn resume(input: &mut Reader<'_>) -> Read<Resume> {
    input.array_exact(3)?;
    Ok(Resume { subscription: input.uint32()?, place: place(input)?, time: input.hlc()? })
}

fn ask_roots(input: &mut Reader<'_>) -> Read<AskRoots> {
    input.array_exact(2)?;
    Ok(AskRoots { subscription: input.uint32()?, after: input.optional(Reader::collection)? })
}

fn roots(input: &mut Reader<'_>) -> Read<Roots> {
    input.array_exact(6)?;
    Ok(Roots {
        subscription: input.uint32()?,
        seq: seq(input)?,
        horizon: input.hlc()?,
        hlc: input.hlc()?,
        roots: pairs(input, BY_BYTES, |input| Ok((input.collection()?, digest(input)?)))?,
        more: input.bool()?,
    })
}

fn walk(input: &mut Reader<'_>) -> Read<Walk> {
    input.array_exact(3)?;
    Ok(Walk {
        subscription: input.uint32()?,
        collection: input.collection()?,
        message: read_walk(input)?,
    })
}

fn records(input: &mut Reader<'_>) -> Read<Records> {
    input.array_exact(2)?;
    Ok(Records { subscription: input.uint32()?, entries: list(input, BY_BYTES, whole_entry)? })
}

fn ask_chunk(input: &mut Reader<'_>) -> Read<AskChunk> {
    input.array_exact(2)?;
    let subscription = input.uint32()?;
    let items = input.array()?;
    let from = match (input.uint()?, items) {
        (0, 1) => ChunkFrom::Start,
        (1, 2) => ChunkFrom::Behind(key(input)?),
        (2, 1) => ChunkFrom::Next,
        _ => return Err(input.fault(CodecFault::Range)),
    };
    Ok(AskChunk { subscription, from })
}

fn chunk(input: &mut Reader<'_>) -> Read<Chunk> {
    input.array_exact(9)?;
    Ok(Chunk {
        subscription: input.uint32()?,
        after: input.optional(key)?,
        upto: input.optional(key)?,
        more: input.bool()?,
        total: input.uint()?,
        packed: Packed {
            sum: input.bytes_exact()?,
            inflated: input.optional(Reader::uint32)?,
            columns: input.bytes()?.to_vec(),
            proofs: input.bytes()?.to_vec(),
        },
    })
}

fn recall(input: &mut Reader<'_>) -> Read<Recall> {
    input.array_exact(1)?;
    Ok(Recall { rows: list(input, BY_BYTES, origin)? })
}

fn recalled(input: &mut Reader<'_>) -> Read<Recalled> {
    input.array_exact(2)?;
    Ok(Recalled { accepted: list(input, BY_BYTES, taken)?, unsure: list(input, BY_BYTES, origin)? })
}

fn copied(input: &mut Reader<'_>) -> Read<Copied> {
    input.array_exact(1)?;
    Ok(Copied { rows: list(input, BY_BYTES, taken)? })
}

fn origin(input: &mut Reader<'_>) -> Read<Origin> {
    input.array_exact(2)?;
    Ok(Origin { stamp: read_stamp(input)?, digest: input.bytes_exact()? })
}

fn taken(input: &mut Reader<'_>) -> Read<Taken> {
    input.array_exact(3)?;
    let origin = origin(input)?;
    let at = input.position();
    let other = input.optional(read_stamp)?;
    if other == Some(origin.stamp) {
        return Err(CodecError { at, kind: CodecFault::NotCanonical });
    }
    Ok(Taken { origin, stamp: other.unwrap_or(origin.stamp), seq: seq(input)? })
}

fn refill(input: &mut Reader<'_>) -> Read<Refill> {
    input.array_exact(2)?;
    let subscription = input.uint32()?;
    let entries = list(input, REFILL_RECORDS_MAX, |input| {
        input.array_exact(5)?;
        Ok(Kept {
            key: key(input)?,
            epoch: epoch(input)?,
            seq: seq(input)?,
            proof: input.bytes_exact()?,
            record: read_record(input)?,
        })
    })?;
    Ok(Refill { subscription, entries })
}

fn refilled(input: &mut Reader<'_>) -> Read<Refilled> {
    input.array_exact(2)?;
    let subscription = input.uint32()?;
    let outcomes = list(input, REFILL_RECORDS_MAX, |input| {
        let at = input.position();
        match variant(input)? {
            (1, 0) => seq(input).map(RefillOutcome::Joined),
            (1, 1) => numbered(input).map(RefillOutcome::Refused),
            _ => Err(out_of_range(at)),
        }
    })?;
    Ok(Refilled { subscription, outcomes })
}

fn ping(input: &mut Reader<'_>) -> Read<Message> {
    input.array_exact(1)?;
    Ok(Message::Ping { nonce: input.uint()? })
}

fn pong(input: &mut Reader<'_>) -> Read<Message> {
    input.array_exact(2)?;
    Ok(Message::Pong { nonce: input.uint()?, state: input.optional(stated)? })
}

fn refresh(input: &mut Reader<'_>) -> Read<Message> {
    input.array_exact(1)?;
    Ok(Message::Refresh { token: text(input, TOKEN_BYTES_MAX)? })
}

fn presence(input: &mut Reader<'_>) -> Read<Presence> {
    input.array_exact(2)?;
    Ok(Presence {
        here: pairs(input, PRESENCE_TABS_MAX, |input| Ok((input.uint()?, read_value(input)?)))?,
        gone: list(input, PRESENCE_TABS_MAX, Reader::uint)?,
    })
}

fn others(input: &mut Reader<'_>) -> Read<Others> {
    input.array_exact(3)?;
    Ok(Others {
        anew: input.bool()?,
        here: list(input, BY_BYTES, other)?,
        gone: list(input, BY_BYTES, Reader::uint)?,
    })
}

fn other(input: &mut Reader<'_>) -> Read<Other> {
    input.array_exact(3)?;
    Ok(Other { id: input.uint()?, principal: text(input, BY_BYTES)?, value: read_value(input)? })
}

fn bye(input: &mut Reader<'_>) -> Read<Bye> {
    input.array_exact(3)?;
    Ok(Bye {
        code: numbered(input)?,
        reason: text(input, REASON_BYTES_MAX)?,
        retry_after: input.optional(|input| input.uint().map(Millis))?,
    })
}
