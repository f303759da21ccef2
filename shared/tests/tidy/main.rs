//! The house rules that no compiler checks: layers, file sizes, where time and foreign libraries may
//! be named, and what must not be written down. Each rule is a function over text, and each has a
//! planted violation below that it must find; `house_rules_hold_in_the_whole_tree` runs them all.

#![expect(clippy::unwrap_used, reason = "a test: whatever goes wrong here should stop it")]

mod claims;
mod rules;
mod source;

use claims::{
    Files, Offer, broken_commands, missing_paths, unheld_claims, unnamed_tests, untested_failures,
};
use rules::{
    LINES_MAX, confined_words, download_addresses, machine_paths, open_ended_todos, own_lints,
    time_sources, too_long, undocumented_modules, upward_paths,
};
use source::{code_only, without_tests};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders with files that were made, fetched or left behind, not written.
const NOT_OURS: [&str; 8] =
    [".git", "target", "node_modules", "dist", "pkg", ".demo-data", "test-artifacts", "corpus"];

#[test]
fn house_rules_hold_in_the_whole_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut complaints = Vec::new();
    let mut files = 0;
    for path in files_under(root) {
        // Pictures and other files that are not text have no rules.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        files += 1;
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let found = complaints_about(&name, &text, &|module| module_file(&path, module));
        complaints.extend(found.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    assert!(files > 10, "only {files} files found: the walk is broken");
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn documents_claim_only_what_the_tree_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = files_under(root).into_iter().filter_map(|path| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        Some((name, fs::read_to_string(&path).ok()?))
    });
    let files = read.collect();
    let mut complaints = Vec::new();
    for name in [
        "README.md",
        "docs/PROTOCOL.md",
        "docs/ACCEPTANCE.md",
        "docs/RELIABILITY.md",
        "client-wasm/README.md",
    ] {
        assert!(Files::contains_key(&files, name), "there is no {name}");
    }
    for (name, _) in files.iter().filter(|(name, _)| is_document(name)) {
        let found = claim_complaints(name, &files);
        complaints.extend(found.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

/// All rules about claims, for one document.
fn claim_complaints(name: &str, files: &Files) -> Vec<String> {
    let (text, offer) = (&files[name], Offer::of(files));
    let mut complaints = broken_commands(text, &offer);
    complaints.extend(missing_paths(text, &offer));
    match name {
        "docs/PROTOCOL.md" => complaints.extend(unheld_claims(text, "P", &offer)),
        "docs/ACCEPTANCE.md" => {
            complaints.extend(unheld_claims(text, "", &offer));
            complaints.extend(unnamed_tests(text, "shared/tests/acceptance/", files));
        }
        "docs/RELIABILITY.md" => complaints.extend(untested_failures(text, &offer)),
        _ => {}
    }
    complaints
}

/// Documents of this tree; those of a template speak of the app that is made of it.
fn is_document(name: &str) -> bool {
    let ours = name.ends_with(".md") && (!name.contains('/') || name.starts_with("docs/"))
        || name.ends_with("/README.md");
    ours && !name.starts_with("create-rejoin/template/")
}

/// All rules, for one file.
fn complaints_about(
    name: &str,
    text: &str,
    module_file: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut complaints = machine_paths(text);
    if name.ends_with("package-lock.json") {
        complaints.extend(download_addresses(text));
    }
    if name.ends_with("Cargo.toml") {
        complaints.extend(own_lints(text));
    }
    if is_source(name) {
        complaints.extend(open_ended_todos(text));
    }
    if is_test(name) {
        return complaints;
    }
    if name.ends_with(".ts") || name.ends_with(".tsx") {
        complaints.extend(too_long(text.lines().count()));
    }
    if name.ends_with(".rs") {
        let (code, lines) = without_tests(&code_only(text));
        complaints.extend(too_long(lines));
        complaints.extend(time_sources(name, &code));
        complaints.extend(confined_words(name, &code));
        complaints.extend(undocumented_modules(text, &code, module_file));
        if let Some((module, nested)) = shared_module(name) {
            complaints.extend(upward_paths(module, nested, &code));
        }
    }
    complaints
}

fn is_source(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    let sources = ["rs", "ts", "tsx", "js", "mjs", "sh", "css", "html", "toml", "md"];
    extension.is_some_and(|extension| sources.contains(&extension))
}

fn is_test(name: &str) -> bool {
    let folders = ["/tests/", "/test/", "/benches/", "/examples/", "/fuzz/"];
    folders.iter().any(|folder| name.contains(folder))
        || name.ends_with("/tests.rs")
        || name.ends_with(".test.ts")
}

/// The top module that a file of `shared/src` belongs to, and whether it lies in its folder.
fn shared_module(name: &str) -> Option<(&str, bool)> {
    let inside = name.strip_prefix("shared/src/")?.strip_suffix(".rs")?;
    match inside.split_once('/') {
        None if inside == "lib" => None,
        None => Some((inside, false)),
        Some((module, file)) => Some((module, file != "mod")),
    }
}

/// The text of the file that `mod module;` in `declared_in` stands for.
fn module_file(declared_in: &Path, module: &str) -> Option<String> {
    let folder = declared_in.parent()?;
    let stem = declared_in.file_stem()?.to_str()?;
    let below =
        if ["lib", "main", "mod"].contains(&stem) { folder.into() } else { folder.join(stem) };
    [below.join(format!("{module}.rs")), below.join(module).join("mod.rs")]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if NOT_OURS.contains(&entry.file_name().to_str().unwrap()) {
            continue;
        }
        if kind.is_dir() {
            files.extend(files_under(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn complaints(name: &str, text: &str) -> Vec<String> {
    complaints_about(name, text, &|_| None)
}

#[test]
fn upward_import_is_found_in_every_spelling() {
    for planted in [
        "use crate::protocol::Session;",
        "use crate::{\n    id::SpaceId,\n    protocol::{Session, limits},\n};",
        "fn f() { crate::driver::drive() }",
        "use super::protocol::Session;",
    ] {
        assert_eq!(complaints("shared/src/hlc.rs", planted).len(), 1, "{planted}");
    }
    let nested = "use super::super::protocol::Session;";
    assert_eq!(complaints("shared/src/crdt/set.rs", nested).len(), 1);
}

#[test]
fn downward_imports_siblings_comments_and_tests_are_free() {
    for allowed in [
        "use crate::{id::{ReplicaId, SpaceId}, time::WallMillis};",
        "use crate::hlc::Stamp;",
        "//! See [`crate::driver`].\n/// [`crate::testing::contract`]\nfn f() {}",
        "fn f() -> &'static str { \"crate::driver\" }",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::testing::Sim;\n    const C: char = '}';\n}\n",
    ] {
        assert_eq!(complaints("shared/src/hlc.rs", allowed), Vec::<String>::new(), "{allowed}");
    }
    let sibling = "use super::protocol::x;";
    assert_eq!(complaints("shared/src/crdt/set.rs", sibling), Vec::<String>::new());
}

#[test]
fn module_without_a_layer_and_a_path_without_a_module_are_found() {
    assert_eq!(complaints("shared/src/utils.rs", "").len(), 1);
    assert_eq!(complaints("shared/src/hlc.rs", "use crate::Session;").len(), 1);
}

#[test]
fn code_after_an_inline_test_module_is_still_read() {
    let planted = "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nuse crate::driver::drive;\n";
    assert_eq!(complaints("shared/src/hlc.rs", planted).len(), 1);
    let declared = "#[cfg(test)]\nmod tests;\nuse crate::driver::drive;\n";
    assert_eq!(complaints("shared/src/hlc.rs", declared).len(), 1);
}

#[test]
fn file_of_701_lines_is_found_and_its_tests_do_not_count() {
    let long = "fn f() {}\n".repeat(LINES_MAX + 1);
    assert_eq!(complaints("server/src/hub.rs", &long).len(), 1);
    assert_eq!(complaints("client-wasm/ts/index.ts", &long).len(), 1);
    assert_eq!(complaints("server/tests/hub.rs", &long).len(), 0);
    let full = "fn f() {}\n".repeat(LINES_MAX);
    let tested = format!("{full}#[cfg(test)]\nmod tests {{\n{full}}}\n");
    assert_eq!(complaints("server/src/hub.rs", tested.trim_end()), Vec::<String>::new());
}

#[test]
fn time_source_outside_a_clock_file_is_found() {
    for planted in ["let t = Instant::now();", "use std::time::SystemTime;", "let t = Date::now();"]
    {
        assert_eq!(complaints("server/src/hub.rs", planted).len(), 1, "{planted}");
        assert_eq!(complaints("server/src/clock.rs", planted).len(), 0, "{planted}");
    }
    assert_eq!(complaints("server/src/hub.rs", "let t = clock.now();").len(), 0);
    assert_eq!(complaints("rel/src/kill.rs", "let t = Instant::now();").len(), 0);
}

#[test]
fn foreign_library_outside_its_file_is_found() {
    for (planted, name, home) in [
        ("use web_sys::WebSocket;", "client-wasm/src/lib.rs", "client-wasm/src/transport/ws.rs"),
        ("use rexie::Rexie;", "client-wasm/src/lib.rs", "client-wasm/src/store/idb.rs"),
        ("use rusqlite::Connection;", "server/src/hub.rs", "sqlite/src/lib.rs"),
        ("use axum::Router;", "server/src/hub.rs", "server/src/app.rs"),
    ] {
        assert_eq!(complaints(name, planted).len(), 1, "{planted}");
        assert_eq!(complaints(home, planted).len(), 0, "{planted}");
    }
}

#[test]
fn undocumented_public_module_is_found() {
    let file = |module: &str| (module == "told").then(|| "//! What it is.\n".to_owned());
    let found = |text: &str| undocumented_modules(text, &code_only(text), &file).len();
    assert_eq!(found("pub mod silent;\n"), 1);
    assert_eq!(found("pub mod told;\n"), 0);
    assert_eq!(found("/// What it is.\n#[cfg(unix)]\npub mod silent {\n}\n"), 0);
    assert_eq!(found("mod private;\n"), 0);
}

#[test]
fn todo_without_a_condition_is_found() {
    let word = concat!("TO", "DO");
    assert_eq!(complaints("server/src/hub.rs", &format!("// {word}: tidy up")).len(), 1);
    assert_eq!(complaints("run.sh", &format!("# {word}() tidy up")).len(), 1);
    assert_eq!(complaints("docs/X.md", &format!("{word}: say more")).len(), 1);
    assert_eq!(complaints("server/src/hub.rs", &format!("// {word}(axum 1.0): drop")).len(), 0);
}

#[test]
fn path_of_one_machine_is_found() {
    let planted = concat!("see /ho", "me/ann/notes");
    assert_eq!(complaints("docs/notes.md", planted).len(), 1);
    assert_eq!(complaints("docs/notes.md", concat!("src/ho", "me/page.ts")).len(), 0);
}

#[test]
fn download_address_in_the_lock_file_is_found() {
    let planted = "\"resolved\": \"https://registry.example/a.tgz\",";
    assert_eq!(complaints("package-lock.json", planted).len(), 1);
    assert_eq!(complaints("package-lock.json", "\"resolved\": \"client-wasm\",").len(), 0);
}

#[test]
fn crate_without_the_lints_of_the_workspace_is_found() {
    let bare = "[package]\nname = \"x\"\n";
    assert_eq!(complaints("x/Cargo.toml", bare).len(), 1);
    let linted = format!("{bare}\n[lints]\nworkspace = true\n");
    assert_eq!(complaints("x/Cargo.toml", &linted).len(), 0);
}

#[test]
fn literals_and_comments_are_blanked_line_for_line() {
    let source = "a /* x /* y */ z */ b // c\n'{' '\\'' &'a str r#\"\"{\n\"# \"\\\"{\" d";
    let code = code_only(source);
    assert_eq!(code.lines().count(), source.lines().count());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "&'a", "str", "d"]);
}

/// A small tree: a package with a test, a program, a script, and one document.
fn tree(name: &str, text: &str) -> Files {
    let files = [
        ("shared/Cargo.toml", "[package]\nname = \"core\"\n"),
        ("shared/tests/sim/main.rs", "#[test]\nfn seeds_agree() {}\nfn helper() {}\n"),
        (
            "shared/tests/acceptance/a.rs",
            "#[tokio::test]\n#[cfg(unix)]\nasync fn union_holds() {}\n",
        ),
        ("shared/tests/canaries.rs", "canaries! {\n    fn c02_canary();\n}\n"),
        ("rel/src/kill.rs", "    async fn s01_p01_step(&self) {}\n// a fn s02_told\n"),
        (
            "client-wasm/test/reliability/scenarios/a.mjs",
            "export async function b01(cycle) {}\nexport async function firefox_b02(cycle) {}\n",
        ),
        ("server/Cargo.toml", "[package]\nname = \"server\"\n[[bin]]\nname = \"other\"\n"),
        ("server/src/main.rs", "fn main() {}\n"),
        ("web/package.json", "{\n  \"scripts\": {\n    \"build\": \"x\"\n  }\n}\n"),
        ("web/test/page.spec.mjs", "it(\n  `opens (${name})`, f);\nsplit(\"no title\");\n"),
        ("run.sh", "case $1 in --only) ;; esac; unit"),
        (name, text),
    ];
    files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn claimed(name: &str, text: &str) -> Vec<String> {
    claim_complaints(name, &tree(name, text))
}

#[test]
fn claims_that_hold_are_left_alone() {
    let table = "| | promise | tests | command |\n|---|---|---|---|\n\
        | 1 | x | `seeds_agree`, `opens (${name})` | `cargo test -p core --test sim seeds` |\n\
        | 2 | y | `union_holds` | |\n| 3 | z | open: awaits `later` | |\n";
    assert_eq!(claimed("docs/ACCEPTANCE.md", table), [""; 0]);
    let commands = "    cargo run --release -p server -- --listen x  # starts\n\
        `./run.sh --only unit`, `npm run build -w web` and `cargo test -p core union`.\n\
        See shared/tests/sim/main.rs, [server/src](server/src/) and and/or ../x.sh.\n";
    assert_eq!(claimed("README.md", commands), [""; 0]);
}

#[test]
fn claim_without_a_test_that_exists_is_found() {
    for planted in [
        "| P1 | x | `helper` |",
        "| P1 | x | `no title` |",
        "| P1 | x | by hand |",
        "| P2 | x | `seeds_agree` |",
        "| P1 | x | `seeds_agree` |\n| P1 | y | `seeds_agree` |",
        "| P1 | x | open: awaits `seeds_agree` |",
        "| P1 | x | open: so far `none` |",
        "no table",
    ] {
        assert_eq!(claimed("docs/PROTOCOL.md", planted).len(), 1, "{planted}");
    }
}

#[test]
fn failures_that_are_tested_or_open_are_left_alone() {
    let table = "| | what goes wrong | where |\n|---|---|---|\n\
        | B01 | x | `b01`, `seeds_agree` |\n| B02 | x | `firefox_b02` |\n| C02 | x | `c02_canary` |\n\
        | P01 | x | `s01_p01_step` |\n| S01 | x | `s01_p01_step` |\n| S10 | x | open: there is none |\n";
    assert_eq!(claimed("docs/RELIABILITY.md", table), [""; 0]);
}

#[test]
fn failure_without_a_test_of_its_name_and_without_a_reason_is_found() {
    for planted in [
        "| B01 | x | `b02` |",
        "| B01 | x | `seeds_agree` |",
        "| B01 | x | `b01`, `none` |",
        "| S02 | x | `s02_told` |\n| S02 | x | open: y |",
        "| S02 | x | `cargo rel none` |",
        "| S02 | x | by hand |",
        "| S02 | x | open: |",
        "| S02 | x | |",
        "no table",
    ] {
        assert_ne!(claimed("docs/RELIABILITY.md", planted), [""; 0], "{planted}");
    }
}

#[test]
fn acceptance_test_that_no_promise_names_is_found() {
    let table = "| 1 | x | `seeds_agree` | |\n";
    assert_eq!(claimed("docs/ACCEPTANCE.md", table).len(), 1);
}

#[test]
fn command_that_cannot_be_run_is_found() {
    for planted in [
        "`cargo test -p none`",
        "`cargo test -p core --test none`",
        "`cargo test -p core --test sim nobody_has_this_name`",
        "`cargo nextest run -p core nobody_has_this_name`",
        "`cargo run -p core`",
        "`cargo run -p server --example none`",
        "    cargo run -p server \\\n        --bin none",
        "`npm run none -w web`",
        "`npm run build`",
        "`./none.sh`",
        "`./run.sh --none`",
        "`./run.sh --only none`",
    ] {
        assert_eq!(claimed("README.md", planted).len(), 1, "{planted}");
    }
}

#[test]
fn path_of_a_file_that_is_gone_is_found() {
    assert_eq!(claimed("docs/X.md", "see `shared/src/protocol/message.rs`").len(), 1);
    assert_eq!(claimed("docs/X.md", "[text](server/src/none.rs).").len(), 1);
}
