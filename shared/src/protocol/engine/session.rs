//! One session with the peer: opening, the feed, liveness.

use super::{
    Engine, Link, Notice, Output, Progress,
    alive::Alive,
    feed::{Claim, subscription},
    heal::Heal,
    pipeline::{Then, WAITING_BYTES_MAX, Want},
    push::Pushing,
    refill::History,
    torn::Torn,
    trace::describe,
};
use crate::{
    hlc::Hlc,
    id::{Incarnation, Pattern, ReplicaId, Seq},
    planted::Bug,
    protocol::{
        limits::{
            EARLY_BYTES_MAX, EARLY_FRAMES_MAX, HANDSHAKE_WITHIN, SUBSCRIPTIONS_MAX, VERSIONS,
            time_for,
        },
        message::{Bye, ByeCode, Hello, Identity, Message, Mode, Origin, Place, Welcome},
        wire::{self, Assembler},
    },
    replica::{Entry, Replica, Settlement, Standing, Welcomed},
    sorted::{SortedMap, SortedSet},
    time::{Millis, MonoMillis, Now},
};
use alloc::{
    collections::VecDeque,
    string::{String, ToString},
    vec::Vec,
};

/// The one channel of this engine's connection.
const CHANNEL: u64 = 0;
/// Clock differences below this are not corrected.
const SKEW_MIN_MS: i64 = 10_000;
/// Time for a welcome behind the hello, and again for the answer to each recall.
pub(super) const OPENING_WITHIN: Millis = Millis(2 * HANDSHAKE_WITHIN.0);
/// Heals of one subscription in one session, before the session ends.
pub(super) const HEALS_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The incarnation is on its way into the log.
    Preparing,
    /// The hello left.
    Greeting,
    /// The welcome is on its way into the log.
    Entering,
    /// Asking which rows were accepted that may have been: as another's copies, or since the last one accepted
    /// has the stamp of one that waits.
    Checking,
    /// The history forked: asking what was accepted.
    Recalling,
    /// Another principal was welcomed.
    Blocked,
    /// Welcomed.
    Open,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) phase: Phase,
    incarnation: Incarnation,
    pub(super) fresh: ReplicaId,
    pub(super) salt: u64,
    /// Abilities that both have.
    pub(super) features: u64,
    pub(super) welcome: Option<Welcome>,
    /// What the welcome told of the peer's history.
    pub(super) history: History,
    /// Frames that came while the welcome was on its way into the log.
    early: Vec<Vec<u8>>,
    early_bytes: usize,
    pub(super) assembler: Assembler,
    pub(super) pushing: Pushing,
    /// Where each subscription's next changes must begin.
    pub(super) expected: SortedMap<u32, Place>,
    /// Subscriptions that were moved and whose first changes from there have not come.
    pub(super) moved: SortedSet<u32>,
    pub(super) heals: SortedMap<u32, Heal>,
    pub(super) heal_counts: SortedMap<u32, u32>,
    /// Subscriptions that were healed because a row could not be made from what the base holds, or was stale though
    /// all of the feed was known.
    pub(super) mended: SortedSet<u32>,
    /// Subscriptions whose lineage broke: nothing is pushed before they are healed.
    pub(super) breaks: SortedSet<u32>,
    /// Roots stated by the peer, to be compared once the log is as far.
    pub(super) stated: SortedMap<u32, Claim>,
    /// The times of statements that are on their way into the log, by subscription.
    pub(super) noted: SortedMap<u32, Hlc>,
    pub(super) head: Seq,
    /// The peer's horizon at the welcome.
    pub(super) horizon: Hlc,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    /// Records of the snapshots that are being pulled, by subscription.
    pub(super) totals: SortedMap<u32, u64>,
    pub(super) recalled: Vec<(u64, Settlement)>,
    pub(super) unsure: SortedSet<u64>,
    pub(super) torn: Torn,
    /// Rows that are still to be asked for.
    pub(super) to_recall: VecDeque<Origin>,
    /// Of these rows copies count, or may, as the peer told before the session began.
    pub(super) copies: Vec<Settlement>,
    /// The greatest time of a first stamp of which a copy counts, as of the welcome.
    pub(super) copied: Option<Hlc>,
    /// Rows that are not known here, and of which a copy counts since; at most `ORIGINS_MAX`.
    pub(super) told: SortedSet<Origin>,
    pub(super) alive: Alive,
    pub(super) opening_until: MonoMillis,
    /// Whether another token was sent since the hello.
    refreshed: bool,
    pub(super) live: bool,
}

