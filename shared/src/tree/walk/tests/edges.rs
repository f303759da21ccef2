//! Limits at their edges: what is just allowed, and what is not any more.

use super::*;
use crate::tree::{
    CELLS_MAX, PROBE_BYTES_MAX,
    sketch::{Cell as SketchCell, Sketch},
};

const WIDE: WalkLimits = WalkLimits {
    work_max: usize::MAX,
    reply_bytes_max: usize::MAX,
    nodes_max: usize::MAX,
    differs_max: usize::MAX,
    list_entries_max: LIST_ENTRIES_MAX,
    deep_nodes_max: usize::MAX,
    cells_max: CELLS_MAX,
    sketched_entries_min: 0,
};

fn said(tree: &mut Trie, body: WalkBody, limits: &WalkLimits) -> Response {
    respond(tree, &WalkMessage { salt: 0, body }, limits).unwrap()
}

fn reply(tree: &mut Trie, body: WalkBody, limits: &WalkLimits) -> WalkBody {
    said(tree, body, limits).reply.unwrap().body
}

fn asked(nodes: Vec<(Prefix, NodeState)>) -> WalkBody {
    super::nodes(nodes).body
}

fn states(body: WalkBody) -> Vec<NodeState> {
    let WalkBody::Nodes(nodes) = body else { panic!("{body:?}") };
    nodes.into_iter().map(|node| node.state).collect()
}

fn cells(count: usize) -> WalkBody {
    let cells = vec![SketchCell::default(); count];
    WalkBody::Cells(SketchCells { cells, probes: Vec::new() })
}

fn first_cells(tree: &Trie, count: usize) -> WalkBody {
    let sketch = Sketch::build(Sketch::len_for(tree.len()), tree.iter());
    let cells = sketch.cells()[..count].to_vec();
    WalkBody::Cells(SketchCells { cells, probes: Vec::new() })
}

#[test]
fn answers_to_full_messages_are_well_formed_whatever_one_may_do() {
    let mut tree = trie(0..10_000);
    let four = |at: u16| Prefix::from_packed(4, &at.to_be_bytes()).unwrap();
    let inner = NodeState::Inner { levels: Levels::Two, children: Vec::new() };
    let all = (0..u16::try_from(NODES_MAX).unwrap()).map(|at| (four(at), inner.clone()));
    let WalkBody::Nodes(nodes) = reply(&mut tree, asked(all.collect()), &WIDE) else {
        panic!("it is answered node by node");
    };
    assert_eq!(message::check(&nodes), Ok(()));
}

#[test]
fn what_is_compared_counts_as_work() {
    let mut tree = trie(0..4_000);
    let both = |state: NodeState| asked(vec![(prefix(&[0]), state.clone()), (prefix(&[1]), state)]);
    let mine = reply(&mut tree, both(NodeState::Open), &WIDE);
    let response = said(&mut tree, mine.clone(), &WIDE);
    assert_eq!((response.put_off, response.reply.unwrap().body), (0, WalkBody::End));
    let limits = WalkLimits { work_max: 1, ..WIDE };
    assert_eq!(said(&mut tree, mine, &limits).put_off, 1);
}

#[test]
fn hashes_are_compared_with_four_times_as_many_entries_as_a_list_has() {
    let most = u32::try_from(4 * LIST_ENTRIES_MAX).unwrap();
    for state in [NodeState::List(vec![1]), NodeState::Want(vec![1])] {
        let body = asked(vec![(Prefix::ROOT, state.clone())]);
        let at_most = said(&mut trie(0..most), body.clone(), &WIDE);
        let found = if matches!(state, NodeState::List(_)) { most } else { 0 };
        assert_eq!(at_most.differs.len(), usize::try_from(found).unwrap());
        let beyond = said(&mut trie(0..most + 1), body, &WIDE);
        assert_eq!(beyond.differs, []);
        let described = states(beyond.reply.unwrap().body);
        assert!(matches!(described[..], [NodeState::Inner { .. }]), "{described:?}");
    }
}

