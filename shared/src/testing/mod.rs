//! Worlds for tests: stores that forget or fail on demand, and the suites that every implementation
//! of a port passes.
//!
//! Behind the feature `test-util`, which also lends `std`. Nothing here sleeps or spawns.

pub mod contract;
mod executor;
pub mod fault;
pub mod generators;
pub mod history;
pub mod memory;
pub mod messages;
pub mod rng;
pub mod sim;
pub mod twin;

pub use executor::{block_on, join, yield_now};
