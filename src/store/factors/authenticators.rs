//! Authenticators, and their secrets as they are kept.

use sqlx::FromRow;

use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::factors::sealed::Sealed;
use crate::model::{Authenticator, AuthenticatorId, EnrolmentId, UserId};
use crate::store::db::{Tx, on};
use crate::store::rows::{uuid, word};
use crate::store::{Store, StoreError};

/// In place of the name of a key: the seed of a hard token was given up with a lost key, and a file gives it anew.
pub(in crate::store) const GIVEN_UP: &str = "given-up";

/// An authenticator with its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAuthenticator {
    /// What is known of it.
    pub authenticator: Authenticator,
    /// For whom the secret is encrypted: its user, or the one before of a hard token that is assigned to nobody.
    pub bound_to: Option<UserId>,
    /// The secret; `None` once it counts no more.
    pub secret: Option<Sealed>,
    /// Of an application: the link that it was made by.
    pub enrolment: Option<EnrolmentId>,
    /// Of a pending application: what is kept of the mark of the browser that it was made in.
    pub browser: Option<[u8; 32]>,
}

impl KeptAuthenticator {
    /// What the secret is bound to, for [`crate::factors::sealed::open`].
    pub fn owner(&self) -> [u8; 32] {
        Authenticator::owner(self.bound_to, self.authenticator.id)
    }
}

/// The columns that [`AuthenticatorRow`] reads.
macro_rules! authenticator_columns {
    () => {
        "id, user_id, bound_to, kind, state, serial, issuer, secret, key_id, hash, digits, period, next, drift, two_codes, \
         valid_from, valid_until, expires_at, created_at, activated_at, last_used_at, ended_at, enrolment, browser"
    };
}

pub(super) use authenticator_columns;

/// An authenticator as either engine gives it.
#[derive(FromRow)]
pub(super) struct AuthenticatorRow {
    id: Vec<u8>,
    user_id: Option<Vec<u8>>,
    bound_to: Option<Vec<u8>>,
    kind: String,
    state: String,
    serial: Option<String>,
    issuer: Option<String>,
    secret: Option<Vec<u8>>,
    key_id: String,
    hash: String,
    digits: i64,
    period: i64,
    next: i64,
    drift: i64,
    two_codes: bool,
    valid_from: Option<i64>,
    valid_until: Option<i64>,
    expires_at: Option<i64>,
    created_at: i64,
    activated_at: Option<i64>,
    last_used_at: Option<i64>,
    ended_at: Option<i64>,
    enrolment: Option<Vec<u8>>,
    browser: Option<Vec<u8>>,
}

impl TryFrom<AuthenticatorRow> for KeptAuthenticator {
    type Error = StoreError;

    fn try_from(row: AuthenticatorRow) -> Result<Self, StoreError> {
        let id = AuthenticatorId(uuid(&row.id)?);
        let odd = |what: &str| StoreError::Nonsense(format!("authenticator {id}: {what}"));
        let secret = match row.secret {
            Some(bytes) => Some(Sealed {
                key: KeyId::parse(&row.key_id)
                    .ok_or_else(|| odd("its key has no name of 16 hexadecimal digits"))?,
                bytes,
            }),
            None => None,
        };
        let user = row.user_id.as_deref().map(uuid).transpose()?.map(UserId);
        let authenticator = Authenticator {
            id,
            user,
            kind: word(&row.kind)?,
            state: word(&row.state)?,
            serial: row.serial,
            issuer: row.issuer,
            hash: word(&row.hash)?,
            digits: u8::try_from(row.digits).map_err(|_| odd("its digits are no number"))?,
            period: u32::try_from(row.period).map_err(|_| odd("its period is no number"))?,
            next: row.next,
            drift: row.drift,
            two_codes: row.two_codes,
            valid_from: row.valid_from.map(Timestamp),
            valid_until: row.valid_until.map(Timestamp),
            expires_at: row.expires_at.map(Timestamp),
            created_at: Timestamp(row.created_at),
            activated_at: row.activated_at.map(Timestamp),
            last_used_at: row.last_used_at.map(Timestamp),
            ended_at: row.ended_at.map(Timestamp),
        };
        Ok(Self {
            authenticator,
            bound_to: row.bound_to.as_deref().map(uuid).transpose()?.map(UserId),
            secret,
            enrolment: row
                .enrolment
                .as_deref()
                .map(uuid)
                .transpose()?
                .map(EnrolmentId),
            browser: row.browser.and_then(|mark| mark.try_into().ok()),
        })
    }
}

