//! Small maps and sets, filled one by one.
//!
//! `collect` sorts first, and a sort of its own is compiled for each kind of pair and iterator: a tenth of what a
//! browser downloads. Where a few entries are gathered insertion costs the same. What may be every record of a
//! store, and comes sorted, is collected.

use alloc::collections::{BTreeMap, BTreeSet};

/// The map of these pairs; of two with one key the later counts. O(n log n).
pub(crate) fn map<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(pairs);
    map
}

/// The set of these. O(n log n).
pub(crate) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// The map of these pairs, or the first error.
///
/// # Errors
/// The first that comes.
pub(crate) fn try_map<K: Ord, V, E>(
    pairs: impl IntoIterator<Item = Result<(K, V), E>>,
) -> Result<BTreeMap<K, V>, E> {
    let mut map = BTreeMap::new();
    for pair in pairs {
        let (key, value) = pair?;
        map.insert(key, value);
    }
    Ok(map)
}
