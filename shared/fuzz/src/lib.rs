//! Targets: whatever the bytes, nothing panics, and what is promised of it holds. Under cargo-fuzz they are
//! fuzzed; without it the same programs take files, or make inputs up by damaging good ones.

use rejoin_core::{
    codec::{decode_record, encode_record},
    id::{Digest, Epoch, Incarnation, Pattern, ReplicaId, SpaceId},
    port::Store,
    protocol::{
        host::{Grant, Host, HostConfig, HostInput, HostOutput, PeerId},
        limits::FRAME_BYTES_MAX,
        message::{Hello, Message, Place, Right, Subscription, Walk},
        wire::{decode as decode_message, encode, split_frame},
    },
    testing::{
        block_on, generators::arbitrary_record, memory::MemoryStore, messages::arbitrary_message,
        rng::Rng, twin,
    },
    time::{MonoMillis, Now, WallMillis},
    tree::{Entry, Trie, WalkLimits, WalkMessage, respond as answer},
};
use std::process::ExitCode;

/// What decodes is canonical.
pub fn decode(bytes: &[u8]) {
    if let Ok(message) = decode_message(bytes) {
        assert_eq!(encode(&message), bytes);
    }
    if let Ok(record) = decode_record(bytes) {
        assert_eq!(encode_record(&record), bytes);
    }
    if let Ok((_, message)) = split_frame(bytes) {
        assert!(message.len() < bytes.len());
    }
}

fn tree(entries: u64) -> Trie {
    let entry = |at: u64| {
        let key_hash = Digest::of("key", &[&at.to_be_bytes()]);
        Entry { key_hash, digest: Digest::of("digest", &[&at.to_be_bytes()]) }
    };
    (0..entries).map(entry).collect()
}

/// A step of a walk is refused, or answered within bounds by a step that is well-formed.
pub fn respond(bytes: &[u8]) {
    let Ok(Message::Walk(walk)) = decode_message(bytes) else {
        return;
    };
    let limits = WalkLimits { differs_max: 512, cells_max: 4_096, ..WalkLimits::default() };
    for entries in [0, 40, 1_000] {
        let mut tree = tree(entries);
        let Ok(response) = answer(&mut tree, &walk.message, &limits) else {
            continue;
        };
        assert!(response.differs.len() <= 4_096 + 64);
        if let Some(reply) = response.reply {
            let reply = Walk { message: reply, ..walk.clone() };
            assert!(encode(&Message::Walk(reply.clone())).len() < FRAME_BYTES_MAX);
            assert!(answer(&mut tree, &reply.message, &limits).is_ok());
        }
    }
}

/// Messages, each behind its length in two bytes, said to a host by two peers in turn, one of which only reads. It
/// goes on for the next one.
pub fn session(mut bytes: &[u8]) {
    let mut world = World::new();
    world.greet(PeerId(1), true);
    world.greet(PeerId(2), false);
    let mut turn = 0;
    while let [high, low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (message, rest) = rest.split_at(len);
        turn += 1;
        let peer = PeerId(1 + turn % 2);
        world.put(HostInput::Message { peer, bytes: message.to_vec() });
        bytes = rest;
    }
    world.greet(PeerId(3), true);
    assert!(world.welcomed.contains(&PeerId(3)), "others are served");
}

struct World {
    host: Host,
    store: MemoryStore,
    now: Now,
    welcomed: Vec<PeerId>,
}

impl World {
    fn new() -> Self {
        let now = Now { wall: WallMillis(1_700_000_000_000), mono: MonoMillis(1_000) };
        let space = SpaceId::parse("demo").expect("a name");
        let config = HostConfig::new(space, Epoch::from_bytes([1; 16]), [9; 32]);
        let store = MemoryStore::new();
        let mut world = Self { host: Host::open(config, now), store, now, welcomed: Vec::new() };
        world.run();
        world
    }

