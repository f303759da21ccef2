//! What an operator sees: health, configuration, faults of the store.

use crate::{
    client::{Client, Ended},
    world::{Directory, PATIENCE, Process, World, get},
};
use rejoin_core::{id::Seq, protocol::message::ByeCode};
use rejoin_server::{Config, Server};
use rejoin_sqlite::Rehearsal;
use std::{
    net::SocketAddr,
    process::{Command, Output},
};
use tokio::time::timeout;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    command.args(arguments).env_clear().output().unwrap()
}

#[tokio::test]
async fn health_is_green_while_the_store_writes() {
    let world = World::new().await;
    let _client = Client::joined(world.address, "demo", 1).await;
    let (status, text) = world.get("/healthz").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("{\"status\":\"ok\"}\n"), "{text}");
}

#[tokio::test]
async fn a_full_store_acknowledges_nothing_and_says_so() {
    let rehearsal = Rehearsal { page_count_max: Some(60), ..Rehearsal::default() };
    let world = World::with_store(|_, _| {}, rehearsal).await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    let text = "x".repeat(100_000);
    let ended = timeout(PATIENCE, async {
        for serial in 0.. {
            let pushed = client.push(&format!("a{serial}"), &text).await;
            if let Err(ended) = async {
                pushed?;
                client.settle().await
            }
            .await
            {
                return ended;
            }
        }
        panic!("a disk without end")
    });
    let bye = ended.await.unwrap().bye();
    assert_eq!(bye.code, ByeCode::StorageFull);
    assert!(bye.retry_after.is_some());
    assert_eq!(client.outbox.len(), 1, "the row that did not fit was acknowledged");
    let (status, answer) = world.get("/healthz").await;
    assert!(status == 503 && answer.contains("the disk is full"), "{answer}");
}

/// Joins and pushes `rows` one by one; how it ended, if it did.
async fn push_some(client: &mut Client, world: &World, rows: u8) -> Result<(), Ended> {
    client.join(world.address).await?;
    client.push_again().await?;
    for serial in 0..rows {
        client.push(&format!("a{serial}"), "x").await?;
        client.settle().await?;
    }
    Ok(())
}

/// What the file holds after a failed sync is known once it has been opened again: so the process ends,
/// and whatever supervises it starts it anew.
#[tokio::test]
async fn a_failed_sync_ends_the_server_and_what_was_not_acknowledged_comes_again() {
    let rehearsal = Rehearsal { sync_error_at: Some(4), ..Rehearsal::default() };
    let mut world = World::with_store(|_, _| {}, rehearsal).await;
    let mut client = Client::new("demo", 1);
    let ended = push_some(&mut client, &world, 9).await.unwrap_err();
    assert_eq!(ended.bye().code, ByeCode::Storage);
    let fault = world.ended().await.unwrap_err().to_string();
    assert!(fault.contains("a write to the database file failed"), "{fault}");

    world.start_again().await;
    push_some(&mut client, &world, 0).await.unwrap();
    client.settle().await.unwrap();
    client.hold(client.acknowledged.len()).await.unwrap();
    assert!(client.acknowledged.iter().all(|key| client.base.contains_key(key)));
}

#[tokio::test]
async fn a_database_that_reads_no_more_ends_the_server() {
    let rehearsal = Rehearsal { read_panic_at: Some(10), ..Rehearsal::default() };
    let mut world = World::with_store(|_, _| {}, rehearsal).await;
    // A start reads a few times, and each space that is opened does.
    for name in 1..=8 {
        if Client::new(&format!("space-{name}"), name).join(world.address).await.is_err() {
            break;
        }
    }
    let fault = world.ended().await.unwrap_err().to_string();
    assert!(fault.contains("stopped by a panic"), "{fault}");
}

/// A file that may not grow: the real faults of a real file system.
#[cfg(unix)]
#[tokio::test]
async fn a_file_system_that_refuses_writes_costs_no_acknowledged_row() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let script = "trap '' XFSZ; ulimit -f 600; exec \"$0\" --listen 127.0.0.1:0 --data \"$1\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_rejoin-server")]).arg(&data);
    let mut process = Process::run(&mut limited);
    let mut client = Client::joined(process.address, "demo", 1).await;
    let text = "x".repeat(2_000);
    let ended = timeout(PATIENCE, async {
        for serial in 0.. {
            let pushed = client.push(&format!("a{serial}"), &text).await;
            if let Err(ended) = async {
                pushed?;
                client.settle().await
            }
            .await
            {
                return ended;
            }
        }
        panic!("a file without end")
    });
    assert_eq!(ended.await.unwrap().bye().code, ByeCode::Storage);
    let line = process.line(&["a write to the database file failed"]).await;
    assert!(line.contains("SQLite code"), "{line}");
    assert_eq!(process.ended().await.code(), Some(1));
    assert!(!client.outbox.is_empty() && client.acknowledged.len() > 5);

    let process = Process::start(&data);
    client.join(process.address).await.unwrap();
    client.push_again().await.unwrap();
    client.settle().await.unwrap();
    client.hold(client.acknowledged.len()).await.unwrap();
    assert!(client.acknowledged.iter().all(|key| client.base.contains_key(key)));
}

