//! The tree as a user of the crate sees it: equal roots mean equal sets, walks find exactly what
//! differs, chunks bring everything across, and no message does harm.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy's exceptions for tests do not cover the helper functions of a test file"
)]

use proptest::{prelude::*, sample::Index};
use rejoin_core::{
    id::Digest,
    tree::{
        ChildHash, Entry, Levels, NodeState, Prefix, Trie, WalkBody, WalkLimits, WalkMessage,
        WalkNode, empty_root, respond,
    },
};
use std::collections::{BTreeMap, BTreeSet};

type Model = BTreeMap<Digest, Digest>;

/// A key by number: spread out, or sharing up to 31 leading bytes with others of its kind.
fn key(shared: u8, at: u16) -> Digest {
    if shared == 0 {
        return Digest::of("key", &[&at.to_be_bytes()]);
    }
    let mut bytes = [0xaa; 32];
    let [high, low] = at.to_be_bytes();
    let start = usize::from(shared.min(30));
    bytes[start] = high;
    bytes[start + 1] = low;
    Digest::from_bytes(bytes)
}

fn record(version: u8) -> Digest {
    Digest::of("record", &[&[version]])
}

fn trie(model: &Model) -> Trie {
    model.iter().map(|(key_hash, digest)| Entry { key_hash: *key_hash, digest: *digest }).collect()
}

fn entries(trie: &Trie) -> Vec<(Digest, Digest)> {
    trie.iter().map(|entry| (entry.key_hash, entry.digest)).collect()
}

fn keys() -> impl Strategy<Value = Digest> {
    prop_oneof![
        4 => (0_u16..600).prop_map(|at| key(0, at)),
        1 => (0_u16..80).prop_map(|at| key(1, at)),
        1 => (0_u16..80).prop_map(|at| key(13, at)),
        1 => (0_u16..80).prop_map(|at| key(30, at)),
    ]
}

fn models() -> impl Strategy<Value = Model> {
    prop::collection::btree_map(keys(), (0_u8..3).prop_map(record), 0..300)
}

/// Two sets with a common part, so that a difference is often small.
fn pairs() -> impl Strategy<Value = (Model, Model)> {
    let apart = || prop::collection::btree_map(keys(), (0_u8..3).prop_map(record), 0..40);
    let near = (models(), apart(), apart()).prop_map(|(common, mine, theirs)| {
        let with = |own: Model| common.clone().into_iter().chain(own).collect::<Model>();
        (with(mine), with(theirs))
    });
    prop_oneof![near, (models(), models())]
}

fn limits() -> impl Strategy<Value = WalkLimits> {
    let narrow = (0_usize..400, 0_usize..2_000, 0_usize..60, 0_usize..60, 0_usize..80, 0_usize..4)
        .prop_map(|(work_max, reply_bytes_max, nodes_max, differs_max, list_entries_max, deep)| {
            WalkLimits {
                work_max,
                reply_bytes_max,
                nodes_max,
                differs_max,
                list_entries_max,
                deep_nodes_max: deep,
                cells_max: 0,
                sketched_entries_min: 0,
            }
        });
    prop_oneof![Just(WalkLimits::default()), narrow]
}

struct Walked {
    messages: usize,
    // The first ones only: a walk that does not end must fail without filling the memory.
    first_messages: Vec<WalkMessage>,
    found: [BTreeSet<Digest>; 2],
}

/// Runs a walk; the records found are given to the other side at once if `apply`.
fn walk(sides: &mut [Trie; 2], limits: [&WalkLimits; 2], apply: bool) -> Walked {
    let mut walked = Walked {
        messages: 1,
        first_messages: Vec::new(),
        found: [BTreeSet::new(), BTreeSet::new()],
    };
    let mut message = WalkMessage::open(&mut sides[0], 42);
    loop {
        let side = walked.messages % 2;
        let response = respond(&mut sides[side], &message, limits[side]).unwrap();
        if walked.first_messages.len() < 100 {
            walked.first_messages.push(message);
        }
        for key_hash in &response.differs {
            let pushed = sides[side].get(key_hash).unwrap();
            if apply {
                let held = sides[1 - side].get(key_hash);
                sides[1 - side].insert(*key_hash, held.map_or(pushed, |held| held.max(pushed)));
            }
        }
        walked.found[side].extend(response.differs);
        let Some(reply) = response.reply else {
            return walked;
        };
        message = reply;
        walked.messages += 1;
        assert!(walked.messages < 20_000, "the walk does not end");
    }
}

