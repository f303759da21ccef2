//! Rows of the outbox: each is sent, or the app hears of it.

use crate::world::{
    Client, Fault, Server, WALL, add, after, apply, damage, field, key, set, welcome,
};
use rejoin_core::{
    codec::{encode_record, record_digest},
    hlc::{Hlc, Stamp},
    id::{ReplicaId, Seq},
    io::{Batch, FaultClass, Keyspace},
    message::limits::{AHEAD_RETRY_AFTER, FRAME_BYTES_MAX},
    planted::Planted,
    protocol::{
        engine::{Notice, Wish, WishError},
        message::{
            Ack, Body, Changes, Entry, Message, Mode, Outcome, Place, PushRow, RejectCode, Roots,
            Welcome,
        },
    },
    record::{Cell, Kind, Record, State, Value},
    replica::{
        Action, Change, ChangeError, FieldAction, FieldChange, Replica, RowState, WriteError,
    },
    time::{Millis, WallMillis},
};

/// A client whose base is in a page, with a row of the outbox on a record whose page is damaged then.
fn with_a_damaged_record(server: &mut Server) -> Client {
    let mut client = Client::new(1, &["*"]);
    client.engine.plant(Planted::default(), Some(1));
    client.connect();
    client.written(set(&key("notes", "a"), "first title"));
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    client.disconnect();
    client.written(set(&key("notes", "a"), "second title"));
    // Text of another length is no record any more.
    damage(&client.store, Keyspace::Page, b"\x6bfirst title", b"\x7bfirst title");
    let client = client.reopen(&["*"]);
    assert!(client.engine.replica().view(&key("notes", "a")).is_err());
    client
}

#[test]
fn row_on_a_damaged_record_is_sent_once_the_record_was_fetched_anew() {
    let mut server = Server::new();
    let mut client = with_a_damaged_record(&mut server);
    client.connect();
    server.settle(&mut [&mut client]);
    server.pass(10_000, &mut [&mut client]);
    assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
    assert!(client.rejected().is_empty(), "{:?}", client.notices);
    let mut other = Client::new(2, &["*"]);
    other.connect();
    server.settle(&mut [&mut other]);
    let (ours, theirs) = (client.engine.replica(), other.engine.replica());
    let key = key("notes", "a");
    assert_eq!(ours.view(&key), theirs.view(&key));
    assert!(format!("{:?}", theirs.view(&key).unwrap()).contains("second title"));
}

#[test]
fn row_that_can_never_be_made_is_refused_and_listed_and_others_go_on() {
    let mut server = Server::new();
    let client = with_a_damaged_record(&mut server);
    // A header that subscribes to something else: nobody will fetch the record anew.
    let other =
        Replica::found(client.engine.replica().id(), &[crate::world::pattern("tasks")], None);
    let batch = Batch { guards: Vec::new(), ..other };
    apply(&client.store, batch);
    let mut client = client.reopen(&["tasks"]);
    let (bad, _) = client.engine.replica().overlay().rows().next().unwrap();
    client.written(set(&key("tasks", "b"), "goes on"));
    client.connect();
    server.settle(&mut [&mut client]);
    // Such a header knows of no acknowledged row: its history forked.
    client.connect();
    server.settle(&mut [&mut client]);
    assert_eq!(client.rejected(), [bad], "{:?}", client.notices);
    let outbox = client.engine.replica().overlay();
    assert!(matches!(&outbox.get(bad).unwrap().state, RowState::Rejected { reason, .. }
        if reason.contains("damaged")));
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    assert_eq!(server.store.rows(Keyspace::Feed).len(), 2, "both records are there");
}

#[test]
fn many_rows_of_one_record_all_count_once() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["*"]);
    let mut other = Client::new(2, &["*"]);
    let key = key("notes", "a");
    for _ in 0..3_000 {
        client.write(add(&key, 1));
    }
    assert_eq!(client.total(&key, "votes"), 3_000);
    client.connect();
    other.connect();
    other.written(add(&key, 5));
    server.settle(&mut [&mut client, &mut other]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    for each in [&client, &other] {
        assert_eq!(each.total(&key, "votes"), 3_005);
    }
}

