//! Merging and hashing where they could go wrong: equal stamps, large integers, shifted separators.

use crate::world::{Shown, World, field, key, set, title};
use rejoin_core::{
    codec::{encode_record, record_digest},
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::{CollectionName, Digest, RecordId, RecordKey, ReplicaId, key_hash},
    record::{
        AddWinsSet, Cell, Counter, Kind, Record, Siblings, State, Tally, Value, VersionVector,
    },
    replica::{Action, Change, FieldAction},
    testing::rng::Rng,
};
use std::collections::{BTreeMap, BTreeSet};

const TRIPLES: usize = 5_000;
const SPLITS: usize = 20_000;

/// Neighbours that a float cannot tell apart, and the ends of the range.
fn large(rng: &mut Rng) -> i64 {
    let edge = rng.one_of(1_i64 << 53, &[-(1 << 53), 1 << 62, i64::MAX - 2, i64::MIN + 2]);
    edge.saturating_add(i64::from(rng.byte() % 5) - 2)
}

fn large_value(rng: &mut Rng) -> Value {
    Value::int(large(rng))
}

/// One of few: ties are common.
fn stamp(rng: &mut Rng) -> Stamp {
    let replica = ReplicaId::from_bytes([rng.byte() % 2; 16]);
    Stamp { hlc: Hlc::from_bits(1 + rng.below(2)), replica }
}

fn dot(stamp: &Stamp) -> (ReplicaId, Hlc) {
    (stamp.replica, stamp.hlc)
}

/// A cell of this kind with large integers and stamps of which many are equal. What one stamp wrote of a
/// set or a review follows from the stamp, as a dot names one write.
fn cell(rng: &mut Rng, kind: Kind) -> Cell {
    let since = rng.once_in(3).then(|| stamp(rng));
    let written: BTreeSet<Stamp> = (0..rng.below(4)).map(|_| stamp(rng)).collect();
    let context = || VersionVector::from_iter(written.iter().map(dot));
    let named = |stamp: &Stamp| {
        let number = i64::try_from(stamp.hlc.to_bits()).unwrap();
        Value::int((1 << 53) + number + i64::from(stamp.replica.as_bytes()[0]))
    };
    let tally = |rng: &mut Rng| {
        let draw = |rng: &mut Rng| rng.one_of(1 << 53, &[(1 << 53) + 1, u64::MAX - 1, u64::MAX, 0]);
        Tally { added: draw(rng), subtracted: draw(rng) }
    };
    let value = (!rng.once_in(5)).then(|| large_value(rng));
    let state = match kind {
        Kind::Lww => State::Lww { stamp: stamp(rng), value },
        Kind::Fww => State::Fww(value.map(|value| (stamp(rng), value))),
        Kind::Max => State::Max(value),
        Kind::Min => State::Min(value),
        Kind::Counter => {
            let tallies = written.iter().map(|stamp| (stamp.replica, tally(rng)));
            State::Counter(Counter(tallies.collect()))
        }
        Kind::Set => {
            let kept = written.iter().filter(|_| !rng.once_in(3));
            let elements = kept.map(|stamp| (named(stamp), VersionVector::from_iter([dot(stamp)])));
            State::Set(AddWinsSet { context: context(), elements: elements.collect() })
        }
        Kind::Review => {
            let kept = written.iter().filter(|_| !rng.once_in(3));
            let values = kept.map(|stamp| (*stamp, named(stamp))).collect();
            State::Review(Siblings { context: context(), values })
        }
        Kind::Later(code) => panic!("no kind {code} here"),
    };
    Cell { since, state }
}

const KINDS: [Kind; 7] =
    [Kind::Lww, Kind::Fww, Kind::Max, Kind::Min, Kind::Counter, Kind::Set, Kind::Review];

fn joined<T: Join + Clone>(left: &T, right: &T) -> T {
    let mut joined = left.clone();
    joined.join(right);
    joined
}

