//! The clocks of the system: the only place that reads them.

use rejoin_core::{
    port::Clock,
    time::{MonoMillis, Now, WallMillis},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The clocks of the system; monotonic time starts when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // before 1970 it is 1970: stamps then grow by their counter alone
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: WallMillis(millis(wall)), mono: MonoMillis(millis(self.start.elapsed())) }
    }

    async fn sleep_until(&self, deadline: MonoMillis) {
        match self.start.checked_add(Duration::from_millis(deadline.0)) {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
