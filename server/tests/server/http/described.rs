//! The document: every route is in it, and every status in it is answered.

use super::{Ask, Told, ask};
use crate::world::World;
use rejoin_server::Config;
use serde_json::Value as Json;
use std::{collections::BTreeSet, num::NonZeroU32};

const TOKENS: &str = "
[[tokens]]
token = 'writer'
principal = 'ada'
spaces = [{ space = 'demo', write = true }, { space = 'full', write = true }]
[[tokens]]
token = 'reader'
principal = 'bob'
spaces = [{ space = 'demo' }]
";

async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Config)) -> World {
    World::with(|directory, config| {
        change(config);
        config.tokens = Some(directory.file("tokens.toml", TOKENS));
        // `demo` is the only one.
        config.limits.spaces_max = 1;
        config.limits.live_feeds_max = 1;
    })
    .await
}

/// An operation of the document.
#[derive(Debug, Clone)]
struct Operation {
    id: String,
    method: &'static str,
    path: String,
    statuses: BTreeSet<String>,
    has_body: bool,
}

fn operations(document: &Json) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (name, operation) in item.as_object().expect("operations") {
            let method = ["GET", "PUT", "PATCH", "POST", "DELETE"]
                .into_iter()
                .find(|method| method.eq_ignore_ascii_case(name))
                .expect("a method");
            let statuses = operation["responses"].as_object().expect("answers").keys().cloned();
            found.push(Operation {
                id: operation["operationId"].as_str().expect("an id").to_owned(),
                method,
                path: path.clone(),
                statuses: statuses.filter(|status| status != "default").collect(),
                has_body: operation.get("requestBody").is_some(),
            });
        }
    }
    found
}

/// What a request is made of, where it differs from one that is fine.
#[derive(Clone)]
struct Made<'a> {
    space: &'a str,
    collection: &'a str,
    id: &'a str,
    query: &'a str,
    token: &'a str,
    headers: &'a [(&'a str, &'a str)],
    kind: &'a str,
    body: &'a str,
}

const FINE: Made<'_> = Made {
    space: "demo",
    collection: "tasks",
    id: "1",
    query: "",
    token: "writer",
    headers: &[],
    kind: "application/json",
    body: "{}",
};

impl Operation {
    fn made(&self, made: &Made<'_>) -> Ask {
        let path =
            self.path.replace("{space}", made.space).replace("{collection}", made.collection);
        let path = path.replace("{id}", made.id).replace("{name}", made.id);
        let mut asked = ask(self.method, format!("{path}{}", made.query));
        if !made.token.is_empty() {
            asked = asked.with("Authorization", &format!("Bearer {}", made.token));
        }
        if self.has_body {
            asked = asked.with("Content-Type", made.kind).bytes(made.body);
        }
        made.headers.iter().fold(asked, |asked, (name, value)| asked.with(name, value))
    }
}

/// What was answered to whom.
#[derive(Default)]
struct Seen(BTreeSet<(String, String)>);

