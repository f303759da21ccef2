//! Writes and the outbox, one by one; whole sessions are the simulator's.

mod folds;

use super::{fold::META_FINISHED, *};
use crate::{
    codec::{encode_record, record_digest},
    crdt::Join,
    hlc::{Hlc, Stamp},
    id::{
        CollectionName, Epoch, FieldName, Incarnation, Pattern, RecordId, RecordKey, ReplicaId, Seq,
    },
    io::{Batch, Keyspace, Row as Pair, Write},
    message::{
        self, Body, Changes, Chunk, ChunkRecord, Message, PROOF_BYTES, Place, RejectCode,
        limits::EPOCHS_MAX, wire,
    },
    record::{Kind, Record, State, Value, VersionVector, Visible, visible},
    sorted::SortedMap,
    testing::rng::Rng,
    time::WallMillis,
};
use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

const NOW: WallMillis = WallMillis(1_700_000_000_000);

fn id(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn name() -> CollectionName {
    CollectionName::parse("notes").unwrap()
}

fn key(id: &str) -> RecordKey {
    RecordKey { collection: name(), id: RecordId::parse(id).unwrap() }
}

fn replica() -> Replica {
    Replica::new(id(1), &[Pattern::Exact(name())])
}

fn field(name: &str, action: FieldAction) -> FieldChange {
    FieldChange { field: FieldName::parse(name).unwrap(), action }
}

fn set(name: &str, kind: Kind, value: i64) -> FieldChange {
    field(name, FieldAction::Set(kind, Value::int(value)))
}

fn change(id: &str, action: Action) -> Change {
    Change { key: key(id), action }
}

/// Commits one row; its number.
fn commit(replica: &mut Replica, changes: &[Change]) -> u64 {
    let written = replica.write(changes, NOW).unwrap();
    replica.confirm();
    written.number
}

fn shown(replica: &Replica, id: &str) -> SortedMap<String, Visible> {
    let record = replica.view(&key(id)).unwrap();
    let fields = if record.is_live() { visible(&record) } else { SortedMap::new() };
    fields.into_iter().map(|(name, value)| (name.as_str().to_string(), value)).collect()
}

fn shows(replica: &Replica, id: &str, expected: &[(&str, Visible)]) {
    let expected = expected.iter().map(|(name, value)| (name.to_string(), value.clone()));
    assert_eq!(shown(replica, id), expected.collect());
}

fn int(value: i64) -> Visible {
    Visible::Value(Value::int(value))
}

fn entry(key: RecordKey, seq: u64, record: Record) -> message::Entry {
    let digest = record_digest(&encode_record(&record));
    let mut check = [0; 8];
    check.copy_from_slice(&digest.as_bytes()[..8]);
    message::Entry {
        key,
        seq: Seq(seq),
        check,
        proof: [7; PROOF_BYTES],
        body: Body::Whole(record),
        conflicts: Vec::new(),
    }
}

/// The peer's changes up to `upto`.
fn feed(replica: &mut Replica, upto: u64, cut: bool, entries: Vec<message::Entry>) -> Applied {
    let after = replica.standings()[0].1.place.clone();
    let changes = Changes {
        subscriptions: vec![0],
        after,
        upto: Place::at(Seq(upto)),
        cut,
        entries,
        state: None,
    };
    replica.apply(Entry::Feed(wire::encode(&Message::Changes(changes)))).unwrap()
}

fn accepted(replica: &mut Replica, number: u64) {
    let settled = vec![(number, Settlement::Accepted(Seq(1)))];
    replica.apply(Entry::Settled(settled)).unwrap();
}

fn rejected(replica: &mut Replica, number: u64) {
    let code = RejectCode::Forbidden;
    let settled = vec![(number, Settlement::Rejected { code, reason: String::new() })];
    replica.apply(Entry::Settled(settled)).unwrap();
}

#[test]
fn add_refuses_a_live_record_and_update_an_absent_one() {
    let mut replica = replica();
    let update = change("a", Action::Update(vec![set("n", Kind::Lww, 1)]));
    let missing = replica.write(&[update], NOW).unwrap_err();
    assert_eq!(missing, WriteError::Change(ChangeError::NotFound(key("a"))));
    let add = change("a", Action::Add(vec![set("n", Kind::Lww, 1)]));
    commit(&mut replica, core::slice::from_ref(&add));
    let exists = replica.write(&[add], NOW).unwrap_err();
    assert_eq!(exists, WriteError::Change(ChangeError::Exists(key("a"))));
    assert_eq!(replica.last(), 1, "a refused write changes nothing");
}

#[test]
fn put_starts_anew_and_update_goes_on() {
    let mut replica = replica();
    let fields = vec![set("high", Kind::Max, 99), set("n", Kind::Lww, 1)];
    commit(&mut replica, &[change("a", Action::Add(fields))]);
    commit(&mut replica, &[change("a", Action::Update(vec![set("high", Kind::Max, 10)]))]);
    shows(&replica, "a", &[("high", int(99)), ("n", int(1))]);
    commit(&mut replica, &[change("a", Action::Put(vec![set("high", Kind::Max, 10)]))]);
    shows(&replica, "a", &[("high", int(10))]);
}

#[test]
fn a_removed_record_comes_back_with_its_fields_by_upsert_and_without_by_add() {
    let mut replica = replica();
    let both = vec![set("n", Kind::Lww, 1), set("m", Kind::Lww, 2)];
    commit(&mut replica, &[change("a", Action::Add(both))]);
    commit(&mut replica, &[change("a", Action::Remove { erase: false })]);
    shows(&replica, "a", &[]);
    commit(&mut replica, &[change("a", Action::Upsert(vec![set("n", Kind::Lww, 3)]))]);
    shows(&replica, "a", &[("m", int(2)), ("n", int(3))]);
    commit(&mut replica, &[change("a", Action::Remove { erase: false })]);
    commit(&mut replica, &[change("a", Action::Add(vec![set("n", Kind::Lww, 4)]))]);
    shows(&replica, "a", &[("n", int(4))]);
}

#[test]
fn what_follows_a_remove_in_one_batch_lives() {
    for after in [Action::Upsert as fn(_) -> _, Action::Add, Action::Put] {
        let mut replica = replica();
        commit(&mut replica, &[change("a", Action::Add(vec![set("n", Kind::Lww, 1)]))]);
        let remove = change("a", Action::Remove { erase: true });
        let again = change("a", after(vec![set("m", Kind::Lww, 2)]));
        commit(&mut replica, &[remove, again]);
        shows(&replica, "a", &[("m", int(2))]);
    }
}

#[test]
fn what_a_batch_offers_twice_is_the_first_the_greatest_the_least_or_the_last() {
    let kinds = [("fww", Kind::Fww), ("max", Kind::Max), ("min", Kind::Min), ("lww", Kind::Lww)];
    let offer = |value| kinds.map(|(name, kind)| set(name, kind, value)).to_vec();
    let mut replica = replica();
    let write = |value| change("a", Action::Upsert(offer(value)));
    commit(&mut replica, &[write(5), write(9), write(1), write(3)]);
    let left = [("fww", int(5)), ("max", int(9)), ("min", int(1)), ("lww", int(3))];
    shows(&replica, "a", &left);
    let twice = [9, 1, 3].into_iter().flat_map(offer).collect();
    commit(&mut replica, &[change("b", Action::Upsert(twice))]);
    let left = [("fww", int(9)), ("max", int(9)), ("min", int(1)), ("lww", int(3))];
    shows(&replica, "b", &left);
    // What a put clears is no offer any more.
    commit(&mut replica, &[write(50), change("a", Action::Put(offer(7)))]);
    shows(&replica, "a", &kinds.map(|(name, _)| (name, int(7))));
}

#[test]
fn content_of_a_set_is_given_anew_whatever_the_same_change_has_done_to_it() {
    let mut replica = replica();
    let tags = |action| field("tags", action);
    let ints = |values: &[i64]| values.iter().copied().map(Value::int).collect::<Vec<_>>();
    let shown = |values: &[i64]| [("tags", Visible::Set(ints(values)))];
    commit(
        &mut replica,
        &[change("a", Action::Put(vec![tags(FieldAction::Insert(ints(&[1, 2])))]))],
    );
    let replace = || tags(FieldAction::Replace(ints(&[2, 3])));
    let before = [
        FieldAction::Insert(ints(&[4])),
        FieldAction::Delete(ints(&[2])),
        FieldAction::Clear(Kind::Set),
    ];
    for action in before {
        commit(&mut replica, &[change("a", Action::Update(vec![tags(action), replace()]))]);
        shows(&replica, "a", &shown(&[2, 3]));
    }
    commit(&mut replica, &[change("a", Action::Put(vec![replace()]))]);
    shows(&replica, "a", &shown(&[2, 3]));
    let twice = vec![replace(), tags(FieldAction::Clear(Kind::Set)), replace()];
    commit(&mut replica, &[change("a", Action::Update(twice))]);
    shows(&replica, "a", &shown(&[2, 3]));
}

#[test]
fn erase_overwrites_the_values() {
    let mut replica = replica();
    let fields = vec![set("n", Kind::Lww, 1), field("votes", FieldAction::Add(3))];
    commit(&mut replica, &[change("a", Action::Add(fields))]);
    commit(&mut replica, &[change("a", Action::Remove { erase: true })]);
    let record = replica.view(&key("a")).unwrap();
    assert!(!record.is_live());
    assert!(visible(&record).is_empty());
}

#[test]
fn erase_overwrites_the_values_of_a_removed_record_too_and_once() {
    let mut replica = replica();
    commit(&mut replica, &[change("a", Action::Add(secrets()))]);
    commit(&mut replica, &[change("a", Action::Remove { erase: false })]);
    let erase = [change("a", Action::Remove { erase: true })];
    commit(&mut replica, &erase);
    let record = replica.view(&key("a")).unwrap();
    assert!(!record.is_live());
    assert!(!format!("{record:?}").contains("secret"), "{record:?}");
    assert!(replica.write(&erase, NOW).is_err(), "nothing is left to be overwritten");
}

/// A value in a cell of every kind that holds some.
fn secrets() -> Vec<FieldChange> {
    let secret = || Value::text("secret");
    let single = [("lww", Kind::Lww), ("fww", Kind::Fww), ("max", Kind::Max), ("min", Kind::Min)];
    let single = single.map(|(name, kind)| field(name, FieldAction::Set(kind, secret())));
    let more = [
        field("set", FieldAction::Insert(vec![secret()])),
        field("review", FieldAction::Resolve(secret())),
    ];
    single.into_iter().chain(more).collect()
}

#[test]
fn a_write_is_hidden_until_it_is_durable_and_undo_leaves_no_trace() {
    let mut replica = replica();
    commit(&mut replica, &[change("a", Action::Add(vec![set("n", Kind::Lww, 1)]))]);
    let before = (replica.last(), replica.clock(), replica.overlay().clone());
    let update = [change("a", Action::Update(vec![set("n", Kind::Lww, 2)]))];
    let first = replica.write(&update, NOW).unwrap();
    let second = replica.write(&update, NOW).unwrap();
    assert!(second.stamp > first.stamp);
    shows(&replica, "a", &[("n", int(1))]);
    replica.undo();
    assert_eq!((replica.last(), replica.clock(), replica.overlay().clone()), before);
    replica.write(&update, NOW).unwrap();
    replica.confirm();
    shows(&replica, "a", &[("n", int(2))]);
}

/// A write that failed while others were tentative left a memory of its records up to a number that, once they
/// were taken back, another holder's row took: the record was shown without that row.
#[test]
fn row_that_takes_the_number_of_one_taken_back_is_shown() {
    let (mut replica, mut other) = (replica(), replica());
    for replica in [&mut replica, &mut other] {
        commit(replica, &[change("a", Action::Add(vec![set("n", Kind::Lww, 1)]))]);
    }
    replica.write(&[change("b", Action::Add(vec![set("n", Kind::Lww, 1)]))], NOW).unwrap();
    let update = |id: &str, value| change(id, Action::Update(vec![set("n", Kind::Lww, value)]));
    assert!(replica.write(&[update("a", 2), update("missing", 2)], NOW).is_err());
    replica.undo();
    let row = other.plan(&[update("a", 3)], NOW).unwrap();
    replica.apply(Entry::Commit(row)).unwrap();
    shows(&replica, "a", &[("n", int(3))]);
}

/// It was shown for ever, after a rebase, where its record was removed and forgotten before it was acknowledged.
#[test]
fn row_that_was_accepted_where_the_base_has_been_goes_though_the_base_lacks_it() {
    let mut replica = replica();
    let [there, ahead] = ["a", "b"]
        .map(|id| commit(&mut replica, &[change(id, Action::Add(vec![set("n", Kind::Lww, 1)]))]));
    feed(&mut replica, 5, true, Vec::new());
    let settled =
        vec![(there, Settlement::Accepted(Seq(5))), (ahead, Settlement::Accepted(Seq(6)))];
    replica.apply(Entry::Settled(settled)).unwrap();
    shows(&replica, "a", &[]);
    shows(&replica, "b", &[("n", int(1))]);
    feed(&mut replica, 6, true, Vec::new());
    shows(&replica, "b", &[]);
}

#[test]
fn an_acknowledged_row_stays_until_the_base_has_it() {
    let mut replica = replica();
    let row =
        commit(&mut replica, &[change("a", Action::Upsert(vec![field("n", FieldAction::Add(5))]))]);
    accepted(&mut replica, row);
    shows(&replica, "a", &[("n", Visible::Counter(5))]);
    assert!(replica.base().is_empty());
    let record = replica.view(&key("a")).unwrap();
    feed(&mut replica, 1, false, vec![entry(key("a"), 1, record.clone())]);
    assert!(replica.base().is_empty(), "nothing is visible before a cut");
    feed(&mut replica, 2, true, Vec::new());
    assert_eq!(replica.base().record(&key("a")), Ok(record));
    assert!(replica.overlay().is_empty());
    shows(&replica, "a", &[("n", Visible::Counter(5))]);
}

#[test]
fn a_refused_row_shows_nothing_and_is_kept_until_it_is_dropped() {
    let mut replica = replica();
    let row = commit(&mut replica, &[change("a", Action::Upsert(vec![set("n", Kind::Lww, 1)]))]);
    rejected(&mut replica, row);
    shows(&replica, "a", &[]);
    assert_eq!(replica.counts().rejected, 1);
    replica.apply(Entry::Dropped(row)).unwrap();
    assert!(replica.overlay().is_empty());
}

#[test]
fn new_stamps_keep_the_order_and_what_each_row_had_seen() {
    let mut replica = replica();
    let ahead = WallMillis(NOW.0 + 86_400_000);
    for value in 0..3 {
        let change = change("a", Action::Upsert(vec![set("n", Kind::Lww, value)]));
        replica.write(&[change], ahead).unwrap();
        replica.confirm();
    }
    let remove = change("a", Action::Remove { erase: false });
    replica.write(&[remove], ahead).unwrap();
    replica.confirm();
    let rows = replica.restamp_from(1, NOW).unwrap();
    replica.apply(Entry::Restamped { rows, skew_ms: 0 }).unwrap();
    let stamps: Vec<Stamp> = replica.overlay().rows().map(|(_, row)| row.row.stamp).collect();
    assert!(stamps.is_sorted());
    assert!(stamps.iter().all(|stamp| stamp.hlc.wall() == NOW));
    let saw: Vec<Option<Hlc>> =
        replica.overlay().rows().map(|(_, row)| row.row.writes[0].saw.get(&id(1))).collect();
    let before = core::iter::once(None).chain(stamps.iter().map(|stamp| Some(stamp.hlc)));
    assert_eq!(saw, before.take(4).collect::<Vec<_>>());
    shows(&replica, "a", &[]);
}

#[test]
fn a_reborn_replica_keeps_what_was_accepted_and_renames_the_rest() {
    let mut replica = replica();
    let add = || [change("a", Action::Upsert(vec![field("n", FieldAction::Add(1))]))];
    let (first, second) = (commit(&mut replica, &add()), commit(&mut replica, &add()));
    let restamped = replica.restamp_as(id(2), &[(first, None)], NOW).unwrap();
    let accepted = vec![(first, Settlement::Accepted(Seq(1)))];
    let reborn = Entry::Reborn { replica: id(2), accepted, unsure: vec![], restamped };
    replica.apply(reborn).unwrap();
    let of = |number| replica.overlay().get(number).unwrap().row.clone();
    assert_eq!(
        (replica.id(), of(first).stamp.replica, of(second).stamp.replica),
        (id(2), id(1), id(2))
    );
    assert_eq!(of(second).writes[0].saw.get(&id(1)), Some(of(first).stamp.hlc));
    shows(&replica, "a", &[("n", Visible::Counter(2))]);
}

/// A row counts as its copy: what came behind it covers the copy, and the base that has it ends it.
#[test]
fn a_row_that_counts_as_its_copy_goes_when_the_base_has_the_copy() {
    let mut replica = replica();
    let add = || [change("a", Action::Upsert(vec![field("n", FieldAction::Add(1))]))];
    let (first, second) = (commit(&mut replica, &add()), commit(&mut replica, &add()));
    let remove = commit(&mut replica, &[change("a", Action::Remove { erase: false })]);
    let origin = replica.overlay().get(first).unwrap().row.origin();
    let copy = Stamp { hlc: Hlc::at(NOW), replica: id(9) };
    replica.apply(Entry::Settled(vec![(first, Settlement::Taken(copy, Seq(7)))])).unwrap();
    let row = |number| replica.overlay().get(number).unwrap().row.clone();
    assert_eq!((row(first).stamp, row(first).origin()), (copy, origin));
    for number in [second, remove] {
        assert!(row(number).writes[0].saw.covers(&copy), "{:?}", row(number));
    }
    // What was its own stamp was never given to anybody.
    assert_eq!(row(second).writes[0].saw.get(&id(1)), None);
    let push = replica.push_row(second).unwrap().unwrap();
    let [write] = &push.writes[..] else { panic!("{push:?}") };
    let Some(State::Counter(counter)) = write.delta.cells.values().map(|cell| &cell.state).next()
    else {
        panic!("{push:?}")
    };
    assert_eq!(counter.0.get(&id(1)).unwrap().added, 1, "the copy's increment is not its own");
    let mut record = Record::default();
    record.seen.raise(copy.replica, copy.hlc);
    feed(&mut replica, 7, true, vec![entry(key("a"), 7, record)]);
    assert!(replica.overlay().get(first).is_none());
    assert_eq!(replica.overlay().rows().count(), 2);
}

/// What a wish does to one of a few records, drawn.
fn drawn_change(rng: &mut Rng) -> Change {
    let fields = vec![
        field("votes", FieldAction::Add(1 + i64::from(rng.byte()))),
        set("title", Kind::Lww, i64::from(rng.byte())),
        field("tags", FieldAction::Insert(vec![Value::int(i64::from(rng.byte() % 4))])),
    ];
    let fields = fields.into_iter().filter(|_| rng.once_in(2)).collect();
    let action = match rng.below(8) {
        0 => Action::Remove { erase: rng.once_in(2) },
        1 => Action::Put(fields),
        _ => Action::Upsert(fields),
    };
    change(if rng.once_in(2) { "a" } else { "b" }, action)
}

/// The peer's next state of a record: with some own rows, and sometimes with another's write.
fn drawn_base(rng: &mut Rng, replica: &Replica, id_of_record: &str, seq: u64) -> Record {
    let mut record = replica.base.record(&key(id_of_record)).unwrap();
    let stamps: Vec<Stamp> = replica.overlay.rows().map(|(_, outbox)| outbox.row.stamp).collect();
    if !stamps.is_empty() {
        let upto = stamps[rng.index(stamps.len())].hlc;
        replica.overlay.apply_own(&key(id_of_record), replica.id(), upto, &mut record);
    }
    if rng.once_in(2) {
        let stamp = Stamp { hlc: Hlc::at(WallMillis(NOW.0 + seq)), replica: id(9) };
        let intents =
            vec![Intent::Clear { field: FieldName::parse("votes").unwrap(), kind: Kind::Counter }];
        let write =
            RowWrite { key: key(id_of_record), saw: record.seen.clone(), updates: true, intents };
        write.apply(stamp, &mut record);
    }
    record
}

/// A row that builds on something else than what the peer has joined of it would count twice, or be lost.
#[test]
fn rows_and_views_are_the_same_whether_remembered_or_replayed() {
    for seed in 0..60 {
        let rng = &mut Rng::new(seed);
        let mut replica = replica();
        for step in 1..60 {
            let numbers: Vec<u64> = replica.overlay.rows().map(|(number, _)| number).collect();
            let picked = if numbers.is_empty() { 0 } else { numbers[rng.index(numbers.len())] };
            match rng.below(10) {
                0 => accepted(&mut replica, picked),
                1 => rejected(&mut replica, picked),
                2 => {
                    let name = if rng.once_in(2) { "a" } else { "b" };
                    let record = drawn_base(rng, &replica, name, step);
                    feed(&mut replica, step, true, vec![entry(key(name), step, record)]);
                }
                3 => {
                    let rows = replica.restamp_from(picked, NOW).unwrap();
                    replica.apply(Entry::Restamped { rows, skew_ms: 0 }).unwrap();
                }
                4 if rng.once_in(4) => {
                    let new = id(100 + rng.byte() / 2);
                    let rows = replica.restamp_as(new, &[(picked, None)], NOW).unwrap();
                    let unsure = vec![picked];
                    let reborn =
                        Entry::Reborn { replica: new, accepted: vec![], unsure, restamped: rows };
                    replica.apply(reborn).unwrap();
                }
                5 => {
                    // A commit that fails.
                    drop(replica.write(&[drawn_change(rng)], NOW));
                    replica.undo();
                }
                _ => {
                    drop(replica.write(&[drawn_change(rng), drawn_change(rng)], NOW));
                    replica.confirm();
                }
            }
            let from = rng.index(numbers.len() + 1);
            for number in numbers.into_iter().skip(from).chain([replica.last]) {
                let remembered = replica.push_row(number);
                let kept = core::mem::take(&mut replica.before_push);
                assert_eq!(remembered, replica.push_row(number), "seed {seed} step {step}");
                replica.before_push = kept;
            }
            for name in ["a", "b"] {
                let remembered = replica.view(&key(name));
                let kept = core::mem::take(&mut replica.before_write);
                assert_eq!(remembered, replica.view(&key(name)), "seed {seed} step {step}");
                replica.before_write = kept;
            }
        }
    }
}

#[test]
fn rows_that_a_fork_leaves_unsure_change_what_is_shown() {
    let mut replica = replica();
    let number = commit(&mut replica, &[change("a", Action::Add(vec![set("n", Kind::Lww, 1)]))]);
    let reborn = Entry::Reborn {
        replica: id(2),
        accepted: vec![],
        unsure: vec![number],
        restamped: SortedMap::new(),
    };
    let applied = replica.apply(reborn).unwrap();
    assert_eq!(applied.keys, [key("a")].into());
    shows(&replica, "a", &[]);
}

/// Its peer held what was brought back so for forged: the user was asked about a row that could have come back.
#[test]
fn record_that_is_completed_has_removed_no_more_than_it_has_seen() {
    let mut writer = Replica::new(id(3), &[]);
    let tags = || field("tags", FieldAction::Insert(vec![Value::text("x")]));
    commit(&mut writer, &[change("a", Action::Add(vec![tags()]))]);
    let mut replica = replica();
    let record = writer.view(&key("a")).unwrap();
    feed(&mut replica, 1, true, vec![entry(key("a"), 1, record)]);
    let gone = field("tags", FieldAction::Delete(vec![Value::text("x")]));
    let delete = commit(&mut replica, &[change("a", Action::Update(vec![gone, tags()]))]);
    let remove = commit(&mut replica, &[change("a", Action::Remove { erase: false })]);
    let restamped = replica.restamp_as(id(2), &[(delete, None), (remove, None)], NOW).unwrap();
    let accepted = [delete, remove].map(|number| (number, Settlement::Accepted(Seq(9))));
    let reborn =
        Entry::Reborn { replica: id(2), accepted: accepted.into(), unsure: vec![], restamped };
    replica.apply(reborn).unwrap();
    replica.apply(heal_begun(2)).unwrap();
    let healed = Entry::Healed { subscription: 0, gone: vec![key("a")], reach: Seq(0) };
    replica.apply(healed).unwrap();
    feed(&mut replica, 3, true, Vec::new());
    let numbers = [delete, remove].into();
    let completed = replica.completed(&key("a"), &numbers).unwrap();
    let has_seen =
        |vector: &VersionVector| vector.iter().all(|stamp| completed.seen.covers(&stamp));
    assert!(!completed.seen.is_empty() && !completed.is_live(), "{completed:?}");
    assert!(has_seen(&completed.removed.seen), "{completed:?}");
    for cell in completed.cells.values() {
        let State::Set(set) = &cell.state else { panic!("{cell:?}") };
        assert!(has_seen(&set.context), "{completed:?}");
    }
}

/// A replica under its second id, a row of the first that was accepted at `seq` and wrote two records, and one of them.
fn reborn_with_a_batch(seq: Seq) -> (Replica, u64, Record) {
    let mut replica = replica();
    let votes = || field("n", FieldAction::Add(1));
    let batch = ["a", "b"].map(|id| change(id, Action::Upsert(vec![votes()])));
    let number = commit(&mut replica, &batch);
    let shown = replica.view(&key("a")).unwrap();
    let restamped = replica.restamp_as(id(2), &[(number, None)], NOW).unwrap();
    let accepted = vec![(number, Settlement::Accepted(seq))];
    let reborn = Entry::Reborn { replica: id(2), accepted, unsure: vec![], restamped };
    replica.apply(reborn).unwrap();
    (replica, number, shown)
}

/// It had been removed, collected and made anew by others: the base lacked the row, and it was brought back.
#[test]
fn c02_part_of_a_batch_that_was_collected_and_made_anew_is_not_brought_back() {
    let mut other = Replica::new(id(3), &[]);
    commit(&mut other, &[change("b", Action::Add(vec![]))]);
    let anew = other.view(&key("b")).unwrap();
    // The peer goes on where it was, or in another run that has all of it, or has lost it.
    let runs = [(None, true), (Some(Seq(1)), true), (Some(Seq(0)), false)];
    for (kept, is_there) in runs {
        let (mut replica, number, shown) = reborn_with_a_batch(Seq(1));
        if let Some(kept) = kept {
            replica.apply(welcomed_again(1, kept)).unwrap();
        }
        let entries = vec![entry(key("a"), 1, shown), entry(key("b"), 2, anew.clone())];
        feed(&mut replica, 2, true, entries);
        assert_eq!(replica.overlay().get(number).is_none(), is_there, "{kept:?}");
        assert_eq!(replica.lost_of_earlier_ids().is_empty(), is_there, "{kept:?}");
    }
}

/// Half of a batch was missing because it had been removed since, and was forgotten: it was brought back to the peer,
/// and what had been removed was there again.
#[test]
fn c02_rest_of_a_batch_that_may_have_been_collected_is_not_brought_back() {
    let (mut replica, number, shown) = reborn_with_a_batch(Seq(0));
    feed(&mut replica, 2, true, vec![entry(key("a"), 1, shown)]);
    let lost = |is_torn| vec![LostRow { number, lacking: vec![key("b")], is_torn }];
    assert_eq!(replica.lost_of_earlier_ids(), lost(true), "nothing was forgotten: it was lost");
    let stamp = replica.overlay().get(number).unwrap().row.stamp;
    let (subscriptions, seq) = (vec![0], Seq(2));
    let stated = Entry::Stated { subscriptions, seq, horizon: stamp.hlc, time: stamp.hlc };
    replica.apply(stated).unwrap();
    assert_eq!(replica.lost_of_earlier_ids(), lost(false), "the user decides");
}

#[test]
fn wider_subscription_takes_the_place_of_those_within_it() {
    let pattern = |text| Pattern::parse(text).unwrap();
    let mut replica = Replica::new(id(1), &[pattern("tasks/1"), pattern("notes")]);
    let entry =
        Entry::Subscribed { patterns: vec![pattern("tasks/*"), pattern("tasks/2")], only: false };
    assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry.clone()));
    assert!(replica.apply(entry.clone()).unwrap().subscribed);
    let held: Vec<Pattern> = replica.standings().iter().map(|(held, _)| held.clone()).collect();
    assert_eq!(held, [pattern("notes"), pattern("tasks/*")]);
    assert!(!replica.apply(entry).unwrap().subscribed, "nothing is new");
    assert!(replica.is_subscribed(&[pattern("tasks/2"), pattern("notes")]));
    assert!(!replica.is_subscribed(&[pattern("*")]));
}

