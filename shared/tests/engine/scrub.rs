//! What is damaged in a client's store while it runs is written again from memory, and trees that are not those of
//! the records are built anew.

use crate::{
    damage::{PATTERNS, World, places, with_a_log, with_folded_rows},
    world::{Client, Server, apply, key, set},
};
use rejoin_core::{
    io::{Batch, Keyspace, Row},
    planted::{Bug, Planted},
    protocol::engine::{Input, Notice},
    record::Record,
    replica::META_LEADER,
    testing::memory::MemoryStore,
};
use std::collections::BTreeMap;

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn views(client: &Client) -> BTreeMap<String, Record> {
    let replica = client.engine.replica();
    let base = replica.base().iter().map(|(key, _)| key);
    let keys = base.chain(replica.overlay().keys());
    keys.map(|key| (format!("{key}"), replica.view(key).unwrap())).collect()
}

fn mended(client: &Client) -> u64 {
    let mended = client.notices.iter().map(|notice| match notice {
        Notice::Mended { found } => *found,
        _ => 0,
    });
    mended.sum()
}

/// Long enough for a pass.
fn idle(client: &mut Client) {
    client.pass(60_000);
    (0..100).for_each(|_| client.pass(250));
}

fn spoil(store: &MemoryStore, keyspace: Keyspace, row: &Row, at: Option<usize>) {
    let mut batch = Batch::default();
    match at {
        Some(at) => {
            let mut value = row.value.clone();
            value[at] ^= 0x20;
            batch.put(keyspace, row.key.clone(), value);
        }
        None => batch.delete(keyspace, row.key.clone()),
    }
    apply(store, batch);
}

/// Nobody is asked for anything: there is no connection. Local writes that no peer has are among the rows.
fn check(world: &World) {
    for (keyspace, row) in world.rows() {
        if row.key == META_LEADER {
            continue;
        }
        let gone = (keyspace == Keyspace::Page).then_some(None);
        for at in places(&row.value).step_by(3).map(Some).chain(gone) {
            let story = format!("{}: {keyspace:?} {:?} {at:?}", world.name, row.key);
            let store = MemoryStore::from_image(world.client.clone());
            let mut client = Client::on(store, 1, &PATTERNS);
            let before = views(&client);
            let pending = client.engine.status().pending;
            client.lead();
            spoil(&client.store, keyspace, &row, at);
            idle(&mut client);
            assert_eq!(mended(&client), 1, "{story}: {:?}", client.notices);
            assert_eq!(views(&client), before, "{story}");
            let again = client.reopen(&PATTERNS);
            assert!(again.engine.is_open(), "{story}: {:?}", again.notices);
            assert!(again.engine.replica().damage().is_empty(), "{story}: {:?}", again.notices);
            assert_eq!(views(&again), before, "{story}");
            assert_eq!(again.engine.status().pending, pending, "{story}");
        }
    }
}

#[test]
fn row_that_is_damaged_while_the_store_is_open_is_written_again_from_memory() {
    check(&with_a_log());
    check(&with_folded_rows());
}

#[test]
fn store_is_read_back_once_a_day() {
    let world = with_folded_rows();
    let mut client = Client::on(MemoryStore::from_image(world.client), 1, &PATTERNS);
    client.lead();
    idle(&mut client);
    assert_eq!(mended(&client), 0, "{:?}", client.notices);
    let page = client.store.rows(Keyspace::Page).swap_remove(0);
    spoil(&client.store, Keyspace::Page, &page, Some(9));
    // Another holder of the lead knows when it was done.
    client.put(Input::Lead { token: [9; 16] });
    idle(&mut client);
    assert_eq!(mended(&client), 0);
    client.pass(DAY);
    idle(&mut client);
    assert_eq!(mended(&client), 1);
}

/// A leaf that is not updated makes every root differ, and no heal mends it: what it brings is there already.
#[test]
fn m01_tree_of_a_client_that_differs_from_its_records_is_found_and_rebuilt() {
    let mut server = Server::new();
    let mut other = Client::new(2, &["notes"]);
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    other.connect();
    server.settle(&mut [&mut client, &mut other]);
    client.engine.plant(Planted::new(Some(Bug::BaseLeafSkipped)), None);
    other.written(set(&key("notes", "a"), "one"));
    server.settle(&mut [&mut client, &mut other]);
    for _ in 0..3 {
        if client.engine.wants_connection() {
            client.connect();
        }
        server.settle(&mut [&mut client, &mut other]);
    }
    assert!(!client.engine.status().is_verified, "{:?}", client.engine.status());
    idle(&mut client);
    assert_eq!(mended(&client), 1, "{:?}", client.notices);
    if client.engine.wants_connection() {
        client.connect();
    }
    server.settle(&mut [&mut client, &mut other]);
    assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
}

/// Rows vanish from the log, as a disk loses a write that it had said to be done: those of local writes were gone for
/// good when the store was opened again, the others had it refused.
#[test]
fn entry_that_vanishes_from_the_log_is_written_again_from_memory() {
    for world in [with_a_log(), with_folded_rows()] {
        let log = MemoryStore::from_image(world.client.clone()).rows(Keyspace::Log);
        for row in log {
            let story = format!("{}: {:?}", world.name, row.key);
            let store = MemoryStore::from_image(world.client.clone());
            let mut client = Client::on(store, 1, &PATTERNS);
            let before = views(&client);
            let pending = client.engine.status().pending;
            client.lead();
            spoil(&client.store, Keyspace::Log, &row, None);
            idle(&mut client);
            assert_eq!(mended(&client), 1, "{story}: {:?}", client.notices);
            let again = client.reopen(&PATTERNS);
            assert!(again.engine.is_open(), "{story}: {:?}", again.notices);
            assert_eq!(views(&again), before, "{story}");
            assert_eq!(again.engine.status().pending, pending, "{story}");
        }
    }
}

/// What another holder has folded is not there any more, and nothing is damaged: one that has heard of it late, or was
/// frozen while it led, must not tell its user otherwise.
#[test]
fn fold_of_another_holder_is_not_taken_for_damage() {
    for led_before in [false, true] {
        let mut tab = Client::new(1, &PATTERNS);
        tab.engine.plant(Planted::default(), Some(4));
        let mut late = Client::on(tab.store.clone(), 2, &PATTERNS);
        late.engine.plant(Planted::default(), Some(4));
        tab.written(set(&key("notes", "a"), "one"));
        if led_before {
            late.lead();
        }
        tab.lead();
        if !led_before {
            late.put(Input::Hint);
        }
        let mut server = Server::new();
        tab.connect();
        server.settle(&mut [&mut tab]);
        assert!(tab.engine.replica().folded() > 2, "rows have left the log");
        if !led_before {
            late.lead();
            let folded = [&tab, &late].map(|tab| tab.engine.replica().folded());
            assert_eq!(folded[0], folded[1], "a new leader knows what the last one wrote");
        }
        idle(&mut late);
        assert_eq!(mended(&late), 0, "{led_before}: {:?}", late.notices);
        assert_eq!(views(&late), views(&tab), "{led_before}");
    }
}
