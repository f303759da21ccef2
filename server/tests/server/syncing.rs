//! What the server does for clients that behave.

use crate::{
    client::{Client, Ended, dial, key},
    world::{PATIENCE, World, get},
};
use rejoin_core::{
    id::{Seq, SpaceId},
    protocol::{
        message::{Bye, ByeCode, Identity, Message, Push},
        wire,
    },
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

#[tokio::test]
async fn a_hello_is_welcomed() {
    let world = World::new().await;
    let mut client = Client::new("demo", 1);
    let welcome = client.join(world.address).await.unwrap();
    assert_eq!(welcome.identity, Identity::Confirmed);
    assert_eq!((welcome.version, welcome.head), (1, Seq(0)));
    assert_eq!(welcome.rights.len(), 1);
}

#[tokio::test]
async fn what_one_client_writes_reaches_another_while_both_are_connected() {
    let world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let mut bob = Client::joined(world.address, "demo", 2).await;
    for (serial, text) in ["Hello World", "I am offline"].into_iter().enumerate() {
        ada.push(&format!("from-ada-{serial}"), text).await.unwrap();
        ada.settle().await.unwrap();
        bob.hold(2 * serial + 1).await.unwrap();
        bob.push(&format!("from-bob-{serial}"), text).await.unwrap();
        bob.settle().await.unwrap();
        ada.hold(2 * serial + 2).await.unwrap();
    }
    bob.hold(4).await.unwrap();
    assert_eq!(ada.base, bob.base);
    assert_eq!(ada.root(), bob.root());
}

#[tokio::test]
async fn spaces_do_not_see_each_other() {
    let world = World::new().await;
    let mut ada = Client::joined(world.address, "one", 1).await;
    let mut bob = Client::joined(world.address, "two", 2).await;
    ada.push("secret", "of ada").await.unwrap();
    ada.settle().await.unwrap();
    bob.push("own", "of bob").await.unwrap();
    bob.settle().await.unwrap();
    bob.hold(1).await.unwrap();
    assert!(bob.base.contains_key(&key("own")));
}

#[tokio::test]
async fn channels_of_one_connection_lead_to_different_spaces() {
    let world = World::new().await;
    let mut first = Client::joined(world.address, "one", 1).await;
    let mut second = Client::new("two", 2);
    second.channel = 300;
    let mut hello = second.hello();
    hello.token = None;
    let frame = wire::encode_frame(300, &Message::Hello(hello));
    first.say_bytes(frame).await.unwrap();
    let mut socket = first.socket.take().unwrap();
    let welcome = loop {
        let frame = socket.next().await.unwrap().unwrap();
        let frame = frame.into_data();
        let (channel, bytes) = wire::split_frame(&frame).unwrap();
        if channel == 300 {
            break wire::decode(bytes).unwrap();
        }
    };
    assert!(matches!(welcome, Message::Welcome(_)), "{welcome:?}");
}

#[tokio::test]
async fn a_restart_keeps_data_and_cursors_and_opens_a_new_epoch() {
    let mut world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    ada.push("a", "before").await.unwrap();
    ada.settle().await.unwrap();
    ada.hold(1).await.unwrap();
    let before = ada.cursor.unwrap();

    world.restart().await;
    let welcome = ada.join(world.address).await.unwrap();
    assert_ne!(welcome.epoch, before.epoch);
    assert_eq!(welcome.head, before.seq);
    assert!(welcome.accepted.is_some(), "the greatest stamp accepted");
    assert_eq!(welcome.lineage.first().unwrap().epoch, before.epoch);
    // What follows continues behind the cursor: `apply` checks it, and the root.
    ada.push("b", "after").await.unwrap();
    ada.settle().await.unwrap();
    ada.hold(2).await.unwrap();

    let mut bob = Client::joined(world.address, "demo", 2).await;
    bob.hold(2).await.unwrap();
    bob.sync(Seq(2)).await.unwrap();
    assert_eq!(bob.root(), ada.root());
}

#[tokio::test]
async fn an_orderly_end_acknowledges_what_was_committed_and_tells_clients_to_come_back() {
    let mut world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let mut bob = Client::joined(world.address, "demo", 2).await;
    for serial in 0..50 {
        ada.push(&format!("a{serial}"), "x").await.unwrap();
    }
    ada.settle().await.unwrap();
    let (_, ends) = tokio::join!(world.stop(), async { (ada.end().await, bob.end().await) });
    for ended in [ends.0, ends.1] {
        let bye = ended.bye();
        assert_eq!(bye.code, ByeCode::ShuttingDown);
        assert!(bye.retry_after.is_some());
    }
    assert_eq!(ada.close_code().await, Some(1001));

    let wal = world.directory.path().join("data/rejoin.sqlite-wal");
    let left = std::fs::metadata(wal).map_or(0, |wal| wal.len());
    assert_eq!(left, 0, "the WAL was not moved into the file");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_loses_nothing() {
    let world = World::with(|_, config| {
        config.limits.stall_max = Duration::from_secs(1);
    })
    .await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let mut slow = Client::joined(world.address, "demo", 2).await;
    let text = "x".repeat(100_000);
    // More than the sockets' buffers and the queue hold.
    for serial in 0..800 {
        ada.push(&format!("a{serial}"), &text).await.unwrap();
        ada.settle().await.unwrap();
    }
    let ended = loop {
        match slow.next().await {
            Ok(message) => {
                if let Err(ended) = slow.take_in(message) {
                    break ended;
                }
            }
            Err(ended) => break ended,
        }
    };
    assert!(slow.base.len() < 800, "it was not cut: {ended:?}");
    slow.join(world.address).await.unwrap();
    slow.hold(800).await.unwrap();
    slow.sync(Seq(800)).await.unwrap();
    ada.hold(800).await.unwrap();
    assert_eq!(slow.root(), ada.root());
}

#[tokio::test]
async fn many_writers_of_one_space_agree_in_the_end() {
    let world = World::new().await;
    let mut writers = Vec::new();
    for name in 1..=8 {
        let address = world.address;
        writers.push(tokio::spawn(async move {
            let mut client = Client::joined(address, "demo", name).await;
            for serial in 0..25 {
                client.push(&format!("{name}-{serial}"), "x").await.unwrap();
            }
            client.settle().await.unwrap();
            client.hold(200).await.unwrap();
            client.sync(Seq(200)).await.unwrap();
            client.root()
        }));
    }
    let mut roots = BTreeSet::new();
    for writer in writers {
        roots.insert(writer.await.unwrap());
    }
    assert_eq!(roots.len(), 1);
}

#[tokio::test]
async fn a_newer_session_of_a_replica_supersedes_the_older() {
    let world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let mut older = Client::new("demo", 1);
    older.socket = ada.socket.take();
    ada.join(world.address).await.unwrap();
    assert_eq!(older.end().await.bye().code, ByeCode::Superseded);
}

#[tokio::test]
async fn what_was_under_way_on_a_channel_that_was_closed_is_no_misconduct() {
    let world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    let mut older = ada.socket.take().unwrap();
    ada.join(world.address).await.unwrap();
    // Its bye may have arrived or not: either way it can go on with another channel.
    let row = ada.row("late", "x");
    let push = wire::encode_frame(1, &Message::Push(Push { named: 0, rows: vec![row] }));
    older.say(push).await.unwrap();
    let mut other = Client::new("other", 3);
    other.socket = Some(older);
    other.channel = 1;
    let bye = other.end().await.bye();
    assert_eq!(bye.code, ByeCode::Superseded);
    other.say_hello().await.unwrap();
    assert!(matches!(other.next().await, Ok(Message::Welcome(_))));
}

#[tokio::test]
async fn a_ping_is_answered_and_a_bye_ends_the_channel() {
    let world = World::new().await;
    let mut ada = Client::joined(world.address, "demo", 1).await;
    ada.say(&Message::Ping { nonce: 7 }).await.unwrap();
    loop {
        match ada.next().await.unwrap() {
            Message::Pong { nonce, .. } => break assert_eq!(nonce, 7),
            other => ada.take_in(other).unwrap(),
        }
    }
    let bye = Bye { code: ByeCode::Done, reason: String::new(), retry_after: None };
    ada.say(&Message::Bye(bye)).await.unwrap();
    // The channel's number can be used again.
    ada.space = SpaceId::parse("other").unwrap();
    ada.say_hello().await.unwrap();
    assert!(matches!(ada.next().await, Ok(Message::Welcome(_))));
}

#[tokio::test]
async fn files_are_served_with_their_types_and_nothing_outside_their_directory() {
    let world = World::with(|directory, config| {
        let page = directory.path().join("page");
        std::fs::create_dir_all(page.join("assets")).unwrap();
        directory.file("secret.txt", "not for browsers");
        directory.file("page/index.html", "<!doctype html>");
        directory.file("page/assets/app-1a2b.wasm", "\0asm");
        directory.file("page/manifest.webmanifest", "{}");
        config.static_dir = Some(page);
    })
    .await;
    for (path, kind, cache) in [
        ("/", "text/html", "no-cache"),
        ("/assets/app-1a2b.wasm", "application/wasm", "immutable"),
        ("/manifest.webmanifest", "application/manifest+json", "no-cache"),
    ] {
        let (status, text) = world.get(path).await;
        assert_eq!(status, 200, "{path}");
        assert!(text.contains(&format!("content-type: {kind}")), "{path}: {text}");
        assert!(text.contains(cache), "{path}: {text}");
    }
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/none"] {
        let (status, text) = world.get(path).await;
        assert_eq!(status, 404, "{path}: {text}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_of_an_address_are_refused() {
    let world = World::with(|_, config| config.limits.connections_per_address_max = 2).await;
    let mut first = Client::joined(world.address, "demo", 1).await;
    let _second = Client::joined(world.address, "demo", 2).await;
    assert!(dial(world.address, None).await.is_err());
    // A place that is free again can be taken.
    first.socket.take().unwrap().close().await.unwrap();
    let mut third = Client::new("demo", 3);
    let joined = timeout(PATIENCE, async {
        loop {
            match third.join(world.address).await {
                Ok(_) => break,
                Err(Ended::Broken(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    joined.await.unwrap();
    assert_eq!(get_status(&world).await, None, "the limit holds for requests too");
}

/// The status of a request, `None` if the connection was closed at once.
async fn get_status(world: &World) -> Option<u16> {
    let address = world.address;
    let asked = tokio::spawn(async move { get(address, "/healthz", "").await.0 });
    asked.await.ok()
}
