//! Several tabs on one database: who leads, and hints between them.
//!
//! A Web Lock says who may lead; the fencing token in the store makes it safe. Messages over the
//! BroadcastChannel only make things faster: whatever they say is read from the store again, and each
//! carries the version of its form, so that tabs of an earlier or later build ignore what they do not know.
//! A visible tab is preferred: a hidden leader lets go when a visible tab asks. A frozen tab keeps its lock,
//! so a leader that answers nobody loses it to one that asked: should it wake up, the fencing token keeps
//! it from writing.

mod present;

use crate::{
    clock::{mono, pause},
    convert::from_js,
    database::{Database, Word},
    entropy::random,
    js::{object, to_js},
    page::{behind, global, is_visible, promise},
    poison,
    status::Sync,
};
use core::cell::{Cell, RefCell};
use js_sys::{Function, Object, Promise, Reflect};
use rejoin_core::{
    driver::Backoff,
    protocol::engine::Input,
    time::{Millis, MonoMillis},
};
use std::rc::{Rc, Weak};
use wasm_bindgen::{JsCast, JsValue, closure::Closure, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
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
/// How long a tab waits at least before it asks for the lead again after it lost it against its will.
const ASK_AGAIN: Millis = Millis(1_000);
/// A lead that lasted as long shows that nothing is wrong any more.
const LED_WELL: Millis = Millis(60_000);
/// Looks in a row, each with a question, after which a leader that did not answer is taken for frozen.
const UNANSWERED_MAX: u32 = 4;

/// One tab's place among those of its database.
#[derive(Debug)]
pub(crate) struct Tabs {
    database: Weak<Database>,
    lock_name: String,
    channel: Option<Channel>,
    closed: Cell<bool>,
    /// Between attempts to lead that end badly.
    backoff: RefCell<Backoff>,
    /// Whether the lock was given back because this tab cannot lead for now.
    failed: Cell<bool>,
    /// When the lock was last had.
    granted_at: Cell<MonoMillis>,
    /// Looks since the leader was last heard.
    unanswered: Cell<u32>,
    /// Whether the others are still to hear that the log grew.
    grew: Cell<bool>,
    /// What the others need to tell whether this tab is there.
    life: present::Life,
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
            closed: Cell::new(false),
            backoff: RefCell::default(),
            failed: Cell::new(false),
            granted_at: Cell::new(mono()),
            unanswered: Cell::new(0),
            grew: Cell::new(false),
            life: present::Life::of(name),
        });
        let told = Rc::downgrade(&tabs);
        database.tell_tabs(move |word| {
            if let Some(tabs) = told.upgrade() {
                tabs.pass_on(&word);
            }
        });
        tabs.say("hello", &[]);
        match locks() {
            Some(locks) => poison::spawn(Rc::clone(&tabs).seek_lead(locks)),
            // Without locks each tab leads until it meets another one's fencing token.
            None => tabs.lead(),
        }
        tabs
    }

    /// Leaves: the lock is free, nothing is heard any more.
    pub(crate) fn leave(&self) {
        self.say_grown();
        self.end_presence();
        self.closed.set(true);
        if let Some(channel) = &self.channel {
            channel.channel.set_onmessage(None);
        }
        self.let_go();
    }

    /// The log grew: the others may look, behind whoever waits for a write here.
    pub(crate) fn log_grew(self: &Rc<Self>) {
        if !self.grew.replace(true) {
            let tabs = Rc::clone(self);
            behind(move || tabs.say_grown());
        }
    }

    fn say_grown(&self) {
        if self.grew.take() {
            self.say("grew", &[]);
        }
    }

    /// This page is hidden now: visible tabs hear of it and ask for the lead.
    pub(crate) fn hidden(&self) {
        if let Some(database) = self.database.upgrade().filter(|_| self.leads()) {
            self.tell(&database.sync());
        }
    }

    /// This page is seen now: if the leader is not, it is asked to let go.
    pub(crate) fn shown(&self) {
        match locks() {
            Some(_) if !self.leads() => self.say("ask", &[]),
            Some(_) => {}
            None => self.lead(),
        }
    }

    /// The lead was lost, or cannot be carried out: another tab may try, and this one again later.
    pub(crate) fn step_down(&self) {
        let Some(database) = self.database.upgrade() else { return };
        if database.wires.holds() {
            self.failed.set(true);
        }
        self.follow();
        database.wires.let_go();
    }

    /// Looks after the leader; called now and then. `gap`: this page itself was frozen.
    pub(crate) fn look(self: &Rc<Self>, gap: bool) {
        let Some(database) = self.database.upgrade() else { return };
        let holds = database.wires.holds();
        // Who cannot hear a leader cannot say that it is silent.
        let looks = self.channel.is_some() && !holds && !gap && !self.closed.get();
        let Some(locks) = locks().filter(|_| looks) else {
            self.unanswered.set(0);
            return;
        };
        let unanswered = self.unanswered.get();
        self.unanswered.set(unanswered + 1);
        if unanswered < UNANSWERED_MAX {
            self.say("hello", &[]);
        } else {
            self.unanswered.set(0);
            let tabs = Rc::clone(self);
            // The request that waits in the queue stays there, for when this one ends.
            poison::spawn(async move {
                tabs.hold(&locks, true).await;
            });
        }
    }

    fn pass_on(self: &Rc<Self>, word: &Word<'_>) {
        match word {
            Word::Sync(sync) => self.tell(sync),
            Word::Adopt { discard } => self.say("adopt", &[("discard", (*discard).into())]),
            Word::Present => self.show(),
            Word::Who { attends } => self.say("who", &[("attends", (*attends).into())]),
            Word::Others(told) => self.say("others", &[("told", JsValue::clone(told))]),
        }
    }

    fn tell(&self, sync: &Sync) {
        let visible = JsValue::from_bool(is_visible());
        self.say("status", &[("sync", to_js(sync)), ("visible", visible)]);
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

    fn follow(&self) {
        if let Some(database) = self.database.upgrade() {
            database.feed(Input::Follow);
            database.heard(None);
        }
    }

    fn let_go(&self) {
        if let Some(database) = self.database.upgrade() {
            database.wires.let_go();
        }
    }

    /// Waits for the lock, leads while it is held, and asks again.
    async fn seek_lead(self: Rc<Self>, locks: LockManager) {
        while !self.closed.get() {
            let Some(stolen) = self.hold(&locks, false).await else {
                // A document that may not hold locks (a sandboxed frame).
                self.lead();
                return;
            };
            self.pause_after(stolen).await;
        }
    }

    /// Waits before the next attempt, unless the lead was given away of free will.
    async fn pause_after(&self, stolen: bool) {
        if mono().since(self.granted_at.get()) >= LED_WELL {
            self.backoff.borrow_mut().reset();
        }
        if (self.failed.replace(false) || stolen) && !self.closed.get() {
            let Millis(more) = self.backoff.borrow_mut().next(u64::from_be_bytes(random()));
            pause(Millis(ASK_AGAIN.0 + more)).await;
        }
    }

    /// Asks for the lock, takes it away from its holder if so told, and leads while it is held. Returns
    /// whether it was taken away in the end; `None` where there can be no lock.
    async fn hold(self: &Rc<Self>, locks: &LockManager, steal: bool) -> Option<bool> {
        let (held, release, _reject) = promise();
        let tabs = Rc::downgrade(self);
        let on_grant = Closure::once_into_js(move |_lock: JsValue| -> JsValue {
            let granted = poison::event(|| {
                let tabs = tabs.upgrade().filter(|tabs| !tabs.closed.get())?;
                tabs.database.upgrade()?.wires.hold(release);
                tabs.granted_at.set(mono());
                tabs.lead();
                Some(held.into())
            });
            // What is returned at once is the lock given back.
            granted.flatten().unwrap_or(JsValue::UNDEFINED)
        });
        let options = object(&[("steal", steal.into())]);
        let request =
            locks.request(&self.lock_name, options.unchecked_ref(), on_grant.unchecked_ref());
        // Ends when the lock is given back, or was taken away.
        let stolen = JsFuture::from(request.ok()?).await.is_err();
        if stolen {
            // Not to be called again; who holds the lock now is another one.
            self.let_go();
        }
        if !self.closed.get() {
            self.follow();
            // Who leads instead says so.
            self.say("hello", &[]);
        }
        Some(stolen)
    }

    fn say(&self, kind: &str, more: &[(&str, JsValue)]) {
        let Some(channel) = self.channel.as_ref().filter(|_| !self.closed.get()) else { return };
        let mut fields =
            Vec::from([("v", JsValue::from_f64(VERSION)), ("kind", JsValue::from_str(kind))]);
        fields.extend_from_slice(more);
        // What cannot be posted is found in the store by the next look.
        drop(channel.channel.post_message(&object(&fields)));
    }

    fn hear(self: &Rc<Self>, message: &JsValue) {
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
            // It reads the store, or waits for it: it is not frozen.
            "hello" if database.wires.holds() => self.say("holding", &[]),
            "ask" if leads && !is_visible() => self.let_go(),
            "adopt" if leads => {
                let discard = field("discard").is_some_and(|discard| discard.is_truthy());
                // Who asked sees in the status what became of it; there may be nothing to adopt any more.
                let adopted = JsFuture::from(database.adopt(discard));
                poison::spawn(async move { drop(adopted.await) });
            }
            "holding" => self.unanswered.set(0),
            "who" => {
                let attends = field("attends").is_some_and(|attends| attends.is_truthy());
                self.asked_who(&database, attends);
            }
            "present" => self.hear_present(&database, field("tab"), field("value")),
            "others" if !leads => {
                if let Some(told) = field("told") {
                    database.hear_others(&told);
                }
            }
            // Two cannot lead: the store says who does.
            "status" if leads => database.feed(Input::Hint),
            "status" => {
                self.unanswered.set(0);
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

fn locks() -> Option<LockManager> {
    global(&["navigator", "locks"]).map(JsCast::unchecked_into)
}

impl Channel {
    fn open(name: &str, tabs: &Weak<Tabs>) -> Option<Self> {
        let channel = BroadcastChannel::new(name).ok()?;
        let tabs = Weak::clone(tabs);
        let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(tabs) = tabs.upgrade() {
                poison::event(|| tabs.hear(&event.data()));
            }
        });
        channel.set_onmessage(Some(heard.as_ref().unchecked_ref()));
        Some(Self { channel, _heard: heard })
    }
}
