//! The client against a real server on a real socket.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy's exceptions for tests do not cover the helper functions of a test file"
)]

mod copied;
mod cuts;
mod damaged;
mod horizon;
mod restored;
#[path = "../support/mod.rs"]
mod support;

use rejoin_client::{
    Change, Client, ClientError, CollectionName, FieldAction, FieldChange, FieldName, Link, Notice,
    OpenError, Options, Pattern, SpaceId, SqliteError, Value, Visible, WishError, add, key, put,
    remove, set, update,
};
use std::path::Path;
use support::{World, soon, until};

fn task(id: &str, title: &str) -> Change {
    put(key("tasks", id).unwrap(), [set("title", Value::text(title)).unwrap()])
}

fn votes(id: &str, amount: i64) -> Change {
    let field = FieldName::parse("votes").unwrap();
    let change = FieldChange { field, action: FieldAction::Add(amount) };
    update(key("tasks", id).unwrap(), [change])
}

fn title(client: &Client, id: &str) -> Option<String> {
    let fields = client.get(&key("tasks", id).unwrap()).unwrap()?;
    match fields.get(&FieldName::parse("title").unwrap()) {
        Some(Visible::Value(Value::Text(text))) => Some(text.clone()),
        _ => None,
    }
}

async fn open(path: &Path, server: Option<String>) -> Client {
    support::open(path, "tasks", server).await
}

fn tasks() -> Pattern {
    Pattern::parse("tasks").unwrap()
}

#[tokio::test]
async fn a_client_without_a_server_keeps_its_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alone.db");
    let client = open(&path, None).await;
    let receipt = client.write(vec![task("1", "a"), task("2", "b")]).await.unwrap();
    assert_eq!(receipt.number, 1);
    client.write(vec![remove(key("tasks", "2").unwrap())]).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(client.write(vec![task("3", "c")]).await, Err(ClientError::Closed));
    assert_eq!(client.synced().await, Err(ClientError::Closed));

    let client = open(&path, None).await;
    assert_eq!(title(&client, "1").as_deref(), Some("a"));
    assert_eq!(client.get(&key("tasks", "2").unwrap()), Ok(None));
    let all = client.all(&CollectionName::parse("tasks").unwrap()).unwrap();
    assert_eq!(all.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["1"]);
    assert_eq!(client.status().pending, 2);
    assert_eq!(client.status().link, Link::Offline);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_write_that_cannot_be_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let client = open(&directory.path().join("alone.db"), None).await;
    client.write(vec![task("1", "a")]).await.unwrap();
    let again = add(key("tasks", "1").unwrap(), [set("title", Value::text("b")).unwrap()]);
    let refused = client.write(vec![task("2", "b"), again]).await;
    assert!(matches!(refused, Err(ClientError::Wish(WishError::Write(_)))), "{refused:?}");
    let large = Value::Text("x".repeat(300 << 10));
    let large = put(key("tasks", "3").unwrap(), [set("title", large).unwrap()]);
    let refused = client.write(vec![large]).await;
    assert!(matches!(refused, Err(ClientError::Wish(WishError::Write(_)))), "{refused:?}");
    assert_eq!(client.discard(1).await, Err(ClientError::Wish(WishError::NoSuchRow(1))));
    assert_eq!(client.all(&CollectionName::parse("tasks").unwrap()).unwrap().len(), 1);
    assert_eq!(client.status().pending, 1);
}

#[tokio::test]
async fn a_file_has_one_client_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("one.db");
    let first = open(&path, None).await;
    let options = || Options::new(&path, SpaceId::parse("home").unwrap(), vec![tasks()]);
    let second = Client::open(options()).await;
    assert!(matches!(second, Err(OpenError::File(SqliteError::Locked))), "{second:?}");
    first.close().await.unwrap();
    Client::open(options()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for url in ["", "http://127.0.0.1/", "127.0.0.1:8787", "ws://"] {
        let space = SpaceId::parse("home").unwrap();
        let options = Options::new(directory.path().join("x.db"), space, vec![tasks()]);
        let opened = Client::open(Options { server: Some(url.into()), ..options }).await;
        assert!(matches!(opened, Err(OpenError::Address { .. })), "{url:?}: {opened:?}");
    }
}

