//! What can go wrong for the caller. What goes wrong on the network does not: it is a status.

use rejoin_core::{
    codec::CodecError,
    id::SpaceId,
    io::FaultClass,
    protocol::engine::{ConfigError, WishError},
    replica::LoadError,
};
use rejoin_sqlite::SqliteError;
use std::path::PathBuf;

/// Why a client was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened.
    #[error(transparent)]
    File(#[from] SqliteError),
    /// The file was opened and what it holds cannot be read or written.
    #[error("the database cannot be used ({0:?})")]
    Store(FaultClass),
    /// The file was read, and what it holds cannot be taken in; it is as it was. [`LoadError::Header`]: the row that
    /// names the replica is damaged.
    #[error("the database cannot be used: {0}")]
    Damaged(LoadError),
    /// What the file holds under this space's name belongs to another one.
    #[error("the database belongs to the space {held}")]
    OtherSpace {
        /// The space that it belongs to.
        held: SpaceId,
    },
    /// The address of the server is none.
    #[error("{url:?} is not an address of a server: {reason}")]
    Address {
        /// As given.
        url: String,
        /// Why.
        reason: String,
    },
    /// The certificate authorities cannot be used.
    #[error("the certificate authorities in {path}: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// More is asked for than a limit allows.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system has no randomness to give.
    #[error("the system gives no randomness")]
    Entropy,
    /// The runtime ended.
    #[error("the runtime ended")]
    Ended,
}

/// Why a client did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It cannot be done, too much waits, or the store failed; after [`WishError::Unknown`] the write may be
    /// durable all the same.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// Stored bytes are damaged.
    #[error("stored bytes are damaged: {0}")]
    Corrupt(#[from] CodecError),
    /// The file did not close in order; nothing that was committed is lost.
    #[error(transparent)]
    File(#[from] SqliteError),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}
