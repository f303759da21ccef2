//! Snapshots: what is in flight, what came damaged, what was cut off.

use crate::world::{Client, Server, change, key, set};
use rejoin_core::{
    planted::Planted,
    protocol::{engine::Notice, host::HostConfig, limits::CHUNKS_IN_FLIGHT_MAX},
    replica::Action,
    testing::memory::MemoryStore,
};

/// More than a snapshot keeps in flight, in chunks of the usual size.
const RECORDS: u64 = 1_800;

/// A server with records for seven chunks or so.
fn filled() -> Server {
    filled_with(RECORDS)
}

fn filled_with(records: u64) -> Server {
    filled_by(Server::new(), records)
}

fn filled_by(mut server: Server, records: u64) -> Server {
    let mut author = Client::new(9, &["*"]);
    for at in 0..records {
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

/// Nothing of a snapshot is visible, or all of it.
fn is_whole_or_hidden(client: &Client) {
    let visible = client.engine.replica().base().len() as u64;
    assert!(visible == 0 || visible >= RECORDS, "{visible} of {RECORDS} records are visible");
}

fn are_equal(one: &Client, other: &Client) -> bool {
    let [one, other] = [one, other].map(|client| client.engine.replica().base());
    one.iter()
        .map(|(key, held)| (key, &held.bytes))
        .eq(other.iter().map(|(key, held)| (key, &held.bytes)))
}

/// P07: each life of the server is another epoch, on the records that the ones before had.
#[test]
fn p07_a_snapshot_goes_on_at_another_server_and_never_shows_a_mixture() {
    let mut server = filled();
    let mut client = Client::new(1, &["*"]);
    let mut staged = 0;
    for life in 2..40 {
        client.connect();
        for _ in 0..11 {
            server.carry(1, &mut client);
            is_whole_or_hidden(&client);
        }
        let now = client.engine.replica().base().staged_len();
        let visible = !client.engine.replica().base().is_empty();
        assert!(now >= staged || visible, "what one server has sent counts at the next");
        staged = now;
        client.disconnect();
        let store = server.store.clone();
        server = Server::on(store, life);
        if visible {
            break;
        }
    }
    client.connect();
    server.settle(&mut [&mut client]);
    is_filled(&client);
}

/// A record moved on in a history that broke off, and came in a page of it: the other history does not have it so.
#[test]
fn p07_a_snapshot_begins_anew_where_its_history_broke_off() {
    let mut server = filled();
    let earlier = server.store.snapshot();
    let mut author = Client::new(8, &["*"]);
    author.connect();
    server.settle(&mut [&mut author]);
    let mut client = Client::new(1, &["*"]);
    client.connect();
    let staged_len = |client: &Client| client.engine.replica().base().staged_len();
    while staged_len(&client) == 0 {
        server.carry(1, &mut client);
    }
    // In a chunk that was not asked for yet, of the second collection.
    let mut names: Vec<String> = (1..RECORDS).step_by(2).map(|at| format!("r{at}")).collect();
    names.sort_unstable();
    author.written(set(&key("tasks", &names[names.len() / 2]), "moved on"));
    server.settle(&mut [&mut author]);
    while staged_len(&client) < names.len() * 8 / 5 {
        server.carry(1, &mut client);
    }
    client.disconnect();
    author.disconnect();
    let staged = staged_len(&client);
    assert!(client.engine.replica().base().is_empty(), "half of it is there");

    let store = MemoryStore::new();
    store.restore(earlier);
    let mut server = Server::on(store, 2);
    client.connect();
    let mut least = staged;
    while client.engine.replica().base().is_empty() {
        // What becomes visible is staged no more.
        least = least.min(staged_len(&client));
        server.carry(1, &mut client);
        is_whole_or_hidden(&client);
    }
    assert_eq!(least, 0, "what came of the other history is given up");
    author.connect();
    server.settle(&mut [&mut client, &mut author]);
    is_filled(&client);
    is_filled(&author);
    assert!(are_equal(&client, &author));
}

/// P08: writes while chunks are on their way, to records that have come and to others, come with the feed.
#[test]
fn p08_writes_during_a_snapshot_are_neither_lost_nor_torn() {
    let mut server = filled();
    let mut author = Client::new(8, &["*"]);
    author.connect();
    server.settle(&mut [&mut author]);
    let mut client = Client::new(1, &["*"]);
    client.connect();
    for round in 0..40 {
        server.carry(1, &mut client);
        is_whole_or_hidden(&client);
        // Both records of a batch, whichever of them a chunk has brought already.
        let text = format!("round {round}");
        let mut both = set(&key("notes", &format!("r{}", round * 2)), &text);
        both.extend(set(&key("tasks", &format!("r{}", round * 2 + 1)), &text));
        author.written(both);
        server.settle(&mut [&mut author]);
    }
    server.settle(&mut [&mut client, &mut author]);
    is_filled(&client);
    assert!(are_equal(&client, &author));
}

/// M10: records are removed and written anew under a snapshot; what is sent of a subtree is what its digest says.
#[test]
fn m10_a_snapshot_of_records_that_come_and_go_is_whole() {
    let mut server = filled();
    let mut author = Client::new(8, &["*"]);
    author.connect();
    server.settle(&mut [&mut author]);
    let mut client = Client::new(1, &["*"]);
    client.connect();
    for round in 0..40 {
        server.carry(1, &mut client);
        let gone = key("notes", &format!("r{}", round * 40 % RECORDS));
        author.written(change(&gone, Action::Remove { erase: round % 2 == 0 }));
        author.written(set(&key("notes", &format!("new {round}")), "text"));
        server.settle(&mut [&mut author]);
    }
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed(), "{:?}", client.notices);
    assert!(!client.notices.iter().any(|notice| matches!(notice, Notice::Ended { .. })));
    let (ours, theirs) = (client.engine.replica().base(), author.engine.replica().base());
    assert!(
        ours.iter()
            .map(|(key, held)| (key, &held.bytes))
            .eq(theirs.iter().map(|(key, held)| (key, &held.bytes)))
    );
}

/// M11: a bit that flips on its way, anywhere in a chunk, activates nothing.
#[test]
fn m11_a_chunk_with_a_flipped_bit_never_becomes_visible() {
    for seed in 0..60_usize {
        let mut server = filled_with(40);
        let mut client = Client::new(1, &["*"]);
        server.flipped_bits = vec![seed * 104_729, seed * 7_919 + 13];
        for _ in 0..4 {
            client.disconnect();
            client.connect();
            server.settle(&mut [&mut client]);
            let base = client.engine.replica().base();
            assert!(base.is_empty() || base.len() == 40, "seed {seed}");
        }
        assert!(client.is_agreed(), "seed {seed}: {:?}", client.notices);
        let diverged = |notice: &Notice| matches!(notice, Notice::Diverged { .. });
        assert!(!client.notices.iter().any(diverged), "seed {seed}");
    }
}

/// M12: the client dies behind each commit of its store until all is visible, and behind some of the fold that makes
/// pages of what was staged, and comes back with what its store has.
#[test]
fn m12_a_client_that_dies_behind_any_commit_goes_on_and_shows_nothing_half() {
    let small = |config: &mut HostConfig| config.chunk_bytes_aim = 200 << 10;
    let mut server = filled_by(Server::with(MemoryStore::new(), 1, small), RECORDS);
    let mut dead: u8 = 0;
    loop {
        let mut client = Client::new(10 + dead, &["*"]);
        client.engine.plant(Planted::default(), Some(8));
        client.lead();
        (client.hold, client.commits) = (true, 0);
        client.connect();
        while client.commits < usize::from(dead) && (server.moves(&mut client) || client.waits()) {
            client.step();
            is_whole_or_hidden(&client);
        }
        let is_over = client.commits < usize::from(dead);
        let mut again = client.reopen(&["*"]);
        is_whole_or_hidden(&again);
        again.connect();
        server.settle(&mut [&mut again]);
        is_filled(&again);
        if is_over {
            break;
        }
        dead += if client.is_agreed() { 11 } else { 1 };
    }
    assert!(dead > 50, "the client dies {dead} times");
}

/// It dies again and again, behind so many steps, and each life goes on where the one before was.
#[test]
fn a_client_that_dies_again_and_again_while_it_stages_finishes() {
    for every in 1..9 {
        let mut server = filled();
        let mut client = Client::new(1, &["*"]);
        let mut lives = 0;
        while client.engine.replica().base().is_empty() {
            lives += 1;
            assert!(lives < 100, "no progress with {every} steps in a life");
            client.connect();
            for _ in 0..every + 10 {
                server.carry(1, &mut client);
                is_whole_or_hidden(&client);
            }
            let (connections, now) = (client.connections, client.now);
            client = Client::on(client.store.clone(), 1, &["*"]);
            (client.connections, client.now) = (connections, now);
            is_whole_or_hidden(&client);
        }
        client.connect();
        server.settle(&mut [&mut client]);
        is_filled(&client);
    }
}
