//! The least that durable writes cost: SQLite itself, with the same rows and the same durability.

use crate::{channel::replica, rows::Rows};
use rusqlite::{Connection, params};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// A file with one table of keys and values.
#[derive(Debug)]
pub(crate) struct Baseline {
    connection: Connection,
    rows: Rows,
}

impl Baseline {
    /// An empty one in `folder`.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("baseline.db");
        for end in ["", "-wal", "-shm"] {
            let file = folder.join(format!("baseline.db{end}"));
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection
            .execute_batch("CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")?;
        Ok(Self { connection, rows: Rows::new(replica(u32::MAX)) })
    }

    /// Commits so many rows at a time for so long: rows per second.
    pub(crate) fn write(&mut self, at_a_time: usize, time: Duration) -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut written = 0_u32;
        while started.elapsed() < time {
            let transaction = self.connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached("INSERT INTO rows VALUES (?, ?)")?;
                for _ in 0..at_a_time {
                    let (key, value) = self.rows.next_bytes()?;
                    insert.execute(params![key, value])?;
                    written += 1;
                }
            }
            transaction.commit()?;
        }
        Ok(f64::from(written) / started.elapsed().as_secs_f64())
    }
}
