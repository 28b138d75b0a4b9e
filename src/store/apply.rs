//! One transaction applies a whole plan: users, changes, messages, the realm's memory and the run. All of it, or nothing.

use sqlx::AssertSqlSafe;

use super::audit::{AuditKey, append};
use super::db::{EngineConnection, Tx, on};
use super::factors::endings;
use super::freezes;
use super::held::replace_held;
use super::outbox::{MessageContext, apply_intents, locks, release_brake};
use super::refused::RefusedDiff;
use super::rows::{bind_user, user_columns};
use super::runs::{RunFacts, write_run};
use super::search;
use super::stage::Staged;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::failpoint;
use crate::model::{AuditEntry, Change, IdForm, Intent, Outcome, Run, RunId, State, User};

/// What the realm remembers afterwards; `None` leaves a column as it is.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RealmUpdate {
    /// Of the mapping that was applied.
    pub mapping_hash: Option<String>,
    /// Which directory it is.
    pub directory: Option<String>,
    /// Set only where it is not set yet.
    pub first_applied_at: Option<Timestamp>,
    /// The realm's own clock, milliseconds.
    pub clock_ms: Option<i64>,
    /// When the pass began that was complete.
    pub last_complete_at: Option<Timestamp>,
    /// JSON object: limit → milliseconds.
    pub window_from: Option<String>,
    /// What the servers were seen at.
    pub seen_state: Option<String>,
    /// How the directory prints its ids.
    pub id_form: Option<IdForm>,
    /// Whether something waits for another pass.
    pub due: Option<bool>,
    /// How far the realm has followed its directory.
    pub cursor: CursorUpdate,
    /// JSON: the ways of hearing of changes that were found.
    pub following: Option<String>,
}

/// What becomes of a realm's cursor.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum CursorUpdate {
    /// It stays.
    #[default]
    Same,
    /// From here (JSON).
    At(String),
    /// There is none any more: the next run reads everything.
    Nowhere,
}

/// Everything that [`Store::apply`] writes.
#[derive(Debug)]
pub struct Application<'a> {
    /// With its final outcome and the counters of its plan.
    pub run: &'a Run,
    /// What else the run is known by.
    pub facts: RunFacts,
    /// The realm's memory.
    pub realm: RealmUpdate,
    /// `None`: leave what is refused.
    pub refused: Option<RefusedDiff>,
    /// How messages are made.
    pub messages: &'a MessageContext,
    /// A held plan that this one takes the place of.
    pub replaces: Option<RunId>,
    /// How the plan lies in the store.
    pub staged: Staged,
    /// A line of the audit, and the key that it is written under.
    pub audit: Option<(&'a AuditEntry, &'a AuditKey)>,
}

/// Users that the plan changes.
const CHANGED: &str = "SELECT COUNT(*) FROM staged_users WHERE run = $1 AND base_version > 0";

/// Names that change hands are let go first, so that two users may swap them.
pub(super) const LET_GO: &str = "
    UPDATE users SET username_key = NULL WHERE id IN (
        SELECT s.id FROM staged_users s JOIN users u ON u.id = s.id
        WHERE s.run = $1 AND s.base_version > 0
          AND (s.username_key IS NULL OR s.username_key <> u.username_key OR s.realm <> u.realm
               OR NOT (s.state = 'active' OR COALESCE(s.state_reason, '') = 'disabled')))";

