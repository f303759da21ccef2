use super::*;
use proptest::prelude::*;

fn entry(key: [u8; 32], digest: u8) -> Entry {
    Entry { key_hash: Digest::from_bytes(key), digest: Digest::from_bytes([digest; 32]) }
}

fn hashed(at: u32) -> Entry {
    Entry {
        key_hash: Digest::of("key", &[&at.to_be_bytes()]),
        digest: Digest::of("record", &[&at.to_be_bytes()]),
    }
}

/// Keys whose first `shared` bytes are zero, then their number.
fn crowded(shared: usize, count: u8) -> Vec<Entry> {
    (0..count)
        .map(|at| {
            let mut key = [0; 32];
            key[shared.min(31)] = at;
            entry(key, at)
        })
        .collect()
}

/// Checks what the module promises of every node.
fn assert_canonical(node: &Node, prefix: Prefix) -> usize {
    match &node.body {
        Body::Leaf(entries) => {
            assert!(entries.len() <= LEAF_ENTRIES_MAX);
            assert!(entries.capacity() <= entries.len() + 2 * LEAF_GROWTH);
            assert!(entries.is_sorted_by(|a, b| a.key_hash < b.key_hash));
            assert!(entries.iter().all(|entry| prefix.covers(&entry.key_hash)));
            entries.len()
        }
        Body::Inner(inner) => {
            let children = (0..16).filter_map(|at| Some((at, inner.child(at)?)));
            let counts = children.map(|(at, child)| {
                let count = assert_canonical(child, prefix.child(at).unwrap());
                assert!(count > 0, "an inner node has no empty child");
                count
            });
            let count = counts.sum::<usize>();
            assert_eq!(count, inner.count);
            assert!(count > LEAF_ENTRIES_MAX);
            count
        }
    }
}

#[test]
fn empty_trie_has_a_fixed_root() {
    let mut trie = Trie::new();
    assert_eq!(trie.root(), empty_root());
    trie.extend((0..100).map(hashed));
    for at in 0..100 {
        trie.remove(&hashed(at).key_hash);
    }
    assert_eq!(trie.root(), empty_root());
    assert!(matches!(trie.root.body, Body::Leaf(_)));
}

/// Sent roots must not change with the code that computes them. The values come from a second
/// implementation, written in Python from the description of the digests.
#[test]
fn root_of_a_known_set_is_pinned() {
    assert_eq!(empty_root().short(), "243c2f8c27779e83");
    let mut leaf: Trie = (0..3).map(hashed).collect();
    assert_eq!(leaf.root().short(), "9ffbc57c39dcbd35");
    let mut inner: Trie = (0..1_000).map(hashed).collect();
    assert_eq!(inner.root().short(), "aca7e38d4a4507ed");
}

#[test]
fn leaf_parts_at_33_entries_and_comes_together_at_32() {
    let mut trie: Trie = (0..32).map(hashed).collect();
    let full = trie.root();
    assert!(matches!(trie.root.body, Body::Leaf(_)));
    assert_eq!(trie.insert(hashed(32).key_hash, hashed(32).digest), None);
    assert!(matches!(trie.root.body, Body::Inner(_)));
    assert_canonical(&trie.root, Prefix::ROOT);
    assert_ne!(trie.root(), full);
    assert_eq!(trie.remove(&hashed(32).key_hash), Some(hashed(32).digest));
    assert!(matches!(trie.root.body, Body::Leaf(_)));
    assert_eq!(trie.root(), full);
}

#[test]
fn keys_that_share_all_but_the_end_make_a_path_that_comes_together_again() {
    for shared in [0, 1, 15, 30, 31] {
        let entries = crowded(shared, 255);
        let mut trie: Trie = entries.iter().copied().collect();
        assert_canonical(&trie.root, Prefix::ROOT);
        assert_eq!(trie.len(), 255);
        assert_eq!(trie.root(), digest_of(&entries, 0));
        for entry in &entries {
            assert_eq!(trie.get(&entry.key_hash), Some(entry.digest));
        }
        for entry in entries.iter().skip(1) {
            assert_eq!(trie.remove(&entry.key_hash), Some(entry.digest));
            assert_canonical_if_small(&trie);
        }
        assert_eq!(trie.root(), digest_of(&entries[..1], 0));
    }
}

fn assert_canonical_if_small(trie: &Trie) {
    if trie.len() < 40 {
        assert_canonical(&trie.root, Prefix::ROOT);
    }
}

#[test]
fn insert_returns_the_previous_digest_and_remove_of_nothing_changes_nothing() {
    let mut trie: Trie = (0..200).map(hashed).collect();
    let root = trie.root();
    let Entry { key_hash, digest } = hashed(7);
    let other = Digest::from_bytes([9; 32]);
    assert_eq!(trie.insert(key_hash, other), Some(digest));
    assert_eq!(trie.len(), 200);
    assert_ne!(trie.root(), root);
    assert_eq!(trie.insert(key_hash, digest), Some(other));
    assert_eq!(trie.root(), root);
    assert_eq!(trie.remove(&other), None);
    assert_eq!(trie.get(&other), None);
    assert!(trie.root.digest.is_some(), "a removal of nothing keeps the digests");
    assert_eq!(trie.insert(key_hash, digest), Some(digest));
    assert!(trie.root.digest.is_some(), "a write that changes nothing keeps the digests");
}

