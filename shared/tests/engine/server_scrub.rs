//! How a host's scrub gets on, and what becomes of damage that meets other trouble: a fork, other damage, a store
//! that fails, a process that is started again and again.

use crate::world::{Client, Fault, Server, add, apply, key, set};
use rejoin_core::{
    io::{Batch, FaultClass, Keyspace, Row},
    protocol::{
        engine::{Link, Notice},
        host::{DamagedRow, HostNote, Mended},
    },
    testing::memory::MemoryStore,
    time::Millis,
};

const PATTERNS: [&str; 2] = ["notes", "tasks"];

fn server(store: MemoryStore, number: u8) -> Server {
    Server::with(store, number, |config| config.scrub = Some(Millis(60_000)))
}

fn row_of(server: &Server, keyspace: Keyspace, is_it: impl Fn(&[u8]) -> bool) -> Row {
    let rows = server.store.rows(keyspace).into_iter();
    rows.filter(|row| is_it(&row.key)).last().unwrap()
}

fn flip(server: &Server, keyspace: Keyspace, is_it: impl Fn(&[u8]) -> bool) {
    let mut row = row_of(server, keyspace, is_it);
    let middle = row.value.len() / 2;
    row.value[middle] ^= 4;
    let mut batch = Batch::default();
    batch.put(keyspace, row.key, row.value);
    apply(&server.store, batch);
}

fn come_to_rest(server: &mut Server, clients: &mut [&mut Client]) {
    for _ in 0..60 {
        for client in clients.iter_mut() {
            if client.engine.status().link == Link::Offline && client.engine.wants_connection() {
                client.connect();
            }
        }
        server.settle(clients);
        server.pass(2_000, clients);
    }
    for client in clients.iter() {
        assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), server.notes);
    }
}

fn damaged(server: &Server) -> Vec<(DamagedRow, Mended)> {
    let told = server.notes.iter().filter_map(|note| match note {
        HostNote::Damaged { row, mended } => Some((row.clone(), *mended)),
        _ => None,
    });
    told.collect()
}

fn is_reborn(client: &Client) -> bool {
    client.notices.iter().any(|notice| matches!(notice, Notice::Reborn { .. }))
}

fn begins(prefix: &'static [u8]) -> impl Fn(&[u8]) -> bool {
    move |key| key.starts_with(prefix)
}

/// Of a row that was acknowledged, and of which its writer has nothing back yet, a record is lost, and it is not
/// known any more whose the writer's id was. Half of the batch was all that anybody saw ever after.
#[test]
fn rest_of_a_batch_of_an_earlier_id_comes_back_where_a_part_of_it_is_there() {
    let mut host = server(MemoryStore::new(), 1);
    let (mut ann, mut bob) = (Client::new(1, &PATTERNS), Client::new(2, &PATTERNS));
    ann.connect();
    host.settle(&mut [&mut ann]);
    ann.written([add(&key("notes", "n"), 5), set(&key("tasks", "t"), "with it")].concat());
    host.settle_deaf(&mut ann);
    ann.disconnect();
    flip(&host, Keyspace::Records, begins(b"notes"));
    flip(&host, Keyspace::Meta, begins(b"replica/"));
    // What is read of the record by somebody else finds it out.
    bob.connect();
    come_to_rest(&mut host, &mut [&mut bob]);
    let title = bob.engine.replica().view(&key("tasks", "t")).unwrap();
    assert!(title.is_live() && bob.total(&key("notes", "n"), "votes") == 0);
    come_to_rest(&mut host, &mut [&mut ann, &mut bob]);
    assert!(is_reborn(&ann), "{:?}", ann.notices);
    assert_eq!(ann.rejected(), []);
    ann.written(add(&key("notes", "n"), 2));
    come_to_rest(&mut host, &mut [&mut ann, &mut bob]);
    for client in [&ann, &bob] {
        assert_eq!(client.total(&key("notes", "n"), "votes"), 7);
    }
}

/// The host may not take it back: then the user decides, as of what is lost whole.
#[test]
fn rest_of_a_batch_that_is_not_taken_back_goes_to_its_user() {
    let mut host = Server::with(MemoryStore::new(), 1, |config| {
        config.scrub = Some(Millis(60_000));
        config.refill = rejoin_core::protocol::host::RefillPolicy::Proved;
    });
    let mut ann = Client::new(1, &PATTERNS);
    ann.connect();
    host.settle(&mut [&mut ann]);
    let number =
        ann.written([add(&key("notes", "n"), 5), set(&key("tasks", "t"), "with it")].concat());
    host.settle_deaf(&mut ann);
    ann.disconnect();
    flip(&host, Keyspace::Records, begins(b"notes"));
    flip(&host, Keyspace::Meta, begins(b"replica/"));
    host.pass(70_000, &mut []);
    come_to_rest(&mut host, &mut [&mut ann]);
    assert_eq!(ann.rejected(), [number]);
}

