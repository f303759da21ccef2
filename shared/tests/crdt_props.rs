//! Joins: their laws for every kind, alone, mixed, and over resets; and what they mean, against models
//! that know every write there was.
//!
//! States come from random histories of replicas that write and join, so they are those that replicas
//! can reach; that others do no harm is looked at too.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test: whatever goes wrong here should stop it"
)]

use rejoin_core::{
    codec::{decode_record, encode_record},
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::ReplicaId,
    record::{Cell, Counter, Kind, Record, Siblings, State, Tally, Value, VersionVector},
    sorted::{SortedMap, SortedSet},
    testing::{
        generators::{
            arbitrary_cell, arbitrary_field, arbitrary_kind, arbitrary_record, arbitrary_stamp,
            arbitrary_value, arbitrary_vector,
        },
        history::{Change, History, KINDS, Plan, Step},
        rng::Rng,
    },
};
use std::{fmt::Debug, rc::Rc};

const TRIPLES: usize = 20_000;

fn joined<T: Join + Clone>(left: &T, right: &T) -> T {
    let mut joined = left.clone();
    joined.join(right);
    joined
}

fn assert_laws<T: Join + Clone + PartialEq + Debug>(a: &T, b: &T, c: &T, of: &str) {
    assert_eq!(joined(a, a), *a, "{of}: idempotent");
    let ab = joined(a, b);
    assert_eq!(ab, joined(b, a), "{of}: commutative");
    assert_eq!(joined(&ab, b), ab, "{of}: absorbs what it joined");
    assert_eq!(joined(&ab, c), joined(a, &joined(b, c)), "{of}: associative\n{a:?}\n{b:?}\n{c:?}");
}

/// States of one record that four replicas held at some time, of many histories.
fn reachable(seed: u64, plan: &Plan, mut each: impl FnMut(&mut Rng, &History, &[Record]) -> bool) {
    let mut rng = Rng::new(seed);
    loop {
        let mut history = History::new(&mut rng, 4).unwrap();
        let mut states = Vec::new();
        for _ in 0..rng.below(40) + 4 {
            history.step(&mut rng, plan);
            states.extend(history.states().cloned());
        }
        if !each(&mut rng, &history, &states) {
            return;
        }
    }
}

fn plan(kinds: &[Kind], resets: bool, removes: bool) -> Plan {
    Plan { kinds: kinds.to_vec(), resets, removes }
}

fn laws_of_cells(seed: u64, kinds: &[Kind], resets: bool, triples_min: usize) {
    let mut triples = 0;
    let mut differed = 0;
    reachable(seed, &plan(kinds, resets, false), |rng, history, states| {
        let mut cell = || {
            let state = &states[rng.index(states.len())];
            let kind = kinds[rng.index(kinds.len())];
            history.cell(state, kind).cloned()
        };
        for _ in 0..40 {
            let (Some(a), Some(b), Some(c)) = (cell(), cell(), cell()) else {
                continue;
            };
            assert_laws(&a, &b, &c, &format!("{kinds:?}"));
            triples += 1;
            differed += usize::from(a != b && b != c && a != c);
        }
        triples < triples_min
    });
    assert!(differed > triples_min / 20, "{kinds:?}: only {differed} triples of three states");
}

#[test]
fn c08_cells_of_every_kind_keep_the_laws() {
    for (seed, kind) in KINDS.iter().enumerate() {
        laws_of_cells(seed as u64, &[*kind], false, TRIPLES);
    }
}

#[test]
fn cells_that_were_reset_keep_the_laws() {
    for (seed, kind) in KINDS.iter().enumerate() {
        laws_of_cells(100 + seed as u64, &[*kind], true, TRIPLES);
    }
}

/// Cells of two kinds never meet in a record, whose key holds the kind; the laws hold all the same.
#[test]
fn c08_cells_of_every_pair_of_kinds_keep_the_laws() {
    for (at, left) in KINDS.iter().enumerate() {
        for right in &KINDS[at + 1..] {
            laws_of_cells(200 + at as u64, &[*left, *right], true, TRIPLES / 10);
        }
    }
}

