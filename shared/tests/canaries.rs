//! Canaries: each planted bug, a simpler rule that a counterexample broke, is found by an oracle of the
//! simulator. A canary that lives on says that the simulator has gone blind.
#![expect(clippy::print_stdout, reason = "a test that reports its seed")]

use rejoin_core::{
    planted::Bug,
    testing::sim::{self, Plan},
};

/// Seeds within which each is found.
const SEEDS_MAX: u64 = 2_000;

fn is_found(bug: Bug) {
    find(bug, |seed| Plan { bug: Some(bug), ..Plan::draw(seed) });
}

/// In worlds in which every row keeps its first stamp: there the definition of a live record can be
/// applied to all that was ever written.
fn is_found_where_stamps_stay(bug: Bug) {
    find(bug, |seed| Plan {
        bug: Some(bug),
        devices: 3,
        records: 2,
        relaxed: false,
        step_one_in: 0,
        rollback_one_in: 0,
        ..Plan::draw(seed)
    });
}

fn find(bug: Bug, plan: impl Fn(u64) -> Plan) {
    let found = (0..SEEDS_MAX).find_map(|seed| sim::run_plan(seed, plan(seed)).err());
    if let Some(failure) = &found {
        let words: String = failure.what.chars().take(200).collect();
        println!("{bug:?}: seed {}: {words}", failure.seed);
    }
    assert!(found.is_some(), "{bug:?} was not found within {SEEDS_MAX} seeds");
}

#[test]
fn a_row_that_goes_at_its_acknowledgement_is_found() {
    is_found(Bug::RowGoesAtAck);
}

#[test]
fn a_remove_by_stamps_is_found() {
    is_found_where_stamps_stay(Bug::StampsDecideRemoves);
}

#[test]
fn a_remove_that_widens_when_it_is_sent_is_found() {
    is_found_where_stamps_stay(Bug::RemoveWidens);
}

#[test]
fn rows_that_go_on_behind_a_refused_one_are_found() {
    is_found(Bug::RowsBehindGoOn);
}

#[test]
fn a_local_write_in_the_base_is_found() {
    is_found(Bug::OverlayInBase);
}

#[test]
fn ignored_cuts_are_found() {
    is_found(Bug::CutsIgnored);
}

#[test]
fn a_put_that_resets_nothing_is_found() {
    is_found(Bug::NoSince);
}

#[test]
fn an_acknowledgement_before_its_commit_is_found() {
    is_found(Bug::AckBeforeCommit);
}

#[test]
fn copies_that_are_not_told_apart_are_found() {
    is_found(Bug::IncarnationIgnored);
}
