//! Records as state: who wrote, who removed, and one cell per field and kind.
//!
//! Invariant: a record is live exactly when some replica's entry in `seen` is later than that replica's
//! entry in `removed.seen`. Absent here: encodings, storage, merging (see `crdt`), clocks.

mod value;
mod vector;
mod view;

pub use value::{INTEGRAL_MAX, Number, Value};
pub use vector::VersionVector;
pub use view::{Visible, visible, visible_kinds};

use crate::{
    hlc::{Hlc, Stamp},
    id::{FieldName, ReplicaId},
    sorted::SortedMap,
};
use alloc::vec::Vec;

/// Which CRDT a field is. Travels with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Last write wins.
    Lww,
    /// First write wins.
    Fww,
    /// The greatest value written.
    Max,
    /// The least value written.
    Min,
    /// A sum of increments and decrements (PN-counter).
    Counter,
    /// A set in which a concurrent add beats a remove (ORSWOT).
    Set,
    /// Concurrent values stay side by side until a write that saw them replaces them.
    Review,
    /// A kind of a later version, by its code (7 or more); kept byte for byte.
    Later(u8),
}

impl Kind {
    /// Its number in stored and sent bytes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Lww => 0,
            Self::Fww => 1,
            Self::Max => 2,
            Self::Min => 3,
            Self::Counter => 4,
            Self::Set => 5,
            Self::Review => 6,
            Self::Later(code) => code,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Lww,
            1 => Self::Fww,
            2 => Self::Max,
            3 => Self::Min,
            4 => Self::Counter,
            5 => Self::Set,
            6 => Self::Review,
            later => Self::Later(later),
        }
    }
}

/// What one replica has added to and subtracted from a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Sum of its increments.
    pub added: u64,
    /// Sum of its decrements.
    pub subtracted: u64,
}

/// State of a counter: a tally per replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counter(pub SortedMap<ReplicaId, Tally>);

impl Counter {
    /// All increments less all decrements, saturating at the ends of `i64`.
    #[must_use]
    pub fn total(&self) -> i64 {
        let sum = self.0.values().fold(0_i128, |sum, tally| {
            sum + i128::from(tally.added) - i128::from(tally.subtracted)
        });
        match i64::try_from(sum) {
            Ok(total) => total,
            Err(_) if sum.is_negative() => i64::MIN,
            Err(_) => i64::MAX,
        }
    }
}

/// State of a set: elements with the stamps that added them, and all stamps ever seen here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddWinsSet {
    /// Every add this state has seen; an add in it and not among the elements was removed.
    pub context: VersionVector,
    /// Element to the latest add of each replica.
    pub elements: SortedMap<Value, VersionVector>,
}

/// State of a reviewed field: the values that no write has replaced, and all stamps ever seen here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Siblings {
    /// Every write this state has seen.
    pub context: VersionVector,
    /// Values side by side.
    pub values: SortedMap<Stamp, Value>,
}

/// State of a cell, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Value of the latest stamp; `None` is absent.
    Lww {
        /// The write that won.
        stamp: Stamp,
        /// What it wrote.
        value: Option<Value>,
    },
    /// Value of the earliest stamp.
    Fww(Option<(Stamp, Value)>),
    /// Greatest value.
    Max(Option<Value>),
    /// Least value.
    Min(Option<Value>),
    /// PN-counter.
    Counter(Counter),
    /// ORSWOT.
    Set(AddWinsSet),
    /// Multi-value register.
    Review(Siblings),
    /// State of a kind of a later version, as it was encoded.
    Later {
        /// Its code.
        code: u8,
        /// Its canonical encoding.
        bytes: Vec<u8>,
    },
}

impl State {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Lww { .. } => Kind::Lww,
            Self::Fww(_) => Kind::Fww,
            Self::Max(_) => Kind::Max,
            Self::Min(_) => Kind::Min,
            Self::Counter(_) => Kind::Counter,
            Self::Set(_) => Kind::Set,
            Self::Review(_) => Kind::Review,
            Self::Later { code, .. } => Kind::Later(*code),
        }
    }

    /// Nothing written yet, for the kinds that have such a state (`lww` and later kinds have none).
    #[must_use]
    pub fn empty(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Lww | Kind::Later(_) => None,
            Kind::Fww => Some(Self::Fww(None)),
            Kind::Max => Some(Self::Max(None)),
            Kind::Min => Some(Self::Min(None)),
            Kind::Counter => Some(Self::Counter(Counter::default())),
            Kind::Set => Some(Self::Set(AddWinsSet::default())),
            Kind::Review => Some(Self::Review(Siblings::default())),
        }
    }
}

/// A field's state, and the put or erase that last reset it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Stamp of the reset; the greater one wins whole. Always `None` for `lww`, whose stamp says it.
    pub since: Option<Stamp>,
    /// What was written since.
    pub state: State,
}

/// Which cell of a record.
pub type CellKey = (FieldName, Kind);

/// Which writes a remove has covered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// `seen` as the removers saw it.
    pub seen: VersionVector,
    /// When the server took in the latest remove; written by servers only.
    pub buried: Option<Hlc>,
}

/// The state of one record; also, with only what changed, a delta of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Last write of each replica to this record.
    pub seen: VersionVector,
    /// What removers had seen.
    pub removed: Removed,
    /// One cell per field and kind.
    pub cells: SortedMap<CellKey, Cell>,
}

impl Record {
    /// Whether some write is not covered by a remove.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.seen.exceeds(&self.removed.seen)
    }

    /// When it was buried, if it is dead.
    #[must_use]
    pub fn burial(&self) -> Option<Hlc> {
        self.removed.buried.filter(|_| !self.is_live())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_code() {
        for code in 0..=u8::MAX {
            let kind = Kind::from_code(code);
            assert_eq!(kind.code(), code);
            assert_eq!(matches!(kind, Kind::Later(_)), code > 6);
        }
    }

    #[test]
    fn total_of_a_counter_saturates_at_both_ends() {
        let counter = |tallies: &[(u64, u64)]| {
            let tallies = tallies.iter().zip(0..).map(|((added, subtracted), replica)| {
                let tally = Tally { added: *added, subtracted: *subtracted };
                (ReplicaId::from_bytes([replica; 16]), tally)
            });
            Counter(tallies.collect()).total()
        };
        assert_eq!(counter(&[]), 0);
        assert_eq!(counter(&[(7, 2), (1, 9)]), -3);
        assert_eq!(counter(&[(u64::MAX, 0), (0, u64::MAX)]), 0);
        assert_eq!(counter(&[(u64::MAX, 0), (u64::MAX, 1)]), i64::MAX);
        assert_eq!(counter(&[(0, u64::MAX), (1, 0)]), i64::MIN);
    }

    #[test]
    fn record_is_buried_while_nobody_wrote_what_its_removers_had_not_seen() {
        let replica = ReplicaId::from_bytes([1; 16]);
        let mut record = Record::default();
        assert!(!record.is_live());
        assert!(record.seen.raise(replica, Hlc::from_bits(5)));
        assert!(record.is_live());
        record.removed.seen = record.seen.clone();
        record.removed.buried = Some(Hlc::from_bits(9));
        assert!(!record.is_live());
        assert_eq!(record.burial(), Some(Hlc::from_bits(9)));
        assert!(record.seen.raise(replica, Hlc::from_bits(7)));
        assert!(!record.seen.raise(replica, Hlc::from_bits(7)), "it has not grown");
        assert!(record.is_live());
        assert_eq!(record.burial(), None);
    }
}
