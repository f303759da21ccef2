//! JSON and CSV that people and other programs write.

use rejoin_core::{
    hlc::{Hlc, Stamp},
    id::{FieldName, RecordId, ReplicaId},
    record::{Kind, Value, Visible},
    testing::{generators::arbitrary_value, rng::Rng},
};
use rejoin_json::{Field, ID, KindFields, Shape, Target, changes, is_same, line, lines, to_json};
use std::collections::BTreeMap;

/// Files hold records or tell what is wrong, and what a record of them holds is written and read again without loss.
pub(crate) fn json(bytes: &[u8]) {
    if let Ok(json) = serde_json::from_slice(bytes)
        && let Ok(value) = rejoin_json::value(json)
    {
        let text = to_json(&value).to_string();
        let again = serde_json::from_str(&text).expect("JSON as it was written");
        assert_eq!(rejoin_json::value(again).as_ref(), Ok(&value), "{text}");
    }
    let kinds = [("votes", Kind::Counter), ("tags", Kind::Set), ("best", Kind::Max)];
    let kinds = kinds.map(|(field, kind)| (name(field), kind));
    let shape = Shape { key: name("id"), kinds: kinds.into() };
    for format in [lines::Format::Json, lines::Format::Jsonl, lines::Format::Csv] {
        let mut take = |line: lines::Line| {
            if let Ok((id, target)) = line.record {
                written(&id, &target);
            }
            true
        };
        // A file of JSON that is none ends with an error.
        lines::read(bytes, format, &shape, &mut take).ok();
    }
}

fn name(text: &str) -> FieldName {
    FieldName::parse(text).expect("a valid name")
}

/// What a record holds is read from its line as it was.
fn written(id: &RecordId, target: &Target) {
    let fields: KindFields =
        target.iter().map(|(name, field)| (name.clone(), shown(field))).collect();
    assert!(is_same(&fields, target));
    assert_eq!(changes(target, &fields).len(), target.len());
    let text = line(Some(id), Some(&fields));
    let json = serde_json::from_str(&text).expect("JSON as it was written");
    let shape = Shape { key: name(ID), kinds: BTreeMap::new() };
    let (id_again, again) = rejoin_json::record(json, &shape).expect("a record as it was written");
    assert!(id_again == *id && is_same(&fields, &again), "{text}: {again:?}");
}

/// What the record shows in the end.
fn shown(field: &Field) -> (Kind, Visible) {
    match field {
        Field::Value(kind, value) => (kind.unwrap_or(Kind::Lww), Visible::Value(value.clone())),
        Field::Counter(total) => (Kind::Counter, Visible::Counter(*total)),
        Field::Set(elements) => (Kind::Set, Visible::Set(elements.iter().cloned().collect())),
        Field::Review(value) => {
            let writer = ReplicaId::from_bytes([1; 16]);
            (
                Kind::Review,
                Visible::Review(Vec::from([(
                    Stamp { hlc: Hlc::ZERO, replica: writer },
                    value.clone(),
                )])),
            )
        }
    }
}

pub(crate) fn json_seed(rng: &mut Rng) -> Vec<u8> {
    let value = |rng: &mut Rng| to_json(&arbitrary_value(rng)).to_string();
    let text = match rng.below(4) {
        0 => value(rng),
        1 => {
            let (one, other, set) =
                (value(rng), value(rng), Value::Array(vec![arbitrary_value(rng)]));
            format!(
                "{{\"id\":{},\"a\":{one},\"best\":{other},\"tags\":{}}}\n",
                rng.below(99),
                to_json(&set)
            )
        }
        2 => format!(
            "[{{\"id\":\"x\",\"r\":{{\"$review\":[{}]}},\"votes\":{{\"$counter\":-7}}}}]",
            value(rng)
        ),
        _ => format!("id,votes,best\n{},3,{}\n\"a\",,\n", rng.below(99), rng.below(99)),
    };
    text.into_bytes()
}
