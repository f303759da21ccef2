//! Who is here right now: what an initiator says of its tabs, and what it hears of others'. Never stored.
//!
//! Absent: when it is said, and to whom (see `protocol`).

use super::limits::PRESENCE_VALUE_BYTES_MAX;
use crate::{
    codec::{DEPTH_MAX, Writer, write_value},
    record::Value,
};
use alloc::{string::String, vec::Vec};

/// Deepest nesting of a value: below what any message leaves to it.
const VALUE_DEPTH_MAX: usize = DEPTH_MAX - 8;

/// The feature of presence: whoever lacks it is sent none of this.
pub const FEATURE_PRESENCE: u64 = 2;

/// What tabs of the initiator show, as far as that is new. The first one of a session, be it empty, asks to be told
/// of others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Presence {
    /// By tab: a number that the initiator chooses, and all that it shows.
    pub here: Vec<(u64, Value)>,
    /// Tabs that show nothing any more.
    pub gone: Vec<u64>,
}

/// What tabs of other peers show, as far as that is new.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Others {
    /// Whether those told of before are to be forgotten first.
    pub anew: bool,
    /// Those who show something.
    pub here: Vec<Other>,
    /// By id: those who show nothing any more, or are gone.
    pub gone: Vec<u64>,
}

/// A tab of another peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Opaque; one tab of one connection has it, and no other one while the responder runs.
    pub id: u64,
    /// As whom its token identifies it.
    pub principal: String,
    /// All that it shows.
    pub value: Value,
}

/// Why a value cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// Its encoding is too long.
    #[error("presence of {got} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes that it takes.
        got: usize,
        /// Most that it may take.
        max: usize,
    },
    /// Arrays and maps in it are nested too deeply.
    #[error("presence is nested {got} deep, at most {max} is allowed")]
    TooDeep {
        /// How deep.
        got: usize,
        /// How deep it may be.
        max: usize,
    },
}

impl Presence {
    /// Bytes that a value takes, if it can be shown. O(size of the value).
    ///
    /// # Errors
    /// [`PresenceError`] when it is beyond a limit.
    pub fn admit(value: &Value) -> Result<usize, PresenceError> {
        let got = value.depth();
        if got > VALUE_DEPTH_MAX {
            return Err(PresenceError::TooDeep { got, max: VALUE_DEPTH_MAX });
        }
        let mut out = Writer::new();
        write_value(&mut out, value);
        let (got, max) = (out.len(), PRESENCE_VALUE_BYTES_MAX);
        if got > max { Err(PresenceError::TooLarge { got, max }) } else { Ok(got) }
    }
}
