//! A file of records, read on a thread of its own.

use crate::CliError;
use rejoin_json::{
    Shape,
    lines::{self, Format, Line},
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};
use tokio::sync::mpsc;

/// Lines read ahead.
const AHEAD_MAX: usize = 1_024;

/// Reads `path` on a thread of its own. The last item is an error if reading failed.
pub(crate) fn read(
    path: &Path,
    format: Option<Format>,
    shape: &Shape,
) -> Result<mpsc::Receiver<Result<Line, CliError>>, CliError> {
    let name = path.display().to_string();
    let standard = name == "-";
    let format = match format.or_else(|| Format::of(path)) {
        Some(format) => format,
        None if standard => Format::Jsonl,
        None => return Err(CliError::Format(name)),
    };
    let input: Box<dyn Read + Send> = if standard {
        Box::new(io::stdin())
    } else {
        match File::open(path) {
            Ok(file) => Box::new(file),
            Err(source) => return Err(CliError::Input { name, source }),
        }
    };
    let (sender, receiver) = mpsc::channel(AHEAD_MAX);
    let shape = shape.clone();
    tokio::task::spawn_blocking(move || {
        let mut take = |line| sender.blocking_send(Ok(line)).is_ok();
        if let Err(source) = lines::read(BufReader::new(input), format, &shape, &mut take) {
            // Nobody waits for it any more: the command has ended otherwise.
            sender.blocking_send(Err(CliError::Input { name, source })).ok();
        }
    });
    Ok(receiver)
}
