//! Runs that are kept: each world that once failed, made small, comes to rest for good. And what makes them small.
#![expect(clippy::panic, reason = "a test cannot go on without its world")]

use rejoin_core::{
    planted::Bug,
    testing::{
        rng::Rng,
        sim::{self, Failure, Plan, Script, TAPE_BYTES_MAX, Tape},
    },
};
use std::{fs, path::Path};

/// Events that a search for a small world may take here.
const EVENTS: u64 = 1_000_000;

fn text(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

fn script(name: &str) -> Script {
    match text(name).parse() {
        Ok(script) => script,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The first world in which `bug` is found.
fn found(bug: Bug) -> Failure {
    let plan = |seed| Plan { bug: Some(bug), ..Plan::draw(seed) };
    match (0..2_000).find_map(|seed| sim::run_plan(seed, plan(seed)).err()) {
        Some(failure) => failure,
        None => panic!("{bug:?} was not found"),
    }
}

#[test]
fn every_kept_script_comes_to_rest() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut ran = 0;
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        if let Err(failure) = sim::run_script(script(&name)) {
            panic!("{name}: {}\n{}", failure.what, failure.story.join("\n"));
        }
        ran += 1;
    }
    assert!(ran > 0, "there are no scripts");
}

/// What is kept is a world in which an oracle has something to object to, once the bug is there again.
#[test]
fn kept_script_finds_its_bug() {
    let bugs = [
        (Bug::RowGoesAtAck, "row_goes_at_its_acknowledgement.txt", "device tab saw the write"),
        (Bug::RowsBehindGoOn, "rows_behind_a_refused_one_go_on.txt", "device tab sees of records"),
    ];
    for (bug, name, kind) in bugs {
        let script = script(name);
        let plan = Plan { bug: Some(bug), ..script.plan };
        let failure = sim::run_script(Script { plan, tape: script.tape }).err();
        assert_eq!(failure.map(|failure| failure.kind()).as_deref(), Some(kind));
    }
}

#[test]
fn tape_runs_as_its_seed_did() {
    for seed in 0..20 {
        let script = sim::script(seed);
        let (ran, bytes) = (sim::run(seed), script.tape.to_bytes());
        assert!(ran.is_ok(), "{ran:?}");
        assert_eq!(sim::run_script(script), ran);
        assert!(bytes.len() > TAPE_BYTES_MAX || sim::run_tape(&bytes) == ran);
    }
}

#[test]
fn small_world_fails_in_the_same_way() {
    for bug in [Bug::RowGoesAtAck, Bug::RowsBehindGoOn, Bug::AccountIgnored] {
        let failure = found(bug);
        let (kind, before) = (failure.kind(), failure.script.tape.len());
        let shrunk = failure.shrink(EVENTS);
        assert_eq!(shrunk.kind(), kind);
        let after = shrunk.script.tape.len();
        assert!(after * 2 < before, "{bug:?}: {after} of {before} bytes are left");
        let read: Result<Script, _> = shrunk.script.to_string().parse();
        let plan = read.map(|script| Plan { bug: Some(bug), ..script.plan });
        assert_eq!(plan, Ok(shrunk.script.plan.clone()), "its text says all but the bug");
        let sound = Plan { bug: None, ..shrunk.script.plan };
        let ran = sim::run_script(Script { plan: sound, tape: shrunk.script.tape });
        assert!(ran.is_ok(), "{bug:?}: fails without it: {ran:?}");
    }
}

#[test]
fn any_bytes_are_a_world_that_comes_to_rest() {
    let mut rng = Rng::new(1);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..rng.index(100)).map(|_| rng.byte()).collect();
        let ran = sim::run_tape(&bytes);
        assert!(ran.is_ok(), "{bytes:?}: {ran:?}");
        assert_eq!(sim::run_tape(&Tape::from_bytes(&bytes).to_bytes()), ran);
    }
}
