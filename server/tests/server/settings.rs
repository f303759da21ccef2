//! Each setting is read, from wherever it can be said, and does what it says.

use crate::{
    client::{Client, Ended},
    world::{Directory, Process, World},
};
use rejoin_core::{id::Seq, protocol::message::ByeCode};
use std::process::Command;
use tokio_tungstenite::tungstenite::Message as Frame;

/// A setting: its name, a value that is no default, and how it is printed. Text in the file is quoted.
const SETTINGS: [(&str, &str, &str); 34] = [
    ("listen", "127.0.0.1:9", "listen=127.0.0.1:9 "),
    ("log", "debug", "log=debug "),
    ("log-format", "json", "log-format=json"),
    ("otlp-endpoint", "http://127.0.0.1:9", "otlp-endpoint=http://127.0.0.1:9 "),
    ("auth", "none", "auth=none "),
    ("static", "/no/such", "static=/no/such "),
    ("origin", "https://a.example", "origin=https://a.example "),
    ("connections-max", "11", "connections-max=11 "),
    ("connections-per-address-max", "12", "connections-per-address-max=12 "),
    ("spaces-max", "13", "spaces-max=13 "),
    ("spaces-per-principal-max", "18", "spaces-per-principal-max=18 "),
    ("live-feeds-max", "16", "live-feeds-max=16 "),
    ("frame-bytes-max", "900000", "frame-bytes-max=900000 "),
    ("connection-messages-per-second", "21", "connection-messages-per-second=21 "),
    ("connection-bytes-per-second", "2000022", "connection-bytes-per-second=2000022 "),
    ("principal-messages-per-second", "23", "principal-messages-per-second=23 "),
    ("principal-bytes-per-second", "2000024", "principal-bytes-per-second=2000024 "),
    ("principal-requests-per-second", "25", "principal-requests-per-second=25 "),
    ("address-requests-per-second", "26", "address-requests-per-second=26 "),
    ("address-connections-per-minute", "27", "address-connections-per-minute=27 "),
    ("address-failures-per-minute", "28", "address-failures-per-minute=28 "),
    ("connections-per-principal-max", "31", "connections-per-principal-max=31 "),
    ("space-records-max", "32", "space-records-max=32 "),
    ("space-bytes-max", "33", "space-bytes-max=33 "),
    ("refill", "proved", "refill=proved "),
    ("retention-hours", "15", "retention-hours=15 "),
    ("scrub", "90m", "scrub=90m "),
    ("stall-seconds", "14", "stall-seconds=14"),
    ("clock", "accepted", "clock=accepted"),
    ("metrics", "on", "metrics=on "),
    ("metrics-listen", "127.0.0.1:8", "metrics-listen=127.0.0.1:8 "),
    ("drain-seconds", "16", "drain-seconds=16 "),
    ("disk-free-min-mib", "17", "disk-free-min-mib=17 "),
    ("data", "", "data="),
];

