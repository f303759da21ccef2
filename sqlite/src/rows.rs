//! The rows of the spaces, over one connection: every statement but those about the file itself.

use crate::{SqliteError, file::CORRUPT, snapshot::Extent};
use rejoin_core::{
    id::SpaceId,
    io::{Answer, Guard, KeyRange, Keyspace, Page, Query, Room, Row, Write},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{num::NonZeroU32, sync::OnceLock};

/// One statement per keyspace, built at compile time.
macro_rules! sql {
    ($keyspace:expr, $before:literal, $after:literal) => {
        match $keyspace {
            Keyspace::Records => concat!($before, "records", $after),
            Keyspace::Feed => concat!($before, "feed", $after),
            Keyspace::Tree => concat!($before, "tree", $after),
            Keyspace::Log => concat!($before, "log", $after),
            Keyspace::Page => concat!($before, "page", $after),
            Keyspace::Meta => concat!($before, "meta", $after),
        }
    };
}

/// Interns names of spaces, so that a key costs a small integer more and not a name.
pub(crate) const CREATE_SPACES: &str =
    "CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT";

pub(crate) const fn create(keyspace: Keyspace) -> &'static str {
    sql!(
        keyspace,
        "CREATE TABLE ",
        " (space INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, \
         PRIMARY KEY (space, key)) STRICT, WITHOUT ROWID"
    )
}

const fn get(keyspace: Keyspace) -> &'static str {
    sql!(keyspace, "SELECT value FROM ", " WHERE space = ?1 AND key = ?2")
}

const fn scan_to_end(keyspace: Keyspace) -> &'static str {
    sql!(
        keyspace,
        "SELECT key, value FROM ",
        " WHERE space = ?1 AND key >= ?2 ORDER BY key LIMIT ?3"
    )
}

const fn scan(keyspace: Keyspace) -> &'static str {
    sql!(
        keyspace,
        "SELECT key, value FROM ",
        " WHERE space = ?1 AND key >= ?2 AND key < ?4 ORDER BY key LIMIT ?3"
    )
}

const fn put(keyspace: Keyspace) -> &'static str {
    sql!(
        keyspace,
        "INSERT INTO ",
        " (space, key, value) VALUES (?1, ?2, ?3) \
         ON CONFLICT (space, key) DO UPDATE SET value = excluded.value"
    )
}

const fn delete(keyspace: Keyspace) -> &'static str {
    sql!(keyspace, "DELETE FROM ", " WHERE space = ?1 AND key = ?2")
}

const fn extent(keyspace: Keyspace) -> &'static str {
    sql!(
        keyspace,
        "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM ",
        " WHERE space = ?1"
    )
}

/// A part of that: in order, behind a key. Lengths are read without what they are lengths of.
const fn extent_behind(keyspace: Keyspace) -> &'static str {
    sql!(
        keyspace,
        "WITH part AS (SELECT key, length(key) + length(value) AS bytes FROM ",
        " WHERE space = ?1 AND key >= ?2 ORDER BY key LIMIT ?3) \
         SELECT count(*), coalesce(sum(bytes), 0), max(key) FROM part"
    )
}

/// Where a space has rows it mostly has some of the first.
const SPACES: &str = "SELECT name FROM spaces WHERE \
     EXISTS (SELECT 1 FROM meta WHERE space = spaces.id) \
     OR EXISTS (SELECT 1 FROM records WHERE space = spaces.id) \
     OR EXISTS (SELECT 1 FROM feed WHERE space = spaces.id) \
     OR EXISTS (SELECT 1 FROM tree WHERE space = spaces.id) \
     OR EXISTS (SELECT 1 FROM log WHERE space = spaces.id) \
     OR EXISTS (SELECT 1 FROM page WHERE space = spaces.id) \
     ORDER BY name";

/// A space by name, and by number once it is known to be committed. Numbers are never reused.
pub(crate) struct Space {
    pub(crate) name: SpaceId,
    pub(crate) number: OnceLock<i64>,
}

/// The number of `space` in the transaction at hand; `None` if it never had a row.
pub(crate) fn number(connection: &Connection, space: &Space) -> Result<Option<i64>, SqliteError> {
    if let Some(number) = space.number.get() {
        return Ok(Some(*number));
    }
    let mut statement = connection.prepare_cached("SELECT id FROM spaces WHERE name = ?1")?;
    Ok(statement.query_row([space.name.as_str()], |row| row.get(0)).optional()?)
}

/// Gives `space` a number in the transaction at hand.
pub(crate) fn intern(connection: &Connection, space: &Space) -> Result<i64, SqliteError> {
    let mut statement =
        connection.prepare_cached("INSERT INTO spaces (name) VALUES (?1) RETURNING id")?;
    Ok(statement.query_row([space.name.as_str()], |row| row.get(0))?)
}

/// The spaces that have rows, in order.
pub(crate) fn spaces(connection: &Connection) -> Result<Vec<SpaceId>, SqliteError> {
    let mut statement = connection.prepare_cached(SPACES)?;
    let mut found = statement.query([])?;
    let mut spaces = Vec::new();
    while let Some(row) = found.next()? {
        let name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        spaces.push(SpaceId::parse(name).map_err(|_not_a_name| CORRUPT)?);
    }
    Ok(spaces)
}

