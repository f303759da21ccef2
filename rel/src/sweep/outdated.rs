//! Somebody who is refused once in each session.

use crate::{script, server::PATIENCE, writers::Writer};
use anyhow::ensure;
use rejoin_client::{Client, RejectCode, Value, key, put, set};
use std::path::Path;
use tokio::time::timeout;

/// A client that adds to a record what leaves no room for what somebody else has added: that is refused.
#[derive(Debug)]
pub(super) struct Outdated(pub(super) Client);

/// Its file.
pub(super) const OUTDATED: &str = "outdated.db";
/// Of four such fields a record has no room.
const LARGE_BYTES: usize = 240 << 10;

impl Outdated {
    pub(super) async fn open(directory: &Path, url: String) -> anyhow::Result<Self> {
        let options = script::options(&directory.join(OUTDATED), Some(url))?;
        Ok(Self(Client::open(options).await?))
    }

    /// Adds to a record without having heard of what `other` added.
    pub(super) async fn becomes(&self, other: &Writer) -> anyhow::Result<()> {
        let Self(client) = self;
        client.online();
        timeout(PATIENCE, client.synced()).await??;
        client.pause();
        for (client, fields) in [(&other.client, ["a", "b"]), (client, ["c", "d"])] {
            let large = || Value::Bytes(vec![7; LARGE_BYTES]);
            let [first, second] = fields.map(|field| set(field, large()));
            client.write(vec![put(key("large", "1")?, [first?, second?])]).await?;
        }
        other.synced().await
    }

    /// Whatever happened to the server, it heard of it, and not twice.
    pub(super) async fn was_refused_once(self) -> anyhow::Result<()> {
        let Self(client) = self;
        client.online();
        timeout(PATIENCE, client.synced()).await??;
        let codes: Vec<RejectCode> = client.rejected().iter().map(|row| row.code).collect();
        ensure!(codes == [RejectCode::TooLarge], "refused: {codes:?}");
        Ok(client.close().await?)
    }
}
