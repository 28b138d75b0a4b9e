//! From what a decision wants said to jobs, by fixed rules, in the transaction of the change (design § 3.8, § 3.10).

use super::body::{Words, body};
use super::enrolment::{self, Enrolment};
use super::{MessageContext, fresh_id, text};
use crate::model::person::fold_name;
use crate::model::{Intent, JobReason, JobType, Phone, User, UserId};
use crate::store::StoreError;
use crate::store::db::{Tx, on};

/// Makes, drops and supersedes jobs as the intents say; gives the number of jobs that were made.
///
/// `user` is the post-image, already written in this transaction. Sets `users.phone_told` and `users.told`.
pub(in crate::store) async fn carry_out(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    intents: &[Intent],
) -> Result<i64, StoreError> {
    let mut made = 0;
    for intent in intents {
        made += match intent {
            Intent::Say {
                r#type: kind @ (JobType::Provision | JobType::Reprovision),
                reason,
                ..
            } => say_application(tx, ctx, user, *kind, *reason).await?,
            Intent::Say {
                r#type,
                reason,
                previous_phone,
                previous_username,
            } => {
                if *r#type == JobType::Deprovision {
                    forget(tx, ctx, user.id).await?;
                }
                let say = Saying {
                    r#type: *r#type,
                    reason: *reason,
                    previous_phone: previous_phone.as_ref(),
                    previous_username: previous_username.as_deref(),
                    enrolment: None,
                };
                say_one(tx, ctx, user, &say).await?
            }
            Intent::Unsay => take_back(tx, ctx, user).await?,
            Intent::Withdraw { reason } => withdraw(tx, ctx, user.id, *reason).await?,
        };
    }
    Ok(made)
}

/// A new invitation with the number in use: supersedes what waits, and is what the user was told last.
async fn say_application(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    kind: JobType,
    reason: JobReason,
) -> Result<i64, StoreError> {
    const OVERTAKEN: &str = "UPDATE jobs SET body = NULL WHERE user_id = $1 AND state IN ('dead', 'final') AND type IN ('user.provision', 'user.reprovision') AND body IS NOT NULL";
    if !ctx.delivers {
        return Ok(0);
    }
    // An attempt that is under way stays: the new one follows it, since one user's messages go out in order.
    drop_applications(tx, ctx, user.id, "superseded", Unsent::AndUncertain).await?;
    // What is dead or was refused cannot be retried any more, now that a newer one is there.
    on!(tx, c => sqlx::query(OVERTAKEN).bind(key(user.id)).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("erase overtaken messages"))?;
    // Read again: a delivery may have been accepted after the decision was made.
    let provisioned = provisioned_phone(tx, user.id).await?;
    // For somebody who never had the application, a silent baseline is no earlier number.
    let previous =
        provisioned.filter(|p| kind == JobType::Reprovision || Some(p) != user.phone.as_ref());
    let invitation = match &ctx.enrolment {
        Some(e) => Some(enrolment::make(tx, e, user.id, ctx.now).await?),
        None => None,
    };
    let say = Saying {
        r#type: kind,
        reason,
        previous_phone: previous.as_ref(),
        previous_username: None,
        enrolment: invitation.as_ref(),
    };
    let made = say_one(tx, ctx, user, &say).await?;
    set_told(tx, user.id, user.phone.as_ref(), true).await?;
    Ok(made)
}

/// Phone and provisioned phone are equal again.
async fn take_back(tx: &mut Tx, ctx: &MessageContext, user: &User) -> Result<i64, StoreError> {
    // An attempt whose end is unknown counts until a later message was accepted, even if its job is dead or superseded by now.
    const UNKNOWN: &str = "
        SELECT COUNT(*) FROM jobs
        WHERE user_id = $1 AND type IN ('user.provision', 'user.reprovision')
          AND (state = 'sending' OR uncertain AND state <> 'delivered')
          AND seq > COALESCE((SELECT MAX(seq) FROM jobs
                              WHERE user_id = $1 AND type IN ('user.provision', 'user.reprovision') AND state = 'delivered'), 0)";
    let provisioned = provisioned_phone(tx, user.id).await?;
    let dropped = drop_applications(tx, ctx, user.id, "equal again", Unsent::Only).await?;
    let unknown = on!(tx, c => sqlx::query_scalar::<_, i64>(UNKNOWN).bind(key(user.id)).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("look for attempts whose end is unknown"))?;
    if (unknown > 0 || provisioned != user.phone) && user.usable() && user.phone.is_some() {
        return say_application(tx, ctx, user, JobType::Reprovision, JobReason::PhoneChanged).await;
    }
    if dropped > 0 {
        enrolment::void_dropped(tx, user.id).await?;
        set_told(tx, user.id, None, false).await?;
    }
    Ok(0)
}

