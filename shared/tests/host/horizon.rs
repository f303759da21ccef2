//! The horizon: what is dead for long is forgotten, and nobody brings it back.

use crate::world::{Client, WALL, World, cell, epoch, key, origin_of, seq};
use rejoin_core::{
    codec,
    hlc::Hlc,
    id::{RecordKey, key_hash},
    io::{Batch, CommitOutcome, FaultClass, Keyspace},
    port::Store,
    protocol::{
        host::HostOutput,
        message::{
            ByeCode, Message, Mode, Outcome, Place, PushRow, Recall, Refill, RefillOutcome,
            RejectCode, Resume,
        },
    },
    record::{Kind, Record, State, Value},
    testing::{block_on, memory::MemoryStore},
    tree::Trie,
};

/// The server keeps what is dead for so long here.
const KEPT: u64 = 64_000;
const DECADE: u64 = 10 * 365 * 24 * 3_600_000;

fn world() -> World {
    World::keeping(MemoryStore::new(), 1, KEPT, (0, 0))
}

/// Lets the server run; who says nothing meanwhile is sent away.
fn run(world: &mut World, millis: u64) {
    for _ in 0..millis / 1_000 {
        world.pass(1_000);
    }
}

fn horizon(world: &World) -> Hlc {
    world.host.facts().horizon
}

/// Names of the records that the store holds.
fn stored(world: &World) -> Vec<String> {
    let names = world.store.rows(Keyspace::Records).into_iter().map(|row| row.key);
    names.map(|key| String::from_utf8(key).unwrap().replace('\0', "/")).collect()
}

fn outcomes(messages: Vec<Message>) -> Vec<Outcome> {
    let acks = messages.into_iter().filter_map(|message| match message {
        Message::Ack(ack) => Some(ack.outcomes),
        _ => None,
    });
    acks.flatten().map(|(_, outcome)| outcome).collect()
}

fn code(messages: Vec<Message>) -> Option<RejectCode> {
    match outcomes(messages).pop() {
        Some(Outcome::Rejected { code, .. }) => Some(code),
        _ => None,
    }
}

/// The root of what the store holds, without what its horizon leaves out.
fn root_by_definition(world: &World, records: &[(RecordKey, Record)]) -> rejoin_core::id::Digest {
    let mut trie = Trie::new();
    let at = horizon(world);
    for (key, record) in records {
        if record.burial().is_none_or(|buried| buried > at) {
            let digest = codec::record_digest(&codec::encode_record(record));
            trie.insert(key_hash(key), digest);
        }
    }
    trie.root()
}

/// Two records, one of them removed, and who did it: at the head, and gone since.
fn world_with_a_dead_record() -> (World, Client) {
    let mut world = world();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let rows = [ann.set(1, "a", "title", "x"), ann.set(2, "b", "title", "y")];
    ann.push(&mut world, &rows);
    ann.listen(&mut world);
    let row = ann.remove(3, "a");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    (world, ann)
}

#[test]
fn c02_dead_record_is_forgotten_once_the_server_has_run_for_long_enough() {
    let (mut world, ann) = world_with_a_dead_record();
    assert!(!ann.base[&key("a")].is_live());
    run(&mut world, KEPT - 1_000);
    assert_eq!(stored(&world), ["tasks/a", "tasks/b"]);
    assert_eq!(horizon(&world), Hlc::ZERO);
    run(&mut world, KEPT / 16);
    assert_eq!(stored(&world), ["tasks/b"]);
    assert!(horizon(&world) > Hlc::ZERO);
    for keyspace in [Keyspace::Feed, Keyspace::Tree] {
        assert_eq!(world.store.rows(keyspace).len(), 1, "{keyspace:?}");
    }
    assert!(
        world.store.rows(Keyspace::Log).is_empty(),
        "which rows were accepted is forgotten too"
    );
    let is_due = |row: &rejoin_core::io::Row| row.key.contains(&b'/') && row.key.len() < 40;
    let due: Vec<_> = world.store.rows(Keyspace::Meta).into_iter().filter(is_due).collect();
    assert!(due.iter().all(|row| row.key.starts_with(b"replica/")), "{due:?}");
    let mut bob = Client::new(2);
    assert_eq!(bob.connect(&mut world).horizon, horizon(&world));
    let resume = Resume { subscription: 0, place: Place::default(), time: horizon(&world) };
    world.say(bob.peer, &Message::Resume(resume));
    bob.listen(&mut world);
    assert_eq!(bob.base.keys().collect::<Vec<_>>(), [&key("b")]);
    assert_eq!(bob.verified, 1, "roots agree");
}

