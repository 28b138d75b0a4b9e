//! Links of the application that an operation makes and takes back, and guesses that it forgets: what it does to users without changing
//! them.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use super::key;
use crate::clock::Timestamp;
use crate::model::{
    Enrolment, EnrolmentId, Intent, JobReason, OperationBatch, OperationId, RunId, User, UserId,
};
use crate::store::answer::answered;
use crate::store::db::{EngineConnection, Tx, on};
use crate::store::enrolments::{SentRow, enrolment_columns, pass_on};
use crate::store::freezes::frozen_of;
use crate::store::outbox::{MessageContext, apply_intents, without_links};
use crate::store::rows::{bytes, places, uuid};
use crate::store::{Store, StoreError};

/// Users in one statement.
const LIST: usize = 500;

/// What becomes of the links of those who are staged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum BatchLinks {
    /// Nothing.
    #[default]
    Stay,
    /// Each is sent a link of their own.
    Send {
        /// The former application is lost, and is not asked for.
        lost: bool,
        /// Who had the application before: their links live shorter.
        again: HashSet<UserId>,
    },
    /// Open links are void.
    Withdraw,
    /// Open links that the operation of this run made are void.
    WithdrawSent(RunId),
}

/// Says what is to be said to each; where nothing is delivered, whoever asked passes the link on. Gives the number of messages.
pub(super) async fn send(
    tx: &mut Tx,
    batch: &OperationBatch,
    said: &[(User, Vec<Intent>)],
    messages: &MessageContext,
    (lost, again): (bool, &HashSet<UserId>),
    by: Option<&str>,
) -> Result<i64, StoreError> {
    // Earlier links are void by now: those that are open and of now are the new ones.
    macro_rules! new {
        () => {
            "state = 'open' AND created_at = $2 AND user_id IN (SELECT id FROM staged_users WHERE run = $1)"
        };
    }
    const WHO: &str = concat!(
        "UPDATE enrolments SET by_whom = $3, lost = $4 WHERE ",
        new!()
    );
    const NOTE: &str = concat!(
        "INSERT INTO operation_enrolments (operation, enrolment) SELECT $3, id FROM enrolments WHERE ",
        new!()
    );
    const LOST: &str = "INSERT INTO notices (user_id, reason, at) SELECT id, $2, $3 FROM staged_users WHERE run = $1";
    const FROZEN: &str = "SELECT COUNT(*) FROM freezes WHERE user_id IN (SELECT id FROM staged_users WHERE run = $1)";
    // Whoever froze themselves a moment ago is decided about anew.
    let frozen = on!(tx, c => sqlx::query_scalar::<_, i64>(FROZEN).bind(bytes(batch.run)).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("look whether users are frozen"))?;
    if frozen > 0 {
        return Err(StoreError::Conflict(frozen.unsigned_abs()));
    }
    let mut shorter = messages.clone();
    if let Some(context) = shorter.enrolment.as_mut() {
        context.valid_ms = context.valid_again_ms;
    }
    let mut jobs = 0;
    for (user, intents) in said {
        let messages = if again.contains(&user.id) {
            &shorter
        } else {
            messages
        };
        jobs += apply_intents(tx, messages, user, intents).await?;
        if !messages.delivers {
            pass_on(tx, messages, user, intents).await?;
        }
    }
    let run = bytes(batch.run);
    let now = messages.now.0;
    on!(tx, c => sqlx::query(WHO).bind(run.clone()).bind(now).bind(by.map(str::to_owned)).bind(lost).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("make enrolments"))?;
    on!(tx, c => sqlx::query(NOTE).bind(run).bind(now).bind(key(batch.operation)).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("note enrolments"))?;
    if lost {
        on!(tx, c => sqlx::query(LOST).bind(bytes(batch.run)).bind(JobReason::ApplicationLost.as_str()).bind(now).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("note notices"))?;
    }
    Ok(jobs)
}

/// Voids open links of those who are staged, all or those that the operation of one run made, and drops messages that carry one and were
/// not sent. One that tells another number stays, without the link, unless it is that run's own.
pub(super) async fn withdraw(
    tx: &mut Tx,
    (run, users): (RunId, &[UserId]),
    of: Option<RunId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    macro_rules! open {
        () => {
            "state = 'open' AND user_id IN (SELECT id FROM staged_users WHERE run = $1)"
        };
    }
    macro_rules! sent {
        () => {
            concat!(
                open!(),
                " AND id IN (SELECT e.enrolment FROM operation_enrolments e JOIN operation_runs r ON r.operation = e.operation WHERE r.run = $2)"
            )
        };
    }
    macro_rules! drop {
        ($now:literal, $kinds:literal, $links:expr) => {
            concat!(
                "UPDATE jobs SET state = 'dropped', body = NULL, held_by = NULL, held_since = NULL, last_error = 'withdrawn', settled_at = ",
                $now,
                " WHERE state IN ('waiting', 'held') AND NOT uncertain AND user_id IN (SELECT id FROM staged_users WHERE run = $1)",
                $kinds,
                " AND enrolment IN (SELECT id FROM enrolments WHERE ",
                $links,
                ")"
            )
        };
    }
    const DROP_ALL: &str = drop!("$2", " AND type <> 'user.reprovision'", open!());
    const DROP_SENT: &str = drop!("$3", "", sent!());
    const VOID_ALL: &str = concat!("UPDATE enrolments SET state = 'void' WHERE ", open!());
    const VOID_SENT: &str = concat!("UPDATE enrolments SET state = 'void' WHERE ", sent!());
    let (drop, void) = match of {
        Some(_) => (DROP_SENT, VOID_SENT),
        None => (DROP_ALL, VOID_ALL),
    };
    let of = of.map(bytes);
    on!(tx, c => {
        let mut query = sqlx::query(drop).bind(bytes(run));
        if let Some(of) = of.clone() { query = query.bind(of); }
        query.bind(now.0).execute(&mut *c).await.map(|_| ())
    })
    .map_err(StoreError::from_sqlx("drop messages"))?;
    // The messages of one run are dropped whole; others keep their links.
    if of.is_none() {
        for user in users {
            without_links(tx, *user).await?;
        }
    }
    on!(tx, c => {
        let mut query = sqlx::query(void).bind(bytes(run));
        if let Some(of) = of { query = query.bind(of); }
        query.execute(&mut *c).await.map(|_| ())
    })
    .map_err(StoreError::from_sqlx("void enrolments"))
}

