//! What records must show: the rows that the server has accepted, folded one after the other with plain maps.
//!
//! The reference begins at the rows that devices have planned, and at what the server's store has committed, in its
//! order. It joins nothing and knows no deltas, views, pages or trees: what it shares with what it checks are the types
//! of rows, and how rows are read from a message and from the store. What planning makes of an app's change is
//! checked apart (`super::wanted`).
//!
//! Absent: worlds whose server lost what it had accepted, and records that were removed and forgotten: other oracles
//! say what comes back. Each kind of field that was compared has its mark.

use super::{World, callers::Called};
use crate::{
    hlc::{Hlc, Stamp},
    id::{FieldName, RecordKey, ReplicaId, Seq},
    io::{Batch, Keyspace, Write},
    message::{Message, Push},
    protocol::{
        host::{Expected, accepted_row},
        wire,
    },
    record::{Kind, Record, Value, VersionVector, Visible, visible_kinds},
    replica::{Action, Change, FieldAction, FieldChange, Intent, Row, RowWrite},
    sorted::SortedSet,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// One row and no other: two copies of a replica may give one stamp to two of them.
type Name = (Stamp, [u8; 16]);

/// What was sent, and what of it was accepted, kept outside the system.
#[derive(Debug, Default)]
pub(super) struct Reference {
    sent: BTreeMap<Name, Row>,
    /// In the order in which the server takes them in.
    accepted: BTreeMap<Seq, Name>,
    /// What was accepted of those who have no replica.
    called: BTreeMap<Seq, (Stamp, Called)>,
    /// Records that were dead when the server forgot some.
    forgotten: BTreeSet<RecordKey>,
}

/// Up to when somebody had seen the writes of whom.
type Seen = BTreeMap<ReplicaId, Hlc>;

fn seen(vector: &VersionVector) -> Seen {
    vector.iter().map(|stamp| (stamp.replica, stamp.hlc)).collect()
}

fn is_in(seen: &Seen, stamp: &Stamp) -> bool {
    seen.get(&stamp.replica).is_some_and(|upto| *upto >= stamp.hlc)
}

/// Which part of a record: a field as one kind of it.
pub(super) type Part = (FieldName, Kind);

/// The part that an intent is about, if it is not about the whole record.
fn part(intent: &Intent) -> Option<Part> {
    match intent {
        Intent::Clear { field, kind } | Intent::Set { field, kind, .. } => {
            Some((field.clone(), *kind))
        }
        Intent::Add { field, .. } => Some((field.clone(), Kind::Counter)),
        Intent::Insert { field, .. } | Intent::Delete { field, .. } => {
            Some((field.clone(), Kind::Set))
        }
        Intent::Resolve { field, .. } => Some((field.clone(), Kind::Review)),
        Intent::Remove => None,
    }
}

/// What happened to a part since it was last reset.
#[derive(Debug, Default)]
struct Field {
    reset: Option<Stamp>,
    /// In the order in which they happened.
    events: Vec<(Stamp, Intent)>,
}

/// What happened to a record.
#[derive(Debug, Default)]
struct Told {
    writes: Vec<Stamp>,
    /// What each remover had seen, with its own write.
    removals: Vec<Seen>,
    parts: BTreeMap<Part, Field>,
    /// Where it was written last.
    latest: Seq,
}

impl Told {
    fn write(&mut self, stamp: Stamp, write: &RowWrite) {
        self.writes.push(stamp);
        for intent in &write.intents {
            let Some(part) = part(intent) else {
                let mut covered = seen(&write.saw);
                covered.insert(stamp.replica, stamp.hlc);
                self.removals.push(covered);
                continue;
            };
            let resets = |intent: &Intent| matches!(intent, Intent::Clear { field, kind } if *field == part.0 && *kind == part.1);
            let clears = part.1 != Kind::Lww && resets(intent);
            let is_lost = part.1 != Kind::Lww && write.intents.iter().any(resets);
            let field = self.parts.entry(part).or_default();
            if is_lost && field.reset > Some(stamp) {
                // Somebody who reset the field later was taken in before.
            } else if clears {
                *field = Field { reset: Some(stamp), events: Vec::new() };
            } else {
                field.events.push((stamp, intent.clone()));
            }
        }
    }

    /// What somebody does who has seen all of this: nothing, where there is nothing to remove.
    fn seen_by(&self, change: &Change) -> Option<RowWrite> {
        let mut saw = VersionVector::new();
        for stamp in &self.writes {
            saw.raise(stamp.replica, stamp.hlc);
        }
        let clear = |(field, kind): &Part| Intent::Clear { field: field.clone(), kind: *kind };
        let all = || self.parts.keys().map(clear);
        let (mut intents, fields) = match &change.action {
            Action::Remove { .. } if !self.is_live() => return None,
            Action::Remove { .. } => (Vec::from([Intent::Remove]), &Vec::new()),
            Action::Add(fields) => (all().collect(), fields),
            Action::Put(fields) => {
                let named =
                    fields.iter().map(|change| (change.field.clone(), change.action.kind()));
                let new = named.filter(|(_, kind)| *kind != Kind::Lww);
                let new: Vec<Part> = new.filter(|part| !self.parts.contains_key(part)).collect();
                (all().chain(new.iter().map(clear)).collect(), fields)
            }
            Action::Update(fields) | Action::Upsert(fields) => (Vec::new(), fields),
        };
        for field in fields {
            let done = self.done(field, &intents, &saw);
            intents.extend(done);
        }
        let updates = matches!(change.action, Action::Update(_));
        Some(RowWrite { key: change.key.clone(), saw, updates, intents })
    }

    fn done(&self, change: &FieldChange, before: &[Intent], saw: &VersionVector) -> Vec<Intent> {
        let field = || change.field.clone();
        let part = (field(), change.action.kind());
        let cleared = before.iter().any(
            |intent| matches!(intent, Intent::Clear { field, kind } if *field == part.0 && *kind == part.1),
        );
        let held = self.parts.get(&part).filter(|_| !cleared);
        let there = match held.and_then(Field::elements) {
            Some(Visible::Set(elements)) => elements,
            _ => Vec::new(),
        };
        let insert = |element: &Value| Intent::Insert { field: field(), element: element.clone() };
        let delete = |element: &Value| {
            let covers = saw.clone();
            Intent::Delete { field: field(), element: element.clone(), covers }
        };
        match &change.action {
            FieldAction::Set(kind, value) => {
                Vec::from([Intent::Set { field: field(), kind: *kind, value: value.clone() }])
            }
            FieldAction::Clear(kind) => Vec::from([Intent::Clear { field: field(), kind: *kind }]),
            FieldAction::Add(amount) => {
                Vec::from([Intent::Add { field: field(), amount: *amount }])
            }
            FieldAction::Insert(elements) => elements.iter().map(insert).collect(),
            FieldAction::Delete(elements) => {
                elements.iter().filter(|element| there.contains(element)).map(delete).collect()
            }
            FieldAction::Replace(elements) => {
                let gone = there.iter().filter(|element| !elements.contains(element));
                let new = elements.iter().filter(|element| !there.contains(element));
                gone.map(delete).chain(new.map(insert)).collect()
            }
            FieldAction::Resolve(value) => {
                let covers = match held.and_then(Field::siblings) {
                    Some(Visible::Review(siblings)) => {
                        siblings.iter().map(|(stamp, _)| *stamp).collect()
                    }
                    _ => SortedSet::new(),
                };
                Vec::from([Intent::Resolve { field: field(), value: value.clone(), covers }])
            }
        }
    }

    fn is_live(&self) -> bool {
        let removed = |write: &Stamp| self.removals.iter().any(|removal| is_in(removal, write));
        !self.writes.iter().all(removed)
    }

    /// Of a field that is of several kinds, what was written or reset last; a kind that keeps no times of its writes
    /// counts by its reset.
    fn shows(&self) -> BTreeMap<FieldName, (Kind, Visible)> {
        let mut shown: BTreeMap<FieldName, ((Option<Stamp>, Kind), Visible)> = BTreeMap::new();
        for ((name, kind), field) in &self.parts {
            let Some(visible) = field.shows(*kind) else {
                continue;
            };
            let rank = (field.latest_stamp(*kind), *kind);
            if shown.get(name).is_none_or(|(known, _)| *known < rank) {
                shown.insert(name.clone(), (rank, visible));
            }
        }
        let shown = shown.into_iter();
        shown.map(|(name, ((_, kind), visible))| (name, (kind, visible))).collect()
    }
}

impl Field {
    /// When it was written or reset last, as far as its kind keeps that.
    fn latest_stamp(&self, kind: Kind) -> Option<Stamp> {
        let stamps = self.events.iter().map(|(stamp, _)| *stamp);
        let written = match kind {
            Kind::Lww | Kind::Set | Kind::Review => stamps.max(),
            Kind::Fww => stamps.min(),
            Kind::Max | Kind::Min | Kind::Counter | Kind::Later(_) => None,
        };
        written.max(self.reset)
    }

    fn shows(&self, kind: Kind) -> Option<Visible> {
        match kind {
            Kind::Lww => self.latest(),
            Kind::Fww => self.earliest(),
            Kind::Max => self.offers().map(|(_, value)| value).reduce(greater).map(Visible::Value),
            Kind::Min => self.offers().map(|(_, value)| value).reduce(lesser).map(Visible::Value),
            Kind::Counter => self.total(),
            Kind::Set => self.elements(),
            Kind::Review => self.siblings(),
            Kind::Later(_) => None,
        }
    }

    fn offers(&self) -> impl Iterator<Item = (Stamp, Value)> {
        self.events.iter().filter_map(|(stamp, intent)| {
            if let Intent::Set { value, .. } = intent {
                Some((*stamp, value.clone()))
            } else {
                None
            }
        })
    }

    /// The last thing that the latest row did.
    fn latest(&self) -> Option<Visible> {
        let mut winner: Option<&(Stamp, Intent)> = None;
        for event in &self.events {
            if winner.is_none_or(|winner| winner.0 <= event.0) {
                winner = Some(event);
            }
        }
        match winner {
            Some((_, Intent::Set { value, .. })) => Some(Visible::Value(value.clone())),
            _ => None,
        }
    }

    /// The first thing that the earliest row did.
    fn earliest(&self) -> Option<Visible> {
        let mut winner: Option<(Stamp, Value)> = None;
        for offer in self.offers() {
            if winner.as_ref().is_none_or(|winner| offer.0 < winner.0) {
                winner = Some(offer);
            }
        }
        winner.map(|(_, value)| Visible::Value(value))
    }

    fn total(&self) -> Option<Visible> {
        let amounts = self.events.iter().filter_map(|(_, intent)| {
            if let Intent::Add { amount, .. } = intent { Some(*amount) } else { None }
        });
        let amounts: Vec<i64> = amounts.collect();
        (!amounts.is_empty()).then(|| Visible::Counter(amounts.into_iter().sum()))
    }

    /// What was inserted, and not deleted by somebody who had seen that.
    fn elements(&self) -> Option<Visible> {
        let mut left = BTreeSet::new();
        for (at, (stamp, intent)) in self.events.iter().enumerate() {
            let Intent::Insert { element, .. } = intent else {
                continue;
            };
            let deletes = |(later, (by, other)): (usize, &(Stamp, Intent))| {
                let Intent::Delete { element: of, covers, .. } = other else { return false };
                // One who inserts anew what he deletes in the same row has it in the end.
                of == element && is_in(&seen(covers), stamp) && (by != stamp || later > at)
            };
            if !self.events.iter().enumerate().any(deletes) {
                left.insert(element.clone());
            }
        }
        (!self.events.is_empty()).then(|| Visible::Set(left.into_iter().collect()))
    }

    /// What was written, and not replaced by somebody who had seen that.
    fn siblings(&self) -> Option<Visible> {
        let mut left = BTreeMap::new();
        for (at, (stamp, intent)) in self.events.iter().enumerate() {
            let Intent::Resolve { value, .. } = intent else {
                continue;
            };
            let replaces = |(later, (by, other)): (usize, &(Stamp, Intent))| {
                let Intent::Resolve { covers, .. } = other else { return false };
                if by == stamp { later > at } else { covers.contains(stamp) }
            };
            if !self.events.iter().enumerate().any(replaces) {
                left.insert(*stamp, value.clone());
            }
        }
        (!left.is_empty()).then(|| Visible::Review(left.into_iter().collect()))
    }
}

pub(super) fn number(value: &Value) -> Option<i64> {
    if let Value::Number(number) = value { number.as_i64() } else { None }
}

/// Apps offer whole numbers here.
pub(super) fn greater(one: Value, other: Value) -> Value {
    if number(&other) > number(&one) { other } else { one }
}

pub(super) fn lesser(one: Value, other: Value) -> Value {
    if number(&other) < number(&one) { other } else { one }
}

/// What a commit of the server's store does.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The rows that it accepts, by their places.
    accepted: Vec<(Seq, Name)>,
    /// Whether it forgets records.
    forgets: bool,
}

