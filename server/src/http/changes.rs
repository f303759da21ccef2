//! What has changed since a cursor, page by page.
//!
//! Invariant: the feed has one entry for each record, where its latest change stands, so pages bring every record
//! that has changed, as it is now; a record that moves on while pages are read comes in a later one.

use super::{
    Api, Caller, body,
    cursor::Position,
    damaged,
    list::{InSpace, Listed, Part},
    problem::{Problem, Refused},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use rejoin_core::{
    id::{Pattern, RecordKey, Seq},
    io::Answer,
    protocol::{
        host::{Standing, StoredRecord, feed_query, read_feed},
        message::Place,
    },
};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use utoipa::{IntoParams, ToSchema};

/// Rows of the feed that one page looks at.
const FEED_ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);
/// Stored bytes behind which a page ends.
const PAGE_BYTES: u64 = 1 << 20;
/// In place of a cursor: from here on.
pub(super) const NOW: &str = "now";

/// A page of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Changes {
    /// In the order of the feed; a record without fields is removed.
    changes: Vec<Listed>,
    /// Where the next page begins.
    cursor: String,
    /// Whether there is more at once.
    more: bool,
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Since {
    /// What the page before said; `now` for what comes from here on; without it, from the beginning
    #[param(min_length = 1, pattern = "^(now|[A-Za-z0-9_-]+)$")]
    cursor: Option<String>,
    /// Changes of the page, at most; it may have fewer and not be the last
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Which collections: `*`, `name`, or `name/*` for it and all below it
    #[param(
        min_length = 1,
        max_length = 258,
        default = "*",
        pattern = r"^(\*|[^/\x00-\x1f\x7f-\x9f]+(/[^/\x00-\x1f\x7f-\x9f]+)*)$"
    )]
    collections: Option<String>,
}

/// Tells what has changed since a cursor
///
/// Records as they are now, those that were removed among them. An answer of 410 says that the cursor's place is no
/// more: begin without one.
#[utoipa::path(
    get,
    path = "/v1/spaces/{space}/changes",
    tag = "feed",
    operation_id = "listChanges",
    params(InSpace, Since),
    responses(
        (status = 200, description = "A page", body = Changes),
        (status = 410, description = "The cursor's place is no more", body = Problem, content_type = "application/problem+json"),
        Refused,
    )
)]
pub(crate) async fn changes(
    State(api): State<Api>,
    Path(place): Path<InSpace>,
    Query(since): Query<Since>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &place.space).await?;
    let limit = Part::limit_of(since.limit)?;
    let feed = Feed::new(since.collections.as_deref(), limit)?;
    let from = match since.cursor.as_deref() {
        None => Position::START,
        Some(NOW) => now(&api, &caller).await?,
        Some(cursor) => Position::decode(cursor)?,
    };
    let page = feed.page(&api, &caller, &from).await?;
    let changes = page.changes.into_iter().map(|(change, _)| change).collect();
    let changes = Changes { changes, cursor: page.upto.encode(), more: page.more };
    Ok((StatusCode::OK, Json(changes)).into_response())
}

/// The head.
///
/// # Errors
/// 503.
pub(super) async fn now(api: &Api, caller: &Caller) -> Result<Position, Problem> {
    let answers = api.read(&caller.space, &Standing::queries()).await?;
    let standing = Standing::read(answers).map_err(|error| damaged(&caller.space, &error))?;
    Ok(standing.as_ref().map_or(Position::START, Position::at_head))
}

/// What somebody wants to be told.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pattern: Pattern,
    limit: usize,
}

/// Part of it.
#[derive(Debug)]
pub(super) struct Page {
    /// Each with the position behind it.
    pub(super) changes: Vec<(Listed, Position)>,
    pub(super) upto: Position,
    pub(super) more: bool,
}

impl Feed {
    /// # Errors
    /// 400.
    pub(super) fn new(collections: Option<&str>, limit: u16) -> Result<Self, Problem> {
        let pattern = Pattern::parse(collections.unwrap_or("*"));
        let pattern = pattern.map_err(|error| Problem::invalid(format!("collections: {error}")))?;
        Ok(Self { pattern, limit: usize::from(limit) })
    }

    /// What comes behind a position, of what the caller may read.
    ///
    /// # Errors
    /// 410, 503.
    pub(super) async fn page(
        &self,
        api: &Api,
        caller: &Caller,
        from: &Position,
    ) -> Result<Page, Problem> {
        let damaged = |error| damaged(&caller.space, &error);
        let answers = api.read(&caller.space, &Standing::queries()).await?;
        let Some(standing) = Standing::read(answers).map_err(damaged)? else {
            return Ok(Page { changes: Vec::new(), upto: from.clone(), more: false });
        };
        let (base, after) = from.resume(&standing)?;
        // Head and feed are of one snapshot; the base was good in an earlier one of this history.
        let queries: Vec<_> =
            Standing::queries().into_iter().chain([feed_query(&after, FEED_ROWS)]).collect();
        let mut answers = api.read(&caller.space, &queries).await?;
        let feed = match answers.pop() {
            Some(Answer::Page(page)) => page,
            Some(Answer::Value(_)) | None => return Err(Problem::storage()),
        };
        let standing = Standing::read(answers).map_err(damaged)?.ok_or_else(Problem::storage)?;
        from.resume(&standing)?;
        let (mut wanted, mut bytes) = (Vec::<(Seq, RecordKey)>::new(), 0);
        let mut more = feed.more;
        // What was looked at last, be it told or not.
        let mut last = None;
        for row in &feed.rows {
            let (seq, key, len) = read_feed(row).map_err(damaged)?;
            if wanted.len() >= self.limit || bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            last = Some(seq);
            if self.tells(caller, &key) {
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
        let changes = self.read(api, caller, &base, wanted).await?;
        Ok(Page { changes, upto, more })
    }

    fn tells(&self, caller: &Caller, key: &RecordKey) -> bool {
        let collection = &key.collection;
        self.pattern.covers(collection) && caller.grant.reads(&Pattern::Exact(collection.clone()))
    }

    async fn read(
        &self,
        api: &Api,
        caller: &Caller,
        base: &Position,
        wanted: Vec<(Seq, RecordKey)>,
    ) -> Result<Vec<(Listed, Position)>, Problem> {
        let queries: Vec<_> = wanted.iter().map(|(_, key)| StoredRecord::query(key)).collect();
        let answers = api.read(&caller.space, &queries).await?;
        let mut changes = Vec::with_capacity(wanted.len());
        for ((seq, key), answer) in wanted.into_iter().zip(answers) {
            let Answer::Value(Some(value)) = answer else {
                // It was collected since: who is so far behind hears of it with the next page.
                continue;
            };
            let stored = StoredRecord::read(&value);
            let stored = stored.map_err(|error| damaged(&caller.space, &error))?;
            // Else it has moved on since, and comes where it stands now.
            if stored.seq == seq {
                let change = Listed::of(&key, &stored);
                changes.push((change, base.on_the_way(Place { seq, key: Some(key) })));
            }
        }
        Ok(changes)
    }
}
