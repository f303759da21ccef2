//! Much of what is allowed, as fast as it goes.

use super::siege::{Siege, Target, is_later, noise};
use crate::{
    client::{Client, Ended},
    http::ask,
    world::get,
};
use rejoin_core::{
    id::{CollectionName, Digest, Pattern},
    protocol::message::{Bye, ByeCode, FEATURE_PRESENCE, FEATURE_SKETCH, Message, Presence, Walk},
    record::Value,
    tree::{Cell, NODES_MAX, NodeState, Prefix, SketchCells, WalkBody, WalkMessage, WalkNode},
};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// Writes so many records of so many bytes of text into a space, all in one request: the status, and what was said.
async fn batch(
    address: SocketAddr,
    space: &str,
    records: usize,
    bytes: usize,
    seed: u64,
) -> (u16, serde_json::Value) {
    let item = |at: usize| {
        let text = noise(bytes, seed + at as u64);
        json!({ "op": "put", "collection": "noise", "id": format!("{at}"), "fields": { "text": text } })
    };
    let body = json!({ "items": (0..records).map(item).collect::<Vec<_>>() }).to_string();
    let asked = ask("POST", format!("/v1/spaces/{space}/batch"));
    let told = asked.with("Authorization", "Bearer of-eve").json(&body).at_address(address).await;
    (told.status, told.json())
}

