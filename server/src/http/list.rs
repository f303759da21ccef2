//! Many records: the collections of a space, and a collection page by page.

use super::{
    Api, body, etag,
    problem::{Problem, Refused},
    records::Place,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use rejoin_core::{
    id::{CollectionName, Pattern, RecordId, RecordKey},
    io::{self, Answer, Query as Query_, Row},
    protocol::host::{StoredRecord, collection_queries},
    record::visible_kinds,
};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use utoipa::{IntoParams, ToSchema};

/// Records of a page, if nothing is said, and at most.
const LIMIT: u16 = 100;
const LIMIT_MAX: u16 = 1_000;
/// Stored bytes behind which a page ends.
const PAGE_BYTES: NonZeroU32 = NonZeroU32::MIN.saturating_add((1 << 20) - 1);
/// Collections of a page.
const COLLECTIONS_MAX: usize = 1_000;

/// A record in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Listed {
    /// Its collection.
    pub(super) collection: String,
    /// Its id.
    pub(super) id: String,
    /// Its place in the feed.
    pub(super) seq: u64,
    /// Its state; absent where it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// What it has; absent where it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::records::Fields>)]
    pub(super) fields: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Listed {
    pub(crate) fn of(key: &RecordKey, stored: &StoredRecord) -> Self {
        let live = stored.record.is_live();
        Self {
            collection: key.collection.as_str().to_owned(),
            id: key.id.as_str().to_owned(),
            seq: stored.seq.0,
            etag: live.then(|| etag::tag(&stored.digest)),
            fields: live.then(|| rejoin_json::fields(&visible_kinds(&stored.record))),
        }
    }
}

/// A page of a collection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Listing {
    /// By id, in the order of bytes.
    records: Vec<Listed>,
    /// Where the next page begins; absent behind the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// The collections of a space.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Collections {
    /// By name, in the order of bytes.
    collections: Vec<String>,
    /// Where the next page begins; absent behind the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Which part of a collection.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Records of the page, at most; it may have fewer and not be the last
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// What the page before said: the last id that was read
    #[param(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    cursor: Option<String>,
}

impl Part {
    pub(super) fn limit_of(said: Option<u16>) -> Result<u16, Problem> {
        match said {
            Some(limit) if limit == 0 || limit > LIMIT_MAX => {
                Err(Problem::invalid(format!("the limit is from 1 to {LIMIT_MAX}")))
            }
            said => Ok(said.unwrap_or(LIMIT)),
        }
    }
}

/// Lists the records of a collection
#[utoipa::path(
    get,
    path = "/v1/spaces/{space}/collections/{collection}/records",
    tag = "records",
    operation_id = "listRecords",
    params(Place, Part),
    responses((status = 200, description = "A page", body = Listing), Refused)
)]
pub(crate) async fn records(
    State(api): State<Api>,
    Path(place): Path<Place>,
    Query(part): Query<Part>,
    headers: HeaderMap,
) -> Result<Json<Listing>, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &place.space).await?;
    let collection = caller.collection(&place.collection)?;
    let limit = Part::limit_of(part.limit)?;
    let after = part.cursor.as_deref().map(RecordId::parse).transpose();
    let after = after.map_err(|error| Problem::invalid(format!("the cursor: {error}")))?;
    let rows = NonZeroU32::MIN.saturating_add(u32::from(limit) - 1);
    let query = StoredRecord::query_all(&collection, after.as_ref(), rows, PAGE_BYTES);
    let page = page(api.read(&caller.space, &[query]).await?);
    let read = page.rows.iter().map(StoredRecord::read_row).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| api.damaged(&caller.space, &error))?;
    let last = read.last().filter(|_| page.more).map(|(key, _)| key.id.as_str().to_owned());
    let live = read.iter().filter(|(_, stored)| stored.record.is_live());
    let records = live.map(|(key, stored)| Listed::of(key, stored)).collect();
    Ok(Json(Listing { records, cursor: last }))
}

/// Which part of the collections.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionsPart {
    /// What the page before said
    #[param(
        min_length = 1,
        max_length = 256,
        pattern = r"^[^/\x00-\x1f\x7f-\x9f]+(/[^/\x00-\x1f\x7f-\x9f]+)*$"
    )]
    cursor: Option<String>,
}

/// Which space.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct InSpace {
    /// The space; a slash in it is `%2F`
    #[param(example = "demo")]
    pub(super) space: String,
}

/// Lists the collections of a space that the token may read
///
/// One may have nothing but records that were removed.
#[utoipa::path(
    get,
    path = "/v1/spaces/{space}/collections",
    tag = "records",
    operation_id = "listCollections",
    params(InSpace, CollectionsPart),
    responses((status = 200, description = "A page", body = Collections), Refused)
)]
pub(crate) async fn collections(
    State(api): State<Api>,
    Path(place): Path<InSpace>,
    Query(part): Query<CollectionsPart>,
    headers: HeaderMap,
) -> Result<Json<Collections>, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &place.space).await?;
    let after = part.cursor.as_deref().map(CollectionName::parse).transpose();
    let mut after = after.map_err(|error| Problem::invalid(format!("the cursor: {error}")))?;
    let patterns = caller.grant.rights.iter().map(|right| &right.pattern);
    let patterns: Vec<&Pattern> = patterns.collect();
    let mut collections = Vec::new();
    while collections.len() < COLLECTIONS_MAX {
        let next = patterns.iter().flat_map(|pattern| collection_queries(after.as_ref(), pattern));
        let next: Vec<Query_> = next.collect();
        let rows = api.read(&caller.space, &next).await?.into_iter().flat_map(rows_of);
        let keys = rows.map(|row| Ok(StoredRecord::read_row(&row)?.0.collection));
        let keys = keys.collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| api.damaged(&caller.space, &error))?;
        let Some(next) = keys.into_iter().min() else {
            return Ok(Json(Collections { collections, cursor: None }));
        };
        collections.push(next.as_str().to_owned());
        after = Some(next);
    }
    let cursor = after.map(|name| name.as_str().to_owned());
    Ok(Json(Collections { collections, cursor }))
}

fn rows_of(answer: Answer) -> Vec<Row> {
    match answer {
        Answer::Page(page) => page.rows,
        Answer::Value(_) => Vec::new(),
    }
}

fn page(answers: Vec<Answer>) -> io::Page {
    match answers.into_iter().next() {
        Some(Answer::Page(page)) => page,
        Some(Answer::Value(_)) | None => io::Page::default(),
    }
}
