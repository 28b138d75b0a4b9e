//! Enrolments: how they stand, and what administrators do with them. Their making is part of the outbox.

use sqlx::FromRow;

use super::apply::{unstage_one, write_one};
use super::audit::append;
use super::by_hand::{HandAct, there};
use super::db::{Tx, on};
use super::freezes;
use super::outbox::{MessageContext, apply_intents, enrolment, locks, set_told, without_links};
use super::rows::{UserRow, places, readable, user_columns, uuid};
use super::{AuditKey, Store, StoreError};
use crate::clock::Timestamp;
use crate::model::message_rules::TellingMark;
use crate::model::{
    AuditEntry, Enrolment, EnrolmentId, EnrolmentState, Intent, JobReason, JobType, User, UserId,
};

/// The columns that [`SentRow`] reads.
macro_rules! enrolment_columns {
    () => {
        "id, user_id, state, expires_at, created_at, by_whom, channel, lost, opened_at, used_at"
    };
}
pub(super) use enrolment_columns;

/// An enrolment as either engine gives it.
#[derive(FromRow)]
pub(super) struct SentRow {
    id: Vec<u8>,
    user_id: Vec<u8>,
    state: String,
    expires_at: i64,
    created_at: i64,
    by_whom: Option<String>,
    channel: Option<String>,
    lost: bool,
    opened_at: Option<i64>,
    used_at: Option<i64>,
}

impl TryFrom<SentRow> for Enrolment {
    type Error = StoreError;

    fn try_from(row: SentRow) -> Result<Self, StoreError> {
        let ended = match row.state.as_str() {
            "open" => None,
            "used" => Some(EnrolmentState::Used),
            "void" => Some(EnrolmentState::Void),
            other => {
                let text = format!("an enrolment's state `{other}`");
                return Err(StoreError::Nonsense(text));
            }
        };
        Ok(Self {
            id: EnrolmentId(uuid(&row.id)?),
            user: UserId(uuid(&row.user_id)?),
            ended,
            channel: row.channel,
            by: row.by_whom,
            lost: row.lost,
            sent_at: Timestamp(row.created_at),
            opened_at: row.opened_at.map(Timestamp),
            used_at: row.used_at.map(Timestamp),
            expires_at: Timestamp(row.expires_at),
        })
    }
}

/// Links are of no use without a page.
pub(super) fn no_page() -> StoreError {
    StoreError::Refused(
        "there is no page to enrol on: set `listen` and `public-url` in `[http]`".into(),
    )
}

