//! Runs one seed after the other on every core.

use crate::Extent;
use std::{
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

/// Runs `run` for each seed from the first on: `count` of them, or until the budget is spent. Each thread folds
/// what it sees into a `T` of its own; `join` makes one of them. Returns how many seeds ran, and the whole.
///
/// # Panics
/// When `run` panics: a broken simulator has no figures.
pub(crate) fn each<T: Default + Send>(
    extent: Extent,
    count: u64,
    run: impl Fn(u64, &mut T) + Sync,
    mut join: impl FnMut(&mut T, T),
) -> (u64, T) {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let goes_on = |at: u64| match extent.budget {
        Some(budget) => started.elapsed() < budget,
        None => at < count,
    };
    let work = || {
        let (mut ran, mut seen) = (0, T::default());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if !goes_on(at) {
                return (ran, seen);
            }
            run(extent.seed.wrapping_add(at), &mut seen);
            ran += 1;
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut whole = (0, T::default());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok((ran, seen)) => {
                    whole.0 += ran;
                    join(&mut whole.1, seen);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    whole
}

/// All of `items`, or an even sample of about so many of them, which the seed shifts.
pub(crate) fn sample<T>(items: Vec<T>, seed: u64, count: Option<usize>) -> anyhow::Result<Vec<T>> {
    let stride = count.map_or(1, |count| items.len().div_ceil(count.max(1)).max(1));
    let first = usize::try_from(seed)? % stride;
    Ok(items.into_iter().skip(first).step_by(stride).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_all_seeds_are_all_there_is() {
        let items: Vec<u8> = (0..100).collect();
        let sample = |seed| sample(items.clone(), seed, Some(10)).unwrap();
        assert!((0..10).all(|seed| sample(seed).len() == 10));
        let mut all: Vec<u8> = (0..10).flat_map(sample).collect();
        all.sort_unstable();
        assert_eq!(all, items);
        assert_eq!(super::sample(items.clone(), 7, None).unwrap(), items);
    }

    #[test]
    fn each_seed_runs_once() {
        let extent = Extent { budget: None, seed: 40 };
        let (ran, mut seeds) = each(
            extent,
            100,
            |seed, seen: &mut Vec<u64>| seen.push(seed),
            |whole, seen| whole.extend(seen),
        );
        seeds.sort_unstable();
        assert_eq!(ran, 100);
        assert!(seeds.into_iter().eq(40..140));
    }
}
