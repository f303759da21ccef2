//! The records of a snapshot's chunk, packed.
//!
//! Records stand in the order of their positions, taken apart into columns (`columns`), and the columns are
//! deflated (RFC 1951) where that makes them smaller; proofs, which nothing makes smaller, stand beside them.
//!
//! Invariants: what is opened is what was packed, bit by bit, or nothing; opening takes memory in proportion to
//! [`CHUNK_BYTES_MAX`], whatever the bytes claim. Absent: whether the records lie where the chunk does.

mod columns;
#[cfg(test)]
mod tests;

use super::{
    Chunk, Proof,
    limits::{CHUNK_BYTES_MAX, INFLATED_RATIO_MAX},
    wire,
};
use crate::{
    codec::CodecError,
    id::{Digest, RecordKey, Seq},
};
use alloc::vec::Vec;
use miniz_oxide::{deflate, inflate};

/// How hard is tried: beyond it, time doubles for a hundredth of the bytes.
const LEVEL: u8 = 6;
/// Bytes of the mark over a whole chunk.
pub(super) const SUM_BYTES: usize = 16;

/// A record in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Which.
    pub key: RecordKey,
    /// Its position.
    pub seq: Seq,
    /// The responder's mark on it.
    pub proof: Proof,
    /// The record in its stored form.
    pub bytes: Vec<u8>,
}

/// The records of a chunk, as they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// First bytes of the digest over everything that the chunk says.
    pub sum: [u8; SUM_BYTES],
    /// Bytes of the columns before they were deflated; `None` when they were not.
    pub inflated: Option<u32>,
    /// The columns.
    pub columns: Vec<u8>,
    /// A proof for each record, in their order.
    pub proofs: Vec<u8>,
}

/// Why a chunk cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkFault {
    /// It would take more memory than a chunk may.
    #[error("a chunk of {got} bytes, at most {max} are allowed", max = CHUNK_BYTES_MAX)]
    TooLarge {
        /// Bytes that it says it takes.
        got: usize,
    },
    /// It would grow more than anything that is sent deflated.
    #[error("{deflated} bytes that are to inflate to {inflated}, more than {max} to 1",
        max = INFLATED_RATIO_MAX)]
    Ratio {
        /// Bytes sent.
        deflated: usize,
        /// Bytes that they are said to inflate to.
        inflated: usize,
    },
    /// It is not the deflated form of so many bytes.
    #[error("not the deflated form of {inflated} bytes")]
    Deflated {
        /// Bytes that it is said to inflate to.
        inflated: usize,
    },
    /// Its columns are not those of records.
    #[error("columns of a chunk: {0}")]
    Columns(#[from] CodecError),
}

impl Chunk {
    /// A chunk of these records, not deflated. O(n log n).
    #[must_use]
    pub fn pack(
        subscription: u32,
        (after, upto): (Option<RecordKey>, Option<RecordKey>),
        (more, total): (bool, u64),
        mut records: Vec<ChunkRecord>,
    ) -> Self {
        records.sort_unstable_by(|left, right| {
            let collections = left.key.collection.cmp(&right.key.collection);
            collections.then_with(|| (left.seq, &left.key.id).cmp(&(right.seq, &right.key.id)))
        });
        let proofs = records.iter().flat_map(|record| record.proof).collect();
        let columns = columns::write(&records);
        let packed = Packed { columns, proofs, ..Packed::default() };
        let mut chunk = Self { subscription, after, upto, more, total, packed };
        chunk.packed.sum = chunk.sum(&chunk.packed.columns);
        chunk
    }

    /// The same chunk with its columns deflated, if that makes it smaller and [`Self::open`] takes it so.
    #[must_use]
    pub fn deflated(self) -> Self {
        let size = self.packed.columns.len();
        if self.packed.inflated.is_some() || size > CHUNK_BYTES_MAX {
            return self;
        }
        let deflated = deflate::compress_to_vec(&self.packed.columns, LEVEL);
        let worth = deflated.len() < size && size <= deflated.len() * INFLATED_RATIO_MAX;
        match u32::try_from(size) {
            Ok(size) if worth => Self {
                packed: Packed { inflated: Some(size), columns: deflated, ..self.packed },
                ..self
            },
            _ => self,
        }
    }

    /// Its records, by collection and position; `None` when it is not what was packed.
    ///
    /// # Errors
    /// [`ChunkFault`] when no responder would have sent it.
    pub fn open(&self) -> Result<Option<Vec<ChunkRecord>>, ChunkFault> {
        let inflated;
        let columns = match self.packed.inflated {
            None => &self.packed.columns,
            Some(size) => {
                inflated = inflate(&self.packed.columns, size)?;
                &inflated
            }
        };
        if columns.len() > CHUNK_BYTES_MAX {
            return Err(ChunkFault::TooLarge { got: columns.len() });
        }
        if self.sum(columns) != self.packed.sum {
            return Ok(None);
        }
        columns::read(columns, &self.packed.proofs).map(Some)
    }

    /// The same with the mark of what it says now: behind it is what only a responder could have made.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn remarked(mut self) -> Self {
        let inflated = self.packed.inflated.map(|size| inflate(&self.packed.columns, size));
        let columns = inflated.and_then(Result::ok);
        self.packed.sum = self.sum(columns.as_ref().unwrap_or(&self.packed.columns));
        self
    }

    /// The mark over all that it says, whether it is deflated or not.
    fn sum(&self, columns: &[u8]) -> [u8; SUM_BYTES] {
        let digest =
            Digest::of("rejoin.chunk.v1", &[&wire::chunk_head(self), columns, &self.packed.proofs]);
        digest.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

fn inflate(deflated: &[u8], size: u32) -> Result<Vec<u8>, ChunkFault> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > CHUNK_BYTES_MAX {
        return Err(ChunkFault::TooLarge { got: size });
    }
    if size > deflated.len().saturating_mul(INFLATED_RATIO_MAX) {
        return Err(ChunkFault::Ratio { deflated: deflated.len(), inflated: size });
    }
    inflate::decompress_to_vec_with_limit(deflated, size)
        .ok()
        .filter(|inflated| inflated.len() == size)
        .ok_or(ChunkFault::Deflated { inflated: size })
}
