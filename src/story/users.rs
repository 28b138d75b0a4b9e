//! Users as programs see them, with the fields and the order of the design, § 5.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::model::{EnrolmentFilter, FactorFacts, Field, IdForm, PhoneSource, RealmId, User};
use crate::plan::notices;
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

/// A user, and what is known of their factors.
fn object(user: &User, facts: &FactorFacts, form: IdForm) -> Value {
    let mut all = json!({ "id": user.id });
    let last = [Field::Origin, Field::Note];
    // Who gave a number that waits is told by its story.
    let untold = [Field::Origin, Field::Note, Field::PhonePendingSource];
    for field in Field::ALL.iter().filter(|field| !untold.contains(field)) {
        all[field.as_str()] = field.get(user, form);
        // Between what a run may change.
        if *field == Field::Blocked {
            all["version"] = json!(user.version);
        }
    }
    all["enrolment"] = json!(enrolment_word(facts.enrolment));
    all["last_used_at"] = json!(user.last_used_at.max(facts.last_used_at));
    all["created_at"] = json!(user.created_at);
    all["updated_at"] = json!(user.updated_at);
    for field in last {
        all[field.as_str()] = field.get(user, form);
    }
    all["status"] = json!(notices::status(user, facts));
    all["notices"] = json!(notices::notices(user, facts));
    all["authenticators"] = json!(facts.authenticators);
    all
}

/// The word of the user's JSON (design, § 5); filters say `open` of what was sent.
fn enrolment_word(standing: EnrolmentFilter) -> &'static str {
    match standing {
        EnrolmentFilter::Open => "sent",
        other => other.as_str(),
    }
}

/// Users with what is known of their factors, in the order given. Read for all of them at once.
pub async fn objects(
    store: &Store,
    users: &[User],
    now: Timestamp,
) -> Result<Vec<Value>, StoreError> {
    let ids: Vec<_> = users.iter().map(|u| u.id).collect();
    let known = store.factor_facts(users, now).await?;
    let none = FactorFacts::default();
    let forms = Forms::read(store).await?;
    let overrides = store.overrides(&ids).await?;
    Ok(users
        .iter()
        .map(|user| {
            let facts = known.get(&user.id).unwrap_or(&none);
            let mut all = object(user, facts, forms.of(&user.realm));
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
