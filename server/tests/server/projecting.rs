//! Tables that are filled from the feed: what people who ask with SQL find there, and when.

use crate::{
    client::Client,
    world::{Directory, PATIENCE, World},
};
use rejoin_server::Config;
use rusqlite::Connection;
use std::{path::PathBuf, process::Command, time::Duration};
use tokio::time::{sleep, timeout};

fn file(world: &World) -> PathBuf {
    world.directory.path().join("tasks.sqlite")
}

/// What is to be put where.
fn tables_of(what: &str) -> impl Fn(&Directory, &mut Config) + '_ {
    move |directory, config| {
        let file = directory.path().join("tasks.sqlite");
        config.projections = vec![format!("{what}={}", file.display()).parse().unwrap()];
        config.operations.metrics = rejoin_server::Switch::On;
    }
}

fn titles(world: &World) -> Vec<String> {
    let connection = Connection::open(file(world)).unwrap();
    let Ok(mut asked) =
        connection.prepare("SELECT space || ' ' || id || ' ' || title FROM tasks ORDER BY 1")
    else {
        return Vec::new();
    };
    asked.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Waits until people find this.
async fn until_found(world: &World, expected: &[&str]) {
    let waiting = timeout(PATIENCE, async {
        while titles(world) != expected {
            // Nobody says when a file has changed.
            sleep(Duration::from_millis(20)).await;
        }
    });
    waiting.await.unwrap_or_else(|_| panic!("{expected:?}, found {:?}", titles(world)));
}

async fn write(world: &World, space: &str, name: u8, id: &str, title: &str) {
    let mut client = Client::joined(world.address, space, name).await;
    client.push(id, title).await.unwrap();
    client.settle().await.unwrap();
}

#[tokio::test]
async fn what_is_acknowledged_is_soon_a_row_and_stays_one_over_a_restart() {
    let mut world = World::with(tables_of("tasks@d*")).await;
    write(&world, "demo", 1, "a", "milk").await;
    write(&world, "d2", 2, "b", "eggs").await;
    write(&world, "other", 3, "c", "not asked for").await;
    until_found(&world, &["d2 b eggs", "demo a milk"]).await;
    world.restart().await;
    write(&world, "demo", 4, "d", "bread").await;
    until_found(&world, &["d2 b eggs", "demo a milk", "demo d bread"]).await;
}

#[tokio::test]
async fn a_server_that_is_given_tables_later_fills_them_with_what_it_has() {
    let mut world = World::new().await;
    write(&world, "demo", 1, "a", "milk").await;
    world.stop().await;
    world.configure(tables_of("*"));
    world.start_again().await;
    until_found(&world, &["demo a milk"]).await;
}

#[tokio::test]
async fn tables_of_a_server_that_lost_what_it_had_are_filled_anew() {
    let mut world = World::with(tables_of("tasks")).await;
    write(&world, "demo", 1, "a", "milk").await;
    until_found(&world, &["demo a milk"]).await;
    world.stop().await;
    // Another history, with other records at the same places.
    std::fs::remove_dir_all(world.directory.path().join("data")).unwrap();
    world.start_again().await;
    write(&world, "demo", 2, "b", "eggs").await;
    until_found(&world, &["demo b eggs"]).await;
}

#[tokio::test]
async fn tables_are_filled_anew_when_a_person_asks_for_it() {
    let world = World::with(tables_of("tasks")).await;
    write(&world, "demo", 1, "a", "milk").await;
    until_found(&world, &["demo a milk"]).await;
    Connection::open(file(&world))
        .unwrap()
        .execute("UPDATE tasks SET title = 'spoilt'", [])
        .unwrap();
    let mut rebuild = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    rebuild.env_clear().args(["rebuild", "--project"]);
    let done = rebuild.arg(format!("tasks={}", file(&world).display())).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    until_found(&world, &["demo a milk"]).await;
    let nothing =
        Command::new(env!("CARGO_BIN_EXE_rejoin-server")).env_clear().arg("rebuild").output();
    assert_eq!(nothing.unwrap().status.code(), Some(1));
}

#[tokio::test]
async fn tables_that_cannot_be_written_are_behind_and_catch_up_and_nobody_else_waits() {
    let world = World::with(tables_of("tasks")).await;
    write(&world, "demo", 1, "a", "milk").await;
    until_found(&world, &["demo a milk"]).await;
    let other = Connection::open(file(&world)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    write(&world, "demo", 2, "b", "eggs").await;
    let series = format!("rejoin_projection_lag{{file=\"{}\"}}", file(&world).display());
    let lag = async |value: &str| {
        let line = format!("{series} {value}\n");
        let waiting = timeout(PATIENCE, async {
            while !world.get("/metrics").await.1.contains(&line) {
                // Nobody says when it has moved.
                sleep(Duration::from_millis(20)).await;
            }
        });
        waiting.await.expect("it moves");
    };
    lag("1").await;
    other.execute_batch("COMMIT").unwrap();
    until_found(&world, &["demo a milk", "demo b eggs"]).await;
    lag("0").await;
}

#[tokio::test]
async fn a_file_of_another_program_is_not_touched_and_the_server_does_not_start() {
    let mut world = World::new().await;
    world.stop().await;
    Connection::open(file(&world)).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    world.configure(tables_of("tasks"));
    let refused = world.try_start().await.unwrap_err().to_string();
    assert!(refused.contains("belongs to another application"), "{refused}");
}
