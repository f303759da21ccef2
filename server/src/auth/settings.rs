//! What JWTs must be, as flags, environment and file say it.

use super::rights::{SpaceGrant, Template, TemplateError};
use std::{path::PathBuf, time::Duration};

/// How far clocks may differ, at most: a session ends within 30 s of its token's end, this included.
const LEEWAY_SECONDS_MAX: u32 = 20;
const LEEWAY_SECONDS: u32 = 10;

/// Settings of `--auth jwt`; in the file the table `[jwt]`, without the names' beginning.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct JwtSettings {
    /// Public keys that JWTs may be signed with: PEM (RSA, P-256, Ed25519) or a JWK set. Read again when it changes.
    #[arg(id = "jwt_keys", long = "jwt-keys", env = "REJOIN_SERVER_JWT_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Secret that JWTs may be signed with (HS256), at least 32 bytes. Read again when it changes.
    #[arg(
        id = "jwt_secret",
        long = "jwt-secret",
        env = "REJOIN_SERVER_JWT_SECRET",
        value_name = "FILE"
    )]
    pub secret: Option<PathBuf>,
    /// Where the issuer publishes its JWK set: https, or http on this machine.
    #[arg(id = "jwt_jwks", long = "jwt-jwks", env = "REJOIN_SERVER_JWT_JWKS", value_name = "URL")]
    pub jwks: Option<String>,
    /// Issuer that JWTs must name (iss).
    #[arg(
        id = "jwt_issuer",
        long = "jwt-issuer",
        env = "REJOIN_SERVER_JWT_ISSUER",
        value_name = "NAME"
    )]
    pub issuer: Option<String>,
    /// Audience that JWTs must be for (aud), may be repeated: one of them.
    #[arg(
        id = "jwt_audience",
        long = "jwt-audience",
        env = "REJOIN_SERVER_JWT_AUDIENCE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub audience: Vec<String>,
    /// Seconds by which the issuer's clock may differ, at most 20 [default: 10].
    #[arg(
        id = "jwt_leeway_seconds",
        long = "jwt-leeway-seconds",
        env = "REJOIN_SERVER_JWT_LEEWAY_SECONDS",
        value_name = "SECONDS"
    )]
    pub leeway_seconds: Option<u32>,
    /// Space that the bearer of a JWT may read and write, with claims in braces as in user-{sub}; may be repeated.
    /// What the claim `rejoin` of a token grants is added.
    #[arg(
        id = "jwt_space",
        long = "jwt-space",
        env = "REJOIN_SERVER_JWT_SPACE",
        value_name = "TEMPLATE",
        value_delimiter = ','
    )]
    pub space: Vec<String>,
    /// The same with collections and without writing, as JSON: {"space": …, "collections": […], "write": …}; may be
    /// repeated. In the file a list of tables.
    #[arg(
        id = "jwt_grants",
        long = "jwt-grants",
        env = "REJOIN_SERVER_JWT_GRANTS",
        value_name = "JSON"
    )]
    pub grants: Vec<SpaceGrant>,
}

/// What JWTs must be, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// The file of public keys.
    pub keys: Option<PathBuf>,
    /// The file of the secret.
    pub secret: Option<PathBuf>,
    /// Where keys are published.
    pub jwks: Option<String>,
    /// Who signs.
    pub issuer: String,
    /// For whom, one of them.
    pub audience: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// What bearers may do, by their claims.
    pub grants: Vec<SpaceGrant>,
}

/// Why settings of JWTs do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtSettingsError {
    /// Nothing to check signatures with.
    #[error("--auth jwt needs --jwt-keys FILE, --jwt-secret FILE or --jwt-jwks URL")]
    Keys,
    /// No issuer.
    #[error("--auth jwt needs --jwt-issuer NAME: tokens of others are refused")]
    Issuer,
    /// No audience.
    #[error("--auth jwt needs --jwt-audience NAME: tokens for others are refused")]
    Audience,
    /// Settings that nothing would ask for.
    #[error("settings of JWTs are given, but --auth is not jwt")]
    Unused,
    /// A leeway beyond the limit.
    #[error("--jwt-leeway-seconds is {got}, it must be from 0 to {LEEWAY_SECONDS_MAX}")]
    Leeway {
        /// What was said.
        got: u32,
    },
    /// An address that nobody should take keys from.
    #[error("--jwt-jwks {url}: an https address is needed, or http on this machine")]
    Url {
        /// Which one.
        url: String,
    },
    /// A template that cannot be used.
    #[error("--jwt-space or a grant of JWTs: {0}")]
    Template(#[from] TemplateError),
}

