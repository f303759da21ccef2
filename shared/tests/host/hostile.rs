//! Peers that mean ill: forged hashes, questions without end, clocks of the far future, other people's spaces.

use crate::world::{Client, WALL, World, grant, key, seq};
use rejoin_core::{
    hlc::Hlc,
    id::{CollectionName, Cursor, Digest, Pattern, ReplicaId, SpaceId},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{
            Ack, AskRoots, ByeCode, FEATURE_SKETCH, Message, Mode, Outcome, Place, PushRow, Resume,
            Walk,
        },
    },
    record::{State, Value},
    testing::rng::Rng,
    time::WallMillis,
    tree::{
        Cell, ChildHash, Levels, NODES_MAX, NodeState, Prefix, SketchCells, WalkBody, WalkMessage,
        WalkNode,
    },
};

fn filled(records: u64) -> (World, Client) {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let rows: Vec<_> =
        (0..records).map(|at| ann.set(at, &format!("r{at}"), "title", "kept")).collect();
    for rows in rows.chunks(200) {
        ann.push(&mut world, rows);
        ann.listen(&mut world);
    }
    (world, ann)
}

fn outcomes(world: &mut World, client: &mut Client, rows: &[PushRow]) -> Vec<Outcome> {
    client.push(world, rows);
    let heard = client.listen(world).into_iter();
    let acks = heard.filter_map(|message| match message {
        Message::Ack(Ack { outcomes }) => Some(outcomes),
        _ => None,
    });
    acks.flatten().map(|(_, outcome)| outcome).collect()
}

fn step(world: &mut World, client: &Client, collection: &str, body: WalkBody) {
    let collection = CollectionName::parse(collection).unwrap();
    let message = WalkMessage { salt: 5, body };
    world.say(client.peer, &Message::Walk(Walk { subscription: 0, collection, message }));
}

/// Whatever roots and hashes a peer states: the host has its own, sends what it is asked for, and takes what is
/// pushed. Only the peer's own view suffers.
#[test]
fn m05_forged_hashes_change_nothing_but_the_view_of_who_forges_them() {
    let (mut world, mut ann) = filled(300);
    let before = world.host.facts();
    let mut eve = Client::new(5);
    eve.cursor = Some(Cursor { epoch: crate::world::epoch(1), seq: seq(300) });
    eve.place = Place::at(seq(300));
    let forged = Digest::from_bytes([7; 32]);
    // The true root, so that it counts as agreed with nothing in its base; then a wrong one.
    let mut hello = eve.hello(false);
    hello.subscriptions[0].root = Some(ann.root());
    let peer = world.open(hello.clone(), grant("eve"));
    let welcomed = world.hear(peer);
    let mode = |heard: &[Message]| match &heard[0] {
        Message::Welcome(welcome) => welcome.modes[0].1,
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(&welcomed), Mode::InSync);
    hello.subscriptions[0].root = Some(forged);
    hello.incarnation = eve.incarnation_of(9);
    hello.known = vec![eve.incarnation_of(1)];
    eve.peer = world.open(hello, grant("eve"));
    assert_eq!(mode(&world.hear(eve.peer)), Mode::Heal);
    let mut all: Vec<ChildHash> = (0..=255).map(|at| ChildHash { at, hash: 7 }).collect();
    all.truncate(256);
    let inner = NodeState::Inner { levels: Levels::Two, children: all };
    for body in [
        WalkBody::Root(forged),
        WalkBody::Root(ann.root()),
        WalkBody::Nodes(vec![WalkNode { prefix: Prefix::ROOT, state: inner }]),
        WalkBody::Nodes(vec![WalkNode {
            prefix: Prefix::ROOT,
            state: NodeState::List(vec![1, 2]),
        }]),
        WalkBody::Equal,
        WalkBody::End,
    ] {
        step(&mut world, &eve, "tasks", body);
    }
    assert!(!world.closed.contains_key(&eve.peer));
    drop(world.hear(eve.peer));
    assert_eq!(world.host.facts().collections, before.collections);
    let row = eve.set(1_000, "by eve", "title", "taken");
    assert!(matches!(outcomes(&mut world, &mut eve, &[row])[..], [Outcome::Accepted { .. }]));
    ann.listen(&mut world);
    let mut newcomer = Client::new(6);
    newcomer.connect_as(&mut world, "newcomer", false);
    let resume = Resume { subscription: 0, place: Place::default(), time: Hlc::ZERO };
    world.say(newcomer.peer, &Message::Resume(resume));
    newcomer.listen(&mut world);
    assert_eq!(newcomer.base, ann.base, "everybody else has all of it");
    assert_eq!(newcomer.base.len(), 301);
}

