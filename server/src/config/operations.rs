//! How the server is watched, and how it ends.

use super::{Config, shown::Shown};
use clap::{Args, ValueEnum, value_parser};
use std::{net::SocketAddr, time::Duration};

/// An hour.
const DRAIN_SECONDS: std::ops::RangeInclusive<i64> = 0..=3_600;

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum Switch {
    /// It is not.
    #[default]
    Off,
    /// It is.
    On,
}

/// How the server is watched, and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationsConfig {
    /// Whether whoever reaches the server may ask for its metrics.
    pub metrics: Switch,
    /// Where else to listen, for probes and metrics alone.
    pub metrics_listen: Option<SocketAddr>,
    /// How long the server goes on serving, not ready any more, once it was asked to end.
    pub drain: Duration,
    /// Below this the server is not ready.
    pub disk_free_min_mib: u32,
}

impl Default for OperationsConfig {
    fn default() -> Self {
        Self {
            metrics: Switch::Off,
            metrics_listen: None,
            drain: Duration::ZERO,
            disk_free_min_mib: 64,
        }
    }
}

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct OperationsSettings {
    /// Whether /metrics is there for whoever reaches the server: on or off [default: off].
    #[arg(long, env = "REJOIN_SERVER_METRICS", value_name = "SWITCH")]
    metrics: Option<Switch>,
    /// Where else to listen, for /metrics and the probes alone.
    #[arg(long, env = "REJOIN_SERVER_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Seconds that the server goes on serving once it was asked to end, with /readyz at 503, so that a balancer
    /// finds another one first [default: 0].
    #[arg(long, env = "REJOIN_SERVER_DRAIN_SECONDS", value_name = "SECONDS")]
    #[arg(value_parser = value_parser!(u32).range(DRAIN_SECONDS))]
    drain_seconds: Option<u32>,
    /// With less room on the disk than this, /readyz is at 503 [default: 64].
    #[arg(long, env = "REJOIN_SERVER_DISK_FREE_MIN_MIB", value_name = "MIB")]
    disk_free_min_mib: Option<u32>,
}

impl OperationsSettings {
    pub(super) fn decide(self, config: &mut Config) {
        let operations = &mut config.operations;
        operations.metrics = self.metrics.unwrap_or_default();
        operations.metrics_listen = self.metrics_listen;
        if let Some(seconds) = self.drain_seconds {
            operations.drain = Duration::from_secs(u64::from(seconds));
        }
        operations.disk_free_min_mib =
            self.disk_free_min_mib.unwrap_or(operations.disk_free_min_mib);
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 4] {
    let operations = &config.operations;
    [
        ("metrics", Shown::choice(&operations.metrics)),
        ("metrics-listen", operations.metrics_listen.map_or(Shown::Unset, Shown::text)),
        ("drain-seconds", Shown::number(operations.drain.as_secs())),
        ("disk-free-min-mib", Shown::number(operations.disk_free_min_mib)),
    ]
}
