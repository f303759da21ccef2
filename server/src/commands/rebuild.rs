//! `rebuild`: fills the tables of projections anew.

use super::{CommandError, say};
use crate::{Config, project::by_file};
use rejoin_sqlite::Tables;

/// Empties every file of the configuration: the server that runs fills them, or the next one that starts.
pub(crate) fn run(config: &Config) -> Result<(), CommandError> {
    for of_tables in by_file(&config.projections) {
        let file = &of_tables.file;
        let refused = |error| CommandError::database(file, error);
        let mut tables = Tables::open(file, &of_tables.about()).map_err(refused)?;
        tables.rebuild().map_err(refused)?;
        say(format_args!("{}: the server fills it anew", file.display()))?;
    }
    if config.projections.is_empty() {
        return Err(CommandError::NoTables);
    }
    Ok(())
}
