//! What the store knows of the enrolment key: a canary that is encrypted with it, what is left of keys that went out of use, and which
//! secrets are kept with another one.
//!
//! ```text
//!   meta.canary            = key, secret        says which key the store is kept with
//!   meta.retired-key ID    = key, secret        the keys of ID's digests, encrypted with the key in use
//!   authenticators.key_id                       says it of each secret
//! ```

use super::audit::{AuditNote, append};
use super::db::{Tx, on};
use super::outbox::{EnrolmentKey, KEPT_KEY, decoded};
use super::rows::uuid;
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::factors::keys::KeyId;
use crate::factors::sealed::Sealed;
use crate::model::{Authenticator, AuthenticatorId, UserId};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

pub(super) const CANARY: &str = "canary";
pub(super) const RETIRED: &str = "retired-key ";
/// Milliseconds since 1970.
pub(super) const CHANGED: &str = "key-changed-at";
pub(super) const ALARM: &str = "sealed-alarm";

/// What the store knows of keys.
#[derive(Clone, Default, Debug)]
pub struct KeyKeeping {
    /// The key that was made while none was configured.
    pub own: Option<EnrolmentKey>,
    /// Encrypted with the key in use; `None`: no daemon has started yet.
    pub canary: Option<Sealed>,
    /// What is left of keys that went out of use.
    pub retired: Vec<(KeyId, Sealed)>,
    /// When a secret could not be decrypted, and which one; the last time.
    pub alarm: Option<String>,
    /// When the key in use took the place of another one; `None`: it is the first.
    pub changed_at: Option<Timestamp>,
}

/// A secret of an authenticator, as it is kept.
#[derive(Clone, Debug)]
pub struct KeptSecret {
    /// Whose.
    pub id: AuthenticatorId,
    /// What it is bound to.
    pub owner: [u8; 32],
    /// It.
    pub sealed: Sealed,
    /// It is the seed of a hard token, which has a fingerprint too.
    pub has_fingerprint: bool,
}

/// A secret that is encrypted with another key now.
#[derive(Clone, Debug)]
pub struct MovedSecret {
    /// As it was kept.
    pub was: KeptSecret,
    /// As it is.
    pub is: Sealed,
    /// Of a hard token's seed, under the same key.
    pub fingerprint: Option<[u8; 32]>,
}

/// What another key would lock out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LockedOut {
    /// Secrets of authenticators.
    pub secrets: i64,
    /// Recovery codes that are left.
    pub codes: i64,
}

type KeptRow = (Vec<u8>, Option<Vec<u8>>, Vec<u8>, bool);

pub(super) fn text(sealed: &Sealed) -> String {
    format!("{} {}", sealed.key, BASE64.encode(&sealed.bytes))
}

fn sealed(text: &str) -> Result<Sealed, StoreError> {
    let read = || {
        let (key, bytes) = text.split_once(' ')?;
        Some(Sealed {
            key: KeyId::parse(key)?,
            bytes: BASE64.decode(bytes.as_bytes()).ok()?,
        })
    };
    read().ok_or_else(|| {
        StoreError::Nonsense("what meta keeps of the enrolment key cannot be read".to_owned())
    })
}

pub(super) async fn put(tx: &mut Tx, key: &str, value: &str) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    on!(tx, c => sqlx::query(SQL).bind(key).bind(value).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("keep a key"))
}

impl Store {
    /// What the store knows of keys.
    pub async fn key_keeping(&self) -> Result<KeyKeeping, StoreError> {
        const SQL: &str = "SELECT key, value FROM meta WHERE key IN ('enrolment_key', 'canary', 'sealed-alarm', 'key-changed-at') OR key LIKE 'retired-key %'";
        let mut link = self.db.read().await?;
        let rows =
            on!(link, c => sqlx::query_as::<_, (String, String)>(SQL).fetch_all(&mut *c).await)
                .map_err(StoreError::from_sqlx("read what is known of keys"))?;
        let mut known = KeyKeeping::default();
        for (key, value) in rows {
            match key.as_str() {
                KEPT_KEY => known.own = Some(decoded(&value)?),
                CANARY => known.canary = Some(sealed(&value)?),
                ALARM => known.alarm = Some(value),
                CHANGED => known.changed_at = value.parse().ok().map(Timestamp),
                other => {
                    let id = other.strip_prefix(RETIRED).and_then(KeyId::parse);
                    if let Some(id) = id {
                        known.retired.push((id, sealed(&value)?));
                    }
                }
            }
        }
        Ok(known)
    }

    /// Keeps a canary, unless there is one: of two daemons that start at once one is first. `retired`: what is left of keys that are not
    /// in use, encrypted with its key.
    pub async fn keep_canary(
        &self,
        canary: &Sealed,
        retired: &[(KeyId, Sealed)],
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO meta (key, value) VALUES ('canary', $1) ON CONFLICT (key) DO NOTHING";
        let mut tx = self.db.begin().await?;
        let first = on!(tx, c => sqlx::query(SQL).bind(text(canary)).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("keep a canary"))?;
        if first == 1 {
            for (id, sealed) in retired {
                put(&mut tx, &format!("{RETIRED}{id}"), &text(sealed)).await?;
            }
        }
        tx.commit().await
    }