/// Lets those of a batch who are locked, or in a delay, guess again; gives how many they were.
pub(super) async fn unlock(
    tx: &mut Tx,
    batch: &OperationBatch,
    now: Timestamp,
) -> Result<i64, StoreError> {
    macro_rules! held_back {
        () => {
            "(locked_at IS NOT NULL OR in_a_row > 0) AND user_id IN (SELECT user_id FROM operation_users WHERE operation = $1 AND seq > $2 AND seq <= $3)"
        };
    }
    // In the order in which verifications lock them.
    const LOCK: &str = concat!(
        "SELECT user_id FROM user_factors WHERE ",
        held_back!(),
        " ORDER BY user_id FOR UPDATE"
    );
    const SQL: &str = concat!(
        "UPDATE user_factors SET in_a_row = 0, failed_at = NULL, locked_at = NULL, counted_from = $4 WHERE ",
        held_back!()
    );
    let id = key(batch.operation);
    let until = batch.done + i64::try_from(batch.users.len()).unwrap_or(i64::MAX);
    if let EngineConnection::Postgres(c) = tx.side() {
        let locking = sqlx::query(LOCK)
            .bind(id.clone())
            .bind(batch.done)
            .bind(until);
        answered(locking.execute(c))
            .await
            .map_err(StoreError::from_sqlx("unlock users"))?;
    }
    let rows = on!(tx, c => sqlx::query(SQL).bind(id).bind(batch.done).bind(until).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("unlock users"))?;
    Ok(rows.cast_signed())
}

impl Store {
    /// Those of these users who had the application before.
    pub async fn had_application(&self, users: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        let of = |places: &str| {
            format!(
                "SELECT DISTINCT user_id FROM authenticators WHERE kind = 'app' AND activated_at IS NOT NULL AND user_id IN ({places})"
            )
        };
        self.among(users, of, None).await
    }

    /// Those of these users who are frozen: nothing is sent to them.
    pub async fn frozen_among(&self, users: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        self.among(users, frozen_of, None).await
    }

    /// Those of these users who have an open link.
    pub async fn with_open_links(
        &self,
        users: &[UserId],
        now: Timestamp,
    ) -> Result<HashSet<UserId>, StoreError> {
        let of = |places: &str| {
            format!(
                "SELECT DISTINCT user_id FROM enrolments WHERE state = 'open' AND expires_at > {} AND user_id IN ({places})",
                now.0
            )
        };
        self.among(users, of, None).await
    }

    /// Of these users those to whom the operation of a run sent a link, and whether it is open still.
    pub async fn sent_by_run(
        &self,
        users: &[UserId],
        run: RunId,
    ) -> Result<(HashSet<UserId>, HashSet<UserId>), StoreError> {
        let of = |open: &'static str| {
            move |places: &str| {
                format!(
                    "SELECT DISTINCT l.user_id FROM operation_runs r JOIN operation_enrolments e ON e.operation = r.operation
                     JOIN enrolments l ON l.id = e.enrolment WHERE r.run = $1 AND l.user_id IN ({places}){open}"
                )
            }
        };
        Ok((
            self.among(users, of(""), Some(run)).await?,
            self.among(users, of(" AND l.state = 'open'"), Some(run))
                .await?,
        ))
    }

    /// Those of these users whom a statement finds, which is given the places of some of them; `$1` is the run, if there is one.
    async fn among(
        &self,
        users: &[UserId],
        statement: impl Fn(&str) -> String,
        run: Option<RunId>,
    ) -> Result<HashSet<UserId>, StoreError> {
        let mut found = HashSet::new();
        let mut link = self.db.read().await?;
        let first = if run.is_some() { 2 } else { 1 };
        for users in users.chunks(LIST) {
            let sql = statement(&places(first, users.len()));
            let ids = on!(link, c => {
                let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql));
                if let Some(run) = run { query = query.bind(bytes(run)); }
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("look for links"))?;
            for id in ids {
                found.insert(UserId(uuid(&id)?));
            }
        }
        Ok(found)
    }

    /// Links that an operation made and that are open still, in the order of their ids, behind one of them.
    pub async fn operation_links(
        &self,
        id: OperationId,
        after: Option<EnrolmentId>,
        limit: i64,
    ) -> Result<Vec<Enrolment>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            enrolment_columns!(),
            " FROM enrolments WHERE state = 'open' AND id IN (SELECT enrolment FROM operation_enrolments WHERE operation = $1)
              AND id > $2 ORDER BY id LIMIT $3"
        );
        let after = after.map_or_else(|| vec![0; 16], |id| id.0.as_bytes().to_vec());
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, SentRow>(SQL).bind(key(id)).bind(after).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read enrolments"))?;
        rows.into_iter().map(Enrolment::try_from).collect()
    }
}
