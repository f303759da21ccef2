//! Random histories of one record: replicas that write to it and join each other's state, so that every
//! state is one that replicas can reach.
//!
//! Each step says what happened, for a model to repeat.

use super::{
    generators::{arbitrary_float, arbitrary_int},
    rng::Rng,
};
use crate::{
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::{FieldName, NameError, ReplicaId},
    record::{Cell, Kind, Record, State, Value, VersionVector},
    sorted::SortedMap,
};
use alloc::{format, vec::Vec};

/// Every kind of cell, one of a later version included.
pub const KINDS: [Kind; 8] = [
    Kind::Lww,
    Kind::Fww,
    Kind::Max,
    Kind::Min,
    Kind::Counter,
    Kind::Set,
    Kind::Review,
    Kind::Later(9),
];

/// What one write does to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Assigns an `lww`, `fww`, `max`, `min` or `review` cell, or one of a later kind.
    Assign(Kind, Value),
    /// Makes an `lww` cell absent.
    Clear,
    /// Adds to the counter, or subtracts from it.
    Count {
        /// Added.
        up: u64,
        /// Subtracted.
        down: u64,
    },
    /// Adds an element to the set.
    Add(Value),
    /// Removes an element from the set.
    Take(Value),
    /// Resets the cell of a kind (not `lww`): what was written before no longer counts.
    Reset(Kind),
    /// Removes the record.
    Remove,
}

/// One step of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The replica `into` took in the state of the replica `from`.
    Joined {
        /// Index of the replica that changed.
        into: usize,
        /// Index of the replica it learnt from.
        from: usize,
    },
    /// The replica `by` wrote.
    Wrote {
        /// Index of the replica.
        by: usize,
        /// The write.
        stamp: Stamp,
        /// What it did.
        change: Change,
    },
}

/// What may happen in a history.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Kinds that are written to.
    pub kinds: Vec<Kind>,
    /// Whether cells are reset.
    pub resets: bool,
    /// Whether the record is removed.
    pub removes: bool,
}

/// Replicas of one record.
#[derive(Debug, Clone)]
pub struct History {
    field: FieldName,
    replicas: Vec<Replica>,
}

#[derive(Debug, Clone)]
struct Replica {
    id: ReplicaId,
    last: Hlc,
    /// Whether its clock ignores what it learns, as when that is too far ahead.
    deaf: bool,
    record: Record,
}

impl History {
    /// `replicas` replicas that hold nothing, and a field to write to.
    ///
    /// # Errors
    /// Never: the field's name is good.
    pub fn new(rng: &mut Rng, replicas: u8) -> Result<Self, NameError> {
        let replicas = (0..replicas)
            .map(|number| Replica {
                id: ReplicaId::from_bytes([number; 16]),
                last: Hlc::from_bits(rng.below(8)),
                deaf: rng.once_in(6),
                record: Record::default(),
            })
            .collect();
        Ok(Self { field: FieldName::parse("field")?, replicas })
    }

    /// What the replicas hold, in order.
    pub fn states(&self) -> impl Iterator<Item = &Record> {
        self.replicas.iter().map(|replica| &replica.record)
    }

    /// The cell of a kind in what a replica holds.
    #[must_use]
    pub fn cell<'a>(&self, record: &'a Record, kind: Kind) -> Option<&'a Cell> {
        record.cells.get(&(self.field.clone(), kind))
    }

    /// One replica writes, or takes in what another holds.
    pub fn step(&mut self, rng: &mut Rng, plan: &Plan) -> Option<Step> {
        let at = rng.index(self.replicas.len());
        let from = rng.index(self.replicas.len());
        if at != from && rng.once_in(2) {
            let other = self.replicas.get(from)?.clone();
            let replica = self.replicas.get_mut(at)?;
            replica.record.join(&other.record);
            if !replica.deaf {
                replica.last = replica.last.max(other.last);
            }
            return Some(Step::Joined { into: at, from });
        }
        let field = self.field.clone();
        let replica = self.replicas.get_mut(at)?;
        // Small steps, so that stamps of different replicas often have one time.
        replica.last = Hlc::from_bits(replica.last.to_bits() + 1 + rng.below(2));
        let stamp = Stamp { hlc: replica.last, replica: replica.id };
        let change = draw(rng, plan);
        write(&mut replica.record, field, stamp, &change);
        Some(Step::Wrote { by: at, stamp, change })
    }
}

