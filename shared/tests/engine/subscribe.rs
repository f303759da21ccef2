//! Subscriptions that come later, and overlap.

use crate::world::{Client, Server, key, name_of, pattern, set};
use rejoin_core::{
    id::{Pattern, ReplicaId, SpaceId},
    protocol::{
        engine::{ConfigError, Engine, EngineConfig, Input, Notice},
        limits::SUBSCRIPTIONS_MAX,
    },
};

const NAMES: [&str; 4] = ["notes", "tasks", "tasks/1", "tasks/2"];

/// A server with records in every collection.
fn filled() -> (Server, Client) {
    let mut server = Server::new();
    let mut author = Client::new(9, &["*"]);
    for name in NAMES {
        for at in 0..40 {
            author.written(set(&key(name, &format!("r{at}")), &"text ".repeat(20)));
        }
    }
    author.connect();
    server.settle(&mut [&mut author]);
    assert!(author.is_agreed(), "{:?}", author.engine.status());
    (server, author)
}

fn holds(client: &Client, names: &[&str]) {
    for name in NAMES {
        let count = client.engine.replica().base().collection(&name_of(name)).count();
        assert_eq!(count, if names.contains(&name) { 40 } else { 0 }, "{name}");
    }
}

fn patterns(client: &Client) -> Vec<Pattern> {
    client.engine.replica().standings().iter().map(|(pattern, _)| pattern.clone()).collect()
}

fn diverged(client: &Client) -> bool {
    client.notices.iter().any(|notice| matches!(notice, Notice::Diverged { .. }))
}

