//! Lists: spaces, who is connected, known replicas, collections, records. Each in pages, with the place where the next
//! one begins.
//!
//! Invariant: a page has [`PAGE_MAX`] entries at most, and costs about as much as it has entries. Absent: values.

use super::{
    Asked, Desk, PAGE_MAX, Refusal, failed,
    pulse::{Lag, Seat},
    refuse, sampler, standing,
};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rejoin_core::{
    codec::CodecError,
    id::{CollectionName, Pattern, RecordId, ReplicaId, Seq, SpaceId},
    io::{Answer, Page, Query},
    port::Store,
    protocol::host::{PeerId, StoredRecord, StoredReplica, collection_queries},
};
use rejoin_sqlite::SqliteStore;
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use std::{num::NonZeroU32, sync::atomic::Ordering};

/// Names that one request looks through for a part of them.
const NAMES_MAX: usize = 2_000;
/// Bytes of records that one request reads, about.
const BYTES_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add((1 << 20) - 1);

/// Entries of a page.
pub(super) fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)
}

fn rows(limit: usize) -> NonZeroU32 {
    u32::try_from(limit).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// A name that was asked for.
pub(super) fn named<T, E: std::fmt::Display>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Refusal> {
    parse(text).map_err(|error| refuse(StatusCode::BAD_REQUEST, format!("{text}: {error}")))
}

/// The store of a space that there is.
pub(super) fn store(desk: &Desk, space: &SpaceId) -> Result<SqliteStore, Refusal> {
    let hubs = &desk.admin.hubs;
    let missing = || refuse(StatusCode::NOT_FOUND, "there is no such space");
    if hubs.has(space) { Ok(hubs.store(space)) } else { Err(missing()) }
}

/// Opens a space in which something stored cannot be read: its hub puts that right.
pub(super) fn damaged(desk: &Desk, space: &SpaceId, error: &CodecError) -> Refusal {
    desk.admin.hubs.mend(space, error);
    refuse(StatusCode::SERVICE_UNAVAILABLE, "a stored row is damaged")
}

async fn page(store: &SqliteStore, query: Query) -> Result<Page, Refusal> {
    let answers = store.read(&[query]).await.map_err(|fault| failed(&fault))?;
    let page = answers.into_iter().find_map(|answer| match answer {
        Answer::Page(page) => Some(page),
        Answer::Value(_) => None,
    });
    Ok(page.unwrap_or_default())
}

/// Which spaces.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spaces {
    /// This one alone.
    space: Option<String>,
    /// Those behind this one by name.
    after: Option<String>,
    /// Those with this in their name.
    contains: Option<String>,
    limit: Option<usize>,
}

/// Spaces by name, with what they take.
pub(super) async fn spaces(
    State(desk): State<Desk>,
    Asked(asked): Asked<Spaces>,
) -> Result<Response, Refusal> {
    let after = asked.after.as_deref().map(|name| named(name, SpaceId::parse)).transpose()?;
    let part = asked.contains.unwrap_or_default();
    let limit = limit(asked.limit);
    let (names, next) = match &asked.space {
        None => desk.admin.hubs.names(after.as_ref(), &part, limit, NAMES_MAX),
        Some(name) => {
            let space = named(name, SpaceId::parse)?;
            let found = desk.admin.hubs.has(&space).then_some(space);
            (found.into_iter().collect(), None)
        }
    };
    let mut told = Vec::with_capacity(names.len());
    for space in names {
        told.push(desk.space(&space).await?);
    }
    let next = next.map(|name| name.to_string());
    Ok(Json(json!({ "spaces": told, "next": next })).into_response())
}

