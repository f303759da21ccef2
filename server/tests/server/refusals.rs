//! What the server refuses, and that it says so.

use crate::{
    client::{Client, Ended, dial},
    world::{Directory, Process, World, get},
};
use rejoin_core::{
    protocol::{
        limits::{FRAME_BYTES_MAX, HELLO_BYTES, TOKEN_BYTES_MAX, time_for},
        message::{ByeCode, Message, Presence, Push},
        wire::{self, Chain},
    },
    record::Value,
};
use rejoin_server::Config;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

const TOKENS: &str = "
[[tokens]]
token = 'of-ada'
principal = 'ada'
spaces = [{ space = 'demo', write = true }, { space = 'team-*', write = true }]
[[tokens]]
token = 'of-reader'
principal = 'reader'
spaces = [{ space = 'demo' }]
";

fn with_tokens(directory: &Directory, config: &mut Config) {
    config.tokens = Some(directory.file("tokens.toml", TOKENS));
}

/// What a client with this token hears in this space.
async fn refusal(world: &World, space: &str, token: Option<&str>) -> ByeCode {
    let mut client = Client::new(space, 1);
    client.token = token.map(str::to_owned);
    client.join(world.address).await.unwrap_err().bye().code
}

#[tokio::test]
async fn x12_a_space_without_a_right_and_one_that_does_not_exist_look_the_same() {
    let world = World::with(with_tokens).await;
    let mut ada = Client::new("team-7", 1);
    ada.token = Some("of-ada".to_owned());
    ada.join(world.address).await.unwrap();
    for space in ["team-7", "nowhere"] {
        assert_eq!(refusal(&world, space, Some("of-reader")).await, ByeCode::NoSpace);
    }
}

/// Each line of a log is one event, and none says what lets anybody in.
#[tokio::test]
async fn x16_no_token_is_ever_logged_and_no_name_begins_a_line() {
    let directory = Directory::new();
    let tokens = directory.file(
        "tokens.toml",
        &format!(
            "{TOKENS}[[tokens]]\ntoken = 'canary-of-a-token'\nprincipal = 'a\u{1b}b'\nspaces = []\n"
        ),
    );
    let refused = directory.path().join("refused");
    let arguments = ["--auth", "tokens", "--tokens", tokens.to_str().unwrap()];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_rejoin-server"))
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--data", refused.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !text.contains("canary"), "{text}");
    directory.file("tokens.toml", TOKENS);
    let mut arguments = arguments.to_vec();
    arguments.extend(["--log", "trace"]);
    let mut process = Process::start_with(&directory.path().join("data"), &arguments);
    for (number, token) in ["of-ada", "canary-of-eve", "a.canary.b"].into_iter().enumerate() {
        let mut client = Client::new("demo", u8::try_from(number).unwrap() + 1);
        client.token = Some(token.to_owned());
        if client.join(process.address).await.is_ok() {
            let token = "canary-of-a-refresh".to_owned();
            client.say(&Message::Refresh { token }).await.unwrap();
            client.end().await.bye();
        }
    }
    // A file that cannot be read any more is complained of, without what stands in it.
    directory.file("tokens.toml", "[[tokens]]\ntoken = 'canary\nERROR forged");
    process.line(&["tokens.toml", "holds on"]).await;
    process.kill();
    while let Some(line) = process.lines.recv().await {
        assert!(!line.contains("canary") && !line.contains("of-ada"), "{line}");
        assert!(line.starts_with("20"), "{line}");
    }
}

#[tokio::test]
async fn a_missing_and_a_wrong_token_are_refused() {
    let world = World::with(with_tokens).await;
    for token in [None, Some("of-eve"), Some("")] {
        assert_eq!(refusal(&world, "demo", token).await, ByeCode::Unauthorized);
    }
}

#[tokio::test]
async fn a_refresh_with_a_wrong_token_ends_the_channel_and_with_a_right_one_does_not() {
    let world = World::with(with_tokens).await;
    let mut ada = Client::new("demo", 1);
    ada.token = Some("of-ada".to_owned());
    ada.join(world.address).await.unwrap();
    ada.say(&Message::Refresh { token: "of-ada".to_owned() }).await.unwrap();
    ada.push("a", "still allowed").await.unwrap();
    ada.settle().await.unwrap();
    ada.say(&Message::Refresh { token: "of-eve".to_owned() }).await.unwrap();
    assert_eq!(ada.end().await.bye().code, ByeCode::Unauthorized);
}

