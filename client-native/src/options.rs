//! What a client needs to know.

use rejoin_core::id::{Pattern, SpaceId};
use std::{fmt, path::PathBuf};

/// How to open a [`crate::Client`].
#[derive(Clone)]
pub struct Options {
    /// The SQLite file; created if absent, its directory must exist. One file can hold several spaces,
    /// one process at a time can have it open.
    pub path: PathBuf,
    /// Which space.
    pub space: SpaceId,
    /// Which of its collections to sync, at most 64, a prefix counts as one. What the file holds of others
    /// stays in it, and is brought up to date when it is asked for again.
    pub collections: Vec<Pattern>,
    /// Where to sync, `ws://…` or `wss://…`; without it the client stays alone.
    pub server: Option<String>,
    /// A PEM file of the certificate authorities that a `wss://` server is checked against, in place of
    /// those of Mozilla.
    pub authorities: Option<PathBuf>,
    /// What the server asks for as proof of who this is.
    pub token: Option<String>,
    /// Whether each message is told as [`rejoin_core::protocol::engine::Notice::Trace`].
    pub trace: bool,
}

impl Options {
    /// A client that stays alone.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, space: SpaceId, collections: Vec<Pattern>) -> Self {
        let path = path.into();
        Self {
            path,
            space,
            collections,
            server: None,
            authorities: None,
            token: None,
            trace: false,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("space", &self.space)
            .field("collections", &self.collections)
            .field("server", &self.server)
            .field("authorities", &self.authorities)
            // whoever reads logs must not be able to use it
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("trace", &self.trace)
            .finish()
    }
}
