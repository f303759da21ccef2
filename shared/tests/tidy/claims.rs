//! What documents claim: that a test of some name shows something, that a command can be run, that a file
//! is there. Each rule is a function from a document and what the tree offers to complaints.

#![expect(
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "every cut is at an index that a search over the same text returned"
)]

use crate::source::is_word;
use std::collections::{BTreeMap, BTreeSet};

/// Every file that is text, by its path in the tree.
pub(crate) type Files = BTreeMap<String, String>;

/// Folders whose files documents name by their whole path.
const NAMED: [&str; 9] = [
    "shared/",
    "sqlite/",
    "server/",
    "client-native/",
    "client-wasm/",
    "rel/",
    "web-demo/",
    "create-rejoin/",
    "docs/",
];

/// What a document can name.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// Names of tests in Rust, titles of tests in TypeScript and JavaScript.
    tests: BTreeSet<String>,
    /// What the catalogue of failures names beside them: canaries, scenarios in browsers, steps of suites.
    steps: BTreeSet<String>,
    /// Names of the files that tests stand in, as filters use them.
    modules: BTreeSet<String>,
    /// Package, flag and name of what cargo builds; `-p` for the package itself, and again as what
    /// `cargo run` takes without more.
    targets: BTreeSet<(String, &'static str, String)>,
    /// Workspace (empty for the root) and name of the npm scripts.
    scripts: BTreeSet<(String, String)>,
    /// Shell scripts with their text.
    programs: BTreeMap<String, String>,
    /// What `cargo rel` can run.
    suites: BTreeSet<String>,
    /// Files, and the folders that they are in.
    paths: BTreeSet<String>,
}

impl Offer {
    pub(crate) fn of(files: &Files) -> Self {
        let mut offer = Self::default();
        for (name, text) in files {
            offer.add_paths(name);
            match name.rsplit_once('.').map(|(_, extension)| extension) {
                Some("rs") => offer.tests.extend(rust_tests(text)),
                Some("ts" | "mjs") => offer.tests.extend(script_tests(text)),
                Some("sh") => {
                    offer.programs.insert(name.clone(), text.clone());
                }
                _ => {}
            }
            offer.steps.extend(steps(name, text));
            if name == "rel/src/main.rs" {
                offer.suites.extend(suites(text));
            }
            if let Some(folder) = name.strip_suffix("Cargo.toml") {
                offer.add_targets(folder, text, files);
            }
            if let Some(folder) = name.strip_suffix("package.json") {
                let scripts = npm_scripts(text).into_iter();
                let folder = folder.trim_end_matches('/');
                offer.scripts.extend(scripts.map(|script| (folder.to_owned(), script)));
            }
        }
        offer
    }

    fn add_paths(&mut self, name: &str) {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        self.paths.extend(ends.map(|end| name[..end].to_owned()));
        let stem = name.rsplit('/').next().and_then(|file| file.strip_suffix(".rs"));
        self.modules.extend(stem.filter(|_| name.contains("/tests/")).map(str::to_owned));
    }

    fn add_targets(&mut self, folder: &str, manifest: &str, files: &Files) {
        let names = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
        let mut names = names.filter_map(|rest| rest.split('"').next());
        let Some(package) = names.next() else { return };
        let mut add = |flag: &'static str, name: &str| {
            self.targets.insert((package.to_owned(), flag, name.to_owned()));
        };
        add("-p", "");
        if files.contains_key(&format!("{folder}src/main.rs")) {
            add("--bin", package);
        }
        let inside = [
            ("tests/", "--test"),
            ("examples/", "--example"),
            ("benches/", "--bench"),
            ("src/bin/", "--bin"),
        ];
        for (place, flag) in inside {
            let place = format!("{folder}{place}");
            for path in files.keys().filter_map(|name| name.strip_prefix(&place)) {
                let whole = path.strip_suffix("/main.rs").or_else(|| path.strip_suffix(".rs"));
                if let Some(name) = whole.filter(|name| !name.contains('/')) {
                    add(flag, name);
                }
            }
        }
    }

    fn has_test_like(&self, filter: &str) -> bool {
        self.modules.contains(filter) || self.tests.iter().any(|test| test.contains(filter))
    }
}

/// Names of the functions that an attribute makes tests.
pub(crate) fn rust_tests(text: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            tests.push(rest.chars().take_while(|found| is_word(*found)).collect());
            is_test = false;
        }
    }
    tests
}

/// Functions of files in which not every test has an attribute of its own.
fn steps(name: &str, text: &str) -> Vec<String> {
    let word = match name {
        "shared/tests/canaries.rs" => "fn ",
        _ if name.starts_with("rel/src/") => "fn ",
        _ if name.starts_with("client-wasm/test/reliability/scenarios/") => "function ",
        _ => return Vec::new(),
    };
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = code.filter_map(|line| line.split_once(word));
    names.map(|(_, rest)| rest.chars().take_while(|found| is_word(*found)).collect()).collect()
}

