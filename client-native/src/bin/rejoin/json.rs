//! JSON and values, both ways, without loss: what JSON has no form for is an object with one name that
//! begins with a dollar sign.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rejoin_client::{
    FieldAction, FieldChange, FieldName, Fields, Kind, Number, RecordId, Value, Visible,
};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// The name under which an exported line has the record's id.
pub(crate) const ID: &str = "$id";
/// The name that stands in place of fields when a record was removed.
pub(crate) const REMOVED: &str = "$removed";

const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
const MAP: &str = "$map";
const COUNTER: &str = "$counter";
const SET: &str = "$set";
const REVIEW: &str = "$review";
/// An object with one of these as its only name would be read as something else.
const RESERVED: [&str; 6] = [BYTES, FLOAT, MAP, COUNTER, SET, REVIEW];

/// What a field of an imported line is to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Value(Value),
    Counter(i64),
    Set(BTreeSet<Value>),
    Review(Value),
}

/// The fields of an imported line.
pub(crate) type Target = BTreeMap<FieldName, Field>;

/// Why JSON is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("not an object")]
    NotAnObject,
    #[error("it has no {0:?}")]
    NoKey(String),
    #[error("{0:?} is neither text nor an integer")]
    Key(String),
    #[error("{name:?} cannot be an id: {error}")]
    Id { name: String, error: rejoin_client::NameError },
    #[error("{name:?} cannot be a field: {error}")]
    Field { name: String, error: rejoin_client::NameError },
    #[error("{0:?} is followed by what it cannot hold")]
    Form(String),
    #[error("{0:?} has several values side by side, which cannot be written by one")]
    Conflict(String),
}

/// Reads a record: its id, from the field `key`, and its fields.
pub(crate) fn record(json: Json, key: &FieldName) -> Result<(RecordId, Target), JsonError> {
    let Json::Object(mut object) = json else {
        return Err(JsonError::NotAnObject);
    };
    let id = match object.get(key.as_str()) {
        None | Some(Json::Null) => return Err(JsonError::NoKey(key.as_str().into())),
        Some(Json::String(text)) => text.clone(),
        Some(Json::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
        Some(_) => return Err(JsonError::Key(key.as_str().into())),
    };
    let id = RecordId::parse(&id).map_err(|error| JsonError::Id { name: id, error })?;
    object.remove(ID);
    let mut target = Target::new();
    for (name, json) in object {
        let parsed = FieldName::parse(&name);
        let name = parsed.map_err(|error| JsonError::Field { name, error })?;
        let field = field(&name, json)?;
        target.insert(name, field);
    }
    Ok((id, target))
}

fn field(name: &FieldName, json: Json) -> Result<Field, JsonError> {
    let form = || JsonError::Form(name.as_str().into());
    let Json::Object(object) = json else {
        return Ok(Field::Value(value(json)?));
    };
    match sole(&object) {
        Some((COUNTER, json)) => Ok(Field::Counter(json.as_i64().ok_or_else(form)?)),
        Some((SET, Json::Array(items))) => {
            Ok(Field::Set(items.iter().cloned().map(value).collect::<Result<_, _>>()?))
        }
        Some((REVIEW, Json::Array(items))) => match items.as_slice() {
            [one] => Ok(Field::Review(value(one.clone())?)),
            [] => Err(form()),
            [_, ..] => Err(JsonError::Conflict(name.as_str().into())),
        },
        _ => Ok(Field::Value(value(Json::Object(object))?)),
    }
}

fn sole(object: &Map<String, Json>) -> Option<(&str, &Json)> {
    let mut entries = object.iter();
    let (name, json) = entries.next()?;
    entries.next().is_none().then_some((name.as_str(), json))
}

/// Reads a value.
fn value(json: Json) -> Result<Value, JsonError> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::int(integer),
            // Not `None` without the feature of arbitrary precision.
            None => Value::float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Json::Object(object) => match sole(&object) {
            Some((BYTES, json)) => {
                let bytes = json.as_str().and_then(|text| STANDARD.decode(text).ok());
                Value::Bytes(bytes.ok_or_else(|| JsonError::Form(BYTES.into()))?)
            }
            Some((FLOAT, json)) => Value::float(match json.as_str() {
                Some("NaN") => f64::NAN,
                Some("Infinity") => f64::INFINITY,
                Some("-Infinity") => f64::NEG_INFINITY,
                _ => return Err(JsonError::Form(FLOAT.into())),
            }),
            Some((MAP, Json::Object(inner))) => map(inner.clone())?,
            Some((name @ (MAP | COUNTER | SET | REVIEW), _)) => {
                return Err(JsonError::Form(name.into()));
            }
            _ => map(object)?,
        },
    })
}