    /// Those of these keys that something is kept or digested with. Reads recovery codes and the audit.
    pub async fn keys_in_use(&self, keys: &[KeyId]) -> Result<Vec<KeyId>, StoreError> {
        const SQL: &str = "
            SELECT EXISTS (SELECT 1 FROM authenticators WHERE secret IS NOT NULL AND key_id = $1)
                OR EXISTS (SELECT 1 FROM recovery_codes WHERE key_id = $1) OR EXISTS (SELECT 1 FROM audit WHERE key_id = $1)";
        let mut link = self.db.read().await?;
        let mut used = vec![];
        for key in keys {
            let is_used = on!(link, c => sqlx::query_scalar::<_, bool>(SQL).bind(key.to_string()).fetch_one(&mut *c).await)
                .map_err(StoreError::from_sqlx("look which keys are in use"))?;
            if is_used {
                used.push(*key);
            }
        }
        Ok(used)
    }

    /// Another key is in use from now on. `retired`: what is left of those that went out of use, encrypted with it.
    /// `false`: the store is kept with yet another key by now, and nothing is done.
    pub async fn change_key(
        &self,
        from: &Sealed,
        canary: &Sealed,
        retired: &[(KeyId, Sealed)],
        note: &AuditNote,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE meta SET value = $1 WHERE key = 'canary' AND value = $2";
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(text(canary)).bind(text(from)).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("change the key"))?;
        if rows != 1 {
            return Ok(false);
        }
        put(&mut tx, CHANGED, &note.entry.at.0.to_string()).await?;
        for (id, sealed) in retired {
            put(&mut tx, &format!("{RETIRED}{id}"), &text(sealed)).await?;
        }
        append(&mut tx, &note.key, &note.entry).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// How many secrets are kept with keys other than this one, by the name of their key.
    pub async fn secrets_of_others(&self, key: KeyId) -> Result<Vec<(String, i64)>, StoreError> {
        // Two ranges of the index: mostly there is nothing in them.
        const SQL: &str = "
            SELECT key_id, COUNT(*) FROM authenticators WHERE secret IS NOT NULL AND (key_id < $1 OR key_id > $1)
            GROUP BY key_id ORDER BY key_id";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_as::<_, (String, i64)>(SQL).bind(key.to_string()).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("count secrets"))
    }

    /// What is kept with keys other than these; `digests`: those that recovery codes may have been digested under. Reads all recovery codes.
    pub async fn locked_out(
        &self,
        keys: &[KeyId],
        digests: &[KeyId],
    ) -> Result<LockedOut, StoreError> {
        const SECRETS: &str =
            "SELECT key_id, COUNT(*) FROM authenticators WHERE secret IS NOT NULL GROUP BY key_id";
        const CODES: &str =
            "SELECT key_id, COUNT(*) FROM recovery_codes WHERE uses_left > 0 GROUP BY key_id";
        let failed = StoreError::from_sqlx("count secrets");
        let mut link = self.db.read().await?;
        let mut of = [0, 0];
        for ((sql, keys), sum) in [(SECRETS, keys), (CODES, digests)].into_iter().zip(&mut of) {
            let rows =
                on!(link, c => sqlx::query_as::<_, (String, i64)>(sql).fetch_all(&mut *c).await)
                    .map_err(&failed)?;
            let others = rows.into_iter();
            let others =
                others.filter(|(key, _)| KeyId::parse(key).is_none_or(|key| !keys.contains(&key)));
            *sum = others.map(|(_, count)| count).sum();
        }
        let [secrets, codes] = of;
        Ok(LockedOut { secrets, codes })
    }

    /// Secrets that are kept with this key, by the id of their authenticator after `after`.
    pub async fn secrets_of(
        &self,
        key: KeyId,
        after: Option<AuthenticatorId>,
        limit: i64,
    ) -> Result<Vec<KeptSecret>, StoreError> {
        const SQL: &str = "
            SELECT id, bound_to, secret, fingerprint IS NOT NULL FROM authenticators
            WHERE secret IS NOT NULL AND key_id = $1 AND id > $2 ORDER BY id LIMIT $3";
        let after = after.map_or([0; 16], |id| *id.0.as_bytes()).to_vec();
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, KeptRow>(SQL).bind(key.to_string()).bind(after).bind(limit).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read secrets"))?;
        let read = |(id, bound_to, bytes, has_fingerprint): KeptRow| {
            let id = AuthenticatorId(uuid(&id)?);
            let user = bound_to.as_deref().map(uuid).transpose()?.map(UserId);
            Ok(KeptSecret {
                id,
                owner: Authenticator::owner(user, id),
                sealed: Sealed { key, bytes },
                has_fingerprint,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Writes secrets anew that are encrypted with another key now; one that changed meanwhile stays. Gives how many were written.
    pub async fn reseal(&self, moved: &[MovedSecret]) -> Result<u64, StoreError> {
        // Two tokens of one seed, which can be there only if two daemons had two keys, must not keep the others from being moved.
        const SQL: &str = "
            UPDATE authenticators SET secret = $2, key_id = $3, fingerprint = CASE
                WHEN $5 IS NULL OR EXISTS (SELECT 1 FROM authenticators other WHERE other.fingerprint = $5) THEN fingerprint ELSE $5 END
            WHERE id = $1 AND secret = $4";
        let mut written = 0;
        let mut tx = self.db.begin().await?;
        for MovedSecret {
            was,
            is,
            fingerprint,
        } in moved
        {
            let id = was.id.0.as_bytes().to_vec();
            written += on!(tx, c => sqlx::query(SQL).bind(id).bind(is.bytes.clone()).bind(is.key.to_string()).bind(was.sealed.bytes.clone()).bind(fingerprint.map(|print| print.to_vec()))
                .execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("move secrets over"))?;
        }
        tx.commit().await?;
        Ok(written)
    }

    /// Remembers for `status` that a secret could not be decrypted.
    pub async fn alarm_sealed(&self, what: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        put(&mut tx, ALARM, &format!("{now} {what}")).await?;
        tx.commit().await
    }
}
