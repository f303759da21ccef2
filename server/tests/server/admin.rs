//! The admin page: who gets to see it, what it tells, and that it tells no values.

use crate::{
    client::Client,
    world::{PATIENCE, World, get},
};
use rejoin_server::{AdminConfig, Config, ConfigError, Server, ServerError};
use serde_json::Value as Json;
use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const TOKEN: &str = "an-admin-token-of-some-length-0123456789";
const LISTS: [&str; 10] = [
    "overview",
    "rates",
    "spaces",
    "clients",
    "replicas?space=demo",
    "collections?space=demo",
    "records?space=demo&collection=tasks",
    "record?space=demo&collection=tasks&id=a",
    "events",
    "live",
];

fn with_page(directory: &crate::world::Directory, config: &mut Config) {
    let token = directory.file("admin.token", &format!("{TOKEN}\n"));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.admin = Some(AdminConfig { listen, ..AdminConfig::new(token) });
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a body").1
}

/// What a path of the interface tells.
async fn told(world: &World, path: &str) -> Json {
    let path = format!("/admin/api/{path}");
    let (status, answer) = get(world.admin(), &path, &bearer(TOKEN)).await;
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(body(&answer)).expect("JSON")
}

/// Asks until what is told is as wanted.
async fn until(world: &World, path: &str, is_so: impl Fn(&Json) -> bool) -> Json {
    let asking = timeout(PATIENCE, async {
        loop {
            let found = told(world, path).await;
            if is_so(&found) {
                return found;
            }
            // Nobody says when it is.
            sleep(Duration::from_millis(50)).await;
        }
    });
    asking.await.unwrap_or_else(|_| panic!("{path} never becomes so"))
}

fn len(found: &Json, key: &str) -> usize {
    found[key].as_array().expect("a list").len()
}

#[tokio::test]
async fn x28_nothing_of_it_is_there_unless_it_is_asked_for_and_only_on_its_own_listener() {
    let plain = World::new().await;
    let world = World::with(|directory, config| {
        with_page(directory, config);
        config.operations.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    })
    .await;
    assert_eq!(Config::new("x").admin, None);
    assert!(AdminConfig::new("x").listen.ip().is_loopback());
    for path in ["/admin", "/admin/", "/admin/admin.js", "/admin/api/overview"] {
        for address in [plain.address, world.address] {
            let (status, answer) = get(address, path, &bearer(TOKEN)).await;
            assert_eq!(status, 404, "{path}: {answer}");
        }
    }
    for path in ["/sync", "/metrics", "/readyz", "/v1/openapi.json", "/healthz"] {
        let (status, answer) = get(world.admin(), path, &bearer(TOKEN)).await;
        assert_eq!(status, 404, "{path}: {answer}");
    }
    let (status, _) = get(world.admin(), "/", "").await;
    assert_eq!(status, 307);
}

