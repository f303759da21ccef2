//! The initiator's machine: local writes, the log, and the session that brings both ends together.
//!
//! Every change of state is an entry of the log: it is committed first and applied then, by this holder of
//! the store and by every other one. At most one store operation is under way. Only the leader, whose
//! fencing token each of its commits checks, holds a session and folds. Absent: sockets, clocks, timers,
//! randomness (all are inputs), waiting.

mod alive;
mod feed;
mod fork;
mod heal;
mod load;
mod outcome;
mod pipeline;
mod presence;
mod push;
mod queue;
mod refill;
mod rejected;
mod scrub;
mod session;
mod snapshot;
mod torn;
mod trace;
mod uncertain;

use super::{
    limits::SUBSCRIPTIONS_MAX,
    message::{ByeCode, Conflict, Others, RejectCode},
    wire::BadLine,
};
use crate::{
    hlc::Stamp,
    id::{Digest, Incarnation, Pattern, RecordKey, ReplicaId, Seq, SpaceId},
    io::{Answer, Batch, CommitOutcome, FaultClass, Query, Ticket},
    record::Value,
    replica::{Change, Damage, LoadError, Replica, WriteError},
    sorted::{SortedMap, SortedSet},
    time::{Millis, MonoMillis, Now},
    tree::WalkLimits,
};
use alloc::{collections::VecDeque, string::String, vec::Vec};
use pipeline::Pipeline;
use presence::Present;
use session::Session;

/// What an engine is for.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Which space; `None` for a store that stays alone, until somebody opens it with one.
    pub space: Option<SpaceId>,
    /// Which of its collections.
    pub patterns: Vec<Pattern>,
    /// The id to take if the store holds none.
    pub fresh: ReplicaId,
    /// Proof of the principal.
    pub token: Option<String>,
    /// Whether every message is told as a [`Notice::Trace`].
    pub trace: bool,
    /// How much work one message of a walk may cause. Without cells no walk opens with a sketch.
    pub walk: WalkLimits,
}

/// Why an engine was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// More is subscribed to than a session can name. One pattern can stand for many collections.
    #[error("{patterns} subscriptions, at most {max} are allowed")]
    TooManyPatterns {
        /// How many, without those within others.
        patterns: usize,
        /// How many may be.
        max: usize,
    },
}

/// What happens to an engine.
#[derive(Debug)]
pub enum Input {
    /// The app asks for something; answered by [`Output::Done`] with the same `id`.
    Ask {
        /// Chosen by the caller, unique.
        id: u64,
        /// What.
        wish: Wish,
    },
    /// This holder is to lead; `token` is random and new.
    Lead {
        /// The fencing token.
        token: [u8; 16],
    },
    /// This holder is not to lead any more.
    Follow,
    /// A connection is open.
    Connected {
        /// Random and new.
        incarnation: Incarnation,
        /// Random and new: used should the replica need another id.
        fresh: ReplicaId,
        /// Random: salts the hashes of walks.
        salt: u64,
    },
    /// A frame came.
    Frame(Vec<u8>),
    /// Something came on the connection that is not the next frame that the peer sent.
    BadLine,
    /// The connection is gone.
    Disconnected,
    /// A new token.
    Token(Option<String>),
    /// A tab shows a value from now on, or nothing. It is not stored, and not taken where it is beyond a limit
    /// ([`Presence::admit`](super::message::Presence::admit), [`PRESENCE_TABS_MAX`](super::limits::PRESENCE_TABS_MAX)).
    Present {
        /// Its number, chosen by the caller.
        tab: u64,
        /// All that it shows.
        value: Option<Value>,
    },
    /// The app wants to know who else is present: until this or [`Self::Present`] nothing is asked or told.
    Attend,
    /// Another holder of the store says that it has written.
    Hint,
    /// A query was carried out.
    Answered {
        /// Which.
        ticket: Ticket,
        /// What it found.
        result: Result<Vec<Answer>, FaultClass>,
    },
    /// A commit was carried out.
    Committed {
        /// Which.
        ticket: Ticket,
        /// What became of it.
        result: Result<CommitOutcome, FaultClass>,
    },
    /// The deadline has passed.
    Deadline,
}

