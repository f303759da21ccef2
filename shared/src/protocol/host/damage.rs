//! Damaged rows: what they are, and what is made of each.
//!
//! Whatever is derived from a record is derived again. A record that is damaged or missing is moved aside, and a
//! new epoch opens that no earlier position belongs to: whoever holds the record returns it, as to a store that
//! has lost a part of its history (`docs/PROTOCOL.md` 3.6). Where it stood tells nothing of when its parts came,
//! so no position of the old epochs can be kept. Of a row that says what was accepted the most careful reading is
//! taken: a stamp that may have been accepted is never taken twice, nor for another row's.
//!
//! Invariant: nothing is written of a row before it was read again and found the same; what cannot be read is kept
//! (`damaged/`) until the horizon has passed it, at most [`QUARANTINE_MAX`] rows of a store. A row of a later version is
//! not damaged. Absent: looking for damage (see `scrub`).

use super::{
    heal::{Collection, get_record},
    horizon::{self, Horizon},
    layout::{self, Accepted, CopiedRow, CopyRow, Head, ReplicaRow, Stored, TreeRow},
    slice::copy_of,
    survey::Survey,
};
use crate::{
    codec::{CodecError, CodecFault},
    hlc::{Hlc, Stamp},
    id::{CollectionName, Digest, Epoch, Incarnation, RecordKey, ReplicaId, Seq, key_hash},
    io::{Answer, Batch, Keyspace, Query},
    planted::{Bug, Planted},
    protocol::message::{Left, Origin},
    sorted::{SortedMap, SortedSet},
};
use alloc::{string::String, vec::Vec};

/// Damaged rows of which the bytes are kept.
pub(super) const QUARANTINE_MAX: u64 = 256;

/// A row that a read has found damaged or missing, if it can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damaged {
    pub(super) error: CodecError,
    pub(super) suspect: Option<Suspect>,
}

impl From<CodecError> for Damaged {
    fn from(error: CodecError) -> Self {
        Self { error, suspect: None }
    }
}

impl Damaged {
    /// The row of the feed that names a record.
    pub(super) fn fed(key: &RecordKey, seq: Seq, error: CodecError) -> Self {
        Self { error, suspect: Some(Suspect::Record(key.clone(), Some(seq))) }
    }

    pub(super) fn record(key: &RecordKey, error: CodecError) -> Self {
        Self { error, suspect: Some(Suspect::record(key)) }
    }

    pub(super) const fn head(error: CodecError) -> Self {
        Self { error, suspect: Some(Suspect::Head) }
    }

    pub(super) const fn row(keyspace: Keyspace, key: Vec<u8>, error: CodecError) -> Self {
        Self { error, suspect: Some(Suspect::Row(keyspace, key)) }
    }

    /// A record that rows of the feed have named: nothing else may.
    pub(super) fn named_by(mut self, rows: &[(Seq, RecordKey)]) -> Self {
        if let Some(Suspect::Record(key, fed @ None)) = &mut self.suspect {
            *fed = rows.iter().find(|(_, named)| named == key).map(|(seq, _)| *seq);
        }
        self
    }
}

/// A later version has written it: nothing of it is touched.
pub(super) fn is_later(error: &CodecError) -> bool {
    matches!(error.kind, CodecFault::Version(_))
}

/// Stands where it is not known which incarnation was the last: no replica ever has this one.
pub(super) const NOBODYS: Incarnation = Incarnation::from_bytes([0; 16]);

/// A row that is not there.
pub(super) const MISSING: CodecError = CodecError { at: 0, kind: CodecFault::Truncated };

/// What is to be read again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suspect {
    Head,
    Lineage,
    Horizon,
    /// Which rows were accepted at a time.
    Ledger(Hlc),
    Replica(ReplicaId),
    Returned(ReplicaId),
    Accepted(ReplicaId, Hlc),
    Copied(ReplicaId),
    /// Of a row by its origin, and the stamp that it was accepted with, where an accepted row tells that.
    Copy(Origin, Option<Stamp>),
    /// A record, or what is derived from it; and a position at which the feed names it.
    Record(RecordKey, Option<Seq>),
    /// A row of a tree of which no feed row tells the record.
    Leaf(CollectionName, Digest),
    /// A row whose key says nothing.
    Row(Keyspace, Vec<u8>),
}

impl Suspect {
    pub(super) fn record(key: &RecordKey) -> Self {
        Self::Record(key.clone(), None)
    }

