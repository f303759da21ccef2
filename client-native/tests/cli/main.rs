//! The program `rejoin`, as its users run it, against a real server.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy's exceptions for tests do not cover the helper functions of a test file"
)]
#![cfg(feature = "cli")]

mod access;
mod options;
#[path = "../support/mod.rs"]
mod support;

use rejoin_client::{Client, CollectionName, Pattern};
use std::{fs, path::Path, process::Stdio};
use support::{World, soon, until};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

/// The program as it comes, without any setting.
fn bare(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin"));
    command.arg(name).args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn command(world: &World, name: &str, args: &[&str]) -> Command {
    let mut command = bare(name, &["--server", &world.url(), "--space", "home"]);
    command.args(["--collection", "packages"]).args(args);
    command
}

async fn rejoin(world: &World, name: &str, args: &[&str]) -> Run {
    run(&mut command(world, name, args)).await
}

async fn run(command: &mut Command) -> Run {
    let output = soon(command.output()).await.unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn spawn(world: &World, name: &str, args: &[&str]) -> Child {
    let mut command = command(world, name, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn observer(world: &World) -> Client {
    world.client("observer.db", "packages").await
}

fn count(client: &Client) -> usize {
    client.all(&CollectionName::parse("packages").unwrap()).unwrap().len()
}

fn packages(range: std::ops::Range<u32>) -> String {
    let line =
        |n| format!("{{\"Package\":\"p{n:05}\",\"Size\":{n},\"Description\":\"Größe {n} 🚀\"}}\n");
    range.map(line).collect()
}

#[tokio::test]
async fn broken_lines_are_named_and_the_good_ones_imported() {
    let world = World::new().await;
    let large = format!("{{\"Package\":\"large\",\"x\":\"{}\"}}", "x".repeat(300 << 10));
    let lines = format!("{}{{\"Package\":\n{{}}\n{large}\n{}", packages(0..2), packages(2..4));
    let file = write(&world.path("a.jsonl"), &lines);
    let run = rejoin(&world, "import", &["--key", "Package", &file]).await;
    assert_eq!(run.code, Some(1), "{}", run.err);
    let named: Vec<&str> =
        run.err.lines().filter_map(|line| line.strip_prefix(&file)?.split(':').nth(1)).collect();
    assert_eq!(named, ["3", "4", "5"], "{}", run.err);
    assert!(
        run.out.starts_with("imported 4 records, 0 unchanged, 3 bad lines, verified "),
        "{}",
        run.out
    );

    let file = write(&world.path("b.csv"), "Package,Size\np1,1\np2\n,3\n\"p \"\"3\",\"4\n5\"\n");
    let run = rejoin(&world, "import", &["--key", "Package", &file]).await;
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("b.csv:3: ") && run.err.contains("b.csv:4: "), "{}", run.err);
    assert!(run.out.starts_with("imported 2 records, 0 unchanged, 2 bad lines"), "{}", run.out);

    let file = write(&world.path("c.json"), "[{\"Package\":\"j1\"},\n{\"Package\":\"j2\"},\n7]");
    let run = rejoin(&world, "import", &["--key", "Package", &file]).await;
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("c.json:3: "), "{}", run.err);
    let run = rejoin(&world, "export", &[]).await;
    assert_eq!(run.out.lines().count(), 8, "{}", run.out);
}

#[tokio::test]
async fn export_gives_back_what_was_imported_and_verify_agrees() {
    let world = World::new().await;
    let lines = packages(0..1200);
    let file = write(&world.path("a.jsonl"), &lines);
    let run = rejoin(&world, "import", &["--key", "Package", &file]).await;
    assert_eq!(run.code, Some(0), "{}", run.err);
    let root = run.out.split("verified ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(root.len(), 64);

    let run = rejoin(&world, "verify", &[]).await;
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.out, format!("verified {root} 3 1200 records\n"));

    let run = rejoin(&world, "export", &["--no-id"]).await;
    let parsed = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(parsed(&run.out), parsed(&lines));

    let run = rejoin(&world, "import", &["--key", "Package", &file]).await;
    assert!(run.out.starts_with("imported 0 records, 1200 unchanged"), "{}", run.out);

    let exported = rejoin(&world, "export", &[]).await.out;
    let file = write(&world.path("again.jsonl"), &exported);
    let run = rejoin(&world, "import", &[&file]).await;
    assert!(run.out.starts_with("imported 0 records, 1200 unchanged"), "{}", run.out);
}

#[tokio::test]
async fn an_import_that_is_killed_is_completed_by_the_next() {
    let world = World::new().await;
    let observer = observer(&world).await;
    let data = world.path("replica");
    for data in [None, Some(data.to_str().unwrap())] {
        let mut args = vec!["--key", "Package", "-"];
        args.extend(data.into_iter().flat_map(|data| ["--data", data]));
        let before = count(&observer);
        let range = if data.is_none() { 0..3000 } else { 3000..6000 };
        let lines = packages(range.clone());
        let mut child = spawn(&world, "import", &args);
        let mut input = child.stdin.take().unwrap();
        let half = packages(range.start..range.start + 1700);
        input.write_all(half.as_bytes()).await.unwrap();
        input.flush().await.unwrap();
        until(&observer, |observer| count(observer) > before + 400).await;
        child.start_kill().unwrap();
        assert_eq!(soon(child.wait()).await.unwrap().code(), None);
        assert!(count(&observer) < before + 3000);

        let file = write(&world.path("all.jsonl"), &lines);
        let mut args = vec!["--key", "Package", &file];
        args.extend(data.into_iter().flat_map(|data| ["--data", data]));
        let run = rejoin(&world, "import", &args).await;
        assert_eq!(run.code, Some(0), "{}", run.err);
        until(&observer, |observer| count(observer) == before + 3000).await;
    }
    soon(observer.synced()).await.unwrap();
    let run = rejoin(&world, "verify", &[]).await;
    let root = observer.root(&Pattern::parse("packages").unwrap());
    assert!(run.out.starts_with(&format!("verified {root} ")), "{}", run.out);
    assert!(run.out.ends_with(" 6000 records\n"), "{}", run.out);
}

#[tokio::test]
async fn watch_prints_each_change() {
    let world = World::new().await;
    let client = observer(&world).await;
    let mut child = spawn(&world, "watch", &["--all"]);
    let out = child.stdout.take().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    let package = rejoin_client::key("packages", "ä").unwrap();
    let size = rejoin_client::set("Size", rejoin_client::Value::int(7)).unwrap();
    client.write(vec![rejoin_client::put(package.clone(), [size])]).await.unwrap();
    let line = soon(lines.next_line()).await.unwrap();
    assert_eq!(line.as_deref(), Some(r#"{"$id":"ä","Size":7}"#));
    client.write(vec![rejoin_client::remove(package)]).await.unwrap();
    let line = soon(lines.next_line()).await.unwrap();
    assert_eq!(line.as_deref(), Some(r#"{"$id":"ä","$removed":true}"#));
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_with_a_reason() {
    let mut world = World::new().await;
    let file = write(&world.path("a.jsonl"), &packages(0..1));
    world.stop().await;
    let run = rejoin(&world, "import", &["--timeout", "1", "--key", "Package", &file]).await;
    assert_eq!(run.code, Some(2));
    let reason = format!("no connection to {} for 1 s: ", world.url());
    assert!(run.err.contains(&reason), "{}", run.err);
    let run = rejoin(&world, "verify", &["--timeout", "1"]).await;
    assert_eq!(run.code, Some(2));
    let run = rejoin(&world, "import", &["--key", "Package", "nowhere.jsonl"]).await;
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("nowhere.jsonl"), "{}", run.err);
    let run = rejoin(&world, "import", &["--key", "", &file]).await;
    assert_eq!(run.code, Some(2));
}
