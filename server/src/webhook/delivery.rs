//! One delivery: what is posted, as Standard Webhooks says (<https://www.standardwebhooks.com>).

use super::{Webhook, WebhookSecrets, place::Place};
use crate::{clock, feed::Page, http::Listed};
use rejoin_core::id::SpaceId;
use serde::Serialize;
use std::time::Duration;
use ureq::{Agent, config::Config};

/// A receiver that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is posted.
#[derive(Debug, Serialize)]
struct Body<'a> {
    r#type: &'static str,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    space: &'a str,
    /// Forget what you know of the space: this begins anew.
    anew: bool,
    /// The cursor of the delivery before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// Where this one ends.
    cursor: String,
    changes: Vec<Listed>,
}

#[derive(Debug)]
pub(super) struct Delivery {
    id: String,
    body: String,
}

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The receiver says so.
    #[error("the receiver answers {status}")]
    Status { status: u16, after: Option<Duration> },
    /// It was not reached, or does not answer.
    #[error("{0}")]
    Unreached(Box<ureq::Error>),
}

impl Refusal {
    /// How long the receiver wants to be left alone.
    pub(super) const fn after(&self) -> Option<Duration> {
        match self {
            Self::Status { after, .. } => *after,
            Self::Unreached(_) => None,
        }
    }
}

impl Delivery {
    pub(super) fn new(space: &SpaceId, from: &Place, page: &Page) -> Self {
        let changes = page.changes.iter().map(|change| Listed::of(&change.key, &change.stored));
        let data = Data {
            space: space.as_str(),
            anew: from.told.is_none(),
            after: from.told.clone(),
            cursor: page.upto.encode(),
            changes: changes.collect(),
        };
        // Nothing in it can fail to be written.
        let body = serde_json::to_string(&Body { r#type: "records.changed", data });
        let body = body.unwrap_or_default();
        // The same again has the same name.
        let digest = blake3::hash(body.as_bytes()).to_hex();
        Self { id: format!("msg_{}", digest.get(..32).unwrap_or_default()), body }
    }

    /// Blocks until it is taken or not.
    pub(super) fn post(&self, hook: &Webhook, secrets: &WebhookSecrets) -> Result<(), Refusal> {
        let timestamp = (clock::read().wall.0 / 1_000).to_string();
        let signed = format!("{}.{timestamp}.{}", self.id, self.body);
        // Somebody else's address is none that was configured.
        let config = Config::builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false);
        let agent = Agent::new_with_config(config.build());
        let answer = agent
            .post(hook.url())
            .header("content-type", "application/json")
            .header("webhook-id", &self.id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", secrets.sign(signed.as_bytes()))
            .send(&self.body)
            .map_err(|error| Refusal::Unreached(Box::new(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        Err(Refusal::Status { status: status.as_u16(), after })
    }
}
