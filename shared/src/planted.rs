//! Bugs that tests plant, to see that an oracle finds them: each is the simpler rule that a
//! counterexample broke. Without the `test-util` feature nothing can be planted.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// A row of the outbox goes at its acknowledgement, not when the base has it.
    RowGoesAtAck,
    /// A remove covers every write with an earlier stamp, not those that the remover had seen.
    StampsDecideRemoves,
    /// A remove that is sent covers what the present base has seen.
    RemoveWidens,
    /// A row that was refused holds back no row behind it.
    RowsBehindGoOn,
    /// A local write is joined into the base.
    OverlayInBase,
    /// What has come is visible before the cut.
    CutsIgnored,
    /// A put or erase resets no cell.
    NoSince,
    /// A row is acknowledged before its commit.
    AckBeforeCommit,
    /// Copies of a replica are not told apart.
    IncarnationIgnored,
}

/// The bug that is planted, if one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Planted {
    #[cfg(feature = "test-util")]
    bug: Option<Bug>,
}

impl Planted {
    /// Plants `bug`, or none.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub const fn new(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    /// Whether `bug` is there.
    #[cfg(feature = "test-util")]
    pub(crate) fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether `bug` is there: never.
    #[cfg(not(feature = "test-util"))]
    #[expect(clippy::unused_self, reason = "the other build asks it")]
    pub(crate) const fn is(self, _bug: Bug) -> bool {
        false
    }
}
