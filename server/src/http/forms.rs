//! From the fields of a body to changes: contents as they are read (`rejoin_json`), and operations in their place.

use rejoin_core::{
    record::{Kind, Value},
    replica::{FieldAction, FieldChange},
};
use rejoin_json::{self as json, CLEAR, DELETE, Field, INCREMENT, INSERT, RESOLVE, Target};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// All that a record is to have.
///
/// # Errors
/// What cannot be, for people.
pub(crate) fn whole(fields: Map<String, Json>) -> Result<Vec<FieldChange>, String> {
    let read = |(name, content)| {
        let name = json::field_name(name)?;
        let field = json::field(&name, content, None)?;
        Ok((name, field))
    };
    let target = fields.into_iter().map(read).collect::<Result<Target, json::JsonError>>();
    let target = target.map_err(|error| error.to_string())?;
    Ok(json::changes(&target, &BTreeMap::new()))
}

/// What is to be done to some fields of a record.
///
/// # Errors
/// What cannot be, for people.
pub(crate) fn touched(fields: Map<String, Json>) -> Result<Vec<FieldChange>, String> {
    let touch = |(name, content)| {
        let field = json::field_name(name).map_err(|error| error.to_string())?;
        let action = action(&field, content)?;
        Ok(FieldChange { field, action })
    };
    fields.into_iter().map(touch).collect()
}

fn action(name: &rejoin_core::id::FieldName, content: Json) -> Result<FieldAction, String> {
    if let Some((form, content)) = content.as_object().and_then(json::sole) {
        let wrong = || format!("{name}: {form} is followed by what it cannot hold");
        let value = |content: &Json| json::value(content.clone()).map_err(|_refused| wrong());
        let values = |content: &Json| {
            let items = content.as_array().ok_or_else(wrong)?;
            items.iter().map(value).collect::<Result<Vec<Value>, String>>()
        };
        match form {
            INCREMENT => return content.as_i64().map(FieldAction::Add).ok_or_else(wrong),
            INSERT => return values(content).map(FieldAction::Insert),
            DELETE => return values(content).map(FieldAction::Delete),
            RESOLVE => return value(content).map(FieldAction::Resolve),
            CLEAR => {
                let kind = content.as_str().and_then(kind_named).ok_or_else(wrong)?;
                return Ok(FieldAction::Clear(kind));
            }
            _ => {}
        }
    }
    match json::field(name, content, None).map_err(|error| error.to_string())? {
        Field::Value(kind, value) => Ok(FieldAction::Set(kind.unwrap_or(Kind::Lww), value)),
        Field::Set(items) => Ok(FieldAction::Replace(items.into_iter().collect())),
        Field::Review(value) => Ok(FieldAction::Resolve(value)),
        Field::Counter(_) => {
            Err(format!("{name}: a counter is changed by {INCREMENT}, a total is for PUT"))
        }
    }
}

fn kind_named(name: &str) -> Option<Kind> {
    Some(match name {
        "lww" => Kind::Lww,
        "fww" => Kind::Fww,
        "max" => Kind::Max,
        "min" => Kind::Min,
        "counter" => Kind::Counter,
        "set" => Kind::Set,
        "review" => Kind::Review,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<FieldAction>, String> {
        let fields = serde_json::from_str(text).unwrap();
        Ok(touched(fields)?.into_iter().map(|change| change.action).collect())
    }

    #[test]
    fn operations_and_contents_stand_in_the_same_place() {
        let text = r#"{"a": {"$increment": -2}, "b": {"$insert": [1, "x"]}, "c": {"$delete": [1]},
            "d": {"$resolve": null}, "e": {"$clear": "counter"}, "f": {"$set": [1]},
            "g": {"$max": 3}, "h": [1], "i": {"$map": {"$increment": 1}}}"#;
        let one = Value::int(1);
        assert_eq!(
            read(text).unwrap(),
            [
                FieldAction::Add(-2),
                FieldAction::Insert(vec![one.clone(), Value::text("x")]),
                FieldAction::Delete(vec![one.clone()]),
                FieldAction::Resolve(Value::Null),
                FieldAction::Clear(Kind::Counter),
                FieldAction::Replace(vec![one.clone()]),
                FieldAction::Set(Kind::Max, Value::int(3)),
                FieldAction::Set(Kind::Lww, Value::Array(vec![one.clone()])),
                FieldAction::Set(
                    Kind::Lww,
                    Value::Map([("$increment".to_owned(), one)].into_iter().collect())
                ),
            ]
        );
    }

    #[test]
    fn operations_that_hold_nothing_they_can_are_refused() {
        for text in [
            r#"{"a": {"$increment": 1.5}}"#,
            r#"{"a": {"$increment": "1"}}"#,
            r#"{"a": {"$increment": 9223372036854775808}}"#,
            r#"{"a": {"$insert": 1}}"#,
            r#"{"a": {"$delete": {}}}"#,
            r#"{"a": {"$insert": [{"$bytes": "%"}]}}"#,
            r#"{"a": {"$clear": "list"}}"#,
            r#"{"a": {"$counter": 3}}"#,
            r#"{"a": {"$review": [1, 2]}}"#,
            r#"{"a": [{"$increment": 1}]}"#,
            r#"{"": 1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let operation = serde_json::from_str(r#"{"a": {"$increment": 1}}"#).unwrap();
        assert!(whole(operation).is_err(), "a put says what is to be");
    }
}
