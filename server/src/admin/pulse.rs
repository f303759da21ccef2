//! What is known of an open space without asking its hub, and of those who are connected to it.
//!
//! Invariant: a hub that tells something here waits for nobody but for whoever copies a few numbers. Absent: values,
//! and what was told before the space was opened.

use super::observer::Observer;
use crate::clock;
use rejoin_core::{
    id::{ReplicaId, Seq, SpaceId},
    protocol::host::{PeerId, PeerStanding},
    time::{Millis, MonoMillis, WallMillis},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Commits within this time of each other count as one.
const STEP: Millis = Millis(1_000);
/// How many steps back it is known when a position was reached.
const STEPS_MAX: usize = 128;
/// Stands for no position.
const NOWHERE: u64 = u64::MAX;

/// An open space.
#[derive(Debug)]
pub(crate) struct Pulse {
    pub(super) observer: Arc<Observer>,
    pub(crate) space: SpaceId,
    head: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) conflicts: AtomicU64,
    seats: Mutex<BTreeMap<PeerId, Arc<Seat>>>,
    /// The first position of each step, and when it came.
    steps: Mutex<VecDeque<(Seq, MonoMillis)>>,
}

impl Pulse {
    pub(super) fn new(observer: Arc<Observer>, space: SpaceId) -> Self {
        Self {
            observer,
            space,
            head: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            seats: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    pub(super) fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Relaxed))
    }

    /// The last position is this one now.
    pub(crate) fn reaches(&self, head: Seq) {
        let before = self.head.fetch_max(head.0, Ordering::Relaxed);
        if head.0 <= before {
            return;
        }
        let now = clock::read().mono;
        let mut steps = self.steps();
        if steps.back().is_some_and(|(_, at)| now.since(*at) < STEP) {
            return;
        }
        if steps.len() == STEPS_MAX {
            steps.pop_front();
        }
        steps.push_back((Seq(before + 1), now));
    }

    /// How long ago the first position behind `read` came, or at least so long.
    fn behind_for(&self, read: Seq) -> Millis {
        let steps = self.steps();
        let step = steps.iter().rev().find(|(first, _)| first.0 <= read.0 + 1);
        let since = step.or_else(|| steps.front()).map(|(_, at)| *at);
        since.map_or(Millis(0), |since| clock::read().mono.since(since))
    }

    /// Who is connected.
    pub(super) fn seats(&self) -> MutexGuard<'_, BTreeMap<PeerId, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steps(&self) -> MutexGuard<'_, VecDeque<(Seq, MonoMillis)>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.observer.closed(&self.space);
    }
}

/// One who is connected to a space.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) peer: PeerId,
    pub(crate) replica: ReplicaId,
    pub(crate) principal: String,
    pub(super) since: WallMillis,
    read: AtomicU64,
    unsent: AtomicU64,
    pub(super) welcomed: AtomicBool,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// How far somebody is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Lag {
    pub(super) positions: u64,
    pub(super) time: Millis,
}

impl Seat {
    pub(super) fn new(
        pulse: Arc<Pulse>,
        peer: PeerId,
        replica: ReplicaId,
        principal: String,
    ) -> Self {
        Self {
            pulse,
            peer,
            replica,
            principal,
            since: clock::read().wall,
            read: AtomicU64::new(NOWHERE),
            unsent: AtomicU64::new(0),
            welcomed: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// It stands there now.
    pub(crate) fn stands(&self, standing: &PeerStanding) {
        let read = standing.read.map_or(NOWHERE, |read| read.0);
        self.read.store(read, Ordering::Relaxed);
        self.unsent.store(standing.unsent as u64, Ordering::Relaxed);
    }

    /// Where it stood when its hub was last asked; `None` while it follows nothing.
    pub(super) fn read(&self) -> Option<Seq> {
        let read = self.read.load(Ordering::Relaxed);
        (read != NOWHERE).then_some(Seq(read))
    }

    pub(super) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// By how much it was behind then; `None` while it follows nothing.
    pub(super) fn lag(&self) -> Option<Lag> {
        let read = self.read()?;
        let positions = self.pulse.head().0.saturating_sub(read.0);
        let time = if positions == 0 { Millis(0) } else { self.pulse.behind_for(read) };
        Some(Lag { positions, time })
    }
}
