//! The page around the engine: whether it is visible, what it goes through, and its storage.
//!
//! A worker has no `document`, no `localStorage` and may not ask for storage to be kept; `ts/stage.ts` puts what
//! stands in for them under [`STAGE`].

use crate::{
    clock::{mono, pause, wall},
    poison,
    status::Storage,
};
use js_sys::{Function, Promise, Reflect};
use rejoin_core::time::Millis;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{EventTarget, StorageEstimate};

/// A gap between two ticks above this means that the page was frozen or the machine asleep.
const GAP_MAX: Millis = Millis(30_000);

/// Where a worker keeps what its page lends it.
const STAGE: &str = "rejoinStage";

/// A property; `None` where it is absent.
fn property(object: &JsValue, name: &str) -> Option<JsValue> {
    let found = Reflect::get(object, &JsValue::from_str(name)).ok()?;
    (!found.is_undefined() && !found.is_null()).then_some(found)
}

/// Follows properties.
fn follow(root: JsValue, path: &[&str]) -> Option<JsValue> {
    path.iter().try_fold(root, |object, name| property(&object, name))
}

/// Where properties are looked for: the global object, then what a page lends its worker.
fn roots() -> impl Iterator<Item = JsValue> {
    let global = JsValue::from(js_sys::global());
    let stage = property(&global, STAGE);
    core::iter::once(global).chain(stage)
}

/// Follows properties from the global object; `None` where one is absent.
pub(crate) fn global(path: &[&str]) -> Option<JsValue> {
    roots().find_map(|root| follow(root, path))
}

/// Calls a method that returns a promise and awaits it; `None` where there is none or it fails.
async fn ask(path: &[&str], method: &str) -> Option<JsValue> {
    let (object, function) = roots().find_map(|root| {
        let object = follow(root, path)?;
        let function: Function = property(&object, method)?.dyn_into().ok()?;
        Some((object, function))
    })?;
    let promise: Promise = function.call0(&object).ok()?.dyn_into().ok()?;
    JsFuture::from(promise).await.ok()
}

/// Whether someone can see this page; what is no page and has none counts as seen.
pub(crate) fn is_visible() -> bool {
    global(&["document", "visibilityState"])
        .is_none_or(|state| state.as_string().as_deref() != Some("hidden"))
}

/// Does something behind whoever waits for a call of this turn: a millisecond later. A hidden page, whose timers are
/// slow, does it at once.
pub(crate) fn behind(work: impl FnOnce() + 'static) {
    if !is_visible() {
        return work();
    }
    poison::spawn(async move {
        pause(Millis(0)).await;
        work();
    });
}

/// What the browser says of the origin's storage; it knows no problems.
pub(crate) async fn storage() -> Storage {
    let persisted = ask(&["navigator", "storage"], "persisted").await;
    let mode =
        if persisted.is_some_and(|yes| yes.is_truthy()) { "persistent" } else { "best-effort" };
    let estimate = ask(&["navigator", "storage"], "estimate").await;
    let estimate = estimate.map(JsCast::unchecked_into::<StorageEstimate>);
    Storage {
        mode,
        usage: estimate.as_ref().and_then(StorageEstimate::get_usage),
        quota: estimate.as_ref().and_then(StorageEstimate::get_quota),
        problem: None,
        writes_lost: false,
        at_risk: false,
    }
}

/// Asks the browser to keep the data; whether it does shows in [`storage`].
pub(crate) async fn persist() {
    drop(ask(&["navigator", "storage"], "persist").await);
}

/// What a page goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The network may be back, or the page was woken.
    Awake,
    /// It is shown.
    Shown,
    /// It is hidden.
    Hidden,
}

/// Listens for moments until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    targets: Vec<(EventTarget, &'static str)>,
    callback: Closure<dyn FnMut(web_sys::Event)>,
}

impl Watch {
    /// Calls `heard` at each moment.
    pub(crate) fn new(heard: impl Fn(Moment) + 'static) -> Self {
        let callback = Closure::<dyn FnMut(web_sys::Event)>::new(move |event: web_sys::Event| {
            let moment = match event.type_().as_str() {
                "visibilitychange" if is_visible() => Moment::Shown,
                "visibilitychange" => Moment::Hidden,
                _ => Moment::Awake,
            };
            poison::event(|| heard(moment));
        });
        let window: Option<EventTarget> = js_sys::global().dyn_into().ok();
        let document: Option<EventTarget> =
            global(&["document"]).and_then(|document| document.dyn_into().ok());
        let of_window = ["online", "pageshow"].into_iter();
        let of_document = ["visibilitychange", "resume"].into_iter();
        let targets: Vec<_> = of_window
            .filter_map(|name| Some((window.clone()?, name)))
            .chain(of_document.filter_map(|name| Some((document.clone()?, name))))
            .collect();
        let function: &Function = callback.as_ref().unchecked_ref();
        for (target, name) in &targets {
            // It fails only for a callback that cannot be called.
            drop(target.add_event_listener_with_callback(name, function));
        }
        Self { targets, callback }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let function: &Function = self.callback.as_ref().unchecked_ref();
        for (target, name) in &self.targets {
            drop(target.remove_event_listener_with_callback(name, function));
        }
    }
}

/// Notices that time went by unseen.
#[derive(Debug)]
pub(crate) struct Ticks {
    mono: u64,
    wall: u64,
}

impl Ticks {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self { mono: mono().0, wall: wall().0 }
    }

    /// Whether the page was frozen since the last call. Both clocks are looked at: some browsers stop
    /// the monotonic one while the machine sleeps.
    pub(crate) fn gap(&mut self) -> bool {
        let before = core::mem::replace(self, Self::start());
        let gap = self.mono.saturating_sub(before.mono).max(self.wall.saturating_sub(before.wall));
        gap > GAP_MAX.0
    }
}

/// A promise, and what resolves and rejects it.
pub(crate) fn promise() -> (Promise, Function, Function) {
    let mut settle = (JsValue::UNDEFINED.unchecked_into(), JsValue::UNDEFINED.unchecked_into());
    // The browser calls this before `new` returns.
    let promise = Promise::new(&mut |resolve, reject| settle = (resolve, reject));
    (promise, settle.0, settle.1)
}