/// The user stopped being usable.
async fn withdraw(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: UserId,
    reason: JobReason,
) -> Result<i64, StoreError> {
    const NOTICES: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, held_by = NULL, held_since = NULL, last_error = $2, settled_at = $3
        WHERE user_id = $1 AND type = 'user.phone_notice' AND state IN ('waiting', 'held') AND NOT uncertain";
    const DEAD: &str = "UPDATE jobs SET body = NULL WHERE user_id = $1 AND state IN ('dead', 'final') AND type IN ('user.provision', 'user.reprovision', 'user.phone_notice') AND body IS NOT NULL";
    if drop_applications(tx, ctx, user, reason.as_str(), Unsent::Only).await? > 0 {
        set_told(tx, user, None, false).await?;
    }
    on!(tx, c => sqlx::query(NOTICES).bind(key(user)).bind(reason.as_str()).bind(ctx.now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("drop notices"))?;
    on!(tx, c => sqlx::query(DEAD).bind(key(user)).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("erase withdrawn messages"))?;
    enrolment::void(tx, user).await?;
    Ok(0)
}

/// The user is removed: what waits is not needed, and nothing of the outbox tells any more who it was.
async fn forget(tx: &mut Tx, ctx: &MessageContext, user: UserId) -> Result<(), StoreError> {
    const DROP: &str = "
        UPDATE jobs SET state = 'dropped', held_by = NULL, held_since = NULL, last_error = 'removed', settled_at = $2
        WHERE user_id = $1 AND state IN ('waiting', 'held')";
    // The order of what is being sent still needs the name.
    const ERASE: &str = "
        UPDATE jobs SET body = NULL, username = '', name_key = '', old_name_key = NULL, phone = NULL
        WHERE user_id = $1 AND state <> 'sending'";
    on!(tx, c => sqlx::query(DROP).bind(key(user)).bind(ctx.now.0).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("drop a removed user's messages"))?;
    on!(tx, c => sqlx::query(ERASE).bind(key(user)).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("erase a removed user's messages"))?;
    enrolment::void(tx, user).await
}

/// One message.
struct Saying<'a> {
    r#type: JobType,
    reason: JobReason,
    previous_phone: Option<&'a Phone>,
    previous_username: Option<&'a str>,
    enrolment: Option<&'a Enrolment>,
}

async fn say_one(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    say: &Saying<'_>,
) -> Result<i64, StoreError> {
    const SQL: &str = "
        INSERT INTO jobs (id, realm, user_id, username, name_key, old_name_key, type, body, enrolment, phone, state, next_attempt_at, give_up_at, run, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'waiting', $11, $12, $13, $11)";
    if !ctx.delivers {
        return Ok(0);
    }
    let words = Words {
        r#type: say.r#type,
        reason: say.reason,
        previous_phone: say.previous_phone,
        previous_username: say.previous_username,
        enrolment: say.enrolment,
        now: ctx.now,
    };
    let body = body(user, &words)
        .map_err(|e| StoreError::Nonsense(format!("a message cannot be written: {e}")))?;
    // A removed user has no name to wait for; an own key keeps such messages from waiting for each other.
    let name = if user.username_key.is_empty() {
        format!("\u{1}{}", user.id)
    } else {
        user.username_key.clone()
    };
    let application = matches!(say.r#type, JobType::Provision | JobType::Reprovision);
    let id = fresh_id(ctx.now);
    on!(tx, c => sqlx::query(SQL)
        .bind(id.as_bytes().as_slice())
        .bind(user.realm.as_str())
        .bind(key(user.id))
        .bind(&user.username)
        .bind(&name)
        .bind(say.previous_username.map(fold_name))
        .bind(say.r#type.as_str())
        .bind(&body)
        .bind(say.enrolment.map(|e| e.id.0.as_bytes().to_vec()))
        .bind(user.phone.as_ref().filter(|_| application).map(Phone::as_str))
        .bind(ctx.now.0)
        .bind(ctx.now.plus_ms(ctx.retry_for_ms).0)
        .bind(ctx.run.map(|r| r.0.as_bytes().to_vec()))
        .execute(&mut *c)
        .await
        .map(|_| ()))
    .map_err(StoreError::from_sqlx("make a message"))?;
    Ok(1)
}

/// Which waiting jobs are meant.
#[derive(Clone, Copy, PartialEq)]
enum Unsent {
    /// Never attempted, or every attempt was refused.
    Only,
    /// Also those with an attempt whose end is unknown.
    AndUncertain,
}

async fn drop_applications(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: UserId,
    why: &str,
    which: Unsent,
) -> Result<u64, StoreError> {
    const SQL: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, held_by = NULL, held_since = NULL, last_error = $2, settled_at = $3
        WHERE user_id = $1 AND type IN ('user.provision', 'user.reprovision') AND state IN ('waiting', 'held') AND (NOT uncertain OR $4)";
    on!(tx, c => sqlx::query(SQL).bind(key(user)).bind(why).bind(ctx.now.0).bind(which == Unsent::AndUncertain).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("drop messages"))
}

async fn provisioned_phone(tx: &mut Tx, user: UserId) -> Result<Option<Phone>, StoreError> {
    let sql = text(
        tx,
        "SELECT phone_provisioned FROM users WHERE id = $1",
        "SELECT phone_provisioned FROM users WHERE id = $1 FOR UPDATE",
    );
    let phone = on!(tx, c => sqlx::query_scalar::<_, Option<String>>(sql).bind(key(user)).fetch_optional(&mut *c).await)
        .map_err(StoreError::from_sqlx("read the provisioned phone"))?;
    match phone {
        Some(text) => text
            .map(Phone::try_from)
            .transpose()
            .map_err(|why| StoreError::Nonsense(format!("users.phone_provisioned: {why}"))),
        None => Err(StoreError::Nonsense(format!(
            "user {user} is not in the store, yet something is to be told of them"
        ))),
    }
}

/// Remembers the number of the newest provision or reprovision job.
pub(super) async fn set_told(
    tx: &mut Tx,
    user: UserId,
    phone: Option<&Phone>,
    told: bool,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE users SET phone_told = $2, told = $3 WHERE id = $1";
    let rows = on!(tx, c => sqlx::query(SQL).bind(key(user)).bind(phone.map(Phone::as_str)).bind(told).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("remember what was told"))?;
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Nonsense(format!(
            "user {user} is not in the store, yet was told something"
        )))
    }
}

fn key(user: UserId) -> Vec<u8> {
    user.0.as_bytes().to_vec()
}
