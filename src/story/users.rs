//! Users as programs see them, with the fields and the order of the design, § 5.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::model::{Field, IdForm, PhoneSource, RealmId, User};
use crate::store::{Store, StoreError};

/// How each realm's directory prints its ids.
#[derive(Debug)]
pub struct Forms(HashMap<RealmId, IdForm>);

impl Forms {
    /// As each realm's last pass found them.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        let realms = store.realms().await?;
        Ok(Self(
            realms
                .into_iter()
                .filter_map(|r| r.id_form.map(|form| (r.id, form)))
                .collect(),
        ))
    }

    /// One realm's.
    pub fn of(&self, realm: &RealmId) -> IdForm {
        self.0.get(realm).copied().unwrap_or(IdForm::Uuid)
    }
}

/// A user.
fn object(user: &User, enrolment: &str, form: IdForm) -> Value {
    let mut all = json!({ "id": user.id });
    let last = [Field::Origin, Field::Note];
    for field in Field::ALL.iter().filter(|field| !last.contains(field)) {
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
    for field in last {
        all[field.as_str()] = field.get(user, form);
    }
    all
}

/// Users with how their enrolments stand, in the order given.
pub async fn objects(
    store: &Store,
    users: &[User],
    now: Timestamp,
) -> Result<Vec<Value>, StoreError> {
    let ids: Vec<_> = users.iter().map(|u| u.id).collect();
    let states = store.enrolment_state(&ids, now).await?;
    let forms = Forms::read(store).await?;
    let overrides = store.overrides(&ids).await?;
    Ok(users
        .iter()
        .zip(states)
        .map(|(user, state)| {
            let mut all = object(user, state, forms.of(&user.realm));
            // One that the directory has replaced since is none any more.
            let by_hand = user.phone_source != Some(PhoneSource::Directory)
                || user.phone_pending_source.is_some();
            if let Some(number) = overrides.get(&user.id).filter(|_| by_hand) {
                all["phone_override"] = json!(number);
            }
            all
        })
        .collect())
}
