//! A replica's whole state, as a function of its pages and its log.

use super::{
    base::Base,
    bytes::decode_entry,
    entry::{Entry, Healing, Settlement, Standing, Welcomed},
    intent::Row,
    load::Damage,
    overlay::{Counts, Overlay, RowState},
    page::PageIndex,
    replay::Replays,
    subscribe::standing_mut,
};
use crate::{
    codec::CodecError,
    hlc::{Hlc, HlcClock},
    id::{CollectionName, Digest, Epoch, Incarnation, Pattern, RecordKey, ReplicaId, SpaceId},
    message::{
        Conflict, Message,
        limits::{EPOCHS_KEPT_MAX, EPOCHS_MAX, INCARNATIONS_MAX, PAST_INCARNATIONS_MAX},
        wire,
    },
    planted::{Bug, Planted},
    record::Record,
    sorted::{SortedMap, SortedSet},
    time::WallMillis,
};
use alloc::{string::String, vec::Vec};

/// What a fold writes beside the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) replica: ReplicaId,
    /// Where its rows belong; `None` while no holder has named a space.
    pub(super) space: Option<SpaceId>,
    /// The greatest own stamp issued.
    pub(super) clock: Hlc,
    /// The greatest time of a write that became visible. What the peer's clock shows is not among them: it
    /// may be wrong for a while, and own stamps would be ahead of it for as long.
    pub(super) observed: Hlc,
    /// The greatest own stamp known to be acknowledged.
    pub(super) acked: Hlc,
    pub(super) principal: Option<String>,
    pub(super) welcomed: Option<Incarnation>,
    /// Incarnations stored since then, in order.
    pub(super) since: Vec<Incarnation>,
    /// Those before, the newest last: a peer that was put back to an earlier state knows one of them.
    pub(super) past: Vec<Incarnation>,
    /// Whether the id is not this replica's to use any more.
    pub(super) denied: bool,
    /// Whether a row of this id was given up that may count: the peer may have what it has left.
    pub(super) gave_up: bool,
    /// The last epochs by their numbers, the present one last; one that the peer returned to is there again.
    pub(super) epochs: Vec<(u32, Epoch)>,
    /// How often another epoch than before was welcomed: the number of the present one.
    pub(super) epoch_number: u32,
    pub(super) skew_ms: i64,
    pub(super) standings: Vec<(Pattern, Standing)>,
    /// What became of rows that are still in the outbox.
    pub(super) settled: Vec<(u64, Settlement)>,
}

impl Header {
    /// Keeps an incarnation that is about to be used. One that the peer has not welcomed may be the last
    /// one it knows, so all are kept while there is room. Beyond that one of the middle goes: a peer that
    /// became silent has last heard one of the oldest, a peer that hears and is not heard one of the
    /// newest. Whichever goes, a copy of this replica is never taken for it: naming fewer only makes the
    /// peer see a fork where there is none.
    fn remember(&mut self, incarnation: Incarnation) {
        while self.since.len() + 1 >= INCARNATIONS_MAX {
            self.since.remove(self.since.len() / 2);
        }
        self.since.push(incarnation);
    }

    /// An incarnation was welcomed. The others may be what an old copy of the peer knows.
    fn welcome(&mut self, incarnation: Incarnation) {
        let earlier = self.welcomed.replace(incarnation).into_iter();
        let since = core::mem::take(&mut self.since).into_iter();
        self.past.extend(earlier.chain(since).filter(|known| *known != incarnation));
        let beyond = self.past.len().saturating_sub(PAST_INCARNATIONS_MAX);
        self.past.drain(..beyond);
    }

    /// Keeps the epoch of a welcome, which may be an earlier one: then the peer has returned to it.
    fn enter(&mut self, epoch: Epoch) {
        if self.epochs.last() != Some(&(self.epoch_number, epoch)) {
            self.epoch_number = self.epoch_number.saturating_add(1);
            self.epochs.push((self.epoch_number, epoch));
            let beyond = self.epochs.len().saturating_sub(EPOCHS_KEPT_MAX);
            self.epochs.drain(..beyond);
        }
    }
}

