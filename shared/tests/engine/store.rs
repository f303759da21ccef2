//! Stores that fail in the middle: every wish is answered, and truly.

use crate::world::{Client, Fault, Server, key, name_of, set, welcome};
use rejoin_core::{
    id::SpaceId,
    io::{Answer, Batch, CommitOutcome, FaultClass, Keyspace, Page, Ticket},
    planted::Planted,
    protocol::{
        engine::{Engine, EngineConfig, Input, Notice, Output, Wish, WishError},
        message::{Identity, Message, Recalled, Welcome},
    },
    replica::{LoadError, log_number},
    testing::memory::MemoryStore,
    time::Now,
};

#[test]
fn write_whose_fate_cannot_be_read_is_unknown() {
    let mut client = Client::new(1, &["notes"]);
    client.commit_fault = Some(Fault::Once(FaultClass::Permanent, true));
    client.read_fault = Some(Fault::Once(FaultClass::Permanent, false));
    let id = client.write(set(&key("notes", "a"), "one"));
    let unknown = WishError::Unknown(FaultClass::Permanent);
    assert_eq!(client.done.get(&id), Some(&Err(unknown)));
    client.put(Input::Hint);
    let view = client.engine.replica().view(&key("notes", "a")).unwrap();
    assert!(view.is_live(), "it was durable");
}

#[test]
fn write_that_failed_and_is_not_in_the_log_changed_nothing() {
    let mut client = Client::new(1, &["notes"]);
    client.commit_fault = Some(Fault::Once(FaultClass::Full, false));
    let id = client.write(set(&key("notes", "a"), "one"));
    assert_eq!(client.done.get(&id), Some(&Err(WishError::Store(FaultClass::Full))));
}

/// Another tab's row took its place in the log, was accepted and left the log. It has a stamp of the same replica, not
/// before that of the write that failed: by the base alone that one seemed to be there, and the app was told so.
#[test]
fn write_that_failed_is_not_taken_for_that_of_another_tab() {
    let mut server = Server::new();
    let mut tab = Client::new(1, &["notes"]);
    tab.engine.plant(Planted::default(), Some(1));
    let mut late = Client::on(tab.store.clone(), 1, &["notes"]);
    tab.lead();
    late.put(Input::Hint);
    late.hold = true;
    let id = late.write(set(&key("notes", "a"), "never stored"));
    tab.written(set(&key("notes", "a"), "stored"));
    tab.connect();
    server.settle(&mut [&mut tab]);
    assert!(tab.engine.replica().folded() > 2, "the row has left the log");
    late.commit_fault = Some(Fault::Once(FaultClass::Transient, false));
    late.release();
    let unknown = WishError::Unknown(FaultClass::Transient);
    assert_eq!(late.done.get(&id), Some(&Err(unknown)));
}

#[test]
fn uncertain_write_is_not_waited_for_for_ever() {
    let mut client = Client::new(1, &["notes"]);
    client.commit_fault = Some(Fault::Always(FaultClass::Transient));
    client.read_fault = Some(Fault::Always(FaultClass::Transient));
    let id = client.write(set(&key("notes", "a"), "one"));
    assert_eq!(client.done.get(&id), None, "it is asked again");
    for _ in 0..60 {
        client.pass(1_000);
    }
    let unknown = WishError::Unknown(FaultClass::Transient);
    assert_eq!(client.done.get(&id), Some(&Err(unknown)));
}

fn with_a_rejected_row() -> (Client, u64) {
    let mut server = Server::new();
    server.locked = Some(name_of("locked"));
    let mut client = Client::new(1, &["locked"]);
    let number = client.written(set(&key("locked", "a"), "one"));
    client.connect();
    server.settle(&mut [&mut client]);
    assert_eq!(client.rejected(), [number]);
    client.disconnect();
    (client, number)
}

