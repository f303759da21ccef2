//! Bytes that must never change: what one version stored or sent, every later one reads.
//!
//! Each `.hex` file beside this one has lines `name = hex`. A line whose bytes come out differently
//! fails, and so does one that no longer decodes. `GOLDEN_WRITE=1` writes what is made now into the files
//! and keeps their other lines: for additions, or together with a new version of a format, once the lines
//! of the old one have got other names.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test: whatever goes wrong here should stop it"
)]

mod messages;
mod records;

use rejoin_core::{
    codec::{
        CodecError, Reader, Writer, decode_record, encode_record, read_value, record_digest,
        write_key, write_value,
    },
    hlc::{Hlc, Stamp},
    id::{CollectionName, Digest, FieldName, RecordId, RecordKey, ReplicaId, key_hash},
    protocol::wire,
    testing::twin,
    tree::{Prefix, Trie, combine_roots, empty_root},
};
use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf};

type Lines = BTreeMap<String, Vec<u8>>;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits");
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn read(name: &str) -> Lines {
    let text = fs::read_to_string(path(name)).unwrap();
    text.lines()
        .map(|line| {
            let (name, bytes) = line.split_once(" = ").unwrap();
            (name.to_owned(), unhex(bytes))
        })
        .collect()
}

/// Compares with the file, or writes it; gives all lines of the file.
fn pinned<'a>(file: &str, lines: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Lines {
    let mut made = Lines::new();
    for (name, bytes) in lines {
        assert!(made.insert(name.to_owned(), bytes).is_none(), "{name} stands twice");
    }
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        // Lines that are not made any more stay: there are such bytes in the world.
        let mut lines = if path(file).exists() { read(file) } else { Lines::new() };
        lines.extend(made.clone());
        let text = lines.iter().fold(String::new(), |mut text, (name, bytes)| {
            writeln!(text, "{name} = {}", hex(bytes)).unwrap();
            text
        });
        fs::write(path(file), text).unwrap();
    }
    let pinned = read(file);
    for (name, bytes) in &made {
        let expected = pinned.get(name).unwrap_or_else(|| panic!("{file}: {name} is not pinned"));
        assert_eq!(hex(bytes), hex(expected), "{file}: {name}");
    }
    pinned
}

fn hlc(time: u64) -> Hlc {
    Hlc::from_bits((1_785_000_000_000 << 16) + time)
}

fn replica(byte: u8) -> ReplicaId {
    ReplicaId::from_bytes([byte; 16])
}

fn stamp(byte: u8, time: u64) -> Stamp {
    Stamp { hlc: hlc(time), replica: replica(byte) }
}

fn collection(name: &str) -> CollectionName {
    CollectionName::parse(name).unwrap()
}

fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

fn key(name: &str, id: &str) -> RecordKey {
    RecordKey { collection: collection(name), id: RecordId::parse(id).unwrap() }
}

const UUID: &str = "01893f6c-7a2b-7c3d-8e4f-0123456789ab";

#[test]
fn messages_keep_their_bytes() {
    let lines = messages::all();
    let types: std::collections::BTreeSet<_> = lines
        .iter()
        .map(|(_, message)| std::mem::discriminant(message))
        .map(|of| format!("{of:?}"))
        .collect();
    assert_eq!(types.len(), 23, "every type of message has a line");
    for (name, bytes) in
        pinned("messages", lines.iter().map(|(name, message)| (*name, wire::encode(message))))
    {
        let message = wire::decode(&bytes).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(wire::encode(&message), bytes, "{name}");
    }
    for (name, message) in lines {
        assert_eq!(wire::decode(&wire::encode(&message)), Ok(message), "{name}");
    }
}

#[test]
fn frames_keep_their_bytes() {
    let ping = rejoin_core::message::Message::Ping { nonce: 1 };
    let frames =
        [("channel_0", 0), ("channel_127", 127), ("channel_128", 128), ("channel_max", u64::MAX)];
    let lines = frames.map(|(name, channel)| (name, wire::encode_frame(channel, &ping)));
    for (name, bytes) in pinned("frames", lines) {
        let (channel, message) = wire::split_frame(&bytes).unwrap();
        let message = wire::decode(message).unwrap();
        assert_eq!(wire::encode_frame(channel, &message), bytes, "{name}");
    }
}

