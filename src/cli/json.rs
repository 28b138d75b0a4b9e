//! The objects of `--json`, with the fields and the order of the design, § 5.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Context;
use crate::model::{Field, IdForm, Job, RealmId, User};
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
    let mut all = json!({ "id": user.id });
    for field in Field::ALL {
        all[field.as_str()] = field.get(user, form);
        // Between what a run may change.
        if *field == Field::Blocked {
            all["version"] = json!(user.version);
        }
    }
    all["enrolment"] = json!(enrolment);
    all["last_used_at"] = json!(user.last_used_at);
    all["created_at"] = json!(user.created_at);
    all["updated_at"] = json!(user.updated_at);
    all
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
