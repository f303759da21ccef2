//! Stores whose rows say what nobody wrote, under seals that fit: what a disk, or a person who can write to it, may leave.

use crate::{
    input::{Item, Items, add},
    machines::{Device, Server, talk},
};
use rejoin_core::{
    codec::seal,
    io::{Batch, CommitOutcome, Keyspace, Row},
    port::Store,
    protocol::host::PeerId,
    testing::{
        block_on,
        memory::{MemoryImage, MemoryStore},
        rng::Rng,
    },
};
use std::sync::OnceLock;

/// Bytes of a seal, its tag among them.
const SEAL_BYTES: usize = 9;
/// Ways to change a row.
const WAYS: u8 = 8;

/// A store in which a good deal has happened, and its rows in an order that stays.
struct Lived {
    image: MemoryImage,
    rows: Vec<(Keyspace, Row)>,
}

impl Lived {
    fn new(store: &MemoryStore) -> Self {
        let rows = |space| store.rows(space).into_iter().map(move |row| (space, row));
        Self { image: store.snapshot(), rows: Keyspace::ALL.into_iter().flat_map(rows).collect() }
    }

    fn store(&self) -> MemoryStore {
        MemoryStore::from_image(self.image.clone())
    }

    /// The same with up to 16 rows changed.
    fn changed(&self, items: Items<'_>) -> MemoryStore {
        let store = self.store();
        items.take(16).for_each(|item| self.change(&store, item));
        store
    }

    /// Changes one row, as an item says: which one, where, and to what.
    fn change(&self, store: &MemoryStore, item: Item<'_>) {
        let mut rest = item.bytes;
        let (which, at) = (number(&mut rest), number(&mut rest));
        let row = |at: usize| self.rows.get(at % self.rows.len()).expect("it has rows");
        let (space, Row { key, value }) = row(which).clone();
        let body_len = value.len().saturating_sub(SEAL_BYTES);
        let tag = value.last().copied().unwrap_or_default();
        let mut body = value.get(..body_len).unwrap_or_default().to_vec();
        let mut batch = Batch::default();
        match item.kind % WAYS {
            0 => batch.put(space, key, seal(tag, rest.to_vec())),
            1 => {
                body.truncate(at % (body.len() + 1));
                body.extend(rest);
                batch.put(space, key, seal(tag, body));
            }
            2 => batch.delete(space, key),
            3 => batch.put(space, key, rest.to_vec()),
            4 => batch.put(space, key, row(at).1.value.clone()),
            5 => {
                let mut key = key;
                patch(&mut key, at, rest);
                batch.put(space, key, value);
            }
            _ => {
                patch(&mut body, at, rest);
                batch.put(space, key, seal(tag, body));
            }
        }
        let committed = block_on(store.commit(batch)).expect("memory");
        assert_eq!(committed, CommitOutcome::Applied);
    }
}

/// Both ends of a space: the device's store and the server's.
fn lived() -> &'static (Lived, Lived) {
    static LIVED: OnceLock<(Lived, Lived)> = OnceLock::new();
    LIVED.get_or_init(|| {
        let mut rng = Rng::new(7);
        let mut server = Server::on(MemoryStore::new());
        let mut devices = [1, 2].map(|number| Device::on(MemoryStore::new(), number));
        for round in 0..12 {
            for (at, device) in (0..).zip(&mut devices) {
                device.write(&mut rng);
                if round % 3 < 2 {
                    device.connect();
                    talk(device, &mut server, PeerId(round * 2 + at), 1_000, |_, _| {});
                    device.pass(60_000);
                }
                device.write(&mut rng);
                device.disconnect();
            }
            server.pass(2_000);
        }
        (Lived::new(&devices[0].store), Lived::new(&server.store))
    })
}

fn number(bytes: &mut &[u8]) -> usize {
    let [high, low, rest @ ..] = *bytes else {
        return 0;
    };
    *bytes = rest;
    usize::from(u16::from_be_bytes([*high, *low]))
}

/// Writes `patch` over what stands at `at`; what does not fit lengthens it.
fn patch(bytes: &mut Vec<u8>, at: usize, patch: &[u8]) {
    let at = at % (bytes.len() + 1);
    let end = (at + patch.len()).min(bytes.len());
    bytes.splice(at..end, patch.iter().copied());
}

/// A device opens a store that somebody has changed and writes: it says what is wrong, or works, and what it has stored
/// can be read again. One in four, by the first byte, meets a server too.
pub(crate) fn device(bytes: &[u8]) {
    let [meets, bytes @ ..] = bytes else { return };
    let (of_device, of_server) = lived();
    let store = of_device.changed(Items(bytes));
    let mut device = Device::on(store.clone(), 1);
    device.write(&mut Rng::new(1));
    if meets % 4 == 0 {
        let mut server = Server::on(of_server.store());
        for round in 0..2 {
            device.connect();
            talk(&mut device, &mut server, PeerId(50 + round), 200, |_, _| {});
            device.pass(1_000);
            device.disconnect();
            device.pass(30_000);
        }
    }
    let again = Device::on(store, 1);
    assert_eq!(device.engine.is_open(), again.engine.is_open());
}

/// A server opens a store that somebody has changed, looks through it, and serves: it says what is wrong, or works. One
/// in four, by the first byte, meets a device that knows it and one that does not.
pub(crate) fn server(bytes: &[u8]) {
    let [meets, bytes @ ..] = bytes else { return };
    let (of_device, of_server) = lived();
    let mut server = Server::on(of_server.changed(Items(bytes)));
    (0..3).for_each(|_| server.pass(2_000));
    if meets % 4 != 0 {
        return;
    }
    for (at, store) in (0..).zip([of_device.store(), MemoryStore::new()]) {
        let mut device = Device::on(store, 1 + at);
        device.write(&mut Rng::new(3));
        device.connect();
        talk(&mut device, &mut server, PeerId(60 + u64::from(at)), 200, |_, _| {});
        server.pass(2_000);
        device.pass(1_000);
        talk(&mut device, &mut server, PeerId(60 + u64::from(at)), 200, |_, _| {});
    }
}

/// Rows of the right shape in the wrong place, or a little wrong.
pub(crate) fn seed(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.byte()];
    for _ in 0..=rng.below(3) {
        let [.., kind] = rng.below(u64::from(WAYS)).to_be_bytes();
        let mut bytes = rng.bytes::<4>().to_vec();
        for _ in 0..rng.below(6) {
            bytes.push(rng.byte());
        }
        add(&mut input, kind, &bytes);
    }
    input
}
