//! What must hold: at every step, and when the world has come to rest.

use super::{World, collection, wanted::Wanted};
use crate::{
    hlc::Stamp,
    id::{RecordId, RecordKey},
    message::limits::RECORD_BYTES_MAX,
    planted::Bug,
    protocol::engine::{Engine, Link, Receipt, WishError},
    record::{Record, State, Value, VersionVector},
    replica::{Change, Held, Intent, Replica, Row},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

#[derive(Debug, Clone)]
struct Asked {
    device: usize,
    tab: usize,
    token: Option<String>,
    relaxed: bool,
}

/// What apps were told of their writes, kept outside the system.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    next: u64,
    open: BTreeMap<u64, Asked>,
    /// Tokens of writes that were reported durable, by device; relaxed ones apart.
    written: BTreeMap<usize, BTreeSet<String>>,
    count: u64,
    /// What was asked for, by wish.
    asked: BTreeMap<u64, Vec<Change>>,
    /// Devices whose app gives up what it has not sent.
    dropping: BTreeSet<usize>,
    /// Every local commit that a store has carried out.
    rows: Vec<Row>,
    /// Tokens of writes that were refused or given up somewhere.
    excused: BTreeSet<String>,
    /// Those that the server refused because what they update is gone.
    void: BTreeSet<Stamp>,
    /// Records of which it is not told any more what became of a write.
    unsure: BTreeSet<RecordKey>,
}

impl Ledger {
    pub(super) fn token(&mut self, amount: u64) -> String {
        self.next += 1;
        format!("{}:{amount}", self.next)
    }

    fn open(&mut self, asked: Asked) -> u64 {
        self.next += 1;
        self.open.insert(self.next, asked);
        self.next
    }

    pub(super) fn ask(&mut self, device: usize, tab: usize, token: String, relaxed: bool) -> u64 {
        self.open(Asked { device, tab, token: Some(token), relaxed })
    }

    pub(super) fn other(&mut self, device: usize, tab: usize) -> u64 {
        self.open(Asked { device, tab, token: None, relaxed: false })
    }

    pub(super) fn done(&mut self, id: u64, result: &Result<Receipt, WishError>) {
        let Some(asked) = self.open.remove(&id) else {
            return;
        };
        if result.is_ok() {
            self.count += 1;
            let drops = self.dropping.contains(&asked.device);
            if let (Some(token), false) = (asked.token, asked.relaxed || drops) {
                self.written.entry(asked.device).or_default().insert(token);
            }
        }
    }

    /// A write was promised to be durable.
    pub(super) fn promise(&mut self, to: usize, token: &str) {
        self.count += 1;
        self.written.entry(to).or_default().insert(String::from(token));
    }

    pub(super) fn is_dropping(&self, device: usize) -> bool {
        self.dropping.contains(&device)
    }

    /// These were refused or given up: they need not be shown any more.
    pub(super) fn excuse(&mut self, tokens: &BTreeSet<String>) {
        self.excused.extend(tokens.iter().cloned());
    }

    /// A device's store was erased: what was not sent is gone.
    pub(super) fn lose(&mut self, device: usize, lost: &BTreeSet<String>) {
        if let Some(written) = self.written.get_mut(&device) {
            written.retain(|token| !lost.contains(token));
        }
    }

    /// A device's app gives up what it has not sent, or has done so.
    pub(super) fn drops(&mut self, device: usize, drops: bool) {
        if drops {
            self.dropping.insert(device);
        } else {
            self.dropping.remove(&device);
        }
    }

    /// The server has lost history: only these are sure to be left.
    pub(super) fn keep(&mut self, left: &BTreeSet<String>) {
        self.written.values_mut().for_each(|written| written.retain(|token| left.contains(token)));
    }

    /// A tab died: nobody hears what became of what it had asked.
    pub(super) fn forget_unanswered(&mut self, device: usize, tab: usize) {
        self.open.retain(|_, asked| (asked.device, asked.tab) != (device, tab));
    }

