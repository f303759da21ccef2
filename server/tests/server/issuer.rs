//! Who signs JWTs: with keys of each algorithm, rightly and wrongly.

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const ISSUER: &str = "https://id.example/";
pub(crate) const AUDIENCE: &str = "notes";
pub(crate) const SECRET: &str = "a secret of thirty-two bytes, 32.";

/// The keys of one issuer.
pub(crate) struct Issuer {
    random: SystemRandom,
    pub(crate) rsa: RsaKeyPair,
    pub(crate) ec: EcdsaKeyPair,
    pub(crate) ed: Ed25519KeyPair,
}

impl Issuer {
    /// New keys, but for that of RSA: it takes long to make one.
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let rsa = include_str!("rsa-of-tests-alone.pem");
        let rsa: String = rsa.lines().filter(|line| !line.starts_with('-')).collect();
        Self {
            rsa: RsaKeyPair::from_pkcs8(&STANDARD.decode(rsa).unwrap()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            random,
        }
    }

    /// A signature over what stands before it.
    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        match algorithm {
            "HS256" => sign_with_secret(SECRET.as_bytes(), message),
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                let signed =
                    self.rsa.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature);
                signed.unwrap();
                signature
            }
            "ES256" => self.ec.sign(&self.random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("{other}"),
        }
    }

    pub(crate) fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.token_with(&json!({ "alg": algorithm, "typ": "JWT" }), claims)
    }

    /// A token with any head; signed by the algorithm that it names.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().unwrap();
        let message = message(&header.to_string(), &claims.to_string());
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", base64url(&signature))
    }

    /// The public keys as PEM blocks.
    pub(crate) fn pem(&self) -> String {
        let block = |name: &str, bytes: &[u8]| {
            format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", STANDARD.encode(bytes))
        };
        let ec = [hex("3059301306072a8648ce3d020106082a8648ce3d030107034200"), self.point()];
        let ed = [hex("302a300506032b6570032100"), self.ed.public_key().as_ref().to_vec()];
        let rsa = self.rsa.public().as_ref();
        let whole = [hex("30820122300d06092a864886f70d01010105000382010f00"), rsa.to_vec()];
        // In either of its two forms.
        block("RSA PUBLIC KEY", rsa)
            + &block("PUBLIC KEY", &whole.concat())
            + &block("PUBLIC KEY", &ec.concat())
            + &block("PUBLIC KEY", &ed.concat())
    }

    fn point(&self) -> Vec<u8> {
        self.ec.public_key().as_ref().to_vec()
    }

    /// The public keys as a set, each named by its algorithm and `suffix`.
    pub(crate) fn jwks(&self, suffix: &str) -> Value {
        let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let point = self.point();
        let ed = self.ed.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "use": "sig", "alg": "RS256", "kid": format!("RS256{suffix}"),
              "n": base64url(&rsa.n), "e": base64url(&rsa.e) },
            { "kty": "EC", "crv": "P-256", "kid": format!("ES256{suffix}"),
              "x": base64url(&point[1..33]), "y": base64url(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": format!("EdDSA{suffix}"), "x": base64url(ed) },
            { "kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "not for signatures",
              "n": base64url(&rsa.n), "e": base64url(&rsa.e) },
        ]})
    }
}

/// What is signed of a token.
pub(crate) fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()))
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn sign_with_secret(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn hex(digits: &str) -> Vec<u8> {
    let bytes = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Seconds since 1970, and some more.
pub(crate) fn now_and(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// Claims of a token that is good for ten minutes.
pub(crate) fn claims(subject: &str) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now_and(0), "exp": now_and(600) })
}

/// The same with one claim changed, or without it.
pub(crate) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims("ada");
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}
