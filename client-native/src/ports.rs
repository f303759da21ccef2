//! Time, randomness and the shared engine, as the driver wants them.

use rejoin_core::{
    driver::{Bell, EngineCell, Ring},
    port::{Clock, Entropy},
    protocol::engine::Engine,
    time::{MonoMillis, Now, WallMillis},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, time::Instant};

/// The clocks of the system; monotonic time starts when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // before 1970 it is 1970: stamps then grow by their counter alone
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            wall: WallMillis(millis(wall)),
            mono: MonoMillis(millis(self.start.elapsed())),
        }
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

/// Randomness drawn ahead: the port has no way to fail, the system has.
#[derive(Debug)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        // Opening the client has shown that the system gives randomness; a system that stops to do so later
        // leaves no id that could be trusted, so going on is worse than ending.
        #[expect(clippy::expect_used, reason = "no id can be made without randomness")]
        getrandom::fill(out).expect("the system gives randomness");
    }
}

/// 16 bytes of randomness.
pub(crate) fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// The engine, behind a lock that is never held across an await.
#[derive(Debug, Clone)]
pub(crate) struct SharedEngine(Arc<Mutex<Engine>>);

impl SharedEngine {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(Mutex::new(engine)))
    }
}

impl EngineCell for SharedEngine {
    fn with<T>(&self, with: impl FnOnce(&mut Engine) -> T) -> T {
        // The engine has no state in between that a panic could leave behind unseen: roots are compared.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Rings that wait for the driver.
#[derive(Debug)]
pub(crate) struct Rings {
    rings: mpsc::UnboundedReceiver<Ring>,
    ended: bool,
}

impl Rings {
    pub(crate) const fn new(rings: mpsc::UnboundedReceiver<Ring>) -> Self {
        Self {
            rings,
            ended: false,
        }
    }
}

impl Bell for Rings {
    async fn rung(&mut self) -> Ring {
        if self.ended {
            // The driver knows; it has something to finish.
            return std::future::pending().await;
        }
        let ring = self.rings.recv().await;
        self.ended = ring.is_none();
        // Whoever could ring is gone: so is who could want anything.
        ring.unwrap_or(Ring::Stop)
    }
}
