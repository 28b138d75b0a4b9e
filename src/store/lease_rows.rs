//! The statements of leases. One connection holds what belongs to one lease: when its process dies, the server closes it, and
//! others see that at once instead of waiting for the lease to end.

use std::time::Duration;

use sqlx::postgres::PgPool;
use sqlx::{Connection as _, PgConnection};

use super::StoreError;
use super::answer::answered_within;
use super::lease_owner::{LEASE_MS, LeaseOwner};
use crate::model::RealmId;

/// A statement of a lease has an answer within that time, one second more than it waits for a lock, or its connection is dead:
/// then there is time for another one before the lease ends.
const ANSWER: Duration = Duration::from_secs(6);

/// The database's clock in milliseconds.
macro_rules! now {
    () => {
        "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT"
    };
}
pub(super) use now;

/// The advisory lock that the session of a lease holds, from its owner and token.
macro_rules! session {
    ($owner:literal, $token:literal) => {
        concat!("hashtextextended(", $owner, " || ' ' || ", $token, ", 0)")
    };
}
pub(super) use session;

/// A lease about to be taken.
pub(super) struct LeaseRequest<'a> {
    pub(super) realm: &'a RealmId,
    owner: &'a LeaseOwner,
    connection: Option<PgConnection>,
    /// Who held it and did not let it go.
    pub(super) former: Option<String>,
}

/// A lease that is held.
pub(super) struct HeldLease {
    pub(super) token: i64,
    owner: String,
    realm_key: i64,
    /// `None`: it broke, and is made anew.
    connection: Option<PgConnection>,
}

/// Programs of the schema's first step hold an exclusive lock on this for a run: beside each other neither runs what the other does.
fn realm_key(realm: &RealmId) -> i64 {
    xxhash_rust::xxh3::xxh3_64(format!("realmsync realm {realm}").as_bytes()).cast_signed()
}

/// The answer to a statement of a lease.
async fn answered<T>(
    what: &'static str,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    answered_within(ANSWER, statement)
        .await
        .map_err(StoreError::from_sqlx(what))
}

async fn connect(pool: &PgPool) -> Result<PgConnection, StoreError> {
    Ok(pool
        .acquire()
        .await
        .map_err(StoreError::from_sqlx("take a realm"))?
        .detach())
}

async fn share_realm(connection: &mut PgConnection, key: i64) -> Result<bool, StoreError> {
    // Nothing that a lease does may wait for ever: a transaction that stands in the way is ended within that time.
    const SQL: &str =
        "SELECT pg_try_advisory_lock_shared($1) FROM set_config('lock_timeout', '5s', FALSE)";
    let asking = sqlx::query_scalar(SQL).bind(key).fetch_one(connection);
    answered("take a realm", asking).await
}

