//! The rules, each a function from text to complaints, and the tables they go by.

#![expect(
    clippy::string_slice,
    clippy::indexing_slicing,
    reason = "every cut is at an index that a search over the same text returned"
)]

use crate::source::{has_word, is_word};
use std::collections::BTreeSet;

/// The modules of `shared/src`, lowest first: each may name only those before it, and itself.
const LAYERS: [&str; 16] = [
    "sorted", "id", "time", "planted", "hlc", "record", "crdt", "codec", "tree", "io", "message",
    "replica", "protocol", "port", "driver", "testing",
];

/// Upward paths that are allowed all the same: (module, what it may name), each with its reason.
const LAYER_EXCEPTIONS: [(&str, &str); 0] = [];

/// Words that only some files may name: (word, where the rule holds, the files, as path beginnings).
const CONFINED: [(&str, &str, &[&str]); 4] = [
    ("WebSocket", "client-wasm/src/", &["client-wasm/src/transport/ws"]),
    ("rexie", "", &["client-wasm/src/store/idb"]),
    ("rusqlite", "", &["sqlite/"]),
    (
        "axum",
        "",
        &[
            "server/src/admin/",
            "server/src/app",
            "server/src/error",
            "server/src/http/",
            "server/src/posts",
            "server/src/ws",
        ],
    ),
];

/// Lines that a file may have, tests not counted.
pub(crate) const LINES_MAX: usize = 700;

/// Layers: `code` of `module` names only modules below it. `nested`: a file in the module's folder,
/// where `super` is the module and not the crate.
pub(crate) fn upward_paths(module: &str, nested: bool, code: &str) -> Vec<String> {
    let Some(own) = LAYERS.iter().position(|layer| *layer == module) else {
        return vec![format!("module `{module}` has no place in the layer table of this test")];
    };
    let mut complaints = Vec::new();
    for named in first_segments(code, "crate::") {
        match LAYERS.iter().position(|layer| *layer == named) {
            _ if LAYER_EXCEPTIONS.contains(&(module, named.as_str())) => {}
            Some(other) if other > own => {
                complaints.push(format!("`{module}` names `crate::{named}`, a higher layer"));
            }
            Some(_) => {}
            None => complaints.push(format!("`crate::{named}` hides its layer: name its module")),
        }
    }
    let climbs = if nested { "super::super::" } else { "super::" };
    for named in first_segments(code, climbs) {
        if LAYERS.iter().skip(own + 1).any(|layer| *layer == named) {
            complaints.push(format!("`{module}` names `{climbs}{named}`, a higher layer"));
        }
    }
    complaints
}

/// The names that follow `prefix` directly, or as heads of a group: `crate::{io::Batch, time}`.
fn first_segments(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|before: char| is_word(before) || before == '$' || before == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.extend(head(rest)),
        }
    }
    names
}

fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut expected = true;
    for (at, found) in group.char_indices() {
        match found {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && is_word(found) => {
                heads.extend(head(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> Option<String> {
    let name: String = path.chars().take_while(|found| is_word(*found)).collect();
    (!name.is_empty()).then_some(name)
}

/// Sizes: at most 700 lines, tests not counted.
pub(crate) fn too_long(lines: usize) -> Vec<String> {
    Vec::from_iter((lines > LINES_MAX).then(|| {
        format!("{lines} lines without tests, {LINES_MAX} allowed: split it along its state")
    }))
}

/// Time is an argument: clocks are read in files called `clock` only, and where time is what is measured.
pub(crate) fn time_sources(name: &str, code: &str) -> Vec<String> {
    if name.ends_with("/clock.rs") || name.contains("/clock/") || name.starts_with("rel/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let source = ["Instant", "SystemTime", "Performance"].iter().find(|w| has_word(line, w));
        // `clock.now()` asks the port; `Anything::now()` is a clock of its own.
        let source = source.copied().or_else(|| line.contains("::now()").then_some("::now()"));
        if let Some(source) = source {
            complaints.push(format!("line {}: `{source}` outside a clock file", index + 1));
        }
    }
    complaints
}

/// Foreign libraries stay behind the file that owns them.
pub(crate) fn confined_words(name: &str, code: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (word, scope, files) in CONFINED {
        let free = !name.starts_with(scope) || files.iter().any(|file| name.starts_with(file));
        if !free && has_word(code, word) {
            complaints.push(format!("`{word}` may be named only in {}", files.join(", ")));
        }
    }
    complaints
}

/// Every public module says what it is: inside with `//!`, or with `///` where it is declared.
pub(crate) fn undocumented_modules(
    text: &str,
    code: &str,
    module_file: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let written: Vec<&str> = text.lines().collect();
    let mut complaints = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("pub mod ") else {
            continue;
        };
        let Some(module) = head(rest) else { continue };
        let above = written[..index]
            .iter()
            .rev()
            .map(|line| line.trim_start())
            .take_while(|line| line.starts_with("///") || line.starts_with("#["));
        let outside = above.into_iter().any(|line| line.starts_with("///"));
        let inside = || module_file(&module).is_some_and(|text| text.starts_with("//!"));
        if !outside && !inside() {
            complaints.push(format!("line {}: `pub mod {module}` is undocumented", index + 1));
        }
    }
    complaints
}

/// A task left for later says when it becomes due, in brackets.
pub(crate) fn open_ended_todos(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")] {
            let Some(at) = line.find(word) else { continue };
            let rest = &line[at + word.len()..];
            let condition = rest
                .strip_prefix('(')
                .and_then(|inner| inner.split_once(')'))
                .or_else(|| rest.strip_prefix('[').and_then(|inner| inner.split_once(']')));
            let part_of_a_word = line[..at].ends_with(is_word) || rest.starts_with(is_word);
            if !part_of_a_word && condition.is_none_or(|(inner, _)| inner.trim().is_empty()) {
                complaints.push(format!("line {}: {word} without a (condition)", index + 1));
            }
        }
    }
    complaints
}

/// No file knows the machine it was written on.
pub(crate) fn machine_paths(text: &str) -> Vec<String> {
    let homes = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Use", "rs/"),
        concat!("C:\\", "Users"),
        concat!("/wo", "rk/"),
    ];
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for home in homes {
            // At the start of a path only: `assets/home/` is a folder like any other.
            let found = line.match_indices(home).any(|(at, _)| {
                !line[..at].ends_with(|before: char| is_word(before) || "./-}".contains(before))
            });
            if found {
                complaints.push(format!("line {}: a path of one machine ({home})", index + 1));
            }
        }
    }
    complaints
}

/// The lock file pins versions and digests; where they come from is the reader's setting.
pub(crate) fn download_addresses(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.contains("\"resolved\"") && line.contains("://") {
            complaints.push(format!("line {}: records a download address", index + 1));
        }
    }
    complaints
}

/// Every crate of the workspace takes the workspace's lints.
pub(crate) fn own_lints(manifest: &str) -> Vec<String> {
    let package = manifest.lines().any(|line| line.trim() == "[package]");
    let outside_the_workspace = manifest.lines().any(|line| line.trim() == "[workspace]");
    let shared_lints = manifest.contains("[lints]\nworkspace = true");
    Vec::from_iter(
        (package && !outside_the_workspace && !shared_lints)
            .then(|| "lacks `[lints] workspace = true`".to_owned()),
    )
}