    fn greet(&mut self, peer: PeerId, writes: bool) {
        let number = peer.0.to_be_bytes()[7];
        let hello = Hello {
            versions: vec![1],
            features: u64::MAX,
            replica: ReplicaId::from_bytes([number; 16]),
            incarnation: Incarnation::from_bytes([number; 16]),
            known: Vec::new(),
            space: SpaceId::parse("demo").expect("a name"),
            token: None,
            clock: self.now.wall,
            subscriptions: vec![Subscription {
                id: 1,
                pattern: Pattern::All,
                cursor: None,
                place: Place::default(),
                root: None,
                time: rejoin_core::hlc::Hlc::ZERO,
            }],
            epochs: Vec::new(),
        };
        let rights = vec![Right { pattern: Pattern::All, write: writes }];
        let grant = Grant { principal: format!("p{number}"), rights };
        self.put(HostInput::Opened { peer, hello, grant });
    }

    fn put(&mut self, input: HostInput) {
        self.host.handle(self.now, input);
        self.run();
    }

    fn run(&mut self) {
        while let Some(output) = self.host.poll() {
            let input = match output {
                HostOutput::Send { peer, bytes } => {
                    assert!(bytes.len() <= FRAME_BYTES_MAX);
                    if let Ok(Message::Welcome(_)) = decode_message(&bytes) {
                        self.welcomed.push(peer);
                    }
                    HostInput::Sent { peer, bytes: bytes.len() }
                }
                HostOutput::Query { ticket, queries } => {
                    let result = Ok(block_on(self.store.read(&queries)).expect("memory"));
                    HostInput::Answered { ticket, result }
                }
                HostOutput::Commit { ticket, batch } => {
                    let result = Ok(block_on(self.store.commit(batch)).expect("memory"));
                    HostInput::Committed { ticket, result }
                }
                _ => continue,
            };
            self.host.handle(self.now, input);
        }
    }
}

/// A good input of one kind or another.
fn seed(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => encode_record(&arbitrary_record(rng)),
        1 => {
            let mut tree = tree(rng.below(900));
            let message = if rng.once_in(2) {
                WalkMessage::open(&mut tree, rng.next_u64())
            } else {
                WalkMessage::open_sketch(&mut tree, rng.next_u64(), None, &WalkLimits::default())
            };
            let collection = rejoin_core::id::CollectionName::parse("c").expect("a name");
            encode(&Message::Walk(Walk { subscription: 1, collection, message }))
        }
        2 => encode(&arbitrary_message(rng)),
        _ => {
            let mut bytes = Vec::new();
            for _ in 0..=rng.below(6) {
                let message = encode(&arbitrary_message(rng));
                if let Ok(len) = u16::try_from(message.len()) {
                    bytes.extend(len.to_be_bytes());
                    bytes.extend(message);
                }
            }
            bytes
        }
    }
}

/// Takes each file that is named, or `-runs=N` inputs that are made up.
pub fn without_fuzzer(target: fn(&[u8])) -> ExitCode {
    let mut runs = 100_000;
    let mut files = 0;
    for word in std::env::args().skip(1) {
        if let Some(number) = word.strip_prefix("-runs=") {
            let Ok(number) = number.parse() else {
                eprintln!("{word}: not a number");
                return ExitCode::FAILURE;
            };
            runs = number;
            continue;
        }
        match std::fs::read(&word) {
            Ok(bytes) => target(&bytes),
            Err(error) => {
                eprintln!("{word}: {error}");
                return ExitCode::FAILURE;
            }
        }
        files += 1;
    }
    if files == 0 {
        let mut rng = Rng::new(0xf022);
        for _ in 0..runs {
            let mut bytes = seed(&mut rng);
            for _ in 0..rng.below(6) {
                twin::damage(&mut rng, &mut bytes);
            }
            target(&bytes);
        }
        println!("{runs} inputs");
    }
    ExitCode::SUCCESS
}
