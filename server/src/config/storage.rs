//! Where the database is, and how it is kept.

use super::{Config, shown::Shown};
use crate::every::Every;
use clap::{Args, ValueEnum, value_parser};
use rejoin_core::protocol::host::RefillPolicy;
use std::{path::PathBuf, time::Duration};

/// An hour, since whoever is away for longer fetches everything anew; ten years.
const RETENTION_HOURS: std::ops::RangeInclusive<i64> = 1..=87_600;
const SECONDS_OF_HOUR: u64 = 3_600;

/// Who may bring back what the database has lost: it was put back from an old copy, or erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum RefillKind {
    /// Whoever reads a record that this server's key marked; what it did not mark, whoever may write it.
    #[default]
    Writers,
    /// Whoever reads a record that this server's key marked.
    Proved,
    /// Nobody: the copy is older on purpose.
    None,
}

impl RefillKind {
    pub(crate) const fn policy(self) -> RefillPolicy {
        match self {
            Self::Writers => RefillPolicy::Writers,
            Self::Proved => RefillPolicy::Proved,
            Self::None => RefillPolicy::None,
        }
    }
}

/// What becomes of a clock that has gone back since the server last ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum ClockKind {
    /// The server does not start.
    #[default]
    Checked,
    /// It starts, and goes by it.
    Accepted,
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct StorageSettings {
    /// Directory of the database and its key, created at need [default: ./rejoin-data].
    #[arg(long, env = "REJOIN_SERVER_DATA", value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Who brings back what a database lost that was put back or erased: writers (readers too, with this
    /// server's mark), proved (only with the mark), none [default: writers].
    #[arg(long, env = "REJOIN_SERVER_REFILL", value_name = "WHO")]
    refill: Option<RefillKind>,
    /// Hours that the server runs before it forgets what was removed. A device that was away for longer fetches
    /// everything anew, and updates of what is gone come back to its user [default: 720].
    #[arg(long, env = "REJOIN_SERVER_RETENTION_HOURS", value_name = "HOURS")]
    #[arg(value_parser = value_parser!(u32).range(RETENTION_HOURS))]
    retention_hours: Option<u32>,
    /// How often all that is stored is read and checked, as in 30m, 24h or 7d; or off [default: 24h].
    #[arg(long, env = "REJOIN_SERVER_SCRUB", value_name = "EVERY")]
    scrub: Option<Every>,
    /// What a clock is that is behind what it was when the server last ran: checked, which refuses to start, or
    /// accepted, since it was wrong then; what devices write after what they have seen may wait [default: checked].
    #[arg(long, env = "REJOIN_SERVER_CLOCK", value_name = "HOW")]
    clock: Option<ClockKind>,
}

impl StorageSettings {
    pub(super) fn decide(self, config: &mut Config) {
        if let Some(data) = self.data {
            config.data = data;
        }
        config.refill = self.refill.unwrap_or_default();
        if let Some(hours) = self.retention_hours {
            config.retention = Duration::from_secs(u64::from(hours) * SECONDS_OF_HOUR);
        }
        config.scrub = self.scrub.unwrap_or(config.scrub);
        config.clock = self.clock.unwrap_or_default();
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 5] {
    [
        ("data", Shown::path(Some(&config.data))),
        ("refill", Shown::choice(&config.refill)),
        ("retention-hours", Shown::number(config.retention.as_secs() / SECONDS_OF_HOUR)),
        ("scrub", Shown::text(config.scrub)),
        ("clock", Shown::choice(&config.clock)),
    ]
}
