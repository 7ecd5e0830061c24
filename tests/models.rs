//! The protocols, as models: every interleaving and every kill within small bounds, each with its mutants.
//!
//! A protocol must be clean: no rule broken in any reachable state, and a good end reachable from every one. A mutant,
//! the protocol with one step left out or moved, must be caught: what no mutant needs is not known to be needed. The
//! opening of each model says what it covers and what not; `search` says how it is run.
//!
//! ```text
//! cargo test --test models -- --nocapture            state counts
//! MODEL_TRACE=1 cargo test --test models -- --nocapture <test>       and the steps to a mutant's fault
//! ```

mod models {
    pub mod barrier;
    pub mod condition;
    pub mod heap;
    pub mod lease;
    pub mod lock_recover;
    pub mod objects;
    pub mod pipe;
    pub mod ring;
    pub mod ring_push_block;
    pub mod ring_wait;
    pub mod search;
    pub mod table_inline;
    pub mod table_put_split;
}

use models::objects::{Objects, Scenario};
use models::ring::{Cast, Ring};
use models::search::search;
use models::table_put_split::{Operation, PutSplit};
use models::{
    barrier, condition, heap, lease, lock_recover, objects, pipe, ring, ring_push_block, ring_wait, table_inline,
    table_put_split,
};

/// One test a line: a name that says what is proved, the model, and `clean` or the fault that catches the mutant.
macro_rules! prove {
    ($($test:ident: $model:expr => $verdict:tt;)*) => {
        $(#[test]
        fn $test() {
            let outcome = search(stringify!($test), $model);
            prove!(@ outcome $verdict);
        })*
    };
    (@ $outcome:ident clean) => { $outcome.assert_clean() };
    (@ $outcome:ident $fault:literal) => { $outcome.assert_caught($fault) };
}

fn ring(capacity: u8, cast: Cast, variant: ring::Variant) -> Ring {
    Ring { variant, capacity, cast }
}

prove! {
    ring_capacity_one_is_clean: ring(1, Cast::PAIRS, ring::Variant::Real) => clean;
    ring_capacity_two_is_clean: ring(2, Cast::PAIRS, ring::Variant::Real) => clean;
    ring_item_given_back_twice_is_clean: ring(1, Cast::ONE_ITEM, ring::Variant::Real) => clean;
    ring_capacity_two_item_given_back_twice_is_clean: ring(2, Cast::ONE_ITEM, ring::Variant::Real) => clean;
    ring_with_hint_before_item_loses_an_item: ring(2, Cast::PAIRS, ring::Variant::RaisesFirst) => "stuck";
    ring_without_returned_hint_loses_an_item: ring(2, Cast::PAIRS, ring::Variant::NeverRaises) => "stuck";
    ring_without_scan_loses_an_item: ring(2, Cast::PAIRS, ring::Variant::NeverScans) => "stuck";
    ring_with_hint_lowered_blindly_loses_an_item:
        ring(1, Cast::ONE_ITEM, ring::Variant::LowersBlindly) => "stuck";
    ring_with_head_rolled_back_loses_an_item: ring(1, Cast::PAIRS, ring::Variant::RollsHeadBack) => "stuck";
}

fn push_block(variant: ring_push_block::Variant) -> ring_push_block::PushBlock {
    ring_push_block::PushBlock { variant }
}

prove! {
    push_block_is_clean: push_block(ring_push_block::Variant::Real) => clean;
    push_block_judged_by_lap_leaks: push_block(ring_push_block::Variant::ByLap) => "leaked";
    push_block_judged_by_payload_frees_a_guarded_block:
        push_block(ring_push_block::Variant::ByPayload) => "published block";
    push_block_with_phase_before_claim_leaks: push_block(ring_push_block::Variant::PhaseBeforeClaim) => "leaked";
    push_block_with_phase_after_publication_frees_a_published_block:
        push_block(ring_push_block::Variant::PhaseAfterPublish) => "published block";
    push_block_with_tomb_before_free_leaks: push_block(ring_push_block::Variant::TombFirst) => "leaked";
}

