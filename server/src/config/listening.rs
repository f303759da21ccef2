//! Where the server listens, and what browsers may do there.

use super::{Config, shown::Shown};
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct ListeningSettings {
    /// Where to listen [default: 127.0.0.1:8787].
    #[arg(long, env = "REJOIN_SERVER_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory whose files are served to browsers.
    #[arg(id = "static", long = "static", env = "REJOIN_SERVER_STATIC", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// Origin whose pages may connect, may be repeated [default: the host that the page asked].
    #[arg(long, env = "REJOIN_SERVER_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    origin: Vec<String>,
}

impl ListeningSettings {
    pub(super) fn decide(self, config: &mut Config) {
        config.listen = self.listen.unwrap_or(config.listen);
        config.static_dir = self.static_dir;
        config.origins = self.origin;
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 3] {
    [
        ("listen", Shown::text(config.listen)),
        ("static", Shown::path(config.static_dir.as_deref())),
        ("origin", Shown::list(&config.origins)),
    ]
}
