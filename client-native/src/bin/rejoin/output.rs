//! Standard output and error; the progress of what takes long.

use rejoin_client::{Link, Progress as Received, Status};
use std::io::{self, IsTerminal, Write};

/// Writes one line to standard output.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Writes one line to standard error. There is nowhere to report that this fails.
pub(crate) fn complain(line: &str) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// One line on a terminal that is written over; nothing where standard error is a file.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    width: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: io::stderr().is_terminal(), width: 0 }
    }

    pub(crate) fn show(&mut self, text: &str) {
        if self.shown {
            let width = text.chars().count();
            let mut out = io::stderr().lock();
            // As wide as the last one, which it covers.
            write!(out, "\r{text:<least$}", least = self.width).and_then(|()| out.flush()).ok();
            self.width = width;
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.width > 0 {
            self.show("");
            write!(io::stderr().lock(), "\r").ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How things stand, in a few words.
pub(crate) fn describe(status: &Status) -> String {
    match (status.link, status.progress, status.pending) {
        (Link::Offline | Link::Opening, ..) => "connecting".into(),
        (Link::Blocked, ..) => "blocked: another account".into(),
        (Link::NeedsToken, ..) => "the token was refused".into(),
        (_, Some(progress), _) if progress.records > 0 => {
            let Received { records, records_total, bytes, .. } = progress;
            let of = records_total.map(|total| format!(" of {total}")).unwrap_or_default();
            format!("received {records}{of} records, {} KiB", bytes >> 10)
        }
        (_, _, pending) if pending > 0 => format!("{pending} batches to be acknowledged"),
        _ => "comparing".into(),
    }
}
