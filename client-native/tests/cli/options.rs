//! Each option is read and does what it says.

use crate::{bare, command, packages, rejoin, run, spawn, support::World, write};
use std::fs;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn kinds_of_fields_are_those_asked_for_and_survive_export_and_import() {
    let world = World::new().await;
    let lines = r#"{"$id":"a","by":"ada","best":3,"least":3,"votes":2,"tags":["x","y","x"],"note":"n","t":1}
{"$id":"b","best":4,"tags":"none"}
"#;
    let file = write(&world.path("a.jsonl"), lines);
    let kinds = ["by=fww", "best=max", "least=min", "votes=counter", "tags=set", "note=review"];
    let mut args: Vec<&str> = kinds.iter().flat_map(|kind| ["--kind", kind]).collect();
    args.push(&file);
    let done = rejoin(&world, "import", &args).await;
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.err.contains("a.jsonl:2: \"tags\" is a field of kind set"), "{}", done.err);
    let exported = rejoin(&world, "export", &[]).await.out;
    let expected = concat!(
        r#"{"$id":"a","best":{"$max":3},"by":{"$fww":"ada"},"least":{"$min":3},"#,
        r#""note":{"$review":["n"]},"t":1,"tags":{"$set":["x","y"]},"votes":{"$counter":2}}"#,
        "\n"
    );
    assert_eq!(exported, expected);

    let copy = write(&world.path("copy.jsonl"), &exported);
    let elsewhere = ["--server", &world.url(), "--space", "copy", "--collection", "packages"];
    let done = run(bare("import", &elsewhere).arg(&copy)).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(run(&mut bare("export", &elsewhere)).await.out, expected);

    // A plain value keeps the kind that is there.
    let file = write(&world.path("b.jsonl"), "{\"$id\":\"a\",\"best\":9}\n");
    let done = run(bare("import", &elsewhere).arg(&file)).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let exported = run(&mut bare("export", &elsewhere)).await.out;
    assert_eq!(exported, "{\"$id\":\"a\",\"best\":{\"$max\":9}}\n");

    for wrong in [["--kind", "best"], ["--kind", "best=greatest"]] {
        let refused = rejoin(&world, "import", &[&wrong[..], &[&file]].concat()).await;
        assert_eq!(refused.code, Some(2), "{}", refused.err);
    }
    let twice = ["--kind", "best=max", "--kind", "best=min", &file];
    let refused = rejoin(&world, "import", &twice).await;
    assert!(refused.code == Some(2) && refused.err.contains("two kinds"), "{}", refused.err);
}

#[tokio::test]
async fn the_place_can_be_said_by_the_environment() {
    let world = World::new().await;
    let file = write(&world.path("a.jsonl"), &packages(0..2));
    let mut import = bare("import", &["--collection", "packages", "--key", "Package", &file]);
    import.env("REJOIN_SERVER", world.url()).env("REJOIN_SPACE", "home");
    let done = run(&mut import).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(rejoin(&world, "export", &[]).await.out.lines().count(), 2);
}

#[tokio::test]
async fn a_variable_that_looks_like_a_setting_is_named() {
    let world = World::new().await;
    let named = run(command(&world, "verify", &[]).env("REJOIN_TOKENS", "x")).await;
    assert_eq!(named.code, Some(0), "it may belong to another program: {}", named.err);
    assert!(named.err.contains("REJOIN_TOKENS is no setting"), "{}", named.err);
    let quiet = run(command(&world, "verify", &[]).env("REJOIN_SERVER_LISTEN", "x")).await;
    assert!(!quiet.err.contains("no setting"), "the server's: {}", quiet.err);
}

#[tokio::test]
async fn a_replica_that_is_kept_can_be_read_without_a_server() {
    let mut world = World::new().await;
    let file = write(&world.path("a.jsonl"), &packages(0..3));
    let data = world.path("kept");
    let kept = ["--data", data.to_str().unwrap()];
    let import = [&kept[..], &["--key", "Package", &file]].concat();
    assert_eq!(rejoin(&world, "import", &import).await.code, Some(0));
    let status = rejoin(&world, "status", &kept).await;
    assert_eq!(status.code, Some(0), "{}", status.err);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!((&status["records"], &status["verified"]), (&3.into(), &true.into()));
    world.stop().await;

    let offline = [&kept[..], &["--offline"]].concat();
    let status = rejoin(&world, "status", &offline).await;
    assert_eq!(status.code, Some(0), "{}", status.err);
    let out = world.path("out.jsonl");
    let to_file = [&offline[..], &[out.to_str().unwrap()]].concat();
    assert_eq!(rejoin(&world, "export", &to_file).await.code, Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 3);
    let refused = rejoin(&world, "export", &["--offline"]).await;
    assert_eq!(refused.code, Some(2), "nothing is kept: {}", refused.err);
}

#[tokio::test]
async fn the_format_and_the_trace_are_those_asked_for() {
    let world = World::new().await;
    let mut child = spawn(&world, "import", &["--format", "csv", "--key", "id", "--trace", "-"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"id,name\n1,x\n").await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{trace}");
    assert!(trace.contains("-> ") && trace.contains("<- "), "{trace}");
    assert_eq!(rejoin(&world, "export", &["--no-id"]).await.out, "{\"id\":\"1\",\"name\":\"x\"}\n");
    let file = write(&world.path("lines.txt"), "{\"$id\":1}\n");
    let refused = rejoin(&world, "import", &[&file]).await;
    assert!(refused.code == Some(2) && refused.err.contains("--format"), "{}", refused.err);
}
