//! What users are told of their factors.

use super::by_hand::{act, by_hand, ready};
use super::*;
use crate::model::{AuditAct, JobReason};

/// A realm that is in no file for days sends nothing: what was noted meanwhile is tried as long as any other message, and says when it
/// happened.
pub(super) async fn a_notice_that_waited_is_tried_for_as_long_as_any_other(f: &Fixture) {
    ready(f).await;
    let user = by_hand("told", 61);
    act(f, &user, 0, AuditAct::UserAdd).await.unwrap();
    let mut tx = f.store.db.begin().await.unwrap();
    crate::store::notices::note(&mut tx, user.id, JobReason::ApplicationLost, START)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let now = START.plus_ms(10 * DAY_MS);
    let messages = MessageContext { now, ..f.ctx() };
    let notices = f.store.notices_to_tell(0).await.unwrap();
    let notice = notices.iter().find(|notice| notice.user == user.id);
    assert!(
        f.store
            .tell_notice(notice.unwrap(), &messages)
            .await
            .unwrap()
    );
    let jobs = f.jobs().await;
    let job = jobs.iter().find(|job| job.user == user.id).unwrap();
    assert_eq!(job.created_at, START);
    assert_eq!(job.give_up_at, now.plus_ms(messages.retry_for_ms));
    // It has its turn at once, behind nobody.
    assert!(job.next_attempt_at <= now);
}
