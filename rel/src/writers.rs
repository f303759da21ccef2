//! Clients that write what `script` says, and newcomers that look at what the server has.
//!
//! The ledger of what was acknowledged is kept by the writers, outside of the server. Writers bring back what a
//! server has lost: so it is a newcomer that is asked, before any writer comes back.

use crate::{
    script::{self, Marks, Seen},
    server::PATIENCE,
};
use anyhow::{Context, ensure};
use rejoin_client::{Client, Pattern};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::watch, time::timeout};

/// Batches that may be on their way.
const WAITING_MAX: usize = 12;

/// A client that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: u8,
    pub(crate) client: Client,
    issued: AtomicU64,
    /// What it had seen when it wrote last.
    seen: Mutex<Marks>,
}

/// What a writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) writer: u8,
    /// Batches that are acknowledged, at least.
    pub(crate) acknowledged: u64,
    /// Batches that were written, at most.
    pub(crate) issued: u64,
}

impl Writer {
    pub(crate) async fn open(name: u8, directory: &Path, url: String) -> anyhow::Result<Self> {
        Self::open_in("demo", name, directory, url).await
    }

    /// The same in another space.
    pub(crate) async fn open_in(
        space: &str,
        name: u8,
        directory: &Path,
        url: String,
    ) -> anyhow::Result<Self> {
        let path = directory.join(format!("writer{name}.db"));
        let options = script::options_in(space, &path, Some(url))?;
        let client = Client::open(options).await?;
        Ok(Self { name, client, issued: AtomicU64::new(0), seen: Mutex::default() })
    }

    /// The same, of a file in which so many batches were written before.
    pub(crate) fn that_issued(self, issued: u64) -> Self {
        self.issued.store(issued, Ordering::Relaxed);
        self
    }

    /// Writes the next batch, behind all that it sees: its own, and what it saw before.
    pub(crate) async fn write(&self) -> anyhow::Result<()> {
        let issued = self.issued.load(Ordering::Relaxed);
        let behind = self.look(issued)?;
        self.client.write(script::batch_behind(self.name, issued + 1, &behind)?).await?;
        self.issued.store(issued + 1, Ordering::Relaxed);
        Ok(())
    }

    /// What it sees, which holds all that it saw before.
    fn look(&self, issued: u64) -> anyhow::Result<Marks> {
        let seen = Seen::of(&self.client)?;
        let mut past = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Marks::from([(self.name, issued)]);
        for past in [&*past, &own] {
            if let Some(lacking) = seen.lacking(past) {
                anyhow::bail!("writer {} does not see any more: {lacking}", self.name);
            }
        }
        past.clone_from(&seen.marks);
        Ok(seen.marks)
    }

    /// Writes batch after batch, as long as not too many wait for the server, until `stop` says so: a write that
    /// was begun is always waited for, since it counts.
    pub(crate) async fn write_until(&self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        while !*stop.borrow() {
            let changed = self.client.changed();
            if self.client.status().pending < WAITING_MAX {
                self.write().await?;
                continue;
            }
            tokio::select! {
                () = changed => {}
                // Who would say it is gone: that is the end too.
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    pub(crate) fn promise(&self) -> Promise {
        let issued = self.issued.load(Ordering::Relaxed);
        let pending = u64::try_from(self.client.status().pending).unwrap_or(u64::MAX);
        // One that is being written waits too, and is not counted yet: then it is fewer than was promised.
        Promise { writer: self.name, acknowledged: issued.saturating_sub(pending), issued }
    }

    /// Waits until the server has all that was written.
    pub(crate) async fn synced(&self) -> anyhow::Result<()> {
        let synced = timeout(PATIENCE, self.client.synced()).await;
        let stuck = || format!("writer {} is stuck: {:?}", self.name, self.client.status());
        synced.with_context(stuck)??;
        ensure!(self.client.rejected().is_empty(), "refused: {:?}", self.client.rejected());
        Ok(())
    }
}

/// What a server has, as somebody sees it who knows nothing; his file is made in `directory`, and is gone after.
pub(crate) async fn look(server: SocketAddr, directory: &Path) -> anyhow::Result<Seen> {
    look_in("demo", format!("ws://{server}/sync"), directory).await
}

/// The same in another space, at an address of any kind.
pub(crate) async fn look_in(space: &str, url: String, directory: &Path) -> anyhow::Result<Seen> {
    let file = tempfile::Builder::new().prefix("newcomer").tempdir_in(directory)?;
    let options = script::options_in(space, &file.path().join("db"), Some(url))?;
    let newcomer = Client::open(options).await?;
    let synced = timeout(PATIENCE, newcomer.synced()).await;
    synced.with_context(|| format!("a newcomer is stuck: {:?}", newcomer.status()))??;
    let verified = newcomer.verified(&Pattern::All).context("no root was stated")?;
    // Computed from the records that came, against what the server states of its tree.
    ensure!(newcomer.root(&Pattern::All) == verified.root, "another root");
    let seen = Seen::of(&newcomer)?;
    newcomer.close().await?;
    Ok(seen)
}

/// What is wrong with what a newcomer saw.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Batches that were acknowledged and are not there.
    pub(crate) lost: u64,
    /// Whether a batch is there without one that it follows.
    pub(crate) disordered: bool,
    /// Whether what is there is half of a batch, or counts twice.
    pub(crate) torn: bool,
    /// All that cannot be, in words.
    pub(crate) faults: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(seen: &Seen, promises: &[Promise]) -> Self {
        let mut verdict = Self::default();
        for promise in promises {
            let mark = seen.mark(promise.writer);
            if mark < promise.acknowledged {
                verdict.lost += promise.acknowledged - mark;
                verdict.faults.push(format!("{promise:?}, and only {mark} are there"));
            }
            if mark > promise.issued + 1 {
                verdict.faults.push(format!("{promise:?}, and {mark} are there"));
            }
        }
        let (torn, disorder) = (seen.fault(), seen.disorder());
        verdict.torn = torn.is_some();
        verdict.disordered = disorder.is_some();
        verdict.faults.extend(torn.into_iter().chain(disorder));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_and_is_not_there_is_told() {
        let mut seen = Seen::default();
        let promise = |acknowledged| Promise { writer: 1, acknowledged, issued: 3 };
        assert_eq!(Verdict::of(&seen, &[promise(0)]).faults, [""; 0]);
        assert_eq!(Verdict::of(&seen, &[promise(2)]).lost, 2);
        // A mark without what was written with it is half of a batch.
        seen.marks.insert(1, 2);
        let verdict = Verdict::of(&seen, &[promise(2)]);
        assert_eq!((verdict.lost, verdict.torn, verdict.faults.len()), (0, true, 1));
        seen.marks.insert(1, 9);
        assert_eq!(Verdict::of(&seen, &[promise(2)]).faults.len(), 2);
        let mut seen = Seen::default();
        seen.behind.insert(2, Marks::from([(1, 1)]));
        let verdict = Verdict::of(&seen, &[promise(0)]);
        assert!(verdict.disordered && verdict.faults.len() == 1);
    }
}
