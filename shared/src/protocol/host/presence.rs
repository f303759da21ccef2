//! Who is present: what peers show of themselves is told to the others, and kept nowhere.
//!
//! Nothing is queued. Each change has a number, and an id stands under its latest one only; a listener has the number
//! up to which it was told. A round tells every listener whose socket has taken all else what has changed since, one
//! message each; the next round comes after [`PRESENCE_EVERY`], or later, as the bytes of this one would take at
//! [`PRESENCE_BYTES_PER_S`]. So whoever lags is told the latest state, and changes of records never wait behind it.
//! Absent: the store, rights (whoever is welcomed may read something).

use super::{Host, PeerId, peer::Peer};
use crate::{
    protocol::{
        limits::{
            PRESENCE_BYTES_AIM, PRESENCE_BYTES_PER_S, PRESENCE_EVERY, PRESENCE_GONE_MAX,
            PRESENCE_SPACE_BYTES_MAX, PRESENCE_TABS_MAX,
        },
        message::{ByeCode, FEATURE_PRESENCE, Message, Other, Others, Presence},
        wire,
    },
    record::Value,
    sorted::SortedMap,
    time::{Millis, MonoMillis, Now},
};
use alloc::{collections::VecDeque, string::String, sync::Arc, vec::Vec};

/// What one who is present takes in memory beside its value and its name, about.
const SHOWN_BYTES: usize = 256;
/// Bytes behind which a round ends; the next one goes on with those who were not told.
const ROUND_BYTES: usize = PRESENCE_BYTES_PER_S / 4;

/// What one listener was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Audience {
    /// Changes up to this.
    upto: u64,
    /// Whether the next message begins with everybody.
    anew: bool,
}

/// All who are present.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// By id.
    shown: SortedMap<u64, Shown>,
    last_id: u64,
    /// Bytes of all of them, about.
    bytes: usize,
    /// Which id changed last, by the number of the change.
    changes: SortedMap<u64, u64>,
    last_change: u64,
    /// Changes by which ids went.
    gone: VecDeque<u64>,
    /// The last one of those that are not remembered.
    forgotten: u64,
    /// Whether there may be something to tell.
    pub(super) due: bool,
    /// When the next round may be.
    round_at: MonoMillis,
    /// Who was told last.
    last_told: Option<PeerId>,
    /// Who is shown without a session, under which ids.
    visitors: SortedMap<PeerId, u64>,
}

#[derive(Debug)]
struct Shown {
    peer: PeerId,
    principal: String,
    value: Value,
    bytes: usize,
    change: u64,
}

impl Crowd {
    fn change(&mut self, id: u64) -> u64 {
        self.last_change += 1;
        self.changes.insert(self.last_change, id);
        self.due = true;
        self.last_change
    }

    /// Shows a value under its id, or a new one; `None` where there is no room for it.
    fn show(
        &mut self,
        id: Option<u64>,
        (peer, principal): (PeerId, &str),
        (value, bytes): (Value, usize),
    ) -> Option<u64> {
        let bytes = bytes + principal.len() + SHOWN_BYTES;
        let before = id.and_then(|id| self.shown.get(&id));
        if before.is_some_and(|before| before.value == value) {
            return id;
        }
        if self.bytes - before.map_or(0, |before| before.bytes) + bytes > PRESENCE_SPACE_BYTES_MAX {
            id.into_iter().for_each(|id| self.hide(id));
            return None;
        }
        let id = id.unwrap_or(self.last_id + 1);
        self.last_id = self.last_id.max(id);
        let change = self.change(id);
        let shown = Shown { peer, principal: String::from(principal), value, bytes, change };
        self.bytes += bytes;
        if let Some(before) = self.shown.insert(id, shown) {
            self.bytes -= before.bytes;
            self.changes.remove(&before.change);
        }
        Some(id)
    }

    /// Nothing is shown under an id any more; it is not used again.
    pub(super) fn hide(&mut self, id: u64) {
        let Some(before) = self.shown.remove(&id) else {
            return;
        };
        self.bytes -= before.bytes;
        self.changes.remove(&before.change);
        let change = self.change(id);
        self.gone.push_back(change);
        if self.gone.len() > PRESENCE_GONE_MAX
            && let Some(oldest) = self.gone.pop_front()
        {
            self.changes.remove(&oldest);
            self.forgotten = oldest;
        }
    }

    /// What a listener is told next, and what it was told then.
    fn page(&self, told: Audience, reader: Option<PeerId>) -> (Others, Audience) {
        let anew = told.anew || told.upto < self.forgotten;
        let mut others = Others { anew, ..Others::default() };
        let from = if anew { 0 } else { told.upto };
        let mut bytes = 0;
        for (change, id) in self.changes.range(from + 1..) {
            if bytes >= PRESENCE_BYTES_AIM {
                return (others, Audience { upto: change - 1, anew: false });
            }
            match self.shown.get(id) {
                Some(shown) if Some(shown.peer) == reader => {}
                Some(shown) => {
                    bytes += shown.bytes - SHOWN_BYTES;
                    let Shown { principal, value, .. } = shown;
                    let (principal, value) = (principal.clone(), value.clone());
                    others.here.push(Other { id: *id, principal, value });
                }
                None if anew => {}
                None => others.gone.push(*id),
            }
        }
        (others, Audience { upto: self.last_change, anew: false })
    }
}