fn lease(variant: lease::Variant) -> lease::Lease {
    lease::Lease { variant }
}

prove! {
    lease_is_clean: lease(lease::Variant::Real) => clean;
    lease_that_unlinks_first_loses_an_item: lease(lease::Variant::UnlinksFirst) => "stuck";
    lease_given_back_by_clearing_first_loses_an_item: lease(lease::Variant::ClearsCellFirst) => "stuck";
    lease_whose_cell_stays_doubles_an_item: lease(lease::Variant::LeavesCell) => "both places";
    lease_acknowledged_blindly_frees_in_use: lease(lease::Variant::FreesBlindly) => "freed in use";
    lease_unlatched_before_it_is_decided_doubles_an_item: lease(lease::Variant::UnlatchesFirst) => "both places";
    lease_taken_without_asking_is_taken_from_the_living: lease(lease::Variant::TakesFromTheLiving) => "living";
}

fn wait(timeouts: bool, variant: ring_wait::Variant) -> ring_wait::Wait {
    ring_wait::Wait { variant, timeouts }
}

prove! {
    ring_wait_is_clean: wait(false, ring_wait::Variant::Real) => clean;
    ring_wait_with_timeouts_is_clean: wait(true, ring_wait::Variant::Real) => clean;
    ring_wait_without_baton_strands_a_sleeper: wait(false, ring_wait::Variant::NoBaton) => "sleeps beside an item";
    ring_wait_without_sequence_strands_a_sleeper:
        wait(false, ring_wait::Variant::NoSequence) => "sleeps beside an item";
    ring_wait_without_count_strands_a_sleeper: wait(false, ring_wait::Variant::NoCount) => "sleeps beside an item";
    ring_wait_without_fallback_strands_a_sleeper: wait(true, ring_wait::Variant::NoFallback) => "sleeps beside an item";
    ring_wait_needs_fallback_only_for_timeouts: wait(false, ring_wait::Variant::NoFallback) => clean;
}

fn heap(variant: heap::Variant) -> heap::Heap {
    heap::Heap { variant }
}

prove! {
    heap_is_clean: heap(heap::Variant::Real) => clean;
    heap_without_intent_scan_frees_a_live_block: heap(heap::Variant::NoHazardScan) => "live block";
    heap_with_late_commit_and_local_recovery_reuses_a_live_block:
        heap(heap::Variant::LateCommitLocalFree) => "live block";
    heap_with_late_free_intent_leaks: heap(heap::Variant::FreeNamedLate) => "leaked";
    heap_with_free_intent_cleared_early_leaks: heap(heap::Variant::FreeClearedEarly) => "leaked";
}

fn put(operation: Operation, variant: table_put_split::Variant) -> PutSplit {
    PutSplit { variant, operation }
}

