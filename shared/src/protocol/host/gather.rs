//! A moment's wait for more rows before a group is begun: clients that wait for one write before the next come back
//! together once they are acknowledged together, and a group that is begun at the first of them leaves the others to
//! the next one. Every group is a sync of the disk: so half of them are saved (as by `commit_delay` of `PostgreSQL`).
//!
//! Invariant: nobody waits longer than [`GATHER_MAX`] for others, nor at all where syncs are fast or where waiting has
//! not paid lately. Absent: what a group holds.

use crate::time::{Millis, MonoMillis};

/// A sync that takes less is not worth waiting for.
const COMMIT_MIN: Millis = Millis(2);
/// Waiting lasts half as long as the last sync, and never longer than this.
const GATHER_MAX: Millis = Millis(4);
/// Most groups that are begun at once after waiting has not paid, time and again.
const PENALTY_MAX: u32 = 256;

/// Whether a group that could be begun waits.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// When the commit under way was begun.
    began: Option<MonoMillis>,
    waits: Option<Wait>,
    /// Groups that are to be begun at once, and how many of them the last disappointment cost.
    at_once: u32,
    penalty: u32,
}

#[derive(Debug)]
struct Wait {
    until: MonoMillis,
    /// Jobs that waited at the beginning, and those that are expected in all.
    before: usize,
    expected: usize,
}

impl Gathering {
    /// A commit is begun.
    pub(super) const fn commits(&mut self, now: MonoMillis) {
        self.began = Some(now);
    }

    /// It is done, and so many peers were answered: they may say more at once, while `jobs` wait.
    pub(super) fn answered(&mut self, now: MonoMillis, peers: usize, jobs: usize) {
        let Some(began) = self.began.take() else { return };
        let took = Millis(now.0.saturating_sub(began.0));
        // Those who come must be worth the wait of those who are there, and be more than one.
        if took < COMMIT_MIN || peers + jobs < 2 || peers < jobs / 2 {
            return;
        }
        if let Some(left) = self.at_once.checked_sub(1) {
            self.at_once = left;
            return;
        }
        let until = now + Millis(took.0 / 2).min(GATHER_MAX);
        self.waits = Some(Wait { until, before: jobs, expected: jobs + peers });
    }

    /// Whether a group of so many jobs waits for more.
    pub(super) fn holds(&mut self, now: MonoMillis, jobs: usize) -> bool {
        let Some(wait) = &self.waits else { return false };
        if jobs < wait.expected && now < wait.until {
            return true;
        }
        let came = jobs.saturating_sub(wait.before);
        if came * 2 >= wait.expected - wait.before {
            self.penalty = 0;
        } else {
            self.penalty = (self.penalty * 2).clamp(1, PENALTY_MAX);
            self.at_once = self.penalty;
        }
        self.waits = None;
        false
    }

    /// When waiting ends, if more do not come before.
    pub(super) fn deadline(&self) -> Option<MonoMillis> {
        self.waits.as_ref().map(|wait| wait.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A commit of so many milliseconds that answers so many peers while jobs wait.
    fn commit(
        gathering: &mut Gathering,
        at: u64,
        took: u64,
        peers: usize,
        jobs: usize,
    ) -> MonoMillis {
        gathering.commits(MonoMillis(at));
        gathering.answered(MonoMillis(at + took), peers, jobs);
        MonoMillis(at + took)
    }

    #[test]
    fn it_waits_until_those_are_back_who_were_answered() {
        let mut gathering = Gathering::default();
        let now = commit(&mut gathering, 0, 6, 5, 5);
        assert_eq!(gathering.deadline(), Some(MonoMillis(9)));
        assert!(gathering.holds(now, 5) && gathering.holds(now, 9));
        assert!(!gathering.holds(now, 10));
        assert_eq!(gathering.deadline(), None);
    }

    #[test]
    fn it_ends_with_its_time_and_happens_ever_less_while_it_does_not_pay() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for round in 0..100 {
            let now = commit(&mut gathering, round * 100, 10, 8, 0);
            if gathering.holds(now, 0) {
                waits += 1;
                assert!(!gathering.holds(now + GATHER_MAX, 1), "its time is over");
            }
        }
        assert!((2..10).contains(&waits), "{waits} of 100");
        assert!(gathering.penalty <= PENALTY_MAX);
    }

    #[test]
    fn it_does_not_wait_for_one_nor_where_syncs_are_fast_nor_for_the_sake_of_few() {
        let mut gathering = Gathering::default();
        for (took, peers, jobs) in [(10, 1, 0), (1, 9, 9), (10, 1, 100), (10, 0, 7)] {
            let now = commit(&mut gathering, 0, took, peers, jobs);
            assert!(!gathering.holds(now, jobs), "{took} ms, {peers} peers, {jobs} jobs");
        }
    }
}