#[test]
fn wishes_about_rejected_rows_are_looked_for_in_the_log_too() {
    for happens in [true, false] {
        let (mut client, number) = with_a_rejected_row();
        let changes = set(&key("locked", "a"), "two");
        for wish in
            [Wish::Retry { number }, Wish::Edit { number, changes }, Wish::Discard { number }]
        {
            let (mut client, _) = with_a_rejected_row();
            client.commit_fault = Some(Fault::Once(FaultClass::Transient, happens));
            let id = client.ask(wish.clone());
            let done = client.done.get(&id).unwrap();
            assert_eq!(done.is_ok(), happens, "{wish:?} {done:?}");
            let kept = client.engine.replica().overlay().get(number).is_some();
            assert_eq!(kept, !happens, "{wish:?}");
        }
        client.commit_fault = Some(Fault::Once(FaultClass::Permanent, happens));
        client.read_fault = Some(Fault::Once(FaultClass::Permanent, false));
        let id = client.ask(Wish::Retry { number });
        let unknown = WishError::Unknown(FaultClass::Permanent);
        assert_eq!(client.done.get(&id), Some(&Err(unknown)));
    }
}

#[test]
fn store_that_answers_something_else_shows_no_empty_replica() {
    let config = EngineConfig {
        space: Some(SpaceId::parse("demo").unwrap()),
        patterns: vec![crate::world::pattern("notes")],
        fresh: rejoin_core::id::ReplicaId::from_bytes([1; 16]),
        token: None,
        trace: false,
        walk: rejoin_core::tree::WalkLimits::default(),
    };
    let mut engine = Engine::open(config).unwrap();
    assert!(matches!(engine.poll(), Some(Output::Query { .. })));
    let result = Ok(Vec::new());
    engine.handle(Now::default(), Input::Answered { ticket: Ticket(1), result });
    let mut told = core::iter::from_fn(|| engine.poll());
    let unreadable = |output: Output| matches!(output, Output::Notice(Notice::Unreadable(_)));
    assert!(told.any(unreadable));
    assert!(!engine.is_open());
}

#[test]
fn log_with_a_missing_entry_is_not_opened() {
    let mut client = Client::new(1, &["notes"]);
    for value in ["one", "two", "three"] {
        client.written(set(&key("notes", "a"), value));
    }
    let log = client.store.rows(Keyspace::Log);
    let missing = log[log.len() - 2].key.clone();
    let number = log_number(&missing).unwrap();
    let mut batch = Batch::default();
    batch.delete(Keyspace::Log, missing);
    crate::world::apply(&client.store, batch);
    let reopened = client.reopen(&["notes"]);
    assert!(!reopened.engine.is_open());
    assert_eq!(reopened.notices, [Notice::Refused(LoadError::Missing { number })]);
}

/// An empty store that could not be written was read and written again without a pause, and who had opened
/// it heard nothing.
#[test]
fn first_commit_that_fails_is_told_and_not_tried_again_at_once() {
    for happens in [true, false] {
        for class in [FaultClass::Full, FaultClass::Permanent, FaultClass::Transient] {
            let mut client = Client::unread(MemoryStore::new(), 1, &["notes"]);
            client.commit_fault = Some(Fault::Once(class, happens));
            client.run();
            assert!(!client.engine.is_open(), "{class:?}");
            assert_eq!(client.notices, [Notice::Unreadable(class)]);
            let later = client.engine.deadline();
            assert_eq!(later.is_some(), class == FaultClass::Transient, "{class:?} {later:?}");
            match later {
                Some(at) => client.pass(at.since(client.now.mono).0),
                None => client.put(Input::Hint),
            }
            assert!(client.engine.is_open(), "{class:?} {happens} {:?}", client.notices);
            client.written(set(&key("notes", "a"), "one"));
        }
    }
}

/// A store that forgets at once what it was told was founded again and again.
#[test]
fn store_that_keeps_nothing_is_given_up() {
    let config = EngineConfig {
        space: Some(SpaceId::parse("demo").unwrap()),
        patterns: vec![crate::world::pattern("notes")],
        fresh: rejoin_core::id::ReplicaId::from_bytes([1; 16]),
        token: None,
        trace: false,
        walk: rejoin_core::tree::WalkLimits::default(),
    };
    let mut engine = Engine::open(config).unwrap();
    let now = Now::default();
    let mut founded = 0;
    let mut told = Vec::new();
    while let Some(output) = engine.poll() {
        match output {
            Output::Query { ticket, .. } => {
                let page = Answer::Page(Page { rows: vec![], more: false });
                let none = Answer::Value(None);
                let nothing = [none.clone(), none.clone(), none.clone(), none, page.clone(), page];
                let result = Ok(nothing.to_vec());
                engine.handle(now, Input::Answered { ticket, result });
            }
            Output::Commit { ticket, .. } => {
                founded += 1;
                assert!(founded < 3, "without an end");
                let result = Ok(CommitOutcome::Applied);
                engine.handle(now, Input::Committed { ticket, result });
            }
            Output::Notice(notice) => told.push(notice),
            _ => {}
        }
    }
    assert_eq!((founded, told), (1, vec![Notice::Unreadable(FaultClass::Permanent)]));
}

