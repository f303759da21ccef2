//! The only conversions between JavaScript values and the engine's.
//!
//! `ts/raw.ts` says what crosses: plain objects, arrays, `Uint8Array`, and `bigint` exactly for integers
//! beyond ±2^53. Everything else is refused with a typed error before anything is written.

use crate::{
    error::{Failure, reject_name},
    js::object,
};
use js_sys::{Array, BigInt, JsString, Object, Uint8Array};
use rejoin_core::{
    hlc::Stamp,
    id::{CollectionName, FieldName, Pattern, RecordId, RecordKey},
    record::{CellKey, INTEGRAL_MAX, Kind, Number, State, Value},
    replica::{Action, Change, FieldAction, FieldChange, Intent, OutboxRow, RowState, RowWrite},
    sorted::SortedMap,
};
use serde::{Deserialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};

/// Deepest value that is converted; the engine's own limit is below it.
const DEPTH_MAX: usize = 64;

/// `RawOptions`.
#[derive(Debug, Deserialize)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) url: Option<String>,
    pub(crate) space: String,
    pub(crate) token: Option<String>,
    pub(crate) asks: bool,
    pub(crate) collections: Vec<RawCollection>,
}

/// `RawCollection`.
#[derive(Debug, Deserialize)]
pub(crate) struct RawCollection {
    pattern: String,
    columns: Vec<(String, String)>,
}

/// `RawWriteOptions`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct WriteOptions {
    pub(crate) relaxed: bool,
    pub(crate) echo: bool,
}

/// Which collections are held, and what their rows show.
pub(crate) type Columns = Vec<(Pattern, Vec<CellKey>)>;

/// Reads a plain object.
pub(crate) fn from_js<T: DeserializeOwned>(value: JsValue) -> Result<T, Failure> {
    serde_wasm_bindgen::from_value(value).map_err(|error| Failure::invalid(error.to_string()))
}

/// A number that is known to stay below 2^53.
pub(crate) fn number(value: u64) -> JsValue {
    integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Parses what is subscribed and shown.
pub(crate) fn columns(collections: &[RawCollection]) -> Result<Columns, Failure> {
    let collection = |raw: &RawCollection| {
        let pattern = Pattern::parse(&raw.pattern)
            .map_err(|error| Failure::invalid(format!("pattern {:?}: {error}", raw.pattern)))?;
        let column = |(field, kind): &(String, String)| Ok((field_name(field)?, kind_of(kind)?));
        let columns = raw.columns.iter().map(column).collect::<Result<_, Failure>>()?;
        Ok((pattern, columns))
    };
    collections.iter().map(collection).collect()
}

fn kind_of(name: &str) -> Result<Kind, Failure> {
    Ok(match name {
        "lww" => Kind::Lww,
        "fww" => Kind::Fww,
        "max" => Kind::Max,
        "min" => Kind::Min,
        "counter" => Kind::Counter,
        "set" => Kind::Set,
        "review" => Kind::Review,
        _ => return Err(Failure::invalid(format!("there is no kind {name:?}"))),
    })
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Lww => "lww",
        Kind::Fww => "fww",
        Kind::Max => "max",
        Kind::Min => "min",
        Kind::Counter => "counter",
        Kind::Set => "set",
        Kind::Review | Kind::Later(_) => "review",
    }
}

fn field_name(name: &str) -> Result<FieldName, Failure> {
    FieldName::parse(name).map_err(|error| Failure::invalid(format!("field {name:?}: {error}")))
}

/// Parses the name of a collection.
pub(crate) fn collection_name(name: &str) -> Result<CollectionName, Failure> {
    CollectionName::parse(name)
        .map_err(|error| Failure::invalid(format!("collection {name:?}: {error}")))
}

/// Parses the name of a record.
pub(crate) fn record_key(collection: &str, id: &str) -> Result<RecordKey, Failure> {
    Ok(RecordKey { collection: collection_name(collection)?, id: record_id(id)? })
}

fn record_id(id: &str) -> Result<RecordId, Failure> {
    RecordId::parse(id).map_err(|error| Failure::invalid(format!("id {id:?}: {error}")))
}

