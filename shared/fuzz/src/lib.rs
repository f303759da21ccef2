//! Targets: whatever the bytes, nothing panics, and what is promised of it holds.
//!
//! Under cargo-fuzz they are fuzzed (`cargo rel fuzz`); without it the same programs take files, or make inputs up
//! by damaging good ones. What came of a crash stays in `crashes/`, and is a test.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: whatever goes wrong here should stop it"
)]

mod decoders;
mod input;
mod machines;
mod program;
mod sessions;
mod stores;
mod texts;
mod trees;
mod worlds;

pub use program::{TARGETS, Target, without_fuzzer};
