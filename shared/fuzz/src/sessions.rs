//! Sessions: what one end says is made up, the other end is the shipped one.

use crate::{
    input::{Items, add},
    machines::{Device, Server, talk},
};
use rejoin_core::{
    protocol::{engine::Wish, host::PeerId, message::Message, wire::decode},
    replica::RowState,
    testing::{memory::MemoryStore, rng::Rng},
};

use std::collections::BTreeSet;

/// What kinds of items mean to a host; others are messages.
const HELLO: u8 = 250;
const TIME: u8 = 251;
const LEAVE: u8 = 252;
const RIGHTS: u8 = 253;
const CALL: u8 = 254;
/// What kinds of items mean to an engine; others are messages.
const WRITE: u8 = 250;
const RECONNECT: u8 = 252;

fn millis(bytes: &[u8]) -> u64 {
    bytes.iter().take(4).fold(0, |millis, byte| millis << 8 | u64::from(*byte))
}

/// Peers say what is made up to a host: one that may write, one that only reads, and those that the input opens.
/// Whatever they say, it goes on for the next one.
pub(crate) fn host(bytes: &[u8]) {
    let mut server = Server::on(MemoryStore::new());
    server.greet(PeerId(1), true);
    server.greet(PeerId(2), false);
    for item in Items(bytes) {
        let peer = PeerId(1 + u64::from(item.kind % 4));
        match item.kind {
            HELLO => {
                if let Ok(Message::Hello(hello)) = decode(item.bytes) {
                    server.lose(PeerId(3));
                    server.opened(PeerId(3), hello, true);
                }
            }
            TIME => server.pass(millis(item.bytes)),
            LEAVE => {
                server.lose(PeerId(1));
                server.greet(PeerId(1), true);
            }
            RIGHTS => server.regrant(PeerId(1), item.bytes.is_empty()),
            CALL => server.call(&mut Rng::new(millis(item.bytes))),
            _ => server.hear(peer, item.bytes.to_vec()),
        }
    }
    server.greet(PeerId(9), true);
    assert!(server.welcomes(PeerId(9)), "others are served");
    server.pass(1_000);
    assert!(server.has_answered(), "whoever asked is told");
}

/// A server says what is made up to an engine that writes. Whatever it says, what is in memory is what is stored.
pub(crate) fn engine(bytes: &[u8]) {
    let store = MemoryStore::new();
    let mut device = Device::on(store.clone(), 1);
    device.connect();
    for item in Items(bytes) {
        device.said.clear();
        match item.kind {
            WRITE => device.write(&mut Rng::new(millis(item.bytes))),
            TIME => device.pass(millis(item.bytes)),
            RECONNECT => {
                device.disconnect();
                device.connect();
            }
            LEAVE.. if item.bytes.is_empty() => give_up(&mut device),
            _ => device.hear(item.bytes),
        }
    }
    device.disconnect();
    let again = Device::on(store, 1);
    if device.engine.is_open() {
        assert!(again.engine.is_open(), "what was stored can be read");
        let rows = |device: &Device| device.engine.replica().overlay().rows().count();
        assert_eq!(rows(&device), rows(&again), "rows that wait");
        assert_eq!(views(&device), views(&again), "records");
    }
}

/// Forgets a row that was refused.
fn give_up(device: &mut Device) {
    let rejected =
        device.engine.replica().overlay().rows().find_map(|(number, row)| {
            matches!(row.state, RowState::Rejected { .. }).then_some(number)
        });
    if let Some(number) = rejected {
        device.ask(Wish::Discard { number });
    }
}

fn views(device: &Device) -> String {
    let replica = device.engine.replica();
    let own = replica.overlay().rows().flat_map(|(_, row)| &row.row.writes).map(|write| &write.key);
    let keys: BTreeSet<_> = replica.base().iter().map(|(key, _)| key).chain(own).collect();
    keys.into_iter().map(|key| format!("{key:?} {:?}\n", replica.view(key))).collect()
}

/// A real session, recorded as what comes to one end.
fn recorded(rng: &mut Rng, to_server: bool) -> Vec<u8> {
    let mut input = Vec::new();
    let mut server = Server::on(MemoryStore::new());
    let mut other = Device::on(MemoryStore::new(), 2);
    for _ in 0..rng.below(4) {
        other.write(rng);
    }
    other.connect();
    talk(&mut other, &mut server, PeerId(2), 1_000, |_, _| {});
    let mut device = Device::on(MemoryStore::new(), 1);
    let write = |device: &mut Device, rng: &mut Rng, input: &mut Vec<u8>| {
        let seed = u32::try_from(rng.below(1 << 20)).unwrap_or(0);
        device.write(&mut Rng::new(u64::from(seed)));
        if !to_server {
            add(input, WRITE, &seed.to_be_bytes());
        }
    };
    for _ in 0..rng.below(3) {
        write(&mut device, rng, &mut input);
    }
    for round in 0..1 + rng.below(2) {
        if round > 0 {
            device.disconnect();
            if !to_server {
                add(&mut input, RECONNECT, &[]);
            }
        }
        device.connect();
        for _ in 0..1 + rng.below(3) {
            talk(&mut device, &mut server, PeerId(1 + round * 8), 1_000, |up, message| {
                let is_hello = matches!(decode(message), Ok(Message::Hello(_)));
                if up == to_server {
                    add(&mut input, if up && is_hello { HELLO } else { 2 }, message);
                }
            });
            write(&mut device, rng, &mut input);
            if to_server && rng.once_in(2) {
                let seed = u32::try_from(rng.below(1 << 20)).unwrap_or(0);
                server.call(&mut Rng::new(u64::from(seed)));
                add(&mut input, CALL, &seed.to_be_bytes());
            }
            other.write(rng);
            talk(&mut other, &mut server, PeerId(2), 1_000, |_, _| {});
        }
    }
    input
}

pub(crate) fn host_seed(rng: &mut Rng) -> Vec<u8> {
    recorded(rng, true)
}

pub(crate) fn engine_seed(rng: &mut Rng) -> Vec<u8> {
    recorded(rng, false)
}
