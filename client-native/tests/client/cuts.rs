//! Two clients behind a connection that is cut again and again, at any byte.

use crate::{
    open,
    support::{World, soon, until},
};
use rejoin_client::{
    Action, Change, Client, FieldAction, FieldChange, FieldName, Fields, Link, Value, Visible, key,
    put, set,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Passes bytes on, a number of them for each connection, then cuts it; 0 means no cut.
async fn proxy(to: SocketAddr, budgets: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let last = budgets.load(Ordering::Relaxed);
            // A walk through lengths that meets every part of a session.
            let budget = if last == 0 { u64::MAX } else { 150 + last * 7_919 % 9_000 };
            if last > 0 {
                budgets.store(last + 1, Ordering::Relaxed);
            }
            let Ok(far) = TcpStream::connect(to).await else {
                continue;
            };
            tokio::spawn(pass(near, far, budget));
        }
    });
    address
}

async fn pass(mut near: TcpStream, mut far: TcpStream, mut budget: u64) {
    let (mut up, mut down) = ([0; 1_024], [0; 1_024]);
    while budget > 0 {
        let (read, upwards) = tokio::select! {
            read = near.read(&mut up) => (read, true),
            read = far.read(&mut down) => (read, false),
        };
        let Ok(read @ 1..) = read else { return };
        let passed = usize::try_from(budget).unwrap_or(read).min(read);
        budget -= u64::try_from(passed).unwrap();
        let written = if upwards {
            far.write_all(up.get(..passed).unwrap()).await
        } else {
            near.write_all(down.get(..passed).unwrap()).await
        };
        if written.is_err() {
            return;
        }
    }
}

fn field(name: &str, action: FieldAction) -> FieldChange {
    FieldChange { field: FieldName::parse(name).unwrap(), action }
}

fn vote(round: i64) -> Change {
    let key = key("tasks", "shared").unwrap();
    let tag = Value::int(round);
    let fields = vec![
        field("votes", FieldAction::Add(round)),
        field("tags", FieldAction::Insert(vec![tag])),
    ];
    Change { key, action: Action::Update(fields) }
}

fn shared(client: &Client) -> Option<Fields> {
    client.get(&key("tasks", "shared").unwrap()).unwrap()
}

fn votes(client: &Client) -> Option<Visible> {
    shared(client)?.get(&FieldName::parse("votes").unwrap()).cloned()
}

#[tokio::test]
async fn connections_cut_at_any_byte_lose_and_double_nothing() {
    let mut world = World::new().await;
    let budgets = Arc::new(AtomicU64::new(0));
    let address = proxy(world.address, Arc::clone(&budgets)).await;
    let url = format!("ws://{address}/sync");
    let left = open(&world.path("left.db"), Some(url.clone())).await;
    let right = open(&world.path("right.db"), Some(url)).await;
    let title = set("title", Value::text("x")).unwrap();
    left.write(vec![put(key("tasks", "shared").unwrap(), [title])]).await.unwrap();
    until(&right, |right| shared(right).is_some()).await;
    budgets.store(1, Ordering::Relaxed);
    for client in [&left, &right] {
        client.pause();
        until(client, |client| client.status().link == Link::Offline).await;
        client.resume();
    }
    let mut round = 0;
    while round < 40 || budgets.load(Ordering::Relaxed) <= 10 {
        for (client, name) in [(&left, "left"), (&right, "right")] {
            let title = set("title", Value::text(name)).unwrap();
            let own = put(key("tasks", &format!("{name} {round}")).unwrap(), [title]);
            let before = votes(client);
            client.write(vec![vote(round), own]).await.unwrap();
            assert_ne!(votes(client), None, "a vote is seen, {before:?} before");
            client.online();
        }
        if round % 4 == 0 {
            // Cuts or not, each round of waiting brings one of them forward.
            until(&left, |left| left.status().link != Link::Offline).await;
        }
        round += 1;
    }
    budgets.store(0, Ordering::Relaxed);
    for client in [&left, &right] {
        client.pause();
        until(client, |client| client.status().link == Link::Offline).await;
        client.resume();
        soon(client.synced()).await.unwrap();
    }
    let sum = Some(Visible::Counter(2 * (0..round).sum::<i64>()));
    for client in [&left, &right] {
        until(client, |client| client.is_synced() && votes(client) == sum).await;
    }
    assert_eq!(shared(&left), shared(&right));
    let name = rejoin_client::CollectionName::parse("tasks").unwrap();
    assert_eq!(left.all(&name).unwrap(), right.all(&name).unwrap());
    assert_eq!(i64::try_from(left.all(&name).unwrap().len()), Ok(2 * round + 1));
    left.close().await.unwrap();
    right.close().await.unwrap();
    world.stop().await;
}