#[test]
fn c08_records_keep_the_laws() {
    let mut triples = 0;
    reachable(1, &plan(&KINDS, true, true), |rng, _, states| {
        for _ in 0..40 {
            let mut state = || &states[rng.index(states.len())];
            assert_laws(state(), state(), state(), "record");
            triples += 1;
        }
        triples < TRIPLES
    });
}

#[test]
fn reachable_records_survive_storage() {
    let mut count = 0;
    reachable(2, &plan(&KINDS, true, true), |_, _, states| {
        for state in states {
            assert_eq!(decode_record(&encode_record(state)).as_ref(), Ok(state));
            count += 1;
        }
        count < 10_000
    });
}

/// Registers that tie in stamp with different values: one replica id used twice. No replica that keeps
/// the rules makes such states, and copied databases do.
#[test]
fn c07_registers_with_equal_stamps_and_different_values_keep_the_laws() {
    let mut rng = Rng::new(3);
    let stamp = |rng: &mut Rng| Stamp {
        hlc: Hlc::from_bits(rng.below(2)),
        replica: ReplicaId::from_bytes([0; 16]),
    };
    for _ in 0..TRIPLES {
        for kind in [Kind::Lww, Kind::Fww, Kind::Max, Kind::Min, Kind::Later(7), Kind::Counter] {
            let mut cell = || {
                let mut cell = arbitrary_cell(&mut rng, kind);
                cell.since = cell.since.map(|_| stamp(&mut rng));
                match &mut cell.state {
                    State::Lww { stamp: at, .. } | State::Fww(Some((at, _))) => {
                        *at = stamp(&mut rng);
                    }
                    _ => {}
                }
                cell
            };
            assert_laws(&cell(), &cell(), &cell(), &format!("{kind:?}"));
        }
        let mut siblings = || {
            let dot = stamp(&mut rng);
            let context = [(dot.replica, dot.hlc)].into_iter().collect();
            let values = if rng.once_in(3) {
                SortedMap::new()
            } else {
                SortedMap::from([(dot, Value::int(i64::from(rng.byte() % 3)))])
            };
            Siblings { context, values }
        };
        assert_laws(&siblings(), &siblings(), &siblings(), "review");
    }
}

/// Which of two states stays is a rule, not an accident of the order in which they meet.
#[test]
fn c07_of_equal_stamps_the_value_decides() {
    let stamp = Stamp { hlc: Hlc::from_bits(5), replica: ReplicaId::from_bytes([1; 16]) };
    let [less, more] = [1, 2].map(Value::int);
    let lww = |value: Option<&Value>| State::Lww { stamp, value: value.cloned() };
    let fww = |value: &Value| State::Fww(Some((stamp, value.clone())));
    let later = |code, byte| State::Later { code, bytes: vec![byte] };
    let review = |value: &Value| {
        let context = [(stamp.replica, stamp.hlc)].into_iter().collect();
        State::Review(Siblings { context, values: [(stamp, value.clone())].into() })
    };
    for (goes, stays) in [
        (lww(Some(&less)), lww(Some(&more))),
        (lww(None), lww(Some(&less))),
        (fww(&more), fww(&less)),
        (State::Fww(None), fww(&more)),
        (State::Max(Some(less.clone())), State::Max(Some(more.clone()))),
        (State::Max(None), State::Max(Some(less.clone()))),
        (State::Min(Some(more.clone())), State::Min(Some(less.clone()))),
        (State::Min(None), State::Min(Some(more.clone()))),
        (later(9, 1), later(9, 2)),
        (later(9, 2), later(10, 1)),
        (lww(Some(&more)), fww(&less)),
        (review(&less), review(&more)),
    ] {
        assert_eq!(joined(&goes, &stays), stays);
        assert_eq!(joined(&stays, &goes), stays);
        let since = Some(stamp);
        let [goes, stays] = [goes, stays].map(|state| Cell { since, state });
        assert_eq!(joined(&goes, &stays), stays, "cells that were reset by one write");
        assert_eq!(joined(&stays, &goes), stays, "cells that were reset by one write");
    }
}

