//! Snapshots: what is in flight, what came damaged, what was cut off.

use crate::world::{Client, Server, key, set};
use rejoin_core::protocol::{engine::Notice, limits::CHUNKS_IN_FLIGHT_MAX};

/// More than a snapshot keeps in flight, in chunks of the usual size.
const RECORDS: u64 = 600;

/// A server with records for seven chunks or so.
fn filled() -> Server {
    let mut server = Server::new();
    let mut author = Client::new(9, &["*"]);
    for at in 0..RECORDS {
        let name = if at % 2 == 0 { "notes" } else { "tasks" };
        author.written(set(&key(name, &format!("r{at}")), &"text ".repeat(600)));
    }
    author.connect();
    server.settle(&mut [&mut author]);
    assert!(author.is_agreed());
    server
}

fn is_filled(client: &Client) {
    assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
    assert_eq!(client.engine.replica().base().len() as u64, RECORDS);
    assert!(!client.notices.iter().any(|notice| matches!(notice, Notice::Diverged { .. })));
}

#[test]
fn snapshot_asks_ahead_and_for_no_more_than_the_store_has_taken() {
    let mut server = filled();
    let mut client = Client::new(1, &["*"]);
    client.connect();
    while server.chunks == 0 {
        server.carry(1, &mut client);
    }
    client.hold = true;
    server.settle(&mut [&mut client]);
    assert_eq!(server.chunks, CHUNKS_IN_FLIGHT_MAX);
    assert_eq!(client.engine.replica().base().staged_len(), 0);
    client.hold = false;
    client.release();
    server.settle(&mut [&mut client]);
    assert!(server.chunks > CHUNKS_IN_FLIGHT_MAX);
    is_filled(&client);
}

#[test]
fn damaged_chunk_comes_again_and_what_was_behind_it_too() {
    let mut server = filled();
    let mut client = Client::new(1, &["*"]);
    server.damaged_chunks = 1;
    client.connect();
    server.settle(&mut [&mut client]);
    is_filled(&client);
    assert!(server.delivered.values().any(|times| *times > 1));
    assert!(server.delivered.values().all(|times| *times <= 2));
}

#[test]
fn snapshot_whose_chunks_stay_damaged_is_walked() {
    let mut server = filled();
    let mut client = Client::new(1, &["*"]);
    server.damaged_chunks = usize::MAX;
    client.connect();
    server.settle(&mut [&mut client]);
    is_filled(&client);
}

#[test]
fn snapshot_that_is_cut_off_again_and_again_goes_on_where_it_was() {
    let mut server = filled();
    let mut client = Client::new(1, &["*"]);
    let (mut staged, mut sessions) = (0, 0);
    while client.engine.replica().base().is_empty() {
        sessions += 1;
        assert!(sessions < 30, "no progress");
        client.connect();
        for _ in 0..14 {
            server.carry(1, &mut client);
            let now = client.engine.replica().base().staged_len() as u64;
            let visible = !client.engine.replica().base().is_empty();
            assert!(now >= staged || visible, "what has come stays");
            staged = now;
            if let Some(progress) = client.engine.status().progress
                && progress.records_total.is_some()
                && !visible
            {
                assert!(progress.records >= staged, "{progress:?}, {staged} staged");
                assert_eq!(progress.records_total, Some(RECORDS));
                assert!(progress.bytes > 0 || staged == RECORDS);
            }
        }
        client.disconnect();
    }
    assert!(sessions > 3, "{sessions} sessions");
    client.connect();
    server.settle(&mut [&mut client]);
    is_filled(&client);
}
