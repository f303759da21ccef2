//! A record's history of stamps: who wrote which field when, what is seen, what is removed. No values.

use super::{
    Asked, Desk, Refusal, failed,
    lists::{damaged, named, store},
    refuse,
};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rejoin_core::{
    hlc::{Hlc, Stamp},
    id::{CollectionName, RecordId, RecordKey, ReplicaId, SpaceId},
    io::Answer,
    port::Store,
    protocol::host::{StoredRecord, StoredReplica},
    record::{Cell, State as CellState, VersionVector},
};
use rejoin_sqlite::{SqliteError, SqliteStore};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

/// Replicas of one record whose principals are looked up.
const NAMED_MAX: usize = 64;
/// Writes of one field that are told.
const WRITES_MAX: usize = 100;

/// Which record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    space: String,
    collection: String,
    id: String,
}

/// The stamps of a record.
pub(super) async fn record(
    State(desk): State<Desk>,
    Asked(asked): Asked<Which>,
) -> Result<Response, Refusal> {
    let space = named(&asked.space, SpaceId::parse)?;
    let collection = named(&asked.collection, CollectionName::parse)?;
    let key = RecordKey { collection, id: named(&asked.id, RecordId::parse)? };
    let store = store(&desk, &space)?;
    let answers = store.read(&[StoredRecord::query(&key)]).await;
    let value =
        answers.map_err(|fault| failed(&fault))?.into_iter().find_map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Page(_) => None,
        });
    let missing = || refuse(StatusCode::NOT_FOUND, "there is no such record");
    let value = value.ok_or_else(missing)?;
    let stored = StoredRecord::read(&value).map_err(|error| damaged(&desk, &space, &error))?;
    let record = &stored.record;
    let mut writers = Writers::default();
    let cells: Vec<JsonValue> = record
        .cells
        .iter()
        .map(|((field, kind), cell)| {
            let mut told = writers.cell(cell);
            told.insert("field".to_owned(), field.as_str().into());
            told.insert("kind".to_owned(), format!("{kind:?}").to_lowercase().into());
            JsonValue::Object(told)
        })
        .collect();
    let (seen, seen_left_out) = writers.vector(&record.seen);
    let (removed, removed_left_out) = writers.vector(&record.removed.seen);
    let principals = writers.principals(&store).await.map_err(|fault| failed(&fault))?;
    Ok(Json(json!({
        "space": space.as_str(),
        "collection": key.collection.as_str(),
        "id": key.id.as_str(),
        "live": record.is_live(),
        "position": stored.seq.0,
        "digest": stored.digest.to_string(),
        "bytes": value.len(),
        "cells": cells,
        "seen": seen,
        "seen_left_out": seen_left_out,
        "removed": removed,
        "removed_left_out": removed_left_out,
        "buried": record.removed.buried.map(time),
        "principals": principals,
    }))
    .into_response())
}

/// Milliseconds since 1970, and what counts within one.
fn time(hlc: Hlc) -> JsonValue {
    json!({ "at": hlc.wall().0, "count": hlc.to_bits() & 0xffff })
}

/// Who wrote what is told of.
#[derive(Debug, Default)]
struct Writers(BTreeSet<ReplicaId>);

impl Writers {
    fn stamp(&mut self, stamp: Stamp) -> JsonValue {
        if self.0.len() < NAMED_MAX {
            self.0.insert(stamp.replica);
        }
        let Stamp { hlc, replica } = stamp;
        json!({ "at": hlc.wall().0, "count": hlc.to_bits() & 0xffff, "replica": replica.to_string() })
    }

    /// The newest first, and how many are left out.
    fn stamps(&mut self, stamps: impl IntoIterator<Item = Stamp>) -> (Vec<JsonValue>, usize) {
        let mut stamps: Vec<Stamp> = stamps.into_iter().collect();
        stamps.sort_by_key(|stamp| std::cmp::Reverse(*stamp));
        let left_out = stamps.len().saturating_sub(WRITES_MAX);
        stamps.truncate(WRITES_MAX);
        (stamps.into_iter().map(|stamp| self.stamp(stamp)).collect(), left_out)
    }

    fn vector(&mut self, seen: &VersionVector) -> (Vec<JsonValue>, usize) {
        self.stamps(seen.iter())
    }

    /// The writes that a field holds, and those that it knows of.
    fn cell(&mut self, cell: &Cell) -> Map<String, JsonValue> {
        let (by, context) = match &cell.state {
            CellState::Lww { stamp, .. } => (vec![*stamp], None),
            CellState::Fww(first) => (first.iter().map(|(stamp, _)| *stamp).collect(), None),
            CellState::Set(set) => {
                let adds = set.elements.values().flat_map(VersionVector::iter);
                (adds.collect(), Some(&set.context))
            }
            CellState::Review(siblings) => {
                (siblings.values.keys().copied().collect(), Some(&siblings.context))
            }
            // These keep numbers, and no writes.
            CellState::Max(_)
            | CellState::Min(_)
            | CellState::Counter(_)
            | CellState::Later { .. } => (Vec::new(), None),
        };
        let mut told = Map::new();
        let (writes, left_out) = self.stamps(by);
        told.insert("writes".to_owned(), writes.into());
        told.insert("left_out".to_owned(), left_out.into());
        if let Some(context) = context {
            let (knows, left_out) = self.vector(context);
            told.insert("knows".to_owned(), knows.into());
            told.insert("knows_left_out".to_owned(), left_out.into());
        }
        if let CellState::Counter(counter) = &cell.state {
            let replicas = counter.0.iter().take(WRITES_MAX).map(|(replica, _)| *replica);
            let replicas: Vec<ReplicaId> = replicas.collect();
            self.0.extend(replicas.iter().take(NAMED_MAX.saturating_sub(self.0.len())));
            let replicas: Vec<String> = replicas.iter().map(ToString::to_string).collect();
            told.insert("counted_by".to_owned(), replicas.into());
        }
        if let Some(since) = cell.since {
            told.insert("since".to_owned(), self.stamp(since));
        }
        told
    }

    /// Whose they are.
    async fn principals(
        &self,
        store: &SqliteStore,
    ) -> Result<BTreeMap<String, String>, SqliteError> {
        let before = |replica: &ReplicaId| {
            let number = u128::from_be_bytes(*replica.as_bytes()).checked_sub(1)?;
            Some(ReplicaId::from_bytes(number.to_be_bytes()))
        };
        let queries: Vec<_> = self
            .0
            .iter()
            .map(|replica| StoredReplica::query_all(before(replica).as_ref(), NonZeroU32::MIN))
            .collect();
        let answers = store.read(&queries).await?;
        let rows = answers.into_iter().filter_map(|answer| match answer {
            Answer::Page(page) => page.rows.into_iter().next(),
            Answer::Value(_) => None,
        });
        // A row that is damaged is found by the hub; its replica has no name here.
        let found = rows.filter_map(|row| StoredReplica::read_row(&row).ok());
        let found = found.filter(|found| self.0.contains(&found.replica));
        Ok(found.map(|found| (found.replica.to_string(), found.principal)).collect())
    }
}
