//! Entries in order, from both ends.

use alloc::vec::{self, Vec};
use core::slice;

/// See [`super::SortedMap::iter`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    front: slice::Iter<'a, (K, V)>,
    runs: slice::Iter<'a, Vec<(K, V)>>,
    back: slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(front: &'a [(K, V)], runs: &'a [Vec<(K, V)>], back: &'a [(K, V)]) -> Self {
        Self { front: front.iter(), runs: runs.iter(), back: back.iter() }
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        let Self { front, runs, back } = self;
        Self { front: front.clone(), runs: runs.clone(), back: back.clone() }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.front.next() {
                return Some((key, value));
            }
            match self.runs.next() {
                Some(run) => self.front = run.iter(),
                None => return self.back.next().map(|(key, value)| (key, value)),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ends = self.front.len() + self.back.len();
        (ends, self.runs.as_slice().is_empty().then_some(ends))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.back.next_back() {
                return Some((key, value));
            }
            match self.runs.next_back() {
                Some(run) => self.back = run.iter(),
                None => return self.front.next_back().map(|(key, value)| (key, value)),
            }
        }
    }
}

/// See [`super::SortedMap::iter_mut`].
#[derive(Debug)]
pub struct IterMut<'a, K, V> {
    front: slice::IterMut<'a, (K, V)>,
    runs: slice::IterMut<'a, Vec<(K, V)>>,
}

impl<'a, K, V> IterMut<'a, K, V> {
    pub(super) fn new(runs: &'a mut [Vec<(K, V)>]) -> Self {
        Self { front: [].iter_mut(), runs: runs.iter_mut() }
    }
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.front.next() {
                return Some((key, value));
            }
            self.front = self.runs.next()?.iter_mut();
        }
    }
}

/// See [`super::SortedMap::into_iter`].
#[derive(Debug)]
pub struct IntoIter<K, V> {
    front: vec::IntoIter<(K, V)>,
    runs: vec::IntoIter<Vec<(K, V)>>,
    back: vec::IntoIter<(K, V)>,
}

impl<K, V> IntoIter<K, V> {
    pub(super) fn new(front: Vec<(K, V)>, runs: Vec<Vec<(K, V)>>) -> Self {
        let back = Vec::new().into_iter();
        Self { front: front.into_iter(), runs: runs.into_iter(), back }
    }
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.front.next() {
                return Some(entry);
            }
            match self.runs.next() {
                Some(run) => self.front = run.into_iter(),
                None => return self.back.next(),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ends = self.front.len() + self.back.len();
        (ends, self.runs.as_slice().is_empty().then_some(ends))
    }
}

impl<K, V> DoubleEndedIterator for IntoIter<K, V> {
    fn next_back(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.back.next_back() {
                return Some(entry);
            }
            match self.runs.next_back() {
                Some(run) => self.back = run.into_iter(),
                None => return self.front.next_back(),
            }
        }
    }
}
