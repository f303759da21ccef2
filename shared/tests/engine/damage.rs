//! One damaged byte in a client's store: what the peer has comes back, what only this store has stays.

use crate::world::{Client, Server, add, apply, key, name_of, set};
use rejoin_core::{
    codec::CodecFault,
    io::{Batch, Keyspace, Row},
    planted::Planted,
    protocol::engine::{Notice, WishError},
    record::{Kind, State, Value},
    replica::{Entry, LoadError, META_HEADER, META_LEADER, decode_entry, log_number},
    testing::memory::{MemoryImage, MemoryStore},
};

pub(crate) const PATTERNS: [&str; 3] = ["locked", "notes", "tasks"];
/// Records with a local write that the peer does not have.
const UNSENT: [&str; 3] = ["a", "f", "n"];

/// Stores of a client and of its host, with local writes that were not sent.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) client: MemoryImage,
    server: MemoryImage,
}

impl World {
    fn of(name: &'static str, client: &Client, server: &Server) -> Self {
        let (client, server) = (client.store.snapshot(), server.store.snapshot());
        Self { name, client, server }
    }

    pub(crate) fn rows(&self) -> Vec<(Keyspace, Row)> {
        all_rows(&MemoryStore::from_image(self.client.clone()))
    }

    /// The store with one byte of one row changed.
    fn damaged(&self, keyspace: Keyspace, row: &Row, at: usize) -> (MemoryStore, Vec<u8>) {
        let store = MemoryStore::from_image(self.client.clone());
        let mut value = row.value.clone();
        value[at] ^= 0x40;
        let mut batch = Batch::default();
        batch.put(keyspace, row.key.clone(), value.clone());
        apply(&store, batch);
        (store, value)
    }

    fn server(&self) -> Server {
        let mut server = Server::on(MemoryStore::from_image(self.server.clone()), 2);
        server.locked = Some(name_of("locked"));
        server
    }
}

fn all_rows(store: &MemoryStore) -> Vec<(Keyspace, Row)> {
    let of = |keyspace| store.rows(keyspace).into_iter().map(move |row| (keyspace, row));
    [Keyspace::Meta, Keyspace::Page, Keyspace::Log].into_iter().flat_map(of).collect()
}

/// Bytes of a value, each end and some between.
pub(crate) fn places(value: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let some = (3..value.len().saturating_sub(10)).step_by(value.len() / 3 + 1);
    (0..3).chain(some).chain(value.len().saturating_sub(10)..value.len()).step_by(2)
}

fn title(client: &Client, id: &str) -> Option<String> {
    let record = client.engine.replica().view(&key("notes", id)).unwrap();
    record.cells.iter().find_map(|((_, kind), cell)| match (kind, &cell.state) {
        (Kind::Lww, State::Lww { value: Some(Value::Text(text)), .. }) => Some(text.to_string()),
        _ => None,
    })
}

/// A client with pages, and a refused row; what is in the log behind them is up to the caller.
fn folded() -> (Server, Client, Client) {
    let mut server = Server::new();
    server.locked = Some(name_of("locked"));
    let mut other = Client::new(2, &PATTERNS);
    for id in ["a", "b", "c", "d", "e", "f"] {
        other.written(set(&key("notes", id), "theirs"));
        other.written(set(&key("tasks", id), "theirs"));
    }
    other.written(add(&key("notes", "n"), 1));
    other.connect();
    let mut client = Client::new(1, &PATTERNS);
    client.engine.plant(Planted::default(), Some(4));
    client.written(add(&key("notes", "n"), 2));
    client.written(set(&key("locked", "a"), "refused"));
    client.connect();
    server.settle(&mut [&mut other, &mut client]);
    assert!(client.is_agreed() && client.store.rows(Keyspace::Page).len() > 2);
    client.disconnect();
    (server, other, client)
}

fn write_unsent(client: &mut Client) {
    client.written(set(&key("notes", "a"), "mine a"));
    client.written(set(&key("notes", "f"), "mine f"));
    client.written(add(&key("notes", "n"), 4));
}