impl JwtSettings {
    /// Whether nothing was said.
    pub(crate) fn refuse(self) -> Result<(), JwtSettingsError> {
        let Self { keys, secret, jwks, issuer, audience, leeway_seconds, space, grants } = self;
        let is_said = keys.or(secret).is_some()
            || jwks.or(issuer).is_some()
            || leeway_seconds.is_some()
            || !audience.is_empty()
            || !space.is_empty()
            || !grants.is_empty();
        if is_said { Err(JwtSettingsError::Unused) } else { Ok(()) }
    }

    pub(crate) fn decide(self) -> Result<JwtConfig, JwtSettingsError> {
        if self.keys.is_none() && self.secret.is_none() && self.jwks.is_none() {
            return Err(JwtSettingsError::Keys);
        }
        let said = |text: &String| !text.is_empty();
        let issuer = self.issuer.filter(said).ok_or(JwtSettingsError::Issuer)?;
        if self.audience.is_empty() || !self.audience.iter().all(said) {
            return Err(JwtSettingsError::Audience);
        }
        let leeway = self.leeway_seconds.unwrap_or(LEEWAY_SECONDS);
        if leeway > LEEWAY_SECONDS_MAX {
            return Err(JwtSettingsError::Leeway { got: leeway });
        }
        if let Some(url) = self.jwks.as_ref().filter(|url| !is_private(url)) {
            return Err(JwtSettingsError::Url { url: url.clone() });
        }
        let own = self.space.into_iter().map(|space| SpaceGrant {
            space,
            collections: vec!["*".to_owned()],
            write: true,
        });
        let grants: Vec<SpaceGrant> = own.chain(self.grants).collect();
        for grant in &grants {
            Template::parse(grant)?;
        }
        Ok(JwtConfig {
            keys: self.keys,
            secret: self.secret,
            jwks: self.jwks,
            issuer,
            audience: self.audience,
            leeway: Duration::from_secs(leeway.into()),
            grants,
        })
    }
}

/// Whether nobody between can change what comes from there.
fn is_private(url: &str) -> bool {
    let Ok(url) = url.parse::<hyper::Uri>() else {
        return false;
    };
    // A password would be shown wherever the address is.
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return false;
    }
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(host)) => !host.is_empty(),
        (Some("http"), Some(host)) => matches!(host, "127.0.0.1" | "[::1]" | "localhost"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> JwtSettings {
        JwtSettings {
            secret: Some(PathBuf::from("secret")),
            issuer: Some("https://id.example".to_owned()),
            audience: vec!["notes".to_owned()],
            ..JwtSettings::default()
        }
    }

    #[test]
    fn x10_keys_issuer_and_audience_must_be_said() {
        assert!(said().decide().is_ok());
        let refused = |change: fn(&mut JwtSettings)| {
            let mut settings = said();
            change(&mut settings);
            settings.decide().unwrap_err()
        };
        assert_eq!(refused(|said| said.secret = None), JwtSettingsError::Keys);
        assert_eq!(refused(|said| said.issuer = None), JwtSettingsError::Issuer);
        assert_eq!(refused(|said| said.issuer = Some(String::new())), JwtSettingsError::Issuer);
        assert_eq!(refused(|said| said.audience.clear()), JwtSettingsError::Audience);
        assert_eq!(refused(|said| said.audience.push(String::new())), JwtSettingsError::Audience);
        let leeway = refused(|said| said.leeway_seconds = Some(21));
        assert_eq!(leeway, JwtSettingsError::Leeway { got: 21 });
        let template = refused(|said| said.space.push("user-{sub".to_owned()));
        assert!(matches!(template, JwtSettingsError::Template(_)));
    }

    #[test]
    fn x10_keys_are_taken_over_no_line_that_others_could_change() {
        for (url, is_taken) in [
            ("https://id.example/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://[::1]/keys", true),
            ("http://localhost/keys", true),
            ("http://id.example/keys", false),
            ("http://127.0.0.1.id.example/keys", false),
            ("file:///etc/keys", false),
            ("https://name:password@id.example/keys", false),
            ("id.example/keys", false),
            ("", false),
        ] {
            let decided = JwtSettings { jwks: Some(url.to_owned()), ..said() }.decide();
            assert_eq!(decided.is_ok(), is_taken, "{url}");
        }
    }

    #[test]
    fn settings_of_jwts_without_jwts_are_refused() {
        assert_eq!(said().refuse(), Err(JwtSettingsError::Unused));
        assert_eq!(JwtSettings::default().refuse(), Ok(()));
        let space = JwtSettings { space: vec!["a".to_owned()], ..JwtSettings::default() };
        assert_eq!(space.refuse(), Err(JwtSettingsError::Unused));
    }
}
