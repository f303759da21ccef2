//! The answer to a request, as it is kept with its effect.

use super::{
    direct::{DirectCode, DirectDone, DirectRecord, DirectRefusal, DirectResults},
    layout::{self, Damaged},
};
use crate::{
    codec::{CodecFault, Reader, Writer},
    id::{CollectionName, Digest, RecordId, RecordKey, Seq},
    io::{Answer, Batch, Keyspace},
    time::WallMillis,
};
use alloc::{string::String, vec::Vec};

/// Before the name of a request: its answer.
const MEMO_KEY: &[u8] = b"memo/";
/// Before the time of an answer and the name of its request.
pub(super) const MEMO_TIME_KEY: &[u8] = b"memoat/";

pub(super) fn memo_key(name: &[u8; 32]) -> Vec<u8> {
    [MEMO_KEY, name].concat()
}

pub(super) fn memo_time_key(at: WallMillis, name: &[u8]) -> Vec<u8> {
    [MEMO_TIME_KEY, &at.0.to_be_bytes(), name].concat()
}

/// The request that a row of the index of answers names.
pub(super) fn parse_memo_time(key: &[u8]) -> Option<[u8; 32]> {
    let (_, name) = key.strip_prefix(MEMO_TIME_KEY)?.split_first_chunk::<8>()?;
    name.try_into().ok()
}

/// The name of a request, and where each part of it was done, of a row that keeps an answer.
#[cfg(feature = "test-util")]
pub(super) fn kept_answer(row: &crate::io::Row) -> Option<([u8; 32], Vec<Option<Seq>>)> {
    let name = row.key.strip_prefix(MEMO_KEY)?.try_into().ok()?;
    let memo = Memo::decode(&row.value).ok()?;
    let places = memo.results.iter().map(|result| result.as_ref().ok().and_then(|done| done.seq));
    Some((name, places.collect()))
}

/// What a request asked for, and what it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memo {
    pub(super) content: [u8; 32],
    pub(super) at: WallMillis,
    pub(super) results: DirectResults,
}

impl Memo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.array(3);
        out.bytes(&self.content);
        out.uint(self.at.0);
        out.array(self.results.len());
        for result in &self.results {
            match result {
                Ok(done) => {
                    out.array(2);
                    match done.seq {
                        Some(seq) => out.uint(seq.0),
                        None => out.null(),
                    }
                    out.array(done.records.len());
                    for DirectRecord { key, was_live, digest } in &done.records {
                        out.array(4);
                        out.text(key.collection.as_str());
                        out.text(key.id.as_str());
                        out.uint(u64::from(*was_live));
                        match digest {
                            Some(digest) => out.bytes(digest.as_bytes()),
                            None => out.null(),
                        }
                    }
                }
                Err(refused) => {
                    out.array(3);
                    out.null();
                    out.uint(refused.code.number());
                    out.text(&refused.reason);
                }
            }
        }
        layout::versioned(out)
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = layout::open(value)?;
        input.array_exact(3)?;
        let content = input.bytes_exact()?;
        let at = WallMillis(input.uint()?);
        let results = (0..input.array()?)
            .map(|_| match input.array()? {
                2 => read_done(&mut input).map(Ok),
                _ => read_refusal(&mut input).map(Err),
            })
            .collect::<Result<_, Damaged>>()?;
        input.finish()?;
        Ok(Self { content, at, results })
    }
}

fn read_done(input: &mut Reader<'_>) -> Result<DirectDone, Damaged> {
    let seq = input.optional(Reader::uint)?.map(Seq);
    let records = (0..input.array()?)
        .map(|_| {
            input.array_exact(4)?;
            let collection = CollectionName::parse(input.text()?);
            let collection = collection.map_err(|_refused| input.fault(CodecFault::Range))?;
            let id = RecordId::parse(input.text()?);
            let id = id.map_err(|_refused| input.fault(CodecFault::Range))?;
            let was_live = input.uint()? != 0;
            let digest = input.optional(Reader::bytes_exact)?.map(Digest::from_bytes);
            Ok(DirectRecord { key: RecordKey { collection, id }, was_live, digest })
        })
        .collect::<Result<_, Damaged>>()?;
    Ok(DirectDone { seq, records })
}

fn read_refusal(input: &mut Reader<'_>) -> Result<DirectRefusal, Damaged> {
    input.optional(Reader::uint)?;
    let code = DirectCode::of_number(input.uint()?);
    let code = code.ok_or_else(|| input.fault(CodecFault::Range))?;
    Ok(DirectRefusal { code, reason: String::from(input.text()?) })
}

/// The memos of a group: those that it keeps go with it, and some that are over.
#[derive(Debug, Default)]
pub(super) struct Memos {
    kept: crate::sorted::SortedMap<[u8; 32], Memo>,
    over: Vec<Vec<u8>>,
}

impl Memos {
    pub(super) fn insert(&mut self, name: [u8; 32], memo: Memo) {
        self.kept.insert(name, memo);
    }

    /// What was read of those that are over.
    pub(super) fn forget(&mut self, answer: Option<Answer>) {
        if let Some(Answer::Page(page)) = answer {
            self.over.extend(page.rows.into_iter().map(|row| row.key));
        }
    }

    pub(super) fn write(&self, batch: &mut Batch) {
        for key in &self.over {
            if let Some(name) = parse_memo_time(key) {
                batch.delete(Keyspace::Meta, memo_key(&name));
            }
            batch.delete(Keyspace::Meta, key.clone());
        }
        for (name, memo) in &self.kept {
            batch.put(Keyspace::Meta, memo_key(name), memo.encode());
            batch.put(Keyspace::Meta, memo_time_key(memo.at, name), Vec::new());
        }
    }
}