/// What an app can ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Commit changes as one batch.
    Write {
        /// What to change.
        changes: Vec<Change>,
        /// Whether to report before the store has flushed.
        relaxed: bool,
    },
    /// Commit a rejected row's intents again, as a new row, and forget the old one.
    Retry {
        /// Number of the row.
        number: u64,
    },
    /// Commit changes in place of a rejected row, and forget it.
    Edit {
        /// Number of the row.
        number: u64,
        /// What to change instead.
        changes: Vec<Change>,
    },
    /// Forget a rejected row.
    Discard {
        /// Number of the row.
        number: u64,
    },
    /// Take base and outbox over for the principal that the last welcome named.
    Adopt,
    /// Take the base over for the principal that the last welcome named, and forget the rows that wait.
    DiscardPending,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the row in the outbox; 0 where there is none.
    pub number: u64,
    /// Its stamp.
    pub stamp: Option<Stamp>,
    /// Whether the store was allowed to report before it had flushed.
    pub relaxed: bool,
}

/// Why a wish was not granted; nothing was changed, if it is not [`WishError::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// It asks for something that cannot be.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no rejected row of that number.
    #[error("there is no rejected write {0}")]
    NoSuchRow(u64),
    /// The store failed.
    #[error("the store failed ({0:?})")]
    Store(FaultClass),
    /// The store failed in the middle, and cannot be asked what it has: the write may or may not be
    /// durable. Read again before writing it again.
    #[error("the store failed ({0:?}); the write may or may not be durable")]
    Unknown(FaultClass),
    /// More wait for the store than may. The same wish can be granted once some of them are done.
    #[error("{waiting} {unit} wait for the store, at most {max} may")]
    Busy {
        /// Wishes, or about how many bytes.
        waiting: usize,
        /// How many may.
        max: usize,
        /// Which of the two.
        unit: &'static str,
    },
    /// There is nothing to adopt.
    #[error("no other account has been met")]
    NothingToAdopt,
}

/// What an engine wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Read.
    Query {
        /// To be returned.
        ticket: Ticket,
        /// What.
        queries: Vec<Query>,
    },
    /// Write.
    Commit {
        /// To be returned.
        ticket: Ticket,
        /// What.
        batch: Batch,
    },
    /// Send a frame.
    Send(Vec<u8>),
    /// End the connection; the last output of a session.
    Close {
        /// When to try again; `None` leaves it to the backoff.
        retry_after: Option<Millis>,
        /// Whether the session had come to live: then the backoff starts anew.
        was_live: bool,
    },
    /// A wish is done.
    Done {
        /// Of the wish.
        id: u64,
        /// What became of it.
        result: Result<Receipt, WishError>,
    },
    /// For the app.
    Notice(Notice),
}

/// What an app may want to know.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// The store was read: records can be asked for.
    Opened,
    /// The store cannot be read.
    Unreadable(FaultClass),
    /// The store was read, and cannot be taken in: nothing of it is shown, changed or sent.
    Refused(LoadError),
    /// Parts of the store are damaged; the rest is in use, and what the peer has comes anew. Told whenever the
    /// store is read.
    Damaged(Damage),
    /// What is stored was read back, and parts of it, or the trees in memory, were not what they must be. They are
    /// made anew from what is in memory.
    Mended {
        /// Rows, and trees.
        found: u64,
    },
    /// The store holds what belongs to another space: nothing of it is shown, changed or sent.
    OtherSpace {
        /// The space that it belongs to.
        held: SpaceId,
    },
    /// Records may look different.
    Changed(SortedSet<RecordKey>),
    /// The log grew by this holder's hand: tell the others.
    LogGrew,
    /// This holder leads.
    Leading,
    /// Another holder has taken the lead.
    Deposed,
    /// The status changed.
    Status,
    /// Rows are durable at the peer.
    Accepted(Vec<u64>),
    /// A row was refused for good.
    Rejected {
        /// Its number.
        number: u64,
        /// Why, for programs.
        code: RejectCode,
        /// Why, for people.
        reason: String,
    },
    /// A row is ahead of the peer's clock, which lies behind what this replica has seen, even with a new
    /// stamp: it is tried again and again, and goes once the peer's clock has caught up.
    Delayed {
        /// Its number.
        number: u64,
        /// By how much it is ahead.
        by: Millis,
    },
    /// A `lww` write lost against one that did not know it.
    Conflict {
        /// Which record.
        key: RecordKey,
        /// Which writes.
        conflict: Conflict,
    },
    /// The replica's history had forked; it goes on under a new id: whoever found it, of every holder of the store.
    Reborn {
        /// The id it had.
        old: ReplicaId,
        /// The id it has.
        new: ReplicaId,
    },
    /// Another principal than the one whose records these are was welcomed: nothing is sent until the app
    /// adopts or leaves.
    AccountChanged {
        /// Whose records these are.
        ours: String,
        /// Who was welcomed.
        theirs: String,
    },
    /// The peer ended the session, or this side did.
    Ended {
        /// Why, for programs.
        code: ByeCode,
        /// Why, for people.
        reason: String,
    },
    /// The peer had lost a part of its history, and what is held here of that was brought back to it.
    Refilled {
        /// Which subscription.
        subscription: u32,
        /// Records that the peer has again.
        returned: u64,
        /// Why it did not take others, and how many: they are not shown any more.
        refused: Vec<(RejectCode, u64)>,
    },
    /// A root differed from the peer's at the same position; it is being healed.
    Diverged {
        /// Which subscription.
        subscription: u32,
        /// Where.
        seq: Seq,
        /// The root of what is held here.
        ours: Digest,
        /// The root that the peer stated.
        theirs: Digest,
    },
    /// Others show something else, or are gone.
    Others(Others),
    /// A message, for a protocol log.
    Trace {
        /// Whether it was sent.
        sent: bool,
        /// Its name.
        name: &'static str,
        /// Its bytes, frame included.
        bytes: usize,
        /// Its content in a few words.
        text: String,
    },
}

