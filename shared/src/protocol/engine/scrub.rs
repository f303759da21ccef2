//! Reading back what the store holds, once a day, a slice at a time, while there is nothing else to do.
//!
//! What is damaged is written again from memory (`replica`), trees that are not those of the records are built
//! anew. Invariant: only the leader does, with one small read at a time; nothing waits for it longer than for
//! that. Absent: damage that is met when the store is opened (see `load`).

use super::{
    Engine, Notice,
    pipeline::{Op, Then, Want},
};
use crate::{
    id::RecordKey,
    io::{Answer, Batch, KeyRange, Keyspace, Page, Query},
    replica::{
        Entry, META_FOLDED, META_HEADER, META_SCRUBBED, TreeCheck, decode_scrubbed,
        encode_scrubbed, folded_number,
    },
    time::{Millis, MonoMillis, Now},
};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// A new leader has other things to do first.
const FIRST_AFTER: Millis = Millis(60_000);
/// Between two passes over one database.
const EVERY: Millis = Millis(24 * 60 * 60 * 1_000);
/// Between two slices.
const PAUSE: Millis = Millis(250);
/// When it is looked again whether there is nothing else to do.
const BUSY_AFTER: Millis = Millis(10_000);
/// Pages of one slice: each takes about 48 KiB, or one record.
const PAGES: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);
/// Entries of the log of one slice: each takes a few hundred bytes, or a frame.
const ENTRIES: NonZeroU32 = NonZeroU32::MIN.saturating_add(7);
/// Records of one slice whose leaves are checked: some hundred microseconds of hashing.
const LEAVES: usize = 256;

/// How far a pass is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// When the last one was is to be read.
    Start,
    /// Pages behind this one.
    Pages(Option<Vec<u8>>),
    /// Entries behind this key.
    Log(Vec<u8>),
    Header,
    /// Leaves behind this record's.
    Trees(Option<RecordKey>),
}

/// When to go on, and where.
#[derive(Debug)]
pub(super) struct Scrub {
    due: Option<MonoMillis>,
    place: Place,
    /// Rows and trees that this pass has found damaged.
    found: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { due: None, place: Place::Start, found: 0 }
    }
}

impl Engine {
    /// This holder leads from now on.
    pub(super) fn plan_scrub(&mut self, now: Now) {
        let due = Some(now.mono + FIRST_AFTER);
        self.pipeline.scrub = Scrub { due, ..Scrub::default() };
    }

    /// When to come back for the next slice; what is under way for the store comes back by itself.
    pub(super) fn scrub_due(&self) -> Option<MonoMillis> {
        let pipeline = &self.pipeline;
        let idle = pipeline.leads() && !pipeline.failed && pipeline.under_way.is_none();
        pipeline.scrub.due.filter(|_| idle)
    }

    fn scrub_after(&mut self, now: Now, pause: Millis) {
        self.pipeline.scrub.due = Some(now.mono + pause);
    }

    /// Starts the next slice, if one is due; nothing else is to be done for the store.
    pub(super) fn next_scrub(&mut self, now: Now) -> bool {
        if self.scrub_due().is_none_or(|due| now.mono < due) {
            return false;
        }
        let heals = self.session.as_ref().is_some_and(|session| !session.heals.is_empty());
        if heals || !self.replica.knows_pages() {
            self.scrub_after(now, BUSY_AFTER);
            return false;
        }
        self.pipeline.scrub.due = None;
        let place = self.pipeline.scrub.place.clone();
        let queries = match &place {
            Place::Start => Vec::from([get(META_SCRUBBED)]),
            Place::Pages(after) => {
                Vec::from([scan(Keyspace::Page, after.as_deref(), PAGES), get(META_FOLDED)])
            }
            Place::Log(after) => {
                let entries = scan(Keyspace::Log, Some(after.as_slice()), ENTRIES);
                Vec::from([entries, get(META_FOLDED)])
            }
            Place::Header => Vec::from([get(META_HEADER), get(META_FOLDED)]),
            Place::Trees(after) => {
                let checked = self.replica.check_trees(after.as_ref(), LEAVES);
                return self.trees_checked(now, checked);
            }
        };
        self.read(Op::Scrub(place), queries);
        true
    }

