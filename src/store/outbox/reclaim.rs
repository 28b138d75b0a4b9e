//! Taking back what another worker left in `sending`.
//!
//! A lease that is over says that its owner is dead, or that it could not renew it: a plan that is being applied had the message
//! locked. In the second case the owner knows how the attempt ended, and must be heard before anybody says that nobody knows. So a
//! message is taken only when it was found with its lease over, and locked by nobody, at [`Overdue::LOOKS`] looks in a row. Between
//! two of them an owner that lives settles it or renews its lease.

use std::collections::HashMap;

use super::claim::own_clock;
use super::locks;
use super::settle;
use super::{JobRow, job_columns, text};
use crate::clock::Timestamp;
use crate::model::message_rules::AttemptEnd;
use crate::model::{Job, UserId};
use crate::store::db::{Db, Tx, on};
use crate::store::lease_rows::now as database_now;
use crate::store::rows::note_unreadable;
use crate::store::{Store, StoreError};

/// Jobs of others ($1) whose lease is over at this time, or all ($3). A lease that ends much later than leases last was written by a
/// clock that was ahead.
macro_rules! left_behind {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM jobs WHERE state = 'sending' AND leased_by <> $1 AND (lease_until < ",
            $now,
            " OR lease_until > ",
            $now,
            " + 120000 OR $3)"
        )
    };
}

/// What one worker saw of the leases of others.
#[derive(Default, Debug)]
pub struct Overdue {
    /// Messages and the number of their attempt → at how many looks in a row the lease was over and nobody had them locked.
    looks: HashMap<(i64, i64), u32>,
}

impl Overdue {
    /// A lease counts as left behind at this look.
    pub const LOOKS: u32 = 3;

    /// Notes what one look found, and nothing else stays.
    fn look(&mut self, found: &[JobRow]) {
        let seen = |row: &JobRow| {
            let key = (row.seq, row.attempts);
            (key, self.looks.get(&key).copied().unwrap_or(0) + 1)
        };
        self.looks = found.iter().map(seen).collect();
    }

    /// Whether another look may take something back.
    pub fn waits(&self) -> bool {
        !self.looks.is_empty()
    }

    /// Whether nobody renewed this one for long enough.
    fn is_left(&self, row: &JobRow) -> bool {
        self.looks
            .get(&(row.seq, row.attempts))
            .is_some_and(|looks| *looks >= Self::LOOKS)
    }
}

impl Store {
    /// Looks for what others left in `sending`, and takes it back: jobs whose lease was over at this look and at former ones, or, with
    /// `all`, at once every job that is not this owner's (at the start of the one daemon that SQLite allows). What became of the
    /// attempt is unknown. Gives how many. Waits for no other transaction on PostgreSQL.
    ///
    /// `overdue` is what this owner's former looks found. Between two looks lies more time than a worker's turn takes.
    pub async fn reclaim(
        &self,
        owner: &str,
        now: Timestamp,
        all: bool,
        overdue: &mut Overdue,
    ) -> Result<usize, StoreError> {
        const SQLITE: &str = left_behind!("COUNT(*)", "$2");
        const POSTGRES: &str = left_behind!("COUNT(*)", concat!(database_now!(), " + $2"));
        let sql = match self.db {
            Db::Sqlite { .. } => SQLITE,
            Db::Postgres { .. } => POSTGRES,
        };
        let lease_now = own_clock(&self.db, now);
        // Most often there is nothing, and then nobody's turn to write is taken.
        let mut link = self.db.read().await?;
        let over = on!(link, c => sqlx::query_scalar::<_, i64>(sql).bind(owner).bind(lease_now.0).bind(all).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for interrupted messages"))?;
        drop(link);
        if over == 0 {
            *overdue = Overdue::default();
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let found = free_and_over(&mut tx, owner, lease_now, all).await?;
        overdue.look(&found);
        let mut taken = 0;
        for row in found {
            if all || overdue.is_left(&row) {
                overdue.looks.remove(&(row.seq, row.attempts));
                take_back(&mut tx, row, now).await?;
                taken += 1;
            }
        }
        tx.commit().await?;
        Ok(taken)
    }
}

/// The messages whose lease is over, as far as nobody has them; locks them and their users.
async fn free_and_over(
    tx: &mut Tx,
    owner: &str,
    lease_now: Timestamp,
    all: bool,
) -> Result<Vec<JobRow>, StoreError> {
    macro_rules! both {
        ($columns:expr) => {
            (
                concat!(left_behind!($columns, "$2"), " ORDER BY seq"),
                concat!(
                    left_behind!($columns, concat!(database_now!(), " + $2")),
                    " ORDER BY seq"
                ),
            )
        };
    }
    const WHICH: (&str, &str) = both!("user_id, seq");
    const ROWS: (&str, &str) = both!(job_columns!());
    let failed = StoreError::from_sqlx("read interrupted messages");
    let sql = text(tx, WHICH.0, WHICH.1);
    let over = on!(tx, c => sqlx::query_as::<_, (Vec<u8>, i64)>(sql).bind(owner).bind(lease_now.0).bind(all).fetch_all(&mut *c).await)
        .map_err(&failed)?;
    let over: Vec<(UserId, i64)> = over
        .into_iter()
        .filter_map(|(user, seq)| {
            let user = super::id(&user).inspect_err(note_unreadable).ok()?;
            Some((UserId(user), seq))
        })
        .collect();
    let free = locks::free_jobs(tx, &over).await?;
    // Read once they are locked: the owner may have renewed or settled them a moment ago.
    let sql = text(tx, ROWS.0, ROWS.1);
    let mut rows = on!(tx, c => sqlx::query_as::<_, JobRow>(sql).bind(owner).bind(lease_now.0).bind(all).fetch_all(&mut *c).await)
        .map_err(&failed)?;
    rows.retain(|row| free.as_ref().is_none_or(|free| free.contains(&row.seq)));
    Ok(rows)
}

async fn take_back(tx: &mut Tx, row: JobRow, now: Timestamp) -> Result<(), StoreError> {
    const BACK: &str = "
        UPDATE jobs SET state = CASE WHEN held_by IS NULL THEN 'waiting' ELSE 'held' END, uncertain = $2, lease_until = NULL, leased_by = NULL
        WHERE seq = $1 AND state = 'sending'";
    let seq = row.seq;
    match Job::try_from(row) {
        Ok(job) => settle::come_back(tx, &job, &AttemptEnd::Interrupted, now)
            .await
            .map(|_| ()),
        // Of a newer program, which knows what it says: it is put back for that one.
        Err(_) => {
            on!(tx, c => sqlx::query(BACK).bind(seq).bind(true).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("put a message back"))
        }
    }
}
