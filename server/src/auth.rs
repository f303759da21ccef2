//! Who may do what: from a token and a space to a grant.
//!
//! Invariant: tokens are kept and compared as their BLAKE3 digests, whole and in constant time, so that
//! neither memory dumps nor answer times tell them. Absent: spaces that exist (a space that nobody may
//! use and one that does not exist look the same).

use crate::config;
use rejoin_core::{
    id::{NameError, Pattern, SpaceId},
    protocol::{
        host::Grant,
        limits::TOKEN_BYTES_MAX,
        message::{ByeCode, Right},
    },
};
use serde::Deserialize;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// As whom everyone counts where no tokens are asked for.
const EVERYONE: &str = "anyone";
/// Begins a token that the file gives as its digest.
const DIGEST_PREFIX: &str = "blake3:";

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML of the expected form.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why, without the line itself.
        message: String,
    },
    /// A token is empty, too long, or not a digest behind `blake3:`.
    #[error(
        "token {number} of the file is not usable: 1 to {max} bytes, or blake3: and 64 hexadecimal digits"
    )]
    Token {
        /// Counted from 1.
        number: usize,
        /// Longest token in bytes.
        max: usize,
    },
    /// A token stands in the file twice.
    #[error("token {number} of the file stands there twice")]
    Twice {
        /// Counted from 1.
        number: usize,
    },
    /// A principal, space or collection is not a name.
    #[error("token {number} of the file: {name:?}: {source}")]
    Name {
        /// Counted from 1.
        number: usize,
        /// The name.
        name: String,
        /// Why.
        source: NameError,
    },
}

/// How principals are told.
pub(crate) enum Auth {
    /// Everyone may read and write everything.
    None,
    /// Whoever shows one of these.
    Tokens(Vec<Known>),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Tokens(known) => write!(f, "Tokens({})", known.len()),
        }
    }
}

/// One token of the file.
pub(crate) struct Known {
    digest: blake3::Hash,
    principal: String,
    spaces: Vec<(SpacePattern, Vec<Right>)>,
}

/// Which spaces: `*`, a name, or the beginning of names before a `*`.
#[derive(Debug, PartialEq, Eq)]
enum SpacePattern {
    Exact(SpaceId),
    Beginning(String),
}

impl SpacePattern {
    fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Beginning(String::new())),
            // Names may end with a slash only here.
            Some(start) => {
                SpaceId::parse(start.trim_end_matches('/'))?;
                Ok(Self::Beginning(start.to_owned()))
            }
            None => SpaceId::parse(text).map(Self::Exact),
        }
    }

    fn covers(&self, space: &SpaceId) -> bool {
        match self {
            Self::Exact(name) => name == space,
            Self::Beginning(start) => space.as_str().starts_with(start),
        }
    }
}

impl Auth {
    /// Reads the tokens of a file; without one everyone is let in.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, AuthError> {
        let Some(path) = file else {
            return Ok(Self::None);
        };
        let text = fs::read_to_string(path)
            .map_err(|source| AuthError::Unreadable { path: path.to_owned(), source })?;
        let file: TokenFile = toml::from_str(&text).map_err(|error| AuthError::Invalid {
            path: path.to_owned(),
            message: config::place(&text, &error),
        })?;
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
        Ok(Self::Tokens(known))
    }

    /// What the bearer of `token` may do in `space`; O(tokens).
    ///
    /// # Errors
    /// `Unauthorized` for a token that is missing or wrong, `NoSpace` for one without a right there.
    pub(crate) fn grant(&self, token: Option<&str>, space: &SpaceId) -> Result<Grant, ByeCode> {
        let known = match self {
            Self::None => {
                let right = Right { pattern: Pattern::All, write: true };
                return Ok(Grant { principal: EVERYONE.to_owned(), rights: vec![right] });
            }
            Self::Tokens(known) => known,
        };
        let token = token.ok_or(ByeCode::Unauthorized)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(ByeCode::Unauthorized);
        }
        let digest = blake3::hash(token.as_bytes());
        // Every entry is compared; equality of digests takes constant time.
        let found = known
            .iter()
            .fold(None, |found, entry| if entry.digest == digest { Some(entry) } else { found });
        let entry = found.ok_or(ByeCode::Unauthorized)?;
        let mut rights = Vec::new();
        for (pattern, granted) in &entry.spaces {
            if pattern.covers(space) {
                rights.extend(granted.iter().cloned());
            }
        }
        if rights.is_empty() {
            return Err(ByeCode::NoSpace);
        }
        Ok(Grant { principal: entry.principal.clone(), rights })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    tokens: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    token: String,
    principal: String,
    spaces: Vec<SpaceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpaceEntry {
    space: String,
    #[serde(default = "all_collections")]
    collections: Vec<String>,
    #[serde(default)]
    write: bool,
}

