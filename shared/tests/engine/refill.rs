//! A server that lost its history gets back from its clients what they still hold.

use crate::world::{Client, Server, add, key, set};
use rejoin_core::{
    id::RecordKey,
    io::Keyspace,
    protocol::{
        engine::Notice,
        limits::{PAGE_BYTES_AIM, REFILL_RECORDS_MAX, REFILLS_IN_FLIGHT_MAX},
        message::{Message, RefillOutcome, Refilled, RejectCode},
        wire,
    },
    testing::memory::MemoryStore,
};

/// A client that agrees with a server, which is about to be lost, on so many records.
fn agreed(records: usize, text: &str) -> Client {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes", "tasks"]);
    for at in 0..records {
        let name = if at % 2 == 0 { "notes" } else { "tasks" };
        client.written(set(&key(name, &format!("r{at}")), text));
    }
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    client
}

fn keys(client: &Client) -> Vec<RecordKey> {
    client.engine.replica().base().iter().map(|(key, _)| key.clone()).collect()
}

fn refilled(client: &Client) -> (u64, Vec<(RejectCode, u64)>) {
    let mut sum = (0, Vec::new());
    for notice in &client.notices {
        if let Notice::Refilled { returned, refused, .. } = notice {
            sum.0 += returned;
            sum.1.extend_from_slice(refused);
        }
    }
    sum
}

/// Another client of the same server sees the same.
fn is_seen_by_another(server: &mut Server, client: &Client) {
    let mut other = Client::new(2, &["notes", "tasks"]);
    other.connect();
    server.settle(&mut [&mut other]);
    assert!(other.is_agreed());
    assert_eq!(keys(&other), keys(client));
}

#[test]
fn p12_erased_server_gets_everything_back_in_bounded_messages() {
    let records = 2 * REFILL_RECORDS_MAX + 700;
    let mut client = agreed(records, "kept");
    let mut server = Server::on(MemoryStore::new(), 2);
    client.connect();
    let (mut most, mut open) = (0, 0_usize);
    while client
        .engine
        .replica()
        .standings()
        .iter()
        .any(|(_, standing)| standing.epoch != Some(rejoin_core::id::Epoch::from_bytes([2; 16])))
    {
        for frame in &client.sent {
            if let Ok(Message::Refill(refill)) = wire::decode(&frame[1..]) {
                assert!(refill.entries.len() <= REFILL_RECORDS_MAX);
                assert!(frame.len() <= 2 * PAGE_BYTES_AIM, "{}", frame.len());
                open += 1;
            }
        }
        most = most.max(client.sent.len());
        server.settle_deaf(&mut client);
        server.carry(1, &mut client);
    }
    assert!(open >= 4 && most <= REFILLS_IN_FLIGHT_MAX + 4, "{open} refills, {most} at once");
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    assert_eq!(refilled(&client), (records as u64, Vec::new()));
    assert_eq!(keys(&client).len(), records);
    is_seen_by_another(&mut server, &client);
}

/// However far it came: what was sent is counted once, and nothing leaves the client before it is elsewhere.
#[test]
fn refill_that_is_cut_off_behind_any_message_is_taken_up_again() {
    let whole = keys(&agreed(30, "kept"));
    for cut in 0..60 {
        let mut client = agreed(30, "kept");
        let total = key("notes", "sum");
        let mut server = Server::on(MemoryStore::new(), 2);
        client.connect();
        server.carry(cut, &mut client);
        client.disconnect();
        assert_eq!(keys(&client), whole, "cut behind {cut}");
        client.written(add(&total, 3));
        let mut client = client.reopen(&["notes", "tasks"]);
        client.connect();
        server.settle(&mut [&mut client]);
        assert!(client.is_agreed(), "cut behind {cut}: {:?}", client.engine.status());
        assert_eq!(keys(&client).len(), whole.len() + 1);
        assert_eq!(client.total(&total, "votes"), 3);
        assert_eq!(client.rejected(), []);
        is_seen_by_another(&mut server, &client);
    }
}

#[test]
fn p11_restored_server_gets_back_what_came_after_its_copy_and_counts_it_once() {
    let mut server = Server::new();
    let (mut client, mut other) = (Client::new(1, &["*"]), Client::new(2, &["*"]));
    let sum = key("notes", "sum");
    client.written(add(&sum, 1));
    client.connect();
    other.connect();
    server.settle(&mut [&mut client, &mut other]);
    let copy = server.store.snapshot();
    client.written(add(&sum, 10));
    other.written(add(&sum, 100));
    other.written(set(&key("notes", "late"), "after the copy"));
    server.settle(&mut [&mut client, &mut other]);
    client.disconnect();
    other.disconnect();
    let store = MemoryStore::new();
    store.restore(copy);
    let mut server = Server::on(store, 2);
    let id = client.engine.replica().id();
    client.connect();
    server.settle(&mut [&mut client]);
    assert_eq!(refilled(&client), (2, Vec::new()));
    assert_eq!(
        client.engine.replica().id(),
        id,
        "an old copy of the server is no fork of the client"
    );
    client.written(add(&sum, 1_000));
    other.connect();
    server.settle(&mut [&mut client, &mut other]);
    assert_eq!((client.total(&sum, "votes"), other.total(&sum, "votes")), (1_111, 1_111));
    assert!(client.is_agreed() && other.is_agreed());
    assert_eq!(refilled(&other), (1, Vec::new()), "what was changed meanwhile adds nothing");
}