#[test]
fn checks_of_frames_keep_their_bytes() {
    let frame = wire::encode_frame(0, &rejoin_core::message::Message::Ping { nonce: 1 });
    let ways =
        [("initiator", wire::Chain::of_initiator()), ("responder", wire::Chain::of_responder())];
    for (way, chain) in ways {
        let mut sent = chain.clone();
        let names = ["first", "second", "third"].map(|place| format!("{way}_{place}"));
        let lines = names.map(|name| (name, sent.seal(frame.clone())));
        let pinned =
            pinned("checks", lines.each_ref().map(|(name, bytes)| (&**name, bytes.clone())));
        let mut received = chain;
        for (name, _) in &lines {
            assert_eq!(received.open(&pinned[name]), Ok(frame.as_slice()), "{name}");
        }
    }
}

#[test]
fn records_keep_their_bytes() {
    let records = records::records();
    for (name, bytes) in
        pinned("records", records.iter().map(|(name, record)| (*name, encode_record(record))))
    {
        let record = decode_record(&bytes).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(encode_record(&record), bytes, "{name}");
    }
    for (name, record) in records {
        assert_eq!(decode_record(&encode_record(&record)), Ok(record), "{name}");
    }
}

#[test]
fn values_keep_their_bytes() {
    let encode = |value: &_| {
        let mut out = Writer::new();
        write_value(&mut out, value);
        out.into_bytes()
    };
    let decode = |bytes: &[u8]| -> Result<_, CodecError> {
        let mut input = Reader::new(bytes);
        let value = read_value(&mut input)?;
        input.finish()?;
        Ok(value)
    };
    let values = records::values();
    for (name, bytes) in pinned("values", values.iter().map(|(name, value)| (*name, encode(value))))
    {
        let value = decode(&bytes).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(encode(&value), bytes, "{name}");
    }
    for (name, value) in values {
        assert_eq!(decode(&encode(&value)), Ok(value), "{name}");
    }
}

#[test]
fn hashes_keep_their_bytes() {
    let hash = |name, digest: Digest| (name, digest.as_bytes().to_vec());
    let name = |name, key: &RecordKey| {
        let mut out = Writer::new();
        write_key(&mut out, key);
        (name, out.into_bytes())
    };
    let trie = |count: u16| {
        let mut trie = Trie::new();
        for at in 0..count {
            let id = format!("record {at}");
            trie.insert(key_hash(&key("tasks", &id)), record_digest(&at.to_be_bytes()));
        }
        trie
    };
    let full =
        combine_roots([(&collection("a"), trie(1).root()), (&collection("b/c"), trie(40).root())]);
    let part = Prefix::from_packed(1, &[0x30]).unwrap();
    let mut large = trie(1_000);
    let mut lines = vec![
        hash("digest_of_nothing", Digest::of("", &[])),
        hash("digest_of_parts", Digest::of("domain", &[b"one", b"", b"two"])),
        hash("key_text", key_hash(&key("tasks", "1"))),
        hash("key_uuid", key_hash(&key("tasks/größe", UUID))),
        name("key_bytes_text", &key("tasks", "1")),
        name("key_bytes_uuid", &key("tasks", UUID)),
        hash("root_empty", empty_root()),
        hash("root_1", trie(1).root()),
        hash("root_32", trie(32).root()),
        hash("root_33", trie(33).root()),
        hash("root_1000", large.root()),
        hash("root_1000_below_3", large.under(&part).digest()),
        hash("root_combined", full),
        hash("root_combined_of_nothing", combine_roots([])),
    ];
    for (name, record) in records::records() {
        lines.push(hash(name, record_digest(&encode_record(&record))));
    }
    pinned("hashes", lines);
}

/// The same numbers must come out in a browser: its run of [`twin::digest`] compares with this file.
#[test]
fn c09_c17_this_platform_and_its_twins_behave_alike() {
    pinned("twin", [("100", twin::digest(100).to_vec()), ("10000", twin::digest(10_000).to_vec())]);
}