/// What an entry changed, for those who show or push it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Applied {
    /// Records whose visible state may have changed.
    pub keys: SortedSet<RecordKey>,
    /// Rows that became durable at the peer.
    pub accepted: Vec<u64>,
    /// Rows that were refused.
    pub rejected: Vec<u64>,
    /// Subscriptions that must heal.
    pub broken: Vec<u32>,
    /// Subscriptions that reached a cut.
    pub cuts: Vec<u32>,
    /// `lww` writes that lost against a write that did not know them.
    pub conflicts: Vec<(RecordKey, Conflict)>,
    /// Which id gave way to which.
    pub reborn: Option<(ReplicaId, ReplicaId)>,
    /// Whether other subscriptions are asked for now.
    pub subscribed: bool,
    /// Records received, staged or visible.
    pub received: usize,
    /// Bytes of the message that brought them.
    pub received_bytes: usize,
}

/// A replica: identity, base, overlay, and how far each subscription has come.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts about pages and log")]
pub struct Replica {
    pub(super) header: Header,
    pub(super) base: Base,
    pub(super) overlay: Overlay,
    pub(super) pages: PageIndex,
    /// Whether `pages` is what the store has.
    pub(super) pages_known: bool,
    /// The last log entry applied.
    pub(super) last: u64,
    /// The last log entry up to which the log is folded.
    pub(super) folded: u64,
    /// Batches of pages that a fold under way has written.
    pub(super) slices: u64,
    /// Whether reading an entry behind `folded` again must find the base as it was: it brought what did not fit,
    /// or the replica took another id.
    pub(super) folds_whole: bool,
    /// While the log is read up to what the pages hold: the rows that each entry ended.
    pub(super) catching_up: Option<SortedMap<u64, Vec<u64>>>,
    /// Pages that say of nothing but keys that are gone: they go when a fold is complete.
    pub(super) hollow: PageIndex,
    /// Outbox rows at or before `folded` whose stored form is out of date.
    pub(super) rewritten: SortedSet<u64>,
    /// Outbox rows that ended since the last fold, which deletes them from the log, and the entries that ended
    /// them.
    pub(super) finished: SortedMap<u64, u64>,
    /// Bytes of entries behind `folded`.
    pub(super) unfolded_bytes: usize,
    /// What of the store was damaged when it was read.
    pub(super) damage: Damage,
    /// Whether rows of the store are damaged that the next fold takes or replaces.
    pub(super) mends: bool,
    /// Whether an entry is lost that may have given this replica another id.
    pub(super) in_doubt: bool,
    /// The first row that is applied and not yet durable, and the clock before it.
    pub(super) tentative: Option<(u64, Hlc)>,
    /// Entries in the log at which folding pays.
    pub(super) fold_entries_min: u64,
    /// Records before the next row to be sent.
    pub(super) before_push: Replays,
    /// Records before the next local write.
    pub(super) before_write: Replays,
    /// Bytes of pages of one batch of a fold.
    pub(super) fold_bytes_max: usize,
    /// A bug, in tests.
    pub(super) planted: Planted,
}

impl Replica {
    /// A replica that has nothing yet.
    #[must_use]
    pub fn new(replica: ReplicaId, patterns: &[Pattern]) -> Self {
        let header = Header {
            replica,
            space: None,
            clock: Hlc::ZERO,
            observed: Hlc::ZERO,
            acked: Hlc::ZERO,
            principal: None,
            welcomed: None,
            since: Vec::new(),
            past: Vec::new(),
            denied: false,
            gave_up: false,
            epochs: Vec::new(),
            epoch_number: 0,
            skew_ms: 0,
            standings: Vec::new(),
            settled: Vec::new(),
        };
        let mut replica = Self {
            header,
            base: Base::default(),
            overlay: Overlay::default(),
            pages: PageIndex::new(),
            pages_known: true,
            last: 0,
            folded: 0,
            slices: 0,
            folds_whole: false,
            catching_up: None,
            hollow: PageIndex::new(),
            rewritten: SortedSet::new(),
            finished: SortedMap::new(),
            unfolded_bytes: 0,
            damage: Damage::default(),
            mends: false,
            in_doubt: false,
            tentative: None,
            fold_entries_min: super::fold::FOLD_ENTRIES_MIN,
            before_push: Replays::default(),
            before_write: Replays::default(),
            fold_bytes_max: super::fold::FOLD_BYTES_MAX,
            planted: Planted::default(),
        };
        replica.subscribe(patterns);
        replica
    }