/// What the outbox keeps of a user (`phone_told`, `told`, and the provisioned phone once there is one) may have moved since
/// the plan was made, and is left to it. Whose version is another one by now stays, and is missed in the count.
pub(super) const UPDATE: &str = "
    UPDATE users SET realm = s.realm, directory_id = s.directory_id, entry_uuid = s.entry_uuid, username = s.username,
        username_key = s.username_key, display_name = s.display_name, email = s.email, dn = s.dn, container = s.container,
        phone = s.phone, phone_raw = s.phone_raw, phone_attribute = s.phone_attribute, phone_rule = s.phone_rule,
        phone_source = s.phone_source, phone_pending = s.phone_pending, phone_pending_raw = s.phone_pending_raw,
        phone_pending_until = s.phone_pending_until,
        phone_provisioned = CASE WHEN s.state = 'removed' THEN NULL ELSE COALESCE(users.phone_provisioned, s.phone_provisioned) END,
        phone_told = CASE WHEN s.state = 'removed' THEN NULL ELSE users.phone_told END,
        state = s.state, state_reason = s.state_reason, suspended_at = s.suspended_at, suspended_clock = s.suspended_clock,
        blocked = s.blocked, two_factor = s.two_factor, version = s.version, fingerprint = s.fingerprint, updated_at = s.updated_at,
        origin = s.origin, note = s.note, phone_pending_source = s.phone_pending_source,
        made_by = NULL, made_seq = NULL
    FROM staged_users s WHERE s.run = $1 AND s.base_version > 0 AND s.id = users.id AND s.base_version = users.version";

/// In the order of the plan as it lies there: to ask for it made PostgreSQL sort a file.
const INSERT: &str = concat!(
    "INSERT INTO users (",
    user_columns!(),
    ") SELECT ",
    user_columns!(),
    " FROM staged_users WHERE run = $1 AND base_version = 0"
);

/// The same in a first pass: the rows are the lines of who is made, see the view `lines`.
const MAKE: &str = concat!(
    "INSERT INTO users (",
    user_columns!(),
    ", made_by, made_seq) SELECT ",
    user_columns!(),
    ", run, seq FROM staged_users WHERE run = $1 AND base_version = 0"
);

/// Whoever changes for the first time since then: the line is written while the row still says what was made.
pub(super) const MADE: &str = "
    INSERT INTO changes (run, seq, realm, user_id, username, by_whom, kind, at)
    SELECT u.made_by, u.made_seq, u.realm, u.id, u.username, r.by_whom, 'created', r.started_at
    FROM staged_users s JOIN users u ON u.id = s.id JOIN runs r ON r.id = u.made_by
    WHERE s.run = $1 AND s.base_version > 0";

/// Who is taken over brings along what is still to be said of them: the realm that they leave may be orphaned and send nothing.
const TAKE_ALONG: &str = "
    UPDATE jobs SET realm = (SELECT u.realm FROM users u WHERE u.id = jobs.user_id)
    WHERE state IN ('waiting', 'sending', 'held') AND user_id IN (SELECT id FROM staged_users WHERE run = $1 AND base_version > 0)";

/// From so many new users on, and if there are no more than that already, the indexes on names and directory ids are made anew
/// after the users: sorted once, instead of a random page for each user. For 600,000 that was 5.4 s instead of 10.1 in SQLite.
/// In PostgreSQL this locks `users` until the commit: it is done only if nobody is in the way, and in a plan that changes nobody, so
/// that whoever waits for it has nothing that another waits for.
const SORTED: i64 = 20_000;

/// Personal data of those who are removed goes from the audit trail and the refusals too, and what they proved themselves with. Their
/// hard tokens are assigned to nobody, and need two codes of whoever gets them.
pub(super) const ERASE: [&str; 13] = [
    "DELETE FROM search_pages WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM user_factors WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM recovery_codes WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM authenticators WHERE kind = 'app' AND user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "UPDATE authenticators SET user_id = NULL, two_codes = (1 = 1), state = CASE WHEN state = 'active' THEN 'pending' ELSE state END
     WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM overrides WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM freezes WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM freeze_links WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "DELETE FROM refused_numbers WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "UPDATE changes SET before = NULL, after = NULL, username = NULL WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    "UPDATE audit SET before = NULL, after = NULL, username = NULL WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    // A plan that is held keeps what it was to become of them: it fits them no more, and is decided without it.
    "UPDATE staged_users SET username = '', username_key = NULL, display_name = NULL, email = NULL, dn = NULL, container = NULL, phone = NULL,
        phone_raw = NULL, phone_pending = NULL, phone_pending_raw = NULL, phone_provisioned = NULL, phone_told = NULL, note = NULL, intents = NULL
     WHERE run IN (SELECT id FROM runs WHERE outcome = 'held')
       AND id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')",
    ERASE_REFUSED,
];

