//! JSON and records, both ways, without loss: what JSON has no form for is an object with one name that
//! begins with a dollar sign. One form for all that speaks JSON: the command line, HTTP, files.
//!
//! Absent: what a record is written with where a write is more than its content (`rejoin-server`'s operations).

pub mod lines;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rejoin_core::{
    id::{FieldName, NameError, RecordId},
    record::{Kind, Number, Value, Visible},
    replica::{FieldAction, FieldChange},
};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// The name under which an exported line has the record's id.
pub const ID: &str = "$id";
/// The name that stands in place of fields when a record was removed.
pub const REMOVED: &str = "$removed";

const BYTES: &str = "$bytes";
const FLOAT: &str = "$float";
const MAP: &str = "$map";
const COUNTER: &str = "$counter";
const SET: &str = "$set";
const REVIEW: &str = "$review";
const FWW: &str = "$fww";
const MAX: &str = "$max";
const MIN: &str = "$min";
/// In place of a field's content: adds to a counter, or takes from it.
pub const INCREMENT: &str = "$increment";
/// The same: adds elements to a set.
pub const INSERT: &str = "$insert";
/// The same: removes elements from a set.
pub const DELETE: &str = "$delete";
/// The same: writes a reviewed value in place of those side by side.
pub const RESOLVE: &str = "$resolve";
/// The same: makes a field of the kind that is named absent.
pub const CLEAR: &str = "$clear";
/// An object with one of these as its only name would be read as something else.
const RESERVED: [&str; 14] = [
    BYTES, FLOAT, MAP, COUNTER, SET, REVIEW, FWW, MAX, MIN, INCREMENT, INSERT, DELETE, RESOLVE,
    CLEAR,
];

/// The fields of a record, each with its kind.
pub type KindFields = BTreeMap<FieldName, (Kind, Visible)>;

/// How lines are to be read.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The field that holds the id.
    pub key: FieldName,
    /// The kinds of fields, where the command says them.
    pub kinds: BTreeMap<FieldName, Kind>,
}

/// What a field of an imported line is to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// Of one of the kinds that hold a value, if one is said.
    Value(Option<Kind>, Value),
    /// A counter with this total.
    Counter(i64),
    /// A set of these.
    Set(BTreeSet<Value>),
    /// A reviewed value.
    Review(Value),
}

/// The fields of an imported line.
pub type Target = BTreeMap<FieldName, Field>;

/// Why JSON is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// A record is an object.
    #[error("not an object")]
    NotAnObject,
    /// It lacks the field that holds its id.
    #[error("it has no {0:?}")]
    NoKey(String),
    /// That field holds no id.
    #[error("{0:?} is neither text nor an integer")]
    Key(String),
    /// That field's text cannot be an id.
    #[error("{name:?} cannot be an id: {error}")]
    Id {
        /// The text.
        name: String,
        /// Why.
        error: NameError,
    },
    /// A name cannot be a field's.
    #[error("{name:?} cannot be a field: {error}")]
    Field {
        /// The name.
        name: String,
        /// Why.
        error: NameError,
    },
    /// A form with a dollar sign holds what it cannot.
    #[error("{0:?} is followed by what it cannot hold")]
    Form(String),
    /// A field is of another kind than its form says.
    #[error("{field:?} is a field of kind {kind}, which cannot be this")]
    Kind {
        /// Which field.
        field: String,
        /// Its kind.
        kind: String,
    },
    /// A review with several values says no single one.
    #[error("{0:?} has several values side by side, which cannot be written by one")]
    Conflict(String),
}

/// Names of kinds, as `--kind` takes them.
const KINDS: [(&str, Kind); 7] = [
    ("lww", Kind::Lww),
    ("fww", Kind::Fww),
    ("max", Kind::Max),
    ("min", Kind::Min),
    ("counter", Kind::Counter),
    ("set", Kind::Set),
    ("review", Kind::Review),
];