/// They may hold what was erased since.
#[test]
fn bytes_of_damaged_rows_are_kept_no_longer_than_what_was_removed() {
    let (mut world, mut ann) = world_with_a_dead_record();
    let mut rows = world.store.rows(Keyspace::Records).into_iter();
    let mut row = rows.find(|row| row.key.ends_with(b"b")).unwrap();
    row.value[3] ^= 1;
    let mut batch = Batch::default();
    batch.put(Keyspace::Records, row.key, row.value.clone());
    assert_eq!(block_on(world.store.commit(batch)), Ok(CommitOutcome::Applied));
    // Whoever writes to it meets it.
    let update = ann.set(4, "b", "title", "z");
    ann.push(&mut world, &[update]);
    world.pass(1_000);
    let kept = |world: &World| -> Vec<Vec<u8>> {
        let rows = world.store.rows(Keyspace::Meta).into_iter();
        let kept = rows.filter(|row| row.key.starts_with(b"damaged/"));
        kept.map(|row| row.value).collect()
    };
    assert_eq!(kept(&world), std::slice::from_ref(&row.value));
    let mut bob = Client::new(2);
    bob.connect(&mut world);
    let row = bob.set(5, "c", "title", "later");
    bob.push(&mut world, &[row]);
    run(&mut world, KEPT - 8_000);
    assert_eq!(kept(&world).len(), 1);
    run(&mut world, 12_000);
    assert!(kept(&world).is_empty());
    let meta = world.store.rows(Keyspace::Meta).into_iter();
    let count = meta.filter(|row| row.key == b"quarantine").map(|row| row.value[0]);
    assert_eq!(count.collect::<Vec<_>>(), [0]);
}

#[test]
fn c02_nothing_is_forgotten_by_a_clock_that_jumps_while_the_server_is_off() {
    let (world, _) = world_with_a_dead_record();
    let mut world = World::keeping(world.store, 2, KEPT, (1_000, DECADE));
    run(&mut world, KEPT - 4_000);
    assert_eq!(stored(&world).len(), 2, "only {KEPT} ms of running count");
    run(&mut world, 10_000);
    assert_eq!(stored(&world), ["tasks/b"]);
    let reached = horizon(&world);
    // Back in time: it goes on, and never back.
    let mut ann = Client::new(3);
    let mut world = World::keeping(world.store, 3, KEPT, (80_000, 0));
    assert_eq!(horizon(&world), reached);
    ann.connect(&mut world);
    let resume = Resume { subscription: 0, place: Place::default(), time: reached };
    world.say(ann.peer, &Message::Resume(resume));
    ann.listen(&mut world);
    let row = ann.remove(5, "b");
    ann.push(&mut world, &[row]);
    run(&mut world, KEPT + 4_000);
    assert!(stored(&world).is_empty());
    assert!(horizon(&world) > reached);
}

/// The count of time went back with the store: what the marks of a later life say is not believed.
#[test]
fn c02_count_of_time_that_went_back_forgets_nothing_early() {
    let (mut world, _) = world_with_a_dead_record();
    run(&mut world, 40_000);
    let mut world = World::keeping(world.store, 2, KEPT, (0, 0));
    run(&mut world, KEPT - 4_000);
    assert_eq!(stored(&world).len(), 2);
    run(&mut world, 10_000);
    assert_eq!(stored(&world).len(), 1);
}