prove! {
    table_replace_during_split_is_clean: put(Operation::Replace, table_put_split::Variant::Real) => clean;
    table_remove_during_split_is_clean: put(Operation::Remove, table_put_split::Variant::Real) => clean;
    table_insert_during_split_is_clean: put(Operation::Insert, table_put_split::Variant::Real) => clean;
    table_replace_with_alloc_cleared_late_frees_a_published_block:
        put(Operation::Replace, table_put_split::Variant::LateAlloc) => "published block";
    table_insert_with_alloc_cleared_late_frees_a_published_block:
        put(Operation::Insert, table_put_split::Variant::LateAlloc) => "published block";
    table_replace_with_new_bucket_unlocked_early_frees_a_published_block:
        put(Operation::Replace, table_put_split::Variant::NewUnlockedEarly) => "published block";
    table_remove_with_new_bucket_unlocked_early_frees_a_published_block:
        put(Operation::Remove, table_put_split::Variant::NewUnlockedEarly) => "published block";
    table_replace_with_new_bucket_unlocked_first_answers_a_reused_block:
        put(Operation::Replace, table_put_split::Variant::NewUnlockedFirst) => "wrong value";
    table_remove_with_new_bucket_unlocked_first_answers_a_reused_block:
        put(Operation::Remove, table_put_split::Variant::NewUnlockedFirst) => "wrong value";
    table_replace_without_index_recheck_loses_its_key:
        put(Operation::Replace, table_put_split::Variant::NoIndexRecheck) => "lost its key";
    table_remove_without_index_recheck_loses_its_key:
        put(Operation::Remove, table_put_split::Variant::NoIndexRecheck) => "lost its key";
    table_insert_without_index_recheck_is_missed:
        put(Operation::Insert, table_put_split::Variant::NoIndexRecheck) => "missed a present key";
    table_replace_without_miss_recheck_is_missed:
        put(Operation::Replace, table_put_split::Variant::NoMissRecheck) => "missed a present key";
    table_remove_without_miss_recheck_is_missed:
        put(Operation::Remove, table_put_split::Variant::NoMissRecheck) => "missed a present key";
    table_insert_without_miss_recheck_is_missed:
        put(Operation::Insert, table_put_split::Variant::NoMissRecheck) => "missed a present key";
}

fn inline(variant: table_inline::Variant) -> table_inline::Inline {
    table_inline::Inline { variant }
}

prove! {
    table_inline_is_clean: inline(table_inline::Variant::Real) => clean;
    table_inline_without_spare_cell_is_torn: inline(table_inline::Variant::InPlace) => "validated read";
    table_inline_with_undo_that_keeps_the_sequence_is_torn: inline(table_inline::Variant::UndoKeepsSequence) => "torn";
    table_inline_with_unlock_that_keeps_the_sequence_is_torn:
        inline(table_inline::Variant::UnlockKeepsSequence) => "torn";
}

fn lock(checks_data: bool, variant: lock_recover::Variant) -> lock_recover::Lock {
    lock_recover::Lock { variant, checks_data }
}

prove! {
    lock_recovery_is_clean: lock(true, lock_recover::Variant::Real) => clean;
    lock_stolen_has_two_holders: lock(false, lock_recover::Variant::Steals) => "two holders";
    lock_stolen_with_bumped_undo_excludes: lock(false, lock_recover::Variant::StealsBumped) => clean;
    lock_stolen_with_bumped_undo_is_entered_halfway: lock(true, lock_recover::Variant::StealsBumped) => "half-changed";
    lock_with_undo_that_keeps_the_sequence_is_read_torn: lock(true, lock_recover::Variant::UndoKeepsSequence) => "torn";
    lock_unlocked_before_its_data_is_complete_is_entered_halfway:
        lock(true, lock_recover::Variant::UnlocksUnresolved) => "half-changed";
    lock_with_intent_cleared_before_unlock_stays_locked:
        lock(true, lock_recover::Variant::ClearsIntentFirst) => "stuck";
}

fn objects(scenario: Scenario, kills: u8, variant: objects::Variant) -> Objects {
    Objects { variant, scenario, kills }
}

