//! Handshake, streams, liveness.

use crate::world::{Client, World, cell, epoch, grant, key, origin_of, seq};
use rejoin_core::{
    hlc::{Hlc, Stamp},
    id::{CollectionName, Cursor, Pattern, RecordKey, ReplicaId, Seq},
    protocol::{
        host::{Grant, HostInput, HostNote, HostOutput},
        limits::RECALL_ROWS_MAX,
        message::{ByeCode, Hello, Identity, Message, Mode, Origin, Place, Recall, Right, Taken},
    },
    record::{Counter, Kind, State, Tally},
    sorted::SortedMap,
};

fn modes(world: &mut World, client: &mut Client, root: bool) -> Mode {
    let welcome = client.connect_as(world, "ann", root);
    assert_eq!(welcome.identity, Identity::Confirmed);
    welcome.modes[0].1
}

#[test]
fn modes_follow_from_what_the_peer_holds() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    assert_eq!(modes(&mut world, &mut ann, true), Mode::Feed, "an empty space");
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    assert_eq!(modes(&mut world, &mut ann, true), Mode::InSync);
    assert_eq!(modes(&mut world, &mut ann, false), Mode::Feed);
    assert_eq!(modes(&mut world, &mut Client::new(2), true), Mode::Snapshot);
    let mut wrong = ann.clone();
    wrong.base.clear();
    assert_eq!(modes(&mut world, &mut wrong, true), Mode::Heal);
    let mut unknown = Client::new(4);
    unknown.cursor = Some(Cursor { epoch: epoch(77), seq: seq(1) });
    unknown.place = Place::at(seq(1));
    assert_eq!(modes(&mut world, &mut unknown, true), Mode::Heal);
    let mut beyond = Client::new(5);
    beyond.cursor = Some(Cursor { epoch: epoch(1), seq: seq(2) });
    beyond.place = Place::at(seq(2));
    assert_eq!(modes(&mut world, &mut beyond, true), Mode::Heal);
}

#[test]
fn hello_without_a_right_is_refused() {
    let mut world = World::new();
    let none = Grant { rights: Vec::new(), ..grant("eve") };
    let part = Grant {
        rights: vec![Right { pattern: Pattern::parse("tasks/*").unwrap(), write: true }],
        ..grant("eve")
    };
    for grant in [none, part] {
        let hello = Client::new(1).hello(false);
        let peer = world.open(hello, grant);
        assert_eq!(world.closed[&peer].code, ByeCode::NoSpace);
    }
}

#[test]
fn p09_no_common_version_is_told_and_a_common_one_is_found_among_others() {
    let mut world = World::new();
    for (versions, is_spoken) in [(vec![], false), (vec![2], false), (vec![9, 1], true)] {
        let hello = Hello { versions, ..Client::new(1).hello(false) };
        let peer = world.open(hello, grant("ann"));
        let code = world.closed.get(&peer).map(|bye| bye.code);
        assert_eq!(code, (!is_spoken).then_some(ByeCode::Version));
    }
}

#[test]
fn two_live_subscribers_share_bytes_and_the_writer_gets_its_own_form() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (1..=4).map(Client::new).collect();
    for client in &mut clients {
        client.connect(&mut world);
    }
    world.sent.clear();
    for at in 1..=3 {
        let row = clients[0].set(at, "a", &format!("f{at}"), "x");
        clients[0].push(&mut world, &[row]);
    }
    for client in &mut clients {
        client.listen(&mut world);
        assert_eq!(client.verified, 4);
        assert!(client.cuts.iter().all(|cut| *cut));
    }
    assert_eq!(clients[0].bodies, [3, 0, 0]);
    assert_eq!(clients[1].bodies, [0, 2, 1], "whole when new, then what changed");
    let to = |client: usize| {
        let bytes = world.sent.iter().filter(|(peer, _)| *peer == clients[client].peer);
        bytes.map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
    };
    for (second, third) in to(1).iter().zip(&to(2)) {
        assert!(std::sync::Arc::ptr_eq(second, third), "encoded once");
    }
}

