//! Several tabs on one database: who leads, and hints between them.
//!
//! A Web Lock says who may lead; the fencing token in the store makes it safe. Messages over the
//! BroadcastChannel only make things faster: whatever they say is read from the store again, and each
//! carries the version of its form, so that tabs of an earlier or later build ignore what they do not know.
//! A visible tab is preferred: a hidden leader lets go when a visible tab asks.

use crate::{
    clock::pause,
    convert::from_js,
    database::Database,
    entropy::random,
    js::{object, to_js},
    page::{global, is_visible, promise},
    slot::Slot,
    status::Sync,
};
use core::cell::{Cell, RefCell};
use js_sys::{Function, Object, Promise, Reflect};
use rejoin_core::{protocol::engine::Input, time::Millis};
use std::rc::{Rc, Weak};
use wasm_bindgen::{JsCast, JsValue, closure::Closure, prelude::wasm_bindgen};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{BroadcastChannel, MessageEvent};

#[wasm_bindgen]
extern "C" {
    /// Web Locks, which `web-sys` counts as unstable.
    #[wasm_bindgen(js_name = LockManager)]
    type LockManager;
    #[wasm_bindgen(method, catch)]
    fn request(
        this: &LockManager,
        name: &str,
        options: &Object,
        granted: &Function,
    ) -> Result<Promise, JsValue>;
}

/// Version of the messages between tabs.
const VERSION: f64 = 1.0;
/// How long a tab waits before it asks for the lead again after it lost it against its will.
const ASK_AGAIN: Millis = Millis(1_000);

/// One tab's place among those of its database.
#[derive(Debug)]
pub(crate) struct Tabs {
    database: Weak<Database>,
    lock_name: String,
    channel: Option<Channel>,
    /// Gives the lock back.
    release: RefCell<Option<Function>>,
    closed: Cell<bool>,
}

#[derive(Debug)]
struct Channel {
    channel: BroadcastChannel,
    // Called by the browser until the channel is closed.
    _heard: Closure<dyn FnMut(MessageEvent)>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.channel.set_onmessage(None);
        self.channel.close();
    }
}

impl Tabs {
    /// Joins the other tabs of the database `name` and asks for the lead.
    pub(crate) fn join(name: &str, database: &Rc<Database>) -> Rc<Self> {
        let channel_name = format!("rejoin/{name}");
        let tabs = Rc::new_cyclic(|tabs: &Weak<Self>| Self {
            database: Rc::downgrade(database),
            lock_name: format!("rejoin/{name}/leader"),
            channel: Channel::open(&channel_name, tabs),
            release: RefCell::default(),
            closed: Cell::new(false),
        });
        // A database joins its tabs once.
        drop(database.tabs.set(Rc::downgrade(&tabs)));
        tabs.say("hello", &[]);
        match global(&["navigator", "locks"]) {
            Some(locks) => spawn_local(Rc::clone(&tabs).seek_lead(locks.unchecked_into())),
            // Without locks each tab leads until it meets another one's fencing token.
            None => tabs.lead(),
        }
        tabs
    }

    /// Leaves: the lock is free, nothing is heard any more.
    pub(crate) fn leave(&self) {
        self.closed.set(true);
        if let Some(channel) = &self.channel {
            channel.channel.set_onmessage(None);
        }
        self.let_go();
    }

    /// The log grew: the others may look.
    pub(crate) fn log_grew(&self) {
        self.say("grew", &[]);
    }

    /// Tells the others how the leader stands.
    pub(crate) fn tell(&self, sync: &Sync) {
        let visible = JsValue::from_bool(is_visible());
        self.say("status", &[("sync", to_js(sync)), ("visible", visible)]);
    }

    /// This page is seen now: if the leader is not, it is asked to let go.
    pub(crate) fn shown(&self) {
        match global(&["navigator", "locks"]) {
            Some(_) if !self.leads() => self.say("ask", &[]),
            Some(_) => {}
            None => self.lead(),
        }
    }

