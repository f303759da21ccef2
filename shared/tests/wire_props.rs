//! The bytes of messages: decoding gives back what was encoded, what decodes is canonical, and nothing
//! that a peer sends panics, takes memory that it did not send, or is read in two ways.

use proptest::prelude::*;
use rejoin_core::{
    codec::{CodecFault, Writer, decode_record, encode_record, write_value},
    hlc::{Hlc, Stamp},
    id::{
        CollectionName, Cursor, Digest, Epoch, Incarnation, Pattern, RecordId, RecordKey,
        ReplicaId, SPACE_BYTES_MAX, Seq, SpaceId,
    },
    protocol::{
        limits,
        message::{
            AskRoots, Body, Bye, ByeCode, Changes, Copied, Hello, Message, Origin, Place, Presence,
            Push, PushRow, Recalled, Records, Refill, RefillOutcome, Refilled, Subscription, Taken,
            Walk,
        },
        wire::{decode, encode, encode_frame, kept_frame_bytes, split_frame},
    },
    record::Value,
    testing::{
        generators::{arbitrary_record, arbitrary_value},
        messages::{MESSAGE_TYPES, arbitrary_message, arbitrary_message_of},
        rng::Rng,
        twin,
    },
    time::WallMillis,
    tree::{NodeState, Prefix, WalkBody, WalkMessage, WalkNode},
};

proptest! {
    #[test]
    fn every_message_survives_the_wire(seed: u64, number in 0..MESSAGE_TYPES) {
        let message = arbitrary_message_of(&mut Rng::new(seed), number);
        let bytes = encode(&message);
        let decoded = decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &message);
        prop_assert_eq!(encode(&decoded), bytes);
    }

    #[test]
    fn every_record_survives_storage(seed: u64) {
        let record = arbitrary_record(&mut Rng::new(seed));
        let bytes = encode_record(&record);
        let decoded = decode_record(&bytes).unwrap();
        prop_assert_eq!(encode_record(&decoded), bytes);
        prop_assert_eq!(decoded, record);
    }

    #[test]
    fn frames_keep_channel_and_message(seed: u64, channel: u64, shift in 0_u32..64) {
        let message = arbitrary_message(&mut Rng::new(seed));
        let frame = encode_frame(channel >> shift, &message);
        let (got, rest) = split_frame(&frame).unwrap();
        prop_assert_eq!(got, channel >> shift);
        prop_assert_eq!(rest, encode(&message));
    }

    #[test]
    fn arbitrary_bytes_decode_canonically_or_not_at_all(bytes: Vec<u8>) {
        if let Ok(message) = decode(&bytes) {
            prop_assert_eq!(encode(&message), bytes);
        }
    }

    #[test]
    fn a_channel_has_one_form(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        if let Ok((channel, rest)) = split_frame(&bytes) {
            let head = bytes.len() - rest.len();
            let again = encode_frame(channel, &Message::Ping { nonce: 0 });
            prop_assert_eq!(&bytes[..head], &again[..head]);
        }
    }
}

/// As many as `MUTATIONS` says.
#[test]
fn damaged_messages_are_refused_or_canonical() {
    let mutations = match std::env::var("MUTATIONS") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => 100_000_u64,
    };
    let mut rng = Rng::new(7);
    let (mut refused, mut read) = (0, 0);
    for round in 0..mutations / 4 {
        let mut bytes = encode(&arbitrary_message_of(&mut rng, round));
        for _ in 0..4 {
            twin::damage(&mut rng, &mut bytes);
            match decode(&bytes) {
                Ok(message) => {
                    read += 1;
                    assert_eq!(encode(&message), bytes);
                }
                Err(_) => refused += 1,
            }
        }
    }
    // Both happen: damage to a digest is not visible, damage to structure is.
    assert!(refused > mutations / 2 && read > mutations / 200, "{refused} refused, {read} read");
}

#[test]
fn messages_cut_short_anywhere_are_refused() {
    let mut rng = Rng::new(8);
    for number in 0..MESSAGE_TYPES * 20 {
        let mut bytes = encode(&arbitrary_message_of(&mut rng, number));
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut at {len} of {}", bytes.len());
        }
        bytes.push(0);
        assert_eq!(decode(&bytes).unwrap_err().kind, CodecFault::Trailing);
    }
}

