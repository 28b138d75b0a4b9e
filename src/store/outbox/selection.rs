//! What an administrator, the brake and a restored copy do to waiting jobs.

use sqlx::AssertSqlSafe;

use super::locks::{self, in_order};
use super::{JobRow, job_columns, text};
use crate::clock::Timestamp;
use crate::model::{Job, JobId, JobState, JobType, RealmId, UserId};
use crate::store::db::{Tx, on};
use crate::store::rows::{note_unreadable, readable};
use crate::store::typed_id;
use crate::store::{Store, StoreError};

/// Messages of a list that are read at once.
const PAGE: i64 = 1000;

/// Which jobs are meant. Empty lists and `None` mean any.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct JobSelection {
    /// These ids only.
    pub ids: Vec<JobId>,
    /// Of this realm.
    pub realm: Option<RealmId>,
    /// About this user.
    pub user: Option<UserId>,
    /// Of these types.
    pub types: Vec<JobType>,
    /// In these states.
    pub states: Vec<JobState>,
}

/// What is done to the selected jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobAction {
    /// Waiting ones are tried now; dead and refused ones too, with a new `retry-for` of this many milliseconds, unless the user was told
    /// something newer meanwhile.
    Retry {
        /// The new `retry-for` of dead and refused jobs.
        retry_for_ms: i64,
    },
    /// Waiting, held, dead and refused ones are dropped.
    Drop,
    /// Waiting ones are put on hold.
    Hold,
    /// Held ones go on, whoever held them.
    Release,
}

impl JobSelection {
    /// The selection as a condition: only words of our own go into the text.
    fn condition(&self) -> String {
        format!(
            "($1 IS NULL OR id = $1) AND ($2 IS NULL OR realm = $2) AND ($3 IS NULL OR user_id = $3){}",
            self.words()
        )
    }

    /// Types and states as the rest of a condition.
    fn words(&self) -> String {
        let list = |words: Vec<&str>| {
            words
                .iter()
                .map(|w| format!("'{w}'"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut sql = String::new();
        if !self.types.is_empty() {
            sql += " AND type IN (";
            sql += &list(self.types.iter().map(|t| t.as_str()).collect());
            sql += ")";
        }
        if !self.states.is_empty() {
            sql += " AND state IN (";
            sql += &list(self.states.iter().map(|s| s.as_str()).collect());
            sql += ")";
        }
        sql
    }

    /// Locks what an act may change, with what stands behind a retried message; also what is being sent, since it may wait by the time
    /// that the act comes to it.
    async fn lock(&self, tx: &mut Tx, act: JobAction) -> Result<(), StoreError> {
        let mut chosen = String::from(
            "($1::text IS NULL OR realm = $1) AND ($2::bytea IS NULL OR user_id = $2) AND (cardinality($3::bytea[]) = 0 OR id = ANY($3))
             AND state NOT IN ('delivered', 'dropped')",
        );
        chosen += &self.words();
        if matches!(act, JobAction::Retry { .. }) {
            chosen = format!(
                "{chosen} OR state NOT IN ('delivered', 'dropped') AND user_id IN (SELECT user_id FROM jobs WHERE {chosen})"
            );
        }
        let ids: Vec<Vec<u8>> = self.keys().into_iter().flatten().collect();
        let user = self.user.as_ref().map(|u| u.0.as_bytes().as_slice());
        locks::jobs(tx, &chosen, self.realm.as_ref(), user, &ids).await
    }

    /// The ids, or once "any".
    fn keys(&self) -> Vec<Option<Vec<u8>>> {
        if self.ids.is_empty() {
            vec![None]
        } else {
            self.ids
                .iter()
                .map(|id| Some(id.0.as_bytes().to_vec()))
                .collect()
        }
    }
}

impl Store {
    /// Selected jobs in the order of their making, at most `limit`.
    pub async fn jobs(&self, which: &JobSelection, limit: i64) -> Result<Vec<Job>, StoreError> {
        let mut jobs: Vec<Job> = Vec::new();
        for key in which.keys() {
            jobs.extend(readable::<_, Job>(self.page(which, key, 0, limit).await?));
        }
        jobs.sort_unstable_by_key(|job| job.seq);
        jobs.truncate(usize::try_from(limit).unwrap_or(0));
        Ok(jobs)
    }

    /// The same of all, one after the other (by each of the ids, if there are any). Read page by page, so that nothing is open in the
    /// store while somebody looks at them, and nobody holds all of them.
    pub async fn jobs_each(
        &self,
        which: &JobSelection,
        mut each: impl FnMut(Job),
    ) -> Result<(), StoreError> {
        for key in which.keys() {
            let mut after = 0;
            loop {
                let rows = self.page(which, key.clone(), after, PAGE).await?;
                let Some(last) = rows.last() else { break };
                after = last.seq;
                readable::<_, Job>(rows).into_iter().for_each(&mut each);
            }
        }
        Ok(())
    }

    /// At most `limit` rows of one key, by their place after `after`.
    async fn page(
        &self,
        which: &JobSelection,
        key: Option<Vec<u8>>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<JobRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM jobs WHERE {} AND seq > $4 ORDER BY seq LIMIT $5",
            job_columns!(),
            which.condition()
        );
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_as::<_, JobRow>(AssertSqlSafe(sql))
            .bind(key)
            .bind(which.realm.as_ref().map(RealmId::as_str))
            .bind(which.user.map(|u| u.0.as_bytes().to_vec()))
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *c)
            .await)
        .map_err(StoreError::from_sqlx("list messages"))
    }

