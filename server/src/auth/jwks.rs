//! The keys that an issuer publishes, fetched at the start, now and then, and when a token names one that is
//! not known.
//!
//! Invariant: asked for however often, they are fetched no more often than each [`REST`]; while they cannot be
//! fetched, the last ones hold, across starts too. Absent: which of them counts.

use super::keys::{self, Key, KeyError};
use crate::durable;
use rejoin_core::time::{Millis, MonoMillis};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};
use ureq::{Agent, config::Config};

/// From the beginning of one fetch to that of the next.
const REST: Millis = Millis(3_000);
/// What takes longer has failed. Two of them, and what lies between, fit into a handshake.
const PATIENCE: Duration = Duration::from_secs(4);
/// Keys that were taken back are noticed so soon.
const EVERY: Duration = Duration::from_secs(300);
/// After a failure it is tried again so soon.
const AGAIN: Duration = Duration::from_secs(15);
/// Largest set.
const BYTES_MAX: u64 = 256 << 10;

/// The published keys could not be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreached;

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] ureq::Error),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("the task that fetches ended")]
    Ended,
}

pub(super) struct Jwks {
    url: String,
    cache: PathBuf,
    agent: Agent,
    keys: Mutex<Arc<Vec<Key>>>,
    wanted: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Fetches that were begun.
    begun: u64,
    /// Fetches that have ended.
    ended: u64,
    /// When the last one was begun.
    at: Option<MonoMillis>,
    /// Whether the last one was of use.
    good: bool,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Jwks {
    /// Fetches the keys for the first time; where that fails, those in `data` hold.
    pub(super) async fn open(url: &str, data: &Path) -> Self {
        // A redirect would take the keys from somewhere else than was said.
        let agent = Config::builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .max_redirects_will_error(true)
            .accept("application/json")
            .build();
        let jwks = Self {
            url: url.to_owned(),
            cache: data.join(cache_name(url)),
            agent: agent.into(),
            keys: Mutex::default(),
            wanted: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        };
        if let Ok(kept) = fs::read_to_string(&jwks.cache)
            && let Ok(keys) = keys::from_url(&kept)
        {
            *jwks.held() = Arc::new(keys);
        }
        jwks.renew().await;
        jwks
    }

    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.held())
    }

    /// Resolves once a fetch that began after this call has ended. Needs [`Self::keep`].
    ///
    /// # Errors
    /// It failed, or took too long: whether there are other keys is not known.
    pub(super) async fn fetch(&self) -> Result<(), Unreached> {
        let mut progress = self.progress.subscribe();
        let next = progress.borrow().begun + 1;
        self.wanted.notify_one();
        let ended = progress.wait_for(|progress| progress.ended >= next);
        match timeout(2 * PATIENCE + Duration::from_millis(500), ended).await {
            Ok(Ok(progress)) if progress.good => Ok(()),
            Ok(_) | Err(_) => Err(Unreached),
        }
    }

    /// Fetches the keys whenever they are wanted or it is time, for as long as it is polled.
    pub(super) async fn keep(&self, changed: &watch::Sender<()>) {
        loop {
            let good = self.progress.borrow().good;
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sleep(if good { EVERY } else { AGAIN }) => {}
            }
            let last = self.progress.borrow().at;
            if let Some(last) = last {
                sleep(crate::clock::until(last + REST)).await;
            }
            if self.renew().await {
                changed.send_replace(());
            }
        }
    }

    /// Fetches the keys once: whether they are others than before.
    async fn renew(&self) -> bool {
        let now = crate::clock::read().mono;
        self.progress.send_modify(|progress| {
            progress.begun += 1;
            progress.at = Some(now);
        });
        let fetched = self.fetch_once().await;
        let good = fetched.is_ok();
        let changed = match fetched {
            Ok((text, keys)) => self.take(&text, keys),
            Err(error) => {
                let held = self.keys().len();
                if held == 0 {
                    error!(url = %self.url, %error, "no keys: JWTs cannot be checked");
                } else {
                    warn!(url = %self.url, %error, held, "the keys cannot be fetched, the last ones hold");
                }
                false
            }
        };
        self.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.good = good;
        });
        changed
    }

    fn take(&self, text: &str, keys: Vec<Key>) -> bool {
        let same = self.keys().iter().map(tell).eq(keys.iter().map(tell));
        if same {
            return false;
        }
        info!(url = %self.url, keys = keys.len(), "keys fetched");
        *self.held() = Arc::new(keys);
        if let Err(error) = durable::replace(&self.cache, text.as_bytes()) {
            warn!(path = %self.cache.display(), %error, "the keys cannot be kept for the next start");
        }
        true
    }

    async fn fetch_once(&self) -> Result<(String, Vec<Key>), FetchError> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let fetching = spawn_blocking(move || {
            let mut answer = agent.get(&url).call()?;
            let text = answer.body_mut().with_config().limit(BYTES_MAX).read_to_string()?;
            let keys = keys::from_url(&text)?;
            Ok((text, keys))
        });
        fetching.await.unwrap_or(Err(FetchError::Ended))
    }

    fn held(&self) -> MutexGuard<'_, Arc<Vec<Key>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the last set that could be used is kept: what another issuer published is not this one's.
fn cache_name(url: &str) -> String {
    let digest = blake3::hash(url.as_bytes()).to_hex();
    format!("jwks-{}.json", digest.get(..16).unwrap_or_default())
}

fn tell(key: &Key) -> (blake3::Hash, Option<&str>) {
    (key.print, key.name.as_deref())
}
