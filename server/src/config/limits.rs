//! How much the server takes from how many.

use super::{Config, shown::Shown};
use clap::{Args, value_parser};
use rejoin_core::protocol::{
    host::Quota,
    limits::{FRAME_BYTES_MAX, HANDSHAKE_WITHIN, HELLO_BYTES, time_for},
};
use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

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
    /// Most connections of one principal.
    pub connections_per_principal_max: u32,
    /// How much a space may hold.
    pub quota: Quota,
    /// Most spaces in the database.
    pub spaces_max: u32,
    /// Most of them that one principal has made.
    pub spaces_per_principal_max: u32,
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
            connections_per_principal_max: 200,
            quota: Quota::NONE,
            spaces_max: 10_000,
            spaces_per_principal_max: 1_000,
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
    /// Most connections of one principal [default: 200].
    #[arg(long, env = "REJOIN_SERVER_CONNECTIONS_PER_PRINCIPAL_MAX", value_name = "N")]
    connections_per_principal_max: Option<NonZeroU32>,
    /// Most records of a space; removed ones count until they are forgotten (`--retention-hours`) [default: any].
    #[arg(long, env = "REJOIN_SERVER_SPACE_RECORDS_MAX", value_name = "N")]
    space_records_max: Option<NonZeroU64>,
    /// Most bytes of all records of a space together [default: any].
    #[arg(long, env = "REJOIN_SERVER_SPACE_BYTES_MAX", value_name = "BYTES")]
    space_bytes_max: Option<NonZeroU64>,
    /// Most spaces [default: 10000].
    #[arg(long, env = "REJOIN_SERVER_SPACES_MAX", value_name = "N")]
    spaces_max: Option<NonZeroU32>,
    /// Most of them that one principal makes by being the first to ask for them [default: 1000].
    #[arg(long, env = "REJOIN_SERVER_SPACES_PER_PRINCIPAL_MAX", value_name = "N")]
    spaces_per_principal_max: Option<NonZeroU32>,
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
        limits.connections_per_principal_max =
            number(self.connections_per_principal_max, limits.connections_per_principal_max);
        let Quota { records, bytes } = limits.quota;
        limits.quota = Quota {
            records: self.space_records_max.map_or(records, NonZeroU64::get),
            bytes: self.space_bytes_max.map_or(bytes, NonZeroU64::get),
        };
        limits.spaces_max = number(self.spaces_max, limits.spaces_max);
        limits.spaces_per_principal_max =
            number(self.spaces_per_principal_max, limits.spaces_per_principal_max);
        limits.live_feeds_max = number(self.live_feeds_max, limits.live_feeds_max);
        limits.frame_bytes_max = self.frame_bytes_max.unwrap_or(limits.frame_bytes_max);
        if let Some(seconds) = self.stall_seconds {
            limits.stall_max = Duration::from_secs(u64::from(seconds.get()));
        }
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 10] {
    let limits = &config.limits;
    let most = |most: u64| if most == u64::MAX { Shown::Unset } else { Shown::number(most) };
    [
        ("connections-max", Shown::number(limits.connections_max)),
        ("connections-per-address-max", Shown::number(limits.connections_per_address_max)),
        ("connections-per-principal-max", Shown::number(limits.connections_per_principal_max)),
        ("space-records-max", most(limits.quota.records)),
        ("space-bytes-max", most(limits.quota.bytes)),
        ("spaces-max", Shown::number(limits.spaces_max)),
        ("spaces-per-principal-max", Shown::number(limits.spaces_per_principal_max)),
        ("live-feeds-max", Shown::number(limits.live_feeds_max)),
        ("frame-bytes-max", Shown::number(limits.frame_bytes_max)),
        ("stall-seconds", Shown::number(limits.stall_max.as_secs())),
    ]
}
