//! The sketch as a user of the crate sees it: a walk that opens with one finds exactly what differs,
//! and what no sketch finds, or what was damaged on its way, is found by walking.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy's exceptions for tests do not cover the helper functions of a test file"
)]

use proptest::{prelude::*, sample::Index};
use rejoin_core::{
    id::Digest,
    tree::{
        CELLS_MAX, Cell, Entry, PROBE_BYTES_MAX, SketchCells, Trie, WalkBody, WalkError,
        WalkLimits, WalkMessage, respond,
    },
};
use std::collections::BTreeSet;

fn entry(at: u32, version: u8) -> Entry {
    Entry {
        key_hash: Digest::of("key", &[&at.to_be_bytes()]),
        digest: Digest::of("record", &[&at.to_be_bytes(), &[version]]),
    }
}

/// Two trees of `common` records and, for each number, one that is lacking or different.
fn sides(common: u32, apart: &[u8]) -> [Trie; 2] {
    let mut sides: [Trie; 2] = [(); 2].map(|()| (0..common).map(|at| entry(at, 0)).collect());
    for (at, kind) in (0_u32..).zip(apart) {
        match kind % 3 {
            0 => drop(sides[0].remove(&entry(at, 0).key_hash)),
            1 => drop(sides[1].remove(&entry(at, 0).key_hash)),
            _ => drop(sides[1].insert(entry(at, 0).key_hash, entry(at, 1).digest)),
        }
    }
    sides
}

fn differing(mine: &Trie, theirs: &Trie) -> BTreeSet<Digest> {
    mine.iter()
        .filter(|entry| theirs.get(&entry.key_hash) != Some(entry.digest))
        .map(|entry| entry.key_hash)
        .collect()
}

fn expected(sides: &[Trie; 2]) -> [BTreeSet<Digest>; 2] {
    [differing(&sides[0], &sides[1]), differing(&sides[1], &sides[0])]
}

#[derive(Debug, Default)]
struct Walked {
    // What was said, in order.
    bodies: Vec<WalkBody>,
    found: [BTreeSet<Digest>; 2],
}

impl Walked {
    fn walked(&self) -> bool {
        self.bodies.iter().any(|body| matches!(body, WalkBody::Nodes(_)))
    }
}

/// Passes messages to and fro until the walk ends; `on_the_way` may change each.
fn walk(
    sides: &mut [Trie; 2],
    limits: [&WalkLimits; 2],
    open: WalkMessage,
    mut on_the_way: impl FnMut(usize, &mut WalkBody),
) -> Walked {
    let mut walked = Walked::default();
    let mut message = open;
    loop {
        on_the_way(walked.bodies.len(), &mut message.body);
        walked.bodies.push(message.body.clone());
        let side = walked.bodies.len() % 2;
        let response = respond(&mut sides[side], &message, limits[side]).unwrap();
        walked.found[side].extend(response.differs);
        let Some(reply) = response.reply else {
            return walked;
        };
        message = reply;
        assert!(walked.bodies.len() < 1_000, "the walk does not end");
    }
}

const WIDE: WalkLimits = WalkLimits {
    work_max: 262_144,
    reply_bytes_max: 512 * 1024,
    nodes_max: 16_384,
    differs_max: 16_384,
    list_entries_max: 64,
    deep_nodes_max: 8,
    cells_max: CELLS_MAX,
    sketched_entries_min: 512,
};

fn sketched(sides: &mut [Trie; 2], hint: Option<u32>) -> Walked {
    let open = WalkMessage::open_sketch(&mut sides[0], 7, hint, &WIDE);
    walk(sides, [&WIDE, &WIDE], open, |_, _| {})
}

#[test]
fn small_difference_is_found_in_the_first_answer() {
    for apart in [&[0][..], &[1], &[2], &[0, 1, 2, 0, 1, 2, 0, 1]] {
        let mut sides = sides(2_000, apart);
        let expected = expected(&sides);
        let walked = sketched(&mut sides, None);
        assert_eq!(walked.found, expected);
        // And a last word that says nothing of what differs.
        assert!(walked.bodies.len() <= 3);
        assert!(!walked.walked());
    }
}

#[test]
fn hinted_difference_is_found_in_the_first_answer() {
    let mut sides = sides(10_000, &[2; 300]);
    let expected = expected(&sides);
    let walked = sketched(&mut sides, Some(300));
    assert_eq!(walked.found, expected);
    assert!(matches!(&walked.bodies[..], [WalkBody::Cells(_), WalkBody::Wanted(_), WalkBody::End]));
}