prove! {
    objects_three_holders_are_clean: objects(Scenario::HANDLES, 1, objects::Variant::Real) => clean;
    objects_reused_entry_is_clean: objects(Scenario::REUSE, 2, objects::Variant::Real) => clean;
    objects_first_name_is_clean: objects(Scenario::FIRST_NAME, 2, objects::Variant::Real) => clean;
    objects_container_leaving_fast_is_clean: objects(Scenario::OUTER, 2, objects::Variant::Real) => clean;
    objects_read_while_unnamed_is_clean: objects(Scenario::UNNAME, 2, objects::Variant::Real) => clean;
    objects_moved_while_traced_is_clean: objects(Scenario::MOVE, 2, objects::Variant::Real) => clean;
    objects_moved_while_traced_and_read_is_clean: objects(Scenario::MOVE_AND_READ, 0, objects::Variant::Real) => clean;
    objects_cycle_is_clean: objects(Scenario::CYCLE, 2, objects::Variant::Real) => clean;
    objects_creation_while_traced_is_clean: objects(Scenario::CREATE, 2, objects::Variant::Real) => clean;

    objects_fast_path_without_reread_of_bits_loses_a_held_object:
        objects(Scenario::HANDLES, 0, objects::Variant::NoRereadOfBits) => "held object";
    objects_collection_without_reread_of_bits_loses_a_held_object:
        objects(Scenario::UNNAME, 0, objects::Variant::NoRereadOfBits) => "held object";
    objects_acquired_before_the_bit_is_set_are_lost:
        objects(Scenario::HANDLES, 0, objects::Variant::AcquireLoadsFirst) => "held object";
    objects_acquired_while_condemned_need_a_rescue:
        objects(Scenario::HANDLES, 0, objects::Variant::AcceptsCondemned) => "held object";
    objects_left_before_the_store_are_destroyed:
        objects(Scenario::MOVE, 0, objects::Variant::LeavesBeforeStore) => "reachable object";
    objects_doomed_despite_a_rescue_are_destroyed:
        objects(Scenario::MOVE, 0, objects::Variant::IgnoresRescue) => "reachable object";
    objects_condemned_anonymously_lose_a_held_object:
        objects(Scenario::HANDLES, 0, objects::Variant::AnonymousCondemned) => "held object";
    objects_condemned_anonymously_lose_a_named_object:
        objects(Scenario::FIRST_NAME, 0, objects::Variant::AnonymousCondemned) => "reachable object";
    objects_condemned_in_a_shared_name_lose_a_held_object:
        objects(Scenario::HANDLES, 0, objects::Variant::SharedCondemner) => "held object";
    objects_with_flag_read_only_before_lose_a_named_object:
        objects(Scenario::FIRST_NAME, 0, objects::Variant::FlagReadBefore) => "reachable object";
    objects_with_flag_read_before_bits_lose_a_named_object:
        objects(Scenario::FIRST_NAME, 0, objects::Variant::FlagReadFirst) => "reachable object";
    objects_without_commit_revive_half_a_cycle:
        objects(Scenario::CYCLE, 1, objects::Variant::NoCommit) => "reachable object";
    objects_traced_from_held_ones_only_lose_a_moved_one:
        objects(Scenario::MOVE, 0, objects::Variant::RootsAreHeld) => "reachable object";
    objects_without_wanted_word_leak: objects(Scenario::UNNAME, 0, objects::Variant::BusyMeansDone) => "stuck";
    objects_with_wanted_forgotten_late_leak: objects(Scenario::UNNAME, 0, objects::Variant::ForgetsLate) => "stuck";
    objects_given_up_silently_leak: objects(Scenario::UNNAME, 0, objects::Variant::GivesUpSilently) => "stuck";
    objects_found_stale_and_just_left_leak: objects(Scenario::REUSE, 0, objects::Variant::StaleLeaves) => "stuck";
    objects_found_stale_drop_a_hold: objects(Scenario::REUSE, 0, objects::Variant::StaleDropsHold) => "held object";
    objects_reverted_and_just_left_leak: objects(Scenario::REUSE, 0, objects::Variant::RevertLeaves) => "stuck";
    objects_found_condemned_and_just_left_leak:
        objects(Scenario::OUTER, 0, objects::Variant::CondemnedLeaves) => "stuck";
    objects_destroyed_without_a_thought_of_their_content_leak:
        objects(Scenario::OUTER, 0, objects::Variant::OuterForgetsInner) => "stuck";
    objects_live_before_their_first_bit_are_lost:
        objects(Scenario::REUSE, 0, objects::Variant::LiveBeforeBit) => "held object";
    objects_recovered_without_a_collection_leak:
        objects(Scenario::FIRST_NAME, 1, objects::Variant::RecoveryNeverCollects) => "stuck";
    objects_recovered_with_early_unlock_stay_doomed:
        objects(Scenario::CYCLE, 2, objects::Variant::RecoveryUnlocksFirst) => "stuck";
}

