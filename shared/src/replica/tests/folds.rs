//! Folds: pages, what a fold that was cut off leaves, and loading.

use super::*;
use crate::sorted::SortedMap;

/// A store, as far as a fold needs one.
#[derive(Default)]
struct Disk(SortedMap<(Keyspace, Vec<u8>), Vec<u8>>);

impl Disk {
    fn apply(&mut self, batch: Batch) {
        for write in batch.writes {
            match write {
                Write::Put { keyspace, row } => {
                    self.0.insert((keyspace, row.key), row.value);
                }
                Write::Delete { keyspace, key } => {
                    self.0.remove(&(keyspace, key));
                }
            }
        }
    }

    fn fold(&mut self, replica: &mut Replica) {
        let mut fold = replica.fold();
        self.apply(core::mem::take(&mut fold.batch));
        replica.folded_to(fold);
    }

    fn rows(&self, keyspace: Keyspace) -> Vec<Pair> {
        let of = self.0.iter().filter(|((space, _), _)| *space == keyspace);
        of.map(|((_, key), value)| Pair { key: key.clone(), value: value.clone() }).collect()
    }

    fn log(&mut self, replica: &mut Replica, entry: Entry) -> Applied {
        let bytes = encode_entry(&entry);
        let applied = replica.apply(entry).unwrap();
        let mut batch = Batch::default();
        batch.put(Keyspace::Log, log_key(replica.last()), bytes);
        self.apply(batch);
        applied
    }

    fn load(&self) -> Replica {
        let meta = |key: &[u8]| self.0.get(&(Keyspace::Meta, key.to_vec())).cloned();
        let stored = Stored {
            header: meta(META_HEADER),
            folded: meta(META_FOLDED),
            finished: meta(META_FINISHED),
            pages: self.rows(Keyspace::Page),
            log: self.rows(Keyspace::Log),
        };
        Replica::load(&stored, id(9), &[Pattern::Exact(name())]).unwrap()
    }
}

fn same(one: &Replica, other: &Replica) {
    let differing = |one: &Replica, other: &Replica| -> Vec<(RecordKey, Held)> {
        let differs = |(key, held): &(&RecordKey, &Held)| other.base().get(key) != Some(*held);
        let differing = one.base().iter().filter(differs);
        differing.map(|(key, held)| (key.clone(), held.clone())).collect()
    };
    assert_eq!(differing(one, other), differing(other, one));
    assert_eq!(one.overlay(), other.overlay());
    assert_eq!(one.standings(), other.standings());
    assert_eq!((one.id(), one.last(), one.clock()), (other.id(), other.last(), other.clock()));
}

#[test]
fn what_was_folded_and_logged_is_loaded_as_it_was() {
    for seed in 0..200 {
        let rng = &mut Rng::new(seed);
        let (mut replica, mut disk) = (replica(), Disk::default());
        disk.apply(Replica::found(id(1), &[Pattern::Exact(name())], None));
        let mut seq = 0;
        for _ in 0..30 {
            let name = format!("r{}", rng.below(5));
            let waiting: Vec<u64> = replica.waiting().collect();
            let entry = match (rng.below(6), waiting.first()) {
                (0, Some(number)) => {
                    Entry::Settled(vec![(*number, Settlement::Accepted(Seq(seq)))])
                }
                (1, Some(number)) => {
                    let code = RejectCode::Invalid;
                    let reason = String::from("no");
                    Entry::Settled(vec![(*number, Settlement::Rejected { code, reason })])
                }
                (2, Some(_)) => {
                    let rows = replica.restamp_from(0, WallMillis(NOW.0 + seq)).unwrap();
                    Entry::Restamped { rows, skew_ms: 7 }
                }
                (3, _) => {
                    seq += 1;
                    let record = replica.view(&key(&name)).unwrap();
                    let changes = Changes {
                        subscriptions: vec![0],
                        after: replica.standings()[0].1.place.clone(),
                        upto: Place::at(Seq(seq)),
                        cut: rng.once_in(2),
                        entries: vec![entry(key(&name), seq, record)],
                        state: None,
                    };
                    Entry::Feed(wire::encode(&Message::Changes(changes)))
                }
                _ => {
                    let add = change(&name, Action::Upsert(vec![field("n", FieldAction::Add(1))]));
                    Entry::Commit(replica.plan(&[add], NOW).unwrap())
                }
            };
            let bytes = encode_entry(&entry);
            assert_eq!(decode_entry(&bytes).as_ref(), Ok(&entry));
            replica.apply(entry).unwrap();
            let mut batch = Batch::default();
            batch.put(Keyspace::Log, log_key(replica.last()), bytes);
            disk.apply(batch);
            // What is staged is not in pages: a fold waits for the cut.
            if rng.once_in(5) && replica.can_fold() {
                disk.fold(&mut replica);
            }
            same(&disk.load(), &replica);
        }
    }
}

