//! Where spans are told.

use super::{Config, ConfigError, shown::Shown};
use clap::Args;

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct SpanSettings {
    /// Address of an OpenTelemetry collector, as `http://127.0.0.1:4318`: what is done for requests and messages is told
    /// to it by OTLP over HTTP. The variables `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and
    /// `OTEL_RESOURCE_ATTRIBUTES` say the rest.
    #[arg(long, env = "REJOIN_SERVER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

impl SpanSettings {
    pub(super) fn decide(self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(url) = &self.otlp_endpoint {
            let rest = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
            let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let is_plain = |character: char| character.is_ascii_graphic();
            if host.is_empty() || url.contains(['@', '?', '#']) || !url.chars().all(is_plain) {
                return Err(ConfigError::OtlpEndpoint);
            }
        }
        config.otlp_endpoint = self.otlp_endpoint;
        Ok(())
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 1] {
    [("otlp-endpoint", config.otlp_endpoint.as_ref().map_or(Shown::Unset, Shown::text))]
}
