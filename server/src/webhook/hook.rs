//! What is posted where.

use crate::selection::{Selection, SelectionError};
use rejoin_core::id::{RecordKey, SpaceId};
use std::{fmt, str::FromStr};

/// Changes of some collections, posted to an address: `tasks=https://example.org/hook`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    selection: Selection,
    url: String,
}

/// Why a text is no webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// There is no address in it.
    #[error(
        "it is COLLECTIONS=URL or COLLECTIONS@SPACES=URL, as in tasks=https://example.org/hook"
    )]
    Form,
    /// Something is no name.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The address is none of HTTP, or has a user in it, whose password would be shown.
    #[error(
        "an address begins with https:// or http://, and has no user in it: deliveries are signed"
    )]
    Url,
}

impl FromStr for Webhook {
    type Err = WebhookError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (selection, url) = text.split_once('=').ok_or(WebhookError::Form)?;
        let rest = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let is_plain = |character: char| character.is_ascii_graphic();
        if host.is_empty() || host.contains('@') || !url.chars().all(is_plain) {
            return Err(WebhookError::Url);
        }
        Ok(Self { selection: selection.parse()?, url: url.to_owned() })
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.selection, self.url)
    }
}

impl Webhook {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_about(&self, space: &SpaceId) -> bool {
        self.selection.is_about(space)
    }

    pub(crate) fn wants(&self, space: &SpaceId, key: &RecordKey) -> bool {
        self.selection.wants(space, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_what_is_posted_where() {
        let hook: Webhook = "tasks@team-*=https://example.org:8443/hook?a=b@c".parse().unwrap();
        assert_eq!(hook.to_string(), "tasks@team-*=https://example.org:8443/hook?a=b@c");
        assert_eq!(hook.url(), "https://example.org:8443/hook?a=b@c");
        for text in ["tasks=ftp://x/", "tasks=https://", "tasks=http://u:p@x/", "tasks=http://x/ y"]
        {
            assert_eq!(text.parse::<Webhook>(), Err(WebhookError::Url), "{text}");
        }
        assert_eq!("tasks".parse::<Webhook>(), Err(WebhookError::Form));
    }
}