impl Desk {
    async fn space(&self, space: &SpaceId) -> Result<JsonValue, Refusal> {
        let admin = &self.admin;
        let stored = standing(&admin.hubs.store(space)).await.map_err(|fault| failed(&fault))?;
        let head = stored.as_ref().map_or(Seq(0), |standing| standing.head);
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let open = admin.observer.pulse(space).map(|pulse| {
            json!({
                "clients": pulse.seats().len(),
                "accepted": count(&pulse.accepted),
                "refused": count(&pulse.refused),
                "conflicts": count(&pulse.conflicts),
            })
        });
        Ok(json!({
            "space": space.as_str(),
            "head": stored.as_ref().map(|standing| standing.head.0),
            "epoch": stored.as_ref().map(|standing| standing.epoch.to_string()),
            "clock": stored.as_ref().map(|standing| standing.clock.wall().0),
            "horizon": stored.as_ref().map(|standing| standing.horizon.wall().0),
            "size": admin.sizes.of(space, head),
            "open": open,
        }))
    }
}

/// Which of those who are connected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clients {
    space: Option<String>,
    /// Those who came after this one.
    after: Option<u64>,
    limit: Option<usize>,
}

/// Who is connected, in the order in which they came, and how far behind.
pub(super) async fn clients(
    State(desk): State<Desk>,
    Asked(asked): Asked<Clients>,
) -> Result<Response, Refusal> {
    let space = asked.space.as_deref().map(|name| named(name, SpaceId::parse)).transpose()?;
    if let Some(space) = &space {
        sampler::look(&desk.admin.hubs, space).await;
    }
    let limit = limit(asked.limit);
    let mut seats = desk.admin.observer.seats(space.as_ref(), asked.after.map(PeerId), limit + 1);
    let more = seats.len() > limit;
    seats.truncate(limit);
    let next = seats.last().filter(|_| more).map(|seat| seat.peer.0);
    let told: Vec<JsonValue> = seats.iter().map(|seat| client(seat, seat.lag())).collect();
    Ok(Json(json!({ "clients": told, "next": next })).into_response())
}

/// One who is connected.
pub(super) fn client(seat: &Seat, lag: Option<Lag>) -> JsonValue {
    let state = match (seat.welcomed.load(Ordering::Relaxed), lag) {
        (false, _) => "opening",
        (true, None) => "syncing",
        (true, Some(_)) => "live",
    };
    json!({
        "number": seat.peer.0,
        "space": seat.pulse.space.as_str(),
        "principal": seat.principal,
        "replica": seat.replica.to_string(),
        "since": seat.since.0,
        "state": state,
        "position": seat.read().map(|read| read.0),
        "head": seat.pulse.head().0,
        "lag": lag.map(|lag| json!({ "positions": lag.positions, "ms": lag.time.0 })),
        "unsent_bytes": seat.unsent(),
        "accepted": seat.accepted.load(Ordering::Relaxed),
        "refused": seat.refused.load(Ordering::Relaxed),
    })
}

/// Which replicas.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replicas {
    space: String,
    /// Those behind this one by id.
    after: Option<String>,
    limit: Option<usize>,
}

/// Replicas that a space has heard of, whose they are, and where they stood last.
pub(super) async fn replicas(
    State(desk): State<Desk>,
    Asked(asked): Asked<Replicas>,
) -> Result<Response, Refusal> {
    let space = named(&asked.space, SpaceId::parse)?;
    let after = asked.after.as_deref().map(replica_of).transpose()?;
    let store = store(&desk, &space)?;
    let head = standing(&store).await.map_err(|fault| failed(&fault))?;
    let head = head.map(|standing| standing.head.0);
    let query = StoredReplica::query_all(after.as_ref(), rows(limit(asked.limit)));
    let page = page(&store, query).await?;
    let connected = desk.admin.observer.connected(&space);
    let mut told = Vec::with_capacity(page.rows.len());
    let mut last = None;
    for row in &page.rows {
        let found = StoredReplica::read_row(row);
        let found = found.map_err(|error| damaged(&desk, &space, &error))?;
        let gone = desk.admin.observer.last_seen(&space, &found.replica);
        let read = gone.as_ref().and_then(|gone| gone.read);
        told.push(json!({
            "replica": found.replica.to_string(),
            "principal": found.principal,
            "accepted": found.accepted.map(|accepted| accepted.wall().0),
            "connected": connected.contains(&found.replica),
            "left": gone.map(|gone| gone.at.0),
            "position": read.map(|read| read.0),
        }));
        last = Some(found.replica);
    }
    let next = last.filter(|_| page.more).map(|replica| replica.to_string());
    Ok(Json(json!({ "replicas": told, "head": head, "next": next })).into_response())
}

