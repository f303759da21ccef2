//! The canonical form of values, keys and records. Its bytes are what digests are taken over.

use super::{CodecError, CodecFault, Reader, Writer};
use crate::{
    hlc::{Hlc, Stamp},
    id::{Digest, RecordId, RecordKey},
    record::{
        AddWinsSet, Cell, Counter, Kind, Number, Record, Removed, Siblings, State, Tally, Value,
        VersionVector,
    },
    sorted::SortedMap,
};
use alloc::{string::String, vec::Vec};

/// Encodes a record in its stored form.
#[must_use]
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut out = Writer::new();
    write_record(&mut out, record);
    out.into_bytes()
}

/// Decodes a record from its stored form.
///
/// # Errors
/// [`CodecError`] when the bytes are not exactly one canonical record.
pub fn decode_record(bytes: &[u8]) -> Result<Record, CodecError> {
    let mut input = Reader::new(bytes);
    let record = read_record(&mut input)?;
    input.finish()?;
    Ok(record)
}

/// Digest of a record, over its stored form.
#[must_use]
pub fn record_digest(encoded: &[u8]) -> Digest {
    Digest::of("rejoin.record.v1", &[encoded])
}

/// Writes a value.
pub fn write_value(out: &mut Writer, value: &Value) {
    match value {
        Value::Null => out.null(),
        Value::Bool(value) => out.bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(int) => out.int(int),
            None => out.float(number.to_f64()),
        },
        Value::Text(text) => out.text(text),
        Value::Bytes(bytes) => out.bytes(bytes),
        Value::Array(items) => {
            out.array(items.len());
            items.iter().for_each(|item| write_value(out, item));
        }
        Value::Map(items) => {
            out.map(items.len());
            // The bytewise order of encoded text keys is by length first.
            let mut sorted: Vec<_> = items.iter().collect();
            sorted.sort_by(|left, right| cbor_order(left.0, right.0));
            for (key, item) in sorted {
                out.text(key);
                write_value(out, item);
            }
        }
    }
}

fn cbor_order(left: &str, right: &str) -> core::cmp::Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// Reads a value.
///
/// # Errors
/// [`CodecError`] when no canonical value stands here.
pub fn read_value(input: &mut Reader<'_>) -> Result<Value, CodecError> {
    let at = input.position();
    match input.peek_major() {
        Some(0 | 1) => input.int().map(Value::int),
        Some(2) => input.bytes().map(|bytes| Value::Bytes(bytes.to_vec())),
        Some(3) => input.text().map(|text| Value::Text(String::from(text))),
        Some(4) => input.nested(|input| {
            let len = input.array()?;
            (0..len).map(|_| read_value(input)).collect::<Result<_, _>>().map(Value::Array)
        }),
        Some(5) => input.nested(read_map),
        _ => match input.peek() {
            Some(0xf6) => input.skip().map(|()| Value::Null),
            Some(0xf4 | 0xf5) => input.bool().map(Value::Bool),
            Some(0xfb) => {
                let float = input.float()?;
                let number = Number::from_f64(float);
                let same =
                    number.as_i64().is_none() && number.to_f64().to_bits() == float.to_bits();
                if same {
                    Ok(Value::Number(number))
                } else {
                    Err(CodecError { at, kind: CodecFault::NotCanonical })
                }
            }
            Some(_) => Err(input.fault(CodecFault::Type { expected: "a value" })),
            None => Err(input.fault(CodecFault::Truncated)),
        },
    }
}

fn read_map(input: &mut Reader<'_>) -> Result<Value, CodecError> {
    let len = input.map()?;
    let mut items = SortedMap::new();
    let mut previous: Option<&str> = None;
    for _ in 0..len {
        let key = input.text()?;
        if previous.is_some_and(|previous| cbor_order(previous, key).is_ge()) {
            return Err(input.fault(CodecFault::NotCanonical));
        }
        previous = Some(key);
        items.insert(String::from(key), read_value(input)?);
    }
    Ok(Value::Map(items))
}

/// Writes a record's name; an id that is a canonical UUID takes 16 bytes.
pub fn write_key(out: &mut Writer, key: &RecordKey) {
    out.name(key.collection.as_str());
    write_id(out, &key.id);
}

/// Writes a record's id.
pub fn write_id(out: &mut Writer, id: &RecordId) {
    match uuid_bytes(id.as_str()) {
        Some(bytes) => out.bytes(&bytes),
        None => out.text(id.as_str()),
    }
}

/// Reads a record's name.
///
/// # Errors
/// [`CodecError`] when no canonical name stands here.
pub fn read_key(input: &mut Reader<'_>) -> Result<RecordKey, CodecError> {
    let collection = input.collection()?;
    Ok(RecordKey { collection, id: read_id(input)? })
}

/// Reads a record's id.
///
/// # Errors
/// [`CodecError`] when no canonical id stands here.
pub fn read_id(input: &mut Reader<'_>) -> Result<RecordId, CodecError> {
    let at = input.position();
    let refused = |kind| CodecError { at, kind };
    let id = if input.peek_major() == Some(2) {
        RecordId::parse(&uuid_text(&input.bytes_exact()?))
    } else {
        let text = input.text()?;
        if uuid_bytes(text).is_some() {
            return Err(refused(CodecFault::NotCanonical));
        }
        RecordId::parse(text)
    };
    id.map_err(|_refused| refused(CodecFault::Range))
}

