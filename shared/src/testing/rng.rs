//! Numbers that look random and are the same on every platform.

/// `SplitMix64`: Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014
/// (<https://doi.org/10.1145/2660193.2660195>). Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, of 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// An index below `end`, or 0 if `end` is 0.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// True once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// `first` or one of `rest`, each as likely.
    pub fn one_of<T: Copy>(&mut self, first: T, rest: &[T]) -> T {
        let at = self.index(rest.len() + 1);
        rest.get(at).copied().unwrap_or(first)
    }

    /// A number whose size, not its value, is evenly spread: boundaries of encodings come up often.
    pub fn any_size(&mut self) -> u64 {
        match self.below(12) {
            0 => self.one_of(
                0,
                &[23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX],
            ),
            _ => {
                let bits = u32::try_from(self.below(64)).unwrap_or(0);
                self.next_u64() >> bits
            }
        }
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    /// One byte.
    pub const fn byte(&mut self) -> u8 {
        let [high, ..] = self.next_u64().to_be_bytes();
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of seed 1234567 that the algorithm's reference implementation gives.
    #[test]
    fn sequence_is_that_of_the_reference() {
        let mut rng = Rng::new(1_234_567);
        let first: [u64; 3] = core::array::from_fn(|_| rng.next_u64());
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn numbers_stay_below_their_end_and_reach_it() {
        let mut rng = Rng::new(1);
        let drawn: std::vec::Vec<u64> = (0..1_000).map(|_| rng.below(7)).collect();
        assert!((0..7).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| *number < 7));
        assert_eq!(rng.below(0), 0);
    }
}
