//! How much a space may hold: what is refused beyond, and what never is.

use crate::world::{Client, World, field, grant, key};
use rejoin_core::{
    codec::encode_record,
    protocol::{
        host::{DirectAnswer, DirectCode, DirectRow, DirectWrite, HostInput},
        message::{Ack, Message, Outcome, PushRow, RejectCode},
    },
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
};

/// Whether it was taken; refused, it must be for the quota.
fn push(world: &mut World, client: &mut Client, row: PushRow) -> bool {
    client.push(world, &[row]);
    let mut outcomes = client.listen(world).into_iter().filter_map(|message| match message {
        Message::Ack(Ack { outcomes }) => Some(outcomes),
        _ => None,
    });
    match outcomes.next().unwrap().remove(0).1 {
        Outcome::Accepted { .. } => true,
        Outcome::Rejected { code: RejectCode::Quota, number, reason } => {
            assert!(reason.starts_with("the space may hold no more"), "{reason}");
            client.named = number;
            false
        }
        other => panic!("{other:?}"),
    }
}

fn direct(world: &mut World, number: u64, id: &str) -> Result<(), DirectCode> {
    let title = FieldChange {
        field: field("title"),
        action: FieldAction::Set(Kind::Lww, Value::text("x")),
    };
    let change = Change { key: key(id), action: Action::Put(vec![title]) };
    let rows = vec![DirectRow { expected: Vec::new(), changes: vec![change] }];
    world.put(HostInput::Write(DirectWrite { number, grant: grant("ada"), rows, memo: None }));
    match &world.written.last().unwrap().1 {
        DirectAnswer::Judged(results) => results[0].clone().map(drop).map_err(|why| why.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn x17_x18_records_beyond_the_quota_are_refused_and_what_is_there_can_be_changed_and_removed() {
    let mut world = World::of_quota(2, u64::MAX);
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    for (at, id) in [(1, "a"), (2, "b")] {
        let row = ann.set(at, id, "title", "x");
        assert!(push(&mut world, &mut ann, row), "{id}");
    }
    let third = ann.set(3, "c", "title", "x");
    assert!(!push(&mut world, &mut ann, third));
    assert_eq!(direct(&mut world, 1, "d"), Err(DirectCode::Quota));
    assert_eq!(direct(&mut world, 2, "a"), Ok(()), "it was there");
    let more = ann.set(4, "b", "text", "much more than there was");
    assert!(push(&mut world, &mut ann, more));
    // What is not there is not removed: that would leave a record.
    let nothing = ann.remove(5, "e");
    assert!(!push(&mut world, &mut ann, nothing));
    let gone = ann.remove(6, "b");
    assert!(push(&mut world, &mut ann, gone));
    let next = ann.set(7, "c", "title", "x");
    assert!(!push(&mut world, &mut ann, next), "what is dead counts until it is forgotten");
    assert_eq!(world.store.rows(rejoin_core::io::Keyspace::Records).len(), 2);
}

#[test]
fn x17_bytes_beyond_the_quota_are_refused_to_the_byte_and_what_shrinks_makes_room() {
    // How long a record is.
    let length = |text: &str| {
        let mut ann = Client::new(1);
        let row = ann.set(1, "a", "title", text);
        encode_record(&row.writes[0].delta).len() as u64
    };
    let (short, long) = (length("x"), length(&"x".repeat(1_000)));
    for (bytes, is_taken) in [(long - 1, false), (long, true), (long + 1, true)] {
        let mut world = World::of_quota(u64::MAX, bytes);
        let mut ann = Client::new(1);
        ann.connect(&mut world);
        let row = ann.set(1, "a", "title", &"x".repeat(1_000));
        assert_eq!(push(&mut world, &mut ann, row), is_taken, "{bytes}");
    }
    let mut world = World::of_quota(u64::MAX, long + short - 1);
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", &"x".repeat(1_000));
    assert!(push(&mut world, &mut ann, row));
    let row = ann.set(2, "b", "title", "x");
    assert!(!push(&mut world, &mut ann, row));
    let row = ann.set(3, "a", "title", "x");
    assert!(push(&mut world, &mut ann, row), "less than there was");
    for (at, id) in [(4, "b"), (5, "c")] {
        let row = ann.set(at, id, "title", "x");
        assert!(push(&mut world, &mut ann, row), "there is room again");
    }
    // A host that is opened anew counts the same.
    let mut world = world.restart(2);
    let mut bob = Client::new(2);
    bob.connect(&mut world);
    let row = bob.set(6, "d", "title", &"x".repeat(1_000));
    assert!(push(&mut world, &mut bob, row), "without a quota");
}

/// Rows of one group see what those before them took.
#[test]
fn x17_rows_that_come_together_do_not_fill_a_space_beyond_its_quota() {
    let mut world = World::of_quota(3, u64::MAX);
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let rows: Vec<PushRow> =
        (1..=9).map(|at| ann.set(at, &format!("r{at}"), "title", "x")).collect();
    ann.push(&mut world, &rows);
    ann.listen(&mut world);
    assert_eq!(world.store.rows(rejoin_core::io::Keyspace::Records).len(), 3);
}

#[test]
fn x17_row_that_was_accepted_is_accepted_again_however_full_the_space_is() {
    let mut world = World::of_quota(1, u64::MAX);
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    let row = ann.set(1, "a", "title", "x");
    assert!(push(&mut world, &mut ann, row.clone()));
    assert!(push(&mut world, &mut ann, row));
}