#[tokio::test]
async fn a_second_server_on_a_directory_is_refused_with_the_reason() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let first = Process::start(&data);
    let arguments = ["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let mut second = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    let second = second.args(arguments).env_clear().output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("another process has the database open"), "{text}");
    assert!(text.contains(data.to_str().unwrap()), "{text}");
    assert_eq!(get(first.address, "/healthz", "").await.0, 200, "the first is disturbed");
}

/// `kill` and start again, as a person does it: the old process may still be ending.
#[tokio::test]
async fn a_server_waits_for_the_one_before_it_to_end() {
    let mut world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    ada.push("a", "x").await.unwrap();
    ada.settle().await.unwrap();
    let mut config = Config::new(world.directory.path().join("data"));
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let next = tokio::spawn(Server::open(config));
    tokio::task::yield_now().await;
    world.stop().await;
    let next = timeout(PATIENCE, next).await.unwrap().unwrap().unwrap();
    let (address, running) = (next.address(), tokio::spawn(next.run(std::future::pending())));
    assert_eq!(ada.join(address).await.unwrap().head, Seq(1));
    running.abort();
}

#[tokio::test]
async fn a_person_can_follow_a_sync_in_the_log() {
    let directory = Directory::new();
    let mut process = Process::start(&directory.path().join("data"));
    let mut ada = Client::joined(process.address, "demo", 0xad).await;
    ada.push("a", "Hello World").await.unwrap();
    ada.push("b", "I am offline").await.unwrap();
    ada.settle().await.unwrap();
    ada.sync(Seq(2)).await.unwrap();
    let who = ["space=demo", "client=adadadad…"];
    process.line(&[&who[..], &["welcomed"]].concat()).await;
    let line = process.line(&[&who[..], &["head=2", "synced"]].concat()).await;
    let root = ada.verified.unwrap().1.short();
    assert!(line.contains(&format!("root={root}")), "{line}");
    assert!(line.contains("pulled=") && line.contains("pushed="), "{line}");
    drop(ada);
    let line = process.line(&[&who[..], &["disconnected"]].concat()).await;
    assert!(!line.contains("Hello World"), "{line}");
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let directory = Directory::new();
    let tokens = directory.file(
        "tokens.toml",
        "[[tokens]]\ntoken='very-secret'\nprincipal='ada'\nspaces=[{space='*'}]\n",
    );
    // The data directory is a file, so that the start ends here.
    let data = directory.file("occupied", "");
    let file = directory.file("server.toml", "spaces-max = 42\nlog = 'info'\n");
    let output = run(&[
        "--config",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--auth",
        "tokens",
        "--tokens",
        tokens.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("spaces-max=42") && text.contains("auth=tokens"), "{text}");
    assert!(text.contains("listen=127.0.0.1:0"), "{text}");
    assert!(text.contains("cannot use the data directory"), "{text}");
    assert!(!text.contains("very-secret"), "{text}");
}

#[test]
fn keys_and_flags_that_are_none_are_refused() {
    let directory = Directory::new();
    let file = directory.file("server.toml", "log = 'info'\nlisten-on = 'x'\n");
    let output = run(&["--config", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("line 2") && text.contains("listen-on"), "{text}");
    assert!(!run(&["--listen-on", "x"]).status.success());
}

#[test]
fn a_file_of_tokens_is_refused_without_showing_them() {
    let directory = Directory::new();
    let tokens = directory.file("tokens.toml", "[[tokens]]\ntoken = 'very-secret' oops\n");
    let data = directory.path().join("data");
    let output = run(&[
        "--data",
        data.to_str().unwrap(),
        "--auth",
        "tokens",
        "--tokens",
        tokens.to_str().unwrap(),
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("tokens.toml") && text.contains("line 2"), "{text}");
    assert!(!text.contains("very-secret"), "{text}");
}
