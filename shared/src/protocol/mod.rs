//! The machines of both ends: `engine` initiates, `host` responds. Normative: `docs/PROTOCOL.md`.
//!
//! Invariant: a machine is a function of its inputs; time, randomness and the outcome of every effect
//! are among them. Absent: sockets, stores, clocks, waiting.

pub mod engine;
pub mod host;

pub use crate::message::{self, limits, wire};
