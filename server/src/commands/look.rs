//! Looking at what a server keeps, also while it runs: one state of its database, which nobody changes.

use super::CommandError;
use crate::{data::DataDir, hubs};
use rejoin_core::{
    codec::CodecError,
    id::{CollectionName, Pattern, RecordKey, SpaceId},
    io::{Answer, Page, Query, Row},
    protocol::host::{StoredRecord, collection_queries},
};
use rejoin_sqlite::{SqliteOptions, SqliteSnapshot};
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

/// Rows of one read.
pub(super) const ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
/// Bytes of one read, about.
const BYTES: NonZeroU32 = NonZeroU32::MIN.saturating_add((1 << 20) - 1);

/// One state of a database.
#[derive(Debug)]
pub(crate) struct Look {
    path: PathBuf,
    pub(super) snapshot: SqliteSnapshot,
}

impl Look {
    /// That of a directory of a server, or of a backup.
    pub(crate) fn open(path: &Path) -> Result<Self, CommandError> {
        let directory = DataDir::new(path);
        let unfinished = |error| CommandError::file(directory.path(), error);
        directory.refuse_unfinished().map_err(unfinished)?;
        let snapshot = SqliteSnapshot::open(directory.database(), &SqliteOptions::default());
        let snapshot = snapshot.map_err(|error| CommandError::database(directory.path(), error))?;
        Ok(Self { path: path.to_owned(), snapshot })
    }

    /// The spaces of clients.
    pub(super) fn spaces(&self) -> Result<Vec<SpaceId>, CommandError> {
        let mut spaces = self.of(self.snapshot.spaces())?;
        spaces.retain(|space| !hubs::is_own(space));
        Ok(spaces)
    }

    /// An error if there is no such space: a name that was misspelt has nothing in it.
    pub(super) fn knows(&self, space: &SpaceId) -> Result<(), CommandError> {
        if self.spaces()?.contains(space) {
            return Ok(());
        }
        Err(CommandError::NoSpace { space: space.clone(), path: self.path.clone() })
    }

    pub(super) fn read(
        &self,
        space: &SpaceId,
        queries: &[Query],
    ) -> Result<Vec<Answer>, CommandError> {
        self.of(self.snapshot.read(space, queries))
    }

    /// The rows of a range.
    pub(super) fn page(&self, space: &SpaceId, query: Query) -> Result<Page, CommandError> {
        let answers = self.read(space, &[query])?;
        let page = answers.into_iter().find_map(|answer| match answer {
            Answer::Page(page) => Some(page),
            Answer::Value(_) => None,
        });
        Ok(page.unwrap_or_default())
    }

    /// The collections that a pattern covers, by name.
    pub(super) fn collections(
        &self,
        space: &SpaceId,
        pattern: &Pattern,
    ) -> Result<Vec<CollectionName>, CommandError> {
        let mut found = Vec::<CollectionName>::new();
        loop {
            let answers = self.read(space, &collection_queries(found.last(), pattern))?;
            let row = answers.into_iter().find_map(|answer| match answer {
                Answer::Page(page) => page.rows.into_iter().next(),
                Answer::Value(_) => None,
            });
            match row {
                Some(row) => found.push(self.record(space, &row)?.0.collection),
                None => return Ok(found),
            }
        }
    }

    /// Shows every record of a collection, dead ones among them, by id.
    pub(super) fn records(
        &self,
        space: &SpaceId,
        collection: &CollectionName,
        show: &mut dyn FnMut(&RecordKey, &StoredRecord) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut after = None;
        loop {
            let query = StoredRecord::query_all(collection, after.as_ref(), ROWS, BYTES);
            let page = self.page(space, query)?;
            for row in &page.rows {
                let (key, stored) = self.record(space, row)?;
                show(&key, &stored)?;
                after = Some(key.id);
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    fn record(
        &self,
        space: &SpaceId,
        row: &Row,
    ) -> Result<(RecordKey, StoredRecord), CommandError> {
        StoredRecord::read_row(row).map_err(|source| self.damaged(space, source))
    }

    pub(super) fn damaged(&self, space: &SpaceId, source: CodecError) -> CommandError {
        CommandError::Row { path: self.path.clone(), space: space.clone(), source }
    }

    pub(super) fn of<T>(
        &self,
        found: Result<T, rejoin_sqlite::SqliteError>,
    ) -> Result<T, CommandError> {
        found.map_err(|error| CommandError::database(&self.path, error))
    }
}