/// How the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Link {
    /// No connection.
    #[default]
    Offline,
    /// Connected, not yet welcomed.
    Opening,
    /// Welcomed; something is still on its way.
    Syncing,
    /// Welcomed; what comes is live.
    Live,
    /// Welcomed under another account.
    Blocked,
    /// The peer refused the token: waiting for another one.
    NeedsToken,
}

/// What a backfill has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records received and stored; one that came twice counts twice. A snapshot that goes on counts what it
    /// had brought before.
    pub records: u64,
    /// How many there are in all, if known; never less than `records`.
    pub records_total: Option<u64>,
    /// Bytes of the messages that brought them in this session.
    pub bytes: u64,
}

/// What is known of the agreement with the peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// How the session stands.
    pub link: Link,
    /// Whether this holder leads.
    pub leading: bool,
    /// Rows not acknowledged.
    pub pending: usize,
    /// Rows refused and kept.
    pub rejected: usize,
    /// What has come of the present backfill: by feed, snapshot and heal.
    pub progress: Option<Progress>,
    /// Position and root last found equal, per subscription.
    pub verified: SortedMap<u32, (Seq, Digest)>,
    /// Whether every subscription's root was found equal at its present cursor.
    pub is_verified: bool,
}

/// The initiator's machine.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    replica: Replica,
    pipeline: Pipeline,
    session: Option<Session>,
    outputs: VecDeque<Output>,
    verified: SortedMap<u32, (Seq, Digest)>,
    needs_token: bool,
    other_account: Option<String>,
    /// The last hello was taken for a fork's: the next one names earlier incarnations too.
    names_past: bool,
    /// How long the answer to a ping is waited for.
    patience: alive::Patience,
    present: Present,
    /// A bug, in tests, and how often they fold.
    #[cfg(feature = "test-util")]
    planted: (crate::planted::Planted, Option<u64>),
}

impl Engine {
    /// An engine that begins by reading its store.
    ///
    /// # Errors
    /// [`ConfigError`] when the configuration is beyond a limit.
    pub fn open(config: EngineConfig) -> Result<Self, ConfigError> {
        let replica = Replica::new(config.fresh, &config.patterns);
        let patterns = replica.standings().len();
        if patterns > SUBSCRIPTIONS_MAX {
            return Err(ConfigError::TooManyPatterns { patterns, max: SUBSCRIPTIONS_MAX });
        }
        let mut engine = Self {
            config,
            replica,
            pipeline: Pipeline::default(),
            session: None,
            outputs: VecDeque::new(),
            verified: SortedMap::new(),
            needs_token: false,
            other_account: None,
            names_past: false,
            patience: alive::Patience::default(),
            present: Present::default(),
            #[cfg(feature = "test-util")]
            planted: Default::default(),
        };
        engine.advance(Now::default());
        Ok(engine)
    }

