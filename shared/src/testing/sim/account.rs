//! Two people share a device: the account changes, and the app adopts the records, discards them, or the
//! first one comes back.
//!
//! The oracle: nothing of one account's outbox leaves in the other's name unless the app adopted it.

use super::{Event, World, plan::Plan};
use crate::protocol::engine::{Input, Wish};
use alloc::{
    format,
    string::{String, ToString},
};

/// The accounts.
const NAMES: [&str; 2] = ["ann", "bob"];

/// Whose records a device holds, kept outside the system.
#[derive(Debug, Clone, Default)]
pub(super) struct Owner {
    /// Who is logged in.
    account: usize,
    /// Whose records these are, once somebody was welcomed.
    owner: Option<String>,
    /// The app has asked to adopt them for this one.
    adopting: Option<(u64, String)>,
    deciding: bool,
    /// Bytes that its tokens have beside what they say.
    padding: usize,
    /// Which of the account's tokens it has.
    pub(super) number: u64,
    /// Whether its app is about to ask for another one.
    pub(super) asks: bool,
}

/// Bytes of a long token, about: on a slow line its hello takes longer than any deadline that is fixed.
const LONG_TOKEN_BYTES: usize = 8_000;

impl Owner {
    pub(super) fn of(plan: &Plan) -> Self {
        let padding = if plan.line_bytes_per_s > 0 { LONG_TOKEN_BYTES } else { 0 };
        Self { padding, ..Self::default() }
    }

    fn name(&self) -> String {
        NAMES.get(self.account).copied().unwrap_or_default().to_string()
    }

    /// The account's name, a number, and nothing that means anything.
    pub(super) fn token(&self) -> String {
        format!("{} {} {}", self.name(), self.number, "-".repeat(self.padding))
    }

    fn is_settled(&self) -> bool {
        self.owner.is_none() || self.owner == Some(self.name())
    }
}

impl World {
    /// Another one logs in on a device.
    pub(super) fn switch_account(&mut self, device: usize) {
        self.mark("account changed");
        let restart = self.faults.once_in(2);
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        held.owner.account = 1 - held.owner.account;
        let token = held.owner.token();
        let tabs = held.tabs.len();
        for tab in 0..tabs {
            if restart {
                self.tab_kill(device, tab);
            } else {
                self.tell_tab(device, tab, Input::Token(Some(token.clone())));
            }
        }
    }

    /// An engine has met another account: the app will say what is to be done.
    pub(super) fn account_changed(&mut self, device: usize, ours: &str, theirs: &str) {
        self.mark("account met");
        self.tell(device, 0, format_args!("of {ours}, welcomed as {theirs}"));
        self.will_decide(device);
    }

    pub(super) fn will_decide(&mut self, device: usize) {
        let delay = 100 + self.faults.below(4_000);
        if let Some(held) = self.devices.get_mut(device)
            && !held.owner.is_settled()
            && !held.owner.deciding
        {
            held.owner.deciding = true;
            self.at(delay, Event::Decide { device });
        }
    }

    pub(super) fn decide(&mut self, device: usize) {
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        held.owner.deciding = false;
        if held.owner.is_settled() || self.dead.contains(&device) {
            return;
        }
        let name = held.owner.name();
        let leader = held.tabs.iter().position(|tab| tab.leads && tab.engine.is_some());
        match (self.faults.below(3), leader) {
            (0, _) => {
                self.mark("discarded");
                self.erase(device);
            }
            (1, _) if !self.calm => self.switch_account(device),
            (_, Some(tab)) => {
                let drops = self.faults.once_in(3);
                let wish = if drops { Wish::DiscardPending } else { Wish::Adopt };
                if drops {
                    self.mark("pending discarded");
                    self.drop_pending(device);
                }
                let id = self.ledger.other(device, tab);
                if let Some(held) = self.devices.get_mut(device) {
                    held.owner.adopting = Some((id, name));
                }
                self.tell_tab(device, tab, Input::Ask { id, wish });
            }
            (_, None) => {}
        }
        self.will_decide(device);
    }

    /// The store of a device has been erased: nobody's records are left.
    pub(super) fn disown(&mut self, device: usize) {
        if let Some(held) = self.devices.get_mut(device) {
            held.owner.owner = None;
            held.owner.adopting = None;
        }
    }

    /// A wish was answered.
    pub(super) fn adopted(&mut self, device: usize, id: u64, granted: bool) {
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        let adopting = held.owner.adopting.take_if(|(known, _)| *known == id);
        if adopting.is_some() {
            if self.ledger.is_dropping(device) {
                self.excuse_all(device);
            }
            self.ledger.drops(device, false);
        }
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        if let (Some((_, name)), true) = (adopting, granted) {
            held.owner.owner = Some(name);
            self.renamed = true;
            self.doubles |= self.server_rewound;
            self.mark("adopted");
        }
    }

    /// An engine holds records in somebody's name: nobody takes over another one's unasked.
    pub(super) fn named(&mut self, device: usize, principal: Option<String>) {
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        let owner = &mut held.owner;
        let adopted =
            owner.adopting.as_ref().is_some_and(|(_, name)| Some(name) == principal.as_ref());
        if owner.owner.is_none() || adopted {
            owner.owner = principal;
        }
    }

    pub(super) fn check_owner(&mut self, line: u64) {
        let Some(open) = self.lines.get(&line) else {
            return;
        };
        let owner = self.devices.get(open.device).and_then(|device| device.owner.owner.clone());
        if owner.is_some() && owner != open.passed.principal {
            self.object(format!(
                "device {} of {owner:?} sends its rows as {:?}",
                open.device, open.passed.principal
            ));
        }
    }
}
