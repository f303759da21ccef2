//! Each line with `curl` of `docs/SERVER.md`, section HTTP, is run as it stands there.

use crate::world::World;
use std::{fs, path::Path, process::Command};

/// The commands of the section, with what it says that each prints: status, and a part of the text.
fn commands() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SERVER.md");
    let page = fs::read_to_string(page).expect("the page");
    let section = page.split("\n## ").find(|section| section.starts_with("HTTP\n"));
    let section = section.expect("the section");
    let blocks = section.split("```sh\n").skip(1);
    let lines = blocks.filter_map(|block| block.split("```").next()).flat_map(str::lines);
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in lines {
        if let Some(expected) = line.strip_prefix("# ") {
            commands.last_mut().expect("a command before").1.push_str(expected);
        } else if line.contains("curl ") {
            commands.push((line.to_owned(), String::new()));
        }
    }
    commands
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_curl_line_of_the_page_does_what_it_says() {
    let world = World::new().await;
    let commands = commands();
    assert!(commands.len() >= 15, "{}", commands.len());
    let mut etag = String::new();
    let mut cursor = String::new();
    for (command, expected) in commands {
        let mut shell = Command::new("bash");
        shell
            .args(["-o", "pipefail", "-c", &command])
            .env("SPACE", format!("http://{}/v1/spaces/demo", world.address));
        shell.env("SERVER", format!("http://{}", world.address));
        shell.env("TOKEN", "none is asked for").env("ETAG", &etag).env("CURSOR", &cursor);
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for part in expected.split(" ... ").filter(|part| !part.is_empty()) {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains(part), "{command}\nprints\n{text}{errors}\nand not\n{part}");
        }
        if let Some((_, tag)) = text.split_once("etag: ") {
            tag.lines().next().unwrap_or_default().clone_into(&mut etag);
        }
        if let Some((_, rest)) = text.split_once("\"cursor\":\"") {
            rest.split('"').next().unwrap_or_default().clone_into(&mut cursor);
        }
    }
}
