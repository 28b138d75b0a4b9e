//! What is decided of a number that somebody objects to, written with what is done to the user.

use super::by_hand::{HandAct, act_in};
use super::db::on;
use super::factors::endings;
use super::freezes::{allow, key};
use super::{Store, StoreError};
use crate::model::{Freeze, Phone};

/// What becomes of a number that somebody objects to, and of the freeze if there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NumberRuling {
    /// The user is frozen: what they got since the number changed is void, and the other number is refused meanwhile.
    Begins(Freeze),
    /// The number before counts, and the other one stays refused.
    EndsRefused,
    /// The other number counts.
    EndsAccepted,
    /// A number that waits is refused, of a user who is not frozen.
    Refuses(Phone),
}

impl Store {
    /// Writes what is decided about a user's number, with what is done to the user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is another by now. Then nothing is done.
    pub async fn write_ruling(
        &self,
        act: HandAct<'_>,
        change: &NumberRuling,
    ) -> Result<(), StoreError> {
        const THAW: &str = "DELETE FROM freezes WHERE user_id = $1";
        const FREEZE: &str = "
            INSERT INTO freezes (user_id, previous, number, raw, source, since, at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        const REFUSE: &str = "
            INSERT INTO refused_numbers (user_id, phone, at) VALUES ($1, $2, $3)
            ON CONFLICT (user_id) DO UPDATE SET phone = excluded.phone, by_whom = NULL, at = excluded.at";
        const SIGN: &str = "UPDATE refused_numbers SET by_whom = $2 WHERE user_id = $1";
        let failed = StoreError::from_sqlx("freeze a user");
        let (user, by) = (act.user.id, act.audit.0.by.clone());
        let now = act.messages.now;
        let mut tx = self.db.begin().await?;
        // First, or the other number could not be put in its place.
        on!(tx, c => sqlx::query(THAW).bind(key(user)).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        act_in(&mut tx, &act).await?;
        match change {
            NumberRuling::Begins(freeze) => {
                let number = freeze.number.as_ref();
                on!(tx, c => sqlx::query(FREEZE)
                    .bind(key(user))
                    .bind(freeze.previous.as_str())
                    .bind(number.map(|n| n.phone.as_str()))
                    .bind(number.and_then(|n| n.raw.clone()))
                    .bind(number.map(|n| n.source.as_str()))
                    .bind(freeze.since.0)
                    .bind(freeze.at.0)
                    .execute(&mut *c)
                    .await
                    .map(|_| ()))
                .map_err(&failed)?;
                if let Some(number) = number {
                    on!(tx, c => sqlx::query(REFUSE).bind(key(user)).bind(number.phone.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
                        .map_err(&failed)?;
                }
                endings::since(&mut tx, user, freeze.since, now).await?;
            }
            NumberRuling::EndsRefused => {
                on!(tx, c => sqlx::query(SIGN).bind(key(user)).bind(by).execute(&mut *c).await.map(|_| ()))
                    .map_err(&failed)?;
            }
            NumberRuling::EndsAccepted => allow(&mut tx, user).await?,
            NumberRuling::Refuses(number) => {
                on!(tx, c => sqlx::query(REFUSE).bind(key(user)).bind(number.as_str()).bind(now.0).execute(&mut *c).await.map(|_| ()))
                    .map_err(&failed)?;
                on!(tx, c => sqlx::query(SIGN).bind(key(user)).bind(by).execute(&mut *c).await.map(|_| ()))
                    .map_err(&failed)?;
            }
        }
        tx.commit().await
    }
}
