//! What records must show: the rows that the server has accepted, folded one after the other with plain maps.
//!
//! The reference shares no code with what it checks but the types of what apps asked for. It knows no joins, deltas,
//! views, pages or trees: which rows count, and in which order, is what the server's store has committed; what they
//! do is what the apps' devices sent. Absent: worlds whose server lost what it had accepted, where other oracles
//! say what comes back.

use super::World;
use crate::{
    hlc::{Hlc, Stamp},
    id::{FieldName, RecordKey, ReplicaId, Seq},
    io::{Batch, Keyspace, Write},
    message::{Message, Push},
    protocol::{host::accepted_row, wire},
    record::{Kind, Record, Value, VersionVector, Visible, visible},
    replica::{Action, FieldAction, FieldChange, Intent, Row, RowWrite},
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
}

/// Up to when somebody had seen the writes of whom.
type Seen = BTreeMap<ReplicaId, Hlc>;

fn seen(vector: &VersionVector) -> Seen {
    vector.iter().map(|stamp| (stamp.replica, stamp.hlc)).collect()
}

fn is_in(seen: &Seen, stamp: &Stamp) -> bool {
    seen.get(&stamp.replica).is_some_and(|upto| *upto >= stamp.hlc)
}

/// What happened to a field since it was last reset.
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
    fields: BTreeMap<(FieldName, u8), Field>,
    /// Of which kind each is.
    kinds: BTreeMap<u8, Kind>,
}

impl Told {
    fn write(&mut self, stamp: Stamp, write: &RowWrite) {
        self.writes.push(stamp);
        let mut lost = BTreeSet::new();
        for intent in &write.intents {
            let Some((name, kind)) = intent.cell() else {
                let mut covered = seen(&write.saw);
                covered.insert(stamp.replica, stamp.hlc);
                self.removals.push(covered);
                continue;
            };
            let code = kind.code();
            self.kinds.insert(code, kind);
            let field = self.fields.entry((name.clone(), code)).or_default();
            let resets = |other: &Intent| {
                matches!(other, Intent::Clear { .. }) && other.cell() == Some((name.clone(), kind))
            };
            if kind != Kind::Lww && write.intents.iter().any(resets) && field.reset > Some(stamp) {
                // Somebody who reset the field later was taken in before.
                lost.insert((name.clone(), code));
            }
            if lost.contains(&(name, code)) {
                continue;
            }
            if kind != Kind::Lww && matches!(intent, Intent::Clear { .. }) {
                *field = Field { reset: Some(stamp), events: Vec::new() };
            } else {
                field.events.push((stamp, intent.clone()));
            }
        }
    }

    fn is_live(&self) -> bool {
        let removed = |write: &Stamp| self.removals.iter().any(|removal| is_in(removal, write));
        !self.writes.iter().all(removed)
    }

    fn shows(&self) -> BTreeMap<FieldName, Visible> {
        let shown = self.fields.iter().filter_map(|((name, code), field)| {
            Some((name.clone(), field.shows(*self.kinds.get(code)?)?))
        });
        shown.collect()
    }
}

impl Field {
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

/// What an app must see of a record as soon as it has done something to it.
#[derive(Debug)]
pub(super) struct Wanted {
    live: bool,
    /// Whether it sees nothing else.
    only: bool,
    fields: BTreeMap<FieldName, Content>,
}

#[derive(Debug)]
enum Content {
    Value(Value),
    Total(i64),
    Elements(BTreeSet<Value>),
    /// The one value that is left of those under review.
    Resolved(Value),
}

impl Content {
    fn is(&self, shown: Option<&Visible>) -> bool {
        match (self, shown) {
            (Self::Value(value), Some(Visible::Value(shown))) => shown == value,
            (Self::Total(total), Some(Visible::Counter(shown))) => shown == total,
            (Self::Elements(elements), Some(Visible::Set(shown))) => shown.iter().eq(elements),
            (Self::Elements(elements), None) => elements.is_empty(),
            (Self::Resolved(value), Some(Visible::Review(shown))) => {
                shown.iter().map(|(_, shown)| shown).eq([value])
            }
            _ => false,
        }
    }

