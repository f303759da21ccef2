//! A write counts once, however often its row was copied: rows are known by their origins.
//!
//! Two copies of a database push the same rows under different ids, or one under different stamps. Invariants: a
//! row's origin is stored in the commit that joins it, for as long as the row itself is kept as accepted, and both are
//! forgotten in one commit, unless the first time was ahead; of a copy of a forgotten row nobody says that it was not
//! accepted; whoever may have a copy is told of it before the changes that bring it (`docs/PROTOCOL.md` 3.7).

use super::{
    Host, PeerId,
    group::{Judging, Known},
    layout::{self, CopiedRow, CopyRow},
    peer::{Peer, Stage},
};
use crate::{
    hlc::{Hlc, Stamp},
    id::{ReplicaId, Seq},
    io::{Batch, Keyspace},
    planted::Bug,
    protocol::{
        limits::ORIGINS_MAX,
        message::{Copied, Message, Origin, PushRow, Recall, Taken},
    },
    sorted::{SortedMap, SortedSet},
    time::Now,
};
use alloc::vec::Vec;

/// What a group learns of origins.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// Rows accepted under another stamp than their first.
    copies: SortedMap<Origin, CopyRow>,
    /// How far there are such first stamps, by their replicas.
    copied: SortedMap<ReplicaId, CopiedRow>,
    /// Rows that others may have copies of, and who pushed them.
    taken: Vec<(PeerId, Taken)>,
    /// Who has copies of other replicas' rows.
    watchers: SortedSet<PeerId>,
}

impl Origins {
    /// Where those are kept that are forgotten with their rows, of a commit at `clock`. One of a later time, which a
    /// clock that was ahead gave, is kept for good: nobody could tell what else such a clock gave that is forgotten.
    pub(super) fn keys(&self, clock: Hlc) -> impl Iterator<Item = Vec<u8>> {
        let past = self.copies.keys().filter(move |origin| origin.stamp.hlc <= clock);
        past.map(layout::origin_key)
    }

    pub(super) fn write(&self, batch: &mut Batch) {
        for (origin, row) in &self.copies {
            batch.put(Keyspace::Log, layout::origin_key(origin), row.encode());
        }
        for (replica, row) in &self.copied {
            batch.put(Keyspace::Meta, layout::copied_key(replica), row.encode());
        }
    }
}

/// What a row is, under whatever stamp it is pushed.
fn origin_of(replica: ReplicaId, row: &PushRow) -> Origin {
    let own = Stamp { hlc: row.hlc, replica };
    Origin { stamp: row.origin.unwrap_or(own), digest: row.digest }
}

impl Known {
    /// Adds what tells whether a copy of the row was accepted. Of a replica that was never copied only rows
    /// that name an origin can have been.
    pub(super) fn want_origin(&mut self, peer: &Peer, row: &PushRow) {
        let origin = origin_of(peer.hello.replica, row);
        let Stamp { hlc, replica } = origin.stamp;
        if row.origin.is_some() {
            self.accepted.insert((replica, hlc), None);
            self.replicas.insert(replica, None);
            self.returned.insert(replica, None);
        }
        if row.origin.is_some() || peer.is_copied {
            self.copies.insert(origin, None);
            self.copied.insert(replica, None);
        }
    }
}