#[test]
fn pages_end_in_a_cut_and_carry_all_that_changed_since_the_last() {
    for little_memory in [true, false] {
        let mut world = if little_memory { World::with_little_memory() } else { World::new() };
        let (mut ann, mut bob) = (Client::new(1), Client::new(2));
        ann.connect(&mut world);
        bob.connect(&mut world);
        world.put(HostInput::Gone { peer: bob.peer });
        let big = "x".repeat(100_000);
        for at in 1..=12 {
            let row = ann.set(at, &format!("r{}", at % 7), &format!("f{at}"), &big);
            ann.push(&mut world, &[row]);
        }
        ann.listen(&mut world);
        bob.bodies = [0; 3];
        bob.cuts.clear();
        bob.connect(&mut world);
        bob.listen(&mut world);
        assert_eq!(ann.base, bob.base);
        assert!(bob.cuts.len() > 3, "{:?}", bob.cuts);
        assert_eq!(bob.cuts.iter().filter(|cut| **cut).count(), 1);
        assert_eq!(bob.cursor.unwrap().seq, seq(12));
    }
}

/// A stream had taken a record at one page; it then changed in another field and came again with a
/// later page. What had changed in it between the two pages' places must not be lost.
#[test]
fn record_that_moves_while_a_stream_pages_comes_with_everything() {
    let mut world = World::with_little_memory();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    world.put(HostInput::Gone { peer: bob.peer });
    let big = "x".repeat(100_000);
    for at in 1..=5 {
        let row = ann.set(at, &format!("r{at}"), "f", &big);
        ann.push(&mut world, &[row]);
    }
    world.hold = true;
    let hello = bob.hello(true);
    bob.peer = world.open(hello, grant("ann"));
    // The opening: a read and a commit; then the scan of the feed.
    for _ in 0..3 {
        let effect = world.held.pop_front().unwrap();
        world.carry_out(effect);
        world.run();
    }
    let fetch = world.held.pop_front().unwrap();
    for id in ["r1", "r5"] {
        let at = 10 + u64::from(id == "r5");
        let row = ann.set(at, id, "g", "y");
        ann.push(&mut world, &[row]);
        for _ in 0..2 {
            let effect = world.held.pop_front().unwrap();
            world.carry_out(effect);
            world.run();
        }
    }
    world.carry_out(fetch);
    world.release();
    let welcome = bob.listen(&mut world);
    assert!(matches!(welcome[0], Message::Welcome(_)));
    ann.listen(&mut world);
    assert_eq!(bob.base, ann.base);
    assert_eq!(bob.base.len(), 5);
    assert_eq!(bob.verified, 2);
}

/// One batch wrote two records; one of them moves on between the scan and the reads. A cut there would
/// show half of the batch.
#[test]
fn page_that_skips_a_record_that_moved_is_no_cut() {
    let mut world = World::with_little_memory();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    world.put(HostInput::Gone { peer: bob.peer });
    bob.cuts.clear();
    let both = vec![(key("a"), ann.lww(1, "f", "x")), (key("b"), ann.lww(1, "f", "x"))];
    let batch = ann.row(1, both);
    ann.push(&mut world, &[batch]);
    world.hold = true;
    let hello = bob.hello(true);
    bob.peer = world.open(hello, grant("ann"));
    for _ in 0..3 {
        let effect = world.held.pop_front().unwrap();
        world.carry_out(effect);
        world.run();
    }
    let fetch = world.held.pop_front().unwrap();
    let row = ann.set(2, "a", "g", "y");
    ann.push(&mut world, &[row]);
    for _ in 0..2 {
        let effect = world.held.pop_front().unwrap();
        world.carry_out(effect);
        world.run();
    }
    world.carry_out(fetch);
    world.release();
    bob.listen(&mut world);
    ann.listen(&mut world);
    assert_eq!(bob.cuts, [false, true]);
    assert_eq!(bob.base, ann.base);
}

