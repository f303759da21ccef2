//! Refill: what a store has lost comes back by its peers.

use crate::world::{Client, WALL, World, cell, grant, key, seq};
use rejoin_core::{
    hlc::{Hlc, Stamp},
    id::{CollectionName, Pattern, RecordKey, SpaceId},
    io::{Batch, CommitOutcome, FaultClass, Keyspace},
    port::Store,
    protocol::{
        host::{Grant, HostNote, RefillPolicy},
        message::{
            Ack, ByeCode, Identity, Kept, Message, Mode, Origin, Outcome, PROOF_BYTES, PushRow,
            Recall, Refill, RefillOutcome, Refilled, RejectCode, Right,
        },
    },
    record::{Counter, Kind, Record, State, Tally, Value},
    sorted::SortedMap,
    testing::{block_on, memory::MemoryStore},
    time::{Millis, WallMillis},
};

/// A host's history that is about to be lost, and two who know it: ann wrote it.
fn known() -> (Client, Client) {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    for at in 1..4 {
        let row = ann.set(at, &format!("r{at}"), "title", "kept");
        ann.push(&mut world, &[row]);
    }
    ann.listen(&mut world);
    bob.listen(&mut world);
    assert_eq!(bob.base.len(), 3);
    (ann, bob)
}

/// Another host, with nothing in its store.
fn erased() -> World {
    World::on(MemoryStore::new(), 2)
}

fn reader() -> Grant {
    let rights = vec![Right { pattern: Pattern::All, write: false }];
    Grant { rights, ..grant("bob") }
}

fn say(world: &mut World, client: &Client, entries: Vec<Kept>) {
    world.say(client.peer, &Message::Refill(Refill { subscription: 0, entries }));
}

fn refill(world: &mut World, client: &mut Client, entries: Vec<Kept>) -> Vec<RefillOutcome> {
    say(world, client, entries);
    match client.listen(world).pop() {
        Some(Message::Refilled(refilled)) => refilled.outcomes,
        other => panic!("{other:?}"),
    }
}

fn all(client: &Client) -> Vec<Kept> {
    ["r1", "r2", "r3"].map(|id| client.kept(id)).into()
}

fn joined(at: [u64; 3]) -> Vec<RefillOutcome> {
    at.map(|at| RefillOutcome::Joined(seq(at))).into()
}

fn refused(code: RejectCode) -> RefillOutcome {
    RefillOutcome::Refused(code)
}

fn acknowledged(world: &mut World, client: &mut Client, row: &PushRow) -> Outcome {
    client.push(world, std::slice::from_ref(row));
    let heard = client.listen(world);
    match heard.into_iter().find(|message| matches!(message, Message::Ack(_))) {
        Some(Message::Ack(Ack { mut outcomes })) => outcomes.pop().unwrap().1,
        other => panic!("{other:?}"),
    }
}

#[test]
fn proved_records_come_back_by_a_reader_and_reach_who_listens() {
    let (ann, mut bob) = known();
    let mut world = erased();
    let mut carl = Client::new(3);
    carl.connect_as(&mut world, "carl", true);
    let welcome = bob.connect_with(&mut world, reader(), false);
    assert_eq!(welcome.modes, [(0, Mode::Heal)]);
    let entries = all(&bob);
    assert_eq!(
        refill(&mut world, &mut bob, entries),
        joined([1, 1, 1]),
        "one commit, one position"
    );
    carl.listen(&mut world);
    assert_eq!(carl.base, ann.base);
    assert!(world.notes.contains(&HostNote::Refilled {
        peer: bob.peer,
        restored: 3,
        known: 0,
        refused: 0
    }));
}

