//! The keys that JWTs may be signed with: from PEM, from JWKs, or a secret.
//!
//! Invariant: each key has one algorithm, given by what the key is and never by what a token says, so a
//! public key is never taken for a secret. Absent: where keys come from.

use blake3::{Hash, Hasher};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};

/// Shortest secret: what the algorithm's own hash has.
pub(super) const SECRET_BYTES_MIN: usize = 32;
/// Most keys of one source: a token without a key's name is tried with each.
pub(super) const KEYS_MAX: usize = 64;
/// 2048 bits, as the modulus of an RSA key.
const MODULUS_BYTES_MIN: usize = 256;
/// An uncompressed point of P-256.
const POINT_BYTES: usize = 65;

/// Why keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither PEM nor JSON of keys.
    #[error("it holds neither PEM blocks nor a set of JWKs")]
    Form,
    /// A private key, which only the issuer should have.
    #[error("it holds a private key: give the public one, and take this one away from here")]
    Private,
    /// A public key that none of the algorithms uses.
    #[error("key {number} is none for RS256 (2048 bits or more), ES256 or EdDSA (Ed25519)")]
    Unusable {
        /// Counted from 1.
        number: usize,
    },
    /// No key that could be used.
    #[error("it holds no key for HS256, RS256, ES256 or EdDSA")]
    Empty,
    /// More keys than are tried.
    #[error("it holds {got} keys, at most {max} are used")]
    TooMany {
        /// How many.
        got: usize,
        /// Most.
        max: usize,
    },
    /// Too short a secret, or one that is a key.
    #[error("a secret has at least {min} bytes, and is neither PEM nor JSON")]
    Secret {
        /// Shortest.
        min: usize,
    },
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// Its name, by which tokens may ask for it.
    pub(super) name: Option<String>,
    pub(super) key: DecodingKey,
    /// Tells whether two are the same, and nothing of a secret.
    pub(super) print: Hash,
}

impl Key {
    fn new(algorithm: Algorithm, name: Option<String>, key: DecodingKey) -> Option<Self> {
        let mut hasher = Hasher::new_derive_key("rejoin.jwt-key.v1");
        match (algorithm, key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let modulus = n.iter().skip_while(|byte| **byte == 0).count();
                if modulus < MODULUS_BYTES_MIN || e.is_empty() {
                    return None;
                }
                hasher.update(n).update(e);
            }
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der))
                if der.len() > MODULUS_BYTES_MIN =>
            {
                hasher.update(der);
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point))
                if point.len() == POINT_BYTES =>
            {
                hasher.update(point);
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) if point.len() == 32 => {
                hasher.update(point);
            }
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret))
                if secret.len() >= SECRET_BYTES_MIN =>
            {
                hasher.update(secret);
            }
            _ => return None,
        }
        Some(Self { algorithm, name, key, print: hasher.finalize() })
    }
}

/// Reads a file of keys: PEM blocks of public keys, one JWK, or a set of them.
pub(super) fn from_file(text: &str) -> Result<Vec<Key>, KeyError> {
    let keys = if text.contains("-----BEGIN") { from_pem(text)? } else { from_json(text, true)? };
    checked(keys)
}

/// Reads what a URL gave: a set of JWKs. What everybody can read there is no secret and counts as none.
pub(super) fn from_url(text: &str) -> Result<Vec<Key>, KeyError> {
    checked(from_json(text, false)?)
}

/// A secret as it stands in a file, without the end of its line.
pub(super) fn from_secret(text: &str) -> Result<Vec<Key>, KeyError> {
    let text = text.trim_end_matches(['\r', '\n']);
    let is_key = text.contains("-----BEGIN") || text.trim_start().starts_with(['{', '[']);
    let key = (!is_key)
        .then(|| Key::new(Algorithm::HS256, None, DecodingKey::from_secret(text.as_bytes())))
        .flatten();
    Ok(vec![key.ok_or(KeyError::Secret { min: SECRET_BYTES_MIN })?])
}

fn checked(keys: Vec<Key>) -> Result<Vec<Key>, KeyError> {
    match keys.len() {
        0 => Err(KeyError::Empty),
        got if got > KEYS_MAX => Err(KeyError::TooMany { got, max: KEYS_MAX }),
        _ => Ok(keys),
    }
}

fn from_pem(text: &str) -> Result<Vec<Key>, KeyError> {
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    let mut keys = Vec::new();
    for (index, block) in text.split("-----BEGIN").skip(1).enumerate() {
        let block = format!("-----BEGIN{block}");
        let bytes = block.as_bytes();
        let key = DecodingKey::from_rsa_pem(bytes)
            .map(|key| (Algorithm::RS256, key))
            .or_else(|_| DecodingKey::from_ec_pem(bytes).map(|key| (Algorithm::ES256, key)))
            .or_else(|_| DecodingKey::from_ed_pem(bytes).map(|key| (Algorithm::EdDSA, key)));
        let key = key.ok().and_then(|(algorithm, key)| Key::new(algorithm, None, key));
        keys.push(key.ok_or(KeyError::Unusable { number: index + 1 })?);
    }
    Ok(keys)
}

/// Keys of other algorithms, or for other uses, are passed over: issuers publish them all in one set.
fn from_json(text: &str, secrets: bool) -> Result<Vec<Key>, KeyError> {
    let set = serde_json::from_str::<JwkSet>(text).map(|set| set.keys);
    let one = || serde_json::from_str::<Jwk>(text).map(|one| vec![one]);
    let Ok(found) = set.or_else(|_| one()) else {
        return Err(KeyError::Form);
    };
    Ok(found.iter().filter_map(|jwk| from_jwk(jwk, secrets)).collect())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here is not used")]
fn from_jwk(jwk: &Jwk, secrets: bool) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::OctetKey(_) if secrets => Algorithm::HS256,
        _ => return None,
    };
    let meant = match jwk.common.key_algorithm {
        None => true,
        Some(KeyAlgorithm::RS256) => algorithm == Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => algorithm == Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => algorithm == Algorithm::EdDSA,
        Some(KeyAlgorithm::HS256) => algorithm == Algorithm::HS256,
        Some(_) => false,
    };
    let signs = matches!(&jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !meant || !signs {
        return None;
    }
    Key::new(algorithm, jwk.common.key_id.clone(), DecodingKey::from_jwk(jwk).ok()?)
}
