//! The sync protocol: messages as values, their bytes and their limits. Normative: `docs/PROTOCOL.md`.
//!
//! Invariant: a message has one encoding, and what decodes is that encoding. Absent: sockets, stores,
//! clocks.

pub mod engine;
pub mod host;
pub mod limits;
pub mod message;
pub mod wire;

pub use message::Message;