impl Judging<'_> {
    /// The row that was accepted of all that have this origin.
    fn counted(&self, origin: &Origin) -> Option<CopyRow> {
        let first = (origin.stamp.replica, origin.stamp.hlc);
        let plain = self.known.accepted.get(&first).copied().flatten();
        let plain = plain.filter(|row| row.digest == origin.digest);
        let plain = plain.map(|row| CopyRow { stamp: Some(origin.stamp), seq: row.seq });
        plain.or_else(|| self.known.copies.get(origin).copied().flatten())
    }

    /// The same, as it is told.
    pub(super) fn taken(&self, origin: &Origin) -> Option<Taken> {
        let CopyRow { stamp, seq } = self.counted(origin)?;
        Some(Taken { origin: *origin, stamp: stamp?, seq })
    }

    /// A copy of a pushed row that was accepted under another stamp.
    pub(super) fn copy_of(&self, own: Stamp, row: &PushRow) -> Option<CopyRow> {
        let ignored =
            self.planted.is(Bug::OriginsIgnored) || self.planted.is(Bug::AcceptedForgotten);
        let counted = self.counted(&origin_of(own.replica, row));
        counted.filter(|copy| copy.stamp != Some(own) && !ignored)
    }

    /// Whether a row that did not count by all that is known may have all the same. Who goes on as its first replica
    /// finds out himself, when he pushes it, whether it did under its first stamp.
    pub(super) fn is_unsure(&self, peer: &Peer, origin: &Origin) -> bool {
        let first = &origin.stamp;
        let copied = self.known.copied.get(&first.replica).copied().flatten();
        let goes_on = peer.stage == Stage::Confirmed && first.replica == peer.hello.replica;
        let finds_out = goes_on && copied.is_some_and(|copied| first.hlc <= copied.upto);
        // Its effect may have come back, or that of another row with this stamp.
        let is_back = self.returned(&first.replica) >= Some(first.hlc);
        let is_free = self.accepted(first).is_none() && !finds_out;
        let is_lost = self.known.copies.get(origin).is_some_and(Option::is_some);
        (is_free && (is_back || self.is_forgotten(first, self.told(&first.replica))))
            || is_lost
            || self.may_be_copied(first)
    }

    /// Whether a pushed row may have been accepted under another stamp, and be forgotten. One that its user wants
    /// to count although it may have counted before counts once more.
    pub(super) fn is_forgotten_copy(&self, peer: &Peer, own: Stamp, row: &PushRow) -> bool {
        let first = origin_of(own.replica, row).stamp;
        if row.insisted || self.planted.is(Bug::OriginsIgnored) {
            return false;
        }
        let told = if first.replica == own.replica { peer.told } else { self.told(&first.replica) };
        let mut stored =
            row.writes.iter().filter_map(|write| self.known.records.get(&write.key)?.as_ref());
        // What was written later than the horizon would be there.
        let may_be =
            first.hlc <= self.horizon || stored.any(|stored| stored.record.seen.covers(&first));
        let plain = first != own && may_be && self.is_forgotten(&first, told);
        plain || self.may_be_copied(&first)
    }

    /// Whether a row of which this is the first stamp, and that is in no ledger, may have been in one under another.
    /// What was forgotten was committed by then, and its first stamp was not later than its commit.
    fn may_be_copied(&self, first: &Stamp) -> bool {
        let copied = self.known.copied.get(&first.replica).copied().flatten();
        let was_there =
            |copied: CopiedRow| first.hlc <= copied.upto && copied.since <= self.forgotten;
        first.hlc <= self.forgotten
            && copied.is_some_and(was_there)
            && !self.planted.is(Bug::UnsureIgnored)
    }

    /// The greatest time of a replica that was accepted, or that others have brought back.
    fn told(&self, replica: &ReplicaId) -> Option<Hlc> {
        let row = self.known.replicas.get(replica).and_then(Option::as_ref);
        row.and_then(|row| row.accepted).max(self.returned(replica))
    }

    /// Whether the effect of a pushed row, accepted under its first stamp and lost since, may have come back
    /// after its peer had asked for it: then it must ask again.
    pub(super) fn lost_copy_is_back(&self, peer: &Peer, row: &PushRow) -> bool {
        let Some(first) = row.origin else {
            return false;
        };
        let own = peer.hello.replica;
        let known = peer.origins.get(&first.replica).copied().flatten();
        let told = if first.replica == own { peer.told } else { known };
        let mut stored = row
            .writes
            .iter()
            .filter_map(|write| self.known.records.get(&write.key).and_then(Option::as_ref));
        self.returned(&first.replica) >= Some(first.hlc)
            && told < Some(first.hlc)
            && stored.any(|stored| stored.record.seen.covers(&first))
    }

    /// Keeps the origin of a row that is accepted; its stamp, if that is another one.
    pub(super) fn keep_origin(
        &mut self,
        peer: PeerId,
        replica: ReplicaId,
        row: &PushRow,
        seq: Seq,
    ) -> Option<Stamp> {
        let stamp = Stamp { hlc: row.hlc, replica };
        let origin = origin_of(replica, row);
        let is_first = origin.stamp == stamp;
        let is_kept = !is_first && !self.planted.is(Bug::OriginsUnstored);
        if is_kept {
            let copy = CopyRow { stamp: Some(stamp), seq };
            self.known.copies.insert(origin, Some(copy));
            self.judged.origins.copies.insert(origin, copy);
            let Stamp { hlc, replica } = origin.stamp;
            let known = self.known.copied.entry(replica).or_default();
            let new = known.map_or(
                // The commit is not earlier.
                CopiedRow { upto: hlc, since: self.clock.last() },
                |known| CopiedRow { upto: known.upto.max(hlc), ..known },
            );
            if *known != Some(new) {
                *known = Some(new);
                self.judged.origins.copied.insert(replica, new);
            }
        }
        if !is_first || self.watched {
            self.judged.origins.taken.push((peer, Taken { origin, stamp, seq }));
        }
        is_kept.then_some(origin.stamp)
    }

    /// A peer has named rows of other replicas: it will be told which of these are accepted. Of others it is not: the
    /// digest of a row shows who has a copy, and what is in it to whoever can guess that.
    pub(super) fn watch(&mut self, id: PeerId, peer: &mut Peer, recall: &Recall) {
        let own = peer.hello.replica;
        for origin in recall.rows.iter().filter(|origin| origin.stamp.replica != own) {
            let replica = origin.stamp.replica;
            if peer.origins.len() < ORIGINS_MAX || peer.origins.contains_key(&replica) {
                peer.origins.insert(replica, self.returned(&replica));
            }
            if peer.named.len() < ORIGINS_MAX && self.counted(origin).is_none() {
                peer.named.insert(*origin);
                self.judged.origins.watchers.insert(id);
                self.watched = true;
            }
        }
    }
}

