//! Snapshot and heal, pulled by the initiator: roots, then chunks (`snapshot`) or a walk per collection, then
//! the feed from where it began. What comes is staged and becomes visible at a cut that reaches all of it.

use super::{
    Engine,
    pipeline::{Then, Want},
    refill::Refilling,
    session::HEALS_MAX,
    snapshot::Pulling,
};
use crate::{
    id::{CollectionName, Digest, RecordKey, Seq, key_hash},
    planted::Bug,
    protocol::message::{
        AskRoots, ByeCode, FEATURE_PRESENCE, FEATURE_SKETCH, Message, Place, Records, Resume,
        Roots, Walk,
    },
    replica::{Entry, Standing},
    sorted::{SortedMap, SortedSet},
    time::Now,
    tree::{self, WalkMessage},
};
use alloc::{collections::VecDeque, vec::Vec};

/// A snapshot or heal under way in this session.
#[derive(Debug)]
pub(super) struct Heal {
    /// How far its snapshot is; a heal walks.
    pub(super) snapshot: Option<Pulling>,
    /// The head when the first roots were stated.
    seq: Option<Seq>,
    /// Collections to be brought up, by name.
    pub(super) todo: VecDeque<(CollectionName, Digest)>,
    /// Every collection that the peer has.
    pub(super) named: SortedSet<CollectionName>,
    /// Key hashes that only this side has, or holds differently, by collection.
    pub(super) differs: SortedMap<CollectionName, SortedSet<Digest>>,
    /// Key hashes that came in a walk.
    came: SortedSet<Digest>,
    /// Of which collections a snapshot brings all.
    pub(super) fills: Fills,
    start: Start,
    /// What the peer has lost, once all is known.
    pub(super) refilling: Option<Refilling>,
    /// Entries on their way into the log.
    pub(super) staging: usize,
    /// Whether all has come and only the log is waited for.
    pub(super) complete: bool,
    /// Whether its walks may open with a sketch.
    sketches: bool,
    /// A fresh salt for each walk of a session.
    walks: u64,
}

/// Collections of which a snapshot brings everything that the peer has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fills {
    None,
    All,
    /// Those behind it are walked, because chunks were damaged.
    Before(CollectionName),
}

/// A walk starts when every collection is named and its beginning is in the log: until then the base may have
/// what the peer has collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Asked,
    Named,
    Logged,
    Started,
}

impl Engine {
    /// What this engine knows beyond what every engine does.
    pub(super) const fn features(&self) -> u64 {
        let sketch = if self.config.walk.cells_max > 0 { FEATURE_SKETCH } else { 0 };
        FEATURE_PRESENCE | sketch
    }

    /// Starts to bring a subscription up to the peer's state.
    pub(super) fn start_heal(&mut self, now: Now, subscription: u32, snapshot: bool) {
        let Some(session) = &mut self.session else {
            return;
        };
        if session.heals.contains_key(&subscription) {
            return;
        }
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let standing = self.replica.standings().get(at).map(|(_, standing)| standing);
        let complete = |standing: &&Standing| {
            standing.heal.as_ref().is_some_and(|heal| heal.complete)
                && !self.replica.has(Bug::CompleteGoesOn)
        };
        if snapshot && let Some(standing) = standing.filter(complete) {
            // It had brought everything: only the feed is missing, from where that had come to.
            let place = standing.place.clone();
            let time = standing.heal.as_ref().map(|heal| heal.time).unwrap_or_default();
            session.expected.insert(subscription, place.clone());
            session.moved.insert(subscription);
            self.say(now, &Message::Resume(Resume { subscription, place, time }));
            return;
        }
        // Where it was found equal may lie in a history that the peer does not have.
        self.verified.remove(&subscription);
        let count = session.heal_counts.entry(subscription).or_default();
        *count += 1;
        if *count > HEALS_MAX {
            self.end(now, ByeCode::Internal, "the roots keep differing");
            return;
        }
        session.heals.insert(
            subscription,
            Heal {
                snapshot: snapshot.then(Pulling::default),
                seq: None,
                todo: VecDeque::new(),
                named: SortedSet::new(),
                differs: SortedMap::new(),
                came: SortedSet::new(),
                fills: if snapshot { Fills::All } else { Fills::None },
                start: Start::Asked,
                refilling: None,
                staging: 0,
                complete: false,
                // What a sketch has missed, the next heal finds without.
                sketches: session.features & FEATURE_SKETCH > 0 && *count == 1,
                walks: u64::from(*count) << u32::BITS,
            },
        );
        self.say(now, &Message::AskRoots(AskRoots { subscription, after: None }));
    }

