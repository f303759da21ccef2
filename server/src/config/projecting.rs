//! What is put into tables.

use super::{Config, shown::Shown};
use crate::project::Projection;
use clap::Args;

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct ProjectSettings {
    /// Collections whose records are also rows of plain tables in a SQLite file, for people to ask with SQL:
    /// COLLECTIONS=FILE or COLLECTIONS@SPACES=FILE, as in tasks=tasks.sqlite; may be repeated.
    #[arg(long, env = "REJOIN_SERVER_PROJECT", value_name = "TABLES", value_delimiter = ',')]
    project: Vec<Projection>,
}

impl ProjectSettings {
    pub(super) fn decide(self, config: &mut Config) {
        config.projections = self.project;
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 1] {
    let projections: Vec<String> = config.projections.iter().map(ToString::to_string).collect();
    [("project", Shown::list(&projections))]
}
