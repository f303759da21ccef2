//! One connection's channels: which space each leads to, and what opens and ends one.
//!
//! Invariant: a message reaches a hub only on a channel whose hello was authenticated, and every hub
//! that was told of a channel is told when it is gone. Absent: sockets, and all messages but the first.

use crate::{
    auth::{Admission, Denial},
    census::{Principals, Seat},
    clock,
    hub::{Link, Open, Outgoing, Route, ToHub},
    hubs::Hubs,
    pace::Pace,
    rates::Met,
};
use rejoin_core::{
    protocol::{
        limits::CHANNELS_MAX,
        message::{ByeCode, Hello, Message},
        wire,
    },
    time::MonoMillis,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};
use tokio::sync::oneshot;

/// Begins a hello: a list of five, of type 0.
const HELLO_BEGINS: [u8; 2] = [0x85, 0x00];

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation {
    /// On which channel, if that can be told.
    pub(crate) channel: Option<u64>,
    pub(crate) code: ByeCode,
    pub(crate) reason: &'static str,
}

/// Where a channel leads, and for whom.
struct Channel {
    route: Route,
    /// `None` where everyone is let in.
    principal: Option<Arc<str>>,
}

pub(crate) struct Connection {
    hubs: Arc<Hubs>,
    outgoing: Arc<Outgoing>,
    pace: Pace,
    principals: Arc<Principals>,
    /// One for each principal that it has had.
    seats: Vec<Seat>,
    address: IpAddr,
    channels: BTreeMap<u64, Channel>,
    /// Channels that were closed from this side: what was under way then is no misconduct.
    closed: BTreeSet<u64>,
    /// Since when no channel is open.
    idle_since: MonoMillis,
}

impl Connection {
    pub(crate) fn new(
        hubs: Arc<Hubs>,
        outgoing: Arc<Outgoing>,
        pace: Pace,
        principals: Arc<Principals>,
        address: IpAddr,
    ) -> Self {
        Self {
            hubs,
            outgoing,
            pace,
            principals,
            seats: Vec::new(),
            address,
            channels: BTreeMap::new(),
            closed: BTreeSet::new(),
            idle_since: clock::read().mono,
        }
    }

    /// Since when no channel is open; `None` while one is.
    pub(crate) fn idle_since(&self) -> Option<MonoMillis> {
        self.channels.is_empty().then_some(self.idle_since)
    }

    /// Waits until a message of so many bytes may be looked at.
    pub(crate) async fn pace(&self, bytes: usize) -> Result<(), Violation> {
        match self.pace.take(None, bytes) {
            Some(waiting) => waiting.await.map_err(|met| too_fast(None, &met)),
            None => Ok(()),
        }
    }

    /// Takes in a frame; waits while that is too fast, or the space's hub is busy.
    pub(crate) async fn take_in(&mut self, frame: &[u8]) -> Result<(), Violation> {
        self.pace(frame.len()).await?;
        let violation = |channel, code, reason| Violation { channel, code, reason };
        let Ok((channel, bytes)) = wire::split_frame(frame) else {
            return Err(violation(None, ByeCode::Malformed, "the frame has no channel number"));
        };
        self.forget_closed();
        if bytes.starts_with(&HELLO_BEGINS) {
            self.settle(channel).await;
        }
        if let Some(Channel { route, principal }) = self.channels.get(&channel) {
            let shared = principal.as_ref();
            if let Some(waiting) =
                shared.and_then(|principal| self.pace.take(Some(principal), frame.len()))
            {
                waiting.await.map_err(|met| too_fast(Some(channel), &met))?;
            }
            let message = ToHub::Message { peer: route.peer, bytes: bytes.to_vec() };
            // A hub that is gone has closed its channels: that is seen with the next frame.
            route.tell(message).await;
            return Ok(());
        }
        match wire::decode(bytes) {
            Ok(Message::Hello(hello)) => {
                Box::pin(self.open(channel, hello)).await;
                Ok(())
            }
            Ok(_) | Err(_) if self.closed.contains(&channel) => Ok(()),
            Ok(_) => {
                let reason = "the first message of a channel is a hello";
                Err(violation(Some(channel), ByeCode::Misbehaved, reason))
            }
            Err(_) => {
                let reason = "the first message of a channel cannot be decoded";
                Err(violation(Some(channel), ByeCode::Malformed, reason))
            }
        }
    }

