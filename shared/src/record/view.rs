//! A record as an app reads it: one entry per field, whatever cells stand behind it.
//!
//! Absent: whether the record is live ([`Record::is_live`]); the fields of a removed record are its last.

use super::{Cell, Kind, Record, State, Value};
use crate::{
    hlc::Stamp,
    id::FieldName,
    sorted::{self, SortedMap},
};
use alloc::vec::Vec;

/// What a field shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// The value of a `lww`, `fww`, `max` or `min` field.
    Value(Value),
    /// The total of a `counter`.
    Counter(i64),
    /// The elements of a `set`, ascending.
    Set(Vec<Value>),
    /// The values of a `review` field, by the stamps that wrote them, ascending; several are a conflict.
    Review(Vec<(Stamp, Value)>),
}

/// The fields of `record`.
///
/// Left out: a field that was cleared or never written, and kinds of later versions. A set whose elements
/// were all removed one by one is there and empty. A field that has cells of several kinds (apps of two
/// versions disagree on it) shows the one with the latest stamp, be it of a reset or of a write; counters
/// and `max` and `min` keep no stamps of writes and count by their reset alone. Equal stamps: the kind
/// with the greater code. Linear in the record.
#[must_use]
pub fn visible(record: &Record) -> SortedMap<FieldName, Visible> {
    visible_kinds(record).into_iter().map(|(field, (_, visible))| (field, visible)).collect()
}

/// The same, with the kind of the cell that is shown.
#[must_use]
pub fn visible_kinds(record: &Record) -> SortedMap<FieldName, (Kind, Visible)> {
    let mut shown: SortedMap<FieldName, ((Option<Stamp>, Kind), Visible)> = SortedMap::new();
    for ((field, kind), cell) in &record.cells {
        let Some(visible) = show(&cell.state) else {
            continue;
        };
        let rank = (latest(cell), *kind);
        match shown.entry(field.clone()) {
            sorted::Entry::Vacant(entry) => {
                entry.insert((rank, visible));
            }
            // No two ranks are equal, since of each kind there is one cell: to ask for less is all there is to ask.
            sorted::Entry::Occupied(known) if known.0.cmp(&rank).is_lt() => {
                *known = (rank, visible);
            }
            sorted::Entry::Occupied(_) => {}
        }
    }
    shown.into_iter().map(|(field, ((_, kind), visible))| (field, (kind, visible))).collect()
}

fn show(state: &State) -> Option<Visible> {
    match state {
        State::Lww { value, .. } => value.clone().map(Visible::Value),
        State::Fww(first) => first.as_ref().map(|(_, value)| Visible::Value(value.clone())),
        State::Max(value) | State::Min(value) => value.clone().map(Visible::Value),
        State::Counter(counter) => {
            (!counter.0.is_empty()).then(|| Visible::Counter(counter.total()))
        }
        State::Set(set) => {
            let written = !set.context.is_empty() || !set.elements.is_empty();
            written.then(|| Visible::Set(set.elements.keys().cloned().collect()))
        }
        State::Review(siblings) => {
            let values = siblings.values.iter().map(|(stamp, value)| (*stamp, value.clone()));
            (!siblings.values.is_empty()).then(|| Visible::Review(values.collect()))
        }
        State::Later { .. } => None,
    }
}

