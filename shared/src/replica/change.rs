//! From what an app asks for to a row: checks it against what the app sees and writes down what it covers.

use super::intent::{Intent, RowWrite};
use crate::{
    codec::{DEPTH_MAX, Writer, write_value},
    id::{FieldName, RecordKey},
    message::limits::{CELLS_MAX, VALUE_BYTES_MAX},
    record::{Kind, Record, State, Value},
    sorted::SortedSet,
};
use alloc::vec::Vec;

/// What an app asks to be done to one record.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which record.
    pub key: RecordKey,
    /// What to do.
    pub action: Action,
}

impl Change {
    /// About how many bytes of memory it takes: for limits, not for formats. O(size).
    #[must_use]
    pub fn bytes_about(&self) -> usize {
        let fields = match &self.action {
            Action::Add(fields)
            | Action::Put(fields)
            | Action::Update(fields)
            | Action::Upsert(fields) => fields.as_slice(),
            Action::Remove { .. } => &[],
        };
        let fields = fields.iter().map(|change| {
            let values = match &change.action {
                FieldAction::Set(_, value) | FieldAction::Resolve(value) => {
                    core::slice::from_ref(value)
                }
                FieldAction::Insert(values)
                | FieldAction::Delete(values)
                | FieldAction::Replace(values) => values,
                FieldAction::Clear(_) | FieldAction::Add(_) => &[],
            };
            ITEM_BYTES + change.field.as_str().len() + bytes_of(values)
        });
        let key = self.key.collection.as_str().len() + self.key.id.as_str().len();
        ITEM_BYTES + key + fields.sum::<usize>()
    }
}

/// What an item of a list costs beside its content, about.
const ITEM_BYTES: usize = 32;

/// Without recursion: nobody has checked yet how deep they are.
fn bytes_of(values: &[Value]) -> usize {
    let mut open: Vec<&Value> = values.iter().collect();
    let mut bytes = 0;
    while let Some(value) = open.pop() {
        bytes += ITEM_BYTES;
        match value {
            Value::Text(text) => bytes += text.len(),
            Value::Bytes(content) => bytes += content.len(),
            Value::Array(items) => open.extend(items),
            Value::Map(items) => {
                bytes += items.keys().map(|name| ITEM_BYTES + name.len()).sum::<usize>();
                open.extend(items.values());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    bytes
}

/// What to do to a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create it; it must not be live.
    Add(Vec<FieldChange>),
    /// Make it just this; what is not named becomes absent.
    Put(Vec<FieldChange>),
    /// Touch what is named; it must be live.
    Update(Vec<FieldChange>),
    /// Touch what is named, whether it is live or not; a removed record comes back with what it had.
    Upsert(Vec<FieldChange>),
    /// Remove it; nothing happens if it is not live.
    Remove {
        /// Whether its values are overwritten too, also those of a record that is not live.
        erase: bool,
    },
}

/// What to do to one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// Which field.
    pub field: FieldName,
    /// What to do.
    pub action: FieldAction,
}

/// What to do to a field; says its kind.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldAction {
    /// Writes a value of a `lww`, `fww`, `max` or `min` field.
    Set(Kind, Value),
    /// Makes a field of any kind absent or empty.
    Clear(Kind),
    /// Adds to a counter.
    Add(i64),
    /// Adds elements to a set.
    Insert(Vec<Value>),
    /// Removes elements from a set.
    Delete(Vec<Value>),
    /// Gives a set this content: what was seen and is not named is removed, what is missing is added.
    Replace(Vec<Value>),
    /// Writes a reviewed value in place of those seen.
    Resolve(Value),
}

impl FieldAction {
    /// The kind of field it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Set(kind, _) | Self::Clear(kind) => *kind,
            Self::Add(_) => Kind::Counter,
            Self::Insert(_) | Self::Delete(_) | Self::Replace(_) => Kind::Set,
            Self::Resolve(_) => Kind::Review,
        }
    }
}