/// The newest open enrolment of a user.
async fn newest(tx: &mut Tx, user: UserId) -> Result<Option<Enrolment>, StoreError> {
    const SQL: &str = concat!(
        "SELECT ",
        enrolment_columns!(),
        " FROM enrolments WHERE user_id = $1 AND state = 'open' ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    let row = on!(tx, c => sqlx::query_as::<_, SentRow>(SQL).bind(user.0.as_bytes().to_vec()).fetch_optional(&mut *c).await)
        .map_err(StoreError::from_sqlx("read enrolments"))?;
    row.map(Enrolment::try_from).transpose()
}

/// Voids the open links of a user. Messages that carry one and were not sent are dropped; one that tells another number stays, without
/// the link.
pub(super) async fn take_back(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<(), StoreError> {
    const DROP: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, held_by = NULL, held_since = NULL, last_error = 'withdrawn', settled_at = $2
        WHERE user_id = $1 AND state IN ('waiting', 'held') AND NOT uncertain AND type <> 'user.reprovision'
          AND enrolment IN (SELECT id FROM enrolments WHERE user_id = $1 AND state = 'open')";
    let id = user.0.as_bytes().to_vec();
    locks::jobs(tx, "user_id = $2", None, Some(&id), &[]).await?;
    on!(tx, c => sqlx::query(DROP).bind(id).bind(now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("drop a message"))?;
    without_links(tx, user).await?;
    enrolment::void(tx, user).await
}

impl Store {
    /// Sends the application to a user: voids the earlier links, makes another one, and a message with it where the realm's
    /// messages are delivered. `lost`: the former application is not asked for.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the user is another by now; [`StoreError::Refused`] when the realm is gone, or there is no
    /// `[http]`. Then nothing is done.
    pub async fn send_application(
        &self,
        act: HandAct<'_>,
        lost: bool,
    ) -> Result<Enrolment, StoreError> {
        const WHO: &str = "UPDATE enrolments SET by_whom = $2, lost = $3 WHERE id = $1";
        let (user, messages) = (act.user, act.messages);
        if messages.enrolment.is_none() {
            return Err(no_page());
        }
        let mut tx = self.db.begin().await?;
        if freezes::is_frozen(&mut tx, user.id).await? {
            return Err(StoreError::Refused(format!(
                "{} is frozen: somebody who was told of a change says that it was not theirs; say first which number counts \
                 (`realmsync users unfreeze`)",
                user.username
            )));
        }
        write_one(&mut tx, user, act.base_version, messages).await?;
        locks::realm(&mut tx, &user.realm).await?;
        there(&mut tx, &user.realm, false).await?;
        unstage_one(&mut tx, user).await?;
        apply_intents(&mut tx, messages, user, act.intents).await?;
        if !messages.delivers {
            pass_on(&mut tx, messages, user, act.intents).await?;
        }
        let made = newest(&mut tx, user.id).await?;
        let mut made =
            made.ok_or_else(|| StoreError::Nonsense(format!("user {} was sent nothing", user.id)))?;
        made.by.clone_from(&act.audit.0.by);
        made.lost = lost;
        on!(tx, c => sqlx::query(WHO).bind(made.id.0.as_bytes().to_vec()).bind(made.by.clone()).bind(lost).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("make an enrolment"))?;
        if lost {
            super::notices::note(&mut tx, user.id, JobReason::ApplicationLost, messages.now)
                .await?;
        }
        append(&mut tx, act.audit.1, act.audit.0).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Voids the open links of a user, and gives them. Messages that carry one and were not sent are dropped; one that tells another
    /// number stays, without the link.
    pub async fn withdraw_enrolments(
        &self,
        user: UserId,
        audit: (&AuditEntry, &AuditKey),
    ) -> Result<Vec<Enrolment>, StoreError> {
        const OPEN: &str = concat!(
            "SELECT ",
            enrolment_columns!(),
            " FROM enrolments WHERE user_id = $1 AND state = 'open' AND expires_at > $2 ORDER BY created_at, id"
        );
        let mut tx = self.db.begin().await?;
        locks::user(&mut tx, user).await?;
        let rows = on!(tx, c => sqlx::query_as::<_, SentRow>(OPEN).bind(user.0.as_bytes().to_vec()).bind(audit.0.at.0).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read enrolments"))?;
        let mut withdrawn = vec![];
        for row in rows {
            withdrawn.push(Enrolment {
                ended: Some(EnrolmentState::Void),
                ..Enrolment::try_from(row)?
            });
        }
        if !withdrawn.is_empty() {
            take_back(&mut tx, user, audit.0.at).await?;
            append(&mut tx, audit.1, audit.0).await?;
            tx.commit().await?;
        }
        Ok(withdrawn)
    }

    /// All enrolments of these users, the newest first.
    pub async fn enrolments(&self, users: &[UserId]) -> Result<Vec<Enrolment>, StoreError> {
        let mut found = vec![];
        let mut link = self.db.read().await?;
        for users in users.chunks(500) {
            let sql = format!(
                "SELECT {} FROM enrolments WHERE user_id IN ({}) ORDER BY created_at DESC, id DESC",
                enrolment_columns!(),
                places(1, users.len())
            );
            let rows = on!(link, c => {
                let mut query = sqlx::query_as::<_, SentRow>(sqlx::AssertSqlSafe(sql));
                for user in users { query = query.bind(user.0.as_bytes().to_vec()); }
                query.fetch_all(&mut *c).await
            })
            .map_err(StoreError::from_sqlx("read enrolments"))?;
            found.extend(readable::<_, Enrolment>(rows));
        }
        Ok(found)
    }

    /// The enrolment of a token, and its user as they are now.
    pub async fn enrolment_of(
        &self,
        token_sha256: &[u8; 32],
    ) -> Result<Option<(Enrolment, User)>, StoreError> {
        const LINK: &str = concat!(
            "SELECT ",
            enrolment_columns!(),
            " FROM enrolments WHERE token_sha256 = $1"
        );
        const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        let failed = StoreError::from_sqlx("look a link up");
        let mut link = self.db.read().await?;
        let row = on!(link, c => sqlx::query_as::<_, SentRow>(LINK).bind(token_sha256.as_slice()).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let enrolment = Enrolment::try_from(row)?;
        let id = enrolment.user.0.as_bytes().to_vec();
        let user = on!(link, c => sqlx::query_as::<_, UserRow>(USER).bind(id).fetch_optional(&mut *c).await)
            .map_err(&failed)?;
        Ok(match user {
            Some(user) => Some((enrolment, User::try_from(user)?)),
            None => None,
        })
    }

    /// Notes that somebody came with a link that is over, and asks for another one: at most once an hour. `false`: not again.
    pub async fn note_asked(&self, id: EnrolmentId, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE enrolments SET asked_at = $2 WHERE id = $1 AND (asked_at IS NULL OR asked_at <= $3)";
        const HOUR: i64 = 3_600_000;
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(SQL).bind(id.0.as_bytes().to_vec()).bind(now.0).bind(now.plus_ms(-HOUR).0).execute(&mut *c).await.map(|r| r.rows_affected()))
            .map_err(StoreError::from_sqlx("note that a link was asked for"))?;
        tx.commit().await?;
        Ok(rows == 1)
    }

    /// Notes that a link was opened for the first time, by somebody or by a scanner.
    pub async fn note_opened(&self, id: EnrolmentId, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE enrolments SET opened_at = $2 WHERE id = $1 AND opened_at IS NULL AND state = 'open'";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(id.0.as_bytes().to_vec()).bind(now.0).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("note that a link was opened"))?;
        tx.commit().await
    }
}

/// Makes the link of a user to whom nothing is delivered, in place of the earlier ones.
pub(in crate::store) async fn pass_on(
    tx: &mut Tx,
    messages: &MessageContext,
    user: &User,
    intents: &[Intent],
) -> Result<(), StoreError> {
    let Some(context) = &messages.enrolment else {
        return Err(no_page());
    };
    let kind = intents.iter().find_map(|intent| match intent {
        Intent::Say { r#type, .. } => Some(*r#type),
        _ => None,
    });
    let why = (kind.unwrap_or(JobType::Provision), JobReason::Sent);
    enrolment::void(tx, user.id).await?;
    enrolment::make(tx, context, user.id, why, false, messages.now).await?;
    let told = TellingMark {
        phone: user.phone.clone(),
        told: true,
    };
    set_told(tx, user.id, &told).await
}