/// The bytes of a UUID in its canonical text form (RFC 9562: lower case, hyphens at 8, 13, 18, 23).
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut out = [0_u8; 16];
    let mut digits = 0_usize;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        let place = out.get_mut(digits / 2)?;
        *place = (*place << 4) | digit;
        digits += 1;
    }
    Some(out)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend(
            [byte >> 4, byte & 15].into_iter().flat_map(|digit| char::from_digit(digit.into(), 16)),
        );
    }
    text
}

/// Writes a version vector as pairs, by replica.
pub fn write_vector(out: &mut Writer, vector: &VersionVector) {
    out.array(vector.len() * 2);
    for stamp in vector.iter() {
        out.replica(&stamp.replica);
        out.hlc(stamp.hlc);
    }
}

/// Reads a version vector.
///
/// # Errors
/// [`CodecError`] when no canonical vector stands here.
pub fn read_vector(input: &mut Reader<'_>) -> Result<VersionVector, CodecError> {
    let len = input.array()?;
    if len % 2 == 1 {
        return Err(input.fault(CodecFault::Range));
    }
    let mut vector = VersionVector::new();
    let mut previous = None;
    for _ in 0..len / 2 {
        let replica = input.replica()?;
        ascending(input, &mut previous, replica)?;
        vector.set(replica, input.hlc()?);
    }
    Ok(vector)
}

fn ascending<T: Ord + Clone>(
    input: &Reader<'_>,
    previous: &mut Option<T>,
    next: T,
) -> Result<(), CodecError> {
    if previous.as_ref().is_some_and(|previous| *previous >= next) {
        return Err(input.fault(CodecFault::NotCanonical));
    }
    *previous = Some(next);
    Ok(())
}

/// Writes a stamp as a pair.
pub fn write_stamp(out: &mut Writer, stamp: &Stamp) {
    out.array(2);
    out.replica(&stamp.replica);
    out.hlc(stamp.hlc);
}

/// Reads a stamp.
///
/// # Errors
/// [`CodecError`] when no stamp stands here.
pub fn read_stamp(input: &mut Reader<'_>) -> Result<Stamp, CodecError> {
    input.array_exact(2)?;
    Ok(Stamp { replica: input.replica()?, hlc: input.hlc()? })
}

fn write_optional<T>(out: &mut Writer, value: Option<&T>, write: impl FnOnce(&mut Writer, &T)) {
    match value {
        Some(value) => write(out, value),
        None => out.null(),
    }
}

/// Writes a record, or a delta of one: `[seen, removed, buried, cells]`.
pub fn write_record(out: &mut Writer, record: &Record) {
    out.array(4);
    write_vector(out, &record.seen);
    write_vector(out, &record.removed.seen);
    write_optional(out, record.removed.buried.as_ref(), |out, hlc| {
        out.hlc(*hlc);
    });
    out.array(record.cells.len());
    for ((field, kind), cell) in &record.cells {
        out.array(4);
        out.field(field);
        out.uint(u64::from(kind.code()));
        write_optional(out, cell.since.as_ref(), write_stamp);
        write_state(out, &cell.state);
    }
}

/// When a record in its stored form was buried, if it is dead; its cells are not looked at. O(length of its
/// two vectors).
///
/// # Errors
/// [`CodecError`] when no record stands here.
pub fn burial(bytes: &[u8]) -> Result<Option<Hlc>, CodecError> {
    let mut input = Reader::new(bytes);
    input.array_exact(4)?;
    let seen = read_vector(&mut input)?;
    let removed = read_vector(&mut input)?;
    let buried = input.optional(Reader::hlc)?;
    Ok(buried.filter(|_| !seen.exceeds(&removed)))
}

/// What a record in its stored form has seen; nothing behind that is looked at. O(length of that vector).
///
/// # Errors
/// [`CodecError`] when no record stands here.
pub fn seen(bytes: &[u8]) -> Result<VersionVector, CodecError> {
    let mut input = Reader::new(bytes);
    input.array_exact(4)?;
    read_vector(&mut input)
}

/// Reads a record, or a delta of one.
///
/// # Errors
/// [`CodecError`] when no canonical record stands here.
pub fn read_record(input: &mut Reader<'_>) -> Result<Record, CodecError> {
    input.array_exact(4)?;
    let seen = read_vector(input)?;
    let removed = Removed { seen: read_vector(input)?, buried: input.optional(Reader::hlc)? };
    let mut cells = SortedMap::new();
    let mut previous = None;
    for _ in 0..input.array()? {
        input.array_exact(4)?;
        let field = input.field()?;
        let code =
            u8::try_from(input.uint()?).map_err(|_refused| input.fault(CodecFault::Range))?;
        let key = (field, Kind::from_code(code));
        ascending(input, &mut previous, key.clone())?;
        let since = input.optional(read_stamp)?;
        let state = input.nested(|input| read_state(input, key.1))?;
        if since.is_some() && key.1 == Kind::Lww {
            return Err(input.fault(CodecFault::NotCanonical));
        }
        cells.insert(key, Cell { since, state });
    }
    Ok(Record { seen, removed, cells })
}

