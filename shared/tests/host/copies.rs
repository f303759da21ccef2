//! Rows that were copied with their store: known by their origins, counted once.

use crate::world::{Client, World, cell, key, origin_of};
use rejoin_core::{
    hlc::Stamp,
    io::{Batch, CommitOutcome, FaultClass, Keyspace},
    port::Store,
    protocol::{
        host::{DamagedRow, HostNote, Mended},
        message::{Ack, Body, Message, Origin, Outcome, PushRow, Recall, Recalled, RejectCode},
    },
    record::{Counter, Kind, State, Tally},
    sorted::SortedMap,
    testing::block_on,
};

/// A row that adds to a counter of record "a"; `total` is what its writer has added in all.
fn adds(client: &mut Client, millis: u64, total: u64) -> PushRow {
    let tally = Tally { added: total, subtracted: 0 };
    let counter = Counter(SortedMap::from([(client.replica, tally)]));
    let delta = cell("sum", Kind::Counter, None, State::Counter(counter));
    client.row(millis, vec![(key("a"), delta)])
}

/// The same row from another store, under its own id.
fn copy_of(client: &mut Client, millis: u64, total: u64, origin: &Origin) -> PushRow {
    let row = adds(client, millis, total);
    PushRow { origin: Some(origin.stamp), digest: origin.digest, ..row }
}

/// What a peer hears but for changes, which it need not know.
fn answers(world: &mut World, client: &Client) -> Vec<Message> {
    let heard = world.hear(client.peer).into_iter();
    heard.filter(|message| !matches!(message, Message::Changes(_))).collect()
}

fn outcomes(world: &mut World, client: &Client, rows: &[PushRow]) -> Vec<Outcome> {
    client.push(world, rows);
    for message in answers(world, client) {
        if let Message::Ack(Ack { outcomes }) = message {
            return outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        }
    }
    panic!("no answer")
}

/// Somebody who was there from the start.
fn reader(world: &mut World) -> Client {
    let mut reader = Client::new(9);
    reader.connect_as(world, "reader", true);
    reader
}

fn total(world: &mut World, mut reader: Client) -> i64 {
    reader.listen(world);
    let record = reader.base.get(&key("a")).cloned().unwrap_or_default();
    let mut cells = record.cells.values();
    match cells.next().map(|cell| &cell.state) {
        Some(State::Counter(counter)) => counter.total(),
        other => panic!("{other:?}"),
    }
}

fn stamp(client: &Client, row: &PushRow) -> Stamp {
    Stamp { hlc: row.hlc, replica: client.replica }
}

#[test]
fn b03_copy_of_a_row_is_taken_for_it_whichever_came_first() {
    for plain_first in [true, false] {
        let mut world = World::new();
        let mut reader = reader(&mut world);
        let (mut ann, mut bob) = (Client::new(1), Client::new(2));
        ann.connect(&mut world);
        let plain = adds(&mut ann, 1, 5);
        let origin = origin_of(&ann, &plain);
        bob.connect(&mut world);
        let copy = copy_of(&mut bob, 20, 5, &origin);
        let (first, second) = if plain_first { (&plain, &copy) } else { (&copy, &plain) };
        let (one, other) = if plain_first { (&ann, &mut bob) } else { (&bob, &mut ann) };
        let taken = stamp(one, first);
        let answers = outcomes(&mut world, one, std::slice::from_ref(first));
        assert!(matches!(answers[..], [Outcome::Accepted { .. }]), "{answers:?}");
        let answers = outcomes(&mut world, other, std::slice::from_ref(second));
        assert!(
            matches!(answers[..], [Outcome::Taken { number: 1, stamp, .. }] if stamp == taken),
            "{answers:?}"
        );
        let mut world = world.restart(2);
        reader.connect_as(&mut world, "reader", false);
        other.connect(&mut world);
        let answers = outcomes(&mut world, other, std::slice::from_ref(second));
        assert!(matches!(answers[..], [Outcome::Taken { .. }]), "{answers:?}");
        assert_eq!(total(&mut world, reader), 5);
    }
}