    /// Plants a bug, or none, and folds the log whenever it has so many entries.
    #[cfg(feature = "test-util")]
    pub fn plant(&mut self, planted: crate::planted::Planted, fold_entries_min: Option<u64>) {
        self.planted = (planted, fold_entries_min);
        self.replica.plant(planted, fold_entries_min);
    }

    /// Feeds one input; drain [`Self::poll`] before the next. Never fails: a peer's misconduct closes the
    /// session.
    pub fn handle(&mut self, now: Now, input: Input) {
        let before = self.status();
        match input {
            Input::Ask { id, wish } => self.ask(id, wish),
            Input::Lead { token } => self.lead(token),
            Input::Follow => self.follow(),
            Input::Connected { incarnation, fresh, salt } => {
                self.connected(now, incarnation, fresh, salt);
            }
            Input::Frame(bytes) => self.frame(now, &bytes),
            Input::BadLine if self.session.is_none() => {}
            Input::BadLine => self.end(now, ByeCode::BadLine, BadLine::REASON),
            Input::Disconnected => {
                self.session = None;
                self.pipeline.forget_session();
            }
            Input::Token(token) => self.token(now, token),
            Input::Present { tab, value } => self.present.show(tab, value),
            Input::Attend => self.present.attend(),
            Input::Hint => self.pipeline.tail_wanted = true,
            Input::Answered { ticket, result } => self.answered(now, ticket, result),
            Input::Committed { ticket, result } => self.committed(now, ticket, result),
            Input::Deadline => {}
        }
        self.keep_alive(now);
        self.pump_push(now);
        self.advance(now);
        self.say_presence(now);
        if let Some(session) = &mut self.session {
            session.look_brisk(now);
        }
        if self.status() != before {
            self.notice(Notice::Status);
        }
    }

    /// Whether a bug is planted.
    #[cfg(feature = "test-util")]
    fn has(&self, bug: crate::planted::Bug) -> bool {
        self.planted.0.is(bug)
    }

    /// Whether a bug is planted: never.
    #[cfg(not(feature = "test-util"))]
    #[expect(clippy::unused_self, reason = "the other build asks it")]
    const fn has(&self, _bug: crate::planted::Bug) -> bool {
        false
    }

    /// The next thing to be done.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Deadline`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoMillis> {
        let session = self.session.as_ref().and_then(Session::deadline);
        let others = self.pipeline.retry_at().into_iter().chain(self.scrub_due());
        session.into_iter().chain(others).chain(self.presence_due()).min()
    }

    /// The state that all holders share.
    #[must_use]
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The state that all holders share, for what is derived lazily.
    pub const fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// Whether the store was read.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.pipeline.loaded
    }

    /// Whether a connection is wanted.
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        let subscribed = self.replica.is_subscribed(&self.config.patterns);
        let bound = self.config.space.is_some() && !self.is_unbound();
        let ready = self.pipeline.leads() && subscribed && bound;
        ready && self.session.is_none() && !self.needs_token
    }

    /// Whether the session has come to live: then the next one may be dialled soon.
    #[must_use]
    pub fn was_live(&self) -> bool {
        self.session.as_ref().is_some_and(Session::was_live)
    }

    /// Whether so much waits for the store that frames should wait for it too.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.pipeline.is_congested() || self.session.as_ref().is_some_and(Session::is_congested)
    }

    /// Whether nothing is under way or waiting for the store.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pipeline.is_idle()
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let is_verified = self.replica.asked().next().is_some()
            && self.replica.asked().all(|(id, _, standing)| {
                let verified = self.verified.get(&id);
                verified.is_some_and(|(seq, _)| *seq == standing.cursor && standing.arrived)
            });
        let count = self.replica.counts();
        Status {
            link: self.link(),
            leading: self.pipeline.leads(),
            pending: count.waiting,
            rejected: count.rejected,
            progress: self.session.as_ref().and_then(|session| session.progress()),
            verified: self.verified.clone(),
            is_verified,
        }
    }

    /// How the outbox stands in the session, for people who look for a fault.
    #[must_use]
    pub fn pushing_facts(&self) -> String {
        self.session
            .as_ref()
            .map_or_else(String::new, |session| alloc::format!("{:?}", session.pushing))
    }

    fn link(&self) -> Link {
        if self.needs_token {
            return Link::NeedsToken;
        }
        match &self.session {
            None => Link::Offline,
            Some(session) => session.link(&self.replica),
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}
