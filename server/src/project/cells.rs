//! From records to rows.

use rejoin_core::{
    id::RecordKey,
    protocol::host::StoredRecord,
    record::{Kind, Value, Visible, visible_kinds},
};
use rejoin_json::{to_json, visible_to_json};
use rejoin_sqlite::{Cell, TableRow};

/// The row of a record.
pub(super) fn row(key: &RecordKey, stored: &StoredRecord) -> TableRow {
    let shown = visible_kinds(&stored.record);
    let fields = shown
        .iter()
        .map(|(field, (kind, visible))| (field.as_str().to_owned(), cell(*kind, visible)));
    let json = shown.iter().map(|(field, (kind, visible))| {
        (field.as_str().to_owned(), visible_to_json(*kind, visible).to_string())
    });
    TableRow {
        collection: key.collection.as_str().to_owned(),
        id: key.id.as_str().to_owned(),
        seq: stored.seq.0,
        fields: stored.record.is_live().then(|| fields.collect()),
        json: json.collect(),
    }
}

fn cell(kind: Kind, visible: &Visible) -> Cell {
    match visible {
        Visible::Value(value) => plain(value),
        Visible::Counter(total) => Cell::Integer(*total),
        // One value is what was written; several are told apart by nobody but people.
        Visible::Review(values) => match values.as_slice() {
            [(_, value)] => plain(value),
            _ => Cell::Text(visible_to_json(kind, visible).to_string()),
        },
        Visible::Set(elements) => {
            let elements = elements.iter().map(to_json).collect();
            Cell::Text(serde_json::Value::Array(elements).to_string())
        }
    }
}

fn plain(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(holds) => Cell::Integer(i64::from(*holds)),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Cell::Real(number.to_f64()), Cell::Integer)
        }
        Value::Text(text) => Cell::Text(text.clone()),
        Value::Bytes(bytes) => Cell::Blob(bytes.clone()),
        Value::Array(_) | Value::Map(_) => Cell::Text(to_json(value).to_string()),
    }
}