#[test]
fn c10_counters_and_values_beyond_2_to_the_53_stay_exact() {
    let at = |byte| ReplicaId::from_bytes([byte; 16]);
    let counter = |entries: &[(u8, u64, u64)]| {
        let entries = entries.iter().map(|(replica, added, subtracted)| {
            let (added, subtracted) = (*added, *subtracted);
            (at(*replica), Tally { added, subtracted })
        });
        Counter(entries.collect())
    };
    let big = 1_u64 << 53;
    let ab = joined(&counter(&[(1, big, 0)]), &counter(&[(1, big + 1, 0), (2, 1, 1)]));
    assert_eq!(ab, counter(&[(1, big + 1, 0), (2, 1, 1)]));
    assert_eq!(ab.total(), i64::try_from(big).unwrap() + 1);
    assert_eq!(counter(&[(1, u64::MAX, 0), (2, u64::MAX, 0)]).total(), i64::MAX);
    assert_eq!(counter(&[(1, 0, u64::MAX), (2, 0, u64::MAX)]).total(), i64::MIN);
    assert_eq!(counter(&[(1, u64::MAX, 0), (2, 5, u64::MAX)]).total(), 5);

    let max = |value| State::Max(Some(value));
    let (even, odd) = (Value::int(1 << 53), Value::int((1 << 53) + 1));
    assert_eq!(joined(&max(even.clone()), &max(odd.clone())), max(odd.clone()));
    let min = |value| State::Min(Some(value));
    assert_eq!(joined(&min(odd), &min(even.clone())), min(even));
}

/// Bytes of a peer may hold contexts and dots that no replica could reach together.
#[test]
fn joins_of_unreachable_states_are_well_formed() {
    let mut rng = Rng::new(4);
    for _ in 0..5_000 {
        let (mut left, right) = (arbitrary_record(&mut rng), arbitrary_record(&mut rng));
        left.join(&right);
        assert_eq!(decode_record(&encode_record(&left)).as_ref(), Ok(&left));
        let again = joined(&left, &left);
        assert_eq!(again, left);
        let (kind, other) = (arbitrary_kind(&mut rng), arbitrary_kind(&mut rng));
        let (a, b) = (arbitrary_cell(&mut rng, kind), arbitrary_cell(&mut rng, other));
        assert_eq!(joined(&a, &b), joined(&b, &a));
    }
}

#[test]
fn order_of_values_is_total() {
    let mut rng = Rng::new(5);
    for _ in 0..TRIPLES {
        let mut draw = || arbitrary_value(&mut rng);
        let (a, b, c) = (draw(), draw(), draw());
        assert_eq!(a.cmp(&b), b.cmp(&a).reverse(), "{a:?} {b:?}");
        assert_eq!(a == b, a.cmp(&b).is_eq(), "{a:?} {b:?}");
        let mut sorted = [a, b, c];
        sorted.sort();
        assert!(sorted[0] <= sorted[1] && sorted[1] <= sorted[2] && sorted[0] <= sorted[2]);
    }
}

/// One write, and all writes that its writer knew of.
#[derive(Debug)]
struct Event {
    stamp: Stamp,
    change: Change,
    known: SortedSet<Stamp>,
}

/// What a replica holds, told as the set of all writes that reached it.
#[derive(Debug, Clone, Default)]
struct Model(SortedMap<Stamp, Rc<Event>>);

