//! Secrets that deliveries are signed with.
//!
//! Invariant: they are never shown.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use std::{
    fmt, fs,
    io::Error,
    path::{Path, PathBuf},
};

/// As Standard Webhooks writes one, in Base64.
const PREFIX: &str = "whsec_";
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// One secret or more: every delivery is signed with each, so that receivers can change from one to the next.
#[derive(Clone, Default)]
pub struct WebhookSecrets(Vec<hmac::Key>);

/// Why a file of secrets cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Error,
    },
    /// A line is no secret.
    #[error("{path}, line {line}: a secret is {PREFIX} and {} to {} bytes in Base64", BYTES.start(), BYTES.end())]
    Form {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// There is no secret in it.
    #[error("{path} has no secret in it")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

impl WebhookSecrets {
    /// Reads a file with a secret in each line.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub(crate) fn load(path: &Path) -> Result<Self, SecretsError> {
        let text = fs::read_to_string(path);
        let text =
            text.map_err(|source| SecretsError::Unreadable { path: path.to_owned(), source })?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(line, text)| {
            key(text.trim()).ok_or_else(|| SecretsError::Form { path: path.to_owned(), line })
        });
        let keys: Vec<hmac::Key> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(SecretsError::Empty { path: path.to_owned() });
        }
        Ok(Self(keys))
    }

    /// The signatures of a text, as the header has them.
    pub(super) fn sign(&self, text: &[u8]) -> String {
        let signatures: Vec<String> = self
            .0
            .iter()
            .map(|key| format!("v1,{}", STANDARD.encode(hmac::sign(key, text))))
            .collect();
        signatures.join(" ")
    }
}

fn key(text: &str) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    BYTES.contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_signed_with_every_secret_as_the_standard_says() {
        // The example of the specification, https://www.standardwebhooks.com.
        let secret = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let text = br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
        let secrets = WebhookSecrets(vec![secret.clone(), secret]);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(secrets.sign(text), format!("{signature} {signature}"));
        assert_eq!(format!("{secrets:?}"), "WebhookSecrets(2)");
    }

    #[test]
    fn what_is_no_secret_is_refused_with_its_line_and_not_shown() {
        let path = std::env::temp_dir().join(format!("rejoin-secrets-{}", std::process::id()));
        for (text, complaint) in [
            ("\nwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_short\n", "line 3: "),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "line 1: "),
            ("\n", "has no secret"),
        ] {
            fs::write(&path, text).unwrap();
            let refused = WebhookSecrets::load(&path).unwrap_err().to_string();
            assert!(refused.contains(complaint) && !refused.contains("MfKQ9"), "{refused}");
        }
        fs::remove_file(&path).unwrap();
    }
}
