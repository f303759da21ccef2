//! JSON Web Tokens: from a token to a principal and what it may do.
//!
//! What a token must be: signed by a key that is known, by that key's algorithm (RFC 7515, RFC 8725), without
//! extensions that it calls critical, of the expected issuer, for the expected audience, not before its time
//! and not behind it. Absent: which sessions a token opened.

use super::{
    AuthError,
    claims::Claims,
    jwks::Jwks,
    keys::{self, Key, KeyError},
    rights::{Rule, SpaceGrant, Template, rights_of},
    settings::JwtConfig,
    signature,
};
use crate::{clock, watched::Watched};
use jsonwebtoken::{
    Header, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use rejoin_core::{
    id::{RecordId, SpaceId},
    protocol::message::{ByeCode, Right},
    time::WallMillis,
};
use serde::Deserialize;
use std::{path::Path, sync::Arc};

/// The claim with rights of a token's own.
const CLAIM: &str = "rejoin";

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is no JWT, or of an algorithm that is not taken")]
    Malformed,
    #[error("it calls an extension critical")]
    Critical,
    #[error("no key of its name and algorithm is known")]
    Key,
    #[error("its signature is none of a known key")]
    Signature,
    #[error("its issuer is another")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it does not say until when it is good")]
    Endless,
    #[error("it has expired")]
    Expired,
    #[error("it is not good yet")]
    Early,
    #[error("it does not say whose it is, in a name of 1 to 512 bytes")]
    Subject,
    #[error("the issuer's keys cannot be fetched")]
    Unreached,
}

impl Fault {
    /// What the bearer is told. Who comes with a token that may be good comes again by itself.
    pub(super) fn code(self) -> ByeCode {
        if self == Self::Unreached { ByeCode::Busy } else { ByeCode::Unauthorized }
    }
}

/// What a good token says.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) principal: String,
    pub(super) claims: Claims,
    /// The key that signed it.
    pub(super) print: blake3::Hash,
    /// When it ends, the leeway included.
    pub(super) until: WallMillis,
}

/// Checks tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    config: JwtConfig,
    templates: Vec<Template>,
    files: Vec<Watched<Vec<Key>, AuthError>>,
    pub(super) jwks: Option<Jwks>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    spaces: Vec<SpaceGrant>,
}

impl Jwt {
    /// Reads the files of keys; fetches what is published, and keeps it in `data`.
    pub(super) async fn open(config: &JwtConfig, data: &Path) -> Result<Self, AuthError> {
        signature::install();
        let templates = config.grants.iter().map(Template::parse);
        let templates = templates.collect::<Result<_, _>>()?;
        let public = config.keys.iter().map(|path| Watched::open(path, read_keys));
        let secret = config.secret.iter().map(|path| Watched::open(path, read_secret));
        let files = public.chain(secret).collect::<Result<_, _>>()?;
        let jwks = match &config.jwks {
            Some(url) => Some(Jwks::open(url, data).await),
            None => None,
        };
        Ok(Self { config: config.clone(), templates, files, jwks })
    }

    /// Checks a token. Asks the issuer for its keys where it names one that is not known.
    pub(super) async fn verify(&self, token: &str) -> Result<Verified, Fault> {
        let header = decode_header(token).map_err(|_unreadable| Fault::Malformed)?;
        if header.crit.is_some() {
            return Err(Fault::Critical);
        }
        let mut checked = self.check(token, &header);
        if let (Some(jwks), Err(Fault::Key | Fault::Signature)) = (&self.jwks, &checked)
            && !jwks.keys().iter().any(|key| key.may_have_signed(&header))
        {
            let fetched = jwks.fetch().await;
            checked = self.check(token, &header);
            if checked.is_err() && fetched.is_err() {
                return Err(Fault::Unreached);
            }
        }
        let (claims, print) = checked?;
        self.admit(claims, print, clock::read().wall)
    }

    fn keys(&self) -> impl Iterator<Item = Arc<Vec<Key>>> {
        let fetched = self.jwks.iter().map(Jwks::keys);
        self.files.iter().map(Watched::get).chain(fetched)
    }

