//! `config check` and `config show`.

use super::{CommandError, say};
use crate::{Config, Explained, Server, Sources, telemetry};

pub(crate) fn check(config: &Config) -> Result<(), CommandError> {
    telemetry::check(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::Runtime)?.block_on(Server::check(config))?;
    say(format_args!("the configuration is good"))
}

pub(crate) fn show(config: &Config, sources: &Sources) -> Result<(), CommandError> {
    let text = Explained { config, sources }.to_string();
    say(format_args!("{}", text.trim_end()))
}
