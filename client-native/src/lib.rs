//! Rejoin for Rust programs: a replica of one space in one SQLite file, offline first.
//!
//! [`Client::open`] takes the file and starts one task on the current tokio runtime that keeps it in
//! sync with a server for as long as the client lives. Writes are durable in the file before their
//! future resolves, whether a server can be reached or not; reads are answered from memory.
//!
//! ```no_run
//! use rejoin_client::{Client, Options, Pattern, SpaceId, Value, key, put, set};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::open(Options {
//!     server: Some("ws://127.0.0.1:8787/sync".into()),
//!     ..Options::new("todo.db", SpaceId::parse("home")?, vec![Pattern::parse("tasks")?])
//! })
//! .await?;
//! let milk = key("tasks", "milk")?;
//! client.write(vec![put(milk.clone(), [set("title", Value::text("Buy milk"))?])]).await?;
//! client.synced().await?; // as soon as the server has it and both roots are equal
//! assert!(client.get(&milk)?.is_some());
//! client.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: one process has the file, so the client always leads. Absent: merging, protocol, backoff
//! (all in [`rejoin_core`]), SQL (in [`rejoin_sqlite`]), files of users (in the program `rejoin`).

mod changes;
mod client;
mod clock;
mod error;
mod listener;
mod options;
mod ports;
mod socket;
#[cfg(feature = "tls")]
mod tls;

pub use changes::{add, erase, key, put, remove, set, update};
pub use client::{Client, Rejected, Verified};
pub use error::{ClientError, OpenError};
pub use listener::{Missed, Notices};
pub use options::Options;

pub use rejoin_core::{
    codec::CodecError,
    hlc::Stamp,
    id::{
        CollectionName, Digest, FieldName, NameError, Pattern, RecordId, RecordKey, ReplicaId, Seq,
        SpaceId,
    },
    io::FaultClass,
    protocol::{
        engine::{ConfigError, Link, Notice, Progress, Receipt, Status, WishError},
        message::{ByeCode, Conflict, RejectCode},
    },
    record::{Kind, Number, Value, Visible},
    replica::{
        Action, Change, ChangeError, Damage, FieldAction, FieldChange, LoadError, WriteError,
    },
};

use std::collections::BTreeMap;

pub use rejoin_sqlite::SqliteError;

/// A record as an app reads it.
pub type Fields = BTreeMap<FieldName, Visible>;
/// The same, with the kind of each field.
pub type KindFields = BTreeMap<FieldName, (Kind, Visible)>;