/// The rows of one space.
#[derive(Clone, Copy)]
pub(crate) struct SpaceRows<'c> {
    connection: &'c Connection,
    /// `None`: the space never had a row.
    space: Option<i64>,
}

impl<'c> SpaceRows<'c> {
    pub(crate) const fn new(connection: &'c Connection, space: Option<i64>) -> Self {
        Self { connection, space }
    }

    pub(crate) fn get(
        self,
        keyspace: Keyspace,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, SqliteError> {
        let Some(space) = self.space else {
            return Ok(None);
        };
        let mut statement = self.connection.prepare_cached(get(keyspace))?;
        Ok(statement.query_row(params![space, key], |row| row.get(0)).optional()?)
    }

    pub(crate) fn scan(
        self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
        bytes: NonZeroU32,
    ) -> Result<Page, SqliteError> {
        let Some(space) = self.space else {
            return Ok(Page::default());
        };
        // one row more tells whether more follow; its value is never loaded
        let fetched = i64::from(limit.get()) + 1;
        let (start, mut statement) = (
            &range.start,
            match range.end {
                Some(_) => self.connection.prepare_cached(scan(keyspace))?,
                None => self.connection.prepare_cached(scan_to_end(keyspace))?,
            },
        );
        let mut found = match &range.end {
            Some(end) => statement.query(params![space, start, fetched, end])?,
            None => statement.query(params![space, start, fetched])?,
        };
        let mut page = Page::default();
        let mut room = Room::new(limit, bytes);
        while let Some(row) = found.next()? {
            if room.is_over() {
                page.more = true;
                break;
            }
            let row = Row { key: row.get(0)?, value: row.get(1)? };
            room.take(&row);
            page.rows.push(row);
        }
        Ok(page)
    }

    pub(crate) fn answer(self, query: &Query) -> Result<Answer, SqliteError> {
        match query {
            Query::Get { keyspace, key } => self.get(*keyspace, key).map(Answer::Value),
            Query::Scan { keyspace, range, limit, bytes } => {
                self.scan(*keyspace, range, *limit, *bytes).map(Answer::Page)
            }
        }
    }

    pub(crate) fn extent(self, keyspace: Keyspace) -> Result<Extent, SqliteError> {
        let Some(space) = self.space else {
            return Ok(Extent::default());
        };
        let mut statement = self.connection.prepare_cached(extent(keyspace))?;
        let (rows, bytes): (i64, i64) =
            statement.query_row([space], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Extent { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() })
    }

    /// What at most `limit` rows from `start` on take, and where the next ones begin if there may be any.
    pub(crate) fn extent_behind(
        self,
        keyspace: Keyspace,
        start: &[u8],
        limit: NonZeroU32,
    ) -> Result<(Extent, Option<Vec<u8>>), SqliteError> {
        let Some(space) = self.space else {
            return Ok((Extent::default(), None));
        };
        let mut statement = self.connection.prepare_cached(extent_behind(keyspace))?;
        let (rows, bytes, last): (i64, i64, Option<Vec<u8>>) = statement
            .query_row(params![space, start, limit.get()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let extent = Extent { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() };
        let is_full = extent.rows == u64::from(limit.get());
        let next = last.filter(|_| is_full).map(|mut last| {
            last.push(0);
            last
        });
        Ok((extent, next))
    }

    pub(crate) fn holds(self, guard: &Guard) -> Result<bool, SqliteError> {
        let Some(space) = self.space else {
            return Ok(guard.seen.is_none());
        };
        let mut statement = self.connection.prepare_cached(get(guard.keyspace))?;
        let mut found = statement.query(params![space, guard.key])?;
        match (found.next()?, &guard.seen) {
            (None, seen) => Ok(seen.is_none()),
            (Some(_), None) => Ok(false),
            (Some(row), Some(seen)) => {
                let value = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                Ok(value == seen.as_slice())
            }
        }
    }
}

/// Carries out one write on a space that has a number.
pub(crate) fn write(connection: &Connection, space: i64, write: &Write) -> Result<(), SqliteError> {
    match write {
        Write::Put { keyspace, row } => connection
            .prepare_cached(put(*keyspace))?
            .execute(params![space, row.key, row.value])?,
        Write::Delete { keyspace, key } => {
            connection.prepare_cached(delete(*keyspace))?.execute(params![space, key])?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_bear_the_names_of_their_keyspaces() {
        for keyspace in Keyspace::ALL {
            for sql in [create, get, scan, scan_to_end, put, delete, extent, extent_behind] {
                let words: Vec<&str> = sql(keyspace).split(' ').collect();
                let table = words.iter().position(|word| ["TABLE", "FROM", "INTO"].contains(word));
                assert_eq!(table.map(|at| words[at + 1]), Some(keyspace.name()));
            }
            assert!(SPACES.contains(&format!(" FROM {} ", keyspace.name())));
        }
    }
}