    /// A slice was read.
    pub(super) fn scrub_read(&mut self, now: Now, place: Place, answers: Vec<Answer>) {
        let mut answers = answers.into_iter();
        let (first, folded) = (answers.next(), answers.next());
        if matches!(&folded, Some(Answer::Value(folded)) if self.is_foreign_fold(folded.as_deref()))
        {
            // Another holder leads, or has led: these are not the rows that the memory stands for.
            self.pipeline.tail_wanted = true;
            self.pipeline.scrub.place = Place::Start;
            return self.scrub_after(now, BUSY_AFTER);
        }
        let (found, next) = match (place, first, folded) {
            (Place::Start, Some(Answer::Value(value)), _) => {
                let last = value.as_deref().and_then(decode_scrubbed);
                let since = last.and_then(|last| now.wall.0.checked_sub(last.0));
                if let Some(rest) = since.and_then(|since| EVERY.0.checked_sub(since)) {
                    return self.scrub_after(now, Millis(rest));
                }
                self.pipeline.scrub.found = 0;
                (0, Place::Pages(None))
            }
            (Place::Pages(after), Some(Answer::Page(page)), _) => {
                let Page { rows, more } = page;
                let found = self.replica.read_back_pages(after.as_deref(), &rows, more);
                let last = rows.into_iter().next_back().filter(|_| more).map(|row| row.key);
                (found, last.map_or(Place::Log(Vec::new()), |last| Place::Pages(Some(last))))
            }
            (Place::Log(after), Some(Answer::Page(page)), _) => {
                let Page { rows, more } = page;
                let found = self.replica.read_back_log(&after, &rows, more);
                let last = rows.into_iter().next_back().filter(|_| more).map(|row| row.key);
                (found, last.map_or(Place::Header, Place::Log))
            }
            (Place::Header, Some(Answer::Value(header)), Some(Answer::Value(folded))) => {
                let (header, folded) = (header.as_deref(), folded.as_deref());
                (self.replica.read_back_header(header, folded), Place::Trees(None))
            }
            _ => return self.scrub_after(now, EVERY),
        };
        self.pipeline.scrub.found += found;
        self.pipeline.scrub.place = next;
        self.scrub_after(now, PAUSE);
    }

    /// Whether the store was folded by another holder since it was read; a damaged row tells nothing.
    fn is_foreign_fold(&self, folded: Option<&[u8]>) -> bool {
        folded != self.pipeline.folded.as_deref()
            && folded.is_some_and(|row| folded_number(row).is_some())
    }

    /// The trees cost no read; the end of the pass is a small commit.
    fn trees_checked(&mut self, now: Now, checked: TreeCheck) -> bool {
        self.scrub_after(now, PAUSE);
        match checked {
            TreeCheck::Behind(last) => {
                self.pipeline.scrub.place = Place::Trees(Some(last));
                return false;
            }
            TreeCheck::Wrong => {
                self.pipeline.scrub.found += 1;
                // What was found equal was not, or is not known to be.
                self.verified.clear();
                self.reconnect();
            }
            TreeCheck::Right => {}
        }
        self.pipeline.scrub.place = Place::Start;
        self.scrub_after(now, EVERY);
        let found = core::mem::take(&mut self.pipeline.scrub.found);
        if found > 0 {
            self.notice(Notice::Mended { found });
            // A fold takes at least one entry.
            let entry = Entry::Settled(Vec::new());
            self.pipeline.want(Want::Entry { entry, then: Then::Nothing });
        }
        let mut batch = Batch::default();
        self.pipeline.leader_guard(&mut batch);
        batch.put(Keyspace::Meta, META_SCRUBBED.to_vec(), encode_scrubbed(now.wall));
        // Should it be lost, the store is read once more.
        batch.relaxed = true;
        self.commit(Op::Scrubbed, batch);
        true
    }

    /// The store could not be read: what else reads it says so.
    pub(super) fn scrub_failed(&mut self, now: Now) {
        self.scrub_after(now, EVERY);
    }
}

fn get(key: &[u8]) -> Query {
    Query::Get { keyspace: Keyspace::Meta, key: key.to_vec() }
}

/// Rows behind a key.
fn scan(keyspace: Keyspace, after: Option<&[u8]>, limit: NonZeroU32) -> Query {
    let mut start = after.map(<[u8]>::to_vec).unwrap_or_default();
    if after.is_some() {
        start.push(0);
    }
    Query::scan(keyspace, KeyRange { start, end: None }, limit)
}
