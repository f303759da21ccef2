//! Where a fault strikes: a leg of a life, a call in it, and what becomes of that call.

/// Calls that change what is on a disk.
const CALLS: [&str; 8] =
    ["pwrite64", "fsync", "ftruncate", "unlink", "openat", "write", "rename", "mkdir"];
/// Further calls that do so. No leg makes one: where it does, what it does belongs among the points.
const UNUSED: [&str; 23] = [
    "writev",
    "pwritev",
    "pwritev2",
    "fdatasync",
    "sync",
    "syncfs",
    "sync_file_range",
    "msync",
    "truncate",
    "fallocate",
    "open",
    "creat",
    "openat2",
    "unlinkat",
    "rmdir",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "mkdirat",
    "copy_file_range",
    "sendfile",
    "io_uring_enter",
];
/// So many of them are made by the thread that commits; other calls of it wake others up.
const OF_COMMITS: usize = 4;
/// Calls by which the one thread that serves in [`Leg::Sends`] sends.
const SENDS: [&str; 3] = ["sendto", "writev", "sendmsg"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leg {
    /// A boot where there is no directory.
    Fresh,
    /// A boot where nothing but the key was made.
    Keyed,
    /// A boot after a kill.
    Killed,
    /// A session and an orderly end.
    Session,
    /// The same, at a server that was put back to an earlier copy.
    Restored,
    /// What is sent in a session, acknowledgements and all.
    Sends,
}

pub(super) const LEGS: [Leg; 6] =
    [Leg::Fresh, Leg::Keyed, Leg::Killed, Leg::Session, Leg::Restored, Leg::Sends];

impl Leg {
    pub(super) const fn boots(self) -> bool {
        matches!(self, Self::Fresh | Self::Keyed | Self::Killed)
    }

    /// Calls that are its points.
    pub(super) fn calls(self) -> &'static [&'static str] {
        match self {
            Self::Fresh | Self::Keyed | Self::Killed => &CALLS,
            Self::Session | Self::Restored => CALLS.get(..OF_COMMITS).unwrap_or_default(),
            Self::Sends => &SENDS,
        }
    }

    /// Calls that would be points, if it made them.
    pub(super) fn others(self) -> impl Iterator<Item = &'static str> {
        let known = CALLS.iter().filter(move |call| !self.calls().contains(call));
        let stores = self != Self::Sends;
        known.chain(&UNUSED).copied().filter(move |_| stores)
    }

    /// The thread that makes them, where the server listens already.
    pub(super) const fn thread(self) -> &'static str {
        if matches!(self, Self::Sends) { "tokio-rt-worker" } else { "rejoin-write" }
    }

    pub(super) fn faults(self) -> &'static [Fault] {
        if self == Self::Sends { &[Fault::Kill, Fault::KillBehind] } else { &FAULTS }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Killed before the call is made.
    Kill,
    /// Killed when it was made, and before anything else is.
    KillBehind,
    /// An error, at this call alone.
    Once(&'static str),
    /// An error, at this call and all of its kind that follow.
    On(&'static str),
}

const FAULTS: [Fault; 5] =
    [Fault::Kill, Fault::Once("EIO"), Fault::On("EIO"), Fault::Once("ENOSPC"), Fault::On("ENOSPC")];

impl Fault {
    pub(super) fn is_full(self) -> bool {
        matches!(self, Self::Once("ENOSPC") | Self::On("ENOSPC"))
    }

    /// Whether a call can fail so.
    pub(super) fn meets(self, call: &str) -> bool {
        !(self.is_full() && matches!(call, "fsync" | "unlink"))
    }

    pub(super) fn inject(self, call: &str, at: usize) -> String {
        match self {
            Self::Kill => format!("inject={call}:signal=SIGKILL:when={at}"),
            // Its thread stands still behind it, far longer than the session has patience.
            Self::KillBehind => format!("inject={call}:delay_exit=60000000:when={at}"),
            Self::Once(error) => format!("inject={call}:error={error}:when={at}"),
            Self::On(error) => format!("inject={call}:error={error}:when={at}+"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) leg: Leg,
    pub(super) call: &'static str,
    pub(super) at: usize,
    pub(super) fault: Fault,
}