#[test]
fn thousand_clients_that_return_the_same_record_cause_one_write() {
    let (_, bob) = known();
    let mut world = erased();
    for number in 0..1_000_u16 {
        let mut copy = bob.clone();
        let mut id = [7; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        copy.replica = rejoin_core::id::ReplicaId::from_bytes(id);
        copy.known.clear();
        copy.connect_with(&mut world, reader(), false);
        let entries = vec![bob.kept("r1")];
        let outcomes = refill(&mut world, &mut copy, entries);
        assert_eq!(outcomes, [RefillOutcome::Joined(seq(1))], "where the first one brought it");
    }
    assert_eq!(world.host.facts().head, seq(1));
    assert_eq!(world.feed_rows(), 1);
}

#[test]
fn what_was_returned_is_known_after_a_restart_and_stays_equal() {
    let (_, mut bob) = known();
    let mut world = erased();
    bob.connect_with(&mut world, reader(), false);
    let entries = all(&bob);
    refill(&mut world, &mut bob, entries.clone());
    let before = world.host.facts().collections;
    let mut world = world.restart(3);
    bob.connect_with(&mut world, reader(), false);
    assert_eq!(refill(&mut world, &mut bob, entries), joined([1, 1, 1]));
    assert_eq!(world.host.facts().collections, before);
}

#[test]
fn without_proof_writers_return_while_the_policy_lets_them() {
    use RefillPolicy::{None, Proved, Writers};
    let forbidden = refused(RejectCode::Forbidden);
    let taken = RefillOutcome::Joined(seq(1));
    // Policy, whether the secret is lost, whether the peer may write.
    let cases = [
        (Writers, true, true, taken),
        (Writers, true, false, forbidden),
        (Writers, false, false, taken),
        (Proved, true, true, forbidden),
        (Proved, false, false, taken),
        (None, false, true, forbidden),
    ];
    for (policy, lost, writes, expected) in cases {
        let (_, mut bob) = known();
        let mut world = World::refilled_by(MemoryStore::new(), 2, policy, lost);
        let grant = if writes { grant("bob") } else { reader() };
        bob.connect_with(&mut world, grant, false);
        let entries = vec![bob.kept("r1")];
        let outcomes = refill(&mut world, &mut bob, entries);
        assert_eq!(outcomes, [expected], "{policy:?} lost={lost} writes={writes}");
    }
}

#[test]
fn mark_of_another_record_position_or_epoch_proves_nothing() {
    let (_, mut bob) = known();
    let mut world = erased();
    bob.connect_with(&mut world, reader(), false);
    let good = bob.kept("r1");
    let mut altered = good.clone();
    altered.record.cells.clear();
    let forged = [
        altered,
        Kept { seq: seq(9), ..good.clone() },
        Kept { epoch: crate::world::epoch(2), ..good.clone() },
        Kept { key: key("r2"), ..good.clone() },
        Kept { proof: [0; PROOF_BYTES], ..good },
    ];
    for kept in forged {
        let outcomes = refill(&mut world, &mut bob, vec![kept]);
        assert_eq!(outcomes, [refused(RejectCode::Forbidden)]);
    }
    assert_eq!(world.host.facts().head, seq(0));
}

#[test]
fn writer_returns_nothing_that_no_host_could_have_made() {
    let mut world = erased();
    let mut eve = Client::new(5);
    eve.connect(&mut world);
    let kept = |id: &str, record: Record| Kept {
        key: key(id),
        epoch: crate::world::epoch(9),
        seq: seq(1),
        proof: [0; PROOF_BYTES],
        record,
    };
    let seen = |mut record: Record, millis: u64| {
        record.seen.set(eve.replica, Hlc::at(WallMillis(WALL + millis)));
        record
    };
    let unseen = eve.lww(1, "title", "of a write that nobody has seen");
    let large = seen(eve.lww(1, "title", &"x".repeat(300_000)), 1);
    let fine = seen(eve.lww(1, "title", "fine"), 1);
    let records = [unseen, large, Record::default(), fine];
    let entries = ["a", "c", "d", "e"].into_iter().zip(records);
    let entries = entries.map(|(id, record)| kept(id, record)).collect();
    let outcomes = refill(&mut world, &mut eve, entries);
    let codes = [RejectCode::Forged, RejectCode::TooLarge, RejectCode::Invalid];
    assert_eq!(outcomes[..3], codes.map(refused));
    assert_eq!(outcomes[3], RefillOutcome::Joined(seq(1)));
}

/// It was refused, and left the base of the only peer that had it, because the clock of a new server was behind.
#[test]
fn unproved_record_that_is_ahead_of_the_clock_waits_for_it() {
    let (_, mut bob) = known();
    let mut world = World::refilled_by(MemoryStore::new(), 2, RefillPolicy::Writers, true);
    world.now.wall.0 -= 3_600_000;
    bob.connect_as(&mut world, "bob", false);
    let entries = all(&bob);
    say(&mut world, &bob, entries.clone());
    let bye = &world.closed[&bob.peer];
    assert_eq!((bye.code, bye.retry_after), (ByeCode::Busy, Some(Millis(10_000))));
    assert_eq!(world.host.facts().head, seq(0));
    assert!(bob.listen(&mut world).iter().all(|heard| matches!(heard, Message::Bye(_))));
    world.now.wall.0 += 3_600_000;
    bob.connect_as(&mut world, "bob", false);
    assert_eq!(refill(&mut world, &mut bob, entries), joined([1, 1, 1]));
}

/// What this host has collected since would rise again.
#[test]
fn what_came_at_a_position_of_this_history_adds_nothing() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    for at in 1..4 {
        let row = ann.set(at, &format!("r{at}"), "title", "kept");
        ann.push(&mut world, &[row]);
    }
    bob.listen(&mut world);
    let gone = bob.kept("r1");
    forget(&world.store, &gone.key);
    // A host that has it in memory would take it for lost.
    let mut world = world.restart(1);
    bob.connect_as(&mut world, "bob", true);
    let mut altered = bob.kept("r2");
    altered.record.cells.clear();
    altered.record.seen.set(bob.replica, bob.stamp(9).hlc);
    let expected = [refused(RejectCode::RecordGone), RefillOutcome::Joined(seq(2))];
    let entries = vec![gone, altered];
    assert_eq!(refill(&mut world, &mut bob, entries.clone()), expected);
    let mut world = world.restart(2);
    bob.connect_as(&mut world, "bob", true);
    assert_eq!(refill(&mut world, &mut bob, entries.clone()), expected, "an earlier epoch");
    assert_eq!(world.host.facts().head, seq(3));
    let beyond = entries.into_iter().map(|kept| Kept { seq: seq(4), ..kept }).collect();
    let taken = RefillOutcome::Joined(seq(4));
    assert_eq!(refill(&mut world, &mut bob, beyond), [taken, taken], "behind where it was left");
}

