//! What has happened lately, without values: a ring for each class, so that many writes push out no fault.
//!
//! Invariant: the numbers of events grow by one; a ring holds the newest [`KEPT`] of its class. Whoever adds one waits
//! for nobody but for whoever copies a page. Absent: who reads them.

use crate::clock;
use rejoin_core::time::WallMillis;
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Events of a class that are kept.
const KEPT: usize = 500;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// What was accepted, who came and went, what was tidied up.
    Activity,
    /// Writes that did not know each other.
    Conflict,
    /// What was not accepted, who was not let in.
    Refusal,
    /// Something is wrong with the server.
    Fault,
}

impl Class {
    const ALL: [Self; 4] = [Self::Activity, Self::Conflict, Self::Refusal, Self::Fault];

    const fn place(self) -> usize {
        self as usize
    }
}

/// A write, by its time and by the replica that made it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Write {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) replica: String,
}

/// What has happened.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct What {
    /// Its name, for programs.
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) space: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replica: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) won: Option<Write>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<Write>,
}

/// What has happened, and when.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Event {
    pub(crate) number: u64,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) class: Class,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What has happened lately.
#[derive(Debug)]
pub(crate) struct Events {
    rings: Mutex<Rings>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Rings {
    last: u64,
    by_class: [VecDeque<Arc<Event>>; 4],
}

impl Default for Events {
    fn default() -> Self {
        Self { rings: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Events {
    pub(crate) fn add(&self, class: Class, what: What) {
        let WallMillis(at) = clock::read().wall;
        let mut rings = self.rings();
        rings.last += 1;
        let number = rings.last;
        if let Some(ring) = rings.by_class.get_mut(class.place()) {
            if ring.len() == KEPT {
                ring.pop_front();
            }
            ring.push_back(Arc::new(Event { number, at, class, what }));
        }
        drop(rings);
        self.last.send_replace(number);
    }

    /// The newest ones of a class, or of all, the last first, at most `limit`; those before a number, if one is given.
    pub(super) fn before(
        &self,
        class: Option<Class>,
        before: Option<u64>,
        limit: usize,
    ) -> Vec<Arc<Event>> {
        let rings = self.rings();
        let mut found = Vec::new();
        for wanted in Class::ALL.into_iter().filter(|known| class.is_none_or(|c| c == *known)) {
            let ring = rings.by_class.get(wanted.place()).into_iter().flatten().rev();
            let ring = ring.filter(|event| before.is_none_or(|before| event.number < before));
            found.extend(ring.take(limit).cloned());
        }
        drop(rings);
        found.sort_by_key(|event| std::cmp::Reverse(event.number));
        found.truncate(limit);
        found
    }

    /// Those behind a number, the first first. Of more than `limit` the newest, and how many were left out.
    pub(super) fn behind(&self, number: u64, limit: usize) -> (Vec<Arc<Event>>, u64) {
        let last = self.rings().last;
        // A reader who comes from before a restart has seen nothing of this one.
        let number = if number > last { 0 } else { number };
        let mut found = self.before(None, None, limit);
        found.retain(|event| event.number > number);
        found.reverse();
        let newest = found.last().map_or(number, |event| event.number);
        let left_out = newest.saturating_sub(number).saturating_sub(found.len() as u64);
        (found, left_out)
    }

    /// Moves with every event.
    pub(super) fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(events: &Events, class: Class, times: usize) {
        for _ in 0..times {
            events.add(class, What::default());
        }
    }

    fn numbers(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn many_events_of_one_class_push_out_none_of_another() {
        let events = Events::default();
        add(&events, Class::Fault, 1);
        add(&events, Class::Activity, 3 * KEPT);
        assert_eq!(numbers(&events.before(Some(Class::Fault), None, 10)), [1]);
        assert_eq!(events.before(Some(Class::Activity), None, usize::MAX).len(), KEPT);
        assert_eq!(events.before(None, None, usize::MAX).len(), KEPT + 1);
    }

    #[test]
    fn pages_follow_each_other_and_readers_hear_how_many_they_missed() {
        let events = Events::default();
        for class in [Class::Activity, Class::Conflict, Class::Refusal, Class::Activity] {
            add(&events, class, 1);
        }
        assert_eq!(numbers(&events.before(None, None, 3)), [4, 3, 2]);
        assert_eq!(numbers(&events.before(None, Some(2), 3)), [1]);
        let (found, left_out) = events.behind(1, 2);
        assert_eq!((numbers(&found), left_out), (vec![3, 4], 1));
        let (found, left_out) = events.behind(4, 2);
        assert_eq!((found.len(), left_out), (0, 0));
        let (found, _) = events.behind(9, 9);
        assert_eq!(found.len(), 4, "a number of another run");
    }
}
