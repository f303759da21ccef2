//! Connections to a server.

pub(crate) mod ws;
