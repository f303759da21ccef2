//! Wishes whose commit failed in a way that leaves open whether it happened: the log tells.

use super::{Engine, Output, Receipt, WishError};
use crate::{
    io::{FaultClass, Row},
    planted::Bug,
    replica::{Entry, decode_entry, encode_entry, log_number},
};
use alloc::vec::Vec;

/// A wish that may or may not be in the log.
#[derive(Debug)]
pub(super) struct Uncertain {
    id: u64,
    receipt: Receipt,
    class: FaultClass,
    /// Where its log entry would be, and what it would be: another holder may have taken the number, even
    /// with the same stamp.
    at: u64,
    bytes: Vec<u8>,
    happened: bool,
}

/// What can be said of an uncertain wish.
enum Fate {
    Happened,
    Failed,
    Unknown,
}

impl Engine {
    /// The commit of this wish, which ended in `entry`, failed.
    pub(super) fn be_uncertain(
        &mut self,
        id: u64,
        receipt: Receipt,
        class: FaultClass,
        at: u64,
        entry: &Entry,
    ) {
        let bytes = encode_entry(entry);
        let happened = false;
        self.pipeline.uncertain.push(Uncertain { id, receipt, class, at, bytes, happened });
    }

    /// The commit of this write, which is still applied, failed.
    pub(super) fn row_is_uncertain(&mut self, id: u64, receipt: Receipt, class: FaultClass) {
        let at = receipt.number;
        match self.replica.overlay().get(at).map(|outbox| Entry::Commit(outbox.row.clone())) {
            Some(entry) => self.be_uncertain(id, receipt, class, at, &entry),
            None => self.refuse(id, WishError::Unknown(class)),
        }
    }

    /// A row of the log was read.
    pub(super) fn witness(&mut self, row: &Row) {
        let Some(number) = log_number(&row.key) else {
            return;
        };
        for uncertain in &mut self.pipeline.uncertain {
            uncertain.happened |= uncertain.at == number && uncertain.bytes == row.value;
        }
    }

    /// The log was read to its end: tells what became of them.
    pub(super) fn settle_uncertain(&mut self) {
        self.pipeline.tries = 0;
        for uncertain in core::mem::take(&mut self.pipeline.uncertain) {
            let fate = self.fate(&uncertain);
            let Uncertain { id, receipt, class, .. } = uncertain;
            let result = match fate {
                Fate::Happened => Ok(receipt),
                Fate::Failed if self.replica.has(Bug::FailedIsDone) => Ok(receipt),
                Fate::Failed => Err(WishError::Store(class)),
                Fate::Unknown => Err(WishError::Unknown(class)),
            };
            self.outputs.push_back(Output::Done { id, result });
        }
    }

    fn fate(&self, uncertain: &Uncertain) -> Fate {
        if uncertain.happened {
            return Fate::Happened;
        }
        if uncertain.at > self.replica.folded() {
            return Fate::Failed;
        }
        // It may have left the log in a fold since, or may have another stamp there.
        let happened = match decode_entry(&uncertain.bytes) {
            Ok(Entry::Commit(row)) => match self.replica.overlay().get(uncertain.at) {
                Some(outbox) => {
                    if outbox.row.origin() != row.origin() {
                        return Fate::Failed;
                    }
                    true
                }
                // The base may have seen another holder's row with this stamp or a later one.
                None => false,
            },
            Ok(Entry::Dropped(number)) => match self.replica.overlay().get(number) {
                Some(_) => return Fate::Failed,
                // Whoever forgot the row, it is forgotten; what came in its place is another question.
                None => uncertain.receipt.number == 0,
            },
            Ok(Entry::Adopted(principal)) => self.replica.principal() == Some(&principal),
            Ok(_) | Err(_) => false,
        };
        if happened { Fate::Happened } else { Fate::Unknown }
    }

    /// The log cannot be read either.
    pub(super) fn fail_uncertain(&mut self) {
        self.pipeline.tries = 0;
        for uncertain in core::mem::take(&mut self.pipeline.uncertain) {
            self.refuse(uncertain.id, WishError::Unknown(uncertain.class));
        }
    }
}
