//! Records as columns: what is alike in many of them stands once, and what is alike in kind stands together.
//!
//! A record's stored form is a **template**, what stands between its times and values, filled with those. A chunk
//! has each template once, and a column for each field. A time that equals the one before it in its record is
//! part of the template. So records of one shape that were written at once cost their values and little else, and
//! are put together again by copying: no record is decoded.
//!
//! Absent: whether what comes out is a record; its digest tells that it is the one that was sent.

use super::{ChunkFault, ChunkRecord};
use crate::{
    codec::{CodecError, CodecFault, Reader, Writer, read_id, write_id},
    id::{CollectionName, RecordKey, Seq},
    message::{PROOF_BYTES, Proof, limits::CHUNK_BYTES_MAX},
    sorted::SortedMap,
};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};

/// What stands at a gap of a template. Values follow from 2 on, by the number of their column.
const TIME: u64 = 0;
const SAME_TIME: u64 = 1;
const VALUES: u64 = 2;
/// Kind `lww`, whose state has a time of its own.
const LWW: u64 = 0;

/// Records, ascending by collection, as columns.
pub(super) fn write(records: &[ChunkRecord]) -> Vec<u8> {
    let mut columns = Columns::default();
    let mut used = Writer::new();
    for record in records {
        let template = columns.take(&record.bytes);
        let next = columns.templates.len() as u64;
        let number = *columns.templates.entry(template).or_insert(next);
        used.uint(number);
    }
    let mut out = Writer::new();
    write_keys(&mut out, records);
    let mut templates: Vec<_> = columns.templates.into_iter().collect();
    templates.sort_unstable_by_key(|(_, number)| *number);
    out.array(templates.len());
    templates.iter().for_each(|(template, _)| out.raw(template));
    out.bytes(&used.into_bytes());
    out.bytes(&columns.times.into_bytes());
    out.array(columns.values.len());
    columns.values.iter().for_each(|column| out.bytes(column));
    out.into_bytes()
}

/// Collections with their numbers of records, all ids, all positions.
fn write_keys(out: &mut Writer, records: &[ChunkRecord]) {
    let mut runs: Vec<(&CollectionName, u64)> = Vec::new();
    for record in records {
        match runs.last_mut() {
            Some((collection, count)) if **collection == record.key.collection => *count += 1,
            _ => runs.push((&record.key.collection, 1)),
        }
    }
    out.array(runs.len() * 2);
    for (collection, count) in runs {
        out.text(collection.as_str());
        out.uint(count);
    }
    records.iter().for_each(|record| write_id(out, &record.key.id));
    let mut last = 0;
    for record in records {
        out.int(record.seq.0.wrapping_sub(last).cast_signed());
        last = record.seq.0;
    }
}

#[derive(Default)]
struct Columns {
    templates: SortedMap<Vec<u8>, u64>,
    /// Times, each as its distance from the one before.
    times: Writer,
    last_time: u64,
    names: SortedMap<String, u64>,
    values: Vec<Vec<u8>>,
}

impl Columns {
    /// Puts a record's times and values into their columns; what is left is its template.
    fn take(&mut self, record: &[u8]) -> Vec<u8> {
        let mut gaps = Vec::new();
        // Whatever else the bytes are, they are a template of their own.
        if find_gaps(record, &mut gaps).is_err() {
            gaps.clear();
        }
        let mut template = Writer::new();
        template.array(gaps.len() * 2 + 1);
        let mut at = 0;
        let mut time_before = None;
        for gap in gaps {
            template.bytes(record.get(at..gap.start).unwrap_or_default());
            at = gap.end;
            let taken = record.get(gap.start..gap.end).unwrap_or_default();
            if let Some(field) = gap.field {
                template.uint(VALUES + self.value(field, taken));
                continue;
            }
            let time = Reader::new(taken).uint().unwrap_or_default();
            if time_before.replace(time) == Some(time) {
                template.uint(SAME_TIME);
            } else {
                template.uint(TIME);
                self.times.int(time.wrapping_sub(self.last_time).cast_signed());
                self.last_time = time;
            }
        }
        template.bytes(record.get(at..).unwrap_or_default());
        template.into_bytes()
    }

    fn value(&mut self, field: &str, value: &[u8]) -> u64 {
        let next = self.values.len() as u64;
        let number = match self.names.get(field) {
            Some(number) => *number,
            None => {
                self.names.insert(field.to_string(), next);
                self.values.push(Vec::new());
                next
            }
        };
        let column = usize::try_from(number).ok().and_then(|at| self.values.get_mut(at));
        if let Some(column) = column {
            column.extend_from_slice(value);
        }
        number
    }
}

/// A part of a record that goes into a column: a time, or what a field holds.
struct Gap<'a> {
    start: usize,
    end: usize,
    field: Option<&'a str>,
}