/// Reads what still comes on a connection until its end.
async fn drained(client: &mut Client) {
    while let Some(Ok(_)) = client.socket.as_mut().unwrap().next().await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_who_does_not_read_is_cut_and_costs_no_more_than_its_bound() {
    let siege = Siege::of(&["--stall-seconds", "1"]).await;
    let attack = async |target: Target| {
        let mut deaf = Vec::new();
        for number in 0..20 {
            let mut eve = Target::eve(100 + number);
            eve.pattern = Some(Pattern::parse("noise").unwrap());
            eve.join(target.address).await.unwrap();
            deaf.push(eve);
        }
        // Beyond what the buffers of sockets hold, and they are gone.
        for round in 0..40 {
            let (status, said) = batch(target.address, "demo", 4, 200_000, round * 10).await;
            assert!(matches!(status, 200 | 429), "{status} {said}");
            if round >= 24 && !target.stands() {
                break;
            }
        }
        for eve in &mut deaf {
            drained(eve).await;
        }
    };
    siege.under("x01", attack).await;
}

/// Asks as fast as it goes on a few connections, each of which is given up for a new one again and again.
async fn hurry(target: Target, name: u16) -> usize {
    let mut answered = 0;
    let mut nonce = 0;
    while target.stands() {
        let Ok(mut eve) = target.idle_eve(name).await else { continue };
        for _ in 0..20 {
            for _ in 0..10 {
                nonce += 1;
                if eve.say(&Message::Ping { nonce }).await.is_err() {
                    break;
                }
            }
            for _ in 0..10 {
                match eve.next().await {
                    Ok(Message::Pong { .. }) => answered += 1,
                    Ok(_) => {}
                    Err(Ended::Bye(bye)) => {
                        assert!(is_later(&bye), "{bye:?}");
                        break;
                    }
                    Err(_) => break,
                }
            }
            if !target.stands() {
                break;
            }
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x17_many_connections_new_ones_and_other_ways_in_have_one_rate_together() {
    const RATE: usize = 400;
    let siege = Siege::of(&["--principal-messages-per-second", "400"]).await;
    let attack = async |target: Target| {
        let began = Instant::now();
        let mut hurrying: JoinSet<usize> = (0..8).map(|at| hurry(target, 100 + at)).collect();
        let (mut refused, mut written) = (0, 0);
        loop {
            let (status, said) = batch(target.address, "demo", 100, 1, 0).await;
            if status == 429 {
                assert_eq!(said["code"], "busy", "{said}");
                refused += 1;
            } else {
                assert_eq!(status, 200, "{said}");
                written += 100;
            }
            if !target.stands() {
                break;
            }
        }
        let mut taken = written;
        while let Some(answered) = hurrying.join_next().await {
            taken += answered.unwrap();
        }
        // What two seconds give, and what has come since.
        let most = RATE as f64 * (3.0 + began.elapsed().as_secs_f64());
        assert!((taken as f64) < most, "{taken} messages and writes, {most} at most");
        assert!(refused > 0, "what was taken on one way in is gone on the other");
    };
    siege.under("x17", attack).await;
}

async fn sent_bytes(address: SocketAddr) -> f64 {
    let (_, metrics) = get(address, "/metrics", "").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("rejoin_sent_bytes_total "));
    line.unwrap().parse().unwrap()
}

/// Shows something else as often as it goes, and reads what others show.
async fn shout(target: Target, name: u16) {
    let mut eve = Target::eve(name);
    eve.features = FEATURE_PRESENCE;
    eve.pattern = None;
    eve.join(target.address).await.unwrap();
    let mut seed = u64::from(name);
    while target.stands() {
        seed += 1_000;
        let here = vec![(1, Value::text(&noise(4_000, seed)))];
        let sent = eve.say(&Message::Presence(Presence { here, gone: Vec::new() })).await;
        if let Err(ended) = sent {
            panic!("{ended:?}");
        }
        while let Ok(came) = timeout(Duration::from_millis(5), eve.next()).await {
            match came {
                Ok(_) => {}
                Err(Ended::Bye(bye)) if is_later(&bye) => return,
                Err(ended) => panic!("{ended:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x27_presence_that_changes_all_the_time_keeps_to_the_budget_of_its_space() {
    const BYTES_PER_S: f64 = 4_194_304.0;
    let siege = Siege::of(&[]).await;
    let attack = async |target: Target| {
        let (began, before) = (Instant::now(), sent_bytes(target.address).await);
        let mut shouting: JoinSet<()> = (0..40).map(|at| shout(target, 100 + at)).collect();
        while let Some(ended) = shouting.join_next().await {
            ended.unwrap();
        }
        let sent = sent_bytes(target.address).await - before;
        // Rounds at the begin and the end, and what the two others are told.
        let most = BYTES_PER_S * (2.0 + began.elapsed().as_secs_f64());
        assert!(sent < most, "{sent} bytes, {most} at most");
    };
    siege.under("x27", attack).await;
}

/// Questions whose answers are as much work as any.
fn questions() -> Vec<WalkBody> {
    let four = |at: u16| Prefix::from_packed(4, &at.to_be_bytes()).unwrap();
    let many = u16::try_from(NODES_MAX - 1).unwrap();
    let open = |at| WalkNode { prefix: four(at), state: NodeState::Open };
    let list = WalkNode { prefix: Prefix::ROOT, state: NodeState::List(Vec::new()) };
    let cells = (0..4_000_u32).map(|at| {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&at.wrapping_mul(0x9e37_79b9).to_be_bytes());
        Cell::from_bytes(bytes)
    });
    vec![
        WalkBody::Nodes((0..many).map(open).collect()),
        WalkBody::Root(Digest::from_bytes([3; 32])),
        WalkBody::Cells(SketchCells { cells: cells.collect(), probes: Vec::new() }),
        WalkBody::Wanted((0..30_000).collect()),
        WalkBody::Nodes(vec![list]),
    ]
}

/// Asks one question after the other, each when the one before was answered or not.
async fn ask_for_all(target: Target, name: u16) {
    let questions = questions();
    let mut at = usize::from(name);
    while target.stands() {
        let mut eve = Target::eve(name);
        eve.features = FEATURE_SKETCH;
        eve.pattern = Some(Pattern::parse("noise").unwrap());
        if eve.join(target.address).await.is_err() {
            continue;
        }
        while target.stands() {
            at += 1;
            let body = questions[at % questions.len()].clone();
            let collection = CollectionName::parse("noise").unwrap();
            let message = WalkMessage { salt: 5, body };
            let walk = Message::Walk(Walk { subscription: 1, collection, message });
            if eve.say(&walk).await.is_err() {
                break;
            }
            match timeout(Duration::from_millis(20), eve.next()).await {
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(Ended::Bye(Bye { code, .. }))) => {
                    // Sent away for its rate, or for a question that has no place there.
                    assert!(matches!(
                        code,
                        ByeCode::Busy | ByeCode::Misbehaved | ByeCode::SlowConsumer
                    ));
                    break;
                }
                Ok(Err(_)) => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x06_m06_who_asks_for_all_of_a_tree_all_the_time_is_answered_within_bounds() {
    let siege = Siege::of(&[]).await;
    let attack = async |target: Target| {
        for part in 0..3 {
            let (status, said) = batch(target.address, "demo", 1_000, 8, part).await;
            assert_eq!(status, 200, "{said}");
        }
        let mut asking: JoinSet<()> = (0..10).map(|at| ask_for_all(target, 100 + at)).collect();
        while let Some(ended) = asking.join_next().await {
            ended.unwrap();
        }
    };
    siege.under("m06", attack).await;
}
