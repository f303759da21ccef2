//! Writes whose commit failed in a way that leaves open whether it happened: the log tells.

use super::{Engine, Output, Receipt, WishError};
use crate::{
    io::{FaultClass, Row},
    replica::{Entry, decode_entry, encode_entry, log_number},
};
use alloc::vec::Vec;

/// A write that may or may not be in the log.
#[derive(Debug)]
pub(super) struct Uncertain {
    id: u64,
    receipt: Receipt,
    class: FaultClass,
    /// What its log entry would be: another holder may have taken the number, even with the same stamp.
    bytes: Vec<u8>,
    happened: bool,
}

impl Engine {
    /// The commit of these writes, which are still applied, failed.
    pub(super) fn be_uncertain(
        &mut self,
        rows: impl Iterator<Item = (u64, Receipt)>,
        class: FaultClass,
    ) {
        for (id, receipt) in rows {
            let Some(outbox) = self.replica.overlay().get(receipt.number) else {
                continue;
            };
            let bytes = encode_entry(&Entry::Commit(outbox.row.clone()));
            self.pipeline.uncertain.push(Uncertain { id, receipt, class, bytes, happened: false });
        }
    }

    /// A row of the log was read.
    pub(super) fn witness(&mut self, row: &Row) {
        let Some(number) = log_number(&row.key) else {
            return;
        };
        for uncertain in &mut self.pipeline.uncertain {
            uncertain.happened |=
                uncertain.receipt.number == number && uncertain.bytes == row.value;
        }
    }

    /// The log was read to its end: tells what became of them.
    pub(super) fn settle_uncertain(&mut self) {
        for uncertain in core::mem::take(&mut self.pipeline.uncertain) {
            let happened = uncertain.happened || self.was_folded(&uncertain);
            let result = if happened {
                Ok(uncertain.receipt)
            } else {
                Err(WishError::Store(uncertain.class))
            };
            let id = uncertain.id;
            self.outputs.push_back(Output::Done { id, result });
        }
    }

    /// Whether the row has left the log in a fold since, or was given another stamp there.
    fn was_folded(&self, uncertain: &Uncertain) -> bool {
        let number = uncertain.receipt.number;
        let (Ok(Entry::Commit(row)), true) =
            (decode_entry(&uncertain.bytes), number <= self.replica.folded())
        else {
            return false;
        };
        match self.replica.overlay().get(number) {
            Some(outbox) => {
                let intents = |row: &crate::replica::Row| -> Vec<_> {
                    let writes = row.writes.iter();
                    writes.map(|write| (write.key.clone(), write.intents.clone())).collect()
                };
                intents(&outbox.row) == intents(&row)
            }
            None => row.writes.iter().all(|write| {
                let record = self.replica.base().record(&write.key);
                record.is_ok_and(|record| record.seen.covers(&row.stamp))
            }),
        }
    }

    /// The log cannot be read either.
    pub(super) fn fail_uncertain(&mut self) {
        for uncertain in core::mem::take(&mut self.pipeline.uncertain) {
            let (id, result) = (uncertain.id, Err(WishError::Store(uncertain.class)));
            self.outputs.push_back(Output::Done { id, result });
        }
    }
}