#[test]
fn update_forgets_the_digests_on_its_path_only() {
    let mut trie: Trie = (0..5_000).map(hashed).collect();
    trie.root();
    trie.insert(hashed(1).key_hash, Digest::from_bytes([1; 32]));
    let forgotten = |node: &Node| -> usize {
        fn count(node: &Node) -> usize {
            let below = match &node.body {
                Body::Leaf(_) => 0,
                Body::Inner(inner) => inner.children.iter().flatten().map(|n| count(n)).sum(),
            };
            below + usize::from(node.digest.is_none())
        }
        count(node)
    };
    let depth = forgotten(&trie.root);
    assert!((2..=6).contains(&depth), "{depth} nodes forgot their digest");
}

#[test]
fn subtree_is_the_trie_of_its_entries_at_any_prefix() {
    let entries: Vec<Entry> = (0..3_000).map(hashed).collect();
    let mut trie: Trie = entries.iter().copied().collect();
    trie.root();
    for length in 0..=64 {
        let prefix = Prefix::of(&entries[5].key_hash, length);
        let mut below: Vec<Entry> =
            entries.iter().filter(|entry| prefix.covers(&entry.key_hash)).copied().collect();
        below.sort_unstable();
        let part = trie.under(&prefix);
        assert_eq!(part.count(), below.len());
        assert_eq!(part.digest(), digest_of(&below, length));
        assert_eq!(part.entries().copied().collect::<Vec<_>>(), below);
    }
    let whole = Prefix::of(&entries[5].key_hash, NIBBLES_MAX);
    assert_eq!(trie.under(&whole).count(), 1);
    assert!((0..16).all(|nibble| trie.under(&whole).child(nibble).is_empty()));
    let absent = Prefix::of(&Digest::from_bytes([0x5a; 32]), 20);
    assert!(trie.under(&absent).is_empty());
    assert_eq!(trie.under(&absent).digest(), empty_root());
}

#[test]
fn leaf_and_inner_node_of_the_same_bytes_have_different_digests() {
    assert_ne!(LEAF_KEY, INNER_KEY);
    assert_ne!(leaf_digest(&[]), inner_digest([None; 16]));
}

#[test]
fn memory_stays_near_the_size_of_the_entries() {
    for count in [10_000, 20_000, 40_000, 80_000] {
        let mut trie: Trie = (0..count).map(hashed).collect();
        let before = trie.memory_bytes();
        let per_entry = before / trie.len();
        assert!((64..=100).contains(&per_entry), "{per_entry} bytes at {count}");
        trie.sketch();
        let sketch = trie.memory_bytes() - before;
        assert!(
            sketch > 0 && sketch <= (12 * trie.len()).min(400_000),
            "{sketch} bytes at {count}"
        );
    }
}

proptest! {
    #[test]
    fn trie_stays_canonical_under_any_operations(
        ops in prop::collection::vec((any::<bool>(), 0_u8..4, 0_u8..60, 0_u8..3), 0..400),
    ) {
        let mut trie = Trie::new();
        for (insert, shared, at, digest) in ops {
            let mut key = [0; 32];
            key[usize::from(shared)] = at;
            if insert {
                trie.insert(Digest::from_bytes(key), Digest::from_bytes([digest; 32]));
            } else {
                trie.remove(&Digest::from_bytes(key));
            }
            prop_assert_eq!(assert_canonical(&trie.root, Prefix::ROOT), trie.len());
        }
        let sorted: Vec<Entry> = trie.iter().copied().collect();
        prop_assert_eq!(trie.root(), digest_of(&sorted, 0));
    }
}

#[test]
fn a_sketch_is_kept_until_it_is_much_too_small_or_too_large() {
    let mut trie: Trie = (0..4_096).map(hashed).collect();
    let cells = |trie: &mut Trie| trie.sketch().cells().len();
    let resize = |trie: &mut Trie, len: u32| {
        for entry in (0..40_000).map(hashed) {
            trie.remove(&entry.key_hash);
        }
        for entry in (0..len).map(hashed) {
            trie.insert(entry.key_hash, entry.digest);
        }
        assert_eq!(trie.is_empty(), len == 0);
    };
    assert_eq!(cells(&mut trie), 2_048);
    for (len, kept) in [
        (8_192, 2_048),
        (1_024, 2_048),
        (16_384, 8_192),
        (4_096, 8_192),
        (2_048, 1_024),
        (1_000, 1_024),
    ] {
        resize(&mut trie, len);
        assert_eq!(cells(&mut trie), kept, "{len}");
        let anew = Sketch::build(kept, trie.iter().collect::<Vec<_>>());
        assert_eq!(trie.sketch().cells(), anew.cells());
    }
    resize(&mut trie, 0);
    assert_eq!(trie.root(), empty_root());
}

#[test]
fn tries_are_told_by_their_size() {
    let trie: Trie = (0..3).map(hashed).collect();
    assert_eq!(alloc::format!("{trie:?}"), "Trie { len: 3, .. }");
    assert_eq!(alloc::format!("{:?}", trie.iter()), "Entries { .. }");
    let part = trie.under(&Prefix::ROOT);
    assert_eq!(alloc::format!("{part:?}"), "Subtree { count: 3, .. }");
}