    /// A row of the index of accepted rows.
    pub(super) fn ledger(key: Vec<u8>) -> Self {
        layout::parse_ledger_key(&key).map_or(Self::Row(Keyspace::Meta, key), Self::Ledger)
    }
}

/// A damaged row, as the log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamagedRow {
    /// The end of the feed.
    Head,
    /// Where earlier epochs were left.
    Lineage,
    /// Up to when what is dead was collected.
    Horizon,
    /// Which rows were accepted at one time: it is never forgotten that they were.
    Ledger(Hlc),
    /// Whose a replica id is.
    Replica(ReplicaId),
    /// How far a replica's rows were brought back by others.
    Returned(ReplicaId),
    /// That a row was accepted.
    Accepted(Stamp),
    /// That a row of this first stamp was accepted under another one.
    Copy(Stamp),
    /// Up to when rows that were first a replica's were accepted under other stamps.
    Copied(ReplicaId),
    /// A record.
    Record(RecordKey),
    /// What the trees or the feed say of a record.
    Derived(RecordKey),
    /// A row of a collection's tree that names no record.
    Leaf(CollectionName),
    /// A row without a meaning, by its keyspace.
    Unnamed(Keyspace),
}

/// What was made of a damaged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mended {
    /// It is again what it was.
    Derived,
    /// It is gone, or an older one is in its place; peers that hold the record bring it back.
    Lost,
    /// What it said is not known: the most careful reading holds.
    Assumed,
}

/// The epoch that follows another one at a head: every commit that opens it is guarded by that head, so no two
/// histories share it.
pub(super) fn next_epoch(epoch: &Epoch, head: &[u8]) -> Epoch {
    let digest = Digest::of("rejoin.epoch.v1", &[epoch.as_bytes(), head]);
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.as_bytes()).for_each(|(out, byte)| *out = *byte);
    Epoch::from_bytes(bytes)
}

/// What suspects turned out to need.
#[derive(Debug, Default)]
pub(super) struct Mend {
    pub(super) batch: Batch,
    /// Digests that the trees in memory must have; `None`: no such record.
    pub(super) leaves: SortedMap<(CollectionName, Digest), Option<(Digest, u64)>>,
    pub(super) told: Vec<(DamagedRow, Mended)>,
    /// Rows that were put right.
    pub(super) repaired: u64,
    /// Whether the records must be surveyed before anything can be decided.
    pub(super) asks: bool,
    /// The head and lineage of the epoch that opens.
    pub(super) renews: Option<(Head, Vec<Left>)>,
    kept: u64,
    /// The clock of the last commit.
    now: Hlc,
    loses: bool,
    /// Times that count as come back, by replica.
    returned: SortedMap<ReplicaId, Hlc>,
}

/// What the host has in memory, and suspects are judged by.
pub(super) struct Context<'a> {
    pub(super) head: Head,
    pub(super) head_bytes: &'a Option<Vec<u8>>,
    pub(super) lineage: &'a [Left],
    pub(super) horizon: &'a Horizon,
    pub(super) collections: &'a SortedMap<CollectionName, Collection>,
    /// Nobody was welcomed in this epoch since it was opened for what was lost: it can lose more.
    pub(super) is_unheard: bool,
    /// Peers are told of the trees in memory.
    pub(super) is_serving: bool,
    /// What all records together say, once that was asked.
    pub(super) survey: Option<&'a Survey>,
    pub(super) planted: Planted,
}

impl Context<'_> {
    fn leaf(&self, (collection, hash): &(CollectionName, Digest)) -> Option<Digest> {
        self.collections.get(collection)?.trie.get(hash)
    }
}

