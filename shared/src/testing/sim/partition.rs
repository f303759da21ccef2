//! A network that loses everything for a while and tells nobody, and how long it takes until all agree once it is whole.
//!
//! Lines and dials behave as TCP's do: what is lost is tried again after pauses that double, and nothing passes behind it;
//! or the line never carries anything again, as behind a middlebox that has forgotten it. Dials are given up when
//! nobody answers. Absent: every other fault.

use super::{
    World,
    middleman::{Lost, Parted},
    plan::Plan,
    tape::{Stream, Streams},
};
use crate::{
    driver::DIAL_WITHIN,
    message::limits::{PAGE_BYTES_AIM, RECORD_BYTES_MAX, UNANSWERED_BACKOFF},
};
use alloc::{format, string::String};
use core::cmp::Reverse;

/// Longest partition, in milliseconds.
const LASTS_MS_MAX: u64 = 60_000;
/// About how often somebody writes meanwhile.
const WRITES_EVERY_MS: u64 = 1_500;
/// The first pause after which TCP tries again what was lost, on a line as fast as these.
const FIRST_PAUSE_MS: u64 = 200;
/// When a dial is tried again.
const DIAL_TRIES_MS: [u64; 2] = [1_000, 3_000];

/// What is tried again on a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stall {
    /// Since when.
    since: u64,
    /// It is in vain before.
    until: u64,
}

impl Stall {
    /// When it arrives.
    const fn passes(self) -> u64 {
        let (mut at, mut pause) = (self.since, FIRST_PAUSE_MS);
        while at < self.until {
            at += pause;
            pause *= 2;
        }
        at
    }
}

impl Parted {
    /// For how long a message waits until TCP has it through.
    pub(super) fn tried_again(&self, stall: &mut Option<Stall>, way: usize, now: u64) -> u64 {
        stall.take_if(|stall| stall.until <= now && stall.passes() <= now);
        let until = self.until.into_iter().max().unwrap_or_default();
        if until <= now {
            return stall.map_or(0, |stall| stall.passes() - now);
        }
        let stall = stall.get_or_insert(Stall { since: now, until });
        stall.until = until;
        // Where only what acknowledges it is lost, the first of it passes.
        let passes = self.until.get(way).is_some_and(|until| *until <= now);
        if passes && now < stall.since + FIRST_PAUSE_MS { 0 } else { stall.passes() - now }
    }
}

/// A partition that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healed {
    /// How long it lasted, in milliseconds.
    pub lasted: u64,
    /// How long it took from its end until all agreed and knew it, in milliseconds.
    pub after: u64,
}

/// Parts some devices of the world of `seed` from the server, one way or both, while all of them write; heals, and
/// waits until everything has arrived everywhere. Nobody reloads anything. Lines that have lost something go on as
/// TCP does, or are `forgotten` and carry nothing any more.
///
/// # Errors
/// What an oracle objects to, or that they never agree.
pub fn partition(seed: u64, forgotten: bool) -> Result<Healed, String> {
    let mut streams = Streams::of_seed(seed);
    let plan = Plan::draw_partition(&mut streams.plan);
    let mut world = World::new(seed, plan, streams);
    // Without a single step it is calm at once: all connect.
    world.run()?;
    world.part_and_heal(forgotten)
}

impl Plan {
    fn draw_partition(rng: &mut Stream) -> Self {
        Self {
            devices: 2 + rng.index(3),
            tabs: 1 + rng.index(2),
            records: 1 + rng.below(12),
            rejections: rng.once_in(4),
            page_bytes_aim: if rng.once_in(2) { 200 + rng.index(2_000) } else { PAGE_BYTES_AIM },
            fold_entries_min: rng.once_in(2).then(|| 1 + rng.below(40)),
            chunk_bytes_aim: 256 << 10,
            server_sketches: true,
            device_sketches: true,
            pairs: 12,
            batch_records: 3,
            whole_space: rng.once_in(3),
            record_bytes_max: u32::try_from(RECORD_BYTES_MAX).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }
}

impl World {
    fn part_and_heal(&mut self, forgotten: bool) -> Result<Healed, String> {
        self.calm = false;
        // Somewhere in the rhythm of their pings.
        let idle = self.faults.below(20_000);
        self.pass_time(idle)?;
        let ways = self.faults.one_of([true, true], &[[true, false], [false, true]]);
        let lasted = 1 + self.faults.below(LASTS_MS_MAX);
        let end = self.now + lasted;
        let spared = self.faults.index(self.devices.len());
        for device in &mut self.devices {
            if device.at != spared {
                let until = ways.map(|struck| if struck { end } else { 0 });
                let lost = if forgotten { Lost::Forever } else { Lost::UntilTriedAgain };
                device.parted = Parted { until, lost, swallows: true };
            }
        }
        while self.now < end {
            let pause = self.apps.below(2 * WRITES_EVERY_MS).min(end - self.now);
            self.pass_time(pause)?;
            self.write();
        }
        self.calm_down();
        self.run()?;
        if self.marks.contains_key("tab killed") {
            return Err(format!("a tab was reloaded: {}", self.summary()));
        }
        Ok(Healed { lasted, after: self.now - end })
    }

    /// What happens within so many milliseconds.
    fn pass_time(&mut self, span: u64) -> Result<(), String> {
        let end = self.now + span;
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= end) {
            self.turn()?;
        }
        self.now = end;
        Ok(())
    }

    /// When a dial has to be looked at again that nobody answers; `None` if somebody does, or says that nobody will.
    pub(super) fn unanswered(&mut self, device: usize) -> Option<u64> {
        let parted = &self.devices.get(device)?.parted;
        if !(parted.swallows && parted.is_parted(self.now)) {
            return None;
        }
        let until = parted.until.into_iter().max().unwrap_or_default();
        let tried = DIAL_TRIES_MS.into_iter().find(|after| self.now + after >= until);
        Some(tried.unwrap_or_else(|| DIAL_WITHIN.0 + self.net.below(UNANSWERED_BACKOFF.0 + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_passes_when_it_is_tried_again_after_the_line_is_whole() {
        let parted = |until| Parted { until, lost: Lost::UntilTriedAgain, swallows: true };
        let cut = parted([0, 5_000]);
        let mut stall = None;
        assert_eq!(cut.tried_again(&mut stall, 1, 1_000), 6_200, "200, 400, ... 3,200 later");
        assert_eq!(cut.tried_again(&mut stall, 1, 2_000), 5_200, "nothing passes before it");
        assert_eq!(cut.tried_again(&mut stall, 1, 6_000), 1_200, "whole, but it is not tried yet");
        assert_eq!(cut.tried_again(&mut stall, 1, 7_200), 0);
        let mut stall = None;
        assert_eq!(cut.tried_again(&mut stall, 0, 1_000), 0, "its acknowledgement is lost");
        assert_eq!(cut.tried_again(&mut stall, 0, 1_200), 6_000);
    }

    #[test]
    fn p04_everybody_agrees_within_seconds_of_the_heal() {
        for (forgotten, within) in [(false, 5_000), (true, 10_000)] {
            let agreed = |seed| partition(seed, forgotten).expect("they agree").after;
            let mut after: alloc::vec::Vec<u64> = (0..40).map(agreed).collect();
            after.sort_unstable();
            assert!(after[37] <= within, "{after:?}");
        }
    }
}
