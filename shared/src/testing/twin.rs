//! One number for the behaviour of this build: to be compared between platforms.

use super::{
    generators::{arbitrary_key, arbitrary_record, arbitrary_value, some},
    history::{History, KINDS, Plan},
    messages::arbitrary_message_of,
    rng::Rng,
};
use crate::{
    codec::{Writer, decode_record, encode_record, record_digest, write_value},
    crdt::Join,
    id::{Digest, key_hash},
    protocol::wire,
    record::Record,
    tree::{Trie, WalkLimits, WalkMessage, respond},
};
use alloc::{format, vec::Vec};

/// Draws records, messages, joins, tree roots and walks from the seeds 0 to `seed_count`, damages some
/// bytes too, and digests all bytes and all verdicts that come out. Equal digests on two platforms mean
/// that they encode, decode, refuse, join and compare alike.
#[must_use]
pub fn digest(seed_count: u64) -> [u8; 32] {
    let mut fold = Fold(blake3::Hasher::new());
    for seed in 0..seed_count {
        let mut rng = Rng::new(seed);
        records(&mut rng, &mut fold);
        messages(&mut rng, seed, &mut fold);
        joins(&mut rng, &mut fold);
        if seed.is_multiple_of(16) {
            trees(&mut rng, &mut fold);
        }
        if seed.is_multiple_of(512) {
            sketches(&mut rng, &mut fold);
        }
    }
    *fold.0.finalize().as_bytes()
}

struct Fold(blake3::Hasher);

impl Fold {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn verdict<T, E: core::fmt::Display>(
        &mut self,
        verdict: Result<T, E>,
        encode: impl FnOnce(T) -> Vec<u8>,
    ) {
        match verdict {
            Ok(good) => self.bytes(&encode(good)),
            Err(refused) => self.bytes(format!("{refused}").as_bytes()),
        }
    }
}

/// Changes, inserts or drops one byte, or cuts the end off.
pub fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.index(bytes.len());
    match rng.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.byte()),
        2 if !bytes.is_empty() => {
            bytes.remove(at);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.one_of(byte.wrapping_add(1), &[0, 0x1b, 0x3b, 0x5b, 0x9b, 0xbb, 0xfb]);
            }
        }
    }
}

fn records(rng: &mut Rng, fold: &mut Fold) {
    let record = arbitrary_record(rng);
    let mut bytes = encode_record(&record);
    fold.bytes(record_digest(&bytes).as_bytes());
    fold.verdict(decode_record(&bytes), |record| encode_record(&record));
    damage(rng, &mut bytes);
    fold.verdict(decode_record(&bytes), |record| encode_record(&record));

    let mut values = some(rng, 8, arbitrary_value);
    values.sort();
    let mut out = Writer::new();
    values.iter().for_each(|value| write_value(&mut out, value));
    fold.bytes(&out.into_bytes());
}

fn messages(rng: &mut Rng, seed: u64, fold: &mut Fold) {
    let message = arbitrary_message_of(rng, seed);
    let mut bytes = wire::encode_frame(rng.any_size(), &message);
    fold.bytes(&bytes);
    let mut chain = wire::Chain::of_initiator();
    (0..2).for_each(|_| fold.bytes(&chain.seal(bytes.clone())));
    for _ in 0..4 {
        let parts = wire::split_frame(&bytes);
        fold.verdict(parts, |(channel, _)| channel.to_be_bytes().to_vec());
        if let Ok((_, rest)) = parts {
            fold.verdict(wire::decode(rest), |message| wire::encode(&message));
        }
        damage(rng, &mut bytes);
    }
}

fn joins(rng: &mut Rng, fold: &mut Fold) {
    let plan = Plan { kinds: KINDS.to_vec(), resets: rng.once_in(2), removes: rng.once_in(2) };
    let Ok(mut history) = History::new(rng, 3) else {
        return;
    };
    for _ in 0..16 {
        history.step(rng, &plan);
    }
    let mut all = Record::default();
    for state in history.states() {
        fold.bytes(&encode_record(state));
        all.join(state);
    }
    fold.bytes(&encode_record(&all));
    fold.bytes(&[u8::from(all.is_live())]);
}

fn trees(rng: &mut Rng, fold: &mut Fold) {
    let (mut mine, mut theirs) = (Trie::new(), Trie::new());
    for _ in 0..rng.below(300) {
        let key_hash = key_hash(&arbitrary_key(rng));
        let digest = record_digest(&rng.bytes::<8>());
        mine.insert(key_hash, digest);
        match rng.below(10) {
            0 => {}
            1 => {
                theirs.insert(key_hash, record_digest(&[]));
            }
            _ => {
                theirs.insert(key_hash, digest);
            }
        }
    }
    fold.bytes(mine.root().as_bytes());
    fold.bytes(theirs.root().as_bytes());
    let open = WalkMessage::open(&mut mine, rng.next_u64());
    walk([&mut mine, &mut theirs], open, fold);
}

/// Trees large enough for a sketch.
fn sketches(rng: &mut Rng, fold: &mut Fold) {
    let (mut mine, mut theirs) = (Trie::new(), Trie::new());
    let differing = 1 + rng.below(150);
    for at in 0..1_000 + rng.below(1_000) {
        let (key_hash, digest) =
            (Digest::from_bytes(rng.bytes()), record_digest(&rng.bytes::<8>()));
        if at >= differing || at % 3 > 0 {
            mine.insert(key_hash, digest);
        }
        if at >= differing || at % 3 < 2 {
            theirs.insert(key_hash, digest);
        }
    }
    let limits = WalkLimits::default();
    let open = WalkMessage::open_sketch(&mut mine, rng.next_u64(), None, &limits);
    walk([&mut mine, &mut theirs], open, fold);
}

fn walk([mine, theirs]: [&mut Trie; 2], open: WalkMessage, fold: &mut Fold) {
    let mut message = open;
    // Far more turns than a walk over so few entries takes.
    for turn in 0..100 {
        let tree = if turn % 2 == 0 { &mut *theirs } else { &mut *mine };
        let Ok(response) = respond(tree, &message, &WalkLimits::default()) else {
            return;
        };
        response.differs.iter().for_each(|key_hash| fold.bytes(key_hash.as_bytes()));
        let Some(reply) = response.reply else { return };
        fold.bytes(format!("{reply:?}").as_bytes());
        message = reply;
    }
}
