//! What a local commit wants, apart from any state: intents that can be replayed on another base.
//!
//! Invariant: replay never widens. What a remove, a set removal, a put or a review write covers is
//! written down when it is committed; applied to a newer base it covers exactly that.

use super::bytes::row_digest;
use crate::{
    crdt::Join,
    hlc::Stamp,
    id::{FieldName, RecordKey},
    message::{Origin, PushWrite},
    record::{
        AddWinsSet, Cell, CellKey, Counter, Kind, Record, Siblings, State, Tally, Value,
        VersionVector,
    },
    sorted::{SortedMap, SortedSet},
};
use alloc::vec::Vec;

/// One local commit: applied, accepted and rejected whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its identity and place in the order of writes.
    pub stamp: Stamp,
    /// What it was when it was first committed, if it has another stamp now or saw rows that have.
    pub origin: Option<Origin>,
    /// Whether the user wants it to count although it may have counted before.
    pub insisted: bool,
    /// What it does, one entry per record.
    pub writes: Vec<RowWrite>,
}

/// What one row does to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWrite {
    /// Which record.
    pub key: RecordKey,
    /// The record's `seen` as the writer saw it.
    pub saw: VersionVector,
    /// Whether it updates a record that was live: it means nothing without that.
    pub updates: bool,
    /// Applied in order.
    pub intents: Vec<Intent>,
}

/// One wish about a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// The cell starts anew: absent, or empty.
    Clear {
        /// Which field.
        field: FieldName,
        /// Of which kind.
        kind: Kind,
    },
    /// `lww`, `fww`, `max`, `min`: offers a value.
    Set {
        /// Which field.
        field: FieldName,
        /// Of which kind.
        kind: Kind,
        /// The value.
        value: Value,
    },
    /// `counter`: adds, or subtracts.
    Add {
        /// Which field.
        field: FieldName,
        /// How much.
        amount: i64,
    },
    /// `set`: adds an element.
    Insert {
        /// Which field.
        field: FieldName,
        /// The element.
        element: Value,
    },
    /// `set`: removes an element as far as it was seen.
    Delete {
        /// Which field.
        field: FieldName,
        /// The element.
        element: Value,
        /// The adds that were seen.
        covers: VersionVector,
    },
    /// `review`: writes a value in place of those seen.
    Resolve {
        /// Which field.
        field: FieldName,
        /// The value.
        value: Value,
        /// The writes that were seen.
        covers: SortedSet<Stamp>,
    },
    /// Removes the record as far as it was seen.
    Remove,
}

impl Intent {
    /// The cell it touches, if it touches one.
    #[must_use]
    pub fn cell(&self) -> Option<CellKey> {
        match self {
            Self::Clear { field, kind } | Self::Set { field, kind, .. } => {
                Some((field.clone(), *kind))
            }
            Self::Add { field, .. } => Some((field.clone(), Kind::Counter)),
            Self::Insert { field, .. } | Self::Delete { field, .. } => {
                Some((field.clone(), Kind::Set))
            }
            Self::Resolve { field, .. } => Some((field.clone(), Kind::Review)),
            Self::Remove => None,
        }
    }
}

/// Old stamps of own rows and the new ones that replace them.
pub type Restamped = SortedMap<Stamp, Stamp>;

impl Row {
    /// What it was when it was first committed: the same for all its copies. O(its size) until it changes.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let first = || Origin { stamp: self.stamp, digest: row_digest(self) };
        self.origin.unwrap_or_else(first)
    }

    /// The stamp of its origin.
    #[must_use]
    pub fn first_stamp(&self) -> Stamp {
        self.origin.map_or(self.stamp, |origin| origin.stamp)
    }

    /// Gives the row, and what it saw of other rows, their new stamps. Its origin stays.
    pub fn restamp(&mut self, changed: &Restamped) {
        let before = self.origin.is_none().then(|| self.clone());
        let new = |stamp: Stamp| changed.get(&stamp).copied().unwrap_or(stamp);
        self.stamp = new(self.stamp);
        let own = self.stamp;
        for write in &mut self.writes {
            restamp_vector(&mut write.saw, changed, own);
            for intent in &mut write.intents {
                match intent {
                    Intent::Delete { covers, .. } => restamp_vector(covers, changed, own),
                    Intent::Resolve { covers, .. } => {
                        *covers = SortedSet::from_iter(covers.iter().map(|stamp| new(*stamp)));
                    }
                    Intent::Clear { .. }
                    | Intent::Set { .. }
                    | Intent::Add { .. }
                    | Intent::Insert { .. }
                    | Intent::Remove => {}
                }
            }
        }
        self.descends_from(before);
    }

    /// It was `before` until now, if it had no other origin already.
    pub(super) fn descends_from(&mut self, before: Option<Self>) {
        if let Some(before) = before.filter(|before| before != self && self.origin.is_none()) {
            self.origin = Some(before.origin());
        }
    }
}

