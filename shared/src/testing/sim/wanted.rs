//! What apps must see at once of what they have done: from their changes alone, whatever rows are planned from them.

use super::reference::{Part, greater, lesser, number};
use crate::{
    id::FieldName,
    record::{Kind, Record, Value, Visible, visible_kinds},
    replica::{Action, FieldAction, FieldChange},
};
use alloc::collections::{BTreeMap, BTreeSet};

/// What an app must see of a record as soon as it has done something to it.
#[derive(Debug)]
pub(super) struct Wanted {
    live: bool,
    /// Whether it sees nothing else.
    only: bool,
    parts: BTreeMap<Part, Content>,
}

#[derive(Debug, Default)]
enum Content {
    /// Nothing is known of it.
    #[default]
    Unknown,
    Absent,
    Value(Value),
    AtLeast(i64),
    AtMost(i64),
    Total(i64),
    Elements(BTreeSet<Value>),
    /// Some that are there, and some that are not.
    Among(BTreeSet<Value>, BTreeSet<Value>),
    /// The one value that is left of those under review.
    Resolved(Value),
}

impl Content {
    fn is(&self, shown: Option<&Visible>) -> bool {
        let bound = |shown: Option<&Visible>| match shown {
            Some(Visible::Value(value)) => number(value),
            _ => None,
        };
        match (self, shown) {
            (Self::Unknown, _) | (Self::Absent, None) => true,
            (Self::Value(value), Some(Visible::Value(shown))) => shown == value,
            (Self::AtLeast(least), _) => bound(shown) >= Some(*least),
            (Self::AtMost(most), _) => bound(shown).is_some_and(|shown| shown <= *most),
            (Self::Total(total), Some(Visible::Counter(shown))) => shown == total,
            (Self::Elements(elements), Some(Visible::Set(shown))) => shown.iter().eq(elements),
            (Self::Elements(elements), None) => elements.is_empty(),
            (Self::Among(there, gone), Some(Visible::Set(shown))) => {
                there.iter().all(|element| shown.contains(element))
                    && !gone.iter().any(|element| shown.contains(element))
            }
            (Self::Among(there, _), None) => there.is_empty(),
            (Self::Resolved(value), Some(Visible::Review(shown))) => {
                shown.iter().map(|(_, shown)| shown).eq([value])
            }
            _ => false,
        }
    }

    /// What an action makes of it.
    fn after(self, action: &FieldAction) -> Self {
        match action {
            FieldAction::Set(kind, value) => self.offered(*kind, value),
            FieldAction::Clear(_) => Self::Absent,
            FieldAction::Add(amount) => self.added(*amount),
            FieldAction::Insert(more) => self.changed(more, &[]),
            FieldAction::Delete(fewer) => self.changed(&[], fewer),
            FieldAction::Replace(elements) => Self::Elements(elements.iter().cloned().collect()),
            FieldAction::Resolve(value) => Self::Resolved(value.clone()),
        }
    }

    fn added(self, amount: i64) -> Self {
        if let Self::Total(total) = self {
            Self::Total(total + amount)
        } else if let Self::Absent = self {
            Self::Total(amount)
        } else {
            Self::Unknown
        }
    }

    fn offered(self, kind: Kind, value: &Value) -> Self {
        let offer = number(value).unwrap_or_default();
        match (kind, self) {
            (Kind::Lww, _) | (_, Self::Absent) => Self::Value(value.clone()),
            (Kind::Max, Self::Value(known)) => Self::Value(greater(known, value.clone())),
            (Kind::Min, Self::Value(known)) => Self::Value(lesser(known, value.clone())),
            (Kind::Max, Self::AtLeast(known)) => Self::AtLeast(known.max(offer)),
            (Kind::Min, Self::AtMost(known)) => Self::AtMost(known.min(offer)),
            (Kind::Max, _) => Self::AtLeast(offer),
            (Kind::Min, _) => Self::AtMost(offer),
            (_, known) => known,
        }
    }

    fn changed(self, more: &[Value], fewer: &[Value]) -> Self {
        let change = |elements: &mut BTreeSet<Value>, more: &[Value], fewer: &[Value]| {
            elements.extend(more.iter().cloned());
            elements.retain(|element| !fewer.contains(element));
        };
        if let Self::Elements(mut elements) = self {
            change(&mut elements, more, fewer);
            return Self::Elements(elements);
        }
        if let Self::Absent = self {
            return Self::Elements(BTreeSet::new()).changed(more, fewer);
        }
        let (mut there, mut gone) =
            if let Self::Among(there, gone) = self { (there, gone) } else { Default::default() };
        change(&mut there, more, fewer);
        change(&mut gone, fewer, more);
        Self::Among(there, gone)
    }
}

impl Wanted {
    /// A put begins with nothing; anything else goes on from what nobody here knows.
    pub(super) fn after(action: &Action) -> Self {
        let (live, only, changes) = match action {
            Action::Put(changes) | Action::Add(changes) => (true, true, changes.as_slice()),
            Action::Update(changes) | Action::Upsert(changes) => (true, false, changes.as_slice()),
            Action::Remove { .. } => (false, false, [].as_slice()),
        };
        let mut parts: BTreeMap<Part, Content> = BTreeMap::new();
        for FieldChange { field, action } in changes {
            let part = (field.clone(), action.kind());
            let known = if only { Content::Absent } else { Content::Unknown };
            let before = parts.remove(&part).unwrap_or(known);
            parts.insert(part, before.after(action));
        }
        Self { live, only, parts }
    }

    /// A field that is of several kinds shows one of them.
    pub(super) fn is_met(&self, record: &Record) -> bool {
        let shows = visible_kinds(record);
        let shown = |(name, kind): &Part| match shows.get(name) {
            Some((of, visible)) if of == kind => Ok(Some(visible)),
            Some(_) => Err(()),
            None => Ok(None),
        };
        let met = self.parts.iter().all(|(part, wanted)| match shown(part) {
            Ok(shown) => wanted.is(shown),
            Err(()) => true,
        });
        let named = |name: &FieldName| self.parts.keys().any(|(of, _)| of == name);
        let others = || shows.keys().any(|name| !named(name));
        record.is_live() == self.live && met && !(self.only && others())
    }
}