/// What is refused of those who are removed, while their rows still say which entry it is of. In the realm that they leave alone:
/// another one over the same directory refuses them for reasons of its own.
const ERASE_REFUSED: &str = "
    DELETE FROM refused WHERE (realm, directory_id) IN (
         SELECT u.realm, u.directory_id FROM staged_users s JOIN users u ON u.id = s.id WHERE s.run = $1 AND s.state = 'removed')";

/// And from the messages, once they are locked.
pub(super) const ERASE_JOBS: &str = "
    UPDATE jobs SET username = '', name_key = '', old_name_key = NULL, phone = NULL, body = NULL
    WHERE state NOT IN ('waiting', 'sending', 'held') AND user_id IN (SELECT id FROM staged_users WHERE run = $1 AND state = 'removed')";

/// The marks of those who have an entry, and will have none by this plan.
const FORGET_GIVEN: &str = "
    DELETE FROM adoptions WHERE user_id IN (
        SELECT s.id FROM staged_users s JOIN users u ON u.id = s.id
        WHERE s.run = $1 AND s.directory_id IS NULL AND u.directory_id IS NOT NULL)";

const REALM: &str = "
    UPDATE realms SET mapping_hash = COALESCE($2, mapping_hash), directory = COALESCE($3, directory),
        first_applied_at = COALESCE(first_applied_at, $4), clock_ms = COALESCE($5, clock_ms),
        last_complete_at = COALESCE($6, last_complete_at), window_from = COALESCE($7, window_from),
        seen_state = COALESCE($8, seen_state), due = COALESCE($9, due), id_form = COALESCE($12, id_form),
        cursor = CASE WHEN $13 THEN $14 ELSE cursor END, following = COALESCE($15, following),
        kind = CASE WHEN $4 IS NULL THEN kind ELSE 'directory' END, hand_kind = CASE WHEN $4 IS NULL THEN hand_kind END,
        held = CASE WHEN held = $10 OR held = $11 THEN NULL ELSE held END
    WHERE id = $1";