#[test]
fn c02_who_is_behind_the_horizon_rebases_and_who_is_not_does_not() {
    let (mut world, mut ann) = world_with_a_dead_record();
    // Saw all, and comes back when that is forgotten: there is nothing that it missed.
    run(&mut world, KEPT + 8_000);
    let mut old = ann.clone();
    assert_eq!(ann.connect(&mut world).modes, [(0, Mode::Feed)]);
    ann.listen(&mut world);
    assert!(!ann.base.contains_key(&key("a")), "it hears that it can forget it too");
    // Had gone before the record was removed.
    old.time = Hlc::from_bits(horizon(&world).to_bits() - 1);
    let welcome = old.connect(&mut world);
    assert_eq!(welcome.modes, [(0, Mode::Rebase)]);
    // Of a history that was lost nothing counts from when it parted.
    let mut lost = old.clone();
    lost.cursor.as_mut().unwrap().epoch = epoch(77);
    lost.time = Hlc::from_bits(u64::MAX);
    assert_eq!(lost.connect(&mut world).modes, [(0, Mode::Rebase)]);
}

#[test]
fn c02_heal_that_takes_too_long_starts_over() {
    let (mut world, _) = world_with_a_dead_record();
    let time = Hlc::from_bits(1);
    run(&mut world, KEPT + 8_000);
    let mut bob = Client::new(2);
    bob.connect(&mut world);
    world
        .say(bob.peer, &Message::Resume(Resume { subscription: 0, place: Place::default(), time }));
    let Some(Message::Bye(bye)) = bob.listen(&mut world).pop() else { panic!("no bye") };
    assert_eq!(bye.code, ByeCode::Busy);
}

#[test]
fn c03_peer_that_has_not_heard_of_what_is_forgotten_is_sent_away() {
    let mut world = world();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    bob.listen(&mut world);
    // Nothing reaches bob any more, though he is heard.
    world.sockets_take = false;
    let big = "x".repeat(200_000);
    for at in 2..8 {
        let row = ann.set(at, "b", "title", &big);
        ann.push(&mut world, &[row]);
        world.put(rejoin_core::protocol::host::HostInput::Sent { peer: ann.peer, bytes: 1 << 20 });
        ann.listen(&mut world);
    }
    let row = ann.remove(9, "a");
    ann.push(&mut world, &[row]);
    for nonce in 0..(KEPT + 8_000) / 1_000 {
        world.put(rejoin_core::protocol::host::HostInput::Sent { peer: ann.peer, bytes: 1 << 20 });
        world.put(rejoin_core::protocol::host::HostInput::Sent { peer: bob.peer, bytes: 1 });
        world.say(ann.peer, &Message::Ping { nonce });
        world.say(bob.peer, &Message::Ping { nonce });
        world.pass(1_000);
    }
    assert!(horizon(&world) > Hlc::ZERO);
    assert_eq!(world.closed[&bob.peer].code, ByeCode::Busy);
    assert!(!world.closed.contains_key(&ann.peer), "she has heard all");
}

#[test]
fn c02_update_of_a_record_that_is_gone_is_refused_and_what_makes_it_anew_is_not() {
    let (mut world, mut ann) = world_with_a_dead_record();
    run(&mut world, KEPT + 8_000);
    ann.connect(&mut world);
    ann.listen(&mut world);
    let row = ann.update(10, "a", "again");
    ann.push(&mut world, &[row]);
    assert_eq!(code(ann.listen(&mut world)), Some(RejectCode::RecordGone));
    ann.named = 1;
    let row = ann.remove(11, "a");
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [Outcome::Accepted { seq: seq(4) }]);
    let row = ann.set(12, "a", "title", "anew");
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [Outcome::Accepted { seq: seq(5) }]);
    let row = ann.update(13, "a", "and changed");
    ann.push(&mut world, &[row]);
    assert_eq!(outcomes(ann.listen(&mut world)), [Outcome::Accepted { seq: seq(6) }]);
    assert!(ann.base[&key("a")].is_live());
}

