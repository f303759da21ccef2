//! Bugs that a page plants in the build for tests, to see that the scenarios in browsers find them. Without the feature
//! `test-util` nothing can be planted.

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// No new log is begun before the first write.
    NoNewLog,
    /// The database is not let go of when a later build wants it.
    HoldsOn,
    /// A later format is taken for the own one.
    LaterIsOwn,
    /// A later format is refused, and deleted.
    LaterIsDeleted,
    /// Nobody is told that the engine broke.
    BreaksUntold,
}

impl Bug {
    /// Whether the page says so: its global `rejoinBug` is the name of this one.
    #[cfg(feature = "test-util")]
    pub(crate) fn is_planted(self) -> bool {
        let planted = crate::page::global(&["rejoinBug"]).and_then(|name| name.as_string());
        planted.is_some_and(|name| name == format!("{self:?}"))
    }

    #[cfg(not(feature = "test-util"))]
    #[expect(clippy::unused_self, reason = "the same call in both builds")]
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}