#[test]
fn slow_consumer_gets_nothing_until_it_has_room_and_resumes_where_it_stood() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    world.sockets_take = false;
    let big = "x".repeat(200_000);
    for at in 1..=10 {
        let row = ann.set(at, &format!("r{at}"), "f", &big);
        ann.push(&mut world, &[row]);
    }
    let stuck: usize =
        world.sent.iter().filter(|(peer, _)| *peer == bob.peer).map(|(_, bytes)| bytes.len()).sum();
    assert!(stuck < 900_000, "{stuck} bytes for a peer that does not read");
    bob.listen(&mut world);
    assert!(bob.base.len() < 5);
    let standing = |world: &World, peer| world.host.standings().find(|found| found.peer == peer);
    let behind = standing(&world, bob.peer).unwrap();
    assert!((3 * 200_000..=stuck).contains(&behind.unsent), "{behind:?}, {stuck} in all");
    assert!(behind.read < Some(world.host.head()), "{behind:?}");
    world.sockets_take = true;
    world.put(HostInput::Sent { peer: bob.peer, bytes: stuck });
    bob.listen(&mut world);
    ann.listen(&mut world);
    assert_eq!(bob.base, ann.base);
    assert_eq!(bob.base.len(), 10);
    assert_eq!(standing(&world, bob.peer).unwrap().read, Some(world.host.head()));
}

#[test]
fn peer_that_takes_nothing_or_says_nothing_is_cut() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    world.sockets_take = false;
    assert!(world.host.deadline().is_some());
    world.pass(10_000);
    assert!(matches!(ann.listen(&mut world)[..], [Message::Ping { .. }]));
    world.say(ann.peer, &Message::Pong { nonce: 0, state: None });
    world.pass(15_000);
    assert_eq!(world.closed[&bob.peer].code, ByeCode::Done);
    world.say(ann.peer, &Message::Pong { nonce: 0, state: None });
    world.pass(10_000);
    assert_eq!(world.closed[&ann.peer].code, ByeCode::SlowConsumer);
}

#[test]
fn malformed_and_misplaced_messages_end_only_their_own_session() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    world.put(HostInput::Message { peer: ann.peer, bytes: vec![0xff, 1, 2] });
    assert_eq!(world.closed[&ann.peer].code, ByeCode::Malformed);
    let mut eve = Client::new(3);
    eve.connect(&mut world);
    let hello = eve.hello(false);
    world.say(eve.peer, &Message::Hello(hello));
    assert_eq!(world.closed[&eve.peer].code, ByeCode::Misbehaved);
    world.say(bob.peer, &Message::Ping { nonce: 5 });
    let heard = bob.listen(&mut world);
    assert!(
        matches!(&heard[..], [Message::Pong { nonce: 5, state: Some(state) }] if state.roots.len() == 1)
    );
}

#[test]
fn later_session_of_a_replica_takes_over_and_a_clone_is_a_fork() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let mut copy = ann.clone();
    let first = ann.peer;
    ann.connect(&mut world);
    assert_eq!(world.closed[&first].code, ByeCode::Superseded);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, std::slice::from_ref(&row));
    // The copy goes on with a history of its own.
    copy.incarnation = 100;
    let welcome = copy.connect(&mut world);
    assert_eq!(welcome.identity, Identity::Forked);
    assert!(welcome.modes.is_empty());
    assert!(!world.closed.contains_key(&ann.peer));
    let known = origin_of(&ann, &row);
    let rows = vec![known, Origin { stamp: copy.stamp(2), digest: [0; 16] }];
    world.say(copy.peer, &Message::Recall(Recall { rows }));
    let heard = copy.listen(&mut world);
    assert!(
        matches!(&heard[..], [Message::Recalled(recalled)]
            if recalled.accepted == [Taken { origin: known, stamp: known.stamp, seq: Seq(1) }]
                && recalled.unsure.is_empty()),
        "{heard:?}"
    );
    copy.push(&mut world, &[row]);
    assert_eq!(world.closed[&copy.peer].code, ByeCode::Misbehaved);
}

#[test]
fn replica_of_another_principal_is_foreign_and_learns_nothing() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, std::slice::from_ref(&row));
    let mut eve = Client::new(1);
    let welcome = eve.connect_as(&mut world, "eve", false);
    assert_eq!(welcome.identity, Identity::Foreign);
    assert_eq!(welcome.accepted, None);
    let rows = vec![origin_of(&ann, &row)];
    world.say(eve.peer, &Message::Recall(Recall { rows }));
    let heard = eve.listen(&mut world);
    assert!(matches!(&heard[..], [Message::Recalled(recalled)] if recalled.accepted.is_empty()));
    assert!(!world.closed.contains_key(&ann.peer));
}

