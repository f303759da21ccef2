//! Pages: the base folded into rows of many records, and the header that goes with them.

use super::{
    base::{Base, Held},
    bytes::{read_settlement, write_settlement},
    entry::{Healing, Settlement, Standing},
    state::Header,
};
use crate::{
    codec::{CodecError, CodecFault, Reader, Writer, read_key, write_key},
    id::{CollectionName, Epoch, Incarnation, Pattern, RecordKey, Seq},
    message::Place,
    tree::Prefix,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// Size at which a page is split.
const PAGE_BYTES_AIM: usize = 48 << 10;
const VERSION: u64 = 1;

/// Which pages there are: the store key of each page's first record.
pub(super) type PageIndex = BTreeSet<Vec<u8>>;

/// What a fold changes: pages by key; `None` deletes one.
pub(super) type PageWrites = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rewrites the pages that hold `dirty` records. Returns the writes and the index after them.
pub(super) fn rewrite(
    base: &Base,
    dirty: &BTreeSet<RecordKey>,
    index: &PageIndex,
) -> (PageWrites, PageIndex) {
    let mut writes = PageWrites::new();
    let mut after = index.clone();
    let mut done_to: Option<RecordKey> = None;
    for key in dirty {
        if done_to.as_ref().is_some_and(|done| key < done) {
            continue;
        }
        let stored = key.to_store_key();
        let page = index.range(..=stored.clone()).next_back().cloned();
        let next = index.range(stored.clone()..).find(|start| **start > stored).cloned();
        let first = match page.as_deref().and_then(from_store_key) {
            Some(first) => first,
            None => key.clone(),
        };
        if let Some(page) = page {
            after.remove(&page);
            writes.insert(page, None);
        }
        let end = next.as_deref().and_then(from_store_key);
        // The records that stand before the first page go to a page of their own.
        let first = first.min(key.clone());
        let records = base
            .range_from(&first)
            .take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end));
        for (start, bytes) in split(records) {
            after.insert(start.clone());
            writes.insert(start, Some(bytes));
        }
        match end {
            Some(end) => done_to = Some(end),
            None => break,
        }
    }
    (writes, after)
}

fn split<'a>(records: impl Iterator<Item = (&'a RecordKey, &'a Held)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut current: Vec<(&RecordKey, &Held)> = Vec::new();
    let mut bytes = 0;
    for (key, held) in records {
        if bytes > PAGE_BYTES_AIM {
            pages.extend(encode_page(&current));
            current.clear();
            bytes = 0;
        }
        bytes += held.bytes.len() + 64;
        current.push((key, held));
    }
    pages.extend(encode_page(&current));
    pages
}

fn encode_page(records: &[(&RecordKey, &Held)]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (first, _) = records.first()?;
    let mut out = Writer::new();
    out.array(2);
    out.uint(VERSION);
    out.array(records.len() * 6);
    for (key, held) in records {
        write_key(&mut out, key);
        out.uint(held.seq.0);
        out.uint(u64::from(held.epoch));
        out.bytes(&held.proof);
        out.bytes(&held.bytes);
    }
    Some((first.to_store_key(), out.into_bytes()))
}

/// Decodes a page.
pub(super) fn decode_page(bytes: &[u8]) -> Result<Vec<(RecordKey, Held)>, CodecError> {
    let mut input = Reader::new(bytes);
    input.array_exact(2)?;
    check_version(&mut input)?;
    let len = input.array()? / 6;
    let mut records = Vec::new();
    for _ in 0..len {
        let key = read_key(&mut input)?;
        let seq = Seq(input.uint()?);
        let epoch = input.uint32()?;
        let proof = input.bytes_exact()?;
        let bytes = input.bytes()?.to_vec();
        records.push((key, Held { seq, epoch, proof, bytes }));
    }
    input.finish()?;
    Ok(records)
}

fn check_version(input: &mut Reader<'_>) -> Result<(), CodecError> {
    let version = input.uint()?;
    if version == VERSION { Ok(()) } else { Err(input.fault(CodecFault::Version(version))) }
}

/// The record that a store key names.
pub(super) fn from_store_key(key: &[u8]) -> Option<RecordKey> {
    let text = core::str::from_utf8(key).ok()?;
    let (collection, id) = text.split_once('\0')?;
    Some(RecordKey {
        collection: CollectionName::parse(collection).ok()?,
        id: crate::id::RecordId::parse(id).ok()?,
    })
}

