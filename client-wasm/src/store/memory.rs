//! A store for one page: where the browser denies IndexedDB, the database lives as long as the page.

use super::StoreError;
use core::{cell::RefCell, num::NonZeroU32, ops::Bound};
use rejoin_core::{
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query, Room, Row, Write},
    port::Store,
    sorted::SortedMap,
};

/// Rows by keyspace and key.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore(RefCell<Rows>);

type Rows = SortedMap<(Keyspace, Vec<u8>), Vec<u8>>;

impl MemoryStore {
    fn value(&self, keyspace: Keyspace, key: &[u8]) -> Option<Vec<u8>> {
        self.0.borrow().get(&(keyspace, key.to_vec())).cloned()
    }

    fn page(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
        bytes: NonZeroU32,
    ) -> Page {
        let mut room = Room::new(limit, bytes);
        let rows = self.0.borrow();
        let start = Bound::Included((keyspace, range.start.clone()));
        let mut within = rows
            .range((start, Bound::Unbounded))
            .take_while(|((of, key), _)| {
                *of == keyspace && range.end.as_ref().is_none_or(|end| key < end)
            })
            .map(|((_, key), value)| Row { key: key.clone(), value: value.clone() });
        let mut rows = Vec::new();
        while !room.is_over() {
            let Some(row) = within.next() else { break };
            room.take(&row);
            rows.push(row);
        }
        Page { rows, more: within.next().is_some() }
    }
}

impl Store for MemoryStore {
    type Error = StoreError;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.value(keyspace, key))
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, StoreError> {
        Ok(self.page(keyspace, range, limit, NonZeroU32::MAX))
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, StoreError> {
        let answer = |query: &Query| match query {
            Query::Get { keyspace, key } => Answer::Value(self.value(*keyspace, key)),
            Query::Scan { keyspace, range, limit, bytes } => {
                Answer::Page(self.page(*keyspace, range, *limit, *bytes))
            }
        };
        Ok(queries.iter().map(answer).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<CommitOutcome, StoreError> {
        let holds =
            batch.guards.iter().all(|guard| self.value(guard.keyspace, &guard.key) == guard.seen);
        if !holds {
            return Ok(CommitOutcome::Conflict);
        }
        let mut rows = self.0.borrow_mut();
        for write in batch.writes {
            match write {
                Write::Put { keyspace, row } => {
                    rows.insert((keyspace, row.key), row.value);
                }
                Write::Delete { keyspace, key } => {
                    rows.remove(&(keyspace, key));
                }
            }
        }
        Ok(CommitOutcome::Applied)
    }
}