fn write_state(out: &mut Writer, state: &State) {
    match state {
        State::Lww { stamp, value } => {
            // An absent value is told by the shorter array: null is a value.
            out.array(if value.is_some() { 3 } else { 2 });
            out.replica(&stamp.replica);
            out.hlc(stamp.hlc);
            if let Some(value) = value {
                write_value(out, value);
            }
        }
        State::Fww(None) | State::Max(None) | State::Min(None) => out.array(0),
        State::Fww(Some((stamp, value))) => {
            out.array(3);
            out.replica(&stamp.replica);
            out.hlc(stamp.hlc);
            write_value(out, value);
        }
        State::Max(Some(value)) | State::Min(Some(value)) => {
            out.array(1);
            write_value(out, value);
        }
        State::Counter(counter) => {
            out.array(counter.0.len() * 3);
            for (replica, tally) in &counter.0 {
                out.replica(replica);
                out.uint(tally.added);
                out.uint(tally.subtracted);
            }
        }
        State::Set(set) => {
            out.array(1 + set.elements.len() * 2);
            write_vector(out, &set.context);
            for (element, dots) in &set.elements {
                write_value(out, element);
                write_vector(out, dots);
            }
        }
        State::Review(siblings) => {
            out.array(1 + siblings.values.len() * 2);
            write_vector(out, &siblings.context);
            for (stamp, value) in &siblings.values {
                write_stamp(out, stamp);
                write_value(out, value);
            }
        }
        State::Later { bytes, .. } => out.bytes(bytes),
    }
}

fn read_state(input: &mut Reader<'_>, kind: Kind) -> Result<State, CodecError> {
    if let Kind::Later(code) = kind {
        return Ok(State::Later { code, bytes: input.bytes()?.to_vec() });
    }
    let len = input.array()?;
    let shape = |input: &Reader<'_>, fits: bool| {
        if fits { Ok(()) } else { Err(input.fault(CodecFault::Range)) }
    };
    match kind {
        Kind::Lww => {
            shape(input, len == 2 || len == 3)?;
            let stamp = Stamp { replica: input.replica()?, hlc: input.hlc()? };
            let value = if len == 3 { Some(read_value(input)?) } else { None };
            Ok(State::Lww { stamp, value })
        }
        Kind::Fww => {
            shape(input, len == 0 || len == 3)?;
            if len == 0 {
                return Ok(State::Fww(None));
            }
            let stamp = Stamp { replica: input.replica()?, hlc: input.hlc()? };
            Ok(State::Fww(Some((stamp, read_value(input)?))))
        }
        Kind::Max | Kind::Min => {
            shape(input, len <= 1)?;
            let value = if len == 1 { Some(read_value(input)?) } else { None };
            Ok(if kind == Kind::Max { State::Max(value) } else { State::Min(value) })
        }
        Kind::Counter => {
            shape(input, len.is_multiple_of(3))?;
            read_counter(input, len / 3).map(State::Counter)
        }
        Kind::Set => {
            shape(input, len % 2 == 1)?;
            read_set(input, len / 2).map(State::Set)
        }
        Kind::Review | Kind::Later(_) => {
            shape(input, len % 2 == 1)?;
            read_siblings(input, len / 2).map(State::Review)
        }
    }
}

fn read_counter(input: &mut Reader<'_>, len: usize) -> Result<Counter, CodecError> {
    let mut counter = Counter::default();
    let mut previous = None;
    for _ in 0..len {
        let replica = input.replica()?;
        ascending(input, &mut previous, replica)?;
        let tally = Tally { added: input.uint()?, subtracted: input.uint()? };
        counter.0.insert(replica, tally);
    }
    Ok(counter)
}

fn read_set(input: &mut Reader<'_>, len: usize) -> Result<AddWinsSet, CodecError> {
    let context = read_vector(input)?;
    let mut elements = SortedMap::new();
    let mut previous = None;
    for _ in 0..len {
        let element = read_value(input)?;
        ascending(input, &mut previous, element.clone())?;
        let dots = read_vector(input)?;
        // An element without a dot, or with one that the context lacks, is no state a set can have.
        if dots.is_empty() || dots.exceeds(&context) {
            return Err(input.fault(CodecFault::Range));
        }
        elements.insert(element, dots);
    }
    Ok(AddWinsSet { context, elements })
}

fn read_siblings(input: &mut Reader<'_>, len: usize) -> Result<Siblings, CodecError> {
    let context = read_vector(input)?;
    let mut values = SortedMap::new();
    let mut previous = None;
    for _ in 0..len {
        let stamp = read_stamp(input)?;
        ascending(input, &mut previous, stamp)?;
        if !context.covers(&stamp) {
            return Err(input.fault(CodecFault::Range));
        }
        values.insert(stamp, read_value(input)?);
    }
    Ok(Siblings { context, values })
}