#[tokio::test]
async fn p09_a_version_that_is_not_spoken_is_refused() {
    let world = World::new().await;
    let mut client = Client::new("demo", 1);
    client.versions = vec![99];
    let bye = client.join(world.address).await.unwrap_err().bye();
    assert_eq!(bye.code, ByeCode::Version);
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_channel() {
    let world = World::new().await;
    let mut client = Client::joined(world.address, "demo", 1).await;
    client.say_bytes(vec![1, 0xff, 0xff]).await.unwrap();
    assert_eq!(client.end().await.bye().code, ByeCode::Malformed);
}

#[tokio::test]
async fn a_connection_that_begins_with_nonsense_is_told_and_closed() {
    let world = World::new().await;
    let sealed = Chain::of_initiator().seal(vec![1, 0xff]);
    for (frame, code, close) in [
        (Frame::Binary(sealed.into()), ByeCode::Malformed, 1002),
        (Frame::Binary(vec![1, 0xff].into()), ByeCode::BadLine, 1013),
        (Frame::text("{}"), ByeCode::Malformed, 1003),
        (Frame::Binary(vec![7; FRAME_BYTES_MAX + 1].into()), ByeCode::TooLarge, 1009),
    ] {
        let mut client = Client::new("demo", 1);
        client.socket = Some(dial(world.address, None).await.unwrap());
        client.channel = if code == ByeCode::Malformed && close == 1002 { 1 } else { 0 };
        client.send(frame).await.unwrap();
        assert_eq!(client.end().await.bye().code, code);
        assert_eq!(client.close_code().await, Some(close));
    }
}

#[tokio::test]
async fn every_open_channel_hears_why_its_connection_ends() {
    let world = World::new().await;
    for (frame, code) in [
        (Frame::text("{}"), ByeCode::Malformed),
        (Frame::Binary(vec![7; FRAME_BYTES_MAX + 1].into()), ByeCode::TooLarge),
    ] {
        let mut client = Client::joined(world.address, "demo", 1).await;
        client.send(frame).await.unwrap();
        assert_eq!(client.end().await.bye().code, code);
    }
}

#[tokio::test]
async fn p02_a_frame_that_comes_twice_or_changed_is_not_taken_in() {
    let world = World::new().await;
    for twice in [true, false] {
        let mut client = Client::new("demo", 1);
        client.socket = Some(dial(world.address, None).await.unwrap());
        let mut sent = Chain::of_initiator();
        let hello = client.hello();
        let hello = sent.seal(wire::encode_frame(client.channel, &Message::Hello(hello)));
        client.send(Frame::Binary(hello.into())).await.unwrap();
        assert!(matches!(client.next().await, Ok(Message::Welcome(_))));
        let row = client.row("late", "x");
        let push = Message::Push(Push { named: 0, rows: vec![row] });
        let mut push = sent.seal(wire::encode_frame(client.channel, &push));
        if twice {
            client.send(Frame::Binary(push.clone().into())).await.unwrap();
        } else {
            let last = push.len() - 10;
            push[last] ^= 1;
        }
        client.send(Frame::Binary(push.into())).await.unwrap();
        assert_eq!(client.end().await.bye().code, ByeCode::BadLine);
        assert_eq!(client.close_code().await, Some(1013));
    }
}

#[tokio::test]
async fn a_message_before_the_hello_is_misconduct() {
    let world = World::new().await;
    let mut client = Client::new("demo", 1);
    client.socket = Some(dial(world.address, None).await.unwrap());
    client.say(&Message::Push(Push::default())).await.unwrap();
    assert_eq!(client.end().await.bye().code, ByeCode::Misbehaved);
    assert_eq!(client.close_code().await, Some(1008));
}

/// How long a connection may be without a channel, where a test waits for it.
const OPENING: Duration = Duration::from_millis(1_500);

#[test]
fn usual_time_for_a_hello_is_five_seconds_and_what_the_longest_takes_on_the_slowest_line() {
    let opening = Config::new("data").limits.opening_max;
    let slow = Duration::from_millis(time_for(HELLO_BYTES).0);
    assert_eq!(opening, Duration::from_secs(5) + slow);
    // One that comes after 7 to 10 s is in time.
    assert!(opening > Duration::from_secs(15), "{opening:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_when_its_time_is_over() {
    let world = World::with(|_, config| config.limits.opening_max = OPENING).await;
    let mut client = Client::new("demo", 1);
    client.channel = 0;
    let dialled = Instant::now();
    client.socket = Some(dial(world.address, None).await.unwrap());
    assert_eq!(client.end().await.bye().code, ByeCode::Misbehaved);
    assert_eq!(client.close_code().await, Some(1008));
    assert!(dialled.elapsed() >= OPENING);
}

/// Before a hello had the time that it takes, clients on slow lines with long tokens were turned away again and again.
#[tokio::test]
async fn a_hello_that_takes_long_on_a_slow_line_is_let_in_within_its_time() {
    let world = World::with(|_, config| config.limits.opening_max = OPENING).await;
    let mut client = Client::new("demo", 1);
    client.token = Some("t".repeat(TOKEN_BYTES_MAX));
    let hello = wire::encode_frame(client.channel, &Message::Hello(client.hello()));
    let mut socket = dial(world.address, None).await.unwrap();
    // About half of the time, as 7 to 10 s are of what is usual.
    let (bytes, pause) = (hello.len() / 10, OPENING / 20);
    socket.say_slowly(hello, bytes, pause).await.unwrap();
    client.socket = Some(socket);
    let came = client.next().await;
    assert!(matches!(came, Ok(Message::Welcome(_))), "{came:?}");
}

#[tokio::test]
async fn spaces_beyond_the_limit_are_refused() {
    let world = World::with(|_, config| config.limits.spaces_max = 1).await;
    let _first = Client::joined(world.address, "one", 1).await;
    assert_eq!(refusal(&world, "two", None).await, ByeCode::Busy);
    assert!(Client::new("one", 2).join(world.address).await.is_ok());
}

#[tokio::test]
async fn x09_pages_of_another_origin_may_not_connect() {
    let world = World::new().await;
    let refused = dial(world.address, Some("http://evil.example")).await;
    let Err(Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status(), 403);
    assert!(dial(world.address, Some("http://127.0.0.1:5173")).await.is_ok());

    let world = World::with(|_, config| {
        config.origins = vec!["https://app.example".to_owned()];
    })
    .await;
    assert!(dial(world.address, Some("https://app.example")).await.is_ok());
    assert!(dial(world.address, Some("http://127.0.0.1:5173")).await.is_err());
}

#[tokio::test]
async fn requests_that_are_no_websocket_are_refused() {
    let world = World::new().await;
    assert_eq!(world.get("/sync").await.0, 400);
    let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (status, text) = get(world.address, "/sync", upgrade).await;
    assert_eq!(status, 400, "{text}");
}

#[tokio::test]
async fn a_row_without_a_right_is_rejected_and_the_rest_goes_on() {
    let world = World::with(with_tokens).await;
    let mut reader = Client::new("demo", 1);
    reader.token = Some("of-reader".to_owned());
    reader.join(world.address).await.unwrap();
    reader.push("a", "not allowed").await.unwrap();
    let outcome = loop {
        match reader.next().await.unwrap() {
            Message::Ack(ack) => break ack.outcomes.into_iter().next().unwrap().1,
            other => reader.take_in(other).unwrap(),
        }
    };
    let text = format!("{outcome:?}");
    assert!(text.contains("Rejected") && text.contains("Forbidden"), "{text}");
    reader.say(&Message::Ping { nonce: 1 }).await.unwrap();
    assert!(matches!(reader.next().await, Ok(Message::Pong { .. }) | Err(Ended::Closed(None))));
}

#[tokio::test]
async fn x05_messages_nested_without_end_are_malformed_and_end_no_other_session() {
    let world = World::new().await;
    let mut other = Client::joined(world.address, "demo", 1).await;
    for (name, levels) in [(2, 100), (3, 10_000)] {
        let mut client = Client::joined(world.address, "demo", name).await;
        let deep = (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let here = vec![(1, deep)];
        client.say(&Message::Presence(Presence { here, gone: Vec::new() })).await.unwrap();
        let bye = client.end().await.bye();
        assert_eq!(bye.code, ByeCode::Malformed, "{levels}: {bye:?}");
    }
    other.push("a", "milk").await.unwrap();
    other.settle().await.unwrap();
}
