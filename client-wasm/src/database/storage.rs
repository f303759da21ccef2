//! How safe the stored data is: what the browser says of it, and what goes wrong.

use super::Database;
use crate::{error::Failure, js::to_js, page, poison::spawn, status::Storage, store::AnyStore};
use rejoin_core::io::FaultClass;
use std::rc::Rc;
use wasm_bindgen::JsValue;

impl Database {
    /// After a commit: the store works, and the browser is asked once to keep what is in it.
    pub(super) fn wrote(self: &Rc<Self>) {
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

    /// Asks the browser about the storage, and tells what is new.
    pub(crate) async fn look_at_storage(&self, text: &str) {
        if let AnyStore::Idb(_) = self.store {
            let seen = page::storage().await;
            let problem = self.storage.get().problem;
            self.set_storage(Storage { problem, ..seen }, text);
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
