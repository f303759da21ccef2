//! `rejoin`: import, export, watch and verify a collection of a space on a server.

mod args;
mod export;
mod import;
mod lines;
mod output;
mod session;
mod status;
mod verify;
mod watch;

use args::{Args, Command};
use clap::Parser;
use std::{io, process::ExitCode};

/// Why a command did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Session(#[from] session::SessionError),
    #[error(transparent)]
    Client(#[from] rejoin_client::ClientError),
    #[error("cannot read {name}: {source}")]
    Input { name: String, source: io::Error },
    #[error("two kinds are given for the field {0:?}")]
    Kinds(String),
    #[error("{0}: what format is it? say --format json, jsonl or csv")]
    Format(String),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
}

/// How a command ended.
pub(crate) enum Outcome {
    /// As asked.
    Good,
    /// It got to its end and found something wrong, which it has named: exit code 1.
    Bad,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(CliError::Runtime(error)),
    };
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        // Whoever reads has enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(2)
        }
        Err(error) => {
            output::complain(&format!("rejoin: {error}"));
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<Outcome, CliError> {
    for name in args::stray_variables(std::env::vars_os().map(|(name, _)| name)) {
        output::complain(&format!("rejoin: {name} is no setting of this program, and not read"));
    }
    match args.command {
        Command::Import(import) => import::run(import).await,
        Command::Export(export) => export::run(export).await,
        Command::Watch(watch) => watch::run(watch).await,
        Command::Verify(place) => verify::run(place).await,
        Command::Status(status) => status::run(status).await,
    }
}