/// Its writer was told that he had forged another one's reset: a record was collected between his hello and his push.
#[test]
fn c02_row_that_goes_on_with_a_reset_of_what_is_gone_is_made_anew() {
    let (mut world, ann) = world_with_a_dead_record();
    let reset = ann.stamp(1);
    run(&mut world, KEPT + 8_000);
    assert!(reset.hlc <= horizon(&world));
    let mut bob = Client::new(2);
    let high = |since| cell("high", Kind::Max, since, State::Max(Some(Value::int(7))));
    bob.connect(&mut world);
    bob.listen(&mut world);
    let row = bob.row(KEPT + 9_000, vec![(key("a"), high(Some(reset)))]);
    bob.push(&mut world, &[row]);
    assert_eq!(world.closed[&bob.peer].code, ByeCode::Busy);
    // Nor is it a forgery where a row before it has made the record anew.
    let mut carl = Client::new(4);
    carl.connect(&mut world);
    carl.listen(&mut world);
    let anew = carl.set(KEPT + 9_000, "a", "title", "anew");
    let row = carl.row(KEPT + 9_001, vec![(key("a"), high(Some(reset)))]);
    carl.push(&mut world, &[anew, row]);
    assert_eq!(world.closed[&carl.peer].code, ByeCode::Busy);
    let mut bob = Client::new(3);
    bob.connect(&mut world);
    bob.listen(&mut world);
    let row = bob.row(KEPT + 9_001, vec![(key("a"), high(None))]);
    bob.push(&mut world, &[row]);
    assert!(matches!(outcomes(bob.listen(&mut world))[..], [Outcome::Accepted { .. }]));
}

/// Otherwise a part of it would be later than the horizon that has forgotten it, and who builds on that part, having
/// heard of nothing, would be taken for a forger.
#[test]
fn c02_record_is_buried_no_earlier_than_what_its_remover_has_written() {
    let mut world = world();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let ahead = ann.remove(60_000, "a");
    let hlc = ahead.hlc;
    ann.push(&mut world, &[ahead]);
    ann.listen(&mut world);
    let buried = ann.base.get(&key("a")).unwrap().removed.buried;
    assert!(buried >= Some(hlc), "{buried:?}, and the removal is of {hlc:?}");
    assert!(buried <= Some(world.host.facts().clock));
}

#[test]
fn c02_removed_record_that_was_edited_meanwhile_lives_on_beyond_the_horizon() {
    let (mut world, mut ann) = world_with_a_dead_record();
    let mut bob = Client::new(2);
    bob.base.insert(key("a"), Record::default());
    bob.connect(&mut world);
    let row = bob.update(4, "a", "unseen by who removed it");
    bob.push(&mut world, &[row]);
    run(&mut world, KEPT + 8_000);
    assert_eq!(stored(&world).len(), 2);
    ann.connect(&mut world);
    ann.listen(&mut world);
    assert!(ann.base[&key("a")].is_live());
    // Removed again it is kept for as long again.
    let row = ann.remove(20, "a");
    ann.push(&mut world, &[row]);
    run(&mut world, KEPT - 4_000);
    assert_eq!(stored(&world).len(), 2);
    run(&mut world, 12_000);
    assert_eq!(stored(&world), ["tasks/b"]);
}

#[test]
fn c02_row_that_may_have_been_accepted_before_the_horizon_is_unsure() {
    let (mut world, mut ann) = world_with_a_dead_record();
    let first = ann.rows.values().next().unwrap().clone();
    run(&mut world, KEPT + 8_000);
    ann.connect(&mut world);
    ann.listen(&mut world);
    ann.push(&mut world, std::slice::from_ref(&first));
    assert_eq!(code(ann.listen(&mut world)), Some(RejectCode::Unsure));
    let new = ann.set(50, "c", "title", "z");
    let rows = [&first, &new].map(|row| origin_of(&ann, row)).to_vec();
    world.say(ann.peer, &Message::Recall(Recall { rows }));
    let Some(Message::Recalled(recalled)) = ann.listen(&mut world).pop() else {
        panic!("no answer")
    };
    assert_eq!(recalled.accepted, []);
    assert_eq!(
        recalled.unsure,
        [origin_of(&ann, &first)],
        "a later one was certainly not accepted"
    );
}