/// What is well-formed, and no peer would say.
#[test]
fn messages_that_mean_nothing_are_refused() {
    let mut rng = Rng::new(10);
    let partial = core::iter::repeat_with(|| arbitrary_message(&mut rng)).find_map(|message| {
        let Message::Changes(Changes { entries, .. }) = message else { return None };
        entries.into_iter().find(|entry| !matches!(entry.body, Body::Whole(_)))
    });
    let records = Records { subscription: 0, entries: partial.into_iter().collect() };
    let refused = decode(&encode(&Message::Records(records))).unwrap_err();
    assert_eq!(refused.kind, CodecFault::Range, "a part of a record where only whole ones are");

    let stamp = |byte| Stamp { hlc: Hlc::from_bits(5), replica: ReplicaId::from_bytes([byte; 16]) };
    let origin = Origin { stamp: stamp(0xa1), digest: [3; 16] };
    let copy = Taken { origin, stamp: stamp(0xa2), seq: Seq(7) };
    let recalled = Recalled { accepted: vec![copy], unsure: Vec::new() };
    let mut bytes = encode(&Message::Recalled(recalled));
    bytes.iter_mut().filter(|byte| **byte == 0xa2).for_each(|byte| *byte = 0xa1);
    let refused = decode(&bytes).unwrap_err();
    assert_eq!(refused.kind, CodecFault::NotCanonical, "a copy under the stamp of its origin");

    let collection = CollectionName::parse("tasks").unwrap();
    let message = WalkMessage { salt: 0, body: WalkBody::Equal };
    let mut bytes = encode(&Message::Walk(Walk { subscription: 0, collection, message }));
    assert_eq!(bytes.pop(), Some(1));
    bytes.push(6);
    assert_eq!(decode(&bytes).unwrap_err().kind, CodecFault::Range, "a body of no kind");
}

#[test]
fn a_record_that_is_brought_back_alone_takes_no_more_than_is_said_before() {
    let mut rng = Rng::new(11);
    let mut refills = 0;
    while refills < 50 {
        let Message::Refill(refill) = arbitrary_message(&mut rng) else { continue };
        refills += 1;
        for kept in refill.entries {
            let said = kept_frame_bytes(&kept);
            for subscription in [0, u32::MAX] {
                let alone = Refill { subscription, entries: vec![kept.clone()] };
                let frame = encode_frame(u64::MAX, &Message::Refill(alone));
                assert!(frame.len() <= said && said <= frame.len() + 9, "{said}");
            }
        }
    }
}

/// A length of 2^60 in the place of every byte: refused at once, whatever it counts.
#[test]
fn lengths_without_bytes_buy_no_memory() {
    let mut rng = Rng::new(9);
    for number in 0..MESSAGE_TYPES * 4 {
        let bytes = encode(&arbitrary_message_of(&mut rng, number));
        for at in 0..bytes.len() {
            for major in [0x5b, 0x7b, 0x9b, 0xbb] {
                let mut swollen = bytes[..at].to_vec();
                swollen.push(major);
                swollen.extend((1_u64 << 60).to_be_bytes());
                swollen.extend(&bytes[at + 1..]);
                if let Ok(message) = decode(&swollen) {
                    // Inside a byte string or text the length is content.
                    assert_eq!(encode(&message), swollen);
                }
            }
        }
    }
}

fn empty_row() -> PushRow {
    let (hlc, origin, insisted, digest) = (Hlc::ZERO, None, false, [0; 16]);
    PushRow { number: 1, hlc, origin, insisted, digest, writes: Vec::new() }
}

#[test]
fn lists_and_texts_end_at_their_limits() {
    let hello = |known: usize, subscriptions: usize, epochs: usize, token: usize| {
        let mut rng = Rng::new(1);
        let Message::Hello(some) = arbitrary_message_of(&mut rng, 0) else {
            panic!("type 0 is hello")
        };
        let subscription = Subscription {
            id: 1,
            pattern: Pattern::All,
            cursor: None,
            place: Place::default(),
            root: None,
            time: Hlc::ZERO,
        };
        Message::Hello(Hello {
            known: vec![Incarnation::from_bytes([1; 16]); known],
            subscriptions: vec![subscription; subscriptions],
            epochs: vec![Epoch::from_bytes([1; 16]); epochs],
            token: Some("t".repeat(token)),
            ..some
        })
    };
    let push = |rows: usize| Message::Push(Push { named: 0, rows: vec![empty_row(); rows] });
    let changes = |subscriptions: usize| {
        Message::Changes(Changes { subscriptions: vec![1; subscriptions], ..Changes::default() })
    };
    let bye = |reason: usize| {
        Message::Bye(Bye { code: ByeCode::Busy, reason: "r".repeat(reason), retry_after: None })
    };
    let refilled = |records: usize| {
        let outcomes = vec![RefillOutcome::Joined(Seq(1)); records];
        Message::Refilled(Refilled { subscription: 0, outcomes })
    };
    let refresh = |token: usize| Message::Refresh { token: "t".repeat(token) };
    let list = |hashes: u32| {
        Message::Walk(Walk {
            subscription: 1,
            collection: CollectionName::parse("c").unwrap(),
            message: WalkMessage {
                salt: 1,
                body: WalkBody::Nodes(vec![WalkNode {
                    prefix: Prefix::ROOT,
                    state: NodeState::List((0..hashes).collect()),
                }]),
            },
        })
    };
    let (known, subscriptions, epochs, token) = (
        limits::INCARNATIONS_MAX + limits::PAST_INCARNATIONS_MAX,
        limits::SUBSCRIPTIONS_MAX,
        limits::EPOCHS_MAX,
        limits::TOKEN_BYTES_MAX,
    );
    for (within, beyond) in [
        (hello(known, subscriptions, epochs, token), hello(known + 1, 0, 0, 0)),
        (hello(0, 0, 0, 0), hello(0, subscriptions + 1, 0, 0)),
        (hello(1, 1, 1, 1), hello(0, 0, epochs + 1, 0)),
        (hello(1, 0, 0, 0), hello(0, 0, 0, token + 1)),
        (push(limits::PUSH_ROWS_MAX), push(limits::PUSH_ROWS_MAX + 1)),
        (changes(subscriptions), changes(subscriptions + 1)),
        (bye(limits::REASON_BYTES_MAX), bye(limits::REASON_BYTES_MAX + 1)),
        (refresh(token), refresh(token + 1)),
        (list(64), list(65)),
        (refilled(limits::REFILL_RECORDS_MAX), refilled(limits::REFILL_RECORDS_MAX + 1)),
    ] {
        assert_eq!(decode(&encode(&within)).unwrap(), within);
        assert_eq!(decode(&encode(&beyond)).unwrap_err().kind, CodecFault::Range);
    }
}