fn recall_of(rows: usize) -> Message {
    let replica = ReplicaId::from_bytes([1; 16]);
    let origin = |number| {
        let stamp = Stamp { hlc: Hlc::from_bits(number as u64 + 1), replica };
        Origin { stamp, digest: [0; 16] }
    };
    Message::Recall(Recall { rows: (0..rows).map(origin).collect() })
}

#[test]
fn recall_of_too_many_rows_or_out_of_turn_ends_its_own_session() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    for client in [&mut ann, &mut bob] {
        client.connect(&mut world);
        for _ in 0..3 {
            world.say(client.peer, &recall_of(RECALL_ROWS_MAX));
            assert!(matches!(&client.listen(&mut world)[..], [Message::Recalled(_)]));
        }
    }
    world.say(ann.peer, &recall_of(RECALL_ROWS_MAX + 1));
    assert_eq!(world.closed[&ann.peer].code, ByeCode::TooLarge);
    world.hold = true;
    world.say(bob.peer, &recall_of(1));
    world.say(bob.peer, &recall_of(1));
    assert_eq!(world.closed[&bob.peer].code, ByeCode::Misbehaved);
    world.release();
}

#[test]
fn recalls_of_many_peers_are_read_some_at_a_time() {
    let mut world = World::new();
    let mut peers: Vec<_> = (1..=20).map(Client::new).collect();
    for client in &mut peers {
        client.connect(&mut world);
    }
    world.hold = true;
    for client in &peers {
        world.say(client.peer, &recall_of(RECALL_ROWS_MAX));
    }
    let mut most = 0;
    while let Some(effect) = world.held.pop_front() {
        if let HostOutput::Query { queries, .. } = &effect {
            most = most.max(queries.len());
        }
        world.carry_out(effect);
        world.run();
    }
    assert!((RECALL_ROWS_MAX..=5 * RECALL_ROWS_MAX).contains(&most), "{most}");
    for client in &mut peers {
        assert!(matches!(&client.listen(&mut world)[..], [Message::Recalled(_)]));
    }
}

#[test]
fn subscriptions_at_one_place_share_a_stream_and_uncovered_records_stay_away() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.patterns = vec![Pattern::parse("tasks").unwrap(), Pattern::parse("notes/*").unwrap()];
    ann.connect(&mut world);
    bob.connect(&mut world);
    let at =
        |name: &str| RecordKey { collection: CollectionName::parse(name).unwrap(), ..key("a") };
    for (millis, name) in [(1, "tasks"), (2, "secret"), (3, "notes/1"), (4, "secret")] {
        let delta = ann.lww(millis, "title", "x");
        let row = ann.row(millis, vec![(at(name), delta)]);
        ann.push(&mut world, &[row]);
    }
    bob.listen(&mut world);
    assert_eq!(bob.base.len(), 2);
    assert_eq!(bob.place, Place::at(seq(3)), "told of what concerns it only");
    world.say(bob.peer, &Message::Ping { nonce: 1 });
    let heard = bob.listen(&mut world);
    assert_eq!(bob.place, Place::at(seq(4)), "a ping brings it to the head");
    assert!(
        matches!(&heard[..], [Message::Pong { state: Some(state), .. }] if state.roots.len() == 2)
    );
}

#[test]
fn stop_finishes_the_commit_and_sends_everyone_away() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let tally = Tally { added: 1, subtracted: 0 };
    let state = State::Counter(Counter(SortedMap::from([(ann.replica, tally)])));
    let add = cell("votes", Kind::Counter, None, state);
    let row = ann.row(1, vec![(key("a"), add)]);
    world.hold = true;
    ann.push(&mut world, &[row]);
    let read = world.held.pop_front().unwrap();
    world.carry_out(read);
    world.put(HostInput::Stop);
    assert!(!world.closed.contains_key(&ann.peer));
    world.release();
    let heard = ann.listen(&mut world);
    assert!(matches!(heard.first(), Some(Message::Ack(_))));
    assert!(matches!(heard.last(), Some(Message::Bye(_))));
    assert_eq!(world.closed[&ann.peer].code, ByeCode::ShuttingDown);
    assert!(world.host.is_idle());
}

#[test]
fn log_says_when_a_peer_is_in_sync() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let expected =
        HostNote::Synced { peer: ann.peer, head: seq(1), root: ann.root(), pushed: 1, pulled: 1 };
    assert_eq!(world.notes.last(), Some(&expected));
}