fn differing(mine: &Model, theirs: &Model) -> BTreeSet<Digest> {
    mine.iter().filter(|(key, digest)| theirs.get(key) != Some(digest)).map(|(k, _)| *k).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn roots_are_equal_exactly_if_sets_are((mine, theirs) in pairs()) {
        prop_assert_eq!(trie(&mine).root() == trie(&theirs).root(), mine == theirs);
        prop_assert_eq!(trie(&mine).root() == empty_root(), mine.is_empty());
    }

    #[test]
    fn root_ignores_the_order_and_the_detours_of_operations(
        model in models(),
        detour in models(),
        ask in any::<bool>(),
        order in any::<u64>(),
    ) {
        let mut shuffled: Vec<_> = model.iter().collect();
        shuffled.sort_by_key(|(key, _)| Digest::of("order", &[&order.to_be_bytes(), key.as_bytes()]));
        let mut detoured = Trie::new();
        for (key, digest) in &detour {
            detoured.insert(*key, *digest);
        }
        for (key, digest) in shuffled {
            prop_assert_eq!(detoured.insert(*key, *digest), detour.get(key).copied());
            if ask {
                detoured.root();
            }
        }
        for key in detour.keys().filter(|key| !model.contains_key(key)) {
            prop_assert_eq!(detoured.remove(key), detour.get(key).copied());
        }
        prop_assert_eq!(detoured.len(), model.len());
        prop_assert_eq!(entries(&detoured), entries(&trie(&model)));
        prop_assert_eq!(detoured.root(), trie(&model).root());
    }

    #[test]
    fn remove_undoes_insert(model in models(), key in keys(), digest in (3_u8..9).prop_map(record)) {
        let mut changed = trie(&model);
        let root = changed.root();
        let previous = changed.insert(key, digest);
        prop_assert_eq!(changed.get(&key), Some(digest));
        prop_assert_ne!(changed.root(), root);
        match previous {
            Some(previous) => prop_assert_eq!(changed.insert(key, previous), Some(digest)),
            None => prop_assert_eq!(changed.remove(&key), Some(digest)),
        }
        prop_assert_eq!(changed.root(), root);
    }

    #[test]
    fn walk_finds_exactly_what_differs_both_ways(
        (mine, theirs) in pairs(),
        one in limits(),
        other in limits(),
    ) {
        let mut sides = [trie(&mine), trie(&theirs)];
        let walked = walk(&mut sides, [&one, &other], false);
        prop_assert_eq!(walked.found, [differing(&mine, &theirs), differing(&theirs, &mine)]);
    }

    #[test]
    fn walk_without_narrow_limits_ends_in_bounded_rounds((mine, theirs) in pairs()) {
        let limits = WalkLimits::default();
        let walked = walk(&mut [trie(&mine), trie(&theirs)], [&limits, &limits], false);
        // One message per level of the deepest keys, and what opens, wants and ends.
        prop_assert!(walked.messages <= 64 + 4, "{} messages", walked.messages);
    }

    #[test]
    fn sides_agree_once_what_a_walk_found_is_applied(
        (mine, theirs) in pairs(),
        one in limits(),
        other in limits(),
        apply_meanwhile in any::<bool>(),
    ) {
        let mut sides = [trie(&mine), trie(&theirs)];
        let walked = walk(&mut sides, [&one, &other], apply_meanwhile);
        if !apply_meanwhile {
            let joined = |key: &Digest| mine.get(key).max(theirs.get(key)).copied().unwrap();
            for (side, found) in [(1, &walked.found[0]), (0, &walked.found[1])] {
                for key in found {
                    sides[side].insert(*key, joined(key));
                }
            }
            // Where both hold a key, both found it.
            for key in walked.found[0].intersection(&walked.found[1]) {
                prop_assert_ne!(mine.get(key), theirs.get(key));
            }
        }
        let [mine, theirs] = &mut sides;
        prop_assert_eq!(mine.root(), theirs.root());
    }

    #[test]
    fn fetching_walk_makes_the_initiator_the_responders_copy(
        (mine, theirs) in pairs(),
        one in limits(),
        other in limits(),
    ) {
        let mut sides = [trie(&mine), trie(&theirs)];
        let walked = walk(&mut sides, [&one, &other], false);
        let [mine, theirs] = &mut sides;
        for key in walked.found[0].difference(&walked.found[1]) {
            mine.remove(key);
        }
        for key in &walked.found[1] {
            mine.insert(*key, theirs.get(key).unwrap());
        }
        prop_assert_eq!(mine.root(), theirs.root());
    }

    #[test]
    fn mutated_messages_never_panic_nor_answer_out_of_bounds(
        (mine, theirs) in pairs(),
        limits in limits(),
        at in any::<Index>(),
        mutations in prop::collection::vec((any::<Index>(), 0_u8..9, any::<u32>()), 1..6),
    ) {
        let mut sides = [trie(&mine), trie(&theirs)];
        let walked = walk(&mut sides, [&limits, &limits], false);
        let mut message = walked.first_messages[at.index(walked.first_messages.len())].clone();
        for (at, kind, noise) in mutations {
            mutate(&mut message, at, kind, noise);
        }
        for side in &mut sides {
            if let Ok(response) = respond(side, &message, &limits) {
                for key in &response.differs {
                    prop_assert!(side.get(key).is_some());
                }
                // What is answered to nonsense is itself sense.
                if let Some(reply) = response.reply {
                    prop_assert!(respond(side, &reply, &limits).is_ok());
                }
            }
        }
    }

    #[test]
    fn arbitrary_messages_never_panic(model in models(), message in messages(), limits in limits()) {
        let mut tree = trie(&model);
        if let Ok(Some(reply)) = respond(&mut tree, &message, &limits).map(|answer| answer.reply) {
            prop_assert!(respond(&mut tree, &reply, &limits).is_ok());
        }
    }
}