impl Model {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.0.values().map(|event| &**event)
    }

    /// Whether some write that `covers` accepts knew of `stamp`.
    fn covered(&self, stamp: &Stamp, covers: impl Fn(&Change) -> bool) -> bool {
        self.events().any(|event| covers(&event.change) && event.known.contains(stamp))
    }

    /// Documented: live exactly if some write is unknown to every remove.
    fn is_live(&self) -> bool {
        self.events().any(|event| {
            event.change != Change::Remove
                && !self.covered(&event.stamp, |change| *change == Change::Remove)
        })
    }

    fn total(&self) -> i64 {
        let mut tallies: SortedMap<ReplicaId, (u64, u64)> = SortedMap::new();
        for event in self.events() {
            if let Change::Count { up, down } = &event.change {
                let tally = tallies.entry(event.stamp.replica).or_default();
                *tally = (tally.0.saturating_add(*up), tally.1.saturating_add(*down));
            }
        }
        let sum: i128 =
            tallies.values().map(|(up, down)| i128::from(*up) - i128::from(*down)).sum();
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    fn elements(&self) -> SortedSet<Value> {
        let added = self.events().filter_map(|event| match &event.change {
            Change::Add(element) => Some((event.stamp, element)),
            _ => None,
        });
        let kept = added.filter(|(stamp, element)| {
            !self
                .covered(stamp, |change| matches!(change, Change::Take(taken) if taken == *element))
        });
        kept.map(|(_, element)| element.clone()).collect()
    }

    fn assigned(&self, wanted: Kind) -> impl Iterator<Item = (Stamp, Option<Value>)> {
        self.events().filter_map(move |event| match &event.change {
            Change::Assign(kind, value) if *kind == wanted => {
                Some((event.stamp, Some(value.clone())))
            }
            Change::Clear if wanted == Kind::Lww => Some((event.stamp, None)),
            _ => None,
        })
    }

    fn siblings(&self) -> SortedMap<Stamp, Value> {
        let is_review = |change: &Change| matches!(change, Change::Assign(Kind::Review, _));
        self.assigned(Kind::Review)
            .filter(|(stamp, _)| !self.covered(stamp, is_review))
            .filter_map(|(stamp, value)| Some((stamp, value?)))
            .collect()
    }
}

fn assert_matches(history: &History, record: &Record, model: &Model) {
    assert_eq!(record.is_live(), model.is_live(), "{model:?}");
    let state = |kind| history.cell(record, kind).map(|cell| &cell.state);
    if let Some(State::Lww { stamp, value }) = state(Kind::Lww) {
        assert_eq!(model.assigned(Kind::Lww).max(), Some((*stamp, value.clone())));
    }
    if let Some(State::Fww(first)) = state(Kind::Fww) {
        let expected = model.assigned(Kind::Fww).min();
        assert_eq!(first.clone().map(|(stamp, value)| (stamp, Some(value))), expected);
    }
    if let Some(State::Max(value)) = state(Kind::Max) {
        let expected = model.assigned(Kind::Max).filter_map(|(_, value)| value).max();
        assert_eq!(*value, expected);
    }
    if let Some(State::Min(value)) = state(Kind::Min) {
        let expected = model.assigned(Kind::Min).filter_map(|(_, value)| value).min();
        assert_eq!(*value, expected);
    }
    if let Some(State::Counter(counter)) = state(Kind::Counter) {
        assert_eq!(counter.total(), model.total());
    }
    if let Some(State::Set(set)) = state(Kind::Set) {
        assert_eq!(set.elements.keys().cloned().collect::<SortedSet<_>>(), model.elements());
    }
    if let Some(State::Review(siblings)) = state(Kind::Review) {
        assert_eq!(siblings.values, model.siblings());
    }
}

#[test]
fn c01_joins_mean_what_is_documented() {
    let plan = plan(&KINDS, false, true);
    let (mut live, mut dead) = (0, 0);
    for seed in 0..1_000 {
        let mut rng = Rng::new(seed);
        let mut history = History::new(&mut rng, 3).unwrap();
        let mut models = vec![Model::default(); 3];
        for _ in 0..40 {
            match history.step(&mut rng, &plan).expect("there are replicas") {
                Step::Joined { into, from } => {
                    let theirs = models[from].0.clone();
                    models[into].0.extend(theirs);
                }
                Step::Wrote { by, stamp, change } => {
                    let known = models[by].0.keys().copied().collect();
                    let event = Rc::new(Event { stamp, change, known });
                    models[by].0.insert(stamp, event);
                }
            }
            for (record, model) in history.states().zip(&models) {
                assert_matches(&history, record, model);
                if record.is_live() {
                    live += 1;
                } else {
                    dead += 1;
                }
            }
        }
    }
    assert!(live > 10_000 && dead > 10_000, "{live} live, {dead} dead");
}

