//! The rows that are written: the task of the browser's benchmark, made up from its number.

use rejoin_core::{
    codec,
    hlc::{Hlc, HlcClock, Stamp},
    id::{CollectionName, Digest, FieldName, RecordId, RecordKey, ReplicaId},
    protocol::message::{PushRow, PushWrite},
    record::{Cell, Kind, Record, State, Value, VersionVector},
    time::WallMillis,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes rows of one replica.
#[derive(Debug)]
pub(crate) struct Rows {
    replica: ReplicaId,
    clock: HlcClock,
    number: u64,
}

impl Rows {
    pub(crate) const fn new(replica: ReplicaId) -> Self {
        Self { replica, clock: HlcClock::resume(Hlc::ZERO), number: 0 }
    }

    /// The next new record, ready to be pushed.
    pub(crate) fn next(&mut self) -> anyhow::Result<PushRow> {
        let (key, hlc, delta) = self.next_record()?;
        let digest = Digest::of("bench.row", &[&codec::encode_record(&delta)]);
        let mut short = [0; 16];
        short.copy_from_slice(&digest.as_bytes()[..16]);
        let write = PushWrite { key, saw: VersionVector::new(), updates: false, delta };
        let (origin, insisted) = (None, false);
        Ok(PushRow {
            number: self.number,
            hlc,
            origin,
            insisted,
            digest: short,
            writes: vec![write],
        })
    }

    /// The same as a database would keep it that knows nothing of rows: key and bytes.
    pub(crate) fn next_bytes(&mut self) -> anyhow::Result<(String, Vec<u8>)> {
        let (key, _, record) = self.next_record()?;
        Ok((format!("{}/{}", key.collection, key.id), codec::encode_record(&record)))
    }

    fn next_record(&mut self) -> anyhow::Result<(RecordKey, Hlc, Record)> {
        self.number += 1;
        let serial = Digest::of("bench.id", &[self.replica.as_bytes(), &self.number.to_be_bytes()]);
        let id = hexadecimal(&serial.as_bytes()[..16]);
        let hlc = self.clock.tick(wall())?;
        let stamp = Stamp { hlc, replica: self.replica };
        let number = self.number;
        let priority = if number.is_multiple_of(2) { "low" } else { "high" };
        let fields = [
            ("title", Value::text(&format!("Task number {number:>8}"))),
            ("done", Value::Bool(number.is_multiple_of(3))),
            ("createdAt", Value::text("2026-11-23T07:00:00.000Z")),
            ("notes", Value::text(&format!("{id} {id} what there is to say of it"))),
            ("priority", Value::text(priority)),
        ];
        let mut record = Record::default();
        record.seen.set(self.replica, hlc);
        for (name, value) in fields {
            let state = State::Lww { stamp, value: Some(value) };
            record.cells.insert((FieldName::parse(name)?, Kind::Lww), Cell { since: None, state });
        }
        let key =
            RecordKey { collection: CollectionName::parse("tasks")?, id: RecordId::parse(&id)? };
        Ok((key, hlc, record))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time of this machine.
pub(crate) fn wall() -> WallMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
