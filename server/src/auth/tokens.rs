//! Tokens of a file: API keys, each with its principal and rights, as their digests or in clear.
//!
//! Invariant: tokens are kept and compared as their BLAKE3 digests, whole and in constant time, so that
//! neither memory dumps nor answer times tell them. Absent: writing the file.

use super::{
    AuthError,
    jwt::is_principal,
    moment,
    rights::{Rule, SpaceGrant, rights_of},
};
use crate::config;
use rejoin_core::{
    id::SpaceId,
    protocol::{limits::TOKEN_BYTES_MAX, message::Right},
    time::WallMillis,
};
use serde::Deserialize;
use std::path::Path;

/// Begins a token that the file gives as its digest.
pub(super) const DIGEST_PREFIX: &str = "blake3:";

/// What a file of tokens says.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: Vec<Known>,
    revoked: Vec<Revoked>,
}

/// One token of the file.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) digest: blake3::Hash,
    pub(super) principal: String,
    pub(super) expires: Option<WallMillis>,
    rules: Vec<Rule>,
}

impl Known {
    pub(super) fn rights(&self, space: &SpaceId) -> Vec<Right> {
        rights_of(&self.rules, space)
    }
}

/// JWTs that are not good any more.
#[derive(Debug)]
struct Revoked {
    principal: String,
    before: WallMillis,
}

