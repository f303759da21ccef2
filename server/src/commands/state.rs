//! The whole state of a record as JSON: what it shows, and the stamps of every part.

use rejoin_core::{
    hlc::{Hlc, Stamp},
    record::{Cell, Record, State, Value, VersionVector},
};
use rejoin_json::to_json;
use serde_json::{Map, Value as Json, json};

/// Milliseconds since 1970, a dot, and what counts within one.
pub(super) fn time(hlc: Hlc) -> String {
    format!("{hlc:?}")
}

fn stamp(stamp: &Stamp) -> String {
    format!("{stamp:?}")
}

/// The last write of each replica.
fn vector(seen: &VersionVector) -> Json {
    seen.iter().map(|stamp| (stamp.replica.to_string(), Json::from(time(stamp.hlc)))).collect()
}

/// What a record is made of.
pub(super) fn record(record: &Record) -> Map<String, Json> {
    let cells = record.cells.iter().map(|((field, kind), cell)| {
        let mut told = cell_json(cell);
        told.insert("field".to_owned(), field.as_str().into());
        told.insert("kind".to_owned(), format!("{kind:?}").to_lowercase().into());
        Json::Object(told)
    });
    let mut told = Map::new();
    told.insert("seen".to_owned(), vector(&record.seen));
    told.insert("removed".to_owned(), vector(&record.removed.seen));
    told.insert("buried".to_owned(), record.removed.buried.map(time).into());
    told.insert("cells".to_owned(), cells.collect());
    told
}

fn cell_json(cell: &Cell) -> Map<String, Json> {
    let optional = |value: &Option<Value>| value.as_ref().map(to_json);
    let told = match &cell.state {
        State::Lww { stamp: by, value } => json!({ "by": stamp(by), "value": optional(value) }),
        State::Fww(first) => match first {
            Some((by, value)) => json!({ "by": stamp(by), "value": to_json(value) }),
            None => json!({}),
        },
        State::Max(value) | State::Min(value) => json!({ "value": optional(value) }),
        State::Counter(counter) => {
            let tallies: Map<String, Json> = counter
                .0
                .iter()
                .map(|(replica, tally)| {
                    let tally = json!({ "added": tally.added, "subtracted": tally.subtracted });
                    (replica.to_string(), tally)
                })
                .collect();
            json!({ "total": counter.total(), "by": tallies })
        }
        State::Set(set) => {
            let elements = set.elements.iter();
            let elements: Vec<Json> = elements
                .map(|(value, adds)| json!({ "value": to_json(value), "by": vector(adds) }))
                .collect();
            json!({ "elements": elements, "context": vector(&set.context) })
        }
        State::Review(siblings) => {
            let values = siblings.values.iter();
            let values: Vec<Json> = values
                .map(|(by, value)| json!({ "by": stamp(by), "value": to_json(value) }))
                .collect();
            json!({ "values": values, "context": vector(&siblings.context) })
        }
        State::Later { code, bytes } => json!({ "code": code, "bytes": bytes.len() }),
    };
    let mut told = if let Json::Object(told) = told { told } else { Map::new() };
    if let Some(since) = &cell.since {
        told.insert("since".to_owned(), stamp(since).into());
    }
    told
}
