//! Randomness and the shared engine, as the driver wants them.

use rejoin_core::{
    driver::{Bell, EngineCell, Ring},
    port::Entropy,
    protocol::engine::Engine,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// The randomness of the system.
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
        Self { rings, ended: false }
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