impl Committed {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut noted = Self::default();
        for write in &batch.writes {
            match write {
                Write::Put { keyspace: Keyspace::Log, row } => {
                    let row = accepted_row(row).map(|(stamp, digest, seq)| (seq, (stamp, digest)));
                    noted.accepted.extend(row);
                }
                Write::Delete { keyspace: Keyspace::Records, .. } => noted.forgets = true,
                Write::Put { .. } | Write::Delete { .. } => {}
            }
        }
        noted
    }
}

impl World {
    /// A tab sends rows: what they are to do.
    pub(super) fn sends(&mut self, line: u64, message: &[u8]) {
        let (Ok(Message::Push(Push { rows, .. })), Some(open)) =
            (wire::decode(message), self.lines.get(&line))
        else {
            return;
        };
        let tab = self.devices.get(open.device).and_then(|device| device.tabs.get(open.tab));
        let Some(replica) = tab.and_then(|tab| tab.engine.as_ref()).map(|engine| engine.replica())
        else {
            return;
        };
        for sent in rows {
            if let Some(outbox) = replica.overlay().get(sent.number) {
                let row = outbox.row.clone();
                self.reference.sent.insert((row.stamp, sent.digest), row);
            }
        }
    }

    /// The server's store has carried out a commit.
    pub(super) fn committed(&mut self, noted: Committed, called: Vec<(Seq, Stamp, Called)>) {
        if noted.forgets {
            // Which of those that are dead is of no account: what is made of them anew may begin with nothing.
            let told = self.told().unwrap_or_default().into_iter();
            let dead = told.filter(|(_, told)| !told.is_live()).map(|(key, _)| key);
            self.reference.forgotten.extend(dead);
        }
        self.reference.accepted.extend(noted.accepted);
        let called = called.into_iter().map(|(seq, stamp, called)| (seq, (stamp, called)));
        self.reference.called.extend(called);
    }