/// It was unsure: the user was asked about what was there, and what was made without it under the same name took it
/// back from the records that it is in.
#[test]
fn c02_row_that_is_forgotten_and_has_left_something_is_accepted_again() {
    let (mut world, mut ann) = world_with_a_dead_record();
    let both = ["a", "c"].map(|id| (key(id), ann.lww(4, "title", "made together")));
    let batch = ann.row(4, both.into());
    ann.push(&mut world, std::slice::from_ref(&batch));
    let removal = ann.remove(5, "a");
    let later = ann.set(6, "c", "title", "later");
    ann.push(&mut world, &[removal, later]);
    ann.listen(&mut world);
    run(&mut world, 2 * KEPT);
    assert_eq!(stored(&world), ["tasks/b", "tasks/c"]);
    ann.connect(&mut world);
    ann.listen(&mut world);
    ann.push(&mut world, std::slice::from_ref(&batch));
    assert_eq!(outcomes(ann.listen(&mut world)), [Outcome::Accepted { seq: seq(6) }]);
    assert_eq!(stored(&world), ["tasks/b", "tasks/c"], "what was removed of it stays so");
    assert_eq!(world.host.facts().head, seq(6));
}

#[test]
fn c02_row_that_is_later_than_the_horizon_and_left_nothing_was_not_accepted() {
    let (mut world, mut ann) = world_with_a_dead_record();
    let at = |world: &World| horizon(world).wall().0 - WALL;
    run(&mut world, KEPT + 8_000);
    ann.connect(&mut world);
    ann.listen(&mut world);
    let waits = ann.set(at(&world) + 1, "c", "title", "was never sent");
    let before = ann.set(at(&world), "d", "title", "nor this");
    let row = ann.set(at(&world) + 2, "b", "title", "was sent");
    ann.push(&mut world, &[row]);
    run(&mut world, KEPT + 8_000);
    assert!(world.store.rows(Keyspace::Log).is_empty());
    ann.connect(&mut world);
    ann.listen(&mut world);
    ann.push(&mut world, &[waits]);
    assert_eq!(outcomes(ann.listen(&mut world)), [Outcome::Accepted { seq: seq(5) }]);
    ann.push(&mut world, &[before]);
    assert_eq!(code(ann.listen(&mut world)), Some(RejectCode::Unsure));
}

/// A record that was alive died of what came back, and was buried as early as its removal in the lost history: who had
/// it alive, and was away for less than retention, never heard that it died.
#[test]
fn c02_record_that_dies_of_a_refill_is_forgotten_no_sooner_than_any_other() {
    let mut world = world();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let backup = world.store.snapshot();
    bob.base.clone_from(&ann.base);
    let row = ann.remove(2, "a");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let store = MemoryStore::new();
    store.restore(backup);
    let mut world = World::keeping(store, 2, KEPT, (0, KEPT));
    run(&mut world, KEPT);
    bob.connect(&mut world);
    let resume = Resume { subscription: 0, place: Place::default(), time: horizon(&world) };
    world.say(bob.peer, &Message::Resume(resume));
    bob.listen(&mut world);
    let row = bob.set(KEPT, "b", "title", "y");
    bob.push(&mut world, &[row]);
    let left = bob.time;
    ann.connect(&mut world);
    let refill = Refill { subscription: 0, entries: vec![ann.kept("a")] };
    world.say(ann.peer, &Message::Refill(refill));
    run(&mut world, KEPT - 4_000);
    assert_eq!(stored(&world).len(), 2);
    run(&mut world, 12_000);
    assert_eq!(stored(&world), ["tasks/b"]);
    assert!(horizon(&world) > left, "who left before it died rebases");
}