#[tokio::test]
async fn page_holds_nothing_and_may_run_nothing_but_its_own_script() {
    let world = World::with(with_page).await;
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page")).unwrap();
    let files: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(files.iter().filter(|file| file.ends_with(".js")).count() > 10, "{files:?}");
    for file in files {
        let (path, kind) = match file.rsplit_once('.').unwrap() {
            ("index", "html") => ("/admin/".to_owned(), "text/html; charset=utf-8"),
            (_, "css") => (format!("/admin/{file}"), "text/css; charset=utf-8"),
            (_, "js") => (format!("/admin/{file}"), "text/javascript; charset=utf-8"),
            other => panic!("{other:?}"),
        };
        let (status, answer) = get(world.admin(), &path, "").await;
        assert_eq!(status, 200, "{path}");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        for part in [
            &format!("content-type: {kind}"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "require-trusted-types-for 'script'",
            "frame-ancestors 'none'",
            "referrer-policy: no-referrer",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.contains(part), "{path} lacks {part}: {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(sink), "{path} has {sink}");
        }
        for inline in ["<style", " style=", " onclick=", "javascript:"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
    }
}

#[tokio::test]
async fn x12_wrong_token_gets_the_same_answer_whatever_is_asked() {
    let world = World::with(|directory, config| {
        with_page(directory, config);
        let tokens = "[[tokens]]\ntoken='user'\nprincipal='ada'\nspaces=[{space='*',write=true}]\n";
        config.tokens = Some(directory.file("tokens.toml", tokens));
    })
    .await;
    let date = |line: &&str| !line.starts_with("date:");
    let mut answers = BTreeSet::new();
    for path in LISTS.into_iter().chain(["nothing", "spaces?limit=x", "record?space=other"]) {
        let (status, answer) = get(world.admin(), &format!("/admin/api/{path}"), "").await;
        assert_eq!(status, 401, "{path}");
        answers.insert(answer.lines().filter(date).collect::<Vec<_>>().join("\n"));
    }
    // A user's token, one that is nearly right, one in another form, one in the address.
    let nearly = TOKEN.strip_suffix('9').unwrap();
    let basic = format!("Authorization: Basic {TOKEN}\r\n");
    for (path, headers) in [
        ("overview", bearer("user")),
        ("spaces", bearer(nearly)),
        ("clients", bearer(&format!("{TOKEN}x"))),
        ("events", basic),
        (&*format!("events?token={TOKEN}"), String::new()),
    ] {
        let (status, answer) = get(world.admin(), &format!("/admin/api/{path}"), &headers).await;
        assert_eq!(status, 401, "{path} {headers}");
        answers.insert(answer.lines().filter(date).collect::<Vec<_>>().join("\n"));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let (status, _) = get(world.address, "/v1/spaces/demo/collections", &bearer(TOKEN)).await;
    assert_eq!(status, 401, "the admin's token opens nothing else");
}

#[tokio::test]
async fn wrong_tokens_are_counted_by_address_and_a_page_without_one_is_not() {
    let world = World::with(with_page).await;
    for _ in 0..30 {
        assert_eq!(get(world.admin(), "/admin/api/overview", "").await.0, 401);
    }
    for _ in 0..10 {
        assert_eq!(get(world.admin(), "/admin/api/overview", &bearer("wrong")).await.0, 401);
    }
    let mut refused = Vec::new();
    for token in ["wrong", TOKEN] {
        let (status, answer) = get(world.admin(), "/admin/api/overview", &bearer(token)).await;
        assert_eq!(status, 429, "{answer}");
        assert!(answer.contains("retry-after: "), "{answer}");
        refused.push(body(&answer).to_owned());
    }
    assert_eq!(
        refused[0], refused[1],
        "who is not listened to does not learn whether he was right"
    );
}

#[tokio::test]
async fn token_that_is_too_short_or_missing_is_refused_at_the_start_and_a_new_one_holds_soon() {
    let mut world = World::with(with_page).await;
    let file = world.directory.file("admin.token", "a-second-admin-token-9876543210\n");
    let asking = timeout(PATIENCE, async {
        loop {
            let headers = bearer("a-second-admin-token-9876543210");
            if get(world.admin(), "/admin/api/rates", &headers).await.0 == 200 {
                return;
            }
            // As long as a wrong one is remembered.
            sleep(Duration::from_millis(700)).await;
        }
    });
    asking.await.expect("the new token holds");
    assert_eq!(get(world.admin(), "/admin/api/rates", &bearer(TOKEN)).await.0, 401);
    world.stop().await;
    for text in ["short\n", "", "a token with spaces in it, long enough\n"] {
        fs::write(&file, text).unwrap();
        let refused = world.try_start().await.unwrap_err();
        assert!(matches!(refused, ServerError::AdminToken(_)), "{refused}");
        assert!(refused.to_string().contains("openssl rand -hex 32"), "{refused}");
    }
    fs::remove_file(&file).unwrap();
    assert!(world.try_start().await.unwrap_err().to_string().contains("cannot read"));
    let mut config = Config::new(world.directory.path().join("other"));
    config.admin = Some(AdminConfig::new(file));
    assert!(Server::check(&config).await.is_err());
    assert!(ConfigError::AdminTokenMissing.to_string().contains("--admin-token-file"));
}

#[tokio::test]
async fn spaces_clients_and_records_are_told_with_their_sizes_lags_and_stamps_and_no_values() {
    let world = World::with(with_page).await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let _bob = Client::joined(world.address, "demo", 2).await;
    let _else = Client::joined(world.address, "other", 3).await;
    ada.push("a1", "a secret value").await.unwrap();
    ada.settle().await.unwrap();

    let has_size = |found: &Json| found["spaces"][0]["size"]["records"] == 1;
    let spaces = until(&world, "spaces", has_size).await;
    let demo = &spaces["spaces"][0];
    assert_eq!((&demo["space"], &demo["head"]), (&"demo".into(), &1.into()));
    assert_eq!(demo["open"]["clients"], 2);
    assert!(demo["size"]["bytes"].as_u64().unwrap() > 20, "{demo}");
    assert_eq!(len(&spaces, "spaces"), 2);

    let is_level = |found: &Json| found["clients"][0]["lag"]["positions"] == 0;
    let clients = until(&world, "clients?space=demo", is_level).await;
    assert_eq!(len(&clients, "clients"), 2);
    let first = &clients["clients"][0];
    assert_eq!(first["replica"], ada.replica.to_string());
    assert_eq!((&first["accepted"], &first["position"]), (&1.into(), &1.into()));
    assert_eq!(len(&told(&world, "clients").await, "clients"), 3);

    let replicas = told(&world, "replicas?space=demo").await;
    assert_eq!(replicas["replicas"][0]["connected"], true);
    let collections = told(&world, "collections?space=demo").await;
    let collection = collections["collections"][0].as_str().unwrap().to_owned();
    let records = told(&world, &format!("records?space=demo&collection={collection}")).await;
    assert_eq!(records["records"][0]["id"], "a1");
    let path = format!("record?space=demo&collection={collection}&id=a1");
    let record = told(&world, &path).await;
    assert_eq!(record["live"], true);
    assert_eq!(record["seen"][0]["replica"], ada.replica.to_string());
    assert_eq!(record["cells"][0]["writes"][0]["replica"], ada.replica.to_string());
    let principal = &record["principals"][ada.replica.to_string()];
    assert!(principal.is_string(), "{record}");

    let events = told(&world, "events").await.to_string();
    for kind in ["opened", "connected", "pushed"] {
        assert!(events.contains(&format!("\"kind\":\"{kind}\"")), "{kind}: {events}");
    }
    for found in [spaces, clients, replicas, records, record, events.into()] {
        assert!(!found.to_string().contains("secret"), "{found}");
    }
}

#[tokio::test]
async fn conflicts_and_refusals_are_told_with_who_won_and_who_was_refused() {
    let world = World::with(|directory, config| {
        with_page(directory, config);
        let tokens = "[[tokens]]\ntoken='w'\nprincipal='ada'\nspaces=[{space='*',write=true}]\n\
                      [[tokens]]\ntoken='r'\nprincipal='eve'\nspaces=[{space='demo'}]\n";
        config.tokens = Some(directory.file("tokens.toml", tokens));
    })
    .await;
    let join = async |name: u8, token: &str| {
        let mut client = Client::new("demo", name);
        client.token = Some(token.to_owned());
        client.join(world.address).await.unwrap();
        client
    };
    let (mut ada, mut second, mut eve) =
        (join(1, "w").await, join(2, "w").await, join(3, "r").await);
    for client in [&mut ada, &mut second] {
        client.push("same", "x").await.unwrap();
        client.settle().await.unwrap();
    }
    eve.push("refused", "x").await.unwrap();
    let mut stranger = Client::new("demo", 4);
    stranger.token = Some("nobody".to_owned());
    stranger.join(world.address).await.unwrap_err();

    let is_there = |found: &Json| len(found, "events") > 0;
    let conflicts = until(&world, "events?class=conflict", is_there).await;
    let conflict = &conflicts["events"][0];
    let (one, other) = (ada.replica.to_string(), second.replica.to_string());
    let named = [&conflict["won"]["replica"], &conflict["lost"]["replica"]];
    assert!(named == [&one, &other] || named == [&other, &one], "{conflict}");
    assert_eq!(conflict["record"], "same");

    let both = |found: &Json| len(found, "events") == 2;
    let refusals = until(&world, "events?class=refusal", both).await;
    let of = |kind: &str| {
        let mut events = refusals["events"].as_array().unwrap().iter();
        events.find(|event| event["kind"] == kind).expect("its event")
    };
    assert_eq!(of("denied")["code"], "unauthorized");
    assert_eq!(
        (&of("rejected")["code"], &of("rejected")["principal"]),
        (&"forbidden".into(), &"eve".into())
    );

    let has_refused = |found: &Json| found["traffic"]["refused"] == 1;
    let overview = until(&world, "overview", has_refused).await;
    assert_eq!(overview["traffic"]["accepted"], 2);
    assert_eq!(overview["probes"]["ready"]["ok"], true);
    let has_rate = |found: &Json| {
        let samples = found["samples"].as_array().unwrap();
        samples.iter().any(|sample| sample["accepted"].as_f64() > Some(0.0))
    };
    let rates = until(&world, "rates", has_rate).await;
    let last = rates["samples"].as_array().unwrap().last().unwrap()["number"].clone();
    let fresh = told(&world, &format!("rates?after={last}")).await;
    assert!(len(&fresh, "samples") <= 1, "{fresh}");
}

#[tokio::test]
async fn live_tail_tells_what_comes_behind_where_a_reader_was() {
    let world = World::with(with_page).await;
    let mut stream = TcpStream::connect(world.admin()).await.unwrap();
    let request =
        format!("GET /admin/api/live?after=0 HTTP/1.1\r\nHost: x\r\n{}\r\n", bearer(TOKEN));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut ada = Client::joined(world.address, "demo", 1).await;
    ada.push("a1", "a secret value").await.unwrap();
    ada.settle().await.unwrap();
    let mut text = String::new();
    let reading = timeout(PATIENCE, async {
        while !text.contains("\"kind\":\"pushed\"") {
            let mut bytes = [0; 4_096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "it ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    });
    reading.await.expect("the event in time");
    assert!(text.contains("text/event-stream") && text.contains("id: 1\nevent: event\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    drop(stream);

    // So many may follow at a time.
    let mut held = Vec::new();
    loop {
        let mut stream = TcpStream::connect(world.admin()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = [0; 32];
        timeout(PATIENCE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        if !bytes.starts_with(b"HTTP/1.1 200") {
            assert!(bytes.starts_with(b"HTTP/1.1 429"), "{bytes:?}");
            break;
        }
        held.push(stream);
        assert!(held.len() < 100);
    }
    assert!(held.len() >= 15, "{}", held.len());
}

#[tokio::test]
async fn answers_are_bounded_and_pages_follow_each_other() {
    let world = World::with(with_page).await;
    let names: Vec<String> = (100..230).map(|at| format!("space-{at}")).collect();
    for name in &names {
        Client::joined(world.address, name, 1).await;
    }
    let mut found = Vec::new();
    let mut path = "spaces?limit=1000".to_owned();
    loop {
        let page = told(&world, &path).await;
        assert!(len(&page, "spaces") <= 100);
        let of = |space: &Json| space["space"].as_str().unwrap().to_owned();
        found.extend(page["spaces"].as_array().unwrap().iter().map(of));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("spaces?limit=1000&after={next}");
    }
    assert_eq!(found, names);
    let some = told(&world, "spaces?contains=space-12&limit=3").await;
    assert_eq!((len(&some, "spaces"), &some["next"]), (3, &"space-122".into()));

    let one = told(&world, "spaces?space=space-127").await;
    assert_eq!((len(&one, "spaces"), &one["spaces"][0]["space"]), (1, &"space-127".into()));
    assert_eq!(len(&told(&world, "spaces?space=space-1").await, "spaces"), 0);

    let events = told(&world, "events?limit=7").await;
    let last = events["events"][6]["number"].as_u64().unwrap();
    assert_eq!(events["next"], last);
    let next = told(&world, &format!("events?limit=7&before={last}")).await;
    assert_eq!(next["events"][0]["number"], last - 1);

    for (path, status) in [
        ("spaces?limit=x", 400),
        ("spaces?other=x", 400),
        ("spaces?after=", 400),
        ("records?space=demo", 400),
        ("replicas?space=space-100&after=x", 400),
        ("replicas?space=unknown", 404),
        ("collections?space=rejoin/age", 404),
        ("record?space=space-100&collection=tasks&id=none", 404),
        ("events?class=none", 400),
        ("nothing", 404),
    ] {
        let (found, answer) =
            get(world.admin(), &format!("/admin/api/{path}"), &bearer(TOKEN)).await;
        assert_eq!(found, status, "{path}: {answer}");
        let problem: Json = serde_json::from_str(body(&answer)).unwrap();
        assert!(problem["error"].is_string(), "{path}: {answer}");
    }
}

/// Text that does not become shorter by being deflated.
fn noise(seed: u64) -> String {
    let mut state = seed;
    let next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:08x}", state >> 32)
    };
    std::iter::repeat_with(next).take(12_500).collect()
}

#[tokio::test]
async fn client_that_takes_nothing_is_told_with_how_far_it_is_behind() {
    let world = World::with(|directory, config| {
        with_page(directory, config);
        config.limits.stall_max = Duration::from_secs(600);
    })
    .await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let takes_nothing = Client::joined(world.address, "demo", 2).await;
    for at in 0..150 {
        ada.push(&format!("a{at}"), &noise(at)).await.unwrap();
        ada.settle().await.unwrap();
    }
    let is_behind = |found: &Json| len(&found["traffic"], "behind") == 1;
    let overview = until(&world, "overview", is_behind).await;
    let behind = &overview["traffic"]["behind"][0];
    assert!(behind["lag"]["positions"].as_u64() > Some(0), "{behind}");
    assert!(behind["lag"]["ms"].as_u64() >= Some(5_000), "{behind}");
    assert!(behind["unsent_bytes"].as_u64() > Some(100_000), "{behind}");
    let findings = overview["findings"].as_array().unwrap();
    assert_eq!(findings[0]["what"], "Clients are behind");

    let has_been_level = |found: &Json| found["clients"][0]["lag"]["positions"] == 0;
    until(&world, "clients?space=demo&limit=1", has_been_level).await;
    drop(takes_nothing);
    let is_over = |found: &Json| len(&found["traffic"], "behind") == 0;
    until(&world, "overview", is_over).await;
}
