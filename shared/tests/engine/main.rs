//! The initiator's machine on a store in memory, against a real host or a scripted one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test: whatever goes wrong here should stop it"
)]

mod copies;
mod damage;
mod driver;
mod limits;
mod mismatch;
mod presence;
mod push;
mod refill;
mod rest;
mod scrub;
mod server_damage;
mod server_keys;
mod server_scrub;
mod session;
mod sketch;
mod snapshot;
mod store;
mod subscribe;
mod world;
