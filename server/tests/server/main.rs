//! The server over real sockets: what it promises to clients, what it refuses, how it ends and what
//! survives. Clients are scripted from the messages of the protocol.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests and what they share end the test when anything but the expected comes"
)]

mod access;
mod admin;
#[cfg(target_os = "linux")]
mod attacks;
mod backups;
mod bad_lines;
mod carried;
mod client;
mod http;
mod interrupted;
mod issuer;
mod jwts;
mod killed;
mod limits;
mod line;
mod looking;
mod matrix;
mod matrix_http;
mod operating;
mod operations;
mod posting;
mod projecting;
mod refusals;
mod settings;
mod syncing;
mod tls;
mod tracing;
mod world;
