//! Snapshot and heal, as a client would do them.

use crate::world::{Client, World, key, seq};
use rejoin_core::{
    codec,
    id::{CollectionName, Pattern, RecordId, RecordKey, key_hash},
    protocol::{
        host::{HostInput, HostNote},
        limits::{FRAME_BYTES_MAX, PAGE_BYTES_AIM, PEER_BYTES_IN_FLIGHT_MAX},
        message::{
            AskChunk, AskRoots, ByeCode, Chunk, ChunkFrom, ChunkRecord, FEATURE_PRESENCE,
            FEATURE_SKETCH, Message, Mode, Place, Resume, Roots, Walk,
        },
        wire,
    },
    record::Record,
    tree::{Trie, WalkBody, WalkLimits, WalkMessage, respond},
};
use std::collections::BTreeSet;

fn fill(world: &mut World, client: &mut Client, range: std::ops::Range<u64>, value: &str) {
    let rows: Vec<_> = range.map(|at| client.set(at, &format!("r{at}"), "title", value)).collect();
    for rows in rows.chunks(100) {
        client.push(world, rows);
    }
    client.listen(world);
}

fn roots(world: &mut World, client: &mut Client) -> Roots {
    let ask = AskRoots { subscription: 0, after: None };
    world.say(client.peer, &Message::AskRoots(ask));
    match client.listen(world).pop() {
        Some(Message::Roots(roots)) => roots,
        other => panic!("{other:?}"),
    }
}

/// Whether the log said that the client is in sync, after so many records had been sent to it.
fn pulled(world: &World, client: &Client, records: u64) -> bool {
    world.notes.iter().any(|note| {
        matches!(note, HostNote::Synced { peer, pulled, .. }
            if *peer == client.peer && *pulled == records)
    })
}

/// Walks over one collection, as the side that only fetches.
fn walk(world: &mut World, client: &mut Client, collection: &CollectionName) -> usize {
    let open = WalkMessage::open(&mut client.trie(collection), 42);
    walk_from(world, client, collection, open)
}

fn walk_from(
    world: &mut World,
    client: &mut Client,
    collection: &CollectionName,
    open: WalkMessage,
) -> usize {
    let mut mine: Trie = client.trie(collection);
    let mut lacking = BTreeSet::new();
    let mut message = open;
    let mut came = 0;
    loop {
        let walk = Walk { subscription: 0, collection: collection.clone(), message };
        world.say(client.peer, &Message::Walk(walk));
        let mut answer = None;
        for heard in client.listen(world) {
            match heard {
                Message::Records(records) => {
                    for entry in &records.entries {
                        lacking.remove(&key_hash(&entry.key));
                        client.apply_entry(entry);
                        came += 1;
                    }
                }
                Message::Walk(walk) => answer = Some(walk.message),
                other => panic!("{other:?}"),
            }
        }
        let Some(answer) = answer else { break };
        let response = respond(&mut mine, &answer, &WalkLimits::default()).unwrap();
        lacking.extend(response.differs);
        match response.reply {
            Some(reply) if !reply.is_last() => message = reply,
            _ => break,
        }
    }
    // What came was named as differing too; what did not come is not there.
    let came_by_hash: BTreeSet<_> = client.base.keys().map(key_hash).collect();
    lacking.retain(|hash| mine.get(hash).is_some() && came_by_hash.contains(hash));
    let kept: Vec<_> = client.base.keys().cloned().collect();
    for key in kept {
        let digest = codec::record_digest(&codec::encode_record(&client.base[&key]));
        if lacking.contains(&key_hash(&key)) && mine.get(&key_hash(&key)) == Some(digest) {
            client.base.remove(&key);
        }
    }
    came
}

fn chunk(world: &mut World, client: &mut Client, from: ChunkFrom) -> Chunk {
    world.say(client.peer, &Message::AskChunk(AskChunk { subscription: 0, from }));
    match client.listen(world).pop() {
        Some(Message::Chunk(chunk)) => chunk,
        other => panic!("{other:?}"),
    }
}

