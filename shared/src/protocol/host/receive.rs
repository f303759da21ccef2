//! What peers say, in every state: taken, or answered by an end.
//!
//! Invariant: a message that has no place where it comes ends its channel and touches nothing else; a
//! peer names only collections that its subscription covers. Absent: what follows from a message.

use super::{
    Grant, Host, HostOutput, PeerId, Phase,
    heal::Pull,
    peer::{Peer, Stage},
    pipeline::{Job, WaitingRow},
};
use crate::{
    id::{Pattern, Seq},
    protocol::{
        limits::{
            EPOCHS_MAX, FRAME_BYTES_MAX, INCARNATIONS_MAX, PAST_INCARNATIONS_MAX,
            PEER_ROWS_WAITING_MAX, PUSH_BYTES_IN_FLIGHT_MAX, RECALL_ROWS_MAX, SUBSCRIPTIONS_MAX,
            VERSIONS,
        },
        message::{Bye, ByeCode, Hello, Message, Push, Recall, Resume},
        wire,
    },
    sorted::SortedSet,
    time::{Millis, Now},
};
use alloc::string::String;

/// Bytes of rows of one peer that wait, at most: what it may have in flight, and a frame.
const BYTES_WAITING_MAX: usize = PUSH_BYTES_IN_FLIGHT_MAX + FRAME_BYTES_MAX;
/// Jobs that wait, at most.
pub(super) const JOBS_MAX: usize = 100_000;
/// When those come back who were too many.
const BUSY_AFTER: Millis = Millis(5_000);

impl Host {
    pub(super) fn opened_by(&mut self, now: Now, id: PeerId, hello: Hello, grant: Grant) {
        let refused = self.refusal(&hello, &grant);
        self.peers.insert(id, Peer::new(hello, grant, now.mono));
        if self.phase == Phase::Over || self.stopping {
            return self.send_away(now, id);
        }
        if let Some((code, reason)) = refused {
            return self.dismiss(now, id, code, reason);
        }
        if self.peers.len() > self.config.peers_max || self.jobs.len() >= JOBS_MAX {
            let bye = Bye {
                code: ByeCode::Busy,
                reason: String::from("too many peers"),
                retry_after: Some(BUSY_AFTER),
            };
            return self.bye(now, id, bye);
        }
        if let Some(peer) = self.peers.get(&id) {
            let deadline = peer.deadline();
            self.wake_by(deadline);
        }
        self.jobs.push_back(Job::Open(id));
        self.start_group(now);
    }

    fn refusal(&self, hello: &Hello, grant: &Grant) -> Option<(ByeCode, &'static str)> {
        let ids: SortedSet<u32> = hello.subscriptions.iter().map(|known| known.id).collect();
        if !hello.versions.iter().any(|version| VERSIONS.contains(version)) {
            Some((ByeCode::Version, "no common version"))
        } else if hello.subscriptions.len() > SUBSCRIPTIONS_MAX
            || hello.epochs.len() > EPOCHS_MAX
            || hello.known.len() > INCARNATIONS_MAX + PAST_INCARNATIONS_MAX
        {
            Some((ByeCode::TooLarge, "a list of the hello is too long"))
        } else if ids.len() != hello.subscriptions.len() {
            Some((ByeCode::Misbehaved, "two subscriptions have one number"))
        } else if hello.space != self.config.space || !may_read(hello, grant) {
            Some((ByeCode::NoSpace, "no such space, or no right to it"))
        } else {
            None
        }
    }

    pub(super) fn regrant(&mut self, now: Now, id: PeerId, grant: Grant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.grant.principal != grant.principal {
            let reason = "the token is another principal's";
            self.dismiss(now, id, ByeCode::Unauthorized, reason);
        } else if may_read(&peer.hello, &grant) {
            peer.grant = grant;
        } else {
            self.dismiss(now, id, ByeCode::NoSpace, "no such space, or no right to it");
        }
    }

