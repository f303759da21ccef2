//! The only reader of clocks.

use rejoin_core::time::{MonoMillis, Now, WallMillis};
use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Both clocks. Monotonic time counts from the first call.
pub(crate) fn read() -> Now {
    Now { wall: wall(SystemTime::now()), mono: MonoMillis(millis(START.elapsed())) }
}

/// A clock set before 1970 counts as 1970; what is behind is never refused.
pub(crate) fn wall(time: SystemTime) -> WallMillis {
    WallMillis(millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
}

/// What a clock of a limiter shows.
pub(crate) type Reading<C> = <C as governor::clock::Clock>::Instant;

/// The monotonic clock, for what takes less than a millisecond.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The time, as in `2026-11-23T07:00:00.123456Z`.
pub(crate) fn rfc3339() -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut text)).ok();
    text
}

/// How long until `deadline`; nothing if it has passed.
pub(crate) fn until(deadline: MonoMillis) -> Duration {
    Duration::from_millis(deadline.since(read().mono).0)
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
