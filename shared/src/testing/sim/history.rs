//! Stores that are erased or put back: a device that starts from nothing, a server that comes back with an
//! old copy of its file, or with an empty one, without a word.
//!
//! The oracle: what a device showed of the lost history, and still had when it came back, is there again.

use super::{Event, World, server::Age};
use crate::{
    crdt::Join,
    hlc::Stamp,
    id::{RecordKey, ReplicaId},
    port::Store,
    record::{Record, Value},
    replica::{Intent, Replica, Row, RowState, Stored, load_queries},
    testing::{
        block_on,
        memory::{MemoryImage, MemoryStore},
    },
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// A copy of the server's store.
#[derive(Debug)]
pub(super) struct Copy {
    image: MemoryImage,
    /// Some of the writes that it holds.
    tokens: BTreeSet<String>,
    age: Age,
}

/// What a device's store holds.
pub(super) fn replica_of(store: &MemoryStore) -> Replica {
    let answers = block_on(store.read(&load_queries())).unwrap_or_default();
    let mut answers = answers.into_iter();
    let mut value = || match answers.next() {
        Some(crate::io::Answer::Value(value)) => value,
        Some(crate::io::Answer::Page(_)) | None => None,
    };
    let (header, folded, _leader, finished) = (value(), value(), value(), value());
    let mut rows = || match answers.next() {
        Some(crate::io::Answer::Page(page)) => page.rows,
        Some(crate::io::Answer::Value(_)) | None => Vec::new(),
    };
    let stored = Stored { header, folded, finished, pages: rows(), log: rows() };
    let replica = Replica::load(&stored, ReplicaId::from_bytes([0; 16]), &[]);
    replica.expect("what an engine stored can be loaded")
}

fn rows_of(replica: &Replica) -> Vec<Row> {
    replica.overlay().rows().map(|(_, outbox)| outbox.row.clone()).collect()
}

/// The rows of the outbox that a device's store holds.
fn outbox_of(store: &MemoryStore) -> Vec<Row> {
    rows_of(&replica_of(store))
}

/// What the server has sent to a device, and it shows.
fn base_of(replica: &Replica) -> BTreeMap<RecordKey, Record> {
    let record = |key: &RecordKey| replica.base().record(key).unwrap_or_default();
    replica.base().iter().map(|(key, _)| (key.clone(), record(key))).collect()
}

/// The same of a store, with the bytes of each record.
pub(super) fn base_of_store(store: &MemoryStore) -> BTreeMap<RecordKey, (Vec<u8>, Record)> {
    let replica = replica_of(store);
    let records = base_of(&replica).into_iter();
    records
        .filter_map(|(key, record)| {
            let bytes = replica.base().get(&key)?.bytes.clone();
            Some((key, (bytes, record)))
        })
        .collect()
}

/// What all devices together know of a record, with the rows that they have not seen come back.
pub(super) fn known_to_all<'a>(
    stores: impl Iterator<Item = &'a MemoryStore>,
    key: &RecordKey,
) -> Record {
    let mut known = Record::default();
    for store in stores {
        known.join(&replica_of(store).view(key).unwrap_or_default());
    }
    known
}

/// The tokens that rows add to the ledger.
pub(super) fn tokens_of(rows: &[Row]) -> BTreeSet<String> {
    let writes = rows.iter().flat_map(|row| &row.writes);
    let intents = writes.filter(|write| write.key.id.as_str() == "notes").flat_map(|w| &w.intents);
    let token = |intent: &Intent| {
        if let Intent::Insert { element: Value::Text(text), .. } = intent {
            Some(text.clone())
        } else {
            None
        }
    };
    intents.filter_map(token).collect()
}

/// The tokens in all that a store has, sent or not.
pub(super) fn tokens_of_store(store: &MemoryStore) -> BTreeSet<String> {
    let replica = replica_of(store);
    let mut tokens = tokens_of(&rows_of(&replica));
    tokens.extend(super::oracle::noted_in_base(&replica));
    tokens
}

impl World {
    /// A row was refused for good: what it noted is not kept.
    pub(super) fn refused(&mut self, device: usize, at: usize, number: u64) {
        let lost = self.tokens_in(device, at, number);
        self.ledger.lose(device, &lost);
    }

    /// A row was refused: what it noted is not shown any more.
    pub(super) fn excuse(&mut self, device: usize, at: usize, number: u64) {
        let refused = self.tokens_in(device, at, number);
        self.ledger.excuse(&refused);
        self.causal_void_row(device, at, number);
    }

