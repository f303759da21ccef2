//! Pages: the base folded into rows of many records, and the header that goes with them.

use super::{
    base::{Base, Held, Rest},
    bytes::{read_settlement, read_space, write_settlement},
    entry::{Settlement, Standing},
    fold::NUMBER_MAX,
    state::Header,
};
use crate::{
    codec::{CodecError, CodecFault, Reader, Writer, read_key, seal, unseal, write_key},
    id::{CollectionName, Epoch, Incarnation, Pattern, RecordKey, Seq},
    message::Place,
    sorted::{SortedMap, SortedSet},
};
use alloc::{string::String, vec::Vec};

/// Size at which a page is split.
const PAGE_BYTES_AIM: usize = 48 << 10;
const VERSION: u64 = 1;
/// Tags of the seals.
const PAGE: u8 = b'P';
const HEADER: u8 = b'H';

/// Which pages there are: the store key of each page's first record.
pub(super) type PageIndex = SortedSet<Vec<u8>>;

/// What a fold changes: pages by key; `None` deletes one.
pub(super) type PageWrites = SortedMap<Vec<u8>, Option<Vec<u8>>>;

/// What a page says of a key: its record, or that it is gone.
type Leaf<'a> = (&'a RecordKey, Option<&'a Held>);

/// Pages to be written, and what is left for the next time.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) writes: PageWrites,
    pub(super) index: PageIndex,
    /// Pages that say of nothing but keys that are gone.
    pub(super) hollow: PageIndex,
    pub(super) rest: Option<Rest>,
}

/// Rewrites pages that hold dirty records, until they take `bytes_max`: of one page more, at most.
///
/// Unless nothing is left, a page written says of which entry it is as of (`asof`), and names the keys that are
/// gone, so that reading the log again from an earlier entry changes nothing that it has.
pub(super) fn rewrite(base: &Base, index: &PageIndex, asof: u64, bytes_max: usize) -> Slice {
    let mut slice = Slice { index: index.clone(), ..Slice::default() };
    let mut pages: Vec<Vec<Leaf<'_>>> = Vec::new();
    let mut bytes = 0;
    let mut done_to: Option<RecordKey> = None;
    for key in base.dirty().keys() {
        if done_to.as_ref().is_some_and(|done| key < done) {
            continue;
        }
        if bytes >= bytes_max {
            slice.rest = Some(Rest { from: key.clone(), end: Some(key.clone()) });
            break;
        }
        let stored = key.to_store_key();
        let page = index.range(..=stored.clone()).next_back().cloned();
        let next = index.range(stored.clone()..).find(|start| **start > stored).cloned();
        // The records that stand before the first page go to a page of their own.
        let first = page.as_deref().and_then(from_store_key).unwrap_or_else(|| key.clone());
        let first = first.min(key.clone());
        if let Some(page) = page {
            slice.index.remove(&page);
            slice.writes.insert(page, None);
        }
        let end = next.as_deref().and_then(from_store_key);
        let mut leaves = base.leaves(&first, end.as_ref());
        // At least the key for which this region is rewritten must get into a page.
        while leaves.first().is_some_and(|(first, _)| bytes < bytes_max || *first <= key) {
            let (at, taken) = page_end(&leaves, PAGE_BYTES_AIM.min(bytes_max));
            let behind = leaves.split_off(at);
            pages.push(core::mem::replace(&mut leaves, behind));
            bytes += taken;
        }
        if let Some((from, _)) = leaves.first() {
            slice.rest = Some(Rest { from: (*from).clone(), end: end.clone() });
            // What the page held before must not be lost with it; what is new to pages can wait.
            leaves.retain(|(key, _)| base.dirty().get(*key) != Some(&true));
            pages.push(leaves);
            break;
        }
        match end {
            Some(end) => done_to = Some(end),
            None => break,
        }
    }
    for mut page in pages {
        if slice.rest.is_none() {
            page.retain(|(_, held)| held.is_some());
        }
        if let Some((start, bytes)) = encode_page(&page, asof) {
            if page.iter().all(|(_, held)| held.is_none()) {
                slice.hollow.insert(start.clone());
            }
            slice.index.insert(start.clone());
            slice.writes.insert(start, Some(bytes));
        }
    }
    slice
}

