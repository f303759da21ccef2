//! Records for JavaScript: many at once, as one text that `JSON.parse` reads.
//!
//! A call for each property would cost more than reading the record. What JSON cannot say (absent cells, bytes, integers
//! beyond ±2^53, fractions, which would have to be printed and read again) is put in its place afterwards. However much
//! there is, a text stays far below what a browser takes.

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

/// Size at which a text is read and another one begun. A record of its own takes at most six times its bytes.
const TEXT_BYTES_AIM: usize = 1 << 20;

/// `RawRow`s, or `RawChange`s, in the making.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Those of texts that were read.
    done: Array,
    text: String,
    /// How many there are in the text.
    count: u32,
    patches: Vec<Patch>,
    /// The row of one of them.
    row_of: fn(JsValue) -> RawRow,
}

impl Rows {
    /// `RawRow`s, none yet.
    pub(crate) fn of_rows() -> Self {
        Self::new(JsCast::unchecked_into)
    }

    /// `RawChange`s, none yet.
    pub(crate) fn of_changes() -> Self {
        Self::new(|change| change.unchecked_into::<RawChange>().row())
    }

    fn new(row_of: fn(JsValue) -> RawRow) -> Self {
        let (done, text) = (Array::new(), String::from("["));
        Self { done, text, count: 0, patches: Vec::new(), row_of }
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

    /// All of them.
    pub(crate) fn finish(mut self) -> Array {
        let last = self.read();
        if self.done.length() == 0 { last } else { self.done.concat(&last) }
    }

    /// What the text says; another one begins.
    fn read(&mut self) -> Array {
        self.text.push(']');
        #[expect(
            clippy::expect_used,
            reason = "an array was written; records must not be left out"
        )]
        let items: Array = JSON::parse(&self.text).expect("rows are JSON").unchecked_into();
        for Patch { item, column, value } in self.patches.drain(..) {
            (self.row_of)(items.get(item)).values().set(column, value);
        }
        self.text.clear();
        self.text.push('[');
        self.count = 0;
        items
    }

    fn begin(&mut self) {
        if self.text.len() > TEXT_BYTES_AIM {
            let items = self.read();
            self.done = self.done.concat(&items);
        }
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
                None => self.patch(column, JsValue::UNDEFINED),
            }
        }
        self.text.push_str("]}");
    }

    fn cell(&mut self, column: u32, state: &State) {
        let start = self.text.len();
        let fits = match state {
            State::Lww { value, .. } | State::Max(value) | State::Min(value) => {
                value.as_ref().is_some_and(|value| self.value(value))
            }
            State::Fww(first) => first.as_ref().is_some_and(|(_, value)| self.value(value)),
            State::Counter(counter) if !counter.0.is_empty() => self.integer(counter.total()),
            State::Set(set) if !(set.elements.is_empty() && set.context.is_empty()) => {
                self.array(set.elements.keys(), Self::value)
            }
            State::Review(siblings) if !siblings.values.is_empty() => {
                let latest_first = siblings.values.iter().rev();
                self.array(latest_first, |rows, (stamp, value)| rows.sibling(stamp, value))
            }
            State::Counter(_) | State::Set(_) | State::Review(_) | State::Later { .. } => false,
        };
        if !fits {
            self.text.truncate(start);
            self.patch(column, cell_value(state));
        }
    }

    /// Leaves a place for `value`.
    fn patch(&mut self, column: u32, value: JsValue) {
        self.text.push_str("null");
        self.patches.push(Patch { item: self.count - 1, column, value });
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
            self.text.push('\\');
            match byte {
                b'\n' => self.text.push('n'),
                b'\r' => self.text.push('r'),
                b'\t' => self.text.push('t'),
                b'"' | b'\\' => self.text.push(char::from(byte)),
                _ => {
                    self.text.push_str("u00");
                    for digit in [byte >> 4, byte & 15] {
                        self.text.extend(char::from_digit(u32::from(digit), 16));
                    }
                }
            }
        }
        self.text.push_str(text.get(plain..).unwrap_or_default());
        self.text.push('"');
    }
}
