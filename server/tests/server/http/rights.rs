//! Who may do what: as in sessions, and what is forbidden looks as what is not there.

use super::{Ask, Events, ask, of, within};
use crate::world::World;
use std::fs;

const TOKENS: &str = "
[[tokens]]
token = 'of-ada'
principal = 'ada'
spaces = [{ space = 'demo', write = true }, { space = 'other', write = true }]
[[tokens]]
token = 'of-bob'
principal = 'bob'
spaces = [{ space = 'demo', collections = ['open'] },
          { space = 'demo', collections = ['own/*'], write = true }]
";

async fn world() -> World {
    World::with(|directory, config| {
        config.tokens = Some(directory.file("tokens.toml", TOKENS));
    })
    .await
}

impl Ask {
    fn by(self, token: &str) -> Self {
        self.with("Authorization", &format!("Bearer {token}"))
    }
}

fn record(method: &'static str, collection: &str) -> Ask {
    let asked = within(method, &format!("collections/{collection}/records/1"));
    if matches!(method, "PUT" | "PATCH") { asked.json("{}") } else { asked }
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told() {
    let world = world().await;
    for asked in [
        of("GET", "1"),
        of("GET", "1").by("of-eve"),
        of("GET", "1").with("Authorization", "Basic b2YtYWRh"),
        of("GET", "1").with("Authorization", "of-ada"),
        within("GET", "live").by("of-eve"),
        within("GET", "presence").by(""),
        within("POST", "batch").json("{}"),
    ] {
        let told = asked.at(&world).await;
        assert!(told.header("www-authenticate").starts_with("Bearer"));
        assert_eq!(told.refused(401), "unauthorized");
    }
    of("GET", "1").with("Authorization", "bearer of-ada").at(&world).await.is(404);
}

#[tokio::test]
async fn what_is_forbidden_and_what_is_not_there_look_the_same() {
    let world = world().await;
    for collection in ["open", "own%2F7", "secret"] {
        record("PUT", collection).by("of-ada").at(&world).await.is(201);
    }
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let hidden = record(method, "secret").by("of-bob").at(&world).await.is(404);
        let absent = record(method, "nowhere").by("of-bob").at(&world).await.is(404);
        assert_eq!((hidden.headers.get("allow"), hidden.body), (None, absent.body), "{method}");
    }
    let list = |name| within("GET", &format!("collections/{name}/records")).by("of-bob");
    assert_eq!(
        list("secret").at(&world).await.is(404).body,
        list("none").at(&world).await.is(404).body
    );
    for space in ["other", "nowhere", "rejoin%2Fhealth"] {
        let path = format!("/v1/spaces/{space}");
        for rest in ["collections/a/records/1", "changes", "presence", "collections", "live"] {
            let told = ask("GET", format!("{path}/{rest}")).by("of-bob").at(&world).await;
            assert_eq!(told.refused(404), "absent", "{space} {rest}");
        }
    }
    record("GET", "open").by("of-bob").at(&world).await.is(200);
    for method in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(record(method, "open").by("of-bob").at(&world).await.refused(403), "forbidden");
        let made = if method == "DELETE" { 204 } else { 200 };
        record(method, "own%2F7").by("of-bob").at(&world).await.is(made);
    }
}