/// Another run of the peer.
fn welcomed(run: u8) -> Entry {
    welcomed_again(run, Seq(0))
}

/// Another run of the peer, which has kept what it had up to a position.
fn welcomed_again(run: u8, kept: Seq) -> Entry {
    Entry::Welcomed(Welcomed {
        incarnation: Incarnation::from_bytes([run; 16]),
        principal: String::from("ann"),
        epoch: Epoch::from_bytes([run; 16]),
        skew_ms: 0,
        good: vec![0],
        afresh: Vec::new(),
        stale: Vec::new(),
        kept,
    })
}

fn heal_begun(seq: u64) -> Entry {
    Entry::HealBegun { subscription: 0, seq: Seq(seq), horizon: Hlc::ZERO, time: Hlc::ZERO }
}

/// A heal brought back what the peer had lost, and what the peer had before that was staged. The feed broke, the next
/// heal found no difference, and the lost state became visible.
#[test]
fn what_a_heal_had_staged_is_not_shown_when_the_next_one_begins() {
    let (mut writer, mut replica) = (replica(), replica());
    let mut titled = |title| {
        let title = field("title", FieldAction::Set(Kind::Lww, Value::text(title)));
        commit(&mut writer, &[change("a", Action::Upsert(vec![title]))]);
        writer.view(&key("a")).unwrap()
    };
    let (old, new) = (titled("old"), titled("new"));
    feed(&mut replica, 5, true, vec![entry(key("a"), 5, new.clone())]);
    replica.apply(welcomed(1)).unwrap();
    replica.apply(heal_begun(1)).unwrap();
    let lost = message::Records { subscription: 0, entries: vec![entry(key("a"), 1, old)] };
    replica.apply(Entry::Staged(wire::encode(&Message::Records(lost)))).unwrap();
    replica.apply(heal_begun(2)).unwrap();
    let healed = Entry::Healed { subscription: 0, gone: Vec::new(), reach: Seq(2) };
    replica.apply(healed).unwrap();
    feed(&mut replica, 2, true, Vec::new());
    assert_eq!(replica.view(&key("a")).unwrap(), new);
}

