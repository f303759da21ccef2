//! `inspect`: what is stored, as lines of JSON, also while the server runs.

use super::{
    CommandError,
    draft::Draft,
    look::{Look, ROWS},
    say, state,
};
use clap::Subcommand;
use rejoin_core::{
    id::{CollectionName, Pattern, RecordId, RecordKey, Seq, SpaceId},
    io::{Answer, Keyspace},
    protocol::{
        host::{HostNote, Standing, StoredRecord, StoredReplica, feed_query, read_feed},
        message::Place,
    },
};
use serde_json::{Map, Value as Json, json};
use std::num::NonZeroU32;

/// What is looked at.
#[derive(Debug, Subcommand)]
pub(crate) enum Inspect {
    /// A line for each space: its position, records and bytes.
    Spaces,
    /// One space: its position, epoch, clocks, collections, and what its rows take.
    Space {
        /// Its name.
        #[arg(value_parser = SpaceId::parse)]
        space: SpaceId,
    },
    /// A record with the stamps of all that it is made of.
    Record {
        /// Its space.
        #[arg(value_parser = SpaceId::parse)]
        space: SpaceId,
        /// Its collection.
        #[arg(value_parser = CollectionName::parse)]
        collection: CollectionName,
        /// Its id.
        #[arg(value_parser = RecordId::parse)]
        id: RecordId,
    },
    /// A line for each collection of a space: its records and its root.
    Tree {
        /// The space.
        #[arg(value_parser = SpaceId::parse)]
        space: SpaceId,
    },
    /// A line for each record of the feed: its position, collection and id.
    Feed {
        /// The space.
        #[arg(value_parser = SpaceId::parse)]
        space: SpaceId,
        /// Begins behind this position.
        #[arg(long, default_value = "0", value_name = "SEQ")]
        after: u64,
        /// Ends after so many lines.
        #[arg(long, value_name = "N")]
        limit: Option<NonZeroU32>,
    },
    /// A line for each replica that a space has heard of: whose it is, and the last write that was accepted from it.
    Clients {
        /// The space.
        #[arg(value_parser = SpaceId::parse)]
        space: SpaceId,
    },
}

pub(crate) fn run(look: &Look, inspect: &Inspect) -> Result<(), CommandError> {
    match inspect {
        Inspect::Spaces => look.spaces()?.iter().try_for_each(|name| tell(&summary(look, name)?)),
        Inspect::Space { space } => tell(&whole(look, space)?),
        Inspect::Record { space, collection, id } => {
            let key = RecordKey { collection: collection.clone(), id: id.clone() };
            tell(&record(look, space, &key)?)
        }
        Inspect::Tree { space } => tree(look, space),
        Inspect::Feed { space, after, limit } => feed(look, space, Seq(*after), *limit),
        Inspect::Clients { space } => clients(look, space),
    }
}

fn tell(line: &Json) -> Result<(), CommandError> {
    say(format_args!("{line}"))
}

fn standing(look: &Look, space: &SpaceId) -> Result<Option<Standing>, CommandError> {
    look.knows(space)?;
    let answers = look.read(space, &Standing::queries())?;
    Standing::read(answers).map_err(|source| look.damaged(space, source))
}

fn summary(look: &Look, space: &SpaceId) -> Result<Json, CommandError> {
    let position = standing(look, space)?.map(|standing| standing.head.0);
    let mut bytes = 0;
    for keyspace in Keyspace::ALL {
        bytes += look.of(look.snapshot.extent(space, keyspace))?.bytes;
    }
    let records = look.of(look.snapshot.extent(space, Keyspace::Records))?.rows;
    let space = space.as_str();
    Ok(json!({ "space": space, "position": position, "records": records, "bytes": bytes }))
}

