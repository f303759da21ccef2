//! What is stored is looked at, taken out and brought in by command.

use crate::{
    client::Client,
    world::{Directory, Process},
};
use rejoin_core::{
    id::{Seq, SpaceId},
    io::{Batch, CommitOutcome, KeyRange, Keyspace},
    port::Store,
};
use rejoin_sqlite::{SqliteDb, SqliteOptions};
use serde_json::{Value as Json, json};
use std::{fs, num::NonZeroU32, path::Path, process::Command};

/// Runs a command on a directory; its exit code, what it says, what it complains of.
fn run(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rejoin-server"));
    let (name, rest) = arguments.split_first().unwrap();
    let output = command.env_clear().arg(name).arg("--data").arg(data).args(rest).output().unwrap();
    let [out, err] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    (output.status.code().unwrap(), out, err)
}

fn done(data: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = run(data, arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

fn lines(data: &Path, arguments: &[&str]) -> Vec<Json> {
    let out = done(data, arguments);
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

const RECORDS: &str = r#"{"$id":"1","title":"a","votes":{"$counter":3},"tags":{"$set":["x","y"]}}
{"$id":"2","title":"b, \"c\"","n":1.5,"raw":{"$bytes":"AAEC"},"note":{"$review":["x"]},"best":{"$max":7}}
"#;

#[test]
fn what_is_exported_is_imported_as_it_was_and_only_once() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let file = directory.file("tasks.jsonl", RECORDS);
    let file = file.to_str().unwrap();
    let place = ["--space", "home", "--collection", "tasks"];
    let import = |data: &Path, file: &str| done(data, &[&["import"][..], &place, &[file]].concat());
    assert_eq!(import(&data, file), "imported 2 records, 0 unchanged, 0 bad lines\n");
    assert_eq!(import(&data, file), "imported 0 records, 2 unchanged, 0 bad lines\n");
    let exported = done(&data, &[&["export"][..], &place].concat());
    let parse = |text: &str| -> Vec<Json> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(parse(&exported), parse(RECORDS));

    let other = directory.path().join("other");
    let again = directory.file("again.jsonl", &exported);
    assert!(import(&other, again.to_str().unwrap()).starts_with("imported 2 records"));
    assert_eq!(done(&other, &[&["export"][..], &place].concat()), exported);
    let tree = |data: &Path| lines(data, &["inspect", "tree", "home"]);
    assert_eq!(tree(&data)[0]["records"], 2);
    done(&data, &["verify"]);

    let (code, _, err) = run(&data, &["export", "--space", "hmoe"]);
    assert!(code == 1 && err.contains("there is no space hmoe"), "{err}");
    let all = lines(&data, &["export", "--space", "home"]);
    assert_eq!(all[0]["$collection"], "tasks");
    let table = directory.path().join("tasks.csv");
    let to_table = [&["export"][..], &place, &[table.to_str().unwrap()]].concat();
    done(&data, &to_table);
    let text = fs::read_to_string(&table).unwrap();
    assert!(text.starts_with("$id,best,n,note,raw,tags,title,votes\n"), "{text}");
    assert!(text.contains("\"b, \"\"c\"\"\""), "{text}");
    let (code, _, err) = run(&data, &to_table);
    assert!(code == 1 && err.contains("exists"), "{err}");
}

/// Whatever else is whole, a record that nothing leads to reaches nobody.
#[tokio::test]
async fn a_record_that_is_in_no_tree_is_found() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let file = directory.file("tasks.jsonl", RECORDS);
    let place = ["--space", "home", "--collection", "tasks", file.to_str().unwrap()];
    done(&data, &[&["import"][..], &place].concat());
    done(&data, &["verify"]);
    let db = SqliteDb::open(data.join("rejoin.sqlite"), &SqliteOptions::default()).unwrap();
    let store = db.space(&SpaceId::parse("home").unwrap());
    let mut batch = Batch::default();
    for keyspace in [Keyspace::Tree, Keyspace::Feed] {
        let all = store.scan(keyspace, &KeyRange::default(), NonZeroU32::MAX).await.unwrap();
        all.rows.into_iter().for_each(|row| batch.delete(keyspace, row.key));
    }
    assert_eq!(store.commit(batch).await, Ok(CommitOutcome::Applied));
    db.close().await.unwrap();
    let (code, out, _) = run(&data, &["verify"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("tasks: the tree is not that of the records"), "{out}");
}

#[test]
fn bad_lines_are_named_and_the_others_are_imported() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let large = "x".repeat(300 << 10);
    let text = format!("{{\"$id\":\"1\"}}\nno\n{{\"$id\":\"2\",\"title\":\"{large}\"}}\n{{}}\n");
    let file = directory.file("tasks.jsonl", &text);
    let name = file.to_str().unwrap();
    let place = ["--space", "home", "--collection", "tasks"];
    let (code, out, err) = run(&data, &[&["import"][..], &place, &[name]].concat());
    assert_eq!(code, 1, "{out}{err}");
    assert_eq!(out, "imported 1 records, 0 unchanged, 3 bad lines\n");
    for line in ["2: expected", "3: refused: ", "4: it has no \"$id\""] {
        assert!(err.contains(&format!("{name}:{line}")), "{err}");
    }
    let csv = directory.file("more.csv", "name,votes\na,1\nb,2\n");
    let key = ["--key", "name", "--kind", "votes=counter", csv.to_str().unwrap()];
    let out = done(&data, &[&["import"][..], &place, &key].concat());
    assert!(out.starts_with("imported 2 records"), "{out}");
    let all = lines(&data, &[&["export"][..], &place].concat());
    assert!(
        all.contains(&json!({ "$id": "b", "name": "b", "votes": { "$counter": 2 } })),
        "{all:?}"
    );
}

#[tokio::test]
async fn what_a_server_stores_is_looked_at_while_it_runs() {
    let directory = Directory::new();
    let data = directory.path().join("data");
    let process = Process::start(&data);
    let mut ada = Client::joined(process.address, "home", 0xad).await;
    for id in ["a", "b"] {
        ada.push(id, "x").await.unwrap();
        ada.settle().await.unwrap();
    }
    ada.sync(Seq(2)).await.unwrap();
    let spaces = lines(&data, &["inspect", "spaces"]);
    assert_eq!(spaces.len(), 1, "{spaces:?}");
    assert_eq!((&spaces[0]["space"], &spaces[0]["position"]), (&json!("home"), &json!(2)));
    let space = lines(&data, &["inspect", "space", "home"]).remove(0);
    let collection = ada.base.keys().next().unwrap().collection.as_str().to_owned();
    assert_eq!(space["collections"][&collection], json!({ "live": 2, "removed": 0 }));
    assert_eq!(space["stored"]["records"]["rows"], 2);
    let record = lines(&data, &["inspect", "record", "home", &collection, "a"]).remove(0);
    let replica = "ad".repeat(16);
    assert_eq!(record["live"], true);
    let seen = record["seen"][&replica].as_str().unwrap();
    let cell = &record["cells"][0];
    assert_eq!((&cell["kind"], &cell["value"]), (&json!("lww"), &json!("x")));
    assert_eq!(cell["by"], json!(format!("{seen}@{replica}")));
    let tree = lines(&data, &["inspect", "tree", "home"]).remove(0);
    assert_eq!(tree["records"], 2);
    let feed = lines(&data, &["inspect", "feed", "home", "--after", "1", "--limit", "5"]);
    assert_eq!(feed.len(), 1, "{feed:?}");
    assert_eq!((&feed[0]["id"], &feed[0]["position"]), (&json!("b"), &json!(2)));
    let clients = lines(&data, &["inspect", "clients", "home"]);
    let known = clients.iter().find(|client| client["replica"] == replica.as_str()).unwrap();
    assert!(known["principal"] == "anyone" && known["accepted"].is_string(), "{known}");
    let (code, _, err) = run(&data, &["inspect", "record", "home", &collection, "c"]);
    assert!(code == 1 && err.contains("there is no record"), "{err}");

    let file = directory.file("tasks.jsonl", RECORDS);
    let place = ["--space", "home", "--collection", "tasks", file.to_str().unwrap()];
    let (code, _, err) = run(&data, &[&["import"][..], &place].concat());
    assert!(code == 1 && err.contains("stop it first"), "{err}");
    drop(process);
}
