//! Joins: the least upper bound of two states.
//!
//! Law of every instance: associative, commutative, idempotent; checked for every kind and every pair
//! of kinds in `tests/crdt_props.rs`. Shapiro, Preguiça, Baquero, Zawirski: "Conflict-Free Replicated
//! Data Types", 2011 (<https://inria.hal.science/inria-00609399>). Absent: clocks, encodings, and
//! anything that a second join could not repeat.

mod cell;
mod dotted;

use crate::{record::Record, sorted};

/// A type whose values have a least upper bound.
pub trait Join {
    /// Becomes the least upper bound of itself and `other`.
    fn join(&mut self, other: &Self);
}

impl Join for Record {
    fn join(&mut self, other: &Self) {
        self.seen.join(&other.seen);
        self.removed.seen.join(&other.removed.seen);
        self.removed.buried = self.removed.buried.max(other.removed.buried);
        for (key, theirs) in &other.cells {
            match self.cells.entry(key.clone()) {
                sorted::Entry::Vacant(entry) => {
                    entry.insert(theirs.clone());
                }
                sorted::Entry::Occupied(ours) => ours.join(theirs),
            }
        }
    }
}