    fn check(&self, token: &str, header: &Header) -> Result<(Claims, blake3::Hash), Fault> {
        let mut fault = Fault::Key;
        for keys in self.keys() {
            for key in keys.iter().filter(|key| key.may_have_signed(header)) {
                let mut validation = Validation::new(key.algorithm);
                // What it says is looked at below.
                validation.validate_exp = false;
                validation.validate_aud = false;
                validation.required_spec_claims.clear();
                match decode::<Claims>(token, &key.key, &validation) {
                    Ok(decoded) => return Ok((decoded.claims, key.print)),
                    Err(error) => fault = fault_of(&error),
                }
            }
        }
        Err(fault)
    }

    /// What is left to look at once the signature is good.
    fn admit(
        &self,
        claims: Claims,
        print: blake3::Hash,
        now: WallMillis,
    ) -> Result<Verified, Fault> {
        let leeway = clock::millis(self.config.leeway);
        if claims.text("iss") != Some(&self.config.issuer) {
            return Err(Fault::Issuer);
        }
        if !self.config.audience.iter().any(|audience| claims.has("aud", audience)) {
            return Err(Fault::Audience);
        }
        let ends = claims.time("exp").ok().flatten().ok_or(Fault::Endless)?;
        let until = WallMillis(ends.saturating_add(leeway));
        if now >= until {
            return Err(Fault::Expired);
        }
        let begins = claims.time("nbf").map_err(|_no_time| Fault::Early)?;
        if begins.is_some_and(|begins| begins > now.0.saturating_add(leeway)) {
            return Err(Fault::Early);
        }
        let principal = claims.text("sub").filter(|name| is_principal(name));
        let principal = principal.ok_or(Fault::Subject)?.to_owned();
        Ok(Verified { principal, claims, print, until })
    }

    /// What claims allow in a space: by templates, and by themselves. What is no name grants nothing.
    pub(super) fn rights(&self, claims: &Claims, space: &SpaceId) -> Vec<Right> {
        let mut rights: Vec<Right> =
            self.templates.iter().flat_map(|template| template.rights(space, claims)).collect();
        let own = claims.get(CLAIM).and_then(|claim| Granted::deserialize(claim).ok());
        let own = own.into_iter().flat_map(|granted| granted.spaces);
        let rules: Vec<Rule> = own.filter_map(|entry| Rule::parse(&entry).ok()).collect();
        for right in rights_of(&rules, space) {
            if !rights.contains(&right) {
                rights.push(right);
            }
        }
        rights
    }

    /// Whether a key is still among those that are known.
    pub(super) fn knows(&self, print: &blake3::Hash) -> bool {
        self.keys().any(|keys| keys.iter().any(|key| key.print == *print))
    }

    /// Reads the files of keys again: whether one has changed. Blocks.
    pub(super) fn look(&self, complain: impl Fn(AuthError)) -> bool {
        let looked = self.files.iter().map(|file| {
            file.look().unwrap_or_else(|error| {
                complain(error);
                false
            })
        });
        looked.fold(false, |changed, is_new| changed | is_new)
    }
}

/// Principals are what records' ids may be: not empty, bounded, printable.
pub(super) fn is_principal(name: &str) -> bool {
    RecordId::parse(name).is_ok()
}

fn fault_of(error: &Error) -> Fault {
    if matches!(error.kind(), ErrorKind::InvalidSignature) {
        Fault::Signature
    } else {
        Fault::Malformed
    }
}

impl Key {
    /// By algorithm and by name; a key or a token without a name fits any.
    fn may_have_signed(&self, header: &Header) -> bool {
        let named = match (&self.name, &header.kid) {
            (Some(own), Some(asked)) => own == asked,
            (None, _) | (_, None) => true,
        };
        named && self.algorithm == header.alg
    }
}

fn read_keys(path: &Path, bytes: &[u8]) -> Result<Vec<Key>, AuthError> {
    with_text(path, bytes, keys::from_file)
}

fn read_secret(path: &Path, bytes: &[u8]) -> Result<Vec<Key>, AuthError> {
    with_text(path, bytes, keys::from_secret)
}

fn with_text(
    path: &Path,
    bytes: &[u8],
    read: fn(&str) -> Result<Vec<Key>, KeyError>,
) -> Result<Vec<Key>, AuthError> {
    let text = std::str::from_utf8(bytes).map_err(|_not_text| KeyError::Form);
    text.and_then(read).map_err(|source| AuthError::Keys { path: path.to_owned(), source })
}
