//! A second place that remembers how far writes were promised: where the browser's database comes back
//! without them, cut, put back or emptied, the app is told, instead of finding them gone.
//!
//! It holds the number of the last row whose write has returned here, a millisecond ago or more, and that was not
//! sent, as long as there is one:
//! of a row that was only `saved` too, since a power cut may take it, but not without a word.
//! Whoever clears all of the site's data clears it too: then nobody is left who could tell.

use crate::page::global;
use core::cell::Cell;
use wasm_bindgen::JsCast;
use web_sys::Storage;

/// What was promised for one database.
#[derive(Debug)]
pub(crate) struct Promised {
    /// Absent where the site may keep nothing.
    place: Option<Storage>,
    key: String,
    /// Where stands that rows are gone, until the app has read it.
    lost: String,
    /// What stood there before the database was read: what another tab has promised since need not be in what was read.
    before: Option<u64>,
    /// The last row whose write has returned and that is still to be put down, or 0.
    noted: Cell<u64>,
}

impl Promised {
    /// What was promised for the database `name`, which is about to be read.
    pub(crate) fn of(name: &str) -> Self {
        let place = global(&["localStorage"]).map(JsCast::unchecked_into);
        let [key, lost] = ["promised", "lost"].map(|what| format!("rejoin/{name}/{what}"));
        let promised = Self { place, key, lost, before: None, noted: Cell::new(0) };
        Self { before: promised.number(), ..promised }
    }

    fn number(&self) -> Option<u64> {
        self.place.as_ref()?.get_item(&self.key).ok()??.parse().ok()
    }

    /// The write of a row has returned. Whether this is the first one since [`Self::put_down`] was called last: it is
    /// to be called soon.
    pub(crate) fn note(&self, row: u64) -> bool {
        let before = self.noted.replace(self.noted.get().max(row));
        before == 0 && self.place.is_some()
    }

    /// Puts down what was noted.
    pub(crate) fn put_down(&self) {
        let row = self.noted.take();
        let is_new = row > 0 && self.number().is_none_or(|at| at < row);
        if let Some(place) = self.place.as_ref().filter(|_| is_new) {
            // A second place that is full is none.
            drop(place.set_item(&self.key, &row.to_string()));
        }
    }

    /// Nothing waits to be sent in a database whose last entry is `last`.
    pub(crate) fn sent(&self, last: u64) {
        if self.noted.get() <= last {
            self.noted.set(0);
        }
        // Another tab's row that was not read here yet may wait.
        if self.number().is_some_and(|row| row <= last) {
            self.place.iter().for_each(|place| drop(place.remove_item(&self.key)));
        }
    }

    /// Whether rows were promised beyond the last entry of the database, as it was read, or were so earlier and the
    /// app has not read that yet. From now on what is there counts.
    pub(crate) fn has_lost(&self, last: u64) -> bool {
        let Some(place) = &self.place else { return false };
        if self.before.is_some_and(|row| row > last) {
            // Forgotten before it is noted, it would be told only once; another tab may have done both.
            if place.set_item(&self.lost, "true").is_ok() && self.number() == self.before {
                drop(place.remove_item(&self.key));
                self.note(last);
                self.put_down();
            }
            return true;
        }
        place.get_item(&self.lost).is_ok_and(|lost| lost.is_some())
    }

    /// The app has read it.
    pub(crate) fn loss_read(&self) {
        if let Some(place) = &self.place {
            drop(place.remove_item(&self.lost));
        }
    }

    /// Nothing was promised.
    pub(crate) fn forget(&self) {
        self.noted.set(0);
        if let Some(place) = &self.place {
            drop(place.remove_item(&self.key));
        }
        self.loss_read();
    }
}