#[test]
fn pages_split_when_they_grow_and_go_when_they_are_empty() {
    let (mut replica, mut disk) = (replica(), Disk::default());
    let text = Value::text(&"x".repeat(1_000));
    let write = field("text", FieldAction::Set(Kind::Lww, text));
    let entries: Vec<message::Entry> = (0..300)
        .map(|number| {
            let mut writer = Replica::new(id(3), &[]);
            let name = format!("r{number:03}");
            commit(&mut writer, &[change(&name, Action::Add(vec![write.clone()]))]);
            entry(key(&name), 1, writer.view(&key(&name)).unwrap())
        })
        .collect();
    let (odd, even): (Vec<_>, Vec<_>) =
        entries.into_iter().enumerate().partition(|(at, _)| at % 2 == 1);
    feed(&mut replica, 1, true, even.into_iter().map(|(_, entry)| entry).collect());
    disk.fold(&mut replica);
    let few = disk.rows(Keyspace::Page).len();
    feed(&mut replica, 2, true, odd.into_iter().map(|(_, entry)| entry).collect());
    disk.fold(&mut replica);
    let many = disk.rows(Keyspace::Page).len();
    assert!(1 < few && few < many, "{few} pages, then {many}");
    assert!(disk.rows(Keyspace::Page).iter().all(|page| page.value.len() < 100_000));
    same(&disk.load(), &replica);
    let gone = replica.base().iter().map(|(key, _)| key.clone()).collect();
    replica.apply(heal_begun(3)).unwrap();
    replica.apply(Entry::Healed { subscription: 0, gone, reach: Seq(0) }).unwrap();
    feed(&mut replica, 3, true, Vec::new());
    disk.fold(&mut replica);
    assert!(replica.base().is_empty());
    assert!(disk.rows(Keyspace::Page).is_empty());
    same(&disk.load(), &replica);
}

/// A record that no subscription covers: the base never tells of it.
fn elsewhere() -> RecordKey {
    RecordKey { collection: CollectionName::parse("elsewhere").unwrap(), ..key("r0") }
}

/// A peer whose records change in every way that reaches a base.
struct Source {
    seq: u64,
    records: SortedMap<RecordKey, Record>,
}

impl Source {
    fn changes(&self, replica: &Replica, cut: bool, entries: Vec<message::Entry>) -> Entry {
        let after = replica.standings()[0].1.place.clone();
        let upto = Place::at(Seq(self.seq));
        let changes = Changes { subscriptions: vec![0], after, upto, cut, entries, state: None };
        Entry::Feed(wire::encode(&Message::Changes(changes)))
    }

    /// Sets one of two fields, and says which parts of the record are new.
    fn write(&mut self, rng: &mut Rng, key: &RecordKey) -> message::Entry {
        self.seq += 1;
        let mut writer = Replica::new(id(3), &[]);
        let field = field(["a", "b"][rng.index(2)], FieldAction::Set(Kind::Lww, Value::int(7)));
        let upsert = Change { key: key.clone(), action: Action::Upsert(vec![field]) };
        let wall = WallMillis(NOW.0 + self.seq);
        writer.write(&[upsert], wall).unwrap();
        writer.confirm();
        let part = writer.view(key).unwrap();
        let known = self.records.entry(key.clone()).or_default();
        let is_new = known.cells.is_empty();
        known.join(&part);
        let whole = entry(key.clone(), self.seq, known.clone());
        if is_new || rng.once_in(3) {
            whole
        } else {
            message::Entry { body: Body::Delta(part), ..whole }
        }
    }

    /// What is there of the replica's own rows on a record comes back.
    fn echo(&mut self, replica: &Replica, key: &RecordKey) -> Option<message::Entry> {
        let rows = replica.waiting().filter_map(|number| replica.overlay().get(number));
        let latest = rows
            .filter(|outbox| outbox.row.writes.iter().any(|write| write.key == *key))
            .map(|outbox| outbox.row.stamp.hlc)
            .max()?;
        self.seq += 1;
        let record = replica.view(key).unwrap();
        self.records.insert(key.clone(), record.clone());
        Some(message::Entry { body: Body::Own(latest), ..entry(key.clone(), self.seq, record) })
    }