impl Host {
    /// A peer shows something, or hides it, and wants to be told of others.
    pub(super) fn show(&mut self, now: Now, id: PeerId, presence: Presence) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.hello.features & FEATURE_PRESENCE == 0 {
            let reason = "presence was not offered";
            return self.dismiss(now, id, ByeCode::Misbehaved, reason);
        }
        peer.audience.get_or_insert(Audience { upto: 0, anew: true });
        self.crowd.due = true;
        for shown in presence.gone.iter().filter_map(|tab| peer.tabs.remove(tab)) {
            self.crowd.hide(shown);
        }
        for (tab, value) in presence.here {
            let Ok(bytes) = Presence::admit(&value) else {
                return self.dismiss(now, id, ByeCode::TooLarge, "presence is too large");
            };
            let shown = peer.tabs.remove(&tab);
            if shown.is_none() && peer.tabs.len() >= PRESENCE_TABS_MAX {
                return self.dismiss(now, id, ByeCode::TooLarge, "too many tabs are present");
            }
            let who = (id, peer.grant.principal.as_str());
            if let Some(shown) = self.crowd.show(shown, who, (value, bytes)) {
                peer.tabs.insert(tab, shown);
            }
        }
    }

    /// Somebody without a session shows something, or nothing any more; whether there was room for it. How long it is
    /// shown is the driver's to say, and that the value can be shown ([`Presence::admit`]).
    pub fn visit(&mut self, now: Now, who: PeerId, principal: &str, value: Option<Value>) -> bool {
        let shown = self.crowd.visitors.remove(&who);
        let is_shown = match value {
            None => {
                shown.into_iter().for_each(|id| self.crowd.hide(id));
                true
            }
            Some(value) => {
                let bytes = Presence::admit(&value).unwrap_or(PRESENCE_SPACE_BYTES_MAX);
                let shown = self.crowd.show(shown, (who, principal), (value, bytes));
                self.crowd.visitors.extend(shown.map(|id| (who, id)));
                shown.is_some()
            }
        };
        self.tell_presence(now);
        is_shown
    }

    /// All who show something, with or without a session.
    pub fn present(&self) -> impl Iterator<Item = Other> + '_ {
        self.crowd.shown.iter().map(|(id, shown)| {
            let Shown { principal, value, .. } = shown;
            Other { id: *id, principal: principal.clone(), value: value.clone() }
        })
    }

    /// Tells listeners of what is new, once it is time.
    pub(super) fn tell_presence(&mut self, now: Now) {
        if !self.crowd.due {
            return;
        }
        if now.mono < self.crowd.round_at {
            return self.wake_by(self.crowd.round_at);
        }
        let mut spent = 0;
        let mut rest = false;
        // Most know the same and show nothing themselves: they are told the same.
        let mut shared: SortedMap<Audience, (Arc<[u8]>, Audience)> = SortedMap::new();
        for id in self.listeners() {
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_free()) else {
                // What it has not taken comes first; it is told when it has.
                continue;
            };
            let Some(told) = peer.audience.filter(|told| told.is_behind(&self.crowd)) else {
                continue;
            };
            if spent >= ROUND_BYTES {
                rest = true;
                break;
            }
            self.crowd.last_told = Some(id);
            let (bytes, then) = if peer.tabs.is_empty() {
                let made =
                    shared.entry(told).or_insert_with(|| encoded(self.crowd.page(told, None)));
                made.clone()
            } else {
                let (others, then) = self.crowd.page(told, Some(id));
                if !others.anew && others.here.is_empty() && others.gone.is_empty() {
                    peer.audience = Some(then);
                    continue;
                }
                encoded((others, then))
            };
            peer.audience = Some(then);
            rest |= then.is_behind(&self.crowd);
            spent += bytes.len();
            self.send_bytes(now, id, bytes);
        }
        if spent > 0 {
            let takes = spent.saturating_mul(1_000) / PRESENCE_BYTES_PER_S;
            let takes = Millis(u64::try_from(takes).unwrap_or(u64::MAX));
            self.crowd.round_at = now.mono + takes.max(PRESENCE_EVERY);
        }
        self.crowd.due = rest;
        if rest {
            self.wake_by(self.crowd.round_at);
        }
    }

    /// Those who asked to be told, in turn.
    fn listeners(&self) -> Vec<PeerId> {
        let listens = |(id, peer): (&PeerId, &Peer)| peer.audience.map(|_| *id);
        let mut all: Vec<PeerId> = self.peers.iter().filter_map(listens).collect();
        let first = all.partition_point(|id| Some(*id) <= self.crowd.last_told);
        all.rotate_left(first);
        all
    }
}

impl Audience {
    pub(super) const fn is_behind(&self, crowd: &Crowd) -> bool {
        self.anew || self.upto < crowd.last_change
    }
}

fn encoded((others, then): (Others, Audience)) -> (Arc<[u8]>, Audience) {
    (Arc::from(wire::encode(&Message::Others(others))), then)
}
