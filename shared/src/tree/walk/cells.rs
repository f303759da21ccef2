//! Sketches in a walk: the first few cells, then, if these do not decode, as many as the difference
//! seems to need, then twice as many each time, then the walk from the root.
//!
//! A tree answers with its own cells from the first one on, since nothing is remembered: the peer lays
//! them over its own. Whoever decodes knows both halves of the difference, sends its own and asks for
//! the other. A difference that decodes as empty says nothing (the roots differ, or two prepared
//! records hide each other), so the answer is the root.

use super::{
    super::{
        sketch::{Cell, Sketch, cells_for, decode, entries_of, estimate, probes},
        trie::Trie,
    },
    Response, SketchCells, WalkBody, WalkLimits,
};
use crate::id::Digest;
use alloc::vec::Vec;

/// Cells that a walk opens with: they decode 20 symbols nine times in ten.
const CELLS_FIRST: usize = 48;

pub(super) fn open(tree: &mut Trie, hint: Option<u32>, limits: &WalkLimits) -> Option<WalkBody> {
    let cells_max = cells_max(tree, limits)?;
    // A record that both hold differently is two symbols.
    let symbols = |hint| usize::try_from(hint).unwrap_or(usize::MAX).saturating_mul(2);
    let hinted = hint.map(|hint| cells_for(symbols(hint)));
    let cells = tree.sketch().cells();
    let count = hinted.unwrap_or(CELLS_FIRST).min(cells_max);
    let first = cells.get(..count).unwrap_or(cells);
    Some(WalkBody::Cells(SketchCells { cells: first.to_vec(), probes: probes(cells) }))
}

/// Most cells of a sketch of this tree; `None` if it is to be walked.
fn cells_max(tree: &Trie, limits: &WalkLimits) -> Option<usize> {
    let cells_max = limits.cells_max.min(limits.reply_bytes_max / Cell::BYTES);
    (tree.len() >= limits.sketched_entries_min && cells_max > 0).then_some(cells_max)
}

/// The answer to a sketch; `None` if walking is better.
pub(super) fn answer(
    tree: &mut Trie,
    salt: u64,
    theirs: &SketchCells,
    limits: &WalkLimits,
) -> Option<Response> {
    let cells_max = cells_max(tree, limits)?;
    let mine = tree.sketch();
    let usable = mine.cells().len().min(cells_max);
    let mut laid: Vec<Cell> = theirs.cells.iter().take(usable).copied().collect();
    laid.iter_mut().zip(mine.cells()).for_each(|(laid, mine)| laid.toggle(*mine));
    let received = laid.len();
    match decode(laid) {
        Some(symbols) if symbols.is_empty() => {
            Some(Response::saying(salt, WalkBody::Root(tree.root())))
        }
        Some(symbols) => Some(part(tree, salt, &symbols)),
        None => {
            let count = next_count(mine, theirs, received, usable)?;
            let cells = mine.cells().get(..count)?.to_vec();
            let probes = Vec::new();
            Some(Response::saying(salt, WalkBody::Cells(SketchCells { cells, probes })))
        }
    }
}

/// Parts the symbols of a difference into what I hold and what I lack.
fn part(tree: &Trie, salt: u64, symbols: &[u64]) -> Response {
    let mut differs = Vec::new();
    let mut wanted = Vec::new();
    for symbol in symbols {
        let held = differs.len();
        differs.extend(entries_of(tree, *symbol).map(|entry| entry.key_hash));
        if differs.len() == held {
            wanted.push(*symbol);
        }
    }
    let body = if wanted.is_empty() { WalkBody::End } else { WalkBody::Wanted(wanted) };
    Response { differs, ..Response::saying(salt, body) }
}

/// How many cells to answer with when `received` were too few. Always so many more that only a few
/// answers can follow.
fn next_count(
    mine: &Sketch,
    theirs: &SketchCells,
    received: usize,
    usable: usize,
) -> Option<usize> {
    let doubled = received.saturating_mul(2).max(CELLS_FIRST);
    if theirs.probes.is_empty() {
        return (doubled <= usable).then_some(doubled);
    }
    let symbols = estimate(&probes(mine.cells()), &theirs.probes)?;
    // A third more is two standard deviations, with what `cells_for` leaves.
    let aim = cells_for(symbols.saturating_add(symbols / 3)).max(doubled);
    let least = cells_for(symbols).max(doubled);
    (least <= usable).then_some(aim.min(usable))
}

/// Finds what is wanted. An entry that changed since is found as by
/// [`NodeState::Want`](super::NodeState::Want); with more of them than I may look for the walk begins.
pub(super) fn answer_wanted(
    tree: &mut Trie,
    salt: u64,
    symbols: &[u64],
    limits: &WalkLimits,
) -> Response {
    if symbols.len() > limits.cells_max {
        return Response::saying(salt, WalkBody::Root(tree.root()));
    }
    let differs: Vec<Digest> = symbols
        .iter()
        .flat_map(|symbol| entries_of(tree, *symbol))
        .map(|entry| entry.key_hash)
        .collect();
    Response { differs, ..Response::saying(salt, WalkBody::End) }
}
