//! What is posted to other programs.

use super::{Config, ConfigError, shown::Shown};
use crate::webhook::Webhook;
use clap::Args;
use std::path::PathBuf;

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct WebhookSettings {
    /// Collections whose changes are posted to an address: COLLECTIONS=URL or COLLECTIONS@SPACES=URL, as in
    /// tasks=https://example.org/hook; may be repeated.
    #[arg(long, env = "REJOIN_SERVER_WEBHOOK", value_name = "HOOK", value_delimiter = ' ')]
    webhook: Vec<Webhook>,
    /// File with the secret that deliveries are signed with: whsec_ and 24 to 64 bytes in Base64, a line each; with
    /// several every delivery has a signature by each.
    #[arg(long, env = "REJOIN_SERVER_WEBHOOK_SECRETS", value_name = "FILE")]
    webhook_secrets: Option<PathBuf>,
}

impl WebhookSettings {
    pub(super) fn decide(self, config: &mut Config) -> Result<(), ConfigError> {
        match (self.webhook.is_empty(), self.webhook_secrets.is_some()) {
            (false, false) => return Err(ConfigError::WebhookSecretsMissing),
            (true, true) => return Err(ConfigError::WebhookSecretsUnused),
            (true, false) | (false, true) => {}
        }
        config.webhooks = self.webhook;
        config.webhook_secrets = self.webhook_secrets;
        Ok(())
    }
}

pub(super) fn show(config: &Config) -> [(&'static str, Shown); 2] {
    let hooks: Vec<String> = config.webhooks.iter().map(ToString::to_string).collect();
    [
        ("webhook", Shown::list(&hooks)),
        ("webhook-secrets", Shown::path(config.webhook_secrets.as_deref())),
    ]
}
