//! What a message says once and its body names by number.

use super::{CodecError, CodecFault, Reader, Writer};
use crate::{
    hlc::Hlc,
    id::ReplicaId,
    sorted::{SortedMap, SortedSet},
};
use alloc::{string::String, vec::Vec};

/// What a message says once and its body names by number: replicas, names, and a base for times.
///
/// Entries stand in the order of their first use, which makes the bytes a function of the content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dictionary {
    /// Replica ids, in order of first use.
    pub replicas: Vec<ReplicaId>,
    /// Collection and field names, in order of first use.
    pub names: Vec<String>,
    /// The first time; others are written as differences to it.
    pub base: Option<Hlc>,
}

/// Writes a dictionary as three items: replicas, names, base.
pub fn write_dictionary(out: &mut Writer, dictionary: &Dictionary) {
    out.array(dictionary.replicas.len());
    dictionary.replicas.iter().for_each(|replica| out.bytes(replica.as_bytes()));
    out.array(dictionary.names.len());
    dictionary.names.iter().for_each(|name| out.text(name));
    match dictionary.base {
        Some(base) => out.uint(base.to_bits()),
        None => out.null(),
    }
}

/// Reads a dictionary. That its entries stand in the order of first use, and are all used, shows when
/// what follows is read with it ([`Reader::with_dictionary`]).
///
/// # Errors
/// [`CodecError`] when no dictionary stands here, or an entry stands in it twice.
pub fn read_dictionary(input: &mut Reader<'_>) -> Result<Dictionary, CodecError> {
    let mut dictionary = Dictionary::default();
    let mut replicas = SortedSet::new();
    for _ in 0..input.array()? {
        let replica = ReplicaId::from_bytes(input.bytes_exact()?);
        once(input, replicas.insert(replica))?;
        dictionary.replicas.push(replica);
    }
    let mut names = SortedSet::new();
    for _ in 0..input.array()? {
        let name = input.text()?;
        once(input, names.insert(name))?;
        dictionary.names.push(String::from(name));
    }
    dictionary.base = input.optional(Reader::uint)?.map(Hlc::from_bits);
    Ok(dictionary)
}

fn once(input: &Reader<'_>, new: bool) -> Result<(), CodecError> {
    if new { Ok(()) } else { Err(input.fault(CodecFault::NotCanonical)) }
}

/// A dictionary that grows while a body is written. Looking up an entry takes O(log n).
#[derive(Debug, Default)]
pub(super) struct Growing {
    replicas: SortedMap<ReplicaId, u64>,
    names: SortedMap<String, u64>,
    dictionary: Dictionary,
}

impl Growing {
    /// The number of `replica`.
    pub(super) fn replica(&mut self, replica: &ReplicaId) -> u64 {
        let next = self.dictionary.replicas.len() as u64;
        *self.replicas.entry(*replica).or_insert_with(|| {
            self.dictionary.replicas.push(*replica);
            next
        })
    }

    /// The number of `name`.
    pub(super) fn name(&mut self, name: &str) -> u64 {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        let next = self.dictionary.names.len() as u64;
        self.names.insert(String::from(name), next);
        self.dictionary.names.push(String::from(name));
        next
    }

    /// The base, which is `hlc` if it is the first time.
    pub(super) fn base(&mut self, hlc: Hlc) -> Hlc {
        *self.dictionary.base.get_or_insert(hlc)
    }

    pub(super) fn into_dictionary(self) -> Dictionary {
        self.dictionary
    }
}
