//! How far the receiver of a webhook is, for each space: kept in the database, in a space of the server's own.

use super::Webhook;
use crate::feed::Position;
use rejoin_core::{
    codec,
    id::{NameError, SpaceId},
    io::{Batch, Keyspace},
    port::Store,
};
use rejoin_sqlite::{SqliteDb, SqliteError, SqliteStore};

/// Of what is stored.
const VERSION: u8 = 1;

/// Where the receiver stands with a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: Position,
    /// The cursor of the last delivery that it took; without one the next delivery begins anew. Places without
    /// anything for it may have come since.
    pub(crate) told: Option<String>,
}

impl Place {
    pub(crate) const START: Self = Self { position: Position::START, told: None };
}

#[derive(Debug)]
pub(crate) struct Places {
    store: SqliteStore,
    /// Tells webhooks apart: by all that they are.
    hook: [u8; 32],
}

impl Places {
    pub(crate) fn new(db: &SqliteDb, hook: &Webhook) -> Result<Self, NameError> {
        Ok(Self { store: Self::store(db)?, hook: blake3::hash(hook.to_string().as_bytes()).into() })
    }

    /// Where the places of all webhooks are.
    pub(crate) fn store(db: &SqliteDb) -> Result<SqliteStore, NameError> {
        Ok(db.space(&SpaceId::parse("rejoin/webhooks")?))
    }

    fn key(&self, space: &SpaceId) -> Vec<u8> {
        [&[0xff], self.hook.as_slice(), space.as_str().as_bytes()].concat()
    }

    /// At the start, too, where that is damaged.
    pub(super) async fn read(&self, space: &SpaceId) -> Result<Place, SqliteError> {
        let stored = self.store.get(Keyspace::Meta, &self.key(space)).await?;
        let stored = stored.as_deref().and_then(|value| codec::unseal(VERSION, value).ok());
        let place = stored.and_then(|value| {
            // Cursors are letters, digits, and two signs.
            let (told, cursor) = std::str::from_utf8(value).ok()?.split_once(' ')?;
            let told = Some(told.to_owned()).filter(|told| !told.is_empty());
            Some(Place { position: Position::decode(cursor)?, told })
        });
        Ok(place.unwrap_or(Place::START))
    }

    /// Whether anything was told of a space.
    pub(crate) async fn were_told(&self, space: &SpaceId) -> Result<bool, SqliteError> {
        Ok(self.store.get(Keyspace::Meta, &self.key(space)).await?.is_some())
    }

    pub(super) async fn write(&self, space: &SpaceId, place: &Place) -> Result<(), SqliteError> {
        // Without a sync: a power loss makes some deliveries come again.
        let mut batch = Batch { relaxed: true, ..Batch::default() };
        self.put(&mut batch, space, place);
        // There are no guards that could be broken.
        self.store.commit(batch).await.map(|_applied| ())
    }

    /// Adds to a batch that it stands there.
    pub(crate) fn put(&self, batch: &mut Batch, space: &SpaceId, place: &Place) {
        let told = place.told.as_deref().unwrap_or_default();
        let value = format!("{told} {}", place.position.encode());
        batch.put(Keyspace::Meta, self.key(space), codec::seal(VERSION, value.into_bytes()));
    }
}
