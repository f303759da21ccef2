//! Reading the store: the whole replica at first, the log's tail when another holder has written.

use super::{
    Engine, Notice, Output, WishError,
    pipeline::{Op, Want},
};
use crate::{
    id::{RecordKey, ReplicaId, SpaceId},
    io::{Answer, FaultClass, KeyRange, Keyspace, Page, Query},
    planted::Bug,
    replica::{META_FOLDED, META_LEADER, Replica, Stored, folded_number, log_key, log_number},
    sorted::SortedSet,
    time::Now,
};
use alloc::vec::Vec;
use core::num::NonZeroU32;

impl Engine {
    /// The store cannot be read: tells it once, and stays still until something new is asked for.
    pub(super) fn store_failed(&mut self, class: FaultClass) {
        self.stand_still(class, Notice::Unreadable(class));
    }

    fn stand_still(&mut self, class: FaultClass, notice: Notice) {
        self.drop_session();
        self.pipeline.failed = true;
        let wants = core::mem::take(&mut self.pipeline.queue);
        for want in wants.into_wants() {
            if matches!(want, Want::Claim { .. }) {
                // Whoever made this holder lead counts on it: it leads once the store can be read.
                self.pipeline.queue.push(want);
                continue;
            }
            let (Want::Write { id, .. }
            | Want::Drop { id, .. }
            | Want::Edit { id, .. }
            | Want::Adopt { id, .. }) = want
            else {
                continue;
            };
            self.outputs.push_back(Output::Done { id, result: Err(WishError::Store(class)) });
        }
        self.notice(notice);
    }

    /// Whether what the store holds belongs to no space yet, and this holder names one.
    pub(super) fn is_unbound(&self) -> bool {
        self.replica.space().is_none() && self.config.space.is_some()
    }

    /// Refuses a store whose rows belong to another space than this holder's: they would be sent there.
    fn refuses_space(&mut self, held: Option<&SpaceId>) -> bool {
        let ours = self.config.space.as_ref();
        let other = held.filter(|held| ours.is_some_and(|ours| ours != *held)).cloned();
        let Some(held) = other else { return false };
        self.fail_uncertain();
        self.pipeline.loaded = false;
        self.stand_still(FaultClass::Permanent, Notice::OtherSpace { held });
        true
    }

    pub(super) fn loaded(&mut self, answers: Vec<Answer>) {
        let answers: Result<[Answer; 6], _> = answers.try_into();
        let Ok(
            [
                Answer::Value(header),
                Answer::Value(folded),
                Answer::Value(leader),
                Answer::Value(finished),
                Answer::Page(Page { rows: pages, more: false }),
                Answer::Page(Page { rows: log, more: false }),
            ],
        ) = answers
        else {
            // Taking what is missing for absent would show an empty replica.
            self.fail_uncertain();
            self.store_failed(FaultClass::Permanent);
            return;
        };
        if header.is_none() && self.pipeline.founded {
            // It keeps nothing: founding it again would go on for ever.
            self.store_failed(FaultClass::Permanent);
            return;
        }
        if header.is_none() {
            self.pipeline.failed = false;
            let batch = Replica::found(
                self.config.fresh,
                &self.config.patterns,
                self.config.space.as_ref(),
            );
            self.commit(Op::Found, batch);
            return;
        }
        let stored = Stored { header, folded: folded.clone(), finished, pages, log };
        let was_open = self.pipeline.loaded;
        // Subscriptions that are new go through the log.
        match Replica::load(&stored, self.config.fresh, &[]) {
            Ok(replica) => {
                if self.refuses_space(replica.space()) {
                    return;
                }
                // What was there and is not any more has changed too.
                let keys = if was_open && !self.has(Bug::GoneUntold) {
                    self.keys()
                } else {
                    SortedSet::new()
                };
                let before = was_open.then(|| (self.replica.id(), keys));
                self.replica = replica;
                #[cfg(feature = "test-util")]
                self.replica.plant(self.planted.0, self.planted.1);
                self.pipeline.loaded = true;
                self.pipeline.reload_wanted = false;
                self.pipeline.failed = false;
                self.pipeline.founded = false;
                self.pipeline.folded = folded;
                self.pipeline.leader = leader;
                self.check_lead();
                stored.log.iter().for_each(|row| self.witness(row));
                self.settle_uncertain();
                self.tell_loaded(before);
                self.tell_damage();
            }
            Err(error) => {
                self.fail_uncertain();
                self.stand_still(FaultClass::Corrupt, Notice::Refused(error));
            }
        }
    }

