//! One record: read, put, patched, removed, made.

use super::{
    Api, SEQ, body,
    body::Received,
    etag, forms,
    problem::{BodyRefused, Problem, Refused, WriteRefused},
    write::{Content, Written},
};
use crate::secret;
use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rejoin_core::{
    id::{Digest, RecordKey, Seq},
    io::Answer,
    protocol::host::{DirectDone, DirectRow, Expected, StoredRecord},
    record::visible_kinds,
    replica::{Action, Change},
};
use serde::Deserialize;
use serde_json::{Map, Value as Json_};
use utoipa::{IntoParams, ToSchema};

/// The fields of a record. A field that is not the usual kind (last write wins) is an object with one name, which says
/// the kind: `{"$counter": 3}`, `{"$set": [1, 2]}`, `{"$review": ["one", "other"]}`, `{"$max": 7}`, `{"$min": 7}`,
/// `{"$fww": "first"}`; so are values that JSON lacks: `{"$bytes": "AAE="}`, `{"$float": "NaN"}`. A map with one name
/// that begins so is `{"$map": {...}}`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({"title": "Buy milk", "votes": {"$counter": 3}}))]
#[expect(dead_code, reason = "it documents")]
pub(crate) struct Fields(Map<String, Json_>);

/// Fields of a record, or what is to be done to them: `{"$increment": 1}` (a counter), `{"$insert": [1]}` and
/// `{"$delete": [1]}` (a set), `{"$resolve": "this"}` (a review), `{"$clear": "counter"}` (a field of the kind that is
/// named; it becomes absent).
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({"done": true, "votes": {"$increment": 1}}))]
#[expect(dead_code, reason = "it documents")]
pub(crate) struct Operations(Map<String, Json_>);

/// Which record.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Named {
    /// The space; a slash in it is `%2F`
    #[param(example = "demo")]
    space: String,
    /// The collection; a slash in it is `%2F`
    #[param(example = "tasks")]
    collection: String,
    /// The record's id; a slash in it is `%2F`
    #[param(example = "1")]
    id: String,
}

/// Which collection.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Place {
    /// The space; a slash in it is `%2F`
    #[param(example = "demo")]
    pub(super) space: String,
    /// The collection; a slash in it is `%2F`
    #[param(example = "tasks")]
    pub(super) collection: String,
}

/// How a record is patched.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Patching {
    /// Whether a record that is not there is made
    #[serde(default)]
    upsert: bool,
}

/// How a record is removed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removing {
    /// Whether its values are overwritten, too
    #[serde(default)]
    erase: bool,
}

/// Reads a record
#[utoipa::path(
    get,
    path = "/v1/spaces/{space}/collections/{collection}/records/{id}",
    tag = "records",
    operation_id = "getRecord",
    params(Named, ("If-None-Match" = Option<String>, Header, description = "tags that are known already")),
    responses(
        (status = 200, description = "Its fields", body = Fields,
         headers(("ETag" = String, description = "its state"), ("Rejoin-Seq" = u64, description = "its place in the feed"))),
        (status = 304, description = "It is one of those that are known"),
        Refused,
    )
)]
pub(crate) async fn get(
    State(api): State<Api>,
    Path(named): Path<Named>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    body::accepts(&headers, "application/json")?;
    let caller = api.admit(&headers, &named.space).await?;
    let key = caller.record(&named.collection, &named.id)?;
    let mut answers = api.read(&caller.space, &[StoredRecord::query(&key)]).await?;
    let Some(Answer::Value(Some(value))) = answers.pop() else {
        return Err(Problem::absent());
    };
    let stored = StoredRecord::read(&value).map_err(|error| api.damaged(&caller.space, &error))?;
    if !stored.record.is_live() {
        return Err(Problem::absent());
    }
    let told = told(&stored.digest, Some(stored.seq));
    if etag::is_known(&headers, &stored.digest)? {
        return Ok((StatusCode::NOT_MODIFIED, told).into_response());
    }
    let fields = visible_kinds(&stored.record);
    Ok((told, Json(rejoin_json::fields(&fields))).into_response())
}

/// What headers tell of a record.
fn told(digest: &Digest, seq: Option<Seq>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Letters and digits are a header's value.
    headers.extend(HeaderValue::from_str(&etag::tag(digest)).ok().map(|tag| (header::ETAG, tag)));
    headers.extend(seq.map(|seq| (SEQ, HeaderValue::from(seq.0))));
    headers
}

