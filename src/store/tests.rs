//! The store's rules, each on both engines: plans applied whole or not at all, names, removal, housekeeping, and what a disk may do.

mod aside;
mod by_hand;
mod disk;
mod endings;
mod factors;
mod freezes;
mod generation;
mod hard_tokens;
mod held_plans;
mod housekeeping;
mod houses;
mod keys;
mod leases;
mod notices;
mod operations;
mod plans;
mod races;
mod realms_by_hand;
mod search;
mod searches;
mod selections;
mod undoing;

use super::outbox_tests::{DAY_MS, Fixture, START, postgres, say, sqlite, user};
use super::*;
use crate::model::{
    Change, ChangeKind, DirectoryId, Intent, Mode, Outcome, RealmId, Run, RunId, Trigger, User,
    UserFilter, UserPlace,
};

fn realm() -> RealmId {
    RealmId::from("example.org")
}

fn run_of(n: u128) -> Run {
    let id = RunId(uuid::Uuid::from_u128(
        0x01a2_0000_0000_7000_8000_0000_0000_0000 + n,
    ));
    Run {
        complete: true,
        decided_at: Some(START),
        elapsed_ms: 1,
        ..Run::begun(id, realm(), START)
    }
}

fn person(name: &str, n: u8) -> User {
    let mut someone = user(name, &format!("+4219051234{n:02}"));
    someone.directory_id = Some(DirectoryId([n; 16]));
    someone.dn = Some(format!("uid={name},ou=people,dc=example,dc=org"));
    someone.phone_source = Some(crate::model::PhoneSource::Directory);
    someone.fingerprint = Some(u64::from(n));
    someone
}

fn line(run: &Run, seq: i64, user: &User, kind: ChangeKind) -> Change {
    let mut after = serde_json::Map::new();
    after.insert("phone".into(), serde_json::json!(user.phone));
    Change {
        run: Some(run.run),
        seq,
        realm: realm(),
        user: user.id,
        username: Some(user.username.clone()),
        by: None,
        kind,
        before: serde_json::Map::new(),
        after,
        at: START,
    }
}

/// Stages users as a run would; a user of version 1 without a base is new.
async fn stage(f: &Fixture, run: &Run, users: &[(User, i64, Vec<Intent>)], kind: ChangeKind) {
    let staged: Vec<StagedUser> = users
        .iter()
        .enumerate()
        .map(|(i, (user, base, intents))| StagedUser {
            seq: i64::try_from(i).unwrap() + 1,
            base_version: *base,
            user: user.clone(),
            container: user.dn.as_deref().and_then(crate::model::dn::container),
            intents: intents.clone(),
        })
        .collect();
    let changes: Vec<Change> = staged
        .iter()
        .map(|s| line(run, s.seq, &s.user, kind))
        .collect();
    f.store.stage(run.run, staged, &changes).await.unwrap();
}

async fn apply(f: &Fixture, run: &Run) -> Result<Run, StoreError> {
    let messages = f.ctx();
    f.store
        .apply(Application {
            run,
            facts: RunFacts::default(),
            realm: RealmUpdate::default(),
            refused: None,
            messages: &messages,
            replaces: None,
            staged: Staged::default(),
            audit: None,
        })
        .await
}

/// Makes these users by a run of their own.
async fn make(f: &Fixture, n: u128, users: &[User]) {
    let mut run = run_of(n);
    f.store.begin_run(&run, false, None).await.unwrap();
    let list: Vec<_> = users.iter().map(|u| (u.clone(), 0, vec![])).collect();
    stage(f, &run, &list, ChangeKind::Created).await;
    run.outcome = Outcome::Applied;
    run.created = i64::try_from(users.len()).unwrap();
    apply(f, &run).await.unwrap();
}

async fn held(f: &Fixture, id: u8) -> User {
    f.store
        .users_by_directory_id(&realm(), &[DirectoryId([id; 16])])
        .await
        .unwrap()
        .pop()
        .expect("the user")
}

/// The user one version later, in state and reason as given.
fn later(user: &User) -> User {
    User {
        version: user.version + 1,
        ..user.clone()
    }
}

