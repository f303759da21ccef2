//! Bytes: deterministic CBOR (RFC 8949 section 4.2) with limits.
//!
//! Invariant: decoding and encoding again gives the same bytes, or decoding fails. Integers and lengths
//! take their shortest form, map keys ascend, floats take nine bytes, a length that is not backed by
//! bytes buys no memory. Absent: messages (see `protocol`), tags, indefinite lengths.

mod dictionary;
mod reader;
mod record;
mod seal;
#[cfg(test)]
mod tests;
mod writer;

pub use dictionary::{Dictionary, read_dictionary, write_dictionary};
pub use reader::Reader;
pub use record::{
    burial, decode_record, encode_record, read_id, read_key, read_record, read_stamp, read_value,
    read_vector, record_digest, seen, write_id, write_key, write_record, write_stamp, write_value,
    write_vector,
};
pub use seal::{seal, unseal};
pub use writer::Writer;

/// Deepest nesting of arrays and maps.
pub const DEPTH_MAX: usize = 64;

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct CodecError {
    /// Offset into the bytes given.
    pub at: usize,
    /// What is wrong there.
    pub kind: CodecFault,
}

/// What is wrong with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecFault {
    /// The bytes end too early, or a length exceeds what is left.
    #[error("truncated")]
    Truncated,
    /// Another type stands where this one must.
    #[error("expected {expected}")]
    Type {
        /// The type that must stand here.
        expected: &'static str,
    },
    /// Valid, but not the one form that this content has.
    #[error("not canonical")]
    NotCanonical,
    /// Text that is not UTF-8.
    #[error("invalid utf-8")]
    Utf8,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    Depth,
    /// A number, length or name outside its range.
    #[error("out of range")]
    Range,
    /// Bytes follow the end.
    #[error("trailing bytes")]
    Trailing,
    /// Not the bytes that were written.
    #[error("damaged")]
    Damaged,
    /// A format version that this build does not know.
    #[error("unknown version {0}")]
    Version(u64),
}