fn mutate(message: &mut WalkMessage, at: Index, kind: u8, noise: u32) {
    message.salt ^= u64::from(kind == 0);
    let WalkBody::Nodes(nodes) = &mut message.body else {
        if kind == 1 {
            message.body = WalkBody::Root(record(7));
        }
        return;
    };
    if nodes.is_empty() {
        return;
    }
    let at = at.index(nodes.len());
    let noisy = key(0, u16::try_from(noise % 600).unwrap());
    let length = u8::try_from(noise % 67).unwrap();
    match kind {
        1 => nodes.insert(at, nodes[at].clone()),
        2 => nodes[at].prefix = Prefix::of(&noisy, length),
        3 => nodes.reverse(),
        4 => drop(nodes.remove(at)),
        5 => nodes[at].state = NodeState::Open,
        6 => nodes[at].state = NodeState::List(vec![noise]),
        7 => nodes[at].state = NodeState::Want(vec![noise / 2, noise]),
        _ => match &mut nodes[at].state {
            NodeState::Inner { children, .. } => {
                children.push(ChildHash { at: length, hash: noise });
            }
            NodeState::List(hashes) | NodeState::Want(hashes) => hashes.push(noise),
            NodeState::Open => {}
        },
    }
}

fn messages() -> impl Strategy<Value = WalkMessage> {
    let children = prop::collection::btree_map(any::<u8>(), any::<u32>(), 0..20)
        .prop_map(|map| map.into_iter().map(|(at, hash)| ChildHash { at, hash }).collect());
    let levels = prop_oneof![Just(Levels::One), Just(Levels::Two)];
    let hashes = prop::collection::btree_set(any::<u32>(), 0..70)
        .prop_map(|hashes| hashes.into_iter().collect::<Vec<_>>());
    let state = prop_oneof![
        (levels, children).prop_map(|(levels, children)| NodeState::Inner { levels, children }),
        hashes.clone().prop_map(NodeState::List),
        hashes.prop_map(NodeState::Want),
        Just(NodeState::Open),
    ];
    let prefix = (keys(), prop_oneof![0_u8..4, 0_u8..=66]).prop_map(|(key, n)| Prefix::of(&key, n));
    let nodes = prop::collection::vec((prefix, state), 0..20).prop_map(|nodes| {
        let mut nodes: Vec<WalkNode> =
            nodes.into_iter().map(|(prefix, state)| WalkNode { prefix, state }).collect();
        nodes.sort_by_key(|node| node.prefix);
        nodes.dedup_by(|later, earlier| earlier.prefix.contains(&later.prefix));
        nodes
    });
    (any::<u64>(), nodes)
        .prop_map(|(salt, nodes)| WalkMessage { salt, body: WalkBody::Nodes(nodes) })
}