    /// What happened to each record.
    fn told(&self) -> Result<BTreeMap<RecordKey, Told>, String> {
        let mut told: BTreeMap<RecordKey, Told> = BTreeMap::new();
        let Reference { accepted, called, sent, .. } = &self.reference;
        let places: BTreeSet<Seq> = accepted.keys().chain(called.keys()).copied().collect();
        for place in places {
            if let Some((stamp, called)) = called.get(&place) {
                self.tell_called(&mut told, place, *stamp, called)?;
                continue;
            }
            let Some(name) = accepted.get(&place) else { continue };
            let row = sent.get(name);
            let row = row.ok_or_else(|| format!("nobody has sent the row {name:?}"))?;
            for write in &row.writes {
                let of = told.entry(write.key.clone()).or_default();
                of.write(row.stamp, write);
                of.latest = place;
            }
        }
        Ok(told)
    }

    /// What somebody without a replica has done, who has seen all that was accepted before.
    fn tell_called(
        &self,
        told: &mut BTreeMap<RecordKey, Told>,
        place: Seq,
        stamp: Stamp,
        called: &Called,
    ) -> Result<(), String> {
        let forgotten = |key: &RecordKey| self.reference.forgotten.contains(key);
        for (key, expected) in called.row.expected.iter().filter(|(key, _)| !forgotten(key)) {
            let (live, latest) =
                told.get(key).map_or_else(Default::default, |told| (told.is_live(), told.latest));
            let holds = match expected {
                Expected::Live => live,
                Expected::Absent => !live,
                Expected::OneOf(_) => live && Some(latest) == called.since,
            };
            if !holds {
                return Err(format!(
                    "{called:?} was accepted at {place}, where {key} lives: {live}, since {latest}"
                ));
            }
        }
        for change in &called.row.changes {
            let of = told.entry(change.key.clone()).or_default();
            let may = match change.action {
                Action::Add(_) => !of.is_live(),
                Action::Update(_) => of.is_live(),
                Action::Put(_) | Action::Upsert(_) | Action::Remove { .. } => true,
            };
            if !may && !forgotten(&change.key) {
                return Err(format!("{called:?} was accepted at {place} in spite of {of:?}"));
            }
            if let Some(write) = of.seen_by(change) {
                of.write(stamp, &write);
                of.latest = place;
            }
        }
        Ok(())
    }