/// How far rows of a replica came back otherwise was taken for the host's clock when it was damaged: whoever had
/// written offline before was told that nobody knows of these rows.
#[test]
fn damage_to_what_was_returned_costs_no_write_that_was_made_offline() {
    let mut host = server(MemoryStore::new(), 1);
    let (mut ann, mut bob) = (Client::new(1, &PATTERNS), Client::new(2, &PATTERNS));
    ann.connect();
    bob.connect();
    ann.written(set(&key("notes", "a"), "one"));
    host.settle(&mut [&mut ann, &mut bob]);
    flip(&host, Keyspace::Records, begins(b"notes"));
    come_to_rest(&mut host, &mut [&mut ann, &mut bob]);
    ann.disconnect();
    ann.written(set(&key("notes", "b"), "offline"));
    ann.written(add(&key("notes", "n"), 3));
    // Of later writes the host's clock has seen, and of this replica nothing.
    bob.pass(5_000);
    bob.written(set(&key("tasks", "t"), "later"));
    host.settle(&mut [&mut bob]);
    flip(&host, Keyspace::Meta, begins(b"returned/"));
    host.notes.clear();
    come_to_rest(&mut host, &mut [&mut ann, &mut bob]);
    let found = damaged(&host);
    assert!(
        matches!(found.as_slice(), [(DamagedRow::Returned(_), Mended::Derived)]),
        "{found:?} {:?}",
        host.notes
    );
    assert!(!is_reborn(&ann), "{:?}", ann.notices);
    assert_eq!(ann.rejected(), []);
    assert_eq!(bob.total(&key("notes", "n"), "votes"), 3);
}

/// Neither the tree nor the feed names it, and what comes back of it is joined to what is there: nobody would
/// have heard of it again.
#[test]
fn record_that_nothing_names_any_more_is_found_among_the_records() {
    let mut host = server(MemoryStore::new(), 1);
    let mut ann = Client::new(1, &PATTERNS);
    ann.connect();
    ann.written(set(&key("notes", "a"), "one"));
    ann.written(set(&key("notes", "b"), "two"));
    host.settle(&mut [&mut ann]);
    let epoch = host.host.facts().epoch;
    let fed = row_of(&host, Keyspace::Feed, |_| true);
    let mut batch = Batch::default();
    batch.delete(Keyspace::Feed, fed.key);
    apply(&host.store, batch);
    for row in host.store.rows(Keyspace::Tree) {
        flip(&host, Keyspace::Tree, |key| key == row.key);
    }
    come_to_rest(&mut host, &mut [&mut ann]);
    let found = damaged(&host);
    assert!(found.iter().all(|(_, mended)| *mended == Mended::Derived), "{found:?}");
    assert_eq!(host.host.facts().epoch, epoch, "nothing is lost");
    let mut bob = Client::new(2, &PATTERNS);
    bob.connect();
    host.settle(&mut [&mut bob]);
    assert_eq!(bob.engine.replica().base().len(), 2);
}

/// What a write builds on is not there, or is an older version: nobody's part of it is given up.
#[test]
fn write_on_a_record_that_vanished_or_went_back_keeps_what_others_wrote() {
    for gone in [true, false] {
        for scrubs in [true, false] {
            let every = scrubs.then_some(Millis(10_000));
            let mut host = Server::with(MemoryStore::new(), 1, |config| config.scrub = every);
            let (mut ann, mut bob) = (Client::new(1, &PATTERNS), Client::new(2, &PATTERNS));
            ann.connect();
            bob.connect();
            ann.written(add(&key("notes", "n"), 1));
            host.settle(&mut [&mut ann, &mut bob]);
            let old = row_of(&host, Keyspace::Records, |_| true);
            bob.written(add(&key("notes", "n"), 2));
            host.settle(&mut [&mut ann, &mut bob]);
            let mut batch = Batch::default();
            if gone {
                batch.delete(Keyspace::Records, old.key);
            } else {
                batch.put(Keyspace::Records, old.key, old.value);
            }
            apply(&host.store, batch);
            // Its own tally is whole in its next write; of the other's it says nothing.
            ann.written(add(&key("notes", "n"), 4));
            come_to_rest(&mut host, &mut [&mut ann, &mut bob]);
            let lost = matches!(damaged(&host).as_slice(), [(DamagedRow::Record(_), Mended::Lost)]);
            assert!(lost, "{:?}", host.notes);
            for client in [&ann, &bob] {
                assert_eq!(client.total(&key("notes", "n"), "votes"), 7);
            }
        }
    }
}

