//! Bugs that tests plant, to see that an oracle finds them: each is the simpler rule that a
//! counterexample broke. Without the `test-util` feature nothing can be planted.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// None at all: the oracles object all the same, to see that an objection is reported.
    Found,
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
    /// Of what a batch offers to one field several times the last counts, be it less than another one.
    LastOfferWins,
    /// A put or erase resets no cell.
    NoSince,
    /// A row is acknowledged before its commit.
    AckBeforeCommit,
    /// Copies of a replica are not told apart.
    IncarnationIgnored,
    /// The limit of a record holds for what is pushed, not for what it is joined to.
    JoinedLimitIgnored,
    /// A row that was once acknowledged counts as sent whatever the peer has lost since.
    SettledForGood,
    /// Another account's welcome is taken for the own one.
    AccountIgnored,
    /// Rights are not looked at.
    RightsIgnored,
    /// A stamp that is ahead is refused for good.
    AheadRejected,
    /// Commits are not guarded by the place in the log that they take.
    LogGuardIgnored,
    /// Commits are not guarded by what was folded.
    FoldedIgnored,
    /// A fold takes rows of the outbox out of the log.
    FoldTakesOutbox,
    /// What a walk brought is visible at its end, not at the cut that reaches all of it.
    VisibleAtWalkEnd,
    /// What a snapshot has staged is kept although its history is not the peer's.
    StagedKept,
    /// A cursor of any epoch is good up to the head.
    EpochIgnored,
    /// A cursor of an earlier epoch is good wherever that epoch was left.
    LeftIgnored,
    /// Changes are taken in wherever they begin.
    AfterIgnored,
    /// Every page of changes ends in a cut.
    CutOnEveryPage,
    /// A page's entries carry what changed since the page before, not since the last cut.
    DeltaBehindPlace,
    /// The greatest stamp that the peer has accepted is not looked at.
    AcceptedStampIgnored,
    /// The peer forgets which rows it has accepted.
    AcceptedForgotten,
    /// Rows are sent before a broken history is healed.
    PushBeforeHeal,
    /// A base is said to be of the present epoch when a heal has brought everything, before any of it is
    /// visible: a session that ends then leaves a lost history that counts as good.
    HealedTooSoon,
    /// A holder that reads its store anew says nothing of records that are not there any more.
    GoneUntold,
    /// A snapshot that had brought everything goes on as one that had not: its first chunk counts as its end,
    /// and it resumes where its feed is not any more, for ever.
    CompleteGoesOn,
    /// What the peer has lost is not brought back to it.
    RefillSkipped,
    /// A replica that a peer with an old history takes for a fork takes itself for one.
    PastForgotten,
    /// A row whose effect was brought back is judged as any other.
    ReturnedIgnored,
    /// A row that counts as its copy goes when that is told, not when the base has the copy.
    CopyGoesAtAck,
    /// The peer does not ask whether another copy of a row was accepted.
    OriginsIgnored,
    /// The peer does not store origins with the rows that it accepts.
    OriginsUnstored,
    /// A row that counts as its copy holds back no row behind it.
    RowsBehindCopyGoOn,
    /// Nobody is told of copies that are accepted meanwhile, or were.
    CopiesUntold,
    /// Messages go in one piece whatever their size, and an acknowledgement is overdue after the same time for
    /// any: a line that is slow is given up before anything large is through.
    DeadlinesFixed,
    /// What the peer has once accepted counts as accepted though its record is lost.
    LedgerBelieved,
    /// A record that is damaged goes, and the epoch stays.
    QuarantinedSilently,
    /// A write now and then leaves the tree as it was.
    LeafSkipped,
    /// The tree of a base lacks the first record of what becomes visible.
    BaseLeafSkipped,
    /// The scrub reads no rows that name others.
    ScrubSkipsTree,
    /// Roots are compared at whatever position the base is.
    RootsComparedAnywhere,
    /// Roots are compared under whatever horizon they were stated.
    HorizonOfRootsIgnored,
    /// A base that is older than the horizon goes on as any other.
    HorizonIgnored,
    /// What a base older than the horizon holds stays where a snapshot does not have it.
    BaseKeptAtRebase,
    /// What a base older than the horizon holds counts as lost by the peer.
    StaleIsEvidence,
    /// The horizon follows the clock, wherever that jumps.
    HorizonByClock,
    /// Rows that may have been accepted before the horizon are judged as any other.
    UnsureIgnored,
    /// An update of a record that is gone makes it anew.
    GoneComesBack,
    /// A write is reported durable though its commit has failed.
    FailedIsDone,
    /// A session that has been silent for long goes on.
    SilenceIgnored,
    /// A stamp is taken however far it is ahead.
    AheadAccepted,
    /// The server's commits are not synced.
    SyncSkipped,
    /// Frames are taken as they come, whatever their checks say.
    ChecksIgnored,
    /// What a torn row lacks is brought back though it may have been removed and forgotten.
    TornComesBack,
    /// What was sent and not yet answered when the token ran out counts as accepted.
    ExpiryAccepts,
    /// A row is refused because the peer has more for it than its feed brings, though a heal may bring that.
    StaleRefused,
    /// A store that comes up empty goes on under the id that it had: what holds nothing counts as no fork.
    EmptyKeepsId,
    /// Roots are told of every collection, whatever the subscription covers.
    RootsOfAll,
    /// A group of removals is acknowledged before it is synced.
    RemovalsUnsynced,
    /// A boot collects whatever is dead, as nobody is connected who could need it.
    BootCollects,
    /// The answer to a request is not kept with its effect.
    AnswersForgotten,
    /// What a request expects of a record is not looked at.
    ExpectedIgnored,
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