impl Session {
    pub(super) fn deadline(&self) -> Option<MonoMillis> {
        let dead = self.alive.dead_at();
        let opening = self.is_opening().then_some(self.opening_until);
        let ping = self.may_ping().then(|| self.alive.ping_at());
        let pushing = self.pushing.overdue.into_iter().chain(self.pushing.paused_until);
        pushing.chain(opening).chain(ping).chain([dead]).min()
    }

    pub(super) fn is_opening(&self) -> bool {
        self.phase != Phase::Open && self.phase != Phase::Blocked
    }

    /// Keeps a frame until the welcome before it is in the log; false when no more can wait.
    fn put_off(&mut self, frame: &[u8]) -> bool {
        self.early_bytes += frame.len();
        self.early.push(frame.to_vec());
        self.early.len() <= EARLY_FRAMES_MAX && self.early_bytes <= EARLY_BYTES_MAX
    }

    /// Whether so much waits for the welcome to be stored that frames should wait for it too.
    pub(super) fn is_congested(&self) -> bool {
        self.phase == Phase::Entering && self.early_bytes > WAITING_BYTES_MAX
    }

    pub(super) const fn was_live(&self) -> bool {
        self.live
    }

    pub(super) fn may_push(&self, replica: &Replica) -> bool {
        // Healed is what is visible: a row that is replayed on the lost history would speak of it.
        let heals = |id: &u32| {
            let at = usize::try_from(*id).unwrap_or(usize::MAX);
            let standing = replica.standings().get(at).map(|(_, standing)| standing);
            let visible = standing.is_none_or(|standing| standing.heal.is_none());
            self.heals.contains_key(id) || !visible
        };
        let broken = self.breaks.iter().any(heals) && !replica.has(Bug::PushBeforeHeal);
        // What is made from a base that is older than the horizon speaks of what is gone.
        let broken = broken || replica.asked().any(|(_, _, standing)| standing.stale);
        self.phase == Phase::Open && !broken && !replica.is_tentative()
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        let total = self.totals.values().sum::<u64>().max(self.received);
        (self.phase == Phase::Open && !self.live).then_some(Progress {
            records: self.received,
            records_total: (!self.totals.is_empty()).then_some(total),
            bytes: self.received_bytes,
        })
    }

    pub(super) fn link(&self, replica: &Replica) -> Link {
        match self.phase {
            Phase::Preparing
            | Phase::Greeting
            | Phase::Checking
            | Phase::Entering
            | Phase::Recalling => Link::Opening,
            Phase::Blocked => Link::Blocked,
            Phase::Open => {
                let arrived = replica.asked().all(|(_, _, standing)| {
                    standing.arrived && standing.heal.is_none() && standing.cursor >= self.head
                });
                let agreed = arrived && self.heals.is_empty();
                if agreed && self.pushing.is_quiet() { Link::Live } else { Link::Syncing }
            }
        }
    }
}

impl Engine {
    pub(super) fn connected(
        &mut self,
        now: Now,
        incarnation: Incarnation,
        fresh: ReplicaId,
        salt: u64,
    ) {
        if !self.pipeline.leads() || self.needs_token {
            self.outputs.push_back(Output::Close { retry_after: None, was_live: false });
            return;
        }
        self.drop_session();
        self.session = Some(Session {
            phase: Phase::Preparing,
            incarnation,
            fresh,
            salt,
            features: 0,
            welcome: None,
            history: History::default(),
            early: Vec::new(),
            early_bytes: 0,
            assembler: Assembler::default(),
            pushing: Pushing::default(),
            expected: SortedMap::new(),
            moved: SortedSet::new(),
            heals: SortedMap::new(),
            heal_counts: SortedMap::new(),
            mended: SortedSet::new(),
            breaks: SortedSet::new(),
            stated: SortedMap::new(),
            noted: SortedMap::new(),
            head: Seq(0),
            horizon: Hlc::ZERO,
            received: 0,
            received_bytes: 0,
            totals: SortedMap::new(),
            recalled: Vec::new(),
            unsure: SortedSet::new(),
            torn: Torn::default(),
            to_recall: VecDeque::new(),
            copies: Vec::new(),
            copied: None,
            told: SortedSet::new(),
            alive: Alive::new(now.mono),
            opening_until: now.mono + OPENING_WITHIN,
            refreshed: false,
            live: false,
        });
        if self.replica.is_denied() {
            self.be_reborn();
            return;
        }
        let entry = Entry::Session(incarnation);
        self.pipeline.want(Want::Entry { entry, then: Then::SayHello });
    }

