//! Scrub: reads everything that is stored again, slice by slice, and has put right what is damaged.
//!
//! A pass goes over the feed (each row is of a record that the tree has there), the trees (each row is of a
//! record with that digest, and so is the leaf in memory), the accepted rows, what is to be forgotten of all of them,
//! and what there is one of. Between two
//! slices it rests, so that it ends well within the interval and costs a busy space little.
//!
//! Where it is goes into the store now and then: a space that is open for a while only, or a process that is started
//! often, comes to the end all the same.
//!
//! Invariant: a slice has the pipeline for itself: no commit is under way, so what it reads is exactly the head,
//! and what it writes is guarded by that. Nothing is judged by one reading: what looks damaged is read again. Where
//! the store fails it is that slice alone that comes again. Absent: what becomes of damaged rows (see `mend`).

use super::{
    Host, HostNote, HostOutput, Phase, Waiting,
    damage::{Damaged, MISSING, Mend, Suspect, whole},
    layout::{self, CopyRow, Noted, Stored, TreeRow},
    pipeline::Pipeline,
    slice::{Place, SLICE_ROWS, Slice, Way},
    survey::Survey,
};
use crate::{
    codec::CodecError,
    hlc::Hlc,
    id::{CollectionName, Digest, RecordKey, key_hash},
    io::{Answer, Batch, CommitOutcome, FaultClass, Keyspace, Query},
    planted::Bug,
    sorted::{SortedMap, SortedSet},
    time::{Millis, MonoMillis, Now, WallMillis},
};
use alloc::vec::Vec;

/// Bytes of records that one slice reads, about; a larger record goes alone.
const SLICE_BYTES: u64 = 256 << 10;
/// The pause between two slices, at least and at most.
const PAUSE: (Millis, Millis) = (Millis(20), Millis(1_000));
/// A space that was opened is left alone for so long, or for one interval.
const FIRST_AFTER: Millis = Millis(10_000);
/// Where a pass is, is noted that often.
const NOTED_EVERY: Millis = Millis(10_000);
/// A slice that could not be read is read again after so long, or one interval.
const AGAIN_AFTER: Millis = Millis(60_000);

/// What the scrub has done since the space was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Passes that came to their end.
    pub passes: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows found damaged, missing, or other than what they are derived from.
    pub damaged: u64,
    /// Records among them that nothing here can restore: peers bring them back.
    pub lost: u64,
}

impl Scrubbed {
    const fn since(self, before: Self) -> Self {
        Self {
            passes: self.passes - before.passes,
            records: self.records - before.records,
            bytes: self.bytes - before.bytes,
            damaged: self.damaged - before.damaged,
            lost: self.lost - before.lost,
        }
    }
}

/// How far the scrub is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// What reads have found damaged, and is looked at before anything else.
    suspects: SortedSet<Suspect>,
    /// Where the pass that is under way goes on.
    pass: Option<Place>,
    /// When the next slice is due; none once it is.
    due: Option<MonoMillis>,
    is_due: bool,
    /// Somebody waits for the end of the pass.
    pub(super) hurries: bool,
    /// When the pass began, or the last one.
    begun: WallMillis,
    /// When its place was noted last.
    noted: MonoMillis,
    pub(super) done: Scrubbed,
    /// As it was when the pass began.
    before: Scrubbed,
    /// Epochs that this pass has opened.
    pub(super) renewals: u64,
    /// Nobody was welcomed in the last one of them.
    pub(super) is_unheard: bool,
    /// Damaged rows of the trees, and whether they were first met in this pass.
    unnamed: SortedMap<(CollectionName, Digest), bool>,
}

/// What comes behind a slice.
#[derive(Debug)]
pub(super) enum Then {
    /// The pass goes on.
    Pass(Place),
    /// It is over.
    End,
    /// There was none: a read has met what was looked at.
    Nothing,
}

/// Where the slice began, if there is one, and what comes behind it.
pub(super) type Around = (Option<Place>, Then);

/// Records that are dead, and since when.
type Dead = Vec<(RecordKey, Hlc)>;

