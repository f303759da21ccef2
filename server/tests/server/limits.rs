//! What one may take of the server in a time, and that others have theirs meanwhile.

use crate::{
    client::{Client, Ended},
    http::{Told, ask},
    world::{Directory, PATIENCE, World, get},
};
use rejoin_client::{Options, Pattern, SpaceId, Value, key, put, set};
use rejoin_core::protocol::message::{Bye, ByeCode, RejectCode};
use rejoin_server::Config;
use serde_json::json;
use std::{net::SocketAddr, num::NonZeroU32, time::Duration};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};

const TOKENS: &str = "
[[tokens]]
token = 'of-ada'
principal = 'ada'
spaces = [{ space = 'demo', write = true }]
[[tokens]]
token = 'of-bob'
principal = 'bob'
spaces = [{ space = 'demo', write = true }]
";

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

async fn world(change: impl FnOnce(&mut Config)) -> World {
    let with_tokens = |directory: &Directory, config: &mut Config| {
        config.tokens = Some(directory.file("tokens.toml", TOKENS));
        change(config);
    };
    World::with(with_tokens).await
}

async fn get_as(world: &World, token: &str) -> (u16, String) {
    let headers = format!("Authorization: Bearer {token}\r\n");
    get(world.address, "/v1/spaces/demo/collections", &headers).await
}

async fn hello(world: &World, name: u8, token: &str) -> Result<Client, Ended> {
    let mut client = Client::new("demo", name);
    client.token = Some(token.to_owned());
    client.join(world.address).await.map(|_welcome| client)
}

fn is_told_when(answer: &str) -> bool {
    let after = answer.lines().find_map(|line| line.strip_prefix("retry-after: "));
    let after = after.and_then(|after| after.trim().parse::<u32>().ok());
    after.is_some_and(|after| after >= 1) && answer.contains("\"code\":\"busy\"")
}