fn assert_laws<T: Join + Clone + PartialEq + std::fmt::Debug>(a: &T, b: &T, c: &T) {
    assert_eq!(joined(a, a), *a, "idempotent");
    assert_eq!(joined(a, b), joined(b, a), "commutative");
    assert_eq!(
        joined(&joined(a, b), c),
        joined(a, &joined(b, c)),
        "associative: {a:?} {b:?} {c:?}"
    );
}

#[test]
fn c07_c08_every_kind_keeps_the_laws_under_equal_stamps_and_large_integers() {
    let mut rng = Rng::new(15);
    for kind in KINDS {
        let mut different = 0;
        for _ in 0..TRIPLES {
            let (a, b, c) = (cell(&mut rng, kind), cell(&mut rng, kind), cell(&mut rng, kind));
            assert_laws(&a, &b, &c);
            different += usize::from(joined(&a, &b) != a && joined(&a, &b) != b);
        }
        // A total order has no third state above two of its own; all others must have had one.
        let total = matches!(kind, Kind::Lww | Kind::Fww | Kind::Max | Kind::Min);
        assert_eq!(different > 100, !total, "{kind:?}: {different}");
    }
}

/// One field that apps of two versions declare with two kinds: two cells of one record, which join by
/// themselves; and two cells of different kinds under one key, which no replica makes.
#[test]
fn c07_c08_every_pair_of_kinds_keeps_the_laws_under_equal_stamps_and_large_integers() {
    let mut rng = Rng::new(16);
    for left in KINDS {
        for right in KINDS {
            for _ in 0..TRIPLES / 20 {
                let mut record = || {
                    let mut record = Record::default();
                    for kind in [left, right] {
                        if !rng.once_in(3) {
                            record.cells.insert((field("f"), kind), cell(&mut rng, kind));
                        }
                    }
                    record
                };
                assert_laws(&record(), &record(), &record());
                let mut either = || {
                    let kind = rng.one_of(left, &[right]);
                    cell(&mut rng, kind)
                };
                assert_laws(&either(), &either(), &either());
            }
        }
    }
}

/// From write to read on another device, through log, wire and both stores.
#[test]
fn c10_integers_beyond_2_to_the_53_reach_another_device_exactly() {
    let odd = (1_i64 << 53) + 1;
    for number in [odd, -odd, i64::MAX, i64::MIN, i64::MAX - 1] {
        let mut world = World::new(15);
        let (left, right) = (world.device(), world.device());
        let value = || Value::int(number);
        let count = number.clamp(-i64::MAX, i64::MAX);
        let fields = vec![
            set("lww", FieldAction::Set(Kind::Lww, value())),
            set("fww", FieldAction::Set(Kind::Fww, value())),
            set("max", FieldAction::Set(Kind::Max, value())),
            set("min", FieldAction::Set(Kind::Min, value())),
            set("counter", FieldAction::Add(count)),
            set("set", FieldAction::Insert(vec![value()])),
            set("review", FieldAction::Resolve(value())),
        ];
        world.write(left, vec![Change { key: key("tasks", "1"), action: Action::Add(fields) }]);
        world.connect(left);
        world.connect(right);
        world.settle();
        let seen = world.agreed();
        let shown = &seen[&key("tasks", "1")];
        for name in ["lww", "fww", "max", "min"] {
            assert_eq!(shown[&field(name)], Shown::Value(value()), "{name}");
        }
        assert_eq!(shown[&field("counter")], Shown::Counter(count));
        assert_eq!(shown[&field("set")], Shown::Set(vec![value()]));
        assert_eq!(shown[&field("review")], Shown::Review(vec![value()]));
    }
}

/// A text full of what could be mistaken for a separator, a length or an escape.
fn tricky(rng: &mut Rng, length: usize) -> String {
    let alphabet = ['a', ':', '/', '%', '\\', '|', ',', '1', '\u{1}', '\u{7f}', 'é'];
    (0..length).map(|_| alphabet[rng.index(alphabet.len())]).collect()
}

fn splits(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.char_indices().skip(1).map(|(at, _)| text.split_at(at))
}