    /// A store has carried out a local commit.
    pub(super) fn stored(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Every local commit that a store has carried out.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Remembers what a wish asked for.
    pub(super) fn remember(&mut self, id: u64, changes: Vec<Change>) {
        self.asked.insert(id, changes);
    }

    /// Whether an app has ever removed the record.
    pub(super) fn removes(&self, key: &RecordKey) -> bool {
        let writes = self.rows.iter().flat_map(|row| &row.writes);
        let mut of_it = writes.filter(|write| write.key == *key);
        of_it.any(|write| write.intents.contains(&Intent::Remove))
    }

    /// Whether what would have made the record was refused because of another one, or nobody knows whether it was
    /// made.
    fn may_be_unmade(&self, key: &RecordKey) -> bool {
        let mut void = self.rows.iter().filter(|row| self.void.contains(&row.stamp));
        let makes = |row: &Row| row.writes.iter().any(|write| write.key == *key && !write.updates);
        self.unsure.contains(key) || void.any(makes)
    }

    pub(super) fn written(&self) -> u64 {
        self.count
    }

    pub(super) fn is_answered(&self) -> bool {
        self.open.is_empty()
    }
}

fn key(collection: &str, id: &str) -> RecordKey {
    RecordKey {
        collection: super::collection(collection),
        id: RecordId::parse(id).expect("a valid id"),
    }
}

fn state<'a>(record: &'a Record, name: &str) -> Option<&'a State> {
    record.cells.iter().find(|((field, _), _)| field.as_str() == name).map(|(_, cell)| &cell.state)
}

fn tokens_in(notes: &Record) -> BTreeSet<String> {
    let text = |element: &Value| {
        if let Value::Text(text) = element { Some(text.clone()) } else { None }
    };
    match state(notes, "notes") {
        Some(State::Set(set)) => set.elements.keys().filter_map(text).collect(),
        _ => BTreeSet::new(),
    }
}

/// The counter's total, and the sum that the notes make.
fn ledger_of(engine: &Engine) -> Result<(i64, i64, BTreeSet<String>), String> {
    let read = |id| engine.replica().view(&key("ledger", id)).map_err(|error| error.to_string());
    let (sum, notes) = (read("sum")?, read("notes")?);
    let total = match state(&sum, "sum") {
        Some(State::Counter(counter)) => counter.total(),
        _ => 0,
    };
    let tokens = tokens_in(&notes);
    let amount = |token: &String| token.split_once(':').and_then(|(_, n)| n.parse::<i64>().ok());
    let noted = tokens.iter().filter_map(amount).sum();
    Ok((total, noted, tokens))
}

/// The tokens in what the server has sent.
pub(super) fn noted_in_base(replica: &Replica) -> BTreeSet<String> {
    let notes = replica.base().record(&key("ledger", "notes")).unwrap_or_default();
    tokens_in(&notes)
}

impl World {
    pub(super) fn engines(&self) -> impl Iterator<Item = (usize, usize, &Engine)> {
        self.devices.iter().flat_map(|device| {
            device.tabs.iter().enumerate().filter_map(move |(tab, held)| {
                let engine = held.engine.as_ref().filter(|engine| engine.is_open())?;
                Some((device.at, tab, engine))
            })
        })
    }

    /// After every event: each app sees a counter that equals the notes of what was added to it, no
    /// matter what has been acknowledged and what has come back.
    pub(super) fn check_step(&mut self) -> Result<(), String> {
        if self.plan.bug == Some(Bug::Found) {
            return Err(String::from("a bug that is always found"));
        }
        if self.server.lacks {
            // Whoever holds nothing of a record that was lost sees the others of its batch, until it is back.
            return Ok(());
        }
        for (device, tab) in core::mem::take(&mut self.touched) {
            self.check_batches(device, tab)?;
            self.check_causal(device, tab)?;
            self.check_ledger(device, tab)?;
        }
        Ok(())
    }

    /// What may count twice is not counted less: that takes two writes of one stamp, or one that does not know another of
    /// its replica.
    fn miscounts(&self, total: i64, noted: i64) -> bool {
        let mut copies = self.copies.iter();
        let split = copies.any(|(_, taken)| *taken < self.rewound_at);
        let covers = self.reissued || self.server.forgot || split;
        if self.doubles && !covers { total < noted } else { total != noted && !self.doubles }
    }

