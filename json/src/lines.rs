//! Files of records: JSON, lines of JSON, CSV. Each reader names what is wrong by its line and goes on.

use crate::{Shape, Target, record};
use rejoin_core::id::RecordId;
use serde_json::{Map, Value as Json};
use std::{
    io::{self, BufRead, Read},
    path::Path,
    str::FromStr,
};

/// Longest line: a record of the greatest size with every character escaped.
pub const LINE_BYTES_MAX: usize = 8 << 20;

/// What a file of records looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// An array of objects.
    Json,
    /// An object a line.
    Jsonl,
    /// A line of names, then lines of text.
    Csv,
}

/// Text that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one of json, jsonl and csv")]
pub struct FormatError;

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::Json),
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            _ => Err(FormatError),
        }
    }
}

impl Format {
    /// What the name of a file ends with says.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "ndjson" => Some(Self::Jsonl),
            name => name.parse().ok(),
        }
    }
}

/// A line that holds a record, or should.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Its number, from 1; of a record of several lines the first.
    pub number: u64,
    /// Its length.
    pub bytes: usize,
    /// The record, or what is wrong.
    pub record: Result<(RecordId, Target), String>,
}

/// Takes lines; false when no more are wanted.
pub type Take<'a> = &'a mut dyn FnMut(Line) -> bool;

/// Reads a file to its end, or until no more lines are wanted. A file of one array is held in memory.
///
/// # Errors
/// The file's own.
pub fn read(
    mut input: impl BufRead,
    format: Format,
    shape: &Shape,
    take: Take<'_>,
) -> io::Result<()> {
    skip_mark(&mut input)?;
    match format {
        Format::Json => read_array(input, shape, take),
        Format::Jsonl => read_lines(input, shape, take),
        Format::Csv => read_csv(input, shape, take),
    }
}

/// A byte order mark is no part of the first line.
fn skip_mark(input: &mut impl BufRead) -> io::Result<()> {
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    Ok(())
}

fn read_lines(mut input: impl BufRead, shape: &Shape, take: Take<'_>) -> io::Result<()> {
    let mut number = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let fits = read_line(&mut input, &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        number += 1;
        let bytes = line.len();
        if fits && line.trim_ascii().is_empty() {
            continue;
        }
        let record = if fits {
            parse(&line, shape)
        } else {
            Err(format!("longer than {LINE_BYTES_MAX} bytes"))
        };
        if !take(Line { number, bytes, record }) {
            return Ok(());
        }
    }
}

fn parse(line: &[u8], shape: &Shape) -> Result<(RecordId, Target), String> {
    let json = serde_json::from_slice(line).map_err(|error| syntax(&error))?;
    record(json, shape).map_err(|error| error.to_string())
}

/// The parser counts lines from where it began, which says nothing to whoever looks at the file.
fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    match error.line() {
        1 => format!("{reason} at column {}", error.column()),
        _ => reason.into(),
    }
}

/// Reads up to the next line feed; what is beyond the longest line is dropped. Tells whether it fits.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    input.by_ref().take(limit).read_until(b'\n', line)?;
    if line.len() < LINE_BYTES_MAX || line.ends_with(b"\n") {
        return Ok(true);
    }
    loop {
        let available = input.fill_buf()?;
        let end = available.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(available.len(), |end| end + 1);
        let done = end.is_some() || available.is_empty();
        input.consume(used);
        if done {
            return Ok(false);
        }
    }
}

fn read_csv(input: impl BufRead, shape: &Shape, take: Take<'_>) -> io::Result<()> {
    let mut reader = csv::ReaderBuilder::new().from_reader(input);
    let names = match reader.headers() {
        Ok(names) => names.clone(),
        Err(error) => return csv_error(error, 1, take).map(drop),
    };
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        let record = Err(format!("two columns are called {twice:?}"));
        take(Line { number: 1, bytes: 0, record });
        return Ok(());
    }
    let mut row = csv::StringRecord::new();
    loop {
        let number = reader.position().line();
        let more = match reader.read_record(&mut row) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let number = row.position().map_or(number, csv::Position::line);
                let fields = names.iter().zip(&row);
                let object: Map<String, Json> =
                    fields.map(|(name, text)| (name.into(), Json::from(text))).collect();
                let bytes = row.as_slice().len();
                let record = record(Json::Object(object), shape);
                take(Line { number, bytes, record: record.map_err(|error| error.to_string()) })
            }
            Err(error) => csv_error(error, number, take)?,
        };
        if !more {
            return Ok(());
        }
    }
}

/// Names a broken row; a fault of the file ends the reading.
fn csv_error(error: csv::Error, number: u64, take: Take<'_>) -> io::Result<bool> {
    let number = error.position().map_or(number, csv::Position::line);
    let reason = if let csv::ErrorKind::Utf8 { err, .. } = error.kind() {
        format!("column {}: not UTF-8", err.field() + 1)
    } else if let csv::ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() {
        format!("{len} columns where there should be {expected_len}")
    } else {
        error.to_string()
    };
    if error.is_io_error() {
        return Err(error.into());
    }
    Ok(take(Line { number, bytes: 0, record: Err(reason) }))
}

