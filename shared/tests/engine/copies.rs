//! Copies of a store that both run: each write counts once, and never shows twice on the way.

use crate::world::{Client, Server, add, key, set, welcome};
use rejoin_core::{
    hlc::Hlc,
    io::Keyspace,
    message::RejectCode,
    protocol::{
        engine::{Input, Notice, Wish},
        message::{Message, Mode, Welcome},
    },
    record::Visible,
    replica::RowState,
    testing::memory::MemoryStore,
    time::Millis,
};

const NOTES: &[&str] = &["notes"];

fn votes() -> rejoin_core::id::RecordKey {
    key("notes", "a")
}

/// Lets them talk until all agree. At every message each of them shows one of the `shown` totals.
fn meet(server: &mut Server, clients: &mut [&mut Client], shown: &[i64]) {
    for _ in 0..20_000 {
        let mut moved = false;
        for client in &mut *clients {
            if !client.engine.status().leading {
                client.lead();
            }
            if client.engine.wants_connection() && !client.is_connected() {
                client.connect();
                moved = true;
            }
            let before = client.sent.len();
            server.carry(1, client);
            moved |= client.sent.len() != before || server.has_mail(client);
            let total = client.total(&votes(), "votes");
            assert!(shown.contains(&total), "{total} is shown, not one of {shown:?}");
        }
        if !moved && clients.iter().all(|client| client.is_agreed()) {
            return;
        }
        if !moved {
            server.pass(11_000, clients);
        }
    }
    let states: Vec<_> = clients.iter().map(|client| client.engine.status()).collect();
    panic!("they do not agree: {states:?}");
}

/// A client that has synced one vote and holds two more that it has not sent.
fn author(server: &mut Server) -> Client {
    let mut author = Client::new(1, NOTES);
    author.written(add(&votes(), 1));
    author.connect();
    server.settle(&mut [&mut author]);
    author.disconnect();
    author.written(add(&votes(), 10));
    author.written(add(&votes(), 100));
    author
}

/// Another account takes the store over, with the rows that wait, under an id of its own.
fn adopted(server: &mut Server, client: &mut Client, principal: &str) {
    client.put(Input::Token(Some(String::from(principal))));
    for _ in 0..4 {
        if !client.engine.status().leading {
            client.lead();
        }
        if client.engine.wants_connection() {
            client.connect();
        }
        server.settle(&mut [client]);
        let is_change = |notice: &Notice| matches!(notice, Notice::AccountChanged { .. });
        if client.notices.iter().any(is_change) {
            client.notices.clear();
            client.ask(Wish::Adopt);
        }
    }
}

#[test]
fn b03_unsent_rows_of_a_copied_store_count_once_whoever_comes_first() {
    for copy_is_first in [false, true] {
        let mut server = Server::new();
        let mut author = author(&mut server);
        let mut copy = author.copied(2, NOTES);
        if copy_is_first {
            meet(&mut server, &mut [&mut copy], &[111]);
            meet(&mut server, &mut [&mut author, &mut copy], &[111]);
        } else {
            meet(&mut server, &mut [&mut author], &[111]);
            meet(&mut server, &mut [&mut copy, &mut author], &[111]);
        }
        assert_eq!(author.engine.replica().overlay().rows().count(), 0);
        assert_eq!(copy.engine.replica().overlay().rows().count(), 0);
    }
}

/// The hole that was there: the first had taken the id and had not pushed yet when the second asked.
#[test]
fn b03_copies_that_run_at_once_count_each_row_once() {
    let mut server = Server::new();
    let mut author = author(&mut server);
    let mut copy = author.copied(2, NOTES);
    let mut copy_of_copy = copy.copied(3, NOTES);
    let mut late = author.copied(4, NOTES);
    meet(&mut server, &mut [&mut author, &mut copy, &mut copy_of_copy], &[111]);
    meet(&mut server, &mut [&mut late, &mut copy], &[111]);
}

#[test]
fn b03_store_copied_while_a_push_is_under_way_counts_once() {
    for delivered in 0..12 {
        let mut server = Server::new();
        let mut author = author(&mut server);
        author.connect();
        server.carry(delivered, &mut author);
        let mut copy = author.copied(2, NOTES);
        copy.written(add(&votes(), 1_000));
        meet(&mut server, &mut [&mut copy], &[1_111]);
        author.disconnect();
        meet(&mut server, &mut [&mut author, &mut copy], &[111, 1_111]);
        assert_eq!(author.total(&votes(), "votes"), 1_111);
    }
}

