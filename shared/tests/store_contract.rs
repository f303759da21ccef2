//! The contract of the store port, run on the store in memory, and on stores that each break one
//! clause: a contract that passes those would be vacuous.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most flaws break one method and leave the others as they are"
)]

use rejoin_core::{
    io::{Answer, Batch, CommitOutcome, KeyRange, Keyspace, Page, Query, Row, Write},
    port::Store,
    testing::{
        block_on,
        contract::{self, StoreFactory},
        memory::MemoryStore,
        yield_now,
    },
};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

struct InMemory;

impl StoreFactory for InMemory {
    type World = MemoryStore;
    type Store = MemoryStore;

    async fn fresh(&self) -> MemoryStore {
        MemoryStore::new()
    }

    async fn open(&self, world: &MemoryStore) -> MemoryStore {
        world.clone()
    }

    async fn restart(&self, world: &mut MemoryStore) {
        *world = MemoryStore::from_image(world.snapshot());
    }
}

#[test]
fn memory_store_keeps_the_contract() {
    block_on(contract::store(&InMemory));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    IgnoresGuards,
    IgnoresAllButTheFirstGuard,
    AbsentGuardAlwaysHolds,
    EmptyCountsAsAbsent,
    WritesBeforeGuardsFail,
    WritesFirstOnly,
    SharesKeyspaces,
    IncludesTheEnd,
    ScansSignedBytes,
    FullPageSaysMore,
    NeverSaysMore,
    CapsPagesSilently,
    ForgetsBytes,
    AnswersBackwards,
    TearsReads,
    TearsDroppedCommits,
    ChecksGuardsTooEarly,
    DropsRelaxed,
    CutsLargeValues,
    ForgetsOnRestart,
}

const FLAWS: [Flaw; 20] = [
    Flaw::IgnoresGuards,
    Flaw::IgnoresAllButTheFirstGuard,
    Flaw::AbsentGuardAlwaysHolds,
    Flaw::EmptyCountsAsAbsent,
    Flaw::WritesBeforeGuardsFail,
    Flaw::WritesFirstOnly,
    Flaw::SharesKeyspaces,
    Flaw::IncludesTheEnd,
    Flaw::ScansSignedBytes,
    Flaw::FullPageSaysMore,
    Flaw::NeverSaysMore,
    Flaw::CapsPagesSilently,
    Flaw::ForgetsBytes,
    Flaw::AnswersBackwards,
    Flaw::TearsReads,
    Flaw::TearsDroppedCommits,
    Flaw::ChecksGuardsTooEarly,
    Flaw::DropsRelaxed,
    Flaw::CutsLargeValues,
    Flaw::ForgetsOnRestart,
];

/// A store in memory that breaks one clause of the contract.
struct Broken {
    inner: MemoryStore,
    flaw: Flaw,
}

impl Broken {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn place(&self, keyspace: Keyspace) -> Keyspace {
        if self.has(Flaw::SharesKeyspaces) { Keyspace::Meta } else { keyspace }
    }

    async fn apply(&self, batch: Batch) -> Result<CommitOutcome, Infallible> {
        self.inner.commit(batch).await
    }
}

impl Store for Broken {
    type Error = Infallible;

