//! What an administrator does to one user: changes, messages and the audit in one transaction.

use std::collections::HashMap;

use super::apply::{ERASE, ERASE_JOBS, unstage_one, write_one};
use super::audit::{AuditKey, append};
use super::db::{EngineConnection, Tx, on};
use super::lease_rows::now;
use super::outbox::{MessageContext, apply_intents, locks};
use super::realm_by_hand::gone;
use super::rows::{UserRow, places, user_columns};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{AuditAct, AuditEntry, Change, Edit, Intent, RealmId, State, User, UserId};

/// What is done to one user.
#[derive(Debug)]
pub struct HandAct<'a> {
    /// The lines of the audit trail; of no run.
    pub changes: &'a [Change],
    /// As they are afterwards.
    pub user: &'a User,
    /// The version that was decided upon; 0: a new user.
    pub base_version: i64,
    /// What is to be said.
    pub intents: &'a [Intent],
    /// How messages are made.
    pub messages: &'a MessageContext,
    /// A number by hand that stands in place of the directory's: until when; `None` inside: without an end.
    pub until: Edit<Option<Timestamp>>,
    /// The line of the audit, and the key that it is written under.
    pub audit: (&'a AuditEntry, &'a AuditKey),
}

/// Moves clocks on to a time; `$1` is also that of pauses, `$2` the most at once.
macro_rules! advance {
    ($now:expr) => {
        concat!(
            "UPDATE realms SET clock_ms = clock_ms + CASE
                    WHEN last_tick_at IS NULL OR last_tick_at > ",
            $now,
            " OR orphaned OR paused AND (paused_until IS NULL OR paused_until > $1) THEN 0
                    WHEN ",
            $now,
            " - last_tick_at > $2 THEN $2
                    ELSE ",
            $now,
            " - last_tick_at END,
                last_tick_at = ",
            $now,
            " WHERE kind <> 'directory' AND removed_at IS NULL"
        )
    };
}

/// A number by hand that stands in place of a directory's.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Override {
    /// Who set it.
    pub by: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Until when it stands; `None`: without an end.
    pub until: Option<Timestamp>,
}

/// `$2`: the realm is being removed, with the user.
const REALM_THERE: &str = "
    SELECT COUNT(*) FROM realms WHERE id = $1 AND removed_at IS NULL
      AND CASE WHEN $2 THEN orphaned OR kind <> 'directory' ELSE NOT orphaned END";

impl Store {
    /// Changes, makes or erases one user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is another by now, or somebody else has the name; [`StoreError::Refused`] when the
    /// realm is gone. Then nothing is done.
    pub async fn act_by_hand(&self, act: HandAct<'_>) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        act_in(&mut tx, &act).await?;
        tx.commit().await
    }