/// What was collected here is there again where a server was put back: the feed does not bring it.
#[test]
fn row_that_lost_to_what_the_feed_does_not_bring_waits_for_a_heal_and_is_not_sent_for_ever() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    let number = client.written(set(&key("notes", "a"), "on top of what is known"));
    client.said();
    let stale = |number| Outcome::Stale { number, seq: Seq(0) };
    client.hear(&Message::Ack(Ack { outcomes: vec![(number, stale(1))] }));
    let asked = client.said();
    assert!(matches!(asked.as_slice(), [Message::AskRoots(_)]), "{asked:?}");
    assert!(client.rejected().is_empty(), "{:?}", client.notices);
    let (seq, roots) = (Seq(0), vec![]);
    let (horizon, hlc) = (Hlc::default(), Hlc::default());
    let nothing = Roots { subscription: 0, seq, horizon, hlc, roots, more: false };
    client.hear(&Message::Roots(nothing));
    let place = Place { seq, key: None };
    let (after, upto) = (place.clone(), place);
    let (subscriptions, entries) = (vec![0], vec![]);
    let cut = Changes { subscriptions, after, upto, cut: true, entries, state: None };
    client.hear(&Message::Changes(cut));
    let again = client.said();
    assert!(again.iter().any(|message| matches!(message, Message::Push(_))), "{again:?}");
    client.hear(&Message::Ack(Ack { outcomes: vec![(number, stale(2))] }));
    assert_eq!(client.rejected(), [number], "{:?}", client.notices);
    client.pass(60_000);
    assert!(!client.said().iter().any(|message| matches!(message, Message::Push(_))));
}

/// What was made without a row that had been accepted, and was forgotten, took its marks back from some of its records.
fn pushed(client: &mut Client) -> Vec<PushRow> {
    let pushes = client.said().into_iter().filter_map(|message| match message {
        Message::Push(push) => Some(push.rows),
        _ => None,
    });
    pushes.flatten().collect()
}

/// A client of which two rows add to a number, the first of which is unsure; and what that has left.
fn client_with_an_unsure_row() -> (Client, u64, Record) {
    let mut client = Client::new(1, &["notes"]);
    client.engine.plant(Planted::default(), Some(1));
    let unsure = client.written(add(&key("notes", "a"), 5));
    let behind = client.written(add(&key("notes", "a"), 3));
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(Welcome { head: Seq(7), ..welcome(vec![(0, Mode::Feed)]) }));
    let rows = pushed(&mut client);
    assert_eq!(rows.len(), 2);
    let reason = String::from("forgotten");
    let outcomes = vec![
        (unsure, Outcome::Rejected { number: 1, code: RejectCode::Unsure, reason }),
        (behind, Outcome::Returned { number: 2 }),
    ];
    client.hear(&Message::Ack(Ack { outcomes }));
    assert_eq!(client.rejected(), [unsure]);
    assert!(pushed(&mut client).is_empty());
    (client, unsure, rows[0].writes[0].delta.clone())
}

/// It had been accepted, after all: what it has left comes, and what is behind it goes.
fn goes_on_upon(client: &mut Client, left: Record) {
    let digest = record_digest(&encode_record(&left));
    let entry = Entry {
        key: key("notes", "a"),
        seq: Seq(7),
        check: digest.as_bytes()[..8].try_into().unwrap(),
        proof: [0; 8],
        body: Body::Whole(left),
        conflicts: Vec::new(),
    };
    let changes = Changes {
        subscriptions: vec![0],
        after: Place::default(),
        upto: Place::at(Seq(7)),
        cut: true,
        entries: vec![entry],
        state: None,
    };
    client.hear(&Message::Changes(changes));
    let rows = pushed(client);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let own = row.writes[0].delta.cells.values().next().map(|cell| cell.state.clone());
    let Some(State::Counter(counter)) = own else { panic!("{row:?}") };
    assert_eq!(counter.total(), 8, "upon what it had left");
    assert_eq!(client.total(&key("notes", "a"), "votes"), 8);
}

#[test]
fn nothing_goes_behind_an_unsure_row_before_all_that_the_peer_had_has_come() {
    let (mut client, _, left) = client_with_an_unsure_row();
    goes_on_upon(&mut client, left);
}

/// Its user had given it up, and the next session sent what stood behind it at once: that took back what it had left.
#[test]
fn nothing_goes_behind_an_unsure_row_that_was_given_up_before_all_that_the_peer_had_has_come() {
    let (mut client, unsure, left) = client_with_an_unsure_row();
    client.ask(Wish::Discard { number: unsure });
    client.run();
    assert!(client.engine.replica().overlay().get(unsure).is_none());
    client.disconnect();
    client.pass(1_000);
    assert!(client.engine.replica().folded() >= unsure, "told by a page");
    let mut client = client.reopen(&["notes"]);
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(Welcome { head: Seq(7), ..welcome(vec![(0, Mode::Feed)]) }));
    assert!(pushed(&mut client).is_empty());
    goes_on_upon(&mut client, left);
}