/// What the pipeline waits for.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) stage: Stage,
    pub(super) around: Around,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Rows are being read.
    Scan(Way),
    /// What the rows speak of is being read.
    Cross(Slice),
    /// Whether the dead among them are in the index of what is to be collected is being read.
    Graves(SortedSet<Suspect>, Vec<RecordKey>),
    /// What looks damaged is being read again.
    Confirm(SortedSet<Suspect>, Option<Survey>),
    /// It is damaged, and only all records together tell what it said.
    Survey(SortedSet<Suspect>, Survey),
    /// It is being put right.
    Commit(Mend),
    /// Where the pass is, is being noted.
    Note,
}

impl Step {
    pub(super) const fn is_commit(&self) -> bool {
        matches!(self.stage, Stage::Commit(_) | Stage::Note)
    }

    /// Whether nobody waits for it, and nothing is known to be damaged.
    const fn may_wait(&self) -> bool {
        matches!(self.stage, Stage::Scan(_) | Stage::Cross(_) | Stage::Graves(..) | Stage::Note)
    }
}

impl Host {
    /// How far an earlier run, or another one of this, has come.
    pub(super) fn scrub_was(&mut self, noted: Option<&[u8]>) {
        // What is damaged is taken for nothing, and written again.
        let noted = noted.and_then(|noted| Noted::decode(noted).ok());
        if let (Some(noted), false) = (noted, self.claimed) {
            self.scrub.begun = noted.begun;
            self.scrub.pass = noted.place;
        }
    }

    /// The space is open: when its next pass begins, or the one that was begun goes on.
    pub(super) fn plan_scrub(&mut self, now: Now) {
        let Some(every) = self.config.scrub else { return };
        let first = every.min(FIRST_AFTER);
        let rest = match self.scrub.pass {
            Some(_) => first,
            None => self.rest(now, every).max(first),
        };
        self.scrub_at(now.mono + rest);
    }

    /// What is left of the interval; a clock that was set back makes it no longer than it is.
    fn rest(&self, now: Now, every: Millis) -> Millis {
        let since = now.wall.0.checked_sub(self.scrub.begun.0);
        Millis(since.map_or(every.0, |since| every.0.saturating_sub(since)))
    }

    fn scrub_at(&mut self, due: MonoMillis) {
        self.scrub.due = Some(due);
        self.wake_by(due);
    }

    /// Whether a slice goes before what else waits.
    pub(super) fn wants_scrub(&self) -> bool {
        self.scrub.is_due || !self.scrub.suspects.is_empty()
    }

    pub(super) fn scrub_deadline(&mut self, now: Now) {
        match self.scrub.due {
            Some(due) if now.mono >= due => {
                self.scrub.due = None;
                self.scrub.is_due = true;
                self.start_scrub();
            }
            Some(due) => self.wake_by(due),
            None => {}
        }
    }

    /// A read met something damaged: it is looked at before anything else, or everything is, if it has no
    /// name.
    pub(super) fn suspect(&mut self, damaged: Damaged) {
        match damaged.suspect {
            Some(suspect) => self.suspect_all([suspect]),
            None => {
                if !self.scrub.hurries {
                    // It may be of what the pass has behind it.
                    self.scrub.pass = None;
                    self.scrub.hurries = true;
                }
                self.scrub.is_due = true;
                self.start_scrub();
            }
        }
    }

    pub(super) fn suspect_all(&mut self, suspects: impl IntoIterator<Item = Suspect>) {
        self.scrub.suspects.extend(suspects);
        self.start_scrub();
    }

    /// All is read anew: what is suspected is met again, where the pass is stays.
    pub(super) fn forget_suspects(&mut self) {
        self.scrub.suspects.clear();
        self.scrub.unnamed.clear();
        self.scrub.is_unheard = false;
        self.scrub.is_due = false;
        self.scrub.due = None;
    }

    /// Reads everything before anybody is served: of which record a damaged row of a tree is must be known.
    pub(super) fn mend_first(&mut self) {
        self.phase = Phase::Mending;
        self.scrub.pass = None;
        self.scrub.is_due = true;
        self.start_scrub();
    }