/// Text without lone surrogates, which have no form in UTF-8.
pub(crate) fn text(value: &JsValue) -> Result<String, Failure> {
    let Some(text) = value.as_string() else {
        return Err(Failure::invalid("a text was expected"));
    };
    // A lone surrogate has become U+FFFD: only then it pays to look at each unit.
    if text.contains('\u{fffd}') && !value.unchecked_ref::<JsString>().is_valid_utf16() {
        return Err(Failure::invalid("a text has a lone surrogate"));
    }
    Ok(text)
}

/// The engine's form of a value.
pub(crate) fn value(given: &JsValue) -> Result<Value, Failure> {
    value_at(given, 1)
}

fn value_at(given: &JsValue, depth: usize) -> Result<Value, Failure> {
    if depth > DEPTH_MAX {
        return Err(Failure::invalid(format!("a value is nested deeper than {DEPTH_MAX}")));
    }
    if given.is_null() {
        return Ok(Value::Null);
    }
    if let Some(flag) = given.as_bool() {
        return Ok(Value::Bool(flag));
    }
    if let Some(number) = given.as_f64() {
        return Ok(Value::float(number));
    }
    if given.is_string() {
        return text(given).map(Value::Text);
    }
    if given.is_bigint() {
        let whole = i64::try_from(given.clone());
        return whole
            .map(Value::int)
            .map_err(|_big| Failure::invalid("an integer takes more than 64 bits"));
    }
    if let Some(bytes) = given.dyn_ref::<Uint8Array>() {
        return Ok(Value::Bytes(bytes.to_vec()));
    }
    if let Some(items) = given.dyn_ref::<Array>() {
        let items = items.iter().map(|item| value_at(&item, depth + 1));
        return items.collect::<Result<_, _>>().map(Value::Array);
    }
    map_at(given, depth).map(Value::Map)
}

fn map_at(given: &JsValue, depth: usize) -> Result<SortedMap<String, Value>, Failure> {
    let Some(object) = given.dyn_ref::<Object>().filter(|object| is_plain(object)) else {
        return Err(Failure::invalid("a value is not of a type that can be kept"));
    };
    let mut map = SortedMap::new();
    for entry in Object::entries(object).iter() {
        let entry: Array = entry.unchecked_into();
        map.insert(text(&entry.get(0))?, value_at(&entry.get(1), depth + 1)?);
    }
    Ok(map)
}

fn is_plain(object: &Object) -> bool {
    let prototype = Object::get_prototype_of(object);
    prototype.is_null() || prototype == Object::get_prototype_of(&Object::new())
}

/// JavaScript's form of a value.
pub(crate) fn shown(value: &Value) -> JsValue {
    match value {
        Value::Null => JsValue::NULL,
        Value::Bool(flag) => JsValue::from_bool(*flag),
        Value::Number(given) => shown_number(*given),
        Value::Text(text) => JsValue::from_str(text),
        Value::Bytes(bytes) => Uint8Array::from(bytes.as_slice()).into(),
        Value::Array(items) => items.iter().map(shown).collect::<Array>().into(),
        Value::Map(items) => {
            // From entries, so that a name such as `__proto__` is a property like any other.
            let entries: Array = items
                .iter()
                .map(|(name, value)| Array::of(&[JsValue::from_str(name), shown(value)]))
                .collect();
            Object::from_entries(&entries).map_or(JsValue::NULL, JsValue::from)
        }
    }
}

fn shown_number(given: Number) -> JsValue {
    given.as_i64().map_or_else(|| JsValue::from_f64(given.to_f64()), integer)
}

fn integer(value: i64) -> JsValue {
    if value.unsigned_abs() <= INTEGRAL_MAX.unsigned_abs() {
        JsValue::from_f64(Number::from_i64(value).to_f64())
    } else {
        BigInt::from(value).into()
    }
}

/// What a row shows of a cell.
pub(crate) fn cell_value(state: &State) -> JsValue {
    match state {
        State::Lww { value, .. } | State::Max(value) | State::Min(value) => {
            value.as_ref().map_or(JsValue::UNDEFINED, shown)
        }
        State::Fww(first) => first.as_ref().map_or(JsValue::UNDEFINED, |(_, value)| shown(value)),
        State::Counter(counter) if counter.0.is_empty() => JsValue::UNDEFINED,
        State::Counter(counter) => integer(counter.total()),
        State::Set(set) if set.elements.is_empty() && set.context.is_empty() => JsValue::UNDEFINED,
        State::Set(set) => set.elements.keys().map(shown).collect::<Array>().into(),
        State::Review(siblings) if siblings.values.is_empty() => JsValue::UNDEFINED,
        State::Review(siblings) => {
            let latest_first = siblings.values.iter().rev();
            latest_first.map(|(stamp, value)| sibling(stamp, value)).collect::<Array>().into()
        }
        State::Later { .. } => JsValue::UNDEFINED,
    }
}