/// Reads the kind of a field, as in `votes=counter`.
///
/// # Errors
/// Why it is none, for people.
pub fn parse_kind(text: &str) -> Result<(FieldName, Kind), String> {
    let (field, kind) = text.rsplit_once('=').ok_or("it has the form FIELD=KIND")?;
    let field = FieldName::parse(field).map_err(|error| error.to_string())?;
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((_, kind)) => Ok((field, *kind)),
        None => Err(format!("{kind:?} is none of {}", KINDS.map(|(name, _)| name).join(", "))),
    }
}

/// Reads a record: its id and its fields.
///
/// # Errors
/// [`JsonError`].
pub fn record(json: Json, shape: &Shape) -> Result<(RecordId, Target), JsonError> {
    let key = &shape.key;
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
        let name = field_name(name)?;
        let field = field(&name, json, shape.kinds.get(&name).copied())?;
        target.insert(name, field);
    }
    Ok((id, target))
}

/// Reads the name of a field.
///
/// # Errors
/// [`JsonError::Field`].
pub fn field_name(name: String) -> Result<FieldName, JsonError> {
    FieldName::parse(&name).map_err(|error| JsonError::Field { name, error })
}

/// Reads a field, of the kind that its form or the command says.
///
/// # Errors
/// [`JsonError`].
pub fn field(name: &FieldName, json: Json, said: Option<Kind>) -> Result<Field, JsonError> {
    let kind = by_form(&json).or(said);
    let wrong = || JsonError::Kind {
        field: name.as_str().into(),
        kind: format!("{:?}", said.or(kind).unwrap_or(Kind::Lww)).to_lowercase(),
    };
    let json = match (by_form(&json), json) {
        (Some(form), _) if said.is_some_and(|said| said != form) => return Err(wrong()),
        (Some(form), Json::Object(object)) => match (form, object.into_values().next()) {
            (Kind::Review, Some(Json::Array(values))) if values.len() > 1 => {
                return Err(JsonError::Conflict(name.as_str().into()));
            }
            (Kind::Review, Some(Json::Array(mut values))) => values.pop().ok_or_else(wrong)?,
            (Kind::Review, _) | (_, None) => return Err(wrong()),
            (_, Some(inner)) => inner,
        },
        (_, json) => json,
    };
    match (kind, json) {
        (Some(Kind::Counter), json) => {
            // All that CSV has is text.
            let total = json.as_i64().or_else(|| json.as_str()?.trim().parse().ok());
            Ok(Field::Counter(total.ok_or_else(wrong)?))
        }
        (Some(Kind::Set), Json::Array(items)) => {
            Ok(Field::Set(items.into_iter().map(value).collect::<Result<_, _>>()?))
        }
        (Some(Kind::Set), _) => Err(wrong()),
        (Some(Kind::Review), json) => Ok(Field::Review(value(json)?)),
        (kind, json) => Ok(Field::Value(kind, value(json)?)),
    }
}

/// The kind that an object with one name says.
fn by_form(json: &Json) -> Option<Kind> {
    match sole(json.as_object()?)?.0 {
        COUNTER => Some(Kind::Counter),
        SET => Some(Kind::Set),
        REVIEW => Some(Kind::Review),
        FWW => Some(Kind::Fww),
        MAX => Some(Kind::Max),
        MIN => Some(Kind::Min),
        _ => None,
    }
}

/// The name and content of an object that has just one.
#[must_use]
pub fn sole(object: &Map<String, Json>) -> Option<(&str, &Json)> {
    let mut entries = object.iter();
    let (name, json) = entries.next()?;
    entries.next().is_none().then_some((name.as_str(), json))
}

