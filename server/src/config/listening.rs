//! Where the server listens, and what browsers may do there.

use super::{Config, ConfigError, shown::Shown};
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct ListeningSettings {
    /// Where to listen [default: 127.0.0.1:8787].
    #[arg(long, env = "REJOIN_SERVER_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// PEM file of the certificate and those that vouch for it: clients use https:// and wss://. Read again when it
    /// changes, and at SIGHUP.
    #[arg(long, env = "REJOIN_SERVER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's key.
    #[arg(long, env = "REJOIN_SERVER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Directory whose files are served to browsers.
    #[arg(id = "static", long = "static", env = "REJOIN_SERVER_STATIC", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// Origin whose pages may connect, may be repeated [default: the host that the page asked].
    #[arg(long, env = "REJOIN_SERVER_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    origin: Vec<String>,
}

impl ListeningSettings {
    pub(super) fn decide(self, config: &mut Config) -> Result<(), ConfigError> {
        config.tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(ConfigError::TlsHalf),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.static_dir = self.static_dir;
        config.origins = self.origin;
        Ok(())
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 5] {
    let tls = config.tls.as_ref();
    [
        ("listen", Shown::text(config.listen)),
        ("tls-cert", Shown::path(tls.map(|tls| &*tls.certificate))),
        ("tls-key", Shown::path(tls.map(|tls| &*tls.key))),
        ("static", Shown::path(config.static_dir.as_deref())),
        ("origin", Shown::list(&config.origins)),
    ]
}
