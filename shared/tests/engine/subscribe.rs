//! Subscriptions that come later, and overlap.

use crate::world::{Client, Server, key, name_of, pattern, set};
use rejoin_core::{id::Pattern, protocol::engine::Notice};

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
    two.put(rejoin_core::protocol::engine::Input::Hint);
    assert_eq!(patterns(&one), patterns(&two));
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    two.put(rejoin_core::protocol::engine::Input::Hint);
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
    one.put(rejoin_core::protocol::engine::Input::Hint);
    assert_eq!(one.closed.len(), 1);
    one.connect();
    server.settle(&mut [&mut one, &mut author]);
    assert!(one.is_agreed(), "{:?}", one.engine.status());
    holds(&one, &NAMES);
    assert_eq!(patterns(&one), patterns(&two));
}
