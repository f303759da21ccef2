//! Values, records and messages at random, the same on every platform for the same seed.
//!
//! What comes out is well-formed, not reachable: contexts and dots of two records drawn apart need not
//! fit together. States that replicas can reach come from [`super::history`].

use super::rng::Rng;
use crate::{
    hlc::{Hlc, Stamp},
    id::{CollectionName, FieldName, NameError, RecordId, RecordKey, ReplicaId},
    record::{
        AddWinsSet, Cell, Counter, INTEGRAL_MAX, Kind, Record, Removed, Siblings, State, Tally,
        Value, VersionVector,
    },
};
use alloc::{format, string::String, vec::Vec};

/// Deepest value drawn.
const DEPTH_MAX: u64 = 4;

/// Up to `max` things, drawn one by one.
pub fn some<T>(rng: &mut Rng, max: u64, mut draw: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.below(max + 1)).map(|_| draw(rng)).collect()
}

/// Something or nothing.
pub fn maybe<T>(rng: &mut Rng, draw: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (!rng.once_in(3)).then(|| draw(rng))
}

/// Text of all lengths of characters in UTF-8, up to about 40 bytes, once in a while 300.
pub fn arbitrary_text(rng: &mut Rng) -> String {
    let max = if rng.once_in(40) { 300 } else { 12 };
    some(rng, max, |rng| {
        rng.one_of('a', &['b', 'z', 'A', '0', ' ', '-', 'é', 'ß', '水', '😀', '\u{301}'])
    })
    .into_iter()
    .collect()
}

/// A name of a few that come up again and again, else a new one.
fn name<T>(rng: &mut Rng, parse: impl Fn(&str) -> Result<T, NameError>) -> T {
    loop {
        let drawn = match rng.below(8) {
            0 => arbitrary_text(rng),
            1 => format!("a/{}", rng.below(100)),
            _ => String::from(rng.one_of("tasks", &["title", "done", "größe", "x", "tags", "*"])),
        };
        if let Ok(name) = parse(&drawn) {
            return name;
        }
    }
}

/// A collection's name.
pub fn arbitrary_collection(rng: &mut Rng) -> CollectionName {
    name(rng, CollectionName::parse)
}

/// A field's name.
pub fn arbitrary_field(rng: &mut Rng) -> FieldName {
    name(rng, FieldName::parse)
}

/// A record's name: its id is a UUID, nearly one, or any text.
pub fn arbitrary_key(rng: &mut Rng) -> RecordKey {
    let collection = arbitrary_collection(rng);
    let hex = format!("{:032x}", u128::from_be_bytes(rng.bytes()));
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    let uuid = format!("{a}-{b}-{c}-{d}-{e}");
    let id = match rng.below(4) {
        0 | 1 => RecordId::parse(&uuid),
        2 => RecordId::parse(&uuid.to_uppercase()),
        _ => Ok(name(rng, RecordId::parse)),
    };
    RecordKey {
        collection,
        // A UUID is a good name in either case.
        id: id.unwrap_or_else(|_refused| name(rng, RecordId::parse)),
    }
}

/// One of five replicas that come up again and again, else a new one.
pub fn arbitrary_replica(rng: &mut Rng) -> ReplicaId {
    if rng.once_in(12) {
        ReplicaId::from_bytes(rng.bytes())
    } else {
        let [.., low] = rng.below(5).to_be_bytes();
        ReplicaId::from_bytes([low; 16])
    }
}

/// A time: near one moment, near another in which it may tie, or anywhere.
pub fn arbitrary_hlc(rng: &mut Rng) -> Hlc {
    Hlc::from_bits(match rng.below(8) {
        0 => rng.any_size(),
        1 => rng.below(4),
        _ => (1_785_000_000_000 << 16) + rng.below(1 << 24),
    })
}

/// A stamp.
pub fn arbitrary_stamp(rng: &mut Rng) -> Stamp {
    Stamp { hlc: arbitrary_hlc(rng), replica: arbitrary_replica(rng) }
}

/// A version vector.
pub fn arbitrary_vector(rng: &mut Rng) -> VersionVector {
    some(rng, 4, |rng| (arbitrary_replica(rng), arbitrary_hlc(rng))).into_iter().collect()
}

/// An integer, with those around the borders of 2^53, `i64` and the encodings more often.
pub fn arbitrary_int(rng: &mut Rng) -> i64 {
    match rng.below(3) {
        0 => rng.one_of(
            0,
            &[
                -1,
                23,
                24,
                -24,
                -25,
                -256,
                -257,
                i64::MAX,
                i64::MIN,
                INTEGRAL_MAX,
                INTEGRAL_MAX + 1,
                -INTEGRAL_MAX,
                -INTEGRAL_MAX - 1,
            ],
        ),
        _ => i64::from_be_bytes(rng.any_size().to_be_bytes()),
    }
}

