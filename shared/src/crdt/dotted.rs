//! Joins of the kinds with a causal context: sets and reviewed values.
//!
//! Bieniusa, Zawirski, Preguiça, Shapiro, Baquero, Balegas, Duarte: "An Optimized Conflict-free
//! Replicated Set", 2012 (<https://arxiv.org/abs/1210.3368>). A dot survives when both sides hold it, or
//! when the side that lacks it has not seen it. A stamp serves as the dot; one replica's dots reach every
//! state in order, which is what lets a version vector stand for the set of all dots seen.

use super::Join;
use crate::{
    record::{AddWinsSet, Siblings, VersionVector},
    sorted::SortedMap,
};

impl Join for AddWinsSet {
    fn join(&mut self, other: &Self) {
        let mut elements = SortedMap::new();
        for element in self.elements.keys().chain(other.elements.keys()) {
            if elements.contains_key(element) {
                continue;
            }
            let absent = VersionVector::new();
            let mine = self.elements.get(element).unwrap_or(&absent);
            let theirs = other.elements.get(element).unwrap_or(&absent);
            let dots = surviving(mine, theirs, &other.context, &self.context);
            if !dots.is_empty() {
                elements.insert(element.clone(), dots);
            }
        }
        self.elements = elements;
        self.context.join(&other.context);
    }
}

/// Of one element: dots that both hold, and those that the side without them has not seen.
fn surviving(
    mine: &VersionVector,
    theirs: &VersionVector,
    their_context: &VersionVector,
    my_context: &VersionVector,
) -> VersionVector {
    let kept = mine
        .iter()
        .filter(|dot| theirs.get(&dot.replica) == Some(dot.hlc) || !their_context.covers(dot));
    let gained = theirs.iter().filter(|dot| !my_context.covers(dot));
    kept.chain(gained).map(|dot| (dot.replica, dot.hlc)).collect()
}

impl Join for Siblings {
    fn join(&mut self, other: &Self) {
        let mut values = SortedMap::new();
        for (dot, value) in &self.values {
            match other.values.get(dot) {
                // One replica used twice: the greater value wins.
                Some(theirs) => values.insert(*dot, value.max(theirs).clone()),
                None if !other.context.covers(dot) => values.insert(*dot, value.clone()),
                None => None,
            };
        }
        for (dot, value) in &other.values {
            if !self.context.covers(dot) {
                values.insert(*dot, value.clone());
            }
        }
        self.values = values;
        self.context.join(&other.context);
    }
}