    /// The lead was lost against this tab's will.
    pub(crate) fn deposed(&self) {
        self.let_go();
    }

    fn leads(&self) -> bool {
        self.database
            .upgrade()
            .is_some_and(|database| database.engine(|engine| engine.status().leading))
    }

    fn lead(&self) {
        if let Some(database) = self.database.upgrade() {
            database.feed(Input::Lead { token: random() });
        }
    }

    fn let_go(&self) {
        if let Some(release) = self.release.take() {
            drop(release.call0(&JsValue::UNDEFINED));
        }
    }

    /// Waits for the lock, leads while it is held, and asks again.
    async fn seek_lead(self: Rc<Self>, locks: LockManager) {
        while !self.closed.get() {
            let (held, resolve, _reject) = promise();
            let granted = Rc::new(Slot::default());
            let (told, tabs) = (Rc::clone(&granted), Rc::downgrade(&self));
            let on_grant = Closure::once_into_js(move |_lock: JsValue| -> JsValue {
                let Some(tabs) = tabs.upgrade().filter(|tabs| !tabs.closed.get()) else {
                    return JsValue::UNDEFINED;
                };
                *tabs.release.borrow_mut() = Some(resolve);
                told.fill(());
                held.into()
            });
            let request = locks.request(&self.lock_name, &Object::new(), on_grant.unchecked_ref());
            let Ok(request) = request else {
                // A document that may not hold locks (a sandboxed frame).
                self.lead();
                return;
            };
            let leading = Rc::clone(&self);
            spawn_local(async move {
                granted.take().await;
                leading.lead();
            });
            // Ends when the lock is given back, or was taken away.
            let stolen = JsFuture::from(request).await.is_err();
            self.release.take();
            if self.closed.get() {
                return;
            }
            if let Some(database) = self.database.upgrade() {
                database.feed(Input::Follow);
                database.heard(None);
            }
            if stolen {
                pause(ASK_AGAIN).await;
            }
        }
    }

    fn say(&self, kind: &str, more: &[(&str, JsValue)]) {
        let Some(channel) = self.channel.as_ref().filter(|_| !self.closed.get()) else { return };
        let mut fields =
            Vec::from([("v", JsValue::from_f64(VERSION)), ("kind", JsValue::from_str(kind))]);
        fields.extend_from_slice(more);
        // What cannot be posted is found in the store by the next look.
        drop(channel.channel.post_message(&object(&fields)));
    }

    fn hear(&self, message: &JsValue) {
        let field = |name: &str| Reflect::get(message, &JsValue::from_str(name)).ok();
        let version = field("v").and_then(|version| version.as_f64());
        let kind = field("kind").and_then(|kind| kind.as_string()).unwrap_or_default();
        let Some(database) = self.database.upgrade() else { return };
        if version.is_none_or(|version| version.total_cmp(&VERSION).is_ne()) || self.closed.get() {
            return;
        }
        let leads = self.leads();
        match kind.as_str() {
            "grew" => database.feed(Input::Hint),
            "hello" if leads => self.tell(&database.sync()),
            "ask" if leads && !is_visible() => self.let_go(),
            "status" if !leads => {
                let sync = field("sync").and_then(|sync| from_js::<Sync>(sync).ok());
                let leader_is_hidden = field("visible").is_some_and(|visible| visible.is_falsy());
                database.heard(sync);
                if leader_is_hidden && is_visible() {
                    self.say("ask", &[]);
                }
            }
            _ => {}
        }
    }
}

impl Channel {
    fn open(name: &str, tabs: &Weak<Tabs>) -> Option<Self> {
        let channel = BroadcastChannel::new(name).ok()?;
        let tabs = Weak::clone(tabs);
        let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(tabs) = tabs.upgrade() {
                tabs.hear(&event.data());
            }
        });
        channel.set_onmessage(Some(heard.as_ref().unchecked_ref()));
        Some(Self { channel, _heard: heard })
    }
}
