//! Taking jobs: by lease, in batches, in order for each user and each name.

use super::settle::{self, Ending};
use super::{JobRow, job_columns, text};
use crate::clock::Timestamp;
use crate::model::{Job, RealmId};
use crate::store::db::{Tx, on};
use crate::store::{Store, StoreError};

/// The due jobs of one realm that no older open job of the same user or name stands before.
/// The list of states is spelt as in the partial indexes, or SQLite would not use them.
macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "UPDATE jobs SET state = 'sending', attempts = attempts + 1, lease_until = $3, leased_by = $4
             WHERE seq IN (
                SELECT j.seq FROM jobs j
                WHERE j.realm = $1 AND j.state = 'waiting' AND j.next_attempt_at <= $2
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
pub(super) const CLAIM_SQLITE: &str = claim!("");
/// The claim on PostgreSQL: what another daemon is looking at is passed by.
const CLAIM_POSTGRES: &str = claim!(" FOR UPDATE SKIP LOCKED");

impl Store {
    /// Takes up to `limit` due jobs of these realms, oldest attempt first, realm by realm as given. They are `sending`
    /// until settled, or until the lease is over and [`Store::reclaim`] finds them.
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

    /// The earliest instant at which a job of these realms may be tried; `None`: nothing waits. Reads only.
    pub async fn next_due(&self, realms: &[RealmId]) -> Result<Option<Timestamp>, StoreError> {
        const SQL: &str =
            "SELECT MIN(next_attempt_at) FROM jobs WHERE realm = $1 AND state = 'waiting'";
        let mut link = self.db.read().await?;
        let mut earliest = None;
        for realm in realms {
            let due = on!(link, c => sqlx::query_scalar::<_, Option<i64>>(SQL).bind(realm.as_str()).fetch_one(&mut *c).await)
                .map_err(StoreError::from_sqlx("look for due messages"))?
                .map(Timestamp);
            earliest = match (earliest, due) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(earliest)
    }

    /// Moves the end of this owner's leases: called more often than a lease lasts while attempts are under way.
    pub async fn renew(&self, owner: &str, lease_until: Timestamp) -> Result<(), StoreError> {
        const SQL: &str =
            "UPDATE jobs SET lease_until = $2 WHERE leased_by = $1 AND state = 'sending'";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(owner).bind(lease_until.0).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("renew leases"))?;
        tx.commit().await
    }

    /// Takes back what others left in `sending`: jobs whose lease is over, or, with `all`, every job that is not this
    /// owner's (at the start of the one daemon that SQLite allows). What became of the attempt is unknown. Gives how many.
    pub async fn reclaim(
        &self,
        owner: &str,
        now: Timestamp,
        all: bool,
    ) -> Result<usize, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM jobs WHERE state = 'sending' AND leased_by <> $1 AND (lease_until < $2 OR $3)";
        // Most often there is nothing, and then nobody's turn to write is taken.
        let mut link = self.db.read().await?;
        let left = on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(owner).bind(now.0).bind(all).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for interrupted messages"))?;
        drop(link);
        if left == 0 {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let taken = reclaim(&mut tx, owner, now, all).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Gives up what waits in these realms beyond its `retry-for`, when nothing is tried since the receiver is down:
    /// what was tried at least once, and with `untried_too` also what was not. Gives how many.
    pub async fn give_up(
        &self,
        realms: &[RealmId],
        untried_too: bool,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "
            UPDATE jobs SET state = 'dead', settled_at = $2, last_error = COALESCE(last_error, 'never tried: the receiver was down')
            WHERE realm = $1 AND state = 'waiting' AND give_up_at <= $2 AND (attempts > 0 OR $3)";
        let mut tx = self.db.begin().await?;
        let mut dead = 0;
        for realm in realms {
            dead += on!(tx, c => sqlx::query(SQL).bind(realm.as_str()).bind(now.0).bind(untried_too).execute(&mut *c).await.map(|r| r.rows_affected()))
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
    let sql = text(tx, CLAIM_SQLITE, CLAIM_POSTGRES);
    let mut jobs: Vec<Job> = Vec::new();
    for realm in realms {
        let room = i64::try_from(limit.saturating_sub(jobs.len())).unwrap_or(i64::MAX);
        if room == 0 {
            break;
        }
        let rows = on!(tx, c => sqlx::query_as::<_, JobRow>(sql)
            .bind(realm.as_str())
            .bind(now.0)
            .bind(now.plus_ms(lease_ms).0)
            .bind(owner)
            .bind(room)
            .fetch_all(&mut *c)
            .await)
        .map_err(StoreError::from_sqlx("claim messages"))?;
        for row in rows {
            jobs.push(row.try_into()?);
        }
    }
    jobs.sort_unstable_by_key(|job| job.seq);
    Ok(jobs)
}

/// See [`Store::reclaim`].
async fn reclaim(tx: &mut Tx, owner: &str, now: Timestamp, all: bool) -> Result<usize, StoreError> {
    const SQL: &str = concat!(
        "SELECT ",
        job_columns!(),
        " FROM jobs WHERE state = 'sending' AND leased_by <> $1 AND (lease_until < $2 OR $3) ORDER BY seq"
    );
    let rows = on!(tx, c => sqlx::query_as::<_, JobRow>(SQL).bind(owner).bind(now.0).bind(all).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("read interrupted messages"))?;
    let taken = rows.len();
    for row in rows {
        let job = Job::try_from(row)?;
        settle::come_back(tx, &job, &Ending::Interrupted, now).await?;
    }
    Ok(taken)
}