    /// A row that is accepted under two stamps counts twice.
    fn check_once(&self) -> Result<(), String> {
        let mut first = BTreeMap::new();
        for name in self.reference.accepted.values() {
            let Some(row) = self.reference.sent.get(name).filter(|row| !row.insisted) else {
                continue;
            };
            let origin = (row.origin.map_or(row.stamp, |origin| origin.stamp), name.1);
            if let Some(before) = first.insert(origin, name)
                && before != name
            {
                return Err(format!("{row:?} was accepted twice, first as {before:?}"));
            }
        }
        Ok(())
    }

    /// At rest everybody sees what the accepted rows come to.
    pub(super) fn check_reference(
        &mut self,
        all: &BTreeMap<RecordKey, Record>,
    ) -> Result<(), String> {
        if self.server_rewound || self.server.lost || self.server.forgot {
            return Ok(());
        }
        if !self.doubles {
            self.check_once()?;
        }
        let mut told = self.told()?;
        if let Some(key) = all.keys().find(|key| !told.contains_key(*key)) {
            return Err(format!("{key} was written by nobody: {:?}", all.get(key)));
        }
        told.retain(|key, _| !self.reference.forgotten.contains(key));
        for (key, told) in told {
            let (live, shows) = (told.is_live(), told.shows());
            let nothing = Record::default();
            let record = all.get(&key);
            if record.is_none() && !live && self.plan.retention_ms.is_some() {
                // Not forgotten yet, and told to nobody any more.
                continue;
            }
            let record = record.unwrap_or(&nothing);
            if record.is_live() != live || !visible_kinds(record).iter().eq(&shows) {
                return Err(format!(
                    "{key} should show {shows:?}, live: {live}; it is {record:?}, from {told:?}"
                ));
            }
            self.mark(if live { "compared: live" } else { "compared: removed" });
            let several =
                |name: &FieldName| told.parts.keys().filter(|(of, _)| of == name).count() > 1;
            for (name, (kind, _)) in shows {
                self.mark(if several(&name) { "compared: of two kinds" } else { kind_mark(kind) });
            }
        }
        Ok(())
    }
}

fn kind_mark(kind: Kind) -> &'static str {
    match kind {
        Kind::Lww => "compared: lww",
        Kind::Fww => "compared: fww",
        Kind::Max => "compared: max",
        Kind::Min => "compared: min",
        Kind::Counter => "compared: counter",
        Kind::Set => "compared: set",
        Kind::Review => "compared: review",
        Kind::Later(_) => "compared: later",
    }
}
