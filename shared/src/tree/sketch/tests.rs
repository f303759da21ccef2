use super::*;
use crate::id::Digest;

fn entry(seed: u64, at: u64) -> Entry {
    let of = |name| Digest::of(name, &[&seed.to_be_bytes(), &at.to_be_bytes()]);
    Entry { key_hash: of("key"), digest: of("record") }
}

fn entries(seed: u64, count: u64) -> Vec<Entry> {
    (0..count).map(|at| entry(seed, at)).collect()
}

fn symbols(entries: &[Entry]) -> Vec<u64> {
    let mut symbols: Vec<u64> = entries.iter().map(symbol_of).collect();
    symbols.sort_unstable();
    symbols
}

/// The first cells of the difference of two sets, given each.
fn laid(mine: &[Entry], theirs: &[Entry], len: usize) -> Vec<Cell> {
    let mut cells = Sketch::build(len, mine).cells().to_vec();
    let theirs = Sketch::build(len, theirs);
    cells.iter_mut().zip(theirs.cells()).for_each(|(mine, theirs)| mine.toggle(*theirs));
    cells
}

#[test]
fn difference_decodes_from_as_many_cells_as_are_asked_for_it() {
    for (count, seeds) in [(1, 200), (3, 200), (10, 200), (50, 100), (500, 20), (20_000, 1)] {
        let failed = (0..seeds)
            .filter(|seed| {
                let all = entries(*seed, count);
                let len = cells_for(all.len());
                let (mine, theirs) = all.split_at(all.len() / 3);
                let common = entries(seed + 1_000, 100);
                let mine = [mine, &common].concat();
                let theirs = [theirs, &common].concat();
                decode(laid(&mine, &theirs, len)).is_none_or(|found| {
                    assert_eq!(found, symbols(&all));
                    false
                })
            })
            .count();
        assert!(failed * 50 <= usize::try_from(seeds).unwrap(), "{failed} of {count} records");
    }
}

#[test]
fn too_few_cells_decode_nothing_rather_than_something_else() {
    let all = entries(1, 100);
    for len in 1..100 {
        assert_eq!(decode(laid(&all, &[], len)), None);
    }
    assert_eq!(decode(Vec::new()), Some(Vec::new()));
    assert_eq!(decode(laid(&all, &all, 200)), Some(Vec::new()));
}

#[test]
fn sketch_of_fewer_cells_is_the_beginning_of_a_longer_one() {
    let all = entries(2, 300);
    let long = Sketch::build(CELLS_MAX, &all);
    for len in [1, 48, 512, 10_000] {
        assert_eq!(Sketch::build(len, &all).cells(), &long.cells()[..len]);
    }
}

/// Without a limit the symbol would be taken out of its own cells, which puts it into the others, for
/// ever.
#[test]
fn made_up_cells_that_bare_one_symbol_again_and_again_are_given_up() {
    let symbol = symbol_of(&entry(3, 0));
    for len in [2, 48, 1_000] {
        for at in 0..len {
            let mut cells = vec![Cell::default(); len];
            cells[at] = Cell::of(symbol);
            assert_eq!(decode(cells), None);
        }
    }
    assert_eq!(decode(vec![Cell::of(symbol); 500]), None);
}

#[test]
fn empty_cell_is_no_symbol_and_no_symbol_is_an_empty_cell() {
    assert_eq!(Cell::default().alone(), None);
    for symbol in [0, 1, u64::MAX, STEP] {
        assert_eq!(Cell::of(symbol).alone(), Some(symbol));
        assert!(!Cell::of(symbol).is_empty());
        assert_eq!(Cell::from_bytes(Cell::of(symbol).to_bytes()), Cell::of(symbol));
    }
}

#[test]
fn symbols_lie_in_ever_fewer_cells() {
    let all = entries(4, 4_000);
    let mut held = vec![0_u32; 1_024];
    for entry in &all {
        let mut cells = vec![Cell::default(); held.len()];
        toggle(&mut cells, symbol_of(entry), |at, _| held[at] += 1);
    }
    assert_eq!(held[0], 4_000);
    for (from, to) in [(1, 2), (4, 8), (32, 64), (512, 1_024)] {
        let expected: usize = (from..to).map(|at| 8_000 / (at + 2)).sum();
        let counted: u32 = held[from..to].iter().sum();
        let counted = usize::try_from(counted).unwrap();
        assert!(counted.abs_diff(expected) < expected / 8, "{from}: {counted} of {expected}");
    }
}

/// Bytes that two builds must agree on.
#[test]
fn cells_are_the_pinned_ones() {
    let sketch = Sketch::build(64, &entries(5, 20));
    let cells: Vec<u8> = sketch.cells().iter().flat_map(|cell| cell.to_bytes()).collect();
    let digest = Digest::of("cells", &[&cells]);
    assert_eq!(digest.as_bytes()[..8], [175, 2, 44, 6, 238, 81, 121, 62]);
}