fn all_collections() -> Vec<String> {
    vec!["*".to_owned()]
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
        let named = |name: &str, source| AuthError::Name { number, name: name.to_owned(), source };
        // Principals follow the rules of spaces: not empty, bounded, printable.
        SpaceId::parse(&self.principal).map_err(|error| named(&self.principal, error))?;
        let mut spaces = Vec::with_capacity(self.spaces.len());
        for entry in self.spaces {
            let space =
                SpacePattern::parse(&entry.space).map_err(|error| named(&entry.space, error))?;
            let mut rights = Vec::with_capacity(entry.collections.len());
            for text in &entry.collections {
                let pattern = Pattern::parse(text).map_err(|error| named(text, error))?;
                rights.push(Right { pattern, write: entry.write });
            }
            spaces.push((space, rights));
        }
        Ok(Known { digest, principal: self.principal, spaces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(text: &str) -> Result<Auth, AuthError> {
        Auth::from_file(toml::from_str(text).unwrap())
    }

    fn space(name: &str) -> SpaceId {
        SpaceId::parse(name).unwrap()
    }

    const FILE: &str = "
        [[tokens]]
        token = 'secret of ada'
        principal = 'ada'
        spaces = [{ space = 'demo', collections = ['tasks/*'], write = true },
                  { space = 'team-*' }]
        [[tokens]]
        token = 'blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'
        principal = 'empty'
        spaces = [{ space = '*', write = true }]";

    #[test]
    fn tokens_grant_what_their_entry_says_and_nothing_else() {
        let auth = auth(FILE).unwrap();
        let ada = auth.grant(Some("secret of ada"), &space("demo")).unwrap();
        assert_eq!(ada.principal, "ada");
        assert_eq!(ada.rights.len(), 1);
        assert!(ada.rights[0].write);
        let team = auth.grant(Some("secret of ada"), &space("team-7")).unwrap();
        assert!(!team.rights[0].write);
        assert_eq!(auth.grant(Some("secret of ada"), &space("other")), Err(ByeCode::NoSpace));
        assert_eq!(auth.grant(Some("secret of eve"), &space("demo")), Err(ByeCode::Unauthorized));
        assert_eq!(auth.grant(None, &space("demo")), Err(ByeCode::Unauthorized));
    }

    #[test]
    fn a_token_given_as_its_digest_is_known_by_the_token() {
        // The digest in the file is that of the empty string.
        let granted = auth(FILE).unwrap().grant(Some(""), &space("anything")).unwrap();
        assert_eq!(granted.principal, "empty");
    }

    #[test]
    fn entries_that_could_not_be_meant_are_refused() {
        let entry = |token: &str, space: &str| {
            format!("[[tokens]]\ntoken='{token}'\nprincipal='p'\nspaces=[{{space='{space}'}}]\n")
        };
        assert!(matches!(auth(&entry("", "s")), Err(AuthError::Token { number: 1, .. })));
        assert!(matches!(auth(&entry("blake3:12", "s")), Err(AuthError::Token { .. })));
        assert!(matches!(auth(&entry("t", "a//b")), Err(AuthError::Name { .. })));
        let twice = entry("t", "s") + &entry("t", "s");
        assert!(matches!(auth(&twice), Err(AuthError::Twice { number: 2 })));
    }
}