/// As if it had been removed, and was not even remembered any more.
fn forget(store: &MemoryStore, key: &RecordKey) {
    let mut batch = Batch::default();
    for keyspace in [Keyspace::Records, Keyspace::Feed, Keyspace::Tree] {
        let id = key.id.as_str().as_bytes();
        let names = |bytes: &[u8]| bytes.windows(id.len()).any(|part| part == id);
        for row in
            store.rows(keyspace).into_iter().filter(|row| names(&row.key) || names(&row.value))
        {
            batch.delete(keyspace, row.key);
        }
    }
    assert_eq!(batch.writes.len(), 3);
    assert_eq!(block_on(store.commit(batch)).unwrap(), CommitOutcome::Applied);
}

#[test]
fn mark_of_another_space_proves_nothing() {
    let (_, bob) = known();
    let mut world = World::of_space("other");
    let mut hello = bob.clone().hello(false);
    hello.space = SpaceId::parse("other").unwrap();
    let peer = world.open(hello, reader());
    world.hear(peer);
    let entries = vec![bob.kept("r1")];
    world.say(peer, &Message::Refill(Refill { subscription: 0, entries }));
    let outcomes = vec![refused(RejectCode::Forbidden)];
    assert_eq!(world.hear(peer), [Message::Refilled(Refilled { subscription: 0, outcomes })]);
}

/// Each time it would have been read, joined and hashed: one message cost as much as a thousand large records.
#[test]
fn refill_that_names_a_record_twice_ends_its_session() {
    let (_, mut bob) = known();
    let mut world = erased();
    bob.connect_with(&mut world, reader(), false);
    say(&mut world, &bob, vec![bob.kept("r1"), bob.kept("r2"), bob.kept("r1")]);
    assert_eq!(world.closed[&bob.peer].code, ByeCode::Misbehaved);
    assert_eq!(world.host.facts().head, seq(0));
}

