//! Hard tokens: many at once from a file, and one by one as administrators give and take them.

use sqlx::{AssertSqlSafe, FromRow};

use super::KeptAuthenticator;
use super::authenticators::{AuthenticatorRow, GIVEN_UP, authenticator_columns};
use crate::clock::Timestamp;
use crate::model::{AuditEntry, AuthenticatorId, AuthenticatorState, RealmId};
use crate::store::audit::{AuditKey, append};
use crate::store::db::{Tx, on};
use crate::store::rows::places;
use crate::store::{Store, StoreError};

/// Rows of one INSERT: SQLite searches the list of placeholders for each, so that more of them cost more each.
const ROWS: usize = 20;
/// Serials and fingerprints that are looked up at once.
const ASKED: usize = 200;

/// A token that is to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewHardToken {
    /// The token, of nobody, with its encrypted seed.
    pub kept: KeptAuthenticator,
    /// The seed's fingerprint.
    pub fingerprint: [u8; 32],
    /// The store has the token already, without its seed, which was given up.
    pub again: bool,
}

/// The token that the store has of a serial, as far as a file is compared with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenOfSerial {
    /// What is printed on it.
    pub serial: String,
    /// Its seed's; `None`: the key that it was made with is lost.
    pub fingerprint: Option<[u8; 32]>,
    /// Its seed was given up with a lost key.
    pub given_up: bool,
}

impl TokenOfSerial {
    fn read(
        (serial, bytes, given_up): (String, Option<Vec<u8>>, bool),
    ) -> Result<Self, StoreError> {
        let fingerprint = bytes.map(TryInto::try_into).transpose().map_err(|_| {
            StoreError::Nonsense(format!(
                "hard token {serial}: its fingerprint has not 32 bytes"
            ))
        })?;
        Ok(Self {
            serial,
            fingerprint,
            given_up,
        })
    }
}

/// A token as it is listed: whose it is, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HardTokenRow {
    /// The token.
    pub kept: KeptAuthenticator,
    /// Its user's name.
    pub username: Option<String>,
    /// Its user's realm.
    pub realm: Option<RealmId>,
    /// Its seed was given up with a lost key, and may come back with a file.
    pub given_up: bool,
}

#[derive(FromRow)]
struct ListedRow {
    #[sqlx(flatten)]
    token: AuthenticatorRow,
    username: Option<String>,
    realm: Option<String>,
    given_up: bool,
}

impl TryFrom<ListedRow> for HardTokenRow {
    type Error = StoreError;

    fn try_from(row: ListedRow) -> Result<Self, StoreError> {
        Ok(Self {
            kept: row.token.try_into()?,
            username: row.username,
            realm: row.realm.map(RealmId::from),
            given_up: row.given_up,
        })
    }
}

/// A token with its user, if it has one.
const LISTED: &str = concat!(
    "SELECT ",
    authenticator_columns!(),
    ", (SELECT username FROM users u WHERE u.id = a.user_id) AS username,
       (SELECT realm FROM users u WHERE u.id = a.user_id) AS realm,
       a.state = 'revoked' AND a.key_id = 'given-up' AS given_up
     FROM authenticators a WHERE a.serial IS NOT NULL"
);

/// Which tokens are listed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct HardTokenFilter {
    /// In this state.
    pub state: Option<AuthenticatorState>,
    /// Whose codes count no longer from then on, or before; those that ended left out.
    pub over_by: Option<Timestamp>,
}

/// Gives a token the seed back that was given up: whose it is and where its counter stands stays.
async fn seed_again(tx: &mut Tx, token: &NewHardToken) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE authenticators SET secret = $2, key_id = $3, fingerprint = $4, bound_to = $5, state = $6, hash = $7, digits = $8, period = $9,
            next = CASE WHEN next > $10 THEN next ELSE $10 END, valid_from = $11, valid_until = $12, first_code = NULL, first_until = NULL, ended_at = NULL
        WHERE id = $1 AND state = 'revoked' AND key_id = $13 AND (user_id = $5 OR (user_id IS NULL AND $5 IS NULL))
          AND NOT EXISTS (SELECT 1 FROM authenticators other WHERE other.fingerprint = $4)";
    let NewHardToken {
        kept, fingerprint, ..
    } = token;
    let a = &kept.authenticator;
    let rows = on!(tx, c => sqlx::query(SQL)
        .bind(a.id.0.as_bytes().to_vec())
        .bind(kept.secret.as_ref().map(|s| s.bytes.clone()))
        .bind(kept.secret.as_ref().map(|s| s.key.to_string()).unwrap_or_default())
        .bind(fingerprint.to_vec())
        .bind(kept.bound_to.map(|u| u.0.as_bytes().to_vec()))
        .bind(a.state.as_str())
        .bind(a.hash.as_str())
        .bind(i64::from(a.digits))
        .bind(i64::from(a.period))
        .bind(a.next)
        .bind(a.valid_from.map(|t| t.0))
        .bind(a.valid_until.map(|t| t.0))
        .bind(GIVEN_UP)
        .execute(&mut *c)
        .await
        .map(|r| r.rows_affected()))
    .map_err(StoreError::from_sqlx("keep hard tokens"))?;
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict(1))
    }
}

