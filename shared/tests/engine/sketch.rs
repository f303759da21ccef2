//! Heals with and without sketches: both ends know them, one does, none does, or one is confused.

use crate::world::{Client, Server, key, set};
use rejoin_core::{
    protocol::engine::Notice,
    testing::memory::MemoryStore,
    tree::{CELLS_MAX, SKETCHED_ENTRIES_MIN, WalkBody, WalkLimits},
};

/// A server that came back with an old store and was written to since, and a client that holds what it
/// has lost. Each knows sketches or does not.
fn parted(server_cells: usize, client_cells: usize) -> (Server, Client) {
    let start =
        |store, number| Server::with(store, number, |config| config.walk.cells_max = server_cells);
    let mut server = start(MemoryStore::new(), 1);
    let mut author = Client::new(9, &["*"]);
    for at in 0..2 * SKETCHED_ENTRIES_MIN {
        author.written(set(&key("notes", &format!("r{at}")), "x"));
    }
    author.connect();
    let limits = WalkLimits { cells_max: client_cells, ..WalkLimits::default() };
    let mut client = Client::with(MemoryStore::new(), 1, &["*"], limits);
    client.connect();
    server.settle(&mut [&mut author, &mut client]);
    let image = server.store.snapshot();
    for id in ["r1", "r2", "lost"] {
        author.written(set(&key("notes", id), "lost"));
    }
    server.settle(&mut [&mut author, &mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    let mut server = start(MemoryStore::from_image(image), 2);
    let mut other = Client::new(8, &["*"]);
    other.connect();
    for id in ["r2", "r3", "new"] {
        other.written(set(&key("notes", id), "new"));
    }
    server.settle(&mut [&mut other]);
    assert!(other.is_agreed());
    server.walks.clear();
    (server, client)
}

/// How walks went: those that opened, each with its salt, and whether one was a sketch. What the server had lost
/// is brought back.
fn heal(server: &mut Server, client: &mut Client) -> Vec<(u64, bool)> {
    client.connect();
    server.settle(&mut [client]);
    assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
    let keys = client.engine.replica().base().iter().map(|(key, _)| key.id.as_str());
    assert_eq!(keys.filter(|id| ["lost", "new"].contains(id)).collect::<Vec<_>>(), ["lost", "new"]);
    let mut opened: Vec<(u64, bool)> = Vec::new();
    for walk in &server.walks {
        if opened.last().is_none_or(|(salt, _)| *salt != walk.salt) {
            let (root, cells) =
                (matches!(walk.body, WalkBody::Root(_)), matches!(walk.body, WalkBody::Cells(_)));
            assert!(root || cells, "{walk:?}");
            opened.push((walk.salt, cells));
        }
    }
    opened
}

fn has_sketch(server: &Server) -> bool {
    let sketch = |body: &WalkBody| matches!(body, WalkBody::Cells(_) | WalkBody::Wanted(_));
    server.walks.iter().any(|walk| sketch(&walk.body))
}

#[test]
fn ends_that_both_know_sketches_heal_by_one() {
    let (mut server, mut client) = parted(CELLS_MAX, CELLS_MAX);
    let opened = heal(&mut server, &mut client);
    assert!(matches!(opened[..], [(_, true)]));
    assert!(!server.walks.iter().any(|walk| matches!(walk.body, WalkBody::Nodes(_))));
    assert!(!client.notices.iter().any(|notice| matches!(notice, Notice::Diverged { .. })));
}

#[test]
fn end_that_knows_no_sketches_is_healed_by_walks() {
    for (server_cells, client_cells) in [(0, CELLS_MAX), (CELLS_MAX, 0), (0, 0)] {
        let (mut server, mut client) = parted(server_cells, client_cells);
        let opened = heal(&mut server, &mut client);
        assert!(matches!(opened[..], [(_, false)]));
        assert!(!has_sketch(&server), "{server_cells} {client_cells}");
    }
}

/// A sketch can be led to find nothing, or not all. The roots tell, and the next walk does without.
#[test]
fn sketch_that_misses_a_difference_is_followed_by_a_walk_under_another_salt() {
    let (mut server, mut client) = parted(CELLS_MAX, CELLS_MAX);
    server.confused = true;
    let opened = heal(&mut server, &mut client);
    let [(first, true), (second, false)] = opened[..] else { panic!("{opened:?}") };
    assert_ne!(first, second);
}
