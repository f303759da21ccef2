//! The place of a key in a map, whether it is taken or not.

use super::map::{At, SortedMap};

/// See [`SortedMap::entry`].
#[derive(Debug)]
pub enum Entry<'a, K, V> {
    /// The value that is there.
    Occupied(&'a mut V),
    /// Nothing is there.
    Vacant(Vacant<'a, K, V>),
}

/// A place that is free.
#[derive(Debug)]
pub struct Vacant<'a, K, V> {
    pub(super) map: &'a mut SortedMap<K, V>,
    pub(super) at: At,
    pub(super) key: K,
}

impl<'a, K: Ord, V> Entry<'a, K, V> {
    /// What is there, or else `value`.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// What is there, or else what `make` makes.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'a mut V {
        match self {
            Self::Occupied(value) => value,
            Self::Vacant(place) => place.insert(make()),
        }
    }

    /// What is there, or else the default.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Changes what is there.
    #[must_use]
    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(value) = &mut self {
            change(value);
        }
        self
    }
}

impl<'a, K: Ord, V> Vacant<'a, K, V> {
    /// Puts a value there.
    pub fn insert(self, value: V) -> &'a mut V {
        let Self { map, at, key } = self;
        map.insert_at(at, key, value)
    }
}
