//! Subscriptions: which are asked for, and which rest.
//!
//! Invariant: no pattern held lies within another one. A subscription's number is its index; it changes
//! only when a wider pattern takes narrower ones in. Absent: what the peer sends for them.

use super::{entry::Standing, intent::Row, state::Replica};
use crate::id::{Pattern, RecordKey};
use alloc::vec::Vec;

impl Replica {
    /// Subscriptions and how far they have come; the index is the subscription's number.
    #[must_use]
    pub fn standings(&self) -> &[(Pattern, Standing)] {
        &self.header.standings
    }

    /// Takes up subscriptions that are new or rest. A pattern within another one is left out, and goes
    /// when the wider one comes: what it has brought stays, and is checked with everything else when the
    /// wider one is filled. Returns whether anything is asked for that was not.
    pub fn subscribe(&mut self, patterns: &[Pattern]) -> bool {
        let standings = &mut self.header.standings;
        let mut new = false;
        for pattern in patterns {
            if let Some((_, held)) = standings.iter_mut().find(|(held, _)| held.contains(pattern)) {
                new |= core::mem::take(&mut held.resting);
                continue;
            }
            let within: Vec<Pattern> = standings
                .extract_if(.., |(held, _)| pattern.contains(held))
                .map(|(held, _)| held)
                .collect();
            within.iter().for_each(|held| self.base.unstage(held));
            standings.push((pattern.clone(), Standing::default()));
            new = true;
        }
        new
    }

    /// Puts subscriptions to rest that none of the patterns needs, and no row that waits for its answer or
    /// for the base: they keep what is visible and their numbers, and are taken up there when they are
    /// asked for again. Returns whether there was one. What they had staged goes, nothing could be folded
    /// for ever.
    pub(super) fn rest_but(&mut self, patterns: &[Pattern]) -> bool {
        let mut rested = false;
        for (held, standing) in &mut self.header.standings {
            let needed = patterns.iter().any(|pattern| held.contains(pattern))
                || self.overlay.awaits(|key| held.covers(&key.collection));
            if !needed && !standing.resting {
                self.base.unstage(held);
                standing.start_over();
                standing.resting = true;
                rested = true;
            }
        }
        rested
    }

    /// Takes up what rests and is written to: a row is done when the base has it, and is made again from the
    /// base when it is stale. Returns whether there was any.
    pub(super) fn wake(&mut self, row: &Row) -> bool {
        let mut woke = false;
        for (held, standing) in &mut self.header.standings {
            if standing.resting && row.writes.iter().any(|write| held.covers(&write.key.collection))
            {
                standing.resting = false;
                woke = true;
            }
        }
        woke
    }

    /// Whether each pattern is asked for, by itself or within another.
    #[must_use]
    pub fn is_subscribed(&self, patterns: &[Pattern]) -> bool {
        let held = |pattern| self.asked().any(|(_, held, _)| held.contains(pattern));
        patterns.iter().all(held)
    }

    /// Whether something is asked for that none of the patterns needs.
    #[must_use]
    pub fn asks_beyond(&self, patterns: &[Pattern]) -> bool {
        let needed = |held: &Pattern| patterns.iter().any(|pattern| held.contains(pattern));
        self.asked().any(|(_, held, _)| !needed(held))
    }

    /// The subscriptions that do not rest, each with its number.
    pub fn asked(&self) -> impl Iterator<Item = (u32, &Pattern, &Standing)> {
        let standings = (0..).zip(&self.header.standings);
        let asked = standings.filter(|(_, (_, standing))| !standing.resting);
        asked.map(|(number, (pattern, standing))| (number, pattern, standing))
    }

    /// Whether a subscription that is asked for covers the record: then the base will learn of its writes.
    #[must_use]
    pub fn covers(&self, key: &RecordKey) -> bool {
        self.asked().any(|(_, pattern, _)| pattern.covers(&key.collection))
    }
}

pub(super) fn standing_mut(
    standings: &mut [(Pattern, Standing)],
    subscription: u32,
) -> Option<(&Pattern, &mut Standing)> {
    let at = usize::try_from(subscription).ok()?;
    standings.get_mut(at).map(|(pattern, standing)| (&*pattern, standing))
}