fn sibling(stamp: &Stamp, value: &Value) -> JsValue {
    object(&[
        ("value", shown(value)),
        ("stamp", JsValue::from_str(&stamp_text(stamp))),
        ("replica", JsValue::from_str(&stamp.replica.to_string())),
        ("at", number(stamp.hlc.wall().0)),
    ])
}

/// Text form of a stamp: unique, of fixed width, in the order of stamps.
pub(crate) fn stamp_text(stamp: &Stamp) -> String {
    format!("{:016x}@{}", stamp.hlc.to_bits(), stamp.replica)
}

#[wasm_bindgen]
extern "C" {
    /// `RawOp`.
    type RawOp;
    #[wasm_bindgen(method, getter)]
    fn op(this: &RawOp) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn collection(this: &RawOp) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn id(this: &RawOp) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn erase(this: &RawOp) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn fields(this: &RawOp) -> JsValue;
}

/// The changes that `RawOp`s are.
pub(crate) fn changes(ops: &Array) -> Result<Vec<Change>, Failure> {
    let mut before = Before::default();
    ops.iter().map(|op| before.change(&op)).collect()
}

/// What operations have said and the next one as a rule says again: to compare two texts of JavaScript costs far less
/// than to copy one.
#[derive(Default)]
struct Before {
    op: Option<(JsValue, String)>,
    collection: Option<(JsValue, CollectionName)>,
    /// By their places.
    fields: Vec<Said>,
}

/// A field without its value.
struct Said {
    given: [JsValue; 3],
    field: FieldName,
    kind: Kind,
    action: String,
}

impl Before {
    fn change(&mut self, op: &JsValue) -> Result<Change, Failure> {
        if !op.is_object() {
            return Err(Failure::invalid("an operation is not an object"));
        }
        let op: &RawOp = op.unchecked_ref();
        let named = |given: &JsValue| collection_name(&text(given)?);
        let collection = said(&mut self.collection, op.collection(), named)?;
        let key = RecordKey { collection, id: record_id(&text(&op.id())?)? };
        let name = said(&mut self.op, op.op(), text)?;
        let action = match name.as_str() {
            "add" => Action::Add(self.fields(&op.fields(), true)?),
            "put" => Action::Put(self.fields(&op.fields(), true)?),
            "update" => Action::Update(self.fields(&op.fields(), false)?),
            "remove" => Action::Remove { erase: op.erase().is_truthy() },
            _ => return Err(Failure::invalid(format!("there is no operation {name:?}"))),
        };
        Ok(Change { key, action })
    }

    /// `afresh`: the record starts without what it had.
    fn fields(&mut self, given: &JsValue, afresh: bool) -> Result<Vec<FieldChange>, Failure> {
        let fields: &Array =
            given.dyn_ref().ok_or_else(|| Failure::invalid("the fields are not an array"))?;
        fields.iter().enumerate().map(|(at, field)| self.field(at, &field, afresh)).collect()
    }

    fn field(&mut self, at: usize, given: &JsValue, afresh: bool) -> Result<FieldChange, Failure> {
        let given: &Array =
            given.dyn_ref().ok_or_else(|| Failure::invalid("a field is not an array"))?;
        let named = [given.get(0), given.get(1), given.get(2)];
        let content = value(&given.get(3))?;
        if let Some(said) = self.fields.get(at).filter(|said| said.given == named) {
            return said.with(content, afresh);
        }
        let [name, kind, action] = &named;
        let field = field_name(&text(name)?)?;
        let (kind, action) = (kind_of(&text(kind)?)?, text(action)?);
        let said = Said { given: named, field, kind, action };
        let change = said.with(content, afresh);
        self.fields.truncate(at);
        self.fields.push(said);
        change
    }
}

