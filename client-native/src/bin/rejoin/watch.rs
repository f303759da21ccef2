//! Watch: each change as a line of JSON.

use crate::{
    CliError, Outcome,
    args::Watch,
    output::{Progress, complain, say},
    session::Session,
};
use rejoin_client::{Client, CollectionName, Link, Notice, RecordKey};
use rejoin_json::line;

/// Prints changes until Ctrl-C.
pub(crate) async fn run(args: Watch) -> Result<Outcome, CliError> {
    let collection = &args.place.collection;
    let mut session = Session::open(&args.place, false).await?;
    session.synced(&mut Progress::new()).await?;
    // From here on, so that nothing falls between.
    let mut notices = session.client.notices();
    if args.all {
        print_all(&session.client, collection)?;
    }
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut was_live = true;
    loop {
        let notice = tokio::select! {
            signal = &mut interrupted => {
                signal?;
                break;
            }
            notice = notices.next() => notice,
        };
        match notice {
            Ok(Some(Notice::Changed(keys))) => {
                for key in keys.iter().filter(|key| key.collection == *collection) {
                    print(&session.client, key)?;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            // What changed is not known any more: everything may have.
            Err(_missed) => print_all(&session.client, collection)?,
        }
        session.take_notices()?;
        let is_live = session.client.status().link == Link::Live;
        if is_live != was_live {
            was_live = is_live;
            complain(if is_live { "connected again" } else { "disconnected, trying again" });
        }
    }
    session.close().await?;
    Ok(Outcome::Good)
}

fn print(client: &Client, key: &RecordKey) -> Result<(), CliError> {
    Ok(say(&line(Some(&key.id), client.get_kinds(key)?.as_ref()))?)
}

fn print_all(client: &Client, collection: &CollectionName) -> Result<(), CliError> {
    for (id, fields) in client.all_kinds(collection)? {
        say(&line(Some(&id), Some(&fields)))?;
    }
    Ok(())
}
