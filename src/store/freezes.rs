//! Users who said of a changed number that this was not them: the links by which they say so, and what an administrator decides.

use std::collections::HashMap;

use sqlx::FromRow;

use super::db::{Tx, on};
use super::rows::{note_unreadable, uuid, word};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::{DisputedNumber, Freeze, FreezeLink, NumberMark, Phone, UserId};

/// Whether a user is frozen: none of their codes is accepted, and nothing is sent to them. In the caller's transaction; locks nothing.
pub(in crate::store) async fn is_frozen(tx: &mut Tx, user: UserId) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM freezes WHERE user_id = $1";
    let rows =
        on!(tx, c => sqlx::query_scalar::<_, i64>(SQL).bind(key(user)).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("look whether a user is frozen"))?;
    Ok(rows > 0)
}

/// The users of a list who are frozen, with the places of their ids.
pub(super) fn frozen_of(places: &str) -> String {
    format!("SELECT user_id FROM freezes WHERE user_id IN ({places})")
}

/// Keeps the link of a notice; in the transaction that makes the notice.
pub(super) async fn keep_link(
    tx: &mut Tx,
    id: uuid::Uuid,
    token_sha256: [u8; 32],
    link: &FreezeLink,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO freeze_links (id, user_id, token_sha256, previous, since, expires_at) VALUES ($1, $2, $3, $4, $5, $6)";
    on!(tx, c => sqlx::query(SQL)
        .bind(id.as_bytes().to_vec())
        .bind(key(link.user))
        .bind(token_sha256.to_vec())
        .bind(link.previous.as_str())
        .bind(link.since.0)
        .bind(link.expires_at.0)
        .execute(&mut *c)
        .await
        .map(|_| ()))
    .map_err(StoreError::from_sqlx("keep a link"))
}

