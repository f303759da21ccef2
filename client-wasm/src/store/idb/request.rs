//! Requests and transactions of IndexedDB as futures, and what the browser throws as typed errors.

use crate::{slot::Slot, store::StoreError};
use rejoin_core::io::FaultClass;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{DomException, IdbRequest, IdbTransaction};

/// An error of a class, by the browser's name for it.
pub(super) fn fault(class: FaultClass, name: &str, message: impl Into<String>) -> StoreError {
    StoreError { class, name: name.into(), message: message.into() }
}

/// The typed form of what the browser threw.
pub(super) fn refused(thrown: &JsValue) -> StoreError {
    let Some(exception) = thrown.dyn_ref::<DomException>() else {
        return fault(FaultClass::Permanent, "Error", format!("{thrown:?}"));
    };
    let name = exception.name();
    let class = match name.as_str() {
        "QuotaExceededError" => FaultClass::Full,
        "InvalidStateError" | "AbortError" | "TransactionInactiveError" | "TimeoutError" => {
            FaultClass::Transient
        }
        "UnknownError" | "NotFoundError" | "NotReadableError" => FaultClass::Corrupt,
        _ => FaultClass::Permanent,
    };
    fault(class, &name, exception.message())
}

/// A request and its result.
pub(super) struct Asked {
    request: IdbRequest,
    result: Rc<Slot<Result<JsValue, StoreError>>>,
    // Called by the browser until the request is done or dropped.
    _callbacks: [Closure<dyn FnMut()>; 2],
}

impl Asked {
    pub(super) fn new(request: IdbRequest) -> Self {
        let result = Rc::new(Slot::default());
        let (slot, asked) = (Rc::clone(&result), request.clone());
        let on_success = Closure::<dyn FnMut()>::new(move || {
            slot.fill(asked.result().map_err(|thrown| refused(&thrown)));
        });
        let (slot, asked) = (Rc::clone(&result), request.clone());
        let on_error = Closure::<dyn FnMut()>::new(move || {
            let error = asked.error().ok().flatten();
            slot.fill(Err(refused(&error.map_or(JsValue::UNDEFINED, JsValue::from))));
        });
        request.set_onsuccess(Some(on_success.as_ref().unchecked_ref()));
        request.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Self { request, result, _callbacks: [on_success, on_error] }
    }

    pub(super) async fn done(self) -> Result<JsValue, StoreError> {
        self.result.take().await
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.request.set_onsuccess(None);
        self.request.set_onerror(None);
    }
}

/// The end of a transaction.
pub(super) struct Ended {
    transaction: IdbTransaction,
    result: Rc<Slot<Result<(), StoreError>>>,
    // Called by the browser until the transaction has ended or this is dropped.
    _callbacks: [Closure<dyn FnMut()>; 2],
}

impl Ended {
    pub(super) fn of(transaction: &IdbTransaction) -> Self {
        let result = Rc::new(Slot::default());
        let slot = Rc::clone(&result);
        let on_complete = Closure::<dyn FnMut()>::new(move || slot.fill(Ok(())));
        let (slot, of) = (Rc::clone(&result), transaction.clone());
        let on_abort = Closure::<dyn FnMut()>::new(move || {
            let error = of.error().map(JsValue::from);
            slot.fill(Err(error.map_or_else(
                || fault(FaultClass::Transient, "AbortError", "the transaction was aborted"),
                |error| refused(&error),
            )));
        });
        transaction.set_oncomplete(Some(on_complete.as_ref().unchecked_ref()));
        transaction.set_onabort(Some(on_abort.as_ref().unchecked_ref()));
        let transaction = transaction.clone();
        Self { transaction, result, _callbacks: [on_complete, on_abort] }
    }

    pub(super) async fn done(self) -> Result<(), StoreError> {
        self.result.take().await
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.transaction.set_oncomplete(None);
        self.transaction.set_onabort(None);
    }
}