/// A chunk is stored as a message and applied as what was read of it: whoever reads the log has the same.
#[test]
fn chunk_whose_records_are_at_hand_is_stored_and_applied_as_its_message() {
    let mut writer = replica();
    let title = field("title", FieldAction::Set(Kind::Lww, Value::text("a")));
    commit(&mut writer, &[change("a", Action::Upsert(vec![title]))]);
    let bytes = encode_record(&writer.view(&key("a")).unwrap());
    let record = ChunkRecord { key: key("a"), seq: Seq(3), proof: [7; PROOF_BYTES], bytes };
    let chunk = Chunk::pack(0, (None, Some(key("b"))), (false, 1), vec![record]);
    let records = chunk.open().unwrap().unwrap();
    let (subscription, upto) = (0, chunk.upto.clone());
    let bytes = wire::encode(&Message::Chunk(chunk));
    let opened = Entry::Opened(Opened { bytes, subscription, upto, records });
    let stored = encode_entry(&opened);
    let (mut one, mut other) = (replica(), replica());
    for replica in [&mut one, &mut other] {
        replica.apply(welcomed(1)).unwrap();
        replica.apply(heal_begun(1)).unwrap();
    }
    assert_eq!(one.apply(opened).unwrap(), other.apply_encoded(&stored).unwrap());
    assert_eq!(one.standings(), other.standings());
    assert_eq!(one.base().staged_len(), 1);
    assert_eq!(other.base().staged_len(), 1);
}