/// Why a local write was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The record's collection is not subscribed to: what is built on what others wrote there would be
    /// built on nothing.
    #[error("record {0} is of a collection that is not subscribed to")]
    NotSubscribed(RecordKey),
    /// `add` of a record that is live.
    #[error("record {0} exists")]
    Exists(RecordKey),
    /// `update` of a record that is not live.
    #[error("record {0} does not exist")]
    NotFound(RecordKey),
    /// An action that the field's kind does not have.
    #[error("field {field} of kind {kind:?} cannot do that")]
    WrongKind {
        /// Which field.
        field: FieldName,
        /// Of which kind.
        kind: Kind,
    },
    /// A value beyond its limit.
    #[error("field {field} has a value of {got} bytes, at most {max} are allowed")]
    ValueTooLarge {
        /// Which field.
        field: FieldName,
        /// Encoded bytes.
        got: usize,
        /// Encoded bytes allowed.
        max: usize,
    },
    /// A value nested too deeply.
    #[error("field {field} has a value nested {got} deep, at most {max} are allowed")]
    ValueTooDeep {
        /// Which field.
        field: FieldName,
        /// Levels.
        got: usize,
        /// Levels allowed.
        max: usize,
    },
    /// A record with too many fields.
    #[error("record {key} would have {got} cells, at most {max} are allowed")]
    TooManyCells {
        /// Which record.
        key: RecordKey,
        /// Cells.
        got: usize,
        /// Cells allowed.
        max: usize,
    },
    /// A record beyond its limit.
    #[error("record {key} would have {got} bytes, at most {max} are allowed")]
    RecordTooLarge {
        /// Which record.
        key: RecordKey,
        /// Encoded bytes.
        got: usize,
        /// Encoded bytes allowed.
        max: usize,
    },
    /// A batch beyond its limit.
    #[error("the batch has {got} {unit}, at most {max} are allowed")]
    BatchTooLarge {
        /// Records, bytes, or bytes to send.
        got: usize,
        /// So many of them are allowed.
        max: usize,
        /// Which of the three.
        unit: &'static str,
    },
    /// A batch without changes.
    #[error("the batch is empty")]
    Empty,
    /// The hybrid clock has issued its last value.
    #[error("the hybrid clock is exhausted")]
    ClockExhausted,
}

/// Deepest value: a value stands three levels deep in a message.
const VALUE_DEPTH_MAX: usize = DEPTH_MAX - 8;

/// Plans `change` against `current`, the record as the app sees it.
pub(super) fn plan(change: &Change, current: &Record) -> Result<RowWrite, ChangeError> {
    let live = current.is_live();
    let mut plan = Plan { current, intents: Vec::new() };
    match &change.action {
        Action::Add(_) if live => return Err(ChangeError::Exists(change.key.clone())),
        Action::Update(_) if !live => return Err(ChangeError::NotFound(change.key.clone())),
        Action::Add(fields) | Action::Put(fields) => {
            plan.clear_all();
            if matches!(change.action, Action::Put(_)) {
                plan.clear_named(fields);
            }
            plan.fields(fields)?;
        }
        Action::Update(fields) | Action::Upsert(fields) => plan.fields(fields)?,
        Action::Remove { erase } => {
            if *erase {
                plan.clear_all();
            }
            plan.intents.push(Intent::Remove);
        }
    }
    let intents = plan.intents;
    let updates = matches!(change.action, Action::Update(_));
    Ok(RowWrite { key: change.key.clone(), saw: current.seen.clone(), updates, intents })
}

struct Plan<'a> {
    current: &'a Record,
    intents: Vec<Intent>,
}

