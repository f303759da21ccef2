//! Damaged and missing rows of a host's store: what is derived is derived again, what is lost comes back from
//! the clients, nothing counts twice, and nothing is given up in silence.

use crate::world::{Client, Server, add, apply, change, key, set};
use rejoin_core::{
    io::{Batch, Keyspace, Row},
    planted::{Bug, Planted},
    protocol::{
        engine::Link,
        host::{DamagedRow, HostNote, Mended},
    },
    replica::Action,
    testing::memory::{MemoryImage, MemoryStore},
    time::Millis,
};

const PATTERNS: [&str; 2] = ["notes", "tasks"];

/// Stores of a host and of two clients that agree with it.
struct World {
    server: MemoryImage,
    clients: [MemoryImage; 2],
}

impl World {
    fn new() -> Self {
        let mut server = Server::new();
        let (mut ann, mut bob) = (Client::new(1, &PATTERNS), Client::new(2, &PATTERNS));
        ann.written(add(&key("notes", "n"), 1));
        ann.written(set(&key("notes", "a"), "ann's"));
        bob.written(add(&key("notes", "n"), 2));
        bob.written(set(&key("tasks", "b"), "bob's"));
        ann.connect();
        bob.connect();
        server.settle(&mut [&mut ann, &mut bob]);
        ann.written(set(&key("tasks", "b"), "ann's"));
        bob.written(change(&key("notes", "a"), Action::Remove { erase: false }));
        ann.written(add(&key("notes", "n"), 4));
        server.settle(&mut [&mut ann, &mut bob]);
        assert!(ann.is_agreed() && bob.is_agreed());
        let clients = [ann, bob].map(|client| client.store.snapshot());
        Self { server: server.store.snapshot(), clients }
    }

    fn rows(&self) -> Vec<(Keyspace, Row)> {
        let store = MemoryStore::from_image(self.server.clone());
        let of = |keyspace| store.rows(keyspace).into_iter().map(move |row| (keyspace, row));
        Keyspace::ALL.into_iter().flat_map(of).collect()
    }

    fn server(&self, store: MemoryStore, number: u8) -> Server {
        Server::with(store, number, |config| config.scrub = Some(Millis(60_000)))
    }

    fn clients(&self) -> [Client; 2] {
        let store = |at: usize| MemoryStore::from_image(self.clients[at].clone());
        [Client::on(store(0), 1, &PATTERNS), Client::on(store(1), 2, &PATTERNS)]
    }
}

/// What happens to a row.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Bit(usize),
    Gone,
}

fn harm(store: &MemoryStore, keyspace: Keyspace, row: &Row, harm: Harm) {
    let mut batch = Batch::default();
    match harm {
        Harm::Bit(at) => {
            let mut value = row.value.clone();
            value[at] ^= 0x10;
            batch.put(keyspace, row.key.clone(), value);
        }
        Harm::Gone => batch.delete(keyspace, row.key.clone()),
    }
    apply(store, batch);
}

fn harms(keyspace: Keyspace, row: &Row) -> Vec<Harm> {
    // The index of the dead has nothing but keys.
    let Some(last) = row.value.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut harms: Vec<Harm> = [0, last / 2, last - 4, last].map(Harm::Bit).into();
    if matches!(keyspace, Keyspace::Records | Keyspace::Feed | Keyspace::Tree) {
        harms.push(Harm::Gone);
    }
    harms
}

/// Until all is quiet: lines are dialled again, time passes.
fn come_to_rest(server: &mut Server, clients: &mut [&mut Client]) {
    for _ in 0..80 {
        for client in clients.iter_mut() {
            if client.engine.status().link == Link::Offline && client.engine.wants_connection() {
                client.connect();
            }
        }
        server.settle(clients);
        server.pass(2_000, clients);
    }
}

/// Everybody agrees and sees what was written: `more` was added to the counter since.
fn check(server: &mut Server, clients: &mut [&mut Client], more: i64, story: &str) {
    for client in clients.iter() {
        assert!(
            client.is_agreed(),
            "{story}: {:?} {:?} {:?}",
            client.engine.status(),
            client.notices,
            server.notes
        );
    }
    let mut reader = Client::new(9, &PATTERNS);
    reader.connect();
    server.settle(&mut [&mut reader]);
    assert!(reader.is_agreed(), "{story}");
    for client in clients.iter().map(|client| &**client).chain([&reader]) {
        assert_eq!(client.total(&key("notes", "n"), "votes"), 7 + more, "{story}");
        let view = |key| client.engine.replica().view(&key).unwrap();
        assert!(!view(key("notes", "a")).is_live(), "{story}: what was removed stays so");
        assert!(view(key("tasks", "b")).is_live(), "{story}");
        let expected = reader.engine.replica().view(&key("tasks", "b")).unwrap();
        assert_eq!(view(key("tasks", "b")), expected, "{story}");
    }
    // Another pass finds nothing more.
    let before = server.host.facts().scrubbed;
    server.pass(61_000, clients);
    for _ in 0..20 {
        server.pass(1_000, clients);
    }
    let after = server.host.facts().scrubbed;
    assert!(after.passes > before.passes, "{story}");
    assert_eq!((after.damaged, after.lost), (before.damaged, before.lost), "{story}");
}

