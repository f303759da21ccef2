//! Whole worlds: a tape says what happens when, and the oracles look on.

use rejoin_core::testing::{rng::Rng, sim};

/// No tape makes a world in which something is lost, doubled or stuck.
pub(crate) fn tape(bytes: &[u8]) {
    if let Err(failure) = sim::run_tape(bytes) {
        panic!("{}", failure.what);
    }
}

/// The beginning of a tape; what follows is quiet.
pub(crate) fn seed(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(400)).map(|_| if rng.once_in(2) { 0 } else { rng.byte() }).collect()
}
