//! What is logged, and how it looks.

use super::{Config, shown::Shown};
use clap::{Args, ValueEnum};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people: time, level, fields, event.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct LoggingSettings {
    /// Which events are logged: error, warn, info, debug, trace, or a filter by target [default: info].
    #[arg(long, env = "REJOIN_SERVER_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look [default: text].
    #[arg(long, env = "REJOIN_SERVER_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl LoggingSettings {
    pub(super) fn decide(self, config: &mut Config) {
        if let Some(log) = self.log {
            config.log = log;
        }
        config.log_format = self.log_format.unwrap_or_default();
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 2] {
    [("log", Shown::text(&config.log)), ("log-format", Shown::choice(&config.log_format))]
}
