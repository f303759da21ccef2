//! The sketch: a set of entries as a row of cells, each the XOR of some of them.
//!
//! An entry is a symbol of 64 bits: 40 of its key hash and 24 of its digest, so that a change is the
//! disappearance of one symbol and the appearance of another. Each symbol lies in the cell 0 and in
//! ever fewer of those behind it, chosen by itself: about `2 / (i + 2)` of all symbols lie in cell
//! `i`. Because everything is XOR, the cells of two sets laid over each other are the cells of their
//! difference, and inserting and removing are the same act. A cell of a difference that holds a
//! single symbol shows it by its check; taken out of its other cells it bares the next ones
//! ([`decode`]). About 1.4 cells per symbol suffice, whatever the size of the sets, and any beginning
//! of a row is the row of a shorter sketch.
//!
//! After Yang, Gilad, Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024
//! (<https://doi.org/10.1145/3651890.3672219>). We differ: no count in a cell; the root of a uniform
//! number, which their distances between cells take, is the greater of two uniform ones, so that all
//! is integers.
//!
//! Invariant: what is decoded is a guess that only equal roots confirm. Symbols are not salted, since a
//! salted sketch could not be kept up to date: it would be computed anew for each session, from every
//! entry. Somebody who may write to a set can therefore prepare records that a sketch confuses, and
//! gains that the two sides walk instead, with salted hashes.
//!
//! Absent: what is said to a peer, and when ([`super::walk`]).

mod estimate;

use super::trie::{Entry, Trie};
use alloc::{boxed::Box, vec, vec::Vec};

pub use estimate::PROBE_BYTES_MAX;
pub(super) use estimate::{cells_for, estimate, probes};

/// Most cells of a sketch: enough for a difference of about 20,000 symbols.
pub const CELLS_MAX: usize = 32_768;

/// Fewest cells of a sketch, but for the one of a peer that says less.
const CELLS_MIN: usize = 512;

/// The XOR of the symbols that lie here, and of their checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cell {
    // Halves, since a whole symbol would be aligned to 16 bytes per cell.
    high: u32,
    low: u32,
    check: u32,
}

impl Cell {
    /// Bytes of a cell in a message.
    pub const BYTES: usize = 12;

    /// Symbol, then check, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = self.high.to_be_bytes();
        let [e, f, g, h] = self.low.to_be_bytes();
        let [i, j, k, l] = self.check.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Reads what [`Self::to_bytes`] gives. All bytes are a cell.
    #[must_use]
    pub const fn from_bytes([a, b, c, d, e, f, g, h, i, j, k, l]: [u8; Self::BYTES]) -> Self {
        Self {
            high: u32::from_be_bytes([a, b, c, d]),
            low: u32::from_be_bytes([e, f, g, h]),
            check: u32::from_be_bytes([i, j, k, l]),
        }
    }

    const fn of(symbol: u64) -> Self {
        let (high, low) = halves(symbol);
        // Not where the distances begin, and not 0 for the symbol 0: that would be an empty cell.
        let (check, _) = halves(mix(!symbol));
        Self { high, low, check }
    }

    pub(super) const fn toggle(&mut self, other: Self) {
        self.high ^= other.high;
        self.low ^= other.low;
        self.check ^= other.check;
    }

    /// The symbol, if it is a single one.
    fn alone(self) -> Option<u64> {
        let symbol = (u64::from(self.high) << 32) | u64::from(self.low);
        (Self::of(symbol) == self).then_some(symbol)
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The symbol of an entry.
pub(super) fn symbol_of(entry: &Entry) -> u64 {
    let [a, b, c, d, e, ..] = *entry.key_hash.as_bytes();
    let [f, g, h, ..] = *entry.digest.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The cells of one set.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    cells: Box<[Cell]>,
}

impl Sketch {
    /// How many cells are worth keeping for so many entries: a power of two, about half as many. With
    /// more differences than such a sketch decodes a walk costs less.
    pub(super) fn len_for(entries: usize) -> usize {
        let half = (entries / 2).clamp(CELLS_MIN, CELLS_MAX);
        half.checked_next_power_of_two().unwrap_or(CELLS_MAX)
    }

    /// O(entries * log len).
    pub(super) fn build<'a>(len: usize, entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut sketch = Self { cells: vec![Cell::default(); len].into() };
        for entry in entries {
            sketch.toggle(entry);
        }
        sketch
    }

    /// Inserts an entry that is absent or removes one that is present. O(log len).
    pub(super) fn toggle(&mut self, entry: &Entry) {
        toggle(&mut self.cells, symbol_of(entry), |_, _| {});
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }
}

/// The symbols of a difference, ascending, given the first of its cells. `None`: there are too few
/// cells for it, or they are not those of any set.
///
/// O(cells * log cells), whatever they hold.
pub(super) fn decode(mut cells: Vec<Cell>) -> Option<Vec<u64>> {
    let mut bared: Vec<usize> =
        (0..).zip(&cells).filter(|(_, cell)| cell.alone().is_some()).map(|(at, _)| at).collect();
    let mut found = Vec::new();
    while let Some(at) = bared.pop() {
        let Some(symbol) = cells.get(at).and_then(|cell| cell.alone()) else {
            continue;
        };
        // A cell of a set bares one symbol at most. Made-up cells could bare the same ones for ever.
        if found.len() == cells.len() {
            return None;
        }
        found.push(symbol);
        toggle(&mut cells, symbol, |at, cell| {
            if cell.alone().is_some() {
                bared.push(at);
            }
        });
    }
    found.sort_unstable();
    let exact = cells.iter().all(|cell| cell.is_empty()) && found.is_sorted_by(|a, b| a < b);
    exact.then_some(found)
}

/// XORs a symbol into its cells, and shows what becomes of each.
fn toggle(cells: &mut [Cell], symbol: u64, mut touched: impl FnMut(usize, Cell)) {
    let value = Cell::of(symbol);
    let mut state = symbol;
    let mut at = 0;
    while let Some(cell) = usize::try_from(at).ok().and_then(|at| cells.get_mut(at)) {
        cell.toggle(value);
        touched(usize::try_from(at).unwrap_or(usize::MAX), *cell);
        state = state.wrapping_add(STEP);
        at += distance(at, mix(state));
    }
}

/// How far the next cell of a symbol lies behind its cell `at`: `(at + 3/2) * (1/r - 1)`, rounded up,
/// where the square of `r` is uniform in (0, 1).
fn distance(at: u64, random: u64) -> u64 {
    let (one, other) = halves(random);
    let root = u64::from(one.max(other).max(1));
    ((2 * at + 3) * (ONE - root)).div_ceil(2 * root)
}

const ONE: u64 = 1 << 32;

/// A permutation in which each bit of the input changes half of the output: the finaliser of
/// `SplitMix64` (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014,
/// <https://doi.org/10.1145/2660193.2660195>). [`STEP`] is that of its generator.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The upper and the lower 32 bits.
const fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// The entries of `tree` that a symbol stands for: one, unless somebody made them so.
pub(super) fn entries_of(tree: &Trie, symbol: u64) -> impl Iterator<Item = &Entry> {
    let [a, b, c, d, e, ..] = symbol.to_be_bytes();
    tree.near([a, b, c, d, e]).filter(move |entry| symbol_of(entry) == symbol)
}

#[cfg(test)]
mod tests;