    /// What reaches the log next.
    fn step(&mut self, rng: &mut Rng, step: u8, replica: &mut Replica) -> Vec<Entry> {
        let mut entries = Vec::new();
        let some = key(&format!("r{}", rng.below(30)));
        match rng.below(11) {
            0 => {
                entries.push(welcomed(step));
            }
            1 => {
                let gone: Vec<_> =
                    self.records.keys().filter(|_| rng.once_in(3)).cloned().collect();
                self.records.retain(|key, _| !gone.contains(key));
                self.seq += 1;
                entries.push(heal_begun(self.seq));
                let came = self.write(rng, &some);
                let came =
                    entry(some.clone(), self.seq, self.records.get(&came.key).unwrap().clone());
                let records = message::Records { subscription: 0, entries: vec![came] };
                let records = wire::encode(&Message::Records(records));
                entries.push(Entry::Staged(records));
                let gone = gone.into_iter().filter(|key| *key != some).collect();
                entries.push(Entry::Healed { subscription: 0, gone, reach: Seq(0) });
            }
            2 | 3 => {
                let add = field("n", FieldAction::Add(1));
                let add = |key| Change { key, action: Action::Upsert(vec![add.clone()]) };
                let mut changes = vec![add(some)];
                if rng.once_in(2) {
                    changes.push(add(elsewhere()));
                }
                entries.push(Entry::Commit(replica.plan(&changes, NOW).unwrap()));
            }
            9 => {
                let rows = replica.waiting().take(rng.index(4));
                let rows = rows.map(|number| (number, Settlement::Accepted(Seq(self.seq))));
                entries.push(Entry::Settled(rows.collect()));
            }
            10 if rng.once_in(4) => {
                let restamped = replica.restamp_as(id(10 + step), &[], NOW).unwrap();
                let (accepted, unsure) = (Vec::new(), Vec::new());
                entries.push(Entry::Reborn { replica: id(10 + step), accepted, unsure, restamped });
            }
            4 => {
                // A record that is staged is not what the app sees.
                let is_whole = replica.base().staged_len() == 0;
                let echoed = self.echo(replica, &some).filter(|_| is_whole);
                entries.push(self.changes(replica, true, echoed.into_iter().collect()));
            }
            _ => {
                let mut written = SortedMap::new();
                for _ in 0..1 + rng.below(12) {
                    let key = key(&format!("r{}", rng.below(30)));
                    if !written.contains_key(&key) {
                        written.insert(key.clone(), self.write(rng, &key));
                    }
                }
                let written = written.into_values().collect();
                entries.push(self.changes(replica, rng.once_in(2), written));
            }
        }
        entries
    }
}

/// Read again on top of a page that is ahead, an entry of the log would not fit, would drop a record that
/// has come back, or would leave a row waiting whose effect has come and gone.
#[test]
fn fold_that_is_cut_off_behind_any_of_its_batches_is_loaded_as_it_was() {
    let (mut slices, mut reloads, mut misfits) = (0, 0, 0);
    for seed in 0..60 {
        let rng = &mut Rng::new(seed);
        let (mut replica, mut disk) = (replica(), Disk::default());
        let bytes_max = 1 + rng.index(2_000);
        replica.fold_bytes_max = bytes_max;
        disk.apply(Replica::found(id(1), &[Pattern::Exact(name())], None));
        let mut source = Source { seq: 0, records: SortedMap::new() };
        for step in 0..60 {
            let entries = source.step(rng, step, &mut replica);
            for entry in entries {
                misfits += disk.log(&mut replica, entry).broken.len();
            }
            for _ in 0..rng.below(3) {
                if replica.can_fold() {
                    let (before, had_misfit) = (disk.0.clone(), replica.folds_whole);
                    disk.fold(&mut replica);
                    let changed =
                        disk.0.iter().filter(|(at, value)| before.get(*at) != Some(*value));
                    let bytes: usize = changed
                        .filter(|((keyspace, _), _)| *keyspace == Keyspace::Page)
                        .map(|(_, value)| value.len())
                        .sum();
                    assert!(had_misfit || bytes < 2 * bytes_max + 6_000, "{bytes} of {bytes_max}");
                    slices += u32::from(replica.slices > 0);
                }
                same(&disk.load(), &replica);
            }
            same(&disk.load(), &replica);
            if rng.once_in(10) {
                reloads += u32::from(replica.slices > 0);
                replica = disk.load();
                replica.fold_bytes_max = bytes_max;
            }
        }
        for left in (0..1_000).rev() {
            if !replica.can_fold() {
                break;
            }
            assert!(left > 0, "a fold that never ends");
            disk.fold(&mut replica);
            same(&disk.load(), &replica);
        }
        let hollow = |page: &Pair| replica.hollow.contains(&page.key);
        assert!(!disk.rows(Keyspace::Page).iter().any(hollow) || replica.slices > 0);
    }
    assert!(slices > 300 && reloads > 30 && misfits > 0, "{slices} {reloads} {misfits}");
}