    fn check_ledger(&mut self, at: usize, tab: usize) -> Result<(), String> {
        let one = |(device, held, _): &(usize, usize, &Engine)| (*device, *held) == (at, tab);
        let mut shown = BTreeSet::new();
        for (device, tab, engine) in self.engines().filter(one) {
            let (total, noted, tokens) = ledger_of(engine)?;
            shown = tokens;
            if self.miscounts(total, noted) {
                let why = engine.replica().view(&key("ledger", "sum"));
                let notes = engine.replica().view(&key("ledger", "notes"));
                return Err(format!(
                    "device {device} tab {tab}: the counter shows {total}, its notes say {noted}: {why:?} {notes:?} {:?} {}",
                    self.plan,
                    self.summary()
                ));
            }
        }
        // What was shown is shown until it is refused or given up: it never goes for a while.
        let Some(held) = self.tab(at, tab).filter(|held| held.engine.is_some()) else {
            return Ok(());
        };
        let before = core::mem::replace(&mut held.sight.tokens, shown.clone());
        let gone = before.difference(&shown).find(|token| !self.ledger.excused.contains(*token));
        match gone.filter(|_| !self.server_rewound) {
            Some(gone) => Err(format!("device {at} tab {tab} saw the write {gone} go")),
            None => Ok(()),
        }
    }

    /// A write was reported: its app sees what it has done, whatever was there before.
    pub(super) fn check_done(&mut self, device: usize, tab: usize, id: u64, receipt: &Receipt) {
        let Some(changes) = self.ledger.asked.remove(&id) else {
            return;
        };
        let Some(engine) = self.tab(device, tab).and_then(|tab| tab.engine.as_ref()) else {
            return;
        };
        if engine.replica().last() != receipt.number {
            return;
        }
        let (mut wrong, mut checked) = (None, false);
        for change in &changes {
            let alone = changes.iter().filter(|other| other.key == change.key).count() == 1;
            let (true, Ok(view)) = (alone, engine.replica().view(&change.key)) else {
                continue;
            };
            checked = true;
            let wanted = Wanted::after(&change.action);
            if !wanted.is_met(&view) {
                wrong = Some(format!(
                    "device {device} tab {tab}: {change:?} leaves {view:?}, not {wanted:?}"
                ));
            }
        }
        if checked {
            self.mark("write checked");
        }
        if let Some(wrong) = wrong {
            self.object(wrong);
        }
    }

    /// Whether every row that was ever committed reached the server under its first stamp.
    fn is_plain(&self) -> bool {
        let plan = &self.plan;
        let faults = [
            plan.call_one_in,
            plan.step_one_in,
            plan.drift_ppm,
            plan.rollback_one_in,
            plan.evict_one_in,
            plan.account_one_in,
            plan.copy_one_in,
            plan.rot_one_in,
        ];
        let renamed = self.marks.contains_key("reborn");
        !plan.relaxed
            && !plan.has_small_records()
            && !renamed
            && faults.iter().all(|one_in| *one_in == 0)
    }

    /// Which records live, by the definition: some write is not covered by what a remover had seen.
    fn expected_live(&self) -> BTreeMap<RecordKey, bool> {
        let mut known: BTreeMap<&RecordKey, (VersionVector, VersionVector)> = BTreeMap::new();
        for row in self.ledger.rows.iter().filter(|row| !self.ledger.void.contains(&row.stamp)) {
            for write in &row.writes {
                let (seen, removed) = known.entry(&write.key).or_default();
                seen.raise(row.stamp.replica, row.stamp.hlc);
                if write.intents.contains(&Intent::Remove) {
                    removed.join(&write.saw);
                    removed.raise(row.stamp.replica, row.stamp.hlc);
                }
            }
        }
        known
            .into_iter()
            .filter(|(key, _)| key.collection.as_str() == "mixed")
            .filter(|(key, _)| !self.ledger.unsure.contains(*key))
            .map(|(key, (seen, removed))| (key.clone(), seen.exceeds(&removed)))
            .collect()
    }