impl<'a> LeaseRequest<'a> {
    /// On a connection of its own.
    pub(super) async fn begin(
        pool: &PgPool,
        realm: &'a RealmId,
        owner: &'a LeaseOwner,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            realm,
            owner,
            connection: Some(connect(pool).await?),
            former: None,
        })
    }

    fn busy(&self, holder: String) -> StoreError {
        StoreError::Busy {
            what: format!("realm `{}`", self.realm),
            holder,
        }
    }

    /// Takes it, if it is free, or if its holder is dead or stands still; else `Busy`, and may be called again.
    pub(super) async fn take(&mut self) -> Result<HeldLease, StoreError> {
        const HELD: &str = concat!(
            "SELECT token, owner, COALESCE(holder, owner), until > ",
            now!(),
            " AND NOT pg_try_advisory_xact_lock(",
            session!("owner", "token"),
            ") FROM leases WHERE realm = $1 AND owner IS NOT NULL"
        );
        // Only from whoever was seen to be dead; another may have been faster.
        const TAKE: &str = concat!(
            "WITH taken AS (
                INSERT INTO leases (realm, token, owner, holder, since, until)
                VALUES ($1, nextval('lease_tokens'), $2, $3, ",
            now!(),
            ", ",
            now!(),
            " + $4)
                ON CONFLICT (realm) DO UPDATE SET token = excluded.token, owner = excluded.owner, holder = excluded.holder,
                    since = excluded.since, until = excluded.until
                WHERE leases.owner IS NULL OR leases.owner = excluded.owner OR leases.token = $5
                RETURNING token)
             SELECT token, pg_try_advisory_lock(",
            session!("$2", "token"),
            ") FROM taken"
        );
        let key = realm_key(self.realm);
        let gone = || StoreError::Lost("the connection for the lease ended".into());
        let mut connection = self.connection.take().ok_or_else(gone)?;
        if !share_realm(&mut connection, key).await? {
            self.connection = Some(connection);
            return Err(self.busy("a run of an older realmsync is under way".into()));
        }
        let asking = sqlx::query_as::<_, (i64, String, String, bool)>(HELD)
            .bind(self.realm.as_str())
            .fetch_optional(&mut connection);
        let held = answered("take a realm", asking).await?;
        let others = held.filter(|held| held.1 != self.owner.id);
        if let Some((_, _, holder, true)) = &others {
            let holder = format!("a run of it is under way in {holder}");
            self.connection = Some(connection);
            return Err(self.busy(holder));
        }
        if let Some((_, owner, ..)) = &others {
            end_transactions(&mut connection, owner).await;
        }
        let taking = sqlx::query_as::<_, (i64, bool)>(TAKE)
            .bind(self.realm.as_str())
            .bind(&self.owner.id)
            .bind(&self.owner.name)
            .bind(LEASE_MS)
            .bind(others.as_ref().map(|held| held.0))
            .fetch_optional(&mut connection);
        let taken = answered("take a realm", taking).await?;
        let Some((token, _)) = taken else {
            self.connection = Some(connection);
            return Err(self.busy("another daemon was faster".into()));
        };
        self.former = others.map(|held| held.2);
        Ok(HeldLease {
            token,
            owner: self.owner.id.clone(),
            realm_key: key,
            connection: Some(connection),
        })
    }
}

/// Ends what the former holder left open: its transactions would hold their locks for as long as it stands still. It can commit
/// none of them, since its lease is over; if this is not allowed, the server ends them by itself within the time of a lease.
async fn end_transactions(connection: &mut PgConnection, owner: &str) {
    const SQL: &str = "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND application_name = $1 AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
    let ending = sqlx::query_scalar::<_, bool>(SQL)
        .bind(LeaseOwner::session_name(owner))
        .fetch_all(connection);
    if let Err(error) = answered("take a realm", ending).await {
        tracing::debug!(%error, "transactions of a former holder cannot be ended: {error}");
    }
}

impl HeldLease {
    /// Moves the end of the lease; `false`: another has it.
    pub(super) async fn renew(&mut self, pool: &PgPool) -> Result<bool, StoreError> {
        const SQL: &str = concat!(
            "UPDATE leases SET until = ",
            now!(),
            " + $2 WHERE token = $1"
        );
        const SESSION: &str = concat!(
            "SELECT pg_try_advisory_lock(",
            session!("$1", "$2::BIGINT"),
            ")"
        );
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let mut anew = connect(pool).await?;
            share_realm(&mut anew, self.realm_key).await?;
            let marking = sqlx::query_scalar::<_, bool>(SESSION)
                .bind(&self.owner)
                .bind(self.token)
                .fetch_one(&mut anew);
            answered("renew a lease", marking).await?;
            anew
        };
        let renewing = sqlx::query(SQL)
            .bind(self.token)
            .bind(LEASE_MS)
            .execute(&mut connection);
        let rows = answered("renew a lease", renewing).await?.rows_affected();
        self.connection = Some(connection);
        Ok(rows == 1)
    }

    /// Lets it go.
    pub(super) async fn release(self) {
        const SQL: &str = "UPDATE leases SET owner = NULL, holder = NULL WHERE token = $1";
        if let Some(mut connection) = self.connection {
            let releasing = sqlx::query(SQL).bind(self.token).execute(&mut connection);
            let _noticed_by_its_session = answered("release a lease", releasing).await;
            let _closed = connection.close().await;
        }
    }
}
