//! Makes a run that fails small, while it fails in the same way: fewer faults and devices, fewer and quieter
//! decisions. (After Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input", 2002,
//! <https://doi.org/10.1109/32.988498>; as there, what is left is small, not smallest.)

use super::{
    plan::Plan,
    runs::{Failure, attempt, tell},
    script::Script,
    tape::{STREAMS, Streams, Tape},
};
use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

/// Words that tell one kind of objection from another.
const KIND_WORDS: usize = 5;
/// Traits that say how large a world is: each is made smaller as long as it fails.
const SIZES: [&str; 6] = ["devices", "tabs", "writes", "records", "pairs", "batch_records"];

impl Failure {
    /// What was objected to, without the numbers and names of one world: its first plain words.
    #[must_use]
    pub fn kind(&self) -> String {
        kind(&self.what)
    }

    /// A small run that fails in the same way. Tries until worlds of `events` in all have run, or until nothing
    /// more can be left out.
    #[must_use]
    pub fn shrink(self, events: u64) -> Self {
        let Script { plan, tape } = *self.script.clone();
        let mut search = Search { kind: self.kind(), plan, tape, events };
        // What runs another way from its tape cannot be shrunk.
        if !search.fails(search.plan.clone(), &search.tape.clone()) {
            return self;
        }
        while search.pass() {}
        let Search { plan, tape, .. } = search;
        let script = Box::new(Script { plan, tape });
        let (story, ran) = tell(&script);
        let what = ran.err().unwrap_or(self.what);
        Self { seed: 0, what, script, story }
    }
}

pub(super) fn kind(what: &str) -> String {
    let is_plain = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase());
    let words = what.split(' ').map(|word| word.trim_matches([':', ',', ';'])).filter(is_plain);
    let words: Vec<&str> = words.take(KIND_WORDS).collect();
    words.join(" ")
}

/// The smallest run so far.
struct Search {
    kind: String,
    plan: Plan,
    tape: Tape,
    /// What may still be spent.
    events: u64,
}

impl Search {
    /// Everything once, large pieces first; whether something could be left out.
    fn pass(&mut self) -> bool {
        let before = (self.plan.clone(), self.tape.clone());
        for pieces in (0..u32::BITS).map(|power| 1_usize << power) {
            let known = self.tape.clone();
            self.calm_plan();
            self.lessen();
            let mut finest = true;
            for stream in 0..STREAMS.len() {
                let size = self.len(stream).div_ceil(pieces);
                self.sweep(stream, size, Vec::clear);
                self.sweep(stream, size, |bytes| bytes.fill(0));
                finest &= size <= 1;
            }
            if finest && known == self.tape || self.events == 0 {
                break;
            }
        }
        self.events > 0 && (&self.plan, &self.tape) != (&before.0, &before.1)
    }

    /// Whether a run fails in the same way: then it is the smallest.
    fn fails(&mut self, plan: Plan, tape: &Tape) -> bool {
        if self.events == 0 {
            return false;
        }
        let (ran, events, mut read) = attempt(0, plan.clone(), Streams::of_tape(tape.clone()));
        self.events = self.events.saturating_sub(events.max(1));
        let same = ran.err().is_some_and(|what| kind(&what) == self.kind);
        if same {
            // What was not read does not count, nor what stands for the end.
            for (read, given) in read.streams.iter_mut().zip(&tape.streams) {
                read.truncate(given.len());
            }
            read.trim();
            (self.plan, self.tape) = (plan, read);
        }
        same
    }

    /// Quiet traits instead of others: many at a time, then fewer.
    fn calm_plan(&mut self) {
        let quiet = Plan::quiet().traits();
        let mut size = quiet.len();
        while size > 0 {
            for traits in quiet.chunks(size) {
                let mut plan = self.plan.clone();
                let set = traits.iter().all(|(name, value)| plan.set(name, value));
                if set && plan != self.plan {
                    self.fails(plan, &self.tape.clone());
                }
            }
            size /= 2;
        }
    }

    /// A smaller world.
    fn lessen(&mut self) {
        for size in SIZES {
            loop {
                let traits = self.plan.traits();
                let known = traits.iter().find(|(name, _)| *name == size);
                let value: u64 = known.and_then(|(_, text)| text.parse().ok()).unwrap_or(1);
                let mut smaller = [value / 2, value.saturating_sub(1)].into_iter();
                let found = smaller.any(|smaller| {
                    let mut plan = self.plan.clone();
                    smaller > 0
                        && plan.set(size, &smaller.to_string())
                        && self.fails(plan, &self.tape.clone())
                });
                if !found {
                    break;
                }
            }
        }
    }

    fn len(&self, stream: usize) -> usize {
        self.tape.streams.get(stream).map_or(0, Vec::len)
    }

    /// Changes pieces of a stream, from its end on.
    fn sweep(&mut self, stream: usize, size: usize, change: impl Fn(&mut Vec<u8>)) {
        let mut end = self.len(stream);
        while end > 0 && self.events > 0 {
            let start = end.saturating_sub(size);
            let mut tape = self.tape.clone();
            if let Some(bytes) = tape.streams.get_mut(stream) {
                let behind = bytes.split_off(end.min(bytes.len()));
                let mut piece = bytes.split_off(start.min(bytes.len()));
                change(&mut piece);
                bytes.append(&mut piece);
                bytes.extend(behind);
            }
            if tape != self.tape {
                self.fails(self.plan.clone(), &tape);
            }
            end = start.min(self.len(stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_has_no_numbers_and_no_names() {
        assert_eq!(
            kind("device 0 tab 1: the counter shows 5, its notes say 4: Ok(Record)"),
            "device tab the counter shows"
        );
        assert_eq!(kind("mixed/r1 should live: true; it is None"), "should live true it is");
        assert_eq!(kind("stuck: seed 7 at 12"), "stuck seed at");
        assert_eq!(kind("device 3 lost the write 12:4"), "device lost the write");
    }
}
