//! Stores whose rows say what nobody wrote, under seals that fit: what a disk, or a person who can write to it, may leave.

use crate::{
    input::{Item, Items, add},
    machines::{Device, Server, talk},
};
use rejoin_core::{
    codec::seal,
    io::{Batch, CommitOutcome, Keyspace, Row},
    planted::Planted,
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
/// How long a space has lived, in milliseconds, when its stores are changed.
const LIVED_MS: u64 = 3_600_000;
/// How often its devices have met the server by then.
const ROUNDS: u64 = 4;
/// With this, and those that follow, some who have no replica do something that is kept.
const CALLS_SEED: u64 = 30;
/// Entries at which the device's log was folded: some stand behind the last fold.
const FOLD_ENTRIES_MIN: u64 = 16;

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

/// Both ends of a space: the device's store and the server's. Every input opens one of them, so they are as small as
/// they can be with rows of every kind.
fn lived() -> &'static (Lived, Lived) {
    static LIVED: OnceLock<(Lived, Lived)> = OnceLock::new();
    LIVED.get_or_init(|| {
        let mut rng = Rng::new(6);
        let mut server = Server::on(MemoryStore::new());
        let mut devices = [1, 2].map(|number| Device::on(MemoryStore::new(), number));
        devices[0].engine.plant(Planted::default(), Some(FOLD_ENTRIES_MIN));
        for round in 0..ROUNDS {
            for (at, device) in (0..).zip(&mut devices) {
                device.write(&mut rng);
                device.connect();
                talk(device, &mut server, PeerId(round * 2 + at), 1_000, |_, _| {});
                device.pass(60_000);
                device.write(&mut rng);
                device.disconnect();
            }
            server.call(&mut Rng::new(CALLS_SEED + round));
            server.pass(2_000);
        }
        // Both look through what they have stored, and note how far they are.
        (0..6).for_each(|_| devices[0].pass(60_000));
        (0..4).for_each(|_| server.pass(2_000));
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
/// can be read again. By the first byte one in four meets a server too, half of them twice.
pub(crate) fn device(bytes: &[u8]) {
    let [meets, bytes @ ..] = bytes else { return };
    let (of_device, of_server) = lived();
    let store = of_device.changed(Items(bytes));
    let mut device = Device::later_on(store.clone(), 1, LIVED_MS);
    device.write(&mut Rng::new(1));
    if meets % 4 == 0 {
        let mut server = Server::later_on(of_server.store(), LIVED_MS);
        for round in 0..1 + u64::from(meets / 4 % 2) {
            device.connect();
            talk(&mut device, &mut server, PeerId(50 + round), 200, |_, _| {});
            device.pass(1_000);
            device.disconnect();
            device.pass(30_000);
        }
    }
    let again = Device::later_on(store, 1, LIVED_MS);
    assert_eq!(device.engine.is_open(), again.engine.is_open());
}

/// A server opens a store that somebody has changed, looks through it, and serves: it says what is wrong, or works. By
/// the first byte one in four meets a device that knows it, or one that is new.
pub(crate) fn server(bytes: &[u8]) {
    let [meets, bytes @ ..] = bytes else { return };
    let (of_device, of_server) = lived();
    let mut server = Server::later_on(of_server.changed(Items(bytes)), LIVED_MS);
    server.call(&mut Rng::new(u64::from(*meets)));
    (0..3).for_each(|_| server.pass(2_000));
    let (store, number) = match meets % 8 {
        0 => (of_device.store(), 1),
        4 => (MemoryStore::new(), 3),
        _ => return,
    };
    let mut device = Device::later_on(store, number, LIVED_MS);
    device.write(&mut Rng::new(3));
    device.connect();
    talk(&mut device, &mut server, PeerId(60), 200, |_, _| {});
    server.pass(2_000);
    device.pass(1_000);
    talk(&mut device, &mut server, PeerId(60), 200, |_, _| {});
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn has(lived: &Lived, wanted: Keyspace, of: impl Fn(&Row) -> String) -> BTreeSet<String> {
        let of_it = lived.rows.iter().filter(|(space, _)| *space == wanted);
        of_it.map(|(_, row)| of(row)).collect()
    }

    /// The first word of a key.
    fn word(row: &Row) -> String {
        let word = row.key.split(|byte| !byte.is_ascii_lowercase()).next().unwrap_or_default();
        String::from_utf8(word.to_vec()).unwrap()
    }

    #[test]
    fn there_are_rows_of_every_kind_to_change() {
        let (device, server) = lived();
        let tag = |row: &Row| format!("{}", row.value.last().unwrap());
        let first = |row: &Row| format!("{}", row.key[0]);
        // A commit, changes, what became of rows, a session, a welcome.
        let log = ["0", "1", "5", "7", "8"];
        assert_eq!(has(device, Keyspace::Log, tag), log.map(str::to_owned).into());
        let meta = ["folded", "header", "leader", "scrubbed"];
        assert_eq!(has(device, Keyspace::Meta, word), meta.map(str::to_owned).into());
        assert!(!has(device, Keyspace::Page, word).is_empty());
        // Rows that were accepted, and copies.
        assert_eq!(has(server, Keyspace::Log, first), ["1", "2"].map(str::to_owned).into());
        let meta =
            ["grave", "head", "horizon", "ledger", "lineage", "memo", "memoat", "replica", "scrub"];
        assert_eq!(has(server, Keyspace::Meta, word), meta.map(str::to_owned).into());
        for space in [Keyspace::Records, Keyspace::Feed, Keyspace::Tree] {
            assert!(!has(server, space, word).is_empty());
        }
    }
}