fn config(path: &std::path::Path) -> StoreConfig {
    StoreConfig {
        url: StoreUrl::Sqlite(path.to_owned()),
        password: None,
        keep_runs_ms: DAY_MS,
    }
}

async fn open(path: &std::path::Path, access: Access) -> Result<Store, StoreError> {
    Store::open(&config(path), &Environment::default(), access, START).await
}

/// Makes a future in a frame of its own: in a debug build each that is made in one function takes room in that function's frame, and
/// all of them together are more than a thread's stack holds.
#[inline(never)]
fn boxed<F: Future<Output = ()>>(make: impl FnOnce() -> F) -> std::pin::Pin<Box<F>> {
    Box::pin(make())
}

macro_rules! on_both {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        mod sqlite_tests {
            $(#[tokio::test] async fn $name() { super::$module::$name(&super::sqlite().await).await; })+
        }

        #[tokio::test]
        async fn everything_on_postgresql() {
            let f = postgres().await;
            $(
                for sql in [
                    "DELETE FROM refused", "DELETE FROM staged_refused", "DELETE FROM enrolments", "DELETE FROM jobs", "DELETE FROM staged_users",
                    "DELETE FROM changes", "DELETE FROM runs", "DELETE FROM users", "UPDATE realms SET held = NULL",
                    "DELETE FROM search_log", "DELETE FROM search_pages", "DELETE FROM search_docs", "DELETE FROM search_grams", "DELETE FROM search_segments",
                    "UPDATE search_index SET epoch = 0, builder = NULL, builder_until = NULL, built_at = NULL, removed = 0",
                    "DELETE FROM audit", "DELETE FROM operations", "DELETE FROM operation_users", "DELETE FROM operation_runs", "DELETE FROM operation_refused", "DELETE FROM operation_enrolments", "DELETE FROM authenticators", "DELETE FROM recovery_codes", "DELETE FROM user_factors", "DELETE FROM adoptions", "DELETE FROM overrides", "DELETE FROM freezes", "DELETE FROM freeze_links", "DELETE FROM refused_numbers", "DELETE FROM meta WHERE key = 'audit'",
                ] {
                    f.sql(sql).await;
                }
                boxed(|| $module::$name(&f)).await;
            )+
        }
    };
}