#[test]
fn larger_difference_takes_one_estimate_or_is_walked() {
    for (apart, answer_is_cells) in [(100, true), (400, true), (5_500, false)] {
        let mut sides = sides(6_000, &vec![2; apart]);
        let expected = expected(&sides);
        let walked = sketched(&mut sides, None);
        assert_eq!(walked.found, expected);
        assert_eq!(matches!(walked.bodies[1], WalkBody::Cells(_)), answer_is_cells);
        assert!(walked.bodies.len() <= 6, "{} messages", walked.bodies.len());
    }
}

#[test]
fn small_trees_open_with_their_root_and_sketches_to_them_are_walked() {
    let mut small = sides(100, &[0, 1]);
    assert!(matches!(
        WalkMessage::open_sketch(&mut small[0], 7, None, &WIDE).body,
        WalkBody::Root(_)
    ));
    let [mut large, _] = sides(5_000, &[]);
    let open = WalkMessage::open_sketch(&mut large, 7, None, &WIDE);
    let mut uneven = [large, small[0].clone()];
    let expected = expected(&uneven);
    let walked = walk(&mut uneven, [&WIDE, &WIDE], open, |_, _| {});
    assert_eq!(walked.found, expected);
}

#[test]
fn sketches_that_are_switched_off_are_answered_by_a_walk() {
    let off = WalkLimits { cells_max: 0, ..WIDE };
    for apart in [&[1][..], &[2; 200]] {
        for limits in [[&WIDE, &off], [&off, &WIDE], [&off, &off]] {
            let mut sides = sides(3_000, apart);
            let expected = expected(&sides);
            let open = WalkMessage::open_sketch(&mut sides[0], 7, None, &WIDE);
            assert_eq!(walk(&mut sides, limits, open, |_, _| {}).found, expected);
        }
    }
}

#[test]
fn sketch_of_an_equal_tree_ends_with_equal() {
    let mut sides = sides(2_000, &[]);
    let walked = sketched(&mut sides, None);
    assert!(matches!(&walked.bodies[..], [WalkBody::Cells(_), WalkBody::Root(_), WalkBody::Equal]));
}

/// Two records of one symbol hide each other from every sketch. Alone they decode as no difference,
/// which unequal roots forbid; beside others they are left for the walk that follows.
#[test]
fn prepared_collision_is_found_by_walking() {
    let twin = |last: u8| {
        let mut bytes = [9; 32];
        bytes[31] = last;
        Entry { key_hash: Digest::from_bytes(bytes), digest: Digest::from_bytes(bytes) }
    };
    for others in [0, 3] {
        let mut sides = sides(2_000, &vec![2; others]);
        sides[0].extend([twin(1)]);
        sides[1].extend([twin(2)]);
        let expected = expected(&sides);
        let walked = sketched(&mut sides, None);
        if others == 0 {
            assert_eq!(walked.found, expected);
            assert!(matches!(walked.bodies[1], WalkBody::Root(_)));
            continue;
        }
        assert_eq!(walked.found[0].len(), others);
        for key_hash in &walked.found[0] {
            let digest = sides[1].get(key_hash).unwrap();
            sides[0].insert(*key_hash, digest);
        }
        let open = WalkMessage::open(&mut sides[0], 8);
        let walked = walk(&mut sides, [&WIDE, &WIDE], open, |_, _| {});
        assert_eq!(walked.found, [twin(1), twin(2)].map(|twin| BTreeSet::from([twin.key_hash])));
    }
}

