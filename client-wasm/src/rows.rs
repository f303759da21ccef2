//! Records for JavaScript: many at once, as one text that `JSON.parse` reads.
//!
//! A call for each property would cost more than reading the record. What JSON cannot say (bytes, integers beyond
//! ±2^53, fractions, which would have to be printed and read again) is put in its place afterwards.

use crate::convert::{cell_value, stamp_text};
use js_sys::{Array, JSON};
use rejoin_core::{
    hlc::Stamp,
    id::RecordKey,
    record::{CellKey, INTEGRAL_MAX, Record, State, Value},
};
use std::fmt::Write;
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};

#[wasm_bindgen]
extern "C" {
    /// `RawChange`, of which only this is read.
    type RawChange;
    #[wasm_bindgen(method, getter)]
    fn row(this: &RawChange) -> RawRow;

    /// `RawRow`, of which only this is read.
    type RawRow;
    #[wasm_bindgen(method, getter)]
    fn values(this: &RawRow) -> Array;
}

/// A value that is put in its place when the text was read.
#[derive(Debug)]
struct Patch {
    item: u32,
    column: u32,
    value: JsValue,
}

/// `RawRow`s, or `RawChange`s, in the making.
#[derive(Debug)]
pub(crate) struct Rows {
    text: String,
    count: u32,
    patches: Vec<Patch>,
}

impl Rows {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { text: String::from("["), count: 0, patches: Vec::new() }
    }

    /// Another `RawRow`.
    pub(crate) fn push(&mut self, id: &str, record: &Record, columns: &[CellKey]) {
        self.begin();
        self.row(id, record, columns);
    }

    /// Another `RawChange`. `shown`: whether it is to have a row, and which one; of none it says that the record is
    /// gone.
    pub(crate) fn push_change(
        &mut self,
        key: &RecordKey,
        shown: Option<(Option<&Record>, &[CellKey])>,
    ) {
        self.begin();
        self.text.push_str("{\"collection\":");
        self.string(key.collection.as_str());
        self.text.push_str(",\"id\":");
        self.string(key.id.as_str());
        if let Some((record, columns)) = shown {
            self.text.push_str(",\"row\":");
            match record {
                Some(record) => self.row(key.id.as_str(), record, columns),
                None => self.text.push_str("null"),
            }
        }
        self.text.push('}');
    }

    /// `RawRow`s.
    pub(crate) fn rows(self) -> Array {
        self.read(|row| row.unchecked_into())
    }

    /// `RawChange`s.
    pub(crate) fn changes(self) -> Array {
        self.read(|change| change.unchecked_into::<RawChange>().row())
    }

    fn read(mut self, row_of: impl Fn(JsValue) -> RawRow) -> Array {
        self.text.push(']');
        #[expect(
            clippy::expect_used,
            reason = "an array was written; records must not be left out"
        )]
        let items: Array = JSON::parse(&self.text).expect("rows are JSON").unchecked_into();
        for Patch { item, column, value } in self.patches {
            row_of(items.get(item)).values().set(column, value);
        }
        items
    }

    fn begin(&mut self) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.count += 1;
    }

    fn row(&mut self, id: &str, record: &Record, columns: &[CellKey]) {
        self.text.push_str("{\"id\":");
        self.string(id);
        self.text.push_str(",\"values\":[");
        for (column, cell) in (0..).zip(columns) {
            if column > 0 {
                self.text.push(',');
            }
            match record.cells.get(cell) {
                Some(cell) => self.cell(column, &cell.state),
                None => self.text.push_str("null"),
            }
        }
        self.text.push_str("]}");
    }

    fn cell(&mut self, column: u32, state: &State) {
        let start = self.text.len();
        let fits = match state {
            State::Lww { value, .. } | State::Max(value) | State::Min(value) => {
                self.value_or_null(value.as_ref())
            }
            State::Fww(first) => self.value_or_null(first.as_ref().map(|(_, value)| value)),
            State::Counter(counter) if !counter.0.is_empty() => self.integer(counter.total()),
            State::Set(set) if !(set.elements.is_empty() && set.context.is_empty()) => {
                self.array(set.elements.keys(), Self::value)
            }
            State::Review(siblings) if !siblings.values.is_empty() => {
                let latest_first = siblings.values.iter().rev();
                self.array(latest_first, |rows, (stamp, value)| rows.sibling(stamp, value))
            }
            State::Counter(_) | State::Set(_) | State::Review(_) | State::Later { .. } => {
                self.value_or_null(None)
            }
        };
        if !fits {
            self.text.truncate(start);
            self.text.push_str("null");
            let value = cell_value(state);
            self.patches.push(Patch { item: self.count - 1, column, value });
        }
    }

    /// Whether JSON can say the value, as is so of all that write a part: what was written of one that does not fit
    /// is taken back by who began it.
    fn value(&mut self, value: &Value) -> bool {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => {
                return number.as_i64().is_some_and(|whole| self.integer(whole));
            }
            Value::Text(text) => self.string(text),
            Value::Bytes(_) => return false,
            Value::Array(items) => return self.array(items, Self::value),
            Value::Map(items) => {
                self.text.push('{');
                for (at, (name, value)) in items.iter().enumerate() {
                    self.comma(at);
                    self.string(name);
                    self.text.push(':');
                    if !self.value(value) {
                        return false;
                    }
                }
                self.text.push('}');
            }
        }
        true
    }

    fn value_or_null(&mut self, value: Option<&Value>) -> bool {
        self.value(value.unwrap_or(&Value::Null))
    }

    fn sibling(&mut self, stamp: &Stamp, value: &Value) -> bool {
        self.text.push_str("{\"stamp\":");
        self.string(&stamp_text(stamp));
        self.text.push_str(",\"replica\":");
        self.string(&stamp.replica.to_string());
        self.text.push_str(",\"at\":");
        let at = i64::try_from(stamp.hlc.wall().0).is_ok_and(|at| self.integer(at));
        self.text.push_str(",\"value\":");
        let fits = self.value(value);
        self.text.push('}');
        at && fits
    }

    fn array<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T) -> bool,
    ) -> bool {
        self.text.push('[');
        for (at, item) in items.into_iter().enumerate() {
            self.comma(at);
            if !write(self, item) {
                return false;
            }
        }
        self.text.push(']');
        true
    }

    fn integer(&mut self, value: i64) -> bool {
        let fits = value.unsigned_abs() <= INTEGRAL_MAX.unsigned_abs();
        // Writing to a text cannot fail.
        fits && write!(self.text, "{value}").is_ok()
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.text.push(',');
        }
    }

    /// A text of JSON (RFC 8259, 7).
    fn string(&mut self, text: &str) {
        self.text.push('"');
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            // All of these bytes are characters of their own.
            self.text.push_str(text.get(plain..at).unwrap_or_default());
            plain = at + 1;
            if byte >= b' ' {
                self.text.push('\\');
                self.text.push(char::from(byte));
            } else {
                self.text.push_str("\\u00");
                for digit in [byte >> 4, byte & 15] {
                    self.text.extend(char::from_digit(u32::from(digit), 16));
                }
            }
        }
        self.text.push_str(text.get(plain..).unwrap_or_default());
        self.text.push('"');
    }
}