/// A float, with those around 2^53, 2^63 and zero, and those that are none, more often.
pub fn arbitrary_float(rng: &mut Rng) -> f64 {
    match rng.below(3) {
        0 => rng.one_of(
            0.5,
            &[
                -0.0,
                -1.5,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN_POSITIVE,
                f64::from_bits(1),
                f64::MAX,
                9_007_199_254_740_992.0,
                9_007_199_254_740_994.0,
                9_223_372_036_854_775_808.0,
                -9_223_372_036_854_775_808.0,
                0.1,
            ],
        ),
        _ => f64::from_bits(rng.next_u64()),
    }
}

/// A value of any type.
pub fn arbitrary_value(rng: &mut Rng) -> Value {
    value(rng, DEPTH_MAX)
}

fn value(rng: &mut Rng, depth: u64) -> Value {
    match rng.below(if depth == 0 { 8 } else { 11 }) {
        0 => Value::Null,
        1 => Value::Bool(rng.once_in(2)),
        2 | 3 => Value::int(arbitrary_int(rng)),
        4 => Value::float(arbitrary_float(rng)),
        5 | 6 => Value::Text(arbitrary_text(rng)),
        7 => Value::Bytes(some(rng, 30, Rng::byte)),
        8 | 9 => Value::Array(some(rng, 4, |rng| value(rng, depth - 1))),
        _ => {
            let items = some(rng, 4, |rng| (arbitrary_text(rng), value(rng, depth - 1)));
            Value::Map(items.into_iter().collect())
        }
    }
}

/// Any kind, those of later versions included.
pub fn arbitrary_kind(rng: &mut Rng) -> Kind {
    let [.., low] = rng.below(8).to_be_bytes();
    Kind::from_code(if low < 7 { low } else { rng.one_of(7, &[8, 23, 24, 255]) })
}

/// A well-formed cell of a kind.
pub fn arbitrary_cell(rng: &mut Rng, kind: Kind) -> Cell {
    Cell {
        since: if kind == Kind::Lww || rng.once_in(2) { None } else { Some(arbitrary_stamp(rng)) },
        state: state(rng, kind),
    }
}

fn state(rng: &mut Rng, kind: Kind) -> State {
    match kind {
        Kind::Lww => State::Lww { stamp: arbitrary_stamp(rng), value: maybe(rng, arbitrary_value) },
        Kind::Fww => State::Fww(maybe(rng, |rng| (arbitrary_stamp(rng), arbitrary_value(rng)))),
        Kind::Max => State::Max(maybe(rng, arbitrary_value)),
        Kind::Min => State::Min(maybe(rng, arbitrary_value)),
        Kind::Counter => {
            let tallies = some(rng, 4, |rng| {
                let tally = Tally { added: rng.any_size(), subtracted: rng.any_size() };
                (arbitrary_replica(rng), tally)
            });
            State::Counter(Counter(tallies.into_iter().collect()))
        }
        Kind::Set => {
            let context = arbitrary_vector(rng);
            let elements = some(rng, 4, |rng| (arbitrary_value(rng), dots(rng, &context)));
            let elements = elements.into_iter().filter(|(_, dots)| !dots.is_empty()).collect();
            State::Set(AddWinsSet { context, elements })
        }
        Kind::Review => {
            let context = arbitrary_vector(rng);
            let values =
                dots(rng, &context).iter().map(|dot| (dot, arbitrary_value(rng))).collect();
            State::Review(Siblings { context, values })
        }
        Kind::Later(code) => State::Later { code, bytes: some(rng, 20, Rng::byte) },
    }
}

/// Some writes that `context` has seen.
fn dots(rng: &mut Rng, context: &VersionVector) -> VersionVector {
    let mut dots = VersionVector::new();
    for last in context.iter() {
        if rng.once_in(2) {
            let hlc = last.hlc.to_bits().saturating_sub(rng.below(3));
            dots.set(last.replica, Hlc::from_bits(hlc));
        }
    }
    dots
}

/// A well-formed record.
pub fn arbitrary_record(rng: &mut Rng) -> Record {
    let cells = some(rng, 5, |rng| {
        let kind = arbitrary_kind(rng);
        ((arbitrary_field(rng), kind), arbitrary_cell(rng, kind))
    });
    Record {
        seen: arbitrary_vector(rng),
        removed: Removed { seen: arbitrary_vector(rng), buried: maybe(rng, arbitrary_hlc) },
        cells: cells.into_iter().collect(),
    }
}
