//! The commands of the program, and how they end.
//!
//! Each takes its configuration as the server does, from flags, environment and file, so that it finds what the
//! server uses. Exit codes: 0 done; 1 something is wrong, which is named on the standard error stream; 2 arguments
//! that are none.

use crate::{
    Config, Settings,
    commands::{
        self, CommandError,
        export::Export,
        import::Import,
        inspect::Inspect,
        look::Look,
        replay::Replay,
        token::{NewToken, Revoked},
    },
};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{io, io::Write, path::PathBuf, process::ExitCode};

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
    /// Asks the server on this machine whether it is ready: exit code 1 if not.
    Probe(Settings),
    /// Copies all that a server keeps, also while it runs: one state of it, with the digests of its files.
    Backup {
        #[command(flatten)]
        place: Place,
        /// Directory to make; nothing is overwritten. It has the key in it: keep it as safe as the original.
        to: PathBuf,
    },
    /// Puts a backup in the place of what a server keeps. Clients bring back what they have since then.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The backup.
        from: PathBuf,
        /// Moves what is there aside, into a directory beside it.
        #[arg(long)]
        replace: bool,
    },
    /// Reads and checks everything that is stored, also while the server runs; nothing is changed. Exit code 1 if
    /// something is damaged.
    Verify {
        #[command(flatten)]
        place: Place,
        /// A backup, or the directory of another server [default: that of --data].
        directory: Option<PathBuf>,
    },
    /// Fills the tables of `--project` anew: at once where the server runs, else when it starts.
    Rebuild(Settings),
    /// Tells the receivers of `--webhook` again what they were told before, while the server does not run: it posts when
    /// it starts.
    Replay {
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        what: Replay,
    },
    /// Makes, lists and revokes tokens. A server that runs notices within seconds.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Tells what is stored, as lines of JSON, also while the server runs.
    Inspect {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        what: Inspect,
    },
    /// Writes live records as lines of JSON or rows of CSV, also while the server runs.
    Export {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        what: Export,
    },
    /// Makes the lines of a file records, as a client would, while the server does not run. What is equal already is
    /// left alone. Lines that cannot be taken are named, the others are: exit code 1.
    Import {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        what: Import,
    },
    /// Makes the database as small as it can be. It takes as much room again while it works.
    Compact(Place),
}

/// Which server a command is about.
#[derive(Debug, Args)]
struct Place {
    /// TOML file of the server's settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the server's database and its key [default: as the server's].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Which tokens a command is about.
#[derive(Debug, Args)]
struct TokenFile {
    /// TOML file of the server's settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// TOML file of the tokens [default: as the server's].
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it, once: the file keeps its digest.
    Create {
        #[command(flatten)]
        file: TokenFile,
        #[command(flatten)]
        new: NewToken,
    },
    /// Prints each token's name, principal, end and rights.
    List(TokenFile),
    /// Takes access away: sessions end within seconds.
    Revoke {
        #[command(flatten)]
        file: TokenFile,
        #[command(flatten)]
        revoked: Revoked,
    },
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
    match carry_out(cli.command.as_ref(), &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to report that this fails.
            writeln!(io::stderr().lock(), "rejoin-server: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Option<&Command>, flags: &ArgMatches) -> Result<(), CommandError> {
    let config = || Config::load(flags).map(|(config, _)| config);
    match command {
        None | Some(Command::Serve(_)) => commands::serve::run(config()?),
        Some(Command::Config(ConfigCommand::Check(_))) => commands::config::check(&config()?),
        Some(Command::Config(ConfigCommand::Show(_))) => {
            let (config, sources) = Config::load(flags)?;
            commands::config::show(&config, &sources)
        }
        Some(Command::Backup { to, .. }) => commands::backup::run(&config()?, to),
        Some(Command::Restore { from, replace, .. }) => {
            commands::restore::run(&config()?, from, *replace)
        }
        Some(Command::Verify { directory, .. }) => {
            commands::verify::run(directory.as_ref().unwrap_or(&config()?.data))
        }
        Some(Command::Inspect { what, .. }) => {
            commands::inspect::run(&Look::open(&config()?.data)?, what)
        }
        Some(Command::Export { what, .. }) => {
            commands::export::run(&Look::open(&config()?.data)?, what)
        }
        Some(Command::Import { what, .. }) => commands::import::run(&config()?, what),
        Some(Command::Probe(_)) => commands::probe::run(&config()?),
        Some(Command::Compact(_)) => commands::compact::run(&config()?),
        Some(Command::Token(command)) => {
            // The tokens may be there before the configuration that asks for them.
            let file = Config::tokens_file(flags)?.ok_or(CommandError::NoTokens)?;
            match command {
                TokenCommand::Create { new, .. } => commands::token::create(&file, new),
                TokenCommand::List(_) => commands::token::list(&file),
                TokenCommand::Revoke { revoked, .. } => commands::token::revoke(&file, revoked),
            }
        }
        Some(Command::Rebuild(_)) => commands::rebuild::run(&config()?),
        Some(Command::Replay { what, .. }) => commands::replay::run(&config()?, what),
    }
}