#[test]
fn malformed_sketches_are_refused() {
    let [mut tree, _] = sides(2_000, &[]);
    let cells = |cells, probes| {
        let cells = vec![Cell::default(); cells];
        WalkBody::Cells(SketchCells { cells, probes: vec![0; probes] })
    };
    let many: Vec<u64> = (0..).take(CELLS_MAX + 1).collect();
    for (body, error) in [
        (cells(CELLS_MAX + 1, 0), WalkError::Cells { got: CELLS_MAX + 1 }),
        (cells(48, PROBE_BYTES_MAX + 1), WalkError::Probes { got: PROBE_BYTES_MAX + 1 }),
        (WalkBody::Wanted(many), WalkError::Cells { got: CELLS_MAX + 1 }),
        (WalkBody::Wanted(vec![2, 1]), WalkError::SymbolOrder),
        (WalkBody::Wanted(vec![1, 1]), WalkError::SymbolOrder),
    ] {
        assert_eq!(respond(&mut tree, &WalkMessage { salt: 0, body }, &WIDE), Err(error));
    }
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![Just(Cell::default()), any::<[u8; 12]>().prop_map(Cell::from_bytes)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sketched_walk_finds_exactly_what_differs_both_ways(
        common in 600_u32..3_000,
        apart in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            prop::collection::vec(any::<u8>(), 0..600),
        ],
        hint in prop::option::of(0_u32..700),
        cells_max in [prop_oneof![Just(CELLS_MAX), 0_usize..700], prop_oneof![Just(CELLS_MAX), 0_usize..700]],
    ) {
        let mut sides = sides(common, &apart);
        let expected = expected(&sides);
        let limits = cells_max.map(|cells_max| WalkLimits { cells_max, ..WIDE });
        let open = WalkMessage::open_sketch(&mut sides[0], 7, hint, &limits[0]);
        let walked = walk(&mut sides, [&limits[0], &limits[1]], open, |_, _| {});
        prop_assert_eq!(walked.found, expected);
        prop_assert!(walked.bodies.len() <= 24, "{} messages", walked.bodies.len());
    }

    #[test]
    fn damaged_cells_never_hide_a_difference(
        apart in prop::collection::vec(any::<u8>(), 1..200),
        step in 0_usize..3,
        kind in 0_u8..6,
        at in any::<Index>(),
        noise in prop::collection::vec(cell(), 1..60),
    ) {
        let mut sides = sides(2_000, &apart);
        let expected = expected(&sides);
        let open = WalkMessage::open_sketch(&mut sides[0], 7, None, &WIDE);
        let walked = walk(&mut sides, [&WIDE, &WIDE], open, |now, body| {
            if let (true, WalkBody::Cells(sketch)) = (now == step, body) {
                damage(sketch, kind, at, &noise);
            }
        });
        prop_assert_eq!(walked.found, expected);
    }

    #[test]
    fn arbitrary_sketches_never_panic(
        cells in prop::collection::vec(cell(), 0..300),
        probes in prop::collection::vec(any::<u8>(), 0..PROBE_BYTES_MAX),
        wanted in prop::collection::btree_set(any::<u64>(), 0..300),
        cells_max in prop_oneof![Just(CELLS_MAX), 0_usize..700],
    ) {
        let [mut tree, _] = sides(1_000, &[]);
        let limits = WalkLimits { cells_max, ..WIDE };
        let wanted = WalkBody::Wanted(wanted.into_iter().collect());
        for body in [WalkBody::Cells(SketchCells { cells, probes }), wanted] {
            let response = respond(&mut tree, &WalkMessage { salt: 3, body }, &limits).unwrap();
            prop_assert!(respond(&mut tree, &response.reply.unwrap(), &limits).is_ok());
        }
    }

    #[test]
    fn sketch_that_was_kept_up_to_date_is_that_of_the_set(
        changes in prop::collection::vec((0_u32..1_500, 0_u8..3, any::<bool>()), 0..400),
    ) {
        let [mut kept, _] = sides(1_200, &[]);
        prop_assert!(!first_cells(WalkMessage::open_sketch(&mut kept, 7, None, &WIDE)).is_empty());
        for (at, version, remove) in changes {
            if remove {
                kept.remove(&entry(at, 0).key_hash);
            } else {
                kept.insert(entry(at, 0).key_hash, entry(at, version).digest);
            }
        }
        let mut fresh: Trie = kept.iter().copied().collect();
        prop_assert_eq!(
            first_cells(WalkMessage::open_sketch(&mut kept, 7, Some(100), &WIDE)),
            first_cells(WalkMessage::open_sketch(&mut fresh, 7, Some(100), &WIDE))
        );
    }
}

fn first_cells(message: WalkMessage) -> Vec<Cell> {
    let WalkBody::Cells(sketch) = message.body else {
        return Vec::new();
    };
    sketch.cells
}

fn damage(sketch: &mut SketchCells, kind: u8, at: Index, noise: &[Cell]) {
    let at = at.index(sketch.cells.len());
    match kind {
        0 => sketch.cells.truncate(at),
        1 => sketch.cells.rotate_left(at),
        2 => drop(sketch.cells.splice(at..=at, noise.iter().copied())),
        3 => sketch.cells[at] = noise[0],
        4 => sketch.probes = noise.iter().take(6).flat_map(|cell| cell.to_bytes()).collect(),
        _ => sketch.cells.reverse(),
    }
}
