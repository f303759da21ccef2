//! `token create`, `list` and `revoke`: the file of tokens, which a server that runs reads again by itself.

use super::{CommandError, say};
use crate::{
    SpaceGrant,
    auth::{Keyring, parse_end},
    clock,
};
use clap::Args;
use rejoin_core::time::WallMillis;
use std::path::Path;

/// What a new token is for.
#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// As whom its bearer counts: rights, replicas and presence are this principal's.
    #[arg(id = "token-principal", long = "principal", value_name = "NAME")]
    principal: String,
    /// Space that it opens, may be repeated: a name, *, or the beginning of names before a *.
    #[arg(id = "token-space", long = "space", value_name = "SPACE", required = true)]
    spaces: Vec<String>,
    /// Collection of these, may be repeated: a name, or a name and all below it, as tasks/* [default: all].
    #[arg(id = "token-collection", long = "collection", value_name = "COLLECTION")]
    collections: Vec<String>,
    /// Lets it write there, too.
    #[arg(id = "token-write", long = "write")]
    write: bool,
    /// When it ends: so long from now, as 90d, or 2030-01-31T12:00:00Z [default: when it is revoked].
    #[arg(id = "token-expires", long = "expires", value_name = "WHEN", value_parser = parse_end)]
    expires: Option<WallMillis>,
}

/// Whose access is taken away.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Revoked {
    /// The token: its name as `list` shows it, or itself.
    #[arg(id = "token-name", value_name = "TOKEN")]
    token: Option<String>,
    /// All JWTs of a principal that were issued until now.
    #[arg(id = "token-jwts-of", long = "jwts-of", value_name = "PRINCIPAL")]
    jwts_of: Option<String>,
}

/// Makes a token and prints it.
pub(crate) fn create(file: &Path, new: &NewToken) -> Result<(), CommandError> {
    let all = vec!["*".to_owned()];
    let collections = if new.collections.is_empty() { &all } else { &new.collections };
    let grant = |space: &String| SpaceGrant {
        space: space.clone(),
        collections: collections.clone(),
        write: new.write,
    };
    let grants: Vec<SpaceGrant> = new.spaces.iter().map(grant).collect();
    let token = Keyring::open(file)?.create(&new.principal, &grants, new.expires)?;
    say(format_args!("{token}"))
}

/// Prints a line for each token.
pub(crate) fn list(file: &Path) -> Result<(), CommandError> {
    Keyring::open(file)?.list().iter().try_for_each(|listed| say(format_args!("{listed}")))
}

pub(crate) fn revoke(file: &Path, revoked: &Revoked) -> Result<(), CommandError> {
    let mut keyring = Keyring::open(file)?;
    if let Some(name) = &revoked.token {
        let listed = keyring.revoke(name)?;
        return say(format_args!("revoked: {listed}"));
    }
    let principal = revoked.jwts_of.as_deref().unwrap_or_default();
    // Issuers say seconds, rounded down: those of this very one are void, too.
    let upto = WallMillis(clock::read().wall.0.saturating_add(999));
    keyring.revoke_jwts(principal, upto)?;
    say(format_args!("revoked: all JWTs of {principal} that were issued until now"))
}
