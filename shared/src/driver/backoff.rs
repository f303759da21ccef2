//! When to dial again: full jitter (Brooker, "Exponential Backoff And Jitter", 2015,
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).

use crate::{protocol::limits::BACKOFF, time::Millis};

/// Delays between attempts: uniform between zero and a bound that doubles up to a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The delay before the next attempt; `random` is uniform over its type.
    pub fn next(&mut self, random: u64) -> Millis {
        let (least, greatest) = BACKOFF;
        let bound = least.0.saturating_mul(1 << self.attempts.min(16)).min(greatest.0);
        self.attempts = self.attempts.saturating_add(1);
        Millis(random % (bound + 1))
    }

    /// A session came to live: the next delay is short again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_bound_that_doubles_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let bounds: [u64; 8] = core::array::from_fn(|_| {
            let mut copy = backoff;
            let most = (0..100_000).map(|random| {
                let mut attempt = backoff;
                attempt.next(random).0
            });
            let most = most.max().unwrap();
            copy.next(0);
            backoff = copy;
            most
        });
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        backoff.reset();
        assert!(backoff.next(u64::MAX).0 <= 500);
    }
}
