//! Tells whoever runs the server when the write-ahead log grows: somebody else reads one state of the database for
//! long (a copy being made, a shell left open), and until then nothing of what is written gets out of the log.
//!
//! Absent: a remedy. Nobody is kept waiting for it, and the log is cut back once the reader has ended.

use rejoin_sqlite::SqliteDb;
use std::{
    io::{Error, ErrorKind},
    mem::replace,
    time::Duration,
};
use tokio::{sync::watch, time::sleep};
use tracing::{error, info, warn};

const LOOKS_EVERY: Duration = Duration::from_secs(10);
/// From here on it is told: four times what a log is cut back to.
const LARGE_BYTES: u64 = 256 << 20;

/// Looks at the log of `db` until the server stops.
pub(crate) async fn watch(db: SqliteDb, mut stopping: watch::Receiver<bool>) {
    let (mut told, mut failing) = (0, None);
    loop {
        tokio::select! {
            // Who would say it is gone: that is the end too.
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = sleep(LOOKS_EVERY) => {}
        }
        let bytes = db.wal_bytes();
        let news = is_news(&mut failing, bytes.as_ref().err().map(Error::kind));
        match bytes {
            Ok(bytes) => told = tell(told, bytes),
            Err(fault) if news => error!(%fault, "the size of the write-ahead log cannot be read"),
            Err(_told) => {}
        }
    }
}

/// Whether a fault is to be told: it is once, until it is another one or has gone.
fn is_news(last: &mut Option<ErrorKind>, fault: Option<ErrorKind>) -> bool {
    replace(last, fault) != fault && fault.is_some()
}

/// Tells that the log is large, again whenever it has doubled, and that it is small again; of what size was told last,
/// 0 for none.
fn tell(told: u64, bytes: u64) -> u64 {
    let mib = bytes >> 20;
    if bytes >= LARGE_BYTES.max(2 * told) {
        warn!(
            mib,
            "the write-ahead log grows: an earlier state of the database is being read, often by another process"
        );
        return bytes;
    }
    if told > 0 && bytes < LARGE_BYTES {
        info!(mib, "the write-ahead log is small again");
        return 0;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s07_a_log_that_grows_is_told_whenever_it_has_doubled_and_when_it_is_small_again() {
        let sizes = [10, 255, 256, 300, 511, 512, 400, 64, 256].map(|mib: u64| mib << 20);
        let mut told = 0;
        let told = sizes.map(|bytes| {
            told = tell(told, bytes);
            told >> 20
        });
        assert_eq!(told, [0, 0, 256, 256, 256, 512, 512, 0, 256]);
    }

    #[test]
    fn a_fault_that_stays_is_told_once_and_again_when_it_has_changed_or_comes_back() {
        let (denied, gone) = (Some(ErrorKind::PermissionDenied), Some(ErrorKind::NotFound));
        let mut last = None;
        let told = [None, denied, denied, gone, gone, None, None, gone, denied]
            .map(|fault| is_news(&mut last, fault));
        assert_eq!(told, [false, true, false, true, false, false, false, true, true]);
    }
}