fn whole(look: &Look, space: &SpaceId) -> Result<Json, CommandError> {
    let mut told = match standing(look, space)? {
        Some(standing) => json!({
            "space": space.as_str(),
            "position": standing.head.0,
            "epoch": standing.epoch.to_string(),
            "clock": state::time(standing.clock),
            "horizon": state::time(standing.horizon),
        }),
        None => json!({ "space": space.as_str() }),
    };
    let mut collections = Map::new();
    for name in look.collections(space, &Pattern::All)? {
        let (mut live, mut dead) = (0_u64, 0_u64);
        look.records(space, &name, &mut |_, stored| {
            if stored.record.is_live() {
                live += 1;
            } else {
                dead += 1;
            }
            Ok(())
        })?;
        collections.insert(name.as_str().to_owned(), json!({ "live": live, "removed": dead }));
    }
    let mut rows = Map::new();
    for keyspace in Keyspace::ALL {
        let extent = look.of(look.snapshot.extent(space, keyspace))?;
        if extent.rows > 0 {
            let extent = json!({ "rows": extent.rows, "bytes": extent.bytes });
            rows.insert(keyspace.name().to_owned(), extent);
        }
    }
    if let Json::Object(told) = &mut told {
        told.insert("collections".to_owned(), collections.into());
        told.insert("stored".to_owned(), rows.into());
    }
    Ok(told)
}

fn record(look: &Look, space: &SpaceId, key: &RecordKey) -> Result<Json, CommandError> {
    look.knows(space)?;
    let answers = look.read(space, &[StoredRecord::query(key)])?;
    let value = answers.into_iter().find_map(|answer| match answer {
        Answer::Value(value) => value,
        Answer::Page(_) => None,
    });
    let value = value.ok_or_else(|| CommandError::NoRecord(key.clone()))?;
    let stored = StoredRecord::read(&value).map_err(|source| look.damaged(space, source))?;
    let mut told = json!({
        "collection": key.collection.as_str(),
        "id": key.id.as_str(),
        "live": stored.record.is_live(),
        "position": stored.seq.0,
        "digest": stored.digest.to_string(),
    });
    if let Json::Object(told) = &mut told {
        told.extend(state::record(&stored.record));
    }
    Ok(told)
}

/// Has a host read the tree, as a server does that opens the space.
fn tree(look: &Look, space: &SpaceId) -> Result<(), CommandError> {
    look.knows(space)?;
    // Proofs are not looked at.
    let mut draft = Draft::open(&look.snapshot, space, [0; 32], false);
    look.of(draft.run(|_, note| matches!(note, HostNote::Ready { .. })))?;
    let facts = draft.host().facts();
    facts.collections.iter().try_for_each(|(name, root, records)| {
        let name = name.as_str();
        tell(&json!({ "collection": name, "records": records, "root": root.to_string() }))
    })
}

fn feed(
    look: &Look,
    space: &SpaceId,
    after: Seq,
    limit: Option<NonZeroU32>,
) -> Result<(), CommandError> {
    look.knows(space)?;
    let mut left = limit.map_or(u64::MAX, |limit| u64::from(limit.get()));
    let mut place = Place { seq: after, key: None };
    loop {
        let page = look.page(space, feed_query(&place, ROWS))?;
        for row in &page.rows {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            let found = read_feed(row).map_err(|source| look.damaged(space, source))?;
            let (seq, key, bytes) = found;
            tell(&json!({
                "position": seq.0,
                "collection": key.collection.as_str(),
                "id": key.id.as_str(),
                "bytes": bytes,
            }))?;
            place = Place { seq, key: Some(key) };
        }
        if !page.more {
            return Ok(());
        }
    }
}

fn clients(look: &Look, space: &SpaceId) -> Result<(), CommandError> {
    look.knows(space)?;
    let mut after = None;
    loop {
        let page = look.page(space, StoredReplica::query_all(after.as_ref(), ROWS))?;
        for row in &page.rows {
            let found = StoredReplica::read_row(row);
            let found = found.map_err(|source| look.damaged(space, source))?;
            tell(&json!({
                "replica": found.replica.to_string(),
                "principal": found.principal,
                "accepted": found.accepted.map(state::time),
            }))?;
            after = Some(found.replica);
        }
        if !page.more {
            return Ok(());
        }
    }
}
