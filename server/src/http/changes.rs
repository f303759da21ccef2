//! What has changed since a cursor, page by page: the feed, of what the caller may read.

use super::{
    Api, Caller, body,
    list::{InSpace, Listed, Part},
    problem::{Problem, Refused},
};
use crate::feed::{self, Change, Position};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use rejoin_core::id::{Pattern, RecordKey};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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
        Some(cursor) => position(cursor)?,
    };
    let page = feed.page(&api, &caller, &from).await?;
    let changes = page.changes.into_iter().map(|(change, _)| change).collect();
    let changes = Changes { changes, cursor: page.upto.encode(), more: page.more };
    Ok((StatusCode::OK, Json(changes)).into_response())
}

/// Where a cursor stands.
///
/// # Errors
/// 400.
pub(super) fn position(cursor: &str) -> Result<Position, Problem> {
    let position = Position::decode(cursor);
    position.ok_or_else(|| Problem::invalid("the cursor is none of this server"))
}

/// The head.
///
/// # Errors
/// 503.
pub(super) async fn now(api: &Api, caller: &Caller) -> Result<Position, Problem> {
    let store = api.hubs.store(&caller.space);
    feed::now(&store).await.map_err(|error| api.untold(&caller.space, &error))
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
        let store = api.hubs.store(&caller.space);
        let page = feed::page(&store, from, self.limit, |key| self.tells(caller, key)).await;
        let page = page.map_err(|error| api.untold(&caller.space, &error))?;
        let listed = |Change { key, stored, position }| (Listed::of(&key, &stored), position);
        let changes = page.changes.into_iter().map(listed).collect();
        Ok(Page { changes, upto: page.upto, more: page.more })
    }

    fn tells(&self, caller: &Caller, key: &RecordKey) -> bool {
        let collection = &key.collection;
        self.pattern.covers(collection) && caller.grant.reads(&Pattern::Exact(collection.clone()))
    }
}
