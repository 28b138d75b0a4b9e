//! An enrolment key is lost for good: what it kept is given up.

use sqlx::AssertSqlSafe;

use super::audit::{AuditNote, append};
use super::db::{Tx, on};
use super::enrolments::take_back;
use super::factors::GIVEN_UP;
use super::keys::{ALARM, CANARY, CHANGED, LockedOut, RETIRED, put, text};
use super::outbox::locks;
use super::rows::uuid;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::factors::sealed::Sealed;
use crate::model::UserId;

/// What is given up, and how the store goes on.
#[derive(Clone, Debug)]
pub struct GivenUp {
    /// The canary as it is; `None`: there is none.
    pub was: Option<Sealed>,
    /// The one of the key that is in use from now on.
    pub canary: Sealed,
    /// Keys that are at hand: what they keep stays.
    pub keys: Vec<KeyId>,
    /// Keys whose digests can be told: recovery codes and fingerprints of these stay.
    pub digests: Vec<KeyId>,
    /// What is left of keys that are out of use, encrypted with the one in use.
    pub retired: Vec<(KeyId, Sealed)>,
    /// How much it is, as whoever asks was told.
    pub out: LockedOut,
}

/// Condition: kept with none of these keys.
fn with_others(keys: &[KeyId]) -> String {
    // Names are hexadecimal digits of our own making.
    let keys: Vec<String> = keys.iter().map(|id| format!("'{id}'")).collect();
    format!("key_id NOT IN ({})", keys.join(", "))
}

async fn done(tx: &mut Tx, sql: String, at: Timestamp) -> Result<u64, StoreError> {
    let bound = sql.contains("$1");
    on!(tx, c => {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        if bound { query = query.bind(at.0); }
        query.execute(&mut *c).await.map(|r| r.rows_affected())
    })
    .map_err(StoreError::from_sqlx("give up what a lost key kept"))
}

/// Another canary takes the place of the one that was there. `false`: another one is there by now.
async fn take_canary(
    tx: &mut Tx,
    was: Option<&Sealed>,
    canary: &Sealed,
) -> Result<bool, StoreError> {
    const FIRST: &str =
        "INSERT INTO meta (key, value) VALUES ($2, $1) ON CONFLICT (key) DO NOTHING";
    const CHANGE: &str = "UPDATE meta SET value = $1 WHERE key = $2 AND value = $3";
    let rows = match was.map(text) {
        None => {
            on!(tx, c => sqlx::query(FIRST).bind(text(canary)).bind(CANARY).execute(&mut *c).await.map(|r| r.rows_affected()))
        }
        Some(was) => {
            on!(tx, c => sqlx::query(CHANGE).bind(text(canary)).bind(CANARY).bind(was).execute(&mut *c).await.map(|r| r.rows_affected()))
        }
    };
    Ok(rows.map_err(StoreError::from_sqlx("change the key"))? == 1)
}

/// Whoever had an authenticator, or recovery codes, that go was asked for a code by an open link: that link would do alone afterwards.
/// Gives how many users had one.
async fn links_back(
    tx: &mut Tx,
    secrets: &str,
    digests: &str,
    at: Timestamp,
) -> Result<usize, StoreError> {
    let sql = format!(
        "SELECT DISTINCT user_id FROM enrolments WHERE state = 'open' AND (
            user_id IN (SELECT user_id FROM authenticators WHERE state = 'active' AND secret IS NOT NULL AND {secrets})
            OR user_id IN (SELECT user_id FROM recovery_codes WHERE kind = 'recovery' AND uses_left > 0 AND {digests})) ORDER BY user_id"
    );
    let users =
        on!(tx, c => sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read enrolments"))?;
    for user in &users {
        take_back(tx, UserId(uuid(user)?), at).await?;
    }
    Ok(users.len())
}

impl Store {
    /// Gives up what is kept with keys that nobody has, in one transaction with its line of the audit. Applications are revoked. Hard
    /// tokens are revoked too, and get their seed back with a file: whose they are and where their counter stands stays. Recovery codes
    /// go. Open links of whoever had either are void. `false`: the store is kept with another canary by now, or it would be
    /// another number, and nothing is done.
    pub async fn give_up_key(
        &self,
        given_up: &GivenUp,
        note: &AuditNote,
    ) -> Result<bool, StoreError> {
        let at = note.entry.at;
        let secrets = with_others(&given_up.keys);
        let digests = with_others(&given_up.digests);
        let mut tx = self.db.begin().await?;
        locks::links_and_authenticators(&mut tx).await?;
        if !take_canary(&mut tx, given_up.was.as_ref(), &given_up.canary).await? {
            return Ok(false);
        }
        let links = links_back(&mut tx, &secrets, &digests, at).await?;
        let pending = format!(
            "DELETE FROM authenticators WHERE secret IS NOT NULL AND kind = 'app' AND state = 'pending' AND {secrets}"
        );
        let applications = format!(
            "UPDATE authenticators SET state = 'revoked', secret = NULL, browser = NULL, expires_at = NULL, ended_at = $1
             WHERE secret IS NOT NULL AND kind = 'app' AND {secrets}"
        );
        let tokens = format!(
            "UPDATE authenticators SET state = 'revoked', secret = NULL, fingerprint = NULL, key_id = '{GIVEN_UP}',
                first_code = NULL, first_until = NULL, ended_at = $1
             WHERE secret IS NOT NULL AND kind <> 'app' AND {secrets}"
        );
        let mut out = 0;
        for sql in [pending, applications, tokens] {
            out += done(&mut tx, sql, at).await?;
        }
        // Of those that ended before: nothing tells their seeds any more.
        let ended = format!(
            "UPDATE authenticators SET fingerprint = NULL WHERE secret IS NULL AND fingerprint IS NOT NULL AND {digests}"
        );
        done(&mut tx, ended, at).await?;
        let left = format!("DELETE FROM recovery_codes WHERE uses_left > 0 AND {digests}");
        let codes = done(&mut tx, left, at).await?;
        let used = format!("DELETE FROM recovery_codes WHERE {digests}");
        done(&mut tx, used, at).await?;
        let expected = [given_up.out.secrets, given_up.out.codes];
        if [out, codes].map(u64::cast_signed) != expected {
            return Ok(false);
        }
        put(&mut tx, CHANGED, &at.0.to_string()).await?;
        let gone = format!("DELETE FROM meta WHERE key = '{ALARM}' OR key LIKE '{RETIRED}%'");
        done(&mut tx, gone, at).await?;
        for (id, sealed) in &given_up.retired {
            put(&mut tx, &format!("{RETIRED}{id}"), &text(sealed)).await?;
        }
        let note = note.clone().is("withdrawn", links);
        append(&mut tx, &note.key, &note.entry).await?;
        tx.commit().await?;
        Ok(true)
    }
}
