//! Takes down what hubs tell, for whoever looks: who is connected where, and what has happened.
//!
//! Invariant: there is one only where there is an admin page; what it keeps is bounded by what is open, and by limits.
//! Absent: values of records, and whoever looks.

use super::{
    events::{Class, Events, What},
    notes,
    pulse::{Pulse, Seat},
};
use crate::clock;
use rejoin_core::{
    id::{ReplicaId, Seq, SpaceId},
    protocol::{
        host::{HostNote, PeerId},
        message::ByeCode,
    },
    time::WallMillis,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// How many of those who have gone are remembered.
const GONE_MAX: usize = 1_000;

/// What hubs have told.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    pub(super) events: Events,
    pulses: Mutex<BTreeMap<SpaceId, Weak<Pulse>>>,
    seats: Mutex<BTreeMap<PeerId, Arc<Seat>>>,
    gone: Mutex<VecDeque<Gone>>,
}

/// Where somebody stood who has gone.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    space: SpaceId,
    replica: ReplicaId,
    pub(super) at: WallMillis,
    pub(super) read: Option<Seq>,
}

impl Observer {
    /// A space was opened.
    pub(crate) fn opened(self: &Arc<Self>, space: &SpaceId) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(Arc::clone(self), space.clone()));
        lock(&self.pulses).insert(space.clone(), Arc::downgrade(&pulse));
        pulse
    }

    /// A space was closed; it may have been opened again.
    pub(super) fn closed(&self, space: &SpaceId) {
        let mut pulses = lock(&self.pulses);
        if pulses.get(space).is_some_and(|pulse| pulse.strong_count() == 0) {
            pulses.remove(space);
        }
    }

    /// Somebody was not let in.
    pub(crate) fn denied(&self, space: &SpaceId, code: ByeCode, reason: &str) {
        let (space, code) = (space.to_string(), Some(notes::word(&code)));
        let detail = Some(reason.to_owned());
        self.events
            .add(Class::Refusal, What { kind: "denied", space, code, detail, ..What::default() });
    }

    pub(super) fn pulse(&self, space: &SpaceId) -> Option<Arc<Pulse>> {
        lock(&self.pulses).get(space).and_then(Weak::upgrade)
    }

    /// At most `limit` of those who are connected, in the order in which they came, behind one of them.
    pub(super) fn seats(
        &self,
        space: Option<&SpaceId>,
        after: Option<PeerId>,
        limit: usize,
    ) -> Vec<Arc<Seat>> {
        let part = |seats: &BTreeMap<PeerId, Arc<Seat>>| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let found = seats.range((from, Bound::Unbounded)).take(limit);
            found.map(|(_, seat)| Arc::clone(seat)).collect()
        };
        match space {
            None => part(&lock(&self.seats)),
            Some(space) => self.pulse(space).map(|pulse| part(&pulse.seats())).unwrap_or_default(),
        }
    }

    /// The replicas that are connected to a space.
    pub(super) fn connected(&self, space: &SpaceId) -> BTreeSet<ReplicaId> {
        let pulse = self.pulse(space);
        pulse
            .map(|pulse| pulse.seats().values().map(|seat| seat.replica).collect())
            .unwrap_or_default()
    }

    /// Whether somebody is still connected.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        lock(&self.seats).contains_key(&peer)
    }

    /// Where a replica stood when it left, if that is remembered.
    pub(super) fn last_seen(&self, space: &SpaceId, replica: &ReplicaId) -> Option<Gone> {
        let gone = lock(&self.gone);
        gone.iter().rev().find(|gone| gone.space == *space && gone.replica == *replica).cloned()
    }

    fn leaves(&self, seat: &Seat) {
        lock(&self.seats).remove(&seat.peer);
        seat.pulse.seats().remove(&seat.peer);
        let mut gone = lock(&self.gone);
        gone.retain(|known| known.replica != seat.replica || known.space != seat.pulse.space);
        if gone.len() == GONE_MAX {
            gone.pop_front();
        }
        let (space, replica) = (seat.pulse.space.clone(), seat.replica);
        gone.push_back(Gone { space, replica, at: clock::read().wall, read: seat.read() });
    }
}

impl Pulse {
    /// Somebody comes, and is connected until what is returned is dropped.
    pub(crate) fn joins(
        self: &Arc<Self>,
        peer: PeerId,
        replica: ReplicaId,
        principal: &str,
    ) -> Seated {
        let seat = Seat::new(Arc::clone(self), peer, replica, principal.to_owned());
        let seat = Arc::new(seat);
        lock(&self.observer.seats).insert(peer, Arc::clone(&seat));
        self.seats().insert(peer, Arc::clone(&seat));
        Seated(seat)
    }

    /// The space's host has said something, of one who is connected or of itself.
    pub(crate) fn noted(&self, note: &HostNote, of: Option<&Seated>) {
        let seat = of.map(|seated| &*seated.0);
        let add = |count: &AtomicU64, number: usize| {
            count.fetch_add(number as u64, Ordering::Relaxed);
        };
        if let HostNote::Ready { head, .. } = note {
            self.reaches(*head);
        } else if let HostNote::Pushed { accepted, head, .. } = note {
            self.reaches(*head);
            add(&self.accepted, *accepted);
            seat.iter().for_each(|seat| add(&seat.accepted, *accepted));
        } else if let HostNote::Written { accepted, refused, head, .. } = note {
            self.reaches(*head);
            add(&self.accepted, *accepted);
            add(&self.refused, *refused);
        } else if let HostNote::Rejected { .. } = note {
            add(&self.refused, 1);
            seat.iter().for_each(|seat| add(&seat.refused, 1));
        } else if let HostNote::Conflict { .. } = note {
            add(&self.conflicts, 1);
        } else if let HostNote::Welcomed { .. } = note {
            seat.iter().for_each(|seat| seat.welcomed.store(true, Ordering::Relaxed));
        }
        if let Some((class, what)) = notes::event(note, &self.space, seat) {
            self.observer.events.add(class, what);
        }
    }
}

/// One who is connected, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seated(Arc<Seat>);

impl Seated {
    pub(crate) fn seat(&self) -> &Seat {
        &self.0
    }

    /// Why it goes.
    pub(crate) fn parts(&self, code: Option<ByeCode>, reason: &str) {
        let events = &self.0.pulse.observer.events;
        events.add(Class::Activity, notes::parted(&self.0, code, reason));
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.0.pulse.observer.leaves(&self.0);
    }
}

/// Nothing that could panic runs under a lock of this file.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