    async fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        let found = self.inner.get(self.place(keyspace), key).await?;
        Ok(found.filter(|value| !self.has(Flaw::EmptyCountsAsAbsent) || !value.is_empty()))
    }

    async fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: NonZeroU32,
    ) -> Result<Page, Infallible> {
        let mut range = range.clone();
        if self.has(Flaw::IncludesTheEnd)
            && let Some(end) = &mut range.end
        {
            end.push(0);
        }
        let cap = NonZeroU32::new(1_000).unwrap_or(limit);
        let capped = self.has(Flaw::CapsPagesSilently) && limit > cap;
        let mut page =
            self.inner.scan(self.place(keyspace), &range, if capped { cap } else { limit }).await?;
        if self.has(Flaw::ScansSignedBytes) {
            page.rows.sort_by_key(|row| {
                row.key.iter().map(|byte| byte.cast_signed()).collect::<Vec<_>>()
            });
        }
        if self.has(Flaw::FullPageSaysMore) {
            page.more = u32::try_from(page.rows.len()) == Ok(limit.get());
        }
        page.more &= !self.has(Flaw::NeverSaysMore) && !capped;
        Ok(page)
    }

    async fn read(&self, queries: &[Query]) -> Result<Vec<Answer>, Infallible> {
        let mut answers = Vec::new();
        for query in queries {
            answers.push(match query {
                Query::Get { keyspace, key } => Answer::Value(self.get(*keyspace, key).await?),
                Query::Scan { keyspace, range, limit, bytes } => {
                    let page = self.scan(*keyspace, range, *limit).await?;
                    Answer::Page(if self.has(Flaw::ForgetsBytes) {
                        page
                    } else {
                        cut(page, *bytes)
                    })
                }
            });
            if self.has(Flaw::TearsReads) {
                yield_now().await;
            }
        }
        if self.has(Flaw::AnswersBackwards) {
            answers.reverse();
        }
        Ok(answers)
    }

    async fn commit(&self, mut batch: Batch) -> Result<CommitOutcome, Infallible> {
        for write in &mut batch.writes {
            match write {
                Write::Put { keyspace, row } => {
                    *keyspace = self.place(*keyspace);
                    if self.has(Flaw::CutsLargeValues) {
                        row.value.truncate((1 << 20) - 1);
                    }
                }
                Write::Delete { keyspace, .. } => *keyspace = self.place(*keyspace),
            }
        }
        for guard in &mut batch.guards {
            guard.keyspace = self.place(guard.keyspace);
        }
        match self.flaw {
            Flaw::IgnoresGuards => batch.guards.clear(),
            Flaw::IgnoresAllButTheFirstGuard => batch.guards.truncate(1),
            Flaw::AbsentGuardAlwaysHolds => batch.guards.retain(|guard| guard.seen.is_some()),
            Flaw::DropsRelaxed if batch.relaxed => batch.writes.clear(),
            Flaw::WritesFirstOnly => {
                let mut seen = BTreeSet::new();
                batch.writes.retain(|write| match write {
                    Write::Put { keyspace, row } => seen.insert((*keyspace, row.key.clone())),
                    Write::Delete { keyspace, key } => seen.insert((*keyspace, key.clone())),
                });
            }
            Flaw::WritesBeforeGuardsFail => {
                let first = batch.writes.iter().take(1).cloned().collect();
                let outcome = self.apply(batch).await?;
                if outcome == CommitOutcome::Conflict {
                    let half = Batch { writes: first, ..Batch::default() };
                    assert_eq!(self.apply(half).await, Ok(CommitOutcome::Applied));
                }
                return Ok(outcome);
            }
            Flaw::TearsDroppedCommits | Flaw::ChecksGuardsTooEarly => {
                let guards =
                    Batch { guards: std::mem::take(&mut batch.guards), ..Batch::default() };
                if self.apply(guards).await == Ok(CommitOutcome::Conflict) {
                    return Ok(CommitOutcome::Conflict);
                }
                if self.has(Flaw::ChecksGuardsTooEarly) {
                    yield_now().await;
                    return self.apply(batch).await;
                }
                for write in batch.writes {
                    let one = Batch { writes: vec![write], ..Batch::default() };
                    assert_eq!(self.apply(one).await, Ok(CommitOutcome::Applied));
                    yield_now().await;
                }
                return Ok(CommitOutcome::Applied);
            }
            _ => {}
        }
        self.apply(batch).await
    }
}

/// The rows of a page up to the one that reaches so many bytes.
fn cut(mut page: Page, bytes: NonZeroU32) -> Page {
    let mut room = u64::from(bytes.get());
    let fits = |row: &Row| {
        let fits = room > 0;
        room = room.saturating_sub(row.value.len() as u64);
        fits
    };
    let all = page.rows.len();
    page.rows = page.rows.into_iter().take_while(fits).collect();
    page.more |= page.rows.len() < all;
    page
}

struct BrokenFactory(Flaw);

impl StoreFactory for BrokenFactory {
    type World = MemoryStore;
    type Store = Broken;

    async fn fresh(&self) -> MemoryStore {
        MemoryStore::new()
    }

    async fn open(&self, world: &MemoryStore) -> Broken {
        Broken { inner: world.clone(), flaw: self.0 }
    }

    async fn restart(&self, world: &mut MemoryStore) {
        if self.0 == Flaw::ForgetsOnRestart {
            world.crash();
        }
    }
}

#[test]
fn the_contract_catches_every_planted_flaw() {
    let missed: Vec<Flaw> = FLAWS
        .into_iter()
        .filter(|flaw| {
            let run = || block_on(contract::store(&BrokenFactory(*flaw)));
            catch_unwind(AssertUnwindSafe(run)).is_ok()
        })
        .collect();
    if !missed.is_empty() {
        panic!("the contract passes stores with these flaws: {missed:?}");
    }
}
