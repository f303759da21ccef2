//! Whether there is an admin page, and where.

use super::{Config, ConfigError, shown::Shown};
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// Where it listens if nobody says it: reached from this machine alone.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 8_788);

/// The admin page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// The file of the token that opens it.
    pub token_file: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
}

impl AdminConfig {
    /// The page for whoever shows the token of a file, on this machine.
    #[must_use]
    pub fn new(token_file: impl Into<PathBuf>) -> Self {
        Self { token_file: token_file.into(), listen: SocketAddr::from(LISTEN) }
    }
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct AdminSettings {
    /// File of the token that opens the admin page; without it there is none. Read again when it changes.
    #[arg(long, env = "REJOIN_SERVER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Where the admin page listens [default: 127.0.0.1:8788].
    #[arg(long, env = "REJOIN_SERVER_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    admin_listen: Option<SocketAddr>,
}

impl AdminSettings {
    pub(super) fn decide(self, config: &mut Config) -> Result<(), ConfigError> {
        config.admin = match (self.admin_token_file, self.admin_listen) {
            (None, None) => None,
            (None, Some(_)) => return Err(ConfigError::AdminTokenMissing),
            (Some(token_file), listen) => {
                let admin = AdminConfig::new(token_file);
                Some(AdminConfig { listen: listen.unwrap_or(admin.listen), ..admin })
            }
        };
        Ok(())
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 2] {
    let admin = config.admin.as_ref();
    [
        ("admin-token-file", Shown::path(admin.map(|admin| &*admin.token_file))),
        ("admin-listen", admin.map_or(Shown::Unset, |admin| Shown::text(admin.listen))),
    ]
}