/// Makes a record just what the body says
///
/// Fields that are not named become absent.
#[utoipa::path(
    put,
    path = "/v1/spaces/{space}/collections/{collection}/records/{id}",
    tag = "records",
    operation_id = "putRecord",
    params(
        Named,
        ("If-Match" = Option<String>, Header, description = "tags of states, one of which it must have, or *"),
        ("If-None-Match" = Option<String>, Header, description = "*: it must not be there"),
        ("Idempotency-Key" = Option<String>, Header, description = "names the request: it is done once"),
    ),
    request_body = Fields,
    responses(
        (status = 200, description = "It was there and is written", body = Written),
        (status = 201, description = "It was not there and is", body = Written),
        Refused, WriteRefused, BodyRefused,
    )
)]
pub(crate) async fn put(
    State(api): State<Api>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (request, body) = Request::read(&api, &named, &headers, body).await?;
    let action = Action::Put(forms::whole(body.json).map_err(Problem::unprocessable)?);
    request.write(&api, "put", action, &body.bytes).await
}

/// Changes some fields of a record
#[utoipa::path(
    patch,
    path = "/v1/spaces/{space}/collections/{collection}/records/{id}",
    tag = "records",
    operation_id = "patchRecord",
    params(
        Named,
        Patching,
        ("If-Match" = Option<String>, Header, description = "tags of states, one of which it must have, or *"),
        ("Idempotency-Key" = Option<String>, Header, description = "names the request: it is done once"),
    ),
    request_body = Operations,
    responses(
        (status = 200, description = "It is written", body = Written),
        (status = 201, description = "It was not there, and `upsert` has made it", body = Written),
        Refused, WriteRefused, BodyRefused,
    )
)]
pub(crate) async fn patch(
    State(api): State<Api>,
    Path(named): Path<Named>,
    Query(how): Query<Patching>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (request, body) = Request::read(&api, &named, &headers, body).await?;
    let fields = forms::touched(body.json).map_err(Problem::unprocessable)?;
    let (name, action) = match how.upsert {
        true => ("upsert", Action::Upsert(fields)),
        false => ("patch", Action::Update(fields)),
    };
    request.write(&api, name, action, &body.bytes).await
}

/// Removes a record
#[utoipa::path(
    delete,
    path = "/v1/spaces/{space}/collections/{collection}/records/{id}",
    tag = "records",
    operation_id = "deleteRecord",
    params(
        Named,
        Removing,
        ("If-Match" = Option<String>, Header, description = "tags of states, one of which it must have, or *"),
        ("Idempotency-Key" = Option<String>, Header, description = "names the request: it is done once"),
    ),
    responses((status = 204, description = "It is removed"), Refused, RemoveRefused)
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    Path(named): Path<Named>,
    Query(how): Query<Removing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let request = Request::admit(&api, &named, &headers).await?;
    let (name, erase) = if how.erase { ("erase", true) } else { ("remove", false) };
    let (done, told) = request.done(&api, name, Action::Remove { erase }, &[]).await?;
    if !done.records.iter().any(|record| record.was_live) {
        return Err(Problem::absent());
    }
    Ok((StatusCode::NO_CONTENT, told).into_response())
}

/// Makes a record under a new id
#[utoipa::path(
    post,
    path = "/v1/spaces/{space}/collections/{collection}/records",
    tag = "records",
    operation_id = "createRecord",
    params(
        Place,
        ("Idempotency-Key" = Option<String>, Header, description = "names the request: it is done once"),
    ),
    request_body = Fields,
    responses(
        (status = 201, description = "It is there", body = Written,
         headers(("Location" = String, description = "its path"))),
        Refused, WriteRefused, BodyRefused,
    )
)]
pub(crate) async fn create(
    State(api): State<Api>,
    Path(place): Path<Place>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = new_id().map_err(|_no_randomness| Problem::storage())?;
    let named = Named { space: place.space, collection: place.collection, id };
    let (request, body) = Request::read(&api, &named, &headers, body).await?;
    let action = Action::Add(forms::whole(body.json).map_err(Problem::unprocessable)?);
    // The id is the server's: it tells two requests apart only by their names.
    let (done, mut told) = request.done(&api, "create", action, &body.bytes).await?;
    let written = request.written(&done);
    let path = format!(
        "/v1/spaces/{}/collections/{}/records/{}",
        segment(&named.space),
        segment(&written.collection),
        segment(&written.id)
    );
    told.extend(HeaderValue::from_str(&path).ok().map(|path| (header::LOCATION, path)));
    Ok((StatusCode::CREATED, told, Json(written)).into_response())
}

