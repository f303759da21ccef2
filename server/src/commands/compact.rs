//! `compact`: gives back the room that what was removed has left in the database.

use super::{CommandError, say};
use crate::{Config, data::DataDir};
use rejoin_sqlite::{SqliteOptions, compact};

/// Compacts the database of a server that does not run.
pub(crate) fn run(config: &Config) -> Result<(), CommandError> {
    let directory = DataDir::new(&config.data);
    let unfinished = |error| CommandError::file(directory.path(), error);
    directory.refuse_unfinished().map_err(unfinished)?;
    let (before, after) = compact(&directory.database(), &SqliteOptions::default())
        .map_err(|error| CommandError::database(directory.path(), error))?;
    say(format_args!("{}: {before} bytes, now {after}", directory.path().display()))
}
