//! The decisions of a world: drawn from a seed, or read from a tape of bytes.
//!
//! Each stream has its own: what is drawn more or less often on one changes no other. Whatever is drawn is kept, so
//! every run can be run again from its [`Tape`]. A tape may hold any bytes and may end anywhere: behind its end every
//! draw is 0, which is the quiet choice (no fault, the least delay, the first of several), and once nothing is left of
//! what apps do and of what strikes them, nothing more is done. Names and values of which only the difference counts
//! are no decisions: they follow from one number at the beginning of the first stream.

use crate::testing::rng::Rng;
use alloc::vec::Vec;

/// The streams, in the order in which a tape has them.
pub const STREAMS: [&str; 6] = ["plan", "net", "disk", "clock", "apps", "faults"];
/// Bytes of a tape that are looked at, at most.
pub const TAPE_BYTES_MAX: usize = 1 << 16;

/// The decisions of a world as bytes, each stream apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Tape {
    /// In the order of [`STREAMS`].
    pub streams: [Vec<u8>; STREAMS.len()],
}

impl Tape {
    /// Any bytes are a tape: pieces of a stream's number, a length and as many bytes. What is beyond
    /// [`TAPE_BYTES_MAX`] is not looked at.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut tape = Self::default();
        let mut rest = bytes.get(..TAPE_BYTES_MAX).unwrap_or(bytes);
        while let [number, length, behind @ ..] = rest {
            let (piece, behind) =
                behind.split_at_checked(usize::from(*length)).unwrap_or((behind, &[]));
            if let Some(stream) = tape.streams.get_mut(usize::from(*number) % STREAMS.len()) {
                stream.extend_from_slice(piece);
            }
            rest = behind;
        }
        tape
    }

    /// Bytes of which [`Tape::from_bytes`] makes this tape, if they are no more than [`TAPE_BYTES_MAX`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, stream) in (0_u8..).zip(&self.streams) {
            for piece in stream.chunks(usize::from(u8::MAX)) {
                bytes.push(number);
                bytes.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(piece);
            }
        }
        bytes
    }

    /// Bytes in all streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.iter().map(Vec::len).sum()
    }

    /// Without the zeros that the end of a stream stands for. (Those of apps and faults say how long they go on.)
    pub(super) fn trim(&mut self) {
        let [plan, net, disk, ..] = &mut self.streams;
        for stream in [plan, net, disk] {
            let end = stream.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            stream.truncate(end);
        }
    }

    /// Whether every stream is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug)]
enum Source {
    Seed(Rng),
    Tape(Vec<u8>),
}

/// One stream of decisions. Reads as [`Rng`] does.
#[derive(Debug)]
pub(super) struct Stream {
    source: Source,
    /// What was drawn.
    kept: Vec<u8>,
    /// What need only be different each time.
    ids: Rng,
}

impl Stream {
    fn new(source: Source) -> Self {
        Self { source, kept: Vec::new(), ids: Rng::new(0) }
    }

    /// The sequence of `seed`.
    pub(super) fn of_seed(seed: u64) -> Self {
        Self::new(Source::Seed(Rng::new(seed)))
    }

    /// What `bytes` say.
    pub(super) fn of_tape(bytes: Vec<u8>) -> Self {
        Self::new(Source::Tape(bytes))
    }

    /// A number below `end`, or 0 if `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        let width = match end {
            0 | 1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            0x1_0001..=0x1_0000_0000 => 4,
            _ => 8,
        };
        let value = match &mut self.source {
            Source::Seed(rng) => rng.below(end),
            Source::Tape(bytes) => {
                let mut value = [0; 8];
                let from = bytes.get(self.kept.len()..).unwrap_or_default();
                value.iter_mut().zip(from).take(width).for_each(|(to, byte)| *to = *byte);
                u64::from_le_bytes(value) % end
            }
        };
        self.kept.extend(value.to_le_bytes().iter().take(width));
        value
    }

    /// Whether a tape was read to its end.
    pub(super) fn is_over(&self) -> bool {
        matches!(&self.source, Source::Tape(bytes) if bytes.len() <= self.kept.len())
    }

    /// An index below `end`, or 0 if `end` is 0.
    pub(super) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// True once in `times`, on average, and always if that is not more than 1. The quiet choice is that it is not.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        times <= 1 || self.below(times) == times - 1
    }

    /// `first` or one of `rest`, each as likely.
    pub(super) fn one_of<T: Copy>(&mut self, first: T, rest: &[T]) -> T {
        let at = self.index(rest.len() + 1);
        at.checked_sub(1).and_then(|at| rest.get(at)).copied().unwrap_or(first)
    }

    /// Any byte.
    pub(super) fn byte(&mut self) -> u8 {
        let [low, ..] = self.below(0x100).to_le_bytes();
        low
    }

    /// A number that is another one each time: no decision.
    pub(super) fn next_u64(&mut self) -> u64 {
        self.ids.next_u64()
    }

    /// `N` bytes that are others each time: no decision.
    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.ids.bytes()
    }
}

