//! The canonical trie: 16-ary, by the nibbles of the key hash, high nibble first.
//!
//! Invariant: a node with at most [`LEAF_ENTRIES_MAX`] entries below it is a leaf, any other is
//! inner; a leaf is sorted and an inner node has no empty child. So the shape follows from the set,
//! whatever the order of the operations that led to it. The same rule gives *every* prefix a digest,
//! also one that ends inside a leaf: that of the trie of the entries below it.
//!
//! The idea is Merkle's hash tree ("A Digital Signature Based on a Conventional Encryption
//! Function", 1987, <https://doi.org/10.1007/3-540-48184-2_32>) over a trie of hashed keys; the
//! collapse of small nodes into sorted leaves is what makes removal undo insertion.
//!
//! Absent: persistence. A trie is derived from stored entries, and no digest of a peer enters it.

use super::{
    prefix::{NIBBLES_MAX, Prefix, nibble},
    sketch::Sketch,
};
use crate::id::Digest;
use alloc::{boxed::Box, vec::Vec};
use core::{array, fmt, iter::FusedIterator, mem, slice};

/// Most entries of a leaf.
pub const LEAF_ENTRIES_MAX: usize = 32;

/// What the tree knows of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Hash of the record's name ([`crate::id::key_hash`]).
    pub key_hash: Digest,
    /// Digest of the record's bytes.
    pub digest: Digest,
}

/// A set of entries, one per key hash, with the digest of each of its subtrees.
///
/// Operations take O(log n) for hashed keys; keys chosen to share nibbles make it at most
/// [`NIBBLES_MAX`] levels deep. About 70 to 100 bytes of memory per entry. Once it was opened or
/// answered with a sketch it keeps that one up to date, in 6 to 12 bytes per entry that it then had and at most
/// 400 kB.
#[derive(Clone, Default)]
pub struct Trie {
    root: Node,
    sketch: Option<Sketch>,
}

impl Trie {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the digest of a key; returns the previous one. Digests on the way to it are recomputed
    /// when next asked for, none if nothing changed.
    pub fn insert(&mut self, key_hash: Digest, digest: Digest) -> Option<Digest> {
        let entry = Entry { key_hash, digest };
        let previous = self.root.insert(0, entry);
        if let Some(sketch) = self.sketch.as_mut().filter(|_| previous != Some(digest)) {
            sketch.toggle(&entry);
            previous.into_iter().for_each(|digest| sketch.toggle(&Entry { key_hash, digest }));
        }
        previous
    }

    /// Removes a key; returns its digest if it was present.
    pub fn remove(&mut self, key_hash: &Digest) -> Option<Digest> {
        let digest = self.root.remove(0, key_hash)?;
        if let Some(sketch) = &mut self.sketch {
            sketch.toggle(&Entry { key_hash: *key_hash, digest });
        }
        Some(digest)
    }

    /// The digest of a key.
    #[must_use]
    pub fn get(&self, key_hash: &Digest) -> Option<Digest> {
        let (mut node, mut depth) = (&self.root, 0);
        loop {
            match &node.body {
                Body::Leaf(entries) => {
                    let at = entries.binary_search_by_key(key_hash, |entry| entry.key_hash).ok()?;
                    return entries.get(at).map(|entry| entry.digest);
                }
                Body::Inner(inner) => node = inner.child(nibble(key_hash, depth))?,
            }
            depth += 1;
        }
    }

    /// The entries whose key hash begins with `start`, ascending; at most those of one leaf, which are
    /// all unless keys were chosen to share more nibbles than those of `start`.
    pub(super) fn near<const N: usize>(&self, start: [u8; N]) -> impl Iterator<Item = &Entry> {
        let mut path = [0; 32];
        path.iter_mut().zip(start).for_each(|(to, from)| *to = from);
        let path = Digest::from_bytes(path);
        let mut node = Some(&self.root);
        let mut leaf: &[Entry] = &[];
        for depth in 0..=NIBBLES_MAX {
            match node.map(|node| &node.body) {
                Some(Body::Leaf(entries)) => {
                    leaf = entries;
                    break;
                }
                Some(Body::Inner(inner)) => node = inner.child(nibble(&path, depth)),
                None => break,
            }
        }
        // The memory is nowhere near: reading on costs less than halving.
        leaf.iter().filter(move |entry| entry.key_hash.as_bytes().starts_with(&start))
    }

