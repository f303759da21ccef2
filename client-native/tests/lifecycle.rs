//! Calls before the connection is open, while the client closes, and after: errors with a type, never a
//! panic, and nothing that was written is lost.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy's exceptions for tests do not cover the helper functions of a test file"
)]

use rejoin_client::{
    Change, Client, ClientError, CollectionName, ConfigError, Link, OpenError, Options, Pattern,
    SpaceId, Value, WishError, key, put, set,
};
use rejoin_core::{id::ReplicaId, io::CommitOutcome, port::Store, replica::Replica};
use rejoin_sqlite::{SqliteDb, SqliteOptions};
use std::{path::Path, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// Far beyond what anything takes; not a delay.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes soon")
}

async fn open(path: &Path, server: Option<String>) -> Client {
    let options = Options::new(path, SpaceId::parse("home").unwrap(), vec![tasks()]);
    Client::open(Options { server, ..options }).await.unwrap()
}

fn tasks() -> Pattern {
    Pattern::parse("tasks").unwrap()
}

fn task(id: &str) -> Vec<Change> {
    vec![put(key("tasks", id).unwrap(), [set("title", Value::text("x")).unwrap()])]
}

/// Every call but `close` and `synced`; the result of a write.
async fn call_everything(client: &Client, id: &str) -> Result<(), ClientError> {
    client.pause();
    client.resume();
    client.online();
    client.set_token(Some("any".to_owned()));
    let _notices = client.notices();
    client.get(&key("tasks", "1").unwrap()).unwrap();
    client.all(&CollectionName::parse("tasks").unwrap()).unwrap();
    assert_eq!(client.root(&tasks()), client.root(&tasks()));
    assert_eq!(client.verified(&tasks()), None);
    assert_eq!(client.cursor(&tasks()), None);
    assert!(client.rejected().is_empty());
    assert!(!client.is_synced());
    let written = soon(client.write(task(id))).await;
    let expected = match &written {
        Ok(_) => [
            ClientError::Wish(WishError::NoSuchRow(9)),
            ClientError::Wish(WishError::NothingToAdopt),
        ],
        Err(_) => [ClientError::Closed, ClientError::Closed],
    };
    assert_eq!(soon(client.retry(9)).await, Err(expected[0].clone()));
    assert_eq!(soon(client.discard(9)).await, Err(expected[0].clone()));
    assert_eq!(soon(client.adopt()).await, Err(expected[1].clone()));
    written.map(drop)
}

#[tokio::test]
async fn calls_before_the_socket_is_open_and_after_close_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.db");
    // Takes the connection and never says a word: the socket does not open.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/sync", listener.local_addr().unwrap());
    let client = open(&path, Some(url)).await;
    let _silent: (TcpStream, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(call_everything(&client, "1").await, Ok(()));
    assert_eq!(client.status().link, Link::Offline);

    soon(client.close()).await.unwrap();
    assert_eq!(call_everything(&client, "2").await, Err(ClientError::Closed));
    assert_eq!(soon(client.synced()).await, Err(ClientError::Closed));
    soon(client.close()).await.unwrap();

    let client = open(&path, None).await;
    let left = client.all(&CollectionName::parse("tasks").unwrap()).unwrap();
    assert_eq!(left.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["1"]);
}

#[tokio::test]
async fn calls_while_the_client_closes_are_granted_or_refused_and_never_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for round in 0..16 {
        let path = directory.path().join(format!("{round}.db"));
        let client = open(&path, None).await;
        let closing = async {
            // At another moment each time.
            for _ in 0..round % 8 {
                tokio::task::yield_now().await;
            }
            client.close().await.unwrap();
        };
        let writing = async {
            let mut kept = Vec::new();
            for number in 0..8 {
                match client.write(task(&format!("{number}"))).await {
                    Ok(_) => kept.push(format!("{number}")),
                    Err(error) => {
                        assert_eq!(error, ClientError::Closed);
                        refused += 1;
                    }
                }
            }
            kept
        };
        let waiting = client.synced();
        let ((), kept, synced) = soon(async { tokio::join!(closing, writing, waiting) }).await;
        assert_eq!(synced, Err(ClientError::Closed));

        let client = open(&path, None).await;
        let left = client.all(&CollectionName::parse("tasks").unwrap()).unwrap();
        for id in &kept {
            assert!(left.keys().any(|key| key.as_str() == id), "round {round}: {id} is lost");
        }
    }
    assert!(refused > 0, "no write met the closing");
}

#[tokio::test]
async fn more_collections_than_a_session_can_name_are_refused_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let many = (0..65).map(|at| Pattern::parse(&format!("docs/{at}")).unwrap()).collect();
    let options =
        Options::new(directory.path().join("many.db"), SpaceId::parse("home").unwrap(), many);
    let refused = Client::open(options).await.err();
    let expected = ConfigError::TooManyPatterns { patterns: 65, max: 64 };
    assert_eq!(refused, Some(OpenError::Config(expected)));
}

#[tokio::test]
async fn rows_of_another_space_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moved.db");
    let (home, away) = (SpaceId::parse("home").unwrap(), SpaceId::parse("away").unwrap());
    let db = SqliteDb::open(&path, &SqliteOptions::default()).unwrap();
    let founded = Replica::found(ReplicaId::from_bytes([1; 16]), &[], Some(&away));
    assert_eq!(db.space(&home).commit(founded).await, Ok(CommitOutcome::Applied));
    db.close().await.unwrap();
    let refused = Client::open(Options::new(&path, home, vec![tasks()])).await.err();
    assert_eq!(refused, Some(OpenError::OtherSpace { held: away }));
}