    /// The ids of selected jobs that begin or end so, as many as there are: more than one are not one. Reads no bodies.
    pub async fn job_ids(
        &self,
        typed: &str,
        which: &JobSelection,
    ) -> Result<Vec<JobId>, StoreError> {
        let Some(digits) = typed_id::digits(typed) else {
            return Ok(Vec::new());
        };
        let mut link = self.db.read().await?;
        let condition = which.words();
        let ids = typed_id::ids_like(&mut link, "jobs", &condition, &digits, which.realm.as_ref());
        Ok(ids.await?.into_iter().map(JobId).collect())
    }

    /// How many jobs there are in each state, in a realm or in all; states without any are left out.
    pub async fn outbox_counts(
        &self,
        realm: Option<&RealmId>,
    ) -> Result<Vec<(JobState, i64)>, StoreError> {
        const SQL: &str =
            "SELECT state, COUNT(*) FROM jobs WHERE ($1 IS NULL OR realm = $1) GROUP BY state";
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (String, i64)>(SQL).bind(realm.map(RealmId::as_str)).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("count messages"))?;
        let mut counts = rows
            .into_iter()
            .filter_map(|(state, n)| {
                let state = super::word(&state).inspect_err(note_unreadable).ok()?;
                Some((state, n))
            })
            .collect::<Vec<(JobState, i64)>>();
        counts.sort_unstable_by_key(|(state, _)| *state);
        Ok(counts)
    }

    /// Retries, drops, holds or releases the selected jobs whose state allows it; gives their ids. What is being sent is left alone. Notes
    /// who asked, where there are any.
    pub async fn outbox_act(
        &self,
        act: JobAction,
        which: &JobSelection,
        now: Timestamp,
    ) -> Result<Vec<JobId>, StoreError> {
        let set = match act {
            JobAction::Retry { .. } => {
                "state = 'waiting', next_attempt_at = $4, settled_at = NULL,
                 give_up_at = CASE WHEN state IN ('dead', 'final') THEN $4 + $5 ELSE give_up_at END
                 WHERE (state = 'waiting' OR state IN ('dead', 'final') AND body IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM jobs n WHERE n.user_id = jobs.user_id AND n.seq > jobs.seq AND (n.state IN ('delivered', 'sending') OR n.uncertain)))"
            }
            JobAction::Drop => {
                "state = 'dropped', body = NULL, held_by = NULL, held_since = NULL, last_error = 'dropped by an administrator', settled_at = $4
                 WHERE state IN ('waiting', 'held', 'dead', 'final') AND $5 = $5"
            }
            JobAction::Hold => "state = 'held', held_by = 'administrator', held_since = $4 WHERE state = 'waiting' AND $5 = $5",
            JobAction::Release => {
                "state = CASE WHEN state = 'held' THEN 'waiting' ELSE state END, next_attempt_at = $4,
                 give_up_at = give_up_at + CASE WHEN held_since < $4 THEN $4 - held_since ELSE 0 END, held_by = NULL, held_since = NULL
                 WHERE held_by IS NOT NULL AND $5 = $5"
            }
        };
        let sql = format!(
            "UPDATE jobs SET {set} AND {} RETURNING id",
            which.condition()
        );
        let retry_for_ms = if let JobAction::Retry { retry_for_ms } = act {
            retry_for_ms
        } else {
            0
        };
        let mut tx = self.db.begin().await?;
        which.lock(&mut tx, act).await?;
        let mut done = Vec::new();
        for key in which.keys() {
            let rows = on!(tx, c => sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql.clone()))
                .bind(key)
                .bind(which.realm.as_ref().map(RealmId::as_str))
                .bind(which.user.map(|u| u.0.as_bytes().to_vec()))
                .bind(now.0)
                .bind(retry_for_ms)
                .fetch_all(&mut *c)
                .await)
            .map_err(StoreError::from_sqlx("change messages"))?;
            for row in rows {
                done.push(JobId(super::id(&row)?));
            }
        }
        if matches!(act, JobAction::Retry { .. }) {
            bring_forward(&mut tx, &done, now).await?;
        }
        if !done.is_empty() {
            self.note_count(&mut tx, "messages", done.len()).await?;
        }
        tx.commit().await?;
        Ok(done)
    }
}