/// Many peers ask for every node and for random roots, as fast as they can and without listening: each answer
/// fits a frame, each read is bounded, and who takes no answers is sent away; the others are served meanwhile.
#[test]
fn m06_walks_that_ask_for_everything_cost_a_bounded_amount() {
    let (mut world, mut ann) = filled(3_000);
    let four = |at: u16| Prefix::from_packed(4, &at.to_be_bytes()).unwrap();
    let many = u16::try_from(NODES_MAX - 1).unwrap();
    let ask = |state: &NodeState| {
        let node = |at| WalkNode { prefix: four(at), state: state.clone() };
        WalkBody::Nodes((0..many).map(node).collect())
    };
    let mut rng = Rng::new(3);
    let cells = (0..4_000).map(|_| Cell::from_bytes(rng.bytes())).collect();
    let bodies = [
        ask(&NodeState::Open),
        ask(&NodeState::Inner { levels: Levels::One, children: Vec::new() }),
        WalkBody::Root(Digest::from_bytes([3; 32])),
        WalkBody::Cells(SketchCells { cells, probes: Vec::new() }),
        WalkBody::Wanted((0..30_000).collect()),
        WalkBody::Nodes(vec![WalkNode {
            prefix: Prefix::ROOT,
            state: NodeState::List(Vec::new()),
        }]),
    ];
    world.sent.clear();
    world.queries_most = 0;
    for number in 0..36_u8 {
        let mut eve = Client::new(100 + number);
        eve.features = FEATURE_SKETCH;
        eve.connect_as(&mut world, "eve", false);
        step(&mut world, &eve, "tasks", bodies[usize::from(number) % bodies.len()].clone());
    }
    assert!(world.sent.iter().all(|(_, bytes)| bytes.len() <= FRAME_BYTES_MAX));
    assert!(world.queries_most <= 512, "{} rows in one read", world.queries_most);
    let mut deaf = Client::new(50);
    deaf.connect_as(&mut world, "deaf", false);
    world.sockets_take = false;
    let mut asked = 0;
    while !world.closed.contains_key(&deaf.peer) {
        step(&mut world, &deaf, "tasks", bodies[0].clone());
        asked += 1;
        assert!(asked < 40, "one question waits for its answer, and no more");
    }
    let bye = &world.closed[&deaf.peer];
    let reason = "a walk of this subscription waits already";
    assert_eq!((bye.code, bye.reason.as_str()), (ByeCode::Misbehaved, reason));
    let mut other = Client::new(51);
    other.connect_as(&mut world, "other", false);
    let mut answered = usize::MAX;
    while answered != world.sent.len() {
        answered = world.sent.len();
        step(&mut world, &other, "tasks", bodies[0].clone());
    }
    let mut asked = 1;
    while !world.closed.contains_key(&other.peer) {
        world.say(other.peer, &Message::AskRoots(AskRoots { subscription: 0, after: None }));
        asked += 1;
    }
    assert_eq!(asked, 257, "so many wait, and no more");
    let bye = &world.closed[&other.peer];
    assert_eq!((bye.code, bye.reason.as_str()), (ByeCode::Busy, "too many questions wait"));
    world.sockets_take = true;
    let unread = world.sent.iter().filter(|(peer, _)| *peer == deaf.peer);
    let unread: usize = unread.map(|(_, bytes)| bytes.len()).sum();
    assert!(unread < 8 << 20, "{unread} bytes wait for who takes none");
    let row = ann.set(9_000, "served", "title", "meanwhile");
    assert!(matches!(outcomes(&mut world, &mut ann, &[row])[..], [Outcome::Accepted { .. }]));
}

