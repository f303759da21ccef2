//! Joins of cells. A later `since` wins whole; equal ones join by kind.
//!
//! Two states of different kinds never meet: a record keys its cells by field *and* kind. Should they
//! all the same, the kind with the greater code wins, which keeps the laws.

use super::Join;
use crate::record::{Cell, Counter, State};
use core::cmp::{Ordering, Reverse};

impl Join for Cell {
    fn join(&mut self, other: &Self) {
        match self.since.cmp(&other.since) {
            Ordering::Greater => {}
            Ordering::Less => self.clone_from(other),
            Ordering::Equal => self.state.join(&other.state),
        }
    }
}

impl Join for State {
    fn join(&mut self, other: &Self) {
        let theirs_to_mine = match (&mut *self, other) {
            // Equal stamps with different values are one replica used twice: the greater value wins.
            (Self::Lww { stamp, value }, Self::Lww { stamp: later, value: theirs }) => {
                (later, theirs).cmp(&(&*stamp, &*value))
            }
            // Of these the lesser value wins.
            (Self::Fww(mine), Self::Fww(theirs)) => {
                theirs.as_ref().map(Reverse).cmp(&mine.as_ref().map(Reverse))
            }
            (Self::Max(mine), Self::Max(theirs)) => theirs.cmp(mine),
            (Self::Min(mine), Self::Min(theirs)) => {
                theirs.as_ref().map(Reverse).cmp(&mine.as_ref().map(Reverse))
            }
            (Self::Counter(mine), Self::Counter(theirs)) => return mine.join(theirs),
            (Self::Set(mine), Self::Set(theirs)) => return mine.join(theirs),
            (Self::Review(mine), Self::Review(theirs)) => return mine.join(theirs),
            (Self::Later { code, bytes }, Self::Later { code: other_code, bytes: theirs }) => {
                (other_code, theirs).cmp(&(&*code, &*bytes))
            }
            (mine, theirs) => theirs.kind().code().cmp(&mine.kind().code()),
        };
        match theirs_to_mine {
            Ordering::Greater => self.clone_from(other),
            // Equal ones are the same, whichever is kept.
            Ordering::Less | Ordering::Equal => {}
        }
    }
}

impl Join for Counter {
    fn join(&mut self, other: &Self) {
        for (replica, theirs) in &other.0 {
            let mine = self.0.entry(*replica).or_default();
            mine.added = mine.added.max(theirs.added);
            mine.subtracted = mine.subtracted.max(theirs.subtracted);
        }
    }
}