/// Within a good history nothing goes up: the server has seen it, and whatever came of it.
#[test]
fn base_that_is_damaged_is_healed_and_nothing_of_it_goes_up() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    client.written(set(&key("notes", "a"), "good text"));
    client.connect();
    server.settle(&mut [&mut client]);
    client.disconnect();
    let (good, bad) = (b"good text".as_slice(), b"evil text".as_slice());
    crate::world::damage(&client.store, Keyspace::Log, good, bad);
    let mut client = client.reopen(&["notes"]);
    client.connect();
    let mut refills = 0;
    for _ in 0..200 {
        let waiting = client.sent.iter();
        refills += waiting
            .filter(|frame| matches!(wire::decode(&frame[1..]), Ok(Message::Refill(_))))
            .count();
        server.carry(1, &mut client);
    }
    server.settle(&mut [&mut client]);
    assert_eq!(refills, 0);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
}

#[test]
fn what_a_server_does_not_take_back_leaves_and_is_told() {
    let mut client = agreed(4, "kept");
    let mut server = Server::on(MemoryStore::new(), 2);
    client.connect();
    // The server answers in somebody else's words.
    let mut answered = 0;
    while answered < 2 {
        let refill = client
            .sent
            .iter()
            .position(|frame| matches!(wire::decode(&frame[1..]), Ok(Message::Refill(_))));
        if let Some(at) = refill {
            let frame = client.sent.remove(at).unwrap();
            let Ok(Message::Refill(refill)) = wire::decode(&frame[1..]) else { panic!() };
            let outcomes =
                refill.entries.iter().map(|_| RefillOutcome::Refused(RejectCode::Forbidden));
            let outcomes = outcomes.collect();
            let subscription = refill.subscription;
            client.hear(&Message::Refilled(Refilled { subscription, outcomes }));
            answered += 1;
        } else {
            server.carry(1, &mut client);
        }
    }
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    assert_eq!(keys(&client), []);
    let refused = vec![(RejectCode::Forbidden, 2); 2];
    assert_eq!(refilled(&client), (0, refused));
}

#[test]
fn answer_to_what_was_not_brought_back_ends_the_session() {
    let mut client = agreed(2, "kept");
    let mut server = Server::on(MemoryStore::new(), 2);
    client.connect();
    server.carry(3, &mut client);
    client.hear(&Message::Refilled(Refilled { subscription: 0, outcomes: Vec::new() }));
    assert!(client.notices.iter().any(|notice| matches!(notice, Notice::Ended { .. })));
}

/// Comes to a server until both agree. One that knows an earlier session of the client takes it for a fork at
/// first.
fn agree(server: &mut Server, client: &mut Client) {
    client.connect();
    server.settle(&mut [client]);
    if client.engine.wants_connection() {
        client.connect();
        server.settle(&mut [client]);
    }
    assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
    client.disconnect();
}

/// Two servers behind one name, each with a history of its own: nothing is lost between them, and who comes to
/// the other one heals once.
#[test]
fn p13_client_between_two_servers_carries_to_each_what_the_other_has() {
    let (mut blue, mut green) =
        (Server::on(MemoryStore::new(), 1), Server::on(MemoryStore::new(), 2));
    let (mut client, mut other) = (Client::new(1, &["notes"]), Client::new(2, &["notes"]));
    let sum = key("notes", "sum");
    for round in 0..4 {
        client.written(add(&sum, 1));
        other.written(set(&key("notes", &format!("r{round}")), "kept"));
        let (here, there) =
            if round % 2 == 0 { (&mut blue, &mut green) } else { (&mut green, &mut blue) };
        agree(here, &mut client);
        agree(there, &mut other);
    }
    for server in [&mut blue, &mut green] {
        agree(server, &mut client);
        agree(server, &mut other);
        let mut newcomer = Client::new(7, &["notes"]);
        newcomer.connect();
        server.settle(&mut [&mut newcomer]);
        assert!(newcomer.is_agreed());
        assert_eq!((keys(&newcomer).len(), newcomer.total(&sum, "votes")), (5, 4));
    }
    assert_eq!(client.rejected(), []);
}
