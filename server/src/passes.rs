//! By what each peer of a space was let in, and whether that still holds.
//!
//! Invariant: a pass that ends, or is revoked, is found out within [`LOOK_EVERY`] of it. Absent: what becomes of the
//! peer.

use crate::{
    auth::{Auth, Denial, Pass},
    clock,
};
use rejoin_core::{
    id::SpaceId,
    protocol::host::{Grant, PeerId},
    time::{Millis, MonoMillis},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// How soon a pass that has ended is found out. Walls' clocks are set: a timer for its end would not do.
const LOOK_EVERY: Millis = Millis(2_000);

/// The passes of one space's peers.
#[derive(Debug)]
pub(crate) struct Passes {
    auth: Arc<Auth>,
    space: SpaceId,
    held: BTreeMap<PeerId, Pass>,
    /// Those whose pass had ended before it came here.
    late: Vec<(PeerId, Denial)>,
    /// Moves whenever what passes rest on has changed.
    changes: watch::Receiver<()>,
    /// When those that end are looked at.
    next: Option<MonoMillis>,
    changed: bool,
}

impl Passes {
    pub(crate) fn new(auth: Arc<Auth>, space: SpaceId) -> Self {
        let changes = auth.changes();
        let (held, late) = (BTreeMap::new(), Vec::new());
        Self { auth, space, held, late, changes, next: None, changed: false }
    }

    /// A peer was let in, or shows another token.
    pub(crate) fn insert(&mut self, peer: PeerId, pass: Pass) {
        // It may have been revoked on its way here, and that may have been told already.
        if let Err(denial) = self.auth.renew(&pass, &self.space) {
            self.late.push((peer, denial));
        }
        if pass.ends() {
            self.next.get_or_insert_with(|| clock::read().mono + LOOK_EVERY);
        }
        self.held.insert(peer, pass);
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.held.remove(&peer);
    }

    /// When to call [`Self::look`] if nothing changes before.
    pub(crate) const fn deadline(&self) -> Option<MonoMillis> {
        self.next
    }

    /// Resolves when what passes rest on has changed: [`Self::look`] then. Cancel safe.
    pub(crate) async fn wait_changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The one that would change it is held here.
            std::future::pending::<()>().await;
        }
        self.changed = true;
    }

    /// Looks at the passes if it is time: those that have other rights now, and those that have ended. O(peers).
    pub(crate) fn look(&mut self) -> Vec<(PeerId, Result<Grant, Denial>)> {
        let now = clock::read().mono;
        let mut found: Vec<_> = std::mem::take(&mut self.late)
            .into_iter()
            .map(|(peer, denial)| (peer, Err(denial)))
            .collect();
        if !std::mem::take(&mut self.changed) && self.next.is_none_or(|next| now < next) {
            return found;
        }
        let mut ends = false;
        for (peer, pass) in &mut self.held {
            match self.auth.renew(pass, &self.space) {
                Ok(renewed) => {
                    pass.renewed(renewed.until);
                    ends |= pass.ends();
                    found.extend(renewed.grant.map(|grant| (*peer, Ok(grant))));
                }
                Err(denial) => found.push((*peer, Err(denial))),
            }
        }
        self.next = ends.then(|| now + LOOK_EVERY);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use rejoin_core::protocol::message::ByeCode;
    use std::fs;

    const TOKENS: &str = "[[tokens]]\ntoken = 't'\nprincipal = 'p'\nspaces = [{ space = 'a' }]\n";

    #[tokio::test]
    async fn x11_pass_that_is_revoked_before_its_hub_has_it_is_found_at_once() {
        let directory = std::env::temp_dir().join(format!("rejoin-passes-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let tokens = directory.join("tokens.toml");
        fs::write(&tokens, TOKENS).unwrap();
        let config = Config { tokens: Some(tokens.clone()), ..Config::new(&directory) };
        let auth = Arc::new(Auth::load(&config).await.unwrap());
        let space = SpaceId::parse("a").unwrap();
        let mut passes = Passes::new(Arc::clone(&auth), space.clone());
        for peer in [1, 2] {
            let admitted = auth.admit(Some("t"), &space).await.unwrap();
            if peer == 2 {
                fs::write(&tokens, "").unwrap();
                assert!(auth.look());
                // The first one hears of the change, and that was it.
                passes.wait_changed().await;
                assert!(matches!(passes.look()[..], [(PeerId(1), Err(_))]));
            }
            passes.insert(PeerId(peer), admitted.pass);
        }
        let found = passes.look();
        assert!(
            matches!(found[..], [(PeerId(2), Err(denial))] if denial.code == ByeCode::Unauthorized)
        );
        fs::remove_dir_all(directory).unwrap();
    }
}
