//! The simulator: seeds, each a world with its own faults.
#![expect(clippy::print_stdout, reason = "a test that reports its seed")]

use rejoin_core::testing::sim::{self, marks};
use std::collections::BTreeMap;

/// Seeds of a usual run, in which the rarest mark happens several times.
const SEEDS: u64 = 300;
const FIRST: u64 = 0;

/// Seeds of one run: `SIM_SEEDS` of them from `SIM_FROM` on.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let from = number("SIM_FROM", FIRST);
    from..from + number("SIM_SEEDS", SEEDS)
}

#[test]
fn every_seed_comes_to_rest_with_nothing_lost_or_doubled() {
    let mut marks = marks::Marks::new();
    let (mut events, mut written, mut failed) = (0, 0, Vec::new());
    for seed in seeds() {
        match sim::run(seed) {
            Ok(outcome) => {
                events += outcome.events;
                written += outcome.written;
                for (mark, count) in outcome.marks {
                    *marks.entry(mark).or_default() += count;
                }
            }
            Err(failure) => {
                println!("seed {}: {}", failure.seed, failure.what);
                println!("{:?}", sim::Plan::draw(seed));
                if std::env::var_os("SIM_STORY").is_some() {
                    failure.story.iter().for_each(|line| println!("  {line}"));
                }
                failed.push(failure.seed);
            }
        }
    }
    println!("{events} events, {written} writes, {marks:?}");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
    if written > 0 {
        marks.insert("written", written);
    }
    let rarest = marks::rarest(&marks).into_iter();
    let never: Vec<&str> = rarest.filter(|(_, count)| *count == 0).map(|(mark, _)| mark).collect();
    assert!(never.is_empty() || seeds().end - seeds().start < SEEDS, "never happened: {never:?}");
}

/// A store that is copied or put back, with what it has not sent: both copies run, and push the same rows. Short
/// lives, `SIM_HISTORY_SEEDS` of them (100,000 take some minutes) from `SIM_FROM` on.
#[test]
fn b02_b03_each_write_of_copied_and_rolled_back_stores_counts_once() {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let from: u64 = number("SIM_FROM", 0);
    let mut marks: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut written, mut failed) = (0, Vec::new());
    for seed in from..from + number("SIM_HISTORY_SEEDS", 300) {
        match sim::run_plan(seed, sim::Plan::draw_copies(seed)) {
            Ok(outcome) => {
                written += outcome.written;
                for (mark, count) in outcome.marks {
                    *marks.entry(mark).or_default() += count;
                }
            }
            Err(failure) => {
                println!("seed {}: {}", failure.seed, failure.what);
                println!("{:?}", sim::Plan::draw_copies(seed));
                if std::env::var_os("SIM_STORY").is_some() {
                    failure.story.iter().for_each(|line| println!("  {line}"));
                }
                failed.push(failure.seed);
            }
        }
    }
    println!("{written} writes, {marks:?}");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    for seed in 0..10 {
        if sim::run(seed) != sim::run(seed) {
            panic!("seed {seed} ran two ways");
        }
    }
}
