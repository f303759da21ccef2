//! Many writes in one request.

use super::{of, within};
use crate::world::World;
use serde_json::json;

#[tokio::test]
async fn each_item_of_a_batch_is_answered_for_itself() {
    let world = World::new().await;
    of("PUT", "a").json(r#"{"n":1}"#).at(&world).await.is(201);
    let batch = r#"{"items":[
        {"op":"put","collection":"tasks","id":"a","fields":{"n":2}},
        {"op":"put","collection":"tasks","id":"b","fields":{"n":2}},
        {"op":"add","collection":"tasks","id":"b","fields":{"n":3}},
        {"op":"patch","collection":"tasks","id":"b","fields":{"votes":{"$increment":1}}},
        {"op":"patch","collection":"tasks","id":"c","fields":{}},
        {"op":"upsert","collection":"tasks","id":"d","fields":{"tags":{"$insert":["x"]}}},
        {"op":"delete","collection":"tasks","id":"a"},
        {"op":"delete","collection":"tasks","id":"a"},
        {"op":"put","collection":"tasks","id":"b","if_match":"\"other\"","fields":{}},
        {"op":"put","collection":"tasks","id":"e","fields":{"big":"BIG"}}]}"#;
    let batch = batch.replace("BIG", &"x".repeat(300_000));
    let told = within("POST", "batch").json(&batch).at(&world).await.is(200).json();
    let results = told["results"].as_array().unwrap();
    let statuses: Vec<_> =
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 201, 409, 200, 404, 201, 204, 404, 412, 413]);
    assert_eq!(results[2]["problem"]["code"], "exists");
    assert!(results[0]["seq"].as_u64() < results[1]["seq"].as_u64());
    assert_eq!(of("GET", "b").at(&world).await.json(), json!({"n": 2, "votes": {"$counter": 1}}));
}

#[tokio::test]
async fn an_atomic_batch_is_written_whole_at_one_position_or_not_at_all() {
    let world = World::new().await;
    let batch = |last: &str| {
        let items = format!(
            r#"{{"atomic":true,"items":[{{"op":"put","collection":"tasks","id":"a","fields":{{"n":1}}}},
            {{"op":"put","collection":"other","id":"b","fields":{{"n":1}}}},{last}]}}"#
        );
        within("POST", "batch").json(&items)
    };
    let told =
        batch(r#"{"op":"patch","collection":"tasks","id":"c","fields":{}}"#).at(&world).await;
    assert_eq!(told.refused(404), "absent");
    assert_eq!(of("GET", "a").at(&world).await.refused(404), "absent");
    let told = batch(r#"{"op":"delete","collection":"tasks","id":"c"}"#).at(&world).await.is(200);
    let results = told.json()["results"].clone();
    assert_eq!(results[0]["seq"], results[1]["seq"]);
    assert_eq!(results[2]["status"], 404);
    let told = batch(r#"{"op":"add","collection":"tasks","id":"a","fields":{}}"#).at(&world).await;
    assert_eq!(told.refused(409), "exists");
}

#[tokio::test]
async fn batches_that_are_none_are_refused() {
    let world = World::new().await;
    let item = r#"{"op":"delete","collection":"tasks","id":"a"}"#;
    let many = format!(r#"{{"items":[{}]}}"#, vec![item; 1_001].join(","));
    for bad in [
        "{}",
        r#"{"items":[]}"#,
        "[]",
        &many,
        r#"{"items":[{"op":"eat","collection":"a","id":"b"}]}"#,
        r#"{"items":[],"else":1}"#,
        r#"{"items":[{"op":"put","collection":"tasks","id":"e","fields":{"":1}}]}"#,
        r#"{"items":[{"op":"put","collection":"a//b","id":"e"}]}"#,
        r#"{"items":[{"op":"put","collection":"tasks","id":"e","if_match":"x"}]}"#,
        r#"{"items":[{"op":"delete","collection":"tasks","id":"b","fields":{"n":1}}]}"#,
    ] {
        assert_eq!(
            within("POST", "batch").json(bad).at(&world).await.refused(422),
            "invalid",
            "{bad}"
        );
    }
}
