//! What a session does when nobody answers.

use crate::world::{Client, Server, key, set, welcome};
use rejoin_core::{
    codec::{encode_record, record_digest},
    hlc::Hlc,
    id::{Digest, Epoch, Seq},
    protocol::{
        engine::{Input, Link, Notice, Wish},
        limits::{ACK_WITHIN, PART_BYTES, RECALL_ROWS_MAX, TOKEN_BYTES_MAX},
        message::{
            Ack, Body, Bye, ByeCode, Changes, Entry, Identity, Left, Message, Mode, Origin,
            Outcome, PROOF_BYTES, Place, Recalled, Records, Stated, Taken, Welcome,
        },
        wire,
    },
    record::Record,
    replica::RowState,
    testing::memory::MemoryStore,
    time::{Millis, WallMillis},
    tree::combine_roots,
};

/// A deadline that has passed when it is told makes its driver spin.
#[test]
fn deadline_lies_ahead_of_every_input_in_every_phase() {
    let mut client = Client::new(1, &["notes"]);
    client.written(set(&key("notes", "a"), "one"));
    client.connect();
    let mut inputs = 0;
    let mut opened = 0;
    while client.now.mono.0 < 200_000 {
        if client.engine.wants_connection() {
            client.connect();
        }
        match client.engine.deadline() {
            Some(at) => {
                assert!(at > client.now.mono, "{at:?} {:?}", client.engine.status());
                client.pass(at.since(client.now.mono).0);
            }
            None => client.pass(1_000),
        }
        inputs += 1;
        let said = client.said();
        if said.iter().any(|message| matches!(message, Message::Hello(_))) {
            opened += 1;
            if opened % 2 == 0 {
                client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
            }
        }
    }
    assert!(opened > 4 && inputs < 100, "{opened} {inputs}");
}

/// Nothing but a ping may follow a hello before its welcome: a token that was refreshed there was taken for
/// misconduct, and the peer ended the session with a reproach.
#[test]
fn token_that_comes_before_the_welcome_starts_the_session_over() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.put(Input::Token(Some(String::from("another"))));
    let said = client.said();
    assert!(!said.iter().any(|message| matches!(message, Message::Refresh { .. })), "{said:?}");
    assert!(client.engine.wants_connection());
    client.connect();
    let token = client.said().into_iter().find_map(|message| match message {
        Message::Hello(hello) => hello.token,
        _ => None,
    });
    assert_eq!(token.as_deref(), Some("another"));
}

#[test]
fn peer_that_never_welcomes_is_given_up_and_told() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.pass(10_200);
    assert_eq!(client.engine.status().link, Link::Offline);
    assert!(client.notices.iter().any(|notice| matches!(notice, Notice::Ended { .. })));
}

#[test]
fn welcome_behind_a_long_token_has_the_time_that_the_token_takes_on_a_slow_line() {
    let mut client = Client::new(1, &["notes"]);
    client.put(Input::Token(Some("t".repeat(TOKEN_BYTES_MAX))));
    client.connect();
    client.pass(14_000);
    assert_eq!(client.engine.status().link, Link::Opening);
    client.pass(500);
    assert_eq!(client.engine.status().link, Link::Offline);
}

#[test]
fn p09_peer_of_another_version_gets_nothing_and_what_waits_goes_to_one_of_the_own() {
    let mut client = Client::new(1, &["notes"]);
    client.written(set(&key("notes", "a"), "one"));
    let reason = String::from("no common version");
    let refused = Bye { code: ByeCode::Version, reason, retry_after: None };
    let later = Welcome { version: 2, ..welcome(vec![(0, Mode::Feed)]) };
    for answer in [Message::Bye(refused), Message::Welcome(later)] {
        client.connect();
        client.hello();
        client.notices.clear();
        client.hear(&answer);
        let said = client.said();
        assert!(!said.iter().any(|message| matches!(message, Message::Push(_))), "{said:?}");
        let told = |notice: &Notice| matches!(notice, Notice::Ended { code: ByeCode::Version, .. });
        assert!(client.notices.iter().any(told), "{:?}", client.notices);
        let status = client.engine.status();
        assert_eq!((status.link, status.pending), (Link::Offline, 1));
    }
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    assert!(client.said().iter().any(|message| matches!(message, Message::Push(_))));
}

