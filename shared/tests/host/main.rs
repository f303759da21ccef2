//! The responder's machine, driven by scripted peers on a store in memory.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test: whatever goes wrong here should stop it"
)]

mod copies;
mod direct;
mod gather;
mod heal;
mod history;
mod horizon;
mod hostile;
mod presence;
mod push;
mod quota;
mod refill;
mod session;
mod world;
