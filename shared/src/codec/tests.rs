//! The examples of RFC 8949, appendix A: those that our subset allows come out byte for byte, the others
//! are refused.

use super::*;
use crate::{
    hlc::{Hlc, Stamp},
    id::{CollectionName, FieldName, RecordId, RecordKey, ReplicaId},
    record::{
        AddWinsSet, Cell, Counter, Kind, Record, Siblings, State, Tally, Value, VersionVector,
    },
};
use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let byte =
        |pair: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(value: &Value) -> String {
    let mut out = Writer::new();
    write_value(&mut out, value);
    hex(&out.into_bytes())
}

fn decoded(text: &str) -> Result<Value, CodecError> {
    let bytes = unhex(text);
    let mut input = Reader::new(&bytes);
    let value = read_value(&mut input)?;
    input.finish()?;
    Ok(value)
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(items.into_iter().collect())
}

fn map<const N: usize>(items: [(&str, Value); N]) -> Value {
    Value::Map(items.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

#[test]
fn examples_of_the_rfc_come_out_byte_for_byte() {
    let ints = |range: core::ops::RangeInclusive<i64>| list(range.map(Value::int));
    let letters = ["a", "b", "c", "d", "e"];
    let capitals = map(letters.map(|letter| (letter, Value::text(&letter.to_uppercase()))));
    for (value, text) in [
        (Value::int(0), "00"),
        (Value::int(1), "01"),
        (Value::int(10), "0a"),
        (Value::int(23), "17"),
        (Value::int(24), "1818"),
        (Value::int(25), "1819"),
        (Value::int(100), "1864"),
        (Value::int(1_000), "1903e8"),
        (Value::int(1_000_000), "1a000f4240"),
        (Value::int(1_000_000_000_000), "1b000000e8d4a51000"),
        (Value::int(-1), "20"),
        (Value::int(-10), "29"),
        (Value::int(-100), "3863"),
        (Value::int(-1_000), "3903e7"),
        (Value::float(1.1), "fb3ff199999999999a"),
        (Value::float(1.0e300), "fb7e37e43c8800759c"),
        (Value::float(-4.1), "fbc010666666666666"),
        (Value::float(f64::INFINITY), "fb7ff0000000000000"),
        (Value::float(f64::NAN), "fb7ff8000000000000"),
        (Value::float(f64::NEG_INFINITY), "fbfff0000000000000"),
        (Value::Bool(false), "f4"),
        (Value::Bool(true), "f5"),
        (Value::Null, "f6"),
        (Value::Bytes(Vec::new()), "40"),
        (Value::Bytes(vec![1, 2, 3, 4]), "4401020304"),
        (Value::text(""), "60"),
        (Value::text("a"), "6161"),
        (Value::text("IETF"), "6449455446"),
        (Value::text("\"\\"), "62225c"),
        (Value::text("\u{fc}"), "62c3bc"),
        (Value::text("\u{6c34}"), "63e6b0b4"),
        (Value::text("\u{10151}"), "64f0908591"),
        (list([]), "80"),
        (ints(1..=3), "83010203"),
        (list([Value::int(1), ints(2..=3), ints(4..=5)]), "8301820203820405"),
        (ints(1..=25), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
        (map([]), "a0"),
        (map([("a", Value::int(1)), ("b", ints(2..=3))]), "a26161016162820203"),
        (list([Value::text("a"), map([("b", Value::text("c"))])]), "826161a161626163"),
        (capitals, "a56161614161626142616361436164614461656145"),
    ] {
        assert_eq!(encoded(&value), text);
        assert_eq!(decoded(text), Ok(value), "{text}");
    }
}

#[test]
fn integers_reach_the_ends_of_64_bits() {
    let mut out = Writer::new();
    out.uint(u64::MAX);
    out.int(i64::MIN);
    let bytes = out.into_bytes();
    assert_eq!(hex(&bytes), "1bffffffffffffffff3b7fffffffffffffff");
    let mut input = Reader::new(&bytes);
    assert_eq!(input.uint(), Ok(u64::MAX));
    assert_eq!(input.int(), Ok(i64::MIN));
    // Of a value they are beyond what `i64` holds; 2^64 and -2^64 - 1 are tagged numbers.
    for text in ["1bffffffffffffffff", "3bffffffffffffffff", "3b8000000000000000"] {
        assert_eq!(decoded(text).unwrap_err().kind, CodecFault::Range, "{text}");
    }
}

#[test]
fn examples_outside_the_subset_are_refused() {
    for text in [
        // Floats of two and four bytes.
        "f90000",
        "f98000",
        "f93c00",
        "f93e00",
        "f97bff",
        "fa47c35000",
        "fa7f7fffff",
        "f90001",
        "f90400",
        "f9c400",
        "f97c00",
        "f97e00",
        "f9fc00",
        "fa7f800000",
        "fa7fc00000",
        "faff800000",
        // Undefined and simple values.
        "f7",
        "f0",
        "f8ff",
        // Tags, those of large numbers too.
        "c249010000000000000000",
        "c349010000000000000000",
        "c11a514b67b0",
        "c1fb41d452d9ec200000",
        "d74401020304",
        "d818456449455446",
        "c074323031332d30332d32315432303a30343a30305a",
        "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
        // A map with names that are not text.
        "a201020304",
        // Indefinite lengths.
        "5f42010243030405ff",
        "7f657374726561646d696e67ff",
        "9fff",
        "9f018202039f0405ffff",
        "9f01820203820405ff",
        "83018202039f0405ff",
        "83019f0203ff820405",
        "bf61610161629f0203ffff",
        "826161bf61626163ff",
        "bf6346756ef563416d7421ff",
    ] {
        assert!(decoded(text).is_err(), "{text}");
    }
}

/// Valid, well-formed CBOR that is longer or otherwise ordered than the one form.
#[test]
fn c13_other_forms_of_the_same_content_are_refused() {
    for text in [
        // Longer heads.
        "1817",
        "190018",
        "1900ff",
        "1a0000ffff",
        "1b00000000ffffffff",
        "3800",
        "390000",
        "5801aa",
        "780161",
        "980101",
        "b8016161f6",
        // Floats that are integers, and another NaN.
        "fb0000000000000000",
        "fb8000000000000000",
        "fb3ff0000000000000",
        "fb4340000000000000",
        "fb7ff8000000000001",
        "fbfff8000000000000",
        "fb7ff0000000000001",
        // Names out of order, or twice: shorter ones come first.
        "a26162016161 02",
        "a262616101616202",
        "a2616101616102",
    ] {
        let text = text.replace(' ', "");
        assert_eq!(decoded(&text).unwrap_err().kind, CodecFault::NotCanonical, "{text}");
    }
    assert_eq!(decoded("0000").unwrap_err().kind, CodecFault::Trailing);
    assert_eq!(decoded("61ff").unwrap_err().kind, CodecFault::Utf8);
    assert_eq!(decoded("63eda080").unwrap_err().kind, CodecFault::Utf8, "a lone surrogate");
}

/// The head of a float is followed by its bits, however small a number they are. Read as a length in its
/// shortest form, the floats nearest to zero could be written and never read again.
#[test]
fn floats_with_few_bits_are_read_back() {
    for bits in [1, 0xff, 0xffff_ffff, 0x1_0000_0000] {
        let value = Value::float(f64::from_bits(bits));
        assert_eq!(decoded(&encoded(&value)), Ok(value), "{bits:x}");
    }
}

#[test]
fn bytes_that_end_early_are_truncated_wherever_they_end() {
    for text in [
        "18",
        "1903",
        "1b0000",
        "fb3ff1",
        "44010203",
        "636161",
        "8301",
        "a16161",
        "5bffffffffffffffff",
    ] {
        assert_eq!(decoded(text).unwrap_err().kind, CodecFault::Truncated, "{text}");
    }
    assert_eq!(decoded("").unwrap_err().kind, CodecFault::Truncated);
}

#[test]
fn faults_name_their_place() {
    assert_eq!(
        decoded("8301fa47c35000"),
        Err(CodecError { at: 2, kind: CodecFault::Type { expected: "a value" } })
    );
    assert_eq!(decoded("83010218").unwrap_err().to_string(), "truncated at byte 4");
}

#[test]
fn dictionary_numbers_entries_by_first_use() {
    let (one, two) = (ReplicaId::from_bytes([1; 16]), ReplicaId::from_bytes([2; 16]));
    let mut out = Writer::with_dictionary();
    for replica in [two, one, two] {
        out.replica(&replica);
    }
    for name in ["b", "a", "b"] {
        out.name(name);
    }
    for time in [100, 101, 99, 0] {
        out.hlc(Hlc::from_bits(time));
    }
    let (body, dictionary) = out.into_parts();
    assert_eq!(hex(&body), "0001000001000001203863");
    assert_eq!(dictionary.replicas, [two, one]);
    assert_eq!(dictionary.names, ["b", "a"]);
    assert_eq!(dictionary.base, Some(Hlc::from_bits(100)));

    let mut stored = Writer::new();
    write_dictionary(&mut stored, &dictionary);
    let stored = stored.into_bytes();
    let mut input = Reader::new(&stored);
    assert_eq!(read_dictionary(&mut input), Ok(dictionary));
    assert_eq!(input.finish(), Ok(()));
}

#[test]
fn something_else_than_a_float_is_refused_as_one() {
    for (text, kind) in [
        ("01", CodecFault::Type { expected: "a float" }),
        ("f4", CodecFault::Type { expected: "a float" }),
        ("", CodecFault::Type { expected: "a float" }),
        ("fb3ff1", CodecFault::Truncated),
    ] {
        let bytes = unhex(text);
        let mut input = Reader::new(&bytes);
        assert_eq!(input.float().unwrap_err().kind, kind, "{text}");
        assert_eq!(input.position(), 0);
    }
}

#[test]
fn id_that_could_be_written_in_fewer_bytes_is_refused() {
    let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let mut out = Writer::new();
    out.text(text);
    let bytes = out.into_bytes();
    assert_eq!(read_id(&mut Reader::new(&bytes)).unwrap_err().kind, CodecFault::NotCanonical);
    let id = RecordId::parse(text).unwrap();
    let mut out = Writer::new();
    write_id(&mut out, &id);
    let bytes = out.into_bytes();
    assert_eq!(bytes.len(), 17);
    assert_eq!(read_id(&mut Reader::new(&bytes)), Ok(id));
}

#[test]
fn register_that_says_since_when_is_refused() {
    let mut record = Record::default();
    let stamp = Stamp { hlc: Hlc::from_bits(7), replica: ReplicaId::from_bytes([1; 16]) };
    let state = State::Lww { stamp, value: None };
    let field = FieldName::parse("a").unwrap();
    record.cells.insert((field, Kind::Lww), Cell { since: Some(stamp), state });
    let refused = decode_record(&encode_record(&record)).unwrap_err();
    assert_eq!(refused.kind, CodecFault::NotCanonical);
}

#[test]
fn writer_knows_whether_anything_was_written() {
    let mut out = Writer::new();
    assert!(out.is_empty());
    out.null();
    assert!(!out.is_empty());
    assert_eq!(out.len(), 1);
}

#[test]
fn c11_texts_and_names_are_their_bytes_and_never_normalised() {
    let texts = [
        "e\u{301}",
        "\u{e9}",
        "\u{feff}a",
        "\u{202e}abc",
        "a\u{0}b",
        "\u{fffd}",
        "\u{1f468}\u{200d}\u{1f469}",
        "\u{212b}",
        "\u{c5}",
        "i\u{307}",
        "\u{130}",
        "\u{10ffff}",
    ];
    for text in texts {
        let value = Value::text(text);
        assert_eq!(decoded(&encoded(&value)), Ok(value), "{text:?}");
    }
    // What looks alike is not alike.
    let names: alloc::collections::BTreeSet<_> =
        texts.iter().filter_map(|text| RecordId::parse(text).ok()).collect();
    assert_eq!(names.len(), texts.len() - 1, "only a control character is refused");
    for name in names {
        let mut out = Writer::new();
        write_id(&mut out, &name);
        let bytes = out.into_bytes();
        assert_eq!(read_id(&mut Reader::new(&bytes)).as_ref(), Ok(&name));
    }
}

/// Whatever follows: a row that a large record has seen is known by its first bytes.
#[test]
fn what_a_record_has_seen_is_read_without_the_rest() {
    let mut record = Record::default();
    record.seen.raise(ReplicaId::from_bytes([7; 16]), Hlc::from_bits(5));
    let bytes = encode_record(&record);
    assert_eq!(seen(&bytes), Ok(record.seen.clone()));
    let cells = bytes.len() - 1;
    assert_eq!(seen(&bytes[..cells]), Ok(record.seen));
    assert!(decode_record(&bytes[..cells]).is_err());
    assert!(seen(&bytes[..4]).is_err());
}

#[test]
fn depth_counts_what_is_open_and_not_what_was() {
    let wide = list((0..4 * DEPTH_MAX).map(|_| list([list([])])));
    assert_eq!(decoded(&encoded(&wide)), Ok(wide));
}

#[test]
fn body_uses_its_dictionary_in_one_way_only() {
    let dictionary = Dictionary {
        replicas: [1, 2].map(|byte| ReplicaId::from_bytes([byte; 16])).to_vec(),
        names: ["a", "b"].map(String::from).to_vec(),
        base: Some(Hlc::from_bits(100)),
    };
    // A replica, a name or a time for each letter.
    let read = |dictionary: &Dictionary, letters: &str, body: &str| {
        let bytes = unhex(body);
        let mut input = Reader::new(&bytes).with_dictionary(dictionary);
        let mut found = String::new();
        for letter in letters.chars() {
            found += &match letter {
                'r' => input.replica()?.as_bytes()[0].to_string(),
                'n' => input.field()?.to_string(),
                _ => format!("+{}", input.hlc()?.to_bits()),
            };
        }
        input.finish().map(|()| found)
    };
    let fault = |at, kind| Err(CodecError { at, kind });
    for (letters, body, found) in [
        ("rrnnh", "0001000100", Ok("12ab+100")),
        ("rrrnnnhhh", "000100000100000524", Ok("121aba+100+105+95")),
        ("rrnnhh", "00010001003863", Ok("12ab+100+0")),
        ("rrnnhh", "00010001003864", Err(CodecFault::Range)),
        ("rrnnhh", "0001000100f6", Err(CodecFault::Type { expected: "a time" })),
        ("r", "01", Err(CodecFault::NotCanonical)),
        ("n", "01", Err(CodecFault::NotCanonical)),
        ("h", "01", Err(CodecFault::NotCanonical)),
        ("rrr", "000102", Err(CodecFault::Range)),
        ("nnn", "000102", Err(CodecFault::Range)),
        ("rnnh", "00000100", Err(CodecFault::NotCanonical)),
        ("rrnh", "00010000", Err(CodecFault::NotCanonical)),
        ("rrnn", "00010001", Err(CodecFault::NotCanonical)),
        ("rrnnh", "000100010000", Err(CodecFault::Trailing)),
    ] {
        let came = read(&dictionary, letters, body).map_err(|error| error.kind);
        assert_eq!(came.as_deref(), found.as_ref().copied(), "{letters} {body}");
    }
    let none = Dictionary::default();
    assert_eq!(read(&none, "h", "00"), fault(0, CodecFault::NotCanonical), "there is no base");
    assert_eq!(read(&none, "", ""), Ok(String::new()));
    let twice = [1, 1].map(|byte| ReplicaId::from_bytes([byte; 16])).to_vec();
    for dictionary in [
        Dictionary { replicas: twice, ..Dictionary::default() },
        Dictionary { names: ["a", "a"].map(String::from).to_vec(), ..Dictionary::default() },
    ] {
        let mut out = Writer::new();
        write_dictionary(&mut out, &dictionary);
        let bytes = out.into_bytes();
        let refused = read_dictionary(&mut Reader::new(&bytes)).map_err(|error| error.kind);
        assert_eq!(refused, Err(CodecFault::NotCanonical));
    }
}

#[test]
fn item_is_passed_over_whatever_it_is() {
    for item in [
        "00",
        "1903e8",
        "3903e7",
        "43010203",
        "63616263",
        "f4",
        "f6",
        "fb3ff199999999999a",
        "fb0000000000000001",
        "80",
        "83010203",
        "a201020304",
        "8301820203820405",
        "a26161016162820203",
    ] {
        let bytes = unhex(&format!("{item}07"));
        let mut input = Reader::new(&bytes);
        assert_eq!(input.skip(), Ok(()), "{item}");
        assert_eq!(input.position(), bytes.len() - 1, "{item}");
        for end in 0..bytes.len() - 1 {
            assert!(Reader::new(&bytes[..end]).skip().is_err(), "{item} cut at {end}");
        }
    }
}

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn stamp(number: u8, time: u64) -> Stamp {
    Stamp { hlc: Hlc::from_bits(time), replica: replica(number) }
}

fn vector<const N: usize>(entries: [(u8, u64); N]) -> VersionVector {
    entries.into_iter().map(|(number, time)| (replica(number), Hlc::from_bits(time))).collect()
}

#[test]
fn cells_of_every_kind_come_back_as_they_were() {
    let (one, two) = (Value::int(1), Value::text("two"));
    let tally = |added, subtracted| Tally { added, subtracted };
    let states = [
        State::Lww { stamp: stamp(1, 5), value: Some(one.clone()) },
        State::Lww { stamp: stamp(1, 5), value: None },
        State::Fww(None),
        State::Fww(Some((stamp(2, 9), two.clone()))),
        State::Max(None),
        State::Max(Some(one.clone())),
        State::Min(None),
        State::Min(Some(two.clone())),
        State::Counter(Counter::default()),
        State::Counter(Counter(
            [(replica(1), tally(3, 0)), (replica(2), tally(0, u64::MAX))].into(),
        )),
        State::Set(AddWinsSet::default()),
        State::Set(AddWinsSet {
            context: vector([(1, 5), (2, 7)]),
            elements: [(one.clone(), vector([(1, 5)])), (two.clone(), vector([(1, 4), (2, 7)]))]
                .into(),
        }),
        State::Review(Siblings::default()),
        State::Review(Siblings {
            context: vector([(1, 5), (2, 7)]),
            values: [(stamp(1, 5), one), (stamp(2, 6), two)].into(),
        }),
        State::Later { code: 99, bytes: vec![1, 2, 3] },
    ];
    for state in states {
        for since in [None, Some(stamp(3, 1))] {
            if since.is_some() && state.kind() == Kind::Lww {
                continue;
            }
            let mut record = Record { seen: vector([(1, 5), (2, 7)]), ..Record::default() };
            record.removed.seen = vector([(1, 2)]);
            let key = (FieldName::parse("f").unwrap(), state.kind());
            record.cells.insert(key, Cell { since, state: state.clone() });
            assert_eq!(decode_record(&encode_record(&record)), Ok(record));
        }
    }
}

/// A record with one cell of a kind, whose state is what `write` writes.
fn record_with(kind: Kind, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(4);
    out.array(0);
    out.array(0);
    out.null();
    out.array(1);
    out.array(4);
    out.text("f");
    out.uint(u64::from(kind.code()));
    out.null();
    write(&mut out);
    out.into_bytes()
}

#[test]
fn values_nested_beyond_the_limit_are_refused() {
    let tower = |levels: usize, open: &[u8], close: &[u8]| {
        record_with(Kind::Lww, |out| {
            out.array(3);
            out.bytes(&[0; 16]);
            out.uint(1);
            (0..levels).for_each(|_| out.raw(open));
            out.raw(close);
        })
    };
    // The cell is one level itself, the scalar at the end none.
    for (levels, good) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, false), (100_000, false)] {
        assert_eq!(decode_record(&tower(levels, &[0x81], &[0xf6])).is_ok(), good, "{levels}");
        assert_eq!(decode_record(&tower(levels, &[0xa1, 0x60], &[0xf6])).is_ok(), good, "{levels}");
    }
    let deep = tower(DEPTH_MAX, &[0x81], &[0xf6]);
    assert_eq!(decode_record(&deep).unwrap_err().kind, CodecFault::Depth);
}

/// What is wrong with such a record.
fn fault(kind: Kind, write: &dyn Fn(&mut Writer)) -> Result<(), CodecFault> {
    decode_record(&record_with(kind, write)).map(drop).map_err(|refused| refused.kind)
}

#[test]
fn cells_of_another_shape_than_their_kind_has_are_refused() {
    // Arrays of so many zeros.
    let shapes: [(Kind, &[usize]); 7] = [
        (Kind::Lww, &[0, 1, 4, 5]),
        (Kind::Fww, &[1, 2, 4]),
        (Kind::Max, &[2, 3]),
        (Kind::Min, &[2, 3]),
        (Kind::Counter, &[1, 2, 4, 5]),
        (Kind::Set, &[0, 2, 4]),
        (Kind::Review, &[0, 2, 4]),
    ];
    for (kind, lengths) in shapes {
        for len in lengths {
            let bytes = record_with(kind, |out| {
                out.array(*len);
                (0..*len).for_each(|_| out.uint(0));
            });
            let fault = decode_record(&bytes).unwrap_err().kind;
            assert_eq!(fault, CodecFault::Range, "{kind:?} of {len}");
        }
    }
}

#[test]
fn what_stands_twice_or_out_of_order_is_refused() {
    for (first, second, wanted) in [
        (1, 2, Ok(())),
        (1, 1, Err(CodecFault::NotCanonical)),
        (2, 1, Err(CodecFault::NotCanonical)),
    ] {
        let counter = |out: &mut Writer| {
            out.array(6);
            for number in [first, second] {
                out.replica(&replica(number));
                out.uint(1);
                out.uint(0);
            }
        };
        assert_eq!(fault(Kind::Counter, &counter), wanted);
        let context = vector([(1, 2), (2, 2)]);
        let set = |out: &mut Writer| {
            out.array(5);
            write_vector(out, &context);
            for number in [first, second] {
                out.uint(u64::from(number));
                write_vector(out, &vector([(1, 1)]));
            }
        };
        assert_eq!(fault(Kind::Set, &set), wanted);
        let review = |out: &mut Writer| {
            out.array(5);
            write_vector(out, &context);
            for number in [first, second] {
                write_stamp(out, &stamp(1, u64::from(number)));
                out.null();
            }
        };
        assert_eq!(fault(Kind::Review, &review), wanted);
        let dots = |out: &mut Writer| {
            out.array(1);
            out.array(4);
            for number in [first, second] {
                out.replica(&replica(number));
                out.hlc(Hlc::from_bits(1));
            }
        };
        assert_eq!(fault(Kind::Set, &dots), wanted);
    }
}

#[test]
fn what_refers_to_nothing_is_refused() {
    for dots in [vector([]), vector([(1, 2)]), vector([(1, 1), (2, 1)])] {
        let set = |out: &mut Writer| {
            out.array(3);
            write_vector(out, &vector([(1, 1)]));
            out.uint(0);
            write_vector(out, &dots);
        };
        assert_eq!(fault(Kind::Set, &set), Err(CodecFault::Range));
    }
    for (time, wanted) in [(1, Ok(())), (2, Err(CodecFault::Range))] {
        let review = |out: &mut Writer| {
            out.array(3);
            write_vector(out, &vector([(1, 1)]));
            write_stamp(out, &stamp(1, time));
            out.null();
        };
        assert_eq!(fault(Kind::Review, &review), wanted);
    }
    let odd = |out: &mut Writer| {
        out.array(1);
        out.array(3);
        out.replica(&replica(1));
        out.hlc(Hlc::from_bits(1));
        out.replica(&replica(2));
    };
    assert_eq!(fault(Kind::Set, &odd), Err(CodecFault::Range));
}

#[test]
fn a_record_is_dead_when_all_that_it_has_seen_was_removed() {
    let mut record = Record { seen: vector([(1, 5)]), ..Record::default() };
    let found = |record: &Record| burial(&encode_record(record));
    assert_eq!(found(&record), Ok(None));
    record.removed.seen = vector([(1, 5)]);
    assert_eq!(found(&record), Ok(None), "nobody has said when");
    record.removed.buried = Some(Hlc::from_bits(8));
    assert_eq!(found(&record), Ok(Some(Hlc::from_bits(8))));
    record.seen = vector([(1, 6)]);
    assert_eq!(found(&record), Ok(None), "somebody has written since");
}

#[test]
fn numbers_and_lengths_end_where_they_must() {
    let number = |value: u64| {
        let mut out = Writer::new();
        out.uint(value);
        Reader::new(&out.into_bytes()).uint32().map_err(|refused| refused.kind)
    };
    assert_eq!(number(7), Ok(7));
    assert_eq!(number(u64::from(u32::MAX)), Ok(u32::MAX));
    assert_eq!(number(1 << 32), Err(CodecFault::Range));
    // Behind a number, an array of two of which one is there.
    let mut input = Reader::new(&[0, 0x82, 0]);
    assert_eq!(input.uint(), Ok(0));
    assert_eq!(input.array().unwrap_err().kind, CodecFault::Truncated);
    let mut input = Reader::new(&[0, 0xa1, 0]);
    assert_eq!(input.uint(), Ok(0));
    assert_eq!(input.map().unwrap_err().kind, CodecFault::Truncated);
    let mut out = Writer::new();
    out.raw(&[1, 2, 3]);
    assert_eq!((out.len(), out.into_bytes()), (3, vec![1, 2, 3]));
}

#[test]
fn a_name_is_its_collection_and_its_id() {
    let key = |collection: &str, id: &str| RecordKey {
        collection: CollectionName::parse(collection).unwrap(),
        id: RecordId::parse(id).unwrap(),
    };
    let bytes = |key: &RecordKey| {
        let mut out = Writer::new();
        write_key(&mut out, key);
        hex(&out.into_bytes())
    };
    assert_eq!(bytes(&key("a", "1")), "61616131");
    let uuid = key("a", "67e55044-10b1-426f-9247-bb680e5fe0c8");
    assert_eq!(bytes(&uuid), "61615067e5504410b1426f9247bb680e5fe0c8");
}
