//! Rows: what becomes of them, and that nothing is lost or doubled.

use crate::world::{Client, World, cell, grant, key, seq, vector};
use rejoin_core::{
    hlc::Hlc,
    id::Pattern,
    io::{FaultClass, Keyspace},
    protocol::{
        host::{Grant, HostNote},
        limits::FRAME_BYTES_MAX,
        message::{Ack, ByeCode, Message, Outcome, RejectCode, Right},
    },
    record::{AddWinsSet, Counter, Kind, Record, State, Tally, Value},
    sorted::SortedMap,
    time::WallMillis,
};

fn outcomes(messages: Vec<Message>) -> Vec<Outcome> {
    let acks = messages.into_iter().filter_map(|message| match message {
        Message::Ack(Ack { outcomes }) => Some(outcomes),
        _ => None,
    });
    acks.flatten().map(|(_, outcome)| outcome).collect()
}

fn accepted(number: u64) -> Outcome {
    Outcome::Accepted { seq: seq(number) }
}

fn rejected(outcome: &Outcome, expected: RejectCode) {
    assert!(matches!(outcome, Outcome::Rejected { code, .. } if *code == expected), "{outcome:?}");
}

fn counter(client: &Client, added: u64) -> Record {
    let tally = Tally { added, subtracted: 0 };
    let state = State::Counter(Counter(SortedMap::from([(client.replica, tally)])));
    cell("votes", Kind::Counter, None, state)
}

#[test]
fn row_is_acknowledged_after_its_commit_and_comes_back_as_own() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "milk");
    world.hold = true;
    ann.push(&mut world, &[row]);
    let read = world.held.pop_front().unwrap();
    world.carry_out(read);
    world.run();
    assert!(ann.listen(&mut world).is_empty(), "nothing before the commit");
    world.release();
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1)]);
    assert_eq!(ann.bodies, [1, 0, 0]);
    assert_eq!(ann.base.len(), 1);
    assert_eq!(ann.verified, 2, "an empty space, then with the record");
}

#[test]
fn p01_c04_row_that_is_sent_again_is_acknowledged_again_and_counted_once() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let add = counter(&ann, 5);
    let row = ann.row(1, vec![(key("a"), add)]);
    ann.push(&mut world, &[row.clone(), row.clone()]);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1), accepted(1)]);
    ann.push(&mut world, std::slice::from_ref(&row));
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1)]);
    let mut other = row;
    other.digest = [0; 16];
    ann.push(&mut world, &[other]);
    rejected(&outcomes(ann.listen(&mut world))[0], RejectCode::Forged);
    assert_eq!(world.host.facts().head, seq(1));
}

#[test]
fn rows_of_one_commit_have_consecutive_places_and_one_entry_per_record() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let mut rows = vec![ann.set(1, "a", "title", "x"), ann.set(2, "b", "title", "y")];
    rows.push(ann.set(3, "a", "title", "z"));
    ann.push(&mut world, &rows);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1), accepted(2), accepted(3)]);
    assert_eq!(world.feed_rows(), 2);
    assert_eq!(ann.cursor.unwrap().seq, seq(3));
}

#[test]
fn refused_row_holds_its_records_until_it_is_named() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let mut forged = ann.set(1, "a", "title", "x");
    forged.writes[0].delta.seen.set(Client::new(9).replica, Hlc::ZERO);
    let two = vec![(key("a"), ann.lww(2, "title", "x")), (key("b"), ann.lww(2, "title", "x"))];
    let behind = ann.row(2, two);
    let further = ann.set(3, "b", "title", "y");
    let apart = ann.set(4, "c", "title", "y");
    ann.push(&mut world, &[forged, behind.clone(), further.clone(), apart]);
    let got = outcomes(ann.listen(&mut world));
    rejected(&got[0], RejectCode::Forged);
    assert_eq!(got[1], Outcome::Returned { number: 2 });
    assert_eq!(got[2], Outcome::Returned { number: 3 });
    assert_eq!(got[3], accepted(1));
    ann.named = 2;
    ann.push(&mut world, std::slice::from_ref(&further));
    assert_eq!(outcomes(ann.listen(&mut world)), [Outcome::Returned { number: 4 }]);
    ann.named = 4;
    ann.push(&mut world, &[behind, further]);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(2), accepted(3)]);
}

