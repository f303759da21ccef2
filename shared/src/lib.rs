//! The engine of Rejoin, without IO: records and their merging, the tree that finds differences, the
//! sync protocol as values, and the ports through which platforms lend it storage, sockets and time.
//!
//! Layers, lowest first, each naming only those before it: `sorted`, `id`, `time`, `planted`, `hlc`, `record`, `crdt`,
//! `codec`, `tree`, `io`, `message`, `replica`, `protocol`, `port`, `driver`, and `testing` behind a feature.
//! Absent by construction (`no_std`): clocks, sockets, files, threads, randomness, hash maps.

#![no_std]

extern crate alloc;
#[cfg(feature = "test-util")]
extern crate std;

pub mod codec;
pub mod crdt;
pub mod driver;
pub mod hlc;
pub mod id;
pub mod io;
pub mod message;
pub mod planted;
pub mod port;
pub mod protocol;
pub mod record;
pub mod replica;
pub mod sorted;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod time;
pub mod tree;
