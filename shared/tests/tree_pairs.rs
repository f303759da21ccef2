//! Many small trees, and many damaged steps: what is found is exactly what differs, and no step of a peer
//! panics or is answered without bound. As many as `PAIRS` and `MUTATIONS` say.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "clippy's exceptions for tests do not cover the helper functions of a test file"
)]
#![expect(clippy::print_stdout, reason = "a long run tells what it saw")]

use rejoin_core::{
    id::{CollectionName, Digest},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{Message, Walk},
        wire::{decode, encode},
    },
    testing::{rng::Rng, twin},
    tree::{Entry, Trie, WalkBody, WalkLimits, WalkMessage, respond},
};

/// How many, unless a variable says otherwise.
fn count(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

/// A version of a record.
fn digest(version: u8) -> Digest {
    Digest::from_bytes([version; 32])
}

/// A key with some of its nibbles set.
fn key(nibbles: &[(usize, u8)]) -> Digest {
    let mut bytes = [0_u8; 32];
    for (at, value) in nibbles {
        bytes[at / 2] |= if at % 2 == 0 { value << 4 } else { *value };
    }
    Digest::from_bytes(bytes)
}

/// What each side must find of the other's lack: both tries ascend.
fn differing(mine: &Trie, theirs: &Trie, found: &mut Vec<Digest>) {
    found.clear();
    let mut theirs = theirs.iter().peekable();
    for entry in mine {
        while theirs.next_if(|other| other.key_hash < entry.key_hash).is_some() {}
        if theirs.peek() != Some(&entry) {
            found.push(entry.key_hash);
        }
    }
}

#[derive(Default)]
struct Walked {
    steps: usize,
    has_sketch: bool,
    found: [Vec<Digest>; 2],
}

/// Passes steps to and fro until the walk ends.
fn walk(sides: &mut [Trie; 2], limits: [&WalkLimits; 2], open: WalkMessage) -> Walked {
    let mut walked = Walked::default();
    let mut message = open;
    loop {
        walked.steps += 1;
        walked.has_sketch |= matches!(message.body, WalkBody::Cells(_));
        assert!(walked.steps < 5_000, "the walk does not end");
        let side = walked.steps % 2;
        let response = respond(&mut sides[side], &message, limits[side]).unwrap();
        walked.found[side].extend(response.differs);
        match response.reply {
            Some(reply) => message = reply,
            None => break,
        }
    }
    for found in &mut walked.found {
        found.sort_unstable();
        found.dedup();
    }
    walked
}

/// Where the last two of the levels lie at which made-up keys part.
#[derive(Clone, Copy)]
enum Keys {
    /// At the end of the key: in a sketch, which has 40 bits of each key, they look alike.
    Deep,
    /// At its tenth nibble, the last that a sketch has.
    Short,
}

impl Keys {
    const BOTH: [Self; 2] = [Self::Deep, Self::Short];

    /// The nibble before the last.
    const fn end(self) -> usize {
        match self {
            Self::Deep => 62,
            Self::Short => 8,
        }
    }
}

/// Walks from the root and, unless it is made to be confused, from a sketch: both find exactly what differs. What
/// two hashes of 32 bits hide that happen to be equal, a walk under another salt finds; how often that was so.
fn assert_exact(
    sides: &mut [Trie; 2],
    keys: Keys,
    limits: [&WalkLimits; 2],
    salt: u64,
    hint: Option<u32>,
) -> Exact {
    let mut expected = [Vec::new(), Vec::new()];
    differing(&sides[0], &sides[1], &mut expected[0]);
    differing(&sides[1], &sides[0], &mut expected[1]);
    let mut exact =
        Exact { differs: expected.iter().any(|found| !found.is_empty()), ..Exact::default() };
    for is_sketch in [false, true] {
        if is_sketch && matches!(keys, Keys::Deep) {
            continue;
        }
        let mut found = [Vec::new(), Vec::new()];
        for salt in (0..4).map(|again| salt.wrapping_add(again)) {
            let open = if is_sketch {
                WalkMessage::open_sketch(&mut sides[0], salt, hint, limits[0])
            } else {
                WalkMessage::open(&mut sides[0], salt)
            };
            let walked = walk(sides, limits, open);
            exact.has_sketch |= walked.has_sketch;
            for (all, found) in found.iter_mut().zip(walked.found) {
                all.extend(found);
                all.sort_unstable();
                all.dedup();
            }
            if found == expected {
                break;
            }
            exact.hidden += 1;
        }
        assert_eq!(found, expected);
    }
    exact
}

#[derive(Debug, Default)]
struct Exact {
    has_sketch: bool,
    differs: bool,
    hidden: u64,
}

const WIDE: WalkLimits = WalkLimits {
    work_max: 262_144,
    reply_bytes_max: 512 * 1024,
    nodes_max: 16_384,
    differs_max: 16_384,
    list_entries_max: 64,
    deep_nodes_max: 8,
    cells_max: 4_096,
    sketched_entries_min: 0,
};

/// Six keys that part at the first nibble, the second, and the last two.
fn six(keys: Keys) -> [Digest; 6] {
    let end = keys.end();
    [
        key(&[]),
        key(&[(end + 1, 1)]),
        key(&[(end, 15), (end + 1, 15)]),
        key(&[(1, 1)]),
        key(&[(0, 15)]),
        key(&[(0, 15), (1, 15)]),
    ]
}

/// Every pair of sets of six keys that part at the first nibble, the second, the last but one and the last: four
/// levels with a fan-out of two. Each key is absent, or there in one of two versions; by limits that list what
/// they can, and by ones that part whatever has two entries.
#[test]
fn m08_difference_is_exact_for_every_pair_of_tiny_trees() {
    let parting = WalkLimits { list_entries_max: 1, deep_nodes_max: 0, ..WIDE };
    let more = u32::from(std::env::var_os("PAIRS").is_some());
    for (keys, count) in [(Keys::Deep, 5 + more), (Keys::Short, 4 + more)] {
        let tries: Vec<Trie> = (0..3_u32.pow(count))
            .map(|number| {
                let versions = (0..).map(|at| number / 3_u32.pow(at) % 3);
                let held = six(keys).into_iter().zip(versions).filter(|(_, version)| *version > 0);
                held.map(|(key_hash, version)| Entry {
                    key_hash,
                    digest: digest(u8::try_from(version).unwrap()),
                })
                .collect()
            })
            .collect();
        for (at, mine) in tries.iter().enumerate() {
            for (other, theirs) in tries.iter().enumerate() {
                let limits = if (at + other) % 2 == 0 { &parting } else { &WIDE };
                let mut sides = [mine.clone(), theirs.clone()];
                let salt = (at * tries.len() + other) as u64;
                assert_eq!(assert_exact(&mut sides, keys, [limits, limits], salt, None).hidden, 0);
            }
        }
    }
}

/// The same keys with thirty beside them, which push leaves over their limit.
#[test]
fn m08_difference_is_exact_for_every_pair_of_tiny_trees_around_a_full_leaf() {
    for keys in Keys::BOTH {
        let end = keys.end();
        let filling = || (0_u8..30).map(|at| key(&[(end - 1, 1 + at % 15), (end - 2, at / 15)]));
        let tries: Vec<Trie> = (0..64)
            .map(|members| {
                let six = six(keys).into_iter().enumerate();
                let chosen = six.filter(|(at, _)| members & (1 << at) != 0).map(|(_, key)| key);
                let all = chosen.chain(filling());
                all.map(|key_hash| Entry { key_hash, digest: digest(1) }).collect()
            })
            .collect();
        for (at, mine) in tries.iter().enumerate() {
            for theirs in &tries {
                let mut sides = [mine.clone(), theirs.clone()];
                assert_eq!(
                    assert_exact(&mut sides, keys, [&WIDE, &WIDE], at as u64, None).hidden,
                    0
                );
            }
        }
    }
}

/// A key anywhere, or one that shares most of its nibbles with others.
fn some_key(rng: &mut Rng, keys: Keys) -> Digest {
    let end = keys.end();
    let at = u8::try_from(rng.below(48)).unwrap();
    match rng.below(4) {
        0 => key(&[(0, at >> 4), (1, at & 15)]),
        1 => key(&[(end, at >> 4), (end + 1, at & 15)]),
        2 => key(&[(0, at & 3), (1, at >> 2 & 3), (2, at >> 4 & 3), (end + 1, 1)]),
        // As a hash is.
        _ => {
            let mut bytes = [0; 32];
            let mut hash = Rng::new(u64::from(at) + 1);
            for part in bytes.chunks_mut(8) {
                part.copy_from_slice(&hash.next_u64().to_be_bytes());
            }
            Digest::from_bytes(bytes)
        }
    }
}

fn some_limits(rng: &mut Rng) -> WalkLimits {
    if rng.once_in(2) {
        return WIDE;
    }
    WalkLimits {
        work_max: rng.index(200),
        reply_bytes_max: rng.index(1_000),
        nodes_max: rng.index(40),
        differs_max: rng.index(40),
        list_entries_max: rng.index(70),
        deep_nodes_max: rng.index(3),
        cells_max: rng.one_of(0, &[4, 48, 600]),
        sketched_entries_min: rng.index(40),
    }
}

/// Two sets, the second made of the first by some changes.
fn some_pair(rng: &mut Rng, keys: Keys) -> [Trie; 2] {
    let mut mine = Trie::new();
    for _ in 0..rng.one_of(rng.clone().below(8), &[0, 1, 30, 34, 60]) {
        mine.insert(some_key(rng, keys), digest(1));
    }
    let mut theirs = mine.clone();
    for _ in 0..rng.one_of(0, &[1, 1, 2, 3, 7, 25]) {
        let key = some_key(rng, keys);
        match rng.below(3) {
            0 => mine.remove(&key),
            1 => theirs.remove(&key),
            _ => theirs.insert(key, digest(u8::try_from(rng.below(3)).unwrap())),
        };
    }
    [mine, theirs]
}

#[test]
fn m08_difference_is_exact_for_random_pairs() {
    let pairs = count("PAIRS", 4_000);
    let mut rng = Rng::new(0x8);
    let (mut sketched, mut differed, mut hidden) = (0, 0, 0);
    for pair in 0..pairs {
        let keys = rng.one_of(Keys::Deep, &[Keys::Short]);
        let mut sides = some_pair(&mut rng, keys);
        let limits = [some_limits(&mut rng), some_limits(&mut rng)];
        let hint = rng.once_in(2).then(|| u32::try_from(rng.below(60)).unwrap());
        let salt = rng.next_u64();
        let exact = assert_exact(&mut sides, keys, [&limits[0], &limits[1]], salt ^ pair, hint);
        sketched += u64::from(exact.has_sketch);
        differed += u64::from(exact.differs);
        hidden += exact.hidden;
    }
    println!("{pairs} pairs: {differed} differ, {sketched} sketched, {hidden} walks hid something");
    assert!(sketched > pairs / 8 && differed > pairs / 4);
    // Some thousand pairs of hashes are compared, each alike once in 2^32.
    assert!(hidden <= 2 + pairs / 200_000, "{hidden}");
}

/// Steps as they are said, each damaged on its way and once more: what is decoded is answered within the limits,
/// and what answers nonsense is sense. The other end may be another tree altogether.
#[test]
fn m06_damaged_steps_are_refused_or_answered_within_bounds() {
    let rounds = count("MUTATIONS", 20_000);
    let mut rng = Rng::new(0x6);
    let mut large: Trie = (0..5_000_u64)
        .map(|at| {
            let digest = Digest::of("key", &[&at.to_be_bytes()]);
            Entry { key_hash: digest, digest }
        })
        .collect();
    let limits =
        WalkLimits { nodes_max: 4_096, differs_max: 512, reply_bytes_max: 256 << 10, ..WIDE };
    let (mut done, mut refused, mut answered) = (0, 0, 0);
    while done < rounds {
        let mut sides = some_pair(&mut rng, Keys::Short);
        let mut message = if rng.once_in(2) {
            WalkMessage::open(&mut sides[0], rng.next_u64())
        } else {
            WalkMessage::open_sketch(&mut sides[0], rng.next_u64(), None, &WIDE)
        };
        for turn in 1..12 {
            for _ in 0..4 {
                done += 1;
                match damaged(&mut rng, &message) {
                    Some(step) => {
                        let [mine, theirs] = &mut sides;
                        let tree = match rng.below(3) {
                            0 => mine,
                            1 => theirs,
                            _ => &mut large,
                        };
                        answered += u64::from(is_answered_within_bounds(tree, &step, &limits));
                    }
                    None => refused += 1,
                }
            }
            match respond(&mut sides[turn % 2], &message, &limits).unwrap().reply {
                Some(reply) => message = reply,
                None => break,
            }
        }
    }
    println!("{done} damaged steps: {refused} refused by the decoder, {answered} answered");
    assert!(refused > done / 20 && answered > done / 20);
}

/// A step that something happened to, if it still can be read.
fn damaged(rng: &mut Rng, message: &WalkMessage) -> Option<WalkMessage> {
    let collection = CollectionName::parse("c").unwrap();
    let walk = Walk { subscription: 0, collection, message: message.clone() };
    let mut bytes = encode(&Message::Walk(walk));
    for _ in 0..=rng.below(3) {
        if rng.once_in(2) && !bytes.is_empty() {
            // Content more often than structure.
            let at = rng.index(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        } else {
            twin::damage(rng, &mut bytes);
        }
    }
    match decode(&bytes) {
        Ok(Message::Walk(walk)) => Some(walk.message),
        Ok(_) | Err(_) => None,
    }
}

fn is_answered_within_bounds(tree: &mut Trie, step: &WalkMessage, limits: &WalkLimits) -> bool {
    let root = tree.root();
    let Ok(response) = respond(tree, step, limits) else {
        return false;
    };
    assert_eq!(tree.root(), root, "a step changes nothing");
    assert!(response.differs.len() <= limits.differs_max.max(limits.cells_max) + 64);
    assert!(response.differs.iter().all(|key_hash| tree.get(key_hash).is_some()));
    if let Some(reply) = response.reply {
        let collection = CollectionName::parse("c").unwrap();
        let walk = Walk { subscription: 0, collection, message: reply.clone() };
        let bytes = encode(&Message::Walk(walk));
        assert!(bytes.len() < FRAME_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(respond(tree, &reply, limits).map(drop), Ok(()));
    }
    true
}