/// The store had taken the copy's commit and did not say so: whoever has the row under its first stamp was not told
/// that it counts, and his row, not known by its origin, counted once more.
#[test]
fn b03_who_has_a_row_of_which_a_copy_may_count_is_sent_away() {
    for happened in [true, false] {
        let mut world = World::new();
        let mut reader = reader(&mut world);
        let (mut ann, mut bob) = (Client::new(1), Client::new(2));
        ann.connect(&mut world);
        bob.connect(&mut world);
        let plain = adds(&mut ann, 1, 5);
        let copy = copy_of(&mut bob, 20, 5, &origin_of(&ann, &plain));
        world.fail_commit = Some((FaultClass::Transient, happened));
        bob.push(&mut world, &[copy]);
        ann.push(&mut world, std::slice::from_ref(&plain));
        world.pass(2_000);
        assert!(world.closed.contains_key(&ann.peer) && world.closed.contains_key(&bob.peer));
        ann.connect(&mut world);
        let told = outcomes(&mut world, &ann, &[plain]);
        let counts = matches!(told[..], [Outcome::Accepted { .. }]);
        assert_eq!(counts, !happened, "{told:?}");
        reader.listen(&mut world);
        assert_eq!(total(&mut world, reader), 5);
    }
}

/// The cells of a row behind it hold what the copied row added, too: it must be made anew.
#[test]
fn b03_rows_behind_a_copy_come_back_until_it_is_named() {
    let mut world = World::new();
    let reader = reader(&mut world);
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let plain = adds(&mut ann, 1, 5);
    outcomes(&mut world, &ann, std::slice::from_ref(&plain));
    let copy = copy_of(&mut bob, 20, 5, &origin_of(&ann, &plain));
    let behind = adds(&mut bob, 21, 7);
    let answers = outcomes(&mut world, &bob, &[copy, behind]);
    assert!(
        matches!(answers[..], [Outcome::Taken { number: 1, .. }, Outcome::Returned { number: 2 }]),
        "{answers:?}"
    );
    bob.named = 2;
    let again = adds(&mut bob, 22, 2);
    let answers = outcomes(&mut world, &bob, &[again]);
    assert!(matches!(answers[..], [Outcome::Accepted { .. }]), "{answers:?}");
    assert_eq!(total(&mut world, reader), 7);
}

#[test]
fn b03_rows_with_one_stamp_and_different_contents_both_count() {
    let mut world = World::new();
    let reader = reader(&mut world);
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let plain = adds(&mut ann, 1, 5);
    outcomes(&mut world, &ann, std::slice::from_ref(&plain));
    let mut other = origin_of(&ann, &plain);
    other.digest = [0xee; 16];
    let copy = copy_of(&mut bob, 20, 3, &other);
    assert!(matches!(outcomes(&mut world, &bob, &[copy])[..], [Outcome::Accepted { .. }]));
    assert_eq!(total(&mut world, reader), 8);
}

