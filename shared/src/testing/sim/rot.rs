//! Rot: now and then a bit of the server's store is another one.
//!
//! What rots is a row of any kind. A record rots as long as some device shows it as it is, or all of them together
//! know all of it, so nothing may be lost by it; of older versions that devices hold, each is part of what is there at rest.

use super::{
    World,
    history::{base_of_store, known_to_all},
};
use crate::{
    codec::encode_record,
    id::{CollectionName, Epoch, RecordId, RecordKey},
    io::{Batch, CommitOutcome, FaultClass, Keyspace, Row},
    port::Store,
    protocol::host::{Host, HostConfig, HostInput, HostOutput},
    testing::{block_on, memory::MemoryStore},
    time::Millis,
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

/// Bytes of a stored value behind what its seal covers.
const SEAL_BYTES: usize = 9;

/// The record of a row of the server's store.
fn parse_key(key: &[u8]) -> Option<RecordKey> {
    let (collection, id) = core::str::from_utf8(key).ok()?.split_once('\0')?;
    let collection = CollectionName::parse(collection).ok()?;
    Some(RecordKey { collection, id: RecordId::parse(id).ok()? })
}

impl World {
    /// A bit of one row of the server's store flips.
    pub(super) fn rot(&mut self) {
        let store = self.server.store.clone();
        let of = |keyspace| store.rows(keyspace).into_iter().map(move |row| (keyspace, row));
        let all = Keyspace::ALL.into_iter().flat_map(of);
        let struck = |(keyspace, _): &(Keyspace, Row)| {
            *keyspace == Keyspace::Records || !self.plan.rots_records
        };
        let rows: Vec<(Keyspace, Row)> = all.filter(struck).collect();
        let kept = |row: &Row| row.key.starts_with(b"damaged/") || row.key == b"quarantine";
        let mut rows: Vec<_> = rows.into_iter().filter(|(_, row)| !kept(row)).collect();
        if rows.is_empty() {
            return;
        }
        let (keyspace, mut row) = rows.swap_remove(self.faults.index(rows.len()));
        let bases: BTreeMap<_, _> =
            self.devices.iter().map(|device| (device.at, base_of_store(&device.store))).collect();
        if keyspace == Keyspace::Records {
            let sealed = row.value.len().saturating_sub(SEAL_BYTES);
            let body = row.value.get(..sealed).unwrap_or_default();
            let Some(key) = parse_key(&row.key) else {
                return;
            };
            let mut bodies = bases.values().filter_map(|base| base.get(&key));
            let is_held = bodies.any(|(bytes, _)| body.ends_with(bytes)) || {
                let stores = self.devices.iter().map(|device| &device.store);
                let known = encode_record(&known_to_all(stores, &key));
                !self.plan.relaxed && body.ends_with(&known)
            };
            if !is_held {
                return;
            }
            self.server.lacks = true;
            self.server.lost = true;
            self.mark("record rotted");
        }
        self.server.forgot |= matches!(keyspace, Keyspace::Log | Keyspace::Meta);
        let at = self.faults.index(row.value.len());
        let bit = self.faults.index(8);
        if let Some(byte) = row.value.get_mut(at) {
            *byte ^= 1 << bit;
        }
        self.tell(99, 0, format_args!("rot: {keyspace:?} {:?}", row.key));
        let mut batch = Batch::default();
        batch.put(keyspace, row.key, row.value);
        let outcome = block_on(store.commit(batch));
        assert_eq!(outcome, Ok(CommitOutcome::Applied), "a store in memory takes it");
        self.mark("rotted");
        let shown = |(key, (_, record))| (key, record);
        self.server.held = bases
            .into_iter()
            .map(|(device, base)| (device, base.into_iter().map(shown).collect()))
            .collect();
        self.server.passes = self.server_passes();
    }

    /// Passes of the scrub since the server's start.
    pub(super) fn server_passes(&self) -> u64 {
        self.server.host.as_ref().map_or(0, |host| host.facts().scrubbed.passes)
    }

    /// At rest: a host that reads everything that the server has stored finds nothing damaged, and derives from it
    /// the trees that the server has.
    pub(super) fn check_store(&self) -> Result<(), String> {
        let Some(live) = self.server.host.as_ref().map(Host::facts) else {
            return Ok(());
        };
        let store = MemoryStore::from_image(self.server.store.snapshot());
        let epoch = Epoch::from_bytes([0xee; 16]);
        let mut config = HostConfig::new(super::space(), epoch, self.server.secret);
        config.scrub = Some(Millis(1));
        let mut now = self.server_now();
        let mut host = Host::open(config, now);
        let mut found = String::new();
        // The first may be the rest of one that the server has begun.
        while host.facts().scrubbed.passes < 2 {
            while let Some(output) = host.poll() {
                let input = match output {
                    HostOutput::Query { ticket, queries } => {
                        let result = block_on(store.read(&queries));
                        let result = result.map_err(|_never| FaultClass::Permanent);
                        HostInput::Answered { ticket, result }
                    }
                    HostOutput::Commit { ticket, batch } => {
                        let result = block_on(store.commit(batch));
                        let result = result.map_err(|_never| FaultClass::Permanent);
                        HostInput::Committed { ticket, result }
                    }
                    HostOutput::Note(note) => {
                        found.push_str(&format!("{note:?} "));
                        continue;
                    }
                    HostOutput::Send { .. }
                    | HostOutput::Close { .. }
                    | HostOutput::Written { .. }
                    | HostOutput::RefreshAsked { .. } => continue,
                };
                host.handle(now, input);
            }
            now.mono = now.mono + Millis(1_000);
            host.handle(now, HostInput::Deadline);
        }
        let facts = host.facts();
        if facts.scrubbed.damaged > 0 {
            return Err(format!("at rest the server's store is damaged: {found}"));
        }
        if facts.collections != live.collections {
            let (has, stored) = (live.collections, facts.collections);
            return Err(format!(
                "the server's trees are {has:?}, what it has stored is {stored:?}"
            ));
        }
        Ok(())
    }

    /// Whether all was read again, twice, since something rotted: the second pass found nothing.
    pub(super) fn is_scrubbed(&self) -> bool {
        self.plan.rot_one_in == 0 || self.server_passes() >= self.server.passes + 2
    }
}
