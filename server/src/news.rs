//! Which spaces have something new, for those who follow all of them.
//!
//! Invariant: whoever follows hears of every space in which something was committed since he last asked, once for any
//! number of commits; nobody waits for him. Absent: what is new.

use rejoin_core::id::SpaceId;
use std::{
    collections::BTreeSet,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::sync::Notify;

/// Tells followers.
#[derive(Debug, Default)]
pub(crate) struct News {
    followers: Mutex<Vec<Weak<Unread>>>,
}

/// One who follows.
#[derive(Debug)]
pub(crate) struct Follower(Arc<Unread>);

#[derive(Debug, Default)]
struct Unread {
    spaces: Mutex<BTreeSet<SpaceId>>,
    came: Notify,
}

impl News {
    /// Something was committed.
    pub(crate) fn tell(&self, space: &SpaceId) {
        let mut followers = lock(&self.followers);
        followers.retain(|follower| follower.upgrade().is_some_and(|unread| unread.add(space)));
    }

    /// Whoever follows hears of what is committed from now on.
    pub(crate) fn follow(&self) -> Follower {
        let unread = Arc::default();
        lock(&self.followers).push(Arc::downgrade(&unread));
        Follower(unread)
    }
}

impl Unread {
    fn add(&self, space: &SpaceId) -> bool {
        lock(&self.spaces).insert(space.clone());
        self.came.notify_one();
        true
    }
}

impl Follower {
    /// Spaces with something new, if there are any.
    pub(crate) fn take(&self) -> BTreeSet<SpaceId> {
        take(&mut *lock(&self.0.spaces))
    }

    /// Spaces with something new, at least one. Cancel safe.
    pub(crate) async fn next(&self) -> BTreeSet<SpaceId> {
        loop {
            let spaces = self.take();
            if !spaces.is_empty() {
                return spaces;
            }
            self.0.came.notified().await;
        }
    }
}

/// Nothing that could panic runs under a lock of this file.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_of_each_space_once_and_who_is_gone_is_forgotten() {
        let news = News::default();
        let (first, second) = (news.follow(), news.follow());
        let (a, b) = (SpaceId::parse("a").unwrap(), SpaceId::parse("b").unwrap());
        for space in [&a, &b, &a] {
            news.tell(space);
        }
        assert_eq!(first.next().await, BTreeSet::from([a.clone(), b.clone()]));
        drop(first);
        news.tell(&b);
        assert_eq!(lock(&news.followers).len(), 1);
        assert_eq!(second.next().await, BTreeSet::from([a, b]));
    }
}
