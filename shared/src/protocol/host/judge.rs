//! Judges what one row does to one record, and joins it.
//!
//! Invariant: what is joined adds only the writer's own entries, up to its row's time; whatever it says
//! of other replicas is cut down to what is stored already (`docs/PROTOCOL.md` 3.2). Pure: no store,
//! no peers, no clock.

use super::layout::{Positions, Stored};
use crate::{
    codec::{self, Writer},
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::Seq,
    planted::{Bug, Planted},
    protocol::message::{Conflict, Limits, PushWrite},
    record::{AddWinsSet, Cell, Counter, Kind, Record, Siblings, State, Value, VersionVector},
    sorted::SortedMap,
};
use alloc::vec::Vec;

/// What all writes of one row have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowContext {
    /// The row's stamp.
    pub(super) own: Stamp,
    /// Its position, should it be accepted.
    pub(super) seq: Seq,
    /// The host's clock, for removes.
    pub(super) clock: Hlc,
    pub(super) limits: Limits,
    pub(super) planted: Planted,
}

/// Why a row is refused; the first that applies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    Forged(&'static str),
    UpgradeServer,
    Stale(Seq),
    /// It updates a record that is not there.
    Gone,
    Order,
    TooLarge(&'static str),
}

/// A record with a row's write in it.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) stored: Stored,
    pub(super) conflicts: Vec<Conflict>,
}

/// Judges one write and joins it to what is stored. O(size of the record).
pub(super) fn join_write(
    row: &RowContext,
    stored: Option<&Stored>,
    write: &PushWrite,
) -> Result<Joined, Refusal> {
    let empty = Stored::new(Record::default(), Positions::default());
    let stored = stored.unwrap_or(&empty);
    let admitted = admit(row, stored, &write.delta)?;
    if stored.record.seen.covers(&row.own) {
        return Err(Refusal::Order);
    }
    check_values(&write.delta, &row.limits)?;
    let conflicts = conflicts(row, &stored.record, write);
    let joined = join(row, stored, write, &admitted);
    if joined.record.cells.len() > crate::protocol::limits::CELLS_MAX {
        return Err(Refusal::TooLarge("the record has too many cells"));
    }
    let unlimited = row.planted.is(Bug::JoinedLimitIgnored);
    let most = stored.bytes.len().max(row.limits.record_bytes as usize);
    if joined.bytes.len() > most && !unlimited {
        return Err(Refusal::TooLarge("the joined record is too large"));
    }
    Ok(Joined { stored: joined, conflicts })
}

/// The part of a delta that its writer may speak for.
fn admit(row: &RowContext, stored: &Stored, delta: &Record) -> Result<Record, Refusal> {
    let own = row.own;
    if delta.seen.len() != 1 || delta.seen.get(&own.replica) != Some(own.hlc) {
        return Err(Refusal::Forged("`seen` is not the row's own stamp"));
    }
    let mut removable = stored.record.seen.clone();
    removable.raise(own.replica, own.hlc);
    let mut admitted = Record { seen: delta.seen.clone(), ..Record::default() };
    admitted.removed.seen = delta.removed.seen.meet(&removable);
    if row.planted.is(Bug::StampsDecideRemoves) && !delta.removed.seen.is_empty() {
        let earlier = stored.record.seen.iter().filter(|stamp| *stamp < own);
        earlier.for_each(|stamp| {
            admitted.removed.seen.raise(stamp.replica, stamp.hlc);
        });
    }
    let mut stale = false;
    for (key, cell) in &delta.cells {
        let held = stored.record.cells.get(key);
        match admit_cell(&own, held, key.1, cell)? {
            Some(cell) => {
                admitted.cells.insert(key.clone(), cell);
            }
            None => stale = true,
        }
    }
    if stale {
        return Err(Refusal::Stale(stored.positions.latest));
    }
    Ok(admitted)
}

