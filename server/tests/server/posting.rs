//! Webhooks: what a receiver gets, in which order, and that a receiver that keeps cursors does everything once.

use crate::{
    client::Client,
    world::{Directory, PATIENCE, World},
};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rejoin_server::Config;
use ring::hmac;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One delivery as it came.
#[derive(Debug, Clone)]
struct Came {
    id: String,
    body: Value,
}

/// A program that receives. It keeps the cursor of each space with what it did, and does nothing twice.
#[derive(Debug, Clone, Default)]
struct Receiver {
    came: Arc<Mutex<Vec<Came>>>,
    /// The next answers; then all is taken.
    answers: Arc<Mutex<Vec<u16>>>,
    kept: Arc<Mutex<BTreeMap<String, String>>>,
    done: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn listen(&self) -> SocketAddr {
        let receiver = self.clone();
        let take =
            move |headers: HeaderMap, body: Bytes| async move { receiver.take(&headers, &body) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/hook", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> (StatusCode, HeaderMap) {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET).unwrap());
        let signature = header("webhook-signature");
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        hmac::verify(&key, &signed, &signature).expect("it is signed");
        let body: Value = serde_json::from_slice(body).unwrap();
        self.came.lock().unwrap().push(Came { id, body: body.clone() });
        let mut answers = self.answers.lock().unwrap();
        if !answers.is_empty() {
            let status = StatusCode::from_u16(answers.remove(0)).unwrap();
            return (status, HeaderMap::new());
        }
        let data = &body["data"];
        let space = data["space"].as_str().unwrap().to_owned();
        let mut kept = self.kept.lock().unwrap();
        let after = data["after"].as_str().map(ToOwned::to_owned);
        // One that was done before comes after another cursor than the one that is kept.
        if data["anew"] == true && !kept.contains_key(&space) || after == kept.get(&space).cloned()
        {
            for change in data["changes"].as_array().unwrap() {
                let title = change["fields"]["title"].as_str().unwrap_or("-");
                let did = format!("{space} {} {title}", change["id"].as_str().unwrap());
                self.done.lock().unwrap().push(did);
            }
            kept.insert(space, data["cursor"].as_str().unwrap().to_owned());
        }
        (StatusCode::NO_CONTENT, HeaderMap::new())
    }

    fn done_in(&self, space: &str) -> Vec<String> {
        let done = self.done.lock().unwrap();
        done.iter().filter(|did| did.starts_with(space)).cloned().collect()
    }

    async fn until_done(&self, space: &str, expected: &[&str]) {
        let waiting = timeout(PATIENCE, async {
            while self.done_in(space) != expected {
                // What does not come is not told.
                sleep(Duration::from_millis(20)).await;
            }
        });
        waiting.await.unwrap_or_else(|_| panic!("{expected:?}, did {:?}", self.done_in(space)));
    }
}

fn posting_to(address: SocketAddr) -> impl FnOnce(&Directory, &mut Config) {
    move |directory, config| {
        config.webhooks = vec![format!("tasks@d*=http://{address}/hook").parse().unwrap()];
        config.webhook_secrets = Some(directory.file("secrets", &format!("whsec_{SECRET}\n")));
    }
}

#[tokio::test]
async fn changes_are_posted_signed_and_in_order_and_once_over_a_restart() {
    let receiver = Receiver::default();
    let mut world = World::with(posting_to(receiver.listen().await)).await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    client.push("a", "milk").await.unwrap();
    client.settle().await.unwrap();
    receiver.until_done("demo", &["demo a milk"]).await;
    client.push("b", "eggs").await.unwrap();
    client.settle().await.unwrap();
    receiver.until_done("demo", &["demo a milk", "demo b eggs"]).await;
    let mut other = Client::joined(world.address, "other", 2).await;
    other.push("x", "not asked for").await.unwrap();
    other.settle().await.unwrap();
    world.restart().await;
    client.join(world.address).await.unwrap();
    client.push("c", "bread").await.unwrap();
    client.settle().await.unwrap();
    receiver.until_done("demo", &["demo a milk", "demo b eggs", "demo c bread"]).await;
    assert!(receiver.done_in("other").is_empty());
    let came = receiver.came.lock().unwrap();
    assert_eq!(came[0].body["type"], "records.changed");
    assert_eq!(came[0].body["data"]["anew"], true);
    assert_eq!(came[1].body["data"]["after"], came[0].body["data"]["cursor"]);
}

#[tokio::test]
async fn what_is_not_taken_comes_again_and_what_follows_waits_and_other_spaces_do_not() {
    let receiver = Receiver::default();
    receiver.answers.lock().unwrap().extend([500, 302, 429]);
    let world = World::with(posting_to(receiver.listen().await)).await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    client.push("a", "milk").await.unwrap();
    client.settle().await.unwrap();
    let waiting = timeout(PATIENCE, async {
        while receiver.came.lock().unwrap().is_empty() {
            // Nobody says when it comes.
            sleep(Duration::from_millis(5)).await;
        }
    });
    waiting.await.expect("it comes");
    client.push("b", "eggs").await.unwrap();
    client.settle().await.unwrap();
    receiver.until_done("demo", &["demo a milk", "demo b eggs"]).await;
    let came = receiver.came.lock().unwrap();
    assert!(came.len() >= 4, "{came:?}");
    assert!(came.iter().all(|came| came.id.len() == 36), "{came:?}");
}

#[tokio::test]
async fn a_receiver_that_is_told_anew_is_told_so() {
    let receiver = Receiver::default();
    let mut world = World::with(posting_to(receiver.listen().await)).await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    client.push("a", "milk").await.unwrap();
    client.settle().await.unwrap();
    receiver.until_done("demo", &["demo a milk"]).await;
    world.stop().await;
    // With all that it knew of webhooks.
    std::fs::remove_dir_all(world.directory.path().join("data")).unwrap();
    world.start_again().await;
    let mut client = Client::joined(world.address, "demo", 2).await;
    client.push("b", "eggs").await.unwrap();
    client.settle().await.unwrap();
    let waiting = timeout(PATIENCE, async {
        while receiver.came.lock().unwrap().len() < 2 {
            // Nobody says when it comes.
            sleep(Duration::from_millis(5)).await;
        }
    });
    waiting.await.expect("it comes");
    assert_eq!(receiver.came.lock().unwrap()[1].body["data"]["anew"], true);
}

/// Exit code and complaints of `replay` for the hook of [`posting_to`].
fn replay(world: &World, receiver: SocketAddr, more: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    command.env_clear().arg("replay").arg("--data").arg(world.directory.path().join("data"));
    command.arg(format!("--webhook=tasks@d*=http://{receiver}/hook"));
    command.arg("--webhook-secrets").arg(world.directory.path().join("secrets")).args(more);
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_receiver_that_was_put_back_is_told_again_since_its_cursor_and_one_that_lost_all_from_the_beginning()
 {
    let receiver = Receiver::default();
    let address = receiver.listen().await;
    let mut world = World::with(posting_to(address)).await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    for (id, title, expected) in
        [("a", "milk", ["demo a milk"].as_slice()), ("b", "eggs", &["demo a milk", "demo b eggs"])]
    {
        client.push(id, title).await.unwrap();
        client.settle().await.unwrap();
        receiver.until_done("demo", expected).await;
    }
    let first =
        receiver.came.lock().unwrap()[0].body["data"]["cursor"].as_str().unwrap().to_owned();
    let (code, complaint) = replay(&world, address, &[]);
    assert!(code == 1 && complaint.contains("stop it first"), "{complaint}");
    world.stop().await;
    for (more, complaint) in [
        (["--space=none"].as_slice(), "no space none"),
        (&["--space=demo", "--since=nothing"], "\"nothing\" is no cursor of this space"),
        (&["--since", &first], "--space"),
    ] {
        let (code, said) = replay(&world, address, more);
        assert!(code != 0 && said.contains(complaint), "{said}");
    }
    let mut unknown = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    unknown.env_clear().arg("replay").arg("--data").arg(world.directory.path().join("data"));
    unknown.arg(format!("--webhook=tasks=http://{address}/hook"));
    unknown.arg("--webhook-secrets").arg(world.directory.path().join("secrets"));
    let told = unknown.output().unwrap();
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8(told.stderr).unwrap().contains("was told anything"));
    let many =
        [&format!("--webhook=other=http://{address}/hook"), "--space=demo", "--since", &first];
    assert!(replay(&world, address, &many).1.contains("the cursor of one receiver"));
    // As a receiver is that was put back to where it had taken the first.
    receiver.kept.lock().unwrap().insert("demo".to_owned(), first.clone());
    receiver.done.lock().unwrap().truncate(1);
    assert_eq!(replay(&world, address, &["--space=demo", "--since", &first]), (0, String::new()));
    world.start_again().await;
    receiver.until_done("demo", &["demo a milk", "demo b eggs"]).await;
    world.stop().await;
    receiver.kept.lock().unwrap().clear();
    receiver.done.lock().unwrap().clear();
    assert_eq!(replay(&world, address, &[]), (0, String::new()));
    world.start_again().await;
    receiver.until_done("demo", &["demo a milk", "demo b eggs"]).await;
    world.stop().await;
}
