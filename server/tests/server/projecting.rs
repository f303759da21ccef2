//! Tables that are filled from the feed: what people who ask with SQL find there, and when.

use crate::{
    client::Client,
    http::ask,
    world::{Directory, PATIENCE, World},
};
use rejoin_server::Config;
use rusqlite::Connection;
use serde_json::json;
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

/// What means something to SQL, or nearly.
const NAMES: [&str; 16] = [
    "'",
    "\"",
    "a'b\"c`d]",
    "x\"; DROP TABLE rejoin_spaces; --",
    "x'); DELETE FROM rejoin_tables; --",
    "' OR '1'='1",
    "sqlite_master",
    "rejoin_tables",
    "select",
    "space",
    "[x]",
    "%s%n",
    "\\",
    "?1",
    ":a",
    "żółć\u{202e}\u{1f469}\u{200d}\u{1f4bb}",
];

fn in_path(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn x14_names_and_texts_are_never_sql() {
    let world = World::with(tables_of("*")).await;
    let body = |name: &str| json!({ name: name, "text": name }).to_string();
    for name in NAMES {
        // A space and a collection of its own, and a record in those of everybody.
        for (space, collection) in [(name, name), ("demo", "all")] {
            let [space, collection, id] = [space, collection, name].map(in_path);
            let path = format!("/v1/spaces/{space}/collections/{collection}/records/{id}");
            let put = ask("PUT", path.clone()).json(&body(name)).at(&world).await.is(201);
            assert!(put.status == 201, "{name}");
            let read = ask("GET", path).at(&world).await.is(200).json();
            assert_eq!(read["text"], name);
        }
    }
    let rows = || -> rusqlite::Result<Vec<(String, String, String, String)>> {
        let connection = Connection::open(file(&world))?;
        let mut tables = connection.prepare("SELECT collection, name FROM rejoin_tables")?;
        let tables = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut rows = Vec::new();
        for table in tables.collect::<Result<Vec<(String, String)>, _>>()? {
            let (collection, name) = table;
            let asked = format!("SELECT space, id, text FROM \"{}\"", name.replace('"', "\"\""));
            let mut asked = connection.prepare(&asked)?;
            let found = asked.query_map([], |row| {
                Ok((row.get(0)?, collection.clone(), row.get(1)?, row.get(2)?))
            })?;
            rows.extend(found.collect::<Result<Vec<_>, _>>()?);
        }
        rows.sort();
        Ok(rows)
    };
    let of = |name: &str, space: &str, collection: &str| {
        (space.to_owned(), collection.to_owned(), name.to_owned(), name.to_owned())
    };
    let expected = NAMES.iter().flat_map(|name| [of(name, name, name), of(name, "demo", "all")]);
    let mut expected: Vec<_> = expected.collect();
    expected.sort();
    let waiting = timeout(PATIENCE, async {
        while rows().ok().as_ref() != Some(&expected) {
            // Nobody says when a file has changed.
            sleep(Duration::from_millis(20)).await;
        }
    });
    waiting.await.unwrap_or_else(|_| panic!("{:?}", rows()));
}
