//! The feed: what follows what, and whether both ends agree at the same position.

use super::{
    Engine, Link, Notice,
    pipeline::{Then, Want},
};
use crate::{
    hlc::Hlc,
    id::{Cursor, Digest, Pattern, Seq},
    message::{self, ByeCode, Changes, Place, Stated, Subscription},
    planted::Bug,
    replica::{Entry, Standing},
    time::Now,
};
use alloc::vec::Vec;

/// What the peer says of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    seq: Seq,
    horizon: Hlc,
    time: Hlc,
    root: Digest,
}

/// How a subscription stands, in a hello.
pub(super) fn subscription((id, pattern, standing): (u32, &Pattern, &Standing)) -> Subscription {
    let healing = standing.heal.is_some();
    let place = if healing { Place::at(standing.cursor) } else { standing.place.clone() };
    let started = standing.arrived || (!healing && place != Place::default());
    let cursor = standing.epoch.filter(|_| started);
    let cursor = cursor.map(|epoch| Cursor { epoch, seq: standing.cursor });
    Subscription { id, pattern: pattern.clone(), cursor, place, root: None, time: standing.time }
}

impl Claim {
    /// Whether it is to be stored although nothing has changed: it raises the horizon, or the base would count
    /// as much older than it is. A sixteenth of the time that the peer keeps its dead records for does no harm.
    fn is_news(&self, standing: &Standing) -> bool {
        let kept = self.time.wall().0.saturating_sub(self.horizon.wall().0);
        let behind = self.time.wall().0.saturating_sub(standing.time.wall().0);
        self.horizon > standing.horizon || behind > (kept / 16).min(DAY_MS)
    }
}

/// A base is stored to be of the present time about so often.
const DAY_MS: u64 = 24 * 3_600_000;

impl Engine {
    pub(super) fn changes(&mut self, now: Now, changes: &Changes, encoded: &[u8]) {
        let Some(session) = &mut self.session else {
            return;
        };
        let covered = |entry: &message::Entry| {
            let named = changes.subscriptions.iter().filter_map(|id| usize::try_from(*id).ok());
            let mut patterns = named.filter_map(|at| self.replica.standings().get(at));
            patterns.any(|(pattern, _)| pattern.covers(&entry.key.collection))
        };
        if !changes.entries.iter().all(covered) {
            self.end(now, ByeCode::Misbehaved, "changes beyond their subscriptions");
            return;
        }
        let mut wanted = false;
        for subscription in &changes.subscriptions {
            if session.heals.contains_key(subscription) {
                continue;
            }
            let Some(expected) = session.expected.get_mut(subscription) else {
                self.end(now, ByeCode::Misbehaved, "changes of an unknown subscription");
                return;
            };
            if *expected == changes.after || self.replica.has(Bug::AfterIgnored) {
                *expected = changes.upto.clone();
                session.moved.remove(subscription);
                wanted = true;
            } else if !session.moved.contains(subscription) {
                self.end(now, ByeCode::Misbehaved, "changes that do not follow");
                return;
            }
        }
        if changes.cut {
            session.head = session.head.max(changes.upto.seq);
        }
        if let Some(state) = &changes.state {
            self.stated(state);
        }
        if wanted {
            let entry = Entry::Feed(encoded.to_vec());
            self.pipeline.want(Want::Entry { entry, then: Then::Compare });
        }
    }

    pub(super) fn stated(&mut self, state: &Stated) {
        if let Some(session) = &mut self.session {
            for (subscription, root) in &state.roots {
                let Stated { seq, horizon, hlc: time, .. } = *state;
                session.stated.insert(*subscription, Claim { seq, horizon, time, root: *root });
            }
        }
    }

    /// Compares the roots that were stated at the position where the base is.
    pub(super) fn compare(&mut self, now: Now) {
        let Some(session) = &mut self.session else {
            return;
        };
        let mut diverged = Vec::new();
        let mut news = Vec::new();
        for (subscription, claim) in core::mem::take(&mut session.stated) {
            let Claim { seq, horizon, root, .. } = claim;
            let at = usize::try_from(subscription).unwrap_or(usize::MAX);
            let Some((_, standing)) = self.replica.standings().get(at) else {
                continue;
            };
            let there = standing.is_at(seq) || self.replica.has(Bug::RootsComparedAnywhere);
            let known = session.noted.get(&subscription) == Some(&claim.time);
            if there && claim.is_news(standing) && !known {
                session.noted.insert(subscription, claim.time);
                news.push((subscription, claim));
            }
            let differs = horizon != standing.horizon;
            if there && differs && !self.replica.has(Bug::HorizonOfRootsIgnored) {
                // Compared once what the peer has collected is not here any more. A peer that was put back may have
                // what it had collected: that is healed, and it states its roots anew.
                if horizon > standing.horizon {
                    session.stated.insert(subscription, claim);
                }
            } else if !there {
                // Behind it, or on the way to it: compared once what is missing has come.
                if standing.cursor < seq || !standing.arrived || standing.heal.is_some() {
                    session.stated.insert(subscription, claim);
                }
            } else if let Some(ours) = self.replica.root(at) {
                if ours == root {
                    self.verified.insert(subscription, (seq, root));
                } else {
                    diverged.push((subscription, seq, ours, root));
                }
            }
        }
        for (subscription, Claim { seq, horizon, time, .. }) in news {
            let entry =
                Entry::Stated { subscriptions: Vec::from([subscription]), seq, horizon, time };
            self.pipeline.want(Want::Entry { entry, then: Then::Compare });
        }
        for (subscription, seq, ours, theirs) in diverged {
            self.verified.remove(&subscription);
            self.notice(Notice::Diverged { subscription, seq, ours, theirs });
            self.start_heal(now, subscription, false);
        }
        let link = self.link();
        if let Some(session) = &mut self.session
            && link == Link::Live
        {
            session.live = true;
            session.received = 0;
            session.received_bytes = 0;
            session.totals.clear();
            self.mend_torn(now);
        }
    }

    /// Counts what came, and heals what broke.
    pub(super) fn received(&mut self, now: Now, (records, bytes): (usize, usize), broken: &[u32]) {
        if let Some(session) = &mut self.session {
            session.received += records as u64;
            session.received_bytes += bytes as u64;
        }
        for subscription in broken {
            self.verified.remove(subscription);
            self.start_heal(now, *subscription, false);
        }
    }
}