/// `None`: the cell's `since` is older than the stored one.
fn admit_cell(
    own: &Stamp,
    held: Option<&Cell>,
    kind: Kind,
    cell: &Cell,
) -> Result<Option<Cell>, Refusal> {
    if cell.state.kind() != kind {
        return Err(Refusal::Forged("a cell's state is of another kind"));
    }
    let held_since = held.and_then(|held| held.since);
    if let State::Lww { stamp, .. } = &cell.state {
        return if stamp == own && cell.since.is_none() {
            Ok(Some(cell.clone()))
        } else {
            Err(Refusal::Forged("a field's stamp is not the row's"))
        };
    }
    if matches!(cell.state, State::Later { .. }) {
        return Err(Refusal::UpgradeServer);
    }
    if cell.since < held_since {
        return Ok(None);
    }
    let resets = cell.since > held_since;
    let is_own = |stamp: Stamp| stamp.replica == own.replica && stamp.hlc <= own.hlc;
    if resets && !cell.since.is_some_and(is_own) {
        return Err(Refusal::Forged("a reset is not the writer's"));
    }
    let held = held.filter(|_| !resets).map(|held| &held.state);
    Ok(Some(Cell { since: cell.since, state: admit_state(own, held, &cell.state)? }))
}

fn admit_state(own: &Stamp, held: Option<&State>, state: &State) -> Result<State, Refusal> {
    Ok(match state {
        State::Lww { .. } | State::Later { .. } | State::Max(_) | State::Min(_) => state.clone(),
        State::Fww(first) => {
            let known = held == Some(state);
            let first = first.as_ref().filter(|(stamp, _)| stamp == own || known);
            State::Fww(first.cloned())
        }
        State::Counter(counter) => {
            let tally = counter.0.get(&own.replica).copied();
            State::Counter(Counter(tally.map(|tally| (own.replica, tally)).into_iter().collect()))
        }
        State::Set(set) => {
            let nothing = AddWinsSet::default();
            let held = match held {
                Some(State::Set(held)) => held,
                _ => &nothing,
            };
            State::Set(admit_set(own, held, set)?)
        }
        State::Review(siblings) => {
            let nothing = Siblings::default();
            let held = match held {
                Some(State::Review(held)) => held,
                _ => &nothing,
            };
            State::Review(admit_siblings(own, held, siblings)?)
        }
    })
}

/// Of others what is held, of the writer's own what is not later than its row.
fn admit_context(
    own: &Stamp,
    held: &VersionVector,
    context: &VersionVector,
) -> Result<VersionVector, Refusal> {
    let mut admitted = context.meet(held);
    match context.get(&own.replica) {
        Some(hlc) if hlc > own.hlc => Err(Refusal::Forged("a context is ahead of its row")),
        Some(hlc) => {
            admitted.set(own.replica, hlc);
            Ok(admitted)
        }
        None => Ok(admitted),
    }
}

fn admit_set(own: &Stamp, held: &AddWinsSet, set: &AddWinsSet) -> Result<AddWinsSet, Refusal> {
    let context = admit_context(own, &held.context, &set.context)?;
    let nothing = VersionVector::new();
    let mut elements = SortedMap::new();
    for (element, dots) in &set.elements {
        let held = held.elements.get(element).unwrap_or(&nothing);
        let admitted: VersionVector = dots
            .iter()
            .filter(|dot| dot.replica == own.replica || held.get(&dot.replica) == Some(dot.hlc))
            .map(|dot| (dot.replica, dot.hlc))
            .collect();
        if !admitted.is_empty() {
            elements.insert(element.clone(), admitted);
        }
    }
    Ok(AddWinsSet { context, elements })
}

fn admit_siblings(own: &Stamp, held: &Siblings, siblings: &Siblings) -> Result<Siblings, Refusal> {
    let context = admit_context(own, &held.context, &siblings.context)?;
    let values = siblings
        .values
        .iter()
        .filter_map(|(stamp, value)| {
            let value =
                if stamp.replica == own.replica { value } else { held.values.get(stamp)? };
            Some((*stamp, value.clone()))
        })
        .collect();
    Ok(Siblings { context, values })
}

