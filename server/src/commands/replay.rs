//! `replay`: tells the receivers of webhooks again what they were told before.

use super::{CommandError, say};
use crate::{
    Config, ServerError,
    data::DataDir,
    feed::{self, FeedError, Position},
    hubs::is_own,
    webhook::{Place, Places, Webhook},
};
use clap::Args;
use rejoin_core::{id::SpaceId, io::Batch, port::Store};
use rejoin_sqlite::{SqliteDb, SqliteOptions};

/// What is told again.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Replay {
    /// The space; by default all of them.
    #[arg(long, value_parser = SpaceId::parse)]
    space: Option<SpaceId>,
    /// The cursor that the receiver of the only webhook keeps, no earlier one: what has changed since comes again. By
    /// default everything, anew.
    #[arg(long, requires = "space")]
    since: Option<String>,
}

/// The next start of the server posts from there, to each webhook of the configuration that was told of the space.
pub(crate) fn run(config: &Config, replay: &Replay) -> Result<(), CommandError> {
    match (config.webhooks.as_slice(), &replay.since) {
        ([], _) => return Err(CommandError::NoWebhooks),
        // A cursor is what one receiver keeps: others would take nothing behind it.
        ([_, _, ..], Some(_)) => return Err(CommandError::ManyWebhooks),
        _ => {}
    }
    let directory = DataDir::new(&config.data);
    directory.refuse_unfinished().map_err(|error| CommandError::file(directory.path(), error))?;
    let path = directory.database();
    if !path.exists() {
        return Err(CommandError::NoDatabase(config.data.clone()));
    }
    let refused = |error| CommandError::database(directory.path(), error);
    let db = SqliteDb::open(path, &SqliteOptions::default()).map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = runtime.map_err(CommandError::Runtime)?.block_on(async {
        let told = replay_in(&db, config, replay).await;
        let closed = db.close().await.map_err(refused);
        told.and_then(|told| closed.map(|()| told))
    })?;
    told.iter().try_for_each(|(hook, space)| {
        say(format_args!("{hook}: {space} is posted again by the next start of the server"))
    })
}

/// All of them, or none; which.
async fn replay_in<'a>(
    db: &SqliteDb,
    config: &'a Config,
    replay: &Replay,
) -> Result<Vec<(&'a Webhook, SpaceId)>, CommandError> {
    let refused = |error| CommandError::database(&config.data, error);
    let mut spaces = db.spaces().await.map_err(refused)?;
    spaces.retain(|space| !is_own(space));
    if let Some(space) = &replay.space {
        spaces.retain(|known| known == space);
        if spaces.is_empty() {
            return Err(CommandError::NoSpace { space: space.clone(), path: config.data.clone() });
        }
    }
    let (mut moved, mut told) = (Batch::default(), Vec::new());
    for hook in &config.webhooks {
        let places = Places::new(db, hook).map_err(ServerError::from)?;
        for space in spaces.iter().filter(|space| hook.is_about(space)) {
            if places.were_told(space).await.map_err(refused)? {
                let place = place(db, space, replay.since.as_deref()).await?;
                places.put(&mut moved, space, &place);
                told.push((hook, space.clone()));
            }
        }
    }
    if told.is_empty() {
        return Err(CommandError::NoneTold);
    }
    let store = Places::store(db).map_err(ServerError::from)?;
    // Without guards it applies.
    store.commit(moved).await.map(drop).map_err(refused)?;
    Ok(told)
}

/// Where the receiver stands, if a page can be read from there.
async fn place(db: &SqliteDb, space: &SpaceId, since: Option<&str>) -> Result<Place, CommandError> {
    let Some(cursor) = since else {
        return Ok(Place::START);
    };
    let unknown = || CommandError::Cursor(cursor.to_owned());
    let position = Position::decode(cursor).ok_or_else(unknown)?;
    match feed::page(&db.space(space), &position, 1, |_| true).await {
        Ok(_) => Ok(Place { position, told: Some(cursor.to_owned()) }),
        Err(FeedError::Gone) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}