#[test]
fn record_that_went_back_is_found_by_a_scrub_and_by_whoever_reads_the_feed() {
    for scrubs in [true, false] {
        let every = scrubs.then_some(Millis(10_000));
        let configure = |config: &mut rejoin_core::protocol::host::HostConfig| {
            config.scrub = every;
            // The feed is read from the store.
            config.recent_bytes_max = 0;
        };
        let mut host = Server::with(MemoryStore::new(), 1, configure);
        let (mut ann, mut bob) = (Client::new(1, &PATTERNS), Client::new(2, &PATTERNS));
        ann.connect();
        bob.connect();
        ann.written(set(&key("notes", "a"), "one"));
        host.settle(&mut [&mut ann, &mut bob]);
        bob.disconnect();
        let old = row_of(&host, Keyspace::Records, |_| true);
        ann.written(set(&key("notes", "a"), "two"));
        host.settle(&mut [&mut ann]);
        let mut batch = Batch::default();
        batch.put(Keyspace::Records, old.key, old.value);
        apply(&host.store, batch);
        come_to_rest(&mut host, &mut [&mut ann, &mut bob]);
        let two = ann.engine.replica().view(&key("notes", "a")).unwrap();
        assert_eq!(bob.engine.replica().view(&key("notes", "a")).unwrap(), two);
        let lost = matches!(damaged(&host).as_slice(), [(DamagedRow::Record(_), Mended::Lost)]);
        assert!(lost, "{:?}", host.notes);
    }
}

/// As long as nobody was welcomed in it an epoch can lose more.
#[test]
fn many_losses_that_nobody_heard_of_open_one_epoch() {
    let mut host = server(MemoryStore::new(), 1);
    let mut ann = Client::new(1, &PATTERNS);
    ann.connect();
    let large = "x".repeat(60_000);
    for at in 0..40 {
        ann.written(set(&key("notes", &format!("r{at}")), &large));
        host.settle(&mut [&mut ann]);
    }
    for row in host.store.rows(Keyspace::Records) {
        flip(&host, Keyspace::Records, |key| key == row.key);
    }
    for _ in 0..60 {
        host.pass(1_000, &mut []);
    }
    ann.disconnect();
    let lost = damaged(&host).into_iter().filter(|(_, mended)| *mended == Mended::Lost).count();
    let renewed = host.notes.iter().filter(|note| matches!(note, HostNote::Renewed { .. })).count();
    assert_eq!((lost, renewed), (40, 1));
    come_to_rest(&mut host, &mut [&mut ann]);
    let mut bob = Client::new(2, &PATTERNS);
    bob.connect();
    host.settle(&mut [&mut bob]);
    assert_eq!(bob.engine.replica().base().len(), 40);
}

/// A pass begins in one process and goes on in the next ones, though none of them runs for long; and one that was
/// done is not done again by each.
#[test]
fn pass_goes_on_where_the_process_before_was_and_is_not_begun_by_each() {
    let mut first = server(MemoryStore::new(), 1);
    let mut ann = Client::new(1, &PATTERNS);
    ann.connect();
    ann.written(set(&key("notes", "a"), "one"));
    first.settle(&mut [&mut ann]);
    flip(&first, Keyspace::Meta, begins(b"lineage"));
    let store = first.store.clone();
    let passes = |server: &Server| server.host.facts().scrubbed.passes;
    let mut processes = 1..=40_u8;
    let ended = processes.find(|process| {
        let mut server = server(store.clone(), 100 + process);
        // The first slice, and no other.
        server.pass(10_000, &mut []);
        passes(&server) > 0
    });
    assert!(ended.is_some_and(|process| process > 3), "{ended:?}");
    for process in 0..5 {
        let mut server = server(store.clone(), 50 + process);
        for _ in 0..20 {
            server.pass(1_000, &mut []);
        }
        assert_eq!(passes(&server), 0, "the interval is not over");
    }
}

#[test]
fn store_that_fails_under_a_scrub_disturbs_nobody_and_the_slice_comes_again() {
    for class in [FaultClass::Transient, FaultClass::Corrupt] {
        let mut host = server(MemoryStore::new(), 1);
        let mut ann = Client::new(1, &PATTERNS);
        ann.connect();
        ann.written(set(&key("notes", "a"), "one"));
        host.settle(&mut [&mut ann]);
        for _ in 0..6 {
            host.read_fault = Some(Fault::Once(class, false));
            for _ in 0..100 {
                host.pass(1_000, &mut []);
            }
            assert_eq!(host.read_fault, None, "nothing but the scrub reads");
        }
        for _ in 0..200 {
            host.pass(1_000, &mut []);
        }
        let failed = HostNote::StoreFailed { class };
        assert_eq!(host.notes.iter().filter(|note| **note == failed).count(), 6);
        let opened = |note: &&HostNote| matches!(note, HostNote::Ready { .. });
        assert_eq!(host.notes.iter().filter(opened).count(), 1, "the space stays open");
        assert!(host.host.facts().ready && host.host.facts().scrubbed.passes > 0);
    }
}