/// What deadlines of the handshake allow for.
#[test]
fn hello_with_all_that_it_may_name_is_within_what_its_deadline_allows_for() {
    let collection =
        |id: u32| CollectionName::parse(&format!("app/{id:02}/{}", "c".repeat(57))).unwrap();
    let record = RecordId::parse("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
    let (epoch, time) = (Epoch::from_bytes([1; 16]), Hlc::at(WallMillis(1_700_000_000_000)));
    let seq = Seq(u64::from(u32::MAX));
    let subscription = |id| Subscription {
        id,
        pattern: Pattern::Prefix(collection(id)),
        cursor: Some(Cursor { epoch, seq }),
        place: Place {
            seq,
            key: Some(RecordKey { collection: collection(id), id: record.clone() }),
        },
        root: Some(Digest::of("rejoin.test", &[])),
        time,
    };
    let known = limits::INCARNATIONS_MAX + limits::PAST_INCARNATIONS_MAX;
    let hello = Message::Hello(Hello {
        versions: limits::VERSIONS.to_vec(),
        features: u64::MAX,
        replica: ReplicaId::from_bytes([1; 16]),
        incarnation: Incarnation::from_bytes([1; 16]),
        known: vec![Incarnation::from_bytes([1; 16]); known],
        space: SpaceId::parse(&"s".repeat(SPACE_BYTES_MAX)).unwrap(),
        token: Some("t".repeat(limits::TOKEN_BYTES_MAX)),
        clock: time.wall(),
        subscriptions: (1..).take(limits::SUBSCRIPTIONS_MAX).map(subscription).collect(),
        epochs: vec![epoch; limits::EPOCHS_MAX],
    });
    let bytes = encode(&hello).len();
    assert!(bytes < limits::HELLO_BYTES, "{bytes}");
    assert!(bytes > limits::HELLO_BYTES * 3 / 4, "{bytes}: it allows for far too much");
}

/// The same content with its dictionary in another order, twice, unused or with another base.
#[test]
fn dictionaries_have_one_form() {
    let message = |replicas: &[u8], names: &[&str], base: Option<u64>, body: &[u8]| {
        let mut out = Writer::new();
        out.array(5);
        out.uint(6);
        out.array(replicas.len());
        replicas.iter().for_each(|replica| out.bytes(&[*replica; 16]));
        out.array(names.len());
        names.iter().for_each(|name| out.text(name));
        match base {
            Some(base) => out.uint(base),
            None => out.null(),
        }
        out.raw(body);
        decode(&out.into_bytes())
    };
    let ask = [0x82, 0x05, 0x00];
    assert_eq!(
        message(&[], &["tasks"], None, &ask).unwrap(),
        Message::AskRoots(AskRoots {
            subscription: 5,
            after: Some(CollectionName::parse("tasks").unwrap()),
        }),
    );
    for refused in [
        message(&[1], &["tasks"], None, &ask),
        message(&[], &["tasks", "more"], None, &ask),
        message(&[], &["more", "tasks"], None, &[0x82, 0x05, 0x01]),
        message(&[], &["tasks"], Some(0), &ask),
    ] {
        assert_eq!(refused.unwrap_err().kind, CodecFault::NotCanonical);
    }
    for refused in [message(&[], &["a//b"], None, &ask), message(&[], &[""], None, &ask)] {
        assert_eq!(refused.unwrap_err().kind, CodecFault::Range);
    }

    // Copied [[taken...]]: the first time is the base itself.
    let times = |base: Option<u64>, times: &[u8]| {
        let mut out = Writer::new();
        out.array(5);
        out.uint(20);
        out.array(usize::from(!times.is_empty()));
        if !times.is_empty() {
            out.bytes(&[1; 16]);
        }
        out.array(0);
        match base {
            Some(base) => out.uint(base),
            None => out.null(),
        }
        out.array(1);
        out.array(times.len());
        for time in times {
            // [[[replica, time], digest], null, seq]
            out.raw(&[0x83, 0x82, 0x82, 0x00, *time]);
            out.bytes(&[2; 16]);
            out.raw(&[0xf6, 0x05]);
        }
        decode(&out.into_bytes())
    };
    let taken = |bits| {
        let replica = ReplicaId::from_bytes([1; 16]);
        let stamp = Stamp { hlc: Hlc::from_bits(bits), replica };
        Taken { origin: Origin { stamp, digest: [2; 16] }, stamp, seq: Seq(5) }
    };
    assert_eq!(
        times(Some(7), &[0x00, 0x26, 0x02]).unwrap(),
        Message::Copied(Copied { rows: vec![taken(7), taken(0), taken(9)] }),
    );
    assert!(times(Some(7), &[0x01]).is_err());
    assert!(times(Some(7), &[0x00, 0x27]).is_err());
    assert!(times(Some(u64::MAX), &[0x00, 0x01]).is_err());
    assert!(times(None, &[0x00]).is_err());
    assert!(times(Some(7), &[]).is_err());
}

#[test]
fn presence_names_so_many_tabs_and_no_more() {
    use limits::PRESENCE_TABS_MAX;
    for (tabs, good) in
        [(PRESENCE_TABS_MAX - 1, true), (PRESENCE_TABS_MAX, true), (PRESENCE_TABS_MAX + 1, false)]
    {
        let numbers = 0..tabs as u64;
        let here = numbers.clone().map(|tab| (tab, Value::Null)).collect();
        for presence in [
            Presence { here, gone: Vec::new() },
            Presence { here: Vec::new(), gone: numbers.collect() },
        ] {
            let bytes = encode(&Message::Presence(presence.clone()));
            assert_eq!(decode(&bytes).ok(), good.then_some(Message::Presence(presence)));
        }
    }
}

#[test]
fn an_entry_that_stands_twice_in_a_dictionary_is_refused() {
    // Roots [1, 0, [0, digest, 1, digest], false] with two equal names.
    let mut out = Writer::new();
    out.array(5);
    out.uint(7);
    out.array(0);
    out.array(2);
    out.text("a");
    out.text("a");
    out.null();
    out.array(4);
    out.uint(1);
    out.uint(0);
    out.array(4);
    for name in [0, 1] {
        out.uint(name);
        out.bytes(&[0; 32]);
    }
    out.bool(false);
    assert_eq!(decode(&out.into_bytes()).unwrap_err().kind, CodecFault::NotCanonical);
}

#[test]
fn channels_take_their_shortest_form() {
    for (channel, head) in [
        (0, vec![0]),
        (127, vec![0x7f]),
        (128, vec![0x80, 1]),
        (16_384, vec![0x80, 0x80, 1]),
        (u64::MAX, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
    ] {
        let frame = encode_frame(channel, &Message::Ping { nonce: 3 });
        assert!(frame.starts_with(&head));
        let (got, rest) = split_frame(&frame).unwrap();
        assert_eq!((got, rest.len()), (channel, frame.len() - head.len()));
    }
    for (bytes, fault) in [
        (vec![], CodecFault::Truncated),
        (vec![0x80], CodecFault::Truncated),
        (vec![0x80, 0], CodecFault::NotCanonical),
        (vec![0xff, 0x80, 0], CodecFault::NotCanonical),
        ([vec![0xff; 9], vec![2]].concat(), CodecFault::Range),
        (vec![0xff; 11], CodecFault::Range),
    ] {
        assert_eq!(split_frame(&bytes).unwrap_err().kind, fault, "{bytes:x?}");
    }
}

#[test]
fn equal_values_have_equal_bytes_and_unequal_ones_do_not() {
    let mut rng = Rng::new(10);
    let values: Vec<_> = (0..400).map(|_| arbitrary_value(&mut rng)).collect();
    let bytes = |value| {
        let mut out = Writer::new();
        write_value(&mut out, value);
        out.into_bytes()
    };
    for left in &values {
        for right in &values {
            assert_eq!(left == right, bytes(left) == bytes(right), "{left:?} {right:?}");
        }
    }
}
