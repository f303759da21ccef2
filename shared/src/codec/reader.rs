//! Canonical CBOR in. Nothing here allocates more than the bytes that are there.

use super::{CodecError, CodecFault, DEPTH_MAX, Dictionary, writer::NAN_BITS};
use crate::{
    hlc::Hlc,
    id::{CollectionName, FieldName, ReplicaId},
};
use alloc::vec::Vec;

/// Reads canonical CBOR from a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    dictionary: Option<&'a Dictionary>,
    used: Used,
    fields: Known<FieldName>,
    collections: Known<CollectionName>,
}

/// Names that were read before: those that come again are the same text in memory, checked once.
#[derive(Debug, Clone)]
struct Known<N>(Vec<N>);

impl<N: Clone> Known<N> {
    /// So many are kept: what has more names than that is read as before.
    const MAX: usize = 16;

    fn read<E>(
        &mut self,
        name: &str,
        text: fn(&N) -> &str,
        parse: fn(&str) -> Result<N, E>,
    ) -> Result<N, E> {
        if let Some(known) = self.0.iter().find(|known| text(known) == name) {
            return Ok(known.clone());
        }
        let read = parse(name)?;
        if self.0.len() < Self::MAX {
            self.0.push(read.clone());
        }
        Ok(read)
    }
}

/// How much of the dictionary the body has named so far: entries must appear in order of first use.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    replicas: usize,
    names: usize,
    base: bool,
}

