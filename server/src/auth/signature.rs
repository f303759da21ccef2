//! Signatures of JWTs, checked by `ring`: the library that speaks TLS for the native client.
//!
//! Invariant: a key checks signatures of its own algorithm and no other. Absent: signing.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature,
};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // Asked for only where keys are turned into JWKs.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the library check signatures with `ring`, in this whole process.
pub(super) fn install() {
    // Whoever was first has installed the same one, or has its own reasons.
    PROVIDER.install_default().ok();
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here is not taken")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let (family, algorithm) = match algorithm {
        Algorithm::HS256 => (AlgorithmFamily::Hmac, Known::Hs256),
        Algorithm::RS256 => (AlgorithmFamily::Rsa, Known::Rs256),
        Algorithm::ES256 => (AlgorithmFamily::Ec, Known::Es256),
        Algorithm::EdDSA => (AlgorithmFamily::Ed, Known::EdDsa),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    if key.family() != family {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(Checks { algorithm, key: key.clone() }))
}

#[derive(Clone, Copy)]
enum Known {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

struct Checks {
    algorithm: Known,
    key: DecodingKey,
}

impl JwtVerifier for Checks {
    fn algorithm(&self) -> Algorithm {
        match self.algorithm {
            Known::Hs256 => Algorithm::HS256,
            Known::Rs256 => Algorithm::RS256,
            Known::Es256 => Algorithm::ES256,
            Known::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl signature::Verifier<Vec<u8>> for Checks {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let public =
            |algorithm: &'static dyn VerificationAlgorithm| match self.key.kind() {
                DecodingKeyKind::SecretOrDer(key) => {
                    UnparsedPublicKey::new(algorithm, key).verify(message, signature)
                }
                DecodingKeyKind::RsaModulusExponent { n, e } => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            };
        let checked = match (self.algorithm, self.key.kind()) {
            (Known::Hs256, DecodingKeyKind::SecretOrDer(secret)) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::verify(&key, message, signature)
            }
            (Known::Rs256, _) => public(&RSA_PKCS1_2048_8192_SHA256),
            (Known::Es256, DecodingKeyKind::SecretOrDer(_)) => public(&ECDSA_P256_SHA256_FIXED),
            (Known::EdDsa, DecodingKeyKind::SecretOrDer(_)) => public(&ED25519),
            (
                Known::Hs256 | Known::Es256 | Known::EdDsa,
                DecodingKeyKind::RsaModulusExponent { .. },
            ) => Err(ring::error::Unspecified),
        };
        checked.map_err(|_unspecified| signature::Error::new())
    }
}