/// Keeps a new authenticator. In the transaction that makes it.
///
/// # Errors
/// [`StoreError::Conflict`] when its serial or its id is there already.
pub(in crate::store) async fn insert(
    tx: &mut Tx,
    new: &KeptAuthenticator,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO authenticators (id, user_id, kind, state, serial, issuer, secret, key_id, hash, digits, period, next, drift, two_codes,
            valid_from, valid_until, expires_at, created_at, activated_at, last_used_at, ended_at, bound_to, enrolment, browser)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
        ON CONFLICT DO NOTHING";
    let KeptAuthenticator {
        authenticator: a,
        secret,
        ..
    } = new;
    let key = secret.as_ref().map(|s| s.key.to_string());
    let rows = on!(tx, c => sqlx::query(SQL)
        .bind(a.id.0.as_bytes().to_vec())
        .bind(a.user.map(|user| user.0.as_bytes().to_vec()))
        .bind(a.kind.as_str())
        .bind(a.state.as_str())
        .bind(a.serial.clone())
        .bind(a.issuer.clone())
        .bind(secret.as_ref().map(|s| s.bytes.clone()))
        .bind(key.unwrap_or_default())
        .bind(a.hash.as_str())
        .bind(i64::from(a.digits))
        .bind(i64::from(a.period))
        .bind(a.next)
        .bind(a.drift)
        .bind(a.two_codes)
        .bind(a.valid_from.map(|t| t.0))
        .bind(a.valid_until.map(|t| t.0))
        .bind(a.expires_at.map(|t| t.0))
        .bind(a.created_at.0)
        .bind(a.activated_at.map(|t| t.0))
        .bind(a.last_used_at.map(|t| t.0))
        .bind(a.ended_at.map(|t| t.0))
        .bind(new.bound_to.map(|user| user.0.as_bytes().to_vec()))
        .bind(new.enrolment.map(|id| id.0.as_bytes().to_vec()))
        .bind(new.browser.map(|mark| mark.to_vec()))
        .execute(&mut *c)
        .await
        .map(|r| r.rows_affected()))
    .map_err(StoreError::from_sqlx("keep an authenticator"))?;
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict(1))
    }
}

/// All authenticators of a user, the oldest first. In a transaction that decides about them.
pub(in crate::store) async fn of_user(
    tx: &mut Tx,
    user: UserId,
) -> Result<Vec<KeptAuthenticator>, StoreError> {
    let rows = on!(tx, c => sqlx::query_as::<_, AuthenticatorRow>(OF_USER).bind(user.0.as_bytes().to_vec()).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("read authenticators"))?;
    rows.into_iter().map(KeptAuthenticator::try_from).collect()
}

/// Remembers a code that does not count by itself: the first of two, which the second one is waited for until then, or one of which it
/// was told that it will be right.
pub(in crate::store) async fn remember_first(
    tx: &mut Tx,
    id: AuthenticatorId,
    at: i64,
    until: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE authenticators SET first_code = $2, first_until = $3 WHERE id = $1 AND state = 'active' AND next <= $2";
    on!(tx, c => sqlx::query(SQL).bind(id.0.as_bytes().to_vec()).bind(at).bind(until.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("remember a code"))
}

/// The applications of these ids count no more: their secrets go.
pub(in crate::store) async fn end(
    tx: &mut Tx,
    ids: &[AuthenticatorId],
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE authenticators SET state = 'revoked', secret = NULL, browser = NULL, expires_at = NULL, ended_at = $2
        WHERE id = $1 AND kind = 'app'";
    for id in ids {
        on!(tx, c => sqlx::query(SQL).bind(id.0.as_bytes().to_vec()).bind(now.0).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("revoke an application"))?;
    }
    Ok(())
}

/// Pending applications of these ids are no more: nobody ever proved them.
pub(in crate::store) async fn drop_pending(
    tx: &mut Tx,
    ids: &[AuthenticatorId],
) -> Result<(), StoreError> {
    const SQL: &str =
        "DELETE FROM authenticators WHERE id = $1 AND state = 'pending' AND kind = 'app'";
    for id in ids {
        on!(tx, c => sqlx::query(SQL).bind(id.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("forget an application"))?;
    }
    Ok(())
}

/// A pending application is proved by the code of this step, which is used up with it.
pub(in crate::store) async fn activate(
    tx: &mut Tx,
    id: AuthenticatorId,
    at: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE authenticators SET state = 'active', next = $2 + 1, activated_at = $3, expires_at = NULL, browser = NULL
        WHERE id = $1 AND state = 'pending' AND kind = 'app' AND expires_at > $3";
    let rows = on!(tx, c => sqlx::query(SQL).bind(id.0.as_bytes().to_vec()).bind(at).bind(now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("activate an application"))?;
    Ok(rows == 1)
}

/// All authenticators there are.
#[cfg(test)]
pub(in crate::store) async fn all(tx: &mut Tx) -> Result<Vec<KeptAuthenticator>, StoreError> {
    const SQL: &str = concat!(
        "SELECT ",
        authenticator_columns!(),
        " FROM authenticators ORDER BY id"
    );
    let rows = on!(tx, c => sqlx::query_as::<_, AuthenticatorRow>(SQL).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("read authenticators"))?;
    rows.into_iter().map(KeptAuthenticator::try_from).collect()
}

const OF_USER: &str = concat!(
    "SELECT ",
    authenticator_columns!(),
    " FROM authenticators WHERE user_id = $1 ORDER BY created_at, id"
);

impl Store {
    /// All authenticators of a user, also those that count no more, the oldest first.
    pub async fn authenticators(&self, user: UserId) -> Result<Vec<KeptAuthenticator>, StoreError> {
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, AuthenticatorRow>(OF_USER).bind(user.0.as_bytes().to_vec()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read authenticators"))?;
        rows.into_iter().map(KeptAuthenticator::try_from).collect()
    }
}
