//! Somebody who looks all the time, while others write and servers come and go: whatever is shown, at any moment, is
//! whole, in causal order, and no less than what was shown before.

use crate::script::{self, Marks, Seen};
use rejoin_client::Client;
use std::{
    cell::{Cell, RefCell},
    path::Path,
};
use tokio::sync::watch;

/// What cannot be seen, and was: by kind, so many looks; and in words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// A part of a batch, or one that counts twice.
    pub(crate) torn: u64,
    /// A batch without one that it follows.
    pub(crate) disordered: u64,
    /// Less than before.
    pub(crate) receded: u64,
    pub(crate) told: Vec<String>,
}

/// A client that only reads.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    last: RefCell<Seen>,
    faults: RefCell<Faults>,
    looks: Cell<u64>,
    followed: Cell<u64>,
}

impl Reader {
    pub(crate) async fn open(directory: &Path, url: String) -> anyhow::Result<Self> {
        let options = script::options(&directory.join("reader.db"), Some(url))?;
        Ok(Self {
            client: Client::open(options).await?,
            last: RefCell::default(),
            faults: RefCell::default(),
            looks: Cell::default(),
            followed: Cell::default(),
        })
    }

    /// Looks at whatever changes, until `stop` says so.
    pub(crate) async fn watch_until(&self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        while !*stop.borrow() {
            let changed = self.client.changed();
            self.look()?;
            tokio::select! {
                () = changed => {}
                // Who would say it is gone: that is the end too.
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Looks once more.
    pub(crate) fn look(&self) -> anyhow::Result<()> {
        let seen = Seen::of(&self.client)?;
        let last = self.last.replace(seen.clone());
        if last == seen {
            return Ok(());
        }
        let back =
            seen.lacking(&last.marks).map(|lacking| format!("not shown any more: {lacking}"));
        let mut faults = self.faults.borrow_mut();
        let (torn, disorder) = (seen.fault(), seen.disorder());
        faults.torn += u64::from(torn.is_some());
        faults.disordered += u64::from(disorder.is_some());
        faults.receded += u64::from(back.is_some());
        let found = [torn, disorder, back].into_iter().flatten();
        faults.told.extend(found.map(|fault| format!("the reader: {fault}")));
        self.looks.update(|looks| looks + 1);
        if seen.behind.values().any(|behind: &Marks| !behind.is_empty()) {
            self.followed.update(|followed| followed + 1);
        }
        Ok(())
    }

    /// What it saw that cannot be.
    pub(crate) fn faults(&self) -> Faults {
        self.faults.borrow().clone()
    }

    /// How often something else was shown.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// How often with a batch that follows one of somebody else.
    pub(crate) fn followed(&self) -> u64 {
        self.followed.get()
    }
}