fn map(object: Map<String, Json>) -> Result<Value, JsonError> {
    let items = object.into_iter().map(|(name, json)| Ok((name, value(json)?)));
    Ok(Value::Map(items.collect::<Result<_, JsonError>>()?))
}

/// Writes a value.
fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => number_to_json(*number),
        Value::Text(text) => Json::String(text.clone()),
        Value::Bytes(bytes) => tagged(BYTES, Json::String(STANDARD.encode(bytes))),
        Value::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Map(items) => {
            let object: Map<String, Json> =
                items.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
            match sole(&object) {
                Some((name, _)) if RESERVED.contains(&name) => tagged(MAP, Json::Object(object)),
                _ => Json::Object(object),
            }
        }
    }
}

fn number_to_json(number: Number) -> Json {
    if let Some(integer) = number.as_i64() {
        return Json::from(integer);
    }
    let float = number.to_f64();
    let name = match serde_json::Number::from_f64(float) {
        Some(number) => return Json::Number(number),
        None if float.is_nan() => "NaN",
        None if float > 0.0 => "Infinity",
        None => "-Infinity",
    };
    tagged(FLOAT, Json::from(name))
}

fn tagged(name: &str, json: Json) -> Json {
    Json::Object(Map::from_iter([(name.into(), json)]))
}

fn visible_to_json(visible: &Visible) -> Json {
    match visible {
        Visible::Value(value) => to_json(value),
        Visible::Counter(total) => tagged(COUNTER, Json::from(*total)),
        Visible::Set(items) => tagged(SET, Json::Array(items.iter().map(to_json).collect())),
        Visible::Review(values) => {
            let values = values.iter().map(|(_, value)| to_json(value));
            tagged(REVIEW, Json::Array(values.collect()))
        }
    }
}

/// A line of a record; `None` for the fields of one that was removed.
pub(crate) fn line(id: Option<&RecordId>, fields: Option<&Fields>) -> String {
    let mut object = Map::new();
    match fields {
        Some(fields) => object.extend(
            fields.iter().map(|(name, visible)| (name.as_str().into(), visible_to_json(visible))),
        ),
        None => object.extend([(REMOVED.into(), Json::Bool(true))]),
    }
    object.extend(id.map(|id| (ID.into(), Json::from(id.as_str()))));
    Json::Object(object).to_string()
}

/// Whether a record is already what a line says.
pub(crate) fn is_same(fields: &Fields, target: &Target) -> bool {
    let same = |(name, field): (&FieldName, &Field)| match (fields.get(name), field) {
        (Some(Visible::Value(value)), Field::Value(target)) => value == target,
        (Some(Visible::Counter(total)), Field::Counter(target)) => total == target,
        (Some(Visible::Set(items)), Field::Set(target)) => items.iter().eq(target),
        (Some(Visible::Review(values)), Field::Review(target)) => {
            matches!(values.as_slice(), [(_, value)] if value == target)
        }
        _ => false,
    };
    fields.len() == target.len() && target.iter().all(same)
}