#[test]
fn long_outbox_of_a_fork_is_recalled_part_by_part_however_long_that_takes() {
    let mut client = Client::new(1, &["notes"]);
    for _ in 0..=3 * RECALL_ROWS_MAX {
        client.write(set(&key("notes", "a"), "one"));
    }
    client.connect();
    client.hello();
    let forked = Welcome { identity: Identity::Forked, ..welcome(Vec::new()) };
    client.hear(&Message::Welcome(forked));
    for expected in [RECALL_ROWS_MAX, RECALL_ROWS_MAX, RECALL_ROWS_MAX, 1] {
        let said = client.said();
        let [Message::Recall(recall)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(recall.rows.len(), expected);
        client.pass(9_000);
        let taken = |origin: &Origin| Taken { origin: *origin, stamp: origin.stamp, seq: Seq(1) };
        let accepted = recall.rows.iter().map(taken).collect();
        client.hear(&Message::Recalled(Recalled { accepted, unsure: Vec::new() }));
    }
    let reborn = client.notices.iter().any(|notice| matches!(notice, Notice::Reborn { .. }));
    assert!(reborn, "{:?}", client.notices);
    let mut rows = client.engine.replica().overlay().rows();
    assert!(rows.all(|(_, outbox)| matches!(outbox.state, RowState::Accepted(_))));
}

/// At no position at all it could not be done where its record was collected, and was shown there for ever. What a
/// recall says is no position: a record of the row may have been lost since.
#[test]
fn row_that_turns_out_to_be_accepted_is_sent_again_and_has_the_position_that_it_is_given() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.hello();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    let number = client.written(set(&key("notes", "a"), "one"));
    client.disconnect();
    client.said();
    client.connect();
    client.hello();
    let origin = client.engine.replica().overlay().get(number).unwrap().row.origin();
    let (stamp, accepted) = (origin.stamp, Some(origin.stamp.hlc));
    let welcome = Welcome { accepted, head: Seq(7), ..welcome(vec![(0, Mode::Feed)]) };
    client.hear(&Message::Welcome(welcome));
    let accepted = vec![Taken { origin, stamp, seq: Seq(5) }];
    client.hear(&Message::Recalled(Recalled { accepted, unsure: Vec::new() }));
    let state =
        |client: &Client| client.engine.replica().overlay().get(number).unwrap().state.clone();
    assert_eq!(state(&client), RowState::Waiting);
    let said = client.said();
    assert!(said.iter().any(|message| matches!(message, Message::Push(_))), "{said:?}");
    let outcomes = vec![(number, Outcome::Accepted { seq: Seq(6) })];
    client.hear(&Message::Ack(Ack { outcomes }));
    assert_eq!(state(&client), RowState::Accepted(Seq(6)));
}

/// A peer that was put back to an earlier state has what it had once collected: that is healed, and is no divergence.
#[test]
fn roots_under_an_earlier_horizon_are_not_compared() {
    let mut client = Client::new(1, &["notes"]);
    let stated = |horizon, root| {
        let state = Stated { seq: Seq(0), horizon, hlc: horizon, roots: vec![(0, root)] };
        Message::Pong { nonce: 1, state: Some(state) }
    };
    let (collected, nothing) = (Hlc::at(WallMillis(1)), combine_roots([]));
    let welcomed =
        |horizon| Message::Welcome(Welcome { horizon, ..welcome(vec![(0, Mode::Feed)]) });
    client.connect();
    client.hello();
    client.hear(&welcomed(collected));
    let changes = Changes {
        subscriptions: vec![0],
        after: Place::default(),
        upto: Place::default(),
        cut: true,
        entries: Vec::new(),
        state: None,
    };
    client.hear(&Message::Changes(changes));
    client.hear(&stated(collected, nothing));
    assert!(client.is_agreed());
    client.disconnect();
    client.said();
    client.connect();
    client.hello();
    client.hear(&welcomed(Hlc::ZERO));
    client.hear(&stated(Hlc::ZERO, Digest::from_bytes([1; 32])));
    let diverged = |notice: &Notice| matches!(notice, Notice::Diverged { .. });
    assert!(!client.notices.iter().any(diverged), "{:?}", client.notices);
    let said = client.said();
    assert!(said.iter().any(|message| matches!(message, Message::AskRoots(_))), "{said:?}");
}

