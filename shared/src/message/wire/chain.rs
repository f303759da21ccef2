//! The check that ends every frame: a line that loses, repeats, swaps or changes frames is noticed before anything is
//! decoded, and costs a connection.
//!
//! Each way of a connection is a chain: the check of a frame is taken over it and all before it, so it stands for its
//! place as well. Behind the first frame that is not the one that was sent, every check is wrong. Against accidents,
//! not against people: whoever can write on a line can make checks. Absent: connections and what ends them.

use alloc::vec::Vec;

/// Bytes of a check: of 2^32 accidents one goes unnoticed until the next frame.
pub const CHECK_BYTES: usize = 4;

/// Where the chains begin, one for each way.
const INITIATOR: [u8; 32] = *b"rejoin.frames.v1 of an initiator";
const RESPONDER: [u8; 32] = *b"rejoin.frames.v1 of a responder.";

/// What came is not the next frame that was sent on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::REASON)]
pub struct BadLine;

impl BadLine {
    /// What the peer is told.
    pub const REASON: &'static str = "a frame was lost, repeated or changed on its way";
}

/// One way of one connection, at the end that sends or at the end that receives.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The digest of all frames up to here: the key of the next one's.
    key: [u8; 32],
}

impl Chain {
    /// What the initiator sends.
    #[must_use]
    pub const fn of_initiator() -> Self {
        Self { key: INITIATOR }
    }

    /// What the responder sends.
    #[must_use]
    pub const fn of_responder() -> Self {
        Self { key: RESPONDER }
    }

    /// The next frame with its check. Frames leave in the order in which they are sealed. O(length of the frame).
    #[must_use]
    pub fn seal(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let check = self.advance(&frame);
        frame.extend(check);
        frame
    }

    /// The frame without its check. O(length of the frame).
    ///
    /// # Errors
    /// [`BadLine`] when it is not the next one that was sealed, and for all that come behind such a one.
    pub fn open<'a>(&mut self, sealed: &'a [u8]) -> Result<&'a [u8], BadLine> {
        let parts = sealed.split_last_chunk();
        match parts.filter(|(frame, check)| self.advance(frame) == **check) {
            Some((frame, _)) => Ok(frame),
            None => {
                // Where just the check was changed, what follows would fit.
                self.advance(sealed);
                Err(BadLine)
            }
        }
    }

    fn advance(&mut self, frame: &[u8]) -> [u8; CHECK_BYTES] {
        self.key = *blake3::keyed_hash(&self.key, frame).as_bytes();
        let [a, b, c, d, ..] = self.key;
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames as one end seals them, equal ones among them.
    fn sealed() -> Vec<Vec<u8>> {
        let mut chain = Chain::of_initiator();
        [&b"hello"[..], b"push", b"push", b"", b"ping"]
            .map(|frame| chain.seal(frame.to_vec()))
            .to_vec()
    }

    /// How many frames the other end takes, and whether it takes all.
    fn taken(frames: &[Vec<u8>]) -> (usize, bool) {
        let mut chain = Chain::of_initiator();
        let opened: Vec<bool> = frames.iter().map(|frame| chain.open(frame).is_ok()).collect();
        let good = opened.iter().take_while(|good| **good).count();
        assert!(opened[good..].iter().all(|good| !good), "what comes behind a bad frame is taken");
        (good, good == frames.len())
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let mut chain = Chain::of_initiator();
        let frames = sealed();
        let opened: Vec<_> = frames.iter().map(|frame| chain.open(frame).unwrap()).collect();
        assert_eq!(opened, [&b"hello"[..], b"push", b"push", b"", b"ping"]);
        assert_eq!(frames[0].len(), 5 + CHECK_BYTES);
    }

    #[test]
    fn p02_lost_frame_is_noticed_with_the_next_one() {
        let frames = sealed();
        for at in 0..frames.len() - 1 {
            let mut frames = frames.clone();
            frames.remove(at);
            assert_eq!(taken(&frames), (at, false), "{at}");
        }
    }

    #[test]
    fn p02_repeated_or_swapped_frame_is_noticed_though_it_equals_another() {
        let frames = sealed();
        for from in 0..frames.len() {
            for to in 0..=frames.len() {
                let mut repeated = frames.clone();
                repeated.insert(to, frames[from].clone());
                // In front of itself it is the next frame the first time.
                let good = if to == from { from + 1 } else { to };
                assert_eq!(taken(&repeated), (good, false), "{from} repeated at {to}");
            }
            for other in 0..from {
                let mut swapped = frames.clone();
                swapped.swap(other, from);
                assert_eq!(taken(&swapped), (other, false), "{other} and {from}");
            }
        }
    }

    #[test]
    fn p03_every_bit_and_every_length_counts() {
        let frames = sealed();
        for at in 0..frames[1].len() {
            for bit in 0..8 {
                let mut changed = frames.clone();
                changed[1][at] ^= 1 << bit;
                assert_eq!(taken(&changed), (1, false), "bit {bit} of byte {at}");
            }
            let mut cut = frames.clone();
            cut[1].truncate(at);
            assert_eq!(taken(&cut), (1, false), "{at} bytes");
        }
    }

    #[test]
    fn p10_frame_of_another_connection_or_way_is_noticed() {
        let mut other = Chain::of_initiator();
        let others = [other.seal(b"hello again".to_vec()), other.seal(b"push".to_vec())];
        let mut frames = sealed();
        frames[1] = others[1].clone();
        assert_eq!(taken(&frames), (1, false));
        assert_eq!(taken(&[Chain::of_responder().seal(b"hello".to_vec())]), (0, false));
    }
}