#[test]
fn rows_ahead_of_a_clock_that_was_set_back_wait_and_say_so() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    let number = client.written(set(&key("notes", "a"), "one"));
    let mut pushes = 0;
    for _ in 0..100 {
        for message in client.said() {
            let Message::Push(push) = message else { continue };
            assert_eq!(push.rows[0].number, number);
            pushes += 1;
            let outcome = Outcome::Ahead { number: pushes, by: Millis(3_600_000) };
            client.hear(&Message::Ack(Ack { outcomes: vec![(number, outcome)] }));
        }
    }
    assert_eq!(pushes, 2, "once as written, once with a new stamp, then it waits");
    let delayed =
        |notice: &Notice| matches!(notice, Notice::Delayed { number: n, .. } if *n == number);
    assert!(client.notices.iter().any(delayed), "{:?}", client.notices);
    assert!(client.engine.deadline().is_some_and(|at| at <= client.now.mono + AHEAD_RETRY_AFTER));
    client.pass(AHEAD_RETRY_AFTER.0);
    assert!(client.said().iter().any(|message| matches!(message, Message::Push(_))));
    assert_eq!(client.engine.status().pending, 1);
}

#[test]
fn retry_at_the_end_of_the_clock_is_answered() {
    let mut server = Server::new();
    server.locked = Some(crate::world::name_of("locked"));
    let mut client = Client::new(1, &["notes", "locked"]);
    let number = client.written(set(&key("locked", "a"), "one"));
    client.connect();
    server.settle(&mut [&mut client]);
    assert_eq!(client.rejected(), [number]);
    client.disconnect();
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed), (1, Mode::Feed)])));
    crate::limits::last_tick(&mut client);
    let id = client.ask(Wish::Retry { number });
    let exhausted = WishError::Write(WriteError::Change(ChangeError::ClockExhausted));
    assert_eq!(client.done.get(&id), Some(&Err(exhausted)));
}

fn insert(id: usize, elements: Vec<Value>) -> Change {
    let tags = FieldChange { field: field("tags"), action: FieldAction::Insert(elements) };
    Change { key: key("notes", &format!("r{id}")), action: Action::Upsert(vec![tags]) }
}

/// So many records with forty tags each.
fn with_tags(count: usize, server: &mut Server, client: &mut Client) {
    for id in 0..count {
        let tag = |at| Value::text(&format!("tag number {at} of record, a long name {id}"));
        client.written(vec![insert(id, (0..40).map(tag).collect())]);
    }
    server.settle(&mut [client]);
    assert!(client.is_agreed());
}

fn one_more_tag(count: usize) -> Vec<Change> {
    (0..count).map(|id| insert(id, vec![Value::text("x")])).collect()
}

#[test]
fn batch_that_no_frame_can_carry_is_refused_when_it_is_written() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["*"]);
    client.connect();
    with_tags(1_000, &mut server, &mut client);
    let id = client.write(one_more_tag(1_000));
    let refused = client.done.get(&id);
    assert!(
        matches!(
            refused,
            Some(Err(WishError::Write(WriteError::Change(ChangeError::BatchTooLarge {
                unit: "bytes to send",
                ..
            }))))
        ),
        "{refused:?}"
    );
    client.written(one_more_tag(300));
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
}

#[test]
fn row_that_has_outgrown_a_frame_is_refused_and_others_go_on() {
    let mut server = Server::new();
    let mut other = Client::new(2, &["*"]);
    other.connect();
    server.settle(&mut [&mut other]);
    server.locked = Some(crate::world::name_of("notes"));
    let mut client = Client::new(1, &["*"]);
    client.connect();
    let forbidden = client.written(one_more_tag(1_000));
    server.settle(&mut [&mut client]);
    assert_eq!(client.rejected(), [forbidden]);
    with_tags(1_000, &mut server, &mut other);
    client.disconnect();
    server.locked = None;
    client.connect();
    server.settle(&mut [&mut client]);
    // On what came meanwhile the same row has every tag of every record.
    let id = client.ask(Wish::Retry { number: forbidden });
    let retried = client.done.get(&id).unwrap().as_ref().unwrap().number;
    let behind = client.written(set(&key("notes", "other"), "behind"));
    server.settle(&mut [&mut client]);
    assert_eq!(client.rejected(), [forbidden, retried]);
    let outbox = client.engine.replica().overlay();
    let state = outbox.get(retried).map(|row| &row.state);
    assert!(matches!(state, Some(RowState::Rejected { code: RejectCode::TooLarge, .. })));
    assert!(client.notices.contains(&Notice::Accepted(vec![behind])));
    assert!(client.is_agreed(), "{:?}", client.engine.status());
}