on_both!(
    plans::a_user_comes_back_as_it_was_written,
    plans::a_run_is_named_by_the_end_of_its_id_and_candidates_are_told,
    plans::two_users_swap_names,
    plans::who_is_suspended_yields_the_name_in_the_same_plan,
    plans::a_plan_over_a_user_who_changed_applies_nothing,
    plans::an_error_in_the_middle_leaves_nothing_half_done,
    plans::a_message_that_was_accepted_meanwhile_is_not_forgotten,
    plans::removal_erases_everything_personal,
    plans::texts_of_all_kinds_are_kept,
    plans::an_act_changes_one_user_and_tells_of_it,
    plans::the_index_has_everybody_once,
    held_plans::a_held_plan_is_decided_once,
    held_plans::what_was_staged_is_taken_back_and_swept,
    held_plans::the_window_sums_what_was_applied_since,
    held_plans::what_is_held_of_who_is_removed_goes,
    held_plans::what_the_brake_holds_follows_the_plan,
    held_plans::a_run_that_was_decided_stays_as_it_was_decided,
    held_plans::only_what_nobody_runs_is_swept,
    held_plans::a_first_pass_shows_its_lines_before_and_after,
    held_plans::why_somebody_is_gone_is_filled_in,
    held_plans::a_plan_is_read_page_by_page,
    housekeeping::refusals_are_kept_by_difference,
    housekeeping::what_is_staged_as_refused_goes_with_its_pass_or_is_swept,
    housekeeping::old_runs_are_forgotten_but_never_a_held_plan_or_the_last_success,
    housekeeping::one_run_a_realm,
    housekeeping::a_realm_stands_still_and_goes_on,
    housekeeping::users_are_listed_in_a_stable_order,
    housekeeping::grace_and_holds_are_found_when_they_are_over,
    housekeeping::each_realm_has_its_turn_where_holds_are_over,
    factors::an_authenticator_comes_back_as_it_was_kept_and_goes_with_its_user,
    factors::trap_110_a_token_out_of_its_dates_proves_nothing,
    endings::trap_82_links_and_applications_end_with_number_and_standing_in_a_pass,
    endings::trap_82_links_and_applications_end_with_number_and_standing_by_hand,
    freezes::a_link_counts_after_its_end_only_while_its_own_change_waits,
    freezes::a_frozen_user_keeps_what_was_there_before_and_takes_no_number,
    endings::another_person_of_the_name_gets_no_factors,
    endings::what_is_noted_in_the_moment_of_a_removal_goes_later,
    endings::a_link_that_is_withdrawn_takes_no_number_with_it,
    endings::a_plan_that_ends_applications_waits_for_verifications,
    hard_tokens::trap_109_a_serial_and_a_seed_are_there_once_and_a_file_is_kept_whole_or_not,
    hard_tokens::trap_70_a_token_changes_hands_and_its_counter_only_rises,
    keys::trap_79_links_that_lost_recovery_codes_guarded_are_void,
    keys::trap_79_what_a_lost_key_kept_is_given_up_by_its_number_and_nothing_else,
    keys::trap_70_a_seed_that_was_given_up_comes_back_to_where_its_counter_stood,
    notices::a_notice_that_waited_is_tried_for_as_long_as_any_other,
    races::of_many_who_change_one_user_one_wins,
    undoing::what_an_undo_holds_is_let_go_by_whatever_ends_it,
    undoing::the_pause_of_an_undo_lasts_as_long_as_what_it_puts_back,
    undoing::a_pause_ends_by_its_owner_alone,
    search::search_knows_every_alphabet_and_no_wildcards,
    operations::a_batch_is_written_once_and_a_cancelled_operation_keeps_what_it_did,
    selections::each_filter_selects_whom_it_says,
    selections::what_is_known_of_factors_is_read_for_all_at_once,
    search::a_former_name_leads_to_whoever_had_it,
    searches::trap_133_the_index_finds_whom_a_look_at_everybody_finds,
    searches::whoever_stands_before_all_pages_is_found,
    searches::a_search_knows_who_changed_and_no_former_names,
    searches::a_build_that_is_cut_off_at_any_step_spoils_nothing,
    searches::two_who_index_do_not_spoil_it_for_each_other,
    housekeeping::a_refused_value_may_hold_any_byte,
    housekeeping::the_newest_pass_that_succeeded_is_remembered,
    housekeeping::lines_of_what_never_happened_do_not_stay,
    aside::a_first_load_takes_the_place_of_users,
    aside::who_is_told_something_comes_with_a_first_load,
    aside::who_comes_by_a_file_is_written_as_decided,
    aside::a_first_load_that_is_held_lies_among_the_plans,
    aside::what_is_taken_back_of_a_first_load_is_gone,
    aside::a_wrong_row_ends_a_first_load_and_leaves_nothing,
    aside::a_first_load_into_a_store_that_fills_adds_to_it,
    aside::what_a_crash_leaves_of_a_first_load_is_swept,
    aside::what_the_database_forgot_is_missed,
    by_hand::a_user_is_made_changed_and_erased_by_hand,
    by_hand::a_name_is_taken_once,
    by_hand::many_at_once_make_one_chain,
    by_hand::realms_are_unique_without_their_case_and_may_come_back,
    by_hand::grace_runs_on_the_realms_own_clock,
    by_hand::trap_136_what_is_changed_cut_out_or_cut_off_shows,
    by_hand::trap_136_what_is_cut_off_behind_the_name_of_another_key_shows,
    by_hand::trap_136_a_line_behind_the_end_shows_also_once_others_follow,
    by_hand::trap_136_values_go_with_a_removal_alone,
    realms_by_hand::what_leaves_the_file_before_its_first_pass_is_by_hand_again,
    realms_by_hand::an_edit_of_a_realm_that_is_another_by_now_is_decided_anew,
    realms_by_hand::an_orphaned_realm_is_removed_step_by_step,
    realms_by_hand::what_is_refused_of_who_is_removed_by_hand_goes,
    realms_by_hand::what_is_done_by_hand_is_to_be_looked_at,
    realms_by_hand::the_mark_goes_with_an_entry_that_is_put_back,
    aside::a_name_that_is_taken_during_a_first_load_is_a_conflict,
);