impl Plan<'_> {
    /// Clears the cells that exist. A `lww` cell that is named anyway is overwritten by its value, which
    /// carries the same stamp: clearing it first is harmless, since the later intent replaces the cell.
    fn clear_all(&mut self) {
        for (field, kind) in self.current.cells.keys() {
            if !matches!(kind, Kind::Later(_)) {
                self.intents.push(Intent::Clear { field: field.clone(), kind: *kind });
            }
        }
    }

    /// A put replaces also what others put at the same time: its cells start anew.
    fn clear_named(&mut self, fields: &[FieldChange]) {
        for change in fields {
            let kind = change.action.kind();
            let key = (change.field.clone(), kind);
            if kind != Kind::Lww && !self.current.cells.contains_key(&key) {
                self.intents.push(Intent::Clear { field: key.0, kind });
            }
        }
    }

    fn fields(&mut self, fields: &[FieldChange]) -> Result<(), ChangeError> {
        for change in fields {
            check_value_of(change)?;
            let field = change.field.clone();
            match &change.action {
                FieldAction::Set(kind, value) => {
                    let value = value.clone();
                    self.intents.push(Intent::Set { field, kind: *kind, value });
                }
                FieldAction::Clear(kind) => {
                    self.intents.push(Intent::Clear { field, kind: *kind });
                }
                FieldAction::Add(amount) => {
                    self.intents.push(Intent::Add { field, amount: *amount });
                }
                FieldAction::Insert(elements) => {
                    for element in elements {
                        let (field, element) = (field.clone(), element.clone());
                        self.intents.push(Intent::Insert { field, element });
                    }
                }
                FieldAction::Delete(elements) => self.delete(&field, elements),
                FieldAction::Replace(elements) => self.replace(&field, elements),
                FieldAction::Resolve(value) => {
                    let covers = self.siblings(&field);
                    self.intents.push(Intent::Resolve { field, value: value.clone(), covers });
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, field: &FieldName, elements: &[Value]) {
        for element in elements {
            // Removing what the same row added takes the add back.
            self.intents.retain(|intent| {
                !matches!(intent, Intent::Insert { field: of, element: added }
                    if of == field && added == element)
            });
            let covers = match self.cell(field, Kind::Set) {
                Some(State::Set(set)) => set.elements.get(element).cloned(),
                _ => None,
            };
            if let Some(covers) = covers {
                let (field, element) = (field.clone(), element.clone());
                self.intents.push(Intent::Delete { field, element, covers });
            }
        }
    }

    fn replace(&mut self, field: &FieldName, elements: &[Value]) {
        let mut there = match self.cell(field, Kind::Set) {
            Some(State::Set(set)) => SortedSet::from_iter(set.elements.keys().cloned()),
            _ => SortedSet::new(),
        };
        for intent in &self.intents {
            match intent {
                Intent::Insert { field: of, element } if of == field => {
                    there.insert(element.clone());
                }
                Intent::Delete { field: of, element, .. } if of == field => {
                    there.remove(element);
                }
                Intent::Clear { field: of, kind: Kind::Set } if of == field => there.clear(),
                Intent::Insert { .. }
                | Intent::Delete { .. }
                | Intent::Clear { .. }
                | Intent::Set { .. }
                | Intent::Add { .. }
                | Intent::Resolve { .. }
                | Intent::Remove => {}
            }
        }
        let (kept, gone): (Vec<Value>, Vec<Value>) =
            there.into_iter().partition(|element| elements.contains(element));
        self.delete(field, &gone);
        for element in elements.iter().filter(|element| !kept.contains(element)) {
            let (field, element) = (field.clone(), element.clone());
            self.intents.push(Intent::Insert { field, element });
        }
    }

    fn siblings(&self, field: &FieldName) -> SortedSet<crate::hlc::Stamp> {
        match self.cell(field, Kind::Review) {
            Some(State::Review(siblings)) => SortedSet::from_iter(siblings.values.keys().copied()),
            _ => SortedSet::new(),
        }
    }

    /// What is there of a cell, unless this change has cleared it.
    fn cell(&self, field: &FieldName, kind: Kind) -> Option<&State> {
        let cell = (field.clone(), kind);
        let clears = |intent: &Intent| matches!(intent, Intent::Clear { field, kind } if (field, *kind) == (&cell.0, cell.1));
        let there = self.current.cells.get(&cell).map(|cell| &cell.state);
        there.filter(|_| !self.intents.iter().any(clears))
    }
}

fn check_value_of(change: &FieldChange) -> Result<(), ChangeError> {
    let field = || change.field.clone();
    let values: &[Value] = match &change.action {
        FieldAction::Set(Kind::Lww | Kind::Fww | Kind::Max | Kind::Min, value)
        | FieldAction::Resolve(value) => core::slice::from_ref(value),
        FieldAction::Set(kind, _) | FieldAction::Clear(kind @ Kind::Later(_)) => {
            return Err(ChangeError::WrongKind { field: field(), kind: *kind });
        }
        FieldAction::Insert(values)
        | FieldAction::Delete(values)
        | FieldAction::Replace(values) => values,
        FieldAction::Clear(_) | FieldAction::Add(_) => &[],
    };
    for value in values {
        let depth = value.depth();
        if depth > VALUE_DEPTH_MAX {
            let (got, max) = (depth, VALUE_DEPTH_MAX);
            return Err(ChangeError::ValueTooDeep { field: field(), got, max });
        }
        let mut out = Writer::new();
        write_value(&mut out, value);
        if out.len() > VALUE_BYTES_MAX {
            let (got, max) = (out.len(), VALUE_BYTES_MAX);
            return Err(ChangeError::ValueTooLarge { field: field(), got, max });
        }
    }
    Ok(())
}

/// Checks what a record would become.
pub(super) fn check_record(
    key: &RecordKey,
    record: &Record,
    encoded_bytes: usize,
) -> Result<(), ChangeError> {
    if record.cells.len() > CELLS_MAX {
        let (got, max) = (record.cells.len(), CELLS_MAX);
        return Err(ChangeError::TooManyCells { key: key.clone(), got, max });
    }
    let max = crate::message::limits::RECORD_BYTES_MAX;
    if encoded_bytes > max {
        return Err(ChangeError::RecordTooLarge { key: key.clone(), got: encoded_bytes, max });
    }
    Ok(())
}