    /// A device's app has given up what it had not sent, which may be anything that it shows.
    pub(super) fn excuse_all(&mut self, device: usize) {
        let tabs = self.devices.get(device).into_iter().flat_map(|device| &device.tabs);
        let shown: BTreeSet<String> =
            tabs.flat_map(|tab| tab.sight.tokens.iter().cloned()).collect();
        self.ledger.excuse(&shown);
    }

    fn tokens_in(&mut self, device: usize, at: usize, number: u64) -> BTreeSet<String> {
        let tab = self.tab(device, at).and_then(|tab| tab.engine.as_ref());
        let outbox = tab.and_then(|engine| engine.replica().overlay().get(number));
        outbox.map(|outbox| tokens_of(core::slice::from_ref(&outbox.row))).unwrap_or_default()
    }

    /// An app gives up what it has not sent.
    pub(super) fn drop_pending(&mut self, device: usize) {
        if let Some(held) = self.devices.get(device) {
            let lost = tokens_of(&outbox_of(&held.store));
            self.ledger.lose(device, &lost);
            self.ledger.excuse(&lost);
            self.ledger.drops(device, true);
            self.gives_up_batches(device);
        }
    }

    /// What a device has not sent goes with its store.
    pub(super) fn lose_unsent(&mut self, device: usize) {
        if let Some(held) = self.devices.get(device) {
            let lost = tokens_of(&outbox_of(&held.store));
            self.ledger.lose(device, &lost);
        }
    }

    /// Whether a device's store holds rows that were not acknowledged.
    pub(super) fn unsent(&self, device: usize) -> bool {
        let held = self.devices.get(device);
        held.is_some_and(|held| replica_of(&held.store).counts().waiting > 0)
    }

    /// A device's store is gone, and with it what it had not sent.
    pub(super) fn erase(&mut self, device: usize) {
        self.causal_forget(device);
        self.lose_unsent(device);
        self.device_kill(device);
        if let Some(held) = self.devices.get_mut(device) {
            held.store = MemoryStore::new();
            held.id = None;
            held.backup = None;
        }
        self.disown(device);
        self.gave_away(device);
    }

    /// What a device held it does not hold any more: it may have been the only one.
    pub(super) fn gave_away(&mut self, device: usize) {
        self.server.held.remove(&device);
        if self.server_rewound {
            let left = self.tokens_of_devices();
            self.ledger.keep(&left);
        }
    }

    /// Whatever a device has, sent or not.
    fn tokens_of_devices(&self) -> BTreeSet<String> {
        self.devices.iter().flat_map(|device| tokens_of_store(&device.store)).collect()
    }

    /// A copy of the server's store is taken, or put back.
    pub(super) fn copy_server(&mut self) {
        if self.server.host.is_none() {
            return;
        }
        let Some(copy) = self.server.copy.take() else {
            let tokens = if self.server_rewound { BTreeSet::new() } else { self.tokens_of_bases() };
            let image = self.server.store.snapshot();
            let age = self.server.age.copy(self.now);
            self.server.copy = Some(Copy { image, tokens, age });
            return;
        };
        let copy = if self.faults.once_in(4) {
            self.mark("server erased");
            Copy {
                image: MemoryStore::new().snapshot(),
                tokens: BTreeSet::new(),
                age: Age::default(),
            }
        } else {
            copy
        };
        self.mark("server rolled back");
        if self.plan.loses_secret {
            self.server.secret = self.faults.bytes();
        }
        self.server_die();
        let lines: Vec<u64> = self.lines.keys().copied().collect();
        lines.into_iter().for_each(|line| self.cut(line));
        self.server.restoring = Some(copy);
        // By then every device has stored what had reached it.
        let delay = 1_000 + self.faults.below(5_000);
        self.at(delay, Event::ServerStart);
    }

    /// The copy takes the place of the server's store. What came after the copy, and no device holds, is lost.
    pub(super) fn restore_server(&mut self) {
        let Some(copy) = self.server.restoring.take() else {
            return;
        };
        self.server.store.restore(copy.image);
        self.server.age = copy.age;
        self.server_rewound = true;
        // A row that went on under another id and whose first acceptance is lost: others may bring its effect
        // back after it was accepted anew.
        self.doubles |= self.renamed;
        self.rewound_at = self.now;
        self.look_for_reissues();
        let mut left = copy.tokens;
        left.extend(self.tokens_of_devices());
        self.ledger.keep(&left);
        // What is older than the horizon, and waits for a snapshot that takes its place, is no evidence.
        let replicas = self.devices.iter().map(|device| (device.at, replica_of(&device.store)));
        let stale =
            |replica: &Replica| replica.standings().iter().any(|(_, standing)| standing.stale);
        let bases = replicas.filter(|(_, replica)| !stale(replica));
        self.server.held = bases.map(|(at, replica)| (at, base_of(&replica))).collect();
    }