#[test]
fn damaged_row_that_a_scrub_finds_is_put_right_and_nothing_is_lost() {
    let world = World::new();
    for (keyspace, row) in world.rows() {
        for how in harms(keyspace, &row) {
            let story = format!("{keyspace:?} {:?} {how:?}", String::from_utf8_lossy(&row.key));
            let mut server = world.server(MemoryStore::from_image(world.server.clone()), 2);
            let [mut ann, mut bob] = world.clients();
            ann.connect();
            bob.connect();
            server.settle(&mut [&mut ann, &mut bob]);
            // What boot has written anew is damaged as it is now.
            let now = server.store.rows(keyspace).into_iter().find(|now| now.key == row.key);
            harm(&server.store, keyspace, &now.unwrap(), how);
            come_to_rest(&mut server, &mut [&mut ann, &mut bob]);
            let told = |note: &HostNote| matches!(note, HostNote::Damaged { .. });
            assert!(server.notes.iter().any(told), "{story}: {:?}", server.notes);
            check(&mut server, &mut [&mut ann, &mut bob], 0, &story);
            if matches!(keyspace, Keyspace::Records | Keyspace::Feed | Keyspace::Tree) {
                assert_eq!(ann.rejected(), [], "{story}");
                assert_eq!(ann.engine.replica().id(), world.clients()[0].engine.replica().id());
            }
        }
    }
}

#[test]
fn damaged_row_that_is_met_at_the_start_is_put_right_before_anybody_is_served() {
    let world = World::new();
    for (keyspace, row) in world.rows() {
        for how in harms(keyspace, &row).into_iter().filter(|how| matches!(how, Harm::Bit(_))) {
            let story = format!("{keyspace:?} {:?} {how:?}", String::from_utf8_lossy(&row.key));
            let store = MemoryStore::from_image(world.server.clone());
            harm(&store, keyspace, &row, how);
            let mut server = world.server(store, 2);
            if keyspace == Keyspace::Tree {
                assert!(server.host.facts().ready, "{story}");
                let derived = |note: &HostNote| {
                    matches!(
                        note,
                        HostNote::Damaged { row: DamagedRow::Derived(_), mended: Mended::Derived }
                    )
                };
                assert!(server.notes.iter().any(derived), "{story}: {:?}", server.notes);
            }
            let [mut ann, mut bob] = world.clients();
            ann.connect();
            bob.connect();
            come_to_rest(&mut server, &mut [&mut ann, &mut bob]);
            check(&mut server, &mut [&mut ann, &mut bob], 0, &story);
        }
    }
}

/// Rows are pushed to whatever is damaged, from bases that are current, stale and empty.
#[test]
fn rows_that_meet_damage_are_neither_lost_nor_doubled() {
    let world = World::new();
    for (keyspace, row) in world.rows() {
        for how in harms(keyspace, &row) {
            let story = format!("{keyspace:?} {:?} {how:?}", String::from_utf8_lossy(&row.key));
            let mut server = world.server(MemoryStore::from_image(world.server.clone()), 2);
            let [mut ann, mut bob] = world.clients();
            let mut carl = Client::new(3, &PATTERNS);
            carl.written(add(&key("notes", "n"), 8));
            ann.connect();
            server.settle(&mut [&mut ann]);
            let now = server.store.rows(keyspace).into_iter().find(|now| now.key == row.key);
            harm(&server.store, keyspace, &now.unwrap(), how);
            bob.written(add(&key("notes", "n"), 16));
            bob.written(set(&key("tasks", "b"), "bob's again"));
            carl.connect();
            bob.connect();
            ann.written(add(&key("notes", "n"), 32));
            server.settle(&mut [&mut bob, &mut carl, &mut ann]);
            come_to_rest(&mut server, &mut [&mut ann, &mut bob, &mut carl]);
            check(&mut server, &mut [&mut ann, &mut bob, &mut carl], 56, &story);
        }
    }
}

/// A write now and then leaves the tree in memory as it was: such a record is not there for anybody who compares
/// trees, and clients agree on less than there is, for ever, unless a scrub compares the tree with the data.
#[test]
fn m01_tree_that_differs_from_the_data_is_found_and_rebuilt() {
    for scrub in [None, Some(Millis(20_000))] {
        let mut server = Server::with(MemoryStore::new(), 1, |config| {
            config.scrub = scrub;
            config.planted = Planted::new(Some(Bug::LeafSkipped));
        });
        let mut client = Client::new(1, &PATTERNS);
        client.connect();
        server.settle(&mut [&mut client]);
        for at in 0..10 {
            client.written(set(&key("notes", &format!("r{at}")), "kept"));
            come_to_rest(&mut server, &mut [&mut client]);
        }
        assert!(client.is_agreed(), "{:?}", client.engine.status());
        let derived = server
            .notes
            .iter()
            .filter(|note| matches!(note, HostNote::Damaged { row: DamagedRow::Derived(_), .. }));
        assert_eq!(derived.count(), if scrub.is_some() { 2 } else { 0 });
        let mut reader = Client::new(2, &PATTERNS);
        reader.connect();
        server.settle(&mut [&mut reader]);
        for client in [&client, &reader] {
            assert_eq!(client.engine.replica().base().len() == 10, scrub.is_some());
        }
    }
}