pub(crate) fn with_a_log() -> World {
    let (mut server, mut other, client) = folded();
    let mut client = client.reopen(&PATTERNS);
    other.written(set(&key("notes", "b"), "later"));
    other.written(set(&key("tasks", "z"), "later"));
    client.written(add(&key("notes", "n"), 8));
    client.written(set(&key("locked", "b"), "refused too"));
    client.connect();
    server.settle(&mut [&mut other, &mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    write_unsent(&mut client);
    World::of("a log behind the pages", &client, &server)
}

/// Unsent rows at or before what is folded.
pub(crate) fn with_folded_rows() -> World {
    let (server, _, mut client) = folded();
    client.written(add(&key("notes", "n"), 8));
    write_unsent(&mut client);
    client.engine.plant(Planted::default(), Some(1));
    client.lead();
    client.pass(0);
    World::of("folded rows", &client, &server)
}

/// A fold that ended in the middle.
fn with_half_a_fold() -> World {
    let (mut server, mut other, client) = folded();
    let mut client = client.reopen(&PATTERNS);
    for id in ["b", "c", "d", "e", "g"] {
        other.written(set(&key("notes", id), "later, and longer than a page of this test may be"));
    }
    client.written(add(&key("notes", "n"), 8));
    client.connect();
    server.settle(&mut [&mut other, &mut client]);
    client.disconnect();
    write_unsent(&mut client);
    client.engine.plant(Planted::default(), Some(1));
    client.hold = true;
    client.pass(0);
    let is_half = |row: &Row| row.key == b"finished";
    for _ in 0..20 {
        if client.store.rows(Keyspace::Meta).iter().any(is_half) {
            return World::of("half a fold", &client, &server);
        }
        client.step();
    }
    panic!("nothing is half folded");
}

/// A replica that has got another id.
fn reborn() -> World {
    let (mut server, mut other, client) = folded();
    let copy = MemoryStore::from_image(client.store.snapshot());
    let mut client = client.reopen(&PATTERNS);
    client.connect();
    server.settle(&mut [&mut other, &mut client]);
    let mut copy = Client::on(copy, 3, &PATTERNS);
    copy.written(add(&key("notes", "n"), 8));
    copy.connect();
    server.settle(&mut [&mut other, &mut client, &mut copy]);
    for _ in 0..2 {
        if !copy.is_agreed() {
            copy.connect();
            server.settle(&mut [&mut other, &mut client, &mut copy]);
        }
    }
    assert!(copy.notices.iter().any(|notice| matches!(notice, Notice::Reborn { .. })));
    assert!(copy.is_agreed());
    copy.disconnect();
    write_unsent(&mut copy);
    World::of("another id", &copy, &server)
}

/// Opens the damaged store, lets it sync, and checks that it lacks nothing but, at most, the damaged row.
fn check(world: &World, keyspace: Keyspace, row: &Row, at: usize) {
    let (store, value) = world.damaged(keyspace, row, at);
    let story = format!("{}: {keyspace:?} {:?} byte {at}", world.name, row.key);
    let before = all_rows(&store);
    let mut client = Client::on(store, 3, &PATTERNS);
    assert_eq!(all_rows(&client.store), before, "{story}: opening changes nothing");
    if row.key == META_HEADER {
        let damaged = |notice: &Notice| matches!(notice, Notice::Refused(LoadError::Header(error)) if error.kind == CodecFault::Damaged);
        assert!(client.notices.iter().any(damaged), "{story}: {:?}", client.notices);
        return;
    }
    assert!(client.engine.is_open(), "{story}: {:?}", client.notices);
    let entry = (keyspace == Keyspace::Log).then(|| decode_entry(&row.value).unwrap());
    let lost = matches!(entry, Some(Entry::Commit(_))).then(|| log_number(&row.key).unwrap());
    let damage = client.engine.replica().damage().clone();
    let told = client.notices.contains(&Notice::Damaged(damage.clone()));
    assert_eq!(told, keyspace != Keyspace::Meta, "{story}");
    assert!(lost.is_none_or(|number| damage.rows.contains(&number)), "{story}: {damage:?}");

    let mut server = world.server();
    for _ in 0..3 {
        if client.engine.status().link == rejoin_core::protocol::engine::Link::Offline {
            client.connect();
        }
        server.settle(&mut [&mut client]);
        server.pass(10_000, &mut [&mut client]);
    }
    assert!(client.is_agreed(), "{story}: {:?} {:?}", client.engine.status(), client.notices);
    let diverged = |notice: &Notice| matches!(notice, Notice::Diverged { .. });
    assert!(!client.notices.iter().any(diverged), "{story}: it knew what to ask for");
    let mut reader = Client::new(9, &PATTERNS);
    reader.connect();
    server.settle(&mut [&mut reader]);
    for id in ["a", "b", "c", "d", "e", "f", "g"] {
        assert_eq!(title(&client, id), title(&reader, id), "{story}");
    }
    let lost_keys: Vec<String> = match (lost, entry) {
        (Some(_), Some(Entry::Commit(row))) => {
            row.writes.iter().map(|write| write.key.id.as_str().to_owned()).collect()
        }
        _ => Vec::new(),
    };
    for id in UNSENT.iter().filter(|id| !lost_keys.iter().any(|lost| lost == **id)) {
        if *id == "n" {
            // Nothing of it is lost, and nothing counts twice.
            let total = reader.total(&key("notes", "n"), "votes");
            assert_eq!(total, 15, "{story}");
        } else {
            assert_eq!(title(&reader, id), Some(format!("mine {id}")), "{story}");
        }
    }
    let kept = client.store.rows(keyspace).into_iter().find(|kept| kept.key == row.key);
    if let (true, Some(Entry::Commit(_))) = (lost.is_some(), decode_entry(&row.value).ok()) {
        assert_eq!(kept.map(|row| row.value), Some(value), "{story}: its bytes stay");
    }
}

fn check_all(world: &World, kind: fn(&Entry) -> bool) {
    let rows = world.rows();
    let log = rows.iter().filter(|(keyspace, _)| *keyspace == Keyspace::Log);
    assert!(log.filter_map(|(_, row)| decode_entry(&row.value).ok()).any(|entry| kind(&entry)));
    for (keyspace, row) in rows {
        if row.key != META_LEADER {
            places(&row.value).for_each(|at| check(world, keyspace, &row, at));
        }
    }
}

#[test]
fn damaged_row_behind_the_pages_costs_at_most_itself() {
    check_all(&with_a_log(), |entry| matches!(entry, Entry::Feed(_)));
}

#[test]
fn damaged_row_or_page_costs_at_most_itself_once_all_is_folded() {
    check_all(&with_folded_rows(), |entry| matches!(entry, Entry::Commit(_)));
}

#[test]
fn damaged_row_or_page_of_half_a_fold_costs_at_most_itself() {
    check_all(&with_half_a_fold(), |entry| matches!(entry, Entry::Feed(_)));
}

#[test]
fn damaged_row_of_a_replica_that_has_another_id_costs_at_most_itself() {
    check_all(&reborn(), |entry| matches!(entry, Entry::Reborn { .. }));
}

#[test]
fn store_with_a_damaged_header_is_refused_whole_and_writes_are_told_so() {
    let world = with_folded_rows();
    let (_, row) = world.rows().into_iter().find(|(_, row)| row.key == META_HEADER).unwrap();
    let (store, _) = world.damaged(Keyspace::Meta, &row, 5);
    let before = all_rows(&store);
    let mut client = Client::on(store, 3, &PATTERNS);
    let id = client.write(set(&key("notes", "a"), "one"));
    assert!(matches!(client.done.get(&id), Some(Err(WishError::Store(_)))));
    assert_eq!(all_rows(&client.store), before);
}

#[test]
fn what_was_damaged_is_gone_from_the_store_once_it_is_made_up_for() {
    let world = with_a_log();
    let (keyspace, row) =
        world.rows().into_iter().find(|(keyspace, _)| *keyspace == Keyspace::Page).unwrap();
    let (store, _) = world.damaged(keyspace, &row, 20);
    let mut client = Client::on(store, 3, &PATTERNS);
    let mut server = world.server();
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    client.disconnect();
    let again = client.reopen(&PATTERNS);
    assert!(again.engine.replica().damage().is_empty(), "{:?}", again.notices);
}