/// A value of few, so that equal ones meet; some are beyond 2^53.
fn draw_value(rng: &mut Rng) -> Value {
    match rng.below(6) {
        0 => Value::int(arbitrary_int(rng)),
        1 => Value::float(arbitrary_float(rng)),
        _ => Value::text(rng.one_of("a", &["b", "c"])),
    }
}

fn draw(rng: &mut Rng, plan: &Plan) -> Change {
    if plan.removes && rng.once_in(5) {
        return Change::Remove;
    }
    let kind = plan.kinds.get(rng.index(plan.kinds.len())).copied().unwrap_or(Kind::Lww);
    if plan.resets && rng.once_in(6) && State::empty(kind).is_some() {
        return Change::Reset(kind);
    }
    match kind {
        Kind::Counter => {
            Change::Count { up: rng.any_size() >> rng.one_of(0_u32, &[50]), down: rng.below(4) }
        }
        Kind::Set if rng.once_in(3) => Change::Take(draw_value(rng)),
        Kind::Set => Change::Add(draw_value(rng)),
        Kind::Lww if rng.once_in(5) => Change::Clear,
        Kind::Lww | Kind::Fww | Kind::Max | Kind::Min | Kind::Review | Kind::Later(_) => {
            Change::Assign(kind, draw_value(rng))
        }
    }
}

/// What a replica does to its own state when it writes.
fn write(record: &mut Record, field: FieldName, stamp: Stamp, change: &Change) {
    record.seen.raise(stamp.replica, stamp.hlc);
    let kind = match change {
        Change::Remove => {
            record.removed.seen.join(&record.seen);
            return;
        }
        Change::Assign(kind, _) | Change::Reset(kind) => *kind,
        Change::Clear => Kind::Lww,
        Change::Count { .. } => Kind::Counter,
        Change::Add(_) | Change::Take(_) => Kind::Set,
    };
    let fresh = matches!(change, Change::Reset(_)).then_some(stamp);
    let first = first_state(kind, stamp, change);
    let cell = record
        .cells
        .entry((field, kind))
        .or_insert_with(|| Cell { since: None, state: first.clone() });
    if fresh.is_some() {
        // Without the join, which is what such histories test.
        if fresh > cell.since {
            *cell = Cell { since: fresh, state: first };
        }
    } else {
        apply(&mut cell.state, stamp, change);
    }
}

/// Nothing written yet or, for kinds without such a state, what `change` writes.
fn first_state(kind: Kind, stamp: Stamp, change: &Change) -> State {
    State::empty(kind).unwrap_or_else(|| assigned(kind, stamp, change))
}

/// The state of a register that holds what `change` writes.
fn assigned(kind: Kind, stamp: Stamp, change: &Change) -> State {
    let value = if let Change::Assign(_, value) = change { Some(value.clone()) } else { None };
    match kind {
        Kind::Fww => State::Fww(value.map(|value| (stamp, value))),
        Kind::Max => State::Max(value),
        Kind::Min => State::Min(value),
        Kind::Later(code) => State::Later { code, bytes: format!("{value:?}").into_bytes() },
        Kind::Lww | Kind::Counter | Kind::Set | Kind::Review => State::Lww { stamp, value },
    }
}

fn apply(state: &mut State, stamp: Stamp, change: &Change) {
    match (state, change) {
        (State::Counter(counter), Change::Count { up, down }) => {
            let tally = counter.0.entry(stamp.replica).or_default();
            tally.added = tally.added.saturating_add(*up);
            tally.subtracted = tally.subtracted.saturating_add(*down);
        }
        (State::Set(set), Change::Add(element)) => {
            // The new dot stands for all adds that were seen.
            let dots: VersionVector = [(stamp.replica, stamp.hlc)].into_iter().collect();
            set.context.join(&dots);
            set.elements.insert(element.clone(), dots);
        }
        (State::Set(set), Change::Take(element)) => {
            set.elements.remove(element);
        }
        (State::Review(siblings), Change::Assign(_, value)) => {
            siblings.context.raise(stamp.replica, stamp.hlc);
            siblings.values = SortedMap::from([(stamp, value.clone())]);
        }
        (state, change) => {
            let written = assigned(state.kind(), stamp, change);
            state.join(&written);
        }
    }
}
