//! How safe the stored data is: what the browser says of it, and what goes wrong.

use super::Database;
use crate::{error::Failure, js::to_js, page, poison::spawn, status::Storage, store::AnyStore};
use rejoin_core::io::FaultClass;
use std::rc::Rc;
use wasm_bindgen::JsValue;

impl Database {
    /// After a commit of a row, 0 for none: the store works, and the browser is asked once to keep what is in
    /// it.
    pub(super) fn wrote(self: &Rc<Self>, row: u64) {
        if row > 0 && matches!(self.store, AnyStore::Idb(_)) {
            self.promise(row);
        }
        let mut storage = self.storage.get();
        // A commit that was under way when the database was taken away says nothing of those to come.
        if !self.is_gone.get() && storage.problem.take().is_some() {
            self.set_storage(storage, "the data can be stored again");
        }
        if matches!(self.store, AnyStore::Idb(_)) && !self.persist_asked.replace(true) {
            let database = Rc::clone(self);
            spawn(async move {
                page::persist().await;
                database.look_at_storage("the browser was asked to keep the data").await;
            });
        }
    }

    /// The write of a row has returned: that is put down behind whoever waited for it.
    fn promise(self: &Rc<Self>, row: u64) {
        if self.promised.note(row) {
            let database = Rc::clone(self);
            page::behind(move || database.put_down_promises());
        }
    }

    /// Puts down how far writes have returned.
    pub(crate) fn put_down_promises(&self) {
        self.promised.put_down();
    }

    /// Tells whether writes that were promised are not in the database that was opened.
    pub(crate) fn look_for_lost(&self) {
        let last = self.engine(|engine| engine.replica().last());
        if matches!(self.store, AnyStore::Idb(_)) && self.promised.has_lost(last) {
            // It stays in the status of this page, and in that of the next ones until the app has read it.
            let storage = Storage { writes_lost: true, ..self.storage.get() };
            self.set_storage(storage, "writes that had returned and were not sent are gone");
        }
    }

    /// The app has read that writes are gone.
    pub(crate) fn loss_read(&self) {
        if self.storage.get().writes_lost {
            self.promised.loss_read();
        }
    }

    /// Nothing waits to be sent.
    pub(super) fn all_sent(&self) {
        self.promised.sent(self.engine(|engine| engine.replica().last()));
    }

    /// The store failed: notes what that means.
    pub(crate) fn store_failed(&self, class: FaultClass) {
        let mut storage = self.storage.get();
        storage.problem = match class {
            FaultClass::Full => Some("quota"),
            FaultClass::Corrupt => Some("unreadable"),
            FaultClass::Transient => return,
            FaultClass::Permanent => storage.problem.or(Some("lost")),
            _ => storage.problem,
        };
        self.set_storage(storage, &Failure::store(class).to_string());
    }

    /// The stored database was taken away for good.
    pub(crate) fn gone(&self, problem: &'static str, text: &str) {
        self.is_gone.set(true);
        let mut storage = self.storage.get();
        storage.problem = Some(problem);
        self.set_storage(storage, text);
    }

    /// Notes whether a crash is known to be able to take along what the browser tells to be stored, as it has begun no new log.
    pub(crate) fn at_risk(&self, at_risk: bool) {
        let text = if at_risk { "the browser begins no new log" } else { "no risk is known" };
        self.set_storage(Storage { at_risk, ..self.storage.get() }, text);
    }

    /// Asks the browser about the storage, and tells what is new.
    pub(crate) async fn look_at_storage(&self, text: &str) {
        if let AnyStore::Idb(_) = self.store {
            let seen = page::storage().await;
            let Storage { problem, writes_lost, at_risk, .. } = self.storage.get();
            self.set_storage(Storage { problem, writes_lost, at_risk, ..seen }, text);
        }
    }

    fn set_storage(&self, storage: Storage, text: &str) {
        if self.storage.replace(storage) != storage {
            self.tell(&[
                ("type", JsValue::from_str("storage")),
                ("storage", to_js(&storage)),
                ("text", JsValue::from_str(text)),
            ]);
            self.tell_status();
        }
    }
}