#[test]
fn c02_forgotten_record_does_not_come_back_by_a_refill() {
    let (mut world, ann) = world_with_a_dead_record();
    run(&mut world, KEPT + 8_000);
    let mut bob = Client::new(2);
    bob.connect(&mut world);
    let refill = Refill { subscription: 0, entries: vec![ann.kept("a")] };
    world.say(bob.peer, &Message::Refill(refill));
    let Some(Message::Refilled(refilled)) = bob.listen(&mut world).pop() else {
        panic!("no answer")
    };
    assert_eq!(refilled.outcomes, [RefillOutcome::Refused(RejectCode::RecordGone)]);
    assert_eq!(stored(&world), ["tasks/b"]);
}

/// Many are removed at once: they go slice by slice, and wherever that is cut off the trees are what the horizon says.
#[test]
fn c03_slices_that_are_cut_off_anywhere_leave_what_the_horizon_says() {
    for happened in [false, true] {
        let mut world = world();
        let mut ann = Client::new(1);
        ann.connect(&mut world);
        let names: Vec<String> = (0..2_600).map(|at| format!("r{at:04}")).collect();
        for (at, chunk) in (1..).zip(names.chunks(500)) {
            let made = chunk.iter().map(|id| (key(id), ann.lww(at, "title", id))).collect();
            let row = ann.row(at, made);
            ann.push(&mut world, &[row]);
            ann.listen(&mut world);
        }
        for (at, chunk) in (100..).zip(names[..2_500].chunks(250)) {
            let writes =
                chunk.iter().map(|id| ann.remove(at, id).writes.remove(0)).collect::<Vec<_>>();
            let writes = writes.into_iter().map(|write| (write.key, write.delta)).collect();
            let row = ann.row(at, writes);
            ann.push(&mut world, &[row]);
            ann.listen(&mut world);
        }
        let all: Vec<(RecordKey, Record)> = ann.base.clone().into_iter().collect();
        let check = |world: &World| {
            let facts = world.host.facts();
            let (_, root, count) = facts.collections[0].clone();
            assert_eq!(root, root_by_definition(world, &all), "at {:?}", facts.horizon);
            assert_eq!(stored(world).len(), count);
            facts.horizon
        };
        let (mut wall, mut number) = (0, 2);
        let mut seen = std::collections::BTreeSet::from([check(&world)]);
        while stored(&world).len() > 100 {
            // Two slices are carried out, the next one fails.
            run(&mut world, KEPT);
            wall += KEPT + 8_000;
            world.hold = true;
            world.pass(8_000);
            let mut commits = 0;
            while let Some(output) = world.held.pop_front() {
                let is_commit = matches!(output, HostOutput::Commit { .. });
                commits += usize::from(is_commit);
                let fails = is_commit && commits == 3;
                world.fail_commit = fails.then_some((FaultClass::Permanent, happened));
                world.carry_out(output);
                world.run();
                if is_commit && !fails {
                    seen.insert(check(&world));
                }
            }
            world = World::keeping(world.store, number, KEPT, (0, wall));
            number += 1;
            seen.insert(check(&world));
            assert!(number < 50, "it comes to an end");
        }
        assert!(seen.len() > 3, "slice by slice: {seen:?}");
    }
}

/// A row of another replica's, as a copy of its store pushes it.
fn copy_of(client: &mut Client, millis: u64, (owner, row): (&Client, &PushRow)) -> PushRow {
    let origin = origin_of(owner, row);
    let copy = client.set(millis, "c", "title", "copied");
    PushRow { origin: Some(origin.stamp), digest: origin.digest, ..copy }
}

#[test]
fn c02_origin_of_a_row_is_forgotten_with_it() {
    let mut world = world();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    let row = ann.set(1, "c", "title", "copied");
    let copy = copy_of(&mut bob, 2, (&ann, &row));
    bob.push(&mut world, &[copy]);
    assert!(matches!(outcomes(bob.listen(&mut world))[..], [Outcome::Accepted { .. }]));
    run(&mut world, KEPT - 1_000);
    assert_eq!(world.store.rows(Keyspace::Log).len(), 2);
    run(&mut world, KEPT / 16);
    assert_eq!(world.store.rows(Keyspace::Log), []);
    let meta = world.store.rows(Keyspace::Meta);
    assert!(!meta.iter().any(|row| row.key.starts_with(b"ledger/")), "{meta:?}");
}