/// Encodes the header.
pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(12);
    out.uint(VERSION);
    out.bytes(header.replica.as_bytes());
    out.hlc(header.clock);
    out.hlc(header.observed);
    out.hlc(header.acked);
    match &header.principal {
        Some(principal) => out.text(principal),
        None => out.null(),
    }
    match &header.welcomed {
        Some(incarnation) => out.bytes(incarnation.as_bytes()),
        None => out.null(),
    }
    out.array(header.since.len());
    header.since.iter().for_each(|incarnation| out.bytes(incarnation.as_bytes()));
    out.array(header.epochs.len());
    header.epochs.iter().for_each(|epoch| out.bytes(epoch.as_bytes()));
    out.int(header.skew_ms);
    out.array(header.standings.len() * 2);
    for (pattern, standing) in &header.standings {
        out.text(&alloc::format!("{pattern}"));
        write_standing(&mut out, standing);
    }
    out.array(header.settled.len() * 2);
    for (number, settlement) in &header.settled {
        out.uint(*number);
        write_settlement(&mut out, settlement);
    }
    out.into_bytes()
}

/// Decodes the header.
pub(super) fn decode_header(bytes: &[u8]) -> Result<Header, CodecError> {
    let mut input = Reader::new(bytes);
    input.array_exact(12)?;
    check_version(&mut input)?;
    let replica = input.replica()?;
    let clock = input.hlc()?;
    let observed = input.hlc()?;
    let acked = input.hlc()?;
    let principal = input.optional(|input| input.text().map(String::from))?;
    let welcomed = input.optional(|input| input.bytes_exact().map(Incarnation::from_bytes))?;
    let since = (0..input.array()?)
        .map(|_| input.bytes_exact().map(Incarnation::from_bytes))
        .collect::<Result<_, _>>()?;
    let epochs = (0..input.array()?)
        .map(|_| input.bytes_exact().map(Epoch::from_bytes))
        .collect::<Result<_, _>>()?;
    let skew_ms = input.int()?;
    let standings = (0..input.array()? / 2)
        .map(|_| {
            let pattern =
                Pattern::parse(input.text()?).map_err(|_refused| input.fault(CodecFault::Range))?;
            Ok((pattern, read_standing(&mut input)?))
        })
        .collect::<Result<_, CodecError>>()?;
    let settled: Vec<(u64, Settlement)> = (0..input.array()? / 2)
        .map(|_| Ok((input.uint()?, read_settlement(&mut input)?)))
        .collect::<Result<_, CodecError>>()?;
    input.finish()?;
    Ok(Header {
        replica,
        clock,
        observed,
        acked,
        principal,
        welcomed,
        since,
        epochs,
        skew_ms,
        standings,
        settled,
    })
}

fn write_standing(out: &mut Writer, standing: &Standing) {
    out.array(6);
    match &standing.epoch {
        Some(epoch) => out.bytes(epoch.as_bytes()),
        None => out.null(),
    }
    out.uint(standing.cursor.0);
    out.bool(standing.arrived);
    out.uint(standing.place.seq.0);
    match &standing.place.key {
        Some(key) => {
            out.array(2);
            write_key(out, key);
        }
        None => out.null(),
    }
    match &standing.heal {
        Some(heal) => write_healing(out, heal),
        None => out.null(),
    }
}

fn read_standing(input: &mut Reader<'_>) -> Result<Standing, CodecError> {
    input.array_exact(6)?;
    Ok(Standing {
        epoch: input.optional(|input| input.bytes_exact().map(Epoch::from_bytes))?,
        cursor: Seq(input.uint()?),
        arrived: input.bool()?,
        place: Place {
            seq: Seq(input.uint()?),
            key: input.optional(|input| {
                input.array_exact(2)?;
                read_key(input)
            })?,
        },
        heal: input.optional(read_healing)?,
    })
}

fn write_healing(out: &mut Writer, heal: &Healing) {
    out.array(5);
    out.uint(heal.seq.0);
    out.uint(heal.reach.0);
    out.bool(heal.complete);
    out.array(heal.gone.len() * 2);
    heal.gone.iter().for_each(|key| write_key(out, key));
    out.array(heal.chunks.len() * 3);
    for (collection, prefix) in &heal.chunks {
        out.text(collection.as_str());
        out.uint(u64::from(prefix.nibbles()));
        out.bytes(prefix.packed());
    }
}

fn read_healing(input: &mut Reader<'_>) -> Result<Healing, CodecError> {
    input.array_exact(5)?;
    let seq = Seq(input.uint()?);
    let reach = Seq(input.uint()?);
    let complete = input.bool()?;
    let gone = (0..input.array()? / 2).map(|_| read_key(input)).collect::<Result<_, _>>()?;
    let mut chunks = BTreeMap::new();
    for _ in 0..input.array()? / 3 {
        let collection = input.collection()?;
        let nibbles = input.uint()?;
        let packed = input.bytes()?;
        let prefix = u8::try_from(nibbles)
            .ok()
            .and_then(|nibbles| Prefix::from_packed(nibbles, packed).ok())
            .ok_or_else(|| input.fault(CodecFault::Range))?;
        chunks.insert(collection, prefix);
    }
    Ok(Healing { seq, reach, complete, gone, chunks })
}