#[test]
fn c01_remove_does_not_kill_an_edit_it_has_not_seen() {
    let write = |record: &mut Record, byte: u8, time: u64| {
        record.seen.raise(ReplicaId::from_bytes([byte; 16]), Hlc::from_bits(time));
    };
    let mut base = Record::default();
    write(&mut base, 1, 10);
    // The remover's clock is far ahead; what counts is what it knew.
    let mut removed = base.clone();
    write(&mut removed, 2, 1_000);
    removed.removed.seen = removed.seen.clone();
    assert!(!removed.is_live());
    let mut edited = base.clone();
    write(&mut edited, 3, 11);
    assert!(joined(&removed, &edited).is_live());
    assert!(!joined(&removed, &base).is_live());
}

#[test]
fn a_later_reset_wins_over_what_was_greater_before() {
    let stamp = |time| Stamp { hlc: Hlc::from_bits(time), replica: ReplicaId::from_bytes([1; 16]) };
    let cell = |since, value| Cell { since, state: State::Max(Some(Value::int(value))) };
    let reset = cell(Some(stamp(5)), 10);
    assert_eq!(joined(&cell(None, 99), &reset), reset);
    assert_eq!(joined(&cell(Some(stamp(4)), 99), &reset), reset);
    assert_eq!(joined(&cell(Some(stamp(5)), 99), &reset), cell(Some(stamp(5)), 99));
}

#[test]
fn vectors_keep_the_laws_and_meet_below_both() {
    let mut rng = Rng::new(6);
    for _ in 0..TRIPLES {
        let mut draw = || arbitrary_vector(&mut rng);
        let (a, b, c): (VersionVector, _, _) = (draw(), draw(), draw());
        let join = |left: &VersionVector, right: &VersionVector| {
            let mut joined = left.clone();
            joined.join(right);
            joined
        };
        assert_eq!(join(&a, &b), join(&b, &a));
        assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        assert!(!a.exceeds(&join(&a, &b)));
        assert!(!a.meet(&b).exceeds(&a) && !a.meet(&b).exceeds(&b));
        assert_eq!(join(&a, &a.meet(&b)), a);
    }
}

/// What an app of a later version wrote goes through this one as it is: stored, joined and sent on.
#[test]
fn c16_fields_of_later_kinds_are_kept_bit_by_bit_by_those_who_do_not_know_them() {
    let mut rng = Rng::new(16);
    let later = |rng: &mut Rng| {
        let kind = Kind::from_code(rng.one_of(8, &[23, 24, 200, 255]));
        ((arbitrary_field(rng), kind), arbitrary_cell(rng, kind))
    };
    for _ in 0..2_000 {
        let mut record = arbitrary_record(&mut rng);
        let cells: Vec<_> = (0..=rng.below(3)).map(|_| later(&mut rng)).collect();
        record.cells.extend(cells.clone());
        let bytes = encode_record(&record);
        let mut kept = decode_record(&bytes).unwrap();
        assert_eq!(encode_record(&kept), bytes);
        // A write of this version beside them.
        let mut delta = Record::default();
        let stamp = arbitrary_stamp(&mut rng);
        delta.seen.set(stamp.replica, stamp.hlc);
        let state = State::Lww { stamp, value: Some(Value::text("of this version")) };
        let field = arbitrary_field(&mut rng);
        delta.cells.insert((field, Kind::Lww), Cell { since: None, state });
        kept.join(&delta);
        let kept = decode_record(&encode_record(&kept)).unwrap();
        for (key, _) in cells {
            assert_eq!(kept.cells.get(&key), record.cells.get(&key));
        }
    }
}