impl RowWrite {
    /// A row counts as its copy `new`: what covered it as `old`, when this write was `before`, covers that one.
    pub(super) fn sees(&mut self, before: &Self, old: Stamp, new: Stamp) {
        for (intent, before) in self.intents.iter_mut().zip(&before.intents) {
            if let (Intent::Delete { covers, .. }, Intent::Delete { covers: known, .. }) =
                (intent, before)
                && known.covers(&old)
            {
                covers.raise(new.replica, new.hlc);
            }
        }
        if before.saw.covers(&old) {
            self.saw.raise(new.replica, new.hlc);
        }
    }
}

/// Gives what was seen its new stamps. Rows that keep theirs (refused ones, as a rule) may stand behind `own` now: what
/// its replica writes later has such stamps too, and nobody has seen that.
fn restamp_vector(vector: &mut VersionVector, changed: &Restamped, own: Stamp) {
    let old: Vec<Stamp> = vector.iter().filter(|stamp| changed.contains_key(stamp)).collect();
    for stamp in &old {
        vector.remove(&stamp.replica);
    }
    for stamp in old {
        if let Some(new) = changed.get(&stamp) {
            vector.raise(new.replica, new.hlc);
        }
    }
    if vector.get(&own.replica).is_some_and(|last| last > own.hlc) {
        vector.remove(&own.replica);
        vector.raise(own.replica, own.hlc);
    }
}

impl RowWrite {
    /// What this write, at `stamp`, adds to `current`: the touched cells and the changed entries of
    /// `seen` and `removed.seen`. Joining it to `current` applies the write.
    #[must_use]
    pub fn delta(&self, stamp: Stamp, current: &Record) -> Record {
        let mut delta = Record::default();
        delta.seen.raise(stamp.replica, stamp.hlc);
        let clears = self.intents.iter().filter(|intent| matches!(intent, Intent::Clear { .. }));
        let cleared: SortedSet<CellKey> = SortedSet::from_iter(clears.filter_map(Intent::cell));
        for intent in &self.intents {
            let Some(cell) = intent.cell() else {
                delta.removed.seen.join(&self.saw);
                delta.removed.seen.raise(stamp.replica, stamp.hlc);
                continue;
            };
            let known = current.cells.get(&cell);
            let lost =
                cleared.contains(&cell) && known.is_some_and(|known| known.since > Some(stamp));
            if lost {
                // A later put or erase reset the cell: this one loses whole.
                continue;
            }
            let own = delta.cells.get(&cell);
            let Some(mut after) = intent.apply(stamp, own.or(known)) else {
                continue;
            };
            if let (Intent::Set { .. }, Some(own)) = (intent, own) {
                after.state = better(&own.state, after.state);
            }
            delta.cells.insert(cell, after);
        }
        delta
    }

    /// The write as it is sent, with what it adds.
    pub(super) fn sent(&self, delta: Record) -> PushWrite {
        let Self { key, saw, updates, intents: _ } = self;
        PushWrite { key: key.clone(), saw: saw.clone(), updates: *updates, delta }
    }

    /// Applies the write, at `stamp`, to `record`.
    pub fn apply(&self, stamp: Stamp, record: &mut Record) {
        let delta = self.delta(stamp, record);
        record.join(&delta);
    }
}