/// The leader was told of the copy of a row that another tab had committed and it had not read: both were shown.
#[test]
fn b03_row_of_another_tab_that_was_copied_before_the_leader_read_it_shows_once() {
    let mut server = Server::new();
    let mut author = Client::new(1, NOTES);
    author.written(add(&votes(), 1));
    author.connect();
    server.settle(&mut [&mut author]);
    let mut tab = Client::on(author.store.clone(), 1, NOTES);
    tab.written(add(&votes(), 10));
    let mut copy = author.copied(2, NOTES);
    adopted(&mut server, &mut copy, "bob");
    meet(&mut server, &mut [&mut copy], &[11]);
    assert!(author.is_connected());
    for _ in 0..200 {
        if author.engine.wants_connection() && !author.is_connected() {
            author.connect();
        }
        server.carry(1, &mut author);
        tab.put(Input::Hint);
        assert!([1, 11].contains(&author.total(&votes(), "votes")));
        assert_eq!(tab.total(&votes(), "votes"), 11);
    }
    assert!(author.is_agreed());
    assert_eq!(author.total(&votes(), "votes"), 11);
    assert_eq!(author.engine.replica().overlay().rows().count(), 0);
}

/// Whoever names origins of a time to come makes no session end with each row of another tab.
#[test]
fn row_that_another_tab_writes_behind_the_welcome_ends_no_session() {
    let mut client = Client::new(1, NOTES);
    client.connect();
    client.hello();
    let copied = Some(Hlc::from_bits(u64::MAX >> 1));
    client.hear(&Message::Welcome(Welcome { copied, ..welcome(vec![(0, Mode::Feed)]) }));
    let mut tab = Client::on(client.store.clone(), 1, NOTES);
    tab.written(add(&votes(), 10));
    client.put(Input::Hint);
    assert_eq!(client.closed, []);
    assert_eq!(client.total(&votes(), "votes"), 10);
}

/// Both go on from the copy at the same time of day: their next rows have one stamp.
#[test]
fn b03_different_rows_with_one_stamp_are_both_kept() {
    let mut server = Server::new();
    let mut author = author(&mut server);
    let mut copy = author.copied(2, NOTES);
    author.written(add(&votes(), 1_000));
    copy.written(add(&votes(), 10_000));
    let stamp = |client: &Client| {
        client.engine.replica().overlay().rows().last().map(|(_, outbox)| outbox.row.stamp)
    };
    assert_eq!(stamp(&author), stamp(&copy));
    meet(&mut server, &mut [&mut copy, &mut author], &[1_111, 10_111, 11_111]);
    assert_eq!(author.total(&votes(), "votes"), 11_111);
    assert!(author.rejected().is_empty() && copy.rejected().is_empty());
}

#[test]
fn b02_store_that_was_put_back_and_goes_on_counts_once() {
    let mut server = Server::new();
    let mut author = author(&mut server);
    let old = author.copied(2, NOTES);
    meet(&mut server, &mut [&mut author], &[111]);
    author.written(add(&votes(), 1_000));
    meet(&mut server, &mut [&mut author], &[1_111]);
    let (mut back, mut copy) = (old.copied(2, NOTES), old.copied(3, NOTES));
    back.written(add(&votes(), 10_000));
    meet(&mut server, &mut [&mut back, &mut copy], &[111, 1_111, 10_111, 11_111]);
    assert_eq!(copy.total(&votes(), "votes"), 11_111);
}

/// What one says of a field after the copied row stays the last word, though the copy was stamped later.
#[test]
fn what_came_after_a_row_comes_after_its_copy() {
    let mut server = Server::new();
    let mut author = Client::new(1, NOTES);
    author.written(set(&votes(), "first"));
    let mut copy = author.copied(2, NOTES);
    // The copy forks, and stamps its rows anew, later.
    author.written(set(&votes(), "second"));
    author.connect();
    server.carry(4, &mut author);
    author.disconnect();
    copy.now = crate::world::after(copy.now, 5_000);
    meet(&mut server, &mut [&mut copy], &[0]);
    meet(&mut server, &mut [&mut author, &mut copy], &[0]);
    let shown = rejoin_core::record::visible(&copy.engine.replica().view(&votes()).unwrap());
    let title = shown.get(&crate::world::field("title"));
    assert_eq!(title, Some(&Visible::Value(rejoin_core::record::Value::text("second"))));
}

