//! How much a space may hold.
//!
//! Invariant: a row is refused only where it would add records, or bytes, beyond that. What removes or shrinks, what was
//! accepted before, and what is brought back after a loss is taken however full the space is. Absent: who has filled it.

use super::{
    Host,
    group::{JoinedRow, Judging, Verdict},
};
use crate::{hlc::Stamp, protocol::message::RejectCode};

/// How much a space may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Most records; dead ones count until they are forgotten.
    pub records: u64,
    /// Most bytes of all records together, as they are encoded.
    pub bytes: u64,
}

impl Quota {
    /// No bound.
    pub const NONE: Self = Self { records: u64::MAX, bytes: u64::MAX };
}

/// What a group may still add.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    records: u64,
    bytes: u64,
}

impl Host {
    /// O(collections), where there is a quota at all.
    pub(super) fn room(&self) -> Room {
        let Quota { records, bytes } = self.config.quota;
        if self.config.quota == Quota::NONE {
            return Room { records, bytes };
        }
        let left = |room: Room, collection: &super::heal::Collection| Room {
            records: room.records.saturating_sub(collection.trie.len() as u64),
            bytes: room.bytes.saturating_sub(collection.bytes),
        };
        self.collections.values().fold(Room { records, bytes }, left)
    }
}

/// What a row makes of its records.
struct Growth {
    /// How many of them were not there.
    records: u64,
    before: u64,
    after: u64,
    /// All of them were there, and are dead now.
    removes: bool,
}

impl Judging<'_> {
    fn growth(&self, joined: &JoinedRow) -> Growth {
        let mut growth = Growth { records: 0, before: 0, after: 0, removes: true };
        for (key, record) in &joined.records {
            let before = self.known.records.get(key).and_then(Option::as_deref);
            growth.records += u64::from(before.is_none());
            growth.before += before.map_or(0, |before| before.bytes.len() as u64);
            growth.after += record.stored.bytes.len() as u64;
            growth.removes &= before.is_some() && record.stored.record.burial().is_some();
        }
        growth
    }

    /// Refuses a row for which there is no room.
    pub(super) fn fit(&self, own: Stamp, joined: JoinedRow) -> Verdict {
        let growth = self.growth(&joined);
        if growth.removes || self.accepted(&own).is_some() {
            return Verdict::Joined(joined);
        }
        if growth.records > 0 && growth.records > self.room.records {
            return full("the space may hold no more records; changes and removals are taken");
        }
        let added = growth.after.saturating_sub(growth.before);
        if added > 0 && added > self.room.bytes {
            return full("the space may hold no more bytes; what makes it smaller is taken");
        }
        Verdict::Joined(joined)
    }

    /// A row is taken.
    pub(super) fn fill(&mut self, joined: &JoinedRow) {
        let Growth { records, before, after, .. } = self.growth(joined);
        self.room.records = self.room.records.saturating_sub(records);
        self.room.bytes = self.room.bytes.saturating_add(before).saturating_sub(after);
    }
}

const fn full(reason: &'static str) -> Verdict {
    Verdict::rejected(RejectCode::Quota, reason)
}
