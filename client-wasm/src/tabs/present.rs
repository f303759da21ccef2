//! Tabs that tell each other what they show, and notice when one is gone.
//!
//! A tab that shows something holds a lock of its own number as long as it lives, and is heard of once it does; whoever
//! has heard of it waits for that lock, and has outlived it when it comes. Without locks tabs do not tell each other.

use super::{Tabs, locks};
use crate::{database::Database, js::object, page::promise, poison};
use core::cell::{Cell, RefCell};
use js_sys::Function;
use rejoin_core::{protocol::engine::Input, sorted::SortedSet};
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};

/// How this tab is known to live, and of which others it would notice that they do not.
#[derive(Debug)]
pub(super) struct Life {
    /// Locks of tabs begin so.
    prefix: String,
    asked: Cell<bool>,
    /// Gives this tab's lock back.
    release: RefCell<Option<Function>>,
    watched: RefCell<SortedSet<u32>>,
}

impl Life {
    pub(super) fn of(name: &str) -> Self {
        Self {
            prefix: format!("rejoin/{name}/tab/"),
            asked: Cell::new(false),
            release: RefCell::default(),
            watched: RefCell::default(),
        }
    }
}

impl Tabs {
    /// What this tab shows has changed: says so, at first as soon as nobody can take it for gone.
    pub(super) fn show(self: &Rc<Self>) {
        let Some(database) = self.database.upgrade() else { return };
        if self.life.release.borrow().is_some() {
            self.say_present(&database);
        } else if !self.life.asked.replace(true) {
            let (tab, _) = database.presented();
            let (held, release, _reject) = promise();
            let tabs = Rc::clone(self);
            self.request(tab, move || {
                let database = tabs.database.upgrade().filter(|_| !tabs.closed.get())?;
                *tabs.life.release.borrow_mut() = Some(release);
                tabs.say_present(&database);
                Some(held.into())
            });
        }
    }

    /// Somebody asks who is there, and wants to be told of others from now on, or leads and has to know.
    pub(super) fn asked_who(&self, database: &Database, attends: bool) {
        if attends {
            database.feed(Input::Attend);
        }
        if database.uses_presence() {
            self.say_present(database);
        }
        if let Some(told) = database.all_others() {
            self.say("others", &[("told", told)]);
        }
    }

    /// Another tab says what it shows.
    pub(super) fn hear_present(
        self: &Rc<Self>,
        database: &Database,
        tab: Option<JsValue>,
        value: Option<JsValue>,
    ) {
        let value = value.filter(|value| !value.is_undefined());
        let number = tab.and_then(|tab| tab.as_f64()).map(rejoin_core::record::Number::from_f64);
        let number = number.and_then(|tab| u32::try_from(tab.as_i64()?).ok());
        let Some(tab) = number else { return };
        if value.is_some() && self.life.watched.borrow_mut().insert(tab) {
            let tabs = Rc::downgrade(self);
            self.request(tab, move || {
                let tabs = tabs.upgrade().filter(|tabs| !tabs.closed.get())?;
                tabs.life.watched.borrow_mut().remove(&tab);
                tabs.database.upgrade()?.tab_shows(tab, None);
                None
            });
        }
        database.tab_shows(tab, value);
    }

    /// This tab shows nothing any more.
    pub(super) fn end_presence(&self) {
        if let (Some(release), Some(database)) = (self.life.release.take(), self.database.upgrade())
        {
            let (tab, _) = database.presented();
            self.say("present", &[("tab", tab.into())]);
            drop(release.call0(&JsValue::UNDEFINED));
        }
    }

    /// Says what this tab shows; a value only while the others can notice its end.
    fn say_present(&self, database: &Database) {
        let (tab, value) = database.presented();
        let value = value.filter(|_| self.life.release.borrow().is_some());
        let value = value.unwrap_or(JsValue::UNDEFINED);
        self.say("present", &[("tab", tab.into()), ("value", value)]);
    }

    /// Asks for the lock of a tab. `granted` returns how long it is to be held.
    fn request(&self, tab: u32, granted: impl FnOnce() -> Option<JsValue> + 'static) {
        let Some(locks) = locks() else { return };
        let on_grant = Closure::once_into_js(move |_lock: JsValue| -> JsValue {
            poison::event(granted).flatten().unwrap_or(JsValue::UNDEFINED)
        });
        let (name, options) = (format!("{}{tab}", self.life.prefix), object(&[]));
        let request = locks.request(&name, options.unchecked_ref(), on_grant.unchecked_ref());
        if let Ok(request) = request {
            // Where there can be no locks (a sandboxed frame) it fails: then there is nothing to be told.
            poison::spawn(async move { drop(wasm_bindgen_futures::JsFuture::from(request).await) });
        }
    }
}