impl Tokens {
    /// Reads the bytes of a file.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Self, AuthError> {
        let invalid = |message| AuthError::Invalid { path: path.to_owned(), message };
        let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
        let file: TokenFile =
            toml::from_str(text).map_err(|error| invalid(config::place(text, &error)))?;
        Self::from_file(file)
    }

    fn from_file(file: TokenFile) -> Result<Self, AuthError> {
        let mut known: Vec<Known> = Vec::with_capacity(file.tokens.len());
        for (index, entry) in file.tokens.into_iter().enumerate() {
            let entry = entry.check(index + 1)?;
            if known.iter().any(|other| other.digest == entry.digest) {
                return Err(AuthError::Twice { number: index + 1 });
            }
            known.push(entry);
        }
        let revoked = file.revoked.into_iter().enumerate().map(|(index, entry)| {
            let RevokedEntry { principal, before } = entry;
            let before = moment::of_toml(before).ok_or(AuthError::Moment { number: index + 1 })?;
            Ok(Revoked { principal, before })
        });
        Ok(Self { known, revoked: revoked.collect::<Result<_, AuthError>>()? })
    }

    /// The entry of a token; O(tokens).
    pub(super) fn find(&self, token: &str) -> Option<&Known> {
        self.of_digest(&blake3::hash(token.as_bytes()))
    }

    pub(super) fn of_digest(&self, digest: &blake3::Hash) -> Option<&Known> {
        // Every entry is compared; equality of digests takes constant time.
        self.known
            .iter()
            .fold(None, |found, entry| if entry.digest == *digest { Some(entry) } else { found })
    }

    /// Whether a JWT of this principal that was issued then is not good any more; one that does not say when it
    /// was issued may have been at any time.
    pub(super) fn has_revoked(&self, principal: &str, issued: Option<WallMillis>) -> bool {
        self.revoked.iter().any(|revoked| {
            revoked.principal == principal && issued.is_none_or(|issued| issued < revoked.before)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    tokens: Vec<TokenEntry>,
    #[serde(default)]
    revoked: Vec<RevokedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    token: String,
    principal: String,
    expires: Option<toml::value::Datetime>,
    spaces: Vec<SpaceGrant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedEntry {
    principal: String,
    before: toml::value::Datetime,
}

impl TokenEntry {
    fn check(self, number: usize) -> Result<Known, AuthError> {
        let unusable = AuthError::Token { number, max: TOKEN_BYTES_MAX };
        let digest = match self.token.strip_prefix(DIGEST_PREFIX) {
            Some(digits) => match blake3::Hash::from_hex(digits) {
                Ok(digest) => digest,
                Err(_not_a_digest) => return Err(unusable),
            },
            None if self.token.is_empty() || self.token.len() > TOKEN_BYTES_MAX => {
                return Err(unusable);
            }
            None => blake3::hash(self.token.as_bytes()),
        };
        if !is_principal(&self.principal) {
            return Err(AuthError::Principal { number });
        }
        let expires = match self.expires {
            Some(when) => Some(moment::of_toml(when).ok_or(AuthError::Moment { number })?),
            None => None,
        };
        let rules = self.spaces.iter().map(Rule::parse).collect::<Result<_, _>>();
        let rules = rules.map_err(|source| AuthError::Name { number, source })?;
        Ok(Known { digest, principal: self.principal, expires, rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Tokens, AuthError> {
        Tokens::from_file(toml::from_str(text).unwrap())
    }

    fn rights(tokens: &Tokens, token: &str, space: &str) -> Option<Vec<Right>> {
        let space = SpaceId::parse(space).unwrap();
        tokens.find(token).map(|known| known.rights(&space))
    }

    const FILE: &str = "
        [[tokens]]
        token = 'secret of ada'
        principal = 'ada'
        expires = 2001-09-09T03:46:40+02:00
        spaces = [{ space = 'demo', collections = ['tasks/*'], write = true },
                  { space = 'team-*' }]
        [[tokens]]
        token = 'blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'
        principal = 'empty'
        spaces = [{ space = '*', write = true }]
        [[revoked]]
        principal = 'ada'
        before = 2001-09-09T01:46:40Z";

    #[test]
    fn tokens_grant_what_their_entry_says_and_nothing_else() {
        let tokens = tokens(FILE).unwrap();
        let ada = tokens.find("secret of ada").unwrap();
        assert_eq!(ada.principal, "ada");
        assert_eq!(ada.expires, Some(WallMillis(1_000_000_000_000)));
        let demo = rights(&tokens, "secret of ada", "demo").unwrap();
        assert_eq!(demo.len(), 1);
        assert!(demo[0].write);
        let team = rights(&tokens, "secret of ada", "team-7").unwrap();
        assert!(!team[0].write);
        assert_eq!(rights(&tokens, "secret of ada", "other"), Some(Vec::new()));
        assert_eq!(rights(&tokens, "secret of eve", "demo"), None);
    }

    #[test]
    fn a_token_given_as_its_digest_is_known_by_the_token() {
        // The digest in the file is that of the empty string.
        let tokens = tokens(FILE).unwrap();
        assert_eq!(tokens.find("").unwrap().principal, "empty");
    }

    #[test]
    fn jwts_that_were_issued_before_a_time_are_revoked() {
        let tokens = tokens(FILE).unwrap();
        let at = |millis| Some(WallMillis(millis));
        assert!(tokens.has_revoked("ada", at(999_999_999_999)));
        assert!(tokens.has_revoked("ada", None));
        assert!(!tokens.has_revoked("ada", at(1_000_000_000_000)));
        assert!(!tokens.has_revoked("bob", None));
    }

    #[test]
    fn entries_that_could_not_be_meant_are_refused() {
        let entry = |token: &str, space: &str| {
            format!("[[tokens]]\ntoken='{token}'\nprincipal='p'\nspaces=[{{space='{space}'}}]\n")
        };
        assert!(matches!(tokens(&entry("", "s")), Err(AuthError::Token { number: 1, .. })));
        assert!(matches!(tokens(&entry("blake3:12", "s")), Err(AuthError::Token { .. })));
        assert!(matches!(tokens(&entry("t", "a//b")), Err(AuthError::Name { .. })));
        let twice = entry("t", "s") + &entry("t", "s");
        assert!(matches!(tokens(&twice), Err(AuthError::Twice { number: 2 })));
        let local = entry("t", "s").replace("spaces", "expires = 2030-01-01T00:00:00\nspaces");
        assert!(matches!(tokens(&local), Err(AuthError::Moment { number: 1 })));
        let nobody = entry("t", "s").replace("'p'", "''");
        assert!(matches!(tokens(&nobody), Err(AuthError::Principal { number: 1 })));
    }
}