/// The changes that make an absent record what a line says.
pub(crate) fn changes(target: &Target) -> Vec<FieldChange> {
    let action = |field: &Field| match field {
        Field::Value(value) => FieldAction::Set(Kind::Lww, value.clone()),
        Field::Counter(total) => FieldAction::Add(*total),
        Field::Set(items) => FieldAction::Insert(items.iter().cloned().collect()),
        Field::Review(value) => FieldAction::Resolve(value.clone()),
    };
    let change = |(name, field): (&FieldName, &Field)| FieldChange {
        field: name.clone(),
        action: action(field),
    };
    target.iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_client::Stamp;
    use rejoin_core::{hlc::Hlc, id::ReplicaId};

    fn parse(text: &str) -> Json {
        serde_json::from_str(text).unwrap()
    }

    fn read(text: &str) -> Value {
        value(parse(text)).unwrap()
    }

    #[test]
    fn every_value_survives_the_way_to_json_and_back() {
        let map = |name: &str, value: Value| Value::Map([(name.to_owned(), value)].into());
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::int(i64::MIN),
            Value::int(i64::MAX),
            Value::float(0.1),
            Value::float(1e300),
            Value::float(f64::NAN),
            Value::float(f64::INFINITY),
            Value::float(f64::NEG_INFINITY),
            Value::text("Zażółć \u{0} \u{10ffff} \"\\"),
            Value::Bytes(vec![0, 255, 7]),
            Value::Bytes(Vec::new()),
            map("$bytes", Value::text("AA==")),
            map("$map", map("$float", Value::Null)),
            map("$counter", Value::int(1)),
            map("$other", Value::int(1)),
            Value::Array(vec![Value::Bytes(vec![1]), Value::Map(BTreeMap::new())]),
        ];
        for value in values {
            let text = to_json(&value).to_string();
            assert_eq!(read(&text), value, "{text}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_floats() {
        assert_eq!(read("9223372036854775808"), Value::float(9_223_372_036_854_775_808.0));
        assert_eq!(read("-9223372036854775808"), Value::int(i64::MIN));
        assert_eq!(
            read("123456789012345678901234567890"),
            Value::float(1.234_567_890_123_456_8e29)
        );
        assert_eq!(read("3.0"), Value::int(3));
        assert_eq!(read("1e2"), Value::int(100));
    }

    #[test]
    fn an_id_is_text_or_an_integer() {
        let key = FieldName::parse("id").unwrap();
        let id = |text: &str| record(parse(text), &key).map(|(id, _)| id.as_str().to_owned());
        assert_eq!(id(r#"{"id": "a b"}"#), Ok("a b".into()));
        assert_eq!(id(r#"{"id": -7}"#), Ok("-7".into()));
        assert_eq!(id(r#"{"id": 18446744073709551615}"#), Ok("18446744073709551615".into()));
        assert_eq!(id(r#"{"id": 1.5}"#), Err(JsonError::Key("id".into())));
        assert_eq!(id(r#"{"id": null}"#), Err(JsonError::NoKey("id".into())));
        assert_eq!(id("{}"), Err(JsonError::NoKey("id".into())));
        assert_eq!(id("[]"), Err(JsonError::NotAnObject));
        assert!(matches!(id(r#"{"id": ""}"#), Err(JsonError::Id { .. })));
        assert!(matches!(id(r#"{"id": "a", "": 1}"#), Err(JsonError::Field { .. })));
    }

    #[test]
    fn forms_that_hold_nothing_are_refused() {
        let key = FieldName::parse("id").unwrap();
        for field in [
            r#"{"$bytes": "%"}"#,
            r#"{"$bytes": 1}"#,
            r#"{"$float": "1"}"#,
            r#"{"$counter": 1.5}"#,
            r#"{"$set": 1}"#,
            r#"{"$review": []}"#,
            r#"{"$review": [1, 2]}"#,
            r#"[{"$map": 1}]"#,
        ] {
            let json = parse(&format!(r#"{{"id": 1, "field": {field}}}"#));
            let error = record(json, &key).unwrap_err();
            assert!(matches!(error, JsonError::Form(_) | JsonError::Conflict(_)), "{field}");
        }
    }

    #[test]
    fn an_exported_line_is_imported_as_the_same_record() {
        let stamp = Stamp { hlc: Hlc::from_bits(1), replica: ReplicaId::from_bytes([1; 16]) };
        let fields: Fields = [
            ("title", Visible::Value(Value::text("x"))),
            ("votes", Visible::Counter(-3)),
            ("tags", Visible::Set(vec![Value::int(1), Value::text("a")])),
            ("none", Visible::Set(Vec::new())),
            ("note", Visible::Review(vec![(stamp, Value::Null)])),
        ]
        .into_iter()
        .map(|(name, visible)| (FieldName::parse(name).unwrap(), visible))
        .collect();
        let id = RecordId::parse("é/1").unwrap();
        let text = line(Some(&id), Some(&fields));
        let key = FieldName::parse(ID).unwrap();
        let (read, target) = record(parse(&text), &key).unwrap();
        assert_eq!(read, id);
        assert!(is_same(&fields, &target), "{text}");
        let mut fewer = fields;
        fewer.pop_first();
        assert!(!is_same(&fewer, &target));
        assert_eq!(line(Some(&id), None), r#"{"$id":"é/1","$removed":true}"#);
    }
}
