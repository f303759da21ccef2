//! The handshake: who may use a replica id, and how each subscription starts.
//!
//! Invariant: a place is trusted only within a history that this host has: its own epoch up to the
//! head, an earlier one up to where it was left. Absent: tokens, versions of frames.

use super::{
    Host, HostNote, HostOutput, PeerId,
    damage::NOBODYS,
    layout::ReplicaRow,
    peer::{Stage, Told},
};
use crate::{
    hlc::Hlc,
    id::{Cursor, Digest, Epoch, Pattern, Seq},
    planted::Bug,
    protocol::message::{
        ByeCode, FEATURE_PRESENCE, FEATURE_SKETCH, Hello, Identity, Left, Message, Mode, Place,
        Subscription, Welcome,
    },
    time::Now,
    tree,
};
use alloc::vec::Vec;

/// Whether a principal may go on with a replica id.
pub(super) fn identity(stored: Option<&ReplicaRow>, hello: &Hello, principal: &str) -> Identity {
    match stored {
        None => Identity::Confirmed,
        // Whose it was is lost: nobody goes on with it, and what was accepted is asked for.
        Some(row) if row.incarnation == NOBODYS => Identity::Forked,
        Some(row) if row.principal != principal => Identity::Foreign,
        Some(row) => {
            let known = hello.known.contains(&row.incarnation);
            if known || row.incarnation == hello.incarnation {
                Identity::Confirmed
            } else {
                Identity::Forked
            }
        }
    }
}

impl Host {
    /// Welcomes a peer whose identity is settled, durably, and starts its streams.
    pub(super) fn welcome(&mut self, now: Now, id: PeerId, told: Told) {
        let Told { identity, accepted, copied } = told;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.stage = match identity {
            Identity::Confirmed => Stage::Confirmed,
            Identity::Forked => Stage::Denied { foreign: false },
            Identity::Foreign => Stage::Denied { foreign: true },
        };
        peer.told = accepted;
        peer.is_copied |= copied.is_some();
        self.scrub.is_unheard = false;
        let hello = peer.hello.clone();
        let grant = peer.grant.clone();
        if identity == Identity::Confirmed {
            self.supersede(now, id, &hello);
        }
        let modes: Vec<(u32, Mode)> = if identity == Identity::Confirmed {
            let subscriptions = hello.subscriptions.iter();
            subscriptions
                .map(|subscription| (subscription.id, self.mode(subscription, &hello.epochs)))
                .collect()
        } else {
            Vec::new()
        };
        let welcome = Welcome {
            version: crate::protocol::limits::VERSIONS[0],
            features: self.features() & hello.features,
            principal: grant.principal,
            rights: grant.rights,
            limits: self.config.limits,
            clock: now.wall,
            epoch: self.marks.epoch,
            horizon: self.horizon.at,
            lineage: self.needed_lineage(&hello),
            head: self.head.seq,
            accepted,
            identity,
            modes: modes.clone(),
            copied: copied.filter(|_| !self.config.planted.is(Bug::CopiesUntold)),
        };
        self.send(now, id, &Message::Welcome(welcome));
        self.out(HostOutput::Note(HostNote::Welcomed {
            peer: id,
            replica: hello.replica,
            identity,
            modes: modes.clone(),
        }));
        // No process opens an epoch that another one has opened.
        let last = hello.epochs.first().filter(|last| **last != self.marks.epoch);
        if let (Some(other), true) = (last, hello.epochs.contains(&self.marks.epoch)) {
            self.out(HostOutput::Note(HostNote::Alternates { peer: id, other: *other }));
        }
        for (subscription, mode) in modes {
            self.start_stream(id, &hello, subscription, mode);
        }
    }

    /// What this host knows beyond what every host does.
    const fn features(&self) -> u64 {
        let sketch = if self.config.walk.cells_max > 0 { FEATURE_SKETCH } else { 0 };
        FEATURE_PRESENCE | sketch
    }

