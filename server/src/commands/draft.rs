//! A space of a snapshot on which a host can run: what it writes is kept apart, and nobody else sees it.
//!
//! Invariant: the file is not written. Absent: waiting; time passes as fast as the host has nothing else to do.

use crate::clock;
use rejoin_core::{
    id::{Epoch, SpaceId},
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query, Room, Row, Write},
    protocol::host::{Host, HostConfig, HostInput, HostNote, HostOutput},
    time::{Millis, Now},
};
use rejoin_sqlite::{SqliteError, SqliteSnapshot};
use std::{collections::BTreeMap, num::NonZeroU32, ops::Bound};

/// Longer than anything is kept: nothing is forgotten.
const FOR_EVER: Millis = Millis(1 << 50);
/// Of one read of a range, about.
const ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_023);
const READ_BYTES: NonZeroU32 = NonZeroU32::MIN.saturating_add((1 << 20) - 1);

/// A host and what it has written.
pub(super) struct Draft<'a> {
    snapshot: &'a SqliteSnapshot,
    space: &'a SpaceId,
    written: BTreeMap<(Keyspace, Vec<u8>), Option<Vec<u8>>>,
    host: Host,
    now: Now,
}

impl<'a> Draft<'a> {
    /// Opens the space; `scrub`: whether all that is stored is read and checked.
    pub(super) fn open(
        snapshot: &'a SqliteSnapshot,
        space: &'a SpaceId,
        proof_key: [u8; 32],
        scrub: bool,
    ) -> Self {
        // Nobody ever hears of this run.
        let mut config = HostConfig::new(space.clone(), Epoch::from_bytes([0; 16]), proof_key);
        config.retention = FOR_EVER;
        config.scrub = scrub.then_some(Millis(1));
        let now = clock::read();
        let host = Host::open(config, now);
        Self { snapshot, space, written: BTreeMap::new(), host, now }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Lets the host work until `done` says so of one of its notes, or it has no more to do.
    ///
    /// # Errors
    /// The fault of the database, which the host was not told.
    pub(super) fn run(
        &mut self,
        mut done: impl FnMut(&Host, &HostNote) -> bool,
    ) -> Result<(), SqliteError> {
        loop {
            while let Some(output) = self.host.poll() {
                let input = match output {
                    HostOutput::Query { ticket, queries } => {
                        let answers = queries.iter().map(|query| self.answer(query));
                        HostInput::Answered {
                            ticket,
                            result: Ok(answers.collect::<Result<_, _>>()?),
                        }
                    }
                    HostOutput::Commit { ticket, batch } => {
                        HostInput::Committed { ticket, result: Ok(self.commit(batch)?) }
                    }
                    HostOutput::Note(note) if done(&self.host, &note) => return Ok(()),
                    // It has no peers.
                    HostOutput::Note(_)
                    | HostOutput::Send { .. }
                    | HostOutput::Close { .. }
                    | HostOutput::RefreshAsked { .. }
                    | _ => continue,
                };
                self.host.handle(self.now, input);
            }
            let Some(deadline) = self.host.deadline() else { return Ok(()) };
            let passed = deadline.since(self.now.mono);
            self.now.mono = self.now.mono + passed;
            self.now.wall.0 += passed.0;
            self.host.handle(self.now, HostInput::Deadline);
        }
    }

    fn answer(&self, query: &Query) -> Result<Answer, SqliteError> {
        match query {
            Query::Get { keyspace, key } => Ok(Answer::Value(self.get(*keyspace, key)?)),
            Query::Scan { keyspace, range, limit, bytes } => {
                self.scan(*keyspace, range, Room::new(*limit, *bytes)).map(Answer::Page)
            }
        }
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, SqliteError> {
        if let Some(written) = self.written.get(&(keyspace, key.to_vec())) {
            return Ok(written.clone());
        }
        let query = Query::Get { keyspace, key: key.to_vec() };
        let answers = self.snapshot.read(self.space, &[query])?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        }))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        mut room: Room,
    ) -> Result<Page, SqliteError> {
        let mut page = Page::default();
        let mut start = range.start.clone();
        loop {
            let rest = KeyRange { start: start.clone(), end: range.end.clone() };
            let query = Query::Scan { keyspace, range: rest, limit: ROWS, bytes: READ_BYTES };
            let stored = match self.snapshot.read(self.space, &[query])?.pop() {
                Some(Answer::Page(stored)) => stored,
                Some(Answer::Value(_)) | None => Page::default(),
            };
            // The first key that this part does not speak of.
            let next = stored.rows.last().map(|row| [&row.key[..], b"\0"].concat());
            let end = if stored.more { next.clone() } else { range.end.clone() };
            let mut rows: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
                stored.rows.into_iter().map(|row| (row.key, Some(row.value))).collect();
            let from = Bound::Included((keyspace, start));
            for ((found, key), value) in self.written.range((from, Bound::Unbounded)) {
                if *found != keyspace || end.as_ref().is_some_and(|end| key >= end) {
                    break;
                }
                rows.insert(key.clone(), value.clone());
            }
            for (key, value) in rows {
                let Some(value) = value else { continue };
                if room.is_over() {
                    page.more = true;
                    return Ok(page);
                }
                let row = Row { key, value };
                room.take(&row);
                page.rows.push(row);
            }
            match next.filter(|_| stored.more) {
                Some(next) => start = next,
                None => return Ok(page),
            }
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<CommitOutcome, SqliteError> {
        for guard in &batch.guards {
            if self.get(guard.keyspace, &guard.key)? != guard.seen {
                return Ok(CommitOutcome::Conflict);
            }
        }
        self.written.extend(batch.writes.into_iter().map(|write| match write {
            Write::Put { keyspace, row } => ((keyspace, row.key), Some(row.value)),
            Write::Delete { keyspace, key } => ((keyspace, key), None),
        }));
        Ok(CommitOutcome::Applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::{io::Guard, port::Store};
    use rejoin_sqlite::{SqliteDb, SqliteOptions};

    fn rows(draft: &Draft<'_>, range: (u16, u16), limit: u32) -> (Vec<(u16, u8)>, bool) {
        let [start, end] = [range.0, range.1].map(|at| at.to_be_bytes().to_vec());
        let range = KeyRange { start, end: Some(end) };
        let room = Room::new(NonZeroU32::new(limit).unwrap(), NonZeroU32::MAX);
        let page = draft.scan(Keyspace::Log, &range, room).unwrap();
        let number =
            |row: &Row| (u16::from_be_bytes(row.key[..].try_into().unwrap()), row.value[0]);
        (page.rows.iter().map(number).collect(), page.more)
    }

    #[tokio::test]
    async fn what_is_written_covers_what_is_stored_and_the_file_stays_as_it_is() {
        let directory = std::env::temp_dir().join(format!("rejoin-draft-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let db = SqliteDb::open(directory.join("db"), &SqliteOptions::default()).unwrap();
        let space = SpaceId::parse("home").unwrap();
        let mut stored = Batch::default();
        // More than one read brings.
        for at in (0..3_000_u16).step_by(2) {
            stored.put(Keyspace::Log, at.to_be_bytes().to_vec(), vec![1]);
        }
        let applied = db.space(&space).commit(stored).await.unwrap();
        assert_eq!(applied, CommitOutcome::Applied);
        let snapshot = SqliteSnapshot::open(directory.join("db"), &SqliteOptions::default());
        let snapshot = snapshot.unwrap();
        let mut draft = Draft::open(&snapshot, &space, [7; 32], false);
        let mut model: BTreeMap<u16, u8> = (0..3_000).step_by(2).map(|at| (at, 1)).collect();
        let mut batch = Batch::default();
        for at in (0..3_500_u16).step_by(3) {
            let key = at.to_be_bytes().to_vec();
            if at % 4 == 0 {
                model.remove(&at);
                batch.delete(Keyspace::Log, key);
            } else {
                model.insert(at, 2);
                batch.put(Keyspace::Log, key, vec![2]);
            }
        }
        batch.put(Keyspace::Meta, 5_u16.to_be_bytes().to_vec(), vec![3]);
        assert_eq!(draft.commit(batch).unwrap(), CommitOutcome::Applied);
        for (from, to) in [(0, u16::MAX), (1, 2), (2_040, 2_060), (1_000, 3_400), (3_400, 3_600)] {
            let all: Vec<_> = model.range(from..to).map(|(at, value)| (*at, *value)).collect();
            assert_eq!(rows(&draft, (from, to), u32::MAX), (all.clone(), false));
            let some = &all[..all.len().min(7)];
            assert_eq!(rows(&draft, (from, to), 7), (some.to_vec(), all.len() > 7));
        }
        for (at, seen, outcome) in [
            (0, None, CommitOutcome::Applied),
            (0, Some(vec![1]), CommitOutcome::Conflict),
            (2, Some(vec![1]), CommitOutcome::Applied),
            (3, Some(vec![2]), CommitOutcome::Applied),
        ] {
            let key = u16::to_be_bytes(at).to_vec();
            let guards = vec![Guard { keyspace: Keyspace::Log, key, seen }];
            let batch = Batch { guards, ..Batch::default() };
            assert_eq!(draft.commit(batch).unwrap(), outcome, "{at}");
        }
        assert_eq!(snapshot.extent(&space, Keyspace::Log).unwrap().rows, 1_500);
        db.close().await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
