//! Records as a test writes them, and as every replica shows them.

use super::World;
use rejoin_core::{
    id::{CollectionName, Digest, FieldName, RecordId, RecordKey},
    record::{Kind, Value, Visible, visible},
    replica::{Action, Change, FieldAction, FieldChange, RowState},
};
use std::collections::BTreeMap;

/// What every replica can be asked for: live records with their fields, stamps left out.
pub(crate) type Seen = BTreeMap<RecordKey, BTreeMap<FieldName, Shown>>;

/// What a field shows, without the stamps of the writes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Value(Value),
    Counter(i64),
    Set(Vec<Value>),
    Review(Vec<Value>),
}

impl World {
    /// Live records as an app on the device reads them.
    pub(crate) fn seen(&self, device: usize) -> Seen {
        let replica = self.devices[device].engine.replica();
        let base = replica.base().iter().map(|(key, _)| key);
        let mut keys: Vec<&RecordKey> = base.chain(replica.overlay().keys()).collect();
        keys.sort();
        keys.dedup();
        let records = keys.into_iter().map(|key| (key.clone(), replica.view(key).unwrap()));
        records
            .filter(|(_, record)| record.is_live())
            .map(|(key, record)| {
                let fields = visible(&record).into_iter();
                (key, fields.map(|(field, shown)| (field, without_stamps(shown))).collect())
            })
            .collect()
    }

    /// Roots of the host, by collection; a collection without records is left out.
    fn host_roots(&self) -> BTreeMap<CollectionName, Digest> {
        let all = self.host.facts().collections.into_iter();
        all.filter(|(_, _, count)| *count > 0).map(|(name, root, _)| (name, root)).collect()
    }

    fn device_roots(&mut self, device: usize) -> BTreeMap<CollectionName, Digest> {
        let base = self.devices[device].engine.replica_mut().base_mut();
        let names: Vec<CollectionName> =
            base.iter().map(|(key, _)| key.collection.clone()).collect();
        let tries = base.trees();
        names.into_iter().map(|name| (name.clone(), tries.get_mut(&name).unwrap().root())).collect()
    }

    /// What all devices and the host hold: asserts that it is the same, byte for byte.
    pub(crate) fn agreed(&mut self) -> Seen {
        let host = self.host_roots();
        let first = self.seen(0);
        for device in 0..self.devices.len() {
            assert_eq!(self.device_roots(device), host, "device {device} and the host");
            assert_eq!(self.seen(device), first, "device {device} and device 0");
        }
        first
    }

    /// Rows that the host refused, kept by the device.
    pub(crate) fn rejected(&self, device: usize) -> Vec<u64> {
        let rows = self.devices[device].engine.replica().overlay().rows();
        rows.filter(|(_, row)| matches!(row.state, RowState::Rejected { .. }))
            .map(|(number, _)| number)
            .collect()
    }
}

fn without_stamps(shown: Visible) -> Shown {
    match shown {
        Visible::Value(value) => Shown::Value(value),
        Visible::Counter(total) => Shown::Counter(total),
        Visible::Set(elements) => Shown::Set(elements),
        Visible::Review(values) => {
            let mut values: Vec<Value> = values.into_iter().map(|(_, value)| value).collect();
            values.sort();
            Shown::Review(values)
        }
    }
}

pub(crate) fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

pub(crate) fn key(collection: &str, id: &str) -> RecordKey {
    RecordKey {
        collection: CollectionName::parse(collection).unwrap(),
        id: RecordId::parse(id).unwrap(),
    }
}

pub(crate) fn set(name: &str, action: FieldAction) -> FieldChange {
    FieldChange { field: field(name), action }
}

pub(crate) fn title(text: &str) -> FieldChange {
    set("title", FieldAction::Set(Kind::Lww, Value::text(text)))
}

/// Touches a record, whether it is there or not.
pub(crate) fn touch(id: &str, fields: Vec<FieldChange>) -> Change {
    Change { key: key("tasks", id), action: Action::Upsert(fields) }
}

/// A task with a title.
pub(crate) fn task(id: &str, text: &str) -> Change {
    touch(id, vec![title(text)])
}

/// What a field of a task shows.
pub(crate) fn shown<'a>(seen: &'a Seen, id: &str, name: &str) -> Option<&'a Shown> {
    seen.get(&key("tasks", id))?.get(&field(name))
}

/// The title of a task.
pub(crate) fn title_of<'a>(seen: &'a Seen, id: &str) -> Option<&'a str> {
    match shown(seen, id, "title") {
        Some(Shown::Value(Value::Text(text))) => Some(text),
        _ => None,
    }
}