    /// Begins the next slice where one is due and the pipeline is idle.
    pub(super) fn start_scrub(&mut self) {
        let open = self.is_ready() || self.phase == Phase::Mending;
        let idle = matches!(self.pipeline, Pipeline::Idle);
        if !open || self.stopping || !idle || !self.wants_scrub() {
            return;
        }
        let place = self.scrub.pass.take();
        if !self.scrub.suspects.is_empty() {
            let suspects = core::mem::take(&mut self.scrub.suspects);
            let then = place.clone().map_or(Then::Nothing, Then::Pass);
            return self.confirm(suspects, None, (place, then));
        }
        self.scrub.is_due = false;
        let place = place.unwrap_or_else(|| {
            if self.scrub.unnamed.is_empty() {
                self.scrub.before = self.scrub.done;
                self.scrub.renewals = 0;
            }
            Place::at(Way::Feed)
        });
        let query = place.query();
        let stage = Stage::Scan(place.way);
        self.scrub_reads(Step { stage, around: (Some(place), Then::End) }, alloc::vec![query]);
    }

    pub(super) fn scrub_reads(&mut self, step: Step, queries: Vec<Query>) {
        self.pipeline = Pipeline::Scrubbing(step);
        let ticket = self.ticket(Waiting::Scrub);
        self.out(HostOutput::Query { ticket, queries });
    }

    pub(super) fn scrub_commits(&mut self, step: Step, batch: Batch) {
        self.pipeline = Pipeline::Scrubbing(step);
        let ticket = self.ticket(Waiting::Scrub);
        self.out(HostOutput::Commit { ticket, batch });
    }

    /// What a slice asked for came back.
    pub(super) fn scrub_answered(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), Damaged> {
        let Pipeline::Scrubbing(Step { stage, around }) = core::mem::take(&mut self.pipeline)
        else {
            return Ok(());
        };
        if self.stopping {
            // All records may be being read, and nobody waits for what comes of it.
            return Ok(());
        }
        match stage {
            Stage::Scan(way) => self.scrub_scanned(now, way, around.0, answers)?,
            Stage::Cross(slice) => {
                let (suspects, dead) = self.check(slice, answers)?;
                if dead.is_empty() {
                    self.scrub_checked(now, suspects, around);
                } else {
                    let get_grave = |(key, at): &(RecordKey, Hlc)| Query::Get {
                        keyspace: Keyspace::Meta,
                        key: layout::grave_key(*at, key),
                    };
                    let queries = dead.iter().map(get_grave).collect();
                    let dead = dead.into_iter().map(|(key, _)| key).collect();
                    self.scrub_reads(
                        Step { stage: Stage::Graves(suspects, dead), around },
                        queries,
                    );
                }
            }
            Stage::Graves(mut suspects, dead) => {
                let named = dead.iter().zip(&answers);
                let lost = named.filter(|(_, answer)| !matches!(answer, Answer::Value(Some(_))));
                suspects.extend(lost.map(|(key, _)| Suspect::record(key)));
                self.scrub_checked(now, suspects, around);
            }
            Stage::Confirm(suspects, survey) => {
                self.confirmed(now, &suspects, survey.as_ref(), around, answers)?;
            }
            Stage::Survey(suspects, survey) => {
                self.surveyed_records(suspects, survey, around, answers)?;
            }
            Stage::Commit(_) | Stage::Note => {}
        }
        Ok(())
    }

    /// What was put right is durable.
    pub(super) fn scrub_committed(&mut self, now: Now, outcome: CommitOutcome) {
        let Pipeline::Scrubbing(Step { stage, around }) = core::mem::take(&mut self.pipeline)
        else {
            return;
        };
        match (stage, outcome) {
            (Stage::Commit(mend), CommitOutcome::Applied) => self.mended(now, mend, around.1),
            (Stage::Note, CommitOutcome::Applied) => self.scrub_rests(now),
            (_, CommitOutcome::Conflict) => self.head_contested(),
            (_, CommitOutcome::Applied) => {}
        }
    }