/// Reads a value.
///
/// # Errors
/// [`JsonError::Form`].
pub fn value(json: Json) -> Result<Value, JsonError> {
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
            Some((name, _)) if RESERVED.contains(&name) => {
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
#[must_use]
pub fn to_json(value: &Value) -> Json {
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

/// Writes what a field of a kind shows.
#[must_use]
pub fn visible_to_json(kind: Kind, visible: &Visible) -> Json {
    match visible {
        Visible::Value(value) => match kind {
            Kind::Fww => tagged(FWW, to_json(value)),
            Kind::Max => tagged(MAX, to_json(value)),
            Kind::Min => tagged(MIN, to_json(value)),
            Kind::Lww | Kind::Counter | Kind::Set | Kind::Review | Kind::Later(_) => to_json(value),
        },
        Visible::Counter(total) => tagged(COUNTER, Json::from(*total)),
        Visible::Set(items) => tagged(SET, Json::Array(items.iter().map(to_json).collect())),
        Visible::Review(values) => {
            let values = values.iter().map(|(_, value)| to_json(value));
            tagged(REVIEW, Json::Array(values.collect()))
        }
    }
}

/// The fields of a record, as one object.
#[must_use]
pub fn fields<'a>(
    shown: impl IntoIterator<Item = (&'a FieldName, &'a (Kind, Visible))>,
) -> Map<String, Json> {
    let json = |(name, (kind, visible)): (&FieldName, &(Kind, Visible))| {
        (name.as_str().to_owned(), visible_to_json(*kind, visible))
    };
    shown.into_iter().map(json).collect()
}

/// A line of a record; `None` for the fields of one that was removed.
#[must_use]
pub fn line(id: Option<&RecordId>, known: Option<&KindFields>) -> String {
    let mut object = Map::new();
    match known {
        Some(known) => object = fields(known),
        None => object.extend([(REMOVED.into(), Json::Bool(true))]),
    }
    object.extend(id.map(|id| (ID.into(), Json::from(id.as_str()))));
    Json::Object(object).to_string()
}

/// Whether a record is already what a line says.
#[must_use]
pub fn is_same(fields: &KindFields, target: &Target) -> bool {
    let same = |(name, field): (&FieldName, &Field)| match (fields.get(name), field) {
        (Some((kind, Visible::Value(value))), Field::Value(said, target)) => {
            value == target && said.is_none_or(|said| said == *kind)
        }
        (Some((_, Visible::Counter(total))), Field::Counter(target)) => total == target,
        (Some((_, Visible::Set(items))), Field::Set(target)) => items.iter().eq(target),
        (Some((_, Visible::Review(values))), Field::Review(target)) => {
            matches!(values.as_slice(), [(_, value)] if value == target)
        }
        _ => false,
    };
    fields.len() == target.len() && target.iter().all(same)
}

/// The changes that make a record what a line says. A value of which no kind is said keeps the kind that
/// the field has in `found`.
#[must_use]
pub fn changes(target: &Target, found: &KindFields) -> Vec<FieldChange> {
    let kept = |name: &FieldName| match found.get(name) {
        Some((kind, Visible::Value(_))) => *kind,
        _ => Kind::Lww,
    };
    let action = |name: &FieldName, field: &Field| match field {
        Field::Value(kind, value) => {
            FieldAction::Set(kind.unwrap_or_else(|| kept(name)), value.clone())
        }
        Field::Counter(total) => FieldAction::Add(*total),
        Field::Set(items) => FieldAction::Insert(items.iter().cloned().collect()),
        Field::Review(value) => FieldAction::Resolve(value.clone()),
    };
    let change = |(name, field): (&FieldName, &Field)| FieldChange {
        field: name.clone(),
        action: action(name, field),
    };
    target.iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::{
        hlc::{Hlc, Stamp},
        id::ReplicaId,
    };

    fn parse(text: &str) -> Json {
        serde_json::from_str(text).unwrap()
    }

    fn shape(key: &str, kinds: &[(&str, Kind)]) -> Shape {
        let name = |name: &str| FieldName::parse(name).unwrap();
        let kinds = kinds.iter().map(|(field, kind)| (name(field), *kind)).collect();
        Shape { key: name(key), kinds }
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
            Value::float(-2.587_900_014_067_531_8e-17),
            Value::float(5e-324),
            Value::float(f64::NAN),
            Value::float(f64::INFINITY),
            Value::float(f64::NEG_INFINITY),
            Value::text("Zażółć \u{0} \u{10ffff} \"\\"),
            Value::Bytes(vec![0, 255, 7]),
            Value::Bytes(Vec::new()),
            map("$bytes", Value::text("AA==")),
            map("$map", map("$float", Value::Null)),
            map("$counter", Value::int(1)),
            map("$increment", Value::int(1)),
            map("$other", Value::int(1)),
            Value::Array(vec![
                Value::Bytes(vec![1]),
                Value::Map(rejoin_core::sorted::SortedMap::new()),
            ]),
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
        let shape = shape("id", &[]);
        let id = |text: &str| record(parse(text), &shape).map(|(id, _)| id.as_str().to_owned());
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
        let shape = shape("id", &[]);
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
            let error = record(json, &shape).unwrap_err();
            let refused = matches!(
                error,
                JsonError::Form(_) | JsonError::Conflict(_) | JsonError::Kind { .. }
            );
            assert!(refused, "{field}");
        }
    }

    #[test]
    fn the_command_says_the_kind_of_a_field_and_the_line_may_not_say_another() {
        let kinds = [
            ("first", Kind::Fww),
            ("best", Kind::Max),
            ("least", Kind::Min),
            ("votes", Kind::Counter),
            ("tags", Kind::Set),
            ("note", Kind::Review),
        ];
        let shape = shape("$id", &kinds);
        let read = |text: &str| record(parse(text), &shape).map(|(_, target)| target);
        let said = read(
            r#"{"$id":"1","first":1,"best":2,"least":3,"votes":"4","tags":[5,5],"note":[6],"x":7}"#,
        );
        let formed = read(
            r#"{"$id":"1","first":{"$fww":1},"best":{"$max":2},"least":{"$min":3},
                "votes":{"$counter":4},"tags":{"$set":[5]},"note":{"$review":[[6]]},"x":7}"#,
        );
        assert_eq!(said, formed);
        for wrong in [r#"{"best":{"$min":1}}"#, r#"{"votes":"x"}"#, r#"{"tags":"x"}"#] {
            let line = wrong.replacen('{', r#"{"$id":"1","#, 1);
            assert!(matches!(read(&line), Err(JsonError::Kind { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_value_without_a_kind_keeps_the_kind_of_its_field() {
        let name = FieldName::parse("best").unwrap();
        let found: KindFields = [(name.clone(), (Kind::Max, Visible::Value(Value::int(1))))].into();
        let (_, target) = record(parse(r#"{"$id":"1","best":2}"#), &shape("$id", &[])).unwrap();
        let action = FieldAction::Set(Kind::Max, Value::int(2));
        assert_eq!(changes(&target, &found), [FieldChange { field: name, action }]);
    }

    #[test]
    fn an_exported_line_is_imported_as_the_same_record() {
        let stamp = Stamp { hlc: Hlc::from_bits(1), replica: ReplicaId::from_bytes([1; 16]) };
        let fields: KindFields = [
            ("title", Kind::Lww, Visible::Value(Value::text("x"))),
            ("first", Kind::Fww, Visible::Value(Value::Null)),
            ("best", Kind::Max, Visible::Value(Value::int(3))),
            ("least", Kind::Min, Visible::Value(Value::Array(Vec::new()))),
            ("votes", Kind::Counter, Visible::Counter(-3)),
            ("tags", Kind::Set, Visible::Set(vec![Value::int(1), Value::text("a")])),
            ("none", Kind::Set, Visible::Set(Vec::new())),
            ("note", Kind::Review, Visible::Review(vec![(stamp, Value::Null)])),
        ]
        .into_iter()
        .map(|(name, kind, visible)| (FieldName::parse(name).unwrap(), (kind, visible)))
        .collect();
        let id = RecordId::parse("é/1").unwrap();
        let text = line(Some(&id), Some(&fields));
        let (read, target) = record(parse(&text), &shape(ID, &[])).unwrap();
        assert_eq!(read, id);
        assert!(is_same(&fields, &target), "{text}");
        let mut fewer = fields;
        fewer.pop_first();
        assert!(!is_same(&fewer, &target));
        assert_eq!(line(Some(&id), None), r#"{"$id":"é/1","$removed":true}"#);
    }
}
