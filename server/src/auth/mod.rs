//! Who may do what: from a token and a space to a grant, and how long that holds.
//!
//! Invariant: a space that nobody may use and one that does not exist look the same, and so do all tokens that are
//! not good. What let a session in is looked at again when it ends, and when what it rests on changes. Absent:
//! sessions, spaces that exist.

mod claims;
mod jwks;
mod jwt;
mod keyring;
mod keys;
mod moment;
mod rights;
mod settings;
mod signature;
mod tokens;

pub(crate) use keyring::{Keyring, KeyringError};
pub use keys::KeyError;
pub(crate) use moment::parse_end;
pub(crate) use rights::SpacePattern;
pub use rights::{BadName, SpaceGrant, TemplateError};
pub use settings::{JwtConfig, JwtSettings, JwtSettingsError};

use crate::{
    clock,
    config::Config,
    watched::{Unreadable, Watched},
};
use jwt::Jwt;
use rejoin_core::{
    id::{Pattern, SpaceId},
    protocol::{
        host::Grant,
        limits::TOKEN_BYTES_MAX,
        message::{ByeCode, Right},
    },
    time::WallMillis,
};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokens::Tokens;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

/// As whom everyone counts where no tokens are asked for.
const EVERYONE: &str = "anyone";
/// How soon a change of a file is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why what access rests on cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The file of tokens is not TOML of the expected form.
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
    /// A principal is empty, too long, or has a control character.
    #[error("the principal of token {number} of the file is not 1 to 512 printable bytes")]
    Principal {
        /// Counted from 1.
        number: usize,
    },
    /// A date without its time or offset, or before 1970.
    #[error(
        "entry {number} of the file needs a date with time and offset, as 2030-01-31T12:00:00Z"
    )]
    Moment {
        /// Counted from 1.
        number: usize,
    },
    /// A space or collection is not a name.
    #[error("token {number} of the file: {source}")]
    Name {
        /// Counted from 1.
        number: usize,
        /// Which name, and why.
        source: BadName,
    },
    /// A file of keys cannot be used.
    #[error("{path}: {source}")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A template of the settings cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) code: ByeCode,
    pub(crate) reason: &'static str,
}

impl Denial {
    /// A token is missing or not good: which of these, nobody is told.
    const TOKEN: Self = Self { code: ByeCode::Unauthorized, reason: "the token is not accepted" };
    const EXPIRED: Self = Self { code: ByeCode::Unauthorized, reason: "the token has expired" };
    const REVOKED: Self = Self { code: ByeCode::Unauthorized, reason: "the token was revoked" };
    /// The words of the engine for a part of a space.
    pub(crate) const SPACE: Self =
        Self { code: ByeCode::NoSpace, reason: "no such space, or no right to it" };
    const LATER: Self = Self { code: ByeCode::Busy, reason: "tokens cannot be checked just now" };
}

/// Who was let in, and by what.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) grant: Grant,
    pub(crate) pass: Pass,
}

/// By what a session was let in.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    credential: Credential,
    until: Option<WallMillis>,
}

#[derive(Debug, Clone)]
enum Credential {
    /// None is asked for.
    Nothing,
    /// A token of the file.
    Token(blake3::Hash),
    /// A JWT.
    Jwt { key: blake3::Hash, principal: String, issued: Option<WallMillis> },
}

impl Pass {
    /// Whether its principal is somebody, and not everyone.
    pub(crate) const fn names_somebody(&self) -> bool {
        !matches!(self.credential, Credential::Nothing)
    }

    /// Whether it ends by itself.
    pub(crate) const fn ends(&self) -> bool {
        self.until.is_some()
    }

    /// It was looked at again, and ends then.
    pub(crate) const fn renewed(&mut self, until: Option<WallMillis>) {
        self.until = until;
    }
}

/// What a pass is worth now.
#[derive(Debug)]
pub(crate) struct Renewed {
    /// What it grants, where that may have changed.
    pub(crate) grant: Option<Grant>,
    pub(crate) until: Option<WallMillis>,
}

/// How principals are told.
pub(crate) struct Auth {
    kind: Kind,
    changed: watch::Sender<()>,
}

enum Kind {
    /// Everyone may read and write everything.
    Everyone,
    /// Whoever shows one of these.
    Bearers { tokens: Option<Arc<Watched<Tokens, AuthError>>>, jwt: Option<Arc<Jwt>> },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Everyone => "Everyone",
            Kind::Bearers { .. } => "Bearers",
        })
    }
}

impl Auth {
    fn new(kind: Kind) -> Self {
        Self { kind, changed: watch::Sender::new(()) }
    }

    /// Everyone is let in.
    #[cfg(test)]
    pub(crate) fn everyone() -> Self {
        Self::new(Kind::Everyone)
    }

    /// Reads the files that the configuration names, and fetches the keys that it names.
    pub(crate) async fn load(config: &Config) -> Result<Self, AuthError> {
        let tokens = config.tokens.as_deref().map(|path| Watched::open(path, Tokens::read));
        let tokens = tokens.transpose()?.map(Arc::new);
        let jwt = match &config.jwt {
            Some(jwt) => Some(Arc::new(Jwt::open(jwt, &config.data).await?)),
            None => None,
        };
        Ok(Self::new(match (tokens, jwt) {
            (None, None) => Kind::Everyone,
            (tokens, jwt) => Kind::Bearers { tokens, jwt },
        }))
    }