/// What a start prints that ends at a data directory that is a file.
fn printed(command: &mut Command, data: Option<&str>) -> String {
    if let Some(data) = data {
        command.args(["--data", data]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

fn server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    command.env_clear();
    command
}

fn variable(name: &str) -> String {
    format!("REJOIN_SERVER_{}", name.to_uppercase().replace('-', "_"))
}

#[test]
fn each_setting_is_read_from_flag_variable_and_file() {
    let directory = Directory::new();
    let occupied = directory.file("occupied", "");
    let occupied = occupied.to_str().unwrap();
    for (name, value, shown) in SETTINGS {
        let (value, data) = if name == "data" { (occupied, None) } else { (value, Some(occupied)) };
        let shown = if name == "data" { format!("data={occupied} ") } else { shown.to_owned() };
        let text = printed(server().args([&format!("--{name}"), value]), data);
        assert!(text.contains(&shown), "flag {name}: {text}");
        let text = printed(server().env(variable(name), value), data);
        assert!(text.contains(&shown), "variable {name}: {text}");
        let written = if value.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("{name} = {value}\n")
        } else if name == "origin" {
            format!("{name} = ['{value}']\n")
        } else {
            format!("{name} = '{value}'\n")
        };
        let file = directory.file("server.toml", &written);
        let text = printed(server().env("REJOIN_SERVER_CONFIG", &file), data);
        assert!(text.contains(&shown), "file {name}: {text}");
        assert!(text.contains(&format!("config={} ", file.display())), "{text}");
    }
    let tokens = directory.file("tokens.toml", "");
    let mut command = server();
    command.env(variable("tokens"), &tokens).env(variable("auth"), "tokens");
    let text = printed(&mut command, Some(occupied));
    assert!(text.contains(&format!("auth=tokens tokens={} ", tokens.display())), "{text}");
    let mut command = server();
    command.env(variable("tls-cert"), "/no/cert").args(["--tls-key", "/no/key"]);
    assert!(printed(&mut command, Some(occupied)).contains("tls-cert=/no/cert tls-key=/no/key "));
}

#[test]
fn config_check_says_what_a_start_would_and_changes_nothing() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    let tokens = directory.file("tokens.toml", "[[tokens]]\ntoken = 'very-secret' oops\n");
    let check = |arguments: &[&str]| {
        let command = &mut server();
        let output = command.args(["config", "check", "--data", data]).args(arguments).output();
        let output = output.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    assert_eq!(check(&[]), (Some(0), "the configuration is good\n".to_owned()));
    for (arguments, code, complaint) in [
        (&["--static", "/no/such"][..], 1, "--static /no/such is not a directory"),
        (&["--log", "a=b=c"], 1, "--log a=b=c"),
        (&["--auth", "tokens"], 1, "--auth tokens needs --tokens FILE"),
        (&["--auth", "tokens", "--tokens", tokens.to_str().unwrap()], 1, "line 2"),
        (&["--listen-on", "x"], 2, "unexpected argument '--listen-on'"),
        (&["--config", "/no/such"], 1, "cannot read /no/such"),
    ] {
        let (found, text) = check(arguments);
        assert_eq!(found, Some(code), "{text}");
        assert!(text.contains(complaint) && !text.contains("very-secret"), "{text}");
    }
    assert!(!directory.path().join("data").exists());
}

#[test]
fn config_show_names_the_origin_of_every_value() {
    let directory = Directory::new();
    let file = directory.file("server.toml", "# mine\nspaces-max = 42\n");
    let mut command = server();
    command.args(["config", "show", "--listen", "127.0.0.1:9", "--config"]).arg(&file);
    let output = command.env(variable("scrub"), "7d").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for line in [
        "listen = \"127.0.0.1:9\" # --listen".to_owned(),
        "data = \"./rejoin-data\" # default".to_owned(),
        "scrub = \"7d\" # REJOIN_SERVER_SCRUB".to_owned(),
        format!("spaces-max = 42 # {}, line 2", file.display()),
        "# tokens is not set".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn settings_stand_behind_the_command_that_they_are_for() {
    let output = server().args(["--listen", "127.0.0.1:9", "config", "show"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot be used with"), "{text}");
    let directory = Directory::new();
    let occupied = directory.file("occupied", "");
    let text = printed(server().arg("serve"), occupied.to_str());
    assert!(text.contains("configuration: "), "{text}");
}

#[test]
fn a_variable_that_looks_like_a_setting_is_refused() {
    let output = server().env("REJOIN_SERVER_LISTEN_ON", "127.0.0.1:0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("REJOIN_SERVER_LISTEN_ON is no setting"), "{text}");
}

#[tokio::test]
async fn the_filter_and_the_format_of_the_log_are_those_asked_for() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut process = Process::start_with(&data, &["--log", "debug", "--connections-max", "1"]);
    let _first = Client::joined(process.address, "demo", 1).await;
    Client::new("demo", 2).join(process.address).await.unwrap_err();
    process.line(&["DEBUG", "too many connections"]).await;
    process.kill();
    let output = server().args(["--log", "error", "--data", "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("configuration"), "{text}");
    let output = server().args(["--log-format", "json", "--data", "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap();
    assert!(line.starts_with("{\"timestamp\"") && line.ends_with('}'), "{text}");
    let output = server().args(["--log", "a=b=c", "--data", "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--log a=b=c"), "{text}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_wherever_they_come_from() {
    let world = World::with(|_, config| config.limits.connections_max = 1).await;
    let _first = Client::joined(world.address, "demo", 1).await;
    let second = Client::new("demo", 2).join(world.address).await;
    assert!(matches!(second, Err(Ended::Broken(_))), "{second:?}");
}

#[tokio::test]
async fn frames_beyond_the_limit_are_refused_and_clients_are_told_it() {
    let world = World::with(|_, config| config.limits.frame_bytes_max = 900_000).await;
    let mut client = Client::new("demo", 1);
    let welcome = client.join(world.address).await.unwrap();
    assert_eq!(welcome.limits.frame_bytes, 900_000);
    client.send(Frame::Binary(vec![1; 900_001].into())).await.unwrap();
    assert_eq!(client.end().await.bye().code, ByeCode::TooLarge);
}

/// A client that sends and never reads: the sockets' buffers fill, then the server waits so long.
#[tokio::test]
async fn a_stalled_client_is_cut_after_the_time_asked_for() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let mut process = Process::start_with(&data, &["--stall-seconds", "1"]);
    let mut ada = Client::joined(process.address, "demo", 1).await;
    let mut slow = Client::joined(process.address, "demo", 2).await;
    let text = "x".repeat(200_000);
    // More than any socket's buffers hold.
    let rows = 120;
    for serial in 0..rows {
        ada.push(&format!("a{serial}"), &text).await.unwrap();
        ada.settle().await.unwrap();
    }
    process.line(&["seconds=1", "takes nothing, cut"]).await;
    slow.join(process.address).await.unwrap();
    slow.sync(Seq(rows)).await.unwrap();
    ada.sync(Seq(rows)).await.unwrap();
    assert_eq!(slow.root(), ada.root());
}
