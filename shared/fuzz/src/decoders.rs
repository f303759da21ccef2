//! Everything that turns bytes of a peer into values.

use rejoin_core::{
    codec::{
        Reader, Writer, decode_record, encode_record, read_dictionary, read_key, read_value,
        write_key, write_value,
    },
    id::{CollectionName, FieldName, Pattern, RecordId, SpaceId},
    message::Chunk,
    protocol::{
        message::Message,
        wire::{Assembler, decode as decode_message, encode, split_frame},
    },
    testing::{
        generators::{arbitrary_key, arbitrary_record, arbitrary_value},
        messages::{arbitrary_chunk, arbitrary_message},
        rng::Rng,
    },
};

/// What decodes is canonical: a message, a record, a value, a key, names, frames and their parts.
pub(crate) fn decode(bytes: &[u8]) {
    if let Ok(message) = decode_message(bytes) {
        assert_eq!(encode(&message), bytes);
    }
    if let Ok(record) = decode_record(bytes) {
        assert_eq!(encode_record(&record), bytes);
    }
    let mut input = Reader::new(bytes);
    if let Ok(value) = read_value(&mut input)
        && input.finish().is_ok()
    {
        let mut out = Writer::new();
        write_value(&mut out, &value);
        assert_eq!(out.into_bytes(), bytes);
    }
    let mut input = Reader::new(bytes);
    if let Ok(key) = read_key(&mut input)
        && input.finish().is_ok()
    {
        let mut out = Writer::new();
        write_key(&mut out, &key);
        assert_eq!(out.into_bytes(), bytes);
    }
    read_dictionary(&mut Reader::new(bytes)).ok();
    if let Ok((_, message)) = split_frame(bytes) {
        assert!(message.len() < bytes.len());
        Assembler::default().take(message).ok();
    }
    if let Ok(text) = core::str::from_utf8(bytes) {
        names(text);
    }
}

/// A name that is taken says what was given.
fn names(text: &str) {
    let taken = [
        SpaceId::parse(text).map(|name| name.as_str().to_owned()),
        CollectionName::parse(text).map(|name| name.as_str().to_owned()),
        RecordId::parse(text).map(|name| name.as_str().to_owned()),
        FieldName::parse(text).map(|name| name.as_str().to_owned()),
        Pattern::parse(text).map(|pattern| pattern.to_string()),
    ];
    taken.into_iter().flatten().for_each(|name| assert_eq!(name, text));
}

pub(crate) fn decode_seed(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => encode_record(&arbitrary_record(rng)),
        1 => {
            let mut out = Writer::new();
            write_value(&mut out, &arbitrary_value(rng));
            out.into_bytes()
        }
        2 => {
            let mut out = Writer::new();
            write_key(&mut out, &arbitrary_key(rng));
            out.into_bytes()
        }
        _ => encode(&arbitrary_message(rng)),
    }
}

/// A chunk, under its own mark and under one that fits, so that what is behind it is reached. What opens can be packed.
pub(crate) fn chunk(bytes: &[u8]) {
    let Ok(Message::Chunk(chunk)) = decode_message(bytes) else {
        return;
    };
    chunk.open().ok();
    let Ok(Some(records)) = chunk.clone().remarked().open() else {
        return;
    };
    let ends = (chunk.after, chunk.upto);
    let again = Chunk::pack(chunk.subscription, ends, (chunk.more, chunk.total), records.clone());
    let again = again.open().expect("packed here").expect("whole");
    assert!(records.len() == again.len() && records.iter().all(|record| again.contains(record)));
}

pub(crate) fn chunk_seed(rng: &mut Rng) -> Vec<u8> {
    let chunk = arbitrary_chunk(rng);
    encode(&Message::Chunk(if rng.once_in(2) { chunk.deflated() } else { chunk }))
}
