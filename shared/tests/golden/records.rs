//! Records and values whose bytes are pinned.

use crate::{field, hlc, replica, stamp};
use rejoin_core::{
    hlc::Hlc,
    record::{
        AddWinsSet, Cell, Counter, Kind, Record, Removed, Siblings, State, Tally, Value,
        VersionVector,
    },
    sorted::SortedMap,
};

fn vector(entries: &[(u8, u64)]) -> VersionVector {
    entries.iter().map(|(byte, time)| (replica(*byte), hlc(*time))).collect()
}

fn with_cell(since: Option<(u8, u64)>, state: State) -> Record {
    let cell = Cell { since: since.map(|(byte, time)| stamp(byte, time)), state };
    Record {
        seen: vector(&[(1, 0), (2, 70_000)]),
        removed: Removed::default(),
        cells: SortedMap::from([((field("title"), cell.state.kind()), cell)]),
    }
}

/// A record in which every part is used.
pub(crate) fn full() -> Record {
    let mut record = with_cell(
        None,
        State::Lww { stamp: stamp(2, 3), value: Some(Value::text("write it down")) },
    );
    record.removed = Removed { seen: vector(&[(1, 0)]), buried: Some(hlc(99)) };
    record.cells.insert(
        (field("votes"), Kind::Counter),
        Cell { since: Some(stamp(1, 0)), state: counter() },
    );
    record
}

fn counter() -> State {
    let tally = |added, subtracted| Tally { added, subtracted };
    State::Counter(Counter(SortedMap::from([
        (replica(1), tally(1, 0)),
        (replica(2), tally(u64::MAX, (1 << 53) + 1)),
    ])))
}

pub(crate) fn records() -> Vec<(&'static str, Record)> {
    let lww = |value| State::Lww { stamp: stamp(1, 5), value };
    let seven = || Value::int(7);
    let set = AddWinsSet {
        context: vector(&[(1, 5), (2, 6)]),
        elements: SortedMap::from([
            (seven(), vector(&[(1, 4)])),
            (Value::text("tag"), vector(&[(1, 5), (2, 6)])),
        ]),
    };
    let review = Siblings {
        context: vector(&[(1, 5), (2, 6), (3, 7)]),
        values: SortedMap::from([(stamp(1, 5), Value::Null), (stamp(2, 6), seven())]),
    };
    let later = State::Later { code: 9, bytes: vec![0xff, 0x00] };
    vec![
        ("record_empty", Record::default()),
        ("record_full", full()),
        ("record_lww", with_cell(None, lww(Some(seven())))),
        ("record_lww_null", with_cell(None, lww(Some(Value::Null)))),
        ("record_lww_absent", with_cell(None, lww(None))),
        ("record_fww", with_cell(None, State::Fww(Some((stamp(1, 5), seven()))))),
        ("record_fww_reset", with_cell(Some((1, 5)), State::Fww(None))),
        ("record_max", with_cell(None, State::Max(Some(seven())))),
        ("record_max_reset", with_cell(Some((1, 5)), State::Max(None))),
        ("record_min", with_cell(None, State::Min(Some(Value::Null)))),
        ("record_min_reset", with_cell(Some((1, 5)), State::Min(None))),
        ("record_counter", with_cell(None, counter())),
        ("record_counter_reset", with_cell(Some((1, 5)), State::Counter(Counter::default()))),
        ("record_set", with_cell(None, State::Set(set))),
        ("record_set_reset", with_cell(Some((1, 5)), State::Set(AddWinsSet::default()))),
        ("record_review", with_cell(None, State::Review(review))),
        ("record_review_reset", with_cell(Some((1, 5)), State::Review(Siblings::default()))),
        ("record_later", with_cell(Some((1, 5)), later)),
    ]
}

pub(crate) fn values() -> Vec<(&'static str, Value)> {
    let map = |entries: &[(&str, i64)]| {
        let entries = entries.iter().map(|(name, value)| ((*name).to_owned(), Value::int(*value)));
        Value::Map(entries.collect())
    };
    vec![
        ("null", Value::Null),
        ("false", Value::Bool(false)),
        ("true", Value::Bool(true)),
        ("int_0", Value::int(0)),
        ("int_23", Value::int(23)),
        ("int_24", Value::int(24)),
        ("int_255", Value::int(255)),
        ("int_256", Value::int(256)),
        ("int_65535", Value::int(65_535)),
        ("int_65536", Value::int(65_536)),
        ("int_2_32_less_1", Value::int((1 << 32) - 1)),
        ("int_2_32", Value::int(1 << 32)),
        ("int_2_53", Value::int(1 << 53)),
        ("int_2_53_and_1", Value::int((1 << 53) + 1)),
        ("int_max", Value::int(i64::MAX)),
        ("int_minus_1", Value::int(-1)),
        ("int_minus_24", Value::int(-24)),
        ("int_minus_25", Value::int(-25)),
        ("int_minus_256", Value::int(-256)),
        ("int_minus_257", Value::int(-257)),
        ("int_min", Value::int(i64::MIN)),
        ("float_integral", Value::float(3.0)),
        ("float_minus_zero", Value::float(-0.0)),
        ("float_half", Value::float(0.5)),
        ("float_2_53", Value::float(9_007_199_254_740_992.0)),
        ("float_2_53_and_2", Value::float(9_007_199_254_740_994.0)),
        ("float_2_63", Value::float(9_223_372_036_854_775_808.0)),
        ("float_least", Value::float(f64::from_bits(1))),
        ("float_least_below_2_32_bits", Value::float(f64::from_bits((1 << 32) - 1))),
        ("float_nan", Value::float(f64::NAN)),
        ("float_nan_of_another_form", Value::float(f64::from_bits(0xfff0_0000_0000_0001))),
        ("float_infinity", Value::float(f64::INFINITY)),
        ("float_minus_infinity", Value::float(f64::NEG_INFINITY)),
        ("text_empty", Value::text("")),
        ("text_wide", Value::text("é水😀")),
        ("text_24", Value::text("abcdefghijklmnopqrstuvwx")),
        ("bytes_empty", Value::Bytes(Vec::new())),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("array_empty", Value::Array(Vec::new())),
        ("array_nested", Value::Array(vec![Value::Null, Value::Array(vec![Value::int(1)])])),
        ("map_empty", map(&[])),
        ("map_shorter_names_first", map(&[("b", 1), ("aa", 2), ("", 3), ("é", 4)])),
    ]
}

/// A delta of one write at `time`: only what it touched.
pub(crate) fn delta(byte: u8, time: u64) -> Record {
    let cell = Cell {
        since: None,
        state: State::Lww { stamp: stamp(byte, time), value: Some(Value::Bool(true)) },
    };
    Record {
        seen: vector(&[(byte, time)]),
        removed: Removed { seen: VersionVector::new(), buried: None::<Hlc> },
        cells: SortedMap::from([((field("done"), Kind::Lww), cell)]),
    }
}