#[test]
fn adopted_rows_whose_acknowledgement_was_lost_count_once() {
    let mut server = Server::new();
    let mut author = author(&mut server);
    author.connect();
    // The rows arrive, and nothing of the answers does.
    server.carry(12, &mut author);
    let mut copy = author.copied(2, NOTES);
    author.disconnect();
    adopted(&mut server, &mut author, "bob");
    adopted(&mut server, &mut copy, "bob");
    meet(&mut server, &mut [&mut author, &mut copy], &[111]);
    assert_eq!(author.engine.replica().principal(), Some("bob"));
}

/// The original hears that a row was refused and pushes the one behind it. By its stamp the refused one then seemed
/// to be there to a copy that had not heard of it: it showed for some of its records, and was called forged.
#[test]
fn b03_row_that_was_refused_to_the_original_is_refused_to_its_copy_too() {
    for delivered in 0..14 {
        let store = MemoryStore::new();
        let mut server = Server::with(store, 1, |config| config.limits.record_bytes = 700);
        let mut author = Client::new(1, NOTES);
        author.written(set(&votes(), &"x".repeat(1_000)));
        author.written(add(&votes(), 1));
        author.connect();
        server.carry(delivered, &mut author);
        let mut copy = author.copied(2, NOTES);
        server.settle(&mut [&mut author]);
        author.disconnect();
        meet(&mut server, &mut [&mut copy], &[1]);
        let rows = copy.engine.replica().overlay().rows();
        let states: Vec<_> = rows.map(|(_, outbox)| outbox.state.clone()).collect();
        assert!(
            matches!(states[..], [RowState::Rejected { code: RejectCode::TooLarge, .. }]),
            "after {delivered} messages: {states:?}"
        );
    }
}

/// The user of one copy retries what was refused, and the other copy gets it accepted.
#[test]
fn row_that_is_retried_is_the_same_row() {
    let mut server = Server::new();
    let mut author = author(&mut server);
    server.locked = Some(crate::world::name_of("notes"));
    author.connect();
    server.settle(&mut [&mut author]);
    let refused = author.rejected();
    assert_eq!(refused.len(), 2);
    author.disconnect();
    let mut copy = author.copied(2, NOTES);
    server.locked = None;
    for client in [&mut author, &mut copy] {
        for number in &refused {
            let state = client.engine.replica().overlay().get(*number).unwrap().state.clone();
            assert!(matches!(state, RowState::Rejected { code: RejectCode::Forbidden, .. }));
            client.ask(Wish::Retry { number: *number });
        }
    }
    meet(&mut server, &mut [&mut copy], &[111]);
    meet(&mut server, &mut [&mut author, &mut copy], &[111]);
}

/// A copy had been told that its id is another's, and asked what was accepted, when the server was lost. The next one
/// knew nothing of it and welcomed it under that id: what the original had written meanwhile was covered by it where
/// they met, and of a batch only what the copy had not touched was left.
#[test]
fn copy_that_was_denied_its_id_takes_another_one_wherever_it_comes() {
    for delivered in 0..6 {
        let mut lost = Server::new();
        let mut author = Client::new(1, NOTES);
        for _ in 0..2 {
            author.written(add(&votes(), 1));
            author.connect();
            lost.settle(&mut [&mut author]);
            author.disconnect();
        }
        let mut copy = author.copied(2, NOTES);
        let other = key("notes", "b");
        author.written([add(&votes(), 10), add(&other, 10)].concat());
        author.connect();
        lost.settle(&mut [&mut author]);
        author.disconnect();
        copy.written(add(&votes(), 100));
        while !copy.engine.replica().is_denied() {
            if copy.engine.wants_connection() || !copy.engine.status().leading {
                copy.connect();
            }
            lost.carry(1, &mut copy);
        }
        // What it was told it still knows in other hands.
        lost.carry(delivered, &mut copy);
        let mut copy = copy.reopen(NOTES);
        let mut server = Server::on(MemoryStore::new(), 2);
        meet(&mut server, &mut [&mut copy], &[102]);
        assert_ne!(copy.engine.replica().id(), author.engine.replica().id());
        meet(&mut server, &mut [&mut author, &mut copy], &[12, 102, 112]);
        for client in [&author, &copy] {
            assert_eq!(client.total(&votes(), "votes"), 112);
            assert_eq!(client.total(&other, "votes"), 10);
        }
    }
}

