//! Who may use the server.

use super::{Config, ConfigError, shown::Shown};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Who may use the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum AuthKind {
    /// Everyone who reaches it may read and write every space.
    #[default]
    None,
    /// Who shows a token of the file.
    Tokens,
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct AccessSettings {
    /// Who may use the server [default: none, which lets everyone who reaches it read and write].
    #[arg(long, env = "REJOIN_SERVER_AUTH", value_name = "KIND")]
    auth: Option<AuthKind>,
    /// TOML file of the tokens, for --auth tokens.
    #[arg(long, env = "REJOIN_SERVER_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,
}

impl AccessSettings {
    pub(super) fn decide(self, config: &mut Config) -> Result<(), ConfigError> {
        config.tokens = match (self.auth.unwrap_or_default(), self.tokens) {
            (AuthKind::Tokens, None) => return Err(ConfigError::TokensMissing),
            (AuthKind::None, Some(path)) => return Err(ConfigError::TokensUnused { path }),
            (AuthKind::Tokens, tokens @ Some(_)) | (AuthKind::None, tokens @ None) => tokens,
        };
        Ok(())
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 2] {
    let auth = if config.tokens.is_some() { AuthKind::Tokens } else { AuthKind::None };
    [("auth", Shown::choice(&auth)), ("tokens", Shown::path(config.tokens.as_deref()))]
}
