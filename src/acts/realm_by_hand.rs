//! `realms create`, `edit`, `remove`: realms that are in no file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::user_by_hand::{each, field, methods};
use crate::clock::zones::{SYSTEM, Zones};
use crate::model::words::count;
use crate::model::{
    AuditAct, AuditEntry, Edit, JobReason, RealmId, RealmKind, RealmRow, TwoFactor,
};
use crate::normalise::{typed_region, typed_text};
use crate::plan::decide::remove;
use crate::store::StoreError;
use crate::sync::HandAuthor;

/// The longest category, in characters.
const LONGEST_CATEGORY: usize = 64;
/// The longest name of a realm, in characters.
const LONGEST_NAME: usize = 256;
/// The longest id of a realm, in characters, as in the file.
const LONGEST_ID: usize = 100;
/// Users who are removed between two looks.
const BATCH: i64 = 500;
/// How often an edit is decided anew where somebody changes the same realm at the same time.
const TRIES: usize = 5;

/// What an administrator says of a realm.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RealmRequest {
    /// What people call it; its id, if nobody says.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub name: Edit<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub category: Edit<String>,
    /// The country of national numbers: its code or its name.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub region: Edit<String>,
    /// IANA name.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub time_zone: Edit<String>,
    /// Methods of new users; `None`: they stay.
    pub two_factor: Option<Vec<TwoFactor>>,
}

impl RealmRequest {
    /// The realm as this would leave it.
    fn over(&self, mut row: RealmRow) -> Result<RealmRow, ActFailure> {
        let name = each("name", &self.name, |t| typed_text(t, LONGEST_NAME))?;
        row.name = match name {
            Edit::Keep => row.name,
            Edit::Clear => row.id.to_string(),
            Edit::Set(name) => name,
        };
        let settings = &mut row.settings;
        settings.category = each("category", &self.category, |t| {
            typed_text(t, LONGEST_CATEGORY)
        })?
        .over(settings.category.take());
        settings.region = each("region", &self.region, |t| {
            typed_region(t)
                .ok_or_else(|| format!("`{}` is no country: write its code, as SK", t.trim()))
        })?
        .over(settings.region.take());
        settings.time_zone = each("time zone", &self.time_zone, |t| {
            Zones::newest(Path::new(SYSTEM))
                .get(t.trim())
                .map(|_| t.trim().to_owned())
                .ok_or_else(|| {
                    format!(
                        "`{}` is no time zone: write its name, as Europe/Bratislava",
                        t.trim()
                    )
                })
        })?
        .over(settings.time_zone.take());
        if let Some(typed) = &self.two_factor {
            settings.two_factor = methods(typed.clone());
        }
        Ok(row)
    }
}

/// `POST /api/v1/realms`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MakeRealmRequest {
    /// Letters, digits, `.`, `-`, `_`, `@`.
    pub id: RealmId,
    /// The rest.
    #[serde(flatten)]
    pub settings: RealmRequest,
}

/// Makes a custom realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MakeRealm {
    /// Which.
    pub request: MakeRealmRequest,
}

/// Changes a custom or automatic realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EditRealm {
    /// Which.
    pub realm: RealmId,
    /// What.
    pub request: RealmRequest,
}

/// `POST /api/v1/realms/{realm}/remove`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoveRealmRequest {
    /// Together with everybody in it.
    pub with_users: bool,
}

/// Removes a realm that is in no file: a custom or automatic one, or an orphaned one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoveRealm {
    /// Which.
    pub realm: RealmId,
    /// How.
    pub request: RemoveRealmRequest,
}

/// What came of the removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RealmRemoved {
    /// Users who were removed with it, also by an earlier try that came to no end.
    pub users: i64,
}

impl Act for MakeRealm {
    type Output = ();

    async fn act(self, at: &ActContext) -> Result<(), ActFailure> {
        let MakeRealmRequest { id, settings } = self.request;
        field("id", typed_id(id.as_str()))?;
        let folded = id.as_str().to_lowercase();
        let in_file = at.config().realms.iter().map(|r| &r.id);
        if let Some(other) = in_file
            .into_iter()
            .find(|other| other.as_str().to_lowercase() == folded)
        {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "the configuration has a realm `{other}` already: ids are unique, also without their case"
                ),
            ));
        }
        let named = |realm: &&crate::config::RealmConfig| {
            realm
                .aliases
                .iter()
                .any(|alias| alias.to_lowercase() == folded)
        };
        if let Some(other) = at.config().realms.iter().find(named) {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "this is an alias of realm `{}` (`aliases`), so a service that says it could mean either; take another id",
                    other.id
                ),
            ));
        }
        let blank = RealmRow {
            kind: RealmKind::Custom,
            ..RealmRow::new(id.clone(), id.as_str())
        };
        let row = settings.over(blank)?;
        let entry = entry(at, AuditAct::RealmCreate, &id, Map::new(), shown(&row));
        let key = at.engine.audit_key().await?;
        at.store().make_realm(&row, (&entry, &key)).await?;
        log(at, &id, "made");
        Ok(())
    }
}

impl Act for EditRealm {
    type Output = ();

