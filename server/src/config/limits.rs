//! How much the server takes from how many.

use super::{Config, shown::Shown};
use clap::{Args, value_parser};
use rejoin_core::protocol::limits::{FRAME_BYTES_MAX, HANDSHAKE_WITHIN, HELLO_BYTES, time_for};
use std::{num::NonZeroU32, time::Duration};

/// Smallest frame limit that still carries every record: a joined record and its key.
const FRAME_BYTES_LEAST: i64 = 832 << 10;
#[expect(clippy::cast_possible_wrap, reason = "a constant of a few MiB")]
const FRAME_BYTES_MOST: i64 = FRAME_BYTES_MAX as i64;

/// Limits of the driver; those of the protocol are in [`rejoin_core::protocol::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most connections.
    pub connections_max: u32,
    /// Most connections of one address.
    pub connections_per_address_max: u32,
    /// Most spaces in the database.
    pub spaces_max: u32,
    /// Most live feeds over HTTP.
    pub live_feeds_max: u32,
    /// Largest frame taken from a client.
    pub frame_bytes_max: u32,
    /// A connection may be so long without a channel: a slow line takes its time for a long token.
    pub opening_max: Duration,
    /// A client that takes nothing for so long while something waits is cut.
    pub stall_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_address_max: 1_000,
            spaces_max: 10_000,
            live_feeds_max: 1_000,
            frame_bytes_max: 1 << 20,
            opening_max: Duration::from_millis(HANDSHAKE_WITHIN.0 + time_for(HELLO_BYTES).0),
            stall_max: Duration::from_secs(10),
        }
    }
}

/// What was said of them.
#[derive(Debug, Args)]
pub(super) struct LimitSettings {
    /// Most connections [default: 20000].
    #[arg(long, env = "REJOIN_SERVER_CONNECTIONS_MAX", value_name = "N")]
    connections_max: Option<NonZeroU32>,
    /// Most connections of one address; raise it behind a proxy [default: 1000].
    #[arg(long, env = "REJOIN_SERVER_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N")]
    connections_per_address_max: Option<NonZeroU32>,
    /// Most spaces [default: 10000].
    #[arg(long, env = "REJOIN_SERVER_SPACES_MAX", value_name = "N")]
    spaces_max: Option<NonZeroU32>,
    /// Most live feeds over HTTP [default: 1000].
    #[arg(long, env = "REJOIN_SERVER_LIVE_FEEDS_MAX", value_name = "N")]
    live_feeds_max: Option<NonZeroU32>,
    /// Largest frame taken from a client, in bytes [default: 1048576].
    #[arg(long, env = "REJOIN_SERVER_FRAME_BYTES_MAX", value_name = "BYTES")]
    #[arg(value_parser = value_parser!(u32).range(FRAME_BYTES_LEAST..=FRAME_BYTES_MOST))]
    frame_bytes_max: Option<u32>,
    /// A client that takes nothing for so long while something waits is cut [default: 10].
    #[arg(long, env = "REJOIN_SERVER_STALL_SECONDS", value_name = "SECONDS")]
    stall_seconds: Option<NonZeroU32>,
}

impl LimitSettings {
    pub(super) fn decide(self, config: &mut Config) {
        let number = |said: Option<NonZeroU32>, least| said.map_or(least, NonZeroU32::get);
        let limits = &mut config.limits;
        limits.connections_max = number(self.connections_max, limits.connections_max);
        limits.connections_per_address_max =
            number(self.connections_per_address_max, limits.connections_per_address_max);
        limits.spaces_max = number(self.spaces_max, limits.spaces_max);
        limits.live_feeds_max = number(self.live_feeds_max, limits.live_feeds_max);
        limits.frame_bytes_max = self.frame_bytes_max.unwrap_or(limits.frame_bytes_max);
        if let Some(seconds) = self.stall_seconds {
            limits.stall_max = Duration::from_secs(u64::from(seconds.get()));
        }
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 6] {
    let limits = &config.limits;
    [
        ("connections-max", Shown::number(limits.connections_max)),
        ("connections-per-address-max", Shown::number(limits.connections_per_address_max)),
        ("spaces-max", Shown::number(limits.spaces_max)),
        ("live-feeds-max", Shown::number(limits.live_feeds_max)),
        ("frame-bytes-max", Shown::number(limits.frame_bytes_max)),
        ("stall-seconds", Shown::number(limits.stall_max.as_secs())),
    ]
}