#[test]
fn c02_copy_of_a_row_that_was_accepted_and_forgotten_is_unsure() {
    // Whether all of it was collected or not.
    for removed in [true, false] {
        let mut world = world();
        let (mut ann, mut bob) = (Client::new(1), Client::new(2));
        ann.connect(&mut world);
        let rows = [ann.set(1, "c", "title", "copied"), ann.set(2, "d", "title", "copied too")];
        let theirs = copy_of(&mut bob, 30, (&ann, &rows[1]));
        bob.connect(&mut world);
        // One was accepted as it is, the other one as a copy.
        ann.push(&mut world, &rows[..1]);
        bob.push(&mut world, std::slice::from_ref(&theirs));
        assert!(matches!(outcomes(bob.listen(&mut world))[..], [Outcome::Accepted { .. }]));
        ann.listen(&mut world);
        if removed {
            let row = ann.remove(40, "c");
            ann.push(&mut world, &[row]);
        }
        run(&mut world, KEPT + 8_000);
        assert_eq!(stored(&world).is_empty(), removed);
        assert_eq!(world.store.rows(Keyspace::Log), []);
        ann.connect(&mut world);
        bob.connect(&mut world);
        let late = copy_of(&mut bob, KEPT, (&ann, &rows[0]));
        let origins = [&rows[0], &rows[1]].map(|row| origin_of(&ann, row));
        world.say(bob.peer, &Message::Recall(Recall { rows: origins.to_vec() }));
        let heard = world.hear(bob.peer);
        let Some(Message::Recalled(recalled)) = heard.last() else { panic!("{heard:?}") };
        assert_eq!((&recalled.accepted[..], &recalled.unsure[..]), (&[][..], &origins[..]));
        bob.push(&mut world, std::slice::from_ref(&late));
        assert_eq!(code(bob.listen(&mut world)), Some(RejectCode::Unsure));
        ann.push(&mut world, &rows[1..]);
        assert_eq!(code(ann.listen(&mut world)), Some(RejectCode::Unsure));
        // Who wants it to count although it may have counted before has it so, and what is new is new.
        bob.named = 1;
        let insisted = PushRow { insisted: true, ..copy_of(&mut bob, KEPT + 1, (&ann, &rows[0])) };
        bob.push(&mut world, &[insisted]);
        assert!(matches!(outcomes(bob.listen(&mut world))[..], [Outcome::Accepted { .. }]));
        ann.named = 1;
        let new = ann.set(KEPT + 2, "d", "title", "new");
        ann.push(&mut world, &[new]);
        assert!(matches!(outcomes(ann.listen(&mut world))[..], [Outcome::Accepted { .. }]));
    }
}

/// A server that has forgotten what it accepted long ago.
fn forgetful() -> World {
    let mut world = world();
    let mut carl = Client::new(8);
    carl.connect(&mut world);
    let row = carl.set(1, "x", "title", "of old");
    carl.push(&mut world, &[row]);
    run(&mut world, KEPT + 8_000);
    assert_eq!(world.store.rows(Keyspace::Log), []);
    world
}

fn accepts(world: &mut World, client: &mut Client, row: PushRow) {
    client.push(world, &[row]);
    let answers = outcomes(client.listen(world));
    assert!(matches!(answers[..], [Outcome::Accepted { .. }]), "{answers:?}");
}