/// The times and values of a record in its stored form: see `codec::write_record`.
fn find_gaps<'a>(record: &'a [u8], gaps: &mut Vec<Gap<'a>>) -> Result<(), CodecError> {
    let mut input = Reader::new(record);
    input.array_exact(4)?;
    for _vector in 0..2 {
        for _ in 0..input.array()? / 2 {
            input.bytes()?;
            time(&mut input, gaps)?;
        }
    }
    input.optional(|input| time(input, gaps))?;
    for _ in 0..input.array()? {
        input.array_exact(4)?;
        let field = input.text()?;
        let kind = input.uint()?;
        input.optional(|input| {
            input.array_exact(2)?;
            input.bytes()?;
            time(input, gaps)
        })?;
        if kind == LWW {
            let len = input.array()?;
            input.bytes()?;
            time(&mut input, gaps)?;
            if len < 3 {
                continue;
            }
        }
        let start = input.position();
        input.skip()?;
        gaps.push(Gap { start, end: input.position(), field: Some(field) });
    }
    input.finish()
}

fn time(input: &mut Reader<'_>, gaps: &mut Vec<Gap<'_>>) -> Result<(), CodecError> {
    let start = input.position();
    input.uint()?;
    gaps.push(Gap { start, end: input.position(), field: None });
    Ok(())
}

/// A template as it is read.
struct Template<'a> {
    /// What stands before each gap, and what fills it.
    gaps: Vec<(&'a [u8], u64)>,
    tail: &'a [u8],
}

/// Records from columns, each with its proof.
pub(super) fn read(columns: &[u8], proofs: &[u8]) -> Result<Vec<ChunkRecord>, ChunkFault> {
    let mut input = Reader::new(columns);
    let (proofs, spare) = proofs.as_chunks::<PROOF_BYTES>();
    let mut records = read_keys(&mut input, proofs)?;
    if !spare.is_empty() {
        return Err(input.fault(CodecFault::Range).into());
    }
    let mut templates = Vec::new();
    for _ in 0..input.array()? {
        templates.push(read_template(&mut input)?);
    }
    let mut used = Reader::new(input.bytes()?);
    let mut times = Times { column: Reader::new(input.bytes()?), last: 0 };
    let mut values = Vec::new();
    for _ in 0..input.array()? {
        values.push(Reader::new(input.bytes()?));
    }
    let mut left = CHUNK_BYTES_MAX;
    for record in &mut records {
        let number = usize::try_from(used.uint()?).unwrap_or(usize::MAX);
        let template = templates.get(number).ok_or_else(|| used.fault(CodecFault::Range))?;
        record.bytes = fill(template, &mut times, &mut values, &mut left)?;
    }
    let ends = [input, used, times.column].into_iter().chain(values);
    for end in ends {
        end.finish()?;
    }
    Ok(records)
}

fn read_keys(input: &mut Reader<'_>, proofs: &[Proof]) -> Result<Vec<ChunkRecord>, CodecError> {
    let mut collections = Vec::new();
    for _ in 0..input.array()? / 2 {
        collections.push((input.collection()?, input.uint()?));
    }
    let mut proofs = proofs.iter();
    let mut records = Vec::new();
    for (collection, count) in collections {
        for _ in 0..count {
            let proof = *proofs.next().ok_or_else(|| input.fault(CodecFault::Range))?;
            let id = read_id(input)?;
            let key = RecordKey { collection: collection.clone(), id };
            records.push(ChunkRecord { key, seq: Seq(0), proof, bytes: Vec::new() });
        }
    }
    if proofs.next().is_some() {
        return Err(input.fault(CodecFault::Range));
    }
    let mut last = 0_u64;
    for record in &mut records {
        last = last.wrapping_add(input.int()?.cast_unsigned());
        record.seq = Seq(last);
    }
    Ok(records)
}

fn read_template<'a>(input: &mut Reader<'a>) -> Result<Template<'a>, CodecError> {
    let gaps = (0..input.array()? / 2).map(|_| Ok((input.bytes()?, input.uint()?)));
    let gaps = gaps.collect::<Result<_, CodecError>>()?;
    Ok(Template { gaps, tail: input.bytes()? })
}

struct Times<'a> {
    column: Reader<'a>,
    last: u64,
}

/// Fills a template; takes what the record weighs from the bytes that are `left`.
fn fill(
    template: &Template<'_>,
    times: &mut Times<'_>,
    values: &mut [Reader<'_>],
    left: &mut usize,
) -> Result<Vec<u8>, ChunkFault> {
    let mut out = Writer::new();
    let mut take = |len: usize| match left.checked_sub(len) {
        Some(rest) => {
            *left = rest;
            Ok(())
        }
        None => Err(ChunkFault::TooLarge { got: CHUNK_BYTES_MAX + len }),
    };
    for (before, gap) in &template.gaps {
        take(before.len())?;
        out.raw(before);
        match *gap {
            TIME | SAME_TIME => {
                if *gap == TIME {
                    times.last = times.last.wrapping_add(times.column.int()?.cast_unsigned());
                }
                take(9)?;
                out.uint(times.last);
            }
            column => {
                let column = usize::try_from(column - VALUES).ok();
                let Some(column) = column.and_then(|at| values.get_mut(at)) else {
                    return Err(times.column.fault(CodecFault::Range).into());
                };
                let start = column.position();
                column.skip()?;
                let value = column.since(start);
                take(value.len())?;
                out.raw(value);
            }
        }
    }
    take(template.tail.len())?;
    out.raw(template.tail);
    Ok(out.into_bytes())
}
