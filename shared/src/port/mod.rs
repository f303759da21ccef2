//! The ports: four small async traits between machines and the world.
//!
//! Platforms implement them; drivers are generic over them. Nothing here spawns, and no executor is
//! assumed. On every target but wasm32 the futures are `Send`.

use crate::{
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query},
    time::{MonoMillis, Now},
};
use alloc::vec::Vec;
use core::{future::Future, num::NonZeroU32};

#[cfg(not(target_arch = "wasm32"))]
mod bounds {
    /// `Send` on every target but wasm32, where JavaScript values cannot leave their thread.
    pub trait MaybeSend: Send {}
    impl<T: Send + ?Sized> MaybeSend for T {}
    /// `Sync` on every target but wasm32, where JavaScript values cannot leave their thread.
    pub trait MaybeSync: Sync {}
    impl<T: Sync + ?Sized> MaybeSync for T {}
}
#[cfg(target_arch = "wasm32")]
mod bounds {
    /// `Send` on every target but wasm32, where JavaScript values cannot leave their thread.
    pub trait MaybeSend {}
    impl<T: ?Sized> MaybeSend for T {}
    /// `Sync` on every target but wasm32, where JavaScript values cannot leave their thread.
    pub trait MaybeSync {}
    impl<T: ?Sized> MaybeSync for T {}
}
pub use bounds::{MaybeSend, MaybeSync};

pub use crate::io::FaultClass;

/// An error of a port.
pub trait Fault: core::error::Error + MaybeSend + MaybeSync + 'static {
    /// What can be done about it.
    fn class(&self) -> FaultClass;
}

/// An ordered byte map with atomic guarded batches; one handle serves one space.
///
/// Contract: [`crate::testing::contract::store`] (feature `test-util`); every implementation runs it.
pub trait Store: MaybeSend + MaybeSync {
    /// Faults of this store.
    type Error: Fault;

    /// Absent is `Ok(None)`.
    ///
    /// # Errors
    /// The store's own fault; nothing was read.
    fn get(
        &self,
        keyspace: Keyspace,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + MaybeSend;

    /// Up to `limit` rows of `range`, ascending by unsigned bytes, from one snapshot.
    ///
    /// # Errors
    /// The store's own fault; nothing was read.
    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> impl Future<Output = Result<Page, Self::Error>> + MaybeSend;

    /// Answers all `queries`, in order, from one snapshot.
    ///
    /// # Errors
    /// The store's own fault; nothing was read.
    fn read(
        &self,
        queries: &[Query],
    ) -> impl Future<Output = Result<Vec<Answer>, Self::Error>> + MaybeSend;

    /// Checks every guard and applies every write in one transaction. When it resolves to `Applied`
    /// the writes survive a power loss, unless the batch is `relaxed`.
    ///
    /// # Errors
    /// The store's own fault. On an error or on `Conflict` nothing was written.
    fn commit(
        &self,
        batch: Batch,
    ) -> impl Future<Output = Result<CommitOutcome, Self::Error>> + MaybeSend;
}

/// One whole message of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

/// Sends frames.
pub trait FrameSink: MaybeSend {
    /// Faults of this sink; after any error the sink is dead.
    type Error: Fault;

    /// Resolves once the socket has taken the frame (back-pressure), not once the peer has it.
    ///
    /// # Errors
    /// The sink is dead; whether the peer got the frame is unknown.
    fn send(&mut self, frame: Frame) -> impl Future<Output = Result<(), Self::Error>> + MaybeSend;

    /// Closes in order.
    ///
    /// # Errors
    /// The sink was dead already.
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + MaybeSend;
}

/// Receives frames.
pub trait FrameStream: MaybeSend {
    /// Faults of this stream; after any error the stream is dead.
    type Error: Fault;

    /// Next whole frame, `None` after an orderly close. Cancel safe: a dropped call loses no frame.
    ///
    /// # Errors
    /// The stream is dead.
    fn recv(&mut self) -> impl Future<Output = Result<Option<Frame>, Self::Error>> + MaybeSend;
}

/// Opens connections. A server has none: its listener hands it both halves.
pub trait Dialer: MaybeSend + MaybeSync {
    /// Sending half.
    type Sink: FrameSink;
    /// Receiving half.
    type Stream: FrameStream;
    /// Faults of dialling.
    type Error: Fault;

    /// One attempt; backoff belongs to the supervisor.
    ///
    /// # Errors
    /// The attempt failed.
    fn dial(
        &self,
    ) -> impl Future<Output = Result<(Self::Sink, Self::Stream), Self::Error>> + MaybeSend;
}

/// Reads time and waits for it.
pub trait Clock: MaybeSend + MaybeSync {
    /// Both clocks, now.
    fn now(&self) -> Now;

    /// Resolves at or after `deadline`. Cancel safe.
    fn sleep_until(&self, deadline: MonoMillis) -> impl Future<Output = ()> + MaybeSend;
}

/// Source of good randomness.
pub trait Entropy: MaybeSend {
    /// Fills `out`.
    fn fill(&mut self, out: &mut [u8]);
}