    fn into_elements(self) -> BTreeSet<Value> {
        if let Self::Elements(elements) = self { elements } else { BTreeSet::new() }
    }
}

impl Wanted {
    /// What remains of a put is just what it names; of anything else, what has overwritten something.
    pub(super) fn after(action: &Action) -> Self {
        let (live, only, changes) = match action {
            Action::Put(changes) | Action::Add(changes) => (true, true, changes.as_slice()),
            Action::Update(changes) | Action::Upsert(changes) => (true, false, changes.as_slice()),
            Action::Remove { .. } => (false, false, [].as_slice()),
        };
        let mut fields = BTreeMap::new();
        for FieldChange { field, action } in changes {
            let before = fields.remove(field);
            let content = match (action, before) {
                (FieldAction::Set(kind, value), _) if only || *kind == Kind::Lww => {
                    Content::Value(value.clone())
                }
                (FieldAction::Resolve(value), _) => Content::Resolved(value.clone()),
                (FieldAction::Add(amount), Some(Content::Total(total))) => {
                    Content::Total(total + amount)
                }
                (FieldAction::Add(amount), _) if only => Content::Total(*amount),
                (FieldAction::Insert(more), before) if only => {
                    let mut elements = before.map(Content::into_elements).unwrap_or_default();
                    elements.extend(more.iter().cloned());
                    Content::Elements(elements)
                }
                (FieldAction::Delete(fewer), before) if only => {
                    let mut elements = before.map(Content::into_elements).unwrap_or_default();
                    elements.retain(|element| !fewer.contains(element));
                    Content::Elements(elements)
                }
                _ => continue,
            };
            fields.insert(field.clone(), content);
        }
        Self { live, only, fields }
    }

    pub(super) fn is_met(&self, record: &Record) -> bool {
        let shows = visible(record);
        let met = self.fields.iter().all(|(name, wanted)| wanted.is(shows.get(name)));
        let others = || shows.keys().any(|name| !self.fields.contains_key(name));
        record.is_live() == self.live && met && !(self.only && others())
    }
}

fn number(value: &Value) -> Option<i64> {
    if let Value::Number(number) = value { number.as_i64() } else { None }
}

/// Apps offer whole numbers here.
fn greater(one: Value, other: Value) -> Value {
    if number(&other) > number(&one) { other } else { one }
}

fn lesser(one: Value, other: Value) -> Value {
    if number(&other) < number(&one) { other } else { one }
}

/// The rows that a commit of the server accepts, by their places.
pub(super) fn accepted_rows(batch: &Batch) -> Vec<(Seq, Name)> {
    let log = batch.writes.iter().filter_map(|write| match write {
        Write::Put { keyspace: Keyspace::Log, row } => accepted_row(row),
        Write::Put { .. } | Write::Delete { .. } => None,
    });
    log.map(|(stamp, digest, seq)| (seq, (stamp, digest))).collect()
}

impl Reference {
    /// The server's store has committed these.
    pub(super) fn accept(&mut self, rows: Vec<(Seq, Name)>) {
        self.accepted.extend(rows);
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

    /// At rest everybody sees what the accepted rows come to.
    pub(super) fn check_reference(
        &mut self,
        all: &BTreeMap<RecordKey, Record>,
    ) -> Result<(), String> {
        if self.server_rewound || self.server.lost || self.server.forgot {
            return Ok(());
        }
        let mut told: BTreeMap<&RecordKey, Told> = BTreeMap::new();
        for name in self.reference.accepted.values() {
            let Some(row) = self.reference.sent.get(name) else {
                return Err(format!("nobody has sent the row {name:?}"));
            };
            for write in &row.writes {
                told.entry(&write.key).or_default().write(row.stamp, write);
            }
        }
        // What was removed and forgotten is made anew from nothing.
        if self.plan.retention_ms.is_some() {
            told.retain(|_, told| told.removals.is_empty());
        }
        for (key, told) in told {
            let nothing = Record::default();
            let record = all.get(key).unwrap_or(&nothing);
            let (live, shows) = (told.is_live(), told.shows());
            if record.is_live() != live || visible(record) != shows {
                return Err(format!(
                    "{key} should show {shows:?}, live: {live}; it is {record:?}, from {told:?}"
                ));
            }
        }
        self.mark("reference compared");
        Ok(())
    }
}
