//! Rows of one holder that are sent while another holder of the store, with other subscriptions, leads.

use crate::world::{Client, Server, add, change, field, key, set};
use rejoin_core::{
    id::RecordKey,
    protocol::engine::WishError,
    replica::{Action, ChangeError, FieldAction, FieldChange, WriteError},
};

fn note() -> RecordKey {
    key("notes", "r1")
}

#[test]
fn row_that_was_sent_for_another_holder_stays_shown() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.written(set(&note(), "old"));
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    client.written(set(&note(), "mine, offline"));
    let mine = client.engine.replica().view(&note()).unwrap();
    let mut other = client.reopen(&["tasks"]);
    other.connect();
    server.settle(&mut [&mut other]);
    assert_eq!(other.engine.status().pending, 0);
    other.disconnect();
    let client = other.reopen(&["notes"]);
    assert_eq!(client.engine.replica().view(&note()).unwrap(), mine);
}

#[test]
fn acknowledged_row_over_two_subscriptions_stays_shown_when_one_would_rest() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes", "tasks"]);
    client.connect();
    server.settle(&mut [&mut client]);
    let both = [set(&note(), "mine"), set(&key("tasks", "r1"), "mine")].concat();
    client.written(both);
    for _ in 0..20 {
        if client.engine.status().pending == 0 {
            break;
        }
        server.carry(1, &mut client);
    }
    assert!(!client.engine.replica().overlay().is_empty());
    let mine = client.engine.replica().view(&note()).unwrap();
    client.disconnect();
    let mut other = client.reopen(&["tasks"]);
    other.connect();
    server.settle(&mut [&mut other]);
    assert_eq!(other.engine.replica().view(&note()).unwrap(), mine);
}

/// An increment is a tally on top of those before: made from a base that lacks one, it repeats it, and the
/// peer counts both once.
#[test]
fn increments_build_on_those_that_were_sent_for_another_holder() {
    for (leader, is_connected) in [("notes", false), ("tasks", false), ("tasks", true)] {
        let mut server = Server::new();
        let mut author = Client::new(9, &["*"]);
        author.connect();
        let mut client = Client::new(1, &["notes"]);
        client.connect();
        client.written(add(&note(), 5));
        server.settle(&mut [&mut client, &mut author]);
        client.disconnect();
        client.written(add(&note(), 1));
        let mut other = client.reopen(&[leader]);
        other.connect();
        server.settle(&mut [&mut other, &mut author]);
        assert_eq!(author.total(&note(), "votes"), 6);
        other.disconnect();
        let mut client = other.reopen(&["notes"]);
        if is_connected {
            client.connect();
            server.settle(&mut [&mut client, &mut author]);
        }
        client.written(add(&note(), 1));
        if !is_connected {
            client.connect();
        }
        server.settle(&mut [&mut client, &mut author]);
        assert!(client.is_agreed());
        assert_eq!(author.total(&note(), "votes"), 7, "{leader} {is_connected}");
    }
}

#[test]
fn stale_row_is_made_again_while_another_holder_leads() {
    let mut server = Server::new();
    let mut author = Client::new(9, &["*"]);
    author.connect();
    author.written(add(&note(), 5));
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    server.settle(&mut [&mut client, &mut author]);
    client.disconnect();
    client.written(add(&note(), 1));
    let votes = FieldChange { field: field("votes"), action: FieldAction::Add(1) };
    author.written(change(&note(), Action::Put(vec![votes])));
    server.settle(&mut [&mut author]);
    let mut other = client.reopen(&["tasks"]);
    other.connect();
    server.settle(&mut [&mut other, &mut author]);
    assert_eq!(other.rejected(), [] as [u64; 0]);
    assert_eq!(author.total(&note(), "votes"), 2);
}

/// What others wrote there never comes, so that each increment would be built on nothing.
#[test]
fn write_to_what_is_not_subscribed_to_is_refused() {
    let mut client = Client::new(1, &["tasks"]);
    let id = client.write([set(&key("tasks", "a"), "fine"), add(&note(), 1)].concat());
    let refused = WriteError::Change(ChangeError::NotSubscribed(note()));
    assert_eq!(client.done[&id], Err(WishError::Write(refused)));
    assert_eq!(client.engine.status().pending, 0);
}