#[test]
fn rows_that_fit_a_frame_one_by_one_go_out_in_several() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["*"]);
    client.connect();
    with_tags(450, &mut server, &mut client);
    client.disconnect();
    client.written(set(&key("notes", "long"), &"x".repeat(250_000)));
    client.written(one_more_tag(450));
    client.connect();
    let mut longest = 0;
    while client.engine.status().pending > 0 {
        longest = client.sent.iter().map(Vec::len).fold(longest, usize::max);
        server.carry(1, &mut client);
    }
    assert!((FRAME_BYTES_MAX - 250_000..=FRAME_BYTES_MAX).contains(&longest), "{longest}");
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
}

/// Clients took the reading of a clock that was a year ahead for a time that they must not fall behind, and
/// wrote nothing that the server took for a year.
#[test]
fn server_whose_clock_was_ahead_for_a_moment_takes_writes_at_once() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    let right = server.now;
    server.now = after(right, 365 * 86_400_000);
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    server.now = after(right, 600_000);
    client.now = after(client.now, 600_000);
    client.connect();
    client.written(set(&key("notes", "a"), "after"));
    server.settle(&mut [&mut client]);
    assert_eq!(client.engine.status().pending, 0, "{:?}", client.notices);
    let record = client.engine.replica().view(&key("notes", "a")).unwrap();
    let stamp = record.seen.get(&client.engine.replica().id()).unwrap();
    assert!(stamp.wall() < after(right, 700_000).wall, "{stamp:?}");
}

/// What was written while the clock was ahead is there for good: who has seen it can only write behind it.
#[test]
fn writes_upon_those_of_a_clock_that_was_ahead_are_taken_at_once() {
    let mut server = Server::new();
    let mut clients = [Client::new(1, &["notes"]), Client::new(2, &["notes"])];
    let right = server.now;
    server.now = after(right, 365 * 86_400_000);
    let [one, two] = &mut clients;
    one.connect();
    two.connect();
    server.settle(&mut [one, two]);
    one.written(set(&key("notes", "a"), "in a year"));
    server.settle(&mut [one, two]);
    for client in [&mut *one, &mut *two] {
        client.disconnect();
        client.now = after(client.now, 600_000);
    }
    let mut server = Server::on(server.store.clone(), 2);
    server.now = after(right, 600_000);
    for round in 0..5 {
        for client in [&mut *one, &mut *two] {
            client.connect();
            for at in 0..20 {
                client.written(set(&key("notes", "a"), &format!("{round} {at}")));
            }
        }
        server.settle(&mut [one, two]);
        for client in [&mut *one, &mut *two] {
            assert_eq!(client.engine.status().pending, 0, "{round} {:?}", client.notices);
            client.disconnect();
        }
    }
    let shown = |client: &Client| client.engine.replica().view(&key("notes", "a")).unwrap();
    assert_eq!(shown(one), shown(two));
}

/// The clock moves with what it was moved by, in one commit: neither stays when it fails.
#[test]
fn p21_page_that_cannot_be_stored_moves_neither_the_records_nor_the_clock() {
    let stamp = |millis| Stamp {
        hlc: Hlc::at(WallMillis(WALL + millis)),
        replica: ReplicaId::from_bytes([9; 16]),
    };
    let entry = |at: u64| {
        let mut record = Record::default();
        let stamp = stamp(10_000 + at);
        record.seen.set(stamp.replica, stamp.hlc);
        let state = State::Lww { stamp, value: Some(Value::int(1)) };
        record.cells.insert((field("title"), Kind::Lww), Cell { since: None, state });
        let check = record_digest(&encode_record(&record)).as_bytes()[..8].try_into().unwrap();
        let (key, seq, conflicts) = (key("notes", &at.to_string()), Seq(at), Vec::new());
        Entry { key, seq, check, proof: [0; 8], body: Body::Whole(record), conflicts }
    };
    let changes = Changes {
        subscriptions: vec![0],
        after: Place::default(),
        upto: Place::at(Seq(3)),
        cut: true,
        entries: (1..=3).map(entry).collect(),
        state: None,
    };
    let mut client = Client::new(1, &["notes"]);
    let greet = |client: &mut Client| {
        client.connect();
        client.hello();
        client.hear(&Message::Welcome(Welcome { head: Seq(3), ..welcome(vec![(0, Mode::Feed)]) }));
    };
    greet(&mut client);
    let before = client.engine.replica().clock();
    client.commit_fault = Some(Fault::Once(FaultClass::Transient, false));
    client.hear(&Message::Changes(changes.clone()));
    for client in [&client, &client.reopen(&["notes"])] {
        assert_eq!(client.engine.replica().clock(), before);
        assert!(client.engine.replica().base().is_empty());
    }
    client.disconnect();
    greet(&mut client);
    client.hear(&Message::Changes(changes));
    for client in [&client, &client.reopen(&["notes"])] {
        assert_eq!(client.engine.replica().clock().last(), stamp(10_003).hlc);
        assert_eq!(client.engine.replica().base().len(), 3);
    }
}