#[tokio::test]
async fn lists_feeds_and_batches_hold_nothing_but_what_the_token_may_see() {
    let world = world().await;
    let mut events = {
        let mut asked = within("GET", "live").by("of-bob").send(world.address).await;
        assert_eq!(super::head(&mut asked).await.unwrap().status, 200);
        Events(asked)
    };
    for collection in ["secret", "open", "open2", "own", "own%2F7", "ownother"] {
        record("PUT", collection).by("of-ada").at(&world).await.is(201);
    }
    let collections = within("GET", "collections").by("of-bob").at(&world).await.is(200).json();
    assert_eq!(collections["collections"], serde_json::json!(["open", "own", "own/7"]));
    let changes = within("GET", "changes").by("of-bob").at(&world).await.is(200).json();
    let told = |change: &serde_json::Value| change["collection"].as_str().unwrap().to_owned();
    let seen: Vec<_> = changes["changes"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(seen, ["open", "own", "own/7"]);
    // Nor does a cursor name what it passes over.
    let page = within("GET", "changes?limit=1").by("of-bob").at(&world).await.is(200).json();
    let mut cursor = page["cursor"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &cursor);
        let text = String::from_utf8_lossy(&bytes.unwrap()).into_owned();
        assert!(!["secret", "open2", "ownother"].iter().any(|name| text.contains(name)), "{text}");
        let path = format!("changes?limit=1&cursor={cursor}");
        let page = within("GET", &path).by("of-bob").at(&world).await.is(200).json();
        page["cursor"].as_str().unwrap().clone_into(&mut cursor);
    }
    for expected in ["open", "own", "own/7"] {
        assert_eq!(told(&events.change().await.1), expected);
    }
    let items = ["secret", "open", "own"].map(|collection| {
        format!(r#"{{"op":"put","collection":"{collection}","id":"9","fields":{{}}}}"#)
    });
    let batch = |atomic| format!(r#"{{"atomic":{atomic},"items":[{}]}}"#, items.join(","));
    let told = within("POST", "batch").by("of-bob").json(&batch(false)).at(&world).await.is(200);
    let statuses = told.json()["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(statuses, [404, 403, 201]);
    within("POST", "batch").by("of-bob").json(&batch(true)).at(&world).await.is(404);
}

#[tokio::test]
async fn names_of_requests_are_each_principals_own() {
    let world = world().await;
    let add = |token| {
        let path = "collections/own/records/1?upsert=true";
        let asked = within("PATCH", path).json(r#"{"n":{"$increment":1}}"#);
        asked.with("Idempotency-Key", "same").by(token)
    };
    add("of-ada").at(&world).await.is(201);
    add("of-bob").at(&world).await.is(200);
    let got = record("GET", "own").by("of-ada").at(&world).await.is(200);
    assert_eq!(got.json()["n"]["$counter"], 2);
}

#[tokio::test]
async fn a_live_feed_ends_with_its_token() {
    let world = world().await;
    let asked = within("GET", "live").by("of-bob");
    let mut asked = asked.send(world.address).await;
    assert_eq!(super::head(&mut asked).await.unwrap().status, 200);
    let mut events = Events(asked);
    let without_bob = TOKENS.split("[[tokens]]").take(2).collect::<Vec<_>>().join("[[tokens]]");
    fs::write(world.directory.path().join("tokens.toml"), without_bob).unwrap();
    let last = events.next().await.expect("last words");
    assert_eq!(last.kind, "problem");
    assert!(last.data.contains(r#""code":"unauthorized""#), "{}", last.data);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_those_of_the_list_may_read() {
    let world = World::with(|_, config| {
        config.origins = vec!["https://app.example".to_owned()];
    })
    .await;
    of("PUT", "1").json("{}").at(&world).await.is(201);
    let strange = of("GET", "1").with("Origin", "https://evil.example").at(&world).await;
    assert!(!strange.headers.contains_key("access-control-allow-origin"));
    assert_eq!(strange.refused(403), "forbidden");
    let known = of("GET", "1").with("Origin", "https://app.example").at(&world).await.is(200);
    assert_eq!(known.header("access-control-allow-origin"), "https://app.example");
    assert!(known.header("access-control-expose-headers").contains("etag"));
    let asked = of("OPTIONS", "1").with("Origin", "https://app.example");
    let asked = asked.with("Access-Control-Request-Method", "PATCH").at(&world).await.is(200);
    assert!(asked.header("access-control-allow-methods").contains("PATCH"));
    assert!(asked.header("access-control-allow-headers").contains("if-match"));
}
