//! How often and how much anybody may ask.

use super::{Config, shown::Shown};
use clap::{Args, value_parser};
use rejoin_core::protocol::limits::FRAME_BYTES_MAX;
use std::num::NonZeroU32;

/// A frame of the greatest size takes a second at most.
#[expect(clippy::cast_possible_wrap, reason = "a constant of a few MiB")]
const BYTES_LEAST: i64 = FRAME_BYTES_MAX as i64;
const MOST: i64 = 1_000_000_000;
/// A large message goes in parts of some KiB: fewer of them each second are slower than the slowest line.
const MESSAGES_LEAST: i64 = 10;

/// What is taken in each second or minute. For a moment it may be more: what is not used in two seconds, or in a
/// minute, can be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// WebSocket messages of a connection each second.
    pub connection_messages: NonZeroU32,
    /// Their bytes.
    pub connection_bytes: NonZeroU32,
    /// WebSocket messages of all connections of a principal each second.
    pub principal_messages: NonZeroU32,
    /// Their bytes.
    pub principal_bytes: NonZeroU32,
    /// HTTP requests of a principal each second.
    pub principal_requests: NonZeroU32,
    /// HTTP requests of an address each second.
    pub address_requests: NonZeroU32,
    /// Connections that an address opens each minute.
    pub address_connections: NonZeroU32,
    /// Tokens that are not good, and that an address shows each minute.
    pub address_failures: NonZeroU32,
}

const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(number - 1)
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            connection_messages: number(2_000),
            connection_bytes: number(8 << 20),
            principal_messages: number(10_000),
            principal_bytes: number(32 << 20),
            principal_requests: number(500),
            address_requests: number(1_000),
            address_connections: number(3_000),
            address_failures: number(600),
        }
    }
}

/// What was said of them.
#[derive(Debug, Args)]
pub(super) struct RateSettings {
    /// Messages that are taken from a connection each second [default: 2000].
    #[arg(long, env = "REJOIN_SERVER_CONNECTION_MESSAGES_PER_SECOND", value_name = "N")]
    #[arg(value_parser = value_parser!(u32).range(MESSAGES_LEAST..=MOST))]
    connection_messages_per_second: Option<u32>,
    /// Bytes that are taken from a connection each second [default: 8388608].
    #[arg(long, env = "REJOIN_SERVER_CONNECTION_BYTES_PER_SECOND", value_name = "BYTES")]
    #[arg(value_parser = value_parser!(u32).range(BYTES_LEAST..=MOST))]
    connection_bytes_per_second: Option<u32>,
    /// Messages that are taken from all connections of a principal each second [default: 10000].
    #[arg(long, env = "REJOIN_SERVER_PRINCIPAL_MESSAGES_PER_SECOND", value_name = "N")]
    #[arg(value_parser = value_parser!(u32).range(MESSAGES_LEAST..=MOST))]
    principal_messages_per_second: Option<u32>,
    /// Bytes that are taken from all connections of a principal each second [default: 33554432].
    #[arg(long, env = "REJOIN_SERVER_PRINCIPAL_BYTES_PER_SECOND", value_name = "BYTES")]
    #[arg(value_parser = value_parser!(u32).range(BYTES_LEAST..=MOST))]
    principal_bytes_per_second: Option<u32>,
    /// HTTP requests of a principal each second [default: 500].
    #[arg(long, env = "REJOIN_SERVER_PRINCIPAL_REQUESTS_PER_SECOND", value_name = "N")]
    principal_requests_per_second: Option<NonZeroU32>,
    /// HTTP requests of an address each second; raise it behind a proxy [default: 1000].
    #[arg(long, env = "REJOIN_SERVER_ADDRESS_REQUESTS_PER_SECOND", value_name = "N")]
    address_requests_per_second: Option<NonZeroU32>,
    /// Connections that an address may open each minute; raise it behind a proxy [default: 3000].
    #[arg(long, env = "REJOIN_SERVER_ADDRESS_CONNECTIONS_PER_MINUTE", value_name = "N")]
    address_connections_per_minute: Option<NonZeroU32>,
    /// Tokens that are not good, and that an address may show each minute; raise it behind a proxy [default: 600].
    #[arg(long, env = "REJOIN_SERVER_ADDRESS_FAILURES_PER_MINUTE", value_name = "N")]
    address_failures_per_minute: Option<NonZeroU32>,
}

impl RateSettings {
    pub(super) fn decide(self, config: &mut Config) {
        let rates = &mut config.rates;
        let parsed = |said: Option<u32>| said.and_then(NonZeroU32::new);
        for (rate, said) in [
            (&mut rates.connection_messages, parsed(self.connection_messages_per_second)),
            (&mut rates.connection_bytes, parsed(self.connection_bytes_per_second)),
            (&mut rates.principal_messages, parsed(self.principal_messages_per_second)),
            (&mut rates.principal_bytes, parsed(self.principal_bytes_per_second)),
            (&mut rates.principal_requests, self.principal_requests_per_second),
            (&mut rates.address_requests, self.address_requests_per_second),
            (&mut rates.address_connections, self.address_connections_per_minute),
            (&mut rates.address_failures, self.address_failures_per_minute),
        ] {
            *rate = said.unwrap_or(*rate);
        }
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 8] {
    let rates = &config.rates;
    [
        ("connection-messages-per-second", Shown::number(rates.connection_messages.get())),
        ("connection-bytes-per-second", Shown::number(rates.connection_bytes.get())),
        ("principal-messages-per-second", Shown::number(rates.principal_messages.get())),
        ("principal-bytes-per-second", Shown::number(rates.principal_bytes.get())),
        ("principal-requests-per-second", Shown::number(rates.principal_requests.get())),
        ("address-requests-per-second", Shown::number(rates.address_requests.get())),
        ("address-connections-per-minute", Shown::number(rates.address_connections.get())),
        ("address-failures-per-minute", Shown::number(rates.address_failures.get())),
    ]
}
