//! Canaries: each planted bug, a simpler rule that a counterexample broke, is found by an oracle of the simulator. One
//! that lives on says that the simulator has gone blind.

use super::{Failure, Plan, run_plan};
use crate::{planted::Bug, protocol::limits::FLOOR_BYTES_PER_S};

/// Seeds within which each is found.
pub const SEEDS_MAX: u64 = 2_000;

/// A bug, and the worlds in which it is found.
#[derive(Debug, Clone, Copy)]
pub struct Canary {
    /// What is planted.
    pub bug: Bug,
    /// Its name, a sentence: that of its test.
    pub name: &'static str,
    /// What it stands for: the counterexample of the design, and rows of the catalogue of failures.
    pub stands_for: &'static str,
    draw: fn(u64) -> Plan,
    /// The fault that it needs.
    force: fn(&mut Plan),
}

/// That a canary was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the oracle said of it.
    pub failure: Failure,
    /// What it says of the same world without the bug: nothing, else what it found is a fault of the world.
    pub without: Option<Failure>,
}

impl Canary {
    /// The world of a seed, with the bug or without.
    #[must_use]
    pub fn plan(&self, seed: u64, planted: bool) -> Plan {
        let mut plan = Plan { bug: planted.then_some(self.bug), ..(self.draw)(seed) };
        (self.force)(&mut plan);
        plan
    }

    /// Looks for it in the worlds of the first [`SEEDS_MAX`] seeds.
    #[must_use]
    pub fn hunt(&self) -> Option<Found> {
        let failure =
            (0..SEEDS_MAX).find_map(|seed| run_plan(seed, self.plan(seed, true)).err())?;
        let without = run_plan(failure.seed, self.plan(failure.seed, false)).err();
        Some(Found { failure, without })
    }
}

/// What an oracle says of a bug that is always found: that a failure is reported.
#[must_use]
pub fn always_found() -> Option<Failure> {
    run_plan(0, Plan { bug: Some(Bug::Found), ..Plan::draw(0) }).err()
}

/// In worlds in which every row keeps its first stamp: there the definition of a live record can be
/// applied to all that was ever written.
fn stamps_stay(plan: &mut Plan) {
    *plan = Plan { devices: 3, records: 2, relaxed: false, step_one_in: 0, ..plan.clone() };
    forget_nothing(plan);
}

