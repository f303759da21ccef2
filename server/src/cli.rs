//! The commands of the program, and how they end.
//!
//! Each takes its configuration as the server does, from flags, environment and file, so that it finds what the
//! server uses. Exit codes: 0 done; 1 something is wrong, which is named on the standard error stream; 2 arguments
//! that are none.

use crate::{
    Config, Settings,
    commands::{self, CommandError},
};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{io, io::Write, process::ExitCode};

/// The sync server of Rejoin.
///
/// Without a command it serves clients, as `serve` does.
#[derive(Debug, Parser)]
#[command(name = "rejoin-server", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves clients until it is asked to end.
    Serve(Settings),
    /// Looks at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Checks it, with the files that it names, as a start would; nothing is started or changed.
    Check(Settings),
    /// Prints every setting as it takes effect, as a file for --config, with the place where it was said.
    Show(Settings),
}

/// Does what the arguments of the process say. Arguments that are none end the process, with the usage.
#[must_use]
pub fn run() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match carry_out(cli.command.as_ref(), innermost(&matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to report that this fails.
            writeln!(io::stderr().lock(), "rejoin-server: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Option<&Command>, flags: &ArgMatches) -> Result<(), CommandError> {
    let (config, sources) = Config::load(flags)?;
    match command {
        None | Some(Command::Serve(_)) => commands::serve::run(config),
        Some(Command::Config(ConfigCommand::Check(_))) => commands::config::check(&config),
        Some(Command::Config(ConfigCommand::Show(_))) => commands::config::show(&config, &sources),
    }
}

/// What was given to the command itself.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}
