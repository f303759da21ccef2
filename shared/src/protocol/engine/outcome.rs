//! What follows a commit: it was applied, another holder was first, or the store failed.

use super::{
    Engine, Notice, Output, Receipt, WishError,
    pipeline::{FOLD_RETRY_AFTER, Op, STORE_RETRY_AFTER, Then, Want},
};
use crate::{
    io::{CommitOutcome, FaultClass, Ticket},
    replica::Entry,
    time::Now,
};

impl Engine {
    pub(super) fn committed(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<CommitOutcome, FaultClass>,
    ) {
        let Some((_, op)) = self.pipeline.under_way.take_if(|(known, _)| *known == ticket) else {
            return;
        };
        match result {
            Ok(CommitOutcome::Applied) => self.op_applied(now, op),
            Ok(CommitOutcome::Conflict) => {
                self.pipeline.tail_wanted = true;
                self.op_again(op);
            }
            Err(class) => {
                // Whether the first commit happened is asked when the store is read again, not at once.
                self.pipeline.tail_wanted |= self.pipeline.loaded;
                self.op_failed(now, op, class);
            }
        }
    }

    pub(super) fn op_applied(&mut self, now: Now, op: Op) {
        match op {
            Op::Writes(rows) => {
                let applied = self.replica.confirm();
                for (id, receipt, _) in rows {
                    self.outputs.push_back(Output::Done { id, result: Ok(receipt) });
                }
                self.announce(now, applied);
                self.notice(Notice::LogGrew);
            }
            Op::Entries(entries, session) => {
                let mut entries = entries.into_iter();
                while let Some((entry, then)) = entries.next() {
                    self.pipeline.narrowed |= matches!(entry, Entry::Subscribed { only: true, .. });
                    match self.replica.apply(entry) {
                        Ok(applied) => self.announce(now, applied),
                        Err(_) => {
                            let class = FaultClass::Corrupt;
                            for (_, then) in core::iter::once((None, then))
                                .chain(entries.map(|(entry, then)| (Some(entry), then)))
                            {
                                if let Some((id, _)) = then.wish() {
                                    self.refuse(id, WishError::Unknown(class));
                                }
                            }
                            self.store_failed(class);
                            return;
                        }
                    }
                    if session == self.pipeline.session || then.is_for_app() {
                        self.then(now, then);
                    }
                }
                self.notice(Notice::LogGrew);
            }
            Op::Claim(token) => {
                self.pipeline.token = Some(token);
                self.pipeline.narrowed = false;
                self.pipeline.leader = Some(token.to_vec());
                self.pipeline.reload_wanted |= !self.replica.knows_pages();
                // What the last one wrote may not have been heard of.
                self.pipeline.tail_wanted = true;
                self.plan_scrub(now);
                self.notice(Notice::Leading);
            }
            Op::Fold(fold) => {
                self.pipeline.folded = Some(fold.folded.clone());
                self.replica.folded_to(*fold);
            }
            // Read back at once: `loaded` is still to come.
            Op::Found => self.pipeline.founded = true,
            Op::Load | Op::Tail | Op::Scrub(_) | Op::Scrubbed => {}
        }
    }

    /// Another holder was first: the same again, on top of what it wrote.
    pub(super) fn op_again(&mut self, op: Op) {
        match op {
            Op::Writes(rows) => {
                self.replica.undo();
                for (id, receipt, changes) in rows.into_iter().rev() {
                    let relaxed = receipt.relaxed;
                    self.pipeline.queue.push_front(Want::Write { id, changes, relaxed });
                }
            }
            Op::Entries(entries, session) => {
                let current = session == self.pipeline.session;
                for (entry, then) in entries.into_iter().rev() {
                    if !current && !then.is_for_app() {
                        continue;
                    }
                    let Some(want) = self.again(entry, then) else { continue };
                    self.pipeline.queue.push_front(want);
                }
            }
            Op::Claim(token) => self.pipeline.queue.push_front(Want::Claim { token }),
            Op::Found => self.pipeline.founded = true,
            Op::Fold(_) | Op::Load | Op::Tail | Op::Scrub(_) | Op::Scrubbed => {}
        }
    }

    /// What was made from the state it found must be made again.
    fn again(&mut self, entry: Entry, then: Then) -> Option<Want> {
        Some(match entry {
            Entry::Restamped { skew_ms, .. } => {
                let from = self.replica.waiting().next().unwrap_or(0);
                Want::Restamp { from, skew_ms }
            }
            Entry::Reborn { replica, accepted, unsure, .. } => {
                Want::Reborn { replica, accepted, unsure }
            }
            // The row comes again with what it is dropped for; space and subscriptions, when
            // they are still lacking.
            Entry::Commit(_) | Entry::Bound(_) | Entry::Subscribed { .. } => return None,
            Entry::Dropped(number) => {
                let Then::Grant { id, number: granted } = then else {
                    return None;
                };
                match self.pipeline.edits.remove(&id) {
                    Some(changes) => Want::Edit { id, number, changes },
                    None => Want::Drop { id, number, retry: granted > 0 },
                }
            }
            entry @ (Entry::Feed(_)
            | Entry::Staged(_)
            | Entry::Opened(_)
            | Entry::HealBegun { .. }
            | Entry::Healed { .. }
            | Entry::Settled(_)
            | Entry::Session(_)
            | Entry::Stated { .. }
            | Entry::Welcomed(_)
            | Entry::Denied) => Want::Entry { entry, then },
            Entry::Adopted(principal) => {
                let Then::Adopt { id, discard } = then else { return None };
                self.other_account = Some(principal);
                Want::Adopt { id, discard }
            }
        })
    }

    pub(super) fn op_failed(&mut self, now: Now, op: Op, class: FaultClass) {
        match op {
            Op::Writes(rows) => {
                for (id, receipt, _) in rows {
                    self.row_is_uncertain(id, receipt, class);
                }
                self.replica.undo();
            }
            Op::Entries(entries, _) => {
                for ((entry, then), at) in entries.into_iter().zip(self.replica.last() + 1..) {
                    if let Some((id, number)) = then.wish() {
                        self.pipeline.edits.remove(&id);
                        let receipt = Receipt { number, stamp: None, relaxed: false };
                        self.be_uncertain(id, receipt, class, at, &entry);
                    }
                    if matches!(entry, Entry::Bound(_) | Entry::Subscribed { .. }) {
                        let at = now.mono + STORE_RETRY_AFTER;
                        self.pipeline.subscribe_after = Some(at);
                        self.pipeline.retry_at = Some(at);
                    }
                }
                self.drop_session();
                self.notice(Notice::Unreadable(class));
            }
            Op::Claim(_) => self.notice(Notice::Deposed),
            Op::Found => {
                if class == FaultClass::Transient {
                    self.pipeline.retry_at = Some(now.mono + STORE_RETRY_AFTER);
                }
                self.store_failed(class);
            }
            Op::Fold(_) => {
                self.pipeline.fold_after = Some(now.mono + FOLD_RETRY_AFTER);
                self.notice(Notice::Unreadable(class));
            }
            Op::Load | Op::Tail | Op::Scrub(_) | Op::Scrubbed => {}
        }
    }
}