/// It was shown as live and verified until its walk had begun, since the lost history had been verified at
/// the very same position.
#[test]
fn history_that_is_about_to_be_healed_is_not_shown_as_verified() {
    let (mut client, mut author) = (Client::new(1, &["notes"]), Client::new(2, &["notes"]));
    let mut server = Server::new();
    client.connect();
    client.written(set(&key("notes", "a"), "lost"));
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    client.disconnect();
    // Erased, and as far as it was with something else.
    let mut server = Server::on(MemoryStore::new(), 2);
    author.connect();
    author.written(set(&key("notes", "b"), "instead"));
    server.settle(&mut [&mut author]);
    client.connect();
    let theirs = author.engine.replica().view(&key("notes", "b")).unwrap();
    for _ in 0..100 {
        server.carry(1, &mut client);
        let status = client.engine.status();
        if status.link == Link::Live || (status.is_verified && status.link != Link::Opening) {
            let ours = client.engine.replica().view(&key("notes", "b")).unwrap();
            assert_eq!(ours, theirs, "{status:?}");
        }
    }
    server.settle(&mut [&mut client, &mut author]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
}

/// A row that was acknowledged under an id which the replica had before was shown for ever, and was nowhere
/// else: the server had been erased before it came back.
#[test]
fn row_of_an_earlier_id_that_the_server_lost_goes_back_to_the_user() {
    let mut server = Server::new();
    let text = || set(&key("notes", "a"), "once acknowledged");
    let (mut original, mut copy) = (Client::new(1, &["notes"]), Client::new(1, &["notes"]));
    let number = copy.written(text());
    original.written(text());
    original.connect();
    server.settle(&mut [&mut original]);
    let mut copy = copy.reopen(&["notes"]);
    let old = copy.engine.replica().id();
    copy.connect();
    while copy.engine.replica().id() == old {
        server.carry(1, &mut copy);
    }
    copy.disconnect();
    assert_eq!(copy.engine.status().pending, 0, "it was found to be acknowledged");
    let mut erased = Server::on(MemoryStore::new(), 2);
    copy.connect();
    erased.settle(&mut [&mut copy]);
    assert_eq!(copy.rejected(), [number], "{:?}", copy.notices);
    copy.ask(Wish::Retry { number });
    erased.settle(&mut [&mut copy]);
    assert!(copy.is_agreed(), "{:?}", copy.engine.status());
    let mut other = Client::new(2, &["notes"]);
    other.connect();
    erased.settle(&mut [&mut other]);
    let key = key("notes", "a");
    assert!(other.engine.replica().view(&key).unwrap().is_live());
    assert_eq!(other.engine.replica().view(&key), copy.engine.replica().view(&key));
}

fn entry_of(collection: &str) -> Entry {
    let record = Record::default();
    let digest = record_digest(&encode_record(&record));
    let check = *digest.as_bytes().first_chunk().unwrap();
    let (key, body) = (key(collection, "a"), Body::Whole(record));
    let (proof, conflicts) = ([0; PROOF_BYTES], Vec::new());
    Entry { key, seq: Seq(1), check, proof, body, conflicts }
}

fn byes(said: Vec<Message>) -> Vec<ByeCode> {
    let byes = said.into_iter().filter_map(|message| match message {
        Message::Bye(bye) => Some(bye.code),
        _ => None,
    });
    byes.collect()
}

/// They would never become visible, and keep the log from being folded for ever.
#[test]
fn records_and_changes_beyond_the_subscription_end_the_session() {
    let entry = || entry_of("elsewhere");
    let records = Message::Records(Records { subscription: 0, entries: vec![entry()] });
    let (after, upto) = (Place::default(), Place::at(Seq(1)));
    let entries = vec![entry()];
    let changes = Changes { subscriptions: vec![0], after, upto, cut: true, entries, state: None };
    for (mode, message) in [(Mode::Heal, records), (Mode::Feed, Message::Changes(changes))] {
        let mut client = Client::new(1, &["notes"]);
        client.connect();
        client.hello();
        client.hear(&Message::Welcome(welcome(vec![(0, mode)])));
        client.hear(&message);
        assert_eq!(byes(client.said()), [ByeCode::Misbehaved]);
        assert_eq!(client.engine.replica().base().staged_len(), 0);
    }
}

#[test]
fn c14_changes_that_build_on_what_is_not_there_are_not_taken_in_and_asked_for_again() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    let asked = client.hello();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    let (after, upto, entries) = (Place::at(Seq(1)), Place::at(Seq(2)), vec![entry_of("notes")]);
    let changes = Changes { subscriptions: vec![0], after, upto, cut: true, entries, state: None };
    client.hear(&Message::Changes(changes));
    assert_eq!(byes(client.said()), [ByeCode::Misbehaved]);
    assert!(!client.engine.replica().view(&key("notes", "a")).unwrap().is_live());
    client.connect();
    assert_eq!(client.hello().subscriptions, asked.subscriptions);
}

