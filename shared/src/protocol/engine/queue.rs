//! What waits for the store, in order, and how much of it.
//!
//! Invariant: the counts are those of what stands in the queue. A wish is taken only within the limits;
//! what was taken once is put back without asking.

use super::{WishError, pipeline::Want};
use crate::{
    protocol::limits::{WISH_BYTES_WAITING_MAX, WISHES_WAITING_MAX},
    replica::Change,
};
use alloc::collections::VecDeque;

/// Wants, first come first served.
#[derive(Debug, Default)]
pub(super) struct Queue {
    wants: VecDeque<Want>,
    /// Of received entries.
    received_bytes: usize,
    wishes: usize,
    /// Of what the app wants to write.
    wish_bytes: usize,
}

impl Queue {
    /// Whether another wish may wait; `uncertain` ones wait elsewhere.
    ///
    /// # Errors
    /// [`WishError::Busy`].
    pub(super) fn admits(&self, want: &Want, uncertain: usize) -> Result<(), WishError> {
        let waiting = self.wishes + uncertain;
        if waiting >= WISHES_WAITING_MAX {
            return Err(WishError::Busy { waiting, max: WISHES_WAITING_MAX, unit: "writes" });
        }
        let waiting = self.wish_bytes;
        // One that is alone too large is told so by its own error.
        if waiting > 0 && waiting + wish_bytes(want).unwrap_or(0) > WISH_BYTES_WAITING_MAX {
            return Err(WishError::Busy { waiting, max: WISH_BYTES_WAITING_MAX, unit: "bytes" });
        }
        Ok(())
    }

    pub(super) const fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Want> {
        self.wants.iter()
    }

    pub(super) fn front(&self) -> Option<&Want> {
        self.wants.front()
    }

    pub(super) fn push(&mut self, want: Want) {
        self.count(&want);
        self.wants.push_back(want);
    }

    pub(super) fn push_front(&mut self, want: Want) {
        self.count(&want);
        self.wants.push_front(want);
    }

    pub(super) fn pop_front(&mut self) -> Option<Want> {
        let want = self.wants.pop_front()?;
        self.received_bytes = self.received_bytes.saturating_sub(received_bytes(&want));
        if let Some(bytes) = wish_bytes(&want) {
            self.wishes = self.wishes.saturating_sub(1);
            self.wish_bytes = self.wish_bytes.saturating_sub(bytes);
        }
        Some(want)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Want) -> bool) {
        let wants = core::mem::take(self).wants;
        wants.into_iter().filter(keep).for_each(|want| self.push(want));
    }

    pub(super) fn into_wants(self) -> VecDeque<Want> {
        self.wants
    }

    fn count(&mut self, want: &Want) {
        self.received_bytes += received_bytes(want);
        if let Some(bytes) = wish_bytes(want) {
            self.wishes += 1;
            self.wish_bytes += bytes;
        }
    }
}

fn received_bytes(want: &Want) -> usize {
    match want {
        Want::Entry { entry, .. } => entry.held_bytes(),
        Want::Write { .. }
        | Want::Drop { .. }
        | Want::Edit { .. }
        | Want::Restamp { .. }
        | Want::Reborn { .. }
        | Want::Claim { .. }
        | Want::Adopt { .. } => 0,
    }
}

/// About how much memory a wish of the app takes; `None` for what is none.
fn wish_bytes(want: &Want) -> Option<usize> {
    match want {
        Want::Write { changes, .. } | Want::Edit { changes, .. } => {
            Some(changes.iter().map(Change::bytes_about).sum())
        }
        Want::Drop { .. } | Want::Adopt { .. } => Some(0),
        Want::Entry { .. } | Want::Restamp { .. } | Want::Reborn { .. } | Want::Claim { .. } => {
            None
        }
    }
}