/// What both hold would be shown twice between the changes and the acknowledgement.
#[test]
fn who_may_have_a_copy_is_told_before_the_changes() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    assert_eq!(ann.connect(&mut world).copied, None);
    bob.connect(&mut world);
    let (first, second) = (adds(&mut ann, 1, 5), adds(&mut ann, 2, 8));
    let origins = [origin_of(&ann, &first), origin_of(&ann, &second)];
    let copy = copy_of(&mut bob, 20, 5, &origins[0]);
    outcomes(&mut world, &bob, std::slice::from_ref(&copy));
    let told = |world: &mut World, client: &Client| {
        let heard = world.hear(client.peer);
        let first = heard.iter().position(|message| matches!(message, Message::Changes(_)));
        let copied = heard.iter().position(|message| matches!(message, Message::Copied(_)));
        let rows = heard.into_iter().find_map(|message| match message {
            Message::Copied(copied) => Some(copied.rows),
            _ => None,
        });
        assert!(rows.is_none() || copied < first, "{copied:?} {first:?}");
        rows.unwrap_or_default()
    };
    let rows = told(&mut world, &ann);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].origin, rows[0].stamp), (origins[0], stamp(&bob, &copy)));
    // Who has named rows of another id hears of those that are accepted plainly, too.
    let again = adds(&mut ann, 3, 3);
    world.say(bob.peer, &Message::Recall(Recall { rows: vec![origin_of(&ann, &again)] }));
    let heard = answers(&mut world, &bob);
    assert!(matches!(&heard[..], [Message::Recalled(recalled)] if recalled.accepted.is_empty()));
    ann.push(&mut world, &[again]);
    let rows = told(&mut world, &bob);
    assert_eq!(rows.iter().map(|row| row.stamp.replica).collect::<Vec<_>>(), [ann.replica]);
    // A session that begins later is told that there are copies.
    let welcome = ann.connect(&mut world);
    assert_eq!(welcome.copied, Some(first.hlc));
    world.say(ann.peer, &Message::Recall(Recall { rows: origins.to_vec() }));
    let heard = answers(&mut world, &ann);
    assert!(
        matches!(&heard[..], [Message::Recalled(recalled)]
            if recalled.accepted.iter().map(|row| row.origin).eq([origins[0]])),
        "{heard:?}"
    );
}

/// The digest of a row tells what is in it to whoever can guess that, and shows who has a copy.
#[test]
fn who_names_rows_that_he_does_not_have_is_told_of_none() {
    let mut world = World::new();
    let (mut ann, mut eve) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    eve.connect_as(&mut world, "eve", true);
    let rows = [1, 2].map(|at| adds(&mut ann, at, 5 * at));
    let origins = [0, 1].map(|at| origin_of(&ann, &rows[at]));
    let guess = Origin { digest: [7; 16], ..origins[0] };
    world.say(eve.peer, &Message::Recall(Recall { rows: vec![guess, origins[1]] }));
    answers(&mut world, &eve);
    ann.push(&mut world, &rows);
    let told = answers(&mut world, &eve);
    assert!(
        matches!(&told[..], [Message::Copied(copied)]
            if copied.rows.iter().map(|row| row.origin).eq([origins[1]])),
        "{told:?}"
    );
}

#[test]
fn row_that_is_nobodys_copy_costs_no_word() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    let row = adds(&mut ann, 1, 5);
    ann.push(&mut world, &[row]);
    let heard = world.hear(bob.peer);
    assert!(
        matches!(&heard[..], [Message::Changes(changes)]
            if matches!(changes.entries[0].body, Body::Delta(_) | Body::Whole(_))),
        "{heard:?}"
    );
}

/// One bit flips in what stands under the origin of a row that was accepted as a copy.
fn damage(world: &World) {
    let rows = world.store.rows(Keyspace::Log).into_iter();
    let mut row = rows.rev().find(|row| row.key.len() == 40).unwrap();
    row.value[5] ^= 4;
    let mut batch = Batch::default();
    batch.put(Keyspace::Log, row.key, row.value);
    assert_eq!(block_on(world.store.commit(batch)), Ok(CommitOutcome::Applied));
}

/// Time for a pass of the scrub.
fn scrub(world: &mut World) {
    for _ in 0..40 {
        world.pass(1_000);
    }
}

fn mended(world: &World) -> Vec<Mended> {
    let told = world.notes.iter().filter_map(|note| match note {
        HostNote::Damaged { row: DamagedRow::Copy(_), mended } => Some(*mended),
        _ => None,
    });
    told.collect()
}

