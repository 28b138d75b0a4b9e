//! `users add`, `edit`, `block`, `unblock`, `remove`, `restore`, `adopt`: what administrators do to one user.

use serde::{Deserialize, Serialize};

use super::act::{Act, AfterAct};
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::clock::Timestamp;
use crate::model::{
    AuditAct, AuditEntry, Edit, PhoneSource, RealmId, TwoFactor, User, UserId, UserName, UserOrigin,
};
use crate::normalise::{typed_email, typed_name, typed_note, typed_number, typed_text};
use crate::plan::by_hand::{self, HandRefusal, NewUser, TypedPhone, UserEdit};
use crate::plan::decide::Decision;
use crate::store::StoreError;
use crate::sync::{HandAuthor, HandRules, as_it_is};

/// The longest display name, in characters.
const LONGEST_TEXT: usize = 256;

/// How often an act is decided anew where somebody changes the same user at the same time.
pub(super) const TRIES: usize = 5;

/// Something unusual that was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserWarning {
    /// A word for programs.
    pub code: String,
    /// What is unusual, and what to see to.
    pub detail: String,
}

/// What came of an act on one user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserActed {
    /// Whom.
    pub user: UserId,
    /// The version afterwards.
    pub version: i64,
    /// Whether anything was changed: everything may have been so already.
    pub changed: bool,
    /// What is unusual.
    pub warnings: Vec<UserWarning>,
    /// A method of the application was turned on, and the user can be sent it now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sendable: bool,
}

/// `POST /api/v1/realms/{realm}/users`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddUserRequest {
    /// The name to log on with.
    pub username: String,
    /// The name for people.
    pub display_name: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// The number, in any form.
    pub phone: Option<String>,
    /// Words that are never sent anywhere.
    pub note: Option<String>,
    /// The methods; `None`: those of the realm.
    pub two_factor: Option<Vec<TwoFactor>>,
}

/// `POST /api/v1/users/{user}/edit`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EditUserRequest {
    /// The version that whoever asks has seen; `None`: whatever there is.
    pub version: Option<i64>,
    /// Another name; `None`: it stays.
    pub username: Option<String>,
    /// The name for people.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub display_name: Edit<String>,
    /// The address.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub email: Edit<String>,
    /// The number, in any form.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub phone: Edit<String>,
    /// Until when the number stands in place of the directory's. A number that is set without it stands without end.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub phone_until: Edit<Timestamp>,
    /// Words that are never sent anywhere.
    #[serde(skip_serializing_if = "Edit::keeps")]
    pub note: Edit<String>,
    /// The methods; `None`: they stay.
    pub two_factor: Option<Vec<TwoFactor>>,
}

/// What is done to a user besides editing: `POST /api/v1/users/{user}/{verb}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the commands of the same names")]
pub enum UserVerb {
    Block,
    Unblock,
    Remove,
    Restore,
    Adopt,
}

impl UserVerb {
    /// The word in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Remove => "remove",
            Self::Restore => "restore",
            Self::Adopt => "adopt",
        }
    }

    fn audited(self) -> AuditAct {
        match self {
            Self::Block => AuditAct::UserBlock,
            Self::Unblock => AuditAct::UserUnblock,
            Self::Remove => AuditAct::UserRemove,
            Self::Restore => AuditAct::UserRestore,
            Self::Adopt => AuditAct::UserAdopt,
        }
    }
}

/// How it is done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserVerbRequest {
    /// The version that whoever asks has seen; `None`: whatever there is.
    pub version: Option<i64>,
    /// For `remove`: at once, without the grace.
    pub now: bool,
}

/// Makes a user who is of no directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddUser {
    /// In this realm, of any kind.
    pub realm: RealmId,
    /// Who.
    pub request: AddUserRequest,
}

/// Changes a user's fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EditUser {
    /// Whose.
    pub user: UserId,
    /// What.
    pub request: EditUserRequest,
}

/// Blocks or unblocks a user, removes one or takes that back, or gives one the directory's entry of the name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeUser {
    /// Whom.
    pub user: UserId,
    /// What.
    pub verb: UserVerb,
    /// How.
    pub request: UserVerbRequest,
}

