//! How a database stands: what the page and the other tabs are told, and what of it outlives the page.

use super::{Database, Word};
use crate::{
    clock::{pause, wall},
    error::Failure,
    js::to_js,
    poison::spawn,
    status::{Kept, RawStatus, Sync},
    store::AnyStore,
};
use rejoin_core::{
    id::Pattern,
    io::{Batch, CommitOutcome, Keyspace},
    port::{Fault, Store},
    time::Millis,
};
use std::rc::Rc;
use wasm_bindgen::JsValue;

/// Where what is kept beside the engine's own rows stands: [`Kept`].
const META_KEPT: &[u8] = b"browser";
/// How long at least between two commits of it.
const KEEP_EVERY: Millis = Millis(1_000);

impl Database {
    /// Where things stand.
    pub(crate) fn status(&self) -> RawStatus {
        let sync = self.sync();
        let (status, replica) = self.engine(|engine| (engine.status(), engine.replica().id()));
        RawStatus {
            state: if self.closing.get() { "closed".into() } else { sync.state },
            paused: self.paused.get(),
            pending: status.pending,
            rejected: status.rejected,
            progress: sync.progress,
            verified: sync.verified,
            account: sync.account,
            synced: status.pending == 0 && sync.is_verified,
            last_synced_at: sync.last_synced_at,
            leader: status.leading,
            replica: replica.to_string(),
            storage: self.storage.get(),
            error: sync.error,
        }
    }

    /// What the leading tab knows, be it this one or another.
    pub(crate) fn sync(&self) -> Sync {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53")]
        let at_ms = wall().0 as f64;
        let status = self.engine(|engine| engine.status());
        if !status.leading
            && let Some(told) = &*self.told.borrow()
        {
            return told.clone();
        }
        self.memory.borrow_mut().look(&status, at_ms, || self.root())
    }

    /// The leading tab told how it stands; `None`: nobody leads for now.
    pub(crate) fn heard(&self, sync: Option<Sync>) {
        if sync.as_ref().is_some_and(|sync| sync.account.is_none()) {
            self.decided();
        }
        *self.told.borrow_mut() = sync;
        self.tell_status();
    }

    /// Tells the page, and where this tab leads the others, how things stand, if that is new.
    pub(crate) fn tell_status(&self) {
        let status = self.status();
        if status.pending == 0 {
            self.all_sent();
        }
        let before = self.last.replace(Some(status.clone()));
        if before.as_ref() != Some(&status) {
            if before.is_none_or(|before| before.state != status.state) {
                self.log("state", &status.state, 0, &status.state);
            }
            self.tell(&[("type", JsValue::from_str("status")), ("status", to_js(&status))]);
            if self.last_rejected.replace(status.rejected) != status.rejected {
                self.rows_event("rejected", &[]);
            }
        }
        let Some(tell_tabs) = self.tell_tabs.get().filter(|_| status.leader) else { return };
        let sync = self.sync();
        if self.last_sync.replace(Some(sync.clone())).as_ref() != Some(&sync) {
            tell_tabs(Word::Sync(&sync));
        }
    }

    /// Takes up what was kept, as far as it still holds.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be read.
    pub(crate) async fn recall(&self) -> Result<(), Failure> {
        let stored = self.store.get(Keyspace::Meta, META_KEPT).await;
        let stored = stored.map_err(|error| Failure::store(error.class()))?;
        let Some(mut kept) = stored.as_deref().and_then(Kept::decode) else { return Ok(()) };
        *self.kept.borrow_mut() = Some(kept.clone());
        if let Some(verified) = &kept.verified
            && verified.root != self.root()
        {
            kept.verified = None;
        }
        self.memory.borrow_mut().recall(kept);
        self.tell_status();
        Ok(())
    }

    fn root(&self) -> String {
        self.engine(|engine| engine.replica_mut().base_mut().root(&Pattern::All).to_string())
    }

    /// What is to be kept and is not yet. Only the leading tab knows it at first hand.
    fn unkept(&self) -> Option<Kept> {
        let leads = self.engine(|engine| engine.status().leading);
        let kept = self.memory.borrow().kept();
        let is_new = kept != Kept::default() && self.kept.borrow().as_ref() != Some(&kept);
        (leads && is_new && matches!(self.store, AnyStore::Idb(_))).then_some(kept)
    }

    /// Keeps, soon, what should outlive the page.
    pub(crate) fn keep_soon(self: &Rc<Self>) {
        if self.unkept().is_none() || self.keeping.replace(true) {
            return;
        }
        let database = Rc::clone(self);
        spawn(async move {
            while database.keep().await {
                pause(KEEP_EVERY).await;
            }
            database.keeping.set(false);
        });
    }

    /// Keeps what should outlive the page; whether there was anything to be kept, and it could be.
    pub(crate) async fn keep(&self) -> bool {
        let Some(kept) = self.unkept() else { return false };
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        batch.put(Keyspace::Meta, META_KEPT.to_vec(), kept.encode());
        // What cannot be kept now is tried with the next change; no data hangs on it.
        let is_kept = matches!(self.store.commit(batch).await, Ok(CommitOutcome::Applied));
        if is_kept {
            *self.kept.borrow_mut() = Some(kept);
        }
        is_kept
    }
}
