//! Presence: what tabs here show and what others do, over sessions.

use crate::world::{Client, Server, key, set, welcome};
use rejoin_core::{
    protocol::{
        engine::{Input, Notice},
        limits::{PRESENCE_BYTES_AIM, PRESENCE_EVERY, PRESENCE_TABS_MAX, PRESENCE_VALUE_BYTES_MAX},
        message::{ByeCode, FEATURE_PRESENCE, Message, Mode, Other, Others, Presence},
    },
    record::Value,
};

fn show(client: &mut Client, tab: u64, value: Value) {
    client.put(Input::Present { tab, value: Some(value) });
}

fn hide(client: &mut Client, tab: u64) {
    client.put(Input::Present { tab, value: None });
}

fn seen(client: &Client) -> Vec<Value> {
    client.engine.others().values().map(|other| other.value.clone()).collect()
}

fn connected(server: &mut Server, number: u8) -> Client {
    let mut client = Client::new(number, &["tasks"]);
    client.connect();
    server.settle(&mut [&mut client]);
    client
}

/// In a session with a scripted peer that has these features.
fn scripted(features: u64) -> Client {
    let mut client = Client::new(1, &["tasks"]);
    client.connect();
    let hello = client.hello();
    assert_ne!(hello.features & FEATURE_PRESENCE, 0);
    let mut welcome = welcome(vec![(0, Mode::Feed)]);
    welcome.features = features;
    client.hear(&Message::Welcome(welcome));
    client
}

fn said(client: &mut Client) -> Vec<Presence> {
    let said = client.said().into_iter().filter_map(|message| match message {
        Message::Presence(presence) => Some(presence),
        _ => None,
    });
    said.collect()
}

#[test]
fn tabs_are_seen_set_changed_cleared_and_gone_with_their_session() {
    let mut server = Server::new();
    let [mut ann, mut bob] = [1, 2].map(|number| connected(&mut server, number));
    show(&mut ann, 1, Value::int(1));
    bob.put(Input::Attend);
    let tick = PRESENCE_EVERY.0;
    server.pass(tick, &mut [&mut ann, &mut bob]);
    server.pass(tick, &mut [&mut ann, &mut bob]);
    assert_eq!(seen(&bob), [Value::int(1)]);
    assert_eq!(seen(&ann), [], "not oneself");
    show(&mut ann, 1, Value::int(2));
    show(&mut ann, 2, Value::int(9));
    server.pass(tick, &mut [&mut ann, &mut bob]);
    server.pass(tick, &mut [&mut ann, &mut bob]);
    assert_eq!(seen(&bob), [Value::int(2), Value::int(9)]);
    hide(&mut ann, 2);
    server.pass(tick, &mut [&mut ann, &mut bob]);
    server.pass(tick, &mut [&mut ann, &mut bob]);
    assert_eq!(seen(&bob), [Value::int(2)]);
    assert!(ann.store.rows(rejoin_core::io::Keyspace::Log).len() <= 3, "nothing is stored");
    bob.notices.clear();
    bob.disconnect();
    assert_eq!(seen(&bob), [], "nobody is known without a session");
    let nobody = Others { anew: true, ..Others::default() };
    assert_eq!(
        bob.notices.iter().filter(|told| **told == Notice::Others(nobody.clone())).count(),
        1
    );
    // What it showed itself is shown again, in the next session.
    show(&mut bob, 5, Value::text("bob"));
    bob.connect();
    server.settle(&mut [&mut ann, &mut bob]);
    server.pass(tick, &mut [&mut ann, &mut bob]);
    assert_eq!(seen(&bob), [Value::int(2)]);
    assert_eq!(seen(&ann), [Value::text("bob")]);
    bob.disconnect();
    bob.connect();
    server.settle(&mut [&mut ann, &mut bob]);
    server.pass(tick, &mut [&mut ann, &mut bob]);
    assert_eq!(seen(&ann), [Value::text("bob")], "the session before was superseded");
}

#[test]
fn latest_state_leaves_once_each_interval_and_the_last_one_always() {
    let mut client = scripted(FEATURE_PRESENCE);
    show(&mut client, 1, Value::int(0));
    let first = Presence { here: vec![(1, Value::int(0))], gone: Vec::new() };
    assert_eq!(said(&mut client), [first], "at once");
    let mut messages = 0;
    for at in 1..=1_000 {
        show(&mut client, 1, Value::int(at));
        client.pass(1);
        messages += said(&mut client).len();
    }
    assert_eq!(messages, 20);
    show(&mut client, 1, Value::int(5));
    let due = client.engine.deadline().unwrap();
    client.pass(due.0 - client.now.mono.0);
    assert_eq!(said(&mut client)[0].here, [(1, Value::int(5))]);
    show(&mut client, 1, Value::int(5));
    show(&mut client, 2, Value::int(5));
    hide(&mut client, 2);
    client.pass(PRESENCE_EVERY.0);
    assert_eq!(said(&mut client), [], "nothing that the peer does not know");
}

