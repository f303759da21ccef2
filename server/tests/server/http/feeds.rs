//! What has changed: pages of it, and as it comes.

use super::{Ask, Events, ask, of, within};
use crate::world::World;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// All pages from a cursor, and where they end.
async fn pages(world: &World, query: &str, from: Option<&str>) -> (Vec<Json>, String, usize) {
    let mut cursor = from.map(str::to_owned);
    let (mut changes, mut pages) = (Vec::new(), 0);
    loop {
        let at = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let page = within("GET", &format!("changes?{query}{at}")).at(world).await.is(200).json();
        changes.extend(page["changes"].as_array().unwrap().clone());
        pages += 1;
        let next = page["cursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            return (changes, next, pages);
        }
        cursor = Some(next);
    }
}

fn ids(changes: &[Json]) -> Vec<&str> {
    changes.iter().map(|change| change["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn changes_come_in_order_page_by_page_and_once_for_each_record() {
    let mut world = World::new().await;
    let (nothing, start, _) = pages(&world, "limit=2", None).await;
    assert!(nothing.is_empty());
    for id in ["a", "b", "c", "a", "d", "e"] {
        of("PATCH", &format!("{id}?upsert=true"))
            .json(r#"{"n":{"$increment":1}}"#)
            .at(&world)
            .await;
    }
    of("DELETE", "d").at(&world).await.is(204);
    let (changes, cursor, count) = pages(&world, "limit=2", Some(&start)).await;
    assert_eq!(ids(&changes), ["b", "c", "a", "e", "d"]);
    assert_eq!(count, 3);
    assert_eq!(changes[2]["fields"], json!({"n": {"$counter": 2}}));
    assert!(changes[4].get("fields").is_none() && changes[4].get("etag").is_none(), "removed");
    assert!(changes.is_sorted_by_key(|change| change["seq"].as_u64()));
    // From there only what is new, also behind a restart.
    world.restart().await;
    assert!(pages(&world, "", Some(&cursor)).await.0.is_empty());
    of("PUT", "b").json("{}").at(&world).await.is(200);
    assert_eq!(ids(&pages(&world, "", Some(&cursor)).await.0), ["b"]);
    let (none, now, _) = pages(&world, "", Some("now")).await;
    assert!(none.is_empty());
    // A batch that is cut by a page's end goes on where it was cut.
    let items: Vec<String> = (0..7)
        .map(|n| format!(r#"{{"op":"put","collection":"tasks","id":"n{n}","fields":{{}}}}"#))
        .collect();
    let batch = format!(r#"{{"atomic":true,"items":[{}]}}"#, items.join(","));
    within("POST", "batch").json(&batch).at(&world).await.is(200);
    let (changes, _, count) = pages(&world, "limit=3", Some(&now)).await;
    assert_eq!((changes.len(), count), (7, 3));
}

#[tokio::test]
async fn pages_end_at_a_megabyte_and_leave_out_what_was_not_asked_for() {
    let world = World::new().await;
    let text = "x".repeat(200_000);
    for number in 0..12 {
        of("PUT", &number.to_string())
            .json(&format!(r#"{{"text":"{text}"}}"#))
            .at(&world)
            .await
            .is(201);
    }
    within("PUT", "collections/tasks%2F1/records/below").json("{}").at(&world).await.is(201);
    within("PUT", "collections/other/records/1").json("{}").at(&world).await.is(201);
    let (changes, _, count) = pages(&world, "limit=1000", None).await;
    assert_eq!((changes.len(), count), (14, 3));
    let (below, _, _) = pages(&world, "collections=tasks%2F1%2F*", None).await;
    assert_eq!(ids(&below), ["below"]);
    assert_eq!(pages(&world, "limit=1000&collections=tasks%2F*", None).await.0.len(), 13);
    assert_eq!(pages(&world, "collections=other", None).await.0.len(), 1);
}

#[tokio::test]
async fn a_cursor_of_another_history_is_gone_and_one_that_is_none_invalid() {
    let world = World::new().await;
    of("PUT", "a").json("{}").at(&world).await.is(201);
    let other = World::new().await;
    of("PUT", "a").json("{}").at(&other).await.is(201);
    let (_, cursor, _) = pages(&other, "", None).await;
    for path in ["changes", "live"] {
        let gone = within("GET", &format!("{path}?cursor={cursor}"));
        let gone = gone.with("Accept", "*/*").at(&world).await;
        assert!(String::from_utf8_lossy(&gone.body).contains("without a cursor"));
        assert_eq!(gone.refused(410), "cursor_gone");
        let bad = within("GET", &format!("{path}?cursor=abc")).at(&world).await;
        assert_eq!(bad.refused(400), "invalid");
    }
    let gone = within("GET", "live").with("Last-Event-ID", &cursor).at(&world).await;
    assert_eq!(gone.refused(410), "cursor_gone");
    for bad in ["limit=0", "collections=a%2F%2Fb", "other=1"] {
        let told = within("GET", &format!("changes?{bad}")).at(&world).await;
        assert_eq!(told.refused(400), "invalid", "{bad}");
    }
}

/// Writers race with a reader that comes and goes: each time it goes on behind the last event that came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_events_miss_nothing_and_keep_their_order_however_often_the_reader_comes_back() {
    const WRITERS: u32 = 4;
    const RECORDS: u32 = 120;
    let mut world = World::new().await;
    of("PUT", "before").json("{}").at(&world).await.is(201);
    let address = world.address;
    let (written, mut all_written) = oneshot::channel();
    let writing = tokio::spawn(async move {
        let writers = (0..WRITERS).map(|writer| async move {
            for number in 0..RECORDS {
                let id = format!("{writer}-{number}");
                of("PUT", &id).json("{}").tried(address).await.expect("an answer").is(201);
                let counted = of("PATCH", "shared?upsert=true").json(r#"{"n":{"$increment":1}}"#);
                assert!(matches!(
                    counted.tried(address).await.expect("an answer").status,
                    200 | 201
                ));
            }
        });
        futures_util::future::join_all(writers).await;
        written.send(()).ok();
    });
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let (mut last, mut last_seq, mut total, mut rounds) = (None::<String>, 0, 0, 0);
    let whole = u64::from(WRITERS * RECORDS);
    while seen.len() < (WRITERS * RECORDS) as usize + 2 || total < whole {
        let mut events = Events::open(address, "live", last.as_deref()).await;
        rounds += 1;
        // Less and more than a page each time.
        for _ in 0..rounds * 13 % 150 + 1 {
            if total == whole && seen.len() == (WRITERS * RECORDS) as usize + 2 {
                break;
            }
            let (id, change) = events.change().await;
            let seq = change["seq"].as_u64().unwrap();
            assert!(seq > last_seq, "{seq} behind {last_seq}");
            last_seq = seq;
            last = Some(id);
            *seen.entry(change["id"].as_str().unwrap().to_owned()).or_default() += 1;
            if change["id"] == "shared" {
                total = change["fields"]["n"]["$counter"].as_u64().unwrap();
            }
        }
    }
    writing.await.expect("no writer fails");
    assert!(all_written.try_recv().is_ok());
    assert!(rounds > 2, "{rounds}");
    let twice: Vec<_> = seen.iter().filter(|(id, times)| *id != "shared" && **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // The place is good behind a restart, too.
    world.restart().await;
    let mut events = Events::open(world.address, "live", last.as_deref()).await;
    of("PUT", "after").json("{}").at(&world).await.is(201);
    assert_eq!(events.change().await.1["id"], "after");
    world.stop().await;
    assert!(events.next().await.is_none(), "the feed ends with the process");
}

#[tokio::test]
async fn a_live_feed_brings_what_replicas_write_and_begins_where_it_is_asked_to() {
    let world = World::new().await;
    of("PUT", "old").json("{}").at(&world).await.is(201);
    let mut events = Events::open(world.address, "live?cursor=now&collections=tasks", None).await;
    within("PUT", "collections/other/records/1").json("{}").at(&world).await.is(201);
    let mut client = crate::client::Client::joined(world.address, "demo", 1).await;
    client.push("new", "by a replica").await.unwrap();
    client.settle().await.unwrap();
    assert_eq!(events.change().await.1["id"], "new");
    of("DELETE", "old").at(&world).await.is(204);
    let (_, removed) = events.change().await;
    assert_eq!((&removed["id"], removed.get("fields")), (&json!("old"), None));
    let wrong = Ask { headers: Vec::new(), ..ask("GET", "/v1/spaces/demo/live") };
    let wrong = wrong.with("Accept", "application/json").at(&world).await;
    assert_eq!(wrong.refused(406), "not_acceptable");
}
