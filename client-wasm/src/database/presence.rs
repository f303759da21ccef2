//! What this tab shows of itself right now, and what others do: between the page, the engine and the other tabs.
//!
//! Every tab's engine knows what all tabs of this browser show, and the leading one says it to the server: whoever
//! leads next can go on. What the server tells of others the leading tab passes on. Absent: anything stored.

use super::{Database, Word};
use crate::{
    convert::{self, shown},
    entropy::random,
    error::{Code, Failure},
    js::object,
};
use core::cell::{Cell, RefCell};
use js_sys::{Array, Reflect};
use rejoin_core::protocol::{
    engine::Input,
    message::{Other, Others, Presence},
};
use wasm_bindgen::JsValue;

/// What is known of this tab.
#[derive(Debug)]
pub(super) struct Present {
    /// Its number among those of this browser.
    tab: u32,
    /// What it shows, in the form of the page.
    value: RefCell<Option<JsValue>>,
    /// Whether the page wants to know of others.
    attends: Cell<bool>,
}

impl Default for Present {
    fn default() -> Self {
        let tab = u32::from_be_bytes(random());
        Self { tab, value: RefCell::default(), attends: Cell::default() }
    }
}

impl Database {
    /// Shows a value of this tab from now on, or nothing (`undefined`).
    ///
    /// # Errors
    /// [`Failure`] for what is no value, and beyond the limits.
    pub(crate) fn present(&self, given: JsValue) -> Result<(), Failure> {
        let here = !given.is_undefined();
        let value = here.then(|| convert::value(&given)).transpose()?;
        if let Some(value) = &value {
            let refused = |error: rejoin_core::protocol::message::PresenceError| {
                Failure::new(Code::TooLarge, error.to_string())
            };
            Presence::admit(value).map_err(refused)?;
        }
        *self.present.value.borrow_mut() = here.then_some(given);
        self.feed(Input::Present { tab: self.present.tab.into(), value });
        self.say_to_tabs(Word::Present);
        Ok(())
    }

    /// Tells the page of others from now on.
    pub(crate) fn attend(&self) {
        if self.present.attends.replace(true) {
            return;
        }
        self.feed(Input::Attend);
        if let Some(all) = self.all_others() {
            self.wires.emit(&all);
        }
        self.say_to_tabs(Word::Who { attends: true });
    }

    /// The number of this tab, and what it shows.
    pub(crate) fn presented(&self) -> (u32, Option<JsValue>) {
        (self.present.tab, self.present.value.borrow().clone())
    }

    /// Whether this tab takes part.
    pub(crate) fn uses_presence(&self) -> bool {
        self.present.attends.get() || self.present.value.borrow().is_some()
    }

    /// Another tab of this browser shows a value, or nothing.
    pub(crate) fn tab_shows(&self, tab: u32, value: Option<JsValue>) {
        // One of another build may show what is no value here: as if it showed nothing.
        let shown = value.and_then(|given| Some((convert::value(&given).ok()?, given)));
        let (taken, value) = shown.unzip();
        self.feed(Input::Present { tab: tab.into(), value: taken });
        let id = JsValue::from_str(&format!("tab/{tab}"));
        let (here, gone) = (Array::new(), Array::new());
        match value {
            Some(value) => {
                let principal =
                    self.engine(|engine| engine.replica().principal().map(JsValue::from));
                let principal = principal.unwrap_or(JsValue::NULL);
                here.push(&object(&[("id", id), ("principal", principal), ("value", value)]));
            }
            None => {
                gone.push(&id);
            }
        }
        self.tell_others(&event("tabs", false, here, gone));
    }

    /// The server told of others, or can tell no more.
    pub(crate) fn others(&self, others: &Others) {
        let here = others.here.iter().map(other).collect();
        let gone = others.gone.iter().map(|id| JsValue::from_str(&server_id(*id))).collect();
        let told = event("server", others.anew, here, gone);
        self.tell_others(&told);
        if self.engine(|engine| engine.status().leading) {
            self.say_to_tabs(Word::Others(&told));
        }
    }

    /// This tab leads from now on: what another one was told is over, and what the others show is to be known.
    pub(crate) fn begin_presence(&self) {
        self.others(&Others { anew: true, ..Others::default() });
        self.say_to_tabs(Word::Who { attends: false });
    }

    /// The leading tab passes on what the server told.
    pub(crate) fn hear_others(&self, told: &JsValue) {
        let field = |name: &str| Reflect::get(told, &JsValue::from_str(name)).unwrap_or_default();
        let is_list = |name: &str| Array::is_array(&field(name));
        // Of another build it may be of another form.
        let is_ours = field("type") == "others" && field("from") == "server";
        if is_ours && is_list("here") && is_list("gone") {
            self.tell_others(told);
        }
    }

    /// Tells the page, if it wants to know.
    fn tell_others(&self, told: &JsValue) {
        if self.present.attends.get() {
            self.wires.emit(told);
        }
    }

    /// All that the server told, where this tab leads.
    pub(crate) fn all_others(&self) -> Option<JsValue> {
        self.engine(|engine| {
            let leads = engine.status().leading;
            leads.then(|| {
                let here = engine.others().values().map(other).collect();
                event("server", true, here, Array::new())
            })
        })
    }

    fn say_to_tabs(&self, word: Word<'_>) {
        if let Some(tell_tabs) = self.tell_tabs.get() {
            tell_tabs(word);
        }
    }
}

fn event(from: &str, anew: bool, here: Array, gone: Array) -> JsValue {
    object(&[
        ("type", JsValue::from_str("others")),
        ("from", JsValue::from_str(from)),
        ("anew", JsValue::from_bool(anew)),
        ("here", here.into()),
        ("gone", gone.into()),
    ])
}

fn other(other: &Other) -> JsValue {
    object(&[
        ("id", JsValue::from_str(&server_id(other.id))),
        ("principal", JsValue::from_str(&other.principal)),
        ("value", shown(&other.value)),
    ])
}

fn server_id(id: u64) -> String {
    format!("server/{id}")
}