/// The list of epochs grew for ever, and a peer that returned to an earlier one was taken for the latest:
/// what it sent was kept under an epoch that it does not have.
#[test]
fn epoch_that_the_peer_returns_to_is_the_present_one_and_the_list_is_bounded() {
    let epoch = |run: u8| Epoch::from_bytes([run; 16]);
    let mut replica = replica();
    for run in (0..200).chain([190]) {
        replica.apply(welcomed(run)).unwrap();
    }
    assert_eq!(replica.epochs()[..3], [190, 199, 198].map(epoch));
    assert_eq!(replica.epochs().len(), EPOCHS_MAX);
    feed(&mut replica, 7, true, vec![entry(key("a"), 7, Record::default())]);
    assert_eq!(replica.standings()[0].1.epoch, Some(epoch(190)));
    let (_, held) = replica.base.iter().next().unwrap();
    assert_eq!(held.epoch, 201, "other than that of what came from 190 before");
    let (_, held) = replica.base.iter().next().unwrap();
    assert_eq!(replica.epoch(held.epoch), Some(epoch(190)), "what it came with, to be proved by");
    let header = page::decode_header(&page::encode_header(&replica.header, 0));
    assert_eq!(header.map(|(header, _)| header.epochs), Ok(replica.header.epochs.clone()));
}