#[test]
fn two_levels_are_described_where_few_nodes_need_it_and_one_would_not_do() {
    let mut tree = trie(0..8_000);
    let few = prefix(&[1, 2, 3]);
    let limits =
        WalkLimits { list_entries_max: tree.under(&few).count(), deep_nodes_max: 1, ..WIDE };
    assert!(limits.list_entries_max > 0);
    let body = asked(vec![(prefix(&[0]), NodeState::Open), (few, NodeState::Open)]);
    let described = states(reply(&mut tree, body, &limits));
    let levels = described.iter().filter_map(|state| match state {
        NodeState::Inner { levels, .. } => Some(*levels),
        NodeState::List(_) | NodeState::Want(_) | NodeState::Open => None,
    });
    assert_eq!(levels.collect::<Vec<_>>(), [Levels::Two]);
    // Sixteen children that can be expected to be listed.
    let limits = WalkLimits { list_entries_max: 4, ..WIDE };
    for (count, levels) in [(64, Levels::One), (65, Levels::Two)] {
        let body = asked(vec![(Prefix::ROOT, NodeState::Open)]);
        let described = states(reply(&mut trie(0..count), body, &limits));
        assert!(
            matches!(&described[..], [NodeState::Inner { levels: said, .. }] if *said == levels),
            "{count}"
        );
    }
}

#[test]
fn what_decodes_as_no_difference_is_walked_from_the_root() {
    let mut tree = trie(0..4_000);
    let body = first_cells(&tree, 100);
    assert_eq!(reply(&mut tree, body, &WIDE), WalkBody::Root(tree.root()));
}

#[test]
fn cells_are_doubled_as_long_as_one_may_have_so_many() {
    let mut tree = trie(0..4_000);
    for (cells_max, doubled) in [(96, true), (95, false)] {
        let limits = WalkLimits { cells_max, ..WIDE };
        let body = first_cells(&trie(4_000..8_000), 48);
        let said = reply(&mut tree, body, &limits);
        let count = if let WalkBody::Cells(sketch) = &said { sketch.cells.len() } else { 0 };
        assert_eq!(count, if doubled { 96 } else { 0 });
        assert!(doubled || matches!(said, WalkBody::Nodes(_)), "{said:?}");
    }
    let limits = WalkLimits { cells_max: 0, ..WIDE };
    let open = WalkMessage::open_sketch(&mut tree, 0, None, &limits);
    assert_eq!(open, WalkMessage::open(&mut tree, 0));
}

#[test]
fn as_many_symbols_are_looked_for_as_one_may_have_cells() {
    let mut tree = trie(0..100);
    let limits = WalkLimits { cells_max: 10, ..WIDE };
    let wanted = |count| WalkBody::Wanted((0..count).collect());
    for count in [9, 10] {
        assert_eq!(reply(&mut tree, wanted(count), &limits), WalkBody::End);
    }
    assert_eq!(reply(&mut tree, wanted(11), &limits), WalkBody::Root(tree.root()));
}

#[test]
fn sketches_and_symbols_beyond_their_limits_are_malformed() {
    let mut tree = trie(0..100);
    let mut refused =
        |body| respond(&mut tree, &WalkMessage { salt: 0, body }, &WIDE).map(drop).err();
    let probes = |count| {
        let cells = vec![SketchCell::default(); 48];
        WalkBody::Cells(SketchCells { cells, probes: vec![0; count] })
    };
    let symbols = |count: usize| WalkBody::Wanted((0..count as u64).collect());
    let more = CELLS_MAX + 1;
    for (body, error) in [
        (cells(CELLS_MAX), None),
        (cells(more), Some(WalkError::Cells { got: more })),
        (cells(more + 1), Some(WalkError::Cells { got: more + 1 })),
        (probes(PROBE_BYTES_MAX), None),
        (probes(PROBE_BYTES_MAX + 1), Some(WalkError::Probes { got: PROBE_BYTES_MAX + 1 })),
        (probes(PROBE_BYTES_MAX + 2), Some(WalkError::Probes { got: PROBE_BYTES_MAX + 2 })),
        (symbols(CELLS_MAX), None),
        (symbols(more), Some(WalkError::Cells { got: more })),
        (symbols(more + 1), Some(WalkError::Cells { got: more + 1 })),
        (WalkBody::Wanted(vec![1, 1]), Some(WalkError::SymbolOrder)),
        (WalkBody::Wanted(vec![2, 1]), Some(WalkError::SymbolOrder)),
    ] {
        assert_eq!(refused(body), error);
    }
}
