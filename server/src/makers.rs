//! Who made which space: a principal makes so many, however often the server was started meanwhile.
//!
//! A space is made when somebody first asks for it. Who that was stands in a space of the server's own until the space
//! is no more. Invariant: spaces that have rows count for whoever made them. Absent: rights, and spaces that nobody
//! makes by name (an import, or a server that lets everyone in).

use rejoin_core::{
    codec,
    id::{NameError, SpaceId},
    io::{Batch, KeyRange, Keyspace},
    port::Store,
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::error;

/// Of what is stored.
const VERSION: u8 = 1;
const ROWS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

#[derive(Debug)]
pub(crate) struct Makers {
    store: SqliteStore,
    max: u32,
    made: Mutex<BTreeMap<Arc<str>, u32>>,
}

impl Makers {
    /// The space that it is kept in: one of the server's own (see `hubs`).
    pub(crate) fn space() -> Result<SpaceId, NameError> {
        SpaceId::parse("rejoin/makers")
    }

    /// Reads who made the spaces that are there, and forgets who made others; `store`: of [`Self::space`].
    pub(crate) async fn load(
        store: SqliteStore,
        max: u32,
        is_there: impl Fn(&SpaceId) -> bool,
    ) -> Result<Self, SqliteError> {
        let mut made = BTreeMap::<Arc<str>, u32>::new();
        let mut range = KeyRange::prefix(&[]);
        loop {
            let page = store.scan(Keyspace::Meta, &range, ROWS_AT_ONCE).await?;
            let mut gone = Batch::default();
            for row in page.rows {
                let space =
                    std::str::from_utf8(&row.key).ok().and_then(|name| SpaceId::parse(name).ok());
                let maker = codec::unseal(VERSION, &row.value).ok();
                let maker = maker.and_then(|maker| std::str::from_utf8(maker).ok());
                range.start = [row.key.as_slice(), &[0]].concat();
                match (space.filter(&is_there), maker) {
                    (Some(_), Some(maker)) => *made.entry(Arc::from(maker)).or_default() += 1,
                    // What is damaged counts for nobody.
                    (_, _) => gone.delete(Keyspace::Meta, row.key),
                }
            }
            if !gone.writes.is_empty() {
                // Without guards it applies.
                store.commit(gone).await.map(drop)?;
            }
            if !page.more {
                return Ok(Self { store, max, made: Mutex::new(made) });
            }
        }
    }

    /// Counts a space for who makes it: what is to be done so that it is remembered, or `None` if that is one too many.
    pub(crate) fn make(
        &self,
        space: &SpaceId,
        maker: &Arc<str>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut made = self.made();
        let count = made.get(maker).copied().unwrap_or_default();
        if count >= self.max {
            return None;
        }
        made.insert(Arc::clone(maker), count + 1);
        let mut batch = Batch::default();
        let value = codec::seal(VERSION, maker.as_bytes().to_vec());
        batch.put(Keyspace::Meta, space.as_str().as_bytes().to_vec(), value);
        let store = self.store.clone();
        Some(async move {
            // It counts until the next start then.
            if let Err(fault) = store.commit(batch).await {
                error!(%fault, "who made a space cannot be stored");
            }
        })
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u32>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
