//! As much as can be had, and held on to.

use super::siege::{Siege, Target, is_later, own_space};
use crate::{client::Ended, http::ask, world::get};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Connects from another address of this machine.
async fn from(address: [u8; 4], target: Target) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    socket.connect(target.address).await.unwrap()
}

/// Whether a connection was closed at once, unread.
async fn is_refused(stream: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_millis(200), stream.read(&mut [0; 1])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x02_connections_of_a_principal_and_of_an_address_have_an_end() {
    let siege = Siege::of(&[]).await;
    let attack = async |target: Target| {
        let (mut held, mut refused) = (Vec::new(), 0);
        for number in 0..210 {
            match target.idle_eve(number).await {
                Ok(eve) => held.push(eve),
                Err(Ended::Bye(bye)) => {
                    assert!(is_later(&bye), "{bye:?}");
                    refused += 1;
                }
                Err(ended) => panic!("{ended:?}"),
            }
        }
        assert_eq!((held.len(), refused), (200, 10));
        let (mut silent, mut closed) = (Vec::new(), 0);
        // Those who say nothing lose their places by and by: however slow this is, others come faster.
        while closed == 0 {
            // Three thousand would be refused for their rate.
            assert!(silent.len() < 2_000, "so many are held");
            for _ in 0..1_010 {
                silent.push(from([127, 0, 0, 2], target).await);
            }
            for stream in silent.iter_mut().rev().take(20) {
                closed += usize::from(is_refused(stream).await);
            }
        }
        while target.stands() {
            drop(from([127, 0, 0, 2], target).await);
        }
    };
    siege.under("x02", attack).await;
}

/// How often each status came.
type Came = BTreeMap<u64, usize>;

async fn write(target: Target, space: &str, items: Vec<Json>) -> Came {
    let body = json!({ "items": items }).to_string();
    let asked = ask("POST", format!("/v1/spaces/{space}/batch"));
    let told =
        asked.with("Authorization", "Bearer of-eve").json(&body).at_address(target.address).await;
    let mut came = Came::new();
    let answer = told.json();
    match answer["results"].as_array() {
        Some(results) => {
            for result in results {
                let status = result["status"].as_u64().unwrap();
                assert!(status != 507 || result["problem"]["code"] == "quota", "{result}");
                *came.entry(status).or_default() += 1;
            }
        }
        None => {
            assert_eq!((told.status, &answer["code"]), (429, &json!("busy")), "{answer}");
            came.insert(429, items.len());
        }
    }
    came
}

fn item(op: &str, id: usize) -> Json {
    let mut item = json!({ "op": op, "collection": "hoard", "id": format!("{id}") });
    if op == "put" {
        item["fields"] = json!({});
    }
    item
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x18_records_of_nothing_and_removed_ones_fill_a_space_and_no_more() {
    const RECORDS: usize = 2_000;
    let siege = Siege::of(&["--space-records-max", "2000"]).await;
    let attack = async |target: Target| {
        let space = own_space(0).to_string();
        let (mut written, mut refused, mut at) = (0, 0, 0);
        loop {
            // Made and removed: what is dead counts until it is forgotten.
            let items = (at..at + 200).flat_map(|id| [item("put", id), item("delete", id)]);
            let came = write(target, &space, items.collect()).await;
            written += came.get(&201).copied().unwrap_or_default();
            refused += came.get(&507).copied().unwrap_or_default();
            at += 200;
            if !target.stands() && refused > 0 {
                break;
            }
        }
        assert_eq!(written, RECORDS);
        // What is there can be written again.
        let again = write(target, &space, vec![item("put", 0)]).await;
        assert!(again.contains_key(&201) || again.contains_key(&429), "{again:?}");
        let path = format!("/v1/spaces/{space}/collections");
        let (status, said) = get(target.address, &path, "Authorization: Bearer of-eve\r\n").await;
        assert!(status == 200 || status == 429, "{said}");
    };
    siege.under("x18", attack).await;
}