    /// The store failed. A slice that found nothing yet comes again later, and nobody is disturbed; whatever was
    /// being put right is read anew with everything else.
    pub(super) fn scrub_failed(&mut self, now: Now, class: FaultClass) {
        let pipeline = core::mem::take(&mut self.pipeline);
        let Pipeline::Scrubbing(step) = pipeline else {
            self.pipeline = pipeline;
            return self.group_failed(now, class);
        };
        // A note says nothing of what is damaged, and the slice behind it is not begun.
        let is_note = matches!(step.stage, Stage::Note);
        let may_wait = step.may_wait() && self.is_ready();
        if !is_note {
            self.scrub.pass = step.around.0;
        }
        if !may_wait {
            return self.group_failed(now, class);
        }
        self.out(HostOutput::Note(HostNote::StoreFailed { class }));
        if !is_note {
            let every = self.config.scrub.unwrap_or(AGAIN_AFTER);
            let after = match class {
                FaultClass::Transient | FaultClass::Full => every.min(AGAIN_AFTER),
                FaultClass::Corrupt | FaultClass::Permanent => every.max(AGAIN_AFTER),
            };
            self.scrub_at(now.mono + after);
        }
        self.scrub_rests(now);
    }

    /// Rows of a slice were read: they are checked by themselves, and what they speak of is read.
    fn scrub_scanned(
        &mut self,
        now: Now,
        way: Way,
        place: Option<Place>,
        answers: Vec<Answer>,
    ) -> Result<(), Damaged> {
        let Some(Answer::Page(page)) = answers.into_iter().next() else {
            return Err(Damaged::from(MISSING));
        };
        if place.as_ref() == Some(&Place::at(Way::Feed)) {
            self.scrub.begun = now.wall;
        }
        let mut slice = Slice::default();
        let mut last = None;
        let mut more = page.more;
        for row in page.rows {
            if slice.bytes >= SLICE_BYTES {
                more = true;
                break;
            }
            last = Some(row.key.clone());
            slice.take(way, row)?;
        }
        self.name_leaves(&mut slice);
        if way == Way::Single {
            slice.suspects.extend([Suspect::Head, Suspect::Lineage, Suspect::Horizon]);
        }
        let then = match last {
            Some(mut start) if more => {
                // The least key behind this one.
                start.push(0);
                Then::Pass(Place { way, start })
            }
            Some(_) | None => way.next().map_or(Then::End, |way| Then::Pass(Place::at(way))),
        };
        if self.config.planted.is(Bug::ScrubSkipsTree) {
            slice = Slice::default();
        }
        let queries = slice.queries();
        if queries.is_empty() {
            self.scrub_checked(now, slice.suspects, (place, then));
        } else {
            let stage = Stage::Cross(slice);
            self.scrub_reads(Step { stage, around: (place, then) }, queries);
        }
        Ok(())
    }

    /// Rows of the trees that cannot be read: a pass over the feed names their records. What it leaves has no
    /// other row.
    fn name_leaves(&mut self, slice: &mut Slice) {
        let unnamed = &mut self.scrub.unnamed;
        slice.suspects.retain(|suspect| {
            let Suspect::Leaf(collection, hash) = suspect else {
                return true;
            };
            let leaf = (collection.clone(), *hash);
            let again = unnamed.contains_key(&leaf);
            unnamed.entry(leaf).or_insert(true);
            again
        });
    }