    pub(super) fn token(&mut self, now: Now, token: Option<String>) {
        self.needs_token = false;
        self.config.token.clone_from(&token);
        let (Some(token), Some(session)) = (token, &mut self.session) else {
            return;
        };
        match session.phase {
            // The hello will carry it.
            Phase::Preparing => {}
            // The hello has left with another one, and nothing but a ping may follow it.
            Phase::Greeting => self.then(now, Then::Reconnect),
            Phase::Entering | Phase::Checking | Phase::Recalling | Phase::Blocked | Phase::Open => {
                session.refreshed = true;
                self.say(now, &Message::Refresh { token });
            }
        }
    }

    /// Sends a message.
    pub(super) fn say(&mut self, now: Now, message: &Message) {
        let Some(session) = &mut self.session else {
            return;
        };
        let encoded = wire::encode(message);
        let used = !matches!(message, Message::Ping { .. } | Message::Pong { .. });
        session.alive.says(now.mono, encoded.len(), used);
        let greets = matches!(message, Message::Hello(_));
        if greets {
            let through = now.mono + time_for(encoded.len());
            session.opening_until = session.opening_until.max(through + OPENING_WITHIN);
        }
        self.trace(true, message, encoded.len());
        // Who opens a channel is not known yet, and a hello is small.
        if greets || self.has(Bug::DeadlinesFixed) {
            let mut frame = wire::channel_prefix(CHANNEL);
            frame.extend_from_slice(&encoded);
            self.outputs.push_back(Output::Send(frame));
            return;
        }
        self.outputs.extend(wire::frames(CHANNEL, &encoded).map(Output::Send));
    }

    fn trace(&mut self, sent: bool, message: &Message, bytes: usize) {
        if self.config.trace {
            let (name, text) = describe(message);
            self.notice(Notice::Trace { sent, name, bytes, text });
        }
    }

    /// Ends the session with a word.
    pub(super) fn end(&mut self, now: Now, code: ByeCode, reason: &str) {
        let bye = Bye { code, reason: String::from(reason), retry_after: None };
        self.say(now, &Message::Bye(bye));
        self.notice(Notice::Ended { code, reason: String::from(reason) });
        self.drop_session();
    }