    fn supersede(&mut self, now: Now, id: PeerId, hello: &Hello) {
        let older: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(other, peer)| {
                **other != id
                    && peer.hello.replica == hello.replica
                    && peer.stage == Stage::Confirmed
            })
            .map(|(other, _)| *other)
            .collect();
        for other in older {
            let reason = "the replica opened another session";
            self.dismiss(now, other, ByeCode::Superseded, reason);
        }
    }

    fn start_stream(&mut self, id: PeerId, hello: &Hello, subscription: u32, mode: Mode) {
        let known = hello.subscriptions.iter().find(|known| known.id == subscription);
        let (Some(known), Mode::InSync | Mode::Feed) = (known, mode) else {
            return;
        };
        let cut = known.cursor.map_or(Seq(0), |cursor| cursor.seq);
        // Who has nothing, where nothing is, has all there is.
        let time = if known.cursor.is_some() { known.time } else { self.head.clock };
        if let Some(peer) = self.peers.get_mut(&id) {
            let owes_state = mode == Mode::Feed;
            peer.stream_from(subscription, known.place.clone(), (cut, time), owes_state);
        }
    }

    fn mode(&mut self, subscription: &Subscription, epochs: &[Epoch]) -> Mode {
        let head = self.head.seq;
        let place = &subscription.place;
        let Some(cursor) = subscription.cursor else {
            return match (*place == Place::default(), head) {
                (true, Seq(0)) => Mode::Feed,
                (true, _) => Mode::Snapshot,
                (false, _) if self.is_behind_horizon(subscription.time) => Mode::Rebase,
                (false, _) => Mode::Heal,
            };
        };
        // What moved on in a history that broke off came in no page, and stands before the place in this one.
        let whole = *place == Place::at(cursor.seq) || cursor.epoch == self.marks.epoch;
        let placed = Cursor { seq: place.seq, ..cursor };
        if !self.is_good(&cursor) || !self.is_good(&placed) || !whole {
            // Of what came after the histories parted it knows nothing, whatever its time in the other one.
            let parted = self.parted(cursor.epoch, epochs);
            let behind = self.is_behind_horizon(subscription.time.min(parted));
            return if behind { Mode::Rebase } else { Mode::Heal };
        }
        if self.is_behind_horizon(subscription.time) {
            return Mode::Rebase;
        }
        let at_head = cursor.seq == head && *place == Place::at(head);
        match subscription.root {
            Some(root) if at_head && root == self.root_of(&subscription.pattern) => Mode::InSync,
            // Under another horizon roots differ: those that are stated at once tell whether more does.
            Some(_) if at_head && self.horizon.at == Hlc::ZERO => Mode::Heal,
            Some(_) | None => Mode::Feed,
        }
    }

    /// When a history that broke off still was this one, as far as that is known.
    fn parted(&self, epoch: Epoch, epochs: &[Epoch]) -> Hlc {
        let left = |epoch: &Epoch| self.lineage.iter().find(|left| left.epoch == *epoch);
        let known = core::iter::once(&epoch).chain(epochs).find_map(left);
        known.map(|left| left.hlc).unwrap_or_default()
    }

    fn is_good(&self, cursor: &Cursor) -> bool {
        let planted = self.config.planted;
        if cursor.epoch == self.marks.epoch || planted.is(Bug::EpochIgnored) {
            return cursor.seq <= self.head.seq;
        }
        let left = self.lineage.iter().find(|left| left.epoch == cursor.epoch);
        left.is_some_and(|left| cursor.seq <= left.seq || planted.is(Bug::LeftIgnored))
    }

    fn needed_lineage(&self, hello: &Hello) -> Vec<Left> {
        let cursors = hello.subscriptions.iter().filter_map(|known| known.cursor);
        let cursors: Vec<_> = cursors.map(|cursor| cursor.epoch).collect();
        self.lineage
            .iter()
            .filter(|left| hello.epochs.contains(&left.epoch) || cursors.contains(&left.epoch))
            .copied()
            .collect()
    }

    /// The root of what a pattern covers, at the head.
    pub(super) fn root_of(&mut self, pattern: &Pattern) -> Digest {
        if let Some(root) = self.roots.get(pattern) {
            return *root;
        }
        let roots: Vec<_> = self
            .collections
            .iter_mut()
            .filter(|(name, _)| pattern.covers(name))
            .map(|(name, collection)| (name, collection.trie.root()))
            .collect();
        let root = tree::combine_roots(roots);
        if self.roots.len() >= ROOTS_MAX {
            self.roots.clear();
        }
        self.roots.insert(pattern.clone(), root);
        root
    }
}

/// Most roots that are remembered until the head moves.
const ROOTS_MAX: usize = 4_096;