/// Each space has a tree of its own, each subscription sees the collections it covers: whoever asks beyond hears the
/// same whether something is there or not.
#[test]
fn m09_trees_tell_nothing_of_other_spaces_and_collections() {
    let (mut full, _) = filled(50);
    let mut empty = World::new();
    let mut heard = [&mut full, &mut empty].map(|world| {
        let mut heard = Vec::new();
        let mut hello = Client::new(5).hello(false);
        hello.space = SpaceId::parse("other").unwrap();
        let peer = world.open(hello, grant("eve"));
        heard.push((world.closed[&peer].clone(), world.hear(peer)));
        for body in [
            WalkBody::Root(Digest::from_bytes([0; 32])),
            WalkBody::Nodes(vec![WalkNode { prefix: Prefix::ROOT, state: NodeState::Open }]),
            WalkBody::Wanted(vec![1]),
        ] {
            let mut eve = Client::new(6);
            eve.patterns = vec![Pattern::parse("notes").unwrap()];
            eve.incarnation = u8::try_from(heard.len()).unwrap();
            eve.replica = ReplicaId::from_bytes([40 + eve.incarnation; 16]);
            eve.connect_as(world, "eve", false);
            world.say(eve.peer, &Message::AskRoots(AskRoots { subscription: 0, after: None }));
            let roots = world.hear(eve.peer).into_iter().map(|message| match message {
                // Head and time are the space's, of which it is a member.
                Message::Roots(roots) => {
                    let hlc = Hlc::ZERO;
                    Message::Roots(rejoin_core::protocol::message::Roots {
                        seq: seq(0),
                        hlc,
                        ..roots
                    })
                }
                other => other,
            });
            let roots: Vec<_> =
                roots.filter(|message| matches!(message, Message::Roots(_))).collect();
            assert_eq!(roots.len(), 1);
            step(world, &eve, "tasks", body);
            let bye = world.closed[&eve.peer].clone();
            assert_eq!(bye.code, ByeCode::Misbehaved);
            heard.push((bye, roots));
        }
        heard
    });
    let [full, empty] = &mut heard;
    assert_eq!(full, empty);
}

/// A clock of any future wins nothing: what is beyond the bound waits, moves nobody's clock, and the next write of
/// anybody else is the one that is seen.
#[test]
fn c05_stamps_of_the_far_future_win_nothing() {
    let year = 31_536_000_000;
    let greatest = (1_u64 << 48) - 1 - WALL;
    let leads = [1_000, 59_000, 60_001, 61_000, 3_600_000, year, 100 * year, greatest];
    for lead in leads {
        let mut world = World::new();
        let (mut eve, mut bob) = (Client::new(5), Client::new(2));
        eve.connect_as(&mut world, "eve", true);
        bob.connect_as(&mut world, "bob", true);
        let row = eve.set(lead, "a", "title", "of the future");
        let got = outcomes(&mut world, &mut eve, &[row]);
        if lead > 60_000 {
            assert!(matches!(got[..], [Outcome::Ahead { by, .. }] if by.0 == lead), "{got:?}");
        } else {
            assert!(matches!(got[..], [Outcome::Accepted { .. }]), "{got:?}");
        }
        bob.listen(&mut world);
        let clock = world.host.facts().clock;
        assert!(clock.wall() <= WallMillis(WALL + 60_000), "nobody's clock is dragged along");
        // Behind what it has seen, as its clock would issue it.
        let seen = bob.base.get(&key("a")).and_then(|record| record.seen.get(&eve.replica));
        let next = seen.map_or(1, |seen: Hlc| seen.wall().0 - WALL + 1);
        let row = bob.set(next, "a", "title", "by bob");
        assert!(matches!(outcomes(&mut world, &mut bob, &[row])[..], [Outcome::Accepted { .. }]));
        eve.listen(&mut world);
        let cell = eve.base[&key("a")].cells.values().next().unwrap();
        let State::Lww { value, .. } = &cell.state else { panic!() };
        assert_eq!(*value, Some(Value::text("by bob")), "lead {lead}");
    }
}
