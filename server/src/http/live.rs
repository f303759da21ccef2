//! The feed as it grows: server-sent events, each with its cursor.
//!
//! Invariant: nothing falls between what is read and what is waited for: commits are watched before the store is
//! read. A reader who takes nothing costs one page. Absent: a queue, since the feed is one.

use super::{
    Api, Caller, LAST_EVENT_ID, body, changes,
    changes::{Feed, NOW},
    list::InSpace,
    problem::{Problem, Refused},
};
use crate::{feed::Position, hub::Ask};
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use std::time::Duration;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};
use utoipa::IntoParams;

/// Changes that are read at once.
const PAGE_CHANGES: u16 = 100;
/// A feed without news says something so often, and looks whether its token is still good.
const QUIET_MAX: Duration = Duration::from_secs(15);

/// Which changes, and from where.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    /// What the last page said; `now` for what comes from here on; without it, from the beginning
    #[param(min_length = 1, pattern = "^(now|[A-Za-z0-9_-]+)$")]
    cursor: Option<String>,
    /// Which collections: `*`, `name`, or `name/*` for it and all below it
    #[param(
        min_length = 1,
        max_length = 258,
        default = "*",
        pattern = r"^(\*|[^/\x00-\x1f\x7f-\x9f]+(/[^/\x00-\x1f\x7f-\x9f]+)*)$"
    )]
    collections: Option<String>,
}

/// Tells changes as they come
///
/// Server-sent events. `change`: a record as it is now, in the form of a change of `listChanges`; its `id` is a cursor, which
/// a client sends as `Last-Event-ID` when it comes back. An event with an `id` and no data says only how far it is.
/// `problem`, the last one: the cursor's place is no more, or the token is good no longer.
#[utoipa::path(
    get,
    path = "/v1/spaces/{space}/live",
    tag = "feed",
    operation_id = "watchChanges",
    params(
        InSpace,
        From,
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that came; goes before `cursor`"),
    ),
    responses(
        (status = 200, description = "Events, until the client has enough", body = String, content_type = "text/event-stream"),
        (status = 410, description = "The cursor's place is no more", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many live feeds are open", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The space cannot be opened now", body = Problem, content_type = "application/problem+json"),
        Refused,
    )
)]
pub(crate) async fn live(
    State(api): State<Api>,
    Path(place): Path<InSpace>,
    Query(since): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    body::accepts(&headers, "text/event-stream")?;
    let caller = api.admit(&headers, &place.space).await?;
    let feed = Feed::new(since.collections.as_deref(), PAGE_CHANGES)?;
    let permit = api.feeds.clone().try_acquire_owned();
    let permit = permit.map_err(|_full| Problem::crowded("too many live feeds are open"))?;
    let last = body::text(&headers, &LAST_EVENT_ID)?.filter(|last| !last.is_empty());
    let commits = watched(&api, &caller).await?;
    let from = match last.or(since.cursor.as_deref()) {
        None => Position::START,
        Some(NOW) => changes::now(&api, &caller).await?,
        Some(cursor) => changes::position(cursor)?,
    };
    // What is no more is said with a status; and headers leave at once.
    let first = feed.page(&api, &caller, &from).await?;
    let mut text = String::from(": hello\n\n");
    write_page(&mut text, &first);
    let reader = Reader {
        feed,
        caller,
        commits,
        at: first.upto,
        more: first.more,
        stopping: api.stopping.clone(),
        api,
        _permit: permit,
    };
    let events = stream::unfold((Some(text), Some(reader)), |(text, reader)| async move {
        match (text, reader) {
            (Some(text), reader) => Some((Ok::<_, std::convert::Infallible>(text), (None, reader))),
            (None, Some(reader)) => {
                let (text, reader) = reader.next().await?;
                Some((Ok(text), (None, reader)))
            }
            (None, None) => None,
        }
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx keeps what it is not told to pass on.
    let passed =
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(([kind, passed], Body::from_stream(events)).into_response())
}

async fn watched(api: &Api, caller: &Caller) -> Result<watch::Receiver<u64>, Problem> {
    api.ask(caller, Ask::Watch).await
}

/// One who watches.
struct Reader {
    api: Api,
    feed: Feed,
    caller: Caller,
    commits: watch::Receiver<u64>,
    at: Position,
    more: bool,
    stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// What is written, and who goes on.
type Step = (String, Option<Reader>);

impl Reader {
    /// The next text; `None` when the process ends.
    async fn next(mut self) -> Option<Step> {
        let mut text = String::new();
        if !self.more {
            let mut stopping = self.stopping.clone();
            let changed = tokio::select! {
                changed = timeout(QUIET_MAX, self.commits.changed()) => changed,
                _stopped = stopping.wait_for(|stopping| *stopping) => return None,
            };
            match changed {
                Ok(Ok(())) => {}
                Err(_quiet) => text.push_str(": quiet\n\n"),
                // The hub has ended; the next one is watched before the store is read.
                Ok(Err(_gone)) => match watched(&self.api, &self.caller).await {
                    Ok(commits) => self.commits = commits,
                    Err(problem) => return self.last_words(&problem),
                },
            }
        }
        match self.read().await {
            Ok(page) => text.push_str(&page),
            Err(problem) => return self.last_words(&problem),
        }
        Some((text, Some(self)))
    }

    /// Why it ends; a process that ends says nothing, and its clients come back to the next one.
    fn last_words(&self, problem: &Problem) -> Option<Step> {
        let data = serde_json::to_string(problem).unwrap_or_default();
        let is_over = *self.stopping.borrow();
        (!is_over).then(|| (format!("event: problem\ndata: {data}\n\n"), None))
    }

    async fn read(&mut self) -> Result<String, Problem> {
        self.api.renew(&mut self.caller)?;
        let page = self.feed.page(&self.api, &self.caller, &self.at).await?;
        let mut text = String::new();
        if page.upto != self.at {
            write_page(&mut text, &page);
        }
        self.at = page.upto;
        self.more = page.more;
        Ok(text)
    }
}

fn write_page(text: &mut String, page: &changes::Page) {
    let last = page.changes.len().saturating_sub(1);
    for (at, (change, position)) in page.changes.iter().enumerate() {
        // The last one of a page is told with where the page ends.
        let cursor = if at == last { page.upto.encode() } else { position.encode() };
        let data = serde_json::to_string(change).unwrap_or_default();
        text.push_str(&format!("id: {cursor}\nevent: change\ndata: {data}\n\n"));
    }
    if page.changes.is_empty() {
        text.push_str(&format!("id: {}\n\n", page.upto.encode()));
    }
}