impl Act for AddUser {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let Self { realm, request } = self;
        at.known(&realm).await?;
        for _ in 0..TRIES {
            let rules = at.engine.hand_rules(&realm).await?;
            let mut warnings = vec![];
            let new = NewUser {
                name: field("user name", typed_name(&request.username))?,
                display_name: text("display name", request.display_name.as_deref())?,
                email: optional("e-mail address", request.email.as_deref(), typed_email)?,
                phone: optional("phone", request.phone.as_deref(), |typed| {
                    phone(typed, &rules, &mut warnings)
                })?,
                note: optional("note", request.note.as_deref(), typed_note)?,
                two_factor: request.two_factor.clone().map(methods),
                origin: UserOrigin::Manual,
            };
            free(at, &realm, &new.name, None).await?;
            let id = at.engine.new_user_id();
            let decision = by_hand::add(new, &rules.context(rules.messages.now, id));
            match write(at, &rules, AuditAct::UserAdd, decision, Edit::Keep).await {
                Ok(user) => return Ok(acted(&user, true, warnings)),
                // Somebody else took the name a moment ago: who has it is told.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(again())
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

impl Act for EditUser {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let Self { user, request } = self;
        for _ in 0..TRIES {
            let held = held(at, user, request.version).await?;
            at.known(&held.realm).await?;
            let rules = at.engine.hand_rules(&held.realm).await?;
            let mut warnings = vec![];
            let name = request.username.as_deref().map(typed_name).transpose();
            let edit = UserEdit {
                name: field("user name", name)?,
                display_name: each("display name", &request.display_name, |typed| {
                    typed_text(typed, LONGEST_TEXT)
                })?,
                email: each("e-mail address", &request.email, typed_email)?,
                phone: each("phone", &request.phone, |typed| {
                    phone(typed, &rules, &mut warnings)
                })?,
                note: each("note", &request.note, typed_note)?,
                two_factor: request.two_factor.clone().map(methods),
                returns: false,
            };
            if let Some(name) = &edit.name
                && name.key != held.username_key
            {
                free(at, &held.realm, name, Some(&held)).await?;
            }
            let mut context = rules.context(rules.messages.now, held.id);
            context.number.frozen = at.store().freeze_of(user).await?.is_some();
            let decided = by_hand::edit(&held, edit, &context)
                .map_err(|refusal| refused(at, &held, refusal))?;
            let until = until(&held, &request, rules.messages.now)?;
            let decision = match decided {
                Some(decision) => decision,
                // The number is the same, and stands until another time from now on.
                None if other_end(at, &held, until).await? => as_it_is(&held, rules.messages.now),
                None => return Ok(acted(&held, false, warnings)),
            };
            match write(at, &rules, AuditAct::UserEdit, decision, until).await {
                Ok(user) => return Ok(acted(&user, true, warnings)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(again())
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

impl Act for ChangeUser {
    type Output = UserActed;

    async fn act(self, at: &ActContext) -> Result<UserActed, ActFailure> {
        let Self {
            user,
            verb,
            request,
        } = self;
        for _ in 0..TRIES {
            let held = held(at, user, request.version).await?;
            at.known(&held.realm).await?;
            let rules = at.engine.hand_rules(&held.realm).await?;
            let context = rules.context(rules.messages.now, held.id);
            let decided = match verb {
                UserVerb::Block => by_hand::block(&held, true, &context),
                UserVerb::Unblock => by_hand::block(&held, false, &context),
                UserVerb::Remove => by_hand::remove(&held, request.now, &context),
                UserVerb::Restore => by_hand::restore(&held, &context),
                UserVerb::Adopt => by_hand::may_adopt(&held).map(|()| None),
            }
            .map_err(|refusal| refused(at, &held, refusal))?;
            if verb == UserVerb::Restore && decided.is_some() {
                let name = UserName {
                    shown: held.username.clone(),
                    key: held.username_key.clone(),
                };
                free(at, &held.realm, &name, Some(&held)).await?;
            }
            let done = match decided {
                Some(decision) => write(at, &rules, verb.audited(), decision, Edit::Keep)
                    .await
                    .map(|user| acted(&user, true, vec![])),
                None if verb == UserVerb::Adopt => adopt(at, &rules, &held).await?,
                None => Ok(acted(&held, false, vec![])),
            };
            match done {
                Err(StoreError::Conflict(_)) => {}
                done => return Ok(done?),
            }
        }
        Err(again())
    }

    fn then(&self) -> AfterAct {
        AfterAct::Send
    }
}

/// Marks a user of no directory: the next pass gives them the entry of their name.
async fn adopt(
    at: &ActContext,
    rules: &HandRules,
    held: &User,
) -> Result<Result<UserActed, StoreError>, ActFailure> {
    if at.engine.configured(&held.realm).is_none() {
        return Err(ActFailure::new(
            FailureKind::Refused,
            format!(
                "realm `{}` has no directory: there is no entry to give",
                held.realm
            ),
        ));
    }
    let entry = AuditEntry {
        at: rules.messages.now,
        by: at.caller.name.clone(),
        from: at.caller.door.as_str().to_owned(),
        act: AuditAct::UserAdopt,
        realm: Some(held.realm.clone()),
        user: Some(held.id),
        username: Some(held.username.clone()),
        run: None,
        before: serde_json::Map::new(),
        after: serde_json::Map::new(),
    };
    let marked = at
        .store()
        .mark_adoption(held, at.by(), entry.at, (&entry, &rules.key))
        .await;
    Ok(marked.map(|()| acted(held, true, vec![])))
}

pub(super) async fn write(
    at: &ActContext,
    rules: &HandRules,
    act: AuditAct,
    decision: Decision,
    until: Edit<Option<Timestamp>>,
) -> Result<User, StoreError> {
    let author = author(at, act);
    let user = at
        .engine
        .write_by_hand(rules, author, decision, until)
        .await?;
    tracing::info!(
        realm = %user.realm, user = %user.id, by = at.by(), from = at.caller.door.as_str(),
        "{}: {act} {:#}", user.realm, user.id
    );
    Ok(user)
}

/// Who asks, for what is written.
pub(super) fn author(at: &ActContext, act: AuditAct) -> HandAuthor<'_> {
    HandAuthor {
        by: at.by(),
        from: at.caller.door.as_str(),
        act,
    }
}

pub(super) fn acted(user: &User, changed: bool, warnings: Vec<UserWarning>) -> UserActed {
    UserActed {
        user: user.id,
        version: user.version,
        changed,
        warnings,
        sendable: false,
    }
}

/// The user, in the version that whoever asks has seen.
pub(super) async fn held(
    at: &ActContext,
    user: UserId,
    version: Option<i64>,
) -> Result<User, ActFailure> {
    let held = at.store().users_by_id(&[user]).await?.pop();
    let held = held.ok_or_else(|| {
        ActFailure::new(FailureKind::NotFound, format!("there is no user {user}"))
    })?;
    match version {
        Some(seen) if seen != held.version => Err(ActFailure::new(
            FailureKind::Outdated,
            format!(
                "the user has version {} by now, and not {seen}: look at what changed (`realmsync users show {:#}`), then ask again",
                held.version, held.id
            ),
        )),
        _ => Ok(held),
    }
}

/// Whether a number by hand stands in place of a directory's, and until when.
fn until(
    held: &User,
    request: &EditUserRequest,
    now: Timestamp,
) -> Result<Edit<Option<Timestamp>>, ActFailure> {
    let unfit = |why: &str| {
        Err(ActFailure::new(
            FailureKind::Unfit,
            format!("the number's end: {why}; nothing is saved"),
        ))
    };
    let by_hand = held.of_a_directory() && held.phone_source == Some(PhoneSource::Manual);
    match (request.phone_until, &request.phone) {
        (Edit::Set(_), _) if !held.of_a_directory() => {
            unfit("the user is of no directory, and nobody else gives a number then")
        }
        (Edit::Set(_), phone) if !matches!(phone, Edit::Set(_)) => unfit("give the number too"),
        (Edit::Set(until), _) if until <= now => unfit("it is over already"),
        (Edit::Set(until), _) => Ok(Edit::Set(Some(until))),
        (_, Edit::Set(_)) if held.of_a_directory() => Ok(Edit::Set(None)),
        (Edit::Clear, Edit::Keep) if by_hand => Ok(Edit::Set(None)),
        (Edit::Clear | Edit::Keep, Edit::Keep) => Ok(Edit::Keep),
        (_, Edit::Set(_) | Edit::Clear) => Ok(Edit::Clear),
    }
}

/// Whether the number in use stands until another time than it did.
async fn other_end(
    at: &ActContext,
    held: &User,
    until: Edit<Option<Timestamp>>,
) -> Result<bool, ActFailure> {
    let Edit::Set(until) = until else {
        return Ok(false);
    };
    let there = at.store().overrides(&[held.id]).await?;
    Ok(there
        .get(&held.id)
        .is_none_or(|number| number.until != until))
}

/// Sees that nobody else has a name.
async fn free(
    at: &ActContext,
    realm: &RealmId,
    name: &UserName,
    own: Option<&User>,
) -> Result<(), ActFailure> {
    let keys = std::slice::from_ref(&name.key);
    let holders = at.store().name_holders(realm, keys).await?;
    let other = holders
        .into_iter()
        .find(|holder| own.is_none_or(|own| own.id != holder.user));
    match other {
        None => Ok(()),
        Some(holder) => Err(ActFailure::new(
            FailureKind::Refused,
            format!(
                "the name `{}` is taken in realm `{realm}` by {}: names are unique, also without their case; nothing is saved",
                name.shown,
                holder
                    .dn
                    .unwrap_or_else(|| format!("a user made by hand ({:#})", holder.user))
            ),
        )),
    }
}

/// Why something is not done.
pub(super) fn refused(at: &ActContext, held: &User, refusal: HandRefusal) -> ActFailure {
    ActFailure::new(FailureKind::Refused, at.engine.why_not(held, refusal))
}

/// A number as an administrator types it.
fn phone(
    typed: &str,
    rules: &HandRules,
    warnings: &mut Vec<UserWarning>,
) -> Result<TypedPhone, String> {
    let (phone, unusual) = typed_number(typed, rules.region.as_deref())?;
    warnings.extend(unusual.map(|detail| UserWarning {
        code: "phone_unusual".to_owned(),
        detail,
    }));
    Ok(TypedPhone {
        phone,
        raw: typed.trim().to_owned(),
        source: PhoneSource::Manual,
    })
}

/// Methods in their order, each once.
pub(super) fn methods(mut typed: Vec<TwoFactor>) -> Vec<TwoFactor> {
    typed.sort_unstable();
    typed.dedup();
    typed
}

/// A value of a field, or what is wrong with it.
pub(super) fn field<T>(what: &str, read: Result<T, String>) -> Result<T, ActFailure> {
    read.map_err(|why| {
        ActFailure::new(
            FailureKind::Unfit,
            format!("{what}: {why}; nothing is saved"),
        )
    })
}

/// A text for people that may be left out.
pub(super) fn text(what: &str, typed: Option<&str>) -> Result<Option<String>, ActFailure> {
    optional(what, typed, |typed| typed_text(typed, LONGEST_TEXT))
}

/// A value that may be left out; a blank one is left out too.
pub(super) fn optional<T>(
    what: &str,
    typed: Option<&str>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, ActFailure> {
    let typed = typed.filter(|typed| !typed.trim().is_empty());
    field(what, typed.map(read).transpose())
}

/// What is to become of a field.
pub(super) fn each<T>(
    what: &str,
    typed: &Edit<String>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Edit<T>, ActFailure> {
    field(what, typed.clone().try_map(|typed| read(&typed)))
}

pub(super) fn again() -> ActFailure {
    ActFailure::new(
        FailureKind::Outdated,
        "somebody else changes the same user again and again: nothing was done; try again",
    )
}
