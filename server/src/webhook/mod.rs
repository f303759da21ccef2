//! Webhooks: changes are posted to other programs, signed, in the order of the feed.
//!
//! Each webhook has a task that follows the feeds of the spaces it is about, from where it is known to stand.
//! Invariant: of one space one delivery is under way at a time, and the next one begins where the last one that was
//! taken ended: so the changes of a record come in order, and none is left out. A delivery comes again until it is
//! taken, and may come again after a crash: who keeps the cursor of each, and the place of each record, with what it did
//! does everything once.
//! Absent: what receivers do.

mod delivery;
mod hook;
mod place;
mod secrets;

pub use hook::{Webhook, WebhookError};
pub use secrets::{SecretsError, WebhookSecrets};

use crate::{
    clock,
    feed::{self, FeedError, Lag},
    hubs::Hubs,
    metrics::Metrics,
};
use delivery::{Delivery, Refusal};
pub(crate) use place::{Place, Places};
use prometheus_client::metrics::counter::Counter;
use rejoin_core::{
    id::{NameError, RecordKey, SpaceId},
    time::{Millis, MonoMillis},
};
use rejoin_sqlite::{SqliteDb, SqliteError};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet, spawn_blocking},
    time::sleep,
};
use tracing::{error, warn};

/// Changes of one delivery.
const PAGE_CHANGES: usize = 100;
/// After a failure it is tried again so soon, then twice as late each time.
const AGAIN: Millis = Millis(1_000);
/// And no later than this.
const AGAIN_MAX: Millis = Millis(300_000);
/// Nothing is waited for longer.
const FAR: Duration = Duration::from_secs(3_600);

/// All webhooks of a server.
#[derive(Debug, Default)]
pub(crate) struct Webhooks {
    hooks: Vec<Poster>,
}

/// Why a delivery was not taken, or not made.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the store cannot be written: {0}")]
    Store(#[from] SqliteError),
    #[error("a thread stopped by a defect: {0}")]
    Thread(#[from] JoinError),
}

/// When a space is looked at again.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: MonoMillis,
    /// Failures in a row.
    failures: u32,
}

impl Due {
    fn at_once() -> Self {
        Self { at: clock::read().mono, failures: 0 }
    }

    /// After one more failure; no sooner than the receiver asked for.
    fn later(self, asked: Option<Duration>) -> Self {
        let bound = Millis(AGAIN.0 << self.failures.min(16)).min(AGAIN_MAX);
        let asked = asked.map_or(Millis(0), |asked| Millis(clock::millis(asked)).min(AGAIN_MAX));
        Self { at: clock::read().mono + bound.max(asked), failures: self.failures + 1 }
    }
}

impl Webhooks {
    /// # Errors
    /// The name of the space where it is kept how far they are is none.
    pub(crate) fn new(
        hooks: &[Webhook],
        secrets: Option<&WebhookSecrets>,
        db: &SqliteDb,
        metrics: &Metrics,
    ) -> Result<Self, NameError> {
        let secrets = Arc::new(secrets.cloned().unwrap_or_default());
        let posters = hooks.iter().map(|hook| {
            let (lag, taken, failed) = metrics.webhook(hook);
            Ok(Poster {
                places: Places::new(db, hook)?,
                hook: Arc::new(hook.clone()),
                secrets: Arc::clone(&secrets),
                lag: Lag::new(lag),
                taken,
                failed,
            })
        });
        Ok(Self { hooks: posters.collect::<Result<_, NameError>>()? })
    }