#[tokio::test]
async fn two_clients_converge_while_both_write() {
    let mut world = World::new().await;
    let (left, right) =
        (world.client("left.db", "tasks").await, world.client("right.db", "tasks").await);
    soon(left.write(vec![task("1", "first")])).await.unwrap();
    soon(left.synced()).await.unwrap();
    until(&right, |right| title(right, "1").is_some()).await;
    for round in 0..20 {
        let (id, vote) = (format!("r{round}"), 1 + round % 3);
        let (one, other) = tokio::join!(
            left.write(vec![votes("1", vote), task(&id, "left")]),
            right.write(vec![votes("1", -1), task("shared", &format!("right {round}"))]),
        );
        one.unwrap();
        other.unwrap();
    }
    let sum: i64 = (0..20).map(|round| round % 3).sum();
    let votes = |client: &Client| {
        let fields = client.get(&key("tasks", "1").unwrap()).unwrap().unwrap();
        fields.get(&FieldName::parse("votes").unwrap()).cloned()
    };
    for client in [&left, &right] {
        until(client, |client| client.is_synced() && votes(client) == Some(Visible::Counter(sum)))
            .await;
    }
    let name = CollectionName::parse("tasks").unwrap();
    assert_eq!(left.all(&name).unwrap(), right.all(&name).unwrap());
    assert_eq!(left.all(&name).unwrap().len(), 22);
    assert_eq!(left.root(&tasks()), right.root(&tasks()));
    assert_eq!(left.verified(&tasks()), right.verified(&tasks()));
    left.close().await.unwrap();
    right.close().await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn what_was_written_offline_is_there_after_reopening_and_rejoins() {
    let mut world = World::new().await;
    let client = world.client("a.db", "tasks").await;
    client.write(vec![task("1", "online")]).await.unwrap();
    soon(client.synced()).await.unwrap();
    world.stop().await;
    until(&client, |client| client.status().link == Link::Offline).await;
    client.write(vec![task("2", "offline")]).await.unwrap();
    client.close().await.unwrap();

    let client = world.client("a.db", "tasks").await;
    assert_eq!(title(&client, "1").as_deref(), Some("online"));
    assert_eq!(title(&client, "2").as_deref(), Some("offline"));
    assert_eq!(client.status().pending, 1);
    world.start().await;
    client.online();
    soon(client.synced()).await.unwrap();
    let other = world.client("b.db", "tasks").await;
    soon(other.synced()).await.unwrap();
    assert_eq!(title(&other, "2").as_deref(), Some("offline"));
    assert_eq!(client.root(&tasks()), other.root(&tasks()));
}

#[tokio::test]
async fn a_server_that_restarts_costs_a_reconnect_and_nothing_else() {
    let mut world = World::new().await;
    let (left, right) =
        (world.client("left.db", "tasks").await, world.client("right.db", "tasks").await);
    for round in 0..3 {
        let id = format!("r{round}");
        left.write(vec![task(&id, "x")]).await.unwrap();
        world.stop().await;
        right.write(vec![task(&format!("s{round}"), "y")]).await.unwrap();
        world.start().await;
        left.online();
        right.online();
        let count = |client: &Client| client.all(&CollectionName::parse("tasks").unwrap());
        for client in [&left, &right] {
            until(client, |client| {
                client.is_synced() && count(client).unwrap().len() == 2 * (round + 1)
            })
            .await;
        }
        assert_eq!(left.root(&tasks()), right.root(&tasks()));
    }
}

#[tokio::test]
async fn a_paused_client_sends_nothing_until_it_resumes() {
    let world = World::new().await;
    let (left, right) =
        (world.client("left.db", "tasks").await, world.client("right.db", "tasks").await);
    soon(left.synced()).await.unwrap();
    soon(right.synced()).await.unwrap();
    left.pause();
    until(&left, |left| left.status().link == Link::Offline).await;
    let mut notices = right.notices();
    left.write(vec![task("paused", "x")]).await.unwrap();
    right.write(vec![task("other", "y")]).await.unwrap();
    soon(right.synced()).await.unwrap();
    assert_eq!(title(&right, "paused"), None);
    assert_eq!(title(&left, "other"), None);
    left.resume();
    soon(left.synced()).await.unwrap();
    let paused = key("tasks", "paused").unwrap();
    soon(async {
        loop {
            if let Some(Notice::Changed(keys)) = notices.next().await.unwrap()
                && keys.contains(&paused)
            {
                return;
            }
        }
    })
    .await;
    assert_eq!(title(&right, "paused").as_deref(), Some("x"));
}
