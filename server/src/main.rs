//! The sync server of Rejoin: `rejoin-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rejoin_server::cli::run()
}
