//! Whether the peer is still there: when to ask, and how long to wait for a word.
//!
//! A line that has lost its packets tells nobody, and TCP tries it again after pauses that double: whoever waits for that
//! may wait as long again as the line was gone. So a session that has come to live is given up soon: where something
//! happened lately silence is short before a ping, and the ping's answer is waited for no longer than answers take
//! here. What is large is waited for as long as it takes: nothing asks so soon while something comes or is
//! fetched, and what was said before a ping has the time that it takes on the slowest line.

use super::{
    Engine, Notice,
    session::{OPENING_WITHIN, Phase, Session},
};
use crate::{
    planted::Bug,
    protocol::{
        limits::{ANSWER_WITHIN, DEAD_AFTER, LIVELY_FOR, LIVELY_PING_EVERY, PING_EVERY, time_for},
        message::{ByeCode, Message},
    },
    time::{Millis, MonoMillis, Now},
};
use alloc::string::String;

/// Answers may take so many times as long as the last one did.
const SPREAD: u64 = 4;

/// How long the answer to a ping is waited for, as learnt from those before, on earlier connections too: longer at once
/// where one was late or did not come, shorter by and by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience(Millis);

impl Default for Patience {
    fn default() -> Self {
        Self(ANSWER_WITHIN)
    }
}

impl Patience {
    fn answered(&mut self, after: Millis) {
        let wanted = after.0.saturating_mul(SPREAD).clamp(ANSWER_WITHIN.0, DEAD_AFTER.0);
        self.0.0 = if wanted > self.0.0 { wanted } else { self.0.0.midpoint(wanted) };
    }

    /// A peer was given up: it may only have been slow.
    pub(super) fn is_over(&mut self) {
        self.0.0 = (2 * self.0.0).min(DEAD_AFTER.0);
    }
}

/// What was said and heard when.
#[derive(Debug)]
pub(super) struct Alive {
    /// When something was last said.
    said: MonoMillis,
    /// When something was last heard.
    heard: MonoMillis,
    /// When something last came or went that was neither a ping nor its answer.
    used: MonoMillis,
    /// When all that was said is through, at the latest: on the slowest line.
    through: MonoMillis,
    /// The last ping's number; 0 before the first.
    ping: u64,
    /// When all that was said before that ping was through, at the latest: its answer is on its way from then on.
    asked: MonoMillis,
    /// Bytes said since that ping: its answer does not tell that they have arrived.
    behind: usize,
    /// Since when something of use is among them.
    unproved: Option<MonoMillis>,
    /// When the peer is given up unless something is heard before; a ping has asked for it.
    due: Option<MonoMillis>,
    /// Since when answers are short and come soon, if they do.
    brisk: Option<MonoMillis>,
}

impl Alive {
    pub(super) fn new(now: MonoMillis) -> Self {
        Self {
            said: now,
            heard: now,
            used: now,
            through: now,
            ping: 0,
            asked: now,
            behind: 0,
            unproved: None,
            due: None,
            brisk: None,
        }
    }

    /// The last ping's number.
    pub(super) const fn last_ping(&self) -> u64 {
        self.ping
    }

    /// The next ping's number. It is about to be said.
    pub(super) fn pings(&mut self, now: MonoMillis, patience: Patience) -> u64 {
        self.ping += 1;
        self.asked = self.through.max(now);
        self.behind = 0;
        self.unproved = None;
        if self.brisk.is_some() {
            self.due.get_or_insert(self.asked + patience.0);
        }
        self.ping
    }

    /// A message leaves; `used` unless it is a ping or the answer to one.
    pub(super) fn says(&mut self, now: MonoMillis, bytes: usize, used: bool) {
        self.said = now;
        self.behind = self.behind.saturating_add(bytes);
        self.through = self.through.max(now) + time_for(bytes);
        if used {
            self.used = now;
            self.unproved.get_or_insert(now);
        }
    }

    /// A frame came.
    pub(super) fn hears(&mut self, now: MonoMillis) {
        self.heard = now;
        self.due = None;
    }

    /// What came was of use.
    pub(super) fn is_used(&mut self, now: MonoMillis) {
        self.used = now;
    }

    /// A ping was answered: what was said before it has arrived.
    pub(super) fn answered(&mut self, now: MonoMillis, nonce: u64, patience: &mut Patience) {
        if nonce == self.ping && self.ping > 0 {
            patience.answered(now.since(self.asked));
            self.through = now + time_for(self.behind);
        }
    }

    /// Whether answers are short and come soon from now on.
    pub(super) fn is_brisk(&mut self, now: MonoMillis, brisk: bool) {
        self.brisk = if brisk { self.brisk.or(Some(now)) } else { None };
    }

    /// When the peer counts as dead if nothing is heard before.
    pub(super) fn dead_at(&self) -> MonoMillis {
        let dead = self.heard + DEAD_AFTER;
        self.due.map_or(dead, |due| due.min(dead))
    }

    /// When to ping, if nothing is said or heard before.
    pub(super) fn ping_at(&self) -> MonoMillis {
        // The peer is to hear something now and then.
        let keeps = self.said + PING_EVERY;
        match self.brisk {
            Some(since) if self.due.is_none() => {
                let asks = self.unproved.map_or(since, |unproved| unproved.max(since));
                // Something was heard behind a ping that is not waited for, or it left before `since`.
                let quiet = self.heard.max(asks);
                let lively = quiet <= self.used + LIVELY_FOR;
                let every = if lively { LIVELY_PING_EVERY } else { PING_EVERY };
                // Whoever speaks all the time is to learn what has arrived.
                let proves = if self.unproved.is_some() { asks + PING_EVERY } else { keeps };
                keeps.min(quiet + every).min(proves)
            }
            Some(_) | None => keeps,
        }
    }
}