/// A row was ahead, got another stamp and was accepted; the answer was lost, the server put back, and somebody else had
/// brought the row's effect back by the time its author came. He asked for it by its first stamp alone, which nobody
/// knew, and it counted twice.
#[test]
fn row_of_two_stamps_that_came_back_counts_once() {
    let mut came = 0;
    for delivered in 0..16 {
        let mut lost = Server::new();
        let mut author = Client::new(1, NOTES);
        author.written(add(&votes(), 1));
        author.connect();
        lost.settle(&mut [&mut author]);
        author.disconnect();
        let old = MemoryStore::new();
        old.restore(lost.store.snapshot());
        author.now = crate::world::after(author.now, 86_400_000);
        author.written(add(&votes(), 10));
        author.connect();
        lost.carry(delivered, &mut author);
        let waits = author.engine.status().pending == 1;
        author.disconnect();
        let mut other = Client::new(2, NOTES);
        other.connect();
        lost.settle(&mut [&mut other]);
        other.disconnect();
        let mut server = Server::on(old, 2);
        let accepted = other.total(&votes(), "votes") == 11;
        came += u32::from(accepted && waits);
        meet(&mut server, &mut [&mut other], &[1, 11]);
        meet(&mut server, &mut [&mut author, &mut other], &[1, 11]);
        assert_eq!(author.total(&votes(), "votes"), 11, "{delivered}");
        assert_eq!(other.total(&votes(), "votes"), 11, "{delivered}");
    }
    assert!(came > 0, "the answer was lost");
}

/// The original was away for longer than it is known what was accepted. What the copy has done comes to it: beside its
/// own rows it would be shown twice, and pushed they would count twice.
#[test]
fn c02_rows_of_which_a_copy_was_accepted_and_forgotten_go_to_their_user() {
    let kept = 64_000;
    let mut server = Server::with(MemoryStore::new(), 1, |config| config.retention = Millis(kept));
    let mut author = author(&mut server);
    let mut copy = author.copied(2, NOTES);
    meet(&mut server, &mut [&mut copy], &[111]);
    copy.disconnect();
    for _ in 0..2 * kept / 1_000 {
        server.pass(1_000, &mut []);
    }
    assert_eq!(server.store.rows(Keyspace::Log), []);
    meet(&mut server, &mut [&mut author], &[111, 1]);
    assert_eq!(author.total(&votes(), "votes"), 111);
    let rejected = author.rejected();
    assert_eq!(rejected.len(), 2);
    // One is forgotten, and the other one, which the user insists on, counts once more.
    author.ask(Wish::Discard { number: rejected[0] });
    author.ask(Wish::Retry { number: rejected[1] });
    meet(&mut server, &mut [&mut author], &[111, 211]);
    assert_eq!(author.total(&votes(), "votes"), 211);
}

/// What is forgotten goes to its user; a row of the far future, which a wrong clock gave, is known for good.
#[test]
fn c02_three_copies_with_a_row_of_the_far_future_that_come_long_apart_count_it_once() {
    let kept = 64_000;
    for first in 0..3 {
        let mut server =
            Server::with(MemoryStore::new(), 1, |config| config.retention = Millis(kept));
        let mut author = author(&mut server);
        author.now = crate::world::after(author.now, 86_400_000);
        author.written(add(&votes(), 1_000));
        author.now = crate::world::start();
        let mut copies = [author.copied(2, NOTES), author.copied(3, NOTES), author];
        copies.rotate_left(first);
        let [first, others @ ..] = &mut copies;
        meet(&mut server, &mut [first], &[1_111]);
        first.disconnect();
        for _ in 0..2 * kept / 1_000 {
            server.pass(1_000, &mut []);
        }
        for other in others {
            other.now = crate::world::after(other.now, 2 * kept);
            meet(&mut server, &mut [other], &[1_111, 1_001]);
            assert_eq!(other.total(&votes(), "votes"), 1_111);
            assert_eq!(other.rejected().len(), 2);
            other.disconnect();
        }
    }
}