    pub(super) fn frame(&mut self, now: Now, bytes: &[u8]) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.alive.hears(now.mono);
        if session.phase == Phase::Entering {
            // The peer goes on at once; the welcome is still on its way into the log.
            self.put_off(now, bytes);
            return;
        }
        let content = match wire::split_frame(bytes) {
            Ok((CHANNEL, content)) => content,
            Ok(_) => return,
            Err(error) => return self.end(now, ByeCode::Malformed, &error.to_string()),
        };
        if wire::is_part(content) {
            session.waits_behind(now.mono);
        }
        let message = match session.assembler.take(content) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return self.end(now, ByeCode::Malformed, &error.to_string()),
        };
        self.whole_message(now, &message);
    }

    fn whole_message(&mut self, now: Now, encoded: &[u8]) {
        match wire::decode(encoded) {
            Ok(message) => {
                let waits = !matches!(message, Message::Recalled(_) | Message::Bye(_));
                let phase = self.session.as_ref().map(|session| session.phase);
                if phase == Some(Phase::Checking) && waits {
                    let mut frame = wire::channel_prefix(CHANNEL);
                    frame.extend_from_slice(encoded);
                    self.put_off(now, &frame);
                    return;
                }
                self.trace(false, &message, encoded.len());
                self.message(now, message, encoded);
            }
            Err(error) => self.end(now, ByeCode::Malformed, &error.to_string()),
        }
    }

    fn put_off(&mut self, now: Now, frame: &[u8]) {
        if self.session.as_mut().is_some_and(|session| !session.put_off(frame)) {
            self.end(now, ByeCode::SlowConsumer, "more came than can wait for the welcome");
        }
    }

    fn message(&mut self, now: Now, message: Message, encoded: &[u8]) {
        let Some(session) = &mut self.session else { return };
        if !matches!(message, Message::Ping { .. } | Message::Pong { .. }) {
            session.alive.is_used(now.mono);
        }
        let open = session.phase == Phase::Open;
        match message {
            Message::Welcome(welcome) if session.phase == Phase::Greeting => {
                self.welcome(now, welcome);
            }
            Message::Ack(ack) if open => self.ack(now, ack),
            Message::Changes(changes) if open => self.changes(now, &changes, encoded),
            Message::Roots(roots) if open => self.heal_roots(now, roots),
            Message::Walk(walk) if open => self.heal_walk(now, &walk),
            Message::Records(records) if open => self.heal_records(now, &records, encoded),
            Message::Chunk(chunk) if open => self.heal_chunk(now, &chunk, encoded),
            Message::Refilled(refilled) if open => self.refilled(now, refilled),
            Message::Copied(copied) if open => self.copied(&copied),
            Message::Others(others) if open => self.others_show(now, others),
            Message::Recalled(recalled)
                if matches!(session.phase, Phase::Recalling | Phase::Checking) =>
            {
                self.recalled(now, &recalled);
            }
            Message::Ping { nonce } => self.say(now, &Message::Pong { nonce, state: None }),
            Message::Pong { nonce, state } => {
                if let Some(session) = &mut self.session {
                    session.alive.answered(now.mono, nonce, &mut self.patience);
                    self.present.answered(nonce);
                }
                if let (Some(state), true) = (state, open) {
                    self.stated(&state);
                    self.compare(now);
                }
            }
            Message::Bye(bye) => self.bye(bye),
            // Late answers to a session's earlier phase.
            Message::Welcome(_)
            | Message::Ack(_)
            | Message::Changes(_)
            | Message::Roots(_)
            | Message::Walk(_)
            | Message::Records(_)
            | Message::Chunk(_)
            | Message::Refilled(_)
            | Message::Copied(_)
            | Message::Others(_)
            | Message::Recalled(_)
                if !open => {}
            Message::Welcome(_)
            | Message::Ack(_)
            | Message::Changes(_)
            | Message::Roots(_)
            | Message::Walk(_)
            | Message::Records(_)
            | Message::Chunk(_)
            | Message::Refilled(_)
            | Message::Copied(_)
            | Message::Others(_)
            | Message::Presence(_)
            | Message::Refill(_)
            | Message::Recalled(_)
            | Message::Hello(_)
            | Message::Push(_)
            | Message::Resume(_)
            | Message::AskRoots(_)
            | Message::AskChunk(_)
            | Message::Recall(_)
            | Message::Refresh { .. } => {
                self.end(now, ByeCode::Misbehaved, "a message that has no place here");
            }
        }
    }

    fn bye(&mut self, bye: Bye) {
        // Another principal's token ends the session; whether it is good a hello will tell.
        let refreshed = self.session.as_ref().is_some_and(|session| session.refreshed);
        self.needs_token = bye.code == ByeCode::Unauthorized && !refreshed;
        let planted = self.needs_token && self.has(Bug::ExpiryAccepts);
        let session = self.session.as_ref().filter(|_| planted);
        let accepted = session.map(|session| session.pushing.in_flight_accepted());
        self.notice(Notice::Ended { code: bye.code, reason: bye.reason });
        self.pipeline_forget(bye.retry_after);
        if let Some(rows) = accepted {
            self.pipeline.want(Want::Entry { entry: Entry::Settled(rows), then: Then::Nothing });
        }
    }

    fn pipeline_forget(&mut self, retry_after: Option<Millis>) {
        self.drop_session();
        if let Some(Output::Close { retry_after: after, .. }) = self.outputs.back_mut() {
            *after = retry_after;
        }
    }

    /// What follows an entry that is durable and applied.
    pub(super) fn then(&mut self, now: Now, then: Then) {
        match then {
            Then::Nothing => {}
            Then::SayHello => self.say_hello(now),
            Then::Begin => self.begin(now),
            Then::Named(number) => self.outcomes_named(number),
            Then::HealStep(subscription) => self.heal_step(now, subscription),
            Then::Compare => self.compare(now),
            Then::Grant { id, number } => {
                self.grant_edit(id);
                let receipt = super::Receipt { number, stamp: None, relaxed: false };
                self.outputs.push_back(Output::Done { id, result: Ok(receipt) });
            }
            Then::Adopt { id, .. } => {
                let receipt = super::Receipt { number: 0, stamp: None, relaxed: false };
                self.outputs.push_back(Output::Done { id, result: Ok(receipt) });
                if self.session.as_ref().is_some_and(|session| session.phase == Phase::Blocked) {
                    // The app has adopted: a new session is welcomed as the new principal's.
                    self.then(now, Then::Reconnect);
                }
            }
            Then::Reconnect => self.reconnect(),
        }
    }

    /// Ends the session, if there is one, to begin another at once.
    pub(super) fn reconnect(&mut self) {
        if self.session.is_some() {
            self.pipeline_forget(Some(Millis(0)));
        }
    }

    fn say_hello(&mut self, now: Now) {
        let incarnation = match &mut self.session {
            Some(session) if session.phase == Phase::Preparing => {
                session.phase = Phase::Greeting;
                session.incarnation
            }
            _ => return,
        };
        let Some(space) = self.replica.space().cloned() else { return };
        let mut known = self.replica.incarnations();
        if self.names_past {
            known.extend_from_slice(self.replica.past_incarnations());
        }
        known.retain(|earlier| *earlier != incarnation);
        // Holders may ask for more together than a hello can name: then one's own come first.
        let own = |(_, held, _): &(u32, &Pattern, &Standing)| {
            self.config.patterns.iter().any(|ours| held.contains(ours))
        };
        let (asked, others): (Vec<_>, Vec<_>) = self.replica.asked().partition(own);
        let asked = asked.into_iter().chain(others).map(subscription);
        let subscriptions = asked.take(SUBSCRIPTIONS_MAX).collect();
        let hello = Hello {
            versions: VERSIONS.to_vec(),
            features: self.features(),
            replica: self.replica.id(),
            incarnation,
            known,
            space,
            token: self.config.token.clone(),
            clock: now.wall,
            subscriptions,
            epochs: self.replica.epochs(),
        };
        self.say(now, &Message::Hello(hello));
    }

    fn welcome(&mut self, now: Now, mut welcome: Welcome) {
        if !VERSIONS.contains(&welcome.version) {
            return self.end(now, ByeCode::Version, "a version that was not offered");
        }
        welcome.accepted = welcome.accepted.filter(|_| !self.has(Bug::AcceptedStampIgnored));
        self.other_account = None;
        let ours = self.replica.principal().filter(|_| !self.has(Bug::AccountIgnored));
        if ours.is_some_and(|ours| ours != welcome.principal) {
            let ours = String::from(ours.unwrap_or_default());
            let theirs = welcome.principal;
            self.other_account = Some(theirs.clone());
            if let Some(session) = &mut self.session {
                session.phase = Phase::Blocked;
            }
            self.notice(Notice::AccountChanged { ours, theirs });
            return;
        }
        if let Some(session) = &mut self.session {
            session.history = History::of(&welcome);
        }
        let past = self.replica.past_incarnations().len();
        let again = welcome.identity == Identity::Forked && !self.names_past && past > 0;
        self.names_past = again && !self.has(Bug::PastForgotten);
        if self.names_past {
            // A peer that was put back to an earlier state knows one that it had welcomed by then.
            self.reconnect();
            return;
        }
        let in_doubt = welcome.identity != Identity::Confirmed || self.replica.is_in_doubt();
        if in_doubt || self.has_forked(welcome.accepted) || self.gives_up_own(&welcome) {
            self.recall(now);
            return;
        }
        if let Some(session) = &mut self.session {
            session.copied = welcome.copied;
        }
        // A row of that stamp waits, but a history that was rolled back may have issued it twice.
        let accepted = welcome.accepted.filter(|accepted| *accepted > self.replica.acked());
        let rows = self.to_check(accepted, welcome.copied);
        if rows.is_empty() {
            self.enter(now, welcome);
        } else {
            self.check(now, welcome, rows);
        }
    }

    /// The replica can go on: stores the welcome.
    pub(super) fn enter(&mut self, now: Now, welcome: Welcome) {
        let skew = i128::from(welcome.clock.0) - i128::from(now.wall.0);
        let skew_ms = i64::try_from(skew).unwrap_or_default();
        let by_mode = |wanted: fn(Mode) -> bool| {
            let modes = welcome.modes.iter();
            modes.filter(move |(_, mode)| wanted(*mode)).map(|(id, _)| *id)
        };
        let good = by_mode(|mode| matches!(mode, Mode::Feed | Mode::InSync)).collect();
        let afresh = welcome
            .modes
            .iter()
            .filter(|(id, mode)| !self.keeps_staged(*id, *mode, &welcome))
            .map(|(id, _)| *id)
            .collect();
        let stale = by_mode(|mode| mode == Mode::Rebase).collect();
        let kept = self.kept();
        let entry = Entry::Welcomed(Welcomed {
            incarnation: self
                .session
                .as_ref()
                .map_or(Incarnation::from_bytes([0; 16]), |session| session.incarnation),
            principal: welcome.principal.clone(),
            epoch: welcome.epoch,
            skew_ms: if skew_ms.abs() < SKEW_MIN_MS { 0 } else { skew_ms },
            good,
            afresh,
            stale,
            kept,
        });
        if let Some(session) = &mut self.session {
            session.phase = Phase::Entering;
            session.welcome = Some(welcome);
        }
        self.pipeline.want(Want::Entry { entry, then: Then::Begin });
    }

    /// Up to where the peer has what it had accepted when it was last welcomed.
    pub(super) fn kept(&self) -> Seq {
        let before = self.replica.epochs().first().copied();
        self.session.as_ref().map(|session| session.history.kept(before)).unwrap_or_default()
    }

    /// Whether what a subscription has staged can be built on.
    fn keeps_staged(&self, id: u32, mode: Mode, welcome: &Welcome) -> bool {
        let at = usize::try_from(id).unwrap_or(usize::MAX);
        let Some((_, standing)) = self.replica.standings().get(at) else {
            return true;
        };
        if standing.stale && welcome.horizon == Hlc::ZERO {
            return false;
        }
        match (&standing.heal, mode) {
            (None, Mode::Feed | Mode::InSync) => true,
            // What was collected since it was begun would never be heard of.
            (Some(heal), Mode::Snapshot) if heal.time < welcome.horizon => false,
            (Some(heal), Mode::Snapshot) => standing.epoch.is_some_and(|epoch| {
                epoch == welcome.epoch
                    || self.has(Bug::StagedKept)
                    || welcome.lineage.iter().any(|left| {
                        // What moved on in a history that broke off came in no page, and stands before the place
                        // of a feed in this one.
                        left.epoch == epoch
                            && heal.reach.max(standing.place.seq) <= left.seq
                            && (!heal.complete || standing.place == Place::at(heal.seq))
                    })
            }),
            (_, Mode::Heal | Mode::Snapshot | Mode::Feed | Mode::InSync | Mode::Rebase) => false,
        }
    }

    /// The welcome is in the log: starts what each subscription needs.
    fn begin(&mut self, now: Now) {
        let features = self.features();
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(welcome) = session.welcome.take() else {
            return;
        };
        session.phase = Phase::Open;
        session.head = welcome.head;
        session.horizon = welcome.horizon;
        session.features = welcome.features & features;
        session.pushing = Pushing::start(welcome.head, &self.replica);
        let copies = core::mem::take(&mut session.copies);
        copies.iter().for_each(|copy| session.pushing.awaits(copy));
        let mut starting = Vec::new();
        for (id, mode) in welcome.modes {
            let at = usize::try_from(id).unwrap_or(usize::MAX);
            let Some((_, standing)) = self.replica.standings().get(at) else {
                continue;
            };
            session.expected.insert(id, standing.place.clone());
            if mode == Mode::Heal {
                session.breaks.insert(id);
            }
            if standing.stale {
                // A peer that has collected nothing has forgotten nothing: then it is evidence as ever.
                starting.push((id, welcome.horizon > Hlc::ZERO));
                session.breaks.insert(id);
                continue;
            }
            // A peer that was put back to an earlier state may keep what it had once collected.
            let healthy = standing.heal.is_none() && standing.horizon <= welcome.horizon;
            match mode {
                Mode::InSync | Mode::Feed if healthy => {}
                Mode::Snapshot | Mode::Rebase => starting.push((id, true)),
                Mode::InSync | Mode::Feed | Mode::Heal => starting.push((id, false)),
            }
        }
        for (id, snapshot) in starting {
            self.start_heal(now, id, snapshot);
        }
        // States roots, if nothing else does: an idle client wants to know that it agrees.
        self.ping(now);
        let early = self.session.as_mut().map(|session| {
            session.early_bytes = 0;
            core::mem::take(&mut session.early)
        });
        for frame in early.into_iter().flatten() {
            self.frame(now, &frame);
        }
    }
}