#[test]
fn rows_go_first_and_behind_some_bytes_an_answer_is_waited_for() {
    let mut client = scripted(FEATURE_PRESENCE);
    client.said();
    let number = client.written(set(&key("tasks", "a"), &"x".repeat(5_000)));
    show(&mut client, 1, Value::int(1));
    client.pass(PRESENCE_EVERY.0);
    assert_eq!(said(&mut client), [], "a large row is on its way");
    let seq = rejoin_core::id::Seq(1);
    let outcome = rejoin_core::protocol::message::Outcome::Accepted { seq };
    let outcomes = vec![(number, outcome)];
    client.hear(&Message::Ack(rejoin_core::protocol::message::Ack { outcomes }));
    assert_eq!(said(&mut client)[0].here, [(1, Value::int(1))], "it has arrived");
    let value = |at: usize| Value::text(&format!("{at:4000}"));
    let mut bytes = 0;
    let mut ping = None;
    for at in 0..20 {
        show(&mut client, 1, value(at));
        client.pass(PRESENCE_EVERY.0);
        for message in client.said() {
            match message {
                Message::Presence(_) => bytes += 4_000,
                Message::Ping { nonce } => ping = Some(nonce),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((PRESENCE_BYTES_AIM - 4_000..PRESENCE_BYTES_AIM + 4_000).contains(&bytes), "{bytes}");
    client.hear(&Message::Pong { nonce: ping.unwrap(), state: None });
    assert_eq!(said(&mut client)[0].here, [(1, value(19))], "those between were left out");
}

#[test]
fn peer_without_the_feature_is_sent_nothing_and_may_send_nothing() {
    let mut client = scripted(0);
    show(&mut client, 1, Value::int(1));
    client.pass(1_000);
    assert_eq!(said(&mut client), []);
    assert!(client.engine.deadline().unwrap() > client.now.mono, "nor is it waited for");
    client.hear(&Message::Others(Others::default()));
    assert!(
        matches!(client.said().pop(), Some(Message::Bye(bye)) if bye.code == ByeCode::Misbehaved)
    );
}

#[test]
fn nothing_is_asked_or_told_before_the_app_wants_it() {
    let mut client = scripted(FEATURE_PRESENCE);
    client.pass(1_000);
    assert_eq!(said(&mut client), []);
    client.put(Input::Attend);
    assert_eq!(said(&mut client), [Presence::default()], "asks who is there");
    client.pass(1_000);
    assert_eq!(said(&mut client), [], "once");
}

#[test]
fn values_and_tabs_beyond_a_limit_are_not_taken() {
    let text = |bytes: usize| Value::text(&"x".repeat(bytes - 3));
    for (bytes, good) in [(-1, true), (0, true), (1, false)] {
        let bytes = PRESENCE_VALUE_BYTES_MAX.checked_add_signed(bytes).unwrap();
        assert_eq!(Presence::admit(&text(bytes)).ok(), good.then_some(bytes));
        let mut client = scripted(FEATURE_PRESENCE);
        show(&mut client, 1, text(bytes));
        assert_eq!(said(&mut client)[0].here.len(), usize::from(good));
        let other = Other { id: 1, principal: String::from("bob"), value: text(bytes) };
        client.hear(&Message::Others(Others { anew: false, here: vec![other], gone: Vec::new() }));
        assert_eq!(client.closed.is_empty(), good, "nor taken in");
    }
    for (tabs, taken) in [(-1, -1), (0, 0), (1, 0)] {
        let [tabs, taken] =
            [tabs, taken].map(|by| PRESENCE_TABS_MAX.checked_add_signed(by).unwrap());
        let mut client = Client::new(1, &["tasks"]);
        (0..tabs as u64).for_each(|tab| show(&mut client, tab, Value::int(1)));
        client.connect();
        client.hello();
        let mut welcome = welcome(vec![(0, Mode::Feed)]);
        welcome.features = FEATURE_PRESENCE;
        client.hear(&Message::Welcome(welcome));
        assert_eq!(said(&mut client)[0].here.len(), taken);
    }
}
