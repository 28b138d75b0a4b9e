//! Links that are sent again.

use super::db::on;
use super::enrolling::link_is_valid;
use super::enrolments::{SentRow, enrolment_columns};
use super::outbox::{self, MessageContext, text};
use super::rows::{UserRow, user_columns, uuid};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::model::message_rules::reminders::{Reminder, SentLink, reminder};
use crate::model::{Enrolment, EnrolmentId, JobReason, RealmId, User, UserId};

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
    pub async fn remind(
        &self,
        link: &LinkToRemind,
        after: &[i64],
        messages: &MessageContext,
    ) -> Result<bool, StoreError> {
        const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        const USER_LOCKED: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE id = $1 FOR SHARE"
        );
        const LINK: &str = concat!(
            "SELECT ",
            enrolment_columns!(),
            " FROM enrolments WHERE id = $1"
        );
        const LINK_LOCKED: &str = concat!(
            "SELECT ",
            enrolment_columns!(),
            " FROM enrolments WHERE id = $1 FOR UPDATE"
        );
        const TOLD: &str = "
            SELECT e.reminded_at, e.reason, (SELECT MAX(j.settled_at) FROM jobs j WHERE j.user_id = e.user_id AND j.enrolment = e.id AND j.state = 'delivered')
            FROM enrolments e WHERE e.id = $1";
        type ToldRow = (Option<i64>, Option<String>, Option<i64>);
        const REMINDED: &str = "UPDATE enrolments SET reminded_at = $2 WHERE id = $1";
        let failed = StoreError::from_sqlx("send a link again");
        let now = messages.now;
        let id = || link.enrolment.0.as_bytes().to_vec();
        let mut tx = self.db.begin().await?;
        // In the order of `outbox::locks`; the link after its user, as the page does.
        let sql = text(&tx, USER, USER_LOCKED);
        let user = on!(tx, c => sqlx::query_as::<_, UserRow>(sql).bind(link.user.0.as_bytes().to_vec()).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let sql = text(&tx, LINK, LINK_LOCKED);
        let sent = on!(tx, c => sqlx::query_as::<_, SentRow>(sql).bind(id()).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let (Some(user), Some(sent)) = (user, sent) else {
            return Ok(false);
        };
        let (user, sent) = (User::try_from(user)?, Enrolment::try_from(sent)?);
        if sent.user != user.id || user.realm != link.realm || !link_is_valid(&sent, &user, now) {
            return Ok(false);
        }
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
