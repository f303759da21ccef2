//! Canaries: each planted bug, a simpler rule that a counterexample broke, is found by an oracle of the
//! simulator. A canary that lives on says that the simulator has gone blind.
#![expect(clippy::print_stdout, reason = "a test that reports its seed")]

use rejoin_core::{
    planted::Bug,
    protocol::limits::FLOOR_BYTES_PER_S,
    testing::sim::{self, Plan},
};

/// Seeds within which each is found.
const SEEDS_MAX: u64 = 2_000;

fn is_found(bug: Bug) {
    is_found_with(bug, |_| {});
}

/// With the fault forced that the bug needs.
fn is_found_with(bug: Bug, force: impl Fn(&mut Plan)) {
    find(bug, |seed| {
        let mut plan = Plan { bug: Some(bug), ..Plan::draw(seed) };
        force(&mut plan);
        plan
    });
}

/// In worlds in which every row keeps its first stamp: there the definition of a live record can be
/// applied to all that was ever written.
fn is_found_where_stamps_stay(bug: Bug) {
    is_found_with(bug, |plan| {
        *plan = Plan { devices: 3, records: 2, relaxed: false, step_one_in: 0, ..plan.clone() };
        forget_nothing(plan);
    });
}

/// Nobody's store is erased, put back or copied.
fn forget_nothing(plan: &mut Plan) {
    plan.rollback_one_in = 0;
    plan.evict_one_in = 0;
    plan.account_one_in = 0;
    plan.copy_one_in = 0;
    plan.rot_one_in = 0;
    plan.record_bytes_max = u32::MAX;
}

/// The server comes back with old copies of its store.
fn server_rolls_back(plan: &mut Plan) {
    forget_nothing(plan);
    plan.copy_one_in = 5;
}

/// The server's store rots, and nothing else takes what somebody holds.
fn server_rots(plan: &mut Plan) {
    plan.keep_copies();
    plan.retention_ms = None;
    plan.away_one_in = 0;
    plan.rot_one_in = 3;
}

/// A single device comes back with old copies of its store.
fn device_rolls_back(plan: &mut Plan) {
    forget_nothing(plan);
    plan.devices = 1;
    plan.rollback_one_in = 8;
}

/// Devices with two tabs that fold all the time.
fn tabs_fold(plan: &mut Plan) {
    forget_nothing(plan);
    plan.tabs = 2;
    plan.fold_entries_min = Some(2);
}

/// Pages, chunks and steps of a walk are small, and stores are erased while others write.
fn all_is_small(plan: &mut Plan) {
    forget_nothing(plan);
    plan.relaxed = false;
    plan.devices = 3;
    plan.page_bytes_aim = 300;
    plan.chunk_bytes_aim = 300;
    plan.long_walks = true;
}

