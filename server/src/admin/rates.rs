//! Rates of the last minutes, in a ring.
//!
//! Invariant: it holds [`SAMPLES_MAX`] samples at most, however many look. Absent: what is counted (see `metrics`).

use crate::{clock, metrics::Totals};
use rejoin_core::time::{MonoMillis, WallMillis};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Between two samples.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// Ten minutes.
const SAMPLES_MAX: usize = 300;

/// What was so between two looks, each second, and how much there was at its end.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    pub(super) number: u64,
    /// Milliseconds since 1970.
    pub(super) at: u64,
    accepted: f64,
    pub(super) refused: f64,
    conflicts: f64,
    messages_in: f64,
    messages_out: f64,
    bytes_in: f64,
    bytes_out: f64,
    connections: i64,
    commits: f64,
    /// The mean of a commit; 0 where there was none.
    pub(super) commit_ms: f64,
    /// How long messages waited for their sockets, on the mean.
    pub(super) wait_ms: f64,
}

/// The last minutes.
#[derive(Debug, Default)]
pub(super) struct Rates {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    before: Option<(MonoMillis, Totals)>,
    last: u64,
    samples: VecDeque<Sample>,
}

impl Rates {
    /// So much was counted until now.
    pub(super) fn take(&self, totals: Totals) {
        let now = clock::read();
        let mut ring = self.ring();
        let Some((since, before)) = ring.before.replace((now.mono, totals)) else {
            return;
        };
        ring.last += 1;
        let span = now.mono.since(since).0;
        let sample = sample(ring.last, now.wall, span.max(1), &before, &totals);
        if ring.samples.len() == SAMPLES_MAX {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
    }

    /// Those behind a number, the first first; all of another run.
    pub(super) fn behind(&self, number: u64) -> Vec<Sample> {
        let ring = self.ring();
        let number = if number > ring.last { 0 } else { number };
        ring.samples.iter().filter(|sample| sample.number > number).copied().collect()
    }

    /// The newest ones, the last first.
    pub(super) fn newest(&self, count: usize) -> Vec<Sample> {
        self.ring().samples.iter().rev().take(count).copied().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for the eye")]
fn sample(number: u64, at: WallMillis, span: u64, before: &Totals, now: &Totals) -> Sample {
    let more = |of: fn(&Totals) -> u64| of(now).saturating_sub(of(before)) as f64;
    let rate = |of| more(of) * 1_000.0 / span as f64;
    let mean = |micros, times| {
        let times = more(times);
        if times > 0.0 { more(micros) / times / 1_000.0 } else { 0.0 }
    };
    Sample {
        number,
        at: at.0,
        accepted: rate(|totals| totals.accepted),
        refused: rate(|totals| totals.refused),
        conflicts: rate(|totals| totals.conflicts),
        messages_in: rate(|totals| totals.frames_received),
        messages_out: rate(|totals| totals.frames_sent),
        bytes_in: rate(|totals| totals.received_bytes),
        bytes_out: rate(|totals| totals.sent_bytes),
        connections: now.connections,
        commits: rate(|totals| totals.commits),
        commit_ms: mean(|totals| totals.commit_micros, |totals| totals.commits),
        wait_ms: mean(|totals| totals.waited_micros, |totals| totals.delivered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_came_between_two_looks_in_a_second() {
        let before = Totals { accepted: 10, commits: 1, commit_micros: 500, ..Totals::default() };
        let now = Totals { accepted: 30, commits: 3, commit_micros: 8_500, ..before };
        let found = sample(1, WallMillis(7), 4_000, &before, &now);
        let wanted = [found.accepted, found.commits, found.commit_ms, found.refused];
        assert_eq!(wanted.map(|value| value.to_bits()), [5.0, 0.5, 4.0, 0.0].map(f64::to_bits));
    }

    #[test]
    fn the_ring_is_bounded_and_told_from_where_a_reader_was() {
        let rates = Rates::default();
        for _ in 0..SAMPLES_MAX + 3 {
            rates.take(Totals::default());
        }
        assert_eq!(rates.behind(0).len(), SAMPLES_MAX);
        assert_eq!(rates.behind(SAMPLES_MAX as u64).len(), 2);
        assert_eq!(rates.behind(u64::MAX).len(), SAMPLES_MAX);
    }
}
