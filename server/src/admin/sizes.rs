//! What spaces take, added up bit by bit in the background, for spaces that somebody looks at.
//!
//! Invariant: no read takes longer than one of [`ROWS`] rows, and between two of them others have their turn; whoever
//! asks gets what was found last. Absent: sizes of spaces that nobody looks at.

use crate::{clock, hubs::Hubs};
use rejoin_core::{
    id::{Seq, SpaceId},
    io::Keyspace,
    time::{Millis, MonoMillis, WallMillis},
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};
use tracing::warn;

/// Rows of one read.
const ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(8_191);
/// Between two reads.
const REST: Duration = Duration::from_millis(10);
/// What was found is good for so long at least, and for so many times as long as finding it took.
const GOOD_FOR: Millis = Millis(10_000);
const GOOD_TIMES: u64 = 20;
/// Spaces whose sizes are remembered.
const KNOWN_MAX: usize = 1_000;
/// Spaces that wait for being added up.
const WANTED_MAX: usize = 200;

/// What a space takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    /// Those that are removed and not forgotten yet count.
    pub(super) records: u64,
    /// Of keys and values of all that is kept for the space.
    pub(super) bytes: u64,
    /// When that was found, in milliseconds since 1970.
    pub(super) at: u64,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    size: Size,
    head: Seq,
    good_until: MonoMillis,
}

/// What is known of spaces' sizes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    state: Mutex<State>,
    came: Notify,
}

#[derive(Debug, Default)]
struct State {
    found: BTreeMap<SpaceId, Found>,
    wanted: BTreeSet<SpaceId>,
}

impl Sizes {
    /// What was found last of a space that is at this position; if that is old it is found again, later.
    pub(super) fn of(&self, space: &SpaceId, head: Seq) -> Option<Size> {
        let now = clock::read().mono;
        let mut state = self.state();
        let found = state.found.get(space).copied();
        let is_good = found.is_some_and(|known| known.head == head || now < known.good_until);
        if !is_good && state.wanted.len() < WANTED_MAX {
            state.wanted.insert(space.clone());
            self.came.notify_one();
        }
        found.map(|found| found.size)
    }

    /// Adds up what is asked for, for ever.
    pub(super) async fn keep(&self, hubs: &Hubs) {
        loop {
            let next = self.state().wanted.pop_first();
            let Some(space) = next else {
                self.came.notified().await;
                continue;
            };
            let began = clock::read().mono;
            match add_up(&hubs.store(&space)).await {
                Ok((size, head)) => self.remember(space, size, head, began),
                Err(fault) => {
                    warn!(%space, %fault, "what a space takes cannot be told");
                    sleep(Duration::from_millis(GOOD_FOR.0)).await;
                }
            }
        }
    }

    fn remember(&self, space: SpaceId, size: Size, head: Seq, began: MonoMillis) {
        let now = clock::read().mono;
        let good_for = GOOD_FOR.max(Millis(now.since(began).0 * GOOD_TIMES));
        let mut state = self.state();
        if state.found.len() >= KNOWN_MAX && !state.found.contains_key(&space) {
            let oldest = state.found.iter().min_by_key(|(_, found)| found.size.at);
            if let Some(oldest) = oldest.map(|(space, _)| space.clone()) {
                state.found.remove(&oldest);
            }
        }
        state.found.insert(space, Found { size, head, good_until: now + good_for });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a space takes, and its position before that was looked at.
async fn add_up(store: &SqliteStore) -> Result<(Size, Seq), SqliteError> {
    // What is damaged there is told where the space is opened.
    let head = super::standing(store).await?.map_or(Seq(0), |standing| standing.head);
    let (mut records, mut bytes) = (0, 0);
    for keyspace in Keyspace::ALL {
        let mut next = Some(Vec::new());
        while let Some(start) = next {
            let (extent, behind) = store.extent_behind(keyspace, &start, ROWS).await?;
            bytes += extent.bytes;
            records += if keyspace == Keyspace::Records { extent.rows } else { 0 };
            if behind.is_some() {
                sleep(REST).await;
            }
            next = behind;
        }
    }
    let WallMillis(at) = clock::read().wall;
    Ok((Size { records, bytes, at }, head))
}