impl Seen {
    async fn try_all(&mut self, world: &World, operation: &Operation, all: &[Made<'_>]) {
        for made in all {
            let asked = operation.made(made);
            self.note(operation, &asked.at_head(world).await);
        }
    }

    async fn try_what_all_refuse(&mut self, world: &World, operation: &Operation) {
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        let ways = [
            Made { space: "a%2F%2Fb", ..FINE },
            Made { token: "", ..FINE },
            Made { space: "nowhere", ..FINE },
            Made { headers: &[("Accept", "image/png")], ..FINE },
            Made { kind: "text/plain", ..FINE },
            Made { body: &large, ..FINE },
        ];
        let bodies = if operation.has_body { 6 } else { 4 };
        self.try_all(world, operation, &ways[..bodies]).await;
    }

    async fn try_batches(&mut self, world: &World, operation: &Operation) {
        let item = |op: &str, more: &str| {
            let item = format!(r#"{{"op":"{op}","collection":"tasks","id":"9"{more}}}"#);
            format!(r#"{{"atomic":true,"items":[{item}]}}"#)
        };
        let put = item("put", "");
        for (body, token, space) in [
            (&put, "writer", "demo"),
            (&item("add", ""), "writer", "demo"),
            (&item("put", r#","if_match":"\"x\"""#), "writer", "demo"),
            (&put, "reader", "demo"),
            (&put, "writer", "full"),
            (&"{}".to_owned(), "writer", "demo"),
        ] {
            self.try_all(world, operation, &[Made { body, token, space, ..FINE }]).await;
        }
    }

    async fn try_crowding(&mut self, world: &World, operation: &Operation) {
        for number in 0..=64 {
            let id = number.to_string();
            self.try_all(world, operation, &[Made { id: &id, ..FINE }]).await;
        }
    }

    /// Asks each until it is too often.
    async fn try_all_often(&mut self, all: &[Operation]) {
        let world = world_with(|config| config.rates.principal_requests = NonZeroU32::MIN).await;
        for operation in all {
            let refused = (operation.id.clone(), "429".to_owned());
            for _ in 0..50 {
                if !self.0.contains(&refused) {
                    self.try_all(&world, operation, &[FINE]).await;
                }
            }
        }
    }

    /// Writes into a space that holds no more records.
    async fn try_full_space(&mut self, all: &[Operation]) {
        let world = world_with(|config| config.limits.quota.records = 1).await;
        let batch = r#"{"atomic":true,"items":[{"op":"put","collection":"tasks","id":"2"}]}"#;
        let one = Made { id: "1", ..FINE };
        let another = Made { id: "2", query: "?upsert=true", ..FINE };
        let by_id =
            |id: &str| all.iter().find(|operation| operation.id == id).expect("it is there");
        self.try_all(&world, by_id("putRecord"), &[one, another.clone()]).await;
        for id in ["patchRecord", "createRecord"] {
            self.try_all(&world, by_id(id), std::slice::from_ref(&another)).await;
        }
        self.try_all(&world, by_id("writeBatch"), &[Made { body: batch, ..FINE }]).await;
    }

    fn note(&mut self, operation: &Operation, told: &Told) {
        self.0.insert((operation.id.clone(), told.status.to_string()));
    }
}

impl Ask {
    /// The head of an answer that may have no end.
    async fn at_head(&self, world: &World) -> Told {
        let mut stream = self.send(world.address).await;
        let told = tokio::time::timeout(crate::world::PATIENCE, super::head(&mut stream)).await;
        told.expect("in time").expect("a head")
    }
}

#[tokio::test]
async fn every_status_of_the_document_is_answered_and_no_other() {
    let world = world().await;
    let document = ask("GET", "/v1/openapi.json").at(&world).await.is(200).json();
    let foreign = {
        let other = World::new().await;
        ask("PUT", "/v1/spaces/demo/collections/tasks/records/1")
            .with("Content-Type", "application/json")
            .bytes("{}")
            .at(&other)
            .await
            .is(201);
        let page = ask("GET", "/v1/spaces/demo/changes").at(&other).await.is(200).json();
        page["cursor"].as_str().unwrap().to_owned()
    };
    let foreign = format!("?cursor={foreign}");
    let mut seen = Seen::default();
    let all = operations(&document);
    for operation in &all {
        seen.try_what_all_refuse(&world, operation).await;
    }
    let by_id = |id: &str| all.iter().find(|operation| operation.id == id).expect("it is there");
    let stale = Made { headers: &[("If-Match", "\"x\"")], ..FINE };
    let named = Made { headers: &[("Idempotency-Key", "n")], ..FINE };
    let forbidden = Made { token: "reader", ..FINE };
    let full = Made { space: "full", ..FINE };
    let odd = Made { body: "[]", ..FINE };
    let upsert = Made { id: "2", query: "?upsert=true", ..FINE };
    for (id, ways) in [
        (
            "putRecord",
            vec![named.clone(), FINE, stale.clone(), forbidden.clone(), full.clone(), odd.clone()],
        ),
        (
            "patchRecord",
            vec![FINE, upsert, stale.clone(), forbidden.clone(), full.clone(), odd.clone()],
        ),
        ("createRecord", vec![FINE, stale.clone(), forbidden.clone(), full.clone(), odd.clone()]),
        ("listRecords", vec![FINE]),
        ("listCollections", vec![FINE]),
        ("listChanges", vec![FINE, Made { query: &foreign, ..FINE }]),
        ("listPresence", vec![FINE]),
        ("showPresence", vec![FINE, Made { body: r#"{"$bytes":1}"#, ..FINE }]),
        ("hidePresence", vec![FINE]),
        ("watchChanges", vec![Made { query: &foreign, ..FINE }, full.clone()]),
        ("getRecord", vec![FINE, Made { headers: &[("If-None-Match", "*")], ..FINE }]),
        ("deleteRecord", vec![stale, forbidden, full.clone(), named, FINE]),
    ] {
        seen.try_all(&world, by_id(id), &ways).await;
    }
    seen.try_batches(&world, by_id("writeBatch")).await;
    seen.try_crowding(&world, by_id("showPresence")).await;
    // One who watches leaves no room for another.
    let live = by_id("watchChanges");
    let mut held = live.made(&FINE).send(world.address).await;
    seen.note(live, &super::head(&mut held).await.unwrap());
    seen.try_all(&world, live, &[FINE]).await;
    drop(held);

    seen.try_all_often(&all).await;
    seen.try_full_space(&all).await;
    let said: BTreeSet<(String, String)> = all
        .iter()
        .flat_map(|operation| {
            operation.statuses.iter().map(|status| (operation.id.clone(), status.clone()))
        })
        .collect();
    let unanswered: Vec<_> = said.difference(&seen.0).collect();
    let unsaid: Vec<_> = seen.0.difference(&said).collect();
    assert!(
        unanswered.is_empty() && unsaid.is_empty(),
        "never answered: {unanswered:?}; not said: {unsaid:?}"
    );
}

#[tokio::test]
async fn every_route_is_in_the_document() {
    let world = World::new().await;
    let told = ask("GET", "/v1/openapi.json").at(&world).await.is(200);
    assert_eq!(told.header("content-type"), "application/json");
    let document = told.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found: Vec<String> = operations(&document)
        .into_iter()
        .map(|operation| format!("{} {}", operation.method, operation.path))
        .collect();
    found.sort();
    let record = "/v1/spaces/{space}/collections/{collection}/records/{id}";
    let records = "/v1/spaces/{space}/collections/{collection}/records";
    let mut expected = vec![
        format!("GET {record}"),
        format!("PUT {record}"),
        format!("PATCH {record}"),
        format!("DELETE {record}"),
        format!("GET {records}"),
        format!("POST {records}"),
        "GET /v1/spaces/{space}/collections".to_owned(),
        "POST /v1/spaces/{space}/batch".to_owned(),
        "GET /v1/spaces/{space}/changes".to_owned(),
        "GET /v1/spaces/{space}/live".to_owned(),
        "GET /v1/spaces/{space}/presence".to_owned(),
        "PUT /v1/spaces/{space}/presence/{name}".to_owned(),
        "DELETE /v1/spaces/{space}/presence/{name}".to_owned(),
    ];
    expected.sort();
    assert_eq!(found, expected);
    // What the document does not have is no route.
    for method in ["GET", "PUT", "PATCH", "POST", "DELETE"] {
        for path in expected.iter().filter_map(|route| route.split_once(' ')).map(|(_, path)| path)
        {
            let is_said = found.contains(&format!("{method} {path}"));
            let path = path.replace(['{', '}'], "");
            let told = ask(method, path).with("Accept", "image/png").at(&world).await;
            assert_eq!(told.status == 405, !is_said, "{method} {}", told.status);
        }
    }
}