#[test]
fn refill_beyond_a_limit_ends_its_session() {
    let (_, bob) = known();
    let mut world = erased();
    let mut peer = bob.clone();
    peer.patterns = vec![Pattern::parse("notes").unwrap()];
    peer.connect_with(&mut world, reader(), false);
    say(&mut world, &peer, vec![bob.kept("r1")]);
    assert_eq!(world.closed[&peer.peer].code, ByeCode::Misbehaved);
    let mut peer = bob.clone();
    peer.connect_with(&mut world, reader(), false);
    world.hold = true;
    for _ in 0..6 {
        say(&mut world, &peer, vec![bob.kept("r1")]);
    }
    world.release();
    assert_eq!(world.closed[&peer.peer].code, ByeCode::Busy);
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let (_, mut bob) = known();
    let mut world = erased();
    bob.connect_with(&mut world, reader(), false);
    world.fail_commit = Some((FaultClass::Transient, false));
    let entries = all(&bob);
    say(&mut world, &bob, entries);
    let heard = bob.listen(&mut world);
    assert!(matches!(heard[..], [Message::Bye(_)]), "{heard:?}");
    assert!(world.store.rows(Keyspace::Records).is_empty());
}

/// A counter as its only writer tells of it.
fn votes(client: &Client, added: u64) -> Record {
    let tallies = SortedMap::from([(client.replica, Tally { added, subtracted: 0 })]);
    cell("votes", Kind::Counter, None, State::Counter(Counter(tallies)))
}

fn total(world: &mut World, id: &str) -> i64 {
    let mut reader = Client::new(90);
    reader.incarnation = u8::try_from(world.notes.len() % 200).unwrap();
    reader.known = (0..=255).map(|at| reader.incarnation_of(at)).collect();
    reader.connect_as(world, "reader", false);
    let resume = rejoin_core::protocol::message::Resume {
        subscription: 0,
        place: rejoin_core::protocol::message::Place::default(),
        time: Hlc::ZERO,
    };
    world.say(reader.peer, &Message::Resume(resume));
    reader.listen(world);
    match reader.base[&key(id)].cells.values().next().map(|cell| &cell.state) {
        Some(State::Counter(counter)) => counter.total(),
        other => panic!("{other:?}"),
    }
}

/// Ann's row over two records was lost; bob brings one of them back before she sends it again.
fn partly_returned() -> (World, Client, PushRow) {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    let writes = vec![(key("a"), votes(&ann, 3)), (key("b"), votes(&ann, 5))];
    let row = ann.row(10, writes);
    ann.push(&mut world, std::slice::from_ref(&row));
    bob.listen(&mut world);
    let mut world = erased();
    bob.connect_as(&mut world, "bob", false);
    let entries = vec![bob.kept("a")];
    refill(&mut world, &mut bob, entries);
    ann.base.clear();
    (world, ann, row)
}

#[test]
fn row_of_which_a_part_came_back_is_accepted_and_the_rest_joined_once() {
    let (mut world, mut ann, row) = partly_returned();
    let welcome = ann.connect_as(&mut world, "ann", false);
    assert_eq!(welcome.accepted, Some(row.hlc), "what came back counts as accepted");
    let outcome = acknowledged(&mut world, &mut ann, &row);
    assert_eq!(outcome, Outcome::Accepted { seq: seq(2) });
    assert_eq!(acknowledged(&mut world, &mut ann, &row), outcome, "and is so again");
    assert_eq!((total(&mut world, "a"), total(&mut world, "b")), (3, 5));
    let next = ann.row(11, vec![(key("a"), votes(&ann, 4))]);
    assert_eq!(acknowledged(&mut world, &mut ann, &next), Outcome::Accepted { seq: seq(3) });
    assert_eq!(total(&mut world, "a"), 4);
}

#[test]
fn row_all_of_which_came_back_is_accepted_after_a_restart_too_and_takes_no_position() {
    let (world, mut ann, row) = partly_returned();
    let mut world = world.restart(3);
    ann.connect_as(&mut world, "ann", false);
    let digest = row.digest;
    let whole = PushRow { writes: row.writes[..1].to_vec(), digest, ..row };
    assert_eq!(acknowledged(&mut world, &mut ann, &whole), Outcome::Accepted { seq: seq(1) });
    assert_eq!((world.host.facts().head, total(&mut world, "a")), (seq(1), 3));
}