    /// Looks whether the bearer of `token` may do anything in `space`. A JWT by an unknown key may take some
    /// seconds: the issuer is asked for it.
    pub(crate) async fn admit(
        &self,
        token: Option<&str>,
        space: &SpaceId,
    ) -> Result<Admission, Denial> {
        let (tokens, jwt) = match &self.kind {
            Kind::Everyone => {
                let right = Right { pattern: Pattern::All, write: true };
                let grant = Grant { principal: EVERYONE.to_owned(), rights: vec![right] };
                return Ok(Admission {
                    grant,
                    pass: Pass { credential: Credential::Nothing, until: None },
                });
            }
            Kind::Bearers { tokens, jwt } => (tokens.as_ref().map(|held| held.get()), jwt),
        };
        let token = token.filter(|token| token.len() <= TOKEN_BYTES_MAX).ok_or(Denial::TOKEN)?;
        let tokens = tokens.unwrap_or_default();
        let (principal, rights, pass) = if let Some(known) = tokens.find(token) {
            let pass = Pass { credential: Credential::Token(known.digest), until: known.expires };
            (known.principal.clone(), known.rights(space), pass)
        } else if let Some(jwt) = jwt {
            let verified = jwt.verify(token).await.map_err(|fault| {
                info!(reason = %fault, "a JWT was refused");
                if fault.code() == ByeCode::Busy { Denial::LATER } else { Denial::TOKEN }
            })?;
            let rights = jwt.rights(&verified.claims, space);
            let issued = verified.claims.time("iat").ok().flatten().map(WallMillis);
            let principal = verified.principal.clone();
            let credential = Credential::Jwt { key: verified.print, principal, issued };
            let pass = Pass { credential, until: Some(verified.until) };
            (verified.principal, rights, pass)
        } else {
            return Err(Denial::TOKEN);
        };
        // Only who is let in at all learns where he may do something.
        let is_bad = |denial: &Denial| denial.code == ByeCode::Unauthorized;
        self.renew(&pass, space)
            .map_err(|denial| if is_bad(&denial) { Denial::TOKEN } else { denial })?;
        if rights.is_empty() {
            return Err(Denial::SPACE);
        }
        Ok(Admission { grant: Grant { principal, rights }, pass })
    }

    /// Whether a session that was let in may go on, and as what. Cheap.
    pub(crate) fn renew(&self, pass: &Pass, space: &SpaceId) -> Result<Renewed, Denial> {
        let Kind::Bearers { tokens, jwt } = &self.kind else {
            return Ok(Renewed { grant: None, until: None });
        };
        let tokens = tokens.as_ref().map(|held| held.get()).unwrap_or_default();
        let (grant, until) = match &pass.credential {
            Credential::Nothing => (None, None),
            Credential::Token(digest) => {
                let known = tokens.of_digest(digest).ok_or(Denial::REVOKED)?;
                let (principal, rights) = (known.principal.clone(), known.rights(space));
                (Some(Grant { principal, rights }), known.expires)
            }
            Credential::Jwt { key, principal, issued } => {
                let is_known = jwt.as_ref().is_some_and(|jwt| jwt.knows(key));
                if !is_known || tokens.has_revoked(principal, *issued) {
                    return Err(Denial::REVOKED);
                }
                (None, pass.until)
            }
        };
        if until.is_some_and(|until| clock::read().wall >= until) {
            return Err(Denial::EXPIRED);
        }
        if grant.as_ref().is_some_and(|grant| grant.rights.is_empty()) {
            return Err(Denial::SPACE);
        }
        Ok(Renewed { grant, until })
    }

    /// Resolves whenever what passes rest on has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reads the files again, at once.
    #[cfg(test)]
    pub(crate) fn look(&self) -> bool {
        let Kind::Bearers { tokens, jwt } = &self.kind else {
            return false;
        };
        let changed = look(tokens.as_deref(), jwt.as_deref());
        self.changed.send_if_modified(|()| changed)
    }

    /// Looks after changes until the process ends.
    pub(crate) async fn keep(&self, mut stopping: watch::Receiver<bool>) {
        let Kind::Bearers { tokens, jwt } = &self.kind else {
            return;
        };
        let files = async {
            let mut times = interval(LOOK_EVERY);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                times.tick().await;
                let (tokens, jwt) = (tokens.clone(), jwt.clone());
                let looked = spawn_blocking(move || look(tokens.as_deref(), jwt.as_deref()));
                // A panic is reported by its own thread.
                if looked.await.unwrap_or(false) {
                    info!("access has changed");
                    self.changed.send_replace(());
                }
            }
        };
        let published = async {
            match jwt.as_ref().and_then(|jwt| jwt.jwks.as_ref()) {
                Some(jwks) => jwks.keep(&self.changed).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = files => {}
            () = published => {}
            // An error means that nobody is left to stop it.
            _ = stopping.wait_for(|stops| *stops) => {}
        }
    }
}

fn look(tokens: Option<&Watched<Tokens, AuthError>>, jwt: Option<&Jwt>) -> bool {
    let complain = |error| error!(%error, "what was read before holds on");
    let tokens = tokens.is_some_and(|tokens| {
        tokens.look().unwrap_or_else(|error| {
            complain(error);
            false
        })
    });
    let keys = jwt.is_some_and(|jwt| jwt.look(complain));
    tokens | keys
}
