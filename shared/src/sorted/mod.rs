//! Maps and sets in the order of their keys, as sorted runs of entries.
//!
//! A few entries are one vector, many are several that stand in order. Finding is O(log n); inserting and removing move
//! what stands behind in one run, at most `RUN_MAX` entries, and once in about as many times the list of runs, which is
//! small: in whichever order peers send, a million entries take seconds.
//! They are read as fast as vectors, take no nodes, and are a fraction of the code that the standard B-trees compile to
//! for each kind of entry, of which a browser downloads every one.

mod entry;
mod iter;
mod map;
mod set;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Vacant};
pub use iter::{IntoIter, Iter, IterMut};
pub use map::SortedMap;
pub use set::{IntoItems, Items, SortedSet};

/// Most entries of one run.
const RUN_MAX: usize = 64;
