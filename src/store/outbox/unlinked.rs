//! Messages whose link is taken back before anybody has seen it.

use super::body;
use crate::model::UserId;
use crate::store::StoreError;
use crate::store::db::{Tx, on};

/// Takes the open links of a user out of messages that were never sent. One that was keeps its body: the link opens nothing.
pub(in crate::store) async fn without_links(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const LINKED: &str = "
        SELECT seq, body FROM jobs WHERE user_id = $1 AND state IN ('waiting', 'held') AND attempts = 0 AND NOT uncertain AND body IS NOT NULL
          AND enrolment IN (SELECT id FROM enrolments WHERE user_id = $1 AND state = 'open')";
    const BARE: &str = "UPDATE jobs SET body = $2, enrolment = NULL WHERE seq = $1";
    let failed = StoreError::from_sqlx("take a link out of a message");
    let id = user.0.as_bytes().to_vec();
    let linked =
        on!(tx, c => sqlx::query_as::<_, (i64, String)>(LINKED).bind(id).fetch_all(&mut *c).await)
            .map_err(&failed)?;
    for (seq, body) in linked {
        let Some(body) = body::without_link(&body) else {
            continue;
        };
        on!(tx, c => sqlx::query(BARE).bind(seq).bind(body).execute(&mut *c).await.map(|_| ()))
            .map_err(&failed)?;
    }
    Ok(())
}