#[tokio::test]
async fn x17_requests_of_a_principal_beyond_its_rate_are_told_when_to_come_and_others_are_served() {
    let world = world(|config| config.rates.principal_requests = number(1)).await;
    // What two seconds give is there at once.
    for _ in 0..2 {
        assert_eq!(get_as(&world, "of-ada").await.0, 200);
    }
    let mut refused = None;
    for _ in 0..50 {
        let (status, answer) = get_as(&world, "of-ada").await;
        if status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("50 requests take less than 50 seconds");
    assert!(is_told_when(&refused), "{refused}");
    assert_eq!(get_as(&world, "of-bob").await.0, 200);
    // Another connection, which this was, fills no bucket; time does.
    let served = timeout(PATIENCE, async {
        while get_as(&world, "of-ada").await.0 != 200 {
            sleep(Duration::from_millis(200)).await;
        }
    });
    served.await.unwrap();
}

#[tokio::test]
async fn x17_requests_of_an_address_beyond_its_rate_are_told_when_to_come() {
    let world = world(|config| config.rates.address_requests = number(1)).await;
    assert_eq!(world.get("/healthz").await.0, 200);
    assert_eq!(world.get("/v1/openapi.json").await.0, 200);
    for _ in 0..50 {
        let (status, answer) = world.get("/healthz").await;
        if status == 429 {
            assert!(is_told_when(&answer), "{answer}");
            assert_eq!(world.get("/livez").await.0, 200, "nobody ends it for that");
            return;
        }
    }
    panic!("50 requests took more than 48 seconds");
}

/// Whether the server takes a connection, and says something on it.
async fn is_taken(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    // One that is refused is closed at once, unread.
    let closed = timeout(Duration::from_millis(300), stream.read(&mut [0; 1])).await;
    closed.is_err()
}

#[tokio::test]
async fn x07_x17_connections_of_an_address_beyond_its_rate_are_closed_unread() {
    let world = world(|config| config.rates.address_connections = number(3)).await;
    for _ in 0..3 {
        assert!(is_taken(world.address).await);
    }
    assert!(!is_taken(world.address).await, "the next one is there in twenty seconds");
}

#[tokio::test]
async fn x17_an_address_that_shows_wrong_tokens_waits_while_known_ones_are_served() {
    let world = world(|config| config.rates.address_failures = number(3)).await;
    drop(hello(&world, 1, "of-ada").await.unwrap());
    let code = async |token: &str| match hello(&world, 2, token).await {
        Ok(_) => None,
        Err(ended) => Some(ended.bye()),
    };
    // Over whichever way in.
    for _ in 0..2 {
        assert_eq!(code("guess").await.unwrap().code, ByeCode::Unauthorized);
    }
    for _ in 0..2 {
        assert_eq!(get_as(&world, "another guess").await.0, 401);
    }
    let held = code("of-bob").await.unwrap();
    assert!(held.code == ByeCode::Busy && held.retry_after.is_some(), "{held:?}");
    let (status, answer) = get_as(&world, "a guess").await;
    assert!(status == 429 && is_told_when(&answer), "{answer}");
    assert!(code("of-ada").await.is_none(), "it was good before");
    assert_eq!(get_as(&world, "of-ada").await.0, 200);
}

#[tokio::test]
async fn x01_x17_who_sends_faster_than_it_may_is_read_more_slowly_and_loses_nothing() {
    let world = world(|config| config.rates.connection_messages = number(50)).await;
    let mut ada = hello(&world, 1, "of-ada").await.unwrap();
    let began = std::time::Instant::now();
    for serial in 0..150 {
        ada.push(&format!("a{serial}"), "x").await.unwrap();
    }
    ada.settle().await.unwrap();
    assert_eq!(ada.acknowledged.len(), 150);
    assert!(began.elapsed() > Duration::from_millis(900), "100 of them are free");
}

#[tokio::test]
async fn x17_connections_of_one_principal_share_its_rate_and_who_would_wait_long_is_told() {
    let world = world(|config| config.rates.principal_messages = number(2)).await;
    let mut clients = Vec::new();
    for name in 1..=8 {
        clients.push(hello(&world, name, "of-ada").await.unwrap());
    }
    let mut bob = hello(&world, 9, "of-bob").await.unwrap();
    // Eight who send 24 messages, of which four are free and two more are taken each second.
    for client in &mut clients {
        for serial in 0..3 {
            client.push(&format!("{:?}{serial}", client.replica), "x").await.ok();
        }
    }
    bob.push("b", "x").await.unwrap();
    let waited = std::time::Instant::now();
    bob.settle().await.unwrap();
    assert!(waited.elapsed() < Duration::from_secs(3), "another principal has its own");
    let mut told = 0;
    for client in &mut clients {
        if let Err(Ended::Bye(Bye { code, retry_after, .. })) = client.settle().await {
            assert!(code == ByeCode::Busy && retry_after.is_some(), "{code:?}");
            assert_eq!(client.close_code().await, Some(1013));
            told += 1;
        }
    }
    assert!(told > 0, "24 messages would take ten seconds");
}

#[tokio::test]
async fn x17_connections_of_a_principal_beyond_their_number_are_told_and_others_are_not() {
    let world = world(|config| config.limits.connections_per_principal_max = 2).await;
    let mut ada = Vec::new();
    for name in 1..=2 {
        ada.push(hello(&world, name, "of-ada").await.unwrap());
    }
    let Bye { code, retry_after, .. } = hello(&world, 3, "of-ada").await.err().unwrap().bye();
    assert!(code == ByeCode::Busy && retry_after.is_some());
    hello(&world, 4, "of-bob").await.unwrap();
    drop(ada.pop());
    let again = timeout(PATIENCE, async {
        while hello(&world, 3, "of-ada").await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    again.await.unwrap();
}

/// What was written on a device stays there, refused with the reason, and can be tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x17_x18_space_that_is_full_refuses_what_adds_and_lets_the_rest_be_changed_and_removed() {
    let world = world(|config| config.limits.quota.records = 2).await;
    let options = Options {
        server: Some(format!("ws://{}/sync", world.address)),
        token: Some("of-ada".to_owned()),
        ..Options::new(
            world.directory.path().join("client"),
            SpaceId::parse("demo").unwrap(),
            vec![Pattern::parse("tasks").unwrap()],
        )
    };
    let client = rejoin_client::Client::open(options).await.unwrap();
    let task = |id: &str, text: &str| {
        put(key("tasks", id).unwrap(), [set("title", Value::text(text)).unwrap()])
    };
    for (id, refused) in [("a", 0), ("b", 0), ("c", 1)] {
        client.write(vec![task(id, "x")]).await.unwrap();
        timeout(PATIENCE, async {
            while client.status().pending > 0 || client.rejected().len() < refused {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    }
    let rejected = client.rejected();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].code, RejectCode::Quota);
    assert!(rejected[0].reason.contains("changes and removals are taken"), "{rejected:?}");
    client.write(vec![task("a", "changed")]).await.unwrap();
    timeout(PATIENCE, async {
        while !list(&world).await.1.contains("\"changed\"") {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(client.rejected().len(), 1, "it is kept");
    client.close().await.unwrap();
    let record = |id: &str| format!("/v1/spaces/demo/collections/tasks/records/{id}");
    for (method, id, status) in [("PUT", "d", 507), ("PUT", "b", 200), ("DELETE", "b", 204)] {
        let told = ask(method, record(id)).with("Authorization", "Bearer of-ada").json("{}");
        let told = told.at(&world).await;
        assert_eq!(told.status, status, "{method} {id}: {told:?}");
        if status == 507 {
            let problem = told.json();
            assert_eq!((&problem["code"], &problem["retryable"]), (&json!("quota"), &json!(false)));
        }
    }
}

/// A client of the library needs to know nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x17_clients_that_are_sent_away_for_their_rate_come_back_and_bring_all_they_wrote() {
    let world = world(|config| config.rates.principal_messages = number(4)).await;
    let open = async |name: &str| {
        let patterns = vec![Pattern::parse("tasks").unwrap()];
        let file = world.directory.path().join(name);
        let options = Options {
            server: Some(format!("ws://{}/sync", world.address)),
            token: Some("of-ada".to_owned()),
            ..Options::new(file, SpaceId::parse("demo").unwrap(), patterns)
        };
        rejoin_client::Client::open(options).await.unwrap()
    };
    let clients = [open("a").await, open("b").await, open("c").await];
    for serial in 0..12 {
        for (number, client) in clients.iter().enumerate() {
            let key = key("tasks", &format!("{number}-{serial}")).unwrap();
            let task = put(key, [set("title", Value::text("kept")).unwrap()]);
            client.write(vec![task]).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    }
    for client in &clients {
        timeout(2 * PATIENCE, client.synced()).await.unwrap().unwrap();
        assert_eq!(client.rejected().len(), 0);
    }
    for client in clients {
        client.close().await.unwrap();
    }
    let (status, answer) = timeout(PATIENCE, async {
        loop {
            let found = list(&world).await;
            if found.0 == 200 {
                return found;
            }
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!((status, answer.matches("\"kept\"").count()), (200, 36), "{answer}");
}

async fn list(world: &World) -> (u16, String) {
    let path = "/v1/spaces/demo/collections/tasks/records?limit=100";
    get(world.address, path, "Authorization: Bearer of-bob\r\n").await
}

/// What one transport has used up is used up on the other.
#[tokio::test]
async fn x17_bodies_and_writes_over_http_count_like_those_of_frames_and_items_one_by_one() {
    let world = world(|config| {
        config.rates.principal_bytes = number(100_000);
        config.rates.principal_messages = number(20);
    })
    .await;
    let batch = async |token: &str, items: usize, bytes: usize| {
        let fields = json!({ "text": "x".repeat(bytes) });
        let item = |at| json!({ "op": "put", "collection": "tasks", "id": format!("{at}"), "fields": fields });
        let body = json!({ "items": (0..items).map(item).collect::<Vec<_>>() }).to_string();
        let asked = ask("POST", "/v1/spaces/demo/batch");
        let told = asked.with("Authorization", &format!("Bearer {token}")).json(&body);
        told.at(&world).await
    };
    let is_refused = |told: &Told, detail: &str| match told.status {
        200 => false,
        429 => {
            let problem = told.json();
            assert_eq!((&problem["code"], &problem["detail"]), (&json!("busy"), &json!(detail)));
            true
        }
        _ => panic!("{told:?}"),
    };
    // Of twenty a second so many are there at once, and the same again in two seconds.
    let mut batches = 0;
    while !is_refused(&batch("of-ada", 40, 1).await, "too many messages of this principal") {
        batches += 1;
        assert!(batches < 15, "they took less than 30 seconds");
    }
    let mut bob = hello(&world, 2, "of-bob").await.unwrap();
    let mut frames = 0;
    loop {
        bob.push(&format!("f{frames}"), &"x".repeat(190_000)).await.unwrap();
        bob.settle().await.unwrap();
        if is_refused(&batch("of-bob", 1, 180_000).await, "too many bytes of this principal") {
            break;
        }
        frames += 1;
        assert!(frames < 15, "they took less than 30 seconds");
    }
}
