//! Pushing the outbox: in order, a bounded number of bytes ahead of the acknowledgements.

use super::{
    Engine,
    pipeline::{Then, Want},
};
use crate::{
    id::Seq,
    protocol::{
        limits::{ACK_WITHIN, PAGE_BYTES_AIM, PUSH_BYTES_IN_FLIGHT_MAX, PUSH_ROWS_MAX},
        message::{Ack, Message, Outcome, Push, PushRow},
    },
    replica::{Entry, RowState, Settlement},
    time::{MonoMillis, Now},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

/// Where the outbox stands in a session.
#[derive(Debug, Default)]
pub(super) struct Pushing {
    /// Rows sent and not acknowledged, with their size.
    in_flight: BTreeMap<u64, usize>,
    bytes: usize,
    /// Rows to be sent again.
    returned: BTreeSet<u64>,
    /// Rows below this were sent, or are in `returned`.
    next: u64,
    /// Greatest outcome number taken in.
    named: u64,
    /// Outcomes that are on their way into the log.
    settling: usize,
    /// Rows need new stamps once nothing is in flight: the peer's clock less ours, in milliseconds.
    restamp: Option<i64>,
    /// The feed must reach this before more is sent.
    until: Option<Seq>,
    /// When the outstanding acknowledgement is overdue.
    pub(super) overdue: Option<MonoMillis>,
}

impl Pushing {
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.settling == 0
    }
}

impl Engine {
    /// Sends what the limits allow.
    pub(super) fn pump_push(&mut self, now: Now) {
        if self.session.as_ref().is_none_or(|session| !session.may_push(&self.replica)) {
            return;
        }
        while let Some(push) = self.next_push(now) {
            self.say(now, &Message::Push(push));
        }
    }

    fn next_push(&mut self, now: Now) -> Option<Push> {
        let session = self.session.as_mut()?;
        let pushing = &mut session.pushing;
        if let Some(skew_ms) = pushing.restamp {
            if pushing.in_flight.is_empty() && pushing.settling == 0 {
                pushing.settling += 1;
                pushing.restamp = None;
                let from = pushing.returned.first().copied().unwrap_or(pushing.next);
                self.pipeline.want(Want::Restamp { from, skew_ms });
            }
            return None;
        }
        // Two pushes in flight could each be returned for an outcome that the other does not name yet, for
        // ever: what is sent again goes when every outcome is known.
        let again = !pushing.returned.is_empty() && !pushing.in_flight.is_empty();
        if pushing.settling > 0 || again {
            return None;
        }
        if let Some(seq) = pushing.until {
            let standings = self.replica.standings();
            if standings.iter().any(|(_, standing)| standing.cursor < seq) {
                return None;
            }
            pushing.until = None;
        }
        let mut rows: Vec<PushRow> = Vec::new();
        let mut page = 0;
        while rows.len() < PUSH_ROWS_MAX
            && page < PAGE_BYTES_AIM
            && pushing.bytes < PUSH_BYTES_IN_FLIGHT_MAX
        {
            let Some(number) = next_number(pushing, &self.replica) else {
                break;
            };
            let Ok(Some(row)) = self.replica.push_row(number) else {
                continue;
            };
            let bytes = size_of_row(&row);
            page += bytes;
            pushing.bytes += bytes;
            pushing.in_flight.insert(number, bytes);
            rows.push(row);
        }
        if rows.is_empty() {
            return None;
        }
        pushing.overdue.get_or_insert(now.mono + ACK_WITHIN);
        Some(Push { named: pushing.named, rows })
    }

    pub(super) fn ack(&mut self, now: Now, ack: Ack) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        let pushing = &mut session.pushing;
        let mut settled = Vec::new();
        let mut named = 0;
        for (number, outcome) in ack.outcomes {
            let Some(bytes) = pushing.in_flight.remove(&number) else {
                continue;
            };
            pushing.bytes = pushing.bytes.saturating_sub(bytes);
            match outcome {
                Outcome::Accepted { seq } => settled.push((number, Settlement::Accepted(seq))),
                Outcome::Rejected { number: at, code, reason } => {
                    named = named.max(at);
                    settled.push((number, Settlement::Rejected { code, reason }));
                }
                Outcome::Returned { number: at } => {
                    named = named.max(at);
                    pushing.returned.insert(number);
                }
                Outcome::Ahead { number: at, by } => {
                    named = named.max(at);
                    pushing.returned.insert(number);
                    let stamped = self.replica.overlay().get(number);
                    let wall = stamped.map_or(now.wall.0, |row| row.row.stamp.hlc.wall().0);
                    let theirs = i128::from(wall) - i128::from(by.0);
                    let skew = theirs - i128::from(now.wall.0);
                    pushing.restamp = Some(i64::try_from(skew).unwrap_or_default());
                }
                Outcome::Stale { number: at, seq } => {
                    named = named.max(at);
                    pushing.returned.insert(number);
                    pushing.until = pushing.until.max(Some(seq));
                }
            }
        }
        pushing.overdue =
            if pushing.in_flight.is_empty() { None } else { Some(now.mono + ACK_WITHIN) };
        if settled.is_empty() {
            pushing.named = pushing.named.max(named);
        } else {
            pushing.settling += 1;
            let entry = Entry::Settled(settled);
            self.pipeline.want(Want::Entry { entry, then: Then::Named(named) });
        }
    }

    /// Outcomes, or new stamps, are in the log.
    pub(super) fn outcomes_named(&mut self, named: u64) {
        if let Some(session) = &mut self.session {
            let pushing = &mut session.pushing;
            pushing.settling = pushing.settling.saturating_sub(1);
            if named != u64::MAX {
                pushing.named = pushing.named.max(named);
            }
        }
    }
}

/// The next row that was not sent, or is to be sent again.
fn next_number(pushing: &mut Pushing, replica: &crate::replica::Replica) -> Option<u64> {
    let is_waiting = |number: &u64| {
        let row = replica.overlay().get(*number);
        row.is_some_and(|row| {
            row.state == RowState::Waiting && row.row.stamp.replica == replica.id()
        })
    };
    while let Some(number) = pushing.returned.pop_first() {
        if is_waiting(&number) {
            return Some(number);
        }
    }
    let number = replica.durable_from(pushing.next).find(is_waiting)?;
    pushing.next = number + 1;
    Some(number)
}

fn size_of_row(row: &PushRow) -> usize {
    let mut bytes = 32;
    for write in &row.writes {
        let mut out = crate::codec::Writer::new();
        crate::codec::write_record(&mut out, &write.delta);
        bytes += out.len() + write.saw.len() * 24 + write.key.id.as_str().len() + 16;
    }
    bytes
}
