//! A server that forgets what was removed, in a short time here: its file holds nothing of it, and who was away
//! for longer comes back with all that it had written meanwhile.

use crate::{
    open,
    support::{World, soon, until},
    task, tasks, title,
};
use rejoin_client::{Client, Link, RejectCode, SpaceId, Value, erase, key, remove, set, update};
use rejoin_core::{
    io::{KeyRange, Keyspace},
    port::Store,
};
use rejoin_sqlite::{SqliteDb, SqliteOptions};
use std::{fs, num::NonZeroU32, path::Path, time::Duration};

/// Names of the records in a server's file.
async fn stored(server: &Path) -> Vec<String> {
    let db = SqliteDb::open(server.join("rejoin.sqlite"), &SqliteOptions::default()).unwrap();
    let store = db.space(&SpaceId::parse("home").unwrap());
    let all = KeyRange::default();
    let page = store.scan(Keyspace::Records, &all, NonZeroU32::MAX).await.unwrap();
    db.close().await.unwrap();
    page.rows.into_iter().map(|row| String::from_utf8(row.key).unwrap()).collect()
}

fn holds(directory: &Path, secret: &str) -> bool {
    let files =
        fs::read_dir(directory).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
    let mut found =
        files.map(|bytes| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    found.any(|found| found)
}

async fn agrees(client: &Client) {
    until(client, |client| {
        let status = client.status();
        status.is_verified && status.pending == 0 && status.link == Link::Live
    })
    .await;
    let verified = client.verified(&tasks()).unwrap();
    assert_eq!(verified.root, client.root(&tasks()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c02_client_that_was_away_beyond_the_horizon_keeps_what_it_wrote_and_revives_nothing() {
    let mut world = World::new().await;
    world.stop().await;
    world.retention = Some(Duration::from_secs(1));
    world.start().await;
    let ann = world.client("ann.db", "tasks").await;
    let bob = world.client("bob.db", "tasks").await;
    let secret = "what nobody is to know any more".repeat(40);
    ann.write(vec![task("t1", &secret), task("t2", "b"), task("t3", "c")]).await.unwrap();
    agrees(&ann).await;
    until(&bob, |bob| title(bob, "t3").is_some()).await;
    agrees(&bob).await;
    bob.close().await.unwrap();
    let bob = open(&world.path("bob.db"), None).await;
    let named = |id: &str| key("tasks", id).unwrap();
    let edit = |id: &str| update(named(id), [set("title", Value::text("edited")).unwrap()]);
    bob.write(vec![task("new", "written far away")]).await.unwrap();
    let gone = bob.write(vec![edit("t1")]).await.unwrap();
    bob.write(vec![edit("t3")]).await.unwrap();
    bob.close().await.unwrap();

    ann.write(vec![erase(named("t1")), remove(named("t2"))]).await.unwrap();
    agrees(&ann).await;
    let server = world.path("server");
    soon(async {
        loop {
            world.stop().await;
            if stored(&server).await == ["tasks\0t3"] {
                return;
            }
            world.start().await;
            agrees(&ann).await;
        }
    })
    .await;
    assert!(!holds(&server, "what nobody"), "of what was erased nothing is left in the file");

    world.start().await;
    let bob = world.client("bob.db", "tasks").await;
    agrees(&bob).await;
    agrees(&ann).await;
    for client in [&ann, &bob] {
        until(client, |client| title(client, "new").is_some()).await;
        assert_eq!(title(client, "t3").as_deref(), Some("edited"));
        assert!(["t1", "t2"].iter().all(|id| title(client, id).is_none()));
    }
    let rejected = bob.rejected();
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!((rejected[0].number, rejected[0].code), (gone.number, RejectCode::RecordGone));
    assert_eq!(ann.root(&tasks()), bob.root(&tasks()));
    world.stop().await;
}