#[test]
fn later_write_of_a_replica_than_what_came_back_is_judged_by_order() {
    let (mut world, mut ann, row) = partly_returned();
    ann.connect_as(&mut world, "ann", false);
    let later = ann.row(20, vec![(key("a"), votes(&ann, 6))]);
    assert!(matches!(acknowledged(&mut world, &mut ann, &later), Outcome::Accepted { .. }));
    let before = ann.row(15, vec![(key("a"), votes(&ann, 9))]);
    let outcome = acknowledged(&mut world, &mut ann, &before);
    assert!(matches!(outcome, Outcome::Rejected { code: RejectCode::Forged, .. }), "{outcome:?}");
    ann.named = 1;
    assert!(matches!(acknowledged(&mut world, &mut ann, &row), Outcome::Accepted { .. }));
    assert_eq!(total(&mut world, "a"), 6);
}

/// A replica that was rolled back could hold another row of the same stamp: so whoever was welcomed before it
/// was known what came back must hear of it before its rows count as there.
#[test]
fn session_that_was_not_told_what_came_back_says_hello_again() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    let row = ann.row(10, vec![(key("a"), votes(&ann, 3))]);
    ann.push(&mut world, std::slice::from_ref(&row));
    bob.listen(&mut world);
    let mut world = erased();
    ann.base.clear();
    ann.connect_as(&mut world, "ann", false);
    bob.connect_as(&mut world, "bob", false);
    let entries = vec![bob.kept("a")];
    refill(&mut world, &mut bob, entries);
    ann.push(&mut world, std::slice::from_ref(&row));
    let bye = &world.closed[&ann.peer];
    assert_eq!((bye.code, bye.retry_after), (ByeCode::Busy, Some(Millis(0))));
    let welcome = ann.connect_as(&mut world, "ann", false);
    assert_eq!(welcome.accepted, Some(row.hlc));
    assert!(matches!(acknowledged(&mut world, &mut ann, &row), Outcome::Accepted { .. }));
    assert_eq!(total(&mut world, "a"), 3);
}

