//! How large a difference is, from a few bits of single cells far behind those that were sent.
//!
//! A cell of a difference is empty with a probability of about `e^(-2d/i)`. The probes are four bits of
//! cells at geometric distances, 16 to each doubling, so the number of them that differ grows with the
//! logarithm of the difference, and its deviation is that of a quarter of a doubling.

use super::Cell;
use alloc::vec::Vec;

/// Probes of the cells between one power of two and the next.
const PROBES_PER_OCTAVE: usize = 16;

/// Bytes of the probes of a sketch of [`super::CELLS_MAX`] cells.
pub const PROBE_BYTES_MAX: usize = 72;

/// The first octave begins at cell 64.
const FIRST_LOG2: u32 = 6;

/// `2^(k/16)` in units of 2^-16.
const POSITIONS: [usize; PROBES_PER_OCTAVE] = [
    65_536, 68_438, 71_468, 74_632, 77_936, 81_386, 84_990, 88_752, 92_682, 96_785, 101_070,
    105_545, 110_218, 115_098, 120_194, 125_515,
];

/// Probes that differ are counted in units of 1/256.
const UNIT: usize = 256;

/// How many of endlessly many probes differ, if `2^(k-14)` symbols lie in the first one's cell on
/// average: the sum over `j` of `15/16 * (1 - exp(-2^(k - 14 - j/16)))`, in [`UNIT`]s.
const DIFFERING: [usize; 25] = [
    0, 1, 1, 3, 6, 11, 22, 44, 88, 175, 348, 686, 1_330, 2_506, 4_489, 7_413, 11_017, 14_838,
    18_678, 22_518, 26_358, 30_198, 34_038, 37_878, 41_718,
];

/// The probes of a sketch of so many cells, two to a byte: the last four bits of each.
pub(in super::super) fn probes(cells: &[Cell]) -> Vec<u8> {
    let nibble =
        |at: &usize| cells.get(*at).map_or(0, |cell| cell.to_bytes()[Cell::BYTES - 1] & 15);
    let positions: Vec<usize> = positions(cells.len()).collect();
    positions
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[high, low]| (nibble(high) << 4) | nibble(low))
        .collect()
}

/// About how many symbols the sets differ by, given the probes of each. `None`: more than can be told.
pub(in super::super) fn estimate(mine: &[u8], theirs: &[u8]) -> Option<usize> {
    let octaves = mine.len().min(theirs.len()) * 2 / PROBES_PER_OCTAVE;
    let differing: usize = mine
        .iter()
        .zip(theirs)
        .take(octaves * PROBES_PER_OCTAVE / 2)
        .map(|(mine, theirs)| mine ^ theirs)
        .map(|differs| usize::from(differs & 0xf0 != 0) + usize::from(differs & 15 != 0))
        .sum();
    let differing = differing * UNIT;
    let expected = |log2: usize| {
        let far = DIFFERING.get((log2 + 9).checked_sub(octaves)?)?;
        Some(DIFFERING.get(log2 + 9)? - far)
    };
    let mut log2 = 0;
    let (low, high) = loop {
        let (low, high) = (expected(log2)?, expected(log2 + 1)?);
        if differing < high {
            break (low, high);
        }
        log2 += 1;
    };
    let beyond = differing.saturating_sub(low) << log2;
    Some((1 << log2) + beyond.checked_div(high.checked_sub(low)?)?)
}

/// Cells that decode a difference of so many symbols in 99 of 100 cases.
pub(in super::super) const fn cells_for(symbols: usize) -> usize {
    symbols.saturating_add(symbols / 2).saturating_add(40)
}

/// The cells that are probed, ascending: whole octaves, as many as there are.
fn positions(cells: usize) -> impl Iterator<Item = usize> {
    let octaves = FIRST_LOG2..cells.max(1).ilog2();
    octaves.flat_map(|octave| POSITIONS.iter().map(move |unit| (unit << octave) >> 16))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{
        super::{CELLS_MAX, Sketch},
        *,
    };
    use crate::{id::Digest, tree::Entry};

    #[test]
    fn tables_are_what_their_formulas_give() {
        for (at, unit) in (0_u32..).zip(POSITIONS) {
            assert_eq!(unit, rounded(65_536.0 * (f64::from(at) / 16.0).exp2()));
        }
        for (at, unit) in (0_i32..).zip(DIFFERING) {
            let load = f64::from(at - 14).exp2();
            let probe = |j: i32| 1.0 - (-load * f64::from(-j).exp2().powf(1.0 / 16.0)).exp();
            let sum: f64 = (0..2_000).map(probe).sum();
            assert_eq!(unit, rounded(sum * 15.0 / 16.0 * 256.0), "{at}");
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small and positive"
    )]
    fn rounded(value: f64) -> usize {
        value.round() as usize
    }

    #[test]
    fn median_estimate_is_the_difference() {
        for count in [10_u32, 100, 1_000, 5_000] {
            let nothing = probes(Sketch::build(CELLS_MAX, &[]).cells());
            let mut estimates: Vec<usize> = (0_u32..31)
                .map(|seed| {
                    let entries: Vec<Entry> = (0..count)
                        .map(|at| Digest::of("key", &[&seed.to_be_bytes(), &at.to_be_bytes()]))
                        .map(|hash| Entry { key_hash: hash, digest: hash })
                        .collect();
                    let probes = probes(Sketch::build(CELLS_MAX, &entries).cells());
                    estimate(&probes, &nothing).unwrap_or(usize::MAX)
                })
                .collect();
            estimates.sort_unstable();
            let median = estimates[15];
            let count = usize::try_from(count).unwrap();
            assert!(median.abs_diff(count) <= count / 4, "{median} for {count}");
        }
    }

    #[test]
    fn estimate_takes_probes_of_any_bytes() {
        let probes = |len: usize, byte: u8| alloc::vec![byte; len];
        for mine in [0, 1, 8, 24, 71, 72, 100] {
            for theirs in [0, 8, 72] {
                for byte in [0, 1, 0x10, 0xff] {
                    let estimate = estimate(&probes(mine, 0), &probes(theirs, byte));
                    assert!(estimate.is_none_or(|symbols| symbols < 1 << 17));
                }
            }
        }
        assert_eq!(estimate(&probes(72, 0), &probes(72, 0xff)), None);
    }
}
