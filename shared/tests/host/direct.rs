//! Writes of those who have no replica: joined like any other, answered once each, and never twice done.

use crate::world::{Client, World, field, grant, key};
use rejoin_core::{
    hlc::Hlc,
    id::{Cursor, Epoch, RecordKey, Seq},
    io::{FaultClass, Keyspace},
    port::Store,
    protocol::{
        host::{
            DirectAnswer, DirectCode, DirectDone, DirectRecord, DirectResults, DirectRow,
            DirectWrite, Expected, Grant, HostInput, MEMO_KEPT, MemoKey, Standing, StoredRecord,
            feed_query, read_feed,
        },
        message::{Identity, Message, Place, Refill},
    },
    record::{Kind, Record, State, Value, Visible, visible},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::{block_on, memory::MemoryStore},
};
use std::num::NonZeroU32;

fn change(
    id: &str,
    action: fn(Vec<FieldChange>) -> Action,
    fields: &[(&str, FieldAction)],
) -> Change {
    let fields = fields
        .iter()
        .map(|(name, action)| FieldChange { field: field(name), action: action.clone() });
    Change { key: key(id), action: action(fields.collect()) }
}

fn title(id: &str, text: &str) -> Change {
    change(id, Action::Put, &[("title", FieldAction::Set(Kind::Lww, Value::text(text)))])
}

fn vote(id: &str) -> Change {
    change(id, Action::Upsert, &[("votes", FieldAction::Add(1))])
}

fn row(change: Change) -> DirectRow {
    DirectRow { expected: Vec::new(), changes: vec![change] }
}

impl World {
    fn ask(&mut self, grant: Grant, rows: Vec<DirectRow>, memo: Option<MemoKey>) -> DirectAnswer {
        let number = self.written.len() as u64 + 1;
        self.put(HostInput::Write(DirectWrite { number, grant, rows, memo }));
        let (answered, answer) = self.written.last().unwrap().clone();
        assert_eq!(answered, number);
        answer
    }