/// Takes the records of a chunk, and finds that they lie where it says.
fn check(client: &mut Client, chunk: &Chunk) {
    for ChunkRecord { key, bytes, .. } in chunk.open().unwrap().unwrap() {
        assert!(chunk.after.as_ref() < Some(&key) && Some(&key) <= chunk.upto.as_ref());
        let before = client.base.insert(key, codec::decode_record(&bytes).unwrap());
        assert_eq!(before, None);
    }
}

fn resume(world: &mut World, client: &mut Client, place: Place) {
    client.place = place.clone();
    let resume = Resume { subscription: 0, place, time: client.time };
    world.say(client.peer, &Message::Resume(resume));
    client.listen(world);
}

#[test]
fn walk_heals_a_client_of_an_unknown_epoch_and_the_feed_goes_on() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    fill(&mut world, &mut ann, 1..1_500, "x");
    let mut bob = Client::new(2);
    bob.base = ann.base.clone();
    bob.cursor = Some(rejoin_core::id::Cursor { epoch: crate::world::epoch(99), seq: seq(5) });
    bob.place = Place::at(seq(5));
    for id in ["r1", "r2", "r1000"] {
        bob.base.remove(&key(id));
    }
    bob.base.insert(key("r3"), Record::default());
    bob.base.insert(key("only-mine"), ann.base[&key("r7")].clone());
    let welcome = bob.connect(&mut world);
    assert_eq!(welcome.modes, [(0, Mode::Heal)]);
    let roots = roots(&mut world, &mut bob);
    assert_eq!(roots.roots.len(), 1);
    let row = ann.set(5_000, "r9", "title", "changed meanwhile");
    ann.push(&mut world, &[row]);
    ann.listen(&mut world);
    let came = walk(&mut world, &mut bob, &roots.roots[0].0);
    assert_eq!(came, 5);
    resume(&mut world, &mut bob, Place::at(roots.seq));
    assert_eq!(bob.base, ann.base);
    assert_eq!(bob.verified, 1);
    assert!(pulled(&world, &bob, 6), "five by the walk, one by the feed: {:?}", world.notes);
    fill(&mut world, &mut ann, 6_000..6_010, "y");
    bob.listen(&mut world);
    assert_eq!(bob.base, ann.base);
}

/// A client that was being fed asked for roots, healed and resumed at the place where its old stream
/// happened to stand. It took the old stream's next changes for the first of the new one, and closed on the
/// new one's as on changes that do not follow. So the question ends the stream; `Resume` starts it again.
#[test]
fn question_for_roots_ends_the_stream_until_it_resumes() {
    let mut world = World::new();
    let (mut ann, mut bob) = (Client::new(1), Client::new(2));
    ann.connect(&mut world);
    bob.connect(&mut world);
    fill(&mut world, &mut ann, 0..3, "before");
    let stands = roots(&mut world, &mut bob);
    assert_eq!(bob.place, Place::at(stands.seq));
    fill(&mut world, &mut ann, 3..5, "meanwhile");
    bob.listen(&mut world);
    assert_eq!(bob.place, Place::at(stands.seq), "nothing comes while it heals");
    resume(&mut world, &mut bob, Place::at(stands.seq));
    assert_eq!(bob.root(), ann.root());
}

#[test]
fn walk_of_an_empty_client_brings_records_in_bounded_messages() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    fill(&mut world, &mut ann, 1..1_200, &"x".repeat(2_000));
    let mut bob = Client::new(2);
    bob.connect(&mut world);
    let roots = roots(&mut world, &mut bob);
    world.sent.clear();
    walk(&mut world, &mut bob, &roots.roots[0].0);
    assert!(world.sent.iter().all(|(_, bytes)| bytes.len() < 600_000));
    assert_eq!(bob.base, ann.base);
}

/// Bob holds three of four of Ann's records.
fn most(features: u64) -> (World, Client, Client) {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    fill(&mut world, &mut ann, 0..8_000, &"x".repeat(200));
    let mut bob = Client::new(2);
    bob.features = features;
    let held = ann.base.clone().into_iter().enumerate().filter(|(at, _)| at % 4 > 0);
    bob.base = held.map(|(_, record)| record).collect();
    bob.connect(&mut world);
    (world, ann, bob)
}