/// Its acknowledgement was taken back by another run of the peer before the base had it. Read again on top of
/// a page that has it, it would be over at its acknowledgement, and never be sent again.
#[test]
fn row_that_waits_again_outlasts_a_fold_that_was_cut_off() {
    let (mut replica, mut disk) = (replica(), Disk::default());
    replica.fold_bytes_max = 1;
    disk.apply(Replica::found(id(1), &[Pattern::Exact(name())], None));
    let mut source = Source { seq: 0, records: SortedMap::new() };
    let add = |key| Change { key, action: Action::Upsert(vec![field("n", FieldAction::Add(1))]) };
    let row = replica.plan(&[add(key("r0")), add(elsewhere())], NOW).unwrap();
    disk.log(&mut replica, Entry::Commit(row));
    disk.log(&mut replica, Entry::Settled(vec![(1, Settlement::Accepted(Seq(1)))]));
    disk.log(&mut replica, welcomed(1));
    let echo = source.echo(&replica, &key("r0")).unwrap();
    let other = source.write(&mut Rng::new(1), &key("r1"));
    let changes = source.changes(&replica, true, vec![echo, other]);
    disk.log(&mut replica, changes);
    disk.fold(&mut replica);
    assert_eq!((replica.slices, replica.waiting().collect::<Vec<_>>()), (1, vec![1]));
    same(&disk.load(), &replica);
}

/// One record had the row, lost it with the peer's history, and got it again. Read again on top of a page that
/// has the other one, the row would be over when the first had it, and what came later would not fit.
#[test]
fn row_that_came_twice_outlasts_a_fold_that_was_cut_off() {
    let (mut replica, mut disk) = (replica(), Disk::default());
    replica.fold_bytes_max = 1;
    disk.apply(Replica::found(id(1), &[Pattern::Exact(name())], None));
    let mut source = Source { seq: 0, records: SortedMap::new() };
    let (first, second) = (key("r0"), key("r1"));
    let before = source.write(&mut Rng::new(1), &second);
    let changes = source.changes(&replica, true, vec![before]);
    disk.log(&mut replica, changes);
    let before = source.records.get(&second).unwrap().clone();
    let add = |key: &RecordKey| Change {
        key: key.clone(),
        action: Action::Upsert(vec![field("n", FieldAction::Add(1))]),
    };
    let row = replica.plan(&[add(&first), add(&second)], NOW).unwrap();
    disk.log(&mut replica, Entry::Commit(row));
    let echo = source.echo(&replica, &second).unwrap();
    let changes = source.changes(&replica, true, vec![echo]);
    disk.log(&mut replica, changes);
    disk.log(&mut replica, welcomed(1));
    disk.log(&mut replica, heal_begun(source.seq));
    let lost =
        message::Records { subscription: 0, entries: vec![entry(second.clone(), 1, before)] };
    disk.log(&mut replica, Entry::Staged(wire::encode(&Message::Records(lost))));
    disk.log(&mut replica, Entry::Healed { subscription: 0, gone: Vec::new(), reach: Seq(0) });
    let changes = source.changes(&replica, true, Vec::new());
    disk.log(&mut replica, changes);
    let echoes = [&first, &second].map(|key| source.echo(&replica, key).unwrap());
    let changes = source.changes(&replica, true, echoes.into());
    assert!(disk.log(&mut replica, changes).broken.is_empty());
    assert_eq!(replica.waiting().next(), None);
    disk.fold(&mut replica);
    assert_eq!(replica.slices, 1);
    same(&disk.load(), &replica);
}

/// Changes that come while a fold is under way make earlier pages dirty again, more than one batch of them.
#[test]
fn fold_ends_while_changes_come() {
    let (mut replica, mut disk) = (replica(), Disk::default());
    replica.fold_bytes_max = 256;
    disk.apply(Replica::found(id(1), &[Pattern::Exact(name())], None));
    let rng = &mut Rng::new(1);
    let mut source = Source { seq: 0, records: SortedMap::new() };
    let mut change = |replica: &mut Replica, disk: &mut Disk, step: usize| {
        let keys = (0..400).step_by(step).map(|at| key(&format!("r{at:03}")));
        let entries = keys.map(|key| source.write(rng, &key)).collect();
        let changes = source.changes(replica, true, entries);
        disk.log(replica, changes);
    };
    change(&mut replica, &mut disk, 1);
    for batches in 0.. {
        assert!(batches < 200, "{} entries wait", replica.last() - replica.folded());
        disk.fold(&mut replica);
        if replica.folded() > 0 {
            break;
        }
        change(&mut replica, &mut disk, 20);
    }
    same(&disk.load(), &replica);
}
