//! What users are told of their factors: noted where it happens, made a message by a timer. Whoever notes needs no user's row.

use super::db::{Tx, on};
use super::freezes::is_frozen;
use super::outbox::{self, MessageContext};
use super::rows::{UserRow, or_left_alone, user_columns, uuid, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{JobReason, RealmId, User, UserId};

/// Something that a user is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoticeToTell {
    /// Its place in the order of noting.
    pub seq: i64,
    /// Whom.
    pub user: UserId,
    /// Their realm.
    pub realm: RealmId,
}

/// Notes what a user is to be told. In the transaction in which it happens.
pub(in crate::store) async fn note(
    tx: &mut Tx,
    user: UserId,
    reason: JobReason,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO notices (user_id, reason, at) VALUES ($1, $2, $3)";
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).bind(reason.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("note a notice"))
}

/// Notes that a recovery code was used, and how many are left. In the transaction that uses it.
pub(in crate::store) async fn note_recovery_code(
    tx: &mut Tx,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO notices (user_id, reason, codes_left, at)
        SELECT $1, $2, (SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1 AND kind = 'recovery' AND uses_left > 0), $3";
    let reason = JobReason::RecoveryCodeUsed.as_str();
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().to_vec()).bind(reason).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("note a notice"))
}

/// So few recovery codes are few.
const FEW: i64 = 2;

impl Store {
    /// What users are to be told, the oldest first, behind the last one; of who is not there any more it is forgotten.
    pub async fn notices_to_tell(&self, last: i64) -> Result<Vec<NoticeToTell>, StoreError> {
        const SQL: &str = "
            SELECT n.seq, n.user_id, u.realm FROM notices n LEFT JOIN users u ON u.id = n.user_id AND u.state <> 'removed' WHERE n.seq > $1 ORDER BY n.seq LIMIT 500";
        const FORGET: &str = "DELETE FROM notices WHERE seq = $1";
        let failed = StoreError::from_sqlx("look for notices");
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (i64, Vec<u8>, Option<String>)>(SQL).bind(last).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        drop(link);
        let mut found = vec![];
        for (seq, user, realm) in rows {
            let Some(realm) = realm else {
                let mut tx = self.db.begin().await?;
                on!(tx, c => sqlx::query(FORGET).bind(seq).execute(&mut *c).await.map(|_| ()))
                    .map_err(&failed)?;
                tx.commit().await?;
                continue;
            };
            found.push(NoticeToTell {
                seq,
                user: UserId(uuid(&user)?),
                realm: RealmId::from(realm),
            });
        }
        Ok(found)
    }

    /// Makes a message of a notice, once over all daemons. `false`: another one did, the realm delivers nothing, or the user is not
    /// usable, or frozen, and is told nothing.
    ///
    /// A row that cannot be read waits for a program that can, and keeps no other one from being told.
    pub async fn tell_notice(
        &self,
        notice: &NoticeToTell,
        messages: &MessageContext,
    ) -> Result<bool, StoreError> {
        or_left_alone(self.tell_one(notice, messages).await)
    }

    async fn tell_one(
        &self,
        notice: &NoticeToTell,
        messages: &MessageContext,
    ) -> Result<bool, StoreError> {
        const TAKE: &str = "DELETE FROM notices WHERE seq = $1 RETURNING reason, codes_left, at";
        const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        let failed = StoreError::from_sqlx("tell a notice");
        let mut tx = self.db.begin().await?;
        let taken = on!(tx, c => sqlx::query_as::<_, (String, Option<i64>, i64)>(TAKE).bind(notice.seq).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let Some((reason, codes_left, at)) = taken else {
            return Ok(false);
        };
        let user = on!(tx, c => sqlx::query_as::<_, UserRow>(USER).bind(notice.user.0.as_bytes().to_vec()).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let user = user.map(User::try_from).transpose()?;
        let frozen = is_frozen(&mut tx, notice.user).await?;
        let told = match user.filter(|user| messages.delivers && user.usable() && !frozen) {
            Some(user) => {
                let reason = match word::<JobReason>(&reason)? {
                    JobReason::RecoveryCodeUsed if codes_left.is_some_and(|left| left <= FEW) => {
                        JobReason::RecoveryCodesLow
                    }
                    reason => reason,
                };
                // The message says when it happened, and is tried for as long as any other from now on: its realm may have been in no
                // file for days.
                let at = Timestamp(at);
                let context = MessageContext {
                    now: at,
                    retry_for_ms: messages.retry_for_ms + messages.now.since_ms(at).max(0),
                    ..messages.clone()
                };
                outbox::say_notice(&mut tx, &context, &user, reason, codes_left).await?;
                true
            }
            None => false,
        };
        tx.commit().await?;
        Ok(told)
    }
}
