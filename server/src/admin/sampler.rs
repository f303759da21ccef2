//! What is looked at every two seconds, so that requests need not: rates, and who is behind.
//!
//! Invariant: a round asks [`SPACES_MAX`] hubs at most, one after the other, and waits for none for long. Absent:
//! history beyond the ring of `rates`.

use super::{
    Admin,
    pulse::{Lag, Seat},
    rates,
};
use crate::{
    hub::{Ask, ToHub},
    hubs::Hubs,
};
use rejoin_core::{
    id::SpaceId,
    protocol::host::PeerId,
    time::{Millis, MonoMillis},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, timeout},
};

/// Hubs that are asked in one round.
const SPACES_MAX: usize = 64;
/// Seats that are looked at in one round.
const SEATS_MAX: usize = 2_000;
/// A hub that works is not waited for.
const PATIENCE: Duration = Duration::from_millis(100);
/// Who is behind for no longer is on the way.
pub(super) const BEHIND_AFTER: Millis = Millis(5_000);
/// Those furthest behind, who are named.
const NAMED_MAX: usize = 20;
/// Who was found behind is named for so long: rounds of many seats take longer than one.
const NAMED_FOR: Millis = Millis(60_000);

/// Who is behind.
#[derive(Debug, Default)]
pub(super) struct Behind {
    named: Mutex<Vec<(Arc<Seat>, Lag, MonoMillis)>>,
}

impl Behind {
    /// Those furthest behind who are still there, the worst first.
    pub(super) fn named(&self) -> Vec<(Arc<Seat>, Lag)> {
        self.lock().iter().map(|(seat, lag, _)| (Arc::clone(seat), *lag)).collect()
    }

    fn found(&self, seats: &[Arc<Seat>], now: MonoMillis, is_there: impl Fn(&Seat) -> bool) {
        let mut named = self.lock();
        let looked: BTreeSet<PeerId> = seats.iter().map(|seat| seat.peer).collect();
        named.retain(|(seat, _, at)| {
            !looked.contains(&seat.peer) && now.since(*at) < NAMED_FOR && is_there(seat)
        });
        for seat in seats {
            if let Some(lag) = seat.lag().filter(|lag| lag.time >= BEHIND_AFTER) {
                named.push((Arc::clone(seat), lag, now));
            }
        }
        named.sort_by_key(|(_, lag, _)| std::cmp::Reverse((lag.time, lag.positions)));
        named.truncate(NAMED_MAX);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Seat>, Lag, MonoMillis)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes samples for ever.
pub(super) async fn run(admin: &Admin) {
    let mut times = interval(rates::EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        times.tick().await;
        admin.rates.take(admin.metrics.totals());
        let seats = admin.observer.seats(None, last, SEATS_MAX);
        let mut spaces = BTreeSet::new();
        // Those whose hub has no turn in this round are the first of the next one.
        let has_turn = |seat: &Arc<Seat>| {
            let space = &seat.pulse.space;
            spaces.contains(space) || (spaces.len() < SPACES_MAX && spaces.insert(space.clone()))
        };
        let seats: Vec<Arc<Seat>> = seats.into_iter().take_while(has_turn).collect();
        for space in &spaces {
            look(&admin.hubs, space).await;
        }
        last = seats.last().map(|seat| seat.peer);
        let now = crate::clock::read().mono;
        let is_there = |seat: &Seat| admin.observer.has(seat.peer);
        admin.behind.found(&seats, now, is_there);
    }
}

/// Has the hub of a space say how far its peers are. One that is closed, or works, says nothing.
pub(super) async fn look(hubs: &Hubs, space: &SpaceId) {
    let Some(inbox) = hubs.open_inbox(space) else { return };
    let (reply, answer) = oneshot::channel();
    if inbox.try_send(ToHub::Ask(Ask::Look(reply))).is_ok() {
        // What it says then is in the seats; a hub that is late says it later.
        timeout(PATIENCE, answer).await.ok();
    }
}