/// An id in hexadecimal digits.
fn replica_of(text: &str) -> Result<ReplicaId, Refusal> {
    let bad = || refuse(StatusCode::BAD_REQUEST, "a replica has 32 hexadecimal digits");
    let bytes = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    bytes.map(|bytes| ReplicaId::from_bytes(bytes.to_be_bytes())).ok_or_else(bad)
}

/// Which collections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collections {
    space: String,
    /// Those behind this one by name.
    after: Option<String>,
    limit: Option<usize>,
}

/// The collections of a space, by name.
pub(super) async fn collections(
    State(desk): State<Desk>,
    Asked(asked): Asked<Collections>,
) -> Result<Response, Refusal> {
    let space = named(&asked.space, SpaceId::parse)?;
    let store = store(&desk, &space)?;
    let parse = |name: &String| named(name, CollectionName::parse);
    let mut last = asked.after.as_ref().map(parse).transpose()?;
    let limit = limit(asked.limit);
    let mut told = Vec::new();
    let mut more = false;
    while !more {
        let queries = collection_queries(last.as_ref(), &Pattern::All);
        let answers = store.read(&queries).await.map_err(|fault| failed(&fault))?;
        let row = answers.into_iter().find_map(|answer| match answer {
            Answer::Page(page) => page.rows.into_iter().next(),
            Answer::Value(_) => None,
        });
        let Some(row) = row else { break };
        more = told.len() == limit;
        if !more {
            let (key, _) =
                StoredRecord::read_row(&row).map_err(|error| damaged(&desk, &space, &error))?;
            told.push(key.collection.to_string());
            last = Some(key.collection);
        }
    }
    let next = told.last().filter(|_| more).cloned();
    Ok(Json(json!({ "collections": told, "next": next })).into_response())
}

/// Which records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Records {
    space: String,
    collection: String,
    /// Those behind this one by id.
    after: Option<String>,
    limit: Option<usize>,
}

/// Records of a collection by id: where they stand, and whether they are removed.
pub(super) async fn records(
    State(desk): State<Desk>,
    Asked(asked): Asked<Records>,
) -> Result<Response, Refusal> {
    let space = named(&asked.space, SpaceId::parse)?;
    let collection = named(&asked.collection, CollectionName::parse)?;
    let after = asked.after.as_deref().map(|id| named(id, RecordId::parse)).transpose()?;
    let store = store(&desk, &space)?;
    let limit = rows(limit(asked.limit));
    let query = StoredRecord::query_all(&collection, after.as_ref(), limit, BYTES_MAX);
    let page = page(&store, query).await?;
    let mut told = Vec::with_capacity(page.rows.len());
    let mut last = None;
    for row in &page.rows {
        let found = StoredRecord::read_row(row);
        let (key, stored) = found.map_err(|error| damaged(&desk, &space, &error))?;
        let at = stored.record.seen.iter().map(|stamp| stamp.hlc.wall().0).max();
        told.push(json!({
            "id": key.id.as_str(),
            "live": stored.record.is_live(),
            "position": stored.seq.0,
            "written": at,
            "bytes": row.value.len(),
        }));
        last = Some(key.id.to_string());
    }
    let next = last.filter(|_| page.more);
    Ok(Json(json!({ "records": told, "next": next })).into_response())
}
