mod edges;

use super::*;
use crate::{
    id::CollectionName,
    protocol::{
        message::{Message, Walk},
        wire,
    },
    sorted::SortedSet,
};
use alloc::vec;
use core::cell::Cell;

std::thread_local! {
    /// Which bits of the salted hashes count in this test.
    pub(super) static HASH_MASK: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn hashed(at: u32) -> Entry {
    Entry {
        key_hash: Digest::of("key", &[&at.to_be_bytes()]),
        digest: Digest::of("record", &[&at.to_be_bytes()]),
    }
}

fn trie(range: core::ops::Range<u32>) -> Trie {
    range.map(hashed).collect()
}

const TINY: WalkLimits = WalkLimits {
    work_max: 0,
    reply_bytes_max: 0,
    nodes_max: 0,
    differs_max: 0,
    list_entries_max: 0,
    deep_nodes_max: 0,
    cells_max: 0,
    sketched_entries_min: 0,
};

#[derive(Debug, Default)]
struct Walked {
    messages: usize,
    put_off: usize,
    nodes_max: usize,
    // Of the initiator, of the responder; with repetitions.
    found: [Vec<Digest>; 2],
    // The bytes of each message, and what its receiver finds by it.
    said: Vec<u8>,
}

/// Passes messages to and fro until the walk ends; `between` runs before each answer.
fn walk_from(
    mut message: WalkMessage,
    sides: &mut [Trie; 2],
    limits: [&WalkLimits; 2],
    mut between: impl FnMut(usize, &mut [Trie; 2]),
) -> Walked {
    let collection = CollectionName::parse("tasks").unwrap();
    let mut walked = Walked { messages: 1, ..Walked::default() };
    loop {
        let side = walked.messages % 2;
        between(walked.messages, sides);
        let response = respond(&mut sides[side], &message, limits[side]).unwrap();
        let walk = Walk { subscription: 0, collection: collection.clone(), message };
        walked.said.extend(wire::encode(&Message::Walk(walk)));
        walked.said.extend(response.differs.iter().flat_map(|found| *found.as_bytes()));
        walked.found[side].extend(response.differs);
        walked.put_off += response.put_off;
        let Some(reply) = response.reply else {
            return walked;
        };
        let mut open = 0;
        if let WalkBody::Nodes(nodes) = &reply.body {
            open = nodes.iter().filter(|node| node.state == NodeState::Open).count();
            walked.nodes_max = walked.nodes_max.max(nodes.len());
        }
        assert_eq!(open, response.put_off, "what is put off is in the reply");
        message = reply;
        walked.messages += 1;
        assert!(walked.messages < 20_000, "the walk does not end");
    }
}

fn walk_with(
    sides: &mut [Trie; 2],
    limits: [&WalkLimits; 2],
    between: impl FnMut(usize, &mut [Trie; 2]),
) -> Walked {
    let open = WalkMessage::open(&mut sides[0], 7);
    walk_from(open, sides, limits, between)
}

fn walk(sides: &mut [Trie; 2], limits: &WalkLimits) -> Walked {
    walk_with(sides, [limits, limits], |_, _| {})
}

/// Key hashes of what `mine` has and `theirs` has not or has otherwise.
fn differing(mine: &Trie, theirs: &Trie) -> Vec<Digest> {
    mine.iter()
        .filter(|entry| theirs.get(&entry.key_hash) != Some(entry.digest))
        .map(|entry| entry.key_hash)
        .collect()
}

/// Walks, and checks that exactly what differs was found; without repetition if no limit cut it.
fn assert_exact(sides: &mut [Trie; 2], limits: &WalkLimits) -> Walked {
    let open = WalkMessage::open(&mut sides[0], 7);
    assert_exact_from(open, sides, limits)
}

fn assert_exact_from(open: WalkMessage, sides: &mut [Trie; 2], limits: &WalkLimits) -> Walked {
    let expected = [differing(&sides[0], &sides[1]), differing(&sides[1], &sides[0])];
    let mut walked = walk_from(open, sides, [limits, limits], |_, _| {});
    for found in &mut walked.found {
        found.sort_unstable();
        if walked.put_off > 0 {
            found.dedup();
        }
    }
    assert_eq!(walked.found, expected);
    walked
}

#[test]
fn walk_between_equal_trees_is_two_messages() {
    for count in [0, 1, 32, 33, 5_000] {
        let walked = assert_exact(&mut [trie(0..count), trie(0..count)], &WalkLimits::default());
        assert_eq!((walked.messages, walked.nodes_max), (2, 0));
    }
}

#[test]
fn walk_finds_what_one_side_lacks_at_every_size_of_leaf() {
    for count in [0, 1, 2, 31, 32, 33, 34, 63, 64, 65, 66, 255, 256, 257, 258, 1_025] {
        for limits in [WalkLimits::default(), TINY] {
            assert_exact(&mut [trie(0..count), trie(0..count + 1)], &limits);
            assert_exact(&mut [trie(0..count + 1), trie(0..count)], &limits);
            assert_exact(&mut [trie(0..count + 1), trie(1..count + 1)], &limits);
            assert_exact(&mut [trie(0..count), trie(0..0)], &limits);
            assert_exact(&mut [trie(0..0), trie(0..count)], &limits);
        }
    }
}

#[test]
fn walk_finds_one_changed_record_in_few_messages() {
    let mut sides = [trie(0..50_000), trie(0..50_000)];
    sides[1].insert(hashed(77).key_hash, Digest::from_bytes([1; 32]));
    let walked = assert_exact(&mut sides, &WalkLimits::default());
    assert!(walked.messages <= 6, "{} messages", walked.messages);
    assert_eq!(walked.put_off, 0);
}

/// A digest of all that both ends say and find in walks between trees of every kind. Each ends, and finds exactly what
/// differs.
fn transcript(limits: &WalkLimits, open: impl Fn(&mut Trie) -> WalkMessage) -> u32 {
    let mut changed = trie(0..6_000);
    for at in (0..6_000).step_by(131) {
        changed.insert(hashed(at).key_hash, Digest::from_bytes([1; 32]));
    }
    let pairs = [
        [trie(0..0), trie(0..300)],
        [trie(0..300), trie(0..0)],
        [trie(0..40), trie(20..60)],
        [trie(0..700), trie(350..1_050)],
        [trie(3..6_000), changed],
        [trie(0..9_000), trie(0..3_000)],
    ];
    let said = pairs.map(|mut sides| {
        let open = open(&mut sides[0]);
        assert_exact_from(open, &mut sides, limits).said
    });
    let digest = Digest::of("walk", &said.each_ref().map(Vec::as_slice));
    u32::from_be_bytes(*digest.as_bytes().first_chunk().unwrap())
}

/// Whoever changes the bytes of walks does it knowingly, whichever limit it is about.
#[test]
fn walks_say_what_they_always_said_under_each_limit() {
    let wide = WalkLimits { cells_max: 0, ..WalkLimits::default() };
    let walks = [
        wide,
        TINY,
        WalkLimits { work_max: 100, ..wide },
        WalkLimits { reply_bytes_max: 900, ..wide },
        WalkLimits { nodes_max: 40, ..wide },
        WalkLimits { differs_max: 50, ..wide },
        WalkLimits { list_entries_max: 3, ..wide },
        WalkLimits { list_entries_max: 20, deep_nodes_max: 2, ..wide },
        WalkLimits { deep_nodes_max: 0, ..wide },
        WalkLimits { nodes_max: 40, work_max: 300, differs_max: 200, ..wide },
    ];
    let said = walks.map(|limits| transcript(&limits, |tree| WalkMessage::open(tree, 7)));
    let pinned = [
        0xff61_8609,
        0xbf6b_9508,
        0xf13a_d673,
        0x0a40_e54b,
        0xa69b_b8b2,
        0x1f9c_7faa,
        0xdc40_473a,
        0x5793_e410,
        0xfa45_d7ab,
        0x1525_b9f5,
    ];
    assert_eq!(said, pinned, "{said:#x?}");
    let sketches = [
        (WalkLimits::default(), None),
        (WalkLimits::default(), Some(5)),
        (WalkLimits::default(), Some(400)),
        (WalkLimits { sketched_entries_min: 0, ..WalkLimits::default() }, None),
        (WalkLimits { cells_max: 100, ..WalkLimits::default() }, None),
        (WalkLimits { cells_max: 300, ..WalkLimits::default() }, Some(200)),
        (WalkLimits { reply_bytes_max: 1_300, ..WalkLimits::default() }, None),
    ];
    let said = sketches.map(|(limits, hint)| {
        transcript(&limits, |tree| WalkMessage::open_sketch(tree, 7, hint, &limits))
    });
    let pinned =
        [0xf9ab_dc7f, 0xf212_89c6, 0x5d0d_6bc8, 0x933a_4d37, 0x3cfe_4b13, 0x189f_6954, 0x4aae_6d21];
    assert_eq!(said, pinned, "{said:#x?}");
}

#[test]
fn walk_ends_whichever_side_has_the_narrower_limits() {
    let limits =
        [TINY, WalkLimits::default(), WalkLimits { nodes_max: 5, ..WalkLimits::default() }];
    for mine in &limits {
        for theirs in &limits {
            let mut sides = [trie(0..700), trie(350..1_050)];
            let expected: [SortedSet<Digest>; 2] = [
                differing(&sides[0], &sides[1]).into_iter().collect(),
                differing(&sides[1], &sides[0]).into_iter().collect(),
            ];
            let walked = walk_with(&mut sides, [mine, theirs], |_, _| {});
            let found = walked.found.map(|found| found.into_iter().collect::<SortedSet<_>>());
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn each_limit_puts_nodes_off_and_says_so() {
    let wide = WalkLimits::default();
    for limits in [
        WalkLimits { work_max: 300, ..wide },
        WalkLimits { reply_bytes_max: 500, ..wide },
        WalkLimits { nodes_max: 20, ..wide },
        WalkLimits { differs_max: 20, ..wide },
    ] {
        let walked = assert_exact(&mut [trie(0..4_000), trie(2_000..6_000)], &limits);
        assert!(walked.put_off > 0, "{limits:?}");
        let unlimited = assert_exact(&mut [trie(0..4_000), trie(2_000..6_000)], &wide);
        assert_eq!(unlimited.put_off, 0);
        assert!(walked.messages > unlimited.messages);
    }
}

#[test]
fn limits_bound_each_answer() {
    let limits = WalkLimits { differs_max: 100, nodes_max: 50, ..WalkLimits::default() };
    let mut sides = [trie(0..20_000), trie(0..0)];
    let mut message = WalkMessage::open(&mut sides[1], 1);
    let mut found = 0;
    for turn in 0_usize.. {
        let response = respond(&mut sides[turn % 2], &message, &limits).unwrap();
        assert!(response.differs.len() <= 100 + LEAF_ENTRIES_MAX);
        found += response.differs.len();
        let Some(reply) = response.reply else { break };
        if let WalkBody::Nodes(nodes) = &reply.body {
            assert!(nodes.len() <= 400, "{} nodes", nodes.len());
        }
        message = reply;
    }
    assert_eq!(found, 20_000);
}

#[test]
fn m03_walk_ends_while_both_trees_change_ten_times_faster_than_it() {
    // What differs at first is found in one message or, where limits are narrow, in about ten.
    for (limits, writes) in [
        (WalkLimits::default(), 3_000),
        (WalkLimits { work_max: 500, ..WalkLimits::default() }, 250),
    ] {
        let mut sides = [trie(0..2_000), trie(1_000..3_000)];
        let before = [differing(&sides[0], &sides[1]), differing(&sides[1], &sides[0])];
        let walked = walk_with(&mut sides, [&limits, &limits], |message, sides| {
            let at = 10_000 + u32::try_from(message).unwrap() * 2 * writes;
            for new in at..at + writes {
                sides[0].insert(hashed(new).key_hash, hashed(new).digest);
                sides[1].insert(hashed(new + writes).key_hash, hashed(new + writes).digest);
            }
        });
        assert!(walked.messages <= 400, "{} messages", walked.messages);
        for (found, before) in walked.found.iter().zip(&before) {
            let found: SortedSet<&Digest> = found.iter().collect();
            assert!(before.iter().all(|key_hash| found.contains(key_hash)));
        }
    }
}

#[test]
fn one_way_walk_leaves_the_initiator_with_the_responders_set() {
    for limits in [WalkLimits::default(), TINY] {
        let mut sides = [trie(0..900), trie(300..1_200)];
        for at in 400..450 {
            sides[0].insert(hashed(at).key_hash, Digest::from_bytes([1; 32]));
        }
        let walked = walk(&mut sides, &limits);
        let [mine, theirs] = &mut sides;
        for key_hash in &walked.found[0] {
            mine.remove(key_hash);
        }
        for key_hash in &walked.found[1] {
            mine.insert(*key_hash, theirs.get(key_hash).unwrap());
        }
        assert_eq!(mine.root(), theirs.root());
    }
}

/// A forged hash of 32 bits hides a difference for one walk; the salt of the next one shows it.
#[test]
fn colliding_hash_hides_a_difference_under_one_salt_only() {
    let (mut mine, mut theirs) = (trie(0..100), trie(1..100));
    theirs.root();
    let ask = |salt: u64, hash_salt: u64| WalkMessage {
        salt,
        body: WalkBody::Nodes(vec![WalkNode {
            prefix: Prefix::of(&hashed(0).key_hash, 4),
            state: NodeState::List(vec![Salt::new(hash_salt).of_entry(&hashed(0))]),
        }]),
    };
    let hidden = respond(&mut mine, &ask(1, 1), &WalkLimits::default()).unwrap();
    assert_eq!(hidden.differs, []);
    let shown = respond(&mut mine, &ask(2, 1), &WalkLimits::default()).unwrap();
    assert_eq!(shown.differs, [hashed(0).key_hash]);
}

fn nodes(nodes: Vec<(Prefix, NodeState)>) -> WalkMessage {
    let nodes = nodes.into_iter().map(|(prefix, state)| WalkNode { prefix, state }).collect();
    WalkMessage { salt: 0, body: WalkBody::Nodes(nodes) }
}

fn prefix(nibbles: &[u8]) -> Prefix {
    nibbles.iter().fold(Prefix::ROOT, |prefix, nibble| prefix.child(*nibble).unwrap())
}

#[test]
fn malformed_messages_are_refused() {
    let deep = |nibbles| Prefix::of(&Digest::from_bytes([3; 32]), nibbles);
    let inner = |levels, children: &[u8]| NodeState::Inner {
        levels,
        children: children.iter().map(|at| ChildHash { at: *at, hash: 0 }).collect(),
    };
    let open = NodeState::Open;
    let cases = [
        (
            nodes(vec![(prefix(&[1]), open.clone()), (prefix(&[1]), open.clone())]),
            WalkError::Order { node: 1 },
        ),
        (
            nodes(vec![(prefix(&[2]), open.clone()), (prefix(&[1]), open.clone())]),
            WalkError::Order { node: 1 },
        ),
        (
            nodes(vec![(prefix(&[1]), open.clone()), (prefix(&[1, 2]), open)]),
            WalkError::Order { node: 1 },
        ),
        (nodes(vec![(deep(64), inner(Levels::One, &[]))]), WalkError::Depth { node: 0 }),
        (nodes(vec![(deep(63), inner(Levels::Two, &[]))]), WalkError::Depth { node: 0 }),
        (nodes(vec![(deep(0), inner(Levels::One, &[16]))]), WalkError::Child { node: 0, at: 16 }),
        (nodes(vec![(deep(0), inner(Levels::Two, &[7, 7]))]), WalkError::HashOrder { node: 0 }),
        (nodes(vec![(deep(0), NodeState::List(vec![2, 1]))]), WalkError::HashOrder { node: 0 }),
        (nodes(vec![(deep(0), NodeState::Want(vec![1, 1]))]), WalkError::HashOrder { node: 0 }),
        (
            nodes(vec![(deep(0), NodeState::List((0..65).collect()))]),
            WalkError::Hashes { node: 0, got: 65 },
        ),
        (
            nodes((0..=NODES_MAX).map(|_| (Prefix::ROOT, NodeState::Open)).collect()),
            WalkError::Nodes { got: NODES_MAX + 1 },
        ),
    ];
    for (message, error) in cases {
        let refused = respond(&mut trie(0..100), &message, &WalkLimits::default());
        assert_eq!(refused, Err(error));
    }
}

#[test]
fn deepest_nodes_are_answered() {
    let deep = |nibbles| Prefix::of(&hashed(3).key_hash, nibbles);
    let inner = |levels| NodeState::Inner { levels, children: vec![ChildHash { at: 0, hash: 1 }] };
    for (nibbles, state) in [
        (64, NodeState::Open),
        (64, NodeState::List(vec![1])),
        (64, NodeState::Want(vec![1])),
        (63, inner(Levels::One)),
        (62, inner(Levels::Two)),
    ] {
        let message = nodes(vec![(deep(nibbles), state)]);
        for limits in [WalkLimits::default(), TINY] {
            assert!(respond(&mut trie(0..100), &message, &limits).is_ok());
        }
    }
}

/// A full message of questions about a full tree must come back no larger than a message may be.
#[test]
fn answer_to_a_full_message_is_itself_well_formed() {
    let mut tree = trie(0..10_000);
    let four = |at: u16| {
        let [high, low] = at.to_be_bytes();
        Prefix::from_packed(4, &[high, low]).unwrap()
    };
    let count = u16::try_from(NODES_MAX).unwrap();
    let inner = NodeState::Inner { levels: Levels::Two, children: Vec::new() };
    for state in [NodeState::Open, NodeState::List(vec![1]), NodeState::Want(vec![1]), inner] {
        let message = nodes((0..count).map(|at| (four(at), state.clone())).collect());
        for limits in [WalkLimits::default(), TINY] {
            let reply = respond(&mut tree, &message, &limits).unwrap().reply.unwrap();
            let WalkBody::Nodes(nodes) = &reply.body else {
                continue;
            };
            assert_eq!(message::check(nodes), Ok(()));
        }
    }
}

/// Else a peer could have every entry hashed for a few bytes.
#[test]
fn hashes_of_a_crowded_node_are_answered_by_its_children() {
    for state in [NodeState::List(vec![1]), NodeState::Want(vec![1])] {
        let message = nodes(vec![(Prefix::ROOT, state)]);
        let response = respond(&mut trie(0..300), &message, &WalkLimits::default()).unwrap();
        assert_eq!(response.differs, []);
        let Some(WalkBody::Nodes(nodes)) = response.reply.map(|reply| reply.body) else {
            panic!("the node is described");
        };
        assert!(matches!(nodes[0].state, NodeState::Inner { .. }));
    }
}

#[test]
fn last_messages_get_no_answer() {
    for body in [WalkBody::Equal, WalkBody::End] {
        let message = WalkMessage { salt: 0, body };
        assert!(message.is_last());
        let response = respond(&mut trie(0..10), &message, &WalkLimits::default()).unwrap();
        assert_eq!(response, Response { reply: None, differs: vec![], put_off: 0 });
    }
    assert!(!WalkMessage::open(&mut trie(0..10), 0).is_last());
}

#[test]
fn message_without_nodes_ends_the_walk() {
    let response = respond(&mut trie(0..10), &nodes(vec![]), &WalkLimits::default()).unwrap();
    assert_eq!(response.reply, Some(WalkMessage { salt: 0, body: WalkBody::End }));
}

/// With hashes of 8 bits nearly every walk misses something: the roots tell, and walks under other salts find it.
#[test]
fn m04_trees_agree_in_the_end_though_hashes_of_eight_bits_collide() {
    HASH_MASK.set(0xff);
    let (mut missed, mut most) = (0, 0);
    for case in 0..60_u32 {
        let mut sides = [trie(0..3_000), trie(0..3_000)];
        for at in 0..=case {
            let changed = Entry { digest: Digest::from_bytes([1; 32]), ..hashed(at * 47) };
            sides[at as usize % 2].extend([changed]);
        }
        let mut walks = 0;
        while sides[0].root() != sides[1].root() {
            let salt = u64::from(case) << 32 | walks;
            let found = walk_salted(&mut sides, salt);
            for (side, found) in found.into_iter().enumerate() {
                for key_hash in found {
                    let digest = sides[side].get(&key_hash).unwrap();
                    let held = sides[1 - side].get(&key_hash);
                    sides[1 - side].insert(key_hash, held.map_or(digest, |held| held.max(digest)));
                }
            }
            walks += 1;
            assert!(walks < 40, "they never agree");
        }
        missed += u64::from(walks > 1);
        most = most.max(walks);
    }
    assert!(missed > 5 && most < 20, "{missed} walks missed something, at most {most} were needed");
}

/// What each side finds in one walk under a salt.
fn walk_salted(sides: &mut [Trie; 2], salt: u64) -> [Vec<Digest>; 2] {
    let limits = WalkLimits::default();
    let mut found = [Vec::new(), Vec::new()];
    let mut message = WalkMessage::open(&mut sides[0], salt);
    for turn in 1..1_000 {
        let side = turn % 2;
        let response = respond(&mut sides[side], &message, &limits).unwrap();
        found[side].extend(response.differs);
        let Some(reply) = response.reply else { return found };
        message = reply;
    }
    panic!("the walk does not end");
}

/// Keys that somebody made to share as many nibbles as a hash has, which nobody can with BLAKE3: no deeper than
/// the hash is long, and a difference among them costs a walk down there and no more.
#[test]
fn m07_crafted_keys_make_a_tree_no_deeper_than_a_hash() {
    let crafted = |at: u16| {
        let mut bytes = [0x5a; 32];
        bytes[30..].copy_from_slice(&at.to_be_bytes());
        Entry { key_hash: Digest::from_bytes(bytes), digest: hashed(at.into()).digest }
    };
    let mut sides: [Trie; 2] = [(); 2].map(|()| (0..2_000).map(crafted).collect());
    let spread = trie(0..2_000);
    // 60 levels above them, each with one child.
    assert!(sides[0].memory_bytes() < 2 * spread.memory_bytes() + (64 << 10));
    sides[1].insert(crafted(77).key_hash, Digest::from_bytes([1; 32]));
    sides[0].remove(&crafted(1_999).key_hash);
    let walked = assert_exact(&mut sides, &WalkLimits::default());
    assert!(walked.messages <= 64 + 4, "{} messages", walked.messages);
    assert!(walked.nodes_max <= 16, "{} nodes", walked.nodes_max);
    for at in 0..2_000 {
        sides[0].remove(&crafted(at).key_hash);
    }
    assert_eq!(sides[0].root(), crate::tree::empty_root());
}

#[test]
fn estimate_of_what_a_node_takes_grows_with_what_it_says() {
    let child = |at| ChildHash { at, hash: 1 };
    let inner =
        |levels, count| NodeState::Inner { levels, children: (0..count).map(child).collect() };
    assert_eq!(NodeState::Open.bytes(), 0);
    assert_eq!(NodeState::List(vec![1, 2]).bytes(), 9);
    assert_eq!(NodeState::Want(vec![]).bytes(), 1);
    assert_eq!(inner(Levels::One, 16).bytes(), 66);
    assert_eq!(inner(Levels::Two, 100).bytes(), 432);
}
