//! A place in the trie: the first nibbles of a key hash.

use crate::id::Digest;
use core::fmt;

/// Nibbles in a key hash, hence the greatest depth of a trie.
pub const NIBBLES_MAX: u8 = 64;

/// The first 0 to [`NIBBLES_MAX`] nibbles of key hashes, high nibble first.
///
/// Ordered like the key hashes below it, an ancestor before its descendants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    // Zero behind the last nibble, so that the derived order and equality are those of the prefix.
    path: [u8; 32],
    nibbles: u8,
}

/// Why bytes are not a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// It would be longer than a key hash.
    #[error("a prefix of {got} nibbles, at most {max} are allowed", max = NIBBLES_MAX)]
    TooLong {
        /// Nibbles stated.
        got: u8,
    },
    /// The bytes given are not those that so many nibbles take.
    #[error("{got} bytes for a prefix that takes {expected}")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes that the nibbles stated take.
        expected: usize,
    },
    /// The unused half of the last byte is not zero.
    #[error("the unused half of the last byte of a prefix is not zero")]
    Spare,
}

impl Prefix {
    /// Covers every key hash.
    pub const ROOT: Self = Self { path: [0; 32], nibbles: 0 };

    /// The first `nibbles` nibbles of `key_hash`; beyond [`NIBBLES_MAX`] all of them.
    #[must_use]
    pub fn of(key_hash: &Digest, nibbles: u8) -> Self {
        let nibbles = nibbles.min(NIBBLES_MAX);
        let mut path = *key_hash.as_bytes();
        let used = usize::from(nibbles);
        for (at, byte) in path.iter_mut().enumerate() {
            if 2 * at >= used {
                *byte = 0;
            } else if 2 * at + 1 == used {
                *byte &= 0xf0;
            }
        }
        Self { path, nibbles }
    }

    /// Reads what [`Self::packed`] gives.
    ///
    /// # Errors
    /// [`PrefixError`] when there are too many nibbles, the wrong number of bytes, or bits behind the
    /// last nibble: each prefix has one form.
    pub fn from_packed(nibbles: u8, packed: &[u8]) -> Result<Self, PrefixError> {
        if nibbles > NIBBLES_MAX {
            return Err(PrefixError::TooLong { got: nibbles });
        }
        let expected = usize::from(nibbles).div_ceil(2);
        if packed.len() != expected {
            return Err(PrefixError::Length { got: packed.len(), expected });
        }
        let mut path = [0; 32];
        for (to, from) in path.iter_mut().zip(packed) {
            *to = *from;
        }
        let prefix = Self::of(&Digest::from_bytes(path), nibbles);
        if prefix.path == path { Ok(prefix) } else { Err(PrefixError::Spare) }
    }

    /// Two nibbles to a byte; of an odd number the last byte's low half is zero.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        self.path.get(..usize::from(self.nibbles).div_ceil(2)).unwrap_or(&self.path)
    }

    /// Its length in nibbles.
    #[must_use]
    pub const fn nibbles(&self) -> u8 {
        self.nibbles
    }

    /// The prefix one nibble (0 to 15) longer; none below a whole key hash, or if `nibble` is none.
    #[must_use]
    pub fn child(&self, nibble: u8) -> Option<Self> {
        if self.nibbles >= NIBBLES_MAX || nibble > 15 {
            return None;
        }
        let mut child = *self;
        let byte = child.path.get_mut(usize::from(self.nibbles / 2))?;
        *byte |= if self.nibbles.is_multiple_of(2) { nibble << 4 } else { nibble };
        child.nibbles += 1;
        Some(child)
    }

    /// Whether `key_hash` begins with it.
    #[must_use]
    pub fn covers(&self, key_hash: &Digest) -> bool {
        Self::of(key_hash, self.nibbles) == *self
    }

    /// Whether every key hash that begins with `other` begins with it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.nibbles <= other.nibbles && self.covers(&Digest::from_bytes(other.path))
    }

    /// Its nibbles in order.
    pub(super) fn path(&self) -> impl Iterator<Item = u8> {
        let path = Digest::from_bytes(self.path);
        (0..self.nibbles).map(move |depth| nibble(&path, depth))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        self.path().try_for_each(|nibble| write!(f, "{nibble:x}"))
    }
}

/// The nibble of `key_hash` by which a node at `depth` (below [`NIBBLES_MAX`]) parts its entries.
pub(super) fn nibble(key_hash: &Digest, depth: u8) -> u8 {
    let byte = key_hash.as_bytes().get(usize::from(depth / 2)).copied().unwrap_or(0);
    if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn prefix_has_one_packed_form() {
        let odd = Prefix::from_packed(3, &[0xab, 0xc0]).unwrap();
        assert_eq!(format!("{odd:?}"), "/abc");
        assert_eq!(odd.packed(), [0xab, 0xc0]);
        assert_eq!(Prefix::from_packed(3, &[0xab, 0xc1]), Err(PrefixError::Spare));
        assert_eq!(
            Prefix::from_packed(3, &[0xab]),
            Err(PrefixError::Length { got: 1, expected: 2 })
        );
        assert_eq!(Prefix::from_packed(65, &[0; 33]), Err(PrefixError::TooLong { got: 65 }));
        assert_eq!(Prefix::from_packed(0, &[]), Ok(Prefix::ROOT));
        let whole = Prefix::from_packed(64, &[7; 32]).unwrap();
        assert_eq!(whole.packed(), [7; 32]);
        assert_eq!(whole.child(0), None);
    }

    #[test]
    fn prefix_sorts_before_its_descendants_and_they_before_its_successor() {
        let parent = Prefix::from_packed(1, &[0x30]).unwrap();
        let first = parent.child(0).unwrap();
        let last = parent.child(15).unwrap();
        let next = Prefix::from_packed(1, &[0x40]).unwrap();
        assert!(parent < first && first < last && last < next);
        assert!(parent.contains(&last) && !last.contains(&parent) && !parent.contains(&next));
        assert!(parent.covers(&Digest::from_bytes([0x3f; 32])));
        assert!(!first.covers(&Digest::from_bytes([0x3f; 32])));
        assert!(Prefix::ROOT.contains(&Prefix::ROOT));
    }
}
