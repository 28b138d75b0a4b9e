//! The objects of `--json`, with the fields and the order of the design, § 5.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Context;
use crate::model::{IdForm, Job, RealmId, User};
use crate::store::{RefusedRow, Store, StoreError};

/// How each realm's directory prints its ids.
pub(super) struct Forms(HashMap<RealmId, IdForm>);

impl Forms {
    /// As each realm's last pass found them.
    pub(super) async fn read(store: &Store) -> Result<Self, StoreError> {
        let realms = store.realms().await?;
        Ok(Self(
            realms
                .into_iter()
                .filter_map(|r| r.id_form.map(|form| (r.id, form)))
                .collect(),
        ))
    }

    pub(super) fn of(&self, realm: &RealmId) -> IdForm {
        self.0.get(realm).copied().unwrap_or(IdForm::Uuid)
    }
}

/// A user.
pub(super) fn user(user: &User, enrolment: &str, form: IdForm) -> Value {
    json!({
        "id": user.id,
        "realm": user.realm,
        "username": user.username,
        "display_name": user.display_name,
        "email": user.email,
        "phone": user.phone,
        "phone_raw": user.phone_raw,
        "phone_source": user.phone_source,
        "phone_pending": user.phone_pending,
        "phone_pending_until": user.phone_pending_until,
        "phone_provisioned": user.phone_provisioned,
        "directory_id": user.directory_id.map(|id| id.display(form)),
        "dn": user.dn,
        "state": user.state,
        "state_reason": user.state_reason,
        "suspended_at": user.suspended_at,
        "blocked": user.blocked,
        "version": user.version,
        "two_factor": user.two_factor,
        "enrolment": enrolment,
        "last_used_at": user.last_used_at,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
    })
}

/// Users with how their enrolments stand.
pub(super) async fn users(
    context: &Context,
    store: &Store,
    users: &[User],
) -> Result<Vec<Value>, StoreError> {
    let ids: Vec<_> = users.iter().map(|u| u.id).collect();
    let states = store.enrolment_state(&ids, context.clock.now()).await?;
    let forms = Forms::read(store).await?;
    Ok(users
        .iter()
        .zip(states)
        .map(|(u, state)| user(u, state, forms.of(&u.realm)))
        .collect())
}

/// Something refused.
pub(super) fn refused(row: &RefusedRow) -> Value {
    let r = &row.refusal;
    json!({
        "realm": row.realm,
        "dn": r.dn,
        "username": r.username,
        "attribute": r.attribute,
        "raw": r.raw,
        "reason": r.reason,
        "since": row.since,
    })
}

/// A message.
pub(super) fn job(job: &Job) -> Value {
    json!({
        "job": job.id,
        "type": job.r#type,
        "realm": job.realm,
        "user": job.user,
        "username": job.username,
        "state": job.state,
        "attempts": job.attempts,
        "next_attempt_at": job.next_attempt_at,
        "last_error": job.last_error,
        "run": job.run,
    })
}