    pub(super) fn heal_roots(&mut self, now: Now, roots: Roots) {
        let subscription = roots.subscription;
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let resuming = self
            .replica
            .standings()
            .get(at)
            .and_then(|(_, standing)| standing.heal.as_ref())
            .filter(|heal| heal.upto.is_some())
            .map(|heal| heal.seq);
        let Some(heal) = self.session.as_mut().and_then(|s| s.heals.get_mut(&subscription)) else {
            return;
        };
        if heal.seq.is_none() {
            let resumed = resuming.filter(|_| heal.snapshot.is_some());
            heal.seq = Some(resumed.unwrap_or(roots.seq));
            if resumed.is_some() {
                heal.start = Start::Logged;
            } else {
                heal.staging += 1;
                let Roots { seq, horizon, hlc: time, .. } = roots;
                let entry = Entry::HealBegun { subscription, seq, horizon, time };
                self.pipeline.want(Want::Entry { entry, then: Then::HealStep(subscription) });
            }
        }
        let last = roots.roots.last().map(|(name, _)| name.clone());
        for (name, root) in roots.roots {
            heal.named.insert(name.clone());
            heal.todo.push_back((name, root));
        }
        match last.filter(|_| roots.more) {
            Some(after) => {
                let after = Some(after);
                self.say(now, &Message::AskRoots(AskRoots { subscription, after }));
            }
            None if heal.snapshot.is_some() => self.start_snapshot(now, subscription),
            None => {
                if heal.advance(Start::Named) {
                    self.heal_next(now, subscription);
                }
            }
        }
    }

    /// Walks the next collection, or finishes.
    pub(super) fn heal_next(&mut self, now: Now, subscription: u32) {
        loop {
            let Some(session) = &mut self.session else {
                return;
            };
            let salt = session.salt;
            let Some(heal) = session.heals.get_mut(&subscription) else {
                return;
            };
            let Some((collection, root)) = heal.todo.front().cloned() else {
                heal.complete = true;
                self.heal_finish(now, subscription);
                return;
            };
            heal.walks += 1;
            let salt = salt.wrapping_add(heal.walks);
            let tree = self.replica.base_mut().trees().entry(collection.clone()).or_default();
            if tree.root() == root {
                heal.todo.pop_front();
                continue;
            }
            let message = if heal.sketches {
                WalkMessage::open_sketch(tree, salt, None, &self.config.walk)
            } else {
                WalkMessage::open(tree, salt)
            };
            self.say(now, &Message::Walk(Walk { subscription, collection, message }));
            return;
        }
    }

    pub(super) fn heal_walk(&mut self, now: Now, walk: &Walk) {
        let Walk { subscription, collection, message } = walk;
        let Some(heal) = self.session.as_mut().and_then(|s| s.heals.get_mut(subscription)) else {
            return;
        };
        if heal.todo.front().is_none_or(|(current, _)| current != collection) {
            return;
        }
        let tree = self.replica.base_mut().trees().entry(collection.clone()).or_default();
        let Ok(response) = tree::respond(tree, message, &self.config.walk) else {
            self.end(now, ByeCode::Malformed, "a walk that cannot be");
            return;
        };
        heal.differs.entry(collection.clone()).or_default().extend(response.differs);
        let last = response.reply.as_ref().is_none_or(WalkMessage::is_last);
        if let Some(message) = response.reply.filter(|message| !message.is_last()) {
            let walk = Walk { message, ..walk.clone() };
            self.say(now, &Message::Walk(walk));
        }
        if last {
            heal_done_with_first(&mut self.session, *subscription);
            self.heal_next(now, *subscription);
        }
    }