impl Host {
    /// Tells those who may have copies of rows that were accepted. O(peers) where a row was accepted under
    /// another stamp than its first, which is rare, else O(watchers).
    pub(super) fn tell_copies(&mut self, now: Now, mut origins: Origins) {
        self.watchers.append(&mut origins.watchers);
        let peers = &mut self.peers;
        self.watchers.retain(|id| peers.get(id).is_some_and(|peer| !peer.named.is_empty()));
        for peer in peers.values_mut().filter(|_| !origins.copied.is_empty()) {
            peer.is_copied |= origins.copied.contains_key(&peer.hello.replica);
        }
        for (id, rows) in self.holders(&origins) {
            self.send(now, id, &Message::Copied(Copied { rows }));
        }
    }

    /// Who may have copies of rows that were accepted, and of which; they have not named these any more.
    pub(super) fn holders(&mut self, origins: &Origins) -> Vec<(PeerId, Vec<Taken>)> {
        let taken = &origins.taken;
        let is_copy = |(_, taken): &(PeerId, Taken)| taken.stamp != taken.origin.stamp;
        let asked: Vec<PeerId> = if taken.iter().any(is_copy) {
            self.peers.keys().copied().collect()
        } else {
            self.watchers.iter().copied().collect()
        };
        let mut by_first: SortedMap<ReplicaId, Vec<(PeerId, Taken)>> = SortedMap::new();
        for row in taken {
            by_first.entry(row.1.origin.stamp.replica).or_default().push(*row);
        }
        let held = |id: PeerId| {
            let peer = self.peers.get_mut(&id).filter(|peer| peer.stage == Stage::Confirmed)?;
            let own = by_first.get(&peer.hello.replica).into_iter().flatten();
            let mut rows: Vec<(PeerId, Taken)> = own.copied().collect();
            if !peer.named.is_empty() {
                rows.extend(taken.iter().filter(|(_, taken)| peer.named.remove(&taken.origin)));
            }
            let others = rows.into_iter().filter(|(pusher, _)| *pusher != id);
            let rows: Vec<Taken> = others.map(|(_, taken)| taken).collect();
            (!rows.is_empty()).then_some((id, rows))
        };
        asked.into_iter().filter_map(held).collect()
    }
}
