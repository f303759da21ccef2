//! Why there is no configuration.

use crate::auth::JwtSettingsError;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key that is none.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why, as the parser says, without the line itself.
        message: String,
    },
    /// A value that its setting cannot have.
    #[error("{place}: {message}")]
    Value {
        /// Which flag, variable or line of the file has it.
        place: String,
        /// Why not.
        message: String,
    },
    /// A webhook without secrets.
    #[error("--webhook needs --webhook-secrets FILE: receivers tell by signatures who posts")]
    WebhookSecretsMissing,
    /// Secrets of webhooks that nothing would sign with.
    #[error("--webhook-secrets is given, but there is no --webhook")]
    WebhookSecretsUnused,
    /// An environment variable that looks like a setting and is none.
    #[error(
        "{name} is no setting of this program: REJOIN_SERVER_LISTEN, REJOIN_SERVER_DATA and so on, as \
         --help names them"
    )]
    Variable {
        /// Which one.
        name: String,
    },
    /// `auth = "tokens"` without a file of tokens.
    #[error("--auth tokens needs --tokens FILE")]
    TokensMissing,
    /// A file of tokens that nothing would ask for.
    #[error("--tokens {path} is given, but --auth is none")]
    TokensUnused {
        /// Which file.
        path: PathBuf,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("--tls-cert FILE and --tls-key FILE go together")]
    TlsHalf,
    /// A place for the admin page without the token that opens it.
    #[error("--admin-listen is given, but there is no --admin-token-file FILE")]
    AdminTokenMissing,
    /// The address of a collector is none of HTTP, or has in it what would be shown or left out.
    #[error("--otlp-endpoint begins with https:// or http://, and has no user and no query in it")]
    OtlpEndpoint,
    /// Settings of JWTs that do not go together.
    #[error(transparent)]
    Jwt(#[from] JwtSettingsError),
}
