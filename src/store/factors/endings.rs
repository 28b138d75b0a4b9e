//! What ends with a number or with its user's standing: links of the application that are open, applications that are not proved
//! yet, and where the realm says `revoke = "at-once"` also those that are in use.
//!
//! | what happens | open links, pending applications | active applications | hard tokens, recovery codes |
//! |---|---|---|---|
//! | another number begins to wait | void | stay | stay |
//! | another number takes effect | void | stay, or go at once | stay |
//! | a first number | stay | stay | stay |
//! | no number any more | void | stay | stay |
//! | not usable any more | void | stay | stay |
//! | another person by the same name, or nobody | void | go | go |

use crate::clock::Timestamp;
use crate::model::UserId;
use crate::store::StoreError;
use crate::store::answer::answered;
use crate::store::db::{EngineConnection, Tx, on};

/// Of the users of a stage (`$1`) those that `$what` says, over the staged row `s` and the user `u` as they still are.
macro_rules! whose {
    ($what:expr) => {
        concat!(
            "SELECT s.id FROM staged_users s JOIN users u ON u.id = s.id WHERE s.run = $1 AND s.base_version > 0 AND (",
            $what,
            ")"
        )
    };
}

/// Another number is in use, in place of one that was, or that the outside world still knows.
macro_rules! takes_effect {
    () => {
        "COALESCE(u.phone, u.phone_provisioned) <> s.phone"
    };
}

/// Links go: the number is another one, waits, or is gone, or the user may not log on.
macro_rules! links_go {
    () => {
        concat!(
            takes_effect!(),
            " OR u.phone IS NOT NULL AND s.phone IS NULL
              OR s.phone_pending IS NOT NULL AND s.phone_pending IS DISTINCT FROM u.phone_pending
              OR s.state <> 'active' OR s.blocked"
        )
    };
}

/// How an application ends (`$2`: when).
macro_rules! application_ends {
    ($which:expr) => {
        concat!(
            "UPDATE authenticators SET state = 'revoked', secret = NULL, ended_at = $2 WHERE kind = 'app' AND ",
            $which
        )
    };
}

/// Ends what goes with the changes of a stage: a run's, or one user's under their own id. Before the users are written, whose rows
/// the caller has locked. `revoke_at_once`: applications go with the number that they were made for.
pub(in crate::store) async fn with_stage(
    tx: &mut Tx,
    stage: &[u8],
    now: Timestamp,
    revoke_at_once: bool,
) -> Result<(), StoreError> {
    const ANY: &str = "
        SELECT EXISTS (SELECT 1 FROM enrolments WHERE state = 'open'),
               EXISTS (SELECT 1 FROM authenticators WHERE kind = 'app' AND state IN ('pending', 'active'))";
    const LINKS: &str = concat!(
        "UPDATE enrolments SET state = 'void' WHERE state = 'open' AND user_id IN (",
        whose!(links_go!()),
        ")"
    );
    const PENDING: &str = application_ends!(concat!(
        "state = 'pending' AND user_id IN (",
        whose!(links_go!()),
        ")"
    ));
    // Whoever verifies codes of several users locks these rows in this order before they change authenticators or codes.
    const LOCK: &str = concat!(
        "SELECT user_id FROM user_factors WHERE user_id IN (",
        whose!(concat!(
            "s.state = 'removed' OR s.intents LIKE '%\"do\":\"forget\"%' OR $2 AND (",
            takes_effect!(),
            ")"
        )),
        ") ORDER BY user_id FOR UPDATE"
    );
    const ACTIVE: &str = application_ends!(concat!(
        "state = 'active' AND user_id IN (",
        whose!(takes_effect!()),
        ")"
    ));
    let failed = StoreError::from_sqlx("end what goes with a number");
    let (links, applications) =
        on!(tx, c => sqlx::query_as::<_, (bool, bool)>(ANY).fetch_one(&mut *c).await)
            .map_err(&failed)?;
    if links {
        on!(tx, c => sqlx::query(LINKS).bind(stage.to_vec()).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
    }
    if let EngineConnection::Postgres(c) = tx.side() {
        let locking = sqlx::query(LOCK)
            .bind(stage.to_vec())
            .bind(applications && revoke_at_once)
            .execute(c);
        answered(locking).await.map_err(&failed)?;
    }
    if applications {
        let active = if revoke_at_once { &[ACTIVE][..] } else { &[] };
        for sql in [PENDING].iter().chain(active).copied() {
            on!(tx, c => sqlx::query(sql).bind(stage.to_vec()).bind(now.0).execute(&mut *c).await.map(|_| ()))
                .map_err(&failed)?;
        }
    }
    Ok(())
}

/// Hard tokens of `$1` are assigned to nobody, and need two codes of whoever gets them.
macro_rules! token_goes {
    ($which:expr) => {
        concat!(
            "UPDATE authenticators SET user_id = NULL, two_codes = (1 = 1), state = CASE WHEN state = 'active' THEN 'pending' ELSE state END
             WHERE kind <> 'app' AND user_id = $1",
            $which
        )
    };
}

/// The user is somebody else from now on, or nobody knows who: all factors go, with what was counted. In the transaction that decides so.
pub(in crate::store) async fn of_user(
    tx: &mut Tx,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    const COUNTED: &str = "DELETE FROM user_factors WHERE user_id = $1";
    on!(tx, c => sqlx::query(COUNTED).bind(user.0.as_bytes().to_vec()).execute(&mut *c).await.map(|_| ()))
        .map_err(StoreError::from_sqlx("forget what is known of a user"))?;
    since(tx, user, Timestamp(i64::MIN), now).await
}

/// What the user got from an instant on goes: applications that were proved, hard tokens that were assigned, recovery codes that were
/// made; and links and applications that are open.
pub(in crate::store) async fn since(
    tx: &mut Tx,
    user: UserId,
    since: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    const APPLICATIONS: &str = application_ends!(
        "user_id = $1 AND (state = 'pending' OR state = 'active' AND COALESCE(activated_at, created_at) >= $3)"
    );
    const TOKENS: &str = token_goes!(" AND COALESCE(activated_at, created_at) >= $2");
    const CODES: &str = "DELETE FROM recovery_codes WHERE user_id = $1 AND created_at >= $2";
    const LINKS: &str =
        "UPDATE enrolments SET state = 'void' WHERE user_id = $1 AND state = 'open'";
    let failed = StoreError::from_sqlx("end a user's factors");
    let id = user.0.as_bytes().to_vec();
    on!(tx, c => sqlx::query(LINKS).bind(id.clone()).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    on!(tx, c => sqlx::query(APPLICATIONS).bind(id.clone()).bind(now.0).bind(since.0).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)?;
    for sql in [TOKENS, CODES] {
        on!(tx, c => sqlx::query(sql).bind(id.clone()).bind(since.0).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
    }
    Ok(())
}