#[test]
fn stamp_that_is_ahead_is_delayed_and_not_rejected() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(60_500, "a", "title", "x");
    ann.push(&mut world, std::slice::from_ref(&row));
    let got = outcomes(ann.listen(&mut world));
    assert!(matches!(got[0], Outcome::Ahead { number: 1, by } if by.0 == 60_500));
    world.now.wall = WallMillis(world.now.wall.0 + 1_000);
    ann.named = 1;
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1)]);
}

#[test]
fn cell_that_was_reset_meanwhile_is_stale() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let mut put = counter(&ann, 10);
    for cell in put.cells.values_mut() {
        cell.since = Some(ann.stamp(1));
    }
    let put = ann.row(1, vec![(key("a"), put)]);
    ann.push(&mut world, &[put]);
    let add = counter(&bob, 1);
    let add = bob.row(2, vec![(key("a"), add)]);
    bob.push(&mut world, &[add]);
    let got = outcomes(bob.listen(&mut world));
    assert_eq!(got, [Outcome::Stale { number: 1, seq: seq(1) }]);
}

#[test]
fn foreign_parts_are_cut_to_what_is_stored() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    // Removes what nobody wrote, counts for another, adds in another's name.
    let mut forged = counter(&bob, 1);
    forged.removed.seen = vector(&[ann.stamp(9_000)]);
    forged.removed.buried = Some(Hlc::from_bits(7));
    if let Some(State::Counter(votes)) =
        forged.cells.values_mut().next().map(|cell| &mut cell.state)
    {
        let tally = Tally { added: 99, subtracted: 0 };
        votes.0.insert(ann.replica, tally);
    }
    let mut set =
        AddWinsSet { context: vector(&[ann.stamp(5), bob.stamp(2)]), elements: SortedMap::new() };
    set.elements.insert(Value::int(1), vector(&[ann.stamp(5)]));
    set.elements.insert(Value::int(2), vector(&[bob.stamp(2)]));
    forged.cells.extend(cell("tags", Kind::Set, None, State::Set(set)).cells);
    let row = bob.row(2, vec![(key("a"), forged)]);
    bob.push(&mut world, &[row]);
    assert_eq!(outcomes(bob.listen(&mut world)), [accepted(2)]);
    ann.listen(&mut world);
    assert_eq!(ann.base, bob.base);
    let record = &ann.base[&key("a")];
    assert!(record.is_live(), "bob's write keeps it alive");
    assert_eq!(record.removed.seen, vector(&[ann.stamp(1)]));
    assert!(record.removed.buried.unwrap() > Hlc::from_bits(7));
    let states: Vec<&State> = record.cells.values().map(|cell| &cell.state).collect();
    assert!(matches!(states[0], State::Set(set) if set.elements.len() == 1
        && set.context == vector(&[bob.stamp(2)])));
    assert!(matches!(states[2], State::Counter(votes) if votes.total() == 1));
    assert_eq!(bob.bodies[0], 0, "bob cannot compute this by himself");
}

#[test]
fn own_name_is_the_only_one_a_row_can_use() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    let mut foreign = ann.set(1, "a", "title", "x");
    foreign.writes[0].delta.cells = bob.lww(1, "title", "x").cells;
    let mut reset = counter(&ann, 1);
    for cell in reset.cells.values_mut() {
        cell.since = Some(bob.stamp(1));
    }
    let reset = ann.row(2, vec![(key("b"), reset)]);
    let later = cell("x", Kind::Later(9), None, State::Later { code: 9, bytes: vec![1] });
    let later = ann.row(3, vec![(key("c"), later)]);
    let ahead = AddWinsSet { context: vector(&[ann.stamp(50)]), elements: SortedMap::new() };
    let ahead = cell("tags", Kind::Set, None, State::Set(ahead));
    let ahead = ann.row(4, vec![(key("d"), ahead)]);
    let good = ann.set(6, "e", "title", "x");
    let back = ann.set(5, "e", "title", "x");
    ann.push(&mut world, &[foreign, reset, later, ahead, good, back]);
    let got = outcomes(ann.listen(&mut world));
    rejected(&got[0], RejectCode::Forged);
    rejected(&got[1], RejectCode::Forged);
    rejected(&got[2], RejectCode::UpgradeServer);
    rejected(&got[3], RejectCode::Forged);
    assert_eq!(got[4], accepted(1));
    rejected(&got[5], RejectCode::Forged);
    bob.connect(&mut world);
}