/// A sketch finds thousands at once: reads and frames stay what they are for walks, and a peer that does
/// not take what it is sent is not sent more.
#[test]
fn records_that_one_sketch_finds_are_read_and_sent_part_by_part() {
    let (mut world, ann, mut bob) = most(FEATURE_SKETCH);
    let name = roots(&mut world, &mut bob).roots[0].0.clone();
    let mut mine = bob.trie(&name);
    let limits = WalkLimits::default();
    let open = WalkMessage::open_sketch(&mut mine, 42, Some(1_000), &limits);
    world.sent.clear();
    world.queries_most = 0;
    world.sockets_take = false;
    let ask = Walk { subscription: 0, collection: name, message: open };
    world.say(bob.peer, &Message::Walk(ask));
    let bytes: usize = world.sent.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes > 0 && bytes < PEER_BYTES_IN_FLIGHT_MAX + PAGE_BYTES_AIM, "{bytes}");
    world.sockets_take = true;
    world.put(HostInput::Sent { peer: bob.peer, bytes });
    let mut answers = Vec::new();
    for heard in bob.listen(&mut world) {
        match heard {
            Message::Records(records) => {
                records.entries.iter().for_each(|entry| bob.apply_entry(entry));
            }
            Message::Walk(walk) => answers.push(walk.message.body),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, [WalkBody::End]);
    assert!(world.queries_most <= 600, "{} queries", world.queries_most);
    assert!(world.sent.iter().all(|(_, bytes)| bytes.len() < 600_000));
    assert_eq!(bob.base, ann.base);
}

#[test]
fn sketch_of_a_peer_that_is_to_know_none_is_answered_by_a_walk() {
    let (mut world, ann, mut bob) = most(0);
    let name = roots(&mut world, &mut bob).roots[0].0.clone();
    let limits = WalkLimits::default();
    let open = WalkMessage::open_sketch(&mut bob.trie(&name), 42, Some(1_000), &limits);
    assert!(matches!(open.body, WalkBody::Cells(_)));
    walk_from(&mut world, &mut bob, &name, open);
    assert_eq!(bob.base, ann.base);
    assert!(world.sent.iter().any(|(_, bytes)| {
        matches!(wire::decode(bytes).unwrap(), Message::Walk(walk)
            if matches!(walk.message.body, WalkBody::Nodes(_)))
    }));
}

#[test]
fn p09_features_are_those_that_both_have() {
    for (mut world, offered, both) in [
        (World::new(), u64::MAX, FEATURE_SKETCH | FEATURE_PRESENCE),
        (World::new(), 0, 0),
        (World::without_sketches(), u64::MAX, FEATURE_PRESENCE),
    ] {
        let mut client = Client::new(1);
        client.features = offered;
        assert_eq!(client.connect(&mut world).features, both);
    }
}

#[test]
fn snapshot_comes_in_chunks_that_can_be_checked() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    fill(&mut world, &mut ann, 1..900, &"x".repeat(1_000));
    // A few records outweigh all the others.
    for at in 2_000..2_008 {
        let row = ann.set(at, &format!("r{at}"), "title", &"y".repeat(240_000));
        ann.push(&mut world, &[row]);
    }
    ann.listen(&mut world);
    let mut bob = Client::new(2);
    assert_eq!(bob.connect(&mut world).modes, [(0, Mode::Snapshot)]);
    let roots = roots(&mut world, &mut bob);
    let (mut after, mut chunks, mut more) = (None, 0, true);
    while more {
        let from = after.clone().map_or(ChunkFrom::Start, ChunkFrom::Behind);
        let chunk = chunk(&mut world, &mut bob, from);
        assert_eq!(chunk.after, after);
        assert_eq!(chunk.total, 907);
        check(&mut bob, &chunk);
        after = chunk.upto.clone();
        more = chunk.more;
        chunks += 1;
    }
    assert!((3..12).contains(&chunks), "{chunks} chunks");
    assert!(world.sent.iter().all(|(_, bytes)| bytes.len() < FRAME_BYTES_MAX));
    resume(&mut world, &mut bob, Place::at(roots.seq));
    assert_eq!(bob.base, ann.base);
    assert_eq!(bob.verified, 1);
    assert!(pulled(&world, &bob, ann.base.len() as u64), "{:?}", world.notes.last());
}

