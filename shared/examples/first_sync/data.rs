//! What is synced.

use crate::world::COLLECTION;
use rejoin_core::{
    id::{CollectionName, FieldName, RecordId, RecordKey},
    record::{Kind, Value},
    replica::{Action, Change, FieldAction, FieldChange},
    testing::rng::Rng,
};
use serde_json::Value as Json;
use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    process::{Command, Stdio},
    thread,
};

/// Records, and the same as lines of JSON.
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) json: String,
    pub(crate) changes: Vec<Change>,
}

/// Words that notes are made of, the more frequent the further ahead.
const WORDS: &str = "the to and of a in for on with it be is at call from meeting notes about before \
    after project plan review send draft budget team next week report update customer invoice book flight hotel \
    check order new office printer paper coffee milk bread eggs garden paint kitchen wall repair bicycle doctor \
    appointment dentist birthday present party invite friends family school homework letter bank account \
    insurance contract lawyer tax return deadline monday tuesday wednesday thursday friday saturday sunday \
    january february march april may june july august september october november december london paris berlin \
    madrid rome vienna warsaw oslo release build test deploy server client database backup restore network cable \
    monitor keyboard mouse battery phone number address password change remember forget again urgent later maybe \
    someday waiting answer question idea sketch design layout color font logo website page article chapter story";

/// Tasks as an app has them, drawn the same each time.
pub(crate) fn tasks(count: u64) -> Set {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut rng = Rng::new(1);
    let mut created = 1_790_000_000_000_u64;
    let mut json = String::new();
    for _ in 0..count {
        created += 1 + rng.below(60_000);
        let [high, low] = [rng.next_u64(), rng.next_u64()];
        let hex = format!("{high:016x}{low:016x}");
        let cut = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        let id = [cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32)].join("-");
        let priority = ["low", "normal", "high"].get(rng.index(3)).copied().unwrap_or_default();
        let line = serde_json::json!({
            "id": id,
            "title": text(&mut rng, &words, 20),
            "done": rng.once_in(2),
            "createdAt": created,
            "notes": text(&mut rng, &words, 80),
            "priority": priority,
        });
        writeln!(json, "{line}").expect("memory");
    }
    of_lines("tasks", json)
}

/// About so many bytes of words.
fn text(rng: &mut Rng, words: &[&str], bytes: usize) -> String {
    let bytes = bytes / 2 + rng.index(bytes);
    let mut text = String::new();
    while text.len() < bytes {
        // The lesser of two is drawn: words at the head of the list are frequent.
        let at = rng.index(words.len()).min(rng.index(words.len()));
        text.push_str(words.get(at).copied().unwrap_or_default());
        text.push(' ');
    }
    text.trim_end().to_owned()
}

/// Records of lines of JSON.
pub(crate) fn of_lines(name: &str, json: String) -> Set {
    let changes = json.lines().map(change_of).collect();
    Set { name: name.to_owned(), json, changes }
}

fn change_of(line: &str) -> Change {
    let object: serde_json::Map<String, Json> = serde_json::from_str(line).expect("an object");
    let known = ["$id", "id", "Package"];
    let name = known.iter().find(|name| object.contains_key(**name)).expect("an id");
    let id = object.get(*name).and_then(Json::as_str).expect("text as id");
    let fields = object.iter().filter(|(field, _)| field != name);
    put(id, fields.map(|(field, value)| (field.as_str(), value_of(value))))
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::int(number.as_i64().expect("an integer")),
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::Array(items.iter().map(value_of).collect()),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), value_of(value)));
            Value::Map(fields.collect())
        }
    }
}

/// Records that differ by a number alone.
pub(crate) fn alike(count: u64, bytes: u64) -> Vec<Change> {
    let text: String =
        (0..bytes).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap_or(0))).collect();
    let change = |at: u64| {
        let value = Value::text(&format!("{at} {text}"));
        put(&format!("record-{at:08}"), [("text", value)].into_iter())
    };
    (0..count).map(change).collect()
}

fn put<'a>(id: &str, fields: impl Iterator<Item = (&'a str, Value)>) -> Change {
    let collection = CollectionName::parse(COLLECTION).expect("a name");
    let fields = fields.map(|(name, value)| FieldChange {
        field: FieldName::parse(name).expect("a name"),
        action: FieldAction::Set(Kind::Lww, value),
    });
    Change {
        key: RecordKey { collection, id: RecordId::parse(id).expect("an id") },
        action: Action::Put(fields.collect()),
    }
}

/// What the program gzip makes of it, in bytes.
pub(crate) fn gzipped(text: &str) -> usize {
    let mut gzip = Command::new("gzip")
        .args(["-6", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program gzip");
    let mut input = gzip.stdin.take().expect("its input");
    let mut output = gzip.stdout.take().expect("its output");
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    input.write_all(text.as_bytes()).expect("gzip takes it");
    drop(input);
    let bytes = reading.join().expect("a thread").expect("gzip answers");
    assert!(gzip.wait().is_ok_and(|status| status.success()), "gzip failed");
    bytes
}