    /// Marks a user who gets the directory's entry of the name, and the realm as one that is to be read again.
    pub async fn mark_adoption(
        &self,
        user: &User,
        by: Option<&str>,
        now: Timestamp,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const MARK: &str = "
            INSERT INTO adoptions (user_id, by_whom, at) SELECT id, $2, $3 FROM users
            WHERE id = $1 AND version = $4 AND directory_id IS NULL AND state <> 'removed'
            ON CONFLICT (user_id) DO UPDATE SET by_whom = excluded.by_whom, by_file = excluded.by_file, at = excluded.at";
        const DUE: &str = "UPDATE realms SET due = $2 WHERE id = $1";
        let failed = StoreError::from_sqlx("mark a user");
        let mut tx = self.db.begin().await?;
        // Before the mark, as whoever removes the user does.
        locks::realm(&mut tx, &user.realm).await?;
        let id = user.id.0.as_bytes().to_vec();
        let rows = on!(tx, c => sqlx::query(MARK).bind(id).bind(by).bind(now.0).bind(user.version).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(&failed)?;
        if rows != 1 {
            return Err(StoreError::Conflict(1));
        }
        on!(tx, c => sqlx::query(DUE).bind(user.realm.as_str()).bind(true).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// Those of these users who get the directory's entry of their name, and whether an administrator said so of each, and not the
    /// configuration of all of their realm, which counts only where `first`. Whoever has an entry by now is not among them, and whoever is
    /// frozen waits.
    pub async fn adopting(
        &self,
        users: &[UserId],
        first: bool,
    ) -> Result<Vec<(User, bool)>, StoreError> {
        const SAID: &str = "SELECT user_id FROM adoptions WHERE user_id = $1 AND NOT by_file";
        let failed = StoreError::from_sqlx("read whom a directory's entry is given to");
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for users in users.chunks(500) {
            let sql = format!(
                "SELECT {} FROM users WHERE id IN (SELECT user_id FROM adoptions WHERE user_id IN ({})) AND directory_id IS NULL AND state <> 'removed'
                   AND id NOT IN (SELECT user_id FROM freezes)",
                user_columns!(),
                places(1, users.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, UserRow>(sqlx::AssertSqlSafe(sql));
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(&failed)?;
            for user in super::rows::users(rows)? {
                let id = user.id.0.as_bytes().to_vec();
                let said = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(SAID).bind(id).fetch_optional(&mut *c).await)
                    .map_err(&failed)?
                    .is_some();
                if said || first {
                    found.push((user, said));
                }
            }
        }
        Ok(found)
    }

    /// The numbers by hand of these users that stand in place of their directory's.
    pub async fn overrides(
        &self,
        users: &[UserId],
    ) -> Result<HashMap<UserId, Override>, StoreError> {
        let mut found = HashMap::new();
        let mut link = self.db.read().await?;
        for users in users.chunks(500) {
            let sql = format!(
                "SELECT user_id, by_whom, at, until FROM overrides WHERE user_id IN ({})",
                places(1, users.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, (Vec<u8>, Option<String>, i64, Option<i64>)>(sqlx::AssertSqlSafe(sql));
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read until when numbers stand"))?;
            for (user, by, at, until) in rows {
                let number = Override {
                    by,
                    at: Timestamp(at),
                    until: until.map(Timestamp),
                };
                found.insert(UserId(super::rows::uuid(&user)?), number);
            }
        }
        Ok(found)
    }

    /// Users whose number by hand stands no longer: of each realm that is not orphaned at most so many, the earliest first.
    pub async fn overrides_over(
        &self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE id IN (
                SELECT user_id FROM (
                    SELECT o.user_id, ROW_NUMBER() OVER (PARTITION BY u.realm ORDER BY o.until, o.user_id) AS place
                    FROM overrides o JOIN users u ON u.id = o.user_id
                    WHERE o.until <= $1 AND u.realm NOT IN (SELECT r.id FROM realms r WHERE r.orphaned)
                ) over WHERE place <= $2)
              ORDER BY realm, id"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL).bind(now.0).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read until when numbers stand"))?;
        Ok(super::rows::readable(rows))
    }

    /// Forgets the marks of those who have an entry by now, or are nobody any more.
    pub(super) async fn forget_adopted(&self) -> Result<(), StoreError> {
        const SQL: &str = "
            DELETE FROM adoptions WHERE user_id IN (
                SELECT a.user_id FROM adoptions a JOIN users u ON u.id = a.user_id
                WHERE u.directory_id IS NOT NULL OR u.state = 'removed')";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("forget marks"))?;
        tx.commit().await
    }

    /// Lets the clocks of the realms without passes go on, by at most `most_ms` at once: neither an outage nor a clock that jumps
    /// removes anyone. On PostgreSQL the database's clock counts, so that daemons whose clocks differ do not push the time on in turn. A
    /// paused realm's clock stands still.
    pub async fn advance_clocks(&self, now: Timestamp, most_ms: i64) -> Result<(), StoreError> {
        const LOCK: &str = "
            SELECT id FROM realms WHERE kind <> 'directory' AND removed_at IS NULL ORDER BY id FOR NO KEY UPDATE";
        let failed = StoreError::from_sqlx("let clocks go on");
        let mut tx = self.db.begin().await?;
        if let EngineConnection::Postgres(c) = tx.side() {
            super::answer::answered(sqlx::query(LOCK).execute(c))
                .await
                .map_err(&failed)?;
        }
        let sql = super::outbox::text(&tx, advance!("$1"), advance!(now!()));
        on!(tx, c => sqlx::query(sql).bind(now.0).bind(most_ms).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        tx.commit().await
    }

    /// Users of no directory in a realm whose grace is over by the realm's own clock.
    pub async fn grace_over_by_hand(
        &self,
        realm: &RealmId,
        clock_ms: i64,
        grace_ms: i64,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE realm = $1 AND state = 'suspended' AND directory_id IS NULL
               AND state_reason IN ('deleted', 'out_of_scope') AND suspended_clock <= $2 ORDER BY suspended_clock, id LIMIT $3"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL).bind(realm.as_str()).bind(clock_ms.saturating_sub(grace_ms)).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users whose grace is over"))?;
        Ok(super::rows::readable(rows))
    }

    /// Some of the users of a realm that are not removed, by id.
    pub async fn some_left(&self, realm: &RealmId, limit: i64) -> Result<Vec<User>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE realm = $1 AND state <> 'removed' ORDER BY id LIMIT $2"
        );
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, UserRow>(SQL).bind(realm.as_str()).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read users"))?;
        super::rows::users(rows)
    }
}

/// Changes, makes or erases one user, with all that hangs on it, in the caller's transaction. The errors are those of
/// [`Store::act_by_hand`].
pub(super) async fn act_in(tx: &mut Tx, act: &HandAct<'_>) -> Result<(), StoreError> {
    let user = act.user;
    let erased = user.state == State::Removed;
    write_one(tx, user, act.base_version, act.messages).await?;
    locks::realm(tx, &user.realm).await?;
    let with_realm = act.audit.0.act == AuditAct::RealmRemove;
    there(tx, &user.realm, with_realm).await?;
    super::changes::add_own(tx, act.changes).await?;
    if erased {
        let stage = user.id.0.as_bytes().to_vec();
        locks::jobs(tx, "user_id = $2", None, Some(&stage), &[]).await?;
        for sql in ERASE.into_iter().chain([ERASE_JOBS]) {
            on!(tx, c => sqlx::query(sql).bind(stage.clone()).execute(&mut *c).await.map(|_| ()))
                .map_err(StoreError::from_sqlx("erase a user"))?;
        }
        forget_adoption(tx, user.id).await?;
    }
    let until = if erased { Edit::Clear } else { act.until };
    write_override(tx, user.id, until, act.audit.0).await?;
    super::to_look_at::note(tx, user).await?;
    unstage_one(tx, user).await?;
    apply_intents(tx, act.messages, user, act.intents).await?;
    append(tx, act.audit.1, act.audit.0).await?;
    Ok(())
}

/// Whether a user's realm lets something be done; `with_realm`: the user is removed together with it.
pub(super) async fn there(
    tx: &mut Tx,
    realm: &RealmId,
    with_realm: bool,
) -> Result<(), StoreError> {
    let rows = on!(tx, c => sqlx::query_scalar::<_, i64>(REALM_THERE).bind(realm.as_str()).bind(with_realm).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("read a realm"))?;
    if rows == 1 { Ok(()) } else { Err(gone(realm)) }
}

async fn write_override(
    tx: &mut Tx,
    user: UserId,
    until: Edit<Option<Timestamp>>,
    entry: &AuditEntry,
) -> Result<(), StoreError> {
    const SET: &str = "
        INSERT INTO overrides (user_id, until, by_whom, at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (user_id) DO UPDATE SET until = excluded.until, by_whom = excluded.by_whom, at = excluded.at";
    const CLEAR: &str = "DELETE FROM overrides WHERE user_id = $1";
    let id = user.0.as_bytes().to_vec();
    match until {
        Edit::Keep => Ok(()),
        Edit::Clear => {
            on!(tx, c => sqlx::query(CLEAR).bind(id).execute(&mut *c).await.map(|_| ()))
        }
        Edit::Set(until) => {
            on!(tx, c => sqlx::query(SET).bind(id).bind(until.map(|t| t.0)).bind(entry.by.clone()).bind(entry.at.0).execute(&mut *c).await.map(|_| ()))
        }
    }
    .map_err(StoreError::from_sqlx("write until when a number stands"))
}

pub(super) async fn forget_adoption(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM adoptions WHERE user_id = $1";
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("forget a mark"))
}
