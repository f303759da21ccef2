//! One request that writes: from what it asks for to the hub's answer.

use super::{Api, Caller, IDEMPOTENCY_KEY, REPLAYED, body, etag, problem::Problem};
use crate::{hub::Ask, spans};
use axum::http::{HeaderMap, HeaderValue};
use rejoin_core::{
    id::Seq,
    protocol::host::{
        DirectAnswer, DirectDone, DirectRecord, DirectResults, DirectRow, DirectWrite, MemoKey,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

/// Longest idempotency key, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 255;

/// What was written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Written {
    /// The record's collection.
    pub(crate) collection: String,
    /// Its id.
    pub(crate) id: String,
    /// The position of this change in the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    /// What the record is now; absent where it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// Whether it was there before.
    #[serde(skip)]
    pub(crate) was_live: bool,
}

impl Written {
    pub(crate) fn of(seq: Option<Seq>, record: &DirectRecord) -> Self {
        let DirectRecord { key, was_live, digest } = record;
        Self {
            collection: key.collection.as_str().to_owned(),
            id: key.id.as_str().to_owned(),
            seq: seq.map(|seq| seq.0),
            etag: digest.as_ref().map(etag::tag),
            was_live: *was_live,
        }
    }
}

/// The hub's answer, and headers that tell of it.
pub(crate) struct Answered {
    pub(crate) results: DirectResults,
    pub(crate) headers: HeaderMap,
}

/// What makes a request the same as another one, besides its name.
pub(crate) struct Content<'a> {
    /// Which operation, and on what.
    pub(crate) parts: &'a [&'a str],
    pub(crate) conditions: [Option<&'a str>; 2],
    pub(crate) body: &'a [u8],
}

impl Content<'_> {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        part(&(self.parts.len() as u64).to_be_bytes());
        self.parts.iter().for_each(|text| part(text.as_bytes()));
        for condition in self.conditions {
            part(&[u8::from(condition.is_some())]);
            part(condition.unwrap_or_default().as_bytes());
        }
        part(self.body);
        hasher.finalize().into()
    }
}

/// The name of a request, if it has one. Names of different principals are different.
///
/// # Errors
/// 400.
fn memo(
    headers: &HeaderMap,
    principal: &str,
    content: &Content<'_>,
) -> Result<Option<MemoKey>, Problem> {
    let Some(key) = body::text(headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !is_plain {
        let detail =
            format!("an idempotency key is 1 to {KEY_BYTES_MAX} letters, digits and signs");
        return Err(Problem::invalid(detail));
    }
    let mut hasher = blake3::Hasher::new();
    for part in [principal, key] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    Ok(Some(MemoKey { name: hasher.finalize().into(), content: content.digest() }))
}

impl Api {
    /// Has rows written, or learns that the same request has had them written.
    ///
    /// # Errors
    /// 400, 404, 409, 422, 429, 503; what became of each row is in the answer.
    pub(super) async fn write(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        rows: Vec<DirectRow>,
        content: &Content<'_>,
    ) -> Result<Answered, Problem> {
        let grant = caller.grant.clone();
        let memo = memo(headers, &grant.principal, content)?;
        self.count(caller, rows.iter().map(|row| row.changes.len()).sum())?;
        let write = Box::new(DirectWrite { number: 0, grant, rows, memo });
        let answer = self.ask(caller, |reply| Ask::Write(write, spans::of_write(), reply)).await?;
        let mut told = HeaderMap::new();
        let results = match answer {
            DirectAnswer::Judged(results) => results,
            DirectAnswer::Remembered(results) => {
                told.insert(REPLAYED, HeaderValue::from_static("true"));
                results
            }
            refused @ (DirectAnswer::Reused
            | DirectAnswer::Unsure
            | DirectAnswer::Busy
            | DirectAnswer::Unavailable) => return Err(Problem::of_answer(&refused)),
        };
        Ok(Answered { results, headers: told })
    }

    /// The same for one row.
    ///
    /// # Errors
    /// Why the row was not written, too.
    pub(super) async fn write_one(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        row: DirectRow,
        content: &Content<'_>,
    ) -> Result<(DirectDone, HeaderMap), Problem> {
        let answered = self.write(caller, headers, vec![row], content).await?;
        match answered.results.into_iter().next() {
            Some(Ok(done)) => Ok((done, answered.headers)),
            Some(Err(refusal)) => Err(Problem::of_refusal(&refusal)),
            None => Err(Problem::storage()),
        }
    }
}
