//! Roots that differ and should not, databases that come back empty, servers that are not the same.

use crate::world::{Client, Server, add, key, set};
use rejoin_core::{
    codec::seal,
    io::{Batch, Keyspace, Row},
    protocol::{
        engine::{Link, Notice},
        host::HostNote,
        message::{ByeCode, Message},
        wire,
    },
    testing::memory::MemoryStore,
};

/// A client and a server that agreed, before a row of the server's tree was spoilt in its store.
fn spoilt() -> (Server, Client) {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    for at in 0..40 {
        client.written(set(&key("notes", &format!("r{at}")), "kept"));
    }
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    let mut batch = Batch::default();
    let Row { key, mut value } = server.store.rows(Keyspace::Tree).swap_remove(7);
    // In the middle of the digest, by a defect that seals what it writes.
    value[12] ^= 1;
    let tag = value.pop().unwrap();
    value.truncate(value.len() - 8);
    batch.put(Keyspace::Tree, key, seal(tag, value));
    crate::world::apply(&server.store, batch);
    (Server::on(server.store, 2), client)
}

/// What was missed when a tree was written would be "in sync" for ever, if anybody took a root for granted.
#[test]
fn m01_tree_that_is_not_that_of_its_data_is_never_taken_for_agreement() {
    let (mut server, mut client) = spoilt();
    let mut newcomer = Client::new(2, &["notes"]);
    for client in [&mut client, &mut newcomer] {
        client.connect();
        server.settle(&mut [&mut *client]);
        assert!(!client.engine.status().is_verified);
        assert!(client.notices.iter().any(|notice| matches!(notice, Notice::Diverged { .. })));
        assert_eq!(client.engine.replica().base().iter().count(), 40, "and nothing is lost for it");
    }
}

/// Both sides list the same records, and the roots differ all the same.
#[test]
fn m02_mismatch_that_no_heal_mends_ends_after_some_rounds_and_says_so() {
    let (mut server, mut client) = spoilt();
    for session in 1..4 {
        server.walks.clear();
        client.connect();
        server.settle(&mut [&mut client]);
        assert!(server.walks.len() <= 3 * 8, "{} steps in one session", server.walks.len());
        let alarms = client.notices.iter().filter(
            |notice| matches!(notice, Notice::Diverged { ours, theirs, .. } if ours != theirs),
        );
        assert!(alarms.count() >= session, "both roots are told");
        let ends = client.notices.iter().filter(
            |notice| matches!(notice, Notice::Ended { code, .. } if *code == ByeCode::Internal),
        );
        assert_eq!(ends.count(), session);
        assert_eq!(client.engine.status().link, Link::Offline);
        client.disconnect();
    }
    // What is written meanwhile gets there.
    client.written(set(&key("notes", "new"), "kept"));
    client.connect();
    server.settle(&mut [&mut client]);
    assert_eq!(client.engine.status().pending, 0);
}

/// A browser took the database away: what comes up empty is new, and asks instead of telling.
#[test]
fn b10_database_that_comes_up_empty_is_a_new_replica_and_removes_nothing() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    for at in 0..20 {
        client.written(set(&key("notes", &format!("r{at}")), "kept"));
    }
    client.connect();
    server.settle(&mut [&mut client]);
    let (head, id) = (server.host.facts().head, client.engine.replica().id());
    let roots = server.host.facts().collections;
    client.disconnect();
    // Its owner draws ids anew: nothing of the old database is left to take one from.
    let mut client = Client::on(MemoryStore::new(), 3, &["notes"]);
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    assert_ne!(client.engine.replica().id(), id);
    assert_eq!(client.engine.replica().base().iter().count(), 20);
    assert_eq!((server.host.facts().head, server.host.facts().collections), (head, roots));
}

/// A balancer between two servers of their own histories and secrets: whoever flips heals, and what passes then does
/// not grow with what is held. It comes back no faster than a client that loses its connection. What is written on
/// the way counts once at both, and each server tells that there is another one.
#[test]
fn p13_client_that_flips_between_two_servers_moves_nothing_again() {
    let start = |number: u8| {
        Server::with(MemoryStore::new(), number, |config| config.proof_key = [number; 32])
    };
    let (mut blue, mut green) = (start(1), start(2));
    let mut client = Client::new(1, &["notes"]);
    for at in 0..2_000 {
        client.written(set(&key("notes", &format!("r{at}")), "kept"));
    }
    // Each end of a session that has not been live: at most one hello more, told the past.
    for flip in 0..12 {
        let server = if flip % 2 == 0 { &mut blue } else { &mut green };
        let mut bytes = 0;
        let mut hellos = 0;
        while !client.is_agreed() {
            client.connect();
            hellos += 1;
            loop {
                for frame in &client.sent {
                    bytes += frame.len();
                    let refill = matches!(wire::decode(&frame[1..]), Ok(Message::Refill(_)));
                    assert!(!refill || flip < 2, "flip {flip} brings back what is there");
                }
                let before = client.sent.len();
                server.settle_deaf(&mut client);
                server.carry(1, &mut client);
                if before == 0 && client.sent.is_empty() {
                    break;
                }
            }
            server.settle(&mut [&mut client]);
        }
        client.written(add(&key("notes", "n"), 1));
        server.settle(&mut [&mut client]);
        assert!(client.is_agreed());
        let told = server.notes.iter().filter(|note| matches!(note, HostNote::Alternates { .. }));
        assert!(told.count() >= flip / 2, "flip {flip}");
        assert!(hellos <= 2, "flip {flip}: {hellos} sessions");
        assert!(flip < 2 || bytes < 8_000, "flip {flip}: {bytes} bytes");
        client.disconnect();
    }
    for (mut server, votes) in [(blue, 11), (green, 12)] {
        let mut reader = Client::new(2, &["notes"]);
        reader.connect();
        server.settle(&mut [&mut reader]);
        assert_eq!(reader.engine.replica().base().len(), 2_001);
        assert_eq!(reader.total(&key("notes", "n"), "votes"), votes);
    }
}