    pub(super) fn receive(&mut self, now: Now, id: PeerId, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.hears(now.mono);
        if bytes.len() > FRAME_BYTES_MAX {
            return self.dismiss(now, id, ByeCode::TooLarge, "a frame is too large");
        }
        let stage = peer.stage;
        let assembled = match peer.assembler.take(bytes) {
            Ok(None) => return,
            Ok(Some(assembled)) => Some(assembled),
            Err(_) => None,
        };
        let Some((message, bytes)) =
            assembled.and_then(|bytes| Some((wire::decode(&bytes).ok()?, bytes)))
        else {
            return self.dismiss(now, id, ByeCode::Malformed, "a message cannot be decoded");
        };
        match (message, stage) {
            (Message::Bye(bye), _) => self.closed(id, bye),
            (Message::Ping { nonce }, _) => self.pong(now, id, nonce),
            (Message::Pong { .. }, _) => {}
            (Message::Refresh { token }, Stage::Confirmed | Stage::Denied { .. }) => {
                self.out(HostOutput::RefreshAsked { peer: id, token });
            }
            (Message::Recall(recall), Stage::Confirmed | Stage::Denied { .. }) => {
                self.recall(now, id, recall);
            }
            (Message::Push(push), Stage::Confirmed) => self.push(now, id, push, bytes.len()),
            (Message::Refill(refill), Stage::Confirmed) => {
                self.refill(now, id, refill, bytes.len());
            }
            (Message::Resume(resume), Stage::Confirmed) => self.resume(now, id, resume),
            (Message::AskRoots(ask), Stage::Confirmed) => {
                self.ask_for(now, id, Pull::Roots(ask), &bytes);
            }
            (Message::Walk(walk), Stage::Confirmed) => {
                self.ask_for(now, id, Pull::Walk(walk), &bytes);
            }
            (Message::Presence(presence), Stage::Confirmed) => self.show(now, id, presence),
            (Message::AskChunk(ask), Stage::Confirmed) => {
                self.ask_for(now, id, Pull::Chunk(ask), &bytes);
            }
            (
                Message::Hello(_)
                | Message::Welcome(_)
                | Message::Push(_)
                | Message::Ack(_)
                | Message::Changes(_)
                | Message::Resume(_)
                | Message::AskRoots(_)
                | Message::Roots(_)
                | Message::Walk(_)
                | Message::Records(_)
                | Message::AskChunk(_)
                | Message::Chunk(_)
                | Message::Recall(_)
                | Message::Recalled(_)
                | Message::Refill(_)
                | Message::Refilled(_)
                | Message::Copied(_)
                | Message::Presence(_)
                | Message::Others(_)
                | Message::Refresh { .. },
                _,
            ) => self.dismiss(now, id, ByeCode::Misbehaved, "a message has no place here"),
        }
        self.cut_who_is_flooded(now, id);
    }

    fn cut_who_is_flooded(&mut self, now: Now, id: PeerId) {
        if self.peers.get(&id).is_some_and(Peer::is_flooded) {
            let reason = "answers are asked for and not taken";
            self.dismiss(now, id, ByeCode::SlowConsumer, reason);
        }
    }

    fn push(&mut self, now: Now, id: PeerId, push: Push, bytes: usize) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let share = bytes / push.rows.len().max(1);
        peer.rows_waiting += push.rows.len();
        peer.bytes_waiting += share * push.rows.len();
        let too_many = peer.rows_waiting > PEER_ROWS_WAITING_MAX
            || peer.bytes_waiting > BYTES_WAITING_MAX
            || self.jobs.len() > JOBS_MAX;
        if too_many {
            let reason = "too many rows wait for their commit";
            return self.dismiss(now, id, ByeCode::Busy, reason);
        }
        let named = push.named;
        let rows = push.rows.into_iter();
        self.jobs
            .extend(rows.map(|row| Job::Row(WaitingRow { peer: id, named, bytes: share, row })));
        self.start_group(now);
    }

    fn recall(&mut self, now: Now, id: PeerId, recall: Recall) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if recall.rows.len() > RECALL_ROWS_MAX {
            return self.dismiss(now, id, ByeCode::TooLarge, "a recall has too many rows");
        }
        if peer.recall_waits {
            let reason = "a recall came before the answer to the last one";
            return self.dismiss(now, id, ByeCode::Misbehaved, reason);
        }
        if self.jobs.len() > JOBS_MAX {
            return self.dismiss(now, id, ByeCode::Busy, "too many jobs wait");
        }
        peer.recall_waits = true;
        self.jobs.push_back(Job::Recall(id, recall));
        self.start_group(now);
    }

    fn resume(&mut self, now: Now, id: PeerId, resume: Resume) {
        let head = self.head.seq;
        let late = self.is_behind_horizon(resume.time);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.pattern(resume.subscription).is_none() || resume.place.seq > head {
            let reason = "no such subscription or place";
            return self.dismiss(now, id, ByeCode::Misbehaved, reason);
        }
        if late {
            return self.start_over(now, id);
        }
        // In the middle of a position nothing is known of earlier pages: entries carry everything.
        let cut = match resume.place.key {
            None => resume.place.seq,
            Some(_) => Seq(0),
        };
        peer.stream_from(resume.subscription, resume.place, (cut, resume.time), true);
        self.pump(now, id);
    }

    fn ask_for(&mut self, now: Now, id: PeerId, pull: Pull, message: &[u8]) {
        let ready = self.is_ready();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let covers = |pattern: &Pattern| pull.collection().is_none_or(|name| pattern.covers(name));
        if !peer.pattern(pull.subscription()).is_some_and(covers) {
            let reason = "no such subscription, or it does not cover the collection";
            return self.dismiss(now, id, ByeCode::Misbehaved, reason);
        }
        let subscription = pull.subscription();
        let begins = matches!(&pull, Pull::Roots(ask) if ask.after.is_none());
        if begins {
            // What is healed is fed again from the place of its `Resume`: changes that were on their way
            // then could not be told from those behind it.
            peer.end_stream(subscription);
        }
        let is_free = ready && peer.has_room() && peer.active.is_none();
        if is_free && peer.pulls.is_empty() {
            self.answer(now, id, pull);
        } else if let Err((code, reason)) = peer.pulls.push(pull, message) {
            return self.dismiss(now, id, code, reason);
        }
        self.pull(now, id);
    }
}

fn may_read(hello: &Hello, grant: &Grant) -> bool {
    !grant.rights.is_empty()
        && hello.subscriptions.iter().all(|subscription| grant.reads(&subscription.pattern))
}
