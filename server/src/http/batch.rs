//! Many writes in one request: each by itself, or all together.

use super::{
    Api, body, etag, forms,
    list::InSpace,
    problem::{BodyRefused, Problem, Refused, WriteRefused},
    write::{Content, Written},
};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use rejoin_core::{
    id::{CollectionName, NameError, Pattern, RecordId, RecordKey},
    protocol::host::{DirectDone, DirectRow, Expected},
    replica::{Action, Change},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json_};
use utoipa::ToSchema;

/// Most writes of a batch.
const ITEMS_MAX: usize = 1_000;

/// A batch of writes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    /// Whether all is written or nothing, at one position; else each item by itself, in order
    #[serde(default)]
    atomic: bool,
    /// What to write
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<Item>,
}

/// One write of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// What to do
    op: Op,
    /// The record's collection
    collection: String,
    /// The record's id
    id: String,
    /// Its fields (`put`, `add`), or what is to be done to them (`patch`, `upsert`)
    #[schema(value_type = super::records::Operations)]
    #[serde(default)]
    fields: Map<String, Json_>,
    /// As the header `If-Match`
    #[serde(default)]
    if_match: Option<String>,
}

/// What an item does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Makes the record just this
    Put,
    /// The same, and it must not be there
    Add,
    /// Changes what is named, and it must be there
    Patch,
    /// Changes what is named, there or not
    Upsert,
    /// Removes it
    Delete,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Results {
    /// One for each item, in their order.
    results: Vec<Outcome>,
}

/// What became of an item.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// It is written.
    Done {
        /// What it would be alone: 200, 201, 204, 404.
        status: u16,
        /// What was written.
        #[serde(flatten)]
        written: Written,
    },
    /// It is not.
    Refused {
        /// What it would be alone.
        status: u16,
        /// Why.
        problem: Problem,
    },
}

/// A change, and what is expected of its record.
type Wanted = (Change, Vec<(RecordKey, Expected)>);

impl Item {
    /// What it asks for, whoever asks.
    fn wanted(self) -> Result<Wanted, String> {
        let name = |error: NameError| error.to_string();
        let collection = CollectionName::parse(&self.collection).map_err(name)?;
        let id = RecordId::parse(&self.id).map_err(name)?;
        let key = RecordKey { collection, id };
        let action = match self.op {
            Op::Put => Action::Put(forms::whole(self.fields)?),
            Op::Add => Action::Add(forms::whole(self.fields)?),
            Op::Patch => Action::Update(forms::touched(self.fields)?),
            Op::Upsert => Action::Upsert(forms::touched(self.fields)?),
            Op::Delete if self.fields.is_empty() => Action::Remove { erase: false },
            Op::Delete => return Err("delete takes no fields".to_owned()),
        };
        let expected = self.if_match.as_deref().map(etag::expected).transpose()?;
        let expected = expected.map(|expected| (key.clone(), expected));
        Ok((Change { key, action }, expected.into_iter().collect()))
    }
}

/// Writes many records
#[utoipa::path(
    post,
    path = "/v1/spaces/{space}/batch",
    tag = "records",
    operation_id = "writeBatch",
    params(
        InSpace,
        ("Idempotency-Key" = Option<String>, Header, description = "names the request: it is done once"),
    ),
    request_body = Batch,
    responses(
        (status = 200, description = "What became of each item", body = Results),
        (status = 409, description = "An atomic batch adds what is there", body = Problem, content_type = "application/problem+json"),
        Refused, WriteRefused, BodyRefused,
    )
)]
pub(crate) async fn write(
    State(api): State<Api>,
    Path(place): Path<InSpace>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &place.space).await?;
    let received = body::read(&api, &caller, &headers, body).await?;
    let batch: Batch = serde_json::from_value(received.json)
        .map_err(|error| Problem::unprocessable(format!("the batch: {error}")))?;
    if batch.items.is_empty() || batch.items.len() > ITEMS_MAX {
        return Err(Problem::unprocessable(format!("a batch has 1 to {ITEMS_MAX} items")));
    }
    let wanted = batch.items.into_iter().enumerate().map(|(at, item)| {
        item.wanted().map_err(|why| Problem::unprocessable(format!("item {at}: {why}")))
    });
    let wanted = wanted.collect::<Result<Vec<Wanted>, Problem>>()?;
    let reads =
        |change: &Change| caller.grant.reads(&Pattern::Exact(change.key.collection.clone()));
    // The answer that is kept has a result for each of those: with other rights it is another request.
    let seen: String =
        wanted.iter().map(|(change, _)| if reads(change) { '1' } else { '0' }).collect();
    let parts = ["batch", seen.as_str()];
    let content = Content { parts: &parts, conditions: [None, None], body: &received.bytes };
    // What the caller may not read looks as what is not there.
    let items = wanted.into_iter().map(|(change, expected)| {
        if reads(&change) { Ok((change, expected)) } else { Err(Problem::absent()) }
    });
    if batch.atomic {
        let items = items.collect::<Result<Vec<_>, Problem>>()?;
        let keys: Vec<RecordKey> = items.iter().map(|(change, _)| change.key.clone()).collect();
        let (changes, expected): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let expected = expected.into_iter().flatten().collect();
        let row = DirectRow { expected, changes };
        let (done, told) = api.write_one(&caller, &headers, row, &content).await?;
        let results = keys.iter().map(|key| outcome(key, &done)).collect();
        return Ok((told, Json(Results { results })).into_response());
    }
    // What cannot be asked of the hub is answered in its place.
    let mut rows = Vec::new();
    let mut keys = Vec::new();
    for item in items {
        keys.push(item.map(|(change, expected)| {
            let key = change.key.clone();
            rows.push(DirectRow { expected, changes: vec![change] });
            key
        }));
    }
    let answered = api.write(&caller, &headers, rows, &content).await?;
    let mut judged = answered.results.into_iter();
    let results = keys.into_iter().map(|key| match key {
        Err(problem) => refused(problem),
        Ok(key) => match judged.next() {
            Some(Ok(done)) => outcome(&key, &done),
            Some(Err(refusal)) => refused(Problem::of_refusal(&refusal)),
            None => refused(Problem::storage()),
        },
    });
    let results = results.collect();
    Ok((answered.headers, Json(Results { results })).into_response())
}

fn refused(problem: Problem) -> Outcome {
    Outcome::Refused { status: problem.status(), problem }
}

fn outcome(key: &RecordKey, done: &DirectDone) -> Outcome {
    let Some(record) = done.records.iter().find(|record| record.key == *key) else {
        // A removal that found nothing.
        return refused(Problem::absent());
    };
    let status = match (record.was_live, record.digest.is_some()) {
        (true, true) => 200,
        (false, true) => 201,
        (true, false) => 204,
        (false, false) => return refused(Problem::absent()),
    };
    Outcome::Done { status, written: Written::of(done.seq, record) }
}