#[test]
fn copy_that_is_damaged_is_told_by_the_row_that_was_accepted() {
    let mut world = World::scrubbed();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    let plain = adds(&mut ann, 1, 5);
    let copy = copy_of(&mut bob, 20, 5, &origin_of(&ann, &plain));
    outcomes(&mut world, &bob, std::slice::from_ref(&copy));
    let stored = world.store.rows(Keyspace::Log);
    damage(&world);
    scrub(&mut world);
    // Under the origin that comes first there is no more than the origin; then the row tells the rest.
    assert_eq!(mended(&world).last(), Some(&Mended::Derived));
    assert_eq!(world.store.rows(Keyspace::Log), stored);
    ann.connect(&mut world);
    let answers = outcomes(&mut world, &ann, &[plain]);
    let own = stamp(&bob, &copy);
    assert!(matches!(answers[..], [Outcome::Taken { stamp, .. }] if stamp == own), "{answers:?}");
}

#[test]
fn row_whose_copy_is_damaged_is_unsure_and_counts_once() {
    let mut world = World::scrubbed();
    let mut reader = reader(&mut world);
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    let plain = adds(&mut ann, 1, 5);
    let origin = origin_of(&ann, &plain);
    let copy = copy_of(&mut bob, 20, 5, &origin);
    outcomes(&mut world, &bob, &[copy]);
    damage(&world);
    ann.connect(&mut world);
    let answers = outcomes(&mut world, &ann, std::slice::from_ref(&plain));
    let unsure = RejectCode::Unsure;
    assert!(
        matches!(answers[..], [Outcome::Rejected { code, .. }] if code == unsure),
        "{answers:?}"
    );
    assert_eq!(mended(&world), [Mended::Assumed]);
    world.say(ann.peer, &Message::Recall(Recall { rows: vec![origin] }));
    let heard = answers_of_recall(&mut world, &ann);
    assert_eq!((heard.accepted, heard.unsure), (vec![], vec![origin]));
    // What its user insists on is known to have been accepted all the same.
    ann.named = 1;
    let again = PushRow { insisted: true, ..copy_of(&mut ann, 30, 5, &origin) };
    let answers = outcomes(&mut world, &ann, std::slice::from_ref(&again));
    assert!(
        matches!(answers[..], [Outcome::Rejected { code, .. }] if code == unsure),
        "{answers:?}"
    );
    scrub(&mut world);
    assert_eq!(mended(&world).last(), Some(&Mended::Derived));
    ann.connect(&mut world);
    let answers = outcomes(&mut world, &ann, &[again]);
    assert!(matches!(answers[..], [Outcome::Taken { .. }]), "{answers:?}");
    reader.connect_as(&mut world, "reader", false);
    assert_eq!(total(&mut world, reader), 5);
}

/// Up to when rows were copied is not known: what waits is asked about.
#[test]
fn replica_of_which_it_is_lost_what_was_copied_asks_about_all_that_wait() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    bob.connect(&mut world);
    let plain = adds(&mut ann, 1, 5);
    let copy = copy_of(&mut bob, 20, 5, &origin_of(&ann, &plain));
    outcomes(&mut world, &bob, &[copy]);
    let rows = world.store.rows(Keyspace::Meta).into_iter();
    let mut row = rows.rev().find(|row| row.key.starts_with(b"copied/")).unwrap();
    row.value[0] ^= 1;
    let mut batch = Batch::default();
    batch.put(Keyspace::Meta, row.key, row.value);
    assert_eq!(block_on(world.store.commit(batch)), Ok(CommitOutcome::Applied));
    let clock = world.host.facts().clock;
    assert_eq!(ann.connect(&mut world).copied, Some(clock));
    let answers = outcomes(&mut world, &ann, &[plain]);
    assert!(matches!(answers[..], [Outcome::Taken { .. }]), "{answers:?}");
}

fn answers_of_recall(world: &mut World, client: &Client) -> Recalled {
    match answers(world, client).pop() {
        Some(Message::Recalled(recalled)) => recalled,
        other => panic!("{other:?}"),
    }
}