fn shut(store: &MemoryStore, number: u8, space: Option<&str>) -> Client {
    Client::of_space(store.clone(), number, &["notes"], space)
}

fn refused(client: &Client) -> bool {
    let held = SpaceId::parse("demo").unwrap();
    !client.engine.is_open()
        && !client.engine.wants_connection()
        && client.notices.contains(&Notice::OtherSpace { held })
}

/// A browser's database is named by the app: one of space A that was opened with space B gave B what it had.
#[test]
fn database_of_another_space_is_refused() {
    let store = MemoryStore::new();
    let mut client = Client::on(store.clone(), 1, &["notes"]);
    client.written(set(&key("notes", "a"), "of demo"));
    let mut other = shut(&store, 2, Some("other"));
    let before = store.rows(Keyspace::Log);
    other.run();
    assert!(refused(&other), "{:?}", other.notices);
    let id = other.ask(Wish::Write { changes: set(&key("notes", "b"), "no"), relaxed: false });
    assert_eq!(other.done.get(&id), Some(&Err(WishError::Store(FaultClass::Permanent))));
    other.put(Input::Lead { token: [1; 16] });
    assert!(!other.engine.wants_connection());
    assert_eq!(store.rows(Keyspace::Log), before, "nothing was written");
    let mut again = client.reopen(&["notes"]);
    again.lead();
    assert!(again.engine.wants_connection());
}

#[test]
fn database_that_stayed_alone_belongs_to_the_first_space_that_it_is_opened_with() {
    let store = MemoryStore::new();
    let mut alone = shut(&store, 1, None);
    alone.run();
    alone.written(set(&key("notes", "a"), "before any space"));
    alone.lead();
    assert!(!alone.engine.wants_connection());
    // Both found it without a space: who is first binds it.
    let mut late = shut(&store, 1, Some("other"));
    late.hold = true;
    late.run();
    let mut first = shut(&store, 1, Some("demo"));
    first.run();
    late.release();
    assert!(refused(&late), "{:?}", late.notices);
    let mut server = Server::new();
    first.connect();
    server.settle(&mut [&mut first]);
    assert!(first.is_agreed());
    assert_eq!(server.store.rows(Keyspace::Feed).len(), 1);
    let mut alone = shut(&store, 1, None);
    alone.run();
    assert!(alone.engine.is_open(), "without a server it is anybody's");
}

/// It was asked for twice, the second time behind the reading of what the other one had written.
#[test]
fn space_that_another_holder_was_first_to_name_is_found_in_the_log() {
    let store = MemoryStore::new();
    shut(&store, 1, None).run();
    let mut late = shut(&store, 1, Some("other"));
    late.hold = true;
    late.run();
    late.step();
    assert!(late.engine.is_open());
    shut(&store, 1, Some("demo")).run();
    late.release();
    assert!(refused(&late), "{:?}", late.notices);
}

#[test]
fn fork_is_told_also_where_the_answer_to_its_commit_was_lost() {
    for class in [FaultClass::Transient, FaultClass::Permanent] {
        let mut client = Client::new(1, &["notes"]);
        client.write(set(&key("notes", "a"), "one"));
        client.connect();
        client.hello();
        let old = client.engine.replica().id();
        let forked = Welcome { identity: Identity::Forked, ..welcome(Vec::new()) };
        client.hear(&Message::Welcome(forked));
        client.said();
        client.commit_fault = Some(Fault::Once(class, true));
        client.hear(&Message::Recalled(Recalled { accepted: Vec::new(), unsure: Vec::new() }));
        client.pass(60_000);
        let new = client.engine.replica().id();
        assert_ne!(old, new);
        let told = |notice: &&Notice| matches!(notice, Notice::Reborn { .. });
        let told: Vec<_> = client.notices.iter().filter(told).collect();
        assert_eq!(told, [&Notice::Reborn { old, new }]);
    }
}
