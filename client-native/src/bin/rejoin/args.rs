//! Arguments, and the help.

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand};
use rejoin_client::{CollectionName, FieldName, Kind, SpaceId};
use rejoin_json::lines::Format;
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    num::NonZeroU32,
    path::PathBuf,
};

const IMPORT_HELP: &str = "\
Each good line becomes a record, put whole under the id that stands in the field KEY (text or an integer). \
Lines that are broken, lack the key or are too large are named by their number on standard error; the others \
are imported. Importing the same file again writes nothing: records that are equal already are left alone. \
Of two lines with one id the later counts.

JSON becomes: null, booleans, integers, floats (numbers beyond 64 bits too), text, arrays, objects. \
{\"$bytes\": \"base64\"} is bytes; {\"$float\": \"NaN\"} (or \"Infinity\", \"-Infinity\") a float that JSON has no \
form for; {\"$map\": {…}} an object whose only name looks like one of these. As a field, {\"$counter\": 3} is a \
counter, {\"$set\": […]} a set, {\"$review\": […]} a reviewed value, {\"$fww\": 3}, {\"$max\": 3} and {\"$min\": 3} \
values of these kinds; --kind says it for a field of all lines. What says no kind is lww, or stays what it is. CSV has a \
line of names; its values are text.

Exit codes: 0 all imported, acknowledged and verified; 1 some lines were bad; 2 usage, connection or file.

The packages of a Debian system, about 60,000 records:

  apt-cache dumpavail | python3 docs/examples/dumpavail-to-jsonl.py |
    rejoin import --space demo --collection packages --key Package -";

/// An offline-first sync engine, from the command line.
#[derive(Debug, Parser)]
#[command(name = "rejoin", version, about)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes the lines of a file as records, and waits until the server has them.
    #[command(after_long_help = IMPORT_HELP)]
    Import(Import),
    /// Writes the records of a collection as lines of JSON, by id.
    Export(Export),
    /// Prints each change as a line of JSON, until Ctrl-C.
    Watch(Watch),
    /// Fetches a collection, computes its root and compares it with the server's at the same position.
    ///
    /// Prints `verified ROOT SEQ RECORDS records`, or, with exit code 1, both roots.
    Verify(Place),
    /// Prints how things stand, as a line of JSON.
    Status(Status),
}

/// Which collection, where.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Place {
    /// The server.
    #[arg(
        long,
        env = "REJOIN_SERVER",
        default_value = "ws://127.0.0.1:8787/sync",
        value_name = "URL"
    )]
    pub(crate) server: String,
    /// The space.
    #[arg(long, env = "REJOIN_SPACE", value_parser = SpaceId::parse)]
    pub(crate) space: SpaceId,
    /// The collection.
    #[arg(long, value_parser = CollectionName::parse)]
    pub(crate) collection: CollectionName,
    /// What the server asks for; better given by `REJOIN_TOKEN` or --token-file, which other users of the
    /// machine cannot see.
    #[arg(long, env = "REJOIN_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file with nothing but the token.
    #[arg(long, env = "REJOIN_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A PEM file of the certificate authorities that a wss:// server is checked against, in place of those
    /// of Mozilla.
    #[arg(long, env = "REJOIN_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A directory that keeps the replica; without it each run fetches the collection anew.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Gives up after so long without any progress.
    #[arg(long, default_value = "20", value_name = "SECONDS")]
    pub(crate) timeout: NonZeroU32,
    /// Names each message of the protocol on standard error.
    #[arg(long)]
    pub(crate) trace: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The field that holds a record's id; `$id`, as exported, is not itself stored.
    #[arg(long, default_value = "$id", value_name = "FIELD", value_parser = FieldName::parse)]
    pub(crate) key: FieldName,
    /// The kind of a field, may be repeated: lww, fww, max, min, counter, set or review.
    #[arg(long = "kind", value_name = "FIELD=KIND", value_parser = rejoin_json::parse_kind)]
    pub(crate) kinds: Vec<(FieldName, Kind)>,
    /// json, jsonl or csv; by default what the file's name ends with, lines of JSON for `-`.
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// `-` is standard input.
    pub(crate) file: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Leaves out `$id`.
    #[arg(long)]
    pub(crate) no_id: bool,
    /// Reads what --data holds, without a server.
    #[arg(long, requires = "data")]
    pub(crate) offline: bool,
    /// Where to [default: standard output].
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Begins with all records that there are.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Reads what --data holds, without a server.
    #[arg(long, requires = "data")]
    pub(crate) offline: bool,
}

/// Those of these environment variables that look like a setting of this program and are none. A person
/// may have misspelt one; it may as well belong to another program of the project, so that it is no error.
/// Those that begin with `REJOIN_SERVER_` are the server's.
pub(crate) fn stray_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = Args::command();
    let known: BTreeSet<&OsStr> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_env)
        .collect();
    names
        .filter(|name| !known.contains(name.as_os_str()))
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("REJOIN_") && !name.starts_with("REJOIN_SERVER_"))
        .collect()
}