#[test]
fn chunk_spans_collections_and_the_next_one_is_asked_for_before_it_comes() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.patterns = vec![Pattern::All];
    ann.connect(&mut world);
    for at in 1..40 {
        let collection = CollectionName::parse(&format!("tasks/{at:02}")).unwrap();
        let rows: Vec<_> = (0..10)
            .map(|n| {
                let id = RecordId::parse(&format!("r{n}")).unwrap();
                let key = RecordKey { collection: collection.clone(), id };
                let millis = at * 100 + n;
                ann.row(millis, vec![(key, ann.lww(millis, "title", &"x".repeat(7_400)))])
            })
            .collect();
        ann.push(&mut world, &rows);
    }
    ann.listen(&mut world);
    let mut bob = Client::new(2);
    bob.patterns = vec![Pattern::All];
    assert_eq!(bob.connect(&mut world).modes, [(0, Mode::Snapshot)]);
    let seq = roots(&mut world, &mut bob).seq;
    for from in
        [ChunkFrom::Start, ChunkFrom::Next, ChunkFrom::Next, ChunkFrom::Next, ChunkFrom::Next]
    {
        world.say(bob.peer, &Message::AskChunk(AskChunk { subscription: 0, from }));
    }
    let chunks: Vec<Chunk> = bob
        .listen(&mut world)
        .into_iter()
        .map(|heard| match heard {
            Message::Chunk(chunk) => chunk,
            other => panic!("{other:?}"),
        })
        .collect();
    // Four times what a chunk aims at.
    assert_eq!(
        chunks.iter().map(|chunk| chunk.more).collect::<Vec<_>>(),
        [true, true, true, false, false]
    );
    assert_eq!(chunks[4].after, chunks[4].upto);
    let first = chunks[0].open().unwrap().unwrap();
    let names: BTreeSet<_> = first.iter().map(|record| &record.key.collection).collect();
    assert!(names.len() > 5);
    for (chunk, next) in chunks.iter().zip(&chunks[1..]) {
        assert_eq!(chunk.upto, next.after);
    }
    chunks.iter().for_each(|chunk| check(&mut bob, chunk));
    resume(&mut world, &mut bob, Place::at(seq));
    assert_eq!(bob.base, ann.base);
    assert!(pulled(&world, &bob, 390), "{:?}", world.notes.last());
}

#[test]
fn next_chunk_without_a_first_one_is_misconduct() {
    let mut world = World::new();
    let mut bob = Client::new(2);
    bob.connect(&mut world);
    let ask = AskChunk { subscription: 0, from: ChunkFrom::Next };
    world.say(bob.peer, &Message::AskChunk(ask));
    assert_eq!(world.closed[&bob.peer].code, ByeCode::Misbehaved);
}

#[test]
fn tree_of_a_collection_outside_the_subscription_is_not_shown() {
    let mut world = World::new();
    let mut ann = Client::new(1);
    ann.connect(&mut world);
    fill(&mut world, &mut ann, 1..10, "x");
    for walk in [true, false] {
        let mut eve = Client::new(3 + u8::from(walk));
        eve.patterns = vec![Pattern::parse("notes").unwrap()];
        eve.connect(&mut world);
        assert!(roots(&mut world, &mut eve).roots.is_empty());
        if !walk {
            let chunk = chunk(&mut world, &mut eve, ChunkFrom::Start);
            assert_eq!((chunk.upto, chunk.more, chunk.total), (None, false, 0));
            continue;
        }
        let message = WalkMessage::open(&mut Trie::new(), 1);
        let collection = CollectionName::parse("tasks").unwrap();
        let walk = Walk { subscription: 0, collection, message };
        world.say(eve.peer, &Message::Walk(walk));
        assert_eq!(world.closed[&eve.peer].code, ByeCode::Misbehaved);
    }
}
