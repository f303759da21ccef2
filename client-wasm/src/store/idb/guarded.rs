//! Guards of a transaction: read while what they guard is on its way already, and judged by the browser's own calls.
//!
//! Invariant: the transaction is committed only when every guard was found to hold and everything was asked for. It is
//! aborted if one does not hold, if this is dropped before that is known, or if a call ends in an error: what the
//! browser throws at a listener aborts its transaction.

use super::{CommittableTransaction, object_store, optional_value, request::refused, stored};
use crate::store::StoreError;
use core::cell::Cell;
use rejoin_core::io::Guard;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{IdbRequest, IdbTransaction};

/// What is known of the guards.
struct Judgement {
    transaction: IdbTransaction,
    /// Guards that were not read yet.
    open: Cell<usize>,
    /// Whether one was found not to hold.
    failed: Cell<bool>,
    /// Whether all that belongs to the transaction was asked for.
    whole: Cell<bool>,
}

impl Judgement {
    /// A guard was read.
    fn judge(&self, holds: bool) {
        self.open.set(self.open.get().saturating_sub(1));
        if !holds {
            self.failed.set(true);
        }
        if self.failed.get() || !self.whole.get() {
            self.give_up();
        } else {
            self.commit_if_clear();
        }
    }

    fn commit_if_clear(&self) {
        if self.open.get() == 0 {
            // Saves a turn; where it cannot be called the transaction ends by itself.
            drop(self.transaction.unchecked_ref::<CommittableTransaction>().commit());
        }
    }

    fn give_up(&self) {
        // One that has ended is not to be undone.
        drop(self.transaction.abort());
    }
}

/// Reads a guard, and judges it as soon as the browser has it.
struct Reading {
    request: IdbRequest,
    // Called by the browser until the guard is read or this is dropped.
    _judge: Closure<dyn FnMut() -> Result<(), JsValue>>,
}

/// The guards of a transaction that writes.
pub(super) struct Guarded {
    judgement: Rc<Judgement>,
    readings: Vec<Reading>,
}

impl Guarded {
    /// Asks for what they guard: before any write of the transaction.
    ///
    /// # Errors
    /// [`StoreError`] when the browser refuses; then the transaction is aborted.
    pub(super) fn read(
        transaction: &IdbTransaction,
        guards: Vec<Guard>,
    ) -> Result<Self, StoreError> {
        let judgement = Judgement {
            transaction: transaction.clone(),
            open: Cell::new(guards.len()),
            failed: Cell::new(false),
            whole: Cell::new(false),
        };
        let mut guarded = Self { judgement: Rc::new(judgement), readings: Vec::new() };
        for Guard { keyspace, key, seen } in guards {
            let request = object_store(transaction, keyspace)?.get(&stored(&key));
            let request = request.map_err(|thrown| refused(&thrown))?;
            let (judgement, asked) = (Rc::clone(&guarded.judgement), request.clone());
            let judge = Closure::new(move || {
                let found = optional_value(&asked.result()?);
                judgement.judge(found.is_ok_and(|found| found == seen));
                Ok(())
            });
            request.set_onsuccess(Some(judge.as_ref().unchecked_ref()));
            guarded.readings.push(Reading { request, _judge: judge });
        }
        Ok(guarded)
    }

    /// All that belongs to the transaction was asked for.
    pub(super) fn asked_all(&self) {
        self.judgement.whole.set(true);
        self.judgement.commit_if_clear();
    }

    /// Whether a guard was found not to hold.
    pub(super) fn failed(&self) -> bool {
        self.judgement.failed.get()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for reading in &self.readings {
            reading.request.set_onsuccess(None);
        }
        if self.judgement.open.get() > 0 || !self.judgement.whole.get() {
            self.judgement.give_up();
        }
    }
}
