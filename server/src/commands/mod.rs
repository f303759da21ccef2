//! What each command does once its configuration is known.

pub(crate) mod config;
pub(crate) mod serve;

use crate::{ConfigError, ServerError};
use std::io;

/// Why a command did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("--log {filter}: {source}")]
    Log { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}