#[test]
fn collections_without_a_right_are_not_written() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.patterns = vec![Pattern::parse("tasks/*").unwrap()];
    let rights = |write| Grant {
        rights: vec![Right { pattern: Pattern::parse("tasks/*").unwrap(), write }],
        ..grant("ann")
    };
    let hello = ann.hello(false);
    ann.peer = world.open(hello, rights(false));
    ann.listen(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, std::slice::from_ref(&row));
    rejected(&outcomes(ann.listen(&mut world))[0], RejectCode::Forbidden);
    world.put(rejoin_core::protocol::host::HostInput::Regranted {
        peer: ann.peer,
        grant: rights(true),
    });
    ann.named = 1;
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1)]);
}

#[test]
fn record_that_would_be_too_large_is_refused_and_nothing_changes() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let big = "x".repeat(250_000);
    for (at, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let row = ann.set(at, "r", name, &big);
        ann.push(&mut world, &[row]);
    }
    assert_eq!(outcomes(ann.listen(&mut world)).len(), 3);
    let row = bob.set(4, "r", "d", &big);
    bob.push(&mut world, &[row]);
    let huge = "x".repeat(270_000);
    let row = bob.set(5, "s", "d", &huge);
    bob.push(&mut world, &[row]);
    let got = outcomes(bob.listen(&mut world));
    rejected(&got[0], RejectCode::TooLarge);
    rejected(&got[1], RejectCode::TooLarge);
    assert_eq!(world.host.facts().head, seq(3));
    assert_eq!(ann.base, bob.base);
}

#[test]
fn writes_that_did_not_know_each_other_conflict_and_both_hear_of_it() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    let mut eve = Client::new(3);
    for client in [&mut ann, &mut bob, &mut eve] {
        client.connect(&mut world);
    }
    let late = bob.set(1, "a", "title", "lost");
    let row = ann.set(2, "a", "title", "won");
    ann.push(&mut world, &[row]);
    bob.push(&mut world, &[late]);
    for client in [&mut ann, &mut bob, &mut eve] {
        client.listen(&mut world);
    }
    assert_eq!(ann.conflicts.len(), 1);
    let (_, conflict) = &ann.conflicts[0];
    assert_eq!(conflict.won, ann.stamp(2));
    assert_eq!(conflict.lost, bob.stamp(1));
    assert_eq!(conflict.value, Some(Value::text("lost")));
    assert_eq!(bob.conflicts, ann.conflicts);
    assert!(eve.conflicts.is_empty());
    let noted = |note: &&HostNote| matches!(note, HostNote::Conflict { .. });
    assert_eq!(world.notes.iter().filter(noted).count(), 1);
    let knowing = bob.set(3, "a", "title", "after");
    bob.push(&mut world, &[knowing]);
    assert_eq!(world.notes.iter().filter(noted).count(), 1);
    ann.listen(&mut world);
    bob.listen(&mut world);
    assert_eq!(ann.base, bob.base);
}

#[test]
fn conflict_is_told_once_and_not_with_every_later_change() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let late = bob.set(1, "a", "title", "lost");
    let row = ann.set(2, "a", "title", "won");
    ann.push(&mut world, &[row]);
    bob.push(&mut world, &[late]);
    for millis in 3..10 {
        ann.listen(&mut world);
        bob.listen(&mut world);
        let row = ann.set(millis, "a", "votes", "more");
        ann.push(&mut world, &[row]);
    }
    ann.listen(&mut world);
    bob.listen(&mut world);
    assert_eq!((ann.conflicts.len(), bob.conflicts.len()), (1, 1));
}

