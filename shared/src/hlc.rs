//! Hybrid logical clock: wall milliseconds and a counter in one 64-bit number that only grows.
//!
//! Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", 2014
//! (<https://cse.buffalo.edu/tech-reports/2014-04.pdf>). We differ in three ways: the counter carries
//! into the milliseconds instead of overflowing, a foreign stamp that is beyond the drift bound and runs
//! ahead of the clock itself moves nobody's clock, and the last value saturates with a typed error instead of wrapping.

use crate::{id::ReplicaId, time::Millis, time::WallMillis};
use core::fmt;

/// How far ahead of the reader's wall clock a foreign stamp may be and still move its clock.
pub const DRIFT_MAX: Millis = Millis(60_000);

/// How many counts beyond the reader's clock a foreign stamp may be, whatever the wall clock says. A writer
/// that has seen nothing but what this clock has is one count ahead with each row; one that means ill moves
/// the clock by a second with 65,536 rows.
const COUNTS_MAX: u64 = 1_000;

const COUNTER_BITS: u32 = 16;
const WALL_MAX: u64 = (1 << 48) - 1;

/// 48 bits of wall milliseconds, then 16 bits of counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(u64);

impl Hlc {
    /// Earlier than every stamp that a clock issues.
    pub const ZERO: Self = Self(0);

    /// The value as one number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The value as one number; its order is the clock's order.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// First value of a wall-clock millisecond; times beyond 48 bits (the year 10889) saturate.
    #[must_use]
    pub fn at(wall: WallMillis) -> Self {
        Self(wall.0.min(WALL_MAX) << COUNTER_BITS)
    }

    /// Its wall-clock part.
    #[must_use]
    pub const fn wall(self) -> WallMillis {
        WallMillis(self.0 >> COUNTER_BITS)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> COUNTER_BITS, self.0 & 0xffff)
    }
}

/// Identity and total order of one write: clock first, replica as tie-breaker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When, in hybrid time.
    pub hlc: Hlc,
    /// By which replica.
    pub replica: ReplicaId,
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.hlc, self.replica)
    }
}

/// The clock has issued its last value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hybrid clock is exhausted")]
pub struct ClockExhausted;

/// Whether a foreign stamp moved the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The clock is now at or beyond the stamp.
    Taken,
    /// The stamp is more than [`DRIFT_MAX`] ahead of the wall clock, and ahead of the clock, and was ignored.
    Ahead {
        /// How far it is ahead of the wall clock.
        by: Millis,
    },
}

/// Issues stamps: each is greater than all it issued or took in before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A clock that continues behind `last`.
    #[must_use]
    pub const fn resume(last: Hlc) -> Self {
        Self { last }
    }

    /// The greatest value issued or taken in.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// Issues the next value.
    ///
    /// # Errors
    /// [`ClockExhausted`] when no greater value exists.
    pub fn tick(&mut self, wall: WallMillis) -> Result<Hlc, ClockExhausted> {
        let next = Hlc(self.last.0.checked_add(1).ok_or(ClockExhausted)?);
        self.last = next.max(Hlc::at(wall));
        Ok(self.last)
    }

    /// Takes in a foreign value, unless it is beyond the drift bound.
    ///
    /// A clock that has run ahead of its wall clock, which was set back, takes in what does not run ahead
    /// of the clock: whoever saw what it issued can issue nothing earlier.
    pub fn observe(&mut self, foreign: Hlc, wall: WallMillis) -> Observed {
        match self.ahead(foreign, wall) {
            Some(by) => Observed::Ahead { by },
            None => {
                self.last = self.last.max(foreign);
                Observed::Taken
            }
        }
    }

    /// By how much a foreign value is ahead of the wall clock, if that is more than may be taken in.
    #[must_use]
    pub fn ahead(&self, foreign: Hlc, wall: WallMillis) -> Option<Millis> {
        let by = foreign.wall().0.saturating_sub(wall.0);
        let counts = foreign.0.saturating_sub(self.last.0);
        (by > DRIFT_MAX.0 && counts > COUNTS_MAX).then_some(Millis(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_grows_when_the_wall_clock_stands_still_or_jumps_back() {
        let mut clock = HlcClock::default();
        let mut last = Hlc::ZERO;
        for step in 0..200_000_u64 {
            let wall = WallMillis(if step < 150_000 { 1_000 } else { 10 });
            let next = clock.tick(wall).unwrap();
            assert!(next > last);
            last = next;
        }
        assert_eq!(last.wall(), WallMillis(1_003), "200,000 ticks carry into three milliseconds");
    }

    #[test]
    fn times_beyond_48_bits_are_the_last_one() {
        let last = Hlc::from_bits(0xffff_ffff_ffff_0000);
        for wall in [(1 << 48) - 1, 1 << 48, u64::MAX] {
            assert_eq!(Hlc::at(WallMillis(wall)), last, "{wall}");
        }
    }

    #[test]
    fn c05_clock_ignores_stamps_beyond_the_drift_bound() {
        let mut clock = HlcClock::default();
        let wall = WallMillis(1_000_000);
        assert_eq!(clock.observe(Hlc::at(WallMillis(1_060_000)), wall), Observed::Taken);
        assert_eq!(
            clock.observe(Hlc::at(WallMillis(1_060_001)), wall),
            Observed::Ahead { by: Millis(60_001) }
        );
        assert_eq!(clock.last(), Hlc::at(WallMillis(1_060_000)));
    }

    /// It refused what others had issued behind what it had issued itself, until its wall clock had caught up.
    #[test]
    fn clock_that_was_ahead_takes_in_what_is_not_ahead_of_it() {
        let (wrong, right) = (WallMillis(9_000_000), WallMillis(1_000_000));
        let mut clock = HlcClock::default();
        let mut other = HlcClock::resume(clock.tick(wrong).unwrap());
        for _ in 0..200_000 {
            let next = other.tick(right).unwrap();
            assert_eq!(clock.observe(next, right), Observed::Taken);
            assert_eq!(clock.last(), next);
        }
        let (beyond, by) = (Hlc::at(WallMillis(9_000_006)), Millis(8_000_006));
        assert_eq!(clock.observe(beyond, right), Observed::Ahead { by });
    }

    #[test]
    fn c06_clock_saturates_with_an_error() {
        let mut clock = HlcClock::resume(Hlc::from_bits(u64::MAX - 1));
        assert_eq!(clock.tick(WallMillis(0)), Ok(Hlc::from_bits(u64::MAX)));
        assert_eq!(clock.tick(WallMillis(u64::MAX)), Err(ClockExhausted));
        assert_eq!(clock.last(), Hlc::from_bits(u64::MAX));
    }

    #[test]
    fn c06_writer_carries_a_clock_that_is_ahead_on_by_a_second_with_65_536_rows() {
        let wall = WallMillis(1_700_000_000_000);
        let mut clock = HlcClock::default();
        clock.tick(WallMillis(wall.0 + 60_001)).unwrap();
        for _ in 0..65_536 {
            let foreign = Hlc::from_bits(clock.last().to_bits() + COUNTS_MAX + 1);
            assert!(matches!(clock.observe(foreign, wall), Observed::Ahead { .. }));
            let foreign = Hlc::from_bits(clock.last().to_bits() + COUNTS_MAX);
            assert_eq!(clock.observe(foreign, wall), Observed::Taken);
        }
        assert_eq!(clock.last().wall(), WallMillis(wall.0 + 61_001));
    }
}