/// All streams of a world.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) plan: Stream,
    pub(super) net: Stream,
    pub(super) disk: Stream,
    pub(super) clock: Stream,
    pub(super) apps: Stream,
    pub(super) faults: Stream,
}

impl Streams {
    /// Those of `seed`.
    pub(super) fn of_seed(seed: u64) -> Self {
        let mut seeds = Rng::new(seed);
        Self::new(core::array::from_fn(|_| Source::Seed(Rng::new(seeds.next_u64()))))
    }

    /// Those on `tape`.
    pub(super) fn of_tape(tape: Tape) -> Self {
        Self::new(tape.streams.map(Source::Tape))
    }

    fn new(sources: [Source; STREAMS.len()]) -> Self {
        let [plan, net, disk, clock, apps, faults] = sources.map(Stream::new);
        let mut streams = Self { plan, net, disk, clock, apps, faults };
        let mut ids = Rng::new(streams.plan.below(u64::MAX));
        streams.each(|stream| stream.ids = Rng::new(ids.next_u64()));
        streams
    }

    /// In the order of [`STREAMS`].
    fn each(&mut self, act: impl FnMut(&mut Stream)) {
        let Self { plan, net, disk, clock, apps, faults } = self;
        [plan, net, disk, clock, apps, faults].into_iter().for_each(act);
    }

    /// What was drawn.
    pub(super) fn tape(self) -> Tape {
        let Self { plan, net, disk, clock, apps, faults } = self;
        Tape { streams: [plan, net, disk, clock, apps, faults].map(|stream| stream.kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tape_comes_back_from_its_bytes() {
        let mut rng = Rng::new(1);
        let streams = core::array::from_fn(|at| (0..at * 300).map(|_| rng.byte()).collect());
        let tape = Tape { streams };
        assert_eq!(Tape::from_bytes(&tape.to_bytes()), tape);
    }

    #[test]
    fn any_bytes_are_a_tape() {
        assert_eq!(Tape::from_bytes(&[7, 200, 1, 2]).streams[1], [1, 2]);
        assert!(Tape::from_bytes(&[3]).is_empty());
        assert!(Tape::from_bytes(&[255; TAPE_BYTES_MAX + 9]).len() < TAPE_BYTES_MAX);
    }

    #[test]
    fn what_a_seed_draws_is_read_from_its_tape() {
        let draw = |mut streams: Streams| {
            let ends = [0, 1, 2, 256, 257, 65_536, 65_537, 1 << 32, u64::MAX];
            let drawn: Vec<u64> = ends.map(|end| streams.net.below(end)).to_vec();
            let more = (streams.apps.one_of(1, &[2, 3]), streams.disk.once_in(3));
            (drawn, more, streams.faults.bytes::<16>(), streams.tape())
        };
        for seed in 0..100 {
            let drawn = draw(Streams::of_seed(seed));
            assert_eq!(draw(Streams::of_tape(drawn.3.clone())), drawn);
        }
    }

    #[test]
    fn behind_its_end_a_tape_is_quiet() {
        let mut streams = Streams::of_tape(Tape::default());
        assert!(streams.apps.is_over());
        assert_eq!(streams.net.below(50), 0);
        assert!(!streams.faults.once_in(2));
        assert_eq!(streams.apps.one_of(7, &[8]), 7);
        assert_ne!(streams.faults.bytes::<16>(), streams.faults.bytes::<16>());
        assert_ne!(streams.faults.next_u64(), streams.apps.next_u64());
    }
}