/// What is read of suspects.
pub(super) fn queries(suspects: &SortedSet<Suspect>) -> Vec<Query> {
    let get = |keyspace, key| Query::Get { keyspace, key };
    let mut queries = alloc::vec![get(Keyspace::Meta, layout::QUARANTINE_KEY.to_vec())];
    for suspect in suspects {
        match suspect {
            Suspect::Head => queries.push(get(Keyspace::Meta, layout::HEAD_KEY.to_vec())),
            Suspect::Lineage => queries.push(get(Keyspace::Meta, layout::LINEAGE_KEY.to_vec())),
            Suspect::Horizon => queries.push(get(Keyspace::Meta, layout::HORIZON_KEY.to_vec())),
            Suspect::Ledger(at) => queries.push(get(Keyspace::Meta, layout::ledger_key(*at))),
            Suspect::Replica(replica) => {
                queries.push(get(Keyspace::Meta, layout::replica_key(replica)));
            }
            Suspect::Returned(replica) => {
                queries.push(get(Keyspace::Meta, layout::returned_key(replica)));
            }
            Suspect::Accepted(replica, hlc) => {
                queries.push(get(Keyspace::Log, layout::log_key(replica, *hlc)));
                queries.push(get(Keyspace::Meta, layout::returned_key(replica)));
            }
            Suspect::Copied(replica) => {
                queries.push(get(Keyspace::Meta, layout::copied_key(replica)));
            }
            Suspect::Copy(origin, stamp) => {
                queries.push(get(Keyspace::Log, layout::origin_key(origin)));
                let stamp = stamp.unwrap_or(origin.stamp);
                queries.push(get(Keyspace::Log, layout::log_key(&stamp.replica, stamp.hlc)));
            }
            Suspect::Record(key, _) => {
                queries.push(get_record(key));
                let place = layout::tree_key(&key.collection, &key_hash(key));
                queries.push(get(Keyspace::Tree, place));
            }
            Suspect::Leaf(collection, hash) => {
                queries.push(get(Keyspace::Tree, layout::tree_key(collection, hash)));
            }
            Suspect::Row(keyspace, key) => queries.push(get(*keyspace, key.clone())),
        }
    }
    queries
}

