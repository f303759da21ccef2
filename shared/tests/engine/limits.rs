//! Every queue has a limit, and whoever meets it is told.

use crate::world::{Client, Server, change, field, key, set, welcome};
use rejoin_core::{
    codec::{encode_record, record_digest},
    hlc::{Hlc, Stamp},
    id::{ReplicaId, Seq},
    message::limits::{
        EARLY_BYTES_MAX, INCARNATIONS_MAX, WISH_BYTES_WAITING_MAX, WISHES_WAITING_MAX,
    },
    protocol::{
        engine::{Input, Notice, WishError},
        message::{Body, ByeCode, Changes, Entry, Message, Mode, PROOF_BYTES, Place},
    },
    record::{Record, Value},
    replica::{Action, FieldAction, FieldChange},
};

/// A record comes with a time behind which there is none.
pub(crate) fn last_tick(client: &mut Client) {
    let after = client.engine.replica().standings()[0].1.place.clone();
    let seq = Seq(after.seq.0 + 1);
    let stamp = Stamp { hlc: Hlc::from_bits(u64::MAX), replica: ReplicaId::from_bytes([7; 16]) };
    let mut record = Record::default();
    record.seen.raise(stamp.replica, stamp.hlc);
    let mut check = [0; 8];
    check.copy_from_slice(&record_digest(&encode_record(&record)).as_bytes()[..8]);
    let key = key("notes", "last");
    let body = Body::Whole(record);
    let entry = Entry { key, seq, check, proof: [0; PROOF_BYTES], body, conflicts: vec![] };
    let changes = Changes {
        subscriptions: vec![0],
        after,
        upto: Place::at(seq),
        cut: true,
        entries: vec![entry],
        state: None,
    };
    client.hear(&Message::Changes(changes));
}

#[test]
fn wishes_beyond_the_limit_are_refused_and_can_be_made_again() {
    let mut client = Client::new(1, &["notes"]);
    client.hold = true;
    let key = key("notes", "a");
    let first = client.write(set(&key, "under way"));
    for _ in 0..WISHES_WAITING_MAX {
        client.write(set(&key, "waits"));
    }
    assert_eq!(client.done, [].into(), "all of them may wait");
    let over = client.write(set(&key, "over"));
    let busy = client.done.remove(&over);
    assert!(matches!(busy, Some(Err(WishError::Busy { max: WISHES_WAITING_MAX, .. }))), "{busy:?}");
    client.commit_fault = Some(crate::world::Fault::Always(rejoin_core::io::FaultClass::Full));
    client.read_fault = Some(crate::world::Fault::Always(rejoin_core::io::FaultClass::Permanent));
    client.release();
    assert!(client.done.contains_key(&first));
    assert_eq!(client.done.len(), WISHES_WAITING_MAX + 1, "every one is answered");
    (client.commit_fault, client.read_fault) = (None, None);
    client.written(set(&key, "again"));
}

#[test]
fn bytes_of_wishes_beyond_the_limit_are_refused_and_can_be_made_again() {
    let mut client = Client::new(1, &["notes"]);
    client.hold = true;
    let large = vec![Value::text(&"x".repeat(250_000))];
    let action = FieldAction::Insert(large);
    let key = key("notes", "a");
    let changes = change(&key, Action::Upsert(vec![FieldChange { field: field("tags"), action }]));
    client.write(set(&key, "under way"));
    let mut taken = 0;
    let over = loop {
        let id = client.write(changes.clone());
        if client.done.contains_key(&id) {
            break id;
        }
        taken += 1;
        assert!(taken <= 1_000, "no limit");
    };
    assert_eq!(taken, WISH_BYTES_WAITING_MAX / 250_100);
    let busy = client.done.remove(&over);
    assert!(matches!(busy, Some(Err(WishError::Busy { unit: "bytes", .. }))), "{busy:?}");
    client.release();
    client.written(changes);
}

#[test]
fn frames_before_the_welcome_is_stored_are_bounded() {
    let mut client = Client::new(1, &["notes"]);
    client.connect();
    client.hello();
    client.hold = true;
    client.hear(&Message::Welcome(welcome(vec![(0, Mode::Feed)])));
    let frame = vec![0; 1 << 20];
    let mut congested = false;
    for _ in 0..EARLY_BYTES_MAX >> 20 {
        client.put(Input::Frame(frame.clone()));
        congested |= client.engine.is_congested();
    }
    assert!(congested, "whoever reads the socket is told to wait");
    assert_eq!(client.closed.len(), 0);
    client.put(Input::Frame(frame));
    assert_eq!(client.closed.len(), 1);
    let ended = |notice: &Notice| matches!(notice, Notice::Ended { code, .. } if *code == ByeCode::SlowConsumer);
    assert!(client.notices.iter().any(ended), "{:?}", client.notices);
    assert!(!client.engine.is_congested());
}

#[test]
fn hellos_that_are_never_welcomed_leave_a_bounded_list_and_no_fork() {
    let mut server = Server::new();
    let mut client = Client::new(1, &["notes"]);
    client.written(set(&key("notes", "a"), "one"));
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed());
    // Heard by the host, which is not heard.
    client.disconnect();
    client.connect();
    server.settle_deaf(&mut client);
    for _ in 0..200 {
        client.disconnect();
        client.connect();
        let hello = client.hello();
        assert!(hello.known.len() <= INCARNATIONS_MAX, "{}", hello.known.len());
    }
    assert!(client.engine.replica().incarnations().len() <= INCARNATIONS_MAX);
    let copy = client.store.snapshot();
    client.disconnect();
    client.connect();
    server.settle(&mut [&mut client]);
    assert!(client.is_agreed(), "{:?} {:?}", client.engine.status(), client.notices);
    let reborn = |client: &Client| {
        client.notices.iter().any(|notice| matches!(notice, Notice::Reborn { .. }))
    };
    assert!(!reborn(&client), "a true session is no fork");
    let mut clone =
        Client::on(rejoin_core::testing::memory::MemoryStore::from_image(copy), 7, &["notes"]);
    clone.now = client.now;
    clone.connect();
    server.settle(&mut [&mut clone, &mut client]);
    assert!(reborn(&clone), "and a fork is no true session");
}