impl<'a> Reader<'a> {
    /// Reads the stored form.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let (fields, collections) = (Known(Vec::new()), Known(Vec::new()));
        Self {
            bytes,
            at: 0,
            depth: 0,
            dictionary: None,
            used: Used::default(),
            fields,
            collections,
        }
    }

    /// Reads what follows in the sent form: [`Self::finish`] then also wants every entry of the
    /// dictionary used.
    #[must_use]
    pub fn with_dictionary(self, dictionary: &'a Dictionary) -> Self {
        Self { dictionary: Some(dictionary), ..self }
    }

    /// An error here.
    #[must_use]
    pub fn fault(&self, kind: CodecFault) -> CodecError {
        CodecError { at: self.at, kind }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes read since `start`, an earlier [`Self::position`].
    #[must_use]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The rest, unread.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Whether every byte, and every entry of the dictionary, was used.
    ///
    /// # Errors
    /// [`CodecFault::Trailing`] when bytes are left, [`CodecFault::NotCanonical`] when entries are.
    pub fn finish(self) -> Result<(), CodecError> {
        if self.at != self.bytes.len() {
            return Err(self.fault(CodecFault::Trailing));
        }
        let unused = self.dictionary.is_some_and(|dictionary| {
            self.used.replicas != dictionary.replicas.len()
                || self.used.names != dictionary.names.len()
                || self.used.base != dictionary.base.is_some()
        });
        if unused { Err(self.fault(CodecFault::NotCanonical)) } else { Ok(()) }
    }

    /// Runs `read` one level deeper.
    ///
    /// # Errors
    /// [`CodecFault::Depth`] beyond [`DEPTH_MAX`], or what `read` returns.
    pub fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<T, CodecError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.fault(CodecFault::Depth));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let end = self.at.checked_add(len).ok_or_else(|| self.fault(CodecFault::Truncated))?;
        let taken =
            self.bytes.get(self.at..end).ok_or_else(|| self.fault(CodecFault::Truncated))?;
        self.at = end;
        Ok(taken)
    }

    /// The first byte of the next item.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Major type of the next item.
    #[must_use]
    pub fn peek_major(&self) -> Option<u8> {
        self.peek().map(|byte| byte >> 5)
    }

    /// The argument of whatever stands here.
    fn head(&mut self) -> Result<u64, CodecError> {
        let start = self.at;
        let first = self.peek().ok_or_else(|| self.fault(CodecFault::Truncated))?;
        self.at += 1;
        let (len, least) = match first & 31 {
            small @ 0..=23 => return Ok(u64::from(small)),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => {
                return Err(CodecError { at: start, kind: CodecFault::NotCanonical });
            }
        };
        let argument =
            self.take(len)?.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
        if argument < least {
            return Err(CodecError { at: start, kind: CodecFault::NotCanonical });
        }
        Ok(argument)
    }

    fn argument(&mut self, major: u8, expected: &'static str) -> Result<u64, CodecError> {
        if self.peek_major() != Some(major) {
            let kind = match self.peek() {
                None => CodecFault::Truncated,
                Some(_) => CodecFault::Type { expected },
            };
            return Err(self.fault(kind));
        }
        self.head()
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn uint(&mut self) -> Result<u64, CodecError> {
        self.argument(0, "an unsigned integer")
    }

    /// An unsigned integer of at most 32 bits.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn uint32(&mut self) -> Result<u32, CodecError> {
        let at = self.at;
        u32::try_from(self.uint()?).map_err(|_refused| CodecError { at, kind: CodecFault::Range })
    }

    /// A signed integer.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn int(&mut self) -> Result<i64, CodecError> {
        let at = self.at;
        let range = |_| CodecError { at, kind: CodecFault::Range };
        if self.peek_major() == Some(1) {
            let argument = self.argument(1, "an integer")?;
            return i64::try_from(argument).map(|value| -1 - value).map_err(range);
        }
        i64::try_from(self.argument(0, "an integer")?).map_err(range)
    }

    /// Raw bytes.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let len = self.argument(2, "bytes")?;
        self.sized(len)
    }

    /// Exactly `N` raw bytes.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn bytes_exact<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let at = self.at;
        <[u8; N]>::try_from(self.bytes()?)
            .map_err(|_refused| CodecError { at, kind: CodecFault::Range })
    }

    /// Text.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn text(&mut self) -> Result<&'a str, CodecError> {
        let at = self.at;
        let len = self.argument(3, "text")?;
        core::str::from_utf8(self.sized(len)?)
            .map_err(|_refused| CodecError { at, kind: CodecFault::Utf8 })
    }

    fn sized(&mut self, len: u64) -> Result<&'a [u8], CodecError> {
        // What memory cannot hold is not there either.
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Passes over the next item, whatever it is: only heads and lengths are looked at.
    ///
    /// # Errors
    /// [`CodecError`] when no whole item stands here.
    pub fn skip(&mut self) -> Result<(), CodecError> {
        let mut left = 1_usize;
        while let Some(rest) = left.checked_sub(1) {
            left = rest;
            match self.peek_major() {
                Some(2) => drop(self.bytes()?),
                Some(3) => {
                    let len = self.argument(3, "text")?;
                    self.sized(len)?;
                }
                Some(4) => left = left.saturating_add(self.array()?),
                Some(5) => left = left.saturating_add(self.map()?.saturating_mul(2)),
                Some(7) if self.peek() == Some(0xfb) => drop(self.take(9)?),
                _ => {
                    self.head()?;
                }
            }
        }
        Ok(())
    }

    /// Start of an array; its length is at most the number of bytes left.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn array(&mut self) -> Result<usize, CodecError> {
        let len = self.argument(4, "an array")?;
        self.counted(len, 1)
    }

    /// Start of an array of exactly `len` items.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn array_exact(&mut self, len: usize) -> Result<(), CodecError> {
        let at = self.at;
        if self.array()? == len { Ok(()) } else { Err(CodecError { at, kind: CodecFault::Range }) }
    }

    /// Start of a map; twice its length is at most the number of bytes left.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn map(&mut self) -> Result<usize, CodecError> {
        let len = self.argument(5, "a map")?;
        self.counted(len, 2)
    }

    fn counted(&self, len: u64, least_bytes: usize) -> Result<usize, CodecError> {
        usize::try_from(len)
            .ok()
            .filter(|len| len.saturating_mul(least_bytes) <= self.bytes.len() - self.at)
            .ok_or_else(|| self.fault(CodecFault::Truncated))
    }

    /// Null, or what `read` reads.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        if self.peek() == Some(0xf6) {
            self.at += 1;
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// True or false.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn bool(&mut self) -> Result<bool, CodecError> {
        let value = match self.peek() {
            Some(0xf4) => false,
            Some(0xf5) => true,
            Some(_) => return Err(self.fault(CodecFault::Type { expected: "a bool" })),
            None => return Err(self.fault(CodecFault::Truncated)),
        };
        self.at += 1;
        Ok(value)
    }

    /// A float of eight bytes.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn float(&mut self) -> Result<f64, CodecError> {
        if self.peek() != Some(0xfb) {
            return Err(self.fault(CodecFault::Type { expected: "a float" }));
        }
        let at = self.at;
        // Not through `head`: of a float the bits are content, a small number of them is no fault.
        let bits = self.take(9)?.iter().skip(1);
        let bits = bits.fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let float = f64::from_bits(bits);
        if float.is_nan() && bits != NAN_BITS {
            return Err(CodecError { at, kind: CodecFault::NotCanonical });
        }
        Ok(float)
    }

    /// A replica id.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here, or a number that is not in the dictionary.
    pub fn replica(&mut self) -> Result<ReplicaId, CodecError> {
        let Some(dictionary) = self.dictionary else {
            return self.bytes_exact().map(ReplicaId::from_bytes);
        };
        let at = self.index(self.used.replicas)?;
        self.used.replicas = self.used.replicas.max(at + 1);
        dictionary.replicas.get(at).copied().ok_or_else(|| self.fault(CodecFault::Range))
    }

    fn name(&mut self) -> Result<&'a str, CodecError> {
        let Some(dictionary) = self.dictionary else {
            return self.text();
        };
        let at = self.index(self.used.names)?;
        self.used.names = self.used.names.max(at + 1);
        match dictionary.names.get(at) {
            Some(name) => Ok(name.as_str()),
            None => Err(self.fault(CodecFault::Range)),
        }
    }

    /// A number of the dictionary: one used before, or the next one.
    fn index(&mut self, used: usize) -> Result<usize, CodecError> {
        let at = self.at;
        usize::try_from(self.uint()?)
            .ok()
            .filter(|index| *index <= used)
            .ok_or(CodecError { at, kind: CodecFault::NotCanonical })
    }

    /// A collection's name.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here, or a name that is refused.
    pub fn collection(&mut self) -> Result<CollectionName, CodecError> {
        let at = self.at;
        let name = self.name()?;
        let read = self.collections.read(name, CollectionName::as_str, CollectionName::parse);
        read.map_err(|_refused| CodecError { at, kind: CodecFault::Range })
    }

    /// A field's name.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here, or a name that is refused.
    pub fn field(&mut self) -> Result<FieldName, CodecError> {
        let at = self.at;
        let name = self.name()?;
        let read = self.fields.read(name, FieldName::as_str, FieldName::parse);
        read.map_err(|_refused| CodecError { at, kind: CodecFault::Range })
    }

    /// A hybrid time.
    ///
    /// # Errors
    /// [`CodecError`] when something else stands here.
    pub fn hlc(&mut self) -> Result<Hlc, CodecError> {
        let Some(dictionary) = self.dictionary else {
            return self.uint().map(Hlc::from_bits);
        };
        let at = self.at;
        let base = dictionary.base.ok_or_else(|| self.fault(CodecFault::NotCanonical))?.to_bits();
        let first = !core::mem::replace(&mut self.used.base, true);
        let bits = if self.peek_major() == Some(1) {
            base.checked_sub(1).and_then(|base| {
                self.argument(1, "a time").ok().and_then(|back| base.checked_sub(back))
            })
        } else {
            base.checked_add(self.argument(0, "a time")?)
        };
        let bits = bits.ok_or(CodecError { at, kind: CodecFault::Range })?;
        if first && bits != base {
            return Err(CodecError { at, kind: CodecFault::NotCanonical });
        }
        Ok(Hlc::from_bits(bits))
    }
}