/// Nobody's store is erased, put back or copied.
fn forget_nothing(plan: &mut Plan) {
    plan.rollback_one_in = 0;
    plan.evict_one_in = 0;
    plan.account_one_in = 0;
    plan.copy_one_in = 0;
    plan.rot_one_in = 0;
    plan.record_bytes_max = u32::MAX;
    plan.drift_ppm = 0;
    plan.heals_some = false;
    plan.call_one_in = 0;
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

/// Those who have no replica ask for much, and some do not hear what became of it.
fn all_call(plan: &mut Plan) {
    forget_nothing(plan);
    plan.step_one_in = 0;
    plan.records = 2;
    plan.record_bytes_max = u32::MAX;
    plan.call_one_in = 1;
    plan.writes += 20;
}

/// All of them.
pub const CANARIES: [Canary; 66] = [
    Canary {
        bug: Bug::RowGoesAtAck,
        name: "a_row_that_goes_at_its_acknowledgement_is_found",
        stands_for: "DESIGN 4: dropping at the acknowledgement made increments blink",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::StampsDecideRemoves,
        name: "a_remove_by_stamps_is_found",
        stands_for: "DESIGN 3: comparing stamps was wrong in a quarter of histories; C01",
        draw: Plan::draw,
        force: stamps_stay,
    },
    Canary {
        bug: Bug::RemoveWidens,
        name: "a_remove_that_widens_when_it_is_sent_is_found",
        stands_for: "DESIGN 4: a replayed remove would kill an edit that it had not seen",
        draw: Plan::draw,
        force: stamps_stay,
    },
    Canary {
        bug: Bug::RowsBehindGoOn,
        name: "rows_that_go_on_behind_a_refused_one_are_found",
        stands_for: "DESIGN 4: a rejection returns the rows behind it; P15",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::OverlayInBase,
        name: "a_local_write_in_the_base_is_found",
        stands_for: "DESIGN 4: a join has no inverse; B02",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::CutsIgnored,
        name: "ignored_cuts_are_found",
        stands_for: "DESIGN 6.4: what lies between two cuts becomes visible together; G5",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::LastOfferWins,
        name: "a_last_offer_that_hides_a_better_one_is_found",
        stands_for: "DESIGN 3: a max keeps the greatest, whoever wrote it; what apps wanted is asked of what they see",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::NoSince,
        name: "a_put_that_resets_nothing_is_found",
        stands_for: "DESIGN 3: max 99, remove, put 10 shows 99; C08",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::AckBeforeCommit,
        name: "an_acknowledgement_before_its_commit_is_found",
        stands_for: "STYLE smell 13; S01, S02, S03",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::IncarnationIgnored,
        name: "copies_that_are_not_told_apart_are_found",
        stands_for: "DESIGN 6, rolled back or cloned; B03",
        draw: Plan::draw,
        force: |_| {},
    },
    Canary {
        bug: Bug::JoinedLimitIgnored,
        name: "a_limit_that_overlooks_what_is_joined_is_found",
        stands_for: "DESIGN 3: two legal writes must not make a poison record; C12",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.record_bytes_max = 1_000;
        },
    },
    Canary {
        bug: Bug::SettledForGood,
        name: "what_was_acknowledged_and_counts_as_sent_for_good_is_found",
        stands_for: "DESIGN 4: after a lineage break every remaining row counts as unsent; P11",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::AccountIgnored,
        name: "b24_another_account_that_is_taken_for_the_own_is_found",
        stands_for: "DESIGN 4, accounts; B24",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.account_one_in = 10;
        },
    },
    Canary {
        bug: Bug::RightsIgnored,
        name: "rights_that_are_not_looked_at_are_found",
        stands_for: "DESIGN 6, who may write what; X12, X13",
        draw: Plan::draw,
        force: |plan| plan.rejections = true,
    },
    Canary {
        bug: Bug::AheadRejected,
        name: "a_stamp_ahead_that_is_refused_is_found",
        stands_for: "DESIGN 3: a delay, never a rejection; B17, C05",
        draw: Plan::draw,
        force: |plan| plan.step_one_in = 4,
    },
    Canary {
        bug: Bug::LogGuardIgnored,
        name: "a_commit_without_a_guard_on_its_place_is_found",
        stands_for: "DESIGN 4, one log, many tabs; B04",
        draw: Plan::draw,
        force: tabs_fold,
    },
    Canary {
        bug: Bug::FoldedIgnored,
        name: "a_commit_that_overlooks_a_fold_is_found",
        stands_for: "DESIGN 4: every commit checks n >= folded; B04, B05",
        draw: Plan::draw,
        force: tabs_fold,
    },
    Canary {
        bug: Bug::FoldTakesOutbox,
        name: "a_fold_that_takes_the_outbox_is_found",
        stands_for: "DESIGN 4: the fold takes only received rows; B01",
        draw: Plan::draw,
        force: tabs_fold,
    },
    Canary {
        bug: Bug::VisibleAtWalkEnd,
        name: "a_walk_that_shows_what_it_has_at_its_end_is_found",
        stands_for: "DESIGN 5: visible at the walk's end tears batches; M10",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::StagedKept,
        name: "what_was_staged_in_another_history_is_found",
        stands_for: "P07, M12",
        draw: Plan::draw,
        force: |plan| {
            server_rolls_back(plan);
            plan.evict_one_in = 5;
            plan.chunk_bytes_aim = 300;
            plan.pairs = 40;
            plan.cut_one_in = 10;
        },
    },
    Canary {
        bug: Bug::EpochIgnored,
        name: "an_epoch_that_is_not_looked_at_is_found",
        stands_for: "DESIGN 6, epochs; P11, P12",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::LeftIgnored,
        name: "an_earlier_epoch_that_is_good_beyond_its_end_is_found",
        stands_for: "DESIGN 6: cursor beyond head misses a quarter of cases; P11",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::AfterIgnored,
        name: "changes_that_do_not_follow_are_found",
        stands_for: "DESIGN 6.4: a client refuses changes whose after is not its cursor; P02, D01",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.lose_one_in = 5;
        },
    },
    Canary {
        bug: Bug::CutOnEveryPage,
        name: "a_cut_on_every_page_is_found",
        stands_for: "DESIGN 6.4: a cut stands only where a page reached the head of its own read",
        draw: Plan::draw,
        force: all_is_small,
    },
    Canary {
        bug: Bug::DeltaBehindPlace,
        name: "an_entry_that_carries_too_little_is_found",
        stands_for: "DESIGN 6.4: a backfill sends changed cells; P08",
        draw: Plan::draw,
        force: all_is_small,
    },
    Canary {
        bug: Bug::AcceptedStampIgnored,
        name: "the_stamp_last_accepted_if_it_is_not_looked_at_is_found",
        stands_for: "DESIGN 6.2: S, the greatest stamp accepted; B02",
        draw: Plan::draw,
        force: device_rolls_back,
    },
    Canary {
        bug: Bug::AcceptedForgotten,
        name: "p01_c04_a_peer_that_forgets_what_it_accepted_is_found",
        stands_for: "DESIGN 6.3: the server keeps accepted rows; P01, C04",
        draw: Plan::draw,
        force: forget_nothing,
    },
    Canary {
        bug: Bug::PushBeforeHeal,
        name: "a_push_before_a_broken_history_is_healed_is_found",
        stands_for: "DESIGN 6: after a lineage break heal precedes push; P11",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::RefillSkipped,
        name: "what_is_lost_and_not_brought_back_is_found",
        stands_for: "DESIGN 6: what the server lost is returned; P11, P12",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::ReturnedIgnored,
        name: "a_row_that_came_back_and_is_judged_as_any_other_is_found",
        stands_for: "PROTOCOL 3.6, returned; P11",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::PastForgotten,
        name: "a_replica_that_takes_an_old_copy_of_the_server_for_its_own_fork_is_found",
        stands_for: "PROTOCOL 3.1: an old copy of the server is no fork of the device; P11",
        draw: Plan::draw,
        force: server_rolls_back,
    },
    Canary {
        bug: Bug::OriginsIgnored,
        name: "origins_that_are_not_checked_are_found",
        stands_for: "PROTOCOL 3.7; B03",
        draw: Plan::draw_copies,
        force: |_| {},
    },
    Canary {
        bug: Bug::OriginsUnstored,
        name: "origins_that_are_not_stored_with_the_effect_are_found",
        stands_for: "PROTOCOL 3.7; B03, G3",
        draw: Plan::draw_copies,
        force: |_| {},
    },
    Canary {
        bug: Bug::RowsBehindCopyGoOn,
        name: "rows_that_go_on_behind_a_copy_are_found",
        stands_for: "PROTOCOL 3.7; B03",
        draw: Plan::draw_copies,
        force: |_| {},
    },
    Canary {
        bug: Bug::CopyGoesAtAck,
        name: "a_copy_that_goes_before_the_base_has_it_is_found",
        stands_for: "PROTOCOL 3.7; B03",
        draw: Plan::draw_copies,
        force: |_| {},
    },
    Canary {
        bug: Bug::CopiesUntold,
        name: "copies_that_nobody_is_told_of_are_found",
        stands_for: "PROTOCOL 3.7, told in time; B03",
        draw: Plan::draw_copies,
        force: |_| {},
    },
    Canary {
        bug: Bug::RootsComparedAnywhere,
        name: "roots_that_are_compared_anywhere_are_found",
        stands_for: "DESIGN 6.5: compares at that seq, and never otherwise; M02",
        draw: Plan::draw,
        force: forget_nothing,
    },
    Canary {
        bug: Bug::HealedTooSoon,
        name: "a_base_that_counts_as_healed_too_soon_is_found",
        stands_for: "PROTOCOL 3.4; P06",
        draw: Plan::draw,
        force: |plan| {
            server_rolls_back(plan);
            plan.cut_one_in = 10;
        },
    },
    Canary {
        bug: Bug::GoneUntold,
        name: "a_reload_that_does_not_tell_what_is_gone_is_found",
        stands_for: "B04",
        draw: Plan::draw,
        force: |plan| {
            tabs_fold(plan);
            plan.copy_one_in = 5;
            plan.mangle_one_in = 0;
            plan.expiry_one_in = 0;
        },
    },
    Canary {
        bug: Bug::CompleteGoesOn,
        name: "a_complete_snapshot_that_goes_on_is_found",
        stands_for: "P06",
        draw: Plan::draw,
        force: |plan| {
            all_is_small(plan);
            plan.newcomer = true;
            plan.evict_one_in = 10;
            plan.cut_one_in = 4;
        },
    },
    Canary {
        bug: Bug::DeadlinesFixed,
        name: "deadlines_that_do_not_look_at_progress_are_found",
        stands_for: "PROTOCOL 3.5; P16",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            let quiet = Plan { cut_one_in: 0, silence_one_in: 0, crash_one_in: 0, ..plan.clone() };
            *plan = Plan { devices: 1, tabs: 1, writes: 20, restart_one_in: 0, ..quiet };
            plan.line_bytes_per_s = FLOOR_BYTES_PER_S as u64;
            plan.large_one_in = 2;
            plan.mangle_one_in = 0;
        },
    },
    Canary {
        bug: Bug::ChecksIgnored,
        name: "p02_frames_that_are_taken_as_they_come_are_found",
        stands_for: "PROTOCOL 1; P02, P03, P18",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.mangle_one_in = 20;
        },
    },
    Canary {
        bug: Bug::HorizonIgnored,
        name: "c02_a_base_older_than_the_horizon_that_goes_on_is_found",
        stands_for: "DESIGN 6, horizon; C02",
        draw: Plan::draw,
        force: server_forgets,
    },
    Canary {
        bug: Bug::BaseKeptAtRebase,
        name: "c02_a_base_that_a_snapshot_does_not_replace_is_found",
        stands_for: "DESIGN 6, horizon; C02",
        draw: Plan::draw,
        force: server_forgets,
    },
    Canary {
        bug: Bug::StaleIsEvidence,
        name: "c02_a_base_older_than_the_horizon_that_counts_as_evidence_is_found",
        stands_for: "DESIGN 6, horizon; C02",
        draw: Plan::draw,
        force: server_forgets,
    },
    Canary {
        bug: Bug::GoneComesBack,
        name: "c02_an_update_that_brings_back_what_is_gone_is_found",
        stands_for: "DESIGN 6: an update of a record that is gone becomes rejected; C02",
        draw: Plan::draw,
        force: server_forgets,
    },
    Canary {
        bug: Bug::UnsureIgnored,
        name: "c02_a_row_of_which_nothing_is_known_and_that_is_judged_as_any_other_is_found",
        stands_for: "DESIGN 6: rows older than the horizon become rejected; C02",
        draw: Plan::draw,
        force: |plan| {
            server_forgets(plan);
            plan.cut_one_in = 5;
        },
    },
    Canary {
        bug: Bug::ScrubSkipsTree,
        name: "a_scrub_that_skips_the_tree_is_found",
        stands_for: "M01, S09",
        draw: Plan::draw,
        force: server_rots,
    },
    Canary {
        bug: Bug::LeafSkipped,
        name: "a_leaf_that_is_not_updated_is_found",
        stands_for: "M01",
        draw: Plan::draw,
        force: |plan| {
            plan.keep_copies();
            plan.rot_one_in = 0;
        },
    },
    Canary {
        bug: Bug::HorizonByClock,
        name: "c02_a_horizon_that_follows_a_clock_that_jumps_is_found",
        stands_for: "DESIGN 6: H advances at most by the time the server has run; C02, C03",
        draw: Plan::draw,
        force: |plan| {
            server_forgets(plan);
            plan.step_one_in = 40;
            plan.restart_one_in = 5;
        },
    },
    Canary {
        bug: Bug::HorizonOfRootsIgnored,
        name: "c03_roots_that_are_compared_under_different_horizons_are_found",
        stands_for: "DESIGN 6.5: under that H; C03",
        draw: Plan::draw,
        force: server_forgets,
    },
    Canary {
        bug: Bug::QuarantinedSilently,
        name: "a_damaged_record_that_goes_without_a_new_epoch_is_found",
        stands_for: "S09",
        draw: Plan::draw,
        force: server_rots,
    },
    Canary {
        bug: Bug::LedgerBelieved,
        name: "a_row_that_counts_as_accepted_though_its_record_was_lost_is_found",
        stands_for: "S09",
        draw: Plan::draw,
        force: |plan| {
            server_rots(plan);
            plan.rots_records = true;
            plan.cut_one_in = 4;
        },
    },
    Canary {
        bug: Bug::FailedIsDone,
        name: "a_write_that_failed_and_is_reported_is_found",
        stands_for: "STYLE smell 11; B09, B11, S06",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.full_one_in = 3;
            plan.relaxed = false;
        },
    },
    Canary {
        bug: Bug::SilenceIgnored,
        name: "a_silence_that_nobody_notices_is_found",
        stands_for: "DESIGN 6.6: dead at 25 s; P04, B14",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.silence_one_in = 20;
        },
    },
    Canary {
        bug: Bug::AheadAccepted,
        name: "a_stamp_of_the_far_future_that_is_taken_is_found",
        stands_for: "DESIGN 3: over 60 s ahead; C05",
        draw: Plan::draw,
        force: |plan| plan.step_one_in = 4,
    },
    Canary {
        bug: Bug::SyncSkipped,
        name: "s02_a_server_that_does_not_sync_is_found",
        stands_for: "DESIGN 8, synchronous=FULL; S02",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.restart_one_in = 5;
        },
    },
    Canary {
        bug: Bug::TornComesBack,
        name: "c02_a_part_of_a_batch_that_comes_back_though_it_was_removed_is_found",
        stands_for: "PROTOCOL 3.1, 7; C02",
        draw: Plan::draw,
        force: |plan| {
            server_forgets(plan);
            plan.devices = 1;
            plan.writes = 120;
            plan.rollback_one_in = 6;
            plan.crash_one_in = 6;
            plan.full_one_in = 0;
            plan.hostile_one_in = 0;
            plan.rejections = false;
            plan.generations = 0;
        },
    },
    Canary {
        bug: Bug::ExpiryAccepts,
        name: "what_counts_as_accepted_when_the_token_runs_out_is_found",
        stands_for: "PROTOCOL 3.1, accounts: the outbox waits for the next token; P22, X11",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.expiry_one_in = 3;
        },
    },
    Canary {
        bug: Bug::StaleRefused,
        name: "p11_a_row_that_is_refused_while_what_it_lacks_is_on_its_way_is_found",
        stands_for: "PROTOCOL 3.2, stale; P11",
        draw: Plan::draw,
        force: |plan| {
            // The old copy is soon put back, and by then what it has was collected.
            server_forgets(plan);
            *plan = Plan { devices: 2, records: 1, away_one_in: 0, ..plan.clone() };
            plan.retention_ms = Some(10_000);
            plan.copy_one_in = 2;
        },
    },
    Canary {
        bug: Bug::EmptyKeepsId,
        name: "b10_a_store_that_comes_up_empty_under_its_old_id_is_found",
        stands_for: "DESIGN 6: an empty store is a new replica; B10",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.evict_one_in = 5;
        },
    },
    Canary {
        bug: Bug::RootsOfAll,
        name: "m09_roots_of_what_is_not_subscribed_to_are_found",
        stands_for: "DESIGN 5: a tree for each collection; M09",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.whole_space = false;
        },
    },
    Canary {
        bug: Bug::RemovalsUnsynced,
        name: "s03_a_removal_that_is_not_synced_is_found",
        stands_for: "DESIGN 8, synchronous=FULL; S03",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.restart_one_in = 5;
        },
    },
    Canary {
        bug: Bug::BootCollects,
        name: "s04_a_boot_that_collects_what_is_dead_is_found",
        stands_for: "DESIGN 6: H advances at most by the time the server has run; S04",
        draw: Plan::draw,
        force: |plan| {
            forget_nothing(plan);
            plan.restart_one_in = 5;
        },
    },
    Canary {
        bug: Bug::AnswersForgotten,
        name: "p01_answers_that_are_not_kept_are_found",
        stands_for: "what is asked for twice under one name, as its first answer was lost, is done twice",
        draw: Plan::draw,
        force: all_call,
    },
    Canary {
        bug: Bug::ExpectedIgnored,
        name: "a_write_in_spite_of_what_was_expected_is_found",
        stands_for: "who writes on the version of a record that he has read overwrites a later one",
        draw: Plan::draw,
        force: all_call,
    },
];