#[test]
fn recall_of_what_may_have_come_back_is_unsure() {
    let (mut world, mut ann, row) = partly_returned();
    ann.connect_as(&mut world, "ann", false);
    let (later, digest) = (ann.set(20, "c", "title", "new"), row.digest);
    acknowledged(&mut world, &mut ann, &later);
    let beyond = Hlc::at(WallMillis(WALL + 30));
    let origin = |hlc, digest| Origin { stamp: Stamp { hlc, replica: ann.replica }, digest };
    let (lost, known) = (origin(row.hlc, digest), origin(later.hlc, later.digest));
    let rows = vec![lost, known, origin(beyond, digest)];
    world.say(ann.peer, &Message::Recall(Recall { rows }));
    match ann.listen(&mut world).pop() {
        Some(Message::Recalled(recalled)) => {
            let accepted: Vec<Origin> = recalled.accepted.iter().map(|row| row.origin).collect();
            assert_eq!((accepted, recalled.unsure), (vec![known], vec![lost]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn removed_record_comes_back_removed() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    let row = ann.set(1, "a", "title", "short-lived");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let backup = world.store.snapshot();
    let mut removal = Record::default();
    removal.removed.seen = ann.base[&key("a")].seen.clone();
    removal.removed.seen.set(ann.replica, ann.stamp(2).hlc);
    let row = ann.row(2, vec![(key("a"), removal)]);
    ann.push(&mut world, &[row]);
    bob.listen(&mut world);
    assert!(!bob.base[&key("a")].is_live());
    let store = MemoryStore::new();
    store.restore(backup);
    let mut world = World::on(store, 2);
    bob.connect_with(&mut world, reader(), false);
    // Its clock goes on: nothing is buried before it was written.
    world.pass(1_000);
    let entries = vec![bob.kept("a")];
    assert_eq!(refill(&mut world, &mut bob, entries), [RefillOutcome::Joined(seq(2))]);
    let mut carl = Client::new(3);
    assert_eq!(carl.connect_as(&mut world, "carl", false).identity, Identity::Confirmed);
    world.say(
        carl.peer,
        &Message::Resume(rejoin_core::protocol::message::Resume {
            subscription: 0,
            place: rejoin_core::protocol::message::Place::default(),
            time: Hlc::ZERO,
        }),
    );
    carl.listen(&mut world);
    let buried = |client: &Client| client.base[&key("a")].burial();
    assert!(buried(&carl) > buried(&bob), "here it was alive until now");
    let removed = |client: &Client| client.base[&key("a")].removed.seen.clone();
    assert_eq!(removed(&carl), removed(&bob));
}

/// A value that no write of the old history had seen stays beside the one that comes back.
#[test]
fn reviewed_values_of_both_histories_stay_side_by_side() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    let sibling = |client: &Client, millis: u64| {
        let mut siblings = rejoin_core::record::Siblings::default();
        siblings.context.set(client.replica, client.stamp(millis).hlc);
        siblings.values.insert(client.stamp(millis), Value::int(7));
        cell("note", Kind::Review, None, State::Review(siblings))
    };
    let row = ann.row(1, vec![(key("a"), sibling(&ann, 1))]);
    ann.push(&mut world, &[row]);
    bob.listen(&mut world);
    let mut world = erased();
    let mut carl = Client::new(3);
    carl.connect_as(&mut world, "carl", false);
    let row = carl.row(2, vec![(key("a"), sibling(&carl, 2))]);
    carl.push(&mut world, &[row]);
    bob.connect_with(&mut world, reader(), false);
    let entries = vec![bob.kept("a")];
    assert_eq!(refill(&mut world, &mut bob, entries), [RefillOutcome::Joined(seq(2))]);
    carl.listen(&mut world);
    match carl.base[&key("a")].cells.values().next().map(|cell| &cell.state) {
        Some(State::Review(siblings)) => assert_eq!(siblings.values.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn record_that_would_be_too_large_with_what_is_stored_is_refused() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect_as(&mut world, "bob", true);
    let wide = |client: &Client, millis: u64, names: [&str; 2]| {
        let mut record = client.lww(millis, names[0], &"x".repeat(250_000));
        record.cells.extend(client.lww(millis, names[1], &"x".repeat(250_000)).cells);
        record
    };
    let row = ann.row(1, vec![(key("a"), wide(&ann, 1, ["a", "b"]))]);
    ann.push(&mut world, &[row]);
    bob.listen(&mut world);
    let mut world = erased();
    let mut carl = Client::new(3);
    carl.connect_as(&mut world, "carl", false);
    let row = carl.row(2, vec![(key("a"), wide(&carl, 2, ["c", "d"]))]);
    carl.push(&mut world, &[row]);
    bob.connect_with(&mut world, reader(), false);
    let entries = vec![bob.kept("a")];
    assert_eq!(refill(&mut world, &mut bob, entries), [refused(RejectCode::TooLarge)]);
}

#[test]
fn records_that_fitted_and_are_too_large_together_come_back_all_the_same() {
    let (_, mut bob) = known();
    let mut world = World::of_small_records(MemoryStore::new(), 2, 300);
    let mut carl = Client::new(3);
    carl.connect_as(&mut world, "carl", false);
    let full = "x".repeat(200);
    let row = carl.set(5, "r1", "notes", &full);
    carl.push(&mut world, &[row]);
    bob.connect_with(&mut world, reader(), false);
    let entries = vec![bob.kept("r1")];
    assert_eq!(refill(&mut world, &mut bob, entries), [RefillOutcome::Joined(seq(2))]);
    // It may become smaller, and no larger.
    let mut outcome = |number, name: &str, value: &str| {
        let mut dave = Client::new(number);
        dave.connect(&mut world);
        let row = dave.set(u64::from(number), "r1", name, value);
        dave.push(&mut world, &[row]);
        match dave.listen(&mut world).pop() {
            Some(Message::Ack(ack)) => ack.outcomes.first().map(|(_, outcome)| outcome.clone()),
            other => panic!("{other:?}"),
        }
    };
    let refused = outcome(6, "more", "x");
    let Some(Outcome::Rejected { code: RejectCode::TooLarge, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(outcome(7, "notes", ""), Some(Outcome::Accepted { seq: seq(3) }));
}

#[test]
fn record_outside_every_collection_of_a_peer_is_not_its_to_return() {
    let (_, mut bob) = known();
    let mut world = erased();
    bob.connect_with(&mut world, reader(), false);
    let elsewhere = RecordKey { collection: CollectionName::parse("other").unwrap(), ..key("x") };
    let kept = Kept { key: elsewhere, ..bob.kept("r1") };
    assert_eq!(refill(&mut world, &mut bob, vec![kept]), [refused(RejectCode::Forbidden)]);
}