    fn write(&mut self, change: Change) -> DirectDone {
        match self.ask(grant("ada"), vec![row(change)], None) {
            DirectAnswer::Judged(results) => results[0].clone().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn stored(&self, id: &str) -> Option<StoredRecord> {
        let rows = self.store.rows(Keyspace::Records);
        let all = rows.iter().map(|row| StoredRecord::read_row(row).unwrap());
        all.into_iter().find(|(found, _)| *found == key(id)).map(|(_, stored)| stored)
    }

    fn votes(&self, id: &str) -> Option<Visible> {
        visible(&self.stored(id)?.record).get(&field("votes")).cloned()
    }
}

const fn memo(name: u8, content: u8) -> Option<MemoKey> {
    Some(MemoKey { name: [name; 32], content: [content; 32] })
}

fn codes(answer: DirectAnswer) -> Vec<Option<DirectCode>> {
    let results: DirectResults = match answer {
        DirectAnswer::Judged(results) => results,
        other => panic!("{other:?}"),
    };
    results.into_iter().map(|result| result.err().map(|refused| refused.code)).collect()
}

#[test]
fn what_is_written_directly_reaches_peers_with_the_root_and_joins_with_what_they_write() {
    let mut world = World::new();
    let mut client = Client::new(1);
    client.connect(&mut world);
    client.listen(&mut world);
    let done = world.write(title("a", "direct"));
    assert_eq!(done.seq, Some(Seq(1)));
    let digest = Some(world.stored("a").unwrap().digest);
    assert_eq!(done.records, [DirectRecord { key: key("a"), was_live: false, digest }]);
    world.write(vote("a"));
    client.listen(&mut world);
    assert!(client.base.contains_key(&key("a")) && client.verified > 0);
    assert_eq!(client.base[&key("a")], world.stored("a").unwrap().record);
    // A write of which the peer knows nothing is no conflict with what it has seen.
    world.write(Change { key: key("a"), action: Action::Remove { erase: false } });
    assert!(!world.stored("a").unwrap().record.is_live());
    client.listen(&mut world);
    assert!(!client.base[&key("a")].is_live());
}

#[test]
fn what_was_expected_of_a_record_holds_when_it_is_written_or_nothing_is() {
    let mut world = World::new();
    let first = world.write(title("a", "1")).records[0].digest.unwrap();
    let guarded = |expected, change: Change| {
        vec![DirectRow { expected: vec![(change.key.clone(), expected)], changes: vec![change] }]
    };
    // Both were asked for before either was done.
    world.hold = true;
    for number in [8, 9] {
        let rows = guarded(Expected::OneOf(vec![first]), title("a", &format!("by {number}")));
        world.put(HostInput::Write(DirectWrite { number, grant: grant("ada"), rows, memo: None }));
    }
    world.release();
    let answers: Vec<_> =
        world.written.drain(..).skip(1).map(|(_, answer)| codes(answer)).collect();
    assert_eq!(answers, [vec![None], vec![Some(DirectCode::Unexpected)]]);
    let ask = |world: &mut World, rows| codes(world.ask(grant("ada"), rows, None));
    assert_eq!(
        ask(&mut world, guarded(Expected::Absent, title("a", "2"))),
        [Some(DirectCode::Unexpected)]
    );
    assert_eq!(
        ask(&mut world, guarded(Expected::Live, title("b", "2"))),
        [Some(DirectCode::Unexpected)]
    );
    assert_eq!(ask(&mut world, guarded(Expected::Absent, title("b", "2"))), [None]);
    // One part that is refused takes nothing of the others with it, and all of one goes together.
    let parts = vec![
        row(title("c", "3")),
        DirectRow {
            expected: vec![(key("a"), Expected::Absent)],
            changes: vec![vote("d"), vote("e")],
        },
        row(change("c", Action::Update, &[("votes", FieldAction::Add(2))])),
        row(change("f", Action::Update, &[("votes", FieldAction::Add(2))])),
        row(change("c", Action::Add, &[])),
    ];
    assert_eq!(
        ask(&mut world, parts),
        [
            None,
            Some(DirectCode::Unexpected),
            None,
            Some(DirectCode::Absent),
            Some(DirectCode::Exists),
        ]
    );
    assert!(world.stored("d").is_none() && world.stored("e").is_none());
    assert_eq!(world.votes("c"), Some(Visible::Counter(2)));
}

#[test]
fn nobody_writes_directly_where_he_has_no_right() {
    let mut world = World::new();
    let mut reader = grant("eve");
    reader.rights[0].write = false;
    let answer = world.ask(reader, vec![row(title("a", "1"))], memo(1, 1));
    assert_eq!(codes(answer), [Some(DirectCode::Forbidden)]);
    assert!(world.stored("a").is_none());
    // What had no effect is not remembered.
    assert_eq!(codes(world.ask(grant("ada"), vec![row(title("a", "1"))], memo(1, 1))), [None]);
}

#[test]
fn request_that_comes_again_is_answered_as_before_and_done_once() {
    let mut world = World::new();
    let first = world.ask(
        grant("ada"),
        vec![row(vote("a")), row(change("b", Action::Update, &[]))],
        memo(1, 1),
    );
    let DirectAnswer::Judged(results) = first else { panic!("{first:?}") };
    let again = DirectAnswer::Remembered(results);
    assert_eq!(world.ask(grant("ada"), vec![row(vote("a"))], memo(1, 1)), again);
    assert_eq!(world.ask(grant("ada"), vec![row(vote("a"))], memo(1, 2)), DirectAnswer::Reused);
    let mut world = world.restart(2);
    assert_eq!(world.ask(grant("ada"), vec![row(vote("a"))], memo(1, 1)), again);
    assert_eq!(world.votes("a"), Some(Visible::Counter(1)));
}

#[test]
fn request_that_was_cut_off_between_effect_and_answer_is_done_once() {
    for happened in [false, true] {
        let mut world = World::new();
        world.write(vote("a"));
        world.fail_commit = Some((FaultClass::Transient, happened));
        let answer = world.ask(grant("ada"), vec![row(vote("a"))], memo(1, 1));
        assert_eq!(answer, DirectAnswer::Unavailable);
        world.pass(2_000);
        let answer = world.ask(grant("ada"), vec![row(vote("a"))], memo(1, 1));
        assert_eq!(matches!(answer, DirectAnswer::Remembered(_)), happened, "{answer:?}");
        assert_eq!(world.votes("a"), Some(Visible::Counter(2)));
    }
}

#[test]
fn answers_are_forgotten_after_their_time_and_not_before() {
    let mut world = World::new();
    let memos = |world: &World| {
        let rows = world.store.rows(Keyspace::Meta);
        rows.iter().filter(|row| row.key.starts_with(b"memo")).count()
    };
    for name in 1..=3 {
        world.ask(grant("ada"), vec![row(vote("a"))], memo(name, 1));
    }
    assert_eq!(memos(&world), 6, "each with its place in the index");
    world.pass(MEMO_KEPT.0 - 1);
    world.ask(grant("ada"), vec![row(vote("a"))], memo(4, 1));
    assert_eq!(memos(&world), 8);
    // By the clock of the host, which the request before has moved.
    world.pass(2);
    world.write(vote("a"));
    world.ask(grant("ada"), vec![row(vote("a"))], memo(5, 1));
    assert_eq!(memos(&world), 4);
    assert_eq!(world.votes("a"), Some(Visible::Counter(6)));
}

/// A database that was put back knows nothing of increments that its clients still have. Under the id of before
/// the next ones would count again what comes back, and one of them would be lost.
#[test]
fn each_epoch_writes_under_an_id_of_its_own_that_nobody_else_can_take() {
    let mut world = World::new();
    world.write(vote("a"));
    world.write(vote("a"));
    let mut world = world.restart(2);
    world.write(vote("a"));
    assert_eq!(world.votes("a"), Some(Visible::Counter(3)));
    let record: Record = world.stored("a").unwrap().record;
    let cell = record.cells.get(&(field("votes"), Kind::Counter)).unwrap();
    let State::Counter(counter) = &cell.state else { panic!("{cell:?}") };
    let mut sums: Vec<u64> = counter.0.values().map(|tally| tally.added).collect();
    sums.sort_unstable();
    assert_eq!(sums, [1, 2]);
    for replica in counter.0.keys() {
        for (principal, identity) in [("eve", Identity::Foreign), ("ada", Identity::Forked)] {
            let mut thief = Client::new(7);
            thief.replica = *replica;
            let peer = world.open(thief.hello(false), grant(principal));
            let said = format!("{:?}", world.hear(peer));
            assert!(said.contains(&format!("identity: {identity:?}")), "{said}");
        }
    }
    let of_ada = |record: &Record| record.seen.len();
    let answer = world.ask(grant("bob"), vec![row(vote("a"))], None);
    assert_eq!(codes(answer), [None]);
    assert_eq!(of_ada(&world.stored("a").unwrap().record), 3);
}

#[test]
fn who_reads_the_store_goes_through_the_feed_and_hears_when_his_place_is_no_more() {
    let mut world = World::new();
    for id in ["a", "b", "a", "c"] {
        world.write(vote(id));
    }
    let standing = |world: &World| {
        let answers = block_on(world.store.read(&Standing::queries())).unwrap();
        Standing::read(answers).unwrap().unwrap()
    };
    let now = standing(&world);
    assert_eq!(now.head, Seq(4));
    let rows = |after: &Place| -> Vec<(Seq, RecordKey)> {
        let answers = block_on(world.store.read(&[feed_query(after, NonZeroU32::MAX)])).unwrap();
        let rejoin_core::io::Answer::Page(page) = &answers[0] else { panic!("no page") };
        let read = page.rows.iter().map(|row| read_feed(row).unwrap());
        read.map(|(seq, key, _)| (seq, key)).collect()
    };
    assert_eq!(
        rows(&Place::default()),
        [(Seq(2), key("b")), (Seq(3), key("a")), (Seq(4), key("c"))]
    );
    assert_eq!(rows(&Place::at(Seq(3))), [(Seq(4), key("c"))]);
    let cursor = Cursor { epoch: now.epoch, seq: Seq(4) };
    assert!(now.goes_on(&cursor, now.clock));
    assert!(!now.goes_on(&Cursor { seq: Seq(5), ..cursor }, now.clock));
    assert!(!now.goes_on(&Cursor { epoch: Epoch::from_bytes([5; 16]), seq: Seq(0) }, now.clock));
    let world = world.restart(2);
    let later = standing(&world);
    assert!(later.goes_on(&cursor, now.clock), "a restart loses nothing");
    assert!(!later.goes_on(&Cursor { seq: Seq(5), ..cursor }, now.clock));
    let mut collected = later;
    collected.horizon = Hlc::from_bits(now.clock.to_bits() + 1);
    assert!(!collected.goes_on(&cursor, now.clock));
}

/// The story of why an id is good for one epoch: the database is put back to a copy, HTTP goes on counting, and a
/// device brings back what was counted in between.
#[test]
fn increments_before_and_after_a_database_was_put_back_all_count() {
    let mut world = World::new();
    let mut device = Client::new(1);
    // It is there before anything is, so all comes with its feed.
    device.connect(&mut world);
    for _ in 0..3 {
        world.write(vote("a"));
    }
    let backup = world.store.snapshot();
    for _ in 0..2 {
        world.write(vote("a"));
    }
    device.listen(&mut world);
    let lost = device.kept("a");
    // The same secret and the copy of the store, as a new start of the server.
    let mut world = World::on(MemoryStore::from_image(backup), 2);
    world.write(vote("a"));
    assert_eq!(world.votes("a"), Some(Visible::Counter(4)));
    device.connect(&mut world);
    world.say(device.peer, &Message::Refill(Refill { subscription: 0, entries: vec![lost] }));
    assert_eq!(world.votes("a"), Some(Visible::Counter(6)));
    world.write(vote("a"));
    assert_eq!(world.votes("a"), Some(Visible::Counter(7)));
}
