//! One record: written, read, and the same for replicas.

use super::{ask, of, within};
use crate::{client::Client, world::World};
use serde_json::json;

const ALL_KINDS: &str = r#"{"title":"Zażółć","none":null,"n":9007199254740993,"half":0.5,"nan":{"$float":"NaN"},
    "raw":{"$bytes":"AAE="},"list":[1,{"a":true}],"odd":{"$map":{"$increment":1}},"votes":{"$counter":-3},
    "tags":{"$set":[1,"a"]},"best":{"$max":7},"least":{"$min":7},"by":{"$fww":"ada"},"note":{"$review":["x"]}}"#;

#[tokio::test]
async fn what_is_put_is_what_is_got_in_every_kind() {
    let world = World::new().await;
    let made = of("PUT", "1").json(ALL_KINDS).at(&world).await.is(201);
    assert_eq!(made.json()["seq"], 1);
    let got = of("GET", "1").at(&world).await.is(200);
    let sent: serde_json::Value = serde_json::from_str(ALL_KINDS).unwrap();
    assert_eq!(got.json(), sent);
    assert_eq!(got.header("etag"), made.header("etag"));
    assert_eq!(got.header("rejoin-seq"), "1");
    // What is got can be put again, and what is not named is gone.
    of("PUT", "1").json(&got.json().to_string()).at(&world).await.is(200);
    assert_eq!(of("GET", "1").at(&world).await.json(), sent);
    of("PUT", "1").json(r#"{"title":"x"}"#).at(&world).await.is(200);
    assert_eq!(of("GET", "1").at(&world).await.json(), json!({"title": "x"}));
    let head = of("HEAD", "1").at(&world).await.is(200);
    assert!(head.body.is_empty());
    of("DELETE", "1").at(&world).await.is(204);
    assert_eq!(of("GET", "1").at(&world).await.refused(404), "absent");
    assert_eq!(of("DELETE", "1").at(&world).await.refused(404), "absent");
}

#[tokio::test]
async fn operations_are_joined_and_not_written_over() {
    let world = World::new().await;
    of("PUT", "1")
        .json(r#"{"votes":{"$counter":1},"tags":{"$set":["a","b"]}}"#)
        .at(&world)
        .await
        .is(201);
    let many = (0..20).map(|_| async {
        of("PATCH", "1").json(r#"{"votes":{"$increment":2}}"#).at(&world).await.is(200);
    });
    futures_util::future::join_all(many).await;
    let patch = r#"{"tags":{"$insert":["c"]},"votes":{"$increment":-1},"done":true}"#;
    of("PATCH", "1").json(patch).at(&world).await.is(200);
    of("PATCH", "1")
        .json(r#"{"tags":{"$delete":["a"]},"best":{"$max":3}}"#)
        .at(&world)
        .await
        .is(200);
    of("PATCH", "1").json(r#"{"best":{"$max":2}}"#).at(&world).await.is(200);
    let expected = json!({"votes": {"$counter": 40}, "tags": {"$set": ["b", "c"]}, "done": true,
        "best": {"$max": 3}});
    assert_eq!(of("GET", "1").at(&world).await.json(), expected);
    of("PATCH", "1")
        .json(r#"{"tags":{"$set":["z"]},"done":{"$clear":"lww"}}"#)
        .at(&world)
        .await
        .is(200);
    let left = of("GET", "1").at(&world).await.json();
    assert_eq!(left["tags"], json!({"$set": ["z"]}));
    assert!(left.get("done").is_none());
    // Nothing is made that was not to be.
    assert_eq!(of("PATCH", "2").json("{}").at(&world).await.refused(404), "absent");
    of("PATCH", "2?upsert=true").json(r#"{"votes":{"$increment":5}}"#).at(&world).await.is(201);
    assert_eq!(of("GET", "2").at(&world).await.json(), json!({"votes": {"$counter": 5}}));
}

#[tokio::test]
async fn replicas_and_http_see_each_other_under_one_root() {
    let world = World::new().await;
    of("PUT", "web").json(r#"{"title":"by HTTP"}"#).at(&world).await.is(201);
    let mut client = Client::joined(world.address, "demo", 1).await;
    client.push("replica", "by a replica").await.unwrap();
    client.settle().await.unwrap();
    of("PATCH", "replica").json(r#"{"votes":{"$increment":1}}"#).at(&world).await.is(200);
    let done = of("DELETE", "web").at(&world).await.is(204);
    assert!(done.body.is_empty());
    client.sync(rejoin_core::id::Seq(4)).await.unwrap();
    assert_eq!(client.verified.unwrap().1, client.root());
    let got = of("GET", "replica").at(&world).await.json();
    assert_eq!(got["votes"], json!({"$counter": 1}));
    assert!(got.to_string().contains("by a replica"), "{got}");
}

#[tokio::test]
async fn conflicts_that_are_kept_are_shown_and_resolved() {
    let world = World::new().await;
    of("PATCH", "1?upsert=true").json(r#"{"text":{"$resolve":"one"}}"#).at(&world).await.is(201);
    // A replica that knows nothing of it writes the same field.
    let mut client = Client::joined(world.address, "demo", 1).await;
    client.push_sibling("1", "text", "other").await.unwrap();
    client.settle().await.unwrap();
    let both = of("GET", "1").at(&world).await.is(200);
    assert_eq!(both.json()["text"], json!({"$review": ["one", "other"]}));
    let resolve = of("PATCH", "1").with("If-Match", both.header("etag"));
    resolve.json(r#"{"text":{"$resolve":"both"}}"#).at(&world).await.is(200);
    assert_eq!(of("GET", "1").at(&world).await.json()["text"], json!({"$review": ["both"]}));
}

#[tokio::test]
async fn a_write_happens_only_on_the_state_that_it_names() {
    let world = World::new().await;
    let first = of("PUT", "1").with("If-None-Match", "*").json("{}").at(&world).await.is(201);
    let again = of("PUT", "1").with("If-None-Match", "*").json("{}").at(&world).await;
    assert_eq!(again.refused(412), "changed");
    let tag = first.header("etag").to_owned();
    assert!(of("GET", "1").with("If-None-Match", &tag).at(&world).await.is(304).body.is_empty());
    // Of many that have read the same state one writes.
    let many = (0..10).map(|n| {
        let body = format!(r#"{{"n":{n}}}"#);
        let asked = of("PUT", "1").with("If-Match", &tag).json(&body);
        let world = &world;
        async move { asked.at(world).await.status }
    });
    let mut statuses = futures_util::future::join_all(many).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![412; 9]].concat());
    of("GET", "1").with("If-None-Match", &tag).at(&world).await.is(200);
    for stale in [tag.as_str(), "\"none\"", "W/\"x\""] {
        assert_eq!(
            of("DELETE", "1").with("If-Match", stale).at(&world).await.refused(412),
            "changed"
        );
        let patch = of("PATCH", "1").with("If-Match", stale).json("{}").at(&world).await;
        assert_eq!(patch.refused(412), "changed");
    }
    let none = of("PUT", "2").with("If-Match", "*").json("{}").at(&world).await;
    assert_eq!(none.refused(412), "changed");
    of("PUT", "1").with("If-Match", "*").json("{}").at(&world).await.is(200);
    for (name, said) in [("If-None-Match", tag.as_str()), ("If-Match", "abc"), ("If-Match", "")] {
        let wrong = of("PUT", "1").with(name, said).json("{}").at(&world).await;
        assert_eq!(wrong.refused(400), "invalid");
    }
}

#[tokio::test]
async fn new_records_get_an_id_and_names_may_have_anything_in_them() {
    let world = World::new().await;
    let path = "/v1/spaces/team%2F7/collections/tasks%2F42%20%C3%A9/records";
    let made = ask("POST", path).json(r#"{"a":1}"#).at(&world).await.is(201);
    let place = made.header("location").to_owned();
    assert!(place.starts_with(&format!("{path}/")), "{place}");
    assert_eq!(ask("GET", &place).at(&world).await.is(200).json(), json!({"a": 1}));
    ask("PUT", format!("{path}/a%2Fb%3F")).json("{}").at(&world).await.is(201);
    let listed = ask("GET", path).at(&world).await.is(200).json();
    let listed = listed["records"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|record| record["collection"] == "tasks/42 é"));
    assert!(listed.iter().any(|record| record["id"] == "a/b?"));
    for bad in [
        "/v1/spaces/a%2F%2Fb/collections/c/records/1",
        "/v1/spaces/a/collections/c/records/%00",
        "/v1/spaces/a/collections/%FF/records/1",
    ] {
        assert_eq!(ask("GET", bad).at(&world).await.refused(400), "invalid", "{bad}");
    }
}

#[tokio::test]
async fn a_collection_is_listed_page_by_page_without_what_is_removed() {
    let world = World::new().await;
    for number in 0..25 {
        of("PUT", &format!("{number:02}")).json(r#"{"a":1}"#).at(&world).await.is(201);
    }
    for number in [0, 7, 24] {
        of("DELETE", &format!("{number:02}")).at(&world).await.is(204);
    }
    of("PUT", "x").json("{}").at(&world).await.is(201);
    within("PUT", "collections/other/records/1").json("{}").at(&world).await.is(201);
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("collections/tasks/records?limit=10{cursor}");
        let page = within("GET", &path).at(&world).await.is(200).json();
        let records = page["records"].as_array().unwrap();
        assert!(records.len() <= 10);
        ids.extend(records.iter().map(|record| record["id"].as_str().unwrap().to_owned()));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids.len(), 23);
    assert!(ids.is_sorted() && ids.contains(&"23".to_owned()) && !ids.contains(&"07".to_owned()));
    let collections = within("GET", "collections").at(&world).await.is(200).json();
    assert_eq!(collections, json!({"collections": ["other", "tasks"]}));
    for bad in ["limit=0", "limit=1001", "limit=x", "unknown=1", "cursor="] {
        let told = within("GET", &format!("collections/tasks/records?{bad}")).at(&world).await;
        assert_eq!(told.refused(400), "invalid", "{bad}");
    }
    let nothing = ask("GET", "/v1/spaces/never/collections/c/records").at(&world).await.is(200);
    assert_eq!(nothing.json(), json!({"records": []}));
}