/// What stands behind a retried job of the same user is due with it.
async fn bring_forward(tx: &mut Tx, jobs: &[JobId], now: Timestamp) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE jobs SET next_attempt_at = $2
        WHERE state = 'waiting' AND next_attempt_at > $2 AND user_id = (SELECT user_id FROM jobs WHERE id = $1)";
    for job in jobs {
        on!(tx, c => sqlx::query(SQL).bind(job.0.as_bytes().as_slice()).bind(now.0).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("bring messages forward"))?;
    }
    Ok(())
}

/// The brake tripped: waiting jobs of these types stay until the plan is decided; what is being sent joins them if it comes back.
pub(in crate::store) async fn set_waiting_on_hold(
    tx: &mut Tx,
    realm: &RealmId,
    types: &[JobType],
    now: Timestamp,
) -> Result<u64, StoreError> {
    const SQL: &str = "
        UPDATE jobs SET state = CASE WHEN state = 'waiting' THEN 'held' ELSE state END, held_by = 'brake', held_since = $3
        WHERE realm = $1 AND type = $2 AND state IN ('waiting', 'sending') AND held_by IS NULL";
    let words: Vec<String> = types.iter().map(|t| format!("'{t}'")).collect();
    if words.is_empty() {
        return Ok(0);
    }
    let chosen = format!(
        "realm = $1 AND type IN ({}) AND state NOT IN ('delivered', 'dropped')",
        words.join(", ")
    );
    locks::jobs(tx, &chosen, Some(realm), None, &[]).await?;
    let mut held = 0;
    for kind in types {
        held += on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(kind.as_str()).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("hold messages"))?;
    }
    Ok(held)
}

/// The plan was approved, or replaced by one that passes: what the brake held goes on.
pub(in crate::store) async fn release_brake(
    tx: &mut Tx,
    realm: &RealmId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    const SQL: (&str, &str) = in_order!(
        "state = CASE WHEN state = 'held' THEN 'waiting' ELSE state END, next_attempt_at = $2,
         give_up_at = give_up_at + CASE WHEN held_since < $2 THEN $2 - held_since ELSE 0 END, held_by = NULL, held_since = NULL",
        "realm = $1 AND state IN ('held', 'sending') AND held_by = 'brake'",
        ""
    );
    let sql = text(tx, SQL.0, SQL.1);
    on!(tx, c => sqlx::query(sql).bind(realm.as_str()).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("release messages"))
}

/// The plan was rejected, or expired: what the brake held is the administrator's now, and no later plan lets it go.
pub(in crate::store) async fn keep_on_hold(tx: &mut Tx, realm: &RealmId) -> Result<(), StoreError> {
    const SQL: (&str, &str) = in_order!(
        "held_by = 'rejected'",
        "realm = $1 AND state IN ('held', 'sending') AND held_by = 'brake'",
        ""
    );
    let sql = text(tx, SQL.0, SQL.1);
    on!(tx, c => sqlx::query(sql).bind(realm.as_str()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("keep messages on hold"))
}

/// The store is a copy: all that is open stays until an administrator releases it, since the original may have sent it (TRAPS 24).
pub(in crate::store) async fn hold_copy(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    const SQL: (&str, &str) = in_order!(
        "held_since = CASE WHEN state = 'held' THEN held_since ELSE $1 END,
         uncertain = CASE WHEN state = 'sending' THEN $2 ELSE uncertain END,
         state = 'held', held_by = 'copy', lease_until = NULL, leased_by = NULL",
        "state IN ('waiting', 'sending', 'held')",
        ""
    );
    let sql = text(tx, SQL.0, SQL.1);
    on!(tx, c => sqlx::query(sql).bind(now.0).bind(true).execute(&mut *c).await.map(|r| r.rows_affected())).map_err(StoreError::from_sqlx("hold a copy's messages"))
}
