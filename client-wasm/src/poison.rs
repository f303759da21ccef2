//! After a panic or a trap nothing in this instance can be trusted: every open database is told, what
//! waits fails, tasks stand still, and later calls are refused. What was committed is whole, as each commit
//! is one transaction.
//!
//! A panic runs a hook. A trap (stack or memory exhausted, an access out of bounds) and an exception that
//! passes through run nothing: control never comes back to where it left. So tasks and events leave a mark
//! while they run, and whoever finds it where nothing can be running knows.

use crate::{
    error::{Code, Failure},
    js::object,
    planted::Bug,
};
use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    task::Poll,
};
use js_sys::Function;
use rejoin_core::sorted::SortedMap;
use std::{
    panic,
    rc::{Rc, Weak},
};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

thread_local! {
    static POISONED: Cell<bool> = const { Cell::new(false) };
    /// Whether a task or an event runs, other than in the page's code that it calls.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static OPEN: RefCell<Vec<Weak<Wires>>> = const { RefCell::new(Vec::new()) };
    /// How to fail the promises that wait.
    static WAITING: RefCell<SortedMap<u64, Function>> = const { RefCell::new(SortedMap::new()) };
    static WAITED: Cell<u64> = const { Cell::new(0) };
}

/// What leads from a database to its page, and what it holds of the browser's that others wait for.
#[derive(Debug)]
pub(crate) struct Wires {
    emit: Function,
    silent: Cell<bool>,
    /// Gives the leader's lock back.
    release: RefCell<Option<Function>>,
}

impl Wires {
    /// Wires that a panic will find.
    pub(crate) fn new(emit: Function) -> Rc<Self> {
        let wires = Rc::new(Self { emit, silent: Cell::new(false), release: RefCell::default() });
        OPEN.with_borrow_mut(|open| {
            open.retain(|known| known.strong_count() > 0);
            open.push(Rc::downgrade(&wires));
        });
        wires
    }

    /// Tells the page; what its listener throws is its own affair.
    pub(crate) fn emit(&self, event: &JsValue) {
        if !self.silent.get() {
            // The listener may call the engine again.
            let running = RUNNING.replace(false);
            drop(self.emit.call1(&JsValue::UNDEFINED, event));
            RUNNING.set(running);
        }
    }

    /// Nothing is told any more.
    pub(crate) fn silence(&self) {
        self.silent.set(true);
    }

    /// The leader's lock is held until `release` is called.
    pub(crate) fn hold(&self, release: Function) {
        *self.release.borrow_mut() = Some(release);
    }

    /// Whether the leader's lock is held.
    pub(crate) fn holds(&self) -> bool {
        self.release.borrow().is_some()
    }

    /// Gives the leader's lock back, if it is held.
    pub(crate) fn let_go(&self) {
        if let Some(release) = self.release.take() {
            drop(release.call0(&JsValue::UNDEFINED));
        }
    }
}

/// A promise that fails should the instance break before this is dropped.
#[derive(Debug)]
pub(crate) struct Awaited(u64);

impl Awaited {
    /// A promise waits, and fails by calling `reject`.
    pub(crate) fn new(reject: Function) -> Self {
        let id = WAITED.get() + 1;
        WAITED.set(id);
        WAITING.with_borrow_mut(|waiting| waiting.insert(id, reject));
        Self(id)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        WAITING.with_borrow_mut(|waiting| waiting.remove(&self.0));
    }
}

/// Makes panics poison this instance. Can be repeated.
pub(crate) fn install() {
    thread_local!(static INSTALLED: Cell<bool> = const { Cell::new(false) });
    if !INSTALLED.replace(true) {
        panic::set_hook(Box::new(|info| poison(&info.to_string())));
    }
}

/// Fails once the instance is broken. For where the page calls: no task and no event can be running.
pub(crate) fn check() -> Result<(), Failure> {
    if RUNNING.replace(false) {
        poison("the engine was left in the middle of its work");
    }
    if POISONED.get() { Err(failure("the engine broke; reload the page")) } else { Ok(()) }
}

/// Runs `work`, unless the instance is broken. For what the browser calls.
pub(crate) fn event<T>(work: impl FnOnce() -> T) -> Option<T> {
    check().ok()?;
    RUNNING.set(true);
    waypoint();
    let done = work();
    RUNNING.set(false);
    Some(done)
}

/// `task`, which stands still once the instance is broken.
pub(crate) async fn watched<T>(task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    poll_fn(|context| event(|| task.as_mut().poll(context)).unwrap_or(Poll::Pending)).await
}

/// Runs a task that stands still once the instance is broken.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    spawn_local(watched(task));
}

/// Where tests let the instance break.
pub(crate) fn waypoint() {
    #[cfg(feature = "test-util")]
    crate::testing::pass();
}

fn failure(message: &str) -> Failure {
    Failure::retryable(Code::Poisoned, message)
}

/// Breaks the instance.
pub(crate) fn poison(message: &str) {
    if POISONED.replace(true) || Bug::BreaksUntold.is_planted() {
        return;
    }
    // Whatever is borrowed was in use when the panic came; the rest can still be told.
    let open = OPEN.with(|open| open.try_borrow().map(|open| open.clone()).unwrap_or_default());
    for wires in open.iter().filter_map(Weak::upgrade) {
        if wires.release.try_borrow_mut().is_ok() {
            wires.let_go();
        }
        wires.emit(&object(&[
            ("type", JsValue::from_str("poisoned")),
            ("message", JsValue::from_str(message)),
        ]));
    }
    let waiting = WAITING.with(|waiting| waiting.try_borrow().map(|waiting| waiting.clone()));
    let error = JsValue::from(failure(message));
    for reject in waiting.unwrap_or_default().values() {
        drop(reject.call1(&JsValue::UNDEFINED, &error));
    }
}