    /// Number of entries. O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.count()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest of the whole set: equal for two tries exactly if their sets are equal.
    /// O(log n) per change since it was last asked for, O(n) the first time.
    pub fn root(&mut self) -> Digest {
        self.root.refresh()
    }

    /// The sketch of the whole set. O(log n) per change since it was last asked for; O(n) the first
    /// time, and when the set has become much larger or smaller than it was then.
    pub(super) fn sketch(&mut self) -> &Sketch {
        let len = Sketch::len_for(self.len());
        let kept = self.sketch.take().filter(|sketch| {
            let kept = sketch.cells().len();
            kept >= len / 2 && kept <= len * 4
        });
        let sketch = kept.unwrap_or_else(|| Sketch::build(len, self.iter()));
        self.sketch.insert(sketch)
    }

    /// The part below a prefix. Its digest is at hand if [`Self::root`] was asked for since the last
    /// change, else it is computed anew each time.
    #[must_use]
    pub fn under(&self, prefix: &Prefix) -> Subtree<'_> {
        prefix.path().fold(Subtree { depth: 0, part: Part::Node(&self.root) }, Subtree::child)
    }

    /// All entries, ascending by key hash.
    #[must_use]
    pub fn iter(&self) -> Entries<'_> {
        self.under(&Prefix::ROOT).entries()
    }

    /// Bytes of memory it holds, without what the allocator adds. O(n).
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let sketch = self.sketch.as_ref().map_or(0, |sketch| size_of_val(sketch.cells()));
        size_of::<Self>() + sketch + self.root.memory_bytes()
    }
}

impl fmt::Debug for Trie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Extend<Entry> for Trie {
    fn extend<I: IntoIterator<Item = Entry>>(&mut self, entries: I) {
        for Entry { key_hash, digest } in entries {
            self.insert(key_hash, digest);
        }
    }
}

impl FromIterator<Entry> for Trie {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut trie = Self::new();
        trie.extend(entries);
        trie
    }
}

impl<'a> IntoIterator for &'a Trie {
    type Item = &'a Entry;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The entries below one prefix.
#[derive(Clone, Copy)]
pub struct Subtree<'a> {
    depth: u8,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Node(&'a Node),
    // Prefixes that end inside a leaf, and empty ones.
    Slice(&'a [Entry]),
}

impl<'a> Subtree<'a> {
    /// Number of entries. O(1).
    #[must_use]
    pub fn count(&self) -> usize {
        match self.part {
            Part::Node(node) => node.count(),
            Part::Slice(entries) => entries.len(),
        }
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The digest of the set of entries.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self.part {
            Part::Node(node) => node.digest(),
            Part::Slice(entries) => digest_of(entries, self.depth),
        }
    }

    /// The entries, ascending by key hash.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        let mut entries = Entries { leaf: [].iter(), open: Vec::new() };
        match self.part {
            Part::Node(node) => entries.enter(node),
            Part::Slice(slice) => entries.leaf = slice.iter(),
        }
        entries
    }

    /// The part whose next nibble is `of`; empty below a whole key hash.
    pub(super) fn child(self, of: u8) -> Self {
        let depth = self.depth.saturating_add(1).min(NIBBLES_MAX);
        let slice = match self.part {
            _ if self.depth >= NIBBLES_MAX => &[],
            Part::Node(Node { body: Body::Inner(inner), .. }) => match inner.child(of) {
                Some(node) => {
                    return Self { depth, part: Part::Node(node) };
                }
                None => &[],
            },
            Part::Node(Node { body: Body::Leaf(entries), .. }) => {
                narrow(entries.as_slice(), self.depth, of)
            }
            Part::Slice(entries) => narrow(entries, self.depth, of),
        };
        Self { depth, part: Part::Slice(slice) }
    }
}

impl fmt::Debug for Subtree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subtree").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// Entries in ascending order of their key hashes.
#[derive(Clone)]
pub struct Entries<'a> {
    leaf: slice::Iter<'a, Entry>,
    open: Vec<slice::Iter<'a, Option<Box<Node>>>>,
}

