//! Who may use the server.

use super::{Config, ConfigError, shown::Shown};
use crate::auth::{JwtConfig, JwtSettings};
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
    /// Who shows a JWT of an issuer that is trusted, or a token of the file, if there is one.
    Jwt,
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct AccessSettings {
    /// Who may use the server [default: none, which lets everyone who reaches it read and write].
    #[arg(long, env = "REJOIN_SERVER_AUTH", value_name = "KIND")]
    auth: Option<AuthKind>,
    /// TOML file of the tokens, for --auth tokens, and beside JWTs. Read again when it changes.
    #[arg(long, env = "REJOIN_SERVER_TOKENS", value_name = "FILE")]
    pub(super) tokens: Option<PathBuf>,
    #[command(flatten)]
    jwt: JwtSettings,
}

impl AccessSettings {
    pub(super) fn decide(self, config: &mut Config) -> Result<(), ConfigError> {
        let kind = self.auth.unwrap_or_default();
        if kind == AuthKind::Jwt {
            config.jwt = Some(self.jwt.decide()?);
        } else {
            self.jwt.refuse()?;
        }
        config.tokens = match (kind, self.tokens) {
            (AuthKind::Tokens, None) => return Err(ConfigError::TokensMissing),
            (AuthKind::None, Some(path)) => return Err(ConfigError::TokensUnused { path }),
            (AuthKind::Tokens | AuthKind::Jwt | AuthKind::None, tokens) => tokens,
        };
        Ok(())
    }
}

pub(super) fn show(config: &Config) -> Vec<(&'static str, Shown)> {
    let auth = match (&config.jwt, &config.tokens) {
        (Some(_), _) => AuthKind::Jwt,
        (None, Some(_)) => AuthKind::Tokens,
        (None, None) => AuthKind::None,
    };
    let jwt = config.jwt.as_ref();
    let path = |of: fn(&JwtConfig) -> &Option<PathBuf>| {
        Shown::path(jwt.and_then(|jwt| of(jwt).as_deref()))
    };
    let list = |of: fn(&JwtConfig) -> Vec<String>| Shown::list(&jwt.map(of).unwrap_or_default());
    let text = |text: Option<&String>| text.map_or(Shown::Unset, Shown::text);
    vec![
        ("auth", Shown::choice(&auth)),
        ("tokens", Shown::path(config.tokens.as_deref())),
        ("jwt-keys", path(|jwt| &jwt.keys)),
        ("jwt-secret", path(|jwt| &jwt.secret)),
        ("jwt-jwks", text(jwt.and_then(|jwt| jwt.jwks.as_ref()))),
        ("jwt-issuer", text(jwt.map(|jwt| &jwt.issuer))),
        ("jwt-audience", list(|jwt| jwt.audience.clone())),
        ("jwt-leeway-seconds", jwt.map_or(Shown::Unset, |jwt| Shown::number(jwt.leeway.as_secs()))),
        // Each is a grant by now.
        ("jwt-space", Shown::Unset),
        ("jwt-grants", list(|jwt| jwt.grants.iter().map(ToString::to_string).collect())),
    ]
}