fn read_array(mut input: impl BufRead, shape: &Shape, take: Take<'_>) -> io::Result<()> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let mut cursor = Cursor { rest: &bytes, line: 1 };
    if cursor.next_byte() != Some(b'[') {
        take(cursor.wrong("not an array of objects"));
        return Ok(());
    }
    cursor.skip(1);
    let mut first = true;
    loop {
        match cursor.next_byte() {
            Some(b']') if first => {}
            Some(b'[' | b'{' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') if first => {
                if !cursor.element(shape, take) {
                    return Ok(());
                }
                first = false;
                continue;
            }
            Some(b',') if !first => {
                cursor.skip(1);
                if cursor.next_byte().is_some() && !cursor.element(shape, take) {
                    return Ok(());
                }
                continue;
            }
            Some(b']') => {}
            Some(_) => {
                take(
                    cursor
                        .wrong("a comma or the end of the array is missing; the rest was not read"),
                );
                return Ok(());
            }
            None => {
                take(cursor.wrong("the end of the array is missing"));
                return Ok(());
            }
        }
        cursor.skip(1);
        if cursor.next_byte().is_some() {
            take(cursor.wrong("something follows the array"));
        }
        return Ok(());
    }
}

/// A place in a file that is in memory.
struct Cursor<'a> {
    rest: &'a [u8],
    line: u64,
}

impl Cursor<'_> {
    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        let lines = skipped.iter().filter(|byte| **byte == b'\n').count();
        self.line += u64::try_from(lines).unwrap_or(u64::MAX);
        self.rest = rest;
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> Option<u8> {
        let white = self.rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.skip(white);
        self.rest.first().copied()
    }

    fn wrong(&self, reason: &str) -> Line {
        Line { number: self.line, bytes: 0, record: Err(reason.into()) }
    }

    /// Takes one element; false when there is no going on.
    fn element(&mut self, shape: &Shape, take: Take<'_>) -> bool {
        let mut parser = serde_json::Deserializer::from_slice(self.rest).into_iter::<Json>();
        let element = parser.next();
        let bytes = parser.byte_offset();
        let number = self.line;
        match element {
            Some(Ok(json)) => {
                self.skip(bytes);
                let record = record(json, shape).map_err(|error| error.to_string());
                take(Line { number, bytes, record })
            }
            Some(Err(error)) => {
                let number = number + u64::try_from(error.line().saturating_sub(1)).unwrap_or(0);
                let record = Err(format!("{}; the rest was not read", syntax(&error)));
                take(Line { number, bytes: 0, record });
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::id::FieldName;
    use std::collections::BTreeMap;

    fn all(format: Format, input: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let shape = Shape { key: FieldName::parse("id").unwrap(), kinds: BTreeMap::new() };
        let mut lines = Vec::new();
        let mut take = |line: Line| {
            let record = line.record.map(|(id, target)| format!("{id}:{}", target.len()));
            lines.push((line.number, record));
            true
        };
        read(input, format, &shape, &mut take).unwrap();
        lines
    }

    fn good(number: u64, text: &str) -> (u64, Result<String, String>) {
        (number, Ok(text.into()))
    }

    fn bad(number: u64, text: &str) -> (u64, Result<String, String>) {
        (number, Err(text.into()))
    }

    #[test]
    fn broken_lines_of_json_are_named_and_the_others_are_read() {
        let input = b"\xef\xbb\xbf{\"id\":\"a\"}\r\n\n{\"id\":\n{\"name\":1}\n[]\n{\"id\":\"\xff\"}\n{\"id\":7,\"x\":1}";
        assert_eq!(
            all(Format::Jsonl, input),
            [
                good(1, "a:1"),
                bad(3, "EOF while parsing a value"),
                bad(4, "it has no \"id\""),
                bad(5, "not an object"),
                bad(6, "invalid unicode code point at column 8"),
                good(7, "7:2"),
            ]
        );
    }

    #[test]
    fn a_line_that_is_too_long_costs_no_other() {
        let mut input = b"{\"id\":\"".to_vec();
        input.resize(LINE_BYTES_MAX + 10, b'x');
        input.extend_from_slice(b"\"}\n{\"id\":\"b\"}\n");
        assert_eq!(
            all(Format::Jsonl, &input),
            [bad(1, "longer than 8388608 bytes"), good(2, "b:1")]
        );
    }

    #[test]
    fn broken_rows_of_csv_are_named_and_the_others_are_read() {
        let input = b"id,name\na,\"x\ny\"\nb\n,c\nd,\xff\ne,\"q\"\"q\"\n";
        assert_eq!(
            all(Format::Csv, input),
            [
                good(2, "a:2"),
                bad(4, "1 columns where there should be 2"),
                bad(5, "\"\" cannot be an id: the name is empty"),
                bad(6, "column 2: not UTF-8"),
                good(7, "e:2"),
            ]
        );
        assert_eq!(all(Format::Csv, b"id,id\n1,2\n"), [bad(1, "two columns are called \"id\"")]);
        assert_eq!(all(Format::Csv, b""), []);
    }

    #[test]
    fn elements_of_an_array_are_read_until_one_is_no_json() {
        assert_eq!(all(Format::Json, b" [ ]\n"), []);
        assert_eq!(
            all(Format::Json, b"[{\"id\":1},\n {\"id\":\"b\",\n\"x\":[]},\n[1],\n{\"y\":2}]"),
            [good(1, "1:1"), good(2, "b:2"), bad(4, "not an object"), bad(5, "it has no \"id\"")]
        );
        assert_eq!(
            all(Format::Json, b"[{\"id\":1},\n{\"id\":\n,}]"),
            [good(1, "1:1"), bad(3, "expected value; the rest was not read")]
        );
        assert_eq!(
            all(Format::Json, b"[{\"id\":1}\n{\"id\":2}]"),
            [
                good(1, "1:1"),
                bad(2, "a comma or the end of the array is missing; the rest was not read")
            ]
        );
        assert_eq!(
            all(Format::Json, b"[{\"id\":1},\n"),
            [good(1, "1:1"), bad(2, "the end of the array is missing")]
        );
        assert_eq!(all(Format::Json, b"{}"), [bad(1, "not an array of objects")]);
        assert_eq!(all(Format::Json, b"[]\nx"), [bad(2, "something follows the array")]);
    }
}