impl<'a> Entries<'a> {
    fn enter(&mut self, node: &'a Node) {
        match &node.body {
            Body::Leaf(entries) => self.leaf = entries.iter(),
            Body::Inner(inner) => self.open.push(inner.children.iter()),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.open.last_mut()?.next() {
                Some(Some(node)) => self.enter(node),
                Some(None) => {}
                None => drop(self.open.pop()),
            }
        }
    }
}

impl FusedIterator for Entries<'_> {}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
struct Node {
    // None: something below has changed since it was computed.
    digest: Option<Digest>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Leaf(Vec<Entry>),
    Inner(Box<Inner>),
}

#[derive(Clone)]
struct Inner {
    count: usize,
    children: [Option<Box<Node>>; 16],
}

impl Default for Body {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl Body {
    /// The canonical body of sorted entries with unique keys that share `depth` nibbles.
    fn build(entries: &[Entry], depth: u8) -> Self {
        if entries.len() <= LEAF_ENTRIES_MAX {
            return Self::Leaf(entries.to_vec());
        }
        let mut inner = Inner { count: entries.len(), children: [const { None }; 16] };
        for (nibble, group) in groups(entries, depth) {
            let body = Self::build(group, depth + 1);
            *inner.slot(nibble) = Some(Box::new(Node { digest: None, body }));
        }
        Self::Inner(Box::new(inner))
    }
}

impl Inner {
    fn child(&self, nibble: u8) -> Option<&Node> {
        self.children.get(usize::from(nibble))?.as_deref()
    }

    #[expect(clippy::indexing_slicing, reason = "masked to 0..16, the length of the array")]
    fn slot(&mut self, nibble: u8) -> &mut Option<Box<Node>> {
        &mut self.children[usize::from(nibble & 15)]
    }
}

impl Node {
    fn count(&self) -> usize {
        match &self.body {
            Body::Leaf(entries) => entries.len(),
            Body::Inner(inner) => inner.count,
        }
    }

    fn insert(&mut self, depth: u8, entry: Entry) -> Option<Digest> {
        let previous = match &mut self.body {
            Body::Leaf(entries) => {
                let previous = insert_sorted(entries, entry);
                if entries.len() > LEAF_ENTRIES_MAX {
                    let entries = mem::take(entries);
                    self.body = Body::build(&entries, depth);
                }
                previous
            }
            Body::Inner(inner) => {
                let slot = inner.slot(nibble(&entry.key_hash, depth));
                let previous = slot.get_or_insert_default().insert(depth + 1, entry);
                inner.count += usize::from(previous.is_none());
                previous
            }
        };
        if previous != Some(entry.digest) {
            self.digest = None;
        }
        previous
    }

    fn remove(&mut self, depth: u8, key_hash: &Digest) -> Option<Digest> {
        let removed = match &mut self.body {
            Body::Leaf(entries) => {
                let at = entries.binary_search_by_key(key_hash, |entry| entry.key_hash).ok()?;
                let removed = entries.remove(at).digest;
                if entries.capacity() > entries.len() + 2 * LEAF_GROWTH {
                    entries.shrink_to_fit();
                }
                removed
            }
            Body::Inner(inner) => {
                let slot = inner.slot(nibble(key_hash, depth));
                let child = slot.as_mut()?;
                let removed = child.remove(depth + 1, key_hash)?;
                if child.count() == 0 {
                    *slot = None;
                }
                inner.count -= 1;
                if inner.count <= LEAF_ENTRIES_MAX {
                    let whole = Subtree { depth, part: Part::Node(self) };
                    self.body = Body::Leaf(whole.entries().copied().collect());
                }
                removed
            }
        };
        self.digest = None;
        Some(removed)
    }

    fn refresh(&mut self) -> Digest {
        if let Some(digest) = self.digest {
            return digest;
        }
        let digest = match &mut self.body {
            Body::Leaf(entries) => leaf_digest(entries),
            Body::Inner(inner) => {
                inner_digest(inner.children.each_mut().map(|child| Some(child.as_mut()?.refresh())))
            }
        };
        self.digest = Some(digest);
        digest
    }

    fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| match &self.body {
            Body::Leaf(entries) => leaf_digest(entries),
            Body::Inner(inner) => {
                inner_digest(inner.children.each_ref().map(|child| Some(child.as_ref()?.digest())))
            }
        })
    }

    fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Leaf(entries) => entries.capacity() * size_of::<Entry>(),
            Body::Inner(inner) => {
                let children = inner.children.iter().flatten();
                size_of::<Inner>()
                    + children.map(|node| size_of::<Self>() + node.memory_bytes()).sum::<usize>()
            }
        }
    }
}

/// The root of every empty trie.
#[must_use]
pub fn empty_root() -> Digest {
    leaf_digest(&[])
}

/// The digest of the canonical trie of sorted entries with unique keys that share `depth` nibbles.
pub(super) fn digest_of(entries: &[Entry], depth: u8) -> Digest {
    if entries.len() <= LEAF_ENTRIES_MAX {
        return leaf_digest(entries);
    }
    let mut groups = groups(entries, depth).peekable();
    inner_digest(array::from_fn(|at| {
        let (_, group) = groups.next_if(|(nibble, _)| usize::from(*nibble) == at)?;
        Some(digest_of(group, depth + 1))
    }))
}

/// Sorted entries that share `depth` nibbles, parted by the next one, in its order.
fn groups(entries: &[Entry], depth: u8) -> impl Iterator<Item = (u8, &[Entry])> {
    let of = move |entry: &Entry| nibble(&entry.key_hash, depth);
    entries
        .chunk_by(move |a, b| of(a) == of(b))
        .filter_map(move |group| Some((of(group.first()?), group)))
}

/// Those of sorted entries that share `depth` nibbles whose next nibble is `of`.
fn narrow(entries: &[Entry], depth: u8, of: u8) -> &[Entry] {
    let start = entries.partition_point(|entry| nibble(&entry.key_hash, depth) < of);
    let end = entries.partition_point(|entry| nibble(&entry.key_hash, depth) <= of);
    entries.get(start..end).unwrap_or_default()
}

fn insert_sorted(entries: &mut Vec<Entry>, entry: Entry) -> Option<Digest> {
    match entries.binary_search_by_key(&entry.key_hash, |entry| entry.key_hash) {
        Ok(at) => entries.get_mut(at).map(|held| mem::replace(&mut held.digest, entry.digest)),
        Err(at) => {
            // Doubling would leave a quarter of all memory unused.
            if entries.len() == entries.capacity() {
                entries.reserve_exact(LEAF_GROWTH);
            }
            entries.insert(at, entry);
            None
        }
    }
}

/// Key hash and digest of each entry, in order.
fn leaf_digest(entries: &[Entry]) -> Digest {
    let mut bytes = Vec::with_capacity(size_of_val(entries));
    for entry in entries {
        bytes.extend_from_slice(entry.key_hash.as_bytes());
        bytes.extend_from_slice(entry.digest.as_bytes());
    }
    Digest::from_bytes(*blake3::keyed_hash(LEAF_KEY, &bytes).as_bytes())
}

/// Which children there are (16 bits, child 0 first), then the digest of each, in order.
fn inner_digest(children: [Option<Digest>; 16]) -> Digest {
    let present =
        children.iter().fold(0_u16, |present, child| (present << 1) | u16::from(child.is_some()));
    let mut bytes = Vec::with_capacity(2 + size_of_val(&children));
    bytes.extend_from_slice(&present.to_be_bytes());
    for child in children.iter().flatten() {
        bytes.extend_from_slice(child.as_bytes());
    }
    Digest::from_bytes(*blake3::keyed_hash(INNER_KEY, &bytes).as_bytes())
}

// Two keys, so that no bytes are both a leaf and an inner node.
const LEAF_KEY: &[u8; 32] = b"rejoin.tree.v1.leaf.............";
const INNER_KEY: &[u8; 32] = b"rejoin.tree.v1.inner............";
const LEAF_GROWTH: usize = 2;

#[cfg(test)]
mod tests;
