//! What the time of an answer tells.

use super::siege::{figures, noise, tell};
use crate::world::{Directory, Process};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Requests of each kind, nearly, where their times count and where they do not.
const MANY: usize = 20_000;
const FEW: usize = 200;
/// Of a hundred times of both kinds those that count: what the machine itself does comes on top of the rest.
const KEPT: usize = 80;

const TOKENS: &str = "
[[tokens]]
token = 'of-ada-0123456789abcdef0123456789abcdef'
principal = 'ada'
spaces = [{ space = 'hers', write = true }]
[[tokens]]
token = 'of-eve'
principal = 'eve'
spaces = [{ space = 'demo', collections = ['tasks'] }]
[[tokens]]
token = 'of-bob'
principal = 'bob'
spaces = [{ space = 'demo', write = true }]
";

/// Asks for a record on a connection that stays; the status, and how long the answer took.
async fn asked(stream: &mut TcpStream, path: &str, token: &str) -> (String, Duration) {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let began = Instant::now();
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
    let length = loop {
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the connection stays");
        answer.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            break head.len();
        }
    };
    let took = began.elapsed();
    let status = String::from_utf8_lossy(&answer[..length]);
    (status.split(' ').nth(1).unwrap().to_owned(), took)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn mean_and_error(times: &[Duration], longest: Duration) -> (f64, f64) {
    let times = times.iter().filter(|time| **time <= longest);
    let times: Vec<f64> = times.map(Duration::as_secs_f64).collect();
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

/// Welch's t of the times of two kinds of requests, drawn in turn by lot ("Dude, is my code constant time?", Reparaz et
/// al. 2017, <https://eprint.iacr.org/2016/1123>).
async fn t_of(address: SocketAddr, status: &str, kinds: [(&str, &str); 2]) -> f64 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = [Vec::new(), Vec::new()];
    let count = if figures().is_some() { MANY } else { FEW };
    for lot in noise(2 * count, 19).bytes() {
        let which = usize::from(lot % 2);
        let (path, token) = kinds[which];
        let (told, took) = asked(&mut stream, path, token).await;
        assert_eq!(told, status);
        times[which].push(took);
    }
    let mut all = times.concat();
    all.sort_unstable();
    let longest = all[all.len() * KEPT / 100];
    let [(one, one_error), (other, other_error)] =
        times.map(|times| mean_and_error(&times, longest));
    (one - other) / (one_error + other_error).sqrt()
}

#[tokio::test]
async fn x19_how_long_an_answer_takes_tells_of_no_token_space_or_record() {
    let directory = Directory::new();
    let tokens = directory.file("tokens.toml", TOKENS);
    let limits = [
        "address-failures-per-minute",
        "address-requests-per-second",
        "principal-requests-per-second",
    ];
    let limits = limits.map(|limit| format!("--{limit}=1000000000"));
    let mut arguments = vec!["--auth", "tokens", "--tokens", tokens.to_str().unwrap()];
    arguments.extend(limits.iter().map(String::as_str));
    let process = Process::start_with(&directory.path().join("data"), &arguments);
    let record = |space: &str, collection: &str, id: &str| {
        format!("/v1/spaces/{space}/collections/{collection}/records/{id}")
    };
    for (path, token) in [
        (record("hers", "tasks", "1"), "of-ada-0123456789abcdef0123456789abcdef"),
        (record("demo", "notes", "1"), "of-bob"),
    ] {
        let put = crate::http::ask("PUT", path).with("Authorization", &format!("Bearer {token}"));
        put.json("{}").at_address(process.address).await.is(201);
    }
    let (there, nowhere) = (record("hers", "tasks", "1"), record("none", "tasks", "1"));
    let (hidden, absent) = (record("demo", "notes", "1"), record("demo", "notes", "2"));
    let nearly = "of-ada-0123456789abcdef0123456789abcdeg";
    let far = "xx-xxx-0123456789abcdef0123456789abcdeg";
    for (name, status, kinds) in [
        ("x19_tokens", "401", [(there.as_str(), nearly), (&there, far)]),
        ("x19_spaces", "404", [(&there, "of-eve"), (&nowhere, "of-eve")]),
        ("x19_records", "404", [(&hidden, "of-eve"), (&absent, "of-eve")]),
    ] {
        let t = t_of(process.address, status, kinds).await;
        tell(&json!({ "attack": name, "t": t }));
    }
}
