//! What must have happened: else a fault, or what is to answer it, is not tested any more.

use alloc::{collections::BTreeMap, vec::Vec};

/// What happens now and then over some thousand seeds.
pub const SOMETIMES: [&str; 79] = [
    "account changed",
    "account met",
    "adopted",
    "away",
    "away for long",
    "bad line: device",
    "bad line: server",
    "came to rest",
    "changes lost",
    "causal order checked",
    "clock stepped",
    "clocks drift",
    "cloned",
    "cloned with unsent rows",
    "collected",
    "commits lost",
    "commits torn off",
    "conflict",
    "dead came back",
    "device disk full",
    "device disk sick",
    "device killed",
    "device write failed",
    "discarded",
    "erased",
    "folded",
    "folded in parts",
    "foreign",
    "frame changed",
    "frame late",
    "frame lost",
    "frame repeated",
    "frames swapped",
    "group parted",
    "heal asked for",
    "hostile bytes",
    "hostile hello",
    "hostile message",
    "large value",
    "left dead",
    "line cut",
    "line silent",
    "long walk",
    "many chunks",
    "message cut short",
    "message garbled",
    "parted: both ways",
    "parted: device deaf",
    "parted: device mute",
    "pending discarded",
    "put checked",
    "rebased",
    "reborn",
    "record full",
    "record gone",
    "record is dead",
    "record lives",
    "record rotted",
    "refilled",
    "rejected",
    "reloaded",
    "rolled back",
    "rotted",
    "server clock jumped",
    "server clock stepped",
    "server disk full",
    "server disk sick",
    "server erased",
    "server gave up",
    "server killed",
    "server rolled back",
    "server write failed",
    "sketch decoded",
    "snapshot resumed",
    "store fault",
    "tab killed",
    "unreadable",
    "unsure",
    "written",
];

/// What happened how often in many runs.
pub type Marks = BTreeMap<&'static str, u64>;

/// Those of [`SOMETIMES`] that happened least often, with how often that was: the rarest first.
#[must_use]
pub fn rarest(marks: &Marks) -> Vec<(&'static str, u64)> {
    let count = |mark: &'static str| (mark, marks.get(mark).copied().unwrap_or_default());
    let mut counts: Vec<_> = SOMETIMES.into_iter().map(count).collect();
    counts.sort_by_key(|(_, count)| *count);
    counts
}