fn find(bug: Bug, plan: impl Fn(u64) -> Plan) {
    let found = (0..SEEDS_MAX).find_map(|seed| sim::run_plan(seed, plan(seed)).err());
    if let Some(failure) = &found {
        let words: String = failure.what.chars().take(200).collect();
        println!("{bug:?}: seed {}: {words}", failure.seed);
    }
    let seed = found.map(|failure| failure.seed);
    assert!(seed.is_some(), "{bug:?} was not found within {SEEDS_MAX} seeds");
    // What is found is the bug, not a fault of the world.
    let sound = seed.map(|seed| sim::run_plan(seed, Plan { bug: None, ..plan(seed) }));
    let failure = sound.and_then(Result::err).map(|failure| failure.what);
    assert!(failure.is_none(), "seed {seed:?} fails without {bug:?} too: {failure:?}");
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

#[test]
fn a_bug_that_is_always_found_is_reported() {
    let plan = Plan { bug: Some(Bug::Found), ..Plan::draw(0) };
    let failure = sim::run_plan(0, plan).err();
    assert!(failure.is_some_and(|failure| failure.what.contains("always found")));
}

#[test]
fn a_limit_that_overlooks_what_is_joined_is_found() {
    is_found_with(Bug::JoinedLimitIgnored, |plan| {
        forget_nothing(plan);
        plan.record_bytes_max = 1_000;
    });
}

#[test]
fn what_was_acknowledged_and_counts_as_sent_for_good_is_found() {
    is_found_with(Bug::SettledForGood, server_rolls_back);
}

#[test]
fn another_account_that_is_taken_for_the_own_is_found() {
    is_found_with(Bug::AccountIgnored, |plan| {
        forget_nothing(plan);
        plan.account_one_in = 10;
    });
}

#[test]
fn rights_that_are_not_looked_at_are_found() {
    is_found_with(Bug::RightsIgnored, |plan| plan.rejections = true);
}

#[test]
fn a_stamp_ahead_that_is_refused_is_found() {
    is_found_with(Bug::AheadRejected, |plan| plan.step_one_in = 4);
}

#[test]
fn a_commit_without_a_guard_on_its_place_is_found() {
    is_found_with(Bug::LogGuardIgnored, tabs_fold);
}

#[test]
fn a_commit_that_overlooks_a_fold_is_found() {
    is_found_with(Bug::FoldedIgnored, tabs_fold);
}

#[test]
fn a_fold_that_takes_the_outbox_is_found() {
    is_found_with(Bug::FoldTakesOutbox, tabs_fold);
}

#[test]
fn a_walk_that_shows_what_it_has_at_its_end_is_found() {
    is_found_with(Bug::VisibleAtWalkEnd, server_rolls_back);
}

#[test]
fn what_was_staged_in_another_history_is_found() {
    is_found_with(Bug::StagedKept, |plan| {
        server_rolls_back(plan);
        plan.evict_one_in = 5;
        plan.chunk_bytes_aim = 300;
        plan.pairs = 40;
        plan.cut_one_in = 10;
    });
}

#[test]
fn an_epoch_that_is_not_looked_at_is_found() {
    is_found_with(Bug::EpochIgnored, server_rolls_back);
}

#[test]
fn an_earlier_epoch_that_is_good_beyond_its_end_is_found() {
    is_found_with(Bug::LeftIgnored, server_rolls_back);
}

#[test]
fn changes_that_do_not_follow_are_found() {
    is_found_with(Bug::AfterIgnored, |plan| {
        forget_nothing(plan);
        plan.lose_one_in = 5;
    });
}

#[test]
fn a_cut_on_every_page_is_found() {
    is_found_with(Bug::CutOnEveryPage, all_is_small);
}

#[test]
fn an_entry_that_carries_too_little_is_found() {
    is_found_with(Bug::DeltaBehindPlace, all_is_small);
}

#[test]
fn the_stamp_last_accepted_if_it_is_not_looked_at_is_found() {
    is_found_with(Bug::AcceptedStampIgnored, device_rolls_back);
}

#[test]
fn a_peer_that_forgets_what_it_accepted_is_found() {
    is_found_with(Bug::AcceptedForgotten, forget_nothing);
}

#[test]
fn a_push_before_a_broken_history_is_healed_is_found() {
    is_found_with(Bug::PushBeforeHeal, server_rolls_back);
}

#[test]
fn a_push_before_the_healed_is_visible_is_found() {
    is_found_with(Bug::PushBeforeCut, server_rolls_back);
}

#[test]
fn what_is_lost_and_not_brought_back_is_found() {
    is_found_with(Bug::RefillSkipped, server_rolls_back);
}

#[test]
fn a_row_that_came_back_and_is_judged_as_any_other_is_found() {
    is_found_with(Bug::ReturnedIgnored, server_rolls_back);
}

#[test]
fn a_replica_that_takes_an_old_copy_of_the_server_for_its_own_fork_is_found() {
    is_found_with(Bug::PastForgotten, server_rolls_back);
}

/// In short lives in which stores are copied all the time.
fn is_found_in_copies(bug: Bug) {
    find(bug, |seed| Plan { bug: Some(bug), ..Plan::draw_copies(seed) });
}

#[test]
fn origins_that_are_not_checked_are_found() {
    is_found_in_copies(Bug::OriginsIgnored);
}

#[test]
fn origins_that_are_not_stored_with_the_effect_are_found() {
    is_found_in_copies(Bug::OriginsUnstored);
}

#[test]
fn rows_that_go_on_behind_a_copy_are_found() {
    is_found_in_copies(Bug::RowsBehindCopyGoOn);
}

#[test]
fn a_copy_that_goes_before_the_base_has_it_is_found() {
    is_found_in_copies(Bug::CopyGoesAtAck);
}

#[test]
fn copies_that_nobody_is_told_of_are_found() {
    is_found_in_copies(Bug::CopiesUntold);
}

#[test]
fn roots_that_are_compared_anywhere_are_found() {
    is_found_with(Bug::RootsComparedAnywhere, forget_nothing);
}

#[test]
fn a_base_that_counts_as_healed_too_soon_is_found() {
    is_found_with(Bug::HealedTooSoon, |plan| {
        server_rolls_back(plan);
        plan.cut_one_in = 10;
    });
}

#[test]
fn a_reload_that_does_not_tell_what_is_gone_is_found() {
    is_found_with(Bug::GoneUntold, |plan| {
        tabs_fold(plan);
        plan.copy_one_in = 5;
    });
}

#[test]
fn a_complete_snapshot_that_goes_on_is_found() {
    is_found_with(Bug::CompleteGoesOn, |plan| {
        all_is_small(plan);
        plan.newcomer = true;
        plan.evict_one_in = 10;
        plan.cut_one_in = 4;
    });
}

#[test]
fn deadlines_that_do_not_look_at_progress_are_found() {
    is_found_with(Bug::DeadlinesFixed, |plan| {
        forget_nothing(plan);
        let quiet = Plan { cut_one_in: 0, silence_one_in: 0, crash_one_in: 0, ..plan.clone() };
        *plan = Plan { devices: 1, tabs: 1, writes: 20, restart_one_in: 0, ..quiet };
        plan.line_bytes_per_s = FLOOR_BYTES_PER_S as u64;
        plan.large_one_in = 2;
    });
}

/// What is removed is soon forgotten, and devices are away for longer.
fn server_forgets(plan: &mut Plan) {
    forget_nothing(plan);
    plan.devices = 3;
    plan.records = 3;
    plan.writes += 40;
    plan.step_one_in = 0;
    plan.relaxed = false;
    plan.line_bytes_per_s = 0;
    plan.large_one_in = 0;
    plan.rot_one_in = 0;
    plan.retention_ms = Some(40_000);
    plan.away_one_in = 4;
}

#[test]
fn c02_a_base_older_than_the_horizon_that_goes_on_is_found() {
    is_found_with(Bug::HorizonIgnored, server_forgets);
}

#[test]
fn c02_a_base_that_a_snapshot_does_not_replace_is_found() {
    is_found_with(Bug::BaseKeptAtRebase, server_forgets);
}

#[test]
fn c02_a_base_older_than_the_horizon_that_counts_as_evidence_is_found() {
    is_found_with(Bug::StaleIsEvidence, server_forgets);
}

#[test]
fn c02_an_update_that_brings_back_what_is_gone_is_found() {
    is_found_with(Bug::GoneComesBack, server_forgets);
}

#[test]
fn c02_a_row_of_which_nothing_is_known_and_that_is_judged_as_any_other_is_found() {
    is_found_with(Bug::UnsureIgnored, |plan| {
        server_forgets(plan);
        plan.cut_one_in = 5;
    });
}

#[test]
fn a_scrub_that_skips_the_tree_is_found() {
    is_found_with(Bug::ScrubSkipsTree, server_rots);
}

#[test]
fn a_leaf_that_is_not_updated_is_found() {
    is_found_with(Bug::LeafSkipped, |plan| {
        plan.keep_copies();
        plan.rot_one_in = 0;
    });
}

#[test]
fn c02_a_horizon_that_follows_a_clock_that_jumps_is_found() {
    is_found_with(Bug::HorizonByClock, |plan| {
        server_forgets(plan);
        plan.step_one_in = 40;
        plan.restart_one_in = 5;
    });
}

#[test]
fn c03_roots_that_are_compared_under_different_horizons_are_found() {
    is_found_with(Bug::HorizonOfRootsIgnored, server_forgets);
}

#[test]
fn a_damaged_record_that_goes_without_a_new_epoch_is_found() {
    is_found_with(Bug::QuarantinedSilently, server_rots);
}

#[test]
fn a_row_that_counts_as_accepted_though_its_record_was_lost_is_found() {
    is_found_with(Bug::LedgerBelieved, |plan| {
        server_rots(plan);
        plan.rots_records = true;
        plan.cut_one_in = 4;
    });
}
