//! Guests of a hub: requests that come without a session, each with its answer.
//!
//! Invariant: whoever asks is answered once, or learns that the hub is gone (its end of the channel is dropped). A
//! hub stays open while a guest waits, watches or is shown. Absent: HTTP.

use super::Hub;
use crate::clock;
use rejoin_core::{
    io::CommitOutcome,
    protocol::{
        host::{DirectAnswer, DirectWrite, HostInput, PeerId},
        message::Other,
    },
    record::Value,
    time::{Millis, MonoMillis},
};
use std::collections::BTreeMap;
use tokio::sync::{oneshot, watch};
use tracing::Span;

/// Who shows something without a session is shown for so long, unless he says it again.
pub(crate) const SHOWN_FOR: Millis = Millis(30_000);
/// Most names under which one principal shows something without a session.
const SHOWN_MAX: usize = 64;

/// What a guest asks.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Write, when it is your turn; the span ends with the answer. The hub gives the number.
    Write(Box<DirectWrite>, Span, oneshot::Sender<DirectAnswer>),
    /// Tell me whenever something was committed.
    Watch(oneshot::Sender<watch::Receiver<u64>>),
    /// Show this, or nothing any more.
    Show(Show, oneshot::Sender<Shown>),
    /// Who shows something?
    Present(oneshot::Sender<Vec<Other>>),
    /// Say how far everybody is, to who looks at the server.
    Look(oneshot::Sender<()>),
}

/// What somebody shows without a session.
#[derive(Debug)]
pub(crate) struct Show {
    /// A name that no peer of this process had.
    pub(crate) fresh: PeerId,
    pub(crate) principal: String,
    /// Tells what one principal shows apart.
    pub(crate) name: String,
    pub(crate) value: Option<Value>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Yes,
    /// There is no room in the space, or the principal shows too much.
    NoRoom,
    /// There was nothing to hide.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Guests {
    last_number: u64,
    /// Each with what takes as long as it waits.
    waiting: BTreeMap<u64, (oneshot::Sender<DirectAnswer>, Span)>,
    committed: watch::Sender<u64>,
    /// By principal and name.
    shown: BTreeMap<(String, String), Visitor>,
}

#[derive(Debug, Clone, Copy)]
struct Visitor {
    peer: PeerId,
    until: MonoMillis,
}

impl Default for Guests {
    fn default() -> Self {
        Self {
            last_number: 0,
            waiting: BTreeMap::new(),
            committed: watch::Sender::new(0),
            shown: BTreeMap::new(),
        }
    }
}

impl Guests {
    pub(super) fn are_gone(&self) -> bool {
        self.waiting.is_empty() && self.shown.is_empty() && self.committed.receiver_count() == 0
    }

    /// When the first of those who show something is shown no longer.
    pub(super) fn deadline(&self) -> Option<MonoMillis> {
        self.shown.values().map(|visitor| visitor.until).min()
    }

    /// Whether what was carried out is a commit that guests who watch want to hear of.
    pub(super) const fn is_news(done: &HostInput) -> bool {
        matches!(done, HostInput::Committed { result: Ok(CommitOutcome::Applied), .. })
    }

    pub(super) fn tell(&self) {
        self.committed.send_modify(|commits| *commits += 1);
    }

    pub(super) fn answer(&mut self, number: u64, answer: DirectAnswer) {
        if let Some((reply, _span)) = self.waiting.remove(&number) {
            // Who asked may have gone.
            reply.send(answer).ok();
        }
    }
}

impl Ask {
    /// The hub ends and has not looked at it: nothing was done.
    pub(super) fn decline(self) {
        if let Self::Write(_, _, reply) = self {
            reply.send(DirectAnswer::Busy).ok();
        }
    }
}

impl Hub {
    pub(super) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Write(mut write, span, reply) => {
                self.guests.last_number += 1;
                write.number = self.guests.last_number;
                self.guests.waiting.insert(write.number, (reply, span));
                self.handle(HostInput::Write(*write));
            }
            Ask::Watch(reply) => {
                reply.send(self.guests.committed.subscribe()).ok();
            }
            Ask::Show(show, reply) => {
                reply.send(self.show(show)).ok();
            }
            Ask::Present(reply) => {
                reply.send(self.host.present().collect()).ok();
            }
            Ask::Look(reply) => {
                self.be_looked_at();
                reply.send(()).ok();
            }
        }
    }

    fn be_looked_at(&self) {
        if let Some(pulse) = &self.told.pulse {
            pulse.reaches(self.host.head());
        }
        for standing in self.host.standings() {
            let known = self.peers.get(&standing.peer);
            if let Some(seated) = known.and_then(|known| known.seated.as_ref()) {
                seated.seat().stands(&standing);
            }
        }
    }

    fn show(&mut self, show: Show) -> Shown {
        let Show { fresh, principal, name, value } = show;
        let now = clock::read();
        let place = (principal, name);
        let known = self.guests.shown.remove(&place);
        let of_principal = |(other, _): &&(String, String)| *other == place.0;
        let room = self.guests.shown.keys().filter(of_principal).count() < SHOWN_MAX;
        let hides = value.is_none();
        let peer = known.map_or(fresh, |known| known.peer);
        if !room && !hides {
            return Shown::NoRoom;
        }
        let has_room = self.host.visit(now, peer, &place.0, value);
        if hides {
            return if known.is_some() { Shown::Yes } else { Shown::Nothing };
        }
        if !has_room {
            return Shown::NoRoom;
        }
        self.guests.shown.insert(place, Visitor { peer, until: now.mono + SHOWN_FOR });
        Shown::Yes
    }

    /// Those who have not said again what they show are gone.
    pub(super) fn forget_visitors(&mut self) {
        let now = clock::read();
        let over = self.guests.shown.extract_if(.., |_, visitor| visitor.until <= now.mono);
        let over: Vec<((String, String), Visitor)> = over.collect();
        for ((principal, _), visitor) in over {
            self.host.visit(now, visitor.peer, &principal, None);
        }
    }
}
