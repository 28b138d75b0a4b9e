//! Taking jobs: by lease, in batches, in order for each user and each name.
//!
//! The clock of leases is the database's on PostgreSQL, since daemons on several machines share them; of an SQLite file the one
//! daemon's own. When a message is due stays a matter of the daemon's clock.

use std::time::Duration;

use super::locks::in_order;
use super::settle::{UserNow, put_aside};
use super::{JobRow, job_columns, text};
use crate::clock::Timestamp;
use crate::model::message_rules::{AttemptEnd, Meanwhile};
use crate::model::{Job, RealmId};
use crate::store::db::{Db, Tx, on};
use crate::store::lease_rows::now as database_now;
use crate::store::{Store, StoreError};

/// The types that this program can send. Others are of a newer one, which sends them; they keep their place in the order.
macro_rules! known_types {
    () => {
        "('user.provision', 'user.reprovision', 'user.suspend', 'user.restore', 'user.rename', 'user.deprovision', 'user.phone_notice', 'user.reminder', 'user.notice')"
    };
}

/// The due jobs of one realm that no older open job of the same user or name stands before.
/// The list of states is spelt as in the partial indexes, or SQLite would not use them.
macro_rules! claim {
    ($lease_until:expr, $lock:literal) => {
        concat!(
            "UPDATE jobs SET state = 'sending', attempts = attempts + 1, leased_by = $4, lease_until = ",
            $lease_until,
            " WHERE seq IN (
                SELECT j.seq FROM jobs j
                WHERE j.realm = $1 AND j.state = 'waiting' AND j.next_attempt_at <= $2 AND j.type IN ",
            known_types!(),
            "
                  AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.user_id = j.user_id AND o.seq < j.seq AND o.state IN ('waiting', 'sending', 'held'))
                  AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.realm = j.realm AND o.name_key = j.name_key AND o.seq < j.seq AND o.state IN ('waiting', 'sending', 'held'))
                  AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.realm = j.realm AND o.name_key = j.old_name_key AND o.seq < j.seq AND o.state IN ('waiting', 'sending', 'held'))
                  AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.realm = j.realm AND o.old_name_key = j.name_key AND o.old_name_key IS NOT NULL AND o.seq < j.seq AND o.state IN ('waiting', 'sending', 'held'))
                  AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.realm = j.realm AND o.old_name_key = j.old_name_key AND o.old_name_key IS NOT NULL AND o.seq < j.seq AND o.state IN ('waiting', 'sending', 'held'))
                ORDER BY j.next_attempt_at, j.seq
                LIMIT $5",
            $lock,
            ") RETURNING ",
            job_columns!()
        )
    };
}

/// The claim on SQLite, which has one writer.
pub(super) const CLAIM_SQLITE: &str = claim!("$3", "");
/// The claim on PostgreSQL: what another daemon is looking at is passed by.
const CLAIM_POSTGRES: &str = claim!(concat!(database_now!(), " + $3"), " FOR UPDATE SKIP LOCKED");

/// A claimed job, right before it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mine {
    /// For how long nobody else may take it; `None`: nobody ever does (an SQLite file has one daemon).
    pub left: Option<Duration>,
    /// The hash of the token that its link was made with; `None`: there is no link.
    pub token_sha256: Option<[u8; 32]>,
    /// That link is void: the store went on from a copy, and it may have been used since.
    pub void: bool,
    /// Whether it is to be held: by the brake, an undo or an administrator.
    pub held: bool,
    /// What happened to its user since it was claimed.
    pub meanwhile: Meanwhile,
}

/// A row of [`Store::still_mine`].
#[derive(sqlx::FromRow)]
struct MineRow {
    token_sha256: Option<Vec<u8>>,
    voided: i64,
    held_by: Option<String>,
    #[sqlx(flatten)]
    user: UserNow,
    newer: i64,
    lease_left: Option<i64>,
}

/// The columns and the row of [`Store::still_mine`].
macro_rules! still_mine {
    () => {
        "SELECT COALESCE((SELECT e.token_sha256 FROM enrolments e WHERE e.id = jobs.enrolment), (SELECT l.token_sha256 FROM freeze_links l WHERE l.id = jobs.id)) AS token_sha256,
            (SELECT COUNT(*) FROM enrolments e WHERE e.id = jobs.enrolment AND e.state = 'void'
                AND e.created_at <= COALESCE((SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'restored-at'), -1)) AS voided, jobs.held_by, u.state, u.state_reason, u.blocked, u.phone, (
            SELECT COUNT(*) FROM jobs n WHERE n.user_id = jobs.user_id AND n.seq > jobs.seq
            AND n.state IN ('waiting', 'sending', 'held') AND n.type IN ('user.provision', 'user.reprovision')) AS newer,
        (SELECT e.state FROM enrolments e WHERE e.id = jobs.enrolment) AS link, "
    };
}
macro_rules! of_job {
    () => {
        " AS lease_left FROM jobs LEFT JOIN users u ON u.id = jobs.user_id
        WHERE jobs.seq = $1 AND jobs.leased_by = $2 AND jobs.attempts = $3 AND jobs.state = 'sending'"
    };
}

