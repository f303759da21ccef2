//! A database file that is copied with what it has not sent: both copies run, each write counts once.

use crate::support::{World, soon, until};
use rejoin_client::{
    Action, Change, Client, FieldAction, FieldChange, FieldName, Link, Visible, key,
};
use std::{fs, path::Path};

async fn open(path: &Path, server: Option<String>) -> Client {
    crate::support::open(path, "tasks", server).await
}

fn votes(amount: i64) -> Change {
    let field = FieldName::parse("votes").unwrap();
    let action = Action::Upsert(vec![FieldChange { field, action: FieldAction::Add(amount) }]);
    Change { key: key("tasks", "a").unwrap(), action }
}

fn count(client: &Client) -> i64 {
    let fields = client.get(&key("tasks", "a").unwrap()).unwrap().unwrap_or_default();
    match fields.get(&FieldName::parse("votes").unwrap()) {
        Some(Visible::Counter(count)) => *count,
        _ => 0,
    }
}

fn is_settled(client: &Client) -> bool {
    let status = client.status();
    status.is_verified && status.pending == 0 && status.link == Link::Live
}

#[tokio::test]
async fn b03_copied_database_with_unsent_rows_counts_each_of_them_once() {
    let mut world = World::new().await;
    for at_once in [false, true] {
        let [file, copy, reader] = ["file", "copy", "reader"].map(|name| {
            let path = world.path(&format!("{name}{at_once}"));
            fs::create_dir(&path).unwrap();
            path.join("client.db")
        });
        let before = open(&reader, Some(world.url())).await;
        until(&before, is_settled).await;
        let start = count(&before);
        before.close().await.unwrap();
        // Synced once, then written to without a server, and closed.
        let client = open(&file, Some(world.url())).await;
        client.write(vec![votes(1)]).await.unwrap();
        soon(client.synced()).await.unwrap();
        client.close().await.unwrap();
        let client = open(&file, None).await;
        for amount in [10, 100] {
            client.write(vec![votes(amount)]).await.unwrap();
        }
        assert_eq!(client.status().pending, 2);
        client.close().await.unwrap();
        for entry in fs::read_dir(file.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.parent().unwrap().join(entry.file_name())).unwrap();
        }
        // Each goes on alone, too.
        let mut clients = Vec::new();
        for (path, amount) in [(&file, 1_000), (&copy, 10_000)] {
            let client = open(path, None).await;
            client.write(vec![votes(amount)]).await.unwrap();
            client.close().await.unwrap();
            let client = open(path, Some(world.url())).await;
            if !at_once {
                soon(client.synced()).await.unwrap();
            }
            clients.push(client);
        }
        for client in &clients {
            until(client, |client| is_settled(client) && count(client) == start + 11_111).await;
        }
        let reader = open(&reader, Some(world.url())).await;
        until(&reader, |reader| is_settled(reader) && count(reader) == start + 11_111).await;
        assert!(clients.iter().all(|client| client.status().rejected == 0));
        for client in clients.into_iter().chain([reader]) {
            client.close().await.unwrap();
        }
    }
    world.stop().await;
}