    /// Plants a bug, or none, and folds that often; if so, in batches that are small too.
    #[cfg(feature = "test-util")]
    pub fn plant(&mut self, planted: Planted, fold_entries_min: Option<u64>) {
        self.planted = planted;
        if let Some(entries) = fold_entries_min {
            self.fold_entries_min = entries;
            self.fold_bytes_max = 256;
        }
    }

    /// Whether a bug is planted.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.planted.is(bug)
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ReplicaId {
        self.header.replica
    }

    /// The space where its rows belong, once a holder has named one.
    #[must_use]
    pub const fn space(&self) -> Option<&SpaceId> {
        self.header.space.as_ref()
    }

    /// The last log entry applied.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The last log entry that the pages hold.
    #[must_use]
    pub const fn folded(&self) -> u64 {
        self.folded
    }

    /// What the peer has sent.
    #[must_use]
    pub const fn base(&self) -> &Base {
        &self.base
    }

    /// The outbox.
    #[must_use]
    pub const fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Whose records these are, once welcomed.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.header.principal.as_deref()
    }

    /// The greatest own stamp known to be acknowledged.
    #[must_use]
    pub const fn acked(&self) -> Hlc {
        self.header.acked
    }

    /// Incarnations before the last welcomed one, newest last; at most [`PAST_INCARNATIONS_MAX`].
    #[must_use]
    pub fn past_incarnations(&self) -> &[Incarnation] {
        &self.header.past
    }

    /// Whether the peer may have something of this id that neither the base nor the outbox has: a row that may count
    /// waits for its user, goes again because he insists, or was given up.
    #[must_use]
    pub fn may_have_left(&self) -> bool {
        let mut rows = self.overlay.rows().map(|(_, outbox)| outbox);
        self.header.gave_up || rows.any(|outbox| outbox.may_count() || outbox.row.insisted)
    }

    /// Whether the peer, or any before it, has denied this replica its id: it takes another one before it is
    /// used again, also where nobody knows of that.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        self.header.denied
    }

    /// The incarnations that a hello names: the last welcomed one and all since.
    #[must_use]
    pub fn incarnations(&self) -> Vec<Incarnation> {
        self.header.welcomed.iter().chain(&self.header.since).copied().collect()
    }

    /// The last epochs welcomed, newest first; at most [`EPOCHS_MAX`].
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        let mut newest: Vec<Epoch> = Vec::new();
        for (_, epoch) in self.header.epochs.iter().rev() {
            if newest.len() < EPOCHS_MAX && !newest.contains(epoch) {
                newest.push(*epoch);
            }
        }
        newest
    }

    /// The last epoch that is known to have been welcomed.
    pub(super) fn epoch_last(&self) -> Option<Epoch> {
        self.header.epochs.last().map(|(_, epoch)| *epoch)
    }

    /// The epoch of a record, by its number; `None` if its welcome is damaged, or so many others were welcomed
    /// since that it is forgotten.
    #[must_use]
    pub fn epoch(&self, number: u32) -> Option<Epoch> {
        let at = self.header.epochs.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        self.header.epochs.get(at).map(|(_, epoch)| *epoch)
    }

    /// The peer's wall clock less ours, as last learnt, in milliseconds.
    #[must_use]
    pub const fn skew_ms(&self) -> i64 {
        self.header.skew_ms
    }

    /// Root of what is visible of a subscription.
    pub fn root(&mut self, subscription: usize) -> Option<Digest> {
        let (pattern, _) = self.header.standings.get(subscription)?;
        Some(self.base.root(pattern))
    }

    /// The base, for walking its trees.
    pub fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    /// A clock that continues behind everything issued and seen.
    #[must_use]
    pub fn clock(&self) -> HlcClock {
        HlcClock::resume(self.header.clock.max(self.header.observed))
    }

    /// The wall clock as the peer would read it, as far as that is known.
    #[must_use]
    pub fn corrected(&self, wall: WallMillis) -> WallMillis {
        WallMillis(wall.0.saturating_add_signed(self.header.skew_ms))
    }

    /// The record as the app sees it: base joined with the outbox.
    ///
    /// # Errors
    /// [`CodecError`] when stored bytes are damaged.
    pub fn view(&self, key: &RecordKey) -> Result<Record, CodecError> {
        self.view_before(key, self.tentative.map_or(u64::MAX, |(first, _)| first))
    }

    /// The record as the app saw it before row `end`.
    pub(super) fn view_before(&self, key: &RecordKey, end: u64) -> Result<Record, CodecError> {
        if let Some(record) = self.before_write.peek(key, end, &self.overlay) {
            return Ok(record);
        }
        let mut record = self.base.record(key)?;
        let seen = record.seen.clone();
        self.overlay.replay(key, &seen, 0..end, &mut record);
        Ok(record)
    }

    /// What was remembered of these records does not hold any more.
    pub(super) fn forget_replays<'a>(&mut self, keys: impl IntoIterator<Item = &'a RecordKey>) {
        for key in keys {
            self.before_push.forget(key);
            self.before_write.forget(key);
        }
    }

    /// Names of up to `limit` records of `collection` that the base or a row writes, live or not, ascending
    /// by id, behind `after`.
    #[must_use]
    pub fn keys_after(
        &self,
        collection: &CollectionName,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<RecordKey> {
        let start = after.map_or_else(|| RecordKey::before_all_of(collection), RecordKey::clone);
        let within = |key: &&RecordKey| key.collection == *collection;
        let behind = |key: &&RecordKey| **key != start;
        let held = self.base.range_from(&start).map(|(key, _)| key).take_while(within);
        let mut held = held.filter(behind).peekable();
        let written = self.overlay.keys_from(start.clone()).take_while(within);
        let mut written = written.filter(behind).peekable();
        let next = || match (held.peek(), written.peek()) {
            (Some(left), Some(right)) if left == right => {
                held.next();
                written.next()
            }
            (Some(left), Some(right)) if left > right => written.next(),
            (Some(_), _) => held.next(),
            (None, _) => written.next(),
        };
        core::iter::from_fn(next).take(limit).cloned().collect()
    }

    /// Applies the log entry after [`Self::last`].
    ///
    /// # Errors
    /// [`CodecError`] when the stored bytes are damaged or of a later version; nothing was changed.
    pub fn apply_encoded(&mut self, bytes: &[u8]) -> Result<Applied, CodecError> {
        let entry = decode_entry(bytes)?;
        self.apply(entry)
    }

    /// Applies the log entry after [`Self::last`].
    ///
    /// # Errors
    /// [`CodecError`] when a message within it cannot be decoded; nothing was changed.
    pub fn apply(&mut self, entry: Entry) -> Result<Applied, CodecError> {
        let mut applied = Applied::default();
        // A commit stands behind all other rows.
        let is_behind = matches!(entry, Entry::Commit(_));
        match entry {
            Entry::Commit(row) => self.commit(row, &mut applied),
            Entry::Feed(bytes) => {
                self.unfolded_bytes += bytes.len();
                applied.received_bytes = bytes.len();
                if let Message::Changes(changes) = wire::decode(&bytes)? {
                    self.feed(changes, &mut applied);
                }
            }
            Entry::Staged(bytes) => self.staged_message(bytes, &mut applied)?,
            Entry::Opened(opened) => self.chunk(opened, &mut applied),
            Entry::HealBegun { subscription, seq, horizon, time } => {
                let begun = Healing { seq, reach: seq, horizon, time, ..Healing::default() };
                self.heal_begun(subscription, begun, &mut applied);
            }
            Entry::Healed { subscription, gone, reach } => {
                self.healed(subscription, gone, reach);
                if self.has(Bug::VisibleAtWalkEnd) {
                    self.cut_at_heal(subscription, &mut applied);
                }
            }
            Entry::Settled(rows) => self.settled(rows, &mut applied),
            Entry::Restamped { rows, skew_ms } => {
                self.header.skew_ms = skew_ms;
                self.restamped(&rows, &mut applied);
            }
            Entry::Session(incarnation) => self.header.remember(incarnation),
            Entry::Welcomed(welcomed) => self.welcomed(welcomed),
            Entry::Reborn { replica, accepted, unsure, restamped } => {
                self.reborn(replica, &accepted, &unsure, &restamped, &mut applied);
            }
            Entry::Dropped(number) => {
                if let Some(gone) = self.forget(number) {
                    self.header.gave_up |= gone.may_count();
                    applied.keys.extend(gone.row.writes.into_iter().map(|write| write.key));
                }
            }
            // Who was first counts.
            Entry::Bound(space) => drop(self.header.space.get_or_insert(space)),
            Entry::Adopted(principal) => {
                self.header.principal = Some(principal);
                self.header.denied = true;
            }
            Entry::Denied => self.header.denied = true,
            Entry::Subscribed { patterns, only } => {
                let rested = only && self.rest_but(&patterns);
                applied.subscribed = self.subscribe(&patterns) || rested;
            }
            Entry::Stated { subscriptions, seq, horizon, time } => {
                for subscription in subscriptions {
                    self.stands_at(subscription, (seq, horizon, time), &mut applied);
                }
            }
        }
        self.end_recorded(&mut applied);
        if !is_behind {
            self.forget_replays(&applied.keys);
        }
        self.last += 1;
        Ok(applied)
    }

    /// Ends the rows of which it is on record that the entry after [`Self::last`] ended them.
    pub(super) fn end_recorded(&mut self, applied: &mut Applied) {
        let ended = self.catching_up.as_mut().and_then(|ended| ended.remove(&(self.last + 1)));
        for number in ended.into_iter().flatten() {
            self.end_row(number, applied);
        }
    }

    fn commit(&mut self, row: Row, applied: &mut Applied) {
        if self.in_doubt && row.stamp.replica != self.header.replica {
            // The entry that gave it this id is the one that is lost.
            self.header.replica = row.stamp.replica;
            self.header.acked = Hlc::ZERO;
        }
        applied.keys.extend(row.writes.iter().map(|write| write.key.clone()));
        self.header.clock = self.header.clock.max(row.stamp.hlc);
        applied.subscribed = self.wake(&row);
        if self.planted.is(Bug::OverlayInBase) {
            self.base.plant(&row);
        }
        self.overlay.insert(self.last + 1, row, RowState::Waiting);
    }

    fn welcomed(&mut self, welcomed: Welcomed) {
        self.header.welcome(welcomed.incarnation);
        self.header.principal = Some(welcomed.principal);
        self.header.skew_ms = welcomed.skew_ms;
        if self.epoch_last() != Some(welcomed.epoch) && !self.has(Bug::SettledForGood) {
            // Another run of the peer may have lost what an earlier one had acknowledged.
            self.overlay.unsettle(self.header.replica, |at| at <= welcomed.kept);
        }
        self.header.enter(welcomed.epoch);
        for subscription in welcomed.good {
            if let Some((_, standing)) = standing_mut(&mut self.header.standings, subscription) {
                standing.epoch = Some(welcomed.epoch);
            }
        }
        for (at, (_, standing)) in (0..).zip(&mut self.header.standings) {
            // A snapshot that goes on: what it has staged is part of this history too, and more will come.
            if standing.heal.is_some() && !standing.arrived && !welcomed.afresh.contains(&at) {
                standing.epoch = Some(welcomed.epoch);
            }
        }
        for subscription in welcomed.afresh {
            if let Some((pattern, standing)) =
                standing_mut(&mut self.header.standings, subscription)
            {
                self.base.unstage(pattern);
                standing.start_over();
            }
        }
        for subscription in welcomed.stale {
            if let Some((_, standing)) = standing_mut(&mut self.header.standings, subscription) {
                standing.go_stale();
            }
        }
    }

    /// Numbers of durable rows from `number` on.
    pub fn durable_from(&self, number: u64) -> impl Iterator<Item = u64> {
        let end = self.tentative.map_or(u64::MAX, |(first, _)| first);
        self.overlay.rows_from(number).map(|(number, _)| number).take_while(move |n| *n < end)
    }

    /// Whether rows are applied that are not durable.
    #[must_use]
    pub const fn is_tentative(&self) -> bool {
        self.tentative.is_some()
    }

    /// How many rows wait, and how many were refused.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.overlay.counts()
    }

    /// What of the outbox has not been acknowledged or refused.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        let end = self.tentative.map_or(u64::MAX, |(first, _)| first);
        self.overlay
            .rows()
            .take_while(move |(number, _)| *number < end)
            .filter(|(_, outbox)| outbox.state == RowState::Waiting)
            .map(|(number, _)| number)
    }
}