pub(super) fn check_values(delta: &Record, limits: &Limits) -> Result<(), Refusal> {
    let too_large = |value: &Value| {
        let mut out = Writer::new();
        codec::write_value(&mut out, value);
        out.len() as u64 > u64::from(limits.value_bytes)
    };
    let found = delta.cells.values().any(|cell| match &cell.state {
        State::Lww { value, .. } | State::Max(value) | State::Min(value) => {
            value.as_ref().is_some_and(too_large)
        }
        State::Fww(first) => first.as_ref().is_some_and(|(_, value)| too_large(value)),
        State::Set(set) => set.elements.keys().any(too_large),
        State::Review(siblings) => siblings.values.values().any(too_large),
        State::Counter(_) | State::Later { .. } => false,
    });
    if found { Err(Refusal::TooLarge("a value is too large")) } else { Ok(()) }
}

/// `lww` cells that meet without either write having known the other. The stored record cannot know the
/// row (its order was checked), so only the row's side is asked.
fn conflicts(row: &RowContext, stored: &Record, write: &PushWrite) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (key, cell) in &write.delta.cells {
        let (Some(held), State::Lww { stamp, value }) = (stored.cells.get(key), &cell.state) else {
            continue;
        };
        let State::Lww { stamp: held_stamp, value: held_value } = &held.state else {
            continue;
        };
        if held_stamp.replica == row.own.replica || write.saw.covers(held_stamp) {
            continue;
        }
        let (won, lost, value) = if held_stamp > stamp {
            (*held_stamp, *stamp, value)
        } else {
            (*stamp, *held_stamp, held_value)
        };
        found.push(Conflict { field: key.0.clone(), won, lost, value: value.clone() });
    }
    found
}

/// What a join has changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grown {
    /// Anything.
    pub(super) any: bool,
    /// Which writes are removed.
    pub(super) removed: bool,
}

/// Joins all but `buried`, part by part, to know which of them changed at `seq`.
pub(super) fn join_parts(
    record: &mut Record,
    positions: &mut Positions,
    parts: &Record,
    seq: Seq,
) -> Grown {
    let mut grown = Grown::default();
    for stamp in parts.seen.iter() {
        if record.seen.raise(stamp.replica, stamp.hlc) {
            positions.seen.insert(stamp.replica, seq);
            grown.any = true;
        }
    }
    for stamp in parts.removed.seen.iter() {
        if record.removed.seen.raise(stamp.replica, stamp.hlc) {
            positions.removed.insert(stamp.replica, seq);
            grown = Grown { any: true, removed: true };
        }
    }
    for (key, cell) in &parts.cells {
        let before = record.cells.get(key);
        let mut after = cell.clone();
        if let Some(before) = before {
            after = before.clone();
            after.join(cell);
        }
        if before != Some(&after) {
            record.cells.insert(key.clone(), after);
            positions.cells.insert(key.clone(), seq);
            grown.any = true;
        }
    }
    grown
}

/// Joins what a row may add.
fn join(row: &RowContext, stored: &Stored, write: &PushWrite, admitted: &Record) -> Stored {
    let mut record = stored.record.clone();
    let mut positions = stored.positions.clone();
    positions.latest = row.seq;
    let buried = join_parts(&mut record, &mut positions, admitted, row.seq).removed;
    let altered = {
        let mut spoken = write.delta.clone();
        spoken.removed.buried = None;
        // Made from what was collected since, or lost: from what is there its writer makes something else.
        write.saw.exceeds(&stored.record.seen)
            || buried
            || (spoken != *admitted && {
                let mut plain = stored.record.clone();
                plain.join(&spoken);
                plain != record
            })
    };
    if buried {
        record.removed.buried = record.removed.buried.max(Some(row.clock));
        positions.buried = Some(row.seq);
    }
    if altered {
        positions.altered = row.seq;
    }
    Stored::new(record, positions)
}
