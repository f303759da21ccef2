//! A request with a name is done once, whatever is cut off.

use super::{of, within};
use crate::world::{Directory, Process, World};
use serde_json::json;

const ADD: &str = r#"{"votes":{"$increment":1}}"#;

#[tokio::test]
async fn a_request_that_comes_again_is_answered_as_before() {
    let mut world = World::new().await;
    let add = of("PATCH", "1?upsert=true").with("Idempotency-Key", "k-1").json(ADD);
    let first = add.at(&world).await.is(201);
    of("PATCH", "1").json(ADD).at(&world).await.is(200);
    let again = add.at(&world).await.is(201);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    world.restart().await;
    assert_eq!(add.at(&world).await.is(201).json(), first.json());
    assert_eq!(of("GET", "1").at(&world).await.json(), json!({"votes": {"$counter": 2}}));
    // The name is for that request alone.
    for other in [
        of("PATCH", "1?upsert=true").json(r#"{"votes":{"$increment":2}}"#),
        of("PATCH", "2?upsert=true").json(ADD),
        of("PATCH", "1").json(ADD),
        of("PATCH", "1?upsert=true").with("If-Match", "*").json(ADD),
        of("PUT", "1").json(ADD.replace("increment", "counter").as_str()),
        of("DELETE", "1"),
    ] {
        let told = other.with("Idempotency-Key", "k-1").at(&world).await;
        assert_eq!(told.refused(422), "key_reused");
    }
    for bad in ["", "a b", &"x".repeat(256)] {
        let told = of("DELETE", "1").with("Idempotency-Key", bad).at(&world).await;
        assert_eq!(told.refused(400), "invalid");
    }
    // What had no effect may be asked for again.
    let late = of("PATCH", "3").with("Idempotency-Key", "k-2").json(ADD);
    late.at(&world).await.is(404);
    of("PUT", "3").json("{}").at(&world).await.is(201);
    late.at(&world).await.is(200);
}

#[tokio::test]
async fn a_record_under_a_new_id_is_made_once_and_a_batch_written_once() {
    let world = World::new().await;
    let make = within("POST", "collections/tasks/records").with("Idempotency-Key", "m").json("{}");
    let first = make.at(&world).await.is(201);
    let again = make.at(&world).await.is(201);
    assert_eq!(again.header("location"), first.header("location"));
    let items = r#"{"items":[{"op":"upsert","collection":"tasks","id":"b","fields":{"n":{"$increment":1}}},
        {"op":"patch","collection":"tasks","id":"none","fields":{}}]}"#;
    let batch = within("POST", "batch").with("Idempotency-Key", "b").json(items);
    let first = batch.at(&world).await.is(200);
    assert_eq!(batch.at(&world).await.is(200).json(), first.json());
    assert_eq!(of("GET", "b").at(&world).await.json(), json!({"n": {"$counter": 1}}));
    let listed = within("GET", "collections/tasks/records").at(&world).await.json();
    assert_eq!(listed["records"].as_array().unwrap().len(), 2);
}

/// Killed between effect and answer, before and behind both: who asks again with the same name counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_every_named_increment_counts_once_though_the_server_is_killed() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut asked = 0;
    let mut open: Vec<u32> = Vec::new();
    for round in 0..8 {
        let mut process = Process::start(&data);
        let address = process.address;
        open.extend((0..24).map(|_| {
            asked += 1;
            asked
        }));
        let work: Vec<_> = open
            .iter()
            .map(|name| {
                let add = of("PATCH", "1?upsert=true").json(ADD);
                let add = add.with("Idempotency-Key", &format!("n-{name}"));
                let name = *name;
                tokio::spawn(
                    async move { (name, add.tried(address).await.map(|told| told.status)) },
                )
            })
            .collect();
        tokio::time::sleep(std::time::Duration::from_millis(round * 4)).await;
        process.kill();
        open.clear();
        for told in work {
            match told.await.expect("no request panics") {
                (_, Ok(200 | 201)) => {}
                (name, Ok(503) | Err(_)) => open.push(name),
                (name, Ok(status)) => panic!("{name}: {status}"),
            }
        }
    }
    let process = Process::start(&data);
    for name in open {
        let add =
            of("PATCH", "1?upsert=true").json(ADD).with("Idempotency-Key", &format!("n-{name}"));
        let status = add.tried(process.address).await.unwrap().status;
        assert!(matches!(status, 200 | 201), "{status}");
    }
    let told = of("GET", "1").tried(process.address).await.unwrap();
    assert_eq!(told.json(), json!({"votes": {"$counter": asked}}));
}