/// What two copies of a store wrote apart from each other counts at a server of any age, however long one was away.
#[test]
fn c02_rows_of_a_copied_replica_are_new_where_no_copy_was_forgotten() {
    let mut world = forgetful();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    let rows = [2, KEPT + 6_000].map(|at| ann.set(at, "c", "title", "by the original"));
    let late = Client::new(1).set(KEPT + 7_000, "d", "title", "by the copy");
    let copy = copy_of(&mut bob, KEPT + 7_500, (&ann, &late));
    bob.connect(&mut world);
    accepts(&mut world, &mut bob, copy);
    assert_eq!(ann.connect(&mut world).copied, Some(late.hlc));
    let origins = [&rows[0], &rows[1]].map(|row| origin_of(&ann, row));
    bob.connect(&mut world);
    world.say(bob.peer, &Message::Recall(Recall { rows: origins.to_vec() }));
    let heard = bob.listen(&mut world);
    let Some(Message::Recalled(recalled)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!((&recalled.accepted[..], &recalled.unsure[..]), (&[][..], &[][..]));
    for row in rows {
        accepts(&mut world, &mut ann, row);
    }
}

/// Another copy was forgotten; what is later than all that is forgotten was not among it.
#[test]
fn c02_rows_of_a_copied_replica_are_new_where_they_are_later_than_what_is_forgotten() {
    let mut world = world();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    let first = ann.set(1, "c", "title", "copied");
    let copy = copy_of(&mut bob, 2, (&ann, &first));
    accepts(&mut world, &mut bob, copy);
    run(&mut world, KEPT + 8_000);
    let row = ann.set(KEPT + 6_000, "c", "title", "by the original");
    let late = Client::new(1).set(KEPT + 7_000, "d", "title", "by the copy");
    bob.connect(&mut world);
    let copy = copy_of(&mut bob, KEPT + 7_500, (&ann, &late));
    accepts(&mut world, &mut bob, copy);
    ann.connect(&mut world);
    accepts(&mut world, &mut ann, row);
    ann.push(&mut world, &[first]);
    assert_eq!(code(ann.listen(&mut world)), Some(RejectCode::Unsure));
}

/// When the first copy was accepted is lost: it may have been forgotten.
#[test]
fn c02_forgotten_copy_is_unsure_where_it_is_lost_when_rows_were_copied() {
    let mut world = world();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    let first = ann.set(1, "c", "title", "copied");
    let copy = copy_of(&mut bob, 2, (&ann, &first));
    accepts(&mut world, &mut bob, copy);
    run(&mut world, KEPT + 8_000);
    let meta = world.store.rows(Keyspace::Meta).into_iter();
    let mut row = meta.rev().find(|row| row.key.starts_with(b"copied/")).unwrap();
    row.value[3] ^= 4;
    let mut batch = Batch::default();
    batch.put(Keyspace::Meta, row.key, row.value);
    assert_eq!(block_on(world.store.commit(batch)), Ok(CommitOutcome::Applied));
    ann.connect(&mut world);
    ann.push(&mut world, &[first]);
    assert_eq!(code(ann.listen(&mut world)), Some(RejectCode::Unsure));
    ann.named = 1;
    let new = ann.set(KEPT + 7_000, "d", "title", "new");
    accepts(&mut world, &mut ann, new);
}

/// A clock that was ahead, or somebody who means ill, had a row known by a time of the far future.
#[test]
fn c02_origin_of_the_far_future_makes_no_later_row_unsure() {
    for eve in [false, true] {
        let mut world = world();
        let mut ann = Client::new(1);
        ann.connect(&mut world);
        let ahead = ann.set(DECADE, "c", "title", "ahead");
        let origin = origin_of(&ann, &ahead);
        let owner = ann.clone();
        if eve {
            let mut eve = Client::new(3);
            eve.connect_as(&mut world, "eve", true);
            let copy = copy_of(&mut eve, 2, (&owner, &ahead));
            accepts(&mut world, &mut eve, copy);
        } else {
            let copy = copy_of(&mut ann, 2, (&owner, &ahead));
            accepts(&mut world, &mut ann, copy);
        }
        run(&mut world, KEPT + 8_000);
        ann.connect(&mut world);
        let new = ann.set(KEPT + 7_000, "d", "title", "new");
        accepts(&mut world, &mut ann, new);
        // The row itself is known for good.
        let mut bob = Client::new(2);
        bob.connect(&mut world);
        let late = copy_of(&mut bob, KEPT + 7_500, (&ann, &ahead));
        assert_eq!(origin_of(&bob, &late), origin);
        bob.push(&mut world, &[late]);
        let answers = outcomes(bob.listen(&mut world));
        assert!(matches!(answers[..], [Outcome::Taken { .. }]), "{answers:?}");
    }
}