impl Intent {
    /// The touched cell after this intent, `None` where nothing is to be written.
    fn apply(&self, stamp: Stamp, before: Option<&Cell>) -> Option<Cell> {
        let since = before.and_then(|cell| cell.since);
        let state = before.map(|cell| &cell.state);
        let state = match self {
            Self::Clear { kind, .. } => {
                return Some(match State::empty(*kind) {
                    Some(state) => Cell { since: Some(stamp), state },
                    None => Cell { since: None, state: State::Lww { stamp, value: None } },
                });
            }
            Self::Set { kind, value, .. } => offer(*kind, stamp, value)?,
            Self::Add { amount, .. } => State::Counter(own_tally(stamp, state, *amount)),
            Self::Insert { element, .. } => State::Set(insert(stamp, state, element)),
            Self::Delete { element, covers, .. } => {
                State::Set(delete(stamp, state, element, covers))
            }
            Self::Resolve { value, covers, .. } => {
                State::Review(resolve(stamp, state, value, covers))
            }
            Self::Remove => return None,
        };
        Some(Cell { since, state })
    }
}

/// What one row offers twice: the first `fww`, the greater `max`, the lesser `min`, and else the last.
fn better(before: &State, after: State) -> State {
    let stays = match (before, &after) {
        (State::Fww(first), State::Fww(_)) => first.is_some(),
        (State::Max(before), State::Max(after)) => before > after,
        (State::Min(before), State::Min(after)) => before.is_some() && before < after,
        _ => false,
    };
    if stays { before.clone() } else { after }
}

fn offer(kind: Kind, stamp: Stamp, value: &Value) -> Option<State> {
    let value = Some(value.clone());
    match kind {
        Kind::Lww => Some(State::Lww { stamp, value }),
        Kind::Fww => Some(State::Fww(value.map(|value| (stamp, value)))),
        Kind::Max => Some(State::Max(value)),
        Kind::Min => Some(State::Min(value)),
        Kind::Counter | Kind::Set | Kind::Review | Kind::Later(_) => None,
    }
}

/// Only the own tally: the others' are the responder's to know.
fn own_tally(stamp: Stamp, state: Option<&State>, amount: i64) -> Counter {
    let mut own = match state {
        Some(State::Counter(counter)) => counter.0.get(&stamp.replica).copied().unwrap_or_default(),
        _ => Tally::default(),
    };
    if amount < 0 {
        own.subtracted = own.subtracted.saturating_add(amount.unsigned_abs());
    } else {
        own.added = own.added.saturating_add(amount.unsigned_abs());
    }
    Counter(SortedMap::from([(stamp.replica, own)]))
}

fn set_of(state: Option<&State>) -> AddWinsSet {
    match state {
        Some(State::Set(set)) => set.clone(),
        _ => AddWinsSet::default(),
    }
}

fn insert(stamp: Stamp, state: Option<&State>, element: &Value) -> AddWinsSet {
    let mut set = set_of(state);
    set.context.raise(stamp.replica, stamp.hlc);
    // Others' adds of this element stay: replaying on a newer base must not touch what it brought.
    set.elements.entry(element.clone()).or_default().raise(stamp.replica, stamp.hlc);
    set
}

fn delete(
    stamp: Stamp,
    state: Option<&State>,
    element: &Value,
    covers: &VersionVector,
) -> AddWinsSet {
    let mut set = set_of(state);
    set.context.raise(stamp.replica, stamp.hlc);
    set.context.join(covers);
    if let Some(dots) = set.elements.get_mut(element) {
        let left: VersionVector = dots
            .iter()
            .filter(|dot| !covers.covers(dot))
            .map(|dot| (dot.replica, dot.hlc))
            .collect();
        *dots = left;
        if dots.is_empty() {
            set.elements.remove(element);
        }
    }
    set
}

fn resolve(
    stamp: Stamp,
    state: Option<&State>,
    value: &Value,
    covers: &SortedSet<Stamp>,
) -> Siblings {
    let mut siblings = match state {
        Some(State::Review(siblings)) => siblings.clone(),
        _ => Siblings::default(),
    };
    siblings.values.retain(|dot, _| !covers.contains(dot));
    siblings.context.raise(stamp.replica, stamp.hlc);
    siblings.values.insert(stamp, value.clone());
    siblings
}