/// Others may bring them back: a set that was written without them under the same id would have removed them.
#[test]
fn c02_who_gives_up_rows_that_the_server_lost_with_his_base_goes_on_under_another_id() {
    // Whose history broke off may know a later row, which others brought back, and not an earlier one.
    for (lost, broke_off, mode) in [
        (true, false, Mode::Rebase),
        (false, true, Mode::Rebase),
        (false, false, Mode::Rebase),
        (true, true, Mode::Heal),
        (false, false, Mode::Feed),
    ] {
        let mut server = Server::new();
        let mut client = Client::new(1, &["notes"]);
        client.written(set(&key("notes", "a"), "kept"));
        client.connect();
        server.settle(&mut [&mut client]);
        client.disconnect();
        let before = client.engine.replica().id();
        let acked = client.engine.replica().acked();
        client.connect();
        client.run();
        let accepted = (!lost).then_some(acked);
        let (_, standing) = &client.engine.replica().standings()[0];
        let reached = standing.cursor.max(standing.place.seq);
        let seq = if broke_off { Seq(0) } else { reached };
        let left = Left { epoch: standing.epoch.unwrap(), seq, hlc: acked };
        let (epoch, lineage) = (Epoch::from_bytes([9; 16]), vec![left]);
        let welcome = Welcome { accepted, epoch, lineage, ..welcome(vec![(0, mode)]) };
        client.hear(&Message::Welcome(welcome));
        client.run();
        let same = client.engine.replica().id() == before;
        let gives_up = mode == Mode::Rebase && (lost || broke_off);
        assert_eq!(same, !gives_up, "{mode:?}, lost: {lost}, broke off: {broke_off}");
    }
}

/// On a slow line, with large changes ahead of the answer, the replica gave up and began anew, for ever.
#[test]
fn answer_to_a_recall_that_stands_behind_something_large_is_waited_for() {
    let mut client = Client::new(1, &["notes"]);
    client.written(set(&key("notes", "a"), "waits"));
    let stamp = client.engine.replica().overlay().rows().next().unwrap().1.row.stamp;
    client.connect();
    client.run();
    let copied = Some(stamp.hlc);
    client.hear(&Message::Welcome(Welcome { copied, ..welcome(vec![(0, Mode::Feed)]) }));
    client.run();
    assert!(client.said().iter().any(|message| matches!(message, Message::Recall(_))));
    for part in wire::frames(0, &[7; 4 * PART_BYTES]).take(3) {
        client.pass(8_000);
        assert!(client.closed.is_empty(), "{:?}", client.notices);
        client.put(Input::Frame(part));
    }
    let pings = client.said().into_iter().filter(|said| matches!(said, Message::Ping { .. }));
    assert_eq!(pings.count(), 1, "its peer hears that it lives");
    client.pass(10_000);
    assert_eq!(client.closed.len(), 1, "what has stopped is not waited for");
}

