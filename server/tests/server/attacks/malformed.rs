//! What is too large, too slow, or much more than it seems.

use super::siege::{Siege, Target};
use crate::{
    client::{Client, dial},
    http::{ask, bodies::coded},
    world::{PATIENCE, try_get},
};
use rejoin_core::protocol::message::{Bye, ByeCode};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Bodies are to be refused for what they are.
const AS_OFTEN_AS_IT_GOES: [&str; 4] =
    ["--principal-requests-per-second", "1000000", "--principal-bytes-per-second", "1000000000"];

/// The begin of a WebSocket frame, as a client sends it, of a message that ends here or does not.
fn head(ends: bool, opcode: u8, length: u64) -> Vec<u8> {
    let first = opcode | if ends { 0x80 } else { 0 };
    // Masked with zeros: that is, not at all.
    [&[first, 0xff], length.to_be_bytes().as_slice(), &[0; 4]].concat()
}

/// What who sends these bytes is told, and the code of the close.
async fn told(address: SocketAddr, parts: &[Vec<u8>]) -> (Bye, Option<u16>) {
    let mut client = Client::new("demo", 9);
    let mut socket = dial(address, None).await.unwrap();
    for part in parts {
        // Who refuses the rest need not read it.
        if socket.send_raw(part).await.is_err() {
            break;
        }
    }
    client.socket = Some(socket);
    client.channel = 0;
    (client.end().await.bye(), client.close_code().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x03_x04_who_sends_or_announces_what_is_too_large_is_told_and_costs_no_memory() {
    let siege = Siege::of(&AS_OFTEN_AS_IT_GOES).await;
    let attack = async |Target { address, .. }: Target| {
        let half = vec![0; 600 << 10];
        let sent = [
            vec![head(true, 2, u64::from(u32::MAX))],
            vec![head(true, 2, (1 << 20) + 1), half.clone()],
            // Parts of one message, each of which is small enough.
            vec![head(false, 2, 600 << 10), half.clone(), head(true, 0, 600 << 10), half],
        ];
        for parts in sent {
            let (bye, close) = told(address, &parts).await;
            assert_eq!((bye.code, close), (ByeCode::TooLarge, Some(1009)), "{bye:?}");
        }
        let long = format!("X-Long: {}\r\n", "x".repeat(64 << 10));
        // An answer, or none where the connection was closed with much unread.
        if let Some((status, _)) = try_get(address, "/sync", &long).await {
            assert_eq!(status, 431);
        }
        let record = "/v1/spaces/demo/collections/noise/records/1";
        let asked = ask("PUT", record).with("Authorization", "Bearer of-eve");
        let large = asked.json(&format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20)));
        let refused = large.at_address(address).await;
        assert_eq!((refused.status, &refused.json()["code"]), (413, &"too_large".into()));
    };
    siege.under("x03", |target| repeated(8, target, attack)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x06_bombs_of_compressed_bytes_are_refused_and_cost_no_memory() {
    let siege = Siege::of(&AS_OFTEN_AS_IT_GOES).await;
    let bomb = coded("gzip", &vec![b' '; 100 << 20]);
    let attack = move |Target { address, .. }: Target| {
        let record = "/v1/spaces/demo/collections/noise/records/1";
        let asked = ask("PUT", record).with("Authorization", "Bearer of-eve").json("");
        let bombed = asked.with("Content-Encoding", "gzip").bytes(bomb.clone());
        async move {
            let refused = bombed.at_address(address).await;
            assert_eq!((refused.status, &refused.json()["code"]), (413, &"too_large".into()));
        }
    };
    siege.under("x06", |target| repeated(8, target, attack)).await;
}

/// As many attackers at once, each of which comes again and again.
async fn repeated<F>(
    attackers: usize,
    target: Target,
    attack: impl Fn(Target) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut attackers: JoinSet<()> = (0..attackers)
        .map(|_| {
            let attack = attack.clone();
            async move {
                loop {
                    attack(target).await;
                    if !target.stands() {
                        return;
                    }
                }
            }
        })
        .collect();
    while let Some(ended) = attackers.join_next().await {
        ended.unwrap();
    }
}

/// Waits until the server has had enough of a connection, on which a byte may be added now and then.
async fn outlasted(mut stream: TcpStream, drip: Option<u8>) {
    let began = Instant::now();
    loop {
        let mut rest = [0; 512];
        match timeout(Duration::from_millis(200), stream.read(&mut rest)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_elapsed) => {
                if let Some(byte) = drip
                    && stream.write_all(&[byte]).await.is_err()
                {
                    return;
                }
            }
        }
        assert!(began.elapsed() < PATIENCE, "it waits for ever");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x07_who_says_nothing_or_a_byte_now_and_then_is_cut() {
    let siege = Siege::of(&[]).await;
    let attack = async |target: Target| {
        let mut slow = JoinSet::new();
        loop {
            for number in 0..200 {
                let mut stream = TcpStream::connect(target.address).await.unwrap();
                if number % 2 == 0 {
                    stream.write_all(b"GET /sync HTTP/1.1\r\nX-Slow: ").await.unwrap();
                    slow.spawn(outlasted(stream, Some(b'x')));
                } else {
                    slow.spawn(outlasted(stream, None));
                }
            }
            if !target.stands() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        while let Some(ended) = slow.join_next().await {
            ended.unwrap();
        }
    };
    siege.under("x07", attack).await;
}

/// A message of which the half has come holds its own bytes, and its connection ends like one that says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x07_halves_of_messages_cost_what_has_come_of_them() {
    let siege = Siege::of(&[]).await;
    let attack = async |target: Target| {
        let mut halves = Vec::new();
        loop {
            for _ in 0..50 {
                let mut socket = dial(target.address, None).await.unwrap();
                // A mebibyte is announced, and a little of it comes.
                socket.send_raw(&head(true, 2, 1 << 20)).await.unwrap();
                socket.send_raw(&[0; 512]).await.unwrap();
                halves.push(socket);
            }
            if !target.stands() || halves.len() >= 800 {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    siege.under("x07_halves", attack).await;
}
