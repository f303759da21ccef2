//! Whose data a database holds: tokens from the app, and what it decides when another account is met.

use super::{Database, Returns, Word};
use crate::{
    clock::pause,
    error::{Code, Failure},
    page::promise,
    poison::{Awaited, spawn},
    slot::Slot,
    status::Account,
};
use core::cell::{Cell, RefCell};
use js_sys::{Function, Promise};
use rejoin_core::{
    driver::Ring,
    protocol::engine::{Input, Wish},
    time::Millis,
};
use std::rc::Rc;
use wasm_bindgen::JsValue;

/// How long the leading tab has for carrying out what another one asked for.
const DECIDED_WITHIN: Millis = Millis(10_000);

/// How the app sees the token.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Whether the app supplies tokens on demand.
    pub(crate) asks: bool,
    held: Cell<bool>,
    answer: RefCell<Option<Rc<Slot<bool>>>>,
}

impl Tokens {
    /// Whether the app supplies them on demand, and whether it has given one.
    pub(crate) fn new(asks: bool, held: bool) -> Self {
        Self { asks, held: Cell::new(held), answer: RefCell::default() }
    }
}

/// A decision that the leading tab is to carry out.
pub(super) struct Deciding {
    resolve: Function,
    _awaited: Awaited,
}

impl Database {
    /// Goes on as the account that was welcomed in place of this database's own.
    pub(crate) fn adopt(&self, discard: bool) -> Promise {
        let leads = self.engine(|engine| engine.status().leading);
        let elsewhere = !leads && self.sync().account.is_some();
        let Some(tell_tabs) = self.tell_tabs.get().filter(|_| elsewhere) else {
            let wish = if discard { Wish::DiscardPending } else { Wish::Adopt };
            return self.ask(wish, None, Returns::Adopted);
        };
        let (promise, resolve, reject) = promise();
        let awaited = Awaited::new(reject.clone());
        self.deciding.borrow_mut().push(Deciding { resolve, _awaited: awaited });
        spawn(async move {
            // Whoever was answered before does not hear it any more.
            pause(DECIDED_WITHIN).await;
            let message = "the tab that leads does not answer";
            let failure = Failure::retryable(Code::Blocked, message);
            drop(reject.call1(&JsValue::UNDEFINED, &failure.into()));
        });
        tell_tabs(Word::Adopt { discard });
        promise
    }

    /// The leading tab has carried out what this one asked for.
    pub(super) fn decided(&self) {
        for Deciding { resolve, .. } in self.deciding.take() {
            drop(resolve.call0(&JsValue::UNDEFINED));
        }
    }

    /// Another account was welcomed than that of this database.
    pub(crate) fn account_changed(&self, account: Account) {
        self.memory.borrow_mut().account = Some(account);
    }

    /// A token from the app; `None`: none could be had now.
    pub(crate) fn token(&self, token: Option<String>) {
        let good = token.is_some();
        self.tokens.held.set(good);
        self.feed(Input::Token(token));
        if let Some(answer) = self.tokens.answer.take() {
            answer.fill(good);
        } else if good {
            self.rope.ring(Ring::Online);
        }
    }

    /// Asks the app for a token.
    pub(crate) fn want_token(&self, refused: bool) {
        self.tokens.held.set(false);
        self.tell(&[
            ("type", JsValue::from_str("token")),
            ("refused", JsValue::from_bool(refused)),
        ]);
    }

    /// Waits for a token, if the app supplies them and none is held; `false` if none could be had.
    pub(crate) async fn permit(&self) -> bool {
        if !self.tokens.asks || self.tokens.held.get() {
            return true;
        }
        let answer = Rc::new(Slot::default());
        *self.tokens.answer.borrow_mut() = Some(Rc::clone(&answer));
        self.want_token(false);
        answer.take().await
    }
}