    pub(super) fn heal_records(&mut self, now: Now, records: &Records, encoded: &[u8]) {
        let subscription = records.subscription;
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let pattern = self.replica.standings().get(at).map(|(pattern, _)| pattern);
        let covers = |key: &RecordKey| pattern.is_some_and(|held| held.covers(&key.collection));
        if !records.entries.iter().all(|entry| covers(&entry.key)) {
            // It would never become visible, nor let the log be folded.
            self.end(now, ByeCode::Misbehaved, "records beyond the subscription");
            return;
        }
        let Some(heal) = self.session.as_mut().and_then(|s| s.heals.get_mut(&subscription)) else {
            return;
        };
        heal.came.extend(records.entries.iter().map(|entry| key_hash(&entry.key)));
        heal.staging += 1;
        let entry = Entry::Staged(encoded.to_vec());
        self.pipeline.want(Want::Entry { entry, then: Then::HealStep(subscription) });
    }

    /// An entry of a heal is in the log.
    pub(super) fn heal_step(&mut self, now: Now, subscription: u32) {
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(heal) = session.heals.get_mut(&subscription) else {
            return;
        };
        heal.staging = heal.staging.saturating_sub(1);
        if heal.advance(Start::Logged) {
            return self.heal_next(now, subscription);
        }
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let standing = self.replica.standings().get(at).map(|(_, standing)| standing);
        let healing = standing.and_then(|standing| standing.heal.as_ref());
        if let Some(healing) = healing.filter(|healing| healing.complete) {
            let time = healing.time;
            let place = Place::at(heal.seq.unwrap_or_default());
            let healed = session.heals.remove(&subscription);
            session.expected.insert(subscription, place.clone());
            session.moved.insert(subscription);
            self.say(now, &Message::Resume(Resume { subscription, place, time }));
            let refilled = healed.and_then(|heal| heal.refilling);
            if let Some(notice) = refilled.and_then(|refilled| refilled.notice(subscription)) {
                self.notice(notice);
            }
        } else {
            self.ask_chunks(now, subscription);
            self.heal_finish(now, subscription);
        }
    }

    /// Once all has come and is in the log: brings back what the peer has lost, and then names what it does
    /// not have.
    pub(super) fn heal_finish(&mut self, now: Now, subscription: u32) {
        let heal = self.session.as_ref().and_then(|s| s.heals.get(&subscription));
        if heal.is_none_or(|heal| !heal.complete || heal.staging > 0)
            || !self.refill(now, subscription)
        {
            return;
        }
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let Some((pattern, _)) = self.replica.standings().get(at) else {
            return;
        };
        let Some(heal) = self.session.as_mut().and_then(|s| s.heals.get_mut(&subscription)) else {
            return;
        };
        let refilled = heal.refilling.as_ref();
        let reach = refilled.map(|refilled| refilled.reach).unwrap_or_default();
        let gone: Vec<RecordKey> = self
            .replica
            .base()
            .iter()
            .map(|(key, _)| key)
            .filter(|key| pattern.covers(&key.collection))
            .filter(|key| {
                if heal.fills_all_of(key) {
                    return !self.replica.base().is_staged(key)
                        && !self.replica.has(Bug::BaseKeptAtRebase);
                }
                let hash = key_hash(key);
                heal.is_other(key, &hash)
                    && !heal.came.contains(&hash)
                    && refilled.is_none_or(|refilled| !refilled.has(key))
            })
            .cloned()
            .collect();
        heal.staging += 1;
        let entry = Entry::Healed { subscription, gone, reach };
        self.pipeline.want(Want::Entry { entry, then: Then::HealStep(subscription) });
    }
}

impl Heal {
    /// Whether a snapshot brings everything that the peer has of the record's collection.
    fn fills_all_of(&self, key: &RecordKey) -> bool {
        match &self.fills {
            Fills::None => false,
            Fills::All => true,
            Fills::Before(from) => key.collection < *from,
        }
    }

    /// One of the two that a start waits for has happened; whether it was the last one.
    fn advance(&mut self, step: Start) -> bool {
        match (self.start, step) {
            (Start::Asked, step) => self.start = step,
            (Start::Named, Start::Logged) | (Start::Logged, Start::Named) => {
                self.start = Start::Started;
                return true;
            }
            _ => {}
        }
        false
    }
}

fn heal_done_with_first(session: &mut Option<super::session::Session>, subscription: u32) {
    if let Some(heal) = session.as_mut().and_then(|s| s.heals.get_mut(&subscription)) {
        heal.todo.pop_front();
    }
}
