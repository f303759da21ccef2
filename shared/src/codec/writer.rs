//! Canonical CBOR out.

use super::dictionary::{Dictionary, Growing};
use crate::{
    hlc::Hlc,
    id::{FieldName, ReplicaId},
};
use alloc::vec::Vec;

/// The NaN that is allowed. The bits of `f64::NAN` are the platform's choice.
pub(super) const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// Appends canonical CBOR to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    dictionary: Option<Growing>,
}

impl Writer {
    /// Writes ids, names and stamps in full: the stored form, over which digests are taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes ids, names and stamps through a dictionary that comes with the bytes: the sent form.
    #[must_use]
    pub fn with_dictionary() -> Self {
        Self { bytes: Vec::new(), dictionary: Some(Growing::default()) }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written, and the dictionary it needs.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Dictionary) {
        (self.bytes, self.dictionary.map(Growing::into_dictionary).unwrap_or_default())
    }

    /// Bytes written so far, without the dictionary.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        match argument {
            0..=23 => self.bytes.push(major | low_byte(argument)),
            24..=0xff => self.bytes.extend([major | 24, low_byte(argument)]),
            0x100..=0xffff => {
                self.bytes.push(major | 25);
                self.bytes.extend(argument.to_be_bytes().iter().skip(6));
            }
            0x1_0000..=0xffff_ffff => {
                self.bytes.push(major | 26);
                self.bytes.extend(argument.to_be_bytes().iter().skip(4));
            }
            _ => {
                self.bytes.push(major | 27);
                self.bytes.extend(argument.to_be_bytes());
            }
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.head(0, value);
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.head(0, value),
            // -1 - value, computed without overflow.
            Err(_) => self.head(1, (!value).unsigned_abs()),
        }
    }

    /// Raw bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.head(2, value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// Text.
    pub fn text(&mut self, value: &str) {
        self.head(3, value.len() as u64);
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Start of an array of `len` items, which the caller writes next.
    pub fn array(&mut self, len: usize) {
        self.head(4, len as u64);
    }

    /// Start of a map of `len` pairs, which the caller writes next, keys ascending by their encoding.
    pub fn map(&mut self, len: usize) {
        self.head(5, len as u64);
    }

    /// Null.
    pub fn null(&mut self) {
        self.bytes.push(0xf6);
    }

    /// True or false.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xf5 } else { 0xf4 });
    }

    /// A float, always in eight bytes behind its head; every NaN becomes the one that is allowed.
    pub fn float(&mut self, value: f64) {
        let bits = if value.is_nan() { NAN_BITS } else { value.to_bits() };
        self.bytes.push(0xfb);
        self.bytes.extend(bits.to_be_bytes());
    }

    /// Bytes that are canonical CBOR already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.bytes.extend_from_slice(encoded);
    }

    /// A replica id, by number where there is a dictionary.
    pub fn replica(&mut self, replica: &ReplicaId) {
        let Some(dictionary) = &mut self.dictionary else {
            self.bytes(replica.as_bytes());
            return;
        };
        let at = dictionary.replica(replica);
        self.uint(at);
    }

    /// A name, by number where there is a dictionary.
    pub fn name(&mut self, name: &str) {
        let Some(dictionary) = &mut self.dictionary else {
            self.text(name);
            return;
        };
        let at = dictionary.name(name);
        self.uint(at);
    }

    /// A field's name.
    pub fn field(&mut self, field: &FieldName) {
        self.name(field.as_str());
    }

    /// A hybrid time, as a difference to the first one where there is a dictionary.
    pub fn hlc(&mut self, hlc: Hlc) {
        let Some(dictionary) = &mut self.dictionary else {
            self.uint(hlc.to_bits());
            return;
        };
        let base = dictionary.base(hlc).to_bits();
        match hlc.to_bits().checked_sub(base) {
            Some(ahead) => self.head(0, ahead),
            None => self.head(1, base - hlc.to_bits() - 1),
        }
    }
}

fn low_byte(value: u64) -> u8 {
    let [.., low] = value.to_be_bytes();
    low
}