fn parsed((collection, id): (&str, &str)) -> Option<RecordKey> {
    Some(RecordKey {
        collection: CollectionName::parse(collection).ok()?,
        id: RecordId::parse(id).ok()?,
    })
}

#[test]
fn keys_that_are_split_elsewhere_never_share_a_hash() {
    let mut rng = Rng::new(19);
    let mut owners: BTreeMap<Digest, RecordKey> = BTreeMap::new();
    let mut count = 0;
    while count < SPLITS {
        let length = 2 + rng.index(12);
        let text = tricky(&mut rng, length);
        for key in splits(&text).filter_map(parsed) {
            let owner = owners.entry(key_hash(&key)).or_insert_with(|| key.clone());
            assert_eq!(*owner, key);
            count += 1;
        }
    }
    let keys: BTreeSet<&RecordKey> = owners.values().collect();
    assert_eq!(keys.len(), owners.len());
    assert!(keys.len() > SPLITS / 2, "{} different keys", keys.len());
}

/// Any list of parts, cut at any other places: the same bytes in all, another hash.
#[test]
fn parts_that_are_split_elsewhere_never_share_a_hash() {
    let mut rng = Rng::new(20);
    for _ in 0..SPLITS / 10 {
        let length = 1 + rng.index(20);
        let text: Vec<u8> = (0..length).map(|_| rng.one_of(0, b":\x01\xff:8")).collect();
        let mut seen: BTreeMap<Digest, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..20 {
            let mut parts = vec![Vec::new()];
            for byte in &text {
                parts.last_mut().unwrap().push(*byte);
                while rng.once_in(3) {
                    parts.push(Vec::new());
                }
            }
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let hash = Digest::of("test", &slices);
            assert_eq!(*seen.entry(hash).or_insert_with(|| parts.clone()), parts);
        }
    }
    assert_ne!(Digest::of("a", &[b"b"]), Digest::of("ab", &[b""]));
    assert_ne!(Digest::of("a", &[b"b"]), Digest::of("a", &[b"b", b""]));
}

/// One field or value cut elsewhere is another record, with another digest.
#[test]
fn records_whose_text_is_split_elsewhere_never_share_a_digest() {
    let mut rng = Rng::new(21);
    let mut owners = BTreeMap::new();
    for _ in 0..SPLITS / 20 {
        let text = tricky(&mut rng, 8);
        for (name, value) in splits(&text) {
            let Ok(name) = rejoin_core::id::FieldName::parse(name) else { continue };
            let at = Stamp { hlc: Hlc::from_bits(1), replica: ReplicaId::from_bytes([1; 16]) };
            let state = State::Lww { stamp: at, value: Some(Value::text(value)) };
            let mut record = Record::default();
            record.cells.insert((name, Kind::Lww), Cell { since: None, state });
            let digest = record_digest(&encode_record(&record));
            assert_eq!(*owners.entry(digest).or_insert_with(|| record.clone()), record);
        }
    }
    assert!(owners.len() > SPLITS / 10, "{} different records", owners.len());
}

/// Names that read the same when joined by a separator, as records of one space: stores, trees and
/// feeds on both ends keep them apart.
#[test]
fn colon_shifted_records_live_side_by_side_on_every_device() {
    let mut world = World::new(19);
    let (left, right) = (world.device(), world.device());
    let names = [("a:b", "c"), ("a", "b:c"), ("a", "b/c"), ("a/b", "c"), ("ab", "c"), ("a", "bc")];
    for (number, (collection, id)) in names.into_iter().enumerate() {
        let action = Action::Add(vec![title(&format!("{number}"))]);
        world.write(left, vec![Change { key: key(collection, id), action }]);
    }
    world.connect(left);
    world.connect(right);
    world.settle();
    world.reopen(right);
    world.connect(right);
    world.settle();
    let seen = world.agreed();
    assert_eq!(seen.len(), names.len());
    for (number, (collection, id)) in names.into_iter().enumerate() {
        let shown = &seen[&key(collection, id)][&field("title")];
        assert_eq!(*shown, Shown::Value(Value::text(&format!("{number}"))));
    }
}
