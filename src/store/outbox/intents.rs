//! From what a decision wants said to jobs, by fixed rules, in the transaction of the change (design § 3.8, § 3.10).

use super::body::{MessageContent, body};
use super::enrolment::{self, LinkMade, MessageLink, Objection};
use super::{EnrolmentContext, MessageContext, fresh_id, text};
use crate::model::message_rules::{
    self, Becomes, IntentEffect, Links, Standing, TellingMark, is_application,
};
use crate::model::person::fold_name;
use crate::model::{FreezeLink, Intent, JobId, JobReason, JobType, Phone, User, UserId};
use crate::store::StoreError;
use crate::store::db::{Tx, on};
use crate::store::factors::endings;
use crate::store::freezes;

/// Whoever does not see to messages every day still has the time to object: 30 days.
const OBJECTION: i64 = 30 * 86_400_000;

/// Makes, drops and supersedes jobs as the intents say, by the rules of [`message_rules`]; gives the number of jobs that were made.
///
/// `user` is the post-image, already written in this transaction, so that the user's row is locked. Locks the user's jobs. Sets
/// `users.phone_told` and `users.told`.
pub(in crate::store) async fn apply_intents(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    intents: &[Intent],
) -> Result<i64, StoreError> {
    let mut made = 0;
    for intent in intents {
        if matches!(intent, Intent::Allow) {
            freezes::allow(tx, user.id).await?;
            continue;
        }
        // Read again: a delivery may have been accepted after the decision was made.
        let (provisioned, frozen) = match intent {
            Intent::Say { r#type, .. } if !is_application(*r#type) => (None, false),
            Intent::Withdraw { .. } | Intent::Forget { .. } | Intent::Allow => (None, false),
            Intent::Say { .. } | Intent::Unsay => provisioned_phone(tx, user.id).await?,
        };
        if frozen {
            // Which number counts is yet to be said: what is due then is found by the difference.
            continue;
        }
        let jobs = match intent {
            Intent::Say { r#type, .. }
                if !is_application(*r#type) && *r#type != JobType::Deprovision =>
            {
                Vec::new()
            }
            _ => standing(tx, user.id, matches!(intent, Intent::Unsay)).await?,
        };
        let carried =
            message_rules::effect_of(intent, user, provisioned.as_ref(), &jobs, ctx.delivers);
        made += write(tx, ctx, user, intent, &carried).await?;
    }
    Ok(made)
}

/// The user's messages as far as the rules look at them: those that are not settled, locked in the order of their making; with
/// `history` also those that arrived, and dropped ones that may have.
async fn standing(tx: &mut Tx, user: UserId, history: bool) -> Result<Vec<Standing>, StoreError> {
    macro_rules! jobs {
        ($which:literal) => {
            concat!(
                "SELECT seq, type, state, uncertain, body IS NOT NULL FROM jobs WHERE user_id = $1 AND ",
                $which
            )
        };
    }
    const OPEN: &str = jobs!("state NOT IN ('delivered', 'dropped') ORDER BY seq");
    const OPEN_LOCKED: &str =
        jobs!("state NOT IN ('delivered', 'dropped') ORDER BY seq FOR NO KEY UPDATE");
    const SETTLED: &str = jobs!("(state = 'delivered' OR state = 'dropped' AND uncertain)");
    type StandingColumns = (i64, String, String, bool, bool);
    let open = text(tx, OPEN, OPEN_LOCKED);
    let mut rows =
        on!(tx, c => sqlx::query_as::<_, StandingColumns>(open).bind(key(user)).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a user's messages"))?;
    if history {
        rows.extend(on!(tx, c => sqlx::query_as::<_, StandingColumns>(SETTLED).bind(key(user)).fetch_all(&mut *c).await)
            .map_err(StoreError::from_sqlx("read a user's messages"))?);
    }
    // What a newer program wrote is left to it.
    let known = rows
        .into_iter()
        .filter_map(|(seq, kind, state, uncertain, body)| {
            Some(Standing {
                seq,
                r#type: kind.parse().ok()?,
                state: state.parse().ok()?,
                uncertain,
                body,
            })
        });
    Ok(known.collect())
}

/// Writes down what an intent comes to; gives the number of jobs that were made.
async fn write(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    intent: &Intent,
    carried: &IntentEffect,
) -> Result<i64, StoreError> {
    for (seq, becomes) in &carried.jobs {
        match becomes {
            Becomes::Stays => {}
            Becomes::Dropped => drop_one(tx, *seq, carried.why, ctx).await?,
            Becomes::Erased => erase_one(tx, *seq).await?,
        }
    }
    match carried.links {
        Links::Stay => {}
        Links::OfDropped => enrolment::void_dropped(tx, user.id).await?,
        Links::All => enrolment::void(tx, user.id).await?,
    }
    if matches!(intent, Intent::Forget { .. }) {
        endings::of_user(tx, user.id, ctx.now).await?;
        forget_told(tx, user).await?;
    }
    let mut made = 0;
    let (removed, previous_username) = match intent {
        Intent::Say {
            r#type,
            previous_username,
            ..
        } => (
            *r#type == JobType::Deprovision,
            previous_username.as_deref(),
        ),
        _ => (false, None),
    };
    if removed {
        forget(tx, user.id).await?;
    }
    if let Some((kind, reason, previous_phone)) = &carried.say {
        let invitation = match &ctx.enrolment {
            Some(e) if is_application(*kind) => {
                let why = (*kind, *reason);
                Some(enrolment::make(tx, e, user.id, why, true, ctx.now).await?)
            }
            _ => None,
        };
        let say = Saying {
            r#type: *kind,
            reason: *reason,
            previous_phone: previous_phone.as_ref(),
            previous_username,
            enrolment: invitation.as_ref(),
            recovery_codes_left: None,
        };
        say_one(tx, ctx, user, &say).await?;
        made = 1;
    }
    if let Some(told) = &carried.told {
        set_told(tx, user.id, told).await?;
    }
    Ok(made)
}

async fn drop_one(
    tx: &mut Tx,
    seq: i64,
    why: &str,
    ctx: &MessageContext,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE jobs SET state = 'dropped', body = NULL, held_by = NULL, held_since = NULL, last_error = $2, settled_at = $3
        WHERE seq = $1";
    on!(tx, c => sqlx::query(SQL).bind(seq).bind(why).bind(ctx.now.0).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("drop a message"))
}

async fn erase_one(tx: &mut Tx, seq: i64) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE jobs SET body = NULL WHERE seq = $1";
    on!(tx, c => sqlx::query(SQL).bind(seq).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("erase a message"))
}

/// The user is removed: nothing of the outbox tells any more who it was. The order of what is being sent still needs the name.
async fn forget(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE jobs SET body = NULL, username = '', name_key = '', old_name_key = NULL, phone = NULL
        WHERE user_id = $1 AND state <> 'sending'";
    on!(tx, c => sqlx::query(SQL).bind(key(user)).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("erase a removed user's messages"))
}

/// What the outside world knows is of somebody else: of this user it is what the decision says.
async fn forget_told(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE users SET phone_provisioned = $2, phone_told = NULL, told = $3, provisioned = $3 WHERE id = $1";
    let phone = user.phone_provisioned.as_ref().map(Phone::as_str);
    on!(tx, c => sqlx::query(SQL).bind(key(user.id)).bind(phone).bind(false).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("forget what was told"))
}

/// Makes another message with a link that was sent: it is tried until the link is over.
pub(in crate::store) async fn say_again(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    reason: JobReason,
    link: &LinkMade,
) -> Result<(), StoreError> {
    let left = link.expires_at.since_ms(ctx.now);
    let ctx = MessageContext {
        retry_for_ms: ctx.retry_for_ms.min(left),
        ..ctx.clone()
    };
    let say = Saying {
        r#type: JobType::Reminder,
        reason,
        previous_phone: None,
        previous_username: None,
        enrolment: Some(link),
        recovery_codes_left: None,
    };
    say_one(tx, &ctx, user, &say).await
}

/// Makes a message that tells a user what happened to their factors.
pub(in crate::store) async fn say_notice(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    reason: JobReason,
    recovery_codes_left: Option<i64>,
) -> Result<(), StoreError> {
    let say = Saying {
        r#type: JobType::Notice,
        reason,
        previous_phone: None,
        previous_username: None,
        enrolment: None,
        recovery_codes_left,
    };
    say_one(tx, ctx, user, &say).await
}

/// One message.
struct Saying<'a> {
    r#type: JobType,
    reason: JobReason,
    previous_phone: Option<&'a Phone>,
    previous_username: Option<&'a str>,
    enrolment: Option<&'a LinkMade>,
    recovery_codes_left: Option<i64>,
}

async fn say_one(
    tx: &mut Tx,
    ctx: &MessageContext,
    user: &User,
    say: &Saying<'_>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO jobs (id, realm, user_id, username, name_key, old_name_key, type, body, enrolment, phone, state, next_attempt_at, give_up_at, run, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'waiting', $11, $12, $13, $11)";
    let id = fresh_id(ctx.now);
    // The number that counts if they object.
    let counts = match say.r#type {
        JobType::PhoneNotice => say.previous_phone,
        JobType::Notice if say.reason.lets_somebody_in() => user.phone.as_ref(),
        _ => None,
    };
    let objection = match (&ctx.enrolment, counts) {
        (Some(e), Some(phone)) => Some(objection(tx, ctx, e, JobId(id), user, phone).await?),
        _ => None,
    };
    let words = MessageContent {
        r#type: say.r#type,
        reason: say.reason,
        previous_phone: say.previous_phone,
        previous_username: say.previous_username,
        enrolment: say.enrolment,
        objection: objection.as_ref(),
        recovery_codes_left: say.recovery_codes_left,
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
        .bind(user.phone.as_ref().filter(|_| is_application(say.r#type)).map(Phone::as_str))
        .bind(ctx.now.0)
        .bind(ctx.now.plus_ms(ctx.retry_for_ms).0)
        .bind(ctx.run.map(|r| r.0.as_bytes().to_vec()))
        .execute(&mut *c)
        .await
        .map(|_| ()))
    .map_err(StoreError::from_sqlx("make a message"))
}

/// The link by which the owner of a number may object to what happens from now on, valid for as long as another number waits and
/// [`OBJECTION`] more.
async fn objection(
    tx: &mut Tx,
    ctx: &MessageContext,
    links: &EnrolmentContext,
    notice: JobId,
    user: &User,
    previous: &Phone,
) -> Result<Objection, StoreError> {
    let from = user
        .phone_hold_ends()
        .map_or(ctx.now, |until| until.max(ctx.now));
    let link = FreezeLink {
        user: user.id,
        previous: previous.clone(),
        since: ctx.now,
        expires_at: from.plus_ms(OBJECTION),
    };
    let hash = links.key.link_sha256(MessageLink::Freeze(notice));
    freezes::keep_link(tx, notice.0, hash, &link).await?;
    Ok(Objection {
        url: links.freeze_url(),
        expires_at: link.expires_at,
    })
}

/// The number that the outside world last knows of, and whether the user is frozen. Locks the user's row.
async fn provisioned_phone(tx: &mut Tx, user: UserId) -> Result<(Option<Phone>, bool), StoreError> {
    macro_rules! provisioned {
        ($lock:literal) => {
            concat!(
                "SELECT phone_provisioned, EXISTS (SELECT 1 FROM freezes f WHERE f.user_id = users.id) FROM users WHERE id = $1",
                $lock
            )
        };
    }
    let sql = text(tx, provisioned!(""), provisioned!(" FOR UPDATE"));
    let row = on!(tx, c => sqlx::query_as::<_, (Option<String>, bool)>(sql).bind(key(user)).fetch_optional(&mut *c).await)
        .map_err(StoreError::from_sqlx("read the provisioned phone"))?;
    let Some((phone, frozen)) = row else {
        return Err(StoreError::Nonsense(format!(
            "user {user} is not in the store, yet something is to be told of them"
        )));
    };
    let phone = phone
        .map(Phone::try_from)
        .transpose()
        .map_err(|why| StoreError::Nonsense(format!("users.phone_provisioned: {why}")))?;
    Ok((phone, frozen))
}

/// Remembers the number of the newest provision or reprovision job.
pub(in crate::store) async fn set_told(
    tx: &mut Tx,
    user: UserId,
    told: &TellingMark,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE users SET phone_told = $2, told = $3 WHERE id = $1";
    let rows = on!(tx, c => sqlx::query(SQL).bind(key(user)).bind(told.phone.as_ref().map(Phone::as_str)).bind(told.told).execute(&mut *c).await.map(|r| r.rows_affected()))
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