/// Titles of tests: the first argument of `test` and `it`.
fn script_tests(text: &str) -> Vec<String> {
    let mut titles = Vec::new();
    for call in ["test(", "it(", "inBoth("] {
        for (at, _) in text.match_indices(call) {
            let argument = text[at + call.len()..].trim_start();
            let Some(quote) = argument.chars().next().filter(|first| "\"`".contains(*first)) else {
                continue;
            };
            if !text[..at].ends_with(|before: char| is_word(before) || before == '.') {
                titles.extend(argument[1..].split(quote).next().map(str::to_owned));
            }
        }
    }
    titles
}

fn npm_scripts(manifest: &str) -> Vec<String> {
    let Some((_, scripts)) = manifest.split_once("\"scripts\": {") else {
        return Vec::new();
    };
    let lines = scripts.lines().map(str::trim).skip(1).take_while(|line| !line.starts_with('}'));
    lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// What `cargo rel` can run: the variants of its `Suite`.
fn suites(text: &str) -> Vec<String> {
    let Some((_, variants)) = text.split_once("enum Suite {") else {
        return Vec::new();
    };
    let lines = variants.lines().map(str::trim).take_while(|line| *line != "}");
    lines.filter_map(|line| line.strip_suffix(',')).map(str::to_lowercase).collect()
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// One row of a table of claims.
struct Claim<'a> {
    number: u32,
    tests: &'a str,
}

/// Rows that begin with a number, after `prefix`; the third column has the tests.
fn claims<'a>(text: &'a str, prefix: &str) -> Vec<Claim<'a>> {
    let rows = text.lines().filter_map(|line| {
        let mut columns = line.strip_prefix("| ")?.split(" | ");
        let number = columns.next()?.strip_prefix(prefix)?.parse().ok()?;
        Some(Claim { number, tests: columns.nth(1).unwrap_or_default() })
    });
    rows.collect()
}

/// Claims are numbered from 1 without a gap, and each names tests, all of which exist; or it says `open`,
/// and what it awaits does not exist.
pub(crate) fn unheld_claims(text: &str, prefix: &str, offer: &Offer) -> Vec<String> {
    let mut complaints = Vec::new();
    let claims = claims(text, prefix);
    if claims.is_empty() {
        complaints.push("has no table of claims".to_owned());
    }
    for (expected, claim) in (1..).zip(&claims) {
        let number = format!("{prefix}{}", claim.number);
        if claim.number != expected {
            complaints.push(format!("{number} stands where {prefix}{expected} should"));
        }
        let (now, awaited) = claim.tests.split_once("awaits ").unwrap_or((claim.tests, ""));
        let unknown = code_spans(now).filter(|name| !offer.tests.contains(*name));
        complaints.extend(unknown.map(|name| format!("{number}: there is no test `{name}`")));
        if !claim.tests.starts_with("open: ") && code_spans(now).next().is_none() {
            complaints.push(format!("{number} names no test and does not say `open: …`"));
        }
        let there = code_spans(awaited).filter(|name| offer.tests.contains(*name));
        let there = there.map(|name| format!("{number} awaits `{name}`, which is there: not open"));
        complaints.extend(there);
    }
    complaints
}

/// Rows of the catalogue of failures: a letter and two digits, what goes wrong, where it is tested.
fn failures(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut columns = line.strip_prefix("| ")?.trim_end_matches(" |").split(" | ");
        let id = columns.next()?;
        let number = id.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
        let is_row = number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit());
        is_row.then(|| (id, columns.nth(1).unwrap_or_default()))
    })
}

/// Each row names tests, all of which exist, and one is named after it; or it says `open: ` and why.
pub(crate) fn untested_failures(text: &str, offer: &Offer) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for (id, tests) in failures(text) {
        if !seen.insert(id) {
            complaints.push(format!("{id} has two rows"));
        }
        // Suites are commands, and checked as such.
        let names = || code_spans(tests).filter(|name| !name.starts_with("cargo "));
        let is_there = |name: &str| offer.tests.contains(name) || offer.steps.contains(name);
        let unknown = names().filter(|name| !is_there(name));
        complaints.extend(unknown.map(|name| format!("{id}: there is no test `{name}`")));
        let part = id.to_lowercase();
        let is_named = names().any(|name| name.split('_').any(|word| word == part));
        let reason = tests.strip_prefix("open: ").unwrap_or_default();
        if !is_named && reason.is_empty() {
            complaints.push(format!("{id}: no test is named {part}_…, and it is not `open: …`"));
        }
    }
    if seen.is_empty() {
        complaints.push("has no catalogue of failures".to_owned());
    }
    complaints
}

