//! Steps of a walk.

use rejoin_core::{
    id::{CollectionName, Digest},
    protocol::{
        limits::FRAME_BYTES_MAX,
        message::{Message, Walk},
        wire::{decode, encode},
    },
    testing::rng::Rng,
    tree::{Entry, Trie, WalkLimits, WalkMessage, respond as answer},
};
use std::cell::RefCell;

fn tree(entries: u64) -> Trie {
    let entry = |at: u64| {
        let key_hash = Digest::of("key", &[&at.to_be_bytes()]);
        Entry { key_hash, digest: Digest::of("digest", &[&at.to_be_bytes()]) }
    };
    (0..entries).map(entry).collect()
}

/// A step of a walk is refused, or answered within bounds by a step that is well-formed.
pub(crate) fn respond(bytes: &[u8]) {
    let Ok(Message::Walk(walk)) = decode(bytes) else {
        return;
    };
    thread_local! {
        static TREES: RefCell<[Trie; 3]> = RefCell::new([0, 40, 1_000].map(tree));
    }
    let limits = WalkLimits { differs_max: 512, cells_max: 4_096, ..WalkLimits::default() };
    TREES.with_borrow_mut(|trees| trees.iter_mut().for_each(|tree| step(tree, &walk, &limits)));
}

fn step(tree: &mut Trie, walk: &Walk, limits: &WalkLimits) {
    let Ok(response) = answer(tree, &walk.message, limits) else {
        return;
    };
    assert!(response.differs.len() <= 4_096 + 64);
    if let Some(reply) = response.reply {
        let reply = Walk { message: reply, ..walk.clone() };
        assert!(encode(&Message::Walk(reply.clone())).len() < FRAME_BYTES_MAX);
        assert!(answer(tree, &reply.message, limits).is_ok());
    }
}

pub(crate) fn respond_seed(rng: &mut Rng) -> Vec<u8> {
    let mut near = tree(rng.below(900));
    let mut message = if rng.once_in(2) {
        WalkMessage::open(&mut near, rng.next_u64())
    } else {
        WalkMessage::open_sketch(&mut near, rng.next_u64(), None, &WalkLimits::default())
    };
    // A walk that has gone on for a while.
    let mut far = tree(rng.below(900));
    for step in 0..rng.below(4) {
        let tree = if step % 2 == 0 { &mut far } else { &mut near };
        match answer(tree, &message, &WalkLimits::default()).map(|response| response.reply) {
            Ok(Some(reply)) => message = reply,
            _ => break,
        }
    }
    let collection = CollectionName::parse("c").expect("a name");
    encode(&Message::Walk(Walk { subscription: 1, collection, message }))
}
