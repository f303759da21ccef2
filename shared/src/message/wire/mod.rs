//! Messages as bytes, and the frames that carry them: section 1 of `docs/PROTOCOL.md`.
//!
//! Invariant: decoding gives back what was encoded, and whatever decodes encodes to the same bytes.
//! Initiators keep received messages exactly as they came, so bytes of a released version stay readable:
//! limits may only grow, numbers are never used again. Absent: whether a message has a place in its
//! session, and the limits of frames and records, which are their readers'.

mod chain;
mod decode;
mod encode;
mod parts;
mod walk;

pub use chain::{BadLine, CHECK_BYTES, Chain};
pub use decode::decode;
pub(super) use encode::chunk_head;
pub use encode::encode;
pub use parts::{Assembler, frames, is_part};

use super::{ByeCode, Identity, Kept, Message, Mode, Push, PushRow, Refill, RejectCode};
use crate::{
    codec::{CodecError, CodecFault},
    tree::Levels,
};
use alloc::vec::Vec;

/// The type of [`Message::Chunk`], as it is sent.
const CHUNK: u8 = 11;
/// Most bytes that a channel number takes.
pub const CHANNEL_BYTES_MAX: usize = 10;

/// A frame: the channel number, then the message.
#[must_use]
pub fn encode_frame(channel: u64, message: &Message) -> Vec<u8> {
    let mut frame = channel_prefix(channel);
    frame.extend_from_slice(&encode(message));
    frame
}

/// Bytes of the frame of a push that has just this row, at most. O(size of the row).
#[must_use]
pub fn row_frame_bytes(row: &PushRow) -> usize {
    let alone = Push { named: u64::MAX, rows: Vec::from([row.clone()]) };
    CHANNEL_BYTES_MAX + encode(&Message::Push(alone)).len()
}

/// The bytes of a frame that brings this record back alone, its channel included.
#[must_use]
pub fn kept_frame_bytes(kept: &Kept) -> usize {
    let alone = Refill { subscription: u32::MAX, entries: Vec::from([kept.clone()]) };
    CHANNEL_BYTES_MAX + encode(&Message::Refill(alone)).len()
}

/// A message as it is best sent: a chunk deflated, if that makes it smaller. All others stay as they are, `None`.
///
/// Takes some 20 ms per MiB, so whoever sends does it where nobody else waits.
#[must_use]
pub fn deflated(message: &[u8]) -> Option<Vec<u8>> {
    // The type is the second byte; nothing else is looked at closely.
    if message.get(1) != Some(&CHUNK) {
        return None;
    }
    match decode(message) {
        Ok(Message::Chunk(chunk)) => {
            let deflated = chunk.deflated();
            deflated.packed.inflated.is_some().then(|| encode(&Message::Chunk(deflated)))
        }
        _ => None,
    }
}

/// What a frame of a channel begins with, before the bytes of its message.
#[must_use]
pub fn channel_prefix(channel: u64) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(CHANNEL_BYTES_MAX);
    let mut rest = channel;
    loop {
        let [.., low] = rest.to_be_bytes();
        rest >>= 7;
        if rest == 0 {
            prefix.push(low & 0x7f);
            return prefix;
        }
        prefix.push(low | 0x80);
    }
}

/// Splits a frame into its channel number and the bytes of its message.
///
/// # Errors
/// [`CodecFault::Truncated`] when the number does not end, [`CodecFault::Range`] when it exceeds 64
/// bits, [`CodecFault::NotCanonical`] when it has a shorter form.
pub fn split_frame(frame: &[u8]) -> Result<(u64, &[u8]), CodecError> {
    let mut channel = 0_u64;
    for (at, byte) in frame.iter().enumerate().take(CHANNEL_BYTES_MAX) {
        let last = byte & 0x80 == 0;
        // The tenth group of seven bits has room for one.
        if at + 1 == CHANNEL_BYTES_MAX && *byte > 1 {
            return Err(CodecError { at, kind: CodecFault::Range });
        }
        if last && *byte == 0 && at > 0 {
            return Err(CodecError { at, kind: CodecFault::NotCanonical });
        }
        channel |= u64::from(byte & 0x7f) << (7 * at);
        if last {
            return Ok((channel, frame.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(CodecError { at: frame.len(), kind: CodecFault::Truncated })
}

/// An enumeration without content, sent as a number.
trait Numbered: Sized {
    fn number(&self) -> u64;
    fn from_number(number: u64) -> Option<Self>;
}

macro_rules! numbered {
    ($type:ident: $($variant:ident = $number:literal),+ $(,)?) => {
        impl Numbered for $type {
            fn number(&self) -> u64 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }

            fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

numbered!(Identity: Confirmed = 0, Forked = 1, Foreign = 2);
numbered!(Mode: InSync = 0, Feed = 1, Heal = 2, Snapshot = 3, Rebase = 4);
numbered!(RejectCode: Forbidden = 0, TooLarge = 1, Forged = 2, Invalid = 3, RecordGone = 4,
    Unsure = 5, UpgradeServer = 6, Quota = 7);
numbered!(ByeCode: Done = 0, ShuttingDown = 1, Version = 2, Unauthorized = 3, NoSpace = 4,
    Malformed = 5, Misbehaved = 6, TooLarge = 7, SlowConsumer = 8, Superseded = 9, Storage = 10,
    StorageFull = 11, Busy = 12, Internal = 13, BadLine = 14);
numbered!(Levels: One = 0, Two = 1);
