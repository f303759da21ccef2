//! Canaries: each planted bug is found by an oracle of the simulator, within some seeds with its fault forced on, and
//! the seed passes without it.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that reports its seed, and stops where a canary lives on"
)]

use rejoin_core::testing::sim::canaries::{self, CANARIES, SEEDS_MAX};

fn is_found(name: &str) {
    let canary = CANARIES.iter().find(|canary| canary.name == name);
    let canary = canary.unwrap_or_else(|| panic!("{name} is no canary"));
    let Some(found) = canary.hunt() else {
        panic!("{:?} was not found within {SEEDS_MAX} seeds", canary.bug)
    };
    let words: String = found.failure.what.chars().take(200).collect();
    println!("{:?}: seed {}: {words}", canary.bug, found.failure.seed);
    let without = found.without.map(|failure| failure.what);
    assert_eq!(without, None, "seed {} fails without {:?} too", found.failure.seed, canary.bug);
}

/// A test for each canary, so that they run side by side.
macro_rules! canaries {
    ($(fn $name:ident();)*) => {
        $(#[test]
        fn $name() {
            is_found(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

canaries! {
    fn a_row_that_goes_at_its_acknowledgement_is_found();
    fn a_remove_by_stamps_is_found();
    fn a_remove_that_widens_when_it_is_sent_is_found();
    fn rows_that_go_on_behind_a_refused_one_are_found();
    fn a_local_write_in_the_base_is_found();
    fn ignored_cuts_are_found();
    fn a_last_offer_that_hides_a_better_one_is_found();
    fn a_put_that_resets_nothing_is_found();
    fn an_acknowledgement_before_its_commit_is_found();
    fn copies_that_are_not_told_apart_are_found();
    fn a_limit_that_overlooks_what_is_joined_is_found();
    fn what_was_acknowledged_and_counts_as_sent_for_good_is_found();
    fn b24_another_account_that_is_taken_for_the_own_is_found();
    fn rights_that_are_not_looked_at_are_found();
    fn a_stamp_ahead_that_is_refused_is_found();
    fn a_commit_without_a_guard_on_its_place_is_found();
    fn a_commit_that_overlooks_a_fold_is_found();
    fn a_fold_that_takes_the_outbox_is_found();
    fn a_walk_that_shows_what_it_has_at_its_end_is_found();
    fn what_was_staged_in_another_history_is_found();
    fn an_epoch_that_is_not_looked_at_is_found();
    fn an_earlier_epoch_that_is_good_beyond_its_end_is_found();
    fn changes_that_do_not_follow_are_found();
    fn a_cut_on_every_page_is_found();
    fn an_entry_that_carries_too_little_is_found();
    fn the_stamp_last_accepted_if_it_is_not_looked_at_is_found();
    fn p01_c04_a_peer_that_forgets_what_it_accepted_is_found();
    fn a_push_before_a_broken_history_is_healed_is_found();
    fn what_is_lost_and_not_brought_back_is_found();
    fn a_row_that_came_back_and_is_judged_as_any_other_is_found();
    fn a_replica_that_takes_an_old_copy_of_the_server_for_its_own_fork_is_found();
    fn origins_that_are_not_checked_are_found();
    fn origins_that_are_not_stored_with_the_effect_are_found();
    fn rows_that_go_on_behind_a_copy_are_found();
    fn a_copy_that_goes_before_the_base_has_it_is_found();
    fn copies_that_nobody_is_told_of_are_found();
    fn roots_that_are_compared_anywhere_are_found();
    fn a_base_that_counts_as_healed_too_soon_is_found();
    fn a_reload_that_does_not_tell_what_is_gone_is_found();
    fn a_complete_snapshot_that_goes_on_is_found();
    fn deadlines_that_do_not_look_at_progress_are_found();
    fn p02_frames_that_are_taken_as_they_come_are_found();
    fn c02_a_base_older_than_the_horizon_that_goes_on_is_found();
    fn c02_a_base_that_a_snapshot_does_not_replace_is_found();
    fn c02_a_base_older_than_the_horizon_that_counts_as_evidence_is_found();
    fn c02_an_update_that_brings_back_what_is_gone_is_found();
    fn c02_a_row_of_which_nothing_is_known_and_that_is_judged_as_any_other_is_found();
    fn a_scrub_that_skips_the_tree_is_found();
    fn a_leaf_that_is_not_updated_is_found();
    fn c02_a_horizon_that_follows_a_clock_that_jumps_is_found();
    fn c03_roots_that_are_compared_under_different_horizons_are_found();
    fn a_damaged_record_that_goes_without_a_new_epoch_is_found();
    fn a_row_that_counts_as_accepted_though_its_record_was_lost_is_found();
    fn a_write_that_failed_and_is_reported_is_found();
    fn a_silence_that_nobody_notices_is_found();
    fn a_stamp_of_the_far_future_that_is_taken_is_found();
    fn s02_a_server_that_does_not_sync_is_found();
    fn c02_a_part_of_a_batch_that_comes_back_though_it_was_removed_is_found();
    fn what_counts_as_accepted_when_the_token_runs_out_is_found();
    fn p11_a_row_that_is_refused_while_what_it_lacks_is_on_its_way_is_found();
    fn b10_a_store_that_comes_up_empty_under_its_old_id_is_found();
    fn m09_roots_of_what_is_not_subscribed_to_are_found();
    fn s03_a_removal_that_is_not_synced_is_found();
    fn s04_a_boot_that_collects_what_is_dead_is_found();
    fn p01_answers_that_are_not_kept_are_found();
    fn a_write_in_spite_of_what_was_expected_is_found();
}

#[test]
fn every_canary_has_a_test() {
    assert!(CANARIES.iter().map(|canary| canary.name).eq(NAMES.iter().copied()));
}

#[test]
fn a_bug_that_is_always_found_is_reported() {
    let failure = canaries::always_found();
    assert!(failure.is_some_and(|failure| failure.what.contains("always found")));
}