/// The latest stamp that the cell carries.
fn latest(cell: &Cell) -> Option<Stamp> {
    let written = match &cell.state {
        State::Lww { stamp, .. } => Some(*stamp),
        State::Fww(first) => first.as_ref().map(|(stamp, _)| *stamp),
        State::Set(set) => set.context.iter().max(),
        State::Review(siblings) => siblings.context.iter().max(),
        State::Max(_) | State::Min(_) | State::Counter(_) | State::Later { .. } => None,
    };
    written.max(cell.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hlc::Hlc,
        id::ReplicaId,
        record::{AddWinsSet, Counter, Siblings, Tally, VersionVector},
    };

    fn stamp(at: u64) -> Stamp {
        Stamp { hlc: Hlc::from_bits(at), replica: ReplicaId::from_bytes([7; 16]) }
    }

    fn field(name: &str) -> FieldName {
        FieldName::parse(name).unwrap()
    }

    fn record(cells: Vec<(&str, Option<u64>, State)>) -> Record {
        let cells = cells.into_iter().map(|(name, since, state)| {
            ((field(name), state.kind()), Cell { since: since.map(stamp), state })
        });
        Record { cells: cells.collect(), ..Record::default() }
    }

    fn text(at: u64, value: Option<&str>) -> State {
        State::Lww { stamp: stamp(at), value: value.map(Value::text) }
    }

    fn votes(added: u64) -> State {
        let tally = Tally { added, subtracted: 1 };
        State::Counter(Counter([(stamp(0).replica, tally)].into()))
    }

    #[test]
    fn each_kind_shows_what_apps_read() {
        let context: VersionVector = [(stamp(0).replica, Hlc::from_bits(9))].into_iter().collect();
        let tags = AddWinsSet {
            context: context.clone(),
            elements: [(Value::text("b"), context.clone()), (Value::int(1), context.clone())]
                .into(),
        };
        let notes = Siblings {
            context,
            values: [(stamp(9), Value::text("y")), (stamp(8), Value::text("x"))].into(),
        };
        let shown = visible(&record(alloc::vec![
            ("title", None, text(1, Some("a"))),
            ("by", None, State::Fww(Some((stamp(1), Value::Null)))),
            ("best", None, State::Max(Some(Value::int(3)))),
            ("votes", None, votes(3)),
            ("tags", None, State::Set(tags)),
            ("notes", None, State::Review(notes)),
        ]));
        let expected = [
            ("title", Visible::Value(Value::text("a"))),
            ("by", Visible::Value(Value::Null)),
            ("best", Visible::Value(Value::int(3))),
            ("votes", Visible::Counter(2)),
            ("tags", Visible::Set(alloc::vec![Value::int(1), Value::text("b")])),
            (
                "notes",
                Visible::Review(alloc::vec![
                    (stamp(8), Value::text("x")),
                    (stamp(9), Value::text("y")),
                ]),
            ),
        ];
        let expected = expected.into_iter().map(|(name, shown)| (field(name), shown));
        assert_eq!(shown, expected.collect());
    }

    #[test]
    fn cleared_fields_and_later_kinds_are_left_out() {
        let cleared = [Kind::Fww, Kind::Max, Kind::Min, Kind::Counter, Kind::Set, Kind::Review];
        let mut cells: Vec<_> = cleared
            .into_iter()
            .map(|kind| ("field", Some(4), State::empty(kind).unwrap()))
            .collect();
        cells.push(("field", None, text(4, None)));
        cells.push(("other", None, State::Later { code: 9, bytes: alloc::vec![1] }));
        assert_eq!(visible(&record(cells)), SortedMap::new());
    }

    #[test]
    fn a_set_that_lost_its_last_element_is_empty_and_not_absent() {
        let context = [(stamp(0).replica, Hlc::from_bits(9))].into_iter().collect();
        let tags = State::Set(AddWinsSet { context, elements: SortedMap::new() });
        let shown = visible(&record(alloc::vec![("tags", None, tags)]));
        assert_eq!(shown.get(&field("tags")), Some(&Visible::Set(Vec::new())));
    }

    #[test]
    fn of_several_kinds_the_latest_is_shown_and_an_absent_one_hides_nothing() {
        let older = record(alloc::vec![
            ("votes", Some(3), votes(5)),
            ("votes", None, text(2, Some("many")))
        ]);
        assert_eq!(visible(&older).get(&field("votes")), Some(&Visible::Counter(4)));
        let newer = record(alloc::vec![
            ("votes", Some(3), votes(5)),
            ("votes", None, text(4, Some("many")))
        ]);
        let many = Visible::Value(Value::text("many"));
        assert_eq!(visible(&newer).get(&field("votes")), Some(&many));
        let cleared =
            record(alloc::vec![("votes", Some(3), votes(5)), ("votes", None, text(3, None))]);
        assert_eq!(visible(&cleared).get(&field("votes")), Some(&Visible::Counter(4)));
    }
}