/// Drops the indexes that many new users would slow down; gives the statements that make them again.
async fn set_indexes_aside(tx: &mut Tx, new: i64, changed: i64) -> Result<Vec<String>, StoreError> {
    const THERE: &str = "SELECT COUNT(*) FROM users";
    const SQLITE: &str = "SELECT sql FROM sqlite_schema WHERE name IN ('users_name', 'users_directory_id', 'users_made')";
    const POSTGRES: &str = "
        SELECT indexdef FROM pg_indexes
        WHERE schemaname = current_schema() AND indexname IN ('users_name', 'users_directory_id', 'users_made')";
    if new < SORTED {
        return Ok(vec![]);
    }
    let failed = StoreError::from_sqlx("set indexes aside");
    let there = on!(tx, c => sqlx::query_scalar::<_, i64>(THERE).fetch_one(&mut *c).await)
        .map_err(&failed)?;
    if there > new {
        return Ok(vec![]);
    }
    if let EngineConnection::Postgres(c) = tx.side() {
        const TRIES: u32 = 25;
        if changed > 0
            || !super::swap::postgres::lock(c, "users", TRIES)
                .await
                .map_err(&failed)?
        {
            return Ok(vec![]);
        }
    }
    let sql = match tx.side() {
        EngineConnection::Sqlite(_) => SQLITE,
        EngineConnection::Postgres(_) => POSTGRES,
    };
    let indexes = on!(tx, c => sqlx::query_scalar::<_, String>(sql).fetch_all(&mut *c).await)
        .map_err(&failed)?;
    for sql in [
        "DROP INDEX users_name",
        "DROP INDEX users_directory_id",
        "DROP INDEX users_made",
    ] {
        on!(tx, c => sqlx::query(sql).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
    }
    Ok(indexes)
}

impl Store {
    /// Applies a plan whole; gives the run with the number of messages that were made. Notes who asked.
    pub async fn apply(&self, a: Application<'_>) -> Result<Run, StoreError> {
        let id = a.run.run.0.as_bytes().to_vec();
        let now = a.run.decided_at.unwrap_or(a.run.started_at);
        let mut run = a.run.clone();
        failpoint::hit("apply.before");
        let aside = a.staged.aside;
        if aside {
            self.index_aside(run.run).await?;
            failpoint::hit("apply.indexed");
        }
        let mut tx = self.db.begin().await?;
        super::stage::analyze(&mut tx, &run).await?;
        let staged = on!(tx, c => sqlx::query_scalar::<_, i64>(CHANGED).bind(id.clone()).fetch_one(&mut *c).await).map_err(StoreError::from_sqlx("compare a plan"))?;
        if let Some(given) = a.staged.changed
            && given != staged
        {
            return Err(StoreError::Forgotten {
                there: staged,
                given,
            });
        }
        let erase: &[&'static str] = if run.removed > 0 { &ERASE } else { &[] };
        if staged > 0 || a.facts.undoes.is_some() {
            locks::users_of_plan(&mut tx, run.run, a.facts.undoes).await?;
        }
        if staged > 0 {
            freezes::guard(&mut tx, &id, true).await?;
            endings::with_stage(&mut tx, &id, now, a.messages.revoke_at_once).await?;
            search::log::changed(&mut tx, &id).await?;
            // Who gives an entry back by an undo is not given it again by the next pass.
            let given: &[&'static str] = if a.facts.undoes.is_some() {
                &[FORGET_GIVEN]
            } else {
                &[]
            };
            for sql in [MADE]
                .iter()
                .chain(erase)
                .chain(given)
                .copied()
                .chain([LET_GO])
            {
                on!(tx, c => sqlx::query(sql).bind(id.clone()).execute(&mut *c).await.map(|_| ()))
                    .map_err(StoreError::from_sqlx("change users"))?;
            }
            let changed = on!(tx, c => sqlx::query(UPDATE).bind(id.clone()).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::taken("change users"))?;
            if changed != staged.unsigned_abs() {
                return Err(StoreError::Conflict(staged.unsigned_abs() - changed));
            }
        }
        let placed = if aside {
            super::aside::take_place(&mut tx, run.run, &run.realm).await?
        } else {
            None
        };
        let indexes = match placed {
            Some(_) => vec![],
            None => set_indexes_aside(&mut tx, run.created, staged).await?,
        };
        let filled = aside && placed.is_none();
        let placed = match placed {
            None if aside => super::aside::fill(&mut tx, run.run).await?,
            placed => placed.unwrap_or(0),
        };
        let insert = if a.facts.first_pass { MAKE } else { INSERT };
        let created = placed + on!(tx, c => sqlx::query(insert).bind(id.clone()).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::taken("add users"))?;
        for sql in indexes {
            on!(tx, c => sqlx::query(AssertSqlSafe(sql)).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::taken("add users"))?;
        }
        if a.staged.changed.is_some() && created != a.staged.made.unsigned_abs() {
            return Err(StoreError::Forgotten {
                there: created.cast_signed(),
                given: a.staged.made,
            });
        }
        if created != run.created.unsigned_abs() {
            return Err(StoreError::Nonsense(format!(
                "{created} users were staged to be created, and {} counted",
                run.created
            )));
        }
        search::log::made(&mut tx, &id, run.created, aside).await?;
        failpoint::hit("apply.after-users");
        let settles = a.facts.undoes.is_some() || a.replaces.is_some() || !a.run.held_by.is_empty();
        if staged > 0 || settles {
            locks::realm(&mut tx, &run.realm).await?;
            let decided: Vec<RunId> = a.replaces.into_iter().chain([run.run]).collect();
            locks::runs(&mut tx, &decided).await?;
            let held = settles.then_some(&run.realm);
            locks::jobs_of_plan(&mut tx, run.run, a.facts.undoes, held).await?;
        }
        if run.removed > 0 {
            on!(tx, c => sqlx::query(ERASE_JOBS).bind(id.clone()).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("erase messages"))?;
        }
        if let Some(undone) = a.facts.undoes {
            // Before anything new is said: what the other run wanted said must not go out any more.
            super::undone::drop_jobs(&mut tx, undone, now).await?;
        }
        if run.moved > 0 {
            on!(tx, c => sqlx::query(TAKE_ALONG).bind(id.clone()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("take messages along"))?;
        }
        run.jobs = self.say(&mut tx, a.run.run, a.messages).await?;
        failpoint::hit("apply.after-jobs");
        if let Some(diff) = a.refused {
            super::refused::write(&mut tx, &run.realm, diff, now).await?;
        }
        if let Some(old) = a.replaces {
            replace_held(&mut tx, old, run.run, &run.realm, true, now).await?;
        } else if !a.run.held_by.is_empty() {
            // An approved plan: what the brake kept waiting goes on.
            release_brake(&mut tx, &run.realm, now).await?;
        }
        let r = a.realm;
        let (moves, cursor) = match r.cursor {
            CursorUpdate::Same => (false, None),
            CursorUpdate::At(cursor) => (true, Some(cursor)),
            CursorUpdate::Nowhere => (true, None),
        };
        let rows = on!(tx, c => sqlx::query(REALM).bind(run.realm.as_str()).bind(r.mapping_hash).bind(r.directory).bind(r.first_applied_at.map(|t| t.0))
            .bind(r.clock_ms).bind(r.last_complete_at.map(|t| t.0)).bind(r.window_from).bind(r.seen_state).bind(r.due).bind(id.clone())
            .bind(a.replaces.map(|o| o.0.as_bytes().to_vec())).bind(r.id_form.map(IdForm::as_str)).bind(moves).bind(cursor).bind(r.following).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("write a realm"))?;
        if rows != 1 {
            return Err(StoreError::Nonsense(format!(
                "realm `{}` is not in the store any more",
                run.realm
            )));
        }
        write_run(&mut tx, &run, &a.facts).await?;
        if a.facts.undoes.is_some() {
            super::undone::release(&mut tx, now).await?;
            if super::pause::undoes_import(&mut tx, run.run).await? {
                // No directory says otherwise, so that no pass would do it again.
            } else if run.outcome == Outcome::Applied {
                // The directory still says the opposite: no pass runs before the administrator has looked.
                super::pause::pause_for_undo(&mut tx, &run.realm, run.run, a.replaces, now).await?;
            } else if let Some(old) = a.replaces {
                // Nothing is left to put back, and so nothing to wait for.
                super::pause::end_pause_of_undo(&mut tx, &run.realm, old, now).await?;
            }
        }
        super::sweep::forget_staged(&mut tx, run.run).await?;
        if let (Tx::Postgres(_), true) = (&tx, run.created >= super::stage::MANY) {
            const FEW: &str = "SET LOCAL default_statistics_target = 10";
            const ANALYZE: &str =
                "ANALYZE users (pk, id, realm, directory_id, username_key, state, state_reason)";
            // Without statistics the planner reads the whole table for every page of the next pass.
            for sql in [FEW, ANALYZE] {
                on!(tx, c => sqlx::query(sql).execute(&mut *c).await.map(|_| ()))
                    .map_err(StoreError::from_sqlx("analyze users"))?;
            }
        }
        if let Some((entry, key)) = a.audit {
            append(&mut tx, key, entry).await?;
        }
        self.note(&mut tx).await?;
        failpoint::hit("apply.before-commit");
        tx.commit().await?;
        failpoint::hit("apply.after-commit");
        if filled && let Err(error) = self.forget_aside(run.run).await {
            // The plan is applied, whatever becomes of what is left of it.
            tracing::warn!(run = %run.run, "what is left of a first load stays for the next sweep: {error}");
        }
        Ok(run)
    }

    /// Makes the plan's messages, in the order of the plan.
    async fn say(
        &self,
        tx: &mut Tx,
        run: RunId,
        messages: &MessageContext,
    ) -> Result<i64, StoreError> {
        const BATCH: i64 = 500;
        let (mut made, mut after) = (0, 0);
        loop {
            let staged = Self::staged_with_intents(tx, run, after, BATCH).await?;
            let Some(last) = staged.last() else {
                return Ok(made);
            };
            after = last.seq;
            for one in staged {
                made += apply_intents(tx, messages, &one.user, &one.intents).await?;
            }
        }
    }

    /// Changes one user outside of a run (a hold that is over), by the same rules. Notes it.
    pub async fn act(
        &self,
        changes: &[Change],
        user: &User,
        base_version: i64,
        intents: &[Intent],
        messages: &MessageContext,
    ) -> Result<(), StoreError> {
        debug_assert_ne!(user.state, State::Removed, "an act erases, see `by_hand`");
        let mut tx = self.db.begin().await?;
        write_one(&mut tx, user, base_version, messages).await?;
        unstage_one(&mut tx, user).await?;
        super::changes::add_own(&mut tx, changes).await?;
        apply_intents(&mut tx, messages, user, intents).await?;
        self.note(&mut tx).await?;
        tx.commit().await
    }
}

/// Writes one user as a run of one would, with what ends by that, over a stage under the user's own id, which stays for [`unstage_one`].
pub(super) async fn write_one(
    tx: &mut Tx,
    user: &User,
    base_version: i64,
    messages: &MessageContext,
) -> Result<(), StoreError> {
    const STAGE: &str = concat!(
        "INSERT INTO staged_users (run, seq, base_version, intents, ",
        user_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, \
         $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40)"
    );
    let stage = user.id.0.as_bytes().to_vec();
    let container = user.dn.as_deref().and_then(crate::model::dn::container);
    on!(tx, c => {
        let query = sqlx::query(STAGE).bind(stage.clone()).bind(1_i64).bind(base_version).bind(None::<String>);
        bind_user!(query, user, container).execute(&mut *c).await.map(|_| ())
    })
    .map_err(StoreError::taken("stage a user"))?;
    if base_version > 0 {
        locks::users_of_plan(tx, RunId(user.id.0), None).await?;
        freezes::guard(tx, &stage, false).await?;
        endings::with_stage(tx, &stage, messages.now, messages.revoke_at_once).await?;
        search::log::changed(tx, &stage).await?;
    } else {
        search::log::made(tx, &stage, 1, false).await?;
    }
    let statements: &[&'static str] = if base_version == 0 {
        &[INSERT]
    } else if user.state == State::Removed {
        &[MADE, ERASE_REFUSED, LET_GO, UPDATE]
    } else {
        &[MADE, LET_GO, UPDATE]
    };
    let mut rows = 0;
    for sql in statements.iter().copied() {
        rows = on!(tx, c => sqlx::query(sql).bind(stage.clone()).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::taken("change a user"))?;
    }
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict(1))
    }
}

/// Takes away what [`write_one`] staged.
pub(super) async fn unstage_one(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    const DELETE: &str = "DELETE FROM staged_users WHERE run = $1";
    on!(tx, c => sqlx::query(DELETE).bind(user.id.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("change a user"))
}