    /// Posts until the server stops.
    pub(crate) async fn run(self, hubs: Arc<Hubs>, stopping: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for poster in self.hooks {
            tasks.spawn(poster.run(Arc::clone(&hubs), stopping.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                error!(%panic, "a webhook stopped by a defect");
            }
        }
    }
}

/// Posts for one webhook.
#[derive(Debug)]
struct Poster {
    hook: Arc<Webhook>,
    secrets: Arc<WebhookSecrets>,
    places: Places,
    /// Places of the feeds that the receiver lacked when they were last looked at.
    lag: Lag,
    taken: Counter,
    failed: Counter,
}

impl Poster {
    async fn run(self, hubs: Arc<Hubs>, mut stopping: watch::Receiver<bool>) {
        let news = hubs.news().follow();
        let posting = async {
            // Whatever happened before this process.
            let spaces = hubs.spaces().into_iter().filter(|space| self.hook.is_about(space));
            let mut due: BTreeMap<SpaceId, Due> =
                spaces.map(|space| (space, Due::at_once())).collect();
            loop {
                self.post_due(&hubs, &mut due).await;
                let next = due.values().map(|due| due.at).min();
                tokio::select! {
                    spaces = news.next() => {
                        for space in spaces.into_iter().filter(|space| self.hook.is_about(space)) {
                            // What is put off stays so.
                            due.entry(space).or_insert_with(Due::at_once);
                        }
                    }
                    () = sleep(next.map_or(FAR, clock::until)) => {}
                }
            }
        };
        tokio::select! {
            () = posting => {}
            // What is under way comes again.
            _stopped = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// One delivery for each space that is due.
    async fn post_due(&self, hubs: &Hubs, due: &mut BTreeMap<SpaceId, Due>) {
        let now = clock::read().mono;
        let spaces: Vec<SpaceId> =
            due.iter().filter(|(_, due)| due.at <= now).map(|(space, _)| space.clone()).collect();
        for space in spaces {
            let Some(before) = due.remove(&space) else { continue };
            match self.post(hubs, &space).await {
                Ok(more) => {
                    if more {
                        due.insert(space, Due::at_once());
                    }
                }
                Err(fault) => {
                    self.failed.inc();
                    let asked =
                        if let Fault::Refused(refusal) = &fault { refusal.after() } else { None };
                    let later = before.later(asked);
                    let wait = clock::until(later.at);
                    warn!(webhook = %self.hook, %space, %fault, ?wait, "not delivered");
                    if let Fault::Feed(FeedError::Damaged(damage)) = &fault {
                        hubs.mend(&space, damage);
                    }
                    due.insert(space, later);
                }
            }
        }
    }

    /// Posts what comes next in a space, if anything does; whether there is more.
    async fn post(&self, hubs: &Hubs, space: &SpaceId) -> Result<bool, Fault> {
        let store = hubs.store(space);
        let wants = |key: &RecordKey| self.hook.wants(space, key);
        let mut from = self.places.read(space).await?;
        let page = match feed::page(&store, &from.position, PAGE_CHANGES, wants).await {
            Err(FeedError::Gone) => {
                from = Place::START;
                feed::page(&store, &from.position, PAGE_CHANGES, wants).await?
            }
            page => page?,
        };
        let more = page.more;
        self.lag.set(space, page.head.0.saturating_sub(from.position.furthest().0));
        if page.upto != from.position {
            let mut upto = Place { position: page.upto.clone(), told: from.told.clone() };
            if !page.changes.is_empty() {
                upto.told = Some(page.upto.encode());
                let delivery = Delivery::new(space, &from, &page);
                let (hook, secrets) = (Arc::clone(&self.hook), Arc::clone(&self.secrets));
                spawn_blocking(move || delivery.post(&hook, &secrets)).await??;
                self.taken.inc();
            }
            self.places.write(space, &upto).await?;
        }
        if !more {
            self.lag.set(space, 0);
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(due: Due) -> u128 {
        (clock::until(due.at).as_millis() + 500) / 1_000
    }

    #[test]
    fn failures_are_repeated_ever_later_and_not_before_the_receiver_wants() {
        let mut due = Due::at_once();
        let mut waits = Vec::new();
        for _ in 0..12 {
            due = due.later(None);
            waits.push(rounded(due));
        }
        assert_eq!((&waits[..4], waits[11]), ([1, 2, 4, 8].as_slice(), 300));
        let asked = Due::at_once().later(Some(Duration::from_secs(30)));
        assert_eq!(rounded(asked), 30);
    }
}