impl Mend {
    /// Decides what becomes of suspects that were read again.
    ///
    /// # Errors
    /// [`CodecError`] when a row is of a later version, or the head is not the one in memory: nothing may be
    /// written then.
    pub(super) fn decide(
        suspects: &SortedSet<Suspect>,
        answers: Vec<Answer>,
        context: &Context<'_>,
    ) -> Result<Self, CodecError> {
        let mut values = answers.into_iter().map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        });
        let mut next = || values.next().flatten();
        // A count that is damaged itself costs what was kept under the same numbers.
        let kept = next().and_then(|value| layout::decode_count(&value).ok()).unwrap_or_default();
        let mut mend = Self { kept, now: context.head.clock, ..Self::default() };
        for suspect in suspects {
            let value = next();
            match suspect {
                Suspect::Head => mend.head(value, context)?,
                Suspect::Lineage => mend.lineage(value, context)?,
                Suspect::Horizon => mend.horizon(value, context)?,
                Suspect::Ledger(at) => mend.ledger(*at, value)?,
                Suspect::Replica(replica) => mend.replica(replica, value, context)?,
                Suspect::Returned(replica) => mend.returned(replica, value, context)?,
                Suspect::Accepted(replica, hlc) => {
                    let own = Stamp { hlc: *hlc, replica: *replica };
                    mend.accepted(own, value, next().as_deref(), context)?;
                }
                Suspect::Copied(replica) => mend.copied(replica, value, context)?,
                Suspect::Copy(origin, stamp) => {
                    let row = stamp.zip(whole(next().as_deref().map(Accepted::decode))?);
                    mend.copy(origin, value, row, context)?;
                }
                Suspect::Record(key, fed) => {
                    mend.record(key, *fed, value, next().as_deref(), context)?;
                }
                Suspect::Leaf(collection, hash) => mend.leaf(collection, hash, value, context)?,
                Suspect::Row(keyspace, key) => mend.row(*keyspace, key, value),
            }
        }
        mend.close(context);
        Ok(mend)
    }

    fn head(&mut self, value: Option<Vec<u8>>, context: &Context<'_>) -> Result<(), CodecError> {
        if value == *context.head_bytes {
            return Ok(());
        }
        match value.as_deref().map(Head::decode) {
            // Another host has the store: the next commit finds out.
            Some(Ok(_)) => Ok(()),
            Some(Err(later)) if is_later(&later) => Err(later),
            Some(Err(_)) | None => {
                self.keep(Keyspace::Meta, layout::HEAD_KEY, value.clone());
                let key = || layout::HEAD_KEY.to_vec();
                self.batch.guard(Keyspace::Meta, key(), value);
                self.batch.put(Keyspace::Meta, key(), context.head.encode());
                self.tell(DamagedRow::Head, Mended::Derived);
                Ok(())
            }
        }
    }

    fn lineage(&mut self, value: Option<Vec<u8>>, context: &Context<'_>) -> Result<(), CodecError> {
        if whole(value.as_deref().map(layout::decode_lineage))?.is_some() {
            return Ok(());
        }
        self.keep(Keyspace::Meta, layout::LINEAGE_KEY, value);
        let lineage = layout::encode_lineage(context.lineage);
        self.batch.put(Keyspace::Meta, layout::LINEAGE_KEY.to_vec(), lineage);
        self.tell(DamagedRow::Lineage, Mended::Derived);
        Ok(())
    }

    fn horizon(&mut self, value: Option<Vec<u8>>, context: &Context<'_>) -> Result<(), CodecError> {
        let known = whole(value.as_deref().map(layout::decode_horizon))?;
        if known.is_some() || (value.is_none() && *context.horizon == Horizon::default()) {
            return Ok(());
        }
        self.keep(Keyspace::Meta, layout::HORIZON_KEY, value);
        let horizon = layout::encode_horizon(context.horizon);
        self.batch.put(Keyspace::Meta, layout::HORIZON_KEY.to_vec(), horizon);
        self.tell(DamagedRow::Horizon, Mended::Derived);
        Ok(())
    }

    /// Which rows it named is not known. They stay accepted for good, which harms nobody.
    fn ledger(&mut self, at: Hlc, value: Option<Vec<u8>>) -> Result<(), CodecError> {
        if value.is_none() || whole(value.as_deref().map(layout::decode_ledger))?.is_some() {
            return Ok(());
        }
        let key = layout::ledger_key(at);
        self.keep(Keyspace::Meta, &key, value);
        self.batch.delete(Keyspace::Meta, key);
        self.tell(DamagedRow::Ledger(at), Mended::Assumed);
        Ok(())
    }

    /// Whose the id was is not known: nobody goes on with it, and whoever held it asks what was accepted.
    fn replica(
        &mut self,
        replica: &ReplicaId,
        value: Option<Vec<u8>>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        if value.is_none() || whole(value.as_deref().map(ReplicaRow::decode))?.is_some() {
            return Ok(());
        }
        let key = layout::replica_key(replica);
        self.keep(Keyspace::Meta, &key, value);
        let row = ReplicaRow {
            principal: String::new(),
            incarnation: NOBODYS,
            accepted: Some(context.head.clock),
        };
        self.batch.put(Keyspace::Meta, key, row.encode());
        self.tell(DamagedRow::Replica(*replica), Mended::Assumed);
        Ok(())
    }

    /// Whatever came back is in some record: no more of the replica can have come than the greatest time there.
    fn returned(
        &mut self,
        replica: &ReplicaId,
        value: Option<Vec<u8>>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        if value.is_none() || whole(value.as_deref().map(layout::decode_time))?.is_some() {
            return Ok(());
        }
        let key = layout::returned_key(replica);
        self.keep(Keyspace::Meta, &key, value);
        match self.surveyed(replica, context) {
            Some(greatest) => {
                self.batch.put(Keyspace::Meta, key, layout::encode_time(greatest));
            }
            None => self.batch.delete(Keyspace::Meta, key),
        }
        self.tell(DamagedRow::Returned(*replica), Mended::Derived);
        Ok(())
    }

    fn surveyed(&mut self, replica: &ReplicaId, context: &Context<'_>) -> Option<Hlc> {
        self.asks |= context.survey.is_none();
        context.survey?.seen(replica)
    }

    /// Which row it was is not known, only that there was one: as of a row that others brought back.
    fn accepted(
        &mut self,
        own: Stamp,
        value: Option<Vec<u8>>,
        returned: Option<&[u8]>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        if value.is_none() || whole(value.as_deref().map(Accepted::decode))?.is_some() {
            return Ok(());
        }
        let returned = match returned.map(layout::decode_time) {
            None => None,
            Some(Ok(hlc)) => Some(hlc),
            Some(Err(later)) if is_later(&later) => return Err(later),
            Some(Err(_)) => self.surveyed(&own.replica, context),
        };
        let key = layout::log_key(&own.replica, own.hlc);
        self.keep(Keyspace::Log, &key, value);
        self.batch.delete(Keyspace::Log, key);
        // Several rows of one replica may be damaged: the greatest counts.
        let place = layout::returned_key(&own.replica);
        let told = self.returned.get(&own.replica).copied();
        let greatest = told.into_iter().chain(returned).fold(own.hlc, Hlc::max);
        self.returned.insert(own.replica, greatest);
        self.batch.put(Keyspace::Meta, place, layout::encode_time(greatest));
        self.tell(DamagedRow::Accepted(own), Mended::Assumed);
        Ok(())
    }

    /// Any row of the replica may have been accepted under another stamp: it asks about all that wait.
    fn copied(
        &mut self,
        replica: &ReplicaId,
        value: Option<Vec<u8>>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        if value.is_none() || whole(value.as_deref().map(CopiedRow::decode))?.is_some() {
            return Ok(());
        }
        let key = layout::copied_key(replica);
        self.keep(Keyspace::Meta, &key, value);
        // The first of them may have been forgotten by now.
        let lost = CopiedRow { upto: context.head.clock, since: Hlc::ZERO };
        self.batch.put(Keyspace::Meta, key, lost.encode());
        self.tell(DamagedRow::Copied(*replica), Mended::Assumed);
        Ok(())
    }

    /// The key tells which row was accepted; under which stamp, an accepted row does that a scrub finds. Until then
    /// nobody can say more than that it was.
    fn copy(
        &mut self,
        origin: &Origin,
        value: Option<Vec<u8>>,
        row: Option<(Stamp, Accepted)>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        let known = whole(value.as_deref().map(CopyRow::decode))?;
        let told = row.and_then(|(stamp, row)| copy_of(stamp, &row));
        let told = told.filter(|(of, _)| of == origin).map(|(_, copy)| copy);
        let is_right = told.is_none_or(|told| known == Some(told));
        if is_right && (known.is_some() || value.is_none()) {
            return Ok(());
        }
        let lost = CopyRow { stamp: None, seq: context.head.seq };
        let key = layout::origin_key(origin);
        if known.is_none() {
            self.keep(Keyspace::Log, &key, value);
        }
        self.batch.put(Keyspace::Log, key, told.unwrap_or(lost).encode());
        let mended = if told.is_some() { Mended::Derived } else { Mended::Assumed };
        self.tell(DamagedRow::Copy(origin.stamp), mended);
        Ok(())
    }

    fn record(
        &mut self,
        key: &RecordKey,
        fed: Option<Seq>,
        value: Option<Vec<u8>>,
        row: Option<&[u8]>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        let hash = key_hash(key);
        let place = layout::tree_key(&key.collection, &hash);
        let known = whole(row.map(TreeRow::decode))?;
        let places = known.as_ref().map(|known| known.seq).into_iter().chain(fed);
        let leaf = (key.collection.clone(), hash);
        match value.as_deref().map(Stored::decode) {
            Some(Err(later)) if is_later(&later) => return Err(later),
            Some(Ok(stored)) => {
                let (_, row) = layout::tree_row(key, &stored);
                // It is whole, and not the last that was written: that never reached the disk.
                let is_stale = places.clone().any(|seq| seq > row.seq);
                for seq in places.filter(|seq| *seq != row.seq) {
                    self.batch.delete(Keyspace::Feed, layout::feed_key(seq, key));
                }
                // Peers that were told of another tree have built on what was missing in it: they heal before
                // they push.
                self.loses |= context.is_serving && context.leaf(&leaf) != Some(row.digest);
                match stored.record.burial() {
                    Some(at) if at <= context.horizon.at => {
                        horizon::delete_record(&mut self.batch, key, row.seq);
                        self.batch.delete(Keyspace::Meta, layout::grave_key(at, key));
                        self.leaves.insert(leaf, None);
                    }
                    burial => {
                        self.derive(key, &stored, (known.as_ref() != Some(&row)).then_some(&row));
                        if let Some(at) = burial {
                            self.batch.put(Keyspace::Meta, layout::grave_key(at, key), Vec::new());
                        }
                        self.leaves.insert(leaf, Some((row.digest, row.len)));
                    }
                }
                if is_stale {
                    self.tell(DamagedRow::Record(key.clone()), Mended::Lost);
                    self.loses |= !context.planted.is(Bug::QuarantinedSilently);
                } else {
                    self.tell(DamagedRow::Derived(key.clone()), Mended::Derived);
                }
            }
            // It was not there when it was looked for, and is not now.
            None if !(fed.is_some() || row.is_some() || context.leaf(&leaf).is_some()) => {}
            Some(Err(_)) | None => {
                let named = DamagedRow::Record(key.clone());
                if !self.told.iter().any(|(row, _)| *row == named) {
                    self.keep(Keyspace::Records, &layout::record_key(key), value);
                    self.tell(named, Mended::Lost);
                }
                self.batch.delete(Keyspace::Records, layout::record_key(key));
                self.batch.delete(Keyspace::Tree, place);
                for seq in places {
                    self.batch.delete(Keyspace::Feed, layout::feed_key(seq, key));
                }
                self.leaves.insert(leaf, None);
                self.loses |= !context.planted.is(Bug::QuarantinedSilently);
            }
        }
        Ok(())
    }

    /// What the feed, and where that differs the tree, say of a record.
    fn derive(&mut self, key: &RecordKey, stored: &Stored, row: Option<&TreeRow>) {
        let len = layout::encode_len(stored.bytes.len());
        self.batch.put(Keyspace::Feed, layout::feed_key(stored.positions.latest, key), len);
        if let Some(row) = row {
            let place = layout::tree_key(&key.collection, &key_hash(key));
            self.batch.put(Keyspace::Tree, place, row.encode());
        }
    }

    /// Of which record it was is not known, and no record has that hash: it is lost.
    fn leaf(
        &mut self,
        collection: &CollectionName,
        hash: &Digest,
        value: Option<Vec<u8>>,
        context: &Context<'_>,
    ) -> Result<(), CodecError> {
        if value.is_none() || whole(value.as_deref().map(TreeRow::decode))?.is_some() {
            return Ok(());
        }
        self.asks |= context.survey.is_none();
        let key = layout::tree_key(collection, hash);
        self.keep(Keyspace::Tree, &key, value);
        self.batch.delete(Keyspace::Tree, key);
        self.leaves.insert((collection.clone(), *hash), None);
        self.loses = true;
        self.tell(DamagedRow::Leaf(collection.clone()), Mended::Lost);
        Ok(())
    }

    /// What it was derived from is found without it.
    fn row(&mut self, keyspace: Keyspace, key: &[u8], value: Option<Vec<u8>>) {
        if value.is_some() {
            if let (Keyspace::Tree, Ok(leaf)) = (keyspace, layout::parse_tree_key(key)) {
                self.leaves.insert(leaf, None);
            }
            self.keep(keyspace, key, value);
            self.batch.delete(keyspace, key.to_vec());
            self.tell(DamagedRow::Unnamed(keyspace), Mended::Derived);
        }
    }

    fn tell(&mut self, row: DamagedRow, mended: Mended) {
        self.repaired += 1;
        self.told.push((row, mended));
    }

    /// Keeps damaged bytes for whoever wants to look at them.
    fn keep(&mut self, keyspace: Keyspace, key: &[u8], value: Option<Vec<u8>>) {
        let Some(value) = value.filter(|_| self.kept < QUARANTINE_MAX) else {
            return;
        };
        let place = layout::quarantine_key(self.now, self.kept, keyspace, key);
        self.batch.put(Keyspace::Meta, place, value);
        self.kept += 1;
        let count = layout::encode_count(self.kept);
        self.batch.put(Keyspace::Meta, layout::QUARANTINE_KEY.to_vec(), count);
    }

    /// Guards what is written, and opens the next epoch where something is lost.
    fn close(&mut self, context: &Context<'_>) {
        if self.batch.writes.is_empty() {
            return;
        }
        let key = || layout::HEAD_KEY.to_vec();
        if self.batch.guards.is_empty() {
            self.batch.guard(Keyspace::Meta, key(), context.head_bytes.clone());
        }
        if !self.loses || context.is_unheard {
            return;
        }
        let before = &context.head;
        let bytes = context.head_bytes.as_deref().unwrap_or_default();
        let head = Head { epoch: next_epoch(&before.epoch, bytes), ..*before };
        // That this epoch was used is remembered; nothing of it is known any more.
        let left = Left { epoch: before.epoch, seq: Seq(0), hlc: before.clock };
        let lineage = alloc::vec![left];
        self.batch.put(Keyspace::Meta, key(), head.encode());
        let bytes = layout::encode_lineage(&lineage);
        self.batch.put(Keyspace::Meta, layout::LINEAGE_KEY.to_vec(), bytes);
        self.renews = Some((head, lineage));
    }
}

/// A row, if it is there and whole.
///
/// # Errors
/// [`CodecError`] when it is of a later version.
pub(super) fn whole<T>(row: Option<Result<T, CodecError>>) -> Result<Option<T>, CodecError> {
    match row {
        Some(Ok(row)) => Ok(Some(row)),
        Some(Err(later)) if is_later(&later) => Err(later),
        Some(Err(_)) | None => Ok(None),
    }
}
