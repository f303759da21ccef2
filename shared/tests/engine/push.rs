//! Rows of the outbox: each is sent, or the app hears of it.

use crate::world::{Client, Server, add, apply, change, damage, field, key, set, welcome};
use rejoin_core::{
    io::{Batch, Keyspace},
    message::limits::AHEAD_RETRY_AFTER,
    planted::Planted,
    protocol::{
        engine::{Notice, Wish, WishError},
        message::{Ack, Message, Mode, Outcome},
    },
    replica::{Action, ChangeError, FieldAction, FieldChange, Replica, RowState, WriteError},
    time::Millis,
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
    assert_eq!(client.rejected(), []);
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
    let other = Replica::found(client.engine.replica().id(), &[crate::world::pattern("tasks")]);
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

#[test]
fn row_that_lost_to_what_is_not_subscribed_to_is_refused_and_not_sent_for_ever() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    let mut other = Client::new(2, &["*"]);
    let key = key("tasks", "a");
    other.connect();
    other.written(add(&key, 5));
    let votes = FieldChange { field: field("votes"), action: FieldAction::Add(1) };
    other.written(change(&key, Action::Put(vec![votes])));
    server.settle(&mut [&mut other]);
    let blind = client.written(add(&key, 1));
    let good = client.written(set(&crate::world::key("notes", "a"), "goes on"));
    client.connect();
    server.settle(&mut [&mut client, &mut other]);
    assert_eq!(client.rejected(), [blind], "{:?}", client.notices);
    assert!(client.notices.contains(&Notice::Accepted(vec![good])));
    assert_eq!(other.total(&key, "votes"), 1);
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