/// The other way round: the tests of `folder` are all named in the document.
pub(crate) fn unnamed_tests(text: &str, folder: &str, files: &Files) -> Vec<String> {
    let named: BTreeSet<&str> = code_spans(text).collect();
    let inside = files.iter().filter(|(name, _)| name.starts_with(folder));
    let tests = inside.flat_map(|(_, source)| rust_tests(source));
    tests
        .filter(|test| !named.contains(test.as_str()))
        .map(|test| format!("the test `{test}` of {folder} is named nowhere"))
        .collect()
}

/// Commands that a document tells its reader to run can be run.
pub(crate) fn broken_commands(text: &str, offer: &Offer) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let mut complaints = Vec::new();
    for line in joined.lines() {
        let starts = ["cargo ", "npm run ", "./"].into_iter();
        for (at, start) in starts.flat_map(|start| line.match_indices(start)) {
            if line[..at].ends_with(|before: char| is_word(before) || "./\"(".contains(before)) {
                continue;
            }
            let command = line[at..].split(['`', '#', ';', '|', '<', '>']).next().unwrap_or("");
            let words: Vec<&str> = command.split_whitespace().collect();
            let wrong = match start {
                "cargo " => cargo_complaint(&words, offer),
                "npm run " => npm_complaint(&words, offer),
                _ => program_complaint(&words, offer),
            };
            complaints.extend(wrong.map(|wrong| format!("`{}`: {wrong}", command.trim_end())));
        }
    }
    complaints
}

fn after<'a>(words: &[&'a str], flag: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == flag)?;
    words.get(at + 1).copied()
}

fn cargo_complaint(words: &[&str], offer: &Offer) -> Option<String> {
    let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let words = &words[..end];
    if words.get(1) == Some(&"rel") {
        let suite = words.get(2).filter(|suite| **suite != "SUITE")?;
        return (!offer.suites.contains(*suite)).then(|| format!("there is no suite {suite}"));
    }
    let package = after(words, "-p")?;
    let has = |flag: &'static str, name: &str| {
        offer.targets.contains(&(package.to_owned(), flag, name.to_owned()))
    };
    if !has("-p", "") {
        return Some(format!("there is no package {package}"));
    }
    for flag in ["--bin", "--test", "--example", "--bench"] {
        if let Some(name) = after(words, flag).filter(|name| !has(flag, name)) {
            return Some(format!("{package} has no {flag} {name}"));
        }
    }
    let runs = words.get(1) == Some(&"run");
    if runs && !words.iter().any(|word| ["--bin", "--example"].contains(word)) {
        return (!has("--bin", package)).then(|| format!("{package} is no program"));
    }
    let mut rest = words.iter().skip(2);
    while let Some(word) = rest.next() {
        if ["-p", "--bin", "--test", "--example", "--bench", "--features"].contains(word) {
            rest.next();
        } else if !word.starts_with('-') && *word != "run" && !offer.has_test_like(word) {
            return Some(format!("no test has `{word}` in its name"));
        }
    }
    None
}

fn npm_complaint(words: &[&str], offer: &Offer) -> Option<String> {
    let script = words.get(2)?;
    let workspace = after(words, "-w").unwrap_or_default();
    let known = offer.scripts.contains(&(workspace.to_owned(), (*script).to_owned()));
    (!known).then(|| format!("there is no script {script} in '{workspace}'"))
}

/// A shell script of the tree, and every option that it is given.
fn program_complaint(words: &[&str], offer: &Offer) -> Option<String> {
    let name = words.first()?.strip_prefix("./")?.trim_end_matches([',', '.', ')', ':']);
    if !name.ends_with(".sh") {
        return None;
    }
    let Some(text) = offer.programs.get(name) else {
        return Some(format!("there is no {name}"));
    };
    let options = words.iter().skip(1).filter(|word| word.starts_with("--"));
    let unknown = options.copied().chain(after(words, "--only")).find(|word| !text.contains(word));
    unknown.map(|word| format!("{name} knows no {word}"))
}

/// Files and folders that a document names by their whole path are there.
pub(crate) fn missing_paths(text: &str, offer: &Offer) -> Vec<String> {
    let part_of_a_path = |found: char| is_word(found) || "./-".contains(found);
    let words = text.split(|found| !part_of_a_path(found));
    let paths = words.map(|word| word.trim_end_matches(['.', '/', '-']));
    let named = paths.filter(|path| NAMED.iter().any(|folder| path.starts_with(folder)));
    let missing: BTreeSet<&str> = named.filter(|path| !offer.paths.contains(*path)).collect();
    missing.into_iter().map(|path| format!("{path} is not there")).collect()
}