/// What is added to the clock of leases in a statement: on PostgreSQL nothing, since it asks its own.
pub(super) fn own_clock(db: &Db, now: Timestamp) -> Timestamp {
    match db {
        Db::Sqlite { .. } => now,
        Db::Postgres { .. } => Timestamp(0),
    }
}

impl Store {
    /// Takes up to `limit` due jobs of these realms: as many of each as of any other, and what one leaves goes to those that have
    /// more; where there are fewer than realms, to the first as given. Of one realm the oldest attempt goes first. They are
    /// `sending` until settled, or until the lease is over and [`Store::reclaim`] finds them.
    ///
    /// `realms` are those that may send now (see [`Store::sending_realms`]).
    pub async fn claim(
        &self,
        owner: &str,
        realms: &[RealmId],
        now: Timestamp,
        lease_ms: i64,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let mut tx = self.db.begin().await?;
        let jobs = claim(&mut tx, owner, realms, now, lease_ms, limit).await?;
        tx.commit().await?;
        Ok(jobs)
    }

    /// Of these realms those in which something waits, in the same order, and the earliest instant at which it may be tried. Reads
    /// only.
    pub async fn next_due(
        &self,
        realms: &[RealmId],
    ) -> Result<Vec<(RealmId, Timestamp)>, StoreError> {
        const SQL: &str =
            "SELECT MIN(next_attempt_at) FROM jobs WHERE realm = $1 AND state = 'waiting'";
        let mut link = self.db.read().await?;
        let mut waiting = Vec::new();
        for realm in realms {
            let due = on!(link, c => sqlx::query_scalar::<_, Option<i64>>(SQL).bind(realm.as_str()).fetch_one(&mut *c).await)
                .map_err(StoreError::from_sqlx("look for due messages"))?
                .map(Timestamp);
            waiting.extend(due.map(|due| (realm.clone(), due)));
        }
        Ok(waiting)
    }

    /// The types of waiting messages that this program does not know. Looks at all that wait.
    pub async fn unknown_types(&self) -> Result<Vec<String>, StoreError> {
        const SQL: &str = concat!(
            "SELECT DISTINCT type FROM jobs WHERE state IN ('waiting', 'sending') AND type NOT IN ",
            known_types!(),
            " ORDER BY type"
        );
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, String>(SQL).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for messages of unknown types"))
    }

    /// Moves the end of this owner's leases: called more often than a lease lasts while attempts are under way. Gives how many it
    /// could not, since somebody has them locked on PostgreSQL: they are renewed as soon as they are free ([`Store::reclaim`] leaves
    /// the time for it).
    pub async fn renew(
        &self,
        owner: &str,
        now: Timestamp,
        lease_ms: i64,
    ) -> Result<u64, StoreError> {
        const SQLITE: &str =
            "UPDATE jobs SET lease_until = $2 WHERE leased_by = $1 AND state = 'sending'";
        const POSTGRES: &str = concat!(
            "UPDATE jobs SET lease_until = ",
            database_now!(),
            " + $2 WHERE seq IN (SELECT seq FROM jobs WHERE leased_by = $1 AND state = 'sending' FOR NO KEY UPDATE SKIP LOCKED)"
        );
        const ALL: &str = "SELECT COUNT(*) FROM jobs WHERE leased_by = $1 AND state = 'sending'";
        let failed = StoreError::from_sqlx("renew leases");
        let mut tx = self.db.begin().await?;
        let sql = text(&tx, SQLITE, POSTGRES);
        let until = own_clock(&self.db, now).plus_ms(lease_ms);
        let renewed = on!(tx, c => sqlx::query(sql).bind(owner).bind(until.0).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(&failed)?;
        let all =
            on!(tx, c => sqlx::query_scalar::<_, i64>(ALL).bind(owner).fetch_one(&mut *c).await)
                .map_err(&failed)?;
        tx.commit().await?;
        Ok(all.unsigned_abs().saturating_sub(renewed))
    }

    /// Whether a claimed job is still this owner's, and for how long. One look-up by key; renews nothing, since the worker
    /// does so for all of its jobs at once.
    pub async fn still_mine(&self, owner: &str, job: &Job) -> Result<Option<Mine>, StoreError> {
        const SQLITE: &str = concat!(still_mine!(), "NULL", of_job!());
        const POSTGRES: &str = concat!(still_mine!(), "lease_until - ", database_now!(), of_job!());
        let sql = match self.db {
            Db::Sqlite { .. } => SQLITE,
            Db::Postgres { .. } => POSTGRES,
        };
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, MineRow>(sql).bind(job.seq).bind(owner).bind(job.attempts).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("look whose a message is"))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let wrong = |_| StoreError::Nonsense("enrolments.token_sha256 is not 32 bytes".to_owned());
        Ok(Some(Mine {
            left: row
                .lease_left
                .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            held: row.held_by.is_some(),
            void: row.voided > 0,
            meanwhile: row.user.meanwhile(job, row.newer)?,
            token_sha256: row
                .token_sha256
                .map(|hash| <[u8; 32]>::try_from(hash).map_err(wrong))
                .transpose()?,
        }))
    }

