//! The feed as who follows it reads it, page by page, from the store.
//!
//! Invariant: the feed has one entry for each record, where its latest change stands, so pages bring every record
//! that has changed, as it is now; a record that moves on while pages are read comes in a later one. Absent: rights,
//! and who is told.

mod lag;
mod position;

pub(crate) use lag::Lag;
pub(crate) use position::Position;

use rejoin_core::{
    codec::CodecError,
    id::{RecordKey, Seq},
    io::Answer,
    port::Store,
    protocol::{
        host::{Standing, StoredRecord, feed_query, read_feed},
        message::Place,
    },
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use std::num::NonZeroU32;

/// Rows of the feed that one page looks at.
const FEED_ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);
/// Stored bytes behind which a page ends.
const PAGE_BYTES: u64 = 1 << 20;

/// The place of a cursor is no more: of another history, or behind what was collected since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// See [`Gone`].
    #[error("the place of the cursor is no more")]
    Gone,
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] SqliteError),
    /// A stored row is damaged: the hub finds it when it reads it itself.
    #[error("a stored row is damaged: {0}")]
    Damaged(#[from] CodecError),
    /// The store answered otherwise than it was asked.
    #[error("the store answers what nobody asked")]
    Strange,
}

impl From<Gone> for FeedError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// A record that has changed, as it is now, dead ones among them.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: RecordKey,
    pub(crate) stored: StoredRecord,
    /// Behind it.
    pub(crate) position: Position,
}

/// Part of the feed.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) changes: Vec<Change>,
    pub(crate) upto: Position,
    pub(crate) more: bool,
    /// The head when it was read.
    pub(crate) head: Seq,
}

/// The head.
///
/// # Errors
/// [`FeedError`], but for `Gone`.
pub(crate) async fn now(store: &SqliteStore) -> Result<Position, FeedError> {
    let standing = Standing::read(store.read(&Standing::queries()).await?)?;
    Ok(standing.as_ref().map_or(Position::START, Position::at_head))
}

/// What comes behind a position, of the records that are wanted, and no more than `limit`.
///
/// # Errors
/// [`FeedError`].
pub(crate) async fn page(
    store: &SqliteStore,
    from: &Position,
    limit: usize,
    wants: impl Fn(&RecordKey) -> bool,
) -> Result<Page, FeedError> {
    let Some(standing) = Standing::read(store.read(&Standing::queries()).await?)? else {
        let (changes, upto) = (Vec::new(), from.clone());
        return Ok(Page { changes, upto, more: false, head: Seq(0) });
    };
    let (base, after) = from.resume(&standing)?;
    // Head and feed are of one snapshot; the base was good in an earlier one of this history.
    let queries: Vec<_> =
        Standing::queries().into_iter().chain([feed_query(&after, FEED_ROWS)]).collect();
    let mut answers = store.read(&queries).await?;
    let Some(Answer::Page(feed)) = answers.pop() else { return Err(FeedError::Strange) };
    let standing = Standing::read(answers)?.ok_or(FeedError::Strange)?;
    from.resume(&standing)?;
    let (mut wanted, mut bytes) = (Vec::<(Seq, RecordKey)>::new(), 0);
    let mut more = feed.more;
    // What was looked at last, be it wanted or not.
    let mut last = None;
    for row in &feed.rows {
        let (seq, key, len) = read_feed(row)?;
        if wanted.len() >= limit || bytes >= PAGE_BYTES {
            more = true;
            break;
        }
        last = Some(seq);
        if wants(&key) {
            bytes += len;
            wanted.push((seq, key));
        }
    }
    let cut = last.filter(|_| more).map(|last| match wanted.last() {
        Some((seq, key)) if *seq == last => Place { seq: *seq, key: Some(key.clone()) },
        // No cursor names a record that is not told. One position has fewer records than are looked at.
        Some(_) | None => Place::at(Seq(last.0.saturating_sub(1))),
    });
    let upto = match &cut {
        Some(place) => base.on_the_way(place.clone()),
        None => Position::at_head(&standing),
    };
    let changes = records(store, &base, wanted).await?;
    Ok(Page { changes, upto, more, head: standing.head })
}

async fn records(
    store: &SqliteStore,
    base: &Position,
    wanted: Vec<(Seq, RecordKey)>,
) -> Result<Vec<Change>, FeedError> {
    let queries: Vec<_> = wanted.iter().map(|(_, key)| StoredRecord::query(key)).collect();
    let answers = store.read(&queries).await?;
    let mut changes = Vec::with_capacity(wanted.len());
    for ((seq, key), answer) in wanted.into_iter().zip(answers) {
        let Answer::Value(Some(value)) = answer else {
            // It was collected since: who is so far behind hears of it with the next page.
            continue;
        };
        let stored = StoredRecord::read(&value)?;
        // Else it has moved on since, and comes where it stands now.
        if stored.seq == seq {
            let position = base.on_the_way(Place { seq, key: Some(key.clone()) });
            changes.push(Change { key, stored, position });
        }
    }
    Ok(changes)
}
