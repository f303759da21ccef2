//! What each command does once its configuration is known.

pub(crate) mod backup;
pub(crate) mod compact;
pub(crate) mod config;
mod draft;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod look;
mod manifest;
pub(crate) mod probe;
pub(crate) mod rebuild;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod serve;
mod state;
pub(crate) mod token;
pub(crate) mod verify;

use crate::{
    ConfigError, ServerError, auth::KeyringError, feed::FeedError, telemetry::TelemetryError,
};
use rejoin_core::{
    codec::CodecError,
    id::{FieldName, RecordKey, SpaceId},
    protocol::host::DirectAnswer,
};
use rejoin_sqlite::SqliteError;
use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Why a command did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the database in {path}: {source}")]
    Database { path: PathBuf, source: SqliteError },
    #[error("a server uses {0}: stop it first")]
    InUse(PathBuf),
    #[error("{0} has no backup.toml: it is no backup, or one that did not get to its end")]
    NoBackup(PathBuf),
    #[error("{path}: {what}")]
    Manifest { path: PathBuf, what: String },
    #[error("{0} is not as it was when the backup was made")]
    Altered(PathBuf),
    #[error("{0} is there: with --replace it is moved aside")]
    Occupied(PathBuf),
    #[error("there is nothing to rebuild: the configuration has no --project")]
    NoTables,
    #[error("there is nobody to be told again: the configuration has no --webhook")]
    NoWebhooks,
    #[error("--since is the cursor of one receiver: name its webhook alone by --webhook")]
    ManyWebhooks,
    #[error(
        "no webhook of the configuration was told anything: one is known by all of its text, as the server has it"
    )]
    NoneTold,
    #[error(
        "{0:?} is no cursor of this space, or what it stands for is gone: without --since everything is told anew"
    )]
    Cursor(String),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("{0} has no database")]
    NoDatabase(PathBuf),
    #[error("there is no file of tokens: name one by --tokens FILE")]
    NoTokens,
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("there is no space {space} in {path}")]
    NoSpace { space: SpaceId, path: PathBuf },
    #[error("there is no record {0}")]
    NoRecord(RecordKey),
    #[error("space {space} in {path}: a row is damaged: {source}; verify looks for more")]
    Row { path: PathBuf, space: SpaceId, source: CodecError },
    #[error("an export is jsonl or csv")]
    ExportFormat,
    #[error("{0}: what format is it? say --format json, jsonl or csv")]
    ImportFormat(PathBuf),
    #[error("two kinds are given for the field {0}")]
    Kinds(FieldName),
    #[error("the server did not write it: {0:?}")]
    NotWritten(DirectAnswer),
    #[error("the space cannot be used: {0}")]
    Refused(&'static str),
    #[error("{0} bad lines")]
    BadLines(u64),
    #[error("with --tls-cert a probe needs --metrics-listen")]
    ProbeOverTls,
    #[error("{address} does not answer: {source}")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("damaged: {findings} findings")]
    Damaged { findings: usize },
}

impl CommandError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    fn database(path: &Path, source: SqliteError) -> Self {
        let path = path.to_owned();
        if source == SqliteError::Locked {
            return Self::InUse(path);
        }
        Self::Database { path, source }
    }
}

/// Writes a line of output.
fn say(text: fmt::Arguments<'_>) -> Result<(), CommandError> {
    writeln!(io::stdout().lock(), "{text}").map_err(CommandError::Output)
}
