//! What failed in the projects before this one and must hold here: one test or more for each promise
//! of `docs/ACCEPTANCE.md` that is shown by engines and a host in one process.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests and what they share end the test when anything but the expected comes"
)]

mod converging;
mod delivery;
mod laws;
mod refusals;
mod starting;
mod world;
