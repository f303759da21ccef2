//! Seals: a stored value carries a digest of itself, so that a byte that was damaged is noticed whatever it
//! would decode to. Against accidents, not against people: whoever can write the store can seal.

use super::{CodecError, CodecFault};
use crate::id::Digest;
use alloc::vec::Vec;

/// Bytes of the digest that are kept: of 2^64 accidents one goes unnoticed.
const SUM_BYTES: usize = 8;

/// The sealed form of `body`, a value of the kind that `tag` names. The tag stands behind everything: a body
/// that begins with it too names its kind twice.
#[must_use]
pub fn seal(tag: u8, mut body: Vec<u8>) -> Vec<u8> {
    let sum = sum(tag, &body);
    body.extend(sum);
    body.push(tag);
    body
}

/// The body of a sealed value of the kind `tag`.
///
/// # Errors
/// [`CodecFault::Damaged`] when these are not the bytes that [`seal`] gave.
pub fn unseal(tag: u8, value: &[u8]) -> Result<&[u8], CodecError> {
    let damaged = CodecError { at: value.len(), kind: CodecFault::Damaged };
    let body = value.strip_suffix(&[tag]).and_then(<[u8]>::split_last_chunk::<SUM_BYTES>);
    let (body, _) = body.filter(|(body, held)| sum(tag, body) == **held).ok_or(damaged)?;
    Ok(body)
}

fn sum(tag: u8, body: &[u8]) -> [u8; SUM_BYTES] {
    let digest = Digest::of("rejoin.seal.v1", &[&[tag], body]);
    let mut sum = [0; SUM_BYTES];
    sum.iter_mut().zip(digest.as_bytes()).for_each(|(out, byte)| *out = *byte);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_breaks_the_seal() {
        let value = seal(3, Vec::from(*b"what was written"));
        assert_eq!(unseal(3, &value), Ok(b"what was written".as_slice()));
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(unseal(3, &damaged).unwrap_err().kind, CodecFault::Damaged);
            }
            assert!(unseal(3, &value[..at]).is_err());
        }
        assert!(unseal(4, &value).is_err());
    }
}