/// Sees that what is staged under `$1` gives no frozen user another number; with `refused` also that it gives nobody a number that
/// was refused, since whoever decided may not have known; without it somebody chose the number, which is refused no more. Before the users are
/// written.
pub(super) async fn guard(tx: &mut Tx, stage: &[u8], refused: bool) -> Result<(), StoreError> {
    const ANY: &str =
        "SELECT EXISTS (SELECT 1 FROM freezes), EXISTS (SELECT 1 FROM refused_numbers)";
    const FROZEN: &str = "
        SELECT COUNT(*) FROM freezes f JOIN staged_users s ON s.id = f.user_id JOIN users u ON u.id = s.id
        WHERE s.run = $1 AND s.base_version > 0 AND s.state <> 'removed'
          AND (s.phone IS DISTINCT FROM u.phone OR s.phone_pending IS NOT NULL)";
    const REFUSED: &str = "
        SELECT COUNT(*) FROM refused_numbers r JOIN staged_users s ON s.id = r.user_id JOIN users u ON u.id = s.id
        WHERE s.run = $1 AND s.base_version > 0
          AND (s.phone = r.phone AND u.phone IS DISTINCT FROM s.phone OR s.phone_pending = r.phone)";
    const CHOSEN: &str = "
        DELETE FROM refused_numbers WHERE EXISTS (
            SELECT 1 FROM staged_users s WHERE s.run = $1 AND s.id = refused_numbers.user_id
            AND (s.phone = refused_numbers.phone OR s.phone_pending = refused_numbers.phone))";
    let failed = StoreError::from_sqlx("look for numbers that are not used");
    let (frozen, numbers) =
        on!(tx, c => sqlx::query_as::<_, (bool, bool)>(ANY).fetch_one(&mut *c).await)
            .map_err(&failed)?;
    for sql in [FROZEN]
        .iter()
        .filter(|_| frozen)
        .chain([REFUSED].iter().filter(|_| refused && numbers))
        .copied()
    {
        let against = on!(tx, c => sqlx::query_scalar::<_, i64>(sql).bind(stage.to_vec()).fetch_one(&mut *c).await)
            .map_err(&failed)?;
        if against > 0 {
            return Err(StoreError::Conflict(against.unsigned_abs()));
        }
    }
    if numbers && !refused {
        on!(tx, c => sqlx::query(CHOSEN).bind(stage.to_vec()).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
    }
    Ok(())
}

/// The number that was refused counts no more as refused: another one is given.
pub(super) async fn allow(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM refused_numbers WHERE user_id = $1";
    on!(tx, c => sqlx::query(SQL).bind(key(user)).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("forget a refused number"))
}

#[derive(FromRow)]
struct FreezeRow {
    previous: String,
    number: Option<String>,
    raw: Option<String>,
    source: Option<String>,
    since: i64,
    at: i64,
}

impl TryFrom<FreezeRow> for Freeze {
    type Error = StoreError;

    fn try_from(row: FreezeRow) -> Result<Self, StoreError> {
        let number = match (row.number, row.source) {
            (Some(number), Some(source)) => Some(DisputedNumber {
                phone: phone(number)?,
                raw: row.raw,
                source: word(&source)?,
            }),
            _ => None,
        };
        Ok(Self {
            previous: phone(row.previous)?,
            number,
            since: Timestamp(row.since),
            at: Timestamp(row.at),
        })
    }
}

impl Store {
    /// The link of this token, of a user who is not removed, as long as it is valid: until its end, and beyond it as long as a number
    /// waits to take the place of the one that it was sent to, which was in use ever since.
    pub async fn freeze_link(
        &self,
        token_sha256: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<FreezeLink>, StoreError> {
        const SQL: &str = "
            SELECT l.user_id, l.previous, l.since, l.expires_at FROM freeze_links l JOIN users u ON u.id = l.user_id
            WHERE l.token_sha256 = $1 AND u.state <> 'removed' AND (l.expires_at > $2
                OR u.phone_pending IS NOT NULL AND l.previous = COALESCE(u.phone, u.phone_provisioned) AND NOT EXISTS (
                    SELECT 1 FROM freeze_links o WHERE o.user_id = l.user_id AND o.since > l.since AND o.previous <> l.previous))";
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, (Vec<u8>, String, i64, i64)>(SQL).bind(token_sha256.to_vec()).bind(now.0).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("look for a link"))?;
        row.map(|(user, previous, since, expires_at)| {
            Ok(FreezeLink {
                user: UserId(uuid(&user)?),
                previous: phone(previous)?,
                since: Timestamp(since),
                expires_at: Timestamp(expires_at),
            })
        })
        .transpose()
    }

    /// What a user is frozen by; `None`: they are not.
    pub async fn freeze_of(&self, user: UserId) -> Result<Option<Freeze>, StoreError> {
        const SQL: &str =
            "SELECT previous, number, raw, source, since, at FROM freezes WHERE user_id = $1";
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, FreezeRow>(SQL).bind(key(user)).fetch_optional(&mut *c).await)
            .map_err(StoreError::from_sqlx("look whether a user is frozen"))?;
        row.map(Freeze::try_from).transpose()
    }

    /// All users who are frozen, or have a number that is refused: as many as administrators have to decide about, or decided.
    pub async fn number_marks(&self) -> Result<HashMap<UserId, NumberMark>, StoreError> {
        const FROZEN: &str = "SELECT user_id FROM freezes";
        const REFUSED: &str = "SELECT user_id, phone FROM refused_numbers";
        let failed = StoreError::from_sqlx("read which numbers are not used");
        let mut marks: HashMap<UserId, NumberMark> = HashMap::new();
        let mut link = self.db.read().await?;
        let frozen =
            on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(FROZEN).fetch_all(&mut *c).await)
                .map_err(&failed)?;
        for user in frozen {
            marks.entry(UserId(uuid(&user)?)).or_default().frozen = true;
        }
        let mut unreadable = vec![];
        let refused = on!(link, c => sqlx::query_as::<_, (Vec<u8>, String)>(REFUSED).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        for (user, number) in refused {
            let user = UserId(uuid(&user)?);
            let mark = marks.entry(user).or_default();
            match phone(number) {
                Ok(number) => mark.refused = Some(number),
                // It is not known which number is not to be taken: none is.
                Err(error) => {
                    mark.frozen = true;
                    unreadable.push(error);
                }
            }
        }
        unreadable.iter().for_each(note_unreadable);
        Ok(marks)
    }
}

pub(super) fn key(user: UserId) -> Vec<u8> {
    user.0.as_bytes().to_vec()
}

fn phone(text: String) -> Result<Phone, StoreError> {
    Phone::try_from(text).map_err(|why| StoreError::Nonsense(format!("a number: {why}")))
}