/// A random UUID (RFC 9562, version 4): 16 bytes as a key.
fn new_id() -> std::io::Result<String> {
    let mut bytes = u128::from_be_bytes(secret::random()?);
    bytes &= !(0xf << 76) & !(0x3 << 62);
    bytes |= (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bytes:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Vec<&str> = parts.into_iter().filter_map(|part| hex.get(part)).collect();
    Ok(parts.join("-"))
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let write = |byte: u8| {
        if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    name.bytes().map(write).collect()
}

/// Why a removal was not done.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it documents")]
pub(crate) enum RemoveRefused {
    /// The bearer of this token may read here and not write
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The record is not what `If-Match` expects
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(Problem),
    /// The idempotency key was used for another request
    #[response(status = 422, content_type = "application/problem+json")]
    KeyReused(Problem),
    /// Too much waits, or the store fails
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(Problem),
}

/// A request to write one record.
struct Request<'a> {
    caller: super::Caller,
    key: RecordKey,
    headers: &'a HeaderMap,
    expected: Vec<Expected>,
}

impl<'a> Request<'a> {
    async fn admit(api: &Api, named: &Named, headers: &'a HeaderMap) -> Result<Self, Problem> {
        body::accepts(headers, "application/json")?;
        let caller = api.admit(headers, &named.space).await?;
        let key = caller.record(&named.collection, &named.id)?;
        let expected = etag::conditions(headers)?;
        Ok(Self { caller, key, headers, expected })
    }

    async fn read(
        api: &Api,
        named: &Named,
        headers: &'a HeaderMap,
        body: Body,
    ) -> Result<(Self, Received<Map<String, Json_>>), Problem> {
        let request = Self::admit(api, named, headers).await?;
        let received = body::read_object(api, &request.caller, headers, body).await?;
        Ok((request, received))
    }

    async fn done(
        &self,
        api: &Api,
        name: &str,
        action: Action,
        bytes: &[u8],
    ) -> Result<(DirectDone, HeaderMap), Problem> {
        let expected = self.expected.iter().map(|expected| (self.key.clone(), expected.clone()));
        let changes = vec![Change { key: self.key.clone(), action }];
        let row = DirectRow { expected: expected.collect(), changes };
        let id = if name == "create" { "" } else { self.key.id.as_str() };
        let content = Content {
            parts: &[name, self.key.collection.as_str(), id],
            conditions: [
                body::text(self.headers, &header::IF_MATCH)?,
                body::text(self.headers, &header::IF_NONE_MATCH)?,
            ],
            body: bytes,
        };
        api.write_one(&self.caller, self.headers, row, &content).await
    }

    fn written(&self, done: &DirectDone) -> Written {
        match done.records.first() {
            Some(record) => Written::of(done.seq, record),
            None => Written {
                collection: self.key.collection.as_str().to_owned(),
                id: self.key.id.as_str().to_owned(),
                seq: None,
                etag: None,
                was_live: true,
            },
        }
    }

    async fn write(
        &self,
        api: &Api,
        name: &str,
        action: Action,
        bytes: &[u8],
    ) -> Result<Response, Problem> {
        let (done, mut headers) = self.done(api, name, action, bytes).await?;
        if let Some(digest) = done.records.first().and_then(|record| record.digest) {
            headers.extend(told(&digest, done.seq));
        }
        let written = self.written(&done);
        let status = if written.was_live { StatusCode::OK } else { StatusCode::CREATED };
        Ok((status, headers, Json(written)).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rejoin_core::id::RecordId;

    #[test]
    fn new_ids_are_uuids_and_names_are_segments() {
        let id = new_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert!(RecordId::parse(&id).is_ok());
        assert_eq!(segment("tasks/42 é~"), "tasks%2F42%20%C3%A9~");
    }
}
