//! Snapshots: subtrees in order, each small enough to send and checked by itself.
//!
//! A chunk is named by its prefix alone, so a transfer that broke off goes on at any replica: it is
//! asked for the chunk behind the last one that arrived. That nothing is missing between two chunks
//! shows when the root of what arrived is compared with the root stated.

use super::{
    prefix::Prefix,
    trie::{Entry, Subtree, Trie, digest_of},
};
use crate::id::Digest;
use alloc::vec::Vec;

/// A subtree that is sent as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it hangs.
    pub prefix: Prefix,
    /// The subtree's digest.
    pub digest: Digest,
    /// The records below it, ascending. Never empty.
    pub key_hashes: Vec<Digest>,
}

/// Why entries cannot be a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// An entry does not belong below the prefix.
    #[error("the key hash {} is outside the chunk {prefix:?}", key_hash.short())]
    Outside {
        /// Of the entry.
        key_hash: Digest,
        /// Of the chunk.
        prefix: Prefix,
    },
    /// Two entries have one key.
    #[error("the key hash {} comes twice in a chunk", key_hash.short())]
    Twice {
        /// Of both entries.
        key_hash: Digest,
    },
}

impl Trie {
    /// The next chunk behind the prefix `after` (`None`: the first), as large as it can be while the
    /// `weight`s of its records, by key hash, sum up to at most `bytes_max`. A record heavier than
    /// that is a chunk of its own. `None` when nothing is left.
    ///
    /// `after` may be any prefix, also of a chunk that another replica cut. Takes O(log n) and a
    /// few weighings per record of the chunk, once the root is computed.
    pub fn next_chunk(
        &mut self,
        after: Option<&Prefix>,
        bytes_max: u64,
        weight: impl Fn(&Digest) -> u64,
    ) -> Option<Chunk> {
        self.root();
        let fits = |part: &Subtree<'_>| {
            let mut left = bytes_max;
            part.entries().all(|entry| match left.checked_sub(weight(&entry.key_hash)) {
                Some(rest) => {
                    left = rest;
                    true
                }
                None => false,
            })
        };
        first_behind(self.under(&Prefix::ROOT), Prefix::ROOT, after, &fits)
    }
}

/// The digest that a chunk of these entries has, in whatever order they come; to be compared with
/// the digest stated for it. O(n log n).
///
/// # Errors
/// [`ChunkError`] when an entry lies outside `prefix` or a key comes twice.
pub fn verify_chunk(prefix: &Prefix, entries: &[Entry]) -> Result<Digest, ChunkError> {
    let mut sorted = entries.to_vec();
    sorted.sort_unstable();
    for entry in &sorted {
        if !prefix.covers(&entry.key_hash) {
            return Err(ChunkError::Outside { key_hash: entry.key_hash, prefix: *prefix });
        }
    }
    if let Some(entry) = sorted
        .iter()
        .zip(sorted.iter().skip(1))
        .find_map(|(a, b)| (a.key_hash == b.key_hash).then_some(a))
    {
        return Err(ChunkError::Twice { key_hash: entry.key_hash });
    }
    Ok(digest_of(&sorted, prefix.nibbles()))
}

