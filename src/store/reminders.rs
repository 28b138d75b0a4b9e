//! Links that are sent again.

use super::db::on;
use super::enrolling::valid;
use super::outbox::{self, MessageContext};
use super::rows::{or_left_alone, uuid};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::message_rules::reminders::{Reminder, SentLink, reminder};
use crate::model::{EnrolmentId, JobReason, RealmId, UserId};

/// A link for which a reminder may be due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkToRemind {
    /// The enrolment.
    pub enrolment: EnrolmentId,
    /// Whom it is for.
    pub user: UserId,
    /// Their realm.
    pub realm: RealmId,
}

impl Store {
    /// Open links that were sent `after` milliseconds ago or earlier, and for which nobody has done anything about this time yet: those
    /// whose message the receiver has, and of which none is under way. At most 500, by their ids, beyond the last one.
    pub async fn links_to_remind(
        &self,
        after: i64,
        last: Option<EnrolmentId>,
        now: Timestamp,
    ) -> Result<Vec<LinkToRemind>, StoreError> {
        const SQL: &str = "
            SELECT e.id, e.user_id, u.realm FROM enrolments e JOIN users u ON u.id = e.user_id
            WHERE e.state = 'open' AND e.created_at <= $1 AND e.expires_at > $2 AND e.channel = 'webhook' AND e.id > $3
              AND COALESCE(e.reminded_at, e.created_at) < e.created_at + $4
              AND EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = e.user_id AND j.enrolment = e.id AND j.state = 'delivered')
              AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = e.user_id AND j.enrolment = e.id AND j.state IN ('waiting', 'sending', 'held'))
            ORDER BY e.id LIMIT 500";
        let last = last.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec());
        let mut link = self.db.read().await?;
        let rows = on!(link, c => sqlx::query_as::<_, (Vec<u8>, Vec<u8>, String)>(SQL)
            .bind(now.plus_ms(-after).0).bind(now.0).bind(last).bind(after).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("look for links to send again"))?;
        rows.into_iter()
            .map(|(enrolment, user, realm)| {
                Ok(LinkToRemind {
                    enrolment: EnrolmentId(uuid(&enrolment)?),
                    user: UserId(uuid(&user)?),
                    realm: RealmId::from(realm),
                })
            })
            .collect()
    }

    /// Makes another message with the same link, if it is still to be sent again: once over all daemons. `false`: it is not.
    ///
    /// A row that cannot be read waits for a program that can, and keeps no other one from being sent again.
    pub async fn remind(
        &self,
        link: &LinkToRemind,
        after: &[i64],
        messages: &MessageContext,
    ) -> Result<bool, StoreError> {
        or_left_alone(self.remind_one(link, after, messages).await)
    }

    async fn remind_one(
        &self,
        link: &LinkToRemind,
        after: &[i64],
        messages: &MessageContext,
    ) -> Result<bool, StoreError> {
        const TOLD: &str = "
            SELECT e.reminded_at, e.reason, (SELECT MAX(j.settled_at) FROM jobs j WHERE j.user_id = e.user_id AND j.enrolment = e.id AND j.state = 'delivered')
            FROM enrolments e WHERE e.id = $1";
        type ToldRow = (Option<i64>, Option<String>, Option<i64>);
        const REMINDED: &str = "UPDATE enrolments SET reminded_at = $2 WHERE id = $1";
        let failed = StoreError::from_sqlx("send a link again");
        let now = messages.now;
        let id = || link.enrolment.0.as_bytes().to_vec();
        let mut tx = self.db.begin().await?;
        let valid = valid(&mut tx, link.user, link.enrolment, now).await?;
        let Some((sent, user)) = valid.filter(|(_, user)| user.realm == link.realm) else {
            return Ok(false);
        };
        let (reminded, reason, told) =
            on!(tx, c => sqlx::query_as::<_, ToldRow>(TOLD).bind(id()).fetch_one(&mut *c).await)
                .map_err(&failed)?;
        let standing = SentLink {
            sent_at: sent.sent_at,
            expires_at: sent.expires_at,
            reminded_at: reminded.map(Timestamp),
            told_at: told.map(Timestamp),
        };
        let sends = match reminder(&standing, after, now) {
            Reminder::Wait => return Ok(false),
            Reminder::Pass => false,
            Reminder::Send => messages.delivers && messages.enrolment.is_some(),
        };
        if let Some(context) = messages.enrolment.as_ref().filter(|_| sends) {
            let reason = reason.and_then(|word| word.parse().ok());
            let again = outbox::enrolment::again(context, &sent);
            outbox::say_again(
                &mut tx,
                messages,
                &user,
                reason.unwrap_or(JobReason::Sent),
                &again,
            )
            .await?;
        }
        on!(tx, c => sqlx::query(REMINDED).bind(id()).bind(now.0).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
        crate::failpoint::hit("remind.commit");
        tx.commit().await?;
        Ok(sends)
    }
}