    /// Gives up what waits in these realms beyond its `retry-for`, when nothing is tried since the receiver is down:
    /// what was tried at least once, and with `untried_too` also what was not. Gives how many.
    pub async fn give_up(
        &self,
        realms: &[RealmId],
        untried_too: bool,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        const SQL: (&str, &str) = in_order!(
            "state = 'dead', settled_at = $2, last_error = COALESCE(last_error, 'never tried: the receiver was down')",
            "realm = $1 AND state = 'waiting' AND give_up_at <= $2 AND (attempts > 0 OR $3)",
            " SKIP LOCKED"
        );
        let mut tx = self.db.begin().await?;
        let sql = text(&tx, SQL.0, SQL.1);
        let mut dead = 0;
        for realm in realms {
            dead += on!(tx, c => sqlx::query(sql).bind(realm.as_str()).bind(now.0).bind(untried_too).execute(&mut *c).await.map(|r| r.rows_affected()))
                .map_err(StoreError::from_sqlx("give messages up"))?;
        }
        tx.commit().await?;
        Ok(dead)
    }

    /// Whether the store allows only one daemon, whose start may void every lease.
    pub fn single_daemon(&self) -> bool {
        matches!(self.db, crate::store::db::Db::Sqlite { .. })
    }
}

/// See [`Store::claim`].
pub(super) async fn claim(
    tx: &mut Tx,
    owner: &str,
    realms: &[RealmId],
    now: Timestamp,
    lease_ms: i64,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let mut taken: Vec<(usize, Vec<Job>)> = Vec::with_capacity(realms.len());
    let mut room = limit;
    for (i, realm) in realms.iter().enumerate() {
        let share = room.div_ceil(realms.len() - i);
        let jobs = claim_in(tx, owner, realm, now, lease_ms, share).await?;
        room = room.saturating_sub(jobs.len());
        taken.push((share, jobs));
    }
    // What later ones left.
    for (realm, (share, jobs)) in realms.iter().zip(&mut taken) {
        if room > 0 && jobs.len() == *share {
            let more = claim_in(tx, owner, realm, now, lease_ms, room).await?;
            room = room.saturating_sub(more.len());
            jobs.extend(more);
        }
    }
    Ok(in_turn(taken.into_iter().map(|(_, jobs)| jobs)))
}

/// One of each realm, then the next of each.
fn in_turn(taken: impl Iterator<Item = Vec<Job>>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut lists: Vec<_> = taken.map(Vec::into_iter).collect();
    loop {
        let before = jobs.len();
        jobs.extend(lists.iter_mut().filter_map(Iterator::next));
        if jobs.len() == before {
            return jobs;
        }
    }
}

/// Takes up to `limit` jobs of one realm. What cannot be read is dead, and visible: it must not stop the others.
async fn claim_in(
    tx: &mut Tx,
    owner: &str,
    realm: &RealmId,
    now: Timestamp,
    lease_ms: i64,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let sql = text(tx, CLAIM_SQLITE, CLAIM_POSTGRES);
    let lease_until = match tx {
        Tx::Sqlite(..) => now.plus_ms(lease_ms),
        Tx::Postgres(_) => Timestamp(lease_ms),
    };
    let rows = on!(tx, c => sqlx::query_as::<_, JobRow>(sql)
        .bind(realm.as_str())
        .bind(now.0)
        .bind(lease_until.0)
        .bind(owner)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *c)
        .await)
    .map_err(StoreError::from_sqlx("claim messages"))?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        let of = (realm, row.seq, row.attempts);
        match Job::try_from(row) {
            Ok(job) => jobs.push(job),
            Err(error) => put_aside(tx, of, &AttemptEnd::NotTried, &error, now).await?,
        }
    }
    jobs.sort_unstable_by_key(|job| (job.next_attempt_at, job.seq));
    Ok(jobs)
}
