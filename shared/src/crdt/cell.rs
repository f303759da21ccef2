//! Joins of cells. A later `since` wins whole; equal ones join by kind.
//!
//! Two states of different kinds never meet: a record keys its cells by field *and* kind. Should they
//! all the same, the kind with the greater code wins, which keeps the laws.

use super::Join;
use crate::record::{Cell, Counter, State};
use core::cmp::Ordering;

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
        match (&mut *self, other) {
            (Self::Lww { stamp, value }, Self::Lww { stamp: later, value: theirs }) => {
                // Equal stamps with different values are one replica used twice: the greater value wins.
                if (later, theirs) > (&*stamp, &*value) {
                    *stamp = *later;
                    value.clone_from(theirs);
                }
            }
            (Self::Fww(mine), Self::Fww(theirs)) => {
                let earlier = match (&*mine, theirs) {
                    (None, Some(_)) => true,
                    (Some(mine), Some(theirs)) => theirs < mine,
                    (_, None) => false,
                };
                if earlier {
                    mine.clone_from(theirs);
                }
            }
            (Self::Max(mine), Self::Max(theirs)) => {
                if theirs > mine {
                    mine.clone_from(theirs);
                }
            }
            (Self::Min(mine), Self::Min(theirs)) => {
                if theirs.is_some() && (mine.is_none() || theirs < mine) {
                    mine.clone_from(theirs);
                }
            }
            (Self::Counter(mine), Self::Counter(theirs)) => mine.join(theirs),
            (Self::Set(mine), Self::Set(theirs)) => mine.join(theirs),
            (Self::Review(mine), Self::Review(theirs)) => mine.join(theirs),
            (Self::Later { code, bytes }, Self::Later { code: other_code, bytes: theirs }) => {
                if (other_code, theirs) > (code, bytes) {
                    self.clone_from(other);
                }
            }
            (mine, theirs) => {
                if theirs.kind().code() > mine.kind().code() {
                    self.clone_from(other);
                }
            }
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
