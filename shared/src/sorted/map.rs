//! Keys with values.

use super::{Entry, IntoIter, Iter, IterMut, RUN_MAX, Vacant};
use alloc::{vec, vec::Vec};
use core::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::{Bound, RangeBounds},
    slice,
};

/// A map in the order of its keys.
#[derive(Clone)]
pub struct SortedMap<K, V> {
    runs: Runs<K, V>,
    len: usize,
}

/// Entries in order. Of several runs none is empty.
#[derive(Clone)]
enum Runs<K, V> {
    One(Vec<(K, V)>),
    Many(Vec<Vec<(K, V)>>),
}

/// A place between entries, or that of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    run: usize,
    index: usize,
}

impl<K, V> SortedMap<K, V> {
    /// Without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Runs::One(Vec::new()), len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// In order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&[], self.runs(), &[])
    }

    /// In order.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut::new(self.runs_mut())
    }

    /// In order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// In the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// In the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// In the order of their keys.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// In order.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> {
        self.into_iter().map(|(key, _)| key)
    }

    /// The least key.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.runs().first()?.first().map(|(key, value)| (key, value))
    }

    /// The greatest key.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.runs().last()?.last().map(|(key, value)| (key, value))
    }

    /// Removes the least key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.remove_at(At { run: 0, index: 0 })
    }

    /// Removes the greatest key.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let runs = self.runs();
        let (run, last) = (runs.len().checked_sub(1)?, runs.last()?);
        self.remove_at(At { run, index: last.len().checked_sub(1)? })
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for run in self.runs_mut() {
            run.retain_mut(|(key, value)| keep(key, value));
        }
        self.tidy();
    }

    fn runs(&self) -> &[Vec<(K, V)>] {
        match &self.runs {
            Runs::One(run) => slice::from_ref(run),
            Runs::Many(runs) => runs,
        }
    }

    fn runs_mut(&mut self) -> &mut [Vec<(K, V)>] {
        match &mut self.runs {
            Runs::One(run) => slice::from_mut(run),
            Runs::Many(runs) => runs,
        }
    }

    /// After runs became shorter, or empty.
    fn tidy(&mut self) {
        if let Runs::Many(runs) = &mut self.runs {
            runs.retain(|run| !run.is_empty());
        }
        self.len = self.runs().iter().map(Vec::len).sum();
    }

    #[expect(clippy::indexing_slicing, reason = "the place of an entry was found in this map")]
    fn value_at(&mut self, At { run, index }: At) -> &mut V {
        &mut self.runs_mut()[run][index].1
    }

    fn remove_at(&mut self, At { run, index }: At) -> Option<(K, V)> {
        let entries = self.runs_mut().get_mut(run)?;
        if index >= entries.len() {
            return None;
        }
        let gone = entries.remove(index);
        let left = entries.len();
        self.len -= 1;
        if let Runs::Many(runs) = &mut self.runs {
            // What is left joins what stands before it or behind it, so that few entries do not keep many runs.
            let joins = |other: &Vec<(K, V)>| left + other.len() <= RUN_MAX / 2;
            if left == 0 {
                drop(runs.remove(run));
            } else if runs.get(run + 1).is_some_and(joins) {
                join(runs, run);
            } else if let Some(before) = run.checked_sub(1)
                && runs.get(before).is_some_and(joins)
            {
                join(runs, before);
            }
        }
        Some(gone)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Where the key is (`Ok`), or would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<At, At>
    where
        K: Borrow<Q>,
    {
        let runs = self.runs();
        let begins_at_or_before =
            |run: &Vec<(K, V)>| run.first().is_some_and(|(first, _)| first.borrow() <= key);
        let run = match runs {
            [_] => 0,
            _ => runs.partition_point(begins_at_or_before).saturating_sub(1),
        };
        let entries = runs.get(run).map_or(&[] as &[(K, V)], Vec::as_slice);
        match entries.binary_search_by(|(known, _)| known.borrow().cmp(key)) {
            Ok(index) => Ok(At { run, index }),
            Err(index) => Err(At { run, index }),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let At { run, index } = self.find(key).ok()?;
        self.runs().get(run)?.get(index).map(|(_, value)| value)
    }

    /// The value of a key.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        Some(self.value_at(at))
    }

    /// Whether there is such a key.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Sets the value of a key, and gives back the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.entry(key) {
            Entry::Occupied(known) => Some(core::mem::replace(known, value)),
            Entry::Vacant(place) => {
                place.insert(value);
                None
            }
        }
    }

    /// Removes a key.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// Removes a key.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.remove_at(at)
    }

    /// The place of a key.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let behind_all = self.last_key_value().is_none_or(|(last, _)| *last < key);
        let found = if behind_all { Err(self.end()) } else { self.find(&key) };
        match found {
            Ok(at) => Entry::Occupied(self.value_at(at)),
            Err(at) => Entry::Vacant(Vacant { map: self, at, key }),
        }
    }

    /// Entries within the bounds, in order; none if the first is behind the last.
    pub fn range<Q: Ord + ?Sized, B: RangeBounds<Q>>(&self, bounds: B) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let start = match bounds.start_bound() {
            Bound::Unbounded => At { run: 0, index: 0 },
            Bound::Included(key) => self.find(key).unwrap_or_else(|at| at),
            Bound::Excluded(key) => self.find(key).map_or_else(|at| at, behind),
        };
        let end = match bounds.end_bound() {
            Bound::Unbounded => self.end(),
            Bound::Included(key) => self.find(key).map_or_else(|at| at, behind),
            Bound::Excluded(key) => self.find(key).unwrap_or_else(|at| at),
        };
        let runs = self.runs();
        let part = |run: usize, from: usize, to: Option<usize>| {
            let entries = runs.get(run).map_or(&[] as &[(K, V)], Vec::as_slice);
            entries.get(from..to.unwrap_or(entries.len())).unwrap_or_default()
        };
        if start.run > end.run {
            return Iter::new(&[], &[], &[]);
        }
        if start.run == end.run {
            return Iter::new(part(start.run, start.index, Some(end.index)), &[], &[]);
        }
        let between = runs.get(start.run + 1..end.run).unwrap_or_default();
        Iter::new(part(start.run, start.index, None), between, part(end.run, 0, Some(end.index)))
    }

    /// Behind all entries.
    fn end(&self) -> At {
        let runs = self.runs();
        At { run: runs.len().saturating_sub(1), index: runs.last().map_or(0, Vec::len) }
    }

    /// Puts an entry where it belongs.
    pub(super) fn insert_at(&mut self, mut at: At, key: K, value: V) -> &mut V {
        self.len += 1;
        if self.runs().get(at.run).is_some_and(|entries| entries.len() >= RUN_MAX) {
            at = self.split(at);
        }
        match self.runs_mut().get_mut(at.run) {
            Some(entries) => entries.insert(at.index, (key, value)),
            None => {
                self.runs = Runs::One(vec![(key, value)]);
                at = At { run: 0, index: 0 };
            }
        }
        self.value_at(at)
    }

    /// Makes two runs of one that is full; where what belongs to `at` belongs afterwards.
    fn split(&mut self, at: At) -> At {
        let is_last = at.run + 1 == self.runs().len();
        let Some(entries) = self.runs_mut().get_mut(at.run) else { return at };
        // What comes in order fills its runs.
        let appended = is_last && at.index == entries.len();
        let cut = if appended { at.index } else { entries.len() / 2 };
        let behind = entries.split_off(cut);
        entries.shrink_to_fit();
        match &mut self.runs {
            Runs::One(entries) => {
                self.runs = Runs::Many(vec![core::mem::take(entries), behind]);
            }
            Runs::Many(runs) => runs.insert(at.run + 1, behind),
        }
        match at.index.checked_sub(cut) {
            Some(index) => At { run: at.run + 1, index },
            None => at,
        }
    }

    /// All entries from `key` on, which leave.
    #[must_use]
    pub fn split_off<Q: Ord + ?Sized>(&mut self, key: &Q) -> Self
    where
        K: Borrow<Q>,
    {
        let At { run, index } = self.find(key).unwrap_or_else(|at| at);
        let runs = match &mut self.runs {
            Runs::One(entries) => Runs::One(entries.split_off(index)),
            Runs::Many(runs) => {
                let mut rest = runs.split_off(run);
                if let Some(first) = rest.first_mut() {
                    let behind = first.split_off(index);
                    runs.push(core::mem::replace(first, behind));
                }
                Runs::Many(rest)
            }
        };
        let mut rest = Self { runs, len: 0 };
        rest.tidy();
        self.tidy();
        rest
    }

    /// Takes all entries of `other`, which count where both have a key.
    pub fn append(&mut self, other: &mut Self) {
        self.extend(core::mem::take(other));
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The map of these entries, or the first error.
    ///
    /// # Errors
    /// The first that comes.
    pub fn try_from_iter<E>(
        entries: impl IntoIterator<Item = Result<(K, V), E>>,
    ) -> Result<Self, E> {
        let mut map = Self::new();
        for entry in entries {
            let (key, value) = entry?;
            drop(map.insert(key, value));
        }
        Ok(map)
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

// Maps are what is in them, whichever runs it stands in.

impl<K: PartialEq, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other)
    }
}

impl<K: Eq, V: Eq> Eq for SortedMap<K, V> {}

impl<K: PartialOrd, V: PartialOrd> PartialOrd for SortedMap<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.iter().partial_cmp(other)
    }
}

impl<K: Ord, V: Ord> Ord for SortedMap<K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other)
    }
}

impl<K: Hash, V: Hash> Hash for SortedMap<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            drop(self.insert(key, value));
        }
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SortedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> IntoIter<K, V> {
        match self.runs {
            Runs::One(run) => IntoIter::new(run, Vec::new()),
            Runs::Many(runs) => IntoIter::new(Vec::new(), runs),
        }
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut SortedMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}

/// Makes one run of that one and the next.
fn join<K, V>(runs: &mut Vec<Vec<(K, V)>>, run: usize) {
    let next = runs.remove(run + 1);
    if let Some(entries) = runs.get_mut(run) {
        entries.extend(next);
    }
}

fn behind(At { run, index }: At) -> At {
    At { run, index: index + 1 }
}