/// How many of the leaves make a page, and the bytes that they take, about.
fn page_end(leaves: &[Leaf<'_>], bytes_aim: usize) -> (usize, usize) {
    let mut bytes = 0;
    for (at, (key, held)) in leaves.iter().enumerate() {
        if bytes > bytes_aim {
            return (at, bytes);
        }
        let key = key.collection.as_str().len() + key.id.as_str().len();
        bytes += held.map_or(0, |held| held.bytes.len()) + key + 48;
    }
    (leaves.len(), bytes)
}

fn encode_page(leaves: &[Leaf<'_>], asof: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let (first, _) = leaves.first()?;
    let mut out = Writer::new();
    out.array(3);
    out.uint(VERSION);
    out.uint(asof);
    out.array(leaves.len() * 2);
    for (key, held) in leaves {
        write_key(&mut out, key);
        let Some(held) = held else {
            out.null();
            continue;
        };
        out.array(4);
        out.uint(held.seq.0);
        out.uint(u64::from(held.epoch));
        out.bytes(&held.proof);
        out.bytes(&held.bytes);
    }
    Some((first.to_store_key(), seal(PAGE, out.into_bytes())))
}

/// A page as it is read.
#[derive(Debug)]
pub(super) struct Page {
    /// The log entry up to which it is up to date.
    pub(super) asof: u64,
    /// Keys and their records; `None` says that it is gone.
    pub(super) leaves: Vec<(RecordKey, Option<Held>)>,
}

/// Decodes a page.
pub(super) fn decode_page(bytes: &[u8]) -> Result<Page, CodecError> {
    let mut input = Reader::new(unseal(PAGE, bytes)?);
    input.array_exact(3)?;
    check_version(&mut input)?;
    let asof = input.uint()?;
    let len = input.array()? / 2;
    let mut leaves = Vec::new();
    for _ in 0..len {
        let key = read_key(&mut input)?;
        let held = input.optional(|input| {
            input.array_exact(4)?;
            Ok(Held {
                seq: Seq(input.uint()?),
                epoch: input.uint32()?,
                proof: input.bytes_exact()?,
                bytes: input.bytes()?.to_vec(),
            })
        })?;
        leaves.push((key, held));
    }
    input.finish()?;
    Ok(Page { asof, leaves })
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

/// Encodes the header of a log that is folded up to `folded`.
pub(super) fn encode_header(header: &Header, folded: u64) -> Vec<u8> {
    let mut out = Writer::new();
    out.array(18);
    out.uint(VERSION);
    out.uint(folded);
    out.bytes(header.replica.as_bytes());
    match &header.space {
        Some(space) => out.text(space.as_str()),
        None => out.null(),
    }
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
    out.array(header.past.len());
    header.past.iter().for_each(|incarnation| out.bytes(incarnation.as_bytes()));
    out.bool(header.denied);
    out.bool(header.gave_up);
    out.array(header.epochs.len() * 2);
    for (number, epoch) in &header.epochs {
        out.uint(u64::from(*number));
        out.bytes(epoch.as_bytes());
    }
    out.uint(u64::from(header.epoch_number));
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
    seal(HEADER, out.into_bytes())
}

/// Decodes the header, and up to where the log was folded when it was written.
pub(super) fn decode_header(bytes: &[u8]) -> Result<(Header, u64), CodecError> {
    let mut input = Reader::new(unseal(HEADER, bytes)?);
    input.array_exact(18)?;
    check_version(&mut input)?;
    let folded = input.uint()?;
    if folded > NUMBER_MAX {
        return Err(input.fault(CodecFault::Range));
    }
    let replica = input.replica()?;
    let space = input.optional(read_space)?;
    let clock = input.hlc()?;
    let observed = input.hlc()?;
    let acked = input.hlc()?;
    let principal = input.optional(|input| input.text().map(String::from))?;
    let welcomed = input.optional(|input| input.bytes_exact().map(Incarnation::from_bytes))?;
    let incarnations = |input: &mut Reader<'_>| {
        (0..input.array()?).map(|_| input.bytes_exact().map(Incarnation::from_bytes)).collect()
    };
    let since: Result<_, CodecError> = incarnations(&mut input);
    let since = since?;
    let past = incarnations(&mut input)?;
    let denied = input.bool()?;
    let gave_up = input.bool()?;
    let epochs = (0..input.array()? / 2)
        .map(|_| Ok((input.uint32()?, Epoch::from_bytes(input.bytes_exact()?))))
        .collect::<Result<_, CodecError>>()?;
    let epoch_number = input.uint32()?;
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
    let header = Header {
        replica,
        space,
        clock,
        observed,
        acked,
        principal,
        welcomed,
        since,
        past,
        denied,
        gave_up,
        epochs,
        epoch_number,
        skew_ms,
        standings,
        settled,
    };
    Ok((header, folded))
}

/// A heal under way is not written: nothing is folded before its end.
fn write_standing(out: &mut Writer, standing: &Standing) {
    out.array(9);
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
    out.bool(standing.resting);
    out.hlc(standing.time);
    out.hlc(standing.horizon);
    out.bool(standing.stale);
}

fn read_standing(input: &mut Reader<'_>) -> Result<Standing, CodecError> {
    input.array_exact(9)?;
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
        heal: None,
        resting: input.bool()?,
        time: input.hlc()?,
        horizon: input.hlc()?,
        stale: input.bool()?,
    })
}
