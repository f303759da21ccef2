//! Who is present: what tabs here show, and what others do. Kept in memory; said anew in each session.
//!
//! Invariant: what others show is of this session: without one nobody else is known. What tabs here show outlives
//! sessions. Rows come first: nothing is said while many are on their way, and behind [`PRESENCE_BYTES_AIM`] bytes the
//! peer's answer is waited for, so that on a slow line states are left out, never queued.

use super::{
    Engine, Notice,
    session::{Phase, Session},
};
use crate::{
    protocol::{
        limits::{PRESENCE_BYTES_AIM, PRESENCE_EVERY, PRESENCE_SPACE_BYTES_MAX, PRESENCE_TABS_MAX},
        message::{ByeCode, FEATURE_PRESENCE, Message, Other, Others, Presence},
    },
    record::Value,
    sorted::{SortedMap, SortedSet},
    time::{MonoMillis, Now},
};

/// Most others that are kept: more than a host can show, which counts some bytes for each.
const OTHERS_MAX: usize = PRESENCE_SPACE_BYTES_MAX / 256;

#[derive(Debug, Default)]
pub(super) struct Present {
    /// The app wants it.
    used: bool,
    /// What tabs here show, and its bytes.
    own: SortedMap<u64, (Value, usize)>,
    /// Tabs of which something else was said last.
    unsaid: SortedSet<u64>,
    /// Tabs that the peer knows of; `None` before anything was said in this session.
    said: Option<SortedSet<u64>>,
    /// When something may be said again.
    says_at: MonoMillis,
    /// Bytes said since an answer was last waited for.
    behind: usize,
    /// The ping whose answer is waited for.
    proof: Option<u64>,
    others: SortedMap<u64, Other>,
}

impl Present {
    pub(super) const fn attend(&mut self) {
        self.used = true;
    }

    pub(super) fn show(&mut self, tab: u64, value: Option<Value>) {
        self.used = true;
        let Some(value) = value else {
            if self.own.remove(&tab).is_some() {
                self.changed(tab);
            }
            return;
        };
        let full = self.own.len() >= PRESENCE_TABS_MAX && !self.own.contains_key(&tab);
        if let (Ok(bytes), false) = (Presence::admit(&value), full)
            && self.own.get(&tab).is_none_or(|(before, _)| *before != value)
        {
            self.own.insert(tab, (value, bytes));
            self.changed(tab);
        }
    }

    /// The first word of a session names all anyway.
    fn changed(&mut self, tab: u64) {
        if self.said.is_some() {
            self.unsaid.insert(tab);
        }
    }

    /// A ping was answered.
    pub(super) fn answered(&mut self, nonce: u64) {
        self.proof.take_if(|proof| nonce >= *proof);
    }

    /// What is to be said; as good as said.
    fn take_unsaid(&mut self) -> Presence {
        let mut presence = Presence::default();
        let said = match &mut self.said {
            Some(said) => said,
            // The peer knows of none.
            None => {
                self.unsaid = self.own.keys().copied().collect();
                self.said.insert(SortedSet::new())
            }
        };
        for tab in core::mem::take(&mut self.unsaid) {
            match self.own.get(&tab) {
                Some((value, bytes)) => {
                    said.insert(tab);
                    self.behind += bytes;
                    presence.here.push((tab, value.clone()));
                }
                None if said.remove(&tab) => presence.gone.push(tab),
                None => {}
            }
        }
        presence
    }
}

impl Session {
    /// Whether the peer takes part in presence, and its place is here.
    fn has_presence(&self) -> bool {
        self.phase == Phase::Open && self.features & FEATURE_PRESENCE > 0
    }
}

impl Engine {
    /// What others show, by id; empty without a session.
    #[must_use]
    pub const fn others(&self) -> &SortedMap<u64, Other> {
        &self.present.others
    }

    /// When [`Self::say_presence`] has something to say, if nothing stands in the way.
    pub(super) fn presence_due(&self) -> Option<MonoMillis> {
        let Present { used, unsaid, said, says_at, proof, .. } = &self.present;
        let wants = *used && (said.is_none() || !unsaid.is_empty());
        let session = self.session.as_ref().filter(|_| wants && proof.is_none())?;
        (session.has_presence() && !session.pushing.is_ahead()).then_some(*says_at)
    }

    /// Says what is new of the tabs here, once it is time; without a session nobody else is there.
    pub(super) fn say_presence(&mut self, now: Now) {
        if !self.session.as_ref().is_some_and(Session::has_presence) {
            self.present.said = None;
            self.present.proof = None;
            self.present.behind = 0;
            if !core::mem::take(&mut self.present.others).is_empty() {
                self.notice(Notice::Others(Others { anew: true, ..Others::default() }));
            }
            return;
        }
        if self.presence_due().is_none_or(|due| now.mono < due) {
            return;
        }
        let first = self.present.said.is_none();
        let presence = self.present.take_unsaid();
        if !first && presence == Presence::default() {
            return;
        }
        self.present.says_at = now.mono + PRESENCE_EVERY;
        self.say(now, &Message::Presence(presence));
        if self.present.behind >= PRESENCE_BYTES_AIM {
            self.present.behind = 0;
            self.ping(now);
            self.present.proof = self.session.as_ref().map(|session| session.alive.last_ping());
        }
    }

    /// The peer told of others.
    pub(super) fn others_show(&mut self, now: Now, told: Others) {
        if self.present.said.is_none() {
            return self.end(now, ByeCode::Misbehaved, "a message that has no place here");
        }
        let known = &mut self.present.others;
        if told.anew {
            known.clear();
        }
        for id in &told.gone {
            known.remove(id);
        }
        for other in &told.here {
            known.insert(other.id, other.clone());
        }
        let is_beyond = |other: &Other| Presence::admit(&other.value).is_err();
        if known.len() > OTHERS_MAX || told.here.iter().any(is_beyond) {
            return self.end(now, ByeCode::TooLarge, "others show more than they may");
        }
        self.notice(Notice::Others(told));
    }
}