    /// Waits until the hub has taken in all that came on a channel: a bye there makes room for a hello.
    async fn settle(&mut self, channel: u64) {
        if let Some(Channel { route, .. }) = self.channels.get(&channel) {
            let (reply, answer) = oneshot::channel();
            // A hub that is gone has closed the channel.
            if route.tell(ToHub::Probe(reply)).await {
                answer.await.ok();
            }
            self.forget_closed();
        }
    }

    async fn open(&mut self, channel: u64, hello: Hello) {
        self.closed.remove(&channel);
        if let Err((code, reason)) = self.try_open(channel, hello).await {
            self.outgoing.bye(channel, code, reason);
            self.remember_closed(channel);
        }
    }

    async fn try_open(
        &mut self,
        channel: u64,
        hello: Hello,
    ) -> Result<(), (ByeCode, &'static str)> {
        if self.channels.len() as u64 >= CHANNELS_MAX {
            return Err((ByeCode::Busy, "too many channels"));
        }
        let token = hello.token.as_deref();
        let limiter = self.pace.limiter();
        if let Some(token) = token {
            let looked = limiter.token_from(self.address, token);
            looked.map_err(|_met| (ByeCode::Busy, Met::FAILURES))?;
        }
        let admitted = self.hubs.auth().admit(token, &hello.space).await;
        if let Some(token) = token {
            let is_bad = |denial: &Denial| denial.code == ByeCode::Unauthorized;
            let is_settled = !matches!(&admitted, Err(denial) if denial.code == ByeCode::Busy);
            if is_settled {
                limiter.token_was(self.address, token, !admitted.as_ref().is_err_and(is_bad));
            }
        }
        let Admission { grant, pass } = admitted.map_err(|denial| {
            if let Some(observer) = self.hubs.observer() {
                observer.denied(&hello.space, denial.code, denial.reason);
            }
            (denial.code, denial.reason)
        })?;
        let principal = pass.names_somebody().then(|| Arc::from(grant.principal.as_str()));
        if let Some(principal) = &principal {
            self.sit(principal)?;
        }
        let inbox = self.hubs.inbox(&hello.space, principal.as_ref())?;
        let route = Route { peer: self.hubs.next_peer(), inbox };
        let link = Link::new(channel, Arc::clone(&self.outgoing));
        let message = ToHub::Open(Box::new(Open { peer: route.peer, hello, grant, pass, link }));
        // If the hub is gone the link comes back, and closes the channel as it is dropped.
        route.tell(message).await;
        self.channels.insert(channel, Channel { route, principal });
        Ok(())
    }

    /// Counts the connection as one of a principal.
    fn sit(&mut self, principal: &Arc<str>) -> Result<(), (ByeCode, &'static str)> {
        if self.seats.iter().all(|seat| seat.principal() != principal) {
            let seat = self.principals.enter(principal);
            let seat = seat.ok_or((ByeCode::Busy, "too many connections of this principal"))?;
            self.seats.push(seat);
        }
        Ok(())
    }

    /// Lets go of channels that hubs have closed.
    pub(crate) fn forget_closed(&mut self) {
        for channel in self.outgoing.take_closed() {
            if self.channels.remove(&channel).is_some() {
                self.idle_since = clock::read().mono;
            }
            self.remember_closed(channel);
        }
    }

    fn remember_closed(&mut self, channel: u64) {
        self.closed.insert(channel);
        if self.closed.len() as u64 > 2 * CHANNELS_MAX {
            self.closed.pop_first();
        }
    }

    /// Says why the connection ends, on the channel that caused it and on every open one.
    pub(crate) fn say(&self, violation: &Violation) {
        let caused = violation.channel.filter(|channel| !self.channels.contains_key(channel));
        let nobody = self.channels.is_empty() && caused.is_none();
        let open = self.channels.keys().copied();
        for channel in open.chain(caused).chain(nobody.then_some(0)) {
            self.outgoing.bye(channel, violation.code, violation.reason);
        }
    }

    /// Tells every hub that its channel is gone.
    pub(crate) async fn leave(&mut self) {
        while let Some((_, Channel { route, .. })) = self.channels.pop_first() {
            // A hub that is gone has nothing to forget.
            route.tell(ToHub::Gone { peer: route.peer }).await;
        }
    }
}

fn too_fast(channel: Option<u64>, met: &Met) -> Violation {
    Violation { channel, code: ByeCode::Busy, reason: met.reason() }
}
