//! Pulling a snapshot: chunks asked for ahead, each checked before it counts.
//!
//! Invariant: chunks are taken in order, and at most [`CHUNKS_IN_FLIGHT_MAX`] are asked for and not in the log,
//! whatever the delay of the line or of the store. Absent: what becomes of their records.

use super::{
    Engine,
    heal::Fills,
    pipeline::{Then, Want},
};
use crate::{
    codec::decode_record,
    id::{Pattern, RecordKey},
    protocol::{
        limits::CHUNKS_IN_FLIGHT_MAX,
        message::{AskChunk, ByeCode, Chunk, ChunkFrom, ChunkRecord, Message},
    },
    replica::{Entry, Opened},
    sorted::SortedSet,
    time::Now,
};
use alloc::string::ToString;

/// Times that chunks may come damaged, without a good one between, before the rest is walked.
const CHUNK_TRIES_MAX: u32 = 3;

/// How far a snapshot is.
#[derive(Debug, Default)]
pub(super) struct Pulling {
    /// What has been taken: everything up to here.
    place: Option<RecordKey>,
    /// Whether the next ask names `place`; else it goes on behind the one before it.
    from_place: bool,
    /// Chunks asked for that have not come.
    asked: usize,
    /// Those among them that were asked for behind a damaged one: they are passed over.
    passed_over: usize,
    tries: u32,
}

impl Engine {
    /// The roots are known: asks for the first chunks, behind those that an earlier session has brought.
    pub(super) fn start_snapshot(&mut self, now: Now, subscription: u32) {
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let standing = self.replica.standings().get(at);
        let staged = standing.and_then(|(_, standing)| standing.heal.as_ref()?.upto.clone());
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(heal) = session.heals.get_mut(&subscription) else {
            return;
        };
        if staged.is_some() {
            session.received = session.received.max(self.replica.base().staged_len() as u64);
        }
        heal.snapshot = Some(Pulling { place: staged, from_place: true, ..Pulling::default() });
        self.ask_chunks(now, subscription);
    }

    /// Asks for as many chunks as may be on their way.
    pub(super) fn ask_chunks(&mut self, now: Now, subscription: u32) {
        loop {
            let session = self.session.as_mut();
            let Some(heal) = session.and_then(|session| session.heals.get_mut(&subscription))
            else {
                return;
            };
            let Some(pulling) = heal.snapshot.as_mut().filter(|_| !heal.complete) else {
                return;
            };
            let begun = pulling.from_place || pulling.asked > 0 || pulling.place.is_some();
            if !begun || pulling.asked + heal.staging >= CHUNKS_IN_FLIGHT_MAX {
                return;
            }
            pulling.asked += 1;
            let from = match (core::mem::take(&mut pulling.from_place), &pulling.place) {
                (false, _) => ChunkFrom::Next,
                (true, None) => ChunkFrom::Start,
                (true, Some(place)) => ChunkFrom::Behind(place.clone()),
            };
            self.say(now, &Message::AskChunk(AskChunk { subscription, from }));
        }
    }

    pub(super) fn heal_chunk(&mut self, now: Now, chunk: &Chunk, encoded: &[u8]) {
        let subscription = chunk.subscription;
        let at = usize::try_from(subscription).unwrap_or(usize::MAX);
        let Some((pattern, _)) = self.replica.standings().get(at) else {
            return;
        };
        let Some(session) = &mut self.session else {
            return;
        };
        // Those that were asked for behind the last one, or before a walk took over, mean nothing.
        let Some(heal) = session.heals.get_mut(&subscription).filter(|heal| !heal.complete) else {
            return;
        };
        let Some(pulling) = heal.snapshot.as_mut().filter(|pulling| pulling.asked > 0) else {
            return;
        };
        pulling.asked -= 1;
        if pulling.passed_over > 0 {
            pulling.passed_over -= 1;
            return self.ask_chunks(now, subscription);
        }
        if chunk.after != pulling.place || (chunk.more && chunk.upto <= chunk.after) {
            return self.end(now, ByeCode::Misbehaved, "a chunk that does not follow");
        }
        let records = match chunk.open() {
            Ok(records) => records,
            Err(fault) => return self.end(now, ByeCode::Misbehaved, &fault.to_string()),
        };
        let Some(records) = records else {
            return self.chunk_damaged(now, subscription);
        };
        if !lie_within(chunk, &records, pattern) {
            return self.end(now, ByeCode::Misbehaved, "a chunk with records of another place");
        }
        if let Some(Err(error)) =
            records.iter().map(|record| decode_record(&record.bytes)).find(Result::is_err)
        {
            return self.end(now, ByeCode::Misbehaved, &error.to_string());
        }
        pulling.tries = 0;
        if chunk.upto.is_some() {
            pulling.place.clone_from(&chunk.upto);
            heal.staging += 1;
            let (bytes, upto) = (encoded.to_vec(), chunk.upto.clone());
            let entry = Entry::Opened(Opened { bytes, subscription, upto, records });
            self.pipeline.want(Want::Entry { entry, then: Then::HealStep(subscription) });
        }
        heal.complete = !chunk.more;
        session.totals.insert(subscription, chunk.total);
        self.ask_chunks(now, subscription);
        self.heal_finish(now, subscription);
    }

    /// Asks for a chunk again; if that does not help, what is left is walked.
    fn chunk_damaged(&mut self, now: Now, subscription: u32) {
        let session = self.session.as_mut();
        let Some(heal) = session.and_then(|session| session.heals.get_mut(&subscription)) else {
            return;
        };
        let Some(pulling) = &mut heal.snapshot else {
            return;
        };
        pulling.tries += 1;
        pulling.from_place = true;
        pulling.passed_over = pulling.asked;
        if pulling.tries < CHUNK_TRIES_MAX {
            return self.ask_chunks(now, subscription);
        }
        let place = heal.snapshot.take().and_then(|pulling| pulling.place);
        if let Some(place) = &place {
            heal.todo.retain(|(collection, _)| *collection >= place.collection);
        }
        let first = heal.todo.front().map(|(collection, _)| collection.clone());
        heal.fills = match place.map(|place| place.collection).or(first) {
            Some(from) => Fills::Before(from),
            None => Fills::All,
        };
        self.heal_next(now, subscription);
    }
}

/// Whether the records lie between the ends of their chunk, within the subscription, and none comes twice.
fn lie_within(chunk: &Chunk, records: &[ChunkRecord], pattern: &Pattern) -> bool {
    let mut keys = SortedSet::new();
    records.iter().map(|record| &record.key).all(|key| {
        let between = chunk.after.as_ref().is_none_or(|after| after < key)
            && chunk.upto.as_ref().is_some_and(|upto| key <= upto);
        between && pattern.covers(&key.collection) && keys.insert(key)
    })
}
