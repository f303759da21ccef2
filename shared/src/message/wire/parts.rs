//! Messages in parts: a line that takes long for a message still shows that it lives.
//!
//! A message of more than [`PART_BYTES`] bytes goes as several frames. Each that arrives is a sign of life, so deadlines
//! are about progress: no message has to be through by any of them, only one part. Nothing stands between the
//! parts of a message on its channel; other channels may.

use super::channel_prefix;
use crate::{
    codec::{CodecError, CodecFault, Reader, Writer},
    message::limits::{FRAME_BYTES_MAX, PART_BYTES},
};
use alloc::{borrow::Cow, vec::Vec};

/// The array that a part is: whether more follow, and its bytes. A message is an array of five.
const PART: u8 = 0x82;

/// The frames that carry a message.
pub fn frames(channel: u64, message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let whole = message.len() <= PART_BYTES;
    let count = message.len().div_ceil(PART_BYTES);
    // An empty message is one frame too.
    let pieces = (0..count.max(1)).map(move |at| {
        let start = at * PART_BYTES;
        message.get(start..message.len().min(start + PART_BYTES)).unwrap_or_default()
    });
    pieces.enumerate().map(move |(at, piece)| {
        let mut frame = channel_prefix(channel);
        if whole {
            frame.extend_from_slice(piece);
            return frame;
        }
        let mut part = Writer::new();
        part.array(2);
        part.bool(at + 1 < count);
        part.bytes(piece);
        frame.extend_from_slice(&part.into_bytes());
        frame
    })
}

/// Whether what a frame carries, its channel taken off, is a part of a message.
#[must_use]
pub fn is_part(content: &[u8]) -> bool {
    content.first() == Some(&PART)
}

/// Puts the messages of one channel together again. Holds at most [`FRAME_BYTES_MAX`] bytes.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: Vec<u8>,
}

impl Assembler {
    /// Whether no part of a message waits for the rest of it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Takes what a frame carries, its channel taken off; gives the message that it completes.
    ///
    /// # Errors
    /// [`CodecError`] when it is no part where one must follow, no well-formed part, or one too many.
    pub fn take<'a>(&mut self, content: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, CodecError> {
        if !is_part(content) {
            let fault = CodecError { at: 0, kind: CodecFault::Type { expected: "a part" } };
            return if self.begun.is_empty() {
                Ok(Some(Cow::Borrowed(content)))
            } else {
                Err(fault)
            };
        }
        let mut input = Reader::new(content);
        input.array_exact(2)?;
        let more = input.bool()?;
        let piece = input.bytes()?;
        if piece.is_empty() || self.begun.len() + piece.len() > FRAME_BYTES_MAX {
            return Err(input.fault(CodecFault::Range));
        }
        input.finish()?;
        self.begun.extend_from_slice(piece);
        Ok((!more).then(|| Cow::Owned(core::mem::take(&mut self.begun))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::wire::split_frame;

    #[test]
    fn a_message_of_any_size_arrives_as_it_was_in_frames_of_a_bounded_size() {
        for len in [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, FRAME_BYTES_MAX] {
            let message: Vec<u8> =
                (0..len).map(|at| if at % 251 == 0 { 0x85 } else { 7 }).collect();
            let mut assembler = Assembler::default();
            let frames: Vec<_> = frames(300, &message).collect();
            let last = frames.len() - 1;
            for (at, frame) in frames.iter().enumerate() {
                assert!(frame.len() <= PART_BYTES + 10);
                let (channel, content) = split_frame(frame).unwrap();
                assert_eq!(channel, 300);
                let whole = assembler.take(content).unwrap();
                assert_eq!(whole.as_deref(), (at == last).then_some(message.as_slice()));
            }
        }
    }

    #[test]
    fn parts_beyond_a_frame_and_messages_between_parts_are_refused() {
        let part = |len: usize| {
            let mut out = Writer::new();
            out.array(2);
            out.bool(true);
            out.bytes(&alloc::vec![1; len]);
            out.into_bytes()
        };
        let mut assembler = Assembler::default();
        assert!(assembler.take(&part(0)).is_err());
        assert_eq!(assembler.take(&part(FRAME_BYTES_MAX)).unwrap(), None);
        assert!(assembler.take(&part(1)).is_err());
        assert!(assembler.take(&[0x85, 14]).is_err());
    }
}