#[test]
fn conflicts_with_large_values_are_told_in_frames() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let long = "x".repeat(100_000);
    world.hold = true;
    for pair in 0..4 {
        for (name, millis) in [("title", 1), ("other", 2)] {
            // Each beats the one before it, and knows of none.
            let early = bob.set(4 * pair + millis, "a", name, &long);
            bob.push(&mut world, &[early]);
            let late = ann.set(4 * pair + millis + 2, "a", name, &long);
            ann.push(&mut world, &[late]);
        }
    }
    world.release();
    let longest = world.sent.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    assert!(longest <= FRAME_BYTES_MAX, "{longest}");
    for client in [&mut ann, &mut bob] {
        client.listen(&mut world);
        assert_eq!(client.conflicts.len(), 14);
        let told = client.conflicts.iter().filter(|(_, conflict)| conflict.value.is_some());
        let told = told.count();
        assert!((7..14).contains(&told), "as many values as fit: {told}");
        assert!(client.conflicts.last().unwrap().1.value.is_some(), "the newest of them");
    }
    assert_eq!(ann.base, bob.base);
}

#[test]
fn failed_commit_acknowledges_nothing_and_loses_nothing() {
    for happened in [false, true] {
        let mut world = World::new();
        let (mut ann, mut bob) = (Client::new(1), Client::new(2));
        ann.connect(&mut world);
        bob.connect(&mut world);
        let row = ann.set(1, "a", "title", "x");
        world.fail_commit = Some((FaultClass::Transient, happened));
        ann.push(&mut world, std::slice::from_ref(&row));
        assert!(outcomes(ann.listen(&mut world)).is_empty());
        assert_eq!(world.closed[&ann.peer].code, ByeCode::Storage);
        assert!(!world.closed.contains_key(&bob.peer));
        world.pass(1_000);
        bob.listen(&mut world);
        assert_eq!(bob.base.len(), usize::from(happened));
        ann.connect(&mut world);
        ann.push(&mut world, &[row]);
        assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1)]);
        bob.listen(&mut world);
        assert_eq!(ann.base, bob.base);
        assert_eq!(ann.base.len(), 1);
        assert_eq!(world.store.rows(Keyspace::Log).len(), 1);
    }
}

#[test]
fn host_that_finds_another_on_its_store_serves_nobody() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let second = World::on(world.store.clone(), 2);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    assert!(outcomes(ann.listen(&mut world)).is_empty());
    assert_eq!(world.closed[&ann.peer].code, ByeCode::ShuttingDown);
    assert!(world.notes.contains(&HostNote::Fatal { class: None }));
    assert_eq!(second.host.facts().head, seq(0));
    assert!(world.host.is_idle());
}

#[test]
fn restart_opens_a_new_epoch_and_earlier_cursors_stay_good() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let mut world = world.restart(2);
    let welcome = ann.connect(&mut world);
    assert_eq!(welcome.modes, [(0, rejoin_core::protocol::message::Mode::InSync)]);
    assert_eq!(welcome.lineage.len(), 1);
    assert_eq!(welcome.lineage[0].seq, seq(1));
    assert_eq!(welcome.accepted, Some(ann.stamp(1).hlc));
    bob.connect(&mut world);
    assert_eq!(bob.base, ann.base);
    let row = ann.set(2, "a", "title", "y");
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(2)]);
}

/// Its writer's base had what is not here any more: from what is left he makes something else of the same row.
#[test]
fn row_that_was_made_from_what_is_collected_does_not_come_back_as_own() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let mut row = ann.set(1, "a", "title", "milk");
    let other = Client::new(2).replica;
    row.writes[0].saw.set(other, Hlc::from_bits(5));
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [accepted(1)]);
    assert_eq!(ann.bodies, [0, 0, 1]);
}