    async fn act(self, at: &ActContext) -> Result<(), ActFailure> {
        let Self { realm, request } = self;
        for _ in 0..TRIES {
            let held = by_hand(at, &realm).await?;
            let row = request.over(held.clone())?;
            let (mut before, mut after) = (shown(&held), shown(&row));
            let same: Vec<String> = before
                .iter()
                .filter(|(key, value)| after.get(*key) == Some(*value))
                .map(|(key, _)| key.clone())
                .collect();
            for key in same {
                before.remove(&key);
                after.remove(&key);
            }
            if after.is_empty() {
                return Ok(());
            }
            let entry = entry(at, AuditAct::RealmEdit, &realm, before, after);
            let key = at.engine.audit_key().await?;
            match at.store().edit_realm(&held, &row, (&entry, &key)).await {
                Ok(()) => {
                    log(at, &realm, "changed");
                    return Ok(());
                }
                // Somebody else changed it a moment ago: what they said of other fields stays.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ActFailure::new(
            FailureKind::Outdated,
            "somebody else changes the same realm again and again: nothing was done; try again",
        ))
    }
}

impl Act for RemoveRealm {
    type Output = RealmRemoved;

    async fn act(self, at: &ActContext) -> Result<RealmRemoved, ActFailure> {
        let Self { realm, request } = self;
        let held = removable(at, &realm).await?;
        let left = at.store().not_removed(&realm).await?;
        if left > 0 && !request.with_users {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!(
                    "realm `{realm}` still has {}: `--with-users` removes them with it, and the receiver is told to forget them",
                    count(left, "user")
                ),
            ));
        }
        // A file's plan waits beside those of passes. Whoever is in it would come into the next realm of this name.
        let beside = at.store().held_beside().await?.into_iter();
        let mut beside = beside.filter(|(of, _)| *of == realm).map(|(_, run)| run);
        if let Some(plan) = held.held.or_else(|| beside.next()) {
            return Err(ActFailure::new(
                FailureKind::Refused,
                format!("plan {plan:#} of realm `{realm}` waits for a decision: `reject` it first"),
            ));
        }
        // An orphaned realm stays what it is until nobody is left in it: nothing is sent before, and the file may still have it back.
        let users = loop {
            let rules = at.engine.rules_of_removal(&realm).await?;
            let some = at.store().some_left(&realm, BATCH).await?;
            for user in &some {
                let context = rules.context(rules.messages.now, user.id);
                let Some(decision) = remove(user, JobReason::Removed, &context) else {
                    continue;
                };
                let author = HandAuthor {
                    by: at.by(),
                    from: at.caller.door.as_str(),
                    act: AuditAct::RealmRemove,
                };
                match at
                    .engine
                    .write_by_hand(&rules, author, decision, Edit::Keep)
                    .await
                {
                    // Or changed a moment ago, and taken with the next look.
                    Ok(_) | Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if some.is_empty() {
                let users = at.store().removed_with(&realm).await?;
                let mut after = Map::new();
                after.insert("users".to_owned(), json!(users));
                let entry = entry(at, AuditAct::RealmRemove, &realm, shown(&held), after);
                let now = at.now();
                if at
                    .store()
                    .remove_realm(&realm, now, (&entry, &rules.key))
                    .await?
                {
                    break users;
                }
            }
        };
        log(at, &realm, "removed");
        Ok(RealmRemoved { users })
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

/// A realm that an administrator may change: it is in no file.
async fn by_hand(at: &ActContext, realm: &RealmId) -> Result<RealmRow, ActFailure> {
    let row = removable(at, realm).await?;
    if row.kind == RealmKind::Directory {
        return Err(ActFailure::new(
            FailureKind::Refused,
            format!("realm `{realm}` was filled from a directory: what it is stands in the file"),
        ));
    }
    Ok(row)
}

/// A realm that is in no file, or in none any more.
async fn removable(at: &ActContext, realm: &RealmId) -> Result<RealmRow, ActFailure> {
    let in_a_file = |which: &str| {
        let why = format!(
            "realm `{realm}` is in {which}: change it there; taken out of the file it is orphaned, and can be removed then"
        );
        ActFailure::new(FailureKind::Refused, why)
    };
    if at.engine.configured(realm).is_some() {
        return Err(in_a_file(&at.config().path.display().to_string()));
    }
    match at.store().realm(realm).await? {
        None => Err(ActFailure::new(
            FailureKind::NotFound,
            format!("there is no realm `{realm}`: `realmsync realms list` shows them"),
        )),
        Some(row) if row.kind == RealmKind::Directory && !row.orphaned => {
            Err(in_a_file("another daemon's file"))
        }
        Some(row) => Ok(row),
    }
}

/// An id as in the file.
pub(super) fn typed_id(id: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    if id.starts_with(char::is_alphanumeric)
        && id.chars().all(good)
        && id.chars().count() <= LONGEST_ID
    {
        Ok(())
    } else {
        Err(format!(
            "letters, digits, `.`, `-`, `_` and `@`, at most {LONGEST_ID}, and a letter or digit first; the name may be anything"
        ))
    }
}

/// What the audit shows of a realm.
fn shown(row: &RealmRow) -> Map<String, Value> {
    let settings = &row.settings;
    let fields = [
        ("name", json!(row.name)),
        ("category", json!(settings.category)),
        ("region", json!(settings.region)),
        ("time_zone", json!(settings.time_zone)),
        ("two_factor", json!(settings.two_factor)),
    ];
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn entry(
    at: &ActContext,
    act: AuditAct,
    realm: &RealmId,
    before: Map<String, Value>,
    after: Map<String, Value>,
) -> AuditEntry {
    AuditEntry {
        at: at.now(),
        by: at.caller.name.clone(),
        from: at.caller.door.as_str().to_owned(),
        act,
        realm: Some(realm.clone()),
        user: None,
        username: None,
        run: None,
        before,
        after,
    }
}

fn log(at: &ActContext, realm: &RealmId, what: &str) {
    tracing::info!(%realm, by = at.by(), from = at.caller.door.as_str(), "{realm}: {what}");
}