    /// A row has no effect, or nobody knows: the app decides. What a row updates is gone only if it was removed, or may
    /// never have been made.
    pub(super) fn void(&mut self, device: usize, at: usize, number: u64, gone: bool) {
        let tab = self.tab(device, at).and_then(|tab| tab.engine.as_ref());
        let outbox = tab.and_then(|engine| engine.replica().overlay().get(number));
        let Some(row) = outbox.map(|outbox| outbox.row.clone()) else {
            return;
        };
        if !gone {
            self.ledger.unsure.extend(row.writes.into_iter().map(|write| write.key));
            return;
        }
        let mut updated = row.writes.iter().filter(|write| write.updates).map(|write| &write.key);
        let may_lack = |key| self.removes(key) || self.ledger.may_be_unmade(key);
        if self.is_plain() && !updated.any(may_lack) {
            self.object(format!("device {device} tab {at}: {row:?} updates what is there"));
        }
        self.ledger.void.insert(row.stamp);
    }

    /// A record begins with a write that is not an update of what was there before.
    fn check_begun(&self, all: &BTreeMap<RecordKey, Record>) -> Result<(), String> {
        let begins = |key: &RecordKey, record: &Record| {
            let mut rows = self.ledger.rows.iter();
            rows.any(|row| {
                let mut writes = row.writes.iter();
                record.seen.covers(&row.stamp)
                    && writes.any(|write| write.key == *key && !write.updates)
            })
        };
        let plain = self.is_plain() && self.ledger.unsure.is_empty();
        let odd = all.iter().find(|(key, record)| plain && !begins(key, record));
        odd.map_or(Ok(()), |(key, record)| Err(format!("{key} was never made: {record:?}")))
    }

    fn check_lives(&mut self, all: &BTreeMap<RecordKey, Record>) -> Result<(), String> {
        if !self.is_plain() {
            return Ok(());
        }
        let with_dead = self.keys_of_dead();
        for (key, live) in
            self.expected_live().into_iter().filter(|(key, _)| !with_dead.contains(key))
        {
            self.mark(if live { "record lives" } else { "record is dead" });
            if all.get(&key).is_some_and(Record::is_live) != live {
                return Err(format!("{key} should live: {live}; it is {:?}", all.get(&key)));
            }
        }
        Ok(())
    }

    /// Whether a device goes by the id of another one: once both have been connected, a copy has met the
    /// original's incarnation, or the other way round.
    fn has_twins(&self) -> bool {
        let mut ids = BTreeSet::new();
        let mut devices = self.devices.iter().filter(|device| !self.dead.contains(&device.at));
        devices.any(|device| {
            let id = device.tabs.iter().find_map(|tab| Some(tab.engine.as_ref()?.replica().id()));
            !ids.insert(id)
        })
    }

    pub(super) fn is_quiet(&self) -> bool {
        let Some(host) = &self.server.host else {
            return false;
        };
        let facts = host.facts();
        let open: Vec<_> = self.engines().collect();
        facts.ready
            && self.is_scrubbed()
            && facts.waiting == 0
            && !self.has_twins()
            && self.ledger.is_answered()
            && self.callers.is_answered()
            && open.len() == (self.plan.devices - self.dead.len()) * self.plan.tabs
            && open.iter().all(|(_, _, engine)| {
                engine.is_settled() && engine.replica().waiting().next().is_none()
            })
            && self.devices.iter().filter(|device| !self.dead.contains(&device.at)).all(|device| {
                let mut tabs = device.tabs.iter();
                let last = |tab: &super::device::Tab| {
                    tab.engine.as_ref().map(|engine| engine.replica().last())
                };
                let mut logs = device.tabs.iter().map(last);
                let first = logs.next().flatten();
                let same = logs.all(|last| last == first);
                same && tabs.any(|tab| {
                    tab.engine.as_ref().is_some_and(|engine| {
                        let status = engine.status();
                        let reached = engine
                            .replica()
                            .standings()
                            .iter()
                            .all(|(_, standing)| standing.cursor == facts.head);
                        let live = status.link == Link::Live;
                        status.leading && live && status.is_verified && reached
                    })
                })
            })
    }

