//! A digest of all that happens in a world: the same one means the same events.

use alloc::vec::Vec;
use core::hash::Hasher;

/// Bytes that are hashed at once.
const BYTES_WAITING: usize = 1 << 16;

/// A hash over all events. They are hashed many at a time: each alone would take longer than what it causes.
#[derive(Default)]
pub(super) struct Trace {
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
}

impl Trace {
    pub(super) fn digest(&mut self) -> [u8; 32] {
        self.flush();
        *self.hasher.finalize().as_bytes()
    }

    fn flush(&mut self) {
        self.hasher.update(&self.waiting);
        self.waiting.clear();
    }
}

/// Takes values as bytes that are the same on every platform.
impl Hasher for Trace {
    fn write(&mut self, bytes: &[u8]) {
        if self.waiting.len() > BYTES_WAITING {
            self.flush();
        }
        self.waiting.extend_from_slice(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write(&(number as i64).to_le_bytes());
    }

    /// Of no use here.
    fn finish(&self) -> u64 {
        0
    }
}
