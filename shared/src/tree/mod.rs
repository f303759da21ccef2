//! Finds what two replicas of a collection hold differently.
//!
//! A collection is a set of entries (key hash, record digest) in a canonical trie ([`Trie`]): its
//! shape, and with it every digest, depends on the set alone. So two roots are equal exactly if two
//! sets are, and what differs is found from a sketch, or by comparing digests from the root down
//! ([`respond`]).
//!
//! Absent: record values (only their digests come here), joins, frames and their encoding, sessions,
//! and every state between two messages.

mod prefix;
mod sketch;
mod trie;
mod walk;

use crate::{
    id::{CollectionName, Digest},
    sorted::SortedMap,
};
use alloc::vec::Vec;

pub use prefix::{NIBBLES_MAX, Prefix, PrefixError};
pub use sketch::{CELLS_MAX, Cell, PROBE_BYTES_MAX};
pub use trie::{Entries, Entry, LEAF_ENTRIES_MAX, Subtree, Trie, empty_root};
pub use walk::{
    ChildHash, LIST_ENTRIES_MAX, Levels, NODES_MAX, NodeState, Response, SKETCHED_ENTRIES_MIN,
    SketchCells, WalkBody, WalkError, WalkLimits, WalkMessage, WalkNode, respond,
};

/// The root of several collections together, as of a subscription to a prefix: BLAKE3 over their
/// names and roots in name order. Empty collections are left out, so a collection that was emptied
/// and one that never was are the same. Of two roots given for one name the later one counts.
#[must_use]
pub fn combine_roots<'a>(roots: impl IntoIterator<Item = (&'a CollectionName, Digest)>) -> Digest {
    let empty = empty_root();
    let roots: SortedMap<&CollectionName, Digest> = SortedMap::from_iter(roots);
    let parts: Vec<&[u8]> = roots
        .iter()
        .filter(|(_, root)| **root != empty)
        .flat_map(|(name, root)| [name.as_str().as_bytes(), root.as_bytes().as_slice()])
        .collect();
    Digest::of("rejoin.roots.v1", &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_root_ignores_order_and_empty_collections_but_no_name() {
        let name = |text| CollectionName::parse(text).unwrap();
        let (a, b, c) = (name("a"), name("b"), name("c"));
        let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let both = combine_roots([(&a, one), (&b, two)]);
        assert_eq!(both, combine_roots([(&b, two), (&c, empty_root()), (&a, one)]));
        assert_ne!(both, combine_roots([(&a, two), (&b, one)]));
        assert_ne!(both, combine_roots([(&a, one), (&c, two)]));
        assert_ne!(both, combine_roots([(&a, one)]));
        assert_eq!(combine_roots([]), combine_roots([(&a, empty_root())]));
    }
}