impl Store {
    /// The tokens that have one of these serials or fingerprints.
    pub async fn known_tokens(
        &self,
        serials: &[&str],
        fingerprints: &[[u8; 32]],
    ) -> Result<Vec<TokenOfSerial>, StoreError> {
        macro_rules! known {
            () => {
                "SELECT serial, fingerprint, state = 'revoked' AND key_id = '{}' FROM authenticators WHERE serial IS NOT NULL AND {} IN ({})"
            };
        }
        let failed = StoreError::from_sqlx("read hard tokens");
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for serials in serials.chunks(ASKED) {
            let sql = format!(known!(), GIVEN_UP, "serial", places(1, serials.len()));
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, (String, Option<Vec<u8>>, bool)>(AssertSqlSafe(sql));
                for serial in serials { query = query.bind(*serial); }
                query.fetch_all(&mut *c).await
            })
            .map_err(&failed)?;
            found.extend(rows);
        }
        for fingerprints in fingerprints.chunks(ASKED) {
            let sql = format!(
                known!(),
                GIVEN_UP,
                "fingerprint",
                places(1, fingerprints.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, (String, Option<Vec<u8>>, bool)>(AssertSqlSafe(sql));
                for fingerprint in fingerprints { query = query.bind(fingerprint.to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(&failed)?;
            found.extend(rows);
        }
        found.into_iter().map(TokenOfSerial::read).collect()
    }

    /// Keeps all tokens of a file, in one transaction with the line of the audit.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of them is there by now, or one whose seed was given up is another. Then none is kept.
    pub async fn keep_tokens(
        &self,
        new: &[NewHardToken],
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const COLUMNS: usize = 14;
        let failed = StoreError::from_sqlx("keep hard tokens");
        let mut tx = self.db.begin().await?;
        let (again, new): (Vec<_>, Vec<_>) = new.iter().partition(|token| token.again);
        for token in again {
            seed_again(&mut tx, token).await?;
        }
        for rows in new.chunks(ROWS) {
            let values: Vec<String> = (0..rows.len())
                .map(|row| format!("({}, 'pending', $1)", places(2 + row * COLUMNS, COLUMNS)))
                .collect();
            let sql = format!(
                "INSERT INTO authenticators (id, kind, serial, issuer, secret, key_id, fingerprint, hash, digits, period, next, drift, \
                 valid_from, valid_until, state, created_at) VALUES {} ON CONFLICT DO NOTHING",
                values.join(", ")
            );
            let at = audit.0.at.0;
            let kept = on!(tx, c => {
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(at);
                for NewHardToken { kept, fingerprint, .. } in rows {
                    let a = &kept.authenticator;
                    let key = kept.secret.as_ref().map(|s| s.key.to_string()).unwrap_or_default();
                    query = query
                        .bind(a.id.0.as_bytes().to_vec())
                        .bind(a.kind.as_str())
                        .bind(a.serial.clone())
                        .bind(a.issuer.clone())
                        .bind(kept.secret.as_ref().map(|s| s.bytes.clone()))
                        .bind(key)
                        .bind(fingerprint.to_vec())
                        .bind(a.hash.as_str())
                        .bind(i64::from(a.digits))
                        .bind(i64::from(a.period))
                        .bind(a.next)
                        .bind(a.drift)
                        .bind(a.valid_from.map(|t| t.0))
                        .bind(a.valid_until.map(|t| t.0));
                }
                query.execute(&mut *c).await.map(|r| r.rows_affected())
            })
            .map_err(&failed)?;
            let missing = (rows.len() as u64).saturating_sub(kept);
            if missing > 0 {
                return Err(StoreError::Conflict(missing));
            }
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// The token of a serial.
    pub async fn hard_token(&self, serial: &str) -> Result<Option<HardTokenRow>, StoreError> {
        let sql = format!("{LISTED} AND a.serial = $1");
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, ListedRow>(AssertSqlSafe(sql)).bind(serial).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a hard token"))?;
        row.map(HardTokenRow::try_from).transpose()
    }

    /// Tokens in the order of their serials, after one.
    pub async fn hard_tokens(
        &self,
        filter: &HardTokenFilter,
        after: &str,
        limit: i64,
    ) -> Result<Vec<HardTokenRow>, StoreError> {
        let sql = format!(
            "{LISTED} AND a.serial > $1 AND ($2 IS NULL OR a.state = $2)
             AND ($3 IS NULL OR (a.valid_until <= $3 AND a.state IN ('pending', 'active'))) ORDER BY a.serial LIMIT $4"
        );
        let state = filter.state.map(AuthenticatorState::as_str);
        let over = filter.over_by.map(|t| t.0);
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, ListedRow>(AssertSqlSafe(sql)).bind(after).bind(state).bind(over).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read hard tokens"))?;
        rows.into_iter().map(HardTokenRow::try_from).collect()
    }

    /// Gives a token to a user, takes it back or ends it. Neither counter nor drift is touched: somebody may log on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the token is another by now, or its user nobody any more. Then nothing is done.
    pub async fn change_token(
        &self,
        held: &KeptAuthenticator,
        to: &KeptAuthenticator,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const CHANGE: &str = "
            UPDATE authenticators SET user_id = $2, bound_to = $3, secret = $4, key_id = COALESCE($5, key_id), state = $6, two_codes = $7,
                activated_at = $8, ended_at = $9, first_code = NULL, first_until = NULL
            WHERE id = $1 AND state = $10 AND key_id = $11 AND (user_id = $12 OR (user_id IS NULL AND $12 IS NULL))
              AND ($2 IS NULL OR EXISTS (SELECT 1 FROM users WHERE users.id = $2 AND users.state <> 'removed'))";
        const KEY: &str = "SELECT key_id FROM authenticators WHERE id = $1";
        let failed = StoreError::from_sqlx("change a hard token");
        let id = to.authenticator.id.0.as_bytes().to_vec();
        let user = to.authenticator.user.map(|u| u.0.as_bytes().to_vec());
        let mut tx = self.db.begin().await?;
        // As whoever removes the user does.
        if let Some(user) = to.authenticator.user.or(held.authenticator.user) {
            crate::store::outbox::locks::user(&mut tx, user).await?;
        }
        if let Some(realm) = &audit.0.realm {
            crate::store::outbox::locks::realm(&mut tx, realm).await?;
        }
        // Ended ones have no secret that would name its key.
        let key = match &held.secret {
            Some(secret) => secret.key.to_string(),
            None => on!(tx, c => sqlx::query_scalar::<_, String>(KEY).bind(id.clone()).fetch_optional(&mut *c).await)
                .map_err(&failed)?
                .unwrap_or_default(),
        };
        let rows = on!(tx, c => sqlx::query(CHANGE)
            .bind(id)
            .bind(user)
            .bind(to.bound_to.map(|u| u.0.as_bytes().to_vec()))
            .bind(to.secret.as_ref().map(|s| s.bytes.clone()))
            .bind(to.secret.as_ref().map(|s| s.key.to_string()))
            .bind(to.authenticator.state.as_str())
            .bind(to.authenticator.two_codes)
            .bind(to.authenticator.activated_at.map(|t| t.0))
            .bind(to.authenticator.ended_at.map(|t| t.0))
            .bind(held.authenticator.state.as_str())
            .bind(key)
            .bind(held.authenticator.user.map(|u| u.0.as_bytes().to_vec()))
            .execute(&mut *c)
            .await
            .map(|r| r.rows_affected()))
        .map_err(&failed)?;
        if rows != 1 {
            return Err(StoreError::Conflict(1));
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// A token whose seed was given up is revoked for good: no file gives it back.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is another by now. Then nothing is done.
    pub async fn revoke_given_up(
        &self,
        held: &KeptAuthenticator,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const REVOKE: &str = "UPDATE authenticators SET key_id = '' WHERE id = $1 AND state = 'revoked' AND key_id = $2";
        let id = held.authenticator.id.0.as_bytes().to_vec();
        let mut tx = self.db.begin().await?;
        if let Some(user) = held.authenticator.user {
            crate::store::outbox::locks::user(&mut tx, user).await?;
        }
        if let Some(realm) = &audit.0.realm {
            crate::store::outbox::locks::realm(&mut tx, realm).await?;
        }
        let rows = on!(tx, c => sqlx::query(REVOKE).bind(id).bind(GIVEN_UP).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("revoke a hard token"))?;
        if rows != 1 {
            return Err(StoreError::Conflict(1));
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// Sets where a token stands, after two codes in a row showed it. They are used up.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of them, or a later one, was used meanwhile.
    pub async fn move_token(
        &self,
        token: AuthenticatorId,
        (used, drift): (i64, i64),
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const MOVE: &str = "
            UPDATE authenticators SET next = $2 + 1, drift = $3, two_codes = (1 = 0), first_code = NULL, first_until = NULL
            WHERE id = $1 AND next < $2 AND state IN ('pending', 'active')";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(MOVE).bind(token.0.as_bytes().to_vec()).bind(used).bind(drift).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("move a hard token"))?;
        if rows != 1 {
            return Err(StoreError::Conflict(1));
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is another by now.
    pub async fn remove_token(
        &self,
        held: &KeptAuthenticator,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<(), StoreError> {
        const REMOVE: &str = "DELETE FROM authenticators WHERE id = $1 AND state = $2 AND (user_id = $3 OR (user_id IS NULL AND $3 IS NULL))";
        let a = &held.authenticator;
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(REMOVE).bind(a.id.0.as_bytes().to_vec()).bind(a.state.as_str())
            .bind(a.user.map(|u| u.0.as_bytes().to_vec())).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("remove a hard token"))?;
        if rows != 1 {
            return Err(StoreError::Conflict(1));
        }
        append(&mut tx, audit.1, audit.0).await?;
        tx.commit().await
    }
}