impl Said {
    fn with(&self, content: Value, afresh: bool) -> Result<FieldChange, Failure> {
        let Self { field, kind, action, .. } = self;
        let misfit = || {
            let kind = kind_name(*kind);
            Failure::invalid(format!("field {field} of kind {kind} cannot do {action}"))
        };
        let action = match (kind, action.as_str(), content) {
            (Kind::Lww | Kind::Fww | Kind::Max | Kind::Min, "set", content) => {
                FieldAction::Set(*kind, content)
            }
            (Kind::Counter, "increment", Value::Number(by)) => {
                FieldAction::Add(by.as_i64().ok_or_else(misfit)?)
            }
            (Kind::Set, "set", Value::Array(elements)) if afresh => FieldAction::Insert(elements),
            (Kind::Set, "set", Value::Array(elements)) => FieldAction::Replace(elements),
            (Kind::Set, "add", Value::Array(elements)) => FieldAction::Insert(elements),
            (Kind::Set, "delete", Value::Array(elements)) => FieldAction::Delete(elements),
            (Kind::Review, "resolve", content) => FieldAction::Resolve(content),
            _ => return Err(misfit()),
        };
        Ok(FieldChange { field: field.clone(), action })
    }
}

/// What `given` is, or was when it was said before.
fn said<T: Clone>(
    before: &mut Option<(JsValue, T)>,
    given: JsValue,
    read: impl FnOnce(&JsValue) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some((_, known)) = before.as_ref().filter(|(said, _)| *said == given) {
        return Ok(known.clone());
    }
    let read = read(&given)?;
    *before = Some((given, read.clone()));
    Ok(read)
}

/// `RawRejected`, for a row that was.
pub(crate) fn rejected(row_number: u64, outbox: &OutboxRow) -> Option<JsValue> {
    let RowState::Rejected { code, reason } = &outbox.state else { return None };
    let ops: Array = outbox.row.writes.iter().map(op_of).collect();
    Some(object(&[
        ("row", number(row_number)),
        ("code", JsValue::from_str(reject_name(*code))),
        ("reason", JsValue::from_str(reason)),
        ("at", number(outbox.row.stamp.hlc.wall().0)),
        ("ops", ops.into()),
    ]))
}

/// The operation that a write was made from, as far as it can still be told.
fn op_of(write: &RowWrite) -> JsValue {
    let has = |wanted: fn(&Intent) -> bool| write.intents.iter().any(wanted);
    let removes = has(|intent| matches!(intent, Intent::Remove));
    let clears = has(|intent| matches!(intent, Intent::Clear { .. }));
    let op = match (removes, clears) {
        (true, _) => "remove",
        (false, true) => "put",
        (false, false) if write.saw.is_empty() => "add",
        (false, false) => "update",
    };
    let fields = if removes { Array::new() } else { fields_of(&write.intents) };
    object(&[
        ("op", JsValue::from_str(op)),
        ("collection", JsValue::from_str(write.key.collection.as_str())),
        ("id", JsValue::from_str(write.key.id.as_str())),
        ("erase", JsValue::from_bool(removes && clears)),
        ("fields", fields.into()),
    ])
}

fn fields_of(intents: &[Intent]) -> Array {
    // Adds and deletes of one set field are gathered; a field that was only cleared is left out, as a
    // put says so by not naming it.
    let mut fields: SortedMap<(FieldName, &str), (Kind, Vec<JsValue>)> = SortedMap::new();
    for intent in intents {
        let (field, kind, action, value) = match intent {
            Intent::Set { field, kind, value } => (field, *kind, "set", shown(value)),
            Intent::Add { field, amount } => (field, Kind::Counter, "increment", integer(*amount)),
            Intent::Insert { field, element } => (field, Kind::Set, "add", shown(element)),
            Intent::Delete { field, element, .. } => (field, Kind::Set, "delete", shown(element)),
            Intent::Resolve { field, value, .. } => (field, Kind::Review, "resolve", shown(value)),
            Intent::Clear { .. } | Intent::Remove => continue,
        };
        fields.entry((field.clone(), action)).or_insert((kind, Vec::new())).1.push(value);
    }
    let shown = fields.into_iter().flat_map(|((field, action), (kind, values))| {
        let values = if kind == Kind::Set {
            Vec::from([values.into_iter().collect::<Array>().into()])
        } else {
            values
        };
        let line = move |value| {
            let (kind, action) = (JsValue::from_str(kind_name(kind)), JsValue::from_str(action));
            Array::of(&[JsValue::from_str(field.as_str()), kind, action, value])
        };
        values.into_iter().map(line).collect::<Vec<_>>()
    });
    shown.collect()
}