fn pipe(kills: u8, variant: pipe::Variant) -> pipe::Pipe {
    pipe::Pipe { variant, kills }
}

prove! {
    pipe_without_kills_is_clean: pipe(0, pipe::Variant::Real) => clean;
    pipe_with_two_kills_is_clean: pipe(2, pipe::Variant::Real) => clean;
    pipe_that_ends_when_the_other_is_gone_loses_a_message: pipe(0, pipe::Variant::EofWhenGone) => "before an acknowledged";
    pipe_that_trusts_the_bits_breaks_a_moving_end: pipe(0, pipe::Variant::TrustsBits) => "somebody has";
    pipe_that_ignores_letters_breaks_an_end_on_its_way: pipe(0, pipe::Variant::IgnoresLetters) => "somebody has";
    pipe_whose_reader_never_looks_waits_for_the_dead: pipe(1, pipe::Variant::NeverLooks) => "stuck";
    pipe_sealed_before_it_is_closed_breaks_when_killed: pipe(1, pipe::Variant::SealsFirst) => "somebody has";
    pipe_without_recovery_of_claims_waits_for_the_dead: pipe(1, pipe::Variant::ForgetsClaims) => "stuck";
}

fn barrier(cast: barrier::Cast, variant: barrier::Variant) -> barrier::Barrier {
    barrier::Barrier { variant, cast }
}

prove! {
    barrier_with_a_kill_is_clean: barrier(barrier::Cast::KILL, barrier::Variant::Real) => clean;
    barrier_with_resets_is_clean: barrier(barrier::Cast::RESET, barrier::Variant::Real) => clean;
    barrier_with_a_late_third_is_clean: barrier(barrier::Cast::CROWD, barrier::Variant::Real) => clean;
    barrier_with_a_slow_party_is_clean: barrier(barrier::Cast::SLOW, barrier::Variant::Real) => clean;
    barrier_with_a_crowd_and_a_kill_is_clean: barrier(barrier::Cast::CROWD_AND_KILL, barrier::Variant::Real) => clean;
    barrier_without_marks_lets_three_pass:
        barrier(barrier::Cast::CROWD, barrier::Variant::NoMark) => "more have passed";
    barrier_without_second_look_lets_three_pass:
        barrier(barrier::Cast::CROWD, barrier::Variant::NoSecondLook) => "more have passed";
    barrier_without_tags_lets_one_pass:
        barrier(barrier::Cast::RESET, barrier::Variant::NoTag) => "before all had come";
    barrier_without_history_tells_wrongly:
        barrier(barrier::Cast::RESET, barrier::Variant::NoHistory) => "told wrongly";
    barrier_without_death_check_waits_for_the_dead:
        barrier(barrier::Cast::KILL, barrier::Variant::NoDeathCheck) => "stuck";
    barrier_beside_stale_signatures_tells_wrongly:
        barrier(barrier::Cast::SLOW, barrier::Variant::LeavesStale) => "told wrongly";
}

fn condition(kills: u8, variant: condition::Variant) -> condition::Condition {
    condition::Condition { variant, kills }
}

prove! {
    condition_is_clean: condition(0, condition::Variant::Real) => clean;
    condition_with_kills_is_clean: condition(2, condition::Variant::Real) => clean;
    condition_with_place_after_release_misses_a_waiter:
        condition(0, condition::Variant::PlaceAfterRelease) => "missed a waiter";
    condition_without_inheriting_loses_a_notification:
        condition(1, condition::Variant::NoInheriting) => "stuck";
    condition_that_clears_first_loses_a_notification:
        condition(2, condition::Variant::ClearsFirst) => "stuck";
    condition_without_stamp_notifies_a_latecomer: condition(1, condition::Variant::NoStamp) => "came later";
}