#[test]
fn narrow_then_widened_subscription_is_filled_completely() {
    let (mut server, mut author) = filled();
    let mut client = Client::new(1, &["tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed());
    holds(&client, &["tasks/1"]);
    client.disconnect();
    let pending = client.written(set(&key("tasks/1", "r0"), "written in between"));
    for wide in [&["tasks/*"][..], &["tasks/1", "*"]] {
        let mut client = client.reopen(wide);
        client.connect();
        // What changes while it is filled.
        author.written(set(&key("tasks/1", "r1"), "changed in between"));
        server.settle(&mut [&mut client, &mut author]);
        server.pass(10_000, &mut [&mut client, &mut author]);
        assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
        assert!(!diverged(&client), "{:?}", client.notices);
        holds(&client, if wide.len() == 1 { &NAMES[1..] } else { &NAMES });
        assert_eq!(patterns(&client), [pattern(wide[wide.len() - 1])]);
        let most = server.delivered.iter().filter(|((_, key), _)| key.id.as_str() == "r5");
        assert!(most.clone().all(|(_, times)| *times == 1), "nothing comes twice");
        // It is live, everywhere.
        for name in &NAMES[1..] {
            author.written(set(&key(name, "r2"), "live"));
        }
        server.settle(&mut [&mut client, &mut author]);
        for name in &NAMES[1..] {
            let (ours, theirs) = (client.engine.replica(), author.engine.replica());
            assert_eq!(ours.view(&key(name, "r2")), theirs.view(&key(name, "r2")), "{name}");
            assert_eq!(ours.view(&key(name, "r0")), theirs.view(&key(name, "r0")), "{name}");
        }
        assert!(client.is_agreed());
        let reopened = client.reopen(wide);
        assert_eq!(patterns(&reopened), patterns(&client), "the log knows");
        assert!(client.engine.replica().overlay().get(pending).is_none());
        client.disconnect();
    }
}

#[test]
fn widened_subscription_is_filled_completely_though_it_is_cut_at_every_message() {
    for cut_after in 1..40 {
        let (mut server, mut author) = filled();
        let mut client = Client::new(1, &["tasks/1"]);
        client.connect();
        server.settle(&mut [&mut client, &mut author]);
        client.disconnect();
        let mut client = client.reopen(&["*"]);
        client.connect();
        server.carry(cut_after, &mut client);
        client.disconnect();
        let mut client = client.reopen(&["*"]);
        client.connect();
        server.settle(&mut [&mut client, &mut author]);
        server.pass(10_000, &mut [&mut client, &mut author]);
        assert!(client.is_agreed(), "{cut_after} {:?}", client.engine.status());
        assert!(!diverged(&client), "{cut_after} {:?}", client.notices);
        holds(&client, &NAMES);
    }
}

#[test]
fn narrowed_subscription_keeps_all_and_stays_equal() {
    let (mut server, mut author) = filled();
    let mut client = Client::new(1, &["*", "tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client, &mut author]);
    client.disconnect();
    let mut client = client.reopen(&["tasks/*", "tasks/2"]);
    client.connect();
    author.written(set(&key("notes", "r1"), "changed"));
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    holds(&client, &NAMES);
    assert_eq!(patterns(&client), [Pattern::All]);
}

/// Each counted the other's new subscription as its own once, and took its cursor for it.
#[test]
fn tabs_with_other_patterns_number_subscriptions_alike() {
    let (mut server, mut author) = filled();
    let mut one = Client::new(1, &["notes"]);
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    one.disconnect();
    let mut two = one.reopen(&["tasks/1"]);
    let mut one = one.reopen(&["tasks/2"]);
    two.put(Input::Hint);
    assert_eq!(patterns(&one), patterns(&two));
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    // Who leads put to rest what it does not ask for; who does asks again.
    two.put(Input::Hint);
    one.put(Input::Hint);
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    two.put(Input::Hint);
    for tab in [&one, &two] {
        holds(tab, &["notes", "tasks/1", "tasks/2"]);
    }
    assert!(one.is_agreed());
}

/// The leader's session knows nothing of what another tab subscribes to: it begins anew.
#[test]
fn subscription_of_another_tab_is_taken_up_by_the_leader() {
    let (mut server, mut author) = filled();
    let mut one = Client::new(1, &["notes"]);
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    let two = one.reopen(&["*"]);
    one.put(Input::Hint);
    assert_eq!(one.closed.len(), 1);
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    assert!(one.is_agreed(), "{:?}", one.engine.status());
    holds(&one, &NAMES);
    assert_eq!(patterns(&one), patterns(&two));
}

/// The collections of an app come and go over its life. Every one it ever had was named in each hello,
/// until the hello was longer than may be, for ever; and one without a right to it closed the space.
#[test]
fn subscriptions_that_nobody_asks_for_rest_and_are_taken_up_where_they_are() {
    let (mut server, mut author) = filled();
    let mut client = Client::new(1, &["tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client, &mut author]);
    client.disconnect();
    for version in 0..=SUBSCRIPTIONS_MAX {
        let mut later = Client::on(client.store.clone(), 1, &[&format!("docs/{version}")]);
        later.lead();
    }
    let mut client = client.reopen(&["notes"]);
    client.connect();
    let frame = client.sent[0].clone();
    let asked = client.hello().subscriptions;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].pattern, pattern("notes"));
    client.sent.push_back(frame);
    author.written(set(&key("tasks/1", "r1"), "changed meanwhile"));
    server.settle(&mut [&mut client, &mut author]);
    // What rests holds back neither the status nor the outbox.
    client.written(set(&key("notes", "r1"), "mine"));
    author.written(set(&key("tasks/1", "r2"), "changed, too"));
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    assert!(client.engine.replica().overlay().is_empty());
    client.disconnect();
    let before = server.delivered.len();
    let mut client = client.reopen(&["tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    assert!(!diverged(&client));
    assert_eq!(server.delivered.len() - before, 2, "what it had is not sent again");
    for id in ["r1", "r2", "r3"] {
        let key = key("tasks/1", id);
        let (ours, theirs) = (client.engine.replica(), author.engine.replica());
        assert_eq!(ours.view(&key), theirs.view(&key), "{id}");
    }
}

#[test]
fn acknowledged_row_is_shown_while_the_subscription_that_it_waits_for_rests() {
    let (mut server, _) = filled();
    let mut client = Client::new(1, &["tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client]);
    client.written(set(&key("tasks/1", "r1"), "mine"));
    // The acknowledgement, and no more.
    for _ in 0..20 {
        if client.engine.status().pending == 0 {
            break;
        }
        server.carry(1, &mut client);
    }
    assert!(!client.engine.replica().overlay().is_empty());
    client.disconnect();
    let mut client = client.reopen(&["notes"]);
    client.lead();
    let shown = |client: &Client| client.engine.replica().view(&key("tasks/1", "r1")).unwrap();
    let mine = shown(&client);
    assert!(mine.seen.get(&client.engine.replica().id()).is_some());
    let mut client = client.reopen(&["tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client]);
    assert_eq!(shown(&client), mine);
    assert!(client.engine.replica().overlay().is_empty());
}

/// What a resting subscription had staged kept the log from being folded, for ever.
#[test]
fn subscription_that_rests_half_filled_keeps_nothing_staged() {
    let (mut server, mut author) = filled();
    author.written(set(&key("tasks/1", "r4"), "later"));
    server.settle(&mut [&mut author]);
    let mut client = Client::new(1, &["tasks/1"]);
    client.connect();
    for _ in 0..40 {
        if client.engine.replica().base().staged_len() > 0 {
            break;
        }
        server.carry(1, &mut client);
    }
    assert!(client.engine.replica().base().staged_len() > 0);
    client.disconnect();
    let mut client = client.reopen(&["notes"]);
    client.lead();
    assert_eq!(client.engine.replica().base().staged_len(), 0);
    let mut client = client.reopen(&["tasks/1"]);
    client.connect();
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed());
    holds(&client, &["tasks/1"]);
}

#[test]
fn more_patterns_than_a_hello_can_name_are_refused() {
    let config = |count: usize, wide: &str| EngineConfig {
        space: Some(SpaceId::parse("demo").unwrap()),
        patterns: (0..count)
            .map(|at| pattern(&format!("docs/{at}")))
            .chain([pattern(wide)])
            .collect(),
        fresh: ReplicaId::from_bytes([1; 16]),
        token: None,
        trace: false,
        walk: rejoin_core::tree::WalkLimits::default(),
    };
    let refused = Engine::open(config(SUBSCRIPTIONS_MAX, "notes")).err();
    let (patterns, max) = (SUBSCRIPTIONS_MAX + 1, SUBSCRIPTIONS_MAX);
    assert_eq!(refused, Some(ConfigError::TooManyPatterns { patterns, max }));
    assert!(Engine::open(config(SUBSCRIPTIONS_MAX - 1, "notes")).is_ok());
    assert!(Engine::open(config(SUBSCRIPTIONS_MAX, "docs/*")).is_ok(), "one stands for all");
}