impl Session {
    /// Who is not welcomed yet pings nobody, however long it is silent. Who waits for the answer to a recall does: it may
    /// take longer than the peer hears nothing for.
    pub(super) const fn may_ping(&self) -> bool {
        !matches!(self.phase, Phase::Preparing | Phase::Greeting | Phase::Entering)
    }

    /// Something comes first, the rest of a message or what is not read yet: acknowledgements, and answers to recalls, may
    /// stand behind it.
    pub(super) fn waits_behind(&mut self, now: MonoMillis) {
        self.pushing.put_off_overdue(now);
        self.opening_until = self.opening_until.max(now + OPENING_WITHIN);
    }

    /// Nothing large is on its way in a session that has come to live: the next word comes soon, or never.
    pub(super) fn look_brisk(&mut self, now: Now) {
        let brisk = self.live && self.heals.is_empty() && self.assembler.is_empty();
        self.alive.is_brisk(now.mono, brisk);
    }
}

impl Engine {
    /// Asks for the peer's state, and whether it is there.
    pub(super) fn ping(&mut self, now: Now) {
        let Some(session) = &mut self.session else {
            return;
        };
        let nonce = session.alive.pings(now.mono, self.patience);
        self.say(now, &Message::Ping { nonce });
    }

    /// Pings a quiet peer and ends a session that is dead.
    pub(super) fn keep_alive(&mut self, now: Now) {
        let congested = self.is_congested();
        let Some(session) = &mut self.session else { return };
        session.pushing.paused_until.take_if(|until| now.mono >= *until);
        if congested {
            // Nobody listens: what the peer says waits.
            session.alive.hears(now.mono);
            session.waits_behind(now.mono);
        }
        if self.replica.has(Bug::SilenceIgnored) {
            session.alive.hears(now.mono);
            session.pushing.overdue = None;
        }
        let opening = session.is_opening();
        let silent = now.mono >= session.alive.dead_at();
        let dead = silent
            || (opening && now.mono >= session.opening_until)
            || session.pushing.overdue.is_some_and(|overdue| now.mono >= overdue);
        if dead {
            let (code, reason) = (ByeCode::Busy, String::from("the peer does not answer"));
            if silent {
                self.patience.is_over();
            }
            self.notice(Notice::Ended { code, reason });
            self.drop_session();
        } else if session.may_ping() && now.mono >= session.alive.ping_at() {
            self.ping(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> MonoMillis {
        MonoMillis(seconds * 1_000)
    }

    fn brisk(now: MonoMillis) -> Alive {
        let mut alive = Alive::new(now);
        alive.is_brisk(now, true);
        alive
    }

    fn ping(alive: &mut Alive, now: MonoMillis) -> u64 {
        let nonce = alive.pings(now, Patience::default());
        alive.says(now, 10, false);
        nonce
    }

    #[test]
    fn p04_line_in_use_is_given_up_within_seconds_and_an_idle_one_within_dead_after() {
        let mut alive = brisk(at(0));
        alive.says(at(50), 100, true);
        assert_eq!(alive.ping_at(), at(53), "it has some time for its answer");
        alive.hears(at(51));
        assert_eq!(alive.ping_at(), at(51) + LIVELY_PING_EVERY);
        ping(&mut alive, at(54));
        assert_eq!(alive.dead_at(), at(54) + ANSWER_WITHIN);
        alive.hears(at(55));
        assert_eq!(alive.dead_at(), at(55) + DEAD_AFTER, "whatever came was a word");
        alive.hears(at(200));
        assert_eq!(alive.ping_at(), at(54) + PING_EVERY, "it says something now and then");
        ping(&mut alive, at(200));
        alive.hears(at(201));
        assert_eq!(alive.ping_at(), at(200) + PING_EVERY, "idle for a minute");
    }

    #[test]
    fn what_was_said_before_a_ping_has_the_time_that_it_takes_on_the_slowest_line() {
        let mut alive = brisk(at(0));
        alive.says(at(0), 200_000, true);
        let nonce = ping(&mut alive, at(3));
        assert_eq!(alive.dead_at(), at(25), "a peer that hears pings");
        alive.hears(at(20));
        ping(&mut alive, at(23));
        assert!(alive.due.is_some_and(|due| due >= at(100) + ANSWER_WITHIN));
        let mut patience = Patience::default();
        alive.answered(at(24), nonce, &mut patience);
        assert!(alive.through >= at(100), "an earlier ping's");
        alive.answered(at(24), nonce + 1, &mut patience);
        assert!(alive.through < at(25), "all of it has arrived");
        assert_eq!(patience, Patience::default(), "it did not take long");
    }

    #[test]
    fn nobody_is_hurried_who_is_fetching_or_catching_up() {
        let mut alive = Alive::new(at(0));
        assert_eq!(alive.ping_at(), at(0) + PING_EVERY);
        ping(&mut alive, at(10));
        assert_eq!(alive.dead_at(), at(0) + DEAD_AFTER);
        alive.is_brisk(at(20), true);
        assert_eq!(alive.ping_at(), at(20), "not before now");
        assert_eq!(alive.dead_at(), at(0) + DEAD_AFTER);
    }

    #[test]
    fn patience_grows_at_once_and_shrinks_by_and_by() {
        let mut patience = Patience::default();
        patience.answered(Millis(3_000));
        assert_eq!(patience.0, Millis(12_000));
        patience.answered(Millis(20));
        assert_eq!(patience.0, Millis(8_000));
        patience.is_over();
        assert_eq!(patience.0, Millis(16_000));
        patience.is_over();
        assert_eq!(patience.0, DEAD_AFTER);
        (0..20).for_each(|_| patience.answered(Millis(20)));
        assert_eq!(patience, Patience::default());
    }
}