/// A line that has lost its packets was noticed by the limit of an acknowledgement, which each further write put off.
#[test]
fn p04_line_in_use_that_goes_silent_is_given_up_within_seconds() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["*"]);
    client.written(set(&key("notes", "a"), "one"));
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    let cut = client.now.mono;
    while client.closed.is_empty() {
        client.written(set(&key("notes", "a"), "nobody hears this"));
        client.pass(500);
        assert!(client.now.mono.since(cut) <= Millis(8_000), "{:?}", client.engine.deadline());
    }
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    let idle = client.now.mono;
    while client.closed.len() < 2 {
        client.pass(500);
        assert!(client.now.mono.since(idle) <= Millis(25_000), "an idle one");
    }
}

#[test]
fn peer_that_answers_pings_and_acknowledges_nothing_is_left_however_much_is_written() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.run();
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::InSync)])));
    client.run();
    let since = client.now.mono;
    while client.closed.is_empty() {
        client.written(set(&key("notes", "a"), "again"));
        client.hear(&Message::Ping { nonce: client.now.mono.0 });
        client.pass(1_000);
        assert!(client.now.mono.since(since) <= Millis(17_000), "each write put it off");
    }
    assert!(client.now.mono.since(since) >= ACK_WITHIN);
}

/// A store that was slow with what a peer had sent kept its holder from listening, and that was taken for silence.
#[test]
fn peer_that_nobody_listens_to_is_not_taken_for_dead() {
    let mut server = Server::new();
    let (mut writer, mut client) = (Client::new(1, &["*"]), Client::new(2, &["*"]));
    writer.connect();
    client.connect();
    writer.written(set(&key("notes", "a"), "before"));
    server.settle(&mut [&mut writer, &mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    client.hold = true;
    for at in 0..24 {
        writer.written(set(&key("notes", &at.to_string()), &"x".repeat(200_000)));
        server.settle(&mut [&mut writer, &mut client]);
    }
    assert!(client.engine.is_congested());
    for _ in 0..60 {
        client.pass(1_000);
        assert!(client.closed.is_empty(), "{:?}", client.notices);
    }
    client.release();
    server.now = client.now;
    server.settle(&mut [&mut writer, &mut client]);
    assert!(client.is_agreed(), "{:?}", client.engine.status());
    while client.closed.is_empty() {
        client.pass(500);
        let waited = client.now.mono.since(server.now.mono);
        assert!(waited <= Millis(25_000), "who listens and hears nothing");
    }
}

/// A page passes over a record that has moved on since. In a history that broke off before that, the record stands before
/// the place to which the pages had come: a feed that went on from there would never bring it.
#[test]
fn place_between_two_cuts_is_good_in_its_own_history_only() {
    let store = MemoryStore::new();
    let with = |store, number| Server::with(store, number, |config| config.page_bytes_aim = 1);
    let mut server = with(store, 1);
    let (mut writer, mut client) = (Client::new(1, &["*"]), Client::new(2, &["*"]));
    let (first, second) = (key("notes", "first"), key("notes", "second"));
    writer.connect();
    client.connect();
    writer.written(set(&key("notes", "a"), "one"));
    server.settle(&mut [&mut writer, &mut client]);
    client.disconnect();
    writer.written(set(&first, "kept"));
    writer.written(set(&second, "kept"));
    server.settle(&mut [&mut writer]);
    let copy = server.store.snapshot();
    writer.written(set(&first, "lost"));
    server.settle(&mut [&mut writer]);
    client.connect();
    let place = |client: &Client| client.engine.replica().standings()[0].1.place.clone();
    while place(&client).key.as_ref() != Some(&second) {
        assert!(server.moves(&mut client), "{:?}", place(&client));
    }
    client.disconnect();
    let store = MemoryStore::new();
    store.restore(copy);
    let mut server = with(store, 2);
    for _ in 0..3 {
        if client.engine.wants_connection() {
            client.connect();
        }
        server.settle(&mut [&mut client]);
    }
    let diverged = |notice: &Notice| matches!(notice, Notice::Diverged { .. });
    assert!(!client.notices.iter().any(diverged), "{:?}", client.notices);
    assert!(client.is_agreed(), "{:?}", client.notices);
    assert!(client.engine.replica().view(&first).unwrap().is_live());
}