    /// Tells what is there now: all of it, unless the app had been shown something, under some id, before.
    fn tell_loaded(&mut self, before: Option<(ReplicaId, SortedSet<RecordKey>)>) {
        let Some((old, mut keys)) = before else {
            return self.notice(Notice::Opened);
        };
        let new = self.replica.id();
        if old != new {
            self.notice(Notice::Reborn { old, new });
        }
        keys.extend(self.keys());
        self.notice(Notice::Changed(keys));
    }

    fn tell_damage(&mut self) {
        let damage = self.replica.damage().clone();
        if !damage.is_empty() {
            // What was found equal is not held any more.
            self.verified.clear();
            self.notice(Notice::Damaged(damage));
        }
    }

    /// Every record that the app may see.
    fn keys(&self) -> SortedSet<RecordKey> {
        let base = self.replica.base().iter().map(|(key, _)| key);
        base.chain(self.replica.overlay().keys()).cloned().collect()
    }

    pub(super) fn check_lead(&mut self) {
        let ours = self.pipeline.token.map(|token| token.to_vec());
        if ours.is_some() && ours != self.pipeline.leader {
            self.follow();
            self.notice(Notice::Deposed);
        }
    }

    pub(super) fn tail(&mut self, now: Now, answers: Vec<Answer>) {
        let mut answers = answers.into_iter();
        let (Some(Answer::Page(page)), Some(Answer::Value(folded)), Some(Answer::Value(leader))) =
            (answers.next(), answers.next(), answers.next())
        else {
            self.fail_uncertain();
            self.store_failed(FaultClass::Permanent);
            return;
        };
        self.pipeline.leader = leader;
        self.pipeline.failed = false;
        self.check_lead();
        let folded_to = match folded.as_deref() {
            // It may be damaged: what it was read as counts.
            same if same == self.pipeline.folded.as_deref() => Some(self.replica.folded()),
            Some(folded) => folded_number(folded),
            None => Some(0),
        };
        let Some(folded_to) = folded_to.filter(|folded_to| *folded_to <= self.replica.last())
        else {
            self.pipeline.reload_wanted = true;
            self.drop_session();
            return;
        };
        let first = self.replica.last() + 1;
        for row in page.rows {
            self.witness(&row);
            let expected = log_number(&row.key) == Some(self.replica.last() + 1);
            let applied = if expected { self.replica.apply_encoded(&row.value).ok() } else { None };
            let Some(applied) = applied else {
                self.pipeline.reload_wanted = true;
                self.drop_session();
                return;
            };
            self.announce(now, applied);
        }
        if self.refuses_space(self.replica.space().cloned().as_ref()) {
            return;
        }
        if folded != self.pipeline.folded {
            self.replica.folded_elsewhere(folded_to);
            self.pipeline.folded = folded;
            if self.pipeline.token.is_some() {
                // An own fold that was reported as failed: the pages must be known to fold again.
                self.pipeline.reload_wanted = true;
                self.drop_session();
                return;
            }
        }
        self.pipeline.tail_wanted |= page.more;
        self.settle_uncertain();
        self.check_copied(first);
    }
}

pub(super) fn tail_queries(last: u64) -> Vec<Query> {
    let range = KeyRange { start: log_key(last + 1), end: None };
    let limit = NonZeroU32::new(4_096).unwrap_or(NonZeroU32::MIN);
    let get = |key: &[u8]| Query::Get { keyspace: Keyspace::Meta, key: key.to_vec() };
    Vec::from([Query::scan(Keyspace::Log, range, limit), get(META_FOLDED), get(META_LEADER)])
}