    /// A device goes on with the store of `image`, which was taken at `taken`.
    pub(super) fn goes_on(&mut self, device: usize, image: MemoryImage, taken: u64) {
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        held.store.restore(image);
        self.copies.push((replica_of(&held.store).id(), taken));
    }

    /// Whether the write that put `text` into a set was made under an id of which a copy was taken before the server
    /// lost history, or under an earlier one of its replica. Original and copy may each go on with that id, in
    /// another history of the server, and neither can know: where these meet, writes cover each other.
    pub(super) fn is_split(&self, text: &str) -> bool {
        let puts = |intent: &Intent| matches!(intent, Intent::Insert { element: Value::Text(put), .. } if put == text);
        let is_one = |row: &&Row| row.writes.iter().any(|write| write.intents.iter().any(puts));
        let split = self.copies.iter().filter(|(_, taken)| *taken < self.rewound_at);
        let earlier = |id: &ReplicaId| self.earlier_ids.get(id).copied();
        let ids: BTreeSet<ReplicaId> =
            split.flat_map(|(id, _)| core::iter::successors(Some(*id), earlier)).collect();
        self.ledger.rows().iter().filter(is_one).any(|row| ids.contains(&row.stamp.replica))
    }

    /// After the server has lost history: whether a device has forgotten its latest writes in a crash while others
    /// know them. The server that was put back cannot tell, so one stamp may stand for two writes, and what either has
    /// seen of its own takes back the other's. (Of copied stores, see `is_split`.)
    pub(super) fn look_for_reissues(&mut self) {
        let replicas = self.devices.iter().map(|device| replica_of(&device.store));
        let replicas: Vec<Replica> = replicas.collect();
        let forgets = |own: &Replica| {
            let waits = |hlc| own.overlay().rows().any(|(_, outbox)| outbox.row.stamp.hlc == hlc);
            replicas.iter().any(|other| {
                base_of(other).into_iter().any(|(key, theirs)| {
                    let ours = own.base().record(&key).unwrap_or_default().seen.get(&own.id());
                    theirs.seen.get(&own.id()).is_some_and(|hlc| Some(hlc) > ours && !waits(hlc))
                })
            })
        };
        self.reissued |= self.plan.relaxed && replicas.iter().any(forgets);
        self.doubles |= self.reissued;
    }

    /// Whether another device has seen, under its first stamp, a row that waits at this one.
    pub(super) fn others_have_waiting(&self, device: usize) -> bool {
        let held = |number: usize| self.devices.get(number).map(|held| replica_of(&held.store));
        let Some(own) = held(device) else { return false };
        let rows = own.overlay().rows().map(|(_, outbox)| outbox);
        let waiting = rows.filter(|outbox| outbox.state == RowState::Waiting);
        let first: Vec<Stamp> = waiting.map(|outbox| outbox.row.first_stamp()).collect();
        (0..self.devices.len()).filter(|other| *other != device).filter_map(held).any(|other| {
            let base = base_of(&other);
            base.values().any(|record| first.iter().any(|stamp| record.seen.covers(stamp)))
        })
    }

    /// A device has lost what it held of a history that the server has lost: it had been away for too long.
    pub(super) fn rebased(&mut self) {
        self.mark("rebased");
        if self.server_rewound {
            self.forgotten = true;
            self.server.held.clear();
            self.ledger.keep(&BTreeSet::new());
        }
    }

    fn tokens_of_bases(&self) -> BTreeSet<String> {
        let bases = self.engines().map(|(_, _, engine)| engine.replica());
        bases.flat_map(super::oracle::noted_in_base).collect()
    }

    /// At rest: whatever a device showed when the server lost its history is part of what is there.
    pub(super) fn check_held(&self, all: &BTreeMap<RecordKey, Record>) -> Result<(), String> {
        for (device, base) in self.server.held.iter().filter(|(at, _)| !self.dead.contains(at)) {
            // What was removed may be forgotten since.
            let forgets = self.plan.retention_ms.is_some();
            let kept = base.iter().filter(|(key, _)| !forgets || !self.removes(key));
            for (key, held) in kept {
                let mut there = all.get(key).cloned().unwrap_or_default();
                // When it was removed is the server's to say.
                there.removed.buried = None;
                let mut both = there.clone();
                both.join(held);
                both.removed.buried = None;
                if both != there {
                    return Err(format!(
                        "device {device} showed {key} when the server lost its history, as {held:?}; now it is {there:?}: {}",
                        self.summary()
                    ));
                }
            }
        }
        Ok(())
    }
}