    /// At rest: everyone sees the same, nothing reported durable is missing, nothing is doubled.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        self.check_sights()?;
        self.check_store()?;
        self.server.lacks = false;
        self.check_step()?;
        let mut first: Option<BTreeMap<RecordKey, Record>> = None;
        let mut seen_tokens = BTreeSet::new();
        for (device, tab, engine) in self.engines() {
            let locked = collection("locked");
            if let Some((key, _)) = engine.replica().base().collection(&locked).next() {
                return Err(format!("{key} was written without a right to it"));
            }
            // (What came back may be too large with what had come meanwhile.)
            let lost = self.server_rewound || self.plan.rot_one_in > 0;
            let most = if lost { RECORD_BYTES_MAX } else { self.plan.record_bytes_max as usize };
            let heavy = |held: &Held| held.bytes.len() > most;
            if let Some((key, _)) = engine.replica().base().iter().find(|(_, held)| heavy(held)) {
                return Err(format!("{key} is larger than the server may take"));
            }
            let all = self.kept(engine)?;
            let (total, noted, tokens) = ledger_of(engine)?;
            if self.miscounts(total, noted) {
                return Err(format!("at rest the counter shows {total}, its notes say {noted}"));
            }
            seen_tokens = tokens;
            match &first {
                None => first = Some(all),
                Some(first) if *first == all => {}
                Some(first) => {
                    let other = |key: &&RecordKey| first.get(key) != all.get(key);
                    let keys = first.keys().chain(all.keys());
                    let found = keys.filter(other).map(|key| (key, first.get(key), all.get(key)));
                    let found: Vec<_> = found.take(2).collect();
                    let summary = self.summary();
                    return Err(format!(
                        "device {device} tab {tab} sees something else: {found:?} {summary}"
                    ));
                }
            }
        }
        let with_dead = self.tokens_of_dead();
        self.check_refused(&seen_tokens)?;
        for (device, written) in &self.ledger.written {
            let mut lost = written.difference(&seen_tokens);
            if let Some(lost) = lost.find(|lost| !self.is_split(lost) && !with_dead.contains(*lost))
            {
                return Err(format!("device {device} lost the write {lost}"));
            }
        }
        if let Some(all) = &first {
            self.check_lives(all)?;
            self.check_begun(all)?;
            self.check_held(all)?;
            self.check_reference(all)?;
        }
        let folds = self.engines().any(|(_, _, engine)| engine.replica().folded() > 0);
        if folds {
            self.mark("folded");
        }
        self.mark("came to rest");
        Ok(())
    }

    /// All that a device sees. Of what is forgotten some have heard, and some have not yet.
    fn kept(&self, engine: &Engine) -> Result<BTreeMap<RecordKey, Record>, String> {
        let replica = engine.replica();
        let horizon = self.server.host.as_ref().map(|host| host.facts().horizon);
        let forgotten = |key: &RecordKey| {
            let record = replica.base().record(key).ok();
            record
                .and_then(|held| held.burial())
                .is_some_and(|at| at <= horizon.unwrap_or_default())
        };
        let mut kept = BTreeMap::new();
        for (key, _) in replica.base().iter().filter(|(key, _)| !forgotten(key)) {
            let view = replica.view(key).map_err(|error| error.to_string())?;
            kept.insert(key.clone(), view);
        }
        Ok(kept)
    }

    /// What changes while there is progress.
    pub(super) fn fingerprint(&self) -> Vec<u64> {
        let head = self.server.host.as_ref().map_or(0, |host| host.facts().head.0);
        let logs = self.engines().map(|(_, _, engine)| engine.replica().last());
        core::iter::once(head).chain(logs).collect()
    }

    pub(super) fn summary(&self) -> String {
        let engines: Vec<String> = self
            .engines()
            .map(|(device, tab, engine)| {
                let standings: Vec<String> = engine
                    .replica()
                    .standings()
                    .iter()
                    .map(|(_, s)| format!("{}/{:?}", s.cursor, s.heal.is_some()))
                    .collect();
                let settled = engine.is_settled();
                let rows: Vec<String> = engine
                    .replica()
                    .overlay()
                    .rows()
                    .map(|(number, row)| format!("{number}:{:?} {:?}", row.row.stamp, row.state))
                    .collect();
                let (id, last) = (engine.replica().id(), engine.replica().last());
                let pushing = engine.pushing_facts();
                format!(
                    "{device}.{tab} {id} last={last} settled={settled} {:?} {standings:?} {pushing} {rows:?}",
                    engine.status()
                )
            })
            .collect();
        let host = self.server.host.as_ref().map(|host| host.facts().head);
        let unanswered = self.ledger.open.len();
        format!(
            "seed {} at {} head {host:?} open asks {unanswered}: {engines:#?}",
            self.seed, self.now
        )
    }
}
