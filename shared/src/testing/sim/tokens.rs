//! Tokens that run out: before a session, in the middle of one, or just after the app has told a new one.
//!
//! Nothing is lost and nothing is refused for it: a session ends, the outbox waits, and goes on with the next token.

use super::{Event, World};
use crate::protocol::{
    engine::Input,
    host::{HostInput, PeerId},
    message::{Bye, ByeCode, Message},
    wire,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// The tokens of a world, as the server knows them.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// How many were issued.
    issued: u64,
    /// Those that have run out.
    expired: BTreeSet<String>,
    /// Which one a peer was welcomed with.
    of_peers: BTreeMap<u64, String>,
}

/// Whose a token is.
pub(super) fn name_in(token: &str) -> &str {
    token.split_once(' ').map_or(token, |(name, _)| name)
}

pub(super) fn refusal() -> Bye {
    let reason = String::from("the token has expired");
    Bye { code: ByeCode::Unauthorized, reason, retry_after: None }
}

impl World {
    /// The token of a device runs out.
    pub(super) fn expire(&mut self, device: usize) {
        let Some(token) = self.devices.get(device).map(|device| device.owner.token()) else {
            return;
        };
        match self.faults.below(3) {
            0 => {
                self.mark("token renewed in time");
                self.log_in(device);
                self.tokens.expired.insert(token);
            }
            1 => {
                self.mark("token expired in a session");
                let of_it = self.tokens.of_peers.iter().filter(|(_, held)| **held == token);
                let peers: Vec<u64> = of_it.map(|(peer, _)| *peer).collect();
                self.tokens.expired.insert(token);
                for peer in peers {
                    self.tell_host(HostInput::Dismissed { peer: PeerId(peer), bye: refusal() });
                }
            }
            _ => {
                self.mark("token expired");
                self.tokens.expired.insert(token);
            }
        }
    }

    /// Whether a peer may come in with its token; it is told if not.
    pub(super) fn lets_in(&mut self, line: u64, peer: u64, token: Option<&String>) -> bool {
        let Some(token) = token.filter(|token| !self.tokens.expired.contains(*token)) else {
            self.mark("token refused");
            self.send(line, false, wire::encode_frame(0, &Message::Bye(refusal())));
            self.close_line(line, true);
            return false;
        };
        self.tokens.of_peers.insert(peer, token.clone());
        true
    }

    /// A peer says another token; whether it is good.
    pub(super) fn renews(&mut self, peer: u64, token: &str) -> bool {
        let good = !self.tokens.expired.contains(token);
        if good {
            self.mark("token renewed");
            self.tokens.of_peers.insert(peer, String::from(token));
        }
        good
    }

    pub(super) fn forget_token(&mut self, peer: u64) {
        self.tokens.of_peers.remove(&peer);
    }

    /// An app was told that its token is not good: it will ask the user.
    pub(super) fn needs_token(&mut self, device: usize) {
        let delay = 10 + self.faults.below(10_000);
        if let Some(held) = self.devices.get_mut(device)
            && !core::mem::replace(&mut held.owner.asks, true)
        {
            self.at(delay, Event::LogIn { device });
        }
    }

    /// The same account logs in again.
    pub(super) fn log_in(&mut self, device: usize) {
        self.tokens.issued += 1;
        let number = self.tokens.issued;
        let Some(held) = self.devices.get_mut(device) else {
            return;
        };
        held.owner.asks = false;
        held.owner.number = number;
        let token = held.owner.token();
        for tab in 0..held.tabs.len() {
            self.tell_tab(device, tab, Input::Token(Some(token.clone())));
        }
    }
}