fn first_behind(
    part: Subtree<'_>,
    prefix: Prefix,
    after: Option<&Prefix>,
    fits: &impl Fn(&Subtree<'_>) -> bool,
) -> Option<Chunk> {
    if part.is_empty() {
        return None;
    }
    let astride = after.is_some_and(|after| prefix.contains(after) && prefix != *after);
    if !astride {
        if after.is_some_and(|after| prefix < *after || after.contains(&prefix)) {
            return None;
        }
        if part.count() == 1 || fits(&part) {
            let key_hashes = part.entries().map(|entry| entry.key_hash).collect();
            return Some(Chunk { prefix, digest: part.digest(), key_hashes });
        }
    }
    (0..16).find_map(|nibble| first_behind(part.child(nibble), prefix.child(nibble)?, after, fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(count: u32) -> Trie {
        (0..count)
            .map(|at| Entry {
                key_hash: Digest::of("key", &[&at.to_be_bytes()]),
                digest: Digest::of("record", &[&at.to_be_bytes()]),
            })
            .collect()
    }

    fn all_chunks(trie: &mut Trie, bytes_max: u64, weight: u64) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        while let Some(chunk) =
            trie.next_chunk(chunks.last().map(|chunk| &chunk.prefix), bytes_max, |_| weight)
        {
            assert!(chunks.last().is_none_or(|last| last.prefix < chunk.prefix));
            chunks.push(chunk);
        }
        chunks
    }

    #[test]
    fn chunks_cover_every_record_once_in_order() {
        for (count, bytes_max) in [(0, 10), (1, 10), (33, 10), (1_000, 10), (1_000, 64), (500, 500)]
        {
            let mut trie = trie(count);
            let chunks = all_chunks(&mut trie, bytes_max, 1);
            let keys: Vec<Digest> =
                chunks.iter().flat_map(|chunk| chunk.key_hashes.clone()).collect();
            assert_eq!(keys, trie.iter().map(|entry| entry.key_hash).collect::<Vec<_>>());
            assert!(chunks.iter().all(|chunk| chunk.key_hashes.len() as u64 <= bytes_max));
        }
    }

    #[test]
    fn chunk_that_holds_everything_is_the_root() {
        let mut trie = trie(500);
        let chunks = all_chunks(&mut trie, 500, 1);
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].prefix, Prefix::ROOT);
        assert_eq!(chunks[0].digest, trie.root());
    }

    #[test]
    fn record_heavier_than_a_chunk_travels_alone() {
        let mut trie = trie(40);
        let chunks = all_chunks(&mut trie, 10, 11);
        assert_eq!(chunks.len(), 40);
        assert!(chunks.iter().all(|chunk| chunk.key_hashes.len() == 1));
    }

    #[test]
    fn weights_that_overflow_a_number_do_not_fit() {
        let mut trie = trie(40);
        assert_eq!(all_chunks(&mut trie, u64::MAX, u64::MAX).len(), 40);
    }

    #[test]
    fn chunk_is_verified_from_its_entries_alone() {
        let mut trie = trie(2_000);
        for chunk in all_chunks(&mut trie, 100, 1) {
            let mut entries: Vec<Entry> = trie.under(&chunk.prefix).entries().copied().collect();
            entries.reverse();
            assert_eq!(verify_chunk(&chunk.prefix, &entries), Ok(chunk.digest));
            let dropped = entries.pop().unwrap();
            assert_ne!(verify_chunk(&chunk.prefix, &entries), Ok(chunk.digest));
            entries.push(Entry { digest: dropped.key_hash, ..dropped });
            assert_ne!(verify_chunk(&chunk.prefix, &entries), Ok(chunk.digest));
        }
    }

    #[test]
    fn chunk_refuses_foreign_and_doubled_keys() {
        let prefix = Prefix::from_packed(1, &[0x10]).unwrap();
        let entry = |byte: u8, digest: u8| Entry {
            key_hash: Digest::from_bytes([byte; 32]),
            digest: Digest::from_bytes([digest; 32]),
        };
        assert!(matches!(
            verify_chunk(&prefix, &[entry(0x20, 1)]),
            Err(ChunkError::Outside { .. })
        ));
        assert!(matches!(
            verify_chunk(&prefix, &[entry(0x10, 1), entry(0x11, 1), entry(0x10, 2)]),
            Err(ChunkError::Twice { .. })
        ));
    }

    #[test]
    fn chunks_go_on_behind_a_prefix_that_is_not_one_of_mine() {
        let mut trie = trie(1_000);
        let foreign = Prefix::from_packed(5, &[0x7f, 0x3a, 0x80]).unwrap();
        let chunk = trie.next_chunk(Some(&foreign), 100, |_| 1).unwrap();
        let expected = trie.iter().find(|entry| Prefix::of(&entry.key_hash, 5) > foreign);
        assert_eq!(chunk.key_hashes.first(), expected.map(|entry| &entry.key_hash));
        assert_eq!(trie.next_chunk(Some(&Prefix::ROOT), 100, |_| 1), None);
    }
}
