//! After a panic nothing in this instance can be trusted: every open database is told, what waits fails,
//! and later calls are refused. What was committed is whole, as each commit is one transaction.

use crate::{
    error::{Code, Failure},
    js::object,
};
use core::cell::{Cell, RefCell};
use js_sys::Function;
use std::{
    collections::BTreeMap,
    panic,
    rc::{Rc, Weak},
};
use wasm_bindgen::JsValue;

thread_local! {
    static POISONED: Cell<bool> = const { Cell::new(false) };
    static OPEN: RefCell<Vec<Weak<Wires>>> = const { RefCell::new(Vec::new()) };
}

/// What leads from a database to its page.
#[derive(Debug)]
pub(crate) struct Wires {
    emit: Function,
    silent: Cell<bool>,
    /// How to fail the promises that wait, by wish.
    waiting: RefCell<BTreeMap<u64, Function>>,
}

impl Wires {
    /// Wires that a panic will find.
    pub(crate) fn new(emit: Function) -> Rc<Self> {
        let (silent, waiting) = (Cell::new(false), RefCell::default());
        let wires = Rc::new(Self { emit, silent, waiting });
        OPEN.with_borrow_mut(|open| {
            open.retain(|known| known.strong_count() > 0);
            open.push(Rc::downgrade(&wires));
        });
        wires
    }

    /// Tells the page; what its listener throws is its own affair.
    pub(crate) fn emit(&self, event: &JsValue) {
        if !self.silent.get() {
            drop(self.emit.call1(&JsValue::UNDEFINED, event));
        }
    }

    /// Nothing is told any more.
    pub(crate) fn silence(&self) {
        self.silent.set(true);
    }

    /// A promise waits, and fails by calling `reject`.
    pub(crate) fn wait(&self, id: u64, reject: Function) {
        self.waiting.borrow_mut().insert(id, reject);
    }

    /// The promise does not wait any more.
    pub(crate) fn settled(&self, id: u64) {
        self.waiting.borrow_mut().remove(&id);
    }
}

/// Makes panics poison this instance. Can be repeated.
pub(crate) fn install() {
    thread_local!(static INSTALLED: Cell<bool> = const { Cell::new(false) });
    if !INSTALLED.replace(true) {
        panic::set_hook(Box::new(|info| poison(&info.to_string())));
    }
}

/// Fails once a panic has happened.
pub(crate) fn check() -> Result<(), Failure> {
    if POISONED.get() { Err(failure("the engine broke; reload the page")) } else { Ok(()) }
}

fn failure(message: &str) -> Failure {
    Failure::retryable(Code::Poisoned, message)
}

fn poison(message: &str) {
    if POISONED.replace(true) {
        return;
    }
    // Whatever is borrowed was in use when the panic came; the rest can still be told.
    let open = OPEN.with(|open| open.try_borrow().map(|open| open.clone()).unwrap_or_default());
    for wires in open.iter().filter_map(Weak::upgrade) {
        wires.emit(&object(&[
            ("type", JsValue::from_str("poisoned")),
            ("message", JsValue::from_str(message)),
        ]));
        if let Ok(waiting) = wires.waiting.try_borrow() {
            let error = JsValue::from(failure(message));
            for reject in waiting.values() {
                drop(reject.call1(&JsValue::UNDEFINED, &error));
            }
        }
    }
}