    /// Compares what a slice told with what the store and the memory have; and which of the records are dead,
    /// since when.
    fn check(
        &mut self,
        slice: Slice,
        answers: Vec<Answer>,
    ) -> Result<(SortedSet<Suspect>, Dead), CodecError> {
        let mut values = answers.into_iter().map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        });
        let mut next = || values.next().flatten();
        let mut suspects = slice.suspects;
        let mut dead = Vec::new();
        for (seq, key, len) in slice.feed {
            let hash = key_hash(&key);
            let row = whole(next().as_deref().map(TreeRow::decode))?;
            let is_same = row.is_some_and(|row| {
                let leaf = self.leaf(&key.collection, &hash);
                row.seq == seq && row.len == len && row.id == key.id && leaf == Some(row.digest)
            });
            if !is_same {
                suspects.insert(Suspect::Record(key, Some(seq)));
            }
        }
        for (key, hash, row) in slice.tree {
            let value = next();
            let bytes = value.as_ref().map_or(0, Vec::len) as u64;
            let stored = whole(value.as_deref().map(Stored::decode))?;
            let len = whole(next().as_deref().map(layout::decode_len))?;
            let leaf = self.leaf(&key.collection, &hash);
            let stored = stored.filter(|stored| layout::tree_row(&key, stored).1 == row);
            let burial = stored.as_ref().and_then(|stored| stored.record.burial());
            dead.extend(burial.map(|at| (key.clone(), at)));
            if stored.is_none() || len != Some(row.len) || leaf != Some(row.digest) {
                suspects.insert(Suspect::Record(key, None));
            }
            self.scrub.done.records += 1;
            self.scrub.done.bytes += bytes;
        }
        for (origin, copy) in slice.copies {
            if whole(next().as_deref().map(CopyRow::decode))? != Some(copy) {
                suspects.insert(Suspect::Copy(origin, copy.stamp));
            }
        }
        Ok((suspects, dead))
    }

    /// What the trees in memory have of a record.
    pub(super) fn leaf(&self, collection: &CollectionName, hash: &Digest) -> Option<Digest> {
        self.collections.get(collection)?.trie.get(hash)
    }

    fn scrub_checked(&mut self, now: Now, suspects: SortedSet<Suspect>, around: Around) {
        if suspects.is_empty() {
            self.scrub_on(now, around.1);
        } else {
            self.confirm(suspects, None, around);
        }
    }

    /// A slice is done.
    pub(super) fn scrub_on(&mut self, now: Now, then: Then) {
        let mut ended = false;
        match then {
            Then::Pass(place) => {
                self.scrub.pass = Some(place);
                if self.phase == Phase::Mending {
                    self.scrub.is_due = true;
                } else {
                    self.scrub_at(now.mono + self.pause());
                }
            }
            Then::End => {
                self.scrub_ends(now);
                ended = !self.scrub.is_due;
            }
            Then::Nothing => {}
        }
        let is_long = now.mono.since(self.scrub.noted) >= NOTED_EVERY;
        let free = self.is_ready() && matches!(self.pipeline, Pipeline::Idle);
        if free && (ended || (is_long && self.scrub.pass.is_some())) {
            self.scrub.noted = now.mono;
            self.note_place();
        } else {
            self.scrub_rests(now);
        }
    }

    /// Stores how far the pass is. Should that be lost, a little is read once more.
    fn note_place(&mut self) {
        let noted = Noted { begun: self.scrub.begun, place: self.scrub.pass.clone() };
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        batch.guard(Keyspace::Meta, layout::HEAD_KEY.to_vec(), self.head_bytes.clone());
        batch.put(Keyspace::Meta, layout::SCRUB_KEY.to_vec(), noted.encode());
        self.scrub_commits(Step { stage: Stage::Note, around: (None, Then::Nothing) }, batch);
    }

    /// The pipeline is free for others until the next slice.
    fn scrub_rests(&mut self, now: Now) {
        if self.phase == Phase::Mending {
            self.start_scrub();
        } else {
            self.fan_out(now);
            self.start_group(now);
        }
    }

    fn scrub_ends(&mut self, now: Now) {
        let scrub = &mut self.scrub;
        // Those that were met for the first time: the next pass names them, or finds that nothing does.
        let again = scrub.unnamed.values().any(|is_new| *is_new);
        scrub.unnamed.values_mut().for_each(|is_new| *is_new = false);
        if again {
            scrub.is_due = true;
            return;
        }
        scrub.unnamed.clear();
        scrub.hurries = false;
        scrub.done.passes += 1;
        let pass = scrub.done.since(scrub.before);
        self.out(HostOutput::Note(HostNote::Scrubbed { pass }));
        if self.phase == Phase::Mending {
            self.opened(now);
        } else if let Some(every) = self.config.scrub {
            self.scrub_at(now.mono + self.rest(now, every).max(PAUSE.0));
        }
    }

    /// The rest between two slices, such that a pass ends within the interval.
    fn pause(&self) -> Millis {
        let every = self.config.scrub.unwrap_or_default().0;
        let held = || self.collections.values();
        let rows: u64 = held().map(|held| held.trie.len() as u64).sum();
        let bytes: u64 = held().map(|held| held.bytes).sum();
        // The feed, the trees, at least as many accepted rows, and what is to be forgotten of them; half of the
        // interval is kept in reserve.
        let slices = 5 * rows / u64::from(SLICE_ROWS.get()) + bytes / SLICE_BYTES + 8;
        let pause = if self.scrub.hurries { 0 } else { every / 2 / slices };
        Millis(pause.clamp(PAUSE.0.0, PAUSE.1.0))
    }
}
